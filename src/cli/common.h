// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// What the commands share: their entry points, stdout, stderr, the JSON report and Ctrl-C.
#pragma once

#include <atomic>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "base/mapped_file.h"
#include "base/size_text.h"
#include "base/status.h"
#include "cli/options.h"
#include "decant/version.h"

namespace decant::cli {

inline constexpr std::string_view kVersion = DECANT_VERSION;

using Json = nlohmann::ordered_json;

// One file each. kCancelled: the user pressed Ctrl-C. A failure with an empty message stops quietly (the reader of
// stdout has gone).
Status run(const RunOptions& options);
Status chat(const ChatOptions& options);
Status serve(const ServeOptions& options);
Status compare(const CompareOptions& options);
Status tokenize(const TokenizeOptions& options);
Status render_template(const TemplateOptions& options);
Status inspect(const InspectOptions& options);
Status perplexity_command(const PerplexityCommandOptions& options);
Status bench(const BenchOptions& options);
Status bench_serve(const BenchServeOptions& options);
Status convert(const ConvertCommandOptions& options);
Status make_draft(const MakeDraftOptions& options);
Status tune(const TuneOptions& options);
Status eval(const EvalOptions& options);
Status pull(const PullOptions& options);
Status datastore(const DatastoreOptions& options);
Status methods(const MethodsOptions& options);

// Writes to stdout, unbuffered. A closed pipe gives a failure with an empty message.
Status write_stdout(std::string_view bytes);
// "decant: message" on stderr.
void write_error(std::string_view message);
// A line on stderr as it stands.
void write_note(std::string_view line);

// A line on stderr that rewrites itself; silent when stderr is not a terminal. Erased on destruction.
class Progress {
 public:
  Progress();
  ~Progress() { clear(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  void show(std::string_view text);
  void clear();
  bool is_terminal() const { return is_terminal_; }

 private:
  bool is_terminal_;
  bool shown_ = false;
  std::string last_;  // what stands there
};

// Where --json goes. A file appears whole, at the end; that it can be made is known at the start. Devices and pipes are
// written as they are.
class JsonReport {
 public:
  // `target`: "" for none, "-" for stdout, else a file.
  static Result<JsonReport> open(const std::string& target);
  bool wanted() const { return !target_.empty(); }
  bool to_stdout() const { return target_ == "-"; }
  // Strings may hold any bytes: what is not UTF-8 becomes U+FFFD. Does nothing when no report is wanted.
  Status write(const Json& report);

 private:
  std::string target_;
  std::optional<AtomicFile> file_;
};

// While it lives, Ctrl-C (and SIGTERM) raises a flag; the second Ctrl-C ends the process at once.
class InterruptFlag {
 public:
  InterruptFlag();
  ~InterruptFlag();
  InterruptFlag(const InterruptFlag&) = delete;
  InterruptFlag& operator=(const InterruptFlag&) = delete;
  const std::atomic<bool>* flag() const;
  bool raised() const { return flag()->load(std::memory_order_relaxed); }
};

// The text of a source. kInvalidArgument when there is none: neither argument nor file, and stdin is a terminal.
Result<std::string> read_text(const TextSource& source, const char* what);
// \n \r \t \\ \' \" \xHH become the bytes they name; other backslashes stay.
std::string process_escapes(std::string_view text);

// Seconds since the process started to run main().
double seconds_since_start();

}  // namespace decant::cli
