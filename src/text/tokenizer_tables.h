// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// What a tokenizer holds. Internal to src/text.
#pragma once

#include <array>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "text/merge_table.h"
#include "text/special_tokens.h"
#include "text/token_table.h"
#include "text/tokenizer.h"

namespace decant {

struct Tokenizer::Tables {
  StringTable texts;   // vocabulary spelling
  StringTable pieces;  // decoded bytes
  StringIndex index;   // of texts
  SpecialTokens special;
  std::vector<TokenKind> kinds;
  std::vector<bool> is_end;

  TokenId find(std::string_view text) const { return index.find(texts, text); }
  bool is_hidden(TokenId id) const { return kinds[id] == TokenKind::kControl || kinds[id] == TokenKind::kUnknown; }
};

// Byte-level BPE's printable characters back to bytes; other characters stay as they are.
void append_printable_decoded(std::string_view text, std::string* out);

struct PreTokenizer;

// merges: "left right" strings in the order of their rank.
class BpeTokenizer final : public Tokenizer {
 public:
  // `name` starts messages.
  static Result<std::unique_ptr<Tokenizer>> make(std::unique_ptr<Tables> tables, const PreTokenizer& pre,
                                                 std::span<const std::string_view> merges, std::string_view name);
  ~BpeTokenizer() override;

 protected:
  void encode_fragment(std::string_view text, bool prefix, bool like_llama_cpp,
                       std::vector<TokenId>* out) const override;

 private:
  struct Merges;
  BpeTokenizer(std::unique_ptr<Tables> tables, std::unique_ptr<Merges> merges);
  struct Scratch;
  void encode_word(std::string_view word, bool like_llama_cpp, Scratch* scratch, std::vector<TokenId>* out) const;
  std::unique_ptr<Merges> merges_;
};

// scores: one per token; higher merges first.
class SpmTokenizer final : public Tokenizer {
 public:
  // `merge_pairs`: if not empty, pairs of tokens by rank, which then merge instead of all that make a token.
  static Result<std::unique_ptr<Tokenizer>> make(std::unique_ptr<Tables> tables, std::vector<float> scores,
                                                 std::span<const int64_t> merge_pairs, bool space_prefix,
                                                 TokenId unknown);

 protected:
  void encode_fragment(std::string_view text, bool prefix, bool like_llama_cpp,
                       std::vector<TokenId>* out) const override;

 private:
  using Tokenizer::Tokenizer;
  struct Text;
  void flush(Text* text, std::vector<TokenId>* out) const;

  std::vector<uint32_t>
      merge_keys_;  // by token: smaller merges first; PairMerger::kNever for tokens that text cannot become
  std::array<bool, 256> precedes_space_{};  // bytes that stand before U+2581 inside some token
  std::array<TokenId, 256> byte_tokens_{};
  MergeTable pairs_;
  bool by_pairs_ = false;
  size_t longest_ = 0;
  bool space_prefix_ = false;
  TokenId unknown_ = kNoToken;
};

}  // namespace decant
