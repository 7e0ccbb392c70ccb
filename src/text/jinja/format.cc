// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Python's two ways to format: "{}".format(x) and "%s" % x.
#include <algorithm>
#include <cmath>

#include "text/jinja/interpreter.h"

namespace decant::jinja {
namespace {

constexpr int kMaxWidth = 10'000;
constexpr int kMaxPrecision = 300;

// [[fill]align][sign][#][0][width][,][.precision][type]
struct Spec {
  Text fill;
  char align = '\0';
  char sign = '-';
  bool alternate = false;
  bool zero = false;
  char grouping = '\0';
  int width = -1;
  int precision = -1;
  char type = '\0';
};

int read_number(std::string_view* text, int max) {
  int n = -1;
  while (!text->empty() && (*text)[0] >= '0' && (*text)[0] <= '9') {
    n = std::max(n, 0) * 10 + ((*text)[0] - '0');
    if (n > max) fail("format: the number {} is larger than {}", n, max);
    text->remove_prefix(1);
  }
  return n;
}

bool is_align(char c) { return c == '<' || c == '>' || c == '=' || c == '^'; }

Spec parse_spec(const Text& source) {
  Spec spec;
  std::string_view text = source.bytes();
  if (!text.empty()) {
    const size_t first = char_at(text, 0).end;
    if (first < text.size() && is_align(text[first])) {
      spec.fill.append(source, 0, first);
      spec.align = text[first];
      text.remove_prefix(first + 1);
    } else if (is_align(text[0])) {
      spec.align = text[0];
      text.remove_prefix(1);
    }
  }
  const auto skip = [&](char c) {
    if (text.empty() || text[0] != c) return false;
    text.remove_prefix(1);
    return true;
  };
  if (!text.empty() && (text[0] == '+' || text[0] == '-' || text[0] == ' ')) {
    spec.sign = text[0];
    text.remove_prefix(1);
  }
  spec.alternate = skip('#');
  spec.zero = skip('0');
  spec.width = read_number(&text, kMaxWidth);
  if (skip(',')) {
    spec.grouping = ',';
  } else if (skip('_')) {
    spec.grouping = '_';
  }
  if (skip('.')) {
    spec.precision = read_number(&text, kMaxPrecision);
    if (spec.precision < 0) fail("format: the precision is missing");
  }
  if (!text.empty()) {
    spec.type = text[0];
    text.remove_prefix(1);
  }
  if (!text.empty()) fail("format: '{}' is no format", source.bytes());
  return spec;
}

std::string in_base(uint64_t n, unsigned base, bool upper) {
  const char* digits = upper ? "0123456789ABCDEF" : "0123456789abcdef";
  std::string out;
  do {
    out.insert(out.begin(), digits[n % base]);
    n /= base;
  } while (n > 0);
  return out;
}

void group(std::string* digits, char separator, size_t size) {
  size_t end = digits->find_first_not_of("0123456789abcdefABCDEF");
  if (end == std::string::npos) end = digits->size();
  for (size_t at = end; at > size; at -= size) digits->insert(at - size, 1, separator);
}

std::string fixed_text(double d, int precision, char type, bool alternate) {
  if (std::isnan(d)) return type == 'F' || type == 'E' || type == 'G' ? "NAN" : "nan";
  if (std::isinf(d)) return type == 'F' || type == 'E' || type == 'G' ? "INF" : "inf";
  std::string format = alternate ? "%#.*" : "%.*";
  format += type;
  std::string out(static_cast<size_t>(precision) + 400, '\0');
  out.resize(static_cast<size_t>(std::snprintf(out.data(), out.size(), format.c_str(), precision, d)));
  return out;
}

// The digits of a number without its sign.
std::string number_digits(const Value& v, const Spec& spec, bool* negative) {
  char type = spec.type;
  if (v.is_integral() &&
      (type == '\0' || type == 'd' || type == 'n' || type == 'b' || type == 'o' || type == 'x' || type == 'X')) {
    if (spec.precision >= 0) fail("format: a whole number takes no precision");
    const int64_t i = v.as_int();
    *negative = i < 0;
    const uint64_t n = i < 0 ? 0 - static_cast<uint64_t>(i) : static_cast<uint64_t>(i);
    const unsigned base = type == 'b' ? 2 : type == 'o' ? 8 : type == 'x' || type == 'X' ? 16 : 10;
    std::string digits = in_base(n, base, type == 'X');
    if (spec.grouping != '\0') {
      if (base != 10 && spec.grouping == ',') fail("format: ',' goes with decimal numbers");
      group(&digits, spec.grouping, base == 10 ? 3 : 4);
    }
    if (spec.alternate && base != 10) digits = std::string("0") + type + digits;
    return digits;
  }
  double d = v.as_double();
  *negative = std::signbit(d) && !std::isnan(d);
  d = std::fabs(d);
  std::string digits;
  std::string suffix;
  switch (type) {
    case '\0':
      if (spec.precision < 0) {
        digits = float_text(d);
      } else {
        // As g, but always with a digit behind the point.
        digits = fixed_text(d, std::max(spec.precision, 1), 'g', false);
        if (digits.find_first_of(".en") == std::string::npos) digits += ".0";
      }
      break;
    case '%':
      d *= 100;
      suffix = "%";
      type = 'f';
      [[fallthrough]];
    case 'f':
    case 'F':
    case 'e':
    case 'E':
    case 'g':
    case 'G':
      digits = fixed_text(d,
                          spec.precision < 0             ? 6
                          : (type == 'g' || type == 'G') ? std::max(spec.precision, 1)
                                                         : spec.precision,
                          type, spec.alternate);
      break;
    default: fail("format: the type '{}' does not go with a value of type {}", spec.type, type_name(v));
  }
  if (spec.grouping != '\0') group(&digits, spec.grouping, 3);
  return digits + suffix;
}

void append_padded(const Text& text, char align, const Text& fill, size_t width, size_t sign, Builder* out) {
  const size_t size = count_chars(text.bytes());
  const size_t missing = width > size ? width - size : 0;
  const size_t left = align == '>' ? missing : align == '^' ? missing / 2 : 0;
  const auto pad = [&](size_t n) {
    for (size_t i = 0; i < n; ++i) out->append(fill);
  };
  if (align == '=') {
    out->append(text, 0, sign);
    pad(missing);
    return out->append(text, sign, text.size());
  }
  pad(left);
  out->append(text);
  pad(missing - left);
}

void append_formatted(Interpreter& in, const Value& v, const Text& source, Builder* out) {
  if (source.size() == 0) return append_str(v, out);
  Spec spec = parse_spec(source);
  const auto width = static_cast<size_t>(std::max(spec.width, 0));
  Text text;
  size_t sign = 0;
  const bool is_number = v.is_number() && !(v.is(Kind::kBool) && spec.type == 's');
  if (is_number) {
    bool negative = false;
    std::string digits;
    if (spec.type == 'c') fail_unsupported("format: the type 'c' is not supported");
    digits = number_digits(v, spec, &negative);
    const std::string mark = negative ? "-" : spec.sign == '-' ? "" : std::string(1, spec.sign);
    sign = mark.size();
    if (spec.alternate && v.is_integral() &&
        (spec.type == 'b' || spec.type == 'o' || spec.type == 'x' || spec.type == 'X')) {
      sign += 2;
    }
    if (spec.zero && spec.grouping != '\0' && width > 0)
      fail_unsupported("format: '0' with '{}' is not supported", spec.grouping);
    text.append(mark + digits, false);
  } else if (v.is_string()) {
    if (spec.type != '\0' && spec.type != 's') {
      fail("format: the type '{}' does not go with a string", spec.type);
    }
    if (spec.sign != '-' || spec.align == '=' || spec.grouping != '\0' || spec.alternate) {
      fail("format: '{}' does not go with a string", source.bytes());
    }
    const std::string& bytes = v.bytes();
    text.append(v.text(), 0,
                spec.precision < 0 ? bytes.size() : char_offset(bytes, static_cast<size_t>(spec.precision)));
  } else {
    fail("format: '{}' does not go with a value of type {}", source.bytes(), type_name(v));
  }
  in.budget().work(text.size() + width);
  if (spec.fill.size() == 0) spec.fill.append(spec.zero ? "0" : " ", false);
  if (spec.align == '\0') spec.align = spec.zero && is_number ? '=' : is_number ? '>' : '<';
  append_padded(text, spec.align, spec.fill, width, sign, out);
}

class FormatMethod {
 public:
  FormatMethod(Interpreter& in, const Call& call) : in_(in), call_(call) {}

  void run(const Text& format, int depth, Builder* out) {
    const std::string& bytes = format.bytes();
    for (size_t at = 0; at < bytes.size();) {
      const size_t brace = bytes.find_first_of("{}", at);
      out->append(format, at, std::min(brace, bytes.size()));
      if (brace == std::string::npos) return;
      if (brace + 1 < bytes.size() && bytes[brace + 1] == bytes[brace]) {
        out->append(format, brace, brace + 1);
        at = brace + 2;
        continue;
      }
      if (bytes[brace] == '}') fail("format: a single '}}'");
      size_t end = brace + 1;
      for (int open = 1;; ++end) {
        if (end >= bytes.size()) fail("format: a '{{' without its '}}'");
        if (bytes[end] == '{') ++open;
        if (bytes[end] == '}' && --open == 0) break;
      }
      field(format, brace + 1, end, depth, out);
      at = end + 1;
    }
  }

 private:
  void field(const Text& format, size_t begin, size_t end, int depth, Builder* out) {
    const std::string_view bytes = std::string_view(format.bytes()).substr(0, end);
    size_t name_end = begin;
    for (bool in_brackets = false; name_end < end; ++name_end) {
      if (bytes[name_end] == '[') in_brackets = true;
      if (bytes[name_end] == ']') in_brackets = false;
      if (!in_brackets && (bytes[name_end] == ':' || bytes[name_end] == '!')) break;
    }
    Value v = lookup(bytes.substr(begin, name_end - begin));
    size_t at = name_end;
    if (at < end && bytes[at] == '!') {
      const char conversion = at + 1 < end ? bytes[at + 1] : '\0';
      if (conversion == 's') {
        v = in_.str_value(v);
      } else if (conversion == 'r') {
        Builder builder(in_.budget());
        append_repr(v, &builder);
        v = in_.string(builder.take());
      } else {
        fail("format: '!' needs s or r behind it");
      }
      at += 2;
      if (at < end && bytes[at] != ':') fail("format: expected ':' behind the conversion");
    }
    Text spec;
    if (at < end) spec.append(format, at + 1, end);
    if (spec.bytes().find('{') != std::string::npos) {
      if (depth > 0) fail("format: braces nested too deep");
      Builder builder(in_.budget());
      run(spec, depth + 1, &builder);
      spec = builder.take();
    }
    append_formatted(in_, v, spec, out);
  }

  Value lookup(std::string_view name) {
    const size_t rest = std::min(name.find_first_of(".["), name.size());
    const std::string_view first = name.substr(0, rest);
    const bool is_number =
        !first.empty() && std::all_of(first.begin(), first.end(), [](char c) { return c >= '0' && c <= '9'; });
    const Value* found = nullptr;
    if (first.empty() || is_number) {
      if (mixed_ != 0 && (mixed_ == 1) != first.empty()) fail("format: fields with and without numbers do not mix");
      mixed_ = first.empty() ? 1 : 2;
      size_t index = next_;
      if (first.empty()) {
        ++next_;
      } else {
        if (first.size() > 6) fail("format: there is no argument {}", first);
        index = static_cast<size_t>(std::stoul(std::string(first)));
      }
      if (index >= call_.positional.size()) fail("format: there is no argument {}", index);
      found = &call_.positional[index];
    } else {
      for (const auto& [key, value] : call_.named) {
        if (key == first) found = &value;
      }
      if (found == nullptr) fail("format: there is no argument '{}'", first);
    }
    Value v = *found;
    for (std::string_view left = name.substr(rest); !left.empty();) {
      const bool is_attribute = left[0] == '.';
      if (!is_attribute && left[0] != '[') fail("format: expected '.' or '[' behind ']'");
      const size_t end = is_attribute ? std::min(left.find_first_of(".[", 1), left.size()) : left.find(']');
      if (end == std::string_view::npos || end == 1) fail("format: an empty attribute or a '[' without its ']'");
      const std::string_view part = left.substr(1, end - 1);
      if (is_attribute) {
        v = in_.attribute(v, part);
      } else if (part.size() < 18 &&
                 std::all_of(part.begin(), part.end(), [](char c) { return c >= '0' && c <= '9'; })) {
        v = in_.item(v, Value::of(static_cast<int64_t>(std::stoll(std::string(part)))));
      } else {
        v = in_.item(v, in_.string(part));
      }
      left.remove_prefix(is_attribute ? end : end + 1);
    }
    return v;
  }

  Interpreter& in_;
  const Call& call_;
  size_t next_ = 0;
  int mixed_ = 0;  // 1: fields without numbers, 2: with numbers
};

// One conversion of "%...".
struct Conversion {
  bool left = false, zero = false, plus = false, blank = false, alternate = false;
  int width = 0;
  int precision = -1;
  char type = '\0';
};

class FormatPercent {
 public:
  FormatPercent(Interpreter& in, const Value& arguments) : in_(in), arguments_(arguments) {
    is_tuple_ = arguments.is(Kind::kSequence) && arguments.sequence->flavor == Flavor::kTuple;
  }

  void run(const Text& format, bool markup, Builder* out) {
    const std::string& bytes = format.bytes();
    for (size_t at = 0; at < bytes.size();) {
      const size_t percent = bytes.find('%', at);
      out->append(format, at, std::min(percent, bytes.size()));
      if (percent == std::string::npos) break;
      at = percent + 1;
      Value keyed;
      bool has_key = false;
      if (at < bytes.size() && bytes[at] == '(') {
        const size_t close = bytes.find(')', at);
        if (close == std::string::npos) fail("format: a '(' without its ')'");
        if (!arguments_.is(Kind::kDict)) fail("format: %(name) needs a dict");
        const Value* found = arguments_.dict->find(std::string_view(bytes).substr(at + 1, close - at - 1));
        if (found == nullptr) fail("format: there is no argument '{}'", bytes.substr(at + 1, close - at - 1));
        keyed = *found;
        has_key = used_ = true;
        at = close + 1;
      }
      Conversion c;
      for (; at < bytes.size(); ++at) {
        if (bytes[at] == '-')
          c.left = true;
        else if (bytes[at] == '0')
          c.zero = true;
        else if (bytes[at] == '+')
          c.plus = true;
        else if (bytes[at] == ' ')
          c.blank = true;
        else if (bytes[at] == '#')
          c.alternate = true;
        else
          break;
      }
      std::string_view rest = std::string_view(bytes).substr(at);
      if (!rest.empty() && rest[0] == '*') fail_unsupported("format: '*' is not supported");
      c.width = std::max(read_number(&rest, kMaxWidth), 0);
      if (!rest.empty() && rest[0] == '.') {
        rest.remove_prefix(1);
        c.precision = std::max(read_number(&rest, kMaxPrecision), 0);
      }
      while (!rest.empty() && (rest[0] == 'h' || rest[0] == 'l' || rest[0] == 'L')) rest.remove_prefix(1);
      if (rest.empty()) fail("format: it ends within a conversion");
      c.type = rest[0];
      at = bytes.size() - rest.size() + 1;
      if (c.type == '%') {
        out->append(format, at - 1, at);
        continue;
      }
      convert(c, has_key ? keyed : next(), markup, out);
    }
    const bool all_used = is_tuple_ ? next_ == arguments_.sequence->items.size()
                                    : used_ || arguments_.is(Kind::kDict) || arguments_.is_undefined() || is_list();
    if (!all_used) fail("format: not all arguments were used");
  }

 private:
  // Python leaves lists unused without a word, as it does dicts.
  bool is_list() const { return arguments_.is(Kind::kSequence) && arguments_.sequence->is_indexable(); }

  Value next() {
    if (is_tuple_) {
      if (next_ >= arguments_.sequence->items.size()) fail("format: there are not enough arguments");
      return arguments_.sequence->items[next_++];
    }
    if (used_) fail("format: there are not enough arguments");
    used_ = true;
    return arguments_;
  }

  void convert(const Conversion& c, const Value& v, bool markup, Builder* out) {
    Text text;
    size_t sign = 0;
    bool is_number = false;
    switch (c.type) {
      case 's':
      case 'r':
      case 'a': {
        if (c.type == 'a') fail_unsupported("format: the type 'a' is not supported");
        Builder builder(in_.budget());
        if (c.type == 's') {
          builder.append(markup ? in_.escaped(v).text() : in_.str(v));
        } else {
          append_repr(v, &builder);
        }
        const Text whole = builder.take();
        text.append(whole, 0,
                    c.precision < 0 ? whole.size() : char_offset(whole.bytes(), static_cast<size_t>(c.precision)));
        break;
      }
      case 'c': {
        if (v.is_string() && in_.length(v) == 1) {
          text = v.text();
          break;
        }
        fail_unsupported("format: the type 'c' is supported with one character only");
      }
      case 'd':
      case 'i':
      case 'u':
      case 'x':
      case 'X':
      case 'o':
      case 'e':
      case 'E':
      case 'f':
      case 'F':
      case 'g':
      case 'G': {
        if (v.is_undefined()) fail_undefined(v);
        if (!v.is_number()) fail("format: %{} needs a number, and got a value of type {}", c.type, type_name(v));
        is_number = true;
        const bool whole = c.type == 'd' || c.type == 'i' || c.type == 'u';
        const bool based = c.type == 'x' || c.type == 'X' || c.type == 'o';
        Value number = v;
        if (whole && v.is(Kind::kFloat)) {
          if (!(std::fabs(v.real) < 9e18)) fail("format: the number does not fit in 64 bits");
          number = Value::of(static_cast<int64_t>(v.real));
        }
        if (based && !v.is_integral()) fail("format: %{} needs a whole number", c.type);
        Spec spec;
        spec.type = whole ? 'd' : c.type;
        spec.alternate = c.alternate;
        if (!whole && !based) {
          spec.precision = c.precision;
          number = Value::of(number.as_double());
        }
        bool negative = false;
        std::string digits = number_digits(number, spec, &negative);
        if ((whole || based) && c.precision > static_cast<int>(digits.size())) {
          digits.insert(0, static_cast<size_t>(c.precision) - digits.size(), '0');
        }
        const std::string mark = negative ? "-" : c.plus ? "+" : c.blank ? " " : "";
        sign = mark.size() + (based && c.alternate ? 2 : 0);
        text.append(mark + digits, false);
        break;
      }
      default: fail("format: there is no conversion %{}", c.type);
    }
    Text fill;
    const bool zeros = c.zero && is_number && !c.left;
    fill.append(zeros ? "0" : " ", false);
    append_padded(text, c.left ? '<' : zeros ? '=' : '>', fill, static_cast<size_t>(c.width), sign, out);
  }

  Interpreter& in_;
  const Value& arguments_;
  bool is_tuple_ = false;
  bool used_ = false;
  size_t next_ = 0;
};

}  // namespace

Value Interpreter::format_method(const Value& format, const Call& arguments) {
  Builder out(budget_);
  FormatMethod(*this, arguments).run(format.text(), 0, &out);
  return string(out.take(), format.string->markup);
}

Value Interpreter::format_percent(const Value& format, const Value& arguments) {
  Builder out(budget_);
  FormatPercent(*this, arguments).run(format.text(), format.string->markup, &out);
  return string(out.take(), format.string->markup);
}

}  // namespace decant::jinja
