// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "formats/gguf.h"
#include "model/config.h"

namespace decant {
namespace {

Status read_gemma3(const GgufFile& file, ModelConfig* config) {
  config->activation = Activation::kGeluTanh;
  DECANT_TRY_STATUS(read_common(file, config));
  config->qk_norm = true;
  config->norm_place = NormPlace::kPrePost;
  config->embedding_scale = std::sqrt(static_cast<float>(config->hidden));
  // The 27B size alone scales queries by hidden/heads instead of head_dim; the file has no key for it.
  if (config->n_layers() == 62) {
    config->attention_scale =
        static_cast<float>(1.0 / std::sqrt(static_cast<double>(config->hidden) / config->layers[0].n_heads));
  }
  DECANT_TRY_STATUS(read_query_scale(file, config));
  DECANT_TRY_STATUS(read_soft_cap(file, "gemma3.final_logit_softcapping", &config->logit_soft_cap));
  DECANT_TRY_STATUS(read_soft_cap(file, "gemma3.attn_logit_softcapping", &config->attention_soft_cap));

  RopeConfig& global = config->ropes[0];
  DECANT_TRY(const std::optional<double> base, file.get_float("gemma3.rope.freq_base"));
  if (!base) global.base = 1e6;
  // Windowed layers rotate by their own base, never scaled.
  RopeConfig local = global;
  local.scaling = RopeScaling::kNone;
  local.magnitude = 1.0;
  local.uses_factors = false;
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

  DECANT_TRY_STATUS(read_windows(file, 6, config));
  for (LayerConfig& layer : config->layers) layer.rope = layer.window > 0 ? 1 : 0;
  return {};
}

}  // namespace

extern const FamilyInfo kGemma3 = {
    .architecture = "gemma3",
    .summary = "Gemma 3 text: four norms a layer, q/k norms, GeGLU, five windowed layers to one global",
    .read = read_gemma3,
};

}  // namespace decant
