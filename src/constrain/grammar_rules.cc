// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Three steps. Productions become pairs of a first symbol and a rule for the rest, which is shared by all that end
// alike; symbols that derive the empty text may be left out, so that no rule has to (Hopcroft, Motwani and
// Ullman, 7.1). What derives nothing is left out. Left recursion, direct or through others, is turned around: a rule is
// one of the beginnings that do not recur, and then what may follow it on the way up (the left-corner transform, within
// components that recur only).
#include "constrain/grammar_rules.h"

#include <algorithm>
#include <map>
#include <set>

namespace decant {
namespace {

constexpr size_t kMaxProductions = 200'000;

using Production = CompiledGrammar::Production;
constexpr uint32_t kNone = CompiledGrammar::kNone;

Status too_large() {
  return Status::unsupported("the grammar needs more than {} productions; use fewer or smaller repetitions",
                             kMaxProductions);
}

class Normalizer {
 public:
  explicit Normalizer(std::shared_ptr<RegexPool> pool) : pool_(std::move(pool)) { pool_->freeze(); }

  Result<CompiledGrammar> run(const std::vector<std::vector<GrammarSentence>>& rules, uint32_t start,
                              std::vector<bool>* derives) {
    find_nullable(rules);
    DECANT_TRY_STATUS(split(rules));
    drop_unproductive();
    if (derives != nullptr) {
      derives->resize(rules.size());
      for (size_t r = 0; r < rules.size(); ++r) (*derives)[r] = productive_[r] || nullable_[r];
    }
    CompiledGrammar out;
    out.accepts_empty = nullable_[start];
    if (productive_[start]) {
      DECANT_TRY_STATUS(turn_left_recursion());
      order(start, &out);
    }
    out.pool = std::move(pool_);
    return out;
  }

 private:
  struct Terminal {
    bool nullable, longer;  // takes the empty text; another one
  };
  const Terminal& terminal(RegexId id) {
    const auto [it, is_new] = terminals_.try_emplace(id);
    if (is_new) {
      it->second = {.nullable = pool_->nullable(id), .longer = false};
      for (int c = 0; c < pool_->class_count() && !it->second.longer; ++c)
        it->second.longer = pool_->live(pool_->derive(id, static_cast<CharClassId>(c)));
    }
    return it->second;
  }
  bool nullable(const GrammarSymbol& s) { return s.is_terminal ? terminal(s.id).nullable : nullable_[s.id]; }

  // The smallest solution of "a rule holds if some production has only symbols that hold".
  void find_nullable(const std::vector<std::vector<GrammarSentence>>& rules) {
    nullable_.assign(rules.size(), false);
    std::vector<std::vector<size_t>> waiting(rules.size());  // productions, by the rules in them
    std::vector<std::pair<uint32_t, size_t>> open;           // of a production: its rule, symbols that do not hold yet
    std::vector<uint32_t> work;
    const auto hold = [&](uint32_t r) {
      if (nullable_[r]) return;
      nullable_[r] = true;
      work.push_back(r);
    };
    for (uint32_t r = 0; r < rules.size(); ++r) {
      for (const GrammarSentence& sentence : rules[r]) {
        size_t left = 0;
        for (const GrammarSymbol& s : sentence) {
          if (s.is_terminal && terminal(s.id).nullable) continue;
          ++left;
          if (!s.is_terminal) waiting[s.id].push_back(open.size());
        }
        open.push_back({r, left});
        if (left == 0) hold(r);
      }
    }
    while (!work.empty()) {
      const uint32_t r = work.back();
      work.pop_back();
      for (const size_t p : waiting[r]) {
        if (--open[p].second == 0) hold(open[p].first);
      }
    }
  }

  Status split(const std::vector<std::vector<GrammarSentence>>& rules) {
    rules_.resize(rules.size());
    for (uint32_t r = 0; r < rules.size(); ++r) {
      for (const GrammarSentence& sentence : rules[r]) DECANT_TRY_STATUS(add_sentence(r, sentence));
    }
    return {};
  }

  Status add_sentence(uint32_t rule, std::span<const GrammarSymbol> sentence) {
    if (sentence.empty()) return {};
    const std::span<const GrammarSymbol> behind = sentence.subspan(1);
    uint32_t rest = kNone;
    if (!behind.empty()) {
      DECANT_TRY(rest, rest_of(behind));
    }
    DECANT_TRY_STATUS(add(rule, {sentence[0].is_terminal, sentence[0].id, rest}));
    const bool rest_nullable = std::all_of(behind.begin(), behind.end(), [&](const auto& s) { return nullable(s); });
    if (rest != kNone && rest_nullable) DECANT_TRY_STATUS(add(rule, {sentence[0].is_terminal, sentence[0].id, kNone}));
    if (rest != kNone && nullable(sentence[0])) DECANT_TRY_STATUS(add(rule, {false, rest, kNone}));
    return {};
  }

  // The rule for what follows a first symbol. From the end, so that long sentences need no recursion.
  Result<uint32_t> rest_of(std::span<const GrammarSymbol> sentence) {
    size_t begin = sentence.size();
    uint32_t rest = kNone;
    bool rest_nullable = true;
    while (begin > 0) {
      const GrammarSymbol& s = sentence[--begin];
      if (begin + 1 == sentence.size() && !s.is_terminal) {
        rest = s.id;
        rest_nullable = nullable(s);
        continue;
      }
      const auto [it, is_new] = rests_.try_emplace({s, rest}, static_cast<uint32_t>(rules_.size()));
      const uint32_t made = it->second;
      if (is_new) {
        rules_.emplace_back();
        DECANT_TRY_STATUS(add(made, {s.is_terminal, s.id, rest}));
        if (rest != kNone && rest_nullable) DECANT_TRY_STATUS(add(made, {s.is_terminal, s.id, kNone}));
        if (rest != kNone && nullable(s)) DECANT_TRY_STATUS(add(made, {false, rest, kNone}));
      }
      rest = made;
      rest_nullable = rest_nullable && nullable(s);
    }
    return rest;
  }

  Status add(uint32_t rule, const Production& p) {
    if (++productions_ > kMaxProductions) return too_large();
    if (p.is_terminal || p.first != rule || p.rest != kNone) rules_[rule].push_back(p);
    return {};
  }

  void drop_unproductive() {
    productive_.assign(rules_.size(), false);
    std::vector<std::vector<std::pair<uint32_t, size_t>>> waiting(rules_.size());
    std::vector<std::vector<int>> left(rules_.size());
    std::vector<uint32_t> work;
    for (uint32_t r = 0; r < rules_.size(); ++r) {
      for (size_t i = 0; i < rules_[r].size(); ++i) {
        const Production& p = rules_[r][i];
        int n = 0;
        if (!p.is_terminal) {
          waiting[p.first].push_back({r, i});
          ++n;
        } else if (!terminal(p.first).longer) {
          n = 1 << 20;  // never
        }
        if (p.rest != kNone) {
          waiting[p.rest].push_back({r, i});
          ++n;
        }
        left[r].push_back(n);
        if (n == 0 && !productive_[r]) {
          productive_[r] = true;
          work.push_back(r);
        }
      }
    }
    while (!work.empty()) {
      const uint32_t done = work.back();
      work.pop_back();
      for (const auto& [r, i] : waiting[done]) {
        if (--left[r][i] == 0 && !productive_[r]) {
          productive_[r] = true;
          work.push_back(r);
        }
      }
    }
    for (std::vector<Production>& list : rules_) {
      std::erase_if(list, [&](const Production& p) {
        return (p.is_terminal ? !terminal(p.first).longer : !productive_[p.first]) ||
               (p.rest != kNone && !productive_[p.rest]);
      });
      std::sort(list.begin(), list.end());
      list.erase(std::unique(list.begin(), list.end()), list.end());
    }
  }

  std::vector<std::vector<uint32_t>> first_edges() const {
    std::vector<std::vector<uint32_t>> edges(rules_.size());
    for (size_t r = 0; r < rules_.size(); ++r) {
      for (const Production& p : rules_[r]) {
        if (!p.is_terminal) edges[r].push_back(p.first);
      }
    }
    return edges;
  }

  Status turn_left_recursion() {
    const std::vector<std::vector<uint32_t>> edges = first_edges();
    uint32_t count = 0;
    const std::vector<uint32_t> component = strong_components(edges, &count);
    std::vector<std::vector<uint32_t>> members(count);
    for (uint32_t r = 0; r < component.size(); ++r) members[component[r]].push_back(r);
    for (const std::vector<uint32_t>& c : members) {
      if (c.size() > 1 || std::find(edges[c[0]].begin(), edges[c[0]].end(), c[0]) != edges[c[0]].end())
        DECANT_TRY_STATUS(turn(c));
    }
    // Not every way up arrives.
    drop_unproductive();
    return {};
  }

  // One component that recurs on the left. up(b, a) is a new rule: what may follow a whole `b` that is the left corner
  // of an `a`, until the `a` is whole.
  Status turn(const std::vector<uint32_t>& component) {
    struct Step {
      uint32_t parent, rest;
    };
    const std::set<uint32_t> inside(component.begin(), component.end());
    std::map<uint32_t, std::vector<Step>> steps;          // by the left corner; rest: never kNone
    std::map<uint32_t, std::vector<uint32_t>> units;      // by the left corner: rules that derive it alone
    std::vector<std::pair<uint32_t, Production>> begins;  // that do not recur
    for (const uint32_t r : component) {
      for (const Production& p : rules_[r]) {
        if (p.is_terminal || !inside.contains(p.first)) {
          begins.push_back({r, p});
        } else if (p.rest != kNone) {
          steps[p.first].push_back({r, p.rest});
        } else {
          units[p.first].push_back(r);
        }
      }
    }
    // Rules that a whole `b` is already.
    std::map<uint32_t, std::set<uint32_t>> alone;
    for (const uint32_t b : component) {
      std::vector<uint32_t> work = {b};
      std::set<uint32_t>& reached = alone[b];
      reached.insert(b);
      while (!work.empty()) {
        const uint32_t r = work.back();
        work.pop_back();
        for (const uint32_t parent : units[r]) {
          if (reached.insert(parent).second) work.push_back(parent);
        }
        if ((productions_ += 1) > kMaxProductions) return too_large();
      }
    }
    std::map<std::pair<uint32_t, uint32_t>, uint32_t> ups;
    std::vector<std::pair<uint32_t, uint32_t>> work;
    const auto up = [&](uint32_t b, uint32_t a) {
      const auto [it, is_new] = ups.try_emplace({b, a}, static_cast<uint32_t>(rules_.size()));
      if (is_new) {
        rules_.emplace_back();
        work.push_back({b, a});
      }
      return it->second;
    };
    std::map<uint32_t, std::vector<Production>> turned;
    for (const uint32_t a : component) {
      for (const auto& [b, p] : begins) {
        if (alone[b].contains(a)) turned[a].push_back(p);
        const uint32_t rest = up(b, a);
        turned[a].push_back({p.is_terminal, p.first, p.rest == kNone ? rest : pair_rule(p.rest, rest)});
        if ((productions_ += 2) > kMaxProductions) return too_large();
      }
    }
    while (!work.empty()) {
      const auto [b, a] = work.back();
      work.pop_back();
      const uint32_t made = ups.at({b, a});
      for (const uint32_t c : alone[b]) {
        for (const Step& step : steps[c]) {
          if (alone[step.parent].contains(a)) rules_[made].push_back({false, step.rest, kNone});
          const uint32_t rest = up(step.parent, a);
          rules_[made].push_back({false, step.rest, rest});
          if ((productions_ += 2) > kMaxProductions) return too_large();
        }
      }
    }
    for (auto& [a, list] : turned) rules_[a] = std::move(list);
    return {};
  }

  uint32_t pair_rule(uint32_t first, uint32_t rest) {
    const auto [it, is_new] =
        rests_.try_emplace({GrammarSymbol{false, first}, rest}, static_cast<uint32_t>(rules_.size()));
    if (is_new) rules_.push_back({{false, first, rest}});
    return it->second;
  }

  // Numbers what can be reached, a rule before the first symbols of its productions.
  void order(uint32_t start, CompiledGrammar* out) {
    const std::vector<std::vector<uint32_t>> edges = first_edges();
    uint32_t count = 0;
    const std::vector<uint32_t> component = strong_components(edges, &count);
    std::vector<bool> reached(rules_.size(), false);
    std::vector<uint32_t> work = {start}, list;
    reached[start] = true;
    while (!work.empty()) {
      const uint32_t r = work.back();
      work.pop_back();
      list.push_back(r);
      for (const Production& p : rules_[r]) {
        for (const uint32_t next : {p.is_terminal ? kNone : p.first, p.rest}) {
          if (next == kNone || reached[next]) continue;
          reached[next] = true;
          work.push_back(next);
        }
      }
    }
    // Components are numbered from the leaves.
    std::sort(list.begin(), list.end(), [&](uint32_t a, uint32_t b) { return component[a] > component[b]; });
    std::vector<uint32_t> number(rules_.size(), kNone);
    for (uint32_t i = 0; i < list.size(); ++i) number[list[i]] = i;
    for (const uint32_t r : list) {
      std::vector<Production> productions = rules_[r];
      for (Production& p : productions) {
        if (!p.is_terminal) p.first = number[p.first];
        if (p.rest != kNone) p.rest = number[p.rest];
      }
      out->rules.push_back(std::move(productions));
    }
    out->start = number[start];
  }

  std::shared_ptr<RegexPool> pool_;
  std::map<RegexId, Terminal> terminals_;
  std::vector<bool> nullable_, productive_;
  std::vector<std::vector<Production>> rules_;
  std::map<std::pair<GrammarSymbol, uint32_t>, uint32_t> rests_;
  size_t productions_ = 0;
};

}  // namespace

std::vector<uint32_t> strong_components(const std::vector<std::vector<uint32_t>>& edges, uint32_t* count) {
  // Tarjan 1972, with a stack of its own.
  constexpr uint32_t kUnseen = UINT32_MAX;
  const size_t n = edges.size();
  std::vector<uint32_t> index(n, kUnseen), low(n, 0), component(n, kUnseen), stack;
  std::vector<std::pair<uint32_t, size_t>> path;
  uint32_t next = 0;
  *count = 0;
  for (uint32_t root = 0; root < n; ++root) {
    if (index[root] != kUnseen) continue;
    path.push_back({root, 0});
    while (!path.empty()) {
      const uint32_t v = path.back().first;
      if (path.back().second == 0) {
        index[v] = low[v] = next++;
        stack.push_back(v);
      }
      bool descended = false;
      while (path.back().second < edges[v].size()) {
        const uint32_t w = edges[v][path.back().second++];
        if (index[w] == kUnseen) {
          path.push_back({w, 0});
          descended = true;
          break;
        }
        if (component[w] == kUnseen) low[v] = std::min(low[v], index[w]);
      }
      if (descended) continue;
      if (low[v] == index[v]) {
        for (uint32_t w = kUnseen; w != v;) {
          w = stack.back();
          stack.pop_back();
          component[w] = *count;
        }
        ++*count;
      }
      path.pop_back();
      if (!path.empty()) low[path.back().first] = std::min(low[path.back().first], low[v]);
    }
  }
  return component;
}

Result<CompiledGrammar> normalize_grammar(const std::vector<std::vector<GrammarSentence>>& rules, uint32_t start,
                                          std::shared_ptr<RegexPool> pool, std::vector<bool>* derives) {
  return Normalizer(std::move(pool)).run(rules, start, derives);
}

}  // namespace decant
