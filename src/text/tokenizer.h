// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Text to tokens and back. The tokenizer is read from the model file; it is immutable and thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace decant {

class GgufFile;

using TokenId = int32_t;
inline constexpr TokenId kNoToken = -1;

// GGUF's tokenizer.ggml.token_type.
enum class TokenKind : uint8_t { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };

struct EncodeOptions {
  // Add the beginning (and end) tokens that the model file asks for.
  bool add_special = true;
  // Recognize special tokens written out in the text ("<|im_end|>"). Off for text that users supply.
  bool parse_special = false;
};

class Tokenizer {
 public:
  // Reads tokenizer.ggml.* . kUnsupported for a model or pre-tokenizer that Decant does not have (named in the message),
  // kCorrupt for tables that contradict each other, kNotFound for a file without a vocabulary.
  static Result<std::shared_ptr<const Tokenizer>> from_gguf(const GgufFile& file);

  virtual ~Tokenizer() = default;

  // Any bytes are accepted, invalid UTF-8 included. kInvalidArgument only for texts over 2^31 bytes.
  Result<std::vector<TokenId>> encode(std::string_view text, const EncodeOptions& options = {}) const;

  // The bytes that a token stands for; control tokens give their text only when `special` is true, else "". Empty for ids out
  // of range.
  std::string_view piece(TokenId token, bool special = false) const;

  // Concatenated pieces; for SentencePiece vocabularies with a space prefix the one leading space that encode added is removed.
  // For text t without special tokens, decode(encode(t)) == t, byte for byte.
  std::string decode(std::span<const TokenId> tokens, bool special = false) const;

  int vocab_size() const { return static_cast<int>(tokens_.size()); }
  TokenId bos() const { return bos_; }  // kNoToken if the model has none; likewise below
  TokenId eos() const { return eos_; }
  TokenId eot() const { return eot_; }
  bool adds_bos() const { return add_bos_; }
  bool adds_eos() const { return add_eos_; }
  // Ends an answer: eos, eot and the other end-of-generation tokens that the file names or that are known by their text
  // ("<|im_end|>", "<end_of_turn>", "<|eot_id|>", ...).
  bool is_end(TokenId token) const;
  TokenKind kind(TokenId token) const;
  // The token's text as the vocabulary spells it (not decoded).
  std::string_view text(TokenId token) const;
  // The token whose vocabulary text is exactly `text`, or kNoToken.
  TokenId find(std::string_view text) const;
  // "bpe" or "spm", and the pre-tokenizer's name.
  std::string_view algorithm() const { return algorithm_; }
  std::string_view pre_tokenizer() const { return pre_; }
  // tokenizer.chat_template, or "".
  const std::string& chat_template() const { return chat_template_; }

 protected:
  // Appends the tokens of a fragment that holds no special token. `first`: the fragment starts the text.
  virtual void encode_fragment(std::string_view text, bool first, std::vector<TokenId>* out) const = 0;

  struct Tables;  // defined in tokenizer.cc
  std::unique_ptr<Tables> tables_;
  std::vector<std::string> tokens_;  // vocabulary spelling
  std::vector<std::string> pieces_;  // decoded bytes
  std::vector<TokenKind> kinds_;
  std::vector<bool> is_end_;
  TokenId bos_ = kNoToken, eos_ = kNoToken, eot_ = kNoToken;
  bool add_bos_ = false, add_eos_ = false, space_prefix_ = false;
  std::string algorithm_, pre_, chat_template_;
};

// Turns a stream of tokens into a stream of text that never ends inside a UTF-8 character. A value: a copy is a fork.
class StreamDecoder {
 public:
  // `tokenizer` must outlive the decoder.
  explicit StreamDecoder(const Tokenizer& tokenizer, bool special = false) : tokenizer_(&tokenizer), special_(special) {}

  // Bytes that are complete after `token`: whole characters, and invalid bytes once they cannot become part of one.
  std::string push(TokenId token);
  // What is still held back (an incomplete character at the end of the stream), as it stands.
  std::string flush();

 private:
  const Tokenizer* tokenizer_;
  bool special_;
  std::string held_;
};

}  // namespace decant
