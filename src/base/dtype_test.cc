// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "base/dtype.h"

#include <gtest/gtest.h>

#include <string>

namespace decant {
namespace {

TEST(DType, ListIsCompleteAndInOrderOfNumbers) {
  int count = 0;
  int64_t last = -1;
  for (const DTypeInfo& info : all_dtypes()) {
    EXPECT_GT(static_cast<int64_t>(info.type), last) << info.name;
    last = static_cast<int64_t>(info.type);
    EXPECT_EQ(find_dtype(static_cast<uint32_t>(info.type)), &info);
    EXPECT_EQ(&dtype_info(info.type), &info);
    ++count;
  }
  EXPECT_EQ(count, 16);
}

TEST(DType, UnknownNumbersAreNotFound) {
  for (uint32_t type : {4u, 5u, 9u, 15u, 16u, 19u, 24u, 40u, 1000u, 0xffffffffu}) {
    EXPECT_EQ(find_dtype(type), nullptr) << type;
  }
}

TEST(DType, NamesParseInEitherCase) {
  for (const DTypeInfo& info : all_dtypes()) {
    EXPECT_EQ(parse_dtype(info.name), info.type);
    std::string upper(info.name);
    for (char& c : upper) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    EXPECT_EQ(parse_dtype(upper), info.type) << upper;
  }
  EXPECT_EQ(parse_dtype("q4_k_m"), std::nullopt);
  EXPECT_EQ(parse_dtype(""), std::nullopt);
  EXPECT_EQ(parse_dtype("q4"), std::nullopt);
}

TEST(DType, RowBytesCountWholeBlocks) {
  EXPECT_EQ(row_bytes(DType::kF32, 3), 12u);
  EXPECT_EQ(row_bytes(DType::kF16, 3), 6u);
  EXPECT_EQ(row_bytes(DType::kBF16, 3), 6u);
  EXPECT_EQ(row_bytes(DType::kQ4_0, 64), 36u);
  EXPECT_EQ(row_bytes(DType::kQ8_0, 32), 34u);
  EXPECT_EQ(row_bytes(DType::kQ4_K, 512), 288u);
  EXPECT_EQ(row_bytes(DType::kQ6_K, 256), 210u);
  EXPECT_EQ(row_bytes(DType::kMXFP4, 32), 17u);
  EXPECT_EQ(row_bytes(DType::kQ8_0, int64_t{1} << 40), (size_t{1} << 35) * 34);
}

TEST(DType, OnlyUnquantizedTypesAreFloats) {
  for (const DTypeInfo& info : all_dtypes()) EXPECT_EQ(is_float(info.type), info.block == 1) << info.name;
}

}  // namespace
}  // namespace decant
