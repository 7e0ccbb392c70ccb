// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "base/strict_json.h"

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "base/printable.h"

namespace decant {
namespace {

using nlohmann::json;

class StrictParser final : public nlohmann::json_sax<json> {
 public:
  explicit StrictParser(size_t max_depth) : max_depth_(max_depth) {}

  bool parse(std::string_view text) {
    if (text.find('\0') != std::string_view::npos) return fail("a zero byte");
    return json::sax_parse(text.begin(), text.end(), this) && stack_.empty() && done_;
  }
  json take() { return std::move(root_); }
  const std::string& problem() const { return problem_; }

  bool null() override { return put(nullptr); }
  bool boolean(bool v) override { return put(v); }
  bool number_integer(number_integer_t v) override { return put(v); }
  bool number_unsigned(number_unsigned_t v) override { return put(v); }
  bool number_float(number_float_t v, const string_t&) override { return put(v); }
  bool string(string_t& v) override { return put(std::move(v)); }
  bool binary(binary_t&) override { return fail("binary data"); }
  bool start_object(size_t) override { return open(json::object()); }
  bool start_array(size_t) override { return open(json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool key(string_t& k) override {
    if (stack_.back()->contains(k)) return fail("\"" + printable(k) + "\" appears twice");
    key_ = k;
    return true;
  }
  bool parse_error(size_t position, const std::string&, const json::exception&) override {
    return fail("no JSON at byte " + std::to_string(position));
  }

 private:
  bool fail(std::string what) {
    if (problem_.empty()) problem_ = std::move(what);
    return false;
  }
  json* place(json value) {
    if (stack_.empty()) {
      root_ = std::move(value);
      done_ = true;
      return &root_;
    }
    json& parent = *stack_.back();
    if (parent.is_object()) return &(parent[key_] = std::move(value));
    parent.push_back(std::move(value));
    return &parent.back();
  }
  template <typename T>
  bool put(T&& value) {
    place(json(std::forward<T>(value)));
    return true;
  }
  bool open(json value) {
    if (stack_.size() >= max_depth_) return fail("nested too deeply");
    stack_.push_back(place(std::move(value)));
    return true;
  }
  bool close() {
    stack_.pop_back();
    return true;
  }

  size_t max_depth_;
  json root_;
  std::vector<json*> stack_;  // containers are only appended to while they are open, so addresses last
  std::string key_, problem_;
  bool done_ = false;
};

}  // namespace

Result<json> parse_json(std::string_view text, size_t max_depth) {
  StrictParser parser(max_depth);
  if (!parser.parse(text)) return Status::make(Code::kCorrupt, parser.problem().empty() ? "no JSON" : parser.problem());
  return parser.take();
}

Result<json> parse_json_object(std::string_view text, size_t max_depth) {
  DECANT_TRY(json value, parse_json(text, max_depth));
  if (!value.is_object()) return Status::make(Code::kCorrupt, "no JSON object");
  return value;
}

}  // namespace decant
