// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "constrain/tag_constraint.h"

#include <gtest/gtest.h>

#include <random>

#include "constrain/compile.h"
#include "constrain/tools.h"

namespace decant {
namespace {

const std::vector<std::string>& texts() {
  static const std::vector<std::string> all = [] {
    std::vector<std::string> list = {
        "",    "<t",   "<tool",  "<tool_call>", "ol_call>\n", "{\"",       "name",           "\":",
        " \"", "\"}",  "}\n",    "}\n</",       "</t",        "_call>",    "\n</tool_call>", "\n<",
        "}}",  "}}\n", "\": \"", "call",        ">ab",        "x<t",       "\", ",           "args",
        "1}",  "]",    "}]",     "[{",          "[TOOL",      "arguments", "parameters"};
    for (int c = 0x20; c < 0x7F; ++c) list.emplace_back(1, static_cast<char>(c));
    list.emplace_back("\n");
    list.emplace_back("\xC3");
    list.emplace_back("");  // a control token
    return list;
  }();
  return all;
}
TokenId control() { return static_cast<TokenId>(texts().size()) - 1; }

std::shared_ptr<const JsonVocabulary> vocabulary() {
  static const auto made = [] {
    const std::vector<std::string_view> views(texts().begin(), texts().end());
    return std::make_shared<const JsonVocabulary>(std::make_shared<const TokenTrie>(views));
  }();
  return made;
}

std::shared_ptr<Constraint> pattern(const std::string& text) {
  return *compile_constraint({.kind = ConstraintSpec::Kind::kPattern, .text = text, .name = "pattern"}, vocabulary());
}

bool takes(Constraint& constraint, std::string_view text, bool* ends = nullptr) {
  std::optional<ConstraintState> state = constraint.start();
  for (size_t i = 0; state && i < text.size(); ++i) state = constraint.step(*state, static_cast<uint8_t>(text[i]));
  if (ends != nullptr) *ends = state && constraint.accepting(*state);
  return state.has_value();
}
bool matches(Constraint& constraint, std::string_view text) {
  bool ends = false;
  takes(constraint, text, &ends);
  return ends;
}

// Along random texts a mask has just the tokens whose bytes can be followed one by one, and the completion ends.
void masks_are_those_of_every_byte(Constraint& constraint, std::mt19937& random, int runs, int* structures) {
  for (int run = 0; run < runs; ++run) {
    ConstraintState state = constraint.start();
    std::string so_far;
    for (int n = 0; n < 40; ++n) {
      const auto mask = constraint.mask(state);
      std::vector<TokenId> allowed;
      for (TokenId t = 0; t < static_cast<TokenId>(texts().size()); ++t) {
        const std::string& text = texts()[static_cast<size_t>(t)];
        if (text.empty()) continue;
        std::optional<ConstraintState> at = state;
        for (size_t i = 0; at && i < text.size(); ++i) at = constraint.step(*at, static_cast<uint8_t>(text[i]));
        ASSERT_EQ(mask->test(t), at.has_value()) << so_far << " + " << text;
        if (at) allowed.push_back(t);
        // Structures are rare among random texts.
        if (at && (text.starts_with("<t") || text.find('}') != std::string::npos) && text.size() > 1) {
          for (int more = 0; more < 6; ++more) allowed.push_back(t);
        }
      }
      const std::optional<std::string> rest = constraint.completion(state);
      ASSERT_TRUE(rest.has_value()) << so_far;
      std::optional<ConstraintState> end = state;
      for (size_t i = 0; end && i < rest->size(); ++i) end = constraint.step(*end, static_cast<uint8_t>((*rest)[i]));
      ASSERT_TRUE(end && constraint.accepting(*end)) << so_far << " + " << *rest;
      if (allowed.empty()) break;
      const TokenId t = allowed[random() % allowed.size()];
      state = *constraint.advance(state, t);
      so_far += texts()[static_cast<size_t>(t)];
    }
    *structures += so_far.find("<t") != std::string::npos && so_far.find("</t") != std::string::npos;
  }
}

TEST(TagConstraint, FreeTextAndStructuresTakeTurns) {
  const auto c = *make_tag_constraint({.tags = {{.begin = "<a>", .content = pattern("[0-9]+"), .end = "</a>"},
                                                {.begin = "<ab>", .content = pattern("[a-z/<>]*"), .end = "</ab>"}},
                                       .triggers = {"<a"}},
                                      vocabulary());
  EXPECT_TRUE(matches(*c, ""));
  EXPECT_TRUE(matches(*c, "a < b <"));
  EXPECT_TRUE(matches(*c, "free <<a>12</a> and <ab></a></ab></ab> text"));
  EXPECT_TRUE(takes(*c, "<a"));
  EXPECT_FALSE(matches(*c, "<a")) << "a structure has begun";
  EXPECT_FALSE(takes(*c, "<ac"));
  EXPECT_FALSE(takes(*c, "<a>x"));
  EXPECT_FALSE(takes(*c, "<a></a>"));
  EXPECT_FALSE(takes(*c, "<a>1</b"));
  EXPECT_FALSE(matches(*c, "<a>1</a"));
}

TEST(TagConstraint, TheFirstTriggerCounts) {
  const auto c = *make_tag_constraint({.tags = {{.begin = "abcd", .content = pattern("1"), .end = "."},
                                                {.begin = "bcx", .content = pattern("2"), .end = "."}},
                                       .triggers = {"abcd", "bc"}},
                                      vocabulary());
  EXPECT_TRUE(matches(*c, "abcx2."));
  EXPECT_FALSE(takes(*c, "abcd")) << "bc was complete first";
  const auto same_end = *make_tag_constraint({.tags = {{.begin = "abc", .content = pattern("1"), .end = "."},
                                                       {.begin = "bc", .content = pattern("2"), .end = "."}},
                                              .triggers = {"bc", "abc"}},
                                             vocabulary());
  EXPECT_TRUE(matches(*same_end, "abc1."));
  EXPECT_TRUE(matches(*same_end, "ab bc2."));
  EXPECT_FALSE(takes(*same_end, "abc2"));
}

TEST(TagConstraint, MasksAreThoseOfTryingEveryToken) {
  std::mt19937 random(3);
  int structures = 0;
  const auto schema = *compile_constraint(
      {.kind = ConstraintSpec::Kind::kJsonSchema,
       .text =
           R"({"type":"object","properties":{"name":{"type":"string"},"args":{"type":"array","items":{"type":"integer"}}},"additionalProperties":false})",
       .name = "schema"},
      vocabulary());
  for (const bool free_text : {true, false}) {
    const auto c =
        *make_tag_constraint({.tags = {{.begin = "<tool_call>\n", .content = schema, .end = "\n</tool_call>"}},
                              .triggers = {"<tool_call>"},
                              .free_text = free_text,
                              .at_least_one = true},
                             vocabulary());
    masks_are_those_of_every_byte(*c, random, 25, &structures);
  }
  const auto loose = *make_tag_constraint({.tags = {{.begin = "<t", .content = pattern("(<|/|}|t|\\n)*"), .end = "</t"},
                                                    {.begin = "<to", .content = pattern("l*}?"), .end = ""}},
                                           .triggers = {"<t"}},
                                          vocabulary());
  masks_are_those_of_every_byte(*loose, random, 25, &structures);
  EXPECT_GT(structures, 5);
}

const char kTools[] = R"([
  {"type": "function", "function": {"name": "add", "description": "adds", "parameters": {"type": "object", "properties":
    {"x": {"$ref": "#/$defs/n"}}, "required": ["x"], "additionalProperties": false, "$defs": {"n": {"type": "integer"}}}}},
  {"type": "function", "function": {"name": "stop \"now\""}}])";

std::shared_ptr<Constraint> tools(const std::string& format, ToolChoice choice, const std::string& only = "",
                                  std::vector<TagToken> tokens = {}) {
  auto made =
      compile_tools(kTools, "tools.json",
                    {.format = *parse_tool_format(format), .choice = choice, .only = only, .tokens = std::move(tokens)},
                    vocabulary());
  EXPECT_TRUE(made.ok()) << made.status().message();
  return *made;
}

TEST(Tools, CallsAreWrittenInTheModelsFormat) {
  const auto hermes = tools("hermes", ToolChoice::kAuto);
  const std::string call = "<tool_call>\n{\"name\": \"add\", \"arguments\": {\"x\": 12}}\n</tool_call>";
  EXPECT_TRUE(matches(*hermes, "I will add. " + call + "\n" + call + " done"));
  EXPECT_TRUE(matches(*hermes, "no call"));
  EXPECT_TRUE(matches(*hermes, R"(<tool_call>
{"name": "stop \"now\"", "arguments": {}}
</tool_call>)"));
  EXPECT_FALSE(takes(*hermes, "<tool_call>\n{\"name\": \"sub\""));
  EXPECT_FALSE(takes(*hermes, "<tool_call>\n{\"name\": \"add\", \"arguments\": {}"));
  EXPECT_FALSE(takes(*hermes, "<tool_call>x"));
  const auto required = tools("hermes", ToolChoice::kRequired);
  EXPECT_TRUE(matches(*required, call));
  EXPECT_TRUE(matches(*required, call + "\n" + call));
  EXPECT_FALSE(takes(*required, "I"));
  EXPECT_FALSE(matches(*required, ""));
  EXPECT_FALSE(takes(*required, call + " "));
  EXPECT_FALSE(takes(*tools("hermes", ToolChoice::kRequired, "add"), "<tool_call>\n{\"name\": \"s"));

  const auto llama = tools("llama3", ToolChoice::kAuto);
  EXPECT_TRUE(matches(*llama, "{\"name\": \"add\", \"parameters\": {\"x\": 1}}"));
  EXPECT_TRUE(matches(*llama, "{\"nam\": 1}"));
  EXPECT_FALSE(takes(*llama, "{\"name\": \"b"));

  const auto mistral = tools("mistral", ToolChoice::kAuto, "", {{control(), "[TOOL_CALLS]"}});
  const std::string list = "[{\"name\": \"add\", \"arguments\": {\"x\": 1}}]";
  EXPECT_TRUE(matches(*mistral, "text [TOOL_CALLS]" + list));
  EXPECT_FALSE(takes(*mistral, "[TOOL_CALLS]" + list + " "));
  EXPECT_TRUE(mistral->mask(mistral->start())->test(control()));
  ConstraintState state = *mistral->advance(*mistral->step(mistral->start(), '['), control());
  EXPECT_FALSE(mistral->mask(state)->test(control()));
  for (const char c : list) state = *mistral->step(state, static_cast<uint8_t>(c));
  EXPECT_TRUE(mistral->accepting(state));
  EXPECT_EQ(mistral->mask(state)->count(), 0);

  // Both ends may be control tokens, or what is left of them, but neither content nor free text is.
  const auto tokens = tools("hermes", ToolChoice::kAuto, "", {{control(), "</tool_call>"}, {0, "<tool_call>"}});
  state = tokens->start();
  EXPECT_FALSE(tokens->mask(state)->test(control()));
  state = *tokens->advance(state, 0);
  EXPECT_FALSE(tokens->mask(state)->test(0));
  for (const char c : call.substr(11, call.size() - 11 - 12)) {
    EXPECT_FALSE(tokens->mask(state)->test(control()));
    state = *tokens->step(state, static_cast<uint8_t>(c));
  }
  state = *tokens->advance(state, control());
  EXPECT_TRUE(tokens->accepting(state));
  EXPECT_TRUE(tokens->step(state, 'x').has_value());

  const auto own = tools(R"({"begin": "CALL ", "end": ";", "name_key": "f", "arguments_key": "a", "is_fixed": true})",
                         ToolChoice::kAuto);
  EXPECT_TRUE(matches(*own, "CALL {\"f\": \"add\", \"a\": {\"x\":1}};"));
  EXPECT_FALSE(takes(*own, "CALL {\"f\": \"ad\""));
}

TEST(Tools, WhatCannotBeIsRefused) {
  const ToolOptions hermes{.format = *parse_tool_format("hermes")};
  const std::pair<const char*, const char*> wrong[] = {
      {"{", "line 1"},
      {"{}", "expected a list"},
      {"[]", "expected a list"},
      {"[1]", "tool 0"},
      {R"([{"type": "function", "function": {}}])", "tool 0: the function has no name"},
      {R"([{"function": {"name": "a"}}, {"function": {"name": "a"}}])", "tool 1: a is there twice"},
      {R"([{"function": {"name": "a", "parameters": {"type": "x"}}}])", "type"},
  };
  for (const auto& [text, part] : wrong) {
    const auto made = compile_tools(text, "tools.json", hermes, vocabulary());
    ASSERT_FALSE(made.ok()) << text;
    EXPECT_NE(made.status().message().find(part), std::string::npos) << made.status().message();
    EXPECT_TRUE(made.status().message().starts_with("tools.json: ")) << made.status().message();
  }
  EXPECT_FALSE(compile_tools(kTools, "t", {.format = hermes.format, .only = "nothing"}, vocabulary()).ok());
  for (const char* format : {"", "qwen", "{", "{}", R"({"begin": 1})", R"({"begin": "a", "x": true})",
                             R"({"begin": "a", "is_list": true, "is_fixed": true})"})
    EXPECT_FALSE(parse_tool_format(format).ok()) << format;
  const auto tag = [](std::string begin) {
    return StructuralTag{.begin = std::move(begin), .content = pattern("a"), .end = ""};
  };
  EXPECT_FALSE(make_tag_constraint({}, vocabulary()).ok());
  EXPECT_FALSE(make_tag_constraint({.tags = {tag("a")}}, vocabulary()).ok());
  EXPECT_FALSE(make_tag_constraint({.tags = {tag("a")}, .triggers = {""}}, vocabulary()).ok());
  EXPECT_FALSE(make_tag_constraint({.tags = {tag("a")}, .triggers = {"a", "b"}}, vocabulary()).ok());
}

TEST(Tools, TheFormatIsFoundByTheTemplatesMarkers) {
  EXPECT_EQ(detect_tool_format("... <tool_call>\n ...")->name, "hermes");
  EXPECT_EQ(detect_tool_format("{{ '[TOOL_CALLS]' }}")->name, "mistral");
  EXPECT_EQ(detect_tool_format("<|start_header_id|> {\"name\": x, \"parameters\": y}")->name, "llama3");
  EXPECT_FALSE(detect_tool_format("<|im_start|>").has_value());
}

}  // namespace
}  // namespace decant
