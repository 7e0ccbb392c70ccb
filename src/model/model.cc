// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "model/model.h"

#include <algorithm>
#include <cmath>
#include <numbers>
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

std::vector<double> inverse_frequencies(const RopeConfig& rope) {
  std::vector<double> inv_freq(static_cast<size_t>(rope.rot_dim / 2));
  // Pairs before `low` turn often enough in the original context to be kept, those from `high` on are stretched.
  const auto pair_of = [&](double turns) {
    return rope.rot_dim * std::log(rope.original_context / (2 * std::numbers::pi * turns)) / (2 * std::log(rope.base));
  };
  const double low = std::max(std::floor(pair_of(rope.beta_fast)), 0.0);
  const double high = std::min(std::ceil(pair_of(rope.beta_slow)), rope.rot_dim - 1.0);
  for (size_t i = 0; i < inv_freq.size(); ++i) {
    const auto pair = static_cast<double>(i);
    const double kept = std::pow(rope.base, -2.0 * pair / rope.rot_dim);
    double stretched = 1;  // share of the stretched frequency
    if (rope.scaling == RopeScaling::kNone) stretched = 0;
    if (rope.scaling == RopeScaling::kYarn) {
      stretched = std::clamp((pair - low) / (high > low ? high - low : 0.001), 0.0, 1.0);
    }
    inv_freq[i] = kept * (1 - stretched) + kept / rope.factor * stretched;
  }
  return inv_freq;
}

}  // namespace

class ModelLoader {
 public:
  ModelLoader(const GgufFile& file, Device& device, const Model::Progress& progress)
      : file_(file), device_(device), progress_(progress), pool_(device.threads()), model_(std::make_shared<Model>()) {
    for (const GgufTensor& t : file.tensors()) total_bytes_ += t.bytes();
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
    const int width = c.embedding_dim > 0 ? c.embedding_dim : c.hidden;
    DECANT_TRY(m.embedding_, matrix("token_embd.weight", c.vocab_size, width));
    if (file_.find_tensor("output.weight") != nullptr) {
      DECANT_TRY(m.output_, matrix("output.weight", c.vocab_size, width));
    } else {
      m.output_ = m.embedding_;
    }
    if (c.embedding_dim > 0) {
      DECANT_TRY(m.project_in_, matrix("project_in.weight", c.hidden, width));
      DECANT_TRY(m.project_out_, matrix("project_out.weight", width, c.hidden));
    }
    if (c.final_norm) {
      DECANT_TRY(m.output_norm_, norm("output_norm", c.hidden));
    }
    if (c.learned_positions) {
      DECANT_TRY(m.position_, matrix("position_embd.weight", c.context_length, c.hidden));
    }

    for (int i = 0; i < c.n_layers(); ++i) {
      LayerWeights layer;
      DECANT_TRY_STATUS(load_layer(i, &m.config_.layers[static_cast<size_t>(i)], &layer));
      m.layers_.push_back(std::move(layer));
    }
    DECANT_TRY_STATUS(load_rope());
    DECANT_TRY_STATUS(refuse_unused());

    const auto ffn_bytes = [](const FeedForwardWeights& f) { return f.gate.bytes() + f.up.bytes() + f.down.bytes(); };
    for (const LayerWeights& layer : m.layers_) {
      for (const Weight* w : {&layer.q, &layer.k, &layer.v, &layer.o, &layer.router}) m.bytes_per_token_ += w->bytes();
      m.bytes_per_token_ += ffn_bytes(layer.ffn);
      if (!layer.experts.empty()) {
        m.bytes_per_token_ += ffn_bytes(layer.experts[0]) * static_cast<size_t>(c.experts_used);
      }
    }
    m.bytes_per_token_ += m.output_.bytes() + m.project_in_.bytes() + m.project_out_.bytes();
    return std::shared_ptr<const Model>(std::move(model_));
  }

 private:
  bool has(const std::string& name) const { return file_.find_tensor(name) != nullptr; }

  Status load_layer(int i, LayerConfig* l, LayerWeights* w) {
    const ModelConfig& c = model_->config_;
    const std::string p = "blk." + std::to_string(i) + ".";
    DECANT_TRY(w->attn_norm, norm(p + "attn_norm", c.hidden));
    DECANT_TRY(w->ffn_norm, norm(p + "ffn_norm", c.hidden));
    if (c.norm_place == NormPlace::kPrePost) {
      DECANT_TRY(w->post_attn_norm, norm(p + "post_attention_norm", c.hidden));
      DECANT_TRY(w->post_ffn_norm, norm(p + "post_ffw_norm", c.hidden));
    }
    if (c.qk_norm) {
      DECANT_TRY(w->q_norm, norm(p + "attn_q_norm", l->k_dim));
      DECANT_TRY(w->k_norm, norm(p + "attn_k_norm", l->k_dim));
    }
    const int64_t q_rows = int64_t{l->n_heads} * l->k_dim;
    const int64_t k_rows = int64_t{l->n_kv_heads} * l->k_dim;
    const int64_t v_rows = int64_t{l->n_kv_heads} * l->v_dim;
    if (has(p + "attn_qkv.weight")) {  // q, k and v, one below the other
      const int64_t all = q_rows + k_rows + v_rows;
      const std::string name = p + "attn_qkv";
      DECANT_TRY_STATUS(linear(name, {0, q_rows, all}, c.hidden, &w->q, &w->q_bias));
      DECANT_TRY_STATUS(linear(name, {q_rows, k_rows, all}, c.hidden, &w->k, &w->k_bias));
      DECANT_TRY_STATUS(linear(name, {q_rows + k_rows, v_rows, all}, c.hidden, &w->v, &w->v_bias));
    } else {
      DECANT_TRY_STATUS(linear(p + "attn_q", {0, q_rows, q_rows}, c.hidden, &w->q, &w->q_bias));
      DECANT_TRY_STATUS(linear(p + "attn_k", {0, k_rows, k_rows}, c.hidden, &w->k, &w->k_bias));
      DECANT_TRY_STATUS(linear(p + "attn_v", {0, v_rows, v_rows}, c.hidden, &w->v, &w->v_bias));
    }
    DECANT_TRY_STATUS(
        linear(p + "attn_output", {0, c.hidden, c.hidden}, int64_t{l->n_heads} * l->v_dim, &w->o, &w->o_bias));

    if (c.experts > 0 && has(p + "ffn_gate_inp.weight")) {
      l->experts = c.experts;
      l->ffn_dim = c.expert_ffn_dim;
      return load_experts(p, l->ffn_dim, w);
    }
    return load_ffn(p, l->ffn_dim, &w->ffn);
  }

  Status load_ffn(const std::string& p, int64_t ffn, FeedForwardWeights* w) {
    const int64_t hidden = model_->config_.hidden;
    if (model_->config_.gated && !has(p + "ffn_gate.weight")) {  // gate and up, one below the other
      DECANT_TRY_STATUS(linear(p + "ffn_up", {0, ffn, 2 * ffn}, hidden, &w->gate, &w->gate_bias));
      DECANT_TRY_STATUS(linear(p + "ffn_up", {ffn, ffn, 2 * ffn}, hidden, &w->up, &w->up_bias));
    } else {
      if (model_->config_.gated) {
        DECANT_TRY_STATUS(linear(p + "ffn_gate", {0, ffn, ffn}, hidden, &w->gate, &w->gate_bias));
      }
      DECANT_TRY_STATUS(linear(p + "ffn_up", {0, ffn, ffn}, hidden, &w->up, &w->up_bias));
    }
    return linear(p + "ffn_down", {0, hidden, hidden}, ffn, &w->down, &w->down_bias);
  }

  Status load_experts(const std::string& p, int64_t ffn, LayerWeights* w) {
    const ModelConfig& c = model_->config_;
    DECANT_TRY(w->router, matrix(p + "ffn_gate_inp.weight", c.experts, c.hidden));
    w->experts.resize(static_cast<size_t>(c.experts));
    struct Part {
      const char* name;
      Weight FeedForwardWeights::*member;
      int64_t rows, cols;
    };
    for (const Part& part : {Part{"ffn_gate", &FeedForwardWeights::gate, ffn, c.hidden},
                             Part{"ffn_up", &FeedForwardWeights::up, ffn, c.hidden},
                             Part{"ffn_down", &FeedForwardWeights::down, c.hidden, ffn}}) {
      // One tensor [experts, rows, cols]; files of 2023 have one tensor an expert.
      const std::string together = p + part.name + "_exps.weight";
      for (int64_t e = 0; e < c.experts; ++e) {
        Weight& weight = w->experts[static_cast<size_t>(e)].*part.member;
        if (has(together)) {
          DECANT_TRY(weight, matrix(together, {part.cols, part.rows, c.experts}, {e * part.rows, part.rows, 0}));
        } else {
          DECANT_TRY(weight, matrix(p + part.name + "." + std::to_string(e) + ".weight", part.rows, part.cols));
        }
      }
    }
    return {};
  }

  // Rows [first, first + count) of a matrix of `all`.
  struct Rows {
    int64_t first, count, all;
  };

  Status linear(const std::string& name, Rows rows, int64_t cols, Weight* weight, DevPtr<const float>* bias) {
    DECANT_TRY(*weight, matrix(name + ".weight", {cols, rows.all}, rows));
    if (has(name + ".bias")) {
      DECANT_TRY(*bias, vector(name + ".bias", rows));
    }
    return {};
  }

  Result<NormWeights> norm(const std::string& name, int64_t n) {
    NormWeights w;
    DECANT_TRY(w.weight, vector(name + ".weight", {0, n, n}));
    if (model_->config_.norm == NormKind::kLayer && has(name + ".bias")) {
      DECANT_TRY(w.bias, vector(name + ".bias", {0, n, n}));
    }
    return w;
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

  // A tensor's bytes; those that have to be made are kept until the next tensor is asked for.
  const uint8_t* bytes_of(const GgufTensor& tensor) {
    if (!tensor.make) return tensor.data.data();
    if (made_name_ != tensor.name) {
      made_.clear();
      made_.shrink_to_fit();
      made_ = tensor.make();
      made_name_ = tensor.name;
    }
    DECANT_CHECK(made_.size() == tensor.bytes());
    return made_.data();
  }

  Result<DevPtr<const float>> vector(const std::string& name, Rows rows) {
    DECANT_TRY(const GgufTensor* tensor, find(name, {rows.all}));
    const int64_t n = rows.count;
    if (!is_float(tensor->type)) {
      return Status::unsupported("{}: tensor {}: type {}; norms and biases must be f32, f16 or bf16", file_.path(),
                                 name, dtype_info(tensor->type).name);
    }
    std::vector<float> values(static_cast<size_t>(n));
    const auto skipped = static_cast<size_t>(rows.first) * static_cast<size_t>(dtype_info(tensor->type).bytes);
    dequantize_row(tensor->type, bytes_of(*tensor) + skipped, values.data(), n);
    DECANT_TRY(DeviceBuffer buffer, alloc(values.size() * sizeof(float)));
    device_.copy_in(buffer.ptr<float>(), std::span<const float>(values));
    const DevPtr<const float> result = buffer.ptr<float>();
    model_->buffers_.push_back(std::move(buffer));
    return result;
  }

  Result<Weight> matrix(const std::string& name, int64_t rows, int64_t cols) {
    return matrix(name, {cols, rows}, {0, rows, rows});
  }

  // Rows of a tensor of GGUF shape `shape`.
  Result<Weight> matrix(const std::string& name, const std::vector<int64_t>& shape, Rows part) {
    DECANT_TRY(const GgufTensor* tensor, find(name, shape));
    const int64_t rows = part.count, cols = shape[0];
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
    const size_t skipped = row_bytes(tensor->type, cols) * static_cast<size_t>(part.first);
    const uint8_t* const source = bytes_of(*tensor) + skipped;
    const auto slab = static_cast<int64_t>(std::max<size_t>(1, kSlabBytes / source_bytes));
    for (int64_t first = 0; first < w.groups(); first += slab) {
      const int64_t count = std::min(slab, w.groups() - first);
      pool_.parallel_for(count, chunk, [&](int64_t begin, int64_t end, int thread) {
        std::vector<uint8_t>& staging = staging_[static_cast<size_t>(thread)];
        const size_t bytes = static_cast<size_t>(end - begin) * group_bytes;
        if (staging.size() < bytes) staging.resize(bytes);
        pack_groups(tensor->type, rows, cols, source, first + begin, end - begin, staging.data());
        device_.copy_in((base + (first + begin) * static_cast<int64_t>(group_bytes)).cast<void>(), staging.data(),
                        bytes);
      });
      if (tensor->make) continue;
      file_.release(*tensor, skipped + static_cast<size_t>(first) * source_bytes,
                    static_cast<size_t>(count) * source_bytes);
    }
    w.data = base;
    model_->buffers_.push_back(std::move(buffer));
    loaded_bytes_ += row_bytes(tensor->type, cols) * static_cast<size_t>(rows);
    if (progress_) progress_(static_cast<double>(loaded_bytes_) / static_cast<double>(total_bytes_));
    return w;
  }

  // Divides `inv_freq` by a tensor's entries.
  Status apply_factors(const std::string& name, std::vector<double>* inv_freq) {
    const auto n = static_cast<int64_t>(inv_freq->size());
    DECANT_TRY(const GgufTensor* tensor, find(name, {n}));
    std::vector<float> factors(inv_freq->size());
    if (!is_float(tensor->type)) {
      return Status::unsupported("{}: tensor {}: type {}; expected f32", file_.path(), name,
                                 dtype_info(tensor->type).name);
    }
    dequantize_row(tensor->type, bytes_of(*tensor), factors.data(), n);
    for (size_t i = 0; i < factors.size(); ++i) {
      if (!(factors[i] > 0) || !std::isfinite(factors[i])) {
        return Status::corrupt("{}: tensor {}: entry {} is {}; expected a positive number", file_.path(), name, i,
                               factors[i]);
      }
      (*inv_freq)[i] /= static_cast<double>(factors[i]);
    }
    return {};
  }

  Status load_rope() {
    for (const RopeConfig& rope : model_->config_.ropes) {
      RopeTable table{.inv_freq = inverse_frequencies(rope), .magnitude = rope.magnitude}, long_table;
      if (rope.uses_factors && has("rope_factors_long.weight")) {
        long_table = table;
        DECANT_TRY_STATUS(apply_factors("rope_factors_long.weight", &long_table.inv_freq));
        DECANT_TRY_STATUS(apply_factors("rope_factors_short.weight", &table.inv_freq));
      } else if (rope.uses_factors && has("rope_freqs.weight")) {
        DECANT_TRY_STATUS(apply_factors("rope_freqs.weight", &table.inv_freq));
      }
      model_->ropes_.push_back(std::move(table));
      model_->long_ropes_.push_back(std::move(long_table));
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
  std::vector<uint8_t> made_;  // bytes_of()
  std::string made_name_;
  size_t total_bytes_ = 0, loaded_bytes_ = 0;
};

Result<std::shared_ptr<const Model>> Model::load(const GgufFile& file, Device& device, const Progress& progress) {
  return ModelLoader(file, device, progress).load();
}

}  // namespace decant
