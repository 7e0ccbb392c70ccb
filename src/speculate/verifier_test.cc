// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// The rules at one node, by enumeration: all draws that the proposals can be, all ways that the accept tests can fall.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <map>
#include <numeric>

#include "speculate/kseq.h"
#include "speculate/registry.h"
#include "speculate/transport.h"
#include "testing/sanitized.h"

namespace decant {
namespace {

using Probabilities = std::vector<double>;

std::vector<TokenLogprob> row_of(const Probabilities& p) {
  std::vector<TokenLogprob> row;
  for (size_t i = 0; i < p.size(); ++i) {
    if (p[i] > 0) row.push_back({static_cast<int32_t>(i), static_cast<float>(std::log(p[i]))});
  }
  return row;
}

// Without the rounding of a row, so that golden numbers have all their digits.
Weights weights_of(const Probabilities& p) {
  Weights w;
  for (size_t i = 0; i < p.size(); ++i) {
    if (p[i] <= 0) continue;
    w.tokens.push_back(static_cast<TokenId>(i));
    w.mass.push_back(p[i]);
  }
  w.add_up();
  return w;
}

// As the rows hold it.
Probabilities rounded(const Probabilities& p) {
  const Weights w = Weights::of(row_of(p));
  Probabilities out(p.size(), 0);
  for (size_t i = 0; i < w.tokens.size(); ++i) out[static_cast<size_t>(w.tokens[i])] = w.mass[i];
  return out;
}

double distance(const Probabilities& a, const Probabilities& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += std::abs(a[i] - b[i]);
  return sum / 2;
}

// Answers as scripted, and knows how probable the answers were.
class Script final : public AcceptTest {
 public:
  explicit Script(size_t acceptance) : acceptance_(acceptance) {}
  bool accept(double p, double q) override {
    const double a = q > 0 ? std::min(p / q, 1.0) : (p > 0 ? 1.0 : 0.0);
    const bool yes = tests_++ == acceptance_;
    probability_ *= yes ? a : 1 - a;
    return yes;
  }
  double probability() const { return probability_; }
  size_t tests() const { return tests_; }

 private:
  size_t acceptance_, tests_ = 0;
  double probability_ = 1;
};

// What comes of these proposals: calls `emit` for every token with its probability and whether it was a proposal.
using Emit = std::function<void(TokenId token, double probability, bool is_kept)>;
void outcomes(const NodeRule& rule, const NodeProposals& proposals, const Weights& target, const Emit& emit) {
  for (size_t acceptance = 0;; ++acceptance) {
    Script script(acceptance);
    Weights rest;
    if (const auto kept = rule.accept(proposals, target, script, &rest)) {
      emit(*kept, script.probability(), true);
      continue;
    }
    if (rest.sum <= 0) return;
    for (size_t i = 0; i < rest.tokens.size(); ++i) {
      if (rest.mass[i] > 0) emit(rest.tokens[i], script.probability() * rest.mass[i] / rest.sum, false);
    }
    return;
  }
}

// All sequences of k draws of `q` with their probabilities.
void draws_of(const Probabilities& q, int k, Proposal kind,
              const std::function<void(const std::vector<TokenId>&, double)>& visit) {
  std::vector<TokenId> drawn;
  const std::function<void(double, double)> next = [&](double probability, double left) {
    if (static_cast<int>(drawn.size()) == k) return visit(drawn, probability);
    bool any = false;
    for (size_t i = 0; i < q.size(); ++i) {
      const auto token = static_cast<TokenId>(i);
      const bool taken = std::find(drawn.begin(), drawn.end(), token) != drawn.end();
      if (q[i] <= 0 || (kind == Proposal::kWithoutReplacement && taken)) continue;
      any = true;
      drawn.push_back(token);
      double behind = left;
      if (kind == Proposal::kWithoutReplacement) {
        behind = 0;
        for (size_t j = 0; j < q.size(); ++j) {
          if (std::find(drawn.begin(), drawn.end(), static_cast<TokenId>(j)) == drawn.end()) behind += q[j];
        }
      }
      next(probability * q[i] / left, behind);
      drawn.pop_back();
    }
    if (!any) visit(drawn, probability);  // nothing is left to draw
  };
  next(1, std::accumulate(q.begin(), q.end(), 0.0));
}

struct Law {
  Probabilities emitted;
  double kept = 0;     // one of the proposals was accepted
  double matched = 0;  // the token is a proposal, accepted or not
};
// `change`: what becomes of the draws before the rule sees them.
using Change = std::function<void(std::vector<TokenId>*)>;
Law law_of(const NodeRule& rule, const Probabilities& p, const Probabilities& q, int k, Proposal drawn,
           Proposal declared, const Change& change = {}) {
  Law law;
  law.emitted.assign(p.size(), 0);
  const Weights target = weights_of(p);
  const std::vector<TokenLogprob> row = row_of(q);
  draws_of(rounded(q), k, drawn, [&](const std::vector<TokenId>& tokens, double probability) {
    NodeProposals proposals{.kind = declared, .draft = row, .tokens = tokens};
    if (change) change(&proposals.tokens);
    if (proposals.tokens.empty()) {
      for (size_t i = 0; i < p.size(); ++i) law.emitted[i] += probability * p[i];
      return;
    }
    outcomes(rule, proposals, target, [&](TokenId token, double given, bool is_kept) {
      law.emitted[static_cast<size_t>(token)] += probability * given;
      if (is_kept) law.kept += probability * given;
      if (std::find(tokens.begin(), tokens.end(), token) != tokens.end()) law.matched += probability * given;
    });
  });
  return law;
}

std::shared_ptr<const NodeRule> rule(std::string_view name) {
  auto made = make_verifier(name);
  EXPECT_TRUE(made.ok()) << made.status().message();
  return std::dynamic_pointer_cast<const NodeRule>(*made);
}

// A random distribution, `peaked` or flat, sometimes with zeros.
class Random {
 public:
  explicit Random(uint64_t seed) : key_{.seed = seed} {}
  double uniform() { return random_uniform(key_, next_++); }
  Probabilities distribution(int n) {
    const double power = uniform() < 0.5 ? 1 : 5;
    const double zeros = uniform() < 0.5 ? 0 : 0.3;
    Probabilities p(static_cast<size_t>(n));
    double sum = 0;
    for (double& x : p) sum += x = uniform() < zeros ? 0 : std::pow(-std::log(uniform()), power);
    if (sum <= 0) return distribution(n);
    for (double& x : p) x /= sum;
    return p;
  }

 private:
  RngKey key_;
  uint32_t next_ = 0;
};

constexpr std::string_view kExact[] = {"match", "chain", "rrs", "rsd", "kseq", "transport", "transport(sets=0)"};
constexpr Proposal kKinds[] = {Proposal::kPoint, Proposal::kIid, Proposal::kWithoutReplacement};

TEST(NodeRules, EveryRuleEmitsTheTarget) {
  Random random(1);
  double worst = 0;
  for (int i = 0; i < 300; ++i) {
    const int n = 1 + i % 5;
    const int k = 1 + i / 5 % (n == 5 ? 3 : 4);
    const Probabilities p = random.distribution(n), q = random.distribution(n);
    for (const std::string_view name : kExact) {
      const auto r = rule(name);
      for (const Proposal kind : kKinds) {
        if (!r->takes(kind)) continue;
        // The points of a node may follow from anything but their own fate: here, they are drawn.
        const Proposal drawn = kind == Proposal::kPoint ? Proposal::kWithoutReplacement : kind;
        const double d = distance(law_of(*r, p, q, k, drawn, kind).emitted, p);
        EXPECT_LT(d, 1e-12) << name << " kind " << static_cast<int>(kind) << " n " << n << " k " << k;
        worst = std::max(worst, d);
      }
    }
  }
  RecordProperty("worst_distance", fmt::format("{:.1e}", worst));
}

// The golden numbers of three pairs of distributions, computed elsewhere by enumeration.
TEST(NodeRules, AcceptanceIsWhatItShouldBe) {
  const Probabilities a[] = {{.4, .3, .2, .1}, {.1, .2, .3, .4}};
  const Probabilities b[] = {{.7, .3, 0, 0}, {.25, .25, .25, .25}};
  const Probabilities c[] = {{.05, .15, .3, .5}, {.02, .08, .2, .7}};
  struct Case {
    const Probabilities* pq;
    int k;
    double match, match_wo, rrs, rsd, rho, beta, kseq, optimum;
  };
  const Case cases[] = {
      {a, 1, .20000000, .20000000, .60000000, .60000000, 1, .6, .60000000, .60000000},
      {a, 2, .35000000, .41944444, .72000000, .76428571, 1.5, .5, .75000000, .79000000},
      {a, 3, .46460000, .67341270, .76800000, .84029762, 1.93949968, .40935813, .79394997, .87100000},
      {b, 2, .43750000, .50000000, .67500000, .71666667, 1.55736720, .44263280, .68934180, .73750000},
      {b, 3, .57812500, .75000000, .75625000, .85833333, 1.95187774, .40369815, .78796944, .87500000},
      {c, 2, .58802000, .72843471, .86000000, .96666667, 1.32169906, .67830094, .89650972, .98960000},
      {c, 3, .66903720, .92013900, .90200000, .99000000, 1.50288957, .63230791, .95028896, 1.00000000},
  };
  // Rows hold log-probabilities in float, which costs a digit.
  constexpr double kNear = 3e-7;
  for (const Case& x : cases) {
    const Probabilities& p = x.pq[0];
    const Probabilities& q = x.pq[1];
    const auto kept = [&](std::string_view name, Proposal kind) {
      return law_of(*rule(name), p, q, x.k, kind, kind).kept;
    };
    const auto iid = Proposal::kIid, swor = Proposal::kWithoutReplacement;
    EXPECT_NEAR(law_of(*rule("match"), p, q, x.k, iid, iid).matched, x.match, kNear);
    EXPECT_NEAR(law_of(*rule("match"), p, q, x.k, swor, swor).matched, x.match_wo, kNear);
    EXPECT_NEAR(kept("rrs", iid), x.rrs, kNear);
    EXPECT_NEAR(kept("rsd", swor), x.rsd, kNear);
    EXPECT_NEAR(kept("kseq", iid), x.kseq, kNear);
    EXPECT_NEAR(kept("transport", iid), x.optimum, kNear);
    EXPECT_NEAR(kept("transport(sets=0)", iid), x.kseq, kNear);
    EXPECT_NEAR(kept("chain", iid), law_of(*rule("rrs"), p, q, 1, iid, iid).kept, kNear);
    const KSeq kseq = solve_kseq(weights_of(p), weights_of(q), x.k);
    EXPECT_NEAR(kseq.rho, x.rho, 1e-8);
    EXPECT_NEAR(kseq.beta, x.beta, 1e-8);
    EXPECT_NEAR(transport_optimum(weights_of(p), weights_of(q), x.k), x.optimum, 1e-12);
    // As draws of themselves, points are kept as often as a target sample falls on them.
    EXPECT_NEAR(law_of(*rule("rrs"), p, q, x.k, swor, Proposal::kPoint).kept, x.match_wo, kNear);
  }
}

TEST(NodeRules, ResidualsAreWhatTheyShouldBe) {
  const auto residual = [](std::string_view name, const Probabilities& p, const Probabilities& q, int k) {
    const std::vector<TokenLogprob> row = row_of(q);
    NodeProposals proposals{.kind = Proposal::kIid, .draft = row, .tokens = {}};
    proposals.tokens.assign(static_cast<size_t>(k), 3);
    Script none(SIZE_MAX);
    Weights rest;
    EXPECT_FALSE(rule(name)->accept(proposals, weights_of(p), none, &rest));
    Probabilities out(p.size(), 0);
    for (size_t i = 0; i < rest.tokens.size(); ++i) {
      out[static_cast<size_t>(rest.tokens[i])] = rest.mass[i] / rest.sum;
    }
    return out;
  };
  const Probabilities pa = {.4, .3, .2, .1}, qa = {.1, .2, .3, .4}, pc = {.05, .15, .3, .5}, qc = {.02, .08, .2, .7};
  EXPECT_LT(distance(residual("chain", pa, qa, 1), {.75, .25, 0, 0}), 1e-6);
  EXPECT_LT(distance(residual("chain", pc, qc, 1), {.15, .35, .5, 0}), 1e-6);
  EXPECT_LT(distance(residual("kseq", pa, qa, 2), {1, 0, 0, 0}), 1e-6);
  EXPECT_LT(distance(residual("kseq", pc, qc, 2), {.227712, .427712, .344575, 0}), 2e-6);
}

// The probability that nothing outside of T is proposed, for every T.
double optimum_by_all_sets(const Probabilities& p, const Probabilities& q, int k, Proposal kind) {
  double least = 1;
  for (uint32_t t = 0; t < uint32_t{1} << p.size(); ++t) {
    double cut = 1;
    for (size_t i = 0; i < p.size(); ++i) cut += t >> i & 1 ? p[i] : 0;
    draws_of(q, k, kind, [&](const std::vector<TokenId>& tokens, double probability) {
      if (std::all_of(tokens.begin(), tokens.end(), [&](TokenId token) { return t >> token & 1; })) cut -= probability;
    });
    least = std::min(least, cut);
  }
  return least;
}

TEST(NodeRules, ThePlanKeepsWhatTheCutAllows) {
  Random random(2);
  for (int i = 0; i < 200; ++i) {
    const int n = 2 + i % 4, k = 1 + i / 4 % 3;
    const Probabilities p = random.distribution(n), q = random.distribution(n);
    const auto iid = Proposal::kIid, swor = Proposal::kWithoutReplacement;
    const double optimum = optimum_by_all_sets(p, q, k, iid);
    EXPECT_NEAR(transport_optimum(weights_of(p), weights_of(q), k), optimum, 1e-12);
    const auto plan = TransportPlan::solve(weights_of(p), weights_of(q), k, iid, 1000);
    ASSERT_TRUE(plan.has_value());
    EXPECT_NEAR(plan->kept(), optimum, 1e-12);
    const auto without = TransportPlan::solve(weights_of(p), weights_of(q), k, swor, 1000);
    ASSERT_TRUE(without.has_value());
    EXPECT_NEAR(without->kept(), optimum_by_all_sets(p, q, k, swor), 1e-12);
  }
  // 1 + 6 + 15 sets of at most two of six tokens.
  const Probabilities flat(6, 1.0 / 6);
  EXPECT_TRUE(TransportPlan::solve(weights_of(flat), weights_of(flat), 2, Proposal::kIid, 22));
  EXPECT_FALSE(TransportPlan::solve(weights_of(flat), weights_of(flat), 2, Proposal::kIid, 21));
}

TEST(NodeRules, BetterRulesKeepMore) {
  Random random(3);
  constexpr double kNone = 1e-6;  // float rows
  const auto iid = Proposal::kIid, swor = Proposal::kWithoutReplacement;
  for (int i = 0; i < 200; ++i) {
    const int n = 2 + i % 4;
    const Probabilities p = random.distribution(n), q = random.distribution(n);
    double before = 0;
    for (int k = 1; k <= 3; ++k) {
      const double match = law_of(*rule("match"), p, q, k, iid, iid).matched;
      const double rrs = law_of(*rule("rrs"), p, q, k, iid, iid).kept;
      const double kseq = law_of(*rule("kseq"), p, q, k, iid, iid).kept;
      const double transport = law_of(*rule("transport"), p, q, k, iid, iid).kept;
      const double rsd = law_of(*rule("rsd"), p, q, k, swor, swor).kept;
      EXPECT_LE(match, rrs + kNone);
      EXPECT_LE(rrs, kseq + kNone);
      EXPECT_LE(kseq, transport + kNone);
      EXPECT_LE(rrs, rsd + kNone);
      EXPECT_LE(rsd, law_of(*rule("transport"), p, q, k, swor, swor).kept + kNone);
      EXPECT_GE(kseq, (1 - std::pow(1 - 1.0 / k, k)) * transport - kNone);
      EXPECT_GE(rrs, before - kNone);
      before = rrs;
    }
    // With one proposal there is one best rule.
    EXPECT_NEAR(law_of(*rule("kseq"), p, q, 1, iid, iid).kept, 1 - distance(p, q), kNone);
    EXPECT_NEAR(law_of(*rule("rsd"), p, q, 1, swor, swor).kept, 1 - distance(p, q), kNone);
  }
}

TEST(NodeRules, EdgesOfTheDomain) {
  const auto iid = Proposal::kIid, swor = Proposal::kWithoutReplacement;
  const Probabilities same = {.1, .2, .3, .4}, left = {.5, .5, 0, 0}, right = {0, 0, .3, .7}, hot = {0, 1, 0, 0};
  for (const std::string_view name : kExact) {
    const auto r = rule(name);
    for (const Proposal kind : {iid, swor}) {
      if (!r->takes(kind)) continue;
      for (const int k : {1, 2, 3}) {
        if (name != "match") {
          EXPECT_NEAR(law_of(*r, same, same, k, kind, kind).kept, 1, 1e-6) << name;
        }
        EXPECT_EQ(law_of(*r, left, right, k, kind, kind).kept, 0) << name;
        EXPECT_LT(distance(law_of(*r, left, right, k, kind, kind).emitted, left), 1e-12) << name;
        EXPECT_LT(distance(law_of(*r, hot, same, k, kind, kind).emitted, hot), 1e-12) << name;
        EXPECT_LT(distance(law_of(*r, same, hot, k, kind, kind).emitted, same), 1e-12) << name;
      }
    }
    // Without replacement all tokens are there at last, and one of them comes.
    if (r->takes(swor) && name != "chain") {
      EXPECT_NEAR(law_of(*r, left, same, 4, swor, swor).matched, 1, 1e-6) << name;
    }
  }
}

// Rules that are wrong in the ways that such rules go wrong; a test that lets them pass tests nothing.
TEST(NodeRules, MistakesAreFarFromTheTarget) {
  const Probabilities p = {.4, .3, .2, .1}, q = {.3, .1, .1, .5};
  constexpr double kFar = 0.01;
  const auto iid = Proposal::kIid, swor = Proposal::kWithoutReplacement, point = Proposal::kPoint;
  const auto far = [&](std::string_view name, Proposal drawn, Proposal declared, const Change& change = {}) {
    return distance(law_of(*rule(name), p, q, 2, drawn, declared, change).emitted, p);
  };
  // Children in the order of their tokens and not of their draws.
  const Change sorted = [](std::vector<TokenId>* t) { std::sort(t->begin(), t->end()); };
  EXPECT_GT(far("rsd", swor, swor, sorted), kFar);
  EXPECT_GT(far("chain", swor, swor, sorted), kFar);
  // (Of independent draws, too, the order counts.)
  EXPECT_GT(far("rrs", iid, iid, sorted), kFar);
  // A rejected sibling stays in q.
  EXPECT_GT(far("rrs", swor, iid), kFar);
  EXPECT_GT(far("kseq", swor, iid), kFar);
  EXPECT_GT(far("transport", swor, iid), kFar);
  // Draws taken for points are safe, points taken for draws are not.
  EXPECT_LT(far("rsd", swor, point), 1e-12);
  const Change best = [](std::vector<TokenId>* t) { *t = {3, 2}; };
  EXPECT_GT(far("rsd", swor, swor, best), kFar);
  EXPECT_LT(far("rsd", swor, point, best), 1e-12);
  // Repeats are left out, or unlikely draws.
  const Change distinct = [](std::vector<TokenId>* t) { t->erase(std::unique(t->begin(), t->end()), t->end()); };
  EXPECT_GT(far("rrs", iid, iid, distinct), 0.001);
  EXPECT_GT(far("kseq", iid, iid, distinct), 0.001);
  const Change likely = [](std::vector<TokenId>* t) { std::erase(*t, 0); };
  for (const std::string_view name : {"chain", "rrs", "rsd", "kseq", "transport"}) {
    EXPECT_GT(far(name, iid, iid, likely), kFar) << name;
  }
  EXPECT_LT(far("match", iid, iid, likely), 1e-12);
}

// One random number for two tests of a node.
TEST(NodeRules, NoiseThatIsUsedTwiceIsFarFromTheTarget) {
  class OneNumber final : public AcceptTest {
   public:
    explicit OneNumber(double u) : u_(u) {}
    bool accept(double p, double q) override { return u_ * q < p; }

   private:
    double u_;
  };
  const Probabilities p = {.4, .3, .2, .1}, q = {.3, .1, .1, .5};
  const std::vector<TokenLogprob> row = row_of(q);
  const Weights target = weights_of(p);
  constexpr int kNumbers = 2000;
  for (const std::string_view name : {"rrs", "kseq"}) {
    Probabilities emitted(p.size(), 0);
    draws_of(q, 2, Proposal::kIid, [&](const std::vector<TokenId>& tokens, double probability) {
      for (int i = 0; i < kNumbers; ++i) {
        OneNumber number((i + 0.5) / kNumbers);
        Weights rest;
        const double weight = probability / kNumbers;
        const auto kept =
            rule(name)->accept({.kind = Proposal::kIid, .draft = row, .tokens = tokens}, target, number, &rest);
        if (kept) {
          emitted[static_cast<size_t>(*kept)] += weight;
          continue;
        }
        for (size_t t = 0; t < rest.tokens.size(); ++t) {
          emitted[static_cast<size_t>(rest.tokens[t])] += weight * rest.mass[t] / rest.sum;
        }
      }
    });
    EXPECT_GT(distance(emitted, p), 0.003) << name;
  }
}

// Tokens of a step, over a bigram model: those kept and one more.
class Bigram {
 public:
  // Trees whose nodes of depth d have branches[d] children.
  double tree(std::string_view name, Proposal kind, const std::vector<int>& branches) const {
    const auto r = rule(name);
    const std::function<double(size_t, size_t)> tokens = [&](size_t state, size_t depth) {
      double sum = 1;
      if (depth == branches.size()) return sum;
      std::vector<double> kept(3, 0);
      draws_of(q_[state], branches[depth], kind, [&](const std::vector<TokenId>& drawn, double probability) {
        const std::vector<TokenLogprob> row = row_of(q_[state]);
        outcomes(*r, {.kind = kind, .draft = row, .tokens = drawn}, weights_of(p_[state]),
                 [&](TokenId token, double given, bool is_kept) {
                   if (is_kept) kept[static_cast<size_t>(token)] += probability * given;
                 });
      });
      for (size_t t = 0; t < kept.size(); ++t) {
        if (kept[t] > 0) sum += kept[t] * tokens(t + 1, depth + 1);
      }
      return sum;
    };
    return tokens(0, 0);
  }
  // k sequences of `length`, of which those live on that agree with what was chosen.
  double sequences(std::string_view name, int k, int length) const {
    const auto r = rule(name);
    const std::function<double(size_t, int, int)> tokens = [&](size_t state, int depth, int alive) {
      double sum = 1;
      if (depth == length) return sum;
      std::map<std::pair<size_t, int>, double> next;
      draws_of(q_[state], alive, Proposal::kIid, [&](const std::vector<TokenId>& drawn, double probability) {
        const std::vector<TokenLogprob> row = row_of(q_[state]);
        outcomes(*r, {.kind = Proposal::kIid, .draft = row, .tokens = drawn}, weights_of(p_[state]),
                 [&](TokenId token, double given, bool) {
                   const auto n = static_cast<int>(std::count(drawn.begin(), drawn.end(), token));
                   if (n > 0) next[{static_cast<size_t>(token) + 1, n}] += probability * given;
                 });
      });
      for (const auto& [to, probability] : next) sum += probability * tokens(to.first, depth + 1, to.second);
      return sum;
    };
    return tokens(0, 0, k);
  }

 private:
  // Row 0: the start; row 1 + t: behind token t.
  std::vector<Probabilities> p_ = {{.5, .3, .2}, {.6, .3, .1}, {.2, .5, .3}, {.1, .1, .8}};
  std::vector<Probabilities> q_ = {{.4, .4, .2}, {.3, .4, .3}, {.3, .3, .4}, {.3, .3, .4}};
};

TEST(NodeRules, TokensOfAStepAreWhatTheyShouldBe) {
  const Bigram bigram;
  constexpr double kNear = 3e-6;
  const auto iid = Proposal::kIid, swor = Proposal::kWithoutReplacement;
  EXPECT_NEAR(bigram.tree("chain", iid, {1}), 1.9, kNear);
  EXPECT_NEAR(bigram.tree("chain", iid, {1, 1}), 2.54, kNear);
  EXPECT_NEAR(bigram.tree("chain", iid, {1, 1, 1}), 2.99, kNear);
  EXPECT_NEAR(bigram.tree("chain", iid, {1, 1, 1, 1}), 3.3027, kNear);
  EXPECT_NEAR(bigram.tree("rrs", iid, {2, 1, 1}), 3.0784, kNear);
  EXPECT_NEAR(bigram.tree("rrs", iid, {2, 2, 1}), 3.22932, kNear);
  EXPECT_NEAR(bigram.tree("rrs", iid, {3, 1, 1}), 3.13144, kNear);
  EXPECT_NEAR(bigram.tree("rsd", swor, {2, 1, 1}), 3.1373333, kNear);
  EXPECT_NEAR(bigram.tree("rsd", swor, {2, 2, 1}), 3.3682857, kNear);
  EXPECT_NEAR(bigram.tree("rsd", swor, {3, 1, 1}), 3.2110000, kNear);
  EXPECT_NEAR(bigram.sequences("kseq", 1, 3), 2.99, kNear);
  EXPECT_NEAR(bigram.sequences("kseq", 2, 3), 3.2258865, kNear);
  EXPECT_NEAR(bigram.sequences("kseq", 3, 3), 3.3531109, kNear);
}

// One distribution behind every node.
class Fixed final : public TargetDistributions {
 public:
  explicit Fixed(const Probabilities& p) : row_(row_of(p)) {}
  Result<std::span<const TokenLogprob>> at(int) override { return std::span<const TokenLogprob>(row_); }

 private:
  std::vector<TokenLogprob> row_;
};

// The path that requests take, with real noise. Of n samples of m tokens the distance is above
// sum sqrt(p (1 - p) / n) / 2 + sqrt(ln(1/a) / 2n) with probability a at most (McDiarmid); a = 1e-7 for each of the
// cases.
double noise_bound(const Probabilities& p, double n) {
  double mean = 0;
  for (const double x : p) mean += std::sqrt(x * (1 - x) / n) / 2;
  return mean + std::sqrt(std::log(1e7) / (2 * n));
}

TEST(NodeRules, ChoicesHaveTheLawOfTheTarget) {
  constexpr int kSamples = testing::kSanitized ? 15000 : 150000;
  const Probabilities p = {.5, .2, .2, 0, .1}, q = {.1, .2, .2, .2, .3};
  Fixed target(p);
  const double bound = noise_bound(p, kSamples);
  if (!testing::kSanitized) {
    EXPECT_LT(bound, 0.01);
  }
  const auto distance_of = [&](const Verifier& verifier, Proposal kind, bool shared_noise) {
    Probabilities counts(p.size(), 0);
    const std::vector<TokenLogprob> row = row_of(q);
    const Weights weights = Weights::of(row);
    TokenTree tree;
    for (uint32_t sample = 0; sample < kSamples; ++sample) {
      tree.reset(8, 2, 4);  // token 4 has no place in the tree, and is drawn all the same
      const RngKey key{.seed = 11, .sample = sample, .position = 5};
      // A mistake: the noise of the draft is that of the accept tests.
      const RngKey drafts{.seed = shared_noise ? 11u : 12u,
                          .sample = sample,
                          .position = 5,
                          .purpose = shared_noise ? Purpose::kAccept : Purpose::kDraft};
      if (kind != Proposal::kPoint) tree.set_draft(kRoot, kind, row);
      Weights left = weights;
      for (uint32_t i = 0; i < 3; ++i) {
        const TokenId token = left.draw(random_uniform(drafts, i));
        tree.propose(kRoot, token, 0.5f);
        if (kind != Proposal::kIid) left.remove(token);
      }
      const auto chosen = verifier.choose(tree, kRoot, target, key);
      EXPECT_TRUE(chosen.ok());
      if (chosen.ok()) counts[static_cast<size_t>(*chosen)] += 1.0 / kSamples;
    }
    return distance(counts, p);
  };
  for (const std::string_view name : {"match", "chain", "rrs", "rsd", "kseq", "transport"}) {
    const auto verifier = *make_verifier(name);
    for (const Proposal kind : kKinds) {
      if (!verifier->takes(kind)) continue;
      EXPECT_LT(distance_of(*verifier, kind, false), bound) << name << " kind " << static_cast<int>(kind);
    }
  }
  if (!testing::kSanitized) {
    EXPECT_GT(distance_of(**make_verifier("rrs"), Proposal::kIid, true), 2 * bound);
  }
}

TEST(NodeRules, DrawsThatDoNotSuitAreRefused) {
  Fixed target({.5, .5});
  TokenTree tree;
  tree.reset(4, 2);
  tree.set_draft(kRoot, Proposal::kWithoutReplacement, row_of({.5, .5}));
  tree.propose(kRoot, 0, 0.5f);
  for (const std::string_view name : {"rrs", "kseq"}) {
    const auto chosen = (*make_verifier(name))->choose(tree, kRoot, target, {});
    ASSERT_FALSE(chosen.ok());
    EXPECT_NE(chosen.status().message().find(name), std::string::npos);
  }
}

TEST(TokenTree, DrawsCountWhateverTheyAre) {
  TokenTree tree;
  tree.reset(2, 2, 10);
  tree.set_draft(kRoot, Proposal::kIid, row_of({.2, .2, .2, .2, .2}));
  EXPECT_EQ(tree.propose(kRoot, 3, 0.2f), 0);
  EXPECT_EQ(tree.propose(kRoot, 3, 0.2f), 0);
  EXPECT_EQ(tree.propose(kRoot, 40, 0.2f), kRefused);  // not in the vocabulary: a draw that has no node
  EXPECT_EQ(tree.propose(kRoot, 4, 0.2f), 1);
  EXPECT_EQ(tree.propose(kRoot, 3, 0.2f), kRefused);  // full: no draw any more, not even of a token that is there
  EXPECT_EQ(tree.proposed_tokens(kRoot), (std::vector<TokenId>{3, 3, 40, 4}));
  EXPECT_EQ(tree.proposals(kRoot), (std::vector<int>{0, 0, 1}));
}

TEST(TokenTree, WhatHangsOnTheRootStaysAsItWasDrawn) {
  TokenTree tree;
  tree.reset(8, 3);
  tree.set_draft(kRoot, Proposal::kIid, row_of({.5, .5}));
  tree.propose(kRoot, 1, 0.5f);
  tree.add(0, 7, 0.5f);
  tree.propose(kRoot, 0, 0.5f);
  tree.propose(kRoot, 1, 0.5f);
  std::vector<int> kept;
  tree.cut_to_root(&kept);
  EXPECT_EQ(kept, (std::vector<int>{0, 2}));
  EXPECT_EQ(tree.size(), 2);
  EXPECT_EQ(tree.kind(kRoot), Proposal::kIid);
  EXPECT_EQ(tree.draft(kRoot).size(), 2u);
  EXPECT_EQ(tree.proposals(kRoot), (std::vector<int>{0, 1, 0}));
  EXPECT_EQ(tree.proposed_tokens(kRoot), (std::vector<TokenId>{1, 0, 1}));
  EXPECT_EQ(tree.first_child(0), kRefused);
}

// p(x) above min(epsilon, delta exp(-H)), worked out by hand.
TEST(Typical, KeepsWhatIsLikelyEnough) {
  const auto chosen_of = [](const Probabilities& p, TokenId child, std::string_view spec) {
    Fixed target(p);
    TokenTree tree;
    tree.reset(4, 1);
    tree.add(kRoot, child, 1);
    const auto verifier = make_verifier(spec);
    int same = 0;
    constexpr int kTimes = 200;
    for (uint32_t i = 0; i < kTimes; ++i) {
      same += *(*verifier)->choose(tree, kRoot, target, {.seed = 1, .sample = i}) == child ? 1 : 0;
    }
    return same == kTimes;
  };
  // H = 1.27985: the threshold is 0.0834, below all four.
  const Probabilities flat = {.4, .3, .2, .1};
  for (TokenId token = 0; token < 4; ++token) EXPECT_TRUE(chosen_of(flat, token, "typical"));
  EXPECT_FALSE(chosen_of(flat, 3, "typical(epsilon=0.5, delta=0.5)"));  // 0.139
  EXPECT_TRUE(chosen_of(flat, 2, "typical(epsilon=0.5, delta=0.5)"));
  // H = 0.16770: epsilon decides.
  const Probabilities sure = {.97, .01, .01, .01};
  EXPECT_TRUE(chosen_of(sure, 0, "typical"));
  EXPECT_FALSE(chosen_of(sure, 1, "typical"));
  EXPECT_TRUE(chosen_of(sure, 1, "typical(epsilon=0.005)"));
}

TEST(Typical, TheLongestWayWinsThenTheLikeliest) {
  Fixed target({.4, .3, .2, .1});
  TokenTree tree;
  tree.reset(8, 3);
  const int a = tree.add(kRoot, 0, 1);
  const int b = tree.add(kRoot, 1, 1);
  const auto verifier = *make_verifier("typical");
  EXPECT_EQ(*verifier->choose(tree, kRoot, target, {}), 0);
  tree.add(b, 3, 1);
  EXPECT_EQ(*verifier->choose(tree, kRoot, target, {}), 1);
  tree.add(a, 2, 1);
  EXPECT_EQ(*verifier->choose(tree, kRoot, target, {}), 0);
  EXPECT_EQ(*verifier->choose(tree, a, target, {}), 2);
}

// Draft methods of one kind of proposals each.
class Draws final : public DraftMethod {
 public:
  explicit Draws(std::vector<Proposal> kinds) : kinds_(std::move(kinds)) {}
  Result<std::unique_ptr<Drafter>> start(std::span<const TokenId>) override { return Status::unsupported("no draft"); }
  std::vector<Proposal> proposals() const override { return kinds_; }

 private:
  std::vector<Proposal> kinds_;
};

TEST(Registry, VerifiersFitTheProposals) {
  const DraftEnvironment environment{.vocab_size = 300};
  EXPECT_TRUE(make_speculation("lookup", "kseq", environment).ok());
  const auto message = [](std::vector<Proposal> kinds, std::string_view verifier) {
    return check_pair("sampler", Draws(std::move(kinds)), **make_verifier(verifier)).message();
  };
  const auto iid = Proposal::kIid, swor = Proposal::kWithoutReplacement, point = Proposal::kPoint;
  EXPECT_EQ(
      message({swor, point}, "kseq"),
      "sampler proposes draws without replacement, which the verifier kseq cannot verify; those that can: coupled, "
      "match, chain, rsd, transport, typical");
  EXPECT_NE(message({swor}, "rrs"), "");
  EXPECT_EQ(message({swor, iid, point}, "rsd"), "");
  EXPECT_EQ(message({iid, point}, "rrs"), "");
  EXPECT_FALSE(Draws({point}).draws());
  EXPECT_TRUE(Draws({point, iid}).draws());
}

TEST(Registry, EveryDraftMethodNamesAVerifier) {
  for (const DrafterInfo& info : drafters()) EXPECT_TRUE(make_verifier(info.verifier).ok()) << info.name;
  for (const VerifierInfo& info : verifiers()) {
    const auto made = make_verifier(info.name);
    ASSERT_TRUE(made.ok()) << info.name;
    EXPECT_EQ((*made)->name(), info.name);
    EXPECT_EQ((*made)->coupled(), info.name == "coupled");
    EXPECT_TRUE(info.guarantee == "exact" || info.guarantee == "exact in distribution" ||
                info.guarantee == "approximate");
  }
}

}  // namespace
}  // namespace decant
