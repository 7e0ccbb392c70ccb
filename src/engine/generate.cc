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

// What may come behind the nodes of a tree: nothing behind an end token, and what the constraint allows. States and
// masks are made when somebody asks.
class Legality final : public TokenFilter {
 public:
  // `root`, `mask`: the constraint's state at the root and what it allows; not read without one.
  void start(const GenerateRequest& request, size_t vocab_size, const ConstraintState& root,
             std::span<const uint64_t> mask, const TokenTree& tree) {
    request_ = &request;
    vocab_size_ = vocab_size;
    tree_ = &tree;
    nodes_.clear();
    nothing_.assign((vocab_size + 63) / 64, 0);
    root_ = root;
    root_mask_.clear();
    if (request.constraint) root_mask_.assign(mask.begin(), mask.end());
  }
  void added(int) override { nodes_.emplace_back(); }
  std::span<const uint64_t> allowed(int parent) override {
    if (parent == kRoot) return root_mask_;
    if (is_end(parent)) return nothing_;
    if (!request_->constraint) return {};
    Node& n = nodes_[static_cast<size_t>(parent)];
    if (n.mask.empty()) {
      n.mask = nothing_;
      if (const ConstraintState* s = state(parent)) fill_mask(*s, &n.mask);
    }
    return n.mask;
  }
  // The only token that may come behind a node where the text may not end; -1 if there is no such.
  TokenId forced(int node) {
    if (!request_->constraint || is_end(node)) return -1;
    const ConstraintState* s = state(node);
    if (s == nullptr || request_->constraint->accepting(*s)) return -1;
    const std::shared_ptr<const TokenMask> mask = request_->constraint->mask(*s);
    return mask->count() == 1 ? mask->first() : -1;
  }
  // A mask over the model's vocabulary, which may be smaller than the tokenizer's or larger.
  static void copy_mask(const GenerateRequest& request, const TokenMask& tokens, bool may_end, size_t vocab_size,
                        std::vector<uint64_t>* words) {
    const std::span<const uint64_t> from = tokens.words();
    words->assign((vocab_size + 63) / 64, 0);
    std::copy_n(from.begin(), std::min(from.size(), words->size()), words->begin());
    if (vocab_size % 64 != 0) words->back() &= (uint64_t{1} << vocab_size % 64) - 1;
    if (!may_end) return;
    for (const TokenId end : request.end_tokens) {
      const auto token = static_cast<size_t>(end);
      if (end >= 0 && token < vocab_size) (*words)[token / 64] |= uint64_t{1} << token % 64;
    }
  }

 private:
  struct Node {
    bool known = false;
    std::optional<ConstraintState> state;
    std::vector<uint64_t> mask;
  };
  bool is_end(int node) const {
    const TokenId token = tree_->node(node).token;
    return std::find(request_->end_tokens.begin(), request_->end_tokens.end(), token) != request_->end_tokens.end();
  }
  const ConstraintState* state(int node) {
    if (node == kRoot) return &root_;
    Node& n = nodes_[static_cast<size_t>(node)];
    if (!n.known) {
      n.known = true;
      if (const ConstraintState* before = state(tree_->node(node).parent)) {
        Result<ConstraintState> next = request_->constraint->advance(*before, tree_->node(node).token);
        if (next.ok()) nodes_[static_cast<size_t>(node)].state = *std::move(next);
      }
    }
    const Node& done = nodes_[static_cast<size_t>(node)];
    return done.state ? &*done.state : nullptr;
  }
  void fill_mask(const ConstraintState& state, std::vector<uint64_t>* words) {
    const std::shared_ptr<const TokenMask> mask = request_->constraint->mask(state);
    copy_mask(*request_, *mask, request_->constraint->accepting(state), vocab_size_, words);
  }

  const GenerateRequest* request_ = nullptr;
  const TokenTree* tree_ = nullptr;
  ConstraintState root_;
  std::vector<uint64_t> root_mask_, nothing_;
  std::vector<Node> nodes_;
  size_t vocab_size_ = 0;
};

// One request on its way: a prompt that is being processed, then a step for one token or, with drafts, for
// several.
class Running final : private DraftOutcome, private TargetDistributions {
 public:
  Running(Engine& engine, GenerateRequest& request, GenerateResult& result)
      : engine_(engine), request_(request), result_(result) {}

  // Checks the request and takes (or makes) its sequence.
  Status start() {
    DECANT_TRY_STATUS(check_prompt(request_.prompt.size(), engine_.options().context));
    DECANT_TRY(sampler_, Sampler::create(request_.sampler, engine_.model().config().vocab_size));
    state_ = sampler_->start(request_.prompt);
    if (request_.draft) {
      DECANT_TRY(drafter_, request_.draft->start(request_.prompt));
      is_coupled_ = request_.verifier == nullptr || request_.verifier->coupled();
      control_ = request_.draft_control ? request_.draft_control : std::make_shared<DraftControl>();
      text_ = request_.prompt;
    }
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

  // Rows that decoding needs without drafts.
  int plain_rows() const { return static_cast<int>(new_.size() - new_fed_); }
  bool drafts() const { return drafter_ != nullptr; }
  bool may_be_cut() const { return is_coupled_ && request_.adapt_draft; }
  DraftControl& control() { return *control_; }
  const TokenTree& proposed() const { return proposed_; }

  // Asks the drafter what may come behind the last token drawn; at most `limit` nodes.
  void propose(int limit) {
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

  // Keeps these nodes of the proposal (ascending, closed under parents).
  void select(std::span<const int> nodes) {
    selected_.assign(nodes.begin(), nodes.end());
    tree_.select(proposed_, selected_);
    promised_ = 0;
    for (const int node : nodes) promised_ += static_cast<double>(proposed_.reach(node));
  }
  // The step goes on without drafts. Draws that are no points are verified all the same where they hang on the root,
  // without rows of their own: dropped because of their number, which depends on what was drawn, they would have
  // another law than the one that the verifier knows.
  void drop_tree() {
    if (is_coupled_) return clear_tree();
    tree_.cut_to_root(&selected_);
    has_tree_rows_ = false;
  }
  bool has_tree_rows() const { return !tree_.empty() && has_tree_rows_; }

  // After the slice ran, as number `slice` of the step; `seconds`: its share of the time.
  void observe(const StepOutput& output, size_t slice, bool has_logits, double seconds) {
    const bool was_prefill = in_prefill();
    if (was_prefill) {
      fed_ += rows_;
      if (!in_prefill()) {
        first_ = Clock::now();
        result_.prefill_seconds = seconds_between(begin_, first_);
        if (request_.max_tokens == 0) return finish(FinishReason::kLength);
      }
      if (!has_logits) return;
      draw(output.logits(slice, 0), kRoot);
      text_.insert(text_.end(), new_.begin(), new_.end());
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

  void clear_tree() {
    tree_.reset(0, 0);
    selected_.clear();
  }

  // For the draws of a round; never that of another round or sample of the same seed.
  uint64_t draw_seed(uint64_t round) const {
    const RngKey key{.seed = request_.sampler.seed + 0x9E3779B97F4A7C15u * round,
                     .sample = request_.sample,
                     .purpose = Purpose::kDraft};
    return uint64_t{random_bits(key, 0)} << 32 | random_bits(key, 1);
  }

  // A constraint's singletons: nodes that need no guess.
  void add_forced(int limit) {
    constexpr uint16_t kForced = TokenTree::kEvidence - 1;
    constexpr float kWorthALook = 0.05f;
    proposed_.raise(std::min(limit, proposed_.size() + static_cast<int>(kMaxForced)));
    for (int i = 0; i < proposed_.size() && !proposed_.full(); ++i) {
      if (proposed_.first_child(i) != kRefused || proposed_.reach(i) < kWorthALook) continue;
      const TokenId token = legality_.forced(i);
      if (token != -1 && !is_forbidden(token)) proposed_.add(i, token, 1, kForced);
    }
  }

  // Rows of the tokens drawn and of the tree that hangs on the last of them.
  void ask_for_tree(Slice* slice) {
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

  // Draws down the tree for as long as what is drawn is in it, and keeps the rows of that path.
  void walk() {
    const bool owned = owns_sequence_;
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
    if (!tree_.empty() && (owns_sequence_ || !owned)) {
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

  std::span<const float> logits_of(int node) const { return output_->logits(slice_, static_cast<size_t>(node + 1)); }

  // DraftOutcome
  const TokenTree& tree() const override { return tree_; }
  TargetRow row(int node) const override {
    std::span<const uint64_t> mask;
    if (request_.constraint && request_.n_logprobs < 0) {
      mask = node == kRoot ? std::span<const uint64_t>(root_wanted_)
                           : legality_.allowed(selected_[static_cast<size_t>(node)]);
    }
    return {logits_of(node), mask};
  }
  std::span<const int> path() const override { return path_; }
  std::span<const TokenId> before() const override { return text_; }
  std::span<const TokenId> fresh() const override { return fresh_; }

  // TargetDistributions: behind the node where the walk stands, or below it.
  Result<std::span<const TokenLogprob>> at(int node) override {
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

  // The next token by the request's verifier.
  Result<Draw> verified_draw(std::span<const float> logits, int node, uint32_t position) {
    standing_ = node;
    // What was thought of this node from above may lack what the draws before it did to the sampler and the mask.
    target_[static_cast<size_t>(node + 1)].reset();
    const RngKey key{.seed = request_.sampler.seed, .sample = request_.sample, .position = position};
    DECANT_TRY(const TokenId token, request_.verifier->choose(tree_, node, *this, key));
    DECANT_TRY(const std::span<const TokenLogprob> target, at(node));
    const auto found = std::lower_bound(target.begin(), target.end(), token,
                                        [](const TokenLogprob& t, TokenId id) { return t.token < id; });
    if (found == target.end() || found->token != token) {
      return Status::internal("the verifier {} chose token {}, which the target does not have",
                              request_.verifier->name(), token);
    }
    return sampler_->describe(logits, token, found->logprob, request_.n_logprobs);
  }

  void draw(std::span<const float> logits, int node) {
    new_.clear();
    new_fed_ = 0;
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

  void copy_mask(const TokenMask& tokens, bool may_end, std::vector<uint64_t>* words) const {
    Legality::copy_mask(request_, tokens, may_end, static_cast<size_t>(engine_.model().config().vocab_size), words);
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
    draft();
    is_decode_step_ = true;
    for (const bool prefill : {false, true}) {
      for (size_t i = 0; i < running_.size() && rows > 0; ++i) {
        Running& r = running_[i];
        if (r.done() || r.in_prefill() != prefill) continue;
        if (prefill) is_decode_step_ = false;
        slices_.push_back(r.slice(prefill ? std::min(chunk, rows) : rows));
        chosen_.push_back(i);
        rows -= static_cast<int>(slices_.back().tokens.size());
      }
    }
    return !slices_.empty();
  }

  // Lets the drafters of all decoding requests propose, then keeps the guesses that are worth their time together.
  void draft() {
    int rows = 0, decoding = 0;
    bool any = false;
    for (Running& r : running_) {
      if (r.done() || r.in_prefill()) continue;
      rows += r.plain_rows();
      ++decoding;
      any |= r.drafts();
    }
    if (!any) return;
    int room = engine_.options().max_rows - rows;
    candidates_.clear();
    DraftControl* control = nullptr;
    for (size_t i = 0; i < running_.size(); ++i) {
      Running& r = running_[i];
      if (r.done() || r.in_prefill() || !r.drafts()) continue;
      r.propose(std::max(room, 0));
      if (r.done()) continue;
      if (!r.may_be_cut()) {
        room -= r.proposed().size();
        rows += r.proposed().size();
        continue;
      }
      control = &r.control();
      const float share = control->promises.kept_share();
      for (int n = 0; n < r.proposed().size(); ++n) candidates_.push_back({share * r.proposed().reach(n), i, n});
    }
    if (control == nullptr) return;
    // A child's reach is at most its parent's, so any leading part is closed under parents.
    std::stable_sort(candidates_.begin(), candidates_.end(),
                     [](const Candidate& a, const Candidate& b) { return a.reach > b.reach; });
    if (candidates_.size() > static_cast<size_t>(std::max(room, 0))) {
      candidates_.resize(static_cast<size_t>(std::max(room, 0)));
    }
    reach_.clear();
    for (const Candidate& c : candidates_) reach_.push_back(c.reach);
    candidates_.resize(static_cast<size_t>(worthwhile(reach_, rows, decoding, control->cost)));
    std::sort(candidates_.begin(), candidates_.end(), [](const Candidate& a, const Candidate& b) {
      return a.request != b.request ? a.request < b.request : a.node < b.node;
    });
    for (size_t begin = 0; begin < candidates_.size();) {
      nodes_.clear();
      const size_t request = candidates_[begin].request;
      for (; begin < candidates_.size() && candidates_[begin].request == request; ++begin) {
        nodes_.push_back(candidates_[begin].node);
      }
      running_[request].select(nodes_);
    }
  }

  // Runs the planned slices; false if none could run for want of cache pages.
  bool step() {
    const auto begin = Clock::now();
    Status status = engine_.step(slices_, &output_);
    if (status.ok()) {
      const double seconds = seconds_between(begin, Clock::now());
      int rows = 0;
      for (const Slice& s : slices_) rows += static_cast<int>(s.tokens.size());
      for (size_t s = 0; s < slices_.size(); ++s) {
        Running& r = running_[chosen_[s]];
        if (is_decode_step_ && r.drafts()) r.control().cost.learn(rows, seconds);
        observe(s, s, seconds * static_cast<double>(slices_[s].tokens.size()) / rows);
      }
      return true;
    }
    // Rows are independent of their neighbours, so each slice may as well run alone: those that fit go on, the others
    // wait for pages, and what is wrong with one request ends that one. Guesses are the first that go.
    bool progress = false;
    for (size_t s = 0; s < slices_.size(); ++s) {
      Running& r = running_[chosen_[s]];
      const auto alone = Clock::now();
      status = engine_.step(std::span<const Slice>(slices_).subspan(s, 1), &output_);
      if (status.code() == Code::kExhausted && r.has_tree_rows()) {
        r.drop_tree();
        slices_[s] = r.slice(engine_.options().max_rows);
        status = engine_.step(std::span<const Slice>(slices_).subspan(s, 1), &output_);
      }
      if (status.ok()) {
        observe(s, 0, seconds_between(alone, Clock::now()));
        progress = true;
      } else if (status.code() != Code::kExhausted) {
        r.fail(std::move(status));
        progress = true;
      } else {
        exhausted_ = std::move(status);
      }
    }
    return progress;
  }

  void observe(size_t slice, size_t in_output, double seconds) {
    running_[chosen_[slice]].observe(output_, in_output, !slices_[slice].logits.empty(), seconds);
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
  struct Candidate {
    float reach;
    size_t request;
    int node;
  };
  std::vector<Candidate> candidates_;
  std::vector<float> reach_;
  std::vector<int> nodes_;
  std::vector<Slice> slices_;
  std::vector<size_t> chosen_;
  bool is_decode_step_ = false;
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
