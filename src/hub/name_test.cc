// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "hub/name.h"

#include <gtest/gtest.h>

namespace decant {
namespace {

TEST(HubName, PartsAreTakenApart) {
  const auto plain = parse_hub_name("acme/tiny-1.5_b");
  ASSERT_TRUE(plain.ok());
  EXPECT_EQ(plain->repository(), "acme/tiny-1.5_b");
  EXPECT_EQ(plain->revision_or_main(), "main");
  EXPECT_EQ(plain->file, "");

  const auto full = parse_hub_name("acme/tiny@refs/pr/3:q/model Q4.gguf");
  ASSERT_TRUE(full.ok()) << full.status().message();
  EXPECT_EQ(full->repository(), "acme/tiny");
  EXPECT_EQ(full->revision, "refs/pr/3");
  EXPECT_EQ(full->file, "q/model Q4.gguf");
}

TEST(HubName, WrongNamesAreRefused) {
  for (const char* text :
       {"",         "tiny",     "a/b/c",    "/b",    "a/",        "../b",     "a/..",    ".a/b",     "-a/b",
        "a b/c",    "a/b..c",   "a/b:",     "a/b@",  "a/b@main:", "a/b@../x", "a/b@a b", "a/b:../x", "a/b:/etc/passwd",
        "a/b:c\\d", "a/b:c//d", "a/b:c\nd", "a\n/b", "a/b@v1@v2"}) {
    EXPECT_FALSE(parse_hub_name(text).ok()) << text;
  }
  EXPECT_FALSE(parse_hub_name(std::string(97, 'a') + "/b").ok());
  EXPECT_FALSE(parse_hub_name(std::string_view("a/b:c\0d", 7)).ok());
}

TEST(HubName, PathsThatLeadOutAreRefused) {
  for (const char* path : {"a", "a/b.gguf", "a b", "..a", "a..b/c", "\xc3\xa9.json", ".gitattributes"}) {
    EXPECT_TRUE(check_repository_path(path).ok()) << path;
  }
  for (const char* path :
       {"", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/..", "./a", "a\\b", "a\tb", "a\x7f"}) {
    EXPECT_FALSE(check_repository_path(path).ok()) << path;
  }
  EXPECT_FALSE(check_repository_path(std::string_view("a\0b", 3)).ok());
  EXPECT_FALSE(check_repository_path(std::string(241, 'a')).ok());
  EXPECT_TRUE(check_repository_path(std::string(240, 'a')).ok());
}

TEST(HubName, UrlsAreEscaped) {
  EXPECT_EQ(escape_url("aZ09-._~", false), "aZ09-._~");
  EXPECT_EQ(escape_url("a b/c?d#e%f+g&h", true), "a%20b/c%3Fd%23e%25f%2Bg%26h");
  EXPECT_EQ(escape_url("refs/pr/1", false), "refs%2Fpr%2F1");
  EXPECT_EQ(escape_url("\xc3\xa9", true), "%C3%A9");
}

TEST(HubName, AddressesAreChecked) {
  EXPECT_EQ(*check_hub_address("https://hub.example.org"), "https://hub.example.org");
  EXPECT_EQ(*check_hub_address("http://127.0.0.1:8080/mirror//"), "http://127.0.0.1:8080/mirror");
  EXPECT_EQ(*check_hub_address("http://[::1]:80"), "http://[::1]:80");
  for (const char* address : {"", "huggingface.co", "ftp://a", "file:///etc", "https://", "https:///a", "http://:80",
                              "https://user:pass@host", "https://a?b", "https://a#b", "https://a b", "HTTPS://a"}) {
    EXPECT_FALSE(check_hub_address(address).ok()) << address;
  }
}

TEST(HubName, CommitsAreFortyHexDigits) {
  EXPECT_TRUE(is_commit("ab810cf68114990406fdf996510dd3d3c6adbdf5"));
  EXPECT_FALSE(is_commit("ab810cf68114990406fdf996510dd3d3c6adbdf"));
  EXPECT_FALSE(is_commit("AB810CF68114990406FDF996510DD3D3C6ADBDF5"));
}

}  // namespace
}  // namespace decant
