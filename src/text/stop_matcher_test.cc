// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "text/stop_matcher.h"

#include <gtest/gtest.h>

#include <random>

namespace decant {
namespace {

// What a reader of single bytes would see: everything up to the first moment at which the text ends with a stop string,
// without that string.
std::string reference(const std::string& text, const std::vector<std::string>& stops, bool* stopped) {
  for (size_t end = 1; end <= text.size(); ++end) {
    size_t longest = 0;
    for (const std::string& s : stops) {
      if (!s.empty() && s.size() <= end && text.compare(end - s.size(), s.size(), s) == 0) {
        longest = std::max(longest, s.size());
      }
    }
    if (longest > 0) {
      *stopped = true;
      return text.substr(0, end - longest);
    }
  }
  *stopped = false;
  return text;
}

std::string random_text(std::mt19937& rng, size_t max) {
  std::string text(rng() % (max + 1), 'a');
  for (char& c : text) c = static_cast<char>('a' + rng() % 3);
  return text;
}

TEST(StopMatcher, AgreesWithAByteByByteReaderHoweverTheTextIsCut) {
  std::mt19937 rng(5);
  int stops_seen = 0;
  for (int i = 0; i < 20000; ++i) {
    std::vector<std::string> stops(rng() % 4);
    for (std::string& s : stops) s = random_text(rng, 5);
    const std::string text = random_text(rng, 30);
    StopMatcher matcher(stops);
    std::string out;
    for (size_t begin = 0; begin < text.size();) {
      const size_t n = std::min<size_t>(1 + rng() % 4, text.size() - begin);
      out += matcher.push(std::string_view(text).substr(begin, n));
      begin += n;
    }
    out += matcher.flush();
    bool stopped = false;
    ASSERT_EQ(out, reference(text, stops, &stopped)) << "case " << i << " text " << text;
    ASSERT_EQ(matcher.stopped(), stopped) << "case " << i;
    stops_seen += stopped ? 1 : 0;
  }
  EXPECT_GT(stops_seen, 5000);
}

TEST(StopMatcher, HoldsBackOnlyWhatMayBeginAStopString) {
  StopMatcher matcher({"END"});
  EXPECT_EQ(matcher.push("abcE"), "abc");
  EXPECT_EQ(matcher.push("N"), "");
  EXPECT_EQ(matcher.push("x"), "ENx");
  EXPECT_EQ(matcher.push("EN"), "");
  EXPECT_EQ(matcher.push("D tail"), "");
  EXPECT_TRUE(matcher.stopped());
  EXPECT_EQ(matcher.push("more"), "");
  EXPECT_EQ(matcher.flush(), "");
}

}  // namespace
}  // namespace decant
