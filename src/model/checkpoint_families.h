// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// What checkpoint.cc and export.cc share: how the tensors of Hugging Face's checkpoints correspond to GGUF's, family by
// family. Names and layouts were read in transformers' model code and in llama.cpp's converter.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace decant::checkpoint {

// How a tensor's bytes follow from the checkpoint's.
enum class Layout {
  kSame,
  kPlusOne,     // float32, 1 added: Gemma's norms are stored as what is added to one
  kTransposed,  // GPT-2's Conv1D stores [inputs, outputs]
  kPairedQ,     // rows of each head from halves to neighbours (ModelConfig::ropes[].interleaved)
  kPairedK,     // likewise, with the number of key/value heads
  kHeadsOfQkv,  // rows [head][q, k, v] to [q, k, v][head]: GPT-NeoX
  kPositions2,  // without the first two rows: OPT's positions begin at 2
};

// One kind of tensor; "{}" is the layer, "{e}" an expert. Names are without ".weight" and ".bias".
struct TensorRule {
  std::string_view from, to;
  Layout layout = Layout::kSame;
  std::string_view written_by =
      {};  // the one class whose checkpoints are written by this rule; all classes are read by all
};

// What config.json may leave out: transformers' defaults of the class.
struct Defaults {
  double norm_eps = 1e-6;
  double rope_theta = 10000;
  int head_dim = 0;  // 0: hidden / heads
  int window = 0;
};

struct CheckpointFamily {
  std::string_view hf_class;      // config.json: architectures[0]
  std::string_view architecture;  // GGUF's
  std::string_view prefix;        // of the names that a checkpoint of this class is written with
  std::span<const TensorRule> rules;
  Defaults defaults;
};

std::span<const CheckpointFamily> families();

// The numbers that "{}" and "{e}" stand for.
struct Numbers {
  std::string layer, expert;
};
// nullopt if `name` is not of the form of `pattern`.
std::optional<Numbers> match(std::string_view pattern, std::string_view name);
std::string filled(std::string_view pattern, const Numbers& numbers);

struct Mapped {
  std::string name;
  Layout layout;
};
// GGUF's name of a checkpoint's tensor; nullopt for a name that no rule of the family knows.
std::optional<Mapped> to_gguf(const CheckpointFamily& family, std::string_view name);
// The checkpoint's name of GGUF's tensor.
std::optional<Mapped> from_gguf(const CheckpointFamily& family, std::string_view name);

// Row r of the GGUF tensor is row row_order(r) of the checkpoint's; null: the same row.
std::function<int64_t(int64_t)> row_order(Layout layout, int heads, int head_dim);

// What Llama 3 divides the frequency of pair `i` by: waves longer than original / low stretch by `factor`, those
// shorter than original / high stay, with a ramp between.
double llama3_divisor(double theta, int64_t i, int64_t rotated, double factor, double low, double high,
                      double original);

}  // namespace decant::checkpoint
