// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "constrain/alignment.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <functional>
#include <map>
#include <optional>
#include <set>

#include "base/bytes.h"
#include "base/hash.h"
#include "base/mapped_file.h"
#include "base/rng.h"

namespace decant {
namespace {

using Text = std::vector<TokenId>;

// A finite language, given by its texts.
class TextSet final : public Constraint {
 public:
  TextSet(std::set<Text> texts, int vocab_size)
      : texts_(std::move(texts)),
        vocab_size_(vocab_size),
        trie_(std::vector<std::string_view>(static_cast<size_t>(vocab_size))) {}

  ConstraintState start() override { return state({}); }
  std::shared_ptr<const TokenMask> mask(const ConstraintState& state) override {
    auto mask = std::make_shared<TokenMask>(vocab_size_);
    const Text& prefix = text(state);
    if (prefix == unknown) return mask;
    for (auto it = texts_.lower_bound(prefix); it != texts_.end() && begins_with(*it, prefix); ++it) {
      if (it->size() > prefix.size()) mask->set((*it)[prefix.size()]);
    }
    return mask;
  }
  Result<ConstraintState> advance(const ConstraintState& from, TokenId token) override {
    if (!mask(from)->test(token)) return Status::invalid_argument("token {} is not allowed", token);
    Text next = text(from);
    next.push_back(token);
    return state(std::move(next));
  }
  std::optional<ConstraintState> step(const ConstraintState& /*state*/, uint8_t /*byte*/) override {
    return std::nullopt;  // tokens stand for no bytes
  }
  bool accepting(const ConstraintState& state) override { return texts_.contains(text(state)); }
  Status failure(const ConstraintState& state) override {
    return text(state) == unknown ? Status::exhausted("too much work") : Status();
  }
  const TokenTrie& trie() const override { return trie_; }
  size_t bytes() const override { return 0; }

  Text unknown = {-1};  // a prefix whose mask cannot be made

 private:
  static bool begins_with(const Text& text, const Text& prefix) {
    return text.size() >= prefix.size() && std::equal(prefix.begin(), prefix.end(), text.begin());
  }
  static ConstraintState state(Text text) { return ConstraintState(std::make_shared<const Text>(std::move(text))); }
  static const Text& text(const ConstraintState& state) { return *static_cast<const Text*>(state.value()); }

  std::set<Text> texts_;
  int vocab_size_;
  TokenTrie trie_;
};

// P(v | prefix) for tokens 0 .. n - 1.
using Model = std::function<std::vector<double>(const Text& prefix)>;

// Each prefix has its own distribution; the greater the power, the more skewed.
Model random_model(int vocab_size, uint64_t seed, double power = 3) {
  return [=](const Text& prefix) {
    uint64_t hash = seed;
    for (const TokenId t : prefix) hash = hash * 1000003 + static_cast<uint64_t>(t) + 1;
    std::vector<double> p;
    double total = 0;
    for (int v = 0; v < vocab_size; ++v) {
      p.push_back(std::pow(random_uniform({.seed = hash}, static_cast<uint32_t>(v)), power));
      total += p.back();
    }
    for (double& x : p) x /= total;
    return p;
  };
}

constexpr TokenId kEnd[] = {3};

// Samples of one language from one model.
struct Bench {
  Model model;
  std::shared_ptr<Constraint> constraint;
  int budget = 8;
  AlignmentTrie trie{};

  double uniform(int64_t attempt, size_t position, uint64_t seed = 7) const {
    return random_uniform(
        {.seed = seed, .sample = static_cast<uint32_t>(attempt), .position = static_cast<uint32_t>(position)}, 0);
  }
  static std::vector<TokenProbability> list(const std::vector<double>& p) {
    std::vector<TokenProbability> out;
    for (size_t v = 0; v < p.size(); ++v) out.push_back({static_cast<TokenId>(v), p[v]});
    return out;
  }
  void step(AlignmentWalk& walk, double u) const {
    const AlignmentRow row = walk.needs_row() ? walk.row(list(model(walk.tokens()))) : AlignmentRow();
    ASSERT_TRUE(walk.step(row, u).ok());
  }
  AlignmentWalk begin(AlignMode mode) const { return {trie, *constraint, kEnd, budget, mode}; }
  AlignmentWalk attempt(AlignMode mode, int64_t number) const {
    AlignmentWalk walk = begin(mode);
    while (walk.state() == AlignmentWalk::State::kOpen) step(walk, uniform(number, walk.tokens().size()));
    return walk;
  }
  AlignmentWalk draw(AlignMode mode) {
    AlignmentWalk walk = attempt(mode, trie.attempts());
    trie.merge(walk);
    return walk;
  }
  AlignmentTrie known() const {
    Bench all{model, constraint, budget};
    while (!all.trie.exact(AlignmentTrie::kRoot)) all.draw(AlignMode::kExplore);
    return std::move(all.trie);
  }
  // P(w) by multiplication, and 0 for a text that is too long.
  double probability(const Text& text) const {
    if (static_cast<int>(text.size()) > budget) return 0;
    double p = 1;
    Text prefix;
    for (const TokenId t : text) {
      p *= model(prefix)[static_cast<size_t>(t)];
      prefix.push_back(t);
    }
    return p * model(prefix)[kEnd[0]];
  }
};

// As many 0s as 1s, 2 at the end.
std::set<Text> balanced(int longest) {
  std::set<Text> texts;
  for (int n = 0; n < longest; n += 2) {
    for (int bits = 0; bits < 1 << n; ++bits) {
      if (__builtin_popcount(static_cast<unsigned>(bits)) * 2 != n) continue;
      Text text;
      for (int i = 0; i < n; ++i) text.push_back(bits >> i & 1);
      text.push_back(2);
      texts.insert(text);
    }
  }
  return texts;
}

Bench balanced_bench(uint64_t seed, double power = 3) {
  return {random_model(4, seed, power), std::make_shared<TextSet>(balanced(7), 4), 7};
}

// Half the sum of |q - Q|, with what is missing from q (dead ends) counted in full.
double total_variation(const AlignmentTrie& known, const AlignmentTrie* bounds) {
  const auto texts = enumerate_texts(known, bounds, 100000);
  EXPECT_TRUE(texts.ok());
  double sum = 0, q = 0;
  for (const AlignedText& t : *texts) {
    sum += std::abs(std::exp(t.log_q) - std::exp(t.log_p - known.log_c()));
    q += std::exp(t.log_q);
  }
  return (sum + (1 - q)) / 2;
}

TEST(Alignment, ExploringGivesTheLanguageWithItsProbability) {
  const Bench bench = balanced_bench(1);
  const AlignmentTrie known = bench.known();
  const auto texts = enumerate_texts(known, nullptr, 1000);
  ASSERT_TRUE(texts.ok());
  std::set<Text> found;
  double mass = 0;
  for (const AlignedText& t : *texts) {
    found.insert(t.tokens);
    EXPECT_NEAR(std::exp(t.log_p), bench.probability(t.tokens), 1e-12);
    mass += bench.probability(t.tokens);
  }
  EXPECT_EQ(found, balanced(7));
  EXPECT_NEAR(std::exp(known.log_c()), mass, 1e-12);
  EXPECT_EQ(enumerate_texts(known, nullptr, 3).status().code(), Code::kExhausted);
  EXPECT_EQ(enumerate_texts(bench.trie, nullptr, 3).status().code(), Code::kInvalidArgument);
}

TEST(Alignment, BoundsOnlyGetTighterAndEndAtTheTruth) {
  for (const AlignMode mode : {AlignMode::kAsap, AlignMode::kExact}) {
    Bench bench = balanced_bench(2);
    const AlignmentTrie known = bench.known();
    // Nodes of both tries by their prefix.
    const auto compare = [&](double tolerance_above) {
      std::vector<std::pair<AlignmentTrie::NodeId, AlignmentTrie::NodeId>> stack = {{0, 0}};
      while (!stack.empty()) {
        const auto [node, truth] = stack.back();
        stack.pop_back();
        EXPECT_GE(bench.trie.log_c(node), known.log_c(truth) - 1e-9);
        if (tolerance_above > 0 && known.log_c(truth) > -1e9) {
          EXPECT_LE(bench.trie.log_c(node), known.log_c(truth) + tolerance_above);
        }
        for (const auto& [token, id] : bench.trie.children(node)) stack.emplace_back(id, known.child(truth, token));
      }
    };
    double before = 0;
    for (int i = 0; i < 6000 && !bench.trie.exact(AlignmentTrie::kRoot); ++i) {
      bench.draw(mode);
      EXPECT_LE(bench.trie.log_c(), before + 1e-12);
      before = bench.trie.log_c();
      if (i % 50 == 0) compare(0);
    }
    EXPECT_NEAR(bench.trie.log_c(), known.log_c(), 1e-3);
    while (!bench.trie.exact(AlignmentTrie::kRoot)) bench.draw(AlignMode::kExplore);
    compare(1e-9);
  }
}

TEST(Alignment, TextsOnExpandedPathsAreUnderSampledByOneFactor) {
  for (const uint64_t seed : {3, 4, 5}) {
    Bench bench = balanced_bench(seed);
    const AlignmentTrie known = bench.known();
    int compared = 0;
    for (int i = 0; i < 40; ++i) {
      const auto texts = enumerate_texts(known, &bench.trie, 1000);
      ASSERT_TRUE(texts.ok());
      const double factor = known.log_c() - bench.trie.log_c();
      for (const AlignedText& t : *texts) {
        AlignmentTrie::NodeId node = AlignmentTrie::kRoot;
        for (const TokenId token : t.tokens) {
          if (node != AlignmentTrie::kNone) node = bench.trie.child(node, token);
        }
        if (node == AlignmentTrie::kNone || !bench.trie.expanded(node)) continue;
        EXPECT_NEAR(t.log_q - (t.log_p - known.log_c()), factor, 1e-9);
        ++compared;
      }
      bench.draw(AlignMode::kAsap);
    }
    EXPECT_GT(compared, 40);
  }
}

TEST(Alignment, AsapLeavesMaskingBehindWithMoreSamples) {
  for (const uint64_t seed : {1, 3, 4, 5, 6}) {
    Bench bench = balanced_bench(seed);
    const AlignmentTrie known = bench.known();
    const double masking = total_variation(known, nullptr);
    EXPECT_DOUBLE_EQ(total_variation(known, &bench.trie), masking);
    double last = masking;
    for (int i = 1; i <= 3000; ++i) {
      const AlignmentWalk walk = bench.draw(AlignMode::kAsap);
      ASSERT_EQ(walk.state(), AlignmentWalk::State::kAccepted);  // no dead ends: it never rejects
      EXPECT_TRUE(balanced(7).contains(walk.tokens()));
      if (i == 300 || i == 3000) {
        const double now = total_variation(known, &bench.trie);
        EXPECT_LT(now, last);
        last = now;
      }
    }
    EXPECT_GT(masking, 0.2) << "the model is not skewed enough to tell";
    EXPECT_LT(last, 1e-3);
  }
}

// Pearson's statistic of drawn texts against their probabilities, cells of an expectation below 5 together, in standard
// deviations above its mean: with k cells it is near chi-square with k - 1 degrees of freedom, of mean k - 1 and
// variance 2 (k - 1).
double misfit(const std::map<Text, int>& counts, const std::vector<AlignedText>& texts, double log_total, bool of_q) {
  int n = 0;
  for (const auto& [text, count] : counts) n += count;
  double statistic = 0, rest_expected = 0, rest_seen = 0;
  int cells = 0;
  const auto add = [&](double expected, double seen) {
    statistic += (seen - expected) * (seen - expected) / expected;
    ++cells;
  };
  for (const AlignedText& t : texts) {
    const double expected = n * std::exp(of_q ? t.log_q : t.log_p - log_total);
    const double seen = counts.contains(t.tokens) ? counts.at(t.tokens) : 0;
    if (expected >= 5) {
      add(expected, seen);
    } else {
      rest_expected += expected, rest_seen += seen;
    }
  }
  if (rest_expected >= 5) add(rest_expected, rest_seen);
  EXPECT_GT(cells, 4);
  return (statistic - (cells - 1)) / std::sqrt(2.0 * (cells - 1));
}

// n = 40,000 accepted texts against Q, and as many masked ones against theirs, which are far from Q by the known
// amount. A misfit of 5 is a chance of about 1e-4 with these cells; the seeds are fixed.
TEST(Alignment, ExactTextsAreDistributedAsTheConditional) {
  for (const uint64_t seed : {1, 2, 3}) {
    Bench bench = balanced_bench(seed, 1);
    const AlignmentTrie known = bench.known();
    const auto texts = enumerate_texts(known, nullptr, 1000);
    ASSERT_TRUE(texts.ok());
    constexpr int kSamples = 40000;
    std::map<Text, int> counts, masked;
    int64_t first_hundred = 0;
    for (int n = 0; n < kSamples;) {
      const AlignmentWalk walk = bench.draw(AlignMode::kExact);
      if (walk.state() != AlignmentWalk::State::kAccepted) continue;
      ++counts[walk.tokens()];
      ++n;
      if (n == 100) first_hundred = bench.trie.attempts();
    }
    EXPECT_LT(misfit(counts, *texts, known.log_c(), false), 5);
    // Plain rejection would need 1 / P(L) attempts for each text.
    EXPECT_LT(static_cast<double>(first_hundred), 100 / std::exp(known.log_c()));
    EXPECT_LT(bench.trie.attempts(), kSamples * 1.05);

    for (int n = 0; n < kSamples; ++n) ++masked[bench.attempt(AlignMode::kMask, n).tokens()];
    EXPECT_LT(misfit(masked, *texts, known.log_c(), true), 5);
    EXPECT_GT(misfit(masked, *texts, known.log_c(), false), 50);
    // The sum of k binomial deviations: sqrt(q / n) each at most, half of it counted.
    double distance = 0, error = 0;
    for (const AlignedText& t : *texts) {
      distance += std::abs(masked[t.tokens] / double{kSamples} - std::exp(t.log_p - known.log_c())) / 2;
      error += std::sqrt(std::exp(t.log_q) / kSamples) / 2;
    }
    EXPECT_NEAR(distance, total_variation(known, nullptr), 3 * error);
  }
}

// Another text that is merged while one is on its way would break exactness: with P(0) = P(1) = 0.5, P(end | 0) = 0.1,
// P(end | 1) = 0.9 the law is (0.1, 0.9), but (0.526, 0.474) when the second draw already knows what the first did not.
TEST(Alignment, ExactNeedsBoundsThatStandStillWhileATextIsDrawn) {
  const Model model = [](const Text& prefix) -> std::vector<double> {
    if (prefix.empty()) return {0.5, 0.5, 0, 0};
    return prefix[0] == 0 ? std::vector<double>{0, 0, 0.9, 0.1} : std::vector<double>{0, 0, 0.1, 0.9};
  };
  const auto constraint = std::make_shared<TextSet>(std::set<Text>{{0}, {1}}, 4);
  constexpr int kTrials = 20000;
  const auto share_of_zero = [&](bool interfere, double* share) {
    int zero = 0, accepted = 0;
    for (int i = 0; i < kTrials; ++i) {
      Bench bench{model, constraint};
      AlignmentWalk walk = bench.begin(AlignMode::kExact);
      bench.step(walk, bench.uniform(i, 0));
      ASSERT_EQ(walk.tokens().size(), 1u);
      const bool first_is_zero = walk.tokens()[0] == 0;
      // The other text, which expands node 0.
      AlignmentWalk other = bench.begin(AlignMode::kExact);
      bench.step(other, 0.1);
      bench.step(other, 0.5);
      if (interfere && first_is_zero) {
        // What a walk that reads live bounds would do: node 0 is known now, and its illegal tokens are gone.
        bench.trie.merge(other);
        AlignmentWalk late = bench.begin(AlignMode::kExact);
        bench.step(late, 0.01);
        ASSERT_EQ(late.tokens(), Text{0});
        bench.step(late, bench.uniform(i, 1));
        walk = late;
      } else {
        bench.step(walk, bench.uniform(i, 1));
      }
      if (walk.state() != AlignmentWalk::State::kAccepted) continue;
      ++accepted;
      zero += first_is_zero ? 1 : 0;
    }
    *share = static_cast<double>(zero) / accepted;
  };
  // About 10,000 accepted: a standard error of at most 0.005.
  double share = 0;
  share_of_zero(false, &share);
  EXPECT_NEAR(share, 0.1, 0.02);
  share_of_zero(true, &share);
  EXPECT_NEAR(share, 0.5 / 0.95, 0.02);
}

TEST(Alignment, WalksOfOneRoundMergeInAnyOrder) {
  for (const bool backwards : {false, true}) {
    Bench bench = balanced_bench(6);
    Bench other = balanced_bench(6);
    for (int round = 0; round < 20; ++round) {
      std::vector<AlignmentWalk> walks;
      for (int i = 0; i < 8; ++i) walks.push_back(bench.attempt(AlignMode::kExact, round * 8 + i));
      std::vector<AlignmentWalk> same;
      for (int i = 0; i < 8; ++i) same.push_back(other.attempt(AlignMode::kExact, round * 8 + i));
      if (backwards) std::reverse(same.begin(), same.end());
      for (const AlignmentWalk& w : walks) bench.trie.merge(w);
      for (const AlignmentWalk& w : same) other.trie.merge(w);
      ASSERT_EQ(bench.trie.size(), other.trie.size());
      ASSERT_NEAR(bench.trie.log_c(), other.trie.log_c(), 1e-12);
    }
  }
}

TEST(Alignment, ALanguageOfEverythingChangesNothing) {
  std::set<Text> all;
  for (int n = 0; n <= 3; ++n) {
    for (int i = 0; i < static_cast<int>(std::pow(3, n)); ++i) {
      Text text;
      for (int k = 0, rest = i; k < n; ++k, rest /= 3) text.push_back(rest % 3);
      all.insert(text);
    }
  }
  // Ends for certain after three tokens.
  const Model free = random_model(4, 9);
  const Model model = [&](const Text& prefix) {
    return prefix.size() < 3 ? free(prefix) : std::vector<double>{0, 0, 0, 1};
  };
  for (const AlignMode mode : {AlignMode::kAsap, AlignMode::kExact}) {
    Bench bench{model, std::make_shared<TextSet>(all, 4), 3};
    const AlignmentTrie known = bench.known();
    for (int i = 0; i < 500; ++i) {
      EXPECT_EQ(bench.draw(mode).state(), AlignmentWalk::State::kAccepted);
      EXPECT_NEAR(bench.trie.log_c(), 0, 1e-12);
    }
    const auto texts = enumerate_texts(known, &bench.trie, 1000);
    ASSERT_TRUE(texts.ok());
    for (const AlignedText& t : *texts) {
      EXPECT_NEAR(t.log_q, std::log(bench.probability(t.tokens)), 1e-9);
    }
  }
}

TEST(Alignment, ALanguageOfOneTextHasItsProbability) {
  const Text text = {0, 1, 1, 0, 2};
  for (const AlignMode mode : {AlignMode::kAsap, AlignMode::kExact}) {
    Bench bench{random_model(4, 11), std::make_shared<TextSet>(std::set<Text>{text}, 4)};
    AlignmentWalk walk = bench.draw(mode);
    while (walk.state() != AlignmentWalk::State::kAccepted) walk = bench.draw(mode);
    EXPECT_EQ(walk.tokens(), text);
    EXPECT_TRUE(bench.trie.exact(AlignmentTrie::kRoot));
    EXPECT_NEAR(bench.trie.log_c(), std::log(bench.probability(text)), 1e-9);
    EXPECT_NEAR(walk.log_p(), std::log(bench.probability(text)), 1e-9);
    EXPECT_EQ(bench.draw(mode).log_q(), 0) << "nothing else can be drawn";
  }
}

// A budget is part of the language: what it cuts has c = 0, and what is left is drawn as the shorter language's.
TEST(Alignment, ABudgetMakesDeadEndsThatAreLearned) {
  for (const AlignMode mode : {AlignMode::kAsap, AlignMode::kExact}) {
    Bench bench = balanced_bench(3);
    bench.budget = 4;  // texts of 5 and 7 tokens are out of reach
    const AlignmentTrie known = bench.known();
    double mass = 0;
    for (const Text& text : balanced(7)) mass += bench.probability(text);
    EXPECT_NEAR(std::exp(known.log_c()), mass, 1e-12);
    int dead = 0, late = 0;
    for (int i = 0; i < 4000; ++i) {
      const AlignmentWalk walk = bench.draw(mode);
      if (walk.state() == AlignmentWalk::State::kAccepted) {
        EXPECT_LE(walk.tokens().size(), 4u);
        continue;
      }
      ++dead;
      late += i >= 2000 ? 1 : 0;
    }
    EXPECT_GT(dead, 0);
    EXPECT_LT(late, dead / 2 + 1);
    EXPECT_NEAR(bench.trie.log_c(), known.log_c(), 1e-2);
    EXPECT_LT(total_variation(known, &bench.trie), 1e-2);
  }
  Bench impossible = balanced_bench(3);
  impossible.budget = 0;
  EXPECT_EQ(impossible.draw(AlignMode::kAsap).state(), AlignmentWalk::State::kDead);
  EXPECT_EQ(impossible.trie.log_c(), -std::numeric_limits<double>::infinity());
  EXPECT_TRUE(impossible.trie.exact(AlignmentTrie::kRoot));
}

// A mask that is empty because the work was too much says nothing about the language.
TEST(Alignment, AMaskThatCannotBeMadeIsAnErrorAndNoDeadEnd) {
  const auto constraint = std::make_shared<TextSet>(std::set<Text>{{0, 1}, {1, 0}}, 4);
  constraint->unknown = {0};
  Bench bench{random_model(4, 1), constraint};
  AlignmentWalk walk = bench.begin(AlignMode::kAsap);
  bench.step(walk, 1e-9);
  ASSERT_EQ(walk.tokens(), Text{0});
  EXPECT_EQ(walk.step({}, 0.5).code(), Code::kExhausted);
  EXPECT_EQ(walk.state(), AlignmentWalk::State::kOpen);
}

// Filters may leave no legal token: the prefix is a dead end, and so is what leads to nothing else.
TEST(Alignment, DeadEndsOfFiltersReachTheRoot) {
  const Model model = [](const Text& prefix) -> std::vector<double> {
    if (prefix.empty()) return {0.7, 0.3, 0, 0};
    if (prefix == Text{0}) return {0, 1, 0, 0};
    return {1, 0, 0, 0};
  };
  Bench bench{model, std::make_shared<TextSet>(std::set<Text>{{0, 1, 2}, {1, 2}}, 4)};
  for (int i = 0; i < 20 && bench.trie.log_c() > -1e300; ++i) {
    EXPECT_EQ(bench.draw(AlignMode::kAsap).state(), AlignmentWalk::State::kDead);
  }
  EXPECT_EQ(bench.trie.log_c(), -std::numeric_limits<double>::infinity());
}

// log c far below the smallest double, and legal tokens that are next to nothing beside one that turns out dead.
TEST(Alignment, TinyProbabilitiesAreNotLost) {
  constexpr double kTiny = 1e-30;
  const Model model = [](const Text& prefix) -> std::vector<double> {
    if (prefix.size() == 40) return {0, 0, 0, 1};
    return {kTiny, 1 - kTiny, 0, 0};
  };
  std::set<Text> texts = {Text(40, 0)};
  for (size_t n = 0; n < 40; ++n) {  // a likely token that leads nowhere within the budget
    Text text(n, 0);
    text.resize(60, 1);
    texts.insert(text);
  }
  Bench bench{model, std::make_shared<TextSet>(texts, 4), 40};
  int attempts = 0;
  while (bench.draw(AlignMode::kAsap).state() != AlignmentWalk::State::kAccepted) ASSERT_LT(++attempts, 500);
  EXPECT_NEAR(bench.trie.log_c(), 40 * std::log(kTiny), 1e-6);
  EXPECT_EQ(bench.draw(AlignMode::kExact).state(), AlignmentWalk::State::kAccepted);
}

TEST(Alignment, AFullTrieStaysSound) {
  Bench bench = balanced_bench(2);
  bench.trie = AlignmentTrie(12);
  const AlignmentTrie known = bench.known();
  const auto texts = enumerate_texts(known, nullptr, 1000);
  ASSERT_TRUE(texts.ok());
  std::map<Text, int> counts;
  constexpr int kSamples = 20000;
  for (int n = 0; n < kSamples;) {
    const AlignmentWalk walk = bench.draw(AlignMode::kExact);
    if (walk.state() != AlignmentWalk::State::kAccepted) continue;
    ++counts[walk.tokens()];
    ++n;
  }
  EXPECT_TRUE(bench.trie.full());
  EXPECT_EQ(bench.trie.size(), 12u);
  EXPECT_GE(bench.trie.log_c(), known.log_c());
  for (const AlignedText& t : *texts) {  // each share within 5 standard deviations
    const double q = std::exp(t.log_p - known.log_c());
    EXPECT_NEAR(counts[t.tokens] / double{kSamples}, q, 5 * std::sqrt(q / kSamples) + 2.0 / kSamples);
  }
}

// ---- Files.

const AlignmentKey kKey = {{{"model", "m"}, {"grammar", std::string(300, 'g')}, {"budget", "7"}}};

TEST(AlignmentFile, ATrieThatWasSavedGoesOnAsIfItHadNotBeen) {
  for (const AlignMode mode : {AlignMode::kAsap, AlignMode::kExact}) {
    Bench one = balanced_bench(2), two = balanced_bench(2);
    for (int i = 0; i < 300; ++i) one.draw(mode);
    const std::string path = ::testing::TempDir() + "alignment_" + std::to_string(::getpid()) + ".trie";
    for (int part = 0; part < 3; ++part) {
      for (int i = 0; i < 100; ++i) two.draw(mode);
      ASSERT_TRUE(two.trie.save(path, kKey).ok());
      auto loaded = AlignmentTrie::load(path, kKey, 4);
      ASSERT_TRUE(loaded.ok()) << loaded.status().message();
      ASSERT_EQ(std::bit_cast<uint64_t>(loaded->log_c()), std::bit_cast<uint64_t>(two.trie.log_c()));
      ASSERT_EQ(loaded->serialize(kKey), two.trie.serialize(kKey));
      two.trie = *std::move(loaded);
    }
    EXPECT_EQ(one.trie.serialize(kKey), two.trie.serialize(kKey));
    ::unlink(path.c_str());
  }
}

TEST(AlignmentFile, AnotherKeyIsRefusedByTheFieldsName) {
  Bench bench = balanced_bench(2);
  bench.draw(AlignMode::kAsap);
  const std::string file = bench.trie.serialize(kKey);
  for (size_t field = 0; field < kKey.fields.size(); ++field) {
    AlignmentKey other = kKey;
    other.fields[field].second += "1";
    const auto parsed = AlignmentTrie::parse(bytes_of(file), "a.trie", other, 4);
    EXPECT_EQ(parsed.status().code(), Code::kInvalidArgument);
    EXPECT_NE(parsed.status().message().find("a.trie: made for another " + kKey.fields[field].first), std::string::npos)
        << parsed.status().message();
  }
  AlignmentKey fewer = kKey;
  fewer.fields.pop_back();
  EXPECT_EQ(AlignmentTrie::parse(bytes_of(file), "a.trie", fewer, 4).status().code(), Code::kInvalidArgument);
}

TEST(AlignmentFile, DamageIsFound) {
  Bench bench = balanced_bench(2);
  for (int i = 0; i < 100; ++i) bench.draw(AlignMode::kAsap);
  const std::string file = bench.trie.serialize(kKey);
  for (size_t i = 0; i < file.size(); ++i) {
    std::string broken = file;
    broken[i] = static_cast<char>(broken[i] ^ 0x41);
    const auto parsed = AlignmentTrie::parse(bytes_of(broken), "a.trie", kKey, 4);
    ASSERT_FALSE(parsed.ok()) << i;
    ASSERT_TRUE(parsed.status().message().starts_with("a.trie: ")) << parsed.status().message();
  }
  for (size_t size = 0; size < file.size(); size += 7) {
    ASSERT_FALSE(AlignmentTrie::parse(bytes_of(file.substr(0, size)), "a.trie", kKey, 4).ok()) << size;
  }
  EXPECT_EQ(AlignmentTrie::parse(bytes_of(file), "a.trie", kKey, 4, 5).status().code(), Code::kExhausted);
  EXPECT_EQ(AlignmentTrie::parse(bytes_of(file), "a.trie", kKey, 2).status().code(), Code::kCorrupt);  // token 2
}

// Wrong contents under a right checksum.
TEST(AlignmentFile, ImpossibleNodesAreRefused) {
  Bench bench = balanced_bench(2);
  for (int i = 0; i < 20; ++i) bench.draw(AlignMode::kAsap);
  const std::string file = bench.trie.serialize(kKey);
  const size_t first = file.size() - bench.trie.size() * 48;
  const auto patched = [&](size_t node, size_t offset, auto value) {
    std::string broken = file;
    std::memcpy(broken.data() + first + node * 48 + offset, &value, sizeof(value));
    const uint64_t sum = fnv1a(bytes_of(broken).subspan(24));
    std::memcpy(broken.data() + 16, &sum, sizeof(sum));
    return AlignmentTrie::parse(bytes_of(broken), "a.trie", kKey, 4).status();
  };
  EXPECT_TRUE(patched(1, 0, bench.trie.token(1)).ok());
  EXPECT_EQ(patched(1, 0, int32_t{4}).code(), Code::kCorrupt);     // outside the vocabulary
  EXPECT_EQ(patched(1, 4, uint32_t{1}).code(), Code::kCorrupt);    // its own parent
  EXPECT_EQ(patched(0, 4, uint32_t{0}).code(), Code::kCorrupt);    // a root with a parent
  EXPECT_EQ(patched(0, 8, uint32_t{9}).code(), Code::kCorrupt);    // more tokens than there are
  EXPECT_EQ(patched(0, 12, uint32_t{0}).code(), Code::kCorrupt);   // children of what was not looked at
  EXPECT_EQ(patched(1, 16, std::nan("")).code(), Code::kCorrupt);  // no probability
  EXPECT_EQ(patched(1, 16, 1.0).code(), Code::kCorrupt);           // above 1
  EXPECT_EQ(patched(0, 40, 1.0).code(), Code::kCorrupt);           // together above 1
  EXPECT_EQ(patched(0, 40, -0.5).code(), Code::kCorrupt);
  EXPECT_EQ(patched(2, 4, bench.trie.parent(2) == 0 ? uint32_t{0} : bench.trie.parent(2)).ok(), true);
}

}  // namespace
}  // namespace decant
