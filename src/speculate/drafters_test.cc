// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Drafters on given texts, without a model.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <functional>
#include <random>

#include "speculate/datastore_file.h"
#include "speculate/ngram_pool.h"
#include "speculate/registry.h"
#include "speculate/state_file.h"

namespace decant {
namespace {

using Text = std::vector<TokenId>;
constexpr int kVocab = 50;

// A step in which `text` went on as it does; the model's row behind a token says `next(token)`.
class GivenOutcome final : public DraftOutcome {
 public:
  GivenOutcome(const TokenTree& tree, std::span<const TokenId> before, std::span<const TokenId> fresh,
               std::function<TokenId(TokenId)> next)
      : tree_(tree), before_(before), fresh_(fresh), next_(std::move(next)), logits_(kVocab) {
    int parent = kRoot;
    for (size_t i = 0; i + 1 < fresh.size(); ++i) path_.push_back(parent = tree.child(parent, fresh[i]));
  }
  const TokenTree& tree() const override { return tree_; }
  TargetRow row(int node) const override {
    std::fill(logits_.begin(), logits_.end(), -1.0f);
    logits_[static_cast<size_t>(next_(node == kRoot ? before_.back() : tree_.node(node).token))] = 2;
    return {logits_, {}};
  }
  std::span<const int> path() const override { return path_; }
  std::span<const TokenId> before() const override { return before_; }
  std::span<const TokenId> fresh() const override { return fresh_; }

 private:
  const TokenTree& tree_;
  std::span<const TokenId> before_, fresh_;
  std::function<TokenId(TokenId)> next_;
  mutable std::vector<float> logits_;
  std::vector<int> path_;
};

TokenId successor(TokenId t) { return (3 * t + 1) % kVocab; }

// Nodes with parents, as one would compare them.
Text shape(const TokenTree& tree) {
  Text shape;
  for (const TokenNode& n : tree.nodes()) {
    shape.push_back(n.parent);
    shape.push_back(n.token);
    shape.push_back(n.evidence);
  }
  return shape;
}

struct Replay {
  int64_t steps = 0, tokens = 0;
  std::vector<Text> shapes;
  double rate() const { return static_cast<double>(tokens) / static_cast<double>(steps); }
};

// Decodes `text` behind its first `prompt` tokens with drafts.
Replay replay(DraftMethod& method, const Text& text, size_t prompt, int nodes = 16, int depth = 16) {
  Replay result;
  auto drafter = method.start(std::span(text).first(prompt));
  EXPECT_TRUE(drafter.ok());
  TokenTree tree;
  tree.reset(0, 0);
  size_t at = prompt;
  while (at < text.size()) {
    if (at > prompt) {
      tree.reset(nodes, depth, kVocab);
      EXPECT_TRUE((*drafter)->propose({.tokens = std::span(text).first(at), .draw_seed = at}, &tree).ok());
    }
    for (const TokenNode& n : tree.nodes()) {
      EXPECT_LE(n.depth, depth);
      EXPECT_LT(n.evidence, 128);
      EXPECT_GE(n.probability, 0);
      EXPECT_LE(n.probability, 1);
    }
    EXPECT_LE(tree.size(), nodes);
    result.shapes.push_back(shape(tree));
    size_t kept = 0;
    for (int parent = kRoot; at + kept + 1 < text.size(); ++kept) {
      parent = tree.child(parent, text[at + kept]);
      if (parent == kRefused) break;
    }
    (*drafter)->observe(
        GivenOutcome(tree, std::span(text).first(at), std::span(text).subspan(at, kept + 1), successor));
    at += kept + 1;
    ++result.steps;
    result.tokens += static_cast<int64_t>(kept) + 1;
  }
  return result;
}

class DraftersTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = ::testing::TempDir() + "drafters_" + std::to_string(::getpid());
    DatastoreBuilder builder(5, kVocab);
    EXPECT_TRUE(builder.add(chain(4, 200)).ok());
    EXPECT_TRUE(builder.write(folder_ + ".ds").ok());
  }
  void TearDown() override {
    for (const char* end : {".ds", ".state"}) ::unlink((folder_ + end).c_str());
  }
  Result<std::shared_ptr<DraftMethod>> make(const std::string& spec) const {
    return make_draft_method(spec, {.vocab_size = kVocab, .vocabulary_hash = 5});
  }
  static Text chain(TokenId first, size_t size) {
    Text text = {first};
    while (text.size() < size) text.push_back(successor(text.back()));
    return text;
  }
  // Words of a few tokens in random order: there is something to learn.
  static Text prose(size_t size, uint32_t seed) {
    std::mt19937 random(seed);
    Text text;
    while (text.size() < size) {
      const auto word = static_cast<TokenId>(random() % 10);
      for (TokenId k = 0; k < 4; ++k) text.push_back(word * 4 + k);
    }
    text.resize(size);
    return text;
  }
  std::vector<std::string> specs() const {
    return {"sam",
            "sam(history=400, branches=8)",
            "sam(corpus=" + folder_ + ".ds, bias=0)",
            "datastore(file=" + folder_ + ".ds)",
            "aded",
            "aded(search=best, share=off)",
            "aded(score=compat, corpus=" + folder_ + ".ds)",
            "rasd",
            "rasd(keep=1, corpus=" + folder_ + ".ds)",
            "lookahead",
            "lookahead(share=on, ngram=2, window=3, guesses=2)"};
  }
  std::string folder_;
};

TEST_F(DraftersTest, KeepToTheirRoomAndRepeatThemselves) {
  for (const std::string& spec : specs()) {
    for (const auto& [nodes, depth] : {std::pair(1, 1), std::pair(16, 16), std::pair(200, 3)}) {
      std::vector<Text> first;
      for (int round = 0; round < 2; ++round) {
        const auto method = make(spec);
        ASSERT_TRUE(method.ok()) << method.status().message();
        EXPECT_GE((*method)->max_nodes(), 1);
        std::vector<Text> shapes;
        for (uint32_t request = 0; request < 3; ++request) {
          const Replay r = replay(**method, prose(150, request), 20, nodes, depth);
          shapes.insert(shapes.end(), r.shapes.begin(), r.shapes.end());
        }
        if (round == 0)
          first = std::move(shapes);
        else
          EXPECT_EQ(shapes, first) << spec;
      }
    }
  }
}

TEST_F(DraftersTest, TextThatRepeatsIsGuessed) {
  for (const std::string& spec : specs()) {
    const auto method = make(spec);
    ASSERT_TRUE(method.ok());
    const bool is_corpus_alone = spec.starts_with("datastore");
    const Replay r = replay(**method, is_corpus_alone ? chain(successor(4), 120) : prose(400, 7), 40);
    EXPECT_GT(r.rate(), 1.8) << spec;
  }
}

TEST_F(DraftersTest, TheFirstRequestHelpsTheNextOneWhereItIsShared) {
  for (const auto& [spec, helps] :
       {std::pair("aded", true), std::pair("aded(share=off)", false), std::pair("sam(history=1000)", true),
        std::pair("sam(history=0)", false), std::pair("lookahead(share=on)", true), std::pair("lookahead", false)}) {
    const auto method = make(spec);
    ASSERT_TRUE(method.ok());
    const Text text = chain(4, 20);  // no token twice
    const Replay first = replay(**method, text, 4), second = replay(**method, text, 4);
    if (helps) {
      EXPECT_LT(second.steps, first.steps - 3) << spec;
    } else {
      EXPECT_GE(second.steps, first.steps - 1) << spec;
    }
  }
}

TEST_F(DraftersTest, WhatWasLearnedIsSavedAndLoaded) {
  for (const std::string name : {"aded", "lookahead"}) {
    const std::string shared = name + "(share=on)";
    const auto teacher = make(shared);
    ASSERT_TRUE(teacher.ok());
    const Text text = chain(4, 20);
    replay(**teacher, text, 4);
    const std::string path = folder_ + ".state";
    ASSERT_TRUE((*teacher)->save(path).ok());
    const auto pupil = make(name + "(state=" + path + ")");
    ASSERT_TRUE(pupil.ok()) << pupil.status().message();
    EXPECT_LT(replay(**pupil, text, 4).steps, replay(**make(name), text, 4).steps - 3);
    // Another method's file, another vocabulary's, a damaged one.
    const std::string other = name == "aded" ? "lookahead" : "aded";
    EXPECT_NE(make(other + "(state=" + path + ")")
                  .status()
                  .message()
                  .find(path + ": learned by " + name + ", not by " + other),
              std::string::npos);
    const auto foreign = make_draft_method(name + "(state=" + path + ")", {.vocab_size = kVocab, .vocabulary_hash = 6});
    EXPECT_NE(foreign.status().message().find(path + ": learned with another vocabulary"), std::string::npos);
    std::ifstream in(path, std::ios::binary);
    const std::string good{std::istreambuf_iterator<char>(in), {}};
    for (size_t i = 0; i < good.size(); i += 3) {
      std::string bad = good;
      bad[i] = static_cast<char>(bad[i] + 1);
      std::ofstream(path, std::ios::binary) << bad;
      EXPECT_FALSE(make(name + "(state=" + path + ")").ok()) << i;
      std::ofstream(path, std::ios::binary) << good.substr(0, i);
      EXPECT_FALSE(make(name + "(state=" + path + ")").ok()) << i;
    }
  }
  EXPECT_EQ((*make("sam"))->save(folder_).code(), Code::kUnsupported);
}

// Columns of the window become n-grams of what the model says, even where the text never had them.
TEST_F(DraftersTest, LookaheadGuessesByTheModelsRows) {
  const auto method = make("lookahead(share=on, prompt=off)");
  ASSERT_TRUE(method.ok());
  replay(**method, prose(200, 3), 20, 100);
  const std::string path = folder_ + ".state";
  ASSERT_TRUE((*method)->save(path).ok());
  const auto data = read_state(path, "lookahead", 5);
  ASSERT_TRUE(data.ok());
  const auto words = words_of_bytes(*data, path);
  ASSERT_TRUE(words.ok());
  int by_the_model = 0;  // the text has none of them
  for (size_t i = 1; i < words->size(); i += 5) {
    bool follows = true;
    for (size_t k = 1; k < 5; ++k) {
      follows &= (*words)[i + k] == static_cast<uint32_t>(successor(static_cast<TokenId>((*words)[i + k - 1])));
    }
    by_the_model += follows ? 1 : 0;
  }
  EXPECT_GT(by_the_model, 10);
}

TEST(NgramPool, KeepsTheLatest) {
  NgramPool pool(3, 2, 2);
  std::vector<Text> rests;
  pool.insert(Text{1, 2, 3});
  pool.insert(Text{1, 2, 4});
  pool.insert(Text{1, 2, 3});
  pool.find(1, &rests);
  EXPECT_EQ(rests, (std::vector<Text>{{2, 3}, {2, 4}}));
  pool.insert(Text{1, 5, 5});
  pool.find(1, &rests);
  EXPECT_EQ(rests, (std::vector<Text>{{5, 5}, {2, 3}}));
  pool.insert(Text{2, 0, 0});
  pool.insert(Text{1, 5, 5});
  pool.insert(Text{3, 0, 0});  // 2 was not seen for longest
  EXPECT_EQ(pool.first_tokens(), 2u);
  pool.find(2, &rests);
  EXPECT_TRUE(rests.empty());
  const NgramPool copy(pool);
  EXPECT_EQ(copy.words(), pool.words());
  NgramPool loaded(3, 2, 2);
  EXPECT_TRUE(loaded.load(pool.words(), 10, "file").ok());
  EXPECT_EQ(loaded.words(), pool.words());
  EXPECT_NE(loaded.load(pool.words(), 5, "file").message().find("token 5 of a vocabulary of 5"), std::string::npos);
  EXPECT_NE(NgramPool(4, 2, 2).load(pool.words(), 10, "file").message().find("of 3 tokens; `ngram=3` takes them"),
            std::string::npos);
  std::vector<uint32_t> words = pool.words();
  words.pop_back();
  EXPECT_FALSE(loaded.load(words, 10, "file").ok());
  EXPECT_FALSE(loaded.load({}, 10, "file").ok());
}

TEST_F(DraftersTest, SettingsThatContradictEachOtherAreRefused) {
  const auto message = [&](const std::string& spec) { return make(spec).status().message(); };
  EXPECT_NE(message("datastore").find("datastore: file: expected a datastore"), std::string::npos);
  EXPECT_NE(message("datastore(file=" + folder_ + ".none)").find(folder_ + ".none"), std::string::npos);
  EXPECT_NE(message("datastore(min=9, max=2, file=x)").find("min 9 is more than max 2"), std::string::npos);
  EXPECT_NE(message("aded(step=4)").find("cap 3 is less than step 4"), std::string::npos);
  EXPECT_NE(message("rasd(min=9)").find("min 9 is more than max 8"), std::string::npos);
  EXPECT_NE(message("aded(search=worst)").find("one of mcts|best"), std::string::npos);
}

}  // namespace
}  // namespace decant
