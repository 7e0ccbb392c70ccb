// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Addresses of schemas: RFC 3986's resolution of references.
#pragma once

#include <string>
#include <string_view>

namespace decant {

// `reference` seen from `base`, either of which may be relative or empty.
std::string resolve_uri(std::string_view base, std::string_view reference);
// Cuts the fragment off, percent-decoded and without its '#'.
void split_fragment(std::string* uri, std::string* fragment);

}  // namespace decant
