// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "constrain/schema.h"

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <unordered_map>

#include "base/printable.h"
#include "constrain/metaschema.h"
#include "constrain/number_language.h"
#include "constrain/uri.h"
#include "text/unicode.h"

namespace decant {
namespace {

constexpr size_t kMaxNodes = 200'000;
constexpr int kMaxDepth = 400;
constexpr int64_t kMaxCount = INT64_MAX;

// Where a keyword's value holds schemas.
enum class Holds { kOne, kList, kMap, kOneOrList, kMapOrNames };
struct SchemaKeyword {
  std::string_view name;
  Holds holds;
};
constexpr SchemaKeyword kSchemaKeywords[] = {
    {"additionalItems", Holds::kOne},
    {"additionalProperties", Holds::kOne},
    {"allOf", Holds::kList},
    {"anyOf", Holds::kList},
    {"contains", Holds::kOne},
    {"contentSchema", Holds::kOne},
    {"definitions", Holds::kMap},
    {"$defs", Holds::kMap},
    {"dependencies", Holds::kMapOrNames},
    {"dependentSchemas", Holds::kMap},
    {"else", Holds::kOne},
    {"if", Holds::kOne},
    {"items", Holds::kOneOrList},
    {"not", Holds::kOne},
    {"oneOf", Holds::kList},
    {"patternProperties", Holds::kMap},
    {"prefixItems", Holds::kList},
    {"properties", Holds::kMap},
    {"propertyNames", Holds::kOne},
    {"then", Holds::kOne},
    {"unevaluatedItems", Holds::kOne},
    {"unevaluatedProperties", Holds::kOne},
};

std::string escaped(std::string_view name) {
  std::string text;
  for (const char c : name) text += c == '~' ? "~0" : c == '/' ? "~1" : std::string(1, c);
  return text;
}

// The draft that $schema names; 2020 for none and for what is not known.
int draft_of(std::string_view address) {
  for (const auto& [part, draft] : {std::pair{"draft-03", 4}, std::pair{"draft-04", 4}, std::pair{"draft-06", 6},
                                    std::pair{"draft-07", 7}, std::pair{"2019-09", 2019}}) {
    if (address.find(part) != std::string_view::npos) return draft;
  }
  return 2020;
}

}  // namespace

// One schema resource: what a $id begins.
struct Resource {
  std::string address;  // without a fragment; may be relative or ""
  const JsonNode* root = nullptr;
  int draft = 2020;
  std::string document;  // how messages name it: "" for the one that was given
  std::map<std::string, const JsonNode*> anchors;
  std::map<std::string, const JsonNode*> dynamic_anchors;
  bool recursive_anchor = false;
};

class SchemaReader {
 public:
  SchemaReader(Schema* out, const SchemaOptions& options) : out_(*out), options_(options) {}

  Status read(std::string_view text) {
    Result<JsonNode> tree = parse_json_tree(text);
    if (!tree.ok()) return std::move(tree).status().with_context(out_.name_);
    out_.documents_.push_back(std::make_unique<JsonNode>(std::move(*tree)));
    const JsonNode& root = *out_.documents_.back();
    if (!root.is_object() && !root.is_bool())
      return Status::invalid_argument("{}: a schema is an object or a boolean", out_.name_);
    DECANT_TRY(const int resource, add_document(root, "", "", 2020));
    DECANT_TRY(out_.root_, compile(&root, {resource}));
    while (!pending_.empty()) {
      const Pending next = std::move(pending_.back());
      pending_.pop_back();
      DECANT_TRY_STATUS(read_keywords(next));
    }
    RegexPool& pool = out_.pool_;
    out_.texts_ = {.null = pool.literal("null"),
                   .true_ = pool.literal("true"),
                   .false_ = pool.literal("false"),
                   .any_number = any_number(&pool),
                   .plain_number = plain_number(&pool),
                   .whole_number = whole_number(&pool),
                   .digits_number = digits_number(&pool)};
    out_.texts_.one_each = pool.alt({out_.texts_.null, out_.texts_.true_, out_.texts_.false_, shortest_number(&pool)});
    pool.freeze();
    return {};
  }

 private:
  struct Location {
    int resource;
    std::string pointer;
  };
  struct Pending {
    SchemaId id;
    const JsonNode* json;
    std::vector<int> scope;  // of resources, the outermost first
  };

  // --- Documents, addresses and anchors ---

  Result<int> add_document(const JsonNode& root, const std::string& address, const std::string& document, int draft) {
    if (const JsonNode* s = root.find("$schema"); s != nullptr && s->is_string()) draft = draft_of(s->text);
    resources_.push_back({.address = address, .root = &root, .draft = draft, .document = document});
    const int index = static_cast<int>(resources_.size()) - 1;
    by_address_.emplace(address, index);
    DECANT_TRY_STATUS(index_schema(root, index, "", 0));
    return locations_.at(&root).resource;
  }

  Status index_schema(const JsonNode& json, int resource, const std::string& pointer, int depth) {
    if (depth > kMaxDepth)
      return Status::unsupported("{}: {}: schemas nested deeper than {}", out_.name_, "#" + pointer, kMaxDepth);
    if (!json.is_object()) {
      if (json.is_bool()) locations_.emplace(&json, Location{resource, pointer});
      return {};
    }
    const int draft = resources_[static_cast<size_t>(resource)].draft;
    const bool ref_alone = draft <= 7 && json.find("$ref") != nullptr;
    const JsonNode* id = json.find(draft == 4 ? "id" : "$id");
    if (id == nullptr && draft == 4) id = json.find("$id");
    if (id != nullptr && id->is_string() && !ref_alone) {
      std::string address = resolve_uri(resources_[static_cast<size_t>(resource)].address, id->text);
      std::string fragment;
      split_fragment(&address, &fragment);
      if (!fragment.empty() && fragment[0] != '/')
        resources_[static_cast<size_t>(resource)].anchors.emplace(fragment, &json);
      if (!address.empty() && address != resources_[static_cast<size_t>(resource)].address) {
        Resource added{.address = address,
                       .root = &json,
                       .draft = draft,
                       .document = resources_[static_cast<size_t>(resource)].document};
        if (const JsonNode* s = json.find("$schema"); s != nullptr && s->is_string()) added.draft = draft_of(s->text);
        resources_.push_back(std::move(added));
        resource = static_cast<int>(resources_.size()) - 1;
        by_address_.emplace(std::move(address), resource);
      }
    }
    locations_.insert_or_assign(&json, Location{resource, pointer});
    Resource& own = resources_[static_cast<size_t>(resource)];
    if (!ref_alone) {
      if (const JsonNode* a = json.find("$anchor"); a != nullptr && a->is_string()) own.anchors.emplace(a->text, &json);
      if (const JsonNode* a = json.find("$dynamicAnchor"); a != nullptr && a->is_string()) {
        own.anchors.emplace(a->text, &json);
        own.dynamic_anchors.emplace(a->text, &json);
        is_dynamic_ = true;
      }
      if (const JsonNode* a = json.find("$recursiveAnchor"); a != nullptr && a->is_bool() && a->boolean) {
        own.recursive_anchor = true;
        is_dynamic_ = true;
      }
    }
    for (const JsonMember& member : json.members) {
      const JsonNode& value = member.value;
      const auto* keyword = std::find_if(std::begin(kSchemaKeywords), std::end(kSchemaKeywords),
                                         [&](const SchemaKeyword& k) { return k.name == member.name; });
      if (keyword == std::end(kSchemaKeywords)) continue;
      const std::string here = pointer + "/" + std::string(keyword->name);
      const bool is_list = value.is_array() && (keyword->holds == Holds::kList || keyword->holds == Holds::kOneOrList);
      const bool is_map = value.is_object() && (keyword->holds == Holds::kMap || keyword->holds == Holds::kMapOrNames);
      if (is_list) {
        for (size_t i = 0; i < value.items.size(); ++i) {
          DECANT_TRY_STATUS(index_schema(value.items[i], resource, fmt::format("{}/{}", here, i), depth + 1));
        }
      } else if (is_map) {
        for (const auto& [key, schema] : value.members) {
          if (schema.is_array()) continue;  // dependencies on names
          DECANT_TRY_STATUS(index_schema(schema, resource, here + "/" + escaped(key), depth + 1));
        }
      } else if (keyword->holds == Holds::kOne || keyword->holds == Holds::kOneOrList) {
        DECANT_TRY_STATUS(index_schema(value, resource, here, depth + 1));
      }
    }
    return {};
  }

  // --- Messages ---

  std::string place(const JsonNode* json) const {
    const auto it = locations_.find(json);
    if (it == locations_.end()) return "#";
    return resources_[static_cast<size_t>(it->second.resource)].document + "#" + it->second.pointer;
  }
  Status invalid(const JsonNode* json, std::string_view keyword, const std::string& expected) const {
    return Status::invalid_argument("{}: {}/{}: {}", out_.name_, place(json), keyword, expected);
  }
  // Refused, or with `lenient` left out.
  Status unsupported(const JsonNode* json, std::string_view keyword, const std::string& why) {
    const std::string message = fmt::format("{}: {}/{}: {}", out_.name_, place(json), keyword, why);
    if (!options_.lenient) return Status::make(Code::kUnsupported, message);
    out_.warnings_.push_back(message + "; left out");
    return {};
  }

  // --- Nodes ---

  Result<SchemaId> compile(const JsonNode* json, std::vector<int> scope) {
    if (!json->is_object() && !json->is_bool()) {
      return Status::invalid_argument("{}: {}: a schema is an object or a boolean", out_.name_, place(json));
    }
    const int resource = locations_.at(json).resource;
    if (is_dynamic_) {
      if (scope.empty() || scope.back() != resource) scope.push_back(resource);
    } else {
      scope = {resource};
    }
    // A resource that was entered again says nothing new.
    std::vector<int> key;
    if (is_dynamic_) {
      for (const int r : scope) {
        if (std::find(key.begin(), key.end(), r) == key.end() || r == scope.back()) key.push_back(r);
      }
      scope = key;
    }
    const auto [it, is_new] = ids_.emplace(std::pair(json, key), static_cast<SchemaId>(out_.nodes_.size()));
    if (!is_new) return it->second;
    if (out_.nodes_.size() >= kMaxNodes) return Status::unsupported("{}: more than {} schemas", out_.name_, kMaxNodes);
    out_.nodes_.emplace_back();
    out_.nodes_.back().pointer = place(json);
    pending_.push_back({it->second, json, std::move(scope)});
    return it->second;
  }

  Status read_keywords(const Pending& pending) {
    const JsonNode& json = *pending.json;
    SchemaNode node;
    node.pointer = place(&json);
    if (json.is_bool()) {
      node.is_false = !json.boolean;
      out_.nodes_[static_cast<size_t>(pending.id)] = std::move(node);
      return {};
    }
    draft_ = resources_[static_cast<size_t>(locations_.at(&json).resource)].draft;
    scope_ = &pending.scope;
    node.contains_counts_as_evaluated = draft_ >= 2020;
    const JsonNode* ref = json.find("$ref");
    if (ref != nullptr && draft_ <= 7) {
      DECANT_TRY(node.ref, reference(json, "$ref", *ref));
    } else {
      DECANT_TRY_STATUS(read_applicators(json, &node));
      DECANT_TRY_STATUS(read_values(json, &node));
      DECANT_TRY_STATUS(read_strings(json, &node));
      DECANT_TRY_STATUS(read_numbers(json, &node));
      DECANT_TRY_STATUS(read_objects(json, &node));
      DECANT_TRY_STATUS(read_arrays(json, &node));
    }
    if (options_.property_order == PropertyOrder::kSchema) note_in_place(json, &node);
    out_.nodes_[static_cast<size_t>(pending.id)] = std::move(node);
    return {};
  }

  static void note_in_place(const JsonNode& json, SchemaNode* node) {
    std::vector<SchemaId>& out = node->in_place;
    if (node->ref != kNoSchema) {
      out = {node->ref};
      return;
    }
    // References are read last into all_of, in this order.
    const JsonNode* all = json.find("allOf");
    auto next_ref = node->all_of.begin() + static_cast<ptrdiff_t>(all != nullptr ? all->items.size() : 0);
    std::map<std::string_view, SchemaId> refs;
    for (const char* keyword : {"$ref", "$dynamicRef", "$recursiveRef"}) {
      if (json.find(keyword) != nullptr && next_ref != node->all_of.end()) refs.emplace(keyword, *next_ref++);
    }
    const auto add = [&](SchemaId id) {
      if (id != kNoSchema) out.push_back(id);
    };
    for (const auto& [keyword, value] : json.members) {
      if (keyword == "properties") {
        out.push_back(kNoSchema);
      } else if (keyword == "allOf") {
        out.insert(out.end(), node->all_of.begin(), node->all_of.begin() + static_cast<ptrdiff_t>(value.items.size()));
      } else if (keyword == "anyOf") {
        out.insert(out.end(), node->any_of.begin(), node->any_of.end());
      } else if (keyword == "oneOf") {
        out.insert(out.end(), node->one_of.begin(), node->one_of.end());
      } else if (keyword == "dependentSchemas" || keyword == "dependencies") {
        for (const auto& [name, id] : node->dependent_schemas) {
          if (value.find(name) != nullptr) add(id);
        }
      } else if (const auto ref = refs.find(keyword); ref != refs.end()) {
        add(ref->second);
      } else {
        add(keyword == "if"     ? node->if_
            : keyword == "then" ? node->then_
            : keyword == "else" ? node->else_
                                : kNoSchema);
      }
    }
  }

  Result<SchemaId> subschema(const JsonNode* json) { return compile(json, *scope_); }

  Status one(const JsonNode& json, const char* keyword, SchemaId* out) {
    const JsonNode* value = json.find(keyword);
    if (value == nullptr) return {};
    if (!value->is_object() && !value->is_bool()) return invalid(&json, keyword, "expected a schema");
    DECANT_TRY(*out, subschema(value));
    return {};
  }
  Status list(const JsonNode& json, const char* keyword, std::vector<SchemaId>* out) {
    const JsonNode* value = json.find(keyword);
    if (value == nullptr) return {};
    if (!value->is_array()) return invalid(&json, keyword, "expected a list of schemas");
    for (const JsonNode& item : value->items) {
      if (!item.is_object() && !item.is_bool()) return invalid(&json, keyword, "expected a list of schemas");
      DECANT_TRY(const SchemaId id, subschema(&item));
      out->push_back(id);
    }
    return {};
  }
  Status count(const JsonNode& json, const char* keyword, int64_t* out) {
    const JsonNode* value = json.find(keyword);
    if (value == nullptr) return {};
    const std::optional<int64_t> number = value->is_number() ? value->number.as_count(kMaxCount) : std::nullopt;
    if (number) {
      *out = *number;
      return {};
    }
    if (value->is_number() && !value->number.negative && value->number.is_integer()) {
      *out = kMaxCount;
      return {};
    }
    return invalid(&json, keyword, "expected a whole number of at least 0");
  }
  Status names(const JsonNode& json, std::string_view keyword, const JsonNode& value, std::vector<std::string>* out) {
    if (!value.is_array()) return invalid(&json, keyword, "expected a list of names");
    for (const JsonNode& item : value.items) {
      if (!item.is_string()) return invalid(&json, keyword, "expected a list of names");
      note_characters(item.text);
      if (std::find(out->begin(), out->end(), item.text) == out->end()) out->push_back(item.text);
    }
    return {};
  }

  Status read_applicators(const JsonNode& json, SchemaNode* node) {
    DECANT_TRY_STATUS(list(json, "allOf", &node->all_of));
    node->has_any_of = json.find("anyOf") != nullptr;
    DECANT_TRY_STATUS(list(json, "anyOf", &node->any_of));
    node->has_one_of = json.find("oneOf") != nullptr;
    DECANT_TRY_STATUS(list(json, "oneOf", &node->one_of));
    DECANT_TRY_STATUS(one(json, "not", &node->not_));
    if (draft_ >= 7 && json.find("if") != nullptr) {
      DECANT_TRY_STATUS(one(json, "if", &node->if_));
      DECANT_TRY_STATUS(one(json, "then", &node->then_));
      DECANT_TRY_STATUS(one(json, "else", &node->else_));
    }
    if (const JsonNode* ref = json.find("$ref")) {
      DECANT_TRY(const SchemaId id, reference(json, "$ref", *ref));
      node->all_of.push_back(id);
    }
    for (const char* keyword : {"$dynamicRef", "$recursiveRef"}) {
      const JsonNode* ref = json.find(keyword);
      if (ref == nullptr || draft_ < 2019) continue;
      DECANT_TRY(const SchemaId id, reference(json, keyword, *ref));
      node->all_of.push_back(id);
    }
    return {};
  }

  Status read_values(const JsonNode& json, SchemaNode* node) {
    if (const JsonNode* type = json.find("type")) {
      static const std::map<std::string_view, uint8_t> kBits = {
          {"null", kNullBit},     {"boolean", kBoolBit}, {"number", kNumberBit}, {"integer", kNumberBit},
          {"string", kStringBit}, {"array", kArrayBit},  {"object", kObjectBit}};
      std::vector<const JsonNode*> types;
      if (type->is_string()) types.push_back(type);
      for (const JsonNode& item : type->items) types.push_back(&item);
      if (types.empty()) return invalid(&json, "type", "expected a type or a list of types");
      node->has_types = true;
      node->types = 0;
      bool number = false, integer = false;
      for (const JsonNode* t : types) {
        const auto bit = kBits.find(t->is_string() ? std::string_view(t->text) : "");
        if (draft_ == 4 && t->is_string() && t->text == "any") {
          node->types = kAllTypes;
          number = true;
          continue;
        }
        if (bit == kBits.end()) {
          return invalid(&json, "type", "expected null, boolean, number, integer, string, array or object");
        }
        node->types |= bit->second;
        number |= t->text == "number";
        integer |= t->text == "integer";
      }
      node->whole_only = integer && !number;
      node->no_point = node->whole_only && draft_ == 4;
    }
    const JsonNode* constant = draft_ >= 6 ? json.find("const") : nullptr;
    const JsonNode* values = json.find("enum");
    if (values != nullptr && !values->is_array()) return invalid(&json, "enum", "expected a list");
    if (values != nullptr) {
      node->has_values = true;
      for (const JsonNode& value : values->items) node->values.push_back(&value);
    }
    if (constant != nullptr) {
      if (node->has_values) std::erase_if(node->values, [&](const JsonNode* v) { return !same_json(*v, *constant); });
      if (!node->has_values) node->values.push_back(constant);
      node->has_values = true;
    }
    for (const JsonNode* value : node->values) DECANT_TRY_STATUS(prepare_value(*value, &json));
    return {};
  }

  // Expressions for this text can be made after the pool is frozen.
  void note_characters(std::string_view text) {
    for (size_t i = 0; i < text.size();) {
      const Utf8Char c = decode_utf8(text.substr(i));
      i += c.size;
      if (c.code < 128) {
        if (noted_[c.code]) continue;
        noted_[c.code] = true;
      }
      out_.pool_.chars(CharSet::of(c.code));
    }
  }

  // Characters and numbers of constants have to be known before the pool is frozen.
  Status prepare_value(const JsonNode& value, const JsonNode* json) {
    switch (value.type) {
      case JsonNode::Type::kString: note_characters(value.text); break;
      case JsonNode::Type::kNumber: {
        const Result<RegexId> id = number_equal_to(value.number, &out_.pool_);
        if (!id.ok()) return unsupported(json, "enum", id.status().message());
        break;
      }
      case JsonNode::Type::kArray:
        for (const JsonNode& item : value.items) DECANT_TRY_STATUS(prepare_value(item, json));
        break;
      case JsonNode::Type::kObject:
        for (const auto& [name, member] : value.members) {
          note_characters(name);
          DECANT_TRY_STATUS(prepare_value(member, json));
        }
        break;
      default: break;
    }
    return {};
  }

  Status read_strings(const JsonNode& json, SchemaNode* node) {
    RegexPool& pool = out_.pool_;
    int64_t min = 0, max = kMaxCount;
    DECANT_TRY_STATUS(count(json, "minLength", &min));
    DECANT_TRY_STATUS(count(json, "maxLength", &max));
    constexpr int64_t kMost = INT32_MAX - 1;
    if (min > 0) {
      if (min > kMost) return invalid(&json, "minLength", "a text of this length is not possible");
      node->strings.emplace_back("minLength", pool.repeat(pool.any(), static_cast<int>(min), RegexPool::kUnbounded));
    }
    if (max < kMost) node->strings.emplace_back("maxLength", pool.repeat(pool.any(), 0, static_cast<int>(max)));
    if (const JsonNode* pattern = json.find("pattern")) {
      if (!pattern->is_string()) return invalid(&json, "pattern", "expected a text");
      DECANT_TRY(const std::optional<RegexId> id, regex(json, "pattern", pattern->text));
      if (id) node->strings.emplace_back("pattern", *id);
    }
    const JsonNode* format = json.find("format");
    if (format != nullptr && format->is_string() && options_.assert_formats) {
      if (const std::optional<RegexId> id = format_language(format->text, &pool)) {
        node->strings.emplace_back("format", *id);
      }
    }
    return {};
  }

  Result<std::optional<RegexId>> regex(const JsonNode& json, const std::string& keyword, const std::string& pattern) {
    const auto it = regexes_.find(pattern);
    if (it != regexes_.end()) return std::optional(it->second);
    const Result<RegexId> id = parse_regex(pattern, RegexDialect::kSearch, &out_.pool_);
    if (id.ok()) {
      regexes_.emplace(pattern, *id);
      return std::optional(*id);
    }
    if (id.status().code() == Code::kUnsupported) {
      DECANT_TRY_STATUS(unsupported(&json, keyword, id.status().message()));
      return std::optional<RegexId>();
    }
    return invalid(&json, keyword, id.status().message());
  }

  Status read_numbers(const JsonNode& json, SchemaNode* node) {
    RegexPool& pool = out_.pool_;
    const auto bound = [&](const char* keyword, Bound kind) -> Status {
      const JsonNode* value = json.find(keyword);
      if (value == nullptr) return {};
      if (!value->is_number()) return invalid(&json, keyword, "expected a number");
      const Result<RegexId> id = bounded_number(kind, value->number, &pool);
      if (!id.ok()) return unsupported(&json, keyword, id.status().message());
      node->numbers.emplace_back(keyword, *id);
      return {};
    };
    // Draft 4 has booleans that make the bound beside them exclusive.
    const auto flag = [&](const char* keyword) {
      const JsonNode* value = json.find(keyword);
      return value != nullptr && value->is_bool() && value->boolean;
    };
    DECANT_TRY_STATUS(bound("minimum", flag("exclusiveMinimum") ? Bound::kExclusiveMinimum : Bound::kMinimum));
    DECANT_TRY_STATUS(bound("maximum", flag("exclusiveMaximum") ? Bound::kExclusiveMaximum : Bound::kMaximum));
    for (const auto& [keyword, kind] : {std::pair{"exclusiveMinimum", Bound::kExclusiveMinimum},
                                        std::pair{"exclusiveMaximum", Bound::kExclusiveMaximum}}) {
      const JsonNode* value = json.find(keyword);
      if (value != nullptr && !value->is_bool()) DECANT_TRY_STATUS(bound(keyword, kind));
    }
    for (const char* keyword : {"multipleOf", "divisibleBy"}) {
      const JsonNode* value = json.find(keyword);
      if (value == nullptr || (keyword[0] == 'd' && draft_ > 4)) continue;
      if (!value->is_number() || value->number.is_zero() || value->number.negative)
        return invalid(&json, keyword, "expected a number above 0");
      const Result<RegexId> id = multiple_of(value->number, &pool);
      if (!id.ok()) {
        DECANT_TRY_STATUS(unsupported(&json, keyword, id.status().message()));
        continue;
      }
      node->numbers.emplace_back(keyword, *id);
    }
    return {};
  }

  Status read_objects(const JsonNode& json, SchemaNode* node) {
    if (const JsonNode* properties = json.find("properties")) {
      if (!properties->is_object()) return invalid(&json, "properties", "expected an object of schemas");
      for (const auto& [name, value] : properties->members) {
        if (!value.is_object() && !value.is_bool())
          return invalid(&json, "properties/" + escaped(name), "expected a schema");
        DECANT_TRY(const SchemaId id, subschema(&value));
        node->properties.emplace_back(name, id);
        note_characters(name);
      }
    }
    if (const JsonNode* patterns = json.find("patternProperties")) {
      if (!patterns->is_object()) return invalid(&json, "patternProperties", "expected an object of schemas");
      for (const auto& [pattern, value] : patterns->members) {
        if (!value.is_object() && !value.is_bool())
          return invalid(&json, "patternProperties", "expected an object of schemas");
        DECANT_TRY(const std::optional<RegexId> regex_id, regex(json, "patternProperties", pattern));
        if (!regex_id) continue;
        DECANT_TRY(const SchemaId id, subschema(&value));
        node->pattern_properties.emplace_back(*regex_id, id);
      }
    }
    if (json.find("patternProperties") != nullptr || json.find("propertyNames") != nullptr) {
      // Names that are few are told apart one by one, and have to be expressible.
      std::string ascii;
      for (char c = ' '; c <= '~'; ++c) ascii += c;
      note_characters(ascii);
    }
    DECANT_TRY_STATUS(one(json, "additionalProperties", &node->additional_properties));
    if (draft_ >= 6) DECANT_TRY_STATUS(one(json, "propertyNames", &node->property_names));
    if (draft_ >= 2019) DECANT_TRY_STATUS(one(json, "unevaluatedProperties", &node->unevaluated_properties));
    if (const JsonNode* required = json.find("required"); required != nullptr && !required->is_bool()) {
      DECANT_TRY_STATUS(names(json, "required", *required, &node->required));
    }
    DECANT_TRY_STATUS(count(json, "minProperties", &node->min_properties));
    DECANT_TRY_STATUS(count(json, "maxProperties", &node->max_properties));
    for (const char* keyword : {"dependencies", "dependentRequired", "dependentSchemas"}) {
      const JsonNode* value = json.find(keyword);
      if (value == nullptr || (keyword[9] != 'i' && draft_ < 2019)) continue;
      if (!value->is_object()) return invalid(&json, keyword, "expected an object");
      for (const auto& [name, part] : value->members) {
        if (part.is_object() || part.is_bool()) {
          if (keyword == std::string_view("dependentRequired"))
            return invalid(&json, keyword, "expected lists of names");
          DECANT_TRY(const SchemaId id, subschema(&part));
          node->dependent_schemas.emplace_back(name, id);
        } else if (part.is_string() && draft_ == 4) {
          node->dependent_required.push_back({name, {part.text}});
        } else {
          if (keyword == std::string_view("dependentSchemas")) return invalid(&json, keyword, "expected schemas");
          std::vector<std::string> needed;
          DECANT_TRY_STATUS(names(json, keyword, part, &needed));
          node->dependent_required.emplace_back(name, std::move(needed));
        }
      }
    }
    return {};
  }

  Status read_arrays(const JsonNode& json, SchemaNode* node) {
    const JsonNode* items = json.find("items");
    const char* rest = "items";
    if (draft_ >= 2020 && json.find("prefixItems") != nullptr) {
      node->has_prefix = true;
      DECANT_TRY_STATUS(list(json, "prefixItems", &node->prefix_items));
    } else if (items != nullptr && items->is_array()) {
      node->has_prefix = true;
      DECANT_TRY_STATUS(list(json, "items", &node->prefix_items));
      rest = "additionalItems";
    }
    DECANT_TRY_STATUS(one(json, rest, &node->items));
    if (draft_ >= 6) DECANT_TRY_STATUS(one(json, "contains", &node->contains));
    if (draft_ >= 2019) {
      DECANT_TRY_STATUS(count(json, "minContains", &node->min_contains));
      DECANT_TRY_STATUS(count(json, "maxContains", &node->max_contains));
      DECANT_TRY_STATUS(one(json, "unevaluatedItems", &node->unevaluated_items));
    }
    DECANT_TRY_STATUS(count(json, "minItems", &node->min_items));
    DECANT_TRY_STATUS(count(json, "maxItems", &node->max_items));
    if (const JsonNode* unique = json.find("uniqueItems")) {
      if (!unique->is_bool()) return invalid(&json, "uniqueItems", "expected true or false");
      node->unique_items = unique->boolean;
      // Numbers that are there are taken out of the language of the others.
      if (unique->boolean) note_characters("-.0123456789");
    }
    return {};
  }

  // --- References ---

  Result<SchemaId> reference(const JsonNode& json, const char* keyword, const JsonNode& ref) {
    if (!ref.is_string()) return invalid(&json, keyword, "expected a text");
    const int from = locations_.at(&json).resource;
    const std::string_view kind = keyword;
    if (kind == "$recursiveRef") {
      const Resource& own = resources_[static_cast<size_t>(from)];
      const JsonNode* target = own.root;
      if (own.recursive_anchor) {
        for (const int r : *scope_) {
          if (!resources_[static_cast<size_t>(r)].recursive_anchor) continue;
          target = resources_[static_cast<size_t>(r)].root;
          break;
        }
      }
      return compile(target, *scope_);
    }
    std::string address = resolve_uri(resources_[static_cast<size_t>(from)].address, ref.text);
    std::string fragment;
    split_fragment(&address, &fragment);
    DECANT_TRY(const int resource, find_resource(json, keyword, address));
    const JsonNode* target = nullptr;
    const Resource& found = resources_[static_cast<size_t>(resource)];
    if (fragment.empty()) {
      target = found.root;
    } else if (fragment[0] == '/') {
      DECANT_TRY(target, follow_pointer(json, keyword, resource, fragment, ref.text));
    } else {
      const auto anchor = found.anchors.find(fragment);
      if (anchor == found.anchors.end())
        return invalid(&json, keyword, fmt::format("\"{}\" is not there", printable(ref.text)));
      target = anchor->second;
      if (kind == "$dynamicRef" && found.dynamic_anchors.contains(fragment)) {
        for (const int r : *scope_) {
          const auto& outer = resources_[static_cast<size_t>(r)].dynamic_anchors;
          if (const auto it = outer.find(fragment); it != outer.end()) {
            target = it->second;
            break;
          }
        }
      }
    }
    return compile(target, *scope_);
  }

  Result<int> find_resource(const JsonNode& json, const char* keyword, const std::string& address) {
    if (const auto it = by_address_.find(address); it != by_address_.end()) return it->second;
    const std::optional<std::string> own = metaschema(address);
    if (!own && !options_.resolver) {
      return invalid(&json, keyword,
                     fmt::format("\"{}\" is another document, and no folder or resolver is there to find it in",
                                 printable(address)));
    }
    Result<std::string> text = own ? Result<std::string>(*own) : options_.resolver(address);
    if (!text.ok())
      return std::move(text).status().with_context(fmt::format("{}: {}/{}", out_.name_, place(&json), keyword));
    Result<JsonNode> tree = parse_json_tree(*text);
    if (!tree.ok()) return std::move(tree).status().with_context(address);
    out_.documents_.push_back(std::make_unique<JsonNode>(std::move(*tree)));
    const JsonNode& root = *out_.documents_.back();
    const size_t before = resources_.size();
    DECANT_TRY(const int inner, add_document(root, address, address, draft_));
    // Its own $id may differ from where it was found.
    (void)inner;
    return static_cast<int>(before);
  }

  // Of objects with many members an index is kept: each of as many references looks into them.
  const JsonNode* member(const JsonNode& object, std::string_view name) {
    if (object.members.size() < 32) return object.find(name);
    auto& index = members_[&object];
    if (index.empty()) {
      for (const auto& [key, value] : object.members) index.emplace(key, &value);
    }
    const auto it = index.find(name);
    return it == index.end() ? nullptr : it->second;
  }

  Result<const JsonNode*> follow_pointer(const JsonNode& json, const char* keyword, int resource,
                                         const std::string& fragment, const std::string& ref) {
    const JsonNode* at = resources_[static_cast<size_t>(resource)].root;
    std::string pointer = locations_.at(at).pointer;
    size_t begin = 1;
    while (begin <= fragment.size()) {
      const size_t end = std::min(fragment.find('/', begin), fragment.size());
      std::string part = fragment.substr(begin, end - begin);
      pointer += "/" + part;
      for (const auto& [code, character] : {std::pair{"~1", "/"}, std::pair{"~0", "~"}}) {
        for (size_t i = part.find(code); i != std::string::npos; i = part.find(code, i + 1))
          part.replace(i, 2, character);
      }
      const JsonNode* next = nullptr;
      if (at->is_object()) {
        next = member(*at, part);
      } else if (at->is_array() && !part.empty() && part.size() < 7 &&
                 part.find_first_not_of("0123456789") == std::string::npos) {
        const size_t index = std::stoul(part);
        if (index < at->items.size()) next = &at->items[index];
      }
      if (next == nullptr) return invalid(&json, keyword, fmt::format("\"{}\" is not there", printable(ref)));
      at = next;
      if (const auto it = locations_.find(at); it != locations_.end()) resource = it->second.resource;
      begin = end + 1;
    }
    // A place that no keyword makes a schema.
    if (!locations_.contains(at)) DECANT_TRY_STATUS(index_schema(*at, resource, pointer, 0));
    if (!locations_.contains(at)) return invalid(&json, keyword, fmt::format("\"{}\" is no schema", printable(ref)));
    return at;
  }

  Schema& out_;
  const SchemaOptions& options_;
  std::vector<Resource> resources_;
  std::map<std::string, int> by_address_;
  std::unordered_map<const JsonNode*, Location> locations_;
  std::unordered_map<const JsonNode*, std::unordered_map<std::string_view, const JsonNode*>> members_;
  std::map<std::pair<const JsonNode*, std::vector<int>>, SchemaId> ids_;
  std::vector<Pending> pending_;
  std::unordered_map<std::string, RegexId> regexes_;
  std::array<bool, 128> noted_{};
  bool is_dynamic_ = false;
  int draft_ = 2020;
  const std::vector<int>* scope_ = nullptr;
};

Result<std::shared_ptr<Schema>> Schema::parse(std::string_view text, const std::string& name,
                                              const SchemaOptions& options) {
  std::shared_ptr<Schema> schema(new Schema());
  schema->name_ = name;
  schema->property_order_ = options.property_order;
  DECANT_TRY_STATUS(SchemaReader(schema.get(), options).read(text));
  if (schema->pool_.exhausted())
    return Status::unsupported("{}: too large: its values and patterns are too many", name);
  return schema;
}

SchemaId Schema::structured_constant(const JsonNode& value) {
  if (const auto it = constants_.find(&value); it != constants_.end()) return it->second;
  SchemaNode node;
  node.has_types = true;
  if (value.is_object()) {
    node.types = kObjectBit;
    node.additional_properties = false_schema();
    for (const auto& [name, member] : value.members) {
      node.properties.emplace_back(name, structured_constant(member));
      node.required.push_back(name);
    }
  } else if (value.is_array()) {
    node.types = kArrayBit;
    node.has_prefix = true;
    node.items = false_schema();
    for (const JsonNode& item : value.items) node.prefix_items.push_back(structured_constant(item));
    node.min_items = static_cast<int64_t>(value.items.size());
  } else {
    node.has_types = false;
    node.has_values = true;
    node.values.push_back(&value);
  }
  nodes_.push_back(std::move(node));
  const auto id = static_cast<SchemaId>(nodes_.size()) - 1;
  constants_.emplace(&value, id);
  return id;
}

const JsonNode& Schema::keep(JsonNode value) {
  documents_.push_back(std::make_unique<JsonNode>(std::move(value)));
  return *documents_.back();
}

SchemaId Schema::false_schema() {
  if (false_ == kNoSchema) {
    nodes_.emplace_back();
    nodes_.back().is_false = true;
    false_ = static_cast<SchemaId>(nodes_.size()) - 1;
  }
  return false_;
}

SchemaId Schema::add_any_of(std::vector<SchemaId> parts) {
  nodes_.emplace_back();
  nodes_.back().has_any_of = true;
  nodes_.back().any_of = std::move(parts);
  return static_cast<SchemaId>(nodes_.size()) - 1;
}

}  // namespace decant
