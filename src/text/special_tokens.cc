// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "text/special_tokens.h"

#include <algorithm>
#include <queue>
#include <utility>

#include "text/unicode.h"

namespace decant {
namespace {

bool is_ascii_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

// The character that ends at `end` (> 0); U+FFFD for a byte that ends none.
uint32_t char_before(std::string_view text, size_t end) {
  size_t begin = end - 1;
  while (begin > 0 && end - begin < 4 && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) --begin;
  const Utf8Char c = decode_utf8(text.substr(begin, end - begin));
  return c.valid && c.size == end - begin ? c.code : 0xFFFD;
}

bool is_word(uint32_t code) {
  const CharClass kind = char_class(code);
  return kind == CharClass::kLetter || kind == CharClass::kNumber || code == '_';
}

size_t edge_slot(uint64_t key, size_t mask) { return (key * 0x9E3779B97F4A7C15u >> 32) & mask; }

}  // namespace

int32_t SpecialTokens::child(int32_t node, unsigned char byte) const {
  const uint64_t key = static_cast<uint64_t>(node) * 256 + byte + 1;
  for (size_t at = edge_slot(key, mask_);; at = (at + 1) & mask_) {
    if (edges_[at].key == key) return edges_[at].child;
    if (edges_[at].key == 0) return -1;
  }
}

int32_t SpecialTokens::add_child(int32_t node, unsigned char byte) {
  if (n_edges_ * 2 >= edges_.size()) {
    std::vector<Edge> old = std::exchange(edges_, std::vector<Edge>(edges_.size() * 2));
    mask_ = edges_.size() - 1;
    for (const Edge& e : old) {
      if (e.key == 0) continue;
      size_t at = edge_slot(e.key, mask_);
      while (edges_[at].key != 0) at = (at + 1) & mask_;
      edges_[at] = e;
    }
  }
  const uint64_t key = static_cast<uint64_t>(node) * 256 + byte + 1;
  size_t at = edge_slot(key, mask_);
  while (edges_[at].key != 0) at = (at + 1) & mask_;
  edges_[at] = {key, static_cast<int32_t>(nodes_.size())};
  ++n_edges_;
  nodes_.emplace_back();
  return edges_[at].child;
}

void SpecialTokens::build(std::vector<Token> tokens, const StringTable& texts) {
  tokens_ = std::move(tokens);
  // Not a stable sort on purpose: llama.cpp breaks ties between equally long tokens by what std::sort does to the
  // tokens in the order of their ids, and where two of them overlap in a text the first one wins.
  std::sort(tokens_.begin(), tokens_.end(),
            [&texts](const Token& a, const Token& b) { return texts[a.id].size() > texts[b.id].size(); });
  nodes_.assign(1, Node{});
  edges_.assign(1024, Edge{});
  mask_ = edges_.size() - 1;
  n_edges_ = 0;
  sizes_.resize(tokens_.size());
  shorter_.assign(tokens_.size(), -1);
  std::fill(std::begin(root_), std::end(root_), -1);
  // Shortest first, so that a node's prefix tokens are known when it is made.
  for (size_t i = tokens_.size(); i-- > 0;) {
    const std::string_view text = texts[tokens_[i].id];
    sizes_[i] = static_cast<uint32_t>(text.size());
    int32_t node = 0;
    int32_t longest = -1;  // rank of the longest token that is a proper prefix so far
    for (size_t k = 0; k < text.size(); ++k) {
      if (nodes_[node].rank >= 0) longest = nodes_[node].rank;
      int32_t next = child(node, static_cast<unsigned char>(text[k]));
      if (next < 0) next = add_child(node, static_cast<unsigned char>(text[k]));
      node = next;
    }
    nodes_[node].rank = static_cast<int32_t>(i);
    shorter_[i] = longest;
  }
  for (int b = 0; b < 256; ++b) root_[b] = child(0, static_cast<unsigned char>(b));
}

bool SpecialTokens::allowed(int32_t rank, size_t begin, std::span<const Range> control_ranges) const {
  if (!tokens_[rank].control) return true;
  const auto after = std::upper_bound(control_ranges.begin(), control_ranges.end(), begin,
                                      [](size_t at, const Range& r) { return at < r.begin; });
  return after != control_ranges.begin() && begin + sizes_[rank] <= std::prev(after)->end;
}

// Rank of the longest token that begins there, or -1.
int32_t SpecialTokens::longest_at(std::string_view text, size_t begin) const {
  int32_t node = root_[static_cast<unsigned char>(text[begin])];
  int32_t best = -1;
  for (size_t at = begin + 1; node >= 0; ++at) {
    if (nodes_[node].rank >= 0) best = nodes_[node].rank;
    if (at == text.size()) break;
    node = child(node, static_cast<unsigned char>(text[at]));
  }
  return best;
}

std::vector<SpecialTokens::Match> SpecialTokens::find_leftmost(std::string_view text,
                                                               std::span<const Range> control_ranges) const {
  std::vector<Match> matches;
  if (tokens_.empty()) return matches;
  size_t free = 0;  // where the last match ended
  for (size_t at = 0; at < text.size();) {
    const int32_t rank = longest_at(text, at);
    if (rank < 0) {
      ++at;
      continue;
    }
    const Token& token = tokens_[rank];
    size_t begin = at, end = at + sizes_[rank];
    // As there, a token that is not taken hides what lies inside it.
    at = end;
    const bool joined = token.whole_word && ((begin > 0 && is_word(char_before(text, begin))) ||
                                             (end < text.size() && is_word(decode_utf8(text.substr(end)).code)));
    if (begin < free || joined) continue;
    if (!allowed(rank, begin, control_ranges)) {
      at = begin + 1;
      continue;
    }
    while (token.strip_left && begin > free && char_class(char_before(text, begin)) == CharClass::kSpace) {
      do --begin;
      while (begin > free && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80);
    }
    while (token.strip_right && end < text.size()) {
      const Utf8Char c = decode_utf8(text.substr(end));
      if (!c.valid || char_class(c.code) != CharClass::kSpace) break;
      end += c.size;
    }
    matches.push_back({begin, end, token.id});
    free = end;
    at = std::max(at, end);
  }
  return matches;
}

std::vector<SpecialTokens::Match> SpecialTokens::find(std::string_view text,
                                                      std::span<const Range> control_ranges) const {
  std::vector<Match> matches;
  if (tokens_.empty()) return matches;

  // The longest token at each place, best first. A token that turns out to overlap a better one makes room for the next
  // shorter token at its place.
  struct Candidate {
    uint32_t rank, begin;
    bool operator<(const Candidate& o) const { return rank != o.rank ? rank < o.rank : begin < o.begin; }
    bool operator>(const Candidate& o) const { return o < *this; }
  };
  std::vector<Candidate> candidates;
  const auto longest_allowed = [&](int32_t rank, size_t begin) {
    while (rank >= 0 && !allowed(rank, begin, control_ranges)) rank = shorter_[rank];
    return rank;
  };
  for (size_t begin = 0; begin < text.size(); ++begin) {
    const int32_t best = longest_allowed(longest_at(text, begin), begin);
    if (best >= 0) candidates.push_back({static_cast<uint32_t>(best), static_cast<uint32_t>(begin)});
  }
  if (candidates.empty()) return matches;
  std::sort(candidates.begin(), candidates.end());

  std::vector<bool> taken(text.size());
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<Candidate>> shorter;
  for (size_t i = 0; i < candidates.size() || !shorter.empty();) {
    Candidate c;
    if (shorter.empty() || (i < candidates.size() && candidates[i] < shorter.top())) {
      c = candidates[i++];
    } else {
      c = shorter.top();
      shorter.pop();
    }
    if (taken[c.begin]) continue;
    size_t begin = c.begin;
    size_t end = begin + sizes_[c.rank];
    if (std::find(taken.begin() + static_cast<ptrdiff_t>(begin), taken.begin() + static_cast<ptrdiff_t>(end), true) !=
        taken.begin() + static_cast<ptrdiff_t>(end)) {
      const int32_t next = longest_allowed(shorter_[c.rank], begin);
      if (next >= 0) shorter.push({static_cast<uint32_t>(next), c.begin});
      continue;
    }
    const Token& token = tokens_[c.rank];
    if (token.strip_left) {
      while (begin > 0 && !taken[begin - 1] && is_ascii_space(text[begin - 1])) --begin;
    }
    if (token.strip_right) {
      while (end < text.size() && !taken[end] && is_ascii_space(text[end])) ++end;
    }
    std::fill(taken.begin() + static_cast<ptrdiff_t>(begin), taken.begin() + static_cast<ptrdiff_t>(end), true);
    matches.push_back({begin, end, token.id});
  }
  std::sort(matches.begin(), matches.end(), [](const Match& a, const Match& b) { return a.begin < b.begin; });
  return matches;
}

}  // namespace decant
