// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Regular languages over Unicode text as expressions that are derived, one character at a time (Brzozowski,
// "Derivatives of regular expressions", 1964; Owens, Reppy and Turon, 2009): an expression is a state, so intersection
// and complement cost nothing to write down, and no automaton is built beyond the states that a text visits.
// Expressions are hash-consed: equal ones have one id, and ids are compared.
//
//   RegexPool pool;
//   DECANT_TRY(RegexId id, parse_regex("^[a-z]{2,}$", RegexDialect::kSearch, &pool));
//   RegexId both = pool.conj({id, pool.negate(pool.literal("no"))});
//   pool.freeze();                                   // all sets of characters are known
//   RegexId next = pool.derive(both, pool.class_of('x'));
//   if (pool.live(next)) ...                         // some text leads from here to the end of a match
//
// Not thread-safe: deriving adds to the pool.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/status.h"
#include "constrain/char_set.h"

namespace decant {

using RegexId = uint32_t;
using CharClassId = uint16_t;

// A deterministic automaton over ASCII characters that takes part in expressions as a leaf: what derivatives of
// characters say badly, such as "a multiple of 7".
class LeafAutomaton {
 public:
  virtual ~LeafAutomaton() = default;
  // The state after `c`; nullopt: nothing that begins so is in the language.
  virtual std::optional<uint32_t> step(uint32_t state, char c) const = 0;
  virtual bool accepts(uint32_t state) const = 0;
  // The characters that it tells apart; all others end it.
  virtual std::string_view alphabet() const = 0;
};

class RegexPool {
 public:
  static constexpr int kUnbounded = -1;

  RegexPool();

  // --- Expressions ---
  RegexId none() const { return kNoneId; }    // no text
  RegexId empty() const { return kEmptyId; }  // the empty text
  RegexId any() const { return kAnyId; }      // one character
  RegexId any_text() const { return kAnyTextId; }
  RegexId chars(const CharSet& set);        // before freeze()
  RegexId literal(std::string_view text);   // valid UTF-8; before freeze()
  bool knows(std::string_view text) const;  // whether literal() can be asked for it now
  RegexId concat(RegexId a, RegexId b);
  RegexId alt(std::vector<RegexId> parts);
  RegexId conj(std::vector<RegexId> parts);
  RegexId negate(RegexId a);
  // Where `a` is an intersection that `part` is a part of, or `part` itself: the rest of it.
  std::optional<RegexId> without_part(RegexId a, RegexId part);
  RegexId repeat(RegexId a, int min, int max);  // max: kUnbounded, or at least min
  RegexId optional(RegexId a) { return alt({empty(), a}); }
  RegexId leaf(std::shared_ptr<const LeafAutomaton> automaton, uint32_t state);  // before freeze()
  // Begin and end of the text, for resolve_anchors() to take away.
  RegexId begin_anchor() const { return kBeginId; }
  RegexId end_anchor() const { return kEndId; }
  // The texts w for which w between so many of them is in `a`: as many as a match may ask for, and `a` takes the others
  // anywhere around it.
  RegexId resolve_anchors(RegexId a, int begins, int ends);

  // --- Derivation ---
  // Divides the characters into classes that no expression tells apart. New sets of characters cannot be made after it.
  void freeze();
  bool frozen() const { return frozen_; }
  int class_count() const { return static_cast<int>(representatives_.size()); }
  CharClassId class_of(uint32_t code) const;
  uint32_t representative(CharClassId c) const { return representatives_[c]; }
  bool reaches_beyond_ascii(CharClassId c) const { return beyond_ascii_[c]; }
  // The classes of some character in [first, last], without repetition.
  void classes_in(uint32_t first, uint32_t last, std::vector<CharClassId>* out) const;

  RegexId derive(RegexId a, CharClassId c);
  bool nullable(RegexId a) const { return nodes_[a].nullable; }
  // Whether some text is in the language. Searches where intersection, complement or leaves hide it; a search that runs
  // out of fuel says true and counts in `searches_given_up`.
  bool live(RegexId a);
  // Any text of at most `length` characters of the set leaves a live expression: what a mask needs no search for.
  struct FreeRun {
    uint32_t set = 0;  // an id for in_set()
    int length = 0;    // 0: there is no such run; kUnbounded: of any length
  };
  FreeRun free_run(RegexId a);
  // Whether the language is that of all texts of `min` to `max` characters (kUnbounded: no end).
  bool any_of_length(RegexId a, int* min, int* max) const;
  // Where `a` is an intersection with a language of any_of_length: the rest of it, and the lengths. Not const: makes
  // the rest.
  bool split_length(RegexId a, RegexId* rest, int* min, int* max);
  // From wherever a text of one character or more is that can be completed, so many characters more complete it;
  // kUnbounded if that is not known.
  int longest_end(RegexId a) const {
    return nodes_[a].longest_end == kMany ? kUnbounded : static_cast<int>(nodes_[a].longest_end);
  }
  // No text is shorter; exact where longest_end() is known.
  int least_length(RegexId a) const { return static_cast<int>(nodes_[a].least); }
  // Whether the language is known to have texts of any length.
  bool infinite(RegexId a) const { return nodes_[a].infinite; }
  bool in_set(uint32_t set, CharClassId c) const { return (class_sets_[set][c >> 6] >> (c & 63) & 1) != 0; }

  bool matches(RegexId a, std::string_view text);
  // All texts of a finite language of at most `limit` of them; nullopt for any other.
  std::optional<std::vector<std::string>> enumerate(RegexId a, size_t limit);

  size_t size() const { return nodes_.size(); }
  // Whether more expressions were asked for than there may be: none() stands for them, and answers mean nothing.
  bool exhausted() const { return exhausted_; }
  static constexpr size_t kMaxExpressions = 1'500'000;
  size_t bytes() const;
  int64_t searches_given_up() const { return given_up_; }

 private:
  enum class Kind : uint8_t { kNone, kEmpty, kChars, kConcat, kAlt, kAnd, kNot, kRepeat, kLeaf, kBegin, kEnd };
  struct Node {
    Kind kind;
    bool nullable;
    bool simple;    // neither intersection nor complement nor leaf in it: live unless it is none()
    uint32_t a, b;  // children; kChars: a is a set; kAlt, kAnd: [a, b) in lists_; kLeaf: automaton and state
    int min, max;   // kRepeat
    // Made by intern(): no text is shorter; longest_end(), infinite().
    uint32_t least = 0, longest_end = 0;
    bool infinite = false;
  };
  static constexpr uint32_t kMany = 1u << 30;
  static constexpr uint32_t kUnknownSet = UINT32_MAX;
  static constexpr RegexId kNoId = UINT32_MAX;
  static constexpr size_t kMaxLengths = 16;  // in one intersection
  static constexpr RegexId kNoneId = 0, kEmptyId = 1, kAnyId = 2, kAnyTextId = 3, kBeginId = 4, kEndId = 5;

  // Derivatives that were made, by expression and class: open addressing, since there are many of them.
  class Derivatives {
   public:
    const RegexId* find(uint64_t key) const;
    void add(uint64_t key, RegexId value);  // a key that is not there
    size_t bytes() const { return slots_.capacity() * sizeof(Slot); }

   private:
    struct Slot {
      uint32_t id, symbol;  // symbol: the class and one; 0: free
      RegexId value;
    };
    size_t place(uint64_t key) const;
    std::vector<Slot> slots_;
    size_t used_ = 0;
  };

  RegexId intern(const Node& node, const std::vector<uint32_t>& list = {});
  size_t hash_of(const Node& node, std::span<const uint32_t> list) const;
  std::span<const uint32_t> parts_of(const Node& n) const;
  void measure(Node* n) const;
  int8_t live_by_length(RegexId a) const;
  RegexId combine(Kind kind, std::vector<RegexId> parts);
  void join_leaves(bool is_alt, std::vector<RegexId>* parts);
  void join_lengths(std::vector<RegexId>* parts);
  RegexId leaf_product(const std::vector<RegexId>& leaves, const std::vector<RegexId>& negated, bool all);
  // Where a language asks for lengths and nothing else: which, ascending. And the other way round.
  using Lengths = std::vector<std::pair<int, int>>;
  std::optional<Lengths> lengths_of(RegexId a) const;
  RegexId of_lengths(const Lengths& lengths);
  RegexId chars_of_set(uint32_t set);
  uint32_t class_set(std::vector<uint64_t> bits);
  uint32_t unite_sets(uint32_t a, uint32_t b, bool intersect);
  bool is_all(uint32_t set) const { return set == 0; }
  RegexId derive_uncached(RegexId a, CharClassId c);
  uint32_t first_set(RegexId a);
  std::vector<RegexId> list_of(const Node& n) const { return {lists_.begin() + n.a, lists_.begin() + n.b}; }
  RegexId begin_derivative(RegexId a, std::unordered_map<RegexId, RegexId>* done);
  RegexId end_derivative(RegexId a, std::unordered_map<RegexId, RegexId>* done);
  RegexId without_anchors(RegexId a, std::unordered_map<RegexId, RegexId>* done);

  std::vector<Node> nodes_;
  std::vector<uint32_t> lists_;
  std::vector<RegexId> ids_;  // of nodes_, by their hash: open addressing
  // Before freeze() sets are CharSets, after it bits over the classes; set 0 has all characters.
  std::vector<CharSet> sets_;
  std::map<CharSet, uint32_t> set_ids_;
  std::vector<std::vector<uint64_t>> class_sets_;
  std::map<std::vector<uint64_t>, uint32_t> class_set_ids_;
  std::vector<std::shared_ptr<const LeafAutomaton>> automata_;
  std::map<std::vector<uint32_t>, uint32_t> products_;  // of automata_, by their parts
  bool frozen_ = false;
  std::array<CharClassId, 128> ascii_classes_{};
  std::vector<std::pair<uint32_t, CharClassId>> intervals_;  // first code point, class; ascending
  std::vector<uint32_t> representatives_;
  std::vector<bool> beyond_ascii_;
  Derivatives derivatives_;
  std::vector<int8_t> live_;     // by id: -1 unknown, 0, 1
  std::vector<uint32_t> first_;  // by id: of first_set(), or kUnknownSet; once frozen
  int64_t given_up_ = 0;
  bool exhausted_ = false;
};

enum class RegexDialect {
  kSearch,  // ECMA-262 as JSON Schema uses it: a match anywhere in the text
  kFull,    // the whole text
};

// ECMA-262 syntax with Unicode: alternation, groups (named too), classes, escapes, quantifiers (lazy ones mean the
// same), anchors, look-ahead and, for kFull, (?i:...). kInvalidArgument with the offset in the pattern; kUnsupported
// for what is not regular (back-references) or not here (look-behind, word boundaries, scripts), and for patterns
// beyond fixed limits.
Result<RegexId> parse_regex(std::string_view pattern, RegexDialect dialect, RegexPool* pool);

}  // namespace decant
