// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// A JSON Schema (drafts 4, 6, 7, 2019-09 and 2020-12) read into nodes: every keyword that asserts something, references
// resolved. What means nothing here (unknown keywords, annotations) is left out; what means something and is not
// supported is refused with its keyword and JSON pointer, or left out with a warning (`lenient`).
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "constrain/json_tree.h"
#include "constrain/regex.h"

namespace decant {

using SchemaId = int32_t;
inline constexpr SchemaId kNoSchema = -1;

// A schema with or without a "not" before it.
struct SchemaLiteral {
  SchemaId schema;
  bool negative = false;
  auto operator<=>(const SchemaLiteral&) const = default;
};

// Types of values as bits; a whole number is a number.
enum TypeBit : uint8_t { kNullBit = 1, kBoolBit = 2, kNumberBit = 4, kStringBit = 8, kArrayBit = 16, kObjectBit = 32 };
inline constexpr uint8_t kAllTypes = 63;

struct SchemaNode {
  std::string pointer;  // where it stands: a JSON pointer, behind '#' and, for another document, its address
  bool is_false = false;

  bool has_types = false;
  uint8_t types = kAllTypes;
  bool whole_only = false;  // numbers have to be whole
  bool no_point = false;    // and written so: draft 4

  bool has_values = false;
  std::vector<const JsonNode*> values;  // enum, or const

  std::vector<std::pair<std::string, RegexId>> strings;  // keyword (pattern, format, minLength, maxLength) and language
  std::vector<std::pair<std::string, RegexId>> numbers;  // keyword (minimum, multipleOf, ...) and language

  std::vector<std::pair<std::string, SchemaId>> properties;
  std::vector<std::pair<RegexId, SchemaId>> pattern_properties;
  SchemaId additional_properties = kNoSchema, property_names = kNoSchema, unevaluated_properties = kNoSchema;
  std::vector<std::string> required;
  int64_t min_properties = 0, max_properties = INT64_MAX;
  std::vector<std::pair<std::string, std::vector<std::string>>> dependent_required;
  std::vector<std::pair<std::string, SchemaId>> dependent_schemas;

  bool has_prefix = false;
  std::vector<SchemaId> prefix_items;
  SchemaId items = kNoSchema;  // of the items behind the prefix
  SchemaId contains = kNoSchema, unevaluated_items = kNoSchema;
  int64_t min_contains = 1, max_contains = INT64_MAX;
  int64_t min_items = 0, max_items = INT64_MAX;
  bool unique_items = false;

  std::vector<SchemaId> all_of, any_of, one_of;
  bool has_any_of = false, has_one_of = false;
  SchemaId not_ = kNoSchema, if_ = kNoSchema, then_ = kNoSchema, else_ = kNoSchema;
  SchemaId ref = kNoSchema;
  bool contains_counts_as_evaluated = false;  // 2020-12

  // For PropertyOrder::kSchema: what speaks of the same value, in the order of the text; kNoSchema: the own keywords.
  std::vector<SchemaId> in_place;
};

// In which order the members of an object come.
enum class PropertyOrder {
  kAny,
  // Those that a `properties` names in the order in which the schema first names them, all others behind them. What
  // counts for an object is decided by its place and by no value: `properties` of all schemas that apply there, through
  // references, allOf, anyOf, oneOf, if, then, else and dependentSchemas, but not through `not` and `contains`; and of
  // a constant object its own names.
  kSchema,
};

struct SchemaOptions {
  bool lenient = false;
  bool assert_formats = true;  // else `format` is an annotation
  PropertyOrder property_order = PropertyOrder::kAny;
  // The text of the schema at an address that the document does not hold; kNotFound refuses it.
  std::function<Result<std::string>(const std::string& address)> resolver = {};
};

// Texts of scalars that are no strings.
struct JsonTexts {
  RegexId null, true_, false_, any_number, plain_number, whole_number, digits_number;
  RegexId one_each;  // of these, the shortest plain text of each value
};

class Schema {
 public:
  // `name` stands for the text in messages. kCorrupt (no JSON, with line), kInvalidArgument (a keyword's value is
  // wrong), kUnsupported, all with the JSON pointer.
  static Result<std::shared_ptr<Schema>> parse(std::string_view text, const std::string& name,
                                               const SchemaOptions& options);

  SchemaId root() const { return root_; }
  const SchemaNode& node(SchemaId id) const { return nodes_[static_cast<size_t>(id)]; }
  size_t size() const { return nodes_.size(); }
  RegexPool& pool() { return pool_; }
  const std::vector<std::string>& warnings() const { return warnings_; }
  const std::string& name() const { return name_; }

  const JsonTexts& texts() const { return texts_; }
  PropertyOrder property_order() const { return property_order_; }

  // Nodes that a construction needs and no text holds. The keywords of an array or object that is equal to `value`,
  // which outlives this; schemas of which one has to hold.
  SchemaId structured_constant(const JsonNode& value);
  // A value that nodes may point to.
  const JsonNode& keep(JsonNode value);
  SchemaId add_any_of(std::vector<SchemaId> parts);
  SchemaId false_schema();

 private:
  friend class SchemaReader;
  Schema() = default;

  std::string name_;
  std::vector<std::unique_ptr<JsonNode>> documents_;  // nodes point into them
  std::deque<SchemaNode> nodes_;                      // references stay valid while some are added
  RegexPool pool_;
  SchemaId root_ = kNoSchema, false_ = kNoSchema;
  PropertyOrder property_order_ = PropertyOrder::kAny;
  JsonTexts texts_{};
  std::map<const JsonNode*, SchemaId> constants_;
  std::vector<std::string> warnings_;
};

// The language of a format of the specification over the decoded text; nullopt for an unknown name. `draft`: 4, 6, 7,
// 2019 or 2020.
std::optional<RegexId> format_language(std::string_view format, RegexPool* pool);

}  // namespace decant
