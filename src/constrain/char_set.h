// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Sets of Unicode scalar values (surrogates are in none), as sorted ranges.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace decant {

inline constexpr uint32_t kMaxCodePoint = 0x10FFFF;

struct CharRange {
  uint32_t first, last;  // both in it
  auto operator<=>(const CharRange&) const = default;
};

class CharSet {
 public:
  CharSet() = default;
  // Any ranges, in any order; surrogates and what lies beyond U+10FFFF are left out.
  explicit CharSet(std::vector<CharRange> ranges);
  static CharSet all() { return CharSet({{0, kMaxCodePoint}}); }
  static CharSet of(uint32_t code) { return CharSet({{code, code}}); }

  bool empty() const { return ranges_.empty(); }
  bool contains(uint32_t code) const;
  const std::vector<CharRange>& ranges() const { return ranges_; }

  CharSet complement() const;
  friend CharSet operator|(const CharSet& a, const CharSet& b);
  friend CharSet operator&(const CharSet& a, const CharSet& b);
  friend CharSet operator-(const CharSet& a, const CharSet& b) { return a & b.complement(); }
  auto operator<=>(const CharSet&) const = default;

 private:
  std::vector<CharRange> ranges_;  // disjoint, not adjacent, ascending
};

// \d, \w and \s of ECMA-262 (digits and words in ASCII, white space of Unicode), and what '.' stands for.
const CharSet& digit_chars();
const CharSet& word_chars();
const CharSet& space_chars();
const CharSet& no_line_end_chars();

// \p{name}: a general category by its short or long name ("Lu", "Uppercase_Letter", "L", "Letter"), with or without
// "General_Category=", or "Any", "ASCII". nullopt for another property (scripts and binary properties are not here).
std::optional<CharSet> unicode_property(std::string_view name);

// Adds to `set` the code points that differ from one in it by case only (Unicode's simple mappings).
CharSet fold_case(const CharSet& set);

}  // namespace decant
