// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <random>

#include "speculate/corpus_guesses.h"
#include "speculate/datastore_file.h"
#include "speculate/registry.h"

namespace decant {
namespace {

using Text = std::vector<TokenId>;

class DatastoreTest : public ::testing::Test {
 protected:
  void SetUp() override { path_ = ::testing::TempDir() + "datastore_" + std::to_string(::getpid()) + ".ds"; }
  void TearDown() override { ::unlink(path_.c_str()); }

  std::shared_ptr<const Datastore> build(const std::vector<Text>& documents, int vocab_size) {
    DatastoreBuilder builder(kHash, vocab_size);
    for (const Text& d : documents) EXPECT_TRUE(builder.add(d).ok());
    EXPECT_TRUE(builder.write(path_).ok());
    auto store = Datastore::open(path_, kHash, static_cast<uint64_t>(vocab_size));
    EXPECT_TRUE(store.ok()) << store.status().message();
    EXPECT_TRUE((*store)->check().ok()) << (*store)->check().message();
    return *store;
  }
  std::string bytes() const {
    std::ifstream in(path_, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  void write(const std::string& bytes) const { std::ofstream(path_, std::ios::binary) << bytes; }

  static constexpr uint64_t kHash = 77;
  std::string path_;
};

TEST_F(DatastoreTest, FindsTheLongestSuffixAndAllItsPlaces) {
  std::mt19937 random(1);
  for (const int vocab : {3, 70000}) {
    std::vector<Text> documents(20);
    for (Text& d : documents) {
      const size_t size = random() % 30;
      while (d.size() < size) d.push_back(static_cast<TokenId>(random() % 3) + vocab - 3);
    }
    const auto store = build(documents, vocab);
    EXPECT_EQ(store->info().token_bytes, vocab == 3 ? 2 : 4);
    EXPECT_EQ(store->info().documents, 20u);
    for (int trial = 0; trial < 300; ++trial) {
      Text text;
      const size_t size = random() % 12;
      while (text.size() < size) text.push_back(static_cast<TokenId>(random() % 3) + vocab - 3);
      const int shortest = 1 + static_cast<int>(random() % 3), longest = 1 + static_cast<int>(random() % 9);
      int length = 0;
      std::vector<Text> behind;  // what follows each place, in the document
      for (int n = std::min(longest, static_cast<int>(size)); n >= shortest && length == 0; --n) {
        for (const Text& d : documents) {
          for (size_t i = 0; i + static_cast<size_t>(n) <= d.size(); ++i) {
            if (!std::equal(text.end() - n, text.end(), d.begin() + static_cast<ptrdiff_t>(i))) continue;
            length = n;
            behind.emplace_back(d.begin() + static_cast<ptrdiff_t>(i) + n, d.end());
          }
        }
      }
      const Datastore::Range range = store->find(text, shortest, longest);
      ASSERT_EQ(range.length, length);
      if (length == 0) continue;
      std::vector<Text> found;
      for (uint64_t i = range.first; i < range.last; ++i) {
        Text rest;
        for (uint64_t at = store->suffix(i) + static_cast<uint64_t>(length); store->token(at) >= 0; ++at) {
          rest.push_back(store->token(at));
        }
        found.push_back(std::move(rest));
      }
      std::sort(found.begin(), found.end());
      std::sort(behind.begin(), behind.end());
      EXPECT_EQ(found, behind);
    }
  }
}

TEST_F(DatastoreTest, GuessesAreTheHeaviestContinuations) {
  // Behind 1 2: three times 3 4, twice 5, once the end of a document.
  const auto store = build({{1, 2, 3, 4, 9}, {1, 2, 3, 4}, {1, 2, 3, 6}, {1, 2, 5}, {0, 1, 2, 5, 7}, {1, 2}}, 10);
  const Text text = {8, 1, 2};
  const Datastore::Range match = store->find(text, 1, 16);
  ASSERT_EQ(match.length, 2);
  ASSERT_EQ(match.count(), 6u);
  const auto evidence = [](const CorpusEvidence& e) { return static_cast<uint16_t>(e.length * 10 + e.depth); };
  TokenTree tree;
  tree.reset(4, 3);
  add_corpus_guesses(*store, match, 100, evidence, nullptr, &tree);
  std::vector<Text> paths;
  for (int i = 0; i < tree.size(); ++i) tree.path(i, &paths.emplace_back());
  EXPECT_EQ(paths, (std::vector<Text>{{3}, {5}, {3, 4}, {3, 6}}));
  EXPECT_FLOAT_EQ(tree.node(0).probability, 3.0f / 7);
  EXPECT_FLOAT_EQ(tree.node(2).probability, 2.0f / 4);
  EXPECT_EQ(tree.node(2).evidence, 22);
  // Depth and number are kept whatever there is.
  tree.reset(100, 1);
  add_corpus_guesses(*store, match, 100, evidence, nullptr, &tree);
  EXPECT_EQ(tree.size(), 2);
  tree.reset(100, 9);
  add_corpus_guesses(*store, match, 1, evidence, nullptr, &tree);
  for (int i = 0; i < tree.size(); ++i) EXPECT_LE(tree.proposals(i).size(), 1u);
}

TEST_F(DatastoreTest, DamageIsNamed) {
  build({{1, 2, 3}, {1, 2, 4, 4, 4}}, 5);
  const std::string good = bytes();
  const auto message = [&](const std::string& content) {
    write(content);
    const auto opened = Datastore::open(path_, kHash, 5);
    if (!opened.ok()) return opened.status().message();
    const Status status = (*opened)->check();
    return status.ok() ? std::string() : status.message();
  };
  EXPECT_EQ(message(good), "");
  for (size_t size = 0; size < good.size(); ++size) {
    EXPECT_TRUE(message(good.substr(0, size)).starts_with(path_ + ": ")) << size;
  }
  EXPECT_NE(message(good + "x").find(": size: "), std::string::npos);
  for (size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ 0x10);
    EXPECT_TRUE(message(bad).starts_with(path_ + ": ")) << i;
    // Damage that open() does not see, behind the header, is no danger.
    const auto opened = Datastore::open(path_, kHash, 5);
    if (!opened.ok()) continue;
    EXPECT_GE(i, 96u);
    const Text text = {4, 1, 2};
    const Datastore::Range match = (*opened)->find(text, 1, 16);
    TokenTree tree;
    tree.reset(16, 16, 5);
    add_corpus_guesses(
        **opened, match, 100, [](const CorpusEvidence&) { return uint16_t{0}; }, nullptr, &tree);
    for (const TokenNode& n : tree.nodes()) EXPECT_LT(n.token, 5);
  }
  write(good);
  EXPECT_NE(Datastore::open(path_, kHash + 1, 5).status().message().find("vocabulary: made for another model's"),
            std::string::npos);
  EXPECT_NE(Datastore::open(path_, 0, 4).status().message().find("vocabulary: "), std::string::npos);
  EXPECT_NE(Datastore::open(path_ + "x").status().message().find(path_ + "x"), std::string::npos);
  EXPECT_NE(message("GGUF and more than a header's bytes, of some other kind of file altogether; it holds no tokens")
                .find("this is no datastore"),
            std::string::npos);
}

TEST_F(DatastoreTest, BuildersRefuseWhatTheyCannotHold) {
  DatastoreBuilder builder(1, 5);
  EXPECT_NE(builder.write(path_).message().find("there is no text"), std::string::npos);
  EXPECT_NE(builder.add(Text{1, 5}).message().find("token 5 of a vocabulary of 5"), std::string::npos);
  EXPECT_NE(builder.add(Text{-1}).message().find("token -1"), std::string::npos);
}

}  // namespace
}  // namespace decant
