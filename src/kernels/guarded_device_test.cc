// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/guarded_device.h"

#include <gtest/gtest.h>

#include <numeric>

#include "kernels/test_util.h"

namespace decant {
namespace {

using namespace kernel_testing;

std::unique_ptr<Device> guarded() {
  auto device = make_guarded_device(1);
  EXPECT_TRUE(device.ok()) << device.status().message();
  return std::move(device).value();
}

volatile float g_sink;

TEST(GuardedDeviceDeathTest, ReadingAndWritingItsMemoryFaults) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  auto device = guarded();
  const DeviceBuffer buffer = upload(*device, std::vector<float>{1.0f, 2.0f});
  EXPECT_DEATH(g_sink = *buffer.ptr<float>().raw(), "");
  EXPECT_DEATH(buffer.ptr<float>().raw()[1] = 3.0f, "");
  // Also after an op, which unlocks it for its own time.
  device->table().add(device->queue(), buffer.ptr<float>(), 1, buffer.ptr<float>() + 1);
  EXPECT_DEATH(g_sink = *buffer.ptr<float>().raw(), "");
}

TEST(GuardedDevice, OpsAndCopiesWork) {
  auto device = guarded();
  EXPECT_EQ(device->kind(), "guarded");
  std::vector<float> x(100);
  std::iota(x.begin(), x.end(), 0.0f);
  const DeviceBuffer a = upload(*device, x), b = allocate(*device, 400);
  EXPECT_TRUE(same_bits(download<float>(*device, b, 100), std::vector<float>(100, 0.0f))) << "fresh memory is zero";
  device->copy(b.ptr<void>(), DevPtr<const void>(a.ptr<void>()), 400);
  device->table().add(device->queue(), a.ptr<float>(), 100, b.ptr<float>());
  std::vector<float> want = x;
  for (float& v : want) v += v;
  EXPECT_TRUE(same_bits(download<float>(*device, b, 100), want));
}

TEST(GuardedDevice, FreedBuffersAreForgotten) {
  auto device = guarded();
  for (int i = 0; i < 100; ++i) {
    const DeviceBuffer buffer = upload(*device, std::vector<float>(10000, static_cast<float>(i)));
    ASSERT_EQ(download<float>(*device, buffer, 10000)[9999], static_cast<float>(i));
  }
  const DeviceBuffer empty = allocate(*device, 0);
  EXPECT_EQ(empty.size(), 0U);
}

TEST(GuardedDevice, AnUnknownTableIsRefused) {
  auto device = make_guarded_device(1, "mmx");
  ASSERT_FALSE(device.ok());
  EXPECT_EQ(device.status().code(), Code::kUnsupported);
}

}  // namespace
}  // namespace decant
