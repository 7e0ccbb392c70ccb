// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Typical acceptance: a drafted token is good enough where the target gives it more than min(epsilon, delta exp(-H)), H
// the entropy of the target there. Of the paths of such tokens the longest is kept, of equally long ones the likeliest.
// The token behind it, and the one where no draft is good enough, comes from the target. Not the target's distribution;
// greedy decoding stays what it is, because its distributions have one token.
#include <algorithm>
#include <cmath>

#include "speculate/methods.h"
#include "speculate/node_rule.h"

namespace decant {
namespace {

class Typical final : public Verifier {
 public:
  Typical(double epsilon, double delta) : epsilon_(epsilon), delta_(delta) {}
  std::string_view name() const override { return "typical"; }
  bool takes(Proposal) const override { return true; }
  Result<TokenId> choose(const TokenTree& tree, int node, TargetDistributions& target,
                         const RngKey& key) const override {
    // Below an accepted node the accepted ones are looked for; the best way starts with its first node.
    struct Way {
      int end, first, length;
      double logprob;
    };
    std::vector<Way> ways = {{.end = node, .first = node, .length = 0, .logprob = 0}};
    Way best = ways.front();
    for (size_t i = 0; i < ways.size(); ++i) {
      const Way way = ways[i];
      if (tree.first_child(way.end) == kRefused) continue;
      DECANT_TRY(const std::span<const TokenLogprob> row, target.at(way.end));
      const double threshold = threshold_of(row);
      for (int child = tree.first_child(way.end); child != kRefused; child = tree.node(child).next_sibling) {
        const auto found = std::lower_bound(row.begin(), row.end(), tree.node(child).token,
                                            [](const TokenLogprob& t, TokenId id) { return t.token < id; });
        if (found == row.end() || found->token != tree.node(child).token) continue;
        if (!(std::exp(static_cast<double>(found->logprob)) > threshold)) continue;
        ways.push_back({.end = child,
                        .first = way.length == 0 ? child : way.first,
                        .length = way.length + 1,
                        .logprob = way.logprob + static_cast<double>(found->logprob)});
        const Way& last = ways.back();
        if (last.length > best.length || (last.length == best.length && last.logprob > best.logprob)) best = last;
      }
    }
    if (best.length > 0) return tree.node(best.first).token;
    DECANT_TRY(const std::span<const TokenLogprob> row, target.at(node));
    return draw_from(row, key);
  }

 private:
  double threshold_of(std::span<const TokenLogprob> row) const {
    double entropy = 0;
    for (const TokenLogprob& t : row) {
      const auto logprob = static_cast<double>(t.logprob);
      if (std::isfinite(logprob)) entropy -= std::exp(logprob) * logprob;
    }
    return std::min(epsilon_, delta_ * std::exp(-entropy));
  }
  double epsilon_, delta_;
};

}  // namespace

VerifierInfo typical_verifier() {
  using Kind = SettingInfo::Kind;
  return {.name = "typical",
          .summary = "typical acceptance: keeps drafts that the target finds likely enough; changes the distribution",
          .paper = "Cai et al. 2024, Medusa",
          .guarantee = "approximate",
          .settings = {{"epsilon", Kind::kReal, "0.09", 0, 1, "", "a probability above this is always enough"},
                       {"delta", Kind::kReal, "0.3", 0, 100, "", "and so is one above delta exp(-entropy)"}},
          .make = [](const Settings& s) -> Result<std::shared_ptr<const Verifier>> {
            return std::shared_ptr<const Verifier>(new Typical(s.real("epsilon"), s.real("delta")));
          }};
}

}  // namespace decant
