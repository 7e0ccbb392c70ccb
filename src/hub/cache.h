// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Where models of a hub lie on this machine:
//
//   ROOT/OWNER/NAME/refs/REVISION   a file with the commit that the revision was when it was pulled
//   ROOT/OWNER/NAME/COMMIT/PATH     the files
//
// Files appear whole (PartFile), and the reference is written after all of them.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"
#include "hub/listing.h"
#include "hub/name.h"

namespace decant {

class HubCache {
 public:
  explicit HubCache(std::string root) : root_(std::move(root)) {}

  const std::string& root() const { return root_; }
  std::string folder(const HubName& name, const std::string& commit) const;
  // Files of this path and size in the commits that are here; an upload to a repository changes few of its files.
  std::vector<std::string> copies(const HubName& name, const HubFile& file) const;
  Status write_reference(const HubName& name, const std::string& commit) const;

  // What -m opens for a pulled model: a GGUF file, or the folder of a safetensors model. Never asks the hub. kNotFound
  // when it was not pulled or not wholly.
  Result<std::string> find(const HubName& name) const;

  // What can be given to find(), as `decant pull` takes it, sorted: OWNER/NAME[@REVISION], or with each :FILE where one
  // has to be chosen. What was not pulled wholly is left out.
  std::vector<std::string> list() const;

 private:
  std::string reference_path(const HubName& name) const;
  std::string root_;
};

}  // namespace decant
