// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/interpreter.h"

#include <algorithm>
#include <cmath>
#include <ctime>
#include <nlohmann/json.hpp>

namespace decant::jinja {
namespace {

// Nested evaluations: expressions within blocks within macros. Keeps the stack below about 4 MB even under sanitizers.
constexpr int kMaxDepth = 1500;
constexpr int64_t kMaxRange = 100'000;  // jinja2's sandbox has this limit

// The usual roles, which templates may join into markers.
constexpr std::string_view kRoles[] = {"system", "user",     "assistant", "tool",          "developer",
                                       "model",  "function", "ipython",   "tool_response", "observation"};

constexpr std::string_view kGlobals[] = {"range",  "dict",   "namespace",    "raise_exception",
                                         "joiner", "cycler", "strftime_now", "lipsum"};

bool one_of(std::string_view name, std::span<const std::string_view> names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}
// The same name with the lifetime of the list, or "".
std::string_view lasting(std::string_view name, std::span<const std::string_view> names) {
  const auto it = std::find(names.begin(), names.end(), name);
  return it == names.end() ? std::string_view() : *it;
}

constexpr std::string_view kDictMethods[] = {"get", "items", "keys", "values", "copy"};
constexpr std::string_view kDictChanges[] = {"clear", "pop", "popitem", "setdefault", "update", "fromkeys"};
constexpr std::string_view kListMethods[] = {"count", "index", "copy"};
constexpr std::string_view kListChanges[] = {"append", "clear", "pop", "reverse", "insert", "sort", "extend", "remove"};
constexpr std::string_view kTupleMethods[] = {"count", "index"};

}  // namespace

class Interpreter::Depth {
 public:
  explicit Depth(Interpreter* in) : in_(in) {
    if (++in_->depth_ > kMaxDepth) {
      --in_->depth_;
      throw Failure{Code::kExhausted, "expressions, blocks and macro calls are nested too deep"};
    }
  }
  ~Depth() { --in_->depth_; }

 private:
  Interpreter* in_;
};

// While it lives, output goes here.
class Interpreter::Capture {
 public:
  explicit Capture(Interpreter* in) : in_(in), before_(in->out_), builder_(in->budget_) { in_->out_ = &builder_; }
  ~Capture() { in_->out_ = before_; }
  Text take() { return builder_.take(); }

 private:
  Interpreter* in_;
  Builder* before_;
  Builder builder_;
};

Bound::Bound(std::string_view what, const Call& call, std::initializer_list<std::string_view> parameters,
             size_t required)
    : values_(parameters.size()) {
  if (call.positional.size() > parameters.size()) {
    fail("{} takes at most {} arguments, and got {}", what, parameters.size(), call.positional.size());
  }
  for (size_t i = 0; i < call.positional.size(); ++i) values_[i] = &call.positional[i];
  for (const auto& [name, value] : call.named) {
    const auto at = std::find(parameters.begin(), parameters.end(), name);
    if (at == parameters.end()) fail("{} has no argument '{}'", what, name);
    const auto i = static_cast<size_t>(at - parameters.begin());
    if (values_[i] != nullptr) fail("{} got the argument '{}' twice", what, name);
    values_[i] = &value;
  }
  for (size_t i = 0; i < required; ++i) {
    if (values_[i] == nullptr) fail("{} needs the argument '{}'", what, parameters.begin()[i]);
  }
}

Interpreter::Interpreter(const Program& program, const RenderOptions& options)
    : program_(program), options_(options), budget_(options.limits), scope_(std::make_shared<Scope>()) {}

Interpreter::~Interpreter() = default;

// --- Makers

Value Interpreter::string(Text text, bool markup) {
  return Value::of(std::make_shared<const String>(std::move(text), markup, &budget_));
}

Value Interpreter::string(std::string_view bytes, bool content) {
  Text text;
  text.append(bytes, content);
  return string(std::move(text));
}

Value Interpreter::substring(const Value& s, size_t begin, size_t end) {
  if (begin == 0 && end == s.text().size()) return s;
  budget_.work(end - begin);
  Text text;
  text.append(s.text(), begin, end);
  return string(std::move(text), s.string->markup);
}

Value Interpreter::sequence(std::vector<Value> items, Flavor flavor) {
  budget_.step(1 + items.size() / 8);
  budget_.take(sizeof(Sequence) + items.size() * sizeof(Value));
  Sequence& s = sequences_.emplace_back();
  s.flavor = flavor;
  s.items = std::move(items);
  return Value::of(&s);
}

Value Interpreter::range(int64_t start, int64_t stop, int64_t step) {
  if (step == 0) fail("range() needs a step other than 0");
  const __int128 span = static_cast<__int128>(stop) - start;
  const __int128 wide = step > 0 ? (span + step - 1) / step : (span + step + 1) / step;
  const __int128 count = (step > 0 ? span > 0 : span < 0) ? wide : 0;
  if (count > kMaxRange) fail("range() of more than {} numbers", kMaxRange);
  std::vector<Value> items;
  items.reserve(static_cast<size_t>(count));
  for (__int128 i = 0; i < count; ++i) items.push_back(Value::of(static_cast<int64_t>(start + i * step)));
  Value v = sequence(std::move(items), Flavor::kRange);
  v.sequence->start = start;
  v.sequence->stop = stop;
  v.sequence->step = step;
  return v;
}

Value Interpreter::dict() {
  budget_.take(sizeof(Dict));
  return Value::of(&dicts_.emplace_back());
}

Value Interpreter::method(const Value& self, std::string_view name) {
  budget_.take(sizeof(Callable));
  Callable& c = callables_.emplace_back();
  c.type = Callable::Type::kMethod;
  c.name = name;
  c.self = self;
  return Value::of(&c);
}

Value Interpreter::undefined(std::string message) {
  Value v = string(message);
  v.kind = Kind::kUndefined;
  return v;
}

Value Interpreter::from_json(const nlohmann::ordered_json& json, Origin origin, int depth) {
  using Type = nlohmann::ordered_json::value_t;
  if (depth > 100) throw Failure{Code::kExhausted, "the data are nested more than 100 deep"};
  budget_.step();
  switch (json.type()) {
    case Type::boolean: return Value::of(json.get<bool>());
    case Type::number_integer: return Value::of(json.get<int64_t>());
    case Type::number_unsigned: {
      const auto n = json.get<uint64_t>();
      if (n > static_cast<uint64_t>(INT64_MAX)) fail("the number {} in the data does not fit in 64 bits", n);
      return Value::of(static_cast<int64_t>(n));
    }
    case Type::number_float: return Value::of(json.get<double>());
    case Type::string: {
      const auto& text = json.get_ref<const std::string&>();
      budget_.check_string(text.size());
      return string(text, origin != Origin::kTemplate);
    }
    case Type::array: {
      std::vector<Value> items;
      items.reserve(json.size());
      for (const auto& item : json) items.push_back(from_json(item, origin, depth + 1));
      return sequence(std::move(items));
    }
    case Type::object: {
      Value v = dict();
      budget_.take(json.size() * 2 * sizeof(Value));
      for (const auto& [key, value] : json.items()) {
        Value item = from_json(value, origin, depth + 1);
        if (origin == Origin::kMessages && depth == 1 && key == "role" && item.is_string() &&
            one_of(item.bytes(), kRoles)) {
          item = string(std::string(item.bytes()), false);
        }
        v.dict->entries.emplace_back(string(key, origin != Origin::kTemplate), std::move(item));
      }
      return v;
    }
    default: return Value::none();
  }
}

Text Interpreter::run(std::span<const Variable> variables) {
  for (const Variable& v : variables) {
    const int name = program_.names.find(v.name);
    if (name < 0) continue;  // no one asks for it
    scope_->variables.emplace_back(name, from_json(*v.value, v.origin, 0));
  }
  auto top = std::make_shared<Scope>();
  top->parent = scope_;
  scope_ = top;
  Capture capture(this);
  exec(program_.body);
  return capture.take();
}

// --- Shared operations

std::vector<Value> Interpreter::iterate(const Value& v) {
  switch (v.kind) {
    case Kind::kUndefined: return {};
    case Kind::kString: {
      std::vector<Value> out;
      const std::string& bytes = v.bytes();
      for (size_t at = 0; at < bytes.size();) {
        const Char c = char_at(bytes, at);
        budget_.step();
        Text one;
        one.append(v.text(), c.begin, c.end);
        out.push_back(string(std::move(one)));
        at = c.end;
      }
      return out;
    }
    case Kind::kSequence: {
      Sequence& s = *v.sequence;
      budget_.step(s.items.size() / 4);
      if (s.flavor != Flavor::kIterator) return s.items;
      if (s.failure != nullptr) throw *s.failure;
      return std::exchange(s.items, {});
    }
    case Kind::kDict: {
      std::vector<Value> out;
      out.reserve(v.dict->entries.size());
      budget_.step(v.dict->entries.size() / 4);
      for (const auto& [key, value] : v.dict->entries) out.push_back(key);
      return out;
    }
    default: fail("a value of type {} cannot be iterated over", type_name(v));
  }
}

Text Interpreter::str(const Value& v) {
  if (v.is_string()) return v.text();
  Builder builder(budget_);
  append_str(v, &builder);
  return builder.take();
}

Value Interpreter::str_value(const Value& v) {
  if (v.is_string() && !v.string->markup) return v;
  return string(str(v));
}
Value Interpreter::soft_str(const Value& v) { return v.is_string() ? v : string(str(v)); }

Value Interpreter::escaped(const Value& v) {
  if (v.is_string() && v.string->markup) return v;
  const Value s = soft_str(v);
  const std::string& bytes = s.bytes();
  Builder builder(budget_);
  size_t plain = 0;
  for (size_t i = 0; i < bytes.size(); ++i) {
    std::string_view entity;
    switch (bytes[i]) {
      case '&': entity = "&amp;"; break;
      case '<': entity = "&lt;"; break;
      case '>': entity = "&gt;"; break;
      case '"': entity = "&#34;"; break;
      case '\'': entity = "&#39;"; break;
      default: continue;
    }
    builder.append(s.text(), plain, i);
    builder.append(entity, s.text().is_content(i));
    plain = i + 1;
  }
  builder.append(s.text(), plain, bytes.size());
  return string(builder.take(), true);
}

Value* Interpreter::find(Dict* dict, const Value& key) {
  budget_.step(1 + dict->entries.size() / 16);
  if (key.is_string()) return dict->find(key.bytes());
  require_hashable(key);
  for (auto& [k, v] : dict->entries) {
    if (equal(k, key)) return &v;
  }
  return nullptr;
}

void Interpreter::insert(Dict* dict, const Value& key, Value value) {
  if (Value* old = find(dict, key); old != nullptr) {
    *old = std::move(value);
    return;
  }
  budget_.take(2 * sizeof(Value));
  dict->entries.emplace_back(key, std::move(value));
}

int64_t Interpreter::integer(const Value& v, std::string_view what) {
  if (v.is_undefined()) fail_undefined(v);
  if (!v.is_integral()) fail("{} needs a whole number, and got a value of type {}", what, type_name(v));
  return v.as_int();
}

size_t Interpreter::length(const Value& v) {
  switch (v.kind) {
    case Kind::kUndefined: return 0;
    case Kind::kString: budget_.work(v.text().size()); return count_chars(v.bytes());
    case Kind::kSequence:
      if (v.sequence->flavor == Flavor::kIterator) break;
      return v.sequence->items.size();
    case Kind::kDict: return v.dict->entries.size();
    case Kind::kLoop: return v.loop->items.size();
    default: break;
  }
  fail("a value of type {} has no length", type_name(v));
}

bool Interpreter::contains(const Value& container, const Value& v) {
  switch (container.kind) {
    case Kind::kUndefined: return false;
    case Kind::kString:
      if (!v.is_string()) fail("'in' needs a string in front of a string, and got a value of type {}", type_name(v));
      budget_.work(container.text().size());
      return container.bytes().find(v.bytes()) != std::string::npos;
    case Kind::kSequence: {
      const std::vector<Value> items = iterate(container);
      return std::any_of(items.begin(), items.end(), [&](const Value& i) { return equal(i, v); });
    }
    case Kind::kDict: return find(container.dict, v) != nullptr;
    default: fail("'in' needs something that can be iterated over, and got a value of type {}", type_name(container));
  }
}

Value Interpreter::attribute(const Value& v, std::string_view name) {
  // Python's own attributes are there and out of reach.
  const bool is_internal = name.size() > 4 && name.starts_with("__") && name.ends_with("__");
  const auto unsafe = [&] {
    return undefined(fmt::format("the sandbox does not give access to '{}' of a {}", name, type_name(v)));
  };
  switch (v.kind) {
    case Kind::kUndefined:
      if (name == "__class__") return unsafe();  // all objects have it
      fail_undefined(v);
    case Kind::kString:
      if (const std::string_view m = string_method(name); !m.empty()) return method(v, m);
      break;
    case Kind::kDict:
      if (const std::string_view m = lasting(name, kDictMethods); !m.empty()) return method(v, m);
      if (one_of(name, kDictChanges)) return unsafe();
      if (const Value* found = v.dict->find(name)) return *found;
      break;
    case Kind::kSequence: {
      const Flavor flavor = v.sequence->flavor;
      if (flavor == Flavor::kList) {
        if (const std::string_view m = lasting(name, kListMethods); !m.empty()) return method(v, m);
        if (one_of(name, kListChanges)) return unsafe();
      }
      if (flavor == Flavor::kTuple || flavor == Flavor::kRange) {
        if (const std::string_view m = lasting(name, kTupleMethods); !m.empty()) return method(v, m);
      }
      if (flavor == Flavor::kRange) {
        if (name == "start") return Value::of(v.sequence->start);
        if (name == "stop") return Value::of(v.sequence->stop);
        if (name == "step") return Value::of(v.sequence->step);
      }
      break;
    }
    case Kind::kNamespace:
      if (const Value* found = v.dict->find(name)) return *found;
      break;
    case Kind::kLoop: return loop_attribute(v.loop, name);
    case Kind::kCallable: {
      Callable& c = *v.callable;
      if (c.type == Callable::Type::kMacro && name == "name") {
        return c.macro->name < 0 ? Value::none() : string(program_.names[c.macro->name]);
      }
      if (c.type == Callable::Type::kCycler) {
        if (name == "current") return c.items[c.position];
        if (name == "next" || name == "reset") return method(v, name == "next" ? "next" : "reset");
      }
      break;
    }
    default: break;
  }
  if (is_internal) return unsafe();
  return undefined(fmt::format("a {} has no attribute '{}'", type_name(v), name));
}

Value Interpreter::item(const Value& v, const Value& key) {
  switch (v.kind) {
    case Kind::kUndefined: fail_undefined(v);
    case Kind::kString:
      if (key.is_integral()) {
        const std::string& bytes = v.bytes();
        int64_t index = key.as_int();
        budget_.work(bytes.size());
        if (index < 0) index += static_cast<int64_t>(count_chars(bytes));
        const size_t at = index < 0 ? bytes.size() : char_offset(bytes, static_cast<size_t>(index));
        if (at >= bytes.size()) return undefined(fmt::format("a string has no character {}", key.as_int()));
        return substring(v, at, char_at(bytes, at).end);
      }
      break;
    case Kind::kSequence:
      if (key.is_integral() && v.sequence->is_indexable()) {
        const auto size = static_cast<int64_t>(v.sequence->items.size());
        int64_t index = key.as_int();
        if (index < 0) index += size;
        if (index < 0 || index >= size)
          return undefined(fmt::format("a {} has no item {}", type_name(v), key.as_int()));
        return v.sequence->items[static_cast<size_t>(index)];
      }
      break;
    case Kind::kDict:
      if (!key.is(Kind::kSequence) && !key.is(Kind::kDict)) {
        if (const Value* found = find(v.dict, key)) return *found;
      } else if (key.is(Kind::kSequence) && key.sequence->flavor == Flavor::kTuple) {
        const bool hashable = [&] {
          try {
            require_hashable(key);
            return true;
          } catch (const Failure&) {
            return false;
          }
        }();
        if (hashable) {
          if (const Value* found = find(v.dict, key)) return *found;
        }
      }
      break;
    default: break;
  }
  if (key.is_string()) return attribute(v, key.bytes());
  return undefined(fmt::format("a {} has no such item", type_name(v)));
}

Value Interpreter::path(const Value& v, const Value& attribute) {
  if (attribute.is_none()) return v;
  if (!attribute.is_string()) return item(v, attribute);
  Value out = v;
  std::string_view rest = attribute.bytes();
  for (;;) {
    const size_t dot = rest.find('.');
    const std::string_view part = rest.substr(0, dot);
    const bool is_number = !part.empty() && part.size() < 18 &&
                           std::all_of(part.begin(), part.end(), [](char c) { return c >= '0' && c <= '9'; });
    out = item(out, is_number ? Value::of(static_cast<int64_t>(std::stoll(std::string(part)))) : string(part));
    if (dot == std::string_view::npos) return out;
    rest.remove_prefix(dot + 1);
  }
}

// --- Expressions

Value* Interpreter::lookup(int name) {
  for (Scope* s = scope_.get(); s != nullptr; s = s->parent.get()) {
    if (Value* v = s->find_here(name)) return v;
  }
  return nullptr;
}

Value Interpreter::eval_name(const Node& node) {
  if (const Value* v = lookup(node.name)) return *v;
  const std::string& name = program_.names[node.name];
  if (const auto global = std::find(std::begin(kGlobals), std::end(kGlobals), name); global != std::end(kGlobals)) {
    Callable& c = callables_.emplace_back();
    budget_.take(sizeof(Callable));
    c.type = Callable::Type::kGlobal;
    c.name = *global;
    return Value::of(&c);
  }
  return undefined(fmt::format("'{}' is undefined", name));
}

Value Interpreter::eval(const Node& node) {
  const Depth depth(this);
  budget_.step();
  line_ = node.line;
  switch (node.op) {
    case Op::kConst: return node.constant;
    case Op::kName: return eval_name(node);
    case Op::kList: return sequence(eval_all(node.items));
    case Op::kTuple: return sequence(eval_all(node.items), Flavor::kTuple);
    case Op::kDict: return eval_dict(node);
    case Op::kNegative: return negate(eval(*node.a), true);
    case Op::kPositive: return negate(eval(*node.a), false);
    case Op::kNot: return Value::of(!truth(eval(*node.a)));
    case Op::kAnd: {
      Value a = eval(*node.a);
      return truth(a) ? eval(*node.b) : a;
    }
    case Op::kOr: {
      Value a = eval(*node.a);
      return truth(a) ? a : eval(*node.b);
    }
    case Op::kAdd:
    case Op::kSubtract:
    case Op::kMultiply:
    case Op::kDivide:
    case Op::kFloorDivide:
    case Op::kModulo:
    case Op::kPower: {
      const Value a = eval(*node.a);
      const Value b = eval(*node.b);
      line_ = node.line;
      return binary(node.op, a, b);
    }
    case Op::kConcat: return eval_concat(node);
    case Op::kCompare: return eval_compare(node);
    case Op::kCondition:
      if (truth(eval(*node.b))) return eval(*node.a);
      if (node.c != nullptr) return eval(*node.c);
      return undefined("the inline 'if' was false and has no 'else'");
    case Op::kAttribute: {
      const Value a = eval(*node.a);
      line_ = node.line;
      return attribute(a, node.text);
    }
    case Op::kItem: {
      const Value a = eval(*node.a);
      const Value b = eval(*node.b);
      line_ = node.line;
      return item(a, b);
    }
    case Op::kSlice: return eval_slice(node);
    case Op::kCall: return eval_call(node, nullptr);
    case Op::kFilter: return eval_filter(node, nullptr);
    case Op::kTest: {
      const Value a = eval(*node.a);
      const Call arguments = eval_arguments(*node.arguments);
      line_ = node.line;
      return Value::of(test(node.text, a, arguments));
    }
    default: fail("this is no expression");
  }
}

std::vector<Value> Interpreter::eval_all(const Body& items) {
  std::vector<Value> out;
  out.reserve(items.size());
  for (const NodePtr& item : items) out.push_back(eval(*item));
  return out;
}

Value Interpreter::eval_dict(const Node& node) {
  Value v = dict();
  for (size_t i = 0; i + 1 < node.items.size(); i += 2) {
    const Value key = eval(*node.items[i]);
    Value value = eval(*node.items[i + 1]);
    line_ = node.line;
    insert(v.dict, key, std::move(value));
  }
  return v;
}

Value Interpreter::eval_concat(const Node& node) {
  Builder builder(budget_);
  for (const NodePtr& item : node.items) append_str(eval(*item), &builder);
  return string(builder.take());
}

bool Interpreter::compare(Comparison op, const Value& a, const Value& b) {
  Comparer comparer(budget_);
  const bool numbers = a.is_number() && b.is_number();
  switch (op) {
    case Comparison::kEq: return comparer.equal(a, b);
    case Comparison::kNe: return !comparer.equal(a, b);
    case Comparison::kLt: return comparer.less(a, b, "<");
    case Comparison::kGt: return comparer.less(b, a, ">");
    case Comparison::kLe:
      if (numbers) return compare_numbers(a, b) <= 0;
      return !comparer.less(b, a, "<=");
    case Comparison::kGe:
      if (numbers) {
        const int order = compare_numbers(a, b);
        return order == 0 || order == 1;
      }
      return !comparer.less(a, b, ">=");
    case Comparison::kIn: return contains(b, a);
    case Comparison::kNotIn: return !contains(b, a);
  }
  return false;
}

Value Interpreter::eval_compare(const Node& node) {
  Value left = eval(*node.a);
  for (size_t i = 0; i < node.items.size(); ++i) {
    Value right = eval(*node.items[i]);
    line_ = node.line;
    if (!compare(node.comparisons[i], left, right)) return Value::of(false);
    left = std::move(right);
  }
  return Value::of(true);
}

Value Interpreter::negate(const Value& v, bool negative) {
  if (v.is_undefined()) fail_undefined(v);
  if (v.is(Kind::kFloat)) return Value::of(negative ? -v.real : v.real);
  if (!v.is_integral()) fail("a value of type {} has no sign", type_name(v));
  int64_t out = v.as_int();
  if (negative && __builtin_sub_overflow(int64_t{0}, out, &out)) fail("the result does not fit in 64 bits");
  return Value::of(out);
}

SliceBounds slice_bounds(Interpreter& in, const Value& start, const Value& stop, const Value& step, size_t size) {
  const auto n = static_cast<int64_t>(size);
  const auto is_missing = [](const Value& v) { return v.is_none(); };
  const int64_t by = is_missing(step) ? 1 : in.integer(step, "a slice");
  if (by == 0) fail("a slice needs a step other than 0");
  const auto bound = [&](const Value& v, int64_t missing) {
    if (is_missing(v)) return missing;
    int64_t i = in.integer(v, "a slice");
    if (i < 0) i = std::max(i + n, by < 0 ? int64_t{-1} : int64_t{0});
    return std::min(i, by < 0 ? n - 1 : n);
  };
  SliceBounds out{bound(start, by < 0 ? n - 1 : 0), bound(stop, by < 0 ? -1 : n), by, 0};
  if (by > 0 && out.start < out.stop) {
    out.count = static_cast<size_t>((out.stop - out.start - 1) / by + 1);
  } else if (by < 0 && out.start > out.stop) {
    const auto span = static_cast<uint64_t>(out.start - out.stop - 1);
    out.count = static_cast<size_t>(span / (0 - static_cast<uint64_t>(by)) + 1);
  }
  return out;
}

Value Interpreter::slice(const Value& v, const Value& start, const Value& stop, const Value& step) {
  if (v.is_undefined()) fail_undefined(v);
  if (v.is_string()) {
    const std::string& bytes = v.bytes();
    budget_.work(bytes.size());
    const SliceBounds b = slice_bounds(*this, start, stop, step, count_chars(bytes));
    if (b.count == 0) return string(Text(), v.string->markup);
    if (b.step == 1) {
      const size_t begin = char_offset(bytes, static_cast<size_t>(b.start));
      return substring(v, begin, begin + char_offset(std::string_view(bytes).substr(begin), b.count));
    }
    std::vector<size_t> offsets;
    for (size_t at = 0; at < bytes.size(); at = char_at(bytes, at).end) offsets.push_back(at);
    budget_.step(offsets.size());
    Builder builder(budget_);
    int64_t index = b.start;
    for (size_t i = 0; i < b.count; ++i) {
      const size_t at = offsets[static_cast<size_t>(index)];
      builder.append(v.text(), at, char_at(bytes, at).end);
      if (i + 1 < b.count) index += b.step;
    }
    return string(builder.take(), v.string->markup);
  }
  if (!v.is(Kind::kSequence) || !v.sequence->is_indexable()) fail("a value of type {} cannot be sliced", type_name(v));
  const Sequence& s = *v.sequence;
  const SliceBounds b = slice_bounds(*this, start, stop, step, s.items.size());
  std::vector<Value> items;
  budget_.step(b.count / 4);
  items.reserve(b.count);
  int64_t index = b.start;
  for (size_t i = 0; i < b.count; ++i) {
    items.push_back(s.items[static_cast<size_t>(index)]);
    if (i + 1 < b.count) index += b.step;
  }
  Value out = sequence(std::move(items), s.flavor);
  if (s.flavor == Flavor::kRange) {
    // The bounds of a range are at most kMaxRange steps apart, so only a hostile step can overflow.
    if (__builtin_mul_overflow(s.step, b.step, &out.sequence->step)) fail("the result does not fit in 64 bits");
    const auto at = [&](int64_t i) {
      return static_cast<int64_t>(static_cast<__int128>(s.start) + static_cast<__int128>(s.step) * i);
    };
    out.sequence->start = at(b.start);
    out.sequence->stop = at(b.stop);
  }
  return out;
}

Value Interpreter::eval_slice(const Node& node) {
  const Value v = eval(*node.a);
  const auto part = [&](const NodePtr& p) { return p == nullptr ? Value::none() : eval(*p); };
  const Value start = part(node.b);
  const Value stop = part(node.c);
  const Value step = part(node.d);
  line_ = node.line;
  return slice(v, start, stop, step);
}

Call Interpreter::eval_arguments(const Arguments& arguments) {
  Call call;
  call.positional = eval_all(arguments.positional);
  for (const auto& [name, value] : arguments.named) call.named.emplace_back(name, eval(*value));
  if (arguments.list != nullptr) {
    for (Value& v : iterate(eval(*arguments.list))) call.positional.push_back(std::move(v));
  }
  if (arguments.dict != nullptr) {
    const Value v = eval(*arguments.dict);
    if (v.is_undefined()) fail_undefined(v);
    if (!v.is(Kind::kDict)) fail("**arguments needs a dict, and got a value of type {}", type_name(v));
    for (const auto& [key, value] : v.dict->entries) {
      if (!key.is_string()) fail("**arguments needs keys that are strings");
      for (const auto& [name, other] : call.named) {
        if (name == key.bytes()) fail("the argument '{}' is given twice", name);
      }
      call.named.emplace_back(key.bytes(), value);
    }
  }
  budget_.step(call.positional.size() + call.named.size());
  return call;
}

Value Interpreter::eval_call(const Node& node, const Value* caller) {
  const Value function = eval(*node.a);
  Call arguments = eval_arguments(*node.arguments);
  if (caller != nullptr) arguments.named.emplace_back("caller", *caller);
  line_ = node.line;
  return call(function, arguments);
}

Value Interpreter::eval_filter(const Node& node, const Value* input) {
  // Of a chain without an input (a block's), the innermost filter gets it.
  const Value v = node.a == nullptr ? *input : input != nullptr ? eval_filter(*node.a, input) : eval(*node.a);
  const Call arguments = eval_arguments(*node.arguments);
  line_ = node.line;
  return filter(node.text, v, arguments);
}

Value Interpreter::call(const Value& function, const Call& arguments) {
  if (function.is_undefined()) fail_undefined(function);
  if (function.is(Kind::kLoop)) return call_loop(function.loop, arguments);
  if (!function.is(Kind::kCallable)) fail("a value of type {} cannot be called", type_name(function));
  Callable& c = *function.callable;
  switch (c.type) {
    case Callable::Type::kMacro: return call_macro(&c, arguments);
    case Callable::Type::kGlobal: return call_global(c.name, arguments);
    case Callable::Type::kMethod: return call_method(c.self, c.name, arguments);
    case Callable::Type::kJoiner: {
      const Bound bound("joiner", arguments, {});
      return c.position++ == 0 ? string("") : c.items[0];
    }
    case Callable::Type::kCycler: break;
  }
  fail("this value cannot be called");
}

Value Interpreter::call_macro(Callable* callable, const Call& arguments) {
  const Node& macro = *callable->macro;
  const auto name = [&] { return macro.name < 0 ? std::string("caller") : program_.names[macro.name]; };
  const std::vector<Parameter>& parameters = macro.parameters;
  if (macro_depth_ >= options_.limits.depth) {
    throw Failure{Code::kExhausted, fmt::format("macro calls nested more than {} deep", options_.limits.depth)};
  }
  auto scope = std::make_shared<Scope>();
  scope->parent = callable->scope;

  std::vector<bool> used(arguments.named.size());
  const auto named = [&](std::string_view parameter) -> const Value* {
    for (size_t i = 0; i < used.size(); ++i) {
      if (!used[i] && arguments.named[i].first == parameter) {
        used[i] = true;
        return &arguments.named[i].second;
      }
    }
    return nullptr;
  };
  bool has_caller_parameter = false;
  // Defaults are evaluated inside the macro, where earlier parameters are known.
  std::vector<const Node*> defaults;
  for (size_t i = 0; i < parameters.size(); ++i) {
    const std::string& parameter = program_.names[parameters[i].name];
    has_caller_parameter |= parameter == "caller";
    const Value* given = i < arguments.positional.size() ? &arguments.positional[i] : named(parameter);
    if (given != nullptr) {
      scope->variables.emplace_back(parameters[i].name, *given);
      defaults.push_back(nullptr);
      continue;
    }
    scope->variables.emplace_back(parameters[i].name,
                                  undefined(fmt::format("the parameter '{}' was not given", parameter)));
    defaults.push_back(parameters[i].fallback.get());
  }
  if (macro.uses_caller && !has_caller_parameter) {
    const Value* caller = named("caller");
    scope->variables.emplace_back(program_.names.find("caller"), caller != nullptr && !caller->is_none()
                                                                     ? *caller
                                                                     : undefined("no caller is defined"));
  }
  if (macro.uses_kwargs) {
    Value rest = dict();
    for (size_t i = 0; i < used.size(); ++i) {
      if (!used[i]) insert(rest.dict, string(arguments.named[i].first), arguments.named[i].second);
    }
    scope->variables.emplace_back(program_.names.find("kwargs"), rest);
  } else {
    for (size_t i = 0; i < used.size(); ++i) {
      if (!used[i]) fail("the macro '{}' has no parameter '{}'", name(), arguments.named[i].first);
    }
  }
  if (macro.uses_varargs) {
    std::vector<Value> rest;
    for (size_t i = parameters.size(); i < arguments.positional.size(); ++i) rest.push_back(arguments.positional[i]);
    scope->variables.emplace_back(program_.names.find("varargs"), sequence(std::move(rest), Flavor::kTuple));
  } else if (arguments.positional.size() > parameters.size()) {
    fail("the macro '{}' takes at most {} arguments", name(), parameters.size());
  }

  struct Return {
    Interpreter* in;
    std::shared_ptr<Scope> scope;
    ~Return() {
      in->scope_ = std::move(scope);
      --in->macro_depth_;
    }
  };
  const Return back{this, std::exchange(scope_, scope)};
  ++macro_depth_;
  for (size_t i = 0; i < defaults.size(); ++i) {
    if (defaults[i] == nullptr) continue;
    Value v = eval(*defaults[i]);
    scope->variables[i].second = std::move(v);
  }
  Capture capture(this);
  const int line = line_;
  exec(macro.body);
  line_ = line;
  return string(capture.take());
}

Value Interpreter::call_loop(Loop* loop, const Call& arguments) {
  if (!loop->node->recursive) fail("only a loop that is marked 'recursive' can be called");
  const Bound bound("loop", arguments, {"iterable"}, 1);
  struct Return {
    Interpreter* in;
    std::shared_ptr<Scope> scope;
    ~Return() { in->scope_ = std::move(scope); }
  };
  const Return back{this, std::exchange(scope_, loop->scope)};
  Capture capture(this);
  run_loop(*loop->node, *bound[0], loop->depth0 + 1);
  return string(capture.take());
}

Value Interpreter::loop_attribute(Loop* loop, std::string_view name) {
  const auto index = static_cast<int64_t>(loop->index0);
  const auto length = static_cast<int64_t>(loop->items.size());
  if (name == "index") return Value::of(index + 1);
  if (name == "index0") return Value::of(index);
  if (name == "revindex") return Value::of(length - index);
  if (name == "revindex0") return Value::of(length - index - 1);
  if (name == "first") return Value::of(index == 0);
  if (name == "last") return Value::of(index + 1 == length);
  if (name == "length") return Value::of(length);
  if (name == "depth") return Value::of(static_cast<int64_t>(loop->depth0 + 1));
  if (name == "depth0") return Value::of(static_cast<int64_t>(loop->depth0));
  if (name == "previtem") return index > 0 ? loop->items[loop->index0 - 1] : undefined("there is no previous item");
  if (name == "nextitem")
    return index + 1 < length ? loop->items[loop->index0 + 1] : undefined("there is no next item");
  if (name == "cycle" || name == "changed") return method(Value::of(loop), name == "cycle" ? "cycle" : "changed");
  return undefined(fmt::format("'loop' has no attribute '{}'", name));
}

Value Interpreter::call_global(std::string_view name, const Call& arguments) {
  if (name == "raise_exception") {
    const Bound bound(name, arguments, {"message"}, 1);
    throw Failure{Code::kInvalidArgument, str(*bound[0]).bytes(), true};
  }
  if (name == "range") {
    if (!arguments.named.empty()) fail("range() takes no named arguments");
    const Bound bound(name, arguments, {"start", "stop", "step"}, 1);
    const int64_t first = integer(*bound[0], "range()");
    if (bound[1] == nullptr) return range(0, first, 1);
    return range(first, integer(*bound[1], "range()"), bound[2] == nullptr ? 1 : integer(*bound[2], "range()"));
  }
  if (name == "dict" || name == "namespace") {
    Value v = dict();
    if (arguments.positional.size() > 1) fail("{}() takes one argument without a name", name);
    if (!arguments.positional.empty()) {
      const Value& from = arguments.positional[0];
      if (from.is(Kind::kDict)) {
        for (const auto& [key, value] : from.dict->entries) insert(v.dict, key, value);
      } else {
        for (const Value& pair : iterate(from)) {
          const std::vector<Value> two = iterate(pair);
          if (two.size() != 2) fail("{}() needs pairs of key and value", name);
          insert(v.dict, two[0], two[1]);
        }
      }
    }
    for (const auto& [key, value] : arguments.named) insert(v.dict, string(key), value);
    if (name == "namespace") v.kind = Kind::kNamespace;
    return v;
  }
  if (name == "strftime_now") return strftime_now(*Bound(name, arguments, {"format"}, 1)[0]);
  if (name == "joiner" || name == "cycler") {
    budget_.take(sizeof(Callable));
    Callable& c = callables_.emplace_back();
    if (name == "joiner") {
      const Bound bound(name, arguments, {"sep"});
      c.type = Callable::Type::kJoiner;
      c.items = {bound[0] != nullptr ? *bound[0] : string(", ")};
    } else {
      if (!arguments.named.empty()) fail("cycler() takes no named arguments");
      if (arguments.positional.empty()) fail("cycler() needs at least one item");
      c.type = Callable::Type::kCycler;
      c.items = arguments.positional;
    }
    return Value::of(&c);
  }
  fail_unsupported("the function {}() is not supported", name);
}

Value Interpreter::strftime_now(const Value& format) {
  if (!format.is_string()) fail("strftime_now() needs a string");
  const std::string& text = format.bytes();
  if (text.size() > 1000) fail("strftime_now() needs a format of at most 1000 bytes");
  std::time_t now = options_.now ? static_cast<std::time_t>(*options_.now) : std::time(nullptr);
  std::tm parts{};
  if ((options_.now ? ::gmtime_r(&now, &parts) : ::localtime_r(&now, &parts)) == nullptr) {
    fail("strftime_now(): the clock shows no date");
  }
  if (text.empty()) return string("");
  std::string out(text.size() * 32 + 256, '\0');
  // One character more tells an empty result from a buffer that is too small.
  out.resize(std::strftime(out.data(), out.size(), (text + " ").c_str(), &parts));
  if (!out.empty()) out.pop_back();
  return string(out);
}

// --- Statements

Interpreter::Flow Interpreter::exec(const Body& body) {
  const Depth depth(this);
  for (const NodePtr& node : body) {
    budget_.step();
    line_ = node->line;
    Flow flow = Flow::kNext;
    switch (node->op) {
      case Op::kOutput: exec_output(*node); break;
      case Op::kFor: flow = exec_for(*node); break;
      case Op::kIf: flow = exec_if(*node); break;
      case Op::kSet: assign(*node->a, eval(*node->b)); break;
      case Op::kSetBlock: {
        Capture capture(this);
        flow = exec_scoped(node->body);
        if (flow != Flow::kNext) break;
        Value v = string(capture.take());
        assign(*node->a, node->b != nullptr ? eval_filter(*node->b, &v) : v);
        break;
      }
      case Op::kMacro: {
        const Value macro = make_macro(*node);
        if (Value* old = scope_->find_here(node->name)) {
          *old = macro;
        } else {
          scope_->variables.emplace_back(node->name, macro);
        }
        break;
      }
      case Op::kCallBlock: {
        const Value caller = make_macro(*node);
        append_str(eval_call(*node->a, &caller), out_);
        break;
      }
      case Op::kFilterBlock: {
        Value v;
        {
          Capture capture(this);
          flow = exec_scoped(node->body);
          if (flow != Flow::kNext) break;
          v = string(capture.take());
        }
        const Value filtered = eval_filter(*node->a, &v);
        if (!filtered.is_string())
          fail("the filters of the block give a value of type {}, not a string", type_name(filtered));
        out_->append(filtered.text());
        break;
      }
      case Op::kWith: flow = exec_with(*node); break;
      case Op::kGeneration: flow = exec_scoped(node->body); break;
      case Op::kBreak: return Flow::kBreak;
      case Op::kContinue: return Flow::kContinue;
      default: fail("this is no statement");
    }
    if (flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

void Interpreter::exec_output(const Node& node) {
  if (node.a == nullptr) return out_->own(node.text);
  const Value v = eval(*node.a);
  append_str(v, out_);
}

Interpreter::Flow Interpreter::exec_if(const Node& node) {
  for (size_t i = 0; i < node.items.size(); ++i) {
    if (truth(eval(*node.items[i]))) return exec(node.bodies[i]);
  }
  return node.bodies.size() > node.items.size() ? exec(node.bodies.back()) : Flow::kNext;
}

namespace {

// A scope within the current one, until the end of a block.
class Inner {
 public:
  explicit Inner(std::shared_ptr<Scope>* current) : current_(current), before_(*current) {
    auto scope = std::make_shared<Scope>();
    scope->parent = before_;
    *current_ = std::move(scope);
  }
  ~Inner() { *current_ = std::move(before_); }

 private:
  std::shared_ptr<Scope>* current_;
  std::shared_ptr<Scope> before_;
};

}  // namespace

Interpreter::Flow Interpreter::exec_scoped(const Body& body) {
  const Inner inner(&scope_);
  return exec(body);
}

Interpreter::Flow Interpreter::exec_with(const Node& node) {
  std::vector<Value> values;
  for (size_t i = 1; i < node.items.size(); i += 2) values.push_back(eval(*node.items[i]));
  const Inner inner(&scope_);
  for (size_t i = 0; i < values.size(); ++i) assign(*node.items[2 * i], values[i]);
  return exec(node.body);
}

Interpreter::Flow Interpreter::exec_for(const Node& node) {
  const Value iterable = eval(*node.b);
  line_ = node.line;
  return run_loop(node, iterable, 0);
}

Interpreter::Flow Interpreter::run_loop(const Node& node, const Value& iterable, int depth0) {
  const Depth depth(this);
  std::vector<Value> items = iterate(iterable);
  if (node.c != nullptr) {
    std::vector<Value> kept;
    for (Value& item : items) {
      const Inner inner(&scope_);
      assign(*node.a, item);
      if (truth(eval(*node.c))) kept.push_back(std::move(item));
    }
    items = std::move(kept);
  }
  if (items.empty()) return exec_scoped(node.otherwise);
  budget_.take(sizeof(Loop) + items.size() * sizeof(Value));
  Loop& loop = loops_.emplace_back();
  loop.items = std::move(items);
  loop.depth0 = depth0;
  loop.node = &node;
  loop.scope = scope_;
  const int loop_name = program_.names.find("loop");
  bool reached_end = false;
  for (; loop.index0 < loop.items.size(); ++loop.index0) {
    budget_.step();
    const Inner inner(&scope_);
    assign(*node.a, loop.items[loop.index0]);
    if (loop_name >= 0) scope_->variables.emplace_back(loop_name, Value::of(&loop));
    const Flow flow = exec(node.body);
    if (flow == Flow::kBreak) break;
    reached_end |= flow == Flow::kNext;
  }
  // Whoever kept `loop` finds it empty.
  budget_.give(loop.items.size() * sizeof(Value));
  loop.items = {};
  loop.index0 = 0;
  // jinja2 runs `else` also when each iteration was left by break or continue.
  return reached_end ? Flow::kNext : exec_scoped(node.otherwise);
}

void Interpreter::assign(const Node& target, const Value& value) {
  switch (target.op) {
    case Op::kName:
      if (Value* old = scope_->find_here(target.name)) {
        *old = value;
      } else {
        scope_->variables.emplace_back(target.name, value);
      }
      return;
    case Op::kNamespaceRef: {
      const Value* v = lookup(target.name);
      if (v == nullptr || !v->is(Kind::kNamespace)) {
        fail("'{}' is no namespace, so its attribute '{}' cannot be set", program_.names[target.name], target.text);
      }
      return insert(v->dict, string(target.text), value);
    }
    default: {
      if (value.is_undefined()) fail_undefined(value);
      const std::vector<Value> items = iterate(value);
      if (items.size() != target.items.size()) {
        fail("{} names are set to {} values", target.items.size(), items.size());
      }
      for (size_t i = 0; i < items.size(); ++i) assign(*target.items[i], items[i]);
    }
  }
}

Value Interpreter::make_macro(const Node& node) {
  budget_.take(sizeof(Callable));
  Callable& c = callables_.emplace_back();
  c.type = Callable::Type::kMacro;
  c.macro = &node;
  c.scope = scope_;
  return Value::of(&c);
}

}  // namespace decant::jinja
