// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// A model that is ready to run: what `run`, `chat`, `perplexity` and `bench` begin with.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "cli/common.h"
#include "engine/engine.h"
#include "engine/generate.h"
#include "model/overlay.h"
#include "speculate/profile.h"
#include "speculate/registry.h"
#include "text/chat.h"
#include "text/tokenizer.h"

namespace decant::cli {

// What a session needs room for. 0: ModelOptions::context, else the model's own context length.
struct SessionNeeds {
  int context = 0;   // tokens of all sequences together
  int max_rows = 0;  // rows of a step; 0: the prefill chunk
};

struct Session {
  std::string path;
  std::unique_ptr<Device> device;
  std::shared_ptr<const Tokenizer> tokenizer;
  std::shared_ptr<const Model> model;
  std::unique_ptr<Engine> engine;
  std::vector<std::shared_ptr<const Overlay>> overlays;  // --lora
  double load_seconds = 0;

  // Checks every option against what the file and the machine have, then loads, with progress on a terminal.
  static Result<Session> open(const ModelOptions& options, const SessionNeeds& needs = {});
};

// The device that the options name.
Result<std::unique_ptr<Device>> make_device(const ModelOptions& options);

// The chat template that the options name, or the model's, ready to encode conversations. `chat` is nullptr for a model
// without a template.
struct Prompter {
  std::unique_ptr<ChatTemplate> chat;
  std::shared_ptr<const Json> variables;  // --chat-template-kwargs

  static Result<Prompter> open(const AnswerOptions& options, const Tokenizer& tokenizer);
  // The conversation up to where the answer begins. `tools`: for the template, may be nullptr.
  Result<std::vector<TokenId>> encode(const std::vector<ChatMessage>& messages, const Json* tools = nullptr) const;
};

// Tokens that end an answer.
std::vector<TokenId> end_tokens(const Tokenizer& tokenizer);

// The request's sampling settings with all that the session decides: seed (drawn when none was given), end tokens,
// breakers, context.
Result<SamplerOptions> sampler_options(const AnswerOptions& options, const Session& session);

// A draft method, or auto, and a verifier for the session's model.
Result<Speculation> open_speculation(const std::string& draft, const std::string& verifier, const Session& session,
                                     DraftControl* control = nullptr);

// Where `decant tune` keeps what it finds out.
Result<std::string> profile_path(const DraftProfile& key);

// The draft method and verifier that the options name, for the session's model; what is measured of them lives as long.
struct Drafting {
  Speculation speculation;
  std::shared_ptr<DraftControl> control = std::make_shared<DraftControl>();

  static Result<Drafting> open(const DraftOptions& options, const Session& session);
  void apply(const DraftOptions& options, GenerateRequest* request) const;
};

// An answer that is being written: decodes tokens, looks for stop strings, hands over text that is final.
struct Answer {
  std::string text;
  GenerateResult result;
};
// `write` gets the text as it comes; its failure ends the answer and is returned.
Result<Answer> answer(Session& session, GenerateRequest request, const AnswerOptions& options, int prefill_chunk,
                      const std::function<Status(std::string_view)>& write);

// "prompt 12 tokens, 1930 tokens/s; answer 57 tokens, 210 tokens/s; seed 1234"
std::string summary(const GenerateRequest& request, const GenerateResult& result);

// Tokens a second, 0 when that cannot be told.
double rate(double tokens, double seconds);

// The bytes of a token as a JSON string; bytes that are not UTF-8 become U+FFFD.
std::string token_text(const Tokenizer& tokenizer, TokenId token);

}  // namespace decant::cli
