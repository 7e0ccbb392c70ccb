// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "serve/openapi.h"

#include <string>

namespace decant::serve {
namespace {

// A field of a request, its schema as JSON and what it does.
struct FieldDoc {
  const char* name;
  const char* schema;
  const char* description;
};

constexpr const char* kString = R"({"type": "string"})";
constexpr const char* kBoolean = R"({"type": "boolean"})";
constexpr const char* kInteger = R"({"type": "integer"})";
constexpr const char* kNumber = R"({"type": "number"})";
constexpr const char* kSchema = R"({"type": ["object", "boolean", "string"]})";
constexpr const char* kStrings = R"({"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]})";
constexpr const char* kInput =
    R"({"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}, {"type": "array", "items": {"type": "integer", "minimum": 0}}, {"type": "array", "items": {"type": "array", "items": {"type": "integer", "minimum": 0}}}]})";

constexpr FieldDoc kGenerationFields[] = {
    {"model", kString, "A name that /v1/models lists; MODEL:ADAPTER runs with that adapter."},
    {"lora", kStrings, "Names of adapters."},
    {"temperature", R"({"type": "number", "minimum": 0, "maximum": 100})", "0 is greedy."},
    {"top_p", R"({"type": "number", "minimum": 0, "maximum": 1})", "The likeliest tokens that make up this share."},
    {"top_k", R"({"type": "integer", "minimum": -1})", "The k likeliest tokens; 0 or -1: all."},
    {"min_p", R"({"type": "number", "minimum": 0, "maximum": 1})",
     "Tokens at least this likely, as a share of the likeliest one's."},
    {"typical_p", R"({"type": "number", "minimum": 0, "maximum": 1})", "Locally typical sampling; 1: off."},
    {"top_n_sigma", kNumber, "Tokens within this many standard deviations of the best; -1: off."},
    {"xtc_probability", R"({"type": "number", "minimum": 0, "maximum": 1})", "0: off."},
    {"xtc_threshold", R"({"type": "number", "minimum": 0, "maximum": 1})", "Above 0.5: off."},
    {"dynatemp_range", kNumber, "The temperature follows the entropy within this range; 0: off."},
    {"dynatemp_exponent", kNumber, "Its exponent."},
    {"frequency_penalty", R"({"type": "number", "minimum": -2, "maximum": 2})",
     "For each time that a token is there already."},
    {"presence_penalty", R"({"type": "number", "minimum": -2, "maximum": 2})", "If a token is there already."},
    {"repetition_penalty", kNumber, "Divides logits of tokens that are there already; 1: off."},
    {"repeat_penalty", kNumber, "The same by llama.cpp's name."},
    {"repeat_last_n", kInteger, "How many tokens back the penalties look; -1: all."},
    {"dry_multiplier", kNumber, "Against repeated sequences; 0: off."},
    {"dry_base", kNumber, "Its base."},
    {"dry_allowed_length", kInteger, "Repetitions up to this length are free."},
    {"dry_penalty_last_n", kInteger, "How many tokens back it looks; -1: all."},
    {"dry_sequence_breakers", kStrings, "Texts that end a repetition."},
    {"mirostat", R"({"type": "integer", "minimum": 0, "maximum": 2})", "0: off."},
    {"mirostat_tau", kNumber, "Its target."},
    {"mirostat_eta", kNumber, "Its rate."},
    {"min_keep", R"({"type": "integer", "minimum": 1})", "Filters leave at least this many tokens."},
    {"ignore_eos", kBoolean, "The answer goes on up to its limit."},
    {"logit_bias", R"({"type": "object", "additionalProperties": {"type": "number", "minimum": -100, "maximum": 100}})",
     "Added to logits, by token id; -100 bans a token."},
    {"seed", kInteger, "The same seed gives the same answer, whatever else the server does."},
    {"n", R"({"type": "integer", "minimum": 1})", "How many answers."},
    {"max_tokens", R"({"type": "integer", "minimum": 0})", "Of an answer."},
    {"stop", kStrings, "Texts that end the answer and are not part of it."},
    {"stream", kBoolean, "Server-sent events."},
    {"stream_options", R"({"type": "object", "properties": {"include_usage": {"type": "boolean"}}})", "For streams."},
    {"response_format",
     R"({"type": "object", "required": ["type"], "properties": {"type": {"enum": ["text", "json_object", "json_schema"]}, "json_schema": {"type": "object", "required": ["schema"], "properties": {"name": {"type": "string"}, "schema": {"type": ["object", "boolean"]}, "strict": {"type": "boolean"}}}}})",
     "What the answer has to be; it always is."},
    {"json_schema", kSchema, "The answer is JSON that is valid for it."},
    {"guided_json", kSchema, "The same by vLLM's name."},
    {"regex", kString, "The whole answer matches it."},
    {"guided_regex", kString, "The same by vLLM's name."},
    {"grammar", kString, "The answer is a sentence of it; GBNF or Lark."},
    {"guided_grammar", kString, "The same by vLLM's name."},
    {"choice", kStrings, "The answer is one of them."},
    {"guided_choice", kStrings, "The same by vLLM's name."},
    {"property_order", R"({"enum": ["any", "schema"]})", "In which order members of objects come."},
    {"finish", kBoolean, "The answer ends within max_tokens where the constraint allows it."},
    {"forced", R"({"enum": ["model", "canonical"]})",
     "How text that a constraint leaves no choice about is split into tokens."},
    {"draft", kString,
     "A draft method, such as \"lookup(n=3)\" or \"none\"; methods that need files are the operator's."},
    {"verifier", kString, "How drafts are verified; \"coupled\" changes no text."},
    {"draft_nodes", R"({"type": "integer", "minimum": 0, "maximum": 1024})",
     "Guesses of a step; 0: as many as the method wants."},
    {"align", kString,
     "\"asap\" or \"exact\": answers are distributed as the model's own within the constraint. Settings: batch, "
     "attempts, nodes."},
    {"prompt_logprobs", R"({"type": "integer", "minimum": 0, "maximum": 20})",
     "Log-probabilities of the prompt's tokens, and of this many others at each place."},
    {"priority", R"({"type": "integer", "minimum": -1000, "maximum": 1000})", "Larger runs first."},
    {"timeout", kNumber, "Seconds; then the answer ends with what there is."},
    {"user", kString, "Not used."},
    {"metadata", R"({"type": "object"})", "Not used."},
    {"store", kBoolean, "Not used: nothing is stored."},
    {"service_tier", kString, "Not used."},
};

constexpr FieldDoc kChatFields[] = {
    {"messages", R"({"type": "array", "minItems": 1, "items": {"$ref": "#/components/schemas/Message"}})",
     "The conversation."},
    {"max_completion_tokens", R"({"type": "integer", "minimum": 0})", "The newer name of max_tokens."},
    {"logprobs", kBoolean, "Log-probabilities of the answer's tokens."},
    {"top_logprobs", R"({"type": "integer", "minimum": 0, "maximum": 20})", "And of this many others at each place."},
    {"tools",
     R"({"type": "array", "items": {"type": "object", "required": ["type", "function"], "properties": {"type": {"const": "function"}, "function": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}, "description": {"type": "string"}, "parameters": {"type": "object"}, "strict": {"type": "boolean"}}}}}})",
     "What the model can call. Calls are always valid for the parameters' schemas."},
    {"tool_choice",
     R"({"oneOf": [{"enum": ["none", "auto", "required"]}, {"type": "object", "required": ["type", "function"], "properties": {"type": {"const": "function"}, "function": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}}}]})",
     "Whether it may, has to, and which."},
    {"parallel_tool_calls", kBoolean, "Whether several calls may come in one answer."},
    {"chat_template_kwargs", R"({"type": "object"})", "Further variables of the chat template."},
};

constexpr FieldDoc kCompletionFields[] = {
    {"prompt", kInput, "What is continued."},
    {"echo", kBoolean, "The prompt is part of the text; with logprobs, its tokens as well."},
    {"logprobs", R"({"type": "integer", "minimum": 0, "maximum": 20})", "Of each token, and of this many others."},
    {"best_of", kInteger, "Has to be n."},
};

constexpr FieldDoc kEmbeddingFields[] = {
    {"model", kString, "A name that /v1/models lists."},
    {"lora", kStrings, "Names of adapters."},
    {"input", kInput, "One text or several."},
    {"encoding_format", R"({"enum": ["float", "base64"]})", "Of the vectors."},
    {"pooling", R"({"enum": ["mean", "last"]})", "Over the positions: their mean, or the last one."},
    {"dimensions", kInteger, "Has to be what the model has."},
    {"user", kString, "Not used."},
};

constexpr FieldDoc kTokenizeFields[] = {
    {"model", kString, "Not used."},
    {"content", kString, "The text."},
    {"prompt", kString, "The same by vLLM's name."},
    {"messages", R"({"type": "array", "items": {"$ref": "#/components/schemas/Message"}})",
     "A conversation in its place."},
    {"tools", R"({"type": "array", "items": {"type": "object"}})", "For the template."},
    {"chat_template_kwargs", R"({"type": "object"})", "Further variables of the template."},
    {"add_special", kBoolean, "With the beginning and end tokens of the model."},
    {"parse_special", kBoolean, "Special tokens may be named in the text."},
    {"with_pieces", kBoolean, "With the text of each token."},
};

constexpr FieldDoc kDetokenizeFields[] = {
    {"model", kString, "Not used."},
    {"tokens", R"({"type": "array", "items": {"type": "integer", "minimum": 0}})", "Token ids."},
};

template <size_t N>
void add_fields(const FieldDoc (&fields)[N], Json* properties) {
  for (const FieldDoc& field : fields) {
    Json schema = Json::parse(field.schema);
    schema["description"] = field.description;
    (*properties)[field.name] = std::move(schema);
  }
}

Json object_schema(Json properties, const std::vector<std::string>& required = {}) {
  Json schema = {{"type", "object"}, {"properties", std::move(properties)}, {"additionalProperties", false}};
  if (!required.empty()) schema["required"] = required;
  return schema;
}

Json ref(const std::string& name) { return {{"$ref", "#/components/schemas/" + name}}; }

Json content(const std::string& type, Json schema) { return {{type, {{"schema", std::move(schema)}}}}; }

Json errors() {
  Json out = Json::object();
  for (const auto& [status, text] : {std::pair("400", "A field is missing, unknown or has a wrong value."),
                                     {"401", "The API key is missing or wrong."},
                                     {"404", "There is no such model or path."},
                                     {"413", "The body is too large."},
                                     {"415", "The body is not JSON."},
                                     {"429", "Too many requests wait."},
                                     {"503", "The server is stopping or too busy."}}) {
    out[status] = {{"description", text}, {"content", content("application/json", ref("Error"))}};
  }
  return out;
}

Json post(const char* id, const char* summary, const std::string& request, const std::string& response, bool streams) {
  Json ok = {{"description", "The answer."}, {"content", content("application/json", ref(response))}};
  if (streams) ok["content"]["text/event-stream"] = {{"schema", {{"type", "string"}}}};
  Json responses = {{"200", std::move(ok)}};
  responses.update(errors());
  return {{"post",
           {{"operationId", id},
            {"summary", summary},
            {"requestBody", {{"required", true}, {"content", content("application/json", ref(request))}}},
            {"responses", std::move(responses)}}}};
}

Json get(const char* id, const char* summary, const std::string& type, Json schema, bool is_public) {
  Json operation = {
      {"operationId", id},
      {"summary", summary},
      {"responses", {{"200", {{"description", "The answer."}, {"content", content(type, std::move(schema))}}}}}};
  if (is_public) operation["security"] = Json::array({Json::object()});
  return {{"get", std::move(operation)}};
}

constexpr const char* kSchemas = R"json({
  "Error": {"type": "object", "required": ["error"], "properties": {"error": {"type": "object",
    "required": ["message", "type", "param", "code"], "properties": {"message": {"type": "string"}, "type": {"type": "string"},
    "param": {"type": ["string", "null"]}, "code": {"type": ["string", "null"]}}}}},
  "Message": {"type": "object", "required": ["role"], "properties": {
    "role": {"enum": ["system", "developer", "user", "assistant", "tool"]},
    "content": {"oneOf": [{"type": ["string", "null"]}, {"type": "array", "items": {"type": "object",
      "required": ["type", "text"], "properties": {"type": {"const": "text"}, "text": {"type": "string"}}}}]},
    "name": {"type": "string"}, "reasoning_content": {"type": "string"}, "tool_call_id": {"type": "string"},
    "tool_calls": {"type": "array", "items": {"$ref": "#/components/schemas/ToolCall"}}}},
  "ToolCall": {"type": "object", "required": ["type", "function"], "properties": {"id": {"type": "string"},
    "type": {"const": "function"}, "function": {"type": "object", "required": ["name", "arguments"],
    "properties": {"name": {"type": "string"}, "arguments": {"type": "string"}}}}},
  "Usage": {"type": "object", "properties": {"prompt_tokens": {"type": "integer"}, "completion_tokens": {"type": "integer"},
    "total_tokens": {"type": "integer"}, "prompt_tokens_details": {"type": "object",
    "properties": {"cached_tokens": {"type": "integer"}}}}},
  "ChatCompletion": {"type": "object", "properties": {"id": {"type": "string"}, "object": {"const": "chat.completion"},
    "created": {"type": "integer"}, "model": {"type": "string"}, "system_fingerprint": {"type": "string"},
    "choices": {"type": "array", "items": {"type": "object", "properties": {"index": {"type": "integer"},
      "message": {"$ref": "#/components/schemas/Message"}, "logprobs": {"type": ["object", "null"]},
      "finish_reason": {"enum": ["stop", "length", "tool_calls", "timeout"]}}}},
    "usage": {"$ref": "#/components/schemas/Usage"}}},
  "Completion": {"type": "object", "properties": {"id": {"type": "string"}, "object": {"const": "text_completion"},
    "created": {"type": "integer"}, "model": {"type": "string"}, "system_fingerprint": {"type": "string"},
    "choices": {"type": "array", "items": {"type": "object", "properties": {"index": {"type": "integer"},
      "text": {"type": "string"}, "logprobs": {"type": ["object", "null"]},
      "finish_reason": {"enum": ["stop", "length", "timeout"]}}}},
    "usage": {"$ref": "#/components/schemas/Usage"}}},
  "Embeddings": {"type": "object", "properties": {"object": {"const": "list"}, "model": {"type": "string"},
    "data": {"type": "array", "items": {"type": "object", "properties": {"object": {"const": "embedding"},
      "index": {"type": "integer"}, "embedding": {"oneOf": [{"type": "array", "items": {"type": "number"}}, {"type": "string"}]}}}},
    "usage": {"$ref": "#/components/schemas/Usage"}}},
  "Model": {"type": "object", "properties": {"id": {"type": "string"}, "object": {"const": "model"},
    "created": {"type": "integer"}, "owned_by": {"type": "string"}, "max_model_len": {"type": "integer"}}},
  "Models": {"type": "object", "properties": {"object": {"const": "list"},
    "data": {"type": "array", "items": {"$ref": "#/components/schemas/Model"}}}},
  "Tokens": {"type": "object", "properties": {"tokens": {"type": "array", "items": {"type": ["integer", "object"]}},
    "count": {"type": "integer"}, "max_model_len": {"type": "integer"}}},
  "Text": {"type": "object", "properties": {"content": {"type": "string"}, "prompt": {"type": "string"}}},
  "Health": {"type": "object", "properties": {"status": {"enum": ["ok", "stopping"]}}}
})json";

}  // namespace

Json openapi_document(std::string_view version) {
  Json schemas = Json::parse(kSchemas);
  Json chat = Json::object(), completion = Json::object(), embedding = Json::object(), tokenize = Json::object(),
       detokenize = Json::object();
  add_fields(kChatFields, &chat);
  add_fields(kGenerationFields, &chat);
  add_fields(kCompletionFields, &completion);
  add_fields(kGenerationFields, &completion);
  add_fields(kEmbeddingFields, &embedding);
  add_fields(kTokenizeFields, &tokenize);
  add_fields(kDetokenizeFields, &detokenize);
  schemas["ChatCompletionRequest"] = object_schema(std::move(chat), {"messages"});
  schemas["CompletionRequest"] = object_schema(std::move(completion), {"prompt"});
  schemas["EmbeddingRequest"] = object_schema(std::move(embedding), {"input"});
  schemas["TokenizeRequest"] = object_schema(std::move(tokenize));
  schemas["DetokenizeRequest"] = object_schema(std::move(detokenize), {"tokens"});

  Json paths = Json::object();
  paths["/v1/chat/completions"] = post("createChatCompletion", "The next message of a conversation",
                                       "ChatCompletionRequest", "ChatCompletion", true);
  paths["/v1/completions"] = post("createCompletion", "A text continued", "CompletionRequest", "Completion", true);
  paths["/v1/embeddings"] = post("createEmbedding", "Vectors of texts", "EmbeddingRequest", "Embeddings", false);
  paths["/tokenize"] = post("tokenize", "The tokens of a text or a conversation", "TokenizeRequest", "Tokens", false);
  paths["/detokenize"] = post("detokenize", "The text of tokens", "DetokenizeRequest", "Text", false);
  paths["/v1/models"] = get("listModels", "The model and its adapters", "application/json", ref("Models"), false);
  paths["/v1/models/{model}"] = get("retrieveModel", "One of them", "application/json", ref("Model"), false);
  paths["/v1/models/{model}"]["parameters"] =
      Json::array({{{"name", "model"}, {"in", "path"}, {"required", true}, {"schema", {{"type", "string"}}}}});
  paths["/health"] = get("health", "Whether the server takes requests", "application/json", ref("Health"), true);
  paths["/metrics"] = get("metrics", "Counters for Prometheus", "text/plain", {{"type", "string"}}, false);
  paths["/openapi.json"] = get("openapi", "This document", "application/json", {{"type", "object"}}, true);

  return {
      {"openapi", "3.1.0"},
      {"info",
       {{"title", "Decant"},
        {"version", std::string(version)},
        {"summary", "A decoding engine behind the OpenAI API"},
        {"license", {{"name", "Apache-2.0"}, {"identifier", "Apache-2.0"}}}}},
      {"security", Json::array({{{"key", Json::array()}}, Json::object()})},
      {"paths", std::move(paths)},
      {"components",
       {{"schemas", std::move(schemas)}, {"securitySchemes", {{"key", {{"type", "http"}, {"scheme", "bearer"}}}}}}}};
}

}  // namespace decant::serve
