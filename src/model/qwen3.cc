// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "formats/gguf.h"
#include "model/config.h"

namespace decant {
namespace {

Status read_qwen3(const GgufFile& file, ModelConfig* config) {
  config->qk_norm = true;
  DECANT_TRY_STATUS(read_common(file, config));
  DECANT_TRY_STATUS(read_windows(file, 0, config));
  return {};
}

}  // namespace

extern const FamilyInfo kQwen3 = {
    .architecture = "qwen3",
    .summary = "Qwen 3: as Llama, with norms of q and k",
    .read = read_qwen3,
};

}  // namespace decant
