// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "base/mapped_file.h"
#include "cli/align.h"
#include "cli/common.h"
#include "cli/constraint.h"
#include "cli/session.h"

namespace decant::cli {
namespace {

// The prompt as the model gets it: in its chat template, or as it stands.
Result<std::vector<TokenId>> prompt_tokens(const RunOptions& options, const Tokenizer& tokenizer,
                                           const std::string& text, const std::string& tools) {
  Prompter prompter;
  if (!options.raw) {
    DECANT_TRY(prompter, Prompter::open(options.answer, tokenizer));
  }
  if (prompter.chat == nullptr) {
    if (!tools.empty())
      return Status::invalid_argument("--tools: the model {} has no chat template to put them in", options.model.model);
    if (!options.answer.template_variables.empty()) {
      return Status::invalid_argument("--chat-template-kwargs: the model {} has no chat template", options.model.model);
    }
    if (options.answer.system) {
      return Status::invalid_argument("--system-prompt: the model {} has no chat template to put it in",
                                      options.model.model);
    }
    // Whoever writes the whole prompt may name special tokens in it, as elsewhere; inside a template he may not.
    return tokenizer.encode(text, {.parse_special = true});
  }
  std::vector<ChatMessage> messages;
  if (options.answer.system) messages.push_back({"system", *options.answer.system});
  messages.push_back({"user", text});
  if (tools.empty()) return prompter.encode(messages);
  const Json list = Json::parse(tools, nullptr, false);
  if (!list.is_array()) return Status::invalid_argument("{}: expected a list of tools", options.constraint.tools);
  return prompter.encode(messages, &list);
}

// The template that the tools would be put in.
std::string template_text(const RunOptions& options, const Tokenizer& tokenizer) {
  return options.answer.chat_template ? *options.answer.chat_template : tool_template(tokenizer);
}

Json logprob_json(const Tokenizer& tokenizer, TokenId token, float logprob) {
  const std::string text = token_text(tokenizer, token);
  Json entry;
  entry["token"] = token;
  entry["text"] = text;
  entry["bytes"] = std::vector<uint8_t>(text.begin(), text.end());
  entry["logprob"] = std::isfinite(logprob) ? Json(logprob) : Json(nullptr);
  return entry;
}

Json draft_json(const DraftOptions& options, const GenerateResult& result) {
  const DraftStats& d = result.draft;
  const auto steps = static_cast<double>(d.steps);
  Json json = {{"method", options.draft},
               {"verifier", options.verifier},
               {"steps", d.steps},
               {"tokens_per_step", rate(static_cast<double>(result.tokens.size()) - 1, steps)},
               {"proposed", d.proposed},
               {"verified", d.verified},
               {"accepted", d.accepted},
               {"draft_s", d.draft_seconds},
               {"verify_s", d.verify_seconds}};
  Json& depths = json["acceptance_by_depth"] = Json::array();
  for (size_t i = 0; i < d.tried.size() && d.tried[i] > 0; ++i) {
    depths.push_back(static_cast<double>(d.kept[i]) / static_cast<double>(d.tried[i]));
  }
  return json;
}

Json report_of(const RunOptions& options, const Session& session, const GenerateRequest& request,
               const Answer& answer) {
  const GenerateResult& result = answer.result;
  Json report;
  report["model"] = session.path;
  report["text"] = answer.text;
  report["tokens"] = result.tokens;
  report["finish_reason"] = finish_reason_name(result.finish);
  report["prompt_tokens"] = request.prompt.size();
  report["seed"] = request.sampler.seed;
  if (options.logprobs >= 0) {
    Json& list = report["logprobs"] = Json::array();
    for (const Draw& draw : result.draws) {
      Json entry = logprob_json(*session.tokenizer, draw.token, draw.logprob);
      Json& top = entry["top"] = Json::array();
      for (const TokenLogprob& t : draw.top) top.push_back(logprob_json(*session.tokenizer, t.token, t.logprob));
      list.push_back(std::move(entry));
    }
  }
  const auto prompt = static_cast<double>(request.prompt.size());
  const auto drawn = static_cast<double>(result.tokens.size());
  report["timings"] = {{"load_s", session.load_seconds},
                       {"prefill_s", result.prefill_seconds},
                       {"decode_s", result.decode_seconds},
                       {"prefill_tokens_per_s", rate(prompt, result.prefill_seconds)},
                       {"decode_tokens_per_s", rate(drawn - 1, result.decode_seconds)}};
  if (request.draft) report["draft"] = draft_json(options.answer.draft, result);
  return report;
}

}  // namespace

Status run(const RunOptions& options) {
  DECANT_TRY(JsonReport report, JsonReport::open(options.json));
  DECANT_TRY(const std::string text, read_text(options.prompt, "prompt"));
  std::string tools;
  if (!options.constraint.tools.empty()) {
    Result<std::string> read = read_file(options.constraint.tools);
    if (!read.ok()) return std::move(read).status().with_context("--tools");
    tools = *std::move(read);
  }
  DECANT_TRY(Session session, Session::open(options.model));
  GenerateRequest request;
  DECANT_TRY(request.prompt, prompt_tokens(options, *session.tokenizer, text, tools));
  if (request.prompt.empty()) return Status::invalid_argument("the prompt is empty; give at least one character");
  DECANT_TRY(request.sampler, sampler_options(options.answer, session));
  request.n_logprobs = options.logprobs;
  DECANT_TRY(request.constraint, make_constraint(options.constraint, *session.tokenizer, tools,
                                                 template_text(options, *session.tokenizer)));
  request.finish_in_time = options.constraint.finish;
  if (options.constraint.canonical) {
    request.canonical = [tokenizer = session.tokenizer](std::string_view forced) {
      Result<std::vector<TokenId>> tokens = tokenizer->encode(forced, {.add_special = false, .parse_special = false});
      return tokens.ok() ? *std::move(tokens) : std::vector<TokenId>();
    };
  }
  const std::shared_ptr<Constraint> constraint = request.constraint;
  const size_t warnings = constraint ? constraint->warnings().size() : 0;
  DECANT_TRY(const Drafting drafting, Drafting::open(options.answer.draft, session));
  drafting.apply(options.answer.draft, &request);
  if (options.align) return run_aligned(options, session, std::move(request), &report);

  char last = '\n';
  const auto write = [&](std::string_view piece) -> Status {
    if (report.to_stdout()) return {};  // pure JSON
    last = piece.back();
    return write_stdout(piece);
  };
  Result<Answer> answered = answer(session, request, options.answer, options.model.prefill_chunk, write);
  if (!answered.ok()) {
    if (last != '\n') (void)write_stdout("\n");
    return std::move(answered).status();
  }
  if (last != '\n') DECANT_TRY_STATUS(write_stdout("\n"));
  if (constraint) write_warnings(*constraint, warnings);
  if (!options.answer.draft.save.empty()) {
    DECANT_TRY_STATUS(drafting.speculation.method->save(options.answer.draft.save));
  }
  DECANT_TRY_STATUS(report.write(report_of(options, session, request, *answered)));
  if (options.model.verbose || (::isatty(STDERR_FILENO) == 1 && ::isatty(STDOUT_FILENO) == 1)) {
    write_note(fmt::format("[{}]", summary(request, answered->result)));
  }
  return answered->result.finish == FinishReason::kCancelled ? Status::make(Code::kCancelled, "") : Status();
}

}  // namespace decant::cli
