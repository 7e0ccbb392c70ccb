// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "text/token_table.h"

namespace decant {

// Finds written-out special tokens in text. The result is that of going through the tokens from the longest to the
// shortest and cutting each one out of what text is left, leftmost occurrence first (llama.cpp's partition), but in one
// pass over the text.
class SpecialTokens {
 public:
  struct Token {
    int32_t id;
    bool control;  // matched only inside the ranges that the caller names; others (user-defined) are matched everywhere
    bool strip_left = false;   // swallows the ASCII white space before it
    bool strip_right = false;  // and after it
    bool whole_word = false;   // only where no letter, digit or '_' is next to it (with `leftmost`)
  };
  struct Range {
    size_t begin, end;
  };
  struct Match {
    size_t begin, end;  // with the white space that the token swallows
    int32_t id;
  };

  // `tokens` in the order of their ids; texts are looked up in `texts`.
  void build(std::vector<Token> tokens, const StringTable& texts);
  bool empty() const { return tokens_.empty(); }

  // Matches in the order of the text. `control_ranges`: ascending and disjoint; a control token is matched if one of
  // them holds all of it.
  std::vector<Match> find(std::string_view text, std::span<const Range> control_ranges) const;
  // The same by Hugging Face tokenizers' rule: from left to right, the longest token at each place; white space that is
  // swallowed is Unicode's.
  std::vector<Match> find_leftmost(std::string_view text, std::span<const Range> control_ranges) const;

 private:
  struct Node {
    int32_t rank = -1;     // of the token that ends here
    int32_t shorter = -1;  // rank of the longest token that is a proper prefix of this node's string
  };
  bool allowed(int32_t rank, size_t begin, std::span<const Range> control_ranges) const;
  int32_t longest_at(std::string_view text, size_t begin) const;
  int32_t child(int32_t node, unsigned char byte) const;
  int32_t add_child(int32_t node, unsigned char byte);

  std::vector<Token> tokens_;  // by rank: longest first
  std::vector<uint32_t> sizes_;
  std::vector<int32_t> shorter_;  // by rank
  std::vector<Node> nodes_;
  int32_t root_[256] = {};
  struct Edge {
    uint64_t key = 0;  // node * 256 + byte + 1; 0: empty
    int32_t child = -1;
  };
  std::vector<Edge> edges_;
  size_t mask_ = 0, n_edges_ = 0;
};

}  // namespace decant
