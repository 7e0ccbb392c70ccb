// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Chat templates. The template that the model file carries selects one of the built-in renderings (ChatML with
// SmolLM2's default system message, Gemma's turns); an unknown template is refused by name.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "text/tokenizer.h"

namespace decant {

struct ChatMessage {
  std::string role;  // "system", "user" or "assistant"
  std::string content;
};

class ChatTemplate {
 public:
  // The template of the model, or nullptr if the file has none. kUnsupported if it has one that Decant cannot render.
  static Result<std::unique_ptr<ChatTemplate>> from_tokenizer(const Tokenizer& tokenizer);
  virtual ~ChatTemplate() = default;

  virtual std::string_view name() const = 0;
  // Tokens of the conversation, message contents encoded with special parsing off (a user cannot forge a turn), markers
  // as control tokens, BOS where the template has one; with `generation_prompt` ends where the assistant's answer
  // begins. kInvalidArgument for a role or an order of roles that the template does not know.
  virtual Result<std::vector<TokenId>> encode(const std::vector<ChatMessage>& messages,
                                              bool generation_prompt) const = 0;
  // The same as text (for display and tests).
  virtual Result<std::string> render(const std::vector<ChatMessage>& messages, bool generation_prompt) const = 0;
};

}  // namespace decant
