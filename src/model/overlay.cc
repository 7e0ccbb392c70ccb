// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "model/overlay.h"

#include <cmath>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/quants.h"
#include "base/strict_json.h"
#include "formats/gguf.h"
#include "formats/safetensors.h"
#include "model/checkpoint.h"

namespace decant {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// A matrix on the host, row-major.
struct Matrix {
  int64_t rows = 0, cols = 0;
  std::vector<float> values;
};

// The factors of one matrix of the model, by its GGUF name without ".weight".
struct Factors {
  Matrix a, b;  // [rank, inputs], [outputs, rank]
  std::string where;
};

struct Target {
  std::string_view name;
  Projection projection;
};
constexpr Target kTargets[] = {
    {"attn_q", Projection::kQ},      {"attn_k", Projection::kK},      {"attn_v", Projection::kV},
    {"attn_output", Projection::kO}, {"ffn_gate", Projection::kGate}, {"ffn_up", Projection::kUp},
    {"ffn_down", Projection::kDown},
};

}  // namespace

class OverlayLoader {
 public:
  OverlayLoader(std::string path, std::shared_ptr<const Model> model, float scale)
      : path_(std::move(path)), scale_(scale), overlay_(std::make_shared<Overlay>()) {
    overlay_->model_ = std::move(model);
    overlay_->name_ = path_;
  }

  Result<std::shared_ptr<const Overlay>> load() {
    std::error_code error;
    if (fs::is_directory(path_, error)) {
      DECANT_TRY_STATUS(read_peft(path_, path_ + "/adapter_model.safetensors"));
    } else if (path_.ends_with(".safetensors")) {
      const std::string parent = fs::path(path_).parent_path().string();
      DECANT_TRY_STATUS(read_peft(parent.empty() ? "." : parent, path_));
    } else {
      DECANT_TRY_STATUS(read_gguf());
    }
    if (factors_.empty()) return Status::corrupt("{}: no LoRA factors in it", path_);
    overlay_->index_.assign(static_cast<size_t>(config().n_layers()) * kProjections, -1);
    for (const auto& [name, factors] : factors_) DECANT_TRY_STATUS(add(name, factors));
    return std::shared_ptr<const Overlay>(std::move(overlay_));
  }

 private:
  const ModelConfig& config() const { return overlay_->model_->config(); }

  Status wrong_model(const std::string& what) const {
    return Status::corrupt("{}: {}; this adapter was made for another model", path_, what);
  }

  // --- GGUF: general.type "adapter"; NAME.weight.lora_a [inputs, rank], NAME.weight.lora_b [rank, outputs] ---

  Status read_gguf() {
    DECANT_TRY(const GgufFile file, GgufFile::open(path_));
    DECANT_TRY(const auto type, file.get_string("general.type"));
    DECANT_TRY(const auto kind, file.get_string("adapter.type"));
    if (type != "adapter" || kind != "lora") {
      return Status::unsupported(
          "{}: metadata general.type and adapter.type are not \"adapter\" and \"lora\": no LoRA "
          "adapter (a whole model is loaded with -m)",
          path_);
    }
    DECANT_TRY(const auto architecture, file.get_string("general.architecture"));
    if (architecture && *architecture != config().architecture) {
      return wrong_model(fmt::format("metadata general.architecture is \"{}\", the model's is \"{}\"",
                                     architecture->substr(0, 40), config().architecture));
    }
    DECANT_TRY(const auto alpha, file.get_float("adapter.lora.alpha"));
    alpha_ = alpha.value_or(0);
    for (const GgufTensor& tensor : file.tensors()) {
      const bool is_a = tensor.name.ends_with(".weight.lora_a");
      if (!is_a && !tensor.name.ends_with(".weight.lora_b")) {
        return Status::unsupported("{}: tensor {}: expected NAME.weight.lora_a or .lora_b", path_, tensor.name);
      }
      if (tensor.shape.size() != 2) return Status::corrupt("{}: tensor {}: not a matrix", path_, tensor.name);
      Matrix m{tensor.shape[1], tensor.shape[0], {}};
      m.values.resize(static_cast<size_t>(m.rows * m.cols));
      for (int64_t r = 0; r < m.rows; ++r) {
        dequantize_row(tensor.type, tensor.data.data() + static_cast<size_t>(r) * row_bytes(tensor.type, m.cols),
                       &m.values[static_cast<size_t>(r * m.cols)], m.cols);
      }
      const std::string name = tensor.name.substr(0, tensor.name.size() - std::string_view(".weight.lora_a").size());
      Factors& f = factors_[name];
      f.where = tensor.name;
      (is_a ? f.a : f.b) = std::move(m);
    }
    return {};
  }

  // --- PEFT ---

  Status read_peft(const std::string& folder, const std::string& weights) {
    const std::string config_path = folder + "/adapter_config.json";
    DECANT_TRY(const std::string text, read_file(config_path));
    Result<json> parsed = parse_json_object(text);
    if (!parsed.ok()) return Status::corrupt("{}: {}; download it again", config_path, parsed.status().message());
    const json peft = std::move(parsed).value();
    const auto refuse = [&](const char* key, const std::string& why) {
      return Status::unsupported("{}: {}: {}", config_path, key, why);
    };
    if (peft.value("peft_type", json()) != "LORA") return refuse("peft_type", "only \"LORA\" is supported");
    if (peft.value("use_dora", json(false)) != false) return refuse("use_dora", "DoRA is not supported");
    if (peft.value("bias", json("none")) != "none") return refuse("bias", "only \"none\" is supported");
    for (const char* key : {"rank_pattern", "alpha_pattern"}) {
      const json value = peft.value(key, json());
      // Ranks are read from the tensors; an alpha of its own for some layers would change the scale.
      if (std::string_view(key) == "alpha_pattern" && !value.is_null() && !value.empty()) {
        return refuse(key, "one lora_alpha for all layers is supported");
      }
    }
    const json modules = peft.value("modules_to_save", json());
    if (!modules.is_null() && !modules.empty()) return refuse("modules_to_save", "replaced layers are not supported");
    const json alpha = peft.value("lora_alpha", json(8));
    if (!alpha.is_number()) return Status::corrupt("{}: lora_alpha: expected a number", config_path);
    alpha_ = alpha.get<double>();
    root_ = peft.value("use_rslora", json(false)) == true;

    DECANT_TRY(const SafetensorsFile file, SafetensorsFile::open(weights));
    for (const SafetensorsTensor& tensor : file.tensors()) DECANT_TRY_STATUS(read_peft_tensor(tensor));
    return {};
  }

  Status read_peft_tensor(const SafetensorsTensor& tensor) {
    std::string_view name = tensor.name;
    for (const std::string_view prefix : {"base_model.model.", "base_model."}) {
      if (name.starts_with(prefix)) {
        name.remove_prefix(prefix.size());
        break;
      }
    }
    const bool is_a = name.ends_with(".lora_A.weight");
    if (!is_a && !name.ends_with(".lora_B.weight")) {
      return Status::unsupported("{}: tensor {}: expected NAME.lora_A.weight or .lora_B.weight", path_, tensor.name);
    }
    name.remove_suffix(std::string_view(".lora_A.weight").size());
    DECANT_TRY(const CheckpointName mapped, checkpoint_name(path_, config(), std::string(name) + ".weight"));
    if (tensor.shape.size() != 2 || tensor.shape[0] < 1 || tensor.shape[1] < 1) {
      return Status::corrupt("{}: tensor {}: not a matrix", path_, tensor.name);
    }
    const std::optional<DType> type = parse_dtype(tensor.dtype);
    if (!type || !is_float(*type)) {
      return Status::unsupported("{}: tensor {}: type {}; supported: F32, F16 and BF16", path_, tensor.name,
                                 tensor.dtype);
    }
    Matrix m{tensor.shape[0], tensor.shape[1], {}};
    m.values.resize(static_cast<size_t>(m.rows * m.cols));
    for (int64_t r = 0; r < m.rows; ++r) {
      const int64_t from = !is_a && mapped.order ? mapped.order(r) : r;
      if (from >= m.rows) return wrong_model(fmt::format("tensor {}: {} rows", tensor.name, m.rows));
      dequantize_row(*type, tensor.data.data() + static_cast<size_t>(from) * row_bytes(*type, m.cols),
                     &m.values[static_cast<size_t>(r * m.cols)], m.cols);
    }
    const std::string gguf = mapped.gguf.substr(0, mapped.gguf.size() - std::string_view(".weight").size());
    Factors& f = factors_[gguf];
    f.where = tensor.name;
    (is_a ? f.a : f.b) = std::move(m);
    return {};
  }

  // --- to the device ---

  Status add(const std::string& name, const Factors& f) {
    if (f.a.rows == 0 || f.b.rows == 0) {
      return Status::corrupt("{}: tensor {}: the other factor of the pair is missing", path_, f.where);
    }
    if (f.a.rows != f.b.cols) {
      return Status::corrupt("{}: tensor {}: ranks {} and {} of the factors differ", path_, f.where, f.a.rows,
                             f.b.cols);
    }
    int layer = -1;
    std::string_view part;
    if (std::string_view rest = name; rest.starts_with("blk.")) {
      rest.remove_prefix(4);
      const size_t dot = rest.find('.');
      if (dot > 0 && dot < 8 && rest.substr(0, dot).find_first_not_of("0123456789") == std::string_view::npos) {
        layer = std::stoi(std::string(rest.substr(0, dot)));
        part = rest.substr(dot + 1);
      }
    }
    if (layer >= config().n_layers()) {
      return wrong_model(fmt::format("tensor {}: the model has {} layers", f.where, config().n_layers()));
    }
    if (layer >= 0) {
      const LayerConfig& l = config().layers[static_cast<size_t>(layer)];
      const LayerWeights& w = overlay_->model_->layer(layer);
      if (part == "attn_qkv") {
        const int64_t k = w.q.rows, v = k + w.k.rows, end = v + w.v.rows;
        DECANT_TRY_STATUS(check_rows(f, end));
        DECANT_TRY_STATUS(add(layer, Projection::kQ, f, 0, k, w.q));
        DECANT_TRY_STATUS(add(layer, Projection::kK, f, k, v, w.k));
        return add(layer, Projection::kV, f, v, end, w.v);
      }
      if (l.experts == 0 && part == "ffn_up" && config().gated && f.b.rows == 2 * w.ffn.up.rows) {
        DECANT_TRY_STATUS(add(layer, Projection::kGate, f, 0, w.ffn.up.rows, w.ffn.gate));
        return add(layer, Projection::kUp, f, w.ffn.up.rows, f.b.rows, w.ffn.up);
      }
      const Weight* const weights[kProjections] = {nullptr, &w.q,        &w.k,      &w.v,
                                                   &w.o,    &w.ffn.gate, &w.ffn.up, &w.ffn.down};
      for (const Target& target : kTargets) {
        const Weight* weight = weights[static_cast<size_t>(target.projection)];
        if (target.name != part || weight->rows == 0) continue;
        DECANT_TRY_STATUS(check_rows(f, weight->rows));
        return add(layer, target.projection, f, 0, f.b.rows, *weight);
      }
    }
    return Status::unsupported(
        "{}: tensor {}: only the projections of attention and of dense feed-forward layers can "
        "be changed (not embeddings, the output layer or experts)",
        path_, f.where);
  }

  Status check_rows(const Factors& f, int64_t rows) const {
    if (f.b.rows == rows) return {};
    return wrong_model(fmt::format("tensor {}: {} outputs, the model's matrix has {}", f.where, f.b.rows, rows));
  }

  // Rows [begin, end) of b.
  Status add(int layer, Projection projection, const Factors& f, int64_t begin, int64_t end, const Weight& weight) {
    if (f.a.cols != weight.cols) {
      return wrong_model(
          fmt::format("tensor {}: {} inputs, the model's matrix has {}", f.where, f.a.cols, weight.cols));
    }
    const auto rank = static_cast<double>(f.a.rows);
    // GGUF adapters without alpha are not scaled by their rank.
    const double own = alpha_ == 0 ? 1.0 : alpha_ / (root_ ? std::sqrt(rank) : rank);
    const auto scale = static_cast<float>(own * static_cast<double>(scale_));
    Matrix b{end - begin, f.b.cols, {}};
    b.values.assign(f.b.values.begin() + begin * f.b.cols, f.b.values.begin() + end * f.b.cols);
    for (float& v : b.values) v *= scale;
    LowRank delta;
    DECANT_TRY(delta.a, upload(f.a));
    DECANT_TRY(delta.b, upload(b));
    overlay_->index_[static_cast<size_t>(layer) * kProjections + static_cast<size_t>(projection)] =
        static_cast<int>(overlay_->deltas_.size());
    overlay_->deltas_.push_back(delta);
    return {};
  }

  Result<Weight> upload(const Matrix& m) {
    Weight w;
    w.layout = layout_of(DType::kF32);
    w.type = DType::kF32;
    w.rows = m.rows;
    w.cols = m.cols;
    std::vector<uint8_t> packed(w.bytes());
    pack_groups(DType::kF32, m.rows, m.cols, reinterpret_cast<const uint8_t*>(m.values.data()), 0, w.groups(),
                packed.data());
    Device& device = overlay_->model_->device();
    Result<DeviceBuffer> buffer = device.alloc(packed.size());
    if (!buffer.ok()) return std::move(buffer).status().with_context(path_);
    device.copy_in(buffer->ptr<uint8_t>(), std::span<const uint8_t>(packed));
    w.data = buffer->ptr<uint8_t>();
    overlay_->bytes_ += packed.size();
    overlay_->buffers_.push_back(std::move(*buffer));
    return w;
  }

  std::string path_;
  float scale_;
  double alpha_ = 0;
  bool root_ = false;  // rsLoRA
  std::shared_ptr<Overlay> overlay_;
  std::map<std::string, Factors> factors_;
};

Result<std::shared_ptr<const Overlay>> Overlay::load_lora(const std::string& path, std::shared_ptr<const Model> model,
                                                          float scale) {
  return OverlayLoader(path, std::move(model), scale).load();
}

}  // namespace decant
