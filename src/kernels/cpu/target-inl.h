// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// The functions of one target and its table, in the namespace that DECANT_TARGET names.
namespace decant::DECANT_TARGET {
namespace {

// In this order: each uses what stands before it.
// clang-format off
#include "kernels/cpu/simd.h"  // NOLINT: per target
#include "kernels/cpu/ops-inl.h"  // NOLINT
#include "kernels/cpu/matmul-inl.h"  // NOLINT
#include "kernels/cpu/attention-inl.h"  // NOLINT
#include "kernels/cpu/kv-inl.h"  // NOLINT
// clang-format on

}  // namespace

extern const KernelTable kTable;
const KernelTable kTable = {
    .name = DECANT_TARGET_NAME,
    .requirements = DECANT_TARGET_REQUIREMENTS,
    .embed = embed,
    .rms_norm = rms_norm,
    .layer_norm = layer_norm,
    .quantize = quantize,
    .matmul = matmul,
    .matmul_gated = matmul_gated,
    .rope = rope,
    .kv_write = kv_write,
    .kv_move = kv_move,
    .attention = attention,
    .glu = glu,
    .activate = activate,
    .add = add,
    .soft_cap = soft_cap,
    .gather_rows = gather_rows,
    .add_rows = add_rows,
};

}  // namespace decant::DECANT_TARGET
