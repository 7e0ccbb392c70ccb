// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <set>

#include "constrain/compile.h"
#include "engine/generate.h"
#include "engine/test_util.h"
#include "speculate/predictor.h"
#include "speculate/registry.h"
#include "speculate/vocabulary_map.h"

namespace decant {
namespace {

constexpr const char* kTrees[] = {"tree=grow",
                                  "tree=chain, length=3",
                                  "tree=fixed, branch=3-2-1",
                                  "tree=rsd-c, branch=2-2-1",
                                  "tree=rsd-s, width=3, length=3",
                                  "tree=spectr, width=3, length=3",
                                  "tree=dyspec, nodes=8, temperature=0.6",
                                  "tree=dyspec, nodes=24, threshold=0.05"};

class ModelDrafterTest : public engine_testing::TinyModelTest {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / fmt::format("decant-draft-{}", ::getpid());
    std::filesystem::create_directories(folder_);
    open({.context = 512, .max_rows = 64});
    write({}, "target.gguf");
    // Like the target in most, so that some drafts are kept.
    testing::TinyModelSpec other;
    other.types = {DType::kQ8_0};
    draft_ = write(other, "draft.gguf");
    environment_ = {
        .model = model_, .tokenizer = tokenizer_.get(), .vocab_size = model_->config().vocab_size, .context = 512};
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string write(const testing::TinyModelSpec& spec, const std::string& name) {
    const std::string path = (folder_ / name).string();
    EXPECT_TRUE(testing::make_tiny_model(spec).write(path).ok());
    return path;
  }
  GenerateRequest request(float temperature, uint64_t seed) const {
    GenerateRequest r;
    r.prompt = {5, 6, 7, 8, 9, 5, 6, 7, 8};
    r.sampler.temperature = temperature;
    r.sampler.seed = seed;
    r.sampler.top_k = 0;
    r.sampler.top_p = 0.95f;
    r.sampler.min_p = 0;
    r.max_tokens = 50;
    r.end_tokens = {2};
    return r;
  }
  // Everything that a draft model is asked by.
  std::vector<std::string> specs() const {
    std::vector<std::string> specs;
    for (const char* tree : kTrees) specs.push_back(fmt::format("model(path={}, {})", draft_, tree));
    for (const char* settings : {"keep=255", "keep=3, nodes=12, width=2, depth=3"}) {
      specs.push_back(fmt::format("rasd(model={}, {})", draft_, settings));
    }
    return specs;
  }
  GenerateResult run(GenerateRequest r) { return generate(*engine_, {&r, 1}).front(); }

  std::filesystem::path folder_;
  std::string draft_;
  DraftEnvironment environment_;
};

TEST_F(ModelDrafterTest, EveryTreeGivesTheTextOfPlainDecoding) {
  int64_t kept = 0;
  for (const std::string& spec : specs()) {
    const auto method = make_draft_method(spec, environment_);
    ASSERT_TRUE(method.ok()) << method.status().message();
    for (const float temperature : {0.0f, 0.7f, 1.3f}) {
      for (const bool adapt : {false, true}) {
        GenerateRequest r = request(temperature, 11);
        const GenerateResult plain = run(r);
        r.draft = *method;
        r.adapt_draft = adapt;
        const GenerateResult with = run(r);
        ASSERT_TRUE(with.status.ok()) << with.status.message();
        EXPECT_EQ(with.tokens, plain.tokens) << spec;
        kept += with.draft.accepted;
      }
    }
  }
  EXPECT_GT(kept, 100);
}

// A draft model that is the target itself, drawing with its noise, is always right.
TEST_F(ModelDrafterTest, TheTargetsOwnDraftsAreAllKept) {
  const auto method = make_draft_method(
      fmt::format("model(path={}, tree=chain, length=4)", (folder_ / "target.gguf").string()), environment_);
  ASSERT_TRUE(method.ok()) << method.status().message();
  for (const float temperature : {0.0f, 1.0f}) {
    GenerateRequest r = request(temperature, 3);
    r.draft = *method;
    r.adapt_draft = false;
    const GenerateResult result = run(r);
    EXPECT_EQ(result.draft.accepted, result.draft.verified);
    EXPECT_GE(static_cast<double>(result.tokens.size()) / static_cast<double>(result.draft.steps), 4.5);
  }
}

TEST_F(ModelDrafterTest, AGrammarHoldsForDraftsToo) {
  std::vector<std::string_view> texts;
  for (TokenId t = 0; t < tokenizer_->vocab_size(); ++t) texts.push_back(tokenizer_->piece(t));
  const auto vocabulary = std::make_shared<const JsonVocabulary>(std::make_shared<const TokenTrie>(texts));
  const auto constraint = compile_constraint(
      {.kind = ConstraintSpec::Kind::kPattern, .text = "([a-d]{3} ){2,9}(end|rest)", .name = "test"}, vocabulary);
  ASSERT_TRUE(constraint.ok()) << constraint.status().message();
  for (const std::string& spec : specs()) {
    const auto method = make_draft_method(spec, environment_);
    ASSERT_TRUE(method.ok());
    for (const float temperature : {0.0f, 1.2f}) {
      GenerateRequest r = request(temperature, 2);
      r.constraint = *constraint;
      const GenerateResult plain = run(r);
      r.draft = *method;
      r.adapt_draft = false;
      const GenerateResult with = run(r);
      EXPECT_EQ(with.tokens, plain.tokens) << spec;
      // No draft was outside of the grammar: with the same tokens forced.
      EXPECT_EQ(with.forced_tokens, plain.forced_tokens);
    }
  }
}

// What a method proposes behind a text, as paths from the root.
class ProposalTest : public ModelDrafterTest {
 protected:
  using Paths = std::set<std::vector<TokenId>>;
  Paths paths(const std::string& spec, const std::vector<TokenId>& text, float temperature = 0, bool shared = true,
              uint64_t seed = 1, int room = 200) {
    const auto method = make_draft_method(spec, environment_);
    EXPECT_TRUE(method.ok()) << method.status().message();
    const auto drafter = (*method)->start(text);
    EXPECT_TRUE(drafter.ok());
    const auto sampler = Sampler::create(request(temperature, seed).sampler, environment_.vocab_size);
    EXPECT_TRUE(sampler.ok());
    const SamplerState state = sampler->start(text);
    TokenTree tree;
    tree.reset(room, 32, environment_.vocab_size);
    EXPECT_TRUE(
        (*drafter)
            ->propose(
                {.tokens = text, .sampler = &*sampler, .state = &state, .shared_noise = shared, .draw_seed = seed},
                &tree)
            .ok());
    Paths paths;
    std::vector<TokenId> path;
    for (int i = 0; i < tree.size(); ++i) {
      EXPECT_EQ(tree.kind(tree.node(i).parent), Proposal::kPoint);
      tree.path(i, &path);
      paths.insert(path);
    }
    return paths;
  }
  static bool includes(const Paths& all, const Paths& some) {
    return std::includes(all.begin(), all.end(), some.begin(), some.end());
  }
  // "5 6 7 8" was followed by two things.
  const std::vector<TokenId> text_ = {5, 6, 7, 8, 84, 85, 86, 87, 88, 9, 5, 6, 7, 8, 105, 106, 107, 10, 5, 6, 7, 8};
  const Paths retrieved_ = {{84}, {84, 85}, {84, 85, 86}, {84, 85, 86, 87}, {105}, {105, 106}, {105, 106, 107}};
};

TEST_F(ProposalTest, RasdJoinsTheModelsTreeWithWhatWasRetrieved) {
  const std::string model = fmt::format("model(path={}, tree=grow, length=3, width=3)", draft_);
  const auto rasd = [&](const std::string& settings) {
    return fmt::format("rasd(model={}, depth=3, width=3, length=4, nodes=200, {})", draft_, settings);
  };
  const Paths drafted = paths(model, text_);
  EXPECT_GE(drafted.size(), 9u);
  EXPECT_FALSE(includes(drafted, retrieved_));
  const Paths joined = paths(rasd("keep=255"), text_);
  EXPECT_TRUE(includes(joined, drafted));
  EXPECT_TRUE(includes(joined, retrieved_));
  EXPECT_EQ(paths(rasd("keep=0"), text_), drafted);
  // In little room both have their part.
  const Paths few = paths(rasd("keep=255"), text_, 0, true, 1, 8);
  EXPECT_EQ(few.size(), 8u);
  EXPECT_TRUE(includes(joined, few));
  EXPECT_GT(std::count_if(few.begin(), few.end(), [&](const auto& p) { return !retrieved_.contains(p); }), 0);
  EXPECT_GT(std::count_if(few.begin(), few.end(), [&](const auto& p) { return retrieved_.contains(p); }), 0);
}

// The first tokens that stay are those that the model ranks among its first `keep`.
TEST_F(ProposalTest, RasdPrunesByTheModel) {
  const auto has = [&](int keep, TokenId first) {
    return paths(fmt::format("rasd(model={}, depth=1, width=1, length=4, nodes=200, keep={})", draft_, keep), text_)
        .contains({first, first + 1, first + 2});
  };
  const auto rank_of = [&](TokenId first) {
    for (int width = 1; width <= 64; ++width) {
      if (paths(fmt::format("model(path={}, length=1, nodes=64, width={})", draft_, width), text_).contains({first}))
        return width;
    }
    return 65;
  };
  int tested = 0;
  for (const TokenId first : {84, 105}) {
    const int rank = rank_of(first);
    if (rank > 64) {
      EXPECT_FALSE(has(64, first));
      continue;
    }
    ++tested;
    EXPECT_TRUE(has(rank, first));
    EXPECT_FALSE(has(rank - 1, first));
  }
  EXPECT_GT(tested, 0);
}

// Under verifiers that draw by themselves the draft must not depend on draws; under `coupled` it follows the noise.
TEST_F(ProposalTest, RasdProposesPoints) {
  const std::string spec = fmt::format("rasd(model={})", draft_);
  EXPECT_EQ(paths(spec, text_, 3.0f, false, 1), paths(spec, text_, 3.0f, false, 2));
  EXPECT_NE(paths(spec, text_, 3.0f, true, 1), paths(spec, text_, 3.0f, true, 2));
  EXPECT_TRUE(make_speculation(spec, "match", environment_).ok());
  EXPECT_TRUE(make_draft_method("lookup+" + spec, environment_).ok());
}

TEST_F(ModelDrafterTest, SeveralSamplesShareTheDraftModel) {
  const auto method = make_draft_method(fmt::format("model(path={})", draft_), environment_);
  ASSERT_TRUE(method.ok());
  std::vector<GenerateRequest> requests;
  std::vector<GenerateResult> plain;
  for (uint32_t i = 0; i < 4; ++i) {
    GenerateRequest r = request(1.0f, 8);
    r.sample = i;
    plain.push_back(run(r));
    r.draft = *method;
    requests.push_back(std::move(r));
  }
  const std::vector<GenerateResult> with = generate(*engine_, requests);
  for (size_t i = 0; i < with.size(); ++i) EXPECT_EQ(with[i].tokens, plain[i].tokens);
}

TEST_F(ModelDrafterTest, ADraftModelWithoutRoomIsNotAsked) {
  environment_.context = 8;  // 264 tokens of the draft model's own
  const auto method = make_draft_method(fmt::format("model(path={}, tree=chain)", draft_), environment_);
  ASSERT_TRUE(method.ok());
  GenerateRequest r = request(0, 0);
  r.max_tokens = 400;
  r.end_tokens = {};
  const GenerateResult plain = run(r);
  r.draft = *method;
  r.adapt_draft = false;
  const GenerateResult with = run(r);
  EXPECT_EQ(with.tokens, plain.tokens);
  EXPECT_GT(with.draft.accepted, 0);
}

TEST_F(ModelDrafterTest, BadDraftModelsAreRefused) {
  const auto message = [&](const std::string& settings) {
    const auto made = make_draft_method("model(" + settings + ")", environment_);
    return made.ok() ? std::string() : made.status().message();
  };
  EXPECT_NE(message("tree=chain").find("model: path=FILE names the draft model"), std::string::npos);
  EXPECT_NE(message("path=nowhere.gguf").find("nowhere.gguf"), std::string::npos);
  EXPECT_NE(message("path=x, tree=bush").find("tree: expected one of grow|chain"), std::string::npos);
  EXPECT_NE(message("path=x, tree=fixed, branch=0").find("branch: expected numbers"), std::string::npos);
  const auto rasd = [&](const std::string& settings) {
    return make_draft_method("rasd(" + settings + ")", environment_).status().message();
  };
  EXPECT_NE(rasd("model=nowhere.gguf").find("nowhere.gguf"), std::string::npos);
  EXPECT_NE(rasd("width=2").find("name the model too: model=FILE"), std::string::npos);
  EXPECT_NE(rasd("model=x, width=0").find("width: expected a whole number from 1 to 64"), std::string::npos);
  EXPECT_NE(message("path=x, nodes=0").find("nodes: expected a whole number from 1 to 1024"), std::string::npos);
}

// Two vocabularies by their texts, one of bytes only.
TEST_F(ModelDrafterTest, AnotherVocabularyIsRefusedByItsFirstToken) {
  const auto same = VocabularyMap::create(*tokenizer_, 300, *tokenizer_, 320, "draft.gguf");
  ASSERT_TRUE(same.ok());
  EXPECT_TRUE((*same)->is_identity());
  EXPECT_EQ((*same)->to_draft(17), 17);
  std::vector<float> logits(320, 1.0f), out;
  logits[299] = 5;
  (*same)->to_target(logits, &out);
  EXPECT_EQ(out.size(), 300u);
  EXPECT_EQ(out[299], 5.0f);
  // A smaller draft: what it lacks is never proposed.
  const auto padded = VocabularyMap::identity(300, 290);
  padded->to_target(std::span<const float>(logits).first(290), &out);
  EXPECT_EQ(out[289], 1.0f);
  EXPECT_EQ(out[295], -INFINITY);
  EXPECT_LT(padded->to_draft(295), 290);
}

}  // namespace
}  // namespace decant
