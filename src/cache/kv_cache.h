// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Keys and values of many sequences in pages of 64. A sequence is a table of pages; forks share pages, and a page that
// is shared is copied before one of its owners appends to it.
//
// Rows are appended as committed (a chain: they extend the sequence) or as pending (a token tree: they lie behind the
// committed rows until one path is committed or all are dropped). Layers may be filled by different steps (a layer
// range), so committed and pending rows are counted per layer.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"
#include "kernels/device.h"
#include "kernels/table.h"

namespace decant {

using SequenceId = int32_t;

class KvCache {
 public:
  // `layers`: one layout each. `pages`: how many pages of 64 keys all sequences share.
  static Result<KvCache> create(Device& device, std::vector<KvLayout> layers, int pages);

  int pages() const { return static_cast<int>(references_.size()); }
  int free_pages() const { return static_cast<int>(free_.size()); }
  size_t bytes() const;  // device memory reserved
  const KvLayout& layout(int layer) const { return layers_[static_cast<size_t>(layer)]; }
  DevPtr<uint8_t> pool(int layer) const { return pools_[static_cast<size_t>(layer)].ptr<uint8_t>(); }

  SequenceId create_sequence();
  // A new sequence that shares the first `length` committed rows of `parent`. kInvalidArgument if it has fewer.
  Result<SequenceId> fork(SequenceId parent, int length);
  // Forgets all rows from `length` on, and all pending rows. kInvalidArgument if no layer has that many
  // committed rows; layers with fewer keep what they have.
  Status truncate(SequenceId sequence, int length);
  Status remove(SequenceId sequence);
  bool exists(SequenceId sequence) const;

  // Committed rows of a layer; of the layer that has most.
  int length(SequenceId sequence, int layer) const;
  int length(SequenceId sequence) const;
  int pending(SequenceId sequence, int layer) const;

  // 0 <= first <= rows. Makes slots [0, rows) of the sequence exist and slots [first, rows) writable by it alone.
  // kExhausted, with nothing changed, if there are not enough free pages.
  Status reserve(SequenceId sequence, int first, int rows);
  // Gives back pages that hold neither committed nor pending rows (after a reserve() whose step did not run).
  void shrink(SequenceId sequence);
  // The first use of memory takes long where the system gives it on first touch: a step that comes to it would stall.
  // Touches a piece of the pages that will be taken next (none that is taken); false when enough lies ready. For loops
  // that have time now; changes nothing else.
  bool prepare_pages();
  // Page ids, slot s of the sequence is at page table[s / 64].
  std::span<const int32_t> page_table(SequenceId sequence) const;

  // Counts rows that a step wrote into layers [first_layer, last_layer).
  void append_committed(SequenceId sequence, int first_layer, int last_layer, int rows);
  void append_pending(SequenceId sequence, int first_layer, int last_layer, int rows);

  // Commits pending rows `path` (indices among the pending rows, strictly increasing), drops the other pending rows.
  Status commit(SequenceId sequence, std::span<const int32_t> path);
  void drop_pending(SequenceId sequence);

 private:
  struct Sequence {
    bool used = false;
    std::vector<int32_t> table;
    std::vector<int> committed, pending;  // per layer
  };
  KvCache() = default;
  Status check(SequenceId sequence) const;
  void release_pages(Sequence& s, size_t keep);

  Device* device_ = nullptr;
  std::vector<KvLayout> layers_;
  std::vector<DeviceBuffer> pools_;
  std::vector<int32_t> references_;
  std::vector<int32_t> free_;
  int taken_ = 0;        // pages that were ever in use: those with the lowest ids
  size_t prepared_ = 0;  // pieces that prepare_pages() has been at
  std::vector<Sequence> sequences_;
  DeviceBuffer moves_;  // staging of commit()
};

}  // namespace decant
