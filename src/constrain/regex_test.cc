// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "constrain/regex.h"

#include <gtest/gtest.h>

#include <random>
#include <regex>
#include <string>

#include "text/unicode.h"

namespace decant {
namespace {

// Whether `text` is in the language; also that liveness foretells it at each character.
bool matches(RegexPool& pool, RegexId id, std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = decode_utf8(text.substr(at));
    id = pool.derive(id, pool.class_of(c.code));
    at += c.size;
  }
  EXPECT_LE(pool.nullable(id), pool.live(id)) << text;
  return pool.nullable(id);
}

bool searched(const std::string& pattern, std::string_view text, RegexDialect dialect = RegexDialect::kSearch) {
  RegexPool pool;
  const auto id = parse_regex(pattern, dialect, &pool);
  EXPECT_TRUE(id.ok()) << id.status().message();
  if (!id.ok()) return false;
  pool.freeze();
  return matches(pool, *id, text);
}
bool whole(const std::string& pattern, std::string_view text) { return searched(pattern, text, RegexDialect::kFull); }

TEST(Regex, SearchesUnlessAnchored) {
  EXPECT_TRUE(searched("b", "abc"));
  EXPECT_FALSE(searched("^b", "abc"));
  EXPECT_FALSE(searched("b$", "abc"));
  EXPECT_TRUE(searched("^abc$", "abc"));
  EXPECT_TRUE(searched("", "anything"));
  EXPECT_TRUE(searched("^$", ""));
  EXPECT_FALSE(searched("^$", "x"));
  EXPECT_TRUE(searched("^a|b$", "ax"));
  EXPECT_TRUE(searched("^a|b$", "xb"));
  EXPECT_FALSE(searched("^a|b$", "xbx"));
  EXPECT_TRUE(searched("(^|,)x", "a,x"));
  EXPECT_TRUE(searched("(^|,)x", "x"));
  EXPECT_FALSE(searched("(^|,)x", "ax"));
  EXPECT_FALSE(searched("a^b", "ab"));
  EXPECT_FALSE(searched("a$b", "ab"));
  EXPECT_TRUE(searched("x(,|$)", "yx"));
  EXPECT_TRUE(searched("^([^,]+(,|$)){3,}$", "a,b,c"));
  EXPECT_FALSE(searched("^([^,]+(,|$)){3,}$", "a,b"));
  EXPECT_TRUE(searched(".", "\u2027"));
  EXPECT_FALSE(searched(".", "\u2028\n"));
}

TEST(Regex, FullMatchesTheWholeText) {
  EXPECT_TRUE(whole("a|bc", "bc"));
  EXPECT_FALSE(whole("a|bc", "abc"));
  EXPECT_TRUE(whole("^a$", "a"));
  EXPECT_TRUE(whole("(?i:ab\u00e4)c", "AB\u00c4c"));
  EXPECT_FALSE(whole("(?i:ab)c", "abC"));
}

TEST(Regex, ClassesAndEscapes) {
  EXPECT_TRUE(whole(R"([\d\-_a-c]+)", "1-_b"));
  EXPECT_TRUE(whole(R"([^\s"]{2})", "é日"));
  EXPECT_FALSE(whole(R"([^\s"]{2})", "é "));
  EXPECT_TRUE(whole(R"(\x41\u0042\u{1F642}\ud83d\ude42\cA\0)", std::string("AB🙂🙂\x01\0", 12)));
  EXPECT_TRUE(whole(R"(\p{Lu}\P{L}\p{Letter}\p{gc=Nd})", "Ä1x٣"));
  EXPECT_FALSE(whole(R"(\w)", "é")) << "words are ASCII in ECMA-262";
  EXPECT_TRUE(whole(R"([\b])", "\b"));
  EXPECT_TRUE(whole(R"([]a]?|\/)", "/"));
  EXPECT_TRUE(whole("a{,2}b", "a{,2}b")) << "no quantifier";
  EXPECT_TRUE(whole("[+--]", ","));
  EXPECT_TRUE(whole(R"([\d-z])", "-"));
}

TEST(Regex, Repetitions) {
  EXPECT_TRUE(whole("(ab){2,3}?", "ababab"));
  EXPECT_FALSE(whole("(ab){2,3}", "ab"));
  EXPECT_FALSE(whole("(ab){2}", "ababab"));
  EXPECT_TRUE(whole("(a?){3}", ""));
  EXPECT_TRUE(whole("(a*b*)*c", "aabbac"));
  EXPECT_TRUE(whole("x{1000}", std::string(1000, 'x')));
  EXPECT_FALSE(whole("x{1000}", std::string(999, 'x')));
  EXPECT_TRUE(whole(".{0,1000000}", "y"));
}

TEST(Regex, LookAheadsAreIntersections) {
  const std::string password = "^(?=.*[A-Z])(?=.*[0-9])(?!.*secret).{4,8}$";
  EXPECT_TRUE(searched(password, "aB3d"));
  EXPECT_FALSE(searched(password, "ab3d"));
  EXPECT_FALSE(searched(password, "aB3dsecr3t"));
  EXPECT_FALSE(searched(password, "B3secret"));
  EXPECT_TRUE(searched("foo(?!bar)", "foobarfoo"));
  EXPECT_FALSE(searched("foo(?!bar)", "foobar"));
  EXPECT_TRUE(searched("^(a(?=b)|b){2}$", "ab"));
  EXPECT_FALSE(searched("^(a(?=b)|b){2}$", "aa"));
}

TEST(Regex, WhatIsNotSupportedSaysWhere) {
  RegexPool pool;
  const std::pair<const char*, const char*> wrong[] = {{"(a", "'('"},
                                                       {"a)", "')'"},
                                                       {"[a", "'['"},
                                                       {"*a", "repeat"},
                                                       {"a{3,1}", "offset 1"},
                                                       {"\\", "'\\'"},
                                                       {"[b-a]", "range"},
                                                       {"\\u12", "hex"},
                                                       {"(?<n>a)\\k<n>", "back-reference"},
                                                       {"(a)\\1", "back-reference"},
                                                       {"(?<=a)b", "look-behind"},
                                                       {"a\\b", "word bound"},
                                                       {"\\p{Greek}", "Greek"},
                                                       {"\\ud800", "surrogate"},
                                                       {"((?=a)b)*", "look-ahead"},
                                                       {"a**", "quantifier"},
                                                       {"x{2000000}", "repetition"},
                                                       {"\\A", "\\A"},
                                                       {"\xff", "UTF-8"}};
  for (const auto& [pattern, part] : wrong) {
    const auto id = parse_regex(pattern, RegexDialect::kSearch, &pool);
    ASSERT_FALSE(id.ok()) << pattern;
    EXPECT_NE(id.status().message().find(part), std::string::npos) << id.status().message();
  }
  EXPECT_FALSE(parse_regex(std::string(500, '('), RegexDialect::kSearch, &pool).ok());
  EXPECT_FALSE(parse_regex(std::string(20000, 'a'), RegexDialect::kSearch, &pool).ok());
}

TEST(Regex, LivenessIsExact) {
  RegexPool pool;
  const RegexId words = *parse_regex("^(foo|bar|baz)+$", RegexDialect::kSearch, &pool);
  const RegexId no_z = *parse_regex("^[^z]*$", RegexDialect::kSearch, &pool);
  const RegexId even = pool.repeat(pool.repeat(pool.any(), 2, 2), 0, RegexPool::kUnbounded);
  pool.freeze();
  EXPECT_TRUE(pool.live(pool.conj({words, no_z, even})));
  const RegexId short_words = pool.conj({words, pool.repeat(pool.any(), 4, 5)});
  EXPECT_FALSE(pool.live(short_words)) << "no text of 4 or 5 characters";
  EXPECT_FALSE(pool.live(pool.conj({words, pool.negate(words)})));
  EXPECT_EQ(pool.conj({words, pool.negate(words)}), pool.none());
  RegexId id = pool.conj({words, no_z});
  for (const char c : std::string("ba")) id = pool.derive(id, pool.class_of(static_cast<unsigned char>(c)));
  EXPECT_TRUE(pool.live(id));
  EXPECT_FALSE(pool.live(pool.derive(id, pool.class_of('z'))));
  EXPECT_EQ(pool.searches_given_up(), 0);
}

TEST(Regex, LengthsStayLengths) {
  RegexPool pool;
  const auto length = [&](int min, int max) { return pool.repeat(pool.any(), min, max); };
  const int no_end = RegexPool::kUnbounded;
  pool.freeze();
  EXPECT_EQ(pool.negate(length(0, 4)), length(5, no_end));
  EXPECT_EQ(pool.negate(length(3, no_end)), length(0, 2));
  EXPECT_EQ(pool.negate(length(2, 4)), pool.alt({length(0, 1), length(5, no_end)}));
  EXPECT_EQ(pool.negate(pool.negate(length(2, 4))), length(2, 4));
  EXPECT_EQ(pool.conj({length(0, 9), length(3, no_end)}), length(3, 9));
  EXPECT_EQ(pool.conj({length(0, 40000), pool.negate(length(0, 50000))}), pool.none());
  EXPECT_EQ(pool.conj({length(1, 7), pool.negate(length(3, 4))}), pool.alt({length(1, 2), length(5, 7)}));
  EXPECT_EQ(pool.negate(pool.any_text()), pool.none());
  EXPECT_EQ(pool.negate(pool.empty()), length(1, no_end));
  // Beside another language they are one part.
  const RegexId id = pool.conj({pool.negate(length(0, 2)), pool.negate(pool.any()), length(0, 100)});
  for (int n = 0; n < 103; ++n)
    EXPECT_EQ(matches(pool, id, std::string(static_cast<size_t>(n), 'x')), n > 2 && n <= 100) << n;
}

TEST(Regex, WhatCannotBeginATextHasNoDerivative) {
  RegexPool pool;
  const RegexId id = *parse_regex("^(?=.*z)([ab]*(c|de)|(x?y){0,3})z$", RegexDialect::kSearch, &pool);
  pool.freeze();
  for (const char c : std::string("abcdxyz"))
    EXPECT_TRUE(pool.live(pool.derive(id, pool.class_of(static_cast<unsigned char>(c))))) << c;
  const size_t before = pool.size();
  for (const char c : std::string("eq0_-")) {
    EXPECT_FALSE(pool.live(pool.derive(id, pool.class_of(static_cast<unsigned char>(c))))) << c;
  }
  EXPECT_LE(pool.size(), before + 2) << "such characters need no expressions";
}

TEST(Regex, FreeRunsAreSafe) {
  RegexPool pool;
  const RegexId id = *parse_regex("^[a-z0-9]{0,20}(-x)?$", RegexDialect::kSearch, &pool);
  pool.freeze();
  const auto run = pool.free_run(id);
  EXPECT_EQ(run.length, 20);
  EXPECT_TRUE(pool.in_set(run.set, pool.class_of('q')));
  EXPECT_FALSE(pool.in_set(run.set, pool.class_of('-')));
  EXPECT_EQ(pool.free_run(pool.any_text()).length, RegexPool::kUnbounded);
}

std::string random_pattern(std::mt19937& random, int depth) {
  static const char* const kAtoms[] = {"a", "b", "c", ".", "[ab]", "[^a]", "\\d", "\\w", "1", "-", "\\.", "a", "b"};
  switch (depth <= 0 ? 0 : random() % 7) {
    case 1: return random_pattern(random, depth - 1) + random_pattern(random, depth - 1);
    case 2: return "(" + random_pattern(random, depth - 1) + "|" + random_pattern(random, depth - 1) + ")";
    case 3: return "(?:" + random_pattern(random, depth - 1) + ")" + std::string(1, "*+?"[random() % 3]);
    case 4:
      return "(?:" + random_pattern(random, depth - 1) + "){" + std::to_string(random() % 3) + "," +
             std::to_string(2 + random() % 2) + "}";
    case 5:
      return "(?" + std::string(1, "=!"[random() % 2]) + random_pattern(random, depth - 1) + ")" +
             random_pattern(random, depth - 1);
    default: return kAtoms[random() % std::size(kAtoms)];
  }
}

// libstdc++'s engine has the same dialect; both have to agree on every text.
TEST(Regex, AgreesWithTheStandardLibrary) {
  std::mt19937 random(7);
  int matched = 0;
  for (int i = 0; i < 1500; ++i) {
    std::string pattern = random_pattern(random, 4);
    if (random() % 3 == 0) pattern = "^" + pattern;
    if (random() % 3 == 0) pattern += "$";
    RegexPool pool;
    const auto id = parse_regex(pattern, RegexDialect::kSearch, &pool);
    const auto full = parse_regex(pattern, RegexDialect::kFull, &pool);
    if (!id.ok()) {
      EXPECT_EQ(id.status().code(), Code::kUnsupported) << id.status().message();
      continue;
    }
    ASSERT_TRUE(full.ok());
    pool.freeze();
    const std::regex reference(pattern, std::regex::ECMAScript);
    for (int j = 0; j < 30; ++j) {
      std::string text;
      for (size_t n = random() % 7; n > 0; --n) text += "abc1-.x\n"[random() % 8];
      const bool want = std::regex_search(text, reference);
      matched += want;
      ASSERT_EQ(matches(pool, *id, text), want) << pattern << " on " << ::testing::PrintToString(text);
      // In libstdc++ a full match tries anchors at the whole text's ends as well.
      ASSERT_EQ(matches(pool, *full, text), std::regex_match(text, reference))
          << pattern << " on " << ::testing::PrintToString(text);
    }
  }
  EXPECT_GT(matched, 5000);
}

}  // namespace
}  // namespace decant
