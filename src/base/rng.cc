// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "base/rng.h"

#include <cmath>

namespace decant {

uint32_t random_bits(const RngKey& key, uint32_t index) {
  // Four consecutive indices share a block; the low two bits pick a word of it.
  const std::array<uint32_t, 2> k = {static_cast<uint32_t>(key.seed), static_cast<uint32_t>(key.seed >> 32)};
  const std::array<uint32_t, 4> c = {index >> 2, key.position, key.sample, static_cast<uint32_t>(key.purpose)};
  return philox(k, c)[index & 3];
}

double random_uniform(const RngKey& key, uint32_t index) {
  return (static_cast<double>(random_bits(key, index)) + 0.5) * 0x1p-32;
}

float gumbel_noise(const RngKey& key, uint32_t index) {
  return static_cast<float>(-std::log(-std::log(random_uniform(key, index))));
}

}  // namespace decant
