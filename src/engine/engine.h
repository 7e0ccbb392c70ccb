// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Engine::step: what do these rows yield? One call runs rows of several sequences through the model: prefill chunks,
// decoded tokens and token trees side by side. Every row's numbers are the same bits whatever else is in the call
// (kernels/table.h), so a method may batch, chunk and speculate freely.
//
//   DECANT_TRY(Engine engine, Engine::create(model, {.context = 4096}));
//   const SequenceId seq = engine.cache().create_sequence();
//   StepOutput out;
//   Slice slice{.sequence = seq, .tokens = prompt, .logits = {last_row}};
//   DECANT_TRY_STATUS(engine.step({&slice, 1}, &out));
//   std::span<const float> logits = out.logits(0, 0);
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/status.h"
#include "cache/kv_cache.h"
#include "kernels/device.h"
#include "model/model.h"

namespace decant {

class Overlay;
enum class Projection : uint8_t;
struct FeedForwardWeights;
struct MatmulArgs;
struct NormWeights;
struct QuantizedRows;

using TokenId = int32_t;

struct EngineOptions {
  int context = 4096;  // tokens that all sequences together can hold, rounded up to pages of 64; >= 1
  int max_rows = 512;  // rows of one step, >= 1; larger steps are refused
  DType k_type =
      DType::kF16;  // types of cached keys and values; block types need head dimensions that are multiples of 32
  DType v_type = DType::kF16;
};

// What the rows of a slice see besides the rows committed before them.
enum class Mask {
  kCausal,         // the rows before them in the slice (a chain)
  kTree,           // their ancestors, by Slice::parents
  kBidirectional,  // all rows of the slice
  kPrefixLm,       // the first `prefix_rows` rows see each other, the rest are causal
};

// Hidden states to read: the residual stream after `layer` layers (0: the embeddings; n_layers: the last layer's
// output, before the final norm), or, with `normed`, after the final norm (layer must be n_layers).
struct HiddenReadout {
  int layer = 0;
  bool normed = false;
  std::vector<int32_t> rows;  // of the slice
};

// Layers [first, last) of a step; last -1: to the end. Rows join the cache of these layers only; a later step may fill
// the others.
struct LayerRange {
  int first = 0;
  int last = -1;
};

// Rows of one sequence. Spans stay the caller's and must live until step() returns.
struct Slice {
  SequenceId sequence = 0;
  // One entry per row; kNoToken (-1) takes the row from `embeddings`.
  std::span<const TokenId> tokens = {};
  // Host memory, [rows, hidden]: input vectors for the rows without a token (as they enter the first layer: already
  // scaled), or for all rows when `tokens` is empty. When the step starts at a later layer: hidden states before it,
  // and no tokens.
  std::span<const float> embeddings = {};
  // Rotary position of each row; empty: the row's ordinal (how many rows it sees before itself since the sequence's
  // start).
  std::span<const int32_t> positions = {};
  Mask mask = Mask::kCausal;
  // kTree: for each row the index of its parent among the pending rows of the sequence (those of earlier tree slices
  // come first, then this slice's own), smaller than the row's own index; -1: its parent is the last committed row.
  std::span<const int32_t> parents = {};
  int prefix_rows = 0;  // kPrefixLm
  // Ordinals below are invisible to these rows (documents packed into one sequence); 0: everything is visible.
  int key_begin = 0;
  // Changes of the weights for these rows (LoRA adapters), which add up. They must be of the engine's model. Rows that
  // other overlays wrote into the cache stay as they are.
  std::span<const Overlay* const> overlays = {};
  std::vector<int32_t> logits = {};  // rows whose logits are wanted, in this order
  // Of these rows, the tokens whose logits are wanted, a bit each, 64 in a word; empty: all. The bits that come are the
  // same, and those of other tokens are undefined: most of the output matrix is not even read where few are wanted.
  std::span<const uint64_t> logit_mask = {};
  std::vector<HiddenReadout> hidden = {};

  int rows(int hidden_size) const {
    return tokens.empty() ? static_cast<int>(embeddings.size()) / hidden_size : static_cast<int>(tokens.size());
  }
};

// Numbers that left the device, on the host. Reused between steps without allocating.
class StepOutput {
 public:
  // Logits of the i-th row asked for by slice s: [vocab_size].
  std::span<const float> logits(size_t s, size_t i) const {
    return {logits_.data() + (logits_begin_[s] + i) * static_cast<size_t>(vocab_), static_cast<size_t>(vocab_)};
  }
  // The i-th row of the r-th hidden readout of slice s: [hidden].
  std::span<const float> hidden(size_t s, size_t r, size_t i) const {
    return {hidden_.data() + (hidden_begin_[s][r] + i) * static_cast<size_t>(width_), static_cast<size_t>(width_)};
  }

 private:
  friend class Engine;
  std::vector<float> logits_, hidden_;
  std::vector<size_t> logits_begin_;               // per slice, in rows
  std::vector<std::vector<size_t>> hidden_begin_;  // per slice and readout, in rows
  int vocab_ = 0, width_ = 0;
};

// One model, one KV cache, one device queue. Not thread-safe: one writer. Engines of different devices run side by
// side.
class Engine {
 public:
  // kInvalidArgument (which option), kUnsupported (cache type for this model), kExhausted (memory for the cache).
  static Result<std::unique_ptr<Engine>> create(std::shared_ptr<const Model> model, const EngineOptions& options);

  // Runs the slices' rows. On failure nothing has changed: kInvalidArgument for a bad slice (which, and what),
  // kExhausted when the rows do not fit in the cache. Chain slices extend their sequence; tree slices leave their rows
  // pending: call cache().commit() or drop_pending(). A sequence may occur in one slice only. Logits need a range that
  // ends with the last layer.
  Status step(std::span<const Slice> slices, StepOutput* output, LayerRange layers = {});

  KvCache& cache() { return *cache_; }
  const Model& model() const { return *model_; }
  std::shared_ptr<const Model> shared_model() const { return model_; }
  Device& device() const { return model_->device(); }
  const EngineOptions& options() const { return options_; }
  size_t buffer_bytes() const { return buffer_bytes_; }  // activations, without the KV cache

 private:
  struct Plan;  // one step's layout; engine.cc

  struct Input;   // what products multiply; engine.cc
  struct Linear;  // one product of a shared input

  Engine();

 public:
  ~Engine();

 private:
  Status validate(const Slice& slice, size_t index, LayerRange layers) const;
  Status make_plan(std::span<const Slice> slices, LayerRange layers);
  void plan_rows(const Slice& slice, int base, int pending, int rows, const std::span<const int32_t>* before);
  Status allocate();
  Status upload(std::span<const Slice> slices);
  std::vector<MatmulArgs>& prepare(const Input& input, std::span<const Linear> outputs);
  Status linear(const Input& input, std::span<const Linear> outputs);
  Status add_deltas(const MatmulArgs& product, int layer, Projection projection);
  bool has_deltas(int layer, Projection projection) const;
  void norm(DevPtr<const float> x, const NormWeights& w, int64_t rows, int64_t dim, DevPtr<float> y);
  void join(const NormWeights& post, int64_t rows);
  Status attention_block(int layer, bool is_last);
  Status ffn_block(int layer);
  Status feed_forward(int layer, const Input& input, const FeedForwardWeights& w, DevPtr<float> y, bool accumulate);
  Status experts_block(int layer);
  Status embed_rows();
  Status read_rows(DevPtr<const float> source, std::span<const int32_t> rows, float* out);
  Status read_hidden(std::span<const Slice> slices, int layer, StepOutput* output);
  std::span<const int32_t> wanted_groups(std::span<const Slice> slices, size_t begin, size_t end);
  Status read_logits(std::span<const Slice> slices, StepOutput* output);

  std::shared_ptr<const Model> model_;
  EngineOptions options_;
  std::unique_ptr<KvCache> cache_;
  std::unique_ptr<Plan> plan_;                         // reused, so that a warm step does not allocate
  std::vector<std::vector<int32_t>> pending_parents_;  // per sequence: parents of its pending rows

  // Device buffers, sized once for max_rows.
  DeviceBuffer x_, h_, branch_, q_, k_, v_, attn_, picked_, gate_, up_, logits_;
  struct QuantizedBuffers {
    DeviceBuffer q, d, sum16, ds16, ds32;
    QuantizedRows view() const;
  };
  QuantizedBuffers xq_, gated_;
  DeviceBuffer tokens_, positions_, slots_, attn_rows_, pages_, paths_, index_;
  DeviceBuffer router_, scales_;  // of mixtures of experts
  DeviceBuffer low_rank_;         // of overlays; grows with their ranks
  std::vector<DeviceBuffer> cos_, sin_;
  size_t buffer_bytes_ = 0;
};

}  // namespace decant
