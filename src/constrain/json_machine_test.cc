// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "constrain/json_machine.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace decant {
namespace {

enum class Verdict { kAccepted, kUnfinished, kRefused, kNoSchema };

std::ostream& operator<<(std::ostream& out, Verdict v) {
  return out << (v == Verdict::kAccepted     ? "accepted"
                 : v == Verdict::kUnfinished ? "unfinished"
                 : v == Verdict::kRefused    ? "refused"
                                             : "no schema");
}

Verdict check(std::string_view schema, std::string_view text, std::string* why = nullptr) {
  const auto parsed = Schema::parse(schema, "schema", {});
  if (!parsed.ok()) {
    if (why != nullptr) *why = parsed.status().message();
    return Verdict::kNoSchema;
  }
  JsonMachine machine(*parsed);
  std::optional<JsonState> state = machine.start();
  for (size_t i = 0; state && i < text.size(); ++i) state = machine.step(*state, static_cast<uint8_t>(text[i]));
  if (!machine.language().status().ok()) {
    if (why != nullptr) *why = machine.language().status().message();
    return Verdict::kNoSchema;
  }
  if (!state) return Verdict::kRefused;
  return machine.accepting(*state) ? Verdict::kAccepted : Verdict::kUnfinished;
}

void expect(const char* schema, std::vector<const char*> accepted, std::vector<const char*> refused) {
  std::string why;
  for (const char* text : accepted)
    EXPECT_EQ(check(schema, text, &why), Verdict::kAccepted) << schema << " on " << text << " " << why;
  for (const char* text : refused)
    EXPECT_EQ(check(schema, text, &why), Verdict::kRefused) << schema << " on " << text << " " << why;
}

TEST(JsonMachine, AnyJson) {
  expect("true",
         {"null", "true", "-1.5e+10", "\"a\\u00e9\\n\\ud83d\\ude42\"", "[]", "{}", "[1, {\"a\": [null]}]",
          "{\"a\":1,\n \"b\":{}}"},
         {"nul1", "01", "[1,]", "{,}", "{\"a\":1,}", "{\"a\" 1}", "\"\\x\"", "\"\\ud83dx\"", "\"\t\"", "\"\xff\"", "[}",
          "{\"a\":1,\"a\":2}", "1 ", " 1", "\n{}", "[  1", "[\n\n1"});
  EXPECT_EQ(check("true", "[1"), Verdict::kUnfinished);
  EXPECT_EQ(check("true", "12"), Verdict::kAccepted);
  EXPECT_EQ(check("true", "-"), Verdict::kUnfinished);
  expect("false", {}, {"1"});
}

TEST(JsonMachine, Scalars) {
  expect(R"({"type":"integer","minimum":3,"maximum":12})", {"3", "12", "7.0"}, {"2", "13", "3.5", "-", "\"", "1e"});
  expect(R"({"type":["string","null"],"maxLength":2})", {"null", "\"ab\"", "\"\\u0041b\"", "\"é🙂\""},
         {"\"abc", "t", "\"ab\\n"});
  expect(R"({"enum":["red","green",3,null,[1],{"a":"b"}]})",
         {"\"red\"", "3", "3.0", "null", "[1]", "[ 1.0 ]", "{\"a\":\"b\"}"},
         {"\"blue", "\"redd", "4", "[2", "{\"b", "{\"a\":\"c", "[1,"});
  expect(R"({"type":"string","pattern":"^a+$","minLength":2})", {"\"aa\"", "\"\\u0061a\""},
         {"\"a\"", "\"b", "\"\\u0062"});
  expect(R"({"type":"number","multipleOf":0.5,"exclusiveMinimum":0})", {"0.5", "10"}, {"0.25", "-", "0.7"});
  expect(R"({"const":"x\"y"})", {"\"x\\\"y\""}, {"\"x\""});
}

TEST(JsonMachine, Objects) {
  const char* person =
      R"({"type":"object","properties":{"name":{"type":"string"},"age":{"type":"integer"}},"required":["name"],"additionalProperties":false})";
  expect(person, {"{\"name\":\"x\"}", "{\"age\": 3, \"name\": \"x\"}", "{ \"name\" : \"\" }"},
         {"{}", "{\"age\":3}", "{\"x", "{\"name\":1", "{\"name\":\"x\",\"name", "{\"name\":\"x\",\"age\":3,"});
  expect(R"({"properties":{"a":{"type":"integer"}},"additionalProperties":{"type":"string"}})",
         {"{\"a\":1,\"b\":\"x\"}", "[]", "{\"ab\":\"x\"}", "{\"\":\"\"}"},
         {"{\"a\":\"", "{\"b\":1", "{\"b\":\"\",\"b\""});
  expect(R"({"patternProperties":{"^n":{"type":"number"},"s$":{"type":"string"}},"additionalProperties":false})",
         {"{\"n1\":1,\"xs\":\"\"}"}, {"{\"ns\"", "{\"x\"", "{\"n\":\""});
  expect(R"({"type":"object","minProperties":1,"maxProperties":2,"propertyNames":{"pattern":"^[ab]$"}})",
         {"{\"a\":1}", "{\"b\":1,\"a\":null}"}, {"{}", "{\"c", "{\"a\":1,\"b\":2,", "{\"aa"});
  expect(R"({"type":"object","maxProperties":1,"required":["q"]})", {"{\"q\":1}"}, {"{\"r", "{\"q\":1,"});
  expect(R"({"type":"object","dependentRequired":{"a":["b"],"b":["c"]}})",
         {"{}", "{\"a\":1,\"b\":2,\"c\":3}", "{\"x\":1}"}, {"{\"a\":1}", "{\"a\":1,\"b\":2}"});
  expect(R"({"type":"object","dependentSchemas":{"a":{"properties":{"b":{"type":"null"}},"required":["b"]}}})",
         {"{\"b\":1}", "{\"a\":1,\"b\":null}", "{\"b\":null,\"a\":0}"},
         {"{\"a\":1}", "{\"b\":1,\"a\"", "{\"a\":1,\"b\":1"});
}

TEST(JsonMachine, Arrays) {
  expect(R"({"type":"array","items":{"type":"integer"},"minItems":1,"maxItems":3})", {"[1]", "[1,2, 3]"},
         {"[]", "[1,2,3,", "[\"", "[1.5"});
  expect(R"({"prefixItems":[{"type":"string"},{"type":"null"}],"items":false})", {"[]", "[\"\"]", "[\"\",null]", "{}"},
         {"[1", "[\"\",null,", "[\"\",1"});
  expect(R"({"type":"array","contains":{"const":7},"minContains":2,"maxContains":2})", {"[7,7]", "[1,7,7,\"x\"]"},
         {"[7]", "[7,7,7]", "[]"});
  expect(R"({"type":"array","not":{"contains":{"type":"string"}}})", {"[]", "[1,2]"}, {"[\"", "[1,\""});
  expect(R"({"type":"array","not":{"items":{"type":"string"}}})", {"[1]", "[\"a\",1]", "[\"a\",1,\"b\"]"},
         {"[]", "[\"a\"]"});
}

TEST(JsonMachine, Combinations) {
  expect(
      R"({"anyOf":[{"type":"object","properties":{"kind":{"const":"a"},"x":{"type":"integer"}},"required":["kind","x"]},
                      {"type":"object","properties":{"kind":{"const":"b"},"y":{"type":"string"}},"required":["kind","y"]}]})",
      {"{\"kind\":\"a\",\"x\":1}", "{\"y\":\"\",\"kind\":\"b\"}", "{\"x\":1,\"y\":\"\",\"kind\":\"b\"}"},
      {"{\"kind\":\"a\",\"x\":\"", "{\"kind\":\"c", "{\"kind\":\"b\"}", "{\"x\":\"s\",\"kind\":\"a"});
  expect(R"({"oneOf":[{"type":"integer"},{"minimum":2}]})", {"1", "2.5", "\"x\""}, {"1.5", "4e"});
  expect(R"({"oneOf":[{"required":["a"]},{"required":["b"]}],"type":"object"})", {"{\"a\":1}", "{\"b\":1}"},
         {"{}", "{\"a\":1,\"b\"", "{\"c\":1}"});
  expect(R"({"not":{"type":"object","required":["a"]}})", {"{}", "1", "{\"b\":1}", "[]"}, {"{\"a\""});
  expect(R"({"type":"object","not":{"properties":{"a":{"type":"string"}}}})", {"{\"a\":1}", "{\"b\":0,\"a\":1}"},
         {"{}", "{\"a\":\"x\"}"});
  expect(
      R"({"if":{"properties":{"k":{"const":1}},"required":["k"]},"then":{"required":["v"]},"else":{"maxProperties":1},"type":"object"})",
      {"{\"k\":1,\"v\":2}", "{\"k\":2}", "{}"}, {"{\"k\":1}", "{\"k\":2,\"v\"", "{\"a\":1,\"b\":2}"});
  expect(
      R"({"allOf":[{"properties":{"a":{"type":"integer"}}},{"properties":{"a":{"minimum":5}},"required":["a"]}],"type":"object"})",
      {"{\"a\":5}"}, {"{\"a\":4}", "{}", "{\"a\":\""});
  expect(
      R"({"allOf":[{"properties":{"a":true}}],"properties":{"b":true},"unevaluatedProperties":false,"type":"object"})",
      {"{\"a\":1,\"b\":2}"}, {"{\"c"});
  expect(
      R"({"anyOf":[{"properties":{"a":{"const":1}},"required":["a"]},{"properties":{"b":true},"required":["b"]}],"unevaluatedProperties":false,"type":"object"})",
      {"{\"a\":1}", "{\"b\":2}", "{\"a\":1,\"b\":2}"}, {"{}", "{\"a\":2", "{\"b\":1,\"a\":2"});
  expect(R"({"prefixItems":[{"const":1}],"contains":{"type":"string"},"unevaluatedItems":false})",
         {"[1,\"a\",\"b\"]", "[1,\"a\"]"}, {"[1,2", "[1]"});
}

// Alternatives that a member tells apart: by its values, by its language, and where it need not be there.
TEST(JsonMachine, AlternativesThatAMemberTellsApart) {
  expect(
      R"({"oneOf":[{"properties":{"k":{"enum":["a",1]},"v":{"type":"integer"}},"required":["k"]},
                   {"properties":{"k":{"enum":["b",2]},"v":{"type":"string"}}}],"type":"object"})",
      {R"({"k":"a","v":1})", R"({"k":1.0})", R"({"k":"b","v":""})", "{}", R"({"v":"","k":2})"},
      {R"({"k":"a","v":"x"})", R"({"k":2,"v":1})", R"({"k":"c)", R"({"v":1})"});
  expect(
      R"({"oneOf":[{"properties":{"k":{"pattern":"^a$"}},"required":["k"]},
                   {"properties":{"k":{"pattern":"^b$"}},"required":["k"]}],"type":"object"})",
      {R"({"k":"a"})", R"({"k":"b"})"}, {R"({"k":"c)", R"({"k":1})", "{}"});
  // No member has to be there: what takes both is not valid, and each member can tell them apart.
  expect(
      R"({"oneOf":[{"properties":{"k":{"const":"a"},"m":{"type":"string"}}},
                   {"properties":{"k":{"const":"b"},"m":{"type":"string"}}}],"type":"object"})",
      {R"({"k":"a"})", R"({"m":"x","k":"b"})"}, {"{}", R"({"m":"x"})", R"({"k":"c)", R"({"m":1,)", R"({"m":1})"});
  expect(
      R"({"oneOf":[{"properties":{"k":{"const":"a"},"m":{"maxLength":4}}},
                   {"properties":{"k":{"const":"b"},"m":{"minLength":2}}}],"type":"object"})",
      {R"({"k":"a"})", R"({"m":"x"})", R"({"m":"xxxxx"})", R"({"k":"b","m":"xxx"})"},
      {"{}", R"({"m":"xxx"})", R"({"k":"a","m":"xxxxx"})", R"({"k":"b","m":"x"})", R"({"m":"xxx","n":1})"});
  // A hundred of them are no more than one condition each.
  std::string many = R"({"type":"object","oneOf":[)";
  for (int i = 0; i < 100; ++i) {
    many += fmt::format(R"({}{{"properties":{{"k":{{"const":{}}},"m":{{"type":"string"}}}},"required":["m"]}})",
                        i == 0 ? "" : ",", i);
  }
  many += "]}";
  expect(many.c_str(), {R"({"m":"","k":7})", R"({"k":99,"m":""})"},
         {R"({"m":""})", R"({"k":100)", R"({"k":7})", R"({"m":"","k":100)"});
}

TEST(JsonMachine, WhatMayStillBecomeValidIsNotRefused) {
  EXPECT_EQ(check(R"({"oneOf":[{"type":"integer"},{"minimum":2}]})", "3"), Verdict::kUnfinished) << "3.5 is";
  EXPECT_EQ(check(R"({"enum":["abc"]})", "\"\\u00"), Verdict::kUnfinished);
  EXPECT_EQ(check(R"({"enum":["abc"]})", "\"\\u01"), Verdict::kRefused);
}

TEST(JsonMachine, References) {
  const char* tree =
      R"({"$defs":{"node":{"type":"object","properties":{"value":{"type":"integer"},"next":{"$ref":"#/$defs/node"}},"required":["value"],"additionalProperties":false}},"$ref":"#/$defs/node"})";
  expect(tree, {"{\"value\":1}", "{\"value\":1,\"next\":{\"value\":2,\"next\":{\"value\":3}}}"},
         {"{\"next\":{}", "{\"value\":1,\"next\":1"});
  expect(R"({"type":"array","items":{"$ref":"#"}})", {"[]", "[[],[[]]]"}, {"[1"});
  // Nothing finite is like this.
  expect(R"({"type":"object","properties":{"a":{"$ref":"#"}},"required":["a"]})", {}, {"{"});
  expect(R"({"type":["object","null"],"properties":{"a":{"$ref":"#"}},"required":["a"]})",
         {"null", "{\"a\":{\"a\":null}}"}, {"{}"});
  // The least solution of a schema that refers to itself.
  expect(R"({"$ref":"#"})", {}, {"1", "{"});
  expect(R"({"anyOf":[{"type":"integer"},{"$ref":"#"}]})", {"1"}, {"\"", "{"});
  expect(
      R"({"$ref":"#/$defs/x","$defs":{"x":{"anyOf":[{"$ref":"#/$defs/y"},{"type":"integer"}]},"y":{"anyOf":[{"$ref":"#/$defs/x"},{"type":"null"},{"type":"object"}]}}})",
      {"1", "null", "{}"}, {"\""});
}

TEST(JsonMachine, NothingLeadsIntoADeadEnd) {
  // The member must be there and cannot be: no object begins.
  expect(
      R"({"type":["object","integer"],"required":["a"],"properties":{"a":{"type":"string","maxLength":0,"minLength":1}}})",
      {"1"}, {"{"});
  expect(R"({"type":"array","minItems":2,"prefixItems":[true,false]})", {}, {"["});
  expect(R"({"type":"object","minProperties":2,"properties":{"a":true,"b":false},"additionalProperties":false})", {},
         {"{"});
  expect(R"({"type":"object","propertyNames":{"enum":["aa","ab"]},"minProperties":3})", {}, {"{"});
  expect(
      R"({"type":"object","patternProperties":{"^[ab]$":{"type":"null"}},"additionalProperties":false,"minProperties":2})",
      {"{\"a\":null,\"b\":null}"}, {"{}", "{\"a\":null}", "{\"c"});
}

TEST(JsonMachine, NothingLeadsIntoADeadEndWhereItemsAreCounted) {
  // Every item counts, and so many have to come.
  expect(R"({"type":"array","minItems":3,"contains":{},"maxContains":2})", {}, {"["});
  expect(
      R"({"type":"array","minItems":2,"items":{"type":["string","null"]},"contains":{"type":"null"},"minContains":0,"maxContains":0})",
      {"[\"a\",\"b\"]"}, {"[n", "[\"a\",n"});
  // Only the first item can be what is asked for.
  expect(R"({"type":"array","prefixItems":[true],"items":{"type":"null"},"contains":{"type":"integer"}})",
         {"[1]", "[1,null]"}, {"[null", "[n", "[\"a"});
  // The second one can, and comes after any first one.
  expect(R"({"type":"array","prefixItems":[{"type":"null"},true],"items":false,"contains":{"type":"integer"}})",
         {"[null,1]"}, {"[null]", "[null,n"});
  expect(R"({"type":"array","prefixItems":[true],"items":{"type":"null"},"not":{"items":{"type":"null"}}})", {"[1]"},
         {"[n"});
  // Values run out.
  expect(R"({"type":"array","items":{"enum":["a","b"]},"uniqueItems":true})", {"[]", "[\"b\",\"a\"]"},
         {"[\"a\",\"a", "[\"a\",\"b\","});
  expect(R"({"type":"array","items":{"enum":[1,-2.5,null]},"uniqueItems":true})", {"[1.0,null,-2.5]", "[-2.50]"},
         {"[1,1", "[-2.5,-", "[1,null,-2.5,", "[1.0,null,n"});
  expect(R"({"type":"array","items":{"enum":[7,{},"7"]},"uniqueItems":true})", {"[7,{},\"7\"]"}, {"[7,7", "[7.0,7"});
  expect(R"({"type":"array","items":{"const":null},"minItems":2,"uniqueItems":true})", {}, {"["});
  expect(R"({"type":"array","items":{"type":"boolean"},"minItems":3,"uniqueItems":true})", {}, {"["});
  expect(R"({"type":"array","items":{"type":"integer","minimum":1,"maximum":3},"minItems":3,"uniqueItems":true})",
         {"[3,1,2]", "[1,2.0,3]"}, {"[1,1", "[1,2]", "[1,2,1", "[1,2,3,"});
}

TEST(JsonMachine, NothingLeadsIntoADeadEndWhereNamesAreFew) {
  const char* one = R"({"type":"object","required":["b"],"propertyNames":{"maxLength":1}})";
  expect(one, {R"({"a":1,"b":2})", R"({"b":1,"":2})"}, {R"({"a":1,"a)", R"({"bb)", R"({"a":1})"});
  expect(R"({"type":"object","propertyNames":{"pattern":"^(x|yz*)$"}})", {R"({"x":1,"y":2,"yz":3})"},
         {R"({"x":1,"x)", R"({"xx)"});
}

// Where values are few a text that can be completed is not given up for one that cannot.
TEST(JsonMachine, FewArraysAndObjectsAreToldApart) {
  const char* pairs =
      R"({"type":"array","uniqueItems":true,"minItems":3,"items":{"type":"object","properties":{"a":{"type":"boolean"},"b":{"const":1}},"required":["a"],"additionalProperties":false}})";
  expect(pairs,
         {R"([{"a":true},{"a":false},{"b":1,"a":true}])", R"([{"a":true,"b":1.0},{"b":1,"a":false},{"a":true}])"},
         {R"([{"a":true},{"a":true}])", R"([{"a":true},{"a":true},)",
          R"([{"a":true},{"a":false},{"a":true,"b":1},{"a":false,"b":1},)"});
  // With {"a":true} there, an object that begins so has to go on.
  expect(pairs, {}, {R"([{"a":true},{"a":true})"});
  expect(R"({"type":"array","uniqueItems":true,"minItems":2,"items":{"enum":[{"x":1},[2],"s"]}})",
         {R"([{"x":1},[2],"s"])", R"(["s",{"x":1}])"}, {R"([{"x":1},{)", R"([[2],[)", R"(["s",[2],{"x":1},)"});
  expect(
      R"({"type":"array","uniqueItems":true,"items":{"type":"array","items":{"enum":[0,1]},"minItems":1,"maxItems":1},"minItems":3})",
      {}, {"["});
  expect(
      R"({"type":"array","uniqueItems":true,"minItems":2,"items":{"type":"array","items":{"type":"null"},"contains":{"type":"null"},"maxItems":2}})",
      {"[[null],[null,null]]", "[[null, null],[null]]"}, {"[[null],[null]", "[[]", "[[null],[null,null],"});
}

TEST(JsonMachine, CountsOfItemsGoTogether) {
  expect(R"({"type":"array","allOf":[{"contains":{"const":1}},{"contains":{"const":2}}],"maxItems":2})",
         {"[1,2]", "[2,1]"}, {"[1,1", "[3", "[1,3"});
  expect(
      R"({"type":"array","contains":{"type":"string"},"minContains":2,"maxContains":2,"allOf":[{"contains":{"maxLength":1},"maxContains":1}]})",
      {R"(["ab",1,"cd"])", R"(["ab","c"])"}, {R"(["a","b")", R"([1,2)"});
  expect(R"({"type":"array","oneOf":[{"contains":{"type":"null"}},{"contains":{"type":"null"}}]})", {}, {"["});
  expect(
      R"({"type":"array","prefixItems":[{"const":1}],"items":{"enum":[1,2]},"maxItems":3,"contains":{"const":2},"minContains":2,"not":{"items":{"const":2}}})",
      {"[1,2,2]"}, {"[2", "[1,1", "[1,2]"});
}

TEST(JsonMachine, MembersOfOtherNamesMeetWhatTheyCan) {
  expect(
      R"({"type":"object","properties":{"a":true},"additionalProperties":false,"not":{"patternProperties":{"^b":{"type":"null"}}}})",
      {}, {"{"});
  expect(
      R"({"type":"object","patternProperties":{"^b":{"type":"integer"}},"additionalProperties":false,"maxProperties":1,"not":{"patternProperties":{"x":{"minimum":5}}}})",
      {R"({"bx":4})"}, {R"({"ba")", R"({"bx":5})", "{}"});
}

}  // namespace
}  // namespace decant
