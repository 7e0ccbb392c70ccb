// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "cli/chart.h"
#include "cli/common.h"
#include "cli/comparison.h"
#include "cli/session.h"
#include "eval/method_comparison.h"
#include "eval/questions.h"
#include "speculate/calibration_prompts.h"
#include "speculate/profile.h"

namespace decant::cli {
namespace {

constexpr int kRows = 24;       // step sizes that are measured
constexpr int kBehind = 256;    // tokens before them
constexpr double kWorthIt = 1;  // speed-up below which plain decoding is the best
// Share of the best speed-up that a few prompts cannot tell from it; of these methods the one with the most tokens a
// step is taken, which depends on no clock.
constexpr double kSame = 0.96;

// What is worth a try everywhere.
constexpr const char* kStandard = "lookup, recycling, sam, aded, sam+recycling, lookup+recycling";

std::vector<Question> own_prompts() {
  std::vector<Question> questions;
  for (const char* prompt : kCalibrationPrompts) {
    const std::string id = std::to_string(questions.size() + 1);
    questions.push_back({.id = id, .category = "", .turns = {prompt}, .place = "prompt " + id});
  }
  return questions;
}

}  // namespace

Status tune(const TuneOptions& options) {
  DECANT_TRY(JsonReport report, JsonReport::open(options.json));
  std::vector<Question> questions = own_prompts();
  if (!options.prompts.empty()) {
    DECANT_TRY(questions, load_prompts(options.prompts));
  }
  std::vector<MethodChoice> choices;
  if (options.methods) {
    choices = *options.methods;
  } else {
    DECANT_TRY(choices, parse_method_list(kStandard));
  }
  if (!options.draft_model.empty()) {
    for (const char* tree : {"grow", "chain"}) {
      const std::string spec = fmt::format("model(path={}, tree={})", options.draft_model, tree);
      choices.push_back({spec, spec, "coupled"});
    }
  }
  if (choices.empty()) return Status::invalid_argument("--methods: there is nothing to try but plain decoding");
  ModelOptions model = options.model;
  if (model.context == 0) model.context = 4096;
  DECANT_TRY(const Session session, Session::open(model));
  std::vector<ComparedMethod> methods;
  for (const MethodChoice& choice : choices) {
    if (choice.draft == "auto") return Status::invalid_argument("--methods: auto is what the others are measured for");
    Result<Speculation> made = open_speculation(choice.draft, choice.verifier, session);
    if (!made.ok()) return std::move(made).status().with_context("--methods");
    methods.push_back({.name = choice.name,
                       .make = [method = made->method]() { return Result<std::shared_ptr<DraftMethod>>(method); },
                       .verifier = made->verifier});
  }
  DECANT_TRY(const Prompter prompter, Prompter::open({}, *session.tokenizer));

  Progress progress;
  progress.show("measuring steps");
  DraftProfile profile = profile_key(*session.engine, vocabulary_hash(*session.tokenizer));
  DECANT_TRY(profile.step_seconds, measure_steps(*session.engine, kRows, kBehind));
  ComparisonOptions comparison{.max_tokens = options.predict};
  comparison.sampler.temperature = 0;
  comparison.end_tokens = end_tokens(*session.tokenizer);
  comparison.encode = [&](const std::vector<ChatMessage>& messages) {
    if (prompter.chat != nullptr) return prompter.encode(messages);
    return session.tokenizer->encode(messages.back().content);
  };
  const InterruptFlag interrupt;
  comparison.cancel = interrupt.flag();
  const auto show = [&](size_t question, size_t method) {
    progress.show(fmt::format("prompt {} of {}: {}", question + 1, questions.size(),
                              method == 0 ? "plain" : choices[method - 1].name));
  };
  DECANT_TRY(const std::vector<MethodRecord> records,
             compare_methods(*session.engine, *session.tokenizer, questions, methods, comparison, show));
  progress.clear();

  Table steps{.title = "Milliseconds of a step that checks", .head = {"tokens"}, .rows = {{"step"}}, .note = ""};
  for (const int rows : {1, 2, 3, 4, 6, 8, 12, 16, 24}) {
    if (static_cast<size_t>(rows) > profile.step_seconds.size()) break;
    steps.head.push_back(std::to_string(rows));
    steps.rows[0].push_back(fmt::format("{:.2f}", profile.step_seconds[static_cast<size_t>(rows) - 1] * 1e3));
  }
  Table table{.title = "Methods",
              .head = {"method", "speed-up", "tokens/step", "tokens checked", "tokens/s"},
              .rows = {},
              .note = ""};
  profile.draft = "none";
  double best = kWorthIt;
  Json list = Json::array();
  for (size_t m = 0; m < records.size(); ++m) {
    const Figures f = figures_of(records[m].questions, records[0].questions);
    const std::string name = m == 0 ? "none" : choices[m - 1].draft;
    table.rows.push_back({m == 0 ? "plain" : name, fmt::format("{:.2f}", f.speedup_total),
                          fmt::format("{:.2f}", f.tokens_per_step), fmt::format("{:.1f}", 1 + f.nodes),
                          fmt::format("{:.1f}", f.tokens_per_s)});
    profile.methods.push_back({name, f.speedup_total, f.tokens_per_step});
    list.push_back({{"draft", name},
                    {"speedup", f.speedup_total},
                    {"tokens_per_step", f.tokens_per_step},
                    {"tokens_per_s", f.tokens_per_s}});
  }
  for (const DraftProfile::Method& m : profile.methods) best = std::max(best, m.speedup);
  double most = 0;
  for (const DraftProfile::Method& m : profile.methods) {
    if (m.spec == "none" || m.speedup <= kWorthIt || m.speedup < best * kSame || m.tokens_per_step <= most) continue;
    most = m.tokens_per_step;
    profile.draft = m.spec;
  }
  std::string path = options.output;
  if (path.empty()) {
    DECANT_TRY(path, profile_path(profile));
  }
  DECANT_TRY_STATUS(write_profile(profile, path));
  Json json = {{"model", session.path},      {"processor", profile.processor},
               {"kernels", profile.kernels}, {"threads", profile.threads},
               {"draft", profile.draft},     {"step_seconds", profile.step_seconds},
               {"methods", std::move(list)}, {"profile", path}};
  DECANT_TRY_STATUS(report.write(json));
  if (report.to_stdout()) return {};
  return write_stdout(fmt::format("{} on {}, {} {} of {}\n\n{}\n{}\n--draft auto: {}\n{}\n", session.path,
                                  profile.processor, profile.threads, profile.threads == 1 ? "thread" : "threads",
                                  profile.kernels, text_of(steps), text_of(table), profile.draft, path));
}

}  // namespace decant::cli
