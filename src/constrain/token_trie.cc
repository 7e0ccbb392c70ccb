// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "constrain/token_trie.h"

#include <algorithm>
#include <bit>
#include <numeric>

namespace decant {

int64_t TokenMask::count() const {
  return std::accumulate(words_.begin(), words_.end(), int64_t{0},
                         [](int64_t n, uint64_t w) { return n + std::popcount(w); });
}

TokenId TokenMask::first() const {
  for (size_t w = 0; w < words_.size(); ++w) {
    if (words_[w] != 0) return static_cast<TokenId>(w * 64 + static_cast<size_t>(std::countr_zero(words_[w])));
  }
  return -1;
}

TokenTrie::TokenTrie(const Tokenizer& tokenizer) : vocab_size_(tokenizer.vocab_size()) {
  std::vector<std::string> texts(static_cast<size_t>(vocab_size_));
  for (TokenId t = 0; t < vocab_size_; ++t) {
    const TokenKind kind = tokenizer.kind(t);
    if (kind == TokenKind::kControl || kind == TokenKind::kUnknown || kind == TokenKind::kUnused || tokenizer.is_end(t))
      continue;
    texts[static_cast<size_t>(t)] = tokenizer.piece(t);
  }
  texts_ = std::make_shared<const std::vector<std::string>>(std::move(texts));
  build(nullptr);
}

TokenTrie::TokenTrie(const std::vector<std::string_view>& texts)
    : vocab_size_(static_cast<int>(texts.size())),
      texts_(std::make_shared<const std::vector<std::string>>(texts.begin(), texts.end())) {
  build(nullptr);
}

TokenTrie::TokenTrie(const TokenTrie& whole, const TokenMask& mask)
    : vocab_size_(whole.vocab_size_), texts_(whole.texts_) {
  build(&mask);
}

void TokenTrie::build(const TokenMask* only) {
  const std::vector<std::string>& texts = *texts_;
  std::vector<TokenId> order;
  for (TokenId t = 0; t < vocab_size_; ++t) {
    if (!texts[static_cast<size_t>(t)].empty() && (only == nullptr || only->test(t))) order.push_back(t);
  }
  std::sort(order.begin(), order.end(), [&](TokenId a, TokenId b) {
    const int c = texts[static_cast<size_t>(a)].compare(texts[static_cast<size_t>(b)]);
    return c != 0 ? c < 0 : a < b;
  });
  std::vector<uint32_t> path;  // the open nodes
  std::string_view last;
  for (const TokenId t : order) {
    const std::string_view text = texts[static_cast<size_t>(t)];
    if (text == last) {
      if (aliases_.empty()) aliases_.assign(texts.size(), -1);
      TokenId previous = nodes_[path.back()].token;
      nodes_[path.back()].more = 1;
      while (aliases_[static_cast<size_t>(previous)] >= 0) previous = aliases_[static_cast<size_t>(previous)];
      aliases_[static_cast<size_t>(previous)] = t;
      continue;
    }
    size_t common = 0;
    while (common < last.size() && common < text.size() && last[common] == text[common]) ++common;
    while (path.size() > common) {
      nodes_[path.back()].end = static_cast<uint32_t>(nodes_.size());
      path.pop_back();
    }
    for (size_t i = common; i < text.size(); ++i) {
      path.push_back(static_cast<uint32_t>(nodes_.size()));
      nodes_.push_back({.end = 0, .token = -1, .byte = static_cast<uint8_t>(text[i]), .more = 0, .height = 0});
    }
    nodes_[path.back()].token = t;
    height_ = std::max(height_, static_cast<int>(path.size()));
    for (size_t i = 0; i < path.size(); ++i) {
      Node& above = nodes_[path[i]];
      above.height = std::max(above.height, static_cast<uint8_t>(std::min<size_t>(path.size() - i - 1, 255)));
    }
    last = text;
  }
  for (const uint32_t open : path) nodes_[open].end = static_cast<uint32_t>(nodes_.size());
  nodes_.shrink_to_fit();
  roots_.fill(static_cast<uint32_t>(nodes_.size()));
  for (uint32_t i = 0; i < nodes_.size(); i = nodes_[i].end) roots_[nodes_[i].byte] = i;
}

uint32_t TokenTrie::find(std::string_view text) const {
  uint32_t begin = 0, end = static_cast<uint32_t>(nodes_.size()), at = end;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<uint8_t>(text[i]);
    at = i == 0 ? roots_[byte] : begin;
    while (i > 0 && at < end && nodes_[at].byte < byte) at = nodes_[at].end;
    if (at >= end || nodes_[at].byte != byte) return static_cast<uint32_t>(nodes_.size());
    begin = at + 1;
    end = nodes_[at].end;
  }
  return at;
}

TokenId TokenTrie::longest_prefix(std::string_view text) const {
  TokenId best = -1;
  uint32_t begin = 0, end = static_cast<uint32_t>(nodes_.size());
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<uint8_t>(text[i]);
    uint32_t at = i == 0 ? roots_[byte] : begin;
    while (i > 0 && at < end && nodes_[at].byte < byte) at = nodes_[at].end;
    if (at >= end || nodes_[at].byte != byte) break;
    if (nodes_[at].token >= 0) best = nodes_[at].token;
    begin = at + 1;
    end = nodes_[at].end;
  }
  return best;
}

size_t TokenTrie::bytes() const {
  size_t total = nodes_.capacity() * sizeof(Node) + aliases_.capacity() * sizeof(TokenId);
  for (const std::string& text : *texts_) total += sizeof(std::string) + (text.capacity() > 15 ? text.capacity() : 0);
  return total;
}

}  // namespace decant
