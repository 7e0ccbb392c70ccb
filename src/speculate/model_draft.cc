// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "speculate/model_draft.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numbers>

#include "base/hash.h"
#include "base/rng.h"
#include "model/checkpoint.h"
#include "speculate/top_tokens.h"
#include "text/tokenizer.h"

namespace decant {
namespace {

constexpr int kMaxRows = 512;

}  // namespace

size_t DraftModel::bytes() const {
  return engine->model().weight_bytes() + engine->cache().bytes() + engine->buffer_bytes();
}

Result<std::shared_ptr<DraftModel>> open_draft_model(const Settings& settings, std::string_view name,
                                                     const DraftEnvironment& environment) {
  const std::string& path = settings.text(name);
  if (path.empty()) return Status::invalid_argument("{}=FILE names the draft model; it is missing", name);
  if (environment.model == nullptr || environment.tokenizer == nullptr) {
    return Status::invalid_argument("a draft model needs its target");
  }
  DECANT_TRY(const GgufFile file, open_model(path));
  DECANT_TRY(const std::shared_ptr<const Tokenizer> tokenizer, Tokenizer::from_gguf(file));
  DECANT_TRY(const std::shared_ptr<const Model> model, Model::load(file, environment.model->device(), {}));
  auto draft = std::make_shared<DraftModel>();
  DECANT_TRY(draft->map, VocabularyMap::create(*environment.tokenizer, environment.vocab_size, *tokenizer,
                                               model->config().vocab_size, path));
  // Trees lie behind the text.
  const int context = environment.context + kPageKeys * 4;
  Result<std::unique_ptr<Engine>> engine =
      Engine::create(model, {.context = context, .max_rows = std::min(kMaxRows, context)});
  if (!engine.ok()) return std::move(engine).status().with_context(path);
  draft->engine = *std::move(engine);
  return draft;
}

ModelRows::ModelRows(const DraftContext& context, const DraftRule& rule, const AcceptanceModel* measured,
                     Predictor& predictor, const StepCost& cost, TokenTree& tree)
    : context_(context), rule_(rule), measured_(measured), predictor_(predictor), cost_(cost), tree_(tree) {
  draws_ = context.sampler->options().temperature > 0 && (context.shared_noise || !rule.points);
}

const SamplerState& ModelRows::state_of(int node) {
  if (node == kRoot) return *context_.state;
  const auto known = states_.find(node);
  if (known != states_.end()) return known->second;
  const TokenNode& n = tree_.node(node);
  return states_[node] = context_.sampler->advance(state_of(n.parent), n.token);
}

Result<ModelRows::Node*> ModelRows::node_of(int node) {
  Node& n = nodes_[node];
  if (n.known) return &n;
  const std::span<const float> logits = predictor_.logits(node);
  const std::span<const uint64_t> mask = tree_.allowed(node);
  if (std::none_of(mask.begin(), mask.end(), [](uint64_t word) { return word != 0; }) && !mask.empty()) {
    n.known = true;  // behind an end token
    return &n;
  }
  const auto position = static_cast<uint32_t>(static_cast<int>(context_.tokens.size()) + tree_.depth(node));
  if (draws_) {
    DECANT_TRY(n.row, context_.sampler->distribution(logits, state_of(node), position, context_.sample, mask));
  } else {
    // Greedy decoding takes the likeliest token; the tree may want the next ones too.
    top_tokens(logits, mask, rule_.most, &n.row);
    if (n.row.empty() || !std::isfinite(n.row.front().logprob)) {
      n.row.clear();
    } else {
      const float greatest = n.row.front().logprob;
      double mass = 0;
      for (const float x : logits) mass += std::exp(static_cast<double>(x - greatest));
      const float offset = greatest + static_cast<float>(std::log(std::max(mass, 1.0)));
      for (TokenLogprob& t : n.row) t.logprob -= offset;
    }
    for (const TokenLogprob& t : n.row) n.order.push_back({t.token, t.logprob, static_cast<double>(t.logprob)});
    n.complete = true;
  }
  if (draws_ && rule_.temperature != 1 && !n.row.empty()) {
    double mass = 0;
    float greatest = -INFINITY;
    for (const TokenLogprob& t : n.row) greatest = std::max(greatest, t.logprob);
    for (TokenLogprob& t : n.row) {
      t.logprob = (t.logprob - greatest) / rule_.temperature;
      mass += std::exp(static_cast<double>(t.logprob));
    }
    for (TokenLogprob& t : n.row) t.logprob -= static_cast<float>(std::log(mass));
  }
  n.known = true;
  return &n;
}

// The first `count` by log-probability plus noise. With the target's noise under the coupled verifier: a token that
// both models think much of then tends to come first in both.
void ModelRows::sort(int node, int count, Node* n) {
  if (n->complete || static_cast<int>(n->order.size()) >= count) return;
  const auto position = static_cast<uint32_t>(static_cast<int>(context_.tokens.size()) + tree_.depth(node));
  const RngKey key = context_.shared_noise
                         ? RngKey{.seed = context_.sampler->options().seed,
                                  .sample = context_.sample,
                                  .position = position,
                                  .purpose = Purpose::kSample}
                         : RngKey{.seed = mix_bits(context_.draw_seed + static_cast<uint64_t>(node + 2)),
                                  .sample = context_.sample,
                                  .position = position,
                                  .purpose = Purpose::kDraft};
  // Likeliest first, so that most tokens need no noise: it is at most 33 ln 2 (see Sampler::draw).
  constexpr double kNoiseLimit = 33 * std::numbers::ln2 + 1e-3;
  std::vector<TokenLogprob> likely(n->row);
  std::sort(likely.begin(), likely.end(), [](const TokenLogprob& a, const TokenLogprob& b) {
    return a.logprob != b.logprob ? a.logprob > b.logprob : a.token < b.token;
  });
  const size_t want = std::max<size_t>(static_cast<size_t>(count), 8);
  n->order.clear();
  const auto before = [](const DraftToken& a, const DraftToken& b) {
    return a.score != b.score ? a.score > b.score : a.token < b.token;
  };
  for (const TokenLogprob& t : likely) {
    if (!std::isfinite(t.logprob)) break;
    if (n->order.size() >= want && static_cast<double>(t.logprob) + kNoiseLimit < n->order.back().score) break;
    const DraftToken token{
        t.token, t.logprob,
        static_cast<double>(t.logprob) + static_cast<double>(gumbel_noise(key, static_cast<uint32_t>(t.token)))};
    n->order.insert(std::lower_bound(n->order.begin(), n->order.end(), token, before), token);
    if (n->order.size() > want) n->order.pop_back();
  }
  n->complete = n->order.size() < want;
}

Result<std::vector<DraftToken>> ModelRows::top(int node, int count) {
  DECANT_TRY(Node * n, node_of(node));
  sort(node, count, n);
  return std::vector<DraftToken>(
      n->order.begin(),
      n->order.begin() + static_cast<ptrdiff_t>(std::min(n->order.size(), static_cast<size_t>(count))));
}

Result<std::vector<DraftToken>> ModelRows::independent(int node, int count) {
  if (!draws_) return top(node, 1);
  DECANT_TRY(Node * n, node_of(node));
  std::vector<DraftToken> drawn;
  if (n->row.empty()) return drawn;
  const auto position = static_cast<uint32_t>(static_cast<int>(context_.tokens.size()) + tree_.depth(node));
  for (int i = 0; i < count; ++i) {
    // The first under the coupled verifier is the one that the target's own noise picks.
    if (i == 0 && context_.shared_noise) {
      sort(node, 1, n);
      drawn.push_back(n->order.front());
      continue;
    }
    const RngKey key{.seed = mix_bits(context_.draw_seed + static_cast<uint64_t>(node + 2)),
                     .sample = context_.sample,
                     .position = position,
                     .purpose = Purpose::kDraft};
    double left = random_uniform(key, static_cast<uint32_t>(i));
    const TokenLogprob* chosen = nullptr;
    for (const TokenLogprob& t : n->row) {
      if (!std::isfinite(t.logprob)) continue;
      chosen = &t;
      left -= std::exp(static_cast<double>(t.logprob));
      if (left < 0) break;
    }
    if (chosen == nullptr) break;
    drawn.push_back({chosen->token, chosen->logprob, static_cast<double>(chosen->logprob)});
  }
  return drawn;
}

Status ModelRows::declare(int node, Proposal kind, TokenTree* tree) {
  if (!draws_ || context_.shared_noise) return {};  // points, or a verifier that does not ask
  DECANT_TRY(const Node* n, node_of(node));
  tree->set_draft(node, kind, n->row);
  return {};
}

// Sixteen classes by probability, for each of the first three ranks and the rest: below 64.
uint16_t ModelRows::evidence(float probability, int rank) const {
  constexpr float kBounds[] = {0.01f, 0.02f, 0.04f, 0.08f, 0.13f, 0.2f,  0.3f, 0.4f,
                               0.5f,  0.6f,  0.7f,  0.8f,  0.88f, 0.94f, 0.98f};
  const auto at = std::upper_bound(std::begin(kBounds), std::end(kBounds), probability) - std::begin(kBounds);
  return static_cast<uint16_t>(std::min(rank, 3) * 16 + static_cast<int>(at));
}

float ModelRows::acceptance(float probability, int rank) const {
  // Before anything is measured: a draft is kept a little less often than it thinks.
  const float guess = std::min(0.9f * probability + (draws_ && rank == 0 ? 0.2f : 0.0f), 0.95f);
  if (measured_ == nullptr) return guess;
  return measured_->estimate(static_cast<uint16_t>(tree_.evidence_base() + evidence(probability, rank)), guess);
}

bool ModelRows::pays(double reach, int rows) const {
  if (context_.control == nullptr) return true;
  const StepCost& target = context_.control->cost;
  if (!target.known() || !cost_.known()) return true;
  // A token that is kept saves about a step of one row; of what comes behind these nodes, half may be kept. The draft
  // model's step and the target's rows are what it costs.
  constexpr double kHope = 0.7;
  const double gain = reach * kHope * target.seconds(1);
  const double row = std::max(target.seconds(8) - target.seconds(1), 0.0) / 7;
  return gain > cost_.seconds(rows) + row;
}

Status ModelTrees::grow(const DraftContext& context, const AcceptanceModel* measured, TokenTree* tree,
                        const std::function<Status(ModelRows& rows)>& look) {
  if (context.control != nullptr && !worth_asking(*context.control)) return {};
  asked_ = true;
  const size_t fresh = context.tokens.size() - std::min(known_, context.tokens.size());
  Status status = predictor_.start(context.tokens);
  // Without room for its own text the draft model is of no help; the target goes on.
  if (status.code() == Code::kExhausted) return {};
  DECANT_TRY_STATUS(status);
  known_ = context.tokens.size();
  if (fresh <= 2) model_->cost.learn(static_cast<int>(std::max<size_t>(fresh, 1)), predictor_.seconds());
  spent_ = predictor_.seconds();
  ModelRows rows(context, rule_, measured, predictor_, model_->cost, *tree);
  const std::unique_ptr<TreePolicy> policy = policy_->clone();
  std::vector<int> ran = {kRoot};
  while (!ran.empty()) {
    DECANT_TRY(ran, policy->next(ran, rows, tree));
    if (ran.empty()) break;
    status = predictor_.run(*tree, ran);
    if (status.code() == Code::kExhausted) break;
    DECANT_TRY_STATUS(status);
    model_->cost.learn(static_cast<int>(ran.size()), predictor_.seconds());
    spent_ += predictor_.seconds();
  }
  return look ? look(rows) : Status();
}

void ModelTrees::observe(const DraftOutcome& outcome, size_t kept) {
  if (!asked_) return;
  asked_ = false;
  // A failure is met again, and reported, by the next start().
  if (predictor_.commit(outcome.fresh()).ok()) {
    // What a step of drafts brings beside what it costs, fading.
    constexpr double kFade = 0.08;
    model_->gained += kFade * (static_cast<double>(kept) - model_->gained);
    model_->spent += kFade * (spent_ - model_->spent);
    ++model_->asked;
  }
}

// Whether drafts have lately brought more than they cost; now and then it is tried again.
bool ModelTrees::worth_asking(const DraftControl& control) {
  constexpr int kFirst = 16, kAgain = 48;
  if (!control.cost.known() || model_->asked < kFirst) return true;
  // Each token kept saves a step.
  if (model_->gained * control.cost.seconds(1) > model_->spent) return true;
  return ++model_->idle % kAgain == 0;
}

}  // namespace decant
