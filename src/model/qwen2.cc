// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "formats/gguf.h"
#include "model/config.h"

namespace decant {
namespace {

Status read_qwen2(const GgufFile& file, ModelConfig* config) {
  DECANT_TRY_STATUS(read_common(file, config));
  DECANT_TRY_STATUS(read_windows(file, 0, config));
  return {};
}

}  // namespace

extern const FamilyInfo kQwen2 = {
    .architecture = "qwen2",
    .summary = "Qwen 2 and 2.5: as Llama, with biases of q, k and v",
    .read = read_qwen2,
};

}  // namespace decant
