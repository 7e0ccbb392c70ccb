// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Rows of texts that were processed before, for texts that begin alike: a radix tree over token ids, whose nodes hold
// sequences of the KV cache that share their pages. Rows are found at any length, not at page borders alone.
//
// Guarantee: exact. A row's numbers depend on its tokens, the model and its overlays alone (kernels/table.h), so a row
// that is found has the bits of one that is computed. `space` names what else they depend on: texts of different spaces
// never share.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "cache/kv_cache.h"

namespace decant {

class PrefixCache {
 public:
  // `cache` must outlive it.
  explicit PrefixCache(KvCache& cache) : cache_(cache) {}
  PrefixCache(const PrefixCache&) = delete;
  PrefixCache& operator=(const PrefixCache&) = delete;
  ~PrefixCache() { clear(); }

  struct Match {
    SequenceId sequence = -1;  // the caller's, to be removed by it; -1: nothing was found
    int length = 0;            // rows that it holds
  };
  // A new sequence with the rows of the longest known beginning of `tokens`.
  Match take(std::span<const int32_t> tokens, uint64_t space = 0);
  // How long that beginning is. Counts as no use.
  int known(std::span<const int32_t> tokens, uint64_t space = 0) const;

  // Keeps the rows of `tokens`, the first that `sequence` holds. kInvalidArgument if it holds fewer.
  Status put(std::span<const int32_t> tokens, SequenceId sequence, uint64_t space = 0);

  // Forgets the end that was used longest ago; false if there is none. Its pages become free unless a sequence or
  // another node shares them.
  bool evict();
  void clear();

  int64_t tokens() const { return tokens_; }  // that are kept, each once
  int64_t nodes() const { return nodes_; }

 private:
  struct Node {
    Node* parent = nullptr;
    std::vector<int32_t> edge;  // tokens between the parent's end and this one's
    int length = 0;             // tokens from the root to the end
    SequenceId sequence = -1;   // holds that many rows; -1 at the root
    uint64_t used = 0;
    std::map<int32_t, std::unique_ptr<Node>> children;  // by their edge's first token
  };
  // The deepest node whose path `tokens` begins with, and how many tokens of one of its edges match beyond it.
  struct Place {
    Node* node;
    Node* next;  // child whose edge begins to match; null: none does
    int beyond;
  };
  Place find(Node* root, std::span<const int32_t> tokens) const;
  Node* split(Node* child, int at);
  void touch(Node* node);
  bool is_leaf(const Node* node) const { return node->children.empty() && node->parent != nullptr; }

  KvCache& cache_;
  std::map<uint64_t, std::unique_ptr<Node>> roots_;
  std::set<std::pair<uint64_t, Node*>> leaves_;  // by last use
  uint64_t clock_ = 0;
  int64_t tokens_ = 0, nodes_ = 0;
};

}  // namespace decant
