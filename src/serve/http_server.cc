// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "serve/http_server.h"

#include <fmt/format.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <thread>
#include <unordered_set>
#include <utility>
#include <vector>

namespace decant::serve {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;
using Clock = std::chrono::steady_clock;

namespace {

constexpr std::chrono::milliseconds kSweepPeriod{200};
// How long a connection that is to be closed is read from, so that its client gets to see the answer: closing with
// unread bytes would reset it.
constexpr std::chrono::milliseconds kLingerTime{1'000};
// Bytes of further requests that are kept while one is answered.
constexpr size_t kMaxPipelined = size_t{1} << 16;

constexpr Clock::time_point kNever = Clock::time_point::max();

}  // namespace

class Connection;

// What connection and handler share of one answer.
class Exchange : public std::enable_shared_from_this<Exchange> {
 public:
  Exchange(std::shared_ptr<HttpServer::Core> core, std::weak_ptr<Connection> connection, const HttpRequest& request);

  void send(HttpResponse response);
  bool begin_stream(HttpResponse head, std::string heartbeat);
  bool write(std::string_view bytes);
  void end();
  void on_closed(std::function<void()> callback);
  // The handler has let go of it.
  void abandon();

  // For the connection, on its thread. Appends what is to be sent; true: the answer is complete.
  bool take(std::string* out);
  void set_unsent(size_t bytes) { unsent_.store(bytes, std::memory_order_relaxed); }
  bool is_complete();
  // The client is gone.
  void close();
  bool is_cut_off() const { return cut_off_.load(std::memory_order_relaxed); }
  bool is_streaming() const { return streaming_.load(std::memory_order_relaxed); }
  bool keeps_alive() const { return keep_alive_.load(std::memory_order_relaxed); }
  void forbid_keep_alive() { keep_alive_.store(false, std::memory_order_relaxed); }
  const std::string& heartbeat() const { return heartbeat_; }  // fixed once is_streaming()
  const std::weak_ptr<Connection>& connection() const { return connection_; }

  bool queued = false;  // in the core's list; under its lock

 private:
  void append(std::string_view bytes);
  bool announce();

  const std::shared_ptr<HttpServer::Core> core_;
  const std::weak_ptr<Connection> connection_;
  const bool is_head_, is_http_1_0_;
  std::atomic<bool> keep_alive_, cut_off_{false}, streaming_{false};
  std::atomic<size_t> unsent_{0};  // by the connection
  std::string heartbeat_;

  std::mutex mutex_;
  std::string out_;
  bool begun_ = false, ended_ = false, gone_ = false;
  std::function<void()> closed_;
};

struct HttpServer::Core : std::enable_shared_from_this<HttpServer::Core> {
  explicit Core(const HttpServerOptions& given, HttpHandler on_request)
      : options(given), handler(std::move(on_request)), acceptor(io), sweep(io), retry(io) {}

  const HttpServerOptions options;
  HttpHandler handler;
  asio::io_context io{1};
  tcp::acceptor acceptor;
  asio::steady_timer sweep, retry;
  int port = 0;
  std::thread thread;
  std::unordered_set<std::shared_ptr<Connection>> connections;  // of the io thread, as is the following
  std::array<char, size_t{1} << 16> scratch;
  size_t body_bytes = 0;  // of requests that are being read
  std::atomic<bool> draining{false}, stopped{false};

  std::mutex mutex;  // of the list and of `closed`
  std::vector<std::shared_ptr<Exchange>> dirty;
  std::condition_variable closed;

  std::atomic<int64_t> n_connections{0}, accepted{0}, refused{0}, requests{0}, streams{0}, cut_off{0}, malformed{0},
      unsent{0};

  Status listen();
  void accept();
  void admit(tcp::socket socket);
  void schedule_sweep();
  void run();
  // From any thread: the exchange has something to send. One wake-up serves all of a step's tokens.
  void mark(const std::shared_ptr<Exchange>& exchange);
  void flush_marked();
  void remove(const std::shared_ptr<Connection>& connection);
};

// One client. All of it runs on the io thread.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(std::shared_ptr<HttpServer::Core> core, tcp::socket socket)
      : core_(std::move(core)), socket_(std::move(socket)) {
    error_code ignored;
    const auto endpoint = socket_.remote_endpoint(ignored);
    if (!ignored) peer_ = endpoint.address().to_string();
    deadline_ = Clock::now() + core_->options.idle_timeout;
  }

  void start() { wait_readable(); }

  // Closes the socket; the answer that is under way learns of it.
  void close() {
    if (closed_) return;
    closed_ = true;
    error_code ignored;
    socket_.close(ignored);
    release_body();
    count_unsent(0);
    if (exchange_) {
      const std::shared_ptr<Exchange> exchange = std::move(exchange_);
      count_stream(false);
      exchange->close();
    }
    core_->remove(shared_from_this());
  }

  void check_time(Clock::time_point now) {
    if (closed_) return;
    if (exchange_ && exchange_->is_cut_off()) {
      core_->cut_off.fetch_add(1, std::memory_order_relaxed);
      return close();
    }
    if (now >= write_deadline_) {
      core_->cut_off.fetch_add(1, std::memory_order_relaxed);
      return close();
    }
    if (exchange_) {
      if (counted_stream_ && out_.empty() && !exchange_->heartbeat().empty() &&
          now - last_output_ >= core_->options.heartbeat_period) {
        last_output_ = now;
        beat(exchange_->heartbeat());
      }
      return;
    }
    if (now < deadline_) return;
    if (lingering_ || writing_last_ || !parser_ || parser_->is_empty()) return close();
    core_->malformed.fetch_add(1, std::memory_order_relaxed);
    refuse(error_response(408, "the request did not arrive in time"));
  }

  // Idle connections are closed at once, the others after their answer.
  void drain() {
    if (exchange_) {
      exchange_->forbid_keep_alive();
    } else if (!lingering_ && !writing_last_ && (!parser_ || parser_->is_empty())) {
      close();
    }
  }

  // The exchange has something to send.
  void flush() {
    if (closed_ || !exchange_) return;
    if (exchange_->is_cut_off()) return check_time(Clock::now());
    const bool complete = exchange_->take(&out_);
    if (!counted_stream_ && exchange_->is_streaming()) count_stream(true);
    if (complete) answered_ = true;
    send_out();
  }

 private:
  void beat(const std::string& text) {
    out_ += fmt::format("{:x}\r\n{}\r\n", text.size(), text);
    send_out();
  }

  void wait_readable() {
    if (closed_ || waiting_read_) return;
    waiting_read_ = true;
    socket_.async_wait(tcp::socket::wait_read, [self = shared_from_this()](const error_code& error) {
      self->waiting_read_ = false;
      if (self->closed_) return;
      if (error) return self->close();
      self->read();
    });
  }

  void read() {
    // A few rounds at most, so that one client does not keep the others waiting.
    for (int round = 0; round < 4; ++round) {
      error_code error;
      const size_t size = socket_.read_some(asio::buffer(core_->scratch), error);
      if (error == asio::error::would_block || error == asio::error::try_again) break;
      if (error) {
        // Also at the end of what the client sends: it is not taken to wait for an answer that still has to be made.
        if (!exchange_ || !exchange_->is_complete()) return close();
        exchange_->forbid_keep_alive();
        return flush();
      }
      if (lingering_ || writing_last_) continue;
      const std::string_view bytes(core_->scratch.data(), size);
      if (exchange_) {
        pipelined_.append(bytes);
        if (pipelined_.size() > kMaxPipelined) return close();
      } else {
        take_bytes(bytes);
      }
      if (closed_ || size < core_->scratch.size()) break;
    }
    wait_readable();
  }

  void take_bytes(std::string_view bytes) {
    if (!parser_) {
      parser_.emplace(core_->options.limits);
      deadline_ = Clock::now() + core_->options.read_timeout;
    }
    HttpParser::State state = parser_->state();
    const bool was_head = state == HttpParser::State::kHead;
    state = parser_->push(bytes);
    if (was_head && state == HttpParser::State::kBody) {
      if (!reserve_body(parser_->announced_bytes())) return;
      if (parser_->expects_continue()) {
        out_ += "HTTP/1.1 100 Continue\r\n\r\n";
        send_out();
        if (closed_) return;
      }
      state = parser_->push("");
    }
    if (state == HttpParser::State::kBody && !reserve_body(parser_->body_bytes())) return;
    if (state == HttpParser::State::kFailed) {
      core_->malformed.fetch_add(1, std::memory_order_relaxed);
      return refuse(parser_->problem());
    }
    if (state == HttpParser::State::kDone) begin();
  }

  bool reserve_body(size_t bytes) {
    if (bytes <= body_bytes_) return true;
    if (core_->body_bytes + (bytes - body_bytes_) > core_->options.max_total_body_bytes) {
      refuse(error_response(503, "the server is reading too many large requests; try again"));
      return false;
    }
    core_->body_bytes += bytes - body_bytes_;
    body_bytes_ = bytes;
    return true;
  }

  void release_body() {
    core_->body_bytes -= body_bytes_;
    body_bytes_ = 0;
  }

  // The request is complete: the handler's turn.
  void begin();

  // The last answer of a connection, which the server gives itself.
  void refuse(HttpResponse response) {  // a copy: it may be the parser's
    release_body();
    parser_.reset();
    out_ += response_head(response, response.body.size(), false, false) + response.body;
    writing_last_ = true;
    deadline_ = Clock::now() + core_->options.write_timeout;
    send_out();
  }

  void send_out() {
    if (closed_ || waiting_write_) return;
    size_t sent = 0;
    while (sent < out_.size()) {
      error_code error;
      const size_t size = socket_.write_some(asio::buffer(out_.data() + sent, out_.size() - sent), error);
      if (error == asio::error::would_block || error == asio::error::try_again) break;
      if (error) return close();
      sent += size;
    }
    out_.erase(0, sent);
    const auto now = Clock::now();
    if (sent > 0) last_output_ = now;
    count_unsent(out_.size());
    if (exchange_) exchange_->set_unsent(out_.size());
    if (!out_.empty()) {
      if (sent > 0 || write_deadline_ == kNever) write_deadline_ = now + core_->options.write_timeout;
      waiting_write_ = true;
      socket_.async_wait(tcp::socket::wait_write, [self = shared_from_this()](const error_code& error) {
        self->waiting_write_ = false;
        if (self->closed_) return;
        if (error) return self->close();
        self->send_out();
      });
      return;
    }
    write_deadline_ = kNever;
    if (out_.capacity() > 4096) out_.shrink_to_fit();
    if (writing_last_) return linger();
    if (answered_) next();
  }

  // The answer has been sent: the next request, or the end.
  void next() {
    const std::shared_ptr<Exchange> exchange = std::move(exchange_);
    exchange_ = nullptr;
    answered_ = false;
    count_stream(false);
    if (!exchange->keeps_alive() || core_->draining.load(std::memory_order_relaxed)) return linger();
    deadline_ = Clock::now() + core_->options.idle_timeout;
    if (!pipelined_.empty()) {
      // Not from here: a client may send many small requests, and this would nest.
      asio::post(core_->io, [self = shared_from_this()] {
        if (self->closed_ || self->exchange_ || self->pipelined_.empty()) return;
        const std::string bytes = std::exchange(self->pipelined_, {});
        self->take_bytes(bytes);
      });
    }
    wait_readable();
  }

  void linger() {
    writing_last_ = false;
    lingering_ = true;
    deadline_ = Clock::now() + kLingerTime;
    error_code error;
    socket_.shutdown(tcp::socket::shutdown_send, error);
    if (error) return close();
    wait_readable();
  }

  void count_stream(bool streaming) {
    if (streaming == counted_stream_) return;
    counted_stream_ = streaming;
    core_->streams.fetch_add(streaming ? 1 : -1, std::memory_order_relaxed);
  }

  void count_unsent(size_t bytes) {
    core_->unsent.fetch_add(static_cast<int64_t>(bytes) - static_cast<int64_t>(counted_unsent_),
                            std::memory_order_relaxed);
    counted_unsent_ = bytes;
  }

  const std::shared_ptr<HttpServer::Core> core_;
  tcp::socket socket_;
  std::string peer_;
  std::optional<HttpParser> parser_;    // of the request that is being read
  std::shared_ptr<Exchange> exchange_;  // of the one that is being answered
  std::string pipelined_;               // what came meanwhile
  std::string out_;                     // not sent yet
  size_t body_bytes_ = 0, counted_unsent_ = 0;
  Clock::time_point deadline_;  // without an exchange
  Clock::time_point write_deadline_ = kNever, last_output_ = Clock::now();
  bool waiting_read_ = false, waiting_write_ = false;
  bool answered_ = false;      // all of the answer is in out_
  bool writing_last_ = false;  // then it ends
  bool lingering_ = false;
  bool counted_stream_ = false;
  bool closed_ = false;
};

namespace {

// The handler's side of an exchange.
class Handle final : public Responder {
 public:
  explicit Handle(std::shared_ptr<Exchange> exchange) : exchange_(std::move(exchange)) {}
  ~Handle() override { exchange_->abandon(); }
  void send(HttpResponse response) override { exchange_->send(std::move(response)); }
  bool begin_stream(HttpResponse head, std::string heartbeat) override {
    return exchange_->begin_stream(std::move(head), std::move(heartbeat));
  }
  bool write(std::string_view bytes) override { return exchange_->write(bytes); }
  void end() override { exchange_->end(); }
  void on_closed(std::function<void()> callback) override { exchange_->on_closed(std::move(callback)); }

 private:
  std::shared_ptr<Exchange> exchange_;
};

}  // namespace

void Connection::begin() {
  HttpRequest request = parser_->take();
  pipelined_ = parser_->rest();
  parser_.reset();
  release_body();
  request.peer = peer_;
  const auto self = shared_from_this();
  exchange_ = std::make_shared<Exchange>(core_, self, request);
  if (core_->draining.load(std::memory_order_relaxed)) exchange_->forbid_keep_alive();
  core_->requests.fetch_add(1, std::memory_order_relaxed);
  const auto responder = std::make_shared<Handle>(exchange_);
  try {
    core_->handler(std::move(request), responder);
  } catch (const std::exception&) {
    responder->send(error_response(500, "the server failed at this request"));
  }
}

// ---- Exchanges.

Exchange::Exchange(std::shared_ptr<HttpServer::Core> core, std::weak_ptr<Connection> connection,
                   const HttpRequest& request)
    : core_(std::move(core)),
      connection_(std::move(connection)),
      is_head_(request.method == "HEAD"),
      is_http_1_0_(request.is_http_1_0),
      keep_alive_(request.keep_alive) {}

void Exchange::send(HttpResponse response) {
  std::function<void()> callback;
  {
    const std::lock_guard lock(mutex_);
    if (begun_) return;
    begun_ = ended_ = true;
    if (!gone_) {
      out_ = response_head(response, response.body.size(), keep_alive_.load(), is_http_1_0_);
      if (!is_head_ && response.status != 204 && response.status != 304) out_ += response.body;
    }
    callback = std::move(closed_);
    closed_ = nullptr;
  }
  announce();
}

bool Exchange::begin_stream(HttpResponse head, std::string heartbeat) {
  {
    const std::lock_guard lock(mutex_);
    if (begun_) return false;
    begun_ = true;
    if (gone_) return false;
    if (is_http_1_0_) keep_alive_.store(false);
    out_ = response_head(head, std::nullopt, keep_alive_.load(), is_http_1_0_);
    heartbeat_ = is_http_1_0_ ? std::string() : std::move(heartbeat);
    if (!head.body.empty()) append(head.body);
    streaming_.store(true, std::memory_order_relaxed);
  }
  return announce();
}

// With the lock held.
void Exchange::append(std::string_view bytes) {
  if (is_head_ || bytes.empty()) return;
  if (is_http_1_0_) {
    out_ += bytes;
  } else {
    out_ += fmt::format("{:x}\r\n", bytes.size());
    out_ += bytes;
    out_ += "\r\n";
  }
}

bool Exchange::write(std::string_view bytes) {
  {
    const std::lock_guard lock(mutex_);
    if (gone_ || !begun_ || ended_ || cut_off_.load()) return false;
    append(bytes);
    if (out_.size() + unsent_.load(std::memory_order_relaxed) > core_->options.max_output_bytes) cut_off_.store(true);
  }
  return announce();
}

void Exchange::end() {
  std::function<void()> callback;
  {
    const std::lock_guard lock(mutex_);
    if (!begun_ || ended_) return;
    ended_ = true;
    if (!is_http_1_0_ && !is_head_) out_ += "0\r\n\r\n";
    callback = std::move(closed_);
    closed_ = nullptr;
  }
  announce();
}

void Exchange::on_closed(std::function<void()> callback) {
  {
    const std::lock_guard lock(mutex_);
    if (!gone_) {
      if (!ended_) closed_ = std::move(callback);
      return;
    }
    if (ended_) return;
  }
  callback();
}

void Exchange::abandon() {
  bool begun = false;
  {
    const std::lock_guard lock(mutex_);
    begun = begun_;
  }
  if (!begun) send(error_response(500, "the request was not answered"));
  end();
}

bool Exchange::announce() {
  core_->mark(shared_from_this());
  const std::lock_guard lock(mutex_);
  return !gone_ && !cut_off_.load(std::memory_order_relaxed);
}

bool Exchange::take(std::string* out) {
  const std::lock_guard lock(mutex_);
  if (out->empty()) {
    out->swap(out_);
  } else {
    *out += out_;
  }
  out_.clear();
  unsent_.store(out->size(), std::memory_order_relaxed);
  return ended_;
}

bool Exchange::is_complete() {
  const std::lock_guard lock(mutex_);
  return ended_;
}

void Exchange::close() {
  std::function<void()> callback;
  {
    const std::lock_guard lock(mutex_);
    gone_ = true;
    out_ = std::string();
    if (!ended_) callback = std::move(closed_);
    closed_ = nullptr;
  }
  if (callback) callback();
}

// ---- The core.

Status HttpServer::Core::listen() {
  error_code error;
  tcp::resolver resolver(io);
  const auto found = resolver.resolve(options.host, std::to_string(options.port),
                                      tcp::resolver::passive | tcp::resolver::numeric_service, error);
  if (error || found.empty()) {
    return Status::io("{}: no such address to listen at ({})", options.host, error.message());
  }
  const tcp::endpoint endpoint = *found.begin();
  acceptor.open(endpoint.protocol(), error);
  if (!error) acceptor.set_option(tcp::acceptor::reuse_address(true), error);
  if (!error) acceptor.bind(endpoint, error);
  if (!error) acceptor.listen(1024, error);
  if (!error) acceptor.non_blocking(true, error);
  if (error) {
    return Status::io("cannot listen at {} port {}: {}", options.host, options.port, error.message());
  }
  port = acceptor.local_endpoint(error).port();
  return {};
}

void HttpServer::Core::accept() {
  acceptor.async_accept([self = shared_from_this()](const error_code& error, tcp::socket socket) {
    if (self->draining.load() || error == asio::error::operation_aborted) return;
    if (error) {
      // Out of file descriptors, mostly: others have to go first.
      self->retry.expires_after(std::chrono::milliseconds(50));
      self->retry.async_wait([self](const error_code& aborted) {
        if (!aborted && !self->draining.load()) self->accept();
      });
      return;
    }
    self->admit(std::move(socket));
    self->accept();
  });
}

void HttpServer::Core::admit(tcp::socket socket) {
  error_code ignored;
  socket.non_blocking(true, ignored);
  socket.set_option(tcp::no_delay(true), ignored);
  socket.set_option(asio::socket_base::keep_alive(true), ignored);
  // Clients that vanish without a word are noticed by what they do not acknowledge: data, or, where there is none,
  // probes.
  for (const auto& [option, value] : {std::pair(TCP_KEEPIDLE, 30), {TCP_KEEPINTVL, 10}, {TCP_KEEPCNT, 3}}) {
    (void)::setsockopt(socket.native_handle(), IPPROTO_TCP, option, &value, sizeof value);
  }
  const auto timeout = static_cast<unsigned>(options.write_timeout.count());
  (void)::setsockopt(socket.native_handle(), IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout, sizeof timeout);
  if (connections.size() >= options.max_connections) {
    refused.fetch_add(1, std::memory_order_relaxed);
    const HttpResponse response = error_response(503, "the server has as many connections as it takes; try again");
    const std::string text = response_head(response, response.body.size(), false, false) + response.body;
    (void)socket.write_some(asio::buffer(text), ignored);
    socket.shutdown(tcp::socket::shutdown_send, ignored);
    // What the client has sent already would turn the close into a reset.
    (void)socket.read_some(asio::buffer(scratch), ignored);
    return;
  }
  accepted.fetch_add(1, std::memory_order_relaxed);
  const auto connection = std::make_shared<Connection>(shared_from_this(), std::move(socket));
  connections.insert(connection);
  n_connections.store(static_cast<int64_t>(connections.size()), std::memory_order_relaxed);
  connection->start();
}

void HttpServer::Core::remove(const std::shared_ptr<Connection>& connection) {
  connections.erase(connection);
  n_connections.store(static_cast<int64_t>(connections.size()), std::memory_order_relaxed);
  if (connections.empty()) {
    const std::lock_guard lock(mutex);
    closed.notify_all();
  }
}

void HttpServer::Core::schedule_sweep() {
  sweep.expires_after(kSweepPeriod);
  sweep.async_wait([self = shared_from_this()](const error_code& aborted) {
    if (aborted) return;
    const auto now = Clock::now();
    const std::vector<std::shared_ptr<Connection>> all(self->connections.begin(), self->connections.end());
    for (const auto& connection : all) connection->check_time(now);
    self->schedule_sweep();
  });
}

void HttpServer::Core::run() {
  while (!stopped.load()) {
    try {
      io.run();
      return;
    } catch (const std::exception&) {
      // Out of memory while one connection was served: the others go on.
      continue;
    }
  }
}

void HttpServer::Core::mark(const std::shared_ptr<Exchange>& exchange) {
  bool first = false;
  {
    const std::lock_guard lock(mutex);
    if (exchange->queued || stopped.load()) return;
    exchange->queued = true;
    first = dirty.empty();
    dirty.push_back(exchange);
  }
  if (first) {
    asio::post(io, [weak = weak_from_this()] {
      if (const auto self = weak.lock()) self->flush_marked();
    });
  }
}

void HttpServer::Core::flush_marked() {
  std::vector<std::shared_ptr<Exchange>> list;
  {
    const std::lock_guard lock(mutex);
    list.swap(dirty);
    for (const auto& exchange : list) exchange->queued = false;
  }
  for (const auto& exchange : list) {
    if (const auto connection = exchange->connection().lock()) connection->flush();
  }
}

// ---- The server.

HttpServer::HttpServer(std::shared_ptr<Core> core) : core_(std::move(core)) {}
HttpServer::~HttpServer() { stop(); }

Result<std::unique_ptr<HttpServer>> HttpServer::start(const HttpServerOptions& options, HttpHandler handler) {
  auto core = std::make_shared<Core>(options, std::move(handler));
  DECANT_TRY_STATUS(core->listen());
  core->accept();
  core->schedule_sweep();
  core->thread = std::thread([core] { core->run(); });
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(core)));
}

int HttpServer::port() const { return core_->port; }

HttpCounters HttpServer::counters() const {
  const auto of = [](const std::atomic<int64_t>& counter) { return counter.load(std::memory_order_relaxed); };
  const Core& c = *core_;
  return {.connections = of(c.n_connections),
          .accepted = of(c.accepted),
          .refused = of(c.refused),
          .requests = of(c.requests),
          .streams = of(c.streams),
          .cut_off = of(c.cut_off),
          .malformed = of(c.malformed),
          .unsent_bytes = of(c.unsent)};
}

void HttpServer::drain() {
  if (core_->draining.exchange(true)) return;
  asio::post(core_->io, [core = core_] {
    error_code ignored;
    core->acceptor.close(ignored);
    const std::vector<std::shared_ptr<Connection>> all(core->connections.begin(), core->connections.end());
    for (const auto& connection : all) connection->drain();
  });
}

bool HttpServer::wait_closed(std::chrono::milliseconds timeout) {
  std::unique_lock lock(core_->mutex);
  return core_->closed.wait_for(lock, timeout,
                                [this] { return core_->n_connections.load(std::memory_order_relaxed) == 0; });
}

void HttpServer::stop() {
  if (core_->stopped.exchange(true)) return;
  core_->draining.store(true);
  asio::post(core_->io, [core = core_] {
    error_code ignored;
    core->acceptor.close(ignored);
    core->sweep.cancel();
    core->retry.cancel();
    const std::vector<std::shared_ptr<Connection>> all(core->connections.begin(), core->connections.end());
    for (const auto& connection : all) connection->close();
    core->io.stop();
  });
  if (core_->thread.joinable()) core_->thread.join();
  // What was called off still waits in the queue and holds the server and its connections: it is let go here, where
  // nothing else runs any more.
  core_->io.restart();
  while (true) {
    try {
      if (core_->io.poll() == 0) break;
    } catch (const std::exception&) {
      continue;
    }
  }
  const std::lock_guard lock(core_->mutex);
  core_->dirty.clear();
}

}  // namespace decant::serve
