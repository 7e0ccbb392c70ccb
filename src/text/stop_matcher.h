// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace decant {

// Finds the first of several stop strings in a text that arrives in pieces, and lets through only what cannot belong
// to one. A value: a copy is a fork.
class StopMatcher {
 public:
  // Empty strings are ignored.
  explicit StopMatcher(std::vector<std::string> stops = {});

  // The text that is certain not to begin a stop string. Once a stop string is complete: what stands before it, and
  // stopped() is true; later pieces give nothing. Of two that end together the one that begins first counts.
  std::string push(std::string_view piece);
  // What is still held back: the beginning of a stop string that never came.
  std::string flush();
  bool stopped() const { return stopped_; }

 private:
  std::vector<std::string> stops_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace decant
