// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include <map>
#include <nlohmann/json.hpp>

#include "base/mapped_file.h"
#include "cli/align.h"
#include "cli/common.h"
#include "cli/comparison.h"
#include "cli/constraint.h"
#include "cli/models.h"
#include "cli/session.h"
#include "constrain/token_trie.h"
#include "eval/maskbench.h"
#include "eval/schema_generation.h"
#include "eval/schema_suite.h"
#include "eval/schema_walk.h"
#include "model/checkpoint.h"
#include "text/tokenizer.h"

namespace decant::cli {
namespace {

Json json_of(const Percentiles& p) {
  return {{"mean", p.mean}, {"p50", p.p50}, {"p90", p.p90}, {"p99", p.p99}, {"p99.9", p.p999}, {"max", p.max}};
}

std::string line_of(const char* name, const Percentiles& p, double scale) {
  return fmt::format("{:<24}{:>10.1f}{:>10.1f}{:>10.1f}{:>10.1f}{:>10.1f}{:>10.1f}\n", name, p.mean / scale,
                     p.p50 / scale, p.p90 / scale, p.p99 / scale, p.p999 / scale, p.max / scale);
}

Status write_line(const Json& json, AtomicFile* file) {
  const std::string line = json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  return file->write({reinterpret_cast<const uint8_t*>(line.data()), line.size()});
}

// What another program needs to do the same work: a first line with the vocabulary, then a line for each schema.
Json samples_head(const Tokenizer& tokenizer) {
  const TokenTrie trie(tokenizer);
  Json head{{"vocabulary", Json::array()}, {"end_tokens", Json::array()}};
  for (TokenId t = 0; t < tokenizer.vocab_size(); ++t) {
    std::string hex;
    for (const char c : trie.bytes_of(t)) hex += fmt::format("{:02x}", static_cast<uint8_t>(c));
    head["vocabulary"].push_back(std::move(hex));
    if (tokenizer.is_end(t)) head["end_tokens"].push_back(t);
  }
  return head;
}

Json sample(const BenchmarkSchema& schema, const MaskbenchSchema& s) {
  Json line{{"id", s.id},
            {"schema", schema.text},
            {"refused", s.refused.empty() ? Json(nullptr) : Json(s.refused)},
            {"compile_us", s.compile_us},
            {"first_mask_us", s.first_mask_us},
            {"instances", Json::array()}};
  for (const MaskbenchInstance& i : s.instances) {
    line["instances"].push_back(
        {{"valid", i.valid}, {"tokens", i.tokens}, {"mask_us", i.mask_us}, {"taken", i.taken}, {"whole", i.whole}});
  }
  return line;
}

Status maskbench(const EvalOptions& options, JsonReport* report) {
  DECANT_TRY(const std::string path, resolve_model(options.model.model));
  DECANT_TRY(const GgufFile file, open_model(path));
  DECANT_TRY(const std::shared_ptr<const Tokenizer> tokenizer, Tokenizer::from_gguf(file));
  std::optional<AtomicFile> samples;
  if (!options.samples.empty()) {
    DECANT_TRY(AtomicFile created, AtomicFile::create(options.samples));
    samples.emplace(std::move(created));
    DECANT_TRY_STATUS(write_line(samples_head(*tokenizer), &*samples));
  }
  Progress progress;
  size_t finished = 0;
  const auto done = [&](const BenchmarkSchema& schema, const MaskbenchSchema& s) -> Status {
    if (++finished % 100 == 0) progress.show(fmt::format("{} schemas", finished));
    if (!samples) return {};
    return write_line(sample(schema, s), &*samples);
  };
  Result<MaskbenchReport> run =
      run_maskbench(*tokenizer, options.data, options.every, schema_options(options.schema), done);
  progress.clear();
  if (!run.ok()) return std::move(run).status();
  if (samples) DECANT_TRY_STATUS(samples->commit());
  const MaskbenchReport& r = *run;
  Json json;
  json["summary"] = {{"schemas", r.schemas.size()},
                     {"passing", r.passing},
                     {"passing_strict", r.passing_strict},
                     {"refused", r.refused},
                     {"invalid_accepted", r.invalid_accepted},
                     {"valid_rejected", r.valid_rejected},
                     {"compile_us", json_of(r.compile_us)},
                     {"first_mask_us", json_of(r.first_mask_us)},
                     {"mask_us", json_of(r.mask_us)},
                     {"bytes", json_of(r.bytes)},
                     {"vocabulary_us", r.vocabulary_us},
                     {"vocabulary_bytes", r.vocabulary_bytes}};
  Json& rows = json["schemas"] = Json::array();
  for (const MaskbenchSchema& s : r.schemas) {
    rows.push_back({{"id", s.id},
                    {"refused", s.refused.empty() ? Json(nullptr) : Json(s.refused)},
                    {"compile_us", s.compile_us},
                    {"first_mask_us", s.first_mask_us},
                    {"mask_us", json_of(percentiles_of(s.mask_us))},
                    {"bytes", s.bytes},
                    {"valid", s.valid},
                    {"invalid", s.invalid},
                    {"valid_rejected", s.valid_rejected},
                    {"invalid_accepted", s.invalid_accepted},
                    {"valid_rejected_strict", s.valid_rejected_strict},
                    {"invalid_accepted_strict", s.invalid_accepted_strict}});
  }
  DECANT_TRY_STATUS(report->write(json));
  if (report->to_stdout()) return {};
  const auto share = [&](int n) { return r.schemas.empty() ? 0.0 : 100.0 * n / static_cast<double>(r.schemas.size()); };
  std::string text = fmt::format(
      "{} schemas: {} pass ({:.1f} %), strictly {} ({:.1f} %), {} refused; {} valid instances rejected, {} invalid "
      "ones accepted\n\n",
      r.schemas.size(), r.passing, share(r.passing), r.passing_strict, share(r.passing_strict), r.refused,
      r.valid_rejected, r.invalid_accepted);
  text += fmt::format("{:<24}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}\n", "", "mean", "p50", "p90", "p99", "p99.9", "max");
  text += line_of("compile (us)", r.compile_us, 1);
  text += line_of("compile, first mask", r.first_mask_us, 1);
  text += line_of("mask and advance (us)", r.mask_us, 1);
  text += line_of("memory (kB)", r.bytes, 1000);
  text += fmt::format("\nvocabulary of {} tokens: tables of {:.1f} MB in {:.0f} ms\n", tokenizer->vocab_size(),
                      static_cast<double>(r.vocabulary_bytes) / 1e6, r.vocabulary_us / 1000);
  return write_stdout(text);
}

Status suite(const EvalOptions& options, JsonReport* report) {
  // What the suite's own reading is: the required tests take formats for annotations.
  const bool assert_formats = options.schema.assert_formats.value_or(options.optional);
  DECANT_TRY(const SuiteReport r, run_schema_suite(options.data, options.draft, options.optional, assert_formats));
  const auto counts = [](const SuiteCounts& c) {
    return Json{
        {"right", c.right}, {"over_constrained", c.over}, {"under_constrained", c.under}, {"refused", c.refused}};
  };
  Json json;
  json["draft"] = options.draft;
  json["summary"] = counts(r.total);
  for (const auto& [keyword, c] : r.by_keyword) json["keywords"][keyword] = counts(c);
  Json& failures = json["failures"] = Json::array();
  for (const SuiteFailure& f : r.failures)
    failures.push_back({{"keyword", f.file}, {"group", f.group}, {"test", f.test}, {"what", f.what}});
  DECANT_TRY_STATUS(report->write(json));
  if (report->to_stdout()) return {};
  std::string text = fmt::format("{:<32}{:>8}{:>8}{:>8}{:>9}\n", "keyword", "right", "over", "under", "refused");
  const auto add = [&](const std::string& name, const SuiteCounts& c) {
    text += fmt::format("{:<32}{:>8}{:>8}{:>8}{:>9}\n", name, c.right, c.over, c.under, c.refused);
  };
  for (const auto& [keyword, c] : r.by_keyword) add(keyword, c);
  add("all", r.total);
  return write_stdout(text);
}

Status schema_walk(const EvalOptions& options, JsonReport* report) {
  DECANT_TRY(const std::string path, resolve_model(options.model.model));
  DECANT_TRY(const GgufFile file, open_model(path));
  DECANT_TRY(const std::shared_ptr<const Tokenizer> tokenizer, Tokenizer::from_gguf(file));
  Json json;
  Json& rows = json["schemas"] = Json::array();
  std::map<std::string, int> counts;
  size_t refused = 0;
  Progress progress;
  const auto done = [&](const SchemaWalks& s) -> Status {
    Json walks = Json::array();
    for (const SchemaWalk& w : s.walks) {
      ++counts[std::string(walk_end_name(w.end))];
      walks.push_back({{"end", walk_end_name(w.end)}, {"text", w.text}});
    }
    refused += !s.refused.empty();
    rows.push_back({{"id", s.id},
                    {"schema", s.schema},
                    {"refused", s.refused.empty() ? Json(nullptr) : Json(s.refused)},
                    {"walks", std::move(walks)},
                    {"accepted", Json::array()}});
    for (const std::optional<bool>& a : s.accepted) rows.back()["accepted"].push_back(a ? Json(*a) : Json(nullptr));
    if (rows.size() % 100 == 0) progress.show(fmt::format("{} schemas", rows.size()));
    return {};
  };
  const SchemaWalkOptions walk{.data = options.data,
                               .every = options.every,
                               .walks = options.walks,
                               .max_tokens = options.answer.predict < 0 ? 200 : options.answer.predict,
                               .seed = options.answer.seed.value_or(1),
                               .schema = schema_options(options.schema)};
  DECANT_TRY_STATUS(run_schema_walks(*tokenizer, walk, done));
  progress.clear();
  const size_t n = rows.size();
  json["summary"] = {{"schemas", n}, {"refused", refused}, {"walks", counts}};  // moves the rows
  DECANT_TRY_STATUS(report->write(json));
  if (report->to_stdout()) return {};
  std::string text = fmt::format("{} schemas, {} refused\n", n, refused);
  for (const auto& [end, count] : counts) text += fmt::format("{:<12}{:>8}\n", end, count);
  return write_stdout(text);
}

Status jsonschemabench(const EvalOptions& options, JsonReport* report) {
  if (options.model.context > (1 << 28) / options.parallel)
    return Status::invalid_argument("-c {} for each of --parallel {} is too much", options.model.context,
                                    options.parallel);
  DECANT_TRY(Session session, Session::open(options.model, {.context = options.model.context * options.parallel}));
  DECANT_TRY(const Prompter prompter, Prompter::open(options.answer, *session.tokenizer));
  SchemaGenerationOptions generation{.data = options.data,
                                     .every = options.every,
                                     .limit = options.limit,
                                     .parallel = options.parallel,
                                     .schema = schema_options(options.schema)};
  if (options.answer.predict >= 0) generation.max_tokens = options.answer.predict;
  generation.finish = options.finish;
  DECANT_TRY(generation.sampler, sampler_options(options.answer, session));
  generation.end_tokens = end_tokens(*session.tokenizer);
  generation.encode = [&](const std::string& text) -> Result<std::vector<TokenId>> {
    if (prompter.chat != nullptr) return prompter.encode({{"user", text}});
    return session.tokenizer->encode(text, {.parse_special = false});
  };
  Json json;
  Json& rows = json["schemas"] = Json::array();
  int refused = 0, finished = 0, hastened = 0, valid = 0, failed = 0;
  double tokens = 0, forced = 0, seconds = 0, plain_seconds = 0, cpu = 0, plain_cpu = 0;
  std::vector<double> ratios, cpu_ratios;
  Progress progress;
  const auto done = [&](const SchemaAnswer& a) -> Status {
    refused += !a.refused.empty();
    failed += !a.error.empty();
    finished += a.finish == FinishReason::kStop;
    hastened += a.finish == FinishReason::kStop && a.hastened;
    valid += a.valid;
    if (a.tokens > 1) {
      tokens += static_cast<double>(a.tokens - 1);
      forced += static_cast<double>(a.forced);
      seconds += a.seconds;
      plain_seconds += a.plain_seconds;
      cpu += a.cpu_seconds;
      plain_cpu += a.plain_cpu_seconds;
      if (a.plain_seconds > 0) ratios.push_back(a.seconds / a.plain_seconds);
      if (a.plain_cpu_seconds > 0) cpu_ratios.push_back(a.cpu_seconds / a.plain_cpu_seconds);
    }
    rows.push_back({{"id", a.id},
                    {"schema", a.schema},
                    {"refused", a.refused.empty() ? Json(nullptr) : Json(a.refused)},
                    {"error", a.error.empty() ? Json(nullptr) : Json(a.error)},
                    {"text", a.text},
                    {"finish_reason", finish_reason_name(a.finish)},
                    {"hastened", a.hastened},
                    {"valid", a.valid},
                    {"tokens", a.tokens},
                    {"forced", a.forced},
                    {"compile_s", a.compile_seconds},
                    {"decode_s", a.seconds},
                    {"decode_without_s", a.plain_seconds},
                    {"decode_cpu_s", a.cpu_seconds},
                    {"decode_without_cpu_s", a.plain_cpu_seconds}});
    progress.show(fmt::format("{} schemas", rows.size()));
    return {};
  };
  DECANT_TRY_STATUS(run_schema_generation(*session.engine, *session.tokenizer, generation, done));
  progress.clear();
  const auto n = static_cast<int>(rows.size());
  const int compiled = n - refused;
  const Percentiles ratio = percentiles_of(std::move(ratios)), cpu_ratio = percentiles_of(std::move(cpu_ratios));
  const auto quotient = [](double a, double b) { return b > 0 ? a / b : 0; };
  json["summary"] = {{"schemas", n},
                     {"compiled", compiled},
                     {"failed", failed},
                     {"finished", finished},
                     {"hastened", hastened},
                     {"length", compiled - failed - finished},
                     {"valid", valid},
                     {"seed", generation.sampler.seed},
                     {"tokens_per_s", rate(tokens, seconds)},
                     {"tokens_per_s_without", rate(tokens, plain_seconds)},
                     {"tokens", tokens},
                     {"forced", forced},
                     {"time_ratio_of_all", quotient(seconds, plain_seconds)},
                     {"time_ratio", json_of(ratio)},
                     {"cpu_ratio_of_all", quotient(cpu, plain_cpu)},
                     {"cpu_ratio", json_of(cpu_ratio)}};
  DECANT_TRY_STATUS(report->write(json));
  if (report->to_stdout()) return {};
  std::string text = fmt::format(
      "{} schemas: {} compiled, {} answers finished ({} of them hastened), {} cut at {} tokens, {} without an answer; "
      "{} of the finished are valid\n",
      n, compiled, finished, hastened, compiled - failed - finished, generation.max_tokens, failed, valid);
  text += fmt::format("{:.1f} tokens/s, without the constraint {:.1f}; {:.1f} % of the tokens took no step\n\n",
                      rate(tokens, seconds), rate(tokens, plain_seconds), 100 * quotient(forced, tokens));
  text += fmt::format("{:<32}{:>10}{:>10}{:>10}{:>10}\n", "with the constraint by without", "all", "p50", "p90", "p99");
  const auto add = [&](const char* name, double all, const Percentiles& p) {
    text += fmt::format("{:<32}{:>10.3f}{:>10.3f}{:>10.3f}{:>10.3f}\n", name, all, p.p50, p.p90, p.p99);
  };
  add("time a token", quotient(seconds, plain_seconds), ratio);
  add("processor time a token", quotient(cpu, plain_cpu), cpu_ratio);
  return write_stdout(text);
}

}  // namespace

Status eval(const EvalOptions& options) {
  DECANT_TRY(JsonReport report, JsonReport::open(options.json));
  if (options.what == "alignment") return eval_alignment(options, &report);
  if (options.what == "spec-bench") return eval_spec_bench(options, &report);
  if (options.what == "maskbench") return maskbench(options, &report);
  if (options.what == "schema-walk") return schema_walk(options, &report);
  return options.what == "jsonschemabench" ? jsonschemabench(options, &report) : suite(options, &report);
}

}  // namespace decant::cli
