// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "serve/metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

namespace decant::serve {

void Histogram::observe(double seconds) {
  const auto bucket = std::lower_bound(kBounds.begin(), kBounds.end(), seconds) - kBounds.begin();
  counts_[static_cast<size_t>(bucket)].fetch_add(1, std::memory_order_relaxed);
  sum_.fetch_add(seconds, std::memory_order_relaxed);
}

void Histogram::write(std::string_view name, std::string_view help, std::string* out) const {
  auto to = std::back_inserter(*out);
  fmt::format_to(to, "# HELP {} {}\n# TYPE {} histogram\n", name, help, name);
  int64_t count = 0;
  for (size_t i = 0; i < kBounds.size(); ++i) {
    count += counts_[i].load(std::memory_order_relaxed);
    fmt::format_to(to, "{}_bucket{{le=\"{}\"}} {}\n", name, kBounds[i], count);
  }
  count += counts_.back().load(std::memory_order_relaxed);
  fmt::format_to(to, "{0}_bucket{{le=\"+Inf\"}} {1}\n{0}_sum {2}\n{0}_count {1}\n", name, count,
                 sum_.load(std::memory_order_relaxed));
}

void Metrics::count_request(std::string_view route, int status) {
  const std::lock_guard lock(mutex_);
  ++requests_[{std::string(route), status}];
}

void Metrics::count_finish(std::string_view reason) {
  const std::lock_guard lock(mutex_);
  const auto found = finishes_.find(reason);
  if (found != finishes_.end()) {
    ++found->second;
  } else {
    finishes_.emplace(reason, 1);
  }
}

void Metrics::write_requests(std::string* out) const {
  const std::lock_guard lock(mutex_);
  auto to = std::back_inserter(*out);
  fmt::format_to(to, "# HELP decant_requests_total Answered HTTP requests.\n# TYPE decant_requests_total counter\n");
  for (const auto& [key, count] : requests_) {
    fmt::format_to(to, "decant_requests_total{{route=\"{}\",status=\"{}\"}} {}\n", key.first, key.second, count);
  }
  fmt::format_to(to, "# HELP decant_answers_total Answers by how they ended.\n# TYPE decant_answers_total counter\n");
  for (const auto& [reason, count] : finishes_) {
    fmt::format_to(to, "decant_answers_total{{finish_reason=\"{}\"}} {}\n", reason, count);
  }
}

void write_metric(std::string_view name, std::string_view type, std::string_view help, double value, std::string* out) {
  fmt::format_to(std::back_inserter(*out), "# HELP {0} {1}\n# TYPE {0} {2}\n{0} {3}\n", name, help, type, value);
}

}  // namespace decant::serve
