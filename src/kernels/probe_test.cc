// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/probe.h"

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/guarded_device.h"
#include "kernels/table.h"

namespace decant {
namespace {

TEST(Probe, BandwidthIsPlausibleForEveryBufferSize) {
  for (int threads : {1, 2, 3}) {
    auto device = make_cpu_device(threads);
    ASSERT_TRUE(device.ok());
    // Empty, not a multiple of anything, in the first cache, in memory.
    for (size_t bytes : {size_t{0}, size_t{1}, size_t{1000}, size_t{16} << 10, (size_t{32} << 20) + 12345}) {
      const double rate = measure_read_bandwidth(**device, bytes);
      EXPECT_TRUE(std::isfinite(rate)) << bytes;
      EXPECT_GT(rate, 1e6) << bytes;
      EXPECT_LT(rate, 1e14) << bytes;
    }
  }
}

TEST(Probe, NoMemoryForTheBufferIsUnknown) {
  auto device = make_cpu_device(1);
  ASSERT_TRUE(device.ok());
  EXPECT_EQ(measure_read_bandwidth(**device, size_t{1} << 60), 0.0);
}

TEST(Probe, PeakIsPlausibleForEveryTable) {
  for (const KernelTable* table : cpu_tables()) {
    auto device = make_cpu_device(2, table->name);
    ASSERT_TRUE(device.ok());
    for (DType type : {DType::kF32, DType::kQ4_1, DType::kQ8_0, DType::kQ6_K}) {
      const double peak = measure_product_peak(**device, type);
      EXPECT_TRUE(std::isfinite(peak)) << table->name;
      EXPECT_GT(peak, 1e7) << table->name;
      EXPECT_LT(peak, 1e15) << table->name;
    }
  }
}

TEST(Probe, FloatPeakIsAboveEveryKernel) {
  auto device = make_cpu_device(1);
  ASSERT_TRUE(device.ok());
  const double one = measure_float_peak(**device);
  EXPECT_GT(one, 1e8);
  EXPECT_LT(one, 1e13);
  // No kernel computes floats faster than registers alone.
  EXPECT_LT(measure_product_peak(**device, DType::kF32), 1.5 * one);
}

// What devices other than the CPU take: copies through the seam only.
TEST(Probe, OtherDevicesAreMeasuredByCopies) {
  auto device = make_guarded_device(1);
  ASSERT_TRUE(device.ok());
  const double rate = measure_read_bandwidth(**device, size_t{8} << 20);
  EXPECT_GT(rate, 1e6);
  EXPECT_LT(rate, 1e14);
  EXPECT_EQ(measure_product_peak(**device, DType::kQ8_0), 0.0);
  EXPECT_EQ(measure_float_peak(**device), 0.0);
}

}  // namespace
}  // namespace decant
