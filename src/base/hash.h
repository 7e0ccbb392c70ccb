// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Hashes for checksums of our own files and for keys of tables. Whoever wants to can make two inputs of one hash.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace decant {

inline constexpr uint64_t kFnvStart = 0xCBF29CE484222325u;
inline constexpr uint64_t kFnvPrime = 0x100000001B3u;

// FNV-1a of 64 bits (Fowler, Noll, Vo). `hash` is that of the bytes before.
constexpr uint64_t fnv1a(std::string_view bytes, uint64_t hash = kFnvStart) {
  for (const char c : bytes) hash = (hash ^ static_cast<uint8_t>(c)) * kFnvPrime;
  return hash;
}
constexpr uint64_t fnv1a(std::span<const uint8_t> bytes, uint64_t hash = kFnvStart) {
  for (const uint8_t b : bytes) hash = (hash ^ b) * kFnvPrime;
  return hash;
}

// The finalizer of SplitMix64 (Steele et al. 2014): a bijection in which each bit of the input changes about half of
// the output's.
constexpr uint64_t mix_bits(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

}  // namespace decant
