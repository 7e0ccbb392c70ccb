// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Products of 16 rows by 16 outputs on AMX tiles: C (16 x 16 sums) = A (16 rows x 32 or 16 activations) * B (the codes
// of a block less `zero`, which weight.h's layout has in the order that a tile wants). The sums are exact integers and
// the float steps are those of the other tiles, so the bits are theirs. Included once per target (target-inl.h).

inline constexpr int kAmxRows = 16;

// Shapes of the tiles in use; the numbers below are theirs. A constant: compilers do not see that ldtilecfg reads all
// of it, and would leave out stores to a local one.
struct alignas(64) TileConfig {
  uint8_t palette, start_row, reserved[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];
};
// C, A and B of 32 columns, A and B of 16 columns; C, A and B of 32 once more, for every other block.
constexpr TileConfig kTileConfig = {1, 0, {}, {64, 32, 64, 16, 64, 64, 32, 64}, {16, 16, 8, 16, 4, 16, 16, 8}};

// Gives this thread its tiles for as long as it lives.
class UseTiles {
 public:
  UseTiles() { _tile_loadconfig(&kTileConfig); }
  ~UseTiles() { _tile_release(); }
  UseTiles(const UseTiles&) = delete;
  UseTiles& operator=(const UseTiles&) = delete;
};

// The codes of one group, unpacked to signed bytes: cols * 16 bytes.
template <typename Fmt>
[[gnu::noinline]] void signed_codes(const Weight& w, int64_t group, int8_t* out) {
  const int64_t blocks = w.cols / kBlockCols;
  Blocks<Fmt> block(w, group);
  const __m512i zero = _mm512_set1_epi8(static_cast<char>(w.layout.zero));
  for (int64_t b = 0; b < blocks; ++b, block.next(), out += 512) {
    block.prefetch(kPrefetchBytes);
    for (int j = 0; j < 8; ++j) {
      _mm512_storeu_si512(out + 64 * j, _mm512_sub_epi8(codes_of<Fmt>(block.codes(0), j).v, zero));
    }
  }
}

template <typename Fmt>
[[gnu::noinline]] void amx_tile(const MatmulArgs& m, int64_t group, int64_t row, const int8_t* codes) {
  constexpr int kSubs = Fmt::kSubs;
  const int64_t cols = m.w.cols, blocks = cols / kBlockCols;
  Blocks<Fmt> w(m.w, group);
  const int8_t* q = m.xq.q.raw() + row * cols;
  const float* d = m.xq.d.raw() + row * blocks;
  const float* ds = kSubs == 1 ? m.xq.ds32.raw() + row * blocks : m.xq.ds16.raw() + row * blocks * 2;
  alignas(64) int32_t sums[2][kAmxRows * kGroupRows];  // of a block and the next, or of a block's halves
  F acc[kAmxRows];
  for (F& a : acc) a = set1(0.0f);
  // The tiles run one sub-block ahead of the float steps, which hide how long they take.
  const int64_t dots = blocks * kSubs;
  const auto run_tiles = [&](int64_t i) {
    const int8_t* a = q + i * Fmt::kSub;
    const int8_t* b = codes + i * Fmt::kSub * kGroupRows;
    const auto stride = static_cast<size_t>(cols);
// Tiles are named by literals.
#define DECANT_TILE_DOT(c_tile, a_tile, b_tile) \
  do {                                          \
    _tile_zero(c_tile);                         \
    _tile_loadd(a_tile, a, stride);             \
    _tile_loadd(b_tile, b, 64);                 \
    _tile_dpbssd(c_tile, a_tile, b_tile);       \
    _tile_stored(c_tile, sums[i % 2], 64);      \
  } while (false)
    if constexpr (kSubs == 1) {
      if (i % 2 == 0) {
        DECANT_TILE_DOT(0, 1, 2);
      } else {
        DECANT_TILE_DOT(5, 6, 7);
      }
    } else if (i % 2 == 0) {
      DECANT_TILE_DOT(0, 3, 4);
    } else {
      DECANT_TILE_DOT(5, 3, 4);
    }
#undef DECANT_TILE_DOT
  };
  asm volatile("" ::: "memory");  // tile loads do not say that they read memory
  if (dots > 0) run_tiles(0);
  for (int64_t i = 0; i < dots; ++i) {
    if (i + 1 < dots) run_tiles(i + 1);
    const int64_t b = i / kSubs;
    const int s = static_cast<int>(i % kSubs);
    const F scale = w.number(s, 0);
    const int32_t* dot = sums[i % 2];
    for (int r = 0; r < kAmxRows; ++r) {
      acc[r] = fma(to_float(load_i(dot + r * kGroupRows)), scale * set1(d[r * blocks + b]), acc[r]);
    }
    if (s != kSubs - 1) continue;
    if constexpr (Fmt::kMin) {
      for (int n = 0; n < kSubs; ++n) {
        const F minimum = w.number(kSubs + n, 0);
        for (int r = 0; r < kAmxRows; ++r) acc[r] = fma(minimum, set1(ds[(r * blocks + b) * kSubs + n]), acc[r]);
      }
    }
    w.next();
  }
  for (int r = 0; r < kAmxRows; ++r) finish_output(m, group * kGroupRows, row + r, acc[r]);
}
