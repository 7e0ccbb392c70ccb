// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "constrain/json_vocabulary.h"

#include <algorithm>
#include <bitset>
#include <map>
#include <string>

#include "constrain/char_cursor.h"

namespace decant {
JsonVocabulary::JsonVocabulary(std::shared_ptr<const TokenTrie> trie) : trie_(std::move(trie)) {
  std::map<std::string, std::vector<Ending>> by_tail;
  std::vector<std::pair<int32_t, TokenId>> lengths;
  int32_t longest = 0;
  TokenMask possible(trie_->vocab_size());
  for (TokenId t = 0; t < trie_->vocab_size(); ++t) {
    const std::string_view text = trie_->bytes_of(t);
    if (text.empty()) continue;
    CharCursor cursor;
    int32_t length = 0;
    bool escapes = false, bad = false;
    size_t quote = std::string_view::npos;
    for (size_t i = 0; i < text.size() && !bad && quote == std::string_view::npos; ++i) {
      escapes = escapes || text[i] == '\\';
      switch (feed(&cursor, static_cast<uint8_t>(text[i]))) {
        case Fed::kBad: bad = true; break;
        case Fed::kQuote: quote = i; break;
        case Fed::kChar: ++length; break;
        case Fed::kMore: break;
      }
    }
    if (bad) continue;
    if (quote == std::string_view::npos || escapes) possible.set(t);
    if (quote == std::string_view::npos) {
      if (cursor.kind != CharCursor::Kind::kBetween) ++length;
      lengths.emplace_back(length, t);
      longest = std::max(longest, length);
    } else if (escapes) {
      escaped_.push_back(t);
    } else {
      by_tail[std::string(text.substr(quote + 1))].push_back({t, length});
    }
  }
  inside_.assign(static_cast<size_t>(longest) + 1, TokenMask(trie_->vocab_size()));
  for (const auto& [length, token] : lengths) {
    for (int32_t n = length; n <= longest; ++n) inside_[static_cast<size_t>(n)].set(token);
  }
  std::vector<std::string_view> tail_texts;
  by_tail.try_emplace("");
  for (auto& [tail, list] : by_tail) {
    Tail made{.first = static_cast<uint32_t>(endings_.size()),
              .last = 0,
              .plain = tail.find_first_of("]}") == std::string::npos &&
                       std::count(tail.begin(), tail.end(), '"') <= 1 &&
                       std::count(tail.begin(), tail.end(), ',') <= 1};
    endings_.insert(endings_.end(), list.begin(), list.end());
    made.last = static_cast<uint32_t>(endings_.size());
    tails_.push_back(made);
    if (!tail.empty()) tail_texts.push_back(tail);  // the empty one comes first
  }
  tail_trie_ = std::make_unique<TokenTrie>(tail_texts);
  make_classes(possible);
  make_ending_nodes();
}

void JsonVocabulary::make_classes(const TokenMask& possible) {
  constexpr std::string_view kLower = "abcdefghijklmnopqrstuvwxyz",
                             kLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ",
                             kText = " abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
  std::string printable;
  for (char c = ' '; c <= '~'; ++c) {
    if (c != '"' && c != '\\') printable += c;
  }
  // The smaller the set, the more languages take all of it.
  struct Set {
    std::string_view chars;
    bool beyond, spaces;
  };
  const Set sets[] = {{kLower, false, false},    {kLetters, false, false}, {kText, false, false},
                      {printable, false, false}, {"", true, false},        {kText, true, false},
                      {printable, true, false},  {printable, true, true}};
  static_assert(std::size(sets) <= kMaxClasses);
  for (const Set& set : sets) {
    classes_.push_back({.ascii = {},
                        .beyond = set.beyond,
                        .spaces = set.spaces,
                        .mask = TokenMask(trie_->vocab_size()),
                        .trie = nullptr});
    for (const char c : set.chars) classes_.back().ascii[static_cast<size_t>(c)] = true;
  }
  TokenMask odd(trie_->vocab_size());
  for (TokenId t = 0; t < trie_->vocab_size(); ++t) {
    if (!possible.test(t)) continue;
    std::bitset<128> ascii;
    bool beyond = false, spaces = false, whole = true;
    CharCursor cursor;
    for (const char c : trie_->bytes_of(t)) {
      const Fed fed = feed(&cursor, static_cast<uint8_t>(c));
      whole = whole && c != '\\' && (fed == Fed::kChar || fed == Fed::kMore);
      if (fed != Fed::kChar) continue;
      if (cursor.code < 128) {
        ascii.set(cursor.code);
      } else {
        beyond = true;
        spaces = spaces || std::any_of(std::begin(kSpaces), std::end(kSpaces), [&](const auto& range) {
                   return cursor.code >= range.first && cursor.code <= range.second;
                 });
      }
      cursor.code = 0;
    }
    whole = whole && cursor.kind == CharCursor::Kind::kBetween;
    const auto takes = [&](const TokenClass& k) {
      bool all = whole && (k.beyond || !beyond) && (k.spaces || !spaces);
      for (size_t c = 0; c < 128 && all; ++c) all = !ascii.test(c) || k.ascii[c];
      return all;
    };
    const auto it = std::find_if(classes_.begin(), classes_.end(), takes);
    (it != classes_.end() ? it->mask : odd).set(t);
  }
  for (TokenClass& k : classes_) {
    k.trie = std::make_unique<TokenTrie>(*trie_, k.mask);
    std::vector<std::vector<TokenId>> by_length;
    for (TokenId t = 0; t < trie_->vocab_size(); ++t) {
      if (!k.mask.test(t)) continue;
      const std::string_view text = trie_->bytes_of(t);
      const auto length =
          static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
      if (by_length.size() <= length) by_length.resize(length + 1);
      by_length[length].push_back(t);
    }
    k.longer.resize(by_length.size());
    for (size_t n = by_length.size(); n > 0; --n) {
      k.longer[n - 1] = static_cast<uint32_t>(k.longest_first.size());
      k.longest_first.insert(k.longest_first.end(), by_length[n - 1].begin(), by_length[n - 1].end());
    }
  }
  odd_trie_ = std::make_unique<TokenTrie>(*trie_, odd);
}

void JsonVocabulary::make_ending_nodes() {
  std::map<std::string, std::vector<EndingToken>> by_text;
  for (uint32_t tail = 0; tail < tails_.size(); ++tail) {
    for (uint32_t i = tails_[tail].first; i < tails_[tail].last; ++i) {
      const std::string_view text = trie_->bytes_of(endings_[i].token);
      by_text[std::string(text.substr(0, text.find('"')))].push_back({endings_[i].token, tail});
    }
  }
  ending_nodes_.push_back({.end = 0, .byte = 0, .first = 0, .last = 0});
  std::vector<size_t> path = {0};  // the open nodes
  std::string last;
  for (const auto& [text, tokens] : by_text) {
    size_t common = 0;
    while (common < last.size() && common < text.size() && last[common] == text[common]) ++common;
    while (path.size() > common + 1) {
      ending_nodes_[path.back()].end = static_cast<uint32_t>(ending_nodes_.size());
      path.pop_back();
    }
    for (size_t i = common; i < text.size(); ++i) {
      path.push_back(ending_nodes_.size());
      ending_nodes_.push_back({.end = 0, .byte = static_cast<uint8_t>(text[i]), .first = 0, .last = 0});
    }
    ending_nodes_[path.back()].first = static_cast<uint32_t>(ending_tokens_.size());
    ending_tokens_.insert(ending_tokens_.end(), tokens.begin(), tokens.end());
    ending_nodes_[path.back()].last = static_cast<uint32_t>(ending_tokens_.size());
    last = text;
  }
  for (const size_t open : path) ending_nodes_[open].end = static_cast<uint32_t>(ending_nodes_.size());
}

size_t JsonVocabulary::bytes() const {
  const size_t mask = static_cast<size_t>(trie_->vocab_size()) / 8;
  size_t rest = 0;
  for (const TokenClass& k : classes_) {
    rest += k.trie->nodes().size() * sizeof(TokenTrie::Node) + mask + k.longest_first.size() * sizeof(TokenId);
  }
  rest += odd_trie_->nodes().size() * sizeof(TokenTrie::Node);
  return rest + trie_->bytes() + inside_.size() * mask + endings_.size() * (sizeof(Ending) + sizeof(EndingToken)) +
         ending_nodes_.size() * sizeof(EndingNode) + tail_trie_->bytes();
}

}  // namespace decant
