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

Status read_experts(const GgufFile& file, const std::string& prefix, ModelConfig* config) {
  DECANT_TRY(const std::optional<uint64_t> experts, file.get_uint(prefix + "expert_count"));
  if (experts.value_or(0) == 0) return {};
  DECANT_TRY(config->experts, read_size(file, prefix + "expert_count", 4096));
  DECANT_TRY(config->experts_used, read_size(file, prefix + "expert_used_count", kMaxDim));
  if (config->experts_used > config->experts) {
    return Status::corrupt("{}: metadata {}expert_used_count is {} of {} experts", file.path(), prefix,
                           config->experts_used, config->experts);
  }
  DECANT_TRY(config->expert_ffn_dim,
             read_size(file, prefix + "expert_feed_forward_length", kMaxDim, config->layers[0].ffn_dim));
  DECANT_TRY(const std::optional<bool> renormalized, file.get_bool(prefix + "expert_weights_norm"));
  config->experts_renormalized = renormalized.value_or(true);
  DECANT_TRY(const std::optional<uint64_t> shared, file.get_uint(prefix + "expert_shared_count"));
  if (shared.value_or(0) > 0) {
    return Status::unsupported("{}: metadata {}expert_shared_count is {}: shared experts are not supported",
                               file.path(), prefix, *shared);
  }
  return {};
}

struct ActivationName {
  std::string_view name;
  Activation activation;
};
// As Hugging Face's configurations spell them.
constexpr ActivationName kActivationNames[] = {
    {"silu", Activation::kSilu},          {"swish", Activation::kSilu},
    {"gelu", Activation::kGelu},          {"gelu_new", Activation::kGeluTanh},
    {"gelu_fast", Activation::kGeluTanh}, {"gelu_pytorch_tanh", Activation::kGeluTanh},
    {"relu", Activation::kRelu},          {"quick_gelu", Activation::kQuickGelu},
};

// `ARCHITECTURE.hidden_activation`, Decant's own key: GGUF's architectures imply theirs.
Status read_activation(const GgufFile& file, const std::string& prefix, Activation* activation) {
  DECANT_TRY(const std::optional<std::string_view> name, file.get_string(prefix + "hidden_activation"));
  if (!name) return {};
  for (const ActivationName& known : kActivationNames) {
    if (known.name != *name) continue;
    *activation = known.activation;
    return {};
  }
  std::string names;
  for (const ActivationName& known : kActivationNames) names += (names.empty() ? "" : ", ") + std::string(known.name);
  return Status::unsupported("{}: metadata {}hidden_activation is \"{}\"; supported: {}", file.path(), prefix,
                             name->substr(0, 80), names);
}

Status read_scaling(const GgufFile& file, const std::string& prefix, int context, RopeConfig* rope) {
  DECANT_TRY(const std::optional<std::string_view> type, file.get_string(prefix + "rope.scaling.type"));
  DECANT_TRY(rope->original_context,
             read_size(file, prefix + "rope.scaling.original_context_length", kMaxContext, std::max(1, context)));
  DECANT_TRY(rope->magnitude, read_positive(file, prefix + "rope.scaling.attn_factor", 1.0));
  if (!type) {
    // The key of files older than rope.scaling.*.
    DECANT_TRY(rope->factor, read_positive(file, prefix + "rope.scale_linear", 1.0));
    if (rope->factor != 1.0) rope->scaling = RopeScaling::kLinear;
    return {};
  }
  if (*type == "none" || type->empty() || *type == "longrope") return {};  // LongRoPE is its tensors
  if (*type != "linear" && *type != "yarn") {
    return Status::unsupported("{}: metadata {}rope.scaling.type is \"{}\"; supported: none, linear, yarn, longrope",
                               file.path(), prefix, *type);
  }
  DECANT_TRY(rope->factor, read_positive(file, prefix + "rope.scaling.factor", 1.0));
  rope->scaling = *type == "linear" ? RopeScaling::kLinear : RopeScaling::kYarn;
  if (rope->scaling == RopeScaling::kLinear) return {};
  DECANT_TRY(rope->beta_fast, read_positive(file, prefix + "rope.scaling.yarn_beta_fast", 32.0));
  DECANT_TRY(rope->beta_slow, read_positive(file, prefix + "rope.scaling.yarn_beta_slow", 1.0));
  if (rope->factor > 1) rope->magnitude *= 0.1 * std::log(rope->factor) + 1.0;
  return {};
}

}  // namespace

Status read_common(const GgufFile& file, ModelConfig* config) {
  const std::string prefix = config->architecture + ".";
  DECANT_TRY(std::optional<std::string_view> name, file.get_string("general.name"));
  config->name = name.value_or("");

  DECANT_TRY(const int n_layers, read_size(file, prefix + "block_count", kMaxLayers));
  config->layers.assign(static_cast<size_t>(n_layers), LayerConfig{});
  DECANT_TRY(config->hidden, read_size(file, prefix + "embedding_length", kMaxDim));
  DECANT_TRY(config->context_length, read_size(file, prefix + "context_length", kMaxContext));
  const char* const eps_key =
      config->norm == NormKind::kRms ? "attention.layer_norm_rms_epsilon" : "attention.layer_norm_epsilon";
  DECANT_TRY(const double eps, read_positive(file, prefix + eps_key, 1e-5));
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

  DECANT_TRY_STATUS(read_activation(file, prefix, &config->activation));
  DECANT_TRY_STATUS(read_experts(file, prefix, config));
  if (config->learned_positions) return {};
  RopeConfig rope;
  DECANT_TRY(rope.rot_dim, read_size(file, prefix + "rope.dimension_count", 4096, k_dim));
  if (rope.rot_dim % 2 != 0 || rope.rot_dim > k_dim) {
    return Status::corrupt("{}: metadata {}rope.dimension_count is {}; expected an even number up to {}", file.path(),
                           prefix, rope.rot_dim, k_dim);
  }
  DECANT_TRY(rope.base, read_positive(file, prefix + "rope.freq_base", 10000.0));
  DECANT_TRY_STATUS(read_scaling(file, prefix, config->context_length, &rope));
  config->ropes = {rope};
  return {};
}

Status read_soft_cap(const GgufFile& file, const std::string& key, float* cap) {
  DECANT_TRY(const std::optional<double> value, file.get_float(key));
  if (value && (!std::isfinite(*value) || *value < 0)) {
    return Status::corrupt("{}: metadata {} is {}; expected 0 or more", file.path(), key, *value);
  }
  *cap = static_cast<float>(value.value_or(0));
  return {};
}

Status read_windows(const GgufFile& file, uint64_t period, ModelConfig* config) {
  const std::string key = config->architecture + ".attention.sliding_window";
  DECANT_TRY(const std::optional<uint64_t> window, file.get_uint(key));
  const std::string pattern_key = key + "_pattern";
  const GgufValue* pattern = file.find(pattern_key);
  const std::vector<int64_t>* flags = nullptr;
  if (pattern != nullptr && std::holds_alternative<std::shared_ptr<const GgufArray>>(*pattern)) {
    flags = std::get_if<std::vector<int64_t>>(&std::get<std::shared_ptr<const GgufArray>>(*pattern)->values);
    if (flags == nullptr || flags->size() != config->layers.size()) {
      return Status::corrupt("{}: metadata {} must have one boolean for each of the {} layers", file.path(),
                             pattern_key, config->layers.size());
    }
  } else if (pattern != nullptr) {
    DECANT_TRY(period, file.require_uint(pattern_key));
    if (period == 0) {
      return Status::corrupt("{}: metadata {} is 0; expected a period of at least 1", file.path(), pattern_key);
    }
  }
  for (size_t i = 0; i < config->layers.size(); ++i) {
    const bool windowed = flags != nullptr ? (*flags)[i] != 0 : period == 0 || (i + 1) % period != 0;
    if (windowed) config->layers[i].window = static_cast<int>(std::min<uint64_t>(window.value_or(0), kMaxContext));
  }
  return {};
}

Status read_query_scale(const GgufFile& file, ModelConfig* config) {
  const std::string key = config->architecture + ".attention.scale";
  DECANT_TRY(const double scale, read_positive(file, key, static_cast<double>(config->attention_scale)));
  config->attention_scale = static_cast<float>(scale);
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
