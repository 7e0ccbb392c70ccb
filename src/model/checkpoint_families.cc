// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "model/checkpoint_families.h"

#include <cmath>
#include <numbers>

namespace decant::checkpoint {
namespace {

constexpr TensorRule kLlamaRules[] = {
    {"embed_tokens", "token_embd"},
    {"norm", "output_norm"},
    {"lm_head", "output"},
    {"layers.{}.input_layernorm", "blk.{}.attn_norm"},
    {"layers.{}.post_attention_layernorm", "blk.{}.ffn_norm"},
    {"layers.{}.self_attn.q_proj", "blk.{}.attn_q", Layout::kPairedQ},
    {"layers.{}.self_attn.k_proj", "blk.{}.attn_k", Layout::kPairedK},
    {"layers.{}.self_attn.v_proj", "blk.{}.attn_v"},
    {"layers.{}.self_attn.o_proj", "blk.{}.attn_output"},
    {"layers.{}.self_attn.q_norm", "blk.{}.attn_q_norm"},
    {"layers.{}.self_attn.k_norm", "blk.{}.attn_k_norm"},
    {"layers.{}.self_attn.qkv_proj", "blk.{}.attn_qkv"},
    {"layers.{}.mlp.gate_proj", "blk.{}.ffn_gate"},
    {"layers.{}.mlp.up_proj", "blk.{}.ffn_up"},
    {"layers.{}.mlp.down_proj", "blk.{}.ffn_down"},
    {"layers.{}.mlp.gate_up_proj", "blk.{}.ffn_up", Layout::kSame, "Phi3ForCausalLM"},
    {"layers.{}.mlp.gate", "blk.{}.ffn_gate_inp"},
    {"layers.{}.mlp.experts.{e}.gate_proj", "blk.{}.ffn_gate.{e}"},
    {"layers.{}.mlp.experts.{e}.up_proj", "blk.{}.ffn_up.{e}"},
    {"layers.{}.mlp.experts.{e}.down_proj", "blk.{}.ffn_down.{e}"},
    {"layers.{}.block_sparse_moe.gate", "blk.{}.ffn_gate_inp", Layout::kSame, "MixtralForCausalLM"},
    {"layers.{}.block_sparse_moe.experts.{e}.w1", "blk.{}.ffn_gate.{e}", Layout::kSame, "MixtralForCausalLM"},
    {"layers.{}.block_sparse_moe.experts.{e}.w3", "blk.{}.ffn_up.{e}", Layout::kSame, "MixtralForCausalLM"},
    {"layers.{}.block_sparse_moe.experts.{e}.w2", "blk.{}.ffn_down.{e}", Layout::kSame, "MixtralForCausalLM"},
};
constexpr TensorRule kGemmaRules[] = {
    {"embed_tokens", "token_embd"},
    {"norm", "output_norm", Layout::kPlusOne},
    {"lm_head", "output"},
    {"layers.{}.input_layernorm", "blk.{}.attn_norm", Layout::kPlusOne},
    {"layers.{}.post_attention_layernorm", "blk.{}.post_attention_norm", Layout::kPlusOne},
    {"layers.{}.pre_feedforward_layernorm", "blk.{}.ffn_norm", Layout::kPlusOne},
    {"layers.{}.post_feedforward_layernorm", "blk.{}.post_ffw_norm", Layout::kPlusOne},
    {"layers.{}.self_attn.q_proj", "blk.{}.attn_q"},
    {"layers.{}.self_attn.k_proj", "blk.{}.attn_k"},
    {"layers.{}.self_attn.v_proj", "blk.{}.attn_v"},
    {"layers.{}.self_attn.o_proj", "blk.{}.attn_output"},
    {"layers.{}.self_attn.q_norm", "blk.{}.attn_q_norm", Layout::kPlusOne},
    {"layers.{}.self_attn.k_norm", "blk.{}.attn_k_norm", Layout::kPlusOne},
    {"layers.{}.mlp.gate_proj", "blk.{}.ffn_gate"},
    {"layers.{}.mlp.up_proj", "blk.{}.ffn_up"},
    {"layers.{}.mlp.down_proj", "blk.{}.ffn_down"},
};
constexpr TensorRule kGpt2Rules[] = {
    {"wte", "token_embd"},
    {"wpe", "position_embd"},
    {"ln_f", "output_norm"},
    {"lm_head", "output"},
    {"h.{}.ln_1", "blk.{}.attn_norm"},
    {"h.{}.ln_2", "blk.{}.ffn_norm"},
    {"h.{}.attn.c_attn", "blk.{}.attn_qkv", Layout::kTransposed},
    {"h.{}.attn.c_proj", "blk.{}.attn_output", Layout::kTransposed},
    {"h.{}.mlp.c_fc", "blk.{}.ffn_up", Layout::kTransposed},
    {"h.{}.mlp.c_proj", "blk.{}.ffn_down", Layout::kTransposed},
};
constexpr TensorRule kGptNeoXRules[] = {
    {"embed_in", "token_embd"},
    {"final_layer_norm", "output_norm"},
    {"embed_out", "output"},
    {"layers.{}.input_layernorm", "blk.{}.attn_norm"},
    {"layers.{}.post_attention_layernorm", "blk.{}.ffn_norm"},
    {"layers.{}.attention.query_key_value", "blk.{}.attn_qkv", Layout::kHeadsOfQkv},
    {"layers.{}.attention.dense", "blk.{}.attn_output"},
    {"layers.{}.mlp.dense_h_to_4h", "blk.{}.ffn_up"},
    {"layers.{}.mlp.dense_4h_to_h", "blk.{}.ffn_down"},
};
constexpr TensorRule kOptRules[] = {
    {"embed_tokens", "token_embd"},
    {"embed_positions", "position_embd", Layout::kPositions2},
    {"project_in", "project_in"},
    {"project_out", "project_out"},
    {"final_layer_norm", "output_norm"},
    {"lm_head", "output"},
    {"layers.{}.self_attn_layer_norm", "blk.{}.attn_norm"},
    {"layers.{}.final_layer_norm", "blk.{}.ffn_norm"},
    {"layers.{}.self_attn.q_proj", "blk.{}.attn_q"},
    {"layers.{}.self_attn.k_proj", "blk.{}.attn_k"},
    {"layers.{}.self_attn.v_proj", "blk.{}.attn_v"},
    {"layers.{}.self_attn.out_proj", "blk.{}.attn_output"},
    {"layers.{}.fc1", "blk.{}.ffn_up"},
    {"layers.{}.fc2", "blk.{}.ffn_down"},
};

constexpr CheckpointFamily kFamilies[] = {
    {"LlamaForCausalLM", "llama", "model.", kLlamaRules, {}},
    {"MistralForCausalLM", "llama", "model.", kLlamaRules, {.window = 4096}},
    {"MixtralForCausalLM", "llama", "model.", kLlamaRules, {.norm_eps = 1e-5, .rope_theta = 1e6}},
    {"Qwen2ForCausalLM", "qwen2", "model.", kLlamaRules, {.window = 4096}},
    {"Qwen3ForCausalLM", "qwen3", "model.", kLlamaRules, {.head_dim = 128, .window = 4096}},
    {"Qwen3MoeForCausalLM", "qwen3moe", "model.", kLlamaRules, {.window = 4096}},
    {"Phi3ForCausalLM", "phi3", "model.", kLlamaRules, {.norm_eps = 1e-5}},
    {"GemmaForCausalLM", "gemma", "model.", kGemmaRules, {.head_dim = 256}},
    {"Gemma2ForCausalLM", "gemma2", "model.", kGemmaRules, {.head_dim = 256, .window = 4096}},
    {"Gemma3ForCausalLM", "gemma3", "model.", kGemmaRules, {.rope_theta = 1e6, .head_dim = 256, .window = 4096}},
    {"Gemma3ForConditionalGeneration",
     "gemma3",
     "model.",
     kGemmaRules,
     {.rope_theta = 1e6, .head_dim = 256, .window = 4096}},
    {"GPT2LMHeadModel", "gpt2", "transformer.", kGpt2Rules, {.norm_eps = 1e-5}},
    {"GPTNeoXForCausalLM", "gptneox", "gpt_neox.", kGptNeoXRules, {.norm_eps = 1e-5}},
    {"OPTForCausalLM", "opt", "model.decoder.", kOptRules, {.norm_eps = 1e-5}},
};

// Names before the ones in the rules; longest first.
constexpr std::string_view kPrefixes[] = {"model.language_model.",
                                          "language_model.model.",
                                          "language_model.",
                                          "model.decoder.",
                                          "transformer.",
                                          "gpt_neox.",
                                          "decoder.",
                                          "model."};

// A number at the start of `text`, taken off.
std::optional<std::string> take_number(std::string_view* text) {
  size_t n = 0;
  while (n < text->size() && n < 9 && (*text)[n] >= '0' && (*text)[n] <= '9') ++n;
  if (n == 0) return std::nullopt;
  std::string number(text->substr(0, n));
  text->remove_prefix(n);
  return number;
}

// Of the architectures that share Llama's names, GGUF has neighbours rotate in its own alone.
Layout layout_of(const CheckpointFamily& family, const TensorRule& rule) {
  const bool paired = rule.layout == Layout::kPairedQ || rule.layout == Layout::kPairedK;
  return paired && family.architecture != "llama" ? Layout::kSame : rule.layout;
}

// Gemma 1 has two norms a layer; its second is named as the second of the later sizes' four.
std::string_view gguf_pattern(const CheckpointFamily& family, const TensorRule& rule) {
  const bool second = family.architecture == "gemma" && rule.to == "blk.{}.post_attention_norm";
  return second ? "blk.{}.ffn_norm" : rule.to;
}

// ".weight" or ".bias" at the end of a name, or nothing.
std::string_view suffix_of(std::string_view name) {
  for (const std::string_view suffix : {".weight", ".bias"}) {
    if (name.ends_with(suffix)) return suffix;
  }
  return {};
}

}  // namespace

std::span<const CheckpointFamily> families() { return kFamilies; }

std::optional<Numbers> match(std::string_view pattern, std::string_view name) {
  Numbers numbers;
  while (!pattern.empty()) {
    if (pattern.starts_with("{}") || pattern.starts_with("{e}")) {
      std::optional<std::string> number = take_number(&name);
      if (!number) return std::nullopt;
      (pattern[1] == '}' ? numbers.layer : numbers.expert) = *std::move(number);
      pattern.remove_prefix(pattern[1] == '}' ? 2 : 3);
    } else if (name.empty() || pattern[0] != name[0]) {
      return std::nullopt;
    } else {
      pattern.remove_prefix(1);
      name.remove_prefix(1);
    }
  }
  return name.empty() ? std::optional(std::move(numbers)) : std::nullopt;
}

std::string filled(std::string_view pattern, const Numbers& numbers) {
  std::string text;
  for (size_t i = 0; i < pattern.size(); ++i) {
    if (pattern.substr(i).starts_with("{}")) {
      text += numbers.layer;
      i += 1;
    } else if (pattern.substr(i).starts_with("{e}")) {
      text += numbers.expert;
      i += 2;
    } else {
      text += pattern[i];
    }
  }
  return text;
}

std::optional<Mapped> to_gguf(const CheckpointFamily& family, std::string_view name) {
  const std::string_view suffix = suffix_of(name);
  if (suffix.empty()) return std::nullopt;
  const std::string_view stem = name.substr(0, name.size() - suffix.size());
  const auto find = [&](std::string_view tail) -> std::optional<Mapped> {
    for (const TensorRule& rule : family.rules) {
      if (const std::optional<Numbers> numbers = match(rule.from, tail)) {
        return Mapped{filled(gguf_pattern(family, rule), *numbers) + std::string(suffix), layout_of(family, rule)};
      }
    }
    return std::nullopt;
  };
  for (const std::string_view prefix : kPrefixes) {
    if (!stem.starts_with(prefix)) continue;
    if (std::optional<Mapped> mapped = find(stem.substr(prefix.size()))) return mapped;
  }
  return find(stem);
}

std::optional<Mapped> from_gguf(const CheckpointFamily& family, std::string_view name) {
  const std::string_view suffix = suffix_of(name);
  const std::string_view stem = name.substr(0, name.size() - suffix.size());
  for (const std::string_view hf_class : {family.hf_class, std::string_view()}) {
    for (const TensorRule& rule : family.rules) {
      if (suffix.empty() || rule.written_by != hf_class) continue;
      const std::optional<Numbers> numbers = match(gguf_pattern(family, rule), stem);
      if (!numbers) continue;
      const bool is_head = rule.to == "output";
      return Mapped{std::string(is_head ? "" : family.prefix) + filled(rule.from, *numbers) + std::string(suffix),
                    layout_of(family, rule)};
    }
  }
  return std::nullopt;
}

std::function<int64_t(int64_t)> row_order(Layout layout, int heads, int head_dim) {
  const int64_t dim = head_dim, half = dim / 2;
  switch (layout) {
    case Layout::kPairedQ:
    case Layout::kPairedK: return [dim, half](int64_t r) { return r / dim * dim + r % 2 * half + r % dim / 2; };
    case Layout::kHeadsOfQkv: {
      const int64_t n = heads;
      return [dim, n](int64_t r) { return (r / dim % n * 3 + r / (dim * n)) * dim + r % dim; };
    }
    case Layout::kPositions2: return [](int64_t r) { return r + 2; };
    default: break;
  }
  return {};
}

double llama3_divisor(double theta, int64_t i, int64_t rotated, double factor, double low, double high,
                      double original) {
  const double frequency = std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(rotated));
  const double wave = 2 * std::numbers::pi / frequency;
  if (wave > original / low) return factor;
  if (wave < original / high) return 1;
  const double kept = (original / wave - low) / (high - low);
  return 1 / ((1 - kept) / factor + kept);
}

}  // namespace decant::checkpoint
