// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Plain decoding: prompts in, tokens out, any number of requests side by side. A request's tokens do not depend on its
// neighbours or on the prefill chunk.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "constrain/constraint.h"
#include "engine/acceptance.h"
#include "engine/drafter.h"
#include "engine/engine.h"
#include "engine/verifier.h"
#include "sample/sampler.h"

namespace decant {

enum class FinishReason {
  kStop,    // an end token was drawn (it is not part of the tokens), a constraint lets nothing follow, or the callback
            // asked to stop
  kLength,  // max_tokens were drawn, or the context is full; with finish_in_time only if the text may not end there
  kCancelled,  // the cancellation flag was raised
  kDeadline,   // its time was up
  kError,      // GenerateResult::status says why
};
std::string_view finish_reason_name(FinishReason reason);  // "stop", "length", "cancelled", "deadline", "error"
// kInvalidArgument for a prompt without tokens, or of more than the context holds.
Status check_prompt(size_t tokens, int context);

// A vector for the whole prompt, of the hidden states behind the final norm.
enum class Pooling {
  kNone,
  kMean,  // over all tokens
  kLast,  // the last token's
};

// Decides what comes next instead of the sampler.
class TokenChooser {
 public:
  virtual ~TokenChooser() = default;
  // `logits`: [vocabulary], of the row behind the text so far. Appends what follows to `tokens`, one token at least
  // unless the answer ends. False: it ends behind them.
  virtual Result<bool> choose(std::span<const float> logits, std::vector<TokenId>* tokens) = 0;
};

struct GenerateRequest {
  std::vector<TokenId> prompt;  // at least one token
  SamplerOptions sampler;
  int max_tokens = -1;       // -1: until an end token or the context is full; 0: only the prompt is processed
  uint32_t sample = 0;       // which of a request's n samples: another stream of noise under the same seed
  int n_logprobs = -1;       // -1: none; k >= 0: the token's and the k likeliest tokens' log-probabilities
  int prompt_logprobs = -1;  // likewise of the prompt's tokens
  Pooling pooling = Pooling::kNone;
  std::vector<std::shared_ptr<const Overlay>> overlays;  // LoRA adapters for this request
  std::vector<TokenId> end_tokens;                       // drawing one ends the answer
  // Only tokens that it allows are drawn, and an end token only where the text may end; where nothing else may come the
  // answer ends with kStop by itself. Made for the model's vocabulary; may be shared by requests.
  // Where only one token may come it is taken without asking the model (unless log-probabilities are wanted): the same
  // tokens in fewer steps.
  std::shared_ptr<Constraint> constraint;
  // Splits a text into tokens as the tokenizer would. Given, text that the constraint forces is taken in these tokens
  // and not in those that the model would spell it with: another target distribution. The last token of such a text is
  // left to the model where a longer one could take its place.
  std::function<std::vector<TokenId>(std::string_view text)> canonical;
  // With a constraint and max_tokens: only tokens are drawn behind which the rest of max_tokens is enough to end, as
  // far as completions are known (Constraint::tokens_to_end).
  bool finish_in_time = false;
  // Then the sampler draws nothing, and constraint and draft must be null.
  std::shared_ptr<TokenChooser> chooser;
  // An existing sequence whose committed rows are the first tokens of `prompt` (a chat's history); -1: a new sequence.
  // The request's rows stay in it when it was given, so the next turn continues where this one ended.
  SequenceId sequence = -1;
  // Speculative decoding: what guesses the next tokens; null: nothing does, and a step gives one token. `verifier` says
  // which guesses are kept; null: those that plain sampling would draw (coupled), so that drafts never change the text.
  std::shared_ptr<DraftMethod> draft;
  std::shared_ptr<const Verifier> verifier;
  int draft_nodes = 0;  // guesses of a step; 0: as many as the method wants
  // Verify only the guesses that are worth their time, by what has been measured. Only where the verifier is coupled.
  bool adapt_draft = true;
  // What has been measured so far; null: nothing.
  std::shared_ptr<DraftControl> draft_control;
  // Called for every token as it is drawn; false ends the request with kStop (a stop string). May be empty.
  std::function<bool(const Draw& draw)> on_token;
  // Called once, before the first token, with what prompt_logprobs asked for. May be empty.
  std::function<void(const std::vector<Draw>& prompt_draws)> on_prompt;
};

// How drafts fared.
struct DraftStats {
  static constexpr int kDepths = 32;
  int64_t steps = 0;          // of the model, behind the prompt's
  int64_t proposed = 0;       // nodes that the drafter made
  int64_t verified = 0;       // of them, that the model saw
  int64_t accepted = 0;       // of them, that were kept
  double draft_seconds = 0;   // proposing and learning
  double verify_seconds = 0;  // the model's steps, this request's share by rows
  // By depth (index 0: children of the root): steps that had a node there, and of them, in which one was kept.
  std::array<int64_t, kDepths> tried{}, kept{};
};

struct GenerateResult {
  Status status;                   // of this request alone
  std::vector<TokenId> tokens;     // drawn, without the prompt and without the end token
  std::vector<Draw> draws;         // one per token, when log-probabilities were asked for
  std::vector<Draw> prompt_draws;  // one per prompt token but the first, when prompt_logprobs asks for them
  std::vector<float> embedding;    // [hidden], when pooling asks for it
  FinishReason finish = FinishReason::kLength;
  bool ended = false;     // by an end token, which a step drew
  int forced_tokens = 0;  // of the tokens, those taken without asking the model
  bool hastened = false;  // finish_in_time kept tokens back, or ended a text that could go on
  DraftStats draft;
  int cached_tokens = 0;       // prompt tokens that were in `sequence` already
  double prefill_seconds = 0;  // from the start until the request's first token was drawn
  double decode_seconds = 0;   // from then on
};

struct GenerateOptions {
  int prefill_chunk = 0;                      // prompt tokens of one request in one step; 0: as many as fit
  const std::atomic<bool>* cancel = nullptr;  // raised (a signal handler may): every request ends with kCancelled
  std::function<void(int64_t done, int64_t total)> on_prefill;  // prompt tokens processed so far, all requests
};

// Runs all requests to their end; results in the same order. A request that fails (a prompt longer than the context, a
// full cache, NaN logits) ends alone with its status. More requests than rows of a step wait for their turn.
std::vector<GenerateResult> generate(Engine& engine, std::span<GenerateRequest> requests,
                                     const GenerateOptions& options = {});

}  // namespace decant
