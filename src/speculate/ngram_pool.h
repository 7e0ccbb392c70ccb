// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// N-grams by their first token, the latest few of each. Of first tokens, those that were longest without a new n-gram
// go when there are too many.
#pragma once

#include <cstdint>
#include <list>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/status.h"
#include "engine/token_tree.h"

namespace decant {

class NgramPool {
 public:
  // n-grams of `n` >= 2 tokens, the latest `kept` of each first token, of which there are at most `most`.
  NgramPool(int n, int kept, size_t most) : n_(n), kept_(static_cast<size_t>(kept)), most_(most) {}
  NgramPool(const NgramPool& other);
  NgramPool(NgramPool&&) = default;
  NgramPool& operator=(const NgramPool&) = delete;
  NgramPool& operator=(NgramPool&&) = default;

  // Of n tokens. One that is there becomes the latest.
  void insert(std::span<const TokenId> ngram);
  // What follows `first`: n - 1 tokens each, the latest first.
  void find(TokenId first, std::vector<std::vector<TokenId>>* rests) const;
  size_t first_tokens() const { return entries_.size(); }
  size_t bytes() const;

  // n, then the n-grams, oldest first.
  std::vector<uint32_t> words() const;
  // kCorrupt, or kInvalidArgument for n-grams of another length; `path` is for the message.
  Status load(std::span<const uint32_t> words, int vocab_size, const std::string& path);

 private:
  struct Entry {
    std::vector<std::vector<TokenId>> rests;  // oldest first
    std::list<TokenId>::iterator age;
  };
  int n_;
  size_t kept_, most_;
  std::unordered_map<TokenId, Entry> entries_;
  std::list<TokenId> ages_;  // first tokens, oldest first
};

}  // namespace decant
