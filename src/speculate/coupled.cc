// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// The default: a drafted token is kept if it is the one that plain sampling draws, with the same noise. Greedy or
// sampled, the text is that of plain decoding, bit for bit, whatever the drafter. (Drafter-invariant speculation; for
// proposals that are points it accepts as often as any exact rule can.)
#include "speculate/methods.h"

namespace decant {
namespace {

class Coupled final : public Verifier {
 public:
  std::string_view name() const override { return "coupled"; }
  bool coupled() const override { return true; }
  bool takes(Proposal) const override { return true; }
  Result<TokenId> choose(const TokenTree&, int, TargetDistributions&, const RngKey&) const override {
    return Status::internal("the coupled verifier leaves the draw to the sampler");
  }
};

}  // namespace

VerifierInfo coupled_verifier() {
  return {.name = "coupled",
          .summary = "keeps the tokens that plain sampling draws with the same noise: the same text as without drafts",
          .paper =
              "Gumbel-coupled matching; Daliri et al. 2025, Coupling without communication and drafter-invariant "
              "speculative decoding",
          .guarantee = "exact",
          .settings = {},
          .make = [](const Settings&) -> Result<std::shared_ptr<const Verifier>> {
            return std::shared_ptr<const Verifier>(new Coupled);
          }};
}

}  // namespace decant
