// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Answers and their pieces as the OpenAI API writes them.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "serve/answer_text.h"
#include "serve/chat_splitter.h"
#include "serve/json_fields.h"

namespace decant::serve {

struct Usage {
  int64_t prompt_tokens = 0, completion_tokens = 0, cached_tokens = 0;
  int64_t drafted_tokens = 0, accepted_tokens = 0;
};
Json usage_json(const Usage& usage);

// What all messages of one answer begin with.
struct AnswerHead {
  std::string id;
  std::string object;  // "chat.completion"
  int64_t created = 0;
  std::string model;
  std::string fingerprint;
};
Json head_json(const AnswerHead& head);

// {"content": [{token, bytes, logprob, top_logprobs, ...}]}
Json chat_logprobs(const Tokenizer& tokenizer, std::span<const AnswerToken> tokens);
// {"tokens", "token_logprobs", "top_logprobs", "text_offset"}; offsets count from `begin`.
struct LegacyLogprobs {
  Json json = {{"tokens", Json::array()},
               {"token_logprobs", Json::array()},
               {"top_logprobs", Json::array()},
               {"text_offset", Json::array()}};
  // `draw` null: the prompt's first token, of which nothing is known. At most `n` of its likeliest tokens.
  void add(const Tokenizer& tokenizer, TokenId token, const Draw* draw, size_t offset, int n);
};

// vLLM's prompt_logprobs: null for the first token, then {"ID": {"logprob", "rank", "decoded_token"}, ...} with the
// token and the `n` likeliest ones in its place; no rank where the token is not among those that were looked at.
Json prompt_logprobs_json(const Tokenizer& tokenizer, std::span<const TokenId> prompt, std::span<const Draw> draws,
                          int n);

// A whole message of pieces: {"role", "content", "reasoning_content", "tool_calls"}.
Json message_json(std::span<const ChatPiece> pieces, const std::vector<std::string>& call_ids);
// The changes of a chunk, for one piece.
Json delta_json(const ChatPiece& piece, const std::vector<std::string>& call_ids);

// A fresh name such as "chatcmpl-9f2c...".
std::string make_id(std::string_view prefix);
// UTF-8 with U+FFFD for what is none; members in their order.
std::string dump_json(const Json& json);
std::string event(const Json& json);  // "data: {...}\n\n"

std::string base64(std::span<const uint8_t> bytes);

}  // namespace decant::serve
