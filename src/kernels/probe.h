// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// What the machine can do at most, measured: the roofs that a step's time is compared with (bytes of weights read per
// second, integer operations per second) and that of attention (float operations per second). Each call takes a
// fraction of a second; call it while nothing else runs.
#pragma once

#include <cstddef>

#include "base/dtype.h"
#include "kernels/device.h"

namespace decant {

// Bytes per second that all of `device`'s threads together read from a buffer of `bytes` (rounded up to 64 bytes per
// thread), best of several passes. A buffer that fits a cache measures that cache; for memory, take several times the
// last level's size. On devices other than "cpu": bytes read plus bytes written per second by a copy between the halves
// of the buffer. 0 if there is no memory for the buffer or the device failed.
double measure_read_bandwidth(Device& device, size_t bytes);

// Operations per second, two for each multiply-add, of the table's matrix product of many rows with a weight of `type`
// that stays in the cache, with all threads at once: the best that the microkernel does, unpacking and scaling
// included. 0 (unknown) on devices other than "cpu", and without memory.
double measure_product_peak(Device& device, DType type);

// Operations per second, two for each multiply-add of single-precision floats, with all threads at once and nothing but
// registers: the most that any float kernel of this processor reaches. 0 (unknown) on devices other than "cpu".
double measure_float_peak(Device& device);

}  // namespace decant
