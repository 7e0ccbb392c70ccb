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

// A vector of float32 in device memory; null when the model has none.
using NormWeight = DevPtr<const float>;

struct LayerWeights {
  NormWeight attn_norm, ffn_norm;
  NormWeight post_attn_norm, post_ffn_norm;  // with ModelConfig::post_norms
  NormWeight q_norm, k_norm;                 // [head_dim], with ModelConfig::qk_norm
  Weight q, k, v, o;                         // [heads * dim, hidden], o: [hidden, heads * v_dim]
  Weight gate, up, down;                     // [ffn, hidden], down: [hidden, ffn]
  DevPtr<const float> q_bias, k_bias, v_bias, o_bias, gate_bias, up_bias, down_bias;  // null where the file has none
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
  const Weight& embedding() const { return embedding_; }  // [vocab, hidden]
  const Weight& output() const { return output_; }        // [vocab, hidden]; the embedding when tied
  NormWeight output_norm() const { return output_norm_; }
  // For rope i: inverse frequencies [rot_dim/2], scaling applied; on the host.
  const std::vector<double>& inv_freq(int i) const { return inv_freq_[static_cast<size_t>(i)]; }
  // Bytes of packed weights, and those that one decoded token reads (everything but the rows of an untied embedding).
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
  Weight embedding_, output_;
  NormWeight output_norm_;
  std::vector<std::vector<double>> inv_freq_;
  std::vector<DeviceBuffer> buffers_;
  size_t weight_bytes_ = 0, bytes_per_token_ = 0;
};

}  // namespace decant
