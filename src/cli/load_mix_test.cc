// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "cli/load_mix.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <set>

namespace decant::cli {
namespace {

PromptMix mix_of(const MixOptions& options) {
  Result<PromptMix> mix = PromptMix::open(options);
  EXPECT_TRUE(mix.ok()) << mix.status().message();
  return std::move(mix).value();
}

int count_words(std::string_view text) { return 1 + static_cast<int>(std::count(text.begin(), text.end(), ' ')); }

TEST(LoadMixes, NamesGoThereAndBack) {
  for (const char* name : {"fixed", "spec-bench", "shared-prefix", "long-prompt"}) {
    const std::optional<LoadMix> mix = parse_load_mix(name);
    ASSERT_TRUE(mix) << name;
    EXPECT_EQ(load_mix_name(*mix), name);
  }
  EXPECT_FALSE(parse_load_mix("short"));
}

TEST(LoadMixes, FixedPromptsHaveOneLengthAndShareNothing) {
  const PromptMix mix = mix_of({.mix = LoadMix::kFixed, .prompt_tokens = 40});
  std::set<std::string> all;
  for (uint64_t i = 0; i < 200; ++i) {
    EXPECT_EQ(count_words(mix.prompt(i)), 40);
    EXPECT_FALSE(mix.is_long(i));
    all.insert(mix.prompt(i));
    all.insert(mix.warm_up_prompt(i));
  }
  EXPECT_EQ(all.size(), 400U);
}

TEST(LoadMixes, ASeedGivesTheSamePromptsAndAnotherOneOthers) {
  const MixOptions options{.mix = LoadMix::kSharedPrefix, .prompt_tokens = 8, .prefix_tokens = 30, .seed = 5};
  MixOptions other = options;
  other.seed = 6;
  EXPECT_EQ(mix_of(options).prompt(3), mix_of(options).prompt(3));
  EXPECT_NE(mix_of(options).prompt(3), mix_of(other).prompt(3));
}

TEST(LoadMixes, APrefixIsShared) {
  const PromptMix mix = mix_of({.mix = LoadMix::kSharedPrefix, .prompt_tokens = 8, .prefix_tokens = 100});
  const std::string first = mix.prompt(0);
  const std::string prefix = first.substr(0, first.find("\n\n"));
  EXPECT_EQ(count_words(prefix), 100);
  EXPECT_TRUE(mix.prompt(1).starts_with(prefix));
  EXPECT_TRUE(mix.warm_up_prompt(0).starts_with(prefix));
  EXPECT_NE(mix.prompt(1), first);
}

TEST(LoadMixes, EveryNthPromptIsLong) {
  const PromptMix mix = mix_of({.mix = LoadMix::kLongPrompt, .prompt_tokens = 8, .long_tokens = 500, .long_every = 4});
  for (uint64_t i = 0; i < 12; ++i) {
    EXPECT_EQ(mix.is_long(i), i % 4 == 3) << i;
    EXPECT_EQ(count_words(mix.prompt(i)), i % 4 == 3 ? 500 : 8) << i;
    EXPECT_EQ(count_words(mix.warm_up_prompt(i)), 8);
  }
}

TEST(LoadMixes, QuestionsComeFromEachCategoryInTurn) {
  const std::filesystem::path folder =
      std::filesystem::path(testing::TempDir()) / fmt::format("load-mix-{}", ::getpid());
  std::filesystem::create_directories(folder / "spec-bench");
  std::ofstream file(folder / "spec-bench/question.jsonl");
  const char* categories[] = {"qa", "qa", "rag", "qa"};
  for (int i = 0; i < 4; ++i) {
    file << R"({"question_id": )" << i << R"(, "category": ")" << categories[i] << R"(", "turns": ["q)" << i
         << R"(", "more"]})"
         << "\n";
  }
  file.close();
  const PromptMix mix = mix_of({.mix = LoadMix::kSpecBench, .data = folder.string()});
  std::vector<std::string> texts;
  for (uint64_t i = 0; i < 5; ++i) texts.push_back(mix.prompt(i));
  EXPECT_EQ(texts, (std::vector<std::string>{"q0", "q2", "q1", "q3", "q0"}));
  EXPECT_EQ(mix.warm_up_prompt(0), "q3");
  std::filesystem::remove_all(folder);
}

TEST(LoadMixes, QuestionsNeedAFolder) {
  const Result<PromptMix> none = PromptMix::open({.mix = LoadMix::kSpecBench});
  EXPECT_EQ(none.status().code(), Code::kInvalidArgument);
  const Result<PromptMix> missing = PromptMix::open({.mix = LoadMix::kSpecBench, .data = "/nowhere"});
  EXPECT_EQ(missing.status().code(), Code::kNotFound);
}

// 20,000 gaps of an exponential law with mean 1/rate: their mean has a standard error of 0.7 %, and the share above the
// mean, e^-1, one of 0.34 %; bounds are six of them (false alarm below 1e-8, and the seed is fixed).
TEST(PoissonArrivals, HaveExponentialGaps) {
  const double rate = 8;
  const std::vector<double> arrivals = poisson_arrivals(rate, 20000, 0, 3);
  ASSERT_EQ(arrivals.size(), 20000U);
  EXPECT_TRUE(std::is_sorted(arrivals.begin(), arrivals.end()));
  EXPECT_NEAR(arrivals.back() / 20000 * rate, 1, 0.0425);
  int above = 0;
  for (size_t i = 0; i < arrivals.size(); ++i) {
    above += arrivals[i] - (i == 0 ? 0 : arrivals[i - 1]) > 1 / rate ? 1 : 0;
  }
  EXPECT_NEAR(above / 20000.0, std::exp(-1.0), 0.0205);
}

TEST(PoissonArrivals, EndWithTheDurationAndFollowTheSeed) {
  const std::vector<double> arrivals = poisson_arrivals(50, 0, 10, 1);
  EXPECT_LT(arrivals.back(), 10);
  EXPECT_NEAR(static_cast<double>(arrivals.size()), 500, 6 * std::sqrt(500));
  EXPECT_EQ(arrivals, poisson_arrivals(50, 0, 10, 1));
  EXPECT_NE(arrivals, poisson_arrivals(50, 0, 10, 2));
}

}  // namespace
}  // namespace decant::cli
