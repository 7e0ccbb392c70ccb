// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"

namespace decant::cli {

struct ChildCommand {
  std::vector<std::string> arguments;                            // the program first; looked up in $PATH
  std::vector<std::pair<std::string, std::string>> environment;  // added to ours
  bool merge_stderr = true;                                      // stderr goes where stdout goes; else it is discarded
};

struct ChildResult {
  int exit_code = -1;       // 128 + n when signal n ended it
  int64_t peak_memory = 0;  // bytes
};

// Runs a program to its end. `on_output` gets its output as it comes; `on_tick` is called about ten times a second.
// When either returns false the child gets SIGTERM (a second later SIGKILL) and the result is kCancelled. kNotFound
// when there is no such program.
Result<ChildResult> run_child(const ChildCommand& command, const std::function<bool(std::string_view)>& on_output,
                              const std::function<bool()>& on_tick);

}  // namespace decant::cli
