// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// How a weight matrix lies in device memory. Files' block formats are repacked once, at load, into one layout that
// every table reads: 16 output rows (a group) are interleaved so that a vector lane is an output row.
//
// A quantized weight is a matrix of unsigned codes u with, for each row and sub-block of `sub` columns, a scale s and
// possibly a minimum m:  w = s * (u - zero) + m.  All of GGUF's formats are cases of this (bits, sub, zero, minimum,
// scales):
//   Q4_0 (4,32,8,-,f16)  Q4_1 (4,32,0,m,f16)  Q5_0 (5,32,16,-,f16)  Q5_1 (5,32,0,m,f16)  Q8_0 (8,32,128,-,f16)
//   Q2_K (4,16,0,m,super)  Q3_K (4,16,4,-,super)  Q4_K (4,32,0,m,super)  Q5_K (5,32,0,m,super)  Q6_K (6,16,32,-,super)
//   IQ4_NL (4,32,128,-,f16)  IQ4_XS (4,32,128,-,super)  MXFP4 (4,32,128,-,f32): u is table[code]
// Codes of 8 bits have zero 128. Scales are fp16 where the file's are. `super`: the file has one fp16 number d for 256
// columns and a small integer n for each sub-block, and so have we; the scale is the product d * n, which fp32 holds
// exactly (minimums likewise, of a second d, which is negated).
//
// Memory: for group g of ceil(rows/16), for block b of cols/32:
//   header  only `super`, before every eighth block: 16 fp16 numbers d of the scales, then, if has_min, of the minimums
//   codes   bits 8: 8 vectors of 64 bytes; byte 4*r + i of vector j is the code of row 16g + r, column 32b + 4j + i.
//           bits 4: 4 vectors of 64 bytes; byte 4*r + i of vector j holds column 32b + 4j + i in its low and column
//           32b + 16 + 4j + i in its high nibble.
//           bits 5: as 4, then a vector: bit j of byte 4*r + i is the high bit of column 32b + 4j + i.
//           bits 6: as 4, then two vectors: bits 2k and 2k + 1 of byte 4*r + i of the vector h are the high bits of
//           column 32b + 16h + 4k + i.
//   scales  (32/sub) x 16 numbers (fp16, fp32, or signed bytes n): sub-block major, row minor
//   mins    likewise, if has_min
// Rows beyond the matrix have scale 0. A float weight is [group][column][16 rows] of its own type.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/dtype.h"
#include "base/status.h"
#include "kernels/device.h"

namespace decant {

inline constexpr int kGroupRows = 16;
inline constexpr int kBlockCols = 32;

inline constexpr int kSuperBlocks = 8;  // blocks that share a header

enum class ScaleKind : uint8_t { kF16, kF32, kSuper };
enum class CodeTable : uint8_t { kNone, kIq4, kMxfp4 };  // what codes stand for: themselves, or table entries + 128

struct WeightLayout {
  bool quantized = false;
  DType float_type = DType::kF32;  // when not quantized
  int bits = 8;                    // 4, 5, 6 or 8
  int sub = 32;                    // 16 or 32
  int zero = 0;
  bool has_min = false;
  ScaleKind scales = ScaleKind::kF16;
  CodeTable table = CodeTable::kNone;

  constexpr size_t number_bytes() const { return scales == ScaleKind::kF32 ? 4 : scales == ScaleKind::kF16 ? 2 : 1; }
  constexpr size_t code_bytes() const { return static_cast<size_t>(bits) * 64; }
  constexpr size_t scale_bytes() const { return static_cast<size_t>(kBlockCols / sub) * kGroupRows * number_bytes(); }
  // Bytes of one block of a group (16 rows x 32 columns) of a quantized weight.
  constexpr size_t block_bytes() const { return code_bytes() + scale_bytes() * (has_min ? 2 : 1); }
  constexpr size_t header_bytes() const {
    return scales == ScaleKind::kSuper ? size_t{kGroupRows} * 2 * (has_min ? 2 : 1) : 0;
  }
  // Where block b of a group begins, and the header that it uses.
  constexpr size_t block_offset(int64_t b) const {
    return static_cast<size_t>(b) * block_bytes() + static_cast<size_t>(b / kSuperBlocks + 1) * header_bytes();
  }
  constexpr size_t header_offset(int64_t b) const {
    return static_cast<size_t>(b / kSuperBlocks) * (kSuperBlocks * block_bytes() + header_bytes());
  }
  // Bytes of one group of 16 rows.
  size_t group_bytes(int64_t cols) const {
    if (!quantized) return static_cast<size_t>(cols) * kGroupRows * static_cast<size_t>(dtype_info(float_type).bytes);
    const auto blocks = static_cast<size_t>(cols / kBlockCols);
    return blocks * block_bytes() + blocks / kSuperBlocks * header_bytes();
  }
  bool operator==(const WeightLayout&) const = default;
};

WeightLayout layout_of(DType type);

// A matrix in device memory: y[o] = sum_k w[o][k] x[k]. A view; Model owns the memory.
struct Weight {
  WeightLayout layout;
  DType type = DType::kF32;  // the file's
  int64_t rows = 0;          // outputs
  int64_t cols = 0;          // inputs
  DevPtr<const uint8_t> data;

  int64_t groups() const { return (rows + kGroupRows - 1) / kGroupRows; }
  size_t bytes() const { return static_cast<size_t>(groups()) * layout.group_bytes(cols); }
};

// Packs rows [16g, 16(g + n_groups)) of a matrix in a file's format. `src` is the whole matrix (rows x row_bytes(type,
// cols)); `dst` takes n_groups * group_bytes(cols) bytes of host memory. Works on any bytes (NaN and infinite scales
// are kept as they are). Precondition: cols is a multiple of the type's block and, for quantized types, of 32.
void pack_groups(DType type, int64_t rows, int64_t cols, const uint8_t* src, int64_t first_group, int64_t n_groups,
                 uint8_t* dst);

}  // namespace decant
