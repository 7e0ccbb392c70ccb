// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// All headers of the target files, included before the target's instructions are enabled: inline functions of the
// standard library must not be compiled with instructions that another processor lacks.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>
#include <numeric>
#include <span>
#include <string_view>
#include <type_traits>

#include "base/dtype.h"
#include "base/half.h"
#include "base/quants.h"
#include "base/thread_pool.h"
#include "kernels/cpu/cpu_queue.h"
#include "kernels/table.h"
