// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Random walks through a schema's masks: a token that the mask allows is taken, again and again, until the text may
// end. What is written so has to be valid, whatever a model would make of it, and every walk has to go on.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "constrain/schema.h"

namespace decant {

class Tokenizer;

enum class WalkEnd {
  kWhole,     // the text may end where it ends
  kUnended,   // cut at the number of tokens
  kDeadEnd,   // no token is allowed, and the text may not end: a defect
  kMismatch,  // a token of the mask was refused: a defect
  kError,     // something that is not supported was met only here; SchemaWalks::refused says what
};
std::string_view walk_end_name(WalkEnd end);  // "whole", "unended", "dead end", "mismatch", "error"

struct SchemaWalk {
  WalkEnd end = WalkEnd::kWhole;
  std::string text;
};
struct SchemaWalks {
  std::string id, schema;
  std::string refused;  // why, or ""
  std::vector<SchemaWalk> walks;
  // Of the schema's tests, in their order: whether the text may end behind them; nullopt where the vocabulary has no
  // tokens for some bytes.
  std::vector<std::optional<bool>> accepted;
};

struct SchemaWalkOptions {
  std::string data;  // a folder as MaskBench's
  int every = 1;     // takes each n-th schema
  int walks = 4;     // of a schema
  int max_tokens = 200;
  uint64_t seed = 1;
  SchemaOptions schema = {};
};

// Calls `done` for each schema; its failure ends the run. Half of a walk's tokens end values where they can. The first
// walk takes only tokens of one byte.
Status run_schema_walks(const Tokenizer& tokenizer, const SchemaWalkOptions& options,
                        const std::function<Status(const SchemaWalks&)>& done);

}  // namespace decant
