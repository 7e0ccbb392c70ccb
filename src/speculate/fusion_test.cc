// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "speculate/fusion.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>

namespace decant {
namespace {

using Paths = std::set<std::vector<TokenId>>;

Paths paths_of(const TokenTree& tree) {
  Paths paths;
  std::vector<TokenId> path;
  for (int i = 0; i < tree.size(); ++i) {
    tree.path(i, &path);
    paths.insert(path);
  }
  return paths;
}

TokenTree random_tree(std::mt19937* random, int nodes) {
  TokenTree tree;
  tree.reset(64, 6);
  for (int i = 0; i < nodes; ++i) {
    const int parent = static_cast<int>((*random)() % static_cast<uint32_t>(tree.size() + 1)) - 1;
    tree.add(parent, static_cast<TokenId>((*random)() % 3), static_cast<float>((*random)() % 100) / 100,
             static_cast<uint16_t>((*random)() % 100));
  }
  return tree;
}

TEST(Fusion, IsTheUnionOfBothTrees) {
  std::mt19937 random(1);
  for (int trial = 0; trial < 200; ++trial) {
    const TokenTree a = random_tree(&random, 12), b = random_tree(&random, 12);
    TokenTree fused;
    fused.reset(64, 6);
    fuse(a, b, &fused);
    Paths both = paths_of(a);
    both.merge(paths_of(b));
    EXPECT_EQ(paths_of(fused), both);
    EXPECT_EQ(fused.size(), static_cast<int>(both.size()));
    // Less room: the nodes of highest reach.
    std::vector<float> reach;
    for (const TokenNode& n : fused.nodes()) reach.push_back(n.reach);
    EXPECT_TRUE(std::is_sorted(reach.begin(), reach.end(), [](float x, float y) { return x > y * 1.0001f; }));
    TokenTree cut;
    cut.reset(5, 6);
    fuse(a, b, &cut);
    ASSERT_EQ(cut.size(), std::min(5, fused.size()));
    for (int i = 0; i < cut.size(); ++i) {
      EXPECT_EQ(cut.node(i).token, fused.node(i).token);
      EXPECT_EQ(cut.node(i).parent, fused.node(i).parent);
      EXPECT_EQ(cut.node(i).evidence, fused.node(i).evidence);
    }
  }
}

TEST(Fusion, TheLikelierEstimateIsThatOfANodeOfBoth) {
  TokenTree a, b, fused;
  a.reset(9, 9);
  b.reset(9, 9);
  fused.reset(9, 9);
  a.add(a.add(kRoot, 1, 0.1f, 5), 2, 0.5f, 6);
  b.add(b.add(kRoot, 1, 0.8f, 7), 3, 0.5f, 8);
  b.add(kRoot, 4, 0.2f, 9);
  fuse(a, b, &fused);
  ASSERT_EQ(fused.size(), 4);
  EXPECT_EQ(fused.node(0).evidence, 7);
  EXPECT_FLOAT_EQ(fused.node(0).probability, 0.8f);
  // What hangs on it profits: it comes before the node of 0.2.
  EXPECT_EQ(fused.node(1).token, 2);
  EXPECT_FLOAT_EQ(fused.node(1).reach, 0.4f);
}

TEST(Fusion, PruningTakesWholeBranches) {
  std::mt19937 random(2);
  for (int trial = 0; trial < 100; ++trial) {
    const TokenTree tree = random_tree(&random, 20);
    const auto pruned = [&](auto plausible) {
      TokenTree out;
      out.reset(64, 6);
      prune(tree, plausible, &out);
      return paths_of(out);
    };
    EXPECT_EQ(pruned([](const TokenTree&, int) { return true; }), paths_of(tree));
    EXPECT_EQ(pruned([](const TokenTree&, int) { return false; }), Paths());
    const Paths without = pruned([](const TokenTree& t, int i) { return t.node(i).token != 1; });
    for (const auto& path : paths_of(tree)) {
      EXPECT_EQ(without.contains(path), std::find(path.begin(), path.end(), 1) == path.end());
    }
  }
}

}  // namespace
}  // namespace decant
