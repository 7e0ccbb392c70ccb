// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "cache/prefix_cache.h"

#include <algorithm>

namespace decant {

PrefixCache::Place PrefixCache::find(Node* root, std::span<const int32_t> tokens) const {
  Node* node = root;
  while (true) {
    const std::span<const int32_t> rest = tokens.subspan(static_cast<size_t>(node->length));
    if (rest.empty()) return {node, nullptr, 0};
    const auto child = node->children.find(rest[0]);
    if (child == node->children.end()) return {node, nullptr, 0};
    Node* next = child->second.get();
    const auto [edge, text] = std::mismatch(next->edge.begin(), next->edge.end(), rest.begin(), rest.end());
    static_cast<void>(text);
    if (edge != next->edge.end()) return {node, next, static_cast<int>(edge - next->edge.begin())};
    node = next;
  }
}

// Marks the way to `node` as used: ends that many texts go through stay longest.
void PrefixCache::touch(Node* node) {
  ++clock_;
  for (; node != nullptr && node->parent != nullptr; node = node->parent) {
    if (is_leaf(node)) {
      leaves_.erase({node->used, node});
      leaves_.insert({clock_, node});
    }
    node->used = clock_;
  }
}

PrefixCache::Match PrefixCache::take(std::span<const int32_t> tokens, uint64_t space) {
  const auto root = roots_.find(space);
  if (root == roots_.end()) return {};
  const Place place = find(root->second.get(), tokens);
  Node* holder = place.beyond > 0 ? place.next : place.node;
  const int length = place.node->length + place.beyond;
  if (length == 0) return {};
  Result<SequenceId> sequence = cache_.fork(holder->sequence, length);
  if (!sequence.ok()) return {};
  touch(holder);
  return {*sequence, length};
}

int PrefixCache::known(std::span<const int32_t> tokens, uint64_t space) const {
  const auto root = roots_.find(space);
  if (root == roots_.end()) return 0;
  const Place place = find(root->second.get(), tokens);
  return place.node->length + place.beyond;
}

// Makes a node in the middle of the child's edge, behind `at` tokens of it.
PrefixCache::Node* PrefixCache::split(Node* child, int at) {
  Node* parent = child->parent;
  Result<SequenceId> sequence = cache_.fork(child->sequence, parent->length + at);
  if (!sequence.ok()) return nullptr;
  auto middle = std::make_unique<Node>();
  middle->parent = parent;
  middle->edge.assign(child->edge.begin(), child->edge.begin() + at);
  middle->length = parent->length + at;
  middle->sequence = *sequence;
  middle->used = child->used;
  std::unique_ptr<Node>& place = parent->children[child->edge[0]];
  child->edge.erase(child->edge.begin(), child->edge.begin() + at);
  child->parent = middle.get();
  middle->children[child->edge[0]] = std::move(place);
  place = std::move(middle);
  ++nodes_;
  return place.get();
}

Status PrefixCache::put(std::span<const int32_t> tokens, SequenceId sequence, uint64_t space) {
  if (!cache_.exists(sequence) || cache_.length(sequence) < static_cast<int>(tokens.size())) {
    return Status::invalid_argument("a text of {} tokens: sequence {} does not hold as many", tokens.size(), sequence);
  }
  if (tokens.empty()) return {};
  std::unique_ptr<Node>& root = roots_[space];
  if (root == nullptr) root = std::make_unique<Node>();
  const Place place = find(root.get(), tokens);
  Node* node = place.node;
  const int known = node->length + place.beyond;
  if (known == static_cast<int>(tokens.size())) {
    touch(place.beyond > 0 ? place.next : node);
    return {};
  }
  DECANT_TRY(const SequenceId held, cache_.fork(sequence, static_cast<int>(tokens.size())));
  if (place.beyond > 0) {
    node = split(place.next, place.beyond);
    if (node == nullptr) {
      static_cast<void>(cache_.remove(held));
      return Status::internal("a prefix of {} tokens could not be shared", known);
    }
  } else if (is_leaf(node)) {
    leaves_.erase({node->used, node});
  }
  auto leaf = std::make_unique<Node>();
  leaf->parent = node;
  leaf->edge.assign(tokens.begin() + node->length, tokens.end());
  leaf->length = static_cast<int>(tokens.size());
  leaf->sequence = held;
  tokens_ += static_cast<int64_t>(leaf->edge.size());
  ++nodes_;
  Node* added = leaf.get();
  node->children[leaf->edge[0]] = std::move(leaf);
  leaves_.insert({added->used, added});
  touch(added);
  return {};
}

bool PrefixCache::evict() {
  if (leaves_.empty()) return false;
  Node* leaf = leaves_.begin()->second;
  leaves_.erase(leaves_.begin());
  static_cast<void>(cache_.remove(leaf->sequence));
  tokens_ -= static_cast<int64_t>(leaf->edge.size());
  --nodes_;
  Node* parent = leaf->parent;
  const int32_t first = leaf->edge[0];
  parent->children.erase(first);
  if (is_leaf(parent)) leaves_.insert({parent->used, parent});
  if (parent->parent == nullptr && parent->children.empty()) {
    std::erase_if(roots_, [&](const auto& root) { return root.second.get() == parent; });
  }
  return true;
}

void PrefixCache::clear() {
  while (evict()) {
  }
  roots_.clear();
}

}  // namespace decant
