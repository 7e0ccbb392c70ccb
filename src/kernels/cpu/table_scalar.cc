// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/includes.h"

#define DECANT_TARGET target_scalar
#define DECANT_TARGET_NAME "scalar"
#define DECANT_TARGET_REQUIREMENTS "any processor"

#include "kernels/cpu/target-inl.h"
