// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "cache/kv_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <climits>
#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <set>

namespace decant {
namespace {

// Layers whose rows lie differently in a page: keys transposed or not, several sizes.
std::vector<KvLayout> layouts() {
  return {{.k_type = DType::kF16, .v_type = DType::kF16, .n_kv_heads = 2, .k_dim = 4, .v_dim = 16},
          {.k_type = DType::kQ8_0, .v_type = DType::kQ4_0, .n_kv_heads = 1, .k_dim = 32, .v_dim = 32},
          {.k_type = DType::kF32, .v_type = DType::kBF16, .n_kv_heads = 3, .k_dim = 2, .v_dim = 16}};
}
constexpr int kLayers = 3;

// A cached row is known by a number, which fills its bytes; no two rows of a test share one.
using Tag = uint32_t;

class KvCacheTest : public ::testing::Test {
 protected:
  void SetUp() override { open(8); }

  void open(int pages) {
    cache_.reset();
    if (device_ == nullptr) {
      auto device = make_cpu_device(1);
      ASSERT_TRUE(device.ok());
      device_ = std::move(device).value();
    }
    auto cache = KvCache::create(*device_, layouts(), pages);
    ASSERT_TRUE(cache.ok()) << cache.status().message();
    cache_ = std::make_unique<KvCache>(std::move(cache).value());
  }

  // Calls visit(offset in the pool, bytes) for every stretch of a row, in order.
  template <typename Visit>
  void visit_row(SequenceId sequence, int layer, int slot, const Visit& visit) {
    const std::span<const int32_t> table = cache_->page_table(sequence);
    ASSERT_LT(static_cast<size_t>(slot / kPageKeys), table.size());
    const KvLayout& l = cache_->layout(layer);
    const auto key = static_cast<size_t>(slot % kPageKeys);
    size_t tile = static_cast<size_t>(table[static_cast<size_t>(slot / kPageKeys)]) * l.page_bytes();
    const size_t k_row = row_bytes(l.k_type, l.k_dim), v_row = row_bytes(l.v_type, l.v_dim);
    for (int head = 0; head < l.n_kv_heads; ++head) {
      if (l.k_type == DType::kF16 || l.k_type == DType::kF32) {
        const size_t element = k_row / static_cast<size_t>(l.k_dim);
        for (size_t d = 0; d < static_cast<size_t>(l.k_dim); ++d)
          visit(tile + (d * kPageKeys + key) * element, element);
      } else {
        visit(tile + key * k_row, k_row);
      }
      visit(tile + l.k_tile_bytes() + key * v_row, v_row);
      tile += l.k_tile_bytes() + l.v_tile_bytes();
    }
  }
  static uint8_t byte_of(Tag tag, size_t i) {
    return static_cast<uint8_t>((tag * 0x9E3779B1u + static_cast<uint32_t>(i / 4) * 0x85EBCA6Bu) >> (8 * (i % 4)));
  }
  void write(SequenceId sequence, int layer, int slot, Tag tag) {
    size_t i = 0;
    visit_row(sequence, layer, slot, [&](size_t offset, size_t bytes) {
      std::vector<uint8_t> data(bytes);
      for (uint8_t& b : data) b = byte_of(tag, i++);
      device_->copy_in(cache_->pool(layer) + static_cast<std::ptrdiff_t>(offset), std::span<const uint8_t>(data));
    });
  }
  bool holds(SequenceId sequence, int layer, int slot, Tag tag) {
    size_t i = 0, wrong = 0;
    visit_row(sequence, layer, slot, [&](size_t offset, size_t bytes) {
      std::vector<uint8_t> data(bytes);
      device_->copy_out(std::span<uint8_t>(data),
                        DevPtr<const uint8_t>(cache_->pool(layer)) + static_cast<std::ptrdiff_t>(offset));
      for (const uint8_t b : data) wrong += b != byte_of(tag, i++);
    });
    return i > 0 && wrong == 0;
  }

  // What a step does: reserve, write rows tag, tag + 1, ... (in layer l: + 1000000 * l), count them.
  Status append(SequenceId sequence, int rows, Tag tag, bool pending = false) {
    const int base = cache_->length(sequence);
    const int held = cache_->pending(sequence, 0);
    DECANT_TRY_STATUS(cache_->reserve(sequence, base, base + held + rows));
    for (int l = 0; l < kLayers; ++l) {
      for (int i = 0; i < rows; ++i) {
        write(sequence, l, base + held + i, tag + static_cast<Tag>(i) + 1000000u * static_cast<Tag>(l));
      }
    }
    pending ? cache_->append_pending(sequence, 0, kLayers, rows) : cache_->append_committed(sequence, 0, kLayers, rows);
    return {};
  }
  void expect_rows(SequenceId sequence, int first, const std::vector<Tag>& tags) {
    for (int l = 0; l < kLayers; ++l) {
      for (size_t i = 0; i < tags.size(); ++i) {
        EXPECT_TRUE(holds(sequence, l, first + static_cast<int>(i), tags[i] + 1000000u * static_cast<Tag>(l)))
            << "sequence " << sequence << ", layer " << l << ", row " << first + static_cast<int>(i);
      }
    }
  }
  static std::vector<Tag> run(Tag first, int n) {
    std::vector<Tag> tags;
    for (int i = 0; i < n; ++i) tags.push_back(first + static_cast<Tag>(i));
    return tags;
  }

  std::unique_ptr<Device> device_;
  std::unique_ptr<KvCache> cache_;
};

TEST_F(KvCacheTest, ReservesDeviceMemoryForItsPages) {
  size_t bytes = 0;
  for (const KvLayout& l : layouts()) bytes += 8 * l.page_bytes();
  EXPECT_EQ(cache_->bytes(), bytes);
  EXPECT_EQ(cache_->pages(), 8);
  EXPECT_EQ(cache_->free_pages(), 8);
  const auto none = KvCache::create(*device_, layouts(), 0);
  ASSERT_FALSE(none.ok());
  EXPECT_EQ(none.status().code(), Code::kInvalidArgument);
}

TEST_F(KvCacheTest, SequencesTakePagesAsTheyGrowAndGiveThemBack) {
  const SequenceId a = cache_->create_sequence();
  EXPECT_TRUE(cache_->exists(a));
  EXPECT_EQ(cache_->length(a), 0);
  EXPECT_EQ(cache_->free_pages(), 8);
  ASSERT_TRUE(append(a, 64, 100).ok());
  EXPECT_EQ(cache_->free_pages(), 7);
  ASSERT_TRUE(append(a, 1, 200).ok());
  EXPECT_EQ(cache_->free_pages(), 6);
  EXPECT_EQ(cache_->length(a), 65);
  EXPECT_EQ(cache_->page_table(a).size(), 2u);
  expect_rows(a, 0, run(100, 64));
  expect_rows(a, 64, {200});
  ASSERT_TRUE(cache_->truncate(a, 64).ok());
  EXPECT_EQ(cache_->free_pages(), 7);
  ASSERT_TRUE(cache_->truncate(a, 0).ok());
  EXPECT_EQ(cache_->free_pages(), 8);
  ASSERT_TRUE(append(a, 3, 300).ok());
  ASSERT_TRUE(cache_->remove(a).ok());
  EXPECT_FALSE(cache_->exists(a));
  EXPECT_EQ(cache_->free_pages(), 8);
  const SequenceId again = cache_->create_sequence();
  EXPECT_EQ(again, a) << "ids are used again";
  EXPECT_EQ(cache_->length(again), 0);
}

TEST_F(KvCacheTest, SharedPagesAreCopiedBeforeTheyDiverge) {
  const SequenceId a = cache_->create_sequence();
  ASSERT_TRUE(append(a, 70, 100).ok());
  const auto b = cache_->fork(a, 66);
  ASSERT_TRUE(b.ok());
  EXPECT_EQ(cache_->length(*b), 66);
  EXPECT_EQ(cache_->free_pages(), 6) << "a fork takes no pages";
  ASSERT_TRUE(append(*b, 2, 500).ok());
  EXPECT_EQ(cache_->free_pages(), 5) << "the last page is copied, the first one stays shared";
  EXPECT_EQ(cache_->page_table(a)[0], cache_->page_table(*b)[0]);
  EXPECT_NE(cache_->page_table(a)[1], cache_->page_table(*b)[1]);
  expect_rows(a, 0, run(100, 70));
  expect_rows(*b, 0, run(100, 66));
  expect_rows(*b, 66, {500, 501});

  // The parent's pages outlive it.
  ASSERT_TRUE(cache_->remove(a).ok());
  expect_rows(*b, 0, run(100, 66));
  EXPECT_EQ(cache_->free_pages(), 6);
  ASSERT_TRUE(append(*b, 1, 600).ok());
  EXPECT_EQ(cache_->free_pages(), 6) << "nobody shares the page any more";
  ASSERT_TRUE(cache_->remove(*b).ok());
  EXPECT_EQ(cache_->free_pages(), 8);
}

TEST_F(KvCacheTest, AParentThatIsCutBackDoesNotWriteIntoItsForks) {
  const SequenceId a = cache_->create_sequence();
  ASSERT_TRUE(append(a, 10, 100).ok());
  const auto b = cache_->fork(a, 10);
  ASSERT_TRUE(b.ok());
  ASSERT_TRUE(cache_->truncate(a, 4).ok());
  ASSERT_TRUE(append(a, 6, 500).ok());
  expect_rows(*b, 0, run(100, 10));
  expect_rows(a, 0, run(100, 4));
  expect_rows(a, 4, run(500, 6));
}

TEST_F(KvCacheTest, CommitKeepsThePathAndClosesItsGaps) {
  const SequenceId a = cache_->create_sequence();
  ASSERT_TRUE(append(a, 60, 100).ok());
  ASSERT_TRUE(append(a, 3, 200, true).ok());
  ASSERT_TRUE(append(a, 7, 203, true).ok());  // across the end of the page
  EXPECT_EQ(cache_->pending(a, 1), 10);
  EXPECT_EQ(cache_->length(a), 60);
  EXPECT_EQ(cache_->free_pages(), 6);
  const std::vector<int32_t> path = {0, 2, 3, 9};
  ASSERT_TRUE(cache_->commit(a, path).ok());
  EXPECT_EQ(cache_->length(a), 64);
  EXPECT_EQ(cache_->pending(a, 1), 0);
  EXPECT_EQ(cache_->free_pages(), 7) << "the second page is empty again";
  expect_rows(a, 0, run(100, 60));
  expect_rows(a, 60, {200, 202, 203, 209});
}

TEST_F(KvCacheTest, CommitDoesNotDisturbForksMadeMeanwhile) {
  const SequenceId a = cache_->create_sequence();
  ASSERT_TRUE(append(a, 5, 100).ok());
  ASSERT_TRUE(append(a, 4, 200, true).ok());
  const auto b = cache_->fork(a, 5);
  ASSERT_TRUE(b.ok());
  EXPECT_EQ(cache_->pending(*b, 0), 0) << "pending rows are not inherited";
  const std::vector<int32_t> path = {1, 3};
  ASSERT_TRUE(cache_->commit(a, path).ok());
  ASSERT_TRUE(append(*b, 2, 700).ok());
  expect_rows(a, 0, run(100, 5));
  expect_rows(a, 5, {201, 203});
  expect_rows(*b, 0, run(100, 5));
  expect_rows(*b, 5, {700, 701});
}

TEST_F(KvCacheTest, DropAndShrinkGiveBackUnusedPages) {
  const SequenceId a = cache_->create_sequence();
  ASSERT_TRUE(append(a, 60, 100).ok());
  ASSERT_TRUE(append(a, 10, 200, true).ok());
  ASSERT_TRUE(cache_->reserve(a, 60, 300).ok());
  EXPECT_EQ(cache_->free_pages(), 3);
  cache_->shrink(a);
  EXPECT_EQ(cache_->free_pages(), 6);
  cache_->drop_pending(a);
  EXPECT_EQ(cache_->free_pages(), 7);
  EXPECT_EQ(cache_->length(a), 60);
  EXPECT_EQ(cache_->pending(a, 0), 0);
  ASSERT_TRUE(append(a, 10, 300, true).ok());
  ASSERT_TRUE(cache_->truncate(a, 60).ok());
  EXPECT_EQ(cache_->pending(a, 0), 0) << "truncate forgets pending rows";
  EXPECT_EQ(cache_->free_pages(), 7);
  ASSERT_TRUE(append(a, 3, 400, true).ok());
  ASSERT_TRUE(cache_->commit(a, {}).ok());
  EXPECT_EQ(cache_->length(a), 60) << "an empty path drops all";
  expect_rows(a, 0, run(100, 60));
}

TEST_F(KvCacheTest, LayersAreCountedApart) {
  const SequenceId a = cache_->create_sequence();
  ASSERT_TRUE(cache_->reserve(a, 0, 70).ok());
  cache_->append_committed(a, 0, 2, 70);
  EXPECT_EQ(cache_->length(a, 0), 70);
  EXPECT_EQ(cache_->length(a, 2), 0);
  EXPECT_EQ(cache_->length(a), 70) << "of the layer that has most";
  const auto b = cache_->fork(a, 65);
  ASSERT_TRUE(b.ok());
  EXPECT_EQ(cache_->length(*b, 1), 65);
  EXPECT_EQ(cache_->length(*b, 2), 0);
  cache_->append_pending(a, 2, 3, 70);
  EXPECT_EQ(cache_->pending(a, 2), 70);
  EXPECT_EQ(cache_->pending(a, 0), 0);
  const std::vector<int32_t> path = {0};
  EXPECT_EQ(cache_->commit(a, path).code(), Code::kInvalidArgument) << "not all layers hold row 0";
}

TEST_F(KvCacheTest, ExhaustionLeavesNothingChanged) {
  const SequenceId a = cache_->create_sequence();
  ASSERT_TRUE(append(a, 6 * 64 + 10, 100).ok());
  const auto b = cache_->fork(a, 6 * 64 + 5);
  ASSERT_TRUE(b.ok());
  const std::vector<int32_t> table(cache_->page_table(*b).begin(), cache_->page_table(*b).end());
  // One page is free: enough for the copy or for a new page, not for both.
  EXPECT_EQ(cache_->free_pages(), 1);
  for (const int rows : {7 * 64 + 1, 1000, INT_MAX}) {
    const Status status = cache_->reserve(*b, 6 * 64 + 5, rows);
    EXPECT_EQ(status.code(), Code::kExhausted) << rows;
    EXPECT_NE(status.message().find("-c"), std::string::npos) << status.message();
    EXPECT_EQ(cache_->free_pages(), 1);
    EXPECT_TRUE(std::equal(table.begin(), table.end(), cache_->page_table(*b).begin(), cache_->page_table(*b).end()));
    EXPECT_EQ(cache_->length(*b), 6 * 64 + 5);
  }
  ASSERT_TRUE(append(*b, 59, 5000).ok());
  EXPECT_EQ(cache_->free_pages(), 0);
  expect_rows(a, 0, run(100, 6 * 64 + 10));
  expect_rows(*b, 6 * 64 + 5, run(5000, 59));
  EXPECT_EQ(cache_->reserve(*b, 7 * 64, 7 * 64 + 1).code(), Code::kExhausted);
}

TEST_F(KvCacheTest, BadArgumentsAreRefusedByNameAndChangeNothing) {
  const SequenceId a = cache_->create_sequence();
  ASSERT_TRUE(append(a, 10, 100).ok());
  ASSERT_TRUE(append(a, 4, 200, true).ok());
  const std::vector<int32_t> ok_path = {0};
  for (const SequenceId bad : {-1, 1, 99, INT_MAX, INT_MIN}) {
    EXPECT_FALSE(cache_->exists(bad));
    EXPECT_EQ(cache_->fork(bad, 0).status().code(), Code::kNotFound);
    EXPECT_EQ(cache_->truncate(bad, 0).code(), Code::kNotFound);
    EXPECT_EQ(cache_->remove(bad).code(), Code::kNotFound);
    EXPECT_EQ(cache_->reserve(bad, 0, 1).code(), Code::kNotFound);
    const Status status = cache_->commit(bad, ok_path);
    EXPECT_EQ(status.code(), Code::kNotFound);
    EXPECT_NE(status.message().find(std::to_string(bad)), std::string::npos) << status.message();
  }
  for (const int length : {-1, 11, INT_MAX, INT_MIN}) {
    EXPECT_EQ(cache_->fork(a, length).status().code(), Code::kInvalidArgument) << length;
    const Status status = cache_->truncate(a, length);
    EXPECT_EQ(status.code(), Code::kInvalidArgument) << length;
    EXPECT_NE(status.message().find("has 10 tokens"), std::string::npos) << status.message();
  }
  for (const std::vector<int32_t>& path : {std::vector<int32_t>{4}, {-1}, {0, 0}, {2, 1}, {0, 1, 2, 3, 4}}) {
    EXPECT_EQ(cache_->commit(a, path).code(), Code::kInvalidArgument);
  }
  EXPECT_FALSE(cache_->exists(1)) << "a refused fork makes no sequence";
  EXPECT_EQ(cache_->length(a), 10);
  EXPECT_EQ(cache_->pending(a, 0), 4);
  EXPECT_EQ(cache_->free_pages(), 7);
  expect_rows(a, 0, run(100, 10));
  expect_rows(a, 10, run(200, 4));
  ASSERT_TRUE(cache_->remove(a).ok());
  EXPECT_EQ(cache_->remove(a).code(), Code::kNotFound) << "removed twice";
}

// --- Against a model -------------------------------------------------------------------------------------------------

// What the cache is said to hold: rows by their tags, and pages as objects that sequences share.
struct ModelSequence {
  std::vector<Tag> committed[kLayers], pending[kLayers];
  std::vector<std::shared_ptr<int>> pages;

  int length() const {
    size_t most = 0;
    for (const auto& rows : committed) most = std::max(most, rows.size());
    return static_cast<int>(most);
  }
  void keep(size_t rows) { pages.resize(std::min(pages.size(), (rows + 63) / 64)); }
};

class KvCacheModelTest : public KvCacheTest {
 protected:
  static constexpr int kPages = 12;

  size_t below(size_t n) { return static_cast<size_t>(random_() % n); }

  int free_pages() const {
    std::set<const int*> used;
    for (const auto& [id, s] : model_) {
      for (const auto& page : s.pages) used.insert(page.get());
    }
    return kPages - static_cast<int>(used.size());
  }

  // Rows for layers [first, last), which are equally long.
  void append(SequenceId id, ModelSequence& s) {
    int first = 0, last = kLayers;
    if (below(3) == 0)
      first = static_cast<int>(below(kLayers)),
      last = first + 1 + static_cast<int>(below(static_cast<size_t>(kLayers - first)));
    const size_t base = s.committed[first].size(), held = s.pending[first].size();
    for (int l = first; l < last; ++l) {
      if (s.committed[l].size() != base || s.pending[l].size() != held) last = l;
    }
    const bool pending = held > 0 || below(2) == 0;
    const size_t rows = 1 + (below(6) == 0 ? below(150) : below(20));
    const size_t end = base + held + rows;
    size_t needed = 0;
    for (size_t i = base / 64; i < (end + 63) / 64; ++i) needed += i >= s.pages.size() || s.pages[i].use_count() > 1;
    if (s.pages.size() < base / 64) needed += base / 64 - s.pages.size();
    const Status status = cache_->reserve(id, static_cast<int>(base), static_cast<int>(end));
    if (needed > static_cast<size_t>(free_pages())) {
      ASSERT_EQ(status.code(), Code::kExhausted);
      ++refused_;
      return;
    }
    ASSERT_TRUE(status.ok()) << status.message();
    for (size_t i = base / 64; i < (end + 63) / 64; ++i) {
      if (i >= s.pages.size()) {
        s.pages.push_back(std::make_shared<int>());
      } else if (s.pages[i].use_count() > 1) {
        s.pages[i] = std::make_shared<int>();
        ++copied_;
      }
    }
    for (int l = first; l < last; ++l) {
      for (size_t i = 0; i < rows; ++i) {
        write(id, l, static_cast<int>(base + held + i), next_tag_);
        (pending ? s.pending[l] : s.committed[l]).push_back(next_tag_++);
      }
    }
    const int n = static_cast<int>(rows);
    pending ? cache_->append_pending(id, first, last, n) : cache_->append_committed(id, first, last, n);
  }

  void commit(SequenceId id, ModelSequence& s) {
    size_t common = SIZE_MAX;
    for (const auto& rows : s.pending) common = std::min(common, rows.size());
    std::vector<int32_t> path;
    for (size_t i = 0; i < common; ++i) {
      if (below(3) != 0) path.push_back(static_cast<int32_t>(i));
    }
    ASSERT_TRUE(cache_->commit(id, path).ok());
    for (int l = 0; l < kLayers; ++l) {
      for (const int32_t i : path) s.committed[l].push_back(s.pending[l][static_cast<size_t>(i)]);
    }
    if (!path.empty() && path.size() < common) ++compacted_;
    drop(s);
  }
  static void drop(ModelSequence& s) {
    for (auto& rows : s.pending) rows.clear();
    s.keep(static_cast<size_t>(s.length()));
  }

  void fork(SequenceId id) {
    const auto length = static_cast<int>(below(static_cast<size_t>(model_[id].length()) + 1));
    const auto child = cache_->fork(id, length);
    ASSERT_TRUE(child.ok());
    ASSERT_EQ(model_.count(*child), 0u) << "the id is taken";
    ModelSequence to = model_[id];
    for (int l = 0; l < kLayers; ++l) {
      to.committed[l].resize(std::min(to.committed[l].size(), static_cast<size_t>(length)));
      to.pending[l].clear();
    }
    to.keep(static_cast<size_t>(length));
    model_.emplace(*child, std::move(to));
  }

  void step() {
    if (model_.empty() || (model_.size() < 6 && below(12) == 0)) {
      const SequenceId id = cache_->create_sequence();
      ASSERT_EQ(model_.count(id), 0u) << "the id is taken";
      model_[id];
      return;
    }
    auto it = model_.begin();
    std::advance(it, static_cast<std::ptrdiff_t>(below(model_.size())));
    const SequenceId id = it->first;
    ModelSequence& s = it->second;
    const size_t what = below(20);
    if (what < 9) {
      append(id, s);
    } else if (what < 13) {
      commit(id, s);
    } else if (what == 13) {
      cache_->drop_pending(id);
      drop(s);
    } else if (what < 17) {
      if (model_.size() < 6) fork(id);
    } else if (what == 17) {
      const size_t length = below(static_cast<size_t>(s.length()) + 1);
      ASSERT_TRUE(cache_->truncate(id, static_cast<int>(length)).ok());
      for (auto& rows : s.committed) rows.resize(std::min(rows.size(), length));
      drop(s);
      s.keep(length);
    } else if (what == 18) {
      size_t rows = 0;
      for (int l = 0; l < kLayers; ++l) rows = std::max(rows, s.committed[l].size() + s.pending[l].size());
      cache_->shrink(id);
      s.keep(rows);
    } else {
      ASSERT_TRUE(cache_->remove(id).ok());
      model_.erase(it);
    }
  }

  void check() {
    ASSERT_EQ(cache_->free_pages(), free_pages());
    for (const auto& [id, s] : model_) {
      ASSERT_TRUE(cache_->exists(id));
      ASSERT_EQ(cache_->length(id), s.length());
      ASSERT_EQ(cache_->page_table(id).size(), s.pages.size());
      for (int l = 0; l < kLayers; ++l) {
        ASSERT_EQ(cache_->length(id, l), static_cast<int>(s.committed[l].size()));
        ASSERT_EQ(cache_->pending(id, l), static_cast<int>(s.pending[l].size()));
        std::vector<Tag> rows = s.committed[l];
        rows.insert(rows.end(), s.pending[l].begin(), s.pending[l].end());
        for (size_t i = 0; i < rows.size(); ++i) {
          ASSERT_TRUE(holds(id, l, static_cast<int>(i), rows[i]))
              << "sequence " << id << ", layer " << l << ", row " << i;
        }
      }
    }
  }

  std::mt19937 random_;
  std::map<SequenceId, ModelSequence> model_;
  Tag next_tag_ = 1;
  int copied_ = 0, compacted_ = 0, refused_ = 0;
};

TEST_F(KvCacheModelTest, BehavesLikeVectorsOfRows) {
  for (const uint32_t seed : {1u, 2u, 3u, 4u}) {
    SCOPED_TRACE(seed);
    random_.seed(seed);
    open(kPages);
    for (int i = 0; i < 500; ++i) {
      SCOPED_TRACE(i);
      ASSERT_NO_FATAL_FAILURE(step());
      ASSERT_NO_FATAL_FAILURE(check());
    }
    while (!model_.empty()) {
      ASSERT_TRUE(cache_->remove(model_.begin()->first).ok());
      model_.erase(model_.begin());
    }
    EXPECT_EQ(cache_->free_pages(), kPages);
  }
  EXPECT_GT(copied_, 50);
  EXPECT_GT(compacted_, 50);
  EXPECT_GT(refused_, 20);
}

// Pages that are ready before they are taken, and rows that are there stay as they are.
TEST_F(KvCacheTest, PreparingPagesChangesNoRow) {
  open(200);
  const SequenceId id = cache_->create_sequence();
  ASSERT_TRUE(cache_->reserve(id, 0, 5 * kPageKeys).ok());
  for (int layer = 0; layer < kLayers; ++layer) {
    std::memset(cache_->pool(layer).raw(), 0x5A, 5 * cache_->layout(layer).page_bytes());
  }
  int pieces = 0;
  while (cache_->prepare_pages()) ASSERT_LT(++pieces, 10000);
  EXPECT_GE(pieces, 1);
  EXPECT_FALSE(cache_->prepare_pages());
  for (int layer = 0; layer < kLayers; ++layer) {
    const uint8_t* bytes = cache_->pool(layer).raw();
    const size_t size = 5 * cache_->layout(layer).page_bytes();
    EXPECT_TRUE(std::all_of(bytes, bytes + size, [](uint8_t b) { return b == 0x5A; })) << "layer " << layer;
  }
}

}  // namespace
}  // namespace decant
