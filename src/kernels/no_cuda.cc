// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda_device.h"

namespace decant {

#ifndef DECANT_CUDA
Result<std::unique_ptr<Device>> make_cuda_device() {
  return Status::unsupported("this build has no CUDA; configure with `cmake --preset cuda`");
}
#endif

}  // namespace decant
