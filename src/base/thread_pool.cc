// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "base/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

namespace decant {
namespace {

// About 20 to 60 microseconds: longer than the gaps between the ops of a step, shorter than anything a person would
// call idle.
constexpr int kSpins = 4000;

inline void cpu_relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  std::this_thread::yield();
#endif
}

}  // namespace

struct ThreadPool::State {
  std::vector<std::thread> workers;
  // One region: written by the caller before `epoch` is advanced (release), read by workers after (acquire).
  Invoke invoke = nullptr;
  void* context = nullptr;
  int64_t items = 0, grain = 1;
  std::atomic<int64_t> next{0};
  std::atomic<uint32_t> epoch{0};
  std::atomic<int> busy{0};
  std::atomic<bool> stop{false};
  std::mutex mutex;
  std::condition_variable wake;
  std::atomic<int> sleepers{0};

  void drain(int thread) {
    for (;;) {
      const int64_t begin = next.fetch_add(grain, std::memory_order_relaxed);
      if (begin >= items) return;
      invoke(context, begin, std::min(begin + grain, items), thread);
    }
  }

  void work(int thread) {
    uint32_t seen = 0;
    for (;;) {
      int spins = 0;
      while (epoch.load(std::memory_order_acquire) == seen) {
        if (++spins < kSpins) {
          cpu_relax();
          continue;
        }
        std::unique_lock lock(mutex);
        sleepers.fetch_add(1, std::memory_order_seq_cst);
        wake.wait(lock, [&] { return epoch.load(std::memory_order_seq_cst) != seen; });
        sleepers.fetch_sub(1, std::memory_order_relaxed);
      }
      seen = epoch.load(std::memory_order_acquire);
      if (stop.load(std::memory_order_relaxed)) return;
      drain(thread);
      busy.fetch_sub(1, std::memory_order_release);
    }
  }

  void announce() {
    epoch.fetch_add(1, std::memory_order_seq_cst);
    if (sleepers.load(std::memory_order_seq_cst) > 0) {
      std::lock_guard lock(mutex);
      wake.notify_all();
    }
  }
};

ThreadPool::ThreadPool(int threads) : state_(std::make_unique<State>()) {
  const int workers = std::clamp(threads, 1, 256) - 1;
  state_->workers.reserve(static_cast<size_t>(workers));
  for (int i = 0; i < workers; ++i) state_->workers.emplace_back([this, i] { state_->work(i + 1); });
}

ThreadPool::~ThreadPool() {
  state_->stop.store(true, std::memory_order_relaxed);
  {
    std::lock_guard lock(state_->mutex);
    state_->epoch.fetch_add(1, std::memory_order_seq_cst);
  }
  state_->wake.notify_all();
  for (std::thread& worker : state_->workers) worker.join();
}

int ThreadPool::threads() const { return static_cast<int>(state_->workers.size()) + 1; }

void ThreadPool::run(int64_t items, int64_t grain, Invoke invoke, void* context) {
  if (items <= 0) return;
  State& s = *state_;
  if (s.workers.empty() || items <= grain) {
    for (int64_t begin = 0; begin < items; begin += grain) invoke(context, begin, std::min(begin + grain, items), 0);
    return;
  }
  s.invoke = invoke;
  s.context = context;
  s.items = items;
  s.grain = grain;
  s.next.store(0, std::memory_order_relaxed);
  s.busy.store(static_cast<int>(s.workers.size()), std::memory_order_relaxed);
  s.announce();
  s.drain(0);
  int spins = 0;
  while (s.busy.load(std::memory_order_acquire) != 0) {
    if (++spins < (1 << 16)) {
      cpu_relax();
    } else {
      std::this_thread::yield();
    }
  }
}

int available_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

}  // namespace decant
