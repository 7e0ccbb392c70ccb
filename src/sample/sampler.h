// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// From a row of logits to a token: llama.cpp's chain of processors (names, order, defaults), then a Gumbel-max draw.
//
// The draw is a function: token = argmax over the tokens left by the filters of (log-probability + Gumbel noise keyed
// by (seed, sample, position, token)). It does not depend on the batch or on earlier draws, so a seed gives the same
// text anywhere. Ties go to the lowest token id. Temperature 0 is argmax of the processed logits.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/rng.h"
#include "base/status.h"

namespace decant {

struct SamplerOptions {
  uint64_t seed = 0;            // any; the CLI draws one when the user gives none and prints it
  float temperature = 0.8f;     // <= 0: greedy, also with dynatemp_range or with `samplers` that lack temperature
  float dynatemp_range = 0.0f;  // 0: off; temperature varies in [t - range, t + range] with the entropy
  float dynatemp_exponent = 1.0f;
  int top_k = 40;                  // <= 0: off
  float top_p = 0.95f;             // >= 1: off
  float min_p = 0.05f;             // <= 0: off
  float typical_p = 1.0f;          // >= 1: off (Meister et al. 2022, locally typical sampling)
  float top_n_sigma = -1.0f;       // <= 0: off (Tang et al. 2024)
  float xtc_probability = 0.0f;    // 0: off
  float xtc_threshold = 0.1f;      // > 0.5: off
  int min_keep = 1;                // filters leave at least this many tokens, >= 1
  int repeat_last_n = 64;          // window of the penalties, 0: off, -1: context size
  float repeat_penalty = 1.0f;     // 1: off (Keskar et al. 2019, CTRL)
  float presence_penalty = 0.0f;   // 0: off
  float frequency_penalty = 0.0f;  // 0: off
  float dry_multiplier = 0.0f;     // 0: off
  float dry_base = 1.75f;          // >= 1
  int dry_allowed_length = 2;
  int dry_penalty_last_n = -1;                     // -1: context size, 0: off
  std::vector<std::vector<int32_t>> dry_breakers;  // token sequences that end a repetition
  int mirostat = 0;                                // 0: off, 1, 2 (Basu et al. 2021); replaces the filters
  float mirostat_tau = 5.0f;
  float mirostat_eta = 0.1f;
  std::vector<std::pair<int32_t, float>> logit_bias;  // added before everything else
  bool ignore_eos = false;                            // the end tokens listed in `end_tokens` never come
  std::vector<int32_t> end_tokens;
  int n_ctx = 4096;  // what -1 above means
  // Order of the filters: llama.cpp's names (also with '-' or nothing for '_'; nucleus, typical, temp), ';' between
  // them; default its default. A filter not named is off; "" turns all off.
  std::string samplers = "penalties;dry;top_n_sigma;top_k;typ_p;top_p;min_p;xtc;temperature";

  // kInvalidArgument naming the field: NaN, negative where it makes no sense, an unknown sampler.
  Status validate() const;
};

// What a request carries from token to token. A value: `advance` returns the state after a token, a copy is a fork,
// nothing rolls back. Cheap to copy (history is shared, structure-persistent).
class SamplerState {
 public:
  SamplerState() = default;

 private:
  friend class Sampler;
  struct Node;
  std::shared_ptr<const Node> history_;  // last tokens, newest first
  int64_t length_ = 0;                   // nodes reachable from history_
  float mirostat_mu_ = 0.0f;
};

struct TokenLogprob {
  int32_t token;
  float logprob;  // natural log, of the model's own distribution: softmax of the raw logits, before any processor
};

// What a token of an answer comes from.
enum class TokenOrigin : uint8_t {
  kModel,   // drawn
  kDraft,   // drawn, and guessed before
  kForced,  // the only one that a constraint left; the model is asked only for its log-probability
};

struct Draw {
  int32_t token = -1;
  float logprob = 0.0f;  // of the token, as in TokenLogprob
  std::vector<TokenLogprob>
      top;                // the n_logprobs likeliest tokens, likeliest first, ties by lower id; none at -infinity
  float surprise = 0.0f;  // bits, under the processed distribution; mirostat's input
  TokenOrigin origin = TokenOrigin::kModel;
};

// One request's settings, compiled. Immutable and thread-safe.
class Sampler {
 public:
  static Result<Sampler> create(SamplerOptions options, int vocab_size);

  // The state before the first token: `prompt` counts for penalties as llama.cpp counts it.
  SamplerState start(std::span<const int32_t> prompt) const;
  SamplerState advance(const SamplerState& state, int32_t token) const;
  // As above, also moves mirostat's mu by the draw's surprise.
  SamplerState advance(const SamplerState& state, const Draw& draw) const;

  // `logits` [vocab_size]. `position`: index in the sequence of the token to be chosen. `mask`: optional, the
  // tokens that are allowed, a bit each, 64 in a word; logits of others are not read, but for log-probabilities, which
  // are of all tokens. `n_logprobs`: 0 = none asked for (logprob is still filled when >= 0; -1 skips it).
  // kInvalidArgument if no token is left, if logits hold NaN or +infinity, or if a bias or a penalty overflows.
  Result<Draw> draw(std::span<const float> logits, const SamplerState& state, uint32_t position, uint32_t sample = 0,
                    int n_logprobs = -1, std::span<const uint64_t> mask = {}) const;

  // The distribution that draw() samples from: candidates left by the chain with normalised log-probabilities, by
  // ascending token id. For verifiers and tests. Greedy gives one candidate. draw() takes the token with the greatest
  // double(logprob) + double(gumbel_noise({seed, sample, position, Purpose::kSample}, token)) of exactly these
  // log-probabilities.
  Result<std::vector<TokenLogprob>> distribution(std::span<const float> logits, const SamplerState& state,
                                                 uint32_t position, uint32_t sample = 0,
                                                 std::span<const uint64_t> mask = {}) const;

  // What draw() says of a token that somebody else drew; `logprob`: its log-probability in distribution().
  Result<Draw> describe(std::span<const float> logits, int32_t token, float logprob, int n_logprobs) const;

  const SamplerOptions& options() const { return options_; }

 private:
  class Candidates;

  Sampler() = default;
  static Candidates& thread_candidates();
  static void push(SamplerState* state, int32_t token);
  void trim(SamplerState* state) const;
  // Runs the chain over `logits`, leaving its survivors in `candidates`.
  Status run(std::span<const float> logits, const SamplerState& state, const RngKey& key,
             std::span<const uint64_t> mask, Candidates* candidates) const;
  static Status add_logprobs(std::span<const float> logits, int n_logprobs, Candidates* candidates, Draw* draw);
  Status apply_bias(Candidates* candidates) const;
  Status apply_penalties(const SamplerState& state, Candidates* candidates) const;
  Status apply_dry(const SamplerState& state, Candidates* candidates) const;

  SamplerOptions options_;
  int vocab_size_ = 0;
  std::vector<int> chain_;                      // the filters that are on, in order
  std::vector<int32_t> biased_;                 // tokens of logit_bias, and end tokens that may not come; ascending
  std::vector<float> bias_;                     // their biases
  std::vector<std::vector<int32_t>> breakers_;  // dry_breakers, sorted
  int penalty_window_ = 0;                      // tokens of history that the penalties read
  int dry_window_ = 0;
};

}  // namespace decant
