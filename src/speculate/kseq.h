// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// k-sequential selection: the rule of SpecTr for k independent draws of one distribution.
#pragma once

#include "speculate/node_rule.h"

namespace decant {

struct KSeq {
  double rho = 1;   // proposals are kept with probability min(1, p / (rho q))
  double beta = 0;  // the probability that one is
  double kept = 0;  // that one of k is: 1 - (1 - beta)^k
};
// The least rho in [1, k] with 1 - (1 - beta)^k <= rho beta, where beta = sum of min(q, p / rho): less would take more
// of a token than the target has.
KSeq solve_kseq(const Weights& target, const Weights& draft, int k);
std::optional<TokenId> accept_kseq(const NodeProposals& proposals, const Weights& target, AcceptTest& test,
                                   Weights* rest);

}  // namespace decant
