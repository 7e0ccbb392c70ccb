// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "speculate/kseq.h"

#include <algorithm>
#include <cmath>

#include "speculate/methods.h"

namespace decant {
namespace {

constexpr int kBisections = 60;

// 1 - (1 - beta)^k without the loss of small betas.
double one_of(double beta, int k) { return beta >= 1 ? 1 : -std::expm1(k * std::log1p(-beta)); }

class KSeqRule final : public NodeRule {
 public:
  std::string_view name() const override { return "kseq"; }
  bool takes(Proposal kind) const override { return kind != Proposal::kWithoutReplacement; }
  std::optional<TokenId> accept(const NodeProposals& proposals, const Weights& target, AcceptTest& test,
                                Weights* rest) const override {
    if (proposals.kind == Proposal::kPoint) {
      return reject_in_turn(proposals, proposals.tokens.size(), target, test, rest);
    }
    return accept_kseq(proposals, target, test, rest);
  }
};

}  // namespace

KSeq solve_kseq(const Weights& target, const Weights& draft, int k) {
  // Tokens with p/q of k and more give q whatever rho is, those below 1 give p/rho; the search is among the others.
  double surely_q = 0, surely_p = 0;
  std::vector<std::pair<double, double>> between;
  for (size_t i = 0, t = 0; i < draft.tokens.size(); ++i) {
    while (t < target.tokens.size() && target.tokens[t] < draft.tokens[i]) ++t;
    const double p = t < target.tokens.size() && target.tokens[t] == draft.tokens[i] ? target.mass[t] : 0;
    const double q = draft.mass[i];
    if (p >= k * q) {
      surely_q += q;
    } else if (p <= q) {
      surely_p += p;
    } else {
      between.emplace_back(p, q);
    }
  }
  const auto beta = [&](double rho) {
    double sum = surely_q + surely_p / rho;
    for (const auto& [p, q] : between) sum += std::min(q, p / rho);
    return std::min(sum, 1.0);
  };
  double low = 1, high = k;
  for (int i = 0; i < kBisections && k > 1; ++i) {
    const double rho = (low + high) / 2;
    const double b = beta(rho);
    (one_of(b, k) <= rho * b ? high : low) = rho;
  }
  const double b = beta(high);
  return {.rho = high, .beta = b, .kept = one_of(b, k)};
}

std::optional<TokenId> accept_kseq(const NodeProposals& proposals, const Weights& target, AcceptTest& test,
                                   Weights* rest) {
  const Weights draft = Weights::of(proposals.draft);
  const KSeq kseq = solve_kseq(target, draft, static_cast<int>(proposals.tokens.size()));
  for (const TokenId token : proposals.tokens) {
    if (test.accept(target.at(token), kseq.rho * draft.at(token))) return token;
  }
  *rest = target;
  if (kseq.beta <= 0) return std::nullopt;
  const double share = kseq.kept / kseq.beta;
  for (size_t i = 0; i < rest->tokens.size(); ++i) {
    const double p = rest->mass[i];
    rest->mass[i] = std::max(p - std::min(draft.at(rest->tokens[i]), p / kseq.rho) * share, 0.0);
  }
  rest->add_up();
  return std::nullopt;
}

VerifierInfo kseq_verifier() {
  return {.name = "kseq",
          .summary = "k-sequential selection of independent draws: at least 1 - 1/e of the best possible acceptance",
          .paper = "Sun et al. 2023, SpecTr: Fast speculative decoding via optimal transport",
          .guarantee = "exact in distribution",
          .settings = {},
          .make = [](const Settings&) -> Result<std::shared_ptr<const Verifier>> {
            return std::shared_ptr<const Verifier>(new KSeqRule);
          }};
}

}  // namespace decant
