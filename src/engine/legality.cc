// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "engine/legality.h"

#include <algorithm>

namespace decant {

void Legality::start(const GenerateRequest& request, size_t vocab_size, const ConstraintState& root,
                     std::span<const uint64_t> mask, const TokenTree& tree) {
  request_ = &request;
  vocab_size_ = vocab_size;
  tree_ = &tree;
  nodes_.clear();
  nothing_.assign((vocab_size + 63) / 64, 0);
  root_ = root;
  root_mask_.clear();
  if (request.constraint) root_mask_.assign(mask.begin(), mask.end());
}

std::span<const uint64_t> Legality::allowed(int parent) {
  if (parent == kRoot) return root_mask_;
  if (is_end(parent)) return nothing_;
  if (!request_->constraint) return {};
  Node& n = nodes_[static_cast<size_t>(parent)];
  if (n.mask.empty()) {
    n.mask = nothing_;
    if (const ConstraintState* s = state(parent)) fill_mask(*s, &n.mask);
  }
  return n.mask;
}

TokenId Legality::forced(int node) {
  if (!request_->constraint || is_end(node)) return -1;
  const ConstraintState* s = state(node);
  if (s == nullptr || request_->constraint->accepting(*s)) return -1;
  const std::shared_ptr<const TokenMask> mask = request_->constraint->mask(*s);
  return mask->count() == 1 ? mask->first() : -1;
}

void Legality::copy_mask(const GenerateRequest& request, const TokenMask& tokens, bool may_end, size_t vocab_size,
                         std::vector<uint64_t>* words) {
  const std::span<const uint64_t> from = tokens.words();
  words->assign((vocab_size + 63) / 64, 0);
  std::copy_n(from.begin(), std::min(from.size(), words->size()), words->begin());
  if (vocab_size % 64 != 0) words->back() &= (uint64_t{1} << vocab_size % 64) - 1;
  if (!may_end) return;
  for (const TokenId end : request.end_tokens) {
    const auto token = static_cast<size_t>(end);
    if (end >= 0 && token < vocab_size) (*words)[token / 64] |= uint64_t{1} << token % 64;
  }
}

bool Legality::is_end(int node) const {
  const TokenId token = tree_->node(node).token;
  return std::find(request_->end_tokens.begin(), request_->end_tokens.end(), token) != request_->end_tokens.end();
}

const ConstraintState* Legality::state(int node) {
  if (node == kRoot) return &root_;
  Node& n = nodes_[static_cast<size_t>(node)];
  if (!n.known) {
    n.known = true;
    if (const ConstraintState* before = state(tree_->node(node).parent)) {
      Result<ConstraintState> next = request_->constraint->advance(*before, tree_->node(node).token);
      if (next.ok()) nodes_[static_cast<size_t>(node)].state = *std::move(next);
    }
  }
  const Node& done = nodes_[static_cast<size_t>(node)];
  return done.state ? &*done.state : nullptr;
}

void Legality::fill_mask(const ConstraintState& state, std::vector<uint64_t>* words) {
  const std::shared_ptr<const TokenMask> mask = request_->constraint->mask(state);
  copy_mask(*request_, *mask, request_->constraint->accepting(state), vocab_size_, words);
}

}  // namespace decant
