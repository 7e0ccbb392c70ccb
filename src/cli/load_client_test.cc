// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "cli/load_client.h"

#include <gtest/gtest.h>

namespace decant::cli {
namespace {

TEST(ServerUrls, HaveHostPortAndBase) {
  const auto check = [](const char* text, const char* host, const char* port, const char* base) {
    const Result<ServerUrl> url = parse_server_url(text);
    ASSERT_TRUE(url.ok()) << text << ": " << url.status().message();
    EXPECT_EQ(url->host, host) << text;
    EXPECT_EQ(url->port, port) << text;
    EXPECT_EQ(url->base, base) << text;
  };
  check("http://127.0.0.1:8080", "127.0.0.1", "8080", "");
  check("http://localhost", "localhost", "80", "");
  check("http://host:1/v1/", "host", "1", "");
  check("http://host:1/a/b/v1", "host", "1", "/a/b");
  check("http://[::1]:8080/", "::1", "8080", "");
  check("http://[::1]", "::1", "80", "");
}

TEST(ServerUrls, WhatIsNoneIsRefused) {
  for (const char* bad : {"", "localhost:8080", "http://", "http://:80", "http://a:0", "http://a:65536", "http://a:b",
                          "http://a:80?x", "http://u@a", "http://[::1", "http://::1]:80", "ftp://a"}) {
    EXPECT_EQ(parse_server_url(bad).status().code(), Code::kInvalidArgument) << bad;
  }
  EXPECT_EQ(parse_server_url("https://a").status().code(), Code::kUnsupported);
}

TEST(HttpFailures, HaveTheServersWords) {
  EXPECT_EQ(http_failure(503, R"({"error": {"message": "the queue is full", "code": 503}})"),
            "HTTP 503: the queue is full");
  EXPECT_EQ(http_failure(404, R"({"detail": "Not Found"})"), "HTTP 404: Not Found");
  EXPECT_EQ(http_failure(400, R"({"error": "no"})"), "HTTP 400: no");
  EXPECT_EQ(http_failure(401, R"({"error": {"message": "bad key"}})"),
            "HTTP 401: bad key; the server wants another --api-key");
  EXPECT_EQ(http_failure(502, "<html>"), "HTTP 502: <html>");
  EXPECT_EQ(http_failure(500, ""), "HTTP 500");
}

}  // namespace
}  // namespace decant::cli
