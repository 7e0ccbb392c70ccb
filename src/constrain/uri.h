// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Addresses of schemas: RFC 3986's resolution of references.
#pragma once

#include <string>
#include <string_view>

namespace decant {

// `reference` seen from `base`, either of which may be relative or empty. Where both are, ".." that lead further out
// than `base` says stay at the beginning.
std::string resolve_uri(std::string_view base, std::string_view reference);
// "%20" and the like as the bytes that they stand for.
std::string percent_decoded(std::string_view text);
// Cuts the fragment off, percent-decoded and without its '#'.
void split_fragment(std::string* uri, std::string* fragment);

}  // namespace decant
