// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// What the drafts of JSON Schema say about schemas, as schemas: for references to the specification's own addresses, so
// that these need no network. Made from tables of keywords and what their values are; annotations are left out, and so
// is the format "regex" of patterns, which is not enforced.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace decant {

// The schema at an address without a fragment: drafts 4, 6, 7, 2019-09 and 2020-12, of the last two also their
// vocabularies (".../meta/validation"). nullopt for any other.
std::optional<std::string> metaschema(std::string_view address);

}  // namespace decant
