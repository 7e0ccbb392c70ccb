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

// One rotary embedding; layers name theirs by index (Gemma 3 has two).
struct RopeConfig {
  double base = 10000.0;
  double linear_factor = 1.0;  // inv_freq is divided by it
  int rot_dim = 0;             // leading dimensions of a head that rotate; even
  bool interleaved = false;    // pairs (2i, 2i+1): GGUF's `llama`; else (i, i + rot_dim/2)
  bool uses_factors = false;   // divide inv_freq[i] by rope_freqs.weight[i] where the file has that tensor
};

struct LayerConfig {
  int n_heads = 0;
  int n_kv_heads = 0;
  int k_dim = 0;  // head_dim of q and k
  int v_dim = 0;  // head_dim of v
  int ffn_dim = 0;
  int window = 0;  // 0: full attention; else a key is visible iff the query is less than `window` ahead of it
  int rope = 0;    // index into ModelConfig::ropes
};

struct ModelConfig {
  std::string architecture;  // as the file names it
  std::string name;          // general.name, or ""
  int vocab_size = 0;
  int hidden = 0;
  int context_length = 0;  // that the model was trained for
  float norm_eps = 1e-5f;
  Activation activation = Activation::kSilu;
  float embedding_scale = 1.0f;
  float attention_scale = 0.0f;
  float attention_soft_cap = 0.0f;  // 0: none
  float logit_soft_cap = 0.0f;      // 0: none
  bool qk_norm = false;             // RMSNorm over head_dim of q and k, before RoPE
  bool post_norms = false;          // RMSNorm of each branch's output before it joins the residual
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

// What families share: the sizes that every architecture's metadata names alike, with all layers equal.
Status read_common(const GgufFile& file, ModelConfig* config);

}  // namespace decant
