// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Walks a program. Filters, tests and methods are in files of their own and use the services declared here. Internal to
// src/text.
#pragma once

#include <ctime>
#include <deque>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja.h"
#include "text/jinja/program.h"
#include "text/jinja/value.h"

namespace decant::jinja {

struct Scope {
  std::shared_ptr<Scope> parent;
  std::vector<std::pair<int, Value>> variables;

  Value* find_here(int name) {
    for (auto& [n, v] : variables) {
      if (n == name) return &v;
    }
    return nullptr;
  }
};

// What a template can call.
struct Callable {
  enum class Type : uint8_t { kMacro, kMethod, kGlobal, kJoiner, kCycler };
  Type type;
  std::string_view name;  // of a method or a global
  Value self;             // of a method
  const Node* macro = nullptr;
  std::shared_ptr<Scope> scope;  // where the macro was defined
  std::vector<Value> items;      // of a cycler; the separator of a joiner
  size_t position = 0;           // of a cycler; calls of a joiner
};

// The variable `loop`.
struct Loop {
  std::vector<Value> items;
  size_t index0 = 0;
  int depth0 = 0;
  const Node* node = nullptr;
  std::shared_ptr<Scope> scope;
  bool has_changed_value = false;
  std::vector<Value> changed_value;
};

struct Call {
  std::vector<Value> positional;
  std::vector<std::pair<std::string_view, Value>> named;
};

// The arguments of a built-in function by its parameters' names.
class Bound {
 public:
  // kInvalidArgument for arguments that the function does not have and for missing ones of the first `required`.
  Bound(std::string_view what, const Call& call, std::initializer_list<std::string_view> parameters,
        size_t required = 0);
  // nullptr: not given.
  const Value* operator[](size_t i) const { return values_[i]; }

 private:
  std::vector<const Value*> values_;
};

class Interpreter {
 public:
  Interpreter(const Program& program, const RenderOptions& options);
  ~Interpreter();

  Text run(std::span<const Variable> variables);
  int line() const { return line_; }

  Budget& budget() { return budget_; }

  // Makers of values.
  Value string(Text text, bool markup = false);
  Value string(std::string_view bytes, bool content = false);
  Value substring(const Value& s, size_t begin, size_t end);  // bytes
  Value sequence(std::vector<Value> items, Flavor flavor = Flavor::kList);
  Value range(int64_t start, int64_t stop, int64_t step);
  Value dict();
  Value method(const Value& self, std::string_view name);
  Value undefined(std::string message);

  // Operations that filters and methods share.
  std::vector<Value> iterate(const Value& v);
  Text str(const Value& v);
  Value str_value(const Value& v);                         // str()
  Value soft_str(const Value& v);                          // the same, but Markup stays Markup
  Value escaped(const Value& v);                           // markupsafe.escape
  Value attribute(const Value& v, std::string_view name);  // v.name
  Value item(const Value& v, const Value& key);            // v[key]
  Value path(const Value& v, const Value& attribute);      // "a.b.0", of filters
  Value* find(Dict* dict, const Value& key);
  void insert(Dict* dict, const Value& key, Value value);
  int64_t integer(const Value& v, std::string_view what);
  size_t length(const Value& v);
  bool contains(const Value& container, const Value& v);
  bool equal(const Value& a, const Value& b) { return Comparer(budget_).equal(a, b); }
  Value call(const Value& function, const Call& arguments);
  Value binary(Op op, const Value& a, const Value& b);

  // filters.cc
  Value filter(std::string_view name, const Value& v, const Call& arguments);
  // tests.cc
  bool test(std::string_view name, const Value& v, const Call& arguments);
  // methods.cc
  Value call_method(const Value& self, std::string_view name, const Call& arguments);
  Value in_case(const Value& s, std::string_view name);  // upper, lower, title, capitalize, swapcase of str
  Value stripped(const Value& s, const Value* chars, bool left, bool right);
  Value replaced(const Value& s, const Text& from, const Text& to, int64_t count);
  Value sorted(std::vector<Value> items, std::vector<Value> keys, bool reverse);
  // format.cc
  Value format_method(const Value& format, const Call& arguments);    // "{}".format(x)
  Value format_percent(const Value& format, const Value& arguments);  // "%s" % x

 private:
  enum class Flow : uint8_t { kNext, kBreak, kContinue };

  class Depth;
  class Capture;

  Value from_json(const nlohmann::ordered_json& json, Origin origin, int depth);

  Value eval(const Node& node);
  Value eval_name(const Node& node);
  Value eval_compare(const Node& node);
  Value eval_slice(const Node& node);
  Value eval_call(const Node& node, const Value* caller);
  Value eval_filter(const Node& node, const Value* input);
  Value eval_dict(const Node& node);
  Value eval_concat(const Node& node);
  Call eval_arguments(const Arguments& arguments);
  std::vector<Value> eval_all(const Body& items);
  Value negate(const Value& v, bool negative);
  Value slice(const Value& v, const Value& start, const Value& stop, const Value& step);
  bool compare(Comparison op, const Value& a, const Value& b);

  Flow exec(const Body& body);
  Flow exec_for(const Node& node);
  Flow run_loop(const Node& node, const Value& iterable, int depth0);
  Flow exec_if(const Node& node);
  Flow exec_scoped(const Body& body);
  Flow exec_with(const Node& node);
  void exec_output(const Node& node);
  void assign(const Node& target, const Value& value);
  Value make_macro(const Node& node);
  Value call_macro(Callable* macro, const Call& arguments);
  Value call_global(std::string_view name, const Call& arguments);
  Value call_loop(Loop* loop, const Call& arguments);
  Value loop_attribute(Loop* loop, std::string_view name);
  Value strftime_now(const Value& format);
  Value* lookup(int name);

  const Program& program_;
  RenderOptions options_;
  Budget budget_;
  int line_ = 0;
  int depth_ = 0;
  int macro_depth_ = 0;
  Builder* out_ = nullptr;
  std::shared_ptr<Scope> scope_;
  std::deque<Sequence> sequences_;
  std::deque<Dict> dicts_;
  std::deque<Callable> callables_;
  std::deque<Loop> loops_;
};

// Python's rules for the bounds of a slice over `size` items; the indices it takes.
struct SliceBounds {
  int64_t start, stop, step;
  size_t count;
};
SliceBounds slice_bounds(Interpreter& in, const Value& start, const Value& stop, const Value& step, size_t size);

// The name of a method of strings with static lifetime, or "".
std::string_view string_method(std::string_view name);

}  // namespace decant::jinja
