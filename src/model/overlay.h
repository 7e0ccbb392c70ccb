// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// LoRA adapters (Hu et al., "LoRA", 2021): y = W x + s * B (A x), for chosen rows of a step, beside rows without. The
// base model is not changed, so one model serves any number of adapters in one batch.
//
//   DECANT_TRY(std::shared_ptr<const Overlay> lora, Overlay::load_lora("adapter", model, 1.0f));
//   Slice slice{.sequence = seq, .tokens = prompt, .overlay = lora.get()};
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "kernels/weight.h"
#include "model/model.h"

namespace decant {

enum class Projection : uint8_t { kNone, kQ, kK, kV, kO, kGate, kUp, kDown };
inline constexpr int kProjections = 8;

// float32 factors in device memory; the scale is in b.
struct LowRank {
  Weight a;  // [rank, inputs]
  Weight b;  // [outputs, rank]
};

class Overlay {
 public:
  // `path`: a GGUF adapter, a PEFT folder (adapter_config.json and adapter_model.safetensors) or its safetensors file.
  // The adapter's own scale (alpha / rank, or alpha / sqrt(rank) for rsLoRA) is multiplied by `scale`. kNotFound,
  // kCorrupt (a wrong shape: the adapter of another model), kUnsupported (DoRA, a layer that cannot be changed), all
  // naming file and tensor.
  static Result<std::shared_ptr<const Overlay>> load_lora(const std::string& path, std::shared_ptr<const Model> model,
                                                          float scale);

  const Model& model() const { return *model_; }
  const std::string& name() const { return name_; }  // the path
  // nullptr where the adapter changes nothing.
  const LowRank* find(int layer, Projection projection) const {
    const size_t i = static_cast<size_t>(layer) * kProjections + static_cast<size_t>(projection);
    return layer < 0 || i >= index_.size() || index_[i] < 0 ? nullptr : &deltas_[static_cast<size_t>(index_[i])];
  }
  size_t bytes() const { return bytes_; }
  int changed() const { return static_cast<int>(deltas_.size()); }  // matrices that it changes

 private:
  friend class OverlayLoader;
  std::shared_ptr<const Model> model_;
  std::string name_;
  std::vector<int> index_;  // [layer][projection], -1: none
  std::vector<LowRank> deltas_;
  std::vector<DeviceBuffer> buffers_;
  size_t bytes_ = 0;
};

}  // namespace decant
