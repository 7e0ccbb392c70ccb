// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// What drafters that ask a draft model share: opening it, its distributions as policies and fusions see them, and the
// trees that it grows.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "engine/acceptance.h"
#include "engine/drafter.h"
#include "engine/engine.h"
#include "speculate/predictor.h"
#include "speculate/registry.h"
#include "speculate/tree_policy.h"
#include "speculate/vocabulary_map.h"

namespace decant {

// A draft model that is loaded, with room for the drafts of `sequences` requests.
struct DraftModel {
  std::shared_ptr<Engine> engine;
  std::shared_ptr<const VocabularyMap> map;
  StepCost cost;  // of its steps
  // What a step of drafts has brought and cost lately, over all requests: tokens kept, seconds; and steps asked and
  // not.
  double gained = 0, spent = 0;
  int asked = 0, idle = 0;
  size_t bytes() const;
};
// The file that this setting names. kInvalidArgument for another vocabulary than the target's; errors of the file name
// it.
Result<std::shared_ptr<DraftModel>> open_draft_model(const Settings& settings, std::string_view name,
                                                     const DraftEnvironment& environment);

// How a draft model's distributions become guesses.
struct DraftRule {
  float temperature = 1;  // of the draft, on top of the target's
  // The likeliest tokens, in place of draws with noise of the drafter's own: points for every verifier.
  bool points = false;
  int most = 64;  // tokens of a distribution without draws that are looked at
};

// The rows of one step's tree: the target's sampler (temperature, filters, penalties, mask) over the draft's logits,
// so that the draft differs from the target in its logits alone; sharpened by the rule's temperature. `measured`: how
// often guesses were right, by the tree's evidence numbers; may be null.
class ModelRows final : public DraftRows {
 public:
  ModelRows(const DraftContext& context, const DraftRule& rule, const AcceptanceModel* measured, Predictor& predictor,
            const StepCost& cost, TokenTree& tree);

  Result<std::vector<DraftToken>> top(int node, int count) override;
  Result<std::vector<DraftToken>> independent(int node, int count) override;
  bool draws() const override { return draws_; }
  Status declare(int node, Proposal kind, TokenTree* tree) override;
  float acceptance(float probability, int rank) const override;
  uint16_t evidence(float probability, int rank) const override;
  bool pays(double reach, int rows) const override;
  // Whether the node was run.
  bool has(int node) const { return predictor_.has(node); }

 private:
  struct Node {
    SamplerState state;
    std::vector<TokenLogprob> row;
    std::vector<DraftToken> order;  // the first of them by score
    bool known = false, complete = false;
  };
  Result<Node*> node_of(int node);
  const SamplerState& state_of(int node);
  void sort(int node, int count, Node* n);

  const DraftContext& context_;
  const DraftRule& rule_;
  const AcceptanceModel* measured_;
  Predictor& predictor_;
  const StepCost& cost_;
  TokenTree& tree_;
  bool draws_ = false;
  std::map<int, Node> nodes_;
  std::map<int, SamplerState> states_;
};

// The trees that a draft model grows for one request, by a policy, for as long as they bring more than they cost.
class ModelTrees {
 public:
  ModelTrees(std::shared_ptr<DraftModel> model, std::unique_ptr<TreePolicy> policy, const DraftRule& rule)
      : model_(std::move(model)), policy_(std::move(policy)), predictor_(model_->engine, model_->map), rule_(rule) {}

  // Grows the tree, then lets `look` see the rows behind its nodes. Where the model has no room for the text, or its
  // trees do not pay, nothing is called and the tree stays as it is. `measured` as for ModelRows.
  Status grow(const DraftContext& context, const AcceptanceModel* measured, TokenTree* tree,
              const std::function<Status(ModelRows& rows)>& look = {});
  // The step kept this many guesses that are the model's merit.
  void observe(const DraftOutcome& outcome, size_t kept);

 private:
  bool worth_asking(const DraftControl& control);

  std::shared_ptr<DraftModel> model_;
  std::unique_ptr<TreePolicy> policy_;
  Predictor predictor_;
  DraftRule rule_;
  size_t known_ = 0;
  bool asked_ = false;
  double spent_ = 0;
};

}  // namespace decant
