// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "cli/load_client.h"

#include <sys/resource.h>

#include <algorithm>
#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <charconv>
#include <chrono>
#include <cmath>
#include <deque>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/printable.h"
#include "cli/common.h"
#include "cli/sse.h"

namespace decant::cli {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using Tcp = asio::ip::tcp;
using ErrorCode = boost::system::error_code;
using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kTick{100};
constexpr std::chrono::milliseconds kPauseAfterFailure{50};
// Of an answer that is no stream.
constexpr size_t kMaxBody = size_t{1} << 20;

using Request = http::request<http::string_body>;

Request make_request(const ClientOptions& options, http::verb verb, const std::string& path) {
  Request request(verb, options.url.base + path, 11);
  const bool is_v6 = options.url.host.find(':') != std::string::npos;
  request.set(http::field::host, (is_v6 ? "[" + options.url.host + "]" : options.url.host) + ":" + options.url.port);
  request.set(http::field::user_agent, "decant/" + std::string(kVersion));
  if (!options.api_key.empty()) request.set(http::field::authorization, "Bearer " + options.api_key);
  return request;
}

std::string connection_failure(const ClientOptions& options, const ErrorCode& error) {
  if (error == asio::error::connection_refused) {
    return fmt::format("{}: connection refused; is the server running there?", options.url.text);
  }
  if (error == beast::error::timeout) {
    return fmt::format("{}: no answer within {} s (--timeout)", options.url.text, options.timeout_s);
  }
  if (error == http::error::end_of_stream || error == http::error::partial_message ||
      error == asio::error::connection_reset || error == asio::error::broken_pipe) {
    return fmt::format("{}: the server closed the connection in the middle of an answer", options.url.text);
  }
  if (error.category() == http::make_error_code(http::error::bad_version).category()) {
    return fmt::format("{}: the answer is no HTTP ({})", options.url.text, error.message());
  }
  return fmt::format("{}: {}", options.url.text, error.message());
}

Result<Tcp::resolver::results_type> resolve(asio::io_context& context, const ServerUrl& url) {
  Tcp::resolver resolver(context);
  ErrorCode error;
  Tcp::resolver::results_type found = resolver.resolve(url.host, url.port, error);
  if (error) return Status::io("{}: host {} not found ({})", url.text, url.host, error.message());
  return found;
}

// What one event of a stream says about its request. The error that it brings, or "".
std::string read_event(const SseEvent& event, double now, StreamRecord* record, bool* is_done) {
  if (event.data == "[DONE]") {
    *is_done = true;
    return "";
  }
  const Json json = Json::parse(event.data, nullptr, false);
  if (!json.is_object()) return fmt::format("an event that is no JSON object: {}", printable(event.data.substr(0, 80)));
  if (const auto error = json.find("error"); error != json.end() && !error->is_null()) {
    const auto message = error->is_object() ? error->find("message") : error->end();
    if (error->is_object() && message != error->end() && message->is_string()) return message->get<std::string>();
    return error->is_string() ? error->get<std::string>() : error->dump(-1, ' ', false, Json::error_handler_t::replace);
  }
  const auto is_text = [](const Json& object, const char* name) {
    const auto found = object.find(name);
    return found != object.end() && ((found->is_string() && !found->get_ref<const std::string&>().empty()) ||
                                     (found->is_array() && !found->empty()));
  };
  bool has_text = false;
  if (const auto choices = json.find("choices"); choices != json.end() && choices->is_array()) {
    for (const Json& choice : *choices) {
      if (!choice.is_object()) continue;
      has_text = has_text || is_text(choice, "text");
      const auto delta = choice.find("delta");
      if (delta == choice.end() || !delta->is_object()) continue;
      for (const char* name : {"content", "reasoning_content", "reasoning", "tool_calls"}) {
        has_text = has_text || is_text(*delta, name);
      }
    }
  }
  if (has_text) record->chunks.push_back(now);
  if (const auto usage = json.find("usage"); usage != json.end() && usage->is_object()) {
    const auto read = [](const Json& object, const char* name, int64_t* target) {
      const auto found = object.find(name);
      if (found != object.end() && found->is_number_integer()) *target = found->get<int64_t>();
    };
    read(*usage, "prompt_tokens", &record->prompt_tokens);
    read(*usage, "completion_tokens", &record->completion_tokens);
    const auto details = usage->find("prompt_tokens_details");
    if (details != usage->end() && details->is_object()) read(*details, "cached_tokens", &record->cached_tokens);
  }
  return "";
}

class Load;

// A connection, and the requests that go over it one after the other. It lives as long as one of its operations or the
// list of connections does.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(Load& load, asio::io_context& context) : load_(load), stream_(context), pause_(context) {}

  void begin(StreamRecord* record, std::string body);
  // Ends the request in flight, as cut.
  void cut();

 private:
  void connect();
  void write();
  void read_header();
  void read_some();
  void take_body();
  void fail(const ErrorCode& error);
  void fail(std::string reason);
  void end(bool keep_open);
  void close();

  Load& load_;
  beast::tcp_stream stream_;
  asio::steady_timer pause_;
  beast::flat_buffer buffer_;
  std::optional<Request> request_;
  std::optional<http::response_parser<http::string_body>> parser_;
  std::optional<SseParser> events_;
  StreamRecord* record_ = nullptr;  // of the request in flight
  std::string error_body_;
  bool is_open_ = false;
  bool is_reused_ = false;  // the request is not the first on this connection
  bool is_done_ = false;    // [DONE] came
};

class Load {
 public:
  Load(const ClientOptions& options, const LoadPlan& plan, const std::function<bool(const LoadState&)>& on_tick)
      : options_(options), plan_(plan), on_tick_(on_tick), tick_(context_), arrival_(context_), deadline_(context_) {}

  Result<std::vector<StreamRecord>> run() {
    DECANT_TRY(endpoints_, resolve(context_, options_.url));
    begin_ = Clock::now();
    if (plan_.duration_s > 0) {
      deadline_.expires_at(at(plan_.duration_s));
      deadline_.async_wait([this](const ErrorCode& error) {
        if (!error) stop();
      });
    }
    wait_tick();
    if (!plan_.arrivals.empty()) {
      wait_arrival();
    } else {
      const size_t streams = plan_.requests > 0 ? std::min(plan_.streams, plan_.requests) : plan_.streams;
      for (size_t i = 0; i < streams; ++i) {
        all_.push_back(std::make_shared<Connection>(*this, context_));
        next(all_.back());
      }
    }
    context_.run();
    if (is_cancelled_) return Status::make(Code::kCancelled, "");
    return std::vector<StreamRecord>(std::make_move_iterator(records_.begin()),
                                     std::make_move_iterator(records_.end()));
  }

  double now() const { return std::chrono::duration<double>(Clock::now() - begin_).count(); }
  const ClientOptions& options() const { return options_; }
  const LoadPlan& plan() const { return plan_; }
  const Tcp::resolver::results_type& endpoints() const { return endpoints_; }
  void count_chunks(size_t n) { state_.chunks += n; }

  // A request is over, and its connection is free.
  void ended(const std::shared_ptr<Connection>& connection, bool has_failed) {
    ++state_.ended;
    state_.failed += has_failed ? 1 : 0;
    --running_;
    if (plan_.arrivals.empty()) {
      next(connection);
    } else {
      idle_.push_back(connection);
      finish_if_over();
    }
  }

 private:
  Clock::time_point at(double seconds) const {
    return begin_ + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  }

  // Closed loop: the next request of a stream.
  void next(const std::shared_ptr<Connection>& connection) {
    if (is_stopped_ || (plan_.requests > 0 && state_.started >= plan_.requests)) {
      finish_if_over();
      return;
    }
    start(connection, now());
  }

  void start(const std::shared_ptr<Connection>& connection, double time) {
    const size_t number = state_.started++;
    ++running_;
    records_.push_back({.start = time, .is_long = plan_.is_long && plan_.is_long(number)});
    connection->begin(&records_.back(), plan_.body(number));
  }

  void wait_arrival() {
    if (is_stopped_ || state_.started == plan_.arrivals.size()) return finish_if_over();
    const double time = plan_.arrivals[state_.started];
    arrival_.expires_at(at(time));
    arrival_.async_wait([this, time](const ErrorCode& error) {
      if (error || is_stopped_) return;
      std::shared_ptr<Connection> connection;
      if (idle_.empty()) {
        connection = std::make_shared<Connection>(*this, context_);
        all_.push_back(connection);
      } else {
        connection = std::move(idle_.back());
        idle_.pop_back();
      }
      start(connection, time);
      wait_arrival();
    });
  }

  void wait_tick() {
    tick_.expires_after(kTick);
    tick_.async_wait([this](const ErrorCode& error) {
      if (error || is_stopped_) return;  // what was due when it was cancelled comes without an error
      state_.seconds = now();
      if (!on_tick_(state_)) {
        is_cancelled_ = true;
        return stop();
      }
      wait_tick();
    });
  }

  void finish_if_over() {
    const size_t all = plan_.arrivals.empty() ? plan_.requests : plan_.arrivals.size();
    if (running_ > 0 || (!is_stopped_ && (all == 0 || state_.started < all))) return;
    stop();
  }

  void stop() {
    if (is_stopped_) return;
    is_stopped_ = true;
    tick_.cancel();
    arrival_.cancel();
    deadline_.cancel();
    for (const std::shared_ptr<Connection>& connection : all_) connection->cut();
  }

  const ClientOptions& options_;
  const LoadPlan& plan_;
  const std::function<bool(const LoadState&)>& on_tick_;
  asio::io_context context_{1};
  asio::steady_timer tick_, arrival_, deadline_;
  Tcp::resolver::results_type endpoints_;
  Clock::time_point begin_;
  std::deque<StreamRecord> records_;  // stays where it is while connections fill it
  std::vector<std::shared_ptr<Connection>> all_, idle_;
  LoadState state_;
  size_t running_ = 0;
  bool is_stopped_ = false, is_cancelled_ = false;
};

void Connection::begin(StreamRecord* record, std::string body) {
  record_ = record;
  request_.emplace(make_request(load_.options(), http::verb::post, load_.plan().path));
  request_->set(http::field::content_type, "application/json");
  request_->set(http::field::accept, "text/event-stream");
  request_->body() = std::move(body);
  request_->prepare_payload();
  is_done_ = false;
  error_body_.clear();
  is_reused_ = is_open_;
  if (is_open_) {
    write();
  } else {
    connect();
  }
}

void Connection::connect() {
  stream_.expires_after(std::chrono::seconds(load_.options().timeout_s));
  stream_.async_connect(load_.endpoints(), [self = shared_from_this()](const ErrorCode& error, const Tcp::endpoint&) {
    if (self->record_ == nullptr) return;
    if (error) return self->fail(error);
    self->is_open_ = true;
    ErrorCode ignored;
    self->stream_.socket().set_option(Tcp::no_delay(true), ignored);
    self->write();
  });
}

void Connection::write() {
  stream_.expires_after(std::chrono::seconds(load_.options().timeout_s));
  http::async_write(stream_, *request_, [self = shared_from_this()](const ErrorCode& error, size_t) {
    if (self->record_ == nullptr) return;
    // A server may refuse and close before it has read all of a request; its answer says why.
    if (error && error != asio::error::broken_pipe && error != asio::error::connection_reset) return self->fail(error);
    self->read_header();
  });
}

void Connection::read_header() {
  parser_.emplace();
  parser_->body_limit(std::numeric_limits<uint64_t>::max());
  parser_->eager(true);
  events_.emplace();
  http::async_read_header(stream_, buffer_, *parser_, [self = shared_from_this()](const ErrorCode& error, size_t) {
    if (self->record_ == nullptr) return;
    if (error) {
      // The server had closed a connection that it had kept until now: a new one it is.
      if (self->is_reused_ && !self->parser_->got_some() && error != beast::error::timeout) {
        self->close();
        self->is_reused_ = false;
        return self->connect();
      }
      return self->fail(error);
    }
    self->take_body();
  });
}

void Connection::read_some() {
  stream_.expires_after(std::chrono::seconds(load_.options().timeout_s));
  http::async_read_some(stream_, buffer_, *parser_, [self = shared_from_this()](const ErrorCode& error, size_t) {
    if (self->record_ == nullptr) return;
    if (error) return self->fail(error);
    self->take_body();
  });
}

// Takes what came of the body, and waits for more or ends.
void Connection::take_body() {
  const double now = load_.now();
  std::string& body = parser_->get().body();
  const int status = static_cast<int>(parser_->get().result_int());
  const beast::string_view type = parser_->get()[http::field::content_type];
  const bool is_stream = status == 200 && type.starts_with("text/event-stream");
  if (is_stream) {
    std::string reason;
    const size_t before = record_->chunks.size();
    const bool fits = events_->add(body, [&](const SseEvent& event) {
      if (reason.empty() && !is_done_) reason = read_event(event, now, record_, &is_done_);
    });
    load_.count_chunks(record_->chunks.size() - before);
    if (!fits) reason = "an event of the stream is too long";
    if (!reason.empty()) return fail(std::move(reason));
  } else if (error_body_.size() < kMaxBody) {
    error_body_ += body;
  } else {
    return fail(fmt::format("HTTP {} with more than {} bytes that are no stream of events", status, kMaxBody));
  }
  body.clear();
  if (!parser_->is_done()) return read_some();
  if (!is_stream) {
    if (status != 200) return fail(http_failure(status, error_body_));
    return fail(fmt::format("the answer is {} and no stream of events; is this an OpenAI-compatible server?",
                            type.empty() ? std::string("of no type") : printable(std::string(type))));
  }
  if (!is_done_) return fail("the stream ended without [DONE]");
  end(parser_->keep_alive());
}

void Connection::fail(const ErrorCode& error) { fail(connection_failure(load_.options(), error)); }

void Connection::fail(std::string reason) {
  record_->error = std::move(reason);
  record_->end = load_.now();
  record_ = nullptr;
  close();
  // A server that refuses at once is not asked without a breath.
  pause_.expires_after(kPauseAfterFailure);
  pause_.async_wait([self = shared_from_this()](const ErrorCode&) { self->load_.ended(self, true); });
}

void Connection::end(bool keep_open) {
  record_->end = load_.now();
  record_ = nullptr;
  if (!keep_open) close();
  load_.ended(shared_from_this(), false);
}

void Connection::cut() {
  if (record_ != nullptr) {
    record_->is_cut = true;
    record_->end = load_.now();
    record_ = nullptr;
  }
  pause_.cancel();
  close();
}

void Connection::close() {
  ErrorCode ignored;
  stream_.socket().close(ignored);
  is_open_ = false;
  buffer_.clear();
}

// As many connections as the system allows need as many files.
void raise_file_limit() {
  struct rlimit limit {};
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
    limit.rlim_cur = limit.rlim_max;
    (void)::setrlimit(RLIMIT_NOFILE, &limit);
  }
}

}  // namespace

Result<ServerUrl> parse_server_url(std::string_view text) {
  const std::string_view all = text;
  if (text.starts_with("https://")) {
    return Status::unsupported("{}: https is not supported; name the server behind the proxy, http://HOST:PORT", all);
  }
  const auto wrong = [&] { return Status::invalid_argument("expected http://HOST:PORT, got '{}'", all); };
  if (!text.starts_with("http://")) return wrong();
  text.remove_prefix(7);
  ServerUrl url;
  const size_t slash = std::min(text.find('/'), text.size());
  std::string_view authority = text.substr(0, slash);
  std::string_view path = text.substr(slash);
  if (path.find_first_of("?# \r\n") != std::string_view::npos) return wrong();
  while (path.ends_with('/')) path.remove_suffix(1);
  if (path.ends_with("/v1")) path.remove_suffix(3);
  url.base = path;
  url.port = "80";
  const size_t bracket = authority.find(']');  // [::1]:8080
  const size_t colon = authority.find(':', bracket == std::string_view::npos ? 0 : bracket);
  if (colon != std::string_view::npos) {
    const std::string_view port = authority.substr(colon + 1);
    int number = 0;
    const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), number);
    if (error != std::errc() || end != port.data() + port.size() || number < 1 || number > 65535) return wrong();
    url.port = port;
    authority = authority.substr(0, colon);
  }
  if (bracket != std::string_view::npos) {
    if (!authority.starts_with('[') || !authority.ends_with(']')) return wrong();
    authority = authority.substr(1, authority.size() - 2);
  }
  if (authority.empty() || authority.find_first_of("@ \t\r\n[]") != std::string_view::npos) return wrong();
  url.host = authority;
  url.text = all;
  return url;
}

std::string http_failure(int status, std::string_view body) {
  const Json json = Json::parse(body, nullptr, false);
  std::string words;
  if (json.is_object()) {
    for (const char* name : {"error", "detail", "message"}) {
      const auto found = json.find(name);
      if (found == json.end() || !words.empty()) continue;
      const auto message = found->is_object() ? found->find("message") : found->end();
      if (found->is_string()) words = found->get<std::string>();
      if (found->is_object() && message != found->end() && message->is_string()) words = message->get<std::string>();
    }
  }
  if (words.empty()) words = std::string(body.substr(0, 120));
  std::string out = fmt::format("HTTP {}", status);
  if (!words.empty()) out += ": " + printable(words);
  if (status == 401 || status == 403) out += "; the server wants another --api-key";
  return out;
}

Result<HttpAnswer> http_get(const ClientOptions& options, const std::string& path) {
  asio::io_context context;
  DECANT_TRY(const Tcp::resolver::results_type endpoints, resolve(context, options.url));
  beast::tcp_stream stream(context);
  beast::flat_buffer buffer;
  Request request = make_request(options, http::verb::get, path);
  request.set(http::field::connection, "close");
  http::response_parser<http::string_body> parser;
  parser.body_limit(kMaxBody);
  ErrorCode failure;
  // One after the other, each only when the one before has gone well.
  stream.expires_after(std::chrono::seconds(options.timeout_s));
  stream.async_connect(endpoints, [&](const ErrorCode& connected, const Tcp::endpoint&) {
    if ((failure = connected)) return;
    http::async_write(stream, request, [&](const ErrorCode& written, size_t) {
      if ((failure = written)) return;
      http::async_read(stream, buffer, parser, [&](const ErrorCode& read, size_t) { failure = read; });
    });
  });
  context.run();
  if (failure) return Status::io("{}", connection_failure(options, failure));
  return HttpAnswer{static_cast<int>(parser.get().result_int()), parser.get().body()};
}

Result<std::vector<StreamRecord>> run_load(const ClientOptions& options, const LoadPlan& plan,
                                           const std::function<bool(const LoadState&)>& on_tick) {
  raise_file_limit();
  return Load(options, plan, on_tick).run();
}

}  // namespace decant::cli
