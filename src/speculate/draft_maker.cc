// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "speculate/draft_maker.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <queue>

#include "base/hash.h"

namespace decant {
namespace {

using Successor = TrigramTable::Successor;

// Of a row's weight, what stands for all that never came: a row seen once proves little.
constexpr float kUnseen = 0.3f;
constexpr float kLeastReach = 0.002f;

uint64_t next_random(uint64_t* state) {  // SplitMix64
  return mix_bits(*state += 0x9E3779B97F4A7C15u);
}

float total_of(std::span<const Successor> row) {
  float total = 0;
  for (const Successor& s : row) total += s.weight;
  return total;
}

uint16_t evidence_in(std::span<const Successor> row, float total, int rank, int depth, TrigramEvidenceNumber evidence) {
  const float weight = row[static_cast<size_t>(rank)].weight;
  return evidence({.depth = depth, .rank = rank, .share = total > 0 ? weight / total : 0, .total = total});
}

}  // namespace

int DraftMaker::select(const Node& node) const {
  const float scale = (options_.c1 + std::log((static_cast<float>(node.visits) + options_.c2 + 1) / options_.c2)) *
                      std::sqrt(static_cast<float>(node.visits));
  float best = -std::numeric_limits<float>::infinity();
  int chosen = node.first_child;
  for (int i = node.first_child; i < node.first_child + node.children; ++i) {
    const Node& child = nodes_[static_cast<size_t>(i)];
    if (child.visits == 0) return i;
    const auto n = static_cast<float>(child.visits);
    const float value = child.score / n + scale * child.prior / (1 + n);
    if (value > best) {
      best = value;
      chosen = i;
    }
  }
  return chosen;
}

void DraftMaker::expand(const AdaptiveTrigrams& table, int index) {
  const Node node = nodes_[static_cast<size_t>(index)];
  const std::span<const Successor> row = table.row(node.a, node.b);
  Node& n = nodes_[static_cast<size_t>(index)];
  n.expanded = true;
  n.first_child = static_cast<int>(nodes_.size());
  n.children = static_cast<int>(row.size());
  for (const Successor& s : row) {
    nodes_.push_back({.a = node.b, .b = s.token, .parent = index, .depth = node.depth + 1, .prior = s.weight});
  }
}

float DraftMaker::transition(const AdaptiveTrigrams& table, TokenId a, TokenId b, TokenId c) const {
  return table.weight(a, b, options_.compat ? b : c);
}

void DraftMaker::iterate(const AdaptiveTrigrams& table, uint64_t* random) {
  const int deepest = options_.length - 1;
  path_.assign(1, 0);
  int at = 0;
  while (nodes_[static_cast<size_t>(at)].children > 0 && nodes_[static_cast<size_t>(at)].depth < deepest) {
    at = select(nodes_[static_cast<size_t>(at)]);
    path_.push_back(at);
  }
  if (Node& n = nodes_[static_cast<size_t>(at)]; n.depth < deepest && !n.expanded) {
    expand(table, at);
    if (const Node& parent = nodes_[static_cast<size_t>(at)]; parent.children > 0) {
      at = parent.first_child + parent.children - 1;
      path_.push_back(at);
    }
  }
  float score = 1;
  for (size_t i = 1; i < path_.size(); ++i) {
    const Node& n = nodes_[static_cast<size_t>(path_[i])];
    const Node& parent = nodes_[static_cast<size_t>(n.parent)];
    score += options_.compat ? transition(table, parent.a, parent.b, n.b) : n.prior;
  }
  TokenId a = nodes_[static_cast<size_t>(at)].a, b = nodes_[static_cast<size_t>(at)].b;
  for (int depth = nodes_[static_cast<size_t>(at)].depth; depth < deepest; ++depth) {
    const std::span<const Successor> row = table.row(a, b);
    if (row.empty()) break;
    float left = static_cast<float>(next_random(random) >> 40) * 0x1p-24f * total_of(row);
    size_t k = 0;
    while (k + 1 < row.size() && left >= row[k].weight) left -= row[k++].weight;
    score += options_.compat ? transition(table, a, b, row[k].token) : row[k].weight;
    a = b;
    b = row[k].token;
  }
  for (const int i : path_) {
    Node& n = nodes_[static_cast<size_t>(i)];
    ++n.visits;
    n.score += score;
  }
}

void DraftMaker::search(const AdaptiveTrigrams& table, TokenId a, TokenId b, uint64_t seed,
                        TrigramEvidenceNumber evidence, TokenTree* tree) {
  nodes_.assign(1, Node{.a = a, .b = b});
  if (table.row(a, b).empty()) return;
  for (int i = 0; i < options_.iterations; ++i) iterate(table, &seed);

  // The most visited nodes are ends of branches; each gets its likeliest successor too.
  std::vector<int> ends;
  for (size_t i = 1; i < nodes_.size(); ++i) {
    if (nodes_[i].visits > 0) ends.push_back(static_cast<int>(i));
  }
  const size_t kept = std::min(ends.size(), static_cast<size_t>(options_.sentences));
  const auto more_visited = [&](int x, int y) {
    const Node &m = nodes_[static_cast<size_t>(x)], &n = nodes_[static_cast<size_t>(y)];
    return m.visits != n.visits ? m.visits > n.visits : m.depth != n.depth ? m.depth < n.depth : x < y;
  };
  std::sort(ends.begin(), ends.end(), more_visited);
  ends.resize(kept);
  std::vector<Candidate> candidates;
  for (const int i : ends) {
    const Node& n = nodes_[static_cast<size_t>(i)];
    candidates.push_back(
        {.parent = n.parent, .token = n.b, .order = static_cast<float>(n.visits), .depth = n.depth, .node = i});
    const std::span<const Successor> row = table.row(n.a, n.b);
    if (row.empty()) continue;
    const float share = row[0].weight / (total_of(row) + kUnseen);
    candidates.push_back(
        {.parent = i, .token = row[0].token, .order = static_cast<float>(n.visits) * share, .depth = n.depth + 1});
  }
  // A parent is visited at least as often as its children and is less deep.
  std::stable_sort(candidates.begin(), candidates.end(), [](const Candidate& x, const Candidate& y) {
    return x.order != y.order ? x.order > y.order : x.depth < y.depth;
  });
  std::vector<int> placed(nodes_.size(), kRefused);
  placed[0] = kRoot;
  for (const Candidate& c : candidates) {
    if (tree->room() == 0) break;
    const Node& parent = nodes_[static_cast<size_t>(c.parent)];
    const int under = placed[static_cast<size_t>(c.parent)];
    if (under == kRefused) continue;
    const std::span<const Successor> row = table.row(parent.a, parent.b);
    const int rank = static_cast<int>(
        std::find_if(row.begin(), row.end(), [&](const Successor& s) { return s.token == c.token; }) - row.begin());
    const float total = total_of(row);
    const int node = tree->add(under, c.token, row[static_cast<size_t>(rank)].weight / (total + kUnseen),
                               evidence_in(row, total, rank, tree->depth(under) + 1, evidence));
    // The token behind a branch may be a node of the search as well.
    int number = c.node;
    if (number < 0 && parent.children > 0) number = parent.first_child + rank;
    if (number >= 0) placed[static_cast<size_t>(number)] = node;
  }
}

void DraftMaker::best(const AdaptiveTrigrams& table, TokenId a, TokenId b, TrigramEvidenceNumber evidence,
                      const AcceptanceModel* measured, TokenTree* tree) {
  struct Guess {
    float reach, probability;
    uint32_t order;
    int parent;
    TokenId before, token;
    uint16_t evidence;
    bool operator<(const Guess& o) const { return reach != o.reach ? reach < o.reach : order > o.order; }
  };
  std::priority_queue<Guess> open;
  uint32_t order = 0;
  const auto expand = [&](int parent, float reach, TokenId x, TokenId y) {
    const int depth = tree->depth(parent) + 1;
    if (depth > std::min(options_.length, tree->max_depth())) return;
    const std::span<const Successor> row = table.row(x, y);
    const float total = total_of(row);
    for (size_t k = 0; k < row.size(); ++k) {
      float probability = row[k].weight / (total + kUnseen);
      const uint16_t number = evidence_in(row, total, static_cast<int>(k), depth, evidence);
      if (measured != nullptr) probability = measured->estimate(number, probability);
      if (reach * probability < kLeastReach) continue;
      open.push({.reach = reach * probability,
                 .probability = probability,
                 .order = order++,
                 .parent = parent,
                 .before = y,
                 .token = row[k].token,
                 .evidence = number});
    }
  };
  expand(kRoot, 1, a, b);
  while (!open.empty() && tree->room() > 0) {
    const Guess guess = open.top();
    open.pop();
    const int node = tree->add(guess.parent, guess.token, guess.probability, guess.evidence);
    if (node != kRefused) expand(node, guess.reach, guess.before, guess.token);
  }
}

std::vector<DraftMaker::Visit> DraftMaker::visits() const {
  std::vector<Visit> visits;
  for (const Node& n : nodes_) {
    visits.push_back(
        {.parent = n.parent, .token = n.b, .depth = n.depth, .visits = n.visits, .score = n.score, .prior = n.prior});
  }
  return visits;
}

}  // namespace decant
