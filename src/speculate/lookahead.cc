// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Lookahead decoding. A window of W columns holds N-1 levels of guesses, each level what the model said to the one
// before (Jacobi iteration); a step extends every column by one token, and a column of N tokens is an n-gram for the
// pool. What the pool has behind the last token is the draft.
//
// In the tree the first level is a chain below the root and a column's further levels hang on its first token, so every
// row has the context that the method wants. Nodes of the window are seldom kept: where trees are cut to the nodes that
// pay, they are among the first to go, a column that was cut stands still, and the pool lives on the text alone.
#include <algorithm>
#include <limits>
#include <list>
#include <unordered_map>

#include "base/rng.h"
#include "speculate/methods.h"
#include "speculate/ngram_pool.h"
#include "speculate/state_file.h"

namespace decant {
namespace {

struct LookaheadOptions {
  int window, ngram, guesses;
  bool prompt, share;
  uint64_t vocabulary_hash;
};

constexpr size_t kMost = 1 << 16;  // first tokens in the pool

// The likeliest token of a row; -1 if nothing may come.
TokenId likeliest(const TargetRow& row) {
  if (row.mask.empty()) {
    // Eight maxima side by side, which compilers turn into one vector of them.
    constexpr size_t kLanes = 8;
    float most[kLanes];
    std::fill(std::begin(most), std::end(most), -std::numeric_limits<float>::infinity());
    const size_t whole = row.logits.size() / kLanes * kLanes;
    for (size_t i = 0; i < whole; i += kLanes) {
      for (size_t k = 0; k < kLanes; ++k) most[k] = row.logits[i + k] > most[k] ? row.logits[i + k] : most[k];
    }
    float best = *std::max_element(std::begin(most), std::end(most));
    for (size_t i = whole; i < row.logits.size(); ++i) best = std::max(best, row.logits[i]);
    const auto found = std::find(row.logits.begin(), row.logits.end(), best);
    return found == row.logits.end() ? -1 : static_cast<TokenId>(found - row.logits.begin());
  }
  TokenId best = -1;
  for (size_t i = 0; i < row.logits.size(); ++i) {
    if (i / 64 >= row.mask.size() || (row.mask[i / 64] >> i % 64 & 1) == 0) continue;
    if (best < 0 || row.logits[i] > row.logits[static_cast<size_t>(best)]) best = static_cast<TokenId>(i);
  }
  return best;
}

class Lookahead final : public Drafter {
 public:
  Lookahead(const LookaheadOptions& options, std::shared_ptr<NgramPool> pool)
      : options_(options), pool_(std::move(pool)) {}

  Status propose(const DraftContext& context, TokenTree* tree) override {
    pool_->find(context.tokens.back(), &guesses_);
    for (size_t rank = 0; rank < guesses_.size(); ++rank) {
      int parent = kRoot;
      for (size_t k = 0; k < guesses_[rank].size() && parent != kRefused; ++k) {
        constexpr float kFirst[] = {0.35f, 0.1f, 0.05f, 0.03f};
        const size_t r = std::min<size_t>(rank, 3);
        parent = tree->add(parent, guesses_[rank][k], k == 0 ? kFirst[r] : 0.6f,
                           static_cast<uint16_t>(r * 8 + std::min<size_t>(k, 7)));
      }
    }
    if (columns_.empty()) fill(context);
    add_window(tree);
    return {};
  }

  void observe(const DraftOutcome& outcome) override {
    move_window(outcome);
    const std::span<const TokenId> before = outcome.before(), fresh = outcome.fresh();
    const auto n = static_cast<size_t>(options_.ngram);
    size_t kept = std::min(before.size(), n - 1);
    if (!started_ && options_.prompt) kept = before.size();
    started_ = true;
    recent_.assign(before.end() - static_cast<ptrdiff_t>(kept), before.end());
    recent_.insert(recent_.end(), fresh.begin(), fresh.end());
    for (size_t i = 0; i + n <= recent_.size(); ++i) pool_->insert(std::span(recent_).subspan(i, n));
  }

 private:
  // The first level: tokens of the text by chance.
  void fill(const DraftContext& context) {
    const RngKey key{.seed = context.draw_seed, .purpose = Purpose::kDraft};
    columns_.resize(static_cast<size_t>(options_.window));
    for (size_t j = 0; j < columns_.size(); ++j) {
      columns_[j] = {context.tokens[random_bits(key, static_cast<uint32_t>(j)) % context.tokens.size()]};
    }
  }

  void add_window(TokenTree* tree) const {
    int chain = kRoot;
    for (size_t j = 0; j < columns_.size(); ++j) {
      int parent = chain;
      for (size_t level = 0; level < columns_[j].size() && parent != kRefused; ++level) {
        parent = tree->add(parent, columns_[j][level], level == 0 && j == 0 ? 0.1f : 0.2f,
                           static_cast<uint16_t>(32 + std::min<size_t>(j, 7) * 8 + std::min<size_t>(level, 7)));
        if (level == 0) chain = parent;
      }
      if (chain == kRefused) return;
    }
  }

  // One more token for each column whose rows are there.
  void move_window(const DraftOutcome& outcome) {
    const TokenTree& tree = outcome.tree();
    if (tree.empty()) return;
    const auto levels = static_cast<size_t>(options_.ngram) - 1;
    int chain = kRoot;
    for (std::vector<TokenId>& column : columns_) {
      chain = tree.child(chain, column[0]);
      if (chain == kRefused) break;
      int node = chain;
      for (size_t level = 1; level < column.size() && node != kRefused; ++level) node = tree.child(node, column[level]);
      if (node == kRefused) continue;
      const TokenId next = likeliest(outcome.row(node));
      if (next < 0) continue;
      column.push_back(next);
    }
    // The window moves on with the text: a full column gives its n-gram and its first token goes.
    for (std::vector<TokenId>& column : columns_) {
      if (column.size() <= levels) continue;
      pool_->insert(column);
      column.erase(column.begin());
    }
  }

  LookaheadOptions options_;
  std::shared_ptr<NgramPool> pool_;
  std::vector<std::vector<TokenId>> columns_, guesses_;
  std::vector<TokenId> recent_;
  bool started_ = false;
};

class LookaheadMethod final : public DraftMethod {
 public:
  LookaheadMethod(const LookaheadOptions& options, NgramPool pool)
      : options_(options), pool_(std::make_shared<NgramPool>(std::move(pool))) {}
  Result<std::unique_ptr<Drafter>> start(std::span<const TokenId>) override {
    return std::unique_ptr<Drafter>(
        new Lookahead(options_, options_.share ? pool_ : std::make_shared<NgramPool>(*pool_)));
  }
  int max_nodes() const override { return (options_.guesses + options_.window) * (options_.ngram - 1); }
  int max_depth() const override { return options_.window + options_.ngram - 2; }
  size_t bytes() const override { return pool_->bytes(); }
  Status save(const std::string& path) const override {
    return write_state(path, "lookahead", options_.vocabulary_hash, bytes_of_words(pool_->words()));
  }

 private:
  LookaheadOptions options_;
  std::shared_ptr<NgramPool> pool_;
};

}  // namespace

DrafterInfo lookahead_drafter() {
  using Kind = SettingInfo::Kind;
  return {.name = "lookahead",
          .summary = "lookahead decoding: n-grams that the model itself guesses, by Jacobi iteration",
          .paper = "Fu et al. 2024, Break the Sequential Dependency of LLM Inference Using Lookahead Decoding",
          .needs = {},
          .settings = {{"window", Kind::kInteger, "7", 1, 64, "", "columns of guesses"},
                       {"ngram", Kind::kInteger, "5", 2, 16, "", "tokens of an n-gram"},
                       {"guesses", Kind::kInteger, "7", 1, 64, "", "n-grams tried in a step, and kept of a token"},
                       {"prompt", Kind::kWord, "on", 0, 0, "on|off", "the pool has the prompt's n-grams too"},
                       {"share", Kind::kWord, "off", 0, 0, "on|off", "requests have one pool"},
                       {"state", Kind::kPath, "", 0, 0, "", "a pool that was saved before"}},
          .make = [](const Settings& s, const DraftEnvironment& e) -> Result<std::shared_ptr<DraftMethod>> {
            const LookaheadOptions o{.window = s.integer("window"),
                                     .ngram = s.integer("ngram"),
                                     .guesses = s.integer("guesses"),
                                     .prompt = s.text("prompt") == "on",
                                     .share = s.text("share") == "on",
                                     .vocabulary_hash = e.vocabulary_hash};
            NgramPool pool(o.ngram, o.guesses, kMost);
            if (s.given("state")) {
              DECANT_TRY(const std::string data, read_state(s.text("state"), "lookahead", e.vocabulary_hash));
              DECANT_TRY(const std::vector<uint32_t> words, words_of_bytes(data, s.text("state")));
              DECANT_TRY_STATUS(pool.load(words, e.vocab_size, s.text("state")));
            }
            return std::shared_ptr<DraftMethod>(new LookaheadMethod(o, std::move(pool)));
          }};
}

}  // namespace decant
