// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace decant {

// Where the suffixes of `text` begin, in ascending order of the suffixes; a suffix that is the beginning of another one
// comes before it. Values from 0 to `largest`. Linear time (SA-IS, Nong, Zhang and Chan 2009) and about 12 bytes a
// value of memory besides the result.
std::vector<int32_t> suffix_array(std::span<const int32_t> text, int32_t largest);

}  // namespace decant
