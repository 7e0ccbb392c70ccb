// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Guesses of what comes next, as a tree under the last token of a text (the root, which is no node). A node's parent
// comes before it. Siblings have different tokens; a token that was drawn twice is one node that was proposed twice.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "sample/sampler.h"

namespace decant {

using TokenId = int32_t;

inline constexpr int kRoot = -1;     // as a parent: the last token of the text
inline constexpr int kRefused = -2;  // TokenTree::add: the token may not come there, or the tree is full

// How the proposals of one parent came about; a verifier must know.
enum class Proposal : uint8_t {
  kPoint,               // chosen by a rule: tokens that depend on the text and on nothing else
  kIid,                 // drawn independently from the parent's draft distribution, repeats included
  kWithoutReplacement,  // drawn one after the other from what is left of it
};

struct TokenNode {
  TokenId token = -1;
  int32_t parent = kRoot;
  int32_t depth = 1;  // 1: a child of the root
  // What the drafter thinks: the probability that the token is kept if its parent is, and that it is kept at all.
  float probability = 1;
  float reach = 1;
  // What the guess rests on, in the drafter's own numbering (0 to 127): guesses of equal evidence are kept
  // about equally often, which the loop measures (engine/acceptance.h).
  uint16_t evidence = 0;
  int32_t first_child = kRefused, last_child = kRefused, next_sibling = kRefused;
};

// Which tokens may come behind a node; says it to the tree and to drafters that want to know before they choose.
class TokenFilter {
 public:
  virtual ~TokenFilter() = default;
  // A bit for each token of the model's vocabulary, 64 in a word; empty: all. Valid until the tree changes.
  virtual std::span<const uint64_t> allowed(int parent) = 0;
  // A node was added.
  virtual void added(int node) = 0;
};

class TokenTree {
 public:
  static constexpr int kEvidence = 512;
  static constexpr int kMaxNodes = 1024;

  // Forgets all. At most `max_nodes` come, none deeper than `max_depth`, tokens below `vocab_size` only. `filter` may
  // be null; it must live as long as nodes are added.
  void reset(int max_nodes, int max_depth, int vocab_size = INT32_MAX, TokenFilter* filter = nullptr);

  // The child of `parent` with this token, new or there already (then the likelier estimate stays); kRefused if there
  // may be none.
  int add(int parent, TokenId token, float probability, uint16_t evidence = 0);
  // Says what the proposals of `parent` are draws of: `row`, ascending by token, log-probabilities that add up to 1.
  // To be called before the first propose(). kPoint where it was not called.
  void set_draft(int parent, Proposal kind, std::vector<TokenLogprob> row);
  // add(), as the next draw of the parent's row. A token that may not come there was drawn all the same: the verifier
  // hears of it and rejects it. A full tree takes no draw, not even of a token that it has: whether a draw counts must
  // not depend on what was drawn.
  int propose(int parent, TokenId token, float probability, uint16_t evidence = 0);

  // The child with this token, or kRefused.
  int child(int parent, TokenId token) const;
  // Of the draws of `parent`, in order, the nodes; its children in order of their addition where it has no draws.
  std::vector<int> proposals(int parent) const;
  // Their tokens, and those of draws that have no node because they may not come there.
  std::vector<TokenId> proposed_tokens(int parent) const;
  Proposal kind(int parent) const;
  std::span<const TokenLogprob> draft(int parent) const;  // empty for kPoint

  std::span<const TokenNode> nodes() const { return nodes_; }
  const TokenNode& node(int i) const { return nodes_[static_cast<size_t>(i)]; }
  int size() const { return static_cast<int>(nodes_.size()); }
  bool empty() const { return nodes_.empty(); }
  bool full() const { return size() >= max_nodes_; }
  int room() const { return max_nodes_ - size(); }
  int max_depth() const { return max_depth_; }
  int depth(int parent) const { return parent == kRoot ? 0 : node(parent).depth; }
  float reach(int parent) const { return parent == kRoot ? 1 : node(parent).reach; }
  int first_child(int parent) const { return parent == kRoot ? first_ : node(parent).first_child; }
  // Tokens from the root to the node, without the root.
  void path(int node, std::vector<TokenId>* tokens) const;
  // Mask of what may follow; empty: everything.
  std::span<const uint64_t> allowed(int parent) const {
    return filter_ != nullptr ? filter_->allowed(parent) : std::span<const uint64_t>();
  }

  // What add() adds to evidence numbers: several drafters on one tree keep theirs apart.
  void set_evidence_base(uint16_t base) { evidence_base_ = base; }
  uint16_t evidence_base() const { return evidence_base_; }
  // Lets more nodes come.
  void raise(int max_nodes) { max_nodes_ = max_nodes; }

  // Replaces every node's estimate and computes reach anew; probabilities[i] of node i.
  void estimate(std::span<const float> probabilities);
  // Becomes the nodes of `from` listed in `nodes` (ascending, closed under parents), as points.
  void select(const TokenTree& from, std::span<const int> nodes);
  // Only the children of the root stay, as the draws that they are. `kept`: what their numbers were.
  void cut_to_root(std::vector<int>* kept);

 private:
  struct Draws {
    int parent;
    Proposal kind;
    std::vector<TokenLogprob> row;
    std::vector<int> nodes;
    std::vector<TokenId> tokens;  // of the nodes, and of draws that have none
  };
  const Draws* draws_of(int parent) const;
  Draws* draws_of(int parent);

  std::vector<TokenNode> nodes_;
  std::vector<Draws> draws_;
  TokenFilter* filter_ = nullptr;
  int max_nodes_ = 0, max_depth_ = 0, vocab_size_ = 0;
  uint16_t evidence_base_ = 0;
  int32_t first_ = kRefused, last_ = kRefused;  // children of the root
};

}  // namespace decant
