// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "hub/part_file.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "base/mapped_file.h"
#include "hub/cache.h"

namespace decant {
namespace {

namespace fs = std::filesystem;

class HubFolder : public ::testing::Test {
 protected:
  HubFolder() {
    std::string pattern = (fs::temp_directory_path() / "decant-hub-XXXXXX").string();
    folder_ = ::mkdtemp(pattern.data());
  }
  ~HubFolder() override { fs::remove_all(folder_); }

  std::vector<std::string> names() const {
    std::vector<std::string> found;
    for (const auto& entry : fs::recursive_directory_iterator(folder_)) {
      if (entry.is_regular_file()) found.push_back(fs::path(entry.path()).lexically_relative(folder_).string());
    }
    std::sort(found.begin(), found.end());
    return found;
  }

  void write(const std::string& path, std::string_view text) {
    fs::create_directories(fs::path(folder_ + "/" + path).parent_path());
    auto file = AtomicFile::create(folder_ + "/" + path);
    ASSERT_TRUE(file.ok());
    ASSERT_TRUE(file->write({reinterpret_cast<const uint8_t*>(text.data()), text.size()}).ok());
    ASSERT_TRUE(file->commit().ok());
  }

  std::string folder_;
};

using PartFileTest = HubFolder;
using HubCacheTest = HubFolder;

const auto kNoWait = [] { return false; };

TEST_F(PartFileTest, AppearsWholeOrNotAtAll) {
  const std::string target = folder_ + "/a/b/model.gguf";
  {
    auto part = PartFile::open(target, kNoWait);
    ASSERT_TRUE(part.ok());
    ASSERT_TRUE(part->describe("me", "\"tag\"").ok());
    ASSERT_TRUE(part->append("half").ok());
    EXPECT_EQ(names(), (std::vector<std::string>{"a/b/model.gguf.part", "a/b/model.gguf.part.info"}));
  }
  EXPECT_TRUE(names().empty());
  auto part = PartFile::open(target, kNoWait);
  ASSERT_TRUE(part->describe("me", "").ok());
  ASSERT_TRUE(part->append("whole").ok());
  ASSERT_TRUE(part->commit().ok());
  EXPECT_EQ(names(), std::vector<std::string>{"a/b/model.gguf"});
  EXPECT_EQ(*read_file(target), "whole");
}

TEST_F(PartFileTest, IsResumedByWhatItBelongsTo) {
  const std::string target = folder_ + "/m";
  const auto leave_half = [&] {
    auto part = PartFile::open(target, kNoWait);
    ASSERT_TRUE(part->restart().ok());
    ASSERT_TRUE(part->describe("me", "\"tag\"").ok());
    ASSERT_TRUE(part->append("half").ok());
    part->keep();
  };
  leave_half();
  {
    auto part = PartFile::open(target, kNoWait);
    ASSERT_TRUE(part->resume("me", 10).ok());
    EXPECT_EQ(part->size(), 4);
    EXPECT_EQ(part->tag(), "\"tag\"");
    Digest digest = Digest::git_blob(4), same = Digest::git_blob(4);
    ASSERT_TRUE(part->hash(&digest, [] { return true; }).ok());
    same.update("half");
    EXPECT_EQ(digest.finish(), same.finish());
    part->keep();
  }
  {
    auto part = PartFile::open(target, kNoWait);
    ASSERT_TRUE(part->resume("another", 10).ok());
    EXPECT_EQ(part->size(), 0);
  }
  leave_half();
  auto part = PartFile::open(target, kNoWait);
  ASSERT_TRUE(part->resume("me", 3).ok());  // longer than the file can be
  EXPECT_EQ(part->size(), 0);
}

TEST_F(PartFileTest, HasOneWriter) {
  const std::string target = folder_ + "/m";
  auto first = PartFile::open(target, kNoWait);
  ASSERT_TRUE(first.ok());
  EXPECT_EQ(PartFile::open(target, kNoWait).status().code(), Code::kCancelled);
  remove_part(target);  // somebody is fetching it
  EXPECT_EQ(names(), std::vector<std::string>{"m.part"});
  int waits = 0;
  auto second = PartFile::open(target, [&] {
    if (++waits == 1) {
      EXPECT_TRUE(first->append("x").ok() && first->commit().ok());
    }
    return waits < 100;
  });
  ASSERT_TRUE(second.ok());
  EXPECT_EQ(second->size(), 0);  // not what the first one has renamed
}

TEST_F(PartFileTest, AFolderThatCannotBeMadeIsNamed) {
  write("file", "x");
  const auto part = PartFile::open(folder_ + "/file/m", kNoWait);
  EXPECT_NE(part.status().message().find("/file/m.part"), std::string::npos) << part.status().message();
  EXPECT_NE(part.status().message().find("DECANT_CACHE"), std::string::npos) << part.status().message();
}

TEST(DigestTest, KnownSums) {
  Digest sha256 = Digest::sha256();
  sha256.update("a");
  sha256.update("bc");
  EXPECT_EQ(sha256.finish(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");  // FIPS 180-2
  Digest blob = Digest::git_blob(0);
  EXPECT_EQ(blob.finish(), "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");  // git hash-object /dev/null
}

TEST_F(HubCacheTest, PulledModelsAreFound) {
  const HubCache cache(folder_);
  const std::string commit(40, 'c');
  const HubName name = *parse_hub_name("o/n");
  EXPECT_EQ(cache.find(name).status().code(), Code::kNotFound);
  write("o/n/" + commit + "/m-Q8_0.gguf", "x");
  EXPECT_EQ(cache.find(name).status().code(), Code::kNotFound);  // no reference yet
  ASSERT_TRUE(cache.write_reference(name, commit).ok());
  EXPECT_EQ(*cache.find(name), folder_ + "/o/n/" + commit + "/m-Q8_0.gguf");
  EXPECT_EQ(*cache.find(*parse_hub_name("o/n:q8_0")), *cache.find(name));
  EXPECT_EQ(*cache.find(*parse_hub_name("o/n@" + commit)), *cache.find(name));
  EXPECT_EQ(cache.find(*parse_hub_name("o/n:Q4_K_M")).status().code(), Code::kNotFound);
  EXPECT_EQ(cache.find(*parse_hub_name("o/n@v1")).status().code(), Code::kNotFound);
  write("o/n/refs/v1", "../../..\n");
  EXPECT_EQ(cache.find(*parse_hub_name("o/n@v1")).status().code(), Code::kNotFound);
}

TEST_F(HubCacheTest, AModelWithoutAShardIsNotWhole) {
  const HubCache cache(folder_);
  const std::string commit(40, 'c'), at = "o/n/" + commit + "/";
  const HubName name = *parse_hub_name("o/n");
  ASSERT_TRUE(cache.write_reference(name, commit).ok());
  write(at + "model.safetensors.index.json", R"({"weight_map":{"a":"m1.safetensors","b":"m2.safetensors"}})");
  write(at + "m1.safetensors", "x");
  EXPECT_NE(cache.find(name).status().message().find("m2.safetensors"), std::string::npos);
  write(at + "m2.safetensors", "x");
  EXPECT_EQ(*cache.find(name), folder_ + "/o/n/" + commit);
}

}  // namespace
}  // namespace decant
