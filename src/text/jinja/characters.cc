// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/characters.h"

#include <algorithm>
#include <iterator>
#include <span>

#include "text/unicode.h"

namespace decant::jinja {
namespace {

struct CaseRange {
  uint32_t first, last, step;
  int32_t delta;
};
struct LongCase {
  uint32_t code;
  const char* text;
};
struct CodeSpan {
  uint32_t first, last;
};

#include "text/jinja/case_tables.inc"

bool in(std::span<const CodeSpan> spans, uint32_t code) {
  const auto it =
      std::upper_bound(spans.begin(), spans.end(), code, [](uint32_t c, const CodeSpan& s) { return c < s.first; });
  return it != spans.begin() && code <= std::prev(it)->last;
}

}  // namespace

void append_in_case(uint32_t code, Case to, std::string* out) {
  std::span<const CaseRange> ranges = kUpperRanges;
  std::span<const LongCase> longer = kUpperLong;
  if (to == Case::kLower) {
    ranges = kLowerRanges;
    longer = kLowerLong;
  } else if (to == Case::kTitle) {
    ranges = kTitleRanges;
    longer = kTitleLong;
  }
  const auto text =
      std::lower_bound(longer.begin(), longer.end(), code, [](const LongCase& l, uint32_t c) { return l.code < c; });
  if (text != longer.end() && text->code == code) {
    *out += text->text;
    return;
  }
  const auto it =
      std::upper_bound(ranges.begin(), ranges.end(), code, [](uint32_t c, const CaseRange& r) { return c < r.first; });
  if (it != ranges.begin()) {
    const CaseRange& r = *std::prev(it);
    if (code <= r.last && (code - r.first) % r.step == 0)
      code = static_cast<uint32_t>(static_cast<int32_t>(code) + r.delta);
  }
  append_utf8(code, out);
}

bool is_printable(uint32_t code) { return in(kPrintableSpans, code); }
bool is_decimal(uint32_t code) { return in(kDecimalSpans, code); }
bool is_digit(uint32_t code) { return in(kDigitSpans, code); }
bool is_numeric(uint32_t code) { return in(kNumericSpans, code); }
bool is_upper(uint32_t code) { return in(kUpperLetterSpans, code); }
bool is_lower(uint32_t code) { return in(kLowerLetterSpans, code); }
bool is_alpha(uint32_t code) { return char_class(code) == CharClass::kLetter; }

}  // namespace decant::jinja
