// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Samples from a model *conditioned* on a constraint. Masking draws a legal token at each step and keeps the model's
// odds among those, so a prefix whose continuations are hardly ever legal comes as often as the model likes the prefix.
// The conditional needs to know how much of a prefix's future is legal:
//
//   c(p) = Pr[the whole text is in the language | prefix p],    Q(v | p) = P(v | p) c(pv) / c(p)
//
// A trie of the prefixes seen so far keeps upper bounds of c that only get tighter: 1 for a prefix that was not looked
// at, 0 for an illegal one, and above that the sum over legal next tokens of P(v | p) c(pv). Two ways to draw with it:
//
//   kAsap   P(v | p) c(pv), normalised: starts as masking, tends to Q (Park et al. 2024, "Grammar-Aligned Decoding").
//   kExact  the same where the trie knows the legal tokens; elsewhere P itself, and a text that leaves the language is
//           thrown away and another one begun. Whatever the trie holds, the weights of an accepted text multiply to
//           P(w) / c(root): each accepted text is distributed as Q. Needs c to stand still while a text is drawn.
//
// A text is a sequence of tokens and an end. The language is that of the constraint, of at most `budget` tokens: a
// prefix of that many which may not end has c = 0. P is the distribution after temperature, filters and penalties and
// before the mask.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"
#include "constrain/constraint.h"

namespace decant {

struct TokenProbability {
  TokenId token;
  double p;
};

// What may come after a prefix.
struct AlignmentRow {
  std::vector<TokenProbability> tokens;  // the legal ones with p > 0, ascending; no end tokens
  double end = 0;                        // of all end tokens together; 0 where the text may not end
};

enum class AlignMode {
  kMask,     // never looks at c; for comparisons
  kAsap,     // see above
  kExact,    // see above
  kExplore,  // no sample: goes where c is not exact yet, so that repeating it enumerates a finite language
};
std::string_view align_mode_name(AlignMode mode);  // "none", "asap", "exact", "explore"
// Of what can be chosen: kInvalidArgument but for "none", "asap" and "exact".
Result<AlignMode> parse_align_mode(std::string_view name);

// A sum that may lose nearly all of itself again: twice a double's precision.
class WideSum {
 public:
  WideSum() = default;
  WideSum(double high, double low) : high_(high), low_(low) {}
  void add(double x);
  double high() const { return high_; }
  double low() const { return low_; }

 private:
  double high_ = 0, low_ = 0;
};

// What a trie belongs to: names and values. Values may be long; files keep them as they are.
struct AlignmentKey {
  std::vector<std::pair<std::string, std::string>> fields;
};

class AlignmentWalk;

// The bounds. Logarithms are natural; log c reaches far below the smallest double. Thread-compatible.
class AlignmentTrie {
 public:
  using NodeId = uint32_t;
  static constexpr NodeId kRoot = 0, kNone = 0xFFFFFFFF;
  static constexpr size_t kDefaultNodes = size_t{1} << 22;  // of 64 bytes

  // Holds at most `max_nodes` (at least 1). A full trie learns nothing about new prefixes; its bounds stay bounds, so
  // kExact stays exact and kAsap stops getting closer.
  explicit AlignmentTrie(size_t max_nodes = kDefaultNodes);

  // kNone for a token that was not drawn there yet (c is 1 if it is legal).
  NodeId child(NodeId node, TokenId token) const;
  // Whether the legal tokens after it are known.
  bool expanded(NodeId node) const { return nodes_[node].expanded; }
  // Whether log_c is no bound but the value: everything below was seen.
  bool exact(NodeId node) const { return nodes_[node].exact; }
  double log_c(NodeId node = kRoot) const { return nodes_[node].log_c; }
  // P(node's token | the prefix before it), as at the first visit.
  double log_p(NodeId node) const { return nodes_[node].log_p; }
  // P(end | prefix) where the text may end, else 0.
  double end(NodeId node) const { return nodes_[node].end; }
  // P of the legal tokens that no child stands for.
  double unvisited(NodeId node) const { return nodes_[node].unvisited_high; }
  TokenId token(NodeId node) const { return nodes_[node].token; }
  NodeId parent(NodeId node) const { return nodes_[node].parent; }
  // In no order.
  std::vector<std::pair<TokenId, NodeId>> children(NodeId node) const;

  size_t size() const { return nodes_.size(); }
  bool full() const { return nodes_.size() >= max_nodes_; }
  // Texts that were begun, and those that ended in the language; `attempts` numbers the draws of random streams, so
  // that a trie that was saved goes on where it stopped.
  int64_t attempts() const { return attempts_; }
  int64_t accepted() const { return accepted_; }

  // Adds what a walk over this trie has seen. Walks that began at the same time may be merged in any order: what is
  // known then is the same, up to the rounding of sums.
  void merge(const AlignmentWalk& walk);

  // A file of its own format, with a checksum; bounds are recomputed when it is read, to the same bits.
  std::string serialize(const AlignmentKey& key) const;
  Status save(const std::string& path, const AlignmentKey& key) const;
  // kCorrupt (where, and what), kInvalidArgument when the key differs, naming the field. `name` stands for the file in
  // messages. A trie with more than `max_nodes` nodes is refused with kExhausted.
  static Result<AlignmentTrie> parse(std::span<const uint8_t> bytes, const std::string& name, const AlignmentKey& key,
                                     int vocab_size, size_t max_nodes = kDefaultNodes);
  static Result<AlignmentTrie> load(const std::string& path, const AlignmentKey& key, int vocab_size,
                                    size_t max_nodes = kDefaultNodes);

 private:
  struct Node {
    TokenId token = -1;
    NodeId parent = kNone, first_child = kNone, next_sibling = kNone;
    uint32_t unvisited_count = 0;
    bool expanded = false, exact = false;
    double log_p = 0;
    double unvisited_high = 0, unvisited_low = 0;
    double end = 0;
    double log_c = 0;
  };

  NodeId add_child(NodeId parent, TokenId token, double p);
  void link(NodeId node);
  void update(NodeId node);

  std::vector<Node> nodes_;
  size_t max_nodes_;
  int64_t attempts_ = 0, accepted_ = 0;
};

// One text on its way. Reads the trie, which must not change before the walk is merged or dropped.
class AlignmentWalk {
 public:
  enum class State {
    kOpen,
    kAccepted,  // it ended
    kRejected,  // kExact: it left the language
    kDead,      // nothing may follow: the budget is used up, or the filters leave no legal token
    kExplored,  // kExplore: all is known
  };

  // `budget` >= 0: tokens of the text, the end not counted. `end_tokens`: ascending.
  AlignmentWalk(const AlignmentTrie& trie, Constraint& constraint, std::span<const TokenId> end_tokens, int budget,
                AlignMode mode);

  State state() const { return state_; }
  const std::vector<TokenId>& tokens() const { return tokens_; }
  // The trie's node of the prefix, or kNone.
  AlignmentTrie::NodeId node() const { return node_; }
  // False where nothing but a forbidden end could follow: step() with an empty row needs no model.
  bool needs_row() const { return mask_ != nullptr || accepting_; }
  // The legal part of P after the prefix. `distribution`: ascending tokens; their sum is taken as 1.
  AlignmentRow row(std::span<const TokenProbability> distribution) const;
  // The next token or the end, for a `uniform` in (0, 1). Fails as Constraint::advance and masks do.
  Status step(const AlignmentRow& row, double uniform);

  // Of the tokens so far, and of the end once it is accepted.
  double log_p() const { return log_p_; }
  // Of what was drawn, under what it was drawn from; a rejected text's is not kept.
  double log_q() const { return log_q_; }
  int64_t steps() const { return static_cast<int64_t>(seen_.size()); }

 private:
  friend class AlignmentTrie;

  // What step() learned about a prefix.
  struct Seen {
    WideSum mass;
    uint32_t count = 0;
    double end = 0;
    TokenId chosen = -1;  // -1: the text went no further
    double p = 0;         // of the chosen token
  };
  struct Weights;

  void look();
  void choose(const AlignmentRow& row, const Weights& weights, double target, Seen* seen);
  Status descend(Seen* seen);

  const AlignmentTrie* trie_;
  Constraint* constraint_;
  std::span<const TokenId> end_tokens_;
  int budget_;
  AlignMode mode_;
  State state_ = State::kOpen;
  ConstraintState constraint_state_;
  std::shared_ptr<const TokenMask> mask_;  // nullptr: no token may come
  Status failure_;                         // why it is not known which
  bool accepting_ = false;
  AlignmentTrie::NodeId node_ = AlignmentTrie::kRoot;
  std::vector<TokenId> tokens_;
  std::vector<Seen> seen_;
  double log_p_ = 0, log_q_ = 0;
};

// A text of a language that the trie knows wholly.
struct AlignedText {
  std::vector<TokenId> tokens;
  double log_p;  // P, end included
  double log_q;  // what one attempt with `bounds` draws it with
};
// All texts below an exact root (kInvalidArgument if it is not, kExhausted for more than `limit`), with the probability
// that kAsap gives them when its trie is `bounds`; with nullptr: masking.
Result<std::vector<AlignedText>> enumerate_texts(const AlignmentTrie& known, const AlignmentTrie* bounds, size_t limit);

}  // namespace decant
