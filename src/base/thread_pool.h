// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>

namespace decant {

// Fork-join workers for the ops of one engine. Work items are disjoint outputs, never parts of one sum, so which thread
// takes which item changes no bit. One caller at a time; workers spin for a short while between regions and then sleep.
class ThreadPool {
 public:
  // `threads` counts the caller, so 1 starts no worker. Clamped to 1..256.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const;

  // Calls body(begin, end, thread) on disjoint ranges that cover [0, items), each at most `grain` items long, and
  // returns when all are done. `thread` is in [0, threads()) and unique among concurrent calls: it may index scratch
  // memory.
  template <typename Body>
  void parallel_for(int64_t items, int64_t grain, Body&& body) {
    run(
        items, grain < 1 ? 1 : grain,
        [](void* context, int64_t begin, int64_t end, int thread) {
          (*static_cast<std::remove_reference_t<Body>*>(context))(begin, end, thread);
        },
        const_cast<void*>(static_cast<const void*>(&body)));
  }

 private:
  using Invoke = void (*)(void* context, int64_t begin, int64_t end, int thread);
  void run(int64_t items, int64_t grain, Invoke invoke, void* context);

  struct State;
  std::unique_ptr<State> state_;
};

// Processors this process may use (affinity and cgroup mask), at least 1.
int available_cpus();

}  // namespace decant
