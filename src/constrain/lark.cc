// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "constrain/lark.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <set>

#include "constrain/grammar_text.h"
#include "text/unicode.h"

namespace decant {
namespace {

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_name_char(char c) { return is_letter(c) || (c >= '0' && c <= '9') || c == '_'; }
bool is_terminal_name(std::string_view name) {
  const size_t first = name.find_first_not_of('_');
  return first != std::string_view::npos && name[first] >= 'A' && name[first] <= 'Z';
}

// The terminals of Lark's `common`, as expressions of this notation's dialect.
struct CommonTerminal {
  std::string_view name, pattern;
};
constexpr CommonTerminal kCommon[] = {
    {"DIGIT", "[0-9]"},
    {"HEXDIGIT", "[0-9a-fA-F]"},
    {"INT", "[0-9]+"},
    {"SIGNED_INT", "[+-]?[0-9]+"},
    {"DECIMAL", "[0-9]+\\.[0-9]*|\\.[0-9]+"},
    {"FLOAT", "[0-9]+[eE][+-]?[0-9]+|([0-9]+\\.[0-9]*|\\.[0-9]+)([eE][+-]?[0-9]+)?"},
    {"SIGNED_FLOAT", "[+-]?([0-9]+[eE][+-]?[0-9]+|([0-9]+\\.[0-9]*|\\.[0-9]+)([eE][+-]?[0-9]+)?)"},
    {"NUMBER", "[0-9]+([eE][+-]?[0-9]+)?|([0-9]+\\.[0-9]*|\\.[0-9]+)([eE][+-]?[0-9]+)?"},
    {"SIGNED_NUMBER", "[+-]?([0-9]+([eE][+-]?[0-9]+)?|([0-9]+\\.[0-9]*|\\.[0-9]+)([eE][+-]?[0-9]+)?)"},
    {"ESCAPED_STRING", "\"([^\"\\\\\\n]|\\\\[^\\n])*\""},
    {"LCASE_LETTER", "[a-z]"},
    {"UCASE_LETTER", "[A-Z]"},
    {"LETTER", "[a-zA-Z]"},
    {"WORD", "[a-zA-Z]+"},
    {"CNAME", "[_a-zA-Z][_a-zA-Z0-9]*"},
    {"WS_INLINE", "[ \\t]+"},
    {"WS", "[ \\t\\f\\r\\n]+"},
    {"CR", "\\r"},
    {"LF", "\\n"},
    {"NEWLINE", "(\\r?\\n)+"},
    {"SH_COMMENT", "#[^\\n]*"},
    {"CPP_COMMENT", "//[^\\n]*"},
    {"C_COMMENT", "/\\*([^*]|\\*+[^*/])*\\*+/"},
    {"SQL_COMMENT", "--[^\\n]*"},
};

class Parser {
 public:
  Parser(std::string_view text, const std::string& name) : text_(text), grammar_(name) {}

  Result<GrammarSource> parse() {
    DECANT_TRY_STATUS(text_.check(grammar_.name()));
    skip_lines();
    while (!text_.at_end()) {
      DECANT_TRY_STATUS(text_.peek() == '%' ? directive() : definition());
      skip_lines();
    }
    const std::optional<Grammar::Rule> start = grammar_.find("start");
    if (!start)
      return Status::invalid_argument("{}: there is no rule start, which the answer is derived from", grammar_.name());
    // What is ignored follows each terminal, and stands before the first.
    const Grammar::Rule whole = grammar_.rule("(answer)", {1, 1});
    DECANT_TRY_STATUS(grammar_.define(
        whole, grammar_.sequence({grammar_.reference(ignored_rule()), grammar_.reference(*start)}), {1, 1}));
    DECANT_TRY_STATUS(define_ignored());
    if (priorities_ > 0) {
      grammar_.warn(fmt::format("{}: priorities do not change which texts are in the language; {} left out",
                                grammar_.name(), priorities_));
    }
    return GrammarSource{std::move(grammar_), whole};
  }

 private:
  Status wrong(const std::string& what) const { return grammar_.wrong(text_.place(), what); }
  Status wrong_at(size_t offset, const std::string& what) const { return grammar_.wrong(text_.place_of(offset), what); }
  Status unsupported_at(size_t offset, const std::string& what) const {
    return grammar_.unsupported(text_.place_of(offset), what);
  }

  // --- Space -----------------------------------------------------------------------------------------------------

  void skip_blanks() {
    while (true) {
      if (text_.peek() == ' ' || text_.peek() == '\t') {
        text_.skip();
      } else if (text_.starts_with("//") || text_.peek() == '#') {
        while (!text_.at_end() && text_.peek() != '\n') text_.skip();
      } else {
        return;
      }
    }
  }
  void skip_lines() {
    skip_blanks();
    while (text_.peek() == '\n' || text_.peek() == '\r') {
      text_.skip();
      skip_blanks();
    }
  }
  // Space within a definition: over line ends, too, unless something new begins behind them.
  void skip_space() {
    skip_blanks();
    if (text_.peek() != '\n' && text_.peek() != '\r') return;
    const size_t begin = text_.offset();
    skip_lines();
    if (text_.at_end() || text_.peek() == '%' || at_definition()) text_.seek(begin);
  }
  bool at_line_end() const { return text_.at_end() || text_.peek() == '\n' || text_.peek() == '\r'; }

  std::string_view take_name() {
    const size_t begin = text_.offset();
    if (is_letter(text_.peek()) || text_.peek() == '_') {
      while (is_name_char(text_.peek())) text_.skip();
    }
    return text_.from(begin);
  }
  bool at_definition() {
    const size_t begin = text_.offset();
    while (text_.peek() == '?' || text_.peek() == '!') text_.skip();
    bool found = false;
    if (!take_name().empty()) {
      if (text_.peek() == '{') {
        while (!at_line_end() && text_.peek() != '}') text_.skip();
        text_.take("}");
      }
      if (text_.take(".")) {
        text_.take("-");
        text_.number();
      }
      skip_blanks();
      found = text_.peek() == ':';
    }
    text_.seek(begin);
    return found;
  }

  // --- Statements ------------------------------------------------------------------------------------------------

  Status definition() {
    const size_t begin = text_.offset();
    if (!at_definition()) return wrong("expected a rule (name: ...), a terminal (NAME: ...) or a %directive");
    while (text_.peek() == '?' || text_.peek() == '!') text_.skip();
    const size_t name_begin = text_.offset();
    const std::string name(take_name());
    if (text_.peek() == '{')
      return unsupported_at(begin, fmt::format("{} is a template; templates are not supported", name));
    if (text_.take(".")) {
      text_.take("-");
      if (text_.number() < 0) return wrong("expected a priority");
      ++priorities_;
    }
    skip_blanks();
    text_.take(":");
    in_terminal_ = is_terminal_name(name);
    Grammar::Expr body = 0;
    DECANT_TRY_STATUS(choice(0, &body));
    skip_blanks();
    if (!at_line_end()) {
      return wrong(text_.peek() == ')' || text_.peek() == ']' ? "a closing bracket without its opening one"
                                                              : "this cannot stand in a rule");
    }
    const GrammarPlace place = text_.place_of(name_begin);
    return grammar_.define(grammar_.rule(name, place), body, place);
  }

  Status directive() {
    const size_t begin = text_.offset();
    if (text_.take("%ignore")) {
      skip_blanks();
      in_terminal_ = true;
      Grammar::Expr body = 0;
      DECANT_TRY_STATUS(choice(0, &body));
      ignored_.push_back(body);
    } else if (text_.take("%import")) {
      DECANT_TRY_STATUS(import_from(begin));
    } else if (text_.take("%declare")) {
      // A declared name has no text; where it is used it is not defined.
      while (!at_line_end()) text_.skip();
    } else {
      text_.skip();
      return unsupported_at(begin, fmt::format("%{} is not supported", take_name()));
    }
    skip_blanks();
    if (!at_line_end()) return wrong("expected the end of the line");
    return {};
  }

  Status import_from(size_t begin) {
    skip_blanks();
    if (!text_.take("common") || (text_.peek() != '.' && text_.peek() != ' ' && text_.peek() != '(')) {
      return unsupported_at(begin, "%import is supported for the terminals of common only");
    }
    if (text_.take(".")) {
      const size_t at = text_.offset();
      const std::string_view name = take_name();
      skip_blanks();
      std::string_view alias = name;
      if (text_.take("->")) {
        skip_blanks();
        alias = take_name();
        if (alias.empty()) return wrong("expected a name");
      }
      return import_one(at, name, alias);
    }
    skip_blanks();
    if (!text_.take("(")) return wrong("expected (NAME, ...)");
    do {
      skip_lines();
      const size_t at = text_.offset();
      const std::string_view name = take_name();
      DECANT_TRY_STATUS(import_one(at, name, name));
      skip_lines();
    } while (text_.take(","));
    if (!text_.take(")")) return wrong("expected ',' or ')'");
    return {};
  }

  Status import_one(size_t at, std::string_view name, std::string_view alias) {
    const auto* found =
        std::find_if(std::begin(kCommon), std::end(kCommon), [&](const CommonTerminal& c) { return c.name == name; });
    if (found == std::end(kCommon)) return wrong_at(at, fmt::format("common has no terminal {}", name));
    if (!is_terminal_name(alias)) return wrong_at(at, "a terminal's name is in upper case");
    DECANT_TRY(const RegexId id, parse_regex(found->pattern, RegexDialect::kFull, &grammar_.pool()));
    const GrammarPlace place = text_.place_of(at);
    return grammar_.define(grammar_.rule(alias, place), grammar_.regex(id, found->pattern.size()), place);
  }

  // --- Expressions -----------------------------------------------------------------------------------------------

  Status choice(int depth, Grammar::Expr* out) {
    if (depth > kMaxGrammarDepth)
      return unsupported_at(text_.offset(), fmt::format("groups nested deeper than {}", kMaxGrammarDepth));
    std::vector<Grammar::Expr> parts;
    do {
      Grammar::Expr part = 0;
      DECANT_TRY_STATUS(sequence(depth, &part));
      parts.push_back(part);
      skip_space();
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
    if (text_.take("->")) {
      skip_blanks();
      if (take_name().empty()) return wrong("expected the name of an alias");
    }
    *out = parts.empty() ? grammar_.empty() : grammar_.sequence(std::move(parts));
    return {};
  }

  // In rules each terminal is followed by what is ignored.
  Grammar::Expr spaced(Grammar::Expr terminal) {
    if (in_terminal_) return terminal;
    return grammar_.sequence({terminal, grammar_.reference(ignored_rule())});
  }

  Status item(int depth, std::optional<Grammar::Expr>* out) {
    const size_t begin = text_.offset();
    const char c = text_.peek();
    if (c == '(' || c == '[') {
      text_.skip();
      Grammar::Expr inner = 0;
      DECANT_TRY_STATUS(choice(depth + 1, &inner));
      skip_space();
      if (!text_.take(c == '(' ? ")" : "]"))
        return wrong_at(begin, fmt::format("a '{}' without its '{}'", c, c == '(' ? ')' : ']'));
      *out = c == '(' ? inner : grammar_.repeat(inner, 0, 1);
      return {};
    }
    if (c == '"') return string(out);
    if (c == '/') return regex(out);
    if (c == '*' || c == '+' || c == '?' || c == '~') return wrong("nothing to repeat");
    if (c == '<' || c == '@' || c == '&') return unsupported_at(begin, fmt::format("'{}' is not supported", c));
    const GrammarPlace place = text_.place();
    const std::string_view name = take_name();
    if (name.empty()) return {};
    if (text_.peek() == '{') return unsupported_at(begin, "templates are not supported");
    if (in_terminal_ && !is_terminal_name(name))
      return wrong_at(begin, fmt::format("the rule {} in a terminal; terminals are made of terminals", name));
    const Grammar::Expr reference = grammar_.reference(grammar_.rule(name, place));
    *out = is_terminal_name(name) ? spaced(reference) : reference;
    return {};
  }

  Status quantifiers(Grammar::Expr* part) {
    for (int n = 0;; ++n) {
      const size_t begin = text_.offset();
      int min = 0, max = RegexPool::kUnbounded;
      skip_blanks();
      if (text_.take("*")) {
      } else if (text_.take("+")) {
        min = 1;
      } else if (text_.peek() == '?' && !(is_letter(text_.peek(1)) || text_.peek(1) == '_')) {
        text_.skip();
        max = 1;
      } else {
        if (!text_.take("~")) return {};
        skip_blanks();
        min = max = text_.number();
        skip_blanks();
        if (min >= 0 && text_.take("..")) {
          skip_blanks();
          max = text_.number();
        }
        if (min == -1 || max == -1) return wrong_at(begin, "expected ~n or ~n..m");
        if (min == -2 || max == -2)
          return unsupported_at(begin, fmt::format("a repetition of more than {}", kMaxGrammarCount));
        if (max < min) return wrong_at(begin, "a repetition whose end is before its beginning");
      }
      if (n == kMaxQuantifiers) return wrong_at(begin, "too many quantifiers of one item");
      *part = grammar_.repeat(*part, min, max);
    }
  }

  Status string_text(std::string* out) {
    const size_t begin = text_.offset();
    text_.skip();
    while (!text_.take("\"")) {
      if (at_line_end()) return wrong_at(begin, "a '\"' without its end");
      if (!text_.take("\\")) {
        append_utf8(text_.take_char(), out);
        continue;
      }
      const char c = text_.peek();
      uint32_t code = static_cast<uint8_t>(c);
      text_.skip();
      switch (c) {
        case 'n': code = '\n'; break;
        case 'r': code = '\r'; break;
        case 't': code = '\t'; break;
        case 'f': code = '\f'; break;
        case 'v': code = '\v'; break;
        case '\\':
        case '"':
        case '\'':
        case '/': break;
        case 'x':
        case 'u':
        case 'U':
          if (!text_.hex(c == 'x' ? 2 : c == 'u' ? 4 : 8, &code))
            return wrong_at(begin, "an escape without its hex digits, or of no character");
          break;
        default: return wrong_at(begin, "an escape that is not known");
      }
      append_utf8(code, out);
    }
    return {};
  }

  Status string(std::optional<Grammar::Expr>* out) {
    const size_t begin = text_.offset();
    std::string first;
    DECANT_TRY_STATUS(string_text(&first));
    const bool fold = text_.peek() == 'i' && !is_name_char(text_.peek(1));
    if (fold) text_.skip();
    const size_t behind = text_.offset();
    skip_blanks();
    if (text_.starts_with("..")) {
      text_.skip(2);
      skip_blanks();
      std::string last;
      if (text_.peek() != '"') return wrong("expected the end of the range");
      DECANT_TRY_STATUS(string_text(&last));
      if (first.empty() || last.empty() || decode_utf8(first).size != first.size() ||
          decode_utf8(last).size != last.size()) {
        return wrong_at(begin, "a range is between two single characters");
      }
      const uint32_t a = decode_utf8(first).code, b = decode_utf8(last).code;
      if (b < a) return wrong_at(begin, "a range whose end is before its beginning");
      *out = spaced(grammar_.chars(CharSet({{a, b}})));
      return {};
    }
    text_.seek(behind);
    *out = spaced(grammar_.text(first, fold));
    return {};
  }

  Status regex(std::optional<Grammar::Expr>* out) {
    const size_t begin = text_.offset();
    text_.skip();
    const size_t pattern_begin = text_.offset();
    while (text_.peek() != '/') {
      if (at_line_end()) return wrong_at(begin, "a regular expression without its '/'");
      if (text_.peek() == '\\') text_.skip();
      if (!at_line_end()) text_.skip();
    }
    const std::string_view pattern = text_.from(pattern_begin);
    text_.skip();
    const size_t flags_begin = text_.offset();
    while (is_letter(text_.peek())) text_.skip();
    const std::string_view flags = text_.from(flags_begin);
    for (const char flag : flags) {
      if (flag == 'm' && pattern.find_first_of("^$") != std::string_view::npos)
        return unsupported_at(begin, "the flag m beside ^ or $ is not supported");
      if (std::string_view("imsu").find(flag) == std::string_view::npos)
        return unsupported_at(begin, fmt::format("the flag {} is not supported", flag));
    }
    const bool fold = flags.find('i') != std::string_view::npos;
    std::string translated;
    DECANT_TRY_STATUS(translate(pattern, begin, flags.find('s') != std::string_view::npos, &translated));
    if (fold) translated = "(?i:" + translated + ")";
    Result<RegexId> id = parse_regex(translated, RegexDialect::kFull, &grammar_.pool());
    if (!id.ok()) {
      const std::string& message = id.status().message();
      return id.status().code() == Code::kUnsupported ? unsupported_at(begin, message) : wrong_at(begin, message);
    }
    *out = spaced(grammar_.regex(*id, pattern.size()));
    return {};
  }

  // From Python's dialect to that of parse_regex().
  Status translate(std::string_view pattern, size_t place, bool dot_takes_all, std::string* out) {
    bool in_class = false;
    for (size_t i = 0; i < pattern.size(); ++i) {
      const char c = pattern[i];
      if (c == '\\' && i + 1 < pattern.size()) {
        const char e = pattern[++i];
        const std::string_view inside = e == 'd'   ? "\\p{Nd}"
                                        : e == 'w' ? "\\p{L}\\p{N}_"
                                        : e == 's' ? " \\t\\n\\v\\f\\r\\x1c-\\x1f\\x85\\p{Z}"
                                                   : "";
        const std::string_view opposite = e == 'D'   ? "\\p{Nd}"
                                          : e == 'W' ? "\\p{L}\\p{N}_"
                                          : e == 'S' ? " \\t\\n\\v\\f\\r\\x1c-\\x1f\\x85\\p{Z}"
                                                     : "";
        if (!inside.empty()) {
          out->append(in_class ? fmt::format("{}", inside) : fmt::format("[{}]", inside));
        } else if (!opposite.empty()) {
          if (in_class) return unsupported_at(place, fmt::format("\\{} in a class is not supported", e));
          out->append(fmt::format("[^{}]", opposite));
        } else if (e == 'U') {
          out->append(fmt::format("\\u{{{}}}", pattern.substr(std::min(i + 3, pattern.size()), 6)));
          i = std::min(i + 8, pattern.size());
        } else if (e == 'a') {
          out->append("\\x07");
        } else {
          out->append({'\\', e});
        }
        continue;
      }
      if (c == '[' && !in_class) {
        in_class = true;
        out->push_back(c);
        if (i + 1 < pattern.size() && pattern[i + 1] == '^') out->push_back(pattern[++i]);
        // A bracket that comes first is itself.
        if (i + 1 < pattern.size() && pattern[i + 1] == ']') {
          out->append("\\]");
          ++i;
        }
        continue;
      }
      if (c == '[') {
        out->append("\\[");
        continue;
      }
      if (c == ']') in_class = false;
      if (c == '.' && !in_class) {
        out->append(dot_takes_all ? "[^]" : "[^\\n]");
        continue;
      }
      out->push_back(c);
    }
    return {};
  }

  // --- What is ignored -------------------------------------------------------------------------------------------

  Grammar::Rule ignored_rule() { return grammar_.rule("(ignored)", {1, 1}); }
  Status define_ignored() {
    const Grammar::Expr body =
        ignored_.empty() ? grammar_.empty() : grammar_.repeat(grammar_.choice(ignored_), 0, RegexPool::kUnbounded);
    return grammar_.define(ignored_rule(), body, {1, 1});
  }

  GrammarText text_;
  Grammar grammar_;
  bool in_terminal_ = false;
  std::vector<Grammar::Expr> ignored_;
  int priorities_ = 0;
};

}  // namespace

Result<GrammarSource> parse_lark(std::string_view text, const std::string& name) { return Parser(text, name).parse(); }

bool looks_like_lark(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    std::string_view line = text.substr(at, end - at);
    at = end + 1;
    line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size()));
    while (line.starts_with("?") || line.starts_with("!")) line.remove_prefix(1);
    if (!line.starts_with("start")) continue;
    line.remove_prefix(5);
    if (line.starts_with(".")) line.remove_prefix(std::min(line.find_first_not_of(".0123456789"), line.size()));
    line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size()));
    if (line.starts_with(":") && !line.starts_with("::=")) return true;
  }
  return false;
}

}  // namespace decant
