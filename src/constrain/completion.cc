// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "constrain/completion.h"

#include <algorithm>
#include <array>
#include <queue>
#include <unordered_set>
#include <vector>

namespace decant {
namespace {

constexpr int kFuel = 4000;              // states that one search visits
constexpr int kSlack = 64;               // tokens that are left when a mask begins to lead to the end
constexpr size_t kMaxForcedText = 1024;  // bytes
constexpr size_t kMaxLength = 4096;      // bytes of a completion

const std::array<int, 256>& costs() {
  static const std::array<int, 256> table = [] {
    std::array<int, 256> t;
    t.fill(6);
    // 1 before 0: not every library takes the year 0000.
    for (const char c : {'"', '}', ']', ')', '>', ':', ',', '1'}) t[static_cast<uint8_t>(c)] = 2;
    for (const char c : {'}', ']', '"'}) t[static_cast<uint8_t>(c)] = 1;
    for (const char c : {' ', '\t', '\n', '\r', '\\', '[', '{'}) t[static_cast<uint8_t>(c)] = 12;
    for (int c = 0x80; c < 256; ++c) t[static_cast<size_t>(c)] = 30;
    for (int c = 0; c < 0x20; ++c) t[static_cast<size_t>(c)] = std::max(t[static_cast<size_t>(c)], 20);
    return t;
  }();
  return table;
}

}  // namespace

std::string forced_text(Constraint& constraint, const ConstraintState& state) {
  std::string text;
  ConstraintState at = state;
  while (text.size() < kMaxForcedText && !constraint.accepting(at)) {
    std::optional<ConstraintState> only;
    uint8_t byte = 0;
    for (int b = 0; b < 256; ++b) {
      std::optional<ConstraintState> next = constraint.step(at, static_cast<uint8_t>(b));
      if (!next) continue;
      if (only) return text;
      only = std::move(next);
      byte = static_cast<uint8_t>(b);
    }
    if (!only) return text;
    text += static_cast<char>(byte);
    at = *std::move(only);
  }
  return text;
}

int completion_cost(uint8_t byte) { return costs()[byte]; }

std::optional<int> count_tokens(const TokenTrie& trie, std::string_view text) {
  int count = 0;
  while (!text.empty()) {
    const TokenId token = trie.longest_prefix(text);
    if (token < 0) return std::nullopt;
    text.remove_prefix(trie.bytes_of(token).size());
    ++count;
  }
  return count;
}

std::optional<std::string> search_completion(
    const ConstraintState& state,
    const std::function<std::optional<ConstraintState>(const ConstraintState&, uint8_t)>& next,
    const std::function<bool(const ConstraintState&)>& ends,
    const std::function<int(const ConstraintState&, uint8_t)>& cost, int fuel) {
  struct Node {
    int cost;
    int64_t order;  // of two that cost the same the first one made
    size_t at;
    bool operator<(const Node& other) const { return std::tie(cost, order) > std::tie(other.cost, other.order); }
  };
  struct Place {
    ConstraintState state;  // held, so that its address stays its own
    size_t parent;
    uint32_t length;
    uint8_t byte;
  };
  std::vector<Place> places = {{state, 0, 0, 0}};
  std::unordered_set<const void*> seen = {state.value()};
  std::priority_queue<Node> queue;
  queue.push({0, 0, 0});
  while (!queue.empty()) {
    const Node node = queue.top();
    queue.pop();
    if (ends(places[node.at].state)) {
      std::string text;
      for (size_t at = node.at; at != 0; at = places[at].parent) text += static_cast<char>(places[at].byte);
      std::reverse(text.begin(), text.end());
      return text;
    }
    if (--fuel < 0) break;
    if (places[node.at].length >= kMaxLength) continue;
    for (int b = 0; b < 256; ++b) {
      const int byte_cost = cost(places[node.at].state, static_cast<uint8_t>(b));
      if (byte_cost < 0) continue;
      const std::optional<ConstraintState> to = next(places[node.at].state, static_cast<uint8_t>(b));
      if (!to || !seen.insert(to->value()).second) continue;
      places.push_back({*to, node.at, places[node.at].length + 1, static_cast<uint8_t>(b)});
      queue.push({node.cost + byte_cost, static_cast<int64_t>(places.size()), places.size() - 1});
    }
  }
  return std::nullopt;
}

std::optional<std::string> Constraint::completion(const ConstraintState& state) {
  return search_completion(
      state, [&](const ConstraintState& s, uint8_t byte) { return step(s, byte); },
      [&](const ConstraintState& s) { return accepting(s); },
      [&](const ConstraintState& s, uint8_t byte) { return search_cost(s, byte); }, kFuel);
}

int Constraint::search_cost(const ConstraintState&, uint8_t byte) { return completion_cost(byte); }

std::optional<int> Constraint::tokens_to_end(const ConstraintState& state) {
  const std::optional<std::string> text = completion(state);
  return text ? count_tokens(trie(), *text) : std::nullopt;
}

std::shared_ptr<const TokenMask> Constraint::mask_within(const ConstraintState& state, int tokens) {
  const std::shared_ptr<const TokenMask> all = mask(state);
  const std::optional<std::string> text = completion(state);
  const std::optional<int> needed = text ? count_tokens(trie(), *text) : std::nullopt;
  if (!needed || *needed + kSlack <= tokens) return all;
  // The way that is known, and no other: to look for one behind each token would take too long.
  auto within = std::make_shared<TokenMask>(trie().vocab_size());
  if (!text->empty()) within->set(trie().longest_prefix(*text));
  return within;
}

}  // namespace decant
