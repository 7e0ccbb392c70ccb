// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// A vocabulary by the characters of its tokens: which tokens may come as a whole where a text goes on with any number
// of characters of a set, and a trie of all others, which alone need a walk.
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "constrain/token_trie.h"

namespace decant {

struct TextSlice {
  std::array<bool, 128> ascii;
  bool beyond;      // and all characters beyond ASCII; a token may end within one
  int32_t longest;  // in characters
  TokenMask mask;
  std::unique_ptr<TokenTrie> rest;
};

// The largest first.
std::vector<TextSlice> make_text_slices(const TokenTrie& trie);

}  // namespace decant
