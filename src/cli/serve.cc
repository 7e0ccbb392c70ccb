// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include <sys/resource.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <thread>

#include "cli/common.h"
#include "cli/models.h"
#include "cli/session.h"
#include "formats/gguf.h"
#include "model/checkpoint.h"
#include "serve/engine_thread.h"
#include "serve/playground.h"
#include "serve/server.h"
#include "text/chat.h"

namespace decant::cli {
namespace {

// Without -c: room for several requests of full length, as far as that is not too much.
constexpr int kDefaultContexts = 4;
constexpr int kMostDefaultTokens = 65536;

// The last part of a path without its extension.
std::string stem(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  path = path.substr(path.rfind('/') + 1);
  for (const char* extension : {".gguf", ".safetensors"}) {
    if (path.size() > std::string_view(extension).size() && path.ends_with(extension)) {
      path.resize(path.size() - std::string_view(extension).size());
    }
  }
  return path;
}

// A connection is a file descriptor.
void allow_many_files() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  (void)::setrlimit(RLIMIT_NOFILE, &limit);
}

Result<std::vector<serve::ServedAdapter>> named_adapters(const ServeOptions& options, const Session& session) {
  std::vector<serve::ServedAdapter> adapters;
  for (size_t i = 0; i < session.overlays.size(); ++i) {
    const std::string name = stem(options.model.lora[i].path);
    for (const serve::ServedAdapter& other : adapters) {
      if (other.name == name) {
        return Status::invalid_argument("--lora: two adapters are named {}; clients could not tell them apart", name);
      }
    }
    adapters.push_back({name, session.overlays[i]});
  }
  return adapters;
}

Result<int> default_context(const ServeOptions& options) {
  DECANT_TRY(const std::string path, resolve_model(options.model.model));
  DECANT_TRY(const GgufFile file, open_model(path));
  DECANT_TRY(const ModelConfig config, read_config(file));
  return std::max(config.context_length, std::min(kDefaultContexts * config.context_length, kMostDefaultTokens));
}

serve::ServerOptions server_options(const ServeOptions& options) {
  serve::ServerOptions out;
  out.http.host = options.host;
  out.http.port = options.port;
  out.http.limits.max_body_bytes = static_cast<size_t>(options.max_body_kib) << 10;
  out.http.max_total_body_bytes = std::max(out.http.max_total_body_bytes, 2 * out.http.limits.max_body_bytes);
  out.http.max_connections = static_cast<size_t>(options.max_connections);
  out.http.read_timeout = std::chrono::seconds(options.read_timeout);
  out.http.write_timeout = std::chrono::seconds(options.write_timeout);
  out.limits.max_choices = options.max_choices;
  out.limits.max_tokens = options.max_tokens;
  out.limits.max_schema_bytes = static_cast<size_t>(options.max_schema_kib) << 10;
  out.limits.max_timeout = options.request_timeout;
  out.assets = serve::playground_assets();
  out.api_keys = options.api_keys;
  out.cors_origin = options.cors;
  out.log_prompts = options.log_prompts;
  out.workers = options.workers;
  if (options.log_requests) out.log = [](std::string_view line) { write_note(line); };
  return out;
}

}  // namespace

Status serve(const ServeOptions& options) {
  const InterruptFlag interrupt;
  allow_many_files();
  SessionNeeds needs{.context = options.model.context};
  if (needs.context == 0) {
    DECANT_TRY(needs.context, default_context(options));
  }
  DECANT_TRY(const Session session, Session::open(options.model, needs));
  const Tokenizer& tokenizer = *session.tokenizer;
  DECANT_TRY(Prompter prompter, Prompter::open(options.answer, tokenizer));
  DECANT_TRY(const Drafting drafting, Drafting::open(options.answer.draft, session));
  DECANT_TRY(std::vector<serve::ServedAdapter> adapters, named_adapters(options, session));
  const ModelConfig& config = session.model->config();

  serve::ServedModelOptions served;
  served.name = options.alias.empty() ? stem(options.model.model) : options.alias;
  served.tokenizer = session.tokenizer;
  served.chat = std::move(prompter.chat);
  served.template_text = options.answer.chat_template.value_or(tokenizer.chat_template());
  served.tool_template_text = options.answer.chat_template.value_or(tool_template(tokenizer));
  if (prompter.variables != nullptr) served.template_variables = *prompter.variables;
  served.adapters = std::move(adapters);
  served.end_tokens = end_tokens(tokenizer);
  served.sampler = options.answer.sampler;
  served.context =
      std::min(needs.context, options.request_context > 0 ? options.request_context : config.context_length);
  served.hidden = config.hidden;
  served.vocab_size = config.vocab_size;
  served.draft = {drafting.speculation, drafting.control};
  served.draft_nodes = options.answer.draft.nodes;
  served.speculate = [&session](const std::string& draft, const std::string& verifier) {
    return open_speculation(draft, verifier, session);
  };
  const auto model = std::make_shared<serve::ServedModel>(std::move(served));

  EngineThreadOptions engine_options;
  engine_options.scheduler.max_running = options.parallel;
  engine_options.max_waiting = options.queue;
  EngineThread engine(*session.engine, engine_options);
  DECANT_TRY(const std::unique_ptr<serve::Server> server, serve::Server::start(server_options(options), model, engine));
  const bool is_v6 = options.host.find(':') != std::string::npos;
  DECANT_TRY_STATUS(write_stdout(fmt::format("{} at http://{}{}{}:{}\n", model->options().name, is_v6 ? "[" : "",
                                             options.host, is_v6 ? "]" : "", server->port())));
  while (!interrupt.raised()) std::this_thread::sleep_for(std::chrono::milliseconds(50));
  server->shut_down(std::chrono::seconds(options.grace));
  return {};
}

}  // namespace decant::cli
