// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// A request that the scheduler (scheduler.h) works on: which rows it needs next, and what it makes of their logits.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "base/status.h"
#include "constrain/constraint.h"
#include "engine/acceptance.h"
#include "engine/drafter.h"
#include "engine/engine.h"
#include "engine/generate.h"
#include "engine/legality.h"
#include "engine/token_tree.h"
#include "engine/verifier.h"
#include "sample/sampler.h"

namespace decant {

// One request on its way: a prompt that is being processed, then a step for one token or, with drafts, for
// several.
class Running final : private DraftOutcome, private TargetDistributions {
 public:
  Running(Engine& engine, GenerateRequest request) : engine_(engine), request_(std::move(request)) {}
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;
  ~Running() override;

  // Checks the request and takes the sequence that it names. To be called once, before the rest.
  Status start();
  // Gives the request a sequence of its own: `cached`, which holds the first `length` tokens of feed(), or (-1) a new
  // one. At most feed() less one token where the prompt's logits are still to come.
  Status enter(SequenceId cached = -1, int length = 0);
  // Gives the sequence back: the request can enter again and goes on where it was, after its tokens were processed
  // anew. Not for requests that named a sequence.
  void leave();
  bool entered() const { return sequence_ != -1; }
  bool may_leave() const { return owns_sequence_; }

  bool done() const { return done_; }
  bool in_prefill() const { return fed_ < feed_.size(); }
  // The prompt has not been processed yet: its last row must be run.
  bool first_pass() const { return first_pass_; }
  // Tokens to process before the next draw; those of them that are not in the cache yet.
  std::span<const TokenId> feed() const { return feed_; }
  int64_t prompt_left() const { return static_cast<int64_t>(feed_.size() - std::min(fed_, feed_.size())); }
  // All tokens that are in the cache.
  std::vector<TokenId> cached_text() const;
  int length() const { return sequence_ == -1 ? 0 : engine_.cache().length(sequence_); }
  SequenceId sequence() const { return sequence_; }
  // Whether every prompt row's numbers are wanted, so that none may come from a cache.
  bool reads_prompt() const { return request_.prompt_logprobs >= 0 || request_.pooling != Pooling::kNone; }
  const GenerateRequest& request() const { return request_; }
  const GenerateResult& result() const { return result_; }
  GenerateResult take_result() { return std::move(result_); }

  // The next rows: at most `limit` (>= 1) tokens of feed(), or the last drawn token and those forced behind it.
  Slice slice(int limit);

  // Rows that decoding needs without drafts.
  int plain_rows() const { return static_cast<int>(new_.size() - new_fed_); }
  bool drafts() const { return drafter_ != nullptr; }
  bool may_be_cut() const { return is_coupled_ && request_.adapt_draft; }
  DraftControl& control() { return *control_; }
  const TokenTree& proposed() const { return proposed_; }

  // Asks the drafter what may come behind the last token drawn; at most `limit` nodes.
  void propose(int limit);

  // Keeps these nodes of the proposal (ascending, closed under parents).
  void select(std::span<const int> nodes);
  // The step goes on without drafts. Draws that are no points are verified all the same where they hang on the root,
  // without rows of their own: dropped because of their number, which depends on what was drawn, they would have
  // another law than the one that the verifier knows.
  void drop_tree();
  bool has_tree_rows() const { return !tree_.empty() && has_tree_rows_; }

  // After the slice ran, as number `slice` of the step; `seconds`: its share of the time.
  void observe(const StepOutput& output, size_t slice, bool has_logits, double seconds);

  void fail(Status status);

  void finish(FinishReason reason);

 private:
  using Clock = std::chrono::steady_clock;

  void pool(const StepOutput& output, size_t slice);
  // Asks for the logits of the slice's last row: those that may be drawn from, or all if somebody reads all.
  void ask(Slice* slice);

  void clear_tree();

  // For the draws of a round; never that of another round or sample of the same seed.
  uint64_t draw_seed(uint64_t round) const;

  // A constraint's singletons: nodes that need no guess.
  void add_forced(int limit);

  // Rows of the tokens drawn and of the tree that hangs on the last of them.
  void ask_for_tree(Slice* slice);

  // Draws down the tree for as long as what is drawn is in it, and keeps the rows of that path.
  void walk();

  std::span<const float> logits_of(int node) const { return output_->logits(slice_, static_cast<size_t>(node + 1)); }

  // DraftOutcome
  const TokenTree& tree() const override { return tree_; }
  TargetRow row(int node) const override;
  std::span<const int> path() const override { return path_; }
  std::span<const TokenId> before() const override { return text_; }
  std::span<const TokenId> fresh() const override { return fresh_; }

  // TargetDistributions: behind the node where the walk stands, or below it.
  Result<std::span<const TokenLogprob>> at(int node) override;

  // The next token by the request's verifier.
  Result<Draw> verified_draw(std::span<const float> logits, int node, uint32_t position);

  void draw(std::span<const float> logits, int node);
  void choose(std::span<const float> logits);

  bool is_end(TokenId token) const;

  // The token joins the answer; the constraint's state is the one behind it. False if it was the last.
  bool take(Draw drawn);

  // Whether a structure is complete where the tokens ran out.
  bool is_whole();

  // Tokens that need no model: the only one of a mask, and text that has to come, in its canonical tokens.
  void take_forced();

  // The text that has to come here, in tokens of its own; without the last one where it could go on.
  std::vector<TokenId> canonical_tokens();

  // Tokens that the sampler never draws are not forced either: it says what is wrong.
  bool is_forbidden(TokenId token) const;

  // finish_in_time: tokens that may still be drawn; -1 if there is no limit.
  int tokens_left() const;
  // Whether the tokens behind the next one are enough to end from `next`; what is not known counts as enough.
  bool fits(const ConstraintState& next);

  void start_answer();

  // What may come next, before the step whose logits decide: a mask asks for no more of them than it has. False if
  // nothing may come but the end.
  bool fill_mask();

  void copy_mask(const TokenMask& tokens, bool may_end, std::vector<uint64_t>* words) const;

  // The answer ends where nothing may come any more.
  void end_here();

  Engine& engine_;
  GenerateRequest request_;
  GenerateResult result_;
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
  std::vector<TokenId> feed_;  // the prompt; after leave() all tokens that were in the cache
  size_t fed_ = 0;             // of them, that are in the cache
  size_t rows_ = 0;            // of the slice in flight
  bool first_pass_ = true;     // until the prompt has been processed
  std::vector<double> pooled_;
  std::vector<const Overlay*> overlays_;
  std::vector<TokenId> new_;  // drawn since the last logits
  size_t new_fed_ = 0;        // of them, that are in the cache
  bool tight_ = false;        // finish_in_time: nothing but the way to the end is left
  Clock::time_point begin_, first_;

  // Speculation.
  std::unique_ptr<Drafter> drafter_;
  std::shared_ptr<DraftControl> control_;
  bool is_coupled_ = true;
  std::vector<TokenId> text_;  // prompt and answer, for the drafter
  mutable Legality legality_;
  TokenTree proposed_, tree_;         // what the drafter made, and what of it is verified
  std::vector<int> selected_, path_;  // nodes of proposed_ that are in tree_; nodes of tree_ that were kept
  std::vector<float> probabilities_;
  double promised_ = 0;  // tokens, by the nodes of tree_
  std::vector<TokenId> slice_tokens_, fresh_;
  std::vector<int32_t> parents_, rows_kept_;
  std::vector<uint64_t> tree_wanted_, root_wanted_;
  std::vector<std::optional<std::vector<TokenLogprob>>> target_;  // distributions of the step: the root's, the nodes'
  bool has_tree_rows_ = true;                                     // the step has rows of the tree's nodes
  uint64_t rounds_ = 0;
  const StepOutput* output_ = nullptr;  // during walk()
  size_t slice_ = 0;
  int standing_ = kRoot;
};

}  // namespace decant
