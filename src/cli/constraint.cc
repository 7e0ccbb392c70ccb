// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "cli/constraint.h"

#include "base/mapped_file.h"
#include "cli/common.h"
#include "constrain/compile.h"
#include "constrain/lark.h"
#include "constrain/schema_folder.h"
#include "constrain/tools.h"

namespace decant::cli {
namespace {

using Kind = ConstraintSpec::Kind;

// The value of an option that takes a file or the text itself; `spec->name` becomes what stands for it in messages.
Status read_source(const char* option, const std::string& value, bool is_text, ConstraintSpec* spec) {
  spec->name = is_text ? option : value;
  if (is_text) {
    spec->text = value;
    return {};
  }
  Result<std::string> read = read_file(value);
  if (!read.ok()) return std::move(read).status().with_context(option);
  spec->text = *std::move(read);
  return {};
}

std::string folder_of(const std::string& file) {
  const size_t slash = file.rfind('/');
  return slash == std::string::npos ? "." : file.substr(0, slash + 1);
}

// If it begins as a schema does it is one, else a file of that name.
Result<ConstraintSpec> schema_spec(const std::string& value, const SchemaChoices& choices) {
  const size_t first = value.find_first_not_of(" \t\r\n");
  const bool is_text = first != std::string::npos && (value[first] == '{' || value == "true" || value == "false");
  ConstraintSpec spec{.kind = Kind::kJsonSchema, .schema = schema_options(choices)};
  DECANT_TRY_STATUS(read_source("--json-schema", value, is_text, &spec));
  std::string folder = choices.folder;
  if (folder.empty() && !is_text && value != "-") folder = folder_of(value);
  if (!folder.empty()) spec.schema.resolver = schema_folder(std::move(folder), spec.text);
  return spec;
}

Result<ConstraintSpec> grammar_spec(const std::string& value) {
  const bool is_text = value.find("::=") != std::string::npos || looks_like_lark(value);
  ConstraintSpec spec{.kind = Kind::kGbnf};
  DECANT_TRY_STATUS(read_source("--grammar", value, is_text, &spec));
  const bool is_lark_file = !is_text && value.ends_with(".lark");
  const bool is_gbnf_file = !is_text && value.ends_with(".gbnf");
  if (is_lark_file || (!is_gbnf_file && looks_like_lark(spec.text))) spec.kind = Kind::kLark;
  return spec;
}

std::shared_ptr<const JsonVocabulary> vocabulary_of(const Tokenizer& tokenizer) {
  return std::make_shared<const JsonVocabulary>(std::make_shared<const TokenTrie>(tokenizer));
}

ConstraintSpec negated(ConstraintSpec spec) { return {.kind = Kind::kNot, .parts = {std::move(spec)}}; }

Result<std::shared_ptr<Constraint>> tool_constraint(const ConstraintOptions& options, const Tokenizer& tokenizer,
                                                    const std::string& tools, const std::string& chat_template) {
  ToolOptions tool_options{.schema = schema_options(options.schema)};
  const std::string folder = options.schema.folder.empty() ? folder_of(options.tools) : options.schema.folder;
  tool_options.schema.resolver = schema_folder(folder, "");
  if (!options.tool_format.empty()) {
    Result<ToolFormat> format = parse_tool_format(options.tool_format);
    if (!format.ok()) return std::move(format).status().with_context("--tool-format");
    tool_options.format = *std::move(format);
  } else if (std::optional<ToolFormat> format = detect_tool_format(chat_template)) {
    tool_options.format = *std::move(format);
  } else {
    return Status::unsupported(
        "--tools: the chat template does not show how the model writes calls; say it with --tool-format");
  }
  if (options.tool_choice != "auto") tool_options.choice = ToolChoice::kRequired;
  if (options.tool_choice != "auto" && options.tool_choice != "required") tool_options.only = options.tool_choice;
  tool_options.tokens = tag_tokens(tool_options.format, tokenizer);
  return compile_tools(tools, options.tools, tool_options, vocabulary_of(tokenizer));
}

}  // namespace

SchemaOptions schema_options(const SchemaChoices& choices) {
  return {.lenient = choices.lenient,
          .assert_formats = choices.assert_formats.value_or(true),
          .property_order = choices.property_order.value_or(PropertyOrder::kAny)};
}

Result<std::shared_ptr<Constraint>> make_constraint(const ConstraintOptions& options, const Tokenizer& tokenizer,
                                                    const std::string& tools, const std::string& chat_template) {
  if (!options.tools.empty() && options.tool_choice != "none") {
    DECANT_TRY(std::shared_ptr<Constraint> constraint, tool_constraint(options, tokenizer, tools, chat_template));
    write_warnings(*constraint, 0);
    return constraint;
  }
  ConstraintSpec all{.kind = Kind::kAll};
  for (const std::string& value : options.json_schemas) {
    DECANT_TRY(ConstraintSpec spec, schema_spec(value, options.schema));
    all.parts.push_back(std::move(spec));
  }
  for (const std::string& pattern : options.patterns) {
    all.parts.push_back({.kind = Kind::kPattern, .text = pattern, .name = "--regex"});
  }
  for (const std::string& value : options.grammars) {
    DECANT_TRY(ConstraintSpec spec, grammar_spec(value));
    all.parts.push_back(std::move(spec));
  }
  if (!options.choices.empty())
    all.parts.push_back({.kind = Kind::kChoice, .name = "--choice", .choices = options.choices});
  for (const std::string& pattern : options.not_patterns) {
    all.parts.push_back(negated({.kind = Kind::kPattern, .text = pattern, .name = "--not-regex"}));
  }
  if (!options.not_choices.empty()) {
    all.parts.push_back(negated({.kind = Kind::kChoice, .name = "--not-choice", .choices = options.not_choices}));
  }
  if (all.parts.empty()) return std::shared_ptr<Constraint>();
  DECANT_TRY(std::shared_ptr<Constraint> constraint,
             compile_constraint(all.parts.size() == 1 ? all.parts[0] : all, vocabulary_of(tokenizer)));
  write_warnings(*constraint, 0);
  return constraint;
}

void write_warnings(const Constraint& constraint, size_t known) {
  const std::vector<std::string> warnings = constraint.warnings();
  for (size_t i = known; i < warnings.size(); ++i) write_note("warning: " + warnings[i]);
}

}  // namespace decant::cli
