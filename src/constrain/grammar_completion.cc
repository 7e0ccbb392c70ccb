// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "constrain/grammar_completion.h"

#include <algorithm>
#include <functional>
#include <queue>

#include "text/unicode.h"

namespace decant {
namespace {

constexpr int kSearchFuel = 20'000;           // expressions that one search may visit
constexpr size_t kMaxText = size_t{1} << 20;  // bytes
constexpr uint32_t kNone = CompiledGrammar::kNone;

uint32_t bytes_of(uint32_t code) { return code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4; }
uint32_t add(uint32_t a, uint32_t b) { return a > UINT32_MAX - b ? UINT32_MAX : a + b; }

}  // namespace

GrammarCompletion::GrammarCompletion(std::shared_ptr<const CompiledGrammar> grammar)
    : grammar_(std::move(grammar)), pool_(*grammar_->pool) {
  // The least character of a class is none of its longer ones; a control character is not what anybody wants to read.
  for (int c = 0; c < pool_.class_count(); ++c)
    characters_.push_back(pool_.representative(static_cast<CharClassId>(c)));
  std::vector<bool> chosen(characters_.size(), false);
  for (const auto& [first, last] : {std::pair{'a', 'z'}, {'A', 'Z'}, {'0', '9'}, {' ', '~'}}) {
    for (char ch = first; ch <= last; ++ch) {
      const CharClassId c = pool_.class_of(static_cast<uint8_t>(ch));
      if (!chosen[c]) characters_[c] = static_cast<uint8_t>(ch);
      chosen[c] = true;
    }
  }
}

// --- Expressions -----------------------------------------------------------------------------------------------------

const GrammarCompletion::Way& GrammarCompletion::way(RegexId id) {
  const auto known = ways_.find(id);
  if (known != ways_.end()) return known->second;
  struct From {
    uint32_t cost;
    RegexId parent;
    CharClassId c;
  };
  std::unordered_map<RegexId, From> best = {{id, {0, id, 0}}};
  using Item = std::pair<uint32_t, RegexId>;
  std::priority_queue<Item, std::vector<Item>, std::greater<>> queue;
  queue.push({0, id});
  for (int fuel = kSearchFuel; !queue.empty() && fuel > 0; --fuel) {
    const auto [cost, at] = queue.top();
    queue.pop();
    if (cost > best.at(at).cost) continue;
    const auto end = ways_.find(at);
    if (pool_.nullable(at) || (end != ways_.end() && end->second.cost == 0)) {
      // All on the way here have their shortest ways, too.
      Way here{.cost = 0, .c = 0, .next = at};
      ways_[at] = here;
      for (RegexId on_path = at; on_path != id;) {
        const From from = best.at(on_path);
        const uint32_t left = cost - best.at(from.parent).cost;
        ways_[from.parent] = {.cost = left, .c = from.c, .next = on_path};
        on_path = from.parent;
      }
      return ways_[id];
    }
    for (int c = 0; c < pool_.class_count(); ++c) {
      const RegexId next = pool_.derive(at, static_cast<CharClassId>(c));
      if (next == pool_.none()) continue;
      const uint32_t total = cost + bytes_of(characters_[static_cast<size_t>(c)]);
      const auto [it, is_new] = best.emplace(next, From{total, at, static_cast<CharClassId>(c)});
      if (!is_new && it->second.cost <= total) continue;
      it->second = {total, at, static_cast<CharClassId>(c)};
      queue.push({total, next});
    }
  }
  return ways_[id] = {};
}

const GrammarCompletion::Way& GrammarCompletion::longer_way(RegexId id) {
  const auto known = longer_ways_.find(id);
  if (known != longer_ways_.end()) return known->second;
  Way best;
  for (int c = 0; c < pool_.class_count(); ++c) {
    const RegexId next = pool_.derive(id, static_cast<CharClassId>(c));
    if (next == pool_.none()) continue;
    const uint32_t cost = add(way(next).cost, bytes_of(characters_[static_cast<size_t>(c)]));
    if (cost < best.cost) best = {.cost = cost, .c = static_cast<CharClassId>(c), .next = next};
  }
  return longer_ways_[id] = best;
}

void GrammarCompletion::write_terminal(RegexId id, std::string* out) {
  for (Way w = longer_way(id); w.cost != 0 && out->size() < kMaxText; w = way(w.next))
    append_utf8(characters_[w.c], out);
}

// --- Rules -----------------------------------------------------------------------------------------------------------

void GrammarCompletion::solve_rules() {
  if (solved_) return;
  solved_ = true;
  const auto& rules = grammar_->rules;
  rules_.assign(rules.size(), {});
  struct Waiting {
    uint32_t rule, production;
  };
  std::vector<std::vector<Waiting>> waiting(rules.size());
  using Item = std::tuple<uint32_t, uint32_t, uint32_t>;  // cost, rule, production
  std::priority_queue<Item, std::vector<Item>, std::greater<>> queue;
  std::unordered_map<RegexId, uint32_t> terminals;
  const auto offer = [&](uint32_t rule, uint32_t i) {
    const CompiledGrammar::Production& p = rules[rule][i];
    uint32_t cost = 0;
    if (p.is_terminal) {
      const auto [it, is_new] = terminals.try_emplace(p.first, 0);
      if (is_new) it->second = longer_way(p.first).cost;
      cost = it->second;
    } else {
      cost = rules_[p.first].cost;
    }
    if (p.rest != kNone) cost = add(cost, rules_[p.rest].cost);
    if (cost != kNever) queue.push({cost, rule, i});
  };
  for (uint32_t r = 0; r < rules.size(); ++r) {
    for (uint32_t i = 0; i < rules[r].size(); ++i) {
      const CompiledGrammar::Production& p = rules[r][i];
      if (!p.is_terminal) waiting[p.first].push_back({r, i});
      if (p.rest != kNone) waiting[p.rest].push_back({r, i});
      offer(r, i);
    }
  }
  while (!queue.empty()) {
    const auto [cost, rule, i] = queue.top();
    queue.pop();
    if (rules_[rule].cost != kNever) continue;
    rules_[rule] = {.cost = cost, .which = i};
    for (const Waiting& w : waiting[rule]) offer(w.rule, w.production);
  }
}

// The rules in `open`, the last one first, each at its shortest.
bool GrammarCompletion::write_rules(std::vector<uint32_t> open, std::string* out) {
  for (int64_t fuel = int64_t{1} << 22; !open.empty(); --fuel) {
    if (fuel == 0 || out->size() >= kMaxText) return false;
    const uint32_t rule = open.back();
    open.pop_back();
    const CompiledGrammar::Production& p = grammar_->rules[rule][rules_[rule].which];
    if (p.rest != kNone) open.push_back(p.rest);
    if (p.is_terminal) {
      write_terminal(p.first, out);
    } else {
      open.push_back(p.first);
    }
  }
  return true;
}

// --- States ----------------------------------------------------------------------------------------------------------

// A stack has a greater number than those that it rests on.
GrammarCompletion::Choice GrammarCompletion::stack(const GrammarMachine& machine, GrammarMachine::StackId id) {
  if (machine_ != &machine) {
    machine_ = &machine;
    stacks_.clear();
  }
  for (auto s = static_cast<GrammarMachine::StackId>(stacks_.size()); s <= id; ++s) {
    Choice best{.cost = machine.ends(s) ? 0 : kNever, .which = kNone};
    const std::span<const GrammarMachine::Entry> entries = machine.entries(s);
    for (uint32_t i = 0; i < entries.size() && best.cost != 0; ++i) {
      const uint32_t cost = add(rules_[entries[i].rule].cost, stacks_[entries[i].stack].cost);
      if (cost < best.cost) best = {.cost = cost, .which = i};
    }
    stacks_.push_back(best);
  }
  return stacks_[id];
}

std::optional<uint32_t> GrammarCompletion::length_of(GrammarMachine& machine, GrammarMachine::StateId state) {
  solve_rules();
  if (machine.accepts(state)) return 0;
  if (const auto within = machine.within(state)) {
    const std::optional<std::string> text = of(machine, state);
    return text ? std::optional(static_cast<uint32_t>(text->size())) : std::nullopt;
  }
  uint32_t best = kNever;
  for (const GrammarMachine::Thread& t : machine.threads(state)) {
    best = std::min(best, add(longer_way(t.left).cost, stack(machine, t.stack).cost));
  }
  return best == kNever ? std::nullopt : std::optional(best);
}

std::optional<std::string> GrammarCompletion::of(GrammarMachine& machine, GrammarMachine::StateId state) {
  solve_rules();
  if (machine.accepts(state)) return "";
  if (const auto within = machine.within(state)) {
    // Of the characters that it can become, one of each class.
    std::optional<std::string> best;
    std::vector<CharClassId> classes;
    pool_.classes_in(within->first, within->last, &classes);
    for (const CharClassId c : classes) {
      uint32_t code = std::max(within->first, pool_.representative(c));
      while (code <= within->last && pool_.class_of(code) != c) ++code;
      if (code >= 0xD800 && code <= 0xDFFF) code = 0xE000;
      if (code > within->last || pool_.class_of(code) != c) continue;
      std::string character;
      append_utf8(code, &character);
      std::string text = character.substr(character.size() - within->left);
      GrammarMachine::StateId at = state;
      for (const char byte : text) {
        if (at != GrammarMachine::kDead) at = machine.step(at, static_cast<uint8_t>(byte));
      }
      if (at == GrammarMachine::kDead) continue;
      const std::optional<std::string> rest = of(machine, at);
      if (rest && (!best || text.size() + rest->size() < best->size())) best = text + *rest;
    }
    return best;
  }
  uint32_t best = kNever;
  GrammarMachine::Thread thread{};
  for (const GrammarMachine::Thread& t : machine.threads(state)) {
    const uint32_t cost = add(longer_way(t.left).cost, stack(machine, t.stack).cost);
    if (cost < best) {
      best = cost;
      thread = t;
    }
  }
  if (best == kNever || best > kMaxText) return std::nullopt;
  std::string out;
  write_terminal(thread.left, &out);
  std::vector<uint32_t> rules;
  for (GrammarMachine::StackId s = thread.stack; stacks_[s].which != kNone;) {
    const GrammarMachine::Entry entry = machine.entries(s)[stacks_[s].which];
    rules.push_back(entry.rule);
    s = entry.stack;
  }
  std::reverse(rules.begin(), rules.end());
  if (!write_rules(std::move(rules), &out)) return std::nullopt;
  return out;
}

}  // namespace decant
