// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "text/chat.h"

#include <utility>

namespace decant {
namespace {

// A piece of the conversation: markers are the template's, contents are the user's.
struct Piece {
  std::string text;
  bool marker;
};
using Pieces = std::vector<Piece>;

// What Jinja's trim filter takes off: Python's ASCII white space (the rest of Unicode's is left, it is content).
std::string trimmed(const std::string& text) {
  constexpr const char* kSpace = " \t\n\r\v\f\x1c\x1d\x1e\x1f";
  const size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string::npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

class BuiltInTemplate : public ChatTemplate {
 public:
  BuiltInTemplate(const Tokenizer& tokenizer, std::string name, bool writes_bos)
      : tokenizer_(tokenizer), name_(std::move(name)), writes_bos_(writes_bos) {}

  std::string_view name() const override { return name_; }

  Result<std::vector<TokenId>> encode(const std::vector<ChatMessage>& messages, bool generation_prompt) const override {
    DECANT_TRY(const Pieces pieces, make(messages, generation_prompt));
    std::vector<TextPart> parts;
    for (const Piece& p : pieces) parts.push_back({p.text, p.marker});
    DECANT_TRY(std::vector<TokenId> tokens, tokenizer_.encode(parts, {.add_special = false}));
    if ((writes_bos_ || tokenizer_.adds_bos()) && tokenizer_.bos() != kNoToken)
      tokens.insert(tokens.begin(), tokenizer_.bos());
    return tokens;
  }

  Result<std::string> render(const std::vector<ChatMessage>& messages, bool generation_prompt) const override {
    DECANT_TRY(const Pieces pieces, make(messages, generation_prompt));
    std::string text;
    if (writes_bos_) text += tokenizer_.text(tokenizer_.bos());
    for (const Piece& p : pieces) text += p.text;
    return text;
  }

 protected:
  virtual Result<Pieces> make(const std::vector<ChatMessage>& messages, bool generation_prompt) const = 0;

  // One turn: marker, content, marker. Neighbouring markers are joined, so that a special token may not straddle
  // contents.
  static void add(Pieces* pieces, std::string marker, std::string content, std::string end) {
    if (!pieces->empty() && pieces->back().marker) {
      pieces->back().text += marker;
    } else {
      pieces->push_back({std::move(marker), true});
    }
    if (!content.empty()) pieces->push_back({std::move(content), false});
    pieces->push_back({std::move(end), true});
  }

  Status unknown_role(const std::string& role, std::string_view roles) const {
    return Status::invalid_argument("chat message: the role \"{}\" is unknown to the template {}; it has {}",
                                    role.substr(0, 80), name_, roles);
  }

 private:
  const Tokenizer& tokenizer_;
  std::string name_;
  bool writes_bos_;
};

// ChatML (OpenAI): every message between <|im_start|>role and <|im_end|>.
class ChatMl final : public BuiltInTemplate {
 public:
  ChatMl(const Tokenizer& tokenizer, std::string default_system)
      : BuiltInTemplate(tokenizer, "chatml", false), default_system_(std::move(default_system)) {}

 protected:
  Result<Pieces> make(const std::vector<ChatMessage>& messages, bool generation_prompt) const override {
    Pieces pieces;
    if (!default_system_.empty() && (messages.empty() || messages[0].role != "system")) {
      add(&pieces, "<|im_start|>system\n", default_system_, "<|im_end|>\n");
    }
    for (const ChatMessage& m : messages) {
      if (m.role != "system" && m.role != "user" && m.role != "assistant" && m.role != "tool") {
        return unknown_role(m.role, "system, user, assistant and tool");
      }
      add(&pieces, "<|im_start|>" + m.role + "\n", m.content, "<|im_end|>\n");
    }
    if (generation_prompt) add(&pieces, "<|im_start|>assistant\n", "", "");
    return pieces;
  }

 private:
  std::string default_system_;
};

// Gemma: turns of user and model in alternation; a system message leads the first turn.
class GemmaTurns final : public BuiltInTemplate {
 public:
  explicit GemmaTurns(const Tokenizer& tokenizer) : BuiltInTemplate(tokenizer, "gemma", true) {}

 protected:
  Result<Pieces> make(const std::vector<ChatMessage>& messages, bool generation_prompt) const override {
    Pieces pieces;
    std::string system;
    size_t turn = 0;
    for (size_t i = 0; i < messages.size(); ++i) {
      const ChatMessage& m = messages[i];
      if (m.role == "system" && i == 0) {
        system = m.content + "\n\n";
        continue;
      }
      if (m.role != "user" && m.role != "assistant")
        return unknown_role(m.role, "user and assistant in turn, and one system message at the start");
      if ((m.role == "user") != (turn % 2 == 0)) {
        return Status::invalid_argument(
            "chat message {}: the template gemma needs user and assistant in turn, beginning with user; this one is of "
            "{}",
            i, m.role);
      }
      add(&pieces, m.role == "user" ? "<start_of_turn>user\n" : "<start_of_turn>model\n",
          std::exchange(system, {}) + trimmed(m.content), "<end_of_turn>\n");
      ++turn;
    }
    if (generation_prompt) add(&pieces, "<start_of_turn>model\n", "", "");
    return pieces;
  }
};

// Llama 3: <|start_header_id|>role<|end_header_id|>, a blank line, the content, <|eot_id|>.
class Llama3Headers final : public BuiltInTemplate {
 public:
  explicit Llama3Headers(const Tokenizer& tokenizer) : BuiltInTemplate(tokenizer, "llama3", true) {}

 protected:
  Result<Pieces> make(const std::vector<ChatMessage>& messages, bool generation_prompt) const override {
    Pieces pieces;
    for (const ChatMessage& m : messages) {
      if (m.role != "system" && m.role != "user" && m.role != "assistant")
        return unknown_role(m.role, "system, user and assistant");
      add(&pieces, "<|start_header_id|>" + m.role + "<|end_header_id|>\n\n", trimmed(m.content), "<|eot_id|>");
    }
    if (generation_prompt) add(&pieces, "<|start_header_id|>assistant<|end_header_id|>\n\n", "", "");
    return pieces;
  }
};

// The system message that a ChatML template writes when the conversation has none, or "": the literal text after
// "<|im_start|>system" (a line break may be written as \n).
std::string default_system_of(std::string_view source) {
  constexpr std::string_view kOpen = "<|im_start|>system";
  constexpr std::string_view kClose = "<|im_end|>";
  for (size_t at = source.find(kOpen); at != std::string_view::npos; at = source.find(kOpen, at + 1)) {
    std::string_view rest = source.substr(at + kOpen.size());
    if (rest.starts_with("\\n")) {
      rest.remove_prefix(2);
    } else if (rest.starts_with("\n")) {
      rest.remove_prefix(1);
    } else {
      continue;
    }
    const std::string_view text = rest.substr(0, rest.find(kClose));
    if (text.size() == rest.size() || text.empty() || text.find_first_of("{}'\"+\\") != std::string_view::npos)
      continue;
    return std::string(text);
  }
  return {};
}

bool has(std::string_view source, std::string_view text) { return source.find(text) != std::string_view::npos; }

}  // namespace

Result<std::unique_ptr<ChatTemplate>> ChatTemplate::from_tokenizer(const Tokenizer& tokenizer) {
  const std::string& source = tokenizer.chat_template();
  if (source.empty()) return std::unique_ptr<ChatTemplate>();
  const auto knows = [&](std::initializer_list<std::string_view> markers) {
    for (const std::string_view m : markers) {
      if (!has(source, m) || tokenizer.find(m) == kNoToken) return false;
    }
    return true;
  };
  if (knows({"<|im_start|>", "<|im_end|>"}))
    return std::unique_ptr<ChatTemplate>(new ChatMl(tokenizer, default_system_of(source)));
  if (knows({"<start_of_turn>", "<end_of_turn>"})) return std::unique_ptr<ChatTemplate>(new GemmaTurns(tokenizer));
  // Llama 3.1 and later write a date into every conversation, which only the template itself can say.
  if (knows({"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"}) && !has(source, "Cutting Knowledge Date")) {
    return std::unique_ptr<ChatTemplate>(new Llama3Headers(tokenizer));
  }
  std::string begin = source.substr(0, 60);
  for (char& c : begin) c = c == '\n' || c == '\r' ? ' ' : c;
  return Status::unsupported(
      "tokenizer.chat_template: Decant has ChatML, Gemma's and Llama 3's templates built in, and this is none of them "
      "(\"{}...\"); use --raw",
      begin);
}

}  // namespace decant
