// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/probe.h"

#include <immintrin.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>

#include "kernels/cpu/cpu_queue.h"
#include "kernels/table.h"

namespace decant {
namespace {

// Shortest time of one call of `pass`: at least 5 calls, more while they are short.
template <typename Pass>
double best_seconds(const Pass& pass) {
  using Clock = std::chrono::steady_clock;
  constexpr int kMinPasses = 5, kMaxPasses = 50;
  constexpr double kBudget = 0.1;
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

// The loops below keep 12 (8) sums in flight: latency 5 x 2 units is 10. The empty asm statements hide from the
// compiler that the operands stay what they are. Each returns the multiply-adds of one round.

__attribute__((target("avx512f,avx512vnni"))) int dots_avx512(int64_t rounds) {
  constexpr int kSums = 12;
  __m512i acc[kSums];
  __m512i codes = _mm512_set1_epi8(3);
  const __m512i q = _mm512_set1_epi8(5);
  for (__m512i& a : acc) a = _mm512_setzero_si512();
  for (int64_t i = 0; i < rounds; ++i) {
    for (__m512i& a : acc) {
      asm volatile("" : "+v"(codes));
      a = _mm512_dpbusd_epi32(a, codes, q);
    }
  }
  keep(acc);
  return kSums * 64;
}

// Byte products summed in 16 bits, the table's fastest product (4-bit codes); widening them once a block is left out.
__attribute__((target("avx2"))) int dots_avx2(int64_t rounds) {
  constexpr int kSums = 8;
  __m256i acc[kSums];
  __m256i codes = _mm256_set1_epi8(3);
  const __m256i q = _mm256_set1_epi8(5);
  for (__m256i& a : acc) a = _mm256_setzero_si256();
  for (int64_t i = 0; i < rounds; ++i) {
    for (__m256i& a : acc) {
      asm volatile("" : "+x"(codes));
      a = _mm256_add_epi16(a, _mm256_maddubs_epi16(codes, q));
    }
  }
  keep(acc);
  return kSums * 32;
}

int dots_plain(int64_t rounds) {
  uint8_t codes[64];
  int8_t q[4] = {1, -2, 3, -4};
  int32_t acc[16] = {};
  for (int i = 0; i < 64; ++i) codes[i] = static_cast<uint8_t>(i);
  for (int64_t i = 0; i < rounds; ++i) {
    // Sums wrap: only their cost matters.
    asm volatile("" : "+m"(codes), "+m"(q));
    for (int j = 0; j < 16; ++j) {
      const int dot = codes[4 * j] * q[0] + codes[4 * j + 1] * q[1] + codes[4 * j + 2] * q[2] + codes[4 * j + 3] * q[3];
      acc[j] = static_cast<int32_t>(static_cast<uint32_t>(acc[j]) + static_cast<uint32_t>(dot));
    }
  }
  keep(acc);
  return 64;
}

using Dots = int (*)(int64_t rounds);

Dots dots_of(std::string_view table) {
  if (table == "avx512") return dots_avx512;
  if (table == "avx2") return dots_avx2;
  return dots_plain;
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

double measure_int8_peak(Device& device) {
  if (device.kind() != "cpu") return 0.0;
  ThreadPool& pool = static_cast<CpuQueue&>(device.queue()).pool();
  const Dots dots = dots_of(device.table().name);
  int64_t rounds = 1 << 14;
  int macs = 0;
  const auto pass = [&] {
    pool.parallel_for(pool.threads(), 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) {
        const int n = dots(rounds);
        if (i == 0) macs = n;
      }
    });
  };
  // Rounds so that a pass takes about 10 ms.
  while (best_seconds(pass) < 5e-3 && rounds < (int64_t{1} << 32)) rounds *= 4;
  const double seconds = best_seconds(pass);
  return 2.0 * macs * static_cast<double>(rounds) * pool.threads() / seconds;
}

}  // namespace decant
