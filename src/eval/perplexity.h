// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "base/status.h"
#include "engine/engine.h"

namespace decant {

struct PerplexityResult {
  double perplexity = 0;
  double mean_nll = 0;    // nats per token
  double stderr_nll = 0;  // standard error of mean_nll
  int64_t scored = 0;     // tokens
  int windows = 0;
  double seconds = 0;
};

struct PerplexityOptions {
  int window = 512;                      // tokens of a window, >= 4
  std::vector<const Overlay*> overlays;  // LoRA adapters
  TokenId bos = -1;                      // when >= 0 it replaces the first token of every window (llama.cpp's protocol)
  // Called after each window; false stops with kCancelled.
  std::function<bool(int done, int total, double perplexity_so_far)> on_window;
  // When set, receives the logits of every scored row: the row's token index in `tokens` and [vocab_size] logits.
  std::function<void(int64_t token, std::span<const float> logits)> on_logits;
};

// llama.cpp's perplexity protocol: the tokens are cut into whole windows, the rest is dropped; each window starts from
// an empty context and its second half is scored (rows window/2 .. window-2 predict their next token). kInvalidArgument
// for fewer than two windows (as llama.cpp asks for) or a window that does not fit the engine.
Result<PerplexityResult> perplexity(Engine& engine, std::span<const TokenId> tokens, const PerplexityOptions& options);

}  // namespace decant
