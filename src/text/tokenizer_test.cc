// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <map>
#include <random>
#include <set>

#include "formats/gguf.h"
#include "testing/tiny_model.h"
#include "text/pre_tokenizer.h"
#include "text/unicode.h"

namespace decant {
namespace {

using Random = std::mt19937;
using Tokens = std::vector<TokenId>;
using TokenizerPtr = std::shared_ptr<const Tokenizer>;

constexpr int32_t kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kByte = 6;
const std::string kSpace = "\xE2\x96\x81";  // U+2581, SentencePiece's space

std::string printable(std::string_view bytes) {
  std::string out;
  for (const char c : bytes) out += byte_to_printable(static_cast<uint8_t>(c));
  return out;
}

// --- Vocabularies ----------------------------------------------------------------------------------------------------

struct Vocab {
  std::string model, pre;
  std::vector<std::string> tokens, merges;
  std::vector<int32_t> kinds;
  std::vector<float> scores;

  TokenId add(const std::string& text, int32_t kind = kNormal, float score = 0.0f) {
    tokens.push_back(text);
    kinds.push_back(kind);
    scores.push_back(score);
    return static_cast<TokenId>(tokens.size() - 1);
  }
  bool has(const std::string& text) const { return std::find(tokens.begin(), tokens.end(), text) != tokens.end(); }

  GgufWriter writer() const {
    GgufWriter w;
    w.set("tokenizer.ggml.model", model);
    w.set("tokenizer.ggml.pre", pre);
    w.set("tokenizer.ggml.tokens", tokens);
    w.set("tokenizer.ggml.token_type", kinds);
    if (model == "gpt2") {
      w.set("tokenizer.ggml.merges", merges);
    } else {
      w.set("tokenizer.ggml.scores", scores);
    }
    return w;
  }
};

Result<TokenizerPtr> try_load(const GgufWriter& writer) {
  const std::vector<uint8_t> bytes = writer.serialize();
  DECANT_TRY(const GgufFile file, GgufFile::parse(bytes, "test.gguf"));
  return Tokenizer::from_gguf(file);
}

TokenizerPtr load(const GgufWriter& writer) {
  auto loaded = try_load(writer);
  EXPECT_TRUE(loaded.ok()) << loaded.status().message();
  return loaded.ok() ? *loaded : nullptr;
}
TokenizerPtr load(const Vocab& vocab) { return load(vocab.writer()); }

// Control tokens and every byte.
Vocab bpe_bytes(const std::string& pre = "gpt-2") {
  Vocab v{.model = "gpt2", .pre = pre};
  v.add("<|endoftext|>", kControl);
  v.add("<|im_start|>", kControl);
  v.add("<|im_end|>", kControl);
  for (int b = 0; b < 256; ++b) v.add(std::string(byte_to_printable(static_cast<uint8_t>(b))));
  return v;
}

Vocab spm_bytes() {
  Vocab v{.model = "llama", .pre = "default"};
  v.add("<unk>", kUnknown);
  v.add("<s>", kControl);
  v.add("</s>", kControl);
  for (int b = 0; b < 256; ++b) v.add(fmt::format("<0x{:02X}>", b), kByte);
  return v;
}

// --- Texts -----------------------------------------------------------------------------------------------------------

std::string random_text(Random& random, size_t parts) {
  static const std::vector<std::string> kTexts = {"the ",
                                                  "The",
                                                  " in",
                                                  "it's",
                                                  "I'LL",
                                                  " we've",
                                                  "naïve",
                                                  "<|im_end|>",
                                                  "</s>",
                                                  "<0x41>",
                                                  "<|im_",
                                                  "a",
                                                  "x y",
                                                  "...",
                                                  "!?",
                                                  "日本語",
                                                  "中文 字",
                                                  "한국어",
                                                  "مرحبا",
                                                  " بالعالم",
                                                  "שָׁלוֹם",
                                                  "e\u0301",
                                                  "Z\u0351\u036b\u0343",
                                                  "👩‍👩‍👧‍👦",
                                                  "🏳️‍🌈",
                                                  "🇩🇪",
                                                  "\u00A0",
                                                  "\u3000",
                                                  "½",
                                                  "٣",
                                                  "\u2581",
                                                  "\u2581x",
                                                  "\u2028",
                                                  "\u200B",
                                                  "\uFEFF",
                                                  "𝔘",
                                                  "\r\n",
                                                  "\t"};
  static const std::vector<std::string> kInvalid = {"\xFF",     "\x80",          "\xC3",
                                                    "\xE2\x96", "\xE2",          "\xF0\x9F\x99",
                                                    "\xC0\xAF", "\xED\xA0\x80",  "\xF4\x90\x80\x80",
                                                    "\xF8\x88", "\xE2\x96 \x81", "\xC3 "};
  const auto below = [&](size_t n) { return static_cast<size_t>(random() % n); };
  const auto run_length = [&] { return below(4) == 0 ? 1 + below(130) : 1 + below(5); };
  std::string out;
  for (size_t i = 0; i < parts; ++i) {
    switch (below(9)) {
      case 0: out.append(run_length(), ' '); break;
      case 1: out.append(run_length(), '\n'); break;
      case 2:
        for (size_t n = run_length(); n > 0; --n) out += static_cast<char>('0' + below(10));
        break;
      case 3: out.append(run_length(), static_cast<char>('a' + below(4))); break;
      case 4: out += static_cast<char>(below(32)); break;
      case 5: out += kInvalid[below(kInvalid.size())]; break;
      case 6:
        for (size_t n = 1 + below(4); n > 0; --n) out += static_cast<char>(below(256));
        break;
      case 7:
        for (size_t n = run_length(); n > 0; --n) out += static_cast<char>('a' + below(4));
        break;
      default: out += kTexts[below(kTexts.size())];
    }
  }
  return out;
}

// `count` pairs of neighbours to merge, found by merging random ones in random texts. "left right" joined becomes a
// symbol.
std::vector<std::pair<std::string, std::string>> random_merges(Random& random,
                                                               std::vector<std::vector<std::string>> words, int count) {
  std::vector<std::pair<std::string, std::string>> merges;
  std::set<std::pair<std::string, std::string>> seen;
  for (int tries = 0; static_cast<int>(merges.size()) < count && tries < 100 * count; ++tries) {
    const auto& word = words[random() % words.size()];
    if (word.size() < 2) continue;
    const size_t at = random() % (word.size() - 1);
    const std::pair<std::string, std::string> pair{word[at], word[at + 1]};
    if (pair.first.size() + pair.second.size() > 40 || !seen.insert(pair).second) continue;
    merges.push_back(pair);
    for (auto& w : words) {
      for (size_t i = 0; i + 1 < w.size(); ++i) {
        if (w[i] != pair.first || w[i + 1] != pair.second) continue;
        w[i] += w[i + 1];
        w.erase(w.begin() + static_cast<std::ptrdiff_t>(i) + 1);
      }
    }
  }
  return merges;
}

// Byte-level BPE with random merges in a random order; some lead to strings that are no tokens.
Vocab random_bpe(Random& random, const std::string& pre) {
  Vocab v = bpe_bytes(pre);
  std::vector<std::vector<std::string>> words;
  for (int i = 0; i < 40; ++i) {
    words.emplace_back();
    for (const char c : random_text(random, 6)) words.back().emplace_back(byte_to_printable(static_cast<uint8_t>(c)));
  }
  auto merges = random_merges(random, words, 400);
  EXPECT_EQ(merges.size(), 400u);
  std::shuffle(merges.begin() + 200, merges.end(), random);
  for (const auto& [left, right] : merges) {
    v.merges.push_back(left + " " + right);
    if (random() % 10 != 0 && !v.has(left + right)) v.add(left + right);
  }
  return v;
}

// Symbols as SentencePiece cuts them: by what the first byte says, spaces apart. `literal`: U+2581 that was in the
// text.
struct SpmSymbol {
  std::string text;
  bool literal;
};
std::vector<SpmSymbol> spm_symbols(std::string_view text, bool space_prefix) {
  std::vector<SpmSymbol> out;
  if (space_prefix && !text.empty()) out.push_back({kSpace, false});
  for (size_t i = 0; i < text.size();) {
    if (text[i] == ' ') {
      out.push_back({kSpace, false});
      ++i;
      continue;
    }
    const auto lead = static_cast<unsigned char>(text[i]);
    const size_t claimed = lead < 0xC0 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    size_t size = 1;
    while (size < claimed && i + size < text.size() && text[i + size] != ' ') ++size;
    const std::string symbol(text.substr(i, size));
    out.push_back({symbol, symbol == kSpace});
    i += size;
  }
  return out;
}

Vocab random_spm(Random& random) {
  Vocab v = spm_bytes();
  std::vector<std::vector<std::string>> words;
  for (int i = 0; i < 40; ++i) {
    words.emplace_back();
    for (const SpmSymbol& s : spm_symbols(random_text(random, 6), false)) {
      if (!s.literal) words.back().push_back(s.text);
    }
  }
  const auto score = [&] { return -0.5f * static_cast<float>(random() % 60); };  // with many ties
  v.add(kSpace, kNormal, score());
  for (const char* c : {"a", "b", "c", "0", "1", "\n", "e", "t"}) v.add(c, kNormal, score());
  for (const auto& [left, right] : random_merges(random, words, 300)) {
    const std::string text = left + right;
    if (!v.has(text)) v.add(text, kNormal, score());
  }
  return v;
}

// --- Reference mergers: quadratic, by the definition
// --------------------------------------------------------------------

Tokens reference_bpe(const Vocab& v, std::string_view text) {
  std::map<std::pair<std::string, std::string>, size_t> ranks;
  for (size_t i = 0; i < v.merges.size(); ++i) {
    const size_t space = v.merges[i].find(' ');
    ranks.emplace(std::pair{v.merges[i].substr(0, space), v.merges[i].substr(space + 1)}, i);
  }
  std::map<std::string, TokenId> ids;
  for (size_t i = 0; i < v.tokens.size(); ++i) {
    if (v.kinds[i] == kNormal) ids.emplace(v.tokens[i], static_cast<TokenId>(i));
  }
  Tokens out;
  split_words(find_pre_tokenizer(v.pre)->rule, text, [&](std::string_view word) {
    std::vector<std::string> symbols;
    for (const char c : word) symbols.push_back(printable({&c, 1}));
    for (;;) {
      size_t best = SIZE_MAX, at = 0;
      for (size_t i = 0; i + 1 < symbols.size(); ++i) {
        const auto it = ranks.find({symbols[i], symbols[i + 1]});
        if (it != ranks.end() && it->second < best) best = it->second, at = i;
      }
      if (best == SIZE_MAX) break;
      symbols[at] += symbols[at + 1];
      symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(at) + 1);
    }
    for (const std::string& s : symbols) {
      if (const auto it = ids.find(s); it != ids.end()) {
        out.push_back(it->second);
        continue;
      }
      for (size_t i = 0; i < s.size();) {
        const size_t size = decode_utf8(std::string_view(s).substr(i)).size;
        out.push_back(ids.at(s.substr(i, size)));
        i += size;
      }
    }
  });
  return out;
}

Tokens reference_spm(const Vocab& v, std::string_view text, bool space_prefix) {
  std::map<std::string, TokenId> ids;
  for (size_t i = 0; i < v.tokens.size(); ++i) {
    if (v.kinds[i] == kNormal) ids.emplace(v.tokens[i], static_cast<TokenId>(i));
  }
  std::vector<SpmSymbol> symbols = spm_symbols(text, space_prefix);
  for (;;) {
    float best = -std::numeric_limits<float>::infinity();
    size_t at = SIZE_MAX;
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      if (symbols[i].literal || symbols[i + 1].literal) continue;
      const auto it = ids.find(symbols[i].text + symbols[i + 1].text);
      if (it == ids.end() || v.scores[static_cast<size_t>(it->second)] <= best) continue;
      best = v.scores[static_cast<size_t>(it->second)];
      at = i;
    }
    if (at == SIZE_MAX) break;
    symbols[at].text += symbols[at + 1].text;
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  }
  Tokens out;
  for (const SpmSymbol& s : symbols) {
    if (const auto it = ids.find(s.text); it != ids.end() && !s.literal) {
      out.push_back(it->second);
      continue;
    }
    for (const char c : s.text) out.push_back(3 + static_cast<uint8_t>(c));  // spm_bytes(): <0x00> is token 3
  }
  return out;
}

// --- Properties ------------------------------------------------------------------------------------------------------

Tokens encode(const Tokenizer& tokenizer, std::string_view text, EncodeOptions options = {.add_special = false}) {
  auto tokens = tokenizer.encode(text, options);
  EXPECT_TRUE(tokens.ok());
  return tokens.ok() ? *tokens : Tokens();
}

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text)
    out += c >= ' ' && c <= '~' ? std::string(1, c) : fmt::format("\\x{:02x}", static_cast<uint8_t>(c));
  return out;
}

void expect_stream_of_whole_characters(const Tokenizer& tokenizer, const Tokens& tokens, bool special) {
  StreamDecoder stream(tokenizer, special);
  std::string streamed, pieces;
  std::vector<size_t> ends;
  for (const TokenId token : tokens) {
    pieces += tokenizer.piece(token, special);
    streamed += stream.push(token);
    ASSERT_LE(pieces.size() - streamed.size(), 3u) << "more is held back than an incomplete character";
    ends.push_back(streamed.size());
  }
  streamed += stream.flush();
  ASSERT_EQ(escaped(streamed), escaped(pieces));
  size_t at = 0;
  for (const size_t end : ends) {
    while (at < end) at += decode_utf8(std::string_view(pieces).substr(at)).size;
    ASSERT_EQ(at, end) << "cut inside a character: " << escaped(pieces);
  }
}

void check_properties(const Tokenizer& tokenizer, Random& random, const std::string& text) {
  const Tokens tokens = encode(tokenizer, text);
  ASSERT_EQ(escaped(tokenizer.decode(tokens)), escaped(text));
  expect_stream_of_whole_characters(tokenizer, tokens, false);

  const Tokens parsed = encode(tokenizer, text, {.add_special = false, .parse_special = true});
  ASSERT_EQ(escaped(tokenizer.decode(parsed, true)), escaped(text));
  expect_stream_of_whole_characters(tokenizer, parsed, true);
  expect_stream_of_whole_characters(tokenizer, parsed, false);

  const bool no_specials = text.find('<') == std::string::npos;
  std::vector<TextPart> parts;
  for (size_t at = 0; at < text.size();) {
    const size_t size = std::min<size_t>(1 + random() % 20, text.size() - at);
    parts.push_back({std::string_view(text).substr(at, size), no_specials && random() % 2 == 0});
    at += size;
  }
  const auto joined = tokenizer.encode(parts, {.add_special = false});
  ASSERT_TRUE(joined.ok());
  ASSERT_EQ(*joined, tokens) << escaped(text);
}

TEST(BpeTokenizer, MergesAsTheDefinitionSays) {
  for (const uint32_t seed : {1u, 2u, 3u}) {
    for (const char* pre : {"gpt-2", "smollm", "qwen2", "dbrx"}) {
      Random random(seed);
      const Vocab vocab = random_bpe(random, pre);
      const TokenizerPtr tokenizer = load(vocab);
      ASSERT_NE(tokenizer, nullptr);
      size_t merged = 0;
      for (int i = 0; i < 60; ++i) {
        const std::string text = random_text(random, random() % 12);
        const Tokens tokens = encode(*tokenizer, text);
        ASSERT_EQ(tokens, reference_bpe(vocab, text)) << pre << ": " << escaped(text);
        merged += text.size() - tokens.size();
        ASSERT_NO_FATAL_FAILURE(check_properties(*tokenizer, random, text));
      }
      EXPECT_GT(merged, 500u) << "the vocabulary does not fit the texts";
    }
  }
}

TEST(SpmTokenizer, MergesAsTheDefinitionSays) {
  for (const uint32_t seed : {1u, 2u, 3u}) {
    for (const bool space_prefix : {false, true}) {
      Random random(seed);
      const Vocab vocab = random_spm(random);
      GgufWriter writer = vocab.writer();
      writer.set("tokenizer.ggml.add_space_prefix", space_prefix);
      const TokenizerPtr tokenizer = load(writer);
      ASSERT_NE(tokenizer, nullptr);
      size_t merged = 0, bytes = 0;
      for (int i = 0; i < 100; ++i) {
        const std::string text = random_text(random, random() % 12);
        const Tokens tokens = encode(*tokenizer, text);
        ASSERT_EQ(tokens, reference_spm(vocab, text, space_prefix)) << escaped(text);
        merged += static_cast<size_t>(std::count_if(tokens.begin(), tokens.end(), [](TokenId t) { return t >= 259; }));
        bytes += tokens.size();
        ASSERT_NO_FATAL_FAILURE(check_properties(*tokenizer, random, text));
      }
      EXPECT_GT(merged * 5, bytes) << "the vocabulary does not fit the texts";
    }
  }
}

TEST(Tokenizer, UserDefinedTokensAreGivenBackAsText) {
  Random random(7);
  Vocab bpe = random_bpe(random, "smollm");
  Vocab spm = random_spm(random);
  for (Vocab* v : {&bpe, &spm}) {
    for (const char* text : {"\n\n", "日本", "a b", "\u2581x", "ab", "abc", "\xFF"}) v->add(text, kUserDefined);
  }
  GgufWriter prefixed = spm.writer();
  prefixed.set("tokenizer.ggml.add_space_prefix", true);
  GgufWriter plain = spm.writer();
  plain.set("tokenizer.ggml.add_space_prefix", false);
  for (const GgufWriter& writer : {bpe.writer(), prefixed, plain}) {
    const TokenizerPtr tokenizer = load(writer);
    ASSERT_NE(tokenizer, nullptr);
    for (int i = 0; i < 150; ++i) {
      ASSERT_NO_FATAL_FAILURE(check_properties(*tokenizer, random, random_text(random, random() % 12)));
    }
  }
}

TEST(Tokenizer, TinyModelsRoundTrip) {
  Random random(11);
  for (const char* architecture : {"llama", "gemma3"}) {
    testing::TinyModelSpec spec;
    spec.architecture = architecture;
    const TokenizerPtr tokenizer = load(testing::make_tiny_model(spec));
    ASSERT_NE(tokenizer, nullptr);
    for (int i = 0; i < 50; ++i) ASSERT_NO_FATAL_FAILURE(check_properties(*tokenizer, random, random_text(random, 8)));
  }
}

TEST(Tokenizer, LongRunsTakeTheSamePathAsShortOnes) {
  // "aa" merges first, then "aaaa": the leftmost pairs, so an odd letter is left at the end.
  Vocab v = bpe_bytes();
  v.merges = {"a a", "aa aa"};
  const TokenId two = v.add("aa"), four = v.add("aaaa");
  const TokenizerPtr tokenizer = load(v);
  const TokenId one = tokenizer->find("a");
  EXPECT_EQ(encode(*tokenizer, "aaaaaaa"), (Tokens{four, two, one}));
  Tokens expected(5000, four);
  expected.push_back(two);
  expected.push_back(one);
  EXPECT_EQ(encode(*tokenizer, std::string(20003, 'a')), expected);
}

TEST(BpeTokenizer, TheFirstRankOfAPairCounts) {
  Vocab v = bpe_bytes();
  v.merges = {"a b", "b c", "a b"};
  const TokenId ab = v.add("ab");
  v.add("bc");
  const TokenizerPtr tokenizer = load(v);
  EXPECT_EQ(encode(*tokenizer, "abc"), (Tokens{ab, tokenizer->find("c")}));
}

TEST(BpeTokenizer, BytesWithoutATokenAreDropped) {
  Vocab v{.model = "gpt2", .pre = "gpt-2"};
  v.add("a");
  v.add("b");
  const TokenizerPtr tokenizer = load(v);
  EXPECT_EQ(encode(*tokenizer, "axb"), (Tokens{0, 1}));
}

TEST(BpeTokenizer, WordsThatAreTokensSkipMergesWhereThePreTokenizerSaysSo) {
  for (const auto& [pre, whole] : {std::pair{"llama-bpe", true}, std::pair{"dbrx", false}}) {
    Vocab v = bpe_bytes(pre);
    const TokenId word = v.add("xyz");  // no merges lead to it
    const TokenizerPtr tokenizer = load(v);
    const Tokens letters = {tokenizer->find("x"), tokenizer->find("y"), tokenizer->find("z")};
    EXPECT_EQ(encode(*tokenizer, "xyz"), whole ? Tokens{word} : letters) << pre;
  }
}

TEST(SpmTokenizer, HigherScoresMergeFirstAndEqualOnesFromTheLeft) {
  Vocab v = spm_bytes();
  for (const char* c : {"a", "b", "c"}) v.add(c, kNormal, -100.0f);
  const TokenId ab = v.add("ab", kNormal, -2.0f), bc = v.add("bc", kNormal, -1.0f), aa = v.add("aa", kNormal, -3.0f);
  GgufWriter w = v.writer();
  w.set("tokenizer.ggml.add_space_prefix", false);
  const TokenizerPtr tokenizer = load(w);
  EXPECT_EQ(encode(*tokenizer, "abc"), (Tokens{tokenizer->find("a"), bc}));
  EXPECT_EQ(encode(*tokenizer, "abab"), (Tokens{ab, ab}));
  EXPECT_EQ(encode(*tokenizer, "aaa"), (Tokens{aa, tokenizer->find("a")}));
}

TEST(SpmTokenizer, TextDoesNotMergeIntoControlOrByteTokens) {
  Vocab v = spm_bytes();
  for (const char* c : {"<", "/", "s", ">", "0", "x", "4", "1"}) v.add(c);
  const TokenizerPtr tokenizer = load(v);
  for (const char* text : {"</s>", "<s>", "<0x41>", "<unk>"}) {
    for (const TokenId token : encode(*tokenizer, text)) EXPECT_NE(token, tokenizer->find(text)) << text;
    EXPECT_EQ(tokenizer->decode(encode(*tokenizer, text)), text);
  }
}

TEST(Tokenizer, LikeLlamaCppDiffersOnlyWhereTheHeaderSaysSo) {
  Random random(5);
  for (const bool is_bpe : {true, false}) {
    const TokenizerPtr tokenizer = load(is_bpe ? random_bpe(random, "smollm") : random_spm(random));
    for (int i = 0; i < 200; ++i) {
      std::string text = random_text(random, 6);
      bool plain = true;
      for (size_t at = 0; at < text.size();) {
        const Utf8Char c = decode_utf8(std::string_view(text).substr(at));
        plain = plain && c.valid && c.code != 0x2581;
        at += c.size;
      }
      if (!plain) continue;
      EXPECT_EQ(encode(*tokenizer, text, {.add_special = false, .like_llama_cpp = true}), encode(*tokenizer, text))
          << escaped(text);
    }
  }
  const TokenizerPtr bpe = load(bpe_bytes());
  const EncodeOptions like = {.add_special = false, .like_llama_cpp = true};
  EXPECT_EQ(bpe->decode(encode(*bpe, "a\xFFz", like)), "a\uFFFDz");
  EXPECT_EQ(bpe->decode(encode(*bpe, "\xC0\xAF", like)), "/");
  Vocab v = spm_bytes();
  v.add(kSpace);
  const TokenizerPtr spm = load(v);
  EXPECT_EQ(spm->decode(encode(*spm, "a\u2581z", like)), "a z");
}

TEST(StreamDecoder, HoldsBackOnlyWhatMayBecomeACharacter) {
  const TokenizerPtr tokenizer = load(bpe_bytes());
  const auto token = [&](unsigned char byte) { return tokenizer->find(byte_to_printable(byte)); };
  StreamDecoder stream(*tokenizer);
  EXPECT_EQ(stream.push(token('a')), "a");
  EXPECT_EQ(stream.push(token(0xF0)), "");
  EXPECT_EQ(stream.push(token(0x9F)), "");
  EXPECT_EQ(stream.push(token(0x99)), "");
  StreamDecoder fork = stream;
  EXPECT_EQ(stream.push(token(0x82)), "🙂");
  EXPECT_EQ(stream.flush(), "");
  EXPECT_EQ(fork.push(token('b')),
            "\xF0\x9F\x99"
            "b")
      << "invalid bytes come out once they cannot become a character";
  EXPECT_EQ(fork.push(token(0x80)), "\x80");
  EXPECT_EQ(fork.push(token(0xE2)), "");
  EXPECT_EQ(fork.flush(), "\xE2");
  EXPECT_EQ(fork.flush(), "");
  EXPECT_EQ(fork.push(tokenizer->find("<|im_end|>")), "") << "control tokens are not text";
  EXPECT_EQ(StreamDecoder(*tokenizer, true).push(tokenizer->find("<|im_end|>")), "<|im_end|>");
}

// --- Special tokens --------------------------------------------------------------------------------------------------

TEST(SpecialTokens, AreParsedOnlyWhereAsked) {
  Vocab v = bpe_bytes();
  const TokenId added = v.add("<added>", kUserDefined);
  const TokenizerPtr tokenizer = load(v);
  const TokenId end = tokenizer->find("<|im_end|>");
  const TokenId x = tokenizer->find("x");
  const EncodeOptions parse = {.add_special = false, .parse_special = true};
  EXPECT_EQ(encode(*tokenizer, "x<|im_end|>x", parse), (Tokens{x, end, x}));
  const Tokens plain = encode(*tokenizer, "x<|im_end|>x");
  EXPECT_EQ(plain.size(), 12u);
  EXPECT_EQ(std::count(plain.begin(), plain.end(), end), 0);
  EXPECT_EQ(encode(*tokenizer, "x<added>x"), (Tokens{x, added, x})) << "user-defined tokens are text";
  EXPECT_EQ(encode(*tokenizer, "x<added>x", parse), (Tokens{x, added, x}));
}

TEST(SpecialTokens, AreParsedOnlyInsideOnePartThatAsks) {
  Vocab v = bpe_bytes();
  const TokenId added = v.add("<added>", kUserDefined);
  const TokenizerPtr tokenizer = load(v);
  const TokenId end = tokenizer->find("<|im_end|>");
  const auto count = [&](std::vector<TextPart> parts, TokenId token) {
    const auto tokens = tokenizer->encode(parts, {.add_special = false});
    EXPECT_TRUE(tokens.ok());
    return std::count(tokens->begin(), tokens->end(), token);
  };
  EXPECT_EQ(count({{"<|im_end|>", true}, {"<|im_end|>", false}, {"<|im_end|>", true}}, end), 2);
  EXPECT_EQ(count({{"<|im_", true}, {"end|>", true}}, end), 0) << "a token may not straddle parts";
  EXPECT_EQ(count({{"<|im_end|", false}, {">", true}}, end), 0);
  EXPECT_EQ(count({{"<|im_end|", true}, {">", false}}, end), 0);
  EXPECT_EQ(count({{"<add", false}, {"ed>", true}}, added), 1) << "the parts are one text";
}

TEST(SpecialTokens, TheLongestWins) {
  Vocab v = bpe_bytes();
  const TokenId two = v.add("<<", kUserDefined), three = v.add("<<<", kUserDefined);
  const TokenId ab = v.add("ab", kUserDefined), bcd = v.add("bcd", kUserDefined);
  const TokenizerPtr tokenizer = load(v);
  const TokenId less = tokenizer->find("<");
  EXPECT_EQ(encode(*tokenizer, "<<<<"), (Tokens{three, less}));
  EXPECT_EQ(encode(*tokenizer, "<<<<<"), (Tokens{three, two}));
  EXPECT_EQ(encode(*tokenizer, "abc"), (Tokens{ab, tokenizer->find("c")}));
  EXPECT_EQ(encode(*tokenizer, "abcd"), (Tokens{tokenizer->find("a"), bcd}))
      << "even where a shorter one starts earlier";
}

TEST(SpecialTokens, AreCutOutFromTheLongestToTheShortest) {
  Random random(3);
  for (int round = 0; round < 200; ++round) {
    Vocab v = bpe_bytes();
    std::vector<std::pair<std::string, TokenId>> special;
    std::vector<int32_t> kinds;
    for (size_t length = 5; length >= 2; --length) {  // one of each length: no ties
      std::string text;
      for (size_t i = 0; i < length; ++i) text += static_cast<char>('a' + random() % 2);
      kinds.push_back(random() % 2 == 0 ? kControl : kUserDefined);
      special.emplace_back(text, v.add(text, kinds.back()));
    }
    const TokenizerPtr tokenizer = load(v);
    ASSERT_NE(tokenizer, nullptr);
    std::string text;
    for (size_t i = random() % 40; i > 0; --i) text += static_cast<char>('a' + random() % 2);
    for (const bool parse : {false, true}) {
      // Segments: text, or a token.
      std::vector<std::pair<std::string, TokenId>> segments = {{text, kNoToken}};
      for (size_t s = 0; s < special.size(); ++s) {
        if (kinds[s] == kControl && !parse) continue;
        std::vector<std::pair<std::string, TokenId>> next;
        for (const auto& [part, id] : segments) {
          size_t begin = 0;
          for (size_t at; id == kNoToken && (at = part.find(special[s].first, begin)) != std::string::npos;) {
            next.emplace_back(part.substr(begin, at - begin), kNoToken);
            next.push_back(special[s]);
            begin = at + special[s].first.size();
          }
          next.emplace_back(part.substr(begin), id);
        }
        segments = next;
      }
      Tokens expected;
      for (const auto& [part, id] : segments) {
        if (id != kNoToken) {
          expected.push_back(id);
          continue;
        }
        for (const char c : part) expected.push_back(tokenizer->find({&c, 1}));
      }
      ASSERT_EQ(encode(*tokenizer, text, {.add_special = false, .parse_special = parse}), expected) << text;
    }
  }
}

TEST(SpecialTokens, SomeModelsTokensSwallowWhiteSpace) {
  Vocab v = bpe_bytes("jina-v2-code");
  const TokenId mask = v.add("<mask>", kControl);
  const TokenizerPtr jina = load(v);
  const EncodeOptions parse = {.add_special = false, .parse_special = true};
  const TokenId x = jina->find("x");
  EXPECT_EQ(encode(*jina, "x \n<mask>x", parse), (Tokens{x, mask, x}));

  v.pre = "gpt-2";
  GgufWriter w = v.writer();
  w.set("general.name", "Phi-3 mini");
  const TokenizerPtr phi = load(w);
  EXPECT_EQ(encode(*phi, "x<|im_end|> \nx", parse), (Tokens{x, phi->find("<|im_end|>"), x}));
  EXPECT_EQ(encode(*phi, "x<|endoftext|> ", parse), (Tokens{x, phi->find("<|endoftext|>"), phi->find("Ġ")}));
}

TEST(SpecialTokens, BosAndEosFollowTheFile) {
  const auto encoded = [](const Vocab& v, std::optional<bool> bos, std::optional<bool> eos, bool add_special = true) {
    GgufWriter w = v.writer();
    w.set("tokenizer.ggml.bos_token_id", uint32_t{1});
    w.set("tokenizer.ggml.eos_token_id", uint32_t{2});
    if (bos) w.set("tokenizer.ggml.add_bos_token", *bos);
    if (eos) w.set("tokenizer.ggml.add_eos_token", *eos);
    w.set("tokenizer.ggml.add_space_prefix", false);
    const TokenizerPtr tokenizer = load(w);
    EXPECT_EQ(tokenizer->bos(), 1);
    EXPECT_EQ(tokenizer->eos(), 2);
    EXPECT_TRUE(tokenizer->is_end(2));
    EXPECT_FALSE(tokenizer->is_end(1));
    Tokens tokens = encode(*tokenizer, "x", {.add_special = add_special});
    for (TokenId& t : tokens) t = t > 2 ? -1 : t;  // -1: the text
    return tokens;
  };
  EXPECT_EQ(encoded(bpe_bytes(), true, true), (Tokens{1, -1, 2}));
  EXPECT_EQ(encoded(bpe_bytes(), true, false), (Tokens{1, -1}));
  EXPECT_EQ(encoded(bpe_bytes(), false, true), (Tokens{-1, 2}));
  EXPECT_EQ(encoded(bpe_bytes(), true, true, false), (Tokens{-1}));
  EXPECT_EQ(encoded(bpe_bytes(), {}, {}), (Tokens{-1}));
  EXPECT_EQ(encoded(bpe_bytes("llama-bpe"), {}, {}), (Tokens{1, -1}));
  EXPECT_EQ(encoded(spm_bytes(), {}, {}), (Tokens{1, -1}));
  EXPECT_EQ(encoded(spm_bytes(), false, {}), (Tokens{-1}));
}

TEST(SpecialTokens, EndsOfAnswersAreKnownByTheirText) {
  Vocab v = spm_bytes();
  const TokenId turn = v.add("<end_of_turn>");  // written as an ordinary token by some converters
  const TokenId word = v.add("end");
  const TokenizerPtr tokenizer = load(v);
  EXPECT_TRUE(tokenizer->is_end(turn));
  EXPECT_EQ(tokenizer->kind(turn), TokenKind::kControl);
  EXPECT_EQ(tokenizer->eot(), turn);
  EXPECT_FALSE(tokenizer->is_end(word));
  EXPECT_FALSE(tokenizer->is_end(-1));
  EXPECT_FALSE(tokenizer->is_end(tokenizer->vocab_size()));
  EXPECT_EQ(tokenizer->piece(turn), "");
  EXPECT_EQ(tokenizer->piece(turn, true), "<end_of_turn>");
  EXPECT_EQ(tokenizer->piece(tokenizer->vocab_size(), true), "");
}

// --- Broken files ----------------------------------------------------------------------------------------------------

void expect_refused(const GgufWriter& writer, Code code, const std::string& part) {
  const auto loaded = try_load(writer);
  ASSERT_FALSE(loaded.ok()) << part;
  EXPECT_EQ(loaded.status().code(), code) << loaded.status().message();
  EXPECT_NE(loaded.status().message().find(part), std::string::npos) << loaded.status().message();
  EXPECT_NE(loaded.status().message().find("test.gguf"), std::string::npos) << loaded.status().message();
}

TEST(BrokenVocabulary, MissingTablesAreNamed) {
  GgufWriter none;
  expect_refused(none, Code::kNotFound, "tokenizer.ggml.model");
  for (const bool is_bpe : {true, false}) {
    GgufWriter w;
    w.set("tokenizer.ggml.model", is_bpe ? "gpt2" : "llama");
    expect_refused(w, Code::kNotFound, "tokenizer.ggml.tokens");
    w.set("tokenizer.ggml.tokens", std::vector<std::string>{"a", "b"});
    expect_refused(w, Code::kNotFound, is_bpe ? "tokenizer.ggml.merges" : "tokenizer.ggml.scores");
  }
}

TEST(BrokenVocabulary, UnknownModelsAndPreTokenizersAreNamed) {
  Vocab v = bpe_bytes();
  v.model = "plamo2";
  expect_refused(v.writer(), Code::kUnsupported, "tokenizer.ggml.model is \"plamo2\"");
  v.model = "gpt2";
  v.pre = "no-such-pre";
  expect_refused(v.writer(), Code::kUnsupported, "tokenizer.ggml.pre is \"no-such-pre\"");
  expect_refused(v.writer(), Code::kUnsupported, "smollm");  // what there is
}

TEST(BrokenVocabulary, TablesThatContradictEachOtherAreNamed) {
  Vocab v = spm_bytes();
  v.scores.pop_back();
  expect_refused(v.writer(), Code::kCorrupt, "tokenizer.ggml.scores");
  v.scores.push_back(std::numeric_limits<float>::quiet_NaN());
  expect_refused(v.writer(), Code::kCorrupt, "tokenizer.ggml.scores[258]");
  v.scores.back() = 0.0f;
  EXPECT_TRUE(try_load(v.writer()).ok());

  v.kinds.push_back(kNormal);
  expect_refused(v.writer(), Code::kCorrupt, "tokenizer.ggml.token_type has 260 entries");
  v.kinds.pop_back();
  for (const int32_t kind : {0, 7, -1}) {
    v.kinds[5] = kind;
    expect_refused(v.writer(), Code::kCorrupt, fmt::format("tokenizer.ggml.token_type[5] is {}", kind));
  }
}

TEST(BrokenVocabulary, IdsBeyondTheVocabularyAreNamed) {
  for (const char* key : {"bos_token_id", "eos_token_id", "unknown_token_id", "eot_token_id", "eom_token_id"}) {
    const std::string name = std::string("tokenizer.ggml.") + key;
    GgufWriter w = spm_bytes().writer();
    w.set(name, uint32_t{259});
    expect_refused(w, Code::kCorrupt, name + " is 259");
    GgufWriter none = spm_bytes().writer();
    none.set(name, UINT32_MAX);
    EXPECT_TRUE(try_load(none).ok()) << "-1 means none";
  }
}

TEST(BrokenVocabulary, TablesOfOtherTypesAreNamed) {
  GgufWriter tokens;
  tokens.set("tokenizer.ggml.model", "gpt2");
  tokens.set("tokenizer.ggml.tokens", std::vector<int32_t>{1, 2});
  expect_refused(tokens, Code::kCorrupt, "tokenizer.ggml.tokens");

  GgufWriter empty;
  empty.set("tokenizer.ggml.model", "gpt2");
  empty.set("tokenizer.ggml.tokens", std::vector<std::string>{});
  expect_refused(empty, Code::kCorrupt, "tokenizer.ggml.tokens");

  GgufWriter kinds;
  kinds.set("tokenizer.ggml.model", "gpt2");
  kinds.set("tokenizer.ggml.tokens", std::vector<std::string>{"a"});
  kinds.set("tokenizer.ggml.token_type", std::vector<float>{1.0f});
  expect_refused(kinds, Code::kCorrupt, "tokenizer.ggml.token_type");

  GgufWriter merges;
  merges.set("tokenizer.ggml.model", "gpt2");
  merges.set("tokenizer.ggml.tokens", std::vector<std::string>{"a"});
  merges.set("tokenizer.ggml.merges", std::vector<int32_t>{1});
  expect_refused(merges, Code::kCorrupt, "tokenizer.ggml.merges");

  GgufWriter model;
  model.set("tokenizer.ggml.model", uint32_t{1});
  expect_refused(model, Code::kCorrupt, "tokenizer.ggml.model");
}

TEST(BrokenVocabulary, MergesWithoutTwoStringsAreNamed) {
  Vocab v = bpe_bytes();
  v.merges = {"a b", "ab"};
  expect_refused(v.writer(), Code::kCorrupt, "tokenizer.ggml.merges[1] is \"ab\"");
  v.merges = {"a b", ""};
  expect_refused(v.writer(), Code::kCorrupt, "tokenizer.ggml.merges[1]");
}

TEST(BrokenVocabulary, MergesOfUnknownTokensDoNotLoseText) {
  Vocab v = bpe_bytes();
  v.merges = {"a b", "ab c", "日 本", "x "};
  const TokenizerPtr tokenizer = load(v);
  ASSERT_NE(tokenizer, nullptr);
  EXPECT_EQ(tokenizer->decode(encode(*tokenizer, "abc 日本 x ")), "abc 日本 x ");
}

// --- Real models -----------------------------------------------------------------------------------------------------

struct Known {
  const char* text;
  Tokens tokens;  // of llama.cpp
};

void check_real_model(const char* variable, const std::vector<Known>& known) {
  const char* path = std::getenv(variable);
  if (path == nullptr || *path == '\0') GTEST_SKIP() << variable << " names no model file";
  const auto file = GgufFile::open(path);
  ASSERT_TRUE(file.ok()) << file.status().message();
  const auto loaded = Tokenizer::from_gguf(*file);
  ASSERT_TRUE(loaded.ok()) << loaded.status().message();
  const Tokenizer& tokenizer = **loaded;
  for (const Known& k : known) EXPECT_EQ(encode(tokenizer, k.text, {.parse_special = true}), k.tokens) << k.text;

  // Bytes without a token are dropped, by design.
  std::string lost;
  for (int b = 0; b < 256; ++b) {
    const std::string spelled = tokenizer.algorithm() == "bpe" ? std::string(byte_to_printable(static_cast<uint8_t>(b)))
                                                               : fmt::format("<0x{:02X}>", b);
    if (tokenizer.find(spelled) == kNoToken) lost += static_cast<char>(b);
  }
  EXPECT_LE(lost.size(), 21u);
  Random random(1);
  for (int i = 0; i < 300; ++i) {
    std::string text = random_text(random, random() % 12);
    std::erase_if(text, [&](char c) { return lost.find(c) != std::string::npos; });
    ASSERT_NO_FATAL_FAILURE(check_properties(tokenizer, random, text));
  }
}

TEST(RealModel, SmolLm2) {
  check_real_model("DECANT_TEST_SMOLLM2",
                   {{"Hello, world!", {19556, 28, 905, 17}},
                    {"  it's 2024:\n\n\tfoo_bar(12);",
                     {216, 357, 506, 216, 34, 32, 34, 36, 42, 1116, 197, 15236, 79, 6299, 24, 33, 34, 4258}},
                    {"Größe 日本語 مرحبا 👩‍👩‍👧",
                     {27302, 7466,  34878, 85,  17097, 241, 115,   40993, 179, 120, 248, 36395, 20602, 44626, 31462,
                      10805, 15107, 235,   119, 321,   231, 10813, 235,   119, 321, 231, 10813, 235,   117}},
                    {"<|im_start|>user\nHi<|im_end|>", {1, 4093, 198, 26843, 2}},
                    {"<start_of_turn>user\nHi<end_of_turn>\n\n\n",
                     {44, 3738, 79, 1714, 79, 20589, 46, 4093, 198, 26843, 44, 486, 79, 1714, 79, 20589, 46, 16506}}});
}

TEST(RealModel, Gemma3) {
  check_real_model(
      "DECANT_TEST_GEMMA3",
      {{"Hello, world!", {2, 9259, 236764, 1902, 236888}},
       {"  it's 2024:\n\n\tfoo_bar(12);", {2,      138, 509,    236789, 236751, 236743, 236778, 236771, 236778, 236812,
                                           236787, 108, 255968, 26537,  236779, 2230,   236769, 236770, 236778, 626}},
       {"Größe 日本語 مرحبا 👩‍👩‍👧",
        {2, 9322, 237001, 16756, 33375, 238582, 150423, 236743, 243767, 237243, 243767, 237243, 244814}},
       {"<|im_start|>user\nHi<|im_end|>",
        {2, 236820, 236909, 548, 236779, 3041, 111038, 2364, 107, 10979, 236820, 236909, 548, 236779, 643, 111038}},
       {"<start_of_turn>user\nHi<end_of_turn>\n\n\n", {2, 105, 2364, 107, 10979, 106, 109}}});
}

}  // namespace
}  // namespace decant
