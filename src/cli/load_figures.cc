// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "cli/load_figures.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>

namespace decant::cli {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// Chunks that come closer than this, in seconds, are of one step of the server.
constexpr double kOneStep = 1e-3;

struct GoalName {
  std::string_view name;
  LoadGoal::Kind kind;
};
constexpr GoalName kGoalNames[] = {{"ttft", LoadGoal::Kind::kFirstToken},
                                   {"itl", LoadGoal::Kind::kGap},
                                   {"gap", LoadGoal::Kind::kMaxGap},
                                   {"tpot", LoadGoal::Kind::kPerToken},
                                   {"e2e", LoadGoal::Kind::kRequest}};

// "500ms" or "1.5s".
std::optional<double> parse_time(std::string_view text) {
  double unit = 1;
  if (text.ends_with("ms")) {
    unit = 1e-3;
    text.remove_suffix(2);
  } else if (text.ends_with("s")) {
    text.remove_suffix(1);
  } else {
    return std::nullopt;
  }
  double x = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), x);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(x) || x <= 0) return std::nullopt;
  return x * unit;
}

std::vector<double> gaps_of(const StreamRecord& record) {
  std::vector<double> gaps;
  for (size_t i = 1; i < record.chunks.size(); ++i) gaps.push_back(record.chunks[i] - record.chunks[i - 1]);
  return gaps;
}

// Tokens of the answer, at `per_chunk` where the server did not count them.
double tokens_of(const StreamRecord& record, double per_chunk) {
  return record.completion_tokens >= 0 ? static_cast<double>(record.completion_tokens)
                                       : per_chunk * static_cast<double>(record.chunks.size());
}

double per_token(const StreamRecord& record, double per_chunk) {
  const double tokens = tokens_of(record, per_chunk);
  return record.chunks.empty() || tokens <= 1 ? kNan : (record.chunks.back() - record.chunks.front()) / (tokens - 1);
}

}  // namespace

double percentile(const std::vector<double>& sorted, double p) {
  if (sorted.empty()) return kNan;
  const double rank = p / 100 * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(rank);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (rank - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

Distribution distribution_of(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  Distribution d{.count = values.size(), .mean = kNan, .max = kNan};
  if (!values.empty()) {
    d.mean = std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
    d.max = values.back();
  }
  d.p50 = percentile(values, 50);
  d.p95 = percentile(values, 95);
  d.p99 = percentile(values, 99);
  return d;
}

Result<std::vector<LoadGoal>> parse_goals(std::string_view text) {
  std::vector<LoadGoal> goals;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    const std::string_view part = text.substr(begin, end - begin);
    begin = end + 1;
    const size_t colon = part.find(':');
    const auto name = std::find_if(std::begin(kGoalNames), std::end(kGoalNames),
                                   [&](const GoalName& g) { return g.name == part.substr(0, colon); });
    const std::optional<double> seconds =
        colon == std::string_view::npos ? std::nullopt : parse_time(part.substr(colon + 1));
    if (name == std::end(kGoalNames) || !seconds) {
      return Status::invalid_argument(
          "expected NAME:TIME with commas between them, NAME ttft, itl, gap, tpot or e2e and TIME such as 500ms or 2s, "
          "got '{}'",
          part);
    }
    goals.push_back({name->kind, *seconds});
  }
  return goals;
}

bool meets(const StreamRecord& record, const std::vector<LoadGoal>& goals) {
  if (!record.error.empty() || record.is_cut) return false;
  std::vector<double> gaps = gaps_of(record);
  std::sort(gaps.begin(), gaps.end());
  return std::all_of(goals.begin(), goals.end(), [&](const LoadGoal& goal) {
    double seconds = kNan;  // where there is nothing to measure, the goal is met
    switch (goal.kind) {
      case LoadGoal::Kind::kFirstToken: seconds = record.chunks.empty() ? kNan : record.chunks[0] - record.start; break;
      case LoadGoal::Kind::kGap: seconds = percentile(gaps, 99); break;
      case LoadGoal::Kind::kMaxGap: seconds = percentile(gaps, 100); break;
      case LoadGoal::Kind::kPerToken: seconds = per_token(record, 1); break;
      case LoadGoal::Kind::kRequest: seconds = record.end - record.start; break;
    }
    return std::isnan(seconds) || seconds <= goal.seconds;
  });
}

LoadFigures figures_of(const std::vector<StreamRecord>& records, const std::vector<LoadGoal>& goals) {
  LoadFigures f{.requests = records.size()};
  double counted_tokens = 0, counted_chunks = 0;
  for (const StreamRecord& r : records) {
    if (r.completion_tokens < 0) continue;
    counted_tokens += static_cast<double>(r.completion_tokens);
    counted_chunks += static_cast<double>(r.chunks.size());
    ++f.with_usage;
  }
  const double per_chunk = counted_chunks > 0 ? counted_tokens / counted_chunks : 1;
  double first = std::numeric_limits<double>::infinity(), last = 0;
  std::vector<double> first_token, gap, token, request, stall;
  for (const StreamRecord& r : records) {
    first = std::min(first, r.start);
    last = std::max(last, r.end);
    f.chunks += r.chunks.size();
    f.output_tokens += tokens_of(r, per_chunk);
    f.prompt_tokens += std::max<int64_t>(r.prompt_tokens, 0);
    f.cached_tokens += std::max<int64_t>(r.cached_tokens, 0);
    if (!r.error.empty()) {
      ++f.failed;
      ++f.errors[r.error];
      continue;
    }
    ++(r.is_cut ? f.cut : f.completed);
    if (meets(r, goals)) ++f.good;
    if (!r.is_cut) request.push_back(r.end - r.start);
    if (!r.chunks.empty()) first_token.push_back(r.chunks.front() - r.start);
    if (const double x = per_token(r, per_chunk); !std::isnan(x)) token.push_back(x);
    std::vector<double> gaps = gaps_of(r);
    gap.insert(gap.end(), gaps.begin(), gaps.end());
    // Tokens of one step come as chunks with next to nothing between them, which says nothing about the steps.
    std::erase_if(gaps, [](double seconds) { return seconds < kOneStep; });
    std::sort(gaps.begin(), gaps.end());
    if (gaps.size() >= 3) stall.push_back(gaps.back() / percentile(gaps, 50));
  }
  f.seconds = records.empty() ? 0 : last - first;
  f.first_token = distribution_of(std::move(first_token));
  f.gap = distribution_of(std::move(gap));
  f.per_token = distribution_of(std::move(token));
  f.request = distribution_of(std::move(request));
  f.stall = distribution_of(std::move(stall));
  return f;
}

}  // namespace decant::cli
