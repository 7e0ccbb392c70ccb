// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// The most that any exact rule can keep of k proposals, and the plan that reaches it.
#pragma once

#include <map>
#include <optional>
#include <vector>

#include "speculate/node_rule.h"

namespace decant {

// Of k independent draws of `draft`: the least, over sets of tokens T, of p(T) + 1 - q(T)^k (max-flow min-cut). Those
// sets need be looked at that hold the tokens of the least p/q.
double transport_optimum(const Weights& target, const Weights& draft, int k);

// How the law of the proposed sets moves into the target: as a maximum flow from sets to the tokens in them. Which of
// the equal plans it is depends on the two distributions only.
class TransportPlan {
 public:
  // Of k draws of `draft`, independent or without replacement; nothing if that takes more than `max_sets` sets.
  static std::optional<TransportPlan> solve(const Weights& target, const Weights& draft, int k, Proposal kind,
                                            size_t max_sets);
  double kept() const { return kept_; }  // the probability that a proposal is kept
  std::optional<TokenId> accept(std::span<const TokenId> proposals, const Weights& target, AcceptTest& test,
                                Weights* rest) const;

 private:
  struct Share {
    int token;
    double flow;
  };
  std::vector<TokenId> tokens_;           // those that sets are made of
  std::map<std::vector<int>, int> sets_;  // ascending places in tokens_
  std::vector<double> weight_;            // the probability of each set
  std::vector<std::vector<Share>> flow_;  // out of each set
  double kept_ = 0;
};

}  // namespace decant
