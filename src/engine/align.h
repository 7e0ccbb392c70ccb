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

// kInvalidArgument for a request that AlignedSampler does not take, whatever the context.
Status check_alignment(const GenerateRequest& request, const AlignOptions& options);

// Aligned drawing without a model: texts that go on as far as known rows lead, and then want the logits behind the
// prompt and what they have.
//
//   for (AlignedTexts::Text* text : texts.begin(mode, batch)) {
//     for (;;) {
//       DECANT_TRY(const bool wants_logits, texts.advance(text));
//       if (!wants_logits) break;
//       DECANT_TRY_STATUS(texts.take(text, logits));  // of the row behind the prompt and texts.tokens(*text)
//     }
//   }
//   texts.end();
//   DECANT_TRY(std::optional<AlignedSample> sample, texts.pop());
class AlignedTexts {
 public:
  struct Text;  // one on its way

  // `request` and its constraint must outlive it. Errors as of AlignedSampler::create. `context`: tokens that prompt
  // and answer have room in.
  static Result<std::unique_ptr<AlignedTexts>> create(const GenerateRequest& request, const AlignOptions& options,
                                                      int vocab_size, int context);
  ~AlignedTexts();
  AlignedTexts(const AlignedTexts&) = delete;
  AlignedTexts& operator=(const AlignedTexts&) = delete;

  int budget() const { return budget_; }
  const AlignmentTrie& trie() const { return trie_; }
  std::span<const TokenId> end_tokens() const { return end_tokens_; }  // ascending

  // Begins `batch` texts, drawn from the trie as it is. They are there until end().
  std::vector<Text*> begin(AlignMode mode, int batch);
  // Goes as far as it is known what may follow. True where logits are wanted, false when the text has ended.
  Result<bool> advance(Text* text) const;
  // The row behind the text's tokens: [vocabulary].
  Status take(Text* text, std::span<const float> logits) const;
  static const std::vector<TokenId>& tokens(const Text& text);
  // All texts have ended: what they saw is added in the order of their numbers. Which of them are handed out follows
  // that order and not which was done first: short texts must not be preferred.
  void end();
  // An accepted text; nothing if another round is needed. kInvalidArgument once it is known that P(language) = 0,
  // kExhausted after max_attempts.
  Result<std::optional<AlignedSample>> pop();

 private:
  friend class AlignedSampler;
  class Rows;  // legal rows of nodes, least recently used first out

  AlignedTexts(const GenerateRequest& request, const AlignOptions& options, int budget);
  Status step(Text* text, AlignmentRow row) const;
  void merge(Text* text);

  const GenerateRequest& request_;
  const int64_t max_attempts_;
  std::optional<Sampler> sampler_;
  AlignmentTrie trie_;
  int budget_ = 0;
  std::vector<TokenId> end_tokens_;
  std::unique_ptr<Rows> rows_;
  std::vector<std::unique_ptr<Text>> texts_;
  std::vector<AlignedSample> ready_;  // accepted and not handed out, newest first
  AlignedSample pending_;             // counts of the attempts since the last accepted one
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

  int budget() const { return texts_->budget(); }
  const AlignmentTrie& trie() const { return texts_->trie(); }
  // Caller's fields, prompt, sampler, end tokens, budget, and the model as far as its first row tells models, adapters,
  // cache types and devices apart.
  const AlignmentKey& key() const { return key_; }

  // Goes on from a file of the same key. Before the first sample.
  Status load(const std::string& path);
  Status save(const std::string& path) const { return trie().save(path, key_); }

  // kInvalidArgument once it is known that P(language) = 0, kExhausted after max_attempts, kCancelled, and what the
  // engine and the constraint fail with.
  Result<AlignedSample> next();
  // Looks at all prefixes of the language. kExhausted if more than `max_nodes` are needed.
  Status explore(size_t max_nodes);

 private:
  AlignedSampler(Engine& engine, const GenerateRequest& request, const AlignOptions& options);
  Status start();
  Status read_prompt();
  void make_key();
  Status round(AlignMode mode, int batch);
  Status run_model(std::span<AlignedTexts::Text* const> texts);

  Engine& engine_;
  const GenerateRequest request_;
  const AlignOptions options_;
  std::unique_ptr<AlignedTexts> texts_;
  AlignmentKey key_;
  std::vector<const Overlay*> overlays_;
  SequenceId prompt_ = -1;
  std::vector<float> first_logits_;  // behind the prompt
  struct Slot {
    SequenceId sequence;
    std::vector<TokenId> tokens;  // behind the prompt
  };
  std::vector<Slot> slots_;
  StepOutput output_;
};

}  // namespace decant
