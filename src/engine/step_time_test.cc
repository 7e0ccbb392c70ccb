// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "engine/step_time.h"

#include <gtest/gtest.h>

#include <random>

namespace decant {
namespace {

double truth(int rows, double pairs) { return 0.004 + 0.0007 * rows + 2e-7 * pairs; }

TEST(StepTime, LearnsFromStepsOfManySizes) {
  StepTime time;
  EXPECT_EQ(time.seconds(1, 0), 0);
  EXPECT_FALSE(time.known());
  std::mt19937 random(1);
  std::normal_distribution<double> noise(1, 0.05);
  for (int i = 0; i < 300; ++i) {
    const int rows = static_cast<int>(random() % 3 == 0 ? random() % 200 : random() % 20) + 1;
    const double pairs = rows * static_cast<double>(random() % 2000);
    time.learn(rows, pairs, truth(rows, pairs) * noise(random));
  }
  EXPECT_TRUE(time.known());
  for (const int rows : {1, 16, 64, 200}) {
    for (const double keys : {10.0, 1000.0}) {
      EXPECT_NEAR(time.seconds(rows, rows * keys), truth(rows, rows * keys), 0.15 * truth(rows, rows * keys));
    }
  }
}

TEST(StepTime, StepsOfOneSizeSayNothingOfOthers) {
  StepTime time;
  for (int i = 0; i < 50; ++i) time.learn(16, 16.0 * (100 + i), 0.01);
  EXPECT_FALSE(time.known());
  EXPECT_NEAR(time.seconds(16, 16.0 * 140), 0.01, 0.002);
}

TEST(StepTime, NeverFallsWithMoreWork) {
  StepTime time;
  std::mt19937 random(2);
  for (int i = 0; i < 200; ++i) {
    const int rows = static_cast<int>(random() % 100) + 1;
    time.learn(rows, static_cast<double>(random() % 10000), 0.001 * static_cast<double>(random() % 50 + 1));
    EXPECT_LE(time.seconds(10, 100), time.seconds(20, 100));
    EXPECT_LE(time.seconds(10, 100), time.seconds(10, 1000));
  }
}

TEST(StepTime, FollowsTheMachineAndNotOneSlowStep) {
  StepTime time;
  for (int i = 0; i < 400; ++i) time.learn(i % 50 + 1, 0, truth(i % 50 + 1, 0));
  const double before = time.seconds(10, 0);
  time.learn(10, 0, 5.0);
  EXPECT_LT(time.seconds(10, 0), 1.3 * before);
  for (int i = 0; i < 600; ++i) time.learn(i % 50 + 1, 0, 2 * truth(i % 50 + 1, 0));
  EXPECT_NEAR(time.seconds(10, 0), 2 * before, 0.1 * before);
}

}  // namespace
}  // namespace decant
