// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// What the keys say for each construct of a tokenizer.json; that the tokens are those of the tokenizers library is
// checked with whole vocabularies by bench/peers/hf_tokenize_parity.py, and by text/hf_tokenizer_test.cc for small
// ones.
#include "formats/hf_tokenizer.h"

#include <gtest/gtest.h>

#include "formats/gguf.h"

namespace decant {
namespace {

struct Made {
  Status status;
  std::vector<uint8_t> bytes;
  GgufFile file() const { return std::move(GgufFile::parse(bytes, "made")).value(); }
};

Made make(const HfTokenizerFiles& files, int64_t rows = 0) {
  GgufWriter writer;
  Made made{parse_hf_tokenizer(files, "folder", rows, &writer), {}};
  made.bytes = writer.serialize();
  return made;
}

std::string byte_level(const std::string& pre, const std::string& more = "") {
  return R"({"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2,"<|x|>":3},"merges":["a b"]},)"
         R"("added_tokens":[{"id":3,"content":"<|x|>","special":true,"rstrip":true},{"id":4,"content":"<t>","special":false}],)"
         R"("pre_tokenizer":)" +
         pre + more + "}";
}

const char* const kByteLevel = R"({"type":"ByteLevel","add_prefix_space":false,"use_regex":true})";

void expect(const Status& status, Code code, const std::string& part) {
  EXPECT_EQ(status.code(), code) << status.message();
  EXPECT_NE(status.message().find(part), std::string::npos) << status.message();
  EXPECT_EQ(status.message().rfind("folder", 0), 0u) << status.message();
}

TEST(HfTokenizer, ByteLevelBpeBecomesGpt2WithKindsFlagsAndUnusedRows) {
  const Made made = make({.tokenizer = byte_level(kByteLevel), .config = R"({"eos_token_id":[3,4]})"}, 7);
  ASSERT_TRUE(made.status.ok()) << made.status.message();
  const GgufFile file = made.file();
  EXPECT_EQ(*file.require_string("tokenizer.ggml.model"), "gpt2");
  EXPECT_EQ(*file.require_string("tokenizer.ggml.pre"), "gpt-2");
  const auto kinds = std::get<std::vector<int64_t>>((*file.get_array("tokenizer.ggml.token_type"))->values);
  EXPECT_EQ(kinds, (std::vector<int64_t>{1, 1, 1, 3, 4, 5, 5}));
  const auto tokens = std::get<std::vector<std::string_view>>((*file.get_array("tokenizer.ggml.tokens"))->values);
  EXPECT_EQ(tokens[6], "[PAD6]");
  EXPECT_EQ(std::get<std::vector<int64_t>>((*file.get_array("decant.tokenizer.token_flags"))->values),
            (std::vector<int64_t>{3, 2}));
  EXPECT_EQ(std::get<std::vector<int64_t>>((*file.get_array("decant.tokenizer.eos_token_ids"))->values),
            (std::vector<int64_t>{3, 4}));
  EXPECT_EQ(*file.require_uint("tokenizer.ggml.eos_token_id"), 3u);
  EXPECT_EQ(file.find("decant.tokenizer.normalizer"), nullptr);

  // An added token beyond the embedding has no row.
  const Made fewer = make({.tokenizer = byte_level(kByteLevel)}, 4);
  ASSERT_TRUE(fewer.status.ok()) << fewer.status.message();
  EXPECT_EQ((*fewer.file().get_array("tokenizer.ggml.tokens"))->size(), 4u);
}

TEST(HfTokenizer, PreTokenizersAreKnownByTheirPatterns) {
  const auto split = [](const std::string& pattern) {
    return R"({"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":")" + pattern +
           R"("},"behavior":"Isolated","invert":false},{"type":"ByteLevel","add_prefix_space":false,"use_regex":false}]})";
  };
  const std::string qwen =
      R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+)";
  const Made made = make({.tokenizer = byte_level(split(qwen), R"(,"normalizer":{"type":"NFC"})")});
  ASSERT_TRUE(made.status.ok()) << made.status.message();
  EXPECT_EQ(*made.file().require_string("tokenizer.ggml.pre"), "qwen2");
  EXPECT_EQ(*made.file().require_string("decant.tokenizer.normalizer"), "nfc");
  const Made digits = make(
      {.tokenizer = byte_level(R"({"type":"Sequence","pretokenizers":[{"type":"Digits","individual_digits":true},)" +
                               std::string(kByteLevel) + "]}")});
  ASSERT_TRUE(digits.status.ok()) << digits.status.message();
  EXPECT_EQ(*digits.file().require_string("tokenizer.ggml.pre"), "smollm");

  // What is written for a name is read as that name.
  for (const std::string pre : {"gpt-2", "llama-bpe", "qwen2", "gpt-4o", "tekken"}) {
    std::string escaped;
    for (const char c : hf_split_pattern(pre)) escaped.append(c == '\\' ? "\\\\" : std::string(1, c));
    const Made again = make({.tokenizer = byte_level(split(escaped))});
    ASSERT_TRUE(again.status.ok()) << again.status.message();
    EXPECT_EQ(*again.file().require_string("tokenizer.ggml.pre"), pre == "llama-bpe" ? "smaug-bpe" : pre);
  }
  EXPECT_EQ(hf_split_pattern("command-r"), "");
  std::string removed = split(qwen);
  removed.replace(removed.find("\"Isolated\",\"invert\":false"), 25, "\"Removed\",\"invert\":true");
  EXPECT_TRUE(make({.tokenizer = byte_level(removed)}).status.ok());
  removed.replace(removed.find("true}"), 4, "false");
  expect(make({.tokenizer = byte_level(removed)}).status, Code::kUnsupported, "Removed");

  expect(make({.tokenizer = byte_level(split("[a-z]+"))}).status, Code::kUnsupported, "[a-z]+");
  expect(make({.tokenizer = byte_level(R"({"type":"Whitespace"})")}).status, Code::kUnsupported, "Whitespace");
  expect(make({.tokenizer = byte_level(R"({"type":"ByteLevel"})")}).status, Code::kUnsupported, "ByteLevel");
  expect(make({.tokenizer = byte_level("null")}).status, Code::kUnsupported, "pre_tokenizer");
  expect(make({.tokenizer = byte_level(kByteLevel, R"(,"normalizer":{"type":"Lowercase"})")}).status,
         Code::kUnsupported, "Lowercase");
}

std::string sentence_piece(const std::string& steps) {
  return R"({"model":{"type":"BPE","byte_fallback":true,"unk_token":"<unk>","vocab":{"<unk>":0,"<0x0A>":1,"a":2,"b":3,"ab":4},)"
         R"("merges":[["a","b"]]},"added_tokens":[{"id":0,"content":"<unk>","special":true}],)" +
         steps + "}";
}

TEST(HfTokenizer, SentencePieceVocabulariesKeepTheirMergesAndSpaces) {
  const std::string replace = "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"\xE2\x96\x81\"}";
  const std::string prepend = "{\"type\":\"Prepend\",\"prepend\":\"\xE2\x96\x81\"}";
  const auto metaspace = [](const std::string& scheme) {
    return "\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"\xE2\x96\x81\",\"split\":false,\"prepend_"
           "scheme\":\"" +
           scheme + "\"}";
  };
  const auto prefix_of = [](const Made& made) {
    const GgufFile file = made.file();
    const auto prefix = *file.get_string("decant.tokenizer.space_prefix");
    return std::string(prefix.value_or("none"));
  };
  const Made legacy = make({.tokenizer = sentence_piece(R"("normalizer":{"type":"Sequence","normalizers":[)" + prepend +
                                                        "," + replace + "]}")});
  ASSERT_TRUE(legacy.status.ok()) << legacy.status.message();
  EXPECT_EQ(prefix_of(legacy), "each");
  const GgufFile file = legacy.file();
  EXPECT_EQ(*file.require_string("tokenizer.ggml.model"), "llama");
  EXPECT_EQ(std::get<std::vector<int64_t>>((*file.get_array("tokenizer.ggml.token_type"))->values),
            (std::vector<int64_t>{2, 6, 1, 1, 1}));
  EXPECT_EQ(std::get<std::vector<int64_t>>((*file.get_array("decant.tokenizer.merge_pairs"))->values),
            (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(prefix_of(make({.tokenizer = sentence_piece(metaspace("first"))})), "first_without");
  EXPECT_EQ(prefix_of(make({.tokenizer = sentence_piece(metaspace("always"))})), "each_without");
  EXPECT_EQ(prefix_of(make({.tokenizer = sentence_piece(metaspace("never"))})), "none");
  EXPECT_EQ(prefix_of(make({.tokenizer = sentence_piece("\"normalizer\":" + replace)})), "none");
  expect(make({.tokenizer = sentence_piece("\"normalizer\":null")}).status, Code::kUnsupported, "U+2581");
}

TEST(HfTokenizer, TemplatesAndSpecialTokensAreFound) {
  const std::string post =
      R"(,"post_processor":{"type":"Sequence","processors":[{"type":"ByteLevel"},{"type":"TemplateProcessing",)"
      R"("single":[{"SpecialToken":{"id":"<|x|>","type_id":0}},{"Sequence":{"id":"A","type_id":0}}]}]})";
  const Made made = make(
      {.tokenizer = byte_level(kByteLevel, post),
       .tokenizer_config =
           R"({"eos_token":{"content":"<t>"},"chat_template":[{"name":"default","template":"D"},{"name":"tool_use","template":"T"}]})"});
  ASSERT_TRUE(made.status.ok()) << made.status.message();
  const GgufFile file = made.file();
  EXPECT_EQ(*file.require_uint("tokenizer.ggml.bos_token_id"), 3u);
  EXPECT_EQ(*file.require_uint("tokenizer.ggml.eos_token_id"), 4u);
  EXPECT_TRUE(*file.get_bool("tokenizer.ggml.add_bos_token"));
  EXPECT_EQ(*file.require_string("tokenizer.chat_template"), "D");
  EXPECT_EQ(*file.require_string("tokenizer.chat_template.tool_use"), "T");
  EXPECT_EQ(*make({.tokenizer = byte_level(kByteLevel), .chat_template = "J"})
                 .file()
                 .require_string("tokenizer.chat_template"),
            "J");
}

TEST(HfTokenizer, VocabAndMergesFilesAreGpt2) {
  const Made made = make({.vocab = R"({"a":0,"b":1,"ab":2,"</s>":3})",
                          .merges = "#version: 0.2\r\na b\r\n",
                          .special_tokens_map = R"({"bos_token":"</s>","eos_token":{"content":"</s>"}})",
                          .config = R"({"model_type":"opt"})"});
  ASSERT_TRUE(made.status.ok()) << made.status.message();
  const GgufFile file = made.file();
  EXPECT_TRUE(*file.get_bool("tokenizer.ggml.add_bos_token"));
  EXPECT_EQ(*file.require_uint("tokenizer.ggml.bos_token_id"), 3u);
  EXPECT_EQ(std::get<std::vector<int64_t>>((*file.get_array("tokenizer.ggml.token_type"))->values).back(), 3);
  expect(make({.vocab = R"({"a":0})", .merges = "a b\n"}).status, Code::kCorrupt, "merges.txt: line 1");
}

TEST(HfTokenizer, ContradictionsAreRefusedByField) {
  const auto model = [](const std::string& fields) {
    return make({.tokenizer = R"({"model":{"type":"BPE",)" + fields + R"(},"pre_tokenizer":)" + kByteLevel + "}"})
        .status;
  };
  expect(make({.tokenizer = "{"}).status, Code::kCorrupt, "tokenizer.json: no JSON");
  expect(make({.tokenizer = "[1]"}).status, Code::kCorrupt, "tokenizer.json: no JSON object");
  expect(make({.tokenizer = std::string("{}\0", 3)}).status, Code::kCorrupt, "zero byte");
  expect(make({.tokenizer = std::string(1000, '[')}).status, Code::kCorrupt, "nested too deeply");
  expect(make({.tokenizer = R"({"model":{"type":"WordPiece"}})"}).status, Code::kUnsupported, "WordPiece");
  expect(make({.tokenizer = R"({"model":{"type":"Unigram"}})"}).status, Code::kUnsupported, "Unigram");
  expect(model(R"("merges":[])"), Code::kCorrupt, "model.vocab");
  expect(model(R"("vocab":{"a":-1},"merges":[])"), Code::kCorrupt, "expected an id");
  expect(model(R"("vocab":{"a":99999999999},"merges":[])"), Code::kCorrupt, "expected an id");
  expect(model(R"("vocab":{"a":0,"b":0},"merges":[])"), Code::kCorrupt, "id 0");
  expect(model(R"("vocab":{"a":0},"merges":["a c"])"), Code::kCorrupt, "not in the vocabulary");
  expect(model(R"("vocab":{"a":0},"merges":["a"])"), Code::kCorrupt, "merges[0]");
  expect(model(R"("vocab":{"a":0},"merges":[7])"), Code::kCorrupt, "merges[0]");
  expect(model(R"("vocab":{"a":0})"), Code::kCorrupt, "merges");
  expect(make({.tokenizer = byte_level(kByteLevel)}, 3).status, Code::kCorrupt, "3 embeddings");
  expect(make({.tokenizer = byte_level(kByteLevel), .tokenizer_config = "7"}).status, Code::kCorrupt,
         "tokenizer_config.json");
}

}  // namespace
}  // namespace decant
