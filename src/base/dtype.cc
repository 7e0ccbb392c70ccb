// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "base/dtype.h"

#include <algorithm>
#include <cctype>
#include <iterator>

#include "base/status.h"

namespace decant {
namespace {

constexpr DTypeInfo kTypes[] = {
    {DType::kF32, "f32", 1, 4},         {DType::kF16, "f16", 1, 2},           {DType::kQ4_0, "q4_0", 32, 18},
    {DType::kQ4_1, "q4_1", 32, 20},     {DType::kQ5_0, "q5_0", 32, 22},       {DType::kQ5_1, "q5_1", 32, 24},
    {DType::kQ8_0, "q8_0", 32, 34},     {DType::kQ2_K, "q2_k", 256, 84},      {DType::kQ3_K, "q3_k", 256, 110},
    {DType::kQ4_K, "q4_k", 256, 144},   {DType::kQ5_K, "q5_k", 256, 176},     {DType::kQ6_K, "q6_k", 256, 210},
    {DType::kIQ4_NL, "iq4_nl", 32, 18}, {DType::kIQ4_XS, "iq4_xs", 256, 136}, {DType::kBF16, "bf16", 1, 2},
    {DType::kMXFP4, "mxfp4", 32, 17},
};

}  // namespace

const DTypeInfo* find_dtype(uint32_t gguf_type) {
  const auto* it = std::find_if(std::begin(kTypes), std::end(kTypes),
                                [&](const DTypeInfo& t) { return static_cast<uint32_t>(t.type) == gguf_type; });
  return it == std::end(kTypes) ? nullptr : it;
}

const DTypeInfo& dtype_info(DType type) {
  const DTypeInfo* info = find_dtype(static_cast<uint32_t>(type));
  DECANT_CHECK(info != nullptr);
  return *info;
}

std::optional<DType> parse_dtype(std::string_view name) {
  for (const DTypeInfo& t : kTypes) {
    if (t.name.size() == name.size() && std::equal(name.begin(), name.end(), t.name.begin(), [](char a, char b) {
          return std::tolower(static_cast<unsigned char>(a)) == b;
        })) {
      return t.type;
    }
  }
  return std::nullopt;
}

DTypeList all_dtypes() { return {std::begin(kTypes), std::end(kTypes)}; }

}  // namespace decant
