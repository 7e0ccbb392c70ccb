// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "model/convert.h"

#include <algorithm>
#include <map>
#include <vector>

#include "base/quants.h"
#include "formats/gguf.h"
#include "model/config.h"

namespace decant {
namespace {

// "blk.3.ffn_up.7.weight": the tensor's name without the expert, and the expert; nullopt for others.
struct ExpertName {
  std::string joined;
  int expert;
};
std::optional<ExpertName> expert_name(const std::string& name) {
  for (const char* part : {"ffn_gate", "ffn_up", "ffn_down"}) {
    const std::string key = std::string(".") + part + ".";
    const size_t at = name.find(key);
    if (at == std::string::npos || !name.ends_with(".weight")) continue;
    const size_t begin = at + key.size(), end = name.size() - std::string_view(".weight").size();
    if (begin >= end || end - begin > 6 || name.find_first_not_of("0123456789", begin) < end) continue;
    return ExpertName{name.substr(0, at) + "." + part + "_exps.weight", std::stoi(name.substr(begin, end - begin))};
  }
  return std::nullopt;
}

// A tensor of the new file: one of the model's, or several of equal shape, one after another.
struct Output {
  std::string name;
  std::vector<const GgufTensor*> parts;
  DType type = DType::kF32;
};

Result<std::vector<uint8_t>> encode(const GgufFile& model, const Output& output) {
  std::vector<uint8_t> bytes;
  for (const GgufTensor* tensor : output.parts) {
    const std::vector<uint8_t> made = tensor->make ? tensor->make() : std::vector<uint8_t>();
    const uint8_t* source = tensor->make ? made.data() : tensor->data.data();
    const int64_t cols = tensor->cols(), rows = tensor->rows();
    const size_t row = row_bytes(output.type, cols), source_row = row_bytes(tensor->type, cols);
    const size_t at = bytes.size();
    if (output.type == tensor->type) {
      bytes.insert(bytes.end(), source, source + tensor->bytes());
    } else {
      bytes.resize(at + row * static_cast<size_t>(rows));
      std::vector<float> values(static_cast<size_t>(cols));
      for (int64_t r = 0; r < rows; ++r) {
        dequantize_row(tensor->type, source + static_cast<size_t>(r) * source_row, values.data(), cols);
        Status status = quantize_row(output.type, values.data(), &bytes[at + static_cast<size_t>(r) * row], cols);
        if (!status.ok()) {
          return std::move(status).with_context(fmt::format("{}: tensor {}: row {}", model.path(), tensor->name, r));
        }
      }
    }
    if (!tensor->make) model.release(*tensor, 0, tensor->data.size());
  }
  return bytes;
}

}  // namespace

namespace {

// The tensor's name in a file of the kept layers only; nullopt for one of another layer.
std::optional<std::string> renumbered(const std::string& name, const std::vector<int>& kept) {
  if (kept.empty() || !name.starts_with("blk.")) return name;
  const size_t end = name.find('.', 4);
  if (end == std::string::npos || end == 4 || end > 10 || name.find_first_not_of("0123456789", 4) < end) return name;
  const auto place = std::lower_bound(kept.begin(), kept.end(), std::stoi(name.substr(4, end - 4)));
  if (place == kept.end() || *place != std::stoi(name.substr(4, end - 4))) return std::nullopt;
  return fmt::format("blk.{}{}", place - kept.begin(), name.substr(end));
}

// Metadata that counts layers: their number, arrays with an entry for each, and which of them have a window, which
// some families otherwise tell by the layer's number. The keys that are set are not to be copied.
Result<std::vector<std::string>> set_layers(const GgufFile& model, const std::vector<int>& kept, GgufWriter* writer) {
  DECANT_TRY(const ModelConfig config, read_config(model));
  for (size_t i = 0; i < kept.size(); ++i) {
    if (kept[i] < 0 || kept[i] >= config.n_layers() || (i > 0 && kept[i] <= kept[i - 1])) {
      return Status::invalid_argument("{}: layer {} is none of the {} in ascending order", model.path(), kept[i],
                                      config.n_layers());
    }
  }
  const std::string prefix = config.architecture + ".";
  std::vector<std::string> keys = {prefix + "block_count"};
  writer->set(keys[0], static_cast<uint32_t>(kept.size()));
  std::vector<bool> windowed;
  for (const int i : kept) windowed.push_back(config.layers[static_cast<size_t>(i)].window > 0);
  if (std::any_of(config.layers.begin(), config.layers.end(), [](const LayerConfig& l) { return l.window > 0; })) {
    keys.push_back(prefix + "attention.sliding_window_pattern");
    writer->set(keys.back(), windowed);
  }
  for (const auto& [key, value] : model.metadata()) {
    const auto* array = std::get_if<std::shared_ptr<const GgufArray>>(&value);
    if (array == nullptr || !key.starts_with(prefix) || (*array)->size() != config.layers.size()) continue;
    if (std::find(keys.begin(), keys.end(), key) != keys.end()) continue;
    std::vector<int32_t> numbers;
    for (const int i : kept) {
      const auto at = static_cast<size_t>(i);
      if (const auto* u = std::get_if<std::vector<uint64_t>>(&(*array)->values)) {
        numbers.push_back(static_cast<int32_t>((*u)[at]));
      } else if (const auto* s = std::get_if<std::vector<int64_t>>(&(*array)->values)) {
        numbers.push_back(static_cast<int32_t>((*s)[at]));
      }
    }
    if (numbers.size() != kept.size()) continue;  // of other things than sizes
    keys.push_back(key);
    writer->set(key, numbers);
  }
  return keys;
}

}  // namespace

Status write_gguf(const GgufFile& model, const std::string& path, const ConvertOptions& options) {
  GgufWriter writer;
  std::vector<std::string> set;
  if (!options.layers.empty()) {
    DECANT_TRY(set, set_layers(model, options.layers, &writer));
  }
  for (const GgufEntry& entry : model.entries()) {
    if (std::find(set.begin(), set.end(), entry.key) != set.end()) continue;
    // What describes the old file, not the model.
    if (entry.key.starts_with("split.") || entry.key == "general.alignment" || entry.key == "general.file_type")
      continue;
    writer.copy(entry);
  }
  std::vector<Output> outputs;
  std::map<std::string, size_t> joined;
  for (const GgufTensor& tensor : model.tensors()) {
    const std::optional<std::string> name = renumbered(tensor.name, options.layers);
    if (!name) continue;
    const std::optional<ExpertName> expert = expert_name(*name);
    if (!expert) {
      outputs.push_back({.name = *name, .parts = {&tensor}});
      continue;
    }
    const auto [it, is_new] = joined.emplace(expert->joined, outputs.size());
    if (is_new) outputs.push_back({.name = expert->joined, .parts = {}});
    std::vector<const GgufTensor*>& parts = outputs[it->second].parts;
    const auto index = static_cast<size_t>(expert->expert);
    if (index >= parts.size()) parts.resize(index + 1, nullptr);
    parts[index] = &tensor;
  }
  for (Output& output : outputs) {
    for (size_t e = 0; e < output.parts.size(); ++e) {
      if (output.parts[e] == nullptr) {
        return Status::not_found("{}: tensor {}: expert {} is missing", model.path(), output.name, e);
      }
      if (output.parts[e]->shape != output.parts[0]->shape) {
        return Status::corrupt("{}: tensor {}: expert {} has another shape than expert 0", model.path(), output.name,
                               e);
      }
    }
    const GgufTensor& first = *output.parts[0];
    const bool is_vector = first.shape.size() == 1, is_router = output.name.ends_with("ffn_gate_inp.weight");
    output.type = is_vector || is_router ? DType::kF32 : options.type.value_or(first.type);
    if (first.cols() % dtype_info(output.type).block != 0) output.type = DType::kF16;
    std::vector<int64_t> shape = first.shape;
    if (output.parts.size() > 1) shape.push_back(static_cast<int64_t>(output.parts.size()));
    writer.add_tensor(output.name, output.type, std::move(shape), [&model, &output] { return encode(model, output); });
  }
  return writer.write(path, options.progress);
}

}  // namespace decant
