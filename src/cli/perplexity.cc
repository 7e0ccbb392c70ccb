// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "eval/perplexity.h"

#include <nlohmann/json.hpp>

#include "cli/common.h"
#include "cli/session.h"

namespace decant::cli {

Status perplexity_command(const PerplexityCommandOptions& options) {
  DECANT_TRY(JsonReport report, JsonReport::open(options.json));
  DECANT_TRY(const std::string text, read_text(options.text, "text"));
  DECANT_TRY(Session session, Session::open(options.model));
  const Tokenizer& tokenizer = *session.tokenizer;
  DECANT_TRY(const std::vector<TokenId> tokens, tokenizer.encode(text, {.like_llama_cpp = true}));

  const InterruptFlag interrupt;
  Progress progress;
  PerplexityOptions settings;
  settings.window = session.engine->options().context;
  settings.bos = tokenizer.adds_bos() ? tokenizer.bos() : kNoToken;
  settings.on_window = [&](int done, int total, double so_far) {
    progress.show(fmt::format("window {} of {}: perplexity {:.4f}", done, total, so_far));
    return !interrupt.raised();
  };
  DECANT_TRY(const PerplexityResult result, perplexity(*session.engine, tokens, settings));
  progress.clear();

  Json json;
  json["model"] = session.path;
  json["perplexity"] = result.perplexity;
  json["mean_nll"] = result.mean_nll;
  json["stderr_nll"] = result.stderr_nll;
  json["window"] = settings.window;
  json["windows"] = result.windows;
  json["tokens"] = tokens.size();
  json["scored"] = result.scored;
  json["seconds"] = result.seconds;
  json["tokens_per_s"] = rate(static_cast<double>(result.windows) * settings.window, result.seconds);
  DECANT_TRY_STATUS(report.write(json));
  if (report.to_stdout()) return {};
  return write_stdout(fmt::format("perplexity {:.4f} +/- {:.4f} ({} tokens scored in {} windows of {})\n",
                                  result.perplexity, result.perplexity * result.stderr_nll, result.scored,
                                  result.windows, settings.window));
}

}  // namespace decant::cli
