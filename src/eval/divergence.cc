// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "eval/divergence.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace decant {
namespace {

constexpr std::string_view kMagic = "_logits_";
constexpr size_t kHeader = 8 + 3 * sizeof(int32_t);
constexpr float kRange = 16;  // nats below the likeliest that are kept
constexpr float kLevels = 65535;

size_t row_size(int vocab) { return 2 * sizeof(float) + sizeof(uint16_t) * ((static_cast<size_t>(vocab) + 1) / 2 * 2); }

template <typename T>
T load(const uint8_t* p) {
  T value;
  std::memcpy(&value, p, sizeof(T));
  return value;
}

double log_sum_exp(std::span<const float> logits, float max) {
  double sum = 0;
  for (const float x : logits) {
    if (x > max - 40) sum += std::exp(static_cast<double>(x - max));  // the rest is below double's last bit
  }
  return static_cast<double>(max) + std::log(sum);
}

}  // namespace

Result<DivergenceBase> DivergenceBase::open(const std::string& path, int vocab_size) {
  DivergenceBase base;
  DECANT_TRY(base.file_, MappedFile::open(path));
  const std::span<const uint8_t> bytes = base.file_.bytes();
  if (bytes.size() < kHeader || std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) != 0) {
    return Status::corrupt("{}: no file of log-probabilities (it has to begin with \"{}\")", path, kMagic);
  }
  base.window_ = load<int32_t>(bytes.data() + 8);
  base.vocab_ = load<int32_t>(bytes.data() + 12);
  base.windows_ = load<int32_t>(bytes.data() + 16);
  if (base.vocab_ != vocab_size) {
    return Status::invalid_argument("{}: made with a vocabulary of {} tokens, this model has {}", path, base.vocab_,
                                    vocab_size);
  }
  if (base.window_ < 4 || base.window_ > (1 << 20) || base.windows_ < 1 || base.windows_ > (1 << 20)) {
    return Status::corrupt("{}: {} windows of {} tokens", path, base.windows_, base.window_);
  }
  const uint64_t count = static_cast<uint64_t>(base.window_) * static_cast<uint64_t>(base.windows_);
  base.rows_begin_ = kHeader + count * sizeof(int32_t);
  base.row_bytes_ = row_size(base.vocab_);
  const uint64_t needed = base.rows_begin_ + static_cast<uint64_t>(base.rows()) * base.row_bytes_;
  if (bytes.size() < needed) {
    return Status::corrupt("{}: {} bytes, cut short: {} windows of {} tokens take {}", path, bytes.size(),
                           base.windows_, base.window_, needed);
  }
  base.tokens_.resize(count);
  std::memcpy(base.tokens_.data(), bytes.data() + kHeader, count * sizeof(int32_t));
  for (size_t i = 0; i < count; ++i) {
    if (base.tokens_[i] < 0 || base.tokens_[i] >= vocab_size) {
      return Status::corrupt("{}: token {} at {} is not in the vocabulary of {}", path, base.tokens_[i], i, vocab_size);
    }
  }
  return base;
}

void DivergenceBase::read(int64_t row, std::span<float> log_probs) const {
  const uint8_t* p = file_.bytes().data() + rows_begin_ + static_cast<size_t>(row) * row_bytes_;
  const auto scale = load<float>(p), minimum = load<float>(p + sizeof(float));
  p += 2 * sizeof(float);
  for (size_t i = 0; i < log_probs.size(); ++i) {
    const auto code = load<uint16_t>(p + 2 * i);
    log_probs[i] = code == 0 ? -std::numeric_limits<float>::infinity() : scale * static_cast<float>(code) + minimum;
  }
}

Result<DivergenceBaseWriter> DivergenceBaseWriter::create(const std::string& path, int window, int vocab_size,
                                                          std::span<const int32_t> tokens) {
  if (window < 4 || tokens.empty() || tokens.size() % static_cast<size_t>(window) != 0) {
    return Status::invalid_argument("{} tokens are no whole number of windows of {}", tokens.size(), window);
  }
  DECANT_TRY(AtomicFile file, AtomicFile::create(path));
  DivergenceBaseWriter writer(std::move(file));
  std::vector<uint8_t> header(kHeader);
  std::memcpy(header.data(), kMagic.data(), kMagic.size());
  const int32_t sizes[3] = {window, vocab_size, static_cast<int32_t>(tokens.size() / static_cast<size_t>(window))};
  std::memcpy(header.data() + kMagic.size(), sizes, sizeof(sizes));
  DECANT_TRY_STATUS(writer.file_.write(header));
  DECANT_TRY_STATUS(writer.file_.write({reinterpret_cast<const uint8_t*>(tokens.data()), tokens.size_bytes()}));
  writer.row_.resize(row_size(vocab_size));
  return writer;
}

Status DivergenceBaseWriter::add(std::span<const float> logits) {
  const auto [low, high] = std::minmax_element(logits.begin(), logits.end());
  const float max = *high, min = std::max(*low, max - kRange);
  const float scale = (max - min) / kLevels;
  const auto minimum = static_cast<float>(static_cast<double>(min) - log_sum_exp(logits, max));
  std::memcpy(row_.data(), &scale, sizeof(float));
  std::memcpy(row_.data() + sizeof(float), &minimum, sizeof(float));
  uint8_t* p = row_.data() + 2 * sizeof(float);
  for (size_t i = 0; i < logits.size(); ++i) {
    const float level = scale > 0 && logits[i] > min ? std::nearbyint((logits[i] - min) / scale) : 0;
    const auto code = static_cast<uint16_t>(std::min(level, kLevels));
    std::memcpy(p + 2 * i, &code, sizeof(code));
  }
  return file_.write(row_);
}

Status DivergenceBaseWriter::finish() { return file_.commit(); }

void DivergenceMeter::add(std::span<const float> base, std::span<const float> logits, int32_t next) {
  const auto top = static_cast<size_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  const double normalizer = log_sum_exp(logits, logits[top]);
  double kl = 0;
  size_t base_top = 0;
  for (size_t i = 0; i < base.size(); ++i) {
    const double log_p = static_cast<double>(base[i]);
    if (!(log_p > -std::numeric_limits<double>::infinity())) continue;
    if (base[i] > base[base_top]) base_top = i;
    kl += std::exp(log_p) * (log_p - (static_cast<double>(logits[i]) - normalizer));
  }
  kl_.push_back(kl);
  same_ += base_top == top ? 1 : 0;
  const auto token = static_cast<size_t>(next);
  if (base[token] > -std::numeric_limits<float>::infinity()) {
    delta_ += static_cast<double>(base[token]) - (static_cast<double>(logits[token]) - normalizer);
    ++delta_rows_;
  }
}

Divergence DivergenceMeter::result() const {
  Divergence d;
  const size_t n = kl_.size();
  d.rows = static_cast<int64_t>(n);
  if (n == 0) return d;
  std::vector<double> sorted = kl_;
  std::sort(sorted.begin(), sorted.end());
  double sum = 0, squares = 0;
  for (const double x : kl_) sum += x, squares += x * x;
  const auto count = static_cast<double>(n);
  d.mean_kl = sum / count;
  d.stderr_kl = n > 1 ? std::sqrt(std::max(0.0, squares / count - d.mean_kl * d.mean_kl) / (count - 1)) : 0;
  d.median_kl = sorted[n / 2];
  d.p99_kl = sorted[std::min(n - 1, n * 99 / 100)];
  d.max_kl = sorted.back();
  d.same_top = static_cast<double>(same_) / count;
  d.mean_delta_nll = delta_rows_ > 0 ? delta_ / static_cast<double>(delta_rows_) : 0;
  return d;
}

}  // namespace decant
