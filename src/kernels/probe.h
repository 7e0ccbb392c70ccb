// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// What the machine can do at most, measured: the two roofs that a step's time is compared with (bytes of weights read
// per second, integer operations per second). Each call takes a fraction of a second; call it while nothing else runs.
#pragma once

#include <cstddef>

#include "kernels/device.h"

namespace decant {

// Bytes per second that all of `device`'s threads together read from a buffer of `bytes` (rounded up to 64 bytes per
// thread), best of several passes. A buffer that fits a cache measures that cache; for memory, take several times the
// last level's size. On devices other than "cpu": bytes read plus bytes written per second by a copy between the halves
// of the buffer. 0 if there is no memory for the buffer or the device failed.
double measure_read_bandwidth(Device& device, size_t bytes);

// Operations per second, two for each multiply-add, of the dot product that the device's kernel table takes for 8-bit
// codes, on registers, with all threads at once; unpacking and scaling are left out, so no matrix product reaches it. 0
// (unknown) on devices other than "cpu".
double measure_int8_peak(Device& device);

}  // namespace decant
