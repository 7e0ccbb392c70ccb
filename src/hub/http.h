// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// GET over HTTP and HTTPS: libcurl with the settings that fetching from an untrusted server needs.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "base/status.h"

namespace decant {

struct HttpSettings {
  int connect_timeout_s = 10;
  int stall_timeout_s = 30;  // without a byte
  bool https_only = true;    // also of what a redirect leads to
  std::string user_agent;
  std::string certificates;  // a file of trusted certificates; "": the system's
  std::string certificate_folder;
};

struct HttpRequest {
  std::string url;
  std::string token;     // bearer token; goes to this URL's host and port only, never to where a redirect leads
  int64_t offset = 0;    // > 0: asks for the bytes from here on
  std::string if_range;  // with an offset: only if this is still the entity's tag
};

using HttpHeaders = std::map<std::string, std::string, std::less<>>;  // names in lower case; the last of equal ones

struct HttpAnswer {
  int status = 0;       // of the last answer; 0: none came
  HttpHeaders headers;  // of the last answer
  HttpHeaders linked;   // x-linked-* and x-repo-commit, of the first answer that had them
  std::string host;     // that gave the last answer
};

// What went wrong below HTTP.
enum class HttpFault {
  kNone,
  kNoSuchHost,
  kUnreachable,  // no connection
  kStalled,      // a time-out
  kCut,          // the connection ended early
  kUntrusted,    // the certificate
  kTls,          // other failures of TLS
  kRedirects,    // more than kMaxRedirects
  kDowngrade,    // a redirect away from HTTPS, or to something that is not HTTP
  kStopped,      // a callback said so
  kOther,
};
inline constexpr int kMaxRedirects = 10;

struct HttpOutcome {
  HttpFault fault = HttpFault::kNone;
  std::string reason;  // libcurl's words
  HttpAnswer answer;
};

struct HttpEvents {
  // Bytes of the body of an answer 200 or 206 (bodies of others are dropped). False ends the transfer.
  std::function<bool(const HttpAnswer&, std::string_view)> body;
  // Called several times a second. False ends the transfer.
  std::function<bool()> tick;
};

// One connection, kept open between requests. One caller.
class Http {
 public:
  // kUnsupported when libcurl lacks HTTPS or cannot start.
  static Result<Http> open(const HttpSettings& settings);
  HttpOutcome get(const HttpRequest& request, const HttpEvents& events);

 private:
  struct Free {
    void operator()(void* curl) const;
  };
  explicit Http(HttpSettings settings) : settings_(std::move(settings)) {}
  HttpSettings settings_;
  std::unique_ptr<void, Free> curl_;
};

}  // namespace decant
