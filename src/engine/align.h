// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Many answers to one prompt under a constraint, drawn with the bounds of constrain/alignment.h. The prompt is
// processed once; an answer shares what it has in common with the one before it, and no row of the model is computed
// again where the trie remembers its legal part.
//
//   DECANT_TRY(auto sampler, AlignedSampler::create(engine, request, {.mode = AlignMode::kExact}));
//   for (int i = 0; i < 100; ++i) {
//     DECANT_TRY(const AlignedSample sample, sampler->next());
//     ...
//   }
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "constrain/alignment.h"
#include "engine/generate.h"

namespace decant {

struct AlignOptions {
  AlignMode mode = AlignMode::kAsap;
  // Texts drawn side by side, from the same bounds; what they have seen is added when all are done. Changes which texts
  // come (bounds are older), not what is promised.
  int batch = 1;
  int64_t max_attempts = 10000;  // texts begun for one that is accepted
  size_t max_nodes = AlignmentTrie::kDefaultNodes;
  size_t row_bytes = size_t{256} << 20;  // of legal rows that are remembered
  // Fields of the key that the caller knows: what the tokenizer and the grammar are.
  std::vector<std::pair<std::string, std::string>> key;
  const std::atomic<bool>* cancel = nullptr;  // raised: kCancelled
};

struct AlignedSample {
  std::vector<TokenId> tokens;  // without the end token
  double log_p = 0;             // of the tokens and the end, under P
  double log_q = 0;             // of the attempt, under what it was drawn from
  int64_t attempts = 1;         // texts begun since the sample before, this one included
  int64_t steps = 0;            // rows that those texts needed
  int64_t forward_passes = 0;   // of these, computed by the model
  double log_c = 0;             // the root's bound afterwards: log P(language) is at most this
};

class AlignedSampler {
 public:
  // Of the request: prompt, sampler, max_tokens (the budget; -1: what the context leaves), overlays, end_tokens and
  // constraint; the rest must be as it is by default. The engine, the request's constraint and `options.cancel` must
  // outlive it; the engine's context has to hold the prompt and `batch` texts. kInvalidArgument for what has no
  // distribution to align (temperature 0), or none that is a function of the prefix (Mirostat, XTC).
  static Result<std::unique_ptr<AlignedSampler>> create(Engine& engine, const GenerateRequest& request,
                                                        const AlignOptions& options);
  ~AlignedSampler();
  AlignedSampler(const AlignedSampler&) = delete;
  AlignedSampler& operator=(const AlignedSampler&) = delete;

  int budget() const { return budget_; }
  const AlignmentTrie& trie() const { return trie_; }
  // Caller's fields, prompt, sampler, end tokens, budget, and the model as far as its first row tells models, adapters,
  // cache types and devices apart.
  const AlignmentKey& key() const { return key_; }

  // Goes on from a file of the same key. Before the first sample.
  Status load(const std::string& path);
  Status save(const std::string& path) const { return trie_.save(path, key_); }

  // kInvalidArgument once it is known that P(language) = 0, kExhausted after max_attempts, kCancelled, and what the
  // engine and the constraint fail with.
  Result<AlignedSample> next();
  // Looks at all prefixes of the language. kExhausted if more than `max_nodes` are needed.
  Status explore(size_t max_nodes);

 private:
  struct Runner;  // one text on its way
  class Rows;     // legal rows of nodes, least recently used first out

  AlignedSampler(Engine& engine, const GenerateRequest& request, const AlignOptions& options);
  Status start();
  Status read_prompt();
  void make_key();
  Status round(AlignMode mode, int batch);
  Status advance(Runner* runner, bool* waits);
  Status run_model(std::span<Runner* const> runners);
  Status take(Runner* runner, AlignmentRow row);
  Status distribution(std::span<const float> logits, const Runner& runner, std::vector<TokenProbability>* out) const;
  void merge(Runner* runner);

  Engine& engine_;
  const GenerateRequest request_;
  const AlignOptions options_;
  std::optional<Sampler> sampler_;
  AlignmentTrie trie_;
  AlignmentKey key_;
  int budget_ = 0;
  std::vector<TokenId> end_tokens_;  // ascending
  std::vector<const Overlay*> overlays_;
  SequenceId prompt_ = -1;
  std::vector<float> first_logits_;  // behind the prompt
  struct Slot {
    SequenceId sequence;
    std::vector<TokenId> tokens;  // behind the prompt
  };
  std::vector<Slot> slots_;
  std::unique_ptr<Rows> rows_;
  std::vector<AlignedSample> ready_;  // accepted and not handed out, newest first
  AlignedSample pending_;             // counts of the attempts since the last accepted one
  StepOutput output_;
};

}  // namespace decant
