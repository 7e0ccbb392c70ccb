// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// How long a step takes, by its rows and by the keys that they attend to: measured while it runs. Changes what runs
// together, and never what comes out.
#pragma once

#include <array>

namespace decant {

// seconds = a + b * rows + c * pairs, none of them negative, by least squares over steps that fade.
class StepTime {
 public:
  // `pairs`: of a row and a key that it sees, over all rows.
  void learn(int rows, double pairs, double seconds);
  // 0 as long as nothing is known.
  double seconds(int rows, double pairs) const;
  // Steps of different sizes were seen: what another size takes can be told.
  bool known() const { return varied_; }

 private:
  static constexpr int kTerms = 3;
  using Terms = std::array<double, kTerms>;
  static Terms terms(int rows, double pairs);
  void solve();

  std::array<Terms, kTerms> products_{};  // sums of x x'
  Terms targets_{};                       // sums of x seconds
  Terms weights_{};
  int samples_ = 0, first_rows_ = 0;
  bool varied_ = false;
};

}  // namespace decant
