// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Options of configurations were read in transformers' configuration classes.
#include "model/export.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <numbers>
#include <vector>

#include "base/mapped_file.h"
#include "base/quants.h"
#include "formats/gguf.h"
#include "formats/safetensors.h"
#include "model/checkpoint.h"
#include "model/checkpoint_families.h"
#include "model/config.h"

namespace decant {
namespace {

namespace fs = std::filesystem;
using checkpoint::CheckpointFamily;
using checkpoint::Layout;
using checkpoint::Mapped;
using Json = nlohmann::ordered_json;

// The type's name in safetensors and in config.json; null for types that a checkpoint cannot have.
struct FloatType {
  DType type;
  const char* safetensors;
  const char* torch;
};
constexpr FloatType kFloatTypes[] = {
    {DType::kF32, "F32", "float32"}, {DType::kF16, "F16", "float16"}, {DType::kBF16, "BF16", "bfloat16"}};
const FloatType* find_float(DType type) {
  for (const FloatType& f : kFloatTypes) {
    if (f.type == type) return &f;
  }
  return nullptr;
}
const FloatType* find_float(std::string_view safetensors) {
  for (const FloatType& f : kFloatTypes) {
    if (f.safetensors == safetensors) return &f;
  }
  return nullptr;
}

// The shortest decimal that reads back as this float, not the float's exact value.
double shortest(float value) { return std::strtod(fmt::format("{}", value).c_str(), nullptr); }

Status write_text(const std::string& path, const std::string& text) {
  DECANT_TRY(AtomicFile file, AtomicFile::create(path));
  DECANT_TRY_STATUS(file.write({reinterpret_cast<const uint8_t*>(text.data()), text.size()}));
  return file.commit();
}

// `count` values of one type as another. kInvalidArgument for a value that the new type cannot hold.
Result<std::vector<uint8_t>> cast(DType from, const uint8_t* source, DType to, int64_t rows, int64_t cols) {
  const size_t source_row = row_bytes(from, cols), row = row_bytes(to, cols);
  std::vector<uint8_t> bytes(row * static_cast<size_t>(rows));
  std::vector<float> values(static_cast<size_t>(cols));
  for (int64_t r = 0; r < rows; ++r) {
    dequantize_row(from, source + static_cast<size_t>(r) * source_row, values.data(), cols);
    Status status = quantize_row(to, values.data(), &bytes[static_cast<size_t>(r) * row], cols);
    if (!status.ok()) return std::move(status).with_context(fmt::format("row {}", r));
  }
  return bytes;
}

// --- from a checkpoint ---

bool is_side_file(const fs::path& path) {
  const std::string name = path.filename().string(), extension = path.extension().string();
  if (name.ends_with(".safetensors.index.json") || name == "config.json" || name.ends_with(".bin.index.json"))
    return false;
  return extension == ".json" || extension == ".txt" || extension == ".model" || extension == ".jinja" ||
         extension == ".md" || name.starts_with("LICENSE") || name.starts_with("NOTICE");
}

Status rewrite_checkpoint(const std::string& source, const std::string& folder, const ExportOptions& options) {
  std::error_code error;
  std::string parent = fs::is_directory(source, error) ? source : fs::path(source).parent_path().string();
  if (parent.empty()) parent = ".";
  DECANT_TRY(const SafetensorsFile files, SafetensorsFile::open(source));
  SafetensorsWriter writer;
  writer.set_metadata("format", "pt");
  const FloatType* wanted = options.type ? find_float(*options.type) : nullptr;
  for (const SafetensorsTensor& tensor : files.tensors()) {
    const FloatType* own = find_float(tensor.dtype);
    const bool same = wanted == nullptr || own == nullptr || own == wanted;
    auto produce = [&files, &tensor, own, wanted, same]() -> Result<std::vector<uint8_t>> {
      std::vector<uint8_t> bytes;
      if (same) {
        bytes.assign(tensor.data.begin(), tensor.data.end());
      } else if (!tensor.data.empty()) {
        const int64_t cols = tensor.shape.empty() ? 1 : tensor.shape.back();
        const int64_t rows = static_cast<int64_t>(tensor.data.size() / row_bytes(own->type, cols));
        Result<std::vector<uint8_t>> made = cast(own->type, tensor.data.data(), wanted->type, rows, cols);
        if (!made.ok()) {
          Status status = made.status();
          return std::move(status).with_context(fmt::format("{}: tensor {}", files.path(), tensor.name));
        }
        bytes = *std::move(made);
      }
      files.release(tensor, 0, tensor.data.size());
      return bytes;
    };
    DECANT_TRY_STATUS(
        writer.add_tensor(tensor.name, same ? tensor.dtype : wanted->safetensors, tensor.shape, std::move(produce)));
  }
  DECANT_TRY_STATUS(writer.write_folder(folder, options.shard_bytes, options.progress));
  std::vector<fs::path> side_files;
  for (const fs::directory_entry& entry : fs::directory_iterator(parent, error)) {
    if (entry.is_regular_file(error) && is_side_file(entry.path())) side_files.push_back(entry.path());
  }
  std::sort(side_files.begin(), side_files.end());
  for (const fs::path& path : side_files) {
    DECANT_TRY(const std::string text, read_file(path.string()));
    DECANT_TRY_STATUS(write_text(folder + "/" + path.filename().string(), text));
  }
  DECANT_TRY(const std::string text, read_file(parent + "/config.json"));
  Json config = Json::parse(text, nullptr, false);
  if (config.is_discarded()) return Status::corrupt("{}/config.json: no JSON", parent);
  if (wanted != nullptr) {
    // Both spellings are in use; nested configurations have their own.
    const auto set = [&](Json& object) {
      for (const char* key : {"torch_dtype", "dtype"}) {
        if (object.contains(key)) object[key] = wanted->torch;
      }
    };
    if (!config.contains("torch_dtype") && !config.contains("dtype")) config["torch_dtype"] = wanted->torch;
    set(config);
    if (config.contains("text_config") && config["text_config"].is_object()) set(config["text_config"]);
  }
  return write_text(folder + "/config.json", config.dump(2) + "\n");
}

// --- from GGUF ---

class Exporter {
 public:
  Exporter(const GgufFile& model, const ModelConfig& config, const ExportOptions& options)
      : model_(model), config_(config), options_(options), layer_(config.layers[0]) {}

  Status write(const std::string& folder) {
    DECANT_TRY_STATUS(check_layers());
    find_family();
    if (family_ == nullptr) return unsupported("there is no class of transformers for it");
    DECANT_TRY_STATUS(add_tensors());
    Json json;
    DECANT_TRY_STATUS(make_config(&json));
    writer_.set_metadata("format", "pt");
    DECANT_TRY_STATUS(writer_.write_folder(folder, options_.shard_bytes, options_.progress));
    Json generation;
    for (const auto& [key, name] : kIds) {
      if (!json[key].is_null()) generation[key] = json[key];
    }
    if (!generation.empty())
      DECANT_TRY_STATUS(write_text(folder + "/generation_config.json", generation.dump(2) + "\n"));
    return write_text(folder + "/config.json", json.dump(2) + "\n");
  }

 private:
  static constexpr std::pair<const char*, const char*> kIds[] = {{"bos_token_id", "tokenizer.ggml.bos_token_id"},
                                                                 {"eos_token_id", "tokenizer.ggml.eos_token_id"},
                                                                 {"pad_token_id", "tokenizer.ggml.padding_token_id"}};

  Status unsupported(const std::string& what) const {
    return Status::unsupported("{}: a {} model cannot become a checkpoint: {}", model_.path(), config_.architecture,
                               what);
  }
  bool has(const std::string& tensor) const { return model_.find_tensor(tensor) != nullptr; }
  bool is(std::string_view architecture) const { return config_.architecture == architecture; }

  Status check_layers() const {
    for (size_t i = 1; i < config_.layers.size(); ++i) {
      const LayerConfig& l = config_.layers[i];
      if (l.n_heads != layer_.n_heads || l.n_kv_heads != layer_.n_kv_heads || l.ffn_dim != layer_.ffn_dim) {
        return unsupported(fmt::format("layer {} has other sizes than layer 0", i));
      }
    }
    if (layer_.k_dim != layer_.v_dim) return unsupported("its keys and values have different sizes");
    return {};
  }

  void find_family() {
    std::string_view wanted;
    if (is("llama")) {
      const bool windowed =
          std::any_of(config_.layers.begin(), config_.layers.end(), [](const LayerConfig& l) { return l.window > 0; });
      wanted = config_.experts > 0 ? "MixtralForCausalLM" : windowed ? "MistralForCausalLM" : "LlamaForCausalLM";
    }
    for (const CheckpointFamily& f : checkpoint::families()) {
      if (f.architecture != config_.architecture || (!wanted.empty() && f.hf_class != wanted)) continue;
      family_ = &f;
      return;
    }
  }

  // --- tensors ---

  Status add_tensors() {
    for (const GgufTensor& tensor : model_.tensors()) {
      if (tensor.name.starts_with("rope_f")) continue;  // said in config.json
      if (const size_t at = tensor.name.find("_exps.weight"); at != std::string::npos) {
        if (tensor.shape.size() != 3)
          return unsupported(fmt::format("tensor {} has {} dimensions, not 3", tensor.name, tensor.shape.size()));
        for (int64_t e = 0; e < tensor.shape[2]; ++e) {
          DECANT_TRY_STATUS(add_tensor(tensor, fmt::format("{}.{}.weight", tensor.name.substr(0, at), e), e));
        }
        continue;
      }
      DECANT_TRY_STATUS(add_tensor(tensor, tensor.name, 0));
    }
    return {};
  }

  // `slice`: which of a three-dimensional tensor's matrices.
  Status add_tensor(const GgufTensor& tensor, const std::string& name, int64_t slice) {
    const std::optional<Mapped> mapped = checkpoint::from_gguf(*family_, name);
    if (!mapped) return unsupported(fmt::format("{} has no tensor {}", family_->hf_class, name));
    const DType own = find_float(tensor.type) != nullptr ? tensor.type : DType::kF16;
    const DType type = options_.type.value_or(own);
    const bool is_vector = tensor.shape.size() == 1;
    const int64_t cols = tensor.cols(), rows = is_vector ? 1 : tensor.shape[1];
    Layout layout = mapped->layout;
    if (layout == Layout::kTransposed && is_vector) layout = Layout::kSame;
    std::vector<int64_t> shape = is_vector ? std::vector{cols} : std::vector{rows, cols};
    if (layout == Layout::kTransposed) std::swap(shape[0], shape[1]);
    if (layout == Layout::kPositions2) shape[0] += 2;
    auto produce = [this, &tensor, type, layout, cols, rows, is_vector, slice]() -> Result<std::vector<uint8_t>> {
      Result<std::vector<uint8_t>> bytes = make(tensor, type, layout, rows, cols, is_vector, slice);
      if (bytes.ok()) return bytes;
      Status status = bytes.status();
      return std::move(status).with_context(fmt::format("{}: tensor {}", model_.path(), tensor.name));
    };
    if (!torch_type_ && !is_vector) torch_type_ = type;
    return writer_.add_tensor(mapped->name, find_float(type)->safetensors, std::move(shape), std::move(produce));
  }

  Result<std::vector<uint8_t>> make(const GgufTensor& tensor, DType type, Layout layout, int64_t rows, int64_t cols,
                                    bool is_vector, int64_t slice) const {
    const std::vector<uint8_t> made = tensor.make ? tensor.make() : std::vector<uint8_t>();
    const uint8_t* source = tensor.make ? made.data() : tensor.data.data();
    source += row_bytes(tensor.type, cols) * static_cast<size_t>(rows * slice);
    if (layout == Layout::kPlusOne) {
      std::vector<float> values(static_cast<size_t>(cols));
      dequantize_row(tensor.type, source, values.data(), cols);
      for (float& v : values) v -= 1.0f;
      return cast(DType::kF32, reinterpret_cast<const uint8_t*>(values.data()), type, 1, cols);
    }
    DECANT_TRY(std::vector<uint8_t> bytes, cast(tensor.type, source, type, rows, cols));
    if (!tensor.make && slice == 0) model_.release(tensor, 0, tensor.data.size());
    // From here on rows, or for a vector its elements, change places.
    const size_t item = static_cast<size_t>(dtype_info(type).bytes);
    const int64_t n = is_vector ? cols : rows;
    const size_t row = is_vector ? item : static_cast<size_t>(cols) * item;
    if (layout == Layout::kTransposed) {
      std::vector<uint8_t> turned(bytes.size());
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t c = 0; c < cols; ++c) {
          std::memcpy(&turned[static_cast<size_t>(c * rows + r) * item],
                      &bytes[static_cast<size_t>(r * cols + c) * item], item);
        }
      }
      return turned;
    }
    const int heads = layout == Layout::kPairedK ? layer_.n_kv_heads : layer_.n_heads;
    if (layout == Layout::kPairedQ || layout == Layout::kPairedK || layout == Layout::kHeadsOfQkv) {
      const int64_t expected = int64_t{heads} * layer_.k_dim * (layout == Layout::kHeadsOfQkv ? 3 : 1);
      if (n != expected) return Status::corrupt("{} rows; the metadata asks for {}", n, expected);
    }
    const std::function<int64_t(int64_t)> order = checkpoint::row_order(layout, heads, layer_.k_dim);
    if (!order) return bytes;
    std::vector<uint8_t> placed(bytes.size() + (layout == Layout::kPositions2 ? 2 * row : 0));
    for (int64_t r = 0; r < n; ++r) {
      std::memcpy(&placed[static_cast<size_t>(order(r)) * row], &bytes[static_cast<size_t>(r) * row], row);
    }
    return placed;
  }

  // --- config.json ---

  Status make_config(Json* out) const {
    Json& json = *out;
    json["architectures"] = {family_->hf_class};
    const GgufTensor* embedding = model_.find_tensor("token_embd.weight");
    if (embedding == nullptr) return Status::not_found("{}: no tensor token_embd.weight", model_.path());
    json["vocab_size"] = embedding->rows();
    json["tie_word_embeddings"] = !has("output.weight");
    json["torch_dtype"] = find_float(torch_type_.value_or(DType::kF32))->torch;
    for (const auto& [key, name] : kIds) {
      DECANT_TRY(const std::optional<uint64_t> id, model_.get_uint(name));
      json[key] = id ? Json(*id) : Json(nullptr);  // null: some classes have defaults of their models' vocabularies
    }
    if (is("gpt2")) {
      json.update({{"model_type", "gpt2"},
                   {"n_embd", config_.hidden},
                   {"n_layer", config_.n_layers()},
                   {"n_head", layer_.n_heads},
                   {"n_positions", config_.context_length},
                   {"n_inner", layer_.ffn_dim},
                   {"layer_norm_epsilon", shortest(config_.norm_eps)},
                   {"activation_function", activation()}});
      return {};
    }
    json.update({{"hidden_size", config_.hidden},
                 {"num_hidden_layers", config_.n_layers()},
                 {"num_attention_heads", layer_.n_heads},
                 {"max_position_embeddings", config_.context_length}});
    if (is("opt")) {
      json.update({{"model_type", "opt"},
                   {"ffn_dim", layer_.ffn_dim},
                   {"word_embed_proj_dim", config_.embedding_dim > 0 ? config_.embedding_dim : config_.hidden},
                   {"do_layer_norm_before", config_.norm_place == NormPlace::kPre},
                   {"_remove_final_layer_norm", config_.norm_place == NormPlace::kPre && !config_.final_norm},
                   {"activation_function", activation()}});
      return {};
    }
    json["intermediate_size"] = layer_.ffn_dim;
    if (is("gptneox")) {
      json.update({{"model_type", "gpt_neox"},
                   {"layer_norm_eps", shortest(config_.norm_eps)},
                   {"use_parallel_residual", config_.parallel_residual},
                   {"hidden_act", activation()},
                   {"rotary_pct", static_cast<double>(config_.ropes[0].rot_dim) / layer_.k_dim},
                   {"rotary_emb_base", config_.ropes[0].base}});
      return add_scaling(out);
    }
    json.update({{"model_type", model_type()},
                 {"num_key_value_heads", layer_.n_kv_heads},
                 {"head_dim", layer_.k_dim},
                 {"rms_norm_eps", shortest(config_.norm_eps)},
                 {"rope_theta", config_.ropes[0].base}});
    json[config_.architecture.starts_with("gemma") ? "hidden_activation" : "hidden_act"] = activation();
    if (is("phi3"))
      json["partial_rotary_factor"] = static_cast<double>(config_.ropes[0].rot_dim) / layer_.k_dim;
    else if (config_.ropes[0].rot_dim != layer_.k_dim)
      return unsupported("only some dimensions of a head rotate");
    DECANT_TRY_STATUS(add_biases(out));
    if (config_.experts > 0) {
      const bool mixtral = is("llama");
      json[mixtral ? "num_local_experts" : "num_experts"] = config_.experts;
      json["num_experts_per_tok"] = config_.experts_used;
      if (!mixtral) {
        json["moe_intermediate_size"] = config_.expert_ffn_dim;
        json["norm_topk_prob"] = config_.experts_renormalized;
        Json dense = Json::array();
        for (int i = 0; i < config_.n_layers(); ++i) {
          if (!has(fmt::format("blk.{}.ffn_gate_inp.weight", i))) dense.push_back(i);
        }
        json["mlp_only_layers"] = dense;
      }
    }
    if (is("gemma2") || is("gemma3")) {
      // Whole in every configuration that was published; the metadata has its square root's inverse in single
      // precision.
      const auto scale = static_cast<double>(config_.attention_scale);
      const double scalar = 1.0 / (scale * scale), whole = std::round(scalar);
      json["query_pre_attn_scalar"] =
          std::abs(scalar - whole) < 1e-5 * whole ? Json(static_cast<int64_t>(whole)) : Json(scalar);
      const auto cap = [](float value) { return value > 0 ? Json(shortest(value)) : Json(nullptr); };
      json["attn_logit_softcapping"] = cap(config_.attention_soft_cap);
      json["final_logit_softcapping"] = cap(config_.logit_soft_cap);
    }
    if (is("gemma3")) json["rope_local_base_freq"] = config_.ropes[1].base;
    DECANT_TRY_STATUS(add_windows(out));
    return add_scaling(out);
  }

  std::string model_type() const {
    if (is("llama"))
      return config_.experts > 0 ? "mixtral" : family_->hf_class == "MistralForCausalLM" ? "mistral" : "llama";
    if (is("qwen3moe")) return "qwen3_moe";
    return is("gemma3") ? "gemma3_text" : config_.architecture;
  }
  const char* activation() const {
    switch (config_.activation) {
      case Activation::kGelu: return "gelu";
      case Activation::kGeluTanh: return "gelu_pytorch_tanh";
      case Activation::kRelu: return "relu";
      case Activation::kQuickGelu: return "quick_gelu";
      default: return "silu";
    }
  }

  Status add_biases(Json* json) const {
    const bool q = has("blk.0.attn_q.bias"), o = has("blk.0.attn_output.bias"), ffn = has("blk.0.ffn_down.bias");
    if (family_->hf_class == "LlamaForCausalLM" || is("qwen3") || is("qwen3moe") || is("gemma3")) {
      if (q != o) return unsupported("some of its attention's products have a bias and some have none");
      (*json)["attention_bias"] = q;
      if (family_->hf_class == "LlamaForCausalLM") (*json)["mlp_bias"] = ffn;
    } else if (o || (q && !is("qwen2"))) {
      return unsupported(fmt::format("{} has no bias in its attention", family_->hf_class));
    }
    return {};
  }

  Status add_windows(Json* json) const {
    int window = 0;
    Json types = Json::array();
    for (const LayerConfig& l : config_.layers) {
      if (l.window > 0 && window > 0 && l.window != window) return unsupported("its layers have different windows");
      window = std::max(window, l.window);
      types.push_back(l.window > 0 ? "sliding_attention" : "full_attention");
    }
    const bool some_full = std::find(types.begin(), types.end(), Json("full_attention")) != types.end();
    const bool has_types = config_.architecture.starts_with("qwen") || is("gemma2") || is("gemma3");
    if (family_->hf_class == "LlamaForCausalLM" || is("gemma")) return {};
    (*json)["sliding_window"] = window > 0 ? Json(window) : Json(nullptr);
    if (config_.architecture.starts_with("qwen")) (*json)["use_sliding_window"] = window > 0;
    if (has_types && !is("qwen3moe")) {
      (*json)["layer_types"] = types;
    } else if (window > 0 && some_full) {
      return unsupported(fmt::format("{} has a window in all layers or in none", family_->hf_class));
    }
    return {};
  }

  Result<std::vector<float>> factors(const char* name) const {
    const GgufTensor* tensor = model_.find_tensor(name);
    if (tensor == nullptr) return std::vector<float>();
    std::vector<float> values(static_cast<size_t>(tensor->cols()));
    const std::vector<uint8_t> made = tensor->make ? tensor->make() : std::vector<uint8_t>();
    dequantize_row(tensor->type, tensor->make ? made.data() : tensor->data.data(), values.data(), tensor->cols());
    if (std::any_of(values.begin(), values.end(), [](float v) { return !std::isfinite(v) || v <= 0; })) {
      return Status::corrupt("{}: tensor {}: expected positive numbers", model_.path(), name);
    }
    return values;
  }

  Status add_scaling(Json* json) const {
    const RopeConfig& rope = config_.ropes[0];
    DECANT_TRY(const std::vector<float> divisors, factors("rope_freqs.weight"));
    DECANT_TRY(const std::vector<float> longs, factors("rope_factors_long.weight"));
    DECANT_TRY(const std::vector<float> shorts, factors("rope_factors_short.weight"));
    Json scaling;
    if (!longs.empty() && !shorts.empty()) {
      scaling = {{"rope_type", "longrope"},
                 {"long_factor", longs},
                 {"short_factor", shorts},
                 {"attention_factor", rope.magnitude}};
      (*json)["original_max_position_embeddings"] = rope.original_context;
    } else if (!divisors.empty()) {
      DECANT_TRY(scaling, llama3_scaling(divisors));
    } else if (rope.scaling == RopeScaling::kLinear && rope.factor != 1) {
      scaling = {{"rope_type", "linear"}, {"factor", rope.factor}};
    } else if (rope.scaling == RopeScaling::kYarn) {
      scaling = {{"rope_type", "yarn"},
                 {"factor", rope.factor},
                 {"beta_fast", rope.beta_fast},
                 {"beta_slow", rope.beta_slow},
                 {"original_max_position_embeddings", rope.original_context},
                 {"attention_factor", rope.magnitude}};
    } else {
      return {};
    }
    // Gemma 3 scales its full layers alone.
    if (is("gemma3")) {
      scaling["rope_theta"] = rope.base;
      (*json)["rope_parameters"] = {
          {"full_attention", scaling},
          {"sliding_attention", {{"rope_type", "default"}, {"rope_theta", config_.ropes[1].base}}}};
    } else {
      (*json)["rope_scaling"] = scaling;
    }
    return {};
  }

  // With Llama 3's ends of the ramp, a divisor on it tells the original context; if none is on it, any context will do
  // whose ramp lies between the frequencies that stay and those that stretch.
  Result<Json> llama3_scaling(const std::vector<float>& divisors) const {
    const RopeConfig& rope = config_.ropes[0];
    const auto factor = static_cast<double>(*std::max_element(divisors.begin(), divisors.end()));
    std::vector<double> originals = {8192.0};
    for (size_t i = 0; i < divisors.size() && factor > 1; ++i) {
      const auto divisor = static_cast<double>(divisors[i]);
      const double wave = 2 * std::numbers::pi * std::pow(rope.base, 2.0 * static_cast<double>(i) / rope.rot_dim);
      if (divisor <= 1) continue;
      if (divisor < factor) {
        const double kept = (1 / divisor - 1 / factor) / (1 - 1 / factor);
        originals.push_back(std::round(wave * (kept * 3 + 1)));
      } else {
        originals.push_back(std::floor(wave));
      }
      break;
    }
    for (const double original : originals) {
      bool equal = true;
      for (size_t i = 0; i < divisors.size() && equal; ++i) {
        const double divisor =
            checkpoint::llama3_divisor(rope.base, static_cast<int64_t>(i), rope.rot_dim, factor, 1, 4, original);
        equal = std::abs(divisor - static_cast<double>(divisors[i])) <= 1e-5 * divisor;
      }
      if (equal) {
        return Json{{"rope_type", "llama3"},
                    {"factor", factor},
                    {"low_freq_factor", 1.0},
                    {"high_freq_factor", 4.0},
                    {"original_max_position_embeddings", static_cast<int64_t>(original)}};
      }
    }
    return unsupported("no rope_scaling of Llama 3 gives its rope_freqs.weight");
  }

  const GgufFile& model_;
  const ModelConfig& config_;
  const ExportOptions& options_;
  const LayerConfig& layer_;
  const CheckpointFamily* family_ = nullptr;
  SafetensorsWriter writer_;
  std::optional<DType> torch_type_;  // of the matrices
};

}  // namespace

Status write_checkpoint(const std::string& source, const GgufFile& model, const ModelConfig& config,
                        const std::string& folder, const ExportOptions& options) {
  if (options.type && find_float(*options.type) == nullptr) {
    return Status::invalid_argument("a checkpoint has F32, F16 or BF16 weights, not {}",
                                    dtype_info(*options.type).name);
  }
  if (is_checkpoint(source)) return rewrite_checkpoint(source, folder, options);
  return Exporter(model, config, options).write(folder);
}

}  // namespace decant
