// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "speculate/suffix_array.h"

#include <algorithm>

namespace decant {
namespace {

// One level of SA-IS. A suffix is of type S if it is less than the one behind it, else L; an S suffix behind an L one
// is leftmost (LMS). From the order of the LMS suffixes that of all follows by two passes (induce).
class Level {
 public:
  Level(std::span<const int32_t> text, int32_t largest)
      : text_(text),
        n_(static_cast<int32_t>(text.size())),
        is_s_(text.size(), false),
        begin_(static_cast<size_t>(largest) + 2, 0),
        order_(text.size(), -1) {
    for (int32_t i = n_ - 2; i >= 0; --i) {
      is_s_[at(i)] = text_[at(i)] < text_[at(i + 1)] || (text_[at(i)] == text_[at(i + 1)] && is_s_[at(i + 1)]);
    }
    for (const int32_t c : text_) ++begin_[at(c) + 1];
    for (size_t c = 1; c < begin_.size(); ++c) begin_[c] += begin_[c - 1];
  }

  std::vector<int32_t> run() {
    for (int32_t i = 1; i < n_; ++i) {
      if (is_lms(i)) lms_.push_back(i);
    }
    // A first pass sorts the LMS substrings; their ranks are a text whose suffixes are the LMS suffixes.
    induce(lms_);
    sort_lms();
    induce(lms_);
    return std::move(order_);
  }

 private:
  static size_t at(int32_t i) { return static_cast<size_t>(i); }
  bool is_lms(int32_t i) const { return i > 0 && is_s_[at(i)] && !is_s_[at(i - 1)]; }

  void induce(const std::vector<int32_t>& lms) {
    std::fill(order_.begin(), order_.end(), -1);
    std::vector<int32_t> place(begin_.begin() + 1, begin_.end());  // ends of the values' buckets
    for (auto i = lms.rbegin(); i != lms.rend(); ++i) order_[at(--place[at(text_[at(*i)])])] = *i;
    place.assign(begin_.begin(), begin_.end() - 1);
    const auto put_l = [&](int32_t i) {
      if (i >= 0 && !is_s_[at(i)]) order_[at(place[at(text_[at(i)])]++)] = i;
    };
    put_l(n_ - 1);  // the last suffix, behind which is the empty one
    for (int32_t k = 0; k < n_; ++k) {
      if (order_[at(k)] > 0) put_l(order_[at(k)] - 1);
    }
    place.assign(begin_.begin() + 1, begin_.end());
    for (int32_t k = n_ - 1; k >= 0; --k) {
      const int32_t i = order_[at(k)] - 1;
      if (i >= 0 && is_s_[at(i)]) order_[at(--place[at(text_[at(i)])])] = i;
    }
  }

  // Up to the next LMS position, inclusive.
  bool same_substring(int32_t a, int32_t b) const {
    for (int32_t k = 0;; ++k) {
      if (a + k >= n_ || b + k >= n_) return false;
      if (text_[at(a + k)] != text_[at(b + k)] || is_s_[at(a + k)] != is_s_[at(b + k)]) return false;
      if (k > 0 && (is_lms(a + k) || is_lms(b + k))) return is_lms(a + k) && is_lms(b + k);
    }
  }

  void sort_lms() {
    if (lms_.size() < 2) return;
    std::vector<int32_t> ordinal(text_.size(), -1);
    for (size_t k = 0; k < lms_.size(); ++k) ordinal[at(lms_[k])] = static_cast<int32_t>(k);
    std::vector<int32_t> names(lms_.size());
    int32_t name = 0, previous = -1;
    for (const int32_t i : order_) {
      if (!is_lms(i)) continue;
      if (previous >= 0 && !same_substring(previous, i)) ++name;
      names[at(ordinal[at(i)])] = name;
      previous = i;
    }
    ordinal = {};
    std::vector<int32_t> sorted(lms_.size());
    const std::vector<int32_t> ranks = suffix_array(names, name);
    for (size_t k = 0; k < ranks.size(); ++k) sorted[k] = lms_[at(ranks[k])];
    lms_ = std::move(sorted);
  }

  std::span<const int32_t> text_;
  int32_t n_;
  std::vector<bool> is_s_;
  std::vector<int32_t> begin_;  // of each value's bucket, and the end
  std::vector<int32_t> order_, lms_;
};

}  // namespace

std::vector<int32_t> suffix_array(std::span<const int32_t> text, int32_t largest) {
  if (text.empty()) return {};
  return Level(text, largest).run();
}

}  // namespace decant
