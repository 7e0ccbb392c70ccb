// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// What Python's str methods say of characters. Internal to src/text.
#pragma once

#include <cstdint>
#include <string>

namespace decant::jinja {

enum class Case { kUpper, kLower, kTitle };

// Appends the character in another case; some become several characters. (Python's rule for a sigma at the end of a
// word is left out: it becomes the ordinary one.) Codes that are no characters, the stray bytes of value.h, are not
// accepted.
void append_in_case(uint32_t code, Case to, std::string* out);

bool is_printable(uint32_t code);
bool is_decimal(uint32_t code);
bool is_digit(uint32_t code);
bool is_numeric(uint32_t code);
bool is_upper(uint32_t code);
bool is_lower(uint32_t code);
bool is_alpha(uint32_t code);

}  // namespace decant::jinja
