// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// A vocabulary seen from within a JSON string: which tokens stay in it, by their length in characters, and which end
// it, by what they go on with behind the quote. Made once for a vocabulary and shared by all constraints.
#pragma once

#include <array>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "constrain/text_slices.h"
#include "constrain/token_trie.h"

namespace decant {

class JsonVocabulary {
 public:
  explicit JsonVocabulary(std::shared_ptr<const TokenTrie> trie);

  const TokenTrie& trie() const { return *trie_; }
  const std::shared_ptr<const TokenTrie>& shared_trie() const { return trie_; }

  // Tokens that stay in a string that takes `length` more characters (a character that is begun counts), any at all if
  // it is negative.
  const TokenMask& inside(int64_t length) const {
    return length < 0 || length >= static_cast<int64_t>(inside_.size()) ? inside_.back()
                                                                        : inside_[static_cast<size_t>(length)];
  }

  // Tokens that end the string: so many characters, the quote, and a tail. Those with an escape before the quote are in
  // escaped() instead.
  struct Ending {
    TokenId token;
    int32_t length;
  };
  struct Tail {
    uint32_t first, last;  // in endings()
    bool plain;            // it ends no container, and of strings and members no more than begin
  };
  const TokenTrie& tail_trie() const { return *tail_trie_; }  // "token" i is tail i + 1; tail 0 is the empty one
  const std::vector<Tail>& tails() const { return tails_; }
  const std::vector<Ending>& endings() const { return endings_; }
  const std::vector<TokenId>& escaped() const { return escaped_; }
  // The same endings() by their text before the quote, in depth-first order; the first node is for no text.
  struct EndingNode {
    uint32_t end;  // behind the subtree
    uint8_t byte;
    uint32_t first, last;  // in ending_tokens()
  };
  struct EndingToken {
    TokenId token;
    uint32_t tail;  // in tails()
  };
  const std::vector<EndingNode>& ending_nodes() const { return ending_nodes_; }
  const std::vector<EndingToken>& ending_tokens() const { return ending_tokens_; }

  // Tokens of whole characters of these sets alone; each token is in the first class that has it.
  struct TokenClass {
    std::array<bool, 128> ascii;
    bool beyond;  // and characters beyond ASCII,
    bool spaces;  // those too that regular expressions tell apart: white space and ends of lines
    TokenMask mask;
    std::unique_ptr<TokenTrie> trie;
    std::vector<TokenId> longest_first;
    std::vector<uint32_t> longer;  // by length in characters: how many are longer
  };
  static constexpr size_t kMaxClasses = 8;
  static constexpr std::pair<uint32_t, uint32_t> kSpaces[] = {{0x85, 0x85},     {0xA0, 0xA0},     {0x1680, 0x1680},
                                                              {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F},
                                                              {0x205F, 0x205F}, {0x3000, 0x3000}, {0xFEFF, 0xFEFF}};
  const std::vector<TokenClass>& classes() const { return classes_; }
  // All others that a string may take but endings(): those with an escape or a part of a character.
  const TokenTrie& odd_trie() const { return *odd_trie_; }
  // The same vocabulary seen from text that is no JSON; made when it is first asked for.
  const std::vector<TextSlice>& text_slices() const {
    std::call_once(text_slices_made_, [this] { text_slices_ = make_text_slices(*trie_); });
    return text_slices_;
  }
  size_t bytes() const;

 private:
  void make_classes(const TokenMask& possible);
  void make_ending_nodes();

  std::shared_ptr<const TokenTrie> trie_;
  std::vector<TokenMask> inside_;  // by length; the last has all
  std::unique_ptr<TokenTrie> tail_trie_;
  std::vector<Tail> tails_;
  std::vector<Ending> endings_;
  std::vector<TokenId> escaped_;
  std::vector<EndingNode> ending_nodes_;
  std::vector<EndingToken> ending_tokens_;
  std::vector<TokenClass> classes_;
  std::unique_ptr<TokenTrie> odd_trie_;
  mutable std::once_flag text_slices_made_;
  mutable std::vector<TextSlice> text_slices_;
};

}  // namespace decant
