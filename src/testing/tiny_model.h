// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Small random models for tests: whole GGUF files, tokenizer included, that load like any other model.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "formats/gguf.h"

namespace decant::testing {

struct TinyModelSpec {
  std::string architecture = "llama";  // or "gemma3"
  int hidden = 64;
  int layers = 3;
  int heads = 4;
  int kv_heads = 2;
  int head_dim = 32;
  int ffn = 96;
  int window = 0;  // sliding window, 0: none; gemma3 alternates: every second layer is global
  bool biases = false;
  bool tied = true;
  float rope_base = 10000.0f;
  float yarn_factor = 0.0f;  // 0: no YaRN
  int yarn_context = 0;
  // Types of the weight matrices, dealt out in turn; must suit `hidden` and `ffn`.
  std::vector<DType> types = {DType::kQ4_1, DType::kQ8_0, DType::kQ5_0, DType::kF16};
  uint32_t seed = 1;
};

// The vocabulary has 256 byte tokens, a few merged words and special tokens: 300 in all.
inline constexpr int kTinyVocab = 300;

GgufWriter make_tiny_model(const TinyModelSpec& spec);

}  // namespace decant::testing
