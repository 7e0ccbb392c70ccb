// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// The program `decant`. Exit codes: 0 success, 1 failure, 2 wrong usage, 130 interrupted.
#include <signal.h>

#include <exception>
#include <new>
#include <string>
#include <variant>
#include <vector>

#include "cli/common.h"
#include "cli/options.h"

namespace decant::cli {
namespace {

struct Runner {
  Status operator()(const Notice& n) const { return write_stdout(n.text); }
  Status operator()(const RunOptions& o) const { return run(o); }
  Status operator()(const ChatOptions& o) const { return chat(o); }
  Status operator()(const ServeOptions& o) const { return serve(o); }
  Status operator()(const CompareOptions& o) const { return compare(o); }
  Status operator()(const TokenizeOptions& o) const { return tokenize(o); }
  Status operator()(const TemplateOptions& o) const { return render_template(o); }
  Status operator()(const InspectOptions& o) const { return inspect(o); }
  Status operator()(const PerplexityCommandOptions& o) const { return perplexity_command(o); }
  Status operator()(const BenchOptions& o) const { return bench(o); }
  Status operator()(const BenchServeOptions& o) const { return bench_serve(o); }
  Status operator()(const ConvertCommandOptions& o) const { return convert(o); }
  Status operator()(const TuneOptions& o) const { return tune(o); }
  Status operator()(const MakeDraftOptions& o) const { return make_draft(o); }
  Status operator()(const EvalOptions& o) const { return eval(o); }
  Status operator()(const PullOptions& o) const { return pull(o); }
  Status operator()(const DatastoreOptions& o) const { return datastore(o); }
  Status operator()(const MethodsOptions& o) const { return methods(o); }
};

int run_program(const std::vector<std::string>& arguments) {
  if (arguments.empty()) {
    write_note(help_text(""));
    return 2;
  }
  const Result<Command> command = parse_arguments(arguments);
  if (!command.ok()) {
    write_error(command.status().message());
    return 2;
  }
  const Status status = std::visit(Runner{}, *command);
  if (status.ok()) return 0;
  if (!status.message().empty()) write_error(status.message());
  return status.code() == Code::kCancelled ? 130 : 1;
}

}  // namespace
}  // namespace decant::cli

int main(int argc, char** argv) {
  ::signal(SIGPIPE, SIG_IGN);  // a closed stdout is an error of write(), which stops the command
  ::signal(SIGXFSZ, SIG_IGN);  // likewise a file over the size limit
  try {
    return decant::cli::run_program(std::vector<std::string>(argv + 1, argv + argc));
  } catch (const std::bad_alloc&) {
    decant::cli::write_error("out of memory; lower the context size (-c) or use a smaller model");
  } catch (const std::exception& e) {
    decant::cli::write_error(e.what());
  }
  return 1;
}
