// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "formats/gguf.h"
#include "model/config.h"

namespace decant {
namespace {

Status read_phi3(const GgufFile& file, ModelConfig* config) {
  DECANT_TRY_STATUS(read_common(file, config));
  DECANT_TRY_STATUS(read_windows(file, 0, config));
  return {};
}

}  // namespace

extern const FamilyInfo kPhi3 = {
    .architecture = "phi3",
    .summary = "Phi-3, Phi-3.5 and Phi-4 mini: as Llama, with LongRoPE",
    .read = read_phi3,
};

}  // namespace decant
