// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Tool calls: a list of functions, as the OpenAI API has it, becomes structural tags in the format that a family of
// models was trained to write calls in.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "constrain/constraint.h"
#include "constrain/json_vocabulary.h"
#include "constrain/schema.h"
#include "constrain/tag_constraint.h"

namespace decant {

// How a model writes a call: `begin`, JSON with the name and the arguments of the function, `end`.
struct ToolFormat {
  std::string name;   // for people
  std::string begin;  // up to the JSON
  std::string end;    // behind it
  std::string name_key = "name", arguments_key = "arguments";
  bool is_list = false;   // one list of calls, behind which the answer ends
  bool is_fixed = false;  // the JSON is written in one way only, {"name": "f", "arguments": ...}, and begins the call
};

// "hermes" (Hermes, Qwen: <tool_call> ... </tool_call>), "llama3" ({"name": ..., "parameters": ...}) or "mistral"
// ([TOOL_CALLS][...]); or a JSON object with begin, end, name_key, arguments_key, is_list and is_fixed.
Result<ToolFormat> parse_tool_format(std::string_view text);
// The one that a chat template speaks of, by its markers.
std::optional<ToolFormat> detect_tool_format(std::string_view chat_template);

enum class ToolChoice {
  kAuto,      // free text, with calls in it
  kRequired,  // one call at least, and nothing else
};

// Control tokens of the vocabulary that occur in the format's begin or end.
std::vector<TagToken> tag_tokens(const ToolFormat& format, const Tokenizer& tokenizer);

struct ToolOptions {
  ToolFormat format;
  ToolChoice choice = ToolChoice::kAuto;
  std::string only;              // the name of the function that is called; "": any
  bool one_call = false;         // at most one, and nothing behind it
  std::vector<TagToken> tokens;  // control tokens that occur in the format's texts
  SchemaOptions schema = {};
};

// `text`: [{"type": "function", "function": {"name", "description", "parameters"}}, ...]; `parameters` is a JSON Schema
// and may be missing (no arguments). `name` stands for it in messages. kCorrupt, kInvalidArgument with the tool's
// place; all that compile_json_schema() refuses.
Result<std::shared_ptr<Constraint>> compile_tools(std::string_view text, const std::string& name,
                                                  const ToolOptions& options,
                                                  std::shared_ptr<const JsonVocabulary> vocabulary);

}  // namespace decant
