// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "serve/engine_thread.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <random>
#include <vector>

#include "engine/test_util.h"

namespace decant {
namespace {

using std::chrono::milliseconds;

class EngineThreadTest : public engine_testing::TinyModelTest {
 protected:
  void SetUp() override { open({.context = 1024, .max_rows = 128}); }
  static ScheduledRequest request(int first, int max_tokens) {
    ScheduledRequest r;
    for (int i = 0; i < 20; ++i) r.generate.prompt.push_back((first + i * 7) % testing::kTinyVocab);
    r.generate.max_tokens = max_tokens;
    r.generate.sampler.temperature = 0;
    return r;
  }
};

// Threads that send requests and take some of them back; every request ends once, and no page is lost.
TEST_F(EngineThreadTest, ManyThreadsSendAndCancel) {
  std::atomic<int> ended = 0, taken = 0;
  {
    EngineThread engine(*engine_, {.scheduler = {.max_running = 8}, .max_waiting = 1000});
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&, t] {
        std::mt19937 random(static_cast<uint32_t>(t));
        for (int i = 0; i < 40; ++i) {
          ScheduledRequest r = request(static_cast<int>(random() % 50), static_cast<int>(random() % 30 + 1));
          r.on_done = [&](GenerateResult result) {
            EXPECT_TRUE(result.finish == FinishReason::kLength || result.finish == FinishReason::kCancelled);
            ++ended;
          };
          const Result<RequestId> id = engine.submit(std::move(r));
          ASSERT_TRUE(id.ok());
          ++taken;
          if (random() % 3 == 0) engine.cancel(*id);
        }
      });
    }
    for (std::thread& t : threads) t.join();
    EXPECT_TRUE(engine.wait_idle(milliseconds(60000)));
    EXPECT_EQ(ended, taken);
    EXPECT_EQ(engine.stats().pages_used, 0);
  }
  EXPECT_EQ(engine_->cache().free_pages(), engine_->cache().pages());
}

TEST_F(EngineThreadTest, SameTokensAsAlone) {
  ScheduledRequest one = request(3, 20);
  std::vector<GenerateRequest> alone = {one.generate};
  const std::vector<TokenId> want = generate(*engine_, alone)[0].tokens;
  EngineThread engine(*engine_, {});
  std::vector<std::promise<std::vector<TokenId>>> answers(6);
  for (size_t i = 0; i < answers.size(); ++i) {
    ScheduledRequest r = i % 2 == 0 ? one : request(static_cast<int>(i) + 60, 50);
    r.on_done = [&answers, i](GenerateResult result) { answers[i].set_value(std::move(result.tokens)); };
    ASSERT_TRUE(engine.submit(std::move(r)).ok());
  }
  for (size_t i = 0; i < answers.size(); ++i) {
    const std::vector<TokenId> got = answers[i].get_future().get();
    if (i % 2 == 0) {
      EXPECT_EQ(got, want);
    }
  }
}

TEST_F(EngineThreadTest, RefusesWhatIsTooMuchOrTooLate) {
  EngineThread engine(*engine_, {.scheduler = {.max_running = 1}, .max_waiting = 1});
  std::atomic<int> ended = 0;
  const auto long_one = [&] {
    ScheduledRequest r = request(1, 900);
    r.on_done = [&](GenerateResult) { ++ended; };
    return r;
  };
  const RequestId first = *engine.submit(long_one());
  ASSERT_TRUE(engine.submit(long_one()).ok());
  EXPECT_EQ(engine.submit(long_one()).status().code(), Code::kExhausted);
  engine.drain();
  EXPECT_EQ(engine.submit(long_one()).status().code(), Code::kCancelled);
  EXPECT_FALSE(engine.wait_idle(milliseconds(1)));
  engine.cancel(first);
  engine.stop();
  EXPECT_EQ(ended, 2);
  EXPECT_EQ(engine.submit(long_one()).status().code(), Code::kCancelled);
  EXPECT_TRUE(engine.wait_idle(milliseconds(1)));
}

}  // namespace
}  // namespace decant
