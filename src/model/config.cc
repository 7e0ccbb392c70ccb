// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "model/config.h"

#include <cmath>

#include "formats/gguf.h"

namespace decant {

#define DECANT_FAMILY(name) extern const FamilyInfo name;
#include "model/families.inc"
#undef DECANT_FAMILY

const std::vector<const FamilyInfo*>& families() {
  static const std::vector<const FamilyInfo*> all = {
#define DECANT_FAMILY(name) &name,
#include "model/families.inc"
#undef DECANT_FAMILY
  };
  return all;
}

namespace {

// Larger values than any model's: they only catch files that would overflow a size or exhaust memory before the
// tensors' own shapes are compared.
constexpr uint64_t kMaxDim = 1 << 20;
constexpr uint64_t kMaxLayers = 4096;
constexpr uint64_t kMaxContext = 1 << 28;

// A size from 1 to `max`; `fallback` (if > 0) when the key is absent.
Result<int> read_size(const GgufFile& file, const std::string& key, uint64_t max, int fallback = 0) {
  DECANT_TRY(std::optional<uint64_t> value, file.get_uint(key));
  if (!value) {
    if (fallback > 0) return fallback;
    return Status::not_found("{}: metadata {} is missing; convert the model again", file.path(), key);
  }
  if (*value < 1 || *value > max) {
    return Status::corrupt("{}: metadata {} is {}; expected 1 to {}", file.path(), key, *value, max);
  }
  return static_cast<int>(*value);
}

// A per-layer size: one number for all layers, or an array with one a layer.
Status read_per_layer(const GgufFile& file, const std::string& key, uint64_t max, int fallback, ModelConfig* config,
                      int LayerConfig::*member) {
  const GgufValue* value = file.find(key);
  if (value == nullptr || !std::holds_alternative<std::shared_ptr<const GgufArray>>(*value)) {
    DECANT_TRY(const int size, read_size(file, key, max, fallback));
    for (LayerConfig& layer : config->layers) layer.*member = size;
    return {};
  }
  const GgufArray& array = *std::get<std::shared_ptr<const GgufArray>>(*value);
  if (array.size() != config->layers.size()) {
    return Status::corrupt("{}: metadata {} has {} entries for {} layers", file.path(), key, array.size(),
                           config->layers.size());
  }
  for (size_t i = 0; i < config->layers.size(); ++i) {
    uint64_t size = 0;
    if (const auto* u = std::get_if<std::vector<uint64_t>>(&array.values)) size = (*u)[i];
    if (const auto* s = std::get_if<std::vector<int64_t>>(&array.values)) size = static_cast<uint64_t>((*s)[i]);
    if (size < 1 || size > max) {
      return Status::corrupt("{}: metadata {}[{}] is not a number from 1 to {}", file.path(), key, i, max);
    }
    config->layers[i].*member = static_cast<int>(size);
  }
  return {};
}

Result<double> read_positive(const GgufFile& file, const std::string& key, double fallback) {
  DECANT_TRY(const std::optional<double> value, file.get_float(key));
  const double result = value.value_or(fallback);
  if (!std::isfinite(result) || result <= 0) {
    return Status::corrupt("{}: metadata {} is {}; expected a positive number", file.path(), key, result);
  }
  return result;
}

}  // namespace

Status read_common(const GgufFile& file, ModelConfig* config) {
  const std::string prefix = config->architecture + ".";
  DECANT_TRY(std::optional<std::string_view> name, file.get_string("general.name"));
  config->name = name.value_or("");

  DECANT_TRY(const std::optional<uint64_t> experts, file.get_uint(prefix + "expert_count"));
  if (experts.value_or(0) > 0) {
    return Status::unsupported("{}: metadata {}expert_count is {}: mixtures of experts are not supported", file.path(),
                               prefix, *experts);
  }

  DECANT_TRY(const int n_layers, read_size(file, prefix + "block_count", kMaxLayers));
  config->layers.assign(static_cast<size_t>(n_layers), LayerConfig{});
  DECANT_TRY(config->hidden, read_size(file, prefix + "embedding_length", kMaxDim));
  DECANT_TRY(config->context_length, read_size(file, prefix + "context_length", kMaxContext));
  DECANT_TRY(const double eps, read_positive(file, prefix + "attention.layer_norm_rms_epsilon", 1e-5));
  config->norm_eps = static_cast<float>(eps);

  DECANT_TRY_STATUS(read_per_layer(file, prefix + "attention.head_count", kMaxDim, 0, config, &LayerConfig::n_heads));
  DECANT_TRY_STATUS(read_per_layer(file, prefix + "feed_forward_length", kMaxDim, 0, config, &LayerConfig::ffn_dim));
  const int heads = config->layers[0].n_heads;
  DECANT_TRY_STATUS(
      read_per_layer(file, prefix + "attention.head_count_kv", kMaxDim, heads, config, &LayerConfig::n_kv_heads));
  const int default_dim = std::max(1, config->hidden / heads);
  DECANT_TRY(const int k_dim, read_size(file, prefix + "attention.key_length", 4096, default_dim));
  DECANT_TRY(const int v_dim, read_size(file, prefix + "attention.value_length", 4096, default_dim));
  for (size_t i = 0; i < config->layers.size(); ++i) {
    LayerConfig& layer = config->layers[i];
    layer.k_dim = k_dim;
    layer.v_dim = v_dim;
    if (layer.n_heads % layer.n_kv_heads != 0) {
      return Status::corrupt("{}: layer {}: {} heads cannot share {} key/value heads evenly", file.path(), i,
                             layer.n_heads, layer.n_kv_heads);
    }
    if (uint64_t{static_cast<uint32_t>(layer.n_heads)} * static_cast<uint32_t>(std::max(k_dim, v_dim)) > kMaxDim) {
      return Status::corrupt("{}: layer {}: {} heads of {} dimensions are too many", file.path(), i, layer.n_heads,
                             k_dim);
    }
  }
  if (k_dim % 16 != 0 || v_dim % 16 != 0) {
    return Status::unsupported("{}: head dimensions {} and {}: only multiples of 16 are supported", file.path(), k_dim,
                               v_dim);
  }
  config->attention_scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(k_dim)));

  RopeConfig rope;
  DECANT_TRY(rope.rot_dim, read_size(file, prefix + "rope.dimension_count", 4096, k_dim));
  if (rope.rot_dim % 2 != 0 || rope.rot_dim > k_dim) {
    return Status::corrupt("{}: metadata {}rope.dimension_count is {}; expected an even number up to {}", file.path(),
                           prefix, rope.rot_dim, k_dim);
  }
  DECANT_TRY(rope.base, read_positive(file, prefix + "rope.freq_base", 10000.0));
  DECANT_TRY(const std::optional<std::string_view> scaling, file.get_string(prefix + "rope.scaling.type"));
  const std::string_view type = scaling.value_or("none");
  if (type == "linear") {
    DECANT_TRY(rope.linear_factor, read_positive(file, prefix + "rope.scaling.factor", 1.0));
  } else if (type != "none" && !type.empty()) {
    return Status::unsupported("{}: metadata {}rope.scaling.type is \"{}\"; supported: none, linear", file.path(),
                               prefix, type);
  } else if (!scaling) {
    // The key of files older than rope.scaling.*.
    DECANT_TRY(rope.linear_factor, read_positive(file, prefix + "rope.scale_linear", 1.0));
  }
  config->ropes = {rope};
  return {};
}

Result<ModelConfig> read_config(const GgufFile& file) {
  ModelConfig config;
  DECANT_TRY(const std::string_view architecture, file.require_string("general.architecture"));
  for (const FamilyInfo* family : families()) {
    if (family->architecture != architecture) continue;
    config.architecture = architecture;
    DECANT_TRY_STATUS(family->read(file, &config));
    return config;
  }
  std::string known;
  for (const FamilyInfo* family : families()) known += (known.empty() ? "" : ", ") + std::string(family->architecture);
  return Status::unsupported("{}: metadata general.architecture is \"{}\"; supported: {}", file.path(), architecture,
                             known);
}

}  // namespace decant
