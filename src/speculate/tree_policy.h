// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// TreePolicy: where does a tree grow next, or does it stop? Over any predictor: the caller runs the nodes that a policy
// asks for, and the policy adds children to nodes that were run.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "engine/token_tree.h"

namespace decant {

// A token of a node's draft distribution that was drawn, or chosen.
struct DraftToken {
  TokenId token;
  float logprob;  // in the node's draft distribution
  double score;   // logprob + Gumbel noise of the node's own; without noise logprob itself
};

// The draft distributions of the nodes that were run, and draws from them.
class DraftRows {
 public:
  virtual ~DraftRows() = default;
  // The `count` tokens of greatest score, greatest first: draws without replacement in the order drawn (Gumbel-top-k),
  // or the likeliest ones where draws have no noise. Fewer if the distribution has fewer.
  virtual Result<std::vector<DraftToken>> top(int node, int count) = 0;
  // Independent draws. Without noise: the likeliest token, once.
  virtual Result<std::vector<DraftToken>> independent(int node, int count) = 0;
  // Whether draws have noise; else proposals are points.
  virtual bool draws() const = 0;
  // Tells the tree of what the node's proposals are draws. Once for each node, before its first proposal.
  virtual Status declare(int node, Proposal kind, TokenTree* tree) = 0;
  // The probability that a guess is kept whose draft distribution gives it `probability` as its `rank`-th token.
  virtual float acceptance(float probability, int rank) const = 0;
  virtual uint16_t evidence(float probability, int rank) const = 0;
  // Whether nodes that are kept with probability `reach`, all together, pay for running `rows` rows of the draft model
  // to see what comes behind them. Only asked where the tree may follow what was drawn (DraftContext::control).
  virtual bool pays(double reach, int rows) const = 0;
};

class TreePolicy {
 public:
  virtual ~TreePolicy() = default;
  // `ran`: nodes that have rows since the last call (kRoot at first). Adds children of nodes that have rows and gives
  // the nodes to run next; none: the tree is done.
  virtual Result<std::vector<int>> next(std::span<const int> ran, DraftRows& rows, TokenTree* tree) = 0;
  // Of a tree with no early end.
  virtual int max_nodes() const = 0;
  virtual int max_depth() const = 0;
  virtual Proposal proposal() const = 0;  // where the drafts are draws
  // For another tree.
  virtual std::unique_ptr<TreePolicy> clone() const = 0;
};

// One token after the other (Leviathan et al. 2023).
std::unique_ptr<TreePolicy> make_chain(int length);
// branch[d] children of every node at depth d, with or without replacement (Miao et al. 2024, SpecInfer; Jeon et al.
// 2024, RSD-C).
std::unique_ptr<TreePolicy> make_branching(std::vector<int> branch, bool with_replacement);
// Stochastic beam search: the `width` likeliest paths of each length under the noise (Jeon et al. 2024, RSD-S).
std::unique_ptr<TreePolicy> make_beam(int width, int length);
// `count` independent continuations of `length` tokens (Sun et al. 2023, SpecTr).
std::unique_ptr<TreePolicy> make_independent(int count, int length);
// The next draw goes where the chance that it is tested is greatest (Xiong et al. 2024, DySpec). threshold 0: one node
// after the other, `nodes` of them; else layer by layer, all draws of at least that chance.
std::unique_ptr<TreePolicy> make_dynamic(int nodes, int length, float threshold);
// Layer by layer, the likeliest children by measured acceptance, for as long as running the draft model pays.
std::unique_ptr<TreePolicy> make_growing(int nodes, int length, int width);

// "3-2-1"
Result<std::vector<int>> parse_branch(const std::string& text);

}  // namespace decant
