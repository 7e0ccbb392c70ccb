// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "testing/tiny_model.h"

#include <cmath>

#include "base/quants.h"
#include "base/rng.h"

namespace decant::testing {
namespace {

std::string utf8(uint32_t code_point) {
  if (code_point < 0x80) return {static_cast<char>(code_point)};
  return {static_cast<char>(0xC0 | (code_point >> 6)), static_cast<char>(0x80 | (code_point & 0x3F))};
}

// GPT-2's spelling of a byte: printable ones stand for themselves, the others follow from U+0100 on.
std::vector<std::string> byte_spellings() {
  std::vector<std::string> out;
  uint32_t next = 256;
  for (uint32_t b = 0; b < 256; ++b) {
    const bool printable = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
    out.push_back(utf8(printable ? b : next++));
  }
  return out;
}

const char* const kWords[] = {"th", "the", "in", "an", "er", "on", "re", "at", "is", "it"};

void add_bpe(GgufWriter* w) {
  std::vector<std::string> tokens = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
  std::vector<int32_t> types = {3, 3, 3};
  for (const std::string& b : byte_spellings()) tokens.push_back(b);
  std::vector<std::string> merges;
  for (const char* word : kWords) {
    const std::string s = word;
    tokens.push_back(s);
    merges.push_back(s.substr(0, s.size() - 1) + " " + s.substr(s.size() - 1));
  }
  types.resize(tokens.size(), 1);
  while (tokens.size() < kTinyVocab) {
    tokens.push_back("<|unused_" + std::to_string(tokens.size()) + "|>");
    types.push_back(5);
  }
  w->set("tokenizer.ggml.model", "gpt2");
  w->set("tokenizer.ggml.pre", "smollm");
  w->set("tokenizer.ggml.tokens", tokens);
  w->set("tokenizer.ggml.token_type", types);
  w->set("tokenizer.ggml.merges", merges);
  w->set("tokenizer.ggml.bos_token_id", uint32_t{1});
  w->set("tokenizer.ggml.eos_token_id", uint32_t{2});
  w->set("tokenizer.ggml.add_bos_token", false);
}

void add_spm(GgufWriter* w) {
  std::vector<std::string> tokens = {"<pad>", "<eos>", "<bos>", "<unk>"};
  std::vector<int32_t> types = {3, 3, 3, 2};
  std::vector<float> scores(4, 0.0f);
  for (int b = 0; b < 256; ++b) {
    tokens.push_back(fmt::format("<0x{:02X}>", b));
    types.push_back(6);
    scores.push_back(0.0f);
  }
  for (int c = 'a'; c <= 'z'; ++c) tokens.push_back(std::string(1, static_cast<char>(c)));
  tokens.push_back("\xE2\x96\x81");
  for (const char* word : kWords) tokens.push_back(word);
  tokens.resize(kTinyVocab - 1);
  tokens.push_back("<end_of_turn>");
  types.resize(kTinyVocab, 1);
  types.back() = 3;
  for (size_t i = scores.size(); i < kTinyVocab; ++i) scores.push_back(-static_cast<float>(i));
  w->set("tokenizer.ggml.model", "llama");
  w->set("tokenizer.ggml.pre", "default");
  w->set("tokenizer.ggml.tokens", tokens);
  w->set("tokenizer.ggml.token_type", types);
  w->set("tokenizer.ggml.scores", scores);
  w->set("tokenizer.ggml.bos_token_id", uint32_t{2});
  w->set("tokenizer.ggml.eos_token_id", uint32_t{1});
  w->set("tokenizer.ggml.unknown_token_id", uint32_t{3});
  w->set("tokenizer.ggml.add_bos_token", true);
  w->set("tokenizer.ggml.add_space_prefix", false);
}

class Builder {
 public:
  explicit Builder(const TinyModelSpec& spec) : spec_(spec) {}

  GgufWriter build() {
    const std::string& a = spec_.architecture;
    w_.set("general.architecture", a);
    w_.set("general.name", "tiny " + a);
    w_.set(a + ".block_count", static_cast<uint32_t>(spec_.layers));
    w_.set(a + ".context_length", uint32_t{2048});
    w_.set(a + ".embedding_length", static_cast<uint32_t>(spec_.hidden));
    w_.set(a + ".feed_forward_length", static_cast<uint32_t>(spec_.ffn));
    w_.set(a + ".attention.head_count", static_cast<uint32_t>(spec_.heads));
    w_.set(a + ".attention.head_count_kv", static_cast<uint32_t>(spec_.kv_heads));
    w_.set(a + ".attention.key_length", static_cast<uint32_t>(spec_.head_dim));
    w_.set(a + ".attention.value_length", static_cast<uint32_t>(spec_.head_dim));
    w_.set(a + ".attention.layer_norm_rms_epsilon", 1e-5f);
    w_.set(a + ".rope.freq_base", spec_.rope_base);
    if (spec_.yarn_factor > 0) {
      w_.set(a + ".rope.scaling.type", "yarn");
      w_.set(a + ".rope.scaling.factor", spec_.yarn_factor);
      w_.set(a + ".rope.scaling.original_context_length", static_cast<uint32_t>(spec_.yarn_context));
    }
    if (spec_.window > 0) w_.set(a + ".attention.sliding_window", static_cast<uint32_t>(spec_.window));
    const bool gemma = a == "gemma3";
    if (gemma) w_.set(a + ".attention.sliding_window_pattern", uint32_t{2});
    gemma ? add_spm(&w_) : add_bpe(&w_);

    matrix("token_embd", kTinyVocab, spec_.hidden, 1.0f);
    norm("output_norm", spec_.hidden);
    if (!spec_.tied) matrix("output", kTinyVocab, spec_.hidden, 1.0f);
    for (int i = 0; i < spec_.layers; ++i) {
      const std::string p = "blk." + std::to_string(i) + ".";
      norm(p + "attn_norm", spec_.hidden);
      norm(p + "ffn_norm", spec_.hidden);
      if (gemma) {
        norm(p + "post_attention_norm", spec_.hidden);
        norm(p + "post_ffw_norm", spec_.hidden);
        norm(p + "attn_q_norm", spec_.head_dim);
        norm(p + "attn_k_norm", spec_.head_dim);
      }
      linear(p + "attn_q", spec_.heads * spec_.head_dim, spec_.hidden);
      linear(p + "attn_k", spec_.kv_heads * spec_.head_dim, spec_.hidden);
      linear(p + "attn_v", spec_.kv_heads * spec_.head_dim, spec_.hidden);
      linear(p + "attn_output", spec_.hidden, spec_.heads * spec_.head_dim);
      linear(p + "ffn_gate", spec_.ffn, spec_.hidden);
      linear(p + "ffn_up", spec_.ffn, spec_.hidden);
      linear(p + "ffn_down", spec_.hidden, spec_.ffn);
    }
    return std::move(w_);
  }

 private:
  // Uniform in (-1, 1).
  float next() { return static_cast<float>(2.0 * random_uniform({.seed = spec_.seed}, counter_++) - 1.0); }

  void tensor(const std::string& name, DType type, std::vector<int64_t> shape, const std::vector<float>& values) {
    const int64_t cols = shape[0];
    const size_t bytes = row_bytes(type, cols);
    const size_t rows = values.size() / static_cast<size_t>(cols);
    std::vector<uint8_t> data(rows * bytes);
    for (size_t r = 0; r < rows; ++r) {
      const Status status =
          quantize_row(type, values.data() + r * static_cast<size_t>(cols), data.data() + r * bytes, cols);
      DECANT_CHECK(status.ok());
    }
    w_.add_tensor(name, type, std::move(shape), std::move(data));
  }

  void norm(const std::string& name, int n) {
    std::vector<float> values(static_cast<size_t>(n));
    for (float& v : values) v = 1.0f + 0.2f * next();
    tensor(name + ".weight", DType::kF32, {n}, values);
  }

  void matrix(const std::string& name, int rows, int cols, float scale) {
    std::vector<float> values(static_cast<size_t>(rows) * static_cast<size_t>(cols));
    for (float& v : values) v = scale * next();
    tensor(name + ".weight", spec_.types[matrices_++ % spec_.types.size()], {cols, rows}, values);
  }

  void linear(const std::string& name, int rows, int cols) {
    matrix(name, rows, cols, 2.0f / std::sqrt(static_cast<float>(cols)));
    if (!spec_.biases) return;
    std::vector<float> bias(static_cast<size_t>(rows));
    for (float& v : bias) v = 0.1f * next();
    tensor(name + ".bias", DType::kF32, {rows}, bias);
  }

  const TinyModelSpec& spec_;
  GgufWriter w_;
  uint32_t counter_ = 0;
  size_t matrices_ = 0;
};

}  // namespace

GgufWriter make_tiny_model(const TinyModelSpec& spec) { return Builder(spec).build(); }

}  // namespace decant::testing
