// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "base/spec.h"

#include <algorithm>
#include <charconv>

#include "base/printable.h"

namespace decant {
namespace {

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

bool is_word(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
  });
}

}  // namespace

std::vector<std::string> split_outside(std::string_view text, char separator) {
  std::vector<std::string> parts;
  int open = 0;
  size_t begin = 0;
  for (size_t i = 0; i <= text.size(); ++i) {
    if (i < text.size()) {
      if (text[i] == '(') ++open;
      if (text[i] == ')') --open;
      if (text[i] != separator || open > 0) continue;
    }
    parts.emplace_back(trim(text.substr(begin, i - begin)));
    begin = i + 1;
  }
  return parts;
}

Result<Spec> parse_spec(std::string_view text) {
  const Status form = Status::invalid_argument("expected NAME or NAME(SETTING=VALUE, ...), got '{}'", printable(text));
  Spec spec;
  text = trim(text);
  const size_t open = text.find('(');
  spec.name = std::string(trim(text.substr(0, open)));
  if (!is_word(spec.name)) return form;
  if (open == std::string_view::npos) return spec;
  if (text.back() != ')') return form;
  std::string_view inside = trim(text.substr(open + 1, text.size() - open - 2));
  while (!inside.empty()) {
    const size_t comma = std::min(inside.find(','), inside.size());
    const std::string_view part = inside.substr(0, comma);
    const size_t equals = part.find('=');
    if (equals == std::string_view::npos) return form;
    const std::string_view name = trim(part.substr(0, equals)), value = trim(part.substr(equals + 1));
    if (!is_word(name) || value.empty()) return form;
    for (const auto& [known, other] : spec.settings) {
      if (known == name) return Status::invalid_argument("{} is given twice", name);
    }
    spec.settings.emplace_back(name, value);
    if (comma == inside.size()) break;
    inside = trim(inside.substr(comma + 1));
    if (inside.empty()) return form;  // nothing behind a comma
  }
  return spec;
}

Status read_settings(const Spec& spec, const std::vector<SpecInteger>& known) {
  for (const auto& [name, value] : spec.settings) {
    const auto found =
        std::find_if(known.begin(), known.end(), [&, n = &name](const SpecInteger& k) { return k.name == *n; });
    if (found == known.end()) {
      std::string names;
      for (const SpecInteger& k : known) names += (names.empty() ? "" : ", ") + std::string(k.name);
      return Status::invalid_argument("{} has no setting {}; there are: {}", spec.name, name, names);
    }
    int64_t number = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
    if (error != std::errc() || end != value.data() + value.size() || number < found->min || number > found->max) {
      return Status::invalid_argument("{}: expected a whole number from {} to {}, got '{}'", name, found->min,
                                      found->max, printable(value));
    }
    *found->value = number;
  }
  return {};
}

}  // namespace decant
