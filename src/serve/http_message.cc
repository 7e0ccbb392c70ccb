// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// The only file that sees Boost.Beast.
#include "serve/http_message.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <ctime>
#include <nlohmann/json.hpp>

namespace decant::serve {

namespace http = boost::beast::http;

std::string_view HttpRequest::header(std::string_view name) const {
  for (const auto& [key, value] : headers) {
    if (key == name) return value;
  }
  return {};
}

std::string_view reason_phrase(int status) {
  const auto text = http::obsolete_reason(static_cast<http::status>(status));
  return {text.data(), text.size()};
}

std::string error_json(std::string_view message, std::string_view type, std::string_view param, std::string_view code) {
  using Json = nlohmann::ordered_json;
  const auto or_null = [](std::string_view text) { return text.empty() ? Json(nullptr) : Json(std::string(text)); };
  const Json json = {{"error",
                      {{"message", std::string(message)},
                       {"type", std::string(type)},
                       {"param", or_null(param)},
                       {"code", or_null(code)}}}};
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

HttpResponse error_response(int status, std::string_view message, std::string_view param, std::string_view code) {
  const std::string_view type = status == 401                    ? "authentication_error"
                                : status == 403                  ? "permission_error"
                                : status == 404                  ? "not_found_error"
                                : status == 429                  ? "rate_limit_error"
                                : status == 503                  ? "overloaded_error"
                                : status == 500 || status == 504 ? "server_error"
                                                                 : "invalid_request_error";
  HttpResponse response{.status = status, .body = error_json(message, type, param, code)};
  if (status == 429 || status == 503) response.headers.emplace_back("Retry-After", "1");
  return response;
}

std::string response_head(const HttpResponse& response, std::optional<size_t> length, bool keep_alive,
                          bool is_http_1_0) {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  ::gmtime_r(&now, &utc);
  char date[40];
  const size_t written = std::strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", &utc);
  std::string head = fmt::format("HTTP/1.1 {} {}\r\nDate: {}\r\nServer: decant\r\nX-Content-Type-Options: nosniff\r\n",
                                 response.status, reason_phrase(response.status), std::string_view(date, written));
  const bool has_body = response.status != 204 && response.status != 304;
  if (has_body) head += fmt::format("Content-Type: {}\r\n", response.content_type);
  if (length) {
    if (has_body) head += fmt::format("Content-Length: {}\r\n", *length);
  } else if (!is_http_1_0) {
    head += "Transfer-Encoding: chunked\r\n";
  }
  for (const auto& [name, value] : response.headers) head += fmt::format("{}: {}\r\n", name, value);
  head += keep_alive ? "Connection: keep-alive\r\n\r\n" : "Connection: close\r\n\r\n";
  return head;
}

struct HttpParser::Impl {
  explicit Impl(const HttpLimits& given) : limits(given) {
    // Beast counts up to the end of the headers; the target has a limit of its own.
    parser.header_limit(static_cast<uint32_t>(limits.max_header_bytes + limits.max_target));
    parser.body_limit(limits.max_body_bytes);
  }

  HttpLimits limits;
  http::request_parser<http::string_body> parser;
  std::string held;  // not parsed yet
  State state = State::kHead;
  bool expects_continue = false;
  HttpResponse problem;

  State fail(int status, std::string_view message, std::string_view code = {}) {
    problem = error_response(status, message, {}, code);
    held.clear();
    return state = State::kFailed;
  }

  // Before Beast sees the request line: it has one limit for all of the head.
  bool target_fits() const {
    const size_t line = std::min(held.find('\n'), held.size());
    const std::string_view text(held.data(), line);
    const size_t first = text.find(' ');
    if (first == std::string_view::npos) return line <= limits.max_target + 64;
    const size_t second = std::min(text.find(' ', first + 1), text.size());
    return second - first - 1 <= limits.max_target;
  }

  // Whether the request line is fine but for its version.
  bool is_other_version() const {
    const std::string_view line = std::string_view(held).substr(0, held.find_first_of("\r\n"));
    const size_t version = line.rfind(" HTTP/");
    return version != std::string_view::npos && std::count(line.begin(), line.end(), ' ') == 2;
  }

  State fail(const boost::beast::error_code& error) {
    if (error == http::error::header_limit) {
      return fail(431, fmt::format("the headers are larger than {} bytes", limits.max_header_bytes));
    }
    if (error == http::error::body_limit || error == http::error::buffer_overflow) {
      return fail(413, fmt::format("the request's body is larger than {} bytes", limits.max_body_bytes),
                  "request_too_large");
    }
    if (error == http::error::bad_version && is_other_version()) {
      return fail(505, "only HTTP/1.1 and HTTP/1.0 are spoken here");
    }
    return fail(400, fmt::format("this is no HTTP request: {}", error.message()));
  }

  State check_head() {
    const auto& message = parser.get();
    if (message.version() != 11 && message.version() != 10) {
      return fail(505, "only HTTP/1.1 and HTTP/1.0 are spoken here");
    }
    if (std::distance(message.begin(), message.end()) > static_cast<ptrdiff_t>(limits.max_headers)) {
      return fail(431, fmt::format("more than {} headers", limits.max_headers));
    }
    const auto hosts = message.count(http::field::host);
    if (hosts > 1 || (hosts == 0 && message.version() == 11)) {
      return fail(400, hosts > 1 ? "more than one Host header" : "the Host header is missing");
    }
    const auto encoding = message[http::field::transfer_encoding];
    const bool has_length = message.count(http::field::content_length) > 0;
    if (message.count(http::field::transfer_encoding) > 0) {
      if (has_length) return fail(400, "Content-Length and Transfer-Encoding exclude each other");
      if (message.count(http::field::transfer_encoding) > 1 || !boost::beast::iequals(encoding, "chunked") ||
          message.version() == 10) {
        return fail(501, "the only Transfer-Encoding of requests is chunked");
      }
    } else if (!has_length && (message.method() == http::verb::post || message.method() == http::verb::put ||
                               message.method() == http::verb::patch)) {
      return fail(411, "the request needs a Content-Length");
    }
    const auto content_encoding = message[http::field::content_encoding];
    if (!content_encoding.empty() && !boost::beast::iequals(content_encoding, "identity")) {
      return fail(415, "compressed request bodies are not supported; send the body without Content-Encoding");
    }
    if (message.count(http::field::expect) > 0 && message.version() == 11) {
      if (!boost::beast::iequals(message[http::field::expect], "100-continue")) {
        return fail(417, "the only expectation that is met is 100-continue");
      }
      expects_continue = has_length || !encoding.empty();
    }
    const auto target = message.target();
    const bool is_absolute = target.starts_with("http://") || target.starts_with("https://");
    const bool is_asterisk = target == "*" && message.method() == http::verb::options;
    if (!target.starts_with('/') && !is_absolute && !is_asterisk) {
      return fail(400, "the request's target is no path");
    }
    return state = State::kBody;
  }

  State push(std::string_view bytes) {
    if (state == State::kFailed) return state;
    held.append(bytes);
    if (state == State::kDone) return state;
    const bool was_head = state == State::kHead;
    if (was_head) {
      // Empty lines before a request are skipped, as RFC 9112 2.2 says.
      if (!parser.got_some()) held.erase(0, std::min(held.find_first_not_of("\r\n"), held.size()));
      if (held.empty()) return state;
      if (!target_fits())
        return fail(414, fmt::format("the request's target is longer than {} bytes", limits.max_target));
    }
    boost::beast::error_code error;
    while (!held.empty() || (state == State::kBody && !parser.is_done())) {
      const size_t used = parser.put(boost::asio::const_buffer(held.data(), held.size()), error);
      held.erase(0, used);
      if (error == http::error::need_more) return state;
      if (error) return fail(error);
      if (state == State::kHead && parser.is_header_done()) {
        parser.eager(true);
        return check_head();
      }
      if (parser.is_done()) break;
      if (used == 0) return state;
    }
    if (state == State::kBody && parser.is_done()) state = State::kDone;
    return state;
  }
};

HttpParser::HttpParser(const HttpLimits& limits) : impl_(std::make_unique<Impl>(limits)) {}
HttpParser::~HttpParser() = default;
HttpParser::HttpParser(HttpParser&&) noexcept = default;
HttpParser& HttpParser::operator=(HttpParser&&) noexcept = default;

HttpParser::State HttpParser::push(std::string_view bytes) { return impl_->push(bytes); }
HttpParser::State HttpParser::state() const { return impl_->state; }
bool HttpParser::is_empty() const { return impl_->held.empty() && !impl_->parser.got_some(); }
bool HttpParser::expects_continue() const { return impl_->expects_continue; }
size_t HttpParser::body_bytes() const { return impl_->parser.get().body().size(); }
const HttpResponse& HttpParser::problem() const { return impl_->problem; }

uint64_t HttpParser::announced_bytes() const {
  const auto length = impl_->parser.content_length();
  return length ? *length : 0;
}

HttpRequest HttpParser::take() {
  auto message = impl_->parser.release();
  HttpRequest request;
  const auto method = message.method_string();
  request.method = std::string(method.data(), method.size());
  const auto whole = message.target();
  std::string_view target(whole.data(), whole.size());
  if (const size_t scheme = target.find("://"); !target.starts_with('/') && scheme != std::string_view::npos) {
    const size_t slash = target.find_first_of("/?", scheme + 3);
    target = slash == std::string_view::npos ? "/" : target.substr(slash);
  }
  const size_t query = std::min(target.find('?'), target.size());
  request.path = std::string(target.substr(0, query));
  if (query < target.size()) request.query = std::string(target.substr(query + 1));
  for (const auto& field : message) {
    std::string name(field.name_string().data(), field.name_string().size());
    std::transform(name.begin(), name.end(), name.begin(),
                   [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
    request.headers.emplace_back(std::move(name), std::string(field.value().data(), field.value().size()));
  }
  request.keep_alive = message.keep_alive();
  request.is_http_1_0 = message.version() == 10;
  request.body = std::move(message.body());
  return request;
}

std::string HttpParser::rest() { return std::move(impl_->held); }

}  // namespace decant::serve
