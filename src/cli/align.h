// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// decant run --align: many answers of one constraint, distributed as the model's among them.
#pragma once

#include <string_view>
#include <utility>
#include <vector>

#include "cli/common.h"
#include "cli/session.h"
#include "constrain/alignment.h"

namespace decant::cli {

// --align: "none", "asap" or "exact", with settings. kInvalidArgument for anything else.
Result<AlignChoice> parse_align(std::string_view text);

// Draws, prints each answer with a line end behind it, saves the trie and writes the report. The request has prompt,
// sampler and constraint.
Status run_aligned(const RunOptions& options, Session& session, GenerateRequest request, JsonReport* report);

// decant eval alignment.
Status eval_alignment(const EvalOptions& options, JsonReport* report);

}  // namespace decant::cli
