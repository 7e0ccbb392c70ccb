// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "serve/json_fields.h"

#include <fmt/format.h>

#include <cmath>

#include "base/printable.h"
#include "base/strict_json.h"

namespace decant::serve {
namespace {

// Objects that keep the order of their members look through all of them for each new one. This many comparisons take
// some hundred milliseconds.
constexpr uint64_t kMaxComparisons = 20'000'000;

uint64_t comparisons(const nlohmann::json& value) {
  // Nesting is limited, so is the recursion.
  uint64_t sum = 0;
  if (value.is_object()) sum += static_cast<uint64_t>(value.size()) * value.size() / 2;
  if (value.is_structured()) {
    for (const auto& item : value) sum += comparisons(item);
  }
  return sum;
}

}  // namespace

Problem Problem::of(const Status& status, std::string param) {
  int http = 500;
  std::string code;
  switch (status.code()) {
    case Code::kInvalidArgument:
    case Code::kCorrupt:
    case Code::kUnsupported:
    case Code::kNotFound: http = 400; break;
    case Code::kExhausted:
      http = 400;
      code = "limit_exceeded";
      break;
    case Code::kCancelled: http = 503; break;
    default: break;
  }
  return {http, std::string(status.message()), std::move(param), std::move(code)};
}

Problem parse_body(std::string_view text, Json* out) {
  {
    const Result<nlohmann::json> parsed = parse_json_object(text);
    if (!parsed.ok()) {
      return Problem::bad("", fmt::format("the request's body: {}", parsed.status().message()), "invalid_json");
    }
    if (comparisons(*parsed) > kMaxComparisons) {
      return Problem::bad("", "the request's body has objects with too many members", "invalid_json");
    }
  }
  *out = Json::parse(text, nullptr, false);
  if (!out->is_object()) return Problem::bad("", "the request's body is no JSON object", "invalid_json");
  return {};
}

std::string type_text(const Json& value) {
  switch (value.type()) {
    case Json::value_t::null: return "null";
    case Json::value_t::boolean: return "a boolean";
    case Json::value_t::string: return "a string";
    case Json::value_t::array: return "a list";
    case Json::value_t::object: return "an object";
    default: return fmt::format("the number {}", value.dump());
  }
}

const Json* Fields::find(std::string_view name) {
  known_.emplace(name);
  if (!ok()) return nullptr;
  const auto found = object_.find(std::string(name));
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

void Fields::refuse(std::string_view name, std::string_view message, std::string_view code) {
  if (!ok()) return;
  const std::string whole = path(name);
  *problem_ = Problem::bad(whole, fmt::format("{}: {}", whole, message), std::string(code));
}

bool Fields::boolean(std::string_view name, bool* out) {
  const Json* value = find(name);
  if (value == nullptr) return false;
  if (!value->is_boolean()) {
    refuse(name, fmt::format("expected true or false, got {}", type_text(*value)));
    return false;
  }
  *out = value->get<bool>();
  return true;
}

bool Fields::integer(std::string_view name, int64_t min, int64_t max, int64_t* out) {
  const Json* value = find(name);
  if (value == nullptr) return false;
  // 16.0 is a whole number as well; JSON does not tell them apart.
  const bool whole = value->is_number_integer() ||
                     (value->is_number_float() && value->get<double>() == std::floor(value->get<double>()) &&
                      std::abs(value->get<double>()) < 9e15);
  const bool too_large = value->is_number_unsigned() && value->get<uint64_t>() > static_cast<uint64_t>(INT64_MAX);
  const int64_t number = !whole || too_large        ? 0
                         : value->is_number_float() ? static_cast<int64_t>(value->get<double>())
                                                    : value->get<int64_t>();
  if (!whole || too_large || number < min || number > max) {
    const std::string range = max == INT64_MAX && min == INT64_MIN ? "a whole number"
                              : max >= INT32_MAX                   ? fmt::format("a whole number of at least {}", min)
                                                 : fmt::format("a whole number from {} to {}", min, max);
    refuse(name, fmt::format("expected {}, got {}", range, type_text(*value)));
    return false;
  }
  *out = number;
  return true;
}

bool Fields::integer(std::string_view name, int64_t min, int64_t max, int* out) {
  int64_t value = 0;
  if (!integer(name, min, std::min<int64_t>(max, INT32_MAX), &value)) return false;
  *out = static_cast<int>(value);
  return true;
}

bool Fields::real(std::string_view name, double min, double max, double* out) {
  const Json* value = find(name);
  if (value == nullptr) return false;
  const double number = value->is_number() ? value->get<double>() : 0;
  if (!value->is_number() || !(number >= min && number <= max)) {
    refuse(name, fmt::format("expected a number from {:g} to {:g}, got {}", min, max, type_text(*value)));
    return false;
  }
  *out = number;
  return true;
}

bool Fields::real(std::string_view name, double min, double max, float* out) {
  double value = 0;
  if (!real(name, min, max, &value)) return false;
  *out = static_cast<float>(value);
  return true;
}

bool Fields::text(std::string_view name, std::string* out) {
  const Json* value = find(name);
  if (value == nullptr) return false;
  if (!value->is_string()) {
    refuse(name, fmt::format("expected a string, got {}", type_text(*value)));
    return false;
  }
  *out = value->get<std::string>();
  return true;
}

bool Fields::word(std::string_view name, std::initializer_list<std::string_view> words, std::string* out) {
  std::string given;
  if (!text(name, &given)) return false;
  std::string list;
  for (const std::string_view word : words) {
    if (word == given) {
      *out = given;
      return true;
    }
    list += (list.empty() ? "" : ", ") + std::string(word);
  }
  refuse(name, fmt::format("expected one of {}, got '{}'", list, printable(given)));
  return false;
}

const Json* Fields::object(std::string_view name) {
  const Json* value = find(name);
  if (value == nullptr || value->is_object()) return value;
  refuse(name, fmt::format("expected an object, got {}", type_text(*value)));
  return nullptr;
}

const Json* Fields::list(std::string_view name, size_t max_size) {
  const Json* value = find(name);
  if (value == nullptr) return nullptr;
  if (!value->is_array()) {
    refuse(name, fmt::format("expected a list, got {}", type_text(*value)));
    return nullptr;
  }
  if (value->size() > max_size) {
    refuse(name, fmt::format("expected a list of at most {} items, got {}", max_size, value->size()));
    return nullptr;
  }
  return value;
}

void Fields::ignore(std::initializer_list<std::string_view> names) {
  for (const std::string_view name : names) known_.emplace(name);
}

void Fields::unsupported(std::string_view name, std::string_view why, const Json& harmless) {
  const Json* value = find(name);
  if (value != nullptr && *value != harmless) refuse(name, why, "unsupported_parameter");
}

void Fields::finish() {
  if (!ok()) return;
  for (const auto& [key, value] : object_.items()) {
    if (!known_.contains(key)) return refuse(printable(key), "there is no such field", "unknown_parameter");
  }
}

}  // namespace decant::serve
