// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// RASD: a tree of retrieved continuations (of the request's own text and of a datastore) is pruned by a drafter's
// distribution and joined with that drafter's tree. The drafter here is a table of tri-grams that learns.
#include <algorithm>
#include <unordered_map>

#include "engine/acceptance.h"
#include "speculate/corpus_guesses.h"
#include "speculate/draft_maker.h"
#include "speculate/fusion.h"
#include "speculate/methods.h"

namespace decant {
namespace {

struct RasdOptions {
  int longest, shortest, occurrences, length, nodes, keep, samples, depth;
};

constexpr float kStep = 0.04f, kCap = 3;
constexpr int kWindow = 14;          // times that a tri-gram is raised in ADED's window
constexpr int kScratchNodes = 256;   // of a tree before it is pruned
constexpr float kKnown = 0.3f;       // weight of a row from which on it may rule tokens out
constexpr uint16_t kRetrieved = 64;  // evidence of what was retrieved: from here on
constexpr uint16_t kCorpus = 32;     // and of the datastore's part, further on

uint16_t trigram_evidence(const TrigramEvidence& e) {
  const int share = e.share < 0.2f ? 0 : e.share < 0.5f ? 1 : e.share < 0.9f ? 2 : 3;
  const int total = e.total < 0.3f ? 0 : e.total < 0.7f ? 1 : e.total < 1.5f ? 2 : 3;
  return static_cast<uint16_t>((share * 4 + total) * 4 + std::min(e.depth, 4) - 1);
}

// 4 classes of match length x 2 of share x 4 of depth.
uint16_t retrieval_evidence(const CorpusEvidence& e) {
  const int length = e.length <= 2 ? 0 : e.length <= 3 ? 1 : e.length <= 5 ? 2 : 3;
  const int depth = e.depth == 1 ? 0 : e.depth <= 3 ? 1 : e.depth <= 6 ? 2 : 3;
  return static_cast<uint16_t>(kRetrieved + (length * 2 + (e.share > 0.6f ? 1 : 0)) * 4 + depth);
}
uint16_t corpus_evidence(const CorpusEvidence& e) { return static_cast<uint16_t>(retrieval_evidence(e) + kCorpus); }

// Latest occurrences of what the text ends with, by chains of places with the same two tokens.
class OwnText {
 public:
  std::span<const TokenId> text() const { return text_; }
  void append(std::span<const TokenId> tokens) {
    for (const TokenId t : tokens) {
      text_.push_back(t);
      previous_.push_back(-1);
      if (text_.size() < 2) continue;
      // A place is known once a token follows it.
      const auto end = static_cast<int32_t>(text_.size()) - 1;
      if (end >= 2) last_[key(end - 1)] = end - 1;
      const auto found = last_.find(key(end));
      previous_.back() = found == last_.end() ? -1 : found->second;
    }
  }
  // Ends of the latest `most` occurrences of the longest suffix of at most `longest` tokens.
  int find(int shortest, int longest, int most, std::vector<int32_t>* ends) const {
    ends->clear();
    int best = std::max(shortest, 2);
    int left = kPlaces;
    for (int32_t end = text_.size() < 2 ? -1 : previous_.back(); end >= 0 && left > 0; --left) {
      const int length = common(end, longest);
      if (length > best) {
        best = length;
        ends->clear();
      }
      if (length == best && static_cast<int>(ends->size()) < most) ends->push_back(end);
      end = previous_[static_cast<size_t>(end)];
    }
    return ends->empty() ? 0 : best;
  }

 private:
  static constexpr int kPlaces = 256;  // that are compared
  uint64_t key(int32_t end) const {
    return static_cast<uint64_t>(static_cast<uint32_t>(text_[static_cast<size_t>(end) - 1])) << 32 |
           static_cast<uint32_t>(text_[static_cast<size_t>(end)]);
  }
  int common(int32_t end, int longest) const {
    int n = 0;
    while (n < longest && n <= end &&
           text_[static_cast<size_t>(end - n)] == text_[text_.size() - 1 - static_cast<size_t>(n)])
      ++n;
    return n;
  }
  std::vector<TokenId> text_;
  std::vector<int32_t> previous_;  // end of the previous place with the two tokens that end here
  std::unordered_map<uint64_t, int32_t> last_;
};

// What the requests of a method share.
struct RasdShared {
  AcceptanceModel acceptance;
  AdaptiveTrigrams table{nullptr};
};

class Rasd final : public Drafter {
 public:
  Rasd(const RasdOptions& options, std::shared_ptr<const Datastore> corpus, std::shared_ptr<RasdShared> shared,
       std::span<const TokenId> prompt)
      : options_(options), corpus_(std::move(corpus)), shared_(std::move(shared)), maker_({.length = options.depth}) {
    own_.append(prompt);
  }

  Status propose(const DraftContext& context, TokenTree* tree) override {
    catch_up(context.tokens);
    proposed_.reset(0, 0);
    if (context.tokens.size() < 2) return {};
    const TokenId a = context.tokens[context.tokens.size() - 2], b = context.tokens.back();
    const int depth = tree->max_depth();
    drafted_.reset(std::min(options_.nodes, tree->room()), depth);
    maker_.best(shared_->table, a, b, trigram_evidence, &shared_->acceptance, &drafted_);
    retrieved_.reset(kScratchNodes, std::min(depth, options_.length));
    retrieve(context.tokens);
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
    catch_up(before);
    const float step = kStep * kWindow;
    if (!started_) shared_->table.raise_all(before, step, kCap);
    started_ = true;
    own_.append(fresh);
    const std::span<const TokenId> text = own_.text();
    shared_->table.raise_all(text.last(std::min(text.size(), fresh.size() + 2)), step, kCap);
  }

 private:
  void catch_up(std::span<const TokenId> text) {
    if (own_.text().size() < text.size()) own_.append(text.subspan(own_.text().size()));
  }

  void retrieve(std::span<const TokenId> text) {
    const int length = own_.find(options_.shortest, options_.longest, options_.occurrences, &ends_);
    if (length > 0) add_own(length);
    if (!corpus_) return;
    const Datastore::Range match = corpus_->find(text, options_.shortest, 16);
    if (match.length >= length)
      add_corpus_guesses(*corpus_, match, options_.samples, corpus_evidence, nullptr, &retrieved_);
  }

  // A trie of what follows the occurrences, weighted by their number.
  void add_own(int length) {
    struct Branch {
      int node;
      size_t first, last;
    };
    const std::span<const TokenId> text = own_.text();
    const auto token = [&](int32_t end, int depth) {
      const size_t at = static_cast<size_t>(end) + static_cast<size_t>(depth);
      return at < text.size() ? text[at] : TokenId{-1};
    };
    std::vector<Branch> branches = {{kRoot, 0, ends_.size()}};
    for (size_t i = 0; i < branches.size() && retrieved_.room() > 0; ++i) {
      const Branch branch = branches[i];
      const int depth = retrieved_.depth(branch.node) + 1;
      if (depth > retrieved_.max_depth()) continue;
      size_t begin = branch.first;
      while (begin < branch.last) {
        // Those that go on like the first of the rest, which is the latest, come together.
        const TokenId next = token(ends_[begin], depth);
        const auto middle = std::stable_partition(ends_.begin() + static_cast<ptrdiff_t>(begin),
                                                  ends_.begin() + static_cast<ptrdiff_t>(branch.last),
                                                  [&](int32_t end) { return token(end, depth) == next; });
        const auto end = static_cast<size_t>(middle - ends_.begin());
        if (next >= 0) {
          const auto count = static_cast<float>(end - begin), all = static_cast<float>(branch.last - branch.first);
          const int node = retrieved_.add(
              branch.node, next, count / (all + 1),
              retrieval_evidence(
                  {.length = length, .depth = depth, .count = static_cast<int>(all), .share = count / all}));
          if (node != kRefused) branches.push_back({node, begin, end});
        }
        begin = end;
      }
    }
  }

  // Estimates by what came of such guesses: makes those of both trees comparable.
  void measure(TokenTree* tree) {
    probabilities_.clear();
    for (const TokenNode& n : tree->nodes()) {
      probabilities_.push_back(shared_->acceptance.estimate(n.evidence, n.probability));
    }
    tree->estimate(probabilities_);
  }

  RasdOptions options_;
  std::shared_ptr<const Datastore> corpus_;
  std::shared_ptr<RasdShared> shared_;
  DraftMaker maker_;
  OwnText own_;
  std::vector<int32_t> ends_;
  TokenTree drafted_, retrieved_, pruned_, proposed_;
  std::vector<float> probabilities_;
  bool started_ = false;
};

class RasdMethod final : public DraftMethod {
 public:
  RasdMethod(const RasdOptions& options, std::shared_ptr<const Datastore> corpus)
      : options_(options), corpus_(std::move(corpus)), shared_(std::make_shared<RasdShared>()) {
    if (corpus_) {
      constexpr int kTop = 12;
      base_ = std::make_shared<const TrigramTable>(TrigramTable::from_corpus(*corpus_, kTop));
      shared_->table = AdaptiveTrigrams(base_);
    }
  }
  Result<std::unique_ptr<Drafter>> start(std::span<const TokenId> prompt) override {
    return std::unique_ptr<Drafter>(new Rasd(options_, corpus_, shared_, prompt));
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

}  // namespace

DrafterInfo rasd_drafter() {
  using Kind = SettingInfo::Kind;
  return {.name = "rasd",
          .summary = "retrieved continuations, pruned by and joined with a tree of learned tri-grams",
          .paper = "Quan et al. 2025, RASD: Retrieval-Augmented Speculative Decoding",
          .needs = {},
          .settings = {{"corpus", Kind::kPath, "", 0, 0, "", "datastore that is searched too"},
                       {"max", Kind::kInteger, "8", 2, 64, "", "longest match in the request's own text"},
                       {"min", Kind::kInteger, "2", 2, 64, "", "shortest match"},
                       {"occurrences", Kind::kInteger, "8", 1, 256, "", "of the longest match, latest first"},
                       {"samples", Kind::kInteger, "128", 1, 8192, "", "occurrences in the corpus that are looked at"},
                       {"length", Kind::kInteger, "10", 1, 256, "", "tokens of a retrieved branch"},
                       {"depth", Kind::kInteger, "5", 1, 64, "", "tokens of a branch of the tri-grams"},
                       {"keep", Kind::kInteger, "10", 0, 255, "",
                        "first tokens by the tri-grams; retrieved branches that begin with another one go"},
                       {"nodes", Kind::kInteger, "48", 1, 1024, "", "tokens of a draft"}},
          .make = [](const Settings& s, const DraftEnvironment& e) -> Result<std::shared_ptr<DraftMethod>> {
            if (s.integer("min") > s.integer("max")) {
              return Status::invalid_argument("min {} is more than max {}", s.integer("min"), s.integer("max"));
            }
            std::shared_ptr<const Datastore> corpus;
            if (s.given("corpus")) {
              DECANT_TRY(corpus,
                         Datastore::open(s.text("corpus"), e.vocabulary_hash, static_cast<uint64_t>(e.vocab_size)));
            }
            return std::shared_ptr<DraftMethod>(new RasdMethod({.longest = s.integer("max"),
                                                                .shortest = s.integer("min"),
                                                                .occurrences = s.integer("occurrences"),
                                                                .length = s.integer("length"),
                                                                .nodes = s.integer("nodes"),
                                                                .keep = s.integer("keep"),
                                                                .samples = s.integer("samples"),
                                                                .depth = s.integer("depth")},
                                                               std::move(corpus)));
          }};
}

}  // namespace decant
