// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "engine/align.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <list>
#include <unordered_map>

#include "base/hash.h"
#include "base/rng.h"

namespace decant {
namespace {

template <typename T>
uint64_t hash_of(std::span<const T> values) {
  return fnv1a({reinterpret_cast<const char*>(values.data()), values.size_bytes()});
}

// Uniform in (0, 1) with all of a double's bits.
double uniform(uint64_t seed, int64_t attempt, size_t position) {
  const RngKey key = {.seed = seed,
                      .sample = static_cast<uint32_t>(attempt),
                      .position = static_cast<uint32_t>(position),
                      .purpose = Purpose::kAlign};
  const uint64_t bits = uint64_t{random_bits(key, 0)} << 32 | random_bits(key, 1);
  return (static_cast<double>(bits >> 12) + 0.5) * 0x1p-52;
}

// What of the sampling settings changes P.
std::string text_of(const SamplerOptions& o) {
  std::string text = fmt::format(
      "temp {} {} {} top_k {} top_p {} min_p {} typical {} nsigma {} keep {} penalties {} {} {} {} dry {} {} {} {} "
      "n_ctx "
      "{} {}",
      o.temperature, o.dynatemp_range, o.dynatemp_exponent, o.top_k, o.top_p, o.min_p, o.typical_p, o.top_n_sigma,
      o.min_keep, o.repeat_last_n, o.repeat_penalty, o.presence_penalty, o.frequency_penalty, o.dry_multiplier,
      o.dry_base, o.dry_allowed_length, o.dry_penalty_last_n, o.n_ctx, o.samplers);
  if (o.dry_multiplier > 0) {
    for (const auto& breaker : o.dry_breakers) {
      text += " breaker";
      for (const int32_t t : breaker) text += fmt::format(" {}", t);
    }
  }
  for (const auto& [token, bias] : o.logit_bias) text += fmt::format(" bias {} {}", token, bias);
  return text;
}

}  // namespace

Status check_alignment(const GenerateRequest& r, const AlignOptions& o) {
  if (!r.constraint) return Status::invalid_argument("alignment needs a constraint");
  if (r.end_tokens.empty() || r.sampler.ignore_eos) {
    return Status::invalid_argument("alignment needs answers that end: the end token must be allowed");
  }
  if (r.sampler.temperature <= 0) {
    return Status::invalid_argument(
        "alignment needs a temperature above 0: at 0 the model has one answer, and no distribution to condition");
  }
  if (r.sampler.mirostat != 0 || r.sampler.xtc_probability > 0) {
    return Status::invalid_argument("alignment needs a distribution that the prefix alone decides; turn {} off",
                                    r.sampler.mirostat != 0 ? "Mirostat" : "XTC");
  }
  if (r.sequence != -1 || r.n_logprobs >= 0 || r.prompt_logprobs >= 0 || r.on_token) {
    return Status::invalid_argument("alignment takes no sequence, log-probabilities or callback for tokens");
  }
  if (r.finish_in_time || r.canonical) {
    return Status::invalid_argument(
        "alignment draws the model's own tokens, from all texts of the budget: leave out finish_in_time and canonical");
  }
  if (o.batch < 1 || o.max_attempts < 1)
    return Status::invalid_argument("alignment: batch and attempts are at least 1");
  return {};
}

// ---- Rows that are remembered.

class AlignedTexts::Rows {
 public:
  explicit Rows(size_t capacity) : capacity_(capacity) {}

  const AlignmentRow* find(AlignmentTrie::NodeId node) {
    const auto found = by_node_.find(node);
    if (found == by_node_.end()) return nullptr;
    order_.splice(order_.begin(), order_, found->second);
    return &found->second->second;
  }

  // Long rows are of free text, which seldom comes twice: one may not push out all others.
  bool takes(const AlignmentRow& row) const { return size_of(row) <= capacity_ / 64; }

  void insert(AlignmentTrie::NodeId node, AlignmentRow row) {
    if (by_node_.contains(node)) return;
    bytes_ += size_of(row);
    order_.emplace_front(node, std::move(row));
    by_node_[node] = order_.begin();
    while (bytes_ > capacity_) {
      bytes_ -= size_of(order_.back().second);
      by_node_.erase(order_.back().first);
      order_.pop_back();
    }
  }

 private:
  using Entry = std::pair<AlignmentTrie::NodeId, AlignmentRow>;
  static size_t size_of(const AlignmentRow& row) { return 128 + row.tokens.size() * sizeof(TokenProbability); }

  size_t capacity_, bytes_ = 0;
  std::list<Entry> order_;
  std::unordered_map<AlignmentTrie::NodeId, std::list<Entry>::iterator> by_node_;
};

struct AlignedTexts::Text {
  AlignmentWalk walk;
  SamplerState state;
  int64_t attempt;
  size_t slot;
  int64_t forward_passes = 0;
  std::vector<std::pair<size_t, AlignmentRow>> fresh;  // rows to remember, by the length of their prefix
};

// ---- Texts.

AlignedTexts::AlignedTexts(const GenerateRequest& request, const AlignOptions& options, int budget)
    : request_(request),
      max_attempts_(options.max_attempts),
      trie_(options.max_nodes),
      budget_(budget),
      end_tokens_(request.end_tokens),
      rows_(std::make_unique<Rows>(options.row_bytes)) {
  std::sort(end_tokens_.begin(), end_tokens_.end());
}

AlignedTexts::~AlignedTexts() = default;

Result<std::unique_ptr<AlignedTexts>> AlignedTexts::create(const GenerateRequest& request, const AlignOptions& options,
                                                           int vocab_size, int context) {
  DECANT_TRY_STATUS(check_alignment(request, options));
  DECANT_TRY_STATUS(check_prompt(request.prompt.size(), context));
  const int room = context - static_cast<int>(request.prompt.size());
  const int budget = request.max_tokens < 0 ? room : request.max_tokens;
  if (budget > room) {
    return Status::invalid_argument(
        "answers of {} tokens behind a prompt of {} do not fit into the context of {}; the language would be cut "
        "there: lower the budget (-n, max_tokens in requests) or raise the context size (-c)",
        budget, request.prompt.size(), context);
  }
  std::unique_ptr<AlignedTexts> out(new AlignedTexts(request, options, budget));
  DECANT_TRY(out->sampler_, Sampler::create(request.sampler, vocab_size));
  return out;
}

std::vector<AlignedTexts::Text*> AlignedTexts::begin(AlignMode mode, int batch) {
  std::vector<Text*> out;
  texts_.clear();
  for (int i = 0; i < batch; ++i) {
    texts_.push_back(
        std::make_unique<Text>(Text{.walk = AlignmentWalk(trie_, *request_.constraint, end_tokens_, budget_, mode),
                                    .state = sampler_->start(request_.prompt),
                                    .attempt = trie_.attempts() + i,
                                    .slot = static_cast<size_t>(i)}));
    out.push_back(texts_.back().get());
  }
  return out;
}

const std::vector<TokenId>& AlignedTexts::tokens(const Text& text) { return text.walk.tokens(); }

Result<bool> AlignedTexts::advance(Text* text) const {
  AlignmentWalk& walk = text->walk;
  while (walk.state() == AlignmentWalk::State::kOpen) {
    const AlignmentRow* known = walk.node() == AlignmentTrie::kNone ? nullptr : rows_->find(walk.node());
    if (!walk.needs_row()) {
      DECANT_TRY_STATUS(step(text, {}));
    } else if (known != nullptr) {
      DECANT_TRY_STATUS(step(text, *known));
    } else {
      return true;
    }
  }
  return false;
}

Status AlignedTexts::take(Text* text, std::span<const float> logits) const {
  const std::vector<TokenId>& tokens = text->walk.tokens();
  const auto position = static_cast<uint32_t>(request_.prompt.size() + tokens.size());
  DECANT_TRY(const std::vector<TokenLogprob> list, sampler_->distribution(logits, text->state, position));
  std::vector<TokenProbability> p;
  p.reserve(list.size());
  for (const TokenLogprob& t : list) p.push_back({t.token, std::exp(static_cast<double>(t.logprob))});
  AlignmentRow row = text->walk.row(p);
  // The prompt's own row is not one that a text needed.
  if (!tokens.empty()) ++text->forward_passes;
  if (rows_->takes(row)) text->fresh.emplace_back(tokens.size(), row);
  return step(text, std::move(row));
}

Status AlignedTexts::step(Text* text, AlignmentRow row) const {
  AlignmentWalk& walk = text->walk;
  const size_t length = walk.tokens().size();
  DECANT_TRY_STATUS(walk.step(row, uniform(request_.sampler.seed, text->attempt, length)));
  if (walk.tokens().size() > length) text->state = sampler_->advance(text->state, walk.tokens().back());
  return {};
}

void AlignedTexts::end() {
  for (const auto& text : texts_) merge(text.get());
  texts_.clear();
}

void AlignedTexts::merge(Text* text) {
  const AlignmentWalk& walk = text->walk;
  trie_.merge(walk);
  AlignmentTrie::NodeId node = AlignmentTrie::kRoot;
  size_t depth = 0;
  for (auto& [length, row] : text->fresh) {
    for (; depth < length && node != AlignmentTrie::kNone; ++depth) node = trie_.child(node, walk.tokens()[depth]);
    if (node == AlignmentTrie::kNone) break;
    rows_->insert(node, std::move(row));
  }
  pending_.steps += walk.steps();
  pending_.forward_passes += text->forward_passes;
  if (walk.state() == AlignmentWalk::State::kExplored) return;
  if (walk.state() != AlignmentWalk::State::kAccepted) {
    ++pending_.attempts;
    return;
  }
  pending_.tokens = walk.tokens();
  pending_.log_p = walk.log_p();
  pending_.log_q = walk.log_q();
  pending_.log_c = trie_.log_c();
  ready_.insert(ready_.begin(), std::move(pending_));
  pending_ = {};
}

Result<std::optional<AlignedSample>> AlignedTexts::pop() {
  if (!ready_.empty()) {
    std::optional<AlignedSample> sample = std::move(ready_.back());
    ready_.pop_back();
    return sample;
  }
  if (trie_.log_c() == -std::numeric_limits<double>::infinity()) {
    return Status::invalid_argument(
        "P(L') = 0: no answer of the language with at most {} tokens has a probability above 0; raise the budget "
        "(-n, max_tokens in requests), or loosen --top-k, --top-p and --min-p (top_k and so on in requests), which act "
        "before the grammar",
        budget_);
  }
  if (pending_.attempts - 1 >= max_attempts_) {
    return Status::exhausted("no answer of the language in {} attempts; its probability is at most {:.3g}",
                             max_attempts_, std::exp(trie_.log_c()));
  }
  return std::optional<AlignedSample>();
}

// ---- Texts of an engine.

AlignedSampler::AlignedSampler(Engine& engine, const GenerateRequest& request, const AlignOptions& options)
    : engine_(engine), request_(request), options_(options) {
  for (const auto& overlay : request_.overlays) overlays_.push_back(overlay.get());
}

AlignedSampler::~AlignedSampler() {
  for (const Slot& slot : slots_) (void)engine_.cache().remove(slot.sequence);
  if (prompt_ != -1) (void)engine_.cache().remove(prompt_);
}

Result<std::unique_ptr<AlignedSampler>> AlignedSampler::create(Engine& engine, const GenerateRequest& request,
                                                               const AlignOptions& options) {
  std::unique_ptr<AlignedSampler> out(new AlignedSampler(engine, request, options));
  DECANT_TRY_STATUS(out->start());
  return out;
}

Status AlignedSampler::start() {
  DECANT_TRY(texts_,
             AlignedTexts::create(request_, options_, engine_.model().config().vocab_size, engine_.options().context));
  DECANT_TRY_STATUS(read_prompt());
  make_key();
  return {};
}

Status AlignedSampler::read_prompt() {
  prompt_ = engine_.cache().create_sequence();
  const std::span<const TokenId> prompt = request_.prompt;
  const auto limit = static_cast<size_t>(engine_.options().max_rows);
  for (size_t done = 0; done < prompt.size();) {
    if (options_.cancel != nullptr && options_.cancel->load(std::memory_order_relaxed)) return Status::cancelled("");
    const size_t rows = std::min(limit, prompt.size() - done);
    Slice slice{.sequence = prompt_, .tokens = prompt.subspan(done, rows), .overlays = overlays_};
    done += rows;
    if (done == prompt.size()) slice.logits = {static_cast<int32_t>(rows - 1)};
    DECANT_TRY_STATUS(engine_.step({&slice, 1}, &output_));
  }
  const std::span<const float> logits = output_.logits(0, 0);
  first_logits_.assign(logits.begin(), logits.end());
  return {};
}

void AlignedSampler::make_key() {
  key_.fields = options_.key;
  key_.fields.emplace_back("prompt", fmt::format("{} tokens, {:016x}", request_.prompt.size(),
                                                 hash_of(std::span<const TokenId>(request_.prompt))));
  key_.fields.emplace_back("sampler", text_of(request_.sampler));
  key_.fields.emplace_back("set of end tokens", fmt::format("{:016x}", hash_of(texts_->end_tokens())));
  key_.fields.emplace_back("token budget", std::to_string(budget()));
  // Bits of a row are a function of the weights, adapters, cache types and the kind of device (docs/exactness.md).
  key_.fields.emplace_back("model, adapter, cache type or device",
                           fmt::format("{:016x}", hash_of(std::span<const float>(first_logits_))));
}

Status AlignedSampler::load(const std::string& path) {
  DECANT_TRY(texts_->trie_, AlignmentTrie::load(path, key_, engine_.model().config().vocab_size, options_.max_nodes));
  return {};
}

// ---- Drawing.

Result<AlignedSample> AlignedSampler::next() {
  for (;;) {
    DECANT_TRY(std::optional<AlignedSample> sample, texts_->pop());
    if (sample) return *std::move(sample);
    DECANT_TRY_STATUS(round(options_.mode, options_.batch));
  }
}

Status AlignedSampler::explore(size_t max_nodes) {
  while (!trie().exact(AlignmentTrie::kRoot)) {
    if (trie().size() >= max_nodes || trie().full()) {
      return Status::exhausted("the language has more than {} prefixes", trie().size());
    }
    DECANT_TRY_STATUS(round(AlignMode::kExplore, 1));
  }
  return {};
}

Status AlignedSampler::round(AlignMode mode, int batch) {
  const std::vector<AlignedTexts::Text*> texts = texts_->begin(mode, batch);
  for (;;) {
    std::vector<AlignedTexts::Text*> waiting;
    for (AlignedTexts::Text* text : texts) {
      DECANT_TRY(bool wants_logits, texts_->advance(text));
      if (wants_logits && text->walk.tokens().empty()) {
        DECANT_TRY_STATUS(texts_->take(text, first_logits_));
        DECANT_TRY(wants_logits, texts_->advance(text));
      }
      if (wants_logits) waiting.push_back(text);
    }
    if (waiting.empty()) break;
    DECANT_TRY_STATUS(run_model(waiting));
  }
  texts_->end();
  return {};
}

// The rows behind the texts. A slot keeps the tokens that it shares with the text before.
Status AlignedSampler::run_model(std::span<AlignedTexts::Text* const> texts) {
  KvCache& cache = engine_.cache();
  const size_t prompt = request_.prompt.size();
  std::vector<size_t> fed(texts.size());
  std::vector<bool> done(texts.size(), false);
  for (size_t i = 0; i < texts.size(); ++i) {
    while (slots_.size() <= texts[i]->slot) {
      DECANT_TRY(const SequenceId sequence, cache.fork(prompt_, static_cast<int>(prompt)));
      slots_.push_back({sequence, {}});
    }
    Slot& slot = slots_[texts[i]->slot];
    const std::vector<TokenId>& tokens = texts[i]->walk.tokens();
    const size_t most = std::min(slot.tokens.size(), tokens.size() - 1);
    while (fed[i] < most && slot.tokens[fed[i]] == tokens[fed[i]]) ++fed[i];
    DECANT_TRY_STATUS(cache.truncate(slot.sequence, static_cast<int>(prompt + fed[i])));
    slot.tokens.resize(fed[i]);
  }
  std::vector<Slice> slices;
  std::vector<size_t> chosen;
  for (;;) {
    if (options_.cancel != nullptr && options_.cancel->load(std::memory_order_relaxed)) return Status::cancelled("");
    slices.clear();
    chosen.clear();
    auto rows = static_cast<size_t>(engine_.options().max_rows);
    for (size_t i = 0; i < texts.size() && rows > 0; ++i) {
      if (done[i]) continue;
      const std::vector<TokenId>& tokens = texts[i]->walk.tokens();
      const size_t n = std::min(rows, tokens.size() - fed[i]);
      Slice slice{.sequence = slots_[texts[i]->slot].sequence,
                  .tokens = std::span<const TokenId>(tokens).subspan(fed[i], n),
                  .overlays = overlays_};
      if (fed[i] + n == tokens.size()) slice.logits = {static_cast<int32_t>(n - 1)};
      slices.push_back(std::move(slice));
      chosen.push_back(i);
      rows -= n;
    }
    if (slices.empty()) return {};
    DECANT_TRY_STATUS(engine_.step(slices, &output_));
    for (size_t s = 0; s < slices.size(); ++s) {
      const size_t i = chosen[s];
      AlignedTexts::Text& text = *texts[i];
      std::vector<TokenId>& held = slots_[text.slot].tokens;
      held.insert(held.end(), slices[s].tokens.begin(), slices[s].tokens.end());
      fed[i] = held.size();
    }
    for (size_t s = 0; s < slices.size(); ++s) {
      if (slices[s].logits.empty()) continue;
      done[chosen[s]] = true;
      DECANT_TRY_STATUS(texts_->take(texts[chosen[s]], output_.logits(s, 0)));
    }
  }
}

}  // namespace decant
