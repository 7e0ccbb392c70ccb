// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Merges of byte pair encoding by their pair. Internal to src/text.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "text/pair_merger.h"

namespace decant {

// (left, right) -> (rank, merged) by open addressing.
class MergeTable {
 public:
  void reserve(size_t merges) {
    const size_t slots = std::bit_ceil(merges * 2 + 16);
    slots_.assign(slots, Slot{});
    mask_ = slots - 1;
  }
  // The first rank of a pair counts.
  void insert(int32_t left, int32_t right, uint32_t rank, int32_t merged) {
    const uint64_t key = make_key(left, right);
    size_t at = slot(key);
    while (slots_[at].key != kEmpty) {
      if (slots_[at].key == key) return;
      at = (at + 1) & mask_;
    }
    slots_[at] = {key, {rank, merged}};
  }
  PairMerger::Merge find(int32_t left, int32_t right) const {
    const uint64_t key = make_key(left, right);
    for (size_t at = slot(key);; at = (at + 1) & mask_) {
      if (slots_[at].key == key) return slots_[at].merge;
      if (slots_[at].key == kEmpty) return {};
    }
  }

 private:
  static constexpr uint64_t kEmpty = UINT64_MAX;
  struct Slot {
    uint64_t key = kEmpty;
    PairMerger::Merge merge;
  };
  static uint64_t make_key(int32_t left, int32_t right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }
  size_t slot(uint64_t key) const {
    key *= 0x9E3779B97F4A7C15u;
    return (key ^ key >> 32) & mask_;
  }
  std::vector<Slot> slots_;
  size_t mask_ = 0;
};

}  // namespace decant
