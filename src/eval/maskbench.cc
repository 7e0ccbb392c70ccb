// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "eval/maskbench.h"

#include <time.h>

#include <algorithm>
#include <filesystem>
#include <numeric>

#include "base/mapped_file.h"
#include "constrain/json_tree.h"
#include "constrain/schema_constraint.h"
#include "text/tokenizer.h"
#ifdef DECANT_ZLIB
#include <zlib.h>
#endif

namespace decant {
namespace {

namespace fs = std::filesystem;

double thread_us() {
  timespec t{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) * 1e6 + static_cast<double>(t.tv_nsec) / 1e3;
}

Result<std::string> read_lines(const std::string& path) {
  if (!path.ends_with(".gz")) return read_file(path);
#ifdef DECANT_ZLIB
  gzFile file = ::gzopen(path.c_str(), "rb");
  if (file == nullptr) return Status::io("{}: cannot be opened", path);
  std::string text;
  std::vector<char> buffer(1 << 16);
  int n = 0;
  while ((n = ::gzread(file, buffer.data(), static_cast<unsigned>(buffer.size()))) > 0)
    text.append(buffer.data(), static_cast<size_t>(n));
  const bool whole = n == 0 && ::gzeof(file) != 0;
  const bool closed = ::gzclose(file) == Z_OK;
  if (!whole || !closed) return Status::corrupt("{}: the compressed data is damaged or cut", path);
  return text;
#else
  return Status::unsupported("{}: this Decant was built without zlib; unpack it to .jsonl", path);
#endif
}

Status run_tests(const JsonNode& tests, Constraint* constraint, const Tokenizer& tokenizer, MaskbenchSchema* out) {
  for (const JsonNode& test : tests.items) {
    const JsonNode* data = test.find("data");
    const JsonNode* valid = test.find("valid");
    if (data == nullptr || valid == nullptr || !valid->is_bool())
      return Status::corrupt("a test without data or valid");
    MaskbenchInstance one{.valid = valid->boolean};
    DECANT_TRY(one.tokens, tokenizer.encode(json_line(*data), {.add_special = false, .parse_special = false}));
    out->instances.push_back(std::move(one));
  }
  if (constraint == nullptr) return {};
  for (MaskbenchInstance& one : out->instances) {
    ConstraintState state = constraint->start();
    one.taken = true;
    for (const TokenId token : one.tokens) {
      const double begin = thread_us();
      one.taken = constraint->mask(state)->test(token);
      if (one.taken) {
        DECANT_TRY(state, constraint->advance(state, token));
      }
      one.mask_us.push_back(thread_us() - begin);
      if (!one.taken) break;
    }
    one.whole = one.taken && constraint->accepting(state);
    if (one.valid) {
      ++out->valid;
      out->valid_rejected += !one.taken;
      out->valid_rejected_strict += !one.whole;
    } else {
      ++out->invalid;
      out->invalid_accepted += one.taken;
      out->invalid_accepted_strict += one.whole;
    }
  }
  return {};
}

}  // namespace

Percentiles percentiles_of(std::vector<double> values) {
  Percentiles p{.count = values.size()};
  if (values.empty()) return p;
  std::sort(values.begin(), values.end());
  const auto at = [&](double share) {
    return values[std::min(values.size() - 1, static_cast<size_t>(static_cast<double>(values.size()) * share))];
  };
  p.mean = std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
  p.p50 = at(0.5);
  p.p90 = at(0.9);
  p.p99 = at(0.99);
  p.p999 = at(0.999);
  p.max = values.back();
  return p;
}

Status for_each_schema(const std::string& data, int every, const std::function<Status(const BenchmarkSchema&)>& use) {
  std::error_code error;
  std::vector<std::string> files;
  for (const fs::directory_entry& entry : fs::directory_iterator(data, error)) {
    const std::string name = entry.path().string();
    if (name.ends_with(".jsonl") || name.ends_with(".jsonl.gz")) files.push_back(name);
  }
  if (files.empty())
    return Status::not_found("{}: no .jsonl or .jsonl.gz files there; --data takes MaskBench's folder", data);
  std::sort(files.begin(), files.end());
  size_t number = 0;
  for (const std::string& path : files) {
    DECANT_TRY(const std::string lines, read_lines(path));
    size_t line_number = 0;
    for (size_t at = 0; at < lines.size();) {
      const size_t end = std::min(lines.find('\n', at), lines.size());
      const std::string_view line = std::string_view(lines).substr(at, end - at);
      at = end + 1;
      ++line_number;
      if (line.empty() || number++ % static_cast<size_t>(every) != 0) continue;
      const auto place = [&](Status status) {
        return std::move(status).with_context(fmt::format("{}: line {}", path, line_number));
      };
      Result<JsonNode> parsed = parse_json_tree(line, 5000);
      if (!parsed.ok()) return place(std::move(parsed).status());
      const JsonNode* id = parsed->find("id");
      const JsonNode* schema = parsed->find("schema");
      const JsonNode* tests = parsed->find("tests");
      if (id == nullptr || schema == nullptr || tests == nullptr)
        return place(Status::corrupt("no id, schema or tests"));
      Status status = use({.id = id->text, .text = json_line(*schema), .tests = *tests});
      if (status.code() == Code::kCorrupt) return place(std::move(status));
      if (!status.ok()) return status;
    }
  }
  return {};
}

Result<MaskbenchReport> run_maskbench(
    const Tokenizer& tokenizer, const std::string& data, int every, const SchemaOptions& options,
    const std::function<Status(const BenchmarkSchema&, const MaskbenchSchema&)>& done) {
  MaskbenchReport report;
  const double begin = thread_us();
  const auto vocabulary = std::make_shared<const JsonVocabulary>(std::make_shared<const TokenTrie>(tokenizer));
  report.vocabulary_us = thread_us() - begin;
  report.vocabulary_bytes = vocabulary->bytes();
  std::vector<double> mask;
  const auto run_one = [&](const BenchmarkSchema& schema) -> Status {
    MaskbenchSchema one{.id = schema.id};
    const double start = thread_us();
    const auto constraint = compile_json_schema(schema.text, "schema", options, vocabulary);
    one.compile_us = thread_us() - start;
    one.first_mask_us = one.compile_us;
    if (constraint.ok()) {
      (*constraint)->mask((*constraint)->start());
      one.first_mask_us = thread_us() - start;
    } else {
      one.refused = constraint.status().message();
    }
    Status status = run_tests(schema.tests, constraint.ok() ? constraint->get() : nullptr, tokenizer, &one);
    if (status.code() == Code::kCorrupt) return status;
    if (!status.ok()) one.refused = status.message();
    if (constraint.ok()) one.bytes = (*constraint)->bytes();
    if (done) DECANT_TRY_STATUS(done(schema, one));
    for (MaskbenchInstance& i : one.instances) {
      one.mask_us.insert(one.mask_us.end(), i.mask_us.begin(), i.mask_us.end());
    }
    mask.insert(mask.end(), one.mask_us.begin(), one.mask_us.end());
    one.instances.clear();
    report.schemas.push_back(std::move(one));
    return {};
  };
  DECANT_TRY_STATUS(for_each_schema(data, every, run_one));
  std::vector<double> compile, first, bytes;
  for (const MaskbenchSchema& s : report.schemas) {
    report.refused += !s.refused.empty();
    report.passing += s.refused.empty() && s.valid_rejected + s.invalid_accepted == 0;
    report.passing_strict += s.refused.empty() && s.valid_rejected_strict + s.invalid_accepted_strict == 0;
    if (s.refused.empty()) {
      report.valid_rejected += s.valid_rejected_strict;
      report.invalid_accepted += s.invalid_accepted_strict;
    }
    compile.push_back(s.compile_us);
    first.push_back(s.first_mask_us);
    bytes.push_back(static_cast<double>(s.bytes));
  }
  report.compile_us = percentiles_of(std::move(compile));
  report.first_mask_us = percentiles_of(std::move(first));
  report.mask_us = percentiles_of(std::move(mask));
  report.bytes = percentiles_of(std::move(bytes));
  return report;
}

}  // namespace decant
