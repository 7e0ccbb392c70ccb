// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "cache/prefix_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

namespace decant {
namespace {

using Tokens = std::vector<int32_t>;

class PrefixCacheTest : public ::testing::Test {
 protected:
  void SetUp() override {
    device_ = *make_cpu_device(1);
    cache_ = std::make_unique<KvCache>(*KvCache::create(
        *device_, {{.k_type = DType::kF16, .v_type = DType::kF16, .n_kv_heads = 1, .k_dim = 16, .v_dim = 16}}, kPages));
    prefixes_ = std::make_unique<PrefixCache>(*cache_);
  }
  // A sequence with that many rows.
  SequenceId sequence(int length) {
    const SequenceId id = cache_->create_sequence();
    EXPECT_TRUE(cache_->reserve(id, 0, length).ok());
    cache_->append_committed(id, 0, 1, length);
    return id;
  }
  void put(const Tokens& tokens, uint64_t space = 0) {
    const SequenceId id = sequence(static_cast<int>(tokens.size()));
    ASSERT_TRUE(prefixes_->put(tokens, id, space).ok());
    ASSERT_TRUE(cache_->remove(id).ok());
  }
  // What is found of a text; the page of each row is checked against that of the sequence in which it was written.
  int found(const Tokens& tokens, uint64_t space = 0) {
    const PrefixCache::Match match = prefixes_->take(tokens, space);
    EXPECT_EQ(match.length, prefixes_->known(tokens, space));
    if (match.sequence == -1) return 0;
    EXPECT_EQ(cache_->length(match.sequence), match.length);
    EXPECT_TRUE(cache_->remove(match.sequence).ok());
    return match.length;
  }
  static Tokens text(int length, int first = 0) {
    Tokens tokens(static_cast<size_t>(length));
    for (int i = 0; i < length; ++i) tokens[static_cast<size_t>(i)] = first + i;
    return tokens;
  }

  static constexpr int kPages = 64;
  std::unique_ptr<Device> device_;
  std::unique_ptr<KvCache> cache_;
  std::unique_ptr<PrefixCache> prefixes_;
};

TEST_F(PrefixCacheTest, FindsTheLongestBeginningAtAnyLength) {
  EXPECT_EQ(found(text(10)), 0);
  put(text(200));
  EXPECT_EQ(found(text(200)), 200);
  EXPECT_EQ(found(text(300)), 200);
  EXPECT_EQ(found(text(77)), 77);
  Tokens other = text(200);
  other[130] = 9999;
  EXPECT_EQ(found(other), 130);
  put(other);
  EXPECT_EQ(found(other), 200);
  EXPECT_EQ(found(text(200)), 200);
  EXPECT_EQ(prefixes_->tokens(), 200 + 70);
  EXPECT_EQ(prefixes_->nodes(), 3);
  EXPECT_EQ(found(text(200, 1)), 0);
}

TEST_F(PrefixCacheTest, SpacesShareNothing) {
  put(text(100), 1);
  EXPECT_EQ(found(text(100), 0), 0);
  EXPECT_EQ(found(text(100), 2), 0);
  EXPECT_EQ(found(text(100), 1), 100);
}

TEST_F(PrefixCacheTest, SharesPagesOfCommonBeginnings) {
  put(text(640));
  const int free = cache_->free_pages();
  EXPECT_EQ(free, kPages - 10);
  // The same rows again, and a piece more, held by one sequence that took them from the cache.
  PrefixCache::Match match = prefixes_->take(text(700));
  ASSERT_EQ(match.length, 640);
  ASSERT_TRUE(cache_->reserve(match.sequence, 640, 700).ok());
  cache_->append_committed(match.sequence, 0, 1, 60);
  ASSERT_TRUE(prefixes_->put(text(700), match.sequence).ok());
  ASSERT_TRUE(cache_->remove(match.sequence).ok());
  EXPECT_EQ(cache_->free_pages(), free - 1);
}

TEST_F(PrefixCacheTest, EvictsEndsThatWereUsedLongestAgo) {
  const auto with_end = [](int end) {
    Tokens tokens = text(128);
    for (int i = 0; i < 64; ++i) tokens.push_back(end * 1000 + i);
    return tokens;
  };
  for (int end = 1; end <= 3; ++end) put(with_end(end));
  EXPECT_EQ(found(with_end(1)), 192);
  ASSERT_TRUE(prefixes_->evict());
  EXPECT_EQ(found(with_end(2)), 128);
  EXPECT_EQ(found(with_end(1)), 192);
  EXPECT_EQ(found(with_end(3)), 192);
  int evicted = 1;
  while (prefixes_->evict()) ++evicted;
  EXPECT_EQ(evicted, 4);  // three ends and what they shared
  EXPECT_EQ(cache_->free_pages(), kPages);
  EXPECT_EQ(prefixes_->tokens(), 0);
  EXPECT_EQ(prefixes_->nodes(), 0);
}

TEST_F(PrefixCacheTest, RefusesTextsThatTheSequenceDoesNotHold) {
  const SequenceId id = sequence(10);
  EXPECT_EQ(prefixes_->put(text(11), id).code(), Code::kInvalidArgument);
  EXPECT_EQ(prefixes_->put(text(3), 77).code(), Code::kInvalidArgument);
  EXPECT_TRUE(prefixes_->put({}, id).ok());
  EXPECT_EQ(prefixes_->nodes(), 0);
}

// Against a plain list of texts, with a small alphabet so that they share a lot; no page is lost.
TEST_F(PrefixCacheTest, AgreesWithAListOfTexts) {
  std::mt19937 random(7);
  std::vector<Tokens> kept;
  for (int round = 0; round < 400; ++round) {
    Tokens tokens(random() % 12 + 1);
    for (int32_t& t : tokens) t = static_cast<int32_t>(random() % 2);
    size_t best = 0;
    for (const Tokens& other : kept) {
      const auto [a, b] = std::mismatch(tokens.begin(), tokens.end(), other.begin(), other.end());
      best = std::max(best, static_cast<size_t>(a - tokens.begin()));
    }
    ASSERT_EQ(found(tokens), static_cast<int>(best)) << "round " << round;
    if (random() % 2 == 0 && cache_->free_pages() > 2) {
      put(tokens);
      kept.push_back(tokens);
    }
    if (random() % 60 == 0) {
      prefixes_->clear();
      kept.clear();
      ASSERT_EQ(cache_->free_pages(), kPages);
    }
  }
}

}  // namespace
}  // namespace decant
