// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "base/spec.h"

#include <gtest/gtest.h>

namespace decant {
namespace {

using Parts = std::vector<std::string>;

TEST(SplitOutside, ListsAreSplitOutsideOfParenthesesOnly) {
  EXPECT_EQ(split_outside("a, b(x=1, y=2) ,c", ','), (Parts{"a", "b(x=1, y=2)", "c"}));
  EXPECT_EQ(split_outside("m(path=a@b)@rsd", '@'), (Parts{"m(path=a@b)", "rsd"}));
  EXPECT_EQ(split_outside("a(b(c,d),e),f", ','), (Parts{"a(b(c,d),e)", "f"}));
}

TEST(SplitOutside, EmptyPartsStay) {
  EXPECT_EQ(split_outside("", ','), Parts{""});
  EXPECT_EQ(split_outside(" , a,", ','), (Parts{"", "a", ""}));
}

TEST(SplitOutside, ParenthesesThatDoNotMatchEndNothing) {
  EXPECT_EQ(split_outside("a(b, c", ','), Parts{"a(b, c"});
  EXPECT_EQ(split_outside("a), b", ','), (Parts{"a)", "b"}));
}

}  // namespace
}  // namespace decant
