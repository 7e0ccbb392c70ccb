// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// The HTTP side of a load generator: thousands of streamed requests from one thread, each chunk with the time it came.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "cli/load_figures.h"

namespace decant::cli {

struct ServerUrl {
  std::string host, port;
  std::string base;  // path in front of /v1, "" or "/..." without a slash at its end
  std::string text;  // for messages
};
// "http://host:port[/base]"; a "/v1" at its end is left out. kInvalidArgument, kUnsupported for https.
Result<ServerUrl> parse_server_url(std::string_view text);

struct ClientOptions {
  ServerUrl url;
  std::string api_key;  // "" for none
  int timeout_s = 600;  // of silence
};

struct HttpAnswer {
  int status = 0;
  std::string body;
};
// kIo: no connection, or no HTTP.
Result<HttpAnswer> http_get(const ClientOptions& options, const std::string& path);

// "HTTP 401: ...", with the server's own words and, where there is one, what to do.
std::string http_failure(int status, std::string_view body);

struct LoadPlan {
  std::string path;  // "/v1/completions"
  std::function<std::string(size_t)> body;
  std::function<bool(size_t)> is_long;  // for the records; may be empty
  size_t requests = 0;                  // 0: as many as come within the duration
  double duration_s = 0;                // then nothing is sent any more, and what still runs is cut; 0: no limit
  size_t streams = 1;                   // closed loop: so many requests at any time
  std::vector<double> arrivals;  // open loop: when each is sent, seconds; then `streams` and `requests` say nothing
};

struct LoadState {
  size_t started = 0, ended = 0, failed = 0;
  size_t chunks = 0;
  double seconds = 0;
};

// Runs the load. A request that fails is a record with the reason. `on_tick` is called ten times a second; false ends
// the load (kCancelled). kIo when the host's name is not found.
Result<std::vector<StreamRecord>> run_load(const ClientOptions& options, const LoadPlan& plan,
                                           const std::function<bool(const LoadState&)>& on_tick);

}  // namespace decant::cli
