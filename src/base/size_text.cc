// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "base/size_text.h"

#include <fmt/core.h>

#include <charconv>
#include <utility>

namespace decant {

std::string size_text(int64_t bytes) {
  const auto x = static_cast<double>(bytes);
  if (x >= 1e9) return fmt::format("{:.2f} GB", x / 1e9);
  if (x >= 1e6) return fmt::format("{:.1f} MB", x / 1e6);
  if (x >= 1e3) return fmt::format("{:.1f} kB", x / 1e3);
  return fmt::format("{} bytes", bytes);
}

std::optional<int64_t> parse_size(std::string_view text) {
  int64_t unit = 1;
  for (const auto& [suffix, bytes] :
       {std::pair{'K', int64_t{1'000}}, std::pair{'M', int64_t{1'000'000}}, std::pair{'G', int64_t{1'000'000'000}},
        std::pair{'T', int64_t{1'000'000'000'000}}}) {
    if (text.ends_with(suffix)) unit = bytes;
  }
  if (unit > 1) text.remove_suffix(1);
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || number < 0 || number > INT64_MAX / unit) {
    return std::nullopt;
  }
  return number * unit;
}

}  // namespace decant
