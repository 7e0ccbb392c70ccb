// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Small tokenizer.json files: the tokens are those that Hugging Face's tokenizers 0.23.3 gives for the same files.
// Whole vocabularies are compared by bench/peers/hf_tokenize_parity.py.
#include "formats/hf_tokenizer.h"

#include <gtest/gtest.h>

#include "formats/gguf.h"
#include "text/tokenizer.h"

namespace decant {
namespace {

struct Golden {
  std::string_view text;
  std::vector<TokenId> tokens;
};

std::shared_ptr<const Tokenizer> tokenizer_of(const std::string& json) {
  GgufWriter writer;
  const Status status = parse_hf_tokenizer({.tokenizer = json}, "folder", 0, &writer);
  EXPECT_TRUE(status.ok()) << status.message();
  const std::vector<uint8_t> bytes = writer.serialize();
  const auto file = GgufFile::parse(bytes, "folder");
  EXPECT_TRUE(file.ok());
  const auto tokenizer = Tokenizer::from_gguf(*file);
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  return tokenizer.ok() ? *tokenizer : nullptr;
}

void expect_tokens(const Tokenizer& tokenizer, const std::vector<Golden>& goldens) {
  for (const Golden& g : goldens) {
    const auto tokens = tokenizer.encode(g.text, {.parse_special = true});
    ASSERT_TRUE(tokens.ok());
    EXPECT_EQ(*tokens, g.tokens) << g.text;
  }
}

std::string added(int id, const std::string& content, const std::string& flags, bool special) {
  return "{\"id\":" + std::to_string(id) + ",\"content\":\"" + content + "\"," + flags +
         "\"special\":" + (special ? "true}" : "false}");
}

TEST(HfTokenizerTokens, ByteLevelWithNfcAndAddedTokens) {
  const std::string pattern =
      R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+)";
  const auto tokenizer = tokenizer_of(
      R"({"added_tokens":[)" + added(24, "<|x|>", R"("lstrip":true,"rstrip":true,)", true) + "," +
      added(25, "ab_", R"("single_word":true,)", false) + "," + added(26, "ab_c", "", false) + "," +
      added(27, "_cd", "", false) +
      R"(],"normalizer":{"type":"NFC"},"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":")" +
      pattern +
      R"("},"behavior":"Isolated","invert":false},{"type":"ByteLevel","add_prefix_space":false,"use_regex":false}]},)"
      R"("model":{"type":"BPE","vocab":{"a":0,"b":1,"c":2,"d":3,"e":4,"\u00e9":5,"\u00c3":6,"\u00a9":7,"\u00cc":8,"\u0120":9,)"
      R"("\u010a":10,"<":11,"|":12,">":13,"x":14,"_":15,"1":16,"2":17,"\u0123":18,"ab":19,"abc":20,"\u0120a":21,"\u0120ab":22,)"
      R"("\u00c3\u00a9":23},"merges":["a b","ab c","\u0120 a","\u0120a b","\u00c3 \u00a9"]}})");
  ASSERT_NE(tokenizer, nullptr);
  expect_tokens(*tokenizer, {
                                {"abc ab", {20, 9, 19}},  // merges by rank, not by length
                                {"e\xCC\x81"
                                 "abc \xC3\xA9",
                                 {23, 20, 9, 23}},  // composed
                                {"a <|x|>  b", {0, 24, 1}},
                                {"ab_ xab_ ab_c", {25, 9, 14, 19, 15, 9, 26}},  // whole words; the longest
                                {"ab_cd _cd", {26, 3, 9, 27}},                  // from the left
                                {"12 a\n\nb", {16, 17, 21, 10, 10, 1}},
                                {"\xC3\xB2"
                                 "ab",
                                 {6, 19}},  // a byte without a token
                            });
}

std::string sentence_piece(const std::string& steps) {
  std::string vocab = R"("<unk>":0,"<s>":1)";
  for (int b = 0; b < 256; ++b) vocab += fmt::format(",\"<0x{:02X}>\":{}", b, b + 2);
  return R"({"added_tokens":[)" + added(0, "<unk>", "", true) + "," + added(1, "<s>", "", true) + "," +
         added(267, "<t>", R"("rstrip":true,)", true) + "]," + steps +
         R"(,"post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>","type_id":0}},)"
         R"({"Sequence":{"id":"A","type_id":0}}]},"model":{"type":"BPE","unk_token":"<unk>","byte_fallback":true,"vocab":{)" +
         vocab +
         R"(,"\u2581":258,"a":259,"b":260,"c":261,"ab":262,"\u2581a":263,"\u2581ab":264,"\u2581\u2581":265,"bc":266},)"
         R"("merges":[["b","c"],["\u2581","a"],["a","b"],["\u2581a","b"],["\u2581","ab"],["\u2581","\u2581"]]}})";
}

std::string metaspace(const std::string& scheme) {
  return R"("pre_tokenizer":{"type":"Metaspace","replacement":"\u2581","split":false,"prepend_scheme":")" + scheme +
         "\"}";
}

TEST(HfTokenizerTokens, SentencePieceWithEveryKindOfPrefix) {
  const auto prepend = tokenizer_of(
      sentence_piece(R"("normalizer":{"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"\u2581"},)"
                     R"({"type":"Replace","pattern":{"String":" "},"content":"\u2581"}]})"));
  ASSERT_NE(prepend, nullptr);
  expect_tokens(*prepend, {{"abc", {1, 263, 266}},
                           {" abc", {1, 258, 263, 266}},
                           {"  a", {1, 265, 263}},
                           {"a <t>  b<s>bc", {1, 263, 258, 267, 258, 260, 1, 258, 266}},
                           {"", {1}},
                           {"\xC3\xA9 a", {1, 258, 197, 171, 263}},
                           {"<t>a", {1, 267, 263}}});
  const auto always = tokenizer_of(sentence_piece(metaspace("always")));
  ASSERT_NE(always, nullptr);
  expect_tokens(*always, {{"abc", {1, 263, 266}},
                          {" abc", {1, 263, 266}},
                          {"  a", {1, 258, 263}},
                          {"a <t>  b<s>bc", {1, 263, 258, 267, 258, 260, 1, 258, 266}},
                          {"<t>a", {1, 267, 263}}});
  const auto first = tokenizer_of(sentence_piece(metaspace("first")));
  ASSERT_NE(first, nullptr);
  expect_tokens(*first, {{"abc", {1, 263, 266}},
                         {" abc", {1, 263, 266}},
                         {"  a", {1, 258, 263}},
                         {"a <t>  b<s>bc", {1, 263, 258, 267, 260, 1, 266}},
                         {"\xC3\xA9 a", {1, 258, 197, 171, 263}},
                         {"<t>a", {1, 267, 259}}});
  const auto never = tokenizer_of(sentence_piece(metaspace("never")));
  ASSERT_NE(never, nullptr);
  expect_tokens(*never, {{"abc", {1, 259, 266}},
                         {" abc", {1, 263, 266}},
                         {"a <t>  b<s>bc", {1, 259, 258, 267, 260, 1, 266}},
                         {"\xC3\xA9 a", {1, 197, 171, 263}}});
}

}  // namespace
}  // namespace decant
