// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "engine/running.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <string>
#include <utility>

#include "constrain/completion.h"

namespace decant {
namespace {

constexpr size_t kMaxForced = 256;  // tokens in one chunk without the model
constexpr int kSlack = 64;          // tokens to spare from which on masks have only what fits
constexpr int kOtherDraws = 8;      // after draws that do not fit

double seconds_between(std::chrono::steady_clock::time_point from, std::chrono::steady_clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

// Whether a mask has one token.
bool is_single(std::span<const uint64_t> mask) {
  int bits = 0;
  for (size_t i = 0; i < mask.size() && bits < 2; ++i) bits += std::popcount(mask[i]);
  return bits == 1;
}

}  // namespace

Running::~Running() {
  if (owns_sequence_) static_cast<void>(engine_.cache().remove(sequence_));
}

Status Running::start() {
  DECANT_TRY_STATUS(check_prompt(request_.prompt.size(), engine_.options().context));
  DECANT_TRY(sampler_, Sampler::create(request_.sampler, engine_.model().config().vocab_size));
  state_ = sampler_->start(request_.prompt);
  if (request_.chooser && (request_.constraint || request_.draft)) {
    return Status::invalid_argument("who chooses the tokens knows of no constraint and no drafts");
  }
  if (request_.draft) {
    DECANT_TRY(drafter_, request_.draft->start(request_.prompt));
    is_coupled_ = request_.verifier == nullptr || request_.verifier->coupled();
    control_ = request_.draft_control ? request_.draft_control : std::make_shared<DraftControl>();
    text_ = request_.prompt;
  }
  if (request_.constraint) constraint_state_ = request_.constraint->start();
  feed_ = request_.prompt;
  if (request_.sequence != -1) {
    KvCache& cache = engine_.cache();
    if (!cache.exists(request_.sequence)) {
      return Status::invalid_argument("sequence {} does not exist", request_.sequence);
    }
    const int length = cache.length(request_.sequence);
    const int tokens = static_cast<int>(feed_.size());
    if (length > tokens) {
      return Status::invalid_argument("sequence {} holds {} tokens, more than the prompt's {}", request_.sequence,
                                      length, tokens);
    }
    // The last prompt token is run even if it is cached: its logits start the answer.
    if (length == tokens) DECANT_TRY_STATUS(cache.truncate(request_.sequence, length - 1));
    sequence_ = request_.sequence;
    fed_ = static_cast<size_t>(cache.length(sequence_));
    result_.cached_tokens = static_cast<int>(fed_);
  }
  begin_ = Clock::now();
  return {};
}

Status Running::enter(SequenceId cached, int length) {
  sequence_ = cached;
  owns_sequence_ = true;
  if (cached == -1) {
    sequence_ = engine_.cache().create_sequence();
    length = 0;
  }
  const size_t most = feed_.size() - (first_pass_ ? 1 : 0);
  if (length < 0 || static_cast<size_t>(length) > most || engine_.cache().length(sequence_) != length) {
    return Status::internal("a cached sequence of {} tokens does not fit a text of {}", length, feed_.size());
  }
  fed_ = static_cast<size_t>(length);
  if (first_ == Clock::time_point{}) result_.cached_tokens = length;
  return {};
}

void Running::leave() {
  if (!owns_sequence_) return;
  if (!in_prefill()) {
    feed_ = cached_text();
    new_.erase(new_.begin(), new_.begin() + static_cast<ptrdiff_t>(new_fed_));
    new_fed_ = 0;
  } else if (first_pass_) {
    result_.prompt_draws.clear();
    pooled_.clear();
  }
  fed_ = 0;
  static_cast<void>(engine_.cache().remove(sequence_));
  owns_sequence_ = false;
  sequence_ = -1;
  if (drafter_) clear_tree();
}

std::vector<TokenId> Running::cached_text() const {
  if (in_prefill()) return {feed_.begin(), feed_.begin() + static_cast<ptrdiff_t>(fed_)};
  std::vector<TokenId> text = request_.prompt;
  text.insert(text.end(), result_.tokens.begin(), result_.tokens.end());
  const size_t cached = static_cast<size_t>(length());
  if (text.size() > cached) text.resize(cached);
  return text;
}

Slice Running::slice(int limit) {
  overlays_.clear();
  for (const auto& overlay : request_.overlays) overlays_.push_back(overlay.get());
  Slice s{.sequence = sequence_, .overlays = overlays_};
  if (in_prefill()) {
    constexpr size_t kReadRows = 64;  // at a time, where each brings the numbers of all tokens
    rows_ = std::min(static_cast<size_t>(limit), feed_.size() - fed_);
    const bool reads = first_pass_ && request_.prompt_logprobs >= 0;
    if (reads) rows_ = std::min(rows_, kReadRows);
    s.tokens = std::span<const TokenId>(feed_).subspan(fed_, rows_);
    if (reads) {
      for (size_t i = 0; i < rows_ && fed_ + i + 1 < feed_.size(); ++i) s.logits.push_back(static_cast<int32_t>(i));
    }
    if (first_pass_ && request_.pooling != Pooling::kNone) {
      HiddenReadout read{.layer = engine_.model().config().n_layers(), .normed = true, .rows = {}};
      const size_t first = request_.pooling == Pooling::kLast ? feed_.size() - 1 - fed_ : 0;
      for (size_t i = first; i < rows_; ++i) read.rows.push_back(static_cast<int32_t>(i));
      s.hidden.push_back(std::move(read));
    }
    if (fed_ + rows_ == feed_.size() && first_pass_ && request_.max_tokens != 0) ask(&s);
  } else {
    rows_ = std::min(static_cast<size_t>(limit), new_.size() - new_fed_);
    s.tokens = std::span<const TokenId>(new_).subspan(new_fed_, rows_);
    if (new_fed_ + rows_ == new_.size()) {
      if (tree_.empty() || !has_tree_rows_) {
        ask(&s);
      } else {
        ask_for_tree(&s);
      }
    }
  }
  return s;
}

void Running::propose(int limit) {
  proposed_.reset(0, 0);
  tree_.reset(0, 0);
  selected_.clear();
  has_tree_rows_ = true;
  const int context = engine_.options().context;
  const auto length = static_cast<int>(text_.size());
  int nodes = std::min(
      {limit, request_.draft_nodes > 0 ? request_.draft_nodes : request_.draft->max_nodes(), TokenTree::kMaxNodes});
  int depth = std::min(request_.draft->max_depth(), context - length);
  // The last token that may be drawn needs no guess of what follows.
  if (request_.max_tokens > 0) {
    depth = std::min(depth, request_.max_tokens - static_cast<int>(result_.tokens.size()) - 1);
  }
  if (nodes < 1 || depth < 1) return;
  if (request_.constraint && !has_mask_) fill_mask();
  if (nothing_left_) return;
  const auto begin = Clock::now();
  legality_.start(request_, static_cast<size_t>(engine_.model().config().vocab_size), constraint_state_, wanted_,
                  proposed_);
  proposed_.reset(nodes, depth, engine_.model().config().vocab_size, &legality_);
  const DraftContext draft_context{.tokens = text_,
                                   .sampler = &*sampler_,
                                   .state = &state_,
                                   .sample = request_.sample,
                                   .shared_noise = is_coupled_,
                                   .control = may_be_cut() ? control_.get() : nullptr,
                                   .draw_seed = draw_seed(++rounds_)};
  if (Status status = drafter_->propose(draft_context, &proposed_); !status.ok()) return fail(std::move(status));
  if (request_.constraint && is_coupled_) add_forced(limit);
  result_.draft.proposed += proposed_.size();
  if (may_be_cut()) {
    probabilities_.clear();
    for (const TokenNode& n : proposed_.nodes()) {
      probabilities_.push_back(control_->acceptance.estimate(n.evidence, n.probability));
    }
    proposed_.estimate(probabilities_);
  } else {
    tree_ = proposed_;
    for (int i = 0; i < proposed_.size(); ++i) selected_.push_back(i);
  }
  result_.draft.draft_seconds += seconds_between(begin, Clock::now());
}

void Running::select(std::span<const int> nodes) {
  selected_.assign(nodes.begin(), nodes.end());
  tree_.select(proposed_, selected_);
  promised_ = 0;
  for (const int node : nodes) promised_ += static_cast<double>(proposed_.reach(node));
}

void Running::drop_tree() {
  if (is_coupled_) return clear_tree();
  tree_.cut_to_root(&selected_);
  has_tree_rows_ = false;
}

void Running::observe(const StepOutput& output, size_t slice, bool has_logits, double seconds) {
  if (in_prefill()) {
    const bool reads = first_pass_ && request_.prompt_logprobs >= 0;
    const size_t read = reads ? std::min(rows_, feed_.size() - 1 - fed_) : 0;
    for (size_t i = 0; i < read; ++i) {
      Result<Draw> draw = sampler_->describe(output.logits(slice, i), feed_[fed_ + i + 1], 0, request_.prompt_logprobs);
      if (!draw.ok()) return fail(std::move(draw).status());
      result_.prompt_draws.push_back(*std::move(draw));
    }
    if (first_pass_ && request_.pooling != Pooling::kNone) pool(output, slice);
    fed_ += rows_;
    if (in_prefill() || !first_pass_) return;
    first_pass_ = false;
    first_ = Clock::now();
    result_.prefill_seconds = seconds_between(begin_, first_);
    if (request_.on_prompt && request_.prompt_logprobs >= 0) request_.on_prompt(result_.prompt_draws);
    if (request_.max_tokens == 0) return finish(FinishReason::kLength);
    draw(output.logits(slice, read), kRoot);
    if (drafter_) text_.insert(text_.end(), new_.begin(), new_.end());
    return;
  }
  new_fed_ += rows_;
  if (!has_logits) return;  // more forced tokens than fit into one step
  ++result_.draft.steps;
  result_.draft.verify_seconds += seconds;
  output_ = &output;
  slice_ = slice;
  walk();
  output_ = nullptr;
}

void Running::pool(const StepOutput& output, size_t slice) {
  const auto width = static_cast<size_t>(engine_.model().config().hidden);
  const bool last = request_.pooling == Pooling::kLast;
  pooled_.resize(width);
  const size_t rows = last ? (fed_ + rows_ == feed_.size() ? 1 : 0) : rows_;
  for (size_t i = 0; i < rows; ++i) {
    const std::span<const float> row = output.hidden(slice, 0, i);
    for (size_t k = 0; k < width; ++k) pooled_[k] += static_cast<double>(row[k]);
  }
  if (fed_ + rows_ < feed_.size()) return;
  const double n = last ? 1 : static_cast<double>(feed_.size());
  for (const double sum : pooled_) result_.embedding.push_back(static_cast<float>(sum / n));
}

void Running::fail(Status status) {
  result_.status = std::move(status);
  finish(FinishReason::kError);
}

void Running::finish(FinishReason reason) {
  done_ = true;
  result_.finish = reason;
  if (first_ != Clock::time_point{}) result_.decode_seconds = seconds_between(first_, Clock::now());
}

void Running::ask(Slice* slice) {
  slice->logits.push_back(static_cast<int32_t>(rows_ - 1));
  if (!request_.constraint) return;
  if (!has_mask_) fill_mask();
  if (request_.n_logprobs < 0 && slice->logits.size() == 1) slice->logit_mask = wanted_;
}

void Running::clear_tree() {
  tree_.reset(0, 0);
  selected_.clear();
}

uint64_t Running::draw_seed(uint64_t round) const {
  const RngKey key{.seed = request_.sampler.seed + 0x9E3779B97F4A7C15u * round,
                   .sample = request_.sample,
                   .purpose = Purpose::kDraft};
  return uint64_t{random_bits(key, 0)} << 32 | random_bits(key, 1);
}

void Running::add_forced(int limit) {
  constexpr uint16_t kForced = TokenTree::kEvidence - 1;
  constexpr float kWorthALook = 0.05f;
  proposed_.raise(std::min(limit, proposed_.size() + static_cast<int>(kMaxForced)));
  for (int i = 0; i < proposed_.size() && !proposed_.full(); ++i) {
    if (proposed_.first_child(i) != kRefused || proposed_.reach(i) < kWorthALook) continue;
    const TokenId token = legality_.forced(i);
    if (token != -1 && !is_forbidden(token)) proposed_.add(i, token, 1, kForced);
  }
}

void Running::ask_for_tree(Slice* slice) {
  const auto chain = static_cast<int32_t>(rows_);
  slice_tokens_.assign(slice->tokens.begin(), slice->tokens.end());
  parents_.clear();
  for (int32_t i = 0; i < chain; ++i) parents_.push_back(i - 1);
  slice->logits = {chain - 1};
  for (const TokenNode& n : tree_.nodes()) {
    slice->logits.push_back(static_cast<int32_t>(slice_tokens_.size()));
    slice_tokens_.push_back(n.token);
    parents_.push_back(n.parent == kRoot ? chain - 1 : chain + n.parent);
  }
  slice->tokens = slice_tokens_;
  slice->mask = Mask::kTree;
  slice->parents = parents_;
  if (!request_.constraint) return;
  if (!has_mask_) fill_mask();
  if (request_.n_logprobs >= 0) return;
  tree_wanted_ = wanted_;
  for (const int node : selected_) {
    const std::span<const uint64_t> mask = legality_.allowed(node);
    for (size_t i = 0; i < tree_wanted_.size() && i < mask.size(); ++i) tree_wanted_[i] |= mask[i];
  }
  slice->logit_mask = tree_wanted_;
}

void Running::walk() {
  const auto chain = static_cast<int32_t>(rows_);
  path_.clear();
  fresh_.clear();
  if (drafter_) root_wanted_ = wanted_;
  target_.clear();
  target_.resize(static_cast<size_t>(tree_.size()) + 1);
  int here = kRoot;
  while (true) {
    draw(logits_of(here), here);
    fresh_.insert(fresh_.end(), new_.begin(), new_.end());
    if (!has_tree_rows_) clear_tree();
    if (done_) break;
    // What was drawn, and forced behind it, is in the cache as far as it is in the tree.
    size_t known = 0;
    for (int child = here; known < new_.size(); ++known) {
      child = tree_.child(child, new_[known]);
      if (child == kRefused) break;
      path_.push_back(here = child);
    }
    if (known < new_.size()) {
      new_.erase(new_.begin(), new_.begin() + static_cast<ptrdiff_t>(known));
      break;
    }
  }
  if (!drafter_) return;
  const auto begin = Clock::now();
  DraftStats& stats = result_.draft;
  stats.verified += tree_.size();
  stats.accepted += static_cast<int64_t>(path_.size());
  int deepest = 0;
  for (const TokenNode& n : tree_.nodes()) deepest = std::max(deepest, n.depth);
  for (int d = 0; d < std::min(deepest, DraftStats::kDepths); ++d) {
    ++stats.tried[static_cast<size_t>(d)];
    if (d < static_cast<int>(path_.size())) ++stats.kept[static_cast<size_t>(d)];
  }
  if (!tree_.empty()) {
    rows_kept_.clear();
    for (int32_t i = 0; i < chain; ++i) rows_kept_.push_back(i);
    for (const int node : path_) rows_kept_.push_back(chain + node);
    if (Status status = engine_.cache().commit(sequence_, rows_kept_); !status.ok()) {
      result_.status = std::move(status);
      if (!done_) finish(FinishReason::kError);
    }
  }
  if (may_be_cut()) {
    control_->acceptance.learn(proposed_, fresh_);
    if (!tree_.empty()) control_->promises.learn(promised_, static_cast<int>(path_.size()));
  }
  drafter_->observe(*this);
  text_.insert(text_.end(), fresh_.begin(), fresh_.end());
  clear_tree();
  stats.draft_seconds += seconds_between(begin, Clock::now());
}

TargetRow Running::row(int node) const {
  std::span<const uint64_t> mask;
  if (request_.constraint && request_.n_logprobs < 0) {
    mask = node == kRoot ? std::span<const uint64_t>(root_wanted_)
                         : legality_.allowed(selected_[static_cast<size_t>(node)]);
  }
  return {logits_of(node), mask};
}

Result<std::span<const TokenLogprob>> Running::at(int node) {
  std::optional<std::vector<TokenLogprob>>& known = target_[static_cast<size_t>(node + 1)];
  if (known) return std::span<const TokenLogprob>(*known);
  if (node != standing_ && !has_tree_rows_) return Status::internal("node {} has no row", node);
  SamplerState state = state_;
  std::span<const uint64_t> mask = mask_;
  std::vector<TokenId> way;
  for (int i = node; i != standing_; i = tree_.node(i).parent) {
    if (i == kRoot) return Status::internal("node {} does not lie below node {}", node, standing_);
    way.push_back(tree_.node(i).token);
  }
  for (auto token = way.rbegin(); token != way.rend(); ++token) state = sampler_->advance(state, *token);
  if (node != standing_ && request_.constraint) mask = legality_.allowed(selected_[static_cast<size_t>(node)]);
  const auto position = static_cast<uint32_t>(request_.prompt.size() + result_.tokens.size() + way.size());
  DECANT_TRY(known, sampler_->distribution(logits_of(node), state, position, request_.sample, mask));
  return std::span<const TokenLogprob>(*known);
}

Result<Draw> Running::verified_draw(std::span<const float> logits, int node, uint32_t position) {
  standing_ = node;
  // What was thought of this node from above may lack what the draws before it did to the sampler and the mask.
  target_[static_cast<size_t>(node + 1)].reset();
  const RngKey key{.seed = request_.sampler.seed, .sample = request_.sample, .position = position};
  DECANT_TRY(const TokenId token, request_.verifier->choose(tree_, node, *this, key));
  DECANT_TRY(const std::span<const TokenLogprob> target, at(node));
  const auto found = std::lower_bound(target.begin(), target.end(), token,
                                      [](const TokenLogprob& t, TokenId id) { return t.token < id; });
  if (found == target.end() || found->token != token) {
    return Status::internal("the verifier {} chose token {}, which the target does not have", request_.verifier->name(),
                            token);
  }
  return sampler_->describe(logits, token, found->logprob, request_.n_logprobs);
}

void Running::draw(std::span<const float> logits, int node) {
  new_.clear();
  new_fed_ = 0;
  if (request_.chooser) return choose(logits);
  if (nothing_left_) return end_here();
  has_mask_ = false;
  for (int attempt = 0;; ++attempt) {
    const auto position = static_cast<uint32_t>(request_.prompt.size() + result_.tokens.size());
    // What does not fit in time is drawn again, from the rest.
    Result<Draw> drawn = is_coupled_ || tree_.empty() || attempt > 0
                             ? sampler_->draw(logits, state_, position, request_.sample, request_.n_logprobs, mask_)
                             : verified_draw(logits, node, position);
    if (!drawn.ok()) return fail(std::move(drawn).status());
    if (is_end(drawn->token)) {
      result_.ended = true;
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
    // A constraint may leave one token only here as well: where log-probabilities are wanted, the model is asked for
    // it.
    const bool is_forced = request_.constraint && attempt == 0 && is_single(mask_);
    drawn->origin = is_forced                                     ? TokenOrigin::kForced
                    : tree_.child(node, drawn->token) == kRefused ? TokenOrigin::kModel
                                                                  : TokenOrigin::kDraft;
    if (!take(*std::move(drawn)) || !request_.constraint) return;
    take_forced();
    if (!done_ && !fill_mask()) end_here();
    return;
  }
}

void Running::choose(std::span<const float> logits) {
  std::vector<TokenId> tokens;
  const Result<bool> goes_on = request_.chooser->choose(logits, &tokens);
  if (!goes_on.ok()) return fail(goes_on.status());
  start_answer();
  for (const TokenId token : tokens) {
    if (!take({.token = token})) return;
  }
  if (!*goes_on) finish(FinishReason::kStop);
}

bool Running::is_end(TokenId token) const {
  return std::find(request_.end_tokens.begin(), request_.end_tokens.end(), token) != request_.end_tokens.end();
}

bool Running::take(Draw drawn) {
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

bool Running::is_whole() {
  if (!request_.constraint || !request_.constraint->accepting(constraint_state_)) return false;
  if (request_.constraint->mask(constraint_state_)->first() == -1) return true;
  result_.hastened |= request_.finish_in_time;
  return request_.finish_in_time;
}

void Running::take_forced() {
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
      if (!take({.token = token, .origin = TokenOrigin::kForced})) return;
    }
  }
}

std::vector<TokenId> Running::canonical_tokens() {
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

bool Running::is_forbidden(TokenId token) const {
  const auto& bias = request_.sampler.logit_bias;
  return std::any_of(bias.begin(), bias.end(),
                     [&](const auto& b) { return b.first == token && b.second == -INFINITY; });
}

int Running::tokens_left() const {
  if (!request_.finish_in_time || request_.max_tokens <= 0) return -1;
  const int drawn = static_cast<int>(result_.tokens.size());
  const int room = engine_.options().context + 1 - static_cast<int>(request_.prompt.size());
  return std::min(request_.max_tokens, room) - drawn;
}

bool Running::fits(const ConstraintState& next) {
  const int left = tokens_left();
  if (left < 0 || tight_) return true;
  return request_.constraint->tokens_to_end(next).value_or(0) <= left - 1;
}

void Running::start_answer() {
  if (!result_.tokens.empty() || first_ != Clock::time_point{}) return;
  first_ = Clock::now();
  result_.prefill_seconds = seconds_between(begin_, first_);
}

bool Running::fill_mask() {
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

void Running::copy_mask(const TokenMask& tokens, bool may_end, std::vector<uint64_t>* words) const {
  Legality::copy_mask(request_, tokens, may_end, static_cast<size_t>(engine_.model().config().vocab_size), words);
}

void Running::end_here() {
  start_answer();
  mask_failure_.ok() ? finish(FinishReason::kStop) : fail(mask_failure_);
}

}  // namespace decant
