// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "base/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <numeric>
#include <thread>
#include <vector>

namespace decant {
namespace {

TEST(ThreadPool, CountIsClampedAndIncludesTheCaller) {
  EXPECT_EQ(ThreadPool(-3).threads(), 1);
  EXPECT_EQ(ThreadPool(0).threads(), 1);
  EXPECT_EQ(ThreadPool(3).threads(), 3);
  EXPECT_EQ(ThreadPool(1000).threads(), 256);
}

TEST(ThreadPool, EveryItemIsVisitedOnceInRangesOfAtMostTheGrain) {
  for (int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    for (int64_t items : {0, 1, 2, 7, 64, 1000}) {
      for (int64_t grain : {-1, 0, 1, 3, 64, 5000}) {
        std::vector<std::atomic<int>> visits(static_cast<size_t>(items));
        std::atomic<bool> fits{true};
        pool.parallel_for(items, grain, [&](int64_t begin, int64_t end, int thread) {
          if (begin < 0 || begin >= end || end > items || end - begin > std::max<int64_t>(grain, 1)) fits = false;
          if (thread < 0 || thread >= threads) fits = false;
          for (int64_t i = begin; i < end; ++i) ++visits[static_cast<size_t>(i)];
        });
        ASSERT_TRUE(fits) << threads << ' ' << items << ' ' << grain;
        for (const auto& count : visits) ASSERT_EQ(count, 1) << threads << ' ' << items << ' ' << grain;
      }
    }
  }
}

TEST(ThreadPool, ThreadNumbersAreUniqueAmongConcurrentCalls) {
  ThreadPool pool(4);
  std::vector<std::atomic<int>> inside(4);
  std::atomic<int> collisions{0};
  for (int repeat = 0; repeat < 20; ++repeat) {
    pool.parallel_for(200, 1, [&](int64_t, int64_t, int thread) {
      if (inside[static_cast<size_t>(thread)].fetch_add(1) != 0) ++collisions;
      for (int i = 0; i < 50; ++i) std::atomic_signal_fence(std::memory_order_seq_cst);
      inside[static_cast<size_t>(thread)].fetch_sub(1);
    });
  }
  EXPECT_EQ(collisions, 0);
}

TEST(ThreadPool, WorkersReallyRunAtTheSameTimeAsTheCaller) {
  ThreadPool pool(2);
  // Each of two items waits for the other: one thread alone would never finish, so give up after 20 s.
  std::atomic<int> arrived{0};
  std::atomic<bool> met{true};
  pool.parallel_for(2, 1, [&](int64_t, int64_t, int) {
    ++arrived;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (arrived < 2) {
      if (std::chrono::steady_clock::now() > deadline) {
        met = false;
        return;
      }
      std::this_thread::yield();
    }
  });
  EXPECT_TRUE(met);
}

TEST(ThreadPool, WritesOfARegionAreSeenByTheNext) {
  ThreadPool pool(3);
  std::vector<int64_t> values(300, 1);  // plain memory: the thread sanitizer sees a missing barrier
  for (int repeat = 0; repeat < 2000; ++repeat) {
    pool.parallel_for(300, 7, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) ++values[static_cast<size_t>(i)];
    });
  }
  EXPECT_EQ(std::accumulate(values.begin(), values.end(), int64_t{0}), 300 * 2001);
}

TEST(ThreadPool, WorkersWakeAfterSleeping) {
  ThreadPool pool(3);
  for (int repeat = 0; repeat < 5; ++repeat) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));  // far over the spinning time
    std::atomic<int64_t> sum{0};
    pool.parallel_for(100, 1, [&](int64_t begin, int64_t end, int) { sum += (begin + end - 1) / 2; });
    ASSERT_EQ(sum, 4950);
  }
}

TEST(ThreadPool, StartsAndStopsWithoutWork) {
  for (int repeat = 0; repeat < 50; ++repeat) ThreadPool pool(4);
  EXPECT_GE(available_cpus(), 1);
}

}  // namespace
}  // namespace decant
