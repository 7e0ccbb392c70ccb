// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Filters: what stands behind `|`. tojson is transformers' (json.dumps without escapes for HTML), the others jinja2's.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>

#include "text/jinja/characters.h"
#include "text/jinja/interpreter.h"

namespace decant::jinja {
namespace {

using Filter = Value (*)(Interpreter& in, const Value& v, const Call& call);

Value iterator(Interpreter& in, std::vector<Value> items) { return in.sequence(std::move(items), Flavor::kIterator); }

bool flag(const Value* v, bool missing = false) { return v == nullptr ? missing : truth(*v); }

Value lowered(Interpreter& in, const Value& v) { return v.is_string() ? in.in_case(v, "lower") : v; }

// --- Strings

template <const char* kMethod>
Value in_case(Interpreter& in, const Value& v, const Call& call) {
  const Bound none(kMethod, call, {});
  return in.in_case(in.soft_str(v), kMethod);
}
constexpr char kUpperName[] = "upper";
constexpr char kLowerName[] = "lower";
constexpr char kCapitalizeName[] = "capitalize";

// Words begin at the start and behind blanks, hyphens and opening brackets; str.title() has other rules.
Value title(Interpreter& in, const Value& v, const Call& call) {
  const Bound none("title", call, {});
  const Value s = in.soft_str(v);
  const std::string& bytes = s.bytes();
  Builder out(in.budget());
  bool starts = true;
  for (size_t at = 0; at < bytes.size();) {
    const Char c = char_at(bytes, at);
    at = c.end;
    const bool separates =
        is_space(c.code) || c.code == '-' || c.code == '(' || c.code == '{' || c.code == '[' || c.code == '<';
    std::string changed;
    if (separates || (c.code >= 0xDC00 && c.code < 0xE000)) {
      changed = bytes.substr(c.begin, c.end - c.begin);
    } else {
      append_in_case(c.code, starts ? Case::kUpper : Case::kLower, &changed);
    }
    starts = separates;
    out.append(changed, s.text().is_content(c.begin));
  }
  return in.string(out.take(), s.string->markup);
}

Value trim(Interpreter& in, const Value& v, const Call& call) {
  const Bound b("trim", call, {"chars"});
  return in.stripped(in.soft_str(v), b[0], true, true);
}

Value replace(Interpreter& in, const Value& v, const Call& call) {
  const Bound b("replace", call, {"old", "new", "count"}, 2);
  const int64_t count = b[2] == nullptr || b[2]->is_none() ? -1 : in.integer(*b[2], "replace");
  return in.replaced(in.str_value(v), in.str(*b[0]), in.str(*b[1]), count);
}

Value indent(Interpreter& in, const Value& v, const Call& call) {
  const Bound b("indent", call, {"width", "first", "blank"});
  if (v.is_undefined()) fail_undefined(v);
  if (!v.is_string()) fail("indent needs a string, and got a value of type {}", type_name(v));
  Text by;
  if (b[0] != nullptr && b[0]->is_string()) {
    by = b[0]->text();
  } else {
    const int64_t width = b[0] == nullptr ? 4 : in.integer(*b[0], "indent");
    if (width > 0) {
      in.budget().check_string(static_cast<size_t>(width));
      by.append(std::string(static_cast<size_t>(width), ' '), false);
    }
  }
  const bool first = flag(b[1]), blank = flag(b[2]);
  Call keep;
  const Value ended = in.binary(Op::kAdd, v, in.string("\n"));
  const std::vector<Value> lines = in.iterate(in.call_method(ended, "splitlines", {}));
  Builder out(in.budget());
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) out.own("\n");
    if (i == 0 ? first : blank || lines[i].text().size() > 0) out.append(by);
    out.append(lines[i].text());
  }
  return in.string(out.take(), v.string->markup);
}

Value center(Interpreter& in, const Value& v, const Call& call) {
  const Bound b("center", call, {"width"});
  return in.call_method(in.soft_str(v), "center", {{b[0] == nullptr ? Value::of(int64_t{80}) : *b[0]}, {}});
}

Value truncate(Interpreter& in, const Value& v, const Call& call) {
  const Bound b("truncate", call, {"length", "killwords", "end", "leeway"});
  const int64_t length = b[0] == nullptr ? 255 : in.integer(*b[0], "truncate");
  const Value end = b[2] == nullptr ? in.string("...") : in.soft_str(*b[2]);
  const int64_t leeway = b[3] == nullptr || b[3]->is_none() ? 5 : in.integer(*b[3], "truncate");
  const auto end_size = static_cast<int64_t>(in.length(end));
  if (length < end_size || leeway < 0)
    fail("truncate needs a length of at least {} and a leeway of at least 0", end_size);
  const auto size = static_cast<int64_t>(in.length(v));
  if (size <= leeway || size - leeway <= length) return v;
  if (!v.is_string()) fail("truncate needs a string, and got a value of type {}", type_name(v));
  const Value& s = v;
  Value kept = in.substring(s, 0, char_offset(s.bytes(), static_cast<size_t>(length - end_size)));
  if (!flag(b[1])) {
    const size_t blank = kept.bytes().rfind(' ');
    if (blank != std::string::npos) kept = in.substring(kept, 0, blank);
  }
  return in.binary(Op::kAdd, kept, end);
}

Value wordcount(Interpreter& in, const Value& v, const Call& call) {
  const Bound none("wordcount", call, {});
  const Value s = in.soft_str(v);
  int64_t words = 0;
  bool in_word = false;
  in.budget().work(s.text().size());
  for (size_t at = 0; at < s.bytes().size();) {
    const Char c = char_at(s.bytes(), at);
    const bool is_word = c.code == '_' || is_alpha(c.code) || is_numeric(c.code) || is_decimal(c.code);
    if (is_word && !in_word) ++words;
    in_word = is_word;
    at = c.end;
  }
  return Value::of(words);
}

Value string_filter(Interpreter& in, const Value& v, const Call& call) {
  const Bound none("string", call, {});
  return in.soft_str(v);
}

Value safe(Interpreter& in, const Value& v, const Call& call) {
  const Bound none("safe", call, {});
  return in.string(in.str(v), true);
}

Value escape(Interpreter& in, const Value& v, const Call& call) {
  const Bound none("escape", call, {});
  return in.escaped(v);
}

Value forceescape(Interpreter& in, const Value& v, const Call& call) {
  const Bound none("forceescape", call, {});
  return in.escaped(in.str_value(v));
}

Value format(Interpreter& in, const Value& v, const Call& call) {
  if (!call.positional.empty() && !call.named.empty()) fail("format takes arguments with names or without, not both");
  if (!call.named.empty()) {
    Value names = in.dict();
    for (const auto& [name, value] : call.named) in.insert(names.dict, in.string(name), value);
    return in.format_percent(in.soft_str(v), names);
  }
  return in.format_percent(in.soft_str(v), in.sequence(call.positional, Flavor::kTuple));
}

// --- JSON

Value tojson(Interpreter& in, const Value& v, const Call& call) {
  const Bound b("tojson", call, {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style;
  style.ensure_ascii = flag(b[0]);
  style.sort_keys = flag(b[3]);
  if (b[1] != nullptr && !b[1]->is_none()) {
    style.indented = true;
    if (b[1]->is_string()) {
      style.indent = b[1]->text();
    } else {
      const int64_t width = in.integer(*b[1], "tojson");
      if (width > 1000) fail("tojson: an indent of more than 1000");
      style.indent.append(std::string(static_cast<size_t>(std::max<int64_t>(width, 0)), ' '), false);
    }
  }
  if (b[2] != nullptr && !b[2]->is_none()) {
    const std::vector<Value> two = in.iterate(*b[2]);
    if (two.size() != 2 || !two[0].is_string() || !two[1].is_string()) fail("tojson: separators needs two strings");
    style.item_separator = two[0].text();
    style.key_separator = two[1].text();
  } else {
    style.item_separator.append(style.indented ? "," : ", ", false);
    style.key_separator.append(": ", false);
  }
  Builder out(in.budget());
  append_json(v, style, in.budget(), &out);
  return in.string(out.take());
}

// --- Numbers

Value to_float(const Value& v) {
  if (v.is_number()) return Value::of(v.as_double());
  if (!v.is_string()) return Value::none();
  std::string_view text = v.bytes();
  while (!text.empty() && is_space(char_at(text, 0).code)) text.remove_prefix(char_at(text, 0).end);
  while (!text.empty() && static_cast<uint8_t>(text.back()) <= 0x20 && is_space(static_cast<uint8_t>(text.back()))) {
    text.remove_suffix(1);
  }
  std::string digits;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool between = text[i] == '_' && i > 0 && i + 1 < text.size() &&
                         std::isdigit(static_cast<unsigned char>(text[i - 1])) != 0 &&
                         std::isdigit(static_cast<unsigned char>(text[i + 1])) != 0;
    if (!between) digits += text[i];
  }
  // strtod also reads hexadecimal numbers and "nan(...)", which Python's float() does not.
  if (digits.empty() || digits.size() > 1000 || digits.find_first_of("xXpP(") != std::string::npos)
    return Value::none();
  char* end = nullptr;
  const double d = std::strtod(digits.c_str(), &end);
  if (std::isspace(static_cast<unsigned char>(digits[0])) != 0 || end != digits.c_str() + digits.size())
    return Value::none();
  return Value::of(d);
}

// int(text, base), or none. `overflow`: it is a number, but too large.
Value to_int(std::string_view text, int base, bool* overflow) {
  while (!text.empty() && is_space(char_at(text, 0).code)) text.remove_prefix(char_at(text, 0).end);
  while (!text.empty() && static_cast<uint8_t>(text.back()) <= 0x20 && is_space(static_cast<uint8_t>(text.back()))) {
    text.remove_suffix(1);
  }
  bool negative = false;
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) {
    negative = text[0] == '-';
    text.remove_prefix(1);
  }
  if (text.size() > 2 && text[0] == '0') {
    const char mark = static_cast<char>(std::tolower(static_cast<unsigned char>(text[1])));
    const int marked = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 0;
    if (marked != 0 && (base == marked || base == 0)) {
      base = marked;
      text.remove_prefix(2);
      if (!text.empty() && text[0] == '_') text.remove_prefix(1);
    }
  }
  if (base == 0) {
    base = 10;
    if (text.size() > 1 && text[0] == '0' && text.find_first_not_of("0_") != std::string_view::npos)
      return Value::none();
  }
  int64_t out = 0;
  bool after_digit = false;
  for (const char c : text) {
    if (c == '_') {
      if (!after_digit) return Value::none();
      after_digit = false;
      continue;
    }
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'a' && c <= 'z' ? c - 'a' + 10
                      : c >= 'A' && c <= 'Z' ? c - 'A' + 10
                                             : 99;
    if (digit >= base) return Value::none();
    after_digit = true;
    if (__builtin_mul_overflow(out, static_cast<int64_t>(base), &out) ||
        (negative ? __builtin_sub_overflow(out, static_cast<int64_t>(digit), &out)
                  : __builtin_add_overflow(out, static_cast<int64_t>(digit), &out))) {
      *overflow = true;
    }
  }
  if (!after_digit) return Value::none();
  return Value::of(out);
}

Value int_filter(Interpreter& in, const Value& v, const Call& call) {
  const Bound b("int", call, {"default", "base"});
  const Value missing = b[0] == nullptr ? Value::of(int64_t{0}) : *b[0];
  const int64_t base = b[1] == nullptr ? 10 : in.integer(*b[1], "int");
  if (v.is_undefined()) fail_undefined(v);
  if (v.is_integral()) return Value::of(v.as_int());
  Value real = v;
  if (v.is_string()) {
    if (base != 0 && (base < 2 || base > 36)) {
      real = to_float(v);
    } else {
      bool overflow = false;
      const Value whole = to_int(v.bytes(), static_cast<int>(base), &overflow);
      if (overflow) fail("int: the number does not fit in 64 bits");
      if (!whole.is_none()) return whole;
      real = to_float(v);
    }
  }
  if (!real.is(Kind::kFloat) || !std::isfinite(real.real)) {
    // int(inf) is an OverflowError that only the second attempt, of strings, forgives.
    return missing;
  }
  if (!(std::fabs(real.real) < 9223372036854775808.0)) fail("int: the number does not fit in 64 bits");
  return Value::of(static_cast<int64_t>(real.real));
}

Value float_filter(Interpreter&, const Value& v, const Call& call) {
  const Bound b("float", call, {"default"});
  if (v.is_undefined()) fail_undefined(v);
  const Value out = to_float(v);
  return !out.is_none() ? out : b[0] == nullptr ? Value::of(0.0) : *b[0];
}

Value abs_filter(Interpreter&, const Value& v, const Call& call) {
  const Bound none("abs", call, {});
  if (v.is_undefined()) fail_undefined(v);
  if (v.is(Kind::kFloat)) return Value::of(std::fabs(v.real));
  if (!v.is_integral()) fail("abs needs a number, and got a value of type {}", type_name(v));
  if (v.as_int() == INT64_MIN) fail("the result does not fit in 64 bits");
  return Value::of(std::abs(v.as_int()));
}

Value round_filter(Interpreter& in, const Value& v, const Call& call) {
  const Bound b("round", call, {"precision", "method"});
  const int64_t precision = b[0] == nullptr ? 0 : in.integer(*b[0], "round");
  const std::string method = b[1] == nullptr ? "common" : in.str(*b[1]).bytes();
  if (method != "common" && method != "ceil" && method != "floor") fail("round: the method is common, ceil or floor");
  if (v.is_undefined()) fail_undefined(v);
  if (!v.is_number()) fail("round needs a number, and got a value of type {}", type_name(v));
  if (precision > 300 || precision < -300) fail("round: a precision from -300 to 300");
  if (method != "common") {
    const double scale = std::pow(10.0, static_cast<double>(precision));
    const double scaled = v.as_double() * scale;
    if (!std::isfinite(scaled)) fail("round: the number is not finite");
    return Value::of((method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale);
  }
  if (v.is_integral() && precision >= 0) return Value::of(v.as_int());
  if (v.is_integral()) {  // to tens, hundreds, ...; halves to even
    if (precision < -18) return Value::of(int64_t{0});
    __int128 unit = 1;
    for (int64_t i = 0; i < -precision; ++i) unit *= 10;
    const __int128 n = v.as_int();
    __int128 quotient = n / unit;
    __int128 rest = n % unit;
    if (rest < 0) {
      rest += unit;
      --quotient;
    }
    if (rest * 2 > unit || (rest * 2 == unit && quotient % 2 != 0)) ++quotient;
    const __int128 out = quotient * unit;
    if (out > INT64_MAX || out < INT64_MIN) fail("the result does not fit in 64 bits");
    return Value::of(static_cast<int64_t>(out));
  }
  if (!std::isfinite(v.real)) return v;
  if (precision < 0) {
    const double unit = std::pow(10.0, static_cast<double>(-precision));
    return Value::of(std::nearbyint(v.real / unit) * unit);
  }
  // printf rounds the exact value, halves to even, as Python does.
  std::string text(static_cast<size_t>(precision) + 400, '\0');
  text.resize(
      static_cast<size_t>(std::snprintf(text.data(), text.size(), "%.*f", static_cast<int>(precision), v.real)));
  return Value::of(std::strtod(text.c_str(), nullptr));
}

Value sum(Interpreter& in, const Value& v, const Call& call) {
  const Bound b("sum", call, {"attribute", "start"});
  Value total = b[1] == nullptr ? Value::of(int64_t{0}) : *b[1];
  if (total.is_string()) fail("sum does not join strings; use join");
  for (const Value& item : in.iterate(v)) {
    total = in.binary(Op::kAdd, total, b[0] == nullptr || b[0]->is_none() ? item : in.path(item, *b[0]));
  }
  return total;
}

// --- Sequences

Value length(Interpreter& in, const Value& v, const Call& call) {
  const Bound none("length", call, {});
  return Value::of(static_cast<int64_t>(in.length(v)));
}

Value first(Interpreter& in, const Value& v, const Call& call) {
  const Bound none("first", call, {});
  if (v.is(Kind::kSequence)) {
    std::vector<Value>& items = v.sequence->items;
    if (v.sequence->failure != nullptr) throw *v.sequence->failure;
    if (items.empty()) return in.undefined("there is no first item, the sequence is empty");
    const Value item = items.front();
    if (v.sequence->flavor == Flavor::kIterator) items.erase(items.begin());
    return item;
  }
  const std::vector<Value> items = in.iterate(v);
  return items.empty() ? in.undefined("there is no first item, the sequence is empty") : items.front();
}

void need_reversible(const Value& v) {
  if (v.is(Kind::kSequence) && v.sequence->flavor == Flavor::kIterator)
    fail("last does not work with a generator; use list before it");
}

Value last(Interpreter& in, const Value& v, const Call& call) {
  const Bound none("last", call, {});
  need_reversible(v);
  const std::vector<Value> items = in.iterate(v);
  return items.empty() ? in.undefined("there is no last item, the sequence is empty") : items.back();
}

Value reverse(Interpreter& in, const Value& v, const Call& call) {
  const Bound none("reverse", call, {});
  std::vector<Value> items = in.iterate(v);
  std::reverse(items.begin(), items.end());
  if (!v.is_string()) {
    const bool is_generator = v.is(Kind::kSequence) && v.sequence->flavor == Flavor::kIterator;
    return is_generator ? in.sequence(std::move(items)) : iterator(in, std::move(items));
  }
  Builder out(in.budget());
  for (const Value& c : items) out.append(c.text());
  return in.string(out.take(), v.string->markup);
}

Value list(Interpreter& in, const Value& v, const Call& call) {
  const Bound none("list", call, {});
  return in.sequence(in.iterate(v));
}

Value join(Interpreter& in, const Value& v, const Call& call) {
  const Bound b("join", call, {"d", "attribute"});
  const Text separator = b[0] == nullptr ? Text() : in.str(*b[0]);
  Builder out(in.budget());
  bool is_first = true;
  for (const Value& item : in.iterate(v)) {
    if (!is_first) out.append(separator);
    is_first = false;
    append_str(b[1] == nullptr || b[1]->is_none() ? item : in.path(item, *b[1]), &out);
  }
  return in.string(out.take());
}

Value default_filter(Interpreter& in, const Value& v, const Call& call) {
  const Bound b("default", call, {"default_value", "boolean"});
  const bool missing = v.is_undefined() || (flag(b[1]) && !truth(v));
  if (!missing) return v;
  return b[0] == nullptr ? in.string("") : *b[0];
}

Value items(Interpreter& in, const Value& v, const Call& call) {
  const Bound none("items", call, {});
  if (v.is_undefined()) return iterator(in, {});
  if (!v.is(Kind::kDict)) fail("items needs a dict, and got a value of type {}", type_name(v));
  return iterator(in, in.iterate(in.call_method(v, "items", {})));
}

Value dictsort(Interpreter& in, const Value& v, const Call& call) {
  const Bound b("dictsort", call, {"case_sensitive", "by", "reverse"});
  if (v.is_undefined()) fail_undefined(v);
  if (!v.is(Kind::kDict)) fail("dictsort needs a dict, and got a value of type {}", type_name(v));
  const std::string by = b[1] == nullptr ? "key" : in.str(*b[1]).bytes();
  if (by != "key" && by != "value") fail("dictsort sorts by \"key\" or \"value\"");
  std::vector<Value> pairs, keys;
  for (const auto& [key, value] : v.dict->entries) {
    pairs.push_back(in.sequence({key, value}, Flavor::kTuple));
    const Value& chosen = by == "key" ? key : value;
    keys.push_back(flag(b[0]) ? chosen : lowered(in, chosen));
  }
  return in.sorted(std::move(pairs), std::move(keys), flag(b[2]));
}

// The value that an item is sorted by: one attribute or, with commas, several.
Value sort_key(Interpreter& in, const Value& item, const Value* attribute, bool case_sensitive) {
  const auto key = [&](const Value& by) {
    const Value v = in.path(item, by);
    return case_sensitive ? v : lowered(in, v);
  };
  if (attribute == nullptr || attribute->is_none()) return case_sensitive ? item : lowered(in, item);
  if (!attribute->is_string()) return key(*attribute);
  std::vector<Value> keys;
  for (const Value& part : in.iterate(in.call_method(*attribute, "split", {{in.string(",")}, {}})))
    keys.push_back(key(part));
  return in.sequence(std::move(keys));
}

Value sort(Interpreter& in, const Value& v, const Call& call) {
  const Bound b("sort", call, {"reverse", "case_sensitive", "attribute"});
  std::vector<Value> all = in.iterate(v);
  std::vector<Value> keys;
  for (const Value& item : all) keys.push_back(sort_key(in, item, b[2], flag(b[1])));
  return in.sorted(std::move(all), std::move(keys), flag(b[0]));
}

Value unique(Interpreter& in, const Value& v, const Call& call) {
  const Bound b("unique", call, {"case_sensitive", "attribute"});
  std::vector<Value> out, seen;
  for (const Value& item : in.iterate(v)) {
    Value key = b[1] == nullptr || b[1]->is_none() ? item : in.path(item, *b[1]);
    if (!flag(b[0])) key = lowered(in, key);
    require_hashable(key);
    if (std::any_of(seen.begin(), seen.end(), [&](const Value& s) { return in.equal(s, key); })) continue;
    seen.push_back(key);
    out.push_back(item);
  }
  return iterator(in, std::move(out));
}

Value extreme(Interpreter& in, const Value& v, const Call& call, bool greatest) {
  const Bound b(greatest ? "max" : "min", call, {"case_sensitive", "attribute"});
  const std::vector<Value> all = in.iterate(v);
  if (all.empty()) return in.undefined("there is no item, the sequence is empty");
  const auto key = [&](const Value& item) {
    const Value k = b[1] == nullptr || b[1]->is_none() ? item : in.path(item, *b[1]);
    return flag(b[0]) ? k : lowered(in, k);
  };
  size_t best = 0;
  Value best_key = key(all[0]);
  Comparer comparer(in.budget());
  for (size_t i = 1; i < all.size(); ++i) {
    Value k = key(all[i]);
    if (greatest ? comparer.less(best_key, k, ">") : comparer.less(k, best_key)) {
      best = i;
      best_key = std::move(k);
    }
  }
  return all[best];
}
Value min(Interpreter& in, const Value& v, const Call& call) { return extreme(in, v, call, false); }
Value max(Interpreter& in, const Value& v, const Call& call) { return extreme(in, v, call, true); }

Value batch(Interpreter& in, const Value& v, const Call& call) {
  const Bound b("batch", call, {"linecount", "fill_with"}, 1);
  const int64_t size = in.integer(*b[0], "batch");
  std::vector<Value> out, line;
  for (const Value& item : in.iterate(v)) {
    if (static_cast<int64_t>(line.size()) == size) out.push_back(in.sequence(std::exchange(line, {})));
    line.push_back(item);
  }
  if (!line.empty()) {
    if (b[1] != nullptr && !b[1]->is_none()) {
      const auto missing = static_cast<size_t>(std::max<int64_t>(size - static_cast<int64_t>(line.size()), 0));
      in.budget().step(missing);
      line.insert(line.end(), missing, *b[1]);
    }
    out.push_back(in.sequence(std::move(line)));
  }
  return iterator(in, std::move(out));
}

Value slice(Interpreter& in, const Value& v, const Call& call) {
  const Bound b("slice", call, {"slices", "fill_with"}, 1);
  const int64_t slices = in.integer(*b[0], "slice");
  const std::vector<Value> all = in.iterate(v);
  if (slices == 0) fail("division by zero");
  std::vector<Value> out;
  const auto n = static_cast<int64_t>(all.size());
  int64_t offset = 0;
  for (int64_t i = 0; i < slices; ++i) {
    const int64_t start = offset + i * (n / slices);
    if (i < n % slices) ++offset;
    const int64_t end = offset + (i + 1) * (n / slices);
    std::vector<Value> part(all.begin() + start, all.begin() + end);
    if (b[1] != nullptr && !b[1]->is_none() && i >= n % slices) part.push_back(*b[1]);
    out.push_back(in.sequence(std::move(part)));
  }
  return iterator(in, std::move(out));
}

Value groupby(Interpreter& in, const Value& v, const Call& call) {
  const Bound b("groupby", call, {"attribute", "default", "case_sensitive"}, 1);
  const std::vector<Value> all = in.iterate(v);
  std::vector<Value> keys, plain;
  for (const Value& item : all) {
    Value key = in.path(item, *b[0]);
    if (key.is_undefined() && b[1] != nullptr && !b[1]->is_none()) key = *b[1];
    plain.push_back(key);
    keys.push_back(flag(b[2]) ? key : lowered(in, key));
  }
  std::vector<Value> numbers;
  for (size_t i = 0; i < all.size(); ++i) numbers.push_back(Value::of(static_cast<int64_t>(i)));
  const std::vector<Value> order = in.iterate(in.sorted(std::move(numbers), keys, false));
  std::vector<Value> out;
  for (size_t begin = 0; begin < order.size();) {
    const auto at = [&](size_t i) { return static_cast<size_t>(order[i].integer); };
    std::vector<Value> group;
    size_t end = begin;
    while (end < order.size() && in.equal(keys[at(end)], keys[at(begin)])) group.push_back(all[at(end++)]);
    out.push_back(in.sequence({plain[at(begin)], in.sequence(std::move(group))}, Flavor::kTuple));
    begin = end;
  }
  return in.sequence(std::move(out));
}

Value map(Interpreter& in, const Value& v, const Call& call) {
  std::vector<Value> out;
  if (!truth(v)) return iterator(in, {});
  if (call.positional.empty()) {
    const Bound b("map", call, {"attribute", "default"}, 1);
    for (const Value& item : in.iterate(v)) {
      Value mapped = in.path(item, *b[0]);
      if (mapped.is_undefined() && b[1] != nullptr && !b[1]->is_none()) mapped = *b[1];
      out.push_back(std::move(mapped));
    }
    return iterator(in, std::move(out));
  }
  const std::string name = in.str(call.positional[0]).bytes();
  Call rest{{call.positional.begin() + 1, call.positional.end()}, call.named};
  for (const Value& item : in.iterate(v)) out.push_back(in.filter(name, item, rest));
  return iterator(in, std::move(out));
}

Value chosen(Interpreter& in, const Value& v, const Call& call, bool by_attribute, bool wanted) {
  if (!truth(v)) return iterator(in, {});
  const size_t skip = by_attribute ? 1 : 0;
  if (call.positional.size() < skip) fail("the name of an attribute is missing");
  std::vector<Value> out;
  const bool has_test = call.positional.size() > skip;
  const std::string name = has_test ? in.str(call.positional[skip]).bytes() : "";
  Call rest;
  if (has_test) {
    rest.positional.assign(call.positional.begin() + static_cast<ptrdiff_t>(skip) + 1, call.positional.end());
    rest.named = call.named;
  }
  for (const Value& item : in.iterate(v)) {
    const Value tested = by_attribute ? in.path(item, call.positional[0]) : item;
    if ((has_test ? in.test(name, tested, rest) : truth(tested)) == wanted) out.push_back(item);
  }
  return iterator(in, std::move(out));
}

Value attr(Interpreter& in, const Value& v, const Call& call) {
  const Bound b("attr", call, {"name"}, 1);
  if (!b[0]->is_string()) fail("attr needs a string");
  // A dict's keys are no attributes.
  if (v.is(Kind::kDict) && v.dict->find(b[0]->bytes()) != nullptr) {
    Value empty = in.dict();
    return in.attribute(empty, b[0]->bytes());
  }
  return in.attribute(v, b[0]->bytes());
}

struct FilterEntry {
  std::string_view name;
  Filter run;  // nullptr: jinja2 has it, Decant does not
  // jinja2 makes a generator, so what is wrong with the items shows only when somebody reads them.
  bool is_lazy = false;
};

constexpr FilterEntry kFilters[] = {
    {"abs", abs_filter},
    {"attr", attr},
    {"batch", batch, true},
    {"capitalize", in_case<kCapitalizeName>},
    {"center", center},
    {"count", length},
    {"d", default_filter},
    {"default", default_filter},
    {"dictsort", dictsort},
    {"e", escape},
    {"escape", escape},
    {"filesizeformat", nullptr},
    {"first", first},
    {"float", float_filter},
    {"forceescape", forceescape},
    {"format", format},
    {"groupby", groupby},
    {"indent", indent},
    {"int", int_filter},
    {"items", items, true},
    {"join", join},
    {"last", last},
    {"length", length},
    {"list", list},
    {"lower", in_case<kLowerName>},
    {"map", map, true},
    {"max", max},
    {"min", min},
    {"pprint", nullptr},
    {"random", nullptr},
    {"reject", [](Interpreter& in, const Value& v, const Call& c) { return chosen(in, v, c, false, false); }, true},
    {"rejectattr", [](Interpreter& in, const Value& v, const Call& c) { return chosen(in, v, c, true, false); }, true},
    {"replace", replace},
    {"reverse", reverse},
    {"round", round_filter},
    {"safe", safe},
    {"select", [](Interpreter& in, const Value& v, const Call& c) { return chosen(in, v, c, false, true); }, true},
    {"selectattr", [](Interpreter& in, const Value& v, const Call& c) { return chosen(in, v, c, true, true); }, true},
    {"slice", slice, true},
    {"sort", sort},
    {"string", string_filter},
    {"striptags", nullptr},
    {"sum", sum},
    {"title", title},
    {"tojson", tojson},
    {"trim", trim},
    {"truncate", truncate},
    {"unique", unique, true},
    {"upper", in_case<kUpperName>},
    {"urlencode", nullptr},
    {"urlize", nullptr},
    {"wordcount", wordcount},
    {"wordwrap", nullptr},
    {"xmlattr", nullptr},
};

const FilterEntry* find_filter(std::string_view name) {
  const auto it =
      std::find_if(std::begin(kFilters), std::end(kFilters), [&](const FilterEntry& f) { return f.name == name; });
  return it == std::end(kFilters) ? nullptr : it;
}

}  // namespace

bool is_known_filter(std::string_view name) {
  const FilterEntry* entry = find_filter(name);
  return entry != nullptr && entry->run != nullptr;
}

Value Interpreter::filter(std::string_view name, const Value& v, const Call& arguments) {
  const FilterEntry* entry = find_filter(name);
  if (entry == nullptr) fail_unsupported("there is no filter '{}'", name.substr(0, 60));
  if (entry->run == nullptr) fail_unsupported("the filter '{}' is not supported", name);
  // Filters call filters through map: as deep as a template likes.
  struct Level {
    int* depth;
    ~Level() { --*depth; }
  };
  if (++depth_ > 1500) {
    --depth_;
    throw Failure{Code::kExhausted, "filters are nested too deep"};
  }
  const Level level{&depth_};
  budget_.step();
  if (!entry->is_lazy) return entry->run(*this, v, arguments);
  try {
    return entry->run(*this, v, arguments);
  } catch (const Failure& f) {
    if (f.code == Code::kExhausted) throw;
    Value generator = sequence({}, Flavor::kIterator);
    generator.sequence->failure = std::make_shared<Failure>(f);
    return generator;
  }
}

}  // namespace decant::jinja
