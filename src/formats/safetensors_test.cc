// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "formats/safetensors.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>

namespace decant {
namespace {

namespace fs = std::filesystem;
using Bytes = std::vector<uint8_t>;

Bytes file_of(const std::string& header, size_t data) {
  const uint64_t length = header.size();
  Bytes bytes(8 + header.size() + data);
  std::memcpy(bytes.data(), &length, sizeof length);
  std::memcpy(bytes.data() + 8, header.data(), header.size());
  for (size_t i = 0; i < data; ++i) bytes[8 + header.size() + i] = static_cast<uint8_t>(i);
  return bytes;
}

Status status_of(const Bytes& bytes) { return SafetensorsFile::parse(bytes, "m.safetensors").status(); }

void expect(const Status& status, Code code, const std::string& part) {
  EXPECT_EQ(status.code(), code) << status.message();
  EXPECT_NE(status.message().find(part), std::string::npos) << status.message();
}

class Folder {
 public:
  Folder() : path_(::testing::TempDir() + "safetensors_" + std::to_string(::getpid())) {
    fs::create_directories(path_);
  }
  ~Folder() { fs::remove_all(path_); }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

TEST(Safetensors, TensorsAreViewsInTheOrderOfTheirData) {
  const Bytes bytes = file_of(
      R"({"__metadata__":{"format":"pt"},"b":{"dtype":"BF16","shape":[2,3],"data_offsets":[4,16]},)"
      R"("a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"none":{"dtype":"I64","shape":[0,7],"data_offsets":[4,4]}})",
      16);
  const auto file = SafetensorsFile::parse(bytes, "m.safetensors");
  ASSERT_TRUE(file.ok()) << file.status().message();
  ASSERT_EQ(file->tensors().size(), 3u);
  EXPECT_EQ(file->tensors()[0].name, "a");
  EXPECT_TRUE(file->tensors()[0].shape.empty());
  const SafetensorsTensor* b = file->find_tensor("b");
  ASSERT_NE(b, nullptr);
  EXPECT_EQ(b->dtype, "BF16");
  EXPECT_EQ(b->shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(b->data.size(), 12u);
  EXPECT_EQ(b->data[0], 4);
  EXPECT_EQ(file->find_tensor("none")->data.size(), 0u);
  EXPECT_EQ(file->find_tensor("c"), nullptr);
  EXPECT_EQ(file->metadata().at("format"), "pt");
}

TEST(Safetensors, ContradictionsAreRefusedByTensor) {
  const auto one = [](const std::string& fields, size_t data) {
    return status_of(file_of("{\"w\":" + fields + "}", data));
  };
  expect(status_of(Bytes(7)), Code::kCorrupt, "7 bytes");
  expect(status_of(file_of("{", 0)), Code::kCorrupt, "no JSON at byte");
  expect(status_of(file_of("[]", 0)), Code::kCorrupt, "no JSON object");
  expect(status_of(file_of("{} x", 0)), Code::kCorrupt, "header");
  expect(status_of(file_of(std::string("{}\0x", 4), 0)), Code::kCorrupt, "a zero byte");
  Bytes cut = file_of(R"({"w":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 4);
  cut.pop_back();
  expect(status_of(cut), Code::kCorrupt, "the file has 3 bytes of data");
  cut.resize(20);
  expect(status_of(cut), Code::kCorrupt, "the header is said to take");
  expect(one(R"({"dtype":"U8","shape":[4],"data_offsets":[0,4]})", 5), Code::kCorrupt, "belong to no tensor");
  expect(one(R"({"dtype":"U8","shape":[4],"data_offsets":[1,5]})", 5), Code::kCorrupt, "begins at 1");
  expect(one(R"({"dtype":"U8","shape":[4],"data_offsets":[4,0]})", 4), Code::kCorrupt, "tensor w");
  expect(one(R"({"dtype":"U8","shape":[5],"data_offsets":[0,4]})", 4), Code::kCorrupt, "ask for 5");
  expect(one(R"({"dtype":"U8","shape":[-1],"data_offsets":[0,4]})", 4), Code::kCorrupt, "shape");
  expect(one(R"({"dtype":"U8","shape":[4611686018427387904,4],"data_offsets":[0,0]})", 0), Code::kCorrupt,
         "more than can be");
  expect(one(R"({"dtype":"F6","shape":[4],"data_offsets":[0,4]})", 4), Code::kUnsupported, "F6");
  expect(one(R"({"shape":[4],"data_offsets":[0,4]})", 4), Code::kCorrupt, "dtype");
  expect(one(R"({"dtype":"U8","data_offsets":[0,4]})", 4), Code::kCorrupt, "shape");
  expect(one(R"({"dtype":"U8","shape":[4],"data_offsets":[0,4,5]})", 4), Code::kCorrupt, "data_offsets");
  expect(one("7", 0), Code::kCorrupt, "tensor w");
  expect(status_of(file_of(R"({"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"w":{}})", 1)), Code::kCorrupt,
         "appears twice");
  expect(status_of(file_of(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
                           R"("b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
                           3)),
         Code::kCorrupt, "tensor b: its data begins at 1");
  expect(status_of(file_of(std::string(100000, '['), 0)), Code::kCorrupt, "nested too deeply");
}

SafetensorsWriter writer_of(const std::vector<std::string>& names) {
  SafetensorsWriter writer;
  for (size_t i = 0; i < names.size(); ++i) {
    EXPECT_TRUE(writer.add_tensor(names[i], "U8", {2, 5}, [i] { return Bytes(10, static_cast<uint8_t>(i)); }).ok());
  }
  writer.set_metadata("format", "pt");
  return writer;
}

TEST(Safetensors, WhatIsWrittenIsReadWholeOrInShards) {
  const Folder folder;
  const SafetensorsWriter writer = writer_of({"a", "b\"\xc3\xa9", "c", "d", "e"});
  for (const size_t limit : {size_t{50}, size_t{49}, size_t{20}, size_t{1}}) {
    double last = 0;
    ASSERT_TRUE(writer
                    .write_folder(folder.path(), limit,
                                  [&](double share) {
                                    EXPECT_GT(share, last);
                                    last = share;
                                  })
                    .ok());
    EXPECT_DOUBLE_EQ(last, 1);
    EXPECT_EQ(fs::exists(folder / "model.safetensors"), limit == 50) << limit;
    const auto file = SafetensorsFile::open(folder.path());
    ASSERT_TRUE(file.ok()) << file.status().message();
    EXPECT_EQ(file->tensors().size(), 5u);
    const SafetensorsTensor* b = file->find_tensor("b\"\xc3\xa9");
    ASSERT_NE(b, nullptr);
    EXPECT_EQ(b->data[9], 1);
    EXPECT_EQ(b->shape, (std::vector<int64_t>{2, 5}));
    EXPECT_EQ(file->metadata().at("format"), "pt");
    file->release(*b, 0, 10);
    fs::remove_all(folder.path());
    fs::create_directories(folder.path());
  }
  SafetensorsWriter wrong = writer_of({"a"});
  expect(wrong.add_tensor("a", "U8", {1}, {}), Code::kInvalidArgument, "of that name");
  expect(wrong.add_tensor("b", "U9", {1}, {}), Code::kInvalidArgument, "U9");
}

TEST(Safetensors, MissingShardsAndWrongIndexesAreNamed) {
  const Folder folder;
  expect(SafetensorsFile::open(folder.path()).status(), Code::kNotFound, "neither model.safetensors");
  ASSERT_TRUE(writer_of({"a", "b", "c"}).write_folder(folder.path(), 10).ok());
  const auto write_index = [&](const std::string& text) {
    auto file = AtomicFile::create(folder / "model.safetensors.index.json");
    ASSERT_TRUE(file.ok());
    ASSERT_TRUE(file->write({reinterpret_cast<const uint8_t*>(text.data()), text.size()}).ok());
    ASSERT_TRUE(file->commit().ok());
  };
  const std::string index = folder / "model.safetensors.index.json";
  for (const auto& [text, code, part] :
       {std::tuple{R"({"weight_map":{"a":"../a.safetensors"}})", Code::kCorrupt, "the name of a file"},
        {R"({"weight_map":{"a":"model-00009-of-00003.safetensors"}})", Code::kNotFound, "names a shard"},
        {R"({"weight_map":{"z":"model-00001-of-00003.safetensors"}})", Code::kNotFound, "tensor z"},
        {R"({"weight_map":{"b":"model-00001-of-00003.safetensors"}})", Code::kNotFound, "tensor b"},
        {R"({"weight_map":[]})", Code::kCorrupt, "weight_map"},
        {"{", Code::kCorrupt, "index.json"}}) {
    write_index(text);
    expect(SafetensorsFile::open(folder.path()).status(), code, part);
    expect(SafetensorsFile::open(index).status(), code, part);
  }
  fs::copy_file(folder / "model-00001-of-00003.safetensors", folder / "again.safetensors");
  write_index(R"({"weight_map":{"a":"model-00001-of-00003.safetensors","b":"again.safetensors"}})");
  expect(SafetensorsFile::open(index).status(), Code::kCorrupt, "two shards");
}

}  // namespace
}  // namespace decant
