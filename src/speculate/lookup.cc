// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Prompt lookup decoding: the text's last n tokens are looked for further up, and what followed them there is the
// draft. The longest n-gram wins, then the latest place.
#include <algorithm>

#include "speculate/methods.h"

namespace decant {
namespace {

class Lookup final : public Drafter {
 public:
  Lookup(int min_ngram, int max_ngram, int length) : min_(min_ngram), max_(max_ngram), length_(length) {}

  Status propose(const DraftContext& context, TokenTree* tree) override {
    const std::span<const TokenId> text = context.tokens;
    for (int n = std::min(max_, static_cast<int>(text.size()) - 1); n >= min_; --n) {
      const auto end = text.end() - n;
      // The latest place that is not the end itself.
      const auto place = std::find_end(text.begin(), text.end() - 1, end, text.end());
      if (place == text.end() - 1) continue;
      int parent = kRoot;
      for (auto token = place + n; token != text.end() && tree->depth(parent) < length_; ++token) {
        // Longer matches are right more often, and so are the first tokens of a draft.
        parent = tree->add(parent, *token,
                           n >= 3   ? 0.6f
                           : n == 2 ? 0.4f
                                    : 0.25f,
                           static_cast<uint16_t>(std::min(n, 7) * 4 + std::min(tree->depth(parent), 3)));
        if (parent == kRefused) break;
      }
      return {};
    }
    return {};
  }

 private:
  int min_, max_, length_;
};

class LookupMethod final : public DraftMethod {
 public:
  explicit LookupMethod(const Settings& s)
      : min_(s.integer("min")), max_(s.integer("max")), length_(s.integer("length")) {}
  Result<std::unique_ptr<Drafter>> start(std::span<const TokenId>) override {
    return std::unique_ptr<Drafter>(new Lookup(min_, max_, length_));
  }
  int max_nodes() const override { return length_; }
  int max_depth() const override { return length_; }

 private:
  int min_, max_, length_;
};

}  // namespace

DrafterInfo lookup_drafter() {
  using Kind = SettingInfo::Kind;
  return {.name = "lookup",
          .summary = "prompt lookup: what followed the same n-gram before",
          .paper = "Saxena 2023, Prompt lookup decoding",
          .needs = {},
          .settings = {{"max", Kind::kInteger, "3", 1, 64, "", "longest n-gram, tried first"},
                       {"min", Kind::kInteger, "1", 1, 64, "", "shortest n-gram"},
                       {"length", Kind::kInteger, "10", 1, 256, "", "tokens of a draft"}},
          .make = [](const Settings& s, const DraftEnvironment&) -> Result<std::shared_ptr<DraftMethod>> {
            if (s.integer("min") > s.integer("max")) {
              return Status::invalid_argument("min {} is more than max {}", s.integer("min"), s.integer("max"));
            }
            return std::shared_ptr<DraftMethod>(new LookupMethod(s));
          }};
}

}  // namespace decant
