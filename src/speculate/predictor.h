// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Predictor: what does a draft model say behind the nodes of a tree? It keeps a sequence of its own in an engine of its
// own, one step behind the text; nodes that were run and then kept need not be run again.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "engine/drafter.h"
#include "engine/engine.h"

namespace decant {

class VocabularyMap;

class Predictor {
 public:
  // The engine is shared; only one predictor steps at a time. `map` translates token ids.
  Predictor(std::shared_ptr<Engine> engine, std::shared_ptr<const VocabularyMap> map);
  ~Predictor();
  Predictor(const Predictor&) = delete;
  Predictor& operator=(const Predictor&) = delete;

  // Runs what of `tokens` is not yet in the sequence; logits() of kRoot is then there. kExhausted if the draft model's
  // context is full. Pending nodes of the step before are forgotten but for those that commit() kept.
  Status start(std::span<const TokenId> tokens);
  // Runs these nodes of the tree in one step, whose parents were run before (or are the root).
  Status run(const TokenTree& tree, std::span<const int> nodes);
  // The target's vocabulary: [vocab_size]; -infinity for tokens that the draft model does not have.
  std::span<const float> logits(int node) const;
  bool has(int node) const;
  // The text went on with these tokens: rows of nodes on that way stay.
  Status commit(std::span<const TokenId> fresh);

  double seconds() const { return seconds_; }  // of the last start() or run()

 private:
  struct Run {
    int node;
    TokenId token;
    int parent;  // index of this list, kRoot
  };
  int index_of(int node) const;

  std::shared_ptr<Engine> engine_;
  std::shared_ptr<const VocabularyMap> map_;
  SequenceId sequence_ = -1;
  std::vector<Run> runs_;                   // pending rows, in order
  std::vector<std::vector<float>> logits_;  // of the root, then of each run
  std::vector<TokenId> fed_;                // the text that the sequence holds, in the target's ids
  std::vector<TokenId> slice_;
  std::vector<int32_t> parents_, path_;
  StepOutput output_;
  double seconds_ = 0;
};

}  // namespace decant
