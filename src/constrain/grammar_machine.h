// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Follows a text through a compiled grammar: all derivations at once, as a set of threads. A thread is what is left of
// a terminal (a derivative) and a stack: what has to follow it. Stacks are sets of alternatives that share their tails
// (Tomita 1987); equal ones are one number, and so are equal states. A call at the end of a production leaves nothing
// on the stack, so that lists which recur on the right do not grow.
//
// For every place in the text a rule is called at most once, with all that may follow it: the work for a character is
// bounded by the grammar and by the alternatives on the stack.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "constrain/grammar.h"

namespace decant {

class GrammarMachine {
 public:
  using StateId = uint32_t;
  using StackId = uint32_t;
  static constexpr uint32_t kDead = UINT32_MAX;

  explicit GrammarMachine(std::shared_ptr<const CompiledGrammar> grammar);

  struct Thread {
    RegexId left;
    StackId stack;
    auto operator<=>(const Thread&) const = default;
  };

  // kDead if no text is in the language.
  StateId start();
  // kDead: no text of the language begins so. Strict UTF-8. A state that is not kDead can be completed, unless a search
  // of the expressions gave up (RegexPool::live).
  StateId step(StateId state, uint8_t byte);
  bool accepts(StateId state) const { return states_[state].accepts; }
  // Of a state between two characters; empty within one.
  std::span<const Thread> threads(StateId state) const {
    return std::span(threads_).subspan(states_[state].begin, states_[state].end - states_[state].begin);
  }
  // Of a state within a character: the characters that it can become, and bytes that are missing.
  struct Within {
    uint32_t first, last;
    uint8_t left;
  };
  std::optional<Within> within(StateId state) const;
  // The same state in another machine for the same grammar.
  StateId copy_to(StateId state, GrammarMachine* other) const;

  // Of a stack: what may come first, with what has to follow; whether the text may end.
  struct Entry {
    uint32_t rule;
    StackId stack;
    auto operator<=>(const Entry&) const = default;
  };
  std::span<const Entry> entries(StackId stack) const {
    return std::span(entries_).subspan(stacks_[stack].begin, stacks_[stack].end - stacks_[stack].begin);
  }
  bool ends(StackId stack) const { return stacks_[stack].ends; }
  size_t stack_count() const { return stacks_.size(); }

  const CompiledGrammar& grammar() const { return *grammar_; }
  bool is_full() const;
  size_t bytes() const;
  // Until the next call, steps may do only so much; a step beyond it is kDead and status() says why.
  void begin_work();
  const Status& status() const { return status_; }

 private:
  struct State {
    uint32_t begin, end;  // in threads_
    bool accepts;
    // Within a character: where it began, and its bytes so far.
    StateId base = kDead;
    uint32_t code = 0;
    uint8_t left = 0, total = 0;
  };
  struct Stack {
    uint32_t begin, end;  // in entries_
    bool ends;
  };
  struct KeyHash {
    size_t operator()(const std::vector<uint32_t>& key) const;
  };
  using Calls = std::map<uint32_t, StackId>;
  using Threads = std::map<RegexId, StackId>;

  StateId step_class(StateId state, CharClassId c);
  StateId begin_character(StateId state, uint8_t byte);
  StateId go_on_with_character(StateId state, uint8_t byte);
  StateId within_character(StateId base, uint32_t code, uint8_t left, uint8_t total);
  bool takes_any(StateId state, uint32_t first, uint32_t last);
  void call_all(Calls* calls, Threads* threads);
  StateId intern(const Threads& threads, bool accepts);
  StackId intern_stack(std::vector<Entry> entries, bool ends);
  StackId unite(StackId a, StackId b, int depth = 0);
  template <typename Map>
  void put(Map* map, uint32_t key, StackId stack) {
    const auto [it, is_new] = map->emplace(key, stack);
    if (!is_new) it->second = unite(it->second, stack);
  }

  std::shared_ptr<const CompiledGrammar> grammar_;
  RegexPool& pool_;
  std::vector<State> states_;
  std::vector<Thread> threads_;
  std::unordered_map<std::vector<uint32_t>, StateId, KeyHash> state_ids_;
  std::unordered_map<uint64_t, StateId> class_steps_;
  std::map<std::pair<StateId, uint32_t>, StateId> partial_ids_;
  std::vector<Stack> stacks_;
  std::vector<Entry> entries_;
  std::unordered_map<std::vector<uint32_t>, StackId, KeyHash> stack_ids_;
  std::unordered_map<uint64_t, StackId> unions_;
  std::vector<CharClassId> classes_;
  int64_t fuel_;
  Status status_;
};

}  // namespace decant
