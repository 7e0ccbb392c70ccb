// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "speculate/top_tokens.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace decant {
namespace {

constexpr size_t kBlock = 64;

// Greatest of a block, in lanes that a compiler turns into vector maxima.
float block_max(const float* x) {
  float lane[16];
  for (size_t i = 0; i < 16; ++i) lane[i] = x[i];
  for (size_t j = 16; j < kBlock; j += 16) {
    for (size_t i = 0; i < 16; ++i) lane[i] = x[j + i] > lane[i] ? x[j + i] : lane[i];
  }
  float max = lane[0];
  for (size_t i = 1; i < 16; ++i) max = lane[i] > max ? lane[i] : max;
  return max;
}

// Keeps the k best in order; k is small.
class Best {
 public:
  Best(int k, std::vector<TokenLogprob>* list) : k_(static_cast<size_t>(k)), list_(list) { list_->clear(); }
  float least() const { return list_->size() < k_ ? -INFINITY : list_->back().logprob; }
  void offer(int32_t token, float logit) {
    if (std::isnan(logit)) return;
    if (list_->size() == k_ && logit <= list_->back().logprob) return;
    auto place = list_->end();
    while (place != list_->begin() && (place - 1)->logprob < logit) --place;
    list_->insert(place, {token, logit});
    if (list_->size() > k_) list_->pop_back();
  }

 private:
  size_t k_;
  std::vector<TokenLogprob>* list_;
};

}  // namespace

void top_tokens(std::span<const float> logits, std::span<const uint64_t> mask, int k, std::vector<TokenLogprob>* top) {
  Best best(k, top);
  if (k < 1) return;
  if (!mask.empty()) {
    for (size_t w = 0; w < mask.size(); ++w) {
      for (uint64_t bits = mask[w]; bits != 0; bits &= bits - 1) {
        const size_t token = w * 64 + static_cast<size_t>(std::countr_zero(bits));
        if (token < logits.size()) best.offer(static_cast<int32_t>(token), logits[token]);
      }
    }
    return;
  }
  const size_t whole = logits.size() / kBlock * kBlock;
  for (size_t b = 0; b < whole; b += kBlock) {
    // NaN compares false both ways; a block that holds one may only be looked at in vain or, if it comes first in a
    // lane, be passed over: such a row draws nothing anyway.
    if (block_max(&logits[b]) <= best.least()) continue;
    for (size_t i = b; i < b + kBlock; ++i) best.offer(static_cast<int32_t>(i), logits[i]);
  }
  for (size_t i = whole; i < logits.size(); ++i) best.offer(static_cast<int32_t>(i), logits[i]);
}

}  // namespace decant
