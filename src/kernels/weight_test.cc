// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/weight.h"

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/test_util.h"

namespace decant {
namespace {

using namespace kernel_testing;

// Element (row, col) of a packed matrix, read as weight.h says and by none of the library's code.
float packed_element(const TestWeight& w, int64_t row, int64_t col) {
  const WeightLayout l = layout_of(w.type);
  const auto r = static_cast<size_t>(row % 16);
  const auto cols = static_cast<size_t>(w.cols);
  if (!l.quantized) {
    const size_t size = l.float_type == DType::kF32 ? 4 : 2;
    const uint8_t* p =
        w.packed.data() + ((static_cast<size_t>(row / 16) * cols + static_cast<size_t>(col)) * 16 + r) * size;
    float f;
    uint16_t h;
    std::memcpy(&f, p, size);
    std::memcpy(&h, p, 2);
    return size == 4 ? f : l.float_type == DType::kF16 ? half_to_float(h) : bf16_to_float(h);
  }
  const bool super = l.scales == ScaleKind::kSuper;
  const size_t number = l.scales == ScaleKind::kF32 ? 4 : super ? 1 : 2;
  const auto subs = static_cast<size_t>(32 / l.sub);
  const size_t code_bytes = 64 * static_cast<size_t>(l.bits);
  const size_t block_bytes = code_bytes + subs * 16 * number * (l.has_min ? 2 : 1);
  const size_t header_bytes = super ? (l.has_min ? 64 : 32) : 0;
  const auto b = static_cast<size_t>(col / 32);
  const size_t super_bytes = header_bytes + 8 * block_bytes;
  const size_t group_bytes = super ? cols / 256 * super_bytes : cols / 32 * block_bytes;
  const uint8_t* group = w.packed.data() + static_cast<size_t>(row / 16) * group_bytes;
  const uint8_t* header = super ? group + b / 8 * super_bytes : nullptr;
  const uint8_t* block = super ? header + header_bytes + b % 8 * block_bytes : group + b * block_bytes;
  const auto c = static_cast<size_t>(col % 32);
  const size_t lane = 4 * r + c % 4;
  int code;
  if (l.bits == 8) {
    code = block[64 * (c / 4) + lane];
  } else {
    const uint8_t byte = block[64 * (c % 16 / 4) + lane];
    code = c < 16 ? byte & 15 : byte >> 4;
    if (l.bits == 5) code += 16 * (block[256 + lane] >> (c / 4) & 1);
    if (l.bits == 6) code += 16 * (block[256 + 64 * (c / 16) + lane] >> (c % 16 / 4 * 2) & 3);
    if (l.table == CodeTable::kIq4) code = kIq4Values[code] + 128;
    if (l.table == CodeTable::kMxfp4) code = kMxfp4Values[code] + 128;
  }
  const auto half = [](const uint8_t* p) {
    uint16_t h;
    std::memcpy(&h, p, 2);
    return half_to_float(h);
  };
  const auto read = [&](bool min) {
    const uint8_t* p = block + code_bytes + (min ? subs * 16 * number : 0);
    p += (c / static_cast<size_t>(l.sub) * 16 + r) * number;
    if (super) return half(header + (min ? 32 : 0) + 2 * r) * static_cast<float>(static_cast<int8_t>(*p));
    if (number == 2) return half(p);
    float f;
    std::memcpy(&f, p, 4);
    return f;
  };
  // The decoders round the product and then the sum; so do we, to compare bits.
  const float product = read(false) * static_cast<float>(code - l.zero);
  return l.has_min ? product + read(true) : product;
}

class WeightOfType : public ::testing::TestWithParam<DType> {};

TEST_P(WeightOfType, PackingKeepsEveryElement) {
  const DType type = GetParam();
  const int64_t block = std::max(32, dtype_info(type).block);
  for (int64_t rows : {1, 15, 16, 17, 50}) {
    const TestWeight w = TestWeight::random(type, rows, 2 * block, static_cast<uint64_t>(rows));
    const std::vector<float> want = w.decoded();
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < w.cols; ++c) {
        // As numbers: for code 0 of a minimum format the signs of zeros may differ.
        ASSERT_EQ(packed_element(w, r, c), want[static_cast<size_t>(r * w.cols + c)])
            << rows << " rows: " << r << ", " << c;
      }
    }
  }
}

TEST_P(WeightOfType, RowsBeyondTheMatrixAreZero) {
  const DType type = GetParam();
  const TestWeight w = TestWeight::random(type, 18, std::max(32, dtype_info(type).block), 5);
  for (int64_t r = 18; r < 32; ++r) {
    for (int64_t c = 0; c < w.cols; ++c) EXPECT_EQ(packed_element(w, r, c), 0.0f);
  }
}

TEST_P(WeightOfType, GroupsPackedApartAreThoseOfTheWhole) {
  const DType type = GetParam();
  const TestWeight w = TestWeight::random(type, 70, std::max(32, dtype_info(type).block), 6);
  const size_t group = layout_of(type).group_bytes(w.cols);
  ASSERT_EQ(w.packed.size(), 5 * group);
  std::vector<uint8_t> apart(5 * group, 0xee);
  pack_groups(type, w.rows, w.cols, w.file.data(), 3, 2, apart.data() + 3 * group);
  pack_groups(type, w.rows, w.cols, w.file.data(), 0, 1, apart.data());
  pack_groups(type, w.rows, w.cols, w.file.data(), 1, 2, apart.data() + group);
  EXPECT_TRUE(same_bits(apart, w.packed));
}

// A damaged file may hold any scale: its NaN and infinities arrive in the packed matrix and nothing else happens.
TEST_P(WeightOfType, AnyBytesCanBePacked) {
  const DType type = GetParam();
  Random random(9);
  TestWeight w{type, 20, 2 * std::max(32, dtype_info(type).block), {}, {}};
  w.file.resize(20 * row_bytes(type, w.cols));
  for (uint8_t& b : w.file) b = static_cast<uint8_t>(random.bits() >> 24);
  w.packed.resize(2 * layout_of(type).group_bytes(w.cols));
  pack_groups(type, w.rows, w.cols, w.file.data(), 0, 2, w.packed.data());
  const std::vector<float> want = w.decoded();
  for (int64_t r = 0; r < w.rows; ++r) {
    for (int64_t c = 0; c < w.cols; ++c) {
      const float got = packed_element(w, r, c);
      const float expected = want[static_cast<size_t>(r * w.cols + c)];
      ASSERT_TRUE(got == expected || (std::isnan(got) && std::isnan(expected)))
          << r << ", " << c << ": " << got << " " << expected;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, WeightOfType, ::testing::ValuesIn(every_dtype()),
                         [](const auto& param) { return type_name(param.param); });

TEST(WeightLayout, SizesAreThoseOfTheHeader) {
  EXPECT_EQ(layout_of(DType::kQ4_0).group_bytes(64), 2U * (256 + 32));
  EXPECT_EQ(layout_of(DType::kQ4_1).group_bytes(32), 256U + 32 + 32);
  EXPECT_EQ(layout_of(DType::kQ8_0).group_bytes(32), 512U + 32);
  EXPECT_EQ(layout_of(DType::kQ5_0).group_bytes(32), 320U + 32);
  EXPECT_EQ(layout_of(DType::kQ2_K).group_bytes(256), 64U + 8 * (256 + 32 + 32));
  EXPECT_EQ(layout_of(DType::kQ4_K).group_bytes(512), 2 * (64U + 8 * (256 + 16 + 16)));
  EXPECT_EQ(layout_of(DType::kQ6_K).group_bytes(256), 32U + 8 * (384 + 32));
  EXPECT_EQ(layout_of(DType::kIQ4_XS).group_bytes(256), 32U + 8 * (256 + 16));
  EXPECT_EQ(layout_of(DType::kMXFP4).group_bytes(32), 256U + 64);
  EXPECT_EQ(layout_of(DType::kF16).group_bytes(10), 10U * 16 * 2);
  const Weight w{.layout = layout_of(DType::kQ4_0), .type = DType::kQ4_0, .rows = 17, .cols = 32};
  EXPECT_EQ(w.groups(), 2);
  EXPECT_EQ(w.bytes(), 2U * 288);
}

}  // namespace
}  // namespace decant
