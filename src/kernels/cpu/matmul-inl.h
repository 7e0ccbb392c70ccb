// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Matrix products. A tile is `kRows` activation rows by `kGroups` weight groups; the weight's codes are loaded and unpacked once
// a tile, each activation is broadcast. Lanes are outputs and sums are sequential, so a tile's shape changes no bit; the
// integer dots are exact in any order. Included once per target (table_target.h).
//
// Bytes of one row through one weight: Weight::bytes(); operations: 2 * rows * cols.

template <bool kF32>
inline F load_scales(const uint8_t* p) {
  if constexpr (kF32) {
    return load(reinterpret_cast<const float*>(p));
  } else {
    return load_half(reinterpret_cast<const uint16_t*>(p));
  }
}

inline void finish_output(const MatmulArgs& m, int64_t group, int64_t row, F acc) {
  const int64_t lanes = std::min<int64_t>(kGroupRows, m.w.rows - group * kGroupRows);
  float* y = m.y.raw() + row * m.ldy + group * kGroupRows;
  if (m.bias) acc = acc + load_n(m.bias.raw() + group * kGroupRows, lanes);
  if (m.accumulate) acc = load_n(y, lanes) + acc;
  store_n(y, acc, lanes);
}

// What distinguishes the formats at compile time; `zero` stays a number.
template <int kBitsV, int kSubV, bool kMinV, bool kZeroV, bool kF32V>
struct Format {
  static constexpr int kBits = kBitsV, kSub = kSubV;
  static constexpr bool kMin = kMinV, kZero = kZeroV, kF32 = kF32V;
  static constexpr size_t kCodeBytes = kBits * 64;
  static constexpr size_t kScaleBytes = (kBlockCols / kSub) * kGroupRows * (kF32 ? 4 : 2);
  static constexpr size_t kBlockBytes = kCodeBytes + kScaleBytes * (kMin ? 2 : 1);
};

template <typename Fmt, int kRows, int kGroups>
inline void quantized_tile(const MatmulArgs& m, int64_t group, int64_t row) {
  constexpr int kSubs = kBlockCols / Fmt::kSub;
  const int64_t blocks = m.w.cols / kBlockCols;
  const uint8_t* w = m.w.data.raw() + static_cast<size_t>(group * blocks) * Fmt::kBlockBytes;
  const size_t stride = static_cast<size_t>(blocks) * Fmt::kBlockBytes;
  const int8_t* q = m.xq.q.raw() + row * m.w.cols;
  const float* d = m.xq.d.raw() + row * blocks;
  const int32_t* sum16 = m.xq.sum16.raw() + row * blocks * 2;
  const float* ds = Fmt::kSub == 32 ? m.xq.ds32.raw() + row * blocks : m.xq.ds16.raw() + row * blocks * 2;
  const int zero = m.w.layout.zero;

  F acc[kGroups][kRows];
  for (auto& of_group : acc) {
    for (F& a : of_group) a = set1(0.0f);
  }
  for (int64_t b = 0; b < blocks; ++b) {
    for (int g = 0; g < kGroups; ++g) {
      const uint8_t* block = w + static_cast<size_t>(g) * stride + static_cast<size_t>(b) * Fmt::kBlockBytes;
      if constexpr (kRows == 1) __builtin_prefetch(block + 1024);
      C codes[8];
      if constexpr (Fmt::kBits == 8) {
        for (int j = 0; j < 8; ++j) codes[j] = load_codes(block + 64 * j);
      } else {
        for (int j = 0; j < 4; ++j) {
          const C c = load_codes(block + 64 * j);
          codes[j] = low_nibbles(c);
          codes[4 + j] = high_nibbles(c);
        }
      }
      F scale[kSubs];
      for (int s = 0; s < kSubs; ++s) {
        scale[s] = load_scales<Fmt::kF32>(block + Fmt::kCodeBytes + static_cast<size_t>(s) * kGroupRows * (Fmt::kF32 ? 4 : 2));
      }
      for (int r = 0; r < kRows; ++r) {
        const int8_t* qr = q + r * m.w.cols + b * kBlockCols;
        const int32_t* sums = sum16 + (r * blocks + b) * 2;
        const F dr = set1(d[r * blocks + b]);
        if constexpr (kSubs == 1) {
          I even = Fmt::kZero ? set1_i(-zero * (sums[0] + sums[1])) : zero_i();
          for (int j = 0; j < 8; ++j) even = dot4(even, codes[j], qr + 4 * j);
          acc[g][r] = fma(to_float(even), scale[0] * dr, acc[g][r]);
        } else {
          for (int s = 0; s < kSubs; ++s) {
            I dot = Fmt::kZero ? set1_i(-zero * sums[s]) : zero_i();
            for (int j = 0; j < 4; ++j) dot = dot4(dot, codes[4 * s + j], qr + 16 * s + 4 * j);
            acc[g][r] = fma(to_float(dot), scale[s] * dr, acc[g][r]);
          }
        }
      }
      if constexpr (Fmt::kMin) {
        for (int s = 0; s < kSubs; ++s) {
          const F min_s = load_scales<Fmt::kF32>(block + Fmt::kCodeBytes + Fmt::kScaleBytes +
                                                 static_cast<size_t>(s) * kGroupRows * (Fmt::kF32 ? 4 : 2));
          for (int r = 0; r < kRows; ++r) acc[g][r] = fma(min_s, set1(ds[(r * blocks + b) * kSubs + s]), acc[g][r]);
        }
      }
    }
  }
  for (int g = 0; g < kGroups; ++g) {
    for (int r = 0; r < kRows; ++r) finish_output(m, group + g, row + r, acc[g][r]);
  }
}

struct F32Weights {
  using Element = float;
  static F lanes(const float* p) { return load(p); }
};
struct F16Weights {
  using Element = uint16_t;
  static F lanes(const uint16_t* p) { return load_half(p); }
};
struct Bf16Weights {
  using Element = uint16_t;
  static F lanes(const uint16_t* p) { return load_bf16(p); }
};

template <typename Weights, int kRows, int kGroups>
inline void float_tile(const MatmulArgs& m, int64_t group, int64_t row) {
  const int64_t cols = m.w.cols;
  const auto* w = reinterpret_cast<const typename Weights::Element*>(m.w.data.raw()) + group * cols * kGroupRows;
  const float* x = m.x.raw() + row * cols;
  F acc[kGroups][kRows];
  for (auto& of_group : acc) {
    for (F& a : of_group) a = set1(0.0f);
  }
  for (int64_t k = 0; k < cols; ++k) {
    for (int g = 0; g < kGroups; ++g) {
      const F lanes = Weights::lanes(w + (g * cols + k) * kGroupRows);
      for (int r = 0; r < kRows; ++r) acc[g][r] = fma(lanes, set1(x[r * cols + k]), acc[g][r]);
    }
  }
  for (int g = 0; g < kGroups; ++g) {
    for (int r = 0; r < kRows; ++r) finish_output(m, group + g, row + r, acc[g][r]);
  }
}

template <typename Fmt>
struct QuantizedTiles {
  template <int kRows, int kGroups>
  static void run(const MatmulArgs& m, int64_t group, int64_t row) {
    quantized_tile<Fmt, kRows, kGroups>(m, group, row);
  }
};

template <typename Weights>
struct FloatTiles {
  template <int kRows, int kGroups>
  static void run(const MatmulArgs& m, int64_t group, int64_t row) {
    float_tile<Weights, kRows, kGroups>(m, group, row);
  }
};

// Groups [begin, end), all rows.
template <typename Tiles>
inline void run_groups(const MatmulArgs& m, int64_t begin, int64_t end) {
  int64_t row = 0;
  for (; row + 8 <= m.rows; row += 8) {
    for (int64_t g = begin; g < end; ++g) Tiles::template run<8, 1>(m, g, row);
  }
  if (row + 4 <= m.rows) {
    for (int64_t g = begin; g < end; ++g) Tiles::template run<4, 1>(m, g, row);
    row += 4;
  }
  if (row + 2 <= m.rows) {
    int64_t g = begin;
    for (; g + 2 <= end; g += 2) Tiles::template run<2, 2>(m, g, row);
    for (; g < end; ++g) Tiles::template run<2, 1>(m, g, row);
    row += 2;
  }
  if (row < m.rows) {
    int64_t g = begin;
    for (; g + 4 <= end; g += 4) Tiles::template run<1, 4>(m, g, row);
    for (; g < end; ++g) Tiles::template run<1, 1>(m, g, row);
  }
}

inline void run_weight(const MatmulArgs& m, int64_t begin, int64_t end) {
  const WeightLayout& l = m.w.layout;
  if (!l.quantized) {
    switch (l.float_type) {
      case DType::kF16: return run_groups<FloatTiles<F16Weights>>(m, begin, end);
      case DType::kBF16: return run_groups<FloatTiles<Bf16Weights>>(m, begin, end);
      default: return run_groups<FloatTiles<F32Weights>>(m, begin, end);
    }
  }
  if (l.bits == 4) {
    if (l.sub == 16) {
      return l.has_min ? run_groups<QuantizedTiles<Format<4, 16, true, false, true>>>(m, begin, end)
                       : run_groups<QuantizedTiles<Format<4, 16, false, true, true>>>(m, begin, end);
    }
    if (!l.has_min) return run_groups<QuantizedTiles<Format<4, 32, false, true, false>>>(m, begin, end);
    return l.f32_scales ? run_groups<QuantizedTiles<Format<4, 32, true, false, true>>>(m, begin, end)
                        : run_groups<QuantizedTiles<Format<4, 32, true, false, false>>>(m, begin, end);
  }
  if (l.sub == 16) return run_groups<QuantizedTiles<Format<8, 16, false, true, true>>>(m, begin, end);
  if (l.has_min) {
    return l.f32_scales ? run_groups<QuantizedTiles<Format<8, 32, true, false, true>>>(m, begin, end)
                        : run_groups<QuantizedTiles<Format<8, 32, true, false, false>>>(m, begin, end);
  }
  return l.f32_scales ? run_groups<QuantizedTiles<Format<8, 32, false, true, true>>>(m, begin, end)
                      : run_groups<QuantizedTiles<Format<8, 32, false, true, false>>>(m, begin, end);
}

inline void matmul(Queue& queue, std::span<const MatmulArgs> args) {
  // Tasks of about 4 groups (their codes stay in L1 while the row tiles pass), more for single rows of large weights.
  ThreadPool& pool = cpu(queue).pool();
  int64_t groups = 0;
  for (const MatmulArgs& m : args) groups += m.w.groups();
  const int64_t per_task = std::clamp<int64_t>(groups / (int64_t{pool.threads()} * 8) / 4 * 4, 4, args[0].rows >= 8 ? 4 : 64);
  int64_t tasks = 0;
  for (const MatmulArgs& m : args) tasks += (m.w.groups() + per_task - 1) / per_task;
  pool.parallel_for(tasks, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t task = begin; task < end; ++task) {
      int64_t t = task;
      for (const MatmulArgs& m : args) {
        const int64_t n = (m.w.groups() + per_task - 1) / per_task;
        if (t < n) {
          run_weight(m, t * per_task, std::min((t + 1) * per_task, m.w.groups()));
          break;
        }
        t -= n;
      }
    }
  });
}
