// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "constrain/grammar_constraint.h"

#include <gtest/gtest.h>

#include <chrono>
#include <random>

#include "constrain/lark.h"
#include "constrain/test_util.h"

namespace decant {
namespace {

using namespace brute_force;  // NOLINT

// With masks of what fits, an answer ends within any number of tokens that is enough for the completion at its
// beginning.
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
    Definition definition(rules);
    compare([&](const auto& t) { return definition.has(t); }, compiled, random, &counts);
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
    Definition definition(rules);
    compare([&](const auto& t) { return definition.has(t); },
            compile_pattern(rules[0].regex(), "--regex", vocabulary()), random, &counts);
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
  const auto left = gbnf(
      "root ::= sum\nsum ::= sum \"+\" product | product\nproduct ::= product \"*\" atom | atom\n"
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

// Where a terminal goes on with any character of a set, tokens of such characters need no walk; all others do.
TEST(GrammarConstraint, MasksWithinRunsAreThoseOfTryingEveryToken) {
  std::mt19937 random(9);
  int64_t within = 0;
  for (const char* text :
       {"root ::= (\"{\" string \":\" string \"}\")*\nstring ::= \"\\\"\" [^\"\\\\]* \"\\\"\" \" \"?",
        "root ::= [a-z]+ (\" + \" [a-z]+)*", "root ::= ([^\\n]* \"\\n\")+ \"x1\"",
        "root ::= [A-Za-z_0-9]{1,} \"(\" root \")\" | [a-z] [0-9a-z]*", "root ::= .* \"))\"",
        "root ::= [a-zA-Z0-9_./:-]{3,60} [é]*"}) {
    SCOPED_TRACE(text);
    const auto constraint = gbnf(text);
    for (int run = 0; run < 20; ++run) {
      ConstraintState state = constraint->start();
      for (int n = 0; n < 20; ++n) {
        const auto mask = constraint->mask(state);
        std::vector<TokenId> allowed;
        for (TokenId t = 0; t < static_cast<TokenId>(texts().size()); ++t) {
          const std::string& token = texts()[static_cast<size_t>(t)];
          std::optional<ConstraintState> at = state;
          for (size_t i = 0; at && i < token.size(); ++i) at = constraint->step(*at, static_cast<uint8_t>(token[i]));
          ASSERT_EQ(mask->test(t), at && !token.empty()) << token;
          if (mask->test(t)) allowed.push_back(t);
        }
        within += allowed.size() > 20;
        if (allowed.empty()) break;
        state = *constraint->advance(state, allowed[random() % allowed.size()]);
      }
    }
  }
  EXPECT_GT(within, 500);
}

// Lists that recur on the right leave nothing on the stack, and one state is one value.
TEST(GrammarConstraint, StatesRepeat) {
  for (const char* text :
       {"root ::= item root | item\nitem ::= \"a\" | \"(\" root \")\"",
        "root ::= root item | item\nitem ::= \"a\" | \"(\" root \")\"", "root ::= (\"a\" | \"(\" root \")\")+"}) {
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
      ASSERT_TRUE(constraint->mask(state)->test(
          static_cast<TokenId>(std::find(texts().begin(), texts().end(), "ab") - texts().begin())));
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
    calls += "a" + std::to_string(i) + " ::= \"(\" a" + std::to_string((i + 1) % 20000) + " \")\" | \"" +
             std::to_string(i) + "\"\n";
  for (int i = 0; i < 300; ++i) {
    left += "a" + std::to_string(i) + " ::=";
    for (int k = 0; k < 300; k += 7) left += " a" + std::to_string((i + k) % 300) + " \"" + std::to_string(k) + "\" |";
    left += " \"x\"\n";
  }
  for (int i = 0; i < 3000; ++i)
    wide += "a" + std::to_string(i) + " ::= a" + std::to_string(i + 1) + "? a" + std::to_string(i + 1) + "? \"" +
            std::to_string(i) + "\"\n";
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
