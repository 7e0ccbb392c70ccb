// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Attention against the formula of table.h in plain C++, and its bits: alone or beside rows that share pages with it,
// on any number of threads, with every table that runs here.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>

#include "kernels/test_util.h"

namespace decant {
namespace {

using namespace kernel_testing;

// Sequences over one pool. Each has a page table; rows are queries of a sequence.
struct Forest {
  KvLayout layout;
  int heads = 0;
  float scale = 0.3f, soft_cap = 0.0f;
  int window = 0, sinks = 0;
  std::vector<uint8_t> pool;
  std::vector<std::vector<int32_t>> tables;  // per sequence, in the order of their paths
  struct Row {
    int sequence;
    int n_keys, key_begin, identity;
    std::vector<int32_t> path;  // slots of ordinals from identity on
    std::vector<float> q;
  };
  std::vector<Row> rows;  // those of a sequence together, sequences in order
};

// Keys and values of a page as floats: [kv_heads][64][dim].
struct WidePage {
  std::vector<float> k, v;
};
WidePage widen(const Forest& f, int32_t page) {
  const KvLayout& l = f.layout;
  WidePage wide;
  for (int head = 0; head < l.n_kv_heads; ++head) {
    const uint8_t* tile = f.pool.data() + static_cast<size_t>(page) * l.page_bytes() +
                          static_cast<size_t>(head) * (l.k_tile_bytes() + l.v_tile_bytes());
    std::vector<float> k(static_cast<size_t>(kPageKeys * l.k_dim)), v(static_cast<size_t>(kPageKeys * l.v_dim));
    if (is_float(l.k_type)) {
      std::vector<float> transposed(k.size());
      dequantize_row(l.k_type, tile, transposed.data(), static_cast<int64_t>(k.size()));
      for (size_t d = 0; d < static_cast<size_t>(l.k_dim); ++d) {
        for (size_t j = 0; j < kPageKeys; ++j) k[j * static_cast<size_t>(l.k_dim) + d] = transposed[d * kPageKeys + j];
      }
    } else {
      dequantize_row(l.k_type, tile, k.data(), static_cast<int64_t>(k.size()));
    }
    dequantize_row(l.v_type, tile + l.k_tile_bytes(), v.data(), static_cast<int64_t>(v.size()));
    wide.k.insert(wide.k.end(), k.begin(), k.end());
    wide.v.insert(wide.v.end(), v.begin(), v.end());
  }
  return wide;
}

// Row by row and head by head, as table.h says.
std::vector<float> reference(const Forest& f) {
  const KvLayout& l = f.layout;
  const auto k_dim = static_cast<size_t>(l.k_dim), v_dim = static_cast<size_t>(l.v_dim);
  std::map<int32_t, WidePage> pages;
  std::vector<float> out;
  for (const Forest::Row& row : f.rows) {
    const int ordinal = row.n_keys - 1;
    for (int head = 0; head < f.heads; ++head) {
      const auto kv_head = static_cast<size_t>(head / (f.heads / l.n_kv_heads));
      const float* q = &row.q[static_cast<size_t>(head) * k_dim];
      std::vector<float> o(v_dim, 0.0f);
      float m = 0, sum = 0;
      bool any = false;
      for (int begin = 0; begin < row.n_keys; begin += kPageKeys) {
        float p[kPageKeys];
        const float* values[kPageKeys] = {};
        float m_b = -std::numeric_limits<float>::infinity();
        for (int j = begin; j < std::min(begin + kPageKeys, row.n_keys); ++j) {
          if (j < row.key_begin) continue;
          if (f.window > 0 && ordinal - j >= f.window && j - row.key_begin >= f.sinks) continue;
          const int slot = j < row.identity ? j : row.path[static_cast<size_t>(j - row.identity)];
          const int32_t page = f.tables[static_cast<size_t>(row.sequence)][static_cast<size_t>(slot / kPageKeys)];
          if (!pages.contains(page)) pages[page] = widen(f, page);
          const size_t at = kv_head * kPageKeys + static_cast<size_t>(slot % kPageKeys);
          const float* k = &pages[page].k[at * k_dim];
          float dot = 0;
          for (size_t d = 0; d < k_dim; ++d) dot = std::fma(q[d], k[d], dot);
          float score = f.scale * dot;
          if (f.soft_cap > 0) score = f.soft_cap * (1.0f - 2.0f / (1.0f + spec_exp(2.0f * (score / f.soft_cap))));
          p[j - begin] = score;
          values[j - begin] = &pages[page].v[at * v_dim];
          m_b = std::max(m_b, score);
        }
        if (std::all_of(values, values + kPageKeys, [](const float* v) { return v == nullptr; })) continue;
        float lane[16] = {};
        std::vector<float> o_b(v_dim, 0.0f);
        for (size_t j = 0; j < kPageKeys; ++j) {
          p[j] = values[j] == nullptr ? 0.0f : spec_exp(p[j] - m_b);
          lane[j % 16] = lane[j % 16] + p[j];
          for (size_t e = 0; e < v_dim && values[j] != nullptr; ++e) o_b[e] = std::fma(p[j], values[j][e], o_b[e]);
        }
        for (int half = 8; half > 0; half /= 2) {
          for (int i = 0; i < half; ++i) lane[i] = lane[i] + lane[i + half];
        }
        if (!any) {
          m = m_b, sum = lane[0], o = o_b, any = true;
          continue;
        }
        const float m_new = std::max(m, m_b), a = spec_exp(m - m_new), c = spec_exp(m_b - m_new);
        sum = std::fma(sum, a, lane[0] * c);
        for (size_t e = 0; e < v_dim; ++e) o[e] = std::fma(o[e], a, o_b[e] * c);
        m = m_new;
      }
      for (float x : o) out.push_back(any ? x / sum : 0.0f);
    }
  }
  return out;
}

enum class Sharing { kNone, kAll, kSome };

// The op over some of the rows (increasing indices).
std::vector<float> run(Device& device, const Forest& f, const std::vector<size_t>& which, Sharing sharing) {
  std::vector<int32_t> pages, paths;
  std::vector<AttnRow> rows;
  std::vector<AttnGroup> groups;
  std::vector<float> q;
  std::map<int, int32_t> table_begin;
  Random random(which.size());
  for (size_t i = 0; i < which.size(); ++i) {
    const Forest::Row& row = f.rows[which[i]];
    const std::vector<int32_t>& table = f.tables[static_cast<size_t>(row.sequence)];
    if (!table_begin.contains(row.sequence)) {
      table_begin[row.sequence] = static_cast<int32_t>(pages.size());
      pages.insert(pages.end(), table.begin(), table.end());
    }
    const auto blocks = [](const Forest::Row& r) { return (r.n_keys + kPageKeys - 1) / kPageKeys; };
    const auto in_place = [&](const Forest::Row& r) {
      return r.identity < r.n_keys ? r.identity / kPageKeys : blocks(r);
    };
    int shared = 0;
    if (i > 0) {
      const Forest::Row& before = f.rows[which[i - 1]];
      const std::vector<int32_t>& other = f.tables[static_cast<size_t>(before.sequence)];
      const auto common =
          static_cast<int>(std::mismatch(table.begin(), table.end(), other.begin(), other.end()).first - table.begin());
      const bool same = before.sequence == row.sequence;
      shared = same ? std::min(blocks(before), blocks(row)) : std::min({common, in_place(before), in_place(row)});
      if (!same && sharing == Sharing::kNone) shared = 0;
      if (!same && sharing == Sharing::kSome) shared = random.below(shared + 1);
    }
    rows.push_back({.page_table = table_begin[row.sequence],
                    .n_keys = row.n_keys,
                    .key_begin = row.key_begin,
                    .ordinal = row.n_keys - 1,
                    .identity = row.identity,
                    .path = static_cast<int32_t>(paths.size()),
                    .shared = shared});
    paths.insert(paths.end(), row.path.begin(), row.path.end());
    q.insert(q.end(), row.q.begin(), row.q.end());
    const auto at = static_cast<int32_t>(i);
    if (i == 0 || (shared == 0 && rows[i - 1].page_table != rows[i].page_table)) groups.push_back({at, at, 0});
    groups.back().row_end = at + 1;
    groups.back().max_keys = std::max(groups.back().max_keys, row.n_keys);
  }
  if (paths.empty()) paths.push_back(0);
  const DeviceBuffer pool = upload(device, f.pool), queries = upload(device, q), attn = upload(device, rows),
                     table = upload(device, pages), path = upload(device, paths);
  const size_t n = which.size() * static_cast<size_t>(f.heads * f.layout.v_dim);
  const DeviceBuffer out = upload(device, std::vector<float>(n, -1.0f));
  device.table().attention(device.queue(), {.layout = f.layout,
                                            .pool = pool.ptr<uint8_t>(),
                                            .q = queries.ptr<float>(),
                                            .out = out.ptr<float>(),
                                            .heads = f.heads,
                                            .scale = f.scale,
                                            .soft_cap = f.soft_cap,
                                            .window = f.window,
                                            .sinks = f.sinks,
                                            .rows = attn.ptr<AttnRow>(),
                                            .pages = table.ptr<int32_t>(),
                                            .paths = path.ptr<int32_t>(),
                                            .groups = groups});
  return download<float>(device, out, n);
}

// A random forest of prefixes: inner nodes are runs of whole pages, leaves are sequences with pages of their own and a
// few rows: the last ones of a chain (a chunk), or a token tree's.
class Grower {
 public:
  Grower(Forest& f, uint64_t seed) : f_(f), random_(seed) {}

  void grow(int depth) {
    for (int trees = 1 + random_.below(2); trees > 0; --trees) node({}, depth);
    const auto pages = static_cast<size_t>(next_page_);
    const KvLayout& l = f_.layout;
    const auto per_page = static_cast<size_t>(l.n_kv_heads);
    for (size_t i = 0; i < pages * per_page; ++i) {
      const auto k = random_blocks(l.k_type, static_cast<size_t>(kPageKeys * l.k_dim), random_);
      const auto v = random_blocks(l.v_type, static_cast<size_t>(kPageKeys * l.v_dim), random_);
      f_.pool.insert(f_.pool.end(), k.begin(), k.end());
      f_.pool.insert(f_.pool.end(), v.begin(), v.end());
    }
  }

 private:
  void node(std::vector<int32_t> path, int depth) {
    for (int i = random_.below(3); i >= 0; --i) path.push_back(next_page_++);
    for (int child = 1 + random_.below(depth > 2 ? 3 : 5); child > 0; --child) {
      if (depth > 1 && random_.below(3) > 0) {
        node(path, depth - 1);
      } else {
        leaf(path);
      }
    }
  }
  void leaf(std::vector<int32_t> path) {
    const auto sequence = static_cast<int>(f_.tables.size());
    const int prefix = static_cast<int>(path.size()) * kPageKeys;
    const int base = prefix + random_.below(100);  // committed rows
    const int rows = 1 + random_.below(random_.below(4) == 0 ? 20 : 3);
    while (static_cast<int>(path.size()) * kPageKeys < base + rows) path.push_back(next_page_++);
    f_.tables.push_back(path);
    const bool tree = random_.below(3) == 0;
    const int key_begin = random_.below(4) == 0 ? random_.below(base + 1) : 0;
    std::vector<int> parents;
    for (int i = 0; i < rows; ++i) {
      Forest::Row row{.sequence = sequence,
                      .n_keys = base + i + 1,
                      .key_begin = key_begin,
                      .identity = base + i + 1,
                      .path = {},
                      .q = random_.normals(static_cast<size_t>(f_.heads * f_.layout.k_dim))};
      if (tree) {
        parents.push_back(random_.below(i + 1) - 1);
        for (int node = i; node >= 0; node = parents[static_cast<size_t>(node)]) row.path.push_back(base + node);
        std::reverse(row.path.begin(), row.path.end());
        row.identity = base;
        row.n_keys = base + static_cast<int>(row.path.size());
      }
      f_.rows.push_back(std::move(row));
    }
  }

  Forest& f_;
  Random random_;
  int32_t next_page_ = 0;
};

Forest random_forest(uint64_t seed) {
  Random random(seed * 977 + 5);
  constexpr DType kTypes[] = {DType::kF16, DType::kF32, DType::kBF16, DType::kQ8_0, DType::kQ4_1, DType::kIQ4_NL};
  const auto type = [&] { return kTypes[random.below(2) == 0 ? 0 : random.below(6)]; };
  Forest f;
  const int kv_heads = 1 + random.below(3);
  const int dims[] = {32, 64, 96};
  f.layout = {.k_type = type(),
              .v_type = type(),
              .n_kv_heads = kv_heads,
              .k_dim = dims[random.below(3)],
              .v_dim = dims[random.below(3)]};
  f.heads = kv_heads * (1 + random.below(4));
  if (random.below(3) == 0) f.soft_cap = 5.0f;
  if (random.below(2) == 0) {
    f.window = 1 + random.below(200);
    f.sinks = random.below(2) * random.below(70);
  }
  Grower(f, seed).grow(1 + static_cast<int>(seed % 4));
  return f;
}

class AttentionOfTable : public ::testing::TestWithParam<std::string> {};

TEST_P(AttentionOfTable, GivesTheFormulasBitsHoweverPagesAreShared) {
  size_t shared_rows = 0;
  for (uint64_t seed = 0; seed < 24; ++seed) {
    const Forest f = random_forest(seed);
    const std::vector<float> want = reference(f);
    std::vector<size_t> all(f.rows.size());
    std::iota(all.begin(), all.end(), size_t{0});
    for (int threads : {1, 5}) {
      auto device = device_of(GetParam(), threads);
      if (!device->supports_cache_type(f.layout.k_type) || !device->supports_cache_type(f.layout.v_type)) continue;
      for (Sharing sharing : {Sharing::kNone, Sharing::kAll, Sharing::kSome}) {
        ASSERT_TRUE(same_bits(run(*device, f, all, sharing), want))
            << "forest " << seed << ", " << threads << " threads, sharing " << static_cast<int>(sharing);
      }
      if (GetParam() == "cuda") break;
    }
    for (size_t i = 1; i < f.rows.size(); ++i) {
      const auto& a = f.tables[static_cast<size_t>(f.rows[i - 1].sequence)];
      const auto& b = f.tables[static_cast<size_t>(f.rows[i].sequence)];
      shared_rows += f.rows[i - 1].sequence != f.rows[i].sequence && a[0] == b[0] ? 1 : 0;
    }
  }
  EXPECT_GT(shared_rows, 50U) << "the forests share too little to test anything";
}

TEST_P(AttentionOfTable, ComingAndGoingSiblingsChangeNoBit) {
  for (uint64_t seed = 100; seed < 108; ++seed) {
    const Forest f = random_forest(seed);
    auto device = device_of(GetParam(), 2);
    if (!device->supports_cache_type(f.layout.k_type) || !device->supports_cache_type(f.layout.v_type)) continue;
    const std::vector<float> want = reference(f);
    const auto width = static_cast<size_t>(f.heads * f.layout.v_dim);
    Random random(seed);
    for (int round = 0; round < 5; ++round) {
      std::vector<size_t> some;
      std::vector<float> wanted;
      for (size_t i = 0; i < f.rows.size(); ++i) {
        if (random.below(3) == 0) continue;
        some.push_back(i);
        wanted.insert(wanted.end(), want.begin() + static_cast<ptrdiff_t>(i * width),
                      want.begin() + static_cast<ptrdiff_t>((i + 1) * width));
      }
      if (some.empty()) continue;
      ASSERT_TRUE(same_bits(run(*device, f, some, Sharing::kAll), wanted)) << "forest " << seed << ", round " << round;
    }
  }
}

// Long enough that contexts are split among threads, or that many rows make many tiles.
TEST_P(AttentionOfTable, ALongPrefixOfManyRows) {
  Forest f;
  f.layout = {.k_type = DType::kF16, .v_type = DType::kF16, .n_kv_heads = 2, .k_dim = 64, .v_dim = 64};
  f.heads = 6;
  Random random(3);
  std::vector<int32_t> prefix(20);
  std::iota(prefix.begin(), prefix.end(), 0);
  for (int i = 0; i < 45; ++i) {
    std::vector<int32_t> table = prefix;
    table.push_back(20 + i);
    f.tables.push_back(table);
    const int n = 20 * kPageKeys + 1 + i;
    f.rows.push_back(
        {.sequence = i, .n_keys = n, .key_begin = 0, .identity = n, .path = {}, .q = random.normals(6 * 64)});
  }
  for (int i = 0; i < 65 * 2; ++i) {
    for (int part = 0; part < 2; ++part) {
      const auto bytes = random_blocks(DType::kF16, kPageKeys * 64, random);
      f.pool.insert(f.pool.end(), bytes.begin(), bytes.end());
    }
  }
  const std::vector<float> want = reference(f);
  for (const size_t n : {size_t{1}, size_t{2}, f.rows.size()}) {
    std::vector<size_t> some(n);
    std::iota(some.begin(), some.end(), size_t{0});
    const std::vector<float> wanted(want.begin(), want.begin() + static_cast<ptrdiff_t>(n * 6 * 64));
    for (int threads : {1, 2, 7, 40}) {
      auto device = device_of(GetParam(), threads);
      for (Sharing sharing : {Sharing::kNone, Sharing::kAll}) {
        ASSERT_TRUE(same_bits(run(*device, f, some, sharing), wanted)) << n << " rows, " << threads << " threads";
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, AttentionOfTable, ::testing::ValuesIn(every_table()),
                         [](const auto& param) { return param.param; });

}  // namespace
}  // namespace decant
