// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "eval/questions.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

namespace decant {
namespace {

std::string line(int id, const std::string& category, const std::string& turns = R"(["a"])") {
  return "{\"question_id\": " + std::to_string(id) + ", \"category\": \"" + category + "\", \"turns\": " + turns +
         "}\n";
}

void expect_corrupt(const Result<std::vector<Question>>& result, const std::vector<std::string>& words) {
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.status().code(), Code::kCorrupt);
  for (const std::string& word : words) {
    EXPECT_NE(result.status().message().find(word), std::string::npos) << result.status().message();
  }
}

TEST(SpecBench, QuestionsHaveTheReportsCategories) {
  const auto questions = parse_spec_bench(
      line(81, "writing", R"(["a", "b"])") + "\n" + line(82, "humanities") + line(7, "qa") + line(9, "weather"), "q");
  ASSERT_TRUE(questions.ok()) << questions.status().message();
  ASSERT_EQ(questions->size(), 4U);
  EXPECT_EQ(questions->at(0).turns, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(questions->at(0).category, "multi-turn");
  EXPECT_EQ(questions->at(1).category, "multi-turn");
  EXPECT_EQ(questions->at(2).category, "qa");
  EXPECT_EQ(questions->at(3).category, "other");
  EXPECT_EQ(questions->at(1).place, "q: line 3");
  EXPECT_EQ(questions->at(3).id, "9");
}

TEST(SpecBench, WhatIsNoQuestionIsNamedByFileLineAndField) {
  const std::string good = line(1, "qa");
  const auto refuse = [&](const std::string& bad, const std::vector<std::string>& words) {
    std::vector<std::string> all = {"q.jsonl: line 2"};
    all.insert(all.end(), words.begin(), words.end());
    expect_corrupt(parse_spec_bench(good + bad, "q.jsonl"), all);
  };
  refuse("{\"question_id\": 2, \"category\": \"qa\"}", {"turns"});
  refuse(line(2, "qa", "[]"), {"turns"});
  refuse(line(2, "qa", "\"a\""), {"turns"});
  refuse(line(2, "qa", R"(["a", 1])"), {"turn 2"});
  refuse(line(2, "qa", R"(["a", " \n"])"), {"turn 2", "empty"});
  refuse("{\"category\": \"qa\", \"turns\": [\"a\"]}", {"question_id"});
  refuse("{\"question_id\": 1.5, \"category\": \"qa\", \"turns\": [\"a\"]}", {"question_id"});
  refuse("{\"question_id\": 2, \"turns\": [\"a\"]}", {"category"});
  refuse(line(1, "rag"), {"id 1", "line 1"});
  refuse("[1]", {"object"});
  refuse("{\"question_id\": 2,", {"JSON"});
  refuse("{\"question_id\": 2, \"category\": \"\xff\", \"turns\": [\"a\"]}", {"UTF-8"});
  expect_corrupt(parse_spec_bench("\n", "q.jsonl"), {"q.jsonl", "no questions"});
  EXPECT_EQ(load_spec_bench("/nonexistent").status().code(), Code::kNotFound);
}

TEST(Prompts, AreLinesOrJsonLines) {
  const auto lines = parse_prompts("one\r\n\n two {x}\n", "p.txt");
  ASSERT_TRUE(lines.ok());
  ASSERT_EQ(lines->size(), 2U);
  EXPECT_EQ(lines->at(0).turns, std::vector<std::string>{"one"});
  EXPECT_EQ(lines->at(1).turns, std::vector<std::string>{" two {x}"});
  EXPECT_EQ(lines->at(1).place, "p.txt: line 3");
  const auto json =
      parse_prompts("{\"prompt\": \"a\", \"category\": \"c\"}\n{\"turns\": [\"b\", \"c\"], \"id\": \"x\"}", "p");
  ASSERT_TRUE(json.ok()) << json.status().message();
  EXPECT_EQ(json->at(0).turns, std::vector<std::string>{"a"});
  EXPECT_EQ(json->at(0).category, "c");
  EXPECT_EQ(json->at(0).id, "1");
  EXPECT_EQ(json->at(1).turns, (std::vector<std::string>{"b", "c"}));
  EXPECT_EQ(json->at(1).id, "x");
  expect_corrupt(parse_prompts("{\"prompt\": \"a\", \"turns\": [\"b\"]}", "p"), {"line 1", "not both"});
  expect_corrupt(parse_prompts("{}", "p"), {"line 1", "prompt"});
  expect_corrupt(parse_prompts("plain text", "p.jsonl"), {"line 1", "JSON"});
  expect_corrupt(parse_prompts("good\nbad \xc3\n", "p"), {"line 2", "UTF-8"});
  expect_corrupt(parse_prompts("", "p"), {"no prompts"});
}

TEST(Spread, IsEvenOverCategoriesAndOverEachOfThem) {
  std::vector<Question> questions;
  for (int i = 0; i < 480; ++i) {
    questions.push_back({.id = std::to_string(i), .category = std::to_string(i / 80), .turns = {"x"}, .place = ""});
  }
  for (const int limit : {1, 5, 6, 7, 60, 100, 479}) {
    const std::vector<Question> some = spread(questions, limit);
    ASSERT_EQ(some.size(), static_cast<size_t>(limit));
    std::map<std::string, int> counts;
    std::set<int> ids;
    int before = -1;
    for (const Question& q : some) {
      ++counts[q.category];
      const int id = std::stoi(q.id);
      EXPECT_GT(id, before);  // in the file's order
      before = id;
      ids.insert(id);
    }
    for (const auto& [category, n] : counts) EXPECT_TRUE(n == limit / 6 || n == limit / 6 + 1) << category;
    // Eight runs of ten, as MT-Bench's categories in the multi-turn one: each has its part.
    if (limit == 60) {
      for (int tenth = 0; tenth < 8; ++tenth) {
        EXPECT_TRUE(std::any_of(ids.begin(), ids.end(), [&](int id) { return id / 10 == tenth; })) << tenth;
      }
    }
  }
  EXPECT_EQ(spread(questions, 0).size(), 480U);
  EXPECT_EQ(spread(questions, 1000).size(), 480U);
}

TEST(Spread, SmallCategoriesGiveAllTheyHave) {
  std::vector<Question> questions;
  for (int i = 0; i < 12; ++i)
    questions.push_back({.id = std::to_string(i), .category = i < 2 ? "a" : "b", .turns = {"x"}, .place = ""});
  const std::vector<Question> some = spread(questions, 9);
  ASSERT_EQ(some.size(), 9U);
  EXPECT_EQ(some[0].id, "0");
  EXPECT_EQ(some[1].id, "1");
}

}  // namespace
}  // namespace decant
