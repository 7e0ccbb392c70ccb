// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// The input is a tokenizer.json and, behind a zero byte, a tokenizer_config.json. What is accepted must be metadata
// that GgufFile and Tokenizer read without finding a contradiction of their own, and the tokenizer must work.
#include <cstddef>
#include <cstdint>
#include <string>

#include "formats/gguf.h"
#include "formats/hf_tokenizer.h"
#include "text/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t zero = std::min(input.find('\0'), input.size());
  decant::HfTokenizerFiles files;
  files.tokenizer = input.substr(0, zero);
  if (files.tokenizer.empty()) return 0;
  if (zero < input.size()) files.tokenizer_config = input.substr(zero + 1);
  decant::GgufWriter writer;
  const decant::Status status = decant::parse_hf_tokenizer(files, "fuzz", 0, &writer);
  if (!status.ok()) {
    DECANT_CHECK(status.message().starts_with("fuzz"));
    return 0;
  }
  const std::vector<uint8_t> bytes = writer.serialize();
  const auto file = decant::GgufFile::parse(bytes, "fuzz.gguf");
  DECANT_CHECK(file.ok());
  const auto tokenizer = decant::Tokenizer::from_gguf(*file);
  if (!tokenizer.ok()) return 0;
  for (const std::string_view text :
       {std::string_view("Hello  ab\n<|x|> \xc3\xa9\xe1\x84\x92"), input.substr(0, 200)}) {
    const auto tokens = (*tokenizer)->encode(text, {.parse_special = true});
    DECANT_CHECK(tokens.ok());
    for (const decant::TokenId token : *tokens) {
      DECANT_CHECK(token >= -1 && token < (*tokenizer)->vocab_size());
    }
    (void)(*tokenizer)->decode(*tokens, true);
  }
  return 0;
}
