// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "base/status.h"
#include "kernels/device.h"

namespace decant {

// The first CUDA device, with the "cuda" table. kNotFound when the machine has none; kUnsupported when this build has
// no CUDA (configure with `cmake --preset cuda`).
Result<std::unique_ptr<Device>> make_cuda_device();

}  // namespace decant
