// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// What a schema asks of a value, by the value's type. A goal is a set of schemas, some negated, that all have to hold.
// It is written as alternatives, keyword by keyword: of strings and other scalars they join into one regular language;
// of objects and arrays each becomes a shape, and a text is followed through all shapes at once. So anyOf, oneOf, not
// and if need no guess, and nothing is tried twice. Everything is made when it is first met, and kept.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/status.h"
#include "constrain/schema.h"
#include "constrain/schema_places.h"

namespace decant {

using GoalId = uint32_t;
using ShapeId = uint32_t;

// Keywords about objects that all have to hold.
struct ObjectRules {
  std::vector<SchemaId> scopes;  // properties, patternProperties and additionalProperties of these nodes
  std::vector<std::pair<std::string, SchemaLiteral>> named;  // the member of this name, if there is one
  std::vector<std::string> required;
  int64_t min = 0, max = INT64_MAX;
  std::vector<SchemaLiteral> names;    // of propertyNames
  std::vector<SchemaId> dependencies;  // dependentRequired of these nodes
  // What holds if at least one of its options does. Conditions on which members there are stay clauses: as alternatives
  // they would multiply.
  struct Option {
    // No member of this name; one with such a value; some member whose name matches, or that the node's
    // additionalProperties is for, with such a value; a member whose name is such; at most, or at least, so many
    // members.
    enum class Kind : uint8_t { kAbsent, kMember, kPattern, kAdditional, kName, kAtMost, kAtLeast } kind;
    std::string name = {};
    RegexId pattern = 0;
    SchemaId scope = kNoSchema;
    SchemaLiteral value{kNoSchema, false};  // kNoSchema: any
    int64_t count = 0;
    auto operator<=>(const Option&) const = default;
  };
  using Clause = std::vector<Option>;  // sorted, distinct
  std::vector<Clause> clauses;
  // unevaluatedProperties: members that none of these scopes is for.
  struct Rest {
    std::vector<SchemaId> scopes;
    SchemaLiteral value;
  };
  std::vector<Rest> rests;
};

struct ArrayRules {
  std::vector<SchemaId> scopes;                       // prefixItems and items of these nodes
  std::vector<std::pair<int64_t, SchemaLiteral>> at;  // the item of this index, if there is one
  int64_t min = 0, max = INT64_MAX;
  struct Contains {
    SchemaLiteral value;
    int64_t min, max;
  };
  std::vector<Contains> contains;
  struct Witness {
    int64_t from;  // some item of this index or a later one
    SchemaLiteral value;
  };
  std::vector<Witness> witnesses;
  struct Rest {
    int64_t from;                       // unevaluatedItems: items of this index and later ones ...
    std::vector<SchemaLiteral> unless;  // ... that none of these holds for
    SchemaLiteral value;
  };
  std::vector<Rest> rests;
  bool unique = false;
};

struct ObjectShape {
  ObjectRules rules;
  std::vector<std::string> names;  // sorted; all that the rules mention
  std::vector<GoalId> goals;       // of the values, by name
  std::vector<bool> required;
  std::vector<int8_t> possible;                        // by name: -1 not known yet, else whether such a member can be
  std::vector<std::vector<uint32_t>> needs;            // by name: other names that it asks for; empty for none at all
  std::vector<std::vector<uint32_t>> clause_names;     // by clause and option: the name's place, where it has one
  std::map<std::pair<size_t, size_t>, bool> by_other;  // whether a member of another name can meet an option
  std::map<std::vector<uint64_t>, bool> completable;   // answers of SchemaLanguage::completable()
  PlaceId place = kNoPlace;
  // By name: its place in the order of members, kUnranked for those behind all others; empty if there is no order.
  std::vector<uint32_t> rank;
  static constexpr uint32_t kUnranked = UINT32_MAX;
  std::vector<bool> in_clause;    // by name: whether its being there decides more than its own value
  std::vector<RegexId> patterns;  // that tell other names apart
  RegexId other_names = 0;        // the language of all other names that can be; none() if there are none
  bool other_known = false;
  std::map<std::pair<uint64_t, PlaceId>, GoalId> other_goals;  // by the patterns that match
};

struct ArrayShape {
  ArrayRules rules;
  size_t prefix = 0;          // items behind it all have the same goal
  std::vector<GoalId> goals;  // by index, the last for the rest
};

class SchemaLanguage {
 public:
  explicit SchemaLanguage(std::shared_ptr<Schema> schema) : schema_(std::move(schema)), places_(schema_.get()) {}

  Schema& schema() { return *schema_; }
  RegexPool& pool() { return schema_->pool(); }
  // The first thing that could not be done; what is answered after it means nothing.
  const Status& status() {
    if (places_.exhausted()) give_up("too many places whose members have an order of their own");
    if (pool().exhausted()) give_up("too much to follow: more than a million and a half of expressions");
    return status_;
  }
  void too_many();  // sets it
  // Follows the goals that members and items lead to, a bounded number of them, where something may be refused that is
  // met only there: status() afterwards.
  const Status& look_ahead();
  // Why there is no value, if it is known: kInvalidArgument.
  Status unsatisfiable() const;

  GoalId goal(std::vector<SchemaLiteral> literals, PlaceId place = kNoPlace);
  GoalId goal_with(GoalId id, const std::vector<SchemaLiteral>& more);  // and these too
  GoalId root_goal() { return goal({{schema_->root(), false}}, places_.root()); }
  const std::vector<SchemaLiteral>& literals(GoalId id) const { return goals_[id]; }

  // The decoded texts of strings; the texts of other scalars.
  RegexId strings(GoalId id);
  RegexId scalars(GoalId id);
  const std::vector<ShapeId>& objects(GoalId id);
  const std::vector<ShapeId>& arrays(GoalId id);
  ObjectShape& object(ShapeId id) { return *objects_[id]; }
  ArrayShape& array(ShapeId id) { return *arrays_[id]; }

  // Whether some value meets the goal. Recursion that never ends is no value.
  bool satisfiable(GoalId id);

  bool name_possible(ObjectShape& shape, size_t name);
  // Whether an object with these members (bits of names), so many in all and these clauses (bits) met, can be
  // completed. Searches where clauses ask for it; a search that runs out of fuel says true and counts in
  // searches_given_up().
  bool completable(ObjectShape& shape, const std::vector<uint64_t>& used, int64_t count, uint64_t met);
  // Whether it is complete as it is.
  bool complete(const ObjectShape& shape, const std::vector<uint64_t>& used, int64_t count, uint64_t met) const;
  int64_t searches_given_up() const { return given_up_; }
  // Names of a lower rank come no more behind these members.
  static uint32_t reached(const ObjectShape& shape, const std::vector<uint64_t>& used, int64_t count);
  // The language of names beyond shape.names.
  RegexId other_names(ObjectShape& shape);
  GoalId other_goal(ObjectShape& shape, uint64_t matched, PlaceId place = kNoPlace);
  // Which of the shape's patterns match.
  uint64_t match(const ObjectShape& shape, std::string_view name);
  bool matches(RegexId id, std::string_view text) { return pool().matches(id, text); }
  SchemaPlaces& places() { return places_; }
  GoalId item_goal(const ArrayShape& shape, int64_t index) const {
    return shape.goals[std::min(static_cast<size_t>(index), shape.goals.size() - 1)];
  }
  // Whether an array of `count` items, `contained` of which count for `c`, can have as many of them as it asks for.
  bool contains_possible(ArrayShape& shape, int64_t count, const ArrayRules::Contains& c, int64_t contained);
  // Whether a later item can be the witness.
  bool witness_possible(ArrayShape& shape, int64_t count, const ArrayRules::Witness& w);
  // Whether items to come can be enough for all that counts items, together: a search, which says true when it runs out
  // of fuel. `contained` and `witnessed` as in a frame.
  bool counts_possible(ArrayShape& shape, int64_t count, const std::vector<int64_t>& contained, uint64_t witnessed);
  // All values of a goal in canonical form, sorted, if they are few.
  const std::optional<std::vector<std::string>>& few_values(GoalId id);
  // For each of few_values() of a goal that has arrays or objects, the goal of this value alone; empty for other goals.
  const std::vector<GoalId>& value_goals(GoalId id);
  // Whether a goal has few values that are no strings, arrays or objects.
  bool few_scalars(GoalId id);
  size_t bytes() const;

 private:
  // One alternative for objects or arrays: all that has to hold.
  struct Case {
    ObjectRules object;
    ArrayRules array;
    // For unevaluated*: the nodes of this part of the schema whose keywords are for members or items.
    std::vector<SchemaId> scopes;
    std::vector<SchemaLiteral> contained;
  };
  using Cases = std::vector<Case>;

  RegexId language(SchemaLiteral literal, uint8_t type);
  RegexId positive_language(SchemaId id, uint8_t type);
  RegexId complement(RegexId language, uint8_t type);
  RegexId intersect(std::vector<RegexId> parts, uint8_t type);
  RegexId unite(std::vector<RegexId> parts, uint8_t type);
  RegexId top(uint8_t type);
  Cases expand(SchemaLiteral literal, uint8_t type);
  Cases expand_positive(SchemaId id, uint8_t type);
  Cases expand_negative(SchemaId id, uint8_t type);
  void negate_object(SchemaId id, Cases* out);
  Cases merge_clauses(Cases cases) const;
  std::optional<std::vector<ObjectRules::Clause>> clauses_of(const Case& c) const;
  static bool is_tautology(const ObjectRules::Clause& clause);
  static void add_clause(ObjectRules::Clause clause, std::vector<ObjectRules::Clause>* clauses);
  void set_clause(ObjectRules::Clause clause, ObjectRules* rules) const;
  void simplify(ObjectRules* rules);
  uint8_t types_of(SchemaId id);
  uint8_t types_of_goal(GoalId id);
  std::optional<bool> scalar_possible(GoalId id);
  enum class Verdict : int8_t { kOpen, kNever, kAlways };
  Verdict verdict(GoalId id, SchemaLiteral more);
  void negate_array(SchemaId id, Cases* out);
  Cases expand_goal(GoalId id, uint8_t type);
  Cases both(Cases a, const Cases& b);
  bool join(const Case& with, Case* c);
  static void add(Cases* a, Cases b) {
    a->insert(a->end(), std::make_move_iterator(b.begin()), std::make_move_iterator(b.end()));
  }
  static bool asks_for_nothing(const Case& c);  // of an array
  bool settled(size_t depth, size_t before);
  bool is_trivial(SchemaLiteral literal) const;
  // What an object has to have, and members that can be scalars only: as far as it is written down.
  struct Members {
    std::vector<std::string> required;  // sorted
    std::map<std::string, SchemaId> scalars;
  };
  const Members& members(SchemaId id);
  void add_members(SchemaId id, int depth, Members* out);
  // The values that a schema lists: no other value meets it.
  struct Listed {
    bool any = false;                 // whether it lists any
    bool exact = false;               // whether all of them meet it
    std::vector<std::string> values;  // in canonical form, sorted
  };
  const Listed& listed(SchemaId id);
  bool takes_empty_object(SchemaId id, int depth) const;
  bool says_no_more(const SchemaNode& n) const;
  bool told_apart(SchemaId a, SchemaId b);
  bool disjoint(SchemaId a, SchemaId b, uint8_t type);
  RegexId values_language(const SchemaNode& node, uint8_t type);
  ShapeId make_object(ObjectRules rules, PlaceId place);
  ShapeId make_array(ArrayRules rules, PlaceId place);
  bool object_possible(ObjectShape& shape);
  // Values by their canonical form.
  using Values = std::map<std::string, JsonNode>;
  std::optional<Values> enumerate(GoalId id);
  bool enumerate_objects(ObjectShape& shape, Values* out);
  bool enumerate_arrays(ArrayShape& shape, Values* out);
  bool meets(ObjectShape& shape, uint32_t name, const ObjectRules::Option& o);
  bool met_by_other(ObjectShape& shape, size_t clause, size_t option);
  bool array_possible(ArrayShape& shape);
  SchemaId property(SchemaId id, std::string_view name);  // kNoSchema: there is none of this name
  std::vector<SchemaLiteral> literals_of_name(const ObjectRules& rules, std::string_view name);
  void give_up(const std::string& what);
  std::string place_of(const ObjectRules& rules) const;

  std::shared_ptr<Schema> schema_;
  SchemaPlaces places_;
  Status status_;
  std::vector<std::vector<SchemaLiteral>> goals_;
  std::vector<PlaceId> goal_places_;
  struct LiteralsHash {
    size_t operator()(const std::vector<SchemaLiteral>& literals) const;
  };
  std::unordered_map<std::vector<SchemaLiteral>, GoalId, LiteralsHash> goal_ids_;
  std::map<std::pair<SchemaId, uint8_t>, RegexId> languages_;
  std::vector<std::pair<SchemaLiteral, uint8_t>> expanding_;
  size_t lowest_expanding_ = SIZE_MAX;  // of expanding_, that something rests on
  std::vector<std::unique_ptr<std::vector<ShapeId>>> assumed_shapes_;
  std::string loop_;  // a schema whose references lead back to it without a value between
  bool annotating_ = false;
  std::map<GoalId, RegexId> strings_, scalars_;
  std::map<GoalId, std::vector<ShapeId>> object_shapes_, array_shapes_;
  std::vector<std::unique_ptr<ObjectShape>> objects_;
  std::map<std::vector<uint32_t>, ShapeId> object_ids_;  // by what makes them
  std::map<std::string, uint32_t> name_ids_;
  std::vector<std::unique_ptr<ArrayShape>> arrays_;
  std::map<GoalId, bool> satisfiable_;
  std::unordered_map<SchemaId, uint8_t> types_;  // of types_of()
  std::unordered_map<uint64_t, Verdict> verdicts_;
  std::unordered_map<SchemaId, Members> members_;
  std::unordered_map<SchemaId, Listed> listed_;
  size_t following_ = 0;  // references within each other, in types_of() and listed()
  std::map<GoalId, std::optional<std::vector<std::string>>> few_values_;
  std::map<GoalId, std::vector<GoalId>> value_goals_;
  std::vector<GoalId> enumerating_;
  int enumerated_ = 0;                                                             // steps for the outermost goal
  std::map<SchemaId, std::unordered_map<std::string_view, SchemaId>> properties_;  // of schemas with many
  std::map<GoalId, bool> few_scalars_;
  std::vector<GoalId> open_;  // goals whose satisfiability is being asked
  size_t lowest_open_ = SIZE_MAX;
  std::map<GoalId, size_t> assumed_;  // found impossible, resting on goals that are still open; the outermost of these
  std::vector<GoalId> assumed_order_;
  int64_t given_up_ = 0;
};

}  // namespace decant
