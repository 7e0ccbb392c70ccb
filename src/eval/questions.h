// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Questions that decoding methods are compared on: Spec-Bench's (Xia et al. 2024, "Unlocking Efficiency in Large
// Language Model Inference"), 480 in six categories, or a file of one's own.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace decant {

struct Question {
  std::string id;
  std::string category;  // a row of the report; "" for none
  std::vector<std::string> turns;
  std::string place;  // "question.jsonl: line 3"
};

// The report's category of a category in Spec-Bench's file: MT-Bench's eight are "multi-turn", unknown ones "other".
std::string_view spec_bench_category(std::string_view category);

// All questions of Spec-Bench's file below the folder `data`, in its order. kNotFound without it; kCorrupt naming file,
// line and field for what is no question, and for an id that comes twice.
Result<std::vector<Question>> load_spec_bench(const std::string& data);
// The same for a text; `name` is for messages.
Result<std::vector<Question>> parse_spec_bench(std::string_view text, const std::string& name);

// Prompts of a file: one a line, or JSON lines with "prompt" or "turns" and perhaps "id" and "category" (if the name
// ends in .jsonl or the first line begins with a brace). Empty lines are skipped. `path` may be "-".
Result<std::vector<Question>> load_prompts(const std::string& path);
Result<std::vector<Question>> parse_prompts(std::string_view text, const std::string& name);

// `limit` of the questions, as evenly over their categories as these have questions, and evenly over each category; in
// the order of `questions`. 0: all.
std::vector<Question> spread(const std::vector<Question>& questions, int limit);

}  // namespace decant
