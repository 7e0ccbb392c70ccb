// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// One HTTP request on its way through the engine: all its answers (n of each prompt), written whole when the last has
// ended, or as a stream of events while they come. It lives until the engine has let go of it.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "serve/answer_text.h"
#include "serve/chat_splitter.h"
#include "serve/engine_thread.h"
#include "serve/http_server.h"
#include "serve/metrics.h"
#include "serve/openai_response.h"
#include "serve/served_model.h"

namespace decant {
struct AlignedSample;
}

namespace decant::serve {

class AlignedAnswers;

// What is said of a request when it has been answered.
struct RequestReport {
  int status = 0;
  Usage usage;
  double first_token_seconds = -1;
  std::string finish;  // of the first answer
};

struct AnswerJobOptions {
  bool is_chat = false;
  bool stream = false, include_usage = false, echo = false;
  int n_logprobs = -1;
  int prompt_logprobs = -1;  // vLLM's field of this name
  int n = 1;                 // answers of each prompt
  std::vector<std::string> stops;
  int priority = 0;
  double timeout = 0;
  std::string client;
  uint64_t cache_salt = 0;
  AnswerHead head;  // object: "chat.completion" or "text_completion"
};

class AnswerJob : public std::enable_shared_from_this<AnswerJob> {
 public:
  using Clock = std::chrono::steady_clock;

  AnswerJob(const ServedModel& model, EngineThread& engine, Metrics& metrics, AnswerJobOptions options,
            std::vector<PreparedAnswer> prompts, std::shared_ptr<Responder> responder, Clock::time_point begin,
            std::function<void(const RequestReport&)> on_end);

  // Hands everything to the engine.
  void start();
  // The client has gone.
  void cancel();

 private:
  struct Choice {
    size_t prompt;
    std::unique_ptr<AnswerText> text;
    std::unique_ptr<ChatSplitter> splitter;
    std::vector<ChatPiece> pieces;  // of a whole answer
    std::vector<std::string> call_ids;
    std::string plain;                // of a whole completion
    std::vector<AnswerToken> tokens;  // of a whole answer; of a stream, those that no chunk has had yet
    std::string finish;
    Json alignment;  // how an aligned answer was drawn; null: it was not
    bool done = false, begun = false;
    Clock::time_point last_token;
  };

  void submit_all(std::optional<Clock::time_point> deadline);
  void start_aligned(std::optional<Clock::time_point> deadline);
  Problem start_aligned(size_t prompt, std::optional<Clock::time_point> deadline);
  void take_aligned(size_t index, AlignedSample sample, int cached_tokens);
  bool take(size_t index, const Draw& draw);
  void take_text(size_t index, std::string text, bool last);
  void write_prompt(Choice& choice, size_t index);
  void write_pieces(size_t index, std::vector<ChatPiece> pieces, bool last);
  void write_plain(size_t index, const std::string& text, bool last);
  Json chunk_json(size_t index, Json choice) const;
  Json take_logprobs(Choice& choice, size_t index);
  Json prompt_numbers(size_t prompt) const;
  size_t add_prompt_logprobs(size_t prompt, LegacyLogprobs* out) const;
  bool begin_stream();
  void done(size_t index, GenerateResult result);
  void fail(size_t index, const Problem& problem);
  void end_one(Choice& choice);
  void finish();
  Json whole_answer();

  const ServedModel& model_;
  EngineThread& engine_;
  Metrics& metrics_;
  const AnswerJobOptions options_;
  const Clock::time_point begin_;
  std::function<void(const RequestReport&)> on_end_;

  std::mutex mutex_;  // of what follows; the engine's thread and the one that submits
  std::vector<PreparedAnswer> prompts_;
  std::shared_ptr<Responder> responder_;
  std::vector<Choice> choices_;
  std::vector<RequestId> ids_;
  std::vector<std::weak_ptr<AlignedAnswers>> aligned_;  // by prompt
  std::vector<std::vector<Draw>> prompt_draws_;         // by prompt
  std::vector<bool> prompt_counted_;
  size_t open_ = 0;
  bool streaming_ = false;
  Problem problem_;
  RequestReport report_;
  std::atomic<bool> cancelled_{false};
};

}  // namespace decant::serve
