// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Works of `decant bench` that compare ways to do the same: attention over a shared prefix, and prefill of many
// prompts.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "engine/engine.h"

namespace decant::cli {

// One way, measured.
struct WayResult {
  std::string name;
  std::vector<double> seconds;  // sorted, of one pass
  double computed = 0;          // prefill: rows that went through the model

  double median() const;
};

// Calls each way in turn, `repeat` times after a round to warm up, so that a neighbour's load meets all of them alike.
// A way returns the seconds that count.
struct Way {
  std::string name;
  std::function<Result<double>()> pass;
};
Result<std::vector<WayResult>> measure_ways(std::span<const Way> ways, int repeat);

// One layer's attention of the engine's model, for `rows` sequences of one new token each that begin with the same
// `prefix` tokens (random keys and values).
struct SharedPrefixResult {
  // "copies": each sequence has the prefix for itself; "apart": the pages are shared, and read for each sequence;
  // "together": and read once for all.
  std::vector<WayResult> ways;
  double operations = 0;  // two for each multiply-add of q.k and p.v
  double peak = 0;        // float operations per second at most; 0: unknown
};
Result<SharedPrefixResult> measure_shared_prefix(Engine& engine, int rows, int prefix, int repeat);

// Prompt lengths as a server meets them: most of 20 to 80 tokens, every tenth of 600 to 1,000.
std::vector<int> skewed_lengths(int prompts);

// Prefill of prompts of these lengths. "padded": as rectangles, all as long as the longest; "one by one"; "packed": as
// many rows of any prompts in a step as it takes. All must give the same bits, or kInternal.
struct PrepackResult {
  std::vector<WayResult> ways;
  double tokens = 0;  // of all prompts
};
Result<PrepackResult> measure_prepacking(Engine& engine, std::span<const int> lengths, int repeat);

// Steps of at most `budget` rows that hold all prompts: best fit, longest first. What of a prompt is longer than a step
// fills steps of its own first.
struct PackedPart {
  int prompt, begin, rows;
};
std::vector<std::vector<PackedPart>> pack_prompts(std::span<const int> lengths, int budget);

}  // namespace decant::cli
