// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "constrain/number_language.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace decant {
namespace {

bool has(RegexPool& pool, RegexId id, std::string_view text) {
  for (const char c : text) id = pool.derive(id, pool.class_of(static_cast<unsigned char>(c)));
  return pool.nullable(id);
}

TEST(Decimal, IsExact) {
  EXPECT_EQ(parse_decimal("1.50"), (Decimal{false, "15", -1}));
  EXPECT_EQ(parse_decimal("-0.0e5"), Decimal());
  EXPECT_EQ(parse_decimal("12e+2"), parse_decimal("1200.0"));
  EXPECT_EQ(parse_decimal("100").as_count(100), 100);
  EXPECT_EQ(parse_decimal("1e2").as_count(99), std::nullopt);
  EXPECT_EQ(parse_decimal("1.5").as_count(99), std::nullopt);
  EXPECT_EQ(parse_decimal("123.456").split()->second, "456");
  EXPECT_EQ(parse_decimal("0.001").split()->second, "001");
  EXPECT_FALSE(parse_decimal("1e500").split().ok());
}

TEST(NumberLanguage, Spellings) {
  RegexPool pool;
  const RegexId any = any_number(&pool), plain = plain_number(&pool), whole = whole_number(&pool);
  pool.freeze();
  for (const char* text : {"0", "-0", "10", "1.5", "-0.25", "1e5", "1E+05", "2.5e-3"})
    EXPECT_TRUE(has(pool, any, text)) << text;
  for (const char* text : {"", "-", "01", "+1", ".5", "1.", "1e", "1e+", "--1", "0x1", "1 "})
    EXPECT_FALSE(has(pool, any, text)) << text;
  EXPECT_FALSE(has(pool, plain, "1e5"));
  EXPECT_TRUE(has(pool, whole, "-12.000"));
  EXPECT_FALSE(has(pool, whole, "1.50"));
}

// Every bound, multiple and value against arithmetic in thousandths.
TEST(NumberLanguage, AgreesWithArithmetic) {
  std::mt19937 random(3);
  const auto text_of = [](int64_t thousandths, int more_zeros) {
    const int64_t size = std::abs(thousandths);
    std::string text = (thousandths < 0 ? "-" : "") + std::to_string(size / 1000);
    std::string fraction = std::to_string(1000 + size % 1000).substr(1);
    while (fraction.ends_with('0')) fraction.pop_back();
    fraction += std::string(static_cast<size_t>(more_zeros), '0');
    return fraction.empty() ? text : text + "." + fraction;
  };
  for (int i = 0; i < 300; ++i) {
    const auto value = [&] {
      const int64_t scale[] = {1, 10, 1000, 1000};
      const int64_t range[] = {30, 300, 30, 1500};
      const size_t k = random() % 4;
      return (static_cast<int64_t>(random() % static_cast<uint32_t>(2 * range[k])) - range[k]) * scale[k];
    };
    const int64_t limit = value();
    RegexPool pool;
    const Decimal decimal = parse_decimal(text_of(limit, 0));
    const RegexId plain = plain_number(&pool);
    const auto bound = [&](Bound b) { return pool.conj({plain, *bounded_number(b, decimal, &pool)}); };
    const RegexId ids[] = {
        bound(Bound::kMinimum),           bound(Bound::kExclusiveMinimum),
        bound(Bound::kMaximum),           bound(Bound::kExclusiveMaximum),
        *number_equal_to(decimal, &pool), limit > 0 ? pool.conj({plain, *multiple_of(decimal, &pool)}) : pool.none()};
    pool.freeze();
    for (int j = 0; j < 60; ++j) {
      int64_t v = value();
      if (j % 5 == 0) v = limit;
      if (j % 7 == 0 && limit > 0) v = limit * (static_cast<int64_t>(random() % 9) - 4);
      const std::string text = text_of(v, static_cast<int>(random() % 3));
      const bool want[] = {v >= limit, v > limit, v <= limit, v<limit, v == limit, limit> 0 && v % limit == 0};
      for (size_t k = 0; k < 6; ++k) {
        ASSERT_EQ(has(pool, ids[k], text), want[k]) << text << " and " << text_of(limit, 0) << ", " << k;
      }
    }
  }
}

TEST(NumberLanguage, LivenessKnowsBounds) {
  RegexPool pool;
  const RegexId port = pool.conj({whole_number(&pool), *bounded_number(Bound::kMinimum, parse_decimal("1"), &pool),
                                  *bounded_number(Bound::kMaximum, parse_decimal("65535"), &pool)});
  const RegexId none =
      pool.conj({whole_number(&pool), *bounded_number(Bound::kExclusiveMinimum, parse_decimal("1"), &pool),
                 *bounded_number(Bound::kExclusiveMaximum, parse_decimal("2"), &pool)});
  const RegexId sevens = pool.conj({whole_number(&pool), *multiple_of(parse_decimal("7"), &pool),
                                    *bounded_number(Bound::kMinimum, parse_decimal("15"), &pool),
                                    *bounded_number(Bound::kMaximum, parse_decimal("20"), &pool)});
  pool.freeze();
  const auto after = [&](RegexId id, std::string_view text) {
    for (const char c : text) id = pool.derive(id, pool.class_of(static_cast<unsigned char>(c)));
    return pool.live(id);
  };
  EXPECT_TRUE(after(port, "6553"));
  EXPECT_TRUE(after(port, "65535."));
  EXPECT_FALSE(after(port, "65536"));
  EXPECT_FALSE(after(port, "-"));
  EXPECT_FALSE(after(port, "0."));
  EXPECT_FALSE(pool.live(none));
  EXPECT_FALSE(pool.live(sevens));
  EXPECT_EQ(pool.searches_given_up(), 0);
}

}  // namespace
}  // namespace decant
