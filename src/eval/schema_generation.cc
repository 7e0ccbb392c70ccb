// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "eval/schema_generation.h"

#include <algorithm>
#include <chrono>
#include <ctime>
#include <optional>

#include "constrain/json_machine.h"
#include "constrain/schema_constraint.h"
#include "eval/maskbench.h"
#include "text/tokenizer.h"
#include "text/unicode.h"

namespace decant {
namespace {

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

double cpu_now() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

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
      request.finish_in_time = options_.finish;
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
    KvCache& cache = engine_.cache();
    for (GenerateRequest& request : requests_) request.sequence = cache.create_sequence();
    const Timed with = run();
    for (size_t i = 0; i < requests_.size(); ++i) {
      requests_[i].constraint = nullptr;
      requests_[i].finish_in_time = false;
      requests_[i].end_tokens.clear();
      requests_[i].max_tokens = static_cast<int>(with.results[i].tokens.size());
      // The prompt is there already.
      const int kept = std::min(cache.length(requests_[i].sequence), static_cast<int>(requests_[i].prompt.size()));
      DECANT_TRY_STATUS(cache.truncate(requests_[i].sequence, kept));
    }
    const Timed without = run();
    for (const GenerateRequest& request : requests_) DECANT_TRY_STATUS(cache.remove(request.sequence));
    size_t next = 0;
    for (SchemaAnswer& a : answers_) {
      if (a.refused.empty()) {
        fill(&a, with.results[next]);
        a.seconds = with.seconds[next];
        a.plain_seconds = without.seconds[next];
        a.cpu_seconds = with.cpu_seconds[next];
        a.plain_cpu_seconds = without.cpu_seconds[next];
        ++next;
      }
      DECANT_TRY_STATUS(done(a));
    }
    answers_.clear();
    requests_.clear();
    return {};
  }

 private:
  struct Timed {
    std::vector<GenerateResult> results;
    std::vector<double> seconds, cpu_seconds;  // from the first token to the last
  };

  Timed run() {
    struct Moment {
      double wall, cpu;
    };
    std::vector<std::optional<Moment>> first(requests_.size()), last(requests_.size());
    for (size_t i = 0; i < requests_.size(); ++i) {
      requests_[i].on_token = [&first, &last, i](const Draw&) {
        last[i] = Moment{now(), cpu_now()};
        if (!first[i]) first[i] = last[i];
        return true;
      };
    }
    Timed timed{.results = generate(engine_, requests_), .seconds = {}, .cpu_seconds = {}};
    for (size_t i = 0; i < requests_.size(); ++i) {
      timed.seconds.push_back(last[i] ? last[i]->wall - first[i]->wall : 0);
      timed.cpu_seconds.push_back(last[i] ? last[i]->cpu - first[i]->cpu : 0);
    }
    return timed;
  }

  void fill(SchemaAnswer* a, const GenerateResult& result) {
    if (!result.status.ok()) {
      a->error = result.status.message();
      return;
    }
    StreamDecoder decoder(tokenizer_);
    for (const TokenId t : result.tokens) a->text += decoder.push(t);
    a->text += decoder.flush();
    a->finish = result.finish;
    a->hastened = result.hastened;
    a->tokens = result.tokens.size();
    a->forced = static_cast<size_t>(result.forced_tokens);
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
