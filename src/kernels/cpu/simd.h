// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// 16 float lanes and 16 int32 lanes, for each target. Included once per target inside namespace decant::DECANT_TARGET,
// after the standard headers and immintrin.h. Every operation rounds as IEEE single precision says, so the three
// targets agree bit for bit.
// clang-format off
#if defined(DECANT_AVX512)
struct F { __m512 v; };
struct I { __m512i v; };
inline F load(const float* p) { return {_mm512_loadu_ps(p)}; }
inline void store(float* p, F a) { _mm512_storeu_ps(p, a.v); }
inline F load_half(const uint16_t* p) { return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))}; }
inline F load_bf16(const uint16_t* p) { return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))), 16))}; }
inline F set1(float x) { return {_mm512_set1_ps(x)}; }
inline F operator+(F a, F b) { return {_mm512_add_ps(a.v, b.v)}; }
inline F operator-(F a, F b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline F operator*(F a, F b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline F operator/(F a, F b) { return {_mm512_div_ps(a.v, b.v)}; }
inline F fma(F a, F b, F c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
inline F fnma(F a, F b, F c) { return {_mm512_fnmadd_ps(a.v, b.v, c.v)}; }
inline F neg(F a) { return {_mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(a.v), _mm512_set1_epi32(INT32_MIN)))}; }
inline F max(F a, F b) { return {_mm512_max_ps(a.v, b.v)}; }
inline F min(F a, F b) { return {_mm512_min_ps(a.v, b.v)}; }
inline F rint(F a) { return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
inline F select_lanes(uint32_t mask, F a, F b) { return {_mm512_mask_blend_ps(static_cast<__mmask16>(mask), b.v, a.v)}; }
inline uint32_t less(F a, F b) { return _mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ); }
inline F select_less(F a, F b, F x, F y) { return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ), y.v, x.v)}; }
inline I load_i(const int32_t* p) { return {_mm512_loadu_si512(p)}; }
inline F to_float(I a) { return {_mm512_cvtepi32_ps(a.v)}; }
inline F times_pow2(F p, F n) { return {_mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(p.v), _mm512_slli_epi32(_mm512_cvtps_epi32(n.v), 23)))}; }
inline void store_half(uint16_t* p, F a) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)); }
inline int32_t store_codes(int8_t* q, F a) {
  const __m512 clamped = _mm512_min_ps(_mm512_max_ps(a.v, _mm512_set1_ps(-127.0f)), _mm512_set1_ps(127.0f));
  const __m512i codes = _mm512_maskz_cvtps_epi32(_mm512_cmp_ps_mask(a.v, a.v, _CMP_ORD_Q), clamped);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(q), _mm512_cvtepi32_epi8(codes));
  return _mm512_reduce_add_epi32(codes);
}
inline __m256 low_half(__m512 v) { return _mm512_castps512_ps256(v); }
inline __m256 high_half(__m512 v) { return _mm512_extractf32x8_ps(v, 1); }
inline float reduce_add(F x) {
  const __m256 eight = _mm256_add_ps(low_half(x.v), high_half(x.v));
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
inline float reduce_max(F x) {
  const __m256 eight = _mm256_max_ps(low_half(x.v), high_half(x.v));
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}
// Codes of one vector of weight.h: 16 rows x 4 columns.
struct C { __m512i v; };
inline C load_codes(const uint8_t* p) { return {_mm512_loadu_si512(p)}; }
inline C low_nibbles(C c) { return {_mm512_and_si512(c.v, _mm512_set1_epi8(15))}; }
inline C high_nibbles(C c) { return {_mm512_and_si512(_mm512_srli_epi16(c.v, 4), _mm512_set1_epi8(15))}; }
// c | (plane << left & mask), bits; left may be negative.
inline C with_bits(C c, C plane, int left, int mask) {
  const __m512i moved = left >= 0 ? _mm512_slli_epi16(plane.v, static_cast<unsigned>(left)) : _mm512_srli_epi16(plane.v, static_cast<unsigned>(-left));
  return {_mm512_or_si512(c.v, _mm512_and_si512(moved, _mm512_set1_epi8(static_cast<char>(mask))))};
}
inline C look_up(C c, const uint8_t* table) { return {_mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table))), c.v)}; }
inline F load_bytes(const uint8_t* p) { return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))))}; }
// Four activations, in every lane.
struct Quad { __m512i v; };
inline Quad load_quad(const int8_t* q) { int32_t four; std::memcpy(&four, q, 4); return {_mm512_set1_epi32(four)}; }
// Dot<kMaxCode> collects, in each lane, the products of a lane's 4 codes (unsigned) and the quad, over the 4 or 8 pairs of a
// sub-block; no code is greater than kMaxCode (15, 63 or 255). sum(start) adds start. With 255 the codes stand for u - 128 and
// start is -128 * the sum of the activations, known to the target that needs it.
template <int kMaxCode>
struct Dot {
  __m512i a, b;  // two chains: one would wait for itself
  Dot() : a(_mm512_setzero_si512()), b(a) {}  // written out: an implicit constructor would not have the target
  static C prepare(C c) { return c; }
  void add(C c0, C c1, Quad q0, Quad q1) {
    a = _mm512_dpbusd_epi32(a, c0.v, q0.v);
    b = _mm512_dpbusd_epi32(b, c1.v, q1.v);
  }
  I sum(int32_t start) const { return {_mm512_add_epi32(_mm512_add_epi32(a, _mm512_set1_epi32(start)), b)}; }
  I sum() const { return {_mm512_add_epi32(a, b)}; }
};
#elif defined(DECANT_AVX2)
struct F { __m256 a, b; };
inline F load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline void store(float* p, F x) { _mm256_storeu_ps(p, x.a); _mm256_storeu_ps(p + 8, x.b); }
inline F load_half(const uint16_t* p) { return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))), _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 8)))}; }
inline F load_bf16(const uint16_t* p) {
  return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))), 16)),
          _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 8))), 16))};
}
inline F set1(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
inline F operator+(F x, F y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
inline F operator-(F x, F y) { return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
inline F operator*(F x, F y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
inline F operator/(F x, F y) { return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
inline F fma(F x, F y, F z) { return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)}; }
inline F fnma(F x, F y, F z) { return {_mm256_fnmadd_ps(x.a, y.a, z.a), _mm256_fnmadd_ps(x.b, y.b, z.b)}; }
inline F neg(F x) { const __m256 s = _mm256_set1_ps(-0.0f); return {_mm256_xor_ps(x.a, s), _mm256_xor_ps(x.b, s)}; }
inline F max(F x, F y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
inline F min(F x, F y) { return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
inline F rint(F x) { constexpr int r = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC; return {_mm256_round_ps(x.a, r), _mm256_round_ps(x.b, r)}; }
inline __m256 half_mask(uint32_t m) { const __m256i bits = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128); return _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(static_cast<int>(m)), bits), bits)); }
inline F select_lanes(uint32_t m, F x, F y) { return {_mm256_blendv_ps(y.a, x.a, half_mask(m & 255)), _mm256_blendv_ps(y.b, x.b, half_mask(m >> 8))}; }
inline uint32_t less(F x, F y) { return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(x.a, y.a, _CMP_LT_OQ))) | static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(x.b, y.b, _CMP_LT_OQ))) << 8; }
inline F select_less(F a, F b, F x, F y) { return {_mm256_blendv_ps(y.a, x.a, _mm256_cmp_ps(a.a, b.a, _CMP_LT_OQ)), _mm256_blendv_ps(y.b, x.b, _mm256_cmp_ps(a.b, b.b, _CMP_LT_OQ))}; }
inline __m256 times_pow2_half(__m256 p, __m256 n) { return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23))); }
inline F times_pow2(F p, F n) { return {times_pow2_half(p.a, n.a), times_pow2_half(p.b, n.b)}; }
inline void store_half(uint16_t* p, F x) {
  constexpr int r = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(x.a, r));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p + 8), _mm256_cvtps_ph(x.b, r));
}
inline __m256i codes_half(__m256 x) {
  const __m256 number = _mm256_and_ps(x, _mm256_cmp_ps(x, x, _CMP_ORD_Q));
  return _mm256_cvtps_epi32(_mm256_min_ps(_mm256_max_ps(number, _mm256_set1_ps(-127.0f)), _mm256_set1_ps(127.0f)));
}
inline int32_t store_codes(int8_t* q, F x) {
  const __m256i a = codes_half(x.a), b = codes_half(x.b);
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xd8);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(q), _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
  const __m256i eight = _mm256_add_epi32(a, b);
  const __m128i four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
  const __m128i two = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));
  return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 1)));
}
inline float reduce_add(F x) {
  const __m256 eight = _mm256_add_ps(x.a, x.b);
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
inline float reduce_max(F x) {
  const __m256 eight = _mm256_max_ps(x.a, x.b);
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}
// Half of the 16 lanes in one register: what the products compute with, since two such sums per output row would not fit.
namespace native {
inline constexpr int kLanes = 8;
inline constexpr int kTileVectors = 2;  // times 4 rows of sums leave registers for operands
inline constexpr int kTileGroups = 1;
struct F { __m256 v; };
struct I { __m256i v; };
struct C { __m256i v; };
struct Quad { __m256i v; };
inline F load(const float* p) { return {_mm256_loadu_ps(p)}; }
inline void store(float* p, F x) { _mm256_storeu_ps(p, x.v); }
inline F load_half(const uint16_t* p) { return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))}; }
inline F set1(float x) { return {_mm256_set1_ps(x)}; }
inline F operator+(F x, F y) { return {_mm256_add_ps(x.v, y.v)}; }
inline F operator*(F x, F y) { return {_mm256_mul_ps(x.v, y.v)}; }
inline F fma(F x, F y, F z) { return {_mm256_fmadd_ps(x.v, y.v, z.v)}; }
inline F to_float(I x) { return {_mm256_cvtepi32_ps(x.v)}; }
inline C load_codes(const uint8_t* p) { return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))}; }
inline C low_nibbles(C c) { return {_mm256_and_si256(c.v, _mm256_set1_epi8(15))}; }
inline C high_nibbles(C c) { return {_mm256_and_si256(_mm256_srli_epi16(c.v, 4), _mm256_set1_epi8(15))}; }
inline C with_bits(C c, C plane, int left, int mask) {
  const __m256i moved = left >= 0 ? _mm256_slli_epi16(plane.v, left) : _mm256_srli_epi16(plane.v, -left);
  return {_mm256_or_si256(c.v, _mm256_and_si256(moved, _mm256_set1_epi8(static_cast<char>(mask))))};
}
inline C look_up(C c, const uint8_t* table) { return {_mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table))), c.v)}; }
inline F load_bytes(const uint8_t* p) { return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))))}; }
inline Quad load_quad(const int8_t* q) { int32_t four; std::memcpy(&four, q, 4); return {_mm256_set1_epi32(four)}; }
inline __m256i add_pairs(__m256i acc, __m256i words) { return _mm256_add_epi32(acc, _mm256_madd_epi16(words, _mm256_set1_epi16(1))); }
// pmaddubsw adds two products of an unsigned and a signed byte in 16 bits, saturating; codes of activations are at most 127.
// Codes up to 15: 8 such sums are below 2^15, so words are widened once at the end.
// Codes up to 31: 4 are, so there are two such words that take turns.
// Codes up to 63: 2 are (4 * 63 * 127 = 32,004).
// Any codes (of zero 128): |u - 128| <= 128 times the activation with the sign of u - 128; one is below 2^15 (32,512). The
// start is then not -128 times the sum of the activations but 0: prepare() has taken the 128 off.
template <int kMaxCode>
struct Dot;
template <>
struct Dot<15> {
  __m256i words;
  Dot() : words(_mm256_setzero_si256()) {}  // written out: an implicit constructor would not have the target
  static C prepare(C c) { return c; }
  void add(C c0, C c1, Quad q0, Quad q1) {
    words = _mm256_add_epi16(words, _mm256_maddubs_epi16(c0.v, q0.v));
    words = _mm256_add_epi16(words, _mm256_maddubs_epi16(c1.v, q1.v));
    asm("" : "+x"(words));
  }
  I sum() const { return {_mm256_madd_epi16(words, _mm256_set1_epi16(1))}; }
  I sum(int32_t start) const { return {add_pairs(_mm256_set1_epi32(start), words)}; }
};
template <>
struct Dot<31> {
  __m256i words, others;
  Dot() : words(_mm256_setzero_si256()), others(words) {}
  static C prepare(C c) { return c; }
  void add(C c0, C c1, Quad q0, Quad q1) {
    const __m256i pairs = _mm256_add_epi16(_mm256_maddubs_epi16(c0.v, q0.v), _mm256_maddubs_epi16(c1.v, q1.v));
    const __m256i next = _mm256_add_epi16(words, pairs);
    words = others;
    others = next;
  }
  I sum() const { return {add_pairs(_mm256_madd_epi16(words, _mm256_set1_epi16(1)), others)}; }
  I sum(int32_t start) const { return {add_pairs(add_pairs(_mm256_set1_epi32(start), words), others)}; }
};
template <>
struct Dot<63> {
  __m256i acc;
  Dot() : acc(_mm256_setzero_si256()) {}  // written out: an implicit constructor would not have the target
  static C prepare(C c) { return c; }
  void add(C c0, C c1, Quad q0, Quad q1) {
    acc = add_pairs(acc, _mm256_add_epi16(_mm256_maddubs_epi16(c0.v, q0.v), _mm256_maddubs_epi16(c1.v, q1.v)));
  }
  I sum() const { return {acc}; }
  I sum(int32_t start) const { return {_mm256_add_epi32(acc, _mm256_set1_epi32(start))}; }
};
template <>
struct Dot<255> {
  __m256i acc;
  Dot() : acc(_mm256_setzero_si256()) {}
  static C prepare(C c) { return {_mm256_xor_si256(c.v, _mm256_set1_epi8(-128))}; }
  static C magnitude(C c) { return {_mm256_abs_epi8(c.v)}; }
  void add(C c0, C c1, Quad q0, Quad q1) { add(magnitude(c0), magnitude(c1), c0, c1, q0, q1); }
  // m: the magnitudes of c.
  void add(C m0, C m1, const C& c0, const C& c1, Quad q0, Quad q1) {
    acc = add_pairs(acc, _mm256_maddubs_epi16(m0.v, _mm256_sign_epi8(q0.v, c0.v)));
    acc = add_pairs(acc, _mm256_maddubs_epi16(m1.v, _mm256_sign_epi8(q1.v, c1.v)));
  }
  I sum() const { return {acc}; }
  I sum(int32_t) const { return {acc}; }
};
}  // namespace native
#else
struct F { float v[16]; };
struct I { int32_t v[16]; };
#define DECANT_LANES(expression) do { for (int i = 0; i < 16; ++i) { expression; } } while (false)
inline F load(const float* p) { F r; std::memcpy(r.v, p, sizeof r.v); return r; }
inline void store(float* p, const F& a) { std::memcpy(p, a.v, sizeof a.v); }
inline F load_half(const uint16_t* p) { F r; DECANT_LANES(r.v[i] = half_to_float(p[i])); return r; }
inline F load_bf16(const uint16_t* p) { F r; DECANT_LANES(r.v[i] = bf16_to_float(p[i])); return r; }
inline F set1(float x) { F r; DECANT_LANES(r.v[i] = x); return r; }
inline F operator+(const F& a, const F& b) { F r; DECANT_LANES(r.v[i] = a.v[i] + b.v[i]); return r; }
inline F operator-(const F& a, const F& b) { F r; DECANT_LANES(r.v[i] = a.v[i] - b.v[i]); return r; }
inline F operator*(const F& a, const F& b) { F r; DECANT_LANES(r.v[i] = a.v[i] * b.v[i]); return r; }
inline F operator/(const F& a, const F& b) { F r; DECANT_LANES(r.v[i] = a.v[i] / b.v[i]); return r; }
inline F fma(const F& a, const F& b, const F& c) { F r; DECANT_LANES(r.v[i] = std::fma(a.v[i], b.v[i], c.v[i])); return r; }
inline F fnma(const F& a, const F& b, const F& c) { F r; DECANT_LANES(r.v[i] = std::fma(-a.v[i], b.v[i], c.v[i])); return r; }
inline F neg(const F& a) { F r; DECANT_LANES(r.v[i] = -a.v[i]); return r; }
// As the instructions: the second operand when either is NaN.
inline F max(const F& a, const F& b) { F r; DECANT_LANES(r.v[i] = a.v[i] > b.v[i] ? a.v[i] : b.v[i]); return r; }
inline F min(const F& a, const F& b) { F r; DECANT_LANES(r.v[i] = a.v[i] < b.v[i] ? a.v[i] : b.v[i]); return r; }
inline F rint(const F& a) { F r; DECANT_LANES(r.v[i] = std::nearbyint(a.v[i])); return r; }
inline F select_lanes(uint32_t m, const F& a, const F& b) { F r; DECANT_LANES(r.v[i] = (m >> i & 1) != 0 ? a.v[i] : b.v[i]); return r; }
inline uint32_t less(const F& a, const F& b) { uint32_t m = 0; DECANT_LANES(m |= static_cast<uint32_t>(a.v[i] < b.v[i]) << i); return m; }
inline F select_less(const F& a, const F& b, const F& x, const F& y) { F r; DECANT_LANES(r.v[i] = a.v[i] < b.v[i] ? x.v[i] : y.v[i]); return r; }
inline I zero_i() { return I{}; }
inline F to_float(const I& a) { F r; DECANT_LANES(r.v[i] = static_cast<float>(a.v[i])); return r; }
inline F pow2(const F& n) { F r; DECANT_LANES(r.v[i] = std::bit_cast<float>(static_cast<uint32_t>((n.v[i] >= -127.0f && n.v[i] <= 128.0f ? static_cast<int32_t>(n.v[i]) : -127) + 127) << 23)); return r; }
inline F times_pow2(const F& p, const F& n) { return p * pow2(n); }
inline void store_half(uint16_t* p, const F& a) { DECANT_LANES(p[i] = float_to_half(a.v[i])); }
// Whole numbers to signed bytes, limited to +-127; NaN gives 0. Returns their sum.
inline int32_t store_codes(int8_t* q, const F& a) {
  int32_t sum = 0;
  for (int i = 0; i < 16; ++i) {
    const float c = a.v[i];
    const int code = c >= -127.0f ? (c <= 127.0f ? static_cast<int>(c) : 127) : (c < -127.0f ? -127 : 0);
    q[i] = static_cast<int8_t>(code);
    sum += code;
  }
  return sum;
}
// Sum of the 16 lanes in the order of table.h; the greatest of them in the same order, each step as max() above.
inline float reduce_add(F a) {
  for (int half = 8; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) a.v[i] = a.v[i] + a.v[i + half];
  }
  return a.v[0];
}
inline float reduce_max(F a) {
  for (int half = 8; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) a.v[i] = a.v[i] > a.v[i + half] ? a.v[i] : a.v[i + half];
  }
  return a.v[0];
}
struct C { uint8_t v[64]; };
inline C load_codes(const uint8_t* p) { C r; std::memcpy(r.v, p, 64); return r; }
inline C low_nibbles(const C& c) { C r; for (int i = 0; i < 64; ++i) r.v[i] = c.v[i] & 15; return r; }
inline C high_nibbles(const C& c) { C r; for (int i = 0; i < 64; ++i) r.v[i] = static_cast<uint8_t>(c.v[i] >> 4); return r; }
inline C with_bits(const C& c, const C& plane, int left, int mask) {
  C r;
  for (int i = 0; i < 64; ++i) r.v[i] = static_cast<uint8_t>(c.v[i] | ((left >= 0 ? plane.v[i] << left : plane.v[i] >> -left) & mask));
  return r;
}
inline C look_up(const C& c, const uint8_t* table) { C r; for (int i = 0; i < 64; ++i) r.v[i] = table[c.v[i]]; return r; }
inline F load_bytes(const uint8_t* p) { F r; DECANT_LANES(r.v[i] = static_cast<float>(static_cast<int8_t>(p[i]))); return r; }
struct Quad { int8_t v[4]; };
inline Quad load_quad(const int8_t* q) { Quad r; std::memcpy(r.v, q, 4); return r; }
inline I dot4(const I& acc, const C& c, const Quad& q) {
  I r;
  DECANT_LANES(r.v[i] = acc.v[i] + c.v[4 * i] * q.v[0] + c.v[4 * i + 1] * q.v[1] + c.v[4 * i + 2] * q.v[2] + c.v[4 * i + 3] * q.v[3]);
  return r;
}
template <int kMaxCode>
struct Dot {
  I acc;
  Dot() : acc(zero_i()) {}
  static C prepare(const C& c) { return c; }
  void add(const C& c0, const C& c1, const Quad& q0, const Quad& q1) { acc = dot4(dot4(acc, c0, q0), c1, q1); }
  I sum() const { return acc; }
  I sum(int32_t start) const { I r; DECANT_LANES(r.v[i] = acc.v[i] + start); return r; }
};
#undef DECANT_LANES
#endif
#if !defined(DECANT_AVX2)
namespace native {
using namespace decant::DECANT_TARGET;  // NOLINT: the same names
inline constexpr int kLanes = 16;
#if defined(DECANT_AVX512)
inline constexpr int kTileVectors = 4;
inline constexpr int kTileGroups = 2;  // 16 of 32 registers hold codes, so that a broadcast activation serves two products
#else
inline constexpr int kTileVectors = 1;
inline constexpr int kTileGroups = 1;
#endif
}  // namespace native
#endif
// clang-format on

// ---- the same for all targets ----

inline uint32_t first_lanes(int64_t n) { return n >= 16 ? 0xffffu : (1u << n) - 1; }

// exp as table.h defines it. NaN stays NaN. Between -87 and 88 the result is a normal number, so times 2^n is an
// addition to the exponent. kAboveZero false: x is known not to be, so that nothing has to be clamped.
template <bool kAboveZero = true>
inline F exp(F x) {
  const F clamped = kAboveZero ? min(set1(88.0f), x) : x;  // the second operand when x is NaN
  const F n = rint(clamped * set1(1.44269504088896341f));
  F r = fnma(n, set1(0.693359375f), clamped);  // -n * c + x in one rounding
  r = fnma(n, set1(-2.12194440e-4f), r);
  F p = set1(1.0f / 720.0f);
  p = fma(p, r, set1(1.0f / 120.0f));
  p = fma(p, r, set1(1.0f / 24.0f));
  p = fma(p, r, set1(1.0f / 6.0f));
  p = fma(p, r, set1(0.5f));
  p = fma(p, r, set1(1.0f));
  p = fma(p, r, set1(1.0f));
  return select_less(x, set1(-87.0f), set1(0.0f), times_pow2(p, n));
}
