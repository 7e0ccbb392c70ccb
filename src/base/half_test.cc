// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "base/half.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "base/rng.h"

namespace decant {
namespace {

// The value of a half from its fields, in double.
double half_value(uint16_t h) {
  const int exponent = (h >> 10) & 31, mantissa = h & 1023;
  const double magnitude = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
  return h & 0x8000 ? -magnitude : magnitude;
}

bool is_half_nan(uint16_t h) { return (h & 0x7fff) > 0x7c00; }

TEST(Half, EveryFiniteHalfHasItsValueAndComesBack) {
  for (uint32_t i = 0; i < 0x10000; ++i) {
    const auto h = static_cast<uint16_t>(i);
    if ((h & 0x7c00) == 0x7c00) continue;
    const float f = half_to_float(h);
    ASSERT_EQ(static_cast<double>(f), half_value(h)) << i;
    ASSERT_EQ(std::signbit(f), (h & 0x8000) != 0) << i;
    ASSERT_EQ(float_to_half(f), h) << i;
  }
}

TEST(Half, InfinitiesStayAndNanIsQuieted) {
  const float inf = std::numeric_limits<float>::infinity();
  EXPECT_EQ(half_to_float(0x7c00), inf);
  EXPECT_EQ(half_to_float(0xfc00), -inf);
  EXPECT_EQ(float_to_half(inf), 0x7c00);
  EXPECT_EQ(float_to_half(-inf), 0xfc00);
  for (uint32_t i = 0x7c01; i < 0x8000; ++i) {
    const auto h = static_cast<uint16_t>(i);
    ASSERT_TRUE(std::isnan(half_to_float(h)));
    ASSERT_EQ(float_to_half(half_to_float(h)), h | 0x200);
  }
}

TEST(Half, MidpointsBetweenNeighboursRoundToEven) {
  for (uint32_t i = 0; i < 0x7bff; ++i) {
    const auto low = static_cast<uint16_t>(i), high = static_cast<uint16_t>(i + 1);
    const float middle = static_cast<float>((half_value(low) + half_value(high)) / 2);
    ASSERT_EQ(float_to_half(middle), i % 2 == 0 ? low : high) << i;
    ASSERT_EQ(float_to_half(std::nextafter(middle, 0.0f)), low) << i;
    ASSERT_EQ(float_to_half(std::nextafter(middle, 1e9f)), high) << i;
    ASSERT_EQ(float_to_half(-middle), (i % 2 == 0 ? low : high) | 0x8000) << i;
  }
}

TEST(Half, LargeValuesBecomeInfinityFromTheMidpointOn) {
  EXPECT_EQ(float_to_half(65519.996f), 0x7bff);
  EXPECT_EQ(float_to_half(65520.0f), 0x7c00);
  EXPECT_EQ(float_to_half(-1e30f), 0xfc00);
}

#if defined(__x86_64__)
__attribute__((target("f16c"))) uint16_t hardware_half(float f) {
  return static_cast<uint16_t>(_mm_extract_epi16(_mm_cvtps_ph(_mm_set_ss(f), _MM_FROUND_TO_NEAREST_INT), 0));
}
__attribute__((target("f16c"))) uint32_t hardware_float_bits(uint16_t h) {
  return std::bit_cast<uint32_t>(_mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(h))));
}

TEST(Half, EqualsTheProcessorsConversions) {
  if (!__builtin_cpu_supports("f16c")) GTEST_SKIP() << "this processor has no F16C";
  for (uint32_t i = 0; i < 0x10000; ++i) {
    const auto h = static_cast<uint16_t>(i);
    ASSERT_EQ(std::bit_cast<uint32_t>(half_to_float(h)), hardware_float_bits(h)) << i;
  }
  for (uint32_t i = 0; i < 2'000'000; ++i) {
    const uint32_t bits = random_bits({.seed = 1}, i);
    const float f = std::bit_cast<float>(bits);
    ASSERT_EQ(float_to_half(f), hardware_half(f)) << bits;
    // The same mantissa where halves are dense.
    const float g = std::bit_cast<float>((bits & 0x807fffff) | ((100 + bits % 45) << 23));
    ASSERT_EQ(float_to_half(g), hardware_half(g)) << bits;
  }
}
#endif

TEST(BFloat16, EveryValueComesBackAndNanIsQuieted) {
  for (uint32_t i = 0; i < 0x10000; ++i) {
    const auto b = static_cast<uint16_t>(i);
    const float f = bf16_to_float(b);
    const bool nan = std::isnan(f);
    ASSERT_EQ(nan, (b & 0x7fff) > 0x7f80);
    ASSERT_EQ(float_to_bf16(f), nan ? b | 0x40 : b) << i;
  }
}

TEST(BFloat16, RoundsToNearestEven) {
  for (uint32_t i = 0; i < 0x7f7f; ++i) {
    ASSERT_EQ(float_to_bf16(std::bit_cast<float>(i << 16 | 0x7fffu)), i);
    ASSERT_EQ(float_to_bf16(std::bit_cast<float>(i << 16 | 0x8000u)), i + i % 2);
    ASSERT_EQ(float_to_bf16(std::bit_cast<float>(i << 16 | 0x8001u)), i + 1);
  }
  EXPECT_EQ(float_to_bf16(std::numeric_limits<float>::max()), 0x7f80);
  // A NaN whose payload is only in the low bits does not become an infinity.
  EXPECT_EQ(float_to_bf16(std::bit_cast<float>(0x7f800001u)), 0x7fc0);
  EXPECT_TRUE(is_half_nan(float_to_half(std::bit_cast<float>(0x7f800001u))));
}

}  // namespace
}  // namespace decant
