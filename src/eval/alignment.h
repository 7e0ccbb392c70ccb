// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// How far are constrained answers from the model's own distribution on the language? The same prompt and constraint are
// sampled by masking, by ASAp and exactly; curves over the number of samples show
//
//   - as the paper does (Park et al. 2024): the KL divergence of the last n/4 answers from P restricted to all answers
//     that any method gave, and the mean of that restricted P over them, beside the value an ideal sampler has;
//   - where the language is small enough to be enumerated, the total variation and KL divergence of the law that the
//     next answer is drawn from, without any sampling error;
//   - the bound c(root) on P(language) and what the answers cost.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "engine/align.h"

namespace decant {

struct AlignmentEvalOptions {
  int samples = 1000;
  size_t explore_nodes = 20000;  // prefixes at most for a language that is enumerated; 0: never
  int64_t max_attempts = 20000;  // for one exact answer
  std::vector<AlignMode> modes = {AlignMode::kMask, AlignMode::kAsap, AlignMode::kExact};
  const std::atomic<bool>* cancel = nullptr;
};

struct AlignmentPoint {
  int samples = 0;
  double kl = 0;              // nats, of the window from P restricted to what was seen
  double kl_ideal = 0;        // the same for independent draws from the latter: what a window of this size cannot avoid
  double expectation = 0;     // mean of the restricted P over the window
  double mean_log_p = 0;      // over the window
  double log_c = 0;           // of the root
  double attempts = 0;        // for one answer, in the mean so far; likewise below
  double steps = 0;           // rows that were needed
  double forward_passes = 0;  // rows that the model computed
  // Of an enumerated language: the law of the next answer from the conditional. Exact answers have the conditional
  // itself.
  std::optional<double> total_variation, law_kl;
  // All answers so far against the conditional, and what independent draws from it have as a bound of the mean.
  std::optional<double> empirical_variation, sampling_error;
};

struct AlignmentCurve {
  AlignMode mode;
  std::vector<AlignmentPoint> points;
  std::string stopped;  // why there are fewer than was asked for, or ""
};

struct AlignmentReport {
  size_t seen = 0;               // different answers of all methods
  double ideal_expectation = 0;  // sum of the restricted P squared
  bool enumerated = false;
  size_t texts = 0, prefixes = 0;  // of an enumerated language
  double log_p_language = 0;       // likewise
  std::vector<AlignmentCurve> curves;
};

// Of the request: as for AlignedSampler. `progress` gets the method and how many answers it has.
Result<AlignmentReport> run_alignment(Engine& engine, const GenerateRequest& request,
                                      const AlignmentEvalOptions& options,
                                      const std::function<void(AlignMode mode, int done)>& progress = {});

}  // namespace decant
