// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "kernels/device.h"
#include "kernels/weight.h"
#include "model/config.h"

namespace decant {

class GgufFile;

// float32 vectors in device memory; null where the model has none.
struct NormWeights {
  DevPtr<const float> weight, bias;
  explicit operator bool() const { return static_cast<bool>(weight); }
};

struct FeedForwardWeights {
  Weight gate, up, down;  // [ffn, hidden] (no gate unless ModelConfig::gated), down: [hidden, ffn]
  DevPtr<const float> gate_bias, up_bias, down_bias;
};

struct LayerWeights {
  NormWeights attn_norm, ffn_norm;
  NormWeights post_attn_norm, post_ffn_norm;  // with NormPlace::kPrePost
  NormWeights q_norm, k_norm;                 // [head_dim], with ModelConfig::qk_norm
  Weight q, k, v, o;                          // [heads * dim, hidden], o: [hidden, heads * v_dim]
  DevPtr<const float> q_bias, k_bias, v_bias, o_bias;
  FeedForwardWeights ffn;                   // of a dense layer
  Weight router;                            // [experts, hidden], of a layer with experts
  std::vector<FeedForwardWeights> experts;  // LayerConfig::experts of them
};

// A rotary embedding's numbers, on the host.
struct RopeTable {
  std::vector<double> inv_freq;  // [rot_dim/2], scaling applied
  double magnitude = 1.0;        // of cos and sin
};

// A model's weights, packed into a device's memory. Immutable; share it between the engines of that device. The device
// must outlive it.
class Model {
 public:
  // Called with the share of bytes loaded, 0 to 1.
  using Progress = std::function<void(double)>;

  // kNotFound for a missing tensor, kCorrupt for a wrong shape (expected and found), kUnsupported for tensors that the
  // family does not have, kExhausted when memory runs out.
  static Result<std::shared_ptr<const Model>> load(const GgufFile& file, Device& device, const Progress& progress = {});

  const ModelConfig& config() const { return config_; }
  const std::string& path() const { return path_; }
  Device& device() const { return *device_; }
  const LayerWeights& layer(int i) const { return layers_[static_cast<size_t>(i)]; }
  const Weight& embedding() const { return embedding_; }      // [vocab, hidden or embedding_dim]
  const Weight& output() const { return output_; }            // likewise; the embedding when tied
  const Weight& position() const { return position_; }        // [positions, hidden], with learned_positions
  const Weight& project_in() const { return project_in_; }    // [hidden, embedding_dim], with embedding_dim
  const Weight& project_out() const { return project_out_; }  // [embedding_dim, hidden]
  const NormWeights& output_norm() const { return output_norm_; }
  // Rotary embedding i for a cache of `context` tokens (RopeConfig::uses_factors).
  const RopeTable& rope(int i, int context) const {
    const auto index = static_cast<size_t>(i);
    return !long_ropes_[index].inv_freq.empty() && context > config_.ropes[index].original_context ? long_ropes_[index]
                                                                                                   : ropes_[index];
  }
  // Bytes of packed weights, and those that one decoded token reads (everything but the rows of an untied embedding and
  // the experts that it does not take).
  size_t weight_bytes() const { return weight_bytes_; }
  size_t bytes_per_token() const { return bytes_per_token_; }
  // Multiply-adds of one row through the LM head.
  double macs_output() const { return static_cast<double>(output_.rows) * static_cast<double>(output_.cols); }

 private:
  friend class ModelLoader;
  std::string path_;
  ModelConfig config_;
  Device* device_ = nullptr;
  std::vector<LayerWeights> layers_;
  Weight embedding_, output_, position_, project_in_, project_out_;
  NormWeights output_norm_;
  std::vector<RopeTable> ropes_, long_ropes_;  // long_ropes_[i] is empty unless there are factors for long contexts
  std::vector<DeviceBuffer> buffers_;
  size_t weight_bytes_ = 0, bytes_per_token_ = 0;
};

}  // namespace decant
