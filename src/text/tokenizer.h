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
#include <utility>
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
  // Recognize special tokens written out in the text ("<|im_end|>"). Off for text that users supply. (User-defined
  // tokens, such as Gemma's "\n\n" and "<table>", are ordinary text and are recognized either way.)
  bool parse_special = false;
  // What no tokenizer of the field keeps: byte-level BPE elsewhere reads each byte that is not UTF-8 as U+FFFD and an
  // overlong form as what it stands for; SentencePiece reads U+2581 as a space. Off: such bytes are kept, decode()
  // gives them back. On: token for token what llama.cpp does with them. For valid UTF-8 without U+2581 both are the
  // same. (For the tokenizer of a checkpoint folder the other program is Hugging Face's tokenizers.)
  bool like_llama_cpp = false;
};

// A stretch of text with its own rule for special tokens.
struct TextPart {
  std::string_view text;
  bool parse_special;
};

class Tokenizer {
 public:
  // Reads tokenizer.ggml.* . kUnsupported for a model or pre-tokenizer that Decant does not have (named in the
  // message), kCorrupt for tables that contradict each other, kNotFound for a file without a vocabulary.
  static Result<std::shared_ptr<const Tokenizer>> from_gguf(const GgufFile& file);

  virtual ~Tokenizer();

  // Any bytes are accepted, invalid UTF-8 included. kInvalidArgument only for texts over 2^31 bytes.
  Result<std::vector<TokenId>> encode(std::string_view text, const EncodeOptions& options = {}) const;
  // Encodes the parts as the one text that they make together, except that a special token is recognized only where it
  // lies within one part with parse_special (options.parse_special is not used): a template's markers are, a user's
  // text is not.
  Result<std::vector<TokenId>> encode(std::span<const TextPart> parts, const EncodeOptions& options = {}) const;

  // The bytes that a token stands for; control tokens give their text only when `special` is true, else "". Empty for
  // ids out of range.
  std::string_view piece(TokenId token, bool special = false) const;

  // Concatenated pieces; for SentencePiece vocabularies with a space prefix the spaces that encode added (at the start
  // and after each special token) are removed. decode(encode(t)) == t, byte for byte, for any bytes t without special
  // tokens, and with `special` for any t at all, as long as the vocabulary has tokens for all bytes (SmolLM2's has none
  // for 0x04, 0x06, 0x13, 0x14, 0x16, 0x1D and for 15 bytes that are rare or impossible in UTF-8; encode drops these as
  // llama.cpp does).
  std::string decode(std::span<const TokenId> tokens, bool special = false) const;

  int vocab_size() const { return vocab_size_; }
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
  // tokenizer.chat_template.NAME for each NAME of tokenizer.chat_templates: name and text.
  const std::vector<std::pair<std::string, std::string>>& named_chat_templates() const { return named_chat_templates_; }

 protected:
  struct Tables;  // tokenizer_tables.h

  explicit Tokenizer(std::unique_ptr<Tables> tables);

  // Appends the tokens of a fragment (never empty) that holds no special token. `prefix`: it starts the text or follows
  // a special token, where SentencePiece may put a space.
  virtual void encode_fragment(std::string_view text, bool prefix, bool like_llama_cpp,
                               std::vector<TokenId>* out) const = 0;

  std::unique_ptr<Tables> tables_;

 private:
  friend class TokenizerLoader;

  int vocab_size_ = 0;
  TokenId bos_ = kNoToken, eos_ = kNoToken, eot_ = kNoToken;
  // What Hugging Face's tokenizers do and GGUF has no keys for (formats/hf_tokenizer.h).
  enum class SpacePrefix : uint8_t {
    kEach,          // GGUF's: at the start and after each special token
    kEachWithout,   // likewise, unless the text there begins with a space
    kFirstWithout,  // only at the start, unless it begins with a space
  };
  SpacePrefix prefix_rule_ = SpacePrefix::kEach;
  bool leftmost_ = false;  // special tokens from left to right instead of longest first
  bool nfc_ = false;       // text is composed (Unicode NFC) first

  bool add_bos_ = false, add_eos_ = false, space_prefix_ = false;
  std::string algorithm_, pre_, chat_template_;
  std::vector<std::pair<std::string, std::string>> named_chat_templates_;
};

// Turns a stream of tokens into a stream of text that never ends inside a UTF-8 character. A value: a copy is a fork.
// What comes out is the concatenated pieces: the answer continues a prompt, so no leading space is removed.
class StreamDecoder {
 public:
  // `tokenizer` must outlive the decoder.
  explicit StreamDecoder(const Tokenizer& tokenizer, bool special = false)
      : tokenizer_(&tokenizer), special_(special) {}

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
