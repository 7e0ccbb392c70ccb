// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "constrain/text_slices.h"

#include <algorithm>
#include <string>
#include <string_view>

#include "text/unicode.h"

namespace decant {

std::vector<TextSlice> make_text_slices(const TokenTrie& trie) {
  constexpr std::string_view kDigits = "0123456789", kLower = "abcdefghijklmnopqrstuvwxyz",
                             kUpper = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
  std::string all, line, quotable;
  for (char c = 0; c >= 0 && c < 127; ++c) {
    all += c;
    if (c != '\n' && c != '\r' && c != '\v' && c != '\f') line += c;
    if (c >= ' ' && c != '"' && c != '\\') quotable += c;
  }
  all += '\x7F';
  line += '\x7F';
  const auto join = [](std::initializer_list<std::string_view> parts) {
    std::string text;
    for (const std::string_view p : parts) text += p;
    return text;
  };
  // Free text, lines, what stands between quotes, and what identifiers, paths and words are made of.
  const std::pair<std::string, bool> sets[] = {{all, true},
                                               {line, true},
                                               {quotable, true},
                                               {quotable, false},
                                               {join({kDigits, kLower, kUpper, "_-./:"}), false},
                                               {join({kDigits, kLower, kUpper, "_"}), false},
                                               {join({kDigits, kLower, kUpper}), false},
                                               {join({kDigits, kLower}), false},
                                               {join({kLower, kUpper}), false}};
  std::vector<TextSlice> slices;
  for (const auto& [chars, beyond] : sets) {
    TextSlice slice{.ascii = {}, .beyond = beyond, .longest = 0, .mask = TokenMask(trie.vocab_size()), .rest = nullptr};
    for (const char c : chars) slice.ascii[static_cast<size_t>(c)] = true;
    for (TokenId t = 0; t < trie.vocab_size(); ++t) {
      const std::string_view text = trie.bytes_of(t);
      const size_t whole = text.size() - incomplete_utf8_suffix(text);
      bool inside = !text.empty() && (beyond || whole == text.size());
      int32_t length = whole < text.size() ? 1 : 0;
      for (size_t at = 0; at < whole && inside; ++length) {
        const Utf8Char c = decode_utf8(text.substr(at));
        inside = c.valid && (c.code < 128 ? slice.ascii[c.code] : beyond);
        at += c.size;
      }
      if (!inside) continue;
      slice.mask.set(t);
      slice.longest = std::max(slice.longest, length);
    }
    TokenMask rest(trie.vocab_size());
    for (TokenId t = 0; t < trie.vocab_size(); ++t) {
      if (!slice.mask.test(t)) rest.set(t);
    }
    slice.rest = std::make_unique<TokenTrie>(trie, rest);
    slices.push_back(std::move(slice));
  }
  return slices;
}

}  // namespace decant
