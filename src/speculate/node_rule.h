// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Verifiers that decide node by node with noise of their own. A rule tests proposals one after the other; if it keeps
// none, the token is drawn from what it leaves of the target. Exact if P(kept = y) + P(none) * rest(y) = target(y) when
// the proposals have the law that the tree says they have.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "engine/verifier.h"

namespace decant {

// A measure on a few tokens, ascending.
struct Weights {
  std::vector<TokenId> tokens;
  std::vector<double> mass;
  double sum = 0;

  // Scaled to a sum of 1: log-probabilities in float add up to 1 only nearly.
  static Weights of(std::span<const TokenLogprob> row);
  double at(TokenId token) const;  // 0 where there is none
  void remove(TokenId token);
  void add_up();
  // The token at `u` (of (0, 1)) of the mass.
  TokenId draw(double u) const;
};

struct NodeProposals {
  Proposal kind = Proposal::kPoint;
  std::span<const TokenLogprob> draft;  // what they are draws of; empty for points
  std::vector<TokenId> tokens;          // in the order in which they were drawn, repeats included
};

// A rule's coin.
class AcceptTest {
 public:
  virtual ~AcceptTest() = default;
  // True with the probability p / q (at most 1). Both may be scaled.
  virtual bool accept(double p, double q) = 0;
};

class NodeRule : public Verifier {
 public:
  Result<TokenId> choose(const TokenTree& tree, int node, TargetDistributions& target,
                         const RngKey& key) const override;
  // The proposal that is kept (there is at least one), or what the token is to be drawn from in `rest`.
  virtual std::optional<TokenId> accept(const NodeProposals& proposals, const Weights& target, AcceptTest& test,
                                        Weights* rest) const = 0;
};

// Rejections that leave less are rounding: the token then comes from the target, without what was rejected.
inline constexpr double kNoMass = 1e-12;

// Draws from `row` with the residual noise of `key`.
TokenId draw_from(std::span<const TokenLogprob> row, RngKey key);

// Tests one proposal after the other (at most `limit`): accept x if u q(x) < r(x), where r is the target less what the
// rejections before used up. Under a kWithoutReplacement node a rejected token leaves q, and a point is its own q.
std::optional<TokenId> reject_in_turn(const NodeProposals& proposals, size_t limit, const Weights& target,
                                      AcceptTest& test, Weights* rest);

}  // namespace decant
