// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "eval/perplexity.h"

#include <nlohmann/json.hpp>
#include <optional>

#include "cli/common.h"
#include "cli/models.h"
#include "cli/session.h"
#include "eval/divergence.h"
#include "formats/gguf.h"
#include "model/checkpoint.h"

namespace decant::cli {
namespace {

Json divergence_json(const Divergence& d) {
  return {{"mean_kl", d.mean_kl}, {"stderr_kl", d.stderr_kl}, {"median_kl", d.median_kl},          {"p99_kl", d.p99_kl},
          {"max_kl", d.max_kl},   {"same_top", d.same_top},   {"mean_delta_nll", d.mean_delta_nll}};
}

// The window of a base file decides how large the engine has to be.
Result<DivergenceBase> open_base(const PerplexityCommandOptions& options) {
  DECANT_TRY(const std::string path, resolve_model(options.model.model));
  DECANT_TRY(const GgufFile file, open_model(path));
  DECANT_TRY(const std::shared_ptr<const Tokenizer> tokenizer, Tokenizer::from_gguf(file));
  return DivergenceBase::open(options.divergence_base, tokenizer->vocab_size());
}

}  // namespace

Status perplexity_command(const PerplexityCommandOptions& options) {
  DECANT_TRY(JsonReport report, JsonReport::open(options.json));
  std::optional<DivergenceBase> base;
  std::string text;
  ModelOptions model = options.model;
  if (options.divergence) {
    DECANT_TRY(base, open_base(options));
    model.context = base->window();
  } else {
    DECANT_TRY(text, read_text(options.text, "text"));
  }
  DECANT_TRY(Session session, Session::open(model));
  const Tokenizer& tokenizer = *session.tokenizer;
  PerplexityOptions settings;
  settings.window = session.engine->options().context;
  settings.bos = tokenizer.adds_bos() ? tokenizer.bos() : kNoToken;
  for (const auto& overlay : session.overlays) settings.overlays.push_back(overlay.get());
  std::vector<TokenId> tokens;
  if (base) {
    tokens = base->tokens();
  } else {
    DECANT_TRY(tokens, tokenizer.encode(text, {.like_llama_cpp = true}));
  }

  std::optional<DivergenceBaseWriter> writer;
  DivergenceMeter meter;
  Status failure;
  if (base) {
    settings.on_logits = [&, row = int64_t{0}, log_probs = std::vector<float>()](
                             int64_t token, std::span<const float> logits) mutable {
      log_probs.resize(logits.size());
      base->read(row++, log_probs);
      meter.add(log_probs, logits, tokens[static_cast<size_t>(token) + 1]);
    };
  } else if (!options.divergence_base.empty()) {
    const std::span<const TokenId> whole =
        std::span(tokens).first(tokens.size() - tokens.size() % static_cast<size_t>(settings.window));
    if (!whole.empty()) {  // else perplexity() says what is wrong
      Result<DivergenceBaseWriter> created =
          DivergenceBaseWriter::create(options.divergence_base, settings.window, tokenizer.vocab_size(), whole);
      if (!created.ok()) return std::move(created).status().with_context("--kl-divergence-base");
      writer.emplace(std::move(created).value());
    }
    settings.on_logits = [&](int64_t, std::span<const float> logits) {
      if (writer && failure.ok()) failure = writer->add(logits);
    };
  }
  const InterruptFlag interrupt;
  Progress progress;
  settings.on_window = [&](int done, int total, double so_far) {
    progress.show(fmt::format("window {} of {}: perplexity {:.4f}", done, total, so_far));
    return !interrupt.raised() && failure.ok();
  };
  Result<PerplexityResult> measured = perplexity(*session.engine, tokens, settings);
  progress.clear();
  if (!failure.ok()) return std::move(failure).with_context("--kl-divergence-base");
  if (!measured.ok()) return std::move(measured).status();
  const PerplexityResult& result = *measured;
  if (writer) DECANT_TRY_STATUS(writer->finish());

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
  const Divergence divergence = meter.result();
  if (base) json["divergence"] = divergence_json(divergence);
  DECANT_TRY_STATUS(report.write(json));
  if (report.to_stdout()) return {};
  std::string out =
      fmt::format("perplexity {:.4f} +/- {:.4f} ({} tokens scored in {} windows of {})\n", result.perplexity,
                  result.perplexity * result.stderr_nll, result.scored, result.windows, settings.window);
  if (base) {
    out += fmt::format(
        "KL(base || this) {:.3g} +/- {:.2g} nats per token; median {:.3g}, 99 % below {:.3g}, greatest {:.3g}\n"
        "same likeliest token in {:.2f} % of the rows; mean change of -log p {:+.3g} nats\n",
        divergence.mean_kl, divergence.stderr_kl, divergence.median_kl, divergence.p99_kl, divergence.max_kl,
        divergence.same_top * 100, divergence.mean_delta_nll);
  }
  return write_stdout(out);
}

}  // namespace decant::cli
