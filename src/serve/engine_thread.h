// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// A scheduler on a thread of its own, for callers on any thread.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "base/status.h"
#include "engine/scheduler.h"

namespace decant {

struct EngineThreadOptions {
  SchedulerOptions scheduler;
  int max_waiting = 1024;  // requests that wait for their turn, >= 0; more are refused
};

// All functions may be called from any thread, also from on_token and on_done, but for the destructor. Those two run on
// the engine's thread and hold up everybody: they hand over what they get.
class EngineThread {
 public:
  // `engine` must outlive it and is the thread's alone until it ends.
  EngineThread(Engine& engine, const EngineThreadOptions& options);
  EngineThread(const EngineThread&) = delete;
  EngineThread& operator=(const EngineThread&) = delete;
  ~EngineThread() { stop(); }

  // kExhausted when too many wait already (try again later), kCancelled after drain() or stop(). on_done is called for
  // requests that were taken, and only for them.
  Result<RequestId> submit(ScheduledRequest request);
  // The request ends with kCancelled within one step. Nothing happens if it has ended already.
  void cancel(RequestId id);

  // From now on nothing is taken; what was taken goes on.
  void drain();
  // True when nothing runs or waits, false if that does not happen in time.
  bool wait_idle(std::chrono::milliseconds time);
  // Cancels all and ends the thread.
  void stop();

  // As of the last step.
  SchedulerStats stats() const;

 private:
  struct Order {
    RequestId id = 0;
    bool cancels = false;
    ScheduledRequest request;
  };
  void work();

  Engine& engine_;
  EngineThreadOptions options_;
  mutable std::mutex mutex_;
  std::condition_variable wake_, idle_;
  std::vector<Order> inbox_;
  RequestId next_id_ = 1;
  int unfinished_ = 0;  // taken and not ended
  bool draining_ = false, stopping_ = false;
  SchedulerStats stats_;
  std::thread thread_;
};

}  // namespace decant
