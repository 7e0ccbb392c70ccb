// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "eval/alignment.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <unordered_map>

#include "base/rng.h"

namespace decant {
namespace {

using Text = std::vector<TokenId>;

constexpr size_t kMaxTexts = 1 << 20;
constexpr int kIdealRuns = 20;

// 1, 2, 5, 10, 20, 50, ... and the last.
std::vector<int> checkpoints(int samples) {
  std::vector<int> out;
  for (int64_t decade = 1; decade < samples; decade *= 10) {
    for (const int64_t n : {decade, 2 * decade, 5 * decade}) {
      if (n < samples) out.push_back(static_cast<int>(n));
    }
  }
  out.push_back(samples);
  return out;
}

// The texts that came and how likely the model finds them.
class Seen {
 public:
  size_t add(const Text& text, double log_p) {
    const auto [at, is_new] = index_.try_emplace(text, log_p_.size());
    if (is_new) log_p_.push_back(log_p);
    return at->second;
  }
  // P restricted to them.
  std::vector<double> restricted() const {
    const double largest = log_p_.empty() ? 0 : *std::max_element(log_p_.begin(), log_p_.end());
    std::vector<double> out;
    double total = 0;
    for (const double x : log_p_) out.push_back(std::exp(x - largest)), total += out.back();
    for (double& x : out) x /= total;
    return out;
  }
  double log_p(size_t text) const { return log_p_[text]; }

 private:
  std::map<Text, size_t> index_;
  std::vector<double> log_p_;
};

double kl_from(std::span<const size_t> window, const std::vector<double>& p) {
  std::unordered_map<size_t, int> counts;
  for (const size_t text : window) ++counts[text];
  const auto n = static_cast<double>(window.size());
  double kl = 0;
  for (const auto& [text, count] : counts) kl += count / n * std::log(count / n / p[text]);
  return kl;
}

double ideal_kl(size_t window, const std::vector<double>& p) {
  std::vector<double> cumulated;
  double sum = 0;
  for (const double x : p) cumulated.push_back(sum += x);
  double kl = 0;
  std::vector<size_t> drawn(window);
  for (int run = 0; run < kIdealRuns; ++run) {
    for (size_t i = 0; i < window; ++i) {
      const double u =
          random_uniform({.seed = 1, .sample = static_cast<uint32_t>(run)}, static_cast<uint32_t>(i)) * sum;
      const auto at = std::upper_bound(cumulated.begin(), cumulated.end(), u) - cumulated.begin();
      drawn[i] = std::min(static_cast<size_t>(at), p.size() - 1);
    }
    kl += kl_from(drawn, p);
  }
  return kl / kIdealRuns;
}

// What one method drew.
struct Run {
  AlignmentCurve curve;
  std::vector<size_t> texts;
};

class Evaluation {
 public:
  Evaluation(Engine& engine, const GenerateRequest& request, const AlignmentEvalOptions& options)
      : engine_(engine), request_(request), options_(options) {}

  Result<AlignmentReport> run(const std::function<void(AlignMode, int)>& progress) {
    DECANT_TRY_STATUS(enumerate());
    std::vector<Run> runs;
    for (const AlignMode mode : options_.modes) {
      DECANT_TRY(Run one, draw(mode, progress));
      runs.push_back(std::move(one));
    }
    const std::vector<double> p = seen_.restricted();
    for (const double x : p) report_.ideal_expectation += x * x;
    report_.seen = p.size();
    for (Run& one : runs) {
      for (AlignmentPoint& point : one.curve.points) judge(one, p, &point);
      report_.curves.push_back(std::move(one.curve));
    }
    return std::move(report_);
  }

 private:
  Status enumerate() {
    if (options_.explore_nodes == 0) return {};
    DECANT_TRY(known_, AlignedSampler::create(engine_, request_, {.cancel = options_.cancel}));
    Status status = known_->explore(options_.explore_nodes);
    if (status.code() == Code::kExhausted) {
      known_.reset();
      return {};
    }
    DECANT_TRY_STATUS(std::move(status));
    DECANT_TRY(const std::vector<AlignedText> texts, enumerate_texts(known_->trie(), nullptr, kMaxTexts));
    report_.enumerated = true;
    report_.texts = texts.size();
    report_.prefixes = known_->trie().size();
    report_.log_p_language = known_->trie().log_c();
    for (const AlignedText& t : texts) conditional_[t.tokens] = std::exp(t.log_p - report_.log_p_language);
    return {};
  }

  Result<Run> draw(AlignMode mode, const std::function<void(AlignMode, int)>& progress) {
    Run run{.curve = {.mode = mode, .points = {}, .stopped = {}}, .texts = {}};
    DECANT_TRY(
        const std::unique_ptr<AlignedSampler> sampler,
        AlignedSampler::create(engine_, request_,
                               {.mode = mode, .max_attempts = options_.max_attempts, .cancel = options_.cancel}));
    AlignmentPoint total;
    const std::vector<int> at = checkpoints(options_.samples);
    const auto record = [&](int n) -> Status {
      AlignmentPoint point{.samples = n, .log_c = sampler->trie().log_c()};
      point.attempts = total.attempts / n;
      point.steps = total.steps / n;
      point.forward_passes = total.forward_passes / n;
      if (known_ && mode != AlignMode::kExact) {
        DECANT_TRY_STATUS(compare_law(mode == AlignMode::kMask ? nullptr : &sampler->trie(), &point));
      } else if (known_) {
        point.total_variation = point.law_kl = 0;
      }
      run.curve.points.push_back(point);
      return {};
    };
    for (int n = 1; n <= options_.samples; ++n) {
      Result<AlignedSample> sample = sampler->next();
      if (!sample.ok()) {
        if (sample.status().code() != Code::kExhausted) return std::move(sample).status();
        run.curve.stopped = sample.status().message();
        if (n > 1 && (run.curve.points.empty() || run.curve.points.back().samples != n - 1)) {
          DECANT_TRY_STATUS(record(n - 1));
        }
        break;
      }
      run.texts.push_back(seen_.add(sample->tokens, sample->log_p));
      if (known_) ++counts_[mode][sample->tokens];
      total.attempts += static_cast<double>(sample->attempts);
      total.steps += static_cast<double>(sample->steps);
      total.forward_passes += static_cast<double>(sample->forward_passes);
      if (std::find(at.begin(), at.end(), n) != at.end()) {
        DECANT_TRY_STATUS(record(n));
        compare_counts(mode, n, &run.curve.points.back());
      }
      if (progress) progress(mode, n);
    }
    return run;
  }

  // The law of the next answer: of one attempt, given that it does not end dead.
  Status compare_law(const AlignmentTrie* bounds, AlignmentPoint* point) {
    DECANT_TRY(const std::vector<AlignedText> texts, enumerate_texts(known_->trie(), bounds, kMaxTexts));
    double total = 0, distance = 0, kl = 0;
    for (const AlignedText& t : texts) total += std::exp(t.log_q);
    for (const AlignedText& t : texts) {
      const double q = std::exp(t.log_q) / total, p = std::exp(t.log_p - report_.log_p_language);
      distance += std::abs(q - p) / 2;
      if (q > 0) kl += q * (t.log_q - std::log(total) - (t.log_p - report_.log_p_language));
    }
    point->total_variation = distance;
    point->law_kl = std::max(kl, 0.0);
    return {};
  }

  void compare_counts(AlignMode mode, int n, AlignmentPoint* point) {
    if (!known_) return;
    double distance = 0, error = 0;
    const std::map<Text, int>& counts = counts_[mode];
    for (const auto& [text, q] : conditional_) {
      const auto found = counts.find(text);
      distance += std::abs((found == counts.end() ? 0 : found->second) / static_cast<double>(n) - q) / 2;
      error += std::sqrt(q * (1 - std::min(q, 1.0)) / n) / 2;
    }
    point->empirical_variation = distance;
    point->sampling_error = error;
  }

  void judge(const Run& run, const std::vector<double>& p, AlignmentPoint* point) const {
    const auto n = static_cast<size_t>(point->samples);
    const size_t window = std::min(n, std::max<size_t>(1, static_cast<size_t>(options_.samples) / 4));
    const auto texts = std::span<const size_t>(run.texts).subspan(n - window, window);
    point->kl = kl_from(texts, p);
    point->kl_ideal = ideal_kl(window, p);
    for (const size_t text : texts) {
      point->expectation += p[text] / static_cast<double>(window);
      point->mean_log_p += seen_.log_p(text) / static_cast<double>(window);
    }
  }

  Engine& engine_;
  const GenerateRequest& request_;
  const AlignmentEvalOptions& options_;
  AlignmentReport report_;
  Seen seen_;
  std::unique_ptr<AlignedSampler> known_;  // explored; nullptr if the language is too large
  std::map<Text, double> conditional_;
  std::map<AlignMode, std::map<Text, int>> counts_;
};

}  // namespace

Result<AlignmentReport> run_alignment(Engine& engine, const GenerateRequest& request,
                                      const AlignmentEvalOptions& options,
                                      const std::function<void(AlignMode mode, int done)>& progress) {
  if (options.samples < 1) return Status::invalid_argument("samples: {} is below 1", options.samples);
  return Evaluation(engine, request, options).run(progress);
}

}  // namespace decant
