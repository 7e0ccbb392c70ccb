// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// HTTP/1.1 messages: what a client may send, within limits, and what it gets. No sockets here (http_server.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace decant::serve {

using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

struct HttpRequest {
  std::string method;   // "GET"
  std::string path;     // of the target, as sent, without the query
  std::string query;    // behind '?'
  HttpHeaders headers;  // names in lower case
  std::string body;
  std::string peer;  // the client's address
  bool keep_alive = true;
  bool is_http_1_0 = false;

  // The value of the first header of that name (lower case), or "".
  std::string_view header(std::string_view name) const;
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  std::string body;
  HttpHeaders headers;  // further ones
};

std::string_view reason_phrase(int status);

// An error as the OpenAI API writes it: {"error": {"message", "type", "param", "code"}}. "" becomes null for `param`
// and `code`; bytes that are not UTF-8 become U+FFFD.
std::string error_json(std::string_view message, std::string_view type, std::string_view param, std::string_view code);
// The same as an answer; the type goes with the status.
HttpResponse error_response(int status, std::string_view message, std::string_view param = {},
                            std::string_view code = {});

// Status line and headers. `length`: of the body; none: it comes in chunks, or up to the end of the connection for a
// client of HTTP/1.0.
std::string response_head(const HttpResponse& response, std::optional<size_t> length, bool keep_alive,
                          bool is_http_1_0);

struct HttpLimits {
  size_t max_target = 8192;                   // bytes of the request's target: 414
  size_t max_header_bytes = size_t{1} << 15;  // of the request line and all headers: 431
  size_t max_headers = 100;                   // 431
  size_t max_body_bytes = size_t{16} << 20;   // 413
};

// Reads one request from bytes that arrive in any pieces. A value of one connection; the bytes behind the request are
// the next one's.
class HttpParser {
 public:
  enum class State {
    kHead,    // the request line and headers are not complete
    kBody,    // the head is there and is fine
    kDone,    // take() gives the request
    kFailed,  // problem() is the answer; the connection is of no further use
  };

  explicit HttpParser(const HttpLimits& limits);
  ~HttpParser();
  HttpParser(HttpParser&&) noexcept;
  HttpParser& operator=(HttpParser&&) noexcept;

  // Takes all bytes, but for a step from kHead to kBody, at which it returns: then call it again, with "".
  State push(std::string_view bytes);
  State state() const;
  bool is_empty() const;  // nothing has arrived

  // Of kBody: whether the client waits for "100 Continue", the length that it announced (0 for chunks), and the bytes
  // of the body so far.
  bool expects_continue() const;
  uint64_t announced_bytes() const;
  size_t body_bytes() const;

  const HttpResponse& problem() const;
  HttpRequest take();
  // Bytes behind the request.
  std::string rest();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace decant::serve
