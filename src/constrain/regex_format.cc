// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "constrain/regex_format.h"

#include <fmt/format.h>

#include <string>

namespace decant {
namespace {

// "m,n" with m not above n.
std::string bounds() {
  std::string pattern;
  for (int d = 0; d < 10; ++d) pattern += fmt::format("|{0},[{0}-9]", d);
  pattern += "|[0-9],[1-9][0-9]{1,3}|[1-9][0-9],[1-9][0-9]{2,3}|[1-9][0-9]{2},[1-9][0-9]{3}";
  for (int d = 1; d < 10; ++d) {
    if (d < 9)
      pattern += fmt::format("|{0}[0-9],[{1}-9][0-9]|{0}[0-9]{{2}},[{1}-9][0-9]{{2}}|{0}[0-9]{{3}},[{1}-9][0-9]{{3}}",
                             d, d + 1);
    for (int e = 0; e < 10; ++e) pattern += fmt::format("|{0}{1},{0}[{1}-9]", d, e);
  }
  return pattern.substr(1);
}

RegexId parsed(const std::string& pattern, RegexPool* pool) {
  const Result<RegexId> id = parse_regex(pattern, RegexDialect::kFull, pool);
  DECANT_CHECK(id.ok());
  return *id;
}

RegexId sequence(std::initializer_list<RegexId> parts, RegexPool* pool) {
  RegexId whole = pool->empty();
  for (auto part = std::rbegin(parts); part != std::rend(parts); ++part) whole = pool->concat(*part, whole);
  return whole;
}

// A hexadecimal digit of at least `first` and at most `last`.
RegexId hex_digit(int first, int last, RegexPool* pool) {
  std::vector<CharRange> ranges;
  for (auto d = static_cast<uint32_t>(first); d <= static_cast<uint32_t>(last); ++d) {
    if (d < 10) ranges.push_back({'0' + d, '0' + d});
    for (const uint32_t a : {'a', 'A'}) {
      if (d >= 10) ranges.push_back({a + d - 10, a + d - 10});
    }
  }
  return pool->chars(CharSet(std::move(ranges)));
}

// Two escapes of so many hexadecimal digits with a hyphen between, the first below the second: as far as the first two
// digits say so, or, where these are all of them, the same.
RegexId hex_range(char letter, int digits, RegexPool* pool) {
  const RegexId escape = parsed(fmt::format("\\\\{}", letter), pool), any = hex_digit(0, 15, pool);
  const RegexId next = pool->concat(parsed("-", pool), escape);
  const RegexId last = pool->repeat(any, digits - 2, digits - 2), rest = pool->concat(any, last);
  std::vector<RegexId> all;
  for (int d = 0; d < 16; ++d) {
    const RegexId first = hex_digit(d, d, pool);
    std::vector<RegexId> behind = {sequence({rest, next, hex_digit(d + 1, 15, pool), rest}, pool)};
    for (int e = 0; e < 16; ++e) {
      const RegexId higher = hex_digit(digits == 2 ? e : e + 1, 15, pool);
      behind.push_back(sequence({hex_digit(e, e, pool), last, next, first, higher, last}, pool));
    }
    all.push_back(pool->concat(first, pool->alt(std::move(behind))));
  }
  return pool->concat(escape, pool->alt(std::move(all)));
}

// What stands for one character.
RegexId single(RegexPool* pool) {
  const std::string syntax = R"(\^$\\.*+?()\[\]{}|)";
  const std::string code = "x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}";
  const std::string outside = "[^" + syntax + R"(]|\.|\\(?:[dDwWsSfnrtv/)" + syntax + "]|" + code + ")";
  // Set operators of other notations need escapes.
  const std::string plain = R"([^\\\[\]\-^])";
  const std::string sets = R"(\\[dDwWsS])";
  std::vector<RegexId> items = {parsed(plain + "|" + sets + R"(|\\(?:[bfnrtv/\-)" + syntax + "]|" + code + ")", pool),
                                hex_range('x', 2, pool), hex_range('u', 4, pool)};
  const CharSet brackets({{'[', '^'}, {'-', '-'}});  // with what is between [ and ^
  const RegexId to = parsed("-", pool);
  for (uint32_t low = ' '; low <= '~'; ++low) {
    if (brackets.contains(low)) continue;
    const CharSet high = CharSet({{low, kMaxCodePoint}}) - brackets;
    items.push_back(sequence({pool->chars(CharSet::of(low)), to, pool->chars(high)}, pool));
  }
  const RegexId item = pool->alt(std::move(items));
  const RegexId hyphen = parsed("-?", pool), caret = parsed("\\^", pool);
  const RegexId or_caret = pool->alt({item, caret});
  const RegexId more = pool->repeat(or_caret, 0, RegexPool::kUnbounded);
  const auto body = [&](RegexId first) {
    return pool->alt({parsed("-", pool), sequence({parsed("-", pool), or_caret, more, hyphen}, pool),
                      sequence({first, more, hyphen}, pool)});
  };
  const RegexId inside = pool->alt({body(item), pool->concat(caret, body(or_caret))});
  const RegexId in_class = sequence({parsed(R"(\[)", pool), inside, parsed(R"(\])", pool)}, pool);
  return pool->alt({parsed(outside, pool), in_class});
}

}  // namespace

RegexId regex_format(RegexPool* pool) {
  const RegexId one = single(pool), close = parsed(R"(\))", pool);
  const auto times = [&](RegexId id) { return pool->repeat(id, 0, RegexPool::kUnbounded); };
  const RegexId quantifier =
      parsed(R"((?:(?:[*+?]|\{(?:0|[1-9][0-9]{0,3}),?\}|\{(?:)" + bounds() + R"()\})\??)?)", pool);
  const RegexId flat = pool->alt({
      pool->concat(one, quantifier), parsed(R"([\^$|]|\\[bB])", pool),
      pool->concat(parsed(R"(\(\?<[=!])", pool), pool->concat(times(one), close)),  // Python: of fixed length
  });
  RegexId whole = times(flat);
  for (int depth = 0; depth < kRegexFormatDepth; ++depth) {
    const RegexId inner = pool->concat(whole, close);
    const RegexId group = pool->concat(parsed(R"(\((?:\?:)?)", pool), pool->concat(inner, quantifier));
    const RegexId look_ahead = pool->concat(parsed(R"(\(\?[=!])", pool), inner);
    whole = times(pool->alt({flat, group, look_ahead}));
  }
  return whole;
}

}  // namespace decant
