// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Element types of tensors as files store them, with the numbers that GGUF gives them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace decant {

enum class DType : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ2_K = 10,
  kQ3_K = 11,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kIQ4_NL = 20,
  kIQ4_XS = 23,
  kBF16 = 30,
  kMXFP4 = 39,
};

// A block of `block` consecutive elements of a row takes `bytes` bytes; a row is a whole number of blocks.
struct DTypeInfo {
  DType type;
  std::string_view name;  // llama.cpp's spelling in lower case: "f16", "q4_k"
  int block;
  int bytes;
};

// nullptr for a number that Decant does not read.
const DTypeInfo* find_dtype(uint32_t gguf_type);
// Every enumerator has an entry.
const DTypeInfo& dtype_info(DType type);
// By name, in either case ("Q8_0", "q8_0"); nullopt if unknown.
std::optional<DType> parse_dtype(std::string_view name);
// All supported types in the order of their numbers.
struct DTypeList {
  const DTypeInfo* begin_;
  const DTypeInfo* end_;
  const DTypeInfo* begin() const { return begin_; }
  const DTypeInfo* end() const { return end_; }
};
DTypeList all_dtypes();

inline bool is_float(DType t) { return t == DType::kF32 || t == DType::kF16 || t == DType::kBF16; }

// Bytes of one row of `cols` elements. Precondition: cols is a multiple of the block.
inline size_t row_bytes(DType t, int64_t cols) {
  const DTypeInfo& info = dtype_info(t);
  return static_cast<size_t>(cols / info.block) * static_cast<size_t>(info.bytes);
}

}  // namespace decant
