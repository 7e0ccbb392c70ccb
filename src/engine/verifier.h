// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Verifier: which drafted tokens are kept? The loop walks down the tree; at each node the verifier says which token
// comes. If it is a child's, the walk goes on there, else the step ends. Every rule sees the target distribution that
// plain sampling draws from (after temperature, filters, penalties and the constraint's mask).
#pragma once

#include <span>
#include <string_view>

#include "base/rng.h"
#include "base/status.h"
#include "engine/token_tree.h"

namespace decant {

// The target's distributions, made when asked for: ascending by token, log-probabilities that add up to 1.
class TargetDistributions {
 public:
  virtual ~TargetDistributions() = default;
  // Behind `node`, which the walk has reached or which lies below (its tokens are then thought to be kept). Valid
  // until the walk goes on.
  virtual Result<std::span<const TokenLogprob>> at(int node) = 0;
};

class Verifier {
 public:
  virtual ~Verifier() = default;
  virtual std::string_view name() const = 0;
  // Draws with the sampler's own noise, so that the text is the very text of plain sampling: choose() is not called,
  // and trees may be cut by what is known of their nodes.
  virtual bool coupled() const { return false; }
  // Whether proposals of this kind may be verified so.
  virtual bool takes(Proposal kind) const = 0;
  // The token behind `node` (kRoot: behind the root). `key` names the position of that token; its purposes kAccept and
  // kResidual are the verifier's, kSample, kDraft and kXtc are not.
  virtual Result<TokenId> choose(const TokenTree& tree, int node, TargetDistributions& target,
                                 const RngKey& key) const = 0;
};

}  // namespace decant
