// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/thread_pool.h"
#include "kernels/table.h"

namespace decant {

// What CPU ops run on: a thread pool, and scratch memory that grows to what the largest op needs and then stays.
class CpuQueue final : public Queue {
 public:
  explicit CpuQueue(int threads) : pool_(threads), scratch_(static_cast<size_t>(pool_.threads()) + 1) {}

  ThreadPool& pool() { return pool_; }
  // `floats` floats of `thread`, 64-byte aligned, contents undefined. Threads may call it for themselves at the same
  // time.
  float* scratch(int thread, size_t floats) { return grow(scratch_[static_cast<size_t>(thread)], floats); }
  // Likewise, shared by all threads of an op; call it before the parallel region.
  float* shared_scratch(size_t floats) { return grow(scratch_.back(), floats); }
  // Where the tasks of the op at hand begin and end.
  std::vector<int64_t>& task_bounds() { return task_bounds_; }

 private:
  struct Free {
    void operator()(float* p) const { std::free(p); }
  };
  struct Scratch {
    std::unique_ptr<float, Free> data;
    size_t floats = 0;
  };
  static float* grow(Scratch& s, size_t floats) {
    if (s.floats < floats) {
      const size_t rounded = (floats + 1023) / 1024 * 1024;
      s.data.reset(static_cast<float*>(std::aligned_alloc(64, rounded * sizeof(float))));
      DECANT_CHECK(s.data != nullptr);
      s.floats = rounded;
    }
    return s.data.get();
  }

  ThreadPool pool_;
  std::vector<Scratch> scratch_;
  std::vector<int64_t> task_bounds_;
};

}  // namespace decant
