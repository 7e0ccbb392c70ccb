// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// The kernel table: every operation of a forward pass, once per instruction set or device.
//
// Exactness contract. Each output element is one fixed sequence of operations over its own operands: no order depends
// on the number of rows, the thread count or the neighbours. `scalar` is the specification; all CPU tables give its
// bits. fma(a, b, c) below is one rounding; everything else rounds once per operation. "16 lanes" means: lane i takes
// elements i, i + 16, ... in order, missing elements are skipped, and the lanes are then added as lane[i] + lane[i +
// 8], then 4, 2, 1.
//
// exp is the table's own: n = rint(x * log2(e)); r = fma(-n, ln2_hi, x); r = fma(-n, ln2_lo, r); a degree-6 polynomial
// in r by Horner with fma; times 2^n. exp(x) = 0 for x < -87, and x is clamped to 88 above. It is 1 exactly at 0.
//
// Pointers are device memory. Sizes are checked by the engine; kernels cannot fail.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "base/dtype.h"
#include "kernels/device.h"
#include "kernels/weight.h"

namespace decant {

// What a device's ops run on; each device derives its own (threads and scratch memory, a CUDA stream).
class Queue {
 public:
  virtual ~Queue() = default;
};

// Rows of activations quantized for integer dot products: per row and block of 32 columns, d = max|x| / 127 (0 if all
// are 0), q = clamp(rint(x * (127 / max|x|)), -127, 127) with ties to even; NaN counts as 0.
struct QuantizedRows {
  DevPtr<int8_t> q;       // [T, cols]
  DevPtr<float> d;        // [cols/32, T]: what a tile of rows needs of one block lies together
  DevPtr<int32_t> sum16;  // [cols/16, T]  sum of q over each 16 columns
  DevPtr<float> ds16;     // [cols/16, T]  d * float(sum16)
  DevPtr<float> ds32;     // [cols/32, T]  d * float(sum of q over the 32 columns)
};

// A product's activations, made and quantized in one pass: h is x, or rms_norm(x) if `norm` is set.
struct QuantizeArgs {
  DevPtr<const float> x;     // [T, cols]
  int64_t rows = 0;          // T
  int64_t cols = 0;          // a multiple of 32
  DevPtr<const float> norm;  // [cols] or null
  float eps = 0.0f;
  DevPtr<float> h;  // [T, cols], may equal x; null when nobody reads it
  QuantizedRows out;
};

struct MatmulArgs {
  Weight w;                  // [O, K]
  DevPtr<const float> x;     // [T, K]; read when w is float
  QuantizedRows xq;          // of the same x; read when w is quantized
  int64_t rows = 0;          // T
  DevPtr<float> y;           // [T, O], row stride ldy
  int64_t ldy = 0;           // floats
  DevPtr<const float> bias;  // [O] or null
  bool accumulate = false;   // y = y + result instead of y = result
  // Host memory, increasing: the groups of 16 outputs that are wanted; empty: all. Other outputs are undefined.
  std::span<const int32_t> groups = {};
};
// Quantized: acc = 0; for each block b of 32 columns, for each sub-block: I = sum (u - zero) * q (exact integer);
//   acc = fma(float(I), s * d, acc);  then, if has_min, for each sub-block: acc = fma(m, ds, acc) (ds16 or ds32).
//   (Both sub-blocks' scale terms come first, then both minimum terms.)
// Float: acc = 0; for each column: acc = fma(w, x, acc).
// Then acc = acc + bias, and y = y + acc or y = acc.

enum class Activation { kSilu, kGeluTanh, kGelu, kRelu, kQuickGelu };
// silu(x) = x / (1 + exp(-x)); gelu_tanh(x) = x / (1 + exp(-2u)), u = sqrt(2/pi) * fma(0.044715 * x * x, x, x);
// quick_gelu(x) = x / (1 + exp(-1.702 * x)); relu(x) = x < 0 ? 0 : x.
// gelu(x) = x * Phi(x): z = |x| * sqrt(1/2); t = 1 / fma(0.5, z, 1); e = t * exp(fma(-z, z, P(t))), which is erfc(z)
// with a
//   relative error of 1e-6, P of degree 9 by Horner with fma (kErfc); Phi = x < 0 ? 0.5 * e : 1 - 0.5 * e.
inline constexpr float kErfc[10] = {0.144930214f,   -0.68082718f, 1.15673376f,  -0.696251905f, -0.0802804269f,
                                    0.00126758349f, 0.034602801f, 0.386640412f, 0.998632783f,  -1.265448f};

// A gated feed-forward layer's first half in one pass: h = activation(gate) * up, two products of the same rows.
struct GatedArgs {
  MatmulArgs gate, up;  // accumulate is false; y [T, O] holds intermediate results, or nothing: contents undefined
  Activation activation = Activation::kSilu;
  DevPtr<float> h;    // [T, O], may equal gate.y; null when nobody reads it
  QuantizedRows out;  // of h; q is null when nobody reads it, else O is a multiple of 32
};

// Rows that join others: y[index[i]] = fma(scale[i], x[i], y[index[i]]), element by element.
struct AddRowsArgs {
  DevPtr<const float> x;        // [n, dim]
  DevPtr<const int32_t> index;  // [n], no row twice
  DevPtr<const float> scale;    // [n]
  int64_t n = 0, dim = 0;
  DevPtr<float> y;  // [*, dim]
};

struct LayerNormArgs {
  DevPtr<const float> x;             // [T, dim]
  DevPtr<const float> weight, bias;  // [dim]; bias may be null
  float eps = 0.0f;
  int64_t rows = 0, dim = 0;
  DevPtr<float> y;  // [T, dim], may equal x
};
// mean = (x summed in 16 lanes) * (1/dim); v = (d * d summed by fma in 16 lanes) * (1/dim), d = x - mean;
// y = fma(d * (1 / sqrt(v + eps)), weight, bias), or the product alone without a bias.

struct RopeArgs {
  DevPtr<float> x;  // [T, heads, head_dim], changed in place
  int64_t rows = 0;
  int heads = 0, head_dim = 0;
  int rot_dim = 0;               // even; dimensions from rot_dim on stay
  bool interleaved = false;      // pairs (2i, 2i+1) instead of (i, i + rot_dim/2)
  DevPtr<const float> cos, sin;  // [T, rot_dim/2]
};
// a' = fma(a, cos, -(b * sin)); b' = fma(a, sin, b * cos)

inline constexpr int kPageKeys = 64;  // keys of a page, and of an attention block

// How the keys and values of one layer lie in a page. A page holds, for each kv head: the K tile, then the V tile.
//   K tile  float types: [k_dim][64 keys]; block types: [64 keys][row_bytes(k_type, k_dim)]
//   V tile  [64 keys][row_bytes(v_type, v_dim)]
struct KvLayout {
  DType k_type = DType::kF16, v_type = DType::kF16;  // F32, F16, BF16, Q8_0, Q5_1, Q5_0, Q4_1, Q4_0 or IQ4_NL
  int n_kv_heads = 0;
  int k_dim = 0, v_dim = 0;  // multiples of the types' blocks; v_dim a multiple of 16, k_dim even

  size_t k_tile_bytes() const { return kPageKeys * row_bytes(k_type, k_dim); }
  size_t v_tile_bytes() const { return kPageKeys * row_bytes(v_type, v_dim); }
  size_t page_bytes() const { return static_cast<size_t>(n_kv_heads) * (k_tile_bytes() + v_tile_bytes()); }
};

struct KvWriteArgs {
  KvLayout layout;
  DevPtr<uint8_t> pool;         // page p at p * page_bytes()
  DevPtr<const int32_t> slots;  // [T]  page * 64 + index in the page
  DevPtr<const float> k;        // [T, n_kv_heads, k_dim], after RoPE
  DevPtr<const float> v;        // [T, n_kv_heads, v_dim]
  int64_t rows = 0;
};
// Rounds to the cache's types (the encoders of base/quants.h).

// Moves cached rows, key by key in order, to lower slots (an accepted path of a token tree); a destination may equal an
// earlier source.
struct KvMoveArgs {
  KvLayout layout;
  DevPtr<uint8_t> pool;
  DevPtr<const int32_t> from, to;  // [n]
  int64_t n = 0;
};

// What one query row sees. Keys are named by ordinal: their index along the row's own path from the start of the
// sequence. An ordinal j below `identity` is at slot j of the sequence (page pages[page_table + j/64]); from there on
// it is at slot paths[path + j - identity] (a token tree's ancestors).
struct AttnRow {
  int32_t page_table;
  int32_t n_keys;  // ordinals [key_begin, n_keys) exist for this row
  int32_t key_begin;
  int32_t ordinal;  // the row's own; a window counts back from it
  int32_t identity;
  int32_t path;
  // The first blocks whose pages are those of the row before in the same group, so that a kernel may load them once
  // for both; 0 for a group's first row. Any number up to the true one is allowed: it changes no bit.
  int32_t shared = 0;
};
// Consecutive rows, of one sequence or of several that begin with the same pages.
struct AttnGroup {
  int32_t row_begin, row_end;
  int32_t max_keys;  // largest n_keys among them
};

struct AttentionArgs {
  KvLayout layout;
  DevPtr<const uint8_t> pool;
  DevPtr<const float> q;  // [T, heads, k_dim], after RoPE
  DevPtr<float> out;      // [T, heads, v_dim]
  int heads = 0;          // a multiple of n_kv_heads; head h reads kv head h / (heads / n_kv_heads)
  float scale = 1.0f;
  float soft_cap = 0.0f;  // 0: none; score = cap * tanh(score / cap)
  int window = 0;         // 0: none; key j is visible iff ordinal - j < window, or j - key_begin < sinks
  int sinks = 0;
  DevPtr<const AttnRow> rows;  // [T]
  DevPtr<const int32_t> pages;
  DevPtr<const int32_t> paths;
  std::span<const AttnGroup> groups;  // host memory; cover [0, T)
};
// Per (row, head), for blocks of 64 ordinals in order that hold a visible key (others are skipped: the identity):
//   dot_j = sequential over d of fma(q_d, k_jd, dot), starting at 0;  score_j = scale * dot_j (then the soft cap)
//   m_b = max over visible j;  p_j = exp(score_j - m_b), 0 for invisible keys
//   l_b = the p_j summed in 16 lanes (lane = j mod 16);  o_b[e] = sequential over j of fma(p_j, v_je, o_b[e]), from 0
// merged in block order: the first is taken as it is; then m' = max(m, m_b), a = exp(m - m'), c = exp(m_b - m'),
//   l = fma(l, a, l_b * c), o[e] = fma(o[e], a, o_b[e] * c).  out[e] = o[e] / l; a row that sees nothing gives 0.

struct KernelTable {
  std::string_view name;          // "scalar", "avx2", "avx512", "amx", "cuda"
  std::string_view requirements;  // what the processor must have

  // out[t] = scale * row tokens[t] of w (dequantized: fma(s, u - zero, m) or s * (u - zero)); a negative token leaves
  // the row.
  void (*embed)(Queue&, const Weight& w, DevPtr<const int32_t> tokens, int64_t rows, float scale, DevPtr<float> out);
  // y = x / sqrt(mean(x^2) + eps) * weight, rows contiguous; the sum of squares by fma in 16 lanes, times 1/dim, plus
  // eps; then y = (x * (1 / sqrt(.))) * weight. x may equal y.
  void (*rms_norm)(Queue&, DevPtr<const float> x, DevPtr<const float> weight, float eps, int64_t rows, int64_t dim,
                   DevPtr<float> y);
  void (*layer_norm)(Queue&, const LayerNormArgs& args);
  // The bits of rms_norm followed by a plain quantize.
  void (*quantize)(Queue&, const QuantizeArgs& args);
  // All in one parallel region; outputs are disjoint.
  void (*matmul)(Queue&, std::span<const MatmulArgs> args);
  // The bits of two products, glu and quantize.
  void (*matmul_gated)(Queue&, const GatedArgs& args);
  void (*rope)(Queue&, const RopeArgs& args);
  void (*kv_write)(Queue&, const KvWriteArgs& args);
  void (*kv_move)(Queue&, const KvMoveArgs& args);
  void (*attention)(Queue&, const AttentionArgs& args);
  // y[i] = activation(gate[i]) * up[i]; y may equal gate or up.
  void (*glu)(Queue&, Activation activation, DevPtr<const float> gate, DevPtr<const float> up, int64_t n,
              DevPtr<float> y);
  // x[i] = activation(x[i])
  void (*activate)(Queue&, Activation activation, int64_t n, DevPtr<float> x);
  // y[i] = y[i] + x[i]
  void (*add)(Queue&, DevPtr<const float> x, int64_t n, DevPtr<float> y);
  // x[i] = cap * tanh(x[i] / cap), tanh(z) = 1 - 2 / (1 + exp(2z))
  void (*soft_cap)(Queue&, float cap, int64_t n, DevPtr<float> x);
  // out[i] = row index[i] of x
  void (*gather_rows)(Queue&, DevPtr<const float> x, DevPtr<const int32_t> index, int64_t rows, int64_t dim,
                      DevPtr<float> out);
  void (*add_rows)(Queue&, const AddRowsArgs& args);
};

}  // namespace decant
