// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "eval/perplexity.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <vector>

#include "base/thread_pool.h"

namespace decant {
namespace {

// Logits that one step may bring to the host; a vocabulary of 262k would otherwise need 270 MB for half a window.
constexpr size_t kLogitBytes = size_t{64} << 20;

// -log softmax(logits)[target] in nats. The sum is in double: 262k floats would lose digits.
double negative_log_likelihood(std::span<const float> logits, TokenId target) {
  const float max = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float x : logits) sum += std::exp(x - max);
  return std::log(sum) - (static_cast<double>(logits[static_cast<size_t>(target)]) - max);
}

class Evaluation {
 public:
  Evaluation(Engine& engine, std::span<const TokenId> tokens, const PerplexityOptions& options)
      : engine_(engine), tokens_(tokens), options_(options), pool_(engine.device().threads()) {
    const auto vocab = static_cast<size_t>(engine.model().config().vocab_size);
    const auto rows = std::max<size_t>(16, kLogitBytes / (vocab * sizeof(float)));
    scored_rows_ = static_cast<int>(std::min<size_t>(rows, static_cast<size_t>(engine.options().max_rows)));
  }

  Status window(int index, SequenceId sequence) {
    const int size = options_.window;
    const int64_t start = static_cast<int64_t>(index) * size;
    window_.assign(tokens_.begin() + start, tokens_.begin() + start + size);
    if (options_.bos >= 0) window_[0] = options_.bos;
    // The last row predicts a token of the next window and is not needed.
    const int first = size / 2, end = size - 1;
    for (int begin = 0; begin < end;) {
      const bool scored = begin >= first;
      const int limit = scored ? scored_rows_ : engine_.options().max_rows;
      const int rows = std::min(limit, (scored ? end : first) - begin);
      Slice slice{
          .sequence = sequence,
          .tokens = std::span<const TokenId>(window_).subspan(static_cast<size_t>(begin), static_cast<size_t>(rows)),
          .overlays = options_.overlays};
      if (scored) {
        for (int r = 0; r < rows; ++r) slice.logits.push_back(r);
      }
      DECANT_TRY_STATUS(engine_.step({&slice, 1}, &output_));
      if (scored) score(start, begin, rows);
      begin += rows;
    }
    return {};
  }

  void finish(PerplexityResult* result) const {
    const auto n = static_cast<double>(scored_);
    result->scored = scored_;
    result->mean_nll = sum_ / n;
    const double variance = sum_squares_ / n - result->mean_nll * result->mean_nll;
    result->stderr_nll = scored_ > 1 && variance > 0 ? std::sqrt(variance / (n - 1)) : 0.0;
    result->perplexity = std::exp(result->mean_nll);
  }

 private:
  void score(int64_t start, int begin, int rows) {
    nll_.resize(static_cast<size_t>(rows));
    pool_.parallel_for(rows, 1, [&](int64_t first, int64_t last, int) {
      for (int64_t r = first; r < last; ++r) {
        const auto row = static_cast<size_t>(r);
        nll_[row] =
            negative_log_likelihood(output_.logits(0, row), tokens_[static_cast<size_t>(start + begin + r + 1)]);
      }
    });
    for (int r = 0; r < rows; ++r) {
      const double nll = nll_[static_cast<size_t>(r)];
      sum_ += nll;
      sum_squares_ += nll * nll;
      ++scored_;
      if (options_.on_logits) options_.on_logits(start + begin + r, output_.logits(0, static_cast<size_t>(r)));
    }
  }

  Engine& engine_;
  std::span<const TokenId> tokens_;
  const PerplexityOptions& options_;
  ThreadPool pool_;
  int scored_rows_;
  std::vector<TokenId> window_;
  std::vector<double> nll_;
  StepOutput output_;
  double sum_ = 0, sum_squares_ = 0;
  int64_t scored_ = 0;
};

}  // namespace

Result<PerplexityResult> perplexity(Engine& engine, std::span<const TokenId> tokens, const PerplexityOptions& options) {
  const int window = options.window;
  if (window < 4) return Status::invalid_argument("perplexity: a window of {} tokens; expected at least 4", window);
  if (window > engine.options().context) {
    return Status::invalid_argument("perplexity: a window of {} tokens does not fit the context of {}", window,
                                    engine.options().context);
  }
  if (tokens.size() < 2 * static_cast<size_t>(window)) {
    return Status::invalid_argument(
        "perplexity: the text has {} tokens; two windows of {} need {}: use a longer text or a "
        "smaller window (-c)",
        tokens.size(), window, 2 * static_cast<size_t>(window));
  }
  const int vocab = engine.model().config().vocab_size;
  if (options.bos >= vocab)
    return Status::invalid_argument("perplexity: BOS token {} is not in the vocabulary", options.bos);
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] < 0 || tokens[i] >= vocab) {
      return Status::invalid_argument("perplexity: token {} at {} is not in the vocabulary of {}", tokens[i], i, vocab);
    }
  }
  const auto begin = std::chrono::steady_clock::now();
  const int total = static_cast<int>(tokens.size() / static_cast<size_t>(window));
  Evaluation evaluation(engine, tokens, options);
  PerplexityResult result;
  for (int i = 0; i < total; ++i) {
    const SequenceId sequence = engine.cache().create_sequence();
    Status status = evaluation.window(i, sequence);
    DECANT_TRY_STATUS(engine.cache().remove(sequence));
    DECANT_TRY_STATUS(std::move(status));
    evaluation.finish(&result);
    result.windows = i + 1;
    if (options.on_window && !options.on_window(i + 1, total, result.perplexity)) {
      return Status::cancelled("perplexity: stopped after {} of {} windows", i + 1, total);
    }
  }
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return result;
}

}  // namespace decant
