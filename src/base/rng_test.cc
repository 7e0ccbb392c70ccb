// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "base/rng.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <vector>

namespace decant {
namespace {

// The known answers of Random123's kat_vectors for philox4x32-10.
TEST(Philox, GivesThePublishedAnswers) {
  EXPECT_EQ(philox({0, 0}, {0, 0, 0, 0}), (std::array<uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  const uint32_t ones = 0xffffffff;
  EXPECT_EQ(philox({ones, ones}, {ones, ones, ones, ones}),
            (std::array<uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox({0xa4093822, 0x299f31d0}, {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}),
            (std::array<uint32_t, 4>{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Rng, EveryFieldOfTheKeyChangesTheDraw) {
  const RngKey key = {.seed = 7, .sample = 1, .position = 2, .purpose = Purpose::kDraft};
  std::set<uint32_t> seen = {random_bits(key, 5)};
  RngKey other = key;
  other.seed = 8;
  seen.insert(random_bits(other, 5));
  other = key;
  other.seed += uint64_t{1} << 32;
  seen.insert(random_bits(other, 5));
  other = key;
  other.sample = 2;
  seen.insert(random_bits(other, 5));
  other = key;
  other.position = 3;
  seen.insert(random_bits(other, 5));
  other = key;
  other.purpose = Purpose::kAccept;
  seen.insert(random_bits(other, 5));
  seen.insert(random_bits(key, 6));
  EXPECT_EQ(seen.size(), 7u);
  EXPECT_EQ(random_bits(key, 5), random_bits(key, 5));
}

TEST(Rng, AnIndexPicksItsWordOfTheBlock) {
  const RngKey key = {.seed = 0x123456789abcdef0, .sample = 3, .position = 9, .purpose = Purpose::kXtc};
  const auto block = philox({0x9abcdef0, 0x12345678}, {25, 9, 3, 4});
  for (uint32_t i = 0; i < 4; ++i) EXPECT_EQ(random_bits(key, 100 + i), block[i]);
}

TEST(Rng, UniformsStayInsideTheOpenIntervalAndFillItEvenly) {
  // Chi-square over 64 cells of n = 65536 draws: 63 degrees of freedom; 130 is passed with probability 1.5e-6. The seed
  // is fixed, so the test gives the same answer every time.
  std::vector<int> cells(64);
  for (uint32_t i = 0; i < 65536; ++i) {
    const double u = random_uniform({.seed = 42}, i);
    ASSERT_GT(u, 0.0);
    ASSERT_LT(u, 1.0);
    ++cells[static_cast<size_t>(u * 64)];
  }
  double chi2 = 0;
  for (int count : cells) chi2 += (count - 1024.0) * (count - 1024.0) / 1024.0;
  EXPECT_LT(chi2, 130.0);
  EXPECT_GT(chi2, 20.0);
}

TEST(Rng, GumbelNoiseIsFiniteWithItsMeanAndVariance) {
  // Mean 0.57722 (Euler), variance pi^2/6. With n = 1e5 the standard errors are 0.0041 and about 0.017; bounds are 5 of
  // them.
  const int n = 100000;
  double sum = 0, squares = 0;
  for (int i = 0; i < n; ++i) {
    const float g = gumbel_noise({.seed = 3}, static_cast<uint32_t>(i));
    ASSERT_TRUE(std::isfinite(g));
    sum += g;
    squares += static_cast<double>(g) * g;
  }
  const double mean = sum / n, variance = squares / n - mean * mean;
  EXPECT_NEAR(mean, 0.5772157, 0.0205);
  EXPECT_NEAR(variance, 1.644934, 0.085);
}

TEST(Rng, GumbelMaxDrawsTheSoftmaxDistribution) {
  // Three classes with probabilities 0.2, 0.3, 0.5; n = 20000 draws; 5 standard deviations is 0.0177 at most.
  const double p[3] = {0.2, 0.3, 0.5};
  int wins[3] = {};
  for (uint32_t draw = 0; draw < 20000; ++draw) {
    int best = 0;
    double best_score = -1e30;
    for (uint32_t t = 0; t < 3; ++t) {
      const double score = std::log(p[t]) + gumbel_noise({.seed = 11, .position = draw}, t);
      if (score > best_score) {
        best = static_cast<int>(t);
        best_score = score;
      }
    }
    ++wins[best];
  }
  for (int t = 0; t < 3; ++t) EXPECT_NEAR(wins[t] / 20000.0, p[t], 0.0177);
}

}  // namespace
}  // namespace decant
