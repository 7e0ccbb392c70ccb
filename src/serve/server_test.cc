// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "serve/server.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "engine/test_util.h"
#include "serve/test_util.h"

namespace decant::serve {
namespace {

using std::chrono::milliseconds;

class ServerTest : public engine_testing::TinyModelTest {
 protected:
  void SetUp() override { open({.context = 2048, .max_rows = 128}); }

  void start(ServerOptions options = {}) {
    ServedModelOptions served;
    served.name = "tiny";
    served.tokenizer = tokenizer_;
    const std::string text = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant: ";
    served.chat = *ChatTemplate::from_tokenizer(*tokenizer_, &text);
    served.template_text = served.tool_template_text = text;
    served.context = 1024;
    served.hidden = model_->config().hidden;
    served.vocab_size = model_->config().vocab_size;
    served.speculate = [](const std::string&, const std::string&) -> Result<Speculation> {
      return Status::invalid_argument("no drafts in this test");
    };
    thread_ = std::make_unique<EngineThread>(*engine_,
                                             EngineThreadOptions{.scheduler = {.max_running = 4}, .max_waiting = 64});
    options.http.port = 0;
    options.log = [this](std::string_view line) {
      const std::lock_guard lock(mutex_);
      log_.emplace_back(line);
    };
    auto server = Server::start(std::move(options), std::make_shared<ServedModel>(std::move(served)), *thread_);
    ASSERT_TRUE(server.ok()) << server.status().message();
    server_ = *std::move(server);
  }

  static std::string post(const std::string& path, const std::string& body, bool close = true) {
    return "POST " + path + " HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" +
           (close ? "Connection: close\r\n" : "") + "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" +
           body;
  }
  std::string ask(const std::string& path, const std::string& body) {
    RawClient client(server_->port());
    client.send(post(path, body));
    return client.read_all(60'000);
  }
  void expect_no_leak() {
    EXPECT_TRUE(eventually([&] {
      const SchedulerStats s = thread_->stats();
      return s.running == 0 && s.waiting == 0 && s.pages_used == 0 && s.pages_free + s.pages_cached == s.pages_total;
    }));
  }

  std::unique_ptr<EngineThread> thread_;
  std::mutex mutex_;
  std::vector<std::string> log_;
  std::unique_ptr<Server> server_;  // goes first
};

constexpr const char* kChat =
    R"({"messages": [{"role": "user", "content": "hi"}], "max_tokens": 6, "seed": 5, "ignore_eos": true)";

TEST_F(ServerTest, AStreamSaysWhatTheWholeAnswerSays) {
  start();
  const auto whole =
      nlohmann::json::parse(body_of(ask("/v1/chat/completions", std::string(kChat) + "}")), nullptr, false);
  ASSERT_TRUE(whole.is_object());
  EXPECT_EQ(whole["usage"]["completion_tokens"], 6);
  const std::string stream = ask("/v1/chat/completions", std::string(kChat) + R"(, "stream": true})");
  EXPECT_NE(stream.find("data: [DONE]"), std::string::npos) << stream;
  std::string text;
  for (size_t at = 0; (at = stream.find("data: {", at)) != std::string::npos; ++at) {
    const auto event = nlohmann::json::parse(stream.substr(at + 6, stream.find("\n\n", at) - at - 6), nullptr, false);
    ASSERT_TRUE(event.is_object());
    text += event["choices"][0]["delta"].value("content", "");
  }
  EXPECT_EQ(text, whole["choices"][0]["message"]["content"].get<std::string>());
  expect_no_leak();
}

// Many clients at once, of which many go before their answer, in the middle of it, or send nonsense.
TEST_F(ServerTest, ClientsThatComeAndGoLeaveNothingBehind) {
  start();
  std::atomic<int> answered = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 random(static_cast<uint32_t>(t));
      for (int i = 0; i < 12; ++i) {
        RawClient client(server_->port());
        const bool stream = random() % 2 == 0;
        client.send(post(
            "/v1/chat/completions",
            R"({"messages": [{"role": "user", "content": "hi"}], "max_tokens": 60, "n": 2, "ignore_eos": true, "stream": )" +
                std::string(stream ? "true}" : "false}")));
        switch (random() % 4) {
          case 0: break;  // goes at once
          case 1: client.read_until(stream ? "data: " : "HTTP", 200); break;
          case 2:
            client.send("nonsense");
            client.read_until("HTTP", 50);
            break;
          default:
            if (status_of(client.read_all(60'000)) == 200) ++answered;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_GT(answered, 0);
  expect_no_leak();
}

TEST_F(ServerTest, StoppingEndsWhatRunsAndSaysSo) {
  start();
  RawClient client(server_->port());
  client.send(post("/v1/completions", R"({"prompt": "a", "max_tokens": 1000, "ignore_eos": true, "stream": true})"));
  client.read_until("data: ");
  const auto begin = std::chrono::steady_clock::now();
  server_->shut_down(milliseconds(0));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, milliseconds(10'000));
  const std::string rest = client.read_all();
  EXPECT_NE(rest.find("shutting_down"), std::string::npos) << rest;
  EXPECT_EQ(rest.find("[DONE]"), std::string::npos);
}

TEST_F(ServerTest, EveryRequestIsLoggedOnceWithoutItsText) {
  start();
  EXPECT_EQ(status_of(ask("/v1/completions", R"({"prompt": "secret", "max_tokens": 2, "ignore_eos": true})")), 200);
  EXPECT_EQ(status_of(ask("/v1/completions", R"({"prompt": 5})")), 400);
  EXPECT_EQ(status_of(ask("/nowhere", "{}")), 404);
  ASSERT_TRUE(eventually([&] {
    const std::lock_guard lock(mutex_);
    return log_.size() == 3;
  }));
  const std::lock_guard lock(mutex_);
  std::vector<int> statuses;
  for (const std::string& line : log_) {
    const auto json = nlohmann::json::parse(line, nullptr, false);
    ASSERT_TRUE(json.is_object()) << line;
    statuses.push_back(json["status"]);
    EXPECT_EQ(line.find("secret"), std::string::npos);
  }
  // A line is written behind its answer, so that the next request's may come first.
  std::sort(statuses.begin(), statuses.end());
  EXPECT_EQ(statuses, (std::vector<int>{200, 400, 404}));
}

}  // namespace
}  // namespace decant::serve
