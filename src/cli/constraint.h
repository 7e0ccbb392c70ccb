// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// The options that say what an answer has to look like, as a constraint.
#pragma once

#include <memory>
#include <string>

#include "base/status.h"
#include "cli/options.h"
#include "constrain/constraint.h"
#include "constrain/schema.h"
#include "text/tokenizer.h"

namespace decant::cli {

// nullptr if nothing is asked for. Warnings go to stderr. `tools`: the text of the file that the options name, and
// `chat_template` that of the template, to find the format of calls in.
Result<std::shared_ptr<Constraint>> make_constraint(const ConstraintOptions& options, const Tokenizer& tokenizer,
                                                    const std::string& tools, const std::string& chat_template);

// Without a resolver.
SchemaOptions schema_options(const SchemaChoices& choices);

// Writes what could not be decided while the answer was drawn: warnings behind the first `known`.
void write_warnings(const Constraint& constraint, size_t known);

}  // namespace decant::cli
