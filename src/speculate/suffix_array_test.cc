// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "speculate/suffix_array.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

namespace decant {
namespace {

std::vector<int32_t> sorted_suffixes(const std::vector<int32_t>& text) {
  std::vector<int32_t> order(text.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return std::lexicographical_compare(text.begin() + a, text.end(), text.begin() + b, text.end());
  });
  return order;
}

TEST(SuffixArray, IsTheSortedOrderOfSuffixes) {
  std::mt19937 random(3);
  for (const int32_t largest : {0, 1, 2, 5, 1000}) {
    for (int size = 0; size < 120; ++size) {
      std::vector<int32_t> text;
      for (int i = 0; i < size; ++i)
        text.push_back(static_cast<int32_t>(random() % static_cast<uint32_t>(largest + 1)));
      ASSERT_EQ(suffix_array(text, largest), sorted_suffixes(text)) << largest << " " << size;
    }
  }
}

TEST(SuffixArray, RepetitionsGoDeep) {
  std::vector<int32_t> fibonacci = {1}, before = {0};
  while (fibonacci.size() < 5000) {
    std::vector<int32_t> next = fibonacci;
    next.insert(next.end(), before.begin(), before.end());
    before = std::move(fibonacci);
    fibonacci = std::move(next);
  }
  EXPECT_EQ(suffix_array(fibonacci, 1), sorted_suffixes(fibonacci));
}

TEST(SuffixArray, AMillionTokensAreSortedSoon) {
  std::vector<int32_t> text(1000000);
  for (size_t i = 0; i < text.size(); ++i) text[i] = static_cast<int32_t>(i % 1000);
  const std::vector<int32_t> order = suffix_array(text, 999);
  // Suffixes with the same first token: the shorter is a beginning of the longer one.
  for (size_t i = 1; i < order.size(); ++i) {
    const int32_t a = order[i - 1], b = order[i];
    ASSERT_TRUE(text[static_cast<size_t>(a)] < text[static_cast<size_t>(b)] ||
                (text[static_cast<size_t>(a)] == text[static_cast<size_t>(b)] && a > b));
  }
}

}  // namespace
}  // namespace decant
