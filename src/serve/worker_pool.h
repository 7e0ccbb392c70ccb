// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// A few threads for work that neither the connections' nor the engine's thread may do: reading large requests,
// rendering templates, compiling grammars.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace decant::serve {

class WorkerPool {
 public:
  // `max_waiting`: tasks that wait for a thread.
  WorkerPool(int threads, size_t max_waiting);
  ~WorkerPool() { stop(); }
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  // False if too many wait, or after stop(). A task must not throw.
  bool post(std::function<void()> task);
  // Drops tasks that wait and joins. A task must not call it.
  void stop();
  size_t waiting() const;

 private:
  void run();

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> tasks_;
  const size_t max_waiting_;
  bool stopped_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace decant::serve
