// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Which nodes of a draft tree may come at all.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "constrain/constraint.h"
#include "engine/generate.h"
#include "engine/token_tree.h"

namespace decant {

// What may come behind the nodes of a tree: nothing behind an end token, and what the constraint allows. States and
// masks are made when somebody asks.
class Legality final : public TokenFilter {
 public:
  // `root`, `mask`: the constraint's state at the root and what it allows; not read without one.
  void start(const GenerateRequest& request, size_t vocab_size, const ConstraintState& root,
             std::span<const uint64_t> mask, const TokenTree& tree);
  void added(int) override { nodes_.emplace_back(); }
  std::span<const uint64_t> allowed(int parent) override;
  // The only token that may come behind a node where the text may not end; -1 if there is no such.
  TokenId forced(int node);
  // A mask over the model's vocabulary, which may be smaller than the tokenizer's or larger.
  static void copy_mask(const GenerateRequest& request, const TokenMask& tokens, bool may_end, size_t vocab_size,
                        std::vector<uint64_t>* words);

 private:
  struct Node {
    bool known = false;
    std::optional<ConstraintState> state;
    std::vector<uint64_t> mask;
  };
  bool is_end(int node) const;
  const ConstraintState* state(int node);
  void fill_mask(const ConstraintState& state, std::vector<uint64_t>* words);

  const GenerateRequest* request_ = nullptr;
  const TokenTree* tree_ = nullptr;
  ConstraintState root_;
  std::vector<uint64_t> root_mask_, nothing_;
  std::vector<Node> nodes_;
  size_t vocab_size_ = 0;
};

}  // namespace decant
