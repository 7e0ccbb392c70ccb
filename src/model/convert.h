// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Writes a model as one GGUF file.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "base/status.h"

namespace decant {

class GgufFile;

struct ConvertOptions {
  // Type of the weight matrices; none: each keeps its own. Vectors (norms, biases) and routers become float32; a matrix
  // whose rows are not whole blocks of the type becomes F16.
  std::optional<DType> type = {};
  // Layers that are kept, ascending; empty: all. The others are left out and the rest counted anew.
  std::vector<int> layers = {};
  std::function<void(double)> progress = {};  // the share of bytes written
};

// `model` as open_model() gives it; the tensors of a mixture's experts are joined as GGUF has them. The file appears
// whole. kInvalidArgument for layers that the model does not have, or a weight that the type cannot hold (not finite,
// too large for F16), kExhausted for a full disk.
Status write_gguf(const GgufFile& model, const std::string& path, const ConvertOptions& options);

}  // namespace decant
