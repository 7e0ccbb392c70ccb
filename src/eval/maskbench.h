// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// MaskBench (part of JSONSchemaBench): real schemas with valid and invalid instances. Each schema is compiled, each
// instance is written on one line, tokenized, and fed token by token: a mask, a look at the token's bit, and an
// advance, until a token is refused. Only a vocabulary is needed.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/status.h"
#include "constrain/json_tree.h"
#include "constrain/schema.h"

namespace decant {

class Tokenizer;

// One line of a benchmark's file.
struct BenchmarkSchema {
  std::string id;
  std::string text;  // the schema on one line
  JsonNode tests;    // [{data, valid}]
};
// Calls `use` for each n-th schema (`every`) of the folder's *.jsonl and *.jsonl.gz files, in the order of their names,
// and stops at its first failure. kNotFound, kCorrupt (file and line), kUnsupported for .gz in a build without zlib.
Status for_each_schema(const std::string& data, int every, const std::function<Status(const BenchmarkSchema&)>& use);

struct Percentiles {
  size_t count = 0;
  double mean = 0, p50 = 0, p90 = 0, p99 = 0, p999 = 0, max = 0;
};
// Of values in any order: the one at index min(n - 1, n * share).
Percentiles percentiles_of(std::vector<double> values);

struct MaskbenchInstance {
  bool valid = false;
  std::vector<int32_t> tokens;
  std::vector<double> mask_us;        // mask and advance, up to the first token that was refused
  bool taken = false, whole = false;  // all tokens were; and the text may end behind them
};

struct MaskbenchSchema {
  std::string id;
  std::string refused;                       // why, or ""
  double compile_us = 0;                     // of this thread's CPU time, likewise below
  double first_mask_us = 0;                  // compiling included
  std::vector<double> mask_us;               // mask and advance, by token
  std::vector<MaskbenchInstance> instances;  // while `done` is called; a report has none
  size_t bytes = 0;  // of the compiled schema after its instances, without the vocabulary's tables
  // The benchmark's verdict never looks at the end of the text, the strict one does.
  int valid = 0, invalid = 0;
  int valid_rejected = 0, invalid_accepted = 0;
  int valid_rejected_strict = 0, invalid_accepted_strict = 0;
};

struct MaskbenchReport {
  std::vector<MaskbenchSchema> schemas;
  int passing = 0, passing_strict = 0, refused = 0;
  int valid_rejected = 0, invalid_accepted = 0;  // strict
  Percentiles compile_us, first_mask_us, mask_us, bytes;
  size_t vocabulary_bytes = 0;
  double vocabulary_us = 0;
};

// `data` and `every` as above. `done` is called after each schema; its failure ends the run.
Result<MaskbenchReport> run_maskbench(
    const Tokenizer& tokenizer, const std::string& data, int every, const SchemaOptions& options = {},
    const std::function<Status(const BenchmarkSchema&, const MaskbenchSchema&)>& done = {});

}  // namespace decant
