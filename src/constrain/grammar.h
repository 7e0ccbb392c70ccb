// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Context-free languages over Unicode text, as front ends (gbnf.h, lark.h) write them: named rules over expressions,
// whose leaves are regular languages (regex.h).
//
// The meaning is scannerless: a text is in the language when some way to cut it into terminals derives it. No terminal
// is preferred to another, and none has to be as long as possible.
//
//   Grammar grammar("--grammar");
//   const auto list = grammar.rule("list", {1, 1});
//   const auto item = grammar.text("x");
//   DECANT_TRY_STATUS(grammar.define(list, grammar.choice({item, grammar.sequence({grammar.reference(list), item})}),
//   {1, 1})); DECANT_TRY(CompiledGrammar compiled, std::move(grammar).compile(list));
//
// compile() folds what is regular into one terminal: rules without recursion, rules that recur at one end only, and
// neighbours and alternatives in all others. What remains is brought to a form that a machine follows without empty
// steps and without left recursion (CompiledGrammar), reduced to symbols from which a text can be derived. So every
// prefix that the machine follows can be completed.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "constrain/regex.h"

namespace decant {

// In the text of a grammar; from 1.
struct GrammarPlace {
  int line = 0, column = 0;
};

// Rules derive texts of at least one character.
struct CompiledGrammar {
  static constexpr uint32_t kNone = UINT32_MAX;
  struct Production {
    bool is_terminal;  // `first` is a RegexId (what is left of it must not be empty at first), else a rule
    uint32_t first;
    uint32_t rest;  // a rule, or kNone
    auto operator<=>(const Production&) const = default;
  };

  std::shared_ptr<RegexPool> pool;  // frozen
  // In an order in which `first` is always a later rule.
  std::vector<std::vector<Production>> rules;
  uint32_t start = kNone;      // kNone: no text but perhaps the empty one
  bool accepts_empty = false;  // whether the empty text is in the language
  std::vector<std::string> warnings;
};

class Grammar {
 public:
  using Expr = uint32_t;
  using Rule = uint32_t;

  // `name` stands for the grammar in messages.
  explicit Grammar(std::string name);

  const std::string& name() const { return name_; }
  RegexPool& pool() { return *pool_; }

  // --- Expressions ---
  // `size`: characters of its pattern or so; what is large is not copied into others.
  Expr regex(RegexId id, size_t size = 1);
  Expr chars(const CharSet& set) { return regex(pool_->chars(set)); }
  Expr text(std::string_view text, bool fold_case = false);  // valid UTF-8
  Expr empty() { return regex(pool_->empty(), 0); }
  Expr sequence(std::vector<Expr> parts);
  Expr choice(std::vector<Expr> parts);
  Expr repeat(Expr part, int min, int max);  // max: RegexPool::kUnbounded, or at least min
  Expr reference(Rule rule);

  // --- Rules ---
  // The rule of that name, made if it is not there; `place` is where it is named.
  Rule rule(std::string_view name, GrammarPlace place);
  std::optional<Rule> find(std::string_view name) const;
  // kInvalidArgument for a second definition.
  Status define(Rule rule, Expr body, GrammarPlace place);
  void warn(std::string text) { warnings_.push_back(std::move(text)); }

  // "name: line 3, column 5: "
  Status wrong(GrammarPlace place, const std::string& what) const;
  Status unsupported(GrammarPlace place, const std::string& what) const;

  // kInvalidArgument for a rule that is not defined or from which no text can be derived, with its place; kUnsupported
  // for what is larger than fixed limits.
  Result<CompiledGrammar> compile(Rule start) &&;

 private:
  friend class GrammarFolder;
  friend class GrammarLowering;
  enum class Kind : uint8_t { kRegex, kSequence, kChoice, kRepeat, kReference };
  struct Node {
    Kind kind;
    RegexId regex = 0;        // kRegex
    uint32_t rule = 0;        // kReference
    int min = 0, max = 0;     // kRepeat
    std::vector<Expr> parts;  // of all others
    size_t size = 0;          // kRegex
  };
  struct Named {
    std::string name;
    GrammarPlace place;
    std::optional<Expr> body;
  };
  Expr add(Node node);
  std::vector<Rule> rules_used_by(Rule start) const;

  std::string name_;
  std::shared_ptr<RegexPool> pool_;
  std::vector<Node> nodes_;
  std::vector<Named> rules_;
  std::map<std::string, Rule, std::less<>> rule_ids_;
  std::vector<std::string> warnings_;
};

// The alternation of these texts (valid UTF-8) as a trie: alternatives that begin alike share their beginning.
RegexId alternatives_of(std::vector<std::string> texts, RegexPool* pool);

}  // namespace decant
