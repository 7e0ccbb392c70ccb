// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "cache/kv_cache.h"

#include <algorithm>

namespace decant {
namespace {

size_t pages_for(int rows) { return (static_cast<size_t>(rows) + kPageKeys - 1) / kPageKeys; }

}  // namespace

Result<KvCache> KvCache::create(Device& device, std::vector<KvLayout> layers, int pages) {
  if (pages < 1) return Status::invalid_argument("a KV cache needs at least one page of {} tokens", kPageKeys);
  if (layers.empty()) return Status::invalid_argument("a KV cache needs at least one layer");
  KvCache cache;
  cache.device_ = &device;
  cache.layers_ = std::move(layers);
  for (const KvLayout& layout : cache.layers_) {
    DECANT_TRY(DeviceBuffer pool, device.alloc(static_cast<size_t>(pages) * layout.page_bytes()));
    cache.pools_.push_back(std::move(pool));
  }
  cache.references_.assign(static_cast<size_t>(pages), 0);
  cache.free_.reserve(static_cast<size_t>(pages));
  for (int32_t page = pages - 1; page >= 0; --page) cache.free_.push_back(page);
  return cache;
}

size_t KvCache::bytes() const {
  size_t total = 0;
  for (const DeviceBuffer& pool : pools_) total += pool.size();
  return total;
}

bool KvCache::exists(SequenceId sequence) const {
  return sequence >= 0 && static_cast<size_t>(sequence) < sequences_.size() &&
         sequences_[static_cast<size_t>(sequence)].used;
}

Status KvCache::check(SequenceId sequence) const {
  if (exists(sequence)) return {};
  return Status::not_found("sequence {} is not in the KV cache", sequence);
}

SequenceId KvCache::create_sequence() {
  size_t i = 0;
  while (i < sequences_.size() && sequences_[i].used) ++i;
  if (i == sequences_.size()) sequences_.emplace_back();
  Sequence& s = sequences_[i];
  s.used = true;
  s.table.clear();
  s.committed.assign(layers_.size(), 0);
  s.pending.assign(layers_.size(), 0);
  return static_cast<SequenceId>(i);
}

Result<SequenceId> KvCache::fork(SequenceId parent, int length) {
  DECANT_TRY_STATUS(check(parent));
  if (length < 0 || length > this->length(parent)) {
    return Status::invalid_argument("fork at {}: sequence {} has {} tokens", length, parent, this->length(parent));
  }
  const SequenceId child = create_sequence();
  const Sequence& from = sequences_[static_cast<size_t>(parent)];
  Sequence& to = sequences_[static_cast<size_t>(child)];
  const auto end = from.table.begin() + static_cast<ptrdiff_t>(pages_for(length));
  to.table.assign(from.table.begin(), end);
  for (int32_t page : to.table) ++references_[static_cast<size_t>(page)];
  for (size_t l = 0; l < layers_.size(); ++l) to.committed[l] = std::min(length, from.committed[l]);
  return child;
}

void KvCache::release_pages(Sequence& s, size_t keep) {
  while (s.table.size() > keep) {
    const int32_t page = s.table.back();
    s.table.pop_back();
    if (--references_[static_cast<size_t>(page)] == 0) free_.push_back(page);
  }
}

Status KvCache::truncate(SequenceId sequence, int length) {
  DECANT_TRY_STATUS(check(sequence));
  if (length < 0 || length > this->length(sequence)) {
    return Status::invalid_argument("truncate to {}: sequence {} has {} tokens", length, sequence,
                                    this->length(sequence));
  }
  Sequence& s = sequences_[static_cast<size_t>(sequence)];
  std::fill(s.pending.begin(), s.pending.end(), 0);
  for (int& rows : s.committed) rows = std::min(rows, length);
  release_pages(s, pages_for(length));
  return {};
}

Status KvCache::remove(SequenceId sequence) {
  DECANT_TRY_STATUS(check(sequence));
  Sequence& s = sequences_[static_cast<size_t>(sequence)];
  release_pages(s, 0);
  s.used = false;
  return {};
}

int KvCache::length(SequenceId sequence, int layer) const {
  return sequences_[static_cast<size_t>(sequence)].committed[static_cast<size_t>(layer)];
}

int KvCache::length(SequenceId sequence) const {
  const std::vector<int>& committed = sequences_[static_cast<size_t>(sequence)].committed;
  return committed.empty() ? 0 : *std::max_element(committed.begin(), committed.end());
}

int KvCache::pending(SequenceId sequence, int layer) const {
  return sequences_[static_cast<size_t>(sequence)].pending[static_cast<size_t>(layer)];
}

Status KvCache::reserve(SequenceId sequence, int first, int rows) {
  DECANT_TRY_STATUS(check(sequence));
  Sequence& s = sequences_[static_cast<size_t>(sequence)];
  const size_t begin = static_cast<size_t>(first / kPageKeys);
  const size_t end = pages_for(rows);
  size_t needed = 0;
  for (size_t i = std::min(begin, s.table.size()); i < end; ++i) {
    if (i >= s.table.size() || references_[static_cast<size_t>(s.table[i])] > 1) ++needed;
  }
  if (needed > free_.size()) {
    return Status::exhausted(
        "the KV cache is full: {} more pages of {} tokens are needed, {} of {} are free; raise the "
        "context size (-c)",
        needed, kPageKeys, free_.size(), references_.size());
  }
  for (size_t i = std::min(begin, s.table.size()); i < end; ++i) {
    if (i < s.table.size() && references_[static_cast<size_t>(s.table[i])] == 1) continue;
    const int32_t page = free_.back();
    free_.pop_back();
    references_[static_cast<size_t>(page)] = 1;
    taken_ = std::max(taken_, page + 1);
    if (i == s.table.size()) {
      s.table.push_back(page);
      continue;
    }
    // Copy on write: another sequence still reads the old page.
    const int32_t old = s.table[i];
    for (size_t l = 0; l < layers_.size(); ++l) {
      const size_t bytes = layers_[l].page_bytes();
      const DevPtr<uint8_t> base = pools_[l].ptr<uint8_t>();
      device_->copy((base + static_cast<ptrdiff_t>(static_cast<size_t>(page) * bytes)).cast<void>(),
                    (base + static_cast<ptrdiff_t>(static_cast<size_t>(old) * bytes)).cast<void>(), bytes);
    }
    --references_[static_cast<size_t>(old)];
    s.table[i] = page;
  }
  return {};
}

void KvCache::shrink(SequenceId sequence) {
  Sequence& s = sequences_[static_cast<size_t>(sequence)];
  int rows = 0;
  for (size_t l = 0; l < layers_.size(); ++l) rows = std::max(rows, s.committed[l] + s.pending[l]);
  release_pages(s, pages_for(rows));
}

bool KvCache::prepare_pages() {
  constexpr size_t kPiece = size_t{2} << 20, kTouch = 4096;  // a large page of memory, a small one
  constexpr size_t kAhead = 48;                              // pages of keys
  if (!device_->uses_host_memory()) return false;
  // Pieces are taken layer by layer, so that all layers are about equally far.
  while (true) {
    const size_t layer = prepared_ % layers_.size(), piece = prepared_ / layers_.size() * kPiece;
    const size_t page = layers_[layer].page_bytes(), size = pools_[layer].size();
    const size_t taken = static_cast<size_t>(taken_) * page;
    if (piece >= taken + kAhead * page) return false;
    if (prepared_ / layers_.size() * kPiece >= bytes()) return false;
    ++prepared_;
    if (piece >= size || piece + kPiece <= taken) continue;
    const DevPtr<uint8_t> base = pool(static_cast<int>(layer));
    constexpr uint8_t kNothing[] = {0};
    const size_t begin = std::max(piece, (taken + kTouch - 1) / kTouch * kTouch);
    for (size_t i = begin; i < std::min(piece + kPiece, size); i += kTouch) {
      device_->copy_in(base + static_cast<ptrdiff_t>(i), std::span<const uint8_t>(kNothing));
    }
    return true;
  }
}

std::span<const int32_t> KvCache::page_table(SequenceId sequence) const {
  return sequences_[static_cast<size_t>(sequence)].table;
}

void KvCache::append_committed(SequenceId sequence, int first_layer, int last_layer, int rows) {
  Sequence& s = sequences_[static_cast<size_t>(sequence)];
  for (int l = first_layer; l < last_layer; ++l) s.committed[static_cast<size_t>(l)] += rows;
}

void KvCache::append_pending(SequenceId sequence, int first_layer, int last_layer, int rows) {
  Sequence& s = sequences_[static_cast<size_t>(sequence)];
  for (int l = first_layer; l < last_layer; ++l) s.pending[static_cast<size_t>(l)] += rows;
}

Status KvCache::commit(SequenceId sequence, std::span<const int32_t> path) {
  DECANT_TRY_STATUS(check(sequence));
  Sequence& s = sequences_[static_cast<size_t>(sequence)];
  const int pending = *std::min_element(s.pending.begin(), s.pending.end());
  for (size_t i = 0; i < path.size(); ++i) {
    if (path[i] < 0 || path[i] >= pending || (i > 0 && path[i] <= path[i - 1])) {
      return Status::invalid_argument("commit: row {} of the path is {}; expected increasing indices below {}", i,
                                      path[i], pending);
    }
  }
  const auto slot_of = [&](int slot) {
    return s.table[static_cast<size_t>(slot / kPageKeys)] * kPageKeys + slot % kPageKeys;
  };
  // Rows that are already where they belong (the path's first child chain) stay.
  size_t moved = 0;
  while (moved < path.size() && path[moved] == static_cast<int32_t>(moved)) ++moved;
  const size_t n = path.size() - moved;
  if (n > 0) {
    std::vector<int32_t> slots(2 * n);
    if (moves_.size() < slots.size() * sizeof(int32_t)) {
      DECANT_TRY(moves_, device_->alloc(slots.size() * sizeof(int32_t)));
    }
    for (size_t l = 0; l < layers_.size(); ++l) {
      const int base = s.committed[l];
      for (size_t i = 0; i < n; ++i) {
        slots[i] = slot_of(base + path[moved + i]);
        slots[n + i] = slot_of(base + static_cast<int>(moved + i));
      }
      const DevPtr<int32_t> device_slots = moves_.ptr<int32_t>();
      device_->copy_in(device_slots, std::span<const int32_t>(slots));
      device_->table().kv_move(device_->queue(), {.layout = layers_[l],
                                                  .pool = pools_[l].ptr<uint8_t>(),
                                                  .from = device_slots,
                                                  .to = device_slots + static_cast<ptrdiff_t>(n),
                                                  .n = static_cast<int64_t>(n)});
    }
  }
  for (int& rows : s.committed) rows += static_cast<int>(path.size());
  drop_pending(sequence);
  return {};
}

void KvCache::drop_pending(SequenceId sequence) {
  Sequence& s = sequences_[static_cast<size_t>(sequence)];
  std::fill(s.pending.begin(), s.pending.end(), 0);
  release_pages(s, pages_for(length(sequence)));
}

}  // namespace decant
