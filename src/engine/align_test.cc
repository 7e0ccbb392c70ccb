// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "engine/align.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <map>

#include "constrain/schema_constraint.h"
#include "engine/test_util.h"

namespace decant {
namespace {

using Text = std::vector<TokenId>;

class AlignTest : public engine_testing::TinyModelTest {
 protected:
  void SetUp() override {
    open({.context = 512, .max_rows = 64});
    vocabulary_ = std::make_shared<const JsonVocabulary>(std::make_shared<const TokenTrie>(*tokenizer_));
  }

  std::shared_ptr<Constraint> schema(const std::string& text) {
    auto constraint = compile_json_schema(text, "schema", {}, vocabulary_);
    EXPECT_TRUE(constraint.ok()) << constraint.status().message();
    return *constraint;
  }

  // Words with several spellings in tokens. The temperature brings the random model's tastes nearer to each other.
  GenerateRequest request(const std::string& text = R"({"enum": ["the", "thin", "it", "a", "", null]})") {
    GenerateRequest r;
    r.prompt = {40, 41, 42};
    r.sampler.seed = 5;
    r.sampler.temperature = 9;
    r.sampler.samplers = "penalties;temperature";
    r.sampler.repeat_penalty = 1.3f;
    r.max_tokens = 12;
    r.end_tokens = {2, 0};
    r.constraint = schema(text);
    return r;
  }

  std::unique_ptr<AlignedSampler> sampler(const GenerateRequest& r, const AlignOptions& options) {
    auto made = AlignedSampler::create(*engine_, r, options);
    EXPECT_TRUE(made.ok()) << made.status().message();
    return *std::move(made);
  }

  // log P of a whole text and its end, from one pass over it.
  double score(const GenerateRequest& r, const Text& text) {
    Text all = r.prompt;
    all.insert(all.end(), text.begin(), text.end());
    const SequenceId sequence = engine_->cache().create_sequence();
    Slice slice{.sequence = sequence, .tokens = all};
    for (size_t i = r.prompt.size() - 1; i < all.size(); ++i) slice.logits.push_back(static_cast<int32_t>(i));
    StepOutput out;
    EXPECT_TRUE(engine_->step({&slice, 1}, &out).ok());
    const auto plain = Sampler::create(r.sampler, engine_->model().config().vocab_size);
    SamplerState state = plain->start(r.prompt);
    double sum = 0;
    for (size_t i = 0; i <= text.size(); ++i) {
      const auto p = plain->distribution(out.logits(0, i), state, static_cast<uint32_t>(r.prompt.size() + i));
      double chosen = 0;
      for (const TokenLogprob& t : *p) {
        const bool counts =
            i < text.size() ? t.token == text[i] : std::count(r.end_tokens.begin(), r.end_tokens.end(), t.token) > 0;
        if (counts) chosen += std::exp(static_cast<double>(t.logprob));
      }
      sum += std::log(chosen);
      if (i < text.size()) state = plain->advance(state, text[i]);
    }
    EXPECT_TRUE(engine_->cache().remove(sequence).ok());
    return sum;
  }

  std::shared_ptr<const JsonVocabulary> vocabulary_;
};

TEST_F(AlignTest, ExploringScoresEveryTextAsOnePassOverItDoes) {
  const GenerateRequest r = request();
  const auto all = sampler(r, {});
  ASSERT_TRUE(all->explore(1000).ok());
  const auto texts = enumerate_texts(all->trie(), nullptr, 1000);
  ASSERT_TRUE(texts.ok());
  ASSERT_GT(texts->size(), 10u);
  double total = 0;
  for (const AlignedText& t : *texts) {
    EXPECT_NEAR(t.log_p, score(r, t.tokens), 1e-4);  // log-probabilities are floats
    total += std::exp(t.log_p);
  }
  EXPECT_NEAR(std::log(total), all->trie().log_c(), 1e-9);
  EXPECT_EQ(sampler(r, {})->explore(5).code(), Code::kExhausted);
}

// n = 20,000. The misfit is Pearson's statistic in standard deviations above its mean; 5 is a chance of about 1e-5.
TEST_F(AlignTest, ExactAnswersAreDistributedAsTheConditionalAlsoInBatches) {
  const GenerateRequest r = request();
  const auto all = sampler(r, {});
  ASSERT_TRUE(all->explore(1000).ok());
  const auto texts = enumerate_texts(all->trie(), nullptr, 1000);
  ASSERT_TRUE(texts.ok());
  for (const int batch : {1, 5}) {
    const auto exact = sampler(r, {.mode = AlignMode::kExact, .batch = batch, .max_attempts = 1 << 20});
    constexpr int kSamples = 20000;
    std::map<Text, int> counts;
    int64_t passes = 0;
    for (int i = 0; i < kSamples; ++i) {
      const auto sample = exact->next();
      ASSERT_TRUE(sample.ok()) << sample.status().message();
      ++counts[sample->tokens];
      passes += sample->forward_passes;
    }
    double statistic = 0, rest = kSamples, rest_seen = kSamples;
    int cells = 0;
    for (const AlignedText& t : *texts) {
      const double expected = kSamples * std::exp(t.log_p - all->trie().log_c());
      if (expected < 5) continue;
      statistic += std::pow(counts[t.tokens] - expected, 2) / expected;
      rest -= expected, rest_seen -= counts[t.tokens];
      ++cells;
    }
    if (rest >= 5) statistic += (rest_seen - rest) * (rest_seen - rest) / rest, ++cells;
    ASSERT_GE(cells, 4);
    EXPECT_LT((statistic - (cells - 1)) / std::sqrt(2.0 * (cells - 1)), 5);
    EXPECT_LT(passes, 2000) << "rows of known prefixes are not computed again";
    EXPECT_GE(exact->trie().log_c(), all->trie().log_c() - 1e-9);
  }
}

TEST_F(AlignTest, AsapTendsToTheConditional) {
  const GenerateRequest r = request();
  const auto all = sampler(r, {});
  ASSERT_TRUE(all->explore(1000).ok());
  const auto asap = sampler(r, {.mode = AlignMode::kAsap});
  const auto distance = [&] {
    const auto texts = enumerate_texts(all->trie(), &asap->trie(), 1000);
    double sum = 0;
    for (const AlignedText& t : *texts) sum += std::abs(std::exp(t.log_q) - std::exp(t.log_p - all->trie().log_c()));
    return sum / 2;
  };
  const double masking = distance();
  for (int i = 0; i < 2000; ++i) {
    const auto sample = asap->next();
    ASSERT_TRUE(sample.ok());
  }
  EXPECT_LT(asap->trie().attempts(), 2100) << "escapes that the budget cuts are the only dead ends";
  EXPECT_GT(masking, 0.1);
  EXPECT_LT(distance(), masking / 5);
}

// What is remembered, how the steps are cut and who runs beside a text change nothing.
TEST_F(AlignTest, CachesAndChunksChangeNothing) {
  const GenerateRequest r = request(R"({"type": "string", "maxLength": 4, "pattern": "^[aehint]*$"})");
  std::vector<std::string> files;
  for (const auto& [row_bytes, max_rows] :
       std::vector<std::pair<size_t, int>>{{size_t{1} << 26, 64}, {0, 64}, {0, 2}}) {
    reopen({.context = 512, .max_rows = max_rows});
    AlignOptions options{.mode = AlignMode::kAsap, .batch = 3};
    options.row_bytes = row_bytes;
    const auto made = sampler(r, options);
    std::string drawn;
    for (int i = 0; i < 60; ++i) {
      const auto sample = made->next();
      ASSERT_TRUE(sample.ok()) << sample.status().message();
      for (const TokenId t : sample->tokens) drawn += std::to_string(t) + " ";
      drawn += std::to_string(sample->log_p) + "; ";
    }
    files.push_back(drawn + made->trie().serialize(made->key()));
  }
  EXPECT_EQ(files[0], files[1]);
  EXPECT_EQ(files[0], files[2]);
}

TEST_F(AlignTest, ASavedTrieGoesOnWithTheSameStream) {
  const GenerateRequest r = request();
  const std::string path = ::testing::TempDir() + "align_" + std::to_string(::getpid()) + ".trie";
  for (const AlignMode mode : {AlignMode::kAsap, AlignMode::kExact}) {
    const AlignOptions options{.mode = mode, .max_attempts = 1 << 20};
    const auto whole = sampler(r, options);
    std::vector<Text> want, got;
    for (int i = 0; i < 20; ++i) want.push_back(whole->next()->tokens);
    for (int part = 0; part < 4; ++part) {
      const auto piece = sampler(r, options);
      if (part > 0) {
        const Status status = piece->load(path);
        ASSERT_TRUE(status.ok()) << status.message();
      }
      for (int i = 0; i < 5; ++i) got.push_back(piece->next()->tokens);
      ASSERT_TRUE(piece->save(path).ok());
    }
    EXPECT_EQ(got, want);
    const auto refuse = [&](const GenerateRequest& other, const char* field) {
      const Status status = sampler(other, options)->load(path);
      EXPECT_EQ(status.code(), Code::kInvalidArgument);
      EXPECT_NE(status.message().find(std::string("made for another ") + field), std::string::npos) << status.message();
    };
    GenerateRequest other = r;
    other.prompt.push_back(7);
    refuse(other, "prompt");
    other = r;
    other.sampler.temperature = 8;
    refuse(other, "sampler");
    other = r;
    other.max_tokens = 11;
    refuse(other, "token budget");
    other = r;
    other.end_tokens = {2};
    refuse(other, "set of end tokens");
  }
  ::unlink(path.c_str());
}

TEST_F(AlignTest, WhatCannotBeAlignedIsRefused) {
  const auto refuse = [&](GenerateRequest r, const char* word, const AlignOptions& options = {}) {
    const auto made = AlignedSampler::create(*engine_, r, options);
    ASSERT_FALSE(made.ok()) << word;
    EXPECT_EQ(made.status().code(), Code::kInvalidArgument);
    EXPECT_NE(made.status().message().find(word), std::string::npos) << made.status().message();
  };
  GenerateRequest r = request();
  r.sampler.temperature = 0;
  refuse(r, "temperature");
  r = request();
  r.sampler.mirostat = 2;
  refuse(r, "Mirostat");
  r = request();
  r.sampler.xtc_probability = 0.5f;
  refuse(r, "XTC");
  r = request();
  r.sampler.ignore_eos = true;
  refuse(r, "end");
  r = request();
  r.constraint = nullptr;
  refuse(r, "constraint");
  r = request();
  r.finish_in_time = true;
  refuse(r, "finish_in_time");
  r = request();
  r.max_tokens = 510;
  refuse(r, "budget");
  r = request();
  r.prompt.clear();
  refuse(r, "prompt is empty");
  refuse(request(), "batch", {.batch = 0});
}

TEST_F(AlignTest, ALanguageWithoutProbabilityIsAnError) {
  const int free_pages = engine_->cache().free_pages();
  for (const AlignMode mode : {AlignMode::kAsap, AlignMode::kExact}) {
    GenerateRequest r = request();
    r.max_tokens = 0;  // nothing is that short
    EXPECT_NE(sampler(r, {.mode = mode})->next().status().message().find("P(L') = 0"), std::string::npos);
    r = request();
    r.sampler.samplers = "top_k;temperature";
    r.sampler.top_k = 1;  // the model's own choice is no JSON
    EXPECT_NE(sampler(r, {.mode = mode})->next().status().message().find("--top-k"), std::string::npos);
  }
  const auto few = sampler(request(), {.mode = AlignMode::kExact, .max_attempts = 1})->next();
  EXPECT_EQ(few.status().code(), Code::kExhausted);
  const std::atomic<bool> cancelled = true;
  EXPECT_EQ(AlignedSampler::create(*engine_, request(), {.cancel = &cancelled}).status().code(), Code::kCancelled);
  EXPECT_EQ(engine_->cache().free_pages(), free_pages);
}

}  // namespace
}  // namespace decant
