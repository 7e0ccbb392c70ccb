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
  ModelDrafter(std::shared_ptr<DraftModel> model, std::unique_ptr<TreePolicy> policy, float temperature)
      : model_(std::move(model)),
        policy_(std::move(policy)),
        predictor_(model_->engine, model_->map),
        temperature_(temperature) {}

  Status propose(const DraftContext& context, TokenTree* tree) override {
    if (context.control != nullptr && !worth_asking(*context.control)) return {};
    asked_ = true;
    const size_t fresh = context.tokens.size() - std::min(known_, context.tokens.size());
    Status status = predictor_.start(context.tokens);
    // Without room for its own text the draft model is of no help; the target goes on.
    if (status.code() == Code::kExhausted) return {};
    DECANT_TRY_STATUS(status);
    known_ = context.tokens.size();
    if (fresh <= 2) model_->cost.learn(static_cast<int>(std::max<size_t>(fresh, 1)), predictor_.seconds());
    spent_ = predictor_.seconds();
    ModelRows rows(context, predictor_, model_->cost, *tree, temperature_);
    const std::unique_ptr<TreePolicy> policy = policy_->clone();
    std::vector<int> ran = {kRoot};
    while (!ran.empty()) {
      DECANT_TRY(ran, policy->next(ran, rows, tree));
      if (ran.empty()) break;
      status = predictor_.run(*tree, ran);
      if (status.code() == Code::kExhausted) break;
      DECANT_TRY_STATUS(status);
      model_->cost.learn(static_cast<int>(ran.size()), predictor_.seconds());
      spent_ += predictor_.seconds();
    }
    return {};
  }

  void observe(const DraftOutcome& outcome) override {
    if (!asked_) return;
    asked_ = false;
    // A failure is met again, and reported, by the next start().
    if (predictor_.commit(outcome.fresh()).ok()) {
      // What a step of drafts brings beside what it costs, fading.
      constexpr double kFade = 0.08;
      model_->gained += kFade * (static_cast<double>(outcome.path().size()) - model_->gained);
      model_->spent += kFade * (spent_ - model_->spent);
      ++model_->asked;
    }
  }

 private:
  // Whether drafts have lately brought more than they cost; now and then it is tried again.
  bool worth_asking(const DraftControl& control) {
    constexpr int kFirst = 16, kAgain = 48;
    if (!control.cost.known() || model_->asked < kFirst) return true;
    // Each token kept saves a step.
    if (model_->gained * control.cost.seconds(1) > model_->spent) return true;
    return ++model_->idle % kAgain == 0;
  }

  std::shared_ptr<DraftModel> model_;
  std::unique_ptr<TreePolicy> policy_;
  Predictor predictor_;
  float temperature_;
  size_t known_ = 0;
  bool asked_ = false;
  double spent_ = 0;
};

class ModelMethod final : public DraftMethod {
 public:
  ModelMethod(std::shared_ptr<DraftModel> model, std::unique_ptr<TreePolicy> policy, float temperature)
      : model_(std::move(model)), policy_(std::move(policy)), temperature_(temperature) {}
  Result<std::unique_ptr<Drafter>> start(std::span<const TokenId>) override {
    return std::unique_ptr<Drafter>(new ModelDrafter(model_, policy_->clone(), temperature_));
  }
  int max_nodes() const override { return policy_->max_nodes(); }
  int max_depth() const override { return policy_->max_depth(); }
  // Greedy requests have points.
  std::vector<Proposal> proposals() const override { return {policy_->proposal(), Proposal::kPoint}; }
  size_t bytes() const override { return model_->bytes(); }

 private:
  std::shared_ptr<DraftModel> model_;
  std::unique_ptr<TreePolicy> policy_;
  float temperature_;
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
            DECANT_TRY(std::shared_ptr<DraftModel> model, open_draft_model(s.text("path"), environment));
            return std::shared_ptr<DraftMethod>(
                new ModelMethod(std::move(model), std::move(policy), static_cast<float>(s.real("temperature"))));
          }};
}

}  // namespace decant
