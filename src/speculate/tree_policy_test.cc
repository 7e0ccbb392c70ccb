// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "speculate/tree_policy.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "base/rng.h"

namespace decant {
namespace {

// A draft model of five tokens whose distribution depends on the last token of the path.
class TestRows final : public DraftRows {
 public:
  TestRows(const TokenTree& tree, bool draws, uint64_t seed) : tree_(tree), draws_(draws), seed_(seed) {}

  std::vector<double> row(int node) const {
    const int last = node == kRoot ? 4 : tree_.node(node).token;
    static const double rows[5][5] = {{.5, .3, .1, .05, .05},
                                      {.2, .2, .2, .2, .2},
                                      {.9, .05, .03, .01, .01},
                                      {.05, .05, .1, .2, .6},
                                      {.4, .3, .15, .1, .05}};
    return {std::begin(rows[last]), std::end(rows[last])};
  }
  Result<std::vector<DraftToken>> top(int node, int count) override {
    std::vector<DraftToken> all;
    const std::vector<double> p = row(node);
    for (int t = 0; t < 5; ++t) {
      const auto logprob = static_cast<float>(std::log(p[static_cast<size_t>(t)]));
      double score = static_cast<double>(logprob);
      if (draws_) score += static_cast<double>(gumbel_noise(key(node, Purpose::kDraft), static_cast<uint32_t>(t)));
      all.push_back({t, logprob, score});
    }
    std::stable_sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.score > b.score; });
    all.resize(std::min<size_t>(all.size(), static_cast<size_t>(count)));
    return all;
  }
  Result<std::vector<DraftToken>> independent(int node, int count) override {
    if (!draws_) return top(node, 1);
    std::vector<DraftToken> drawn;
    const std::vector<double> p = row(node);
    for (int i = 0; i < count; ++i) {
      double u = random_uniform(key(node, Purpose::kAccept), static_cast<uint32_t>(i));
      int t = 0;
      while (t < 4 && (u -= p[static_cast<size_t>(t)]) >= 0) ++t;
      drawn.push_back({t, static_cast<float>(std::log(p[static_cast<size_t>(t)])), 0});
    }
    return drawn;
  }
  bool draws() const override { return draws_; }
  Status declare(int node, Proposal kind, TokenTree* tree) override {
    ++declared[node];
    std::vector<TokenLogprob> q;
    const std::vector<double> p = row(node);
    for (int t = 0; t < 5; ++t) q.push_back({t, static_cast<float>(std::log(p[static_cast<size_t>(t)]))});
    tree->set_draft(node, kind, std::move(q));
    return {};
  }
  float acceptance(float probability, int) const override { return probability; }
  uint16_t evidence(float, int) const override { return 0; }
  bool pays(double, int) const override { return true; }

  std::map<int, int> declared;

 private:
  RngKey key(int node, Purpose purpose) const {
    // By the path, so that trees that grow in another order meet the same noise.
    uint64_t path = 1;
    for (int i = node; i != kRoot; i = tree_.node(i).parent)
      path = path * 6 + static_cast<uint64_t>(tree_.node(i).token + 1);
    return {.seed = seed_ << 32 | path, .sample = 0, .position = 0, .purpose = purpose};
  }
  const TokenTree& tree_;
  bool draws_;
  uint64_t seed_;
};

struct Grown {
  TokenTree tree;
  int steps = 0;  // of the draft model
};
Grown grow(const TreePolicy& policy, uint64_t seed, bool draws = true) {
  Grown out;
  out.tree.reset(policy.max_nodes(), policy.max_depth());
  TestRows rows(out.tree, draws, seed);
  const std::unique_ptr<TreePolicy> one = policy.clone();
  std::vector<int> ran = {kRoot};
  while (!ran.empty()) {
    ++out.steps;
    ran = *one->next(ran, rows, &out.tree);
  }
  for (const auto& [node, times] : rows.declared) EXPECT_EQ(times, 1) << node;
  return out;
}

TEST(TreePolicy, ShapesAreThoseAskedFor) {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    const Grown chain = grow(*make_chain(4), seed);
    EXPECT_EQ(chain.tree.size(), 4);
    EXPECT_EQ(chain.steps, 4);
    const Grown rsd_c = grow(*make_branching({3, 2, 1}, false), seed);
    EXPECT_EQ(rsd_c.tree.size(), 3 + 6 + 6);
    EXPECT_EQ(rsd_c.tree.kind(kRoot), Proposal::kWithoutReplacement);
    const Grown fixed = grow(*make_branching({3, 2, 1}, true), seed);
    EXPECT_LE(fixed.tree.size(), 15);
    EXPECT_EQ(fixed.tree.proposals(kRoot).size(), 3u);  // repeats are proposals too
    EXPECT_EQ(fixed.tree.kind(kRoot), Proposal::kIid);
    const Grown beam = grow(*make_beam(3, 3), seed);
    EXPECT_EQ(beam.tree.size(), 9);
    EXPECT_EQ(beam.steps, 3);
    const Grown spectr = grow(*make_independent(4, 3), seed);
    size_t at_leaves = 0;
    for (int i = 0; i < spectr.tree.size(); ++i) {
      if (spectr.tree.node(i).depth == 2) at_leaves += spectr.tree.proposals(i).size();
    }
    EXPECT_EQ(at_leaves, 4u);
    const Grown dyspec = grow(*make_dynamic(7, 5, 0), seed);
    EXPECT_EQ(dyspec.tree.size(), 7);
  }
}

// Of greedy drafts only points are left: a chain, and the likeliest siblings.
TEST(TreePolicy, WithoutNoiseTheLikeliestTokensAreProposed) {
  const Grown chain = grow(*make_chain(3), 1, false);
  EXPECT_EQ(chain.tree.node(0).token, 0);
  EXPECT_EQ(chain.tree.node(1).token, 0);
  const Grown wide = grow(*make_branching({3}, false), 1, false);
  ASSERT_EQ(wide.tree.size(), 3);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(wide.tree.node(i).token, i);
}

// DySpec: both ways of growing meet in the same tree, and the layered one asks the draft model once a layer.
TEST(TreePolicy, LayersOfTheLastValueGiveTheTreeOfOneNodeAfterTheOther) {
  int same = 0, trees = 0;
  for (uint64_t seed = 0; seed < 200; ++seed) {
    const Grown greedy = grow(*make_dynamic(6, 8, 0), seed);
    for (const float threshold : {0.4f, 0.3f, 0.2f, 0.15f, 0.1f, 0.05f, 0.02f}) {
      const Grown layers = grow(*make_dynamic(1000, 8, threshold), seed);
      int deepest = 0;
      for (const TokenNode& n : layers.tree.nodes()) deepest = std::max(deepest, n.depth);
      EXPECT_LE(layers.steps, deepest + 1);
      if (layers.tree.size() != greedy.tree.size()) continue;
      ++trees;
      std::vector<std::vector<TokenId>> a, b;
      for (int i = 0; i < greedy.tree.size(); ++i) {
        greedy.tree.path(i, &a.emplace_back());
        layers.tree.path(i, &b.emplace_back());
      }
      std::sort(a.begin(), a.end());
      std::sort(b.begin(), b.end());
      same += a == b ? 1 : 0;
    }
  }
  EXPECT_GT(trees, 40);
  EXPECT_EQ(same, trees);
}

// Stochastic beam search draws sequences without replacement: the set of two paths of two tokens.
TEST(TreePolicy, BeamsAreSequencesDrawnWithoutReplacement) {
  constexpr int kDraws = 60000;
  const double first[5] = {.4, .3, .15, .1, .05};
  const double second[5][5] = {{.5, .3, .1, .05, .05},
                               {.2, .2, .2, .2, .2},
                               {.9, .05, .03, .01, .01},
                               {.05, .05, .1, .2, .6},
                               {.4, .3, .15, .1, .05}};
  double p[25];
  for (int i = 0; i < 25; ++i) p[i] = first[i / 5] * second[i / 5][i % 5];
  std::map<std::pair<int, int>, double> expected, found;
  for (int i = 0; i < 25; ++i) {
    for (int j = 0; j < 25; ++j) {
      if (i != j) expected[{std::min(i, j), std::max(i, j)}] += p[i] * p[j] / (1 - p[i]);
    }
  }
  const std::unique_ptr<TreePolicy> policy = make_beam(2, 2);
  for (uint64_t seed = 0; seed < kDraws; ++seed) {
    const Grown g = grow(*policy, seed);
    std::vector<int> ends;
    for (const TokenNode& n : g.tree.nodes()) {
      if (n.depth == 2) ends.push_back(g.tree.node(n.parent).token * 5 + n.token);
    }
    ASSERT_EQ(ends.size(), 2u);
    std::sort(ends.begin(), ends.end());
    found[{ends[0], ends[1]}] += 1.0 / kDraws;
  }
  double distance = 0;
  for (const auto& [pair, mass] : expected) distance += std::abs(mass - found[pair]) / 2;
  // 300 outcomes and 60,000 draws: about 0.022 by chance, standard deviation below 0.002.
  EXPECT_LT(distance, 0.03);
}

TEST(TreePolicy, BranchesAreReadOrRefused) {
  EXPECT_EQ(*parse_branch("3-2-1"), (std::vector<int>{3, 2, 1}));
  for (const char* bad : {"", "3-", "-3", "3,2", "0", "65", "3--2", "x"}) {
    const auto parsed = parse_branch(bad);
    ASSERT_FALSE(parsed.ok()) << bad;
    EXPECT_NE(parsed.status().message().find("branch: expected numbers from 1 to 64"), std::string::npos);
  }
  EXPECT_NE(parse_branch("64-64").status().message().find("more than 1024 nodes"), std::string::npos);
}

}  // namespace
}  // namespace decant
