// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "speculate/node_rule.h"

#include <algorithm>
#include <cmath>

namespace decant {
namespace {

class Coins final : public AcceptTest {
 public:
  explicit Coins(RngKey key) : key_(key) { key_.purpose = Purpose::kAccept; }
  // Strict: what the target does not have is never kept.
  bool accept(double p, double q) override { return random_uniform(key_, tosses_++) * q < p; }

 private:
  RngKey key_;
  uint32_t tosses_ = 0;
};

TokenId draw_from(const Weights& weights, RngKey key) {
  key.purpose = Purpose::kResidual;
  return weights.draw(random_uniform(key, 0));
}

}  // namespace

Weights Weights::of(std::span<const TokenLogprob> row) {
  Weights out;
  out.tokens.reserve(row.size());
  out.mass.reserve(row.size());
  for (const TokenLogprob& t : row) {
    out.tokens.push_back(t.token);
    out.mass.push_back(std::exp(static_cast<double>(t.logprob)));
  }
  out.add_up();
  if (out.sum > 0) {
    for (double& m : out.mass) m /= out.sum;
    out.sum = 1;
  }
  return out;
}

double Weights::at(TokenId token) const {
  const auto found = std::lower_bound(tokens.begin(), tokens.end(), token);
  return found == tokens.end() || *found != token ? 0 : mass[static_cast<size_t>(found - tokens.begin())];
}

void Weights::remove(TokenId token) {
  const auto found = std::lower_bound(tokens.begin(), tokens.end(), token);
  if (found == tokens.end() || *found != token) return;
  mass[static_cast<size_t>(found - tokens.begin())] = 0;
  add_up();
}

void Weights::add_up() {
  sum = 0;
  for (const double m : mass) sum += m;
}

TokenId Weights::draw(double u) const {
  const double wanted = u * sum;
  double passed = 0;
  TokenId last = -1;
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (mass[i] <= 0) continue;
    last = tokens[i];
    passed += mass[i];
    if (wanted < passed) break;
  }
  return last;
}

TokenId draw_from(std::span<const TokenLogprob> row, RngKey key) { return draw_from(Weights::of(row), key); }

std::optional<TokenId> reject_in_turn(const NodeProposals& proposals, size_t limit, const Weights& target,
                                      AcceptTest& test, Weights* rest) {
  *rest = target;
  Weights draft = Weights::of(proposals.draft);
  for (size_t i = 0; i < std::min(limit, proposals.tokens.size()) && rest->sum > kNoMass; ++i) {
    const TokenId token = proposals.tokens[i];
    if (proposals.kind == Proposal::kPoint) {
      if (test.accept(rest->at(token), rest->sum)) return token;
      rest->remove(token);
      continue;
    }
    if (draft.sum <= kNoMass) break;
    // Both are scaled to their sums: u q(x) / sum(q) < r(x) / sum(r).
    const double scale = rest->sum / draft.sum;
    if (test.accept(rest->at(token), draft.at(token) * scale)) return token;
    size_t d = 0;
    for (size_t r = 0; r < rest->tokens.size(); ++r) {
      while (d < draft.tokens.size() && draft.tokens[d] < rest->tokens[r]) ++d;
      if (d == draft.tokens.size()) break;
      if (draft.tokens[d] == rest->tokens[r]) rest->mass[r] = std::max(rest->mass[r] - draft.mass[d] * scale, 0.0);
    }
    rest->add_up();
    if (proposals.kind == Proposal::kWithoutReplacement) draft.remove(token);
  }
  return std::nullopt;
}

Result<TokenId> NodeRule::choose(const TokenTree& tree, int node, TargetDistributions& target,
                                 const RngKey& key) const {
  DECANT_TRY(const std::span<const TokenLogprob> row, target.at(node));
  const Weights weights = Weights::of(row);
  const NodeProposals proposals{
      .kind = tree.kind(node), .draft = tree.draft(node), .tokens = tree.proposed_tokens(node)};
  if (proposals.tokens.empty()) return draw_from(weights, key);
  if (!takes(proposals.kind)) {
    return Status::invalid_argument("the verifier {} cannot verify the draws of this draft method", name());
  }
  Coins coins(key);
  Weights rest;
  if (const std::optional<TokenId> kept = accept(proposals, weights, coins, &rest)) return *kept;
  if (rest.sum <= kNoMass) {
    rest = weights;
    for (const TokenId token : proposals.tokens) rest.remove(token);
    if (rest.sum <= 0) rest = weights;
  }
  return draw_from(rest, key);
}

}  // namespace decant
