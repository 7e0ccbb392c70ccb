// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Arithmetic with Python's rules; integers have 64 bits, and what does not fit is an error.
#include <cmath>

#include "text/jinja/interpreter.h"

namespace decant::jinja {
namespace {

constexpr const char* kOverflow = "the result does not fit in 64 bits";

std::string_view sign_of(Op op) {
  switch (op) {
    case Op::kAdd: return "+";
    case Op::kSubtract: return "-";
    case Op::kMultiply: return "*";
    case Op::kDivide: return "/";
    case Op::kFloorDivide: return "//";
    case Op::kModulo: return "%";
    default: return "**";
  }
}

int64_t floor_divided(int64_t a, int64_t b) {
  if (b == 0) fail("division by zero");
  if (a == INT64_MIN && b == -1) fail("{}", kOverflow);
  return a / b - (a % b != 0 && (a < 0) != (b < 0) ? 1 : 0);
}

int64_t floor_modulo(int64_t a, int64_t b) {
  if (b == 0) fail("division by zero");
  if (b == -1) return 0;
  const int64_t rest = a % b;
  return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}

double float_modulo(double a, double b) {
  if (b == 0) fail("division by zero");
  double rest = std::fmod(a, b);
  if (rest != 0) {
    if ((b < 0) != (rest < 0)) rest += b;
  } else {
    rest = std::copysign(0.0, b);
  }
  return rest;
}

double float_floor_divided(double a, double b) {
  if (b == 0) fail("division by zero");
  double rest = std::fmod(a, b);
  double quotient = (a - rest) / b;
  if (rest != 0 && (b < 0) != (rest < 0)) quotient -= 1.0;
  if (quotient == 0) return std::copysign(0.0, a / b);
  const double floor = std::floor(quotient);
  return quotient - floor > 0.5 ? floor + 1.0 : floor;
}

int64_t integer_power(int64_t base, int64_t exponent) {
  int64_t out = 1;
  while (exponent > 0) {
    if ((exponent & 1) != 0 && __builtin_mul_overflow(out, base, &out)) fail("{}", kOverflow);
    exponent >>= 1;
    if (exponent > 0 && __builtin_mul_overflow(base, base, &base)) fail("{}", kOverflow);
  }
  return out;
}

Value power(const Value& a, const Value& b) {
  if (a.is_integral() && b.is_integral() && b.as_int() >= 0) {
    const int64_t base = a.as_int();
    if (base == 0 || base == 1) return Value::of(b.as_int() == 0 ? int64_t{1} : base);
    if (base == -1) return Value::of(b.as_int() % 2 == 0 ? int64_t{1} : int64_t{-1});
    return Value::of(integer_power(base, b.as_int()));
  }
  const double x = a.as_double(), y = b.as_double();
  if (x == 0 && y < 0) fail("0 cannot be raised to a negative power");
  if (x < 0 && y != std::floor(y) && std::isfinite(x) && std::isfinite(y)) {
    fail("a negative number cannot be raised to a fraction");
  }
  const double out = std::pow(x, y);
  if (std::isinf(out) && std::isfinite(x) && std::isfinite(y)) fail("the result is too large");
  return Value::of(out);
}

Value integer_result(Op op, int64_t a, int64_t b) {
  int64_t out = 0;
  bool overflow = false;
  switch (op) {
    case Op::kAdd: overflow = __builtin_add_overflow(a, b, &out); break;
    case Op::kSubtract: overflow = __builtin_sub_overflow(a, b, &out); break;
    case Op::kMultiply: overflow = __builtin_mul_overflow(a, b, &out); break;
    case Op::kFloorDivide: out = floor_divided(a, b); break;
    default: out = floor_modulo(a, b); break;
  }
  if (overflow) fail("{}", kOverflow);
  return Value::of(out);
}

Value number_result(Op op, const Value& a, const Value& b) {
  if (op == Op::kPower) return power(a, b);
  if (a.is_integral() && b.is_integral() && op != Op::kDivide) return integer_result(op, a.as_int(), b.as_int());
  const double x = a.as_double(), y = b.as_double();
  switch (op) {
    case Op::kAdd: return Value::of(x + y);
    case Op::kSubtract: return Value::of(x - y);
    case Op::kMultiply: return Value::of(x * y);
    case Op::kDivide:
      if (y == 0) fail("division by zero");
      return Value::of(x / y);
    case Op::kFloorDivide: return Value::of(float_floor_divided(x, y));
    default: return Value::of(float_modulo(x, y));
  }
}

}  // namespace

Value Interpreter::binary(Op op, const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) return number_result(op, a, b);
  if (op == Op::kModulo && a.is_string()) return format_percent(a, b);
  if (a.is_undefined()) fail_undefined(a);
  if (b.is_undefined()) fail_undefined(b);
  if (op == Op::kAdd && a.is_string() && b.is_string()) {
    const bool markup = a.string->markup || b.string->markup;
    Builder out(budget_);
    out.append(markup ? escaped(a).text() : a.text());
    out.append(markup ? escaped(b).text() : b.text());
    return string(out.take(), markup);
  }
  const auto is_list = [](const Value& v) {
    return v.is(Kind::kSequence) && (v.sequence->flavor == Flavor::kList || v.sequence->flavor == Flavor::kTuple);
  };
  if (op == Op::kAdd && is_list(a) && is_list(b) && a.sequence->flavor == b.sequence->flavor) {
    std::vector<Value> items;
    const auto &x = a.sequence->items, &y = b.sequence->items;
    budget_.take((x.size() + y.size()) * sizeof(Value));
    items.reserve(x.size() + y.size());
    items.insert(items.end(), x.begin(), x.end());
    items.insert(items.end(), y.begin(), y.end());
    budget_.give((x.size() + y.size()) * sizeof(Value));
    return sequence(std::move(items), a.sequence->flavor);
  }
  if (op == Op::kMultiply && (a.is_integral() || b.is_integral())) {
    const Value& v = a.is_integral() ? b : a;
    const int64_t times = std::max<int64_t>((a.is_integral() ? a : b).as_int(), 0);
    if (v.is_string()) {
      if (v.text().size() == 0) return v;
      if (times > static_cast<int64_t>(budget_.limits().string_bytes)) budget_.check_string(SIZE_MAX);
      budget_.check_string(static_cast<size_t>(times) * v.text().size());
      Builder out(budget_);
      for (int64_t i = 0; i < times; ++i) out.append(v.text());
      return string(out.take(), v.string->markup);
    }
    if (is_list(v)) {
      const auto& items = v.sequence->items;
      std::vector<Value> out;
      if (!items.empty()) {
        const auto count = static_cast<size_t>(times);
        if (count > budget_.limits().memory_bytes / sizeof(Value)) budget_.take(budget_.limits().memory_bytes + 1);
        const size_t bytes = count * items.size() * sizeof(Value);
        if (items.size() > budget_.limits().memory_bytes / sizeof(Value))
          budget_.take(budget_.limits().memory_bytes + 1);
        budget_.take(bytes);
        out.reserve(count * items.size());
        for (size_t i = 0; i < count; ++i) out.insert(out.end(), items.begin(), items.end());
        budget_.give(bytes);
      }
      return sequence(std::move(out), v.sequence->flavor);
    }
  }
  fail("'{}' is not supported between {} and {}", sign_of(op), type_name(a), type_name(b));
}

}  // namespace decant::jinja
