// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "base/quants.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "base/half.h"
#include "base/rng.h"

namespace decant {
namespace {

// What llama.cpp's ggml_get_type_traits(type)->to_float (reference code, no FMA) makes of 4096 elements whose byte i is
// the low byte of random_bits({.seed = type}, i): FNV-1a over the 32-bit patterns (NaN as 7fc00000), and elements 0,
// 1234 and 4095.
struct Golden {
  DType type;
  uint64_t hash;
  uint32_t bits[3];
};
constexpr Golden kGolden[] = {
    {DType::kF32, 0x696d482c04c06883, {0xd84c8dd5, 0x17ec3ec7, 0x79ff9f0b}},
    {DType::kF16, 0xa24579d276fb0325, {0xbf8e0000, 0x38a80000, 0xbe728000}},
    {DType::kQ4_0, 0x1f6cf33a0a0f4325, {0x7fc00000, 0x42f5c000, 0x41aab800}},
    {DType::kQ4_1, 0x4d780c8c839630d4, {0xc72b59dc, 0x43db1800, 0x3b0ba900}},
    {DType::kQ5_0, 0x2b0175485b635725, {0xba8c6000, 0x46b67000, 0xc1758000}},
    {DType::kQ5_1, 0xf2d45e02ed1a9f9e, {0xc585a000, 0x4817d700, 0x48496900}},
    {DType::kQ8_0, 0xe2c07f4e8c2679e5, {0xc80c8500, 0xc37a2000, 0xc84e0800}},
    {DType::kQ2_K, 0x3157c02f053f4da8, {0xc6eaf601, 0x4310eb7b, 0xbfe29740}},
    {DType::kQ3_K, 0xcfca15a9da6477a5, {0x42d7a000, 0x489e8000, 0x80000000}},
    {DType::kQ4_K, 0xfb900fc71df9e82a, {0x44112000, 0x4656f300, 0x431c2700}},
    {DType::kQ5_K, 0x5c004178eb250b22, {0x7fc00000, 0x46873260, 0xc625a7f8}},
    {DType::kQ6_K, 0x6186b0065e4ff731, {0xca86ca48, 0x3eaeea00, 0xc5597d60}},
    {DType::kIQ4_NL, 0x8d39cd619f272b25, {0xc9c10880, 0x3ffbf900, 0x49081800}},
    {DType::kIQ4_XS, 0x577df0f6f189832d, {0x47e0856c, 0x41e045c0, 0x4b691c90}},
    {DType::kBF16, 0xb0ab24c5d8f36325, {0x928e0000, 0x10a30000, 0xde270000}},
    {DType::kMXFP4, 0x9de4d7bd8ebb6325, {0xe7000000, 0x25000000, 0x07c00000}},
};

constexpr int64_t kElements = 4096;

std::vector<uint8_t> random_bytes(DType type) {
  std::vector<uint8_t> bytes(row_bytes(type, kElements));
  for (size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<uint8_t>(random_bits({.seed = static_cast<uint64_t>(type)}, static_cast<uint32_t>(i)));
  }
  return bytes;
}

uint32_t pattern(float x) { return std::isnan(x) ? 0x7fc00000u : std::bit_cast<uint32_t>(x); }

TEST(Quants, DecodingEqualsLlamaCppBitForBit) {
  size_t covered = 0;
  for (const Golden& golden : kGolden) {
    std::vector<float> values(kElements);
    dequantize_row(golden.type, random_bytes(golden.type).data(), values.data(), kElements);
    uint64_t hash = 14695981039346656037u;
    for (float value : values) hash = (hash ^ pattern(value)) * 1099511628211u;
    const std::string_view name = dtype_info(golden.type).name;
    EXPECT_EQ(hash, golden.hash) << name;
    EXPECT_EQ(pattern(values[0]), golden.bits[0]) << name;
    EXPECT_EQ(pattern(values[1234]), golden.bits[1]) << name;
    EXPECT_EQ(pattern(values[4095]), golden.bits[2]) << name;
    ++covered;
  }
  EXPECT_EQ(covered, static_cast<size_t>(all_dtypes().end() - all_dtypes().begin()));
}

TEST(Quants, DecodingAcceptsUnalignedBytesAndNoElements) {
  for (const DTypeInfo& info : all_dtypes()) {
    const std::vector<uint8_t> bytes = random_bytes(info.type);
    std::vector<uint8_t> shifted(bytes.size() + 1);
    std::copy(bytes.begin(), bytes.end(), shifted.begin() + 1);
    std::vector<float> a(kElements), b(kElements);
    dequantize_row(info.type, bytes.data(), a.data(), kElements);
    dequantize_row(info.type, shifted.data() + 1, b.data(), kElements);
    for (int64_t i = 0; i < kElements; ++i) {
      const auto at = static_cast<size_t>(i);
      ASSERT_EQ(pattern(a[at]), pattern(b[at])) << info.name << ' ' << i;
    }
    dequantize_row(info.type, nullptr, nullptr, 0);
  }
}

// Largest error of an element as a share of the largest magnitude in its block (of its own magnitude for floats).
// Derivation: half a step, or a whole one where the code range lacks the positive end (Q4_0, Q5_0, Q3_K, Q6_K) and the
// distance of the clipped end for IQ4 (14/127) and MXFP4 (8 against 6); K types and IQ4_XS add half a step of the
// quantized scale times the largest code and half a step of the quantized minimum. Rounding to half adds 2^-11 of the
// range.
double error_share(DType type) {
  switch (type) {
    case DType::kF32: return 0;
    case DType::kF16: return 0x1p-11;
    case DType::kBF16: return 0x1p-8;
    case DType::kQ4_0: return 1.0 / 8 + 0.001;
    case DType::kQ4_1: return 1.0 / 15 + 0.002;
    case DType::kQ5_0: return 1.0 / 16 + 0.001;
    case DType::kQ5_1: return 1.0 / 31 + 0.002;
    case DType::kQ8_0: return 0.5 / 127 + 0.001;
    case DType::kQ2_K: return 1.0 / 3 + 2.0 / 30 + 1.0 / 30 + 0.002;
    case DType::kQ3_K: return 1.0 / 4 + 1.0 / 64 + 0.001;
    case DType::kQ4_K: return 1.0 / 15 + 2.0 / 126 + 1.0 / 126 + 0.002;
    case DType::kQ5_K: return 1.0 / 31 + 2.0 / 126 + 1.0 / 126 + 0.002;
    case DType::kQ6_K: return 1.0 / 32 + 1.0 / 256 + 0.001;
    case DType::kIQ4_NL: return 14.0 / 127 + 0.001;
    case DType::kIQ4_XS: return 14.0 / 127 + 1.0 / 64 + 0.001;
    case DType::kMXFP4: return 2.0 / 8;
  }
  return 0;
}

std::vector<float> sample(int shape) {
  std::vector<float> x(kElements);
  for (size_t i = 0; i < x.size(); ++i) {
    const auto index = static_cast<uint32_t>(i);
    const float u = static_cast<float>(random_uniform({.seed = 77}, index));
    const float g = gumbel_noise({.seed = 78}, index);
    switch (shape) {
      case 0: x[i] = u - 0.5f; break;
      case 1: x[i] = 0.02f * g; break;
      case 2: x[i] = i % 61 == 0 ? 40.0f * (u - 0.5f) : 0.1f * g; break;  // outliers
      case 3: x[i] = 3.0f + u; break;                                     // all positive
      case 4: x[i] = -1000.0f * u; break;                                 // all negative
      case 5: x[i] = 0.25f; break;
      default: x[i] = 65504.0f * (2.0f * u - 1.0f); break;
    }
  }
  return x;
}

TEST(Quants, RoundTripErrorStaysWithinTheTypesBound) {
  for (const DTypeInfo& info : all_dtypes()) {
    for (int shape = 0; shape < 7; ++shape) {
      const std::vector<float> x = sample(shape);
      std::vector<uint8_t> bytes(row_bytes(info.type, kElements));
      std::vector<float> y(kElements);
      ASSERT_TRUE(quantize_row(info.type, x.data(), bytes.data(), kElements).ok()) << info.name;
      dequantize_row(info.type, bytes.data(), y.data(), kElements);
      for (int64_t begin = 0; begin < kElements; begin += info.block) {
        double largest = 0;
        for (int64_t i = begin; i < begin + info.block; ++i) {
          largest = std::max(largest, std::fabs(static_cast<double>(x[static_cast<size_t>(i)])));
        }
        for (int64_t i = begin; i < begin + info.block; ++i) {
          const auto at = static_cast<size_t>(i);
          ASSERT_LE(std::fabs(static_cast<double>(x[at]) - y[at]), largest * error_share(info.type) + 1e-6)
              << info.name << " shape " << shape << " element " << i << ": " << x[at] << " became " << y[at];
        }
      }
    }
  }
}

TEST(Quants, RelativeErrorOnNormalDataIsThatOfTheType) {
  // Root mean square error over that of the data; limits are 5% above what was measured, near llama.cpp's own encoders.
  const std::pair<DType, double> limits[] = {{DType::kQ4_0, 0.090},  {DType::kQ4_1, 0.082},   {DType::kQ5_0, 0.045},
                                             {DType::kQ5_1, 0.040},  {DType::kQ8_0, 0.0056},  {DType::kQ2_K, 0.345},
                                             {DType::kQ3_K, 0.163},  {DType::kQ4_K, 0.082},   {DType::kQ5_K, 0.040},
                                             {DType::kQ6_K, 0.0197}, {DType::kIQ4_NL, 0.085}, {DType::kIQ4_XS, 0.085},
                                             {DType::kMXFP4, 0.118}};
  std::vector<float> x(kElements), y(kElements);
  for (size_t i = 0; i < x.size(); ++i) {
    // Box-Muller.
    const double u = random_uniform({.seed = 5}, static_cast<uint32_t>(2 * i));
    const double v = random_uniform({.seed = 5}, static_cast<uint32_t>(2 * i + 1));
    x[i] = static_cast<float>(std::sqrt(-2 * std::log(u)) * std::cos(6.283185307179586 * v));
  }
  for (const auto& [type, limit] : limits) {
    std::vector<uint8_t> bytes(row_bytes(type, kElements));
    ASSERT_TRUE(quantize_row(type, x.data(), bytes.data(), kElements).ok());
    dequantize_row(type, bytes.data(), y.data(), kElements);
    double error = 0, power = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      error += (static_cast<double>(x[i]) - y[i]) * (static_cast<double>(x[i]) - y[i]);
      power += static_cast<double>(x[i]) * x[i];
    }
    EXPECT_LT(std::sqrt(error / power), limit) << dtype_info(type).name;
  }
}

TEST(Quants, ZerosStayZeroAndTinyValuesStayTiny) {
  for (const DTypeInfo& info : all_dtypes()) {
    std::vector<float> x(kElements, 0.0f), y(kElements, 1.0f);
    std::vector<uint8_t> bytes(row_bytes(info.type, kElements), 0xff);
    ASSERT_TRUE(quantize_row(info.type, x.data(), bytes.data(), kElements).ok());
    dequantize_row(info.type, bytes.data(), y.data(), kElements);
    for (float value : y) ASSERT_EQ(value, 0.0f) << info.name;
    for (float tiny : {1e-7f, -1e-30f, std::numeric_limits<float>::denorm_min()}) {
      x.assign(kElements, tiny);
      ASSERT_TRUE(quantize_row(info.type, x.data(), bytes.data(), kElements).ok());
      dequantize_row(info.type, bytes.data(), y.data(), kElements);
      for (float value : y) ASSERT_LE(std::fabs(value), 2e-6f) << info.name;
    }
  }
}

TEST(Quants, ValuesThatATypeCannotHoldAreRefusedByIndex) {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  for (const DTypeInfo& info : all_dtypes()) {
    std::vector<uint8_t> bytes(row_bytes(info.type, 256));
    for (float bad : {inf, -inf, nan}) {
      std::vector<float> x(256, 1.0f);
      x[201] = bad;
      const Status status = quantize_row(info.type, x.data(), bytes.data(), 256);
      EXPECT_EQ(status.code(), Code::kInvalidArgument) << info.name;
      EXPECT_NE(status.message().find("index 201"), std::string::npos) << status.message();
    }
    const std::vector<float> large(256, -1e30f);
    const bool holds = info.type == DType::kF32 || info.type == DType::kBF16 || info.type == DType::kMXFP4;
    EXPECT_EQ(quantize_row(info.type, large.data(), bytes.data(), 256).ok(), holds) << info.name;
    if (info.block == 1) continue;
    const Status odd = quantize_row(info.type, large.data(), bytes.data(), info.block - 1);
    EXPECT_EQ(odd.code(), Code::kInvalidArgument) << info.name;
  }
}

TEST(Quants, Mxfp4ScaleIsHalfAPowerOfTwoDownToDenormals) {
  for (int e = 0; e < 256; ++e) EXPECT_EQ(mxfp4_half_scale(static_cast<uint8_t>(e)), std::ldexp(1.0, e - 128)) << e;
}

}  // namespace
}  // namespace decant
