// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "cli/align.h"

#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "base/hash.h"
#include "base/spec.h"
#include "cli/constraint.h"
#include "engine/align.h"

namespace decant::cli {
namespace {

Json number(double x) { return std::isfinite(x) ? Json(x) : Json(nullptr); }

// What was drawn so far.
struct Drawn {
  struct Spellings {
    int count = 0;
    std::map<std::vector<TokenId>, double> log_p;  // of each sequence of tokens that came
  };
  std::vector<AlignedSample> samples;
  std::vector<std::string> texts;
  std::map<std::string, Spellings> by_text;
};

Json sample_json(const AlignedSample& s, const std::string& text) {
  return {{"text", text},
          {"tokens", s.tokens},
          {"log_p", number(s.log_p)},
          {"log_q", number(s.log_q)},
          {"attempts", s.attempts},
          {"rejected", s.attempts - 1},
          {"steps", s.steps},
          {"forward_passes", s.forward_passes},
          {"log_c_root", number(s.log_c)},
          {"c_root", std::exp(s.log_c)}};
}

Json report_of(const RunOptions& options, const Session& session, const GenerateRequest& request,
               const AlignedSampler& sampler, const Drawn& drawn, const Status& status, double seconds) {
  const AlignmentTrie& trie = sampler.trie();
  Json report;
  report["model"] = session.path;
  report["align"] = align_mode_name(options.align->mode);
  report["batch"] = options.align->batch;
  report["prompt_tokens"] = request.prompt.size();
  report["budget"] = sampler.budget();
  report["seed"] = request.sampler.seed;
  int64_t attempts = 0, steps = 0, passes = 0;
  Json& samples = report["samples"] = Json::array();
  for (size_t i = 0; i < drawn.samples.size(); ++i) {
    const AlignedSample& s = drawn.samples[i];
    attempts += s.attempts, steps += s.steps, passes += s.forward_passes;
    samples.push_back(sample_json(s, drawn.texts[i]));
  }
  // Several sequences of tokens may spell one text: its probability is their sum, and those that came are a part of it.
  Json& texts = report["texts"] = Json::array();
  for (const auto& [text, spellings] : drawn.by_text) {
    double p = 0;
    for (const auto& [tokens, log_p] : spellings.log_p) p += std::exp(log_p - trie.log_c());
    texts.push_back(
        {{"text", text}, {"count", spellings.count}, {"spellings", spellings.log_p.size()}, {"conditional", p}});
  }
  report["attempts"] = attempts;
  report["rejected"] = attempts - static_cast<int64_t>(drawn.samples.size());
  report["steps"] = steps;
  report["forward_passes"] = passes;
  report["log_c_root"] = number(trie.log_c());
  report["c_root"] = std::exp(trie.log_c());
  report["one_minus_c_root"] = -std::expm1(trie.log_c());
  report["trie"] = {{"nodes", trie.size()},
                    {"full", trie.full()},
                    {"exact", trie.exact(AlignmentTrie::kRoot)},
                    {"attempts", trie.attempts()},
                    {"accepted", trie.accepted()}};
  report["stopped"] =
      status.ok() ? Json(nullptr) : Json(status.code() == Code::kCancelled ? "interrupted" : status.message());
  report["timings"] = {{"load_s", session.load_seconds}, {"draw_s", seconds}};
  return report;
}

bool exists(const std::string& path) {
  struct stat info;
  return ::stat(path.c_str(), &info) == 0;
}

// What the constraint is made of: the options, with the content of the files that they name.
std::string grammar_text(const ConstraintOptions& c) {
  std::string text = c.schema.lenient ? "lenient\n" : "";
  if (!c.schema.assert_formats.value_or(true)) text += "format annotation\n";
  if (c.schema.property_order == PropertyOrder::kSchema) text += "property-order schema\n";
  if (!c.schema.folder.empty()) text += fmt::format("schema-dir {}\n", c.schema.folder);
  const auto add = [&](const char* name, const std::vector<std::string>& values) {
    for (const std::string& value : values) {
      const Result<std::string> file = exists(value) ? read_file(value) : value;
      const std::string& content = file.ok() ? *file : value;
      text += fmt::format("{} {} {}\n", name, content.size(), content);
    }
  };
  add("json-schema", c.json_schemas);
  add("regex", c.patterns);
  add("grammar", c.grammars);
  add("choice", c.choices);
  add("not-regex", c.not_patterns);
  add("not-choice", c.not_choices);
  if (!c.tools.empty() && c.tool_choice != "none") {
    add("tools", {c.tools});
    text += fmt::format("{} {}\n", c.tool_choice, c.tool_format);
  }
  return text;
}

// The key's fields that the session and the constraint decide.
std::vector<std::pair<std::string, std::string>> alignment_key(const Tokenizer& tokenizer, const std::string& grammar) {
  uint64_t hash = kFnvStart;
  for (TokenId t = 0; t < tokenizer.vocab_size(); ++t) {
    const std::string_view piece = tokenizer.piece(t, true);
    const auto size = static_cast<uint32_t>(piece.size());
    hash = fnv1a({reinterpret_cast<const char*>(&size), sizeof(size)}, hash);
    hash = fnv1a(piece, hash);
  }
  return {{"tokenizer", fmt::format("{} tokens, {:016x}", tokenizer.vocab_size(), hash)}, {"grammar", grammar}};
}

}  // namespace

Result<AlignChoice> parse_align(std::string_view text) {
  DECANT_TRY(const Spec spec, parse_spec(text));
  AlignChoice choice;
  DECANT_TRY(choice.mode, parse_align_mode(spec.name));
  DECANT_TRY_STATUS(read_settings(spec, {{"samples", 1, 1 << 28, &choice.samples},
                                         {"batch", 1, 4096, &choice.batch},
                                         {"attempts", 1, int64_t{1} << 40, &choice.attempts},
                                         {"nodes", 1, int64_t{1} << 31, &choice.nodes}}));
  return choice;
}

Status run_aligned(const RunOptions& options, Session& session, GenerateRequest request, JsonReport* report) {
  const AlignChoice& choice = *options.align;
  const auto begin = std::chrono::steady_clock::now();
  const InterruptFlag interrupt;
  const std::shared_ptr<Constraint> constraint = request.constraint;
  const size_t warnings = constraint->warnings().size();
  request.max_tokens = options.answer.predict;
  request.overlays = session.overlays;
  request.end_tokens = end_tokens(*session.tokenizer);
  Result<std::unique_ptr<AlignedSampler>> made =
      AlignedSampler::create(*session.engine, request,
                             {.mode = choice.mode,
                              .batch = static_cast<int>(choice.batch),
                              .max_attempts = choice.attempts,
                              .max_nodes = static_cast<size_t>(choice.nodes),
                              .key = alignment_key(*session.tokenizer, grammar_text(options.constraint)),
                              .cancel = interrupt.flag()});
  if (!made.ok()) return std::move(made).status();
  AlignedSampler& sampler = **made;
  if (exists(options.align_trie)) {
    Status loaded = sampler.load(options.align_trie);
    if (!loaded.ok()) return std::move(loaded).with_context("--align-trie");
  }
  Drawn drawn;
  Status status;
  Progress progress;
  while (static_cast<int64_t>(drawn.samples.size()) < choice.samples) {
    Result<AlignedSample> sample = sampler.next();
    if (!sample.ok()) {
      status = std::move(sample).status();
      break;
    }
    std::string text;
    for (const TokenId t : sample->tokens) text += session.tokenizer->piece(t, true);
    Drawn::Spellings& spellings = drawn.by_text[text];
    ++spellings.count;
    spellings.log_p[sample->tokens] = sample->log_p;
    progress.clear();
    if (!report->to_stdout()) DECANT_TRY_STATUS(write_stdout(text + "\n"));
    drawn.texts.push_back(std::move(text));
    drawn.samples.push_back(*std::move(sample));
    progress.show(fmt::format("{} of {} answers; P(language) is at most {:.3g}", drawn.samples.size(), choice.samples,
                              std::exp(sampler.trie().log_c())));
  }
  progress.clear();
  write_warnings(*constraint, warnings);
  if (!options.align_trie.empty()) DECANT_TRY_STATUS(sampler.save(options.align_trie));
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  if (drawn.samples.empty() && !status.ok()) return status;
  DECANT_TRY_STATUS(report->write(report_of(options, session, request, sampler, drawn, status, seconds)));
  if (sampler.trie().full()) {
    write_note(fmt::format("note: the trie is full at {} prefixes; answers no longer get closer (--align {}(nodes=N))",
                           sampler.trie().size(), align_mode_name(choice.mode)));
  }
  if (options.model.verbose || (::isatty(STDERR_FILENO) == 1 && ::isatty(STDOUT_FILENO) == 1)) {
    int64_t attempts = 0, passes = 0;
    for (const AlignedSample& s : drawn.samples) attempts += s.attempts, passes += s.forward_passes;
    write_note(fmt::format("[{} answers of {} begun, {} rows of the model; P(language) is at most {:.3g}; seed {}]",
                           drawn.samples.size(), attempts, passes, std::exp(sampler.trie().log_c()),
                           request.sampler.seed));
  }
  return status;
}

}  // namespace decant::cli
