// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// What a load of streamed requests showed: throughput, waiting times as a reader of the streams had them, and the share
// of requests that met their goals.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace decant::cli {

// One request. Times are seconds since the load began.
struct StreamRecord {
  double start = 0;                // when it was sent or, with arrivals of their own, should have been
  double end = 0;                  // of its last byte, or when it was given up
  std::vector<double> chunks;      // when each chunk with text came; a server may put several tokens in one
  int64_t prompt_tokens = -1;      // as the server counts them; -1: it did not say (likewise below)
  int64_t cached_tokens = -1;      // of them, those that were there already
  int64_t completion_tokens = -1;  // of the answer
  bool is_long = false;            // one of the long prompts of its mix
  bool is_cut = false;             // the time was over before its end
  std::string error;               // why it failed, or ""
};

// The p-th percentile, p from 0 to 100, of ascending values: linear between the two nearest ranks, as numpy has it. NaN
// for none.
double percentile(const std::vector<double>& sorted, double p);

struct Distribution {
  size_t count = 0;
  double mean = 0, p50 = 0, p95 = 0, p99 = 0, max = 0;  // NaN when there is nothing
};
Distribution distribution_of(std::vector<double> values);

// A limit that a request has to keep to count as good.
struct LoadGoal {
  enum class Kind {
    kFirstToken,  // "ttft": until the first text
    kGap,         // "itl": 99 of 100 of its gaps between chunks
    kMaxGap,      // "gap": all of them
    kPerToken,    // "tpot": (last - first) / (tokens - 1)
    kRequest,     // "e2e": until the end
  };
  Kind kind;
  double seconds;
};
// "ttft:500ms,itl:50ms". kInvalidArgument with the part that is no goal.
Result<std::vector<LoadGoal>> parse_goals(std::string_view text);
bool meets(const StreamRecord& record, const std::vector<LoadGoal>& goals);

struct LoadFigures {
  size_t requests = 0, completed = 0, failed = 0, cut = 0;
  double seconds = 0;  // from the first request until the last byte
  // Output tokens are those of the server's usage. Where that is missing (no usage at all, requests that were cut) they
  // are counted by chunks, at the tokens a chunk had where both are known (one, where they are not).
  double output_tokens = 0;
  size_t chunks = 0;
  size_t with_usage = 0;  // requests
  int64_t prompt_tokens = 0, cached_tokens = 0;
  Distribution first_token, gap, per_token, request;  // seconds; of requests that did not fail
  Distribution stall;  // a stream's longest gap over its median gap; streams of 3 gaps up
  size_t good = 0;     // completed and within all goals
  std::map<std::string, size_t> errors;
};
LoadFigures figures_of(const std::vector<StreamRecord>& records, const std::vector<LoadGoal>& goals);

}  // namespace decant::cli
