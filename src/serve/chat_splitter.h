// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// The text of a chat answer, as it comes, taken apart: reasoning, what is said, and calls of tools.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "constrain/tools.h"

namespace decant::serve {

struct ChatPiece {
  enum class Kind {
    kReasoning,
    kContent,
    kCall,       // a call begins: `text` is the function's name
    kArguments,  // a part of its arguments' JSON
  };
  Kind kind;
  std::string text;
  int call = 0;  // which one
};

struct ChatSplitterOptions {
  bool reasons = false;    // the model writes <think> ... </think>
  bool reasoning = false;  // it is in there from the start: the prompt ends with <think>
  std::optional<ToolFormat> tools;
};

// A value: a copy is a fork. What it gives depends only on the text, not on how it was cut.
class ChatSplitter {
 public:
  explicit ChatSplitter(ChatSplitterOptions options);

  void push(std::string_view text, std::vector<ChatPiece>* out);
  // The end of the text: what was held back comes out.
  void finish(std::vector<ChatPiece>* out);
  int calls() const { return calls_; }

 private:
  enum class State { kStart, kReasoning, kBehindReasoning, kText, kCallHead, kArguments, kCallEnd, kWholeCalls };

  bool step(bool last, std::vector<ChatPiece>* out);
  bool split_at(std::string_view mark, ChatPiece::Kind kind, State next, bool last, std::vector<ChatPiece>* out);
  void emit(ChatPiece::Kind kind, std::string text, std::vector<ChatPiece>* out);
  bool no_call(std::vector<ChatPiece>* out);
  bool read_head(std::vector<ChatPiece>* out);
  bool read_arguments(std::vector<ChatPiece>* out);
  bool read_whole_calls(bool last, std::vector<ChatPiece>* out);

  ChatSplitterOptions options_;
  std::string mark_;  // what a call begins with
  State state_ = State::kText;
  std::string held_;
  int calls_ = 0;
  bool behind_call_ = false;
  // Of the arguments.
  int depth_ = 0;
  bool in_string_ = false, escaped_ = false, begun_ = false;
};

}  // namespace decant::serve
