// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Numbers as JSON writes them, as regular languages: whole numbers, bounds, multiples, single values. Where a value is
// constrained, it is written without an exponent: the digits then say how it compares.
#pragma once

#include "base/status.h"
#include "constrain/json_tree.h"
#include "constrain/regex.h"

namespace decant {

// Every spelling of a JSON number.
RegexId any_number(RegexPool* pool);
// Spellings without an exponent; those of whole numbers (1, -0, 1.0).
RegexId plain_number(RegexPool* pool);
RegexId whole_number(RegexPool* pool);
// Those without a point.
RegexId digits_number(RegexPool* pool);
// Of each value its shortest plain spelling.
RegexId shortest_number(RegexPool* pool);

enum class Bound { kMinimum, kExclusiveMinimum, kMaximum, kExclusiveMaximum };
// Texts of digits, sign and point whose value is within the bound; to be intersected with plain_number(). kUnsupported
// for a bound of too many digits.
Result<RegexId> bounded_number(Bound bound, const Decimal& value, RegexPool* pool);
// Likewise the multiples of `value`, which is above zero. kUnsupported if its digits do not fit in 18.
Result<RegexId> multiple_of(const Decimal& value, RegexPool* pool);
// The plain spellings of one value.
Result<RegexId> number_equal_to(const Decimal& value, RegexPool* pool);

}  // namespace decant
