// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// JSON values as schemas need them: members in the order of the text, numbers exact.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"

namespace decant {

// A number of any length: digits * 10^exponent, without zeros at either end of `digits`; zero has no digits.
struct Decimal {
  bool negative = false;
  std::string digits;
  int64_t exponent = 0;

  bool is_zero() const { return digits.empty(); }
  bool is_integer() const { return exponent >= 0; }
  bool operator==(const Decimal&) const = default;
  // The digits before and behind the point, without needless zeros; "" for none. kUnsupported beyond 400 of them.
  Result<std::pair<std::string, std::string>> split() const;
  // As a whole number if it is one from 0 to `max`.
  std::optional<int64_t> as_count(int64_t max) const;
};
// Precondition: `text` is a JSON number.
Decimal parse_decimal(std::string_view text);

struct JsonMember;

struct JsonNode {
  enum class Type : uint8_t { kNull, kBool, kNumber, kString, kArray, kObject };
  Type type = Type::kNull;
  bool boolean = false;
  Decimal number;
  std::string text;                 // kString, in UTF-8; kNumber: as it was written
  std::vector<JsonNode> items;      // kArray
  std::vector<JsonMember> members;  // kObject; keys are unique

  bool is_object() const { return type == Type::kObject; }
  bool is_array() const { return type == Type::kArray; }
  bool is_string() const { return type == Type::kString; }
  bool is_number() const { return type == Type::kNumber; }
  bool is_bool() const { return type == Type::kBool; }
  const JsonNode* find(std::string_view key) const;  // nullptr if absent
};

struct JsonMember {
  std::string name;
  JsonNode value;
};

// Equal as JSON Schema has it: numbers by value, objects without order.
bool same_json(const JsonNode& a, const JsonNode& b);
// One text for all that are the same.
std::string canonical_json(const JsonNode& value);

// One line, ", " and ": " between, characters beyond ASCII as they are, numbers as they were written.
std::string json_line(const JsonNode& value);

// kCorrupt naming line and column; kUnsupported for more than `max_depth` levels.
Result<JsonNode> parse_json_tree(std::string_view text, int max_depth = 512);

}  // namespace decant
