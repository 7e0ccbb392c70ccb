// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// A syntax tree first, then expressions from the end to the front: each part is built in front of what may follow it,
// so that a look-ahead is an intersection with what follows.
#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "constrain/regex.h"
#include "text/unicode.h"

namespace decant {
namespace {

constexpr size_t kMaxPattern = 16384;  // bytes
constexpr int kMaxDepth = 200;         // of groups
constexpr int kMaxCount = 1'000'000;   // of a quantifier
constexpr int kMaxAnchors = 4;         // of a kind at one place
constexpr int kMaxUnrolled = 64;       // copies of a repetition with an assertion in it

struct Syntax {
  enum class Kind { kChars, kSequence, kChoice, kRepeat, kBegin, kEnd, kLook } kind = Kind::kSequence;
  CharSet chars;
  std::vector<std::unique_ptr<Syntax>> parts;
  int min = 0, max = 0;
  bool negative = false;     // kLook
  bool looks_ahead = false;  // a look-ahead in it: what follows takes part
};
using Tree = std::unique_ptr<Syntax>;

bool is_hex(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }

class Parser {
 public:
  Parser(std::string_view pattern, RegexDialect dialect) : text_(pattern), dialect_(dialect) {}

  Result<Tree> parse() {
    if (text_.size() > kMaxPattern) {
      return Status::unsupported("regular expression of {} bytes; at most {} are supported", text_.size(), kMaxPattern);
    }
    for (size_t i = 0; i < text_.size();) {
      const Utf8Char c = decode_utf8(text_.substr(i));
      if (!c.valid) return wrong("a byte that is not UTF-8", i);
      i += c.size;
    }
    Tree tree;
    DECANT_TRY_STATUS(choice(0, &tree));
    if (at_ < text_.size()) return wrong("a ')' without its '('", at_);
    return tree;
  }

  // Anchors that one match may ask for at the same place.
  int begins() const { return std::clamp(begins_, 1, kMaxAnchors); }
  int ends() const { return std::clamp(ends_, 1, kMaxAnchors); }

 private:
  Status wrong(const std::string& what, size_t at) const {
    return Status::invalid_argument("regular expression {}: {} at offset {}", quoted(), what, at);
  }
  Status unsupported(const std::string& what, size_t at) const {
    return Status::unsupported("regular expression {}: {} at offset {}", quoted(), what, at);
  }
  std::string quoted() const {
    return "\"" + std::string(text_.substr(0, 80)) + (text_.size() > 80 ? "..." : "") + "\"";
  }

  bool peek(char c) const { return at_ < text_.size() && text_[at_] == c; }
  bool take(std::string_view part) {
    if (!text_.substr(at_).starts_with(part)) return false;
    at_ += part.size();
    return true;
  }
  uint32_t take_char() {
    const Utf8Char c = decode_utf8(text_.substr(at_));
    at_ += c.size;
    return c.code;
  }

  Status choice(int depth, Tree* out) {
    if (depth > kMaxDepth) return unsupported(fmt::format("groups nested deeper than {}", kMaxDepth), at_);
    Tree tree = std::make_unique<Syntax>();
    tree->kind = Syntax::Kind::kChoice;
    do {
      Tree part;
      DECANT_TRY_STATUS(sequence(depth, &part));
      tree->looks_ahead |= part->looks_ahead;
      tree->parts.push_back(std::move(part));
    } while (take("|"));
    *out = tree->parts.size() == 1 ? std::move(tree->parts[0]) : std::move(tree);
    return {};
  }

  Status sequence(int depth, Tree* out) {
    Tree tree = std::make_unique<Syntax>();
    while (at_ < text_.size() && !peek('|') && !peek(')')) {
      const size_t begin = at_;
      Tree part;
      DECANT_TRY_STATUS(atom(depth, &part));
      DECANT_TRY_STATUS(quantifiers(begin, &part));
      tree->looks_ahead |= part->looks_ahead;
      tree->parts.push_back(std::move(part));
    }
    *out = std::move(tree);
    return {};
  }

  static Tree chars(CharSet set) {
    Tree tree = std::make_unique<Syntax>();
    tree->kind = Syntax::Kind::kChars;
    tree->chars = std::move(set);
    return tree;
  }
  Tree folded(CharSet set) const { return chars(fold_ ? fold_case(set) : std::move(set)); }
  static Tree assertion(Syntax::Kind kind) {
    Tree tree = std::make_unique<Syntax>();
    tree->kind = kind;
    tree->looks_ahead = kind == Syntax::Kind::kLook;
    return tree;
  }

  Status atom(int depth, Tree* out) {
    const size_t begin = at_;
    switch (text_[at_]) {
      case '^':
        ++at_;
        ++begins_;
        *out = assertion(Syntax::Kind::kBegin);
        return {};
      case '$':
        ++at_;
        ++ends_;
        *out = assertion(Syntax::Kind::kEnd);
        return {};
      case '.':
        ++at_;
        *out = chars(no_line_end_chars());
        return {};
      case '(': return group(depth, out);
      case '[': return char_class(out);
      case '*':
      case '+':
      case '?': return wrong("nothing to repeat", begin);
      case '{':
        if (is_quantifier(begin)) return wrong("nothing to repeat", begin);
        break;
      case '\\': {
        if (at_ + 1 < text_.size() && (text_[at_ + 1] == 'b' || text_[at_ + 1] == 'B')) {
          return unsupported("word boundaries are not supported", begin);
        }
        CharSet set;
        DECANT_TRY_STATUS(escape(false, &set));
        *out = folded(std::move(set));
        return {};
      }
      default: break;
    }
    *out = folded(CharSet::of(take_char()));
    return {};
  }

  Status group(int depth, Tree* out) {
    const size_t begin = at_++;
    bool look = false, negative = false;
    const bool fold = fold_;
    if (take("?")) {
      if (take("=")) {
        look = true;
      } else if (take("!")) {
        look = negative = true;
      } else if (take("<=") || take("<!")) {
        return unsupported("look-behind is not supported", begin);
      } else if (take("<") || take("P<")) {
        const size_t end = text_.find('>', at_);
        if (end == std::string_view::npos || end == at_) return wrong("a group's name without its '>'", begin);
        at_ = end + 1;
      } else if (dialect_ == RegexDialect::kFull && take("i:")) {
        fold_ = true;
      } else if (dialect_ == RegexDialect::kFull && take("-i:")) {
        fold_ = false;
      } else if (!take(":")) {
        return unsupported("this kind of group is not supported", begin);
      }
    }
    Tree inner;
    DECANT_TRY_STATUS(choice(depth + 1, &inner));
    if (!take(")")) return wrong("a '(' without its ')'", begin);
    fold_ = fold;
    if (!look) {
      *out = std::move(inner);
      return {};
    }
    *out = assertion(Syntax::Kind::kLook);
    (*out)->negative = negative;
    (*out)->parts.push_back(std::move(inner));
    return {};
  }

  bool is_quantifier(size_t at) const {
    size_t i = at + 1;
    const size_t digits = i;
    while (i < text_.size() && text_[i] >= '0' && text_[i] <= '9') ++i;
    if (i == digits) return false;
    if (i < text_.size() && text_[i] == ',') {
      ++i;
      while (i < text_.size() && text_[i] >= '0' && text_[i] <= '9') ++i;
    }
    return i < text_.size() && text_[i] == '}';
  }

  Status number(int* out) {
    int64_t value = 0;
    const size_t begin = at_;
    while (at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9') {
      value = std::min<int64_t>(value * 10 + (text_[at_++] - '0'), int64_t{kMaxCount} + 1);
    }
    if (value > kMaxCount) return unsupported(fmt::format("a repetition of more than {}", kMaxCount), begin);
    *out = static_cast<int>(value);
    return {};
  }

  Status quantifiers(size_t begin, Tree* part) {
    for (int n = 0;; ++n) {
      int min = 0, max = RegexPool::kUnbounded;
      if (take("*")) {
      } else if (take("+")) {
        min = 1;
      } else if (take("?")) {
        max = 1;
      } else if (peek('{') && is_quantifier(at_)) {
        const size_t brace = at_++;
        DECANT_TRY_STATUS(number(&min));
        max = min;
        if (take(",")) {
          max = RegexPool::kUnbounded;
          if (!peek('}')) DECANT_TRY_STATUS(number(&max));
        }
        ++at_;
        if (max != RegexPool::kUnbounded && max < min)
          return wrong("a repetition whose end is before its beginning", brace);
      } else {
        return {};
      }
      if (n > 0) return wrong("a quantifier of a quantifier", at_ - 1);
      take("?");  // lazy: the same language
      if ((*part)->kind == Syntax::Kind::kBegin || (*part)->kind == Syntax::Kind::kEnd ||
          (*part)->kind == Syntax::Kind::kLook) {
        return unsupported("a repeated assertion", begin);
      }
      if ((*part)->looks_ahead && (max == RegexPool::kUnbounded || max > kMaxUnrolled)) {
        return unsupported("a look-ahead in an unbounded repetition", begin);
      }
      Tree tree = std::make_unique<Syntax>();
      tree->kind = Syntax::Kind::kRepeat;
      tree->min = min;
      tree->max = max;
      tree->looks_ahead = (*part)->looks_ahead;
      tree->parts.push_back(std::move(*part));
      *part = std::move(tree);
    }
  }

  Status hex(int digits, size_t begin, uint32_t* out) {
    uint32_t code = 0;
    for (int i = 0; i < digits; ++i) {
      if (at_ >= text_.size() || !is_hex(text_[at_])) return wrong("an escape with too few hex digits", begin);
      const char c = text_[at_++];
      code = code * 16 + static_cast<uint32_t>(c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
    }
    *out = code;
    return {};
  }

  // At a backslash. In a class \b is a backspace.
  Status escape(bool in_class, CharSet* out) {
    const size_t begin = at_++;
    if (at_ >= text_.size()) return wrong("a '\\' at the end", begin);
    const char c = text_[at_];
    const auto one = [&](uint32_t code) {
      ++at_;
      *out = CharSet::of(code);
      return Status();
    };
    const auto all = [&](const CharSet& set) {
      ++at_;
      *out = set;
      return Status();
    };
    switch (c) {
      case 'd': return all(digit_chars());
      case 'D': return all(digit_chars().complement());
      case 'w': return all(word_chars());
      case 'W': return all(word_chars().complement());
      case 's': return all(space_chars());
      case 'S': return all(space_chars().complement());
      case 't': return one('\t');
      case 'n': return one('\n');
      case 'v': return one('\v');
      case 'f': return one('\f');
      case 'r': return one('\r');
      case 'b':
        if (in_class) return one('\b');
        break;
      case 'c':
        if (at_ + 1 < text_.size() && ((text_[at_ + 1] | 32) >= 'a' && (text_[at_ + 1] | 32) <= 'z')) {
          ++at_;
          return one(static_cast<uint32_t>(text_[at_]) & 31);
        }
        return wrong("\\c without a letter", begin);
      case 'x': {
        ++at_;
        uint32_t code = 0;
        DECANT_TRY_STATUS(hex(2, begin, &code));
        *out = CharSet::of(code);
        return {};
      }
      case 'u': return unicode_escape(begin, out);
      case 'p':
      case 'P': return property(begin, out);
      default: break;
    }
    if (c == '0' && !(at_ + 1 < text_.size() && text_[at_ + 1] >= '0' && text_[at_ + 1] <= '9')) return one(0);
    if (c >= '0' && c <= '9') return unsupported("back-references are not regular", begin);
    if (c == 'k') return unsupported("back-references are not regular", begin);
    // \A and \Z are other dialects' anchors, and would be taken for letters.
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) {
      return unsupported(fmt::format("the escape \\{} is not supported", c), begin);
    }
    *out = CharSet::of(take_char());
    return {};
  }

  Status unicode_escape(size_t begin, CharSet* out) {
    ++at_;
    uint32_t code = 0;
    if (take("{")) {
      const size_t end = text_.find('}', at_);
      if (end == std::string_view::npos || end == at_ || end - at_ > 6)
        return wrong("\\u{...} without 1 to 6 hex digits", begin);
      DECANT_TRY_STATUS(hex(static_cast<int>(end - at_), begin, &code));
      ++at_;
      if (code > kMaxCodePoint) return wrong("a code point beyond U+10FFFF", begin);
    } else {
      DECANT_TRY_STATUS(hex(4, begin, &code));
      if (code >= 0xD800 && code <= 0xDBFF && take("\\u")) {
        uint32_t low = 0;
        DECANT_TRY_STATUS(hex(4, begin, &low));
        if (low < 0xDC00 || low > 0xDFFF) return wrong("half of a surrogate pair", begin);
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
      }
    }
    if (code >= 0xD800 && code <= 0xDFFF) return unsupported("half of a surrogate pair", begin);
    *out = CharSet::of(code);
    return {};
  }

  Status property(size_t begin, CharSet* out) {
    const bool negative = text_[at_++] == 'P';
    if (!take("{")) return wrong("\\p without {...}", begin);
    const size_t end = text_.find('}', at_);
    if (end == std::string_view::npos) return wrong("\\p{ without its '}'", begin);
    const std::string_view name = text_.substr(at_, end - at_);
    at_ = end + 1;
    std::optional<CharSet> set = unicode_property(name);
    if (!set) {
      return unsupported(fmt::format("the property {} is not supported (general categories are)", name.substr(0, 40)),
                         begin);
    }
    *out = negative ? set->complement() : *std::move(set);
    return {};
  }

  Status char_class(Tree* out) {
    const size_t begin = at_++;
    const bool negative = take("^");
    CharSet set;
    while (true) {
      if (at_ >= text_.size()) return wrong("a '[' without its ']'", begin);
      if (take("]")) break;
      const size_t item = at_;
      CharSet first;
      bool single = true;
      DECANT_TRY_STATUS(class_item(&first, &single));
      if (peek('-') && at_ + 1 < text_.size() && text_[at_ + 1] != ']') {
        ++at_;
        CharSet last;
        bool last_single = true;
        DECANT_TRY_STATUS(class_item(&last, &last_single));
        if (single && last_single) {
          const uint32_t a = first.ranges()[0].first, b = last.ranges()[0].first;
          if (a > b) return wrong("a range whose end is before its beginning", item);
          first = CharSet({{a, b}});
        } else {
          first = first | last | CharSet::of('-');  // a dash beside \d and the like is itself
        }
      }
      set = set | first;
    }
    if (fold_) set = fold_case(set);
    *out = chars(negative ? set.complement() : std::move(set));
    return {};
  }

  Status class_item(CharSet* out, bool* single) {
    if (!peek('\\')) {
      *out = CharSet::of(take_char());
      return {};
    }
    const char kind = at_ + 1 < text_.size() ? text_[at_ + 1] : '\0';
    *single = std::string_view("dDwWsSpP").find(kind) == std::string_view::npos;
    return escape(true, out);
  }

  std::string_view text_;
  RegexDialect dialect_;
  size_t at_ = 0;
  int begins_ = 0, ends_ = 0;
  bool fold_ = false;
};

class Builder {
 public:
  explicit Builder(RegexPool* pool) : pool_(*pool) {
    // What surrounds a match, the anchors included.
    around_ =
        pool_.repeat(pool_.alt({pool_.any(), pool_.begin_anchor(), pool_.end_anchor()}), 0, RegexPool::kUnbounded);
  }

  RegexId around() const { return around_; }

  // The texts of `tree` followed by those of `rest`.
  RegexId before(const Syntax& tree, RegexId rest) {
    switch (tree.kind) {
      case Syntax::Kind::kChars: return pool_.concat(pool_.chars(tree.chars), rest);
      case Syntax::Kind::kSequence:
        for (auto it = tree.parts.rbegin(); it != tree.parts.rend(); ++it) rest = before(**it, rest);
        return rest;
      case Syntax::Kind::kChoice: {
        std::vector<RegexId> parts;
        if (tree.looks_ahead) {
          for (const Tree& part : tree.parts) parts.push_back(before(*part, rest));
          return pool_.alt(std::move(parts));
        }
        for (const Tree& part : tree.parts) parts.push_back(before(*part, pool_.empty()));
        return pool_.concat(pool_.alt(std::move(parts)), rest);
      }
      case Syntax::Kind::kRepeat: {
        const Syntax& part = *tree.parts[0];
        if (!tree.looks_ahead) {
          return pool_.concat(pool_.repeat(before(part, pool_.empty()), tree.min, tree.max), rest);
        }
        // Copies, each in front of the next: an assertion looks into what follows.
        RegexId id = rest;
        for (int i = 0; i < tree.max - tree.min; ++i) id = pool_.alt({rest, before(part, id)});
        for (int i = 0; i < tree.min; ++i) id = before(part, id);
        return id;
      }
      case Syntax::Kind::kBegin: return pool_.concat(pool_.begin_anchor(), rest);
      case Syntax::Kind::kEnd: return pool_.concat(pool_.end_anchor(), rest);
      case Syntax::Kind::kLook: {
        const RegexId seen = before(*tree.parts[0], around_);
        return pool_.conj({tree.negative ? pool_.negate(seen) : seen, rest});
      }
    }
    return pool_.none();
  }

 private:
  RegexPool& pool_;
  RegexId around_;
};

}  // namespace

Result<RegexId> parse_regex(std::string_view pattern, RegexDialect dialect, RegexPool* pool) {
  Parser parser(pattern, dialect);
  DECANT_TRY(const Tree tree, parser.parse());
  Builder builder(pool);
  RegexId id;
  if (dialect == RegexDialect::kSearch) {
    id = pool->concat(builder.around(), builder.before(*tree, builder.around()));
  } else {
    const RegexId end = pool->repeat(pool->end_anchor(), 0, RegexPool::kUnbounded);
    id = pool->concat(pool->repeat(pool->begin_anchor(), 0, RegexPool::kUnbounded), builder.before(*tree, end));
  }
  return pool->resolve_anchors(id, parser.begins(), parser.ends());
}

}  // namespace decant
