// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// GBNF, the grammar notation of llama.cpp: `name ::= ...` with "literals", [classes], . (any character), groups, |, the
// quantifiers * + ? {m} {m,} {,n} {m,n} and # comments. The answer is derived from the rule `root`. A rule goes on,
// over any number of lines, until the next `name ::=`. Escapes name characters: \xNN, \uNNNN, \UNNNNNNNN, \n, \r, \t,
// and any ASCII punctuation stands for itself behind a backslash.
#pragma once

#include <string>
#include <string_view>

#include "base/status.h"
#include "constrain/grammar.h"

namespace decant {

struct GrammarSource {
  Grammar grammar;
  Grammar::Rule start;
};

// kInvalidArgument with line and column; kUnsupported for references to tokens (<name>, <[id]>) and beyond fixed
// limits.
Result<GrammarSource> parse_gbnf(std::string_view text, const std::string& name);

}  // namespace decant
