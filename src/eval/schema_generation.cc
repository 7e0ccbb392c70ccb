// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "eval/schema_generation.h"

#include <chrono>

#include "constrain/json_machine.h"
#include "constrain/schema_constraint.h"
#include "eval/maskbench.h"
#include "text/tokenizer.h"
#include "text/unicode.h"

namespace decant {
namespace {

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

std::string question(const std::string& schema, int max_chars) {
  size_t end = std::min(schema.size(), static_cast<size_t>(max_chars));
  while (end > 0 && end < schema.size() && (static_cast<uint8_t>(schema[end]) & 0xC0) == 0x80) --end;
  return "Give an example of a JSON value that is valid for this JSON Schema. Answer with the JSON alone, on one "
         "line.\n\n" +
         schema.substr(0, end);
}

bool is_valid(const std::string& schema_text, const SchemaOptions& options, const std::string& text) {
  const auto schema = Schema::parse(schema_text, "schema", options);
  if (!schema.ok()) return false;
  JsonMachine machine(*schema);
  std::optional<JsonState> state = machine.start();
  for (size_t i = 0; state && i < text.size(); ++i) state = machine.step(*state, static_cast<uint8_t>(text[i]));
  return state && machine.accepting(*state);
}

// Some schemas whose answers are written side by side.
class Group {
 public:
  Group(Engine& engine, const Tokenizer& tokenizer, const SchemaGenerationOptions& options)
      : engine_(engine), tokenizer_(tokenizer), options_(options) {}

  size_t size() const { return answers_.size(); }

  Status add(const BenchmarkSchema& schema, const std::shared_ptr<const JsonVocabulary>& vocabulary) {
    SchemaAnswer out{.id = schema.id, .schema = schema.text};
    const double begin = now();
    auto constraint = compile_json_schema(schema.text, "schema", options_.schema, vocabulary);
    out.compile_seconds = now() - begin;
    if (constraint.ok()) {
      GenerateRequest request{.sampler = options_.sampler, .max_tokens = options_.max_tokens};
      DECANT_TRY(request.prompt, options_.encode(question(schema.text, options_.prompt_chars)));
      request.end_tokens = options_.end_tokens;
      request.constraint = *std::move(constraint);
      requests_.push_back(std::move(request));
    } else {
      out.refused = constraint.status().message();
    }
    answers_.push_back(std::move(out));
    return {};
  }

  // Writes all answers, and as many tokens without the constraints.
  Status finish(const std::function<Status(const SchemaAnswer&)>& done) {
    const std::vector<GenerateResult> results = generate(engine_, requests_);
    for (size_t i = 0; i < requests_.size(); ++i) {
      requests_[i].constraint = nullptr;
      requests_[i].end_tokens.clear();
      requests_[i].max_tokens = static_cast<int>(results[i].tokens.size());
    }
    const std::vector<GenerateResult> plain = generate(engine_, requests_);
    size_t next = 0;
    for (SchemaAnswer& a : answers_) {
      if (a.refused.empty()) {
        fill(&a, results[next], plain[next]);
        ++next;
      }
      DECANT_TRY_STATUS(done(a));
    }
    answers_.clear();
    requests_.clear();
    return {};
  }

 private:
  void fill(SchemaAnswer* a, const GenerateResult& result, const GenerateResult& plain) {
    if (!result.status.ok()) {
      a->error = result.status.message();
      return;
    }
    StreamDecoder decoder(tokenizer_);
    for (const TokenId t : result.tokens) a->text += decoder.push(t);
    a->text += decoder.flush();
    a->finish = result.finish;
    a->tokens = result.tokens.size();
    a->seconds = result.decode_seconds;
    a->plain_seconds = plain.decode_seconds;
    a->valid = a->finish == FinishReason::kStop && is_valid(a->schema, options_.schema, a->text);
  }

  Engine& engine_;
  const Tokenizer& tokenizer_;
  const SchemaGenerationOptions& options_;
  std::vector<SchemaAnswer> answers_;
  std::vector<GenerateRequest> requests_;
};

}  // namespace

Status run_schema_generation(Engine& engine, const Tokenizer& tokenizer, const SchemaGenerationOptions& options,
                             const std::function<Status(const SchemaAnswer&)>& done) {
  const auto vocabulary = std::make_shared<const JsonVocabulary>(std::make_shared<const TokenTrie>(tokenizer));
  Group group(engine, tokenizer, options);
  int count = 0;
  const auto run_one = [&](const BenchmarkSchema& schema) -> Status {
    if (options.limit > 0 && count >= options.limit) return {};
    ++count;
    DECANT_TRY_STATUS(group.add(schema, vocabulary));
    return group.size() < static_cast<size_t>(options.parallel) ? Status() : group.finish(done);
  };
  DECANT_TRY_STATUS(for_each_schema(options.data, options.every, run_one));
  return group.finish(done);
}

}  // namespace decant
