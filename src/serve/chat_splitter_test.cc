// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "serve/chat_splitter.h"

#include <gtest/gtest.h>

namespace decant::serve {
namespace {

// "reasoning[..] content[..] call:name[..]"
std::string shown(const std::vector<ChatPiece>& pieces) {
  std::string text;
  const ChatPiece* before = nullptr;
  for (const ChatPiece& piece : pieces) {
    if (piece.kind == ChatPiece::Kind::kCall) {
      text += "|call " + std::to_string(piece.call) + " " + piece.text + ":";
    } else {
      if (before == nullptr || before->kind != piece.kind) {
        text += piece.kind == ChatPiece::Kind::kReasoning ? "|reasoning:"
                : piece.kind == ChatPiece::Kind::kContent ? "|content:"
                                                          : "";
      }
      text += piece.text;
    }
    before = &piece;
  }
  return text;
}

// The same however the text is cut.
void expect_split(const ChatSplitterOptions& options, const std::string& text, const std::string& expected) {
  for (size_t step = 1; step <= text.size(); step = step < 8 ? step + 1 : step * 2) {
    ChatSplitter splitter(options);
    std::vector<ChatPiece> pieces;
    for (size_t at = 0; at < text.size(); at += step) splitter.push(text.substr(at, step), &pieces);
    splitter.finish(&pieces);
    EXPECT_EQ(shown(pieces), expected) << "in pieces of " << step;
  }
}

ToolFormat format(const char* name) { return parse_tool_format(name).value(); }

TEST(ChatSplitterTest, PlainTextPasses) { expect_split({}, "a <think> b\n", "|content:a <think> b\n"); }

TEST(ChatSplitterTest, ReasoningIsToldFromTheAnswer) {
  expect_split({.reasons = true}, "<think>\na < b\n\nc\n</think>\n\nyes </think>\n",
               "|reasoning:a < b\n\nc|content:yes </think>\n");
  expect_split({.reasons = true}, "<thin", "|content:<thin");
  expect_split({.reasons = true}, "no <think>", "|content:no <think>");
  expect_split({.reasons = true, .reasoning = true}, "hm </thin", "|reasoning:hm </thin");
  expect_split({.reasons = true, .reasoning = true}, "hm</think>yes", "|reasoning:hm|content:yes");
}

TEST(ChatSplitterTest, HermesCalls) {
  const ChatSplitterOptions options{.tools = format("hermes")};
  expect_split(options, "no call <tool_c", "|content:no call <tool_c");
  expect_split(
      options,
      "Let me see.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": \"}\\\"\", \"b\": [1, {}]}}\n</tool_call>\n"
      "<tool_call>\n{\"name\": \"g\\u00e9\", \"arguments\": {}}\n</tool_call>",
      "|content:Let me see.|call 0 f:{\"a\": \"}\\\"\", \"b\": [1, {}]}|call 1 g\xC3\xA9:{}");
  expect_split(options, "<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>\n\n so\n",
               "|call 0 f:{}|content:so\n");
  expect_split(options, "a<tool_call> {\"nam\": 1}", "|content:a<tool_call> {\"nam\": 1}");
  // Cut off by a limit.
  expect_split(options, "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": \"x", "|call 0 f:{\"a\": \"x");
}

TEST(ChatSplitterTest, CallsWithoutTags) {
  const ChatSplitterOptions options{.tools = format("llama3")};
  expect_split(options, "{\"name\": \"f\", \"parameters\": {\"a\": 1}}", "|call 0 f:{\"a\": 1}");
  expect_split(options, "{\"a\": 1}", "|content:{\"a\": 1}");
}

TEST(ChatSplitterTest, ListsOfCalls) {
  const ChatSplitterOptions options{.tools = format("mistral")};
  expect_split(options,
               "ok [TOOL_CALLS][{\"arguments\": {\"a\": 1}, \"name\": \"f\"}, {\"name\": \"g\", \"arguments\": {}}]",
               "|content:ok|call 0 f:{\"a\":1}|call 1 g:{}");
}

TEST(ChatSplitterTest, ReasoningBeforeCalls) {
  expect_split({.reasons = true, .tools = format("hermes")},
               "<think>x</think>\n<tool_call>\n{\"name\": \"f\", \"arguments\": 1}\n</tool_call>\n",
               "|reasoning:x|call 0 f:1");
}

}  // namespace
}  // namespace decant::serve
