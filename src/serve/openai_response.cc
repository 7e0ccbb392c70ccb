// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "serve/openai_response.h"

#include <fmt/format.h>

#include <cmath>
#include <mutex>
#include <random>

namespace decant::serve {
namespace {

// JSON has no infinity.
Json number(float logprob) { return std::isfinite(logprob) ? Json(logprob) : Json(-9999.0); }

std::string_view origin_name(TokenOrigin origin) {
  switch (origin) {
    case TokenOrigin::kDraft: return "draft";
    case TokenOrigin::kForced: return "forced";
    default: return "model";
  }
}

Json token_json(const Tokenizer& tokenizer, TokenId token, float logprob) {
  const std::string_view piece = tokenizer.piece(token, true);
  return {{"token", std::string(piece)},
          {"logprob", number(logprob)},
          {"bytes", std::vector<uint8_t>(piece.begin(), piece.end())},
          {"token_id", token}};
}

}  // namespace

Json usage_json(const Usage& usage) {
  return {{"prompt_tokens", usage.prompt_tokens},
          {"completion_tokens", usage.completion_tokens},
          {"total_tokens", usage.prompt_tokens + usage.completion_tokens},
          {"prompt_tokens_details", {{"cached_tokens", usage.cached_tokens}}},
          {"completion_tokens_details",
           {{"drafted_tokens", usage.drafted_tokens}, {"accepted_draft_tokens", usage.accepted_tokens}}}};
}

Json head_json(const AnswerHead& head) {
  return {{"id", head.id},
          {"object", head.object},
          {"created", head.created},
          {"model", head.model},
          {"system_fingerprint", head.fingerprint}};
}

Json chat_logprobs(const Tokenizer& tokenizer, std::span<const AnswerToken> tokens) {
  Json list = Json::array();
  for (const AnswerToken& token : tokens) {
    Json entry = token_json(tokenizer, token.draw.token, token.draw.logprob);
    Json& top = entry["top_logprobs"] = Json::array();
    for (const TokenLogprob& t : token.draw.top) top.push_back(token_json(tokenizer, t.token, t.logprob));
    entry["origin"] = origin_name(token.draw.origin);
    list.push_back(std::move(entry));
  }
  return {{"content", std::move(list)}, {"refusal", nullptr}};
}

void LegacyLogprobs::add(const Tokenizer& tokenizer, TokenId token, const Draw* draw, size_t offset, int n) {
  json["tokens"].push_back(std::string(tokenizer.piece(token, true)));
  json["text_offset"].push_back(offset);
  if (draw == nullptr) {
    json["token_logprobs"].push_back(nullptr);
    json["top_logprobs"].push_back(nullptr);
    return;
  }
  json["token_logprobs"].push_back(number(draw->logprob));
  Json top = Json::object();
  for (const TokenLogprob& t : std::span(draw->top).first(std::min(draw->top.size(), static_cast<size_t>(n)))) {
    top[std::string(tokenizer.piece(t.token, true))] = number(t.logprob);
  }
  json["top_logprobs"].push_back(std::move(top));
}

Json prompt_logprobs_json(const Tokenizer& tokenizer, std::span<const TokenId> prompt, std::span<const Draw> draws,
                          int n) {
  Json out = Json::array({nullptr});
  for (size_t i = 1; i < prompt.size() && i <= draws.size(); ++i) {
    const Draw& draw = draws[i - 1];
    Json& entry = out.emplace_back(Json::object());
    const auto add = [&](TokenId token, float logprob, Json rank) {
      entry[std::to_string(token)] = {{"logprob", number(logprob)},
                                      {"rank", std::move(rank)},
                                      {"decoded_token", std::string(tokenizer.piece(token, true))}};
    };
    add(draw.token, draw.logprob, nullptr);
    for (size_t k = 0; k < draw.top.size(); ++k) {
      const TokenLogprob& t = draw.top[k];
      if (t.token == draw.token || k < static_cast<size_t>(n)) add(t.token, t.logprob, k + 1);
    }
  }
  return out;
}

Json delta_json(const ChatPiece& piece, const std::vector<std::string>& call_ids) {
  switch (piece.kind) {
    case ChatPiece::Kind::kReasoning: return {{"reasoning_content", piece.text}};
    case ChatPiece::Kind::kContent: return {{"content", piece.text}};
    case ChatPiece::Kind::kCall:
      return {{"tool_calls", Json::array({{{"index", piece.call},
                                           {"id", call_ids[static_cast<size_t>(piece.call)]},
                                           {"type", "function"},
                                           {"function", {{"name", piece.text}, {"arguments", ""}}}}})}};
    case ChatPiece::Kind::kArguments:
      return {{"tool_calls", Json::array({{{"index", piece.call}, {"function", {{"arguments", piece.text}}}}})}};
  }
  return Json::object();
}

Json message_json(std::span<const ChatPiece> pieces, const std::vector<std::string>& call_ids) {
  std::string content, reasoning;
  Json calls = Json::array();
  for (const ChatPiece& piece : pieces) {
    switch (piece.kind) {
      case ChatPiece::Kind::kReasoning: reasoning += piece.text; break;
      case ChatPiece::Kind::kContent: content += piece.text; break;
      case ChatPiece::Kind::kCall:
        calls.push_back({{"id", call_ids[static_cast<size_t>(piece.call)]},
                         {"type", "function"},
                         {"function", {{"name", piece.text}, {"arguments", ""}}}});
        break;
      case ChatPiece::Kind::kArguments: {
        Json& arguments = calls.back()["function"]["arguments"];
        arguments = arguments.get<std::string>() + piece.text;
        break;
      }
    }
  }
  Json message = {{"role", "assistant"}, {"content", content}, {"refusal", nullptr}};
  if (content.empty() && !calls.empty()) message["content"] = nullptr;
  if (!reasoning.empty()) message["reasoning_content"] = reasoning;
  if (!calls.empty()) message["tool_calls"] = std::move(calls);
  return message;
}

std::string make_id(std::string_view prefix) {
  static std::mutex mutex;
  static std::mt19937_64 random = [] {
    std::random_device device;
    return std::mt19937_64((static_cast<uint64_t>(device()) << 32) | device());
  }();
  const std::lock_guard lock(mutex);
  return fmt::format("{}-{:016x}{:08x}", prefix, random(), static_cast<uint32_t>(random()));
}

std::string dump_json(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

std::string event(const Json& json) { return "data: " + dump_json(json) + "\n\n"; }

std::string base64(std::span<const uint8_t> bytes) {
  static constexpr char kAlphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const size_t n = std::min<size_t>(3, bytes.size() - i);
    uint32_t group = static_cast<uint32_t>(bytes[i]) << 16;
    if (n > 1) group |= static_cast<uint32_t>(bytes[i + 1]) << 8;
    if (n > 2) group |= bytes[i + 2];
    for (size_t k = 0; k < 4; ++k) out += k <= n ? kAlphabet[(group >> (18 - 6 * k)) & 63] : '=';
  }
  return out;
}

}  // namespace decant::serve
