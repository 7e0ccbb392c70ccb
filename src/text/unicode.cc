// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "text/unicode.h"

#include <utf8proc.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <memory>

namespace decant {
namespace {

struct CodeRange {
  uint32_t first, last;
};

#include "text/unicode_ranges.inc"

constexpr CodeRange kSpaceRanges[] = {{0x9, 0xD},       {0x20, 0x20},     {0x85, 0x85},     {0xA0, 0xA0},
                                      {0x1680, 0x1680}, {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F},
                                      {0x205F, 0x205F}, {0x3000, 0x3000}};

constexpr uint32_t kCodePoints = 0x110000;

struct FreeDeleter {
  void operator()(void* p) const { std::free(p); }
};

class ClassTable {
 public:
  // calloc leaves the pages of unassigned planes untouched.
  ClassTable() : classes_(static_cast<uint8_t*>(std::calloc(kCodePoints, 1))) {
    for (const CodeRange& r : kLetterRanges) fill(r, CharClass::kLetter);
    for (const CodeRange& r : kNumberRanges) fill(r, CharClass::kNumber);
    for (const CodeRange& r : kSpaceRanges) fill(r, CharClass::kSpace);
    for (const CodeRange& r : kLetterRanges) mark(r, LetterCase::kBoth);
    for (const CodeRange& r : kMarkRanges) mark(r, LetterCase::kBoth);
    for (const CodeRange& r : kUpperRanges) mark(r, LetterCase::kUpper);
    for (const CodeRange& r : kLowerRanges) mark(r, LetterCase::kLower);
  }
  const uint8_t* data() const { return classes_.get(); }

 private:
  void fill(const CodeRange& r, CharClass c) {
    std::memset(classes_.get() + r.first, static_cast<int>(c), r.last - r.first + 1);
  }
  // The case lies above the class.
  void mark(const CodeRange& r, LetterCase c) {
    for (uint32_t code = r.first; code <= r.last; ++code) {
      classes_.get()[code] = static_cast<uint8_t>((classes_.get()[code] & 0x0F) | static_cast<int>(c) << 4);
    }
  }
  std::unique_ptr<uint8_t, FreeDeleter> classes_;
};

struct PrintableTable {
  std::array<std::array<char, 2>, 256> text{};
  std::array<uint8_t, 256> size{};
  std::array<int16_t, 512> byte{};

  PrintableTable() {
    byte.fill(-1);
    uint32_t next = 256;
    for (uint32_t b = 0; b < 256; ++b) {
      const bool printable = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
      const uint32_t code = printable ? b : next++;
      std::string utf8;
      append_utf8(code, &utf8);
      std::memcpy(text[b].data(), utf8.data(), utf8.size());
      size[b] = static_cast<uint8_t>(utf8.size());
      byte[code] = static_cast<int16_t>(b);
    }
  }
};

const PrintableTable& printable_table() {
  static const PrintableTable table;
  return table;
}

bool is_continuation(unsigned char c) { return (c & 0xC0) == 0x80; }

// Range of the second byte for a lead byte; empty (low > high) when the byte leads nothing.
struct Lead {
  int size;
  unsigned char low, high;
};
Lead classify_lead(unsigned char c) {
  if (c >= 0xC2 && c <= 0xDF) return {2, 0x80, 0xBF};
  if (c == 0xE0) return {3, 0xA0, 0xBF};
  if (c == 0xED) return {3, 0x80, 0x9F};
  if (c >= 0xE1 && c <= 0xEF) return {3, 0x80, 0xBF};
  if (c == 0xF0) return {4, 0x90, 0xBF};
  if (c >= 0xF1 && c <= 0xF3) return {4, 0x80, 0xBF};
  if (c == 0xF4) return {4, 0x80, 0x8F};
  return {0, 1, 0};
}

}  // namespace

namespace {

uint8_t class_and_case(uint32_t code) {
  static const ClassTable table;
  return code < kCodePoints ? table.data()[code] : uint8_t{0};
}

}  // namespace

CharClass char_class(uint32_t code) { return static_cast<CharClass>(class_and_case(code) & 0x0F); }

LetterCase letter_case(uint32_t code) { return static_cast<LetterCase>(class_and_case(code) >> 4); }

Utf8Char decode_utf8(std::string_view text) {
  const auto* s = reinterpret_cast<const unsigned char*>(text.data());
  if (s[0] < 0x80) return {s[0], 1, true};
  constexpr Utf8Char kInvalid = {0xFFFD, 1, false};
  const Lead lead = classify_lead(s[0]);
  if (lead.size == 0 || text.size() < static_cast<size_t>(lead.size) || s[1] < lead.low || s[1] > lead.high) {
    return kInvalid;
  }
  uint32_t code = s[0] & (0x7Fu >> lead.size);
  for (int i = 1; i < lead.size; ++i) {
    if (!is_continuation(s[i])) return kInvalid;
    code = (code << 6) | (s[i] & 0x3Fu);
  }
  return {code, static_cast<uint8_t>(lead.size), true};
}

void append_utf8(uint32_t code, std::string* out) {
  const auto put = [out](uint32_t byte) { out->push_back(static_cast<char>(byte)); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xC0 | (code >> 6));
    put(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    put(0xE0 | (code >> 12));
    put(0x80 | ((code >> 6) & 0x3F));
    put(0x80 | (code & 0x3F));
  } else {
    put(0xF0 | (code >> 18));
    put(0x80 | ((code >> 12) & 0x3F));
    put(0x80 | ((code >> 6) & 0x3F));
    put(0x80 | (code & 0x3F));
  }
}

size_t incomplete_utf8_suffix(std::string_view text) {
  for (size_t back = 1; back <= 3 && back <= text.size(); ++back) {
    const auto* s = reinterpret_cast<const unsigned char*>(text.data() + text.size() - back);
    if (is_continuation(s[0])) continue;
    const Lead lead = classify_lead(s[0]);
    if (static_cast<size_t>(lead.size) <= back) return 0;
    return back == 1 || (s[1] >= lead.low && s[1] <= lead.high) ? back : 0;
  }
  return 0;
}

std::string_view byte_to_printable(uint8_t byte) {
  const PrintableTable& table = printable_table();
  return {table.text[byte].data(), table.size[byte]};
}

int printable_to_byte(uint32_t code) { return code < 512 ? printable_table().byte[code] : -1; }

std::string compose_utf8(std::string_view text) {
  // Below U+0300 nothing composes or decomposes with its neighbours: most texts are left as they are.
  std::string out;
  for (size_t at = 0; at < text.size();) {
    size_t end = at;  // of a stretch of valid characters
    bool changes = false;
    while (end < text.size()) {
      const auto byte = static_cast<unsigned char>(text[end]);
      if (byte < 0x80) {
        ++end;
        continue;
      }
      const Utf8Char c = decode_utf8(text.substr(end));
      if (!c.valid) break;
      changes = changes || c.code >= 0x300;
      end += c.size;
    }
    const std::string_view part = text.substr(at, end - at);
    if (!changes) {
      out.append(part);
    } else {
      utf8proc_uint8_t* composed = nullptr;
      const utf8proc_ssize_t size = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(part.data()),
                                                 static_cast<utf8proc_ssize_t>(part.size()), &composed,
                                                 static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
      out.append(size >= 0 ? std::string_view(reinterpret_cast<const char*>(composed), static_cast<size_t>(size))
                           : part);
      std::free(composed);
    }
    if (end < text.size()) out.push_back(text[end++]);  // a byte that starts no character
    at = end;
  }
  return out;
}

}  // namespace decant
