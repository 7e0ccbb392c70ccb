// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "kernels/cuda_device.h"
#include "kernels/table.h"
#include "kernels/test_util.h"

namespace decant {
namespace {

using namespace kernel_testing;

// That the CUDA table's bits are the specification's is checked by the tests that run over every_table(): kernels,
// engine and generation. This one says whether they had a device.
TEST(Cuda, ADeviceCopiesAndComputes) {
  auto made = make_cuda_device();
  if (!made.ok()) GTEST_SKIP() << made.status().message();
  Device& device = **made;
  EXPECT_EQ(device.kind(), "cuda");
  EXPECT_EQ(device.table().name, "cuda");
  Random random(1);
  const std::vector<float> a = random.normals(100000), b = random.normals(100000);
  const DeviceBuffer x = upload(device, a), y = upload(device, b), moved = allocate(device, 400000);
  device.table().add(device.queue(), x.ptr<float>(), 100000, y.ptr<float>());
  device.copy(moved.ptr<void>(), DevPtr<const void>(y.ptr<float>().raw()), 400000);
  const std::vector<float> got = download<float>(device, moved, 100000);
  for (size_t i = 0; i < got.size(); ++i) ASSERT_EQ(got[i], a[i] + b[i]) << i;
  EXPECT_TRUE(device.status().ok());
}

}  // namespace
}  // namespace decant
