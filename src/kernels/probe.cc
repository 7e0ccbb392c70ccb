// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/probe.h"

#include <immintrin.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "kernels/cpu/cpu_queue.h"
#include "kernels/table.h"

namespace decant {
namespace {

// Shortest time of one call of `pass`: at least 5 calls, more while they are short.
template <typename Pass>
double best_seconds(const Pass& pass) {
  using Clock = std::chrono::steady_clock;
  constexpr int kMinPasses = 5, kMaxPasses = 50;
  constexpr double kBudget = 0.05;
  double best = 1e30;
  double total = 0;
  for (int i = 0; i < kMinPasses || (i < kMaxPasses && total < kBudget); ++i) {
    const auto start = Clock::now();
    pass();
    const double seconds = std::max(1e-9, std::chrono::duration<double>(Clock::now() - start).count());
    best = std::min(best, seconds);
    total += seconds;
  }
  return best;
}

// Makes the compiler compute `value`.
template <typename T>
inline void keep(const T& value) {
  asm volatile("" : : "m"(value) : "memory");
}

// Sums of `lines` lines of 64 bytes. Four accumulators: one add depends on a load only, so loads decide.
__attribute__((target("avx512f"))) void sum_avx512(const uint8_t* p, size_t lines) {
  __m512i acc[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512()};
  size_t i = 0;
  for (; i + 4 <= lines; i += 4) {
    for (size_t j = 0; j < 4; ++j) acc[j] = _mm512_add_epi64(acc[j], _mm512_load_si512(p + 64 * (i + j)));
  }
  for (; i < lines; ++i) acc[0] = _mm512_add_epi64(acc[0], _mm512_load_si512(p + 64 * i));
  keep(acc);
}

__attribute__((target("avx2"))) void sum_avx2(const uint8_t* p, size_t lines) {
  __m256i acc[4] = {_mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256()};
  const auto at = [](const uint8_t* q) { return reinterpret_cast<const __m256i*>(q); };
  size_t i = 0;
  for (; i + 2 <= lines; i += 2) {
    for (size_t j = 0; j < 4; ++j) acc[j] = _mm256_add_epi64(acc[j], *at(p + 64 * i + 32 * j));
  }
  for (; i < lines; ++i) {
    for (size_t j = 0; j < 2; ++j) acc[j] = _mm256_add_epi64(acc[j], *at(p + 64 * i + 32 * j));
  }
  keep(acc);
}

void sum_plain(const uint8_t* p, size_t lines) {
  uint64_t acc[8] = {};
  for (size_t i = 0; i < lines; ++i) {
    uint64_t words[8];
    std::memcpy(words, p + 64 * i, sizeof words);
    for (int j = 0; j < 8; ++j) acc[j] += words[j];
  }
  keep(acc);
}

// `rounds` multiply-adds in each of 12 chains: more than latency times units of any processor met so far.
constexpr int kChains = 12;

__attribute__((target("avx512f"))) void chains_avx512(int64_t rounds) {
  const __m512 factor = _mm512_set1_ps(0.999f), addend = _mm512_set1_ps(0.001f);
  __m512 acc[kChains];
  for (__m512& a : acc) a = addend;
  for (int64_t r = 0; r < rounds; ++r) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) acc[i] = _mm512_fmadd_ps(acc[i], factor, addend);
  }
  keep(acc);
}

__attribute__((target("avx2,fma"))) void chains_avx2(int64_t rounds) {
  const __m256 factor = _mm256_set1_ps(0.999f), addend = _mm256_set1_ps(0.001f);
  __m256 acc[kChains];
  for (__m256& a : acc) a = addend;
  for (int64_t r = 0; r < rounds; ++r) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) acc[i] = _mm256_fmadd_ps(acc[i], factor, addend);
  }
  keep(acc);
}

// SSE2 has no fused multiply-add: a product and a sum.
void chains_plain(int64_t rounds) {
  const __m128 factor = _mm_set1_ps(0.999f), addend = _mm_set1_ps(0.001f);
  __m128 acc[kChains];
  for (__m128& a : acc) a = addend;
  for (int64_t r = 0; r < rounds; ++r) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) acc[i] = _mm_add_ps(_mm_mul_ps(acc[i], factor), addend);
  }
  keep(acc);
}

struct Chains {
  void (*run)(int64_t rounds);
  int lanes;
};

Chains fastest_chains() {
  if (__builtin_cpu_supports("avx512f")) return {chains_avx512, 16};
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return {chains_avx2, 8};
  return {chains_plain, 4};
}

using Sum = void (*)(const uint8_t* p, size_t lines);

Sum fastest_sum() {
  if (__builtin_cpu_supports("avx512f")) return sum_avx512;
  if (__builtin_cpu_supports("avx2")) return sum_avx2;
  return sum_plain;
}

double cpu_bandwidth(CpuQueue& queue, uint8_t* data, size_t bytes) {
  ThreadPool& pool = queue.pool();
  const auto threads = static_cast<size_t>(pool.threads());
  const size_t lines = bytes / threads / 64;  // of one thread
  const auto part = [&](int64_t i) { return data + static_cast<size_t>(i) * lines * 64; };
  // Pages that nobody wrote are one and the same page of zeros. Each thread writes its own, for memory near it.
  pool.parallel_for(pool.threads(), 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) std::memset(part(i), 1, lines * 64);
  });
  // Short buffers are read many times in one pass, or starting the threads would be all there is to measure.
  const size_t repeats = std::max<size_t>(1, (size_t{16} << 20) / bytes);
  const Sum sum = fastest_sum();
  const double seconds = best_seconds([&] {
    pool.parallel_for(pool.threads(), 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) {
        for (size_t r = 0; r < repeats; ++r) sum(part(i), lines);
      }
    });
  });
  return static_cast<double>(lines * 64 * threads * repeats) / seconds;
}

double copy_bandwidth(Device& device, DeviceBuffer& buffer) {
  constexpr int kCopies = 8;
  const size_t half = buffer.size() / 2;
  const DevPtr<uint8_t> data = buffer.ptr<uint8_t>();
  bool ok = true;
  const double seconds = best_seconds([&] {
    for (int i = 0; i < kCopies; ++i) {
      device.copy((data + static_cast<ptrdiff_t>(half)).cast<void>(), DevPtr<const void>(data.cast<void>()), half);
    }
    ok = device.status().ok() && ok;  // waits for the copies
  });
  return ok ? static_cast<double>(2 * half * kCopies) / seconds : 0.0;
}

}  // namespace

double measure_read_bandwidth(Device& device, size_t bytes) {
  const size_t unit = static_cast<size_t>(device.threads()) * 64;
  bytes = std::max<size_t>(1, (bytes + unit - 1) / unit) * unit;
  auto buffer = device.alloc(bytes);
  if (!buffer.ok()) return 0.0;
  if (device.kind() != "cpu") return copy_bandwidth(device, *buffer);
  return cpu_bandwidth(static_cast<CpuQueue&>(device.queue()), buffer->ptr<uint8_t>().raw(), bytes);
}

double measure_product_peak(Device& device, DType type) {
  if (device.kind() != "cpu") return 0.0;
  constexpr int64_t kRows = 64, kCols = 512;
  // Of all outputs a thread has its part in its second-level cache.
  const int64_t outputs = int64_t{device.threads()} * 256;
  Weight w{.layout = layout_of(type), .type = type, .rows = outputs, .cols = kCols};
  std::vector<DeviceBuffer> buffers;
  bool ok = true;
  const auto allocate = [&](size_t bytes) {
    auto buffer = device.alloc(bytes);
    ok = ok && buffer.ok();
    buffers.push_back(buffer.ok() ? std::move(buffer).value() : DeviceBuffer());
    return buffers.back().ptr<uint8_t>();
  };
  constexpr size_t kElements = kRows * kCols;
  w.data = allocate(w.bytes());
  const DevPtr<float> x = allocate(kElements * 4).cast<float>();
  const DevPtr<float> y = allocate(static_cast<size_t>(kRows * outputs) * 4).cast<float>();
  const QuantizedRows xq{.q = allocate(kElements).cast<int8_t>(),
                         .d = allocate(kElements / 32 * 4).cast<float>(),
                         .sum16 = allocate(kElements / 16 * 4).cast<int32_t>(),
                         .ds16 = allocate(kElements / 16 * 4).cast<float>(),
                         .ds32 = allocate(kElements / 32 * 4).cast<float>()};
  if (!ok) return 0.0;
  // Nothing but zeros: the integer paths take no less time, and no float is denormal.
  const MatmulArgs args{.w = w, .x = x, .xq = xq, .rows = kRows, .y = y, .ldy = outputs};
  const double seconds = best_seconds([&] { device.table().matmul(device.queue(), {&args, 1}); });
  return 2.0 * static_cast<double>(kElements) * static_cast<double>(outputs) / seconds;
}

double measure_float_peak(Device& device) {
  if (device.kind() != "cpu") return 0.0;
  ThreadPool& pool = static_cast<CpuQueue&>(device.queue()).pool();
  constexpr int64_t kRounds = 200000;
  const Chains chains = fastest_chains();
  const double seconds = best_seconds([&] {
    pool.parallel_for(pool.threads(), 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) chains.run(kRounds);
    });
  });
  return 2.0 * kChains * chains.lanes * static_cast<double>(kRounds) * pool.threads() / seconds;
}

}  // namespace decant
