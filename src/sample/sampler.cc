// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "sample/sampler.h"

#include <algorithm>
#include <bit>
#include <cctype>
#include <cmath>
#include <functional>
#include <iterator>
#include <limits>
#include <map>
#include <numbers>
#include <optional>
#include <string_view>

namespace decant {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kLargest = std::numeric_limits<float>::max();

enum Step : int {
  kPenalties,
  kDry,
  kTopNSigma,
  kTopK,
  kTypical,
  kTopP,
  kMinP,
  kXtc,
  kTemperature,
  kMirostat1,
  kMirostat2,
};

struct StepName {
  std::string_view name;  // in lower case, without '_' and '-'
  Step step;
};

constexpr StepName kStepNames[] = {
    {"penalties", kPenalties}, {"dry", kDry},
    {"topnsigma", kTopNSigma}, {"topk", kTopK},
    {"typp", kTypical},        {"typ", kTypical},
    {"typical", kTypical},     {"typicalp", kTypical},
    {"topp", kTopP},           {"nucleus", kTopP},
    {"minp", kMinP},           {"xtc", kXtc},
    {"temp", kTemperature},    {"temperature", kTemperature},
};

Result<std::vector<Step>> parse_samplers(std::string_view text) {
  std::vector<Step> steps;
  if (text.empty()) return steps;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(';', begin), text.size());
    const std::string_view name = text.substr(begin, end - begin);
    std::string plain;
    for (const char c : name) {
      if (c != '_' && c != '-') plain += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    }
    const auto* found = std::find_if(std::begin(kStepNames), std::end(kStepNames),
                                     [&](const StepName& known) { return known.name == plain; });
    if (found == std::end(kStepNames)) {
      return Status::invalid_argument(
          "samplers: unknown sampler '{}'; give names of penalties, dry, top_n_sigma, top_k, typ_p, top_p, min_p, xtc, "
          "temperature with ';' between them",
          name);
    }
    steps.push_back(found->step);
    begin = end + 1;
  }
  return steps;
}

// ---- Passes over the vocabulary. Each works on blocks of 64 logits in independent lanes, and chooses on integers, not
// floats: the compiler vectorises that without being allowed to reassociate sums or to ignore traps.

constexpr size_t kBlock = 64;
constexpr size_t kLanes = 16;

size_t block_count(size_t n) { return (n + kBlock - 1) / kBlock; }

// Integers in the order of the floats (-0 just below +0, NaN at both ends) and back.
inline int32_t order_key(int32_t bits) { return bits ^ ((bits >> 31) & 0x7fffffff); }
constexpr int32_t kMinusInfKey = -0x7f800001;

// The greatest of 64 values; NaN, or +infinity, if one of them is.
inline float block_maximum(const float* x) {
  int32_t high[kLanes], low[kLanes];
  for (size_t j = 0; j < kLanes; ++j) high[j] = low[j] = order_key(std::bit_cast<int32_t>(x[j]));
  for (size_t row = kLanes; row < kBlock; row += kLanes) {
    for (size_t j = 0; j < kLanes; ++j) {
      const int32_t key = order_key(std::bit_cast<int32_t>(x[row + j]));
      high[j] = key > high[j] ? key : high[j];
      low[j] = key < low[j] ? key : low[j];
    }
  }
  int32_t highest = high[0], lowest = low[0];
  for (size_t j = 1; j < kLanes; ++j) {
    highest = std::max(highest, high[j]);
    lowest = std::min(lowest, low[j]);
  }
  return lowest < kMinusInfKey ? std::numeric_limits<float>::quiet_NaN() : std::bit_cast<float>(order_key(highest));
}

// e^x for x <= 0 within 2 ulp; 0 below -87. e^x = 2^n e^r with |r| <= ln(2)/2: eight Taylor terms err by r^8/8! < 6e-9.
inline float exp_nonpositive(float x) {
  constexpr float kRound = 0x1.8p23f;  // adding and subtracting it rounds to an integer
  constexpr int32_t kLimit = std::bit_cast<int32_t>(87.0f);
  const int32_t magnitude = std::bit_cast<int32_t>(x) & 0x7fffffff;
  const float clamped = -std::bit_cast<float>(magnitude < kLimit ? magnitude : kLimit);
  const float n = (clamped * std::numbers::log2e_v<float> + kRound) - kRound;
  const float r = (clamped - n * 0.693359375f) + n * 2.12194440e-4f;  // ln 2 in two parts, the first exact in 9 bits
  float y = 1.0f / 5040;
  y = y * r + 1.0f / 720;
  y = y * r + 1.0f / 120;
  y = y * r + 1.0f / 24;
  y = y * r + 1.0f / 6;
  y = y * r + 0.5f;
  y = y * r + 1.0f;
  y = y * r + 1.0f;
  const float scaled = y * std::bit_cast<float>((static_cast<int32_t>(n) + 127) << 23);
  return std::bit_cast<float>(std::bit_cast<int32_t>(scaled) & (magnitude < kLimit ? -1 : 0));
}

// The sum of e^(x - max) over 64 values, pairwise.
inline float block_mass(const float* x, float max) {
  float e[kBlock];
  for (size_t j = 0; j < kBlock; ++j) e[j] = exp_nonpositive(x[j] - max);
  for (size_t width = kBlock / 2; width > 0; width /= 2) {
    for (size_t j = 0; j < width; ++j) e[j] += e[j + width];
  }
  return e[0];
}

struct Candidate {
  float logit;
  int32_t id;
};

// The order of every sort and selection: likeliest first, ties by lower id.
bool before(const Candidate& a, const Candidate& b) { return a.logit > b.logit || (a.logit == b.logit && a.id < b.id); }

// The length of the shortest prefix of `sorted` whose mass reaches `target` and that has `min_keep` entries; 0 if there
// is none.
size_t nucleus(std::span<const Candidate> sorted, float max, double target, size_t min_keep) {
  double cumulated = 0;
  for (size_t i = 0; i < sorted.size(); ++i) {
    cumulated += std::exp(static_cast<double>(sorted[i].logit) - max);
    if (cumulated >= target && i + 1 >= min_keep) return i + 1;
  }
  return 0;
}

}  // namespace

// The tokens still in play. Starts dense (the caller's logits, by token id, with the maximum of every block of 64) and
// becomes a list at the first filter. Block maxima make selection cheap: the k-th greatest of them bounds the k-th
// greatest logit from below, so only blocks above it are read again. Tokens at -infinity are forbidden: never listed,
// but counted in total_, as llama.cpp counts them, because min_keep and the dynamic temperature look at that count.
class Sampler::Candidates {
 public:
  // All of `logits`, or those that `mask` allows; `logits` must outlive this. kInvalidArgument for NaN and +infinity.
  Status reset(std::span<const float> logits, std::span<const uint64_t> mask = {}) {
    source_ = logits;
    if (!mask.empty()) keep_allowed(mask);
    is_dense_ = true;
    is_sorted_ = false;
    total_ = logits.size();
    block_max_.resize(block_count(logits.size()));
    bool valid = true;
    for (size_t b = 0; b < block_max_.size(); ++b) {
      block_max_[b] = mask.empty() || mask[b] != 0 ? maximum(b) : -kInf;
      valid &= block_max_[b] <= kLargest;
    }
    if (!valid) {
      const auto block = std::find_if(block_max_.begin(), block_max_.end(), [](float m) { return !(m <= kLargest); });
      const auto begin = source_.begin() + (block - block_max_.begin()) * static_cast<ptrdiff_t>(kBlock);
      const auto bad = std::find_if(begin, source_.end(), [](float v) { return !(v <= kLargest); });
      return Status::invalid_argument("logits: entry {} is {}; the model's output is not usable", bad - source_.begin(),
                                      *bad);
    }
    refresh_max();
    return Status();
  }

  bool is_dense() const { return is_dense_; }
  bool empty() const { return max_ == -kInf; }
  float max() const { return max_; }
  size_t vocab_size() const { return source_.size(); }
  // Meaningful once dense no more.
  std::span<const Candidate> list() const { return list_; }

  // Sum of e^(logit - max) over the candidates.
  double mass() const {
    double sum = 0;
    if (is_dense_) {
      float padded[kBlock];
      for (size_t b = 0; b < block_max_.size(); ++b) {
        if (is_in_play(b)) sum += block_mass(block(b, padded), max_);
      }
    } else {
      for (const Candidate& c : list_) sum += weight(c);
    }
    return sum;
  }

  // ---- Edits.

  // logit = f(logit, token) for the tokens listed that are candidates; they must be distinct and in range.
  // kInvalidArgument, naming `what`, if a logit becomes NaN or +infinity.
  template <typename F>
  Status edit(std::span<const int32_t> tokens, std::string_view what, F&& f) {
    if (tokens.empty()) return Status();
    std::optional<int32_t> bad;
    const auto change = [&](float* logit, int32_t token) {
      if (*logit == -kInf) return;  // forbidden stays forbidden
      *logit = f(*logit, token);
      if (!(*logit <= kLargest)) bad = token;
    };
    if (is_dense_) {
      float* values = own();
      for (const int32_t token : tokens) {
        if (is_in_play(token / kBlock)) change(&values[token], token);
      }
    } else {
      marks_.resize(vocab_size());
      for (const int32_t token : tokens) marks_[token] = 1;
      for (Candidate& c : list_) {
        if (marks_[c.id] != 0) change(&c.logit, c.id);
      }
      for (const int32_t token : tokens) marks_[token] = 0;
      std::erase_if(list_, [](const Candidate& c) { return c.logit == -kInf; });
      is_sorted_ = false;
    }
    if (bad) {
      return Status::invalid_argument("{}: the logit of token {} overflows; the value is too large", what, *bad);
    }
    if (!is_dense_) {
      refresh_max();
    } else if (tokens.size() >= block_max_.size()) {
      refresh_blocks();
    } else {
      for (const int32_t token : tokens) {
        if (is_in_play(token / kBlock)) block_max_[token / kBlock] = maximum(token / kBlock);
      }
      refresh_max();
    }
    return Status();
  }

  // logit /= temperature, temperature > 0.
  void scale(float temperature) {
    // Relative to the maximum where the quotient itself would overflow: the distribution is the same.
    const float base = std::isfinite(max_ / temperature) ? 0.0f : max_;
    if (is_dense_) {
      float* values = own();
      for (size_t b = 0; b < block_max_.size(); ++b) {
        if (!is_in_play(b)) continue;
        const size_t end = std::min((b + 1) * kBlock, source_.size());
        for (size_t i = b * kBlock; i < end; ++i) values[i] = (values[i] - base) / temperature;
      }
      for (float& m : block_max_) m = (m - base) / temperature;  // rounding is monotone
    } else {
      for (Candidate& c : list_) c.logit = (c.logit - base) / temperature;
      std::erase_if(list_, [](const Candidate& c) { return c.logit == -kInf; });
      is_sorted_ = false;  // rounding may have made ties
    }
    max_ = (max_ - base) / temperature;
  }

  // ---- Filters.

  // Only the likeliest token.
  void keep_argmax() {
    const Candidate best = argmax();
    become_list();
    list_.assign(1, best);
    is_sorted_ = true;
    total_ = 1;
  }

  void keep_top(size_t k) {
    total_ = std::min(total_, k);
    if (is_dense_) {
      collect(top_threshold(k), &list_);
      become_list();
    }
    if (k >= list_.size()) return;
    if (!is_sorted_) std::nth_element(list_.begin(), list_.begin() + static_cast<ptrdiff_t>(k), list_.end(), before);
    list_.resize(k);
  }

  void keep_nucleus(double p, size_t min_keep) {
    const double target = p * mass();
    if (is_dense_) {
      for (const size_t k : {size_t{64}, size_t{1024}}) {
        if (k >= source_.size()) break;
        const std::span<const Candidate> top = peek_top(k);
        const size_t kept = nucleus(top, max_, target, min_keep);
        if (kept == 0) continue;
        list_.assign(top.begin(), top.begin() + static_cast<ptrdiff_t>(kept));
        become_list();
        is_sorted_ = true;
        total_ = kept;
        return;
      }
      make_list();
    }
    double cumulated = 0;
    size_t done = 0;
    for (size_t k = 256; done < list_.size(); k *= 8) {
      const size_t end = std::min(k, list_.size());
      sort_range(done, end);
      for (; done < end; ++done) {
        cumulated += weight(list_[done]);
        if (cumulated >= target && done + 1 >= min_keep) {
          list_.resize(done + 1);
          total_ = done + 1;
          is_sorted_ = true;
          return;
        }
      }
    }
    is_sorted_ = true;
    if (cumulated >= target) total_ = std::min(total_, std::max(list_.size(), min_keep));
  }

  // Tokens of at least p times the likeliest one's probability.
  void keep_min_p(float p, size_t min_keep) {
    const float threshold = max_ + std::log(p);
    collect(threshold, &spare_);
    if (spare_.size() < min_keep || spare_.empty()) return keep_top(min_keep);
    become_list();
    list_.swap(spare_);
    total_ = list_.size();
  }

  // Tokens within n standard deviations of the greatest logit. Those cut still count in total_, as in llama.cpp.
  void keep_top_n_sigma(double n) {
    if (total_ <= 1) return;
    double sum = 0, squares = 0;
    size_t count = 0;
    for_each([&](const Candidate& c) { sum += c.logit, ++count; });
    const double mean = sum / static_cast<double>(count);
    for_each([&](const Candidate& c) { squares += (c.logit - mean) * (c.logit - mean); });
    const double threshold = max_ - n * std::sqrt(squares / static_cast<double>(count));
    // The nearest float may lie above the threshold; what then slips in is taken out again in double.
    collect(std::nextafter(static_cast<float>(std::max(threshold, -double{kLargest})), -kInf), &spare_);
    std::erase_if(spare_, [&](const Candidate& c) { return c.logit < threshold; });
    become_list();
    list_.swap(spare_);
  }

  void keep_typical(double p, size_t min_keep) {
    make_list();
    const double log_mass = std::log(mass());
    double entropy = 0;
    for (const Candidate& c : list_) {
      const double log_p = static_cast<double>(c.logit) - max_ - log_mass;
      entropy -= std::exp(log_p) * log_p;
    }
    typical_.clear();
    for (const Candidate& c : list_) {
      const double log_p = static_cast<double>(c.logit) - max_ - log_mass;
      typical_.push_back({.distance = std::abs(-log_p - entropy), .candidate = c});
    }
    // A heap, not a sort: mostly few tokens are taken.
    const auto later = [](const Typical& a, const Typical& b) {
      return a.distance > b.distance || (a.distance == b.distance && before(b.candidate, a.candidate));
    };
    std::make_heap(typical_.begin(), typical_.end(), later);
    list_.clear();
    double cumulated = 0;
    const double mass_inverse = std::exp(-log_mass);
    while (!typical_.empty() && !(cumulated > p && list_.size() >= min_keep)) {
      std::pop_heap(typical_.begin(), typical_.end(), later);
      list_.push_back(typical_.back().candidate);
      typical_.pop_back();
      cumulated += weight(list_.back()) * mass_inverse;
    }
    is_sorted_ = false;
    if (cumulated > p) total_ = std::min(total_, std::max(list_.size(), min_keep));
    refresh_max();
  }

  // Takes out all tokens of at least probability `threshold` but the least likely of them.
  void exclude_top_choices(double threshold, size_t min_keep) {
    const double sum = mass();
    const double bound = max_ + std::log(threshold * sum);
    // One part in a million of slack for rounding; the exact test follows.
    collect(static_cast<float>(std::max(bound - 1e-6 * (1 + std::abs(bound)), -double{kLargest})), &spare_);
    std::erase_if(spare_, [&](const Candidate& c) { return !(weight(c) / sum >= threshold); });
    if (spare_.size() < 2) return;
    const size_t removed = spare_.size() - 1;
    if (total_ - removed < min_keep) return;
    const Candidate kept = *std::max_element(spare_.begin(), spare_.end(), before);
    total_ -= removed;
    if (is_dense_) {
      float* values = own();
      for (const Candidate& c : spare_) {
        if (c.id != kept.id) values[c.id] = -kInf;
      }
      for (const Candidate& c : spare_) block_max_[c.id / kBlock] = maximum(c.id / kBlock);
    } else {
      std::erase_if(list_, [&](const Candidate& c) { return before(c, kept); });
    }
    refresh_max();
  }

  void scale_by_entropy(float low, float high, float exponent) {
    if (total_ <= 1) return;
    make_list();
    const double sum = mass();
    double entropy = std::log(sum);
    for (const Candidate& c : list_) entropy -= weight(c) / sum * (static_cast<double>(c.logit) - max_);
    const double share = std::clamp(entropy / std::log(static_cast<double>(total_)), 0.0, 1.0);
    const auto temperature = static_cast<float>(low + (static_cast<double>(high) - low) * std::pow(share, exponent));
    temperature > 0 ? scale(temperature) : keep_argmax();
  }

  // Basu et al. 2021, algorithm 1: estimates Zipf's exponent from the likeliest 100 tokens, from it the k whose
  // truncation has surprise mu.
  void keep_mirostat1(double mu) {
    const std::span<const Candidate> top = peek_top(100);
    double sum_tb = 0, sum_tt = 0;
    for (size_t i = 0; i + 1 < top.size(); ++i) {
      const double t = std::log(static_cast<double>(i + 2) / static_cast<double>(i + 1));
      sum_tb += t * (static_cast<double>(top[i].logit) - top[i + 1].logit);
      sum_tt += t * t;
    }
    if (sum_tt == 0) return;  // one token
    const double s = sum_tb / sum_tt;
    const double epsilon = s - 1;
    const auto n = static_cast<double>(vocab_size());
    // (1 - n^-epsilon) / epsilon tends to ln n.
    const double span = std::abs(epsilon) < 1e-9 ? std::log(n) : (1 - std::pow(n, -epsilon)) / epsilon;
    const double k = std::pow(std::exp2(mu) / span, 1 / s);
    // Not finite where all 100 are equally likely (s = 0): then the estimate says nothing about k but its side of 1.
    keep_top(k >= static_cast<double>(total_) ? total_ : k >= 1 ? static_cast<size_t>(k) : 1);
  }

  // Algorithm 2: tokens of at most mu bits of surprise, at least one.
  void keep_mirostat2(double mu) {
    const double threshold = static_cast<double>(max_) + std::log(mass()) - mu * std::numbers::ln2;
    if (max_ < threshold) return keep_argmax();
    collect(std::nextafter(static_cast<float>(std::max(threshold, -double{kLargest})), -kInf), &spare_);
    std::erase_if(spare_, [&](const Candidate& c) { return c.logit < threshold; });
    become_list();
    list_.swap(spare_);
    total_ = list_.size();
  }

  // ---- What the draw reads.

  Candidate argmax() const {
    if (!is_dense_) return *std::min_element(list_.begin(), list_.end(), before);
    const size_t b = static_cast<size_t>(std::find(block_max_.begin(), block_max_.end(), max_) - block_max_.begin());
    const auto begin = source_.begin() + static_cast<ptrdiff_t>(b * kBlock);
    return {max_, static_cast<int32_t>(std::find(begin, source_.end(), max_) - source_.begin())};
  }

  // The k likeliest, sorted. Valid until the next call that is not const.
  std::span<const Candidate> peek_top(size_t k) {
    if (is_dense_) {
      collect(top_threshold(k), &spare_);
    } else {
      spare_ = list_;
    }
    k = std::min(k, spare_.size());
    std::partial_sort(spare_.begin(), spare_.begin() + static_cast<ptrdiff_t>(k), spare_.end(), before);
    return {spare_.data(), k};
  }

  // Calls f for every candidate; while dense, by ascending id.
  template <typename F>
  void for_each(F&& f) const {
    for_each_above([] { return -kInf; }, f);
  }

  // As for_each, but may leave out candidates whose logit is below floor(), which may rise from call to call.
  template <typename Floor, typename F>
  void for_each_above(Floor&& floor, F&& f) const {
    if (!is_dense_) {
      for (const Candidate& c : list_) f(c);
      return;
    }
    for (size_t b = 0; b < block_max_.size(); ++b) {
      if (!is_in_play(b) || block_max_[b] < floor()) continue;
      const size_t end = std::min((b + 1) * kBlock, source_.size());
      for (size_t i = b * kBlock; i < end; ++i) {
        if (source_[i] > -kInf) f(Candidate{source_[i], static_cast<int32_t>(i)});
      }
    }
  }

  // Scratch of the steps that read the history; counts_ is all 0 between uses.
  std::vector<int32_t> history_, distinct_, counts_, lengths_;

 private:
  struct Typical {
    double distance;
    Candidate candidate;
  };

  double weight(const Candidate& c) const { return std::exp(static_cast<double>(c.logit) - max_); }

  // The 64 logits of a block; the last one may be short and is padded with -infinity.
  const float* block(size_t b, float* padded) const {
    const size_t begin = b * kBlock, left = source_.size() - begin;
    if (left >= kBlock) return source_.data() + begin;
    std::fill(std::copy_n(source_.data() + begin, left, padded), padded + kBlock, -kInf);
    return padded;
  }

  float maximum(size_t b) const {
    float padded[kBlock];
    return block_maximum(block(b, padded));
  }

  // Whether a block has candidates. One that has none is not read: behind a mask it holds anything.
  bool is_in_play(size_t b) const { return block_max_[b] > -kInf; }

  // A copy of what the mask allows. Blocks of which it allows nothing stay as they were: their logits may not even have
  // been computed.
  void keep_allowed(std::span<const uint64_t> mask) {
    const std::span<const float> logits = source_;
    values_.resize(logits.size());
    for (size_t b = 0; b < mask.size(); ++b) {
      if (mask[b] == 0) continue;
      const size_t begin = b * kBlock, n = std::min(kBlock, logits.size() - begin);
      const uint64_t allowed = n == kBlock ? mask[b] : mask[b] & ((uint64_t{1} << n) - 1);
      const float* from = logits.data() + begin;
      float* to = values_.data() + begin;
      if (std::popcount(allowed) > static_cast<int>(kBlock / 2)) {
        std::copy_n(from, n, to);
        for (uint64_t bits = ~allowed; bits != 0; bits &= bits - 1) {
          const auto i = static_cast<size_t>(std::countr_zero(bits));
          if (i >= n) break;
          to[i] = -kInf;
        }
      } else {
        std::fill_n(to, n, -kInf);
        for (uint64_t bits = allowed; bits != 0; bits &= bits - 1) {
          const auto i = static_cast<size_t>(std::countr_zero(bits));
          to[i] = from[i];
        }
      }
    }
    source_ = values_;
  }

  // A copy of the logits that may be written.
  float* own() {
    if (source_.data() != values_.data()) {
      values_.assign(source_.begin(), source_.end());
      source_ = values_;
    }
    return values_.data();
  }

  void refresh_blocks() {
    for (size_t b = 0; b < block_max_.size(); ++b) {
      if (is_in_play(b)) block_max_[b] = maximum(b);
    }
    refresh_max();
  }

  void refresh_max() {
    max_ = -kInf;
    if (is_dense_) {
      for (const float m : block_max_) max_ = m > max_ ? m : max_;
    } else {
      for (const Candidate& c : list_) max_ = c.logit > max_ ? c.logit : max_;
    }
  }

  // A value that at least k logits reach.
  float top_threshold(size_t k) {
    if (k >= block_max_.size()) return -kLargest;
    maxima_ = block_max_;
    const auto nth = maxima_.begin() + static_cast<ptrdiff_t>(k - 1);
    std::nth_element(maxima_.begin(), nth, maxima_.end(), std::greater<>());
    return *nth;
  }

  // Puts the candidates of at least `threshold` into `out`, which is not list_ unless dense; keeps the order of the
  // list.
  void collect(float threshold, std::vector<Candidate>* out) const {
    out->clear();
    if (!is_dense_) {
      std::copy_if(list_.begin(), list_.end(), std::back_inserter(*out),
                   [&](const Candidate& c) { return c.logit >= threshold; });
      return;
    }
    threshold = std::max(threshold, -kLargest);
    for (size_t b = 0; b < block_max_.size(); ++b) {
      if (!(block_max_[b] >= threshold)) continue;
      const size_t begin = b * kBlock, end = std::min(begin + kBlock, source_.size());
      size_t size = out->size();
      out->resize(size + kBlock);
      Candidate* data = out->data();
      for (size_t i = begin; i < end; ++i) {
        data[size] = {source_[i], static_cast<int32_t>(i)};
        size += source_[i] >= threshold ? 1 : 0;
      }
      out->resize(size);
    }
  }

  // From here on list_ counts.
  void become_list() {
    if (is_dense_) is_sorted_ = false;
    is_dense_ = false;
  }

  void make_list() {
    if (!is_dense_) return;
    collect(-kLargest, &list_);
    become_list();
  }

  // Brings into place the entries [begin, end) of the sorted list; those before `begin` are in place.
  void sort_range(size_t begin, size_t end) {
    if (is_sorted_) return;
    const auto first = list_.begin() + static_cast<ptrdiff_t>(begin),
               last = list_.begin() + static_cast<ptrdiff_t>(end);
    if (last != list_.end()) std::nth_element(first, last, list_.end(), before);
    std::sort(first, last, before);
  }

  std::span<const float> source_;  // the caller's logits or values_; what dense candidates are
  std::vector<float> values_;
  std::vector<float> block_max_, maxima_;
  std::vector<Candidate> list_, spare_;
  std::vector<Typical> typical_;
  std::vector<uint8_t> marks_;  // all 0 between uses
  float max_ = -kInf;
  size_t total_ = 0;
  bool is_dense_ = true;
  bool is_sorted_ = false;  // list_ is in the order of before()
};

// ---- State.

struct SamplerState::Node {
  Node(int32_t t, std::shared_ptr<const Node> p) : token(t), previous(std::move(p)) {}
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  // A chain is released in a loop, not by recursion, whose depth would be the length of the text: the outermost
  // destructor collects what the ones it causes would otherwise release themselves.
  ~Node() {
    thread_local std::shared_ptr<const Node>* collector = nullptr;
    if (collector != nullptr) {
      *collector = std::move(previous);
      return;
    }
    std::shared_ptr<const Node> next = std::move(previous), collected;
    collector = &collected;
    while (next != nullptr) {
      next.reset();
      next = std::move(collected);
    }
    collector = nullptr;
  }

  int32_t token;
  std::shared_ptr<const Node> previous;
};

void Sampler::push(SamplerState* state, int32_t token) {
  state->history_ = std::make_shared<const SamplerState::Node>(token, std::move(state->history_));
  ++state->length_;
}

// Drops what no window reaches once that is half of the history, so that its cost per token is constant.
void Sampler::trim(SamplerState* state) const {
  const int64_t window = std::max(penalty_window_, dry_window_);
  if (state->length_ < 2 * window + 64) return;
  std::vector<int32_t> kept;
  for (const auto* node = state->history_.get(); node != nullptr && std::ssize(kept) < window;
       node = node->previous.get()) {
    kept.push_back(node->token);
  }
  state->history_ = nullptr;
  state->length_ = 0;
  for (size_t i = kept.size(); i-- > 0;) push(state, kept[i]);
}

SamplerState Sampler::start(std::span<const int32_t> prompt) const {
  SamplerState state;
  state.mirostat_mu_ = 2 * options_.mirostat_tau;
  const size_t window = static_cast<size_t>(std::max(penalty_window_, dry_window_));
  for (const int32_t token : prompt.last(std::min(prompt.size(), window))) push(&state, token);
  return state;
}

SamplerState Sampler::advance(const SamplerState& state, int32_t token) const {
  SamplerState next = state;
  if (penalty_window_ == 0 && dry_window_ == 0) return next;
  push(&next, token);
  trim(&next);
  return next;
}

SamplerState Sampler::advance(const SamplerState& state, const Draw& draw) const {
  SamplerState next = advance(state, draw.token);
  next.mirostat_mu_ -= options_.mirostat_eta * (draw.surprise - options_.mirostat_tau);
  return next;
}

// ---- Options.

Status SamplerOptions::validate() const {
  struct Range {
    const char* name;
    float value, low, high;
  };
  const float lowest_penalty = std::numeric_limits<float>::min();  // its inverse is finite
  const Range ranges[] = {
      {"temperature", temperature, -kLargest, kLargest},
      {"dynatemp_range", dynatemp_range, 0, kLargest},
      {"dynatemp_exponent", dynatemp_exponent, 0, kLargest},
      {"top_p", top_p, 0, kLargest},
      {"min_p", min_p, -kLargest, kLargest},
      {"typical_p", typical_p, 0, kLargest},
      {"top_n_sigma", top_n_sigma, -kLargest, kLargest},
      {"xtc_probability", xtc_probability, 0, 1},
      {"xtc_threshold", xtc_threshold, 0, kLargest},
      {"repeat_penalty", repeat_penalty, lowest_penalty, kLargest},
      {"presence_penalty", presence_penalty, -kLargest, kLargest},
      {"frequency_penalty", frequency_penalty, -kLargest, kLargest},
      {"dry_multiplier", dry_multiplier, 0, kLargest},
      {"dry_base", dry_base, 1, kLargest},
      {"mirostat_tau", mirostat_tau, 0, kLargest},
      {"mirostat_eta", mirostat_eta, 0, kLargest},
  };
  for (const Range& r : ranges) {
    if (r.value >= r.low && r.value <= r.high) continue;
    if (!std::isfinite(r.value))
      return Status::invalid_argument("{}: {} is not a number to work with", r.name, r.value);
    if (r.high == kLargest) return Status::invalid_argument("{}: {} is below {}", r.name, r.value, r.low);
    return Status::invalid_argument("{}: {} is not in [{}, {}]", r.name, r.value, r.low, r.high);
  }
  struct IntRange {
    const char* name;
    int value, low, high;
  };
  constexpr int kIntMax = std::numeric_limits<int>::max();
  const IntRange int_ranges[] = {
      {"min_keep", min_keep, 1, kIntMax},
      {"repeat_last_n", repeat_last_n, -1, kIntMax},
      {"dry_allowed_length", dry_allowed_length, 0, kIntMax},
      {"dry_penalty_last_n", dry_penalty_last_n, -1, kIntMax},
      {"mirostat", mirostat, 0, 2},
      {"n_ctx", n_ctx, 1, kIntMax},
  };
  for (const IntRange& r : int_ranges) {
    if (r.value < r.low) return Status::invalid_argument("{}: {} is below {}", r.name, r.value, r.low);
    if (r.value > r.high) return Status::invalid_argument("{}: {} is above {}", r.name, r.value, r.high);
  }
  for (const auto& [token, bias] : logit_bias) {
    if (token < 0) return Status::invalid_argument("logit_bias: token {} is negative", token);
    if (!(bias <= kLargest)) {
      return Status::invalid_argument("logit_bias: {} for token {}; give a finite bias, or -infinity to forbid it",
                                      bias, token);
    }
  }
  for (const std::vector<int32_t>& breaker : dry_breakers) {
    if (breaker.empty()) return Status::invalid_argument("dry_breakers: an empty sequence would break at every token");
    for (const int32_t token : breaker) {
      if (token < 0) return Status::invalid_argument("dry_breakers: token {} is negative", token);
    }
  }
  for (const int32_t token : end_tokens) {
    if (token < 0) return Status::invalid_argument("end_tokens: token {} is negative", token);
  }
  return parse_samplers(samplers).status();
}

namespace {

bool is_on(Step step, const SamplerOptions& o) {
  switch (step) {
    case kPenalties:
      return o.repeat_last_n != 0 && (o.repeat_penalty != 1 || o.frequency_penalty != 0 || o.presence_penalty != 0);
    case kDry: return o.dry_multiplier != 0 && o.dry_penalty_last_n != 0;
    case kTopNSigma: return o.top_n_sigma > 0;
    case kTopK: return o.top_k > 0;
    case kTypical: return o.typical_p < 1;
    case kTopP: return o.top_p < 1;
    case kMinP: return o.min_p > 0;
    case kXtc: return o.xtc_probability > 0 && o.xtc_threshold <= 0.5f;
    case kTemperature: return o.temperature != 1 || o.dynatemp_range > 0;
    case kMirostat1:
    case kMirostat2: return true;
  }
  return false;
}

bool keeps_argmax(Step step) { return step == kTopNSigma || step == kTopK || step == kTopP || step == kMinP; }

// The steps that can matter. Greedy needs no filter behind the last step that can change the argmax.
std::vector<int> compile(std::vector<Step> steps, const SamplerOptions& options) {
  const bool greedy = options.temperature <= 0;
  if (options.mirostat != 0) {
    steps = {kTemperature, options.mirostat == 1 ? kMirostat1 : kMirostat2};
  } else if (greedy) {
    steps.erase(std::find(steps.begin(), steps.end(), kTemperature), steps.end());
  }
  std::erase_if(steps, [&](Step step) { return !is_on(step, options); });
  if (greedy && options.mirostat == 0) {
    while (!steps.empty() && keeps_argmax(steps.back())) steps.pop_back();
    steps.push_back(kTemperature);
  }
  return {steps.begin(), steps.end()};
}

}  // namespace

Result<Sampler> Sampler::create(SamplerOptions options, int vocab_size) {
  DECANT_TRY_STATUS(options.validate());
  if (vocab_size < 1) return Status::invalid_argument("vocab_size: {} is below 1", vocab_size);
  for (const auto& [token, bias] : options.logit_bias) {
    if (token >= vocab_size) {
      return Status::invalid_argument("logit_bias: token {} is not in the vocabulary of {} tokens", token, vocab_size);
    }
  }
  for (const std::vector<int32_t>& breaker : options.dry_breakers) {
    for (const int32_t token : breaker) {
      if (token < vocab_size) continue;
      return Status::invalid_argument("dry_breakers: token {} is not in the vocabulary of {} tokens", token,
                                      vocab_size);
    }
  }
  Sampler sampler;
  std::map<int32_t, float> biases;  // given twice, they add up
  for (const auto& [token, bias] : options.logit_bias) biases[token] += bias;
  if (options.ignore_eos) {
    for (const int32_t token : options.end_tokens) {
      if (token >= vocab_size) {
        return Status::invalid_argument("end_tokens: token {} is not in the vocabulary of {} tokens", token,
                                        vocab_size);
      }
      biases[token] = -kInf;
    }
  }
  for (const auto& [token, bias] : biases) {
    sampler.biased_.push_back(token);
    sampler.bias_.push_back(bias);
  }
  DECANT_TRY(std::vector<Step> steps, parse_samplers(options.samplers));
  sampler.chain_ = compile(std::move(steps), options);
  const auto window = [&](Step step, int last_n) {
    if (std::find(sampler.chain_.begin(), sampler.chain_.end(), step) == sampler.chain_.end()) return 0;
    return last_n < 0 ? options.n_ctx : last_n;
  };
  sampler.penalty_window_ = window(kPenalties, options.repeat_last_n);
  sampler.dry_window_ = window(kDry, options.dry_penalty_last_n);
  sampler.breakers_ = options.dry_breakers;
  std::sort(sampler.breakers_.begin(), sampler.breakers_.end());
  sampler.options_ = std::move(options);
  sampler.vocab_size_ = vocab_size;
  return sampler;
}

// ---- The chain.

Status Sampler::apply_bias(Candidates* candidates) const {
  return candidates->edit(biased_, "logit_bias", [&](float logit, int32_t token) {
    return logit +
           bias_[static_cast<size_t>(std::lower_bound(biased_.begin(), biased_.end(), token) - biased_.begin())];
  });
}

Status Sampler::apply_penalties(const SamplerState& state, Candidates* candidates) const {
  std::vector<int32_t>& distinct = candidates->distinct_;
  std::vector<int32_t>& counts = candidates->counts_;
  distinct.clear();
  counts.resize(static_cast<size_t>(vocab_size_));
  const SamplerState::Node* node = state.history_.get();
  for (int i = 0; i < penalty_window_ && node != nullptr; ++i, node = node->previous.get()) {
    if (node->token < 0 || node->token >= vocab_size_) continue;  // never a candidate
    if (counts[node->token]++ == 0) distinct.push_back(node->token);
  }
  Status status = candidates->edit(
      distinct, "repeat_penalty, frequency_penalty, presence_penalty", [&](float logit, int32_t token) {
        // Dividing a negative logit would make the token likelier.
        logit = logit <= 0 ? logit * options_.repeat_penalty : logit / options_.repeat_penalty;
        return logit - (static_cast<float>(counts[token]) * options_.frequency_penalty + options_.presence_penalty);
      });
  for (const int32_t token : distinct) counts[token] = 0;
  return status;
}

// DRY ("don't repeat yourself"): a token that would extend a repetition of at least dry_allowed_length tokens, the
// text's end being one copy of it, loses multiplier * base^(length - allowed). A repetition does not reach over a
// sequence breaker.
Status Sampler::apply_dry(const SamplerState& state, Candidates* candidates) const {
  std::vector<int32_t>& text = candidates->history_;  // newest first
  text.clear();
  for (const auto* node = state.history_.get(); node != nullptr && std::ssize(text) < dry_window_;
       node = node->previous.get()) {
    text.push_back(node->token);
  }
  const int n = static_cast<int>(text.size());
  const int allowed = options_.dry_allowed_length;
  if (n <= allowed) return Status();

  const auto breakers_from = [&](int32_t head) {
    const auto begin = std::partition_point(breakers_.begin(), breakers_.end(),
                                            [&](const std::vector<int32_t>& b) { return b[0] < head; });
    const auto end =
        std::partition_point(begin, breakers_.end(), [&](const std::vector<int32_t>& b) { return b[0] == head; });
    return std::span<const std::vector<int32_t>>(begin, end);
  };
  // The tokens since the newest breaker; of breakers with the same head, the longest that the text has.
  int limit = n;
  for (int i = 0; i < n && limit == n && !breakers_.empty(); ++i) {
    int longest = 0;
    for (const std::vector<int32_t>& breaker : breakers_from(text[i])) {
      const int length = static_cast<int>(breaker.size());
      if (length > i + 1 || length <= longest) continue;
      bool same = true;
      for (int j = 0; j < length && same; ++j) same = breaker[j] == text[i - j];
      if (same) longest = length;
    }
    if (longest > 0) limit = i + 1 - longest;
  }
  if (limit < allowed) return Status();

  // Z-algorithm over the reversed text: length[k] tokens ending k tokens ago equal as many at the end.
  std::vector<int32_t>& length = candidates->lengths_;
  std::vector<int32_t>& repeats = candidates->counts_;  // per token: 1 + the longest repetition it would extend
  std::vector<int32_t>& distinct = candidates->distinct_;
  length.assign(static_cast<size_t>(n), 0);
  repeats.resize(static_cast<size_t>(vocab_size_));
  distinct.clear();
  for (int k = 1, left = 0, right = 0; k < n; ++k) {  // [left, right): the match that reaches furthest so far
    int z = k < right ? std::min(right - k, length[k - left]) : 0;
    while (k + z < n && text[z] == text[k + z]) ++z;
    if (k + z > right) left = k, right = k + z;
    length[k] = z;
    const int repeat = std::min(z, limit);
    const int32_t follower = text[k - 1];
    if (repeat < allowed || follower < 0 || follower >= vocab_size_) continue;
    if (repeats[follower] == 0) distinct.push_back(follower);
    repeats[follower] = std::max(repeats[follower], repeat + 1);
  }
  // A token that is a breaker by itself is not penalised.
  std::erase_if(distinct, [&](int32_t token) {
    const auto found = breakers_from(token);
    const bool breaks = !found.empty() && found.front().size() == 1;  // sorted: the shortest comes first
    if (breaks) repeats[token] = 0;
    return breaks;
  });

  // The exponent is held where base^exponent still is a float.
  const double base = options_.dry_base;
  const int largest = base > 1.000001 ? static_cast<int>(88.7228391 / std::log(base)) : 0;
  Status status = candidates->edit(distinct, "dry_multiplier", [&](float logit, int32_t token) {
    int exponent = repeats[token] - 1 - allowed;
    if (largest > 0) exponent = std::min(exponent, largest);
    return static_cast<float>(logit - options_.dry_multiplier * std::pow(base, exponent));
  });
  for (const int32_t token : distinct) repeats[token] = 0;
  return status;
}

// Buffers live as long as the thread: a draw allocates nothing once warm.
Sampler::Candidates& Sampler::thread_candidates() {
  thread_local Candidates candidates;
  return candidates;
}

Status Sampler::run(std::span<const float> logits, const SamplerState& state, const RngKey& key,
                    std::span<const uint64_t> mask, Candidates* candidates) const {
  if (std::ssize(logits) != vocab_size_) {
    return Status::invalid_argument("logits: {} entries for a vocabulary of {}", logits.size(), vocab_size_);
  }
  if (!mask.empty() && mask.size() != block_count(logits.size())) {
    return Status::invalid_argument("mask: {} words for a vocabulary of {}", mask.size(), vocab_size_);
  }
  DECANT_TRY_STATUS(candidates->reset(logits, mask));
  if (candidates->empty() && mask.empty())
    return Status::invalid_argument("logits: all are -infinity; no token can be chosen");
  DECANT_TRY_STATUS(apply_bias(candidates));
  if (candidates->empty())
    return Status::invalid_argument("no token is left: the logit bias or the mask forbids all of them");

  const SamplerOptions& o = options_;
  const auto min_keep = static_cast<size_t>(o.min_keep);
  for (const int step : chain_) {
    switch (static_cast<Step>(step)) {
      case kPenalties: DECANT_TRY_STATUS(apply_penalties(state, candidates)); break;
      case kDry: DECANT_TRY_STATUS(apply_dry(state, candidates)); break;
      case kTopNSigma: candidates->keep_top_n_sigma(o.top_n_sigma); break;
      case kTopK: candidates->keep_top(static_cast<size_t>(o.top_k)); break;
      case kTypical: candidates->keep_typical(o.typical_p, min_keep); break;
      case kTopP: candidates->keep_nucleus(o.top_p, min_keep); break;
      case kMinP: candidates->keep_min_p(o.min_p, min_keep); break;
      case kXtc: {
        RngKey coin = key;
        coin.purpose = Purpose::kXtc;
        if (random_uniform(coin, 0) <= o.xtc_probability) candidates->exclude_top_choices(o.xtc_threshold, min_keep);
        break;
      }
      case kTemperature:
        if (o.temperature <= 0) {
          candidates->keep_argmax();
        } else if (o.dynatemp_range > 0 && o.mirostat == 0) {
          candidates->scale_by_entropy(std::max(0.0f, o.temperature - o.dynatemp_range),
                                       o.temperature + o.dynatemp_range, o.dynatemp_exponent);
        } else {
          candidates->scale(o.temperature);
        }
        break;
      case kMirostat1: candidates->keep_mirostat1(state.mirostat_mu_); break;
      case kMirostat2: candidates->keep_mirostat2(state.mirostat_mu_); break;
    }
    if (candidates->empty()) return Status::invalid_argument("no token is left: the penalties forbid all of them");
  }
  return Status();
}

Result<std::vector<TokenLogprob>> Sampler::distribution(std::span<const float> logits, const SamplerState& state,
                                                        uint32_t position, uint32_t sample,
                                                        std::span<const uint64_t> mask) const {
  Candidates& candidates = thread_candidates();
  const RngKey key = {.seed = options_.seed, .sample = sample, .position = position, .purpose = Purpose::kSample};
  DECANT_TRY_STATUS(run(logits, state, key, mask, &candidates));
  const double offset = candidates.max() + std::log(candidates.mass());
  std::vector<TokenLogprob> result;
  candidates.for_each([&](const Candidate& c) { result.push_back({c.id, static_cast<float>(c.logit - offset)}); });
  if (!candidates.is_dense()) {
    std::sort(result.begin(), result.end(),
              [](const TokenLogprob& a, const TokenLogprob& b) { return a.token < b.token; });
  }
  return result;
}

Result<Draw> Sampler::draw(std::span<const float> logits, const SamplerState& state, uint32_t position, uint32_t sample,
                           int n_logprobs, std::span<const uint64_t> mask) const {
  if (n_logprobs < -1) return Status::invalid_argument("n_logprobs: {} is below -1", n_logprobs);
  Candidates& candidates = thread_candidates();
  const RngKey key = {.seed = options_.seed, .sample = sample, .position = position, .purpose = Purpose::kSample};
  DECANT_TRY_STATUS(run(logits, state, key, mask, &candidates));

  Draw draw;
  if (!candidates.is_dense() && candidates.list().size() == 1) {
    draw.token = candidates.list()[0].id;
  } else {
    const double offset = candidates.max() + std::log(candidates.mass());
    const auto logprob = [&](const Candidate& c) { return static_cast<float>(c.logit - offset); };
    // With u = (bits + 1/2) / 2^32 and -ln u >= 1 - u, the noise is at most -ln(1 - u), which is below ln 2 times
    // (leading ones of bits + 1). So most tokens need no logarithm and, 33 ln 2 = 22.9 below the best, not even bits.
    constexpr double kSlack = 1e-3, kNoiseLimit = 33 * std::numbers::ln2 + kSlack;
    double best = -kInf, best_logprob = 0;
    const auto consider = [&](const Candidate& c) {
      const double p = logprob(c);
      if (p + kNoiseLimit < best) return;
      if (p + (std::countl_one(random_bits(key, static_cast<uint32_t>(c.id))) + 1) * std::numbers::ln2 + kSlack < best)
        return;
      const double score = p + static_cast<double>(gumbel_noise(key, static_cast<uint32_t>(c.id)));
      if (score < best || (score == best && c.id > draw.token)) return;
      best = score;
      best_logprob = p;
      draw.token = c.id;
    };
    consider(candidates.argmax());
    // In float, a little below: rounding must not leave out a block.
    candidates.for_each_above([&] { return static_cast<float>(best - kNoiseLimit + offset - 1e-6 * std::abs(offset)); },
                              consider);
    draw.surprise = static_cast<float>(-best_logprob / std::numbers::ln2);
  }

  if (n_logprobs >= 0) DECANT_TRY_STATUS(add_logprobs(logits, n_logprobs, &candidates, &draw));
  return draw;
}

Result<Draw> Sampler::describe(std::span<const float> logits, int32_t token, float logprob, int n_logprobs) const {
  Draw draw;
  draw.token = token;
  draw.surprise = static_cast<float>(static_cast<double>(-logprob) / std::numbers::ln2);
  if (n_logprobs >= 0) DECANT_TRY_STATUS(add_logprobs(logits, n_logprobs, &thread_candidates(), &draw));
  return draw;
}

// Of the model's own distribution.
Status Sampler::add_logprobs(std::span<const float> logits, int n_logprobs, Candidates* candidates, Draw* draw) {
  DECANT_TRY_STATUS(candidates->reset(logits));
  const double offset = candidates->max() + std::log(candidates->mass());
  draw->logprob = static_cast<float>(logits[static_cast<size_t>(draw->token)] - offset);
  if (n_logprobs == 0) return {};
  for (const Candidate& c : candidates->peek_top(static_cast<size_t>(n_logprobs))) {
    draw->top.push_back({c.id, static_cast<float>(c.logit - offset)});
  }
  return {};
}

}  // namespace decant
