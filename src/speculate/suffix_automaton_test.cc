// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "speculate/suffix_automaton.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace decant {
namespace {

using Text = std::vector<TokenId>;

// Ends of the occurrences of `word` in `text`.
std::vector<int> ends_of(const Text& text, const Text& word) {
  std::vector<int> ends;
  for (size_t end = word.size(); end <= text.size(); ++end) {
    if (std::equal(word.begin(), word.end(), text.begin() + static_cast<ptrdiff_t>(end - word.size()))) {
      ends.push_back(static_cast<int>(end) - 1);
    }
  }
  return ends;
}

Text last(const Text& text, int n) { return {text.end() - n, text.end()}; }

// The longest suffix of `text` without separators that ends in `in` before position `before`.
int longest_match(const Text& text, const Text& in, int before) {
  for (int n = static_cast<int>(text.size()); n > 0; --n) {
    const Text word = last(text, n);
    if (std::find(word.begin(), word.end(), -1) != word.end()) continue;
    const std::vector<int> ends = ends_of(in, word);
    if (!ends.empty() && ends.front() < before) return n;
  }
  return 0;
}

// Tokens behind the occurrences of `word`, each once, the latest first.
Text followers(const Text& text, const Text& word) {
  Text tokens;
  std::vector<int> ends = ends_of(text, word);
  for (auto end = ends.rbegin(); end != ends.rend(); ++end) {
    const size_t behind = static_cast<size_t>(*end) + 1;
    if (behind >= text.size()) continue;
    if (std::find(tokens.begin(), tokens.end(), text[behind]) == tokens.end()) tokens.push_back(text[behind]);
  }
  return tokens;
}

class SuffixAutomatonTest : public ::testing::TestWithParam<int> {
 protected:
  // A text of the alphabet, with separators now and then.
  Text make(int size, bool separators) {
    std::mt19937 random(static_cast<uint32_t>(GetParam()) * 7 + 1);
    Text text;
    while (static_cast<int>(text.size()) < size) {
      if (separators && random() % 12 == 0 && !text.empty() && text.back() >= 0) {
        text.push_back(-1);
      } else {
        text.push_back(static_cast<TokenId>(random() % static_cast<uint32_t>(GetParam())));
      }
    }
    return text;
  }
};

TEST_P(SuffixAutomatonTest, TheSuffixMatchIsTheLongestThatOccurredBefore) {
  for (const bool separators : {false, true}) {
    SuffixAutomaton automaton;
    Text text;
    for (const TokenId t : make(60, separators)) {
      if (t < 0) {
        automaton.separate();
      } else {
        automaton.append(t);
      }
      text.push_back(t);
      ASSERT_EQ(automaton.suffix().length, longest_match(text, text, static_cast<int>(text.size()) - 1))
          << "after " << text.size();
    }
    EXPECT_TRUE(std::equal(text.begin(), text.end(), automaton.text().begin(), automaton.text().end()));
  }
}

TEST_P(SuffixAutomatonTest, ShorterMatchesOccurAtMorePlacesAndFollowersAreTheLatest) {
  SuffixAutomaton automaton;
  Text text;
  for (const TokenId t : make(60, true)) {
    if (t < 0) {
      automaton.separate();
    } else {
      automaton.append(t);
    }
    text.push_back(t);
    size_t places = 0;
    for (SuffixAutomaton::Match m = automaton.suffix(); m.length > 0; m = automaton.shorter(m)) {
      const Text word = last(text, m.length);
      EXPECT_GT(ends_of(text, word).size(), places);
      places = ends_of(text, word).size();
      Text expected = followers(text, word);
      if (expected.size() > SuffixAutomaton::kFollowers) expected.resize(SuffixAutomaton::kFollowers);
      std::erase(expected, -1);
      const SuffixAutomaton::Follow follow = automaton.follow(m.state);
      EXPECT_EQ(Text(follow.tokens.begin(), follow.tokens.begin() + follow.count), expected);
      // How often the latest token came in a row.
      if (follow.count == 0) continue;
      int run = 0;
      const std::vector<int> ends = ends_of(text, word);
      for (auto end = ends.rbegin(); end != ends.rend(); ++end) {
        const size_t behind = static_cast<size_t>(*end) + 1;
        if (behind >= text.size()) continue;
        if (text[behind] != follow.tokens[0]) break;
        ++run;
      }
      if (run > 0) {
        EXPECT_EQ(follow.run, run);
      }
    }
  }
}

TEST_P(SuffixAutomatonTest, AnotherTextIsFollowedByItsLongestMatch) {
  SuffixAutomaton automaton;
  const Text in = make(80, true);
  for (const TokenId t : in) {
    if (t < 0) {
      automaton.separate();
    } else {
      automaton.append(t);
    }
  }
  std::mt19937 random(5);
  Text text;
  SuffixAutomaton::Match match;
  for (int i = 0; i < 200; ++i) {
    text.push_back(static_cast<TokenId>(random() % static_cast<uint32_t>(GetParam() + 1)));
    match = automaton.advance(match, text.back());
    ASSERT_EQ(match.length, longest_match(text, in, static_cast<int>(in.size()))) << i;
    if (match.length > 0) {
      Text expected = followers(in, last(text, match.length));
      EXPECT_EQ(automaton.follow(match.state).count == 0, expected.empty() || expected == Text{-1});
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Alphabets, SuffixAutomatonTest, ::testing::Values(1, 2, 3, 5, 30));

TEST(SuffixAutomaton, ARepeatedTextGoesOnForEver) {
  SuffixAutomaton automaton;
  for (int i = 0; i < 9; ++i) automaton.append(i % 3);
  SuffixAutomaton::Match match = automaton.suffix();
  EXPECT_EQ(match.length, 6);
  for (int i = 9; i < 40; ++i) {
    // The whole text has nothing behind it; its shorter suffixes have.
    SuffixAutomaton::Match at = match;
    while (automaton.follow(at.state).count == 0) at = automaton.shorter(at);
    const TokenId next = automaton.follow(at.state).tokens[0];
    ASSERT_EQ(next, i % 3);
    match = automaton.advance(match, next);
  }
}

TEST(SuffixAutomaton, SizeIsLinear) {
  SuffixAutomaton automaton;
  for (int i = 0; i < 100000; ++i) automaton.append(i % 7 == 0 ? i % 31 : 1);
  EXPECT_LT(automaton.bytes(), 100000u * 300);
}

}  // namespace
}  // namespace decant
