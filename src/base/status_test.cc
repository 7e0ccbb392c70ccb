// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "base/status.h"

#include <gtest/gtest.h>

#include <memory>
#include <set>
#include <string>

namespace decant {
namespace {

Result<int> half_of(int x) {
  if (x % 2 != 0) return Status::invalid_argument("{} is odd", x);
  return x / 2;
}

Result<int> quarter_of(int x) {
  DECANT_TRY(const int half, half_of(x));
  DECANT_TRY(const int quarter, half_of(half));
  return quarter;
}

Status check_even(int x, bool* reached_end) {
  DECANT_TRY_STATUS(half_of(x).status());
  *reached_end = true;
  return {};
}

TEST(Status, DefaultIsOkWithoutMessage) {
  const Status status;
  EXPECT_TRUE(status.ok());
  EXPECT_EQ(status.code(), Code::kOk);
  EXPECT_EQ(status.message(), "");
}

TEST(Status, KeepsCodeAndFormattedMessage) {
  const Status status = Status::corrupt("{}: byte {}", "a.gguf", 7);
  EXPECT_FALSE(status.ok());
  EXPECT_EQ(status.code(), Code::kCorrupt);
  EXPECT_EQ(status.message(), "a.gguf: byte 7");
}

TEST(Status, EveryConstructorHasItsCode) {
  EXPECT_EQ(Status::invalid_argument("x").code(), Code::kInvalidArgument);
  EXPECT_EQ(Status::not_found("x").code(), Code::kNotFound);
  EXPECT_EQ(Status::corrupt("x").code(), Code::kCorrupt);
  EXPECT_EQ(Status::unsupported("x").code(), Code::kUnsupported);
  EXPECT_EQ(Status::exhausted("x").code(), Code::kExhausted);
  EXPECT_EQ(Status::cancelled("x").code(), Code::kCancelled);
  EXPECT_EQ(Status::io("x").code(), Code::kIo);
  EXPECT_EQ(Status::internal("x").code(), Code::kInternal);
}

TEST(Status, CodesHaveDistinctNames) {
  std::set<std::string_view> names;
  for (int code = 0; code <= static_cast<int>(Code::kInternal); ++code)
    names.insert(code_name(static_cast<Code>(code)));
  EXPECT_EQ(names.size(), static_cast<size_t>(Code::kInternal) + 1);
  EXPECT_FALSE(names.contains("unknown"));
}

TEST(Status, CopyIsIndependentOfItsSource) {
  Status a = Status::not_found("a");
  const Status b = a;
  a = Status();
  EXPECT_TRUE(a.ok());
  EXPECT_EQ(b.message(), "a");
  a = b;
  EXPECT_EQ(a.code(), Code::kNotFound);
  const Status& self = a;
  a = self;
  EXPECT_EQ(a.message(), "a");
}

TEST(Status, ContextGoesBeforeTheMessageAndLeavesOkAlone) {
  EXPECT_EQ(Status::io("disk").with_context("model.gguf").message(), "model.gguf: disk");
  EXPECT_EQ(Status::io("disk").with_context("x").code(), Code::kIo);
  EXPECT_TRUE(Status().with_context("x").ok());
}

TEST(Result, HoldsAValueOrAStatus) {
  EXPECT_EQ(half_of(8).value(), 4);
  const Result<int> bad = half_of(3);
  EXPECT_FALSE(bad.ok());
  EXPECT_EQ(bad.status().message(), "3 is odd");
}

TEST(Result, MadeFromOkStatusIsAnInternalError) {
  const Result<int> result = Status();
  EXPECT_FALSE(result.ok());
  EXPECT_EQ(result.status().code(), Code::kInternal);
}

TEST(Result, CarriesMoveOnlyValues) {
  Result<std::unique_ptr<int>> result = std::make_unique<int>(5);
  const std::unique_ptr<int> owned = *std::move(result);
  EXPECT_EQ(*owned, 5);
}

TEST(Try, PassesTheFirstFailureOn) {
  EXPECT_EQ(quarter_of(12).value(), 3);
  EXPECT_EQ(quarter_of(6).status().message(), "3 is odd");
  EXPECT_EQ(quarter_of(5).status().message(), "5 is odd");
}

TEST(Try, StatusFormReturnsEarlyOnFailureOnly) {
  bool reached_end = false;
  EXPECT_FALSE(check_even(3, &reached_end).ok());
  EXPECT_FALSE(reached_end);
  EXPECT_TRUE(check_even(4, &reached_end).ok());
  EXPECT_TRUE(reached_end);
}

TEST(CheckDeathTest, NamesTheExpression) { EXPECT_DEATH(DECANT_CHECK(1 + 1 == 3), "status_test.cc:.*1 \\+ 1 == 3"); }

}  // namespace
}  // namespace decant
