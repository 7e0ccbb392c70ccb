// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Counter-based random numbers: a pure function of a key and a counter, so a draw does not depend on the batch, on
// threads or on what was drawn before. Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2,
// 3").
#pragma once

#include <array>
#include <cstdint>

namespace decant {

// What a number is drawn for. Verifiers that need independent noise use other purposes than sampling does.
enum class Purpose : uint32_t { kSample = 0, kDraft = 1, kAccept = 2, kResidual = 3, kXtc = 4, kAlign = 5 };

// One block of 128 random bits for (key, counter).
inline std::array<uint32_t, 4> philox(std::array<uint32_t, 2> key, std::array<uint32_t, 4> counter) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53u} * counter[0];
    const uint64_t b = uint64_t{0xCD9E8D57u} * counter[2];
    counter = {static_cast<uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(b),
               static_cast<uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(a)};
    key[0] += 0x9E3779B9u;
    key[1] += 0xBB67AE85u;
  }
  return counter;
}

// Names one draw of one request: everything but the token id and the ordinal of the draw.
struct RngKey {
  uint64_t seed = 0;
  uint32_t sample = 0;    // which of a request's n samples
  uint32_t position = 0;  // index in the sequence of the token being chosen
  Purpose purpose = Purpose::kSample;
};

// 32 random bits for item `index` (a token id, or the ordinal of a draw) of `key`.
uint32_t random_bits(const RngKey& key, uint32_t index);
// Uniform in (0, 1), never 0 or 1: (bits + 0.5) / 2^32 in double.
double random_uniform(const RngKey& key, uint32_t index);
// Standard Gumbel noise, -ln(-ln(u)), in float. Token t of a vocabulary takes index t.
float gumbel_noise(const RngKey& key, uint32_t index);

}  // namespace decant
