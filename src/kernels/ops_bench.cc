// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Time of the ops that are no products, by kernel table, on one thread. attention: rows of one sequence that see `keys`
// keys of 64 dimensions, 9 query heads on 3 key heads, as a prompt's last chunk (512) or a decoding step (1) does.
// continuations: rows of as many sequences that all begin with the same keys, computed together or each for itself.
#include <benchmark/benchmark.h>

#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "kernels/device.h"
#include "kernels/table.h"

namespace decant {
namespace {

// A device and buffers of numbers between -1 and 1.
class Bench {
 public:
  explicit Bench(const std::string& table) : device_(std::move(make_cpu_device(1, table)).value()) {}
  Device& device() { return *device_; }
  template <typename T>
  DevPtr<T> zeros(size_t n) {
    buffers_.push_back(std::move(device_->alloc(n * sizeof(T))).value());
    return buffers_.back().ptr<T>();
  }
  DevPtr<float> numbers(size_t n) {
    std::vector<float> values(n);
    for (size_t i = 0; i < n; ++i) values[i] = static_cast<float>(i * 2654435761u % 2001) / 1000.0f - 1.0f;
    const DevPtr<float> p = zeros<float>(n);
    device_->copy_in(p, std::span<const float>(values));
    return p;
  }

 private:
  std::unique_ptr<Device> device_;
  std::vector<DeviceBuffer> buffers_;
};

enum class Rows { kOneSequence, kTogether, kApart };

void attention(benchmark::State& state, const std::string& table, int rows, int keys, Rows kind) {
  constexpr int kHeads = 9, kKvHeads = 3, kDim = 64;
  Bench bench(table);
  Device& d = bench.device();
  const KvLayout layout{.n_kv_heads = kKvHeads, .k_dim = kDim, .v_dim = kDim};
  const int pages = (keys + kPageKeys - 1) / kPageKeys;
  const DevPtr<uint8_t> pool = bench.zeros<uint8_t>(static_cast<size_t>(pages) * layout.page_bytes());
  std::vector<int32_t> table_of_pages(static_cast<size_t>(pages)), slots(static_cast<size_t>(keys));
  std::iota(table_of_pages.begin(), table_of_pages.end(), 0);
  std::iota(slots.begin(), slots.end(), 0);
  const DevPtr<int32_t> page_table = bench.zeros<int32_t>(table_of_pages.size()),
                        slot = bench.zeros<int32_t>(slots.size());
  d.copy_in(page_table, std::span<const int32_t>(table_of_pages));
  d.copy_in(slot, std::span<const int32_t>(slots));
  d.table().kv_write(d.queue(), {.layout = layout,
                                 .pool = pool,
                                 .slots = slot,
                                 .k = bench.numbers(static_cast<size_t>(keys) * kKvHeads * kDim),
                                 .v = bench.numbers(static_cast<size_t>(keys) * kKvHeads * kDim),
                                 .rows = keys});
  const bool chain = kind == Rows::kOneSequence;
  std::vector<AttnRow> attn(static_cast<size_t>(rows));
  std::vector<AttnGroup> groups;
  for (int i = 0; i < rows; ++i) {
    const int n = chain ? keys - rows + i + 1 : keys;
    const int shared = i == 0 || kind == Rows::kApart ? 0 : n / kPageKeys;
    attn[static_cast<size_t>(i)] = {
        .page_table = 0, .n_keys = n, .key_begin = 0, .ordinal = n - 1, .identity = n, .path = 0, .shared = shared};
    if (kind == Rows::kApart) groups.push_back({.row_begin = i, .row_end = i + 1, .max_keys = keys});
  }
  if (kind != Rows::kApart) groups.push_back({.row_begin = 0, .row_end = rows, .max_keys = keys});
  const DevPtr<AttnRow> attn_rows = bench.zeros<AttnRow>(attn.size());
  d.copy_in(attn_rows, std::span<const AttnRow>(attn));
  const AttentionArgs args{.layout = layout,
                           .pool = pool,
                           .q = bench.numbers(static_cast<size_t>(rows) * kHeads * kDim),
                           .out = bench.zeros<float>(static_cast<size_t>(rows) * kHeads * kDim),
                           .heads = kHeads,
                           .scale = 0.125f,
                           .rows = attn_rows,
                           .pages = page_table,
                           .paths = page_table,
                           .groups = groups};
  for (auto _ : state) d.table().attention(d.queue(), args);
  const double seen = static_cast<double>(rows) * (keys - (chain ? (rows - 1) / 2.0 : 0));
  state.counters["GFLOP/s"] = benchmark::Counter(
      static_cast<double>(state.iterations()) * seen * kHeads * kDim * 4 * 1e-9, benchmark::Counter::kIsRate);
}

void rms_norm(benchmark::State& state, const std::string& table) {
  Bench bench(table);
  const auto x = bench.numbers(64 * 2048), w = bench.numbers(2048), y = bench.zeros<float>(64 * 2048);
  Device& d = bench.device();
  for (auto _ : state) d.table().rms_norm(d.queue(), x, w, 1e-5f, 64, 2048, y);
}

void quantize(benchmark::State& state, const std::string& table) {
  Bench bench(table);
  constexpr size_t kN = 64 * 2048;
  const auto x = bench.numbers(kN);
  const QuantizedRows out{.q = bench.zeros<int8_t>(kN),
                          .d = bench.zeros<float>(kN / 32),
                          .sum16 = bench.zeros<int32_t>(kN / 16),
                          .ds16 = bench.zeros<float>(kN / 16),
                          .ds32 = bench.zeros<float>(kN / 32)};
  Device& d = bench.device();
  for (auto _ : state) d.table().quantize(d.queue(), {.x = x, .rows = 64, .cols = 2048, .out = out});
}

void glu(benchmark::State& state, const std::string& table) {
  Bench bench(table);
  constexpr size_t kN = 64 * 2048;
  const auto gate = bench.numbers(kN), up = bench.numbers(kN), y = bench.zeros<float>(kN);
  Device& d = bench.device();
  for (auto _ : state) d.table().glu(d.queue(), Activation::kSilu, gate, up, kN, y);
}

const int registered_ops = [] {
  for (const KernelTable* kernels : cpu_tables()) {
    const std::string table(kernels->name);
    const auto add = [&](const std::string& name, auto body) {
      benchmark::RegisterBenchmark((table + "/" + name).c_str(), body)->UseRealTime();
    };
    if (table == "scalar") continue;  // the specification; nobody waits for it
    for (const int rows : {1, 512}) {
      for (const int keys : {512, 4096}) {
        add("attention/" + std::to_string(rows) + "/" + std::to_string(keys),
            [=](benchmark::State& state) { attention(state, table, rows, keys, Rows::kOneSequence); });
      }
    }
    add("continuations/32/8192/together",
        [=](benchmark::State& state) { attention(state, table, 32, 8192, Rows::kTogether); });
    add("continuations/32/8192/apart",
        [=](benchmark::State& state) { attention(state, table, 32, 8192, Rows::kApart); });
    add("rms_norm", [=](benchmark::State& state) { rms_norm(state, table); });
    add("quantize", [=](benchmark::State& state) { quantize(state, table); });
    add("glu", [=](benchmark::State& state) { glu(state, table); });
  }
  return 0;
}();

}  // namespace
}  // namespace decant
