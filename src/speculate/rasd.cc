// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// RASD: a tree of retrieved continuations (of the request's own text and of a datastore) is pruned by a drafter's
// distribution and joined with that drafter's tree. The drafter is a draft model, or a table of tri-grams that learns.
#include <algorithm>

#include "engine/acceptance.h"
#include "speculate/draft_maker.h"
#include "speculate/fusion.h"
#include "speculate/methods.h"
#include "speculate/model_draft.h"
#include "speculate/retrieval.h"

namespace decant {
namespace {

struct RasdOptions {
  RetrievalOptions retrieval;
  int length, nodes, keep, depth;
};

constexpr float kStep = 0.04f, kCap = 3;
constexpr int kWindow = 14;         // times that a tri-gram is raised in ADED's window
constexpr int kScratchNodes = 256;  // of a tree before it is pruned
constexpr float kKnown = 0.3f;      // weight of a row from which on it may rule tokens out

// Below Retrieval::kEvidence.
uint16_t trigram_evidence(const TrigramEvidence& e) {
  const int share = e.share < 0.2f ? 0 : e.share < 0.5f ? 1 : e.share < 0.9f ? 2 : 3;
  const int total = e.total < 0.3f ? 0 : e.total < 0.7f ? 1 : e.total < 1.5f ? 2 : 3;
  return static_cast<uint16_t>((share * 4 + total) * 4 + std::min(e.depth, 4) - 1);
}

// What the requests of a method share.
struct RasdShared {
  AcceptanceModel acceptance;
  AdaptiveTrigrams table{nullptr};
};

class TrigramRasd final : public Drafter {
 public:
  TrigramRasd(const RasdOptions& options, std::shared_ptr<const Datastore> corpus, std::shared_ptr<RasdShared> shared,
              std::span<const TokenId> prompt)
      : options_(options),
        shared_(std::move(shared)),
        maker_({.length = options.depth}),
        retrieval_(options.retrieval, std::move(corpus)) {
    retrieval_.append(prompt);
  }

  Status propose(const DraftContext& context, TokenTree* tree) override {
    retrieval_.catch_up(context.tokens);
    proposed_.reset(0, 0);
    if (context.tokens.size() < 2) return {};
    const TokenId a = context.tokens[context.tokens.size() - 2], b = context.tokens.back();
    const int depth = tree->max_depth();
    drafted_.reset(std::min(options_.nodes, tree->room()), depth);
    maker_.best(shared_->table, a, b, trigram_evidence, &shared_->acceptance, &drafted_);
    retrieved_.reset(kScratchNodes, std::min(depth, options_.length));
    retrieval_.find(&retrieved_);
    // Only what may come as the first token behind the text; of what follows the retrieved text knows more.
    const std::span<const TrigramTable::Successor> row = shared_->table.row(a, b);
    float total = 0;
    for (const auto& s : row) total += s.weight;
    pruned_.reset(kScratchNodes, depth);
    prune(
        retrieved_,
        [&](const TokenTree& from, int node) {
          const TokenNode& n = from.node(node);
          if (n.depth > 1 || total < kKnown || row.size() <= static_cast<size_t>(options_.keep)) return true;
          const auto top = row.first(static_cast<size_t>(options_.keep));
          return std::any_of(top.begin(), top.end(), [&](const auto& s) { return s.token == n.token; });
        },
        &pruned_);
    measure(&drafted_);
    measure(&pruned_);
    // Likeliest first, so that what is refused (by a constraint) makes room for the next.
    proposed_.reset(kScratchNodes, depth);
    fuse(drafted_, pruned_, &proposed_);
    graft(proposed_, tree);
    return {};
  }

  void observe(const DraftOutcome& outcome) override {
    shared_->acceptance.learn(proposed_, outcome.fresh());
    proposed_.reset(0, 0);
    const std::span<const TokenId> before = outcome.before(), fresh = outcome.fresh();
    retrieval_.catch_up(before);
    const float step = kStep * kWindow;
    if (!started_) shared_->table.raise_all(before, step, kCap);
    started_ = true;
    retrieval_.append(fresh);
    const std::span<const TokenId> text = retrieval_.text();
    shared_->table.raise_all(text.last(std::min(text.size(), fresh.size() + 2)), step, kCap);
  }

 private:
  // Estimates by what came of such guesses: makes those of both trees comparable.
  void measure(TokenTree* tree) {
    probabilities_.clear();
    for (const TokenNode& n : tree->nodes()) {
      probabilities_.push_back(shared_->acceptance.estimate(n.evidence, n.probability));
    }
    tree->estimate(probabilities_);
  }

  RasdOptions options_;
  std::shared_ptr<RasdShared> shared_;
  DraftMaker maker_;
  Retrieval retrieval_;
  TokenTree drafted_, retrieved_, pruned_, proposed_;
  std::vector<float> probabilities_;
  bool started_ = false;
};

class TrigramRasdMethod final : public DraftMethod {
 public:
  TrigramRasdMethod(const RasdOptions& options, std::shared_ptr<const Datastore> corpus)
      : options_(options), corpus_(std::move(corpus)), shared_(std::make_shared<RasdShared>()) {
    if (corpus_) {
      constexpr int kTop = 12;
      base_ = std::make_shared<const TrigramTable>(TrigramTable::from_corpus(*corpus_, kTop));
      shared_->table = AdaptiveTrigrams(base_);
    }
  }
  Result<std::unique_ptr<Drafter>> start(std::span<const TokenId> prompt) override {
    return std::unique_ptr<Drafter>(new TrigramRasd(options_, corpus_, shared_, prompt));
  }
  int max_nodes() const override { return options_.nodes; }
  int max_depth() const override { return std::max(options_.length, options_.depth); }
  size_t bytes() const override {
    return shared_->table.bytes() + (corpus_ ? base_->bytes() + corpus_->info().bytes : 0);
  }

 private:
  RasdOptions options_;
  std::shared_ptr<const Datastore> corpus_;
  std::shared_ptr<RasdShared> shared_;
  std::shared_ptr<const TrigramTable> base_;
};

// The model's tree grows on the draft itself, where a constraint's masks are; a node that was retrieved too is one with
// the model's, so that both trees join along their common prefixes.
class ModelRasd final : public Drafter {
 public:
  ModelRasd(const RasdOptions& options, std::shared_ptr<DraftModel> model, std::unique_ptr<TreePolicy> policy,
            std::shared_ptr<const Datastore> corpus, std::shared_ptr<AcceptanceModel> acceptance,
            std::span<const TokenId> prompt)
      : options_(options),
        acceptance_(std::move(acceptance)),
        trees_(std::move(model), std::move(policy), {.points = true, .most = std::max(options.keep, 64)}),
        retrieval_(options.retrieval, std::move(corpus)) {
    retrieval_.append(prompt);
  }

  Status propose(const DraftContext& context, TokenTree* tree) override {
    retrieval_.catch_up(context.tokens);
    base_ = tree->evidence_base();
    if (tree->room() < 1) return {};
    const AcceptanceModel& measured = context.control != nullptr ? context.control->acceptance : *acceptance_;
    const int depth = std::min(tree->max_depth(), options_.length);
    retrieved_.reset(kScratchNodes, depth);
    retrieval_.find(&retrieved_);
    plausible_.assign(static_cast<size_t>(retrieved_.size()), true);
    probabilities_.clear();
    for (const TokenNode& n : retrieved_.nodes()) {
      probabilities_.push_back(measured.estimate(static_cast<uint16_t>(base_ + n.evidence), n.probability));
    }
    // Half of the room at least is for the model, and what the retrieved text does not need.
    const int room = tree->room(), most = tree->size() + room;
    tree->raise(most - std::min(retrieved_.size(), room / 2));
    const Status status = trees_.grow(context, &measured, tree, [&](ModelRows& rows) { return compare(*tree, rows); });
    tree->raise(most);
    DECANT_TRY_STATUS(status);
    retrieved_.estimate(probabilities_);
    pruned_.reset(kScratchNodes, depth);
    prune(
        retrieved_, [&](const TokenTree&, int node) { return plausible_[static_cast<size_t>(node)]; }, &pruned_);
    fuse(TokenTree(), pruned_, tree);
    return {};
  }

  void observe(const DraftOutcome& outcome) override {
    acceptance_->learn(outcome.tree(), outcome.fresh());
    const std::span<const int> path = outcome.path();
    trees_.observe(outcome, static_cast<size_t>(std::count_if(path.begin(), path.end(), [&](int node) {
                     const int evidence = outcome.tree().node(node).evidence;
                     return evidence >= base_ && evidence < base_ + Retrieval::kEvidence;
                   })));
    retrieval_.catch_up(outcome.before());
    retrieval_.append(outcome.fresh());
  }

 private:
  // Wherever the model has been asked, what was retrieved has to be among its first `keep` tokens. Further down the
  // retrieved text knows more.
  Status compare(const TokenTree& tree, ModelRows& rows) {
    twins_.assign(static_cast<size_t>(retrieved_.size()), kRefused);
    for (int i = 0; i < retrieved_.size(); ++i) {
      const TokenNode& n = retrieved_.node(i);
      const auto at = static_cast<size_t>(i);
      const int parent = n.parent == kRoot ? kRoot : twins_[static_cast<size_t>(n.parent)];
      if (parent == kRefused) continue;
      twins_[at] = tree.child(parent, n.token);
      if (twins_[at] != kRefused) {
        probabilities_[at] = std::max(probabilities_[at], tree.node(twins_[at]).probability);
      }
      if (!rows.has(parent)) continue;
      DECANT_TRY(const std::vector<DraftToken> top, rows.top(parent, options_.keep));
      plausible_[at] = std::any_of(top.begin(), top.end(), [&](const DraftToken& t) { return t.token == n.token; });
    }
    return {};
  }

  RasdOptions options_;
  std::shared_ptr<AcceptanceModel> acceptance_;  // where the loop measures none
  ModelTrees trees_;
  Retrieval retrieval_;
  TokenTree retrieved_, pruned_;
  std::vector<bool> plausible_;       // of the nodes retrieved
  std::vector<float> probabilities_;  // likewise
  std::vector<int> twins_;            // likewise: the node of the draft with the same path, or kRefused
  int base_ = 0;
};

class ModelRasdMethod final : public DraftMethod {
 public:
  ModelRasdMethod(const RasdOptions& options, int width, std::shared_ptr<DraftModel> model,
                  std::shared_ptr<const Datastore> corpus)
      : options_(options),
        model_(std::move(model)),
        policy_(make_growing(options.nodes, options.depth, width)),
        corpus_(std::move(corpus)),
        acceptance_(std::make_shared<AcceptanceModel>()) {}
  Result<std::unique_ptr<Drafter>> start(std::span<const TokenId> prompt) override {
    return std::unique_ptr<Drafter>(new ModelRasd(options_, model_, policy_->clone(), corpus_, acceptance_, prompt));
  }
  int max_nodes() const override { return options_.nodes; }
  int max_depth() const override { return std::max(options_.length, options_.depth); }
  size_t bytes() const override { return model_->bytes() + (corpus_ ? corpus_->info().bytes : 0); }

 private:
  RasdOptions options_;
  std::shared_ptr<DraftModel> model_;
  std::unique_ptr<TreePolicy> policy_;
  std::shared_ptr<const Datastore> corpus_;
  std::shared_ptr<AcceptanceModel> acceptance_;
};

Result<std::shared_ptr<DraftMethod>> make_rasd(const Settings& s, const DraftEnvironment& e) {
  if (s.integer("min") > s.integer("max")) {
    return Status::invalid_argument("min {} is more than max {}", s.integer("min"), s.integer("max"));
  }
  if (s.given("width") && !s.given("model")) {
    return Status::invalid_argument("width is of a draft model's tree; name the model too: model=FILE");
  }
  const RasdOptions options{.retrieval = {.longest = s.integer("max"),
                                          .shortest = s.integer("min"),
                                          .occurrences = s.integer("occurrences"),
                                          .samples = s.integer("samples")},
                            .length = s.integer("length"),
                            .nodes = s.integer("nodes"),
                            .keep = s.integer("keep"),
                            .depth = s.integer("depth")};
  std::shared_ptr<const Datastore> corpus;
  if (s.given("corpus")) {
    DECANT_TRY(corpus, Datastore::open(s.text("corpus"), e.vocabulary_hash, static_cast<uint64_t>(e.vocab_size)));
  }
  if (!s.given("model")) return std::shared_ptr<DraftMethod>(new TrigramRasdMethod(options, std::move(corpus)));
  DECANT_TRY(std::shared_ptr<DraftModel> model, open_draft_model(s, "model", e));
  return std::shared_ptr<DraftMethod>(
      new ModelRasdMethod(options, s.integer("width"), std::move(model), std::move(corpus)));
}

}  // namespace

DrafterInfo rasd_drafter() {
  using Kind = SettingInfo::Kind;
  return {
      .name = "rasd",
      .summary = "retrieved continuations, pruned by and joined with a tree of learned tri-grams or of a draft model",
      .paper = "Quan et al. 2025, RASD: Retrieval-Augmented Speculative Decoding",
      .needs = {},
      .settings = {{"corpus", Kind::kPath, "", 0, 0, "", "datastore that is searched too"},
                   {"model", Kind::kPath, "", 0, 0, "", "a draft model, in place of the tri-grams"},
                   {"max", Kind::kInteger, "8", 2, 64, "", "longest match in the request's own text"},
                   {"min", Kind::kInteger, "2", 2, 64, "", "shortest match"},
                   {"occurrences", Kind::kInteger, "8", 1, 256, "", "of the longest match, latest first"},
                   {"samples", Kind::kInteger, "128", 1, 8192, "", "occurrences in the corpus that are looked at"},
                   {"length", Kind::kInteger, "10", 1, 256, "", "tokens of a retrieved branch"},
                   {"depth", Kind::kInteger, "5", 1, 64, "", "tokens of a branch of the tri-grams or the draft model"},
                   {"width", Kind::kInteger, "3", 1, 64, "", "paths of the draft model's tree"},
                   {"keep", Kind::kInteger, "10", 0, 255, "",
                    "likeliest tokens, of the first by the tri-grams, or of those that the draft model has looked at; "
                    "retrieved branches that go on otherwise are cut there"},
                   {"nodes", Kind::kInteger, "48", 1, 1024, "", "tokens of a draft"}},
      .make = make_rasd};
}

}  // namespace decant
