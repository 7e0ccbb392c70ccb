// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// How an answer can end, for constraints of any kind.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "constrain/constraint.h"

namespace decant {

// Tokens that spell the text, each as long as possible; nullopt where no token goes on.
std::optional<int> count_tokens(const TokenTrie& trie, std::string_view text);

// The text that has to come behind a state, whatever follows it: up to where it could end or go on in two ways, or a
// fixed number of bytes.
std::string forced_text(Constraint& constraint, const ConstraintState& state);

// What a byte costs a search for an end: those that close something are tried before those that open or lengthen it.
int completion_cost(uint8_t byte);

// Looks for a text that leads from a state to one that `ends`, the one whose bytes cost the least first; bytes whose
// cost is negative are not tried. `next` is the state after a byte, or nullopt. At most `fuel` states are visited,
// those that are one value once.
std::optional<std::string> search_completion(
    const ConstraintState& state,
    const std::function<std::optional<ConstraintState>(const ConstraintState&, uint8_t)>& next,
    const std::function<bool(const ConstraintState&)>& ends,
    const std::function<int(const ConstraintState&, uint8_t)>& cost, int fuel);

}  // namespace decant
