// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// What drafters that ask a draft model share: opening it, and its distributions as policies and fusions see them.
#pragma once

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
// kInvalidArgument for another vocabulary than the target's; errors of the file name it.
Result<std::shared_ptr<DraftModel>> open_draft_model(const std::string& path, const DraftEnvironment& environment);

// The rows of one step's tree: the target's sampler (temperature, filters, penalties, mask) over the draft's logits,
// so that the draft differs from the target in its logits alone; sharpened by `temperature`.
class ModelRows final : public DraftRows {
 public:
  ModelRows(const DraftContext& context, Predictor& predictor, const StepCost& cost, TokenTree& tree,
            float temperature);

  Result<std::vector<DraftToken>> top(int node, int count) override;
  Result<std::vector<DraftToken>> independent(int node, int count) override;
  bool draws() const override { return draws_; }
  Status declare(int node, Proposal kind, TokenTree* tree) override;
  float acceptance(float probability, int rank) const override;
  uint16_t evidence(float probability, int rank) const override;
  bool pays(double reach, int rows) const override;
  // The draft distribution behind a node that was run: ascending by token.
  Result<std::span<const TokenLogprob>> distribution(int node);

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
  Predictor& predictor_;
  const StepCost& cost_;
  TokenTree& tree_;
  float temperature_;
  bool draws_ = false;
  std::map<int, Node> nodes_;
  std::map<int, SamplerState> states_;
};

}  // namespace decant
