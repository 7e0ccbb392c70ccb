// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace decant {

// A size for people: "98.4 MB".
std::string size_text(int64_t bytes);

// The other way: a whole number of bytes with or without K, M, G or T (powers of 1,000, as size_text() has them).
std::optional<int64_t> parse_size(std::string_view text);

}  // namespace decant
