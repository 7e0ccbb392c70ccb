// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Matrix products. A tile is some activation rows by the outputs of a group or of one register; the weight's codes are
// loaded and unpacked once a tile, each activation is broadcast. Lanes are outputs and sums are sequential, so a tile's
// shape changes no bit; the integer dots are exact in any order. Included once per target (target-inl.h).
//
// Bytes of one row through one weight: Weight::bytes(); operations: 2 * rows * cols.

inline void finish_output(const MatmulArgs& m, int64_t output, int64_t row, native::F acc) {
  constexpr int kLanes = native::kLanes;
  const int64_t lanes = std::min<int64_t>(kLanes, m.w.rows - output);
  float* y = m.y.raw() + row * m.ldy + output;
  const float* bias = m.bias ? m.bias.raw() + output : nullptr;
  if (lanes == kLanes) {
    if (bias != nullptr) acc = acc + native::load(bias);
    if (m.accumulate) acc = native::load(y) + acc;
    return native::store(y, acc);
  }
  float values[kLanes];
  native::store(values, acc);
  for (int64_t i = 0; i < lanes; ++i) {
    const float v = bias != nullptr ? values[i] + bias[i] : values[i];
    y[i] = m.accumulate ? y[i] + v : v;
  }
}

// What distinguishes the formats at compile time; `zero` stays a number. kMaxCode bounds the codes, for the target's
// Dot.
template <int kBitsV, int kSubV, bool kMinV, bool kZeroV, ScaleKind kScalesV, int kMaxCodeV,
          CodeTable kTableV = CodeTable::kNone>
struct Format {
  static constexpr int kBits = kBitsV, kSub = kSubV, kMaxCode = kMaxCodeV, kSubs = kBlockCols / kSubV;
  static constexpr bool kMin = kMinV, kZero = kZeroV;
  static constexpr ScaleKind kScales = kScalesV;
  static constexpr CodeTable kTable = kTableV;
  static constexpr WeightLayout kLayout = {
      .quantized = true, .bits = kBits, .sub = kSub, .has_min = kMin, .scales = kScales};
  static constexpr size_t kCodeBytes = kLayout.code_bytes(), kNumberBytes = kLayout.number_bytes();
  static constexpr size_t kBlockBytes = kLayout.block_bytes(), kHeaderBytes = kLayout.header_bytes();
};

// Table entries + 128.
struct CodeTables {
  uint8_t iq4[16], mxfp4[16];
  constexpr CodeTables() : iq4(), mxfp4() {
    for (int i = 0; i < 16; ++i) {
      iq4[i] = static_cast<uint8_t>(kIq4Values[i] + 128);
      mxfp4[i] = static_cast<uint8_t>(kMxfp4Values[i] + 128);
    }
  }
};
inline constexpr CodeTables kCodeTables;

// Columns 4j to 4j + 3 of a block, of the outputs that `codes` starts at.
template <typename Fmt>
inline native::C codes_of(const uint8_t* codes, int j) {
  using Dot = native::Dot<Fmt::kMaxCode>;
  if constexpr (Fmt::kBits == 8) return Dot::prepare(native::load_codes(codes + 64 * j));
  const native::C both = native::load_codes(codes + 64 * (j & 3));
  native::C c = j < 4 ? native::low_nibbles(both) : native::high_nibbles(both);
  if constexpr (Fmt::kBits == 5) c = native::with_bits(c, native::load_codes(codes + 256), 4 - j, 0x10);
  if constexpr (Fmt::kBits == 6) {
    c = native::with_bits(c, native::load_codes(codes + 256 + 64 * (j / 4)), 4 - 2 * (j & 3), 0x30);
  }
  if constexpr (Fmt::kTable == CodeTable::kIq4) c = Dot::prepare(native::look_up(c, kCodeTables.iq4));
  if constexpr (Fmt::kTable == CodeTable::kMxfp4) c = Dot::prepare(native::look_up(c, kCodeTables.mxfp4));
  return c;
}

// Walks over the blocks of a group.
template <typename Fmt>
class Blocks {
 public:
  explicit Blocks(const uint8_t* group) : header_(group), block_(group + Fmt::kHeaderBytes) {}
  Blocks(const Weight& w, int64_t group)
      : Blocks(w.data.raw() + static_cast<size_t>(group) * w.layout.group_bytes(w.cols)) {}

  void next() {
    block_ += Fmt::kBlockBytes;
    if constexpr (Fmt::kHeaderBytes != 0) {
      if (++in_super_ == kSuperBlocks) {
        in_super_ = 0;
        header_ = block_;
        block_ += Fmt::kHeaderBytes;
      }
    }
  }
  const uint8_t* codes(int part) const { return block_ + static_cast<size_t>(part) * 4 * native::kLanes; }
  // Scales of the sub-blocks, then minimums: of the outputs of one register, `ahead` bytes on (of another group).
  native::F number(int i, int part, size_t ahead = 0) const {
    const uint8_t* p = block_ + ahead + Fmt::kCodeBytes +
                       static_cast<size_t>(i * kGroupRows + part * native::kLanes) * Fmt::kNumberBytes;
    if constexpr (Fmt::kScales == ScaleKind::kF32) return native::load(reinterpret_cast<const float*>(p));
    if constexpr (Fmt::kScales == ScaleKind::kF16) return native::load_half(reinterpret_cast<const uint16_t*>(p));
    if constexpr (Fmt::kScales == ScaleKind::kSuper) {
      const auto* d = reinterpret_cast<const uint16_t*>(header_ + ahead) + (i < Fmt::kSubs ? 0 : kGroupRows);
      return native::load_half(d + part * native::kLanes) * native::load_bytes(p);
    }
  }
  void prefetch(size_t ahead) const {
    for (size_t line = 0; line < Fmt::kBlockBytes; line += 64) __builtin_prefetch(block_ + ahead + line);
  }

 private:
  const uint8_t *header_, *block_;
  int in_super_ = 0;
};

// How far ahead of their use codes are asked for: longer than memory takes at the pace of one row.
inline constexpr size_t kPrefetchBytes = 2048;

// `kRows` rows (1 or 2) from `row` on by all outputs of a group.
template <typename Fmt, int kRows>
[[gnu::noinline]] void short_tile(const MatmulArgs& m, int64_t group, int64_t row) {
  constexpr int kParts = kGroupRows / native::kLanes;
  using native::F, native::Quad;
  using Dot = native::Dot<Fmt::kMaxCode>;
  constexpr int kSubs = Fmt::kSubs;
  const int64_t blocks = m.w.cols / kBlockCols;
  Blocks<Fmt> w(m.w, group);
  const int8_t* q = m.xq.q.raw() + row * m.w.cols;
  const float* d = m.xq.d.raw() + row;
  const int32_t* sum16 = m.xq.sum16.raw() + row;
  const float* ds = (kSubs == 1 ? m.xq.ds32 : m.xq.ds16).raw() + row;
  const int zero = m.w.layout.zero;

  F acc[kRows][kParts];
  for (auto& of_row : acc) {
    for (F& a : of_row) a = native::set1(0.0f);
  }
  for (int64_t b = 0; b < blocks; ++b, w.next()) {
    w.prefetch(kPrefetchBytes);
    for (int sub = 0; sub < kSubs; ++sub) {
      Dot dots[kRows][kParts];
      const auto add_columns = [&](int j) {
        // Two quads of columns, those that share bytes when codes have 4 bits.
        const int j0 = kSubs == 1 ? j : 4 * sub + j;
        const int j1 = kSubs == 1 ? j + 4 : 4 * sub + j + 1;
        native::C c0[kParts], c1[kParts];
        for (int p = 0; p < kParts; ++p) {
          c0[p] = codes_of<Fmt>(w.codes(p), j0);
          c1[p] = codes_of<Fmt>(w.codes(p), j1);
        }
        for (int r = 0; r < kRows; ++r) {
          const int8_t* qr = q + r * m.w.cols + b * kBlockCols;
          const Quad q0 = native::load_quad(qr + 4 * j0), q1 = native::load_quad(qr + 4 * j1);
          for (int p = 0; p < kParts; ++p) dots[r][p].add(c0[p], c1[p], q0, q1);
        }
      };
      for (int j = 0; j < 4; j += kSubs) add_columns(j);
      for (int p = 0; p < kParts; ++p) {
        const F scale = w.number(sub, p);
        for (int r = 0; r < kRows; ++r) {
          const int32_t* sums = sum16 + 2 * b * m.rows + r;
          const auto sum = [&] {
            if constexpr (!Fmt::kZero) return dots[r][p].sum();
            return dots[r][p].sum(-zero * (kSubs == 1 ? sums[0] + sums[m.rows] : sums[sub * m.rows]));
          };
          acc[r][p] = fma(to_float(sum()), scale * native::set1(d[b * m.rows + r]), acc[r][p]);
        }
      }
    }
    if constexpr (Fmt::kMin) {
      for (int s = 0; s < kSubs; ++s) {
        for (int p = 0; p < kParts; ++p) {
          const F minimum = w.number(kSubs + s, p);
          for (int r = 0; r < kRows; ++r) {
            acc[r][p] = fma(minimum, native::set1(ds[(b * kSubs + s) * m.rows + r]), acc[r][p]);
          }
        }
      }
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int p = 0; p < kParts; ++p) {
      const int64_t output = group * kGroupRows + p * native::kLanes;
      if (output < m.w.rows) finish_output(m, output, row + r, acc[r][p]);
    }
  }
}

// `n` rows from `row` on by the outputs of kSpan registers (part `part` of a group, or that many whole groups), for
// more rows than a tile's registers hold: the codes of a (sub-)block stay unpacked in registers while the rows pass,
// the rows' sums in the first-level cache.
inline constexpr int kMaxRows = 16;

template <typename Fmt, int kSpan>
[[gnu::noinline]] void tall_tile(const MatmulArgs& m, int64_t group, int part, int64_t row, int n) {
  using native::C, native::F;
  using Dot = native::Dot<Fmt::kMaxCode>;
  constexpr int kSubs = Fmt::kSubs, kQuads = 8 / kSubs;
  const int64_t cols = m.w.cols, blocks = cols / kBlockCols;
  const size_t group_bytes = m.w.layout.group_bytes(cols);
  Blocks<Fmt> w(m.w, group);
  const int64_t rows = m.rows;  // of all tiles: the stride of the scales' blocks
  const int8_t* q = m.xq.q.raw() + row * cols;
  const float* d = m.xq.d.raw() + row;
  const int32_t* sum16 = m.xq.sum16.raw() + row;
  const float* ds = (kSubs == 1 ? m.xq.ds32 : m.xq.ds16).raw() + row;
  const int zero = m.w.layout.zero;

  // Where a group takes several passes, memory is asked for as much in each: ahead of the first pass's pace.
  constexpr int kParts = kGroupRows / native::kLanes;
  [[maybe_unused]] const uint8_t* ahead = w.codes(0) + group_bytes * (kParts - 1) / kParts + kPrefetchBytes +
                                          group_bytes * static_cast<size_t>(part) / kParts;

  F acc[kMaxRows][kSpan];
  for (auto& of_row : acc) {
    for (F& a : of_row) a = native::set1(0.0f);
  }
  for (int64_t b = 0; b < blocks; ++b, w.next(), q += kBlockCols, d += rows, sum16 += 2 * rows, ds += kSubs * rows) {
    if constexpr (kParts == 1) {
      for (int p = 0; p < kSpan; ++p) w.prefetch(p * group_bytes + kPrefetchBytes);
    } else {
      for (size_t line = 0; line < Fmt::kBlockBytes / kParts; line += 64) __builtin_prefetch(ahead + line);
      ahead += Fmt::kBlockBytes / kParts;
    }
    F minimum[kSpan][kSubs];
    if constexpr (Fmt::kMin) {
      for (int p = 0; p < kSpan; ++p) {
        for (int s = 0; s < kSubs; ++s) minimum[p][s] = w.number(kSubs + s, part, p * group_bytes);
      }
    }
#pragma GCC unroll 2
    for (int sub = 0; sub < kSubs; ++sub) {
      C c[kSpan][kQuads];
      F scale[kSpan];
      for (int p = 0; p < kSpan; ++p) {
        for (int i = 0; i < kQuads; ++i) {
          c[p][i] = codes_of<Fmt>(w.codes(part) + p * group_bytes, kQuads * sub + i);
        }
        scale[p] = w.number(sub, part, p * group_bytes);
      }
      // Where a product takes magnitude and sign, magnitudes are in registers and codes in memory.
      constexpr bool kHasSigns = requires(Dot dot) { dot.magnitude(c[0][0]); };
      static_assert(!kHasSigns || kSpan == 1);
      [[maybe_unused]] C in_memory[kHasSigns ? kQuads : 1];
      if constexpr (kHasSigns) {
        for (int i = 0; i < kQuads; ++i) {
          in_memory[i] = c[0][i];
          c[0][i] = Dot::magnitude(c[0][i]);
        }
      }
      const int8_t* qr = q + kQuads * 4 * sub;
#pragma GCC unroll 1
      for (int r = 0; r < n; ++r, qr += cols) {
        Dot dot[kSpan];
        [[maybe_unused]] const C* signs = in_memory;
        if constexpr (kHasSigns) asm("" : "+r"(signs));  // or the compiler would move the loads out of the loop
        for (int i = 0; i < kQuads; i += 2) {
          const native::Quad q0 = native::load_quad(qr + 4 * i), q1 = native::load_quad(qr + 4 * i + 4);
          for (int p = 0; p < kSpan; ++p) {
            if constexpr (kHasSigns) {
              dot[p].add(c[p][i], c[p][i + 1], signs[i], signs[i + 1], q0, q1);
            } else {
              dot[p].add(c[p][i], c[p][i + 1], q0, q1);
            }
          }
        }
        const F dr = native::set1(d[r]);
        for (int p = 0; p < kSpan; ++p) {
          const auto sum = [&] {
            if constexpr (!Fmt::kZero) return dot[p].sum();
            return dot[p].sum(-zero * (kSubs == 1 ? sum16[r] + sum16[rows + r] : sum16[sub * rows + r]));
          };
          F a = fma(to_float(sum()), scale[p] * dr, acc[r][p]);
          if constexpr (Fmt::kMin) {
            if (sub == kSubs - 1) {
              for (int s = 0; s < kSubs; ++s) a = fma(minimum[p][s], native::set1(ds[s * rows + r]), a);
            }
          }
          acc[r][p] = a;
        }
      }
    }
  }
  for (int p = 0; p < kSpan; ++p) {
    const int64_t output = (group + p) * kGroupRows + part * native::kLanes;
    if (output >= m.w.rows) return;
    for (int r = 0; r < n; ++r) finish_output(m, output, row + r, acc[r][p]);
  }
}

#if defined(DECANT_AMX)
#include "kernels/cpu/amx-inl.h"  // NOLINT: per target
#endif

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

template <typename Weights, int kRows>
inline void float_tile(const MatmulArgs& m, int64_t group, int64_t row) {
  const int64_t cols = m.w.cols;
  const auto* w = reinterpret_cast<const typename Weights::Element*>(m.w.data.raw()) + group * cols * kGroupRows;
  const float* x = m.x.raw() + row * cols;
  F acc[kRows];
  for (F& a : acc) a = set1(0.0f);
  for (int64_t k = 0; k < cols; ++k) {
    const auto* column = w + k * kGroupRows;
    if (row == 0) __builtin_prefetch(reinterpret_cast<const uint8_t*>(column) + kPrefetchBytes);
    const F lanes = Weights::lanes(column);
    for (int r = 0; r < kRows; ++r) acc[r] = fma(lanes, set1(x[r * cols + k]), acc[r]);
  }
  for (int r = 0; r < kRows; ++r) {
    float values[kGroupRows];
    store(values, acc[r]);
    for (int p = 0; p < kGroupRows; p += native::kLanes) {
      const int64_t output = group * kGroupRows + p;
      if (output < m.w.rows) finish_output(m, output, row + r, native::load(values + p));
    }
  }
}

// Tiles give run(m, group, left, row, n): groups from `group` on, at most `left` of them, n rows from `row` on, n at
// most kTileRows. Returns how many groups it took.
template <typename Fmt>
struct QuantizedTiles {
  static constexpr int kTileRows = kMaxRows;
  static int run(const MatmulArgs& m, int64_t group, int64_t left, int64_t row, int n) {
    constexpr int kParts = kGroupRows / native::kLanes;
    if (n == 1) return short_tile<Fmt, 1>(m, group, row), 1;
    if (n == 2) return short_tile<Fmt, 2>(m, group, row), 1;
    if constexpr (native::kTileGroups == 2) {
      if (left >= 2) return tall_tile<Fmt, 2>(m, group, 0, row, n), 2;
    }
    for (int part = 0; part < kParts; ++part) tall_tile<Fmt, 1>(m, group, part, row, n);
    return 1;
  }
};

template <typename Weights>
struct FloatTiles {
  static constexpr int kTileRows = 4;
  static int run(const MatmulArgs& m, int64_t group, int64_t, int64_t row, int n) {
    switch (n) {
      case 4: float_tile<Weights, 4>(m, group, row); break;
      case 3: float_tile<Weights, 3>(m, group, row); break;
      case 2: float_tile<Weights, 2>(m, group, row); break;
      default: float_tile<Weights, 1>(m, group, row); break;
    }
    return 1;
  }
};

// Groups [begin, end), all rows: the codes of one group follow each other in memory, so groups are read one by one.
template <typename Tiles>
inline void run_groups(const MatmulArgs& m, int64_t begin, int64_t end, int64_t first_row = 0) {
  for (int64_t row = first_row; row < m.rows; row += Tiles::kTileRows) {
    const auto n = static_cast<int>(std::min<int64_t>(Tiles::kTileRows, m.rows - row));
    for (int64_t g = begin; g < end;) g += Tiles::run(m, g, end - g, row, n);
  }
}

#if defined(DECANT_AMX)
// Whole tiles of 16 rows on AMX, the rest as elsewhere.
template <typename Fmt>
inline void run_quantized(const MatmulArgs& m, int64_t begin, int64_t end, float* scratch) {
  const int64_t whole = m.rows / kAmxRows * kAmxRows;
  if (whole > 0) {
    const UseTiles tiles(Fmt::kSubs == 1 ? kTileConfig32 : kTileConfig16);
    auto* codes = reinterpret_cast<int8_t*>(scratch);
    for (int64_t g = begin; g < end; ++g) {
      signed_codes<Fmt>(m.w, g, codes);
      for (int64_t row = 0; row < whole; row += kAmxRows) amx_tile<Fmt>(m, g, row, codes);
    }
  }
  run_groups<QuantizedTiles<Fmt>>(m, begin, end, whole);
}
// Floats of scratch memory that a thread needs.
inline size_t matmul_scratch(const Weight& w) {
  return w.layout.quantized ? static_cast<size_t>(w.cols) * kGroupRows / sizeof(float) : 0;
}
#else
template <typename Fmt>
inline void run_quantized(const MatmulArgs& m, int64_t begin, int64_t end, float*) {
  run_groups<QuantizedTiles<Fmt>>(m, begin, end);
}
inline size_t matmul_scratch(const Weight&) { return 0; }
#endif

inline void run_weight(const MatmulArgs& m, int64_t begin, int64_t end, float* scratch) {
  const WeightLayout& l = m.w.layout;
  if (!l.quantized) {
    switch (l.float_type) {
      case DType::kF16: return run_groups<FloatTiles<F16Weights>>(m, begin, end);
      case DType::kBF16: return run_groups<FloatTiles<Bf16Weights>>(m, begin, end);
      default: return run_groups<FloatTiles<F32Weights>>(m, begin, end);
    }
  }
  using enum ScaleKind;
  switch (m.w.type) {
#define DECANT_RUN(type, ...) \
  case DType::type: return run_quantized<Format<__VA_ARGS__>>(m, begin, end, scratch)
    DECANT_RUN(kQ4_0, 4, 32, false, true, kF16, 15);
    DECANT_RUN(kQ4_1, 4, 32, true, false, kF16, 15);
    DECANT_RUN(kQ5_0, 5, 32, false, true, kF16, 31);
    DECANT_RUN(kQ5_1, 5, 32, true, false, kF16, 31);
    DECANT_RUN(kQ8_0, 8, 32, false, true, kF16, 255);
    DECANT_RUN(kIQ4_NL, 4, 32, false, true, kF16, 255, CodeTable::kIq4);
    DECANT_RUN(kIQ4_XS, 4, 32, false, true, kSuper, 255, CodeTable::kIq4);
    DECANT_RUN(kMXFP4, 4, 32, false, true, kF32, 255, CodeTable::kMxfp4);
    DECANT_RUN(kQ2_K, 4, 16, true, false, kSuper, 15);
    DECANT_RUN(kQ3_K, 4, 16, false, true, kSuper, 15);
    DECANT_RUN(kQ4_K, 4, 32, true, false, kSuper, 15);
    DECANT_RUN(kQ5_K, 5, 32, true, false, kSuper, 31);
    DECANT_RUN(kQ6_K, 6, 16, false, true, kSuper, 63);
#undef DECANT_RUN
    default: return;
  }
}

// Groups [begin, end) of a weight, for many rows a few groups at a time: their codes stay in the cache while rows pass.
inline void run_range(const MatmulArgs& m, int64_t begin, int64_t end, float* scratch) {
  constexpr int64_t kGroupsInCache = 4;
  const int64_t step = m.rows > 2 ? kGroupsInCache : end - begin;
  for (; begin < end; begin += step) run_weight(m, begin, std::min(begin + step, end), scratch);
}

// How much there is to do: groups of the weight, or those of the list.
inline int64_t item_count(const MatmulArgs& m) {
  return m.groups.empty() ? m.w.groups() : static_cast<int64_t>(m.groups.size());
}

// Items [begin, end) of a product; neighbours in the list together.
inline void run_items(const MatmulArgs& m, int64_t begin, int64_t end, float* scratch) {
  if (m.groups.empty()) return run_range(m, begin, end, scratch);
  while (begin < end) {
    const int64_t first = m.groups[static_cast<size_t>(begin)];
    int64_t n = 1;
    while (begin + n < end && m.groups[static_cast<size_t>(begin + n)] == first + n) ++n;
    run_range(m, first, first + n, scratch);
    begin += n;
  }
}

// Guided: each thread first takes a long run of items, which memory delivers fastest, and ever shorter ones towards the
// end, so that the threads finish together. Runs are multiples of `unit` as far as they go.
inline std::vector<int64_t>& guided_tasks(CpuQueue& queue, int64_t items, int64_t unit) {
  const int64_t threads = queue.pool().threads();
  std::vector<int64_t>& bounds = queue.task_bounds();
  bounds.assign(1, 0);
  while (bounds.back() < items) {
    const int64_t left = items - bounds.back();
    const int64_t n = threads == 1 ? left : std::max(unit, left / (2 * threads) / unit * unit);
    for (int64_t t = 0; t < threads && bounds.back() < items; ++t) {
      bounds.push_back(std::min(bounds.back() + n, items));
    }
  }
  return bounds;
}

inline void matmul(Queue& queue, std::span<const MatmulArgs> args) {
  CpuQueue& q = cpu(queue);
  int64_t items = 0;
  size_t floats = 0;
  for (const MatmulArgs& m : args) {
    items += item_count(m);
    floats = std::max(floats, matmul_scratch(m.w));
  }
  const std::vector<int64_t>& bounds = guided_tasks(q, items, args[0].rows > 2 ? native::kTileGroups : 1);
  q.pool().parallel_for(static_cast<int64_t>(bounds.size()) - 1, 1, [&](int64_t task, int64_t, int thread) {
    float* scratch = q.scratch(thread, floats);
    int64_t first = 0;  // of the product's items
    const int64_t begin = bounds[static_cast<size_t>(task)], end = bounds[static_cast<size_t>(task) + 1];
    for (const MatmulArgs& m : args) {
      const int64_t n = item_count(m);
      const int64_t from = std::max(begin - first, int64_t{0}), to = std::min(end - first, n);
      if (from < to) run_items(m, from, to, scratch);
      first += n;
    }
  });
}

// The outputs of two groups, a quantized block, pass from the products to the codes in a thread's cache.
inline void matmul_gated(Queue& queue, const GatedArgs& a) {
  constexpr int64_t kGroups = kBlockCols / kGroupRows;
  CpuQueue& q = cpu(queue);
  const int64_t rows = a.gate.rows, outputs = a.gate.w.rows;
  const size_t floats = std::max(matmul_scratch(a.gate.w), matmul_scratch(a.up.w));
  const auto block_floats = static_cast<size_t>(rows * kBlockCols);
  const std::vector<int64_t>& bounds = guided_tasks(q, (a.gate.w.groups() + kGroups - 1) / kGroups, 1);
  q.pool().parallel_for(static_cast<int64_t>(bounds.size()) - 1, 1, [&](int64_t task, int64_t, int thread) {
    float* gate = q.scratch(thread, 2 * block_floats + floats);
    float* up = gate + block_floats;
    float* scratch = up + block_floats;
    for (int64_t block = bounds[static_cast<size_t>(task)]; block < bounds[static_cast<size_t>(task) + 1]; ++block) {
      const int64_t output = block * kBlockCols, n = std::min<int64_t>(kBlockCols, outputs - output);
      const auto run = [&](MatmulArgs m, float* y) {
        m.w.data = m.w.data + block * kGroups * static_cast<int64_t>(m.w.layout.group_bytes(m.w.cols));
        m.w.rows = n;
        if (m.bias) m.bias = m.bias + output;
        m.y = DevPtr<float>(y);
        m.ldy = kBlockCols;
        run_weight(m, 0, m.w.groups(), scratch);
      };
      run(a.gate, gate);
      run(a.up, up);
      for (int64_t r = 0; r < rows; ++r) {
        float* h = gate + r * kBlockCols;
        for (int64_t i = 0; i < n; i += 16) {
          store(h + i, activate(a.activation, load(h + i)) * load(up + r * kBlockCols + i));
        }
        if (a.out.q) quantize_block(h, a.out.q.raw() + r * outputs + output, r, block, rows, a.out);
        if (a.h) std::memcpy(a.h.raw() + r * outputs + output, h, static_cast<size_t>(n) * sizeof(float));
      }
    }
  });
}
