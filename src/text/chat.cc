// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "text/chat.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

namespace decant {
namespace {

using Json = nlohmann::ordered_json;

// The first whose marker the text holds.
std::string_view kind_of(std::string_view source) {
  struct Marker {
    std::string_view text, name;
  };
  static constexpr Marker kMarkers[] = {
      {"<|im_start|>", "chatml"},
      {"<start_of_turn>", "gemma"},
      {"<|start_header_id|>", "llama3"},
      {"<|channel|>", "harmony"},
      {"<|start_of_role|>", "granite"},
      {"<|START_OF_TURN_TOKEN|>", "command-r"},
      {"<\xEF\xBD\x9CUser\xEF\xBD\x9C>", "deepseek"},
      {"<|assistant|>", "phi3"},
      {"[INST]", "llama2"},
  };
  for (const Marker& m : kMarkers) {
    if (source.find(m.text) != std::string_view::npos) return m.name;
  }
  return "jinja";
}

Json as_json(const std::vector<ChatMessage>& messages) {
  Json list = Json::array();
  for (const ChatMessage& m : messages) list.push_back({{"role", m.role}, {"content", m.content}});
  return list;
}

}  // namespace

Result<std::unique_ptr<ChatTemplate>> ChatTemplate::from_source(Source source) {
  std::unique_ptr<ChatTemplate> chat(new ChatTemplate);
  const auto compile = [](const std::string& name, const std::string& text) {
    Result<jinja::Template> compiled = jinja::Template::compile(text);
    if (compiled.ok()) return compiled;
    return Result<jinja::Template>(std::move(compiled).status().with_context(
        name.empty() ? "tokenizer.chat_template" : "tokenizer.chat_template." + name));
  };
  if (!source.text.empty()) {
    DECANT_TRY(chat->default_, compile("", source.text));
  }
  for (const auto& [name, text] : source.named) {
    DECANT_TRY(jinja::Template compiled, compile(name, text));
    chat->named_.emplace_back(name, std::move(compiled));
  }
  chat->name_ = kind_of(source.text.empty() && !source.named.empty() ? source.named[0].second : source.text);
  chat->bos_token_ = std::move(source.bos_token);
  chat->eos_token_ = std::move(source.eos_token);
  return chat;
}

const std::string& tool_template(const Tokenizer& tokenizer) {
  for (const auto& [name, text] : tokenizer.named_chat_templates()) {
    if (name == "tool_use") return text;
  }
  return tokenizer.chat_template();
}

Result<std::unique_ptr<ChatTemplate>> ChatTemplate::from_tokenizer(const Tokenizer& tokenizer,
                                                                   const std::string* replacement) {
  Source source;
  if (replacement != nullptr) {
    source.text = *replacement;
  } else {
    source.text = tokenizer.chat_template();
    source.named = tokenizer.named_chat_templates();
    if (source.text.empty() && source.named.empty()) return std::unique_ptr<ChatTemplate>();
  }
  if (tokenizer.bos() != kNoToken) source.bos_token = tokenizer.text(tokenizer.bos());
  if (tokenizer.eos() != kNoToken) source.eos_token = tokenizer.text(tokenizer.eos());
  DECANT_TRY(std::unique_ptr<ChatTemplate> chat, from_source(std::move(source)));
  chat->tokenizer_ = &tokenizer;
  return chat;
}

Result<const jinja::Template*> ChatTemplate::choose(const ChatInput& input) const {
  const auto named = [&](std::string_view name) -> const jinja::Template* {
    for (const auto& [n, t] : named_) {
      if (n == name) return &t;
    }
    return nullptr;
  };
  const jinja::Template* chosen = nullptr;
  if (input.tools != nullptr && !input.tools->is_null()) chosen = named("tool_use");
  if (chosen == nullptr && default_) chosen = &*default_;
  if (chosen == nullptr) chosen = named("default");
  if (chosen == nullptr && default_ == std::nullopt && named_.empty()) {
    static const Result<jinja::Template> empty = jinja::Template::compile("");
    if (empty.ok()) chosen = &*empty;
  }
  if (chosen == nullptr) {
    std::string names;
    for (const auto& [n, t] : named_) names += (names.empty() ? "" : ", ") + n;
    return Status::invalid_argument("the model has no default chat template, only: {}; give one with --chat-template",
                                    names);
  }
  return chosen;
}

Result<jinja::Text> ChatTemplate::render(const ChatInput& input) const {
  if (input.messages == nullptr || !input.messages->is_array())
    return Status::invalid_argument("messages: expected a list of messages");
  for (size_t i = 0; i < input.messages->size(); ++i) {
    const Json& m = (*input.messages)[i];
    if (!m.is_object()) return Status::invalid_argument("messages[{}]: expected an object with role and content", i);
    if (!m.contains("role") || !m["role"].is_string())
      return Status::invalid_argument("messages[{}]: the role is missing", i);
  }
  if (input.tools != nullptr && !input.tools->is_null() && !input.tools->is_array())
    return Status::invalid_argument("tools: expected a list of tools");
  DECANT_TRY(const jinja::Template* chosen, choose(input));

  const Json none, prompt = input.generation_prompt, bos = bos_token_, eos = eos_token_;
  using jinja::Origin;
  std::vector<jinja::Variable> variables;
  const auto set = [&](std::string_view name, const Json* value, Origin origin) {
    const auto old =
        std::find_if(variables.begin(), variables.end(), [&](const jinja::Variable& v) { return v.name == name; });
    const jinja::Variable variable{name, value, origin};
    if (old == variables.end()) {
      variables.push_back(variable);
    } else {
      *old = variable;
    }
  };
  if (!bos_token_.empty()) set("bos_token", &bos, Origin::kTemplate);
  if (!eos_token_.empty()) set("eos_token", &eos, Origin::kTemplate);
  set("messages", input.messages, Origin::kMessages);
  set("tools", input.tools != nullptr ? input.tools : &none, Origin::kContent);
  set("documents", input.documents != nullptr ? input.documents : &none, Origin::kContent);
  set("add_generation_prompt", &prompt, Origin::kContent);
  if (input.variables != nullptr) {
    if (!input.variables->is_object() && !input.variables->is_null())
      return Status::invalid_argument("variables of the chat template: expected an object");
    for (const auto& [name, value] : input.variables->items()) {
      if (name == "messages") return Status::invalid_argument("variables of the chat template: 'messages' is taken");
      set(name, &value, Origin::kContent);
    }
  }
  Result<jinja::Text> text = chosen->render(variables, {.limits = {}, .now = input.now});
  if (!text.ok()) return std::move(text).status().with_context("chat template");
  return text;
}

Result<std::string> ChatTemplate::render(const std::vector<ChatMessage>& messages, bool generation_prompt) const {
  const Json list = as_json(messages);
  DECANT_TRY(const jinja::Text text, render({.messages = &list, .generation_prompt = generation_prompt}));
  return text.bytes();
}

Result<std::vector<TokenId>> ChatTemplate::encode(const ChatInput& input) const {
  if (tokenizer_ == nullptr) return Status::invalid_argument("this chat template has no vocabulary to encode with");
  DECANT_TRY(const jinja::Text text, render(input));
  std::vector<TextPart> parts;
  size_t begin = 0;
  for (const jinja::Text::Run& run : text.runs()) {
    parts.push_back({std::string_view(text.bytes()).substr(begin, run.end - begin), !run.content});
    begin = run.end;
  }
  DECANT_TRY(std::vector<TokenId> tokens, tokenizer_->encode(parts, {.add_special = false}));
  const TokenId bos = tokenizer_->bos();
  if (tokenizer_->adds_bos() && bos != kNoToken && (tokens.empty() || tokens[0] != bos)) {
    tokens.insert(tokens.begin(), bos);
  }
  return tokens;
}

Result<std::vector<TokenId>> ChatTemplate::encode(const std::vector<ChatMessage>& messages,
                                                  bool generation_prompt) const {
  const Json list = as_json(messages);
  return encode({.messages = &list, .generation_prompt = generation_prompt});
}

}  // namespace decant
