// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// The model that is served, and how a request that was read becomes one for the engine: prompt, constraint, drafts.
#pragma once

#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "constrain/constraint.h"
#include "constrain/json_vocabulary.h"
#include "engine/generate.h"
#include "serve/chat_splitter.h"
#include "serve/openai_request.h"
#include "speculate/registry.h"
#include "text/chat.h"
#include "text/tokenizer.h"

namespace decant {
struct AlignOptions;
}

namespace decant::serve {

struct ServedAdapter {
  std::string name;
  std::shared_ptr<const Overlay> overlay;
};

// How answers are drafted.
struct ServedDraft {
  Speculation speculation;
  std::shared_ptr<DraftControl> control;
};

struct ServedModelOptions {
  std::string name;
  std::shared_ptr<const Tokenizer> tokenizer;
  std::shared_ptr<const ChatTemplate> chat;       // null: the model has none
  std::string template_text, tool_template_text;  // of the default template and of the one that takes tools
  Json template_variables;                        // an object or null
  std::vector<ServedAdapter> adapters;
  std::vector<TokenId> end_tokens;
  SamplerOptions sampler;  // where requests say nothing
  int context = 0;         // tokens of one request and its answer
  int hidden = 0;          // of embeddings
  int vocab_size = 0;      // of the model's rows
  ServedDraft draft;       // where requests name none
  int draft_nodes = 0;
  // For requests that name one. Drafts that name files are refused before.
  std::function<Result<Speculation>(const std::string& draft, const std::string& verifier)> speculate;
};

// A request for the engine, and what its answer is read with.
struct PreparedAnswer {
  GenerateRequest generate;                   // on_token is not set
  std::string prompt_text;                    // for echo
  std::vector<TokenId> shown_control_tokens;  // those whose text belongs to the answer
  ChatSplitterOptions splitter;
  std::shared_ptr<const AlignOptions> align;  // null: answers are not aligned
};

class ServedModel {
 public:
  explicit ServedModel(ServedModelOptions options);

  const ServedModelOptions& options() const { return options_; }
  const Tokenizer& tokenizer() const { return *options_.tokenizer; }
  // "model" and "model:adapter" for each adapter.
  std::vector<std::string> names() const;

  // All thread-safe; none is quick.
  Problem prepare(const ChatRequest& request, PreparedAnswer* out);
  Problem prepare(const CompletionRequest& request, const PromptInput& prompt, PreparedAnswer* out);
  Problem prepare(const EmbeddingRequest& request, const PromptInput& input, PreparedAnswer* out);
  Problem encode_chat(const ChatRequest& request, std::vector<TokenId>* out) const;

 private:
  Problem find_overlays(const std::string& model, const std::vector<std::string>& lora,
                        std::vector<std::shared_ptr<const Overlay>>* out) const;
  Problem prepare_common(const GenerationFields& fields, GenerateRequest* out);
  Problem prepare_align(const GenerationFields& fields, PreparedAnswer* out) const;
  Problem prepare_draft(const GenerationFields& fields, GenerateRequest* out);
  Problem check_length(size_t tokens, const char* param) const;
  Problem encode(const PromptInput& input, const char* param, std::vector<TokenId>* out) const;
  Result<std::shared_ptr<Constraint>> compile(const ConstraintSpec& spec);
  Result<std::shared_ptr<Constraint>> compile_calls(const ChatRequest& request, const ToolFormat& format);
  Result<std::shared_ptr<Constraint>> behind_reasoning(std::shared_ptr<Constraint> content);
  Result<std::shared_ptr<Constraint>> remembered(const std::string& key,
                                                 const std::function<Result<std::shared_ptr<Constraint>>()>& make);
  std::shared_ptr<const JsonVocabulary> vocabulary();

  const ServedModelOptions options_;
  const std::optional<ToolFormat> tool_format_;
  const bool reasons_;

  std::once_flag vocabulary_made_;
  std::shared_ptr<const JsonVocabulary> vocabulary_;

  std::mutex mutex_;  // of what follows
  // Compiled constraints, most recently used first.
  struct Entry {
    std::string key;
    std::shared_ptr<Constraint> constraint;
  };
  std::list<Entry> entries_;
  std::unordered_map<std::string, std::list<Entry>::iterator> by_key_;
  // Draft methods that requests have named; the one that was not used for longest makes room.
  struct NamedDraft {
    ServedDraft draft;
    uint64_t used = 0;
  };
  std::unordered_map<std::string, NamedDraft> drafts_;
  uint64_t uses_ = 0;
};

}  // namespace decant::serve
