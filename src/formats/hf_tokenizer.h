// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// A Hugging Face checkpoint's tokenizer as GGUF metadata: tokenizer.ggml.* as llama.cpp's converter names things, and,
// for what GGUF has no keys for, keys of Decant's own:
//   decant.tokenizer.leftmost       bool    special tokens are found from left to right, the longest at each place
//   decant.tokenizer.token_flags    int32   pairs of id and flags: 1 strips white space on the left, 2 on the right, 4
//   whole words decant.tokenizer.normalizer     string  "nfc" decant.tokenizer.space_prefix   string  "each",
//   "each_without" or "first_without" (text/tokenizer.h) decant.tokenizer.merge_pairs    int32   pairs of token ids by
//   rank: merges of a SentencePiece vocabulary decant.tokenizer.ignore_merges  bool    a word that is a token is not
//   merged up from bytes decant.tokenizer.eos_token_ids  int32   all tokens that end an answer
// Token for token what the tokenizers library gives for valid UTF-8 (except U+2581 in a text, which there is a space).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"

namespace decant {

class GgufWriter;

// The files of a tokenizer; empty: not there.
struct HfTokenizerFiles {
  std::string tokenizer;           // tokenizer.json
  std::string vocab, merges;       // vocab.json and merges.txt: byte-level BPE without a tokenizer.json
  std::string tokenizer_config;    // tokenizer_config.json
  std::string special_tokens_map;  // special_tokens_map.json
  std::string config;              // config.json
  std::string generation_config;   // generation_config.json
  std::string chat_template;       // chat_template.jinja, or the text of chat_template.json's field
};

// Writes the metadata of the tokenizer in `folder`; nothing if it has none. `rows`: of the embedding; ids beyond the
// tokenizer's become unused tokens. kCorrupt, kUnsupported (another algorithm, an unknown pre-tokenizer or normalizer)
// name file and field.
Status read_hf_tokenizer(const std::string& folder, int64_t rows, GgufWriter* out);
// The same from the files' contents; `name` stands for the folder in messages.
Status parse_hf_tokenizer(const HfTokenizerFiles& files, const std::string& name, int64_t rows, GgufWriter* out);

// The regular expression that GGUF's pre-tokenizer `pre` (gpt-2, llama-bpe, qwen2, gpt-4o, tekken) has in
// tokenizer.json; empty for others.
std::string_view hf_split_pattern(std::string_view pre);

}  // namespace decant
