// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "serve/submission.h"

#include <string>
#include <utility>

#include "serve/engine_thread.h"
#include "serve/metrics.h"

namespace decant::serve {

Problem refusal(const Status& status) {
  const bool full = status.code() == Code::kExhausted;
  if (!full && status.code() != Code::kCancelled) return Problem::of(status);
  return {full ? 429 : 503, std::string(status.message()), "", full ? "queue_full" : "shutting_down"};
}

Problem submit(EngineThread& engine, Metrics& metrics, ScheduledRequest request, RequestId* id) {
  // Before it is handed over: it may end at once.
  metrics.answers_open.fetch_add(1, std::memory_order_relaxed);
  Result<RequestId> taken = engine.submit(std::move(request));
  if (taken.ok()) {
    *id = *taken;
    return {};
  }
  metrics.answers_open.fetch_sub(1, std::memory_order_relaxed);
  return refusal(taken.status());
}

}  // namespace decant::serve
