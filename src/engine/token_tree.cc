// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "engine/token_tree.h"

#include <algorithm>

namespace decant {

void TokenTree::reset(int max_nodes, int max_depth, int vocab_size, TokenFilter* filter) {
  nodes_.clear();
  draws_.clear();
  first_ = last_ = kRefused;
  max_nodes_ = std::clamp(max_nodes, 0, kMaxNodes);
  max_depth_ = max_depth;
  vocab_size_ = vocab_size;
  filter_ = filter;
  evidence_base_ = 0;
}

int TokenTree::child(int parent, TokenId token) const {
  for (int i = first_child(parent); i != kRefused; i = node(i).next_sibling) {
    if (node(i).token == token) return i;
  }
  return kRefused;
}

int TokenTree::add(int parent, TokenId token, float probability, uint16_t evidence) {
  if (const int known = child(parent, token); known != kRefused) {
    TokenNode& n = nodes_[static_cast<size_t>(known)];
    if (probability > n.probability) {
      n.probability = probability;
      n.evidence = static_cast<uint16_t>(evidence_base_ + evidence);
      n.reach = reach(parent) * probability;
    }
    return known;
  }
  const int below = depth(parent) + 1;
  if (full() || below > max_depth_ || token < 0 || token >= vocab_size_) return kRefused;
  if (const std::span<const uint64_t> mask = allowed(parent); !mask.empty()) {
    const auto t = static_cast<size_t>(token);
    if (t / 64 >= mask.size() || (mask[t / 64] >> t % 64 & 1) == 0) return kRefused;
  }
  const auto index = static_cast<int32_t>(nodes_.size());
  nodes_.push_back({.token = token,
                    .parent = parent,
                    .depth = below,
                    .probability = probability,
                    .reach = reach(parent) * probability,
                    .evidence = static_cast<uint16_t>(evidence_base_ + evidence)});
  int32_t& first = parent == kRoot ? first_ : nodes_[static_cast<size_t>(parent)].first_child;
  int32_t& last = parent == kRoot ? last_ : nodes_[static_cast<size_t>(parent)].last_child;
  if (first == kRefused) {
    first = index;
  } else {
    nodes_[static_cast<size_t>(last)].next_sibling = index;
  }
  last = index;
  if (filter_ != nullptr) filter_->added(index);
  return index;
}

void TokenTree::set_draft(int parent, Proposal kind, std::vector<TokenLogprob> row) {
  draws_.push_back({.parent = parent, .kind = kind, .row = std::move(row), .nodes = {}, .tokens = {}});
}

int TokenTree::propose(int parent, TokenId token, float probability, uint16_t evidence) {
  Draws* draws = draws_of(parent);
  if (draws == nullptr || draws->kind == Proposal::kPoint) {
    const int index = add(parent, token, probability, evidence);
    if (draws != nullptr && index != kRefused) {
      draws->nodes.push_back(index);
      draws->tokens.push_back(token);
    }
    return index;
  }
  if (full() || depth(parent) >= max_depth_) return kRefused;
  const int index = add(parent, token, probability, evidence);
  draws->tokens.push_back(token);
  if (index != kRefused) draws->nodes.push_back(index);
  return index;
}

const TokenTree::Draws* TokenTree::draws_of(int parent) const {
  for (const Draws& d : draws_) {
    if (d.parent == parent) return &d;
  }
  return nullptr;
}
TokenTree::Draws* TokenTree::draws_of(int parent) {
  return const_cast<Draws*>(static_cast<const TokenTree*>(this)->draws_of(parent));
}

std::vector<int> TokenTree::proposals(int parent) const {
  if (const Draws* draws = draws_of(parent)) return draws->nodes;
  std::vector<int> children;
  for (int i = first_child(parent); i != kRefused; i = node(i).next_sibling) children.push_back(i);
  return children;
}

std::vector<TokenId> TokenTree::proposed_tokens(int parent) const {
  if (const Draws* draws = draws_of(parent)) return draws->tokens;
  std::vector<TokenId> tokens;
  for (int i = first_child(parent); i != kRefused; i = node(i).next_sibling) tokens.push_back(node(i).token);
  return tokens;
}

Proposal TokenTree::kind(int parent) const {
  const Draws* draws = draws_of(parent);
  return draws != nullptr ? draws->kind : Proposal::kPoint;
}

std::span<const TokenLogprob> TokenTree::draft(int parent) const {
  const Draws* draws = draws_of(parent);
  return draws != nullptr ? std::span<const TokenLogprob>(draws->row) : std::span<const TokenLogprob>();
}

void TokenTree::path(int node, std::vector<TokenId>* tokens) const {
  tokens->clear();
  for (int i = node; i != kRoot; i = this->node(i).parent) tokens->push_back(this->node(i).token);
  std::reverse(tokens->begin(), tokens->end());
}

void TokenTree::estimate(std::span<const float> probabilities) {
  for (size_t i = 0; i < nodes_.size(); ++i) {
    nodes_[i].probability = probabilities[i];
    nodes_[i].reach = reach(nodes_[i].parent) * probabilities[i];
  }
}

void TokenTree::select(const TokenTree& from, std::span<const int> nodes) {
  reset(from.max_nodes_, from.max_depth_);
  for (const int i : nodes) {
    const TokenNode& n = from.node(i);
    int parent = kRoot;
    if (n.parent != kRoot) {
      parent = static_cast<int>(std::lower_bound(nodes.begin(), nodes.end(), n.parent) - nodes.begin());
    }
    add(parent, n.token, n.probability, n.evidence);
  }
}

void TokenTree::cut_to_root(std::vector<int>* kept) {
  kept->clear();
  for (int i = first_; i != kRefused; i = node(i).next_sibling) kept->push_back(i);
  std::vector<Draws> draws;
  for (Draws& d : draws_) {
    if (d.parent == kRoot) draws.push_back(std::move(d));
  }
  // Children are listed in the order of their numbers.
  for (Draws& d : draws) {
    for (int& i : d.nodes) i = static_cast<int>(std::lower_bound(kept->begin(), kept->end(), i) - kept->begin());
  }
  const TokenTree from = std::move(*this);
  select(from, *kept);
  draws_ = std::move(draws);
}

}  // namespace decant
