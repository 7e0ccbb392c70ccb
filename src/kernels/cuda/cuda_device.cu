// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// The CUDA kernel table: plain kernels that follow table.h operation by operation, one thread per output element (or
// per key, or per value dimension), every sum sequential. They are the GPU's specification, not its fast path; only
// attention shares its loads among rows, as table.h allows. Compiled with --fmad=false, so only __fmaf_rn fuses.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <vector>

#include "kernels/cuda_device.h"
#include "kernels/table.h"

namespace decant {
namespace {

constexpr int kThreads = 256;

class CudaQueue final : public Queue {
 public:
  cudaStream_t stream = nullptr;
  int processors = 1;        // multiprocessors of the device
  int max_shared_bytes = 0;  // of a thread block

  // Device memory of an op, contents undefined; null if there is none. What it held before may still be read by queued
  // work, so growing waits.
  float* scratch(size_t floats) {
    if (floats <= scratch_floats_) return scratch_;
    release();
    if (cudaMalloc(&scratch_, floats * sizeof(float)) != cudaSuccess) {
      cudaGetLastError();
      scratch_ = nullptr;
      return nullptr;
    }
    scratch_floats_ = floats;
    return scratch_;
  }
  void release() {
    if (scratch_ != nullptr) {
      cudaStreamSynchronize(stream);
      cudaFree(scratch_);
    }
    scratch_ = nullptr;
    scratch_floats_ = 0;
  }

 private:
  float* scratch_ = nullptr;
  size_t scratch_floats_ = 0;
};

cudaStream_t stream_of(Queue& queue) { return static_cast<CudaQueue&>(queue).stream; }

unsigned blocks_for(int64_t items) { return static_cast<unsigned>((items + kThreads - 1) / kThreads); }

// ---- arithmetic of table.h ----

__device__ float exp_spec(float x) {
  if (!(x >= -87.0f)) return x != x ? x : 0.0f;
  x = fminf(x, 88.0f);
  const float n = rintf(__fmul_rn(x, 1.44269504088896341f));
  float r = __fmaf_rn(-n, 0.693359375f, x);
  r = __fmaf_rn(-n, -2.12194440e-4f, r);
  float p = 1.0f / 720.0f;
  p = __fmaf_rn(p, r, 1.0f / 120.0f);
  p = __fmaf_rn(p, r, 1.0f / 24.0f);
  p = __fmaf_rn(p, r, 1.0f / 6.0f);
  p = __fmaf_rn(p, r, 0.5f);
  p = __fmaf_rn(p, r, 1.0f);
  p = __fmaf_rn(p, r, 1.0f);
  return __fmul_rn(p, __int_as_float((static_cast<int>(n) + 127) << 23));
}

__device__ float cap_spec(float x, float cap) {
  const float z = __fdiv_rn(x, cap);
  const float t = __fadd_rn(1.0f, -__fdiv_rn(2.0f, __fadd_rn(1.0f, exp_spec(__fmul_rn(2.0f, z)))));
  return __fmul_rn(cap, t);
}

__device__ float activate(Activation a, float x) {
  if (a == Activation::kSilu) return __fdiv_rn(x, __fadd_rn(1.0f, exp_spec(-x)));
  if (a == Activation::kQuickGelu) return __fdiv_rn(x, __fadd_rn(1.0f, exp_spec(__fmul_rn(-1.702f, x))));
  if (a == Activation::kRelu) return x < 0.0f ? 0.0f : x;
  if (a == Activation::kGelu) {
    constexpr float kPolynomial[10] = {kErfc[0], kErfc[1], kErfc[2], kErfc[3], kErfc[4],
                                       kErfc[5], kErfc[6], kErfc[7], kErfc[8], kErfc[9]};
    const float z = __fmul_rn(fabsf(x), 0.707106781186547524f);
    const float t = __fdiv_rn(1.0f, __fmaf_rn(0.5f, z, 1.0f));
    float p = kPolynomial[0];
    for (int i = 1; i < 10; ++i) p = __fmaf_rn(p, t, kPolynomial[i]);
    const float half = __fmul_rn(0.5f, __fmul_rn(t, exp_spec(__fmaf_rn(-z, z, p))));
    return __fmul_rn(x, x < 0.0f ? half : __fadd_rn(1.0f, -half));
  }
  const float cubic = __fmul_rn(__fmul_rn(0.044715f, x), x);
  const float u = __fmul_rn(0.797884560802865356f, __fmaf_rn(cubic, x, x));
  return __fdiv_rn(x, __fadd_rn(1.0f, exp_spec(__fmul_rn(-2.0f, u))));
}

// Sum of lane[0..15] in shared memory in the order of table.h.
__device__ float reduce16(const float* lane) {
  float v[16];
  for (int i = 0; i < 16; ++i) v[i] = lane[i];
  for (int half = 8; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) v[i] = __fadd_rn(v[i], v[i + half]);
  }
  return v[0];
}

__device__ float load_float(const uint8_t* p, DType type, int64_t i) {
  if (type == DType::kF32) return reinterpret_cast<const float*>(p)[i];
  if (type == DType::kF16) return __half2float(reinterpret_cast<const __half*>(p)[i]);
  return __bfloat162float(reinterpret_cast<const __nv_bfloat16*>(p)[i]);
}

__device__ void store_float(uint8_t* p, DType type, int64_t i, float v) {
  if (type == DType::kF32) {
    reinterpret_cast<float*>(p)[i] = v;
  } else if (type == DType::kF16) {
    reinterpret_cast<__half*>(p)[i] = __float2half_rn(v);
  } else {
    reinterpret_cast<__nv_bfloat16*>(p)[i] = __float2bfloat16_rn(v);
  }
}

// ---- weights (layout in weight.h) ----

struct BlockView {
  const uint8_t* codes;
  const uint8_t* scales;
  const uint8_t* mins;
  const uint8_t* header;
};

__device__ BlockView block_view(const uint8_t* data, const WeightLayout& l, int64_t cols, int64_t group,
                                int64_t block) {
  const int64_t number = l.scales == ScaleKind::kF32 ? 4 : l.scales == ScaleKind::kF16 ? 2 : 1;
  const int64_t code_bytes = l.bits * 64;
  const int64_t scale_bytes = (32 / l.sub) * 16 * number;
  const int64_t bytes = code_bytes + scale_bytes * (l.has_min ? 2 : 1);
  const int64_t header = l.scales == ScaleKind::kSuper ? (l.has_min ? 64 : 32) : 0;
  const uint8_t* g = data + group * (cols / 32 * bytes + cols / 256 * header);
  const uint8_t* p = g + block * bytes + (block / 8 + 1) * header;
  return {p, p + code_bytes, p + code_bytes + scale_bytes, g + block / 8 * (8 * bytes + header)};
}

__constant__ int8_t iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
__constant__ int8_t mxfp4_values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

__device__ int code_at(const BlockView& b, const WeightLayout& l, int row, int col) {
  const int lane = 4 * row + col % 4;
  if (l.bits == 8) return b.codes[(col / 4) * 64 + lane];
  const int byte = b.codes[((col % 16) / 4) * 64 + lane];
  int code = col < 16 ? byte & 15 : byte >> 4;
  if (l.bits == 5) code |= (b.codes[256 + lane] >> (col / 4) & 1) << 4;
  if (l.bits == 6) code |= (b.codes[256 + 64 * (col / 16) + lane] >> (2 * (col % 16 / 4)) & 3) << 4;
  if (l.table == CodeTable::kIq4) code = iq4_values[code] + 128;
  if (l.table == CodeTable::kMxfp4) code = mxfp4_values[code] + 128;
  return code;
}

// Number i (sub-block times 16 plus row) of a block's scales or minimums; `d` is the header's number of the row.
__device__ float number_at(const uint8_t* p, const WeightLayout& l, int i, const uint8_t* d) {
  if (l.scales == ScaleKind::kF32) return reinterpret_cast<const float*>(p)[i];
  if (l.scales == ScaleKind::kF16) return __half2float(reinterpret_cast<const __half*>(p)[i]);
  return __fmul_rn(__half2float(*reinterpret_cast<const __half*>(d)), static_cast<float>(static_cast<int8_t>(p[i])));
}
__device__ float scale_at(const BlockView& b, const WeightLayout& l, int sub, int row) {
  return number_at(b.scales, l, sub * 16 + row, b.header + 2 * row);
}
__device__ float min_at(const BlockView& b, const WeightLayout& l, int sub, int row) {
  return number_at(b.mins, l, sub * 16 + row, b.header + 32 + 2 * row);
}

__global__ void embed_kernel(const uint8_t* data, WeightLayout l, int64_t cols, const int32_t* tokens, int64_t rows,
                             float scale, float* out) {
  const int64_t i = blockIdx.x * static_cast<int64_t>(kThreads) + threadIdx.x;
  if (i >= rows * cols) return;
  const int64_t token = tokens[i / cols];
  const int64_t col = i % cols;
  if (token < 0) return;
  const int64_t group = token / 16;
  const int row = static_cast<int>(token % 16);
  float w;
  if (!l.quantized) {
    w = load_float(data, l.float_type, (group * cols + col) * 16 + row);
  } else {
    const BlockView b = block_view(data, l, cols, group, col / 32);
    const int c = static_cast<int>(col % 32);
    const float s = scale_at(b, l, c / l.sub, row);
    const float u = static_cast<float>(code_at(b, l, row, c) - l.zero);
    w = l.has_min ? __fmaf_rn(s, u, min_at(b, l, c / l.sub, row)) : __fmul_rn(s, u);
  }
  out[i] = __fmul_rn(w, scale);
}

__global__ void matmul_kernel(const uint8_t* data, WeightLayout l, int64_t outputs, int64_t cols, const float* x,
                              const int8_t* q, const float* d, const float* ds16, const float* ds32, const float* bias,
                              bool accumulate, float* y, int64_t ldy) {
  const int64_t o = blockIdx.x * static_cast<int64_t>(kThreads) + threadIdx.x;
  const int64_t t = blockIdx.y, rows = gridDim.y;
  if (o >= outputs) return;
  const int64_t group = o / 16;
  const int row = static_cast<int>(o % 16);
  float acc = 0.0f;
  if (!l.quantized) {
    for (int64_t k = 0; k < cols; ++k) {
      acc = __fmaf_rn(load_float(data, l.float_type, (group * cols + k) * 16 + row), x[t * cols + k], acc);
    }
  } else {
    const int subs = 32 / l.sub;
    for (int64_t block = 0; block < cols / 32; ++block) {
      const BlockView b = block_view(data, l, cols, group, block);
      const int8_t* qb = q + t * cols + block * 32;
      const float db = d[block * rows + t];
      for (int s = 0; s < subs; ++s) {
        int dot = 0;
        for (int c = s * l.sub; c < (s + 1) * l.sub; ++c) dot += (code_at(b, l, row, c) - l.zero) * qb[c];
        acc = __fmaf_rn(static_cast<float>(dot), __fmul_rn(scale_at(b, l, s, row), db), acc);
      }
      if (!l.has_min) continue;
      for (int s = 0; s < subs; ++s) {
        const float ds = l.sub == 32 ? ds32[block * rows + t] : ds16[(block * 2 + s) * rows + t];
        acc = __fmaf_rn(min_at(b, l, s, row), ds, acc);
      }
    }
  }
  if (bias != nullptr) acc = __fadd_rn(acc, bias[o]);
  float* out = y + t * ldy + o;
  *out = accumulate ? __fadd_rn(*out, acc) : acc;
}

// ---- rows ----

// 1 / sqrt(mean(row^2) + eps), for the whole block.
__device__ float inverse_rms(const float* row, float eps, int64_t dim) {
  __shared__ float lanes[16];
  __shared__ float scale;
  if (threadIdx.x < 16) {
    float sum = 0.0f;
    for (int64_t i = threadIdx.x; i < dim; i += 16) sum = __fmaf_rn(row[i], row[i], sum);
    lanes[threadIdx.x] = sum;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    const float mean = __fmul_rn(reduce16(lanes), __fdiv_rn(1.0f, static_cast<float>(dim)));
    scale = __fdiv_rn(1.0f, __fsqrt_rn(__fadd_rn(mean, eps)));
  }
  __syncthreads();
  return scale;
}

__global__ void rms_norm_kernel(const float* x, const float* weight, float eps, int64_t dim, float* y) {
  const float* row = x + blockIdx.x * dim;
  float* out = y + blockIdx.x * dim;
  const float scale = inverse_rms(row, eps, dim);
  for (int64_t i = threadIdx.x; i < dim; i += blockDim.x) out[i] = __fmul_rn(__fmul_rn(row[i], scale), weight[i]);
}

__global__ void layer_norm_kernel(const float* x, const float* weight, const float* bias, float eps, int64_t dim,
                                  float* y) {
  __shared__ float lanes[16];
  __shared__ float mean, scale;
  const float* row = x + blockIdx.x * dim;
  float* out = y + blockIdx.x * dim;
  const float inverse = __fdiv_rn(1.0f, static_cast<float>(dim));
  if (threadIdx.x < 16) {
    float sum = 0.0f;
    for (int64_t i = threadIdx.x; i < dim; i += 16) sum = __fadd_rn(sum, row[i]);
    lanes[threadIdx.x] = sum;
  }
  __syncthreads();
  if (threadIdx.x == 0) mean = __fmul_rn(reduce16(lanes), inverse);
  __syncthreads();
  if (threadIdx.x < 16) {
    float sum = 0.0f;
    for (int64_t i = threadIdx.x; i < dim; i += 16) {
      const float d = __fadd_rn(row[i], -mean);
      sum = __fmaf_rn(d, d, sum);
    }
    lanes[threadIdx.x] = sum;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    scale = __fdiv_rn(1.0f, __fsqrt_rn(__fadd_rn(__fmul_rn(reduce16(lanes), inverse), eps)));
  }
  __syncthreads();
  for (int64_t i = threadIdx.x; i < dim; i += blockDim.x) {
    const float d = __fmul_rn(__fadd_rn(row[i], -mean), scale);
    out[i] = bias != nullptr ? __fmaf_rn(d, weight[i], bias[i]) : __fmul_rn(d, weight[i]);
  }
}

struct QuantizeView {
  const float *x, *norm;
  float eps;
  int64_t rows, cols;
  float* h;
  int8_t* q;
  float* d;
  int32_t* sum16;
  float *ds16, *ds32;
};

// A row a block, 32 columns a thread at a time.
__global__ void quantize_kernel(QuantizeView a) {
  const int64_t t = blockIdx.x;
  const float scale = a.norm != nullptr ? inverse_rms(a.x + t * a.cols, a.eps, a.cols) : 1.0f;
  for (int64_t block = threadIdx.x; block < a.cols / 32; block += blockDim.x) {
    const int64_t at = t * a.cols + block * 32;
    float v[32];
    float amax = 0.0f;
    for (int k = 0; k < 32; ++k) {
      v[k] = a.x[at + k];
      if (a.norm != nullptr) v[k] = __fmul_rn(__fmul_rn(v[k], scale), a.norm[block * 32 + k]);
      if (a.h != nullptr) a.h[at + k] = v[k];
      amax = fmaxf(amax, fabsf(v[k]));
    }
    const float d = __fdiv_rn(amax, 127.0f);
    const float inverse = amax > 0.0f ? __fdiv_rn(127.0f, amax) : 0.0f;
    int sums[2] = {0, 0};
    for (int k = 0; k < 32; ++k) {
      const float r = rintf(__fmul_rn(v[k], inverse));
      const int code = r != r ? 0 : static_cast<int>(fminf(fmaxf(r, -127.0f), 127.0f));
      a.q[at + k] = static_cast<int8_t>(code);
      sums[k / 16] += code;
    }
    a.d[block * a.rows + t] = d;
    for (int h = 0; h < 2; ++h) {
      a.sum16[(block * 2 + h) * a.rows + t] = sums[h];
      a.ds16[(block * 2 + h) * a.rows + t] = __fmul_rn(d, static_cast<float>(sums[h]));
    }
    a.ds32[block * a.rows + t] = __fmul_rn(d, static_cast<float>(sums[0] + sums[1]));
  }
}

__global__ void rope_kernel(float* x, int64_t pairs, int heads, int head_dim, int half, bool interleaved,
                            const float* cos, const float* sin) {
  const int64_t i = blockIdx.x * static_cast<int64_t>(kThreads) + threadIdx.x;
  if (i >= pairs) return;
  const int64_t pair = i % half;
  const int64_t head = i / half;  // row * heads + head
  float* h = x + head * head_dim;
  float* pa = interleaved ? h + 2 * pair : h + pair;
  float* pb = interleaved ? pa + 1 : pa + half;
  const float c = cos[head / heads * half + pair];
  const float s = sin[head / heads * half + pair];
  const float a = *pa;
  const float b = *pb;
  *pa = __fmaf_rn(a, c, -__fmul_rn(b, s));
  *pb = __fmaf_rn(a, s, __fmul_rn(b, c));
}

__global__ void glu_kernel(Activation a, const float* gate, const float* up, int64_t n, float* y) {
  const int64_t i = blockIdx.x * static_cast<int64_t>(kThreads) + threadIdx.x;
  if (i < n) y[i] = __fmul_rn(activate(a, gate[i]), up[i]);
}

__global__ void activate_kernel(Activation a, int64_t n, float* x) {
  const int64_t i = blockIdx.x * static_cast<int64_t>(kThreads) + threadIdx.x;
  if (i < n) x[i] = activate(a, x[i]);
}

__global__ void add_rows_kernel(const float* x, const int32_t* index, const float* scale, int64_t n, int64_t dim,
                                float* y) {
  const int64_t i = blockIdx.x * static_cast<int64_t>(kThreads) + threadIdx.x;
  if (i >= n) return;
  float* out = y + index[i / dim] * dim + i % dim;
  *out = __fmaf_rn(scale[i / dim], x[i], *out);
}

__global__ void add_kernel(const float* x, int64_t n, float* y) {
  const int64_t i = blockIdx.x * static_cast<int64_t>(kThreads) + threadIdx.x;
  if (i < n) y[i] = __fadd_rn(y[i], x[i]);
}

__global__ void soft_cap_kernel(float cap, int64_t n, float* x) {
  const int64_t i = blockIdx.x * static_cast<int64_t>(kThreads) + threadIdx.x;
  if (i < n) x[i] = cap_spec(x[i], cap);
}

__global__ void gather_kernel(const float* x, const int32_t* index, int64_t n, int64_t dim, float* out) {
  const int64_t i = blockIdx.x * static_cast<int64_t>(kThreads) + threadIdx.x;
  if (i < n) out[i] = x[index[i / dim] * dim + i % dim];
}

// ---- cache; float types only (CudaDevice::supports_cache_type) ----

struct CacheView {
  DType k_type, v_type;
  int kv_heads, k_dim, v_dim;
  int64_t k_tile, v_tile;  // bytes

  __device__ int64_t page_bytes() const { return kv_heads * (k_tile + v_tile); }
  // Element index of key dimension d of `key` in its K tile, and of value dimension e in its V tile.
  __device__ int64_t k_index(int key, int d) const { return static_cast<int64_t>(d) * kPageKeys + key; }
  __device__ int64_t v_index(int key, int e) const { return static_cast<int64_t>(key) * v_dim + e; }
  __device__ int64_t k_offset(int64_t slot, int head) const {
    return slot / kPageKeys * page_bytes() + head * (k_tile + v_tile);
  }
};

CacheView view_of(const KvLayout& l) {
  return {l.k_type,
          l.v_type,
          l.n_kv_heads,
          l.k_dim,
          l.v_dim,
          static_cast<int64_t>(l.k_tile_bytes()),
          static_cast<int64_t>(l.v_tile_bytes())};
}

__global__ void kv_write_kernel(CacheView c, uint8_t* pool, const int32_t* slots, const float* k, const float* v) {
  const int64_t row = blockIdx.x;
  const int64_t slot = slots[row];
  const int key = static_cast<int>(slot % kPageKeys);
  for (int i = threadIdx.x; i < c.kv_heads * c.k_dim; i += blockDim.x) {
    store_float(pool + c.k_offset(slot, i / c.k_dim), c.k_type, c.k_index(key, i % c.k_dim),
                k[row * c.kv_heads * c.k_dim + i]);
  }
  for (int i = threadIdx.x; i < c.kv_heads * c.v_dim; i += blockDim.x) {
    store_float(pool + c.k_offset(slot, i / c.v_dim) + c.k_tile, c.v_type, c.v_index(key, i % c.v_dim),
                v[row * c.kv_heads * c.v_dim + i]);
  }
}

// One block of threads moves all keys in order: a destination may be a later key's source.
__global__ void kv_move_kernel(CacheView c, uint8_t* pool, const int32_t* from, const int32_t* to, int64_t n) {
  for (int64_t j = 0; j < n; ++j) {
    const int64_t a = from[j];
    const int64_t b = to[j];
    for (int i = threadIdx.x; i < c.kv_heads * c.k_dim; i += blockDim.x) {
      const float value =
          load_float(pool + c.k_offset(a, i / c.k_dim), c.k_type, c.k_index(a % kPageKeys, i % c.k_dim));
      store_float(pool + c.k_offset(b, i / c.k_dim), c.k_type, c.k_index(b % kPageKeys, i % c.k_dim), value);
    }
    for (int i = threadIdx.x; i < c.kv_heads * c.v_dim; i += blockDim.x) {
      const float value =
          load_float(pool + c.k_offset(a, i / c.v_dim) + c.k_tile, c.v_type, c.v_index(a % kPageKeys, i % c.v_dim));
      store_float(pool + c.k_offset(b, i / c.v_dim) + c.k_tile, c.v_type, c.v_index(b % kPageKeys, i % c.v_dim), value);
    }
    __syncthreads();
  }
}

struct AttentionView {
  CacheView cache;
  const uint8_t* pool;
  const float* q;
  float* out;
  int heads;
  float scale, soft_cap;
  int window, sinks;
  const AttnRow* rows;
  const int32_t* pages;
  const int32_t* paths;
};

__device__ bool sees(const AttentionView& a, const AttnRow& r, int j) {
  if (j < r.key_begin || j >= r.n_keys) return false;
  return a.window == 0 || r.ordinal - j < a.window || j - r.key_begin < a.sinks;
}

// The partial results of (row, head) for a block: [seen, m, l, unused, o...].
__host__ __device__ int64_t partial_floats(int v_dim) { return v_dim + 4; }

// One thread block per tile of rows, kv head and range of blocks. Neighbouring rows whose block is the same page are a
// run: its keys and values are loaded to shared memory once for all of their queries. Blocks are merged as they come,
// or, with `partials` [rows, heads, max_blocks], kept for merge_kernel.
struct TileView {
  AttentionView a;
  int64_t rows;
  int tile_rows, blocks_per_range, max_blocks;
  float* partials;

  __host__ __device__ int heads_per_kv() const { return a.heads / a.cache.kv_heads; }
  __host__ __device__ int queries() const { return tile_rows * heads_per_kv(); }
  // Shared memory: keys or values (not at the same time), scores, and per query: mask, 4 floats.
  __host__ __device__ int wide_floats() const {
    return kPageKeys * (a.cache.k_dim > a.cache.v_dim ? a.cache.k_dim : a.cache.v_dim);
  }
  size_t shared_bytes() const {
    return sizeof(float) * (static_cast<size_t>(wide_floats()) + static_cast<size_t>(queries()) * (kPageKeys + 2 + 4));
  }
};

constexpr int kTileThreads = 256, kQueriesOfThread = 4;

__global__ void tile_kernel(TileView t) {
  extern __shared__ float shared[];
  const AttentionView& a = t.a;
  const CacheView& c = a.cache;
  const int per_row = t.heads_per_kv(), max_queries = t.queries();
  float* wide = shared;
  float* scores = wide + t.wide_floats();                                                 // [queries][64]
  auto* masks = reinterpret_cast<unsigned long long*>(scores + max_queries * kPageKeys);  // [queries]
  float* m = reinterpret_cast<float*>(masks + max_queries);                               // of the merged blocks
  float* l = m + max_queries;
  float* keep = l + max_queries;     // what the merged blocks and this block weigh in their sum
  float* take = keep + max_queries;  // both negative: the first block of the query
  const int kv_head = blockIdx.y;
  const int64_t row_begin = static_cast<int64_t>(blockIdx.x) * t.tile_rows;
  const int64_t row_end = row_begin + t.tile_rows < t.rows ? row_begin + t.tile_rows : t.rows;
  const auto output_of = [&](int64_t row, int query) {  // query: of this row's group of heads
    return row * a.heads + kv_head * per_row + query;
  };
  const auto partial_of = [&](int64_t output, int block) {
    return t.partials + (output * t.max_blocks + block) * partial_floats(c.v_dim);
  };
  const int first_block = blockIdx.z * t.blocks_per_range;
  const int last_block =
      first_block + t.blocks_per_range < t.max_blocks ? first_block + t.blocks_per_range : t.max_blocks;
  const int all = static_cast<int>(row_end - row_begin) * per_row;
  for (int i = threadIdx.x; i < all; i += blockDim.x) m[i] = l[i] = -1.0f;  // a sum is never negative: nothing yet
  if (t.partials != nullptr) {
    for (int i = threadIdx.x; i < all * (last_block - first_block); i += blockDim.x) {
      const int query = i % all;
      *partial_of(output_of(row_begin + query / per_row, query % per_row), first_block + i / all) = 0.0f;
    }
  }
  __syncthreads();

  for (int block = first_block; block < last_block; ++block) {
    const int begin = block * kPageKeys;
    const auto permuted = [&](const AttnRow& r) {
      return (r.n_keys < begin + kPageKeys ? r.n_keys : begin + kPageKeys) > r.identity;
    };
    for (int64_t lo = row_begin; lo < row_end;) {
      int64_t hi = lo + 1;
      const AttnRow first_row = a.rows[lo];
      const bool scattered = permuted(first_row);
      while (!scattered && hi < row_end) {
        const AttnRow next = a.rows[hi];
        if (permuted(next) || (next.page_table != a.rows[hi - 1].page_table && next.shared <= block)) break;
        ++hi;
      }
      const int n = static_cast<int>(hi - lo) * per_row;
      const int base = static_cast<int>(lo - row_begin) * per_row;  // of the run's first query in the tile
      // What each query sees.
      bool any = false;
      int seeing = -1;  // a row that sees the block: its table has the page
      for (int64_t row = lo; row < hi; ++row) {
        const AttnRow r = a.rows[row];
        bool mine = false;
        for (int j = threadIdx.x % 32; j < kPageKeys; j += 32) mine = mine || sees(a, r, begin + j);
        if (__any_sync(0xffffffffu, mine)) {
          any = true;
          seeing = static_cast<int>(row - lo);
        }
      }
      if (!any) {
        lo = hi;
        continue;
      }
      for (int i = threadIdx.x; i < n; i += blockDim.x) {
        const AttnRow r = a.rows[lo + i / per_row];
        unsigned long long mask = 0;
        for (int j = 0; j < kPageKeys; ++j) mask |= static_cast<unsigned long long>(sees(a, r, begin + j)) << j;
        masks[i] = mask;
      }
      // The slot of key j of this block; runs of scattered keys are one row.
      const AttnRow source = a.rows[lo + seeing];
      const auto slot_of = [&](int j) -> int64_t {
        if (scattered && !sees(a, source, begin + j)) return -1;
        const int ordinal = begin + j;
        const int s =
            ordinal < source.identity || !scattered ? ordinal : a.paths[source.path + ordinal - source.identity];
        return static_cast<int64_t>(a.pages[source.page_table + s / kPageKeys]) * kPageKeys + s % kPageKeys;
      };
      const uint8_t* page = scattered ? nullptr : a.pool + c.k_offset(slot_of(0), kv_head);
      for (int i = threadIdx.x; i < c.k_dim * kPageKeys; i += blockDim.x) {
        if (scattered) {
          const int64_t s = slot_of(i % kPageKeys);
          if (s < 0) continue;
          wide[i] = load_float(a.pool + c.k_offset(s, kv_head), c.k_type, c.k_index(s % kPageKeys, i / kPageKeys));
        } else {
          wide[i] = load_float(page, c.k_type, i);
        }
      }
      __syncthreads();

      // Scores: a thread takes a key and four queries at a time.
      const int key = threadIdx.x % kPageKeys;
      for (int q0 = threadIdx.x / kPageKeys * kQueriesOfThread; q0 < n;
           q0 += kTileThreads / kPageKeys * kQueriesOfThread) {
        const float* q[kQueriesOfThread];
        float dot[kQueriesOfThread];
        for (int x = 0; x < kQueriesOfThread; ++x) {
          const int i = q0 + x < n ? q0 + x : n - 1;
          q[x] = a.q + output_of(lo + i / per_row, i % per_row) * c.k_dim;
          dot[x] = 0.0f;
        }
        for (int d = 0; d < c.k_dim; ++d) {
          const float k = wide[d * kPageKeys + key];
          for (int x = 0; x < kQueriesOfThread; ++x) dot[x] = __fmaf_rn(q[x][d], k, dot[x]);
        }
        for (int x = 0; x < kQueriesOfThread && q0 + x < n; ++x) {
          const float score = __fmul_rn(a.scale, dot[x]);
          scores[(q0 + x) * kPageKeys + key] = a.soft_cap > 0.0f ? cap_spec(score, a.soft_cap) : score;
        }
      }
      __syncthreads();

      // Softmax: 16 threads a query, each a lane of table.h. All threads stay in the loop, for the shuffles.
      const int lane = threadIdx.x % 16;
      for (int i0 = 0; i0 < n; i0 += kTileThreads / 16) {
        const int i = i0 + threadIdx.x / 16;
        const bool live = i < n && masks[i] != 0;
        float top = -INFINITY;
        for (int j = lane; live && j < kPageKeys; j += 16) {
          if (masks[i] >> j & 1) top = fmaxf(top, scores[i * kPageKeys + j]);
        }
        for (int half = 8; half > 0; half /= 2) top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, half, 16));
        float sum = 0.0f;
        for (int j = lane; live && j < kPageKeys; j += 16) {
          float* p = &scores[i * kPageKeys + j];
          *p = (masks[i] >> j & 1) ? exp_spec(__fadd_rn(*p, -top)) : 0.0f;
          sum = __fadd_rn(sum, *p);
        }
        for (int half = 8; half > 0; half /= 2) {
          sum = __fadd_rn(sum, __shfl_down_sync(0xffffffffu, sum, half, 16));
        }
        if (live && lane == 0) {
          const int at = base + i;
          if (t.partials != nullptr) {
            float* p = partial_of(output_of(lo + i / per_row, i % per_row), block);
            p[0] = 1.0f;
            p[1] = top;
            p[2] = sum;
          } else if (l[at] < 0.0f) {
            keep[at] = take[at] = -1.0f;
            m[at] = top;
            l[at] = sum;
          } else {
            const float m_new = fmaxf(m[at], top);
            keep[at] = exp_spec(__fadd_rn(m[at], -m_new));
            take[at] = exp_spec(__fadd_rn(top, -m_new));
            l[at] = __fmaf_rn(l[at], keep[at], __fmul_rn(sum, take[at]));
            m[at] = m_new;
          }
        }
      }
      // Values take the keys' place.
      for (int i = threadIdx.x; i < c.v_dim * kPageKeys; i += blockDim.x) {
        if (scattered) {
          const int64_t s = slot_of(i / c.v_dim);
          if (s < 0) continue;
          wide[i] =
              load_float(a.pool + c.k_offset(s, kv_head) + c.k_tile, c.v_type, c.v_index(s % kPageKeys, i % c.v_dim));
        } else {
          wide[i] = load_float(page + c.k_tile, c.v_type, i);
        }
      }
      __syncthreads();

      const int parts = (n + kQueriesOfThread - 1) / kQueriesOfThread;
      for (int item = threadIdx.x; item < parts * c.v_dim; item += blockDim.x) {
        const int e = item % c.v_dim, q0 = item / c.v_dim * kQueriesOfThread;
        float sum[kQueriesOfThread] = {};
        unsigned long long mask[kQueriesOfThread], common = ~0ULL;
        for (int x = 0; x < kQueriesOfThread; ++x) {
          mask[x] = q0 + x < n ? masks[q0 + x] : 0;
          if (q0 + x < n) common &= mask[x];
        }
        const float* p[kQueriesOfThread];
        for (int x = 0; x < kQueriesOfThread; ++x) p[x] = scores + (q0 + x < n ? q0 + x : q0) * kPageKeys;
        if (common == ~0ULL) {
          for (int j = 0; j < kPageKeys; ++j) {
            const float v = wide[j * c.v_dim + e];
            for (int x = 0; x < kQueriesOfThread; ++x) sum[x] = __fmaf_rn(p[x][j], v, sum[x]);
          }
        } else {
          for (int j = 0; j < kPageKeys; ++j) {
            for (int x = 0; x < kQueriesOfThread; ++x) {
              if (mask[x] >> j & 1) sum[x] = __fmaf_rn(p[x][j], wide[j * c.v_dim + e], sum[x]);
            }
          }
        }
        for (int x = 0; x < kQueriesOfThread; ++x) {
          if (mask[x] == 0) continue;
          const int i = q0 + x, at = base + i;
          const int64_t output = output_of(lo + i / per_row, i % per_row);
          if (t.partials != nullptr) {
            partial_of(output, block)[4 + e] = sum[x];
          } else {
            float* o = a.out + output * c.v_dim + e;
            *o = keep[at] < 0.0f ? sum[x] : __fmaf_rn(*o, keep[at], __fmul_rn(sum[x], take[at]));
          }
        }
      }
      __syncthreads();
      lo = hi;
    }
  }
  if (t.partials != nullptr) return;
  for (int item = threadIdx.x; item < all * c.v_dim; item += blockDim.x) {
    const int i = item / c.v_dim;
    float* o = a.out + output_of(row_begin + i / per_row, i % per_row) * c.v_dim + item % c.v_dim;
    *o = l[i] < 0.0f ? 0.0f : __fdiv_rn(*o, l[i]);
  }
}

// One thread block per (row, head): its partials in block order.
__global__ void merge_kernel(TileView t) {
  const CacheView& c = t.a.cache;
  const int64_t output = static_cast<int64_t>(blockIdx.x) * t.a.heads + blockIdx.y;
  for (int e = threadIdx.x; e < c.v_dim; e += blockDim.x) {
    float m = 0.0f, l = 0.0f, o = 0.0f;
    bool any = false;
    for (int block = 0; block < t.max_blocks; ++block) {
      const float* p = t.partials + (output * t.max_blocks + block) * partial_floats(c.v_dim);
      if (p[0] == 0.0f) continue;
      if (!any) {
        m = p[1];
        l = p[2];
        o = p[4 + e];
        any = true;
        continue;
      }
      const float m_new = fmaxf(m, p[1]);
      const float keep = exp_spec(__fadd_rn(m, -m_new)), take = exp_spec(__fadd_rn(p[1], -m_new));
      l = __fmaf_rn(l, keep, __fmul_rn(p[2], take));
      o = __fmaf_rn(o, keep, __fmul_rn(p[4 + e], take));
      m = m_new;
    }
    t.a.out[output * c.v_dim + e] = any ? __fdiv_rn(o, l) : 0.0f;
  }
}

// For heads too large for a tile's shared memory. One thread block per (row, head); 64 threads hold a block's keys,
// then all threads hold the value dimensions.
__global__ void attention_kernel(AttentionView a) {
  __shared__ float p[kPageKeys];
  __shared__ int64_t slot[kPageKeys];
  __shared__ float lanes[16];
  __shared__ float m_b, l_b;
  extern __shared__ float o[];  // [v_dim]
  const CacheView& c = a.cache;
  const int64_t row = blockIdx.x;
  const int head = blockIdx.y;
  const int kv_head = head / (a.heads / c.kv_heads);
  const AttnRow r = a.rows[row];
  const float* q = a.q + (row * a.heads + head) * c.k_dim;
  float m = 0.0f;
  float l = 0.0f;
  bool first = true;
  for (int e = threadIdx.x; e < c.v_dim; e += blockDim.x) o[e] = 0.0f;
  for (int begin = r.key_begin / kPageKeys * kPageKeys; begin < r.n_keys; begin += kPageKeys) {
    if (threadIdx.x < kPageKeys) {
      const int j = begin + threadIdx.x;
      bool visible = j >= r.key_begin && j < r.n_keys;
      if (visible && a.window > 0) visible = r.ordinal - j < a.window || j - r.key_begin < a.sinks;
      slot[threadIdx.x] = -1;
      if (visible) {
        const int s = j < r.identity ? j : a.paths[r.path + j - r.identity];
        slot[threadIdx.x] = static_cast<int64_t>(a.pages[r.page_table + s / kPageKeys]) * kPageKeys + s % kPageKeys;
        const uint8_t* tile = a.pool + c.k_offset(slot[threadIdx.x], kv_head);
        float dot = 0.0f;
        for (int d = 0; d < c.k_dim; ++d)
          dot = __fmaf_rn(q[d], load_float(tile, c.k_type, c.k_index(s % kPageKeys, d)), dot);
        const float score = __fmul_rn(a.scale, dot);
        p[threadIdx.x] = a.soft_cap > 0.0f ? cap_spec(score, a.soft_cap) : score;
      }
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      m_b = -INFINITY;
      for (int j = 0; j < kPageKeys; ++j) {
        if (slot[j] >= 0) m_b = fmaxf(m_b, p[j]);
      }
    }
    __syncthreads();
    bool any = false;
    for (int j = 0; j < kPageKeys; ++j) any = any || slot[j] >= 0;
    if (!any) {
      __syncthreads();
      continue;
    }
    if (threadIdx.x < kPageKeys)
      p[threadIdx.x] = slot[threadIdx.x] >= 0 ? exp_spec(__fadd_rn(p[threadIdx.x], -m_b)) : 0.0f;
    __syncthreads();
    if (threadIdx.x < 16) {
      float sum = 0.0f;
      for (int j = threadIdx.x; j < kPageKeys; j += 16) sum = __fadd_rn(sum, p[j]);
      lanes[threadIdx.x] = sum;
    }
    __syncthreads();
    if (threadIdx.x == 0) l_b = reduce16(lanes);
    __syncthreads();
    const float m_new = first ? m_b : fmaxf(m, m_b);
    const float keep = first ? 0.0f : exp_spec(__fadd_rn(m, -m_new));
    const float take = first ? 1.0f : exp_spec(__fadd_rn(m_b, -m_new));
    for (int e = threadIdx.x; e < c.v_dim; e += blockDim.x) {
      float sum = 0.0f;
      for (int j = 0; j < kPageKeys; ++j) {
        if (slot[j] < 0) continue;
        const uint8_t* tile = a.pool + c.k_offset(slot[j], kv_head) + c.k_tile;
        sum = __fmaf_rn(p[j], load_float(tile, c.v_type, c.v_index(static_cast<int>(slot[j] % kPageKeys), e)), sum);
      }
      o[e] = first ? sum : __fmaf_rn(o[e], keep, __fmul_rn(sum, take));
    }
    l = first ? l_b : __fmaf_rn(l, keep, __fmul_rn(l_b, take));
    m = m_new;
    first = false;
    __syncthreads();
  }
  float* out = a.out + (row * a.heads + head) * c.v_dim;
  for (int e = threadIdx.x; e < c.v_dim; e += blockDim.x) out[e] = first ? 0.0f : __fdiv_rn(o[e], l);
}

// ---- the table ----

void embed(Queue& queue, const Weight& w, DevPtr<const int32_t> tokens, int64_t rows, float scale, DevPtr<float> out) {
  embed_kernel<<<blocks_for(rows * w.cols), kThreads, 0, stream_of(queue)>>>(w.data.raw(), w.layout, w.cols,
                                                                             tokens.raw(), rows, scale, out.raw());
}

void rms_norm(Queue& queue, DevPtr<const float> x, DevPtr<const float> weight, float eps, int64_t rows, int64_t dim,
              DevPtr<float> y) {
  rms_norm_kernel<<<static_cast<unsigned>(rows), 128, 0, stream_of(queue)>>>(x.raw(), weight.raw(), eps, dim, y.raw());
}

void layer_norm(Queue& queue, const LayerNormArgs& a) {
  layer_norm_kernel<<<static_cast<unsigned>(a.rows), 128, 0, stream_of(queue)>>>(a.x.raw(), a.weight.raw(),
                                                                                 a.bias.raw(), a.eps, a.dim, a.y.raw());
}

void quantize(Queue& queue, const QuantizeArgs& a) {
  const QuantizedRows& o = a.out;
  const QuantizeView view{a.x.raw(), a.norm.raw(), a.eps,         a.rows,       a.cols,      a.h.raw(),
                          o.q.raw(), o.d.raw(),    o.sum16.raw(), o.ds16.raw(), o.ds32.raw()};
  quantize_kernel<<<static_cast<unsigned>(a.rows), 128, 0, stream_of(queue)>>>(view);
}

void matmul(Queue& queue, std::span<const MatmulArgs> args) {
  for (const MatmulArgs& m : args) {
    const dim3 grid(blocks_for(m.w.rows), static_cast<unsigned>(m.rows));
    matmul_kernel<<<grid, kThreads, 0, stream_of(queue)>>>(m.w.data.raw(), m.w.layout, m.w.rows, m.w.cols, m.x.raw(),
                                                           m.xq.q.raw(), m.xq.d.raw(), m.xq.ds16.raw(), m.xq.ds32.raw(),
                                                           m.bias.raw(), m.accumulate, m.y.raw(), m.ldy);
  }
}

void rope(Queue& queue, const RopeArgs& a) {
  const int half = a.rot_dim / 2;
  const int64_t pairs = a.rows * a.heads * half;
  rope_kernel<<<blocks_for(pairs), kThreads, 0, stream_of(queue)>>>(a.x.raw(), pairs, a.heads, a.head_dim, half,
                                                                    a.interleaved, a.cos.raw(), a.sin.raw());
}

void kv_write(Queue& queue, const KvWriteArgs& a) {
  kv_write_kernel<<<static_cast<unsigned>(a.rows), 128, 0, stream_of(queue)>>>(view_of(a.layout), a.pool.raw(),
                                                                               a.slots.raw(), a.k.raw(), a.v.raw());
}

void kv_move(Queue& queue, const KvMoveArgs& a) {
  kv_move_kernel<<<1, kThreads, 0, stream_of(queue)>>>(view_of(a.layout), a.pool.raw(), a.from.raw(), a.to.raw(), a.n);
}

void attention(Queue& queue, const AttentionArgs& a) {
  int64_t rows = 0;
  for (const AttnGroup& g : a.groups) rows = g.row_end > rows ? g.row_end : rows;
  const AttentionView view{view_of(a.layout), a.pool.raw(), a.q.raw(), a.out.raw(),  a.heads,       a.scale,
                           a.soft_cap,        a.window,     a.sinks,   a.rows.raw(), a.pages.raw(), a.paths.raw()};
  const dim3 grid(static_cast<unsigned>(rows), static_cast<unsigned>(a.heads));
  auto& cuda = static_cast<CudaQueue&>(queue);
  int64_t largest = 1;
  int max_keys = 1;
  for (const AttnGroup& g : a.groups) {
    largest = g.row_end - g.row_begin > largest ? g.row_end - g.row_begin : largest;
    max_keys = g.max_keys > max_keys ? g.max_keys : max_keys;
  }
  // Tiles of about 48 queries where that many rows may share, and at least two thread blocks for each multiprocessor,
  // if need be by ranges of keys.
  constexpr int64_t kTileQueries = 48, kPartialFloats = int64_t{1} << 26;
  TileView tile{view, rows, 1, 0, (max_keys + kPageKeys - 1) / kPageKeys, nullptr};
  const int64_t fitting = kTileQueries / tile.heads_per_kv();
  tile.tile_rows = static_cast<int>(fitting < 1 ? 1 : fitting < largest ? fitting : largest);
  if (tile.shared_bytes() <= static_cast<size_t>(cuda.max_shared_bytes)) {
    const int64_t tiles = (rows + tile.tile_rows - 1) / tile.tile_rows;
    const int64_t blocks = tiles * a.layout.n_kv_heads, wanted = int64_t{cuda.processors} * 2;
    int64_t ranges = blocks < wanted ? (wanted + blocks - 1) / blocks : 1;
    if (ranges > tile.max_blocks) ranges = tile.max_blocks;
    const int64_t floats = rows * a.heads * tile.max_blocks * partial_floats(a.layout.v_dim);
    if (ranges > 1 && floats <= kPartialFloats) tile.partials = cuda.scratch(static_cast<size_t>(floats));
    if (tile.partials == nullptr) ranges = 1;
    tile.blocks_per_range = static_cast<int>((tile.max_blocks + ranges - 1) / ranges);
    ranges = (tile.max_blocks + tile.blocks_per_range - 1) / tile.blocks_per_range;
    const dim3 tile_grid(static_cast<unsigned>(tiles), static_cast<unsigned>(a.layout.n_kv_heads),
                         static_cast<unsigned>(ranges));
    tile_kernel<<<tile_grid, kTileThreads, tile.shared_bytes(), stream_of(queue)>>>(tile);
    if (tile.partials != nullptr) merge_kernel<<<grid, 64, 0, stream_of(queue)>>>(tile);
    return;
  }
  attention_kernel<<<grid, 128, static_cast<size_t>(a.layout.v_dim) * sizeof(float), stream_of(queue)>>>(view);
}

void glu(Queue& queue, Activation activation, DevPtr<const float> gate, DevPtr<const float> up, int64_t n,
         DevPtr<float> y) {
  glu_kernel<<<blocks_for(n), kThreads, 0, stream_of(queue)>>>(activation, gate.raw(), up.raw(), n, y.raw());
}

void matmul_gated(Queue& queue, const GatedArgs& a) {
  const MatmulArgs products[] = {a.gate, a.up};
  matmul(queue, products);
  const DevPtr<float> h = a.h ? a.h : a.gate.y;
  glu(queue, a.activation, a.gate.y, a.up.y, a.gate.rows * a.gate.w.rows, h);
  if (a.out.q) quantize(queue, {.x = h, .rows = a.gate.rows, .cols = a.gate.w.rows, .out = a.out});
}

void add(Queue& queue, DevPtr<const float> x, int64_t n, DevPtr<float> y) {
  add_kernel<<<blocks_for(n), kThreads, 0, stream_of(queue)>>>(x.raw(), n, y.raw());
}

void soft_cap(Queue& queue, float cap, int64_t n, DevPtr<float> x) {
  soft_cap_kernel<<<blocks_for(n), kThreads, 0, stream_of(queue)>>>(cap, n, x.raw());
}

void gather_rows(Queue& queue, DevPtr<const float> x, DevPtr<const int32_t> index, int64_t rows, int64_t dim,
                 DevPtr<float> out) {
  gather_kernel<<<blocks_for(rows * dim), kThreads, 0, stream_of(queue)>>>(x.raw(), index.raw(), rows * dim, dim,
                                                                           out.raw());
}

void activate(Queue& queue, Activation activation, int64_t n, DevPtr<float> x) {
  activate_kernel<<<blocks_for(n), kThreads, 0, stream_of(queue)>>>(activation, n, x.raw());
}

void add_rows(Queue& queue, const AddRowsArgs& a) {
  add_rows_kernel<<<blocks_for(a.n * a.dim), kThreads, 0, stream_of(queue)>>>(a.x.raw(), a.index.raw(), a.scale.raw(),
                                                                              a.n * a.dim, a.dim, a.y.raw());
}

constexpr KernelTable kCudaTable = {
    .name = "cuda",
    .requirements = "an NVIDIA GPU of compute capability 9.0",
    .embed = embed,
    .rms_norm = rms_norm,
    .layer_norm = layer_norm,
    .quantize = quantize,
    .matmul = matmul,
    .matmul_gated = matmul_gated,
    .rope = rope,
    .kv_write = kv_write,
    .kv_move = kv_move,
    .attention = attention,
    .glu = glu,
    .activate = activate,
    .add = add,
    .soft_cap = soft_cap,
    .gather_rows = gather_rows,
    .add_rows = add_rows,
};

// nvcc cannot evaluate fmt's compile-time format strings, so messages are plain strings here.
Status cuda_status(cudaError_t error) {
  return Status::make(Code::kInternal, std::string("cuda: ") + cudaGetErrorString(error));
}

class CudaDevice final : public Device {
 public:
  CudaDevice() : Device(&kCudaTable) {}
  ~CudaDevice() override {
    queue_.release();
    if (queue_.stream != nullptr) cudaStreamDestroy(queue_.stream);
  }
  Status open() {
    if (const cudaError_t error = cudaStreamCreate(&queue_.stream); error != cudaSuccess) {
      return cuda_status(error);
    }
    int device = 0;
    cudaGetDevice(&device);
    cudaDeviceGetAttribute(&queue_.processors, cudaDevAttrMultiProcessorCount, device);
    cudaDeviceGetAttribute(&queue_.max_shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
    const cudaError_t error =
        cudaFuncSetAttribute(tile_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, queue_.max_shared_bytes);
    if (error != cudaSuccess) return cuda_status(error);
    return {};
  }

  std::string_view kind() const override { return "cuda"; }
  Queue& queue() override { return queue_; }
  bool supports_cache_type(DType type) const override { return is_float(type); }
  void copy_in(DevPtr<void> dst, const void* src, size_t bytes) override {
    // Ordered after the kernels queued before; pageable memory is staged by the driver before the call returns.
    cudaMemcpyAsync(dst.raw(), src, bytes, cudaMemcpyHostToDevice, queue_.stream);
  }
  void copy_out(void* dst, DevPtr<const void> src, size_t bytes) override {
    cudaMemcpyAsync(dst, src.raw(), bytes, cudaMemcpyDeviceToHost, queue_.stream);
    cudaStreamSynchronize(queue_.stream);
  }
  void copy(DevPtr<void> dst, DevPtr<const void> src, size_t bytes) override {
    cudaMemcpyAsync(dst.raw(), src.raw(), bytes, cudaMemcpyDeviceToDevice, queue_.stream);
  }
  Status status() override {
    const cudaError_t error = cudaStreamSynchronize(queue_.stream);
    if (error == cudaSuccess) return {};
    return cuda_status(error);
  }

 protected:
  void* alloc_raw(size_t bytes) override {
    void* address = nullptr;
    if (cudaMalloc(&address, bytes) != cudaSuccess) {
      cudaGetLastError();  // out of memory is reported by nullptr; it must not surface again
      return nullptr;
    }
    cudaMemsetAsync(address, 0, bytes, queue_.stream);
    return address;
  }
  void free_raw(void* address, size_t) override {
    cudaStreamSynchronize(queue_.stream);
    cudaFree(address);
  }

 private:
  CudaQueue queue_;
};

}  // namespace

Result<std::unique_ptr<Device>> make_cuda_device() {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) {
    return Status::make(Code::kNotFound, "no CUDA device on this machine");
  }
  auto device = std::make_unique<CudaDevice>();
  DECANT_TRY_STATUS(device->open());
  return std::unique_ptr<Device>(std::move(device));
}

}  // namespace decant
