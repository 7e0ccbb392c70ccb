// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Drafts of a smaller model with the same vocabulary, as a chain or as a tree of any policy (tree_policy.h).
#include <algorithm>

#include "model/model.h"
#include "speculate/methods.h"
#include "speculate/model_draft.h"

namespace decant {
namespace {

class ModelDrafter final : public Drafter {
 public:
  ModelDrafter(std::shared_ptr<DraftModel> model, std::unique_ptr<TreePolicy> policy, const DraftRule& rule)
      : trees_(std::move(model), std::move(policy), rule) {}
  Status propose(const DraftContext& context, TokenTree* tree) override {
    return trees_.grow(context, context.control != nullptr ? &context.control->acceptance : nullptr, tree);
  }
  void observe(const DraftOutcome& outcome) override { trees_.observe(outcome, outcome.path().size()); }

 private:
  ModelTrees trees_;
};

class ModelMethod final : public DraftMethod {
 public:
  ModelMethod(std::shared_ptr<DraftModel> model, std::unique_ptr<TreePolicy> policy, const DraftRule& rule)
      : model_(std::move(model)), policy_(std::move(policy)), rule_(rule) {}
  Result<std::unique_ptr<Drafter>> start(std::span<const TokenId>) override {
    return std::unique_ptr<Drafter>(new ModelDrafter(model_, policy_->clone(), rule_));
  }
  int max_nodes() const override { return policy_->max_nodes(); }
  int max_depth() const override { return policy_->max_depth(); }
  // Greedy requests have points.
  std::vector<Proposal> proposals() const override { return {policy_->proposal(), Proposal::kPoint}; }
  size_t bytes() const override { return model_->bytes(); }

 private:
  std::shared_ptr<DraftModel> model_;
  std::unique_ptr<TreePolicy> policy_;
  DraftRule rule_;
};

Result<std::unique_ptr<TreePolicy>> make_policy(const Settings& s) {
  const std::string& tree = s.text("tree");
  const int length = s.integer("length");
  if (tree == "chain") return make_chain(length);
  if (tree == "fixed" || tree == "rsd-c") {
    DECANT_TRY(std::vector<int> branch, parse_branch(s.text("branch")));
    return make_branching(std::move(branch), tree == "fixed");
  }
  if (tree == "rsd-s") return make_beam(s.integer("width"), length);
  if (tree == "spectr") return make_independent(s.integer("width"), length);
  if (tree == "dyspec") {
    return make_dynamic(s.integer("nodes"), length, static_cast<float>(s.real("threshold")));
  }
  return make_growing(s.integer("nodes"), length, s.integer("width"));
}

}  // namespace

DrafterInfo model_drafter() {
  using Kind = SettingInfo::Kind;
  return {.name = "model",
          .summary = "a smaller model of the same vocabulary (decant make-draft builds one)",
          .paper =
              "Leviathan et al. 2023, Chen et al. 2023 (chain); Miao et al. 2024, SpecInfer (fixed); Jeon et al. "
              "2024, Recursive speculative decoding (rsd-c, rsd-s); Sun et al. 2023, SpecTr (spectr); Xiong et "
              "al. 2024, DySpec (dyspec)",
          .needs = {"a draft model"},
          .settings = {{"path", Kind::kPath, "", 0, 0, "", "the draft model's file"},
                       {"tree", Kind::kWord, "grow", 0, 0, "grow|chain|fixed|rsd-c|rsd-s|spectr|dyspec",
                        "where drafts branch; grow: where the measured acceptance pays for it"},
                       {"length", Kind::kInteger, "4", 1, 64, "", "tokens from the root to a leaf"},
                       {"branch", Kind::kPath, "2-2-1", 0, 0, "", "fixed, rsd-c: children at each depth"},
                       {"width", Kind::kInteger, "3", 1, 64, "", "rsd-s, grow: paths; spectr: drafts"},
                       {"nodes", Kind::kInteger, "16", 1, 1024, "", "grow, dyspec: nodes of a tree"},
                       {"threshold", Kind::kReal, "0", 0, 1, "",
                        "dyspec: least chance of a draw, layer by layer; 0: one node after the other"},
                       {"temperature", Kind::kReal, "1", 0.05, 10, "", "of the draft, on top of the target's"}},
          .make = [](const Settings& s, const DraftEnvironment& environment) -> Result<std::shared_ptr<DraftMethod>> {
            DECANT_TRY(std::unique_ptr<TreePolicy> policy, make_policy(s));
            DECANT_TRY(std::shared_ptr<DraftModel> model, open_draft_model(s, "path", environment));
            return std::shared_ptr<DraftMethod>(new ModelMethod(
                std::move(model), std::move(policy), {.temperature = static_cast<float>(s.real("temperature"))}));
          }};
}

}  // namespace decant
