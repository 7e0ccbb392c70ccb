// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include <nlohmann/json.hpp>

#include "base/mapped_file.h"
#include "cli/common.h"
#include "cli/models.h"
#include "constrain/token_trie.h"
#include "eval/maskbench.h"
#include "eval/schema_suite.h"
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
  DECANT_TRY(const std::string path, resolve_model(options.model));
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
  Result<MaskbenchReport> run = run_maskbench(*tokenizer, options.data, options.every, done);
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
  DECANT_TRY(const SuiteReport r, run_schema_suite(options.data, options.draft, options.optional, options.optional));
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

}  // namespace

Status eval(const EvalOptions& options) {
  DECANT_TRY(JsonReport report, JsonReport::open(options.json));
  return options.what == "maskbench" ? maskbench(options, &report) : suite(options, &report);
}

}  // namespace decant::cli
