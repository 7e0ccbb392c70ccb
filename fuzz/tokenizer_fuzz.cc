// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// The input is a GGUF file, a text and the text's length in the last two bytes. Any vocabulary that is accepted must
// encode the text to its own tokens and give them back as the text's bytes, whole and as a stream.
#include <fmt/core.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "formats/gguf.h"
#include "text/tokenizer.h"
#include "text/unicode.h"

namespace decant {
namespace {

// Whether every byte has a token that reads as that byte; bytes without one are dropped by design.
bool has_all_bytes(const Tokenizer& tokenizer) {
  for (int b = 0; b < 256; ++b) {
    const char byte = static_cast<char>(b);
    const std::string spelled = tokenizer.algorithm() == "bpe" ? std::string(byte_to_printable(static_cast<uint8_t>(b)))
                                                               : fmt::format("<0x{:02X}>", b);
    if (tokenizer.piece(tokenizer.find(spelled)) != std::string_view(&byte, 1)) return false;
  }
  return true;
}

// Whether these tokens owe the text back: a hostile vocabulary may lead merges to tokens that are not text. `swallows`:
// user-defined tokens of some models take the white space beside them.
bool owes_text(const Tokenizer& tokenizer, const std::vector<TokenId>& tokens, bool swallows) {
  return has_all_bytes(tokenizer) && std::all_of(tokens.begin(), tokens.end(), [&](TokenId token) {
           const TokenKind kind = tokenizer.kind(token);
           return kind == TokenKind::kNormal || kind == TokenKind::kByte ||
                  (kind == TokenKind::kUserDefined && !swallows);
         });
}

void check_stream(const Tokenizer& tokenizer, const std::vector<TokenId>& tokens, bool special) {
  StreamDecoder stream(tokenizer, special);
  std::string streamed, pieces;
  std::vector<size_t> ends;  // of the text after each token
  for (TokenId token : tokens) {
    streamed += stream.push(token);
    pieces += tokenizer.piece(token, special);
    DECANT_CHECK(streamed.size() + 3 >= pieces.size());
    ends.push_back(streamed.size());
  }
  streamed += stream.flush();
  DECANT_CHECK(streamed == pieces);
  size_t at = 0;  // walks over whole characters
  for (const size_t end : ends) {
    while (at < end) at += decode_utf8(std::string_view(pieces).substr(at)).size;
    DECANT_CHECK(at == end);
  }
}

void check(const Tokenizer& tokenizer, std::string_view text, bool swallows) {
  for (const bool special : {false, true}) {
    const auto tokens = tokenizer.encode(text, {.add_special = special, .parse_special = special});
    if (!tokens.ok()) continue;
    for (TokenId token : *tokens) DECANT_CHECK(token >= 0 && token < tokenizer.vocab_size());
    const std::string decoded = tokenizer.decode(*tokens, special);
    if (!special && owes_text(tokenizer, *tokens, swallows)) DECANT_CHECK(decoded == text);
    check_stream(tokenizer, *tokens, special);
  }
}

void check_tables(const Tokenizer& tokenizer) {
  for (TokenId token :
       {TokenId{-1}, TokenId{0}, tokenizer.vocab_size() - 1, tokenizer.vocab_size(), INT32_MAX, INT32_MIN}) {
    const std::string_view text = tokenizer.text(token);
    const TokenId found = tokenizer.find(text);
    DECANT_CHECK(found == kNoToken || tokenizer.text(found) == text);
    static_cast<void>(tokenizer.piece(token, true));
    static_cast<void>(tokenizer.is_end(token));
    static_cast<void>(tokenizer.kind(token));
  }
  for (TokenId token : {tokenizer.bos(), tokenizer.eos(), tokenizer.eot()}) {
    DECANT_CHECK(token == kNoToken || (token >= 0 && token < tokenizer.vocab_size()));
  }
}

}  // namespace
}  // namespace decant

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  size -= 2;
  const size_t asked = static_cast<size_t>(data[size]) | static_cast<size_t>(data[size + 1]) << 8;
  const size_t length = std::min(asked, size);
  const auto file = decant::GgufFile::parse({data, size - length}, "fuzz.gguf");
  if (!file.ok()) return 0;
  const auto tokenizer = decant::Tokenizer::from_gguf(*file);
  if (!tokenizer.ok()) {
    DECANT_CHECK(!tokenizer.status().message().empty());
    return 0;
  }
  decant::check_tables(**tokenizer);
  const bool swallows = file->find("general.name") != nullptr || (*tokenizer)->pre_tokenizer().starts_with("jina-v2-");
  decant::check(**tokenizer, {reinterpret_cast<const char*>(data) + size - length, length}, swallows);
  return 0;
}
