// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "decant/structure.h"

#include "api/impl.h"
#include "constrain/tools.h"
#include "text/chat.h"

namespace decant {

using Kind = ConstraintSpec::Kind;

struct Structure::Impl {
  ConstraintSpec spec;
  bool is_tools = false;
  ToolCallOptions tools;
  bool has_tools = false;  // in a part

  static Impl leaf(Kind kind, std::string text, std::string name) {
    return {.spec = {.kind = kind, .text = std::move(text), .name = std::move(name)}};
  }
};

namespace {

SchemaOptions schema_options(const JsonSchemaOptions& options) {
  return {.lenient = options.lenient,
          .assert_formats = options.assert_formats,
          .property_order = options.schema_order ? PropertyOrder::kSchema : PropertyOrder::kAny,
          .resolver = options.resolver};
}

}  // namespace

Structure Structure::json_schema(std::string schema, JsonSchemaOptions options) {
  Impl impl = Impl::leaf(Kind::kJsonSchema, std::move(schema), "Structure::json_schema");
  impl.spec.schema = schema_options(options);
  return Structure(std::make_shared<const Impl>(std::move(impl)));
}
Structure Structure::regex(std::string pattern) {
  return Structure(std::make_shared<const Impl>(Impl::leaf(Kind::kPattern, std::move(pattern), "Structure::regex")));
}
Structure Structure::gbnf(std::string grammar) {
  return Structure(std::make_shared<const Impl>(Impl::leaf(Kind::kGbnf, std::move(grammar), "Structure::gbnf")));
}
Structure Structure::lark(std::string grammar) {
  return Structure(std::make_shared<const Impl>(Impl::leaf(Kind::kLark, std::move(grammar), "Structure::lark")));
}
Structure Structure::choice(std::vector<std::string> texts) {
  Impl impl = Impl::leaf(Kind::kChoice, "", "Structure::choice");
  impl.spec.choices = std::move(texts);
  return Structure(std::make_shared<const Impl>(std::move(impl)));
}
Structure Structure::tools(std::string tools, ToolCallOptions options) {
  Impl impl = Impl::leaf(Kind::kJsonSchema, std::move(tools), "Structure::tools");
  impl.is_tools = impl.has_tools = true;
  impl.tools = std::move(options);
  return Structure(std::make_shared<const Impl>(std::move(impl)));
}
Structure Structure::all_of(std::vector<Structure> parts) {
  Impl impl{.spec = {.kind = Kind::kAll}};
  for (const Structure& part : parts) {
    impl.spec.parts.push_back(part.impl_->spec);
    impl.has_tools |= part.impl_->has_tools;
  }
  return Structure(std::make_shared<const Impl>(std::move(impl)));
}
Structure Structure::negated(Structure part) {
  Impl impl{.spec = {.kind = Kind::kNot, .parts = {part.impl_->spec}}};
  impl.has_tools = part.impl_->has_tools;
  return Structure(std::make_shared<const Impl>(std::move(impl)));
}

Result<CompiledStructure> CompiledStructure::compile(const LanguageModel& model, const Structure& structure) {
  return guarded([&]() -> Result<CompiledStructure> {
    LanguageModel::Impl& m = *model.impl_;
    const Structure::Impl& description = *structure.impl_;
    const std::shared_ptr<const JsonVocabulary> vocabulary = m.vocabulary();
    std::shared_ptr<Constraint> constraint;
    if (!description.has_tools) {
      DECANT_TRY(constraint, compile_constraint(description.spec, vocabulary));
    } else if (!description.is_tools) {
      return Status::make(Code::kUnsupported, "Structure::tools is not combined with other structures");
    } else {
      ToolOptions options{.schema = schema_options(description.tools.schema)};
      if (!description.tools.format.empty()) {
        DECANT_TRY(options.format, parse_tool_format(description.tools.format));
      } else if (auto format = detect_tool_format(tool_template(*m.tokenizer))) {
        options.format = *std::move(format);
      } else {
        return Status::make(Code::kUnsupported,
                            "Structure::tools: the chat template does not show how the model writes calls; set "
                            "ToolCallOptions::format");
      }
      options.only = description.tools.only;
      if (description.tools.required) options.choice = ToolChoice::kRequired;
      options.tokens = tag_tokens(options.format, *m.tokenizer);
      DECANT_TRY(constraint, compile_tools(description.spec.text, description.spec.name, options, vocabulary));
    }
    return CompiledStructure(std::make_shared<Impl>(Impl{model.impl_, std::move(constraint)}));
  });
}

std::vector<std::string> CompiledStructure::warnings() const {
  return impl_ != nullptr ? impl_->constraint->warnings() : std::vector<std::string>();
}

StructureState CompiledStructure::start() const { return StructureState(impl_->constraint->start().shared()); }

Result<std::vector<uint64_t>> CompiledStructure::allowed(const StructureState& state) const {
  return guarded([&]() -> Result<std::vector<uint64_t>> {
    const ConstraintState own(state.value_);
    const std::span<const uint64_t> words = impl_->constraint->mask(own)->words();
    std::vector<uint64_t> bits(words.begin(), words.end());
    DECANT_TRY_STATUS(impl_->constraint->failure(own));
    return bits;
  });
}

Result<StructureState> CompiledStructure::advance(const StructureState& state, TokenId token) const {
  return guarded([&]() -> Result<StructureState> {
    DECANT_TRY(const ConstraintState next, impl_->constraint->advance(ConstraintState(state.value_), token));
    return StructureState(next.shared());
  });
}

bool CompiledStructure::may_end(const StructureState& state) const {
  return impl_->constraint->accepting(ConstraintState(state.value_));
}

std::optional<std::string> CompiledStructure::completion(const StructureState& state) const {
  return impl_->constraint->completion(ConstraintState(state.value_));
}

}  // namespace decant
