// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace decant {

// A text from a file as a message may show it: control and non-ASCII bytes as \xNN, cut after `limit` bytes.
std::string printable(std::string_view text, size_t limit = 80);

}  // namespace decant
