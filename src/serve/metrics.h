// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// What is counted while the server runs, and its text for Prometheus.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace decant::serve {

// Seconds, in buckets. Thread-safe.
class Histogram {
 public:
  static constexpr std::array<double, 16> kBounds = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
                                                     0.5,   1,      2.5,   5,    10,    30,   60,  300};
  void observe(double seconds);
  // Lines of the text format.
  void write(std::string_view name, std::string_view help, std::string* out) const;

 private:
  std::array<std::atomic<int64_t>, kBounds.size() + 1> counts_{};
  std::atomic<double> sum_{0};
};

struct Metrics {
  using Counter = std::atomic<int64_t>;

  Counter prompt_tokens{0}, cached_tokens{0}, completion_tokens{0}, forced_tokens{0};
  Counter drafted_tokens{0}, accepted_tokens{0};
  Counter answers_open{0};  // requests to the engine that have not ended
  Counter disconnects{0};
  Histogram time_to_first_token, inter_token, request_seconds;

  void count_request(std::string_view route, int status);
  void count_finish(std::string_view reason);
  void write_requests(std::string* out) const;

 private:
  mutable std::mutex mutex_;
  std::map<std::pair<std::string, int>, int64_t> requests_;
  std::map<std::string, int64_t, std::less<>> finishes_;
};

// One number with its help and type lines.
void write_metric(std::string_view name, std::string_view type, std::string_view help, double value, std::string* out);

}  // namespace decant::serve
