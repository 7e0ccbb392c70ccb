// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "formats/gguf.h"
#include "model/config.h"

namespace decant {
namespace {

// Sets each layer's `global` flag from attention.sliding_window_pattern: absent (every sixth layer is global), a
// period, or one boolean a layer (true: windowed).
Status read_pattern(const GgufFile& file, std::vector<bool>* is_global) {
  const char* key = "gemma3.attention.sliding_window_pattern";
  uint64_t period = 6;
  const GgufValue* value = file.find(key);
  if (value != nullptr && std::holds_alternative<std::shared_ptr<const GgufArray>>(*value)) {
    const auto& array = *std::get<std::shared_ptr<const GgufArray>>(*value);
    const auto* flags = std::get_if<std::vector<int64_t>>(&array.values);
    if (flags == nullptr || flags->size() != is_global->size()) {
      return Status::corrupt("{}: metadata {} must have one boolean for each of the {} layers", file.path(), key,
                             is_global->size());
    }
    for (size_t i = 0; i < flags->size(); ++i) (*is_global)[i] = (*flags)[i] == 0;
    return {};
  }
  if (value != nullptr) {
    DECANT_TRY(period, file.require_uint(key));
    if (period == 0) return Status::corrupt("{}: metadata {} is 0; expected a period of at least 1", file.path(), key);
  }
  for (size_t i = 0; i < is_global->size(); ++i) (*is_global)[i] = (i + 1) % period == 0;
  return {};
}

Status read_gemma3(const GgufFile& file, ModelConfig* config) {
  DECANT_TRY_STATUS(read_common(file, config));
  config->activation = Activation::kGeluTanh;
  config->qk_norm = true;
  config->post_norms = true;
  config->embedding_scale = std::sqrt(static_cast<float>(config->hidden));
  // The 27B size alone scales queries by hidden/heads instead of head_dim; the file has no key for it.
  if (config->n_layers() == 62) {
    config->attention_scale =
        static_cast<float>(1.0 / std::sqrt(static_cast<double>(config->hidden) / config->layers[0].n_heads));
  }
  DECANT_TRY(const std::optional<double> cap, file.get_float("gemma3.final_logit_softcapping"));
  if (cap && (!std::isfinite(*cap) || *cap < 0)) {
    return Status::corrupt("{}: metadata gemma3.final_logit_softcapping is {}; expected 0 or more", file.path(), *cap);
  }
  config->logit_soft_cap = static_cast<float>(cap.value_or(0));

  RopeConfig& global = config->ropes[0];
  DECANT_TRY(const std::optional<double> base, file.get_float("gemma3.rope.freq_base"));
  if (!base) global.base = 1e6;
  // Windowed layers rotate by their own base, never scaled.
  RopeConfig local = global;
  local.linear_factor = 1.0;
  local.base = 10000.0;
  for (const char* key : {"gemma3.rope.freq_base_swa", "gemma3.rope.local.freq_base"}) {
    DECANT_TRY(const std::optional<double> local_base, file.get_float(key));
    if (!local_base) continue;
    if (!std::isfinite(*local_base) || *local_base <= 0) {
      return Status::corrupt("{}: metadata {} is {}; expected a positive number", file.path(), key, *local_base);
    }
    local.base = *local_base;
    break;
  }
  config->ropes.push_back(local);

  DECANT_TRY(const std::optional<uint64_t> window, file.get_uint("gemma3.attention.sliding_window"));
  std::vector<bool> is_global(config->layers.size());
  DECANT_TRY_STATUS(read_pattern(file, &is_global));
  for (size_t i = 0; i < config->layers.size(); ++i) {
    if (is_global[i] || window.value_or(0) == 0) continue;
    config->layers[i].window = static_cast<int>(std::min<uint64_t>(*window, 1 << 28));
    config->layers[i].rope = 1;
  }
  return {};
}

}  // namespace

extern const FamilyInfo kGemma3 = {
    .architecture = "gemma3",
    .summary = "Gemma 3 text: four norms a layer, q/k norms, GeGLU, five windowed layers to one global",
    .read = read_gemma3,
};

}  // namespace decant
