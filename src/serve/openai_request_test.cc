// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "serve/openai_request.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "serve/openapi.h"

namespace decant::serve {
namespace {

Problem read_chat(const std::string& text, ChatRequest* out) {
  Json body;
  if (Problem problem = parse_body(text, &body); !problem.ok()) return problem;
  return read_chat_request(body, {}, {}, out);
}

// A chat request with these members besides one message.
Problem read_with(const std::string& members, ChatRequest* out) {
  return read_chat(
      R"({"messages": [{"role": "user", "content": "hi"}])" + (members.empty() ? "" : ", " + members) + "}", out);
}

Problem read_completion(const std::string& text, CompletionRequest* out) {
  Json body;
  if (Problem problem = parse_body(text, &body); !problem.ok()) return problem;
  return read_completion_request(body, {}, {}, out);
}

TEST(OpenaiRequestTest, EverythingThatAChatMayAskForArrives) {
  ChatRequest r;
  const Problem problem = read_with(
      R"("model": "m", "temperature": 0.5, "top_p": 0.25, "top_k": 7, "min_p": 0.125, "seed": -3, "n": 2, "max_tokens": 9,
         "stop": ["a", "b"], "stream": true, "stream_options": {"include_usage": true}, "logprobs": true, "top_logprobs": 4,
         "logit_bias": {"5": -100, "6": 1.5}, "frequency_penalty": 0.5, "presence_penalty": -0.5, "repetition_penalty": 1.25,
         "user": "u", "metadata": {"a": 1}, "store": false, "service_tier": "auto", "draft": "lookup", "verifier": "coupled",
         "priority": 3, "timeout": 1.5, "response_format": {"type": "json_schema", "json_schema": {"name": "x", "strict": true,
         "schema": {"type": "object"}}}, "lora": "a", "max_completion_tokens": 8)",
      &r);
  ASSERT_TRUE(problem.ok()) << problem.message;
  EXPECT_EQ(r.model, "m");
  EXPECT_EQ(r.sampler.temperature, 0.5f);
  EXPECT_EQ(r.sampler.top_p, 0.25f);
  EXPECT_EQ(r.sampler.top_k, 7);
  EXPECT_EQ(r.sampler.min_p, 0.125f);
  EXPECT_EQ(r.sampler.repeat_penalty, 1.25f);
  EXPECT_EQ(r.sampler.frequency_penalty, 0.5f);
  EXPECT_EQ(r.sampler.presence_penalty, -0.5f);
  EXPECT_EQ(r.seed, static_cast<uint64_t>(-3));
  EXPECT_EQ(r.n, 2);
  EXPECT_EQ(r.max_tokens, 8);
  EXPECT_EQ(r.stops, (std::vector<std::string>{"a", "b"}));
  EXPECT_TRUE(r.stream && r.include_usage);
  EXPECT_EQ(r.n_logprobs, 4);
  ASSERT_EQ(r.sampler.logit_bias.size(), 2u);
  EXPECT_TRUE(std::isinf(r.sampler.logit_bias[0].second));
  EXPECT_EQ(r.sampler.logit_bias[1], (std::pair<int32_t, float>(6, 1.5f)));
  EXPECT_EQ(r.draft, "lookup");
  EXPECT_EQ(r.priority, 3);
  EXPECT_EQ(r.timeout, 1.5);
  ASSERT_TRUE(r.constraint);
  EXPECT_EQ(r.constraint->kind, ConstraintSpec::Kind::kJsonSchema);
  EXPECT_EQ(r.constraint->text, R"({"type":"object"})");
  EXPECT_EQ(r.lora, std::vector<std::string>{"a"});
}

TEST(OpenaiRequestTest, WhatIsWrongIsNamed) {
  const struct {
    const char* members;
    const char* param;
  } cases[] = {
      {R"("temperature": "hot")", "temperature"},
      {R"("temperature": -1)", "temperature"},
      {R"("temperature": true)", "temperature"},
      {R"("top_p": 1.5)", "top_p"},
      {R"("n": 0)", "n"},
      {R"("n": 1.5)", "n"},
      {R"("n": 100000)", "n"},
      {R"("max_tokens": -1)", "max_tokens"},
      {R"("max_tokens": 99999999999)", "max_tokens"},
      {R"("seed": "x")", "seed"},
      {R"("seed": 99999999999999999999)", "seed"},
      {R"("stop": 5)", "stop"},
      {R"("stop": [""])", "stop"},
      {R"("stop": [5])", "stop"},
      {R"("stream": "yes")", "stream"},
      {R"("stream_options": {})", "stream_options"},
      {R"("stream": true, "stream_options": {"x": 1})", "stream_options.x"},
      {R"("logprobs": 3)", "logprobs"},
      {R"("top_logprobs": 3)", "top_logprobs"},
      {R"("logprobs": true, "top_logprobs": 21)", "top_logprobs"},
      {R"("logit_bias": [1])", "logit_bias"},
      {R"("logit_bias": {"x": 1})", "logit_bias"},
      {R"("logit_bias": {"1": 101})", "logit_bias"},
      {R"("response_format": "json")", "response_format"},
      {R"("response_format": {})", "response_format.type"},
      {R"("response_format": {"type": "xml"})", "response_format.type"},
      {R"("response_format": {"type": "json_schema"})", "response_format.json_schema"},
      {R"("response_format": {"type": "json_schema", "json_schema": {"name": "x"}})",
       "response_format.json_schema.schema"},
      {R"("response_format": {"type": "text", "json_schema": {"schema": {}}})", "response_format.json_schema"},
      {R"("tools": {})", "tools"},
      {R"("tools": [5])", "tools[0]"},
      {R"("tools": [{"type": "retrieval"}])", "tools[0].type"},
      {R"("tools": [{"type": "function"}])", "tools[0].function"},
      {R"("tools": [{"type": "function", "function": {}}])", "tools[0].function.name"},
      {R"("tools": [{"type": "function", "function": {"name": "f", "parameters": 5}}])",
       "tools[0].function.parameters"},
      {R"("tool_choice": "required")", "tool_choice"},
      {R"("tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "g")", "tool_choice"},
      {R"("tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": {"type": "function", "function": {"name": "g"}})",
       "tool_choice"},
      {R"("frobnicate": 1)", "frobnicate"},
      {R"("functions": [])", "functions"},
      {R"("modalities": ["audio"])", "modalities"},
      {R"("grammar": 5)", "grammar"},
      {R"("choice": [])", "choice"},
      {R"("align": ["asap"])", "align"},
      {R"("align": "asap", "draft": "lookup")", "align"},
      {R"("prompt_logprobs": 21)", "prompt_logprobs"},
      {R"("prompt_logprobs": 1, "stream": true)", "prompt_logprobs"},
      {R"("timeout": 0)", "timeout"},
      {R"("timeout": 1e9)", "timeout"},
      {R"("draft": {})", "draft"},
      {R"("lora": [5])", "lora"},
      {R"("chat_template_kwargs": [])", "chat_template_kwargs"},
  };
  for (const auto& c : cases) {
    ChatRequest request;
    const Problem problem = read_with(c.members, &request);
    EXPECT_EQ(problem.status, 400) << c.members;
    EXPECT_EQ(problem.param, c.param) << c.members << ": " << problem.message;
    EXPECT_NE(problem.message.find(c.param), std::string::npos) << problem.message;
  }
}

TEST(OpenaiRequestTest, MessagesAreChecked) {
  const struct {
    const char* messages;
    const char* param;
  } cases[] = {
      {"5", "messages"},
      {"[]", "messages"},
      {"[5]", "messages[0]"},
      {R"([{"content": "a"}])", "messages[0].role"},
      {R"([{"role": "god", "content": "a"}])", "messages[0].role"},
      {R"([{"role": "user"}])", "messages[0].content"},
      {R"([{"role": "user", "content": 5}])", "messages[0].content"},
      {R"([{"role": "user", "content": []}])", "messages[0].content"},
      {R"([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]}])",
       "messages[0].content[0].type"},
      {R"([{"role": "user", "content": [{"type": "text"}]}])", "messages[0].content[0].text"},
      {R"([{"role": "user", "content": "a", "mood": 1}])", "messages[0].mood"},
      {R"([{"role": "tool", "content": "a"}])", "messages[0].tool_call_id"},
      {R"([{"role": "assistant", "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": "x"}}]}])",
       "messages[0].tool_calls[0].function.arguments"},
  };
  for (const auto& c : cases) {
    ChatRequest request;
    const Problem problem = read_chat(std::string(R"({"messages": )") + c.messages + "}", &request);
    EXPECT_EQ(problem.status, 400) << c.messages;
    EXPECT_EQ(problem.param, c.param) << c.messages << ": " << problem.message;
  }
  ChatRequest request;
  ASSERT_TRUE(
      read_chat(
          R"({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
    {"role": "assistant", "content": null, "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{\"x\": 1}"}}]},
    {"role": "tool", "tool_call_id": "1", "content": "2"}]})",
          &request)
          .ok());
  EXPECT_EQ(request.messages[0]["content"], "a\nb");
  EXPECT_EQ(request.messages[1]["tool_calls"][0]["function"]["arguments"]["x"], 1);
}

TEST(OpenaiRequestTest, BodiesThatAreNoObjectAreRefused) {
  for (const std::string& text : {std::string(""), std::string("[]"), std::string("nonsense"),
                                  std::string(R"({"a": 1, "a": 2})"), std::string("{\"a\": \"\xFF\"}"),
                                  std::string(100, '[') + std::string(100, ']'), std::string("{\"a\": 1e999}")}) {
    Json body;
    const Problem problem = parse_body(text, &body);
    EXPECT_EQ(problem.status, 400) << text;
    EXPECT_EQ(problem.code, "invalid_json") << text;
  }
  // Members are looked up one by one, so that many of them would take minutes.
  std::string many = "{";
  for (int i = 0; i < 20000; ++i) many += (i > 0 ? ",\"" : "\"") + std::to_string(i) + "\":1";
  Json body;
  EXPECT_EQ(parse_body(many + "}", &body).status, 400);
}

TEST(OpenaiRequestTest, PromptsOfAllForms) {
  CompletionRequest r;
  ASSERT_TRUE(read_completion(R"({"prompt": "a"})", &r).ok());
  EXPECT_EQ(r.max_tokens, 16);
  EXPECT_EQ(r.prompts, std::vector<PromptInput>{std::string("a")});
  r = {};
  ASSERT_TRUE(read_completion(R"({"prompt": ["a", "b"]})", &r).ok());
  EXPECT_EQ(r.prompts.size(), 2u);
  r = {};
  ASSERT_TRUE(read_completion(R"({"prompt": [1, 2]})", &r).ok());
  EXPECT_EQ(r.prompts, (std::vector<PromptInput>{std::vector<TokenId>{1, 2}}));
  r = {};
  ASSERT_TRUE(
      read_completion(R"({"prompt": [[1], [2, 3]], "echo": true, "logprobs": 2, "best_of": 1, "suffix": ""})", &r)
          .ok());
  EXPECT_EQ(r.prompts.size(), 2u);
  for (const char* text :
       {R"({})", R"({"prompt": []})", R"({"prompt": [-1]})", R"({"prompt": [1.5]})", R"({"prompt": [[]]})",
        R"({"prompt": ["a", 1]})", R"({"prompt": [1, "a"]})", R"({"prompt": {}})"}) {
    CompletionRequest bad;
    EXPECT_EQ(read_completion(text, &bad).param, "prompt") << text;
  }
  CompletionRequest suffix, best;
  EXPECT_EQ(read_completion(R"({"prompt": "a", "suffix": "b"})", &suffix).param, "suffix");
  EXPECT_EQ(read_completion(R"({"prompt": "a", "best_of": 3})", &best).param, "best_of");
}

TEST(OpenaiRequestTest, SeveralConstraintsHoldTogether) {
  ChatRequest r;
  ASSERT_TRUE(read_with(R"("regex": "a+", "choice": ["a", "b"])", &r).ok());
  ASSERT_TRUE(r.constraint);
  EXPECT_EQ(r.constraint->kind, ConstraintSpec::Kind::kAll);
  EXPECT_EQ(r.constraint->parts.size(), 2u);
  ChatRequest large;
  EXPECT_EQ(read_with("\"regex\": \"" + std::string(300000, 'a') + "\"", &large).code, "limit_exceeded");
}

// The document and the reader know the same fields.
TEST(OpenaiRequestTest, TheDocumentNamesFieldsThatAreRead) {
  const Json document = openapi_document("0");
  const auto check = [&](const char* name, const Json& base, const auto& read) {
    const Json& properties = document["components"]["schemas"][name]["properties"];
    ASSERT_GT(properties.size(), 1u);
    for (const auto& [field, schema] : properties.items()) {
      Json body = base;
      if (!body.contains(field)) body[field] = nullptr;
      const Problem problem = read(body);
      EXPECT_TRUE(problem.ok()) << name << ": " << problem.message;
    }
    Json body = base;
    body["frobnicate"] = nullptr;
    EXPECT_EQ(read(body).param, "frobnicate");
  };
  check("ChatCompletionRequest", {{"messages", Json::array({{{"role", "user"}, {"content", "a"}}})}},
        [](const Json& body) {
          ChatRequest request;
          return read_chat_request(body, {}, {}, &request);
        });
  check("CompletionRequest", {{"prompt", "a"}}, [](const Json& body) {
    CompletionRequest request;
    return read_completion_request(body, {}, {}, &request);
  });
  check("EmbeddingRequest", {{"input", "a"}}, [](const Json& body) {
    EmbeddingRequest request;
    return read_embedding_request(body, {}, &request);
  });
  check("TokenizeRequest", {{"content", "a"}}, [](const Json& body) {
    TokenizeRequest request;
    return read_tokenize_request(body, {}, &request);
  });
  check("DetokenizeRequest", {{"tokens", Json::array({1})}}, [](const Json& body) {
    std::vector<TokenId> tokens;
    return read_detokenize_request(body, &tokens);
  });
}

// All references lead somewhere, operations have names of their own, and responses have what OpenAPI wants.
void check_references(const Json& document, const Json& value) {
  if (value.is_object() && value.contains("$ref")) {
    std::string pointer = value["$ref"].get<std::string>();
    ASSERT_TRUE(pointer.starts_with("#/")) << pointer;
    EXPECT_TRUE(document.contains(Json::json_pointer(pointer.substr(1)))) << pointer;
  }
  if (value.is_structured()) {
    for (const Json& item : value) check_references(document, item);
  }
}

TEST(OpenaiRequestTest, TheDocumentIsComplete) {
  const Json document = openapi_document("1.2.3");
  EXPECT_EQ(document["openapi"], "3.1.0");
  EXPECT_EQ(document["info"]["version"], "1.2.3");
  check_references(document, document);
  std::set<std::string> ids;
  for (const auto& [path, item] : document["paths"].items()) {
    for (const char* method : {"get", "post"}) {
      if (!item.contains(method)) continue;
      EXPECT_TRUE(ids.insert(item[method]["operationId"].get<std::string>()).second) << path;
      ASSERT_FALSE(item[method]["responses"].empty()) << path;
      for (const Json& response : item[method]["responses"]) EXPECT_TRUE(response["description"].is_string()) << path;
    }
  }
}

}  // namespace
}  // namespace decant::serve
