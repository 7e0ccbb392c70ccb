// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Writes a model as a Hugging Face checkpoint: config.json and model.safetensors, in shards with an index if it is
// large.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "base/dtype.h"
#include "base/status.h"

namespace decant {

class GgufFile;
struct ModelConfig;

struct ExportOptions {
  // F32, F16 or BF16 for all tensors; none: each keeps its own, quantized ones become F16.
  std::optional<DType> type = {};
  size_t shard_bytes = size_t{5'000'000'000};
  std::function<void(double)> progress = {};  // the share of bytes written
};

// Writes into `folder`, which exists. `source`: the path that open_model() made `model` of. A checkpoint keeps its own
// tensors, names and options, and its other files (tokenizer, generation options, licence) are copied; what follows a
// GGUF file is named and laid out as transformers' class for its family has it, without a tokenizer
// (write_hf_tokenizer() of text/hf_export.h). kUnsupported for what a configuration of that class cannot say (layers of
// different sizes, Llama 3 frequencies that no rope_scaling gives), kInvalidArgument for another type or a weight that
// it cannot hold.
Status write_checkpoint(const std::string& source, const GgufFile& model, const ModelConfig& config,
                        const std::string& folder, const ExportOptions& options);

}  // namespace decant
