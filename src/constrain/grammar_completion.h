// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// The shortest texts, in bytes, that complete states of a grammar (Knuth, "A generalization of Dijkstra's algorithm",
// 1977, for the rules; Dijkstra's for expressions).
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "constrain/grammar_machine.h"

namespace decant {

class GrammarCompletion {
 public:
  explicit GrammarCompletion(std::shared_ptr<const CompiledGrammar> grammar);

  // nullopt where a search gave up, or the text would be longer than a fixed limit.
  std::optional<std::string> of(GrammarMachine& machine, GrammarMachine::StateId state);
  // The bytes of it.
  std::optional<uint32_t> length_of(GrammarMachine& machine, GrammarMachine::StateId state);
  // A machine that was asked about may go.
  void forget() { machine_ = nullptr; }

 private:
  static constexpr uint32_t kNever = UINT32_MAX;
  // The next character on the shortest way to the end of an expression; none where it is reached.
  struct Way {
    uint32_t cost = kNever;
    CharClassId c = 0;
    RegexId next = 0;
  };
  struct Choice {
    uint32_t cost = kNever;
    uint32_t which = 0;  // a production of a rule, an entry of a stack
  };

  void solve_rules();
  // Of an expression, to its end; with at least one character.
  const Way& way(RegexId id);
  const Way& longer_way(RegexId id);
  Choice stack(const GrammarMachine& machine, GrammarMachine::StackId id);
  void write_terminal(RegexId id, std::string* out);
  bool write_rules(std::vector<uint32_t> open, std::string* out);

  std::shared_ptr<const CompiledGrammar> grammar_;
  RegexPool& pool_;
  std::vector<uint32_t> characters_;  // by class: one of the shortest
  std::unordered_map<RegexId, Way> ways_, longer_ways_;
  std::vector<Choice> rules_;
  bool solved_ = false;
  const GrammarMachine* machine_ = nullptr;  // whose stacks these are
  std::vector<Choice> stacks_;
};

}  // namespace decant
