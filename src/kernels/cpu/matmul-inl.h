// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Matrix products. A tile is `kRows` activation rows by `kGroups` weight groups; the weight's codes are loaded and
// unpacked once a tile, each activation is broadcast. Lanes are outputs and sums are sequential, so a tile's shape
// changes no bit; the integer dots are exact in any order. Included once per target (table_target.h).
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
template <int kBitsV, int kSubV, bool kMinV, bool kZeroV, bool kF32V, int kMaxCodeV>
struct Format {
  static constexpr int kBits = kBitsV, kSub = kSubV, kMaxCode = kMaxCodeV;
  static constexpr bool kMin = kMinV, kZero = kZeroV, kF32 = kF32V;
  static constexpr size_t kCodeBytes = kBits * 64;
  static constexpr size_t kScaleBytes = (kBlockCols / kSub) * kGroupRows * (kF32 ? 4 : 2);
  static constexpr size_t kBlockBytes = kCodeBytes + kScaleBytes * (kMin ? 2 : 1);
};

// Columns 4j to 4j + 3 of a block.
template <typename Fmt>
inline C codes_of(const uint8_t* block, int j) {
  if constexpr (Fmt::kBits == 8) return Dot<Fmt::kMaxCode>::prepare(load_codes(block + 64 * j));
  const C both = load_codes(block + 64 * (j & 3));
  return j < 4 ? low_nibbles(both) : high_nibbles(both);
}

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
      F scale[kSubs];
      for (int s = 0; s < kSubs; ++s) {
        scale[s] =
            load_scales<Fmt::kF32>(block + Fmt::kCodeBytes + static_cast<size_t>(s) * kGroupRows * (Fmt::kF32 ? 4 : 2));
      }
      for (int part = 0; part < kSubs; ++part) {
        Dot<Fmt::kMaxCode> dots[kRows];
        for (int r = 0; r < kRows; ++r) {
          const int32_t* sums = sum16 + (r * blocks + b) * 2;
          dots[r] = Dot<Fmt::kMaxCode>(!Fmt::kZero ? 0 : -zero * (kSubs == 1 ? sums[0] + sums[1] : sums[part]));
        }
        const auto add_columns = [&](int j) {
          C c0, c1;
          int first, second;  // their columns
          if constexpr (kSubs == 1) {
            c0 = codes_of<Fmt>(block, j), c1 = codes_of<Fmt>(block, j + 4);
            first = 4 * j, second = 16 + 4 * j;
          } else {
            c0 = codes_of<Fmt>(block, 4 * part + j), c1 = codes_of<Fmt>(block, 4 * part + j + 1);
            first = 16 * part + 4 * j, second = first + 4;
          }
          for (int r = 0; r < kRows; ++r) {
            const int8_t* qr = q + r * m.w.cols + b * kBlockCols;
            dots[r].add(c0, c1, qr + first, qr + second);
          }
        };
        if constexpr (kRows <= 2) {
          for (int j = 0; j < 4; j += kSubs) add_columns(j);
        } else {
          // Unrolled, it would need more registers than there are.
#pragma GCC unroll 1
          for (int j = 0; j < 4; j += kSubs) add_columns(j);
        }
        for (int r = 0; r < kRows; ++r) {
          acc[g][r] = fma(to_float(dots[r].sum()), scale[part] * set1(d[r * blocks + b]), acc[g][r]);
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

// Rows of the largest tile: their sums stay in registers.
#if defined(DECANT_AVX2)
inline constexpr int kTileRows = 4;
#else
inline constexpr int kTileRows = 8;
#endif

// Groups [begin, end), all rows.
template <typename Tiles>
inline void run_groups(const MatmulArgs& m, int64_t begin, int64_t end) {
  int64_t row = 0;
  for (; row + kTileRows <= m.rows; row += kTileRows) {
    for (int64_t g = begin; g < end; ++g) Tiles::template run<kTileRows, 1>(m, g, row);
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
      return l.has_min ? run_groups<QuantizedTiles<Format<4, 16, true, false, true, 15>>>(m, begin, end)
                       : run_groups<QuantizedTiles<Format<4, 16, false, true, true, 15>>>(m, begin, end);
    }
    if (!l.has_min) return run_groups<QuantizedTiles<Format<4, 32, false, true, false, 15>>>(m, begin, end);
    return l.f32_scales ? run_groups<QuantizedTiles<Format<4, 32, true, false, true, 15>>>(m, begin, end)
                        : run_groups<QuantizedTiles<Format<4, 32, true, false, false, 15>>>(m, begin, end);
  }
  if (l.sub == 16) return run_groups<QuantizedTiles<Format<8, 16, false, true, true, 63>>>(m, begin, end);
  if (l.has_min) {
    return l.f32_scales ? run_groups<QuantizedTiles<Format<8, 32, true, false, true, 63>>>(m, begin, end)
                        : run_groups<QuantizedTiles<Format<8, 32, true, false, false, 63>>>(m, begin, end);
  }
  if (l.zero != 128) return run_groups<QuantizedTiles<Format<8, 32, false, true, false, 63>>>(m, begin, end);
  return l.f32_scales ? run_groups<QuantizedTiles<Format<8, 32, false, true, true, 255>>>(m, begin, end)
                      : run_groups<QuantizedTiles<Format<8, 32, false, true, false, 255>>>(m, begin, end);
}

inline void matmul(Queue& queue, std::span<const MatmulArgs> args) {
  // Tasks of about 4 groups (their codes stay in L1 while the row tiles pass), more for single rows of large weights.
  ThreadPool& pool = cpu(queue).pool();
  int64_t groups = 0;
  for (const MatmulArgs& m : args) groups += m.w.groups();
  const int64_t per_task =
      std::clamp<int64_t>(groups / (int64_t{pool.threads()} * 8) / 4 * 4, 4, args[0].rows >= 8 ? 4 : 64);
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
