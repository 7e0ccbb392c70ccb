// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Tests: what stands behind `is`.
#include <algorithm>

#include "text/jinja/characters.h"
#include "text/jinja/interpreter.h"

namespace decant::jinja {
namespace {

using Test = bool (*)(Interpreter& in, const Value& v, const Call& call);

const Value& operand(const Call& call) { return *Bound("the test", call, {"other"}, 1)[0]; }
void no_operand(const Call& call) { const Bound none("the test", call, {}); }

template <Kind kind>
bool has_kind(Interpreter&, const Value& v, const Call& call) {
  no_operand(call);
  return v.is(kind);
}

bool parity(Interpreter& in, const Value& v, bool odd) {
  return in.equal(in.binary(Op::kModulo, v, Value::of(int64_t{2})), Value::of(int64_t{odd ? 1 : 0}));
}

bool is_iterable(const Value& v) {
  return v.is(Kind::kUndefined) || v.is(Kind::kString) || v.is(Kind::kSequence) || v.is(Kind::kDict) ||
         v.is(Kind::kLoop);
}

template <Comparison op>
bool compares(Interpreter& in, const Value& v, const Call& call) {
  const Value& other = operand(call);
  Comparer comparer(in.budget());
  const bool numbers = v.is_number() && other.is_number();
  const int order = numbers ? compare_numbers(v, other) : 0;
  switch (op) {
    case Comparison::kEq: return comparer.equal(v, other);
    case Comparison::kNe: return !comparer.equal(v, other);
    case Comparison::kLt: return comparer.less(v, other);
    case Comparison::kGt: return comparer.less(other, v, ">");
    case Comparison::kLe: return numbers ? order <= 0 : !comparer.less(other, v, "<=");
    case Comparison::kGe: return numbers ? order == 0 || order == 1 : !comparer.less(v, other, ">=");
    default: return in.contains(other, v);
  }
}

bool in_case(Interpreter& in, const Value& v, const Call& call, std::string_view method) {
  no_operand(call);
  return truth(in.call_method(in.str_value(v), method, {}));
}

bool same(const Value& a, const Value& b) {
  if (a.kind != b.kind) return false;
  switch (a.kind) {
    case Kind::kNone: return true;
    case Kind::kBool: return a.boolean == b.boolean;
    case Kind::kInt: return a.integer == b.integer;
    case Kind::kFloat: return a.real == b.real;
    case Kind::kString: return a.bytes() == b.bytes();
    case Kind::kUndefined: return a.string == b.string;
    case Kind::kSequence:
      return a.sequence == b.sequence ||
             (a.sequence->flavor == Flavor::kTuple && b.sequence->flavor == Flavor::kTuple &&
              a.sequence->items.empty() && b.sequence->items.empty());
    case Kind::kDict:
    case Kind::kNamespace: return a.dict == b.dict;
    case Kind::kCallable: return a.callable == b.callable;
    case Kind::kLoop: return a.loop == b.loop;
  }
  return false;
}

struct TestEntry {
  std::string_view name;
  Test run;
};

constexpr TestEntry kTests[] = {
    {"boolean", has_kind<Kind::kBool>},
    {"callable",
     [](Interpreter&, const Value& v, const Call& call) {
       no_operand(call);
       return v.is(Kind::kUndefined) || v.is(Kind::kLoop) ||
              (v.is(Kind::kCallable) && v.callable->type != Callable::Type::kCycler);
     }},
    {"defined",
     [](Interpreter&, const Value& v, const Call& call) {
       no_operand(call);
       return !v.is_undefined();
     }},
    {"divisibleby",
     [](Interpreter& in, const Value& v, const Call& call) {
       const Value& by = operand(call);
       const Value rest = in.binary(Op::kModulo, v, by);
       return in.equal(rest, Value::of(int64_t{0}));
     }},
    {"escaped",
     [](Interpreter&, const Value& v, const Call& call) {
       no_operand(call);
       return v.is_string() && v.string->markup;
     }},
    {"even",
     [](Interpreter& in, const Value& v, const Call& call) {
       no_operand(call);
       return parity(in, v, false);
     }},
    {"false",
     [](Interpreter&, const Value& v, const Call& call) {
       no_operand(call);
       return v.is(Kind::kBool) && !v.boolean;
     }},
    {"filter",
     [](Interpreter&, const Value& v, const Call& call) {
       no_operand(call);
       return v.is_string() && is_known_filter(v.bytes());
     }},
    {"float", has_kind<Kind::kFloat>},
    {"integer", has_kind<Kind::kInt>},
    {"iterable",
     [](Interpreter&, const Value& v, const Call& call) {
       no_operand(call);
       return is_iterable(v);
     }},
    {"lower", [](Interpreter& in, const Value& v, const Call& call) { return in_case(in, v, call, "islower"); }},
    {"mapping", has_kind<Kind::kDict>},
    {"none", has_kind<Kind::kNone>},
    {"number",
     [](Interpreter&, const Value& v, const Call& call) {
       no_operand(call);
       return v.is_number();
     }},
    {"odd",
     [](Interpreter& in, const Value& v, const Call& call) {
       no_operand(call);
       return parity(in, v, true);
     }},
    {"sameas", [](Interpreter&, const Value& v, const Call& call) { return same(v, operand(call)); }},
    {"sequence",
     [](Interpreter&, const Value& v, const Call& call) {
       no_operand(call);
       return v.is(Kind::kUndefined) || v.is(Kind::kString) || v.is(Kind::kDict) ||
              (v.is(Kind::kSequence) && v.sequence->is_indexable());
     }},
    {"string", has_kind<Kind::kString>},
    {"test",
     [](Interpreter&, const Value& v, const Call& call) {
       no_operand(call);
       return v.is_string() && is_known_test(v.bytes());
     }},
    {"true",
     [](Interpreter&, const Value& v, const Call& call) {
       no_operand(call);
       return v.is(Kind::kBool) && v.boolean;
     }},
    {"undefined", has_kind<Kind::kUndefined>},
    {"upper", [](Interpreter& in, const Value& v, const Call& call) { return in_case(in, v, call, "isupper"); }},
    {"in", compares<Comparison::kIn>},
    {"==", compares<Comparison::kEq>},
    {"eq", compares<Comparison::kEq>},
    {"equalto", compares<Comparison::kEq>},
    {"!=", compares<Comparison::kNe>},
    {"ne", compares<Comparison::kNe>},
    {">", compares<Comparison::kGt>},
    {"gt", compares<Comparison::kGt>},
    {"greaterthan", compares<Comparison::kGt>},
    {">=", compares<Comparison::kGe>},
    {"ge", compares<Comparison::kGe>},
    {"<", compares<Comparison::kLt>},
    {"lt", compares<Comparison::kLt>},
    {"lessthan", compares<Comparison::kLt>},
    {"<=", compares<Comparison::kLe>},
    {"le", compares<Comparison::kLe>},
};

const TestEntry* find_test(std::string_view name) {
  const auto it =
      std::find_if(std::begin(kTests), std::end(kTests), [&](const TestEntry& t) { return t.name == name; });
  return it == std::end(kTests) ? nullptr : it;
}

}  // namespace

bool is_known_test(std::string_view name) { return find_test(name) != nullptr; }

bool Interpreter::test(std::string_view name, const Value& v, const Call& arguments) {
  const TestEntry* entry = find_test(name);
  if (entry == nullptr) fail_unsupported("there is no test '{}'", name.substr(0, 60));
  return entry->run(*this, v, arguments);
}

}  // namespace decant::jinja
