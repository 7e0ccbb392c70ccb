// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "constrain/grammar.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>

#include "constrain/grammar_rules.h"
#include "text/unicode.h"

namespace decant {
namespace {

constexpr size_t kMaxFoldSize = 20'000;     // of one terminal
constexpr size_t kMaxFoldTotal = 500'000;   // of all of them
constexpr size_t kMaxFoldWork = 2'000'000;  // with copies
constexpr size_t kMaxLinearRules = 12;      // that recur through each other and are solved together
constexpr int kMaxUnrolled = 4096;          // copies of what is not regular
constexpr size_t kMaxSentences = 200'000;
constexpr int kMaxClasses = 60'000;  // of characters; a CharClassId has 16 bits
constexpr size_t kTooLarge = SIZE_MAX / 4;

size_t add_sizes(size_t a, size_t b) { return std::min(a + b, kTooLarge); }

}  // namespace

// --- Expressions -----------------------------------------------------------------------------------------------------

Grammar::Grammar(std::string name) : name_(std::move(name)), pool_(std::make_shared<RegexPool>()) {}

Grammar::Expr Grammar::add(Node node) {
  nodes_.push_back(std::move(node));
  return static_cast<Expr>(nodes_.size()) - 1;
}

Grammar::Expr Grammar::regex(RegexId id, size_t size) { return add({.kind = Kind::kRegex, .regex = id, .size = size}); }

Grammar::Expr Grammar::text(std::string_view text, bool fold) {
  if (!fold) return regex(pool_->literal(text), text.size());
  std::vector<RegexId> characters;
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = decode_utf8(text.substr(at));
    characters.push_back(pool_->chars(fold_case(CharSet::of(c.code))));
    at += c.size;
  }
  RegexId id = pool_->empty();
  for (auto it = characters.rbegin(); it != characters.rend(); ++it) id = pool_->concat(*it, id);
  return regex(id, text.size());
}

Grammar::Expr Grammar::sequence(std::vector<Expr> parts) {
  if (parts.size() == 1) return parts[0];
  return add({.kind = Kind::kSequence, .parts = std::move(parts)});
}
Grammar::Expr Grammar::choice(std::vector<Expr> parts) {
  if (parts.size() == 1) return parts[0];
  return add({.kind = Kind::kChoice, .parts = std::move(parts)});
}
Grammar::Expr Grammar::repeat(Expr part, int min, int max) {
  return add({.kind = Kind::kRepeat, .min = min, .max = max, .parts = {part}});
}
Grammar::Expr Grammar::reference(Rule rule) { return add({.kind = Kind::kReference, .rule = rule}); }

Grammar::Rule Grammar::rule(std::string_view name, GrammarPlace place) {
  const auto it = rule_ids_.find(name);
  if (it != rule_ids_.end()) return it->second;
  const auto id = static_cast<Rule>(rules_.size());
  rule_ids_.emplace(std::string(name), id);
  rules_.push_back({.name = std::string(name), .place = place, .body = {}});
  return id;
}

std::optional<Grammar::Rule> Grammar::find(std::string_view name) const {
  const auto it = rule_ids_.find(name);
  return it == rule_ids_.end() ? std::nullopt : std::optional(it->second);
}

Status Grammar::define(Rule rule, Expr body, GrammarPlace place) {
  Named& named = rules_[rule];
  if (named.body) return wrong(place, fmt::format("{} is defined a second time", named.name));
  named.body = body;
  named.place = place;
  return {};
}

Status Grammar::wrong(GrammarPlace place, const std::string& what) const {
  return Status::invalid_argument("{}: line {}, column {}: {}", name_, place.line, place.column, what);
}
Status Grammar::unsupported(GrammarPlace place, const std::string& what) const {
  return Status::unsupported("{}: line {}, column {}: {}", name_, place.line, place.column, what);
}

// --- What is regular -------------------------------------------------------------------------------------------------

// Finds the rules that are regular, and their languages.
class GrammarFolder {
 public:
  explicit GrammarFolder(Grammar& grammar) : grammar_(grammar), pool_(*grammar.pool_) {
    rules_.resize(grammar.rules_.size());
  }

  struct Folded {
    RegexId regex;
    size_t size;
  };

  // In the order of use, so that no recursion is as deep as a chain of rules.
  void run() {
    std::vector<std::vector<uint32_t>> edges(rules_.size());
    for (uint32_t r = 0; r < rules_.size(); ++r) collect(*grammar_.rules_[r].body, &edges[r]);
    uint32_t count = 0;
    const std::vector<uint32_t> component = strong_components(edges, &count);
    std::vector<std::vector<uint32_t>> members(count);
    for (uint32_t r = 0; r < rules_.size(); ++r) members[component[r]].push_back(r);
    for (const std::vector<uint32_t>& c : members) {
      const bool recurs = c.size() > 1 || std::find(edges[c[0]].begin(), edges[c[0]].end(), c[0]) != edges[c[0]].end();
      if (!recurs) {
        rules_[c[0]] = keep(fold(*grammar_.rules_[c[0]].body));
      } else if (c.size() <= kMaxLinearRules && total_ < kMaxFoldTotal) {
        if (!solve(c, true)) solve(c, false);
      }
    }
  }

  const std::optional<Folded>& rule(uint32_t r) const { return rules_[r]; }

  // The language of an expression, if all its rules are regular and it stays small.
  std::optional<Folded> fold(Grammar::Expr expr) {
    const auto known = folded_.find(expr);
    if (known != folded_.end()) return known->second;
    const Grammar::Node node = grammar_.nodes_[expr];
    std::optional<Folded> result;
    if (node.kind == Grammar::Kind::kRegex) {
      result = {{node.regex, node.size}};
    } else if (node.kind == Grammar::Kind::kReference) {
      result = rules_[node.rule];
    } else {
      std::vector<RegexId> parts;
      size_t size = 1;
      for (const Grammar::Expr part : node.parts) {
        const std::optional<Folded> f = fold(part);
        if (!f) break;
        parts.push_back(f->regex);
        size = add_sizes(size, f->size);
      }
      if (parts.size() == node.parts.size() && size <= kMaxFoldSize && spend(size)) {
        if (node.kind == Grammar::Kind::kChoice) {
          result = {{pool_.alt(std::move(parts)), size}};
        } else if (node.kind == Grammar::Kind::kRepeat) {
          result = {{pool_.repeat(parts[0], node.min, node.max), size}};
        } else {
          result = {{concat(parts), size}};
        }
      }
    }
    // Within a component that recurs the answer depends on it; those are never asked for twice.
    folded_.emplace(expr, result);
    return result;
  }

  // Whether so large an expression may still be made; all of them together are bounded, since each may be a copy.
  bool spend(size_t size) {
    if (spent_ + size > kMaxFoldWork) return false;
    spent_ += size;
    return true;
  }

 private:
  using Linear = std::map<uint32_t, RegexId>;  // coefficients of rules; kConstant for the rest
  static constexpr uint32_t kConstant = UINT32_MAX;

  RegexId concat(const std::vector<RegexId>& parts) {
    RegexId id = pool_.empty();
    for (auto it = parts.rbegin(); it != parts.rend(); ++it) id = pool_.concat(*it, id);
    return id;
  }

  std::optional<Folded> keep(std::optional<Folded> f) {
    if (!f || total_ + f->size > kMaxFoldTotal) return std::nullopt;
    total_ += f->size;
    return f;
  }

  void collect(Grammar::Expr expr, std::vector<uint32_t>* out) const {
    const Grammar::Node& node = grammar_.nodes_[expr];
    if (node.kind == Grammar::Kind::kReference) out->push_back(node.rule);
    for (const Grammar::Expr part : node.parts) collect(part, out);
  }

  // Rules that recur only at the end (or, mirrored, at the beginning) of what they derive: a system of linear
  // equations, solved by A = x A | y  =>  A = x* y.
  bool solve(const std::vector<uint32_t>& component, bool right) {
    std::map<uint32_t, Linear> equations;
    const size_t size_limit = pool_.size() + kMaxFoldSize;
    size_t size = 0;
    for (const uint32_t r : component) {
      Linear form;
      if (!linear(*grammar_.rules_[r].body, component, right, &form, &size) || size > kMaxFoldSize / 4) return false;
      equations.emplace(r, std::move(form));
    }
    const auto join = [&](RegexId x, RegexId y) { return right ? pool_.concat(x, y) : pool_.concat(y, x); };
    const auto put = [&](Linear* form, uint32_t key, RegexId id) {
      const auto [it, is_new] = form->emplace(key, id);
      if (!is_new) it->second = pool_.alt({it->second, id});
    };
    const auto eliminate = [&](uint32_t r, Linear* form, const Linear& solution) {
      const auto it = form->find(r);
      if (it == form->end()) return;
      const RegexId factor = it->second;
      form->erase(it);
      for (const auto& [key, id] : solution) put(form, key, join(factor, id));
    };
    for (const uint32_t r : component) {
      Linear& own = equations[r];
      if (const auto it = own.find(r); it != own.end()) {
        const RegexId loop = pool_.repeat(it->second, 0, RegexPool::kUnbounded);
        own.erase(it);
        for (auto& [key, id] : own) id = join(loop, id);
      }
      for (auto& [other, form] : equations) {
        if (other != r) eliminate(r, &form, own);
        if (pool_.size() > size_limit) return false;
      }
    }
    for (const uint32_t r : component) {
      const auto it = equations[r].find(kConstant);
      rules_[r] = keep(Folded{it == equations[r].end() ? pool_.none() : it->second, size + 1});
    }
    return true;
  }

  bool linear(Grammar::Expr expr, const std::vector<uint32_t>& component, bool right, Linear* out, size_t* size) {
    const Grammar::Node node = grammar_.nodes_[expr];
    const auto is_one_of_them = [&](uint32_t r) {
      return std::find(component.begin(), component.end(), r) != component.end();
    };
    if (node.kind == Grammar::Kind::kReference && is_one_of_them(node.rule)) {
      out->emplace(node.rule, pool_.empty());
      return true;
    }
    std::vector<uint32_t> rules;
    collect(expr, &rules);
    if (std::none_of(rules.begin(), rules.end(), is_one_of_them)) {
      const std::optional<Folded> f = fold(expr);
      if (!f) return false;
      *size = add_sizes(*size, f->size);
      if (f->regex != pool_.none()) out->emplace(kConstant, f->regex);
      return true;
    }
    const auto put = [&](uint32_t key, RegexId id) {
      const auto [it, is_new] = out->emplace(key, id);
      if (!is_new) it->second = pool_.alt({it->second, id});
    };
    if (node.kind == Grammar::Kind::kChoice ||
        (node.kind == Grammar::Kind::kRepeat && node.min == 0 && node.max == 1)) {
      for (const Grammar::Expr part : node.parts) {
        Linear form;
        if (!linear(part, component, right, &form, size)) return false;
        for (const auto& [key, id] : form) put(key, id);
      }
      if (node.kind == Grammar::Kind::kRepeat) put(kConstant, pool_.empty());
      return true;
    }
    if (node.kind != Grammar::Kind::kSequence) return false;
    // The part at the end may recur, all others are constants.
    std::vector<Grammar::Expr> parts = node.parts;
    if (!right) std::reverse(parts.begin(), parts.end());
    Linear last;
    if (!linear(parts.back(), component, right, &last, size)) return false;
    parts.pop_back();
    RegexId before = pool_.empty();
    for (const Grammar::Expr part : parts) {
      std::vector<uint32_t> inner;
      collect(part, &inner);
      if (std::any_of(inner.begin(), inner.end(), is_one_of_them)) return false;
      const std::optional<Folded> f = fold(part);
      if (!f) return false;
      *size = add_sizes(*size, f->size);
      before = right ? pool_.concat(before, f->regex) : pool_.concat(f->regex, before);
    }
    for (const auto& [key, id] : last) put(key, right ? pool_.concat(before, id) : pool_.concat(id, before));
    return true;
  }

  Grammar& grammar_;
  RegexPool& pool_;
  std::vector<std::optional<Folded>> rules_;
  std::unordered_map<Grammar::Expr, std::optional<Folded>> folded_;
  size_t total_ = 0, spent_ = 0;
};

// --- Productions -----------------------------------------------------------------------------------------------------

// Writes the rules that are not regular as productions.
class GrammarLowering {
 public:
  GrammarLowering(Grammar& grammar, GrammarFolder& folder)
      : grammar_(grammar), pool_(*grammar.pool_), folder_(folder), numbers_(grammar.rules_.size(), kUnseen) {}

  std::vector<std::vector<GrammarSentence>> rules;
  std::vector<Grammar::Rule> named;  // rules[i] for i < named.size(): the rule that it came from

  Status run(Grammar::Rule start) {
    if (const auto& folded = folder_.rule(start)) {
      rules = {{{{true, folded->regex}}}};
      named = {start};
      return {};
    }
    // All named rules that are used come first; they are lowered in the order in which they are found.
    number(start);
    for (size_t i = 0; i < named.size(); ++i) {
      std::vector<Grammar::Rule> used;
      find_rules(*grammar_.rules_[named[i]].body, &used);
      for (const Grammar::Rule r : used) number(r);
    }
    rules.resize(named.size());
    for (size_t i = 0; i < named.size(); ++i) {
      DECANT_TRY(std::vector<GrammarSentence> list, alternatives(*grammar_.rules_[named[i]].body));
      rules[i] = std::move(list);
    }
    return {};
  }

 private:
  static constexpr uint32_t kUnseen = UINT32_MAX;

  uint32_t number(Grammar::Rule rule) {
    if (numbers_[rule] == kUnseen) {
      numbers_[rule] = static_cast<uint32_t>(named.size());
      named.push_back(rule);
    }
    return numbers_[rule];
  }

  // Rules in `expr` that are not regular.
  void find_rules(Grammar::Expr expr, std::vector<Grammar::Rule>* out) const {
    const Grammar::Node& node = grammar_.nodes_[expr];
    if (node.kind == Grammar::Kind::kReference && !folder_.rule(node.rule)) out->push_back(node.rule);
    for (const Grammar::Expr part : node.parts) find_rules(part, out);
  }

  Status count(size_t n) {
    sentences_ += n;
    if (sentences_ > kMaxSentences) {
      return Status::unsupported("{}: the grammar is too large: more than {} productions", grammar_.name(),
                                 kMaxSentences);
    }
    return {};
  }

  Result<std::vector<GrammarSentence>> alternatives(Grammar::Expr expr) {
    std::vector<GrammarSentence> list;
    DECANT_TRY_STATUS(count(1));
    if (const auto folded = folder_.fold(expr)) {
      list.push_back({{true, folded->regex}});
      return list;
    }
    const Grammar::Node node = grammar_.nodes_[expr];
    if (node.kind != Grammar::Kind::kChoice) {
      DECANT_TRY(GrammarSentence sentence, sequence(expr));
      list.push_back(std::move(sentence));
      return list;
    }
    std::vector<RegexId> regular;
    for (const Grammar::Expr part : node.parts) {
      if (const auto folded = folder_.fold(part)) {
        regular.push_back(folded->regex);
        continue;
      }
      DECANT_TRY(std::vector<GrammarSentence> more, alternatives(part));
      std::move(more.begin(), more.end(), std::back_inserter(list));
    }
    if (!regular.empty()) list.push_back({{true, pool_.alt(std::move(regular))}});
    return list;
  }

  // Neighbours that are regular become one terminal.
  Result<GrammarSentence> sequence(Grammar::Expr expr) {
    std::vector<Grammar::Expr> parts;
    flatten(expr, &parts);
    GrammarSentence sentence;
    std::vector<RegexId> run;
    size_t run_size = 0;
    const auto close = [&] {
      if (run.empty()) return;
      RegexId id = pool_.empty();
      for (auto it = run.rbegin(); it != run.rend(); ++it) id = pool_.concat(*it, id);
      if (id != pool_.empty()) sentence.push_back({true, id});
      run.clear();
      run_size = 0;
    };
    for (const Grammar::Expr part : parts) {
      if (const auto folded = folder_.fold(part)) {
        if (run_size + folded->size > kMaxFoldSize || !folder_.spend(folded->size)) close();
        run.push_back(folded->regex);
        run_size += folded->size;
        continue;
      }
      close();
      DECANT_TRY_STATUS(append(part, &sentence));
    }
    close();
    DECANT_TRY_STATUS(count(sentence.size()));
    return sentence;
  }

  void flatten(Grammar::Expr expr, std::vector<Grammar::Expr>* out) const {
    const Grammar::Node& node = grammar_.nodes_[expr];
    if (node.kind != Grammar::Kind::kSequence) return out->push_back(expr);
    for (const Grammar::Expr part : node.parts) flatten(part, out);
  }

  uint32_t add_rule(std::vector<GrammarSentence> list) {
    rules.push_back(std::move(list));
    return static_cast<uint32_t>(rules.size()) - 1;
  }

  // What is not regular and no sequence.
  Status append(Grammar::Expr expr, GrammarSentence* out) {
    const Grammar::Node node = grammar_.nodes_[expr];
    if (node.kind == Grammar::Kind::kReference) {
      out->push_back({false, number(node.rule)});
      return {};
    }
    if (node.kind == Grammar::Kind::kChoice) {
      DECANT_TRY(std::vector<GrammarSentence> list, alternatives(expr));
      out->push_back({false, add_rule(std::move(list))});
      return {};
    }
    const int copies = node.max == RegexPool::kUnbounded ? node.min : node.max;
    if (copies > kMaxUnrolled) {
      return Status::unsupported("{}: {} repetitions of what is not regular; at most {} are supported", grammar_.name(),
                                 copies, kMaxUnrolled);
    }
    DECANT_TRY(const GrammarSentence part, sequence(node.parts[0]));
    DECANT_TRY_STATUS(count(part.size() * static_cast<size_t>(copies + 1)));
    for (int i = 0; i < node.min; ++i) out->insert(out->end(), part.begin(), part.end());
    // From the last copy back: each may be left out with all behind it.
    uint32_t rest = kUnseen;
    if (node.max == RegexPool::kUnbounded) {
      rest = add_rule({});
      GrammarSentence loop = part;
      loop.push_back({false, rest});
      rules[rest] = {{}, std::move(loop)};
    } else {
      for (int i = node.min; i < node.max; ++i) {
        GrammarSentence copy = part;
        if (rest != kUnseen) copy.push_back({false, rest});
        rest = add_rule({{}, std::move(copy)});
      }
    }
    if (rest != kUnseen) out->push_back({false, rest});
    return {};
  }

  Grammar& grammar_;
  RegexPool& pool_;
  GrammarFolder& folder_;
  std::vector<uint32_t> numbers_;
  size_t sentences_ = 0;
};

Result<CompiledGrammar> Grammar::compile(Rule start) && {
  for (const Named& named : rules_) {
    if (!named.body) return wrong(named.place, fmt::format("{} is not defined", named.name));
  }
  GrammarFolder folder(*this);
  folder.run();
  GrammarLowering lowering(*this, folder);
  DECANT_TRY_STATUS(lowering.run(start));
  std::vector<bool> derives;
  Result<CompiledGrammar> compiled = normalize_grammar(lowering.rules, 0, pool_, &derives);
  if (!compiled.ok()) return std::move(compiled).status().with_context(name_);
  if (pool_->class_count() > kMaxClasses)
    return Status::unsupported("{}: the grammar tells too many characters apart: {}", name_, pool_->class_count());
  std::vector<bool> derives_nothing(rules_.size(), false);
  for (size_t i = 0; i < lowering.named.size(); ++i) derives_nothing[lowering.named[i]] = !derives[i];
  for (Rule r = 0; r < rules_.size(); ++r) {
    if (folder.rule(r) && folder.rule(r)->regex == pool_->none()) derives_nothing[r] = true;
  }
  // The last one found: the others may only use it.
  const std::vector<Rule> used = rules_used_by(start);
  for (auto it = used.rbegin(); it != used.rend(); ++it) {
    if (derives_nothing[*it])
      return wrong(rules_[*it].place, fmt::format("no text can be derived from {}", rules_[*it].name));
  }
  compiled->warnings = std::move(warnings_);
  return compiled;
}

std::vector<Grammar::Rule> Grammar::rules_used_by(Rule start) const {
  std::vector<Rule> found = {start};
  std::vector<bool> seen(rules_.size(), false);
  seen[start] = true;
  std::vector<Expr> open;
  for (size_t i = 0; i < found.size(); ++i) {
    open.push_back(*rules_[found[i]].body);
    while (!open.empty()) {
      const Node& node = nodes_[open.back()];
      open.pop_back();
      if (node.kind == Kind::kReference && !seen[node.rule]) {
        seen[node.rule] = true;
        found.push_back(node.rule);
      }
      open.insert(open.end(), node.parts.begin(), node.parts.end());
    }
  }
  return found;
}

RegexId alternatives_of(std::vector<std::string> texts, RegexPool* pool) {
  std::sort(texts.begin(), texts.end());
  texts.erase(std::unique(texts.begin(), texts.end()), texts.end());
  // From the last text to the first; the open path of the trie, each node with the alternatives behind its character.
  struct Open {
    uint32_t code;
    std::vector<RegexId> behind;
  };
  std::vector<Open> path = {{0, {}}};
  const auto close = [&](size_t depth) {
    while (path.size() > depth + 1) {
      const Open node = std::move(path.back());
      path.pop_back();
      path.back().behind.push_back(pool->concat(pool->chars(CharSet::of(node.code)), pool->alt(node.behind)));
    }
  };
  for (const std::string& text : texts) {
    std::vector<uint32_t> codes;
    for (size_t at = 0; at < text.size();) {
      const Utf8Char c = decode_utf8(std::string_view(text).substr(at));
      codes.push_back(c.code);
      at += c.size;
    }
    size_t common = 0;
    while (common < codes.size() && common + 1 < path.size() && path[common + 1].code == codes[common]) ++common;
    close(common);
    for (size_t i = common; i < codes.size(); ++i) path.push_back({codes[i], {}});
    path.back().behind.push_back(pool->empty());
  }
  close(0);
  return pool->alt(path[0].behind);
}

}  // namespace decant
