// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "base/hash.h"

#include <gtest/gtest.h>

namespace decant {
namespace {

// Vectors of the authors' page, and of SplitMix64 from the seed 0: the first numbers of Java's SplittableRandom.
TEST(Hash, KnownValues) {
  EXPECT_EQ(fnv1a(""), 0xCBF29CE484222325u);
  EXPECT_EQ(fnv1a("a"), 0xAF63DC4C8601EC8Cu);
  EXPECT_EQ(fnv1a("foobar"), 0x85944171F73967E8u);
  EXPECT_EQ(fnv1a("bar", fnv1a("foo")), fnv1a("foobar"));
  EXPECT_NE(fnv1a("\xff"), fnv1a("\x7f"));
  EXPECT_EQ(mix_bits(0x9E3779B97F4A7C15u), 0xE220A8397B1DCDAFu);
  EXPECT_EQ(mix_bits(2 * 0x9E3779B97F4A7C15u), 0x6E789E6AA1B965F4u);
}

}  // namespace
}  // namespace decant
