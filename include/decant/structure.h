// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// What an answer has to look like: JSON of a schema, a regular expression, a grammar, a choice, tool calls.
// docs/structured.md says what each promises.
//
//   auto structure = decant::CompiledStructure::compile(*model, decant::Structure::regex("[A-Z]{3}-\\d+"));
//   if (!structure.ok()) return fail(structure.status());
//   request.structure = *structure;
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "decant/model.h"
#include "decant/status.h"

namespace decant {

// How a schema is read; docs/structured.md has what each means.
struct JsonSchemaOptions {
  bool lenient = false;        // keywords that are not supported are left out, with a warning; else they are refused
  bool assert_formats = true;  // else `format` restricts nothing
  bool schema_order = false;   // members come in the order in which the schema's `properties` name them, others last
  // The text of the document at an address that a reference names, as it stands there or resolved against the $id
  // around it. Empty: references to other documents are refused. Called while the structure is compiled.
  std::function<Result<std::string>(const std::string& address)> resolver = {};
};

struct ToolCallOptions {
  bool required = false;  // calls only; else free text with calls in it
  std::string only;       // the function that is called; "": any
  // "hermes", "llama3", "mistral" or a JSON object (docs/structured.md); "": as the model's chat template shows calls.
  std::string format;
  JsonSchemaOptions schema = {};  // of the tools' parameters
};

// A description; nothing is checked before it is compiled. A value.
class Structure {
 public:
  // JSON that is valid for the schema. Schemas that hold together agree on assert_formats and schema_order.
  static Structure json_schema(std::string schema, JsonSchemaOptions options = {});
  static Structure json() { return json_schema("true"); }  // any JSON
  static Structure regex(std::string pattern);             // the whole answer matches it
  static Structure gbnf(std::string grammar);              // llama.cpp's notation, from the rule `root`
  static Structure lark(std::string grammar);              // Lark's notation, from the rule `start`
  static Structure choice(std::vector<std::string> texts);
  // `tools`: JSON, a list as in the OpenAI API. Not to be combined with others.
  static Structure tools(std::string tools, ToolCallOptions options = {});
  // What all parts allow; what the part does not allow (expressions, choices and schemas only).
  static Structure all_of(std::vector<Structure> parts);
  static Structure negated(Structure part);

 private:
  friend class CompiledStructure;
  struct Impl;
  explicit Structure(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
  std::shared_ptr<const Impl> impl_;
};

// Where a text stands. A value: any number of texts may go on from it.
class StructureState {
 public:
  StructureState() = default;

 private:
  friend class CompiledStructure;
  explicit StructureState(std::shared_ptr<const void> value) : value_(std::move(value)) {}
  std::shared_ptr<const void> value_;
};

// A structure for a model's vocabulary. A handle: copies share what is learned about masks. Thread-safe. Default made
// or moved from, it is empty: no structure.
class CompiledStructure {
 public:
  CompiledStructure() = default;
  // kInvalidArgument, kCorrupt and kUnsupported say where in the text something is wrong, and what.
  static Result<CompiledStructure> compile(const LanguageModel& model, const Structure& structure);

  bool empty() const { return impl_ == nullptr; }
  // What was left out or could not be decided; it may grow while answers are drawn.
  std::vector<std::string> warnings() const;

  // For loops of one's own; not to be called on an empty one. States are those of this structure.
  StructureState start() const;
  // One bit for each token that may come next, token 0 in the least bit of the first word. kExhausted if that takes too
  // much work.
  Result<std::vector<uint64_t>> allowed(const StructureState& state) const;
  // kInvalidArgument for a token that is not allowed.
  Result<StructureState> advance(const StructureState& state, TokenId token) const;
  // Whether the text may end here.
  bool may_end(const StructureState& state) const;
  // A text with which it could end: the shortest one of expressions and grammars; nullopt if none was found.
  std::optional<std::string> completion(const StructureState& state) const;

 private:
  friend class Session;
  struct Impl;
  explicit CompiledStructure(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
  std::shared_ptr<Impl> impl_;
};

}  // namespace decant
