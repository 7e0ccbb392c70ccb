// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "constrain/char_set.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <map>
#include <string>

namespace decant {

CharSet::CharSet(std::vector<CharRange> ranges) {
  std::vector<CharRange> parts;
  for (const CharRange& r : ranges) {
    const uint32_t last = std::min(r.last, kMaxCodePoint);
    if (r.first > last) continue;
    if (r.first < 0xD800) parts.push_back({r.first, std::min(last, 0xD7FFu)});
    if (last > 0xDFFF) parts.push_back({std::max(r.first, 0xE000u), last});
  }
  std::sort(parts.begin(), parts.end());
  for (const CharRange& r : parts) {
    // U+D7FF and U+E000 follow each other here.
    const bool joins = !ranges_.empty() &&
                       (r.first <= ranges_.back().last + 1 || (ranges_.back().last == 0xD7FF && r.first == 0xE000));
    if (joins) {
      ranges_.back().last = std::max(ranges_.back().last, r.last);
    } else {
      ranges_.push_back(r);
    }
  }
}

bool CharSet::contains(uint32_t code) const {
  if (code >= 0xD800 && code <= 0xDFFF) return false;
  const auto it = std::upper_bound(ranges_.begin(), ranges_.end(), code,
                                   [](uint32_t c, const CharRange& r) { return c < r.first; });
  return it != ranges_.begin() && code <= std::prev(it)->last;
}

CharSet CharSet::complement() const {
  std::vector<CharRange> gaps;
  uint32_t next = 0;
  for (const CharRange& r : ranges_) {
    if (r.first > next) gaps.push_back({next, r.first - 1});
    next = r.last + 1;
  }
  if (next <= kMaxCodePoint) gaps.push_back({next, kMaxCodePoint});
  return CharSet(std::move(gaps));
}

CharSet operator|(const CharSet& a, const CharSet& b) {
  std::vector<CharRange> both = a.ranges_;
  both.insert(both.end(), b.ranges_.begin(), b.ranges_.end());
  return CharSet(std::move(both));
}

CharSet operator&(const CharSet& a, const CharSet& b) {
  std::vector<CharRange> common;
  for (size_t i = 0, j = 0; i < a.ranges_.size() && j < b.ranges_.size();) {
    const CharRange x = a.ranges_[i], y = b.ranges_[j];
    const uint32_t first = std::max(x.first, y.first), last = std::min(x.last, y.last);
    if (first <= last) common.push_back({first, last});
    if (x.last < y.last) {
      ++i;
    } else {
      ++j;
    }
  }
  return CharSet(std::move(common));
}

const CharSet& digit_chars() {
  static const CharSet set({{'0', '9'}});
  return set;
}
const CharSet& word_chars() {
  static const CharSet set({{'0', '9'}, {'A', 'Z'}, {'a', 'z'}, {'_', '_'}});
  return set;
}
const CharSet& space_chars() {
  static const CharSet set({{0x9, 0xD},
                            {0x20, 0x20},
                            {0xA0, 0xA0},
                            {0x1680, 0x1680},
                            {0x2000, 0x200A},
                            {0x2028, 0x2029},
                            {0x202F, 0x202F},
                            {0x205F, 0x205F},
                            {0x3000, 0x3000},
                            {0xFEFF, 0xFEFF}});
  return set;
}
const CharSet& no_line_end_chars() {
  static const CharSet set = CharSet({{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}}).complement();
  return set;
}

namespace {

struct CategoryName {
  const char* name;
  const char* long_name;
  const char* categories;  // the two-letter ones that it stands for; "" for its own
};
constexpr CategoryName kCategoryNames[] = {
    {"L", "Letter", "Lu Ll Lt Lm Lo"},
    {"LC", "Cased_Letter", "Lu Ll Lt"},
    {"Lu", "Uppercase_Letter", ""},
    {"Ll", "Lowercase_Letter", ""},
    {"Lt", "Titlecase_Letter", ""},
    {"Lm", "Modifier_Letter", ""},
    {"Lo", "Other_Letter", ""},
    {"M", "Mark", "Mn Mc Me"},
    {"Mn", "Nonspacing_Mark", ""},
    {"Mc", "Spacing_Mark", ""},
    {"Me", "Enclosing_Mark", ""},
    {"N", "Number", "Nd Nl No"},
    {"Nd", "Decimal_Number", ""},
    {"Nl", "Letter_Number", ""},
    {"No", "Other_Number", ""},
    {"P", "Punctuation", "Pc Pd Ps Pe Pi Pf Po"},
    {"Pc", "Connector_Punctuation", ""},
    {"Pd", "Dash_Punctuation", ""},
    {"Ps", "Open_Punctuation", ""},
    {"Pe", "Close_Punctuation", ""},
    {"Pi", "Initial_Punctuation", ""},
    {"Pf", "Final_Punctuation", ""},
    {"Po", "Other_Punctuation", ""},
    {"S", "Symbol", "Sm Sc Sk So"},
    {"Sm", "Math_Symbol", ""},
    {"Sc", "Currency_Symbol", ""},
    {"Sk", "Modifier_Symbol", ""},
    {"So", "Other_Symbol", ""},
    {"Z", "Separator", "Zs Zl Zp"},
    {"Zs", "Space_Separator", ""},
    {"Zl", "Line_Separator", ""},
    {"Zp", "Paragraph_Separator", ""},
    {"C", "Other", "Cc Cf Co Cn"},
    {"Cc", "Control", ""},
    {"Cf", "Format", ""},
    {"Co", "Private_Use", ""},
    {"Cn", "Unassigned", ""},
    {"digit", "Decimal_Number", "Nd"},
    {"punct", "Punctuation", "Pc Pd Ps Pe Pi Pf Po"},
};

// The code points of each two-letter category, once for the program.
const std::map<std::string, CharSet, std::less<>>& categories() {
  static const std::map<std::string, CharSet, std::less<>> all = [] {
    std::map<std::string, std::vector<CharRange>> ranges;
    for (uint32_t code = 0; code <= kMaxCodePoint; ++code) {
      std::vector<CharRange>& list = ranges[utf8proc_category_string(static_cast<utf8proc_int32_t>(code))];
      if (!list.empty() && list.back().last + 1 == code) {
        list.back().last = code;
      } else {
        list.push_back({code, code});
      }
    }
    std::map<std::string, CharSet, std::less<>> sets;
    for (auto& [name, list] : ranges) sets.emplace(name, CharSet(std::move(list)));
    return sets;
  }();
  return all;
}

}  // namespace

std::optional<CharSet> unicode_property(std::string_view name) {
  for (const std::string_view prefix : {"General_Category=", "gc="}) {
    if (name.starts_with(prefix)) name.remove_prefix(prefix.size());
  }
  if (name == "Any") return CharSet::all();
  if (name == "ASCII") return CharSet({{0, 0x7F}});
  for (const CategoryName& known : kCategoryNames) {
    if (name != known.name && name != known.long_name) continue;
    std::string_view list = known.categories;
    if (list.empty()) list = known.name;
    CharSet set;
    for (; !list.empty(); list.remove_prefix(std::min<size_t>(3, list.size()))) {
      const auto it = categories().find(list.substr(0, 2));
      if (it != categories().end()) set = set | it->second;
    }
    return set;
  }
  return std::nullopt;
}

CharSet fold_case(const CharSet& set) {
  std::vector<CharRange> added = set.ranges();
  // A range that covers most of Unicode has its cases in it already.
  for (const CharRange& r : set.ranges()) {
    if (r.last - r.first > 0x3000) continue;
    for (uint32_t code = r.first; code <= r.last; ++code) {
      const auto lower = static_cast<uint32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(code)));
      const auto upper = static_cast<uint32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(code)));
      if (lower != code) added.push_back({lower, lower});
      if (upper != code) added.push_back({upper, upper});
    }
  }
  return CharSet(std::move(added));
}

}  // namespace decant
