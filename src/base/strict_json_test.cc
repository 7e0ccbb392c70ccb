// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "base/strict_json.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "base/printable.h"

namespace decant {
namespace {

TEST(StrictJson, ReadsEveryKindOfValue) {
  const std::string text = R"({"a":[1,-2,3.5,"x\u00e9",true,null,{"b":[]}],"c":{"a":{}}})";
  const auto value = parse_json(text);
  ASSERT_TRUE(value.ok()) << value.status().message();
  EXPECT_EQ(*value, nlohmann::json::parse(text));
  EXPECT_EQ(*parse_json("7"), nlohmann::json(7));
}

TEST(StrictJson, SaysWhatIsWrong) {
  const auto problem = [](std::string_view text, size_t depth = kMaxJsonDepth) {
    const auto value = parse_json_object(text, depth);
    EXPECT_EQ(value.status().code(), Code::kCorrupt) << text.substr(0, 40);
    return value.status().message();
  };
  EXPECT_EQ(problem(""), "no JSON at byte 1");
  EXPECT_EQ(problem("{\"a\":1").substr(0, 15), "no JSON at byte");
  EXPECT_EQ(problem("{} {}").substr(0, 15), "no JSON at byte");
  EXPECT_EQ(problem("{\"a\":1e999}").substr(0, 15), "no JSON at byte");
  EXPECT_EQ(problem("[1]"), "no JSON object");
  EXPECT_EQ(problem(std::string_view("{}\0", 3)), "a zero byte");
  EXPECT_EQ(problem(R"({"a":1,"b":{"a":2},"a":3})"), "\"a\" appears twice");
  EXPECT_EQ(problem(std::string(100000, '[')), "nested too deeply");
  EXPECT_EQ(problem(R"({"a":[[]]})", 2), "nested too deeply");
  EXPECT_TRUE(parse_json_object(R"({"a":[]})", 2).ok());
}

TEST(Printable, ShowsNoControlCharactersAndEnds) {
  EXPECT_EQ(printable("a\n\x7f\xc3\xa9"), "a\\x0a\\x7f\\xc3\\xa9");
  EXPECT_EQ(printable(std::string(81, 'x')), std::string(80, 'x') + "...");
  EXPECT_EQ(printable("abcd", 2), "ab...");
}

}  // namespace
}  // namespace decant
