// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "constrain/alignment.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace decant {
namespace {

constexpr double kMinusInf = -std::numeric_limits<double>::infinity();
// What WideSum may be off by, as a share of the greatest value that it held.
constexpr double kWideError = 0x1p-100;

double log_of(double x) { return x > 0 ? std::log(x) : kMinusInf; }

}  // namespace

std::string_view align_mode_name(AlignMode mode) {
  switch (mode) {
    case AlignMode::kMask: return "none";
    case AlignMode::kAsap: return "asap";
    case AlignMode::kExact: return "exact";
    case AlignMode::kExplore: return "explore";
  }
  return "none";
}

Result<AlignMode> parse_align_mode(std::string_view name) {
  for (const AlignMode mode : {AlignMode::kMask, AlignMode::kAsap, AlignMode::kExact}) {
    if (name == align_mode_name(mode)) return mode;
  }
  return Status::invalid_argument("expected asap, exact or none, got '{}'", name);
}

void WideSum::add(double x) {
  const double sum = high_ + x;
  const double part = sum - high_;
  low_ += (high_ - (sum - part)) + (x - part);
  high_ = sum + low_;
  low_ -= high_ - sum;
}

// ---- The trie.

AlignmentTrie::AlignmentTrie(size_t max_nodes) : nodes_(1), max_nodes_(std::max<size_t>(max_nodes, 1)) {}

AlignmentTrie::NodeId AlignmentTrie::child(NodeId node, TokenId token) const {
  NodeId id = nodes_[node].first_child;
  while (id != kNone && nodes_[id].token != token) id = nodes_[id].next_sibling;
  return id;
}

std::vector<std::pair<TokenId, AlignmentTrie::NodeId>> AlignmentTrie::children(NodeId node) const {
  std::vector<std::pair<TokenId, NodeId>> out;
  for (NodeId id = nodes_[node].first_child; id != kNone; id = nodes_[id].next_sibling) {
    out.emplace_back(nodes_[id].token, id);
  }
  return out;
}

void AlignmentTrie::link(NodeId node) {
  Node& parent = nodes_[nodes_[node].parent];
  nodes_[node].next_sibling = parent.first_child;
  parent.first_child = node;
}

AlignmentTrie::NodeId AlignmentTrie::add_child(NodeId parent, TokenId token, double p) {
  const auto id = static_cast<NodeId>(nodes_.size());
  nodes_.push_back({.token = token, .parent = parent, .log_p = std::log(p)});
  link(id);
  Node& n = nodes_[parent];
  WideSum left(n.unvisited_high, n.unvisited_low);
  left.add(-p);
  if (n.unvisited_count > 0) --n.unvisited_count;  // a file may have counted wrongly
  if (n.unvisited_count == 0) {
    left = {};
  } else {
    // What is left over must stay a bound from above even where the sum has lost it.
    double visited = 0;
    for (NodeId c = n.first_child; c != kNone; c = nodes_[c].next_sibling) visited += std::exp(nodes_[c].log_p);
    const double least = std::max(visited * kWideError, std::numeric_limits<double>::min());
    if (left.high() < least) left = {least, 0};
  }
  n.unvisited_high = left.high();
  n.unvisited_low = left.low();
  return id;
}

// c and `exact` from the children's.
void AlignmentTrie::update(NodeId node) {
  Node& n = nodes_[node];
  if (!n.expanded) return;
  const double unvisited = log_of(n.unvisited_high), end = log_of(n.end);
  double largest = std::max(unvisited, end);
  bool exact = n.unvisited_count == 0;
  for (NodeId id = n.first_child; id != kNone; id = nodes_[id].next_sibling) {
    largest = std::max(largest, nodes_[id].log_p + nodes_[id].log_c);
    exact = exact && nodes_[id].exact;
  }
  n.log_c = largest;
  n.exact = exact || largest == kMinusInf;
  if (largest == kMinusInf) return;
  double sum = std::exp(unvisited - largest) + std::exp(end - largest);
  for (NodeId id = n.first_child; id != kNone; id = nodes_[id].next_sibling) {
    sum += std::exp(nodes_[id].log_p + nodes_[id].log_c - largest);
  }
  n.log_c = largest + std::log(sum);
}

void AlignmentTrie::merge(const AlignmentWalk& walk) {
  if (walk.mode_ != AlignMode::kExplore) {
    ++attempts_;
    accepted_ += walk.state_ == AlignmentWalk::State::kAccepted ? 1 : 0;
  }
  NodeId node = kRoot;
  for (const AlignmentWalk::Seen& seen : walk.seen_) {
    if (Node& n = nodes_[node]; !n.expanded) {
      n.expanded = true;
      n.unvisited_high = seen.mass.high();
      n.unvisited_low = seen.mass.low();
      n.unvisited_count = seen.count;
      n.end = seen.end;
    }
    if (seen.chosen < 0) break;
    NodeId next = child(node, seen.chosen);
    if (next == kNone) {
      if (full()) break;
      next = add_child(node, seen.chosen, seen.p);
    }
    node = next;
  }
  for (; node != kNone; node = nodes_[node].parent) update(node);
}

// ---- A walk.

struct AlignmentWalk::Weights {
  std::vector<double> tokens;  // beside the row's
  std::vector<AlignmentTrie::NodeId> nodes;
  double end = 0;
  double total = 0;
};

AlignmentWalk::AlignmentWalk(const AlignmentTrie& trie, Constraint& constraint, std::span<const TokenId> end_tokens,
                             int budget, AlignMode mode)
    : trie_(&trie),
      constraint_(&constraint),
      end_tokens_(end_tokens),
      budget_(budget),
      mode_(mode),
      constraint_state_(constraint.start()) {
  look();
}

// What the constraint says about the prefix.
void AlignmentWalk::look() {
  accepting_ = constraint_->accepting(constraint_state_);
  mask_ = nullptr;
  if (static_cast<int>(tokens_.size()) >= budget_) return;
  mask_ = constraint_->mask(constraint_state_);
  if (mask_->count() > 0) return;
  mask_ = nullptr;
  failure_ = constraint_->failure(constraint_state_);  // an unknown mask is no empty one: c would be wrong
}

AlignmentRow AlignmentWalk::row(std::span<const TokenProbability> distribution) const {
  double total = 0;
  for (const TokenProbability& t : distribution) total += t.p;
  AlignmentRow row;
  if (!(total > 0)) return row;
  size_t end = 0;
  for (const TokenProbability& t : distribution) {
    while (end < end_tokens_.size() && end_tokens_[end] < t.token) ++end;
    const double p = t.p / total;
    if (!(p > 0)) continue;
    if (end < end_tokens_.size() && end_tokens_[end] == t.token) {
      if (accepting_) row.end += p;
    } else if (mask_ != nullptr && t.token < mask_->vocab_size() && mask_->test(t.token)) {
      row.tokens.push_back({t.token, p});
    }
  }
  return row;
}

Status AlignmentWalk::step(const AlignmentRow& row, double uniform) {
  DECANT_TRY_STATUS(failure_);
  Seen seen;
  for (const TokenProbability& t : row.tokens) seen.mass.add(t.p);
  seen.count = static_cast<uint32_t>(row.tokens.size());
  seen.end = row.end;

  const bool known = node_ != AlignmentTrie::kNone && trie_->expanded(node_);
  Weights w;
  w.tokens.reserve(row.tokens.size());
  w.nodes.assign(row.tokens.size(), AlignmentTrie::kNone);
  w.end = row.end;
  for (const TokenProbability& t : row.tokens) w.tokens.push_back(t.p);
  double shift = 0;  // weights are divided by e^shift, so that the greatest stays a double
  if (known && mode_ != AlignMode::kMask) {
    auto children = trie_->children(node_);
    std::sort(children.begin(), children.end());
    size_t unvisited = row.tokens.size();
    double largest = log_of(row.end);
    for (size_t i = 0, c = 0; i < row.tokens.size(); ++i) {
      while (c < children.size() && children[c].first < row.tokens[i].token) ++c;
      if (c == children.size() || children[c].first != row.tokens[i].token) continue;
      const AlignmentTrie::NodeId id = w.nodes[i] = children[c].second;
      largest = std::max(largest, trie_->log_p(id) + trie_->log_c(id));
      --unvisited;
    }
    // Else something of ordinary size outweighs whatever exp() cannot hold.
    if (unvisited == 0 && row.end == 0 && largest > kMinusInf) shift = largest;
    for (size_t i = 0; i < w.tokens.size(); ++i) {
      if (w.nodes[i] == AlignmentTrie::kNone) continue;
      w.tokens[i] = std::exp(trie_->log_p(w.nodes[i]) + trie_->log_c(w.nodes[i]) - shift);
    }
  }
  w.total = w.end;
  for (const double x : w.tokens) w.total += x;
  if (mode_ == AlignMode::kExact) {
    // What the drawing weights of the level above counted on: the rest is what leaves the language.
    w.total = std::max(w.total, known ? std::exp(trie_->log_c(node_) - shift) : 1.0);
  }
  if (row.end == 0 && std::all_of(w.tokens.begin(), w.tokens.end(), [](double x) { return x == 0; })) {
    state_ = mode_ == AlignMode::kExplore ? State::kExplored : State::kDead;
  } else {
    choose(row, w, uniform * w.total, &seen);
  }
  const Status status = seen.chosen >= 0 ? descend(&seen) : Status();
  seen_.push_back(seen);
  return status;
}

void AlignmentWalk::choose(const AlignmentRow& row, const Weights& w, double target, Seen* seen) {
  size_t at = row.tokens.size();
  if (mode_ == AlignMode::kExplore) {
    for (at = 0; at < row.tokens.size(); ++at) {
      if (w.nodes[at] == AlignmentTrie::kNone || !trie_->exact(w.nodes[at])) break;
    }
    if (at == row.tokens.size()) {
      state_ = State::kExplored;
      return;
    }
  } else {
    double sum = 0;
    size_t last = row.tokens.size();
    for (at = 0; at < row.tokens.size(); ++at) {
      if (w.tokens[at] == 0) continue;
      sum += w.tokens[at];
      last = at;
      if (target < sum) break;
    }
    if (at == row.tokens.size() && !(w.end > 0 && target < sum + w.end)) {
      if (mode_ == AlignMode::kExact) {
        state_ = State::kRejected;
        return;
      }
      if (w.end == 0) at = last;  // rounding carried the target over the last weight
    }
  }
  if (at == row.tokens.size()) {
    state_ = State::kAccepted;
    log_p_ += std::log(row.end);
    log_q_ += std::log(w.end / w.total);
    return;
  }
  const AlignmentTrie::NodeId id = w.nodes[at];
  seen->chosen = row.tokens[at].token;
  seen->p = row.tokens[at].p;
  log_p_ += id == AlignmentTrie::kNone ? std::log(seen->p) : trie_->log_p(id);
  log_q_ += std::log(w.tokens[at] / w.total);
}

Status AlignmentWalk::descend(Seen* seen) {
  DECANT_TRY(constraint_state_, constraint_->advance(constraint_state_, seen->chosen));
  if (node_ != AlignmentTrie::kNone) node_ = trie_->child(node_, seen->chosen);
  tokens_.push_back(seen->chosen);
  look();
  return {};
}

// ---- Texts of a finite language.

Result<std::vector<AlignedText>> enumerate_texts(const AlignmentTrie& known, const AlignmentTrie* bounds,
                                                 size_t limit) {
  using NodeId = AlignmentTrie::NodeId;
  if (!known.exact(AlignmentTrie::kRoot)) {
    return Status::invalid_argument("the trie does not know the whole language yet");
  }
  struct Visit {
    NodeId node, bound;
    size_t depth;
    double log_p, log_q;
  };
  std::vector<AlignedText> out;
  std::vector<TokenId> prefix;
  std::vector<Visit> stack = {
      {AlignmentTrie::kRoot, bounds != nullptr ? AlignmentTrie::kRoot : AlignmentTrie::kNone, 0, 0, 0}};
  while (!stack.empty()) {
    const Visit v = stack.back();
    stack.pop_back();
    prefix.resize(v.depth);
    if (v.depth > 0) prefix[v.depth - 1] = known.token(v.node);
    auto children = known.children(v.node);
    std::sort(children.begin(), children.end());
    std::vector<std::pair<NodeId, double>> next;  // the bounds' node, and the logarithm of the weight
    double largest = log_of(known.end(v.node));
    for (const auto& [token, id] : children) {
      const NodeId bound = v.bound == AlignmentTrie::kNone ? AlignmentTrie::kNone : bounds->child(v.bound, token);
      next.emplace_back(bound, known.log_p(id) + (bound == AlignmentTrie::kNone ? 0 : bounds->log_c(bound)));
      largest = std::max(largest, next.back().second);
    }
    if (largest == kMinusInf) continue;
    double sum = std::exp(log_of(known.end(v.node)) - largest);
    for (const auto& [bound, weight] : next) sum += std::exp(weight - largest);
    const double log_total = largest + std::log(sum);
    if (known.end(v.node) > 0) {
      if (out.size() >= limit) return Status::exhausted("the language has more than {} texts", limit);
      const double end = std::log(known.end(v.node));
      out.push_back({prefix, v.log_p + end, v.log_q + end - log_total});
    }
    for (size_t i = children.size(); i-- > 0;) {
      const NodeId id = children[i].second;
      if (known.log_c(id) == kMinusInf) continue;
      stack.push_back(
          {id, next[i].first, v.depth + 1, v.log_p + known.log_p(id), v.log_q + next[i].second - log_total});
    }
  }
  return out;
}

}  // namespace decant
