// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// The official JSON Schema test suite: how many of its instances a schema's automaton takes for what they are. Each
// instance is written on one line and followed byte by byte; it counts as accepted when the text may end where it ends.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/status.h"

namespace decant {

struct SuiteCounts {
  int right = 0;
  int over = 0;     // a valid instance was refused: over-constrained
  int under = 0;    // an invalid instance was accepted: under-constrained
  int refused = 0;  // the schema was
};

struct SuiteFailure {
  std::string file, group, test;  // as the suite names them
  std::string what;               // "over", "under", or why the schema was refused
};

struct SuiteReport {
  std::map<std::string, SuiteCounts> by_keyword;  // the suite's files
  SuiteCounts total;
  std::vector<SuiteFailure> failures;
};

// `data`: the suite's folder, with `tests` and `remotes`. `draft`: "2020-12", "2019-09", "7", "6" or "4". Required
// tests only; with `optional` the optional ones only. `assert_formats` as for the optional format tests. kNotFound
// without the folder.
Result<SuiteReport> run_schema_suite(const std::string& data, const std::string& draft, bool optional,
                                     bool assert_formats);

}  // namespace decant
