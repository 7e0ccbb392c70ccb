// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "constrain/json_vocabulary.h"

#include <algorithm>
#include <map>
#include <string>

#include "constrain/char_cursor.h"

namespace decant {
JsonVocabulary::JsonVocabulary(std::shared_ptr<const TokenTrie> trie) : trie_(std::move(trie)) {
  std::map<std::string, std::vector<Ending>> by_tail;
  std::vector<std::pair<int32_t, TokenId>> lengths;
  int32_t longest = 0;
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
    Tail made{.first = static_cast<uint32_t>(endings_.size()), .last = 0, .all = TokenMask(trie_->vocab_size())};
    for (const Ending& e : list) made.all.set(e.token);
    endings_.insert(endings_.end(), list.begin(), list.end());
    made.last = static_cast<uint32_t>(endings_.size());
    tails_.push_back(std::move(made));
    if (!tail.empty()) tail_texts.push_back(tail);  // the empty one comes first
  }
  tail_trie_ = std::make_unique<TokenTrie>(tail_texts);
  make_slices();
}

void JsonVocabulary::make_slices() {
  constexpr std::string_view kDigits = "0123456789", kLower = "abcdefghijklmnopqrstuvwxyz",
                             kUpper = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
  std::string printable;
  for (char c = ' '; c <= '~'; ++c) {
    if (c != '"' && c != '\\') printable += c;
  }
  const auto join = [](std::initializer_list<std::string_view> parts) {
    std::string text;
    for (const std::string_view p : parts) text += p;
    return text;
  };
  // Characters that patterns of identifiers, paths and words are made of.
  const std::pair<std::string, bool> sets[] = {{printable, true},
                                               {printable, false},
                                               {join({kDigits, kLower, kUpper, "_-./:"}), false},
                                               {join({kDigits, kLower, kUpper, "_"}), false},
                                               {join({kDigits, kLower, kUpper}), false},
                                               {join({kDigits, kLower}), false},
                                               {join({kLower, kUpper}), false}};
  for (const auto& [chars, beyond] : sets) {
    Slice slice{.ascii = {}, .beyond = beyond, .longest = 0, .mask = TokenMask(trie_->vocab_size()), .rest = nullptr};
    for (const char c : chars) slice.ascii[static_cast<size_t>(c)] = true;
    for (TokenId t = 0; t < trie_->vocab_size(); ++t) {
      const std::string_view text = trie_->bytes_of(t);
      if (text.empty()) continue;
      CharCursor cursor;
      int32_t length = 0;
      bool inside = true;
      for (size_t i = 0; i < text.size() && inside; ++i) {
        switch (feed(&cursor, static_cast<uint8_t>(text[i]))) {
          case Fed::kChar:
            inside = cursor.code < 128 ? slice.ascii[cursor.code] : beyond;
            ++length;
            break;
          case Fed::kMore: inside = cursor.kind == CharCursor::Kind::kUtf8 && beyond; break;
          default: inside = false;
        }
      }
      if (!inside) continue;
      slice.mask.set(t);
      slice.longest = std::max(slice.longest, length + (cursor.kind == CharCursor::Kind::kBetween ? 0 : 1));
    }
    slice.rest = std::make_unique<TokenTrie>(*trie_, slice.mask);
    slices_.push_back(std::move(slice));
  }
}

size_t JsonVocabulary::bytes() const {
  const size_t mask = static_cast<size_t>(trie_->vocab_size()) / 8;
  size_t rest = 0;
  for (const Slice& s : slices_) rest += s.rest->nodes().size() * sizeof(TokenTrie::Node) + mask;
  return rest + trie_->bytes() + (inside_.size() + tails_.size()) * mask + endings_.size() * sizeof(Ending) +
         tail_trie_->bytes();
}

}  // namespace decant
