// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "serve/answer_job.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "engine/align.h"
#include "serve/aligned_answers.h"
#include "serve/submission.h"

namespace decant::serve {
namespace {

// A comment of the event stream: clients skip it.
constexpr std::string_view kHeartbeat = ": waiting\n\n";

}  // namespace

AnswerJob::AnswerJob(const ServedModel& model, EngineThread& engine, Metrics& metrics, AnswerJobOptions options,
                     std::vector<PreparedAnswer> prompts, std::shared_ptr<Responder> responder, Clock::time_point begin,
                     std::function<void(const RequestReport&)> on_end)
    : model_(model),
      engine_(engine),
      metrics_(metrics),
      options_(std::move(options)),
      begin_(begin),
      on_end_(std::move(on_end)),
      prompts_(std::move(prompts)),
      responder_(std::move(responder)),
      prompt_draws_(prompts_.size()),
      prompt_counted_(prompts_.size(), false) {
  const auto n = static_cast<size_t>(options_.n);
  choices_.reserve(prompts_.size() * n);
  for (size_t i = 0; i < prompts_.size() * n; ++i) {
    const PreparedAnswer& prompt = prompts_[i / n];
    Choice choice{.prompt = i / n};
    choice.text = std::make_unique<AnswerText>(model_.tokenizer(), options_.stops, prompt.shown_control_tokens,
                                               options_.n_logprobs >= 0);
    if (options_.is_chat) choice.splitter = std::make_unique<ChatSplitter>(prompt.splitter);
    choices_.push_back(std::move(choice));
  }
  open_ = choices_.size();
  ids_.resize(choices_.size(), 0);
}

void AnswerJob::start() {
  responder_->on_closed([weak = weak_from_this()] {
    if (const auto job = weak.lock()) job->cancel();
  });
  std::optional<Clock::time_point> deadline;
  if (options_.timeout > 0) {
    deadline = begin_ + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(options_.timeout));
  }
  // Requests of one kind are all aligned or none is.
  prompts_[0].align != nullptr ? start_aligned(deadline) : submit_all(deadline);
  // From here on the client sees that it is waited for.
  const std::lock_guard lock(mutex_);
  if (options_.stream && open_ > 0 && problem_.ok()) begin_stream();
}

void AnswerJob::submit_all(std::optional<Clock::time_point> deadline) {
  const auto self = shared_from_this();
  Problem refused;
  for (size_t i = 0; i < choices_.size(); ++i) {
    if (!refused.ok() || cancelled_.load()) {
      fail(i, refused.ok() ? Problem{503, "the client has gone", "", ""} : refused);
      continue;
    }
    ScheduledRequest request;
    {
      const std::lock_guard lock(mutex_);
      request.generate = prompts_[choices_[i].prompt].generate;
    }
    request.generate.sample = static_cast<uint32_t>(i % static_cast<size_t>(options_.n));
    // Every stream of a prompt begins with its numbers; whole answers need them once.
    if (i % static_cast<size_t>(options_.n) != 0 && !options_.stream) request.generate.prompt_logprobs = -1;
    if (options_.stream && request.generate.prompt_logprobs >= 0) {
      request.generate.on_prompt = [self, prompt = choices_[i].prompt](const std::vector<Draw>& draws) {
        const std::lock_guard lock(self->mutex_);
        self->prompt_draws_[prompt] = draws;
      };
    }
    request.generate.on_token = [self, i](const Draw& draw) { return self->take(i, draw); };
    request.priority = options_.priority;
    request.client = options_.client;
    request.cache_salt = options_.cache_salt;
    request.deadline = deadline;
    request.on_done = [self, i](GenerateResult result) { self->done(i, std::move(result)); };
    RequestId id = 0;
    refused = submit(engine_, metrics_, std::move(request), &id);
    if (!refused.ok()) {
      // What was taken before is of no use alone.
      {
        const std::lock_guard lock(mutex_);
        problem_ = refused;
      }
      cancel();
      fail(i, refused);
      continue;
    }
    {
      const std::lock_guard lock(mutex_);
      ids_[i] = id;
    }
    // Between submit() and here the client may have gone.
    if (cancelled_.load()) engine_.cancel(id);
  }
}

void AnswerJob::start_aligned(std::optional<Clock::time_point> deadline) {
  const auto n = static_cast<size_t>(options_.n);
  Problem refused;
  for (size_t p = 0; p < prompts_.size(); ++p) {
    if (refused.ok() && cancelled_.load()) refused = {503, "the client has gone", "", ""};
    if (refused.ok()) refused = start_aligned(p, deadline);
    if (refused.ok()) continue;
    {
      const std::lock_guard lock(mutex_);
      problem_ = refused;
    }
    cancel();
    for (size_t i = p * n; i < (p + 1) * n; ++i) fail(i, refused);
  }
}

Problem AnswerJob::start_aligned(size_t prompt, std::optional<Clock::time_point> deadline) {
  const auto self = shared_from_this();
  const auto n = static_cast<size_t>(options_.n);
  ScheduledRequest request;
  std::shared_ptr<const AlignOptions> align;
  {
    const std::lock_guard lock(mutex_);
    request.generate = prompts_[prompt].generate;
    align = prompts_[prompt].align;
  }
  request.priority = options_.priority;
  request.client = options_.client;
  request.cache_salt = options_.cache_salt;
  request.deadline = deadline;
  const auto next = std::make_shared<size_t>(prompt * n);
  Result<std::shared_ptr<AlignedAnswers>> made = AlignedAnswers::create(
      engine_, std::move(request), *align, options_.n, model_.options().vocab_size, model_.options().context,
      {.on_answer = [self, next](AlignedSample sample,
                                 int cached) { self->take_aligned((*next)++, std::move(sample), cached); },
       .on_end =
           [self, next, end = (prompt + 1) * n](FinishReason reason, const Status& status) {
             for (; *next < end; ++*next) {
               GenerateResult result;
               result.finish = reason;
               result.status = status;
               self->done(*next, std::move(result));
             }
           }});
  if (!made.ok()) return Problem::of(made.status(), "align");
  {
    const std::lock_guard lock(mutex_);
    aligned_.push_back(*made);
  }
  metrics_.answers_open.fetch_add(options_.n, std::memory_order_relaxed);
  const Status status = (*made)->start();
  if (!status.ok()) {
    metrics_.answers_open.fetch_sub(options_.n, std::memory_order_relaxed);
    return refusal(status);
  }
  if (cancelled_.load()) (*made)->cancel();
  return {};
}

void AnswerJob::take_aligned(size_t index, AlignedSample sample, int cached_tokens) {
  for (const TokenId token : sample.tokens) {
    if (!take(index, {.token = token})) break;
  }
  {
    const std::lock_guard lock(mutex_);
    choices_[index].alignment = {{"log_p", sample.log_p},
                                 {"attempts", sample.attempts},
                                 {"forward_passes", sample.forward_passes},
                                 {"log_c_root", sample.log_c}};
  }
  GenerateResult result;
  result.finish = FinishReason::kStop;
  result.cached_tokens = cached_tokens;
  result.tokens = std::move(sample.tokens);
  done(index, std::move(result));
}

void AnswerJob::cancel() {
  if (cancelled_.exchange(true)) return;
  std::vector<RequestId> ids;
  std::vector<std::weak_ptr<AlignedAnswers>> aligned;
  {
    const std::lock_guard lock(mutex_);
    ids = ids_;
    aligned = aligned_;
  }
  for (const RequestId id : ids) {
    if (id != 0) engine_.cancel(id);
  }
  for (const auto& answers : aligned) {
    if (const auto running = answers.lock()) running->cancel();
  }
}

// With the lock held, as all that follows but done() and fail().
bool AnswerJob::begin_stream() {
  if (streaming_ || responder_ == nullptr) return streaming_;
  streaming_ = true;
  HttpResponse head{.content_type = "text/event-stream; charset=utf-8"};
  head.headers.emplace_back("Cache-Control", "no-cache");
  head.headers.emplace_back("X-Accel-Buffering", "no");
  responder_->begin_stream(std::move(head), std::string(kHeartbeat));
  return true;
}

Json AnswerJob::chunk_json(size_t index, Json choice) const {
  Json json = head_json(options_.head);
  if (options_.is_chat) json["object"] = "chat.completion.chunk";
  Json entry = {{"index", index}};
  entry.update(choice);
  json["choices"] = Json::array({std::move(entry)});
  if (options_.include_usage) json["usage"] = nullptr;
  return json;
}

Json AnswerJob::take_logprobs(Choice& choice, size_t index) {
  if (options_.n_logprobs < 0) return nullptr;
  const std::vector<AnswerToken> tokens = std::exchange(choice.tokens, {});
  if (options_.is_chat) return chat_logprobs(model_.tokenizer(), tokens);
  LegacyLogprobs out;
  const size_t begin = options_.echo ? prompts_[index / static_cast<size_t>(options_.n)].prompt_text.size() : 0;
  for (const AnswerToken& token : tokens) {
    out.add(model_.tokenizer(), token.draw.token, &token.draw, begin + token.text_begin, options_.n_logprobs);
  }
  return out.json;
}

// The prompt's tokens join; where the next text begins.
size_t AnswerJob::add_prompt_logprobs(size_t prompt, LegacyLogprobs* out) const {
  const std::vector<Draw>& draws = prompt_draws_[prompt];
  const std::vector<TokenId>& tokens = prompts_[prompt].generate.prompt;
  const size_t length = prompts_[prompt].prompt_text.size();
  size_t offset = 0;
  for (size_t t = 0; t < tokens.size(); ++t) {
    out->add(model_.tokenizer(), tokens[t], t == 0 || t > draws.size() ? nullptr : &draws[t - 1],
             std::min(offset, length), options_.n_logprobs);
    offset += model_.tokenizer().piece(tokens[t], true).size();
  }
  return length;
}

void AnswerJob::write_prompt(Choice& choice, size_t index) {
  if (choice.begun) return;
  choice.begun = true;
  if (options_.is_chat) {
    responder_->write(event(chunk_json(
        index,
        {{"delta", {{"role", "assistant"}, {"content", ""}}}, {"logprobs", nullptr}, {"finish_reason", nullptr}})));
  } else if (options_.echo) {
    Json logprobs;
    if (options_.n_logprobs >= 0) {
      LegacyLogprobs of_prompt;
      add_prompt_logprobs(choice.prompt, &of_prompt);
      logprobs = std::move(of_prompt.json);
    }
    responder_->write(event(chunk_json(index, {{"text", prompts_[choice.prompt].prompt_text},
                                               {"logprobs", std::move(logprobs)},
                                               {"finish_reason", nullptr}})));
  }
}

void AnswerJob::write_pieces(size_t index, std::vector<ChatPiece> pieces, bool last) {
  Choice& choice = choices_[index];
  write_prompt(choice, index);
  for (const ChatPiece& piece : pieces) {
    if (piece.kind == ChatPiece::Kind::kCall) choice.call_ids.push_back(make_id("call"));
    responder_->write(event(chunk_json(index, {{"delta", delta_json(piece, choice.call_ids)},
                                               {"logprobs", take_logprobs(choice, index)},
                                               {"finish_reason", nullptr}})));
  }
  if (!last) return;
  Json logprobs = choice.tokens.empty() ? Json(nullptr) : take_logprobs(choice, index);
  Json json = {{"delta", Json::object()}, {"logprobs", std::move(logprobs)}, {"finish_reason", choice.finish}};
  if (!choice.alignment.is_null()) json["alignment"] = choice.alignment;
  responder_->write(event(chunk_json(index, std::move(json))));
}

void AnswerJob::write_plain(size_t index, const std::string& text, bool last) {
  Choice& choice = choices_[index];
  write_prompt(choice, index);
  if (text.empty() && !last) return;
  Json json = {{"text", text},
               {"logprobs", take_logprobs(choice, index)},
               {"finish_reason", last ? Json(choice.finish) : Json(nullptr)}};
  if (last && !choice.alignment.is_null()) json["alignment"] = choice.alignment;
  responder_->write(event(chunk_json(index, std::move(json))));
}

// Text that is final, or the end.
void AnswerJob::take_text(size_t index, std::string text, bool last) {
  Choice& choice = choices_[index];
  if (options_.n_logprobs >= 0) {
    for (AnswerToken& token : choice.text->take_tokens()) choice.tokens.push_back(std::move(token));
  }
  if (options_.is_chat) {
    std::vector<ChatPiece> pieces;
    choice.splitter->push(text, &pieces);
    if (last) {
      choice.splitter->finish(&pieces);
      if (choice.splitter->calls() > 0 && choice.finish == "stop") choice.finish = "tool_calls";
    }
    if (streaming_) {
      write_pieces(index, std::move(pieces), last);
    } else {
      for (ChatPiece& piece : pieces) {
        if (piece.kind == ChatPiece::Kind::kCall) choice.call_ids.push_back(make_id("call"));
        choice.pieces.push_back(std::move(piece));
      }
    }
  } else if (streaming_) {
    write_plain(index, text, last);
  } else {
    choice.plain += text;
  }
}

// On the engine's thread.
bool AnswerJob::take(size_t index, const Draw& draw) {
  const std::lock_guard lock(mutex_);
  Choice& choice = choices_[index];
  const auto now = Clock::now();
  if (choice.last_token == Clock::time_point()) {
    const double seconds = std::chrono::duration<double>(now - begin_).count();
    metrics_.time_to_first_token.observe(seconds);
    if (report_.first_token_seconds < 0) report_.first_token_seconds = seconds;
  } else {
    metrics_.inter_token.observe(std::chrono::duration<double>(now - choice.last_token).count());
  }
  choice.last_token = now;
  if (cancelled_.load() || !problem_.ok()) return false;
  if (options_.stream) begin_stream();
  std::string text = choice.text->push(draw);
  if (!text.empty()) take_text(index, std::move(text), false);
  return !choice.text->stopped();
}

void AnswerJob::done(size_t index, GenerateResult result) {
  metrics_.answers_open.fetch_sub(1, std::memory_order_relaxed);
  const std::lock_guard lock(mutex_);
  Choice& choice = choices_[index];
  const std::vector<TokenId>& prompt = prompts_[choice.prompt].generate.prompt;
  if (!prompt_counted_[choice.prompt]) {
    prompt_counted_[choice.prompt] = true;
    report_.usage.prompt_tokens += static_cast<int64_t>(prompt.size());
    report_.usage.cached_tokens += result.cached_tokens;
    metrics_.prompt_tokens.fetch_add(static_cast<int64_t>(prompt.size()), std::memory_order_relaxed);
    metrics_.cached_tokens.fetch_add(result.cached_tokens, std::memory_order_relaxed);
  }
  report_.usage.completion_tokens += static_cast<int64_t>(result.tokens.size());
  report_.usage.drafted_tokens += result.draft.verified;
  report_.usage.accepted_tokens += result.draft.accepted;
  metrics_.completion_tokens.fetch_add(static_cast<int64_t>(result.tokens.size()), std::memory_order_relaxed);
  metrics_.forced_tokens.fetch_add(result.forced_tokens, std::memory_order_relaxed);
  metrics_.drafted_tokens.fetch_add(result.draft.verified, std::memory_order_relaxed);
  metrics_.accepted_tokens.fetch_add(result.draft.accepted, std::memory_order_relaxed);
  metrics_.count_finish(finish_reason_name(result.finish));
  if (!result.prompt_draws.empty()) prompt_draws_[choice.prompt] = std::move(result.prompt_draws);

  if (result.finish == FinishReason::kError || !result.status.ok()) {
    if (problem_.ok()) {
      problem_ = Problem::of(result.status);
      if (result.status.code() == Code::kExhausted) problem_.status = 503;
    }
  } else if (result.finish == FinishReason::kCancelled) {
    if (problem_.ok()) problem_ = {503, "the server is stopping and ended this answer", "", "shutting_down"};
  } else if (problem_.ok() && !cancelled_.load()) {
    choice.finish = result.finish == FinishReason::kStop       ? "stop"
                    : result.finish == FinishReason::kDeadline ? "timeout"
                                                               : "length";
    if (options_.stream) begin_stream();
    std::string text = choice.text->finish();
    take_text(index, std::move(text), true);
  }
  end_one(choice);
}

void AnswerJob::fail(size_t index, const Problem& problem) {
  const std::lock_guard lock(mutex_);
  if (problem_.ok()) problem_ = problem;
  end_one(choices_[index]);
}

void AnswerJob::end_one(Choice& choice) {
  if (choice.done) return;
  choice.done = true;
  if (--open_ == 0) finish();
}

Json AnswerJob::prompt_numbers(size_t prompt) const {
  return prompt_logprobs_json(model_.tokenizer(), prompts_[prompt].generate.prompt, prompt_draws_[prompt],
                              options_.prompt_logprobs);
}

Json AnswerJob::whole_answer() {
  Json json = head_json(options_.head);
  Json& list = json["choices"] = Json::array();
  for (size_t i = 0; i < choices_.size(); ++i) {
    Choice& choice = choices_[i];
    Json entry = {{"index", i}};
    if (options_.is_chat) {
      entry["message"] = message_json(choice.pieces, choice.call_ids);
      entry["logprobs"] = take_logprobs(choice, i);
    } else {
      const PreparedAnswer& prompt = prompts_[choice.prompt];
      entry["text"] = (options_.echo ? prompt.prompt_text : "") + choice.plain;
      entry["logprobs"] = nullptr;
      if (options_.n_logprobs >= 0) {
        LegacyLogprobs logprobs;
        size_t offset = 0;
        if (options_.echo) offset = add_prompt_logprobs(choice.prompt, &logprobs);
        for (const AnswerToken& token : choice.tokens) {
          logprobs.add(model_.tokenizer(), token.draw.token, &token.draw, offset + token.text_begin,
                       options_.n_logprobs);
        }
        entry["logprobs"] = std::move(logprobs.json);
      }
    }
    entry["finish_reason"] = choice.finish;
    if (!choice.alignment.is_null()) entry["alignment"] = choice.alignment;
    if (options_.prompt_logprobs >= 0 && !options_.is_chat) entry["prompt_logprobs"] = prompt_numbers(choice.prompt);
    list.push_back(std::move(entry));
  }
  if (options_.prompt_logprobs >= 0 && options_.is_chat) json["prompt_logprobs"] = prompt_numbers(0);
  json["usage"] = usage_json(report_.usage);
  return json;
}

void AnswerJob::finish() {
  // The engine still holds the job; what the job holds goes now.
  const std::shared_ptr<Responder> responder = std::exchange(responder_, nullptr);
  if (!choices_.empty()) report_.finish = choices_[0].finish;
  report_.status = problem_.ok() ? 200 : cancelled_.load() && problem_.status == 503 ? 499 : problem_.status;
  if (on_end_) on_end_(report_);
  if (streaming_) {
    if (!problem_.ok()) {
      // The status has gone out already: the stream says what happened, and does not end as a complete one does.
      responder->write("data: " + problem_.response().body + "\n\n");
    } else {
      if (options_.include_usage) {
        Json json = head_json(options_.head);
        if (options_.is_chat) json["object"] = "chat.completion.chunk";
        json["choices"] = Json::array();
        json["usage"] = usage_json(report_.usage);
        responder->write(event(json));
      }
      responder->write("data: [DONE]\n\n");
    }
    responder->end();
  } else if (!problem_.ok()) {
    responder->send(problem_.response());
  } else {
    responder->send({.body = dump_json(whole_answer())});
  }
}

}  // namespace decant::serve
