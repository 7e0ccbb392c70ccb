// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Time of products by kernel table, weight format, rows and size. "small" weights stay in a core's cache and show what
// the instructions cost; "large" ones are read from memory. Arguments: rows, threads.
#include <benchmark/benchmark.h>

#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "base/rng.h"
#include "kernels/device.h"
#include "kernels/table.h"
#include "kernels/weight.h"

namespace decant {
namespace {

constexpr int64_t kCols = 768;
constexpr int64_t kSmallRows = 256;     // of the weight: about 120 kB at 4 bits
constexpr int64_t kLargeRows = 196608;  // about 94 MB

// Codes below 16 and numbers around 2^-5 in any layout: nothing overflows or becomes denormal.
std::vector<uint8_t> packed_weight(const Weight& w) {
  std::vector<uint8_t> bytes(w.bytes());
  const RngKey key = {.seed = 3};
  for (size_t i = 0; i + 4 <= bytes.size(); i += 4) {
    const uint32_t word = random_bits(key, i / 4) & 0x0f0f0f0fu;
    std::memcpy(&bytes[i], &word, 4);
  }
  const WeightLayout& l = w.layout;
  const float number = 0.03125f;
  const uint16_t half = l.quantized || l.float_type == DType::kF16 ? 0x2800 : 0x3d00;
  const auto put = [&](size_t from, size_t to, size_t size) {
    for (size_t i = from; i < to; i += size) {
      if (size == 4) std::memcpy(&bytes[i], &number, 4);
      if (size == 2) std::memcpy(&bytes[i], &half, 2);
    }
  };
  if (!l.quantized) {
    put(0, bytes.size(), l.float_type == DType::kF32 ? 4 : 2);
    return bytes;
  }
  for (int64_t g = 0; g < w.groups(); ++g) {
    const size_t group = static_cast<size_t>(g) * l.group_bytes(w.cols);
    for (int64_t b = 0; b < w.cols / kBlockCols; ++b) {
      const size_t block = group + l.block_offset(b);
      put(block + l.code_bytes(), block + l.block_bytes(), l.number_bytes());  // the random bytes of 1 stay
      put(group + l.header_offset(b), group + l.header_offset(b) + l.header_bytes(), 2);
    }
  }
  return bytes;
}

void product(benchmark::State& bench, const std::string& table, DType type, int64_t outputs) {
  const int64_t rows = bench.range(0);
  auto made = make_cpu_device(static_cast<int>(bench.range(1)), table);
  if (!made.ok()) return bench.SkipWithError(made.status().message().c_str());
  Device& device = **made;
  Weight w{.layout = layout_of(type), .type = type, .rows = outputs, .cols = kCols};
  auto data = device.alloc(w.bytes());
  auto x = device.alloc(static_cast<size_t>(rows * kCols) * 4),
       y = device.alloc(static_cast<size_t>(rows * outputs) * 4);
  auto q = device.alloc(static_cast<size_t>(rows * kCols)), d = device.alloc(static_cast<size_t>(rows * kCols / 8));
  auto sum16 = device.alloc(static_cast<size_t>(rows * kCols / 4)),
       ds16 = device.alloc(static_cast<size_t>(rows * kCols / 4));
  auto ds32 = device.alloc(static_cast<size_t>(rows * kCols / 8));
  for (const auto* buffer : {&data, &x, &y, &q, &d, &sum16, &ds16, &ds32}) {
    if (!buffer->ok()) return bench.SkipWithError(buffer->status().message().c_str());
  }
  device.copy_in(data->ptr<uint8_t>(), std::span<const uint8_t>(packed_weight(w)));
  w.data = data->ptr<uint8_t>();
  std::vector<float> activations(static_cast<size_t>(rows * kCols));
  for (size_t i = 0; i < activations.size(); ++i)
    activations[i] = static_cast<float>(static_cast<int>(i * 37 % 255) - 127);
  device.copy_in(x->ptr<float>(), std::span<const float>(activations));
  const MatmulArgs args{.w = w,
                        .x = x->ptr<float>(),
                        .xq = {.q = q->ptr<int8_t>(),
                               .d = d->ptr<float>(),
                               .sum16 = sum16->ptr<int32_t>(),
                               .ds16 = ds16->ptr<float>(),
                               .ds32 = ds32->ptr<float>()},
                        .rows = rows,
                        .y = y->ptr<float>(),
                        .ldy = outputs};
  device.table().quantize(device.queue(), {.x = args.x, .rows = rows, .cols = kCols, .out = args.xq});
  for (auto _ : bench) device.table().matmul(device.queue(), {&args, 1});
  const auto n = static_cast<double>(bench.iterations());
  bench.counters["weights_GB/s"] =
      benchmark::Counter(n * static_cast<double>(w.bytes()) * 1e-9, benchmark::Counter::kIsRate);
  bench.counters["GOP/s"] = benchmark::Counter(
      n * 2e-9 * static_cast<double>(rows) * static_cast<double>(outputs * kCols), benchmark::Counter::kIsRate);
}

const int registered = [] {
  for (const KernelTable* table : cpu_tables()) {
    if (table->name == "scalar") continue;  // the specification; nobody waits for it
    for (const DTypeInfo& info : all_dtypes()) {
      for (const bool large : {false, true}) {
        const std::string name =
            std::string(table->name) + "/" + std::string(info.name) + (large ? "/large" : "/small");
        auto* benchmark = benchmark::RegisterBenchmark(name.c_str(), [table, info, large](benchmark::State& state) {
          product(state, std::string(table->name), info.type, large ? kLargeRows : kSmallRows);
        });
        benchmark->UseRealTime();
        for (const int64_t rows : {1, 4, 8, 32, 128}) {
          if (large && rows > 8) continue;
          benchmark->Args({rows, 1});
          if (large || rows == 128) benchmark->Args({rows, 2});
        }
      }
    }
  }
  return 0;
}();

}  // namespace
}  // namespace decant
