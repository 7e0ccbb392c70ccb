// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "constrain/number_language.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <set>

namespace decant {
namespace {

constexpr std::string_view kNumberChars = "-.0123456789";

// Compares the value of a text with a bound, digit by digit. The state is: sign, part, whether a digit was not zero,
// the number of whole digits up to one more than the bound has, how the digits so far compare, and the place behind the
// point.
class BoundAutomaton final : public LeafAutomaton {
 public:
  BoundAutomaton(Bound bound, bool negative, std::string whole, std::string fraction)
      : bound_(bound), negative_(negative), whole_(std::move(whole)), fraction_(std::move(fraction)) {}

  // Ends where no digits more can bring the value within the bound.
  std::optional<uint32_t> step(uint32_t packed, char c) const override {
    const std::optional<uint32_t> next = step_any(packed, c);
    if (!next) return next;
    if (live_.empty()) find_live();
    return live_.contains(*next) ? next : std::nullopt;
  }

 private:
  std::optional<uint32_t> step_any(uint32_t packed, char c) const {
    State s = unpack(packed);
    if (c == '-') {
      if (s.started || s.negative) return std::nullopt;
      s.negative = true;
      return pack(s);
    }
    if (c == '.') {
      if (!s.started || s.in_fraction) return std::nullopt;
      // From here on the whole digits are known.
      if (s.count != whole_.size()) s.order = s.count > whole_.size() ? kAbove : kBelow;
      s.in_fraction = true;
      s.count = s.order == kEqual ? 0 : kSettled;
      return pack(s);
    }
    s.started = true;
    s.nonzero = s.nonzero || c != '0';
    if (!s.in_fraction) {
      if (c == '0' && s.count == 0) return pack(s);  // the zero of 0.5
      if (s.count < whole_.size()) {
        if (s.order == kEqual) s.order = order_of(c, whole_[s.count]);
        ++s.count;
      } else {
        s.count = static_cast<uint32_t>(whole_.size()) + 1;
      }
      return pack(s);
    }
    if (s.count == kSettled) return pack(s);
    s.order = order_of(c, s.count < fraction_.size() ? fraction_[s.count] : '0');
    s.count = s.order == kEqual ? std::min(s.count + 1, static_cast<uint32_t>(fraction_.size())) : kSettled;
    return pack(s);
  }

  // There are a few states a digit of the bound.
  void find_live() const {
    std::vector<std::pair<uint32_t, std::vector<uint32_t>>> from;  // states, and those that lead to them
    std::map<uint32_t, size_t> places = {{start(), 0}};
    from.push_back({start(), {}});
    for (size_t i = 0; i < from.size(); ++i) {
      for (const char c : kNumberChars) {
        const std::optional<uint32_t> next = step_any(from[i].first, c);
        if (!next) continue;
        const auto [it, is_new] = places.emplace(*next, from.size());
        if (is_new) from.push_back({*next, {}});
        from[it->second].second.push_back(from[i].first);
      }
    }
    std::vector<uint32_t> open;
    for (const auto& [state, before] : from) {
      if (accepts(state) && live_.insert(state).second) open.push_back(state);
    }
    while (!open.empty()) {
      const uint32_t state = open.back();
      open.pop_back();
      for (const uint32_t before : from[places[state]].second) {
        if (live_.insert(before).second) open.push_back(before);
      }
    }
    live_.insert(kNoState);  // known, even if nothing is live
  }

 public:
  bool accepts(uint32_t packed) const override {
    const State s = unpack(packed);
    if (!s.started) return false;
    uint32_t order = s.order;
    if (!s.in_fraction && s.count != whole_.size()) order = s.count > whole_.size() ? kAbove : kBelow;
    const uint32_t place = s.in_fraction ? s.count : 0;
    if (order == kEqual && place != kSettled && place < fraction_.size()) order = kBelow;  // its last digit is not zero
    const bool bound_zero = whole_.empty() && fraction_.empty();
    int sign;  // of the value minus the bound
    if (!s.nonzero) {
      sign = bound_zero ? 0 : negative_ ? 1 : -1;
    } else if (bound_zero || s.negative != negative_) {
      sign = s.negative ? -1 : 1;
    } else {
      sign = order == kEqual ? 0 : (order == kAbove) != s.negative ? 1 : -1;
    }
    switch (bound_) {
      case Bound::kMinimum: return sign >= 0;
      case Bound::kExclusiveMinimum: return sign > 0;
      case Bound::kMaximum: return sign <= 0;
      case Bound::kExclusiveMaximum: return sign < 0;
    }
    return false;
  }

  std::string_view alphabet() const override { return kNumberChars; }

  static uint32_t start() { return pack({}); }

 private:
  static constexpr uint32_t kEqual = 0, kBelow = 1, kAbove = 2;
  static constexpr uint32_t kSettled = 0xFFFF;
  struct State {
    bool started = false, negative = false, in_fraction = false, nonzero = false;
    uint32_t order = kEqual, count = 0;
  };
  static uint32_t order_of(char c, char d) { return c == d ? kEqual : c > d ? kAbove : kBelow; }
  static uint32_t pack(const State& s) {
    return (s.started ? 1u : 0) | (s.negative ? 2u : 0) | (s.in_fraction ? 4u : 0) | (s.nonzero ? 8u : 0) |
           s.order << 4 | s.count << 8;
  }
  static State unpack(uint32_t p) {
    return {.started = (p & 1) != 0,
            .negative = (p & 2) != 0,
            .in_fraction = (p & 4) != 0,
            .nonzero = (p & 8) != 0,
            .order = p >> 4 & 3,
            .count = p >> 8};
  }

  static constexpr uint32_t kNoState = UINT32_MAX;

  Bound bound_;
  bool negative_;
  std::string whole_, fraction_;
  mutable std::set<uint32_t> live_;  // found when first asked for
};

// value * 10^places modulo `modulus`, with the digits behind the point counted up to `places`.
class MultipleAutomaton final : public LeafAutomaton {
 public:
  MultipleAutomaton(uint64_t modulus, int places) : modulus_(modulus), places_(places) { id_of({}); }

  std::optional<uint32_t> step(uint32_t id, char c) const override {
    State s = states_[id];
    if (c == '-') return s.digits == 0 ? std::optional(id) : std::nullopt;
    if (c == '.') {
      if (s.place >= 0) return std::nullopt;
      s.place = 0;
      return id_of(s);
    }
    s.digits = 1;
    if (s.place == places_) return c == '0' && s.rest == 0 ? std::optional(id_of(s)) : std::nullopt;
    if (s.place >= 0) ++s.place;
    s.rest = static_cast<uint64_t>((static_cast<unsigned __int128>(s.rest) * 10 + static_cast<unsigned>(c - '0')) %
                                   modulus_);
    return id_of(s);
  }
  bool accepts(uint32_t id) const override {
    const State& s = states_[id];
    unsigned __int128 rest = s.rest;
    for (int i = std::max(0, s.place); i < places_; ++i) rest = rest * 10 % modulus_;
    return s.digits != 0 && rest == 0;
  }
  std::string_view alphabet() const override { return kNumberChars; }

 private:
  struct State {
    uint64_t rest = 0;
    int place = -1;  // digits behind the point; -1: before it
    int digits = 0;
    auto operator<=>(const State&) const = default;
  };
  uint32_t id_of(const State& s) const {
    const auto [it, is_new] = ids_.emplace(s, static_cast<uint32_t>(states_.size()));
    if (is_new) states_.push_back(s);
    return it->second;
  }

  uint64_t modulus_;
  int places_;
  // Named when they are met, by the one pool that owns this.
  mutable std::map<State, uint32_t> ids_;
  mutable std::vector<State> states_;
};

RegexId digits(RegexPool* pool, int min, int max) { return pool->repeat(pool->chars(digit_chars()), min, max); }

RegexId with_sign(RegexId unsigned_number, RegexPool* pool) {
  return pool->concat(pool->optional(pool->literal("-")), unsigned_number);
}

RegexId whole_part(RegexPool* pool) {
  return pool->alt(
      {pool->literal("0"), pool->concat(pool->chars(CharSet({{'1', '9'}})), digits(pool, 0, RegexPool::kUnbounded))});
}

RegexId zeros(RegexPool* pool, int min) { return pool->repeat(pool->literal("0"), min, RegexPool::kUnbounded); }

}  // namespace

RegexId plain_number(RegexPool* pool) {
  const RegexId fraction = pool->concat(pool->literal("."), digits(pool, 1, RegexPool::kUnbounded));
  return with_sign(pool->concat(whole_part(pool), pool->optional(fraction)), pool);
}

RegexId any_number(RegexPool* pool) {
  const RegexId sign = pool->optional(pool->chars(CharSet({{'+', '+'}, {'-', '-'}})));
  const RegexId mark = pool->chars(CharSet({{'e', 'e'}, {'E', 'E'}}));
  const RegexId exponent = pool->concat(mark, pool->concat(sign, digits(pool, 1, RegexPool::kUnbounded)));
  return pool->concat(plain_number(pool), pool->optional(exponent));
}

RegexId whole_number(RegexPool* pool) {
  return with_sign(pool->concat(whole_part(pool), pool->optional(pool->concat(pool->literal("."), zeros(pool, 1)))),
                   pool);
}

RegexId digits_number(RegexPool* pool) { return with_sign(whole_part(pool), pool); }

RegexId shortest_number(RegexPool* pool) {
  const RegexId digit = pool->chars(CharSet({{'0', '9'}}));
  const RegexId last = pool->chars(CharSet({{'1', '9'}}));
  const RegexId places = pool->concat(pool->repeat(digit, 0, RegexPool::kUnbounded), last);
  const RegexId plain = pool->concat(whole_part(pool), pool->optional(pool->concat(pool->literal("."), places)));
  return pool->conj({with_sign(plain, pool), pool->negate(pool->literal("-0"))});
}

Result<RegexId> bounded_number(Bound bound, const Decimal& value, RegexPool* pool) {
  DECANT_TRY(auto parts, value.split());
  auto automaton =
      std::make_shared<BoundAutomaton>(bound, value.negative, std::move(parts.first), std::move(parts.second));
  return pool->leaf(std::move(automaton), BoundAutomaton::start());
}

Result<RegexId> multiple_of(const Decimal& value, RegexPool* pool) {
  const auto size = static_cast<int64_t>(value.digits.size());
  if (value.is_zero() || value.negative || size + std::max<int64_t>(0, value.exponent) > 18 || value.exponent < -300) {
    return Status::unsupported("a divisor of more than 18 digits");
  }
  uint64_t modulus = std::stoull(value.digits);
  for (int64_t i = 0; i < value.exponent; ++i) modulus *= 10;
  const int places = value.exponent < 0 ? static_cast<int>(-value.exponent) : 0;
  return pool->leaf(std::make_shared<MultipleAutomaton>(modulus, places), 0);
}

Result<RegexId> number_equal_to(const Decimal& value, RegexPool* pool) {
  DECANT_TRY(const auto parts, value.split());
  const auto& [whole, fraction] = parts;
  const RegexId point_zeros = pool->optional(pool->concat(pool->literal("."), zeros(pool, 1)));
  if (value.is_zero()) return with_sign(pool->concat(pool->literal("0"), point_zeros), pool);
  const std::string text = (value.negative ? "-" : "") + (whole.empty() ? "0" : whole);
  if (fraction.empty()) return pool->concat(pool->literal(text), point_zeros);
  return pool->concat(pool->literal(text + "." + fraction), zeros(pool, 0));
}

}  // namespace decant
