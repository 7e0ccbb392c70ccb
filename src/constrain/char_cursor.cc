// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "constrain/char_cursor.h"

namespace decant {
namespace {

bool is_hex(uint8_t c) { return (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'f'); }
uint32_t hex_value(uint8_t c) { return c <= '9' ? c - '0' : (c | 32u) - 'a' + 10; }

}  // namespace

Fed feed(CharCursor* cursor, uint8_t byte) {
  using Kind = CharCursor::Kind;
  const auto done = [&](uint32_t code) {
    *cursor = CharCursor{};
    cursor->code = code;
    return Fed::kChar;
  };
  switch (cursor->kind) {
    case Kind::kBetween:
      if (byte == '"') return Fed::kQuote;
      if (byte < 0x20) return Fed::kBad;
      if (byte == '\\') {
        *cursor = {.kind = Kind::kBackslash};
        return Fed::kMore;
      }
      if (byte < 0x80) return done(byte);
      if (byte >= 0xC2 && byte <= 0xDF) {
        *cursor = {.kind = Kind::kUtf8, .left = 1, .total = 2, .code = byte & 0x1Fu};
      } else if (byte >= 0xE0 && byte <= 0xEF) {
        *cursor = {.kind = Kind::kUtf8, .left = 2, .total = 3, .code = byte & 0x0Fu};
      } else if (byte >= 0xF0 && byte <= 0xF4) {
        *cursor = {.kind = Kind::kUtf8, .left = 3, .total = 4, .code = byte & 0x07u};
      } else {
        return Fed::kBad;
      }
      return Fed::kMore;
    case Kind::kUtf8: {
      if ((byte & 0xC0) != 0x80) return Fed::kBad;
      if (cursor->left + 1 == cursor->total) {
        // The second byte: no overlong form, no surrogate, nothing beyond U+10FFFF.
        const uint32_t lead = cursor->code;
        if (cursor->total == 3 && ((lead == 0 && byte < 0xA0) || (lead == 0xD && byte > 0x9F))) return Fed::kBad;
        if (cursor->total == 4 && ((lead == 0 && byte < 0x90) || (lead == 4 && byte > 0x8F))) return Fed::kBad;
      }
      cursor->code = cursor->code << 6 | (byte & 0x3Fu);
      if (--cursor->left == 0) return done(cursor->code);
      return Fed::kMore;
    }
    case Kind::kBackslash:
      switch (byte) {
        case '"':
        case '\\':
        case '/': return done(byte);
        case 'b': return done('\b');
        case 'f': return done('\f');
        case 'n': return done('\n');
        case 'r': return done('\r');
        case 't': return done('\t');
        case 'u': *cursor = {.kind = Kind::kHex, .left = 4}; return Fed::kMore;
        default: return Fed::kBad;
      }
    case Kind::kHex:
    case Kind::kLowHex:
      if (!is_hex(byte)) return Fed::kBad;
      cursor->code = cursor->code << 4 | hex_value(byte);
      if (cursor->kind == Kind::kHex && cursor->left == 3 && (cursor->code >= 0xDC && cursor->code <= 0xDF))
        return Fed::kBad;
      if (cursor->kind == Kind::kLowHex && cursor->left == 4 && cursor->code != 0xD) return Fed::kBad;
      if (cursor->kind == Kind::kLowHex && cursor->left == 3 && (cursor->code < 0xDC || cursor->code > 0xDF))
        return Fed::kBad;
      if (--cursor->left > 0) return Fed::kMore;
      if (cursor->kind == Kind::kLowHex)
        return done(0x10000 + ((cursor->high - 0xD800) << 10) + (cursor->code - 0xDC00));
      if (cursor->code < 0xD800 || cursor->code > 0xDBFF) return done(cursor->code);
      *cursor = {.kind = Kind::kLowBackslash, .high = cursor->code};
      return Fed::kMore;
    case Kind::kLowBackslash:
      if (byte != '\\') return Fed::kBad;
      cursor->kind = Kind::kLowU;
      return Fed::kMore;
    case Kind::kLowU:
      if (byte != 'u') return Fed::kBad;
      *cursor = {.kind = Kind::kLowHex, .left = 4, .high = cursor->high};
      return Fed::kMore;
  }
  return Fed::kBad;
}

bool reaches(const CharCursor& cursor, uint32_t code) {
  using Kind = CharCursor::Kind;
  const uint32_t high = code < 0x10000 ? code : 0xD800 + ((code - 0x10000) >> 10);
  const uint32_t low = code < 0x10000 ? 0 : 0xDC00 + ((code - 0x10000) & 0x3FF);
  switch (cursor.kind) {
    case Kind::kUtf8: {
      const int total = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
      return total == cursor.total && code >> (6 * cursor.left) == cursor.code;
    }
    case Kind::kHex: return high >> (4 * cursor.left) == cursor.code;
    case Kind::kLowBackslash:
    case Kind::kLowU: return low != 0 && high == cursor.high;
    case Kind::kLowHex: return low != 0 && high == cursor.high && low >> (4 * cursor.left) == cursor.code;
    default: return true;
  }
}

}  // namespace decant
