// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "formats/gguf.h"
#include "model/config.h"

namespace decant {
namespace {

Status read_gemma2(const GgufFile& file, ModelConfig* config) {
  config->activation = Activation::kGeluTanh;
  DECANT_TRY_STATUS(read_common(file, config));
  config->norm_place = NormPlace::kPrePost;
  config->embedding_scale = std::sqrt(static_cast<float>(config->hidden));
  // The 27B size alone scales queries by hidden/heads instead of head_dim; the file has no key for it.
  if (config->n_layers() == 46) {
    config->attention_scale =
        static_cast<float>(1.0 / std::sqrt(static_cast<double>(config->hidden) / config->layers[0].n_heads));
  }
  DECANT_TRY_STATUS(read_query_scale(file, config));
  DECANT_TRY_STATUS(read_soft_cap(file, "gemma2.attn_logit_softcapping", &config->attention_soft_cap));
  DECANT_TRY_STATUS(read_soft_cap(file, "gemma2.final_logit_softcapping", &config->logit_soft_cap));
  DECANT_TRY_STATUS(read_windows(file, 2, config));
  return {};
}

}  // namespace

extern const FamilyInfo kGemma2 = {
    .architecture = "gemma2",
    .summary = "Gemma 2: four norms a layer, GeGLU, soft caps, every second layer windowed",
    .read = read_gemma2,
};

}  // namespace decant
