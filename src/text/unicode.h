// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// UTF-8 and the character classes that pre-tokenizers split by.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace decant {

// kEnd is no character: what a reader sees past the end of its range.
enum class CharClass : uint8_t { kOther = 0, kLetter = 1, kNumber = 2, kSpace = 3, kEnd = 4 };

// \p{L}, \p{N} and \s (Unicode 15.1) of a code point; kOther for everything else, code points beyond U+10FFFF included.
// The first call builds the table (1.1 MB of address space, of which about 200 KB are touched). Thread-safe.
CharClass char_class(uint32_t code);

// Which half of a word a letter or mark may stand in, where tokenizers split at a change of case: upper and title case
// (\p{Lu}, \p{Lt}) in the first, lower case (\p{Ll}) in the second, all other letters and marks (\p{Lm}, \p{Lo}, \p{M})
// in both.
enum class LetterCase : uint8_t { kNone = 0, kUpper = 1, kLower = 2, kBoth = 3 };
LetterCase letter_case(uint32_t code);

// One character, or one byte that starts no valid character.
struct Utf8Char {
  uint32_t code = 0;  // U+FFFD when invalid
  uint8_t size = 1;   // bytes, 1..4; 1 when invalid
  bool valid = true;
};

// The character at text[0]. Strict: overlong forms, surrogates and code points beyond U+10FFFF are invalid.
// Precondition: text is not empty.
Utf8Char decode_utf8(std::string_view text);

// Appends `code` in UTF-8 (surrogates too, in the three bytes they would take). Precondition: code <= U+10FFFF.
void append_utf8(uint32_t code, std::string* out);

// Unicode's canonical composition (NFC); bytes that are not UTF-8 stay.
std::string compose_utf8(std::string_view text);

// Bytes at the end of `text` that begin a valid character but do not complete it, 0..3.
size_t incomplete_utf8_suffix(std::string_view text);

// The 256 printable characters that byte-level BPE (GPT-2) writes bytes as.
std::string_view byte_to_printable(uint8_t byte);
// The byte that a code point stands for there, or -1.
int printable_to_byte(uint32_t code);

}  // namespace decant
