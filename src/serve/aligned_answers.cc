// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "serve/aligned_answers.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "serve/engine_thread.h"

namespace decant::serve {

// One text's request. It keeps all of them alive.
class AlignedAnswers::Chooser : public TokenChooser {
 public:
  Chooser(std::shared_ptr<AlignedAnswers> answers, AlignedTexts::Text* text, size_t length)
      : answers_(std::move(answers)), text_(text), length_(length) {}
  Result<bool> choose(std::span<const float> logits, std::vector<TokenId>* tokens) override {
    DECANT_TRY(const bool goes_on, answers_->choose(text_, length_, logits, tokens));
    length_ += tokens->size();
    return goes_on;
  }

 private:
  std::shared_ptr<AlignedAnswers> answers_;
  AlignedTexts::Text* text_;
  size_t length_;  // of the text that the request has
};

AlignedAnswers::AlignedAnswers(EngineThread& engine, ScheduledRequest request, const AlignOptions& options, int n,
                               Events events)
    : engine_(engine), request_(std::move(request)), options_(options), n_(n), events_(std::move(events)) {}

Result<std::shared_ptr<AlignedAnswers>> AlignedAnswers::create(EngineThread& engine, ScheduledRequest request,
                                                               const AlignOptions& options, int n, int vocab_size,
                                                               int context, Events events) {
  std::shared_ptr<AlignedAnswers> out(new AlignedAnswers(engine, std::move(request), options, n, std::move(events)));
  DECANT_TRY(out->texts_, AlignedTexts::create(out->request_.generate, options, vocab_size, context));
  return out;
}

Status AlignedAnswers::start() {
  std::vector<AlignedSample> samples;
  {
    const std::lock_guard lock(mutex_);
    go_on(&samples);
    // Whatever the engine has of it goes on from there. It has nothing where no text needed the model.
    if (open_ > 0) return {};
    if (samples.empty() && reason_ == FinishReason::kError) return status_;
  }
  for (AlignedSample& sample : samples) events_.on_answer(std::move(sample), 0);
  events_.on_end(reason_, status_);
  return {};
}

void AlignedAnswers::cancel() {
  const std::lock_guard lock(mutex_);
  cancelled_ = true;
  for (const RequestId id : ids_) engine_.cancel(id);
}

// ---- With the lock held.

void AlignedAnswers::end(FinishReason reason, Status status) {
  if (ended_) return;
  ended_ = true;
  reason_ = reason;
  status_ = std::move(status);
  for (const RequestId id : ids_) engine_.cancel(id);
}

// A round of texts; those that need the model go to the engine.
Status AlignedAnswers::begin_texts() {
  ids_.clear();
  for (AlignedTexts::Text* text : texts_->begin(options_.mode, options_.batch)) {
    DECANT_TRY(const bool wants_logits, texts_->advance(text));
    if (!wants_logits) continue;
    const std::vector<TokenId>& known = AlignedTexts::tokens(*text);
    ScheduledRequest request;
    request.priority = request_.priority;
    request.client = request_.client;
    request.cache_salt = request_.cache_salt;
    request.deadline = request_.deadline;
    request.generate.prompt = request_.generate.prompt;
    request.generate.prompt.insert(request.generate.prompt.end(), known.begin(), known.end());
    request.generate.sampler = request_.generate.sampler;
    request.generate.overlays = request_.generate.overlays;
    const auto self = shared_from_this();
    request.generate.chooser = std::make_shared<Chooser>(self, text, known.size());
    request.on_done = [self](const GenerateResult& result) { self->done(result); };
    DECANT_TRY(const RequestId id, engine_.submit(std::move(request)));
    ids_.push_back(id);
    ++open_;
  }
  return {};
}

// All texts of the round have ended.
void AlignedAnswers::go_on(std::vector<AlignedSample>* samples) {
  while (!ended_) {
    for (;;) {
      Result<std::optional<AlignedSample>> sample = texts_->pop();
      if (!sample.ok()) {
        Status status = std::move(sample).status();
        if (status.code() == Code::kExhausted) {
          status = Status::invalid_argument("{}; allow more with align {}(attempts=N)", status.message(),
                                            align_mode_name(options_.mode));
        }
        return end(FinishReason::kError, std::move(status));
      }
      if (!*sample) break;
      samples->push_back(**std::move(sample));
      if (++drawn_ == n_) return end(FinishReason::kStop, {});
    }
    if (cancelled_) return end(FinishReason::kCancelled, {});
    if (Status status = begin_texts(); !status.ok()) {
      // The engine takes nothing more once the server is told to stop.
      if (status.code() == Code::kCancelled) return end(FinishReason::kCancelled, {});
      return end(FinishReason::kError, std::move(status));
    }
    if (open_ > 0) return;
    texts_->end();
  }
}

// ---- On the engine's thread.

Result<bool> AlignedAnswers::choose(AlignedTexts::Text* text, size_t from, std::span<const float> logits,
                                    std::vector<TokenId>* tokens) {
  const std::lock_guard lock(mutex_);
  if (ended_ || cancelled_) return false;
  DECANT_TRY_STATUS(texts_->take(text, logits));
  DECANT_TRY(const bool wants_logits, texts_->advance(text));
  const std::vector<TokenId>& all = AlignedTexts::tokens(*text);
  tokens->assign(all.begin() + static_cast<ptrdiff_t>(from), all.end());
  return wants_logits;
}

void AlignedAnswers::done(const GenerateResult& result) {
  std::vector<AlignedSample> samples;
  int cached = 0;
  bool last = false;
  {
    const std::lock_guard lock(mutex_);
    --open_;
    if (cached_tokens_ < 0) {
      cached_tokens_ = std::min(result.cached_tokens, static_cast<int>(request_.generate.prompt.size()));
    }
    cached = cached_tokens_;
    if (cancelled_) {
      end(FinishReason::kCancelled, {});
    } else if (result.finish != FinishReason::kStop) {
      end(result.finish, result.status);
    }
    if (open_ > 0) return;
    if (!ended_) {
      texts_->end();
      go_on(&samples);
    }
    last = ended_ && open_ == 0;
  }
  for (AlignedSample& sample : samples) events_.on_answer(std::move(sample), cached);
  if (last) events_.on_end(reason_, status_);
}

}  // namespace decant::serve
