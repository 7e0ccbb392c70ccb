// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "decant/session.h"

#include <algorithm>
#include <optional>

#include "api/impl.h"
#include "base/dtype.h"
#include "engine/generate.h"
#include "text/stop_matcher.h"

namespace decant {

std::string_view finish_name(Finish finish) {
  switch (finish) {
    case Finish::kStop: return "stop";
    case Finish::kLength: return "length";
    case Finish::kCancelled: return "cancelled";
    case Finish::kError: return "error";
  }
  return "error";
}

namespace {

Finish finish_of(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop: return Finish::kStop;
    case FinishReason::kLength: return Finish::kLength;
    case FinishReason::kCancelled:
    case FinishReason::kDeadline: return Finish::kCancelled;
    case FinishReason::kError: return Finish::kError;
  }
  return Finish::kError;
}

Result<DType> cache_type(const char* field, const std::string& name) {
  const std::optional<DType> type = parse_dtype(name);
  if (!type) {
    return Status::invalid_argument("SessionOptions::{}: expected a type such as f16 or q8_0, got '{}'", field, name);
  }
  return *type;
}

// The text of one answer on its way: tokens to characters, stop strings, the caller's function.
class Stream {
 public:
  Stream(const Tokenizer& tokenizer, const CompletionRequest& request, Completion* completion)
      : decoder_(tokenizer), matcher_(request.stop), on_piece_(request.on_piece), completion_(completion) {}

  // Whether the answer goes on. Throws nothing: it is called from within the engine.
  bool push(const Draw& draw) {
    try {
      return emit(matcher_.push(decoder_.push(draw.token)), draw.token, draw.logprob) && !matcher_.stopped();
    } catch (...) {
      status_ = current_exception_status().with_context("CompletionRequest::on_piece");
      return false;
    }
  }

  // What was held back; the end of the answer.
  Status finish() {
    if (status_.ok() && !ended_) {
      try {
        std::string rest = matcher_.push(decoder_.flush());
        rest += matcher_.flush();
        if (!rest.empty()) emit(rest, -1, 0);
      } catch (...) {
        status_ = current_exception_status().with_context("CompletionRequest::on_piece");
      }
    }
    return std::move(status_);
  }

 private:
  bool emit(const std::string& text, TokenId token, float logprob) {
    completion_->text += text;
    ended_ = on_piece_ && !on_piece_({.text = text, .token = token, .logprob = logprob});
    return !ended_;
  }

  StreamDecoder decoder_;
  StopMatcher matcher_;
  const std::function<bool(const Piece&)>& on_piece_;
  Completion* completion_;
  bool ended_ = false;  // by the caller's function
  Status status_;
};

}  // namespace

// ---- Sequences.

Status Session::Impl::check(SequenceId sequence) const {
  if (sequence >= 0 && static_cast<size_t>(sequence) < tracks.size() && engine->cache().exists(sequence)) return {};
  return Status::invalid_argument("sequence {} does not exist", sequence);
}

SequenceId Session::Impl::new_sequence() {
  const SequenceId sequence = engine->cache().create_sequence();
  const auto index = static_cast<size_t>(sequence);
  if (tracks.size() <= index) tracks.resize(index + 1);
  tracks[index] = {};
  return sequence;
}

void Session::Impl::forget_pending(SequenceId sequence) {
  Track& track = tracks[static_cast<size_t>(sequence)];
  track.pending.clear();
  track.parents.clear();
}

Status Session::Impl::truncate(SequenceId sequence, int length) {
  DECANT_TRY_STATUS(engine->cache().truncate(sequence, length));
  tracks[static_cast<size_t>(sequence)].tokens.resize(static_cast<size_t>(length));
  forget_pending(sequence);
  return {};
}

void Session::Impl::remove(SequenceId sequence) {
  (void)engine->cache().remove(sequence);  // it exists
  tracks[static_cast<size_t>(sequence)] = {};
}

Result<SequenceId> Session::create_sequence() {
  return impl_->in_turn([&]() -> Result<SequenceId> { return impl_->new_sequence(); });
}

Result<SequenceId> Session::fork(SequenceId parent, int length) {
  return impl_->in_turn([&]() -> Result<SequenceId> {
    DECANT_TRY_STATUS(impl_->check(parent));
    DECANT_TRY(const SequenceId child, impl_->engine->cache().fork(parent, length));
    const auto index = static_cast<size_t>(child);
    if (impl_->tracks.size() <= index) impl_->tracks.resize(index + 1);
    const std::vector<TokenId>& tokens = impl_->tracks[static_cast<size_t>(parent)].tokens;
    impl_->tracks[index] = {.tokens = {tokens.begin(), tokens.begin() + length}, .pending = {}, .parents = {}};
    return child;
  });
}

Status Session::truncate(SequenceId sequence, int length) {
  return impl_->in_turn([&]() -> Status {
    DECANT_TRY_STATUS(impl_->check(sequence));
    return impl_->truncate(sequence, length);
  });
}

Status Session::remove(SequenceId sequence) {
  return impl_->in_turn([&]() -> Status {
    DECANT_TRY_STATUS(impl_->check(sequence));
    impl_->remove(sequence);
    return {};
  });
}

Result<std::vector<TokenId>> Session::tokens(SequenceId sequence) const {
  return guarded([&]() -> Result<std::vector<TokenId>> {
    DECANT_TRY_STATUS(impl_->check(sequence));
    return impl_->tracks[static_cast<size_t>(sequence)].tokens;
  });
}

Result<int> Session::length(SequenceId sequence) const {
  return guarded([&]() -> Result<int> {
    DECANT_TRY_STATUS(impl_->check(sequence));
    return static_cast<int>(impl_->tracks[static_cast<size_t>(sequence)].tokens.size());
  });
}

// ---- Steps.

StepLogits::StepLogits() = default;
StepLogits::StepLogits(StepLogits&&) noexcept = default;
StepLogits& StepLogits::operator=(StepLogits&&) noexcept = default;
StepLogits::~StepLogits() = default;

std::span<const float> StepLogits::row(size_t input, size_t row) const {
  if (impl_ == nullptr || input >= impl_->rows.size() || row >= impl_->rows[input]) return {};
  return impl_->output.logits(input, row);
}

Status Session::step(std::span<const StepRows> inputs, StepLogits* logits) {
  return impl_->in_turn([&]() -> Status {
    StepLogits unused;
    StepLogits& target = logits != nullptr ? *logits : unused;
    if (target.impl_ == nullptr) target.impl_ = std::make_unique<StepLogits::Impl>();
    target.impl_->rows.clear();
    std::vector<Slice> slices;
    slices.reserve(inputs.size());
    std::vector<std::vector<const Overlay*>> overlays(inputs.size());
    for (size_t i = 0; i < inputs.size(); ++i) {
      const StepRows& input = inputs[i];
      if (Status status = impl_->check(input.sequence); !status.ok()) {
        return std::move(status).with_context(fmt::format("step: input {}", i));
      }
      if (logits == nullptr && !input.logits.empty()) {
        return Status::invalid_argument("step: input {} asks for logits, and there is no place for them", i);
      }
      for (const TokenId token : input.tokens) {
        // The engine takes -1 for a row that comes as a vector.
        if (token < 0) return Status::invalid_argument("step: input {}: token {} is not in the vocabulary", i, token);
      }
      for (const Adapter& adapter : input.adapters) overlays[i].push_back(adapter.impl_->overlay.get());
      slices.push_back({.sequence = input.sequence,
                        .tokens = input.tokens,
                        .mask = input.parents.empty() ? Mask::kCausal : Mask::kTree,
                        .parents = input.parents,
                        .overlays = overlays[i],
                        .logits = input.logits});
      // Room first: nothing may fail between the cache and the books.
      Session::Impl::Track& track = impl_->tracks[static_cast<size_t>(input.sequence)];
      std::vector<TokenId>& grows = input.parents.empty() ? track.tokens : track.pending;
      if (grows.capacity() < grows.size() + input.tokens.size()) {
        grows.reserve(std::max(2 * grows.size(), grows.size() + input.tokens.size()));
      }
      track.parents.reserve(track.parents.size() + input.parents.size());
    }
    std::vector<size_t> rows(inputs.size());
    for (size_t i = 0; i < inputs.size(); ++i) rows[i] = inputs[i].logits.size();
    DECANT_TRY_STATUS(impl_->engine->step(slices, &target.impl_->output));
    target.impl_->rows = std::move(rows);
    for (const StepRows& input : inputs) {
      Session::Impl::Track& track = impl_->tracks[static_cast<size_t>(input.sequence)];
      std::vector<TokenId>& grows = input.parents.empty() ? track.tokens : track.pending;
      grows.insert(grows.end(), input.tokens.begin(), input.tokens.end());
      track.parents.insert(track.parents.end(), input.parents.begin(), input.parents.end());
    }
    return {};
  });
}

Status Session::commit(SequenceId sequence, std::span<const int32_t> path) {
  return impl_->in_turn([&]() -> Status {
    DECANT_TRY_STATUS(impl_->check(sequence));
    Session::Impl::Track& track = impl_->tracks[static_cast<size_t>(sequence)];
    int32_t parent = -1;
    for (size_t i = 0; i < path.size(); ++i) {
      if (path[i] < 0 || static_cast<size_t>(path[i]) >= track.pending.size()) {
        return Status::invalid_argument("commit: row {} of the path is {}; sequence {} has {} pending rows", i, path[i],
                                        sequence, track.pending.size());
      }
      if (track.parents[static_cast<size_t>(path[i])] != parent) {
        return Status::invalid_argument("commit: row {} of the path is {}, whose parent is {} and not {}", i, path[i],
                                        track.parents[static_cast<size_t>(path[i])], parent);
      }
      parent = path[i];
    }
    track.tokens.reserve(track.tokens.size() + path.size());
    DECANT_TRY_STATUS(impl_->engine->cache().commit(sequence, path));
    for (const int32_t row : path) track.tokens.push_back(track.pending[static_cast<size_t>(row)]);
    impl_->forget_pending(sequence);
    return {};
  });
}

Status Session::drop_pending(SequenceId sequence) {
  return impl_->in_turn([&]() -> Status {
    DECANT_TRY_STATUS(impl_->check(sequence));
    impl_->engine->cache().drop_pending(sequence);
    impl_->forget_pending(sequence);
    return {};
  });
}

// ---- The session.

Session::Session(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;
Session::~Session() = default;

Result<Session> Session::create(const LanguageModel& model, const SessionOptions& options) {
  return guarded([&]() -> Result<Session> {
    auto impl = std::make_unique<Impl>(model);
    EngineOptions engine;
    if (options.context < 0) {
      return Status::invalid_argument("SessionOptions::context: expected 0 or more, got {}", options.context);
    }
    engine.context = options.context > 0 ? options.context : model.info().context_length;
    engine.max_rows = options.max_rows;
    DECANT_TRY(engine.k_type, cache_type("cache_type_k", options.cache_type_k));
    DECANT_TRY(engine.v_type, cache_type("cache_type_v", options.cache_type_v));
    DECANT_TRY_STATUS(impl->in_turn([&]() -> Status {
      DECANT_TRY(impl->engine, Engine::create(model.impl_->model, engine));
      return {};
    }));
    return Session(std::move(impl));
  });
}

const LanguageModel& Session::model() const { return impl_->model; }
int Session::context() const { return impl_->engine->options().context; }
int Session::max_rows() const { return impl_->engine->options().max_rows; }
size_t Session::cache_bytes() const { return impl_->engine->cache().bytes(); }
int Session::free_tokens() const { return impl_->engine->cache().free_pages() * kPageKeys; }

// ---- Completions.

namespace {

// Fills the engine's request; the sequence is the caller's business.
Status prepare(const LanguageModel& model, const CompletionRequest& request, const Tokenizer& tokenizer,
               const std::vector<TokenId>& end_tokens, int context, Stream* stream, GenerateRequest* out) {
  if (request.max_tokens < -1) {
    return Status::invalid_argument("CompletionRequest::max_tokens: expected -1 or more, got {}", request.max_tokens);
  }
  if (request.logprobs < -1) {
    return Status::invalid_argument("CompletionRequest::logprobs: expected -1 or more, got {}", request.logprobs);
  }
  if (request.prompt.empty()) {
    return Status::make(Code::kInvalidArgument, "the prompt is empty; give at least one token");
  }
  for (const TokenId t : request.prompt) {
    if (t < 0 || t >= model.info().vocab_size) {
      return Status::invalid_argument("the prompt's token {} is not in the vocabulary of {}", t,
                                      model.info().vocab_size);
    }
  }
  DECANT_TRY(out->sampler, sampler_options(request.sampling, tokenizer, end_tokens, context));
  out->prompt = request.prompt;
  out->max_tokens = request.max_tokens;
  out->sample = request.sampling.sample;
  out->n_logprobs = request.logprobs;
  if (!request.sampling.ignore_eos) out->end_tokens = end_tokens;
  out->on_token = [stream](const Draw& draw) { return stream->push(draw); };
  return {};
}

}  // namespace

std::vector<Completion> Session::complete(std::vector<CompletionRequest> requests, const CompletionOptions& options) {
  std::vector<Completion> completions(requests.size());
  const Status status = impl_->in_turn([&]() -> Status {
    Impl& impl = *impl_;
    const LanguageModel::Impl& model = *impl.model.impl_;
    // Sequences of the requests' own are removed, and those that were given cut to what the books say, if this ends
    // early.
    struct Cleanup {
      Impl& impl;
      std::vector<SequenceId> own, given;
      ~Cleanup() {
        for (const SequenceId s : own) impl.remove(s);
        for (const SequenceId s : given) {
          const size_t known = impl.tracks[static_cast<size_t>(s)].tokens.size();
          if (impl.engine->cache().length(s) > static_cast<int>(known)) {
            (void)impl.engine->cache().truncate(s, static_cast<int>(known));
          }
        }
      }
    } cleanup{impl, {}, {}};
    cleanup.given.reserve(requests.size());
    cleanup.own.reserve(requests.size());

    std::vector<Stream> streams;
    std::vector<GenerateRequest> prepared;
    std::vector<size_t> index;  // of the prepared requests among `requests`
    streams.reserve(requests.size());
    prepared.reserve(requests.size());
    for (size_t i = 0; i < requests.size(); ++i) {
      const CompletionRequest& request = requests[i];
      streams.emplace_back(*model.tokenizer, request, &completions[i]);
      GenerateRequest next;
      Status failure =
          prepare(impl.model, request, *model.tokenizer, model.end_tokens, context(), &streams.back(), &next);
      for (const Adapter& adapter : request.adapters) {
        if (failure.ok() && &adapter.impl_->overlay->model() != model.model.get()) {
          failure = Status::invalid_argument("the adapter {} belongs to another model", adapter.path());
        }
        next.overlays.push_back(adapter.impl_->overlay);
      }
      if (const auto& structure = request.structure.impl_; failure.ok() && structure != nullptr) {
        if (structure->model != impl.model.impl_)
          failure = Status::make(Code::kInvalidArgument, "the structure was compiled for another model");
        next.constraint = structure->constraint;
        next.finish_in_time = request.finish_in_time;
        if (request.forced_canonical) {
          next.canonical = [&model](std::string_view forced) {
            auto tokens = model.tokenizer->encode(forced, {.add_special = false, .parse_special = false});
            return tokens.ok() ? *std::move(tokens) : std::vector<TokenId>();
          };
        }
      }
      if (failure.ok() && request.sequence == -1) {
        next.sequence = impl.new_sequence();
        cleanup.own.push_back(next.sequence);
      } else if (failure.ok()) {
        next.sequence = request.sequence;
        failure = impl.check(request.sequence);
        for (const GenerateRequest& other : prepared) {
          if (failure.ok() && other.sequence == request.sequence) {
            failure = Status::invalid_argument("two requests of one call name sequence {}", request.sequence);
          }
        }
        if (failure.ok()) {
          const std::vector<TokenId>& held = impl.tracks[static_cast<size_t>(request.sequence)].tokens;
          const auto [common, rest] = std::mismatch(held.begin(), held.end(), next.prompt.begin(), next.prompt.end());
          failure = impl.truncate(request.sequence, static_cast<int>(common - held.begin()));
        }
        if (failure.ok()) cleanup.given.push_back(request.sequence);
      }
      if (!failure.ok()) {
        completions[i].status = std::move(failure);
        continue;
      }
      prepared.push_back(std::move(next));
      index.push_back(i);
    }

    if (options.prefill_chunk < 0) {
      return Status::invalid_argument("CompletionOptions::prefill_chunk: expected 0 or more, got {}",
                                      options.prefill_chunk);
    }
    Status thrown;
    GenerateOptions generate_options{
        .prefill_chunk = options.prefill_chunk, .cancel = options.cancel, .on_prefill = {}};
    if (options.on_prefill) {
      generate_options.on_prefill = [&](int64_t done, int64_t total) {
        if (!thrown.ok()) return;
        try {
          options.on_prefill(done, total);
        } catch (...) {
          thrown = current_exception_status().with_context("CompletionOptions::on_prefill");
        }
      };
    }
    std::vector<GenerateResult> results = decant::generate(*impl.engine, prepared, generate_options);
    for (size_t r = 0; r < results.size(); ++r) {
      GenerateResult& result = results[r];
      Completion& completion = completions[index[r]];
      // The books follow the cache: the last token drawn is not in it.
      const SequenceId sequence = prepared[r].sequence;
      std::vector<TokenId>& held = impl.tracks[static_cast<size_t>(sequence)].tokens;
      held = std::move(prepared[r].prompt);
      held.insert(held.end(), result.tokens.begin(), result.tokens.end());
      held.resize(static_cast<size_t>(impl.engine->cache().length(sequence)));

      completion.status = std::move(result.status);
      const Status streamed = streams[index[r]].finish();
      if (completion.status.ok()) completion.status = streamed;
      if (completion.status.ok()) completion.status = thrown;
      completion.tokens = std::move(result.tokens);
      completion.draws.reserve(result.draws.size());
      for (Draw& draw : result.draws) completion.draws.push_back(sampled_token(std::move(draw)));
      completion.finish = completion.status.ok() ? finish_of(result.finish) : Finish::kError;
      completion.cached_tokens = result.cached_tokens;
      completion.prefill_seconds = result.prefill_seconds;
      completion.decode_seconds = result.decode_seconds;
    }
    return {};
  });
  if (!status.ok()) {
    for (Completion& completion : completions) {
      completion.finish = Finish::kError;
      if (completion.status.ok()) completion.status = status;
    }
  }
  return completions;
}

Completion Session::complete(CompletionRequest request, const CompletionOptions& options) {
  try {
    std::vector<CompletionRequest> requests;
    requests.push_back(std::move(request));
    return std::move(complete(std::move(requests), options).front());
  } catch (...) {
    Completion failed;
    failed.status = current_exception_status();
    return failed;
  }
}

}  // namespace decant
