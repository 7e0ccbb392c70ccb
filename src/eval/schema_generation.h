// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// JSONSchemaBench (Geng et al. 2025): for each schema one answer of a model under the schema, and right behind it, for
// comparison, a text of as many tokens after the same prompt without it.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/status.h"
#include "constrain/schema.h"
#include "engine/generate.h"

namespace decant {

class Tokenizer;

struct SchemaGenerationOptions {
  std::string data;  // a folder as MaskBench's
  int every = 1;     // takes each n-th schema
  int limit = 0;     // schemas at most; 0: all
  int parallel = 1;  // answers at a time
  int max_tokens = 512;
  bool finish = false;      // answers end within max_tokens, as far as completions are known
  int prompt_chars = 1500;  // of a schema, at most, in its prompt
  SchemaOptions schema = {};
  SamplerOptions sampler;
  std::vector<TokenId> end_tokens;
  // The prompt's tokens for what the user asks.
  std::function<Result<std::vector<TokenId>>(const std::string& text)> encode;
};

struct SchemaAnswer {
  std::string id, schema;
  std::string refused;  // why the schema is, or ""
  std::string error;    // why there is no answer, or ""
  std::string text;
  FinishReason finish = FinishReason::kLength;
  bool valid = false;     // the text, followed byte by byte and not by masks, is a whole value
  bool hastened = false;  // tokens were kept back so that it ends in time
  size_t tokens = 0;
  size_t forced = 0;  // of the tokens, those that took no step of the model
  double compile_seconds = 0;
  // From the first token to the last, with the constraint and without, beside the same others.
  double seconds = 0, plain_seconds = 0;
  // Likewise in processor time of all threads, which other programs disturb less.
  double cpu_seconds = 0, plain_cpu_seconds = 0;
};

// Calls `done` for each schema; its failure ends the run.
Status run_schema_generation(Engine& engine, const Tokenizer& tokenizer, const SchemaGenerationOptions& options,
                             const std::function<Status(const SchemaAnswer&)>& done);

}  // namespace decant
