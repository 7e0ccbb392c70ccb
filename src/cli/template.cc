// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include <nlohmann/json.hpp>

#include "cli/common.h"
#include "cli/models.h"
#include "formats/gguf.h"
#include "model/checkpoint.h"
#include "text/chat.h"
#include "text/tokenizer.h"

namespace decant::cli {
namespace {

Result<Json> read_json(const std::string& file, const char* what) {
  DECANT_TRY(const std::string text, read_text({.text = {}, .file = file}, what));
  Json json = Json::parse(text, nullptr, false);
  if (json.is_discarded()) return Status::invalid_argument("{}: not JSON; expected the {}", file, what);
  return json;
}

// The parts of the conversation, from one file or several.
struct Conversation {
  Json messages, tools, documents, variables;
  bool generation_prompt = true;
};

Result<Conversation> read_conversation(const TemplateOptions& options) {
  Conversation out;
  DECANT_TRY(Json json, read_json(options.conversation, "messages"));
  if (json.is_object()) {
    for (auto& [name, value] : json.items()) {
      if (name == "messages") {
        out.messages = std::move(value);
      } else if (name == "tools") {
        out.tools = std::move(value);
      } else if (name == "documents") {
        out.documents = std::move(value);
      } else if (name == "chat_template_kwargs") {
        out.variables = std::move(value);
      } else if (name == "add_generation_prompt") {
        if (!value.is_boolean()) return Status::invalid_argument("add_generation_prompt: expected true or false");
        out.generation_prompt = value.get<bool>();
      } else {
        return Status::invalid_argument(
            "{}: '{}' is unknown; expected messages, tools, documents, chat_template_kwargs and add_generation_prompt",
            options.conversation, name);
      }
    }
  } else {
    out.messages = std::move(json);
  }
  if (!options.tools.empty()) {
    DECANT_TRY(out.tools, read_json(options.tools, "tools"));
  }
  if (!options.documents.empty()) {
    DECANT_TRY(out.documents, read_json(options.documents, "documents"));
  }
  if (!options.template_variables.empty()) {
    const Json more = Json::parse(options.template_variables, nullptr, false);  // checked with the options
    if (out.variables.is_null()) out.variables = Json::object();
    if (out.variables.is_object()) out.variables.update(more);
  }
  if (options.no_generation_prompt) out.generation_prompt = false;
  return out;
}

}  // namespace

Status render_template(const TemplateOptions& options) {
  DECANT_TRY(JsonReport report, JsonReport::open(options.json));
  DECANT_TRY(const Conversation conversation, read_conversation(options));
  std::shared_ptr<const Tokenizer> tokenizer;
  std::unique_ptr<ChatTemplate> chat;
  if (options.template_text) {
    ChatTemplate::Source source;
    source.text = *options.template_text;
    source.bos_token = options.bos_token;
    source.eos_token = options.eos_token;
    DECANT_TRY(chat, ChatTemplate::from_source(std::move(source)));
  } else {
    DECANT_TRY(const std::string path, resolve_model(options.model));
    DECANT_TRY(const GgufFile file, open_model(path));
    DECANT_TRY(tokenizer, Tokenizer::from_gguf(file));
    DECANT_TRY(chat, ChatTemplate::from_tokenizer(*tokenizer));
    if (chat == nullptr) return Status::unsupported("{}: the model has no chat template (a base model)", path);
  }
  const ChatInput input{.messages = &conversation.messages,
                        .tools = &conversation.tools,
                        .documents = &conversation.documents,
                        .variables = &conversation.variables,
                        .generation_prompt = conversation.generation_prompt,
                        .now = options.now};
  DECANT_TRY(const jinja::Text text, chat->render(input));
  if (report.wanted()) {
    Json json;
    json["text"] = text.bytes();
    Json& parts = json["parts"] = Json::array();
    size_t begin = 0;
    for (const jinja::Text::Run& run : text.runs()) {
      parts.push_back(
          {{"from", run.content ? "content" : "template"}, {"text", text.bytes().substr(begin, run.end - begin)}});
      begin = run.end;
    }
    if (tokenizer != nullptr) {
      DECANT_TRY(json["tokens"], chat->encode(input));
    }
    DECANT_TRY_STATUS(report.write(json));
    if (report.to_stdout()) return {};
  }
  return write_stdout(text.bytes());
}

}  // namespace decant::cli
