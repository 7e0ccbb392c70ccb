// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string_view>

#include "base/status.h"
#include "kernels/device.h"

namespace decant {

// A CPU device whose memory can only be touched while one of its ops or copies runs; any other access faults at once.
// Tests run whole models on it: what passes there works on a device whose memory the CPU cannot read.
Result<std::unique_ptr<Device>> make_guarded_device(int threads, std::string_view table = {});

}  // namespace decant
