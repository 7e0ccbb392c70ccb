// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "formats/gguf.h"
#include "model/config.h"

namespace decant {
namespace {

Status read_gemma(const GgufFile& file, ModelConfig* config) {
  config->activation = Activation::kGeluTanh;
  DECANT_TRY_STATUS(read_common(file, config));
  config->embedding_scale = std::sqrt(static_cast<float>(config->hidden));
  return {};
}

}  // namespace

extern const FamilyInfo kGemma = {
    .architecture = "gemma",
    .summary = "Gemma 1: RMSNorm, RoPE, GeGLU, scaled embeddings",
    .read = read_gemma,
};

}  // namespace decant
