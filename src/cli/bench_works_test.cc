// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "cli/bench_works.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "base/rng.h"
#include "formats/gguf.h"
#include "testing/tiny_model.h"

namespace decant::cli {
namespace {

// The fewest steps of `budget` rows, by trying everything.
int fewest_steps(std::vector<int> lengths, int budget) {
  int best = static_cast<int>(lengths.size());
  std::vector<int> steps;
  const std::function<void(size_t)> place = [&](size_t i) {
    if (static_cast<int>(steps.size()) >= best) return;
    if (i == lengths.size()) {
      best = static_cast<int>(steps.size());
      return;
    }
    for (size_t s = 0; s < steps.size(); ++s) {
      if (steps[s] + lengths[i] > budget) continue;
      steps[s] += lengths[i];
      place(i + 1);
      steps[s] -= lengths[i];
    }
    steps.push_back(lengths[i]);
    place(i + 1);
    steps.pop_back();
  };
  place(0);
  return best;
}

TEST(PackPrompts, EveryTokenOnceInOrderAndHardlyMoreStepsThanNeeded) {
  for (uint32_t seed = 0; seed < 200; ++seed) {
    const auto random = [&](uint32_t i, int n) {
      return static_cast<int>(random_bits({.seed = seed}, i) % static_cast<uint32_t>(n));
    };
    const int budget = 1 + random(0, 40);
    std::vector<int> lengths(static_cast<size_t>(1 + random(1, 8)));
    for (size_t i = 0; i < lengths.size(); ++i) lengths[i] = 1 + random(2 + static_cast<uint32_t>(i), budget * 2);
    const auto steps = pack_prompts(lengths, budget);
    std::vector<int> fed(lengths.size(), 0);
    for (const auto& step : steps) {
      int rows = 0;
      for (const PackedPart& part : step) {
        EXPECT_EQ(part.begin, fed[static_cast<size_t>(part.prompt)]) << "a prompt's parts come in order";
        fed[static_cast<size_t>(part.prompt)] += part.rows;
        rows += part.rows;
      }
      EXPECT_GT(rows, 0);
      EXPECT_LE(rows, budget);
    }
    EXPECT_EQ(fed, lengths);
    int whole = 0;  // steps that one part fills
    std::vector<int> rest;
    for (int length : lengths) {
      whole += (length - 1) / budget;
      rest.push_back(length - (length - 1) / budget * budget);
    }
    const int fewest = fewest_steps(rest, budget);
    EXPECT_LE(static_cast<int>(steps.size()) - whole, fewest * 11 / 9 + 1) << seed;
  }
}

TEST(BenchWorks, WaysThatMustAgreeDoAndAreCounted) {
  const auto bytes = testing::make_tiny_model({}).serialize();  // the file's tensors stay in them
  auto file = GgufFile::parse(bytes, "tiny.gguf");
  ASSERT_TRUE(file.ok());
  auto device = make_cpu_device(2);
  ASSERT_TRUE(device.ok());
  auto model = Model::load(*file, **device);
  ASSERT_TRUE(model.ok());
  auto engine = Engine::create(*model, {.context = 1024, .max_rows = 64});
  ASSERT_TRUE(engine.ok());
  const int lengths[] = {3, 70, 1, 64, 20};
  const Result<PrepackResult> prefill = measure_prepacking(**engine, lengths, 2);
  ASSERT_TRUE(prefill.ok()) << prefill.status().message();
  EXPECT_EQ(prefill->tokens, 158);
  ASSERT_EQ(prefill->ways.size(), 3U);
  EXPECT_EQ(prefill->ways[0].computed, 5 * 70);
  EXPECT_EQ(prefill->ways[1].computed, 158);
  EXPECT_EQ(prefill->ways[2].computed, 158);
  EXPECT_EQ(prefill->ways[2].seconds.size(), 2U);
  EXPECT_EQ((*engine)->cache().free_pages(), (*engine)->cache().pages()) << "pages leaked";

  const Result<SharedPrefixResult> attention = measure_shared_prefix(**engine, 5, 130, 2);
  ASSERT_TRUE(attention.ok()) << attention.status().message();
  ASSERT_EQ(attention->ways.size(), 3U);
  EXPECT_EQ(attention->operations, 2.0 * 5 * 4 * (3 * 64 + 32) * (32 + 32)) << "whole pages and 32 keys";
  EXPECT_GT(attention->peak, 0);
}

}  // namespace
}  // namespace decant::cli
