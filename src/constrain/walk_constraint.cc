// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "constrain/walk_constraint.h"

#include <algorithm>

#include "constrain/completion.h"

namespace decant {
namespace {

constexpr size_t kMaxRows = 8'000;                 // of transitions that are kept between masks
constexpr size_t kMaxMaskBytes = size_t{8} << 20;  // of kept masks

}  // namespace

ConstraintState WalkConstraint::start() {
  const std::lock_guard lock(mutex_);
  return hold(start_anew());
}

uint32_t WalkConstraint::take(const ConstraintState& state) {
  const Held& held = *static_cast<const Held*>(state.value());
  return held.epoch == epoch() ? held.id : bring_over(held.epoch.get(), held.id);
}

ConstraintState WalkConstraint::hold(uint32_t id) {
  std::weak_ptr<const Held>& known = entry(id).held;
  std::shared_ptr<const Held> held = known.lock();
  if (!held) {
    held = std::make_shared<const Held>(Held{.epoch = epoch(), .id = id});
    known = held;
  }
  return ConstraintState(std::move(held));
}

// Only between masks: numbers would change under a walk.
void WalkConstraint::make_room() {
  if (epoch_is_full() || !trouble().ok()) {
    begin_epoch();
    entries_.clear();
    rows_ = mask_bytes_ = 0;
  }
  if (rows_ >= kMaxRows) {
    for (Entry& e : entries_) e.row.reset();
    rows_ = 0;
  }
  begin_work();
}

std::shared_ptr<const TokenMask> WalkConstraint::mask(const ConstraintState& state) {
  const std::lock_guard lock(mutex_);
  make_room();
  const uint32_t id = take(state);
  if (entry(id).mask) return entry(id).mask;
  const size_t size = static_cast<size_t>(vocabulary_->trie().vocab_size()) / 8;
  if (mask_bytes_ + size > std::max(kMaxMaskBytes, 8 * size)) {
    for (Entry& e : entries_) e.mask.reset();
    mask_bytes_ = 0;
  }
  mask_bytes_ += size;
  auto mask = std::make_shared<TokenMask>(vocabulary_->trie().vocab_size());
  fill(id, mask.get());
  if (!trouble().ok()) {
    mask->clear();
    static_cast<const Held*>(state.value())->failure = trouble();
  }
  entry(id).mask = mask;
  return mask;
}

Result<ConstraintState> WalkConstraint::advance(const ConstraintState& state, TokenId token) {
  const std::lock_guard lock(mutex_);
  if (token < 0 || token >= vocabulary_->trie().vocab_size())
    return Status::invalid_argument("token {}: not in the vocabulary", token);
  const std::string_view text = vocabulary_->trie().bytes_of(token);
  make_room();
  if (const Status& failed = static_cast<const Held*>(state.value())->failure; !failed.ok()) return failed;
  uint32_t id = take(state);
  for (size_t i = 0; i < text.size() && id != kDead; ++i) id = next(id, static_cast<uint8_t>(text[i]));
  if (text.empty()) id = advance_special(id, token);
  if (!trouble().ok()) return trouble();
  if (id == kDead) return Status::invalid_argument("token {} may not come here", token);
  return hold(id);
}

std::optional<ConstraintState> WalkConstraint::step(const ConstraintState& state, uint8_t byte) {
  const std::lock_guard lock(mutex_);
  make_room();
  const uint32_t id = next(take(state), byte);
  if (id == kDead) return std::nullopt;
  return hold(id);
}

bool WalkConstraint::accepting(const ConstraintState& state) {
  const std::lock_guard lock(mutex_);
  return accepts(take(state));
}

Status WalkConstraint::failure(const ConstraintState& state) {
  const std::lock_guard lock(mutex_);
  return static_cast<const Held*>(state.value())->failure;
}

std::optional<std::string> WalkConstraint::completion(const ConstraintState& state) {
  const std::lock_guard lock(mutex_);
  make_room();
  return completion_of(take(state));
}

int32_t WalkConstraint::to_end(uint32_t id) {
  if (entry(id).to_end != kNotAsked) return entry(id).to_end;
  const std::optional<std::string> completion = completion_of(id);
  const std::optional<int> tokens = completion ? count_tokens(vocabulary_->trie(), *completion) : std::nullopt;
  int32_t left = tokens.value_or(kNotKnown);
  entry(id).to_end = left;
  // Where these tokens lead no more are needed than the rest of them, whatever that state's own completion would take:
  // so there is always a token that keeps within what was enough before.
  std::string_view text = completion ? std::string_view(*completion) : std::string_view();
  for (uint32_t at = id; left != kNotKnown && left > 0;) {
    const std::string_view token = vocabulary_->trie().bytes_of(vocabulary_->trie().longest_prefix(text));
    text.remove_prefix(token.size());
    for (const char byte : token) at = next(at, static_cast<uint8_t>(byte));
    int32_t& known = entry(at).to_end;
    known = known == kNotAsked ? --left : std::min(known, --left);
  }
  return entry(id).to_end;
}

std::optional<int> WalkConstraint::tokens_to_end(const ConstraintState& state) {
  const std::lock_guard lock(mutex_);
  make_room();
  const int32_t tokens = to_end(take(state));
  return tokens == kNotKnown ? std::nullopt : std::optional(tokens);
}

std::shared_ptr<const TokenMask> WalkConstraint::mask_within(const ConstraintState& state, int tokens) {
  const std::shared_ptr<const TokenMask> all = mask(state);
  const std::lock_guard lock(mutex_);
  make_room();
  const TokenTrie& trie = vocabulary_->trie();
  auto within = std::make_shared<TokenMask>(trie.vocab_size());
  // Twice at most: with the limit, then, unless the answer may end, with what the nearest token needs.
  const int passes = accepts(take(state)) ? 1 : 2;
  int32_t limit = tokens - 1, nearest = kNotKnown;
  for (int pass = 0; pass < passes; ++pass) {
    const std::span<const TokenTrie::Node> nodes = trie.nodes();
    std::vector<std::pair<uint32_t, uint32_t>> open = {{static_cast<uint32_t>(nodes.size()), take(state)}};
    for (uint32_t i = 0; i < nodes.size();) {
      while (open.back().first <= i) open.pop_back();
      const uint32_t to = next(open.back().second, nodes[i].byte);
      if (to == kDead) {
        i = nodes[i].end;
        continue;
      }
      if (nodes[i].token >= 0) {
        const int32_t needed = to_end(to);
        nearest = std::min(nearest, needed);
        if (needed <= limit) trie.add_to(nodes[i], within.get());
      }
      if (nodes[i].end > i + 1) open.push_back({nodes[i].end, to});
      ++i;
    }
    if (nearest == kNotKnown && passes == 2) return all;
    if (nearest <= limit) break;
    limit = nearest;
  }
  return within;
}

size_t WalkConstraint::bytes() const {
  const std::lock_guard lock(mutex_);
  return epoch_bytes() + entries_.capacity() * sizeof(Entry) + rows_ * 1024 + mask_bytes_;
}

std::array<uint32_t, 256>* WalkConstraint::row(uint32_t id) {
  Entry& e = entry(id);
  if (!e.row) {
    e.row = std::make_unique<std::array<uint32_t, 256>>();
    e.row->fill(kUnknown);
    ++rows_;
  }
  return e.row.get();
}

uint32_t WalkConstraint::next(uint32_t state, uint8_t byte) {
  uint32_t& known = (*row(state))[byte];
  if (known == kUnknown) known = step_anew(state, byte);
  return known;
}

// Sets the tokens of the trie's nodes [begin, end) that the state takes; nodes[begin] is a child of where the state is.
void WalkConstraint::walk(const TokenTrie& trie, uint32_t begin, uint32_t end, uint32_t state, TokenMask* mask) {
  const std::span<const TokenTrie::Node> nodes = trie.nodes();
  open_.clear();
  open_.push_back({end, state, row(state)});
  for (uint32_t i = begin; i < end;) {
    while (open_.back().end <= i) open_.pop_back();
    const TokenTrie::Node& node = nodes[i];
    const Open& at = open_.back();
    uint32_t& to = (*at.row)[node.byte];
    if (to == kUnknown) to = step_anew(at.state, node.byte);
    if (to == kDead) {
      i = node.end;
      continue;
    }
    trie.add_to(node, mask);
    if (node.end > i + 1) open_.push_back({node.end, to, row(to)});
    ++i;
  }
}

void WalkConstraint::walk_all(uint32_t state, TokenMask* mask) {
  const size_t slice = slice_of(state);
  const bool whole = slice >= vocabulary_->text_slices().size();
  const TokenTrie& trie = whole ? vocabulary_->trie() : *vocabulary_->text_slices()[slice].rest;
  if (!whole) *mask |= vocabulary_->text_slices()[slice].mask;
  walk(trie, 0, static_cast<uint32_t>(trie.nodes().size()), state, mask);
}

void WalkConstraint::fill(uint32_t state, TokenMask* mask) { walk_all(state, mask); }

}  // namespace decant
