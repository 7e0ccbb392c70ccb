// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// An event-driven HTTP/1.1 server: one thread for all connections, thousands of them, of which an idle one costs a few
// kilobytes. It knows nothing of what is served: a handler gets each request and a Responder, and may answer at once or
// later, from any thread, whole or as a stream.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/status.h"
#include "serve/http_message.h"

namespace decant::serve {

// The answer to one request. Thread-safe. One that is destroyed unanswered says 500.
class Responder {
 public:
  virtual ~Responder() = default;

  // The whole answer. Only the first call of send() and begin_stream() counts.
  virtual void send(HttpResponse response) = 0;
  // The head of an answer that comes in pieces; its body is the first one. `heartbeat` is written when nothing else has
  // been for a while, so that a client that is gone is noticed. Like write(), false if the client is gone.
  virtual bool begin_stream(HttpResponse head, std::string heartbeat = {}) = 0;
  // A piece. A client that reads too slowly for max_output_bytes is cut off.
  virtual bool write(std::string_view bytes) = 0;
  virtual void end() = 0;
  // Called once, on another thread or on this one, if the client goes before the answer is complete. Not called
  // afterwards.
  virtual void on_closed(std::function<void()> callback) = 0;
};

// Runs on the connections' thread, so it has to be quick.
using HttpHandler = std::function<void(HttpRequest request, std::shared_ptr<Responder> responder)>;

struct HttpServerOptions {
  std::string host = "127.0.0.1";  // an address or a name
  int port = 8080;                 // 0: a free one
  HttpLimits limits;
  size_t max_connections = 4096;                    // one more gets 503
  size_t max_total_body_bytes = size_t{256} << 20;  // of requests that are being read: 503
  size_t max_output_bytes = size_t{1} << 20;        // of a stream, that its client has not read
  std::chrono::milliseconds read_timeout{30'000};   // for a whole request, from its first byte: 408
  std::chrono::milliseconds idle_timeout{75'000};   // of a connection between requests
  std::chrono::milliseconds write_timeout{30'000};  // without the client taking a byte
  std::chrono::milliseconds heartbeat_period{10'000};
};

struct HttpCounters {
  int64_t connections = 0;   // open
  int64_t accepted = 0;      // since the start
  int64_t refused = 0;       // for max_connections
  int64_t requests = 0;      // handed to the handler
  int64_t streams = 0;       // answers that are being streamed
  int64_t cut_off = 0;       // clients that read too slowly
  int64_t malformed = 0;     // requests answered by the server itself
  int64_t unsent_bytes = 0;  // of answers, that wait for their clients
};

class HttpServer {
 public:
  // Listens when it returns. kIo: the address cannot be had.
  static Result<std::unique_ptr<HttpServer>> start(const HttpServerOptions& options, HttpHandler handler);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  int port() const;
  HttpCounters counters() const;

  // No new connections; idle ones are closed, others after the answer that they wait for.
  void drain();
  // Whether all connections are closed, after waiting for it.
  bool wait_closed(std::chrono::milliseconds timeout);
  // Closes all connections and ends the thread. Responders may outlive it; what they are given goes nowhere.
  void stop();

  struct Core;

 private:
  explicit HttpServer(std::shared_ptr<Core> core);
  std::shared_ptr<Core> core_;
};

}  // namespace decant::serve
