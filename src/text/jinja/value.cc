// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/value.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "text/jinja/characters.h"
#include "text/unicode.h"

namespace decant::jinja {

void Text::append(std::string_view bytes, bool content) {
  if (bytes.empty()) return;
  bytes_ += bytes;
  if (!runs_.empty() && runs_.back().content == content) {
    runs_.back().end = bytes_.size();
  } else {
    runs_.push_back({bytes_.size(), content});
  }
}

void Text::append(const Text& other, size_t begin, size_t end) {
  if (begin >= end) return;
  auto run = std::upper_bound(other.runs_.begin(), other.runs_.end(), begin,
                              [](size_t at, const Run& r) { return at < r.end; });
  while (begin < end) {
    const size_t stop = std::min(end, run->end);
    append(std::string_view(other.bytes_).substr(begin, stop - begin), run->content);
    begin = stop;
    ++run;
  }
}

bool Text::is_content(size_t offset) const {
  const auto run =
      std::upper_bound(runs_.begin(), runs_.end(), offset, [](size_t at, const Run& r) { return at < r.end; });
  return run != runs_.end() && run->content;
}

void Budget::out_of_steps() const {
  throw Failure{Code::kExhausted, fmt::format("the template takes more than {} steps; does it end?", limits_.steps)};
}
void Budget::out_of_memory(size_t bytes) {
  memory_ -= bytes;
  throw Failure{Code::kExhausted, fmt::format("the template needs more than {} bytes of memory", limits_.memory_bytes)};
}
void Budget::string_too_long() const {
  throw Failure{Code::kExhausted, fmt::format("the template makes a text of more than {} bytes", limits_.string_bytes)};
}

Value* Dict::find(std::string_view key) {
  for (auto& [k, v] : entries) {
    if (k.is_string() && k.bytes() == key) return &v;
  }
  return nullptr;
}

std::string_view type_name(const Value& v) {
  switch (v.kind) {
    case Kind::kUndefined: return "Undefined";
    case Kind::kNone: return "NoneType";
    case Kind::kBool: return "bool";
    case Kind::kInt: return "int";
    case Kind::kFloat: return "float";
    case Kind::kString: return "str";
    case Kind::kSequence:
      switch (v.sequence->flavor) {
        case Flavor::kList: return "list";
        case Flavor::kTuple: return "tuple";
        case Flavor::kRange: return "range";
        case Flavor::kKeys: return "dict_keys";
        case Flavor::kValues: return "dict_values";
        case Flavor::kItems: return "dict_items";
        case Flavor::kIterator: return "generator";
      }
      return "list";
    case Kind::kDict: return "dict";
    case Kind::kNamespace: return "Namespace";
    case Kind::kCallable: return "function";
    case Kind::kLoop: return "LoopContext";
  }
  return "object";
}

void fail_undefined(const Value& v) {
  fail("{}", v.string != nullptr ? std::string_view(v.bytes()) : std::string_view("the value is undefined"));
}

bool truth(const Value& v) {
  switch (v.kind) {
    case Kind::kUndefined:
    case Kind::kNone: return false;
    case Kind::kBool: return v.boolean;
    case Kind::kInt: return v.integer != 0;
    case Kind::kFloat: return v.real != 0;
    case Kind::kString: return v.text().size() > 0;
    case Kind::kSequence: return v.sequence->flavor == Flavor::kIterator || !v.sequence->items.empty();
    case Kind::kDict: return !v.dict->entries.empty();
    case Kind::kNamespace:
    case Kind::kCallable:
    case Kind::kLoop: return true;  // a loop has items while it runs
  }
  return true;
}

int compare_numbers(const Value& a, const Value& b) {
  if (a.is_integral() && b.is_integral()) return a.as_int() < b.as_int() ? -1 : a.as_int() > b.as_int() ? 1 : 0;
  if (a.is(Kind::kFloat) && b.is(Kind::kFloat)) {
    return a.real < b.real ? -1 : a.real > b.real ? 1 : a.real == b.real ? 0 : 2;
  }
  const bool swapped = a.is(Kind::kFloat);
  const double d = swapped ? a.real : b.real;
  const int64_t i = swapped ? b.as_int() : a.as_int();
  if (std::isnan(d)) return 2;
  int order;  // of i beside d
  if (d >= 9223372036854775808.0) {
    order = -1;
  } else if (d < -9223372036854775808.0) {
    order = 1;
  } else {
    const double whole = std::floor(d);
    const auto w = static_cast<int64_t>(whole);
    order = i < w ? -1 : i > w ? 1 : whole < d ? -1 : 0;
  }
  return swapped ? -order : order;
}

void Comparer::enter(int depth) {
  budget_.step();
  if (depth > budget_.limits().depth) {
    throw Failure{Code::kExhausted, fmt::format("values nested more than {} deep", budget_.limits().depth)};
  }
}

bool Comparer::equal(const Value& a, const Value& b, int depth) {
  enter(depth);
  if (a.is_number() && b.is_number()) return compare_numbers(a, b) == 0;
  if (a.kind != b.kind) return false;
  switch (a.kind) {
    case Kind::kUndefined:
    case Kind::kNone: return true;
    case Kind::kString: budget_.work(a.text().size()); return a.bytes() == b.bytes();
    case Kind::kSequence: {
      const Sequence &x = *a.sequence, &y = *b.sequence;
      if (&x == &y) return true;
      const bool views = (x.flavor == Flavor::kKeys || x.flavor == Flavor::kItems) &&
                         (y.flavor == Flavor::kKeys || y.flavor == Flavor::kItems);
      if (views) {  // sets
        if (x.items.size() != y.items.size()) return false;
        return std::all_of(x.items.begin(), x.items.end(), [&](const Value& v) {
          return std::any_of(y.items.begin(), y.items.end(), [&](const Value& w) { return equal(v, w, depth + 1); });
        });
      }
      if (x.flavor != y.flavor || x.flavor == Flavor::kIterator || x.flavor == Flavor::kValues) return false;
      if (x.items.size() != y.items.size()) return false;
      for (size_t i = 0; i < x.items.size(); ++i) {
        if (!equal(x.items[i], y.items[i], depth + 1)) return false;
      }
      return true;
    }
    case Kind::kDict: {
      if (a.dict == b.dict) return true;
      if (a.dict->entries.size() != b.dict->entries.size()) return false;
      for (const auto& entry : a.dict->entries) {
        const auto other = std::find_if(b.dict->entries.begin(), b.dict->entries.end(),
                                        [&](const auto& e) { return equal(e.first, entry.first, depth + 1); });
        if (other == b.dict->entries.end() || !equal(entry.second, other->second, depth + 1)) return false;
      }
      return true;
    }
    case Kind::kNamespace: return a.dict == b.dict;
    case Kind::kCallable: return a.callable == b.callable;
    case Kind::kLoop: return a.loop == b.loop;
    default: return false;
  }
}

bool Comparer::less(const Value& a, const Value& b, const char* op, int depth) {
  enter(depth);
  if (a.is_number() && b.is_number()) return compare_numbers(a, b) == -1;
  if (a.is_string() && b.is_string()) {
    budget_.work(std::min(a.text().size(), b.text().size()));
    return a.bytes() < b.bytes();
  }
  if (a.is_undefined()) fail_undefined(a);
  if (b.is_undefined()) fail_undefined(b);
  if (a.is(Kind::kSequence) && b.is(Kind::kSequence) && a.sequence->flavor == b.sequence->flavor &&
      (a.sequence->flavor == Flavor::kList || a.sequence->flavor == Flavor::kTuple)) {
    const auto &x = a.sequence->items, &y = b.sequence->items;
    for (size_t i = 0; i < x.size() && i < y.size(); ++i) {
      if (!equal(x[i], y[i], depth + 1)) return less(x[i], y[i], op, depth + 1);
    }
    return x.size() < y.size();
  }
  fail("'{}' is not supported between {} and {}", op, type_name(a), type_name(b));
}

void require_hashable(const Value& v, int depth) {
  if (v.is(Kind::kDict)) fail("a dict cannot be a key");
  if (!v.is(Kind::kSequence)) return;
  const Flavor flavor = v.sequence->flavor;
  if (flavor == Flavor::kList || flavor == Flavor::kKeys || flavor == Flavor::kItems) {
    fail("a {} cannot be a key", type_name(v));
  }
  if (flavor != Flavor::kTuple) return;
  if (depth > 50) fail("a tuple this deep cannot be a key");
  for (const Value& item : v.sequence->items) require_hashable(item, depth + 1);
}

std::string float_text(double d) {
  if (std::isnan(d)) return "nan";
  if (std::isinf(d)) return d < 0 ? "-inf" : "inf";
  // The shortest digits that read back as d, then Python's choice between plain and exponent form.
  char buffer[40];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, d, std::chars_format::scientific).ptr;
  std::string_view text(buffer, static_cast<size_t>(end - buffer));
  std::string out;
  if (text[0] == '-') {
    out = "-";
    text.remove_prefix(1);
  }
  const size_t e = text.find('e');
  std::string digits(1, text[0]);
  if (e > 2) digits += text.substr(2, e - 2);
  int exponent = 0;
  const char* begin = text.data() + e + 1;
  std::from_chars(*begin == '+' ? begin + 1 : begin, text.data() + text.size(), exponent);
  const int n = static_cast<int>(digits.size());
  if (exponent < -4 || exponent >= 16) {
    out += digits[0];
    if (n > 1) out += "." + digits.substr(1);
    out += fmt::format("e{}{:02}", exponent < 0 ? '-' : '+', std::abs(exponent));
  } else if (exponent < 0) {
    out += "0." + std::string(static_cast<size_t>(-exponent - 1), '0') + digits;
  } else if (n <= exponent + 1) {
    out += digits + std::string(static_cast<size_t>(exponent + 1 - n), '0') + ".0";
  } else {
    const auto whole = static_cast<size_t>(exponent) + 1;
    out += digits.substr(0, whole) + "." + digits.substr(whole);
  }
  return out;
}

Char char_at(std::string_view text, size_t at) {
  const auto byte = static_cast<uint8_t>(text[at]);
  if (byte < 0x80) return {byte, at, at + 1};
  const Utf8Char c = decode_utf8(text.substr(at));
  return {c.valid ? c.code : 0xDC00u + byte, at, at + c.size};
}

size_t count_chars(std::string_view text) {
  size_t n = 0;
  for (size_t at = 0; at < text.size(); at = char_at(text, at).end) ++n;
  return n;
}

size_t char_offset(std::string_view text, size_t index) {
  size_t at = 0;
  while (index > 0 && at < text.size()) {
    at = char_at(text, at).end;
    --index;
  }
  return at;
}

bool is_space(uint32_t c) {
  return (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

namespace {

void append_string_repr(const Text& text, Builder* out) {
  const std::string& bytes = text.bytes();
  const char quote = bytes.find('\'') != std::string::npos && bytes.find('"') == std::string::npos ? '"' : '\'';
  out->own(std::string_view(&quote, 1));
  size_t plain = 0;  // start of what is copied as it stands
  for (size_t at = 0; at < bytes.size();) {
    const Char c = char_at(bytes, at);
    std::string escaped;
    if (c.code == static_cast<uint8_t>(quote) || c.code == '\\') {
      escaped = {'\\', static_cast<char>(c.code)};
    } else if (c.code == '\n') {
      escaped = "\\n";
    } else if (c.code == '\r') {
      escaped = "\\r";
    } else if (c.code == '\t') {
      escaped = "\\t";
    } else if (!is_printable(c.code)) {
      escaped = c.code < 0x100     ? fmt::format("\\x{:02x}", c.code)
                : c.code < 0x10000 ? fmt::format("\\u{:04x}", c.code)
                                   : fmt::format("\\U{:08x}", c.code);
    }
    if (!escaped.empty()) {
      out->append(text, plain, c.begin);
      out->append(escaped, text.is_content(c.begin));
      plain = c.end;
    }
    at = c.end;
  }
  out->append(text, plain, bytes.size());
  out->own(std::string_view(&quote, 1));
}

void check_depth(int depth) {
  constexpr int kMaxDepth = 200;
  if (depth > kMaxDepth) throw Failure{Code::kExhausted, fmt::format("values nested more than {} deep", kMaxDepth)};
}

void append_items_repr(const std::vector<Value>& items, Builder* out, int depth) {
  for (size_t i = 0; i < items.size(); ++i) {
    if (i > 0) out->own(", ");
    append_repr(items[i], out, depth + 1);
  }
}

void append_entries_repr(const Dict& dict, Builder* out, int depth) {
  out->own("{");
  for (size_t i = 0; i < dict.entries.size(); ++i) {
    if (i > 0) out->own(", ");
    append_repr(dict.entries[i].first, out, depth + 1);
    out->own(": ");
    append_repr(dict.entries[i].second, out, depth + 1);
  }
  out->own("}");
}

}  // namespace

void append_str(const Value& v, Builder* out) {
  if (v.is_string()) return out->append(v.text());
  if (v.is_undefined()) return;
  append_repr(v, out);
}

void append_repr(const Value& v, Builder* out, int depth) {
  check_depth(depth);
  switch (v.kind) {
    case Kind::kUndefined: return out->own("Undefined");
    case Kind::kNone: return out->own("None");
    case Kind::kBool: return out->own(v.boolean ? "True" : "False");
    case Kind::kInt: return out->own(std::to_string(v.integer));
    case Kind::kFloat: return out->own(float_text(v.real));
    case Kind::kString:
      if (v.string->markup) out->own("Markup(");
      append_string_repr(v.text(), out);
      if (v.string->markup) out->own(")");
      return;
    case Kind::kSequence: {
      const Sequence& s = *v.sequence;
      switch (s.flavor) {
        case Flavor::kList:
          out->own("[");
          append_items_repr(s.items, out, depth);
          return out->own("]");
        case Flavor::kTuple:
          out->own("(");
          append_items_repr(s.items, out, depth);
          return out->own(s.items.size() == 1 ? ",)" : ")");
        case Flavor::kRange:
          return out->own(s.step == 1 ? fmt::format("range({}, {})", s.start, s.stop)
                                      : fmt::format("range({}, {}, {})", s.start, s.stop, s.step));
        case Flavor::kKeys:
        case Flavor::kValues:
        case Flavor::kItems:
          out->own(type_name(v));
          out->own("([");
          append_items_repr(s.items, out, depth);
          return out->own("])");
        case Flavor::kIterator: return out->own("<generator object>");
      }
      return;
    }
    case Kind::kDict: return append_entries_repr(*v.dict, out, depth);
    case Kind::kNamespace:
      out->own("<Namespace ");
      append_entries_repr(*v.dict, out, depth);
      return out->own(">");
    case Kind::kCallable: return out->own("<function>");
    case Kind::kLoop: return out->own("<LoopContext>");
  }
}

namespace {

void append_json_string(const Text& text, bool ensure_ascii, Builder* out) {
  const std::string& bytes = text.bytes();
  out->own("\"");
  size_t plain = 0;
  for (size_t at = 0; at < bytes.size();) {
    const Char c = char_at(bytes, at);
    std::string escaped;
    switch (c.code) {
      case '"': escaped = "\\\""; break;
      case '\\': escaped = "\\\\"; break;
      case '\n': escaped = "\\n"; break;
      case '\r': escaped = "\\r"; break;
      case '\t': escaped = "\\t"; break;
      case '\b': escaped = "\\b"; break;
      case '\f': escaped = "\\f"; break;
      default:
        if (c.code < 0x20 || (ensure_ascii && c.code > 0x7e && c.code < 0x10000)) {
          escaped = fmt::format("\\u{:04x}", c.code);
        } else if (ensure_ascii && c.code >= 0x10000) {
          escaped = fmt::format("\\u{:04x}\\u{:04x}", 0xD800 + ((c.code - 0x10000) >> 10),
                                0xDC00 + ((c.code - 0x10000) & 0x3FF));
        }
    }
    if (!escaped.empty()) {
      out->append(text, plain, c.begin);
      out->append(escaped, text.is_content(c.begin));
      plain = c.end;
    }
    at = c.end;
  }
  out->append(text, plain, bytes.size());
  out->own("\"");
}

std::string json_float(double d) {
  if (std::isnan(d)) return "NaN";
  if (std::isinf(d)) return d < 0 ? "-Infinity" : "Infinity";
  return float_text(d);
}

void append_json_key(const Value& key, const JsonStyle& style, Builder* out) {
  switch (key.kind) {
    case Kind::kString: return append_json_string(key.text(), style.ensure_ascii, out);
    case Kind::kNone: return out->own("\"null\"");
    case Kind::kBool: return out->own(key.boolean ? "\"true\"" : "\"false\"");
    case Kind::kInt: return out->own(fmt::format("\"{}\"", key.integer));
    case Kind::kFloat: return out->own("\"" + json_float(key.real) + "\"");
    default: fail("tojson: a key of type {} cannot be written as JSON", type_name(key));
  }
}

void break_line(const JsonStyle& style, int depth, Builder* out) {
  if (!style.indented) return;
  out->own("\n");
  for (int i = 0; i < depth; ++i) out->append(style.indent);
}

}  // namespace

void append_json(const Value& v, const JsonStyle& style, Budget& budget, Builder* out, int depth) {
  check_depth(depth);
  switch (v.kind) {
    case Kind::kNone: return out->own("null");
    case Kind::kBool: return out->own(v.boolean ? "true" : "false");
    case Kind::kInt: return out->own(std::to_string(v.integer));
    case Kind::kFloat: return out->own(json_float(v.real));
    case Kind::kString: return append_json_string(v.text(), style.ensure_ascii, out);
    case Kind::kSequence: {
      const Sequence& s = *v.sequence;
      if (s.flavor != Flavor::kList && s.flavor != Flavor::kTuple) break;
      if (s.items.empty()) return out->own("[]");
      out->own("[");
      for (size_t i = 0; i < s.items.size(); ++i) {
        if (i > 0) out->append(style.item_separator);
        break_line(style, depth + 1, out);
        append_json(s.items[i], style, budget, out, depth + 1);
      }
      break_line(style, depth, out);
      return out->own("]");
    }
    case Kind::kDict: {
      if (v.dict->entries.empty()) return out->own("{}");
      std::vector<const std::pair<Value, Value>*> entries;
      for (const auto& entry : v.dict->entries) entries.push_back(&entry);
      if (style.sort_keys) {
        Comparer comparer(budget);
        std::stable_sort(entries.begin(), entries.end(),
                         [&](const auto* a, const auto* b) { return comparer.less(a->first, b->first); });
      }
      out->own("{");
      for (size_t i = 0; i < entries.size(); ++i) {
        if (i > 0) out->append(style.item_separator);
        break_line(style, depth + 1, out);
        append_json_key(entries[i]->first, style, out);
        out->append(style.key_separator);
        append_json(entries[i]->second, style, budget, out, depth + 1);
      }
      break_line(style, depth, out);
      return out->own("}");
    }
    default: break;
  }
  fail("tojson: a value of type {} cannot be written as JSON", type_name(v));
}

}  // namespace decant::jinja
