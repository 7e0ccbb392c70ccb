// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Constraints in generate(): forced tokens and text, and answers that end in time.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "constrain/compile.h"
#include "engine/generate.h"
#include "engine/test_util.h"

namespace decant {
namespace {

using Kind = ConstraintSpec::Kind;

class ConstraintTest : public engine_testing::TinyModelTest {
 protected:
  void SetUp() override { open({.context = 512, .max_rows = 16}); }

  std::shared_ptr<Constraint> constraint(Kind kind, const std::string& text) {
    auto made = compile_constraint({.kind = kind, .text = text, .name = "test"}, vocabulary_);
    EXPECT_TRUE(made.ok()) << made.status().message();
    return *made;
  }
  GenerateRequest request(std::shared_ptr<Constraint> constraint, int max_tokens, uint64_t seed) const {
    GenerateRequest r;
    r.prompt = {5, 6, 7};
    r.sampler.temperature = 1.5f;
    r.sampler.top_k = 0;
    r.sampler.top_p = 1;
    r.sampler.min_p = 0;
    r.sampler.seed = seed;
    r.max_tokens = max_tokens;
    r.end_tokens = {2};
    r.constraint = std::move(constraint);
    return r;
  }
  GenerateResult run(GenerateRequest r) { return generate(*engine_, {&r, 1}).front(); }
  std::string text_of(const GenerateResult& result) const {
    std::string text;
    for (const TokenId t : result.tokens) text += texts_[static_cast<size_t>(t)];
    return text;
  }

  const std::vector<std::string> texts_ = engine_testing::letter_texts(
      {"hello", "hell", "lo wor", "ld", "he", "llo", " world", "ab", "aaaa", "12", "\", ", "{\"", "\": "});
  const std::shared_ptr<const JsonVocabulary> vocabulary_ = engine_testing::vocabulary_of(texts_);
};

// Log-probabilities are of the whole vocabulary; without them only the logits are computed that a mask allows.
TEST_F(ConstraintTest, LogitsOfTheMaskAloneGiveTheSameTokens) {
  const std::shared_ptr<Constraint> constraints[] = {
      constraint(Kind::kPattern, "[ab]{4}[0-9 ]{4}(!|[x-z]){8}"),
      constraint(Kind::kGbnf, "root ::= [a-z0-9, ]{30} \".\" root?"),
      constraint(Kind::kJsonSchema, R"({"type":"array","items":{"enum":["ab","hello",12,true]},"minItems":3})"),
  };
  std::vector<SamplerOptions> samplers(5);
  samplers[0].temperature = 0;
  samplers[1].temperature = 1.3f;
  samplers[1].top_k = 0;
  samplers[1].min_p = 0;
  samplers[2].repeat_penalty = 1.3f;
  samplers[2].presence_penalty = 0.5f;
  samplers[2].logit_bias = {{10 + 'a' - ' ', 2.0f}, {10 + 'x' - ' ', -INFINITY}};
  samplers[2].dry_multiplier = 0.8f;
  samplers[3].mirostat = 2;
  samplers[4].typical_p = 0.7f;
  samplers[4].dynatemp_range = 0.4f;
  for (size_t s = 0; s < samplers.size(); ++s) {
    for (const auto& c : constraints) {
      // Side by side, where masks meet in one product, and alone.
      std::vector<GenerateRequest> alone, full;
      for (uint64_t seed = 0; seed < 4; ++seed) {
        GenerateRequest r = request(c, 60, seed);
        r.sampler = samplers[s];
        r.sampler.seed = seed;
        alone.push_back(r);
        r.n_logprobs = 0;
        full.push_back(r);
      }
      const std::vector<GenerateResult> together = generate(*engine_, alone);
      for (size_t i = 0; i < alone.size(); ++i) {
        const GenerateResult all = run(full[i]), few = run(alone[i]);
        ASSERT_TRUE(all.status.ok()) << all.status.message() << " sampler " << s << " seed " << i << " "
                                     << text_of(all);
        ASSERT_TRUE(few.status.ok()) << few.status.message();
        EXPECT_EQ(few.tokens, all.tokens) << "sampler " << s << ", seed " << i;
        EXPECT_EQ(together[i].tokens, all.tokens) << "sampler " << s << ", seed " << i;
        EXPECT_EQ(few.finish, all.finish);
        EXPECT_GT(all.tokens.size(), 3u);
      }
    }
  }
}

// Log-probabilities ask the model at every token; without them forced ones are taken in chunks.
TEST_F(ConstraintTest, ForcedTokensAreTheSameTokensInFewerSteps) {
  const auto c =
      constraint(Kind::kGbnf, "root ::= [ab] \"|Zq-Zq-Zq-Zq-Zq-Zq|\" [ab] \"|x\" [0-9]{3} \"!\" ([ab] root)?");
  for (uint64_t seed = 0; seed < 8; ++seed) {
    GenerateRequest every = request(c, 80, seed), chunks = request(c, 80, seed);
    every.n_logprobs = 0;
    std::vector<TokenOrigin> in_chunks, one_by_one;
    every.on_token = [&](const Draw& draw) { return one_by_one.push_back(draw.origin), true; };
    chunks.on_token = [&](const Draw& draw) { return in_chunks.push_back(draw.origin), true; };
    const GenerateResult a = run(std::move(every)), b = run(std::move(chunks));
    ASSERT_TRUE(a.status.ok()) << a.status.message();
    ASSERT_TRUE(b.status.ok()) << b.status.message();
    EXPECT_EQ(a.tokens, b.tokens);
    EXPECT_EQ(a.finish, b.finish);
    EXPECT_GT(a.tokens.size(), 20u);
    EXPECT_EQ(a.forced_tokens, 0);
    EXPECT_GT(b.forced_tokens, 10);
    EXPECT_EQ(one_by_one, in_chunks);
    EXPECT_EQ(std::count(in_chunks.begin(), in_chunks.end(), TokenOrigin::kForced), b.forced_tokens);
  }
  // All that is limited stays so: max_tokens, the callback's stop, the context.
  EXPECT_EQ(run(request(c, 7, 1)).tokens.size(), 7u);
  GenerateRequest stopped = request(c, 80, 1);
  int seen = 0;
  stopped.on_token = [&](const Draw&) { return ++seen < 5; };
  EXPECT_EQ(run(std::move(stopped)).tokens.size(), 5u);
  EXPECT_EQ(seen, 5);
  GenerateRequest forbidden = request(c, 80, 1);
  forbidden.sampler.logit_bias = {{10 + 'q' - ' ', -INFINITY}};
  EXPECT_EQ(run(std::move(forbidden)).finish, FinishReason::kError);
}

TEST_F(ConstraintTest, ForcedTextIsTakenInItsCanonicalTokens) {
  const auto c = constraint(Kind::kPattern, "[xy]hello world[xy]");
  const auto canonical = [&](std::string_view text) {
    EXPECT_EQ(text, "hello world");
    return std::vector<TokenId>{120, 126};  // "hello", " world"
  };
  bool other = false;
  for (uint64_t seed = 0; seed < 8; ++seed) {
    GenerateRequest r = request(c, 30, seed);
    r.canonical = canonical;
    const GenerateResult result = run(std::move(r));
    ASSERT_EQ(result.tokens.size(), 4u);
    EXPECT_EQ(result.tokens[1], 120);
    EXPECT_EQ(result.tokens[2], 126);
    const GenerateResult plain = run(request(c, 30, seed));
    other = other || plain.tokens.size() != 4;
    EXPECT_EQ(text_of(plain).substr(1, 11), "hello world");
  }
  EXPECT_TRUE(other) << "the model spells it in its own way otherwise";
  // What a longer token could begin with stays with the model; what spells another text is not taken at all.
  const auto cut = constraint(Kind::kPattern, "[xy]hell[xyo]");
  GenerateRequest r = request(cut, 30, 1);
  r.canonical = [](std::string_view) { return std::vector<TokenId>{121}; };
  EXPECT_TRUE(run(std::move(r)).status.ok());
  r = request(c, 30, 1);
  r.canonical = [](std::string_view) { return std::vector<TokenId>{10, 120, 126}; };
  EXPECT_EQ(text_of(run(std::move(r))).substr(1, 11), "hello world");
}

TEST_F(ConstraintTest, AnswersEndInTime) {
  const std::pair<Kind, std::string> cases[] = {
      {Kind::kPattern, "a+b(c|dddd)*e"},
      {Kind::kGbnf, "root ::= \"(\" root* \")\" | [a-z]+"},
      {Kind::kJsonSchema,
       R"({"type":"object","properties":{"a":{"type":"string"},"list":{"type":"array","items":{"$ref":"#"}}},"required":["a","list"]})"},
  };
  for (const auto& [kind, text] : cases) {
    SCOPED_TRACE(text);
    const auto c = constraint(kind, text);
    const std::optional<int> enough = c->tokens_to_end(c->start());
    ASSERT_TRUE(enough.has_value());
    int cut = 0, hastened = 0;
    for (uint64_t seed = 0; seed < 6; ++seed) {
      for (const int more : {0, 3, 40}) {
        GenerateRequest r = request(c, *enough + more, seed);
        r.sampler.ignore_eos = false;
        r.finish_in_time = true;
        const GenerateResult result = run(std::move(r));
        ASSERT_TRUE(result.status.ok()) << result.status.message();
        ConstraintState state = c->start();
        for (const TokenId t : result.tokens) state = *c->advance(state, t);
        EXPECT_TRUE(c->accepting(state)) << text_of(result) << " " << *enough + more;
        EXPECT_EQ(result.finish, FinishReason::kStop) << text_of(result);
        hastened += result.hastened;
        const GenerateResult plain = run(request(c, *enough + more, seed));
        cut += plain.finish == FinishReason::kLength;
        EXPECT_FALSE(plain.hastened);
      }
    }
    EXPECT_GT(cut, 0) << "without it some answers are cut";
    EXPECT_GE(hastened, cut);
  }
}

}  // namespace
}  // namespace decant
