// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "constrain/schema_language.h"

#include <algorithm>
#include <bit>
#include <functional>
#include <iterator>
#include <set>

#include "constrain/number_language.h"
#include "text/unicode.h"

namespace decant {
namespace {

constexpr size_t kMaxCases = 2048;           // alternatives of one goal
constexpr size_t kMaxSubsets = 6;            // of anyOf beside unevaluated*, and of patterns: 2^6
constexpr size_t kMaxNames = 256;            // of a finite language of names
constexpr size_t kMaxValues = 256;           // of a goal that are told apart one by one
constexpr size_t kMaxStructuredValues = 48;  // likewise, where there are arrays or objects among them
constexpr int kMaxEnumerated = 3000;         // values and parts of them that are looked at for it
constexpr size_t kMaxOpen = 150;             // goals within goals when one asks for a value
constexpr size_t kMaxMergedNames = 8;        // properties of an alternative that is written as clauses
constexpr size_t kMaxMergedClauses = 24;
constexpr size_t kMaxClauses = 64;       // of one object: bits of a frame
constexpr size_t kMaxPatterns = 60;      // likewise
constexpr size_t kMaxOptions = 64;       // of a clause
constexpr int kMaxFollowed = 4;          // references and allOf, to see what an alternative asks for
constexpr int kMaxRounds = 4;            // of simplifying clauses
constexpr int kMaxPlans = 1000;          // of the members to come, tried for one answer
constexpr size_t kMaxCounts = 5;         // of contains and witnesses that are looked at together
constexpr size_t kMaxRemembered = 2000;  // such answers of one shape
constexpr size_t kMaxExpanding = 300;    // schemas within schemas of one value

// In the place of a scope: unevaluated* was here, so that nothing is left.
constexpr SchemaId kAllEvaluated = -2;

template <typename T>
void append(std::vector<T>* to, const std::vector<T>& from) {
  to->insert(to->end(), from.begin(), from.end());
}

bool has_object_scope(const SchemaNode& n) {
  return !n.properties.empty() || !n.pattern_properties.empty() || n.additional_properties != kNoSchema;
}
bool has_array_scope(const SchemaNode& n) { return n.has_prefix || n.items != kNoSchema; }

uint8_t type_of(const JsonNode& value) {
  switch (value.type) {
    case JsonNode::Type::kNull: return kNullBit;
    case JsonNode::Type::kBool: return kBoolBit;
    case JsonNode::Type::kNumber: return kNumberBit;
    case JsonNode::Type::kString: return kStringBit;
    case JsonNode::Type::kArray: return kArrayBit;
    default: return kObjectBit;
  }
}

}  // namespace

void SchemaLanguage::too_many() { give_up("too many alternatives at once"); }

void SchemaLanguage::give_up(const std::string& what) {
  if (status_.ok()) status_ = Status::make(Code::kUnsupported, fmt::format("{}: {}", schema_->name(), what));
}

std::string SchemaLanguage::place_of(const ObjectRules& rules) const {
  for (const SchemaId s : rules.scopes) {
    if (s >= 0) return schema_->node(s).pointer;
  }
  return expanding_.empty() ? "#" : schema_->node(expanding_.back().first.schema).pointer;
}

Status SchemaLanguage::unsatisfiable() const {
  if (!loop_.empty()) {
    return Status::invalid_argument(
        "{}: {}: the references lead back here without a value between, so that nothing is valid", schema_->name(),
        loop_);
  }
  return Status::invalid_argument("{}: no value is valid", schema_->name());
}

bool SchemaLanguage::is_trivial(SchemaLiteral literal) const {
  if (literal.negative) return schema_->node(literal.schema).is_false;
  const SchemaNode& n = schema_->node(literal.schema);
  return !n.is_false && !n.has_types && !n.has_values && n.ref == kNoSchema && says_no_more(n);
}

// Whether the node says nothing beside its types, its values and its reference.
bool SchemaLanguage::says_no_more(const SchemaNode& n) const {
  return n.strings.empty() && n.numbers.empty() && !has_object_scope(n) && n.property_names == kNoSchema &&
         n.unevaluated_properties == kNoSchema && n.required.empty() && n.min_properties == 0 &&
         n.max_properties == INT64_MAX && n.dependent_required.empty() && n.dependent_schemas.empty() &&
         !has_array_scope(n) && n.contains == kNoSchema && n.unevaluated_items == kNoSchema && n.min_items == 0 &&
         n.max_items == INT64_MAX && !n.unique_items && n.all_of.empty() && !n.has_any_of && !n.has_one_of &&
         n.not_ == kNoSchema && n.if_ == kNoSchema;
}

size_t SchemaLanguage::LiteralsHash::operator()(const std::vector<SchemaLiteral>& literals) const {
  uint64_t h = 0x9E3779B97F4A7C15u;
  for (const SchemaLiteral l : literals) {
    h = (h ^ (static_cast<uint64_t>(l.schema) << 1 | (l.negative ? 1 : 0))) * 0xFF51AFD7ED558CCDu;
    h ^= h >> 32;
  }
  return static_cast<size_t>(h);
}

GoalId SchemaLanguage::goal(std::vector<SchemaLiteral> literals, PlaceId place) {
  std::erase_if(literals, [&](SchemaLiteral l) { return is_trivial(l); });
  std::sort(literals.begin(), literals.end());
  literals.erase(std::unique(literals.begin(), literals.end()), literals.end());
  for (size_t i = 0; i + 1 < literals.size(); ++i) {
    // A schema and its opposite.
    if (literals[i].schema == literals[i + 1].schema) {
      literals = {{schema_->false_schema(), false}};
      break;
    }
  }
  // The place stands behind the literals.
  std::vector<SchemaLiteral> key = literals;
  if (place != kNoPlace) key.push_back({kNoSchema - 1 - static_cast<SchemaId>(place), true});
  const auto [it, is_new] = goal_ids_.emplace(std::move(key), static_cast<GoalId>(goals_.size()));
  if (is_new) {
    goals_.push_back(std::move(literals));
    goal_places_.push_back(place);
  }
  return it->second;
}

GoalId SchemaLanguage::goal_with(GoalId id, const std::vector<SchemaLiteral>& more) {
  if (more.empty()) return id;
  std::vector<SchemaLiteral> all = goals_[id];
  all.insert(all.end(), more.begin(), more.end());
  return goal(std::move(all), goal_places_[id]);
}

// --- Scalars: regular languages --------------------------------------------------------------------------------------

RegexId SchemaLanguage::top(uint8_t type) {
  const JsonTexts& texts = schema_->texts();
  switch (type) {
    case kNullBit: return texts.null;
    case kBoolBit: return pool().alt({texts.true_, texts.false_});
    case kNumberBit: return texts.any_number;
    default: return pool().any_text();
  }
}

RegexId SchemaLanguage::complement(RegexId language, uint8_t type) {
  if (language == pool().none()) return top(type);
  if (language == top(type)) return pool().none();
  // Where values matter numbers are written without an exponent.
  const RegexId within = type == kNumberBit ? schema_->texts().plain_number : top(type);
  // Without the part that all have, what is left of multiples is easier to put together.
  const std::optional<RegexId> rest = pool().without_part(language, within);
  return pool().conj({within, pool().negate(rest.value_or(language))});
}

RegexId SchemaLanguage::unite(std::vector<RegexId> parts, uint8_t type) {
  if (type == kNumberBit) {
    const RegexId plain = schema_->texts().plain_number;
    std::vector<RegexId> rests;
    for (const RegexId part : parts) {
      if (part == pool().none()) continue;
      if (const std::optional<RegexId> rest = pool().without_part(part, plain)) rests.push_back(*rest);
    }
    const auto empty = std::count(parts.begin(), parts.end(), pool().none());
    if (!rests.empty() && rests.size() + static_cast<size_t>(empty) == parts.size())
      return pool().conj({plain, pool().alt(std::move(rests))});
  }
  return pool().alt(std::move(parts));
}

RegexId SchemaLanguage::intersect(std::vector<RegexId> parts, uint8_t type) {
  std::erase(parts, top(type));
  if (parts.empty()) return top(type);
  if (type == kNumberBit) parts.push_back(schema_->texts().plain_number);
  return pool().conj(std::move(parts));
}

RegexId SchemaLanguage::values_language(const SchemaNode& node, uint8_t type) {
  std::vector<RegexId> parts;
  const JsonTexts& texts = schema_->texts();
  for (const JsonNode* value : node.values) {
    if (pool().exhausted()) break;
    switch (value->type) {
      case JsonNode::Type::kNull:
        if (type == kNullBit) parts.push_back(texts.null);
        break;
      case JsonNode::Type::kBool:
        if (type == kBoolBit) parts.push_back(value->boolean ? texts.true_ : texts.false_);
        break;
      case JsonNode::Type::kNumber:
        if (type == kNumberBit) {
          const Result<RegexId> id = number_equal_to(value->number, &pool());
          if (id.ok()) parts.push_back(*id);
        }
        break;
      case JsonNode::Type::kString:
        if (type == kStringBit) parts.push_back(pool().literal(value->text));
        break;
      default: break;
    }
  }
  return pool().alt(std::move(parts));
}

RegexId SchemaLanguage::language(SchemaLiteral literal, uint8_t type) {
  const RegexId id = positive_language(literal.schema, type);
  return literal.negative ? complement(id, type) : id;
}

RegexId SchemaLanguage::positive_language(SchemaId id, uint8_t type) {
  if (const auto it = languages_.find({id, type}); it != languages_.end()) return it->second;
  const SchemaNode& n = schema_->node(id);
  const std::pair<SchemaLiteral, uint8_t> own{{id, false}, type};
  if (const auto it = std::find(expanding_.begin(), expanding_.end(), own); it != expanding_.end()) {
    // The least solution: what only refers to itself holds for nothing.
    loop_ = n.pointer;
    lowest_expanding_ = std::min(lowest_expanding_, static_cast<size_t>(it - expanding_.begin()));
    return pool().none();
  }
  if (expanding_.size() > kMaxExpanding) {
    give_up(n.pointer + ": too many schemas within each other");
    return pool().none();
  }
  const size_t depth = expanding_.size(), before = std::exchange(lowest_expanding_, SIZE_MAX);
  expanding_.push_back(own);
  const auto result = [&]() -> RegexId {
    if (n.is_false) return pool().none();
    if (n.ref != kNoSchema) return language({n.ref, false}, type);
    if (n.has_types && (n.types & type) == 0) return pool().none();
    std::vector<RegexId> parts;
    if (type == kNumberBit && n.has_types && n.whole_only) {
      parts.push_back(n.no_point ? schema_->texts().digits_number : schema_->texts().whole_number);
    }
    if (n.has_values) parts.push_back(values_language(n, type));
    if (type == kStringBit) {
      for (const auto& [keyword, text] : n.strings) parts.push_back(text);
    }
    if (type == kNumberBit) {
      for (const auto& [keyword, text] : n.numbers) parts.push_back(text);
    }
    for (const SchemaId s : n.all_of) parts.push_back(language({s, false}, type));
    if (n.has_any_of) {
      std::vector<RegexId> any;
      for (const SchemaId s : n.any_of) any.push_back(language({s, false}, type));
      parts.push_back(unite(std::move(any), type));
    }
    if (n.has_one_of) {
      std::vector<RegexId> each, exactly;
      for (const SchemaId s : n.one_of) {
        const RegexId l = language({s, false}, type);
        if (l != pool().none()) each.push_back(l);
      }
      for (size_t i = 0; i < each.size(); ++i) {
        std::vector<RegexId> one = {each[i]};
        for (size_t j = 0; j < each.size(); ++j) {
          if (j != i) one.push_back(complement(each[j], type));
        }
        exactly.push_back(each.size() == 1 ? each[0] : intersect(std::move(one), type));
      }
      parts.push_back(unite(std::move(exactly), type));
    }
    if (n.not_ != kNoSchema) parts.push_back(language({n.not_, true}, type));
    if (n.if_ != kNoSchema && (n.then_ != kNoSchema || n.else_ != kNoSchema)) {
      const RegexId condition = language({n.if_, false}, type);
      std::vector<RegexId> yes = {condition}, no = {complement(condition, type)};
      if (n.then_ != kNoSchema) yes.push_back(language({n.then_, false}, type));
      if (n.else_ != kNoSchema) no.push_back(language({n.else_, false}, type));
      parts.push_back(unite({intersect(std::move(yes), type), intersect(std::move(no), type)}, type));
    }
    return intersect(std::move(parts), type);
  }();
  expanding_.pop_back();
  if (settled(depth, before)) languages_.emplace(std::pair(id, type), result);
  return result;
}

RegexId SchemaLanguage::strings(GoalId id) {
  if (const auto it = strings_.find(id); it != strings_.end()) return it->second;
  std::vector<RegexId> parts;
  for (const SchemaLiteral l : std::vector<SchemaLiteral>(goals_[id])) parts.push_back(language(l, kStringBit));
  RegexId result = intersect(std::move(parts), kStringBit);
  if (!pool().live(result)) result = pool().none();
  strings_.emplace(id, result);
  return result;
}

RegexId SchemaLanguage::scalars(GoalId id) {
  if (const auto it = scalars_.find(id); it != scalars_.end()) return it->second;
  std::vector<RegexId> any;
  for (const uint8_t type : {kNullBit, kBoolBit, kNumberBit}) {
    std::vector<RegexId> parts;
    for (const SchemaLiteral l : std::vector<SchemaLiteral>(goals_[id])) parts.push_back(language(l, type));
    any.push_back(intersect(std::move(parts), type));
  }
  RegexId result = pool().alt(std::move(any));
  if (!pool().live(result)) result = pool().none();
  scalars_.emplace(id, result);
  return result;
}

// --- Objects and arrays: cases ---------------------------------------------------------------------------------------

// Asks for this too; false if nothing can meet both.
bool SchemaLanguage::join(const Case& with, Case* c) {
  ObjectRules& o = c->object;
  append(&o.scopes, with.object.scopes);
  append(&o.named, with.object.named);
  append(&o.required, with.object.required);
  append(&o.names, with.object.names);
  append(&o.dependencies, with.object.dependencies);
  append(&o.clauses, with.object.clauses);
  append(&o.rests, with.object.rests);
  o.min = std::max(o.min, with.object.min);
  o.max = std::min(o.max, with.object.max);
  ArrayRules& r = c->array;
  append(&r.scopes, with.array.scopes);
  append(&r.at, with.array.at);
  append(&r.contains, with.array.contains);
  append(&r.witnesses, with.array.witnesses);
  append(&r.rests, with.array.rests);
  r.min = std::max(r.min, with.array.min);
  r.max = std::min(r.max, with.array.max);
  r.unique = r.unique || with.array.unique;
  append(&c->scopes, with.scopes);
  append(&c->contained, with.contained);
  if (o.min > o.max || r.min > r.max) return false;
  if (o.clauses.size() > kMaxClauses) {
    simplify(&o);
    if (o.clauses.size() > kMaxClauses) {
      give_up(fmt::format("{}: more than {} conditions on the members of one object", place_of(o), kMaxClauses));
      return false;
    }
  }
  // A name that has to be there and may not.
  return std::none_of(o.named.begin(), o.named.end(), [&](const auto& n) {
    const bool is_false =
        n.second.negative ? is_trivial({n.second.schema, false}) : schema_->node(n.second.schema).is_false;
    return is_false && std::find(o.required.begin(), o.required.end(), n.first) != o.required.end();
  });
}

SchemaLanguage::Cases SchemaLanguage::both(Cases a, const Cases& b) {
  if (a.size() * b.size() > kMaxCases) {
    give_up(fmt::format("{}: too many alternatives at once",
                        expanding_.empty() ? "#" : schema_->node(expanding_.back().first.schema).pointer));
    return {};
  }
  if (b.size() == 1) {
    std::erase_if(a, [&](Case& c) { return !join(b[0], &c); });
    return a;
  }
  Cases out;
  for (const Case& x : a) {
    for (const Case& y : b) {
      Case c = x;
      if (join(y, &c)) out.push_back(std::move(c));
    }
  }
  return out;
}

SchemaLanguage::Cases SchemaLanguage::expand(SchemaLiteral literal, uint8_t type) {
  if (!status_.ok()) return {};
  const std::pair<SchemaLiteral, uint8_t> own{literal, type};
  if (const auto it = std::find(expanding_.begin(), expanding_.end(), own); it != expanding_.end()) {
    loop_ = schema_->node(literal.schema).pointer;
    lowest_expanding_ = std::min(lowest_expanding_, static_cast<size_t>(it - expanding_.begin()));
    // The least solution, and its complement.
    return literal.negative ? Cases{Case()} : Cases();
  }
  if (expanding_.size() > kMaxExpanding) {
    give_up(schema_->node(literal.schema).pointer + ": too many schemas within each other");
    return {};
  }
  const size_t depth = expanding_.size(), before = std::exchange(lowest_expanding_, SIZE_MAX);
  expanding_.push_back(own);
  Cases cases = literal.negative ? expand_negative(literal.schema, type) : expand_positive(literal.schema, type);
  expanding_.pop_back();
  settled(depth, before);
  return cases;
}

// Whether what was found at this depth of expanding_ rests on no assumption about schemas further out; hands the lowest
// such assumption on.
bool SchemaLanguage::settled(size_t depth, size_t before) {
  const bool own = lowest_expanding_ >= depth;
  lowest_expanding_ = std::min(before, own ? SIZE_MAX : lowest_expanding_);
  return own;
}

bool SchemaLanguage::asks_for_nothing(const Case& c) {
  const ArrayRules& r = c.array;
  return r.scopes.empty() && r.at.empty() && r.min == 0 && r.max == INT64_MAX && r.contains.empty() &&
         r.witnesses.empty() && r.rests.empty() && !r.unique;
}

SchemaLanguage::Cases SchemaLanguage::expand_positive(SchemaId id, uint8_t type) {
  const SchemaNode& n = schema_->node(id);
  if (n.is_false) return {};
  if (n.ref != kNoSchema) return expand({n.ref, false}, type);
  if (n.has_types && (n.types & type) == 0) return {};
  const bool is_object = type == kObjectBit;
  const bool outer = annotating_;
  const bool rest = is_object ? n.unevaluated_properties != kNoSchema : n.unevaluated_items != kNoSchema;
  annotating_ = annotating_ || rest;

  Case own;
  if (is_object) {
    if (has_object_scope(n)) own.object.scopes.push_back(id);
    if (has_object_scope(n)) own.scopes.push_back(id);
    own.object.required = n.required;
    own.object.min = n.min_properties;
    own.object.max = n.max_properties;
    if (n.property_names != kNoSchema) own.object.names.push_back({n.property_names, false});
    if (!n.dependent_required.empty()) own.object.dependencies.push_back(id);
  } else {
    if (has_array_scope(n)) own.array.scopes.push_back(id);
    if (has_array_scope(n)) own.scopes.push_back(id);
    own.array.min = n.min_items;
    own.array.max = n.max_items;
    own.array.unique = n.unique_items;
    if (n.contains != kNoSchema && (n.min_contains > 0 || n.max_contains != INT64_MAX)) {
      own.array.contains.push_back({{n.contains, false}, n.min_contains, n.max_contains});
      own.array.min = std::max(own.array.min, n.min_contains);
    }
    if (n.contains != kNoSchema && n.contains_counts_as_evaluated) own.contained.push_back({n.contains, false});
  }
  Cases cases;
  if (own.object.min <= own.object.max && own.array.min <= own.array.max) cases.push_back(std::move(own));
  if (n.has_values) {
    Cases any;
    for (const JsonNode* value : n.values) {
      if (value->type == (is_object ? JsonNode::Type::kObject : JsonNode::Type::kArray)) {
        add(&any, expand({schema_->structured_constant(*value), false}, type));
      }
    }
    cases = both(std::move(cases), any);
  }
  for (const SchemaId s : n.all_of) {
    if (cases.empty()) break;
    cases = both(std::move(cases), expand({s, false}, type));
  }
  if (n.has_any_of && !cases.empty()) {
    std::vector<Cases> parts;
    for (const SchemaId s : n.any_of) {
      Cases part = expand({s, false}, type);
      if (!part.empty()) parts.push_back(std::move(part));
    }
    Cases any;
    if (!annotating_) {
      for (Cases& part : parts) add(&any, std::move(part));
      if (is_object) any = merge_clauses(std::move(any));
      if (!is_object && std::any_of(any.begin(), any.end(), asks_for_nothing)) any = {Case()};
    } else if (parts.size() > kMaxSubsets) {
      give_up(n.pointer + "/anyOf: too many alternatives beside unevaluatedProperties or unevaluatedItems");
    } else {
      // Every branch that holds has its say about what is evaluated; more than hold need not be named.
      for (size_t subset = 1; subset < size_t{1} << parts.size(); ++subset) {
        Cases all = {Case()};
        for (size_t i = 0; i < parts.size(); ++i) {
          if ((subset >> i & 1) != 0) all = both(std::move(all), parts[i]);
        }
        add(&any, std::move(all));
      }
    }
    cases = both(std::move(cases), any);
  }
  if (n.has_one_of && !cases.empty()) {
    std::vector<SchemaId> able;
    std::vector<Cases> yes;
    for (const SchemaId s : n.one_of) {
      Cases part = expand({s, false}, type);
      if (part.empty()) continue;
      able.push_back(s);
      yes.push_back(std::move(part));
    }
    std::vector<std::optional<Cases>> no(able.size());
    Cases one;
    for (size_t i = 0; i < able.size(); ++i) {
      Cases only = std::move(yes[i]);
      for (size_t j = 0; j < able.size() && !only.empty(); ++j) {
        if (j == i || disjoint(able[i], able[j], type)) continue;
        if (!no[j]) no[j] = expand({able[j], true}, type);
        only = both(std::move(only), *no[j]);
      }
      add(&one, std::move(only));
    }
    if (is_object && !annotating_) one = merge_clauses(std::move(one));
    cases = both(std::move(cases), one);
  }
  if (n.not_ != kNoSchema && !cases.empty()) {
    const bool inner = std::exchange(annotating_, false);
    cases = both(std::move(cases), expand({n.not_, true}, type));
    annotating_ = inner;
  }
  if (n.if_ != kNoSchema && !cases.empty() && (n.then_ != kNoSchema || n.else_ != kNoSchema || annotating_)) {
    Cases yes = expand({n.if_, false}, type), no = expand({n.if_, true}, type);
    if (n.then_ != kNoSchema && !yes.empty()) yes = both(std::move(yes), expand({n.then_, false}, type));
    if (n.else_ != kNoSchema && !no.empty()) no = both(std::move(no), expand({n.else_, false}, type));
    add(&yes, std::move(no));
    if (is_object && !annotating_) yes = merge_clauses(std::move(yes));
    cases = both(std::move(cases), yes);
  }
  if (is_object) {
    for (const auto& [name, schema] : n.dependent_schemas) {
      if (cases.empty()) break;
      Case absent, present;
      absent.object.named.push_back({name, {schema_->false_schema(), false}});
      present.object.required.push_back(name);
      Cases either = both({present}, expand({schema, false}, type));
      either.push_back(std::move(absent));
      if (!annotating_) either = merge_clauses(std::move(either));
      cases = both(std::move(cases), either);
    }
  }
  annotating_ = outer;
  if (!rest) return cases;
  for (Case& c : cases) {
    if (is_object) {
      c.object.rests.push_back({.scopes = c.scopes, .value = {n.unevaluated_properties, false}});
    } else {
      int64_t from = 0;
      for (const SchemaId s : c.scopes) {
        const bool all = s < kNoSchema || schema_->node(s).items != kNoSchema;
        from = std::max(from, all ? INT64_MAX : static_cast<int64_t>(schema_->node(s).prefix_items.size()));
      }
      if (from != INT64_MAX) {
        c.array.rests.push_back({.from = from, .unless = c.contained, .value = {n.unevaluated_items, false}});
      }
    }
    c.scopes.push_back(kAllEvaluated);
  }
  return cases;
}

SchemaLanguage::Cases SchemaLanguage::expand_negative(SchemaId id, uint8_t type) {
  const SchemaNode& n = schema_->node(id);
  if (n.is_false) return {Case()};
  if (n.ref != kNoSchema) return expand({n.ref, true}, type);
  if (n.has_types && (n.types & type) == 0) return {Case()};
  const bool is_object = type == kObjectBit;
  const bool outer = std::exchange(annotating_, false);  // what does not hold evaluates nothing
  Cases cases;
  if (n.has_values) {
    Cases none = {Case()};
    for (const JsonNode* value : n.values) {
      if (value->type == (is_object ? JsonNode::Type::kObject : JsonNode::Type::kArray)) {
        none = both(std::move(none), expand({schema_->structured_constant(*value), true}, type));
      }
    }
    add(&cases, std::move(none));
  }
  for (const SchemaId s : n.all_of) add(&cases, expand({s, true}, type));
  if (n.has_any_of) {
    Cases none = {Case()};
    for (const SchemaId s : n.any_of) {
      if (!none.empty()) none = both(std::move(none), expand({s, true}, type));
    }
    add(&cases, std::move(none));
  }
  if (n.has_one_of) {
    std::vector<SchemaId> able;
    for (const SchemaId s : n.one_of) {
      if (!expand({s, false}, type).empty()) able.push_back(s);
    }
    Cases none = {Case()};
    for (const SchemaId s : able) {
      if (!none.empty()) none = both(std::move(none), expand({s, true}, type));
    }
    add(&cases, std::move(none));
    for (size_t i = 0; i < able.size(); ++i) {
      for (size_t j = i + 1; j < able.size(); ++j) {
        if (!disjoint(able[i], able[j], type))
          add(&cases, both(expand({able[i], false}, type), expand({able[j], false}, type)));
      }
    }
  }
  if (n.not_ != kNoSchema) add(&cases, expand({n.not_, false}, type));
  if (n.if_ != kNoSchema && (n.then_ != kNoSchema || n.else_ != kNoSchema)) {
    if (n.then_ != kNoSchema) add(&cases, both(expand({n.if_, false}, type), expand({n.then_, true}, type)));
    if (n.else_ != kNoSchema) add(&cases, both(expand({n.if_, true}, type), expand({n.else_, true}, type)));
  }
  if (is_object) {
    negate_object(id, &cases);
    cases = merge_clauses(std::move(cases));
  } else {
    negate_array(id, &cases);
  }
  annotating_ = outer;
  for (Case& c : cases) {
    c.scopes.clear();
    c.contained.clear();
  }
  return cases;
}

void SchemaLanguage::negate_object(SchemaId id, Cases* out) {
  const SchemaNode& n = schema_->node(id);
  using Kind = ObjectRules::Option::Kind;
  ObjectRules::Clause any;
  for (const std::string& name : n.required) any.push_back({.kind = Kind::kAbsent, .name = name});
  if (n.min_properties > 0) any.push_back({.kind = Kind::kAtMost, .count = n.min_properties - 1});
  if (n.max_properties != INT64_MAX) any.push_back({.kind = Kind::kAtLeast, .count = n.max_properties + 1});
  for (const auto& [name, schema] : n.properties) {
    if (!is_trivial({schema, false})) any.push_back({.kind = Kind::kMember, .name = name, .value = {schema, true}});
  }
  for (const auto& [pattern, schema] : n.pattern_properties) {
    if (!is_trivial({schema, false}))
      any.push_back({.kind = Kind::kPattern, .pattern = pattern, .value = {schema, true}});
  }
  if (n.additional_properties != kNoSchema && !is_trivial({n.additional_properties, false}))
    any.push_back({.kind = Kind::kAdditional, .scope = id, .value = {n.additional_properties, true}});
  if (n.property_names != kNoSchema && !is_trivial({n.property_names, false}))
    any.push_back({.kind = Kind::kName, .value = {n.property_names, true}});
  if (!any.empty()) {
    out->emplace_back();
    set_clause(std::move(any), &out->back().object);
  }
  for (const auto& [name, needed] : n.dependent_required) {
    for (const std::string& other : needed) {
      out->emplace_back();
      ObjectRules& rules = out->back().object;
      rules.required.push_back(name);
      rules.named.push_back({other, {schema_->false_schema(), false}});
    }
  }
  for (const auto& [name, schema] : n.dependent_schemas) {
    Case present;
    present.object.required.push_back(name);
    add(out, both({present}, expand({schema, true}, kObjectBit)));
  }
  if (n.unevaluated_properties != kNoSchema && !is_trivial({n.unevaluated_properties, false})) {
    give_up(n.pointer + "/unevaluatedProperties: not supported within \"not\", \"if\" or \"oneOf\"");
  }
}

// --- Clauses ---------------------------------------------------------------------------------------------------------

// Sets a clause of one option as what it is.
void SchemaLanguage::set_clause(ObjectRules::Clause clause, ObjectRules* rules) const {
  using Kind = ObjectRules::Option::Kind;
  std::sort(clause.begin(), clause.end());
  clause.erase(std::unique(clause.begin(), clause.end()), clause.end());
  if (clause.size() == 1) {
    const ObjectRules::Option& o = clause[0];
    switch (o.kind) {
      case Kind::kAbsent: rules->named.push_back({o.name, {schema_->false_schema(), false}}); return;
      case Kind::kMember:
        rules->required.push_back(o.name);
        if (o.value.schema != kNoSchema) rules->named.push_back({o.name, o.value});
        return;
      case Kind::kAtMost: rules->max = std::min(rules->max, o.count); return;
      case Kind::kAtLeast: rules->min = std::max(rules->min, o.count); return;
      default: break;
    }
  }
  rules->clauses.push_back(std::move(clause));
}

bool SchemaLanguage::is_tautology(const ObjectRules::Clause& clause) {
  using Kind = ObjectRules::Option::Kind;
  return std::any_of(clause.begin(), clause.end(), [&](const ObjectRules::Option& o) {
    return o.kind == Kind::kAbsent &&
           std::binary_search(clause.begin(), clause.end(), ObjectRules::Option{.kind = Kind::kMember, .name = o.name});
  });
}

// Keeps of clauses of which one says less than another only the stronger.
void SchemaLanguage::add_clause(ObjectRules::Clause clause, std::vector<ObjectRules::Clause>* clauses) {
  const auto includes = [](const ObjectRules::Clause& x, const ObjectRules::Clause& y) {
    return std::includes(x.begin(), x.end(), y.begin(), y.end());
  };
  for (const ObjectRules::Clause& known : *clauses) {
    if (includes(clause, known)) return;
  }
  std::erase_if(*clauses, [&](const ObjectRules::Clause& known) { return includes(known, clause); });
  clauses->push_back(std::move(clause));
}

// The types that a value may have, and perhaps more: what is seen without alternatives.
uint8_t SchemaLanguage::types_of(SchemaId id) {
  if (const auto it = types_.find(id); it != types_.end()) return it->second;
  // Where references lead back here, or too far, they say nothing.
  if (following_ > kMaxExpanding) return kAllTypes;
  types_.emplace(id, kAllTypes);
  ++following_;
  const SchemaNode& n = schema_->node(id);
  uint8_t types = n.is_false ? 0 : n.has_types ? n.types : kAllTypes;
  if (n.has_values) {
    uint8_t of_values = 0;
    for (const JsonNode* value : n.values) of_values |= type_of(*value);
    types &= of_values;
  }
  if (n.ref != kNoSchema) types &= types_of(n.ref);
  for (const SchemaId s : n.all_of) types &= types_of(s);
  for (const auto& [has, list] : {std::pair(n.has_any_of, &n.any_of), std::pair(n.has_one_of, &n.one_of)}) {
    if (!has) continue;
    uint8_t any = 0;
    for (const SchemaId s : *list) any |= types_of(s);
    types &= any;
  }
  --following_;
  return types_[id] = types;
}

uint8_t SchemaLanguage::types_of_goal(GoalId id) {
  uint8_t types = kAllTypes;
  for (const SchemaLiteral l : goals_[id]) {
    if (!l.negative) types &= types_of(l.schema);
  }
  return types;
}

// Whether there is a value, where it can be no array and no object.
std::optional<bool> SchemaLanguage::scalar_possible(GoalId id) {
  const uint8_t types = types_of_goal(id);
  if ((types & (kArrayBit | kObjectBit)) != 0) return std::nullopt;
  return ((types & kStringBit) != 0 && strings(id) != pool().none()) ||
         ((types & (kNullBit | kBoolBit | kNumberBit)) != 0 && scalars(id) != pool().none());
}

// Whether a value of the goal never is what `more` asks for, or always.
SchemaLanguage::Verdict SchemaLanguage::verdict(GoalId id, SchemaLiteral more) {
  const uint64_t key = uint64_t{id} << 33 | uint64_t{static_cast<uint32_t>(more.schema)} << 1 | (more.negative ? 1 : 0);
  if (const auto it = verdicts_.find(key); it != verdicts_.end()) return it->second;
  Verdict result = Verdict::kOpen;
  const Listed& other = listed(more.schema);
  const Listed* own = nullptr;
  for (const SchemaLiteral l : goals_[id]) {
    if (!l.negative && other.any && own == nullptr && listed(l.schema).any) own = &listed(l.schema);
  }
  if (own != nullptr) {
    // Lists are compared as such.
    size_t common = 0;
    for (const std::string& value : own->values) {
      common += std::binary_search(other.values.begin(), other.values.end(), value) ? 1 : 0;
    }
    if (common == 0) {
      result = more.negative ? Verdict::kAlways : Verdict::kNever;
    } else if (common == own->values.size() && other.exact) {
      result = more.negative ? Verdict::kNever : Verdict::kAlways;
    }
    if (result != Verdict::kOpen) {
      verdicts_.emplace(key, result);
      return result;
    }
  }
  const uint8_t types = types_of_goal(id);
  const auto never = [&](SchemaLiteral l) {
    const uint8_t left = l.negative ? types : types & types_of(l.schema);
    return (left & (kArrayBit | kObjectBit)) == 0 && scalar_possible(goal_with(id, {l})) == false;
  };
  if (never(more)) {
    result = Verdict::kNever;
  } else if (never({more.schema, !more.negative})) {
    result = Verdict::kAlways;
  }
  verdicts_.emplace(key, result);
  return result;
}

// Drops what clauses say beside the rest of the rules: options that cannot be, clauses that hold anyway or that others
// imply. Of alternatives that an enumeration tells apart this leaves next to nothing.
void SchemaLanguage::simplify(ObjectRules* rules) {
  using Kind = ObjectRules::Option::Kind;
  // A clause of one option is a rule, and changes what others mean.
  for (int round = 0; round < kMaxRounds && !rules->clauses.empty(); ++round) {
    std::map<std::string_view, GoalId> goals;
    const std::set<std::string> required(rules->required.begin(), rules->required.end());
    std::vector<ObjectRules::Clause> kept, single;
    bool impossible = false;
    for (const ObjectRules::Clause& clause : rules->clauses) {
      ObjectRules::Clause rest;
      bool holds = false;
      for (const ObjectRules::Option& o : clause) {
        if (o.kind > Kind::kMember) {
          rest.push_back(o);
          continue;
        }
        const auto [it, is_new] = goals.emplace(o.name, 0);
        if (is_new) it->second = goal(literals_of_name(*rules, o.name));
        if (o.kind == Kind::kAbsent) {
          holds = holds || scalar_possible(it->second) == false;
          if (!required.contains(o.name)) rest.push_back(o);
          continue;
        }
        ObjectRules::Option own = o;
        if (o.value.schema != kNoSchema) {
          const Verdict known = verdict(it->second, o.value);
          if (known == Verdict::kNever) continue;
          if (known == Verdict::kAlways) own.value = {kNoSchema, false};
        }
        holds = holds || (own.value.schema == kNoSchema && required.contains(o.name));
        rest.push_back(std::move(own));
      }
      std::sort(rest.begin(), rest.end());
      rest.erase(std::unique(rest.begin(), rest.end()), rest.end());
      if (holds || is_tautology(rest)) continue;
      impossible = impossible || rest.empty();
      (rest.size() == 1 ? single : kept).push_back(std::move(rest));
    }
    rules->clauses.clear();
    if (impossible) {
      rules->clauses.emplace_back();
      return;
    }
    for (ObjectRules::Clause& clause : kept) add_clause(std::move(clause), &rules->clauses);
    const size_t before = rules->clauses.size();
    for (ObjectRules::Clause& clause : single) set_clause(std::move(clause), rules);
    // What stays a clause of one option says no more in another round.
    if (single.size() == rules->clauses.size() - before) return;
  }
}

// An alternative as clauses that all have to hold; nullopt if it asks for more.
std::optional<std::vector<ObjectRules::Clause>> SchemaLanguage::clauses_of(const Case& c) const {
  using Kind = ObjectRules::Option::Kind;
  const ObjectRules& o = c.object;
  if (!o.names.empty() || !o.rests.empty()) return std::nullopt;
  std::vector<ObjectRules::Clause> all = o.clauses;
  const auto add_named = [&](const std::string& name, SchemaLiteral value) {
    if (is_trivial(value)) return;
    const bool never = value.negative ? is_trivial({value.schema, false}) : schema_->node(value.schema).is_false;
    ObjectRules::Clause clause = {{.kind = Kind::kAbsent, .name = name}};
    if (!never) clause.push_back({.kind = Kind::kMember, .name = name, .value = value});
    add_clause(std::move(clause), &all);
  };
  for (const SchemaId s : o.scopes) {
    if (s < kNoSchema) return std::nullopt;
    const SchemaNode& n = schema_->node(s);
    if (n.properties.size() > kMaxMergedNames || !n.pattern_properties.empty() ||
        (n.additional_properties != kNoSchema && !is_trivial({n.additional_properties, false})))
      return std::nullopt;
    for (const auto& [name, schema] : n.properties) add_named(name, {schema, false});
  }
  for (const auto& [name, value] : o.named) add_named(name, value);
  for (const std::string& name : o.required) {
    // Such a value has to be there: one option instead of two.
    const auto own = std::find_if(all.begin(), all.end(), [&](const ObjectRules::Clause& clause) {
      return clause.size() == 2 && clause[0].kind == Kind::kAbsent && clause[0].name == name &&
             clause[1].kind == Kind::kMember && clause[1].name == name;
    });
    if (own != all.end()) {
      ObjectRules::Clause clause = {(*own)[1]};
      all.erase(own);
      add_clause(std::move(clause), &all);
    } else {
      add_clause({{.kind = Kind::kMember, .name = name}}, &all);
    }
  }
  if (o.min > 0) add_clause({{.kind = Kind::kAtLeast, .count = o.min}}, &all);
  if (o.max != INT64_MAX) add_clause({{.kind = Kind::kAtMost, .count = o.max}}, &all);
  for (const SchemaId s : o.dependencies) {
    for (const auto& [name, needed] : schema_->node(s).dependent_required) {
      for (const std::string& other : needed) {
        add_clause({{.kind = Kind::kAbsent, .name = name}, {.kind = Kind::kMember, .name = other}}, &all);
      }
    }
  }
  return all;
}

// Writes alternatives of an object that are no more than clauses as one, where the clauses stay few.
SchemaLanguage::Cases SchemaLanguage::merge_clauses(Cases cases) const {
  if (cases.size() < 2) return cases;
  const auto is_presence = [](const std::vector<ObjectRules::Clause>& clauses) {
    for (const ObjectRules::Clause& clause : clauses) {
      for (const ObjectRules::Option& o : clause) {
        if (o.kind > ObjectRules::Option::Kind::kMember || o.value.schema != kNoSchema) return false;
      }
    }
    return true;
  };
  Cases out;
  std::optional<std::vector<ObjectRules::Clause>> merged;
  size_t count = 0;
  for (Case& c : cases) {
    std::optional<std::vector<ObjectRules::Clause>> own = clauses_of(c);
    if (own && own->empty()) return {Case()};  // it asks for nothing
    const bool fits = own && (own->size() == 1 || is_presence(*own)) &&
                      (!merged || (merged->size() == 1 && own->size() == 1) || is_presence(*merged));
    if (!fits) {
      out.push_back(std::move(c));
      continue;
    }
    if (!merged) {
      merged = std::move(own);
      count = 1;
      out.push_back(std::move(c));  // its place
      std::swap(out.front(), out.back());
      continue;
    }
    std::vector<ObjectRules::Clause> product;
    bool few = true;
    for (const ObjectRules::Clause& x : *merged) {
      for (const ObjectRules::Clause& y : *own) {
        ObjectRules::Clause either;
        std::set_union(x.begin(), x.end(), y.begin(), y.end(), std::back_inserter(either));
        if (is_tautology(either)) continue;
        few = few && either.size() <= kMaxOptions;
        add_clause(std::move(either), &product);
      }
      few = few && product.size() <= kMaxMergedClauses;
      if (!few) break;
    }
    if (!few) {
      out.push_back(std::move(c));
      continue;
    }
    if (product.empty()) return {Case()};
    merged = std::move(product);
    ++count;
  }
  if (count < 2) return out;
  Case one;
  for (ObjectRules::Clause& clause : *merged) set_clause(std::move(clause), &one.object);
  out.front() = std::move(one);
  return out;
}

void SchemaLanguage::negate_array(SchemaId id, Cases* out) {
  const SchemaNode& n = schema_->node(id);
  const auto next = [&]() -> ArrayRules& {
    out->emplace_back();
    return out->back().array;
  };
  if (n.min_items > 0) next().max = n.min_items - 1;
  if (n.max_items != INT64_MAX) next().min = n.max_items + 1;
  for (size_t i = 0; i < n.prefix_items.size(); ++i) {
    if (is_trivial({n.prefix_items[i], false})) continue;
    ArrayRules& rules = next();
    rules.min = static_cast<int64_t>(i) + 1;
    rules.at.push_back({static_cast<int64_t>(i), {n.prefix_items[i], true}});
  }
  if (n.items != kNoSchema && !is_trivial({n.items, false})) {
    const auto from = static_cast<int64_t>(n.prefix_items.size());
    ArrayRules& rules = next();
    rules.min = from + 1;
    rules.witnesses.push_back({from, {n.items, true}});
  }
  if (n.contains != kNoSchema) {
    if (n.min_contains > 0) next().contains.push_back({{n.contains, false}, 0, n.min_contains - 1});
    if (n.max_contains != INT64_MAX) {
      ArrayRules& rules = next();
      rules.contains.push_back({{n.contains, false}, n.max_contains + 1, INT64_MAX});
      rules.min = n.max_contains + 1;
    }
  }
  if (n.unique_items) give_up(n.pointer + "/uniqueItems: not supported within \"not\", \"if\" or \"oneOf\"");
  if (n.unevaluated_items != kNoSchema && !is_trivial({n.unevaluated_items, false})) {
    give_up(n.pointer + "/unevaluatedItems: not supported within \"not\", \"if\" or \"oneOf\"");
  }
}

const SchemaLanguage::Listed& SchemaLanguage::listed(SchemaId id) {
  static const Listed kNothing;
  if (const auto it = listed_.find(id); it != listed_.end()) return it->second;
  // Where references lead back here, or too far: none.
  if (following_ > kMaxExpanding) return kNothing;
  listed_.emplace(id, Listed());
  ++following_;
  const SchemaNode& n = schema_->node(id);
  Listed own;
  if (n.has_values && n.values.size() <= kMaxValues) {
    own.any = true;
    own.exact = says_no_more(n) && n.ref == kNoSchema && (!n.has_types || !n.whole_only);
    for (const JsonNode* value : n.values) {
      if (n.has_types && (n.types & type_of(*value)) == 0) continue;
      own.values.push_back(canonical_json(*value));
    }
    std::sort(own.values.begin(), own.values.end());
  } else if (n.ref != kNoSchema) {
    own = listed(n.ref);
    own.exact = own.exact && says_no_more(n) && !n.has_types && !n.has_values;
  } else {
    for (const SchemaId s : n.all_of) {
      if (own.any) break;
      own = listed(s);
      own.exact = false;
    }
  }
  --following_;
  return listed_[id] = std::move(own);
}

void SchemaLanguage::add_members(SchemaId id, int depth, Members* out) {
  const SchemaNode& n = schema_->node(id);
  out->required.insert(out->required.end(), n.required.begin(), n.required.end());
  for (const auto& [name, schema] : n.properties) {
    if ((types_of(schema) & (kArrayBit | kObjectBit)) != 0) continue;
    out->scalars.emplace(name, schema);
  }
  if (depth == 0) return;
  if (n.ref != kNoSchema) add_members(n.ref, depth - 1, out);
  for (const SchemaId s : n.all_of) add_members(s, depth - 1, out);
}

const SchemaLanguage::Members& SchemaLanguage::members(SchemaId id) {
  const auto [it, is_new] = members_.emplace(id, Members());
  if (is_new) {
    add_members(id, kMaxFollowed, &it->second);
    std::sort(it->second.required.begin(), it->second.required.end());
  }
  return it->second;
}

// Whether a member that one of them asks for has other values in the other: the usual way to tell alternatives apart.
bool SchemaLanguage::told_apart(SchemaId a, SchemaId b) {
  const Members &x = members(a), &y = members(b);
  const auto is_required = [](const Members& m, const std::string& name) {
    return std::binary_search(m.required.begin(), m.required.end(), name);
  };
  return std::any_of(x.scalars.begin(), x.scalars.end(), [&](const auto& own) {
    if (!is_required(x, own.first) && !is_required(y, own.first)) return false;
    const auto found = y.scalars.find(own.first);
    if (found == y.scalars.end()) return false;
    const Listed &p = listed(own.second), &q = listed(found->second);
    if (!p.any || !q.any) return scalar_possible(goal({{own.second, false}, {found->second, false}})) == false;
    return std::none_of(p.values.begin(), p.values.end(), [&](const std::string& value) {
      return std::binary_search(q.values.begin(), q.values.end(), value);
    });
  });
}

// Whether it is plain to see that an object without members meets the schema.
bool SchemaLanguage::takes_empty_object(SchemaId id, int depth) const {
  const SchemaNode& n = schema_->node(id);
  if (n.is_false || (n.has_types && (n.types & kObjectBit) == 0) || n.has_values || !n.required.empty() ||
      n.min_properties > 0 || n.has_one_of || n.not_ != kNoSchema || n.if_ != kNoSchema || depth == 0)
    return false;
  const auto takes = [&](SchemaId s) { return takes_empty_object(s, depth - 1); };
  return (n.ref == kNoSchema || takes(n.ref)) && std::all_of(n.all_of.begin(), n.all_of.end(), takes) &&
         (!n.has_any_of || std::any_of(n.any_of.begin(), n.any_of.end(), takes));
}

bool SchemaLanguage::disjoint(SchemaId a, SchemaId b, uint8_t type) {
  if (type == kObjectBit) {
    if (takes_empty_object(a, kMaxFollowed) && takes_empty_object(b, kMaxFollowed)) return false;
    if (told_apart(a, b)) return true;
  }
  const bool outer = std::exchange(annotating_, false);
  const GoalId id = goal({{a, false}, {b, false}});
  bool possible = false;
  // What is still open is not known to be disjoint.
  const size_t before = std::exchange(lowest_open_, SIZE_MAX), expanding = std::exchange(lowest_expanding_, SIZE_MAX);
  if (type == kObjectBit) {
    for (const ShapeId s : std::vector<ShapeId>(objects(id))) possible = possible || object_possible(object(s));
  } else {
    for (const ShapeId s : std::vector<ShapeId>(arrays(id))) possible = possible || array_possible(array(s));
  }
  const bool certain = lowest_open_ == SIZE_MAX && lowest_expanding_ == SIZE_MAX;
  lowest_expanding_ = std::min(expanding, lowest_expanding_);
  lowest_open_ = std::min(before, lowest_open_);
  annotating_ = outer;
  return !possible && certain;
}

SchemaLanguage::Cases SchemaLanguage::expand_goal(GoalId id, uint8_t type) {
  Cases cases = {Case()};
  for (const SchemaLiteral l : std::vector<SchemaLiteral>(goals_[id])) {
    if (cases.empty()) break;
    cases = both(std::move(cases), expand(l, type));
  }
  return cases;
}

const std::vector<ShapeId>& SchemaLanguage::objects(GoalId id) {
  if (const auto it = object_shapes_.find(id); it != object_shapes_.end()) return it->second;
  const size_t before = std::exchange(lowest_expanding_, SIZE_MAX);
  std::vector<ShapeId> shapes;
  for (Case& c : expand_goal(id, kObjectBit)) shapes.push_back(make_object(std::move(c.object), goal_places_[id]));
  // What rests on an assumption is kept for as long as it is looked at.
  const bool certain = settled(expanding_.size(), before);
  if (certain) return object_shapes_.emplace(id, std::move(shapes)).first->second;
  assumed_shapes_.push_back(std::make_unique<std::vector<ShapeId>>(std::move(shapes)));
  return *assumed_shapes_.back();
}

const std::vector<ShapeId>& SchemaLanguage::arrays(GoalId id) {
  if (const auto it = array_shapes_.find(id); it != array_shapes_.end()) return it->second;
  const size_t before = std::exchange(lowest_expanding_, SIZE_MAX);
  std::vector<ShapeId> shapes;
  for (Case& c : expand_goal(id, kArrayBit)) shapes.push_back(make_array(std::move(c.array), goal_places_[id]));
  // What rests on an assumption is kept for as long as it is looked at.
  const bool certain = settled(expanding_.size(), before);
  if (certain) return array_shapes_.emplace(id, std::move(shapes)).first->second;
  assumed_shapes_.push_back(std::make_unique<std::vector<ShapeId>>(std::move(shapes)));
  return *assumed_shapes_.back();
}

// --- Shapes ----------------------------------------------------------------------------------------------------------

SchemaId SchemaLanguage::property(SchemaId id, std::string_view name) {
  const auto& properties = schema_->node(id).properties;
  if (properties.size() < 16) {
    const auto it = std::find_if(properties.begin(), properties.end(), [&](const auto& p) { return p.first == name; });
    return it == properties.end() ? kNoSchema : it->second;
  }
  auto& index = properties_[id];
  if (index.empty()) index.insert(properties.begin(), properties.end());
  const auto it = index.find(name);
  return it == index.end() ? kNoSchema : it->second;
}

std::vector<SchemaLiteral> SchemaLanguage::literals_of_name(const ObjectRules& rules, std::string_view name) {
  std::vector<SchemaLiteral> literals;
  const auto in_scope = [&](SchemaId id, std::vector<SchemaLiteral>* out) {
    if (id < kNoSchema) return true;
    const SchemaNode& n = schema_->node(id);
    bool matched = false;
    if (const SchemaId schema = property(id, name); schema != kNoSchema) {
      if (out != nullptr) out->push_back({schema, false});
      matched = true;
    }
    for (const auto& [pattern, schema] : n.pattern_properties) {
      if (!matches(pattern, name)) continue;
      if (out != nullptr) out->push_back({schema, false});
      matched = true;
    }
    if (matched) return true;
    if (n.additional_properties != kNoSchema && out != nullptr) out->push_back({n.additional_properties, false});
    return n.additional_properties != kNoSchema;
  };
  for (const SchemaId s : rules.scopes) in_scope(s, &literals);
  for (const auto& [key, literal] : rules.named) {
    if (key == name) literals.push_back(literal);
  }
  for (const ObjectRules::Rest& rest : rules.rests) {
    if (std::none_of(rest.scopes.begin(), rest.scopes.end(), [&](SchemaId s) { return in_scope(s, nullptr); })) {
      literals.push_back(rest.value);
    }
  }
  return literals;
}

ShapeId SchemaLanguage::make_object(ObjectRules rules, PlaceId place) {
  simplify(&rules);
  // One shape for the same rules, however they came about.
  const auto sort = [](auto* list) {
    std::sort(list->begin(), list->end());
    list->erase(std::unique(list->begin(), list->end()), list->end());
  };
  sort(&rules.scopes);
  sort(&rules.named);
  sort(&rules.required);
  sort(&rules.names);
  sort(&rules.dependencies);
  sort(&rules.clauses);
  std::vector<uint32_t> key;
  const auto add_count = [&](int64_t n) {
    key.push_back(static_cast<uint32_t>(n));
    key.push_back(static_cast<uint32_t>(static_cast<uint64_t>(n) >> 32));
  };
  const auto add_name = [&](const std::string& name) {
    key.push_back(name_ids_.emplace(name, static_cast<uint32_t>(name_ids_.size())).first->second);
  };
  const auto add_literal = [&](SchemaLiteral l) {
    key.push_back(static_cast<uint32_t>(l.schema));
    key.push_back(l.negative ? 1 : 0);
  };
  const auto add_list = [&](const auto& list, const auto& add_one) {
    key.push_back(static_cast<uint32_t>(list.size()));
    for (const auto& one : list) add_one(one);
  };
  const auto add_id = [&](SchemaId id) { key.push_back(static_cast<uint32_t>(id)); };
  add_list(rules.scopes, add_id);
  add_list(rules.named, [&](const auto& n) {
    add_name(n.first);
    add_literal(n.second);
  });
  add_list(rules.required, add_name);
  add_count(rules.min);
  add_count(rules.max);
  add_list(rules.names, add_literal);
  add_list(rules.dependencies, add_id);
  add_list(rules.clauses, [&](const ObjectRules::Clause& clause) {
    add_list(clause, [&](const ObjectRules::Option& o) {
      key.push_back(static_cast<uint32_t>(o.kind));
      add_name(o.name);
      key.push_back(o.pattern);
      key.push_back(static_cast<uint32_t>(o.scope));
      add_literal(o.value);
      add_count(o.count);
    });
  });
  add_list(rules.rests, [&](const ObjectRules::Rest& r) {
    add_list(r.scopes, add_id);
    add_literal(r.value);
  });
  key.push_back(place);
  if (const auto it = object_ids_.find(key); it != object_ids_.end()) return it->second;

  auto shape = std::make_unique<ObjectShape>();
  shape->place = place;
  std::set<std::string> names(rules.required.begin(), rules.required.end());
  std::set<RegexId> patterns;
  const auto note = [&](SchemaId id) {
    if (id < kNoSchema) return;
    const SchemaNode& n = schema_->node(id);
    for (const auto& [name, schema] : n.properties) names.insert(name);
    for (const auto& [pattern, schema] : n.pattern_properties) patterns.insert(pattern);
  };
  for (const SchemaId s : rules.scopes) note(s);
  for (const auto& [name, literal] : rules.named) names.insert(name);
  for (const ObjectRules::Rest& rest : rules.rests) {
    for (const SchemaId s : rest.scopes) note(s);
  }
  for (const ObjectRules::Clause& clause : rules.clauses) {
    for (const ObjectRules::Option& o : clause) {
      if (o.kind <= ObjectRules::Option::Kind::kMember) names.insert(o.name);
      if (o.kind == ObjectRules::Option::Kind::kPattern) patterns.insert(o.pattern);
      if (o.kind == ObjectRules::Option::Kind::kAdditional) note(o.scope);
    }
  }
  if (rules.clauses.size() > kMaxClauses)
    give_up(fmt::format("{}: more than {} conditions on the members of one object", place_of(rules), kMaxClauses));
  for (const SchemaId s : rules.dependencies) {
    for (const auto& [name, needed] : schema_->node(s).dependent_required) {
      names.insert(name);
      names.insert(needed.begin(), needed.end());
    }
  }
  // Where names are few they are all known.
  const auto note_finite = [&](RegexId language) {
    const auto texts = pool().enumerate(language, kMaxNames);
    const auto is_ascii = [](const std::string& t) {
      return std::all_of(t.begin(), t.end(), [](char c) { return c >= ' ' && c <= '~'; });
    };
    if (texts && std::all_of(texts->begin(), texts->end(), is_ascii)) names.insert(texts->begin(), texts->end());
  };
  for (const RegexId pattern : patterns) note_finite(pattern);
  if (!rules.names.empty()) {
    std::vector<RegexId> parts;
    for (const SchemaLiteral l : rules.names) parts.push_back(language(l, kStringBit));
    note_finite(pool().conj(std::move(parts)));
  }
  const std::vector<std::string_view>& order = places_.names(place);
  names.insert(order.begin(), order.end());
  shape->names.assign(names.begin(), names.end());
  shape->patterns.assign(patterns.begin(), patterns.end());
  if (shape->patterns.size() > kMaxPatterns)
    give_up(fmt::format("{}: more than {} patternProperties of one object", place_of(rules), kMaxPatterns));
  const std::set<std::string> required(rules.required.begin(), rules.required.end());
  for (const std::string& name : shape->names) {
    shape->goals.push_back(goal(literals_of_name(rules, name), places_.member(place, name)));
    shape->required.push_back(required.contains(name));
  }
  shape->possible.assign(shape->names.size(), -1);
  const auto index_of = [&](const std::string& name) {
    return static_cast<uint32_t>(std::lower_bound(shape->names.begin(), shape->names.end(), name) -
                                 shape->names.begin());
  };
  if (!order.empty()) shape->rank.assign(shape->names.size(), ObjectShape::kUnranked);
  for (size_t i = 0; i < order.size(); ++i) shape->rank[index_of(std::string(order[i]))] = static_cast<uint32_t>(i);
  if (!rules.dependencies.empty()) {
    shape->needs.resize(shape->names.size());
    for (const SchemaId s : rules.dependencies) {
      for (const auto& [name, needed] : schema_->node(s).dependent_required) {
        for (const std::string& other : needed) shape->needs[index_of(name)].push_back(index_of(other));
      }
    }
  }
  shape->in_clause.assign(shape->names.size(), false);
  if (!rules.clauses.empty() || !shape->needs.empty()) shape->in_clause = shape->required;
  for (const std::vector<uint32_t>& others : shape->needs) {
    if (!others.empty()) shape->in_clause[static_cast<size_t>(&others - shape->needs.data())] = true;
    for (const uint32_t other : others) shape->in_clause[other] = true;
  }
  for (const ObjectRules::Clause& clause : rules.clauses) {
    std::vector<uint32_t>& places = shape->clause_names.emplace_back();
    for (const ObjectRules::Option& o : clause) {
      const bool is_named = o.kind <= ObjectRules::Option::Kind::kMember;
      places.push_back(is_named ? index_of(o.name) : UINT32_MAX);
      if (is_named) shape->in_clause[places.back()] = true;
    }
  }
  shape->rules = std::move(rules);
  objects_.push_back(std::move(shape));
  const auto id = static_cast<ShapeId>(objects_.size()) - 1;
  object_ids_.emplace(std::move(key), id);
  return id;
}

ShapeId SchemaLanguage::make_array(ArrayRules rules, PlaceId place) {
  auto shape = std::make_unique<ArrayShape>();
  int64_t prefix = places_.prefix(place);
  for (const SchemaId s : rules.scopes)
    prefix = std::max(prefix, static_cast<int64_t>(schema_->node(s).prefix_items.size()));
  for (const auto& [index, literal] : rules.at) prefix = std::max(prefix, index + 1);
  for (const ArrayRules::Rest& rest : rules.rests) prefix = std::max(prefix, rest.from);
  shape->prefix = static_cast<size_t>(prefix);
  std::vector<SchemaLiteral> rest_literals;
  for (const ArrayRules::Rest& rest : rules.rests) {
    if (rest.unless.empty()) {
      rest_literals.push_back(rest.value);
      continue;
    }
    std::vector<SchemaId> any = {rest.value.schema};
    for (const SchemaLiteral l : rest.unless) any.push_back(l.schema);
    rest_literals.push_back({schema_->add_any_of(std::move(any)), false});
  }
  for (int64_t i = 0; i <= prefix; ++i) {
    std::vector<SchemaLiteral> literals;
    for (const SchemaId s : rules.scopes) {
      const SchemaNode& n = schema_->node(s);
      if (i < static_cast<int64_t>(n.prefix_items.size())) {
        literals.push_back({n.prefix_items[static_cast<size_t>(i)], false});
      } else if (n.items != kNoSchema) {
        literals.push_back({n.items, false});
      }
    }
    for (const auto& [index, literal] : rules.at) {
      if (index == i) literals.push_back(literal);
    }
    for (size_t r = 0; r < rules.rests.size(); ++r) {
      if (i >= rules.rests[r].from) literals.push_back(rest_literals[r]);
    }
    shape->goals.push_back(goal(std::move(literals), places_.item(place, i)));
  }
  shape->rules = std::move(rules);
  arrays_.push_back(std::move(shape));
  return static_cast<ShapeId>(arrays_.size()) - 1;
}

uint64_t SchemaLanguage::match(const ObjectShape& shape, std::string_view name) {
  uint64_t matched = 0;
  for (size_t i = 0; i < shape.patterns.size(); ++i) {
    if (matches(shape.patterns[i], name)) matched |= uint64_t{1} << i;
  }
  return matched;
}

GoalId SchemaLanguage::other_goal(ObjectShape& shape, uint64_t matched, PlaceId place) {
  if (const auto it = shape.other_goals.find({matched, place}); it != shape.other_goals.end()) return it->second;
  std::vector<SchemaLiteral> literals;
  const auto is_matched = [&](RegexId pattern) {
    const auto at = std::lower_bound(shape.patterns.begin(), shape.patterns.end(), pattern) - shape.patterns.begin();
    return (matched >> at & 1) != 0;
  };
  const auto in_scope = [&](SchemaId id, std::vector<SchemaLiteral>* out) {
    if (id < kNoSchema) return true;
    const SchemaNode& n = schema_->node(id);
    bool any = false;
    for (const auto& [pattern, schema] : n.pattern_properties) {
      if (!is_matched(pattern)) continue;
      if (out != nullptr) out->push_back({schema, false});
      any = true;
    }
    if (any) return true;
    if (n.additional_properties != kNoSchema && out != nullptr) out->push_back({n.additional_properties, false});
    return n.additional_properties != kNoSchema;
  };
  for (const SchemaId s : shape.rules.scopes) in_scope(s, &literals);
  for (const ObjectRules::Rest& rest : shape.rules.rests) {
    if (std::none_of(rest.scopes.begin(), rest.scopes.end(), [&](SchemaId s) { return in_scope(s, nullptr); })) {
      literals.push_back(rest.value);
    }
  }
  const GoalId id = goal(std::move(literals), place);
  shape.other_goals.emplace(std::pair(matched, place), id);
  return id;
}

RegexId SchemaLanguage::other_names(ObjectShape& shape) {
  if (shape.other_known) return shape.other_names;
  std::vector<RegexId> any;
  if (shape.patterns.empty()) {
    if (satisfiable(other_goal(shape, 0))) any.push_back(pool().any_text());
  } else if (shape.patterns.size() > kMaxSubsets) {
    // Which patterns match together is left to the end of the name.
    any.push_back(pool().any_text());
  } else {
    for (uint64_t subset = 0; subset < uint64_t{1} << shape.patterns.size(); ++subset) {
      std::vector<RegexId> all;
      for (size_t i = 0; i < shape.patterns.size(); ++i) {
        all.push_back((subset >> i & 1) != 0 ? shape.patterns[i] : pool().negate(shape.patterns[i]));
      }
      if (satisfiable(other_goal(shape, subset))) any.push_back(pool().conj(std::move(all)));
    }
  }
  std::vector<RegexId> parts = {pool().alt(std::move(any))};
  for (const SchemaLiteral l : shape.rules.names) parts.push_back(language(l, kStringBit));
  RegexId id = pool().conj(std::move(parts));
  if (id != pool().any_text() && id != pool().none()) {
    std::vector<RegexId> own;
    for (const std::string& name : shape.names) own.push_back(pool().literal(name));
    id = pool().conj({id, pool().negate(pool().alt(std::move(own)))});
    if (!pool().live(id)) id = pool().none();
  }
  shape.other_names = id;
  shape.other_known = true;
  return id;
}

bool SchemaLanguage::name_possible(ObjectShape& shape, size_t name) {
  if (shape.possible[name] >= 0) return shape.possible[name] != 0;
  bool possible = true;
  for (const SchemaLiteral l : shape.rules.names)
    possible = possible && matches(language(l, kStringBit), shape.names[name]);
  const size_t before = std::exchange(lowest_open_, SIZE_MAX);
  possible = possible && satisfiable(shape.goals[name]);
  if (possible || lowest_open_ == SIZE_MAX) shape.possible[name] = possible ? 1 : 0;
  lowest_open_ = std::min(before, lowest_open_);
  return possible;
}

// --- Whether there is a value ----------------------------------------------------------------------------------------

bool SchemaLanguage::object_possible(ObjectShape& shape) {
  return completable(shape, std::vector<uint64_t>((shape.names.size() + 63) / 64), 0, 0);
}

bool SchemaLanguage::complete(const ObjectShape& shape, const std::vector<uint64_t>& used, int64_t count,
                              uint64_t met) const {
  using Kind = ObjectRules::Option::Kind;
  if (count < shape.rules.min || count > shape.rules.max) return false;
  const auto is_used = [&](size_t i) { return (used[i >> 6] >> (i & 63) & 1) != 0; };
  for (size_t i = 0; i < shape.names.size(); ++i) {
    if (shape.required[i] && !is_used(i)) return false;
    if (shape.needs.empty() || !is_used(i)) continue;
    for (const uint32_t other : shape.needs[i]) {
      if (!is_used(other)) return false;
    }
  }
  for (size_t c = 0; c < shape.rules.clauses.size(); ++c) {
    if ((met >> c & 1) != 0) continue;
    const ObjectRules::Clause& clause = shape.rules.clauses[c];
    bool holds = false;
    for (size_t k = 0; k < clause.size() && !holds; ++k) {
      const ObjectRules::Option& o = clause[k];
      holds = (o.kind == Kind::kAbsent && !is_used(shape.clause_names[c][k])) ||
              (o.kind == Kind::kAtMost && count <= o.count) || (o.kind == Kind::kAtLeast && count >= o.count);
    }
    if (!holds) return false;
  }
  return true;
}

uint32_t SchemaLanguage::reached(const ObjectShape& shape, const std::vector<uint64_t>& used, int64_t count) {
  uint32_t last = 0;
  int64_t named = 0;
  for (size_t w = 0; w < used.size() && !shape.rank.empty(); ++w) {
    for (uint64_t bits = used[w]; bits != 0; bits &= bits - 1, ++named)
      last = std::max(last, shape.rank[w * 64 + static_cast<size_t>(std::countr_zero(bits))]);
  }
  return !shape.rank.empty() && named < count ? ObjectShape::kUnranked : last;
}

bool SchemaLanguage::completable(ObjectShape& shape, const std::vector<uint64_t>& used, int64_t count, uint64_t met) {
  using Kind = ObjectRules::Option::Kind;
  const auto is_used = [&](size_t i) { return (used[i >> 6] >> (i & 63) & 1) != 0; };
  // What is decided of the members to come: which have to, which may not, and what else their values have to be.
  struct Plan {
    std::vector<int8_t> names;  // 1: has to come, -1: may not
    std::map<uint32_t, std::vector<SchemaLiteral>> values;
    int64_t needed = 0, others = 0, min = 0, max = INT64_MAX;
  };
  const auto require = [&](Plan* plan, uint32_t name) {
    std::vector<uint32_t> open = {name};
    while (!open.empty()) {
      const uint32_t i = open.back();
      open.pop_back();
      if (!is_used(i)) {
        if (plan->names[i] == 1) continue;
        if (plan->names[i] < 0 || !name_possible(shape, i)) return false;
        plan->names[i] = 1;
        ++plan->needed;
      }
      if (shape.needs.empty()) continue;
      for (const uint32_t other : shape.needs[i]) {
        if (!is_used(other) && plan->names[other] != 1) open.push_back(other);
      }
    }
    return true;
  };
  Plan plan{.names = std::vector<int8_t>(shape.names.size()), .min = shape.rules.min, .max = shape.rules.max};
  if (!shape.rank.empty()) {
    const uint32_t last = reached(shape, used, count);
    for (size_t i = 0; i < shape.names.size(); ++i) {
      if (shape.rank[i] < last && !is_used(i)) plan.names[i] = -1;
    }
  }
  for (uint32_t i = 0; i < shape.names.size(); ++i) {
    const bool has_needs = !shape.needs.empty() && !shape.needs[i].empty() && is_used(i);
    if ((shape.required[i] || has_needs) && !require(&plan, i)) return false;
  }
  const auto fits = [&](const Plan& p) {
    if (count + p.needed + (p.needed == 0 ? std::min<int64_t>(p.others, 1) : 0) > p.max) return false;
    if (count + p.needed >= p.min) return true;
    if (other_names(shape) != pool().none()) return true;
    int64_t available = 0;
    for (size_t i = 0; i < shape.names.size(); ++i)
      available += p.names[i] == 0 && !is_used(i) && name_possible(shape, i);
    return count + p.needed + available >= p.min;
  };
  if (!fits(plan)) return false;
  if (shape.rules.clauses.empty()) return true;
  // Most often what has to come is enough, and names beyond the shape's where there have to be more.
  const int64_t total = std::max(count + plan.needed, plan.min);
  const auto holds = [&](size_t c) {
    for (size_t k = 0; k < shape.rules.clauses[c].size(); ++k) {
      const ObjectRules::Option& o = shape.rules.clauses[c][k];
      const uint32_t name = shape.clause_names[c][k];
      switch (o.kind) {
        case Kind::kAbsent:
          if (!is_used(name) && plan.names[name] != 1) return true;
          break;
        case Kind::kMember:
          if (o.value.schema == kNoSchema && plan.names[name] == 1) return true;
          break;
        case Kind::kAtMost:
          if (total <= o.count) return true;
          break;
        case Kind::kAtLeast:
          if (total >= o.count) return true;
          break;
        default: break;
      }
    }
    return false;
  };
  if (total == count + plan.needed || other_names(shape) != pool().none()) {
    bool all = true;
    for (size_t c = 0; c < shape.rules.clauses.size() && all; ++c) all = (met >> c & 1) != 0 || holds(c);
    if (all) return true;
  }
  // What was found before; not while satisfiable() rests on assumptions.
  std::vector<uint64_t> key = used;
  key.insert(key.end(), {static_cast<uint64_t>(count), met});
  if (const auto it = shape.completable.find(key); it != shape.completable.end()) return it->second;
  const size_t before = std::exchange(lowest_open_, SIZE_MAX);

  // A plan with one more option; nullopt if it cannot be.
  const auto with = [&](const Plan& p, size_t c, size_t k) -> std::optional<Plan> {
    const ObjectRules::Option& o = shape.rules.clauses[c][k];
    const uint32_t name = shape.clause_names[c][k];
    Plan next = p;
    switch (o.kind) {
      case Kind::kAbsent: next.names[name] = -1; break;
      case Kind::kMember:
        if (!require(&next, name)) return std::nullopt;
        if (o.value.schema != kNoSchema) {
          std::vector<SchemaLiteral>& values = next.values[name];
          values.push_back(o.value);
          if (!satisfiable(goal_with(shape.goals[name], values))) return std::nullopt;
        }
        break;
      case Kind::kAtMost: next.max = std::min(next.max, o.count); break;
      case Kind::kAtLeast: next.min = std::max(next.min, o.count); break;
      default:
        ++next.others;
        // A member with a name may do, too, whatever else it is for.
        for (uint32_t i = 0; i < shape.names.size(); ++i) {
          if (!is_used(i) && next.names[i] >= 0 && meets(shape, i, o))
            return fits(next) ? std::optional(next) : std::nullopt;
        }
        if (!met_by_other(shape, c, k)) return std::nullopt;
        break;
    }
    return fits(next) ? std::optional(std::move(next)) : std::nullopt;
  };
  // Whether the plan has the option already, and whether it can still have it as far as names go.
  const auto has = [&](const Plan& p, size_t c, size_t k) {
    const ObjectRules::Option& o = shape.rules.clauses[c][k];
    const uint32_t name = shape.clause_names[c][k];
    if (o.kind == Kind::kAbsent) return !is_used(name) && p.names[name] == -1;
    if (o.kind != Kind::kMember || is_used(name) || p.names[name] != 1) return false;
    if (o.value.schema == kNoSchema) return true;
    const auto it = p.values.find(name);
    return it != p.values.end() && std::find(it->second.begin(), it->second.end(), o.value) != it->second.end();
  };
  const auto open_to = [&](const Plan& p, size_t c, size_t k) {
    const ObjectRules::Option& o = shape.rules.clauses[c][k];
    const uint32_t name = shape.clause_names[c][k];
    if (o.kind == Kind::kAbsent) return !is_used(name) && p.names[name] != 1;
    return o.kind != Kind::kMember || (!is_used(name) && p.names[name] != -1);
  };
  int fuel = kMaxPlans;
  const std::function<bool(const Plan&)> solve = [&](const Plan& p) {
    // The clause with the fewest ways next: one that has none ends the search, one that has one is no choice.
    size_t best = SIZE_MAX, fewest = SIZE_MAX;
    for (size_t c = 0; c < shape.rules.clauses.size(); ++c) {
      if ((met >> c & 1) != 0) continue;
      size_t ways = 0;
      bool done = false;
      for (size_t k = 0; k < shape.rules.clauses[c].size() && !done; ++k) {
        done = has(p, c, k);
        ways += open_to(p, c, k) ? 1 : 0;
      }
      if (!done && ways < fewest) {
        best = c;
        fewest = ways;
      }
    }
    if (best == SIZE_MAX) return true;
    for (size_t k = 0; k < shape.rules.clauses[best].size(); ++k) {
      if (!open_to(p, best, k)) continue;
      if (--fuel < 0) return true;
      const std::optional<Plan> next = with(p, best, k);
      if (next && solve(*next)) return true;
    }
    return false;
  };
  const bool found = solve(plan);
  if (fuel < 0) ++given_up_;
  if (lowest_open_ == SIZE_MAX) {
    if (shape.completable.size() > kMaxRemembered) shape.completable.clear();
    shape.completable.emplace(std::move(key), found);
  }
  lowest_open_ = std::min(before, lowest_open_);
  return found;
}

bool SchemaLanguage::meets(ObjectShape& shape, uint32_t name, const ObjectRules::Option& o) {
  using Kind = ObjectRules::Option::Kind;
  if (!name_possible(shape, name)) return false;
  const std::string& text = shape.names[name];
  if (o.kind == Kind::kName) return matches(strings(goal({o.value})), text);
  if (o.kind == Kind::kPattern && !matches(o.pattern, text)) return false;
  if (o.kind == Kind::kAdditional) {
    const SchemaNode& n = schema_->node(o.scope);
    if (property(o.scope, text) != kNoSchema) return false;
    for (const auto& [pattern, schema] : n.pattern_properties) {
      if (matches(pattern, text)) return false;
    }
  }
  return o.value.schema == kNoSchema || satisfiable(goal_with(shape.goals[name], {o.value}));
}

bool SchemaLanguage::met_by_other(ObjectShape& shape, size_t clause, size_t option) {
  if (const auto it = shape.by_other.find({clause, option}); it != shape.by_other.end()) return it->second;
  using Kind = ObjectRules::Option::Kind;
  const ObjectRules::Option& o = shape.rules.clauses[clause][option];
  const RegexId others = other_names(shape);
  if (others == pool().none()) return shape.by_other[{clause, option}] = false;
  const size_t before = std::exchange(lowest_open_, SIZE_MAX);
  bool possible = false;
  if (o.kind == Kind::kName) {
    possible = pool().live(pool().conj({others, strings(goal({o.value}))}));
  } else if (shape.patterns.size() > kMaxSubsets) {
    possible = true;  // not looked at
  } else {
    for (uint64_t subset = 0; subset < uint64_t{1} << shape.patterns.size() && !possible; ++subset) {
      std::vector<RegexId> name = {others};
      bool applies = o.kind == Kind::kAdditional;
      for (size_t i = 0; i < shape.patterns.size(); ++i) {
        const bool matched = (subset >> i & 1) != 0;
        name.push_back(matched ? shape.patterns[i] : pool().negate(shape.patterns[i]));
        if (!matched) continue;
        if (o.kind == Kind::kPattern) {
          applies = applies || shape.patterns[i] == o.pattern;
        } else {
          for (const auto& [pattern, schema] : schema_->node(o.scope).pattern_properties)
            applies = applies && pattern != shape.patterns[i];
        }
      }
      if (!applies) continue;
      const GoalId value = other_goal(shape, subset);
      possible = satisfiable(o.value.schema == kNoSchema ? value : goal_with(value, {o.value})) &&
                 pool().live(pool().conj(std::move(name)));
    }
  }
  if (possible || lowest_open_ == SIZE_MAX) shape.by_other.emplace(std::pair(clause, option), possible);
  lowest_open_ = std::min(before, lowest_open_);
  return possible;
}

bool SchemaLanguage::array_possible(ArrayShape& shape) {
  const ArrayRules& rules = shape.rules;
  for (int64_t i = 0; i < std::min<int64_t>(rules.min, static_cast<int64_t>(shape.prefix) + 1); ++i) {
    if (!satisfiable(item_goal(shape, i))) return false;
  }
  // Items that have to come are alike behind the prefix.
  const int64_t alike = rules.min - static_cast<int64_t>(shape.prefix);
  if (rules.unique && alike > 1) {
    const auto& values = few_values(shape.goals.back());
    if (values && static_cast<int64_t>(values->size()) < alike) return false;
  }
  for (const ArrayRules::Contains& c : rules.contains) {
    if (!contains_possible(shape, 0, c, 0)) return false;
  }
  for (const ArrayRules::Witness& w : rules.witnesses) {
    if (!witness_possible(shape, 0, w)) return false;
  }
  return counts_possible(shape, 0, std::vector<int64_t>(rules.contains.size()), 0);
}

// With n items the number of those that count can be anything from all that have to, to all that may; both grow with n.
// So the least n that is long enough and has enough of them decides.
bool SchemaLanguage::contains_possible(ArrayShape& shape, int64_t count, const ArrayRules::Contains& c,
                                       int64_t contained) {
  const ArrayRules& rules = shape.rules;
  const bool bounded = c.max != INT64_MAX;
  const int64_t least = std::max<int64_t>(0, c.min - contained), most = bounded ? c.max - contained : INT64_MAX;
  if (most < 0) return false;
  if (least == 0 && !bounded) return true;
  int64_t n = count, may = 0, must = 0;
  bool can = false, can_not = false;
  const auto look_at = [&](int64_t index) {
    const GoalId goal = item_goal(shape, index);
    can = satisfiable(goal_with(goal, {c.value}));
    can_not = satisfiable(bounded ? goal_with(goal, {{c.value.schema, !c.value.negative}}) : goal);
  };
  const auto prefix = static_cast<int64_t>(shape.prefix);
  for (; n < prefix && (n < rules.min || may < least); ++n) {
    if (n == rules.max) return false;
    look_at(n);
    if (!can && !can_not) return false;
    may += can ? 1 : 0;
    must += can_not ? 0 : 1;
  }
  const int64_t rest = std::max({int64_t{0}, rules.min - n, least - may});
  if (rest > 0) {
    if (rest > rules.max - n) return false;
    look_at(n);
    if ((!can && !can_not) || (!can && may < least)) return false;
    must += can_not ? 0 : rest;
  }
  return must <= most;
}

bool SchemaLanguage::counts_possible(ArrayShape& shape, int64_t count, const std::vector<int64_t>& contained,
                                     uint64_t witnessed) {
  const ArrayRules& rules = shape.rules;
  const size_t n = rules.contains.size(), all = n + rules.witnesses.size();
  if (all < 2 || all > kMaxCounts) return true;
  const auto prefix = static_cast<int64_t>(shape.prefix);
  // What an item can be counted for: the sets of rules that it can meet while it fails the others. A rule without an
  // upper bound need not be failed.
  const auto ways_of = [&](int64_t index) {
    std::vector<uint64_t> ways;
    for (uint64_t way = 0; way < uint64_t{1} << all; ++way) {
      std::vector<SchemaLiteral> more;
      for (size_t i = 0; i < all; ++i) {
        const SchemaLiteral value = i < n ? rules.contains[i].value : rules.witnesses[i - n].value;
        if ((way >> i & 1) != 0) {
          more.push_back(value);
        } else if (i < n && rules.contains[i].max != INT64_MAX) {
          more.push_back({value.schema, !value.negative});
        }
      }
      if (satisfiable(goal_with(item_goal(shape, index), more))) ways.push_back(way);
    }
    return ways;
  };
  // Breadth first over the counts, each as far as it matters, so that the first end is the shortest.
  std::vector<int64_t> begin(all);
  for (size_t i = 0; i < all; ++i) {
    const bool bounded = i < n && rules.contains[i].max != INT64_MAX;
    const int64_t most = i >= n ? 1 : bounded ? INT64_MAX : rules.contains[i].min;
    begin[i] = std::min(i < n ? contained[i] : static_cast<int64_t>(witnessed >> (i - n) & 1), most);
  }
  const auto done = [&](const std::vector<int64_t>& counts) {
    for (size_t i = 0; i < all; ++i) {
      if (counts[i] < (i < n ? rules.contains[i].min : 1)) return false;
    }
    return true;
  };
  std::set<std::vector<int64_t>> states = {begin};
  std::vector<uint64_t> ways;
  int fuel = kMaxPlans;
  for (int64_t index = count;; ++index) {
    if (index >= rules.min && std::any_of(states.begin(), states.end(), done)) return true;
    if (index >= rules.max || states.empty()) return false;
    if (ways.empty() || index <= prefix) ways = ways_of(index);
    std::set<std::vector<int64_t>> next;
    for (const std::vector<int64_t>& state : states) {
      for (const uint64_t way : ways) {
        if (--fuel < 0) return true;
        std::vector<int64_t> counts = state;
        bool fits = true;
        for (size_t i = 0; i < all; ++i) {
          if ((way >> i & 1) == 0 || (i >= n && index < rules.witnesses[i - n].from)) continue;
          const bool bounded = i < n && rules.contains[i].max != INT64_MAX;
          ++counts[i];
          if (!bounded) counts[i] = std::min(counts[i], i < n ? rules.contains[i].min : int64_t{1});
          fits = fits && (!bounded || counts[i] <= rules.contains[i].max);
        }
        if (fits) next.insert(std::move(counts));
      }
    }
    // Behind the prefix nothing but the number of items changes any more.
    if (next == states && index > prefix && index >= rules.min) return false;
    states = std::move(next);
  }
}

bool SchemaLanguage::witness_possible(ArrayShape& shape, int64_t count, const ArrayRules::Witness& w) {
  const auto prefix = static_cast<int64_t>(shape.prefix);
  for (int64_t i = count; i < shape.rules.max; ++i) {
    const GoalId goal = item_goal(shape, i);
    if (i >= w.from && satisfiable(goal_with(goal, {w.value}))) return true;
    if (!satisfiable(goal)) return false;
    // Items behind the prefix are alike.
    if (i >= prefix && i >= w.from) return false;
    if (i >= prefix) i = w.from - 1;
  }
  return false;
}

bool SchemaLanguage::few_scalars(GoalId id) {
  if (const auto it = few_scalars_.find(id); it != few_scalars_.end()) return it->second;
  const bool few = pool().enumerate(pool().conj({scalars(id), schema_->texts().one_each}), kMaxValues).has_value();
  return few_scalars_.emplace(id, few).first->second;
}

const std::optional<std::vector<std::string>>& SchemaLanguage::few_values(GoalId id) {
  if (const auto it = few_values_.find(id); it != few_values_.end()) return it->second;
  if (enumerating_.empty()) enumerated_ = 0;
  const size_t before = std::exchange(lowest_open_, SIZE_MAX), expanding = std::exchange(lowest_expanding_, SIZE_MAX);
  std::optional<Values> found;
  if (std::find(enumerating_.begin(), enumerating_.end(), id) == enumerating_.end()) {
    enumerating_.push_back(id);
    found = enumerate(id);
    enumerating_.pop_back();
  }
  const bool certain = lowest_open_ == SIZE_MAX && lowest_expanding_ == SIZE_MAX;
  lowest_open_ = std::min(before, lowest_open_);
  lowest_expanding_ = std::min(expanding, lowest_expanding_);
  // What rests on assumptions is not known, and within each other, goals may be more than the outermost one could look
  // at.
  static const std::optional<std::vector<std::string>> kMany;
  if (!certain || (!found && !enumerating_.empty())) return kMany;
  std::optional<std::vector<std::string>> values;
  if (found) {
    values.emplace();
    for (const auto& [canonical, value] : *found) values->push_back(canonical);
    if (!objects(id).empty() || !arrays(id).empty()) {
      std::vector<GoalId>& goals = value_goals_[id];
      for (auto& [canonical, value] : *found)
        goals.push_back(
            goal({{schema_->structured_constant(schema_->keep(std::move(value))), false}}, goal_places_[id]));
    }
  }
  return few_values_.emplace(id, std::move(values)).first->second;
}

const std::vector<GoalId>& SchemaLanguage::value_goals(GoalId id) {
  few_values(id);
  return value_goals_[id];
}

std::optional<SchemaLanguage::Values> SchemaLanguage::enumerate(GoalId id) {
  if (++enumerated_ > kMaxEnumerated) return std::nullopt;
  const auto texts = pool().enumerate(strings(id), kMaxValues);
  if (!texts) return std::nullopt;
  const bool is_structured = !objects(id).empty() || !arrays(id).empty();
  // Parts of constants that are made of them.
  if (is_structured || enumerating_.size() > 1) {
    if (!std::all_of(texts->begin(), texts->end(), [&](const std::string& t) { return pool().knows(t); }))
      return std::nullopt;
  }
  const auto others = pool().enumerate(pool().conj({scalars(id), schema_->texts().one_each}), kMaxValues);
  if (!others) return std::nullopt;
  Values values;
  for (const std::string& text : *texts) {
    JsonNode node{.type = JsonNode::Type::kString};
    node.text = text;
    std::string canonical = canonical_json(node);
    values.emplace(std::move(canonical), std::move(node));
  }
  for (const std::string& text : *others) {
    Result<JsonNode> node = parse_json_tree(text);
    if (node.ok()) values.emplace(canonical_json(*node), *std::move(node));
  }
  for (const ShapeId s : std::vector<ShapeId>(objects(id))) {
    if (!enumerate_objects(object(s), &values)) return std::nullopt;
  }
  for (const ShapeId s : std::vector<ShapeId>(arrays(id))) {
    if (!enumerate_arrays(array(s), &values)) return std::nullopt;
  }
  if (is_structured && values.size() > kMaxStructuredValues) return std::nullopt;
  return values;
}

bool SchemaLanguage::enumerate_objects(ObjectShape& shape, Values* out) {
  using Kind = ObjectRules::Option::Kind;
  // Mostly there is an end to it at once: some text may be anything.
  const auto is_infinite = [&](GoalId id) { return pool().infinite(strings(id)); };
  if (std::any_of(shape.goals.begin(), shape.goals.end(), is_infinite) || is_infinite(other_goal(shape, 0)))
    return false;
  if (!object_possible(shape)) return true;
  if (other_names(shape) != pool().none()) return false;
  for (const ObjectRules::Clause& clause : shape.rules.clauses) {
    for (const ObjectRules::Option& o : clause) {
      if (o.kind >= Kind::kPattern && o.kind <= Kind::kName) return false;
    }
  }
  std::vector<Values> choices;
  for (size_t i = 0; i < shape.names.size(); ++i) {
    choices.emplace_back();
    if (!name_possible(shape, i)) continue;
    std::optional<Values> values;
    if (std::find(enumerating_.begin(), enumerating_.end(), shape.goals[i]) != enumerating_.end()) return false;
    enumerating_.push_back(shape.goals[i]);
    values = enumerate(shape.goals[i]);
    enumerating_.pop_back();
    if (!values) return false;
    choices.back() = *std::move(values);
  }
  std::vector<uint64_t> used((shape.names.size() + 63) / 64);
  JsonNode value{.type = JsonNode::Type::kObject};
  const std::function<bool(size_t, uint64_t)> fill = [&](size_t i, uint64_t met) {
    if (++enumerated_ > kMaxEnumerated || out->size() > kMaxValues) return false;
    if (i == choices.size()) {
      if (complete(shape, used, static_cast<int64_t>(value.members.size()), met))
        out->emplace(canonical_json(value), value);
      return true;
    }
    if (!shape.required[i] && !fill(i + 1, met)) return false;
    used[i >> 6] |= uint64_t{1} << (i & 63);
    for (const auto& [canonical, own] : choices[i]) {
      uint64_t more = met;
      for (size_t c = 0; c < shape.rules.clauses.size(); ++c) {
        for (size_t k = 0; k < shape.rules.clauses[c].size(); ++k) {
          const ObjectRules::Option& o = shape.rules.clauses[c][k];
          if (o.kind != Kind::kMember || shape.clause_names[c][k] != i) continue;
          const auto* such = o.value.schema == kNoSchema ? nullptr : &few_values(goal_with(shape.goals[i], {o.value}));
          if (such != nullptr && !*such) return false;
          if (such == nullptr || std::binary_search((*such)->begin(), (*such)->end(), canonical))
            more |= uint64_t{1} << c;
        }
      }
      value.members.push_back({shape.names[i], own});
      const bool enough = fill(i + 1, more);
      value.members.pop_back();
      if (!enough) return false;
    }
    used[i >> 6] &= ~(uint64_t{1} << (i & 63));
    return true;
  };
  return fill(0, 0);
}

bool SchemaLanguage::enumerate_arrays(ArrayShape& shape, Values* out) {
  const ArrayRules& rules = shape.rules;
  std::vector<const std::optional<std::vector<std::string>>*> such;
  JsonNode value{.type = JsonNode::Type::kArray};
  std::vector<Values> choices;  // by index, the last for the rest
  for (const GoalId id : shape.goals) {
    if (static_cast<int64_t>(choices.size()) >= rules.max) break;
    choices.emplace_back();
    if (!satisfiable(id)) break;
    if (std::find(enumerating_.begin(), enumerating_.end(), id) != enumerating_.end()) return false;
    enumerating_.push_back(id);
    std::optional<Values> values = enumerate(id);
    enumerating_.pop_back();
    if (!values) return false;
    choices.back() = *std::move(values);
  }
  if (rules.max == INT64_MAX && !rules.unique && !choices.empty() && !choices.back().empty()) return false;
  const auto counts_for = [&](size_t index, const std::string& canonical, SchemaLiteral literal, bool* known) {
    const auto& values = few_values(goal_with(item_goal(shape, static_cast<int64_t>(index)), {literal}));
    *known = values.has_value();
    return values && std::binary_search(values->begin(), values->end(), canonical);
  };
  std::vector<std::string> items;
  const std::function<bool(std::vector<int64_t>, uint64_t)> fill = [&](std::vector<int64_t> contained, uint64_t met) {
    if (++enumerated_ > kMaxEnumerated || out->size() > kMaxValues) return false;
    const size_t index = items.size();
    bool whole =
        static_cast<int64_t>(index) >= rules.min && static_cast<size_t>(std::popcount(met)) == rules.witnesses.size();
    for (size_t c = 0; c < contained.size(); ++c)
      whole = whole && contained[c] >= rules.contains[c].min && contained[c] <= rules.contains[c].max;
    if (whole) out->emplace(canonical_json(value), value);
    if (static_cast<int64_t>(index) >= rules.max || choices.empty()) return true;
    for (const auto& [canonical, own] : choices[std::min(index, choices.size() - 1)]) {
      if (rules.unique && std::find(items.begin(), items.end(), canonical) != items.end()) continue;
      std::vector<int64_t> more = contained;
      uint64_t more_met = met;
      bool known = true;
      for (size_t c = 0; c < more.size() && known; ++c)
        more[c] += counts_for(index, canonical, rules.contains[c].value, &known) ? 1 : 0;
      for (size_t w = 0; w < rules.witnesses.size() && known; ++w) {
        if (static_cast<int64_t>(index) >= rules.witnesses[w].from &&
            counts_for(index, canonical, rules.witnesses[w].value, &known))
          more_met |= uint64_t{1} << w;
      }
      if (!known) return false;
      items.push_back(canonical);
      value.items.push_back(own);
      const bool enough = fill(std::move(more), more_met);
      items.pop_back();
      value.items.pop_back();
      if (!enough) return false;
    }
    return true;
  };
  return fill(std::vector<int64_t>(rules.contains.size()), 0);
}

bool SchemaLanguage::satisfiable(GoalId id) {
  if (const auto it = satisfiable_.find(id); it != satisfiable_.end()) return it->second;
  if (const auto it = std::find(open_.begin(), open_.end(), id); it != open_.end()) {
    lowest_open_ = std::min(lowest_open_, static_cast<size_t>(it - open_.begin()));
    return false;
  }
  if (const auto it = assumed_.find(id); it != assumed_.end()) {
    lowest_open_ = std::min(lowest_open_, it->second);
    return false;
  }
  if (open_.size() > kMaxOpen) return true;
  if (strings(id) != pool().none() || scalars(id) != pool().none()) {
    satisfiable_.emplace(id, true);
    return true;
  }
  const size_t depth = open_.size(), first_assumed = assumed_order_.size();
  open_.push_back(id);
  const size_t before = std::exchange(lowest_open_, SIZE_MAX);
  bool possible = false;
  for (const ShapeId s : std::vector<ShapeId>(arrays(id))) possible = possible || array_possible(array(s));
  for (const ShapeId s : std::vector<ShapeId>(objects(id))) possible = possible || object_possible(object(s));
  open_.pop_back();
  // "No" that rests on goals further out is kept as long as they are open. What rested on this one holds if it is "no"
  // for good, and has to be asked again if it is "yes".
  const bool settled = possible || lowest_open_ >= depth;
  if (settled) {
    for (size_t i = first_assumed; i < assumed_order_.size(); ++i) {
      if (!possible) satisfiable_.emplace(assumed_order_[i], false);
      assumed_.erase(assumed_order_[i]);
    }
    assumed_order_.resize(first_assumed);
    satisfiable_.emplace(id, possible);
  } else {
    assumed_.emplace(id, lowest_open_);
    assumed_order_.push_back(id);
  }
  lowest_open_ = std::min(before, settled ? SIZE_MAX : lowest_open_);
  return possible;
}

size_t SchemaLanguage::bytes() const {
  size_t total = schema_->pool().bytes() + goals_.size() * 100 + languages_.size() * 64;
  for (const auto& shape : objects_) {
    total += sizeof(ObjectShape) + shape->names.size() * (sizeof(std::string) + 24);
    for (const std::string& name : shape->names) total += name.capacity() > 15 ? name.capacity() : 0;
  }
  for (const auto& shape : arrays_) total += sizeof(ArrayShape) + shape->goals.size() * sizeof(GoalId);
  return total;
}

}  // namespace decant
