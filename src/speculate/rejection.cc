// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Speculative sampling and its extensions to several proposals: test a proposal against the target; what a rejection
// leaves of the target is tested with the next one. Points are tested as draws of themselves, which keeps them as often
// as `match` does.
//
//   chain   the first proposal of a node only, whatever the node has (the others are nodes that the text may run into)
//   rrs     independent draws, repeats included, against the whole draft distribution each time
//   rsd     draws without replacement, against what is left of it; independent ones as rrs
#include "speculate/methods.h"
#include "speculate/node_rule.h"

namespace decant {
namespace {

class Rejection final : public NodeRule {
 public:
  Rejection(std::string_view name, size_t limit, bool without_replacement)
      : name_(name), limit_(limit), without_replacement_(without_replacement) {}
  std::string_view name() const override { return name_; }
  bool takes(Proposal kind) const override { return kind != Proposal::kWithoutReplacement || without_replacement_; }
  std::optional<TokenId> accept(const NodeProposals& proposals, const Weights& target, AcceptTest& test,
                                Weights* rest) const override {
    return reject_in_turn(proposals, limit_, target, test, rest);
  }

 private:
  std::string_view name_;
  size_t limit_;
  bool without_replacement_;
};

}  // namespace

VerifierInfo chain_verifier() {
  return {.name = "chain",
          .summary = "speculative sampling: the first proposal of a node is kept with probability min(1, p/q)",
          .paper =
              "Leviathan et al. 2023, Fast inference from transformers via speculative decoding; Chen et al. 2023, "
              "Accelerating large language model decoding with speculative sampling",
          .guarantee = "exact in distribution",
          .settings = {},
          .make = [](const Settings&) -> Result<std::shared_ptr<const Verifier>> {
            return std::shared_ptr<const Verifier>(new Rejection("chain", 1, true));
          }};
}

VerifierInfo rrs_verifier() {
  return {.name = "rrs",
          .summary = "multi-round rejection of independent draws",
          .paper = "Miao et al. 2024, SpecInfer (multi-step speculative sampling)",
          .guarantee = "exact in distribution",
          .settings = {},
          .make = [](const Settings&) -> Result<std::shared_ptr<const Verifier>> {
            return std::shared_ptr<const Verifier>(new Rejection("rrs", SIZE_MAX, false));
          }};
}

VerifierInfo rsd_verifier() {
  return {.name = "rsd",
          .summary = "recursive rejection of draws without replacement; of independent ones as rrs",
          .paper = "Jeon et al. 2024, Recursive speculative decoding",
          .guarantee = "exact in distribution",
          .settings = {},
          .make = [](const Settings&) -> Result<std::shared_ptr<const Verifier>> {
            return std::shared_ptr<const Verifier>(new Rejection("rsd", SIZE_MAX, true));
          }};
}

}  // namespace decant
