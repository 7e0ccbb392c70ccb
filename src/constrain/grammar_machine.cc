// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "constrain/grammar_machine.h"

#include <algorithm>

namespace decant {
namespace {

constexpr size_t kMaxStates = 20'000;   // in a machine before it is full
constexpr size_t kMaxStacks = 200'000;  //
constexpr size_t kMaxExpressions = 4'000'000;
constexpr int64_t kFuel = 1'000'000;  // entries of stacks, threads and productions that one mask may touch
constexpr int kMaxUniteDepth = 64;    // deeper stacks stay beside each other
constexpr uint32_t kNone = CompiledGrammar::kNone;

// The characters that some bytes can become: no overlong forms. Surrogates may be among them.
CharRange range_of(uint32_t code, uint8_t left, uint8_t total) {
  constexpr uint32_t kShortest[] = {0x80, 0x800, 0x10000};
  return {std::max(code << (6 * left), kShortest[total - 2]),
          std::min((code << (6 * left)) + (1u << (6 * left)) - 1, kMaxCodePoint)};
}

Status too_much() {
  return Status::exhausted("too many derivations at once to follow them all; make the grammar less ambiguous");
}

}  // namespace

size_t GrammarMachine::KeyHash::operator()(const std::vector<uint32_t>& key) const {
  uint64_t h = 0x9E3779B97F4A7C15u;
  for (const uint32_t v : key) {
    h = (h ^ v) * 0xFF51AFD7ED558CCDu;
    h ^= h >> 32;
  }
  return static_cast<size_t>(h);
}

GrammarMachine::GrammarMachine(std::shared_ptr<const CompiledGrammar> grammar)
    : grammar_(std::move(grammar)), pool_(*grammar_->pool), fuel_(kFuel) {}

void GrammarMachine::begin_work() { fuel_ = kFuel; }

GrammarMachine::StateId GrammarMachine::start() {
  if (grammar_->start == kNone) return grammar_->accepts_empty ? intern({}, true) : kDead;
  Calls calls;
  Threads threads;
  calls.emplace(grammar_->start, intern_stack({}, true));
  call_all(&calls, &threads);
  if (fuel_ < 0) {
    status_ = too_much();
    return kDead;
  }
  return intern(threads, grammar_->accepts_empty);
}

bool GrammarMachine::is_full() const { return states_.size() >= kMaxStates || stacks_.size() >= kMaxStacks; }

size_t GrammarMachine::bytes() const {
  return states_.size() * (sizeof(State) + 80) + threads_.size() * (sizeof(Thread) + 8) + class_steps_.size() * 40 +
         partial_ids_.size() * 64 + stacks_.size() * (sizeof(Stack) + 72) + entries_.size() * (sizeof(Entry) + 8) +
         unions_.size() * 40;
}

// --- Stacks ----------------------------------------------------------------------------------------------------------

GrammarMachine::StackId GrammarMachine::intern_stack(std::vector<Entry> entries, bool ends) {
  std::vector<uint32_t> key = {ends ? 1u : 0u};
  for (const Entry& e : entries) key.insert(key.end(), {e.rule, e.stack});
  const auto [it, is_new] = stack_ids_.emplace(std::move(key), static_cast<StackId>(stacks_.size()));
  if (is_new) {
    const auto begin = static_cast<uint32_t>(entries_.size());
    entries_.insert(entries_.end(), entries.begin(), entries.end());
    stacks_.push_back({begin, static_cast<uint32_t>(entries_.size()), ends});
  }
  return it->second;
}

// All alternatives of both; those that begin with the same rule are one, with united stacks behind it.
GrammarMachine::StackId GrammarMachine::unite(StackId a, StackId b, int depth) {
  if (a == b) return a;
  if (a > b) std::swap(a, b);
  const uint64_t key = uint64_t{a} << 32 | b;
  if (const auto it = unions_.find(key); it != unions_.end()) return it->second;
  std::vector<Entry> all(entries(a).begin(), entries(a).end());
  all.insert(all.end(), entries(b).begin(), entries(b).end());
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  fuel_ -= static_cast<int64_t>(all.size());
  if (fuel_ < 0) return a;
  const bool ends = stacks_[a].ends || stacks_[b].ends;
  if (depth < kMaxUniteDepth) {
    std::vector<Entry> merged;
    for (const Entry& e : all) {
      if (merged.empty() || merged.back().rule != e.rule) {
        merged.push_back(e);
      } else {
        merged.back().stack = unite(merged.back().stack, e.stack, depth + 1);
      }
    }
    all = std::move(merged);
  }
  const StackId result = intern_stack(std::move(all), ends);
  unions_.emplace(key, result);
  return result;
}

// Goes down from the rules that are called to their first terminals. In the order of rules, so that all that may follow
// a rule is known when its turn comes.
void GrammarMachine::call_all(Calls* calls, Threads* threads) {
  while (!calls->empty()) {
    const auto [rule, stack] = *calls->begin();
    calls->erase(calls->begin());
    for (const CompiledGrammar::Production& p : grammar_->rules[rule]) {
      if (--fuel_ < 0) return;
      const StackId behind = p.rest == kNone ? stack : intern_stack({{p.rest, stack}}, false);
      if (p.is_terminal) {
        put(threads, p.first, behind);
      } else {
        put(calls, p.first, behind);
      }
    }
  }
}

// --- States ----------------------------------------------------------------------------------------------------------

GrammarMachine::StateId GrammarMachine::intern(const Threads& threads, bool accepts) {
  std::vector<uint32_t> key = {accepts ? 1u : 0u};
  for (const auto& [left, stack] : threads) key.insert(key.end(), {left, stack});
  fuel_ -= static_cast<int64_t>(threads.size());
  const auto [it, is_new] = state_ids_.emplace(std::move(key), static_cast<StateId>(states_.size()));
  if (is_new) {
    State state{.begin = static_cast<uint32_t>(threads_.size()), .end = 0, .accepts = accepts};
    for (const auto& [left, stack] : threads) threads_.push_back({left, stack});
    state.end = static_cast<uint32_t>(threads_.size());
    states_.push_back(state);
  }
  return it->second;
}

GrammarMachine::StateId GrammarMachine::step(StateId state, uint8_t byte) {
  if (states_[state].total != 0) return go_on_with_character(state, byte);
  return byte < 0x80 ? step_class(state, pool_.class_of(byte)) : begin_character(state, byte);
}

GrammarMachine::StateId GrammarMachine::step_class(StateId state, CharClassId c) {
  const uint64_t key = uint64_t{state} << 16 | c;
  if (const auto it = class_steps_.find(key); it != class_steps_.end()) return it->second;
  Calls calls;
  Threads threads;
  bool accepts = false;
  const State from = states_[state];
  for (uint32_t i = from.begin; i < from.end; ++i) {
    const Thread t = threads_[i];
    const RegexId left = pool_.derive(t.left, c);
    --fuel_;
    if (left == pool_.none() || !pool_.live(left)) continue;
    if (left != pool_.empty()) put(&threads, left, t.stack);
    if (!pool_.nullable(left)) continue;
    accepts = accepts || stacks_[t.stack].ends;
    for (uint32_t k = stacks_[t.stack].begin; k < stacks_[t.stack].end; ++k) {
      const Entry e = entries_[k];
      put(&calls, e.rule, e.stack);
      --fuel_;
    }
  }
  call_all(&calls, &threads);
  StateId result = kDead;
  if (fuel_ < 0 || pool_.size() > kMaxExpressions || stacks_.size() > 4 * kMaxStacks) {
    status_ = too_much();
  } else if (!threads.empty() || accepts) {
    result = intern(threads, accepts);
  }
  class_steps_.emplace(key, result);
  return result;
}

bool GrammarMachine::takes_any(StateId state, uint32_t first, uint32_t last) {
  pool_.classes_in(first, last, &classes_);
  for (const CharClassId c : classes_) {
    for (uint32_t i = states_[state].begin; i < states_[state].end; ++i) {
      const RegexId left = pool_.derive(threads_[i].left, c);
      if (left != pool_.none() && pool_.live(left)) return true;
    }
  }
  return false;
}

GrammarMachine::StateId GrammarMachine::begin_character(StateId state, uint8_t byte) {
  if (byte >= 0xC2 && byte <= 0xDF) return within_character(state, byte & 0x1Fu, 1, 2);
  if (byte >= 0xE0 && byte <= 0xEF) return within_character(state, byte & 0x0Fu, 2, 3);
  if (byte >= 0xF0 && byte <= 0xF4) return within_character(state, byte & 0x07u, 3, 4);
  return kDead;
}

GrammarMachine::StateId GrammarMachine::go_on_with_character(StateId state, uint8_t byte) {
  if ((byte & 0xC0) != 0x80) return kDead;
  const State s = states_[state];
  const uint32_t code = s.code << 6 | (byte & 0x3Fu);
  if (s.left > 1) return within_character(s.base, code, static_cast<uint8_t>(s.left - 1), s.total);
  return step_class(s.base, pool_.class_of(code));
}

GrammarMachine::StateId GrammarMachine::within_character(StateId base, uint32_t code, uint8_t left, uint8_t total) {
  const uint32_t key = code << 4 | static_cast<uint32_t>(left) << 2 | (total - 2u);
  const auto it = partial_ids_.find({base, key});
  if (it != partial_ids_.end()) return it->second;
  const auto [first, last] = range_of(code, left, total);
  bool taken = false;
  if (first <= last) {
    if (last < 0xD800 || first > 0xDFFF) {
      taken = takes_any(base, first, last);
    } else {
      taken = (first < 0xD800 && takes_any(base, first, 0xD7FF)) || (last > 0xDFFF && takes_any(base, 0xE000, last));
    }
  }
  StateId result = kDead;
  if (taken) {
    result = static_cast<StateId>(states_.size());
    states_.push_back(
        {.begin = 0, .end = 0, .accepts = false, .base = base, .code = code, .left = left, .total = total});
  }
  partial_ids_.emplace(std::pair{base, key}, result);
  return result;
}

std::optional<GrammarMachine::Within> GrammarMachine::within(StateId state) const {
  const State& s = states_[state];
  if (s.total == 0) return std::nullopt;
  const auto [first, last] = range_of(s.code, s.left, s.total);
  return Within{first, last, s.left};
}

GrammarMachine::StateId GrammarMachine::copy_to(StateId state, GrammarMachine* other) const {
  const State& s = states_[state];
  if (s.total != 0) return other->within_character(copy_to(s.base, other), s.code, s.left, s.total);
  // A stack is made after those that it rests on.
  std::vector<StackId> needed;
  std::vector<bool> seen(stacks_.size(), false);
  const auto need = [&](StackId id) {
    if (seen[id]) return;
    seen[id] = true;
    needed.push_back(id);
  };
  for (const Thread& t : threads(state)) need(t.stack);
  for (size_t i = 0; i < needed.size(); ++i) {
    for (const Entry& e : entries(needed[i])) need(e.stack);
  }
  std::sort(needed.begin(), needed.end());
  std::unordered_map<StackId, StackId> made;
  for (const StackId id : needed) {
    std::vector<Entry> list(entries(id).begin(), entries(id).end());
    for (Entry& e : list) e.stack = made.at(e.stack);
    std::sort(list.begin(), list.end());
    made.emplace(id, other->intern_stack(std::move(list), ends(id)));
  }
  Threads copied;
  for (const Thread& t : threads(state)) copied.emplace(t.left, made.at(t.stack));
  return other->intern(copied, s.accepts);
}

}  // namespace decant
