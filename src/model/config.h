// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// A model family is data: one decoder forward pass reads these options and nothing else. A family's file fills them
// from the model file's metadata; what it cannot express is refused by name.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "kernels/table.h"

namespace decant {

class GgufFile;

enum class RopeScaling {
  kNone,
  kLinear,  // frequencies divided by `factor`
  kYarn,    // Peng et al., "YaRN" (2023): low frequencies divided by `factor`, high ones kept, a ramp between
};

// One rotary embedding; layers name theirs by index (Gemma 3 has two).
struct RopeConfig {
  double base = 10000.0;
  RopeScaling scaling = RopeScaling::kNone;
  double factor = 1.0;
  double beta_fast = 32.0, beta_slow = 1.0;  // kYarn: turns within the original context where the ramp ends and begins
  int original_context = 0;                  // kYarn and long/short factors: trained for, before it was extended
  double magnitude = 1.0;                    // of cos and sin; kYarn: times 0.1 * ln(factor) + 1
  int rot_dim = 0;                           // leading dimensions of a head that rotate; even
  bool interleaved = false;                  // pairs (2i, 2i+1): GGUF's `llama`; else (i, i + rot_dim/2)
  // Divide inv_freq[i] by the file's tensor, if it has one: rope_freqs.weight (Llama 3), or rope_factors_long.weight
  // where more than original_context tokens fit in the cache, else rope_factors_short.weight (LongRoPE, Phi-3).
  bool uses_factors = true;
};

enum class NormKind { kRms, kLayer };
enum class NormPlace {
  kPre,      // x += f(norm(x))
  kPrePost,  // x += norm(f(norm(x))): Gemma 2 and 3
  kPost,     // x = norm(x + f(x)): OPT-350m
};

struct LayerConfig {
  int n_heads = 0;
  int n_kv_heads = 0;
  int k_dim = 0;    // head_dim of q and k
  int v_dim = 0;    // head_dim of v
  int ffn_dim = 0;  // of a dense layer, or of each expert
  int experts = 0;  // 0: dense; set by Model::load for the layers that have a router
  int window = 0;   // 0: full attention; else a key is visible iff the query is less than `window` ahead of it
  int rope = 0;     // index into ModelConfig::ropes
};

struct ModelConfig {
  std::string architecture;  // as the file names it
  std::string name;          // general.name, or ""
  int vocab_size = 0;
  int hidden = 0;
  int context_length = 0;  // that the model was trained for
  NormKind norm = NormKind::kRms;
  NormPlace norm_place = NormPlace::kPre;
  bool final_norm = true;
  float norm_eps = 1e-5f;
  Activation activation = Activation::kSilu;
  bool gated = true;               // down(act(gate(x)) * up(x)), else down(act(up(x)))
  bool parallel_residual = false;  // both branches read the same x: x + attention + feed-forward
  bool learned_positions = false;  // position_embd.weight is added to the embeddings; else layers rotate
  int embedding_dim = 0;  // of token_embd.weight if it differs from `hidden` (project_in / project_out); else 0
  // Mixture of experts (layers with a router): each row takes its `experts_used` likeliest experts.
  int experts = 0, experts_used = 0, expert_ffn_dim = 0;
  bool experts_renormalized = true;  // their probabilities are divided by their sum
  float embedding_scale = 1.0f;
  float attention_scale = 0.0f;
  float attention_soft_cap = 0.0f;  // 0: none
  float logit_soft_cap = 0.0f;      // 0: none
  bool qk_norm = false;             // RMSNorm over head_dim of q and k, before RoPE
  std::vector<RopeConfig> ropes;
  std::vector<LayerConfig> layers;

  int n_layers() const { return static_cast<int>(layers.size()); }
};

// One family: the registry entry and its reader.
struct FamilyInfo {
  std::string_view architecture;  // general.architecture
  std::string_view summary;
  Status (*read)(const GgufFile& file, ModelConfig* config);
};

// All families, sorted by architecture.
const std::vector<const FamilyInfo*>& families();

// Fills the options of the file's family. kUnsupported for an unknown architecture (lists the known ones) or an option
// that changes the mathematics and is not implemented; kNotFound / kCorrupt for missing or absurd metadata, naming file
// and key.
Result<ModelConfig> read_config(const GgufFile& file);

// What families share: the sizes that every architecture's metadata names alike, with all layers equal. Set `norm`,
// `activation` and `learned_positions` before.
Status read_common(const GgufFile& file, ModelConfig* config);
// A cap of logits, 0 or absent: none.
Status read_soft_cap(const GgufFile& file, const std::string& key, float* cap);
// `ARCHITECTURE.attention.sliding_window` for the windowed layers: all but every `period`-th (0: all), unless
// `..._pattern` says otherwise (a period, or one boolean a layer: windowed).
Status read_windows(const GgufFile& file, uint64_t period, ModelConfig* config);
// `ARCHITECTURE.attention.scale`, if the file has it: what q * k is multiplied by.
Status read_query_scale(const GgufFile& file, ModelConfig* config);

}  // namespace decant
