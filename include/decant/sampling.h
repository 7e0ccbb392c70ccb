// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// From a row of logits to a token: llama.cpp's filters and penalties (names, order, defaults), then a draw that is a
// function of (seed, sample, position, token): it depends neither on the batch nor on earlier draws, so a seed gives
// the same text anywhere. Ties go to the lowest token id.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "decant/model.h"
#include "decant/status.h"

namespace decant {

class Session;

struct Sampling {
  uint64_t seed = 0;
  uint32_t sample = 0;             // another stream of draws under the same seed: the n-th answer to one prompt
  float temperature = 0.8f;        // <= 0: always the likeliest token
  float dynatemp_range = 0.0f;     // 0: off; temperature varies in [t - range, t + range] with the entropy
  float dynatemp_exponent = 1.0f;  //
  int top_k = 40;                  // <= 0: off
  float top_p = 0.95f;             // >= 1: off
  float min_p = 0.05f;             // <= 0: off
  float typical_p = 1.0f;          // >= 1: off
  float top_n_sigma = -1.0f;       // <= 0: off
  float xtc_probability = 0.0f;    // 0: off
  float xtc_threshold = 0.1f;      // > 0.5: off
  int min_keep = 1;                // filters leave at least this many tokens, >= 1
  int repeat_last_n = 64;          // tokens that the penalties look at, 0: off, -1: the context
  float repeat_penalty = 1.0f;     // 1: off
  float presence_penalty = 0.0f;   // 0: off
  float frequency_penalty = 0.0f;  // 0: off
  float dry_multiplier = 0.0f;     // 0: off
  float dry_base = 1.75f;          // >= 1
  int dry_allowed_length = 2;      //
  int dry_penalty_last_n = -1;     // 0: off, -1: the context
  std::vector<std::string> dry_breakers = {"\n", ":", "\"", "*"};  // texts that end a repetition
  int mirostat = 0;                                                // 0: off; 1 or 2 replaces the filters
  float mirostat_tau = 5.0f;                                       // bits
  float mirostat_eta = 0.1f;                                       //
  std::vector<std::pair<TokenId, float>> logit_bias;  // added before everything else; -infinity forbids a token
  bool ignore_eos = false;                            // tokens that end an answer are never drawn
  // Order of the filters, ';' between them. A filter not named is off; "" turns all off.
  std::string samplers = "penalties;dry;top_n_sigma;top_k;typ_p;top_p;min_p;xtc;temperature";
};

struct ScoredToken {
  TokenId token = -1;
  float logprob = 0.0f;  // natural logarithm, of the model's own distribution: before any filter and temperature
};

struct SampledToken {
  TokenId token = -1;
  float logprob = 0.0f;          // as in ScoredToken; 0 unless log-probabilities were asked for
  std::vector<ScoredToken> top;  // the likeliest tokens, likeliest first, ties by lower id; none at -infinity
  float surprise = 0.0f;         // bits, under the filtered distribution; what Mirostat steers by
};

// Chooses the tokens of one sequence in a loop of one's own. A value: a copy is a fork. Not thread-safe. A moved-from
// one may only be assigned to or destroyed.
class TokenSampler {
 public:
  // `prompt`: the tokens before the first one to be drawn; penalties count them. kInvalidArgument naming the field and
  // its range.
  static Result<TokenSampler> create(const Session& session, const Sampling& sampling,
                                     std::span<const TokenId> prompt = {});

  TokenSampler(const TokenSampler&);
  TokenSampler(TokenSampler&&) noexcept;
  TokenSampler& operator=(const TokenSampler&);
  TokenSampler& operator=(TokenSampler&&) noexcept;
  ~TokenSampler();

  // Draws the next token; nothing changes, so the same call gives the same token. `logits`: [vocab_size]. `logprobs`:
  // -1 for none, k >= 0 for the token's and the k likeliest ones'. kInvalidArgument for a wrong size, for NaN or
  // +infinity, and when no token is left.
  Result<SampledToken> sample(std::span<const float> logits, int logprobs = -1) const;
  // The token joins the sequence. The first form moves Mirostat's state, too.
  Status accept(const SampledToken& token);
  Status accept(TokenId token);

 private:
  struct Impl;
  explicit TokenSampler(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace decant
