// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "formats/gguf.h"
#include "model/config.h"

namespace decant {
namespace {

Status read_gptneox(const GgufFile& file, ModelConfig* config) {
  config->norm = NormKind::kLayer;
  config->gated = false;
  config->activation = Activation::kGelu;
  DECANT_TRY_STATUS(read_common(file, config));
  DECANT_TRY(const std::optional<bool> parallel, file.get_bool("gptneox.use_parallel_residual"));
  config->parallel_residual = parallel.value_or(true);
  return {};
}

}  // namespace

extern const FamilyInfo kGptNeoX = {
    .architecture = "gptneox",
    .summary = "GPT-NeoX, Pythia: LayerNorm, partial RoPE, biases everywhere, both branches in parallel",
    .read = read_gptneox,
};

}  // namespace decant
