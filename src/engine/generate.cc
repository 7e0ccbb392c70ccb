// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "engine/generate.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>

#include "constrain/completion.h"

namespace decant {

std::string_view finish_reason_name(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop: return "stop";
    case FinishReason::kLength: return "length";
    case FinishReason::kCancelled: return "cancelled";
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

namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kMaxForced = 256;  // tokens in one chunk without the model
constexpr int kSlack = 64;          // tokens to spare from which on masks have only what fits
constexpr int kOtherDraws = 8;      // after draws that do not fit

double seconds_between(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

// One request on its way: a prompt that is being processed, then one token a step.
class Running {
 public:
  Running(Engine& engine, GenerateRequest& request, GenerateResult& result)
      : engine_(engine), request_(request), result_(result) {}

  // Checks the request and takes (or makes) its sequence.
  Status start() {
    DECANT_TRY_STATUS(check_prompt(request_.prompt.size(), engine_.options().context));
    DECANT_TRY(sampler_, Sampler::create(request_.sampler, engine_.model().config().vocab_size));
    state_ = sampler_->start(request_.prompt);
    if (request_.constraint) constraint_state_ = request_.constraint->start();
    KvCache& cache = engine_.cache();
    sequence_ = request_.sequence;
    if (sequence_ == -1) {
      sequence_ = cache.create_sequence();
      owns_sequence_ = true;
    } else {
      if (!cache.exists(sequence_)) return Status::invalid_argument("sequence {} does not exist", sequence_);
      const int length = cache.length(sequence_);
      if (length > static_cast<int>(request_.prompt.size())) {
        return Status::invalid_argument("sequence {} holds {} tokens, more than the prompt's {}", sequence_, length,
                                        request_.prompt.size());
      }
      // The last prompt token is run even if it is cached: its logits start the answer.
      if (length == static_cast<int>(request_.prompt.size())) DECANT_TRY_STATUS(cache.truncate(sequence_, length - 1));
      fed_ = static_cast<size_t>(cache.length(sequence_));
    }
    result_.cached_tokens = static_cast<int>(fed_);
    begin_ = Clock::now();
    return {};
  }

  bool done() const { return done_; }
  bool in_prefill() const { return fed_ < request_.prompt.size(); }
  int64_t prompt_left() const {
    return static_cast<int64_t>(request_.prompt.size() - std::min(fed_, request_.prompt.size()));
  }

  // The next rows: at most `limit` (>= 1) prompt tokens, or the last drawn token and those forced behind it.
  Slice slice(int limit) {
    overlays_.clear();
    for (const auto& overlay : request_.overlays) overlays_.push_back(overlay.get());
    Slice s{.sequence = sequence_, .overlays = overlays_};
    if (in_prefill()) {
      rows_ = std::min(static_cast<size_t>(limit), request_.prompt.size() - fed_);
      s.tokens = std::span<const TokenId>(request_.prompt).subspan(fed_, rows_);
      if (fed_ + rows_ == request_.prompt.size() && request_.max_tokens != 0) ask(&s);
    } else {
      rows_ = std::min(static_cast<size_t>(limit), new_.size() - new_fed_);
      s.tokens = std::span<const TokenId>(new_).subspan(new_fed_, rows_);
      if (new_fed_ + rows_ == new_.size()) ask(&s);
    }
    return s;
  }

  // After the slice ran; `logits` is empty while the prompt is not finished.
  void observe(std::span<const float> logits) {
    const bool was_prefill = in_prefill();
    (was_prefill ? fed_ : new_fed_) += rows_;
    if (was_prefill && !in_prefill()) {
      first_ = Clock::now();
      result_.prefill_seconds = seconds_between(begin_, first_);
      if (request_.max_tokens == 0) return finish(FinishReason::kLength);
    }
    if (!logits.empty()) draw(logits);
  }

  void fail(Status status) {
    result_.status = std::move(status);
    finish(FinishReason::kError);
  }

  void finish(FinishReason reason) {
    done_ = true;
    result_.finish = reason;
    if (first_ != Clock::time_point{}) result_.decode_seconds = seconds_between(first_, Clock::now());
    if (owns_sequence_) {
      owns_sequence_ = false;
      // Cannot fail: the sequence is ours.
      if (Status status = engine_.cache().remove(sequence_); !status.ok()) result_.status = std::move(status);
    }
  }

 private:
  // Asks for the logits of the slice's last row: those that may be drawn from, or all if somebody reads all.
  void ask(Slice* slice) {
    slice->logits = {static_cast<int32_t>(rows_ - 1)};
    if (!request_.constraint) return;
    if (!has_mask_) fill_mask();
    if (request_.n_logprobs < 0) slice->logit_mask = wanted_;
  }

  void draw(std::span<const float> logits) {
    new_.clear();
    new_fed_ = 0;
    if (nothing_left_) return end_here();
    has_mask_ = false;
    for (int attempt = 0;; ++attempt) {
      const auto position = static_cast<uint32_t>(request_.prompt.size() + result_.tokens.size());
      Result<Draw> drawn = sampler_->draw(logits, state_, position, request_.sample, request_.n_logprobs, mask_);
      if (!drawn.ok()) return fail(std::move(drawn).status());
      if (is_end(drawn->token)) {
        start_answer();
        return finish(FinishReason::kStop);
      }
      ConstraintState next;
      if (request_.constraint) {
        Result<ConstraintState> advanced = request_.constraint->advance(constraint_state_, drawn->token);
        if (!advanced.ok()) return fail(std::move(advanced).status());
        next = *std::move(advanced);
        if (!fits(next)) {
          // Another one; after some of them only what leads straight to the end.
          result_.hastened = true;
          if (attempt < kOtherDraws) {
            const auto token = static_cast<size_t>(drawn->token);
            mask_[token / 64] &= ~(uint64_t{1} << token % 64);
            if (std::any_of(mask_.begin(), mask_.end(), [](uint64_t word) { return word != 0; })) continue;
          }
          tight_ = true;
          if (!fill_mask()) return end_here();
          continue;
        }
        constraint_state_ = std::move(next);
      }
      start_answer();
      if (!take(*std::move(drawn)) || !request_.constraint) return;
      take_forced();
      if (!done_ && !fill_mask()) end_here();
      return;
    }
  }

  bool is_end(TokenId token) const {
    return std::find(request_.end_tokens.begin(), request_.end_tokens.end(), token) != request_.end_tokens.end();
  }

  // The token joins the answer; the constraint's state is the one behind it. False if it was the last.
  bool take(Draw drawn) {
    state_ = sampler_->advance(state_, drawn);
    result_.tokens.push_back(drawn.token);
    new_.push_back(drawn.token);
    if (request_.n_logprobs >= 0) result_.draws.push_back(drawn);
    if (request_.on_token && !request_.on_token(drawn)) {
      finish(FinishReason::kStop);
    } else if ((request_.max_tokens > 0 && result_.tokens.size() >= static_cast<size_t>(request_.max_tokens)) ||
               // The token just drawn no longer fits.
               request_.prompt.size() + result_.tokens.size() > static_cast<size_t>(engine_.options().context)) {
      finish(is_whole() ? FinishReason::kStop : FinishReason::kLength);
    }
    return !done_;
  }

  // Whether a structure is complete where the tokens ran out.
  bool is_whole() {
    if (!request_.constraint || !request_.constraint->accepting(constraint_state_)) return false;
    if (request_.constraint->mask(constraint_state_)->first() == -1) return true;
    result_.hastened |= request_.finish_in_time;
    return request_.finish_in_time;
  }

  // Tokens that need no model: the only one of a mask, and text that has to come, in its canonical tokens.
  void take_forced() {
    if (request_.n_logprobs >= 0) return;
    Constraint& constraint = *request_.constraint;
    while (!done_ && new_.size() < kMaxForced && !constraint.accepting(constraint_state_)) {
      std::vector<TokenId> tokens;
      if (request_.canonical) tokens = canonical_tokens();
      if (tokens.empty()) {
        const std::shared_ptr<const TokenMask> mask = constraint.mask(constraint_state_);
        if (mask->count() == 1) tokens = {mask->first()};
      }
      if (tokens.empty()) return;
      for (const TokenId token : tokens) {
        if (is_forbidden(token) || is_end(token)) return;
        Result<ConstraintState> next = constraint.advance(constraint_state_, token);
        if (!next.ok() || !fits(*next)) return;
        constraint_state_ = *std::move(next);
        ++result_.forced_tokens;
        if (!take({.token = token})) return;
      }
    }
  }

  // The text that has to come here, in tokens of its own; without the last one where it could go on.
  std::vector<TokenId> canonical_tokens() {
    const TokenTrie& trie = request_.constraint->trie();
    const std::string text = forced_text(*request_.constraint, constraint_state_);
    if (text.empty()) return {};
    std::vector<TokenId> tokens = request_.canonical(text);
    std::string spelled;
    for (const TokenId token : tokens) {
      if (token < 0 || token >= trie.vocab_size()) return {};
      spelled += trie.bytes_of(token);
    }
    if (spelled != text || tokens.empty()) return {};  // a tokenizer that puts a space before the text, for one
    const uint32_t node = trie.find(trie.bytes_of(tokens.back()));
    if (node < trie.nodes().size() && trie.nodes()[node].end > node + 1) tokens.pop_back();
    return tokens;
  }

  // Tokens that the sampler never draws are not forced either: it says what is wrong.
  bool is_forbidden(TokenId token) const {
    const auto& bias = request_.sampler.logit_bias;
    return std::any_of(bias.begin(), bias.end(),
                       [&](const auto& b) { return b.first == token && b.second == -INFINITY; });
  }

  // finish_in_time: tokens that may still be drawn; -1 if there is no limit.
  int tokens_left() const {
    if (!request_.finish_in_time || request_.max_tokens <= 0) return -1;
    const int drawn = static_cast<int>(result_.tokens.size());
    const int room = engine_.options().context + 1 - static_cast<int>(request_.prompt.size());
    return std::min(request_.max_tokens, room) - drawn;
  }
  // Whether the tokens behind the next one are enough to end from `next`; what is not known counts as enough.
  bool fits(const ConstraintState& next) {
    const int left = tokens_left();
    if (left < 0 || tight_) return true;
    return request_.constraint->tokens_to_end(next).value_or(0) <= left - 1;
  }

  void start_answer() {
    if (!result_.tokens.empty() || first_ != Clock::time_point{}) return;
    first_ = Clock::now();
    result_.prefill_seconds = seconds_between(begin_, first_);
  }

  // What may come next, before the step whose logits decide: a mask asks for no more of them than it has. False if
  // nothing may come but the end.
  bool fill_mask() {
    Constraint& constraint = *request_.constraint;
    const std::shared_ptr<const TokenMask> allowed = constraint.mask(constraint_state_);
    std::shared_ptr<const TokenMask> within;
    if (const int left = tokens_left(); left >= 0) {
      const std::optional<int> needed = constraint.tokens_to_end(constraint_state_);
      if (tight_ || (needed && left <= *needed + kSlack)) {
        within = constraint.mask_within(constraint_state_, tight_ ? needed.value_or(0) : left);
      }
    }
    const bool any = allowed->first() != -1;
    const bool may_end = constraint.accepting(constraint_state_);
    if (!any) mask_failure_ = constraint.failure(constraint_state_);
    copy_mask(*allowed, may_end, &wanted_);
    if (within && *within != *allowed) {
      result_.hastened = true;
      copy_mask(*within, may_end, &mask_);
    } else {
      mask_ = wanted_;
    }
    has_mask_ = true;
    nothing_left_ = !mask_failure_.ok() || (may_end && !any);
    return !nothing_left_;
  }

  // A mask over the model's vocabulary, which may be smaller than the tokenizer's or larger.
  void copy_mask(const TokenMask& tokens, bool may_end, std::vector<uint64_t>* words) const {
    const auto vocab_size = static_cast<size_t>(engine_.model().config().vocab_size);
    const std::span<const uint64_t> from = tokens.words();
    words->assign((vocab_size + 63) / 64, 0);
    std::copy_n(from.begin(), std::min(from.size(), words->size()), words->begin());
    if (vocab_size % 64 != 0) words->back() &= (uint64_t{1} << vocab_size % 64) - 1;
    if (!may_end) return;
    for (const TokenId end : request_.end_tokens) {
      const auto token = static_cast<size_t>(end);
      if (end >= 0 && token < vocab_size) (*words)[token / 64] |= uint64_t{1} << token % 64;
    }
  }

  // The answer ends where nothing may come any more.
  void end_here() {
    start_answer();
    mask_failure_.ok() ? finish(FinishReason::kStop) : fail(mask_failure_);
  }

  Engine& engine_;
  GenerateRequest& request_;
  GenerateResult& result_;
  std::optional<Sampler> sampler_;
  SamplerState state_;
  ConstraintState constraint_state_;
  // What may be drawn next, a bit for each token, and all that the constraint allows.
  std::vector<uint64_t> mask_, wanted_;
  bool has_mask_ = false;      // for the next draw
  bool nothing_left_ = false;  // the mask is empty: the answer ends, well or with mask_failure_
  Status mask_failure_;
  SequenceId sequence_ = -1;
  bool owns_sequence_ = false;
  bool done_ = false;
  size_t fed_ = 0;   // tokens of the sequence that are in the cache
  size_t rows_ = 0;  // of the slice in flight
  std::vector<const Overlay*> overlays_;
  std::vector<TokenId> new_;  // drawn since the last logits
  size_t new_fed_ = 0;        // of them, that are in the cache
  bool tight_ = false;        // finish_in_time: nothing but the way to the end is left
  Clock::time_point begin_, first_;
};

class Batch {
 public:
  Batch(Engine& engine, std::span<GenerateRequest> requests, const GenerateOptions& options)
      : engine_(engine), options_(options), results_(requests.size()) {
    running_.reserve(requests.size());
    for (size_t i = 0; i < requests.size(); ++i) {
      running_.emplace_back(engine, requests[i], results_[i]);
      Status status = shares_sequence(requests, i)
                          ? Status::invalid_argument("two requests of one call name sequence {}", requests[i].sequence)
                          : running_.back().start();
      if (!status.ok()) running_.back().fail(std::move(status));
      prompt_total_ += running_.back().done() ? 0 : running_.back().prompt_left();
    }
  }

  std::vector<GenerateResult> run() {
    while (plan()) {
      if (options_.cancel != nullptr && options_.cancel->load(std::memory_order_relaxed)) {
        for (Running& r : running_) {
          if (!r.done()) r.finish(FinishReason::kCancelled);
        }
        break;
      }
      if (!step()) retire_last();
      report();
    }
    return std::move(results_);
  }

 private:
  // Whether an earlier request continues the same sequence: their rows would mix.
  static bool shares_sequence(std::span<const GenerateRequest> requests, size_t i) {
    if (requests[i].sequence == -1) return false;
    return std::any_of(requests.begin(), requests.begin() + static_cast<ptrdiff_t>(i),
                       [&](const GenerateRequest& r) { return r.sequence == requests[i].sequence; });
  }

  // Chooses the rows of the next step: decoding requests first, then prompts, while rows are left.
  bool plan() {
    slices_.clear();
    chosen_.clear();
    int rows = engine_.options().max_rows;
    const int chunk = options_.prefill_chunk > 0 ? options_.prefill_chunk : rows;
    for (const bool prefill : {false, true}) {
      for (size_t i = 0; i < running_.size() && rows > 0; ++i) {
        Running& r = running_[i];
        if (r.done() || r.in_prefill() != prefill) continue;
        slices_.push_back(r.slice(prefill ? std::min(chunk, rows) : rows));
        chosen_.push_back(i);
        rows -= static_cast<int>(slices_.back().tokens.size());
      }
    }
    return !slices_.empty();
  }

  // Runs the planned slices; false if none could run for want of cache pages.
  bool step() {
    Status status = engine_.step(slices_, &output_);
    if (status.ok()) {
      for (size_t s = 0; s < slices_.size(); ++s) observe(s, s);
      return true;
    }
    // Rows are independent of their neighbours, so each slice may as well run alone: those that fit go on, the others
    // wait for pages, and what is wrong with one request ends that one.
    bool progress = false;
    for (size_t s = 0; s < slices_.size(); ++s) {
      status = engine_.step(std::span<const Slice>(slices_).subspan(s, 1), &output_);
      if (status.ok()) {
        observe(s, 0);
        progress = true;
      } else if (status.code() != Code::kExhausted) {
        running_[chosen_[s]].fail(std::move(status));
        progress = true;
      } else {
        exhausted_ = std::move(status);
      }
    }
    return progress;
  }

  void observe(size_t slice, size_t in_output) {
    running_[chosen_[slice]].observe(slices_[slice].logits.empty() ? std::span<const float>()
                                                                   : output_.logits(in_output, 0));
  }

  // Nothing fits any more: the newest request ends so that the others can go on.
  void retire_last() { running_[chosen_.back()].fail(exhausted_); }

  void report() {
    if (!options_.on_prefill || prompt_done_ == prompt_total_) return;
    int64_t left = 0;
    for (const Running& r : running_) left += r.done() ? 0 : r.prompt_left();
    prompt_done_ = prompt_total_ - left;
    options_.on_prefill(prompt_done_, prompt_total_);
  }

  Engine& engine_;
  const GenerateOptions& options_;
  std::vector<GenerateResult> results_;
  std::vector<Running> running_;
  std::vector<Slice> slices_;
  std::vector<size_t> chosen_;
  StepOutput output_;
  Status exhausted_;
  int64_t prompt_total_ = 0, prompt_done_ = 0;
};

}  // namespace

std::vector<GenerateResult> generate(Engine& engine, std::span<GenerateRequest> requests,
                                     const GenerateOptions& options) {
  return Batch(engine, requests, options).run();
}

}  // namespace decant
