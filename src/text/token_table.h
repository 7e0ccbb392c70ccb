// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// The two tables every tokenizer stands on: strings by number and numbers by string. Both are flat, because start-up
// builds them for 262,144 tokens before the first prompt can be read.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace decant {

// Strings one after the other in one buffer.
class StringTable {
 public:
  void reserve(size_t strings, size_t bytes) {
    ends_.reserve(strings + 1);
    bytes_.reserve(bytes);
  }
  void add(std::string_view text) {
    bytes_.append(text);
    ends_.push_back(static_cast<uint32_t>(bytes_.size()));
  }
  // The last string may be written piecewise: append to it, then end it.
  std::string* open() { return &bytes_; }
  void close() { ends_.push_back(static_cast<uint32_t>(bytes_.size())); }

  size_t size() const { return ends_.size() - 1; }
  size_t bytes() const { return bytes_.size(); }
  std::string_view operator[](size_t i) const {
    return std::string_view(bytes_).substr(ends_[i], ends_[i + 1] - ends_[i]);
  }

 private:
  std::string bytes_;
  std::vector<uint32_t> ends_ = {0};
};

// 64-bit hash of bytes, not seeded: a hostile vocabulary can at worst make its own look-ups slow.
inline uint64_t hash_bytes(std::string_view s) {
  constexpr uint64_t kMix = 0x9E3779B97F4A7C15u;
  uint64_t h = s.size() * kMix;
  const char* p = s.data();
  size_t n = s.size();
  const auto step = [&h](uint64_t word) {
    h = (h ^ word) * kMix;
    h ^= h >> 32;
  };
  for (; n >= 8; n -= 8, p += 8) {
    uint64_t word;
    std::memcpy(&word, p, 8);
    step(word);
  }
  if (n > 0) {
    uint64_t word = 0;
    std::memcpy(&word, p, n);
    step(word);
  }
  return h ^ (h >> 29);
}

// Open-addressing map from the strings of a StringTable to their numbers.
class StringIndex {
 public:
  void reserve(size_t strings) {
    const size_t slots = std::bit_ceil(strings * 2 + 16);
    slots_.assign(slots, Slot{});
    mask_ = slots - 1;
  }
  // Inserts string `id` of `table`; false when an equal string is there already. Precondition: reserve() left room.
  bool insert(const StringTable& table, uint32_t id) {
    const std::string_view text = table[id];
    const uint64_t hash = hash_bytes(text);
    const uint32_t tag = static_cast<uint32_t>(hash >> 32);
    for (size_t at = hash & mask_;; at = (at + 1) & mask_) {
      Slot& slot = slots_[at];
      if (slot.id_plus_1 == 0) {
        slot = {id + 1, tag};
        return true;
      }
      if (slot.tag == tag && table[slot.id_plus_1 - 1] == text) return false;
    }
  }
  // The number of `text`, or -1.
  int32_t find(const StringTable& table, std::string_view text) const {
    const uint64_t hash = hash_bytes(text);
    const uint32_t tag = static_cast<uint32_t>(hash >> 32);
    for (size_t at = hash & mask_;; at = (at + 1) & mask_) {
      const Slot& slot = slots_[at];
      if (slot.id_plus_1 == 0) return -1;
      if (slot.tag == tag && table[slot.id_plus_1 - 1] == text) return static_cast<int32_t>(slot.id_plus_1 - 1);
    }
  }

 private:
  struct Slot {
    uint32_t id_plus_1 = 0;  // 0: empty
    uint32_t tag = 0;
  };
  std::vector<Slot> slots_ = std::vector<Slot>(1);
  size_t mask_ = 0;
};

}  // namespace decant
