// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// A session computes with a model: it owns a cache of keys and values for any number of sequences. complete() answers
// prompts; step() is for decoding loops of one's own. The numbers of a row are the same bits whatever else is in the
// call (docs/exactness.md says when), so both may be batched, cut and speculated freely.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "decant/model.h"
#include "decant/sampling.h"
#include "decant/status.h"
#include "decant/structure.h"

namespace decant {

using SequenceId = int32_t;

struct SessionOptions {
  int context = 0;     // tokens that all sequences together can hold, in pages of 64; 0: what the model was trained for
  int max_rows = 512;  // rows of one step, 1 to 65536; prompts are processed in pieces of at most this size
  // Types of cached keys and values: f32, f16, bf16, q8_0, q5_1, q5_0, q4_1, q4_0, iq4_nl.
  std::string cache_type_k = "f16";
  std::string cache_type_v = "f16";
};

enum class Finish {
  kStop,       // an end token was drawn, a stop string came, or the callback returned false
  kLength,     // max_tokens were drawn, or the context is full
  kCancelled,  // the cancellation flag was raised
  kError,      // Completion::status says why
};
std::string_view finish_name(Finish finish);  // "stop", "length", "cancelled", "error"

// What one drawn token adds to the text.
struct Piece {
  // Whole UTF-8 characters that cannot belong to a stop string any more; often "": text may be held back until later
  // tokens decide. Bytes that are not UTF-8 in the model's answer come as they are.
  std::string_view text;
  TokenId token = -1;  // -1: the text held back until the end
  float logprob = 0.0f;
};

struct CompletionRequest {
  std::vector<TokenId> prompt;  // at least one token
  Sampling sampling;
  int max_tokens = -1;            // -1: until the model stops or the context is full; 0: only the prompt is processed
  std::vector<std::string> stop;  // the answer ends before the first of these texts
  int logprobs = -1;              // -1: none; k >= 0: of the token and of the k likeliest ones, at each place
  // -1: a sequence of the request's own, removed when it ends. Else what the sequence has in common with the prompt is
  // not computed again, what it holds beyond that is forgotten, and the answer stays in it: the turns of a chat.
  SequenceId sequence = -1;
  std::vector<Adapter> adapters;  // of the session's model
  CompiledStructure structure;    // made for the session's model; empty: any text
  // With a structure and max_tokens: only tokens are drawn behind which the rest of max_tokens is enough to end.
  bool finish_in_time = false;
  // With a structure: text that it forces comes in the tokenizer's own tokens, not in those that the model would draw:
  // another distribution.
  bool forced_canonical = false;
  // Called for every token as it is drawn, and at the end for text held back; false ends the request. May be empty.
  // It must not call the session or another one of the same model: these calls return kInvalidArgument.
  std::function<bool(const Piece& piece)> on_piece;
};

struct Completion {
  Status status;                    // of this request alone; what follows holds what came before a failure
  std::string text;                 // without the stop string
  std::vector<TokenId> tokens;      // drawn, without the end token; those of a stop string are among them
  std::vector<SampledToken> draws;  // one for each token, if log-probabilities were asked for
  Finish finish = Finish::kError;
  int cached_tokens = 0;       // of the prompt, that were in `sequence` already
  double prefill_seconds = 0;  // until the first token was drawn
  double decode_seconds = 0;   // from then on
};

struct CompletionOptions {
  int prefill_chunk = 0;                      // prompt tokens of one request in a step; 0: as many as fit
  const std::atomic<bool>* cancel = nullptr;  // raised (a signal handler may do it): every request ends
  // Prompt tokens processed so far, of all requests. May be empty.
  std::function<void(int64_t done, int64_t total)> on_prefill;
};

// Rows of one sequence in a step. The spans stay the caller's and must live until step() returns.
struct StepRows {
  SequenceId sequence = -1;
  std::span<const TokenId> tokens;  // one for each row
  // Empty: the rows continue the sequence, each after the one before. Else a token tree, for speculative decoding: for
  // each row the index of its parent among the pending rows of the sequence (those of earlier steps come first, then
  // this step's own), smaller than its own; -1: the parent is the last row of the sequence. The rows see their
  // ancestors and stay pending until commit() or drop_pending().
  std::span<const int32_t> parents;
  std::vector<Adapter> adapters;  // of the session's model; they change these rows only
  std::vector<int32_t> logits;    // rows (0: the first of this step) whose logits are wanted, in this order
};

// Logits that left the device. Reused between steps without allocating. Move-only.
class StepLogits {
 public:
  StepLogits();
  StepLogits(StepLogits&&) noexcept;
  StepLogits& operator=(StepLogits&&) noexcept;
  ~StepLogits();

  // Of the `row`-th row asked for by the `input`-th StepRows: [vocab_size]; empty when there is no such row. Valid
  // until the next step.
  std::span<const float> row(size_t input, size_t row) const;

 private:
  friend class Session;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Move-only; a moved-from session may only be assigned to or destroyed. It keeps its model alive.
class Session {
 public:
  // kInvalidArgument (which option), kUnsupported (cache type for this model), kExhausted (memory for the cache).
  static Result<Session> create(const LanguageModel& model, const SessionOptions& options = {});

  Session(Session&&) noexcept;
  Session& operator=(Session&&) noexcept;
  ~Session();

  const LanguageModel& model() const;
  int context() const;         // tokens that all sequences together can hold
  int max_rows() const;        // of one step
  size_t cache_bytes() const;  // reserved for keys and values
  int free_tokens() const;     // room left in the cache, in whole pages

  // Runs all requests side by side, to their end; completions in the same order. A request's tokens depend neither on
  // its neighbours nor on the chunks. One that fails (a prompt longer than the context, a full cache) ends alone. Two
  // requests must not name the same sequence.
  std::vector<Completion> complete(std::vector<CompletionRequest> requests, const CompletionOptions& options = {});
  Completion complete(CompletionRequest request, const CompletionOptions& options = {});

  // A new, empty sequence; it takes room as it grows.
  Result<SequenceId> create_sequence();
  // A new sequence that shares the first `length` tokens of `parent`; nothing is copied until one of them grows.
  // kInvalidArgument if there are fewer, or no such sequence (likewise below).
  Result<SequenceId> fork(SequenceId parent, int length);
  // Forgets the tokens from `length` on, and all pending rows.
  Status truncate(SequenceId sequence, int length);
  // Its id may be given out again.
  Status remove(SequenceId sequence);
  // The tokens that the sequence holds, without pending ones.
  Result<std::vector<TokenId>> tokens(SequenceId sequence) const;
  Result<int> length(SequenceId sequence) const;

  // Runs rows of several sequences in one call. On failure nothing has changed: kInvalidArgument for bad rows (which,
  // and what; two inputs of one sequence), kExhausted when they do not fit in the cache. `logits` may be null if none
  // are asked for.
  Status step(std::span<const StepRows> inputs, StepLogits* logits);
  // The pending rows `path` (indices, strictly increasing, each the parent of the next) join the sequence, the other
  // pending rows are dropped.
  Status commit(SequenceId sequence, std::span<const int32_t> path);
  Status drop_pending(SequenceId sequence);

 private:
  friend class TokenSampler;
  struct Impl;
  explicit Session(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace decant
