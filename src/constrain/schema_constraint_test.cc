// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "constrain/schema_constraint.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>

#include "constrain/json_machine.h"

namespace decant {
namespace {

// Single bytes, and tokens that span what a grammar would take apart.
const std::vector<std::string>& texts() {
  static const std::vector<std::string> all = [] {
    std::vector<std::string> list = {
        "",         "\":",   "\": ", "\",",  "\"}",  "\"]",    "{\"",       "[\"",   "\",\"",  "\", \"", "\": \"",
        "\":\"",    "}}",    "]]",   "[]",   "{}",   ", ",     ": ",        ",\"",   "\\\"",   "\\n",    "\\u00",
        "\\u0061",  "a\":1", "abc",  "ab\"", "name", "name\"", "kind\":\"", "true",  "null",   "false",  "12",
        "0.5",      "10",    "-1",   "\n  ", "    ", "\t",     "é",         "日本",  "\xC3",   "\xA9\"", "\xE6\x97",
        "\xF0\x9F", "aa",    "a,",   "1,",   "1}",   "1]",     "2, \"",     "x\" :", "\"b\":", "abc",    "\u00e9a"};
    for (int c = 0x09; c < 0x7F; ++c) list.emplace_back(1, static_cast<char>(c));
    for (int c = 0x80; c < 0xF5; c += 7) list.emplace_back(1, static_cast<char>(c));
    return list;
  }();
  return all;
}

std::shared_ptr<const JsonVocabulary> vocabulary() {
  static const auto made = [] {
    const std::vector<std::string_view> views(texts().begin(), texts().end());
    return std::make_shared<const JsonVocabulary>(std::make_shared<const TokenTrie>(views));
  }();
  return made;
}

const char* const kSchemas[] = {
    "true",
    R"({"type":"object","properties":{"name":{"type":"string","maxLength":3},"age":{"type":"integer","minimum":0,"maximum":120}},"required":["name"]})",
    R"({"type":"object","properties":{"ab":{"type":"string","pattern":"^[a-z]+$"},"abc":{"enum":["abc","a\"b","é",12,null]}},"additionalProperties":false})",
    R"({"type":"object","additionalProperties":{"type":"array","items":{"type":"string","minLength":2,"maxLength":4},"maxItems":2},"maxProperties":2})",
    R"({"type":"array","items":{"enum":["a","ab","abc",1,true]},"uniqueItems":true,"minItems":2})",
    R"({"anyOf":[{"type":"object","properties":{"kind":{"const":"a"},"name":{"type":"integer"}},"required":["kind"]},{"type":"object","properties":{"kind":{"const":"b"}},"required":["kind","name"]}]})",
    R"({"type":"array","items":{"type":"string","pattern":"^[ab]*$"},"uniqueItems":true,"minItems":6})",
    R"({"type":"object","patternProperties":{"^a":{"type":"integer"},"e$":{"type":"null"}},"additionalProperties":false,"minProperties":1})",
    R"({"type":"object","propertyNames":{"maxLength":2},"unevaluatedProperties":{"type":"boolean"},"properties":{"a":true},"maxProperties":3})",
    R"({"oneOf":[{"type":"integer","multipleOf":3},{"type":"integer","multipleOf":5}]})",
    R"({"type":"array","contains":{"type":"string"},"minContains":1,"maxContains":1,"maxItems":3,"items":{"type":["string","integer"]}})",
    R"({"not":{"type":["object","array","number"]}})",
    R"({"$defs":{"n":{"type":"object","properties":{"name":{"type":"string","format":"date"},"aa":{"$ref":"#/$defs/n"}},"additionalProperties":false}},"$ref":"#/$defs/n"})",
    R"({"type":"object","dependentRequired":{"a":["ab"]},"properties":{"a":{"type":"integer"},"ab":{"type":"integer"}},"additionalProperties":{"const":"x"}})",
};

// At every step of random texts: the mask has exactly the tokens that a fresh automaton takes byte by byte, something
// may come unless the text may end, and a text that ends is whole for the automaton.
TEST(SchemaConstraint, MasksAreThoseOfTryingEveryToken) {
  std::mt19937 random(5);
  int64_t ended = 0, steps = 0;
  for (const char* text : kSchemas) {
    SCOPED_TRACE(text);
    const auto constraint = compile_json_schema(text, "schema", {}, vocabulary());
    ASSERT_TRUE(constraint.ok()) << constraint.status().message();
    for (int run = 0; run < 25; ++run) {
      JsonMachine machine(*Schema::parse(text, "schema", {}));
      ConstraintState state = (*constraint)->start();
      JsonState plain = *machine.start();
      std::string so_far;
      for (int n = 0; n < 40; ++n, ++steps) {
        const auto mask = (*constraint)->mask(state);
        ASSERT_EQ((*constraint)->accepting(state), machine.accepting(plain)) << so_far;
        std::vector<TokenId> allowed;
        for (TokenId t = 0; t < static_cast<TokenId>(texts().size()); ++t) {
          std::optional<JsonState> next = plain;
          for (const char c : texts()[static_cast<size_t>(t)]) {
            next = machine.step(*next, static_cast<uint8_t>(c));
            if (!next) break;
          }
          const bool want = next.has_value() && !texts()[static_cast<size_t>(t)].empty();
          ASSERT_EQ(mask->test(t), want) << "after " << so_far << ": " << texts()[static_cast<size_t>(t)];
          ASSERT_EQ((*constraint)->advance(state, t).ok(), want);
          if (want) allowed.push_back(t);
        }
        if (machine.accepting(plain) && (allowed.empty() || random() % 3 == 0)) {
          ++ended;
          break;
        }
        ASSERT_FALSE(allowed.empty()) << "a dead end after " << so_far;
        const TokenId t = allowed[random() % allowed.size()];
        state = *(*constraint)->advance(state, t);
        for (const char c : texts()[static_cast<size_t>(t)]) plain = *machine.step(plain, static_cast<uint8_t>(c));
        so_far += texts()[static_cast<size_t>(t)];
      }
    }
  }
  EXPECT_GT(ended, 60);
  EXPECT_GT(steps, 3000);
}

// What is drawn so that the rest of the budget is enough ends within it, wherever the first tokens led.
TEST(SchemaConstraint, EndsWithinABudget) {
  std::mt19937 random(9);
  int found = 0;
  for (const char* text : kSchemas) {
    SCOPED_TRACE(text);
    const auto constraint = compile_json_schema(text, "schema", {}, vocabulary());
    ASSERT_TRUE(constraint.ok()) << constraint.status().message();
    Constraint& c = **constraint;
    const std::optional<int> least = c.tokens_to_end(c.start());
    if (!least) continue;
    ++found;
    std::set<std::string> answers;
    for (int run = 0; run < 8; ++run) {
      ConstraintState state = c.start();
      std::string so_far;
      for (int left = *least + run * 3; left > 0; --left) {
        const auto mask = c.mask_within(state, left);
        std::vector<TokenId> tokens;
        for (TokenId t = 0; t < static_cast<TokenId>(texts().size()); ++t) {
          if (mask->test(t)) tokens.push_back(t);
        }
        std::shuffle(tokens.begin(), tokens.end(), random);
        const auto fits = [&](TokenId t) {
          const auto next = c.advance(state, t);
          return next.ok() && c.tokens_to_end(*next).value_or(left) <= left - 1;
        };
        const auto chosen = std::find_if(tokens.begin(), tokens.end(), fits);
        if (chosen == tokens.end() && c.accepting(state)) break;
        ASSERT_NE(chosen, tokens.end()) << so_far << " with " << left;
        so_far += texts()[static_cast<size_t>(*chosen)];
        state = *c.advance(state, *chosen);
      }
      EXPECT_TRUE(c.accepting(state)) << so_far << " needs " << c.completion(state).value_or("?");
      answers.insert(so_far);
    }
    EXPECT_GT(answers.size(), 3u);
  }
  EXPECT_GT(found, 10);
}

TEST(SchemaConstraint, AStateIsAValue) {
  const auto constraint = *compile_json_schema(R"({"enum":["aa","ab"]})", "schema", {}, vocabulary());
  const auto id = [](std::string_view text) {
    return static_cast<TokenId>(std::find(texts().begin(), texts().end(), text) - texts().begin());
  };
  const ConstraintState quote = *constraint->advance(constraint->start(), id("\""));
  const ConstraintState a = *constraint->advance(quote, id("a"));
  EXPECT_TRUE(constraint->advance(quote, id("aa")).ok());
  EXPECT_TRUE(constraint->advance(a, id("b")).ok());
  EXPECT_FALSE(constraint->advance(a, id("c")).ok());
  EXPECT_FALSE(constraint->advance(a, -1).ok());
  EXPECT_FALSE(constraint->advance(a, 1 << 20).ok());
  EXPECT_EQ(constraint->mask(quote)->count(), 6) << "a, aa, ab\" and three that begin an escape";
}

// References that go on for longer than a stack is deep.
TEST(SchemaConstraint, LongChainsOfReferencesEndInAMessage) {
  constexpr int kLength = 20000;
  std::string text = R"({"definitions":{)";
  for (int i = 0; i < kLength; ++i)
    text += "\"d" + std::to_string(i) + "\":{\"$ref\":\"#/definitions/d" + std::to_string(i + 1) + "\"},";
  text += "\"d" + std::to_string(kLength) +
          R"(":{"const":"a"}},"oneOf":[{"properties":{"k":{"$ref":"#/definitions/d0"}},"required":["k"]},)";
  text += R"({"properties":{"k":{"const":"b"}},"required":["k"]}]})";
  const auto constraint = compile_json_schema(text, "schema.json", {}, vocabulary());
  ASSERT_FALSE(constraint.ok());
  EXPECT_NE(constraint.status().message().find("too many schemas within each other"), std::string::npos)
      << constraint.status().message();
}

TEST(SchemaConstraint, WhatCannotBeIsRefusedWithItsPlace) {
  const std::pair<const char*, const char*> wrong[] = {
      {"{", "line 1"},
      {"[]", "object or a boolean"},
      {R"({"a":1,"a":2})", "twice"},
      {"false", "no value is valid"},
      {R"({"$ref":"#"})", "references lead back"},
      {R"({"type":"strin"})", "#/type"},
      {R"({"properties":{"a":{"pattern":"(?<=a)b"}}})", "#/properties/a/pattern"},
      {R"({"properties":{"a":{"pattern":"("}}})", "#/properties/a/pattern"},
      {R"({"$ref":"#/$defs/nothing"})", "is not there"},
      {R"({"$ref":"https://example.com/other"})", "another document"},
      {R"({"items":{"minLength":-1}})", "#/items/minLength"},
      {R"({"type":"object","required":["a"],"properties":{"a":false}})", "no value is valid"},
      {R"({"not":{"uniqueItems":true}})", "#/not/uniqueItems"},
      {R"({"pattern":"(a)\\1"})", "#/pattern"},
      {R"({"minimum":1e999})", "too large"},
      {R"({"minimum":1e300,"maximum":1e-301,"multipleOf":1234567890123456789012})", "#/multipleOf"},
  };
  for (const auto& [text, part] : wrong) {
    const auto constraint = compile_json_schema(text, "schema.json", {}, vocabulary());
    ASSERT_FALSE(constraint.ok()) << text;
    EXPECT_NE(constraint.status().message().find(part), std::string::npos) << constraint.status().message();
    EXPECT_EQ(constraint.status().message().rfind("schema.json: ", 0), 0u) << constraint.status().message();
  }
  const auto lenient =
      compile_json_schema(R"({"pattern":"(a)\\1","type":"string"})", "s", {.lenient = true}, vocabulary());
  ASSERT_TRUE(lenient.ok());
  EXPECT_EQ((*lenient)->warnings().size(), 1u);
  // What only an optional part of the answer would meet is refused before the answer begins.
  const std::string alternatives = [] {
    std::string list;
    for (int i = 0; i < 3000; ++i) list += fmt::format("{}{{\"a\":{}}}", i == 0 ? "" : ",", i);
    return list;
  }();
  const std::string unions =
      R"({"anyOf":[{"properties":{"a":{"type":"null"}}},{"properties":{"b":{"type":"null"}},"additionalProperties":false},{"patternProperties":{"c":{"type":"null"}}},{"propertyNames":{"maxLength":1}}]})";
  const std::pair<std::string, const char*> late[] = {
      {R"({"not":{"type":"array","uniqueItems":true}})", "/not/uniqueItems"},
      {R"({"if":{"properties":{"x":{"type":"array","uniqueItems":true}}},"else":{"required":["y"]}})", "uniqueItems"},
      {R"({"enum":[)" + alternatives + "]}", "too many alternatives"},
      {R"({"allOf":[)" + unions + "," + unions + "," + unions + "," + unions + "," + unions + "," + unions + "]}",
       "too many alternatives"},
  };
  for (const auto& [part, why] : late) {
    for (const std::string& text : {R"({"properties":{"deep":{"type":"array","items":)" + part + "}}}",
                                    R"({"additionalProperties":)" + part + "}"}) {
      const auto constraint = compile_json_schema(text, "s", {}, vocabulary());
      ASSERT_FALSE(constraint.ok()) << text.substr(0, 200);
      EXPECT_NE(constraint.status().message().find(why), std::string::npos) << constraint.status().message();
    }
  }
  // Not refused: what is never met, and what is met only under no negation.
  for (
      const char* text :
      {R"({"properties":{"a":{"type":"array","uniqueItems":true}},"oneOf":[{"required":["a"]},{"required":["b"]}]})",
       R"({"oneOf":[{"type":"array","uniqueItems":true,"items":{"type":"string"},"minItems":1},{"type":"array","items":{"type":"null"},"minItems":1}]})"}) {
    EXPECT_TRUE(compile_json_schema(text, "s", {}, vocabulary()).ok()) << text;
  }
  // Depth and size are bounded.
  std::string deep = "true";
  for (int i = 0; i < 1000; ++i) deep = R"({"items":)" + deep + "}";
  EXPECT_FALSE(compile_json_schema(deep, "deep", {}, vocabulary()).ok());
  EXPECT_TRUE(
      compile_json_schema(R"({"type":"array","maxItems":1000000,"items":{"maxLength":1000000}})", "s", {}, vocabulary())
          .ok());
}

}  // namespace
}  // namespace decant
