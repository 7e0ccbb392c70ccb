// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Suffix automaton: the longest end of the text that occurred before says what comes next, shorter ones and older
// occurrences give alternatives, and last come the tokens that are frequent. Guesses form a tree that grows where it is
// likeliest; behind a guess the match is one token longer. The text is that of the request, of earlier ones and, if
// wanted, of a corpus.
#include <algorithm>
#include <unordered_map>

#include "engine/acceptance.h"
#include "speculate/corpus_guesses.h"
#include "speculate/methods.h"
#include "speculate/suffix_automaton.h"

namespace decant {
namespace {

struct SamOptions {
  int shortest, branches, nodes, length, bias;
  int history;  // tokens of earlier requests; 0: none
};

constexpr float kLeastReach = 0.002f;
constexpr int kMostBranches = 32;
constexpr int kLongestCorpusMatch = 32;
constexpr int kCorpusSamples = 64;

// Evidence: 10 classes of match length x 6 kinds x 2 depths, then matches in the corpus and frequent tokens by rank.
constexpr int kKinds = 6;
constexpr int kOther = 4;    // what once followed the longest match, but not the last time
constexpr int kShorter = 5;  // what followed a shorter match
constexpr uint16_t kCorpusEvidence = 120;
constexpr uint16_t kFrequentEvidence = 124;
constexpr float kFrequentPrior = 0.03f;

int length_class(int length) {
  constexpr int kFrom[] = {1, 2, 3, 4, 5, 6, 8, 12, 20, 40};
  return static_cast<int>(std::upper_bound(std::begin(kFrom), std::end(kFrom), length) - std::begin(kFrom)) - 1;
}
int run_class(int run) { return run <= 2 ? run - 1 : run <= 4 ? 2 : 3; }

// Before anything is measured.
float prior(int length_class, int kind) {
  constexpr float kLatest[] = {0.2f, 0.35f, 0.5f, 0.6f, 0.65f, 0.7f, 0.8f, 0.85f, 0.9f, 0.95f};
  if (kind == kOther) return 0.12f;
  if (kind == kShorter) return 0.05f;
  return std::min(kLatest[length_class] * (1 + 0.1f * static_cast<float>(kind)), 0.97f);
}

uint16_t corpus_evidence(const CorpusEvidence& e) {
  return static_cast<uint16_t>(kCorpusEvidence + (e.length < 8 ? 0 : 2) + (e.share > 0.5f ? 1 : 0));
}

// The most frequent tokens of a text.
class Frequent {
 public:
  static constexpr size_t kTokens = 8;
  void add(TokenId token) {
    const int count = ++counts_[token];
    auto place = std::find(top_.begin(), top_.end(), token);
    if (place == top_.end()) {
      if (top_.size() < kTokens) {
        place = top_.insert(place, token);
      } else if (count > counts_[top_.back()]) {
        place = top_.end() - 1;
        *place = token;
      } else {
        return;
      }
    }
    for (; place != top_.begin() && counts_[*(place - 1)] < count; --place) std::swap(*place, *(place - 1));
  }
  std::span<const TokenId> tokens() const { return top_; }  // most frequent first
  size_t bytes() const { return counts_.size() * 32; }

 private:
  std::unordered_map<TokenId, int> counts_;
  std::vector<TokenId> top_;
};

// What the requests of a method share.
struct SamShared {
  AcceptanceModel acceptance;
  SuffixAutomaton history;
  Frequent frequent;     // tokens of the history, and of what was in it
  uint64_t version = 0;  // of the history
};

class Sam final : public Drafter {
 public:
  Sam(const SamOptions& options, std::shared_ptr<const Datastore> corpus, std::shared_ptr<SamShared> shared,
      std::span<const TokenId> prompt)
      : options_(options), corpus_(std::move(corpus)), shared_(std::move(shared)) {
    append(prompt);
  }
  ~Sam() override {
    if (options_.history == 0) return;
    for (const TokenId t : own_.text()) shared_->frequent.add(t);
    make_room();
    const std::span<const TokenId> text = own_.text();
    shared_->history.append(text.last(std::min(text.size(), static_cast<size_t>(options_.history))));
    shared_->history.separate();
    ++shared_->version;
  }

  Status propose(const DraftContext& context, TokenTree* tree) override {
    catch_up(context.tokens);
    const SuffixAutomaton::Match own = own_.suffix();
    if (corpus_) {
      const Datastore::Range match = corpus_->find(context.tokens, std::max(options_.shortest, 2), kLongestCorpusMatch);
      if (match.length > std::max(own.length, earlier_.length) + options_.bias) {
        add_corpus_guesses(*corpus_, match, kCorpusSamples, corpus_evidence, nullptr, tree);
      }
    }
    open_.clear();
    proposed_.clear();
    order_ = 0;
    expand(-1, {.node = kRoot, .own = own, .earlier = earlier_}, *tree);
    while (!open_.empty() && tree->room() > 0) {
      std::pop_heap(open_.begin(), open_.end());
      const Guess best = open_.back();
      open_.pop_back();
      const Place parent = best.parent < 0 ? Place{.node = kRoot, .own = own, .earlier = earlier_}
                                           : proposed_[static_cast<size_t>(best.parent)].place;
      const int node = tree->add(parent.node, best.token, best.probability, best.evidence);
      if (node == kRefused) continue;
      const Place place{.node = node,
                        .reach = best.reach,
                        .own = own_.advance(parent.own, best.token),
                        .earlier = options_.history > 0 ? shared_->history.advance(parent.earlier, best.token)
                                                        : SuffixAutomaton::Match()};
      proposed_.push_back({.guess = best, .place = place});
      expand(static_cast<int>(proposed_.size()) - 1, place, *tree);
    }
    return {};
  }

  void observe(const DraftOutcome& outcome) override {
    learn(outcome.fresh());
    catch_up(outcome.before());
    append(outcome.fresh());
    follow_history(outcome.fresh());
  }

 private:
  struct Guess {
    float reach, probability;
    uint32_t order;  // of making: equals come in this order
    int parent;      // of proposed_, or -1
    TokenId token;
    uint16_t evidence;
    bool operator<(const Guess& o) const { return reach != o.reach ? reach < o.reach : order > o.order; }
  };
  // Behind a node of the tree.
  struct Place {
    int node;
    float reach = 1;
    SuffixAutomaton::Match own, earlier;
  };
  struct Proposed {
    Guess guess;
    Place place;
  };

  void append(std::span<const TokenId> tokens) {
    own_.append(tokens);
    for (const TokenId t : tokens) frequent_.add(t);
  }
  // A history that is full keeps its newer half.
  void make_room() {
    SuffixAutomaton& history = shared_->history;
    if (history.size() + own_.size() <= options_.history) return;
    const std::span<const TokenId> text = history.text();
    SuffixAutomaton newer;
    for (const TokenId t : text.last(std::min(text.size(), static_cast<size_t>(options_.history) / 2))) {
      if (t < 0) {
        newer.separate();
      } else {
        newer.append(t);
      }
    }
    if (newer.size() + own_.size() > options_.history) newer = SuffixAutomaton();
    history = std::move(newer);
  }
  void catch_up(std::span<const TokenId> text) {
    if (static_cast<size_t>(own_.size()) < text.size()) {
      const std::span<const TokenId> missing = text.subspan(static_cast<size_t>(own_.size()));
      append(missing);
      follow_history(missing);
    }
    if (options_.history > 0 && version_ != shared_->version) {
      // States have changed: the end of the text is looked up anew.
      constexpr size_t kEnd = 64;
      earlier_ = {};
      version_ = shared_->version;
      follow_history(own_.text().last(std::min(kEnd, own_.text().size())));
    }
  }
  void follow_history(std::span<const TokenId> tokens) {
    if (options_.history == 0 || version_ != shared_->version) return;
    for (const TokenId t : tokens) earlier_ = shared_->history.advance(earlier_, t);
  }

  // Guesses behind a node, longest match first; own text before earlier text of the same length.
  void expand(int parent, const Place& place, const TokenTree& tree) {
    const int depth = tree.depth(place.node);
    if (depth >= tree.max_depth()) return;
    SuffixAutomaton::Match own = place.own, earlier = place.earlier;
    TokenId seen[kMostBranches];
    int n = 0;
    bool first = true;
    const auto guess = [&](TokenId token, float prior, uint16_t evidence) {
      if (n >= options_.branches || std::find(seen, seen + n, token) != seen + n) return;
      seen[n++] = token;
      const float p = shared_->acceptance.estimate(evidence, prior);
      if (place.reach * p < kLeastReach) return;
      open_.push_back({.reach = place.reach * p,
                       .probability = p,
                       .order = order_++,
                       .parent = parent,
                       .token = token,
                       .evidence = evidence});
      std::push_heap(open_.begin(), open_.end());
    };
    const int shortest = std::max(options_.shortest, 1);
    while (n < options_.branches && std::max(own.length, earlier.length) >= shortest) {
      const bool is_own = own.length >= earlier.length;
      SuffixAutomaton::Match& match = is_own ? own : earlier;
      const SuffixAutomaton& automaton = is_own ? own_ : shared_->history;
      const SuffixAutomaton::Follow follow = automaton.follow(match.state);
      const int lengths = length_class(match.length);
      for (int k = 0; k < follow.count; ++k) {
        const int kind = !first ? kShorter : k > 0 ? kOther : run_class(follow.run);
        guess(follow.tokens[static_cast<size_t>(k)], prior(lengths, kind),
              static_cast<uint16_t>((lengths * kKinds + kind) * 2 + (depth == 0 ? 0 : 1)));
      }
      first &= follow.count == 0;
      match = automaton.shorter(match);
    }
    if (options_.shortest > 0) return;
    for (const std::span<const TokenId> tokens : {frequent_.tokens(), shared_->frequent.tokens()}) {
      for (size_t k = 0; k < tokens.size(); ++k) {
        const size_t rank = k < 2 ? k : k < 4 ? 2 : 3;
        guess(tokens[k], kFrequentPrior, static_cast<uint16_t>(kFrequentEvidence + rank));
      }
    }
  }

  // From all guesses whose parent came, verified or not.
  void learn(std::span<const TokenId> tokens) {
    int parent = -1;
    for (const TokenId token : tokens) {
      int next = -2;
      for (size_t i = 0; i < proposed_.size(); ++i) {
        const Guess& p = proposed_[i].guess;
        if (p.parent != parent) continue;
        shared_->acceptance.learn(p.evidence, p.probability, p.token == token);
        if (p.token == token) next = static_cast<int>(i);
      }
      if (next == -2) break;
      parent = next;
    }
    proposed_.clear();
  }

  SamOptions options_;
  std::shared_ptr<const Datastore> corpus_;
  std::shared_ptr<SamShared> shared_;
  SuffixAutomaton own_;
  Frequent frequent_;
  SuffixAutomaton::Match earlier_;  // of the text, in the history of this version
  uint64_t version_ = 0;
  std::vector<Guess> open_;  // a heap
  uint32_t order_ = 0;
  std::vector<Proposed> proposed_;
};

class SamMethod final : public DraftMethod {
 public:
  SamMethod(const SamOptions& options, std::shared_ptr<const Datastore> corpus)
      : options_(options), corpus_(std::move(corpus)), shared_(std::make_shared<SamShared>()) {}
  Result<std::unique_ptr<Drafter>> start(std::span<const TokenId> prompt) override {
    return std::unique_ptr<Drafter>(new Sam(options_, corpus_, shared_, prompt));
  }
  int max_nodes() const override { return options_.nodes; }
  int max_depth() const override { return options_.length; }
  size_t bytes() const override {
    return shared_->history.bytes() + shared_->frequent.bytes() + (corpus_ ? corpus_->info().bytes : 0);
  }

 private:
  SamOptions options_;
  std::shared_ptr<const Datastore> corpus_;
  std::shared_ptr<SamShared> shared_;
};

}  // namespace

DrafterInfo sam_drafter() {
  using Kind = SettingInfo::Kind;
  return {
      .name = "sam",
      .summary = "suffix automaton: what followed the longest end of the text that occurred before",
      .paper = "Hu et al. 2024, SAM Decoding: Speculative Decoding via Suffix Automaton",
      .needs = {},
      .settings = {{"min", Kind::kInteger, "0", 0, 64, "",
                    "shortest match, tokens; 0: frequent tokens are guesses too"},
                   {"branches", Kind::kInteger, "12", 1, kMostBranches, "", "alternatives behind a token"},
                   {"nodes", Kind::kInteger, "32", 1, 1024, "", "tokens of a draft"},
                   {"length", Kind::kInteger, "24", 1, 256, "", "tokens of a branch"},
                   {"history", Kind::kInteger, "65536", 0, 4194304, "",
                    "tokens of earlier requests of the process that are looked at too; 0: none"},
                   {"corpus", Kind::kPath, "", 0, 0, "", "datastore that is looked at too"},
                   {"bias", Kind::kInteger, "5", 0, 64, "", "tokens by which a match in the corpus is to be longer"}},
      .make = [](const Settings& s, const DraftEnvironment& e) -> Result<std::shared_ptr<DraftMethod>> {
        std::shared_ptr<const Datastore> corpus;
        if (s.given("corpus")) {
          DECANT_TRY(corpus, Datastore::open(s.text("corpus"), e.vocabulary_hash, static_cast<uint64_t>(e.vocab_size)));
        }
        return std::shared_ptr<DraftMethod>(new SamMethod({.shortest = s.integer("min"),
                                                           .branches = s.integer("branches"),
                                                           .nodes = s.integer("nodes"),
                                                           .length = s.integer("length"),
                                                           .bias = s.integer("bias"),
                                                           .history = s.integer("history")},
                                                          std::move(corpus)));
      }};
}

}  // namespace decant
