// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "hub/listing.h"

#include <gtest/gtest.h>

namespace decant {
namespace {

std::vector<HubFile> listing(const std::vector<std::string>& paths) {
  std::vector<HubFile> files;
  for (const std::string& path : paths) files.push_back({.path = path, .size = 1000, .sha256 = {}, .git_blob = {}});
  return files;
}

// The paths chosen, joined by spaces; or "!" and the message.
std::string chosen(const std::vector<std::string>& paths, std::string_view file, std::string* entry = nullptr) {
  const auto choice = choose_files(listing(paths), file);
  if (!choice.ok()) return "!" + choice.status().message();
  std::string text;
  for (const HubFile& f : choice->files) text += (text.empty() ? "" : " ") + f.path;
  if (entry != nullptr) *entry = choice->entry;
  return text;
}

TEST(Listing, PagesAreRead) {
  const std::string sum(64, 'a'), blob(40, 'b');
  std::vector<HubFile> files;
  const std::string page = R"([{"type":"directory","path":"d","oid":"x","size":0},
      {"type":"file","path":"d/m.gguf","size":5000000000,"oid":"c","lfs":{"oid":")" +
                           sum + R"(","size":5000000000,"pointerSize":1}},
      {"type":"file","path":"config.json","size":7,"oid":")" +
                           blob + R"("}])";
  ASSERT_TRUE(parse_tree_page(page, &files).ok());
  ASSERT_EQ(files.size(), 2u);
  EXPECT_EQ(files[0].path, "d/m.gguf");
  EXPECT_EQ(files[0].size, 5000000000);
  EXPECT_EQ(files[0].sha256, sum);
  EXPECT_EQ(files[0].git_blob, "");
  EXPECT_EQ(files[1].sha256, "");
  EXPECT_EQ(files[1].git_blob, blob);
}

TEST(Listing, WrongPagesNameTheField) {
  const auto message = [](const std::string& json) {
    std::vector<HubFile> files;
    const Status status = parse_tree_page(json, &files);
    EXPECT_EQ(status.code(), Code::kCorrupt) << json;
    return status.message();
  };
  const auto has = [&](const std::string& json, const char* word) {
    EXPECT_NE(message(json).find(word), std::string::npos) << json << ": " << message(json);
  };
  has("", "JSON");
  has("[", "JSON");
  has("{}", "list");
  has("[1]", "type");
  has(R"([{"type":"file"}])", "path");
  has(R"([{"type":"file","path":7}])", "path");
  has(R"([{"type":"file","path":"a"}])", "size");
  has(R"([{"type":"file","path":"a","size":-1}])", "size");
  has(R"([{"type":"file","path":"a","size":1.5}])", "size");
  has(R"([{"type":"file","path":"a","size":18446744073709551615}])", "size");
  has(R"([{"type":"file","path":"../a","size":1}])", "../a");
  has(R"([{"type":"file","path":"/a","size":1}])", "/a");
  has(R"([{"type":"file","path":"a\\b","size":1}])", "backslash");
  has(R"([{"type":"file","path":"a\u0000b","size":1}])", "control");
  has(R"([{"type":"file","path":"a","size":1,"lfs":{"oid":"x"}}])", "lfs.oid");
  has(R"([{"type":"file","path":"a","size":1,"lfs":{"oid":")" + std::string(64, 'a') + R"(","size":2}}])", "lfs.size");
}

TEST(Listing, CommitsAreRead) {
  const std::string commit(40, 'c');
  EXPECT_EQ(*parse_commit(R"({"sha":")" + commit + R"(","id":"a/b"})"), commit);
  for (const char* json : {"", "[]", "{}", R"({"sha":1})", R"({"sha":"main"})", R"({"sha":"../../x"})"}) {
    EXPECT_EQ(parse_commit(json).status().code(), Code::kCorrupt) << json;
  }
}

TEST(Listing, TheNextPageIsTheQueryOfItsLink) {
  EXPECT_EQ(next_page_query(R"(<https://hub/api/x?recursive=true&cursor=Zm9v%3D>; rel="next")"),
            "recursive=true&cursor=Zm9v%3D");
  EXPECT_EQ(next_page_query(R"(<https://hub/a?p=1>; rel="prev", <https://hub/a?p=3>; rel="next")"), "p=3");
  EXPECT_EQ(next_page_query("<https://hub/a?p=3#x>; rel=next"), "p=3");
  for (const char* header : {"", "next", "<https://hub/a?p=1>; rel=\"prev\"", "<https://hub/a>; rel=\"next\"", "<",
                             "<a?b", "<https://hub/a?p=1 2>; rel=\"next\"", "<https://hub/a?p=\"1>; rel=\"next\""}) {
    EXPECT_EQ(next_page_query(header), "") << header;
  }
}

TEST(Listing, ShardIndexesAreRead) {
  EXPECT_EQ(*parse_shard_index(R"({"weight_map":{"a":"m-2.safetensors","b":"m-1.safetensors","c":"m-2.safetensors"}})"),
            (std::vector<std::string>{"m-1.safetensors", "m-2.safetensors"}));
  for (const char* json : {"", "[]", "{}", R"({"weight_map":[]})", R"({"weight_map":{}})", R"({"weight_map":{"a":1}})",
                           R"({"weight_map":{"a":"../m"}})"}) {
    EXPECT_EQ(parse_shard_index(json).status().code(), Code::kCorrupt) << json;
  }
}

TEST(Choice, AQuantizationIsAWordOfTheName) {
  const std::vector<std::string> files = {"m-Q4_K_M.gguf",    "m-IQ4_K_M.gguf",  "m.Q8_0.gguf", "m-Q4_K_S.gguf",
                                          "mmproj-Q8_0.gguf", "m-Q5_K_M_L.gguf", "README.md"};
  std::string entry;
  EXPECT_EQ(chosen(files, "q4_k_m", &entry), "m-Q4_K_M.gguf");
  EXPECT_EQ(entry, "m-Q4_K_M.gguf");
  EXPECT_EQ(chosen(files, "Q8_0"), "m.Q8_0.gguf");
  EXPECT_EQ(chosen(files, "m.Q8_0.gguf"), "m.Q8_0.gguf");
  EXPECT_EQ(chosen(files, "mmproj-Q8_0.gguf"), "mmproj-Q8_0.gguf");
  for (const char* wrong : {"Q4_K", "Q5_K_M", "Q4", "K_M", "other.gguf"}) {
    const std::string message = chosen(files, wrong);
    EXPECT_EQ(message[0], '!') << wrong;
    EXPECT_NE(message.find("m-Q4_K_S.gguf (1.0 kB)"), std::string::npos) << message;
  }
  EXPECT_NE(chosen({"a-Q8_0.gguf", "b-Q8_0.gguf"}, "Q8_0").find("b-Q8_0.gguf"), std::string::npos);
  EXPECT_EQ(chosen({"Q6_K/model.gguf", "Q8_0/model.gguf"}, "q6_k"), "Q6_K/model.gguf");
}

TEST(Choice, WithoutAFileTheBestIsTaken) {
  EXPECT_EQ(chosen({"a-Q8_0.gguf", "a-Q4_K_M.gguf", "a-Q2_K.gguf"}, ""), "a-Q4_K_M.gguf");
  EXPECT_EQ(chosen({"a-Q8_0.gguf", "a-Q2_K.gguf"}, ""), "a-Q8_0.gguf");
  EXPECT_EQ(chosen({"a-Q2_K.gguf", "mmproj.gguf"}, ""), "a-Q2_K.gguf");
  EXPECT_EQ(chosen({"a-Q2_K.gguf", "a-Q3_K.gguf"}, "")[0], '!');
  EXPECT_EQ(chosen({"README.md", "pytorch_model.bin"}, "")[0], '!');
  EXPECT_EQ(chosen({}, "")[0], '!');
}

TEST(Choice, PartsOfASplitFileBelongTogether) {
  const std::vector<std::string> files = {"d/m-Q8_0-00002-of-00003.gguf", "d/m-Q8_0-00001-of-00003.gguf",
                                          "d/m-Q8_0-00003-of-00003.gguf", "m-Q2_K.gguf"};
  std::string entry;
  const std::string all = "d/m-Q8_0-00001-of-00003.gguf d/m-Q8_0-00002-of-00003.gguf d/m-Q8_0-00003-of-00003.gguf";
  EXPECT_EQ(chosen(files, "q8_0", &entry), all);
  EXPECT_EQ(entry, "d/m-Q8_0-00001-of-00003.gguf");
  EXPECT_EQ(chosen(files, "d/m-Q8_0-00002-of-00003.gguf"), all);
  EXPECT_EQ(chosen(files, ""), all);
  EXPECT_NE(chosen({"m-00001-of-00002.gguf"}, "").find("m-00002-of-00002.gguf is missing"), std::string::npos);
}

TEST(Choice, SafetensorsComeWithConfigurationAndTokenizer) {
  const std::vector<std::string> files = {"README.md",         "config.json",     "tokenizer.json",
                                          "model.safetensors", "onnx/model.onnx", "original/consolidated.pth",
                                          "x-Q4_K_M.gguf",     "vocab.json",      "merges.txt"};
  std::string entry = "x";
  EXPECT_EQ(chosen(files, "", &entry), "config.json tokenizer.json vocab.json merges.txt model.safetensors");
  EXPECT_EQ(entry, "");  // the folder
  const auto sharded =
      choose_files(listing({"config.json", "model.safetensors.index.json", "model-1.safetensors"}), "");
  ASSERT_TRUE(sharded.ok());
  EXPECT_EQ(sharded->index, "model.safetensors.index.json");
  EXPECT_EQ(sharded->files.size(), 2u);
  EXPECT_EQ(chosen({"sub/config.json", "sub/model.safetensors", "config.json"}, "sub/model.safetensors", &entry),
            "sub/config.json sub/model.safetensors");
  EXPECT_EQ(entry, "sub");
}

TEST(ContentRange, IsReadOrRefused) {
  const auto range = parse_content_range("bytes 10-19/20");
  ASSERT_TRUE(range.ok());
  EXPECT_EQ(range->first, 10);
  EXPECT_EQ(range->last, 19);
  EXPECT_EQ(range->total, 20);
  EXPECT_EQ(parse_content_range("Bytes 0-0/*")->total, -1);
  for (const char* header :
       {"", "bytes", "bytes ", "bytes 1-2", "bytes 1-2/", "bytes 2-1/5", "bytes 0-5/5", "bytes -1-2/5", "bytes 0-1/2x",
        "bytes */5", "items 0-1/2", "bytes 0-99999999999999999999/2"}) {
    EXPECT_FALSE(parse_content_range(header).ok()) << header;
  }
}

}  // namespace
}  // namespace decant
