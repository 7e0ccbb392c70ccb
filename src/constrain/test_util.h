// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Constraints compared with brute force: random expressions whose languages a plain definition decides.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "constrain/constraint.h"
#include "constrain/json_vocabulary.h"
#include "text/unicode.h"

namespace decant::brute_force {

inline const std::vector<std::string>& texts() {
  static const std::vector<std::string> all = [] {
    std::vector<std::string> list = {"",
                                     "ab",
                                     "ba",
                                     "aa",
                                     "bb",
                                     "aab",
                                     "é",
                                     "\xC3",
                                     "\xA9",
                                     "\xA9"
                                     "a",
                                     "aé",
                                     "b\xC3",
                                     "\xF0\x9F",
                                     "\x98\x80",
                                     "abab",
                                     "ab"};
    for (int c = 0x09; c < 0x7F; ++c) list.emplace_back(1, static_cast<char>(c));
    for (const char* more :
         {"\":", "\",", "\"}", "{\"", ": ", ", ", "true", "12", "}}", "]]", "  ", "x1", "(x", "))", "a + b"})
      list.emplace_back(more);
    return list;
  }();
  return all;
}

inline std::shared_ptr<const JsonVocabulary> vocabulary() {
  static const auto made = [] {
    const std::vector<std::string_view> views(texts().begin(), texts().end());
    return std::make_shared<const JsonVocabulary>(std::make_shared<const TokenTrie>(views));
  }();
  return made;
}

inline bool takes(Constraint& constraint, std::string_view text, bool* ends = nullptr) {
  std::optional<ConstraintState> state = constraint.start();
  for (size_t i = 0; state && i < text.size(); ++i) state = constraint.step(*state, static_cast<uint8_t>(text[i]));
  if (ends != nullptr) *ends = state && constraint.accepting(*state);
  return state.has_value();
}
inline bool matches(Constraint& constraint, std::string_view text) {
  bool ends = false;
  takes(constraint, text, &ends);
  return ends;
}

// --- Brute force -----------------------------------------------------------------------------------------------------

// An expression of its own, and who is in its language by the definition: every way to cut the text.
struct Tree {
  enum Kind { kText, kClass, kRule, kSequence, kChoice, kRepeat } kind = kText;
  std::string text;          // kText; kClass: as it is written
  std::set<uint32_t> chars;  // kClass, of the alphabet
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

inline const std::vector<uint32_t> kAlphabet = {'a', 'b', 0xE9};

inline Tree random_tree(std::mt19937& random, int rules, int depth) {
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

inline std::string utf8(const std::vector<uint32_t>& codes) {
  std::string out;
  for (const uint32_t c : codes) append_utf8(c, &out);
  return out;
}
inline std::vector<uint32_t> codes_of(std::string_view text) {
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
inline void compare(const std::function<bool(const std::vector<uint32_t>&)>& has,
                    const Result<std::shared_ptr<Constraint>>& compiled, std::mt19937& random, Counts* counts) {
  std::set<std::string> members;
  std::vector<std::vector<uint32_t>> level = {{}};
  for (int length = 0; length <= 6; ++length) {
    std::vector<std::vector<uint32_t>> longer;
    for (const auto& text : level) {
      if (has(text)) members.insert(utf8(text));
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
      ASSERT_EQ(constraint.accepting(state), whole && has(codes_of(so_far))) << so_far;
      counts->ends += constraint.accepting(state);
      const std::optional<std::string> rest = constraint.completion(state);
      ASSERT_TRUE(rest.has_value()) << so_far;
      ASSERT_LT((so_far + *rest).size(), 60u);
      ASSERT_TRUE(has(codes_of(so_far + *rest))) << so_far << " + " << *rest;
      for (const std::string& text : members) {
        ASSERT_TRUE(!text.starts_with(so_far) || so_far.size() + rest->size() <= text.size()) << so_far << ": " << text;
      }
      std::vector<TokenId> allowed;
      for (TokenId t = 0; t < static_cast<TokenId>(texts().size()); ++t) {
        ++counts->tokens;
        const std::string longer = so_far + texts()[static_cast<size_t>(t)];
        const auto witness = members.lower_bound(longer);
        const bool has_witness =
            longer.size() > so_far.size() && witness != members.end() && witness->starts_with(longer);
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
        ASSERT_TRUE(has(codes_of(found))) << found;
      }
      if (allowed.empty()) break;
      const TokenId t = allowed[random() % allowed.size()];
      state = *constraint.advance(state, t);
      so_far += texts()[static_cast<size_t>(t)];
      if (codes_of(so_far).size() > 12) break;
    }
  }
}

}  // namespace decant::brute_force
