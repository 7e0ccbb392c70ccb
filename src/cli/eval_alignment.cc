// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/strict_json.h"
#include "cli/align.h"
#include "cli/common.h"
#include "cli/session.h"
#include "constrain/grammar_constraint.h"
#include "constrain/schema_constraint.h"
#include "eval/alignment.h"

namespace decant::cli {
namespace {

struct Task {
  std::string family, name, prompt, kind, grammar;
  int max_tokens = 0;
  bool enumerate = false;  // the language is finite and small
};

Result<std::vector<Task>> read_tasks(const std::string& path, const std::string& wanted) {
  DECANT_TRY(const std::string text, read_file(path));
  Result<nlohmann::json> parsed = parse_json(text);
  if (!parsed.ok()) return std::move(parsed).status().with_context(path);
  const nlohmann::json& list = *parsed;
  if (!list.is_array()) return Status::corrupt("{}: no JSON list of tasks", path);
  std::vector<Task> tasks;
  for (size_t i = 0; i < list.size(); ++i) {
    const nlohmann::json& entry = list[i];
    Task task;
    const auto field = [&](const char* name) {
      const auto found = entry.is_object() ? entry.find(name) : entry.end();
      return found != entry.end() && found->is_string() ? found->get<std::string>() : std::string();
    };
    task.family = field("family");
    task.name = field("name");
    task.prompt = field("prompt");
    for (const char* kind : {"gbnf", "regex", "json_schema"}) {
      if (std::string grammar = field(kind); !grammar.empty()) task.kind = kind, task.grammar = std::move(grammar);
    }
    const auto budget = entry.is_object() ? entry.find("max_tokens") : entry.end();
    if (budget != entry.end() && budget->is_number_integer()) task.max_tokens = budget->get<int>();
    const auto finite = entry.is_object() ? entry.find("enumerate") : entry.end();
    task.enumerate = finite != entry.end() && finite->is_boolean() && finite->get<bool>();
    if (task.name.empty() || task.prompt.empty() || task.kind.empty() || task.max_tokens < 1) {
      return Status::corrupt("{}: task {}: it needs name, prompt, max_tokens and one of gbnf, regex, json_schema", path,
                             i + 1);
    }
    if (wanted.empty() || ("," + wanted + ",").find("," + task.name + ",") != std::string::npos ||
        ("," + wanted + ",").find("," + task.family + ",") != std::string::npos) {
      tasks.push_back(std::move(task));
    }
  }
  if (tasks.empty()) return Status::not_found("{}: no task of the name or family {}", path, wanted);
  return tasks;
}

Result<std::shared_ptr<Constraint>> compile(const Task& task, std::shared_ptr<const JsonVocabulary> vocabulary) {
  if (task.kind == "gbnf") return compile_gbnf(task.grammar, task.name, std::move(vocabulary));
  if (task.kind == "regex") return compile_pattern(task.grammar, task.name, std::move(vocabulary));
  return compile_json_schema(task.grammar, task.name, {}, std::move(vocabulary));
}

template <typename T>
Json or_null(const std::optional<T>& value) {
  return value ? Json(*value) : Json(nullptr);
}

Json json_of(const AlignmentReport& r) {
  Json json = {{"seen", r.seen},
               {"ideal_expectation", r.ideal_expectation},
               {"enumerated", r.enumerated},
               {"texts", r.texts},
               {"prefixes", r.prefixes},
               {"log_p_language", r.enumerated ? Json(r.log_p_language) : Json(nullptr)}};
  for (const AlignmentCurve& curve : r.curves) {
    Json& out = json["methods"][std::string(align_mode_name(curve.mode))];
    out["stopped"] = curve.stopped.empty() ? Json(nullptr) : Json(curve.stopped);
    Json& points = out["curve"] = Json::array();
    for (const AlignmentPoint& p : curve.points) {
      points.push_back({{"samples", p.samples},
                        {"kl", p.kl},
                        {"kl_ideal", p.kl_ideal},
                        {"expectation", p.expectation},
                        {"mean_log_p", p.mean_log_p},
                        {"log_c_root", p.log_c},
                        {"attempts", p.attempts},
                        {"steps", p.steps},
                        {"forward_passes", p.forward_passes},
                        {"total_variation", or_null(p.total_variation)},
                        {"law_kl", or_null(p.law_kl)},
                        {"empirical_variation", or_null(p.empirical_variation)},
                        {"sampling_error", or_null(p.sampling_error)}});
    }
  }
  return json;
}

std::string text_of(const Task& task, const AlignmentReport& r) {
  std::string text = fmt::format("{} ({}): {} different answers; ", task.name, task.family, r.seen);
  text += r.enumerated ? fmt::format("{} texts in all, P(language) = {:.3g}\n", r.texts, std::exp(r.log_p_language))
                       : std::string("the language is not enumerated\n");
  text += fmt::format("{:<8}{:>8}{:>9}{:>9}{:>9}{:>10}{:>10}{:>10}{:>10}{:>10}{:>9}\n", "", "answers", "KL", "ideal KL",
                      "E[P]", "mean logP", "c(root)", "attempts", "steps", "computed", "TV");
  for (const AlignmentCurve& curve : r.curves) {
    for (const AlignmentPoint& p : curve.points) {
      text += fmt::format("{:<8}{:>8}{:>9.3f}{:>9.3f}{:>9.4f}{:>10.2f}{:>10.2e}{:>10.2f}{:>10.2f}{:>10.2f}{:>9}\n",
                          align_mode_name(curve.mode), p.samples, p.kl, p.kl_ideal, p.expectation, p.mean_log_p,
                          std::exp(p.log_c), p.attempts, p.steps, p.forward_passes,
                          p.total_variation ? fmt::format("{:.4f}", *p.total_variation) : "");
    }
    if (!curve.stopped.empty()) text += fmt::format("{:<8}stopped: {}\n", align_mode_name(curve.mode), curve.stopped);
  }
  text += fmt::format("E[P] of an ideal sampler: {:.4f}\n\n", r.ideal_expectation);
  return text;
}

}  // namespace

Status eval_alignment(const EvalOptions& options, JsonReport* report) {
  DECANT_TRY(const std::vector<Task> tasks, read_tasks(options.data, options.tasks));
  DECANT_TRY(Session session, Session::open(options.model));
  const uint64_t seed = options.answer.seed.value_or(1);
  DECANT_TRY(const Prompter prompter, Prompter::open({}, *session.tokenizer));
  const auto vocabulary = std::make_shared<const JsonVocabulary>(std::make_shared<const TokenTrie>(*session.tokenizer));
  const InterruptFlag interrupt;
  Json json;
  json["model"] = session.path;
  json["samples"] = options.answers;
  json["seed"] = seed;
  Json& rows = json["tasks"] = Json::array();
  for (const Task& task : tasks) {
    GenerateRequest request;
    if (prompter.chat != nullptr) {
      DECANT_TRY(request.prompt, prompter.encode({{"user", task.prompt}}));
    } else {
      DECANT_TRY(request.prompt, session.tokenizer->encode(task.prompt));
    }
    // The model's own distribution: temperature 1 and no filter.
    request.sampler.seed = seed;
    request.sampler.temperature = 1;
    request.sampler.samplers = "temperature";
    request.max_tokens = task.max_tokens;
    request.end_tokens = end_tokens(*session.tokenizer);
    DECANT_TRY(request.constraint, compile(task, vocabulary));
    Progress progress;
    const auto show = [&](AlignMode mode, int done) {
      if (done % 10 == 0) {
        progress.show(fmt::format("{}, {}: {} of {} answers", task.name, align_mode_name(mode), done, options.answers));
      }
    };
    AlignmentEvalOptions how;
    how.samples = options.answers;
    how.explore_nodes = task.enumerate ? static_cast<size_t>(options.explore) : 0;
    how.cancel = interrupt.flag();
    Result<AlignmentReport> result = run_alignment(*session.engine, request, how, show);
    progress.clear();
    if (!result.ok()) return std::move(result).status().with_context(task.name);
    Json entry = {{"name", task.name},
                  {"family", task.family},
                  {"prompt_tokens", request.prompt.size()},
                  {"budget", task.max_tokens}};
    entry.update(json_of(*result));
    rows.push_back(std::move(entry));
    if (!report->to_stdout()) DECANT_TRY_STATUS(write_stdout(text_of(task, *result)));
  }
  return report->write(json);
}

}  // namespace decant::cli
