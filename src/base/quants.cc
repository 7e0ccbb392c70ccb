// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "base/quants.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "base/half.h"

namespace decant {
namespace {

static_assert(std::endian::native == std::endian::little, "blocks are read as they lie in the file");

constexpr int kSuper = 256;  // elements of a K block

uint16_t load_u16(const uint8_t* p) {
  uint16_t v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
uint32_t load_u32(const uint8_t* p) {
  uint32_t v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
float load_half(const uint8_t* p) { return half_to_float(load_u16(p)); }

// Stores a float as half and returns what a reader will see.
float store_half(uint8_t* p, float value) {
  const uint16_t h = float_to_half(value);
  std::memcpy(p, &h, sizeof h);
  return half_to_float(h);
}

// --- Decoders of one block
// -----------------------------------------------------------------------------------------------

void decode_q4_0(const uint8_t* b, float* y) {
  const float d = load_half(b);
  for (int j = 0; j < 16; ++j) {
    y[j] = static_cast<float>((b[2 + j] & 15) - 8) * d;
    y[j + 16] = static_cast<float>((b[2 + j] >> 4) - 8) * d;
  }
}

void decode_q4_1(const uint8_t* b, float* y) {
  const float d = load_half(b), m = load_half(b + 2);
  for (int j = 0; j < 16; ++j) {
    y[j] = static_cast<float>(b[4 + j] & 15) * d + m;
    y[j + 16] = static_cast<float>(b[4 + j] >> 4) * d + m;
  }
}

// Codes 0..31 of Q5_0 and Q5_1: low nibbles, and bit e of `high` on top of element e.
int q5_code(const uint8_t* qs, uint32_t high, int e) {
  const int low = e < 16 ? qs[e] & 15 : qs[e - 16] >> 4;
  return low | static_cast<int>(((high >> e) & 1) << 4);
}

void decode_q5_0(const uint8_t* b, float* y) {
  const float d = load_half(b);
  const uint32_t high = load_u32(b + 2);
  for (int e = 0; e < 32; ++e) y[e] = static_cast<float>(q5_code(b + 6, high, e) - 16) * d;
}

void decode_q5_1(const uint8_t* b, float* y) {
  const float d = load_half(b), m = load_half(b + 2);
  const uint32_t high = load_u32(b + 4);
  for (int e = 0; e < 32; ++e) y[e] = static_cast<float>(q5_code(b + 8, high, e)) * d + m;
}

void decode_q8_0(const uint8_t* b, float* y) {
  const float d = load_half(b);
  for (int j = 0; j < 32; ++j) y[j] = static_cast<float>(static_cast<int8_t>(b[2 + j])) * d;
}

void decode_iq4_nl(const uint8_t* b, float* y) {
  const float d = load_half(b);
  for (int j = 0; j < 16; ++j) {
    y[j] = d * static_cast<float>(kIq4Values[b[2 + j] & 15]);
    y[j + 16] = d * static_cast<float>(kIq4Values[b[2 + j] >> 4]);
  }
}

void decode_mxfp4(const uint8_t* b, float* y) {
  const float d = mxfp4_half_scale(b[0]);
  for (int j = 0; j < 16; ++j) {
    y[j] = static_cast<float>(kMxfp4Values[b[1 + j] & 15]) * d;
    y[j + 16] = static_cast<float>(kMxfp4Values[b[1 + j] >> 4]) * d;
  }
}

// scales[16] (scale in the low nibble, minimum in the high one), qs[64], d, dmin.
void decode_q2_k(const uint8_t* b, float* y) {
  const float d = load_half(b + 80), dmin = load_half(b + 82);
  for (int s = 0; s < 16; ++s) {
    const float scale = d * static_cast<float>(b[s] & 15), min = dmin * static_cast<float>(b[s] >> 4);
    const uint8_t* q = b + 16 + 32 * (s / 8) + 16 * (s % 2);
    const int shift = 2 * (s % 8 / 2);
    for (int l = 0; l < 16; ++l) y[16 * s + l] = scale * static_cast<float>((q[l] >> shift) & 3) - min;
  }
}

// hmask[32], qs[64], scales[12], d.
void decode_q3_k(const uint8_t* b, float* y) {
  const float d = load_half(b + 108);
  for (int s = 0; s < 16; ++s) {
    const float scale = d * static_cast<float>(q3_k_scale(b + 96, s));
    const uint8_t* high = b + 16 * (s % 2);
    const uint8_t* q = b + 32 + 32 * (s / 8) + 16 * (s % 2);
    const int shift = 2 * (s % 8 / 2);
    for (int l = 0; l < 16; ++l) {
      const int code = ((q[l] >> shift) & 3) - ((high[l] >> (s / 2)) & 1 ? 0 : 4);
      y[16 * s + l] = scale * static_cast<float>(code);
    }
  }
}

// d, dmin, scales[12], then for Q5_K qh[32], then qs[128].
void decode_q4_q5_k(const uint8_t* b, float* y, bool five_bits) {
  const float d = load_half(b), dmin = load_half(b + 2);
  const uint8_t* high = b + 16;
  const uint8_t* q = five_bits ? b + 48 : b + 16;
  for (int s = 0; s < 8; ++s) {
    int scale, min;
    q4_k_scale_min(b + 4, s, &scale, &min);
    const float ds = d * static_cast<float>(scale), ms = dmin * static_cast<float>(min);
    for (int l = 0; l < 32; ++l) {
      const uint8_t pair = q[32 * (s / 2) + l];
      int code = s % 2 == 0 ? pair & 15 : pair >> 4;
      if (five_bits) code |= ((high[l] >> s) & 1) << 4;
      y[32 * s + l] = ds * static_cast<float>(code) - ms;
    }
  }
}

// ql[128], qh[64], scales[16], d. Per half of 128: element 32 g + l has its high bits in qh[l] at 2 g.
void decode_q6_k(const uint8_t* b, float* y) {
  const float d = load_half(b + 208);
  for (int e = 0; e < kSuper; ++e) {
    const int half = e / 128, g = e % 128 / 32, l = e % 32;
    const uint8_t low = b[64 * half + 32 * (g % 2) + l];
    const int code = (g < 2 ? low & 15 : low >> 4) | (((b[128 + 32 * half + l] >> (2 * g)) & 3) << 4);
    y[e] = d * static_cast<float>(static_cast<int8_t>(b[192 + e / 16])) * static_cast<float>(code - 32);
  }
}

// d, scales_h (u16), scales_l[4], qs[128].
void decode_iq4_xs(const uint8_t* b, float* y) {
  const float d = load_half(b);
  const int high = load_u16(b + 2);
  for (int s = 0; s < 8; ++s) {
    const int scale = ((b[4 + s / 2] >> (4 * (s % 2))) & 15) | (((high >> (2 * s)) & 3) << 4);
    const float ds = d * static_cast<float>(scale - 32);
    const uint8_t* q = b + 8 + 16 * s;
    for (int j = 0; j < 16; ++j) {
      y[32 * s + j] = ds * static_cast<float>(kIq4Values[q[j] & 15]);
      y[32 * s + j + 16] = ds * static_cast<float>(kIq4Values[q[j] >> 4]);
    }
  }
}

// --- Encoders of one block
// -----------------------------------------------------------------------------------------------

float inverse(float x) { return x != 0.0f ? 1.0f / x : 0.0f; }

// Nearest integer (halves away from zero) within [low, high].
int nearest(float x, int low, int high) {
  return static_cast<int>(std::clamp(std::round(x), static_cast<float>(low), static_cast<float>(high)));
}

// The element of largest magnitude, with its sign.
float extreme(const float* x, int n) {
  return *std::max_element(x, x + n, [](float a, float b) { return std::fabs(a) < std::fabs(b); });
}

int nearest_in(const int8_t* values, float x) {
  int best = 0;
  for (int i = 1; i < 16; ++i) {
    if (std::fabs(x - static_cast<float>(values[i])) < std::fabs(x - static_cast<float>(values[best]))) best = i;
  }
  return best;
}

void pack_nibbles(const int* codes, uint8_t* qs) {
  for (int j = 0; j < 16; ++j) qs[j] = static_cast<uint8_t>((codes[j] & 15) | (codes[j + 16] & 15) << 4);
}

void pack_fifth_bits(const int* codes, uint8_t* qh) {
  uint32_t high = 0;
  for (int e = 0; e < 32; ++e) high |= static_cast<uint32_t>(codes[e] >> 4) << e;
  std::memcpy(qh, &high, sizeof high);
}

// Q4_0 and Q5_0: the extreme takes the code of largest magnitude, which is the negative one.
void encode_symmetric(const float* x, uint8_t* b, int bits) {
  const int zero = 1 << (bits - 1);
  const float inv = inverse(store_half(b, extreme(x, 32) / static_cast<float>(-zero)));
  int codes[32];
  for (int e = 0; e < 32; ++e) codes[e] = nearest(x[e] * inv, -zero, zero - 1) + zero;
  if (bits == 5) pack_fifth_bits(codes, b + 2);
  pack_nibbles(codes, b + (bits == 5 ? 6 : 2));
}

// Q4_1 and Q5_1: the smallest takes code 0, the largest the last code.
void encode_affine(const float* x, uint8_t* b, int bits) {
  const int last = (1 << bits) - 1;
  const auto [lo, hi] = std::minmax_element(x, x + 32);
  const float m = store_half(b + 2, *lo);
  const float inv = inverse(store_half(b, (*hi - m) / static_cast<float>(last)));
  int codes[32];
  for (int e = 0; e < 32; ++e) codes[e] = nearest((x[e] - m) * inv, 0, last);
  if (bits == 5) pack_fifth_bits(codes, b + 4);
  pack_nibbles(codes, b + (bits == 5 ? 8 : 4));
}

void encode_q8_0(const float* x, uint8_t* b) {
  const float inv = inverse(store_half(b, std::fabs(extreme(x, 32)) / 127.0f));
  for (int j = 0; j < 32; ++j) b[2 + j] = static_cast<uint8_t>(nearest(x[j] * inv, -127, 127));
}

void encode_iq4_nl(const float* x, uint8_t* b) {
  const float inv = inverse(store_half(b, extreme(x, 32) / -127.0f));
  int codes[32];
  for (int e = 0; e < 32; ++e) codes[e] = nearest_in(kIq4Values, x[e] * inv);
  pack_nibbles(codes, b + 2);
}

// Tries the exponent that clips the extreme to 6 and the next one, which does not, and keeps the smaller squared error.
void encode_mxfp4(const float* x, uint8_t* b) {
  const float largest = std::fabs(extreme(x, 32));
  const int exponent = largest > 0 ? std::ilogb(largest) - 2 + 127 : 0;
  double best = -1;
  for (int candidate = exponent; candidate <= exponent + 1; ++candidate) {
    const uint8_t e = static_cast<uint8_t>(std::clamp(candidate, 0, 254));
    const float d = mxfp4_half_scale(e);
    int codes[32];
    double error = 0;
    for (int i = 0; i < 32; ++i) {
      codes[i] = nearest_in(kMxfp4Values, x[i] / d);
      const double miss = static_cast<double>(x[i]) - static_cast<double>(kMxfp4Values[codes[i]]) * d;
      error += miss * miss;
    }
    if (best >= 0 && error >= best) continue;
    best = error;
    b[0] = e;
    pack_nibbles(codes, b + 1);
  }
}

// The fit of K blocks with minimums: x ~ d * scale * code - dmin * min. Codes are chosen last, from the rounded scales.
struct AffineFit {
  int scales[16], mins[16], codes[kSuper];
};

AffineFit fit_affine(const float* x, int sub, int last_code, int last_scale, uint8_t* d_bytes, uint8_t* dmin_bytes) {
  AffineFit fit;
  const int n_sub = kSuper / sub;
  float scales[16], mins[16];
  for (int s = 0; s < n_sub; ++s) {
    const auto [lo, hi] = std::minmax_element(x + s * sub, x + (s + 1) * sub);
    mins[s] = std::max(0.0f, -*lo);
    scales[s] = std::max(0.0f, *hi + mins[s]) / static_cast<float>(last_code);
  }
  const float d = store_half(d_bytes, *std::max_element(scales, scales + n_sub) / static_cast<float>(last_scale));
  const float dmin = store_half(dmin_bytes, *std::max_element(mins, mins + n_sub) / static_cast<float>(last_scale));
  for (int s = 0; s < n_sub; ++s) {
    fit.scales[s] = nearest(scales[s] * inverse(d), 0, last_scale);
    fit.mins[s] = nearest(mins[s] * inverse(dmin), 0, last_scale);
    const float inv = inverse(d * static_cast<float>(fit.scales[s])), min = dmin * static_cast<float>(fit.mins[s]);
    for (int i = s * sub; i < (s + 1) * sub; ++i) fit.codes[i] = nearest((x[i] + min) * inv, 0, last_code);
  }
  return fit;
}

// The fit of K blocks without minimums: x ~ d * scale * value(code), signed scales in [-last_scale - 1, last_scale].
struct SymmetricFit {
  int scales[16];
  float inverse_scales[16];
};

SymmetricFit fit_symmetric(const float* x, int sub, float lowest_value, int last_scale, uint8_t* d_bytes) {
  SymmetricFit fit;
  const int n_sub = kSuper / sub;
  float scales[16];
  for (int s = 0; s < n_sub; ++s) scales[s] = extreme(x + s * sub, sub) / lowest_value;
  const float d = store_half(d_bytes, extreme(scales, n_sub) / static_cast<float>(-last_scale - 1));
  for (int s = 0; s < n_sub; ++s) {
    fit.scales[s] = nearest(scales[s] * inverse(d), -last_scale - 1, last_scale);
    fit.inverse_scales[s] = inverse(d * static_cast<float>(fit.scales[s]));
  }
  return fit;
}

void encode_q2_k(const float* x, uint8_t* b) {
  const AffineFit fit = fit_affine(x, 16, 3, 15, b + 80, b + 82);
  for (int s = 0; s < 16; ++s) b[s] = static_cast<uint8_t>(fit.scales[s] | fit.mins[s] << 4);
  std::memset(b + 16, 0, 64);
  for (int e = 0; e < kSuper; ++e) {
    uint8_t& byte = b[16 + 32 * (e / 128) + e % 32];
    byte = static_cast<uint8_t>(byte | fit.codes[e] << (2 * (e % 128 / 32)));
  }
}

void encode_q3_k(const float* x, uint8_t* b) {
  const SymmetricFit fit = fit_symmetric(x, 16, -4.0f, 31, b + 108);
  std::memset(b, 0, 108);
  for (int s = 0; s < 16; ++s) {
    const int scale = fit.scales[s] + 32;
    b[96 + s % 8] = static_cast<uint8_t>(b[96 + s % 8] | (scale & 15) << (s < 8 ? 0 : 4));
    b[104 + s % 4] = static_cast<uint8_t>(b[104 + s % 4] | (scale >> 4) << (2 * (s / 4)));
  }
  for (int e = 0; e < kSuper; ++e) {
    const int code = nearest(x[e] * fit.inverse_scales[e / 16], -4, 3) + 4;
    uint8_t& low = b[32 + 32 * (e / 128) + e % 32];
    low = static_cast<uint8_t>(low | (code & 3) << (2 * (e % 128 / 32)));
    b[e % 32] = static_cast<uint8_t>(b[e % 32] | (code >> 2) << (e / 32));
  }
}

void encode_q4_q5_k(const float* x, uint8_t* b, bool five_bits) {
  const AffineFit fit = fit_affine(x, 32, five_bits ? 31 : 15, 63, b, b + 2);
  uint8_t* packed = b + 4;
  for (int j = 0; j < 4; ++j) {
    packed[j] = static_cast<uint8_t>(fit.scales[j] | (fit.scales[j + 4] >> 4) << 6);
    packed[j + 4] = static_cast<uint8_t>(fit.mins[j] | (fit.mins[j + 4] >> 4) << 6);
    packed[j + 8] = static_cast<uint8_t>((fit.scales[j + 4] & 15) | (fit.mins[j + 4] & 15) << 4);
  }
  uint8_t* high = b + 16;
  uint8_t* q = five_bits ? b + 48 : b + 16;
  std::memset(high, 0, five_bits ? 32 + 128 : 128);
  for (int e = 0; e < kSuper; ++e) {
    uint8_t& byte = q[32 * (e / 64) + e % 32];
    byte = static_cast<uint8_t>(byte | (fit.codes[e] & 15) << (e % 64 < 32 ? 0 : 4));
    if (five_bits) high[e % 32] = static_cast<uint8_t>(high[e % 32] | (fit.codes[e] >> 4) << (e / 32));
  }
}

void encode_q6_k(const float* x, uint8_t* b) {
  const SymmetricFit fit = fit_symmetric(x, 16, -32.0f, 127, b + 208);
  std::memset(b, 0, 192);
  for (int s = 0; s < 16; ++s) b[192 + s] = static_cast<uint8_t>(fit.scales[s]);
  for (int e = 0; e < kSuper; ++e) {
    const int code = nearest(x[e] * fit.inverse_scales[e / 16], -32, 31) + 32;
    const int half = e / 128, g = e % 128 / 32, l = e % 32;
    uint8_t& low = b[64 * half + 32 * (g % 2) + l];
    low = static_cast<uint8_t>(low | (code & 15) << (g < 2 ? 0 : 4));
    uint8_t& high = b[128 + 32 * half + l];
    high = static_cast<uint8_t>(high | (code >> 4) << (2 * g));
  }
}

void encode_iq4_xs(const float* x, uint8_t* b) {
  const SymmetricFit fit = fit_symmetric(x, 32, -127.0f, 31, b);
  std::memset(b + 4, 0, 4);
  uint32_t high = 0;
  for (int s = 0; s < 8; ++s) {
    const uint32_t scale = static_cast<uint32_t>(fit.scales[s] + 32);
    high |= (scale >> 4) << (2 * s);
    b[4 + s / 2] = static_cast<uint8_t>(b[4 + s / 2] | (scale & 15) << (4 * (s % 2)));
    int codes[32];
    for (int i = 0; i < 32; ++i) codes[i] = nearest_in(kIq4Values, x[32 * s + i] * fit.inverse_scales[s]);
    pack_nibbles(codes, b + 8 + 16 * s);
  }
  const uint16_t high16 = static_cast<uint16_t>(high);
  std::memcpy(b + 2, &high16, sizeof high16);
}

}  // namespace

float mxfp4_half_scale(uint8_t e) {
  // 2^(e-128): a denormal for e of 0 and 1.
  return std::bit_cast<float>(e < 2 ? 0x00200000u << e : static_cast<uint32_t>(e - 1) << 23);
}

void q4_k_scale_min(const uint8_t* packed, int j, int* scale, int* min) {
  if (j < 4) {
    *scale = packed[j] & 63;
    *min = packed[j + 4] & 63;
  } else {
    *scale = (packed[j + 4] & 15) | (packed[j - 4] >> 6) << 4;
    *min = packed[j + 4] >> 4 | (packed[j] >> 6) << 4;
  }
}

int q3_k_scale(const uint8_t* packed, int j) {
  const int low = j < 8 ? packed[j] & 15 : packed[j - 8] >> 4;
  const int high = (packed[8 + j % 4] >> (2 * (j / 4))) & 3;
  return (low | high << 4) - 32;
}

void dequantize_row(DType type, const uint8_t* src, float* dst, int64_t n) {
  const DTypeInfo& info = dtype_info(type);
  if (type == DType::kF32) {
    if (n > 0) std::memcpy(dst, src, static_cast<size_t>(n) * sizeof *dst);
    return;
  }
  for (int64_t i = 0; i < n; i += info.block, src += info.bytes, dst += info.block) {
    switch (type) {
      case DType::kF32: break;
      case DType::kF16: *dst = load_half(src); break;
      case DType::kBF16: *dst = bf16_to_float(load_u16(src)); break;
      case DType::kQ4_0: decode_q4_0(src, dst); break;
      case DType::kQ4_1: decode_q4_1(src, dst); break;
      case DType::kQ5_0: decode_q5_0(src, dst); break;
      case DType::kQ5_1: decode_q5_1(src, dst); break;
      case DType::kQ8_0: decode_q8_0(src, dst); break;
      case DType::kQ2_K: decode_q2_k(src, dst); break;
      case DType::kQ3_K: decode_q3_k(src, dst); break;
      case DType::kQ4_K: decode_q4_q5_k(src, dst, false); break;
      case DType::kQ5_K: decode_q4_q5_k(src, dst, true); break;
      case DType::kQ6_K: decode_q6_k(src, dst); break;
      case DType::kIQ4_NL: decode_iq4_nl(src, dst); break;
      case DType::kIQ4_XS: decode_iq4_xs(src, dst); break;
      case DType::kMXFP4: decode_mxfp4(src, dst); break;
    }
  }
}

Status quantize_row(DType type, const float* src, uint8_t* dst, int64_t n) {
  const DTypeInfo& info = dtype_info(type);
  if (n < 0 || n % info.block != 0) {
    return Status::invalid_argument(
        "{} values cannot be stored as {}: its blocks hold {}; choose another type or length", n, info.name,
        info.block);
  }
  const bool wide_range = type == DType::kF32 || type == DType::kBF16 || type == DType::kMXFP4;
  for (int64_t i = 0; i < n; ++i) {
    if (!std::isfinite(src[i]) || (!wide_range && std::fabs(src[i]) > 65504.0f)) {
      return Status::invalid_argument("value {} at index {} cannot be stored as {}", src[i], i, info.name);
    }
  }
  for (int64_t i = 0; i < n; i += info.block, src += info.block, dst += info.bytes) {
    switch (type) {
      case DType::kF32: std::memcpy(dst, src, sizeof *src); break;
      case DType::kF16: store_half(dst, *src); break;
      case DType::kBF16: {
        const uint16_t h = float_to_bf16(*src);
        std::memcpy(dst, &h, sizeof h);
        break;
      }
      case DType::kQ4_0: encode_symmetric(src, dst, 4); break;
      case DType::kQ4_1: encode_affine(src, dst, 4); break;
      case DType::kQ5_0: encode_symmetric(src, dst, 5); break;
      case DType::kQ5_1: encode_affine(src, dst, 5); break;
      case DType::kQ8_0: encode_q8_0(src, dst); break;
      case DType::kQ2_K: encode_q2_k(src, dst); break;
      case DType::kQ3_K: encode_q3_k(src, dst); break;
      case DType::kQ4_K: encode_q4_q5_k(src, dst, false); break;
      case DType::kQ5_K: encode_q4_q5_k(src, dst, true); break;
      case DType::kQ6_K: encode_q6_k(src, dst); break;
      case DType::kIQ4_NL: encode_iq4_nl(src, dst); break;
      case DType::kIQ4_XS: encode_iq4_xs(src, dst); break;
      case DType::kMXFP4: encode_mxfp4(src, dst); break;
    }
  }
  return {};
}

}  // namespace decant
