// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "serve/embedding_job.h"

#include <cmath>
#include <cstring>
#include <utility>

#include "serve/submission.h"

namespace decant::serve {

EmbeddingJob::EmbeddingJob(EngineThread& engine, Metrics& metrics, EmbeddingJobOptions options,
                           std::vector<PreparedAnswer> inputs, std::shared_ptr<Responder> responder,
                           std::function<void(const RequestReport&)> on_end)
    : engine_(engine),
      metrics_(metrics),
      options_(std::move(options)),
      on_end_(std::move(on_end)),
      inputs_(std::move(inputs)),
      responder_(std::move(responder)),
      vectors_(inputs_.size()),
      ids_(inputs_.size(), 0),
      open_(inputs_.size()) {}

void EmbeddingJob::start() {
  const auto self = shared_from_this();
  responder_->on_closed([weak = weak_from_this()] {
    if (const auto job = weak.lock()) job->cancel();
  });
  const auto deadline =
      std::chrono::steady_clock::now() +
      std::chrono::duration_cast<std::chrono::steady_clock::duration>(std::chrono::duration<double>(options_.timeout));
  Problem refused;
  for (size_t i = 0; i < ids_.size(); ++i) {
    if (!refused.ok() || cancelled_.load()) {
      fail(refused.ok() ? Problem{503, "the client has gone", "", ""} : refused);
      continue;
    }
    ScheduledRequest request;
    request.generate = inputs_[i].generate;
    request.client = options_.client;
    request.cache_salt = options_.cache_salt;
    if (options_.timeout > 0) request.deadline = deadline;
    request.on_done = [self, i](GenerateResult result) { self->done(i, std::move(result)); };
    RequestId id = 0;
    refused = submit(engine_, metrics_, std::move(request), &id);
    if (!refused.ok()) {
      {
        const std::lock_guard lock(mutex_);
        problem_ = refused;
      }
      cancel();
      fail(refused);
      continue;
    }
    {
      const std::lock_guard lock(mutex_);
      ids_[i] = id;
    }
    if (cancelled_.load()) engine_.cancel(id);
  }
}

void EmbeddingJob::cancel() {
  if (cancelled_.exchange(true)) return;
  std::vector<RequestId> ids;
  {
    const std::lock_guard lock(mutex_);
    ids = ids_;
  }
  for (const RequestId id : ids) {
    if (id != 0) engine_.cancel(id);
  }
}

void EmbeddingJob::done(size_t index, GenerateResult result) {
  metrics_.answers_open.fetch_sub(1, std::memory_order_relaxed);
  metrics_.count_finish(finish_reason_name(result.finish));
  const std::lock_guard lock(mutex_);
  const auto tokens = static_cast<int64_t>(inputs_[index].generate.prompt.size());
  report_.usage.prompt_tokens += tokens;
  metrics_.prompt_tokens.fetch_add(tokens, std::memory_order_relaxed);
  if (!result.status.ok()) {
    if (problem_.ok()) {
      problem_ = Problem::of(result.status);
      if (result.status.code() == Code::kExhausted) problem_.status = 503;
    }
  } else if (result.embedding.empty()) {
    if (problem_.ok()) problem_ = {503, "the request was ended before its turn", "", "timeout"};
  } else {
    double square = 0;
    for (const float x : result.embedding) square += static_cast<double>(x) * x;
    const auto scale = static_cast<float>(square > 0 ? 1 / std::sqrt(square) : 0);
    for (float& x : result.embedding) x *= scale;
    vectors_[index] = std::move(result.embedding);
  }
  if (--open_ == 0) finish();
}

void EmbeddingJob::fail(const Problem& problem) {
  const std::lock_guard lock(mutex_);
  if (problem_.ok()) problem_ = problem;
  if (--open_ == 0) finish();
}

void EmbeddingJob::finish() {
  const std::shared_ptr<Responder> responder = std::exchange(responder_, nullptr);
  report_.status = problem_.ok() ? 200 : cancelled_.load() && problem_.status == 503 ? 499 : problem_.status;
  if (on_end_) on_end_(report_);
  if (!problem_.ok()) return responder->send(problem_.response());
  Json json = {{"object", "list"}, {"data", Json::array()}, {"model", options_.model}};
  for (size_t i = 0; i < vectors_.size(); ++i) {
    Json entry = {{"object", "embedding"}, {"index", i}};
    if (options_.base64) {
      std::vector<uint8_t> bytes(vectors_[i].size() * sizeof(float));
      std::memcpy(bytes.data(), vectors_[i].data(), bytes.size());
      entry["embedding"] = base64(bytes);
    } else {
      entry["embedding"] = vectors_[i];
    }
    json["data"].push_back(std::move(entry));
  }
  json["usage"] = {{"prompt_tokens", report_.usage.prompt_tokens}, {"total_tokens", report_.usage.prompt_tokens}};
  responder->send({.body = dump_json(json)});
}

}  // namespace decant::serve
