// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// A language and a model for tries of alignment: any text of the tokens 0 to 3, all equally likely.
#pragma once

#include <cmath>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "constrain/alignment.h"

namespace decant::fuzz {

inline constexpr int kVocab = 5;

inline AlignmentKey alignment_key() { return {{{"grammar", "g"}}}; }

class Anything final : public Constraint {
 public:
  ConstraintState start() override { return {}; }
  std::shared_ptr<const TokenMask> mask(const ConstraintState&) override {
    auto mask = std::make_shared<TokenMask>(kVocab);
    for (int t = 0; t < kVocab - 1; ++t) mask->set(t);
    return mask;
  }
  Result<ConstraintState> advance(const ConstraintState& state, TokenId) override { return state; }
  std::optional<ConstraintState> step(const ConstraintState& state, uint8_t) override { return state; }
  bool accepting(const ConstraintState&) override { return true; }
  const TokenTrie& trie() const override { return trie_; }
  size_t bytes() const override { return 0; }

 private:
  TokenTrie trie_{std::vector<std::string_view>(kVocab)};
};

// Draws one text and adds what it saw.
inline void draw(AlignMode mode, double uniform, AlignmentTrie* trie) {
  Anything anything;
  const TokenId ends[] = {kVocab - 1};
  std::vector<TokenProbability> even;
  for (int t = 0; t < kVocab; ++t) even.push_back({t, 0.2});
  AlignmentWalk walk(*trie, anything, ends, 8, mode);
  while (walk.state() == AlignmentWalk::State::kOpen) {
    DECANT_CHECK(walk.step(walk.needs_row() ? walk.row(even) : AlignmentRow(), uniform).ok());
    uniform = std::fmod(uniform * 7.3 + 0.11, 1);
  }
  DECANT_CHECK(!std::isnan(walk.log_p()) && !std::isnan(walk.log_q()));
  trie->merge(walk);
}

}  // namespace decant::fuzz
