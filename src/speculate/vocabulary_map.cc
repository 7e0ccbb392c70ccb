// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "speculate/vocabulary_map.h"

#include <algorithm>
#include <cmath>
#include <unordered_map>

#include "base/printable.h"
#include "text/tokenizer.h"

namespace decant {

std::shared_ptr<const VocabularyMap> VocabularyMap::identity(int target_size, int draft_size) {
  auto map = std::make_shared<VocabularyMap>();
  map->target_size_ = target_size;
  map->draft_size_ = draft_size;
  return map;
}

Result<std::shared_ptr<const VocabularyMap>> VocabularyMap::create(const Tokenizer& target, int target_size,
                                                                   const Tokenizer& draft, int draft_size,
                                                                   const std::string& draft_name) {
  const auto text_of = [](const Tokenizer& tokenizer, TokenId token) {
    return token < tokenizer.vocab_size() ? tokenizer.piece(token, true) : std::string_view();
  };
  const TokenId n = std::max(target.vocab_size(), draft.vocab_size());
  bool same = true;
  for (TokenId t = 0; t < n && same; ++t) same = text_of(target, t) == text_of(draft, t);
  if (same) return identity(target_size, draft_size);

  std::unordered_map<std::string_view, TokenId> ids;
  for (TokenId t = 0; t < draft.vocab_size(); ++t) {
    if (!text_of(draft, t).empty()) ids.emplace(text_of(draft, t), t);
  }
  auto map = std::make_shared<VocabularyMap>();
  map->target_size_ = target_size;
  map->draft_size_ = draft_size;
  map->to_draft_.assign(static_cast<size_t>(target_size), -1);
  int64_t shared = 0, text_tokens = 0;
  TokenId missing = -1;
  for (TokenId t = 0; t < std::min(target.vocab_size(), target_size); ++t) {
    const std::string_view text = text_of(target, t);
    if (text.empty()) continue;
    const TokenKind kind = target.kind(t);
    const bool is_text = kind == TokenKind::kNormal || kind == TokenKind::kByte;
    text_tokens += is_text ? 1 : 0;
    const auto found = ids.find(text);
    if (found == ids.end() || found->second >= draft_size) {
      if (is_text && missing == -1) missing = t;
      continue;
    }
    shared += is_text ? 1 : 0;
    map->to_draft_[static_cast<size_t>(t)] = found->second;
  }
  if (missing != -1) {
    return Status::invalid_argument(
        "{}: the draft model has another vocabulary than the target: {} of {} tokens are in both; the target's token "
        "{}, '{}', is not in the draft's; take a draft model of the same family",
        draft_name, shared, text_tokens, missing, printable(text_of(target, missing)));
  }
  for (const auto& [from, to] : {std::pair(target.bos(), draft.bos()), std::pair(target.eos(), draft.eos())}) {
    if (from >= 0 && from < target_size && to >= 0 && map->to_draft_[static_cast<size_t>(from)] == -1) {
      map->to_draft_[static_cast<size_t>(from)] = to;
    }
  }
  map->unknown_ = draft.eos() >= 0 ? draft.eos() : std::max(draft.bos(), 0);
  return std::shared_ptr<const VocabularyMap>(std::move(map));
}

TokenId VocabularyMap::to_draft(TokenId target) const {
  if (is_identity()) return target < draft_size_ ? target : unknown_;
  const TokenId token = target < target_size_ ? to_draft_[static_cast<size_t>(target)] : -1;
  return token == -1 ? unknown_ : token;
}

void VocabularyMap::to_target(std::span<const float> logits, std::vector<float>* out) const {
  if (is_identity()) {
    out->assign(logits.begin(), logits.begin() + std::min(target_size_, draft_size_));
    out->resize(static_cast<size_t>(target_size_), -INFINITY);
    return;
  }
  out->assign(static_cast<size_t>(target_size_), -INFINITY);
  for (size_t t = 0; t < to_draft_.size(); ++t) {
    if (to_draft_[t] != -1) (*out)[t] = logits[static_cast<size_t>(to_draft_[t])];
  }
}

}  // namespace decant
