// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "sample/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <limits>
#include <map>
#include <new>
#include <random>
#include <set>
#include <sstream>
#include <thread>

namespace {
thread_local int64_t allocations = 0;
}  // namespace

// Counted. The array and sized forms call these; the nothrow form is replaced too, since a sanitizer's own would not
// pair with free(). Not inlined: GCC would take malloc and delete for a mismatched pair.
[[gnu::noinline]] void* operator new(size_t size) {
  ++allocations;
  if (void* p = std::malloc(size)) return p;
  throw std::bad_alloc();
}
[[gnu::noinline]] void* operator new(size_t size, const std::nothrow_t&) noexcept {
  ++allocations;
  return std::malloc(size);
}
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, size_t) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, const std::nothrow_t&) noexcept { std::free(p); }

namespace decant {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// ---- A plain implementation of the chain: double precision, full sorts, forbidden tokens stay in the list at
// -infinity.

struct Item {
  double logit;
  int32_t id;
};

class Reference {
 public:
  Reference(const SamplerOptions& options, std::vector<int32_t> history, double mu, bool coin)
      : o_(options), history_(std::move(history)), mu_(mu), coin_(coin) {}

  // Log-probabilities by token. margin() then says how near to a decision's edge the case was: rounding may decide
  // there.
  std::map<int32_t, double> distribution(const std::vector<float>& logits, const std::vector<uint8_t>& mask = {}) {
    vocab_ = logits.size();
    margin_ = 1e9;
    for (size_t i = 0; i < logits.size(); ++i) items_.push_back({logits[i], static_cast<int32_t>(i)});
    for (const auto& [token, bias] : o_.logit_bias) items_[static_cast<size_t>(token)].logit += bias;
    if (o_.ignore_eos) {
      for (const int32_t token : o_.end_tokens) items_[static_cast<size_t>(token)].logit = -kInf;
    }
    for (size_t i = 0; i < mask.size(); ++i) {
      if (mask[i] == 0) items_[i].logit = -kInf;
    }
    if (o_.mirostat != 0) {
      scale(o_.temperature);
      o_.mirostat == 1 ? mirostat1() : mirostat2();
    } else {
      std::stringstream names(o_.samplers);
      for (std::string name; std::getline(names, name, ';');) apply(name);
      if (o_.temperature <= 0) greedy();
    }
    std::map<int32_t, double> result;
    const std::vector<double> p = softmax();
    for (size_t i = 0; i < items_.size(); ++i) {
      if (p[i] > 0) result[items_[i].id] = std::log(p[i]);
    }
    return result;
  }

  double margin() const { return margin_; }

 private:
  void apply(const std::string& name) {
    const auto min_keep = static_cast<size_t>(o_.min_keep);
    if (name == "penalties") {
      penalties();
    } else if (name == "dry") {
      dry();
    } else if (name == "top_n_sigma") {
      if (o_.top_n_sigma > 0 && items_.size() > 1) top_n_sigma();
    } else if (name == "top_k") {
      if (o_.top_k > 0) cut(static_cast<size_t>(o_.top_k));
    } else if (name == "typ_p") {
      if (o_.typical_p < 1) typical(min_keep);
    } else if (name == "top_p") {
      if (o_.top_p >= 1) return;
      sort();
      const std::vector<double> p = softmax();
      double sum = 0;
      for (size_t i = 0; i < p.size(); ++i) {
        sum += p[i];
        near(sum - static_cast<double>(o_.top_p));
        if (sum >= static_cast<double>(o_.top_p) && i + 1 >= min_keep) return cut(i + 1);
      }
    } else if (name == "min_p") {
      if (o_.min_p <= 0) return;
      sort();
      const double threshold = items_[0].logit + std::log(static_cast<double>(o_.min_p));
      size_t kept = 1;
      for (; kept < items_.size(); ++kept) {
        near(items_[kept].logit - threshold);
        if (items_[kept].logit < threshold && kept >= min_keep) break;
      }
      cut(kept);
    } else if (name == "xtc") {
      if (o_.xtc_probability <= 0 || o_.xtc_threshold > 0.5f || items_.size() < 2 || !coin_) return;
      sort();
      const std::vector<double> p = softmax();
      size_t last = 0;
      for (size_t i = 0; i < p.size(); ++i) {
        near(p[i] - static_cast<double>(o_.xtc_threshold));
        if (p[i] < static_cast<double>(o_.xtc_threshold)) break;
        last = i;
      }
      if (last == 0 || items_.size() - last < min_keep) return;
      for (size_t i = last > 0 ? last - 1 : 0; i < last; ++i) near_different(items_[i].logit - items_[i + 1].logit);
      items_.erase(items_.begin(), items_.begin() + static_cast<ptrdiff_t>(last));
    } else if (name == "temperature") {
      temperature();
    } else {
      FAIL() << name;
    }
  }

  void penalties() {
    const auto window = static_cast<size_t>(o_.repeat_last_n < 0 ? o_.n_ctx : o_.repeat_last_n);
    std::map<int32_t, int> counts;
    for (size_t i = history_.size() - std::min(window, history_.size()); i < history_.size(); ++i)
      ++counts[history_[i]];
    for (Item& item : items_) {
      const auto found = counts.find(item.id);
      if (found == counts.end() || item.logit == -kInf) continue;
      item.logit = item.logit > 0 ? item.logit / o_.repeat_penalty : item.logit * o_.repeat_penalty;
      item.logit -=
          static_cast<double>(o_.frequency_penalty) * found->second + static_cast<double>(o_.presence_penalty);
    }
  }

  // From the definition, for every token and every length.
  void dry() {
    const auto window = static_cast<size_t>(o_.dry_penalty_last_n < 0 ? o_.n_ctx : o_.dry_penalty_last_n);
    if (o_.dry_multiplier == 0 || window == 0) return;
    const std::vector<int32_t> text(history_.end() - static_cast<ptrdiff_t>(std::min(window, history_.size())),
                                    history_.end());
    const int n = static_cast<int>(text.size()), allowed = o_.dry_allowed_length;
    if (n <= allowed) return;
    // The last `limit` tokens follow the newest breaker.
    int limit = n;
    for (int begin = n - 1; begin >= 0 && limit == n; --begin) {
      for (const std::vector<int32_t>& breaker : o_.dry_breakers) {
        const int end = begin + static_cast<int>(breaker.size());
        if (end <= n && std::equal(breaker.begin(), breaker.end(), text.begin() + begin))
          limit = std::min(limit, n - end);
      }
    }
    if (limit < allowed) return;
    for (Item& item : items_) {
      if (std::find(o_.dry_breakers.begin(), o_.dry_breakers.end(), std::vector<int32_t>{item.id}) !=
          o_.dry_breakers.end()) {
        continue;
      }
      int longest = -1;
      for (int at = 0; at < n;
           ++at) {  // an earlier occurrence of the token, and how much before it equals the text's end
        if (text[static_cast<size_t>(at)] != item.id) continue;
        int length = 0;
        while (length < at && length < limit &&
               text[static_cast<size_t>(at - 1 - length)] == text[static_cast<size_t>(n - 1 - length)]) {
          ++length;
        }
        // at == 0 has nothing before it; the algorithm, looking from the second token on, does not see it.
        if (at > 0 || allowed == 0) longest = std::max(longest, length);
      }
      if (longest >= allowed && item.logit > -kInf) {
        item.logit -= o_.dry_multiplier * std::pow(static_cast<double>(o_.dry_base), longest - allowed);
      }
    }
  }

  void top_n_sigma() {
    double sum = 0, count = 0, squares = 0, max = -kInf;
    for (const Item& item : items_) {
      if (item.logit == -kInf) continue;
      sum += item.logit;
      count += 1;
      max = std::max(max, item.logit);
    }
    for (const Item& item : items_) {
      if (item.logit > -kInf) squares += (item.logit - sum / count) * (item.logit - sum / count);
    }
    const double threshold = max - static_cast<double>(o_.top_n_sigma) * std::sqrt(squares / count);
    for (Item& item : items_) {
      near(item.logit - threshold);
      if (item.logit < threshold) item.logit = -kInf;
    }
  }

  void typical(size_t min_keep) {
    sort();
    const std::vector<double> p = softmax();
    double entropy = 0;
    for (const double q : p) entropy -= q > 0 ? q * std::log(q) : 0;
    std::vector<size_t> order(p.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = i;
    const auto distance = [&](size_t i) { return std::abs(-std::log(p[i]) - entropy); };
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return distance(a) < distance(b); });
    double sum = 0;
    std::vector<Item> kept;
    for (size_t i = 0; i < order.size(); ++i) {
      kept.push_back(items_[order[i]]);
      sum += p[order[i]];
      near(sum - static_cast<double>(o_.typical_p));
      if (sum > static_cast<double>(o_.typical_p) && i + 1 >= min_keep) {
        if (i + 1 < order.size()) {
          const double gap = distance(order[i + 1]) - distance(order[i]);
          if (p[order[i + 1]] != p[order[i]]) near(gap);
        }
        break;
      }
    }
    items_ = kept;
  }

  void temperature() {
    if (o_.temperature <= 0) return greedy();
    if (o_.dynatemp_range <= 0) return scale(o_.temperature);
    if (items_.size() <= 1) return;
    double entropy = 0;
    for (const double p : softmax()) entropy -= p > 0 ? p * std::log(p) : 0;
    const double low = std::max(0.0, static_cast<double>(o_.temperature) - o_.dynatemp_range);
    const double high = static_cast<double>(o_.temperature) + o_.dynatemp_range;
    const double share = std::min(entropy / std::log(static_cast<double>(items_.size())), 1.0);
    scale(low + (high - low) * std::pow(std::max(share, 0.0), static_cast<double>(o_.dynatemp_exponent)));
  }

  void mirostat1() {
    sort();
    double tb = 0, tt = 0;
    size_t finite = 0;
    while (finite < items_.size() && items_[finite].logit > -kInf) ++finite;
    for (size_t i = 0; i + 1 < std::min<size_t>(finite, 100); ++i) {
      const double t = std::log((i + 2.0) / (i + 1.0));
      tb += t * (items_[i].logit - items_[i + 1].logit);
      tt += t * t;
    }
    if (tt == 0) return;
    const double s = tb / tt, epsilon = s - 1;
    const double k = std::pow(epsilon * std::exp2(mu_) / (1 - std::pow(static_cast<double>(vocab_), -epsilon)), 1 / s);
    near(std::min(k - std::floor(k), std::ceil(k) - k));
    cut(static_cast<size_t>(std::clamp(k, 1.0, static_cast<double>(items_.size()))));
  }

  void mirostat2() {
    sort();
    const std::vector<double> p = softmax();
    size_t kept = 0;
    while (kept < p.size() && !(-std::log2(p[kept]) > mu_)) near(-std::log2(p[kept++]) - mu_);
    if (kept < p.size()) near(-std::log2(p[kept]) - mu_);
    cut(std::max<size_t>(kept, 1));
  }

  void greedy() { cut(1); }

  void scale(double t) {
    if (t <= 0) return greedy();
    for (Item& item : items_) item.logit /= t;
  }

  void sort() {
    std::sort(items_.begin(), items_.end(),
              [](const Item& a, const Item& b) { return a.logit != b.logit ? a.logit > b.logit : a.id < b.id; });
  }

  void cut(size_t n) {
    sort();
    if (n >= items_.size()) return;
    near_different(items_[n - 1].logit - items_[n].logit);
    items_.resize(n);
  }

  std::vector<double> softmax() const {
    double max = -kInf, sum = 0;
    for (const Item& item : items_) max = std::max(max, item.logit);
    std::vector<double> p;
    for (const Item& item : items_) {
      p.push_back(std::exp(item.logit - max));
      sum += p.back();
    }
    for (double& q : p) q /= sum;
    return p;
  }

  void near(double distance) { margin_ = std::min(margin_, std::abs(distance)); }
  // Equal values are equal in any precision; nearly equal ones may not keep their order.
  void near_different(double distance) {
    if (distance != 0) near(distance);
  }

  SamplerOptions o_;
  std::vector<int32_t> history_;
  double mu_;
  bool coin_;
  std::vector<Item> items_;
  size_t vocab_ = 0;
  double margin_ = 0;
};

// ---- Cases.

SamplerOptions plain() {
  SamplerOptions options;
  options.temperature = 1;
  options.top_k = 0;
  options.top_p = 1;
  options.min_p = 0;
  return options;
}

Sampler make(const SamplerOptions& options, size_t vocab_size) {
  Result<Sampler> sampler = Sampler::create(options, static_cast<int>(vocab_size));
  EXPECT_TRUE(sampler.ok()) << sampler.status().message();
  return std::move(sampler).value();
}

// A mask as the sampler takes it, of one entry for each token; none of none.
std::vector<uint64_t> words_of(const std::vector<uint8_t>& mask) {
  std::vector<uint64_t> words((mask.size() + 63) / 64);
  for (size_t t = 0; t < mask.size(); ++t) {
    if (mask[t] != 0) words[t / 64] |= uint64_t{1} << t % 64;
  }
  return words;
}

// Normal, or few distinct values (ties), or a steep peak; sometimes with forbidden entries.
std::vector<float> random_logits(std::mt19937& rng, size_t n) {
  std::normal_distribution<float> normal(0, 3);
  const unsigned kind = rng() % 4;
  std::vector<float> logits(n);
  for (float& v : logits) {
    v = normal(rng);
    if (kind == 1) v = std::round(v);
    if (kind == 2) v *= 4;
    if (kind == 3 && rng() % 3 == 0) v = -kInf;
  }
  if (*std::max_element(logits.begin(), logits.end()) == -kInf) logits[rng() % n] = 0.25f;
  return logits;
}

size_t random_size(std::mt19937& rng) {
  constexpr size_t kSizes[] = {1, 2, 3, 7, 63, 64, 65, 130, 1000, 3000};
  return kSizes[rng() % std::size(kSizes)];
}

std::vector<int32_t> random_text(std::mt19937& rng, size_t length, size_t vocab_size, size_t distinct) {
  std::vector<int32_t> text(length);
  for (int32_t& token : text) token = static_cast<int32_t>(rng() % std::min(vocab_size, distinct));
  return text;
}

// Compares the distribution of random cases with the reference's. `vary` sets options for a vocabulary of n.
void compare(int cases, const std::function<void(std::mt19937&, size_t n, SamplerOptions*)>& vary,
             double most_skipped = 0.05) {
  std::mt19937 rng(20240607);
  int skipped = 0, narrowed = 0;
  for (int i = 0; i < cases; ++i) {
    const size_t n = random_size(rng);
    SamplerOptions options = plain();
    options.seed = rng();
    vary(rng, n, &options);
    std::vector<uint8_t> mask;
    if (rng() % 4 == 0) {
      mask.resize(n);
      // Three of four tokens, or a few in a few places.
      const bool few = rng() % 2 == 0;
      for (uint8_t& m : mask) m = (few ? rng() % 100 == 0 : rng() % 4 != 0) ? 1 : 0;
    }
    std::vector<float> logits = random_logits(rng, n);
    // Some tokens, or penalties may forbid what a mask leaves.
    int left = 0;
    for (size_t t = 0; t < n; ++t) left += logits[t] > -kInf && (mask.empty() || mask[t] != 0) ? 1 : 0;
    if (left < 4) mask.clear();
    const std::vector<int32_t> text = random_text(rng, rng() % 200, n, 2 + rng() % 30);
    const uint32_t position = rng(), sample = rng() % 5;
    const RngKey coin = {.seed = options.seed, .sample = sample, .position = position, .purpose = Purpose::kXtc};

    Reference reference(options, text, 2.0 * options.mirostat_tau, random_uniform(coin, 0) <= options.xtc_probability);
    const std::map<int32_t, double> expected = reference.distribution(logits, mask);
    if (reference.margin() < 1e-5) {
      ++skipped;
      continue;
    }
    narrowed += expected.size() < n ? 1 : 0;
    const Sampler sampler = make(options, n);
    const SamplerState state = sampler.start(text);
    // What is behind a mask is not read.
    const std::vector<uint64_t> words = words_of(mask);
    for (size_t t = 0; t < mask.size(); ++t) {
      if (mask[t] == 0) logits[t] = rng() % 2 == 0 ? kNan : kInf;
    }
    const auto actual = sampler.distribution(logits, state, position, sample, words);
    ASSERT_TRUE(actual.ok()) << actual.status().message();
    // Below e^-80 rounding decides whether a token has a probability at all.
    std::map<int32_t, double> found;
    int32_t last = -1;
    for (const TokenLogprob& t : *actual) {
      ASSERT_GT(t.token, last) << "case " << i;
      last = t.token;
      found[t.token] = static_cast<double>(t.logprob);
    }
    for (const auto& [token, logprob] : expected) {
      if (logprob < -80) continue;
      ASSERT_TRUE(found.contains(token)) << "case " << i << " of " << n << " lacks token " << token << " at "
                                         << logprob;
      ASSERT_NEAR(std::exp(found[token]), std::exp(logprob), 1e-5) << "case " << i << " of " << n << " token " << token;
      ASSERT_NEAR(found[token], logprob, 1e-4 * (1 + std::abs(logprob))) << "case " << i << " token " << token;
    }
    for (const auto& [token, logprob] : found) {
      ASSERT_TRUE(expected.contains(token) || logprob < -80) << "case " << i << " of " << n << " has token " << token;
    }
    // The draw is the argmax of the same numbers.
    int32_t best = -1;
    double best_score = -kInf;
    for (const TokenLogprob& t : *actual) {
      const RngKey key = {.seed = options.seed, .sample = sample, .position = position};
      const double score =
          static_cast<double>(t.logprob) + static_cast<double>(gumbel_noise(key, static_cast<uint32_t>(t.token)));
      if (score > best_score) best = t.token, best_score = score;
    }
    const auto draw = sampler.draw(logits, state, position, sample, -1, words);
    ASSERT_TRUE(draw.ok()) << draw.status().message();
    ASSERT_EQ(draw->token, best) << "case " << i << " of " << n;
    ASSERT_NEAR(draw->surprise, -found[best] / std::log(2.0), 1e-4);
  }
  EXPECT_LE(skipped, cases * most_skipped);
  EXPECT_GT(narrowed, cases / 10) << "the filter hardly did anything";
}

float pick(std::mt19937& rng, std::initializer_list<float> values) { return values.begin()[rng() % values.size()]; }

TEST(SamplerFilters, TopKMatchesTheReference) {
  compare(400, [](std::mt19937& rng, size_t, SamplerOptions* o) {
    o->top_k = static_cast<int>(pick(rng, {1, 2, 5, 40, 64, 500, 100000, 0, -3}));
    o->min_keep = 1 + static_cast<int>(rng() % 3);  // top-k does not look at it
  });
}

TEST(SamplerFilters, TopPMatchesTheReference) {
  compare(400, [](std::mt19937& rng, size_t, SamplerOptions* o) {
    o->top_p = pick(rng, {0, 0.1f, 0.5f, 0.9f, 0.95f, 0.9999f, 1});
    o->min_keep = static_cast<int>(pick(rng, {1, 1, 3, 100, 5000}));
    o->top_k = rng() % 2 == 0 ? 0 : 50;
  });
}

TEST(SamplerFilters, MinPMatchesTheReference) {
  compare(
      400,
      [](std::mt19937& rng, size_t, SamplerOptions* o) {
        o->min_p = pick(rng, {0.05f, 0.5f, 1, 1e-4f, 0, 2});
        o->min_keep = static_cast<int>(pick(rng, {1, 1, 3, 100, 5000}));
        o->top_k = rng() % 2 == 0 ? 0 : 50;
      },
      0.5);  // p = 1 sits on the edge on purpose
}

TEST(SamplerFilters, TypicalMatchesTheReference) {
  compare(
      400,
      [](std::mt19937& rng, size_t, SamplerOptions* o) {
        o->typical_p = pick(rng, {0, 0.2f, 0.5f, 0.95f, 1});
        o->min_keep = static_cast<int>(pick(rng, {1, 1, 3, 100}));
        o->top_k = rng() % 2 == 0 ? 0 : 50;
      },
      0.3);
}

TEST(SamplerFilters, TopNSigmaMatchesTheReference) {
  compare(400, [](std::mt19937& rng, size_t, SamplerOptions* o) {
    o->top_n_sigma = pick(rng, {0.3f, 0.9f, 1.7f, -1});  // 1 and 2 would meet rows of two values exactly
    o->top_k = rng() % 2 == 0 ? 0 : 50;
  });
}

TEST(SamplerFilters, XtcMatchesTheReference) {
  compare(600, [](std::mt19937& rng, size_t, SamplerOptions* o) {
    o->xtc_probability = pick(rng, {0.5f, 1});
    o->xtc_threshold = pick(rng, {0.01f, 0.1f, 0.3f, 0.5f, 0.6f});
    o->min_keep = static_cast<int>(pick(rng, {1, 1, 3, 50}));
    o->top_k = rng() % 2 == 0 ? 0 : 50;
  });
}

TEST(SamplerFilters, XtcAtThresholdZeroLeavesTheLeastLikely) {
  SamplerOptions options = plain();
  options.xtc_probability = 1;
  options.xtc_threshold = 0;
  const auto left = make(options, 4).distribution(std::vector<float>{1, -2, 3, -2}, {}, 0);
  ASSERT_EQ(left->size(), 1u);
  EXPECT_EQ(left->front().token, 3);  // ties: the higher id comes last
}

TEST(SamplerFilters, TemperatureMatchesTheReference) {
  compare(400, [](std::mt19937& rng, size_t, SamplerOptions* o) {
    o->temperature = pick(rng, {0.3f, 0.8f, 1, 2, 0, -1});
    o->dynatemp_range = pick(rng, {0, 0.2f, 0.5f, 5});
    o->dynatemp_exponent = pick(rng, {0, 0.5f, 1, 3});
    o->top_k = rng() % 2 == 0 ? 0 : 50;
    o->top_n_sigma = rng() % 2 == 0 ? 0 : 1;  // what it cuts still counts for the greatest entropy
  });
}

TEST(SamplerFilters, PenaltiesMatchTheReference) {
  compare(400, [](std::mt19937& rng, size_t, SamplerOptions* o) {
    o->repeat_penalty = pick(rng, {1, 1.1f, 2, 0.5f});
    o->frequency_penalty = pick(rng, {0, 0.1f, -0.2f});
    o->presence_penalty = pick(rng, {0, 0.7f, -0.5f});
    o->repeat_last_n = static_cast<int>(pick(rng, {0, 1, 5, 64, 1000, -1}));
    o->n_ctx = 20;
    if (rng() % 2 == 0) o->top_k = 20;
    if (rng() % 3 == 0) o->samplers = "top_k;penalties;temperature";
  });
}

TEST(SamplerFilters, DryMatchesItsDefinition) {
  compare(1500, [](std::mt19937& rng, size_t n, SamplerOptions* o) {
    o->dry_multiplier = pick(rng, {0.8f, 2, 0.1f});
    o->dry_base = pick(rng, {1, 1.75f, 1.1f});
    o->dry_allowed_length = 1 + static_cast<int>(rng() % 3);
    o->dry_penalty_last_n = static_cast<int>(pick(rng, {0, 3, 50, 1000, -1}));
    o->n_ctx = 30;
    // One token, or several of different heads: of nested breakers with one head only the longest counts, tested below.
    const auto token = [&] { return static_cast<int32_t>(rng() % std::min<size_t>(n, 20)); };
    if (rng() % 3 == 0) o->dry_breakers = {{token()}};
    if (rng() % 3 == 0) o->dry_breakers = {{token(), token()}};
    if (rng() % 2 == 0) o->top_k = 20;
    if (rng() % 3 == 0) o->samplers = "top_k;dry;temperature";
  });
}

TEST(SamplerFilters, MirostatMatchesTheReference) {
  for (const int version : {1, 2}) {
    compare(300, [version](std::mt19937& rng, size_t, SamplerOptions* o) {
      o->mirostat = version;
      o->mirostat_tau = pick(rng, {0.5f, 2, 5});
      o->temperature = pick(rng, {0.7f, 1, 1.5f});
      o->top_k = 1;  // is not looked at
      o->repeat_penalty = 2;
    });
  }
}

TEST(SamplerFilters, LogitBiasAndEndTokensMatchTheReference) {
  compare(
      300,
      [](std::mt19937& rng, size_t n, SamplerOptions* o) {
        if (n < 8) n = 1;  // forbid nothing in tiny vocabularies
        for (int i = 0; i < 6 && n > 1; ++i) {
          o->logit_bias.emplace_back(static_cast<int32_t>(rng() % n), pick(rng, {1, -3, 7, -kInf}));
        }
        o->ignore_eos = n > 1;
        o->end_tokens = {0};
        o->top_k = 10;
      },
      0.1);
}

TEST(SamplerChain, TheDefaultChainMatchesTheReference) {
  compare(3000, [](std::mt19937& rng, size_t, SamplerOptions* o) {
    const uint64_t seed = o->seed;
    *o = SamplerOptions();
    o->seed = seed;
    if (rng() % 4 == 0) o->repeat_penalty = 1.3f;
  });
}

TEST(SamplerChain, AnyOrderOfAllFiltersMatchesTheReference) {
  compare(
      3000,
      [](std::mt19937& rng, size_t, SamplerOptions* o) {
        std::vector<std::string> names = {"penalties", "dry",   "top_n_sigma", "top_k",      "typ_p",
                                          "top_p",     "min_p", "xtc",         "temperature"};
        std::shuffle(names.begin(), names.end(), rng);
        names.resize(rng() % 9 + 1);
        o->samplers.clear();
        for (const std::string& name : names) o->samplers += (o->samplers.empty() ? "" : ";") + name;
        o->temperature = pick(rng, {0, 0.7f, 1.3f});
        o->dynatemp_range = pick(rng, {0, 0, 0.4f});
        o->top_k = static_cast<int>(pick(rng, {0, 5, 60}));
        o->top_p = pick(rng, {1, 0.8f});
        o->min_p = pick(rng, {0, 0.02f});
        o->typical_p = pick(rng, {1, 0.9f});
        o->top_n_sigma = pick(rng, {-1, 1.5f});
        o->xtc_probability = pick(rng, {0, 0.7f});
        o->repeat_penalty = pick(rng, {1, 1.2f});
        o->presence_penalty = 0.3f;
        o->dry_multiplier = pick(rng, {0, 0.5f});
        o->min_keep = static_cast<int>(pick(rng, {1, 1, 4}));
      },
      0.1);
}

TEST(SamplerChain, OrderMatters) {
  // Heat after the nucleus keeps two tokens; before it, flattens the distribution and keeps more.
  const std::vector<float> logits = {4, 3, 1, 0, -1, -2};
  SamplerOptions options = plain();
  options.top_p = 0.9f;
  options.temperature = 3;
  options.samplers = "top_p;temperature";
  EXPECT_EQ(make(options, 6).distribution(logits, {}, 0)->size(), 2u);
  options.samplers = "temperature;top_p";
  EXPECT_EQ(make(options, 6).distribution(logits, {}, 0)->size(), 5u);
  options.samplers = "temperature";
  EXPECT_EQ(make(options, 6).distribution(logits, {}, 0)->size(), 6u);
}

TEST(SamplerChain, NamesHaveTheSpellingsOfLlamaCpp) {
  const std::vector<float> logits = {4, 3, 1, 0, -1, -2};
  SamplerOptions options = plain();
  options.top_k = 3;
  for (const char* name : {"top_k", "top-k", "topk", "TOP_K"}) {
    options.samplers = name;
    EXPECT_EQ(make(options, 6).distribution(logits, {}, 0)->size(), 3u) << name;
  }
  for (const char* names : {"penalties;dry;top-n-sigma;topk;typ-p;top-p;min-p;xtc;temp", "typical;nucleus;minp;typ",
                            "topnsigma;typical_p;topp;temperature", ""}) {
    options.samplers = names;
    EXPECT_TRUE(options.validate().ok()) << names;
  }
  options.samplers = "";
  EXPECT_EQ(make(options, 6).distribution(logits, {}, 0)->size(), 6u);
}

// ---- Greedy.

TEST(SamplerGreedy, TakesTheLowestOfEqualMaxima) {
  SamplerOptions options;
  options.temperature = 0;
  for (const size_t n : {3, 64, 100, 129, 1000}) {
    const Sampler sampler = make(options, n);
    for (size_t first = 0; first < n; ++first) {
      std::vector<float> logits(n, -1);
      for (size_t i = first; i < n; i += 17) logits[i] = 2.5f;
      EXPECT_EQ(sampler.draw(logits, {}, 0)->token, static_cast<int32_t>(first));
    }
  }
}

TEST(SamplerGreedy, NegativeZeroEqualsZero) {
  SamplerOptions options;
  options.temperature = 0;
  std::vector<float> logits(200, -3);
  logits[10] = -0.0f;
  logits[11] = 0.0f;
  logits[150] = 0.0f;
  EXPECT_EQ(make(options, 200).draw(logits, {}, 0)->token, 10);
  options.samplers = "top_k;typ_p;temperature";
  options.top_k = 5;
  options.typical_p = 0.99f;
  EXPECT_EQ(make(options, 200).draw(logits, {}, 0)->token, 10);
}

TEST(SamplerGreedy, IsTheArgmaxOfTheProcessedLogits) {
  const std::vector<float> logits = {5, 4, 3};
  SamplerOptions options;
  options.temperature = 0;
  options.presence_penalty = 1.5f;
  const Sampler sampler = make(options, 3);
  EXPECT_EQ(sampler.draw(logits, sampler.start({}), 0)->token, 0);
  EXPECT_EQ(sampler.draw(logits, sampler.start(std::vector<int32_t>{0}), 0)->token, 1);
  EXPECT_EQ(sampler.draw(logits, sampler.start(std::vector<int32_t>{0, 1, 0}), 0)->token, 0);
  const auto only = sampler.distribution(logits, sampler.start(std::vector<int32_t>{0}), 0);
  ASSERT_EQ(only->size(), 1u);
  EXPECT_EQ(only->front().logprob, 0);
  EXPECT_EQ(sampler.draw(logits, sampler.start({}), 0)->surprise, 0);
}

TEST(SamplerGreedy, HoldsWhereTheChainHasNoTemperatureOrADynamicOne) {
  const std::vector<float> logits = {5, 4.99f, 3};
  SamplerOptions options;
  options.temperature = 0;
  options.dynatemp_range = 2;
  for (const char* names : {"top_k", "", "temperature"}) {
    options.samplers = names;
    const Sampler sampler = make(options, 3);
    for (uint32_t position = 0; position < 50; ++position) EXPECT_EQ(sampler.draw(logits, {}, position)->token, 0);
  }
}

TEST(SamplerGreedy, FollowsXtcWhenItStrikes) {
  SamplerOptions options;
  options.temperature = 0;
  options.xtc_probability = 1;
  EXPECT_EQ(make(options, 4).draw(std::vector<float>{3, 2.9f, 2.8f, -9}, {}, 0)->token, 2);
}

// ---- History.

TEST(SamplerHistory, ThePromptCountsAndTheWindowSlides) {
  const std::vector<float> logits = {1, 1, 1, 1};
  SamplerOptions options = plain();
  options.repeat_last_n = 2;
  options.presence_penalty = 10;
  const Sampler sampler = make(options, 4);
  const auto likely = [&](const SamplerState& state) {
    std::set<int32_t> tokens;
    const auto all = sampler.distribution(logits, state, 0);
    for (const TokenLogprob& t : *all) {
      if (t.logprob > -5) tokens.insert(t.token);
    }
    return tokens;
  };
  const SamplerState start = sampler.start(std::vector<int32_t>{3, 0, 1});
  EXPECT_EQ(likely(start), (std::set<int32_t>{2, 3}));
  const SamplerState next = sampler.advance(start, 2);
  EXPECT_EQ(likely(next), (std::set<int32_t>{0, 3}));
  // A fork leaves its source alone.
  EXPECT_EQ(likely(sampler.advance(start, 3)), (std::set<int32_t>{0, 2}));
  EXPECT_EQ(likely(start), (std::set<int32_t>{2, 3}));
  EXPECT_EQ(likely(sampler.advance(next, 3)), (std::set<int32_t>{0, 1}));
}

TEST(SamplerHistory, AdvancingEqualsStartingWithAllTokens) {
  std::mt19937 rng(3);
  SamplerOptions options = plain();
  options.dry_multiplier = 1;
  options.dry_penalty_last_n = 40;
  options.repeat_last_n = 15;
  options.frequency_penalty = 0.5f;
  const Sampler sampler = make(options, 6);
  const std::vector<int32_t> text = random_text(rng, 700, 6, 4);
  const std::vector<float> logits = {0, 1, 2, 1, 0, 1};
  SamplerState state = sampler.start({});
  for (size_t i = 0; i < text.size(); ++i) {
    const auto walked = sampler.distribution(logits, state, 0);
    const auto fresh = sampler.distribution(logits, sampler.start(std::span(text).first(i)), 0);
    for (size_t t = 0; t < 6; ++t) ASSERT_EQ((*walked)[t].logprob, (*fresh)[t].logprob) << i;
    state = sampler.advance(state, text[i]);
  }
}

TEST(SamplerHistory, TokensOutsideTheVocabularyAreHarmless) {
  SamplerOptions options = plain();
  options.presence_penalty = 1;
  options.dry_multiplier = 1;
  options.dry_allowed_length = 0;
  const Sampler sampler = make(options, 3);
  SamplerState state = sampler.start(std::vector<int32_t>{-1, 7, 2000000000, -1, 7});
  state = sampler.advance(state, -5);
  EXPECT_TRUE(sampler.draw(std::vector<float>{1, 2, 3}, state, 0).ok());
}

TEST(SamplerHistory, AMillionTokensAreReleasedWithoutRecursion) {
  SamplerOptions options;
  options.repeat_penalty = 1.1f;
  options.repeat_last_n = -1;
  options.n_ctx = 2'000'000;  // nothing is dropped
  const Sampler sampler = make(options, 10);
  SamplerState state = sampler.start({});
  std::vector<SamplerState> forks;
  for (int i = 0; i < 1'000'000; ++i) {
    state = sampler.advance(state, i % 10);
    if (i % 100'000 == 0) forks.push_back(sampler.advance(state, 3));
  }
  EXPECT_TRUE(sampler.draw(std::vector<float>(10, 0), state, 0).ok());
  state = SamplerState();
  EXPECT_TRUE(sampler.draw(std::vector<float>(10, 0), forks.back(), 0).ok());
}

TEST(SamplerHistory, ForksMayBeReleasedOnSeveralThreads) {
  SamplerOptions options;
  options.repeat_penalty = 1.1f;
  const Sampler sampler = make(options, 10);
  SamplerState trunk = sampler.start({});
  for (int i = 0; i < 100; ++i) trunk = sampler.advance(trunk, i % 10);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&sampler, state = trunk, t]() mutable {
      for (int i = 0; i < 20000; ++i) state = sampler.advance(state, (i + t) % 10);
      EXPECT_TRUE(sampler.draw(std::vector<float>(10, 0), state, 0).ok());
    });
  }
  trunk = SamplerState();
  for (std::thread& thread : threads) thread.join();
}

// ---- DRY and XTC, in examples.

TEST(SamplerDry, PenalisesTheTokenThatWouldExtendTheRepetition) {
  // 1 2 3 4 ... 1 2 3: a 4 would make the repetition four long.
  SamplerOptions options = plain();
  options.dry_multiplier = 0.5f;
  options.dry_base = 2;
  options.dry_allowed_length = 2;
  const std::vector<float> logits(8, 0);
  const auto penalty_of_4 = [&](const std::vector<std::vector<int32_t>>& breakers) {
    options.dry_breakers = breakers;
    const Sampler sampler = make(options, 8);
    const auto all = sampler.distribution(logits, sampler.start(std::vector<int32_t>{1, 2, 3, 4, 0, 1, 2, 3}), 0);
    return (*all)[7].logprob - (*all)[4].logprob;
  };
  EXPECT_NEAR(penalty_of_4({}), 0.5f * 2, 1e-6f);         // length 3
  EXPECT_NEAR(penalty_of_4({{1}}), 0.5f, 1e-6f);          // only 2 3 lies behind the breaker
  EXPECT_NEAR(penalty_of_4({{2}}), 0, 1e-6f);             // only 3
  EXPECT_NEAR(penalty_of_4({{4}}), 0, 1e-6f);             // a breaker itself
  EXPECT_NEAR(penalty_of_4({{4, 0}}), 0.5f * 2, 1e-6f);   // ends before the repetition
  EXPECT_NEAR(penalty_of_4({{0, 1}}), 0.5f, 1e-6f);       // two tokens
  EXPECT_NEAR(penalty_of_4({{1}, {1, 2}}), 0, 1e-6f);     // of one head, the longest
  EXPECT_NEAR(penalty_of_4({{1}, {1, 5}}), 0.5f, 1e-6f);  // unless the text has another
}

TEST(SamplerDry, HugeRepetitionsStayFinite) {
  SamplerOptions options = plain();
  options.dry_multiplier = 1;
  options.dry_base = 1.75f;
  const Sampler sampler = make(options, 2);
  const SamplerState state = sampler.start(std::vector<int32_t>(4000, 0));
  EXPECT_EQ(sampler.draw(std::vector<float>{5, 0}, state, 0)->token, 1);
  const std::vector<uint64_t> mask = {0b01};
  EXPECT_EQ(sampler.draw(std::vector<float>{5, 0}, state, 0, 0, -1, mask)->token, 0);
}

TEST(SamplerXtc, StrikesWithItsProbability) {
  SamplerOptions options = plain();
  options.xtc_probability = 0.3f;
  options.seed = 11;
  const std::vector<float> logits = {2, 2.1f, 1.9f, -8};
  const Sampler sampler = make(options, 4);
  constexpr int kCases = 20000;
  int strikes = 0;
  for (uint32_t position = 0; position < kCases; ++position) {
    const size_t left = sampler.distribution(logits, {}, position)->size();
    ASSERT_TRUE(left == 4 || left == 2);
    strikes += left == 2 ? 1 : 0;
  }
  // Six standard deviations of the binomial: false alarms below 2e-9.
  EXPECT_NEAR(strikes / double{kCases}, 0.3, 6 * std::sqrt(0.3 * 0.7 / kCases));
}

// ---- Mirostat.

TEST(SamplerMirostat, SurpriseSettlesAtTheTarget) {
  std::mt19937 rng(9);
  std::normal_distribution<float> normal(0, 2);
  for (const int version : {1, 2}) {
    for (const float tau : {2.0f, 4.0f}) {
      SamplerOptions options = plain();
      options.mirostat = version;
      options.mirostat_tau = tau;
      const Sampler sampler = make(options, 2000);
      SamplerState state = sampler.start({});
      double sum = 0;
      constexpr int kWarm = 200, kSteps = 2000;
      std::vector<float> logits(2000);
      for (int i = 0; i < kWarm + kSteps; ++i) {
        for (float& v : logits) v = normal(rng);
        const auto draw = sampler.draw(logits, state, static_cast<uint32_t>(i));
        ASSERT_TRUE(draw.ok());
        state = sampler.advance(state, *draw);
        if (i >= kWarm) sum += static_cast<double>(draw->surprise);
      }
      // mu moves by eta times the mean error per step; it stays bounded, so the mean error is of order 1 / (eta *
      // steps).
      EXPECT_NEAR(sum / kSteps, static_cast<double>(tau), 0.1) << "version " << version;
    }
  }
}

TEST(SamplerMirostat, FlatSingleAndGreedyInputsAreServed) {
  for (const int version : {1, 2}) {
    SamplerOptions options = plain();
    options.mirostat = version;
    for (const size_t n : {1, 2, 300}) {
      const Sampler sampler = make(options, n);
      SamplerState state = sampler.start({});
      for (uint32_t i = 0; i < 50; ++i) {
        const auto draw = sampler.draw(std::vector<float>(n, 1), state, i);
        ASSERT_TRUE(draw.ok());
        ASSERT_LT(static_cast<size_t>(draw->token), n);
        ASSERT_TRUE(std::isfinite(draw->surprise));
        state = sampler.advance(state, *draw);
      }
    }
    options.temperature = 0;
    const Sampler sampler = make(options, 3);
    EXPECT_EQ(sampler.draw(std::vector<float>{1, 3, 2}, sampler.start({}), 0)->token, 1);
  }
}

// ---- The draw.

// The total variation of n independent draws from a distribution of k outcomes has a mean of at most half the sum of
// sqrt(p (1 - p) / n) and, each draw moving it by at most 1/n, exceeds that by t with probability at most exp(-2 n
// t^2).
double tv_bound(const std::vector<double>& p, int n, double false_alarm) {
  double mean = 0;
  for (const double q : p) mean += std::sqrt(q * (1 - q) / n) / 2;
  return mean + std::sqrt(-std::log(false_alarm) / (2.0 * n));
}

double total_variation(const std::vector<double>& p, const std::vector<int>& counts, int n) {
  double sum = 0;
  for (size_t i = 0; i < p.size(); ++i) sum += std::abs(p[i] - counts[i] / static_cast<double>(n)) / 2;
  return sum;
}

TEST(SamplerDraw, FollowsTheDistribution) {
  constexpr int kDraws = 200'000;
  const std::vector<float> logits = {2, 1.5f, 1, 0.9f, 0.5f, 0, -0.3f, -1, -1.5f, -2, -4, -6};
  const auto probabilities = [&](float temperature) {
    SamplerOptions options = plain();
    options.temperature = temperature;
    std::vector<double> p(12);
    for (const auto& [token, logprob] : Reference(options, {}, 0, false).distribution(logits)) {
      p[static_cast<size_t>(token)] = std::exp(logprob);
    }
    return p;
  };
  for (const bool over_samples : {false, true}) {
    SamplerOptions options = plain();
    options.temperature = 0.8f;
    options.seed = 42;
    const Sampler sampler = make(options, 12);
    std::vector<int> counts(12);
    for (uint32_t i = 0; i < kDraws; ++i) {
      ++counts[static_cast<size_t>(sampler.draw(logits, {}, over_samples ? 5 : i, over_samples ? i : 0)->token)];
    }
    const std::vector<double> right = probabilities(0.8f), wrong = probabilities(0.85f);
    EXPECT_LT(total_variation(right, counts, kDraws), tv_bound(right, kDraws, 1e-9));
    EXPECT_GT(total_variation(wrong, counts, kDraws), tv_bound(wrong, kDraws, 1e-9))
        << "the test would miss a wrong temperature";
  }
}

TEST(SamplerDraw, SuccessiveDrawsAreIndependent) {
  // Pairs of neighbouring positions, over the 9 outcomes of 3 tokens twice.
  constexpr int kPairs = 100'000;
  const std::vector<float> logits = {1, 0.5f, 0};
  const Sampler sampler = make(plain(), 3);
  std::vector<double> p(9);
  std::vector<int> counts(9);
  const auto single = *sampler.distribution(logits, {}, 0);
  for (size_t i = 0; i < 9; ++i) p[i] = std::exp(static_cast<double>(single[i / 3].logprob) + single[i % 3].logprob);
  for (uint32_t i = 0; i < kPairs; ++i) {
    const int a = sampler.draw(logits, {}, 2 * i)->token, b = sampler.draw(logits, {}, 2 * i + 1)->token;
    ++counts[static_cast<size_t>(3 * a + b)];
  }
  EXPECT_LT(total_variation(p, counts, kPairs), tv_bound(p, kPairs, 1e-9));
}

TEST(SamplerDraw, DependsOnSeedSampleAndPositionOnly) {
  std::mt19937 rng(1);
  const std::vector<float> logits = random_logits(rng, 5000);
  SamplerOptions options = plain();
  options.seed = 99;
  const Sampler sampler = make(options, 5000);
  std::vector<int32_t> forward, backward, other_sample, other_seed;
  for (uint32_t p = 0; p < 200; ++p) forward.push_back(sampler.draw(logits, {}, p)->token);
  const Sampler copy = sampler;
  for (uint32_t p = 200; p-- > 0;)
    backward.push_back(copy.draw(logits, copy.start({}), p, 0, static_cast<int>(p % 7))->token);
  std::reverse(backward.begin(), backward.end());
  EXPECT_EQ(forward, backward);
  std::vector<int32_t> elsewhere(200);
  std::thread thread([&] {
    for (uint32_t p = 0; p < 200; ++p) elsewhere[p] = sampler.draw(logits, {}, p)->token;
  });
  for (uint32_t p = 0; p < 200; ++p) other_sample.push_back(sampler.draw(logits, {}, p, 1)->token);
  thread.join();
  EXPECT_EQ(forward, elsewhere);
  EXPECT_NE(forward, other_sample);
  options.seed += uint64_t{1} << 40;
  const Sampler reseeded = make(options, 5000);
  for (uint32_t p = 0; p < 200; ++p) other_seed.push_back(reseeded.draw(logits, {}, p)->token);
  EXPECT_NE(forward, other_seed);
}

TEST(SamplerDraw, IsTheArgmaxOverAWholeVocabulary) {
  // Flat and steep logits, where few or nearly all tokens can be passed over.
  std::mt19937 rng(17);
  for (const float spread : {0.0f, 0.01f, 1.0f, 30.0f}) {
    std::normal_distribution<float> normal(100, spread + 1e-9f);
    std::vector<float> logits(4000);
    for (float& v : logits) v = normal(rng);
    const Sampler sampler = make(plain(), logits.size());
    const auto all = *sampler.distribution(logits, {}, 0);
    for (uint32_t position = 0; position < 100; ++position) {
      int32_t best = -1;
      double best_score = -kInf;
      for (const TokenLogprob& t : all) {
        const double noise = static_cast<double>(gumbel_noise({.position = position}, static_cast<uint32_t>(t.token)));
        if (t.logprob + noise > best_score) best = t.token, best_score = t.logprob + noise;
      }
      ASSERT_EQ(sampler.draw(logits, {}, position)->token, best) << spread;
    }
  }
}

TEST(SamplerDraw, LogprobsAreOfTheRawLogits) {
  std::mt19937 rng(23);
  for (const size_t n : {1, 5, 64, 1000}) {
    const std::vector<float> logits = random_logits(rng, n);
    SamplerOptions options;
    options.top_k = 3;
    options.temperature = 1.7f;
    options.presence_penalty = 2;
    if (n > 1) options.logit_bias = {{0, 3.5f}};
    const Sampler sampler = make(options, n);
    const SamplerState state = sampler.start(std::vector<int32_t>{0, 0, static_cast<int32_t>(n / 2)});
    double max = -kInf, sum = 0;
    for (const float v : logits) max = std::max(max, static_cast<double>(v));
    for (const float v : logits) sum += std::exp(v - max);
    const auto expected = [&](int32_t t) { return logits[static_cast<size_t>(t)] - max - std::log(sum); };
    const auto none = sampler.draw(logits, state, 4);
    const auto zero = sampler.draw(logits, state, 4, 0, 0);
    EXPECT_EQ(none->logprob, 0);
    EXPECT_TRUE(none->top.empty());
    EXPECT_TRUE(zero->top.empty());
    EXPECT_EQ(none->token, zero->token);
    EXPECT_NEAR(zero->logprob, expected(zero->token), 2e-6);
    for (const int count : {1, 4, 70, 100000}) {
      const auto draw = sampler.draw(logits, state, 4, 0, count);
      EXPECT_EQ(draw->token, none->token);
      std::vector<int32_t> order;
      for (size_t t = 0; t < n; ++t) {
        if (logits[t] > -kInf) order.push_back(static_cast<int32_t>(t));
      }
      std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
        return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)];
      });
      order.resize(std::min(order.size(), static_cast<size_t>(count)));
      ASSERT_EQ(draw->top.size(), order.size());
      for (size_t i = 0; i < order.size(); ++i) {
        EXPECT_EQ(draw->top[i].token, order[i]);
        EXPECT_NEAR(draw->top[i].logprob, expected(order[i]), 2e-6 * (1 + std::abs(expected(order[i]))));
      }
    }
  }
}

TEST(SamplerDraw, AWarmDrawAllocatesNothing) {
  std::mt19937 rng(31);
  const std::vector<float> logits = random_logits(rng, 3000);
  const std::vector<uint64_t> mask = words_of(std::vector<uint8_t>(3000, 1));
  SamplerOptions options;
  options.repeat_penalty = 1.2f;
  options.dry_multiplier = 1;
  options.dry_breakers = {{3}, {4, 5}};
  options.logit_bias = {{5, 1.0f}};
  options.xtc_probability = 0.5f;
  const Sampler sampler = make(options, 3000);
  const SamplerState state = sampler.start(random_text(rng, 300, 3000, 9));
  const auto draws = [&] {
    const int64_t before = allocations;
    for (uint32_t p = 0; p < 50; ++p) EXPECT_TRUE(sampler.draw(logits, state, p, 0, 0, mask).ok());
    return allocations - before;
  };
  std::thread([&] {
    EXPECT_GT(draws(), 0);
    EXPECT_EQ(draws(), 0);
  }).join();
}

TEST(SamplerDraw, ExtremeValuesAreServed) {
  constexpr float kLargest = std::numeric_limits<float>::max();
  for (const float temperature : {1e-38f, 0.8f, 3e38f}) {
    SamplerOptions options = plain();
    options.temperature = temperature;
    const Sampler sampler = make(options, 4);
    const auto draw = sampler.draw(std::vector<float>{-kLargest, kLargest, -kInf, 0}, {}, 3, 0, 4);
    ASSERT_TRUE(draw.ok()) << draw.status().message();
    EXPECT_NE(draw->token, 2);
    if (temperature < 1) {
      EXPECT_EQ(draw->token, 1);
    }
    EXPECT_TRUE(sampler.draw(std::vector<float>(4, -kLargest), {}, 3, 0, 4).ok());
  }
}

// ---- Masks.

TEST(SamplerMask, ForbidsAfterTheBias) {
  SamplerOptions options = plain();
  options.logit_bias = {{1, 50.0f}};
  const Sampler sampler = make(options, 4);
  const std::vector<float> logits = {1, 2, 3, 4};
  const std::vector<uint64_t> mask = {~uint64_t{0} ^ 0b1010};  // bits behind the vocabulary mean nothing
  const auto left = *sampler.distribution(logits, {}, 0, 0, mask);
  ASSERT_EQ(left.size(), 2u);
  EXPECT_EQ(left[0].token, 0);
  EXPECT_EQ(left[1].token, 2);
  EXPECT_NEAR(left[1].logprob - left[0].logprob, 2, 1e-6);
  // The log-probability reported is still the model's own.
  const auto draw = sampler.draw(logits, {}, 0, 0, 0, mask);
  EXPECT_NEAR(draw->logprob, logits[static_cast<size_t>(draw->token)] - 4.4401897, 1e-5);
}

// ---- Refusals.

void expect_refused(const Status& status, const std::string& part) {
  EXPECT_EQ(status.code(), Code::kInvalidArgument);
  EXPECT_NE(status.message().find(part), std::string::npos) << status.message();
}

TEST(SamplerRefuses, OptionsThatAreNoNumbersOrOutOfRange) {
  struct Field {
    const char* name;
    float SamplerOptions::*member;
    std::vector<float> bad;
  };
  const Field fields[] = {
      {"temperature", &SamplerOptions::temperature, {kInf, -kInf}},
      {"dynatemp_range", &SamplerOptions::dynatemp_range, {-1}},
      {"dynatemp_exponent", &SamplerOptions::dynatemp_exponent, {-1}},
      {"top_p", &SamplerOptions::top_p, {-0.1f}},
      {"min_p", &SamplerOptions::min_p, {}},
      {"typical_p", &SamplerOptions::typical_p, {-0.1f}},
      {"top_n_sigma", &SamplerOptions::top_n_sigma, {}},
      {"xtc_probability", &SamplerOptions::xtc_probability, {-0.1f, 1.1f}},
      {"xtc_threshold", &SamplerOptions::xtc_threshold, {-0.1f}},
      {"repeat_penalty", &SamplerOptions::repeat_penalty, {0, -1, kInf}},
      {"presence_penalty", &SamplerOptions::presence_penalty, {kInf}},
      {"frequency_penalty", &SamplerOptions::frequency_penalty, {-kInf}},
      {"dry_multiplier", &SamplerOptions::dry_multiplier, {-1, kInf}},
      {"dry_base", &SamplerOptions::dry_base, {0.5f}},
      {"mirostat_tau", &SamplerOptions::mirostat_tau, {-1}},
      {"mirostat_eta", &SamplerOptions::mirostat_eta, {-1}},
  };
  for (const Field& field : fields) {
    std::vector<float> bad = field.bad;
    bad.push_back(kNan);
    for (const float value : bad) {
      SamplerOptions options;
      options.*field.member = value;
      expect_refused(options.validate(), std::string(field.name) + ":");
      expect_refused(Sampler::create(options, 10).status(), field.name);
    }
  }
  struct IntField {
    const char* name;
    int SamplerOptions::*member;
    std::vector<int> bad;
  };
  const IntField int_fields[] = {
      {"min_keep", &SamplerOptions::min_keep, {0, -1}},
      {"repeat_last_n", &SamplerOptions::repeat_last_n, {-2}},
      {"dry_allowed_length", &SamplerOptions::dry_allowed_length, {-1}},
      {"dry_penalty_last_n", &SamplerOptions::dry_penalty_last_n, {-2}},
      {"mirostat", &SamplerOptions::mirostat, {-1, 3}},
      {"n_ctx", &SamplerOptions::n_ctx, {0}},
  };
  for (const IntField& field : int_fields) {
    for (const int value : field.bad) {
      SamplerOptions options;
      options.*field.member = value;
      expect_refused(options.validate(), std::string(field.name) + ":");
    }
  }
  EXPECT_TRUE(SamplerOptions().validate().ok());
}

TEST(SamplerRefuses, UnknownSamplersNamingTheKnown) {
  SamplerOptions options;
  for (const char* names : {"top_k;top_q", "infill", "top_k;", ";", "top_k top_p"}) {
    options.samplers = names;
    expect_refused(options.validate(), "penalties, dry, top_n_sigma, top_k, typ_p, top_p, min_p, xtc, temperature");
  }
  options.samplers = "top_k;top_q";
  expect_refused(options.validate(), "'top_q'");
}

TEST(SamplerRefuses, TokensOutsideTheVocabulary) {
  const auto with = [](auto&& set) {
    SamplerOptions options;
    set(options);
    return Sampler::create(options, 10).status();
  };
  for (const int32_t token : {-1, 10}) {
    expect_refused(with([&](SamplerOptions& o) { o.logit_bias = {{2, 1.0f}, {token, 1.0f}}; }), "logit_bias: token");
    expect_refused(with([&](SamplerOptions& o) { o.dry_breakers = {{2}, {2, token}}; }), "dry_breakers: token");
    expect_refused(with([&](SamplerOptions& o) {
                     o.ignore_eos = true, o.end_tokens = {1, token};
                   }),
                   "end_tokens: token");
  }
  for (const float bias : {kNan, kInf}) {
    expect_refused(with([&](SamplerOptions& o) { o.logit_bias = {{2, bias}}; }), "logit_bias");
  }
  expect_refused(with([](SamplerOptions& o) { o.dry_breakers = {{2}, {}}; }), "dry_breakers: an empty");
  expect_refused(Sampler::create({}, 0).status(), "vocab_size");
}

TEST(SamplerRefuses, LogitsThatAreNoNumbers) {
  for (const float temperature : {0.0f, 0.8f}) {
    SamplerOptions options;
    options.temperature = temperature;
    for (const size_t n : {1, 64, 100, 1000}) {
      const Sampler sampler = make(options, n);
      for (const float bad : {kNan, -kNan, kInf}) {
        for (size_t i = 0; i < n; i += 1 + n / 20) {
          std::vector<float> logits(n, 0.5f);
          logits[i] = bad;
          expect_refused(sampler.draw(logits, {}, 0).status(), "entry " + std::to_string(i) + " is ");
          expect_refused(sampler.distribution(logits, {}, 0).status(), "entry");
        }
      }
      // The buffers are fine afterwards.
      EXPECT_TRUE(sampler.draw(std::vector<float>(n, 1), {}, 0).ok());
    }
  }
}

TEST(SamplerRefuses, WhenNoTokenIsLeft) {
  const Sampler sampler = make({}, 3);
  const std::vector<float> logits = {1, 2, -kInf};
  expect_refused(sampler.draw(std::vector<float>(3, -kInf), {}, 0).status(), "all are -infinity");
  expect_refused(sampler.draw(logits, {}, 0, 0, -1, std::vector<uint64_t>{0b100}).status(), "no token is left");
  SamplerOptions options;
  options.ignore_eos = true;
  options.end_tokens = {0, 1};
  expect_refused(make(options, 3).draw(logits, {}, 0).status(), "no token is left");
  options = {};
  options.logit_bias = {{0, -kInf}, {1, -kInf}};
  expect_refused(make(options, 3).distribution(logits, {}, 0).status(), "no token is left");
  options = {};
  options.presence_penalty = 3.4e38f;
  for (const char* names : {"penalties", "top_k;penalties"}) {
    options.samplers = names;
    const Sampler strict = make(options, 2);
    const SamplerState state = strict.start(std::vector<int32_t>{0, 1});
    expect_refused(strict.draw(std::vector<float>{-3e38f, -3e38f}, state, 0).status(), "the penalties forbid all");
    EXPECT_TRUE(strict.draw(std::vector<float>{-3e38f, -3e38f}, strict.start(std::vector<int32_t>{0}), 0).ok());
  }
}

TEST(SamplerRefuses, EditsThatOverflow) {
  SamplerOptions options = plain();
  options.logit_bias = {{1, 3e38f}};
  expect_refused(make(options, 2).draw(std::vector<float>{1, 3e38f}, {}, 0).status(),
                 "logit_bias: the logit of token 1");
  options = plain();
  options.frequency_penalty = -3e38f;
  options.top_k = 5;
  for (const char* names : {"penalties", "top_k;penalties"}) {
    options.samplers = names;
    const Sampler sampler = make(options, 2);
    const SamplerState state = sampler.start(std::vector<int32_t>{1, 1});
    expect_refused(sampler.draw(std::vector<float>{1, 1}, state, 0).status(), "the logit of token 1 overflows");
  }
}

TEST(SamplerRefuses, SpansOfTheWrongLength) {
  const Sampler sampler = make({}, 3);
  expect_refused(sampler.draw(std::vector<float>(4, 1), {}, 0).status(), "logits: 4 entries");
  expect_refused(sampler.draw({}, {}, 0).status(), "logits: 0 entries");
  expect_refused(sampler.draw(std::vector<float>(3, 1), {}, 0, 0, -1, std::vector<uint64_t>(2, 1)).status(),
                 "mask: 2 words");
  expect_refused(sampler.draw(std::vector<float>(3, 1), {}, 0, 0, -2).status(), "n_logprobs");
}

}  // namespace
}  // namespace decant
