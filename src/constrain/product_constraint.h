// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Texts that several constraints allow at once.
#pragma once

#include <memory>
#include <vector>

#include "constrain/constraint.h"
#include "constrain/json_vocabulary.h"

namespace decant {

// All of the parts, followed side by side. A token is left out if the parts have no common completion behind it, as far
// as a bounded search can tell (whether two context-free languages have a text in common is undecidable): where it
// gives up the token stays, and warnings() counts such places.
std::shared_ptr<Constraint> make_product_constraint(std::vector<std::shared_ptr<Constraint>> parts,
                                                    std::shared_ptr<const JsonVocabulary> vocabulary);

}  // namespace decant
