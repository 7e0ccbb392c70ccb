// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "speculate/corpus_guesses.h"

#include <algorithm>
#include <queue>

namespace decant {
namespace {

// Samples first..last-1 have the same tokens up to the node.
struct Group {
  float reach;
  float probability;
  uint32_t order;  // of making: equals come in this order
  int parent;
  TokenId token;
  uint16_t evidence;
  size_t first, last;
  bool operator<(const Group& o) const { return reach != o.reach ? reach < o.reach : order > o.order; }
};

}  // namespace

void add_corpus_guesses(const Datastore& store, const Datastore::Range& match, int samples,
                        uint16_t (*evidence)(const CorpusEvidence&), const AcceptanceModel* measured, TokenTree* tree) {
  if (match.length == 0) return;
  const uint64_t taken = std::min<uint64_t>(match.count(), static_cast<uint64_t>(samples));
  std::vector<uint64_t> behind(taken);  // ascending by what follows, as in the suffix array
  for (uint64_t i = 0; i < taken; ++i) {
    behind[i] = store.suffix(match.first + i * match.count() / taken) + static_cast<uint64_t>(match.length);
  }
  std::priority_queue<Group> open;
  uint32_t order = 0;
  const auto expand = [&](int parent, size_t first, size_t last) {
    const int depth = tree->depth(parent);
    if (depth >= tree->max_depth()) return;
    const auto total = static_cast<float>(last - first);
    for (size_t begin = first; begin < last;) {
      const TokenId token = store.token(behind[begin] + static_cast<uint64_t>(depth));
      size_t end = begin + 1;
      while (end < last && store.token(behind[end] + static_cast<uint64_t>(depth)) == token) ++end;
      if (token >= 0) {
        const auto count = static_cast<float>(end - begin);
        // One occurrence proves little.
        float probability = count / (total + 1);
        const uint16_t number = evidence({.length = match.length,
                                          .depth = depth + 1,
                                          .count = static_cast<int>(last - first),
                                          .share = count / total});
        if (measured != nullptr) probability = measured->estimate(number, probability);
        open.push({.reach = tree->reach(parent) * probability,
                   .probability = probability,
                   .order = order++,
                   .parent = parent,
                   .token = token,
                   .evidence = number,
                   .first = begin,
                   .last = end});
      }
      begin = end;
    }
  };
  expand(kRoot, 0, behind.size());
  while (!open.empty() && tree->room() > 0) {
    const Group best = open.top();
    open.pop();
    const int node = tree->add(best.parent, best.token, best.probability, best.evidence);
    if (node != kRefused) expand(node, best.first, best.last);
  }
}

}  // namespace decant
