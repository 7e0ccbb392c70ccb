// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "eval/perplexity.h"

#include <gtest/gtest.h>

#include <cmath>

#include "engine/test_util.h"

namespace decant {
namespace {

class PerplexityTest : public engine_testing::TinyModelTest {
 protected:
  void SetUp() override {
    open({.context = 64, .max_rows = 64});
    for (int i = 0; i < 61; ++i) tokens_.push_back(3 + (i * i * 7 + i) % 256);
  }

  std::unique_ptr<Engine> engine(const EngineOptions& options) {
    auto engine = Engine::create(model_, options);
    EXPECT_TRUE(engine.ok()) << engine.status().message();
    return std::move(engine).value();
  }

  // -log p of every scored token, one row of one token at a time.
  std::vector<double> brute_force(int window, TokenId bos) {
    std::vector<double> nll;
    StepOutput out;
    for (size_t start = 0; start + static_cast<size_t>(window) <= tokens_.size();
         start += static_cast<size_t>(window)) {
      const SequenceId seq = engine_->cache().create_sequence();
      for (int row = 0; row + 1 < window; ++row) {
        const TokenId token = row == 0 && bos >= 0 ? bos : tokens_[start + static_cast<size_t>(row)];
        Slice slice{.sequence = seq, .tokens = {&token, 1}, .logits = {0}};
        const Status status = engine_->step({&slice, 1}, &out);
        EXPECT_TRUE(status.ok()) << status.message();
        if (row < window / 2) continue;
        double sum = 0;
        for (const float x : out.logits(0, 0)) sum += std::exp(static_cast<double>(x));
        const auto target = static_cast<size_t>(tokens_[start + static_cast<size_t>(row) + 1]);
        nll.push_back(std::log(sum) - static_cast<double>(out.logits(0, 0)[target]));
      }
      EXPECT_TRUE(engine_->cache().remove(seq).ok());
    }
    return nll;
  }

  std::vector<TokenId> tokens_;
};

TEST_F(PerplexityTest, EqualsTheSameSumTokenByToken) {
  for (const TokenId bos : {-1, 1}) {
    for (const int window : {4, 7, 20}) {
      const std::vector<double> nll = brute_force(window, bos);
      double sum = 0, squares = 0;
      for (const double x : nll) {
        sum += x;
        squares += x * x;
      }
      const double n = static_cast<double>(nll.size()), mean = sum / n;
      PerplexityOptions options;
      options.window = window;
      options.bos = bos;
      const auto result = perplexity(*engine_, tokens_, options);
      ASSERT_TRUE(result.ok()) << result.status().message();
      EXPECT_EQ(result->windows, static_cast<int>(tokens_.size()) / window);
      EXPECT_EQ(result->scored, static_cast<int64_t>(nll.size()));
      // Float exponentials of 300 terms, added in double: each is within 2^-23 of its share.
      EXPECT_NEAR(result->mean_nll, mean, 1e-6);
      EXPECT_NEAR(result->perplexity, std::exp(mean), 1e-6 * std::exp(mean));
      EXPECT_NEAR(result->stderr_nll, std::sqrt((squares / n - mean * mean) / (n - 1)), 1e-5);
    }
  }
}

TEST_F(PerplexityTest, BosReplacesTheFirstTokenOfEveryWindow) {
  PerplexityOptions options;
  options.window = 8;
  const auto plain = perplexity(*engine_, tokens_, options);
  options.bos = 1;
  const auto replaced = perplexity(*engine_, tokens_, options);
  ASSERT_TRUE(plain.ok() && replaced.ok());
  EXPECT_NE(plain->mean_nll, replaced->mean_nll);
}

TEST_F(PerplexityTest, StepsOfFewRowsGiveTheSameBits) {
  PerplexityOptions options;
  options.window = 20;
  const auto whole = perplexity(*engine_, tokens_, options);
  const auto narrow_engine = engine({.context = 64, .max_rows = 3});
  const auto narrow = perplexity(*narrow_engine, tokens_, options);
  ASSERT_TRUE(whole.ok() && narrow.ok());
  EXPECT_EQ(whole->mean_nll, narrow->mean_nll);
}

TEST_F(PerplexityTest, LogitsArriveForEveryScoredRowInOrder) {
  PerplexityOptions options;
  options.window = 7;
  std::vector<int64_t> rows;
  options.on_logits = [&](int64_t token, std::span<const float> logits) {
    EXPECT_EQ(logits.size(), static_cast<size_t>(testing::kTinyVocab));
    rows.push_back(token);
  };
  ASSERT_TRUE(perplexity(*engine_, tokens_, options).ok());
  std::vector<int64_t> expected;
  for (int64_t start = 0; start + 7 <= 61; start += 7)
    expected.insert(expected.end(), {start + 3, start + 4, start + 5});
  EXPECT_EQ(rows, expected);
}

TEST_F(PerplexityTest, RefusesShortTextsAndWindowsThatDoNotFit) {
  PerplexityOptions options;
  const auto expect_refused = [&](std::span<const TokenId> tokens, const std::string& part) {
    const auto result = perplexity(*engine_, tokens, options);
    ASSERT_FALSE(result.ok());
    EXPECT_EQ(result.status().code(), Code::kInvalidArgument);
    EXPECT_NE(result.status().message().find(part), std::string::npos) << result.status().message();
  };
  options.window = 31;
  expect_refused(tokens_, "61 tokens; two windows of 31 need 62");
  options.window = 3;
  expect_refused(tokens_, "window of 3");
  options.window = 65;
  expect_refused(std::vector<TokenId>(200, 5), "does not fit the context of 64");
  options.window = 4;
  expect_refused(std::vector<TokenId>(8, 300), "token 300");
}

TEST_F(PerplexityTest, TheCallbackStopsAndTheCacheIsEmptyAfterwards) {
  PerplexityOptions options;
  options.window = 8;
  int calls = 0;
  options.on_window = [&](int done, int total, double perplexity_so_far) {
    EXPECT_EQ(done, ++calls);
    EXPECT_EQ(total, 7);
    EXPECT_GT(perplexity_so_far, 1.0);
    return done < 2;
  };
  const int free_pages = engine_->cache().free_pages();
  const auto result = perplexity(*engine_, tokens_, options);
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.status().code(), Code::kCancelled);
  EXPECT_EQ(calls, 2);
  EXPECT_EQ(engine_->cache().free_pages(), free_pages);
}

}  // namespace
}  // namespace decant
