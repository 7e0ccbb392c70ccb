// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "formats/gguf.h"
#include "model/config.h"

namespace decant {
namespace {

Status read_llama(const GgufFile& file, ModelConfig* config) {
  DECANT_TRY_STATUS(read_common(file, config));
  // GGUF's converter permutes the rows of q and k so that rotated pairs are neighbours; rope_freqs.weight carries Llama
  // 3's frequency scaling.
  config->ropes[0].interleaved = true;
  DECANT_TRY_STATUS(read_windows(file, 0, config));
  return {};
}

}  // namespace

extern const FamilyInfo kLlama = {
    .architecture = "llama",
    .summary = "Llama 2 and 3, SmolLM2, TinyLlama, Mistral, Mixtral: RMSNorm, RoPE, grouped queries, SwiGLU",
    .read = read_llama,
};

}  // namespace decant
