// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// What a load generator asks, and when. Both are pure functions of the seed, so that two servers get the same load.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace decant::cli {

enum class LoadMix {
  kFixed,         // prompts of one length that share nothing
  kSpecBench,     // first turns of Spec-Bench's questions, in turns from each category
  kSharedPrefix,  // one long beginning for all, then words of each one's own
  kLongPrompt,    // as kFixed, and a much longer one every so often
};

std::optional<LoadMix> parse_load_mix(std::string_view name);
std::string_view load_mix_name(LoadMix mix);

struct MixOptions {
  LoadMix mix = LoadMix::kFixed;
  int prompt_tokens = 64;    // of each prompt, behind a shared prefix
  int prefix_tokens = 1024;  // of the shared prefix
  int long_tokens = 4096;    // of the long prompts
  int long_every = 8;        // one of so many prompts is long
  std::string data;          // folder of spec-bench/question.jsonl
  uint64_t seed = 1;
};

// Prompts by number. Synthetic ones are of common English words, about one token each in the vocabularies of today; how
// many there were is what the server says in its usage.
class PromptMix {
 public:
  // Reads the questions of kSpecBench. kInvalidArgument without --data; else what load_spec_bench() says.
  static Result<PromptMix> open(const MixOptions& options);

  // Prompt `i` of the load; those of warm-up have numbers of their own and the same prefix.
  std::string prompt(uint64_t i) const;
  std::string warm_up_prompt(uint64_t i) const;
  bool is_long(uint64_t i) const;

 private:
  explicit PromptMix(const MixOptions& options);
  std::string make(uint64_t stream, uint64_t i) const;

  MixOptions options_;
  std::string prefix_;
  std::vector<std::string> questions_;
};

// Seconds at which requests arrive, ascending: a Poisson process of `rate` a second. As many as `count`, or (count 0)
// as come within `duration_s`, at most kMaxArrivals.
inline constexpr size_t kMaxArrivals = 10'000'000;
std::vector<double> poisson_arrivals(double rate, size_t count, double duration_s, uint64_t seed);

}  // namespace decant::cli
