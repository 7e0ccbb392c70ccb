// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "cli/comparison.h"

#include <gtest/gtest.h>

#include <cmath>

#include "cli/chart.h"

namespace decant::cli {
namespace {

TEST(MethodList, HasMethodsWithTheirVerifiersAndNoPlainOne) {
  const auto list =
      parse_method_list("plain, lookup(max=3, min=2) ,sam+recycling, model(path=a@b.gguf, tree=rsd)@rsd(k=2)");
  ASSERT_TRUE(list.ok()) << list.status().message();
  ASSERT_EQ(list->size(), 3U);
  EXPECT_EQ(list->at(0).name, "lookup(max=3, min=2)");
  EXPECT_EQ(list->at(0).draft, list->at(0).name);
  EXPECT_EQ(list->at(0).verifier, "coupled");
  EXPECT_EQ(list->at(1).draft, "sam+recycling");
  EXPECT_EQ(list->at(2).name, "model(path=a@b.gguf, tree=rsd)@rsd(k=2)");
  EXPECT_EQ(list->at(2).draft, "model(path=a@b.gguf, tree=rsd)");
  EXPECT_EQ(list->at(2).verifier, "rsd(k=2)");
  const auto plain = parse_method_list("none");
  ASSERT_TRUE(plain.ok());
  EXPECT_TRUE(plain->empty());
}

TEST(MethodList, WhatIsNoListIsRefused) {
  for (const char* bad : {"", " ", "a,,b", "a,", "@rsd", "a@", "a@b@c", "a, a", "plain, none", "plain@coupled"}) {
    const auto list = parse_method_list(bad);
    ASSERT_FALSE(list.ok()) << bad;
    EXPECT_EQ(list.status().code(), Code::kInvalidArgument) << bad;
  }
}

TEST(Tables, ColumnsAreAsWideAsTheirCells) {
  EXPECT_EQ(text_of({.title = "T", .head = {"name", "x"}, .rows = {{"a", "1.00"}, {"longer", "-"}}, .note = "n"}),
            "T\n"
            "name       x\n"
            "a       1.00\n"
            "longer     -\n"
            "n\n");
}

TEST(Charts, AreWellFormedWhateverTheNames) {
  const double none = std::nan("");
  const BarChart chart{
      .title = "<&\">",
      .subtitle = "",
      .axis = "",
      .bars = {{.label = std::string("a\x01\xff<b>", 6), .value = 2, .interval = {1.5, 2.5}, .note = "n"},
               {.label = std::string(200, 'x'), .value = none, .interval = {none, none}, .note = ""}}};
  for (const std::string& drawing :
       {svg_of(chart), html_of({.title = "t", .chart = chart, .tables = {}, .settings = {}})}) {
    EXPECT_NE(drawing.find("&lt;&amp;&quot;&gt;"), std::string::npos);
    EXPECT_NE(drawing.find("a\xEF\xBF\xBD\xEF\xBF\xBD&lt;b&gt;"), std::string::npos);
    EXPECT_EQ(drawing.find("nan"), std::string::npos);
    EXPECT_NE(drawing.find("no figure"), std::string::npos);
    EXPECT_EQ(drawing.find("http", drawing.find("www.w3.org") + 1), std::string::npos);  // nothing from elsewhere
  }
}

// The length of a bar is in proportion to its value.
TEST(Charts, BarsShowTheirValues) {
  const auto width_of_first = [](double value) {
    const std::string svg =
        svg_of({.title = "",
                .subtitle = "",
                .axis = "",
                .bars = {{.label = "a", .value = value, .note = ""}, {.label = "b", .value = 4, .note = ""}}});
    const size_t bar = svg.find("rx=\"2\"");
    const size_t width = svg.rfind("width=\"", bar) + 7;
    return std::stod(svg.substr(width));
  };
  EXPECT_GT(width_of_first(1), 50);
  EXPECT_NEAR(width_of_first(3), 3 * width_of_first(1), 0.5);
}

}  // namespace
}  // namespace decant::cli
