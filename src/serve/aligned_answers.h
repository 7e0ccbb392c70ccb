// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Aligned sampling (engine/align.h) behind the scheduler: each text that is begun is a request of its own whose tokens
// the alignment chooses, so it runs in the batch with all others; what texts have in common lies in the prefix cache.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "engine/align.h"
#include "engine/scheduler.h"

namespace decant {
class EngineThread;
}

namespace decant::serve {

// The answers to one prompt. Functions may be called from any thread.
class AlignedAnswers : public std::enable_shared_from_this<AlignedAnswers> {
 public:
  // Called by the engine's thread, or by start().
  struct Events {
    // In the order in which they are drawn. `cached_tokens`: of the prompt, when the first text began.
    std::function<void(AlignedSample sample, int cached_tokens)> on_answer;
    // Once, behind the last of them: kStop when all `n` came, else why they did not.
    std::function<void(FinishReason reason, Status status)> on_end;
  };

  // `request`: all but on_done; its `generate` as for AlignedSampler, whose errors are these too. `n` >= 1.
  static Result<std::shared_ptr<AlignedAnswers>> create(EngineThread& engine, ScheduledRequest request,
                                                        const AlignOptions& options, int n, int vocab_size, int context,
                                                        Events events);
  // What the engine says if it takes nothing; then there are no events.
  Status start();
  // The end comes with kCancelled within one step.
  void cancel();

 private:
  class Chooser;

  AlignedAnswers(EngineThread& engine, ScheduledRequest request, const AlignOptions& options, int n, Events events);
  Status begin_texts();
  void go_on(std::vector<AlignedSample>* samples);
  void end(FinishReason reason, Status status);
  void done(const GenerateResult& result);
  Result<bool> choose(AlignedTexts::Text* text, size_t from, std::span<const float> logits,
                      std::vector<TokenId>* tokens);

  EngineThread& engine_;
  ScheduledRequest request_;
  const AlignOptions options_;
  const int n_;
  const Events events_;

  std::mutex mutex_;  // of what follows
  std::unique_ptr<AlignedTexts> texts_;
  std::vector<RequestId> ids_;  // of the round's texts
  int open_ = 0;                // of them, that the engine has
  int drawn_ = 0;
  bool cancelled_ = false, ended_ = false;
  FinishReason reason_ = FinishReason::kStop;
  Status status_;
  int cached_tokens_ = -1;
};

}  // namespace decant::serve
