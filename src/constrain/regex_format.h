// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// The format "regex" as a regular language. Regular expressions nest their groups, so that only a part of them is one:
// expressions that mean the same to ECMA-262 (with the flag u) and to Python's re, their groups nested at most
// kRegexFormatDepth deep.
#pragma once

#include "constrain/regex.h"

namespace decant {

inline constexpr int kRegexFormatDepth = 6;

// Left out besides: back-references, names of groups, \p, \c and \0; look-behind but of single characters, one after
// the other; an empty class; in a class, unescaped brackets, and a hyphen that is neither first nor last nor between
// two characters of which the first is in ASCII; ranges of \u escapes that begin with the same two digits; repetitions
// of more than 9999, or of at least and at most the same number of three digits or more.
RegexId regex_format(RegexPool* pool);

}  // namespace decant
