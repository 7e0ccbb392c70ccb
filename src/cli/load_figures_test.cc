// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "cli/load_figures.h"

#include <gtest/gtest.h>

#include <cmath>

namespace decant::cli {
namespace {

TEST(Percentiles, LieBetweenTheNearestRanks) {
  const std::vector<double> values = {1, 2, 4, 8};
  EXPECT_DOUBLE_EQ(percentile(values, 0), 1);
  EXPECT_DOUBLE_EQ(percentile(values, 100), 8);
  EXPECT_DOUBLE_EQ(percentile(values, 50), 3);
  EXPECT_DOUBLE_EQ(percentile(values, 75), 5);
  EXPECT_DOUBLE_EQ(percentile({7}, 99), 7);
  EXPECT_TRUE(std::isnan(percentile({}, 50)));
}

TEST(Percentiles, ADistributionTakesValuesInAnyOrder) {
  std::vector<double> values;
  for (int i = 0; i <= 100; ++i) values.push_back((i * 37) % 101);
  const Distribution d = distribution_of(values);
  EXPECT_EQ(d.count, 101U);
  EXPECT_DOUBLE_EQ(d.mean, 50);
  EXPECT_DOUBLE_EQ(d.p50, 50);
  EXPECT_DOUBLE_EQ(d.p95, 95);
  EXPECT_DOUBLE_EQ(d.p99, 99);
  EXPECT_DOUBLE_EQ(d.max, 100);
  EXPECT_TRUE(std::isnan(distribution_of({}).mean));
}

TEST(LoadGoals, AreNamesAndTimes) {
  const auto goals = parse_goals("ttft:500ms,itl:50ms,e2e:2.5s");
  ASSERT_TRUE(goals.ok()) << goals.status().message();
  ASSERT_EQ(goals->size(), 3U);
  EXPECT_EQ(goals->at(0).kind, LoadGoal::Kind::kFirstToken);
  EXPECT_DOUBLE_EQ(goals->at(0).seconds, 0.5);
  EXPECT_EQ(goals->at(1).kind, LoadGoal::Kind::kGap);
  EXPECT_DOUBLE_EQ(goals->at(2).seconds, 2.5);
  for (const char* bad : {"", "ttft", "ttft:", "ttft:5", "ttft:-5ms", "ttft:0s", "ttft:ms", "ttft:1e999s", "ttft:nans",
                          "speed:5ms", "ttft:5ms,", "ttft:5 ms"}) {
    EXPECT_EQ(parse_goals(bad).status().code(), Code::kInvalidArgument) << bad;
  }
}

// Sent at 1, first text at 1.5, then gaps of 0.1, 0.1 and 0.4.
StreamRecord stream() {
  return {.start = 1, .end = 2.2, .chunks = {1.5, 1.6, 1.7, 2.1}, .prompt_tokens = 10, .completion_tokens = 7};
}

TEST(LoadGoals, ARequestKeepsAllOfThem) {
  const auto good = [](const StreamRecord& r, const char* goals) { return meets(r, parse_goals(goals).value()); };
  const StreamRecord r = stream();
  EXPECT_TRUE(good(r, "ttft:600ms"));
  EXPECT_FALSE(good(r, "ttft:400ms"));
  EXPECT_TRUE(good(r, "gap:410ms"));
  EXPECT_FALSE(good(r, "gap:390ms"));
  EXPECT_TRUE(good(r, "itl:395ms"));  // the 99th of 100 lies a little below the longest
  EXPECT_TRUE(good(r, "tpot:110ms"));
  EXPECT_FALSE(good(r, "tpot:90ms"));
  EXPECT_TRUE(good(r, "e2e:1.3s"));
  EXPECT_FALSE(good(r, "ttft:600ms,e2e:1.1s"));
  StreamRecord failed = r;
  failed.error = "HTTP 500";
  EXPECT_FALSE(good(failed, "e2e:100s"));
  StreamRecord cut = r;
  cut.is_cut = true;
  EXPECT_FALSE(good(cut, "e2e:100s"));
}

TEST(LoadFigures, AddUpStreams) {
  StreamRecord second = stream();
  second.start = 0;
  second.completion_tokens = 9;
  StreamRecord failed{.start = 0.5, .end = 0.6, .error = "HTTP 503: busy"};
  const LoadFigures f = figures_of({stream(), second, failed, failed}, parse_goals("ttft:1s").value());
  EXPECT_EQ(f.requests, 4U);
  EXPECT_EQ(f.completed, 2U);
  EXPECT_EQ(f.failed, 2U);
  EXPECT_EQ(f.good, 1U);
  EXPECT_DOUBLE_EQ(f.seconds, 2.2);
  EXPECT_DOUBLE_EQ(f.output_tokens, 16);
  EXPECT_EQ(f.chunks, 8U);
  EXPECT_EQ(f.prompt_tokens, 20);
  EXPECT_EQ(f.gap.count, 6U);
  EXPECT_NEAR(f.gap.max, 0.4, 1e-12);
  EXPECT_NEAR(f.stall.p50, 4, 1e-9);
  EXPECT_NEAR(f.first_token.p50, 1, 1e-12);
  EXPECT_NEAR(f.per_token.max, 0.1, 1e-12);
  EXPECT_EQ(f.errors.at("HTTP 503: busy"), 2U);
}

TEST(LoadFigures, TokensAreCountedByChunksWhereTheServerDoesNotCount) {
  StreamRecord silent = stream();
  silent.completion_tokens = silent.prompt_tokens = -1;
  EXPECT_DOUBLE_EQ(figures_of({silent}, {}).output_tokens, 4);
  // A stream that was cut has as many tokens a chunk as the others: 7 in 4.
  silent.is_cut = true;
  silent.chunks.resize(2);
  const LoadFigures f = figures_of({stream(), silent}, {});
  EXPECT_DOUBLE_EQ(f.output_tokens, 7 + 3.5);
  EXPECT_EQ(f.cut, 1U);
  EXPECT_EQ(f.completed, 1U);
  EXPECT_EQ(f.request.count, 1U);
  EXPECT_EQ(f.with_usage, 1U);
}

// Three steps of 0.1 s with two tokens each and one of 0.5 s: the stall is measured in steps.
TEST(LoadFigures, TokensOfOneStepAreNoGapsOfAStall) {
  StreamRecord r{.start = 0, .end = 1};
  for (const double t : {0.1, 0.2, 0.3, 0.4, 0.9}) {
    r.chunks.push_back(t);
    r.chunks.push_back(t + 1e-5);
  }
  const LoadFigures f = figures_of({r}, {});
  EXPECT_EQ(f.gap.count, 9U);
  ASSERT_EQ(f.stall.count, 1U);
  EXPECT_NEAR(f.stall.max, 5, 1e-2);
}

TEST(LoadFigures, NothingGivesNothing) {
  const LoadFigures f = figures_of({}, {});
  EXPECT_EQ(f.requests, 0U);
  EXPECT_EQ(f.seconds, 0);
  EXPECT_TRUE(std::isnan(f.gap.p99));
}

}  // namespace
}  // namespace decant::cli
