// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// How far is one model's distribution from another's? A base file holds the log-probabilities of every scored row of a
// perplexity run, in the format of llama.cpp's `--kl-divergence-base`: "_logits_", then int32 window, vocabulary and
// number of windows, the tokens (int32), and per scored row a float32 scale, a float32 minimum and one uint16 per token
// (padded to an even number): log p = scale * code + minimum. Tokens more than 16 nats below the likeliest have code 0.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/mapped_file.h"
#include "base/status.h"

namespace decant {

// Rows scored in a window: window/2 to window - 2.
inline int scored_rows(int window) { return window - 1 - window / 2; }

// A base file, mapped. Untrusted: sizes and tokens are checked on opening.
class DivergenceBase {
 public:
  // kNotFound, kCorrupt (not such a file, cut short), kInvalidArgument (made with a vocabulary other than
  // `vocab_size`).
  static Result<DivergenceBase> open(const std::string& path, int vocab_size);

  int window() const { return window_; }
  int windows() const { return windows_; }
  const std::vector<int32_t>& tokens() const { return tokens_; }
  int64_t rows() const { return static_cast<int64_t>(windows_) * scored_rows(window_); }
  // The log-probabilities of a row, [vocab_size]; tokens with code 0 get -infinity.
  void read(int64_t row, std::span<float> log_probs) const;

 private:
  MappedFile file_;
  int window_ = 0, windows_ = 0, vocab_ = 0;
  size_t rows_begin_ = 0, row_bytes_ = 0;
  std::vector<int32_t> tokens_;
};

// Writes a base file; it appears whole, on finish().
class DivergenceBaseWriter {
 public:
  // `tokens`: of all windows. kInvalidArgument if they are no whole number of windows.
  static Result<DivergenceBaseWriter> create(const std::string& path, int window, int vocab_size,
                                             std::span<const int32_t> tokens);
  // Rows in order. kExhausted when the disk is full.
  Status add(std::span<const float> logits);
  Status finish();

 private:
  explicit DivergenceBaseWriter(AtomicFile file) : file_(std::move(file)) {}
  AtomicFile file_;
  std::vector<uint8_t> row_;
};

struct Divergence {
  int64_t rows = 0;
  double mean_kl = 0;    // KL(base || ours), nats per token
  double stderr_kl = 0;  // standard error of mean_kl
  double median_kl = 0;
  double p99_kl = 0;  // 99 % of the rows are at most this far
  double max_kl = 0;
  double same_top = 0;        // share of rows with the same likeliest token
  double mean_delta_nll = 0;  // mean of (our -log p - the base's) of the tokens that came, nats
};

// Collects rows. Tokens that are not in the base file are left out of the sum.
class DivergenceMeter {
 public:
  // `base`: log-probabilities as DivergenceBase::read gives them. `next`: the token that came.
  void add(std::span<const float> base, std::span<const float> logits, int32_t next);
  Divergence result() const;

 private:
  std::vector<double> kl_;
  double delta_ = 0;
  int64_t delta_rows_ = 0, same_ = 0;
};

}  // namespace decant
