// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// The web playground, src/serve/playground/, as the program holds it: files without dependencies on other places.
#pragma once

#include <span>
#include <string_view>

namespace decant::serve {

struct Asset {
  std::string_view path;  // "/", "/app.js", ...
  std::string_view content_type;
  std::string_view body;
  std::string_view etag;  // with its quotes
};

std::span<const Asset> playground_assets();

// The Content-Security-Policy of all of them: nothing but the server's own files and its own API, nothing inline, no
// frame around it.
inline constexpr std::string_view kPlaygroundPolicy =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'";

}  // namespace decant::serve
