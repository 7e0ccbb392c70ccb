// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Opens a model of either container. A Hugging Face checkpoint (config.json, safetensors, tokenizer.json) is seen as
// the GGUF that a converter would make of it: the same metadata keys, tensor names and layouts, with the tensors still
// in the mapped safetensors files where their bytes are the same. So families, tokenizers and templates read one
// format, and a converted file computes the same bits.
#pragma once

#include <functional>
#include <string>

#include "base/status.h"
#include "formats/gguf.h"

namespace decant {

struct ModelConfig;

// `path`: a GGUF file (the first of a split set), a checkpoint folder, or a .safetensors or .safetensors.index.json
// file in one. kNotFound, kCorrupt, kUnsupported name file, field and fix.
Result<GgufFile> open_model(const std::string& path);

// Whether open_model() takes `path` for a checkpoint.
bool is_checkpoint(const std::string& path);

// The GGUF names of a checkpoint's tensor and how its rows are rearranged; what adapters of such a checkpoint need.
struct CheckpointName {
  std::string gguf;  // with ".weight" or ".bias"
  // Row r of the GGUF tensor is row `order(r)` of the checkpoint's; null: the same.
  std::function<int64_t(int64_t)> order;
};
// kNotFound for a name that the family of `config` does not have; `path` starts the message.
Result<CheckpointName> checkpoint_name(const std::string& path, const ModelConfig& config, const std::string& name);

}  // namespace decant
