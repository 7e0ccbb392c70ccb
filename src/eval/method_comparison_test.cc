// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "eval/method_comparison.h"

#include <gtest/gtest.h>

#include <cmath>

#include "engine/test_util.h"

namespace decant {
namespace {

// An answer of `tokens` tokens in `steps` steps behind the prompt's.
TurnRecord turn(int tokens, int steps, double prefill, double decode) {
  TurnRecord t{.prompt_tokens = 5, .prefill_seconds = prefill, .decode_seconds = decode};
  for (int i = 0; i < tokens; ++i) t.tokens.push_back(100 + i);
  t.draft.steps = steps;
  return t;
}

TEST(Figures, AreThoseOfTheDefinitions) {
  // Plain: 10 and 40 tokens/s; with the method 20 and 40.
  std::vector<QuestionRecord> plain = {{turn(11, 10, 1, 1)}, {turn(41, 40, 1, 1)}};
  std::vector<QuestionRecord> method = {{turn(11, 5, 1, 0.5)}, {turn(41, 20, 1, 1)}};
  TurnRecord& t = method[0][0];
  t.draft.tried[0] = 4;
  t.draft.kept[0] = 3;
  t.draft.tried[1] = 2;
  t.draft.kept[1] = 1;
  t.draft.proposed = 30;
  t.draft.verified = 20;
  t.draft.draft_seconds = 0.1;
  t.draft.verify_seconds = 0.35;
  const Figures f = figures_of(method, plain);
  EXPECT_EQ(f.questions, 2);
  EXPECT_EQ(f.tokens, 52);
  EXPECT_DOUBLE_EQ(f.tokens_per_s, 30);
  EXPECT_DOUBLE_EQ(f.speedup, (20.0 + 40) / (10 + 40));
  EXPECT_DOUBLE_EQ(f.speedup_with_prefill, (11 / 1.5 + 41 / 2.0) / (11 / 2.0 + 41 / 2.0));
  EXPECT_DOUBLE_EQ(f.speedup_total, (50 / 1.5) / (50 / 2.0));
  EXPECT_DOUBLE_EQ(f.tokens_per_step, 50.0 / 25);
  ASSERT_EQ(f.acceptance.size(), 2U);
  EXPECT_DOUBLE_EQ(f.acceptance[0], 0.75);
  EXPECT_DOUBLE_EQ(f.acceptance[1], 0.5);
  EXPECT_DOUBLE_EQ(f.coverage, 4.0 / 25);
  EXPECT_DOUBLE_EQ(f.proposed, 30.0 / 25);
  EXPECT_DOUBLE_EQ(f.nodes, 20.0 / 25);
  EXPECT_DOUBLE_EQ(f.draft_ms, 100.0 / 25);
  EXPECT_DOUBLE_EQ(f.verify_ms, 350.0 / 25);
  EXPECT_DOUBLE_EQ(f.draft_share, 0.1 / 1.5);
  // Both questions alike, or one of them twice.
  EXPECT_NEAR(f.interval[0], 1.0, 1e-12);
  EXPECT_NEAR(f.interval[1], 2.0, 1e-12);
}

TEST(Figures, PlainAgainstPlainIsOne) {
  std::vector<QuestionRecord> plain;
  for (int i = 1; i < 20; ++i) plain.push_back({turn(i + 1, i, 0.1 * i, 0.01 * i * i), turn(2, 1, 1, 0.2)});
  const Figures f = figures_of(plain, plain);
  for (const double x :
       {f.speedup, f.interval[0], f.interval[1], f.speedup_with_prefill, f.speedup_total, f.tokens_per_step})
    EXPECT_DOUBLE_EQ(x, 1);
  EXPECT_EQ(f.turns, 38);
  const Agreement agreement = agreement_of(plain, plain);
  EXPECT_EQ(agreement.identical, 19);
  EXPECT_FALSE(agreement.first);
}

TEST(Figures, AnEndTokenIsDrawnAndAnAnswerOfOneTokenIsNotDecoded) {
  TurnRecord ended = turn(10, 10, 1, 1);
  ended.ended = true;
  TurnRecord empty = turn(0, 0, 1, 0);
  empty.ended = true;
  const std::vector<QuestionRecord> records = {{ended}, {empty}};
  const Figures f = figures_of(records, records);
  EXPECT_DOUBLE_EQ(f.tokens_per_step, 1);
  EXPECT_EQ(f.tokens, 12);
  EXPECT_DOUBLE_EQ(f.tokens_per_s, 10);  // of the first one alone
  EXPECT_TRUE(std::isnan(f.interval[0]));
  const Figures none = figures_of(std::span(records).last(1), std::span(records).last(1));
  EXPECT_TRUE(std::isnan(none.speedup));
  EXPECT_TRUE(std::isnan(none.tokens_per_step));
  EXPECT_DOUBLE_EQ(none.speedup_with_prefill, 1);
}

TEST(Figures, RepeatedFourGramsAreThoseThatStoodInTheSameAnswer) {
  TurnRecord t = turn(0, 8, 1, 1);
  t.tokens = {1, 2, 3, 4, 5, 1, 2, 3, 4};  // six 4-grams, the last one again
  TurnRecord other = turn(0, 3, 1, 1);
  other.tokens = {1, 2, 3, 4};
  const std::vector<QuestionRecord> records = {{t, other}};
  EXPECT_DOUBLE_EQ(figures_of(records, records).repeated_4grams, 1.0 / 7);
}

TEST(Figures, IntervalsAreWiderTheFewerQuestionsThereAre) {
  double before = 10;
  for (const int n : {4, 40, 400}) {
    std::vector<QuestionRecord> plain, method;
    for (int i = 0; i < n; ++i) {
      plain.push_back({turn(101, 100, 1, 1)});
      method.push_back({turn(101, 50, 1, i % 2 == 0 ? 0.5 : 1)});
    }
    const Figures f = figures_of(method, plain);
    EXPECT_DOUBLE_EQ(f.speedup, 1.5);
    EXPECT_LE(f.interval[0], 1.5);
    EXPECT_GE(f.interval[1], 1.5);
    EXPECT_LT(f.interval[1] - f.interval[0], before);
    before = f.interval[1] - f.interval[0];
  }
  // The mean of 400 fair draws of 1 and 2 has the deviation 0.025.
  EXPECT_NEAR(before, 2 * 1.96 * 0.025, 0.01);
}

TEST(Agreement, NamesTheFirstTokenThatDiffers) {
  const std::vector<QuestionRecord> plain = {
      {turn(5, 4, 1, 1)}, {turn(5, 4, 1, 1), turn(6, 5, 1, 1)}, {turn(5, 4, 1, 1)}};
  std::vector<QuestionRecord> method = plain;
  method[1][1].tokens[3] = 7;
  method[2][0].tokens.pop_back();
  const Agreement a = agreement_of(method, plain);
  EXPECT_EQ(a.identical, 1);
  ASSERT_TRUE(a.first);
  EXPECT_EQ(a.first->question, 1U);
  EXPECT_EQ(a.first->turn, 1U);
  EXPECT_EQ(a.first->index, 3U);
  method = plain;
  method[0][0].finish = FinishReason::kStop;
  ASSERT_TRUE(agreement_of(method, plain).first);
  EXPECT_EQ(agreement_of(method, plain).first->index, 5U);
}

// Proposes each token's follower in what it has seen, over all questions.
class Follower final : public DraftMethod {
 public:
  Result<std::unique_ptr<Drafter>> start(std::span<const TokenId>) override {
    ++starts;
    return std::unique_ptr<Drafter>(new Guess(*this));
  }
  size_t bytes() const override { return 77; }
  int starts = 0;
  std::vector<TokenId> after = std::vector<TokenId>(testing::kTinyVocab, -1);

 private:
  class Guess final : public Drafter {
   public:
    explicit Guess(Follower& method) : method_(method) {}
    Status propose(const DraftContext& context, TokenTree* tree) override {
      int parent = kRoot;
      for (TokenId t = context.tokens.back(); parent != kRefused && tree->depth(parent) < 4;) {
        t = method_.after[static_cast<size_t>(t)];
        if (t < 0) break;
        parent = tree->add(parent, t, 0.9f);
      }
      return {};
    }
    void observe(const DraftOutcome& outcome) override {
      TokenId last = outcome.before().back();
      for (const TokenId t : outcome.fresh()) {
        method_.after[static_cast<size_t>(last)] = t;
        last = t;
      }
    }

   private:
    Follower& method_;
  };
};

class CompareTest : public engine_testing::TinyModelTest {
 protected:
  void SetUp() override {
    open({.context = 256, .max_rows = 32});
    options_.max_tokens = 24;
    options_.sampler.temperature = 0;
    options_.encode = [this](const std::vector<ChatMessage>& messages) {
      prompts_.push_back(messages);
      std::string text;
      for (const ChatMessage& m : messages) text += m.role[0] + m.content + "\n";
      return tokenizer_->encode(text, {.parse_special = false});
    };
    questions_ = {{.id = "a", .category = "x", .turns = {"Hello"}, .place = "q: line 1"},
                  {.id = "b", .category = "y", .turns = {"One", "Two"}, .place = "q: line 2"},
                  {.id = "c", .category = "x", .turns = {"Three"}, .place = "q: line 3"}};
  }
  Result<std::vector<MethodRecord>> run(const std::function<void(size_t, size_t)>& progress = {}) {
    const ComparedMethod follower{.name = "follower",
                                  .make =
                                      [this]() {
                                        made_.push_back(std::make_shared<Follower>());
                                        return Result<std::shared_ptr<DraftMethod>>(made_.back());
                                      },
                                  .verifier = nullptr};
    return compare_methods(*engine_, *tokenizer_, questions_, {&follower, 1}, options_, progress);
  }

  ComparisonOptions options_;
  std::vector<Question> questions_;
  std::vector<std::vector<ChatMessage>> prompts_;
  std::vector<std::shared_ptr<Follower>> made_;
};

TEST_F(CompareTest, MethodsAnswerAsPlainDecodingDoes) {
  std::vector<std::pair<size_t, size_t>> order;
  const auto records = run([&](size_t question, size_t method) { order.emplace_back(question, method); });
  ASSERT_TRUE(records.ok()) << records.status().message();
  ASSERT_EQ(records->size(), 2U);
  EXPECT_EQ(records->at(0).name, "plain");
  EXPECT_EQ(records->at(1).bytes, 77U);
  const auto &plain = records->at(0).questions, &method = records->at(1).questions;
  ASSERT_EQ(plain.size(), 3U);
  EXPECT_EQ(plain[1].size(), 2U);
  EXPECT_EQ(agreement_of(method, plain).identical, 3);
  // Another one begins each time.
  EXPECT_EQ(order, (std::vector<std::pair<size_t, size_t>>{{0, 0}, {0, 1}, {1, 1}, {1, 0}, {2, 0}, {2, 1}}));
  // Tokens add up over steps, and a plain step gives one.
  for (const MethodRecord& record : *records) {
    for (const QuestionRecord& q : record.questions) {
      for (const TurnRecord& t : q) {
        EXPECT_EQ(t.decoded(), t.draft.steps + t.draft.accepted);
        EXPECT_GT(t.prefill_seconds, 0);
      }
    }
  }
  EXPECT_DOUBLE_EQ(figures_of(plain, plain).tokens_per_step, 1);
  // The second turn shows the first one's answer.
  bool shown = false;
  for (const auto& messages : prompts_) {
    if (messages.size() != 3 || messages[1].content.empty()) continue;
    shown = true;
    EXPECT_EQ(messages[1].role, "assistant");
    EXPECT_NE(plain[1][0].text.find(messages[1].content), std::string::npos);
  }
  EXPECT_TRUE(shown);
}

TEST_F(CompareTest, StateIsKeptOrNewForEachQuestion) {
  ASSERT_TRUE(run().ok());
  ASSERT_EQ(made_.size(), 1U);
  EXPECT_EQ(made_[0]->starts, 5);  // the warm-up and four turns
  made_.clear();
  options_.reset_state = true;
  ASSERT_TRUE(run().ok());
  ASSERT_EQ(made_.size(), 4U);
  EXPECT_EQ(made_[2]->starts, 2);
}

TEST_F(CompareTest, QuestionsThatDoNotFitAreRefusedByTheirPlace) {
  questions_[2].turns = {std::string(300, 'x')};
  auto refused = run();
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.status().message().find("q: line 3: turn 1"), std::string::npos) << refused.status().message();
  EXPECT_TRUE(made_.empty());  // nothing ran
  questions_[2].turns = {"x", "y"};
  options_.max_tokens = 255;
  refused = run();
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.status().message().find("q: line 2: turn 2"), std::string::npos) << refused.status().message();
}

TEST_F(CompareTest, CancellingEndsTheRun) {
  std::atomic<bool> cancel{true};
  options_.cancel = &cancel;
  const auto records = run();
  ASSERT_FALSE(records.ok());
  EXPECT_EQ(records.status().code(), Code::kCancelled);
  EXPECT_TRUE(records.status().message().empty());
}

}  // namespace
}  // namespace decant
