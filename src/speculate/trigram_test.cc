// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <random>

#include "speculate/draft_maker.h"
#include "speculate/trigram_table.h"

namespace decant {
namespace {

using Text = std::vector<TokenId>;
using Row = TrigramTable::Row;

Row row_of(std::span<const TrigramTable::Successor> row) { return {row.begin(), row.end()}; }

TrigramTable table_of(const std::vector<Text>& documents, int vocab_size, int top) {
  const std::string path = ::testing::TempDir() + "trigrams_" + std::to_string(::getpid()) + ".ds";
  DatastoreBuilder builder(0, vocab_size);
  for (const Text& d : documents) EXPECT_TRUE(builder.add(d).ok());
  EXPECT_TRUE(builder.write(path).ok());
  TrigramTable table = TrigramTable::from_corpus(**Datastore::open(path), top);
  ::unlink(path.c_str());
  return table;
}

uint16_t no_evidence(const TrigramEvidence&) { return 0; }

AdaptiveTrigrams adaptive(TrigramTable table) {
  return AdaptiveTrigrams(std::make_shared<const TrigramTable>(std::move(table)));
}

TEST(TrigramTable, ACorpusIsCountedWithinItsDocuments) {
  const TrigramTable table = table_of({{1, 2, 3, 1, 2, 4, 1, 2, 3}, {1, 2}, {2, 3, 5}, {7}}, 10, 12);
  EXPECT_EQ(row_of(table.row(1, 2)), (Row{{3, 2.0f / 3}, {4, 1.0f / 3}}));
  EXPECT_EQ(row_of(table.row(2, 3)), (Row{{1, 0.5f}, {5, 0.5f}}));
  EXPECT_EQ(row_of(table.row(2, 4)), (Row{{1, 1.0f}}));
  EXPECT_TRUE(table.row(3, 5).empty());
  EXPECT_EQ(table.rows(), 5u);  // and 3 1, 4 1
  EXPECT_EQ(table.weight(1, 2, 4), 1.0f / 3);
  EXPECT_EQ(table.weight(1, 2, 5), 0);
}

TEST(TrigramTable, TheHeaviestAreKeptAndTiesGoToTheLowerToken) {
  std::vector<Text> documents;
  for (TokenId c = 0; c < 20; ++c) {
    for (int n = 0; n <= (c == 13 ? 1 : 0); ++n) documents.push_back({1, 2, c});
  }
  const TrigramTable table = table_of(documents, 20, 4);
  EXPECT_EQ(row_of(table.row(1, 2)), (Row{{13, 2.0f / 21}, {0, 1.0f / 21}, {1, 1.0f / 21}, {2, 1.0f / 21}}));
}

TEST(TrigramTable, WeightsRiseByStepsToTheCap) {
  AdaptiveTrigrams table = adaptive(table_of({{1, 2, 3}, {1, 2, 4}}, 10, 12));
  for (int n = 1; n <= 100; ++n) {
    table.raise(1, 2, 4, 0.04f, 3);
    table.raise(5, 6, 7, 0.04f, 3);
    EXPECT_NEAR(table.weight(1, 2, 4), std::min(0.5 + 0.04 * n, 3.0), 1e-4);
    EXPECT_NEAR(table.weight(5, 6, 7), std::min(0.04 * n, 3.0), 1e-4);
    EXPECT_EQ(table.weight(1, 2, 3), 0.5f);
  }
  EXPECT_EQ(table.row(1, 2)[0].token, 4);
  EXPECT_EQ(table.changed().rows(), 2u);
  // Every three tokens in a row, once.
  table.raise_all(Text{7, 8, 9, 7}, 0.5f, 3);
  EXPECT_EQ(row_of(table.row(7, 8)), (Row{{9, 0.5f}}));
  EXPECT_EQ(row_of(table.row(8, 9)), (Row{{7, 0.5f}}));
  EXPECT_TRUE(table.row(9, 7).empty());
}

TEST(TrigramTable, RowsStayInOrder) {
  TrigramTable table;
  std::mt19937 random(2);
  for (int i = 0; i < 2000; ++i) {
    table.raise(0, 0, static_cast<TokenId>(random() % 40), 0.25f * static_cast<float>(random() % 3), 5);
    const auto row = table.row(0, 0);
    ASSERT_TRUE(std::is_sorted(row.begin(), row.end(), [](const auto& a, const auto& b) {
      return a.weight != b.weight ? a.weight > b.weight : a.token < b.token;
    }));
  }
}

TEST(TrigramTable, WordsComeBackAndBadOnesDoNot) {
  TrigramTable table;
  for (TokenId t = 0; t < 9; ++t) table.raise(t % 3, 4, t, 0.1f * static_cast<float>(t + 1), 3);
  const std::vector<uint32_t> words = table.words();
  const auto again = TrigramTable::from_words(words, 10, "file");
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(again->words(), words);
  EXPECT_FALSE(TrigramTable::from_words(words, 8, "file").ok());
  for (size_t n = 1; n < words.size(); ++n) {
    const auto cut = TrigramTable::from_words(std::span(words).first(n), 10, "file");
    if (n % 9 == 0) {
      EXPECT_TRUE(cut.ok());  // three rows of 3 + 2 * 3 words
    } else {
      EXPECT_TRUE(cut.status().message().starts_with("file: row ")) << n;
    }
  }
  std::vector<uint32_t> bad = words;
  bad[4] = std::bit_cast<uint32_t>(std::nanf(""));
  EXPECT_FALSE(TrigramTable::from_words(bad, 10, "file").ok());
  bad = words;
  bad[2] = 0xFFFFFFFF;
  EXPECT_FALSE(TrigramTable::from_words(bad, 10, "file").ok());
  bad = words;
  std::swap(bad[4], bad[6]);
  EXPECT_FALSE(TrigramTable::from_words(bad, 10, "file").ok());
}

TEST(DraftMaker, AnOnlyChildGetsAllVisits) {
  TrigramTable t;
  t.raise(1, 2, 3, 0.5f, 3);
  DraftMaker maker({});
  TokenTree tree;
  tree.reset(64, 8);
  maker.search(adaptive(std::move(t)), 1, 2, 9, no_evidence, &tree);
  const auto visits = maker.visits();
  ASSERT_EQ(visits.size(), 2u);
  EXPECT_EQ(visits[0].visits, 150);
  EXPECT_EQ(visits[1].visits, 150);
  EXPECT_FLOAT_EQ(visits[1].score, 150 * 1.5f);
  ASSERT_EQ(tree.size(), 1);
  EXPECT_EQ(tree.node(0).token, 3);
}

TEST(DraftMaker, VisitsFollowThePriorsWhenScoresAreEqual) {
  TrigramTable t;
  t.raise(1, 2, 3, 0.9f, 3);
  t.raise(1, 2, 4, 0.1f, 3);
  // The authors' score looks up what is not there: every path scores 1.
  DraftMaker maker({.iterations = 1000, .compat = true});
  TokenTree tree;
  tree.reset(64, 8);
  maker.search(adaptive(std::move(t)), 1, 2, 9, no_evidence, &tree);
  const auto visits = maker.visits();
  ASSERT_EQ(visits.size(), 3u);
  EXPECT_FLOAT_EQ(visits[1].score, static_cast<float>(visits[1].visits));
  EXPECT_NEAR(visits[1].visits, 900, 20);
  EXPECT_NEAR(visits[2].visits, 100, 20);
}

TEST(DraftMaker, ScoresAreTheWeightsOnTheWay) {
  TrigramTable t;
  t.raise(1, 2, 3, 0.5f, 3);
  t.raise(2, 3, 4, 0.25f, 3);
  t.raise(3, 4, 5, 2.0f, 3);
  t.raise(4, 5, 6, 3.0f, 3);  // behind the last state
  DraftMaker maker({.iterations = 10});
  TokenTree tree;
  tree.reset(64, 8);
  maker.search(adaptive(std::move(t)), 1, 2, 9, no_evidence, &tree);
  const auto visits = maker.visits();
  ASSERT_EQ(visits.size(), 4u);
  EXPECT_FLOAT_EQ(visits[0].score, 10 * (1 + 0.5f + 0.25f + 2.0f));
  std::vector<TokenId> path;
  tree.path(tree.size() - 1, &path);
  EXPECT_EQ(path, (Text{3, 4, 5, 6}));
}

TEST(DraftMaker, ParentsAreVisitedAsOftenAsTheirChildrenTogether) {
  AdaptiveTrigrams table{nullptr};
  std::mt19937 random(4);
  for (int i = 0; i < 300; ++i) {
    table.raise(static_cast<TokenId>(random() % 4), static_cast<TokenId>(random() % 4),
                static_cast<TokenId>(random() % 8), 0.1f, 3);
  }
  for (const bool compat : {false, true}) {
    for (const int length : {1, 2, 4, 6}) {
      for (const int nodes : {0, 1, 5, 64}) {
        DraftMaker maker({.length = length, .compat = compat});
        TokenTree tree, again;
        tree.reset(nodes, 5);
        again.reset(nodes, 5);
        maker.search(table, 1, 2, 11, no_evidence, &tree);
        const auto visits = maker.visits();
        std::vector<int> below(visits.size(), 0);
        for (size_t i = 1; i < visits.size(); ++i) below[static_cast<size_t>(visits[i].parent)] += visits[i].visits;
        for (size_t i = 0; i < visits.size(); ++i) EXPECT_LE(below[i], visits[i].visits);
        EXPECT_EQ(visits[0].visits, 150);
        maker.search(table, 1, 2, 11, no_evidence, &again);
        ASSERT_EQ(tree.size(), again.size());
        EXPECT_LE(tree.size(), nodes);
        for (int i = 0; i < tree.size(); ++i) {
          EXPECT_EQ(tree.node(i).token, again.node(i).token);
          EXPECT_EQ(tree.node(i).parent, again.node(i).parent);
          EXPECT_LE(tree.node(i).depth, std::min(length, 5));
        }
        TokenTree best;
        best.reset(nodes, 5);
        maker.best(table, 1, 2, no_evidence, nullptr, &best);
        EXPECT_LE(best.size(), nodes);
        for (int i = 1; i < best.size(); ++i) {
          EXPECT_LE(best.node(i).reach, best.node(i - 1).reach * 1.0001f);
          EXPECT_LE(best.node(i).depth, std::min(length, 5));
        }
      }
    }
  }
}

}  // namespace
}  // namespace decant
