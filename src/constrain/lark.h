// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// The grammar notation of Lark (a Python parser generator): rules in lower case, TERMINALS in upper case, "strings" and
// /regular expressions/ with flags, "a".."z", groups, [optional], | * + ? ~n ~n..m, %ignore, %import common.NAME,
// %declare (refused where the name is used). The answer is derived from the rule `start`. What says how a tree is built
// (?rule, !rule, -> alias) means nothing here, and neither do priorities: the language is grammar.h's, in which no
// terminal is preferred. Ignored terminals may stand before, between and behind all others.
//
// In regular expressions \d, \w and \s are Unicode's, as in Python, and . stands for all but a line feed. Flags: i, s,
// u; m is refused beside anchors, x and l are refused. Templates, %override, %extend and %import of files are refused.
#pragma once

#include <string>
#include <string_view>

#include "base/status.h"
#include "constrain/gbnf.h"
#include "constrain/grammar.h"

namespace decant {

// kInvalidArgument with line and column; kUnsupported for what is named above and beyond fixed limits.
Result<GrammarSource> parse_lark(std::string_view text, const std::string& name);

// Whether a text is more likely Lark's than GBNF: some line defines `start:`.
bool looks_like_lark(std::string_view text);

}  // namespace decant
