// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/includes.h"

#define DECANT_TARGET target_amx
#define DECANT_TARGET_NAME "amx"
#define DECANT_TARGET_REQUIREMENTS "AVX-512 F, BW, VL, DQ and VNNI; AMX-INT8"
#define DECANT_AVX512 1
#define DECANT_AMX 1

#if defined(__clang__)
#pragma clang attribute push(                                                                                 \
    __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,amx-tile,amx-int8,avx2,fma,f16c"))), \
    apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,amx-tile,amx-int8,avx2,fma,f16c")
#endif
#include "kernels/cpu/target-inl.h"
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
