// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "text/pre_tokenizer.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "text/unicode.h"

namespace decant {
namespace {

using Words = std::vector<std::string>;

Words split(std::string_view pre, std::string_view text) {
  const PreTokenizer* found = find_pre_tokenizer(pre);
  EXPECT_NE(found, nullptr) << pre;
  Words words;
  if (found != nullptr) split_words(found->rule, text, [&](std::string_view word) { words.emplace_back(word); });
  return words;
}

// --- GPT-2 -----------------------------------------------------------------------------------------------------------

TEST(Gpt2Words, ContractionsStandAlone) {
  EXPECT_EQ(split("gpt-2", "it's I'll we've you're I'd can't I'm"),
            (Words{"it", "'s", " I", "'ll", " we", "'ve", " you", "'re", " I", "'d", " can", "'t", " I", "'m"}));
  EXPECT_EQ(split("gpt-2", "IT'S"), (Words{"IT", "'", "S"})) << "lower case only";
  EXPECT_EQ(split("gpt-2", "'x"), (Words{"'", "x"}));
  EXPECT_EQ(split("gpt-2", "'sun"), (Words{"'s", "un"}));
  EXPECT_EQ(split("gpt-2", "'rx 'l"), (Words{"'", "rx", " '", "l"}));
  EXPECT_EQ(split("gpt-2", " 's"), (Words{" '", "s"})) << "the space takes the apostrophe first";
  EXPECT_EQ(split("gpt-2", "''s"), (Words{"''", "s"})) << "so does another apostrophe";
  EXPECT_EQ(split("gpt-2", "'"), (Words{"'"}));
}

TEST(Gpt2Words, OneSpaceLeadsAWord) {
  EXPECT_EQ(split("gpt-2", "a b"), (Words{"a", " b"}));
  EXPECT_EQ(split("gpt-2", " a"), (Words{" a"}));
  EXPECT_EQ(split("gpt-2", "  a"), (Words{" ", " a"}));
  EXPECT_EQ(split("gpt-2", "    a"), (Words{"   ", " a"}));
  EXPECT_EQ(split("gpt-2", "a   "), (Words{"a", "   "}));
  EXPECT_EQ(split("gpt-2", " "), (Words{" "}));
  EXPECT_EQ(split("gpt-2", " !? 12"), (Words{" !?", " 12"}));
  EXPECT_EQ(split("gpt-2", "a\tb"), (Words{"a", "\t", "b"})) << "only U+0020 leads";
  EXPECT_EQ(split("gpt-2", "a\u00A0b"), (Words{"a", "\u00A0", "b"}));
  EXPECT_EQ(split("gpt-2", "\t b"), (Words{"\t", " b"}));
  EXPECT_EQ(split("gpt-2", " \tb"), (Words{" ", "\t", "b"}));
}

TEST(Gpt2Words, NewlinesAreWhiteSpace) {
  EXPECT_EQ(split("gpt-2", "a\nb"), (Words{"a", "\n", "b"}));
  EXPECT_EQ(split("gpt-2", "a\n\nb"), (Words{"a", "\n", "\n", "b"}));
  EXPECT_EQ(split("gpt-2", "a\n\n\n b"), (Words{"a", "\n\n\n", " b"}));
  EXPECT_EQ(split("gpt-2", "a \n b"), (Words{"a", " \n", " b"}));
  EXPECT_EQ(split("gpt-2", "a\r\n"), (Words{"a", "\r\n"}));
}

TEST(Gpt2Words, ClassesOfCharactersDoNotMix) {
  EXPECT_EQ(split("gpt-2", "abc123!?x"), (Words{"abc", "123", "!?", "x"}));
  EXPECT_EQ(split("gpt-2", "日本語123"), (Words{"日本語", "123"}));
  EXPECT_EQ(split("gpt-2", " مرحبا ٣٤"), (Words{" مرحبا", " ٣٤"}));
  EXPECT_EQ(split("gpt-2", "e\u0301a"), (Words{"e", "\u0301", "a"})) << "a mark is no letter";
  EXPECT_EQ(split("gpt-2", "👩‍👩‍👧 x"), (Words{"👩‍👩‍👧", " x"}));
  EXPECT_EQ(split("gpt-2", "1½Ⅷ"), (Words{"1½Ⅷ"}));
}

TEST(Gpt2Words, InvalidBytesAreOtherCharacters) {
  EXPECT_EQ(split("gpt-2", "a\xFF\xC3!b"), (Words{"a", "\xFF\xC3!", "b"}));
  EXPECT_EQ(split("gpt-2", "\xE2\x96"), (Words{"\xE2\x96"}));
}

// --- SmolLM ----------------------------------------------------------------------------------------------------------

TEST(SmolLmWords, DigitsStandAlone) {
  EXPECT_EQ(split("smollm", "123"), (Words{"1", "2", "3"}));
  EXPECT_EQ(split("smollm", "in 2024, x1y"), (Words{"in", " ", "2", "0", "2", "4", ",", " x", "1", "y"}));
  EXPECT_EQ(split("smollm", "a  1"), (Words{"a", "  ", "1"})) << "what lies between digits is split on its own";
  EXPECT_EQ(split("smollm", "½٣"), (Words{"½", "٣"}));
  EXPECT_EQ(split("smollm", "3.14"), (Words{"3", ".", "1", "4"}));
}

TEST(SmolLmWords, TheRestIsLikeGpt2) {
  EXPECT_EQ(split("smollm", "it's"), (Words{"it", "'s"}));
  EXPECT_EQ(split("smollm", "  a"), (Words{" ", " a"}));
  EXPECT_EQ(split("smollm", "a\n\nb"), (Words{"a", "\n", "\n", "b"}));
  EXPECT_EQ(split("smollm", "x 's 1's"), (Words{"x", " '", "s", " ", "1", "'s"}));
  EXPECT_EQ(split("smollm", ""), Words{});
}

// --- Llama 3 and Qwen 2 ----------------------------------------------------------------------------------------------

TEST(Llama3Words, DigitsGoInThrees) {
  EXPECT_EQ(split("llama-bpe", "1234567"), (Words{"123", "456", "7"}));
  EXPECT_EQ(split("qwen2", "123"), (Words{"1", "2", "3"}));
  EXPECT_EQ(split("llama-bpe", "x 12"), (Words{"x", " ", "12"}));
}

TEST(Llama3Words, ContractionsOfAnyCase) {
  EXPECT_EQ(split("llama-bpe", "IT'S it'll"), (Words{"IT", "'S", " it", "'ll"}));
  EXPECT_EQ(split("llama-bpe", "'x"), (Words{"'x"})) << "any other character may lead a word";
}

TEST(Llama3Words, OneOtherCharacterLeadsAWord) {
  EXPECT_EQ(split("llama-bpe", "(a) \tb"), (Words{"(a", ")", " ", "\tb"}));
  EXPECT_EQ(split("llama-bpe", "\na"), (Words{"\n", "a"}));
  EXPECT_EQ(split("llama-bpe", "((a"), (Words{"((", "a"}));
}

TEST(Llama3Words, LineEndsStayWithWhatPrecedes) {
  EXPECT_EQ(split("llama-bpe", "x!\n\ny"), (Words{"x", "!\n\n", "y"}));
  EXPECT_EQ(split("llama-bpe", "x  \n\n  y"), (Words{"x", "  \n\n", " ", " y"}));
  EXPECT_EQ(split("llama-bpe", "x\n  "), (Words{"x", "\n", "  "}));
}

// --- o200k and Tekken ------------------------------------------------------------------------------------------------

TEST(CasedWords, EndWhereLowerCaseEnds) {
  EXPECT_EQ(split("gpt-4o", "camelCase HTMLParser XML"), (Words{"camel", "Case", " HTMLParser", " XML"}));
  EXPECT_EQ(split("gpt-4o", "aB1Bc"), (Words{"a", "B", "1", "Bc"}));
  EXPECT_EQ(split("tekken", "日本Abc日A"), (Words{"日本Abc日", "A"})) << "letters without case stand on both sides";
  EXPECT_EQ(split("tekken", "A日B"), (Words{"A日", "B"}))
      << "the second half goes back to the last letter without case";
  EXPECT_EQ(split("tekken", "e\u0301a E\u0301A"), (Words{"e\u0301a", " E\u0301", "A"})) << "marks belong to words";
}

TEST(CasedWords, AMarkMayLeadOrBegin) {
  EXPECT_EQ(split("tekken", "\u0301ab"), (Words{"\u0301ab"}));
  EXPECT_EQ(split("tekken", "\u0301AB"), (Words{"\u0301", "AB"}))
      << "a word with lower case is tried without a lead first";
  EXPECT_EQ(split("tekken", "\u0301"), (Words{"\u0301"}));
  EXPECT_EQ(split("tekken", "!\u0301"), (Words{"!\u0301"}));
  EXPECT_EQ(split("tekken", "!!\u0301a"), (Words{"!!\u0301", "a"}));
}

TEST(CasedWords, ContractionsStayWithTheirWord) {
  EXPECT_EQ(split("gpt-4o", "it's I'LL 's 'sun"), (Words{"it's", " I'LL", " '", "s", " '", "sun"}));
  EXPECT_EQ(split("tekken", "it's"), (Words{"it", "'s"}));
  EXPECT_EQ(split("gpt-4o", "12's"), (Words{"12", "'s"}));
}

TEST(CasedWords, TheRestIsLikeLlama3WithSlashes) {
  EXPECT_EQ(split("gpt-4o", "1234567"), (Words{"123", "456", "7"}));
  EXPECT_EQ(split("tekken", "123"), (Words{"1", "2", "3"}));
  EXPECT_EQ(split("gpt-4o", "x;\n/\n/y"), (Words{"x", ";\n/\n/", "y"}));
  EXPECT_EQ(split("gpt-4o", "x  \n\n  y"), (Words{"x", "  \n\n", " ", " y"}));
}

TEST(PreTokenizers, CoverEveryText) {
  std::mt19937 random(1);
  const std::vector<std::string> parts = {" ",
                                          "\n",
                                          "\r",
                                          "\t",
                                          "a",
                                          "Z",
                                          "'",
                                          "s",
                                          "'ll",
                                          "1",
                                          "٣",
                                          "日",
                                          "!",
                                          "e\u0301",
                                          "\xFF",
                                          "\xE2\x96",
                                          "\u00A0",
                                          "👩‍👧",
                                          std::string(1, 0)};
  for (const SplitRule rule : {SplitRule::kGpt2, SplitRule::kDigits, SplitRule::kLlama3, SplitRule::kQwen2,
                               SplitRule::kO200k, SplitRule::kTekken}) {
    for (int i = 0; i < 2000; ++i) {
      std::string text;
      for (size_t n = random() % 12; n > 0; --n) text += parts[random() % parts.size()];
      std::string joined;
      split_words(rule, text, [&](std::string_view word) {
        EXPECT_FALSE(word.empty());
        joined += word;
      });
      ASSERT_EQ(joined, text);
    }
  }
}

TEST(PreTokenizers, AreFoundByName) {
  EXPECT_EQ(find_pre_tokenizer("smollm")->rule, SplitRule::kDigits);
  EXPECT_EQ(find_pre_tokenizer("gpt-2")->rule, SplitRule::kGpt2);
  EXPECT_EQ(find_pre_tokenizer("stablelm2")->rule, SplitRule::kQwen2);
  EXPECT_EQ(find_pre_tokenizer(""), nullptr);
  EXPECT_EQ(find_pre_tokenizer("smollm2"), nullptr);
  EXPECT_NE(pre_tokenizer_names().find("gpt-2, "), std::string_view::npos);
}

// --- Unicode ---------------------------------------------------------------------------------------------------------

TEST(Unicode, ClassesOfCharacters) {
  for (const uint32_t c : {uint32_t{'a'}, 0xAAu, 0xE9u, 0x3B1u, 0x5D0u, 0x627u, 0x4E00u, 0xAC00u, 0x1D518u, 0x2F800u}) {
    EXPECT_EQ(char_class(c), CharClass::kLetter) << std::hex << c;
  }
  for (const uint32_t c : {uint32_t{'0'}, 0xBDu, 0x663u, 0x2167u, 0xFF15u, 0x1D7CEu}) {
    EXPECT_EQ(char_class(c), CharClass::kNumber) << std::hex << c;
  }
  for (const uint32_t c : {0x9u, 0xAu, 0xDu, 0x20u, 0x85u, 0xA0u, 0x1680u, 0x200Au, 0x2028u, 0x3000u}) {
    EXPECT_EQ(char_class(c), CharClass::kSpace) << std::hex << c;
  }
  for (const uint32_t c : {0x0u, 0x1Fu, uint32_t{'!'}, uint32_t{'_'}, 0x7Fu, 0x301u, 0x200Bu, 0x200Du, 0xFEFFu, 0xD800u,
                           0x1F642u, 0x10FFFFu, 0x110000u, UINT32_MAX}) {
    EXPECT_EQ(char_class(c), CharClass::kOther) << std::hex << c;
  }
}

TEST(Unicode, CasesOfLettersAndMarks) {
  EXPECT_EQ(letter_case('A'), LetterCase::kUpper);
  EXPECT_EQ(letter_case(0x1C5), LetterCase::kUpper) << "title case";
  EXPECT_EQ(letter_case('z'), LetterCase::kLower);
  for (const uint32_t c : {0xAAu, 0x2B0u, 0x5D0u, 0x4E00u, 0x301u, 0x903u}) {
    EXPECT_EQ(letter_case(c), LetterCase::kBoth) << std::hex << c;
  }
  for (const uint32_t c : {uint32_t{'1'}, uint32_t{' '}, uint32_t{'_'}, 0x2167u, 0x110000u}) {
    EXPECT_EQ(letter_case(c), LetterCase::kNone) << std::hex << c;
  }
}

TEST(Unicode, EveryCodePointIsReadBack) {
  for (uint32_t code = 0; code <= 0x10FFFF; ++code) {
    std::string text;
    append_utf8(code, &text);
    const Utf8Char c = decode_utf8(text);
    if (code >= 0xD800 && code <= 0xDFFF) {
      ASSERT_FALSE(c.valid) << std::hex << code;
      ASSERT_EQ(c.size, 1);
      continue;
    }
    ASSERT_TRUE(c.valid) << std::hex << code;
    ASSERT_EQ(c.code, code);
    ASSERT_EQ(c.size, text.size());
    for (size_t cut = 1; cut < text.size(); ++cut) {
      ASSERT_FALSE(decode_utf8(std::string_view(text).substr(0, cut)).valid);
      ASSERT_EQ(incomplete_utf8_suffix("x" + text.substr(0, cut)), cut);
    }
    ASSERT_EQ(incomplete_utf8_suffix(text), 0u);
  }
}

TEST(Unicode, BrokenCharactersAreOneInvalidByte) {
  for (const char* text :
       {"\x80", "\xBF", "\xC0\x80", "\xC1\xBF", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80",
        "\xF5\x80\x80\x80", "\xFF", "\xC3", "\xC3x", "\xE2\x96x", "\xF0\x9F\x99x"}) {
    const Utf8Char c = decode_utf8(text);
    EXPECT_FALSE(c.valid);
    EXPECT_EQ(c.size, 1);
    EXPECT_EQ(c.code, 0xFFFDu);
  }
}

TEST(Unicode, ASuffixIsIncompleteIfSomethingCompletesIt) {
  const std::string bytes = "a\x80\x8F\x90\x9F\xA0\xBF\xC1\xC3\xE0\xE2\xED\xF0\xF1\xF4\xF5";
  // Whether the whole of `text` begins one valid character and does not complete it.
  const auto begins = [&](std::string_view text) {
    std::vector<std::string> open = {std::string(text)};
    for (int more = 0; more < 3; ++more) {
      std::vector<std::string> next;
      for (const std::string& o : open) {
        for (const char c : bytes) {
          const std::string longer = o + c;
          const Utf8Char read = decode_utf8(longer);
          if (read.valid && read.size == longer.size()) return true;
          if ((static_cast<unsigned char>(c) & 0xC0) == 0x80) next.push_back(longer);
        }
      }
      open = next;
    }
    return false;
  };
  for (size_t n = 0; n < bytes.size() * bytes.size() * bytes.size(); ++n) {
    std::string text;
    for (size_t i = 0, rest = n; i < 3; ++i, rest /= bytes.size()) text += bytes[rest % bytes.size()];
    size_t expected = 0;
    for (size_t size = 1; size <= 3; ++size) {
      if (decode_utf8(std::string_view(text).substr(3 - size)).size == 1 && begins(text.substr(3 - size)) &&
          static_cast<unsigned char>(text[3 - size]) >= 0x80) {
        expected = size;
      }
    }
    ASSERT_EQ(incomplete_utf8_suffix(text), expected) << n;
  }
}

TEST(Unicode, BytesHaveDistinctPrintableForms) {
  for (int b = 0; b < 256; ++b) {
    const Utf8Char c = decode_utf8(byte_to_printable(static_cast<uint8_t>(b)));
    ASSERT_TRUE(c.valid);
    EXPECT_EQ(c.size, byte_to_printable(static_cast<uint8_t>(b)).size());
    EXPECT_EQ(printable_to_byte(c.code), b);
    EXPECT_NE(char_class(c.code), CharClass::kSpace);
  }
  EXPECT_EQ(byte_to_printable(' '), "Ġ");
  EXPECT_EQ(byte_to_printable('\n'), "Ċ");
  EXPECT_EQ(byte_to_printable('A'), "A");
  EXPECT_EQ(byte_to_printable(0xAD), "Ń");
  EXPECT_EQ(printable_to_byte(' '), -1);
  EXPECT_EQ(printable_to_byte(0x144), -1);
  EXPECT_EQ(printable_to_byte(0x4E00), -1);
}

}  // namespace
}  // namespace decant
