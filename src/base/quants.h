// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Portable codecs of every element type. Decoding is the definition that kernels are tested against; encoding is simple
// (one fit per block, no search) and serves to make models for tests and conversions where speed and the last percent
// of quality do not matter. Blocks are little-endian and laid out as in GGUF files (ggml-common.h of llama.cpp).
#pragma once

#include <cstdint>

#include "base/dtype.h"
#include "base/status.h"

namespace decant {

// The 16 values of a code of IQ4_NL and IQ4_XS, and of MXFP4 (there in halves: 12 stands for 6.0).
inline constexpr int8_t kIq4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
inline constexpr int8_t kMxfp4Values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

// Half of MXFP4's block scale 2^(e-127): kMxfp4Values counts halves.
float mxfp4_half_scale(uint8_t e);
// 6-bit scale and minimum of sub-block j (0..7) of Q4_K and Q5_K, packed in 12 bytes.
void q4_k_scale_min(const uint8_t* packed, int j, int* scale, int* min);
// 6-bit scale (-32..31) of sub-block j (0..15) of Q3_K, packed in 12 bytes.
int q3_k_scale(const uint8_t* packed, int j);

// Decodes `n` elements. Every product and sum is one float operation in the order of llama.cpp's reference without
// contraction: scale times code, then minus (or plus) the minimum. Preconditions: `type` is an enumerator, n a multiple
// of its block, src holds row_bytes(type, n) bytes (any alignment).
void dequantize_row(DType type, const uint8_t* src, float* dst, int64_t n);

// Encodes `n` elements into row_bytes(type, n) bytes. kInvalidArgument when n is not a multiple of the block, when a
// value is not finite, or when its magnitude is over 65504 and the type cannot hold that.
Status quantize_row(DType type, const float* src, uint8_t* dst, int64_t n);

}  // namespace decant
