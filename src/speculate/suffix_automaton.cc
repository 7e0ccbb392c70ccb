// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "speculate/suffix_automaton.h"

#include <algorithm>

namespace decant {
namespace {

// Suffixes of the text whose followers are kept up to date, longest first; a text of one repeated token has as many as
// tokens. Of shorter ones an older occurrence is known.
constexpr int kSuffixes = 64;
constexpr TokenId kSeparator = -1;

}  // namespace

SuffixAutomaton::SuffixAutomaton() : states_(1), table_(64, kNone) {}

size_t SuffixAutomaton::slot(int32_t state, TokenId token) const {
  uint64_t key = static_cast<uint64_t>(static_cast<uint32_t>(state)) << 32 | static_cast<uint32_t>(token);
  key = (key ^ key >> 29) * 0x9E3779B97F4A7C15u;
  const size_t mask = table_.size() - 1;
  size_t i = static_cast<size_t>(key >> 32) & mask;
  while (table_[i] != kNone) {
    const Edge& e = edges_[static_cast<size_t>(table_[i])];
    if (e.state == state && e.token == token) break;
    i = (i + 1) & mask;
  }
  return i;
}

int32_t SuffixAutomaton::find(int32_t state, TokenId token) const { return table_[slot(state, token)]; }

void SuffixAutomaton::grow() {
  table_.assign(table_.size() * 2, kNone);
  for (size_t e = 0; e < edges_.size(); ++e) table_[slot(edges_[e].state, edges_[e].token)] = static_cast<int32_t>(e);
}

void SuffixAutomaton::connect(int32_t state, TokenId token, int32_t target) {
  const size_t i = slot(state, token);
  if (table_[i] != kNone) {
    edges_[static_cast<size_t>(table_[i])].target = target;
    return;
  }
  State& s = states_[static_cast<size_t>(state)];
  table_[i] = static_cast<int32_t>(edges_.size());
  edges_.push_back({.state = state, .token = token, .target = target, .next = s.edges});
  s.edges = table_[i];
  if (edges_.size() * 2 > table_.size()) grow();
}

int32_t SuffixAutomaton::clone(int32_t state) {
  const auto copy = static_cast<int32_t>(states_.size());
  states_.push_back(states_[static_cast<size_t>(state)]);
  states_.back().edges = kNone;
  for (int32_t e = states_[static_cast<size_t>(state)].edges; e != kNone; e = edges_[static_cast<size_t>(e)].next) {
    connect(copy, edges_[static_cast<size_t>(e)].token, edges_[static_cast<size_t>(e)].target);
  }
  return copy;
}

void SuffixAutomaton::follow_up(int32_t end, TokenId token) {
  int left = kSuffixes;
  for (int32_t i = states_[static_cast<size_t>(last_)].link; i > kRootState && left > 0; --left) {
    State& s = states_[static_cast<size_t>(i)];
    size_t k = 0;
    while (k + 1 < s.ends.size() && s.ends[k] != kNone && text_[static_cast<size_t>(s.ends[k]) + 1] != token) ++k;
    // Number k has the same token behind it, is the oldest or is free.
    s.run = k == 0 && s.ends[0] != kNone ? s.run + 1 : 1;
    for (; k > 0; --k) s.ends[k] = s.ends[k - 1];
    s.ends[0] = end;
    i = s.link;
  }
}

void SuffixAutomaton::append(TokenId token) {
  const int32_t end = size();
  if (last_ != kRootState) follow_up(end - 1, token);
  text_.push_back(token);
  const auto now = static_cast<int32_t>(states_.size());
  states_.push_back(
      {.length = states_[static_cast<size_t>(last_)].length + 1, .ends = {end, kNone, kNone, kNone}, .run = 1});
  int32_t p = last_;
  int32_t edge = kNone;
  while (p != kNone && (edge = find(p, token)) == kNone) {
    connect(p, token, now);
    p = states_[static_cast<size_t>(p)].link;
  }
  if (p == kNone) {
    states_[static_cast<size_t>(now)].link = kRootState;
  } else {
    int32_t q = edges_[static_cast<size_t>(edge)].target;
    const int32_t length = states_[static_cast<size_t>(p)].length + 1;
    if (states_[static_cast<size_t>(q)].length != length) {
      const int32_t copy = clone(q);
      states_[static_cast<size_t>(copy)].length = length;
      states_[static_cast<size_t>(q)].link = copy;
      while (p != kNone && (edge = find(p, token)) != kNone && edges_[static_cast<size_t>(edge)].target == q) {
        edges_[static_cast<size_t>(edge)].target = copy;
        p = states_[static_cast<size_t>(p)].link;
      }
      q = copy;
    }
    states_[static_cast<size_t>(now)].link = q;
  }
  last_ = now;
}

void SuffixAutomaton::separate() {
  if (last_ == kRootState) return;
  follow_up(size() - 1, kSeparator);
  text_.push_back(kSeparator);
  last_ = kRootState;
}

SuffixAutomaton::Match SuffixAutomaton::suffix() const {
  return shorter({.state = last_, .length = states_[static_cast<size_t>(last_)].length});
}

SuffixAutomaton::Match SuffixAutomaton::advance(Match match, TokenId token) const {
  while (true) {
    if (const int32_t edge = find(match.state, token); edge != kNone) {
      return {.state = edges_[static_cast<size_t>(edge)].target, .length = match.length + 1};
    }
    if (match.state == kRootState) return {};
    match = shorter(match);
  }
}

SuffixAutomaton::Match SuffixAutomaton::shorter(Match match) const {
  const int32_t link = states_[static_cast<size_t>(match.state)].link;
  if (link == kNone) return {};
  return {.state = link, .length = states_[static_cast<size_t>(link)].length};
}

SuffixAutomaton::Follow SuffixAutomaton::follow(int32_t state) const {
  const State& s = states_[static_cast<size_t>(state)];
  Follow follow{.tokens = {}, .count = 0, .run = s.run};
  for (const int32_t end : s.ends) {
    if (end == kNone || end + 1 >= size()) continue;
    const TokenId token = text_[static_cast<size_t>(end) + 1];
    if (token == kSeparator) {
      if (follow.count == 0) follow.run = 1;
      continue;
    }
    follow.tokens[static_cast<size_t>(follow.count++)] = token;
  }
  return follow;
}

size_t SuffixAutomaton::bytes() const {
  return text_.capacity() * sizeof(TokenId) + states_.capacity() * sizeof(State) + edges_.capacity() * sizeof(Edge) +
         table_.capacity() * sizeof(int32_t);
}

}  // namespace decant
