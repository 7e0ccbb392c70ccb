// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// What an answer has to be, as users say it: a schema, an expression, a grammar, a choice, several of them together, or
// not one of them; and how that becomes one constraint.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "constrain/constraint.h"
#include "constrain/json_vocabulary.h"
#include "constrain/schema.h"

namespace decant {

struct ConstraintSpec {
  enum class Kind {
    kJsonSchema,  // `text`: JSON that is valid for it
    kPattern,     // `text`: a regular expression that the whole answer matches
    kGbnf,        // `text`
    kLark,        // `text`
    kChoice,      // one of `choices`
    kAll,         // what all `parts` allow
    kNot,         // what the only one of `parts` does not allow. Of a schema: JSON that is not valid for it
  };
  Kind kind = Kind::kJsonSchema;
  std::string text;
  std::string name;  // stands for the text in messages
  std::vector<std::string> choices;
  std::vector<ConstraintSpec> parts;
  SchemaOptions schema = {};  // kJsonSchema
};

// Parts that are expressions and choices become one expression, and schemas one schema, with all that is promised of
// those. What remains is followed side by side (product_constraint.h). kUnsupported for what is not regular and no
// schema under kNot; kInvalidArgument if nothing is allowed, as far as that is known.
Result<std::shared_ptr<Constraint>> compile_constraint(const ConstraintSpec& spec,
                                                       std::shared_ptr<const JsonVocabulary> vocabulary);

}  // namespace decant
