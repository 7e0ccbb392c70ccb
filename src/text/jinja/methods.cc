// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Methods of strings, lists and dicts, as Python has them.
#include <algorithm>
#include <functional>
#include <unordered_map>

#include "text/jinja/characters.h"
#include "text/jinja/interpreter.h"
#include "text/unicode.h"

namespace decant::jinja {
namespace {

constexpr int64_t kNoLimit = -1;

class StringMethods {
 public:
  StringMethods(Interpreter& in, const Value& self, std::string_view name, const Call& call)
      : in_(in), self_(self), bytes_(self.bytes()), name_(name), call_(call) {}

  Value strip() const { return strip_sides(true, true); }
  Value lstrip() const { return strip_sides(true, false); }
  Value rstrip() const { return strip_sides(false, true); }

  Value split() const { return split_from(false); }
  Value rsplit() const { return split_from(true); }

  Value splitlines() const {
    const Bound b(name_, call_, {"keepends"});
    const bool keep = b[0] != nullptr && truth(*b[0]);
    std::vector<Value> out;
    size_t begin = 0;
    for (size_t at = 0; at < bytes_.size();) {
      const Char c = char_at(bytes_, at);
      at = c.end;
      if (!ends_line(c.code)) continue;
      if (c.code == '\r' && at < bytes_.size() && bytes_[at] == '\n') ++at;
      out.push_back(in_.substring(self_, begin, keep ? at : c.begin));
      begin = at;
    }
    if (begin < bytes_.size()) out.push_back(in_.substring(self_, begin, bytes_.size()));
    return in_.sequence(std::move(out));
  }

  Value replace() const {
    const Bound b(name_, positional(), {"old", "new", "count"}, 2);
    const int64_t count = b[2] == nullptr ? kNoLimit : in_.integer(*b[2], name_);
    return in_.replaced(self_, string_argument(*b[0]).text(), string_argument(*b[1]).text(), count);
  }

  Value startswith() const {
    return affix([](std::string_view s, std::string_view a) { return s.starts_with(a); });
  }
  Value endswith() const {
    return affix([](std::string_view s, std::string_view a) { return s.ends_with(a); });
  }

  Value in_case() const {
    const Bound b(name_, call_, {});
    return in_.in_case(self_, name_);
  }

  Value find() const {
    const int64_t at = search(false);
    return Value::of(at);
  }
  Value rfind() const { return Value::of(search(true)); }
  Value index() const { return must_find(search(false)); }
  Value rindex() const { return must_find(search(true)); }

  Value count() const {
    const Bound b(name_, positional(), {"sub", "start", "end"}, 1);
    const std::string& sub = string_argument(*b[0]).bytes();
    const auto [begin, end, valid] = window(b, 1);
    if (!valid) return Value::of(int64_t{0});
    const std::string_view text = std::string_view(bytes_).substr(begin, end - begin);
    if (sub.empty()) return Value::of(static_cast<int64_t>(count_chars(text)) + 1);
    int64_t n = 0;
    for (size_t at = text.find(sub); at != std::string_view::npos; at = text.find(sub, at + sub.size())) ++n;
    return Value::of(n);
  }

  Value join() const {
    const Bound b(name_, positional(), {"iterable"}, 1);
    Builder out(in_.budget());
    bool first = true;
    for (const Value& item : in_.iterate(*b[0])) {
      if (!std::exchange(first, false)) out.append(self_.text());
      if (!item.is_string()) fail("join() needs strings, and got a value of type {}", type_name(item));
      out.append(self_.string->markup ? in_.escaped(item).text() : item.text());
    }
    return in_.string(out.take(), self_.string->markup);
  }

  Value partition() const { return parts(false); }
  Value rpartition() const { return parts(true); }

  Value removeprefix() const {
    const Bound b(name_, positional(), {"prefix"}, 1);
    const std::string& prefix = string_argument(*b[0]).bytes();
    return bytes_.starts_with(prefix) ? in_.substring(self_, prefix.size(), bytes_.size()) : self_;
  }
  Value removesuffix() const {
    const Bound b(name_, positional(), {"suffix"}, 1);
    const std::string& suffix = string_argument(*b[0]).bytes();
    return bytes_.ends_with(suffix) ? in_.substring(self_, 0, bytes_.size() - suffix.size()) : self_;
  }

  Value ljust() const {
    return justify([](size_t) { return size_t{0}; });
  }
  Value rjust() const {
    return justify([](size_t missing) { return missing; });
  }
  Value center() const {
    // Python gives the odd blank to the left when the width is odd.
    return justify([this](size_t missing) { return missing / 2 + (missing & static_cast<size_t>(width_) & 1); });
  }
  Value zfill() const {
    const Bound b(name_, positional(), {"width"}, 1);
    const size_t size = in_.length(self_);
    const int64_t width = in_.integer(*b[0], name_);
    if (width <= static_cast<int64_t>(size)) return self_;
    const size_t sign = !bytes_.empty() && (bytes_[0] == '-' || bytes_[0] == '+') ? 1 : 0;
    const auto missing = static_cast<size_t>(width) - size;
    in_.budget().check_string(missing);
    Builder out(in_.budget());
    out.append(self_.text(), 0, sign);
    out.own(std::string(missing, '0'));
    out.append(self_.text(), sign, bytes_.size());
    return in_.string(out.take());
  }
  Value expandtabs() const {
    const Bound b(name_, call_, {"tabsize"});
    const int64_t width = b[0] == nullptr ? 8 : in_.integer(*b[0], name_);
    Builder out(in_.budget());
    int64_t column = 0;
    for (size_t at = 0; at < bytes_.size();) {
      const Char c = char_at(bytes_, at);
      if (c.code == '\t') {
        const int64_t blanks = width > 0 ? width - column % width : 0;
        in_.budget().check_string(static_cast<size_t>(blanks));
        out.append(std::string(static_cast<size_t>(blanks), ' '), self_.text().is_content(c.begin));
        column += blanks;
      } else {
        out.append(self_.text(), c.begin, c.end);
        column = c.code == '\n' || c.code == '\r' ? 0 : column + 1;
      }
      at = c.end;
    }
    return in_.string(out.take());
  }

  Value isspace() const {
    return all([](uint32_t c) { return is_space(c); });
  }
  Value isdigit() const { return all(is_digit); }
  Value isdecimal() const { return all(is_decimal); }
  Value isnumeric() const { return all(is_numeric); }
  Value isalpha() const { return all(is_alpha); }
  Value isalnum() const {
    return all([](uint32_t c) { return is_alpha(c) || is_decimal(c) || is_digit(c) || is_numeric(c); });
  }
  Value isascii() const {
    const Bound b(name_, call_, {});
    return Value::of(std::all_of(bytes_.begin(), bytes_.end(), [](char c) { return static_cast<uint8_t>(c) < 0x80; }));
  }
  Value isprintable() const {
    const Bound b(name_, call_, {});
    return Value::of(bytes_.empty() || truth(all(is_printable)));
  }
  Value isidentifier() const {
    const Bound b(name_, call_, {});
    const auto starts = [](uint32_t c) { return c == '_' || is_alpha(c); };
    if (bytes_.empty() || !starts(char_at(bytes_, 0).code)) return Value::of(false);
    return all([&](uint32_t c) { return starts(c) || is_decimal(c); });
  }
  // At least one character that has case, and all of those in this one.
  Value islower() const { return has_case(is_lower, is_upper); }
  Value isupper() const { return has_case(is_upper, is_lower); }
  Value istitle() const {
    const Bound b(name_, call_, {});
    bool in_word = false, found = false;
    for (size_t at = 0; at < bytes_.size();) {
      const Char c = char_at(bytes_, at);
      if (is_upper(c.code) ? in_word : is_lower(c.code) && !in_word) return Value::of(false);
      in_word = is_upper(c.code) || is_lower(c.code);
      found |= in_word;
      at = c.end;
    }
    return Value::of(found);
  }

  Value format() const { return in_.format_method(self_, call_); }
  Value format_map() const {
    const Bound b(name_, positional(), {"mapping"}, 1);
    if (!b[0]->is(Kind::kDict)) fail("format_map() needs a dict");
    Call named;
    for (const auto& [key, value] : b[0]->dict->entries) {
      if (key.is_string()) named.named.emplace_back(key.bytes(), value);
    }
    return in_.format_method(self_, named);
  }

  Value unsupported() const { fail_unsupported("the method {}() of strings is not supported", name_); }

 private:
  const Call& positional() const {
    if (!call_.named.empty()) fail("{}() takes no named arguments", name_);
    return call_;
  }
  const Value& string_argument(const Value& v) const {
    if (!v.is_string()) fail("{}() needs a string, and got a value of type {}", name_, type_name(v));
    return v;
  }

  Value strip_sides(bool left, bool right) const {
    const Bound b(name_, positional(), {"chars"});
    return in_.stripped(self_, b[0], left, right);
  }

  Value split_from(bool from_right) const {
    const Bound b(name_, call_, {"sep", "maxsplit"});
    int64_t left = b[1] == nullptr ? kNoLimit : in_.integer(*b[1], name_);
    if (left < 0) left = INT64_MAX;
    in_.budget().work(bytes_.size());
    std::vector<Value> out;
    if (b[0] == nullptr || b[0]->is_none()) {
      from_right ? split_right_at_space(left, &out) : split_at_space(left, &out);
    } else {
      const std::string& separator = string_argument(*b[0]).bytes();
      if (separator.empty()) fail("{}() needs a separator that is not empty", name_);
      from_right ? split_right_at(separator, left, &out) : split_at(separator, left, &out);
    }
    if (from_right) std::reverse(out.begin(), out.end());
    return in_.sequence(std::move(out));
  }
  void split_at(const std::string& separator, int64_t left, std::vector<Value>* out) const {
    size_t begin = 0;
    for (; left > 0; --left) {
      const size_t at = bytes_.find(separator, begin);
      if (at == std::string::npos) break;
      out->push_back(in_.substring(self_, begin, at));
      begin = at + separator.size();
    }
    out->push_back(in_.substring(self_, begin, bytes_.size()));
  }
  void split_right_at(const std::string& separator, int64_t left, std::vector<Value>* out) const {
    size_t end = bytes_.size();
    for (; left > 0 && end >= separator.size(); --left) {
      const size_t at = bytes_.rfind(separator, end - separator.size());
      if (at == std::string::npos) break;
      out->push_back(in_.substring(self_, at + separator.size(), end));
      end = at;
    }
    out->push_back(in_.substring(self_, 0, end));
  }
  void split_at_space(int64_t left, std::vector<Value>* out) const {
    size_t at = skip(0, true);
    while (at < bytes_.size()) {
      if (left-- <= 0) {  // the rest keeps its inner white space, and loses that at its end
        const Value rest = in_.substring(self_, at, bytes_.size());
        out->push_back(in_.stripped(rest, nullptr, false, true));
        return;
      }
      const size_t end = skip(at, false);
      out->push_back(in_.substring(self_, at, end));
      at = skip(end, true);
    }
  }
  void split_right_at_space(int64_t left, std::vector<Value>* out) const {
    std::vector<std::pair<size_t, size_t>> words;
    for (size_t at = skip(0, true); at < bytes_.size();) {
      const size_t end = skip(at, false);
      words.emplace_back(at, end);
      at = skip(end, true);
    }
    while (!words.empty()) {
      const auto [begin, end] = words.back();
      if (left-- <= 0) {
        const Value rest = in_.substring(self_, 0, end);
        out->push_back(in_.stripped(rest, nullptr, true, false));
        return;
      }
      out->push_back(in_.substring(self_, begin, end));
      words.pop_back();
    }
  }
  size_t skip(size_t at, bool spaces) const {
    while (at < bytes_.size()) {
      const Char c = char_at(bytes_, at);
      if (is_space(c.code) != spaces) break;
      at = c.end;
    }
    return at;
  }

  // Bytes of the characters that arguments `first` and `first + 1` bound; not valid when the start is behind the end of
  // the text.
  struct Window {
    size_t begin, end;
    bool valid;
  };
  Window window(const Bound& b, size_t first) const {
    in_.budget().work(bytes_.size());
    if (b[first] == nullptr && b[first + 1] == nullptr) return {0, bytes_.size(), true};
    const auto size = static_cast<int64_t>(count_chars(bytes_));
    const auto bound = [&](const Value* v, int64_t missing) {
      if (v == nullptr || v->is_none()) return missing;
      const int64_t i = in_.integer(*v, name_);
      return i < 0 ? std::max<int64_t>(i + size, 0) : i;
    };
    const int64_t start = bound(b[first], 0);
    const int64_t stop = std::min(bound(b[first + 1], size), size);
    if (start > stop) return {0, 0, false};
    return {char_offset(bytes_, static_cast<size_t>(start)), char_offset(bytes_, static_cast<size_t>(stop)), true};
  }

  int64_t search(bool from_right) const {
    const Bound b(name_, positional(), {"sub", "start", "end"}, 1);
    const std::string& sub = string_argument(*b[0]).bytes();
    const auto [begin, end, valid] = window(b, 1);
    if (!valid) return -1;
    const std::string_view text = std::string_view(bytes_).substr(begin, end - begin);
    const size_t at = from_right ? text.rfind(sub) : text.find(sub);
    if (at == std::string_view::npos) return -1;
    return static_cast<int64_t>(count_chars(std::string_view(bytes_).substr(0, begin + at)));
  }
  Value must_find(int64_t at) const {
    if (at < 0) fail("{}(): the text is not there", name_);
    return Value::of(at);
  }

  template <typename Holds>
  Value affix(Holds holds) const {
    const Bound b(name_, positional(), {"affix", "start", "end"}, 1);
    const auto [begin, end, valid] = window(b, 1);
    const std::string_view text = std::string_view(bytes_).substr(begin, end - begin);
    if (b[0]->is(Kind::kSequence) && b[0]->sequence->flavor == Flavor::kTuple) {
      bool found = false;
      for (const Value& one : b[0]->sequence->items) {
        if (!found && holds(text, string_argument(one).bytes())) found = valid;
      }
      return Value::of(found);
    }
    return Value::of(holds(text, string_argument(*b[0]).bytes()) && valid);
  }

  Value parts(bool from_right) const {
    const Bound b(name_, positional(), {"sep"}, 1);
    const Value& separator = string_argument(*b[0]);
    const std::string& sep = separator.bytes();
    if (sep.empty()) fail("{}() needs a separator that is not empty", name_);
    in_.budget().work(bytes_.size());
    const size_t at = from_right ? bytes_.rfind(sep) : bytes_.find(sep);
    if (at == std::string::npos) {
      const Value empty = in_.string(Text(), self_.string->markup);
      return in_.sequence(
          from_right ? std::vector<Value>{empty, empty, self_} : std::vector<Value>{self_, empty, empty},
          Flavor::kTuple);
    }
    return in_.sequence({in_.substring(self_, 0, at), in_.substring(self_, at, at + sep.size()),
                         in_.substring(self_, at + sep.size(), bytes_.size())},
                        Flavor::kTuple);
  }

  template <typename LeftShare>
  Value justify(LeftShare left_share) const {
    const Bound b(name_, positional(), {"width", "fillchar"}, 1);
    width_ = in_.integer(*b[0], name_);
    Text fill;
    fill.append(" ", false);
    if (b[1] != nullptr) {
      if (in_.length(string_argument(*b[1])) != 1) fail("{}() needs one character to fill with", name_);
      fill = b[1]->text();
    }
    const size_t size = in_.length(self_);
    if (width_ <= static_cast<int64_t>(size)) return self_;
    const size_t missing = static_cast<size_t>(width_) - size;
    const size_t left = left_share(missing);
    in_.budget().check_string(missing);
    Builder out(in_.budget());
    for (size_t i = 0; i < left; ++i) out.append(fill);
    out.append(self_.text());
    for (size_t i = left; i < missing; ++i) out.append(fill);
    return in_.string(out.take());
  }

  template <typename Holds>
  Value all(Holds holds) const {
    const Bound b(name_, call_, {});
    if (bytes_.empty()) return Value::of(false);
    in_.budget().work(bytes_.size());
    for (size_t at = 0; at < bytes_.size();) {
      const Char c = char_at(bytes_, at);
      if (!holds(c.code)) return Value::of(false);
      at = c.end;
    }
    return Value::of(true);
  }
  template <typename Wanted, typename Other>
  Value has_case(Wanted wanted, Other other) const {
    const Bound b(name_, call_, {});
    bool found = false;
    for (size_t at = 0; at < bytes_.size();) {
      const Char c = char_at(bytes_, at);
      if (other(c.code)) return Value::of(false);
      found |= wanted(c.code);
      at = c.end;
    }
    return Value::of(found);
  }

  static bool ends_line(uint32_t c) {
    return c == '\n' || c == '\r' || c == 0x0b || c == 0x0c || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 ||
           c == 0x2029;
  }

  Interpreter& in_;
  const Value& self_;
  const std::string& bytes_;
  std::string_view name_;
  const Call& call_;
  mutable int64_t width_ = 0;
};

struct MethodEntry {
  std::string_view name;
  Value (StringMethods::*run)() const;
};

constexpr MethodEntry kStringMethods[] = {
    {"capitalize", &StringMethods::in_case},
    {"casefold", &StringMethods::unsupported},
    {"center", &StringMethods::center},
    {"count", &StringMethods::count},
    {"encode", &StringMethods::unsupported},
    {"endswith", &StringMethods::endswith},
    {"expandtabs", &StringMethods::expandtabs},
    {"find", &StringMethods::find},
    {"format", &StringMethods::format},
    {"format_map", &StringMethods::format_map},
    {"index", &StringMethods::index},
    {"isalnum", &StringMethods::isalnum},
    {"isalpha", &StringMethods::isalpha},
    {"isascii", &StringMethods::isascii},
    {"isdecimal", &StringMethods::isdecimal},
    {"isdigit", &StringMethods::isdigit},
    {"isidentifier", &StringMethods::isidentifier},
    {"islower", &StringMethods::islower},
    {"isnumeric", &StringMethods::isnumeric},
    {"isprintable", &StringMethods::isprintable},
    {"isspace", &StringMethods::isspace},
    {"istitle", &StringMethods::istitle},
    {"isupper", &StringMethods::isupper},
    {"join", &StringMethods::join},
    {"ljust", &StringMethods::ljust},
    {"lower", &StringMethods::in_case},
    {"lstrip", &StringMethods::lstrip},
    {"maketrans", &StringMethods::unsupported},
    {"partition", &StringMethods::partition},
    {"removeprefix", &StringMethods::removeprefix},
    {"removesuffix", &StringMethods::removesuffix},
    {"replace", &StringMethods::replace},
    {"rfind", &StringMethods::rfind},
    {"rindex", &StringMethods::rindex},
    {"rjust", &StringMethods::rjust},
    {"rpartition", &StringMethods::rpartition},
    {"rsplit", &StringMethods::rsplit},
    {"rstrip", &StringMethods::rstrip},
    {"split", &StringMethods::split},
    {"splitlines", &StringMethods::splitlines},
    {"startswith", &StringMethods::startswith},
    {"strip", &StringMethods::strip},
    {"swapcase", &StringMethods::in_case},
    {"title", &StringMethods::in_case},
    {"translate", &StringMethods::unsupported},
    {"upper", &StringMethods::in_case},
    {"zfill", &StringMethods::zfill},
};

const MethodEntry* find_string_method(std::string_view name) {
  const auto it = std::find_if(std::begin(kStringMethods), std::end(kStringMethods),
                               [&](const MethodEntry& m) { return m.name == name; });
  return it == std::end(kStringMethods) ? nullptr : it;
}

}  // namespace

std::string_view string_method(std::string_view name) {
  const MethodEntry* entry = find_string_method(name);
  return entry == nullptr ? std::string_view() : entry->name;
}

Value Interpreter::call_method(const Value& self, std::string_view name, const Call& arguments) {
  if (self.is_string()) return (StringMethods(*this, self, name, arguments).*(find_string_method(name)->run))();
  if (name != "get" && !arguments.named.empty() && self.is(Kind::kDict)) fail("{}() takes no named arguments", name);
  if (self.is(Kind::kDict)) {
    Dict& d = *self.dict;
    if (name == "get") {
      if (!arguments.named.empty()) fail("get() takes no named arguments");
      const Bound b(name, arguments, {"key", "default"}, 1);
      if (const Value* found = find(&d, *b[0])) return *found;
      return b[1] != nullptr ? *b[1] : Value::none();
    }
    const Bound b(name, arguments, {});
    if (name == "copy") {
      Value copy = dict();
      budget_.take(d.entries.size() * 2 * sizeof(Value));
      copy.dict->entries = d.entries;
      return copy;
    }
    std::vector<Value> out;
    budget_.step(d.entries.size());
    out.reserve(d.entries.size());
    for (const auto& [key, value] : d.entries) {
      out.push_back(name == "keys" ? key : name == "values" ? value : sequence({key, value}, Flavor::kTuple));
    }
    return sequence(std::move(out), name == "keys"     ? Flavor::kKeys
                                    : name == "values" ? Flavor::kValues
                                                       : Flavor::kItems);
  }
  if (self.is(Kind::kLoop)) {
    Loop& loop = *self.loop;
    if (!arguments.named.empty()) fail("loop.{}() takes no named arguments", name);
    if (name == "cycle") {
      if (arguments.positional.empty()) fail("loop.cycle() needs at least one item");
      return arguments.positional[loop.index0 % arguments.positional.size()];
    }
    bool same = loop.has_changed_value && loop.changed_value.size() == arguments.positional.size();
    for (size_t i = 0; same && i < loop.changed_value.size(); ++i) {
      same = equal(loop.changed_value[i], arguments.positional[i]);
    }
    if (same) return Value::of(false);
    loop.has_changed_value = true;
    loop.changed_value = arguments.positional;
    return Value::of(true);
  }
  if (self.is(Kind::kCallable)) {  // a cycler
    const Bound b(name, arguments, {});
    Callable& c = *self.callable;
    if (name == "reset") {
      c.position = 0;
      return Value::none();
    }
    const Value current = c.items[c.position];
    c.position = (c.position + 1) % c.items.size();
    return current;
  }
  const std::vector<Value>& items = self.sequence->items;
  if (!arguments.named.empty()) fail("{}() takes no named arguments", name);
  if (name == "copy") {
    const Bound b(name, arguments, {});
    return sequence(items);
  }
  const Bound b(name, arguments, {"value", "start", "stop"}, 1);
  if (name == "count") {
    if (b[1] != nullptr) fail("count() takes one argument");
    int64_t n = 0;
    for (const Value& item : items) n += equal(item, *b[0]) ? 1 : 0;
    return Value::of(n);
  }
  const auto size = static_cast<int64_t>(items.size());
  const auto bound = [&](const Value* v, int64_t missing) {
    if (v == nullptr) return missing;
    const int64_t i = integer(*v, "index()");
    return i < 0 ? std::max<int64_t>(i + size, 0) : std::min(i, size);
  };
  const int64_t stop = bound(b[2], size);
  for (int64_t i = bound(b[1], 0); i < stop; ++i) {
    if (equal(items[static_cast<size_t>(i)], *b[0])) return Value::of(i);
  }
  fail("index(): the value is not there");
}

Value Interpreter::in_case(const Value& s, std::string_view name) {
  const std::string& bytes = s.bytes();
  Builder out(budget_);
  bool in_word = false;
  for (size_t at = 0; at < bytes.size();) {
    const Char c = char_at(bytes, at);
    at = c.end;
    const bool is_byte = c.code >= 0xDC00 && c.code < 0xE000;
    Case to = Case::kLower;
    if (name == "upper") {
      to = Case::kUpper;
    } else if (name == "capitalize") {
      to = c.begin == 0 ? Case::kTitle : Case::kLower;
    } else if (name == "swapcase") {
      to = is_upper(c.code) ? Case::kLower : Case::kUpper;
    } else if (name == "title") {
      to = in_word ? Case::kLower : Case::kTitle;
      in_word = is_upper(c.code) || is_lower(c.code);
    }
    std::string changed;
    if (is_byte) {
      changed = bytes.substr(c.begin, 1);
    } else {
      append_in_case(c.code, to, &changed);
    }
    out.append(changed, s.text().is_content(c.begin));
  }
  return string(out.take(), s.string->markup);
}

Value Interpreter::stripped(const Value& s, const Value* chars, bool left, bool right) {
  const std::string& bytes = s.bytes();
  budget_.work(bytes.size());
  std::vector<uint32_t> set;
  const bool any_space = chars == nullptr || chars->is_none();
  if (!any_space) {
    if (!chars->is_string()) fail("strip() needs a string, and got a value of type {}", type_name(*chars));
    for (size_t at = 0; at < chars->bytes().size();) {
      const Char c = char_at(chars->bytes(), at);
      set.push_back(c.code);
      at = c.end;
    }
    budget_.step(set.size());
  }
  const auto goes = [&](uint32_t code) {
    budget_.step(set.size() / 32);
    return any_space ? is_space(code) : std::find(set.begin(), set.end(), code) != set.end();
  };
  size_t begin = 0;
  if (left) {
    while (begin < bytes.size()) {
      const Char c = char_at(bytes, begin);
      if (!goes(c.code)) break;
      begin = c.end;
    }
  }
  size_t end = bytes.size();
  if (right) {
    while (end > begin) {
      // Back to the start of the last character: at most three continuation bytes before it.
      size_t last = end - 1;
      while (last > begin && end - last < 4 && (static_cast<uint8_t>(bytes[last]) & 0xC0) == 0x80) --last;
      Char c = char_at(bytes, last);
      if (c.end != end) c = char_at(bytes, end - 1);
      if (!goes(c.code)) break;
      end = c.begin;
    }
  }
  return substring(s, begin, end);
}

Value Interpreter::replaced(const Value& s, const Text& from, const Text& to, int64_t count) {
  const std::string& bytes = s.bytes();
  if (count < 0) count = INT64_MAX;
  budget_.work(bytes.size());
  Builder out(budget_);
  size_t begin = 0;
  if (from.size() == 0) {  // between all characters
    for (size_t at = 0; count > 0; --count) {
      out.append(to);
      if (at >= bytes.size()) break;
      const Char c = char_at(bytes, at);
      out.append(s.text(), c.begin, c.end);
      begin = at = c.end;
    }
    out.append(s.text(), begin, bytes.size());
    return string(out.take(), s.string->markup);
  }
  for (; count > 0; --count) {
    const size_t at = bytes.find(from.bytes(), begin);
    if (at == std::string::npos) break;
    out.append(s.text(), begin, at);
    out.append(to);
    begin = at + from.size();
  }
  if (begin == 0) return s;
  out.append(s.text(), begin, bytes.size());
  return string(out.take(), s.string->markup);
}

Value Interpreter::sorted(std::vector<Value> items, std::vector<Value> keys, bool reverse) {
  std::vector<size_t> order(items.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  Comparer comparer(budget_);
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return reverse ? comparer.less(keys[b], keys[a]) : comparer.less(keys[a], keys[b]);
  });
  std::vector<Value> out;
  out.reserve(items.size());
  for (const size_t i : order) out.push_back(std::move(items[i]));
  return sequence(std::move(out));
}

}  // namespace decant::jinja
