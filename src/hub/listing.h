// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// A hub's answers about a repository, and which of its files make a model. Answers are untrusted: whatever is not as
// it should be is kCorrupt, with the field's name.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "hub/name.h"

namespace decant {

struct HubFile {
  std::string path;      // in the repository; check_repository_path() holds
  int64_t size = 0;      // bytes
  std::string sha256;    // of a file in large-file storage (LFS), lower-case hex; else ""
  std::string git_blob;  // git's name of the content, of other files; else ""
};

// The commit in an answer to /api/models/OWNER/NAME/revision/REVISION: its field `sha`.
Result<std::string> parse_commit(std::string_view json);

// Adds the files of one page of /api/models/OWNER/NAME/tree/COMMIT?recursive=true: a list of objects with type, path,
// size, oid and, for LFS, lfs.oid and lfs.size.
Status parse_tree_page(std::string_view json, std::vector<HubFile>* files);

// The query (after '?') of the next page's address in a Link header (RFC 8288), or "".
std::string next_page_query(std::string_view link_header);

// The shards that a model.safetensors.index.json names in weight_map: file names, sorted, each once.
Result<std::vector<std::string>> parse_shard_index(std::string_view json);

struct HubChoice {
  std::vector<HubFile> files;  // to fetch, in this order
  // What -m opens: the first GGUF file, or "" for the folder of a safetensors model.
  std::string entry;
  // The index that names further files (the shards), or "".
  std::string index;
};

// Picks a model's files. With `file`: that file, or the GGUF files of that quantization (in any case of letters).
// Without: safetensors with configuration and tokenizer, else the GGUF file of Q4_K_M, else Q8_0, else the only one.
// Parts of a split GGUF file belong together. kNotFound listing what there is; kCorrupt when parts are missing.
Result<HubChoice> choose_files(const std::vector<HubFile>& files, std::string_view file);

// Content-Range of an answer 206: "bytes FIRST-LAST/TOTAL"; total -1 for '*'.
struct ContentRange {
  int64_t first = 0, last = 0, total = -1;
};
Result<ContentRange> parse_content_range(std::string_view header);

}  // namespace decant
