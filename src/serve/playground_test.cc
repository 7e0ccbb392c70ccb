// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "serve/playground.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <set>
#include <string>

namespace decant::serve {
namespace {

const std::filesystem::path kFolder = std::filesystem::path(DECANT_SOURCE_DIR) / "src/serve/playground";

std::string content(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

TEST(Playground, EveryFileIsEmbeddedAsItIs) {
  std::set<std::string> paths;
  std::set<std::string_view> tags;
  for (const Asset& asset : playground_assets()) {
    const std::string name = asset.path == "/" ? "index.html" : std::string(asset.path.substr(1));
    EXPECT_EQ(asset.body, content(kFolder / name)) << name;
    EXPECT_TRUE(asset.etag.size() > 2 && asset.etag.front() == '"' && asset.etag.back() == '"') << asset.etag;
    EXPECT_FALSE(asset.content_type.empty()) << name;
    paths.insert(name);
    tags.insert(asset.etag);
  }
  std::set<std::string> on_disk;
  for (const auto& entry : std::filesystem::directory_iterator(kFolder)) {
    on_disk.insert(entry.path().filename().string());
  }
  EXPECT_EQ(paths, on_disk);
  EXPECT_EQ(tags.size(), playground_assets().size());
  EXPECT_TRUE(paths.contains("index.html"));
}

// What the policy would block, or what would need another host.
TEST(Playground, NothingIsInlineAndNothingComesFromElsewhere) {
  const std::regex inline_code(R"(<script(?![^>]* src=)|<style|\sstyle=|\son[a-z]+=|javascript:|data:)");
  const std::regex elsewhere(R"(\b(?:https?:)?//[A-Za-z0-9])");
  for (const Asset& asset : playground_assets()) {
    std::string body(asset.body);
    if (asset.path == "/") {
      EXPECT_FALSE(std::regex_search(body, inline_code));
    }
    // The name of SVG's elements looks like an address and is none.
    for (size_t at; (at = body.find("http://www.w3.org/2000/svg")) != std::string::npos;) body.erase(at, 26);
    // Comments of scripts begin with two slashes and a blank.
    EXPECT_FALSE(std::regex_search(body, elsewhere)) << asset.path;
    EXPECT_EQ(body.find("innerHTML"), std::string::npos) << asset.path;
    EXPECT_EQ(body.find("eval("), std::string::npos) << asset.path;
  }
}

}  // namespace
}  // namespace decant::serve
