// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// The first byte says what the rest is: a page of a repository's files, an answer about a revision, an index of shards,
// a header, or a name. What is accepted keeps its promises: paths stay below their folder, a choice is part of the
// list.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "hub/listing.h"
#include "hub/name.h"

namespace decant {
namespace {

void check_choice(const std::vector<HubFile>& files, std::string_view file) {
  const auto choice = choose_files(files, file);
  if (!choice.ok()) {
    DECANT_CHECK(!choice.status().message().empty());
    return;
  }
  DECANT_CHECK(!choice->files.empty());
  for (const HubFile& chosen : choice->files) {
    DECANT_CHECK(std::any_of(files.begin(), files.end(), [&](const HubFile& f) { return f.path == chosen.path; }));
  }
}

void check_page(std::string_view text) {
  std::vector<HubFile> files;
  if (!parse_tree_page(text, &files).ok()) return;
  for (const HubFile& f : files) {
    DECANT_CHECK(check_repository_path(f.path).ok() && f.size >= 0);
    DECANT_CHECK(f.sha256.empty() || f.sha256.size() == 64);
    DECANT_CHECK(f.git_blob.empty() || f.git_blob.size() == 40);
  }
  for (const char* file : {"", "Q4_K_M", "q8_0"}) check_choice(files, file);
  if (!files.empty()) check_choice(files, files.back().path);
}

void check_name(std::string_view text) {
  const auto name = parse_hub_name(text);
  if (!name.ok()) return;
  DECANT_CHECK(is_hub_name(text));
  DECANT_CHECK(check_repository_path(name->repository()).ok() && check_revision(name->revision_or_main()).ok());
  DECANT_CHECK(name->file.empty() || check_repository_path(name->file).ok());
  DECANT_CHECK(escape_url(name->revision, false).find('/') == std::string::npos);
}

}  // namespace
}  // namespace decant

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace decant;
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 6) {
    case 0: check_page(text); break;
    case 1:
      if (const auto commit = parse_commit(text); commit.ok()) DECANT_CHECK(is_commit(*commit));
      break;
    case 2:
      if (const auto shards = parse_shard_index(text); shards.ok()) {
        for (const std::string& s : *shards) DECANT_CHECK(check_repository_path(s).ok());
      }
      break;
    case 3: DECANT_CHECK(next_page_query(text).find_first_of(" \r\n") == std::string::npos); break;
    case 4:
      if (const auto range = parse_content_range(text); range.ok())
        DECANT_CHECK(0 <= range->first && range->first <= range->last);
      break;
    default: check_name(text);
  }
  return 0;
}
