// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// What a text may go on with. A constraint is compiled once for a vocabulary and shared by requests; a state is a value
// that is kept for as long as somebody wants to go on from it, as many times as they like.
//
//   DECANT_TRY(auto constraint, compile_json_schema(text, "schema.json", {}, vocabulary));
//   ConstraintState state = constraint->start();
//   ... constraint->mask(state) has a bit for every token that may come next, and for none else;
//       constraint->accepting(state): the text may end here ...
//   DECANT_TRY(state, constraint->advance(state, token));
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "constrain/token_trie.h"

namespace decant {

class ConstraintState {
 public:
  ConstraintState() = default;
  explicit ConstraintState(std::shared_ptr<const void> value) : value_(std::move(value)) {}
  const void* value() const { return value_.get(); }
  const std::shared_ptr<const void>& shared() const { return value_; }

 private:
  std::shared_ptr<const void> value_;
};

class Constraint {
 public:
  virtual ~Constraint() = default;

  virtual ConstraintState start() = 0;
  // Exactly the tokens after which the text can still be completed. Valid as long as the pointer is held. Empty where
  // the limits on work were reached; failure() of the state then says so.
  virtual std::shared_ptr<const TokenMask> mask(const ConstraintState& state) = 0;
  // kInvalidArgument for a token that the mask does not have.
  virtual Result<ConstraintState> advance(const ConstraintState& state, TokenId token) = 0;
  // The state after one byte of text; nullopt if no text that is allowed goes on so.
  virtual std::optional<ConstraintState> step(const ConstraintState& state, uint8_t byte) = 0;
  // Whether the text may end here.
  virtual bool accepting(const ConstraintState& state) = 0;
  // kExhausted if the mask of this state could not be made.
  virtual Status failure(const ConstraintState&) { return {}; }
  // A text after which the answer may end: the shortest one in bytes for regular expressions and grammars, for others
  // what a bounded search finds. nullopt where none was found.
  virtual std::optional<std::string> completion(const ConstraintState& state);
  // What a byte behind the state costs that search; below 0: it is not tried.
  virtual int search_cost(const ConstraintState& state, uint8_t byte);
  // Whether a completion takes microseconds and not a search.
  virtual bool completes_fast() const { return false; }
  // Tokens that spell the completion, each as long as possible.
  virtual std::optional<int> tokens_to_end(const ConstraintState& state);
  // Of the mask, tokens behind which `tokens` - 1 more are enough to end; where no token is known to lead there, those
  // that lead nearest to the end (one at least). All of the mask if nothing is known.
  virtual std::shared_ptr<const TokenMask> mask_within(const ConstraintState& state, int tokens);

  virtual const TokenTrie& trie() const = 0;
  // What was left out or could not be decided; for people.
  virtual std::vector<std::string> warnings() const { return {}; }
  virtual size_t bytes() const = 0;
};

}  // namespace decant
