// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "engine/acceptance.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/rng.h"

namespace decant {
namespace {

double true_cost(int rows) { return 5e-3 * (1 + 0.03 * (rows - 1) + (rows > 4 ? 0.2 * (rows - 4) : 0)); }

double noise(uint32_t i) { return random_uniform({.seed = 5}, i); }

TEST(StepCost, FollowsWhatStepsOfEachSizeCost) {
  StepCost cost;
  for (uint32_t i = 0; i < 600; ++i) {
    const int rows = 1 + static_cast<int>(i % 8);
    cost.learn(rows, true_cost(rows) * (0.9 + 0.2 * noise(i)));
  }
  for (int rows = 1; rows <= 8; ++rows) {
    EXPECT_NEAR(cost.seconds(rows) / cost.seconds(1), true_cost(rows) / true_cost(1), 0.12) << rows;
  }
  EXPECT_NEAR(cost.seconds(1), true_cost(1), 0.1 * true_cost(1));
}

// A machine that becomes half as fast slows all sizes down, those too that are not met.
TEST(StepCost, ASlowerMachineScalesAllSizes) {
  StepCost cost;
  for (uint32_t i = 0; i < 400; ++i) cost.learn(1 + static_cast<int>(i % 6), true_cost(1 + static_cast<int>(i % 6)));
  const double before = cost.seconds(6);
  for (int i = 0; i < 200; ++i) cost.learn(1, 2 * true_cost(1));
  EXPECT_NEAR(cost.seconds(6), 2 * before, 0.15 * before);
}

TEST(StepCost, OneSlowStepDoesNotRuleASizeOut) {
  StepCost cost;
  for (int i = 0; i < 50; ++i) cost.learn(1 + i % 2, true_cost(1 + i % 2));
  cost.learn(3, 30 * true_cost(3));
  EXPECT_LT(cost.seconds(3) / cost.seconds(1), 1.7);
  for (int i = 0; i < 1500; ++i) cost.learn(1 + i % 2, true_cost(1 + i % 2));
  EXPECT_LT(cost.seconds(3) / cost.seconds(1), 1.25);
}

TEST(StepCost, NeverFallsWithRowsAndStartsFromAProfile) {
  StepCost cost;
  for (uint32_t i = 0; i < 300; ++i) cost.learn(1 + static_cast<int>(noise(i) * 40), 1e-3 * (1 + noise(1000 + i)));
  for (int rows = 1; rows < 200; ++rows) EXPECT_LE(cost.seconds(rows), cost.seconds(rows + 1));
  const double profile[] = {4e-3, 4.2e-3, 5e-3, 7e-3};
  cost.start(profile, true);
  EXPECT_NEAR(cost.seconds(3), 5e-3, 1e-6);
  cost.learn(3, 1);
  EXPECT_NEAR(cost.seconds(3), 5e-3, 1e-6);
  for (const double bad : {0.0, -1.0, std::nan("")}) cost.learn(1, bad);
}

TEST(Worthwhile, StopsWhereARowCostsMoreThanItBrings) {
  const double flat[] = {1, 1.05, 1.1, 1.15, 1.2, 1.25};
  const double steep[] = {1, 1.6, 2.2, 2.8, 3.4, 4.0};
  StepCost cost;
  cost.start(flat, true);
  const float likely[] = {0.8f, 0.6f, 0.5f, 0.02f, 0.01f};
  EXPECT_EQ(worthwhile(likely, 1, 1, cost), 3);
  EXPECT_EQ(worthwhile({}, 1, 1, cost), 0);
  cost.start(steep, true);
  EXPECT_EQ(worthwhile(likely, 1, 1, cost), 1);
  const float unlikely[] = {0.3f, 0.2f};
  EXPECT_EQ(worthwhile(unlikely, 1, 1, cost), 0);
}

TEST(AcceptanceModel, LearnsFromGuessesThatWereNotVerifiedToo) {
  AcceptanceModel model;
  EXPECT_NEAR(model.estimate(3, 0.5f), 0.5f, 1e-6f);
  for (int i = 0; i < 200; ++i) {
    TokenTree tree;
    tree.reset(8, 4);
    const int right = tree.add(kRoot, 7, 0.5f, 1);
    tree.add(kRoot, 8, 0.5f, 2);
    tree.add(right, i % 2 == 0 ? 9 : 10, 0.5f, 3);
    const TokenId came[] = {7, 9, 11};
    model.learn(tree, came);
  }
  EXPECT_GT(model.estimate(1, 0.5f), 0.95f);
  EXPECT_LT(model.estimate(2, 0.5f), 0.05f);
  EXPECT_NEAR(model.estimate(3, 0.9f), 0.5f, 0.05f);
}

}  // namespace
TEST(PromiseRecord, SaysWhatShareOfThePromisesCameTrue) {
  PromiseRecord record;
  EXPECT_FLOAT_EQ(record.kept_share(), 1);
  for (int step = 0; step < 500; ++step) record.learn(1.5, step % 4 == 0 ? 3 : 0);  // 0.75 a step
  EXPECT_NEAR(record.kept_share(), 0.5, 0.06);
  for (int step = 0; step < 500; ++step) record.learn(1, 1);
  EXPECT_NEAR(record.kept_share(), 1, 0.02);
}

TEST(PromiseRecord, StaysWithinBounds) {
  PromiseRecord record;
  for (int step = 0; step < 500; ++step) record.learn(2, 0);
  EXPECT_GE(record.kept_share(), 0.3f);  // or guesses would never be tried again
  for (int step = 0; step < 500; ++step) record.learn(0.1, 4);
  EXPECT_LE(record.kept_share(), 1.5f);
}

}  // namespace decant
