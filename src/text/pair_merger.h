// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// The loop both kinds of BPE share: among all adjacent pairs that may merge, take the one with the smallest key (the
// leftmost of equals) until none is left (Sennrich et al. 2016). Short words scan an array; long ones use a heap over a
// linked list, so a run of n characters costs n log n.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace decant {

class PairMerger {
 public:
  // A piece of the word: bytes [begin, begin + size) and the number that `Lookup` knows it by.
  struct Symbol {
    uint32_t begin, size;
    int32_t id;
  };
  // What a pair becomes. `key` orders merges; kNever when the pair does not merge.
  struct Merge {
    uint32_t key = kNever;
    int32_t id = -1;
  };
  static constexpr uint32_t kNever = UINT32_MAX;

  // The word: fill before run(), read after it.
  std::vector<Symbol> symbols;

  // lookup(const Symbol& left, const Symbol& right) -> Merge. Precondition: fewer than 2^31 symbols.
  template <typename Lookup>
  void run(Lookup&& lookup) {
    if (symbols.size() < 2) return;
    if (symbols.size() <= kScanLimit) {
      run_scan(lookup);
    } else {
      run_heap(lookup);
    }
  }

 private:
  static constexpr size_t kScanLimit = 48;

  template <typename Lookup>
  void run_scan(Lookup& lookup) {
    Merge merges[kScanLimit];  // merges[i]: of symbols i and i + 1
    size_t n = symbols.size();
    for (size_t i = 0; i + 1 < n; ++i) merges[i] = lookup(symbols[i], symbols[i + 1]);
    while (n > 1) {
      size_t best = 0;
      for (size_t i = 1; i + 1 < n; ++i) {
        if (merges[i].key < merges[best].key) best = i;
      }
      if (merges[best].key == kNever) break;
      symbols[best].size += symbols[best + 1].size;
      symbols[best].id = merges[best].id;
      for (size_t i = best + 1; i + 1 < n; ++i) symbols[i] = symbols[i + 1];
      for (size_t i = best; i + 2 < n; ++i) merges[i] = merges[i + 1];
      --n;
      if (best + 1 < n) merges[best] = lookup(symbols[best], symbols[best + 1]);
      if (best > 0) merges[best - 1] = lookup(symbols[best - 1], symbols[best]);
    }
    symbols.resize(n);
  }

  struct Candidate {
    uint32_t key, left, size;  // size of the merged bytes: a candidate whose symbols have changed since is stale
    int32_t id;
    bool operator<(const Candidate& o) const { return key != o.key ? key > o.key : left > o.left; }  // max-heap
  };
  struct Link {
    int32_t prev, next;
  };

  template <typename Lookup>
  void run_heap(Lookup& lookup) {
    const auto n = static_cast<int32_t>(symbols.size());
    links_.resize(symbols.size());
    for (int32_t i = 0; i < n; ++i) links_[i] = {i - 1, i + 1 < n ? i + 1 : -1};
    heap_.clear();
    const auto candidate = [&](int32_t left, int32_t right) -> Candidate {
      const Merge m = lookup(symbols[left], symbols[right]);
      return {m.key, static_cast<uint32_t>(left), symbols[left].size + symbols[right].size, m.id};
    };
    for (int32_t i = 0; i + 1 < n; ++i) {
      if (const Candidate c = candidate(i, i + 1); c.key != kNever) heap_.push_back(c);
    }
    std::make_heap(heap_.begin(), heap_.end());
    const auto push = [&](int32_t left, int32_t right) {
      if (left < 0 || right < 0) return;
      if (const Candidate c = candidate(left, right); c.key != kNever) {
        heap_.push_back(c);
        std::push_heap(heap_.begin(), heap_.end());
      }
    };
    while (!heap_.empty()) {
      std::pop_heap(heap_.begin(), heap_.end());
      const Candidate c = heap_.back();
      heap_.pop_back();
      const auto left = static_cast<int32_t>(c.left);
      const int32_t right = links_[left].next;
      if (symbols[left].size == 0 || right < 0 || symbols[left].size + symbols[right].size != c.size) continue;
      symbols[left].size = c.size;
      symbols[left].id = c.id;
      symbols[right].size = 0;
      links_[left].next = links_[right].next;
      if (links_[right].next >= 0) links_[links_[right].next].prev = left;
      push(links_[left].prev, left);
      push(left, links_[left].next);
    }
    std::erase_if(symbols, [](const Symbol& s) { return s.size == 0; });
  }

  std::vector<Link> links_;
  std::vector<Candidate> heap_;
};

}  // namespace decant
