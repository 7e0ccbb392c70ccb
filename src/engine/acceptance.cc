// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "engine/acceptance.h"

#include <algorithm>
#include <cmath>

namespace decant {
namespace {

constexpr float kTrust = 6;            // guesses that the drafter's own word weighs as much as
constexpr float kMemory = 400;         // guesses of one evidence after which old ones fade
constexpr double kPromiseTrust = 10;   // tokens promised that count as kept before any were
constexpr double kPromiseFade = 0.99;  // of old promises with every step that has guesses
constexpr double kLeastShare = 0.4, kMostShare = 1.25;
constexpr double kOutlier = 1.6;                 // times what was expected; more counts as that
constexpr int kFirstSteps = 12;                  // until the scale is found
constexpr double kFastPace = 0.3, kPace = 0.05;  // of the scale
constexpr double kMostWeight = 30;               // steps of one size after which old ones fade
constexpr double kFade = 0.997;                  // of sizes that are not met
constexpr double kGuessedRow = 0.06;             // of a step of one row, that another row costs where nothing is known
constexpr double kGuessWeight = 1;               // steps that this guess weighs as much as

}  // namespace

float AcceptanceModel::estimate(uint16_t evidence, float probability) const {
  const Count& c = counts_[evidence % TokenTree::kEvidence];
  return std::clamp((c.right + kTrust * probability) / (c.tries + kTrust), 0.0f, 1.0f);
}

void AcceptanceModel::learn(uint16_t evidence, float, bool right) {
  Count& c = counts_[evidence % TokenTree::kEvidence];
  c.tries += 1;
  c.right += right ? 1.0f : 0.0f;
  if (c.tries > kMemory) {
    c.tries /= 2;
    c.right /= 2;
  }
}

void AcceptanceModel::learn(const TokenTree& tree, std::span<const TokenId> tokens) {
  int parent = kRoot;
  for (const TokenId token : tokens) {
    int next = kRefused;
    for (int i = tree.first_child(parent); i != kRefused; i = tree.node(i).next_sibling) {
      const TokenNode& n = tree.node(i);
      learn(n.evidence, n.probability, n.token == token);
      if (n.token == token) next = i;
    }
    if (next == kRefused) return;
    parent = next;
  }
}

float PromiseRecord::kept_share() const {
  const double share = (kept_ + kPromiseTrust) / (promised_ + kPromiseTrust);
  return static_cast<float>(std::clamp(share, kLeastShare, kMostShare));
}

void PromiseRecord::learn(double promised, int kept) {
  promised_ = promised_ * kPromiseFade + promised;
  kept_ = kept_ * kPromiseFade + kept;
}

StepCost::StepCost() { refit(); }

void StepCost::learn(int rows, double seconds) {
  if (kept_ || rows < 1 || rows > kRows || !(seconds > 0)) return;
  const auto n = static_cast<size_t>(rows);
  if (scale_ == 0) scale_ = seconds / shape_[n];
  // What one step says is bounded: something else may have run.
  const double expected = scale_ * shape_[n];
  const double surprise = std::clamp(seconds / expected, 1 / kOutlier, kOutlier);
  const double pace = ++samples_ < kFirstSteps ? kFastPace : kPace;
  scale_ *= std::pow(surprise, pace);
  if (rows > 1) {
    const double seen = shape_[n] * surprise;
    for (double& w : weight_) w *= kFade;
    double& w = weight_[n];
    w = std::min(w + 1, kMostWeight);
    relative_[n] = w <= 1 ? seen : relative_[n] + (seen - relative_[n]) / w;
    refit();
  }
}

void StepCost::start(std::span<const double> seconds, bool keep) {
  if (seconds.empty() || !(seconds[0] > 0)) return;
  weight_.fill(0);
  scale_ = seconds[0];
  for (size_t i = 2; i <= std::min<size_t>(kRows, seconds.size()); ++i) {
    relative_[i] = seconds[i - 1] / scale_;
    weight_[i] = keep ? 1e6 : kMostWeight;
  }
  samples_ = kFirstSteps;
  refit();
  kept_ = keep;
}

// From small to large: a size costs what was measured as far as that weighs, else a little more than the size before;
// and never less than it. A measurement that is below those of smaller sizes pulls them down.
void StepCost::refit() {
  shape_[0] = shape_[1] = 1;
  relative_[1] = 1;
  for (size_t n = 2; n <= kRows; ++n) {
    const double guess = shape_[n - 1] + kGuessedRow;
    shape_[n] = (relative_[n] * weight_[n] + guess * kGuessWeight) / (weight_[n] + kGuessWeight);
  }
  for (size_t n = kRows; n-- > 2;) {
    // As far as a larger size is known better.
    if (shape_[n] > shape_[n + 1] && weight_[n + 1] >= weight_[n]) shape_[n] = shape_[n + 1];
  }
  for (size_t n = 2; n <= kRows; ++n) shape_[n] = std::max(shape_[n], shape_[n - 1]);
}

double StepCost::seconds(int rows) const {
  rows = std::max(rows, 1);
  const double scale = scale_ > 0 ? scale_ : 1;
  if (rows <= kRows) return scale * shape_[static_cast<size_t>(rows)];
  return scale * shape_[kRows] * rows / kRows;
}

int worthwhile(std::span<const float> reach, int rows, int requests, const StepCost& cost) {
  // Estimates err: of trees that promise about the same, the smallest.
  constexpr double kAsGood = 0.985;
  const auto rate = [&](size_t n, double tokens) { return tokens / cost.seconds(rows + static_cast<int>(n)); };
  double tokens = requests, best = rate(0, tokens);
  for (size_t n = 0; n < reach.size(); ++n) {
    tokens += static_cast<double>(reach[n]);
    best = std::max(best, rate(n + 1, tokens));
  }
  tokens = requests;
  size_t n = 0;
  while (n < reach.size() && rate(n, tokens) < kAsGood * best) tokens += static_cast<double>(reach[n++]);
  return static_cast<int>(n);
}

}  // namespace decant
