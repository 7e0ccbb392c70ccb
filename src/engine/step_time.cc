// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "engine/step_time.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace decant {
namespace {

// Units that make the terms about as large as each other.
constexpr double kRows = 1.0 / 32, kPairs = 1.0 / 65536;
constexpr double kFade = 0.99;   // of what was measured, with every step
constexpr double kRidge = 1e-4;  // of the sums' size: what the steps do not tell apart is shared among the terms
constexpr double kOutlier = 3;   // times what was expected; more counts as that
constexpr int kSure = 20;        // steps after which outliers are known
constexpr double kVaried = 1.5;  // times as many rows are another size

}  // namespace

StepTime::Terms StepTime::terms(int rows, double pairs) { return {1, rows * kRows, pairs * kPairs}; }

void StepTime::learn(int rows, double pairs, double seconds) {
  if (rows < 1 || !(seconds > 0)) return;
  if (samples_ == 0) first_rows_ = rows;
  if (rows > first_rows_ * kVaried || first_rows_ > rows * kVaried) varied_ = true;
  if (++samples_ > kSure) seconds = std::min(seconds, kOutlier * this->seconds(rows, pairs));
  // A step counts by its relative error: long ones would drown the short ones.
  const double weight = 1 / (seconds * seconds);
  const Terms x = terms(rows, pairs);
  for (size_t i = 0; i < kTerms; ++i) {
    for (size_t j = 0; j < kTerms; ++j) products_[i][j] = products_[i][j] * kFade + weight * x[i] * x[j];
    targets_[i] = targets_[i] * kFade + weight * x[i] * seconds;
  }
  solve();
}

// The normal equations; terms that come out negative are left out and the rest solved again.
void StepTime::solve() {
  std::array<bool, kTerms> used;
  used.fill(true);
  while (true) {
    auto a = products_;
    Terms b = targets_;
    double size = 0;
    for (size_t i = 0; i < kTerms; ++i) size += a[i][i];
    for (size_t i = 0; i < kTerms; ++i) {
      a[i][i] += kRidge * size;
      if (used[i]) continue;
      for (size_t j = 0; j < kTerms; ++j) a[i][j] = a[j][i] = 0;
      a[i][i] = 1;
      b[i] = 0;
    }
    // Symmetric and positive: elimination needs no pivots.
    for (size_t i = 0; i < kTerms; ++i) {
      for (size_t k = i + 1; k < kTerms; ++k) {
        const double factor = a[k][i] / a[i][i];
        for (size_t j = i; j < kTerms; ++j) a[k][j] -= factor * a[i][j];
        b[k] -= factor * b[i];
      }
    }
    for (size_t i = kTerms; i-- > 0;) {
      for (size_t j = i + 1; j < kTerms; ++j) b[i] -= a[i][j] * b[j];
      b[i] /= a[i][i];
    }
    const auto worst = std::min_element(b.begin(), b.end());
    if (*worst >= 0) {
      weights_ = b;
      return;
    }
    used[static_cast<size_t>(worst - b.begin())] = false;
  }
}

double StepTime::seconds(int rows, double pairs) const {
  const Terms x = terms(rows, pairs);
  double sum = 0;
  for (size_t i = 0; i < kTerms; ++i) sum += weights_[i] * x[i];
  return sum;
}

}  // namespace decant
