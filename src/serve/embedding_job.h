// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Vectors of several texts, each a request to the engine of its own.
#pragma once

#include <chrono>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "serve/answer_job.h"

namespace decant::serve {

struct EmbeddingJobOptions {
  bool base64 = false;
  std::string model;
  std::string client;
  uint64_t cache_salt = 0;
  double timeout = 0;
};

class EmbeddingJob : public std::enable_shared_from_this<EmbeddingJob> {
 public:
  EmbeddingJob(EngineThread& engine, Metrics& metrics, EmbeddingJobOptions options, std::vector<PreparedAnswer> inputs,
               std::shared_ptr<Responder> responder, std::function<void(const RequestReport&)> on_end);
  void start();
  void cancel();

 private:
  void done(size_t index, GenerateResult result);
  void fail(const Problem& problem);
  void finish();

  EngineThread& engine_;
  Metrics& metrics_;
  const EmbeddingJobOptions options_;
  std::function<void(const RequestReport&)> on_end_;

  std::mutex mutex_;
  std::vector<PreparedAnswer> inputs_;
  std::shared_ptr<Responder> responder_;
  std::vector<std::vector<float>> vectors_;
  std::vector<RequestId> ids_;
  size_t open_ = 0;
  Problem problem_;
  RequestReport report_;
  std::atomic<bool> cancelled_{false};
};

}  // namespace decant::serve
