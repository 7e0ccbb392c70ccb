// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "constrain/compile.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>

#include "base/printable.h"
#include "constrain/grammar_constraint.h"
#include "constrain/product_constraint.h"
#include "constrain/schema_constraint.h"

namespace decant {
namespace {

using Kind = ConstraintSpec::Kind;
constexpr int kMaxDepth = 32;
constexpr size_t kMaxParts = 64;

using Vocabulary = std::shared_ptr<const JsonVocabulary>;

Status check(const ConstraintSpec& spec, int depth, size_t* parts) {
  if (depth > kMaxDepth || ++*parts > kMaxParts) {
    return Status::unsupported("more than {} constraints in one, or nested deeper than {}", kMaxParts, kMaxDepth);
  }
  if (spec.kind == Kind::kAll && spec.parts.empty())
    return Status::invalid_argument("no constraint among those that have to hold together");
  if (spec.kind == Kind::kNot && spec.parts.size() != 1)
    return Status::invalid_argument("a constraint is negated alone, not {} of them", spec.parts.size());
  for (const ConstraintSpec& part : spec.parts) DECANT_TRY_STATUS(check(part, depth + 1, parts));
  return {};
}

// Whether all leaves are of kinds that `is_leaf` takes.
bool consists_of(const ConstraintSpec& spec, const std::function<bool(Kind)>& is_leaf) {
  if (spec.kind != Kind::kAll && spec.kind != Kind::kNot) return is_leaf(spec.kind);
  return std::all_of(spec.parts.begin(), spec.parts.end(),
                     [&](const ConstraintSpec& part) { return consists_of(part, is_leaf); });
}
bool is_regular(const ConstraintSpec& spec) {
  return consists_of(spec, [](Kind k) { return k == Kind::kPattern || k == Kind::kChoice; });
}
bool is_schema(const ConstraintSpec& spec) {
  return consists_of(spec, [](Kind k) { return k == Kind::kJsonSchema; });
}

std::string name_of(const ConstraintSpec& spec) {
  if (spec.parts.empty()) return spec.name;
  std::string name;
  for (const ConstraintSpec& part : spec.parts) name += (name.empty() ? "" : " and ") + name_of(part);
  return spec.kind == Kind::kNot ? "not " + name : name;
}

Result<RegexId> regular(const ConstraintSpec& spec, RegexPool* pool) {
  switch (spec.kind) {
    case Kind::kPattern: {
      Result<RegexId> id = parse_regex(spec.text, RegexDialect::kFull, pool);
      if (!id.ok()) return std::move(id).status().with_context(spec.name);
      return id;
    }
    case Kind::kChoice: return choice_of(spec.choices, spec.name, pool);
    case Kind::kNot: {
      DECANT_TRY(const RegexId id, regular(spec.parts[0], pool));
      return pool->negate(id);
    }
    default: break;
  }
  std::vector<RegexId> parts;
  for (const ConstraintSpec& part : spec.parts) {
    DECANT_TRY(const RegexId id, regular(part, pool));
    parts.push_back(id);
  }
  return pool->conj(std::move(parts));
}

Result<std::shared_ptr<Constraint>> compile_regular(const ConstraintSpec& spec, Vocabulary vocabulary) {
  const std::string name = name_of(spec);
  Grammar grammar(name);
  DECANT_TRY(const RegexId id, regular(spec, &grammar.pool()));
  return constrain_to(id, std::move(grammar), std::move(vocabulary));
}

// Schemas are referred to by address, so that each keeps its own root, dialect and definitions.
nlohmann::json schema_of(const ConstraintSpec& spec, std::map<std::string, const ConstraintSpec*>* documents) {
  if (spec.kind == Kind::kJsonSchema) {
    const std::string address = fmt::format("decant:constraint/{}/", documents->size() + 1);
    documents->emplace(address, &spec);
    return {{"$ref", address}};
  }
  if (spec.kind == Kind::kNot) return {{"not", schema_of(spec.parts[0], documents)}};
  nlohmann::json all = nlohmann::json::array();
  for (const ConstraintSpec& part : spec.parts) all.push_back(schema_of(part, documents));
  return {{"allOf", std::move(all)}};
}

Result<std::shared_ptr<Constraint>> compile_schema(const ConstraintSpec& spec, Vocabulary vocabulary) {
  if (spec.kind == Kind::kJsonSchema) return compile_json_schema(spec.text, spec.name, spec.schema, vocabulary);
  std::map<std::string, const ConstraintSpec*> documents;
  const std::string text = schema_of(spec, &documents).dump();
  SchemaOptions options;
  for (const auto& [address, part] : documents) {
    options.lenient |= part->schema.lenient;
    if (part->schema.assert_formats != documents.begin()->second->schema.assert_formats ||
        part->schema.property_order != documents.begin()->second->schema.property_order) {
      return Status::invalid_argument("{}: schemas that hold together agree on formats and the order of properties",
                                      name_of(spec));
    }
    options.assert_formats = part->schema.assert_formats;
    options.property_order = part->schema.property_order;
  }
  options.resolver = [&documents](const std::string& address) -> Result<std::string> {
    const auto it = documents.find(address);
    if (it != documents.end()) return it->second->text;
    Status missing = Status::not_found("\"{}\" is another document, and no folder or resolver is there to find it in",
                                       printable(address));
    for (const auto& [own, part] : documents) {
      if (!part->schema.resolver) continue;
      // A relative reference of one is none of the others.
      const bool is_relative = address.starts_with(own);
      if (!is_relative && address.starts_with("decant:constraint/")) continue;
      Result<std::string> found = part->schema.resolver(is_relative ? address.substr(own.size()) : address);
      if (found.ok()) return found;
      missing = std::move(found).status();
    }
    return missing;
  };
  return compile_json_schema(text, name_of(spec), options, std::move(vocabulary));
}

Result<std::shared_ptr<Constraint>> compile_one(const ConstraintSpec& spec, const Vocabulary& vocabulary) {
  if (is_regular(spec)) return compile_regular(spec, vocabulary);
  if (is_schema(spec)) return compile_schema(spec, vocabulary);
  switch (spec.kind) {
    case Kind::kGbnf: return compile_gbnf(spec.text, spec.name, vocabulary);
    case Kind::kLark: return compile_lark(spec.text, spec.name, vocabulary);
    case Kind::kNot:
      if (spec.parts[0].kind == Kind::kNot) return compile_constraint(spec.parts[0].parts[0], vocabulary);
      return Status::unsupported(
          "{}: only regular expressions, choices and schemas can be negated, each kind on its own: the texts that a "
          "grammar does not derive are not always those of another one",
          name_of(spec));
    default: break;
  }
  // kAll of several kinds: those of a kind together.
  ConstraintSpec expressions{.kind = Kind::kAll}, schemas{.kind = Kind::kAll};
  std::vector<const ConstraintSpec*> others;
  std::vector<const ConstraintSpec*> open = {&spec};
  while (!open.empty()) {
    const ConstraintSpec* part = open.back();
    open.pop_back();
    if (is_regular(*part)) {
      expressions.parts.push_back(*part);
    } else if (is_schema(*part)) {
      schemas.parts.push_back(*part);
    } else if (part->kind == Kind::kAll) {
      for (auto it = part->parts.rbegin(); it != part->parts.rend(); ++it) open.push_back(&*it);
    } else {
      others.push_back(part);
    }
  }
  std::vector<std::shared_ptr<Constraint>> parts;
  for (const ConstraintSpec* part : others) {
    DECANT_TRY(std::shared_ptr<Constraint> made, compile_one(*part, vocabulary));
    parts.push_back(std::move(made));
  }
  for (const ConstraintSpec* group : {&expressions, &schemas}) {
    if (group->parts.empty()) continue;
    DECANT_TRY(std::shared_ptr<Constraint> made,
               compile_one(group->parts.size() == 1 ? group->parts[0] : *group, vocabulary));
    parts.push_back(std::move(made));
  }
  const bool is_product = parts.size() > 1;
  std::shared_ptr<Constraint> made = make_product_constraint(std::move(parts), vocabulary);
  if (is_product && !made->accepting(made->start()) && made->mask(made->start())->count() == 0) {
    DECANT_TRY_STATUS(made->failure(made->start()));
    return Status::invalid_argument("{}: no text is allowed by all of them", name_of(spec));
  }
  return made;
}

}  // namespace

Result<std::shared_ptr<Constraint>> compile_constraint(const ConstraintSpec& spec, Vocabulary vocabulary) {
  size_t parts = 0;
  DECANT_TRY_STATUS(check(spec, 0, &parts));
  return compile_one(spec, vocabulary);
}

}  // namespace decant
