// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// The speculative loop: whatever a drafter proposes, the text is that of plain decoding.
#include <gtest/gtest.h>
#include <unistd.h>

#include "constrain/compile.h"
#include "engine/generate.h"
#include "engine/test_util.h"
#include "speculate/datastore_file.h"
#include "speculate/registry.h"

namespace decant {
namespace {

using Kind = ConstraintSpec::Kind;

// Knows a text and proposes its continuation with mistakes of all kinds around it: wrong siblings, wrong depths,
// tokens that do not exist, repeats.
class Oracle final : public DraftMethod {
 public:
  explicit Oracle(std::vector<TokenId> text, int wrong_every, uint32_t seed)
      : text_(std::move(text)), wrong_every_(wrong_every), seed_(seed) {}
  Result<std::unique_ptr<Drafter>> start(std::span<const TokenId>) override {
    return std::unique_ptr<Drafter>(new Guess(*this));
  }
  int max_nodes() const override { return 12; }
  int max_depth() const override { return 8; }

 private:
  class Guess final : public Drafter {
   public:
    explicit Guess(const Oracle& oracle) : oracle_(oracle) {}
    Status propose(const DraftContext& context, TokenTree* tree) override {
      const RngKey key{.seed = context.draw_seed ^ oracle_.seed_};
      int parent = kRoot;
      uint32_t draw = 0;
      for (size_t i = context.tokens.size(); i < oracle_.text_.size() && parent != kRefused; ++i) {
        const auto wrong = static_cast<TokenId>(random_bits(key, ++draw) % testing::kTinyVocab);
        tree->add(parent, wrong, 0.3f, 1);
        tree->add(parent, 1 << 20, 0.3f, 2);
        const bool slips = random_bits(key, ++draw) % static_cast<uint32_t>(oracle_.wrong_every_) == 0;
        parent = tree->add(parent, slips ? wrong : oracle_.text_[i], 0.8f, 3);
      }
      return {};
    }

   private:
    const Oracle& oracle_;
  };
  std::vector<TokenId> text_;
  int wrong_every_;
  uint32_t seed_;
};

class LoopTest : public engine_testing::TinyModelTest {
 protected:
  void SetUp() override { open({.context = 512, .max_rows = 32}); }
  GenerateRequest request(float temperature, uint64_t seed, int max_tokens = 60) const {
    GenerateRequest r;
    r.prompt = {5, 6, 7, 5, 6, 7, 9};
    r.sampler.temperature = temperature;
    r.sampler.seed = seed;
    r.sampler.top_k = 0;
    r.sampler.top_p = 0.98f;
    r.sampler.min_p = 0;
    r.sampler.repeat_penalty = 1.1f;
    r.max_tokens = max_tokens;
    r.end_tokens = {2};
    return r;
  }
  GenerateResult run(GenerateRequest r) { return generate(*engine_, {&r, 1}).front(); }
  // The same request with drafts from an oracle that is often wrong.
  GenerateResult drafted(GenerateRequest r, const GenerateResult& plain, int wrong_every, bool adapt) {
    std::vector<TokenId> text = r.prompt;
    text.insert(text.end(), plain.tokens.begin(), plain.tokens.end());
    text.push_back(2);
    text.push_back(11);
    r.draft = std::make_shared<Oracle>(std::move(text), wrong_every, 7);
    r.adapt_draft = adapt;
    GenerateResult result = run(std::move(r));
    EXPECT_TRUE(result.status.ok()) << result.status.message();
    EXPECT_EQ(engine_->cache().free_pages(), engine_->cache().pages());
    return result;
  }
  void expect_same(const GenerateRequest& r) {
    const GenerateResult plain = run(r);
    ASSERT_TRUE(plain.status.ok()) << plain.status.message();
    for (const int wrong_every : {1, 2, 5, 1000}) {
      for (const bool adapt : {false, true}) {
        const GenerateResult with = drafted(r, plain, wrong_every, adapt);
        EXPECT_EQ(with.tokens, plain.tokens);
        EXPECT_EQ(with.finish, plain.finish);
        EXPECT_EQ(with.forced_tokens, plain.forced_tokens);
        EXPECT_EQ(with.draws.size(), plain.draws.size());
        for (size_t i = 0; i < with.draws.size(); ++i) {
          EXPECT_EQ(with.draws[i].logprob, plain.draws[i].logprob);
          EXPECT_EQ(with.draws[i].surprise, plain.draws[i].surprise);
        }
        if (wrong_every == 1000 && !adapt && plain.tokens.size() > 20 && plain.forced_tokens == 0) {
          EXPECT_LT(with.draft.steps, static_cast<int64_t>(plain.tokens.size()) / 3);
        }
      }
    }
  }

  const std::shared_ptr<const JsonVocabulary> vocabulary_ =
      engine_testing::vocabulary_of(engine_testing::letter_texts());
};

TEST_F(LoopTest, GreedyTextIsThatOfPlainDecoding) { expect_same(request(0, 0)); }

TEST_F(LoopTest, SampledTextIsThatOfPlainDecoding) {
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    GenerateRequest r = request(1.2f, seed);
    if (seed % 2 == 0) r.n_logprobs = 2;
    if (seed == 5) r.sampler.mirostat = 2;
    if (seed == 6) r.sampler.xtc_probability = 0.5f;
    expect_same(r);
  }
}

TEST_F(LoopTest, TextUnderAConstraintIsThatOfPlainDecoding) {
  const std::pair<Kind, std::string> specs[] = {
      {Kind::kPattern, "[a-c]{5}(hello|hexagon)[0-9]{3,9}x*"},
      {Kind::kGbnf, "root ::= \"[\" [a-z ]+ (\",\" [a-z ]+)* \"]\""},
      {Kind::kJsonSchema,
       R"({"type":"object","properties":{"kind":{"enum":["alpha","beta"]},"n":{"type":"integer"}},"required":["kind","n"],)"
       R"("additionalProperties":false})"},
  };
  for (const auto& [kind, text] : specs) {
    auto made = compile_constraint({.kind = kind, .text = text, .name = "test"}, vocabulary_);
    ASSERT_TRUE(made.ok()) << made.status().message();
    for (const float temperature : {0.0f, 1.5f}) {
      for (const bool finish : {false, true}) {
        GenerateRequest r = request(temperature, 3);
        r.constraint = *made;
        r.finish_in_time = finish;
        expect_same(r);
      }
    }
  }
}

TEST_F(LoopTest, RequestsSideBySideGetTheTextsThatTheyGetAlone) {
  std::vector<GenerateRequest> requests;
  std::vector<GenerateResult> alone;
  for (uint32_t i = 0; i < 5; ++i) {
    GenerateRequest r = request(1.0f, 9);
    r.sample = i;
    alone.push_back(run(r));
    std::vector<TokenId> text = r.prompt;
    text.insert(text.end(), alone.back().tokens.begin(), alone.back().tokens.end());
    if (i != 2) r.draft = std::make_shared<Oracle>(std::move(text), 4, i);
    requests.push_back(std::move(r));
  }
  const std::vector<GenerateResult> together = generate(*engine_, requests);
  for (size_t i = 0; i < alone.size(); ++i) EXPECT_EQ(together[i].tokens, alone[i].tokens) << i;
  EXPECT_EQ(engine_->cache().free_pages(), engine_->cache().pages());
}

// One page is left for the answer: a tree of more rows than fit goes, the text does not.
TEST_F(LoopTest, AFullCacheDropsTheTreeAndNotTheRequest) {
  engine_ = *Engine::create(model_, {.context = 64, .max_rows = 32});
  const GenerateRequest r = request(0, 0, -1);
  const GenerateResult plain = run(r);
  const GenerateResult with = drafted(r, plain, 3, false);
  EXPECT_EQ(with.tokens, plain.tokens);
  EXPECT_EQ(with.finish, plain.finish);
}

// A kept sequence holds the rows that plain decoding leaves in it.
TEST_F(LoopTest, ASequenceThatIsKeptIsAsLongAsWithoutDrafts) {
  std::vector<int> lengths;
  for (const bool draft : {false, true}) {
    GenerateRequest r = request(0, 0, 23);
    const GenerateResult plain = run(r);
    r.sequence = engine_->cache().create_sequence();
    if (draft) {
      std::vector<TokenId> text = r.prompt;
      text.insert(text.end(), plain.tokens.begin(), plain.tokens.end());
      r.draft = std::make_shared<Oracle>(std::move(text), 1000, 1);
      r.adapt_draft = false;
    }
    const SequenceId sequence = r.sequence;
    EXPECT_EQ(run(std::move(r)).tokens, plain.tokens);
    lengths.push_back(engine_->cache().length(sequence));
    EXPECT_EQ(engine_->cache().pending(sequence, 0), 0);
    ASSERT_TRUE(engine_->cache().remove(sequence).ok());
  }
  EXPECT_EQ(lengths[0], lengths[1]);
}

TEST_F(LoopTest, RegisteredDraftersLeaveTheTextAlone) {
  DraftEnvironment environment{.model = model_, .vocab_size = model_->config().vocab_size};
  for (const DrafterInfo& info : drafters()) {
    if (!info.needs.empty()) continue;
    auto method = make_draft_method(info.name, environment);
    ASSERT_TRUE(method.ok()) << method.status().message();
    for (const float temperature : {0.0f, 0.9f}) {
      GenerateRequest r = request(temperature, 4, 120);
      const GenerateResult plain = run(r);
      r.draft = *method;
      for (const bool adapt : {false, true}) {
        r.adapt_draft = adapt;
        const GenerateResult with = run(r);
        EXPECT_EQ(with.tokens, plain.tokens) << info.name;
        EXPECT_EQ(with.finish, plain.finish);
      }
    }
  }
}

TEST_F(LoopTest, DraftersWithACorpusLeaveTheTextAlone) {
  const std::string file = ::testing::TempDir() + "loop_" + std::to_string(::getpid()) + ".ds";
  GenerateRequest plain_request = request(0, 4, 120);
  plain_request.constraint = *compile_constraint(
      {.kind = Kind::kGbnf, .text = "root ::= [a-e ]+ \".\" [a-z ]* \"!\"", .name = "test"}, vocabulary_);
  const GenerateResult plain = run(plain_request);
  // The corpus has parts of the answer, and what the constraint forbids.
  DatastoreBuilder builder(0, testing::kTinyVocab);
  for (size_t i = 0; i + 5 < plain.tokens.size(); i += 9) {
    std::vector<TokenId> document(plain.tokens.begin() + static_cast<ptrdiff_t>(i),
                                  plain.tokens.begin() + static_cast<ptrdiff_t>(i) + 5);
    document.push_back(3);
    ASSERT_TRUE(builder.add(document).ok());
  }
  ASSERT_TRUE(builder.write(file).ok());
  const DraftEnvironment environment{.model = model_, .vocab_size = model_->config().vocab_size};
  for (const char* spec : {"datastore(file=@)", "sam(corpus=@, bias=0)", "aded(corpus=@)", "rasd(corpus=@)",
                           "sam+datastore(file=@)", "lookahead+aded(search=best)+rasd(keep=1)"}) {
    std::string text = spec;
    for (size_t at; (at = text.find('@')) != std::string::npos;) text.replace(at, 1, file);
    auto method = make_draft_method(text, environment);
    ASSERT_TRUE(method.ok()) << method.status().message();
    GenerateRequest r = plain_request;
    r.draft = *method;
    for (const bool adapt : {false, true}) {
      r.adapt_draft = adapt;
      const GenerateResult with = run(r);
      EXPECT_EQ(with.tokens, plain.tokens) << spec;
      EXPECT_EQ(with.finish, plain.finish);
      if (!adapt) {
        EXPECT_GT(with.draft.accepted, 5) << spec;
      }
    }
  }
  ::unlink(file.c_str());
}

TEST(Registry, BadSpecsAreRefusedByName) {
  const DraftEnvironment environment{.vocab_size = 300};
  const auto message = [&](std::string_view spec) {
    const auto made = make_draft_method(spec, environment);
    return made.ok() ? std::string() : made.status().message();
  };
  EXPECT_NE(message("nothing").find("there is no draft method 'nothing'; there are: none, "), std::string::npos);
  EXPECT_NE(message("lookup(size=3)").find("lookup has no setting size; there are: max, min, length"),
            std::string::npos);
  EXPECT_NE(message("lookup(max=0)").find("max: expected a whole number from 1 to 64, got '0'"), std::string::npos);
  EXPECT_NE(message("lookup(max=2, min=3)").find("min 3 is more than max 2"), std::string::npos);
  EXPECT_NE(message("lookup+").find("expected NAME"), std::string::npos);
  EXPECT_NE(message("lookup+lookup+lookup+lookup+lookup").find("5 draft methods are joined; 4 at most can be"),
            std::string::npos);
  EXPECT_EQ(message("none"), "");
  EXPECT_EQ(message("lookup(max=2)+lookup"), "");
  EXPECT_NE(make_verifier("nobody").status().message().find("there is no verifier 'nobody'"), std::string::npos);
}

}  // namespace
}  // namespace decant
