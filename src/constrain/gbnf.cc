// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "constrain/gbnf.h"

#include <fmt/format.h>

#include <optional>

#include "constrain/grammar_text.h"

namespace decant {
namespace {

bool is_name_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}
bool is_punctuation(char c) {
  return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') || (c >= '{' && c <= '~');
}

class Parser {
 public:
  Parser(std::string_view text, const std::string& name) : text_(text), grammar_(name) {}

  Result<GrammarSource> parse() {
    DECANT_TRY_STATUS(text_.check(grammar_.name()));
    skip_space();
    while (!text_.at_end()) {
      const GrammarPlace place = text_.place();
      if (!at_rule()) return wrong("expected a rule: name ::= ...");
      const std::string_view name = take_name();
      skip_space();
      text_.take("::=");
      skip_space();
      Grammar::Expr body = 0;
      DECANT_TRY_STATUS(choice(0, &body));
      if (!text_.at_end() && !at_rule()) {
        return wrong(text_.peek() == ')' ? "a ')' without its '('" : "this cannot stand in a rule");
      }
      DECANT_TRY_STATUS(grammar_.define(grammar_.rule(name, place), body, place));
    }
    const std::optional<Grammar::Rule> root = grammar_.find("root");
    if (!root)
      return Status::invalid_argument("{}: there is no rule root, which the answer is derived from", grammar_.name());
    return GrammarSource{std::move(grammar_), *root};
  }

 private:
  Status wrong(const std::string& what) const { return grammar_.wrong(text_.place(), what); }
  Status wrong_at(size_t offset, const std::string& what) const { return grammar_.wrong(text_.place_of(offset), what); }

  void skip_space() {
    while (!text_.at_end()) {
      if (text_.peek() == '#') {
        while (!text_.at_end() && text_.peek() != '\n') text_.skip();
      } else if (text_.peek() == ' ' || text_.peek() == '\t' || text_.peek() == '\n' || text_.peek() == '\r') {
        text_.skip();
      } else {
        return;
      }
    }
  }
  std::string_view take_name() {
    const size_t begin = text_.offset();
    while (is_name_char(text_.peek())) text_.skip();
    return text_.from(begin);
  }
  // Whether a rule begins here.
  bool at_rule() {
    const size_t begin = text_.offset();
    const bool named = !take_name().empty();
    skip_space();
    const bool rule = named && text_.starts_with("::=");
    text_.seek(begin);
    return rule;
  }

  Status choice(int depth, Grammar::Expr* out) {
    if (depth > kMaxGrammarDepth)
      return grammar_.unsupported(text_.place(), fmt::format("groups nested deeper than {}", kMaxGrammarDepth));
    std::vector<Grammar::Expr> parts;
    do {
      skip_space();
      Grammar::Expr part = 0;
      DECANT_TRY_STATUS(sequence(depth, &part));
      parts.push_back(part);
    } while (text_.take("|"));
    *out = grammar_.choice(std::move(parts));
    return {};
  }

  Status sequence(int depth, Grammar::Expr* out) {
    std::vector<Grammar::Expr> parts;
    while (true) {
      skip_space();
      std::optional<Grammar::Expr> part;
      DECANT_TRY_STATUS(item(depth, &part));
      if (!part) break;
      DECANT_TRY_STATUS(quantifiers(&*part));
      parts.push_back(*part);
    }
    *out = parts.empty() ? grammar_.empty() : grammar_.sequence(std::move(parts));
    return {};
  }

  // Nothing where the sequence ends.
  Status item(int depth, std::optional<Grammar::Expr>* out) {
    const size_t begin = text_.offset();
    const char c = text_.peek();
    if (c == '"') return literal(out);
    if (c == '[') return char_class(out);
    if (text_.take(".")) {
      *out = grammar_.chars(CharSet::all());
      return {};
    }
    if (text_.take("(")) {
      Grammar::Expr inner = 0;
      DECANT_TRY_STATUS(choice(depth + 1, &inner));
      if (!text_.take(")")) return wrong_at(begin, "a '(' without its ')'");
      *out = inner;
      return {};
    }
    if (c == '<' || (c == '!' && text_.peek(1) == '<')) {
      return grammar_.unsupported(text_.place(),
                                  "references to tokens are not supported; write the text of the token as a literal");
    }
    if (c == '*' || c == '+' || c == '?' || c == '{') return wrong("nothing to repeat");
    if (!is_name_char(c) || at_rule()) return {};
    const GrammarPlace place = text_.place();
    *out = grammar_.reference(grammar_.rule(take_name(), place));
    return {};
  }

  Status quantifiers(Grammar::Expr* part) {
    for (int n = 0;; ++n) {
      skip_space();
      const size_t begin = text_.offset();
      int min = 0, max = RegexPool::kUnbounded;
      if (text_.take("*")) {
      } else if (text_.take("+")) {
        min = 1;
      } else if (text_.take("?")) {
        max = 1;
      } else if (text_.take("{")) {
        skip_space();
        min = text_.number();
        skip_space();
        max = min;
        if (text_.take(",")) {
          skip_space();
          max = text_.number();
          skip_space();
          if (min == -1 && max == -1) return wrong_at(begin, "{,} has no number");
          if (min == -1) min = 0;
        }
        if (min == -1 || !text_.take("}")) return wrong_at(begin, "expected {m}, {m,}, {,n} or {m,n}");
        if (min == -2 || max == -2) {
          return grammar_.unsupported(text_.place_of(begin),
                                      fmt::format("a repetition of more than {}", kMaxGrammarCount));
        }
        if (max == -1) max = RegexPool::kUnbounded;
        if (max != RegexPool::kUnbounded && max < min)
          return wrong_at(begin, "a repetition whose end is before its beginning");
      } else {
        return {};
      }
      if (n == kMaxQuantifiers) return wrong_at(begin, "too many quantifiers of one item");
      *part = grammar_.repeat(*part, min, max);
    }
  }

  // A character of a literal or class, perhaps an escape.
  Status character(uint32_t* code) {
    const size_t begin = text_.offset();
    if (!text_.take("\\")) {
      *code = text_.take_char();
      return {};
    }
    const char c = text_.peek();
    text_.skip();
    switch (c) {
      case 'n': *code = '\n'; return {};
      case 'r': *code = '\r'; return {};
      case 't': *code = '\t'; return {};
      case 'x':
      case 'u':
      case 'U':
        if (!text_.hex(c == 'x' ? 2 : c == 'u' ? 4 : 8, code))
          return wrong_at(begin, fmt::format("\\{} without {} hex digits of a character", c,
                                             c == 'x'   ? 2
                                             : c == 'u' ? 4
                                                        : 8));
        return {};
      default: break;
    }
    if (!is_punctuation(c)) return wrong_at(begin, "an escape that is not known");
    *code = static_cast<uint8_t>(c);
    return {};
  }

  Status literal(std::optional<Grammar::Expr>* out) {
    const size_t begin = text_.offset();
    text_.skip();
    std::vector<RegexId> characters;
    while (!text_.take("\"")) {
      if (text_.at_end() || text_.peek() == '\n') return wrong_at(begin, "a '\"' without its end");
      uint32_t code = 0;
      DECANT_TRY_STATUS(character(&code));
      characters.push_back(grammar_.pool().chars(CharSet::of(code)));
    }
    RegexId id = grammar_.pool().empty();
    for (auto it = characters.rbegin(); it != characters.rend(); ++it) id = grammar_.pool().concat(*it, id);
    *out = grammar_.regex(id, characters.size());
    return {};
  }

  Status char_class(std::optional<Grammar::Expr>* out) {
    const size_t begin = text_.offset();
    text_.skip();
    const bool negative = text_.take("^");
    std::vector<CharRange> ranges;
    while (!text_.take("]")) {
      if (text_.at_end()) return wrong_at(begin, "a '[' without its ']'");
      const size_t item = text_.offset();
      CharRange range{};
      DECANT_TRY_STATUS(character(&range.first));
      range.last = range.first;
      if (text_.peek() == '-' && text_.peek(1) != ']') {
        text_.skip();
        if (text_.at_end()) return wrong_at(begin, "a '[' without its ']'");
        DECANT_TRY_STATUS(character(&range.last));
        if (range.last < range.first) return wrong_at(item, "a range whose end is before its beginning");
      }
      ranges.push_back(range);
    }
    const CharSet set{std::move(ranges)};
    *out = grammar_.chars(negative ? set.complement() : set);
    return {};
  }

  GrammarText text_;
  Grammar grammar_;
};

}  // namespace

Result<GrammarSource> parse_gbnf(std::string_view text, const std::string& name) { return Parser(text, name).parse(); }

}  // namespace decant
