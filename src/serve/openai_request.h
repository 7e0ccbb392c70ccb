// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// What clients of the OpenAI API may ask for: request bodies read and checked, before anything is known of the model.
// docs/serving.md lists the fields. Fields of the API that change nothing here are taken and ignored, those that could
// not be honoured are refused by name.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "constrain/compile.h"
#include "sample/sampler.h"
#include "serve/json_fields.h"
#include "text/tokenizer.h"

namespace decant::serve {

struct RequestLimits {
  int max_choices = 16;                       // n
  int max_prompts = 64;                       // of one /v1/completions request
  int max_inputs = 2048;                      // of one /v1/embeddings request
  int max_tokens = -1;                        // of an answer; -1: what the context has room for
  size_t max_schema_bytes = size_t{1} << 18;  // of a schema, grammar, expression or list of tools
  double max_timeout = 600;                   // seconds; also where a request names none
};

// What answers of both kinds have in common.
struct GenerationFields {
  std::string model;              // as given; "": the served one
  std::vector<std::string> lora;  // names of adapters
  SamplerOptions sampler;         // without end tokens
  std::optional<uint64_t> seed;
  std::vector<std::string> dry_breakers;
  int n = 1;
  int max_tokens = -1;
  std::vector<std::string> stops;
  int n_logprobs = -1;  // GenerateRequest::n_logprobs
  bool stream = false, include_usage = false;
  std::optional<ConstraintSpec> constraint;
  std::string constraint_param;  // the field that it comes from
  bool finish_in_time = false, canonical = false;
  std::string draft, verifier;  // specs; "": the server's
  int draft_nodes = 0;
  std::string align;  // spec; "": answers are not aligned
  int prompt_logprobs = -1;
  int priority = 0;
  double timeout = 0;  // seconds
};

struct ChatRequest : GenerationFields {
  enum class Tools { kNone, kAuto, kRequired };

  Json messages;  // as templates want them
  Json tools;     // null: none
  Tools tool_choice = Tools::kNone;
  std::string only_tool;  // the one that has to be called
  bool parallel_calls = true;
  Json template_variables;  // an object or null
};

using PromptInput = std::variant<std::string, std::vector<TokenId>>;

struct CompletionRequest : GenerationFields {
  std::vector<PromptInput> prompts;
  bool echo = false;
};

struct EmbeddingRequest {
  std::string model;
  std::vector<std::string> lora;
  std::vector<PromptInput> inputs;
  std::optional<int> dimensions;
  bool base64 = false;
  bool last = false;  // pooling: the last position, else the mean
  double timeout = 0;
};

struct TokenizeRequest {
  std::optional<std::string> text;
  std::optional<ChatRequest> chat;  // messages in place of a text
  bool add_special = true, parse_special = false, with_pieces = false;
};

// `defaults`: the sampler's settings where a request says nothing.
Problem read_chat_request(const Json& body, const RequestLimits& limits, const SamplerOptions& defaults,
                          ChatRequest* out);
Problem read_completion_request(const Json& body, const RequestLimits& limits, const SamplerOptions& defaults,
                                CompletionRequest* out);
Problem read_embedding_request(const Json& body, const RequestLimits& limits, EmbeddingRequest* out);
Problem read_tokenize_request(const Json& body, const RequestLimits& limits, TokenizeRequest* out);
Problem read_detokenize_request(const Json& body, std::vector<TokenId>* out);

}  // namespace decant::serve
