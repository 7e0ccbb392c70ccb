// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// JSON Schema as a constraint.
#pragma once

#include <memory>
#include <string>

#include "constrain/constraint.h"
#include "constrain/json_vocabulary.h"
#include "constrain/schema.h"

namespace decant {

// Guarantee: exact. A text that ends where accepting() says so is valid for the schema, and every valid JSON text with
// bounded white space (within it, in one place a blank, or a line end and 60 blanks) and with numbers written without
// an exponent where their value matters can be written. kCorrupt, kInvalidArgument (a wrong keyword, or no value is
// valid) and kUnsupported name the JSON pointer. `name` stands for the schema in messages.
Result<std::shared_ptr<Constraint>> compile_json_schema(std::string_view text, const std::string& name,
                                                        const SchemaOptions& options,
                                                        std::shared_ptr<const JsonVocabulary> vocabulary);

}  // namespace decant
