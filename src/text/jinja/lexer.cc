// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Source to tokens, with jinja2's rules for white space around tags under trim_blocks and lstrip_blocks.
#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdlib>

#include "text/jinja/program.h"
#include "text/unicode.h"

namespace decant::jinja {
namespace {

std::string normalized_newlines(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      out += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      out += source[i];
    }
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();  // one newline at the end of the template is not part of it
  return out;
}

bool is_digit_char(char c) { return c >= '0' && c <= '9'; }

class Lexer {
 public:
  explicit Lexer(std::string source) : source_(std::move(source)) {}

  std::vector<Token> run() {
    while (at_ < source_.size()) data();
    add(TokenType::kEnd, "");
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void fail(std::string message) const { throw SyntaxFailure{Code::kCorrupt, line_, std::move(message)}; }
  void add(TokenType type, std::string_view text) { tokens_.push_back({type, line_, std::string(text)}); }
  bool looking_at(std::string_view text) const { return std::string_view(source_).substr(at_).starts_with(text); }

  void advance(size_t end) {
    line_ += static_cast<int>(
        std::count(source_.begin() + static_cast<ptrdiff_t>(at_), source_.begin() + static_cast<ptrdiff_t>(end), '\n'));
    if (end > at_) line_starting_ = source_[end - 1] == '\n';
    at_ = end;
  }
  size_t skip_space(size_t at) const {
    while (at < source_.size()) {
      const Char c = char_at(source_, at);
      if (!is_space(c.code)) break;
      at = c.end;
    }
    return at;
  }
  // The end of source_[begin, end) without white space at its end.
  size_t right_stripped(size_t begin, size_t end) const {
    size_t kept = begin;
    for (size_t at = begin; at < end;) {
      const Char c = char_at(source_, at);
      if (!is_space(c.code)) kept = c.end;
      at = c.end;
    }
    return kept;
  }

  // The end of the text before a tag at `tag`, whose sign is `sign` (0 for none).
  size_t text_end(size_t tag, char sign, bool is_variable) const {
    if (sign == '-') return right_stripped(at_, tag);
    if (sign == '+' || is_variable) return tag;
    const size_t newline = std::string_view(source_).substr(at_, tag - at_).rfind('\n');
    if (newline == std::string_view::npos && !line_starting_) return tag;
    const size_t line_begin = newline == std::string_view::npos ? at_ : at_ + newline + 1;
    return skip_space(line_begin) >= tag ? line_begin : tag;
  }

  char sign_at(size_t at) const {
    return at < source_.size() && (source_[at] == '-' || source_[at] == '+') ? source_[at] : '\0';
  }

  void emit_text(size_t end) {
    if (end > at_) add(TokenType::kData, std::string_view(source_).substr(at_, end - at_));
  }

  void data() {
    size_t tag = at_;
    for (;; ++tag) {
      tag = source_.find('{', tag);
      if (tag == std::string::npos || tag + 1 >= source_.size()) {
        emit_text(source_.size());
        return advance(source_.size());
      }
      const char c = source_[tag + 1];
      if (c == '%' || c == '{' || c == '#') break;
    }
    const char what = source_[tag + 1];
    const char sign = sign_at(tag + 2);
    const size_t inside = tag + 2 + (sign != '\0' ? 1 : 0);
    size_t raw_end = 0;
    const bool raw = what == '%' && is_raw_begin(tag, &raw_end);
    emit_text(text_end(tag, sign, what == '{'));
    if (raw) {
      advance(raw_end);
      return raw_block();
    }
    advance(inside);
    if (what == '#') return comment();
    add(what == '%' ? TokenType::kBlockBegin : TokenType::kVariableBegin, "");
    code(what == '%');
  }

  // Whether a tag `{% NAME %}` begins at `tag`; gives its end. The end tag may end in "+%}" and takes a newline.
  bool is_word_tag(size_t tag, std::string_view word, bool closes, size_t* end) const {
    if (!std::string_view(source_).substr(tag).starts_with("{%")) return false;
    size_t at = tag + 2;
    if (sign_at(at) != '\0') ++at;
    at = skip_space(at);
    if (!std::string_view(source_).substr(at).starts_with(word)) return false;
    at = skip_space(at + word.size());
    const std::string_view rest = std::string_view(source_).substr(at);
    if (rest.starts_with("-%}")) {
      *end = skip_space(at + 3);
    } else if (closes && rest.starts_with("+%}")) {
      *end = at + 3;
    } else if (rest.starts_with("%}")) {
      *end = at + 2;
      if (closes && *end < source_.size() && source_[*end] == '\n') ++*end;
    } else {
      return false;
    }
    return true;
  }
  bool is_raw_begin(size_t tag, size_t* end) const { return is_word_tag(tag, "raw", false, end); }

  void raw_block() {
    for (size_t tag = source_.find("{%", at_); tag != std::string::npos; tag = source_.find("{%", tag + 1)) {
      size_t end = 0;
      if (!is_word_tag(tag, "endraw", true, &end)) continue;
      emit_text(text_end(tag, sign_at(tag + 2), false));
      return advance(end);
    }
    fail("{% raw %} has no {% endraw %}");
  }

  void comment() {
    const size_t end = source_.find("#}", at_);
    if (end == std::string::npos) fail("the comment has no #}");
    size_t next = end + 2;
    if (end > at_ && source_[end - 1] == '-') {
      next = skip_space(next);
    } else if (!(end > at_ && source_[end - 1] == '+') && next < source_.size() && source_[next] == '\n') {
      ++next;
    }
    advance(next);
  }

  // The inside of a tag, up to its end.
  void code(bool is_block) {
    const std::string_view close = is_block ? "%}" : "}}";
    std::string brackets;  // that wait for these
    while (at_ < source_.size()) {
      if (brackets.empty()) {
        const bool minus = looking_at("-") && std::string_view(source_).substr(at_ + 1).starts_with(close);
        const bool plus = is_block && looking_at("+") && std::string_view(source_).substr(at_ + 1).starts_with(close);
        if (minus || plus || looking_at(close)) {
          add(is_block ? TokenType::kBlockEnd : TokenType::kVariableEnd, "");
          size_t end = at_ + close.size() + (minus || plus ? 1 : 0);
          if (minus) {
            end = skip_space(end);
          } else if (is_block && !plus && end < source_.size() && source_[end] == '\n') {
            ++end;
          }
          return advance(end);
        }
      }
      token(&brackets);
    }
    fail(is_block ? "the tag has no %}" : "the expression has no }}");
  }

  void token(std::string* brackets) {
    const Char c = char_at(source_, at_);
    if (is_space(c.code)) return advance(skip_space(at_));
    if (is_digit_char(source_[at_])) return number();
    if (c.code == '_' ||
        (c.code < 0x80 ? std::isalpha(static_cast<int>(c.code)) != 0 : char_class(c.code) == CharClass::kLetter)) {
      return name();
    }
    if (c.code == '\'' || c.code == '"') return string();
    static constexpr std::string_view kOperators[] = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/",
                                                      "*",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                                      ">",  "<",  "=",  ".",  ":",  "|",  ",", ";"};
    for (const std::string_view op : kOperators) {
      if (!looking_at(op)) continue;
      if (op == "(" || op == "[" || op == "{") {
        *brackets += op == "(" ? ')' : op == "[" ? ']' : '}';
        if (brackets->size() > 1000) fail("brackets nested more than 1000 deep");
      } else if (op == ")" || op == "]" || op == "}") {
        if (brackets->empty()) fail(fmt::format("unexpected '{}'", op));
        if (brackets->back() != op[0]) fail(fmt::format("unexpected '{}', expected '{}'", op, brackets->back()));
        brackets->pop_back();
      }
      add(TokenType::kOperator, op);
      return advance(at_ + op.size());
    }
    fail(fmt::format("unexpected character '{}'", std::string_view(source_).substr(at_, c.end - at_)));
  }

  void name() {
    size_t end = at_;
    while (end < source_.size()) {
      const Char c = char_at(source_, end);
      const bool is_part = c.code < 0x80
                               ? std::isalnum(static_cast<int>(c.code)) != 0 || c.code == '_'
                               : char_class(c.code) == CharClass::kLetter || char_class(c.code) == CharClass::kNumber;
      if (!is_part) break;
      end = c.end;
    }
    add(TokenType::kName, std::string_view(source_).substr(at_, end - at_));
    advance(end);
  }

  // Digits with single underscores between them; the end.
  template <typename IsDigit>
  size_t digits(size_t at, IsDigit is_digit) const {
    size_t end = at;
    while (end < source_.size()) {
      if (is_digit(source_[end])) {
        ++end;
      } else if (source_[end] == '_' && end > at && end + 1 < source_.size() && is_digit(source_[end + 1])) {
        end += 2;
      } else {
        break;
      }
    }
    return end;
  }

  void number() {
    const size_t whole = digits(at_, is_digit_char);
    size_t end = whole;
    bool is_float = false;
    if (at_ == 0 || source_[at_ - 1] != '.') {  // x.0.5 has no 0.5 in it
      if (end + 1 < source_.size() && source_[end] == '.' && is_digit_char(source_[end + 1])) {
        end = digits(end + 1, is_digit_char);
        is_float = true;
      }
      if (end < source_.size() && (source_[end] == 'e' || source_[end] == 'E')) {
        size_t exponent = end + 1;
        if (exponent < source_.size() && (source_[exponent] == '+' || source_[exponent] == '-')) ++exponent;
        if (exponent < source_.size() && is_digit_char(source_[exponent])) {
          end = digits(exponent, is_digit_char);
          is_float = true;
        }
      }
    }
    int base = 10;
    size_t begin = at_;
    if (!is_float) {
      const char mark = source_[at_] == '0' && at_ + 1 < source_.size()
                            ? static_cast<char>(std::tolower(static_cast<unsigned char>(source_[at_ + 1])))
                            : '\0';
      const int other = mark == 'b' ? 2 : mark == 'o' ? 8 : mark == 'x' ? 16 : 0;
      if (other != 0) {
        const auto is_digit = [other](char c) {
          const int value = is_digit_char(c) ? c - '0' : std::isxdigit(static_cast<unsigned char>(c)) != 0 ? 10 : 99;
          return value < other;
        };
        begin = at_ + 2;
        end = digits(begin, is_digit);
        base = other;
        if (end == begin) fail("a number has no digits");
      } else if (source_[at_] == '0') {
        end = digits(at_, [](char c) { return c == '0'; });
      }
    }
    std::string text(source_, begin, end - begin);
    text.erase(std::remove(text.begin(), text.end(), '_'), text.end());
    Token token{is_float ? TokenType::kFloat : TokenType::kInteger, line_, text};
    if (is_float) {
      token.real = std::strtod(text.c_str(), nullptr);
    } else {
      const auto [p, error] = std::from_chars(text.data(), text.data() + text.size(), token.integer, base);
      if (error != std::errc()) fail(fmt::format("the number {} does not fit in 64 bits", text.substr(0, 40)));
    }
    tokens_.push_back(std::move(token));
    advance(end);
  }

  void string() {
    const char quote = source_[at_];
    size_t end = at_ + 1;
    while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size()) fail("the string does not end");
    add(TokenType::kString, unescaped(std::string_view(source_).substr(at_ + 1, end - at_ - 1)));
    advance(end + 1);
  }

  std::string unescaped(std::string_view text) const {
    std::string out;
    for (size_t i = 0; i < text.size(); ++i) {
      if (text[i] != '\\' || i + 1 == text.size()) {
        out += text[i];
        continue;
      }
      const char c = text[++i];
      switch (c) {
        case '\n': break;
        case '\\':
        case '\'':
        case '"': out += c; break;
        case 'a': out += '\a'; break;
        case 'b': out += '\b'; break;
        case 'f': out += '\f'; break;
        case 'n': out += '\n'; break;
        case 'r': out += '\r'; break;
        case 't': out += '\t'; break;
        case 'v': out += '\v'; break;
        case 'x': out_code(text, &i, 2, &out); break;
        case 'u': out_code(text, &i, 4, &out); break;
        case 'U': out_code(text, &i, 8, &out); break;
        case 'N': fail("\\N{...} in a string is not supported; write the character itself");
        default:
          if (c >= '0' && c <= '7') {
            uint32_t code = 0;
            size_t n = 0;
            while (n < 3 && i + n < text.size() && text[i + n] >= '0' && text[i + n] <= '7') {
              code = code * 8 + static_cast<uint32_t>(text[i + n++] - '0');
            }
            i += n - 1;
            append_utf8(code, &out);
          } else {
            out += '\\';
            out += c;
          }
      }
    }
    return out;
  }
  void out_code(std::string_view text, size_t* i, size_t n, std::string* out) const {
    uint32_t code = 0;
    const std::string_view hex = text.substr(std::min(*i + 1, text.size()), n);
    const auto [p, error] = std::from_chars(hex.data(), hex.data() + hex.size(), code, 16);
    if (hex.size() < n || error != std::errc() || p != hex.data() + n) fail("an escape in a string has too few digits");
    if (code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) fail("an escape in a string names no character");
    append_utf8(code, out);
    *i += n;
  }

  std::string source_;
  size_t at_ = 0;
  int line_ = 1;
  bool line_starting_ = true;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source) { return Lexer(normalized_newlines(source)).run(); }

}  // namespace decant::jinja
