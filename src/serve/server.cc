// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "serve/server.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <ctime>
#include <utility>

#include "base/printable.h"
#include "decant/version.h"
#include "serve/answer_job.h"
#include "serve/api_keys.h"
#include "serve/embedding_job.h"
#include "serve/metrics.h"
#include "serve/openapi.h"
#include "serve/worker_pool.h"

namespace decant::serve {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kMaxWaitingTasks = 1024;

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

std::string now_text() {
  const auto now = std::chrono::system_clock::now();
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch()).count() % 1000;
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03d}Z", fmt::gmtime(std::chrono::system_clock::to_time_t(now)), ms);
}

bool is_json(std::string_view content_type) {
  std::string type(content_type.substr(0, content_type.find(';')));
  std::transform(type.begin(), type.end(), type.begin(), [](unsigned char c) { return std::tolower(c); });
  type.resize(type.find_last_not_of(' ') + 1);
  return type == "application/json" || (type.starts_with("application/") && type.ends_with("+json"));
}

bool is_loopback(std::string_view host) { return host == "localhost" || host == "::1" || host.starts_with("127."); }

// Whether the value of a Host header is an address or a name of this machine, and not one that somebody's DNS may lead
// here.
bool is_own_name(std::string_view host) {
  if (host.starts_with('[')) return true;
  host = host.substr(0, host.rfind(':'));
  const bool is_address = !host.empty() && host.find_first_not_of("0123456789.") == std::string_view::npos;
  return is_address || host == "localhost" || host.ends_with(".localhost");
}

}  // namespace

class Server::Impl : public std::enable_shared_from_this<Server::Impl> {
 public:
  Impl(ServerOptions options, std::shared_ptr<ServedModel> model, EngineThread& engine)
      : options_(std::move(options)),
        model_(std::move(model)),
        engine_(engine),
        keys_(options_.api_keys),
        started_(std::time(nullptr)),
        fingerprint_(fmt::format("decant-{}", DECANT_VERSION)) {}

  Status listen() {
    pool_ = std::make_unique<WorkerPool>(options_.workers, kMaxWaitingTasks);
    Result<std::unique_ptr<HttpServer>> http =
        HttpServer::start(options_.http, [this](HttpRequest request, std::shared_ptr<Responder> responder) {
          dispatch(std::move(request), std::move(responder));
        });
    if (!http.ok()) return std::move(http).status();
    const std::lock_guard lock(http_mutex_);
    http_ = *std::move(http);
    return {};
  }

  int port() const { return http_->port(); }

  void shut_down(std::chrono::milliseconds grace) {
    if (stopping_.exchange(true) || http_ == nullptr) return;
    const auto begin = Clock::now();
    log({{"event", "stopping"}, {"open_answers", metrics_.answers_open.load()}});
    engine_.drain();
    http_->drain();
    const auto left = [&] {
      return std::max(std::chrono::milliseconds(0),
                      grace - std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - begin));
    };
    engine_.wait_idle(left());
    http_->wait_closed(std::min(left(), std::chrono::milliseconds(1000)));
    // What still runs is told that it ends; its clients get two seconds to take that.
    engine_.stop();
    pool_->stop();
    http_->wait_closed(std::chrono::milliseconds(2000));
    http_->stop();
    log({{"event", "stopped"}, {"seconds", seconds_since(begin)}});
  }

  ~Impl() { shut_down(std::chrono::milliseconds(0)); }

  void log(const Json& fields) const {
    if (!options_.log) return;
    Json line = {{"time", now_text()}, {"level", "info"}};
    line.update(fields);
    options_.log(dump_json(line));
  }

 private:
  // Who asks.
  struct Client {
    std::string name;   // for taking turns
    uint64_t salt = 0;  // of the prefix cache: what one key's clients sent is not to be found out by another's
  };

  // Adds to each answer what all have, and says in the log how it went.
  class Answer final : public Responder {
   public:
    Answer(std::shared_ptr<const Impl> server, Metrics* metrics, std::shared_ptr<Responder> to,
           const HttpRequest& request, std::string route)
        : server_(std::move(server)),
          metrics_(metrics),
          to_(std::move(to)),
          route_(std::move(route)),
          id_(make_id("req")),
          method_(request.method),
          peer_(request.peer),
          origin_(request.header("origin")) {}
    ~Answer() override { close(500); }

    void send(HttpResponse response) override {
      add_headers(&response);
      const int status = response.status;
      to_->send(std::move(response));
      close(status);
    }
    bool begin_stream(HttpResponse head, std::string heartbeat) override {
      add_headers(&head);
      return to_->begin_stream(std::move(head), std::move(heartbeat));
    }
    bool write(std::string_view bytes) override { return to_->write(bytes); }
    void end() override {
      to_->end();
      close(200);
    }
    void on_closed(std::function<void()> callback) override {
      to_->on_closed([metrics = metrics_, callback = std::move(callback)] {
        metrics->disconnects.fetch_add(1, std::memory_order_relaxed);
        callback();
      });
    }
    // Before the end.
    void report(const RequestReport& report) { report_ = report; }
    Clock::time_point begin() const { return begin_; }

   private:
    void add_headers(HttpResponse* response) const {
      response->headers.emplace_back("X-Request-Id", id_);
      server_->add_cors(origin_, response);
    }

    void close(int status) {
      if (std::exchange(closed_, true)) return;
      if (report_.status != 0) status = report_.status;
      const double seconds = seconds_since(begin_);
      metrics_->count_request(route_, status);
      metrics_->request_seconds.observe(seconds);
      Json line = {{"event", "request"}, {"id", id_},        {"client", peer_},   {"method", method_},
                   {"route", route_},    {"status", status}, {"seconds", seconds}};
      if (report_.usage.prompt_tokens > 0) {
        line["prompt_tokens"] = report_.usage.prompt_tokens;
        line["cached_tokens"] = report_.usage.cached_tokens;
        line["completion_tokens"] = report_.usage.completion_tokens;
      }
      if (report_.first_token_seconds >= 0) line["first_token_seconds"] = report_.first_token_seconds;
      if (!report_.finish.empty()) line["finish_reason"] = report_.finish;
      server_->log(line);
    }

    const std::shared_ptr<const Impl> server_;
    Metrics* const metrics_;
    const std::shared_ptr<Responder> to_;
    const std::string route_, id_, method_, peer_, origin_;
    const Clock::time_point begin_ = Clock::now();
    RequestReport report_;
    bool closed_ = false;
  };
  using AnswerPtr = std::shared_ptr<Answer>;
  using Handler = void (Impl::*)(const HttpRequest& request, const AnswerPtr& answer, const Client& client);

  struct Route {
    std::string_view method, path;
    Handler handler;
    bool is_public = false;  // needs no key
    bool is_quick = false;   // may run on the connections' thread
  };

  static const std::vector<Route>& routes() {
    static const std::vector<Route> list = {
        {"POST", "/v1/chat/completions", &Impl::chat_completions},
        {"POST", "/v1/completions", &Impl::completions},
        {"POST", "/v1/embeddings", &Impl::embeddings},
        {"POST", "/tokenize", &Impl::tokenize},
        {"POST", "/detokenize", &Impl::detokenize},
        {"GET", "/v1/models", &Impl::models, false, true},
        {"GET", "/health", &Impl::health, true, true},
        {"GET", "/metrics", &Impl::metrics, false, true},
        {"GET", "/openapi.json", &Impl::openapi, true, false},
    };
    return list;
  }

  void add_cors(const std::string& origin, HttpResponse* response) const {
    if (options_.cors_origin.empty()) return;
    response->headers.emplace_back("Vary", "Origin");
    if (options_.cors_origin == "*" || options_.cors_origin == origin) {
      response->headers.emplace_back("Access-Control-Allow-Origin", options_.cors_origin);
      response->headers.emplace_back("Access-Control-Expose-Headers", "X-Request-Id");
    }
  }

  // On the connections' thread.
  void dispatch(HttpRequest request, std::shared_ptr<Responder> responder) {
    const bool is_get = request.method == "GET" || request.method == "HEAD";
    const Asset* asset = nullptr;
    for (const Asset& a : options_.assets) {
      if (a.path == request.path) asset = &a;
    }
    const Route* route = nullptr;
    std::string allowed;
    for (const Route& r : routes()) {
      if (r.path != request.path && !(r.path == "/v1/models" && request.path.starts_with("/v1/models/"))) continue;
      allowed += std::string(r.method) + (r.method == "GET" ? ", HEAD" : "") + ", OPTIONS";
      if (r.method == request.method || (r.method == "GET" && is_get)) route = &r;
    }
    if (asset != nullptr) allowed = "GET, HEAD, OPTIONS";
    const std::string name = allowed.empty()                          ? "other"
                             : request.path.starts_with("/v1/models") ? "/v1/models"
                                                                      : request.path;
    const auto answer = std::make_shared<Answer>(shared_from_this(), &metrics_, std::move(responder), request, name);
    static constexpr std::string_view kMethods[] = {"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"};
    if (std::find(std::begin(kMethods), std::end(kMethods), request.method) == std::end(kMethods)) {
      return answer->send(error_response(501, fmt::format("the method {} is not known", printable(request.method))));
    }
    if (request.path == "*" && request.method == "OPTIONS") return answer->send({.status = 204});
    if (allowed.empty()) {
      return answer->send(error_response(404, fmt::format("there is nothing at {}", printable(request.path))));
    }
    if (request.method == "OPTIONS") return preflight(request, answer, allowed);
    if (asset != nullptr && is_get) {
      HttpResponse response{.content_type = std::string(asset->content_type), .body = std::string(asset->body)};
      if (!asset->etag.empty()) {
        response.headers.emplace_back("ETag", asset->etag);
        response.headers.emplace_back("Cache-Control", "no-cache");
        if (request.header("if-none-match") == asset->etag) response = {.status = 304, .headers = response.headers};
      }
      response.headers.emplace_back("Content-Security-Policy", kPlaygroundPolicy);
      return answer->send(std::move(response));
    }
    if (route == nullptr) {
      HttpResponse response = error_response(405, fmt::format("{} does not take {}", request.path, request.method));
      response.headers.emplace_back("Allow", allowed);
      return answer->send(std::move(response));
    }
    // A page that makes its own name lead here would be of the same origin as this server.
    if (keys_.empty() && is_loopback(options_.http.host) && !is_own_name(request.header("host"))) {
      return answer->send(error_response(
          403,
          fmt::format("the Host '{}' is no name of this machine, and without an API key only those are served",
                      printable(request.header("host"))),
          {}, "foreign_host"));
    }
    Client client{.name = request.peer};
    if (!keys_.empty() && !route->is_public) {
      const int key = keys_.find_bearer(request.header("authorization"));
      if (key < 0) {
        HttpResponse response = error_response(
            401, "the API key is missing or wrong; send it as 'Authorization: Bearer KEY'", {}, "invalid_api_key");
        response.headers.emplace_back("WWW-Authenticate", "Bearer");
        return answer->send(std::move(response));
      }
      client.name = fmt::format("key {}", key);
      if (keys_.size() > 1) client.salt = static_cast<uint64_t>(key) + 1;
    }
    if (route->method == "POST" && !is_json(request.header("content-type"))) {
      return answer->send(error_response(415, "the body has to be JSON, with 'Content-Type: application/json'"));
    }
    if (route->is_quick) return run(*route, request, answer, client);
    auto shared = std::make_shared<HttpRequest>(std::move(request));
    const bool taken = pool_->post([self = shared_from_this(), route, shared, answer, client = std::move(client)] {
      self->run(*route, *shared, answer, client);
    });
    if (!taken) answer->send(error_response(503, "the server is too busy to read this request; try again", {}, "busy"));
  }

  void run(const Route& route, const HttpRequest& request, const AnswerPtr& answer, const Client& client) {
    try {
      if (options_.log_prompts && !request.body.empty())
        log({{"event", "body"}, {"route", route.path}, {"body", request.body}});
      (this->*route.handler)(request, answer, client);
    } catch (const std::bad_alloc&) {
      answer->send(error_response(503, "out of memory"));
    } catch (const std::exception& e) {
      answer->send(error_response(500, fmt::format("the server failed at this request: {}", e.what())));
    }
  }

  void preflight(const HttpRequest& request, const AnswerPtr& answer, const std::string& allowed) const {
    HttpResponse response{.status = 204};
    response.headers.emplace_back("Allow", allowed);
    const std::string_view origin = request.header("origin");
    if (!options_.cors_origin.empty() && (options_.cors_origin == "*" || options_.cors_origin == origin)) {
      response.headers.emplace_back("Access-Control-Allow-Methods", allowed);
      response.headers.emplace_back("Access-Control-Allow-Headers", "Authorization, Content-Type");
      response.headers.emplace_back("Access-Control-Max-Age", "600");
    }
    answer->send(std::move(response));
  }

  // ---- Routes. On a worker, unless they are quick.

  AnswerHead head_for(const std::string& model, std::string_view prefix, std::string object) const {
    return {.id = make_id(prefix),
            .object = std::move(object),
            .created = std::time(nullptr),
            .model = model.empty() ? model_->options().name : model,
            .fingerprint = fingerprint_};
  }

  static AnswerJobOptions job_options(const GenerationFields& fields, const Client& client) {
    return {.stream = fields.stream,
            .include_usage = fields.include_usage,
            .n_logprobs = fields.n_logprobs,
            .prompt_logprobs = fields.prompt_logprobs,
            .n = fields.n,
            .stops = fields.stops,
            .priority = fields.priority,
            .timeout = fields.timeout,
            .client = client.name,
            .cache_salt = client.salt};
  }

  void start_job(AnswerJobOptions options, std::vector<PreparedAnswer> prompts, const AnswerPtr& answer) {
    const auto job =
        std::make_shared<AnswerJob>(*model_, engine_, metrics_, std::move(options), std::move(prompts), answer,
                                    answer->begin(), [answer](const RequestReport& report) { answer->report(report); });
    job->start();
  }

  void chat_completions(const HttpRequest& request, const AnswerPtr& answer, const Client& client) {
    Json body;
    ChatRequest fields;
    Problem problem = parse_body(request.body, &body);
    if (problem.ok()) problem = read_chat_request(body, options_.limits, model_->options().sampler, &fields);
    std::vector<PreparedAnswer> prompts(1);
    if (problem.ok()) problem = model_->prepare(fields, &prompts[0]);
    if (!problem.ok()) return answer->send(problem.response());
    AnswerJobOptions options = job_options(fields, client);
    options.is_chat = true;
    options.head = head_for(fields.model, "chatcmpl", "chat.completion");
    start_job(std::move(options), std::move(prompts), answer);
  }

  void completions(const HttpRequest& request, const AnswerPtr& answer, const Client& client) {
    Json body;
    CompletionRequest fields;
    Problem problem = parse_body(request.body, &body);
    if (problem.ok()) problem = read_completion_request(body, options_.limits, model_->options().sampler, &fields);
    std::vector<PreparedAnswer> prompts(fields.prompts.size());
    for (size_t i = 0; i < prompts.size() && problem.ok(); ++i) {
      problem = model_->prepare(fields, fields.prompts[i], &prompts[i]);
    }
    if (!problem.ok()) return answer->send(problem.response());
    AnswerJobOptions options = job_options(fields, client);
    options.echo = fields.echo;
    options.head = head_for(fields.model, "cmpl", "text_completion");
    start_job(std::move(options), std::move(prompts), answer);
  }

  void embeddings(const HttpRequest& request, const AnswerPtr& answer, const Client& client) {
    Json body;
    EmbeddingRequest fields;
    Problem problem = parse_body(request.body, &body);
    if (problem.ok()) problem = read_embedding_request(body, options_.limits, &fields);
    std::vector<PreparedAnswer> inputs(fields.inputs.size());
    for (size_t i = 0; i < inputs.size() && problem.ok(); ++i) {
      problem = model_->prepare(fields, fields.inputs[i], &inputs[i]);
    }
    if (!problem.ok()) return answer->send(problem.response());
    EmbeddingJobOptions options{.base64 = fields.base64,
                                .model = fields.model.empty() ? model_->options().name : fields.model,
                                .client = client.name,
                                .cache_salt = client.salt,
                                .timeout = fields.timeout};
    std::make_shared<EmbeddingJob>(engine_, metrics_, std::move(options), std::move(inputs), answer,
                                   [answer](const RequestReport& report) { answer->report(report); })
        ->start();
  }

  void tokenize(const HttpRequest& request, const AnswerPtr& answer, const Client&) {
    Json body;
    TokenizeRequest fields;
    Problem problem = parse_body(request.body, &body);
    if (problem.ok()) problem = read_tokenize_request(body, options_.limits, &fields);
    std::vector<TokenId> tokens;
    if (problem.ok() && fields.chat) problem = model_->encode_chat(*fields.chat, &tokens);
    if (problem.ok() && fields.text) {
      Result<std::vector<TokenId>> encoded = model_->tokenizer().encode(
          *fields.text, {.add_special = fields.add_special, .parse_special = fields.parse_special});
      if (encoded.ok()) {
        tokens = *std::move(encoded);
      } else {
        problem = Problem::of(encoded.status(), "content");
      }
    }
    if (!problem.ok()) return answer->send(problem.response());
    Json json = {{"tokens", Json::array()}};
    for (const TokenId token : tokens) {
      if (fields.with_pieces) {
        json["tokens"].push_back({{"id", token}, {"piece", std::string(model_->tokenizer().piece(token, true))}});
      } else {
        json["tokens"].push_back(token);
      }
    }
    json["count"] = tokens.size();
    json["max_model_len"] = model_->options().context;
    answer->send({.body = dump_json(json)});
  }

  void detokenize(const HttpRequest& request, const AnswerPtr& answer, const Client&) {
    Json body;
    std::vector<TokenId> tokens;
    Problem problem = parse_body(request.body, &body);
    if (problem.ok()) problem = read_detokenize_request(body, &tokens);
    for (const TokenId token : tokens) {
      if (problem.ok() && token >= model_->tokenizer().vocab_size()) {
        problem = Problem::bad("tokens", fmt::format("tokens: {} is not in the vocabulary of {}", token,
                                                     model_->tokenizer().vocab_size()));
      }
    }
    if (!problem.ok()) return answer->send(problem.response());
    const std::string text = model_->tokenizer().decode(tokens, true);
    answer->send({.body = dump_json({{"content", text}, {"prompt", text}})});
  }

  Json model_json(const std::string& name) const {
    return {{"id", name},
            {"object", "model"},
            {"created", started_},
            {"owned_by", "decant"},
            {"max_model_len", model_->options().context}};
  }

  void models(const HttpRequest& request, const AnswerPtr& answer, const Client&) {
    constexpr std::string_view kPrefix = "/v1/models/";
    const std::vector<std::string> names = model_->names();
    if (request.path.starts_with(kPrefix)) {
      std::string name = request.path.substr(kPrefix.size());
      // The only character of names that clients escape.
      for (size_t at = 0; (at = name.find("%3A", at)) != std::string::npos;) name.replace(at, 3, ":");
      if (std::find(names.begin(), names.end(), name) == names.end()) {
        return answer->send(
            error_response(404, fmt::format("there is no model '{}'", printable(name)), "model", "model_not_found"));
      }
      return answer->send({.body = dump_json(model_json(name))});
    }
    Json json = {{"object", "list"}, {"data", Json::array()}};
    for (const std::string& name : names) json["data"].push_back(model_json(name));
    answer->send({.body = dump_json(json)});
  }

  void health(const HttpRequest&, const AnswerPtr& answer, const Client&) {
    if (stopping_.load()) return answer->send({.status = 503, .body = R"({"status": "stopping"})"});
    answer->send({.body = R"({"status": "ok"})"});
  }

  void metrics(const HttpRequest&, const AnswerPtr& answer, const Client&) {
    std::string out;
    metrics_.write_requests(&out);
    const auto counter = [&](std::string_view name, std::string_view help, double value) {
      write_metric(fmt::format("decant_{}", name), "counter", help, value, &out);
    };
    const auto gauge = [&](std::string_view name, std::string_view help, double value) {
      write_metric(fmt::format("decant_{}", name), "gauge", help, value, &out);
    };
    const auto of = [](const Metrics::Counter& c) { return static_cast<double>(c.load(std::memory_order_relaxed)); };
    counter("prompt_tokens_total", "Tokens of prompts.", of(metrics_.prompt_tokens));
    counter("cached_prompt_tokens_total", "Of them, found in the prefix cache.", of(metrics_.cached_tokens));
    counter("completion_tokens_total", "Tokens of answers.", of(metrics_.completion_tokens));
    counter("forced_tokens_total", "Of them, the only ones that a constraint left.", of(metrics_.forced_tokens));
    counter("drafted_tokens_total", "Guesses that the model verified.", of(metrics_.drafted_tokens));
    counter("accepted_tokens_total", "Of them, kept.", of(metrics_.accepted_tokens));
    counter("disconnects_total", "Clients that went before their answer was complete.", of(metrics_.disconnects));
    gauge("open_answers", "Answers that the engine works at or that wait for it.", of(metrics_.answers_open));
    const SchedulerStats s = engine_.stats();
    gauge("running", "Requests that hold rows in the cache.", s.running);
    gauge("waiting", "Requests in the queue.", s.waiting);
    gauge("kv_pages", "Pages of the cache of keys and values.", s.pages_total);
    gauge("kv_pages_free", "Pages that are free.", s.pages_free);
    gauge("kv_pages_used", "Pages that running requests hold.", s.pages_used);
    gauge("kv_pages_cached", "Pages that only the prefix cache holds.", s.pages_cached);
    counter("steps_total", "Steps of the engine.", static_cast<double>(s.steps));
    counter("step_seconds_total", "Their time.", s.step_seconds);
    counter("preemptions_total", "Requests that stepped back for others.", static_cast<double>(s.preemptions));
    counter("evictions_total", "Prefixes dropped from the cache.", static_cast<double>(s.evictions));
    gauge("step_rows", "Rows of the last step.", s.last_rows);
    gauge("step_prompt_rows", "Of them, tokens of prompts.", s.last_prompt_rows);
    HttpCounters h;
    {
      const std::lock_guard lock(http_mutex_);
      if (http_ != nullptr) h = http_->counters();
    }
    gauge("open_connections", "Connections.", static_cast<double>(h.connections));
    gauge("open_streams", "Answers that are being streamed.", static_cast<double>(h.streams));
    gauge("unsent_bytes", "Bytes that wait for their clients.", static_cast<double>(h.unsent_bytes));
    counter("connections_total", "Connections since the start.", static_cast<double>(h.accepted));
    counter("refused_connections_total", "Connections beyond the limit.", static_cast<double>(h.refused));
    counter("slow_clients_total", "Clients that were cut off because they read too slowly.",
            static_cast<double>(h.cut_off));
    counter("malformed_requests_total", "Requests that were no HTTP, or beyond its limits.",
            static_cast<double>(h.malformed));
    gauge("waiting_tasks", "Requests that wait to be read.", static_cast<double>(pool_->waiting()));
    metrics_.time_to_first_token.write("decant_time_to_first_token_seconds", "From the request to the first token.",
                                       &out);
    metrics_.inter_token.write("decant_inter_token_seconds", "Between two tokens of an answer.", &out);
    metrics_.request_seconds.write("decant_request_seconds", "From the request to the end of its answer.", &out);
    answer->send({.content_type = "text/plain; version=0.0.4; charset=utf-8", .body = std::move(out)});
  }

  void openapi(const HttpRequest&, const AnswerPtr& answer, const Client&) {
    answer->send({.body = dump_json(openapi_document(DECANT_VERSION))});
  }

  const ServerOptions options_;
  const std::shared_ptr<ServedModel> model_;
  EngineThread& engine_;
  const ApiKeys keys_;
  const std::time_t started_;
  const std::string fingerprint_;
  Metrics metrics_;
  std::unique_ptr<WorkerPool> pool_;
  std::mutex http_mutex_;  // requests come before start() has returned
  std::unique_ptr<HttpServer> http_;
  std::atomic<bool> stopping_{false};
};

Server::Server(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
Server::~Server() { impl_->shut_down(std::chrono::milliseconds(0)); }

Result<std::unique_ptr<Server>> Server::start(ServerOptions options, std::shared_ptr<ServedModel> model,
                                              EngineThread& engine) {
  auto impl = std::make_shared<Impl>(std::move(options), std::move(model), engine);
  DECANT_TRY_STATUS(impl->listen());
  return std::unique_ptr<Server>(new Server(std::move(impl)));
}

int Server::port() const { return impl_->port(); }
void Server::shut_down(std::chrono::milliseconds grace) { impl_->shut_down(grace); }

}  // namespace decant::serve
