// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// The inside of a JSON string, byte by byte: UTF-8 (strict) and escapes.
#pragma once

#include <cstdint>

namespace decant {

// Where the bytes of a character stand.
struct CharCursor {
  enum class Kind : uint8_t { kBetween, kUtf8, kBackslash, kHex, kLowBackslash, kLowU, kLowHex } kind = Kind::kBetween;
  uint8_t left = 0;   // bytes or hex digits to come
  uint8_t total = 0;  // kUtf8: bytes of the character
  uint32_t code = 0;  // so far
  uint32_t high = 0;  // the first half of a surrogate pair
  bool operator==(const CharCursor&) const = default;
};

enum class Fed { kMore, kChar, kQuote, kBad };

// kChar: cursor->code is the character, and the cursor is between characters again. kQuote: an unescaped '"'.
Fed feed(CharCursor* cursor, uint8_t byte);

// Whether the bytes so far can go on to this character.
bool reaches(const CharCursor& cursor, uint32_t code);

}  // namespace decant
