// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Drafter: which tokens probably come next? A draft method is made once for a model and shared by requests (its
// matrices, datastores and draft models are); each request has a drafter of its own.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "engine/token_tree.h"

namespace decant {

struct DraftControl;

// Where the next step stands. Spans are valid during the call.
struct DraftContext {
  std::span<const TokenId> tokens;  // prompt and answer; the last one is the root
  // The request's sampler and its state behind `tokens`: for draft models that draw as the target does.
  const Sampler* sampler = nullptr;
  const SamplerState* state = nullptr;
  uint32_t sample = 0;
  // Draft models draw with the target's own noise. Only if the verifier is `coupled`.
  bool shared_noise = true;
  // What is measured of this method; null where trees are not cut by it.
  const DraftControl* control = nullptr;
  // For draws of the drafter's own: another one for each step of each request and of each of its samples.
  uint64_t draw_seed = 0;
};

// What the target says behind a node. `mask`: tokens whose logits are there; empty: all.
struct TargetRow {
  std::span<const float> logits;
  std::span<const uint64_t> mask;
};

// What a step came to. Every node's row is there, those of rejected nodes too.
class DraftOutcome {
 public:
  virtual ~DraftOutcome() = default;
  virtual const TokenTree& tree() const = 0;            // as it was verified: may be less than was proposed
  virtual TargetRow row(int node) const = 0;            // kRoot: behind the last token before the step
  virtual std::span<const int> path() const = 0;        // nodes kept, from the root's child on
  virtual std::span<const TokenId> before() const = 0;  // the text that the tree hung on: its last token is the root
  virtual std::span<const TokenId> fresh() const = 0;   // tokens that the step gave: those of the path and one more
};

class Drafter {
 public:
  virtual ~Drafter() = default;
  // Adds nodes to the empty tree, the likeliest first where it can be said: they may be cut to those worth their
  // cost. An error ends the request.
  virtual Status propose(const DraftContext& context, TokenTree* tree) = 0;
  // After each step, in request order. Also called, with an empty tree, after steps without drafts.
  virtual void observe(const DraftOutcome& outcome) { static_cast<void>(outcome); }
};

class DraftMethod {
 public:
  virtual ~DraftMethod() = default;
  // For a request with this prompt.
  virtual Result<std::unique_ptr<Drafter>> start(std::span<const TokenId> prompt) = 0;
  // Nodes and depth worth proposing when nobody says otherwise.
  virtual int max_nodes() const { return 16; }
  virtual int max_depth() const { return 16; }
  // All that the proposals under a node may be.
  virtual std::vector<Proposal> proposals() const { return {Proposal::kPoint}; }
  // Whether some are draws, whose tree must not be cut by what was drawn unless the verifier is `coupled`.
  bool draws() const {
    const std::vector<Proposal> kinds = proposals();
    return std::any_of(kinds.begin(), kinds.end(), [](Proposal kind) { return kind != Proposal::kPoint; });
  }
  // Memory that it holds beside the target model.
  virtual size_t bytes() const { return 0; }
  // Keeps what it has learned. kUnsupported where there is nothing to keep.
  virtual Status save(const std::string& path) const {
    return Status::unsupported("{}: this draft method learns nothing that could be saved", path);
  }
};

}  // namespace decant
