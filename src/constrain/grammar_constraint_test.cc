// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "constrain/grammar_constraint.h"

#include <gtest/gtest.h>

#include <chrono>
#include <random>
#include <set>

#include "constrain/lark.h"
#include "text/unicode.h"

namespace decant {
namespace {

const std::vector<std::string>& texts() {
  static const std::vector<std::string> all = [] {
    std::vector<std::string> list = {"",     "ab",       "ba", "aa",    "bb",         "aab",  "é",    "\xC3",
                                     "\xA9", "\xA9" "a", "aé", "b\xC3", "\xF0\x9F", "\x98\x80", "abab", "ab"};
    for (int c = 0x09; c < 0x7F; ++c) list.emplace_back(1, static_cast<char>(c));
    for (const char* more : {"\":", "\",", "\"}", "{\"", ": ", ", ", "true", "12", "}}", "]]", "  ", "x1", "(x", "))", "a + b"})
      list.emplace_back(more);
    return list;
  }();
  return all;
}

std::shared_ptr<const JsonVocabulary> vocabulary() {
  static const auto made = [] {
    const std::vector<std::string_view> views(texts().begin(), texts().end());
    return std::make_shared<const JsonVocabulary>(std::make_shared<const TokenTrie>(views));
  }();
  return made;
}

bool takes(Constraint& constraint, std::string_view text, bool* ends = nullptr) {
  std::optional<ConstraintState> state = constraint.start();
  for (size_t i = 0; state && i < text.size(); ++i) state = constraint.step(*state, static_cast<uint8_t>(text[i]));
  if (ends != nullptr) *ends = state && constraint.accepting(*state);
  return state.has_value();
}
bool matches(Constraint& constraint, std::string_view text) {
  bool ends = false;
  takes(constraint, text, &ends);
  return ends;
}

// --- Brute force -----------------------------------------------------------------------------------------------------

// An expression of its own, and who is in its language by the definition: every way to cut the text.
struct Tree {
  enum Kind { kText, kClass, kRule, kSequence, kChoice, kRepeat } kind = kText;
  std::string text;           // kText; kClass: as it is written
  std::set<uint32_t> chars;   // kClass, of the alphabet
  int rule = 0, min = 0, max = 0;
  std::vector<Tree> parts;

  std::string gbnf() const {
    switch (kind) {
      case kText: return "\"" + text + "\"";
      case kClass: return text;
      case kRule: return rule == 0 ? "root" : "r" + std::to_string(rule);
      case kSequence: {
        std::string out = "(";
        for (const Tree& p : parts) out += " " + p.gbnf();
        return out + " )";
      }
      case kChoice: {
        std::string out = "(";
        for (size_t i = 0; i < parts.size(); ++i) out += (i > 0 ? " | " : "") + parts[i].gbnf();
        return out + ")";
      }
      case kRepeat: return "(" + parts[0].gbnf() + ")" + quantifier();
    }
    return "";
  }
  std::string regex() const {
    switch (kind) {
      case kText: return "(?:" + text + ")";
      case kClass: return text == "." ? "[^]" : text;
      case kRule: return "";
      case kSequence: {
        std::string out = "(?:";
        for (const Tree& p : parts) out += p.regex();
        return out + ")";
      }
      case kChoice: {
        std::string out = "(?:";
        for (size_t i = 0; i < parts.size(); ++i) out += (i > 0 ? "|" : "") + parts[i].regex();
        return out + ")";
      }
      case kRepeat: return "(?:" + parts[0].regex() + ")" + quantifier();
    }
    return "";
  }
  std::string quantifier() const {
    if (min == 0 && max < 0) return "*";
    if (min == 1 && max < 0) return "+";
    if (min == 0 && max == 1) return "?";
    return max < 0 ? "{" + std::to_string(min) + ",}" : "{" + std::to_string(min) + "," + std::to_string(max) + "}";
  }
};

const std::vector<uint32_t> kAlphabet = {'a', 'b', 0xE9};

Tree random_tree(std::mt19937& random, int rules, int depth) {
  Tree t;
  const unsigned pick = random() % (depth == 0 ? 4 : 9);
  if (pick <= 1) {
    const char* const literals[] = {"a", "b", "ab", "é", "ba", "", "aa"};
    t.text = literals[random() % std::size(literals)];
  } else if (pick == 2) {
    t.kind = Tree::kClass;
    const unsigned which = random() % 3;
    t.text = which == 0 ? "[ab]" : which == 1 ? "[^a]" : ".";
    // 'c' stands for all other characters.
    const std::set<uint32_t> sets[] = {{'a', 'b'}, {'b', 0xE9, 'c'}, {'a', 'b', 0xE9, 'c'}};
    t.chars = sets[which];
  } else if (pick == 3) {
    if (rules == 0) return random_tree(random, rules, depth);
    t.kind = Tree::kRule;
    t.rule = static_cast<int>(random() % static_cast<unsigned>(rules));
  } else if (pick <= 7) {
    t.kind = pick <= 5 ? Tree::kSequence : Tree::kChoice;
    for (unsigned n = 2 + random() % 2; n-- > 0;) t.parts.push_back(random_tree(random, rules, depth - 1));
  } else {
    t.kind = Tree::kRepeat;
    const std::pair<int, int> counts[] = {{0, -1}, {1, -1}, {0, 1}, {2, 3}, {0, 2}, {2, -1}};
    std::tie(t.min, t.max) = counts[random() % std::size(counts)];
    t.parts.push_back(random_tree(random, rules, depth - 1));
  }
  return t;
}

class Definition {
 public:
  explicit Definition(const std::vector<Tree>& rules) : rules_(rules) {}

  bool has(const std::vector<uint32_t>& text) {
    text_ = &text;
    // ends_[rule][i]: bits of the places where a text of the rule that begins at i may end; the smallest solution.
    ends_.assign(rules_.size(), std::vector<uint64_t>(text.size() + 1, 0));
    for (bool changed = true; changed;) {
      changed = false;
      for (size_t r = 0; r < rules_.size(); ++r) {
        for (size_t i = 0; i <= text.size(); ++i) {
          const uint64_t now = ends(rules_[r], uint64_t{1} << i);
          changed |= now != ends_[r][i];
          ends_[r][i] = now;
        }
      }
    }
    return (ends_[0][0] >> text.size() & 1) != 0;
  }

 private:
  uint64_t ends(const Tree& t, uint64_t begins) {
    uint64_t out = 0;
    switch (t.kind) {
      case Tree::kText: {
        std::vector<uint32_t> codes;
        for (size_t at = 0; at < t.text.size();) {
          const Utf8Char c = decode_utf8(std::string_view(t.text).substr(at));
          codes.push_back(c.code);
          at += c.size;
        }
        for (size_t i = 0; i <= text_->size(); ++i) {
          if ((begins >> i & 1) != 0 && i + codes.size() <= text_->size() &&
              std::equal(codes.begin(), codes.end(), text_->begin() + static_cast<ptrdiff_t>(i)))
            out |= uint64_t{1} << (i + codes.size());
        }
        return out;
      }
      case Tree::kClass:
        for (size_t i = 0; i < text_->size(); ++i) {
          if ((begins >> i & 1) != 0 && t.chars.contains((*text_)[i])) out |= uint64_t{1} << (i + 1);
        }
        return out;
      case Tree::kRule:
        for (size_t i = 0; i <= text_->size(); ++i) {
          if ((begins >> i & 1) != 0) out |= ends_[static_cast<size_t>(t.rule)][i];
        }
        return out;
      case Tree::kSequence:
        for (const Tree& p : t.parts) begins = ends(p, begins);
        return begins;
      case Tree::kChoice:
        for (const Tree& p : t.parts) out |= ends(p, begins);
        return out;
      case Tree::kRepeat: {
        for (int i = 0; i < t.min; ++i) begins = ends(t.parts[0], begins);
        out = begins;
        for (int i = t.min; t.max < 0 || i < t.max; ++i) {
          begins = ends(t.parts[0], begins);
          if ((out | begins) == out) break;
          out |= begins;
        }
        return out;
      }
    }
    return out;
  }

  const std::vector<Tree>& rules_;
  const std::vector<uint32_t>* text_ = nullptr;
  std::vector<std::vector<uint64_t>> ends_;
};

std::string utf8(const std::vector<uint32_t>& codes) {
  std::string out;
  for (const uint32_t c : codes) append_utf8(c, &out);
  return out;
}
std::vector<uint32_t> codes_of(std::string_view text) {
  std::vector<uint32_t> out;
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = decode_utf8(text.substr(at));
    out.push_back(std::find(kAlphabet.begin(), kAlphabet.end(), c.code) != kAlphabet.end() ? c.code : 'c');
    at += c.size;
  }
  return out;
}

struct Counts {
  int tokens = 0, allowed = 0, ends = 0, refused = 0, compiled = 0;
};

// Every text of at most 6 characters is in the language just when the definition says so; masks along random texts have
// a token just when some text of the language goes on with it.
void compare(const std::vector<Tree>& rules, const Result<std::shared_ptr<Constraint>>& compiled, std::mt19937& random,
             Counts* counts) {
  Definition definition(rules);
  std::set<std::string> members;
  std::vector<std::vector<uint32_t>> level = {{}};
  for (int length = 0; length <= 6; ++length) {
    std::vector<std::vector<uint32_t>> longer;
    for (const auto& text : level) {
      if (definition.has(text)) members.insert(utf8(text));
      for (const uint32_t c : kAlphabet) {
        longer.push_back(text);
        longer.back().push_back(c);
      }
    }
    level = std::move(longer);
  }
  if (!compiled.ok()) {
    ++counts->refused;
    ASSERT_NE(compiled.status().message().find("no text"), std::string::npos) << compiled.status().message();
    return;
  }
  ++counts->compiled;
  Constraint& constraint = **compiled;
  for (const std::string& text : members) ASSERT_TRUE(matches(constraint, text)) << text;
  for (int run = 0; run < 4; ++run) {
    ConstraintState state = constraint.start();
    std::string so_far;
    for (int n = 0; n < 5; ++n) {
      const auto mask = constraint.mask(state);
      const bool whole = incomplete_utf8_suffix(so_far) == 0;
      ASSERT_EQ(constraint.accepting(state), whole && definition.has(codes_of(so_far))) << so_far;
      counts->ends += constraint.accepting(state);
      const std::optional<std::string> rest = constraint.completion(state);
      ASSERT_TRUE(rest.has_value()) << so_far;
      ASSERT_LT((so_far + *rest).size(), 60u);
      ASSERT_TRUE(definition.has(codes_of(so_far + *rest))) << so_far << " + " << *rest;
      for (const std::string& text : members) {
        ASSERT_TRUE(!text.starts_with(so_far) || so_far.size() + rest->size() <= text.size()) << so_far << ": " << text;
      }
      std::vector<TokenId> allowed;
      for (TokenId t = 0; t < static_cast<TokenId>(texts().size()); ++t) {
        ++counts->tokens;
        const std::string longer = so_far + texts()[static_cast<size_t>(t)];
        const auto witness = members.lower_bound(longer);
        const bool has_witness = longer.size() > so_far.size() && witness != members.end() && witness->starts_with(longer);
        ASSERT_TRUE(mask->test(t) || !has_witness) << so_far << " + " << texts()[static_cast<size_t>(t)];
        ASSERT_EQ(constraint.advance(state, t).ok(), mask->test(t));
        if (!mask->test(t)) continue;
        ++counts->allowed;
        // Characters outside the alphabet stand for themselves in no comparison.
        if (longer.find_first_not_of("ab\xC3\xA9") != std::string::npos) continue;
        allowed.push_back(t);
        if (has_witness) continue;
        // The completion that the constraint knows is one by the definition, too.
        const std::optional<std::string> end = constraint.completion(*constraint.advance(state, t));
        ASSERT_TRUE(end.has_value()) << "a dead end after " << longer;
        const std::string found = longer + *end;
        ASSERT_LT(found.size(), 60u);
        ASSERT_TRUE(definition.has(codes_of(found))) << found;
      }
      if (allowed.empty()) break;
      const TokenId t = allowed[random() % allowed.size()];
      state = *constraint.advance(state, t);
      so_far += texts()[static_cast<size_t>(t)];
      if (codes_of(so_far).size() > 12) break;
    }
  }
}

// With masks of what fits, an answer ends within any number of tokens that is enough for the completion at its beginning.
void finish_in_time(Constraint& constraint, std::mt19937& random, int* full) {
  const std::optional<int> enough = constraint.tokens_to_end(constraint.start());
  ASSERT_TRUE(enough.has_value());
  for (int extra = 0; extra < 6; ++extra) {
    ConstraintState state = constraint.start();
    int left = *enough + extra;
    for (;; --left) {
      const auto all = constraint.mask(state), within = constraint.mask_within(state, left);
      std::vector<TokenId> allowed;
      for (TokenId t = 0; t < within->vocab_size(); ++t) {
        if (within->test(t)) {
          ASSERT_TRUE(all->test(t));
          allowed.push_back(t);
        }
      }
      if (constraint.accepting(state) && (allowed.empty() || random() % 4 == 0)) break;
      ASSERT_FALSE(allowed.empty());
      ASSERT_GT(left, 0);
      state = *constraint.advance(state, allowed[random() % allowed.size()]);
    }
    *full += left == 0;
  }
}

TEST(GrammarConstraint, RandomGrammarsAreWhatTheDefinitionSays) {
  std::mt19937 random(7);
  Counts counts;
  int full = 0;  // answers that took all tokens
  for (int i = 0; i < 120 && !::testing::Test::HasFatalFailure(); ++i) {
    std::vector<Tree> rules;
    const int n = 1 + static_cast<int>(random() % 3);
    std::string text;
    for (int r = 0; r < n; ++r) {
      rules.push_back(random_tree(random, n, 3));
      text += (r == 0 ? "root" : "r" + std::to_string(r)) + " ::= " + rules.back().gbnf() + "\n";
    }
    SCOPED_TRACE(text);
    const auto compiled = compile_gbnf(text, "grammar", vocabulary());
    compare(rules, compiled, random, &counts);
    if (compiled.ok()) finish_in_time(**compiled, random, &full);
  }
  EXPECT_GT(full, 50);
  EXPECT_GT(counts.compiled, 80);
  EXPECT_GT(counts.refused, 5);
  EXPECT_GT(counts.allowed, 3000);
  EXPECT_GT(counts.ends, 150);
}

TEST(GrammarConstraint, RandomExpressionsAreWhatTheDefinitionSays) {
  std::mt19937 random(11);
  Counts counts;
  for (int i = 0; i < 120 && !::testing::Test::HasFatalFailure(); ++i) {
    const std::vector<Tree> rules = {random_tree(random, 0, 4)};
    SCOPED_TRACE(rules[0].regex());
    compare(rules, compile_pattern(rules[0].regex(), "--regex", vocabulary()), random, &counts);
  }
  EXPECT_EQ(counts.compiled, 120);
  EXPECT_GT(counts.allowed, 1500);
}

// --- By hand ---------------------------------------------------------------------------------------------------------

std::shared_ptr<Constraint> gbnf(std::string_view text) {
  auto compiled = compile_gbnf(text, "grammar", vocabulary());
  EXPECT_TRUE(compiled.ok()) << compiled.status().message();
  return compiled.ok() ? *compiled : nullptr;
}
std::shared_ptr<Constraint> lark(std::string_view text) {
  auto compiled = compile_lark(text, "grammar", vocabulary());
  EXPECT_TRUE(compiled.ok()) << compiled.status().message();
  return compiled.ok() ? *compiled : nullptr;
}

TEST(GrammarConstraint, RecursionOfEveryKindIsFollowed) {
  const auto left = gbnf("root ::= sum\nsum ::= sum \"+\" product | product\nproduct ::= product \"*\" atom | atom\n"
                         "atom ::= [0-9]+ | \"(\" sum \")\" | \"-\" atom");
  EXPECT_TRUE(matches(*left, "1+2*(3+4)*5+6"));
  EXPECT_TRUE(matches(*left, "((((1))))"));
  EXPECT_TRUE(matches(*left, "--1"));
  EXPECT_FALSE(takes(*left, "1+*"));
  EXPECT_FALSE(takes(*left, "1)"));
  const auto hidden = gbnf("root ::= nothing root \"a\" | \"b\"\nnothing ::= \"\" | nothing2\nnothing2 ::= \"\"");
  EXPECT_TRUE(matches(*hidden, "baaa"));
  EXPECT_FALSE(takes(*hidden, "ab"));
  const auto indirect = gbnf("root ::= x \"1\" | \"r\"\nx ::= y \"2\" | y\ny ::= root \"3\" | root | \"(\" root \")\"");
  EXPECT_TRUE(matches(*indirect, "r1"));
  EXPECT_TRUE(matches(*indirect, "r3211"));
  EXPECT_TRUE(matches(*indirect, "(r21)21"));
  EXPECT_FALSE(takes(*indirect, "r33"));
  const auto ambiguous = gbnf("root ::= root root | \"a\" | \"(\" root \")\"");
  EXPECT_TRUE(matches(*ambiguous, std::string(400, 'a')));
  EXPECT_TRUE(matches(*ambiguous, "a(a(aa)a)(a)"));
  EXPECT_FALSE(matches(*ambiguous, "a("));
  const auto empty = gbnf("root ::= a a a\na ::= \"x\"? a?");
  EXPECT_TRUE(matches(*empty, ""));
  EXPECT_TRUE(matches(*empty, "xxxxx"));
  const auto palindrome = gbnf("root ::= \"a\" root \"a\" | \"b\" root \"b\" | \"\"");
  EXPECT_TRUE(matches(*palindrome, "abbaabba"));
  EXPECT_FALSE(matches(*palindrome, "abab"));
}

// Lists that recur on the right leave nothing on the stack, and one state is one value.
TEST(GrammarConstraint, StatesRepeat) {
  for (const char* text : {"root ::= item root | item\nitem ::= \"a\" | \"(\" root \")\"",
                           "root ::= root item | item\nitem ::= \"a\" | \"(\" root \")\"",
                           "root ::= (\"a\" | \"(\" root \")\")+"}) {
    const auto constraint = gbnf(text);
    ConstraintState state = *constraint->step(constraint->start(), 'a');
    const ConstraintState once = *constraint->step(state, 'a');
    state = once;
    for (int i = 0; i < 50; ++i) state = *constraint->step(state, 'a');
    EXPECT_EQ(state.value(), once.value()) << text;
    EXPECT_EQ(constraint->mask(state), constraint->mask(once)) << text;
    for (const char c : std::string_view("((a)a)")) state = *constraint->step(state, static_cast<uint8_t>(c));
    EXPECT_EQ(state.value(), once.value()) << text;
  }
}

// More states and stacks than a table holds: whoever holds a state goes on from it all the same.
TEST(GrammarConstraint, StatesOutliveTheirTables) {
  const auto constraint = gbnf("root ::= \"(\" root \")\" | [a-z]{0,40000} \".\"");
  ConstraintState deep = constraint->start();
  for (int i = 0; i < 1000; ++i) deep = *constraint->step(deep, '(');
  ConstraintState state = deep;
  for (int i = 0; i < 30000; ++i) {
    state = *constraint->step(state, 'a');
    if (i % 5000 == 0) {
      ASSERT_TRUE(constraint->mask(state)->test(static_cast<TokenId>(std::find(texts().begin(), texts().end(), "ab") - texts().begin())));
    }
  }
  state = *constraint->step(*constraint->step(deep, 'x'), '.');
  for (int i = 0; i < 1000; ++i) {
    ASSERT_FALSE(constraint->accepting(state));
    state = *constraint->step(state, ')');
  }
  EXPECT_TRUE(constraint->accepting(state));
  EXPECT_LT(constraint->bytes(), size_t{300} << 20);
}

TEST(GrammarConstraint, CharactersMayBeCutAnywhere) {
  const auto constraint = gbnf("root ::= [à-ÿ]+ | \"\\U0001F600\" | \"日本\"");
  EXPECT_TRUE(matches(*constraint, "éé"));
  EXPECT_TRUE(takes(*constraint, "\xC3"));
  EXPECT_FALSE(takes(*constraint, "\xC3\x80")) << "À";
  EXPECT_FALSE(takes(*constraint, "\xC4"));
  EXPECT_TRUE(takes(*constraint, "\xF0\x9F\x98"));
  EXPECT_FALSE(takes(*constraint, "\xF0\x9E"));
  EXPECT_TRUE(matches(*constraint, "\xF0\x9F\x98\x80"));
  EXPECT_TRUE(matches(*constraint, "日本"));
  const auto any = gbnf("root ::= .*");
  EXPECT_FALSE(takes(*any, "\xC0"));
  EXPECT_FALSE(takes(*any, "\xE0\x80"));
  EXPECT_FALSE(takes(*any, "\xED\xA0"));
  EXPECT_FALSE(takes(*any, "\xF4\x90"));
  EXPECT_TRUE(takes(*any, "\xF4\x8F"));
}

TEST(Gbnf, NotationIsReadAsDocumented) {
  const auto c = gbnf(
      "# a comment\nroot ::= first-part |\n  \"x\\n\\t\\\"\\x41\\u00e9\" # behind\n  | [^\\]a-c-]{2} \"!\"\n"
      "first-part ::=\n  \"p\" .\n  (\"1\"\n   | \"2\"){2,3}\n  \"q\"{,1} \"r\"{2,}\n");
  EXPECT_TRUE(matches(*c, "p\n12rr"));
  EXPECT_TRUE(matches(*c, "pé121qrrrr"));
  EXPECT_FALSE(takes(*c, "p?1r"));
  EXPECT_TRUE(matches(*c, "x\n\t\"Aé"));
  EXPECT_TRUE(matches(*c, "de!"));
  EXPECT_FALSE(takes(*c, "d]"));
  EXPECT_FALSE(takes(*c, "d-"));
}

TEST(Gbnf, WrongGrammarsAreRefusedWithTheirPlace) {
  const std::pair<const char*, const char*> wrong[] = {
      {"", "no rule root"},
      {"a ::= \"x\"", "no rule root"},
      {"root ::= \"x\" b\n", "line 1, column 14: b is not defined"},
      {"root ::= \"x\nb", "line 1, column 10: a '\"' without"},
      {"root ::= [a-", "line 1, column 10: a '['"},
      {"root ::= [z-a]", "line 1, column 11: a range"},
      {"root ::= (\"a\"\n", "line 1, column 10: a '('"},
      {"root ::= \"a\")", "line 1, column 13: a ')'"},
      {"root ::= *", "line 1, column 10: nothing to repeat"},
      {"root ::= \"a\"{3,2}", "end is before its beginning"},
      {"root ::= \"a\"{x}", "expected {m}"},
      {"root ::= \"a\"{9999999}", "a repetition of more than"},
      {"root ::= \"\\q\"", "escape"},
      {"root ::= \"\\ud800\"", "hex digits"},
      {"root ::= \"a\"\nroot ::= \"b\"", "line 2, column 1: root is defined a second time"},
      {"root ::= <think>", "tokens"},
      {"root ::= !<[7]>", "tokens"},
      {"root ::= a\na ::= a \"x\"", "line 2, column 1: no text can be derived from a"},
      {"root ::= root", "no text can be derived from root"},
      {"root ::= []", "no text can be derived from root"},
      {"root ::= \"a\" \xFF", "not UTF-8"},
      {"root = \"a\"", "expected a rule"},
      {"root ::= \"a\" , \"b\"", "cannot stand in a rule"},
  };
  for (const auto& [text, part] : wrong) {
    const auto compiled = compile_gbnf(text, "g.gbnf", vocabulary());
    ASSERT_FALSE(compiled.ok()) << text;
    EXPECT_NE(compiled.status().message().find(part), std::string::npos) << text << "\n" << compiled.status().message();
    EXPECT_TRUE(compiled.status().message().starts_with("g.gbnf: ")) << compiled.status().message();
  }
}

// Whatever is too much is refused, or works, within a second.
TEST(GrammarConstraint, SizesAreBounded) {
  std::vector<std::string> large = {
      "root ::= " + std::string(100'000, '(') + "\"a\"" + std::string(100'000, ')'),
      "root ::= \"a\"" + std::string(100'000, '*'),
      "root ::= ((((\"a\" root){1000}){1000}){1000}){1000} | \"b\"",
      "root ::= ((((\"a\"{1000}){1000}){1000}){1000}){1000} | \"b\"",
      "root ::= (\"a\" | \"b\" root \"c\"){4096}",
  };
  std::string doubling = "root ::= a40 | \"(\" root \")\"\na0 ::= \"x\" \"y\"\n", calls = "root ::= a0\n",
              left = "root ::= a0\n", wide = "root ::= a0 root a1 | \"x\"\n";
  for (int i = 0; i < 40; ++i)
    doubling += "a" + std::to_string(i + 1) + " ::= a" + std::to_string(i) + " a" + std::to_string(i) + "\n";
  for (int i = 0; i < 20000; ++i)
    calls += "a" + std::to_string(i) + " ::= \"(\" a" + std::to_string((i + 1) % 20000) + " \")\" | \"" + std::to_string(i) + "\"\n";
  for (int i = 0; i < 300; ++i) {
    left += "a" + std::to_string(i) + " ::=";
    for (int k = 0; k < 300; k += 7) left += " a" + std::to_string((i + k) % 300) + " \"" + std::to_string(k) + "\" |";
    left += " \"x\"\n";
  }
  for (int i = 0; i < 3000; ++i)
    wide += "a" + std::to_string(i) + " ::= a" + std::to_string(i + 1) + "? a" + std::to_string(i + 1) + "? \"" + std::to_string(i) + "\"\n";
  wide += "a3000 ::= \"x\"";
  for (std::string* text : {&doubling, &calls, &left, &wide}) large.push_back(*text);
  for (const std::string& text : large) {
    SCOPED_TRACE(text.substr(0, 80));
    const auto begin = std::chrono::steady_clock::now();
    const auto compiled = compile_gbnf(text, "grammar", vocabulary());
    if (compiled.ok()) {
      ConstraintState state = (*compiled)->start();
      for (int i = 0; i < 6; ++i) {
        const auto mask = (*compiled)->mask(state);
        TokenId t = 0;
        while (t < mask->vocab_size() && !mask->test(t)) ++t;
        if (t == mask->vocab_size()) break;
        const auto next = (*compiled)->advance(state, t);
        if (!next.ok()) break;
        state = *next;
      }
      EXPECT_LT((*compiled)->bytes(), size_t{400} << 20);
    } else {
      EXPECT_FALSE(compiled.status().message().empty());
    }
    // Generous, for slow machines and sanitizers; on a quiet one it is below one second.
    EXPECT_LT(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(), 10.0);
  }
}

TEST(Lark, NotationIsReadAsDocumented) {
  const auto c = lark(R"x(
    // A calculator.
    ?start: sum -> result
    ?sum.2: product | sum "+" product -> add
          | sum "-" product
    ?product: atom
        | product "*" atom
    !atom: NUMBER | "-" atom | NAME "(" [sum ("," sum)*] ")" | NAME | "let"i NAME
    NAME: ("a".."z" | "_") /[a-z0-9]/*
    %import common.NUMBER
    %import common (WS, INT)
    %ignore WS
    # the end
    %ignore /#[^\n]*/
  )x");
  EXPECT_TRUE(matches(*c, "1 + 2*x1"));
  EXPECT_TRUE(matches(*c, " f ( ) "));
  EXPECT_TRUE(matches(*c, "f(1, 2 ,g(3.5e7)) - LeT y # comment\n"));
  EXPECT_FALSE(takes(*c, "1 + * "));
  EXPECT_FALSE(matches(*c, ""));
  EXPECT_FALSE(takes(*c, "x y"));
  EXPECT_EQ(c->warnings().size(), 1u);
  const auto counted = lark("start: \"a\"~2 \"b\" ~ 1..3 C? D\nC.5: \"c\"\nD: /d.e/s /\\w\\d/ \"\\u00e9\\n\"");
  EXPECT_TRUE(matches(*counted, "aabbd\neñ٣é\n"));
  EXPECT_FALSE(takes(*counted, "aabbbb"));
  EXPECT_FALSE(takes(*counted, "ab"));
}

TEST(Lark, WrongGrammarsAreRefusedWithTheirPlace) {
  const std::pair<const char*, const char*> wrong[] = {
      {"a: \"x\"", "no rule start"},
      {"start: b", "line 1, column 8: b is not defined"},
      {"start: \"a\n", "line 1, column 8: a '\"' without"},
      {"start: /a\n", "without its '/'"},
      {"start: /a(/", "line 1, column 8: regular expression"},
      {"start: /a/x", "flag x"},
      {"start: /^a/m", "flag m"},
      {"start: /(?<!a)b/", "look-behind"},
      {"start: (\"a\"", "a '(' without"},
      {"start: [\"a\"", "a '[' without"},
      {"start: \"a\")", "closing bracket"},
      {"start: A\nA: b\nb: \"x\"", "line 2, column 4: the rule b in a terminal"},
      {"start: \"ab\"..\"c\"", "single characters"},
      {"start: \"a\"~3..2", "end is before"},
      {"start: _sep{A, B}", "templates"},
      {"_sep{x}: x\nstart: \"a\"", "template"},
      {"%import python.NAME\nstart: NAME", "line 1, column 1: %import"},
      {"%import common.NOPE\nstart: NOPE", "common has no terminal NOPE"},
      {"%override a: b\nstart: a", "%override"},
      {"%declare A\nstart: A", "line 2, column 8: A is not defined"},
      {"start: start", "no text can be derived"},
      {"start ::= \"a\"", "line 1, column 8: this cannot stand"},
      {"start: \"a\" <x>", "not supported"},
  };
  for (const auto& [text, part] : wrong) {
    const auto compiled = compile_lark(text, "g.lark", vocabulary());
    ASSERT_FALSE(compiled.ok()) << text;
    EXPECT_NE(compiled.status().message().find(part), std::string::npos) << text << "\n" << compiled.status().message();
    EXPECT_TRUE(compiled.status().message().starts_with("g.lark: ")) << compiled.status().message();
  }
}

TEST(Lark, CommonTerminalsAreThoseOfTheName) {
  const std::pair<const char*, std::pair<std::vector<const char*>, std::vector<const char*>>> cases[] = {
      {"SIGNED_NUMBER", {{"1", "-1.5", "+.5e-3", "2.", "3e7"}, {"", ".", "1e", "--1"}}},
      {"FLOAT", {{"1.", ".5", "1e5", "1.5e+5"}, {"1", "."}}},
      {"ESCAPED_STRING", {{"\"\"", "\"a\\\"b\"", "\"\\\\\""}, {"\"", "\"a\"b\"", "\"\\\"", "\"\n\""}}},
      {"C_COMMENT", {{"/**/", "/* a * b **/"}, {"/*/", "/* */ */"}}},
      {"CNAME", {{"_a1", "Z"}, {"1a", ""}}},
      {"NEWLINE", {{"\n", "\r\n\n"}, {"\r", ""}}},
      {"WS", {{" \t\n"}, {""}}},
  };
  for (const auto& [name, texts_of] : cases) {
    const auto c = lark("start: T\nT: X\n%import common." + std::string(name) + " -> X");
    for (const char* text : texts_of.first) EXPECT_TRUE(matches(*c, text)) << name << " " << text;
    for (const char* text : texts_of.second) EXPECT_FALSE(matches(*c, text)) << name << " " << text;
  }
}

TEST(Lark, ATextIsToldFromGbnf) {
  EXPECT_TRUE(looks_like_lark("%import common.WS\n?start: a\n"));
  EXPECT_TRUE(looks_like_lark("  start : a"));
  EXPECT_TRUE(looks_like_lark("!start.2: a"));
  EXPECT_FALSE(looks_like_lark("root ::= start\nstart ::= \"a\""));
  EXPECT_FALSE(looks_like_lark("root ::= \"start:\""));
}

TEST(Choice, TextsThatShareABeginning) {
  const auto c = *compile_choice({"yes", "yes, sir", "no", "日本", "ye"}, "--choice", vocabulary());
  for (const char* text : {"yes", "yes, sir", "no", "日本", "ye"}) EXPECT_TRUE(matches(*c, text)) << text;
  EXPECT_FALSE(matches(*c, "y"));
  EXPECT_FALSE(takes(*c, "yess"));
  EXPECT_FALSE(compile_choice({"a", ""}, "--choice", vocabulary()).ok());
  EXPECT_FALSE(compile_choice({"\xFF"}, "--choice", vocabulary()).ok());
  EXPECT_FALSE(compile_choice({}, "--choice", vocabulary()).ok());
  EXPECT_FALSE(compile_pattern("[]", "--regex", vocabulary()).ok());
  EXPECT_FALSE(compile_pattern("(?=a)b", "--regex", vocabulary()).ok());
  EXPECT_FALSE(compile_pattern("a(", "--regex", vocabulary()).ok());
}

}  // namespace
}  // namespace decant
