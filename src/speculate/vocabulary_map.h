// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Token ids of a draft model beside those of its target. Both must have the same tokens of text; control tokens may
// differ and lie elsewhere.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "engine/token_tree.h"

namespace decant {

class Tokenizer;

class VocabularyMap {
 public:
  // kInvalidArgument naming the first token of text that the two do not share. Vocabulary sizes are the models', which
  // may pad the tokenizers'.
  static Result<std::shared_ptr<const VocabularyMap>> create(const Tokenizer& target, int target_size,
                                                             const Tokenizer& draft, int draft_size,
                                                             const std::string& draft_name);
  // The same ids on both sides.
  static std::shared_ptr<const VocabularyMap> identity(int target_size, int draft_size);

  bool is_identity() const { return to_draft_.empty(); }
  TokenId to_draft(TokenId target) const;
  // `logits` over the draft's vocabulary to `out` over the target's.
  void to_target(std::span<const float> logits, std::vector<float>* out) const;

 private:
  int target_size_ = 0, draft_size_ = 0;
  TokenId unknown_ = 0;            // what stands for tokens that the draft does not have
  std::vector<TokenId> to_draft_;  // empty: the same ids; -1: the draft has no such token
};

}  // namespace decant
