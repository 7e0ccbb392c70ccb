// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Names of models on a hub, and the paths and URLs made from them.
#pragma once

#include <string>
#include <string_view>

#include "base/status.h"

namespace decant {

// OWNER/NAME[@REVISION][:FILE].
struct HubName {
  std::string owner, name;
  std::string revision;  // a branch, tag or commit; "": main
  std::string file;      // a path in the repository, or a quantization such as Q4_K_M; "": what fits best

  std::string repository() const { return owner + "/" + name; }
  std::string revision_or_main() const { return revision.empty() ? "main" : revision; }
};

// Whether the text has the shape of such a name: two parts of letters, digits, '.', '_' and '-', and none of them only
// dots. A relative path can have it too.
bool is_hub_name(std::string_view text);

// kInvalidArgument saying which part is wrong.
Result<HubName> parse_hub_name(std::string_view text);

// A branch, tag or commit that is safe in a URL and in a file's name. kInvalidArgument otherwise.
Status check_revision(std::string_view revision);

// A path below a folder: not empty, relative, '/' between its parts, none of them "", "." or "..", no backslash, no
// control character, and short enough for a file system. kCorrupt otherwise; hubs are not trusted.
Status check_repository_path(std::string_view path);

bool is_commit(std::string_view text);  // 40 hex digits, lower case

// Percent-encoding (RFC 3986): everything but unreserved characters, and but '/' with `keep_slashes`.
std::string escape_url(std::string_view text, bool keep_slashes);

// The hub's address without a slash at its end. kInvalidArgument unless it is http:// or https:// and a host, with an
// optional port and path; no user, query or fragment.
Result<std::string> check_hub_address(std::string_view address);

}  // namespace decant
