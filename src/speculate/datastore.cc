// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Retrieval from a corpus: the longest end of the text that occurs in a datastore, and what followed it there.
#include <algorithm>
#include <bit>

#include "speculate/corpus_guesses.h"
#include "speculate/datastore_file.h"
#include "speculate/fusion.h"
#include "speculate/methods.h"

namespace decant {
namespace {

constexpr int kMatches = 3;  // of different lengths, in one draft

// Length of the match x share of the occurrences x depth.
uint16_t evidence_of(const CorpusEvidence& e) {
  const int length = e.length <= 4 ? e.length - 1 : e.length <= 6 ? 4 : e.length <= 9 ? 5 : e.length <= 13 ? 6 : 7;
  const int share = e.share < 0.2f ? 0 : e.share < 0.5f ? 1 : e.share < 1 || e.count < 3 ? 2 : 3;
  const int depth = std::min(static_cast<int>(std::bit_width(static_cast<unsigned>(e.depth))) - 1, 3);
  return static_cast<uint16_t>((length * 4 + share) * 4 + depth);
}

class Retrieval final : public Drafter {
 public:
  Retrieval(std::shared_ptr<const Datastore> store, std::shared_ptr<AcceptanceModel> measured, int shortest,
            int longest, int samples)
      : store_(std::move(store)),
        measured_(std::move(measured)),
        shortest_(shortest),
        longest_(longest),
        samples_(samples) {}
  Status propose(const DraftContext& context, TokenTree* tree) override {
    // What a longest match leaves room for, shorter ones fill.
    proposed_.reset(tree->room(), tree->max_depth());
    int longest = longest_;
    for (int i = 0; i < kMatches && longest >= shortest_ && proposed_.room() > 0; ++i) {
      const Datastore::Range match = store_->find(context.tokens, shortest_, longest);
      if (match.length == 0) break;
      add_corpus_guesses(*store_, match, samples_, evidence_of, measured_.get(), &proposed_);
      longest = match.length - 1;
    }
    graft(proposed_, tree);
    return {};
  }
  void observe(const DraftOutcome& outcome) override {
    measured_->learn(proposed_, outcome.fresh());
    proposed_.reset(0, 0);
  }

 private:
  std::shared_ptr<const Datastore> store_;
  std::shared_ptr<AcceptanceModel> measured_;
  int shortest_, longest_, samples_;
  TokenTree proposed_;
};

class RetrievalMethod final : public DraftMethod {
 public:
  RetrievalMethod(std::shared_ptr<const Datastore> store, const Settings& s)
      : store_(std::move(store)),
        shortest_(s.integer("min")),
        longest_(s.integer("max")),
        samples_(s.integer("samples")),
        nodes_(s.integer("nodes")),
        length_(s.integer("length")) {}
  Result<std::unique_ptr<Drafter>> start(std::span<const TokenId>) override {
    return std::unique_ptr<Drafter>(new Retrieval(store_, measured_, shortest_, longest_, samples_));
  }
  int max_nodes() const override { return nodes_; }
  int max_depth() const override { return length_; }
  size_t bytes() const override { return store_->info().bytes; }

 private:
  std::shared_ptr<const Datastore> store_;
  std::shared_ptr<AcceptanceModel> measured_ = std::make_shared<AcceptanceModel>();
  int shortest_, longest_, samples_, nodes_, length_;
};

}  // namespace

DrafterInfo datastore_drafter() {
  using Kind = SettingInfo::Kind;
  return {.name = "datastore",
          .summary = "retrieval: what followed the text's end in a corpus",
          .paper = "He et al. 2023, REST: Retrieval-Based Speculative Decoding",
          .needs = {"a datastore"},
          .settings = {{"file", Kind::kPath, "", 0, 0, "", "datastore, of `decant datastore build`"},
                       {"max", Kind::kInteger, "16", 1, 64, "", "longest match, tokens"},
                       {"min", Kind::kInteger, "1", 1, 64, "", "shortest match"},
                       {"samples", Kind::kInteger, "256", 1, 8192, "", "occurrences that are looked at"},
                       {"nodes", Kind::kInteger, "64", 1, 1024, "", "tokens of a draft"},
                       {"length", Kind::kInteger, "10", 1, 256, "", "tokens of a branch"}},
          .make = [](const Settings& s, const DraftEnvironment& e) -> Result<std::shared_ptr<DraftMethod>> {
            if (s.integer("min") > s.integer("max")) {
              return Status::invalid_argument("min {} is more than max {}", s.integer("min"), s.integer("max"));
            }
            if (s.text("file").empty()) {
              return Status::invalid_argument("file: expected a datastore; `decant datastore build` makes one");
            }
            DECANT_TRY(std::shared_ptr<const Datastore> store,
                       Datastore::open(s.text("file"), e.vocabulary_hash, static_cast<uint64_t>(e.vocab_size)));
            return std::shared_ptr<DraftMethod>(new RetrievalMethod(std::move(store), s));
          }};
}

}  // namespace decant
