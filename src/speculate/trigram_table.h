// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// What follows two tokens, with weights: counted in a corpus, or raised when it comes (ADED, Adaptix).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/status.h"
#include "engine/token_tree.h"
#include "speculate/datastore_file.h"

namespace decant {

class TrigramTable {
 public:
  struct Successor {
    TokenId token;
    float weight;
    bool operator==(const Successor&) const = default;
  };
  // Heaviest first, then by token.
  using Row = std::vector<Successor>;

  // count(a, b, c) / count(a, b, anything) of a corpus, the `top` heaviest of each two tokens. No document's tokens
  // count together with the next one's.
  static TrigramTable from_corpus(const Datastore& corpus, int top);

  // Empty if nothing is known. Valid until the table changes.
  std::span<const Successor> row(TokenId a, TokenId b) const;
  float weight(TokenId a, TokenId b, TokenId c) const;
  // Adds to a weight, up to `cap`.
  void raise(TokenId a, TokenId b, TokenId c, float step, float cap);
  // Takes the place of what is there.
  void set_row(TokenId a, TokenId b, Row row);
  bool empty() const { return rows_.empty(); }
  size_t rows() const { return rows_.size(); }
  size_t bytes() const;

  // Rows in ascending order: a, b, number of successors, then token and weight of each.
  std::vector<uint32_t> words() const;
  // kCorrupt for words that words() does not make of tokens below `vocab_size`; `path` is for the message.
  static Result<TrigramTable> from_words(std::span<const uint32_t> words, int vocab_size, const std::string& path);

 private:
  struct Hash {
    size_t operator()(uint64_t key) const { return static_cast<size_t>((key ^ key >> 29) * 0x9E3779B97F4A7C15u >> 16); }
  };
  static uint64_t key(TokenId a, TokenId b) {
    return static_cast<uint64_t>(static_cast<uint32_t>(a)) << 32 | static_cast<uint32_t>(b);
  }
  std::unordered_map<uint64_t, Row, Hash> rows_;
};

// A table that learns over one that does not change: rows that have changed are here.
class AdaptiveTrigrams {
 public:
  explicit AdaptiveTrigrams(std::shared_ptr<const TrigramTable> base) : base_(std::move(base)) {}
  std::span<const TrigramTable::Successor> row(TokenId a, TokenId b) const;
  float weight(TokenId a, TokenId b, TokenId c) const;
  void raise(TokenId a, TokenId b, TokenId c, float step, float cap);
  // raise() for every three tokens in a row of `text`.
  void raise_all(std::span<const TokenId> text, float step, float cap);
  const TrigramTable& changed() const { return changed_; }
  void load(TrigramTable changed) { changed_ = std::move(changed); }
  size_t bytes() const { return changed_.bytes(); }

 private:
  std::shared_ptr<const TrigramTable> base_;  // may be null
  TrigramTable changed_;
};

}  // namespace decant
