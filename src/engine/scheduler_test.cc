// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "engine/scheduler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "base/rng.h"
#include "constrain/schema_constraint.h"
#include "engine/test_util.h"

namespace decant {
namespace {

std::vector<TokenId> random_tokens(size_t n, uint64_t seed) {
  std::vector<TokenId> tokens(n);
  for (size_t i = 0; i < n; ++i) {
    tokens[i] = static_cast<TokenId>(random_bits({.seed = seed}, static_cast<uint32_t>(i)) % testing::kTinyVocab);
  }
  return tokens;
}

class SchedulerTest : public engine_testing::TinyModelTest {
 protected:
  void SetUp() override { open({.context = 2048, .max_rows = 128}); }
  static GenerateRequest request(std::vector<TokenId> prompt, int max_tokens, uint64_t seed = 0) {
    GenerateRequest r;
    r.prompt = std::move(prompt);
    r.max_tokens = max_tokens;
    r.sampler.temperature = seed == 0 ? 0.0f : 1.0f;
    r.sampler.seed = seed;
    return r;
  }
  // Adds it; the result will be in results_[name].
  RequestId add(Scheduler& scheduler, GenerateRequest generate, const std::string& name, ScheduledRequest more = {}) {
    more.generate = std::move(generate);
    more.on_done = [this, name](GenerateResult result) {
      EXPECT_FALSE(results_.contains(name)) << name << " ended twice";
      results_[name] = std::move(result);
      order_.push_back(name);
    };
    return scheduler.add(std::move(more));
  }
  static void run(Scheduler& scheduler) {
    int steps = 0;
    while (!scheduler.idle()) {
      scheduler.step();
      ASSERT_LT(++steps, 100000);
    }
  }
  // Every page is free, or belongs to the prefix cache and is free when that forgets.
  static void expect_no_leak(Scheduler& scheduler) {
    SchedulerStats s = scheduler.stats();
    EXPECT_EQ(s.pages_used, 0);
    EXPECT_EQ(s.pages_free + s.pages_cached, s.pages_total);
    scheduler.clear_prefix_cache();
    s = scheduler.stats();
    EXPECT_EQ(s.pages_free, s.pages_total);
  }
  std::vector<TokenId> alone(const GenerateRequest& request) {
    std::vector<GenerateRequest> one = {request};
    one[0].on_token = nullptr;
    std::vector<GenerateResult> result = generate(*reference(), one);
    EXPECT_TRUE(result[0].status.ok()) << result[0].status.message();
    return result[0].tokens;
  }
  Engine* reference() {
    if (reference_ == nullptr) reference_ = *Engine::create(model_, {.context = 2048, .max_rows = 128});
    return reference_.get();
  }

  std::unique_ptr<Engine> reference_;
  std::map<std::string, GenerateResult> results_;
  std::vector<std::string> order_;
};

// Takes the likeliest token and, behind every third of them, the two that came before it.
class Repeater : public TokenChooser {
 public:
  explicit Repeater(size_t most) : most_(most) {}
  Result<bool> choose(std::span<const float> logits, std::vector<TokenId>* tokens) override {
    const auto likeliest = static_cast<TokenId>(std::max_element(logits.begin(), logits.end()) - logits.begin());
    tokens->push_back(likeliest);
    text.push_back(likeliest);
    if (++calls_ % 3 == 0) {
      for (size_t i = text.size() - 3; tokens->size() < 3; ++i) tokens->push_back(text[i]);
      text.insert(text.end(), tokens->end() - 2, tokens->end());
    }
    return text.size() < most_;
  }
  std::vector<TokenId> text;

 private:
  size_t most_;
  int calls_ = 0;
};

// With or without stepping back and prefixes that are known.
TEST_F(SchedulerTest, WhatAChooserTakesIsTheAnswer) {
  std::vector<std::vector<TokenId>> expected;
  for (const int context : {2048, 512}) {
    reopen({.context = context, .max_rows = 48});
    Scheduler scheduler(*engine_, {});
    std::vector<std::shared_ptr<Repeater>> choosers;
    results_.clear();
    for (size_t i = 0; i < 8; ++i) {
      GenerateRequest r = request(random_tokens(40 + i % 2, 1), -1);
      choosers.push_back(std::make_shared<Repeater>(100));
      r.chooser = choosers.back();
      add(scheduler, std::move(r), std::to_string(i));
    }
    run(scheduler);
    EXPECT_EQ(scheduler.stats().preemptions > 0, context == 512);
    for (size_t i = 0; i < 8; ++i) {
      const GenerateResult& result = results_[std::to_string(i)];
      EXPECT_EQ(result.finish, FinishReason::kStop);
      EXPECT_EQ(result.tokens, choosers[i]->text);
      EXPECT_GE(result.tokens.size(), 100U);
      if (context == 2048) expected.push_back(result.tokens);
      EXPECT_EQ(result.tokens, expected[i]);
      EXPECT_EQ(result.tokens, expected[i % 2]);
    }
    // Behind the same text the model's own choice is the same.
    EXPECT_EQ(std::vector<TokenId>(expected[0].begin(), expected[0].begin() + 3),
              alone(request(random_tokens(40, 1), 3)));
    expect_no_leak(scheduler);
  }
  GenerateRequest r = request(random_tokens(5, 1), 4);
  r.chooser = std::make_shared<Repeater>(4);
  r.constraint = *compile_json_schema(
      "{}", "schema", {}, std::make_shared<const JsonVocabulary>(std::make_shared<const TokenTrie>(*tokenizer_)));
  Scheduler scheduler(*engine_, {});
  add(scheduler, std::move(r), "constrained");
  run(scheduler);
  EXPECT_EQ(results_["constrained"].status.code(), Code::kInvalidArgument);
}

// Requests that come at random, of all lengths, that begin alike or not, greedy and sampled, with a cache so small that
// some have to step back: each gets the tokens that it gets alone.
TEST_F(SchedulerTest, ARequestsTokensAreItsOwnWhateverRunsBesideIt) {
  for (const int context : {2048, 512}) {
    for (const bool prefixes : {true, false}) {
      reopen({.context = context, .max_rows = 48});
      Scheduler scheduler(*engine_, {.max_running = 12, .prefix_cache = prefixes});
      std::mt19937 random(static_cast<uint32_t>(context) + prefixes);
      std::map<std::string, GenerateRequest> requests;
      results_.clear();
      int left = 40;
      while (left > 0 || !scheduler.idle()) {
        for (; left > 0 && random() % 3 == 0; --left) {
          std::vector<TokenId> prompt = random_tokens(random() % 3 * 70, random() % 2 + 1);
          for (const TokenId t : random_tokens(random() % 60 + 1, random())) prompt.push_back(t);
          const std::string name = std::to_string(left);
          requests[name] = request(prompt, static_cast<int>(random() % 150 + 1), random() % 2 == 0 ? 0 : random());
          add(scheduler, requests[name], name,
              {.generate = {},
               .priority = static_cast<int>(random() % 2),
               .client = std::to_string(random() % 3),
               .deadline = {},
               .on_done = {}});
        }
        scheduler.step();
      }
      ASSERT_EQ(results_.size(), 40U);
      for (const auto& [name, r] : requests) {
        ASSERT_TRUE(results_[name].status.ok()) << results_[name].status.message();
        ASSERT_EQ(results_[name].tokens, alone(r)) << "context " << context << ", request " << name;
      }
      const SchedulerStats stats = scheduler.stats();
      if (prefixes) {
        EXPECT_GT(stats.prompt_tokens_cached, 0);
      }
      EXPECT_EQ(stats.finished, 40);
      expect_no_leak(scheduler);
    }
  }
}

// Two that fit alone and not together: one has to step back, and neither loses a token.
TEST_F(SchedulerTest, OneStepsBackWhereTwoDoNotFit) {
  reopen({.context = 512, .max_rows = 128});
  for (const uint64_t seed : {0, 11}) {
    Scheduler scheduler(*engine_, {.prefix_cache = seed == 0});
    const GenerateRequest a = request(random_tokens(90, 1), 300, seed), b = request(random_tokens(110, 2), 300, seed);
    results_.clear();
    add(scheduler, a, "a");
    add(scheduler, b, "b");
    run(scheduler);
    EXPECT_GE(scheduler.stats().preemptions, 1);
    EXPECT_EQ(results_["a"].tokens, alone(a));
    EXPECT_EQ(results_["b"].tokens, alone(b));
    EXPECT_EQ(results_["b"].tokens.size(), 300U);
    expect_no_leak(scheduler);
  }
}

// The same where nobody may step back: the newer one fails and says why.
TEST_F(SchedulerTest, WithoutSteppingBackTheNewestFails) {
  reopen({.context = 512, .max_rows = 128});
  Scheduler scheduler(*engine_, {.prefix_cache = false, .preempt = false});
  const GenerateRequest a = request(random_tokens(90, 1), 300);
  add(scheduler, a, "a");
  add(scheduler, request(random_tokens(110, 2), 300), "b");
  run(scheduler);
  EXPECT_EQ(results_["a"].tokens, alone(a));
  EXPECT_EQ(results_["b"].status.code(), Code::kExhausted);
  expect_no_leak(scheduler);
}

TEST_F(SchedulerTest, SamplesOfOnePromptProcessItOnce) {
  Scheduler scheduler(*engine_, {});
  const std::vector<TokenId> prompt = random_tokens(300, 5);
  for (uint32_t i = 0; i < 4; ++i) {
    GenerateRequest r = request(prompt, 10, 42);
    r.sample = i;
    add(scheduler, r, std::to_string(i));
  }
  run(scheduler);
  EXPECT_EQ(scheduler.stats().prompt_tokens_cached, 3 * 299);
  for (uint32_t i = 0; i < 4; ++i) {
    GenerateRequest r = request(prompt, 10, 42);
    r.sample = i;
    EXPECT_EQ(results_[std::to_string(i)].tokens, alone(r));
    EXPECT_EQ(results_[std::to_string(i)].cached_tokens, i == 0 ? 0 : 299);
  }
  EXPECT_NE(results_["0"].tokens, results_["1"].tokens);
}

TEST_F(SchedulerTest, AConversationGoesOnWhereItWas) {
  Scheduler scheduler(*engine_, {});
  std::vector<TokenId> text = random_tokens(100, 9);
  for (int turn = 0; turn < 3; ++turn) {
    const std::string name = std::to_string(turn);
    const GenerateRequest r = request(text, 20);
    add(scheduler, r, name);
    run(scheduler);
    EXPECT_EQ(results_[name].tokens, alone(r));
    // All but the last token of the answer were in the cache.
    if (turn > 0) {
      EXPECT_EQ(results_[name].cached_tokens, static_cast<int>(text.size()) - 6);
    }
    text.insert(text.end(), results_[name].tokens.begin(), results_[name].tokens.end());
    for (const TokenId t : random_tokens(5, static_cast<uint64_t>(turn))) text.push_back(t);
  }
}

TEST_F(SchedulerTest, OtherSaltsShareNothing) {
  Scheduler scheduler(*engine_, {});
  const std::vector<TokenId> prompt = random_tokens(200, 5);
  add(scheduler, request(prompt, 3), "a",
      {.generate = {}, .client = {}, .cache_salt = 1, .deadline = {}, .on_done = {}});
  run(scheduler);
  add(scheduler, request(prompt, 3), "b",
      {.generate = {}, .client = {}, .cache_salt = 2, .deadline = {}, .on_done = {}});
  add(scheduler, request(prompt, 3), "c",
      {.generate = {}, .client = {}, .cache_salt = 1, .deadline = {}, .on_done = {}});
  run(scheduler);
  EXPECT_EQ(results_["b"].cached_tokens, 0);
  EXPECT_EQ(results_["c"].cached_tokens, 199);
}

TEST_F(SchedulerTest, CancellingEndsARequestWithinOneStep) {
  Scheduler scheduler(*engine_, {.max_running = 2});
  const RequestId a = add(scheduler, request(random_tokens(20, 1), 1000), "running");
  add(scheduler, request(random_tokens(20, 2), 5), "other");
  const RequestId c = add(scheduler, request(random_tokens(20, 3), 1000), "waiting");
  for (int i = 0; i < 3; ++i) scheduler.step();
  scheduler.cancel(c);
  EXPECT_EQ(results_["waiting"].finish, FinishReason::kCancelled);
  scheduler.cancel(a);
  EXPECT_EQ(results_["running"].finish, FinishReason::kCancelled);
  EXPECT_FALSE(results_["running"].tokens.empty());
  scheduler.cancel(a);
  scheduler.cancel(12345);
  run(scheduler);
  EXPECT_EQ(results_["other"].tokens.size(), 5U);
  // From within a step, and of itself.
  GenerateRequest self = request(random_tokens(20, 4), 1000);
  RequestId id = 0;
  int tokens = 0;
  self.on_token = [&](const Draw&) {
    if (++tokens == 4) scheduler.cancel(id);
    return true;
  };
  id = add(scheduler, self, "self");
  run(scheduler);
  EXPECT_EQ(results_["self"].finish, FinishReason::kCancelled);
  EXPECT_EQ(results_["self"].tokens.size(), 4U);
  EXPECT_EQ(scheduler.stats().cancelled, 3);
  expect_no_leak(scheduler);
}

TEST_F(SchedulerTest, ADeadlineEndsARequestRunningOrNot) {
  Scheduler scheduler(*engine_, {.max_running = 1});
  const auto now = std::chrono::steady_clock::now();
  add(scheduler, request(random_tokens(20, 1), 100000 / 64), "late",
      {.generate = {}, .client = {}, .deadline = now + std::chrono::milliseconds(30), .on_done = {}});
  add(scheduler, request(random_tokens(20, 1), 3), "past",
      {.generate = {}, .client = {}, .deadline = now, .on_done = {}});
  run(scheduler);
  EXPECT_EQ(results_["late"].finish, FinishReason::kDeadline);
  EXPECT_EQ(results_["past"].finish, FinishReason::kDeadline);
  EXPECT_TRUE(results_["past"].tokens.empty());
  EXPECT_EQ(scheduler.stats().expired, 2);
  expect_no_leak(scheduler);
}

TEST_F(SchedulerTest, PriorityComesFirstAndShortPromptsOvertake) {
  Scheduler scheduler(*engine_, {.max_running = 1});
  add(scheduler, request(random_tokens(400, 1), 2), "long");
  add(scheduler, request(random_tokens(40, 2), 2), "short");
  add(scheduler, request(random_tokens(300, 3), 2), "urgent",
      {.generate = {}, .priority = 5, .client = {}, .deadline = {}, .on_done = {}});
  run(scheduler);
  EXPECT_EQ(order_, (std::vector<std::string>{"urgent", "short", "long"}));
}

// One client sends a hundred requests, then another one sends a single one.
TEST_F(SchedulerTest, ClientsTakeTurns) {
  Scheduler scheduler(*engine_, {.max_running = 2, .prefix_cache = false});
  for (int i = 0; i < 100; ++i) {
    add(scheduler, request(random_tokens(60, static_cast<uint64_t>(i)), 20), "many" + std::to_string(i),
        {.generate = {}, .client = "many", .deadline = {}, .on_done = {}});
  }
  for (int i = 0; i < 60; ++i) scheduler.step();
  const size_t before = order_.size();
  add(scheduler, request(random_tokens(200, 1000), 20), "single",
      {.generate = {}, .client = "single", .deadline = {}, .on_done = {}});
  run(scheduler);
  const auto at = std::find(order_.begin(), order_.end(), "single") - order_.begin();
  EXPECT_LT(at, static_cast<ptrdiff_t>(before) + 40);
  // Without turns the long prompt would wait for all the shorter ones.
  EXPECT_EQ(order_.size(), 101U);
}

TEST_F(SchedulerTest, PromptsComeInChunksBesideDecoding) {
  Scheduler scheduler(*engine_, {});
  int drawn = 0;
  GenerateRequest stream = request(random_tokens(10, 1), 400);
  stream.on_token = [&](const Draw&) { return ++drawn > 0; };
  add(scheduler, stream, "stream");
  for (int i = 0; i < 5; ++i) scheduler.step();
  add(scheduler, request(random_tokens(900, 2), 1), "prompt");
  int steps = 0;
  while (!results_.contains("prompt")) {
    const int before = drawn;
    ASSERT_TRUE(scheduler.step());
    EXPECT_EQ(drawn, before + 1);  // no step without a token for the stream
    EXPECT_LE(scheduler.stats().last_rows, 128);
    ++steps;
  }
  EXPECT_GE(steps, 900 / 127);
  run(scheduler);
}

TEST_F(SchedulerTest, ManyShortPromptsShareAStep) {
  Scheduler scheduler(*engine_, {.prefix_cache = false});
  for (int i = 0; i < 10; ++i) {
    add(scheduler, request(random_tokens(static_cast<size_t>(i) + 3, static_cast<uint64_t>(i) + 50), 1),
        std::to_string(i));
  }
  scheduler.step();
  EXPECT_EQ(order_.size(), 10U);
  EXPECT_EQ(scheduler.stats().last_prompt_rows, 75);
  EXPECT_EQ(scheduler.stats().steps, 1);
}

TEST_F(SchedulerTest, OneThatDoesNotFitFailsAlone) {
  reopen({.context = 256, .max_rows = 128});
  Scheduler scheduler(*engine_, {});
  add(scheduler, request(random_tokens(257, 1), 2), "too long");
  EXPECT_EQ(results_["too long"].status.code(), Code::kInvalidArgument);
  add(scheduler, request({}, 2), "empty");
  EXPECT_EQ(results_["empty"].status.code(), Code::kInvalidArgument);
  add(scheduler, request({5000}, 2), "no token");
  add(scheduler, request(random_tokens(200, 1), -1), "until full");
  run(scheduler);
  EXPECT_EQ(results_["no token"].finish, FinishReason::kError);
  EXPECT_EQ(results_["until full"].finish, FinishReason::kLength);
  EXPECT_EQ(results_["until full"].tokens.size(), 57U);
  EXPECT_EQ(scheduler.stats().failed, 3);
  expect_no_leak(scheduler);
}

TEST_F(SchedulerTest, PromptLogProbabilitiesAndEmbeddingsAreThoseOfTheModel) {
  const std::vector<TokenId> prompt = random_tokens(150, 8);
  // All rows at once.
  std::vector<int32_t> rows;
  for (int i = 0; i < 150; ++i) rows.push_back(i);
  StepOutput output;
  const std::unique_ptr<Engine> wide = *Engine::create(model_, {.context = 2048, .max_rows = 256});
  const SequenceId own = wide->cache().create_sequence();
  const int layers = model_->config().n_layers();
  const Slice slice{
      .sequence = own, .tokens = prompt, .logits = rows, .hidden = {{.layer = layers, .normed = true, .rows = rows}}};
  ASSERT_TRUE(wide->step({&slice, 1}, &output).ok());

  Scheduler scheduler(*engine_, {.max_running = 4});
  GenerateRequest reads = request(prompt, 3);
  reads.prompt_logprobs = 2;
  GenerateRequest pools = request(prompt, 0);
  pools.pooling = Pooling::kMean;
  GenerateRequest last = pools;
  last.pooling = Pooling::kLast;
  add(scheduler, request(prompt, 3), "plain");
  run(scheduler);  // so that the prompt's rows are in the prefix cache
  add(scheduler, reads, "reads");
  add(scheduler, pools, "pools");
  add(scheduler, last, "last");
  run(scheduler);
  const std::vector<Draw>& draws = results_["reads"].prompt_draws;
  ASSERT_EQ(draws.size(), 149U);
  EXPECT_EQ(results_["reads"].tokens, results_["plain"].tokens);
  for (size_t i = 0; i < draws.size(); ++i) {
    const std::span<const float> logits = output.logits(0, i);
    double sum = 0;
    for (const float l : logits) sum += std::exp(static_cast<double>(l));
    EXPECT_EQ(draws[i].token, prompt[i + 1]);
    EXPECT_NEAR(draws[i].logprob, logits[static_cast<size_t>(prompt[i + 1])] - std::log(sum), 1e-4);
    ASSERT_EQ(draws[i].top.size(), 2U);
    EXPECT_EQ(draws[i].top[0].token, std::max_element(logits.begin(), logits.end()) - logits.begin());
  }
  const auto width = static_cast<size_t>(model_->config().hidden);
  ASSERT_EQ(results_["pools"].embedding.size(), width);
  ASSERT_EQ(results_["last"].embedding.size(), width);
  for (size_t k = 0; k < width; ++k) {
    double mean = 0;
    for (size_t i = 0; i < 150; ++i) mean += static_cast<double>(output.hidden(0, 0, i)[k]) / 150;
    EXPECT_NEAR(results_["pools"].embedding[k], mean, 1e-5);
    EXPECT_EQ(results_["last"].embedding[k], output.hidden(0, 0, 149)[k]);
  }
}

}  // namespace
}  // namespace decant
