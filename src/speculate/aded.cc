// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// ADED (Adaptix): a table of tri-gram weights stands for the model. What is decoded raises its weights, so it follows
// the texts of the process; a tree search makes drafts of it.
#include <algorithm>

#include "speculate/draft_maker.h"
#include "speculate/fusion.h"
#include "speculate/methods.h"
#include "speculate/state_file.h"

namespace decant {
namespace {

struct AdedOptions {
  DraftMaker::Options maker;
  bool best = false;
  int nodes = 64;
  int window = 16;
  float step = 0.04f, cap = 3;
  bool prompt = true, share = true;
  uint64_t vocabulary_hash = 0;
};

// Share of the row's weight x the row's weight x rank x depth.
uint16_t evidence_of(const TrigramEvidence& e) {
  const int share = e.share < 0.2f ? 0 : e.share < 0.5f ? 1 : e.share < 0.9f ? 2 : 3;
  const int total = e.total < 0.3f ? 0 : e.total < 0.7f ? 1 : e.total < 1.5f ? 2 : 3;
  return static_cast<uint16_t>(((share * 4 + total) * 2 + std::min(e.rank, 1)) * 4 + std::min(e.depth, 4) - 1);
}

class Aded final : public Drafter {
 public:
  Aded(const AdedOptions& options, std::shared_ptr<AdaptiveTrigrams> table, std::shared_ptr<AcceptanceModel> measured)
      : options_(options), table_(std::move(table)), measured_(std::move(measured)), maker_(options.maker) {}

  Status propose(const DraftContext& context, TokenTree* tree) override {
    const std::span<const TokenId> text = context.tokens;
    if (text.size() < 2) return {};
    const TokenId a = text[text.size() - 2], b = text.back();
    if (options_.best) {
      proposed_.reset(tree->room(), tree->max_depth());
      maker_.best(*table_, a, b, evidence_of, measured_.get(), &proposed_);
      graft(proposed_, tree);
    } else {
      maker_.search(*table_, a, b, context.draw_seed, evidence_of, tree);
    }
    return {};
  }

  void observe(const DraftOutcome& outcome) override {
    measured_->learn(proposed_, outcome.fresh());
    proposed_.reset(0, 0);
    if (options_.step <= 0) return;
    const std::span<const TokenId> before = outcome.before(), fresh = outcome.fresh();
    if (!started_ && options_.prompt) {
      // As much as a window would have given that had moved over the prompt.
      table_->raise_all(before, options_.step * static_cast<float>(std::max(options_.window - 2, 1)), options_.cap);
    }
    started_ = true;
    const size_t kept = std::min(before.size(), static_cast<size_t>(options_.window));
    recent_.assign(before.end() - static_cast<ptrdiff_t>(kept), before.end());
    recent_.insert(recent_.end(), fresh.begin(), fresh.end());
    // More tokens than the window can come at once; none is left out.
    const size_t window = std::max(static_cast<size_t>(options_.window), std::min(fresh.size() + 2, recent_.size()));
    const size_t n = std::min(recent_.size(), window);
    table_->raise_all(std::span(recent_).last(n), options_.step, options_.cap);
  }

 private:
  AdedOptions options_;
  std::shared_ptr<AdaptiveTrigrams> table_;
  std::shared_ptr<AcceptanceModel> measured_;  // of best-first search
  DraftMaker maker_;
  TokenTree proposed_;
  bool started_ = false;
  std::vector<TokenId> recent_;
};

class AdedMethod final : public DraftMethod {
 public:
  AdedMethod(const AdedOptions& options, std::shared_ptr<const TrigramTable> base, TrigramTable learned)
      : options_(options), base_(std::move(base)), table_(std::make_shared<AdaptiveTrigrams>(base_)) {
    table_->load(std::move(learned));
  }
  Result<std::unique_ptr<Drafter>> start(std::span<const TokenId>) override {
    // Unshared, a request learns in a copy of its own.
    return std::unique_ptr<Drafter>(
        new Aded(options_, options_.share ? table_ : std::make_shared<AdaptiveTrigrams>(*table_), measured_));
  }
  int max_nodes() const override { return options_.nodes; }
  int max_depth() const override { return options_.maker.length; }
  size_t bytes() const override { return table_->bytes() + (base_ ? base_->bytes() : 0); }
  Status save(const std::string& path) const override {
    return write_state(path, "aded", options_.vocabulary_hash, bytes_of_words(table_->changed().words()));
  }

 private:
  AdedOptions options_;
  std::shared_ptr<const TrigramTable> base_;
  std::shared_ptr<AdaptiveTrigrams> table_;
  std::shared_ptr<AcceptanceModel> measured_ = std::make_shared<AcceptanceModel>();
};

Result<std::shared_ptr<DraftMethod>> make(const Settings& s, const DraftEnvironment& e) {
  AdedOptions o{.maker = {.length = s.integer("length"),
                          .iterations = s.integer("iterations"),
                          .sentences = s.integer("sentences"),
                          .c1 = static_cast<float>(s.real("c1")),
                          .c2 = static_cast<float>(s.real("c2")),
                          .compat = s.text("score") == "compat"},
                .best = s.text("search") == "best",
                .nodes = s.integer("nodes"),
                .window = s.integer("window"),
                .step = static_cast<float>(s.real("step")),
                .cap = static_cast<float>(s.real("cap")),
                .prompt = s.text("prompt") == "on",
                .share = s.text("share") == "on",
                .vocabulary_hash = e.vocabulary_hash};
  if (o.cap < o.step) return Status::invalid_argument("cap {} is less than step {}", o.cap, o.step);
  std::shared_ptr<const TrigramTable> base;
  if (s.given("corpus")) {
    DECANT_TRY(const std::shared_ptr<const Datastore> corpus,
               Datastore::open(s.text("corpus"), e.vocabulary_hash, static_cast<uint64_t>(e.vocab_size)));
    base = std::make_shared<const TrigramTable>(TrigramTable::from_corpus(*corpus, s.integer("top")));
  }
  TrigramTable learned;
  if (s.given("state")) {
    DECANT_TRY(const std::string data, read_state(s.text("state"), "aded", e.vocabulary_hash));
    DECANT_TRY(const std::vector<uint32_t> words, words_of_bytes(data, s.text("state")));
    DECANT_TRY(learned, TrigramTable::from_words(words, e.vocab_size, s.text("state")));
  }
  return std::shared_ptr<DraftMethod>(new AdedMethod(o, std::move(base), std::move(learned)));
}

}  // namespace

DrafterInfo aded_drafter() {
  using Kind = SettingInfo::Kind;
  return {.name = "aded",
          .summary = "a table of tri-grams that learns from what is decoded, and a tree search over it",
          .paper = "Liu et al. 2024, Adaptive Draft-Verification for Efficient Large Language Model Decoding",
          .needs = {},
          .settings = {{"corpus", Kind::kPath, "", 0, 0, "", "datastore whose tri-grams are the table at first"},
                       {"top", Kind::kInteger, "12", 1, 255, "", "tokens kept of the corpus behind two others"},
                       {"state", Kind::kPath, "", 0, 0, "", "what was learned and saved before"},
                       {"search", Kind::kWord, "mcts", 0, 0, "mcts|best", "Monte Carlo tree search, or best first"},
                       {"score", Kind::kWord, "intended", 0, 0, "intended|compat",
                        "of the search; compat: as the authors' program has it"},
                       {"iterations", Kind::kInteger, "150", 1, 100000, "", "of the search"},
                       {"sentences", Kind::kInteger, "24", 1, 1024, "", "branches that are kept"},
                       {"c1", Kind::kReal, "32", 0, 1e6, "", "weight of the table in the search"},
                       {"c2", Kind::kReal, "8", 1e-3, 1e6, "", "visits after which that weight rises"},
                       {"length", Kind::kInteger, "4", 1, 64, "", "tokens of a branch"},
                       {"nodes", Kind::kInteger, "64", 1, 1024, "", "tokens of a draft"},
                       {"window", Kind::kInteger, "16", 3, 1024, "", "last tokens, whose weights rise each step"},
                       {"step", Kind::kReal, "0.04", 0, 100, "", "by which they rise; 0: nothing is learned"},
                       {"cap", Kind::kReal, "3", 0.001, 1e6, "", "largest weight"},
                       {"prompt", Kind::kWord, "on", 0, 0, "on|off", "learn from all of the prompt, not from its end"},
                       {"share", Kind::kWord, "on", 0, 0, "on|off", "what one request teaches helps the next ones"}},
          .make = make};
}

}  // namespace decant
