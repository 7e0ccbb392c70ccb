// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Chat templates: the Jinja text that a model file carries (text/jinja.h), run on a conversation as Hugging Face
// transformers runs it.
//
// What comes out is encoded so that a user cannot forge a turn: special tokens are recognized only where the template
// itself wrote all of their characters. All strings of the conversation, the tools, the documents and the further
// variables count as the user's, whatever the template does to them, except
//   - the texts of the beginning and end tokens (bos_token, eos_token), which are the model's;
//   - the role of a message when it is one of the usual role names (system, user, assistant, tool, developer, ...),
//     because templates write "<|" + role + "|>".
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"
#include "text/jinja.h"
#include "text/tokenizer.h"

namespace decant {

struct ChatMessage {
  std::string role;  // "system", "user", "assistant", or what else the template knows
  std::string content;
};

// A conversation with all that templates know, as JSON with the names of the OpenAI API. nullptr: not given. The values
// must outlive the call.
struct ChatInput {
  using Json = nlohmann::ordered_json;

  // A list of objects: role, content (a string or a list of parts), and as the template has it tool_calls,
  // tool_call_id, name, reasoning_content, ... An argument list of a tool call is an object here; templates differ on
  // strings.
  const Json* messages = nullptr;
  const Json* tools = nullptr;      // a list of {"type": "function", "function": {name, description, parameters}}
  const Json* documents = nullptr;  // a list of {title, text}
  const Json* variables = nullptr;  // an object: further variables of the template, such as enable_thinking
  bool generation_prompt = true;    // end where the assistant's answer begins
  std::optional<int64_t> now;       // the clock of strftime_now(), seconds since 1970 as UTC; without it: local time
};

// The text of the template that tools would be put in: of several the one named "tool_use".
const std::string& tool_template(const Tokenizer& tokenizer);

class ChatTemplate {
 public:
  // Where the templates of a model come from.
  struct Source {
    std::string text;                                        // the default template, or ""
    std::vector<std::pair<std::string, std::string>> named;  // name and text: "tool_use", "rag", ...
    std::string bos_token, eos_token;                        // as the vocabulary spells them; "": the model has none
  };

  // The template of the model, or nullptr if the file has none; with `replacement` that text in its place. The
  // tokenizer must outlive the template. kCorrupt or kUnsupported for a text that is no template, or needs what Decant
  // lacks.
  static Result<std::unique_ptr<ChatTemplate>> from_tokenizer(const Tokenizer& tokenizer,
                                                              const std::string* replacement = nullptr);
  // A template without a vocabulary: it renders and does not encode.
  static Result<std::unique_ptr<ChatTemplate>> from_source(Source source);

  // What kind it is, by its markers, for display: "chatml", "gemma", "llama3", ... or "jinja".
  std::string_view name() const { return name_; }

  // The text, with its origins. Of several templates "tool_use" is taken when there are tools, else the default.
  // kInvalidArgument with the template's own words when it refuses the conversation, kExhausted when it does not end or
  // wants too much memory; a message names the line of the template.
  Result<jinja::Text> render(const ChatInput& input) const;
  Result<std::string> render(const std::vector<ChatMessage>& messages, bool generation_prompt) const;

  // The same as tokens. BOS is put in front when the model asks for it and the template has not written it.
  // kInvalidArgument without a vocabulary.
  Result<std::vector<TokenId>> encode(const ChatInput& input) const;
  Result<std::vector<TokenId>> encode(const std::vector<ChatMessage>& messages, bool generation_prompt) const;

 private:
  ChatTemplate() = default;
  Result<const jinja::Template*> choose(const ChatInput& input) const;

  const Tokenizer* tokenizer_ = nullptr;
  std::string name_;
  std::string bos_token_, eos_token_;
  std::optional<jinja::Template> default_;
  std::vector<std::pair<std::string, jinja::Template>> named_;
};

}  // namespace decant
