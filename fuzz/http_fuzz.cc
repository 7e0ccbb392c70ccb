// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// The first byte says what the rest is: bytes of a connection, a body of each route, or the text of a chat answer. What
// comes out does not depend on how bytes were cut, is within the limits, and every refusal says something.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "serve/chat_splitter.h"
#include "serve/http_message.h"
#include "serve/openai_request.h"

namespace decant::serve {
namespace {

constexpr HttpLimits kLimits{.max_target = 100, .max_header_bytes = 600, .max_headers = 8, .max_body_bytes = 1000};

struct Parsed {
  HttpParser::State state;
  int status = 0;
  HttpRequest request;
  std::string rest;
};

Parsed parse(std::string_view bytes, size_t step) {
  HttpParser parser(kLimits);
  HttpParser::State state = parser.state();
  for (size_t at = 0; at < bytes.size(); at += step) {
    state = parser.push(bytes.substr(at, step));
    if (state == HttpParser::State::kBody) state = parser.push("");
  }
  Parsed out{.state = state};
  if (state == HttpParser::State::kFailed) {
    out.status = parser.problem().status;
    DECANT_CHECK(out.status >= 400 && !parser.problem().body.empty());
  } else if (state == HttpParser::State::kDone) {
    out.request = parser.take();
    out.rest = parser.rest();
    DECANT_CHECK(out.request.body.size() <= kLimits.max_body_bytes);
    DECANT_CHECK(out.request.headers.size() <= kLimits.max_headers);
    DECANT_CHECK(!out.request.method.empty());
  }
  return out;
}

void check_connection(std::string_view bytes) {
  const Parsed one_by_one = parse(bytes, 1), whole = parse(bytes, bytes.size());
  DECANT_CHECK((one_by_one.state == HttpParser::State::kDone) == (whole.state == HttpParser::State::kDone));
  if (whole.state != HttpParser::State::kDone) return;
  DECANT_CHECK(one_by_one.request.body == whole.request.body && one_by_one.request.path == whole.request.path);
  DECANT_CHECK(one_by_one.rest == whole.rest);
}

void check_problem(const Problem& problem) {
  if (problem.ok()) return;
  DECANT_CHECK(problem.status == 400 && !problem.message.empty());
  DECANT_CHECK(nlohmann::json::parse(problem.response().body, nullptr, false).is_object());
}

template <class Request, class Read>
void check_body(std::string_view text, const Read& read) {
  Json body;
  Problem problem = parse_body(text, &body);
  if (problem.ok()) {
    Request request;
    problem = read(body, &request);
  }
  check_problem(problem);
}

std::string flat(const std::vector<ChatPiece>& pieces) {
  std::string text;
  std::optional<ChatPiece::Kind> before;
  for (const ChatPiece& piece : pieces) {
    if (before != piece.kind || piece.kind == ChatPiece::Kind::kCall) {
      text += "|" + std::to_string(static_cast<int>(piece.kind)) + ":" + std::to_string(piece.call) + ":";
    }
    text += piece.text;
    before = piece.kind;
  }
  return text;
}

void check_answer(std::string_view text, uint8_t form) {
  ChatSplitterOptions options{.reasons = (form & 1) != 0, .reasoning = (form & 2) != 0};
  static constexpr const char* kFormats[] = {"hermes", "llama3", "mistral"};
  if ((form >> 2) % 4 < 3) options.tools = parse_tool_format(kFormats[(form >> 2) % 4]).value();
  ChatSplitter whole(options), cut(options);
  std::vector<ChatPiece> of_whole, of_cut;
  whole.push(text, &of_whole);
  whole.finish(&of_whole);
  for (const char& c : text) cut.push({&c, 1}, &of_cut);
  cut.finish(&of_cut);
  DECANT_CHECK(flat(of_whole) == flat(of_cut));
  DECANT_CHECK(whole.calls() == cut.calls());
}

}  // namespace
}  // namespace decant::serve

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace decant::serve;
  if (size < 2) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  const RequestLimits limits;
  switch (data[0] % 7) {
    case 0: check_connection(text); break;
    case 1:
      check_body<ChatRequest>(text, [&](const Json& b, ChatRequest* r) { return read_chat_request(b, limits, {}, r); });
      break;
    case 2:
      check_body<CompletionRequest>(
          text, [&](const Json& b, CompletionRequest* r) { return read_completion_request(b, limits, {}, r); });
      break;
    case 3:
      check_body<EmbeddingRequest>(
          text, [&](const Json& b, EmbeddingRequest* r) { return read_embedding_request(b, limits, r); });
      break;
    case 4:
      check_body<TokenizeRequest>(
          text, [&](const Json& b, TokenizeRequest* r) { return read_tokenize_request(b, limits, r); });
      break;
    case 5:
      check_body<std::vector<decant::TokenId>>(
          text, [&](const Json& b, std::vector<decant::TokenId>* r) { return read_detokenize_request(b, r); });
      break;
    default: check_answer(text.substr(1), static_cast<uint8_t>(text[0]));
  }
  return 0;
}
