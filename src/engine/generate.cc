// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "engine/generate.h"

#include <climits>
#include <utility>

#include "engine/scheduler.h"

namespace decant {

std::string_view finish_reason_name(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop: return "stop";
    case FinishReason::kLength: return "length";
    case FinishReason::kCancelled: return "cancelled";
    case FinishReason::kDeadline: return "deadline";
    case FinishReason::kError: return "error";
  }
  return "error";
}

Status check_prompt(size_t tokens, int context) {
  if (tokens == 0) return Status::invalid_argument("the prompt is empty; give at least one token");
  if (tokens > static_cast<size_t>(context)) {
    return Status::invalid_argument(
        "the prompt has {} tokens, the context holds {}; shorten it or raise the context size (-c)", tokens, context);
  }
  return {};
}

std::vector<GenerateResult> generate(Engine& engine, std::span<GenerateRequest> requests,
                                     const GenerateOptions& options) {
  std::vector<GenerateResult> results(requests.size());
  // Everything at once, in order; a request whose rows do not fit fails, as the caller has chosen how many there are.
  Scheduler scheduler(engine, {.max_running = INT_MAX,
                               .prefill_chunk = options.prefill_chunk,
                               .stretch = 0,
                               .prefix_cache = false,
                               .preempt = false});
  for (size_t i = 0; i < requests.size(); ++i) {
    scheduler.add(
        {.generate = requests[i], .client = {}, .deadline = {}, .on_done = [&results, i](GenerateResult result) {
           results[i] = std::move(result);
         }});
  }
  const int64_t total = scheduler.prompt_left();
  int64_t done = 0;
  while (true) {
    if (options.cancel != nullptr && options.cancel->load(std::memory_order_relaxed)) {
      scheduler.cancel_all();
      break;
    }
    if (!scheduler.step()) break;
    if (!options.on_prefill || done == total) continue;
    done = total - scheduler.prompt_left();
    options.on_prefill(done, total);
  }
  return results;
}

}  // namespace decant
