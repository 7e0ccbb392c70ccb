// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// What `decant tune` found out about a model on a machine, and what `--draft auto` goes by.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "engine/engine.h"

namespace decant {

struct DraftProfile {
  // What it was measured on. A profile of another model or machine is not used.
  std::string processor, kernels;
  int threads = 0;
  uint64_t vocabulary = 0;  // vocabulary_hash()
  uint64_t weight_bytes = 0;

  std::string draft;                 // the spec found best, or "none"
  std::vector<double> step_seconds;  // of 1, 2, ... rows
  struct Method {
    std::string spec;
    double speedup, tokens_per_step;
  };
  std::vector<Method> methods;  // all that were tried

  bool fits(const DraftProfile& here) const;
  // A name for the file, by what it was measured on.
  std::string file_name() const;
};

// What the profile of this engine would say it was measured on.
DraftProfile profile_key(const Engine& engine, uint64_t vocabulary);
// The file appears whole; its folder is made if it is not there.
Status write_profile(const DraftProfile& profile, const std::string& path);
// kNotFound; kCorrupt for what is no profile (field, what is expected).
Result<DraftProfile> read_profile(const std::string& path);

// Median seconds of steps that verify 1, 2, ... `max_rows` rows behind a text of `context` tokens, as drafts do.
Result<std::vector<double>> measure_steps(Engine& engine, int max_rows, int context);

}  // namespace decant
