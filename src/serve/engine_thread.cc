// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "serve/engine_thread.h"

#include <map>
#include <utility>

namespace decant {

EngineThread::EngineThread(Engine& engine, const EngineThreadOptions& options) : engine_(engine), options_(options) {
  stats_.pages_total = engine.cache().pages();
  stats_.pages_free = engine.cache().free_pages();
  thread_ = std::thread([this] { work(); });
}

Result<RequestId> EngineThread::submit(ScheduledRequest request) {
  const std::lock_guard lock(mutex_);
  if (draining_ || stopping_) return Status::cancelled("the server is shutting down; send the request to another one");
  if (unfinished_ >= options_.scheduler.max_running + options_.max_waiting) {
    return Status::exhausted("{} requests are running or waiting already; try again later", unfinished_);
  }
  const RequestId id = next_id_++;
  ++unfinished_;
  inbox_.push_back({.id = id, .cancels = false, .request = std::move(request)});
  wake_.notify_one();
  return id;
}

void EngineThread::cancel(RequestId id) {
  const std::lock_guard lock(mutex_);
  inbox_.push_back({.id = id, .cancels = true, .request = {}});
  wake_.notify_one();
}

void EngineThread::drain() {
  const std::lock_guard lock(mutex_);
  draining_ = true;
}

bool EngineThread::wait_idle(std::chrono::milliseconds time) {
  std::unique_lock lock(mutex_);
  return idle_.wait_for(lock, time, [&] { return unfinished_ == 0; });
}

void EngineThread::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    wake_.notify_one();
  }
  if (thread_.joinable()) thread_.join();
}

SchedulerStats EngineThread::stats() const {
  const std::lock_guard lock(mutex_);
  SchedulerStats s = stats_;
  s.waiting += static_cast<int>(inbox_.size());
  return s;
}

void EngineThread::work() {
  Scheduler scheduler(engine_, options_.scheduler);
  std::map<RequestId, RequestId> in_scheduler;  // those that were handed out, and the scheduler's
  std::vector<Order> orders;
  while (engine_.cache().prepare_pages()) {
  }
  bool idle = true;
  int ended = 0;  // since the last look at the inbox
  const auto settle = [&] {
    stats_ = scheduler.stats();
    unfinished_ -= std::exchange(ended, 0);
    if (unfinished_ == 0) idle_.notify_all();
  };
  while (true) {
    {
      std::unique_lock lock(mutex_);
      settle();
      if (idle) wake_.wait(lock, [&] { return stopping_ || !inbox_.empty(); });
      orders.swap(inbox_);
      if (stopping_) break;
    }
    for (Order& order : orders) {
      if (order.cancels) {
        if (const auto known = in_scheduler.find(order.id); known != in_scheduler.end()) {
          scheduler.cancel(known->second);
        }
        continue;
      }
      auto done = std::move(order.request.on_done);
      order.request.on_done = [&in_scheduler, &ended, id = order.id, done = std::move(done)](GenerateResult result) {
        in_scheduler.erase(id);
        if (done) done(std::move(result));
        ++ended;
      };
      // A request that ends at once is gone when add() returns.
      in_scheduler[order.id] = 0;
      const RequestId own = scheduler.add(std::move(order.request));
      if (const auto known = in_scheduler.find(order.id); known != in_scheduler.end()) known->second = own;
    }
    orders.clear();
    scheduler.step();
    engine_.cache().prepare_pages();
    idle = scheduler.idle();
  }
  scheduler.cancel_all();
  for (Order& order : orders) {
    if (order.cancels) continue;
    if (order.request.on_done) {
      GenerateResult result;
      result.finish = FinishReason::kCancelled;
      order.request.on_done(std::move(result));
    }
    ++ended;
  }
  const std::lock_guard lock(mutex_);
  settle();
}

}  // namespace decant
