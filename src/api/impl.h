// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// What the handles of the public API hold, and how its functions keep exceptions in.
#pragma once

#include <atomic>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/status.h"
#include "constrain/compile.h"
#include "decant/decant.h"
#include "engine/engine.h"
#include "model/model.h"
#include "model/overlay.h"
#include "sample/sampler.h"
#include "text/chat.h"
#include "text/tokenizer.h"

namespace decant {

// The exception in flight as a Status; call it in a catch block.
inline Status current_exception_status() {
  try {
    throw;
  } catch (const std::bad_alloc&) {
    return Status::make(Code::kExhausted, "out of memory");
  } catch (const std::exception& e) {
    return Status::internal("unexpected exception: {}", e.what());
  } catch (...) {
    return Status::make(Code::kInternal, "unexpected exception");
  }
}

// `body()`, which returns a Status or Result; what it throws becomes one.
template <typename Body>
auto guarded(Body body) -> decltype(body()) {
  try {
    return body();
  } catch (...) {
    return current_exception_status();
  }
}

// Calls of sessions of one model take turns. A call out of a callback of the thread that has its turn would wait for
// itself, so it is refused.
class DeviceTurn {
 public:
  Status enter() {
    if (owner_.load(std::memory_order_relaxed) == std::this_thread::get_id()) {
      return Status::make(Code::kInvalidArgument,
                          "a callback called a session of the model that is at work; do so after the call has ended");
    }
    mutex_.lock();
    owner_.store(std::this_thread::get_id(), std::memory_order_relaxed);
    return {};
  }
  void leave() {
    owner_.store({}, std::memory_order_relaxed);
    mutex_.unlock();
  }

 private:
  std::mutex mutex_;
  std::atomic<std::thread::id> owner_{};  // only ever equal to the own id if this thread stored it
};

struct LanguageModel::Impl {
  ModelInfo info;
  std::unique_ptr<Device> device;  // outlives the model
  std::shared_ptr<const Tokenizer> tokenizer;
  std::unique_ptr<ChatTemplate> chat_template;
  Status chat_template_status;  // why there is none
  std::shared_ptr<const Model> model;
  std::vector<TokenId> end_tokens;
  DeviceTurn turn;

  // What structures share; made when the first one is compiled.
  std::shared_ptr<const JsonVocabulary> vocabulary() {
    std::call_once(vocabulary_made_, [this] {
      vocabulary_ = std::make_shared<const JsonVocabulary>(std::make_shared<const TokenTrie>(*tokenizer));
    });
    return vocabulary_;
  }

 private:
  std::once_flag vocabulary_made_;
  std::shared_ptr<const JsonVocabulary> vocabulary_;
};

struct CompiledStructure::Impl {
  std::shared_ptr<LanguageModel::Impl> model;
  std::shared_ptr<Constraint> constraint;
};

struct Adapter::Impl {
  std::shared_ptr<LanguageModel::Impl> model;  // outlives the overlay
  std::shared_ptr<const Overlay> overlay;
};

struct StepLogits::Impl {
  StepOutput output;
  std::vector<size_t> rows;  // asked for by each input
};

struct Session::Impl {
  // What a sequence holds, so that nobody has to keep books beside the cache.
  struct Track {
    std::vector<TokenId> tokens, pending;
    std::vector<int32_t> parents;  // of the pending rows
  };

  explicit Impl(LanguageModel m) : model(std::move(m)) {}
  ~Impl() {
    // Gives memory of the device back, which another session may be using.
    DeviceTurn& turn = model.impl_->turn;
    const bool entered = turn.enter().ok();
    engine.reset();
    if (entered) turn.leave();
  }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  // Runs `body`, which gives a Status or a Result, while no other user of the model's device does.
  template <typename Body>
  auto in_turn(Body body) -> decltype(body()) {
    return guarded([&]() -> decltype(body()) {
      DeviceTurn& turn = model.impl_->turn;
      DECANT_TRY_STATUS(turn.enter());
      const std::unique_ptr<DeviceTurn, void (*)(DeviceTurn*)> leave(&turn, [](DeviceTurn* t) { t->leave(); });
      return body();
    });
  }

  Status check(SequenceId sequence) const;
  SequenceId new_sequence();
  Status truncate(SequenceId sequence, int length);
  void remove(SequenceId sequence);
  // Takes pending rows out of the books.
  void forget_pending(SequenceId sequence);

  LanguageModel model;
  std::unique_ptr<Engine> engine;
  std::vector<Track> tracks;  // by sequence
};

struct TokenSampler::Impl {
  std::shared_ptr<const Sampler> sampler;
  int vocab_size = 0;
  uint32_t sample = 0;
  SamplerState state;
  uint32_t position = 0;  // of the next token
};

// The engine's settings for a request.
Result<SamplerOptions> sampler_options(const Sampling& sampling, const Tokenizer& tokenizer,
                                       const std::vector<TokenId>& end_tokens, int context);
SampledToken sampled_token(Draw draw);

}  // namespace decant
