// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// A vocabulary's tokens by their bytes, as one array in depth-first order: a walk that refuses a byte jumps over all
// tokens that continue with it. And sets of tokens.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"

namespace decant {

// One bit a token.
class TokenMask {
 public:
  TokenMask() = default;
  explicit TokenMask(int vocab_size) : words_((static_cast<size_t>(vocab_size) + 63) / 64), size_(vocab_size) {}

  int vocab_size() const { return size_; }
  bool test(TokenId token) const { return (words_[static_cast<size_t>(token) >> 6] >> (token & 63) & 1) != 0; }
  void set(TokenId token) { words_[static_cast<size_t>(token) >> 6] |= uint64_t{1} << (token & 63); }
  void reset(TokenId token) { words_[static_cast<size_t>(token) >> 6] &= ~(uint64_t{1} << (token & 63)); }
  void clear() { std::fill(words_.begin(), words_.end(), 0); }
  TokenMask& operator|=(const TokenMask& other) {
    for (size_t i = 0; i < words_.size(); ++i) words_[i] |= other.words_[i];
    return *this;
  }
  // Sets those that both `a` and `b` have.
  void add_common(const TokenMask& a, const TokenMask& b) {
    for (size_t i = 0; i < words_.size(); ++i) words_[i] |= a.words_[i] & b.words_[i];
  }
  TokenMask& operator&=(const TokenMask& other) {
    for (size_t i = 0; i < words_.size(); ++i) words_[i] &= other.words_[i];
    return *this;
  }
  int64_t count() const;
  TokenId first() const;  // -1 if there is none
  bool operator==(const TokenMask&) const = default;
  std::span<const uint64_t> words() const { return words_; }

 private:
  std::vector<uint64_t> words_;
  int size_ = 0;
};

class TokenTrie {
 public:
  // Tokens that stand for text; control tokens are in no mask but where a constraint asks for an end.
  explicit TokenTrie(const Tokenizer& tokenizer);
  // Token i stands for texts[i]; "" for none.
  explicit TokenTrie(const std::vector<std::string_view>& texts);
  // Of `whole`, the tokens that `mask` has.
  TokenTrie(const TokenTrie& whole, const TokenMask& mask);

  struct Node {
    uint32_t end;   // behind the subtree
    TokenId token;  // -1: none ends here
    uint8_t byte;
    uint8_t more;    // other tokens of the same bytes follow in aliases()
    uint8_t height;  // bytes on the longest way below it; 255: that many or more
  };
  std::span<const Node> nodes() const { return nodes_; }
  int vocab_size() const { return vocab_size_; }
  int height() const { return height_; }  // bytes of the longest token
  std::string_view bytes_of(TokenId token) const { return (*texts_)[static_cast<size_t>(token)]; }
  // The first node of each byte, or nodes().size().
  uint32_t root(uint8_t byte) const { return roots_[byte]; }
  // Sets or resets the token that ends at the node, and those of the same bytes.
  void add_to(const Node& node, TokenMask* mask) const {
    for_each(node, [&](TokenId t) { mask->set(t); });
  }
  void remove_from(const Node& node, TokenMask* mask) const {
    for_each(node, [&](TokenId t) { mask->reset(t); });
  }
  // The node where `text` ends; nodes().size() if no token begins so.
  uint32_t find(std::string_view text) const;
  // The longest token that `text` begins with; -1 for none.
  TokenId longest_prefix(std::string_view text) const;
  size_t bytes() const;

 private:
  void build(const TokenMask* only);
  template <typename Use>
  void for_each(const Node& node, const Use& use) const {
    if (node.token < 0) return;
    use(node.token);
    for (TokenId t = node.more != 0 ? aliases_[static_cast<size_t>(node.token)] : -1; t >= 0;
         t = aliases_[static_cast<size_t>(t)]) {
      use(t);
    }
  }

  int vocab_size_ = 0, height_ = 0;
  std::shared_ptr<const std::vector<std::string>> texts_;
  std::array<uint32_t, 256> roots_{};
  std::vector<Node> nodes_;
  std::vector<TokenId> aliases_;  // the next token of the same bytes, or -1
};

}  // namespace decant
