// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "speculate/fusion.h"

#include <algorithm>
#include <queue>

namespace decant {
void prune(const TokenTree& from, const std::function<bool(const TokenTree& from, int node)>& plausible,
           TokenTree* to) {
  std::vector<int> placed(static_cast<size_t>(from.size()), kRefused);
  for (int i = 0; i < from.size(); ++i) {
    const TokenNode& n = from.node(i);
    const int parent = n.parent == kRoot ? kRoot : placed[static_cast<size_t>(n.parent)];
    if (parent == kRefused || !plausible(from, i)) continue;
    placed[static_cast<size_t>(i)] = to->add(parent, n.token, n.probability, n.evidence);
  }
}

void graft(const TokenTree& from, TokenTree* to) {
  prune(
      from, [](const TokenTree&, int) { return true; }, to);
}

void fuse(const TokenTree& drafted, const TokenTree& retrieved, TokenTree* tree) {
  TokenTree all;
  all.reset(drafted.size() + retrieved.size(), tree->max_depth());
  graft(drafted, &all);
  graft(retrieved, &all);
  // Reach was computed while nodes came, before an estimate above them may have risen.
  std::vector<float> probabilities;
  for (const TokenNode& n : all.nodes()) probabilities.push_back(n.probability);
  all.estimate(probabilities);

  struct Open {
    float reach;
    int node, parent;
    bool operator<(const Open& o) const { return reach != o.reach ? reach < o.reach : node > o.node; }
  };
  std::priority_queue<Open> open;
  const auto expand = [&](int node, int placed) {
    for (int i = all.first_child(node); i != kRefused; i = all.node(i).next_sibling) {
      open.push({.reach = all.node(i).reach, .node = i, .parent = placed});
    }
  };
  expand(kRoot, kRoot);
  while (!open.empty() && tree->room() > 0) {
    const Open best = open.top();
    open.pop();
    const TokenNode& n = all.node(best.node);
    const int placed = tree->add(best.parent, n.token, n.probability, n.evidence);
    if (placed != kRefused) expand(best.node, placed);
  }
}

}  // namespace decant
