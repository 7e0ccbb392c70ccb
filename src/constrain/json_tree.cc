// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "constrain/json_tree.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "base/printable.h"

namespace decant {
namespace {

constexpr int64_t kMaxDigits = 400;

// Builds a JsonNode from the parser's events.
class TreeBuilder {
 public:
  using json = nlohmann::json;
  TreeBuilder(JsonNode* root, int max_depth) : root_(root), max_depth_(max_depth) {}

  bool null() { return add({}); }
  bool boolean(bool value) {
    JsonNode node{.type = JsonNode::Type::kBool};
    node.boolean = value;
    return add(std::move(node));
  }
  bool number_integer(int64_t value) { return number(std::to_string(value)); }
  bool number_unsigned(uint64_t value) { return number(std::to_string(value)); }
  bool number_float(double, const std::string& text) { return number(text); }
  bool string(std::string& value) {
    JsonNode node{.type = JsonNode::Type::kString};
    node.text = std::move(value);
    return add(std::move(node));
  }
  bool binary(json::binary_t&) { return false; }
  bool start_object(size_t) { return open(JsonNode::Type::kObject); }
  bool end_object() { return close(); }
  bool start_array(size_t) { return open(JsonNode::Type::kArray); }
  bool end_array() { return close(); }
  bool key(std::string& value) {
    // Objects of a few members are searched, larger ones have a set.
    JsonNode& object = *open_.back();
    std::unordered_set<std::string>& names = names_.back();
    const bool large = object.members.size() >= 16;
    if (large && names.empty()) {
      for (const auto& member : object.members) names.insert(member.name);
    }
    if (large ? !names.insert(value).second : object.find(value) != nullptr) {
      status_ = Status::corrupt("\"{}\" appears twice", printable(value));
      return false;
    }
    object.members.push_back({std::move(value), JsonNode()});
    return true;
  }
  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception& error) {
    position_ = position;
    if (error.id == 406) status_ = Status::unsupported("a number too large for a double");
    return false;
  }

  const Status& status() const { return status_; }
  size_t position() const { return position_; }

 private:
  bool number(const std::string& text) {
    JsonNode node{.type = JsonNode::Type::kNumber};
    node.number = parse_decimal(text);
    node.text = text;
    return add(std::move(node));
  }
  JsonNode* place(JsonNode node) {
    if (open_.empty()) {
      *root_ = std::move(node);
      return root_;
    }
    JsonNode& parent = *open_.back();
    if (parent.is_object()) {
      parent.members.back().value = std::move(node);
      return &parent.members.back().value;
    }
    parent.items.push_back(std::move(node));
    return &parent.items.back();
  }
  bool add(JsonNode node) {
    place(std::move(node));
    return true;
  }
  bool open(JsonNode::Type type) {
    if (static_cast<int>(open_.size()) >= max_depth_) {
      status_ = Status::unsupported("nested deeper than {}", max_depth_);
      return false;
    }
    JsonNode node;
    node.type = type;
    open_.push_back(place(std::move(node)));
    names_.emplace_back();
    return true;
  }
  bool close() {
    open_.pop_back();
    names_.pop_back();
    return true;
  }

  JsonNode* root_;
  int max_depth_;
  std::vector<JsonNode*> open_;
  std::vector<std::unordered_set<std::string>> names_;
  Status status_;
  size_t position_ = 0;
};

void append_canonical(const JsonNode& value, std::string* out) {
  switch (value.type) {
    case JsonNode::Type::kNull: *out += 'n'; break;
    case JsonNode::Type::kBool: *out += value.boolean ? 't' : 'f'; break;
    case JsonNode::Type::kNumber:
      *out += fmt::format("{}{}e{};", value.number.negative ? "-" : "+", value.number.digits, value.number.exponent);
      break;
    case JsonNode::Type::kString: *out += fmt::format("\"{}:{}", value.text.size(), value.text); break;
    case JsonNode::Type::kArray:
      *out += '[';
      for (const JsonNode& item : value.items) append_canonical(item, out);
      *out += ']';
      break;
    case JsonNode::Type::kObject: {
      std::vector<const JsonMember*> members;
      for (const auto& member : value.members) members.push_back(&member);
      std::sort(members.begin(), members.end(), [](const auto* a, const auto* b) { return a->name < b->name; });
      *out += '{';
      for (const auto* member : members) {
        *out += fmt::format("\"{}:{}", member->name.size(), member->name);
        append_canonical(member->value, out);
      }
      *out += '}';
      break;
    }
  }
}

void append_string(std::string_view text, std::string* out) {
  *out += '"';
  for (const char c : text) {
    switch (c) {
      case '"': *out += "\\\""; break;
      case '\\': *out += "\\\\"; break;
      case '\n': *out += "\\n"; break;
      case '\r': *out += "\\r"; break;
      case '\t': *out += "\\t"; break;
      case '\b': *out += "\\b"; break;
      case '\f': *out += "\\f"; break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          *out += fmt::format("\\u{:04x}", static_cast<int>(c));
        } else {
          *out += c;
        }
    }
  }
  *out += '"';
}

void append_line(const JsonNode& value, std::string* out) {
  switch (value.type) {
    case JsonNode::Type::kNull: *out += "null"; break;
    case JsonNode::Type::kBool: *out += value.boolean ? "true" : "false"; break;
    case JsonNode::Type::kNumber: *out += value.text; break;
    case JsonNode::Type::kString: append_string(value.text, out); break;
    case JsonNode::Type::kArray: {
      *out += '[';
      for (size_t i = 0; i < value.items.size(); ++i) {
        if (i > 0) *out += ", ";
        append_line(value.items[i], out);
      }
      *out += ']';
      break;
    }
    case JsonNode::Type::kObject: {
      *out += '{';
      for (size_t i = 0; i < value.members.size(); ++i) {
        if (i > 0) *out += ", ";
        append_string(value.members[i].name, out);
        *out += ": ";
        append_line(value.members[i].value, out);
      }
      *out += '}';
      break;
    }
  }
}

}  // namespace

Result<std::pair<std::string, std::string>> Decimal::split() const {
  const auto size = static_cast<int64_t>(digits.size());
  if (size > kMaxDigits || exponent > kMaxDigits || exponent < -kMaxDigits) {
    return Status::unsupported("a number of more than {} digits", kMaxDigits);
  }
  if (exponent >= 0)
    return std::pair(digits.empty() ? "" : digits + std::string(static_cast<size_t>(exponent), '0'), std::string());
  const int64_t whole = size + exponent;  // digits before the point
  if (whole <= 0) return std::pair(std::string(), std::string(static_cast<size_t>(-whole), '0') + digits);
  return std::pair(digits.substr(0, static_cast<size_t>(whole)), digits.substr(static_cast<size_t>(whole)));
}

std::optional<int64_t> Decimal::as_count(int64_t max) const {
  if (is_zero()) return 0;
  if (negative || exponent < 0 || static_cast<int64_t>(digits.size()) + exponent > 18) return std::nullopt;
  int64_t value = std::stoll(digits);
  for (int64_t i = 0; i < exponent; ++i) value *= 10;
  return value <= max ? std::optional(value) : std::nullopt;
}

Decimal parse_decimal(std::string_view text) {
  Decimal d;
  d.negative = text.starts_with('-');
  bool fraction = false;
  size_t i = d.negative ? 1 : 0;
  for (; i < text.size() && text[i] != 'e' && text[i] != 'E'; ++i) {
    if (text[i] == '.') {
      fraction = true;
      continue;
    }
    d.digits += text[i];
    if (fraction) --d.exponent;
  }
  if (i < text.size()) {
    int64_t exponent = 0;
    bool negative = false;
    for (++i; i < text.size(); ++i) {
      if (text[i] == '-') negative = true;
      if (text[i] >= '0' && text[i] <= '9')
        exponent = std::min<int64_t>(exponent * 10 + (text[i] - '0'), 1'000'000'000);
    }
    d.exponent += negative ? -exponent : exponent;
  }
  d.digits.erase(0, std::min(d.digits.find_first_not_of('0'), d.digits.size()));
  while (d.digits.ends_with('0')) {
    d.digits.pop_back();
    ++d.exponent;
  }
  if (d.digits.empty()) d = Decimal();
  return d;
}

const JsonNode* JsonNode::find(std::string_view key) const {
  for (const auto& [name, value] : members) {
    if (name == key) return &value;
  }
  return nullptr;
}

bool same_json(const JsonNode& a, const JsonNode& b) {
  return a.type == b.type && canonical_json(a) == canonical_json(b);
}

std::string canonical_json(const JsonNode& value) {
  std::string text;
  append_canonical(value, &text);
  return text;
}

std::string json_line(const JsonNode& value) {
  std::string text;
  append_line(value, &text);
  return text;
}

Result<JsonNode> parse_json_tree(std::string_view text, int max_depth) {
  JsonNode root;
  TreeBuilder builder(&root, max_depth);
  const auto line_of = [&](size_t position) {
    const std::string_view before = text.substr(0, std::min(position > 0 ? position - 1 : 0, text.size()));
    const auto line = std::count(before.begin(), before.end(), '\n') + 1;
    const size_t begin = before.rfind('\n');
    return fmt::format("line {}, column {}", line,
                       before.size() - (begin == std::string_view::npos ? 0 : begin + 1) + 1);
  };
  // A zero byte would end the text for the parser.
  if (const size_t zero = text.find('\0'); zero != std::string_view::npos) {
    return Status::corrupt("not JSON: a zero byte at {}", line_of(zero + 1));
  }
  if (nlohmann::json::sax_parse(text.begin(), text.end(), &builder)) return root;
  if (!builder.status().ok()) return builder.status();
  return Status::corrupt("not JSON: {}", line_of(builder.position()));
}

}  // namespace decant
