// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// RASD's two steps on token trees: pruning what was retrieved by what a model holds plausible, and joining it with the
// model's tree along their longest common prefixes.
#pragma once

#include <functional>

#include "engine/token_tree.h"

namespace decant {

// Adds those nodes of `from` to `to` that are plausible and whose parents are there.
void prune(const TokenTree& from, const std::function<bool(const TokenTree& from, int node)>& plausible, TokenTree* to);

// Adds all of `from` that `to` takes.
void graft(const TokenTree& from, TokenTree* to);

// Adds to `tree` the likeliest nodes (by reach) of the union of both, until it is full; what it has stays. A node of
// both keeps the higher estimate and its evidence.
void fuse(const TokenTree& drafted, const TokenTree& retrieved, TokenTree* tree);

}  // namespace decant
