// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "constrain/regex.h"

#include <algorithm>
#include <climits>
#include <queue>
#include <utility>

#include "text/unicode.h"

namespace decant {
namespace {

// Derivatives that one live() may take before it gives up.
constexpr int kSearchFuel = 8000;
constexpr int kLeastFuel = 200;  // after searches that were given up

// Several automata side by side: texts that all of them accept, negated ones not; or that any does.
class LeafProduct final : public LeafAutomaton {
 public:
  struct Part {
    std::shared_ptr<const LeafAutomaton> automaton;
    bool negated;
  };
  LeafProduct(std::vector<Part> parts, bool all) : parts_(std::move(parts)), all_(all) {
    for (const Part& p : parts_) alphabet_ += p.automaton->alphabet();
    std::sort(alphabet_.begin(), alphabet_.end());
    alphabet_.erase(std::unique(alphabet_.begin(), alphabet_.end()), alphabet_.end());
  }

  uint32_t state_of(std::vector<uint32_t> states) const {
    const auto [it, is_new] = ids_.emplace(std::move(states), static_cast<uint32_t>(states_.size()));
    if (is_new) states_.push_back(&it->first);
    return it->second;
  }
  std::optional<uint32_t> step(uint32_t state, char c) const override {
    std::vector<uint32_t> next = *states_[state];
    bool any = false;
    for (size_t i = 0; i < parts_.size(); ++i) {
      if (next[i] == kEnded) continue;
      const LeafAutomaton& automaton = *parts_[i].automaton;
      const std::optional<uint32_t> to =
          automaton.alphabet().find(c) == std::string_view::npos ? std::nullopt : automaton.step(next[i], c);
      if (!to && all_ && !parts_[i].negated) return std::nullopt;
      next[i] = to.value_or(kEnded);
      any = any || to;
    }
    if (!any && !all_) return std::nullopt;
    return state_of(std::move(next));
  }
  bool accepts(uint32_t state) const override {
    const std::vector<uint32_t>& states = *states_[state];
    for (size_t i = 0; i < parts_.size(); ++i) {
      const bool holds = (states[i] != kEnded && parts_[i].automaton->accepts(states[i])) != parts_[i].negated;
      if (holds != all_) return holds;
    }
    return all_;
  }
  std::string_view alphabet() const override { return alphabet_; }

 private:
  static constexpr uint32_t kEnded = UINT32_MAX;  // nothing that begins so is accepted

  std::vector<Part> parts_;
  bool all_;
  std::string alphabet_;
  mutable std::map<std::vector<uint32_t>, uint32_t> ids_;
  mutable std::vector<const std::vector<uint32_t>*> states_;
};

}  // namespace

size_t RegexPool::Derivatives::place(uint64_t key) const {
  const size_t mask = slots_.size() - 1;
  const auto id = static_cast<uint32_t>(key >> 16), symbol = static_cast<uint32_t>(key & 0xFFFF) + 1;
  uint64_t h = key * 0x9E3779B97F4A7C15u;
  h ^= h >> 32;
  for (size_t i = h & mask;; i = (i + 1) & mask) {
    if (slots_[i].symbol == 0 || (slots_[i].id == id && slots_[i].symbol == symbol)) return i;
  }
}

const RegexId* RegexPool::Derivatives::find(uint64_t key) const {
  if (slots_.empty()) return nullptr;
  const Slot& slot = slots_[place(key)];
  return slot.symbol == 0 ? nullptr : &slot.value;
}

void RegexPool::Derivatives::add(uint64_t key, RegexId value) {
  if (used_ * 3 >= slots_.size() * 2) {
    const std::vector<Slot> old = std::exchange(slots_, std::vector<Slot>(std::max<size_t>(64, slots_.size() * 2)));
    for (const Slot& slot : old) {
      if (slot.symbol != 0) slots_[place(uint64_t{slot.id} << 16 | (slot.symbol - 1))] = slot;
    }
  }
  slots_[place(key)] = {static_cast<uint32_t>(key >> 16), static_cast<uint32_t>(key & 0xFFFF) + 1, value};
  ++used_;
}

RegexPool::RegexPool() {
  sets_.push_back(CharSet::all());
  set_ids_.emplace(sets_[0], 0);
  intern({.kind = Kind::kNone, .nullable = false, .simple = true, .a = 0, .b = 0, .min = 0, .max = 0});
  intern({.kind = Kind::kEmpty, .nullable = true, .simple = true, .a = 0, .b = 0, .min = 0, .max = 0});
  intern({.kind = Kind::kChars, .nullable = false, .simple = true, .a = 0, .b = 0, .min = 0, .max = 0});
  intern({.kind = Kind::kRepeat, .nullable = true, .simple = true, .a = kAnyId, .b = 0, .min = 0, .max = kUnbounded});
  intern({.kind = Kind::kBegin, .nullable = false, .simple = true, .a = 0, .b = 0, .min = 0, .max = 0});
  intern({.kind = Kind::kEnd, .nullable = false, .simple = true, .a = 0, .b = 0, .min = 0, .max = 0});
}

// --- Expressions -----------------------------------------------------------------------------------------------------

std::span<const uint32_t> RegexPool::parts_of(const Node& n) const {
  if (n.kind != Kind::kAlt && n.kind != Kind::kAnd) return {};
  return std::span(lists_).subspan(n.a, n.b - n.a);
}

size_t RegexPool::hash_of(const Node& node, std::span<const uint32_t> list) const {
  uint64_t h = 0x9E3779B97F4A7C15u;
  const auto add = [&](uint64_t v) {
    h = (h ^ v) * 0xFF51AFD7ED558CCDu;
    h ^= h >> 32;
  };
  add(static_cast<uint64_t>(node.kind));
  if (list.empty()) {
    add(uint64_t{node.a} << 32 | node.b);
    add(uint64_t{static_cast<uint32_t>(node.min)} << 32 | static_cast<uint32_t>(node.max));
  }
  for (const uint32_t part : list) add(part);
  return h;
}

RegexId RegexPool::intern(const Node& node, const std::vector<uint32_t>& list) {
  if (nodes_.size() * 3 >= ids_.size() * 2) {
    ids_.assign(std::max<size_t>(128, ids_.size() * 2), kNoId);
    for (RegexId id = 0; id < nodes_.size(); ++id) {
      size_t i = hash_of(nodes_[id], parts_of(nodes_[id])) & (ids_.size() - 1);
      while (ids_[i] != kNoId) i = (i + 1) & (ids_.size() - 1);
      ids_[i] = id;
    }
  }
  size_t place = hash_of(node, list) & (ids_.size() - 1);
  for (; ids_[place] != kNoId; place = (place + 1) & (ids_.size() - 1)) {
    const Node& known = nodes_[ids_[place]];
    if (known.kind != node.kind) continue;
    const std::span<const uint32_t> parts = parts_of(known);
    const bool same = list.empty() ? known.a == node.a && known.b == node.b && known.min == node.min &&
                                         known.max == node.max && parts.empty()
                                   : std::equal(parts.begin(), parts.end(), list.begin(), list.end());
    if (same) return ids_[place];
  }
  if (nodes_.size() + lists_.size() / 8 >= kMaxExpressions) {
    exhausted_ = true;
    return kNoneId;
  }
  const auto id = static_cast<RegexId>(nodes_.size());
  ids_[place] = id;
  nodes_.push_back(node);
  live_.push_back(-1);
  if (!list.empty()) {
    nodes_.back().a = static_cast<uint32_t>(lists_.size());
    lists_.insert(lists_.end(), list.begin(), list.end());
    nodes_.back().b = static_cast<uint32_t>(lists_.size());
  }
  measure(&nodes_.back());
  return id;
}

// The lengths of a node's texts, from those of its children.
void RegexPool::measure(Node* n) const {
  const auto cap = [](uint64_t x) { return static_cast<uint32_t>(std::min<uint64_t>(x, kMany)); };
  switch (n->kind) {
    case Kind::kNone: n->least = kMany; break;
    case Kind::kChars: n->least = 1; break;
    case Kind::kConcat: {
      const Node &x = nodes_[n->a], &y = nodes_[n->b];
      n->least = cap(uint64_t{x.least} + y.least);
      n->longest_end = cap(std::max(uint64_t{x.longest_end} + y.least, uint64_t{y.longest_end}));
      n->infinite = x.infinite || y.infinite;
      break;
    }
    case Kind::kAlt:
      n->least = kMany;
      for (uint32_t i = n->a; i < n->b; ++i) {
        const Node& part = nodes_[lists_[i]];
        n->least = std::min(n->least, part.least);
        n->longest_end = std::max(n->longest_end, part.longest_end);
        n->infinite = n->infinite || part.infinite;
      }
      break;
    case Kind::kRepeat: {
      const Node& x = nodes_[n->a];
      n->least = cap(uint64_t{x.least} * static_cast<uint64_t>(n->min));
      n->longest_end = cap(x.longest_end + uint64_t{x.least} * static_cast<uint64_t>(std::max(n->min - 1, 0)));
      n->infinite = n->max == kUnbounded || x.infinite;
      break;
    }
    case Kind::kAnd:
      for (uint32_t i = n->a; i < n->b; ++i) n->least = std::max(n->least, nodes_[lists_[i]].least);
      break;
    case Kind::kNot:
    case Kind::kLeaf: n->least = n->nullable ? 0 : 1; break;
    default: break;
  }
  if (n->simple) return;
  // Of what is hidden there is no more than a bound.
  n->longest_end = kMany;
  n->infinite = false;
}

RegexId RegexPool::chars_of_set(uint32_t set) {
  return intern({.kind = Kind::kChars, .nullable = false, .simple = true, .a = set, .b = 0, .min = 0, .max = 0});
}

RegexId RegexPool::chars(const CharSet& set) {
  if (set.empty()) return kNoneId;
  if (frozen_) {
    const auto known = set_ids_.find(set);
    DECANT_CHECK(known != set_ids_.end());
    return chars_of_set(known->second);
  }
  const auto [it, is_new] = set_ids_.emplace(set, static_cast<uint32_t>(sets_.size()));
  if (is_new) sets_.push_back(set);
  return chars_of_set(it->second);
}

RegexId RegexPool::literal(std::string_view text) {
  std::vector<RegexId> characters;
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = decode_utf8(text.substr(at));
    characters.push_back(chars(CharSet::of(c.code)));
    at += c.size;
  }
  RegexId id = kEmptyId;
  for (auto it = characters.rbegin(); it != characters.rend(); ++it) id = concat(*it, id);
  return id;
}

bool RegexPool::matches(RegexId a, std::string_view text) {
  for (size_t at = 0; at < text.size() && a != none();) {
    const Utf8Char c = decode_utf8(text.substr(at));
    a = derive(a, class_of(c.code));
    at += static_cast<size_t>(c.size);
  }
  return nullable(a);
}

bool RegexPool::knows(std::string_view text) const {
  for (size_t at = 0; at < text.size() && frozen_;) {
    const Utf8Char c = decode_utf8(text.substr(at));
    if (!set_ids_.contains(CharSet::of(c.code))) return false;
    at += c.size;
  }
  return true;
}

RegexId RegexPool::leaf(std::shared_ptr<const LeafAutomaton> automaton, uint32_t state) {
  DECANT_CHECK(!frozen_);
  for (const char c : automaton->alphabet()) chars(CharSet::of(static_cast<unsigned char>(c)));
  const auto it = std::find(automata_.begin(), automata_.end(), automaton);
  const auto index = static_cast<uint32_t>(it - automata_.begin());
  const bool accepts = automaton->accepts(state);
  if (it == automata_.end()) automata_.push_back(std::move(automaton));
  return intern(
      {.kind = Kind::kLeaf, .nullable = accepts, .simple = false, .a = index, .b = state, .min = 0, .max = 0});
}

RegexId RegexPool::concat(RegexId a, RegexId b) {
  if (a == kNoneId || b == kNoneId) return kNoneId;
  if (a == kEmptyId) return b;
  if (b == kEmptyId) return a;
  if (a == kAnyTextId && b == kAnyTextId) return a;
  // Right-associated, so that a derivative reaches the first part at once.
  std::vector<RegexId> firsts;
  while (nodes_[a].kind == Kind::kConcat) {
    firsts.push_back(nodes_[a].a);
    a = nodes_[a].b;
  }
  firsts.push_back(a);
  for (auto it = firsts.rbegin(); it != firsts.rend(); ++it) {
    const Node x = nodes_[*it], y = nodes_[b];
    b = intern({.kind = Kind::kConcat,
                .nullable = x.nullable && y.nullable,
                .simple = x.simple && y.simple,
                .a = *it,
                .b = b,
                .min = 0,
                .max = 0});
  }
  return b;
}

uint32_t RegexPool::class_set(std::vector<uint64_t> bits) {
  const auto [it, is_new] = class_set_ids_.emplace(std::move(bits), static_cast<uint32_t>(class_sets_.size()));
  if (is_new) class_sets_.push_back(it->first);
  return it->second;
}

uint32_t RegexPool::unite_sets(uint32_t a, uint32_t b, bool intersect) {
  if (!frozen_) {
    const CharSet set = intersect ? sets_[a] & sets_[b] : sets_[a] | sets_[b];
    const auto [it, is_new] = set_ids_.emplace(set, static_cast<uint32_t>(sets_.size()));
    if (is_new) sets_.push_back(set);
    return it->second;
  }
  std::vector<uint64_t> bits = class_sets_[a];
  for (size_t i = 0; i < bits.size(); ++i)
    bits[i] = intersect ? bits[i] & class_sets_[b][i] : bits[i] | class_sets_[b][i];
  return class_set(std::move(bits));
}

// Alternatives or conjuncts: flat, without repetition, in the order of ids, all sets of characters in one.
RegexId RegexPool::combine(Kind kind, std::vector<RegexId> parts) {
  const bool is_alt = kind == Kind::kAlt;
  const RegexId neutral = is_alt ? kNoneId : kAnyTextId, absorbing = is_alt ? kAnyTextId : kNoneId;
  std::vector<RegexId> flat;
  std::optional<uint32_t> set;
  for (size_t i = 0; i < parts.size(); ++i) {
    const Node& n = nodes_[parts[i]];
    if (parts[i] == absorbing) return absorbing;
    if (parts[i] == neutral) continue;
    if (n.kind == kind) {
      flat.insert(flat.end(), lists_.begin() + n.a, lists_.begin() + n.b);
    } else {
      flat.push_back(parts[i]);
    }
  }
  std::erase_if(flat, [&](RegexId id) {
    if (nodes_[id].kind != Kind::kChars) return false;
    set = set ? unite_sets(*set, nodes_[id].a, !is_alt) : nodes_[id].a;
    return true;
  });
  if (set) {
    const bool is_empty =
        frozen_ ? std::all_of(class_sets_[*set].begin(), class_sets_[*set].end(), [](uint64_t w) { return w == 0; })
                : sets_[*set].empty();
    if (is_empty && !is_alt) return kNoneId;
    if (!is_empty) flat.push_back(chars_of_set(*set));
  }
  std::sort(flat.begin(), flat.end());
  flat.erase(std::unique(flat.begin(), flat.end()), flat.end());
  join_leaves(is_alt, &flat);
  if (!is_alt) join_lengths(&flat);
  if (!is_alt && std::binary_search(flat.begin(), flat.end(), kNoneId)) return kNoneId;
  bool nullable = !is_alt, simple = is_alt;
  for (const RegexId id : flat) {
    nullable = is_alt ? nullable || nodes_[id].nullable : nullable && nodes_[id].nullable;
    simple = simple && nodes_[id].simple;
    // An expression beside its complement.
    if (nodes_[id].kind == Kind::kNot && std::binary_search(flat.begin(), flat.end(), nodes_[id].a)) return absorbing;
  }
  if (!is_alt && std::binary_search(flat.begin(), flat.end(), kEmptyId)) return nullable ? kEmptyId : kNoneId;
  if (flat.empty()) return neutral;
  if (flat.size() == 1) return flat[0];
  return intern({.kind = kind, .nullable = nullable, .simple = simple, .a = 0, .b = 0, .min = 0, .max = 0}, flat);
}

// Leaves of one alternation or intersection, negated ones among them, become one leaf or the complement of one: as
// parts of an expression all their states together would each be an expression.
void RegexPool::join_leaves(bool is_alt, std::vector<RegexId>* parts) {
  std::vector<RegexId> leaves, negated;
  for (const RegexId id : *parts) {
    const Node& n = nodes_[id];
    if (n.kind == Kind::kLeaf) leaves.push_back(id);
    if (n.kind == Kind::kNot && nodes_[n.a].kind == Kind::kLeaf) negated.push_back(n.a);
  }
  if (leaves.size() + negated.size() < 2) return;
  std::erase_if(*parts, [&](RegexId id) {
    const Node& n = nodes_[id];
    return n.kind == Kind::kLeaf || (n.kind == Kind::kNot && nodes_[n.a].kind == Kind::kLeaf);
  });
  RegexId joined;
  if (is_alt) {
    joined = negated.empty() ? leaf_product(leaves, {}, false) : negate(leaf_product(negated, leaves, true));
  } else {
    joined = leaves.empty() ? negate(leaf_product(negated, {}, false)) : leaf_product(leaves, negated, true);
  }
  parts->insert(std::lower_bound(parts->begin(), parts->end(), joined), joined);
}

RegexId RegexPool::leaf_product(const std::vector<RegexId>& leaves, const std::vector<RegexId>& negated, bool all) {
  std::vector<LeafProduct::Part> list;
  std::vector<uint32_t> key = {all ? 1u : 0u, static_cast<uint32_t>(leaves.size())}, states;
  for (const auto* some : {&leaves, &negated}) {
    for (const RegexId id : *some) {
      list.push_back({automata_[nodes_[id].a], some == &negated});
      key.push_back(nodes_[id].a);
      states.push_back(nodes_[id].b);
    }
  }
  const auto [it, is_new] = products_.emplace(std::move(key), static_cast<uint32_t>(automata_.size()));
  if (is_new) automata_.push_back(std::make_shared<const LeafProduct>(std::move(list), all));
  const auto& product = static_cast<const LeafProduct&>(*automata_[it->second]);
  const uint32_t state = product.state_of(std::move(states));
  return intern({.kind = Kind::kLeaf,
                 .nullable = product.accepts(state),
                 .simple = false,
                 .a = it->second,
                 .b = state,
                 .min = 0,
                 .max = 0});
}

std::optional<RegexPool::Lengths> RegexPool::lengths_of(RegexId a) const {
  Lengths lengths;
  const Node& n = nodes_[a];
  int min = 0, max = 0;
  if (n.kind != Kind::kAlt) {
    if (!any_of_length(a, &min, &max)) return std::nullopt;
    lengths.push_back({min, max});
    return lengths;
  }
  for (uint32_t i = n.a; i < n.b; ++i) {
    if (!any_of_length(lists_[i], &min, &max)) return std::nullopt;
    lengths.push_back({min, max});
  }
  std::sort(lengths.begin(), lengths.end());
  return lengths;
}

RegexId RegexPool::of_lengths(const Lengths& lengths) {
  std::vector<RegexId> parts;
  for (const auto& [min, max] : lengths) parts.push_back(repeat(kAnyId, min, max));
  return alt(std::move(parts));
}

// Lengths of one intersection become one: what is left of them needs no search.
void RegexPool::join_lengths(std::vector<RegexId>* parts) {
  std::optional<Lengths> all;
  size_t count = 0;
  const auto end_of = [](int max) { return max == kUnbounded ? INT_MAX : max; };
  for (const RegexId id : *parts) {
    const std::optional<Lengths> own = lengths_of(id);
    if (!own) continue;
    ++count;
    if (!all) {
      all = own;
      continue;
    }
    Lengths both;
    for (const auto& [min, max] : *all) {
      for (const auto& [low, high] : *own) {
        const int first = std::max(min, low), last = std::min(end_of(max), end_of(high));
        if (first <= last) both.push_back({first, last == INT_MAX ? kUnbounded : last});
      }
    }
    std::sort(both.begin(), both.end());
    both.erase(std::unique(both.begin(), both.end()), both.end());
    if (both.size() > kMaxLengths) return;
    all = std::move(both);
  }
  if (count < 2) return;
  const RegexId joined = of_lengths(*all);
  std::erase_if(*parts, [&](RegexId id) { return lengths_of(id).has_value(); });
  parts->insert(std::lower_bound(parts->begin(), parts->end(), joined), joined);
}

RegexId RegexPool::alt(std::vector<RegexId> parts) { return combine(Kind::kAlt, std::move(parts)); }
RegexId RegexPool::conj(std::vector<RegexId> parts) { return combine(Kind::kAnd, std::move(parts)); }

std::optional<RegexId> RegexPool::without_part(RegexId a, RegexId part) {
  if (a == part) return any_text();
  if (nodes_[a].kind != Kind::kAnd) return std::nullopt;
  std::vector<RegexId> parts = list_of(nodes_[a]);
  if (std::erase(parts, part) == 0) return std::nullopt;
  return conj(std::move(parts));
}

RegexId RegexPool::negate(RegexId a) {
  if (a == kNoneId) return kAnyTextId;
  if (a == kAnyTextId) return kNoneId;
  if (nodes_[a].kind == Kind::kNot) return nodes_[a].a;
  if (const std::optional<Lengths> lengths = lengths_of(a)) {
    Lengths others;
    int next = 0;
    for (const auto& [min, max] : *lengths) {
      if (min > next) others.push_back({next, min - 1});
      next = max == kUnbounded || next == kUnbounded ? kUnbounded : std::max(next, max + 1);
      if (next == kUnbounded) break;
    }
    if (next != kUnbounded) others.push_back({next, kUnbounded});
    return of_lengths(others);
  }
  return intern(
      {.kind = Kind::kNot, .nullable = !nodes_[a].nullable, .simple = false, .a = a, .b = 0, .min = 0, .max = 0});
}

RegexId RegexPool::repeat(RegexId a, int min, int max) {
  if (max == 0 || a == kEmptyId) return kEmptyId;
  if (a == kNoneId) return min == 0 ? kEmptyId : kNoneId;
  if (min == 1 && max == 1) return a;
  const Node n = nodes_[a];
  if (n.nullable) min = 0;
  if (n.kind == Kind::kRepeat && n.min == 0 && n.max == kUnbounded) return a;
  return intern(
      {.kind = Kind::kRepeat, .nullable = min == 0, .simple = n.simple, .a = a, .b = 0, .min = min, .max = max});
}

// --- Anchors ---------------------------------------------------------------------------------------------------------

// What remains after <begin>.
RegexId RegexPool::begin_derivative(RegexId a, std::unordered_map<RegexId, RegexId>* done) {
  if (const auto it = done->find(a); it != done->end()) return it->second;
  const Node n = nodes_[a];
  RegexId result = kNoneId;
  switch (n.kind) {
    case Kind::kBegin: result = kEmptyId; break;
    case Kind::kConcat: {
      result = concat(begin_derivative(n.a, done), n.b);
      if (nodes_[n.a].nullable) result = alt({result, begin_derivative(n.b, done)});
      break;
    }
    case Kind::kAlt:
    case Kind::kAnd: {
      std::vector<RegexId> parts = list_of(n);
      for (RegexId& p : parts) p = begin_derivative(p, done);
      result = combine(n.kind, std::move(parts));
      break;
    }
    case Kind::kNot: result = negate(begin_derivative(n.a, done)); break;
    case Kind::kRepeat:
      result = concat(begin_derivative(n.a, done),
                      repeat(n.a, std::max(0, n.min - 1), n.max == kUnbounded ? kUnbounded : n.max - 1));
      break;
    default: break;
  }
  done->emplace(a, result);
  return result;
}

// What remains before <end>.
RegexId RegexPool::end_derivative(RegexId a, std::unordered_map<RegexId, RegexId>* done) {
  if (const auto it = done->find(a); it != done->end()) return it->second;
  const Node n = nodes_[a];
  RegexId result = kNoneId;
  switch (n.kind) {
    case Kind::kEnd: result = kEmptyId; break;
    case Kind::kConcat: {
      result = concat(n.a, end_derivative(n.b, done));
      if (nodes_[n.b].nullable) result = alt({result, end_derivative(n.a, done)});
      break;
    }
    case Kind::kAlt:
    case Kind::kAnd: {
      std::vector<RegexId> parts = list_of(n);
      for (RegexId& p : parts) p = end_derivative(p, done);
      result = combine(n.kind, std::move(parts));
      break;
    }
    case Kind::kNot: result = negate(end_derivative(n.a, done)); break;
    case Kind::kRepeat:
      result = concat(repeat(n.a, std::max(0, n.min - 1), n.max == kUnbounded ? kUnbounded : n.max - 1),
                      end_derivative(n.a, done));
      break;
    default: break;
  }
  done->emplace(a, result);
  return result;
}

// An anchor in the middle of a text matches nothing.
RegexId RegexPool::without_anchors(RegexId a, std::unordered_map<RegexId, RegexId>* done) {
  if (const auto it = done->find(a); it != done->end()) return it->second;
  const Node n = nodes_[a];
  RegexId result = a;
  switch (n.kind) {
    case Kind::kBegin:
    case Kind::kEnd: result = kNoneId; break;
    case Kind::kConcat: result = concat(without_anchors(n.a, done), without_anchors(n.b, done)); break;
    case Kind::kAlt:
    case Kind::kAnd: {
      std::vector<RegexId> parts = list_of(n);
      for (RegexId& p : parts) p = without_anchors(p, done);
      result = combine(n.kind, std::move(parts));
      break;
    }
    case Kind::kNot: result = negate(without_anchors(n.a, done)); break;
    case Kind::kRepeat: result = repeat(without_anchors(n.a, done), n.min, n.max); break;
    default: break;
  }
  done->emplace(a, result);
  return result;
}

RegexId RegexPool::resolve_anchors(RegexId a, int begins, int ends) {
  for (int i = 0; i < begins; ++i) {
    std::unordered_map<RegexId, RegexId> done;
    a = begin_derivative(a, &done);
  }
  for (int i = 0; i < ends; ++i) {
    std::unordered_map<RegexId, RegexId> done;
    a = end_derivative(a, &done);
  }
  std::unordered_map<RegexId, RegexId> done;
  return without_anchors(a, &done);
}

// --- Classes ---------------------------------------------------------------------------------------------------------

void RegexPool::freeze() {
  if (frozen_) return;
  frozen_ = true;
  // Points where some set begins or ends; between two of them all characters are alike. Those that lie in the same sets
  // have one class.
  std::vector<uint32_t> points = {0};
  for (const CharSet& set : sets_) {
    for (const CharRange& r : set.ranges()) {
      points.push_back(r.first);
      if (r.last < kMaxCodePoint) points.push_back(r.last + 1);
    }
  }
  std::sort(points.begin(), points.end());
  points.erase(std::unique(points.begin(), points.end()), points.end());
  std::map<std::vector<uint64_t>, CharClassId> by_signature;
  const size_t words = (sets_.size() + 63) / 64;
  std::vector<std::vector<uint64_t>> signatures(points.size(), std::vector<uint64_t>(words));
  for (size_t s = 0; s < sets_.size(); ++s) {
    for (const CharRange& r : sets_[s].ranges()) {
      auto at = static_cast<size_t>(std::lower_bound(points.begin(), points.end(), r.first) - points.begin());
      for (; at < points.size() && points[at] <= r.last; ++at) signatures[at][s / 64] |= uint64_t{1} << (s % 64);
    }
  }
  for (size_t i = 0; i < points.size(); ++i) {
    const auto [it, is_new] = by_signature.emplace(signatures[i], static_cast<CharClassId>(representatives_.size()));
    // A boundary at U+D800 has no character of its own.
    if (is_new) representatives_.push_back(points[i] == 0xD800 ? 0xE000 : points[i]);
    if (intervals_.empty() || intervals_.back().second != it->second) intervals_.push_back({points[i], it->second});
  }
  for (uint32_t c = 0; c < 128; ++c) {
    ascii_classes_[c] =
        std::prev(std::upper_bound(intervals_.begin(), intervals_.end(), c, [](uint32_t code, const auto& i) {
          return code < i.first;
        }))->second;
  }
  beyond_ascii_.assign(representatives_.size(), false);
  for (size_t i = 0; i < intervals_.size(); ++i) {
    const uint32_t last = i + 1 < intervals_.size() ? intervals_[i + 1].first - 1 : kMaxCodePoint;
    if (last >= 0x80) beyond_ascii_[intervals_[i].second] = true;
  }
  const size_t class_words = (representatives_.size() + 63) / 64;
  class_sets_.assign(sets_.size(), std::vector<uint64_t>(class_words));
  for (const auto& [signature, c] : by_signature) {
    for (size_t s = 0; s < sets_.size(); ++s) {
      if (signature[s / 64] >> (s % 64) & 1) class_sets_[s][c >> 6] |= uint64_t{1} << (c & 63);
    }
  }
  for (size_t s = 0; s < sets_.size(); ++s) class_set_ids_.emplace(class_sets_[s], static_cast<uint32_t>(s));
}

CharClassId RegexPool::class_of(uint32_t code) const {
  if (code < 128) return ascii_classes_[code];
  return std::prev(std::upper_bound(intervals_.begin(), intervals_.end(), code,
                                    [](uint32_t c, const auto& i) { return c < i.first; }))
      ->second;
}

void RegexPool::classes_in(uint32_t first, uint32_t last, std::vector<CharClassId>* out) const {
  out->clear();
  auto it = std::prev(std::upper_bound(intervals_.begin(), intervals_.end(), first,
                                       [](uint32_t c, const auto& i) { return c < i.first; }));
  for (; it != intervals_.end() && it->first <= last; ++it) {
    if (std::find(out->begin(), out->end(), it->second) == out->end()) out->push_back(it->second);
  }
}

// --- Derivation ------------------------------------------------------------------------------------------------------

RegexId RegexPool::derive(RegexId a, CharClassId c) {
  const Node& n = nodes_[a];
  // The cheap ones need no memory.
  switch (n.kind) {
    case Kind::kNone:
    case Kind::kEmpty: return kNoneId;
    case Kind::kChars: return in_set(n.a, c) ? kEmptyId : kNoneId;
    case Kind::kConcat:
      if (nodes_[n.a].kind == Kind::kChars) return in_set(nodes_[n.a].a, c) ? n.b : kNoneId;
      break;
    default: break;
  }
  if (a == kAnyTextId) return a;
  if (frozen_ && !in_set(first_set(a), c)) return kNoneId;
  const uint64_t key = uint64_t{a} << 16 | c;
  if (const RegexId* known = derivatives_.find(key)) return *known;
  const RegexId result = derive_uncached(a, c);
  derivatives_.add(key, result);
  return result;
}

// Characters that a text may begin with: no other has a derivative. All of them where that is not seen at once.
uint32_t RegexPool::first_set(RegexId a) {
  if (a < first_.size() && first_[a] != kUnknownSet) return first_[a];
  const Node n = nodes_[a];
  const auto none = [&] { return class_set(std::vector<uint64_t>(class_sets_[0].size())); };
  uint32_t result = 0;
  switch (n.kind) {
    case Kind::kChars: result = n.a; break;
    case Kind::kConcat:
      result = first_set(n.a);
      if (nodes_[n.a].nullable) result = unite_sets(result, first_set(n.b), false);
      break;
    case Kind::kRepeat: result = first_set(n.a); break;
    case Kind::kAlt:
    case Kind::kAnd: {
      std::vector<uint64_t> bits = class_sets_[first_set(lists_[n.a])];
      for (uint32_t i = n.a + 1; i < n.b; ++i) {
        const std::vector<uint64_t>& part = class_sets_[first_set(lists_[i])];
        for (size_t w = 0; w < bits.size(); ++w) bits[w] = n.kind == Kind::kAnd ? bits[w] & part[w] : bits[w] | part[w];
      }
      result = class_set(std::move(bits));
      break;
    }
    case Kind::kLeaf: {
      std::vector<uint64_t> bits(class_sets_[0].size());
      for (const char ch : automata_[n.a]->alphabet()) {
        const CharClassId c = class_of(static_cast<unsigned char>(ch));
        bits[c >> 6] |= uint64_t{1} << (c & 63);
      }
      result = class_set(std::move(bits));
      break;
    }
    case Kind::kNot: break;
    default: result = none();
  }
  if (a >= first_.size()) first_.resize(nodes_.size(), kUnknownSet);
  first_[a] = result;
  return result;
}

RegexId RegexPool::derive_uncached(RegexId a, CharClassId c) {
  const Node n = nodes_[a];
  switch (n.kind) {
    case Kind::kConcat: {
      const RegexId first = concat(derive(n.a, c), n.b);
      return nodes_[n.a].nullable ? alt({first, derive(n.b, c)}) : first;
    }
    case Kind::kAlt:
    case Kind::kAnd: {
      std::vector<RegexId> parts;
      for (uint32_t i = n.a; i < n.b; ++i) {
        const RegexId d = derive(lists_[i], c);
        if (d == kNoneId) {
          if (n.kind == Kind::kAnd) return kNoneId;
        } else {
          parts.push_back(d);
        }
      }
      return combine(n.kind, std::move(parts));
    }
    case Kind::kNot: return negate(derive(n.a, c));
    case Kind::kRepeat:
      return concat(derive(n.a, c), repeat(n.a, std::max(0, n.min - 1), n.max == kUnbounded ? kUnbounded : n.max - 1));
    case Kind::kLeaf: {
      const uint32_t code = representatives_[c];
      const LeafAutomaton& automaton = *automata_[n.a];
      if (code >= 128 || automaton.alphabet().find(static_cast<char>(code)) == std::string_view::npos) return kNoneId;
      const std::optional<uint32_t> next = automaton.step(n.b, static_cast<char>(code));
      if (!next) return kNoneId;
      return intern({.kind = Kind::kLeaf,
                     .nullable = automaton.accepts(*next),
                     .simple = false,
                     .a = n.a,
                     .b = *next,
                     .min = 0,
                     .max = 0});
    }
    default: return kNoneId;
  }
}

// Whether one expression without intersections has a text of a certain length: -1 if that is not what is asked, or
// lengths alone do not tell.
int8_t RegexPool::live_by_length(RegexId a) const {
  const Node& n = nodes_[a];
  if (n.kind != Kind::kAnd) return -1;
  const Node* other = nullptr;
  int min = 0, max = kUnbounded;
  for (uint32_t i = n.a; i < n.b; ++i) {
    int low = 0, high = 0;
    if (any_of_length(lists_[i], &low, &high)) {
      min = std::max(min, low);
      if (high != kUnbounded) max = max == kUnbounded ? high : std::min(max, high);
    } else if (other == nullptr && nodes_[lists_[i]].simple) {
      other = &nodes_[lists_[i]];
    } else {
      return -1;
    }
  }
  if (other == nullptr || other->least == kMany) return -1;
  if (max != kUnbounded && (min > max || other->least > static_cast<uint32_t>(max))) return 0;
  if (other->least >= static_cast<uint32_t>(min) || (max == kUnbounded && other->infinite)) return 1;
  return -1;
}

bool RegexPool::split_length(RegexId a, RegexId* rest, int* min, int* max) {
  const Node& n = nodes_[a];
  if (n.kind != Kind::kAnd) return false;
  std::vector<RegexId> others;
  *min = 0;
  *max = kUnbounded;
  for (uint32_t i = n.a; i < n.b; ++i) {
    int low = 0, high = 0;
    if (!any_of_length(lists_[i], &low, &high)) {
      others.push_back(lists_[i]);
      continue;
    }
    *min = std::max(*min, low);
    if (high != kUnbounded) *max = *max == kUnbounded ? high : std::min(*max, high);
  }
  if (others.size() == n.b - n.a) return false;
  *rest = conj(std::move(others));
  return true;
}

bool RegexPool::live(RegexId a) {
  if (nodes_[a].simple) return a != kNoneId;
  if (nodes_[a].nullable) return true;
  if (live_[a] >= 0) return live_[a] != 0;
  if (const int8_t known = live_by_length(a); known >= 0) {
    live_[a] = known;
    return known != 0;
  }
  // What can end soonest first (A*): the shortest way to an end is found with the fewest states.
  std::unordered_map<RegexId, RegexId> from = {{a, a}};
  struct Open {
    uint64_t length;  // of the shortest text through here, at least
    uint32_t depth;
    RegexId id;
    bool operator<(const Open& o) const {  // the largest is next
      return length != o.length ? length > o.length : depth != o.depth ? depth < o.depth : id > o.id;
    }
  };
  std::priority_queue<Open> queue;
  queue.push({.length = 0, .depth = 0, .id = a});
  int fuel = std::max(kLeastFuel, kSearchFuel >> std::min<int64_t>(given_up_, 16));
  while (!queue.empty()) {
    const auto [length, depth, id] = queue.top();
    queue.pop();
    const uint32_t first = first_set(id);
    for (int c = 0; c < class_count(); ++c) {
      if (!in_set(first, static_cast<CharClassId>(c))) continue;
      const RegexId next = derive(id, static_cast<CharClassId>(c));
      if (next == kNoneId || live_[next] == 0 || !from.emplace(next, id).second) continue;
      if (nodes_[next].nullable || nodes_[next].simple || live_[next] == 1) {
        for (RegexId on_path = id;; on_path = from[on_path]) {
          live_[on_path] = 1;
          if (on_path == a) return true;
        }
      }
      if (--fuel == 0) {
        ++given_up_;
        live_[a] = 1;
        return true;
      }
      queue.push({.length = uint64_t{depth} + 1 + nodes_[next].least, .depth = depth + 1, .id = next});
    }
  }
  for (const auto& [id, parent] : from) live_[id] = 0;
  return false;
}

RegexPool::FreeRun RegexPool::free_run(RegexId a) {
  const Node n = nodes_[a];
  switch (n.kind) {
    case Kind::kRepeat:
      if (nodes_[n.a].kind == Kind::kChars) return {.set = nodes_[n.a].a, .length = n.max};
      return {.set = 0, .length = 0};
    case Kind::kConcat: return free_run(n.a);
    case Kind::kAlt: {
      FreeRun best{.set = 0, .length = 0};
      for (uint32_t i = n.a; i < n.b; ++i) {
        const FreeRun run = free_run(lists_[i]);
        if (best.length != kUnbounded && (run.length == kUnbounded || run.length > best.length)) best = run;
      }
      return best;
    }
    default: return {.set = 0, .length = 0};
  }
}

bool RegexPool::any_of_length(RegexId a, int* min, int* max) const {
  const Node& n = nodes_[a];
  if (n.kind == Kind::kRepeat && n.a == kAnyId) {
    *min = n.min;
    *max = n.max;
    return true;
  }
  if (a == kAnyId || a == kEmptyId) {
    *min = *max = a == kAnyId ? 1 : 0;
    return true;
  }
  // any{2,5} any* and the like, which conjunctions of lengths leave.
  if (n.kind == Kind::kConcat) {
    int m1 = 0, m2 = 0, x1 = 0, x2 = 0;
    if (!any_of_length(n.a, &m1, &x1) || !any_of_length(n.b, &m2, &x2)) return false;
    *min = m1 + m2;
    *max = x1 == kUnbounded || x2 == kUnbounded ? kUnbounded : x1 + x2;
    return true;
  }
  if (n.kind == Kind::kAnd) {
    *min = 0;
    *max = kUnbounded;
    for (uint32_t i = n.a; i < n.b; ++i) {
      int m = 0, x = 0;
      if (!any_of_length(lists_[i], &m, &x)) return false;
      *min = std::max(*min, m);
      if (x != kUnbounded) *max = *max == kUnbounded ? x : std::min(*max, x);
    }
    return true;
  }
  return false;
}

std::optional<std::vector<std::string>> RegexPool::enumerate(RegexId a, size_t limit) {
  std::vector<std::string> texts;
  std::vector<RegexId> path;
  std::string text;
  size_t fuel = limit * 64 + 1024;
  // Depth first; a state that is met again on the way to itself can be gone through any number of times.
  const auto visit = [&](const auto& self, RegexId id) -> bool {
    if (fuel-- == 0 || std::find(path.begin(), path.end(), id) != path.end()) return false;
    if (nullable(id)) {
      if (texts.size() == limit) return false;
      texts.push_back(text);
    }
    path.push_back(id);
    for (size_t i = 0; i < intervals_.size(); ++i) {
      const RegexId next = derive(id, intervals_[i].second);
      if (next == kNoneId || !live(next)) continue;
      const uint32_t first = intervals_[i].first;
      const uint32_t last = i + 1 < intervals_.size() ? intervals_[i + 1].first - 1 : kMaxCodePoint;
      if (last - first > limit) return false;
      for (uint32_t code = first; code <= last; ++code) {
        const size_t size = text.size();
        append_utf8(code, &text);
        if (!self(self, next)) return false;
        text.resize(size);
      }
    }
    path.pop_back();
    return true;
  };
  if (!live(a)) return texts;
  if (a == kAnyTextId || !visit(visit, a)) return std::nullopt;
  return texts;
}

size_t RegexPool::bytes() const {
  size_t total = nodes_.capacity() * sizeof(Node) + lists_.capacity() * sizeof(uint32_t) + live_.capacity() +
                 first_.capacity() * sizeof(uint32_t);
  total += ids_.capacity() * sizeof(RegexId) + derivatives_.bytes();
  for (const CharSet& s : sets_) total += s.ranges().size() * sizeof(CharRange);
  return total + intervals_.size() * sizeof(intervals_[0]);
}

}  // namespace decant
