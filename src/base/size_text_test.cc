// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "base/size_text.h"

#include <gtest/gtest.h>

namespace decant {
namespace {

TEST(SizeText, IsForPeople) {
  EXPECT_EQ(size_text(999), "999 bytes");
  EXPECT_EQ(size_text(98'400'000), "98.4 MB");
  EXPECT_EQ(size_text(5'000'000'000), "5.00 GB");
}

TEST(ParseSize, TakesWholeNumbersWithUnits) {
  EXPECT_EQ(parse_size("0"), 0);
  EXPECT_EQ(parse_size("123"), 123);
  EXPECT_EQ(parse_size("7K"), 7'000);
  EXPECT_EQ(parse_size("500M"), 500'000'000);
  EXPECT_EQ(parse_size("2G"), 2'000'000'000);
  EXPECT_EQ(parse_size("9223372T"), 9'223'372'000'000'000'000);
}

TEST(ParseSize, RefusesTheRest) {
  for (const char* text : {"", "G", "-1", "+1", " 1", "1 G", "1.5G", "1g", "1GB", "9223373T", "99999999999999999999"}) {
    EXPECT_EQ(parse_size(text), std::nullopt) << text;
  }
}

}  // namespace
}  // namespace decant
