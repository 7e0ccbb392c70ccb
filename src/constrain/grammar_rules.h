// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// From productions of any form to those of CompiledGrammar.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"
#include "constrain/grammar.h"

namespace decant {

struct GrammarSymbol {
  bool is_terminal;
  uint32_t id;  // a RegexId or the number of a rule
  auto operator<=>(const GrammarSymbol&) const = default;
};
using GrammarSentence = std::vector<GrammarSymbol>;

// Strongly connected components of a graph, those that an edge leads to first: the component of every node.
std::vector<uint32_t> strong_components(const std::vector<std::vector<uint32_t>>& edges, uint32_t* count);

// rules[r]: the productions of rule r. Freezes the pool. `derives`, if given, becomes whether rule r derives a text.
// kUnsupported for what grows beyond fixed limits.
Result<CompiledGrammar> normalize_grammar(const std::vector<std::vector<GrammarSentence>>& rules, uint32_t start,
                                          std::shared_ptr<RegexPool> pool, std::vector<bool>* derives);

}  // namespace decant
