// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "serve/http_server.h"

#include <gtest/gtest.h>

#include <atomic>
#include <fstream>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>

#include "serve/test_util.h"

namespace decant::serve {
namespace {

using std::chrono::milliseconds;

HttpServerOptions test_options() {
  HttpServerOptions options;
  options.port = 0;
  options.limits.max_body_bytes = 1000;
  return options;
}

std::unique_ptr<HttpServer> start(HttpHandler handler, const HttpServerOptions& options = test_options()) {
  auto server = HttpServer::start(options, std::move(handler));
  EXPECT_TRUE(server.ok()) << server.status().message();
  return server.ok() ? std::move(server).value() : nullptr;
}

// Says what it was asked.
void echo(HttpRequest request, const std::shared_ptr<Responder>& responder) {
  responder->send({.content_type = "text/plain",
                   .body = request.method + " " + request.path + "?" + request.query + " " + request.body});
}

constexpr std::string_view kGet = "GET /a?b=c HTTP/1.1\r\nHost: x\r\n\r\n";

TEST(HttpServerTest, AnswersAndKeepsTheConnection) {
  const auto server = start(echo);
  RawClient client(server->port());
  for (int i = 0; i < 3; ++i) {
    client.send("POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc");
    const std::string answer = client.read_until("abc");
    EXPECT_EQ(status_of(answer), 200) << answer;
    EXPECT_EQ(body_of(answer), "POST /p? abc");
  }
  EXPECT_EQ(server->counters().accepted, 1);
  EXPECT_EQ(server->counters().requests, 3);
}

TEST(HttpServerTest, ARequestMayArriveByteByByteOrTwoAtOnce) {
  const auto server = start(echo);
  RawClient slow(server->port());
  for (const char c :
       std::string("POST /p HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n")) {
    slow.send({&c, 1});
    std::this_thread::sleep_for(milliseconds(1));
  }
  EXPECT_EQ(body_of(slow.read_until("abc")), "POST /p? abc");

  RawClient both(server->port());
  both.send(std::string(kGet) + "GET /second HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  const std::string answers = both.read_all();
  EXPECT_NE(answers.find("GET /a?b=c"), std::string::npos) << answers;
  EXPECT_NE(answers.find("GET /second?"), std::string::npos) << answers;
  EXPECT_TRUE(both.ended());
}

TEST(HttpServerTest, HeadHasTheLengthAndNoBody) {
  const auto server = start(echo);
  RawClient client(server->port());
  client.send("HEAD /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  const std::string answer = client.read_all();
  EXPECT_NE(answer.find("Content-Length: 9\r\n"), std::string::npos) << answer;
  EXPECT_EQ(body_of(answer), "");
}

TEST(HttpServerTest, ContinuesWhereTheClientAsksForIt) {
  const auto server = start(echo);
  RawClient client(server->port());
  client.send("POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
  EXPECT_EQ(client.read_until("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
  client.send("abc");
  EXPECT_EQ(body_of(client.read_until("abc")), "POST /p? abc");
  // Too large a body is refused before it is sent.
  client.send("POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 3000\r\nExpect: 100-continue\r\n\r\n");
  EXPECT_EQ(status_of(client.read_all()), 413);
}

TEST(HttpServerTest, WhatIsNoRequestGetsItsStatusAndTheEnd) {
  const auto server = start(echo);
  const std::string many_headers = [] {
    std::string text = "GET / HTTP/1.1\r\nHost: x\r\n";
    for (int i = 0; i < 200; ++i) text += "a" + std::to_string(i) + ": b\r\n";
    return text + "\r\n";
  }();
  const struct {
    std::string bytes;
    int status;
  } cases[] = {
      {"nonsense\r\n\r\n", 400},
      {std::string("\0\1\2\r\n\r\n", 7), 400},
      {"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505},
      {"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400},
      {"GET x HTTP/1.1\r\nHost: x\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost: x\r\na b: c\r\n\r\n", 400},
      {"POST / HTTP/1.1\r\nHost: x\r\n\r\n", 411},
      {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400},
      {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400},
      {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n", 400},
      {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3000\r\n\r\n", 413},
      {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
      {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501},
      {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400},
      {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfff\r\n" + std::string(0xfff, 'a') + "\r\n",
       413},
      {"POST / HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\na", 415},
      {"GET / HTTP/1.1\r\nHost: x\r\nExpect: tea\r\n\r\n", 417},
      {"GET /" + std::string(9000, 'a') + " HTTP/1.1\r\nHost: x\r\n\r\n", 414},
      {"GET /" + std::string(90000, 'a'), 414},
      {"GET / HTTP/1.1\r\nHost: x\r\na: " + std::string(90000, 'a') + "\r\n\r\n", 431},
      {many_headers, 431},
  };
  for (const auto& c : cases) {
    RawClient client(server->port());
    client.send(c.bytes);
    const std::string answer = client.read_all();
    EXPECT_EQ(status_of(answer), c.status) << c.bytes.substr(0, 100) << "\n" << answer;
    EXPECT_TRUE(client.ended()) << c.bytes.substr(0, 100);
    const auto json = nlohmann::json::parse(body_of(answer), nullptr, false);
    EXPECT_TRUE(json.is_object() && json["error"]["message"].is_string() && json["error"].contains("code")) << answer;
  }
  EXPECT_EQ(server->counters().requests, 0);
  EXPECT_EQ(server->counters().malformed, static_cast<int64_t>(std::size(cases)));
  EXPECT_TRUE(eventually([&] { return server->counters().connections == 0; }));
}

TEST(HttpServerTest, AnUnfinishedRequestTimesOutAndAnIdleConnectionIsClosed) {
  HttpServerOptions options = test_options();
  options.read_timeout = milliseconds(300);
  options.idle_timeout = milliseconds(300);
  const auto server = start(echo, options);
  RawClient slow(server->port()), idle(server->port());
  slow.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab");
  EXPECT_EQ(status_of(slow.read_all()), 408);
  EXPECT_EQ(idle.read_all(), "");
  EXPECT_TRUE(idle.ended());
}

TEST(HttpServerTest, StreamsFromAnotherThreadInOrder) {
  std::vector<std::thread> threads;
  const auto server = start([&](const HttpRequest&, std::shared_ptr<Responder> responder) {
    threads.emplace_back([responder = std::move(responder)] {
      responder->begin_stream({.content_type = "text/event-stream"});
      for (int i = 0; i < 100; ++i) responder->write("data: " + std::to_string(i) + "\n\n");
      responder->end();
    });
  });
  RawClient client(server->port());
  for (int round = 0; round < 2; ++round) {
    client.send(kGet);
    const std::string answer = client.read_until("\r\n0\r\n\r\n");
    EXPECT_NE(answer.find("Transfer-Encoding: chunked"), std::string::npos);
    size_t at = 0;
    for (int i = 0; i < 100; ++i) {
      const size_t next = answer.find("data: " + std::to_string(i) + "\n\n", at);
      ASSERT_NE(next, std::string::npos) << i;
      at = next;
    }
  }
  for (std::thread& t : threads) t.join();
}

TEST(HttpServerTest, ClientsOfHttp10GetTheStreamUpToTheEnd) {
  const auto server = start([](const HttpRequest&, const std::shared_ptr<Responder>& responder) {
    responder->begin_stream({.content_type = "text/plain"});
    responder->write("one ");
    responder->write("two");
    responder->end();
  });
  RawClient client(server->port());
  client.send("GET / HTTP/1.0\r\n\r\n");
  EXPECT_EQ(body_of(client.read_all()), "one two");
  EXPECT_TRUE(client.ended());
}

TEST(HttpServerTest, AClientThatGoesIsNoticed) {
  std::mutex mutex;
  std::shared_ptr<Responder> kept;
  std::atomic<int> closed{0};
  const auto server = start([&](const HttpRequest&, std::shared_ptr<Responder> responder) {
    responder->on_closed([&] { ++closed; });
    const std::lock_guard lock(mutex);
    kept = std::move(responder);
  });
  for (const bool streaming : {false, true}) {
    closed = 0;
    RawClient client(server->port());
    client.send(kGet);
    ASSERT_TRUE(eventually([&] {
      const std::lock_guard lock(mutex);
      return kept != nullptr;
    }));
    if (streaming) {
      EXPECT_TRUE(kept->begin_stream({}));
      client.read_until("\r\n\r\n");
      EXPECT_EQ(server->counters().streams, 1);
    }
    client.close();
    EXPECT_TRUE(eventually([&] { return closed == 1; }));
    EXPECT_FALSE(kept->write("more"));
    kept->end();
    const std::lock_guard lock(mutex);
    kept = nullptr;
  }
  EXPECT_TRUE(eventually([&] { return server->counters().connections == 0 && server->counters().streams == 0; }));
}

TEST(HttpServerTest, ASlowReaderIsCutOffAndKeepsNoMemory) {
  HttpServerOptions options = test_options();
  options.max_output_bytes = size_t{1} << 18;
  std::mutex mutex;
  std::shared_ptr<Responder> kept;
  std::atomic<bool> closed{false};
  const auto server = start(
      [&](const HttpRequest&, std::shared_ptr<Responder> responder) {
        responder->on_closed([&] { closed = true; });
        responder->begin_stream({});
        const std::lock_guard lock(mutex);
        kept = std::move(responder);
      },
      options);
  RawClient client(server->port(), 4096);
  client.send(kGet);
  ASSERT_TRUE(eventually([&] {
    const std::lock_guard lock(mutex);
    return kept != nullptr;
  }));
  const std::string piece(size_t{1} << 14, 'x');
  // The kernel's buffers take some megabytes before the client is slow.
  size_t written = 0;
  while (written < (size_t{1} << 28) && kept->write(piece)) {
    written += piece.size();
    std::this_thread::sleep_for(std::chrono::microseconds(100));
  }
  EXPECT_TRUE(eventually([&] { return closed.load(); }));
  EXPECT_LT(written, size_t{1} << 26);
  EXPECT_TRUE(eventually([&] { return server->counters().connections == 0; }));
  EXPECT_EQ(server->counters().unsent_bytes, 0);
  EXPECT_EQ(server->counters().cut_off, 1);
  kept = nullptr;
}

TEST(HttpServerTest, AReaderThatTakesNothingTimesOut) {
  HttpServerOptions options = test_options();
  options.write_timeout = milliseconds(400);
  const auto server = start(
      [](const HttpRequest&, const std::shared_ptr<Responder>& responder) {
        responder->send({.body = std::string(size_t{1} << 24, 'x')});
      },
      options);
  RawClient client(server->port(), 4096);
  client.send(kGet);
  EXPECT_TRUE(eventually([&] { return server->counters().cut_off == 1; }));
  EXPECT_TRUE(eventually([&] { return server->counters().connections == 0; }));
}

TEST(HttpServerTest, AQuietStreamBeats) {
  HttpServerOptions options = test_options();
  options.heartbeat_period = milliseconds(100);
  std::shared_ptr<Responder> kept;
  const auto server = start(
      [&](const HttpRequest&, std::shared_ptr<Responder> responder) {
        responder->begin_stream({.content_type = "text/event-stream"}, ": alive\n\n");
        kept = std::move(responder);
      },
      options);
  RawClient client(server->port());
  client.send(kGet);
  EXPECT_NE(client.read_until(": alive\n\n").find(": alive"), std::string::npos);
  kept->end();
  EXPECT_NE(client.read_until("0\r\n\r\n").find("0\r\n\r\n"), std::string::npos);
}

TEST(HttpServerTest, AHandlerThatForgetsOrThrowsGivesAnError) {
  const auto server = start([](const HttpRequest& request, const std::shared_ptr<Responder>&) {
    if (request.path == "/throw") throw std::runtime_error("x");
  });
  RawClient client(server->port());
  for (const char* path : {"/forget", "/throw"}) {
    client.send(std::string("GET ") + path + " HTTP/1.1\r\nHost: x\r\n\r\n");
    EXPECT_EQ(status_of(client.read_until("}}")), 500) << path;
  }
}

TEST(HttpServerTest, MoreConnectionsThanItTakesAreRefused) {
  HttpServerOptions options = test_options();
  options.max_connections = 2;
  const auto server = start(echo, options);
  RawClient first(server->port()), second(server->port());
  first.send(kGet);
  second.send(kGet);
  EXPECT_EQ(status_of(first.read_until("a?b=c")), 200);
  EXPECT_EQ(status_of(second.read_until("a?b=c")), 200);
  RawClient third(server->port());
  EXPECT_EQ(status_of(third.read_all()), 503);
  EXPECT_EQ(server->counters().refused, 1);
  first.close();
  EXPECT_TRUE(eventually([&] { return server->counters().connections == 1; }));
  RawClient fourth(server->port());
  fourth.send(kGet);
  EXPECT_EQ(status_of(fourth.read_until("a?b=c")), 200);
}

TEST(HttpServerTest, LargeBodiesTogetherAreLimited) {
  HttpServerOptions options = test_options();
  options.max_total_body_bytes = 1500;
  const auto server = start(echo, options);
  RawClient first(server->port()), second(server->port());
  first.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nab");
  std::this_thread::sleep_for(milliseconds(50));
  second.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nab");
  EXPECT_EQ(status_of(second.read_all()), 503);
  first.send(std::string(998, 'c'));
  EXPECT_EQ(status_of(first.read_until("ccc")), 200);
}

TEST(HttpServerTest, DrainingFinishesAnswersAndTakesNoMore) {
  std::mutex mutex;
  std::shared_ptr<Responder> kept;
  const auto server = start([&](const HttpRequest&, std::shared_ptr<Responder> responder) {
    const std::lock_guard lock(mutex);
    kept = std::move(responder);
  });
  RawClient idle(server->port()), busy(server->port());
  busy.send(kGet);
  ASSERT_TRUE(eventually([&] {
    const std::lock_guard lock(mutex);
    return kept != nullptr;
  }));
  ASSERT_TRUE(eventually([&] { return server->counters().connections == 2; }));
  server->drain();
  EXPECT_EQ(idle.read_all(), "");
  EXPECT_TRUE(idle.ended());
  EXPECT_FALSE(server->wait_closed(milliseconds(100)));
  EXPECT_FALSE(RawClient(server->port()).connected());
  kept->send({.body = "done"});
  EXPECT_EQ(body_of(busy.read_all()), "done");
  EXPECT_TRUE(busy.ended());
  busy.close();
  EXPECT_TRUE(server->wait_closed(milliseconds(3000)));
}

size_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  size_t total = 0, resident = 0;
  file >> total >> resident;
  return resident * 4096;
}

TEST(HttpServerTest, IdleStreamsAreCheap) {
  std::mutex mutex;
  std::vector<std::shared_ptr<Responder>> kept;
  const auto server = start([&](const HttpRequest&, std::shared_ptr<Responder> responder) {
    responder->begin_stream({.content_type = "text/event-stream", .body = ": hello\n\n"}, ":\n\n");
    const std::lock_guard lock(mutex);
    kept.push_back(std::move(responder));
  });
  constexpr int kStreams = 400;  // two descriptors each, and 1024 are allowed
  const size_t before = resident_bytes();
  std::vector<std::unique_ptr<RawClient>> clients;
  for (int i = 0; i < kStreams; ++i) {
    clients.push_back(std::make_unique<RawClient>(server->port()));
    ASSERT_TRUE(clients.back()->connected());
    clients.back()->send(kGet);
    clients.back()->read_until(": hello");
  }
  ASSERT_TRUE(eventually([&] { return server->counters().streams == kStreams; }));
  // 200 MB for 2,000 streams would be 100 KB each; sanitizers multiply what is used.
  EXPECT_LT(resident_bytes() - before, size_t{kStreams} * 60'000);
  clients.clear();
  EXPECT_TRUE(eventually([&] { return server->counters().connections == 0; }));
}

}  // namespace
}  // namespace decant::serve
