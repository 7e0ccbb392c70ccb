// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// A template as a tree: what the parser makes and the interpreter walks. Internal to src/text.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "text/jinja/value.h"

namespace decant::jinja {

enum class Op : uint8_t {
  // Expressions
  kConst,     // constant
  kName,      // name
  kList,      // items
  kTuple,     // items
  kDict,      // items: key, value, key, value, ...
  kNegative,  // a
  kPositive,  // a
  kNot,       // a
  kAnd,       // a, b
  kOr,        // a, b
  kAdd,       // a, b; likewise below
  kSubtract,
  kMultiply,
  kDivide,
  kFloorDivide,
  kModulo,
  kPower,
  kConcat,        // items
  kCompare,       // a, then links
  kCondition,     // a if b else c (c may be missing)
  kAttribute,     // a.text
  kItem,          // a[b]
  kSlice,         // a[b:c:d], each of b, c, d may be missing
  kCall,          // a(arguments)
  kFilter,        // a | text(arguments); without a: what the block wrote
  kTest,          // a is text(arguments)
  kNamespaceRef,  // name.text as the target of an assignment

  // Statements
  kOutput,       // text, if any, then the value of a
  kFor,          // for a in b if c: body, otherwise; recursive
  kIf,           // branches: items are the conditions, bodies what they guard; one more body is the else
  kSet,          // a = b
  kSetBlock,     // a = body, through the filter b if there is one
  kMacro,        // name, parameters, body
  kCallBlock,    // a is the call; parameters and body make the caller
  kFilterBlock,  // a is the filter; body
  kWith,         // items: target, value, target, value, ...; body
  kGeneration,   // body
  kBreak,
  kContinue,
};

enum class Comparison : uint8_t { kEq, kNe, kLt, kLe, kGt, kGe, kIn, kNotIn };

struct Node;
using NodePtr = std::unique_ptr<Node>;
using Body = std::vector<NodePtr>;

struct Arguments {
  Body positional;
  std::vector<std::pair<std::string, NodePtr>> named;
  NodePtr list, dict;  // *list, **dict
};

struct Parameter {
  int name;
  NodePtr fallback;  // may be missing
};

struct Node {
  Op op;
  int line;
  int height = 1;  // of the expression; bounds the recursion of whoever walks it
  int name = -1;   // number of an identifier
  bool recursive = false;
  bool uses_caller = false, uses_varargs = false, uses_kwargs = false;  // of macros
  std::string text;
  Value constant;
  NodePtr a, b, c, d;
  Body items;
  Body body, otherwise;
  std::vector<Body> bodies;
  std::vector<Comparison> comparisons;  // of items, in order
  std::unique_ptr<Arguments> arguments;
  std::vector<Parameter> parameters;

  Node(Op o, int l) : op(o), line(l) {}
};

// Identifiers by number.
class Names {
 public:
  int number(std::string_view name) {
    const auto [it, is_new] = numbers_.try_emplace(std::string(name), static_cast<int>(names_.size()));
    if (is_new) names_.push_back(it->first);
    return it->second;
  }
  int find(std::string_view name) const {
    const auto it = numbers_.find(std::string(name));
    return it == numbers_.end() ? -1 : it->second;
  }
  const std::string& operator[](int number) const { return names_[static_cast<size_t>(number)]; }

 private:
  std::unordered_map<std::string, int> numbers_;
  std::vector<std::string> names_;
};

struct Program {
  Names names;
  Body body;
};

enum class TokenType : uint8_t {
  kData,
  kVariableBegin,
  kVariableEnd,
  kBlockBegin,
  kBlockEnd,
  kName,
  kString,
  kInteger,
  kFloat,
  kOperator,
  kEnd
};

struct Token {
  TokenType type;
  int line;
  std::string text;  // data, name, decoded string or operator
  int64_t integer = 0;
  double real = 0;
};

// A failure with the line where it happened.
struct SyntaxFailure {
  Code code;
  int line;
  std::string message;
};

std::vector<Token> tokenize(std::string_view source);           // throws SyntaxFailure
std::shared_ptr<const Program> parse(std::string_view source);  // throws SyntaxFailure

bool is_known_filter(std::string_view name);
bool is_known_test(std::string_view name);

}  // namespace decant::jinja
