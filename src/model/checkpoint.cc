// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Names and keys of Hugging Face's checkpoints were read in transformers' model code and configurations; GGUF's in
// llama.cpp's converter.
#include "model/checkpoint.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "base/half.h"
#include "base/quants.h"
#include "base/strict_json.h"
#include "formats/hf_tokenizer.h"
#include "formats/safetensors.h"
#include "model/checkpoint_families.h"
#include "model/config.h"

namespace decant {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

using checkpoint::CheckpointFamily;
using checkpoint::Layout;
using checkpoint::Mapped;

// Buffers that are recomputed, and the vision half of Gemma 3's larger sizes, which text does not use.
bool is_ignored(std::string_view name, std::string_view architecture) {
  if (name.ends_with(".rotary_emb.inv_freq")) return true;
  if (architecture == "gpt2") return name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias");
  if (architecture == "gptneox") return name.ends_with(".attention.bias") || name.ends_with(".attention.masked_bias");
  if (architecture == "gemma3") {
    return name.find("vision_tower.") != std::string_view::npos ||
           name.find("multi_modal_projector.") != std::string_view::npos;
  }
  return false;
}

// --- config.json ---

// Reads a JSON object's fields; the first that is wrong is kept.
class Fields {
 public:
  Fields(const json& object, std::string where) : object_(object), where_(std::move(where)) {}

  const json* find(const char* key) const {
    const auto it = object_.find(key);
    return it == object_.end() || it->is_null() ? nullptr : &*it;
  }
  bool has(const char* key) const { return find(key) != nullptr; }
  bool is_null(const char* key) const {
    const auto it = object_.find(key);
    return it != object_.end() && it->is_null();
  }

  // The first of `keys` that is there.
  std::optional<double> number(std::initializer_list<const char*> keys) {
    for (const char* key : keys) {
      const json* value = find(key);
      if (value == nullptr) continue;
      if (value->is_number() && std::isfinite(value->get<double>())) return value->get<double>();
      fail(key, "a number");
    }
    return std::nullopt;
  }
  std::optional<int64_t> integer(std::initializer_list<const char*> keys) {
    for (const char* key : keys) {
      const json* value = find(key);
      if (value == nullptr) continue;
      if (value->is_number_integer() && !(value->is_number_unsigned() && value->get<uint64_t>() > INT32_MAX) &&
          value->get<int64_t>() >= 0 && value->get<int64_t>() <= INT32_MAX) {
        return value->get<int64_t>();
      }
      fail(key, "a whole number from 0 to 2147483647");
    }
    return std::nullopt;
  }
  std::optional<bool> boolean(const char* key) {
    const json* value = find(key);
    if (value == nullptr) return std::nullopt;
    if (value->is_boolean()) return value->get<bool>();
    fail(key, "true or false");
    return std::nullopt;
  }
  std::optional<std::string> text(std::initializer_list<const char*> keys) {
    for (const char* key : keys) {
      const json* value = find(key);
      if (value == nullptr) continue;
      if (value->is_string()) return value->get<std::string>();
      fail(key, "a string");
    }
    return std::nullopt;
  }
  std::optional<std::vector<double>> numbers(const char* key) {
    const json* value = find(key);
    if (value == nullptr) return std::nullopt;
    std::vector<double> list;
    if (value->is_array()) {
      for (const json& entry : *value) {
        if (entry.is_number()) list.push_back(entry.get<double>());
      }
      if (list.size() == value->size()) return list;
    }
    fail(key, "a list of numbers");
    return std::nullopt;
  }
  void fail(const std::string& key, const std::string& expected) {
    if (status_.ok()) status_ = Status::corrupt("{}: {}: expected {}", where_, key, expected);
  }
  const Status& status() const { return status_; }
  const std::string& where() const { return where_; }

 private:
  const json& object_;
  std::string where_;
  Status status_;
};

Result<json> read_json(const std::string& path) {
  DECANT_TRY(const std::string text, read_file(path));
  Result<json> value = parse_json_object(text);
  if (!value.ok()) return Status::corrupt("{}: {}; download it again", path, value.status().message());
  return value;
}

class CheckpointReader {
 public:
  explicit CheckpointReader(std::string folder) : folder_(std::move(folder)) {}

  // `weights`: a file or the folder.
  Result<GgufFile> read(const std::string& weights) {
    const std::string config_path = folder_ + "/config.json";
    DECANT_TRY(const json config, read_json(config_path));
    DECANT_TRY_STATUS(find_family(config, config_path));
    auto files = std::make_shared<SafetensorsFile>();
    {
      DECANT_TRY(SafetensorsFile opened, SafetensorsFile::open(weights));
      *files = std::move(opened);
    }
    // Multimodal checkpoints nest the text model's options.
    const json* text = &config;
    if (const auto nested = config.find("text_config"); nested != config.end() && nested->is_object()) text = &*nested;
    Fields fields(*text, config_path);
    write_config(fields);
    if (!fields.status().ok()) return fields.status();
    if (!status_.ok()) return status_;
    DECANT_TRY_STATUS(map_tensors(*files));
    const GgufTensor* embedding = nullptr;
    for (const GgufTensor& t : tensors_) {
      if (t.name == "token_embd.weight") embedding = &t;
    }
    if (embedding == nullptr) {
      return Status::not_found("{}: no tensor of the token embeddings; the checkpoint is not complete", files->path());
    }
    DECANT_TRY_STATUS(read_hf_tokenizer(folder_, embedding->rows(), &writer_));
    const SafetensorsFile* raw = files.get();
    std::string path = files->path();
    return GgufFile::assemble(std::move(path), writer_.serialize(), std::move(tensors_), std::move(files),
                              [raw](const GgufTensor& tensor, size_t offset, size_t size) {
                                SafetensorsTensor source;
                                source.data = tensor.data;
                                source.file_index = tensor.file_index;
                                raw->release(source, offset, size);
                              });
  }

 private:
  Status find_family(const json& config, const std::string& path) {
    if (const auto q = config.find("quantization_config"); q != config.end() && !q->is_null()) {
      std::string method = "?";
      if (q->is_object() && q->contains("quant_method") && (*q)["quant_method"].is_string()) {
        method = (*q)["quant_method"].get<std::string>();
      }
      return Status::unsupported(
          "{}: quantization_config: weights quantized by {} are not supported; use the float "
          "checkpoint or a GGUF file",
          path, method.substr(0, 80));
    }
    std::string name;
    if (const auto list = config.find("architectures"); list != config.end() && list->is_array() && !list->empty()) {
      if ((*list)[0].is_string()) name = (*list)[0].get<std::string>();
    }
    if (name.empty()) return Status::corrupt("{}: architectures: expected a list with the model's class", path);
    std::string known;
    for (const CheckpointFamily& f : checkpoint::families()) {
      if (f.hf_class == name) family_ = &f;
      known += (known.empty() ? "" : ", ") + std::string(f.hf_class);
    }
    if (family_ == nullptr) {
      return Status::unsupported("{}: architectures: \"{}\" is not supported; supported: {}", path, name.substr(0, 80),
                                 known);
    }
    return {};
  }

  void set(const std::string& key, int64_t value) { writer_.set(arch_ + key, static_cast<uint32_t>(value)); }
  void set(const std::string& key, double value) { writer_.set(arch_ + key, static_cast<float>(value)); }

  // A size that every checkpoint states.
  int64_t require(Fields& f, std::initializer_list<const char*> keys) {
    const std::optional<int64_t> value = f.integer(keys);
    if (!value || *value < 1) f.fail(*keys.begin(), "a number of at least 1");
    return std::max<int64_t>(1, value.value_or(1));
  }

  void write_config(Fields& f) {
    const std::string architecture(family_->architecture);
    arch_ = architecture + ".";
    writer_.set("general.architecture", architecture);
    std::string name = fs::path(folder_).lexically_normal().filename().string();
    if (name.empty()) name = fs::path(folder_).lexically_normal().parent_path().filename().string();
    writer_.set("general.name", name);
    const int64_t hidden = require(f, {"hidden_size", "n_embd"});
    const int64_t heads = require(f, {"num_attention_heads", "n_head"});
    layers_ = require(f, {"num_hidden_layers", "n_layer"});
    const int64_t context = require(f, {"max_position_embeddings", "n_positions", "n_ctx"});
    set("block_count", layers_);
    set("context_length", context);
    set("embedding_length", hidden);
    std::optional<int64_t> ffn = f.integer({"intermediate_size", "ffn_dim", "n_inner"});
    if (!ffn && architecture == "gpt2") ffn = 4 * hidden;
    if (!ffn) f.fail("intermediate_size", "a number");
    set("feed_forward_length", ffn.value_or(1));
    set("attention.head_count", heads);
    const int64_t kv_heads = f.integer({"num_key_value_heads"}).value_or(heads);
    set("attention.head_count_kv", kv_heads);
    const int64_t head_dim =
        f.integer({"head_dim"}).value_or(family_->defaults.head_dim > 0 ? family_->defaults.head_dim : hidden / heads);
    // Lists of these lengths are made before the metadata is checked.
    if (head_dim < 1 || head_dim > 4096) f.fail("head_dim", "1 to 4096");
    if (layers_ > 4096) f.fail("num_hidden_layers", "at most 4096");
    if (!f.status().ok()) return;
    set("attention.key_length", head_dim);
    set("attention.value_length", head_dim);
    heads_ = static_cast<int>(heads);
    kv_heads_ = static_cast<int>(kv_heads);
    head_dim_ = static_cast<int>(head_dim);
    const bool layer_norm = architecture == "gpt2" || architecture == "gptneox" || architecture == "opt";
    set(layer_norm ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon",
        f.number({"rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon"}).value_or(family_->defaults.norm_eps));
    if (const auto act = f.text({"hidden_activation", "hidden_act", "activation_function"})) {
      // Gemma's first configurations name an activation that the model does not use.
      const bool stale = architecture == "gemma" && !f.has("hidden_activation");
      if (!stale) writer_.set(arch_ + "hidden_activation", *act);
    }
    write_windows(f, architecture);
    write_family(f, architecture, hidden);
    if (architecture != "gpt2" && architecture != "opt") write_rope(f, architecture, head_dim, context);
  }

  void write_windows(Fields& f, const std::string& architecture) {
    // transformers' Llama has no window, whatever its configuration says.
    if (architecture == "gemma" || architecture == "gpt2" || architecture == "gptneox" || architecture == "opt" ||
        family_->hf_class == "LlamaForCausalLM") {
      return;
    }
    std::optional<int64_t> window = f.integer({"sliding_window"});
    const bool qwen = architecture.starts_with("qwen");
    // null means none; a key that is left out, the class's default.
    if (!window && !f.is_null("sliding_window")) window = family_->defaults.window;
    if (qwen && !f.boolean("use_sliding_window").value_or(false)) return;
    if (!window || *window == 0) return;
    std::vector<bool> windowed;
    if (const json* types = f.find("layer_types")) {
      if (types->is_array()) {
        for (const json& type : *types) {
          if (type != "sliding_attention" && type != "full_attention") {
            f.fail("layer_types", "\"sliding_attention\" or \"full_attention\" for each layer");
          }
          windowed.push_back(type == "sliding_attention");
        }
      }
      if (static_cast<int64_t>(windowed.size()) != layers_) f.fail("layer_types", "one entry for each layer");
    } else if (qwen) {
      const int64_t first = f.integer({"max_window_layers"}).value_or(28);
      for (int64_t i = 0; i < layers_; ++i) windowed.push_back(i >= first);
    }
    if (!windowed.empty() && std::none_of(windowed.begin(), windowed.end(), [](bool w) { return w; })) return;
    set("attention.sliding_window", *window);
    if (!windowed.empty()) {
      writer_.set(arch_ + "attention.sliding_window_pattern", windowed);
    } else if (const auto period = f.integer({"sliding_window_pattern"})) {
      set("attention.sliding_window_pattern", *period);
    }
  }

  void write_family(Fields& f, const std::string& architecture, int64_t hidden) {
    if (const auto scale = f.number({"query_pre_attn_scalar"}); architecture == "gemma2" || architecture == "gemma3") {
      const double scalar = scale.value_or(256);
      if (scalar > 0) {
        set("attention.scale", 1.0 / std::sqrt(scalar));
      } else {
        f.fail("query_pre_attn_scalar", "a positive number");
      }
    }
    if (architecture == "gemma2" || architecture == "gemma3") {
      const double fallback_attention = architecture == "gemma2" ? 50 : 0,
                   fallback_final = architecture == "gemma2" ? 30 : 0;
      const auto cap = [&](const char* key, double fallback) {
        return f.is_null(key) ? 0.0 : f.number({key}).value_or(fallback);
      };
      set("attn_logit_softcapping", cap("attn_logit_softcapping", fallback_attention));
      set("final_logit_softcapping", cap("final_logit_softcapping", fallback_final));
    }
    if (architecture == "gptneox") {
      writer_.set(arch_ + "use_parallel_residual", f.boolean("use_parallel_residual").value_or(true));
    }
    if (architecture == "opt") {
      const bool before = f.boolean("do_layer_norm_before").value_or(true);
      writer_.set("opt.norm_before", before);
      writer_.set("opt.final_norm", before && !f.boolean("_remove_final_layer_norm").value_or(false));
      set("word_embedding_length", f.integer({"word_embed_proj_dim"}).value_or(hidden));
    }
    if (family_->hf_class == "MixtralForCausalLM") {
      set("expert_count", f.integer({"num_local_experts"}).value_or(8));
      set("expert_used_count", f.integer({"num_experts_per_tok"}).value_or(2));
    }
    if (architecture == "qwen3moe") {
      set("expert_count", f.integer({"num_experts", "num_local_experts"}).value_or(128));
      set("expert_used_count", f.integer({"num_experts_per_tok"}).value_or(8));
      set("expert_feed_forward_length", f.integer({"moe_intermediate_size"}).value_or(768));
      writer_.set(arch_ + "expert_weights_norm", f.boolean("norm_topk_prob").value_or(false));
    }
  }

  // Newer configurations keep all of it in rope_parameters, Gemma 3's by kind of layer.
  void write_rope(Fields& f, const std::string& architecture, int64_t head_dim, int64_t context) {
    static const json kEmpty = json::object();
    const json* parameters = &kEmpty;
    const json* local = nullptr;
    for (const char* key : {"rope_parameters", "rope_scaling"}) {
      const json* value = f.find(key);
      if (value == nullptr) continue;
      if (!value->is_object()) return f.fail(key, "an object");
      parameters = value;
      break;
    }
    if (const auto full = parameters->find("full_attention"); full != parameters->end() && full->is_object()) {
      if (const auto s = parameters->find("sliding_attention"); s != parameters->end() && s->is_object()) local = &*s;
      parameters = &*full;
    }
    Fields rope(*parameters, f.where());
    std::optional<double> theta = rope.number({"rope_theta"});
    if (!theta) theta = f.number({"rope_theta", "rotary_emb_base"});
    set("rope.freq_base", theta.value_or(family_->defaults.rope_theta));
    std::optional<double> share = rope.number({"partial_rotary_factor"});
    if (!share) share = f.number({"partial_rotary_factor", "rotary_pct"});
    if (!share && architecture == "gptneox") share = 0.25;
    const auto rotated =
        static_cast<int64_t>(static_cast<double>(head_dim) * std::clamp(share.value_or(1.0), 0.0, 1.0));
    set("rope.dimension_count", rotated);
    if (architecture == "gemma3") {
      std::optional<double> base = f.number({"rope_local_base_freq"});
      if (local != nullptr) {
        Fields windowed(*local, f.where());
        if (const auto b = windowed.number({"rope_theta"})) base = b;
        const std::string type = windowed.text({"rope_type", "type"}).value_or("default");
        if (type != "default") f.fail("rope_parameters.sliding_attention.rope_type", "\"default\"");
      }
      set("rope.freq_base_swa", base.value_or(10000));
    }
    const std::string type = rope.text({"rope_type", "type"}).value_or("default");
    const double factor = rope.number({"factor"}).value_or(1.0);
    const std::optional<int64_t> top = f.integer({"original_max_position_embeddings"});
    const int64_t original =
        rope.integer({"original_max_position_embeddings"}).value_or(top.value_or(type == "llama3" ? 8192 : context));
    if (!(factor > 0) || original < 1) rope.fail("rope_scaling", "a positive factor and original length");
    if (type == "linear" || type == "yarn") {
      writer_.set(arch_ + "rope.scaling.type", type);
      set("rope.scaling.factor", factor);
    }
    if (type == "yarn") {
      set("rope.scaling.original_context_length", original);
      set("rope.scaling.yarn_beta_fast", rope.number({"beta_fast"}).value_or(32));
      set("rope.scaling.yarn_beta_slow", rope.number({"beta_slow"}).value_or(1));
      if (rope.has("mscale") || rope.has("mscale_all_dim") || rope.boolean("truncate") == false) {
        rope.fail("rope_scaling", "yarn without mscale, mscale_all_dim and truncate");
      }
      if (const auto magnitude = rope.number({"attention_factor"})) {
        set("rope.scaling.attn_factor", *magnitude / (factor > 1 ? 0.1 * std::log(factor) + 1 : 1));
      }
    } else if (type == "llama3") {
      write_llama3(rope, theta.value_or(family_->defaults.rope_theta), factor, static_cast<double>(original), rotated);
    } else if (type == "longrope" || type == "su") {
      write_longrope(rope, static_cast<double>(context), static_cast<double>(original), rotated);
    } else if (type != "default" && type != "linear") {
      rope.fail("rope_scaling.rope_type",
                "default, linear, yarn, llama3 or longrope; found \"" + type.substr(0, 40) + "\"");
    }
    if (!rope.status().ok() && status_.ok()) status_ = rope.status();
  }

  // GGUF ships the divisors.
  void write_llama3(Fields& rope, double theta, double factor, double original, int64_t rotated) {
    const double low = rope.number({"low_freq_factor"}).value_or(1),
                 high = rope.number({"high_freq_factor"}).value_or(4);
    if (!(high > low) || !(low > 0)) return rope.fail("rope_scaling", "0 < low_freq_factor < high_freq_factor");
    std::vector<float> divisors;
    for (int64_t i = 0; i < rotated / 2; ++i) {
      divisors.push_back(
          static_cast<float>(checkpoint::llama3_divisor(theta, i, rotated, factor, low, high, original)));
    }
    add_vector("rope_freqs.weight", divisors);
  }

  void write_longrope(Fields& rope, double context, double original, int64_t rotated) {
    for (const auto& [key, tensor] : {std::pair{"long_factor", "rope_factors_long.weight"},
                                      std::pair{"short_factor", "rope_factors_short.weight"}}) {
      const std::optional<std::vector<double>> list = rope.numbers(key);
      if (!list || static_cast<int64_t>(list->size()) != rotated / 2) {
        return rope.fail(std::string("rope_scaling.") + key, fmt::format("a list of {} numbers", rotated / 2));
      }
      add_vector(tensor, std::vector<float>(list->begin(), list->end()));
    }
    set("rope.scaling.original_context_length", static_cast<int64_t>(original));
    const double ratio = rope.number({"factor"}).value_or(context / original);
    double magnitude = ratio > 1 ? std::sqrt(1 + std::log(ratio) / std::log(original)) : 1;
    magnitude = rope.number({"attention_factor"}).value_or(magnitude);
    set("rope.scaling.attn_factor", magnitude);
  }

  void add_vector(const std::string& name, const std::vector<float>& values) {
    tensors_.push_back({.name = name,
                        .type = DType::kF32,
                        .shape = {static_cast<int64_t>(values.size())},
                        .data = {},
                        .file_index = 0,
                        .make = [values] {
                          std::vector<uint8_t> bytes(values.size() * sizeof(float));
                          std::memcpy(bytes.data(), values.data(), bytes.size());
                          return bytes;
                        }});
  }

  Status map_tensors(const SafetensorsFile& files) {
    for (const SafetensorsTensor& source : files.tensors()) {
      if (is_ignored(source.name, family_->architecture)) continue;
      std::optional<Mapped> mapped = checkpoint::to_gguf(*family_, source.name);
      // An unknown name goes on as it is: loading the model refuses it.
      if (!mapped) mapped = Mapped{source.name, Layout::kSame};
      DECANT_TRY(GgufTensor tensor, view(files, source, *mapped));
      tensors_.push_back(std::move(tensor));
    }
    return {};
  }

  Result<GgufTensor> view(const SafetensorsFile& files, const SafetensorsTensor& source, const Mapped& mapped) const {
    GgufTensor tensor{
        .name = mapped.name, .type = DType::kF32, .shape = {}, .data = source.data, .file_index = source.file_index};
    const bool is_double = source.dtype == "F64";
    if (source.dtype == "F16") {
      tensor.type = DType::kF16;
    } else if (source.dtype == "BF16") {
      tensor.type = DType::kBF16;
    } else if (source.dtype != "F32" && !is_double) {
      return Status::unsupported("{}: tensor {}: type {}; supported: F64, F32, F16 and BF16", files.path(), source.name,
                                 source.dtype);
    }
    tensor.shape.assign(source.shape.rbegin(), source.shape.rend());
    if (tensor.shape.empty() || tensor.shape.size() > 4 ||
        std::any_of(tensor.shape.begin(), tensor.shape.end(), [](int64_t d) { return d < 1; })) {
      return Status::corrupt("{}: tensor {}: 1 to 4 dimensions of at least 1 are possible, it has {}", files.path(),
                             source.name, tensor.shape.size());
    }
    Layout layout = mapped.layout;
    if (layout == Layout::kTransposed && tensor.shape.size() != 2) layout = Layout::kSame;  // its bias
    if (layout == Layout::kSame && !is_double) return tensor;
    return rearranged(files, source, layout, std::move(tensor));
  }

  Result<GgufTensor> rearranged(const SafetensorsFile& files, const SafetensorsTensor& source, Layout layout,
                                GgufTensor tensor) const {
    const std::span<const uint8_t> data = source.data;
    const bool is_double = source.dtype == "F64";
    const size_t item = is_double ? 8 : static_cast<size_t>(dtype_info(tensor.type).bytes);
    tensor.data = {};
    const bool is_bias = tensor.shape.size() == 1;
    const int64_t cols = is_bias ? 1 : tensor.shape[0];
    const int64_t source_rows = source.shape[0];
    int64_t rows = source_rows;
    const int64_t heads = layout == Layout::kPairedK ? kv_heads_ : heads_;
    const int64_t expected = layout == Layout::kHeadsOfQkv ? heads * 3 * head_dim_ : heads * head_dim_;
    if ((layout == Layout::kPairedQ || layout == Layout::kPairedK || layout == Layout::kHeadsOfQkv) &&
        (rows != expected || head_dim_ % 2 != 0)) {
      return Status::corrupt("{}: tensor {}: {} rows; config.json asks for {}", files.path(), source.name, rows,
                             expected);
    }
    if (layout == Layout::kPositions2) {
      if (rows < 3 || is_bias) {
        return Status::corrupt("{}: tensor {}: {} rows of positions; 3 at least are needed", files.path(), source.name,
                               rows);
      }
      rows -= 2;
      tensor.shape[1] = rows;
    }
    if (layout == Layout::kTransposed) std::swap(tensor.shape[0], tensor.shape[1]);
    const DType type = tensor.type;
    const std::function<int64_t(int64_t)> order = checkpoint::row_order(layout, heads_, head_dim_);
    if (layout == Layout::kPlusOne) tensor.type = DType::kF32;
    tensor.make = [=]() {
      std::vector<uint8_t> bytes(static_cast<size_t>(rows) * static_cast<size_t>(cols) * item);
      if (layout == Layout::kTransposed) {
        for (int64_t r = 0; r < source_rows; ++r) {
          for (int64_t c = 0; c < cols; ++c) {
            std::memcpy(&bytes[static_cast<size_t>(c * source_rows + r) * item],
                        &data[static_cast<size_t>(r * cols + c) * item], item);
          }
        }
      } else {
        const size_t row = static_cast<size_t>(cols) * item;
        for (int64_t r = 0; r < rows; ++r) {
          std::memcpy(&bytes[static_cast<size_t>(r) * row], &data[static_cast<size_t>(order ? order(r) : r) * row],
                      row);
        }
      }
      if (is_double) {
        std::vector<uint8_t> singles(bytes.size() / 2);
        for (size_t i = 0; i < singles.size() / 4; ++i) {
          double wide;
          std::memcpy(&wide, &bytes[i * 8], 8);
          const auto narrow = static_cast<float>(wide);
          std::memcpy(&singles[i * 4], &narrow, 4);
        }
        bytes = std::move(singles);
      }
      if (layout != Layout::kPlusOne) return bytes;
      const size_t n = bytes.size() / static_cast<size_t>(dtype_info(type).bytes);
      std::vector<float> values(n);
      dequantize_row(type, bytes.data(), values.data(), static_cast<int64_t>(n));
      for (float& v : values) v += 1.0f;
      bytes.resize(n * sizeof(float));
      std::memcpy(bytes.data(), values.data(), bytes.size());
      return bytes;
    };
    return tensor;
  }

  std::string folder_, arch_;
  const CheckpointFamily* family_ = nullptr;
  GgufWriter writer_;
  std::vector<GgufTensor> tensors_;
  int64_t layers_ = 0;
  int heads_ = 0, kv_heads_ = 0, head_dim_ = 0;
  Status status_;
};

}  // namespace

bool is_checkpoint(const std::string& path) {
  std::error_code error;
  if (fs::is_directory(path, error)) return fs::exists(path + "/config.json", error);
  return path.ends_with(".safetensors") || path.ends_with(".safetensors.index.json");
}

Result<GgufFile> open_model(const std::string& path) {
  std::error_code error;
  const bool folder = fs::is_directory(path, error);
  if (!folder && !is_checkpoint(path)) return GgufFile::open(path);
  std::string parent = folder ? path : fs::path(path).parent_path().string();
  if (parent.empty()) parent = ".";
  if (!fs::exists(parent + "/config.json", error)) {
    // A folder that holds one GGUF model.
    std::vector<std::string> found;
    if (folder) {
      for (const fs::directory_entry& entry : fs::directory_iterator(path, error)) {
        if (entry.path().extension() == ".gguf") found.push_back(entry.path().string());
      }
    }
    if (found.size() == 1) return GgufFile::open(found[0]);
    return Status::not_found("{}: no config.json; a checkpoint folder has it beside its safetensors files", parent);
  }
  return CheckpointReader(parent).read(path);
}

Result<CheckpointName> checkpoint_name(const std::string& path, const ModelConfig& config, const std::string& name) {
  for (const CheckpointFamily& family : checkpoint::families()) {
    if (family.architecture != config.architecture) continue;
    const std::optional<Mapped> mapped = checkpoint::to_gguf(family, name);
    if (!mapped) break;
    const LayerConfig& layer = config.layers[0];
    return CheckpointName{mapped->name, checkpoint::row_order(mapped->layout, layer.n_heads, layer.k_dim)};
  }
  return Status::not_found("{}: tensor {}: a {} model has no such tensor; was this made for another model?", path, name,
                           config.architecture);
}

}  // namespace decant
