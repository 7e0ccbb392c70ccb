// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "model/model.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "base/quants.h"
#include "base/thread_pool.h"
#include "formats/gguf.h"

namespace decant {
namespace {

// Bytes packed on the host before they are copied to the device: small enough to stay in the cache.
constexpr size_t kStagingBytes = 1 << 18;
// Bytes of the file that are packed before their pages are released, so that a large tensor is never in memory twice.
constexpr size_t kSlabBytes = 16 << 20;

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text;
  for (int64_t dim : shape) text += (text.empty() ? "" : " x ") + std::to_string(dim);
  return text;
}

}  // namespace

class ModelLoader {
 public:
  ModelLoader(const GgufFile& file, Device& device, const Model::Progress& progress)
      : file_(file), device_(device), progress_(progress), pool_(device.threads()), model_(std::make_shared<Model>()) {
    for (const GgufTensor& t : file.tensors()) total_bytes_ += t.data.size();
  }

  Result<std::shared_ptr<const Model>> load() {
    Model& m = *model_;
    m.path_ = file_.path();
    m.device_ = &device_;
    DECANT_TRY(m.config_, read_config(file_));
    const ModelConfig& c = m.config_;

    const GgufTensor* embedding = file_.find_tensor("token_embd.weight");
    if (embedding == nullptr) return missing("token_embd.weight");
    m.config_.vocab_size = static_cast<int>(std::min<int64_t>(embedding->rows(), 1 << 28));
    DECANT_TRY(m.embedding_, matrix("token_embd.weight", c.vocab_size, c.hidden));
    if (file_.find_tensor("output.weight") != nullptr) {
      DECANT_TRY(m.output_, matrix("output.weight", c.vocab_size, c.hidden));
    } else {
      m.output_ = m.embedding_;
    }
    DECANT_TRY(m.output_norm_, vector("output_norm.weight", c.hidden));

    for (int i = 0; i < c.n_layers(); ++i) {
      LayerWeights layer;
      DECANT_TRY_STATUS(load_layer(i, c.layers[static_cast<size_t>(i)], &layer));
      m.layers_.push_back(layer);
    }
    DECANT_TRY_STATUS(load_rope());
    DECANT_TRY_STATUS(refuse_unused());

    for (const LayerWeights& layer : m.layers_) {
      for (const Weight* w : {&layer.q, &layer.k, &layer.v, &layer.o, &layer.gate, &layer.up, &layer.down}) {
        m.bytes_per_token_ += w->bytes();
      }
    }
    m.bytes_per_token_ += m.output_.bytes();
    return std::shared_ptr<const Model>(std::move(model_));
  }

 private:
  Status load_layer(int i, const LayerConfig& l, LayerWeights* w) {
    const ModelConfig& c = model_->config_;
    const std::string p = "blk." + std::to_string(i) + ".";
    const int64_t q_rows = int64_t{l.n_heads} * l.k_dim;
    const int64_t k_rows = int64_t{l.n_kv_heads} * l.k_dim;
    const int64_t v_rows = int64_t{l.n_kv_heads} * l.v_dim;
    const int64_t o_cols = int64_t{l.n_heads} * l.v_dim;
    DECANT_TRY(w->attn_norm, vector(p + "attn_norm.weight", c.hidden));
    DECANT_TRY(w->ffn_norm, vector(p + "ffn_norm.weight", c.hidden));
    if (c.post_norms) {
      DECANT_TRY(w->post_attn_norm, vector(p + "post_attention_norm.weight", c.hidden));
      DECANT_TRY(w->post_ffn_norm, vector(p + "post_ffw_norm.weight", c.hidden));
    }
    if (c.qk_norm) {
      DECANT_TRY(w->q_norm, vector(p + "attn_q_norm.weight", l.k_dim));
      DECANT_TRY(w->k_norm, vector(p + "attn_k_norm.weight", l.k_dim));
    }
    struct Linear {
      const char* name;
      Weight* weight;
      DevPtr<const float>* bias;
      int64_t rows, cols;
    };
    for (const Linear& linear :
         {Linear{"attn_q", &w->q, &w->q_bias, q_rows, c.hidden}, Linear{"attn_k", &w->k, &w->k_bias, k_rows, c.hidden},
          Linear{"attn_v", &w->v, &w->v_bias, v_rows, c.hidden},
          Linear{"attn_output", &w->o, &w->o_bias, c.hidden, o_cols},
          Linear{"ffn_gate", &w->gate, &w->gate_bias, l.ffn_dim, c.hidden},
          Linear{"ffn_up", &w->up, &w->up_bias, l.ffn_dim, c.hidden},
          Linear{"ffn_down", &w->down, &w->down_bias, c.hidden, l.ffn_dim}}) {
      DECANT_TRY(*linear.weight, matrix(p + linear.name + ".weight", linear.rows, linear.cols));
      if (file_.find_tensor(p + linear.name + ".bias") != nullptr) {
        DECANT_TRY(*linear.bias, vector(p + linear.name + ".bias", linear.rows));
      }
    }
    return {};
  }

  Status missing(const std::string& name) const {
    return Status::not_found("{}: tensor {} is missing; a {} model has it", file_.path(), name,
                             model_->config_.architecture);
  }

  Result<const GgufTensor*> find(const std::string& name, const std::vector<int64_t>& shape) {
    const GgufTensor* tensor = file_.find_tensor(name);
    if (tensor == nullptr) return missing(name);
    std::vector<int64_t> found = tensor->shape;
    while (found.size() > shape.size() && found.back() == 1) found.pop_back();
    if (found != shape) {
      return Status::corrupt("{}: tensor {}: shape is {}, the metadata asks for {}", file_.path(), name,
                             shape_text(tensor->shape), shape_text(shape));
    }
    used_.insert(name);
    return tensor;
  }

  Result<DeviceBuffer> alloc(size_t bytes) {
    Result<DeviceBuffer> buffer = device_.alloc(bytes);
    if (!buffer.ok()) return std::move(buffer).status().with_context(file_.path());
    model_->weight_bytes_ += bytes;
    return buffer;
  }

  Result<DevPtr<const float>> vector(const std::string& name, int64_t n) {
    DECANT_TRY(const GgufTensor* tensor, find(name, {n}));
    if (!is_float(tensor->type)) {
      return Status::unsupported("{}: tensor {}: type {}; norms and biases must be f32, f16 or bf16", file_.path(),
                                 name, dtype_info(tensor->type).name);
    }
    std::vector<float> values(static_cast<size_t>(n));
    dequantize_row(tensor->type, tensor->data.data(), values.data(), n);
    DECANT_TRY(DeviceBuffer buffer, alloc(values.size() * sizeof(float)));
    device_.copy_in(buffer.ptr<float>(), std::span<const float>(values));
    const DevPtr<const float> result = buffer.ptr<float>();
    model_->buffers_.push_back(std::move(buffer));
    return result;
  }

  Result<Weight> matrix(const std::string& name, int64_t rows, int64_t cols) {
    DECANT_TRY(const GgufTensor* tensor, find(name, {cols, rows}));
    Weight w;
    w.layout = layout_of(tensor->type);
    w.type = tensor->type;
    w.rows = rows;
    w.cols = cols;
    if (w.layout.quantized && cols % kBlockCols != 0) {
      return Status::corrupt("{}: tensor {}: {} columns of type {} are not whole blocks", file_.path(), name, cols,
                             dtype_info(tensor->type).name);
    }
    DECANT_TRY(DeviceBuffer buffer, alloc(w.bytes()));
    const DevPtr<uint8_t> base = buffer.ptr<uint8_t>();
    const size_t group_bytes = w.layout.group_bytes(cols);
    const int64_t chunk = std::max<int64_t>(1, static_cast<int64_t>(kStagingBytes / group_bytes));
    staging_.resize(static_cast<size_t>(pool_.threads()));
    const size_t source_bytes = row_bytes(tensor->type, cols) * kGroupRows;  // of a group
    const auto slab = static_cast<int64_t>(std::max<size_t>(1, kSlabBytes / source_bytes));
    for (int64_t first = 0; first < w.groups(); first += slab) {
      const int64_t count = std::min(slab, w.groups() - first);
      pool_.parallel_for(count, chunk, [&](int64_t begin, int64_t end, int thread) {
        std::vector<uint8_t>& staging = staging_[static_cast<size_t>(thread)];
        const size_t bytes = static_cast<size_t>(end - begin) * group_bytes;
        if (staging.size() < bytes) staging.resize(bytes);
        pack_groups(tensor->type, rows, cols, tensor->data.data(), first + begin, end - begin, staging.data());
        device_.copy_in((base + (first + begin) * static_cast<int64_t>(group_bytes)).cast<void>(), staging.data(),
                        bytes);
      });
      file_.release(*tensor, static_cast<size_t>(first) * source_bytes, static_cast<size_t>(count) * source_bytes);
    }
    w.data = base;
    model_->buffers_.push_back(std::move(buffer));
    loaded_bytes_ += tensor->data.size();
    if (progress_) progress_(static_cast<double>(loaded_bytes_) / static_cast<double>(total_bytes_));
    return w;
  }

  Status load_rope() {
    for (const RopeConfig& rope : model_->config_.ropes) {
      std::vector<double> inv_freq(static_cast<size_t>(rope.rot_dim / 2));
      for (size_t i = 0; i < inv_freq.size(); ++i) {
        inv_freq[i] = std::pow(rope.base, -2.0 * static_cast<double>(i) / rope.rot_dim) / rope.linear_factor;
      }
      if (rope.uses_factors && file_.find_tensor("rope_freqs.weight") != nullptr) {
        DECANT_TRY(const GgufTensor* tensor, find("rope_freqs.weight", {rope.rot_dim / 2}));
        std::vector<float> factors(inv_freq.size());
        if (!is_float(tensor->type)) {
          return Status::unsupported("{}: tensor rope_freqs.weight: type {}; expected f32", file_.path(),
                                     dtype_info(tensor->type).name);
        }
        dequantize_row(tensor->type, tensor->data.data(), factors.data(), rope.rot_dim / 2);
        for (size_t i = 0; i < inv_freq.size(); ++i) {
          if (!(factors[i] > 0) || !std::isfinite(factors[i])) {
            return Status::corrupt("{}: tensor rope_freqs.weight: entry {} is {}; expected a positive number",
                                   file_.path(), i, factors[i]);
          }
          inv_freq[i] /= static_cast<double>(factors[i]);
        }
      }
      model_->inv_freq_.push_back(std::move(inv_freq));
    }
    return {};
  }

  // A tensor that the forward pass does not read would change the model's function: never ignore it.
  Status refuse_unused() const {
    for (const GgufTensor& tensor : file_.tensors()) {
      if (used_.contains(tensor.name) || tensor.name.ends_with("rope_freqs.weight") ||
          tensor.name.ends_with("attn_rot_embd")) {
        continue;
      }
      return Status::unsupported("{}: tensor {}: the {} family has no such tensor", file_.path(), tensor.name,
                                 model_->config_.architecture);
    }
    return {};
  }

  const GgufFile& file_;
  Device& device_;
  const Model::Progress& progress_;
  ThreadPool pool_;
  std::shared_ptr<Model> model_;
  std::vector<std::vector<uint8_t>> staging_;  // one per thread
  std::set<std::string> used_;
  size_t total_bytes_ = 0, loaded_bytes_ = 0;
};

Result<std::shared_ptr<const Model>> Model::load(const GgufFile& file, Device& device, const Progress& progress) {
  return ModelLoader(file, device, progress).load();
}

}  // namespace decant
