// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Grammars, regular expressions and choices as constraints.
//
// Guarantee: exact. A token is in the mask just when some completion of the text exists with it, and the text may end
// just where it is in the language, as grammar.h says what that is. A text whose derivations need more than fixed
// limits fails to advance with kExhausted; where an intersection or complement (a look-ahead) hides whether anything
// matches and the search for it gives up, the mask may have tokens that lead nowhere, and warnings() says so.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "constrain/constraint.h"
#include "constrain/grammar.h"
#include "constrain/json_vocabulary.h"

namespace decant {

// kExhausted for a grammar whose first character needs more work than the limits allow.
Result<std::shared_ptr<Constraint>> make_grammar_constraint(CompiledGrammar grammar,
                                                            std::shared_ptr<const JsonVocabulary> vocabulary);

// `name` stands for the grammar in messages, which have line and column.
Result<std::shared_ptr<Constraint>> compile_gbnf(std::string_view text, const std::string& name,
                                                 std::shared_ptr<const JsonVocabulary> vocabulary);
Result<std::shared_ptr<Constraint>> compile_lark(std::string_view text, const std::string& name,
                                                 std::shared_ptr<const JsonVocabulary> vocabulary);
// The whole answer matches the pattern (RegexDialect::kFull). kInvalidArgument, too, if nothing does.
Result<std::shared_ptr<Constraint>> compile_pattern(std::string_view pattern, const std::string& name,
                                                    std::shared_ptr<const JsonVocabulary> vocabulary);
// The answer is one of the texts, which are not empty and UTF-8.
Result<std::shared_ptr<Constraint>> compile_choice(const std::vector<std::string>& texts, const std::string& name,
                                                   std::shared_ptr<const JsonVocabulary> vocabulary);

// For combinations. The alternation of the texts, checked as above; what constrains an answer to an expression of the
// grammar's pool, which has no rules yet.
Result<RegexId> choice_of(const std::vector<std::string>& texts, const std::string& name, RegexPool* pool);
Result<std::shared_ptr<Constraint>> constrain_to(RegexId id, Grammar grammar,
                                                 std::shared_ptr<const JsonVocabulary> vocabulary);

}  // namespace decant
