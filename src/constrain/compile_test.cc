// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "constrain/compile.h"

#include <gtest/gtest.h>

#include <random>

#include "constrain/test_util.h"

namespace decant {
namespace {

using namespace brute_force;  // NOLINT
using Kind = ConstraintSpec::Kind;

ConstraintSpec pattern(const std::string& text) { return {.kind = Kind::kPattern, .text = text, .name = "--regex"}; }
ConstraintSpec gbnf(const std::string& text) { return {.kind = Kind::kGbnf, .text = text, .name = "--grammar"}; }
ConstraintSpec schema(const std::string& text) {
  return {.kind = Kind::kJsonSchema, .text = text, .name = "--json-schema"};
}
ConstraintSpec choice(std::vector<std::string> texts) {
  return {.kind = Kind::kChoice, .name = "--choice", .choices = std::move(texts)};
}
ConstraintSpec all(std::vector<ConstraintSpec> parts) { return {.kind = Kind::kAll, .parts = std::move(parts)}; }
ConstraintSpec negated(ConstraintSpec part) { return {.kind = Kind::kNot, .parts = {std::move(part)}}; }

std::shared_ptr<Constraint> compiled(const ConstraintSpec& spec) {
  auto made = compile_constraint(spec, vocabulary());
  EXPECT_TRUE(made.ok()) << made.status().message();
  return made.ok() ? *made : nullptr;
}

TEST(CompileConstraint, ExpressionsTogetherAreWhatTheDefinitionSays) {
  std::mt19937 random(3);
  Counts counts;
  for (int i = 0; i < 60 && !::testing::Test::HasFatalFailure(); ++i) {
    const std::vector<Tree> a = {random_tree(random, 0, 3)}, b = {random_tree(random, 0, 3)};
    SCOPED_TRACE(a[0].regex() + " " + b[0].regex());
    Definition first(a), second(b);
    compare([&](const auto& t) { return first.has(t) && second.has(t); },
            compile_constraint(all({pattern(a[0].regex()), pattern(b[0].regex())}), vocabulary()), random, &counts);
    compare([&](const auto& t) { return first.has(t) && !second.has(t); },
            compile_constraint(all({pattern(a[0].regex()), negated(pattern(b[0].regex()))}), vocabulary()), random,
            &counts);
  }
  EXPECT_GT(counts.compiled, 60);
  EXPECT_GT(counts.allowed, 500);
}

// A grammar beside an expression: dead ends are found by looking ahead.
TEST(CompileConstraint, AGrammarAndAnExpressionAreWhatTheDefinitionSays) {
  std::mt19937 random(5);
  Counts counts;
  for (int i = 0; i < 60 && !::testing::Test::HasFatalFailure(); ++i) {
    std::vector<Tree> rules;
    std::string text;
    for (int r = 0; r < 2; ++r) {
      rules.push_back(random_tree(random, 2, 2));
      text += (r == 0 ? "root" : "r1") + std::string(" ::= ") + rules.back().gbnf() + "\n";
    }
    const std::vector<Tree> b = {random_tree(random, 0, 3)};
    SCOPED_TRACE(text + b[0].regex());
    if (!compile_constraint(gbnf(text), vocabulary()).ok()) continue;
    Definition first(rules), second(b);
    const auto made = compile_constraint(all({gbnf(text), pattern(b[0].regex())}), vocabulary());
    if (made.ok() && !(*made)->warnings().empty()) continue;
    compare([&](const auto& t) { return first.has(t) && second.has(t); }, made, random, &counts);
    if (made.ok()) {
      EXPECT_TRUE((*made)->warnings().empty());
    }
  }
  EXPECT_GT(counts.compiled, 15);
  EXPECT_GT(counts.refused, 5);
  EXPECT_GT(counts.allowed, 200);
}

TEST(CompileConstraint, SchemasTogetherAreOneSchema) {
  // Each has its own root, dialect and definitions.
  const auto both = compiled(all(
      {schema(R"({"$defs":{"n":{"maximum":9}},"$ref":"#/$defs/n","type":"integer"})"),
       schema(
           R"({"$schema":"http://json-schema.org/draft-07/schema#","definitions":{"n":{"minimum":7}},"allOf":[{"$ref":"#/definitions/n"}]})"),
       negated(schema(R"({"const":8})"))}));
  EXPECT_TRUE(matches(*both, "7"));
  EXPECT_TRUE(matches(*both, "9"));
  EXPECT_FALSE(takes(*both, "8"));
  EXPECT_FALSE(takes(*both, "1"));
  const auto other = compiled(negated(schema(R"({"type":["object","array","number","string"]})")));
  EXPECT_TRUE(matches(*other, "null"));
  EXPECT_FALSE(takes(*other, "{"));
  EXPECT_TRUE(matches(*compiled(negated(negated(schema(R"({"const":8})")))), "8"));
}

TEST(CompileConstraint, KindsTogether) {
  const auto number =
      compiled(all({schema(R"({"type":"array","items":{"type":"integer"}})"), pattern("\\[[0-9, ]{5,9}\\]")}));
  EXPECT_TRUE(matches(*number, "[1, 23]"));
  EXPECT_FALSE(matches(*number, "[1]"));
  EXPECT_FALSE(takes(*number, "[-"));
  // Ten digits would not leave room for the bracket.
  EXPECT_FALSE(takes(*number, "[123456789 "));
  const auto name = compiled(
      all({gbnf("root ::= \"a\" root \"b\" | \"ab\""), negated(choice({"ab", "aabb"})), pattern("[ab]{0,7}")}));
  EXPECT_TRUE(matches(*name, "aaabbb"));
  EXPECT_FALSE(matches(*name, "aabb"));
  EXPECT_FALSE(takes(*name, "aab")) << "aabb is excluded";
  EXPECT_FALSE(takes(*name, "aaaa")) << "too long";
  EXPECT_EQ(name->completion(name->start()), "aaabbb");
}

TEST(CompileConstraint, WhatCannotBeIsRefused) {
  const std::pair<ConstraintSpec, const char*> wrong[] = {
      {all({}), "no constraint"},
      {negated(gbnf("root ::= \"a\"")), "can be negated"},
      {negated(all({pattern("a"), schema("true")})), "can be negated"},
      {all({pattern("a+"), choice({"b"})}), "no text"},
      {all({gbnf("root ::= \"a\" root | \"a\""), pattern("b+")}), "no text is allowed by all"},
      {all({schema(R"({"const":1})"), schema(R"({"const":2})")}), "no value is valid"},
      {all({schema(R"({"type":"x"})"), pattern("1")}), "--json-schema: "},
      {negated(pattern("(")), "--regex: "},
      {{.kind = Kind::kNot}, "negated alone"},
  };
  for (const auto& [spec, part] : wrong) {
    const auto made = compile_constraint(spec, vocabulary());
    ASSERT_FALSE(made.ok()) << part;
    EXPECT_NE(made.status().message().find(part), std::string::npos) << made.status().message();
  }
  ConstraintSpec deep = pattern("a");
  for (int i = 0; i < 100; ++i) deep = all({deep});
  EXPECT_FALSE(compile_constraint(deep, vocabulary()).ok());
}

}  // namespace
}  // namespace decant
