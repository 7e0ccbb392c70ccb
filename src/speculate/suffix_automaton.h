// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Suffix automaton of a growing text (Blumer et al. 1985): one state for each set of substrings that end at the same
// places. Appending takes constant time on average, and so does following another text through it.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/token_tree.h"

namespace decant {

class SuffixAutomaton {
 public:
  static constexpr int kRootState = 0;  // of the empty string
  static constexpr int kNone = -1;

  // The longest substring of the automaton's text that some text ends with.
  struct Match {
    int32_t state = kRootState;
    int32_t length = 0;
  };
  // The tokens that followed a state's substrings, each once, the latest first; of many the latest few.
  static constexpr int kFollowers = 4;
  struct Follow {
    std::array<TokenId, kFollowers> tokens;
    int count = 0;
    int run = 0;  // times in a row that the first did
  };

  SuffixAutomaton();
  void append(TokenId token);
  void append(std::span<const TokenId> tokens) {
    for (const TokenId t : tokens) append(t);
  }
  // Nothing matches across it.
  void separate();

  std::span<const TokenId> text() const { return text_; }
  int size() const { return static_cast<int>(text_.size()); }

  // The longest suffix of the text that also occurs further up.
  Match suffix() const;
  // Of the text behind `match` with this token.
  Match advance(Match match, TokenId token) const;
  // The longest proper suffix that occurs at more places; length 0: none.
  Match shorter(Match match) const;
  Follow follow(int32_t state) const;
  size_t bytes() const;

 private:
  struct State {
    int32_t length = 0;    // of its longest substring
    int32_t link = kNone;  // the state of the longest suffix that ends at more places
    int32_t edges = kNone;
    // Ends of the latest occurrences that have different tokens behind them, latest first. Not those at the text's end.
    std::array<int32_t, kFollowers> ends = {kNone, kNone, kNone, kNone};
    int32_t run = 0;
  };
  struct Edge {
    int32_t state, token, target, next;
  };
  int32_t find(int32_t state, TokenId token) const;  // an edge or kNone
  size_t slot(int32_t state, TokenId token) const;
  void connect(int32_t state, TokenId token, int32_t target);
  int32_t clone(int32_t state);
  void grow();
  // The text's suffixes, which end at `end`, are followed by `token`.
  void follow_up(int32_t end, TokenId token);

  std::vector<TokenId> text_;
  std::vector<State> states_;
  std::vector<Edge> edges_;
  std::vector<int32_t> table_;  // edges by state and token, open addressing
  int32_t last_ = kRootState;   // the state of the whole text
};

}  // namespace decant
