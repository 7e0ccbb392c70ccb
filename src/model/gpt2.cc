// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "formats/gguf.h"
#include "model/config.h"

namespace decant {
namespace {

Status read_gpt2(const GgufFile& file, ModelConfig* config) {
  config->norm = NormKind::kLayer;
  config->learned_positions = true;
  config->gated = false;
  config->activation = Activation::kGeluTanh;
  DECANT_TRY_STATUS(read_common(file, config));
  return {};
}

}  // namespace

extern const FamilyInfo kGpt2 = {
    .architecture = "gpt2",
    .summary = "GPT-2: LayerNorm, learned positions, biases everywhere, GELU",
    .read = read_gpt2,
};

}  // namespace decant
