// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// A language model: weights on a device, vocabulary and chat template, read from one file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "decant/status.h"

namespace decant {

using TokenId = int32_t;

struct LoadOptions {
  std::string device = "cpu";  // "cpu", or "cuda": the first CUDA device
  int threads = 0;             // of the cpu device, 0 to 256; 0: all that this process may use
  std::string kernels;         // name of a kernel table, see `decant methods`; "": the fastest here
  // Called with the share of bytes loaded, 0 to 1, from the loading thread; at the end with 1. May be empty.
  std::function<void(double share)> on_progress;
};

struct ModelInfo {
  std::string path;
  std::string architecture;    // as the file names it: "llama", "gemma3", ...
  std::string name;            // general.name, or ""
  int layers = 0;              //
  int hidden = 0;              // width of the residual stream
  int vocab_size = 0;          // entries of a row of logits
  int context_length = 0;      // tokens that the model was trained for
  size_t weight_bytes = 0;     // packed weights in device memory
  TokenId bos = -1, eos = -1;  // -1: the vocabulary has none
  std::string device;          // "cpu" or "cuda"
  std::string kernels;         // name of the kernel table in use
  int threads = 0;
};

struct TokenizeOptions {
  bool add_special = true;     // add the beginning (and end) tokens that the model file asks for
  bool parse_special = false;  // recognize special tokens written out in the text; off for text that users supply
};

// One turn of a conversation.
struct Message {
  std::string role;  // "system", "user", "assistant", or another one that the model's template knows
  std::string content;
};

// A handle: copies are cheap and share the model, which is freed with its last handle and its last session. Immutable
// and thread-safe. A moved-from handle may only be assigned to or destroyed.
class LanguageModel {
 public:
  // Loads a GGUF file (of a split set: its first file) or a checkpoint folder with safetensors. kNotFound, kIo: no such
  // file, or it cannot be read; kCorrupt: broken; kUnsupported: a family, type, tokenizer, device or kernel table that
  // this build does not have; kInvalidArgument: an option out of range; kExhausted: it does not fit in memory.
  static Result<LanguageModel> load(const std::string& path, const LoadOptions& options = {});

  LanguageModel(const LanguageModel&);
  LanguageModel(LanguageModel&&) noexcept;
  LanguageModel& operator=(const LanguageModel&);
  LanguageModel& operator=(LanguageModel&&) noexcept;
  ~LanguageModel();

  const ModelInfo& info() const;

  // Any bytes are accepted. kInvalidArgument for more than 2^31 bytes.
  Result<std::vector<TokenId>> tokenize(std::string_view text, const TokenizeOptions& options = {}) const;
  // The text of the tokens; control tokens count only with `special`. Ids out of range give nothing. Without them
  // detokenize(tokenize(t)) is t, byte for byte, if the vocabulary has tokens for all of its bytes.
  std::string detokenize(std::span<const TokenId> tokens, bool special = false) const;
  // The bytes of one token, which may end inside a character; valid as long as the model. "" for ids out of range.
  std::string_view token_bytes(TokenId token) const;
  // Whether the token ends an answer.
  bool is_end(TokenId token) const;

  bool has_chat_template() const;
  // The conversation in the model's chat template, up to where the assistant's answer begins. The content of messages
  // is data: special tokens written out in it stay text. kUnsupported if the model has no template or one that Decant
  // does not know; kInvalidArgument for roles that the template does not take in this order.
  Result<std::vector<TokenId>> chat_prompt(const std::vector<Message>& messages) const;

 private:
  friend class Adapter;
  friend class CompiledStructure;
  friend class Session;
  friend class TokenSampler;
  struct Impl;
  explicit LanguageModel(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

// A LoRA adapter of one model: y = W x + s * B (A x). The model is not changed; each request of a batch, and each
// sequence of a step, names the adapters that change it, which add up. A handle: copies share the factors. Immutable
// and thread-safe.
class Adapter {
 public:
  // `path`: a GGUF adapter, a PEFT folder or its safetensors file. The change is multiplied by `scale`. kNotFound;
  // kCorrupt: broken, or made for another model; kUnsupported: DoRA, or a layer that cannot be changed.
  static Result<Adapter> load(const LanguageModel& model, const std::string& path, float scale = 1.0f);

  const std::string& path() const;

 private:
  friend class Session;
  struct Impl;
  explicit Adapter(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
  std::shared_ptr<const Impl> impl_;
};

}  // namespace decant
