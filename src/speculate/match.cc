// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Draws from the target and keeps the child that was drawn, if there is one. The draw does not look at the proposals,
// so they may be anything. As `coupled`, but with noise of its own: another text of the same law.
#include "speculate/methods.h"
#include "speculate/node_rule.h"

namespace decant {
namespace {

class Match final : public NodeRule {
 public:
  std::string_view name() const override { return "match"; }
  bool takes(Proposal) const override { return true; }
  std::optional<TokenId> accept(const NodeProposals&, const Weights& target, AcceptTest&,
                                Weights* rest) const override {
    *rest = target;
    return std::nullopt;
  }
};

}  // namespace

VerifierInfo match_verifier() {
  return {.name = "match",
          .summary = "draws from the target, keeps a draft that equals what was drawn; for any draft",
          .paper = "Miao et al. 2024, SpecInfer (naive sampling)",
          .guarantee = "exact in distribution",
          .settings = {},
          .make = [](const Settings&) -> Result<std::shared_ptr<const Verifier>> {
            return std::shared_ptr<const Verifier>(new Match);
          }};
}

}  // namespace decant
