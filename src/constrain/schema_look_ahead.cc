// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// What is refused only when it is met, found before an answer begins.
#include <algorithm>
#include <set>

#include "constrain/schema_language.h"

namespace decant {
namespace {

constexpr size_t kMaxGoals = 2000;   // looked at
constexpr double kManyCases = 200;   // alternatives from which on a schema is looked at
constexpr size_t kManyParts = 6;     // of an anyOf beside unevaluated*, likewise
constexpr size_t kManyPatterns = 6;  // of which all subsets make goals

// About how many alternatives for arrays or objects the schema has, as a sum of products; branches of oneOf count as if
// they excluded each other. Schemas that refer to themselves count once.
class CaseCount {
 public:
  explicit CaseCount(const Schema& schema) : schema_(schema), counts_(schema.size(), kUnknown) {}

  double of(SchemaId id) {
    double& count = counts_[static_cast<size_t>(id)];
    if (count != kUnknown) return count;
    count = 1;  // while it is open
    const SchemaNode& n = schema_.node(id);
    if (++depth_ > kMaxDepth) {
      --depth_;
      return 1;
    }
    double product = n.ref != kNoSchema ? of(n.ref) : 1;
    const auto structured = std::count_if(n.values.begin(), n.values.end(),
                                          [](const JsonNode* v) { return v->is_object() || v->is_array(); });
    if (structured > 1) product *= static_cast<double>(structured);
    for (const SchemaId s : n.all_of) product *= of(s);
    for (const std::vector<SchemaId>* parts : {&n.any_of, &n.one_of}) {
      double sum = 0;
      for (const SchemaId s : *parts) sum += of(s);
      if (!parts->empty()) product *= sum;
    }
    if (n.if_ != kNoSchema)
      product *= (n.then_ != kNoSchema ? of(n.then_) : 1) + (n.else_ != kNoSchema ? of(n.else_) : 1);
    for (const auto& [name, s] : n.dependent_schemas) product *= 1 + of(s);
    --depth_;
    return count = std::min(product, 1e9);
  }

 private:
  static constexpr double kUnknown = -1;
  static constexpr int kMaxDepth = 1000;
  const Schema& schema_;
  std::vector<double> counts_;
  int depth_ = 0;
};

// Whether something in the schema may be refused late.
class Risk {
 public:
  explicit Risk(const Schema& schema) : schema_(schema), met_(schema.size()) {}

  bool found() {
    CaseCount cases(schema_);
    const auto size = static_cast<SchemaId>(schema_.size());
    bool evaluates = false, many_parts = false, has_no_opposite = false;
    for (SchemaId id = 0; id < size; ++id) {
      const SchemaNode& n = schema_.node(id);
      const bool unevaluated = n.unevaluated_items != kNoSchema || n.unevaluated_properties != kNoSchema;
      evaluates = evaluates || unevaluated;
      has_no_opposite = has_no_opposite || unevaluated || n.unique_items;
      many_parts = many_parts || n.any_of.size() > kManyParts;
      if (n.pattern_properties.size() > 60 || cases.of(id) > kManyCases) return true;
    }
    if (evaluates && many_parts) return true;
    if (!has_no_opposite) return false;
    // What may be negated, and all within it.
    for (SchemaId id = 0; id < size; ++id) {
      const SchemaNode& n = schema_.node(id);
      add(n.not_);
      if (n.then_ != kNoSchema || n.else_ != kNoSchema) add(n.if_);
      if (n.one_of.size() > 1) add(n.one_of);
      if (n.max_contains != INT64_MAX) add(n.contains);
    }
    while (!open_.empty()) {
      const SchemaNode& n = schema_.node(open_.back());
      open_.pop_back();
      if (n.unique_items || n.unevaluated_items != kNoSchema || n.unevaluated_properties != kNoSchema) return true;
      for (const SchemaId s : {n.ref, n.not_, n.if_, n.then_, n.else_, n.items, n.contains, n.additional_properties})
        add(s);
      for (const std::vector<SchemaId>* list : {&n.all_of, &n.any_of, &n.one_of, &n.prefix_items}) add(*list);
      for (const auto& [name, s] : n.properties) add(s);
      for (const auto& [pattern, s] : n.pattern_properties) add(s);
      for (const auto& [name, s] : n.dependent_schemas) add(s);
    }
    return false;
  }

 private:
  void add(SchemaId id) {
    if (id == kNoSchema || met_[static_cast<size_t>(id)]) return;
    met_[static_cast<size_t>(id)] = true;
    open_.push_back(id);
  }
  void add(const std::vector<SchemaId>& ids) {
    for (const SchemaId id : ids) add(id);
  }

  const Schema& schema_;
  std::vector<bool> met_;
  std::vector<SchemaId> open_;
};

}  // namespace

const Status& SchemaLanguage::look_ahead() {
  if (!Risk(*schema_).found()) return status();
  std::vector<GoalId> goals = {root_goal()};
  std::set<GoalId> met(goals.begin(), goals.end());
  const auto add = [&](GoalId id) {
    if (goals.size() < kMaxGoals && met.insert(id).second) goals.push_back(id);
  };
  for (size_t at = 0; at < goals.size() && status().ok(); ++at) {
    const GoalId id = goals[at];
    for (const ShapeId s : std::vector<ShapeId>(objects(id))) {
      ObjectShape& shape = object(s);
      if (!object_possible(shape)) continue;
      std::vector<GoalId> values = shape.goals;
      values.push_back(other_goal(shape, 0, places_.member(shape.place, "")));
      for (size_t i = 0; i < std::min(shape.patterns.size(), kManyPatterns); ++i)
        values.push_back(other_goal(shape, uint64_t{1} << i));
      for (const GoalId value : values) add(value);
      for (size_t c = 0; c < shape.rules.clauses.size(); ++c) {
        for (size_t k = 0; k < shape.rules.clauses[c].size(); ++k) {
          const ObjectRules::Option& o = shape.rules.clauses[c][k];
          if (o.value.schema == kNoSchema || o.kind == ObjectRules::Option::Kind::kName) continue;
          if (o.kind == ObjectRules::Option::Kind::kMember) {
            add(goal_with(shape.goals[shape.clause_names[c][k]], {o.value}));
          } else {
            for (const GoalId value : values) add(goal_with(value, {o.value}));
          }
        }
      }
    }
    for (const ShapeId s : std::vector<ShapeId>(arrays(id))) {
      ArrayShape& shape = array(s);
      if (!array_possible(shape)) continue;
      for (size_t i = 0; i < shape.goals.size(); ++i) {
        if (static_cast<int64_t>(i) >= shape.rules.max) break;
        add(shape.goals[i]);
        for (const ArrayRules::Contains& c : shape.rules.contains) {
          add(goal_with(shape.goals[i], {c.value}));
          if (c.max != INT64_MAX) add(goal_with(shape.goals[i], {{c.value.schema, !c.value.negative}}));
        }
        for (const ArrayRules::Witness& w : shape.rules.witnesses) add(goal_with(shape.goals[i], {w.value}));
      }
    }
  }
  return status();
}

}  // namespace decant
