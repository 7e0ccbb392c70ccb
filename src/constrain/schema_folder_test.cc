// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "constrain/schema_folder.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace decant {
namespace {

namespace fs = std::filesystem;

class SchemaFolder : public testing::Test {
 protected:
  void SetUp() override {
    base_ = fs::path(testing::TempDir()) / ("decant-schema-folder-" + std::to_string(::getpid()));
    fs::create_directories(base_ / "in" / "sub");
    write("in/a.json", "A");
    write("in/sub/b c.json", "B");
    write("secret.json", "S");
  }
  void TearDown() override { fs::remove_all(base_); }

  void write(const std::string& name, const std::string& text) const { std::ofstream(base_ / name) << text; }
  Result<std::string> read(const std::string& address, const std::string& schema = "{}") const {
    return schema_folder((base_ / "in").string(), schema)(address);
  }

  fs::path base_;
};

TEST_F(SchemaFolder, ReadsWhatRelativeReferencesName) {
  EXPECT_EQ(*read("a.json"), "A");
  EXPECT_EQ(*read("./sub/../a.json"), "A");
  EXPECT_EQ(*read("sub/b%20c.json"), "B");
  EXPECT_EQ(read("sub/a.json").status().code(), Code::kNotFound);
  EXPECT_EQ(read("http://example.com/a.json").status().code(), Code::kNotFound);
  EXPECT_FALSE(read("sub").ok());
}

TEST_F(SchemaFolder, ReadsAddressesBesideTheSchemasOwn) {
  const char* schema = R"({"$id": "http://example.com/x/root.json"})";
  EXPECT_EQ(*read("http://example.com/x/a.json", schema), "A");
  EXPECT_EQ(*read("http://example.com/x/sub/b%20c.json", schema), "B");
  EXPECT_EQ(read("http://example.com/a.json", schema).status().code(), Code::kNotFound);
}

TEST_F(SchemaFolder, NeverLeavesTheFolder) {
  for (const char* address : {"../secret.json", "sub/../../secret.json", "%2E%2E/secret.json", "..%2Fsecret.json",
                              "/etc/hostname", "%2Fetc/hostname", ""}) {
    const Result<std::string> found = read(address);
    ASSERT_FALSE(found.ok()) << address;
    EXPECT_EQ(found.status().code(), Code::kInvalidArgument) << address << ": " << found.status().message();
  }
  fs::create_symlink(base_ / "secret.json", base_ / "in" / "link.json");
  fs::create_symlink(base_ / "in" / "a.json", base_ / "in" / "own.json");
  EXPECT_EQ(read("link.json").status().code(), Code::kInvalidArgument);
  EXPECT_EQ(*read("own.json"), "A");
}

}  // namespace
}  // namespace decant
