// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "engine/acceptance.h"

#include <algorithm>
#include <cmath>

namespace decant {
namespace {

constexpr float kTrust = 6;      // guesses that the drafter's own word weighs as much as
constexpr float kMemory = 400;   // guesses of one evidence after which old ones fade
constexpr int kCostMemory = 24;  // steps of one size after which old ones fade
constexpr int kStartWeight = 4;
constexpr double kOutlier = 3;  // times the mean: something else ran

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

void StepCost::learn(int rows, double seconds) {
  if (kept_ || rows < 1 || rows > kRows || !(seconds > 0)) return;
  const auto i = static_cast<size_t>(rows);
  if (count_[i] >= 4 && seconds > kOutlier * measured_[i]) seconds = kOutlier * measured_[i];
  count_[i] = std::min(count_[i] + 1, kCostMemory);
  measured_[i] += (seconds - measured_[i]) / count_[i];
  ++samples_;
  refit();
}

void StepCost::start(std::span<const double> seconds, bool keep) {
  measured_.fill(0);
  count_.fill(0);
  for (size_t i = 1; i <= std::min<size_t>(kRows, seconds.size()); ++i) {
    measured_[i] = seconds[i - 1];
    count_[i] = seconds[i - 1] > 0 ? kStartWeight : 0;
    samples_ += count_[i];
  }
  refit();
  kept_ = keep;
}

// Cost never falls with rows (pool adjacent violators, weighted by samples); between measured sizes it is linear, and
// beyond the last it goes on as steeply as on average before.
void StepCost::refit() {
  struct Block {
    double value, weight;
    size_t first, last;
  };
  std::array<Block, kRows + 1> blocks;
  size_t n = 0;
  for (size_t i = 1; i <= kRows; ++i) {
    if (count_[i] == 0) continue;
    blocks[n++] = {measured_[i], static_cast<double>(count_[i]), i, i};
    while (n > 1 && blocks[n - 2].value > blocks[n - 1].value) {
      Block& a = blocks[n - 2];
      const Block& b = blocks[n - 1];
      a.value = (a.value * a.weight + b.value * b.weight) / (a.weight + b.weight);
      a.weight += b.weight;
      a.last = b.last;
      --n;
    }
  }
  if (n == 0) return;
  const double slope =
      n > 1 ? (blocks[n - 1].value - blocks[0].value) / static_cast<double>(blocks[n - 1].last - blocks[0].first)
            : blocks[0].value / 8;
  for (size_t i = 1; i <= kRows; ++i) {
    size_t after = 0;
    while (after < n && blocks[after].last < i) ++after;
    if (after == n) {
      curve_[i] = blocks[n - 1].value + slope * static_cast<double>(i - blocks[n - 1].last);
    } else if (blocks[after].first <= i || after == 0) {
      curve_[i] = blocks[after].value;
    } else {
      const Block& a = blocks[after - 1];
      const Block& b = blocks[after];
      curve_[i] =
          a.value + (b.value - a.value) * static_cast<double>(i - a.last) / static_cast<double>(b.first - a.last);
    }
  }
}

double StepCost::seconds(int rows) const {
  rows = std::max(rows, 1);
  if (samples_ == 0) return 1 + static_cast<double>(rows) / 8;
  if (rows <= kRows) return curve_[static_cast<size_t>(rows)];
  return curve_[kRows] * rows / kRows;
}

int worthwhile(std::span<const float> reach, int rows, int requests, const StepCost& cost) {
  double tokens = requests, best_rate = tokens / cost.seconds(rows);
  int best = 0;
  for (size_t n = 0; n < reach.size(); ++n) {
    tokens += static_cast<double>(reach[n]);
    const double rate = tokens / cost.seconds(rows + static_cast<int>(n) + 1);
    if (rate > best_rate) {
      best_rate = rate;
      best = static_cast<int>(n) + 1;
    }
  }
  return best;
}

}  // namespace decant
