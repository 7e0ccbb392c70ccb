// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Retrieval: what followed the last tokens of a text before, in the text itself (prompt lookup) and in a datastore
// (REST), as a tree of continuations.
#pragma once

#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "engine/token_tree.h"
#include "speculate/datastore_file.h"

namespace decant {

struct RetrievalOptions {
  int longest = 8, shortest = 2;  // matches in the text itself
  int occurrences = 8;            // of the longest match in the text, latest first
  int samples = 128;              // occurrences in the datastore that are looked at
};

class Retrieval {
 public:
  // Evidence of its guesses: kEvidence numbers from kEvidence on; drafters that fuse have the ones below.
  static constexpr uint16_t kEvidence = 64;

  // `corpus` may be null.
  Retrieval(const RetrievalOptions& options, std::shared_ptr<const Datastore> corpus)
      : options_(options), corpus_(std::move(corpus)) {}

  std::span<const TokenId> text() const { return text_; }
  void append(std::span<const TokenId> tokens);
  // Appends what `text` has more.
  void catch_up(std::span<const TokenId> text);
  // Adds what followed the longest matches of the text's end, until the tree is full: a trie, a node's estimate the
  // share of its parent's occurrences that go through it.
  void find(TokenTree* tree);

 private:
  int match();
  int common(int32_t end) const;
  void add_own(int length, TokenTree* tree);
  uint64_t key(int32_t end) const {
    return static_cast<uint64_t>(static_cast<uint32_t>(text_[static_cast<size_t>(end) - 1])) << 32 |
           static_cast<uint32_t>(text_[static_cast<size_t>(end)]);
  }

  RetrievalOptions options_;
  std::shared_ptr<const Datastore> corpus_;
  std::vector<TokenId> text_;
  std::vector<int32_t> previous_;  // end of the previous place with the two tokens that end here
  std::unordered_map<uint64_t, int32_t> last_;
  std::vector<int32_t> ends_;  // of the matches of the last find()
};

}  // namespace decant
