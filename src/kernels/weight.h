// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// How a weight matrix lies in device memory. Files' block formats are repacked once, at load, into one layout that
// every table reads: 16 output rows (a group) are interleaved so that a vector lane is an output row.
//
// A quantized weight is a matrix of unsigned codes u with, for each row and sub-block of `sub` columns, a scale s and
// possibly a minimum m:  w = s * (u - zero) + m.  All of GGUF's formats are cases of this (bits, sub, zero, has_min):
//   Q4_0 (4,32,8,-)  Q4_1 (4,32,0,m)  Q5_0 (8,32,16,-)  Q5_1 (8,32,0,m)  Q8_0 (8,32,128,-)  IQ4_NL, IQ4_XS, MXFP4
//   (8,32,128,-) Q2_K (4,16,0,m)  Q3_K (4,16,4,-)  Q4_K (4,32,0,m)  Q5_K (8,32,0,m)  Q6_K (8,16,32,-)
// Codes of 8 bits are at most 63 unless zero is 128: kernels rely on that.
// Scales are fp16 where the file's are; for the K types, IQ4_XS and MXFP4 they are fp32: the products d*sc and -dmin*mn
// are exact.
//
// Memory: for group g of ceil(rows/16), for block b of cols/32:
//   codes   bits 8: 8 vectors of 64 bytes; byte 4*r + i of vector j is the code of row 16g + r, column 32b + 4j + i.
//           bits 4: 4 vectors of 64 bytes; byte 4*r + i of vector j holds column 32b + 4j + i in its low and column
//           32b + 16 + 4j + i in its high nibble.
//   scales  (32/sub) x 16 numbers: sub-block major, row minor
//   mins    likewise, if has_min
// Rows beyond the matrix are zero codes with scale 0. A float weight is [group][column][16 rows] of its own type.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/dtype.h"
#include "base/status.h"
#include "kernels/device.h"

namespace decant {

inline constexpr int kGroupRows = 16;
inline constexpr int kBlockCols = 32;

struct WeightLayout {
  bool quantized = false;
  DType float_type = DType::kF32;  // when not quantized
  int bits = 8;                    // 4 or 8
  int sub = 32;                    // 16 or 32
  int zero = 0;
  bool has_min = false;
  bool f32_scales = false;

  size_t code_bytes() const { return static_cast<size_t>(bits) * 64; }
  size_t scale_bytes() const { return static_cast<size_t>(kBlockCols / sub) * kGroupRows * (f32_scales ? 4 : 2); }
  // Bytes of one block of a group (16 rows x 32 columns) of a quantized weight.
  size_t block_bytes() const { return code_bytes() + scale_bytes() * (has_min ? 2 : 1); }
  // Bytes of one group of 16 rows.
  size_t group_bytes(int64_t cols) const {
    return quantized ? static_cast<size_t>(cols / kBlockCols) * block_bytes()
                     : static_cast<size_t>(cols) * kGroupRows * static_cast<size_t>(dtype_info(float_type).bytes);
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
