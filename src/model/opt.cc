// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "formats/gguf.h"
#include "model/config.h"

namespace decant {
namespace {

Status read_opt(const GgufFile& file, ModelConfig* config) {
  config->norm = NormKind::kLayer;
  config->learned_positions = true;
  config->gated = false;
  config->activation = Activation::kRelu;
  DECANT_TRY_STATUS(read_common(file, config));
  DECANT_TRY(const std::optional<bool> before, file.get_bool("opt.norm_before"));
  if (!before.value_or(true)) config->norm_place = NormPlace::kPost;
  DECANT_TRY(const std::optional<bool> final_norm, file.get_bool("opt.final_norm"));
  config->final_norm = final_norm.value_or(config->norm_place == NormPlace::kPre);
  DECANT_TRY(const std::optional<uint64_t> width, file.get_uint("opt.word_embedding_length"));
  if (width && (*width < 1 || *width > (1 << 20))) {
    return Status::corrupt("{}: metadata opt.word_embedding_length is {}; expected 1 to 1048576", file.path(), *width);
  }
  if (width && *width != static_cast<uint64_t>(config->hidden)) config->embedding_dim = static_cast<int>(*width);
  return {};
}

}  // namespace

extern const FamilyInfo kOpt = {
    .architecture = "opt",
    .summary = "OPT (from safetensors; GGUF has no such architecture): LayerNorm, learned positions, ReLU",
    .read = read_opt,
};

}  // namespace decant
