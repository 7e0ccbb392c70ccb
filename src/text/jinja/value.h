// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Values of templates, as Python has them: what they print as, how they compare. Internal to src/text.
//
// Inside src/text/jinja failures are exceptions of type Failure; compile() and render() turn them into Status.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"
#include "text/jinja.h"

namespace decant::jinja {

struct Failure {
  Code code;
  std::string message;
  bool raised = false;  // by the template itself: the message is for the user
};

template <typename... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
  throw Failure{Code::kInvalidArgument, fmt::format(format, std::forward<Args>(args)...)};
}
template <typename... Args>
[[noreturn]] void fail_unsupported(fmt::format_string<Args...> format, Args&&... args) {
  throw Failure{Code::kUnsupported, fmt::format(format, std::forward<Args>(args)...)};
}

// What is left of a rendering's limits.
class Budget {
 public:
  explicit Budget(const Limits& limits) : limits_(limits), steps_(limits.steps) {}

  void step(size_t n = 1) {
    steps_ -= static_cast<int64_t>(n);
    if (steps_ < 0) out_of_steps();
  }
  // Work on so many bytes.
  void work(size_t bytes) { step(bytes / 32); }
  void take(size_t bytes) {
    memory_ += bytes;
    if (memory_ > limits_.memory_bytes) out_of_memory(bytes);
  }
  void give(size_t bytes) { memory_ -= bytes; }
  void check_string(size_t bytes) const {
    if (bytes > limits_.string_bytes) string_too_long();
  }
  const Limits& limits() const { return limits_; }

 private:
  [[noreturn]] void out_of_steps() const;
  [[noreturn]] void out_of_memory(size_t bytes);
  [[noreturn]] void string_too_long() const;

  Limits limits_;
  int64_t steps_;
  size_t memory_ = 0;
};

// A string that grows within the limits.
class Builder {
 public:
  explicit Builder(Budget& budget) : budget_(budget) {}
  void append(std::string_view bytes, bool content) {
    grow(bytes.size());
    text_.append(bytes, content);
  }
  void append(const Text& other, size_t begin, size_t end) {
    grow(end - begin);
    text_.append(other, begin, end);
  }
  void append(const Text& other) { append(other, 0, other.size()); }
  void own(std::string_view bytes) { append(bytes, false); }
  const Text& text() const { return text_; }
  Text take() { return std::move(text_); }

 private:
  void grow(size_t bytes) {
    budget_.step(1 + bytes / 32);
    // A run is as large as 16 bytes: text that changes its origin at each character pays for it.
    budget_.check_string(text_.size() + bytes + text_.runs().size() * sizeof(Text::Run) / 2);
  }
  Budget& budget_;
  Text text_;
};

// A string's characters live as long as a value refers to them, and count while they live.
struct String {
  String(Text t, bool is_markup, Budget* b) : text(std::move(t)), markup(is_markup), budget(b) {
    if (budget != nullptr) budget->take(bytes());
  }
  ~String() {
    if (budget != nullptr) budget->give(bytes());
  }
  String(const String&) = delete;
  String& operator=(const String&) = delete;
  size_t bytes() const { return 64 + text.size() + text.runs().size() * sizeof(Text::Run); }

  Text text;
  bool markup;     // what `safe` and `escape` give: other strings are escaped when they are joined to it with +
  Budget* budget;  // nullptr: a constant of the program
};

enum class Kind : uint8_t {
  kUndefined,  // `string` says why
  kNone,
  kBool,
  kInt,
  kFloat,
  kString,
  kSequence,
  kDict,
  kNamespace,
  kCallable,
  kLoop,
};

struct Sequence;
struct Dict;
struct Callable;
struct Loop;

// A value; containers belong to the interpreter and live until the end of the rendering.
struct Value {
  Kind kind = Kind::kUndefined;
  union {
    bool boolean;
    int64_t integer = 0;
    double real;
    Sequence* sequence;
    Dict* dict;  // of namespaces too
    Callable* callable;
    Loop* loop;
  };
  std::shared_ptr<const String> string;

  Value() = default;
  static Value none() {
    Value v;
    v.kind = Kind::kNone;
    return v;
  }
  static Value of(bool b) {
    Value v;
    v.kind = Kind::kBool;
    v.integer = 0;
    v.boolean = b;
    return v;
  }
  static Value of(int64_t i) {
    Value v;
    v.kind = Kind::kInt;
    v.integer = i;
    return v;
  }
  static Value of(double d) {
    Value v;
    v.kind = Kind::kFloat;
    v.real = d;
    return v;
  }
  static Value of(Sequence* s) {
    Value v;
    v.kind = Kind::kSequence;
    v.sequence = s;
    return v;
  }
  static Value of(Dict* d, Kind kind = Kind::kDict) {
    Value v;
    v.kind = kind;
    v.dict = d;
    return v;
  }
  static Value of(Callable* c) {
    Value v;
    v.kind = Kind::kCallable;
    v.callable = c;
    return v;
  }
  static Value of(Loop* l) {
    Value v;
    v.kind = Kind::kLoop;
    v.loop = l;
    return v;
  }
  static Value of(std::shared_ptr<const String> s) {
    Value v;
    v.kind = Kind::kString;
    v.string = std::move(s);
    return v;
  }

  bool is(Kind k) const { return kind == k; }
  bool is_string() const { return kind == Kind::kString; }
  bool is_undefined() const { return kind == Kind::kUndefined; }
  bool is_none() const { return kind == Kind::kNone; }
  // Python's bool is an int.
  bool is_integral() const { return kind == Kind::kInt || kind == Kind::kBool; }
  bool is_number() const { return is_integral() || kind == Kind::kFloat; }
  int64_t as_int() const { return kind == Kind::kBool ? static_cast<int64_t>(boolean) : integer; }
  double as_double() const { return kind == Kind::kFloat ? real : static_cast<double>(as_int()); }
  const Text& text() const { return string->text; }
  const std::string& bytes() const { return string->text.bytes(); }
};

enum class Flavor : uint8_t { kList, kTuple, kRange, kKeys, kValues, kItems, kIterator };

struct Sequence {
  Flavor flavor = Flavor::kList;
  std::vector<Value> items;
  int64_t start = 0, stop = 0, step = 1;  // of a range
  std::shared_ptr<Failure> failure;       // of a generator that fails when it is read

  bool is_indexable() const { return flavor == Flavor::kList || flavor == Flavor::kTuple || flavor == Flavor::kRange; }
};

struct Dict {
  std::vector<std::pair<Value, Value>> entries;  // in the order of insertion, keys differ

  // The value of a key, or nullptr.
  Value* find(std::string_view key);
};

// The name of a value's type in messages, as Python has it.
std::string_view type_name(const Value& v);
// How a value is named in messages that say it is not defined.
[[noreturn]] void fail_undefined(const Value& v);

bool truth(const Value& v);

// Python's ==, order (kInvalidArgument for types that have none) and hash(): keys of dicts must be hashable.
class Comparer {
 public:
  explicit Comparer(Budget& budget) : budget_(budget) {}
  bool equal(const Value& a, const Value& b) { return equal(a, b, 0); }
  bool less(const Value& a, const Value& b) { return less(a, b, "<", 0); }
  bool less(const Value& a, const Value& b, const char* op) { return less(a, b, op, 0); }

 private:
  bool equal(const Value& a, const Value& b, int depth);
  bool less(const Value& a, const Value& b, const char* op, int depth);
  void enter(int depth);
  Budget& budget_;
};

// kInvalidArgument for values that cannot be a key.
void require_hashable(const Value& v, int depth = 0);

// Three-way comparison of numbers, exact for integers beside floats; 2 when one is NaN.
int compare_numbers(const Value& a, const Value& b);

// The digits of a float as Python prints them.
std::string float_text(double d);

// str() and repr().
void append_str(const Value& v, Builder* out);
void append_repr(const Value& v, Builder* out, int depth = 0);

struct JsonStyle {
  bool ensure_ascii = false;
  bool sort_keys = false;
  bool indented = false;
  Text indent;
  Text item_separator, key_separator;
};
// json.dumps().
void append_json(const Value& v, const JsonStyle& style, Budget& budget, Builder* out, int depth = 0);

// Characters of a string: code points, and single bytes where it is not UTF-8.
struct Char {
  uint32_t code;  // of a stray byte: 0xDC00 + the byte, which is no character
  size_t begin, end;
};
// The character at an offset; precondition: at < text.size().
Char char_at(std::string_view text, size_t at);
size_t count_chars(std::string_view text);
// The byte offset of character number `index`, at most the size.
size_t char_offset(std::string_view text, size_t index);
// What Python's str.isspace() says of a character.
bool is_space(uint32_t code);

}  // namespace decant::jinja
