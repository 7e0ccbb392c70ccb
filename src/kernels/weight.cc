// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/weight.h"

#include <algorithm>
#include <cstring>

#include "base/half.h"
#include "base/quants.h"

namespace decant {

WeightLayout layout_of(DType type) {
  const auto quantized = [](int bits, int sub, int zero, bool has_min, ScaleKind scales,
                            CodeTable table = CodeTable::kNone) {
    return WeightLayout{.quantized = true,
                        .bits = bits,
                        .sub = sub,
                        .zero = zero,
                        .has_min = has_min,
                        .scales = scales,
                        .table = table};
  };
  using enum ScaleKind;
  switch (type) {
    case DType::kF32:
    case DType::kF16:
    case DType::kBF16: return WeightLayout{.float_type = type};
    case DType::kQ4_0: return quantized(4, 32, 8, false, kF16);
    case DType::kQ4_1: return quantized(4, 32, 0, true, kF16);
    case DType::kQ5_0: return quantized(5, 32, 16, false, kF16);
    case DType::kQ5_1: return quantized(5, 32, 0, true, kF16);
    case DType::kQ8_0: return quantized(8, 32, 128, false, kF16);
    case DType::kIQ4_NL: return quantized(4, 32, 128, false, kF16, CodeTable::kIq4);
    case DType::kIQ4_XS: return quantized(4, 32, 128, false, kSuper, CodeTable::kIq4);
    case DType::kMXFP4: return quantized(4, 32, 128, false, kF32, CodeTable::kMxfp4);
    case DType::kQ2_K: return quantized(4, 16, 0, true, kSuper);
    case DType::kQ3_K: return quantized(4, 16, 4, false, kSuper);
    case DType::kQ4_K: return quantized(4, 32, 0, true, kSuper);
    case DType::kQ5_K: return quantized(5, 32, 0, true, kSuper);
    case DType::kQ6_K: return quantized(6, 16, 32, false, kSuper);
  }
  return {};
}

namespace {

uint16_t read_u16(const uint8_t* p) {
  uint16_t v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

// 32 columns of one row in the terms of weight.h.
struct Unpacked {
  uint8_t codes[32];
  float scale32;              // ScaleKind::kF32
  uint16_t scale16, min16;    // kF16; kSuper: the header's numbers
  int8_t scale8[2], min8[2];  // kSuper
};

// Column block `b` (32 columns) of the row at `row`.
template <DType kType>
void unpack(const uint8_t* row, int64_t b, Unpacked* u) {
  constexpr int kSuper = kSuperBlocks;
  [[maybe_unused]] constexpr uint16_t kMinus = 0x8000;  // changes a half's sign
  [[maybe_unused]] const int k = static_cast<int>(b % kSuper);
  const auto nibbles = [&](const uint8_t* q) {
    for (int i = 0; i < 16; ++i) {
      u->codes[i] = q[i] & 15;
      u->codes[16 + i] = q[i] >> 4;
    }
  };
  const auto fifth_bits = [&](uint32_t high) {
    for (int i = 0; i < 32; ++i) u->codes[i] |= static_cast<uint8_t>((high >> i & 1) << 4);
  };
  if constexpr (kType == DType::kQ4_0) {
    const uint8_t* p = row + b * 18;
    u->scale16 = read_u16(p);
    nibbles(p + 2);
  } else if constexpr (kType == DType::kQ4_1) {
    const uint8_t* p = row + b * 20;
    u->scale16 = read_u16(p);
    u->min16 = read_u16(p + 2);
    nibbles(p + 4);
  } else if constexpr (kType == DType::kQ5_0 || kType == DType::kQ5_1) {
    constexpr int kMin = kType == DType::kQ5_1 ? 2 : 0;
    const uint8_t* p = row + b * (22 + kMin);
    u->scale16 = read_u16(p);
    if (kMin != 0) u->min16 = read_u16(p + 2);
    uint32_t high;
    std::memcpy(&high, p + 2 + kMin, sizeof high);
    nibbles(p + 6 + kMin);
    fifth_bits(high);
  } else if constexpr (kType == DType::kQ8_0) {
    const uint8_t* p = row + b * 34;
    u->scale16 = read_u16(p);
    for (int i = 0; i < 32; ++i) u->codes[i] = static_cast<uint8_t>(p[2 + i] ^ 0x80);
  } else if constexpr (kType == DType::kIQ4_NL) {
    const uint8_t* p = row + b * 18;
    u->scale16 = read_u16(p);
    nibbles(p + 2);
  } else if constexpr (kType == DType::kMXFP4) {
    const uint8_t* p = row + b * 17;
    u->scale32 = mxfp4_half_scale(p[0]);
    nibbles(p + 1);
  } else if constexpr (kType == DType::kIQ4_XS) {
    const uint8_t* p = row + b / kSuper * 136;
    const int low = p[4 + k / 2] >> (4 * (k % 2)) & 15;
    const int high = read_u16(p + 2) >> (2 * k) & 3;
    u->scale16 = read_u16(p);
    u->scale8[0] = static_cast<int8_t>((low | high << 4) - 32);
    nibbles(p + 8 + 16 * k);
  } else if constexpr (kType == DType::kQ4_K || kType == DType::kQ5_K) {
    constexpr bool kFive = kType == DType::kQ5_K;
    const uint8_t* p = row + b / kSuper * (kFive ? 176 : 144);
    int scale, min;
    q4_k_scale_min(p + 4, k, &scale, &min);
    u->scale16 = read_u16(p);
    u->min16 = read_u16(p + 2) ^ kMinus;
    u->scale8[0] = static_cast<int8_t>(scale);
    u->min8[0] = static_cast<int8_t>(min);
    const uint8_t* q = p + 16 + (kFive ? 32 : 0) + 32 * (k / 2);
    for (int i = 0; i < 32; ++i) {
      u->codes[i] = k % 2 == 0 ? q[i] & 15 : q[i] >> 4;
      if (kFive) u->codes[i] |= static_cast<uint8_t>((p[16 + i] >> k & 1) << 4);
    }
  } else if constexpr (kType == DType::kQ2_K) {
    const uint8_t* p = row + b / kSuper * 84;
    const uint8_t* q = p + 16 + 32 * (k / 4);
    u->scale16 = read_u16(p + 80);
    u->min16 = read_u16(p + 82) ^ kMinus;
    for (int h = 0; h < 2; ++h) {
      const uint8_t s = p[2 * k + h];
      u->scale8[h] = static_cast<int8_t>(s & 15);
      u->min8[h] = static_cast<int8_t>(s >> 4);
    }
    for (int i = 0; i < 32; ++i) u->codes[i] = q[i] >> (2 * (k % 4)) & 3;
  } else if constexpr (kType == DType::kQ3_K) {
    const uint8_t* p = row + b / kSuper * 110;
    const uint8_t* q = p + 32 + 32 * (k / 4);
    u->scale16 = read_u16(p + 108);
    for (int h = 0; h < 2; ++h) u->scale8[h] = static_cast<int8_t>(q3_k_scale(p + 96, 2 * k + h));
    for (int i = 0; i < 32; ++i) {
      u->codes[i] = static_cast<uint8_t>((q[i] >> (2 * (k % 4)) & 3) | (p[i] >> k & 1) << 2);
    }
  } else if constexpr (kType == DType::kQ6_K) {
    const uint8_t* p = row + b / kSuper * 210;
    const int half = k / 4;
    const int quarter = k % 4;
    const uint8_t* low = p + 64 * half + 32 * (quarter % 2);
    const uint8_t* high = p + 128 + 32 * half;
    u->scale16 = read_u16(p + 208);
    for (int h = 0; h < 2; ++h) u->scale8[h] = static_cast<int8_t>(p[192 + 8 * half + 2 * quarter + h]);
    for (int i = 0; i < 32; ++i) {
      const int four = quarter < 2 ? low[i] & 15 : low[i] >> 4;
      u->codes[i] = static_cast<uint8_t>(four | (high[i] >> (2 * quarter) & 3) << 4);
    }
  }
}

// Row r's codes of a block, at their places in the block's vectors.
void place_codes(const WeightLayout& l, const uint8_t* codes, int r, uint8_t* out) {
  if (l.bits == 8) {
    for (int j = 0; j < 8; ++j) std::memcpy(out + 64 * j + 4 * r, codes + 4 * j, 4);
    return;
  }
  for (int j = 0; j < 4; ++j) {
    for (int i = 0; i < 4; ++i) {
      out[64 * j + 4 * r + i] = static_cast<uint8_t>((codes[4 * j + i] & 15) | (codes[16 + 4 * j + i] & 15) << 4);
    }
  }
  if (l.bits == 4) return;
  for (int i = 0; i < 4; ++i) {
    if (l.bits == 5) {
      uint32_t high = 0;
      for (int j = 0; j < 8; ++j) high |= static_cast<uint32_t>(codes[4 * j + i] >> 4 & 1) << j;
      out[256 + 4 * r + i] = static_cast<uint8_t>(high);
    } else {
      for (int h = 0; h < 2; ++h) {
        uint32_t high = 0;
        for (int k = 0; k < 4; ++k) high |= static_cast<uint32_t>(codes[16 * h + 4 * k + i] >> 4 & 3) << (2 * k);
        out[256 + 64 * h + 4 * r + i] = static_cast<uint8_t>(high);
      }
    }
  }
}

template <DType kType>
void pack_quantized(int64_t rows, int64_t cols, const uint8_t* src, int64_t first_group, int64_t n_groups,
                    uint8_t* dst) {
  const WeightLayout l = layout_of(kType);
  const size_t src_row = row_bytes(kType, cols);
  const int subs = kBlockCols / l.sub;
  for (int64_t g = 0; g < n_groups; ++g) {
    for (int r = 0; r < kGroupRows; ++r) {
      const int64_t row = (first_group + g) * kGroupRows + r;
      uint8_t* group = dst + static_cast<size_t>(g) * l.group_bytes(cols);
      for (int64_t b = 0; b < cols / kBlockCols; ++b) {
        Unpacked u{};
        if (row < rows) unpack<kType>(src + static_cast<size_t>(row) * src_row, b, &u);
        uint8_t* out = group + l.block_offset(b);
        place_codes(l, u.codes, r, out);
        uint8_t* scales = out + l.code_bytes();
        uint8_t* mins = scales + l.scale_bytes();
        switch (l.scales) {
          case ScaleKind::kF32: std::memcpy(scales + 4 * r, &u.scale32, 4); break;
          case ScaleKind::kF16:
            std::memcpy(scales + 2 * r, &u.scale16, 2);
            if (l.has_min) std::memcpy(mins + 2 * r, &u.min16, 2);
            break;
          case ScaleKind::kSuper:
            for (int s = 0; s < subs; ++s) {
              std::memcpy(scales + s * kGroupRows + r, &u.scale8[s], 1);
              if (l.has_min) std::memcpy(mins + s * kGroupRows + r, &u.min8[s], 1);
            }
            if (b % kSuperBlocks == 0) {
              uint8_t* header = group + l.header_offset(b) + 2 * r;
              std::memcpy(header, &u.scale16, 2);
              if (l.has_min) std::memcpy(header + 2 * kGroupRows, &u.min16, 2);
            }
            break;
        }
      }
    }
  }
}

template <typename T>
void pack_float(int64_t rows, int64_t cols, const uint8_t* src, int64_t first_group, int64_t n_groups, uint8_t* dst) {
  for (int64_t g = 0; g < n_groups; ++g) {
    uint8_t* out = dst + static_cast<size_t>(g * cols * kGroupRows) * sizeof(T);
    for (int r = 0; r < kGroupRows; ++r) {
      const int64_t row = (first_group + g) * kGroupRows + r;
      const uint8_t* in = src + static_cast<size_t>(row * cols) * sizeof(T);
      for (int64_t c = 0; c < cols; ++c) {
        T value{};
        if (row < rows) std::memcpy(&value, in + static_cast<size_t>(c) * sizeof(T), sizeof(T));
        std::memcpy(out + static_cast<size_t>(c * kGroupRows + r) * sizeof(T), &value, sizeof(T));
      }
    }
  }
}

}  // namespace

void pack_groups(DType type, int64_t rows, int64_t cols, const uint8_t* src, int64_t first_group, int64_t n_groups,
                 uint8_t* dst) {
  switch (type) {
    case DType::kF32: return pack_float<uint32_t>(rows, cols, src, first_group, n_groups, dst);
    case DType::kF16:
    case DType::kBF16: return pack_float<uint16_t>(rows, cols, src, first_group, n_groups, dst);
#define DECANT_PACK(name) \
  case DType::name: return pack_quantized<DType::name>(rows, cols, src, first_group, n_groups, dst)
      DECANT_PACK(kQ4_0);
      DECANT_PACK(kQ4_1);
      DECANT_PACK(kQ5_0);
      DECANT_PACK(kQ5_1);
      DECANT_PACK(kQ8_0);
      DECANT_PACK(kQ2_K);
      DECANT_PACK(kQ3_K);
      DECANT_PACK(kQ4_K);
      DECANT_PACK(kQ5_K);
      DECANT_PACK(kQ6_K);
      DECANT_PACK(kIQ4_NL);
      DECANT_PACK(kIQ4_XS);
      DECANT_PACK(kMXFP4);
#undef DECANT_PACK
  }
}

}  // namespace decant
