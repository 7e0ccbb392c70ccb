// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Decoding methods side by side: what `compare` and `eval spec-bench` share.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "cli/common.h"
#include "cli/options.h"

namespace decant::cli {

// "lookup, model(path=d.gguf, tree=rsd)@rsd": specs with commas between them, a verifier's behind an @. "plain" and
// "none" are left out, since plain decoding always takes part. kInvalidArgument for an empty list or part, and for
// what is listed twice.
Result<std::vector<MethodChoice>> parse_method_list(std::string_view text);

// Spec-Bench (eval/questions.h).
Status eval_spec_bench(const EvalOptions& options, JsonReport* report);

}  // namespace decant::cli
