// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Which layers can a model do without, if it only has to guess what it would say with all of them? Without training:
// layers are dropped one after the other, each time the one whose loss hurts least on the model's own answers.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"

namespace decant {

class Model;
class Tokenizer;

struct LayerSearchOptions {
  int tokens = 384;    // of the model's own answers that agreement is measured on, 16 to 4096
  int candidates = 8;  // layers tried at each removal: those that hurt least on their own
  int keep = 0;        // layers at which it ends; 0: when the drafts are no use any more
  std::function<void(int done, int total)> progress;  // layers dropped so far
};

// The model without some of its layers.
struct LayerSubset {
  std::vector<int> layers;   // kept, ascending; the first and the last are always among them
  double agreement = 1;      // share of tokens that it would have drawn as the whole model did, greedily
  double cross_entropy = 0;  // of the whole model's greedy tokens, nats a token
  double cost = 1;           // bytes that a token reads, beside the whole model's
  // Tokens in the time of one, by a chain of the best length, if drafts are kept with probability `agreement`.
  double speedup = 1;
  int length = 0;  // that chain's
};

// All layers first, then one less each.
Result<std::vector<LayerSubset>> search_layers(std::shared_ptr<const Model> model, const Tokenizer& tokenizer,
                                               const LayerSearchOptions& options);

}  // namespace decant
