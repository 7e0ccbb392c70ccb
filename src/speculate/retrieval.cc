// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "speculate/retrieval.h"

#include <algorithm>

#include "speculate/corpus_guesses.h"

namespace decant {
namespace {

constexpr int kPlaces = 256;  // of the text that are compared
constexpr int kLongestInCorpus = 16;
constexpr uint16_t kCorpus = 32;  // evidence of the datastore's part, further on

// 4 classes of match length x 2 of share x 4 of depth.
uint16_t own_evidence(const CorpusEvidence& e) {
  const int length = e.length <= 2 ? 0 : e.length <= 3 ? 1 : e.length <= 5 ? 2 : 3;
  const int depth = e.depth == 1 ? 0 : e.depth <= 3 ? 1 : e.depth <= 6 ? 2 : 3;
  return static_cast<uint16_t>(Retrieval::kEvidence + (length * 2 + (e.share > 0.6f ? 1 : 0)) * 4 + depth);
}
uint16_t corpus_evidence(const CorpusEvidence& e) { return static_cast<uint16_t>(own_evidence(e) + kCorpus); }

}  // namespace

void Retrieval::append(std::span<const TokenId> tokens) {
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

void Retrieval::catch_up(std::span<const TokenId> text) {
  if (text_.size() < text.size()) append(text.subspan(text_.size()));
}

void Retrieval::find(TokenTree* tree) {
  const int length = match();
  if (length > 0) add_own(length, tree);
  if (!corpus_) return;
  const Datastore::Range found = corpus_->find(text_, options_.shortest, kLongestInCorpus);
  if (found.length >= length) add_corpus_guesses(*corpus_, found, options_.samples, corpus_evidence, nullptr, tree);
}

// Ends of the latest occurrences of the longest suffix: chains of places with the same two tokens lead to them.
int Retrieval::match() {
  ends_.clear();
  int best = std::max(options_.shortest, 2);
  int left = kPlaces;
  for (int32_t end = text_.size() < 2 ? -1 : previous_.back(); end >= 0 && left > 0; --left) {
    const int length = common(end);
    if (length > best) {
      best = length;
      ends_.clear();
    }
    if (length == best && static_cast<int>(ends_.size()) < options_.occurrences) ends_.push_back(end);
    end = previous_[static_cast<size_t>(end)];
  }
  return ends_.empty() ? 0 : best;
}

int Retrieval::common(int32_t end) const {
  int n = 0;
  while (n < options_.longest && n <= end &&
         text_[static_cast<size_t>(end - n)] == text_[text_.size() - 1 - static_cast<size_t>(n)])
    ++n;
  return n;
}

// A trie of what follows the occurrences, weighted by their number.
void Retrieval::add_own(int length, TokenTree* tree) {
  struct Branch {
    int node;
    size_t first, last;
  };
  const auto token = [&](int32_t end, int depth) {
    const size_t at = static_cast<size_t>(end) + static_cast<size_t>(depth);
    return at < text_.size() ? text_[at] : TokenId{-1};
  };
  std::vector<Branch> branches = {{kRoot, 0, ends_.size()}};
  for (size_t i = 0; i < branches.size() && tree->room() > 0; ++i) {
    const Branch branch = branches[i];
    const int depth = tree->depth(branch.node) + 1;
    if (depth > tree->max_depth()) continue;
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
        const int node = tree->add(
            branch.node, next, count / (all + 1),
            own_evidence({.length = length, .depth = depth, .count = static_cast<int>(all), .share = count / all}));
        if (node != kRefused) branches.push_back({node, begin, end});
      }
      begin = end;
    }
  }
}

}  // namespace decant
