// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// How often guesses of each kind of evidence turn out right, and what a step of n rows costs: from both follows how
// many nodes of a tree are worth verifying. Measured while it runs; it changes speed and never text.
#pragma once

#include <array>
#include <span>
#include <vector>

#include "engine/token_tree.h"

namespace decant {

class AcceptanceModel {
 public:
  // The probability that a guess is right whose drafter says `probability`.
  float estimate(uint16_t evidence, float probability) const;
  void learn(uint16_t evidence, float probability, bool right);
  // Learns from all nodes of `tree` whose parent lies on the way of `tokens`, which came.
  void learn(const TokenTree& tree, std::span<const TokenId> tokens);

 private:
  // Of the guesses with some evidence: their number and that of right ones, both fading.
  struct Count {
    float tries = 0, right = 0;
  };
  std::array<Count, TokenTree::kEvidence> counts_{};
};

// Seconds of a step by its number of rows: a scale, which follows how fast the machine is at the moment, times a shape,
// which is learned slowly. Sizes that are not met any more fade back to a guess from their neighbours, so that one slow
// step does not rule a size out for ever.
class StepCost {
 public:
  static constexpr int kRows = 128;

  StepCost();
  void learn(int rows, double seconds);
  // Measured elsewhere: seconds[i] of i + 1 rows. `keep`: nothing that is measured later changes them.
  void start(std::span<const double> seconds, bool keep = false);
  double seconds(int rows) const;
  bool known() const { return samples_ > 0; }

 private:
  void refit();
  double scale_ = 0;                          // seconds of one row
  std::array<double, kRows + 1> relative_{};  // measured, to one row's
  std::array<double, kRows + 1> weight_{};    // of that measurement, fading
  std::array<double, kRows + 1> shape_{};     // what is believed
  int64_t samples_ = 0;
  bool kept_ = false;
};

// How much of what the chosen guesses promised came true. Of many guesses those that seem best are chosen, so that they
// promise too much on average even where each estimate is fair; and estimates of deep guesses multiply the errors of
// the way to them.
class PromiseRecord {
 public:
  // What a promise is to be multiplied by.
  float kept_share() const;
  // A step's guesses promised `promised` tokens (the sum of their reach) and brought `kept`.
  void learn(double promised, int kept);

 private:
  double promised_ = 0, kept_ = 0;  // fading
};

// What the loop has measured of one draft method on one engine. Requests that run one after the other may share it.
struct DraftControl {
  AcceptanceModel acceptance;
  PromiseRecord promises;
  StepCost cost;
};

// Of nodes whose reach is given in descending order, how many to verify with `rows` rows that come anyway and bring
// one token each for `requests` of them, so that the most tokens come in a second.
int worthwhile(std::span<const float> reach, int rows, int requests, const StepCost& cost);

}  // namespace decant
