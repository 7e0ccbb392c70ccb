// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "sample/sampler.h"

namespace decant {

// The k tokens with the greatest logits, greatest first, ties by lower id; fewer if there are fewer. `mask`: of these
// tokens only, a bit each; empty: of all. NaN counts as least. 4 bytes read for each logit.
void top_tokens(std::span<const float> logits, std::span<const uint64_t> mask, int k, std::vector<TokenLogprob>* top);

}  // namespace decant
