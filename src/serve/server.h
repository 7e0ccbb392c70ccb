// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// decant serve: the routes of the OpenAI API and what an operator needs besides, over one engine.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "serve/engine_thread.h"
#include "serve/http_server.h"
#include "serve/openai_request.h"
#include "serve/playground.h"
#include "serve/served_model.h"

namespace decant::serve {

struct ServerOptions {
  HttpServerOptions http;
  RequestLimits limits;
  std::vector<std::string> api_keys;  // none: everybody may
  std::string cors_origin;            // the origin whose pages may call, "*" for all; "": none
  bool log_prompts = false;           // logs hold the bodies of requests
  int workers = 2;
  std::span<const Asset> assets;                   // files that everybody may have, with kPlaygroundPolicy
  std::function<void(std::string_view line)> log;  // thread-safe; may be empty
};

class Server {
 public:
  // Listens when it returns. `engine` must outlive it.
  static Result<std::unique_ptr<Server>> start(ServerOptions options, std::shared_ptr<ServedModel> model,
                                               EngineThread& engine);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  int port() const;
  // No new requests; those that run may end within `grace`, then they are ended with a word to their clients. All is
  // over when it returns, a few seconds after that at the latest; the engine's thread has stopped as well.
  void shut_down(std::chrono::milliseconds grace);

 private:
  class Impl;
  explicit Server(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

}  // namespace decant::serve
