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
// Four C, two A and two B of blocks of 32 columns, and the same of 16 columns.
constexpr TileConfig kTileConfig32 = {1, 0, {}, {64, 64, 64, 64, 32, 32, 64, 64}, {16, 16, 16, 16, 16, 16, 8, 8}};
constexpr TileConfig kTileConfig16 = {1, 0, {}, {64, 64, 64, 64, 16, 16, 64, 64}, {16, 16, 16, 16, 16, 16, 4, 4}};

// Gives this thread its tiles for as long as it lives.
class UseTiles {
 public:
  explicit UseTiles(const TileConfig& config) { _tile_loadconfig(&config); }
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

// Calls body(integral_constant r) for the rows of a tile: with indices that are constants from the start, sums stay in
// registers.
template <typename Body>
[[gnu::always_inline]] inline void for_rows(const Body& body) {
  [&]<int... kRow>(std::integer_sequence<int, kRow...>) __attribute__((always_inline)) {
    (body(std::integral_constant<int, kRow>()), ...);
  }
  (std::make_integer_sequence<int, kAmxRows>());
}

template <typename Fmt>
[[gnu::noinline]] void amx_tile(const MatmulArgs& m, int64_t group, int64_t row, const int8_t* codes) {
  constexpr int kSubs = Fmt::kSubs;
  constexpr int kSlots = 4;  // the tiles run three sub-blocks ahead of the float steps, which hide how long they take
  const int64_t cols = m.w.cols, blocks = cols / kBlockCols, rows = m.rows;
  Blocks<Fmt> w(m.w, group);
  const int8_t* q = m.xq.q.raw() + row * cols;
  const float* d = m.xq.d.raw() + row;
  const float* ds = (kSubs == 1 ? m.xq.ds32 : m.xq.ds16).raw() + row;
  alignas(64) int32_t sums[kSlots][kAmxRows * kGroupRows];
  F acc[kAmxRows];
  for_rows([&](auto r) __attribute__((always_inline)) { acc[r] = set1(0.0f); });
  const int64_t dots = blocks * kSubs;
  const auto stride = static_cast<size_t>(cols);
  int64_t next = 0;  // sub-block to multiply
  const auto run_tiles = [&]<int kSlot>(std::integral_constant<int, kSlot>) __attribute__((always_inline)) {
    if (next >= dots) return;
    const int8_t* a = q + next * Fmt::kSub;
    const int8_t* b = codes + next * Fmt::kSub * kGroupRows;
    ++next;
// Tiles are named by literals.
#define DECANT_TILE_DOT(c_tile, a_tile, b_tile) \
  do {                                          \
    _tile_zero(c_tile);                         \
    _tile_loadd(a_tile, a, stride);             \
    _tile_loadd(b_tile, b, 64);                 \
    _tile_dpbssd(c_tile, a_tile, b_tile);       \
    _tile_stored(c_tile, sums[kSlot], 64);      \
  } while (false)
    if constexpr (kSlot == 0) DECANT_TILE_DOT(0, 4, 6);
    if constexpr (kSlot == 1) DECANT_TILE_DOT(1, 5, 7);
    if constexpr (kSlot == 2) DECANT_TILE_DOT(2, 4, 6);
    if constexpr (kSlot == 3) DECANT_TILE_DOT(3, 5, 7);
#undef DECANT_TILE_DOT
  };
  const auto add_block = [&]<int kSlot>(std::integral_constant<int, kSlot>, int64_t i) __attribute__((always_inline)) {
    run_tiles(std::integral_constant<int, (kSlot + kSlots - 1) % kSlots>());
    const int sub = kSubs == 1 ? 0 : kSlot % kSubs;
    const F scale = w.number(sub, 0);
    const float* d_rows = d + i / kSubs * rows;
    for_rows([&](auto r) __attribute__((always_inline)) {
      acc[r] = fma(to_float(load_i(sums[kSlot] + r * kGroupRows)), scale * set1(d_rows[r]), acc[r]);
    });
    if (sub != kSubs - 1) return;
    if constexpr (Fmt::kMin) {
      for (int s = 0; s < kSubs; ++s) {
        const F minimum = w.number(kSubs + s, 0);
        const float* ds_rows = ds + (i / kSubs * kSubs + s) * rows;
        for_rows([&](auto r) __attribute__((always_inline)) { acc[r] = fma(minimum, set1(ds_rows[r]), acc[r]); });
      }
    }
    w.next();
  };
  asm volatile("" ::: "memory");  // tile loads do not say that they read memory
  run_tiles(std::integral_constant<int, 0>());
  run_tiles(std::integral_constant<int, 1>());
  run_tiles(std::integral_constant<int, 2>());
  for (int64_t i = 0; i < dots; i += kSlots) {
    add_block(std::integral_constant<int, 0>(), i);
    if (i + 1 < dots) add_block(std::integral_constant<int, 1>(), i + 1);
    if (i + 2 < dots) add_block(std::integral_constant<int, 2>(), i + 2);
    if (i + 3 < dots) add_block(std::integral_constant<int, 3>(), i + 3);
  }
  for_rows([&](auto r) __attribute__((always_inline)) { finish_output(m, group * kGroupRows, row + r, acc[r]); });
}
