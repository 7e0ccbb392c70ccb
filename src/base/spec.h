// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// How a method and its settings are named in one word: "asap(samples=100, batch=4)", or just "asap".
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"

namespace decant {

struct Spec {
  std::string name;
  std::vector<std::pair<std::string, std::string>> settings;  // in the order given, no name twice
};

// Parts of "a(x=1, y=2), b" at the separators outside of parentheses, without the blanks around them. At least one.
std::vector<std::string> split_outside(std::string_view text, char separator);

// kInvalidArgument for what does not have that form.
Result<Spec> parse_spec(std::string_view text);

// A setting that takes a whole number within bounds.
struct SpecInteger {
  std::string_view name;
  int64_t min, max;
  int64_t* value;
};
// kInvalidArgument for an unknown setting (which ones there are) or a value that is none.
Status read_settings(const Spec& spec, const std::vector<SpecInteger>& known);

}  // namespace decant
