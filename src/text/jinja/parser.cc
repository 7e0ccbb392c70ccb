// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Tokens to a tree, with jinja2's grammar.
#include <algorithm>
#include <array>

#include "text/jinja/program.h"

namespace decant::jinja {
namespace {

constexpr int kMaxNesting = 150;  // of expressions in the source, and of blocks
constexpr int kMaxHeight = 500;   // of the trees that long chains make

using Ends = std::initializer_list<std::string_view>;

class Parser {
 public:
  explicit Parser(std::string_view source) : tokens_(tokenize(source)), program_(std::make_shared<Program>()) {}

  std::shared_ptr<const Program> run() {
    program_->body = statements({});
    return program_;
  }

 private:
  struct Nesting {
    explicit Nesting(Parser* p) : parser(p) {
      if (++parser->nesting_ > kMaxNesting) parser->fail(fmt::format("nested more than {} deep", kMaxNesting));
    }
    ~Nesting() { --parser->nesting_; }
    Parser* parser;
  };
  // A block that is compiled apart: loops outside cannot be left from it, and what it names must exist even if an `if`
  // around it guards it (jinja2 has it so).
  struct Frame {
    Frame(Parser* p, bool is_loop) : parser(p), in_loop(p->in_loop_), guarded(p->guarded_) {
      p->in_loop_ = is_loop;
      p->guarded_ = false;
    }
    ~Frame() {
      parser->in_loop_ = in_loop;
      parser->guarded_ = guarded;
    }
    Parser* parser;
    bool in_loop, guarded;
  };
  struct Guard {
    explicit Guard(Parser* p) : parser(p), before(p->guarded_) { p->guarded_ = true; }
    ~Guard() { parser->guarded_ = before; }
    Parser* parser;
    bool before;
  };

  const Token& now() const { return tokens_[at_]; }
  const Token& ahead() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  const Token& take() {
    const Token& t = tokens_[at_];
    if (at_ + 1 < tokens_.size()) ++at_;
    return t;
  }
  [[noreturn]] void fail(std::string message, Code code = Code::kCorrupt) const {
    throw SyntaxFailure{code, now().line, std::move(message)};
  }
  static std::string describe(const Token& t) {
    switch (t.type) {
      case TokenType::kEnd: return "the end of the template";
      case TokenType::kBlockEnd: return "%}";
      case TokenType::kVariableEnd: return "}}";
      case TokenType::kString: return "a string";
      default: return "'" + t.text.substr(0, 60) + "'";
    }
  }
  bool is_op(std::string_view op) const { return now().type == TokenType::kOperator && now().text == op; }
  bool is_name(std::string_view name) const { return now().type == TokenType::kName && now().text == name; }
  bool skip_op(std::string_view op) {
    if (!is_op(op)) return false;
    take();
    return true;
  }
  bool skip_name(std::string_view name) {
    if (!is_name(name)) return false;
    take();
    return true;
  }
  void expect_op(std::string_view op) {
    if (!skip_op(op)) fail(fmt::format("expected '{}', found {}", op, describe(now())));
  }
  void expect_name(std::string_view name) {
    if (!skip_name(name)) fail(fmt::format("expected '{}', found {}", name, describe(now())));
  }
  std::string expect_identifier() {
    if (now().type != TokenType::kName) fail(fmt::format("expected a name, found {}", describe(now())));
    return take().text;
  }
  void expect_block_end() {
    if (now().type != TokenType::kBlockEnd) fail(fmt::format("expected %}}, found {}", describe(now())));
    take();
  }
  int number(std::string_view name) {
    if (name == "caller") uses_caller_ = true;
    if (name == "varargs") uses_varargs_ = true;
    if (name == "kwargs") uses_kwargs_ = true;
    return program_->names.number(name);
  }

  NodePtr make(Op op, int line, NodePtr a = nullptr, NodePtr b = nullptr, NodePtr c = nullptr) {
    auto node = std::make_unique<Node>(op, line);
    node->a = std::move(a);
    node->b = std::move(b);
    node->c = std::move(c);
    for (const NodePtr* child : {&node->a, &node->b, &node->c}) {
      if (*child != nullptr) rise(node.get(), **child);
    }
    return node;
  }
  void rise(Node* node, const Node& child) const {
    node->height = std::max(node->height, child.height + 1);
    if (node->height > kMaxHeight) fail(fmt::format("an expression of more than {} steps", kMaxHeight));
  }
  void add_item(Node* node, NodePtr item) const {
    rise(node, *item);
    node->items.push_back(std::move(item));
  }
  NodePtr constant(int line, Value value) {
    NodePtr node = make(Op::kConst, line);
    node->constant = std::move(value);
    return node;
  }
  NodePtr string_constant(int line, std::string_view text) {
    Text t;
    t.append(text, false);
    return constant(line, Value::of(std::make_shared<String>(std::move(t), false, nullptr)));
  }

  // --- Statements

  // Up to one of the tags `ends`, whose name is then the current token; up to the end of the template for none.
  Body statements(Ends ends) {
    const Nesting nesting(this);
    Body body;
    for (;;) {
      switch (now().type) {
        case TokenType::kEnd:
          if (ends.size() > 0) {
            fail(fmt::format("the template ends where '{}' is expected", *(ends.end() - 1)));
          }
          return body;
        case TokenType::kData: {
          const Token& t = take();
          body.push_back(make(Op::kOutput, t.line));
          body.back()->text = t.text;
          break;
        }
        case TokenType::kVariableBegin: {
          const int line = take().line;
          body.push_back(make(Op::kOutput, line, tuple()));
          if (now().type != TokenType::kVariableEnd) fail(fmt::format("expected }}}}, found {}", describe(now())));
          take();
          break;
        }
        default: {
          take();  // {%
          if (now().type == TokenType::kName && std::find(ends.begin(), ends.end(), now().text) != ends.end()) {
            return body;
          }
          statement(&body);
          expect_block_end();
        }
      }
    }
  }
  // The body of a tag whose arguments have been read.
  Body block(Ends ends) {
    skip_op(":");
    expect_block_end();
    return statements(ends);
  }
  Body whole_block(Ends ends) {
    Body body = block(ends);
    take();
    return body;
  }

  void statement(Body* body) {
    if (now().type != TokenType::kName) fail(fmt::format("expected the name of a tag, found {}", describe(now())));
    const Token& t = now();
    const std::string& tag = t.text;
    const int line = t.line;
    if (tag == "for") return body->push_back(for_loop());
    if (tag == "if") return body->push_back(if_chain());
    if (tag == "set") return body->push_back(set());
    if (tag == "macro") return body->push_back(macro());
    if (tag == "call") return body->push_back(call_block());
    if (tag == "with") return body->push_back(with());
    if (tag == "filter") {
      take();
      NodePtr node = make(Op::kFilterBlock, line, filters(nullptr, true));
      const Frame frame(this, in_loop_);
      node->body = whole_block({"endfilter"});
      return body->push_back(std::move(node));
    }
    if (tag == "generation") {
      take();
      NodePtr node = make(Op::kGeneration, line);
      const Frame frame(this, false);
      node->body = whole_block({"endgeneration"});
      return body->push_back(std::move(node));
    }
    if (tag == "print") {
      take();
      for (bool first = true; now().type != TokenType::kBlockEnd; first = false) {
        if (!first) expect_op(",");
        body->push_back(make(Op::kOutput, line, expression()));
      }
      return;
    }
    if (tag == "break" || tag == "continue") {
      if (!in_loop_) fail(fmt::format("'{}' outside a loop", tag));
      body->push_back(make(tag == "break" ? Op::kBreak : Op::kContinue, line));
      take();
      return;
    }
    static constexpr std::array<std::string_view, 10> kOthers = {
        "block", "extends", "include", "import", "from", "do", "trans", "debug", "autoescape", "pluralize"};
    const bool is_jinja = std::find(kOthers.begin(), kOthers.end(), tag) != kOthers.end();
    if (is_jinja) fail(fmt::format("the tag '{}' is not supported", tag), Code::kUnsupported);
    fail(fmt::format("there is no tag '{}' here", tag.substr(0, 60)));
  }

  NodePtr for_loop() {
    NodePtr node = make(Op::kFor, take().line);
    node->a = target(false);
    expect_name("in");
    node->b = tuple(false);
    if (skip_name("if")) node->c = expression();
    node->recursive = skip_name("recursive");
    {
      const Frame frame(this, true);
      node->body = block({"else", "endfor"});
    }
    if (take().text == "else") {
      const Frame frame(this, in_loop_);
      node->otherwise = whole_block({"endfor"});
    }
    return node;
  }

  NodePtr if_chain() {
    NodePtr node = make(Op::kIf, take().line);
    const Guard guard(this);
    for (;;) {
      add_item(node.get(), tuple(false));
      node->bodies.push_back(block({"elif", "else", "endif"}));
      const std::string& end = take().text;
      if (end == "elif") continue;
      if (end == "else") node->bodies.push_back(whole_block({"endif"}));
      return node;
    }
  }

  NodePtr set() {
    const int line = take().line;
    NodePtr to = target(true);
    if (skip_op("=")) return make(Op::kSet, line, std::move(to), tuple());
    NodePtr node = make(Op::kSetBlock, line, std::move(to), is_op("|") ? filters(nullptr, false) : nullptr);
    const Frame frame(this, in_loop_);
    node->body = whole_block({"endset"});
    return node;
  }

  void signature(Node* node) {
    expect_op("(");
    while (!is_op(")")) {
      if (!node->parameters.empty()) expect_op(",");
      const std::string name = expect_identifier();
      check_assignable(name);
      NodePtr fallback = skip_op("=") ? expression() : nullptr;
      if (fallback == nullptr && !node->parameters.empty() && node->parameters.back().fallback != nullptr) {
        fail(fmt::format("the parameter '{}' follows one with a default and has none", name));
      }
      node->parameters.push_back({program_->names.number(name), std::move(fallback)});
    }
    take();
  }
  // The body of a macro: notes which of the implicit variables it names.
  void macro_body(Node* node, std::string_view end) {
    const bool caller = std::exchange(uses_caller_, false);
    const bool varargs = std::exchange(uses_varargs_, false);
    const bool kwargs = std::exchange(uses_kwargs_, false);
    const Frame frame(this, false);
    node->body = whole_block({end});
    node->uses_caller = std::exchange(uses_caller_, caller);
    node->uses_varargs = std::exchange(uses_varargs_, varargs);
    node->uses_kwargs = std::exchange(uses_kwargs_, kwargs);
  }

  NodePtr macro() {
    NodePtr node = make(Op::kMacro, take().line);
    const std::string name = expect_identifier();
    check_assignable(name);
    node->name = number(name);
    signature(node.get());
    macro_body(node.get(), "endmacro");
    return node;
  }

  NodePtr call_block() {
    NodePtr node = make(Op::kCallBlock, take().line);
    if (is_op("(")) signature(node.get());
    node->a = expression();
    if (node->a->op != Op::kCall) fail("'call' needs the call of a macro");
    macro_body(node.get(), "endcall");
    return node;
  }

  NodePtr with() {
    NodePtr node = make(Op::kWith, take().line);
    while (now().type != TokenType::kBlockEnd) {
      if (!node->items.empty()) expect_op(",");
      add_item(node.get(), target(false));
      expect_op("=");
      add_item(node.get(), expression());
    }
    const Frame frame(this, in_loop_);
    node->body = whole_block({"endwith"});
    return node;
  }

  void check_assignable(std::string_view name) const {
    for (const std::string_view word : {"true", "false", "none", "True", "False", "None"}) {
      if (name == word) fail(fmt::format("'{}' cannot be assigned", name));
    }
  }

  NodePtr target(bool with_namespace) {
    NodePtr node = tuple_of([&] { return primary(with_namespace); }, "in", false);
    check_target(*node);
    return node;
  }
  void check_target(const Node& node) const {
    if (node.op == Op::kName) return check_assignable(program_->names[node.name]);
    if (node.op == Op::kNamespaceRef) return;
    if (node.op != Op::kTuple) fail("this cannot be assigned");
    for (const NodePtr& item : node.items) check_target(*item);
  }

  // --- Expressions

  NodePtr expression(bool with_condition = true) {
    const Nesting nesting(this);
    if (!with_condition) return or_chain();
    // The condition stands behind its value, which must be parsed as guarded or not before it is known to have one.
    const size_t begin = at_;
    NodePtr node;
    {
      const Guard guard(this);
      node = or_chain();
    }
    if (!is_name("if")) {
      if (unknown_at_ >= begin && unknown_at_ < at_ && !guarded_) refuse_unknown();
      return node;
    }
    while (is_name("if")) {
      const int line = take().line;
      const Guard guard(this);
      NodePtr test = or_chain();
      NodePtr other;
      if (skip_name("else")) other = expression();
      node = make(Op::kCondition, line, std::move(node), std::move(test), std::move(other));
    }
    if (unknown_at_ >= begin) unknown_at_ = SIZE_MAX;
    return node;
  }

  NodePtr or_chain() {
    NodePtr left = and_chain();
    while (is_name("or")) {
      const int line = take().line;
      left = make(Op::kOr, line, std::move(left), and_chain());
    }
    return left;
  }
  NodePtr and_chain() {
    NodePtr left = negation();
    while (is_name("and")) {
      const int line = take().line;
      left = make(Op::kAnd, line, std::move(left), negation());
    }
    return left;
  }
  NodePtr negation() {
    if (!is_name("not")) return comparison();
    const Nesting nesting(this);
    const int line = take().line;
    return make(Op::kNot, line, negation());
  }

  NodePtr comparison() {
    static constexpr std::pair<std::string_view, Comparison> kOps[] = {
        {"==", Comparison::kEq}, {"!=", Comparison::kNe}, {"<", Comparison::kLt},
        {"<=", Comparison::kLe}, {">", Comparison::kGt},  {">=", Comparison::kGe}};
    const int line = now().line;
    NodePtr first = sum();
    NodePtr node;
    for (;;) {
      Comparison op;
      const auto found = std::find_if(std::begin(kOps), std::end(kOps), [&](const auto& o) { return is_op(o.first); });
      if (found != std::end(kOps)) {
        op = found->second;
      } else if (is_name("in")) {
        op = Comparison::kIn;
      } else if (is_name("not") && ahead().type == TokenType::kName && ahead().text == "in") {
        op = Comparison::kNotIn;
        take();
      } else {
        return node != nullptr ? std::move(node) : std::move(first);
      }
      take();
      if (node == nullptr) node = make(Op::kCompare, line, std::move(first));
      add_item(node.get(), sum());
      node->comparisons.push_back(op);
    }
  }

  NodePtr sum() {
    NodePtr left = concatenation();
    while (is_op("+") || is_op("-")) {
      const Token& t = take();
      const Op op = t.text == "+" ? Op::kAdd : Op::kSubtract;
      left = make(op, t.line, std::move(left), concatenation());
    }
    return left;
  }
  NodePtr concatenation() {
    const int line = now().line;
    NodePtr first = product();
    if (!is_op("~")) return first;
    NodePtr node = make(Op::kConcat, line);
    add_item(node.get(), std::move(first));
    while (skip_op("~")) add_item(node.get(), product());
    return node;
  }
  NodePtr product() {
    NodePtr left = power();
    while (is_op("*") || is_op("/") || is_op("//") || is_op("%")) {
      const Token& t = take();
      const Op op = t.text == "*"    ? Op::kMultiply
                    : t.text == "/"  ? Op::kDivide
                    : t.text == "//" ? Op::kFloorDivide
                                     : Op::kModulo;
      left = make(op, t.line, std::move(left), power());
    }
    return left;
  }
  NodePtr power() {
    NodePtr left = unary(true);
    while (is_op("**")) {
      const int line = take().line;
      left = make(Op::kPower, line, std::move(left), unary(true));
    }
    return left;
  }
  NodePtr unary(bool with_filter) {
    const Nesting nesting(this);
    NodePtr node;
    if (is_op("-") || is_op("+")) {
      const Token& t = take();
      node = make(t.text == "-" ? Op::kNegative : Op::kPositive, t.line, unary(false));
    } else {
      node = primary(false);
    }
    node = postfix(std::move(node));
    return with_filter ? filters_and_tests(std::move(node)) : std::move(node);
  }

  NodePtr primary(bool with_namespace) {
    const Nesting nesting(this);
    const Token& t = now();
    const int line = t.line;
    switch (t.type) {
      case TokenType::kName: {
        take();
        if (t.text == "true" || t.text == "True") return constant(line, Value::of(true));
        if (t.text == "false" || t.text == "False") return constant(line, Value::of(false));
        if (t.text == "none" || t.text == "None") return constant(line, Value::none());
        NodePtr node = make(Op::kName, line);
        node->name = number(t.text);
        if (with_namespace && skip_op(".")) {
          node->op = Op::kNamespaceRef;
          node->text = expect_identifier();
        }
        return node;
      }
      case TokenType::kString: {
        std::string text = take().text;
        while (now().type == TokenType::kString) text += take().text;
        return string_constant(line, text);
      }
      case TokenType::kInteger: take(); return constant(line, Value::of(t.integer));
      case TokenType::kFloat: take(); return constant(line, Value::of(t.real));
      case TokenType::kOperator:
        if (t.text == "(") {
          take();
          NodePtr node = tuple(true, true);
          expect_op(")");
          return node;
        }
        if (t.text == "[") return list();
        if (t.text == "{") return dict();
        break;
      default: break;
    }
    fail(fmt::format("expected an expression, found {}", describe(t)));
  }

  NodePtr list() {
    NodePtr node = make(Op::kList, take().line);
    while (!is_op("]")) {
      if (!node->items.empty()) expect_op(",");
      if (is_op("]")) break;
      add_item(node.get(), expression());
    }
    expect_op("]");
    return node;
  }
  NodePtr dict() {
    NodePtr node = make(Op::kDict, take().line);
    while (!is_op("}")) {
      if (!node->items.empty()) expect_op(",");
      if (is_op("}")) break;
      add_item(node.get(), expression());
      expect_op(":");
      add_item(node.get(), expression());
    }
    expect_op("}");
    return node;
  }

  NodePtr tuple(bool with_condition = true, bool in_parentheses = false) {
    return tuple_of([&] { return expression(with_condition); }, with_condition ? "" : "recursive", in_parentheses);
  }
  // One item, or several with commas, which may end in one.
  template <typename Item>
  NodePtr tuple_of(Item item, std::string_view end_word, bool in_parentheses) {
    const int line = now().line;
    Body items;
    bool is_tuple = false;
    for (;;) {
      if (!items.empty()) expect_op(",");
      if (now().type == TokenType::kVariableEnd || now().type == TokenType::kBlockEnd || is_op(")") ||
          (!end_word.empty() && is_name(end_word))) {
        break;
      }
      items.push_back(item());
      if (!is_op(",")) break;
      is_tuple = true;
    }
    if (!is_tuple) {
      if (!items.empty()) return std::move(items[0]);
      if (!in_parentheses) fail(fmt::format("expected an expression, found {}", describe(now())));
    }
    NodePtr node = make(Op::kTuple, line);
    for (NodePtr& i : items) add_item(node.get(), std::move(i));
    return node;
  }

  NodePtr postfix(NodePtr node) {
    for (;;) {
      if (is_op(".") || is_op("[")) {
        node = subscript(std::move(node));
      } else if (is_op("(")) {
        node = call(std::move(node));
      } else {
        return node;
      }
    }
  }
  NodePtr filters_and_tests(NodePtr node) {
    for (;;) {
      if (is_op("|")) {
        node = filters(std::move(node), false);
      } else if (is_name("is")) {
        node = test(std::move(node));
      } else if (is_op("(")) {
        node = call(std::move(node));
      } else {
        return node;
      }
    }
  }

  NodePtr subscript(NodePtr node) {
    const Token& t = take();
    if (t.text == ".") {
      const Token& name = take();
      if (name.type == TokenType::kName) {
        NodePtr attribute = make(Op::kAttribute, t.line, std::move(node));
        attribute->text = name.text;
        return attribute;
      }
      if (name.type != TokenType::kInteger) fail("expected a name or a number behind '.'");
      return make(Op::kItem, t.line, std::move(node), constant(name.line, Value::of(name.integer)));
    }
    if (is_op("]")) fail("expected an expression in []");
    NodePtr index = is_op(":") ? nullptr : expression();
    if (is_op(":")) {
      NodePtr slice = make(Op::kSlice, t.line, std::move(node), std::move(index));
      take();
      const auto part = [&]() -> NodePtr {
        if (is_op("]") || is_op(":")) return nullptr;
        return expression();
      };
      slice->c = part();
      if (skip_op(":")) slice->d = part();
      for (const NodePtr* child : {&slice->c, &slice->d}) {
        if (*child != nullptr) rise(slice.get(), **child);
      }
      expect_op("]");
      return slice;
    }
    if (is_op(",")) {
      NodePtr key = make(Op::kTuple, t.line);
      add_item(key.get(), std::move(index));
      while (skip_op(",")) add_item(key.get(), expression());
      index = std::move(key);
    }
    expect_op("]");
    return make(Op::kItem, t.line, std::move(node), std::move(index));
  }

  std::unique_ptr<Arguments> call_arguments() {
    expect_op("(");
    auto out = std::make_unique<Arguments>();
    bool first = true;
    while (!is_op(")")) {
      if (!std::exchange(first, false)) {
        expect_op(",");
        if (is_op(")")) break;
      }
      if (skip_op("*")) {
        if (out->list != nullptr || out->dict != nullptr) fail("two *arguments, or one behind **arguments");
        out->list = expression();
      } else if (skip_op("**")) {
        if (out->dict != nullptr) fail("two **arguments");
        out->dict = expression();
      } else if (now().type == TokenType::kName && ahead().type == TokenType::kOperator && ahead().text == "=") {
        if (out->dict != nullptr) fail("a named argument behind **arguments");
        std::string name = take().text;
        take();
        for (const auto& [other, value] : out->named) {
          if (other == name) fail(fmt::format("the argument '{}' is given twice", name));
        }
        out->named.emplace_back(std::move(name), expression());
      } else {
        if (out->list != nullptr || out->dict != nullptr || !out->named.empty()) {
          fail("an argument without a name behind one with a name");
        }
        out->positional.push_back(expression());
      }
    }
    take();
    return out;
  }
  void set_arguments(Node* node, std::unique_ptr<Arguments> arguments) {
    for (const NodePtr& p : arguments->positional) rise(node, *p);
    for (const auto& [name, value] : arguments->named) rise(node, *value);
    for (const NodePtr* p : {&arguments->list, &arguments->dict}) {
      if (*p != nullptr) rise(node, **p);
    }
    node->arguments = std::move(arguments);
  }

  NodePtr call(NodePtr node) {
    NodePtr out = make(Op::kCall, now().line, std::move(node));
    set_arguments(out.get(), call_arguments());
    return out;
  }

  std::string dotted_name() {
    std::string name = expect_identifier();
    while (skip_op(".")) name += "." + expect_identifier();
    return name;
  }

  // One filter or more; `inline_start`: the first stands without its |.
  NodePtr filters(NodePtr node, bool inline_start) {
    while (is_op("|") || inline_start) {
      if (!inline_start) take();
      inline_start = false;
      const size_t at = at_;
      NodePtr out = make(Op::kFilter, now().line, std::move(node));
      out->text = dotted_name();
      if (!is_known_filter(out->text)) note_unknown(at, "filter", out->text);
      if (is_op("(")) {
        set_arguments(out.get(), call_arguments());
      } else {
        out->arguments = std::make_unique<Arguments>();
      }
      node = std::move(out);
    }
    return node;
  }

  NodePtr test(NodePtr node) {
    const int line = take().line;
    const bool negated = skip_name("not");
    const size_t at = at_;
    NodePtr out = make(Op::kTest, line, std::move(node));
    out->text = dotted_name();
    if (!is_known_test(out->text)) note_unknown(at, "test", out->text);
    out->arguments = std::make_unique<Arguments>();
    if (is_op("(")) {
      set_arguments(out.get(), call_arguments());
    } else if (now().type == TokenType::kString || now().type == TokenType::kInteger ||
               now().type == TokenType::kFloat || is_op("[") || is_op("{") ||
               (now().type == TokenType::kName && !is_name("else") && !is_name("or") && !is_name("and"))) {
      if (is_name("is")) fail("tests cannot be chained with 'is'");
      auto arguments = std::make_unique<Arguments>();
      arguments->positional.push_back(postfix(primary(false)));
      set_arguments(out.get(), std::move(arguments));
    }
    return negated ? make(Op::kNot, line, std::move(out)) : std::move(out);
  }

  // A filter or test that does not exist is refused at once, except where an `if` may keep it from being reached.
  void note_unknown(size_t at, std::string_view what, const std::string& name) {
    unknown_at_ = at;
    unknown_line_ = tokens_[at].line;
    unknown_ = fmt::format("there is no {} '{}'", what, name.substr(0, 60));
    if (!guarded_) refuse_unknown();
  }
  [[noreturn]] void refuse_unknown() const { throw SyntaxFailure{Code::kUnsupported, unknown_line_, unknown_}; }

  std::vector<Token> tokens_;
  size_t at_ = 0;
  std::shared_ptr<Program> program_;
  int nesting_ = 0;
  bool in_loop_ = false;
  bool guarded_ = false;
  bool uses_caller_ = false, uses_varargs_ = false, uses_kwargs_ = false;
  size_t unknown_at_ = SIZE_MAX;  // the token that names it
  int unknown_line_ = 0;
  std::string unknown_;
};

}  // namespace

std::shared_ptr<const Program> parse(std::string_view source) { return Parser(source).run(); }

}  // namespace decant::jinja
