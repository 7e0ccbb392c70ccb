// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "text/stop_matcher.h"

#include <algorithm>
#include <utility>

namespace decant {

StopMatcher::StopMatcher(std::vector<std::string> stops) : stops_(std::move(stops)) {
  std::erase_if(stops_, [](const std::string& s) { return s.empty(); });
}

std::string StopMatcher::push(std::string_view piece) {
  if (stopped_) return {};
  const size_t old_size = held_.size();
  held_ += piece;
  // The earliest end wins: a reader who saw byte after byte would have stopped there.
  size_t best_begin = std::string::npos, best_end = std::string::npos;
  for (const std::string& s : stops_) {
    const size_t from = old_size >= s.size() ? old_size - s.size() + 1 : 0;
    const size_t begin = held_.find(s, from);
    if (begin == std::string::npos) continue;
    const size_t end = begin + s.size();
    if (end < best_end || (end == best_end && begin < best_begin)) best_begin = begin, best_end = end;
  }
  if (best_begin != std::string::npos) {
    stopped_ = true;
    return std::exchange(held_, {}).substr(0, best_begin);
  }
  size_t keep = 0;  // the longest end of the text that begins a stop string
  for (const std::string& s : stops_) {
    for (size_t n = std::min(s.size() - 1, held_.size()); n > keep; --n) {
      if (held_.compare(held_.size() - n, n, s, 0, n) == 0) keep = n;
    }
  }
  std::string out = held_.substr(0, held_.size() - keep);
  held_.erase(0, out.size());
  return out;
}

std::string StopMatcher::flush() { return std::exchange(held_, {}); }

}  // namespace decant
