// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// What the kernels' tests share: devices, random inputs, and comparison bit for bit.
#pragma once

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/half.h"
#include "base/quants.h"
#include "base/rng.h"
#include "kernels/cuda_device.h"
#include "kernels/device.h"
#include "kernels/table.h"
#include "kernels/weight.h"

namespace decant::kernel_testing {

// Every table that runs here: the processor's, and "cuda" with a CUDA build and device.
inline std::vector<std::string> every_table() {
  std::vector<std::string> names;
  for (const KernelTable* table : cpu_tables()) names.emplace_back(table->name);
  if (make_cuda_device().ok()) names.emplace_back("cuda");
  return names;
}

// A device with the named table; `threads` is the CPU's.
inline std::unique_ptr<Device> device_of(std::string_view table, int threads = 1) {
  auto device = table == "cuda" ? make_cuda_device() : make_cpu_device(threads, table);
  EXPECT_TRUE(device.ok()) << device.status().message();
  return std::move(device).value();
}

inline DeviceBuffer allocate(Device& device, size_t bytes) {
  auto buffer = device.alloc(bytes);
  EXPECT_TRUE(buffer.ok()) << buffer.status().message();
  return std::move(buffer).value();
}

template <typename T>
DeviceBuffer upload(Device& device, const std::vector<T>& values) {
  DeviceBuffer buffer = allocate(device, values.size() * sizeof(T));
  device.copy_in(buffer.ptr<T>(), std::span<const T>(values));
  return buffer;
}

template <typename T>
std::vector<T> download(Device& device, const DeviceBuffer& buffer, size_t n) {
  std::vector<T> values(n);
  device.copy_out(std::span<T>(values), DevPtr<const T>(buffer.ptr<T>()));
  return values;
}

// Deterministic numbers, the same on every machine.
class Random {
 public:
  explicit Random(uint64_t seed) : key_{.seed = seed} {}

  uint32_t bits() { return random_bits(key_, next_++); }
  int below(int n) { return static_cast<int>(bits() % static_cast<uint32_t>(n)); }
  // About normal, standard deviation 1.
  float normal() {
    double sum = -6.0;
    for (int i = 0; i < 12; ++i) sum += bits() * 0x1p-32;
    return static_cast<float>(sum);
  }
  std::vector<float> normals(size_t n, float scale = 1.0f) {
    std::vector<float> values(n);
    for (float& v : values) v = normal() * scale;
    return values;
  }

 private:
  RngKey key_;
  uint32_t next_ = 0;
};

// `n` elements of `type` with every code possible: random bytes, except that scales and minimums are moderate halves.
inline std::vector<uint8_t> random_blocks(DType type, size_t n, Random& random) {
  const DTypeInfo& info = dtype_info(type);
  std::vector<uint8_t> bytes(row_bytes(type, static_cast<int64_t>(n)));
  if (is_float(type)) {
    for (size_t i = 0; i < n; ++i) {
      const float v = random.normal();
      const uint16_t half = type == DType::kF16 ? float_to_half(v) : float_to_bf16(v);
      if (type == DType::kF32) {
        std::memcpy(&bytes[4 * i], &v, 4);
      } else {
        std::memcpy(&bytes[2 * i], &half, 2);
      }
    }
    return bytes;
  }
  for (uint8_t& b : bytes) b = static_cast<uint8_t>(random.bits() >> 24);
  std::vector<int> halves;
  switch (type) {
    case DType::kQ4_1:
    case DType::kQ5_1:
    case DType::kQ4_K:
    case DType::kQ5_K: halves = {0, 2}; break;
    case DType::kQ2_K: halves = {80, 82}; break;
    case DType::kQ3_K: halves = {108}; break;
    case DType::kQ6_K: halves = {208}; break;
    case DType::kMXFP4: break;
    default: halves = {0}; break;
  }
  for (size_t block = 0; block < bytes.size(); block += static_cast<size_t>(info.bytes)) {
    if (type == DType::kMXFP4) bytes[block] = static_cast<uint8_t>(122 + random.below(8));
    for (int at : halves) {
      const uint16_t half = float_to_half(random.normal() * 0.05f);
      std::memcpy(&bytes[block + static_cast<size_t>(at)], &half, 2);
    }
  }
  return bytes;
}

// A matrix in a file's format, and packed into a device's memory.
struct TestWeight {
  DType type;
  int64_t rows, cols;
  std::vector<uint8_t> file;
  std::vector<uint8_t> packed;

  static TestWeight random(DType type, int64_t rows, int64_t cols, uint64_t seed) {
    Random random(seed);
    TestWeight w{type, rows, cols, random_blocks(type, static_cast<size_t>(rows * cols), random), {}};
    w.packed.resize(Weight{.layout = layout_of(type), .type = type, .rows = rows, .cols = cols}.bytes());
    pack_groups(type, rows, cols, w.file.data(), 0, (rows + kGroupRows - 1) / kGroupRows, w.packed.data());
    return w;
  }
  Weight view(const DeviceBuffer& data) const {
    return {.layout = layout_of(type), .type = type, .rows = rows, .cols = cols, .data = data.ptr<uint8_t>()};
  }
  // Element by element as the file's format defines it.
  std::vector<float> decoded() const {
    std::vector<float> values(static_cast<size_t>(rows * cols));
    const size_t bytes = row_bytes(type, cols);
    for (int64_t r = 0; r < rows; ++r) {
      dequantize_row(type, file.data() + static_cast<size_t>(r) * bytes, values.data() + r * cols, cols);
    }
    return values;
  }
};

// Success, or where the bits differ first.
template <typename T>
::testing::AssertionResult same_bits(const std::vector<T>& got, const std::vector<T>& want) {
  if (got.size() != want.size())
    return ::testing::AssertionFailure() << got.size() << " values instead of " << want.size();
  size_t different = 0;
  size_t first = 0;
  for (size_t i = got.size(); i-- > 0;) {
    if (std::memcmp(&got[i], &want[i], sizeof(T)) == 0) continue;
    first = i;
    ++different;
  }
  if (different == 0) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << different << " of " << got.size() << " values differ, first at " << first
                                       << ": " << +got[first] << " instead of " << +want[first];
}

inline std::string type_name(DType type) { return std::string(dtype_info(type).name); }

inline std::vector<DType> every_dtype() {
  std::vector<DType> types;
  for (const DTypeInfo& info : all_dtypes()) types.push_back(info.type);
  return types;
}

// table.h's exp, in plain C++.
inline float spec_exp(float x) {
  if (x < -87.0f) return 0.0f;
  const float clamped = x > 88.0f ? 88.0f : x;
  const float n = std::nearbyintf(clamped * 1.44269504088896341f);
  float r = std::fma(-n, 0.693359375f, clamped);
  r = std::fma(-n, -2.12194440e-4f, r);
  float p = 1.0f / 720.0f;
  for (float c : {1.0f / 120.0f, 1.0f / 24.0f, 1.0f / 6.0f, 0.5f, 1.0f, 1.0f}) p = std::fma(p, r, c);
  return p * std::bit_cast<float>((static_cast<uint32_t>(static_cast<int32_t>(n)) + 127u) << 23);
}

}  // namespace decant::kernel_testing
