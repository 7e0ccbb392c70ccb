// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "cli/comparison.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/mapped_file.h"
#include "base/printable.h"
#include "base/spec.h"
#include "cli/chart.h"
#include "cli/constraint.h"
#include "cli/session.h"
#include "eval/method_comparison.h"
#include "eval/questions.h"
#include "speculate/registry.h"

namespace decant::cli {
namespace {

constexpr std::string_view kExact = "exact";

// What is compared on what.
struct Task {
  std::string name;  // "Spec-Bench", or the file's name
  std::string file;
  ModelOptions model;
  AnswerOptions answer;
  ConstraintOptions constraint;
  ComparisonChoices choices;
  bool raw = false;
  std::vector<Question> questions;
};

// Plain decoding is the first.
struct MethodInfo {
  std::string name, verifier, guarantee;
  bool is_coupled = true;
};

std::vector<MethodChoice> methods_without_needs() {
  std::vector<MethodChoice> methods;
  for (const DrafterInfo& info : drafters()) {
    const std::string name(info.name);
    if (info.needs.empty()) methods.push_back({name, name, "coupled"});
  }
  return methods;
}

std::string guarantee_of(const Verifier& verifier) {
  for (const VerifierInfo& info : verifiers()) {
    if (info.name == verifier.name()) return std::string(info.guarantee);
  }
  return std::string(kExact);
}

// The conversation as the model gets it; without a template its texts, with empty lines between them.
Result<std::vector<TokenId>> encode(const std::vector<ChatMessage>& messages, const Prompter& prompter,
                                    const Tokenizer& tokenizer, const Task& task) {
  if (prompter.chat != nullptr) {
    std::vector<ChatMessage> all;
    if (task.answer.system) all.push_back({"system", *task.answer.system});
    all.insert(all.end(), messages.begin(), messages.end());
    return prompter.encode(all);
  }
  std::string text;
  for (const ChatMessage& m : messages) {
    if (!text.empty() && m.role == "user") text += "\n\n";
    text += m.content;
  }
  return tokenizer.encode(text, {.parse_special = task.raw});
}

// The figures of one method, on all questions and on those of each category.
struct Summary {
  Figures all;
  std::vector<Figures> categories;
  Agreement agreement;
};

std::vector<QuestionRecord> records_of(const MethodRecord& record, std::span<const Question> questions,
                                       const std::string& category) {
  std::vector<QuestionRecord> out;
  for (size_t q = 0; q < questions.size(); ++q) {
    if (questions[q].category == category) out.push_back(record.questions[q]);
  }
  return out;
}

Json number(double x) { return std::isfinite(x) ? Json(x) : Json(nullptr); }

Json json_of(const Figures& f) {
  Json interval = nullptr;
  if (std::isfinite(f.interval[0])) interval = Json::array({f.interval[0], f.interval[1]});
  return {{"questions", f.questions},
          {"turns", f.turns},
          {"tokens", f.tokens},
          {"speedup", number(f.speedup)},
          {"speedup_interval", interval},
          {"speedup_with_prefill", number(f.speedup_with_prefill)},
          {"speedup_total", number(f.speedup_total)},
          {"tokens_per_step", number(f.tokens_per_step)},
          {"tokens_per_s", number(f.tokens_per_s)},
          {"acceptance_by_depth", f.acceptance},
          {"tried_by_depth", f.tried},
          {"draft_coverage", number(f.coverage)},
          {"draft_ms_per_step", number(f.draft_ms)},
          {"verify_ms_per_step", number(f.verify_ms)},
          {"proposed_per_step", number(f.proposed)},
          {"nodes_per_step", number(f.nodes)},
          {"draft_share", number(f.draft_share)},
          {"repeated_4grams", number(f.repeated_4grams)}};
}

Json json_of(const TurnRecord& t, bool with_text) {
  Json json = {{"prompt_tokens", t.prompt_tokens},
               {"tokens", t.tokens.size()},
               {"ended", t.ended},
               {"finish_reason", finish_reason_name(t.finish)},
               {"prefill_s", t.prefill_seconds},
               {"decode_s", t.decode_seconds},
               {"steps", t.draft.steps},
               {"proposed", t.draft.proposed},
               {"verified", t.draft.verified},
               {"accepted", t.draft.accepted},
               {"draft_s", t.draft.draft_seconds},
               {"verify_s", t.draft.verify_seconds}};
  if (with_text) json["text"] = t.text;
  return json;
}

std::string cell(double x, const char* format = "{:.2f}") {
  return std::isfinite(x) ? fmt::format(fmt::runtime(format), x) : "-";
}
std::string percent(double share, int digits) {
  return std::isfinite(share) ? fmt::format("{:.{}f} %", 100 * share, digits) : "-";
}

class Comparison {
 public:
  Comparison(Task task, Session session) : task_(std::move(task)), session_(std::move(session)) {}

  Status run() {
    DECANT_TRY(prompter_, task_.raw ? Result<Prompter>(Prompter()) : Prompter::open(task_.answer, *session_.tokenizer));
    if (prompter_.chat == nullptr && task_.answer.system) {
      return Status::invalid_argument("--system-prompt: the model {} has no chat template to put it in",
                                      task_.model.model);
    }
    DECANT_TRY(const std::vector<ComparedMethod> methods, make_methods());
    ComparisonOptions options{.max_tokens = task_.answer.predict,
                              .draft_nodes = task_.choices.draft_nodes,
                              .all_guesses = task_.choices.all_guesses,
                              .reset_state = task_.choices.reset_state};
    DECANT_TRY(options.sampler, sampler_options(task_.answer, session_));
    seed_ = options.sampler.seed;
    if (!task_.answer.sampler.ignore_eos) options.end_tokens = options.sampler.end_tokens;
    options.stops = task_.answer.stops;
    options.overlays = session_.overlays;
    options.prefill_chunk = task_.model.prefill_chunk;
    DECANT_TRY(options.constraint, make_constraint(task_.constraint, *session_.tokenizer, "", ""));
    options.finish_in_time = task_.constraint.finish;
    if (task_.constraint.canonical) {
      options.canonical = [tokenizer = session_.tokenizer](std::string_view forced) {
        Result<std::vector<TokenId>> tokens = tokenizer->encode(forced, {.add_special = false, .parse_special = false});
        return tokens.ok() ? *std::move(tokens) : std::vector<TokenId>();
      };
    }
    options.encode = [this](const std::vector<ChatMessage>& messages) {
      return encode(messages, prompter_, *session_.tokenizer, task_);
    };
    const InterruptFlag interrupt;
    options.cancel = interrupt.flag();
    const size_t warnings = options.constraint ? options.constraint->warnings().size() : 0;
    Progress progress;
    const auto show = [&](size_t question, size_t method) {
      progress.show(fmt::format("question {} of {}: {}", question + 1, task_.questions.size(), infos_[method].name));
    };
    DECANT_TRY(records_,
               compare_methods(*session_.engine, *session_.tokenizer, task_.questions, methods, options, show));
    progress.clear();
    if (options.constraint) write_warnings(*options.constraint, warnings);
    summarize();
    return {};
  }

  Json json() const {
    Json json;
    json["benchmark"] = task_.name;
    json["file"] = task_.file;
    json["model"] = session_.path;
    json["settings"] = settings_json();
    json["categories"] = categories_;
    Json& methods = json["methods"] = Json::array();
    for (size_t m = 0; m < records_.size(); ++m) {
      const Agreement& agreement = summaries_[m].agreement;
      Json entry = {{"name", infos_[m].name},           {"verifier", m == 0 ? Json(nullptr) : Json(infos_[m].verifier)},
                    {"guarantee", infos_[m].guarantee}, {"identical", agreement.identical},
                    {"first_divergence", nullptr},      {"bytes", records_[m].bytes}};
      if (agreement.first) {
        entry["first_divergence"] = {{"question", task_.questions[agreement.first->question].id},
                                     {"turn", agreement.first->turn + 1},
                                     {"index", agreement.first->index}};
      }
      entry.update(json_of(summaries_[m].all));
      Json& categories = entry["by_category"] = Json::object();
      for (size_t c = 0; c < categories_.size(); ++c) categories[categories_[c]] = json_of(summaries_[m].categories[c]);
      methods.push_back(std::move(entry));
    }
    Json& questions = json["questions"] = Json::array();
    for (size_t q = 0; q < task_.questions.size(); ++q) {
      Json entry = {{"id", task_.questions[q].id}, {"category", task_.questions[q].category}};
      for (const MethodRecord& record : records_) {
        Json& turns = entry["turns"][record.name] = Json::array();
        for (size_t t = 0; t < record.questions[q].size(); ++t) {
          const TurnRecord &turn = record.questions[q][t], &plain = records_[0].questions[q][t];
          turns.push_back(json_of(turn, &record == &records_[0] || turn.text != plain.text));
        }
      }
      questions.push_back(std::move(entry));
    }
    return json;
  }

  std::string text() const {
    std::string text = headline() + "\n";
    for (const Table& table : tables()) text += "\n" + text_of(table);
    const std::vector<std::string> broken = divergences();
    for (const std::string& line : broken) text += "\n" + line + "\n";
    return text;
  }

  std::string chart(bool as_page) const {
    BarChart chart{.title = fmt::format("Speed of decoding: {}", task_.name),
                   .subtitle = headline(),
                   .axis = "times plain decoding, with 95 % interval over questions",
                   .bars = {}};
    for (size_t m = 0; m < records_.size(); ++m) {
      const Figures& f = summaries_[m].all;
      chart.bars.push_back({.label = infos_[m].name,
                            .value = f.speedup,
                            .interval = f.interval,
                            .note = cell(f.tokens_per_step, "{:.2f} tokens/step"),
                            .is_reference = m == 0});
    }
    if (!as_page) return svg_of(chart);
    Page page{
        .title = fmt::format("Decoding methods on {}", task_.name), .chart = chart, .tables = tables(), .settings = {}};
    page.settings = {{"file", task_.file}, {"model", session_.path}, {"decant", std::string(kVersion)}};
    const Json settings = settings_json();
    for (const auto& [name, value] : settings.items()) {
      page.settings.emplace_back(name, value.is_string() ? value.get<std::string>() : value.dump());
    }
    for (const std::string& line : divergences()) page.settings.emplace_back("differs", line);
    return html_of(page);
  }

  // A guarantee that does not hold is a fault of ours.
  Status check() const {
    for (size_t m = 1; m < records_.size(); ++m) {
      if (infos_[m].is_coupled && summaries_[m].agreement.first) {
        return Status::internal("{} is exact and does not give the answers of plain decoding", infos_[m].name);
      }
    }
    return {};
  }

 private:
  Result<std::vector<ComparedMethod>> make_methods() {
    infos_ = {{.name = "plain", .verifier = "", .guarantee = std::string(kExact)}};
    std::vector<ComparedMethod> methods;
    for (const MethodChoice& choice : task_.choices.methods ? *task_.choices.methods : methods_without_needs()) {
      const auto make = [this, choice]() { return open_speculation(choice.draft, choice.verifier, session_); };
      // Whether it can be made is known before anything runs; a run without resets keeps this one.
      Result<Speculation> made = make();
      if (!made.ok()) return std::move(made).status().with_context("--methods");
      infos_.push_back({.name = choice.name,
                        .verifier = choice.verifier,
                        .guarantee = guarantee_of(*made->verifier),
                        .is_coupled = made->verifier->coupled()});
      std::function<Result<std::shared_ptr<DraftMethod>>()> again;
      if (task_.choices.reset_state) {
        again = [make]() -> Result<std::shared_ptr<DraftMethod>> {
          DECANT_TRY(Speculation fresh, make());
          return fresh.method;
        };
      } else {
        again = [method = made->method]() { return Result<std::shared_ptr<DraftMethod>>(method); };
      }
      methods.push_back({.name = choice.name, .make = std::move(again), .verifier = made->verifier});
    }
    return methods;
  }

  void summarize() {
    for (const Question& q : task_.questions) {
      if (!q.category.empty() && std::find(categories_.begin(), categories_.end(), q.category) == categories_.end())
        categories_.push_back(q.category);
    }
    const std::vector<QuestionRecord>& plain = records_[0].questions;
    for (const MethodRecord& record : records_) {
      Summary s{.all = figures_of(record.questions, plain), .categories = {}, .agreement = {}};
      for (const std::string& category : categories_) {
        s.categories.push_back(figures_of(records_of(record, task_.questions, category),
                                          records_of(records_[0], task_.questions, category)));
      }
      s.agreement = agreement_of(record.questions, plain);
      summaries_.push_back(std::move(s));
    }
  }

  Json settings_json() const {
    return {{"questions", task_.questions.size()},
            {"max_tokens", task_.answer.predict},
            {"context", session_.engine->options().context},
            {"temperature", task_.answer.sampler.temperature},
            {"seed", task_.answer.sampler.temperature > 0 ? Json(seed_) : Json(nullptr)},
            {"chat_template", prompter_.chat ? Json(prompter_.chat->name()) : Json(nullptr)},
            {"draft_nodes", task_.choices.draft_nodes},
            {"all_guesses", task_.choices.all_guesses},
            {"reset_state", task_.choices.reset_state},
            {"warm_up_tokens", ComparisonOptions().warm_up},
            {"threads", session_.device->threads()},
            {"kernels", session_.device->table().name}};
  }

  std::string headline() const {
    const std::string& name = session_.model->config().name;
    return fmt::format("{}: {} questions, up to {} tokens a turn, {}; {} on {} {}; drafts {}",
                       name.empty() ? session_.path : name, task_.questions.size(),
                       task_.answer.predict < 0 ? "all" : std::to_string(task_.answer.predict),
                       task_.answer.sampler.temperature > 0
                           ? fmt::format("temperature {:g}, seed {}", task_.answer.sampler.temperature, seed_)
                           : std::string("greedy"),
                       session_.device->table().name, session_.device->threads(),
                       session_.device->threads() == 1 ? "thread" : "threads",
                       task_.choices.reset_state ? "forget between questions" : "learn throughout");
  }

  std::vector<Table> tables() const {
    std::vector<Table> tables;
    Table all{
        .title = "All questions",
        .head = {"method", "speed-up", "95 %", "with prefill", "total", "tokens/step", "tokens/s", "draft ms",
                 "verify ms", "nodes", "drafting", "memory", "identical", "guarantee"},
        .rows = {},
        .note =
            "Speed-up: decoding alone, mean over questions of a question's tokens/s by plain's; with prefill: the "
            "same with the prompts; total: all tokens by all seconds. Times and nodes are of a step."};
    for (size_t m = 0; m < records_.size(); ++m) {
      const Figures& f = summaries_[m].all;
      const bool has_interval = m > 0 && std::isfinite(f.interval[0]);
      all.rows.push_back(
          {infos_[m].name, cell(f.speedup),
           has_interval ? fmt::format("{:.2f} - {:.2f}", f.interval[0], f.interval[1]) : "-",
           cell(f.speedup_with_prefill), cell(f.speedup_total), cell(f.tokens_per_step), cell(f.tokens_per_s, "{:.1f}"),
           cell(f.draft_ms, "{:.3f}"), cell(f.verify_ms, "{:.3f}"), cell(f.nodes, "{:.1f}"), percent(f.draft_share, 1),
           size_text(static_cast<int64_t>(records_[m].bytes)),
           fmt::format("{}/{}", summaries_[m].agreement.identical, task_.questions.size()), infos_[m].guarantee});
    }
    tables.push_back(std::move(all));
    const auto by_category = [&](const char* title, double Figures::*figure) {
      Table table{.title = title, .head = {"method"}, .rows = {}, .note = ""};
      table.head.insert(table.head.end(), categories_.begin(), categories_.end());
      table.head.emplace_back("all");
      for (size_t m = 0; m < records_.size(); ++m) {
        std::vector<std::string> row = {infos_[m].name};
        for (const Figures& f : summaries_[m].categories) row.push_back(cell(f.*figure));
        row.push_back(cell(summaries_[m].all.*figure));
        table.rows.push_back(std::move(row));
      }
      return table;
    };
    if (!categories_.empty()) {
      tables.push_back(by_category("Speed-up by category", &Figures::speedup));
      tables.push_back(by_category("Tokens per step by category", &Figures::tokens_per_step));
      std::vector<std::string> row = {"in plain decoding's answers"};
      for (const Figures& f : summaries_[0].categories) row.push_back(percent(f.repeated_4grams, 0));
      row.push_back(percent(summaries_[0].all.repeated_4grams, 0));
      std::vector<std::string> head = {"share"};
      head.insert(head.end(), categories_.begin(), categories_.end());
      head.emplace_back("all");
      tables.push_back({.title = "Repeated 4-grams",
                        .head = std::move(head),
                        .rows = {std::move(row)},
                        .note = "Answers that repeat themselves are easy to draft."});
    } else {
      tables.front().note += fmt::format(" Of the 4-grams in plain decoding's answers {} had stood there before.",
                                         percent(summaries_[0].all.repeated_4grams, 0));
    }
    constexpr size_t kDepths = 8;
    Table depths{.title = "Kept by depth",
                 .head = {"method", "steps with a draft"},
                 .rows = {},
                 .note = "Of the steps with a guess at this depth, those in which one was kept."};
    for (size_t d = 1; d <= kDepths; ++d) depths.head.push_back(std::to_string(d));
    for (size_t m = 1; m < records_.size(); ++m) {
      const Figures& f = summaries_[m].all;
      std::vector<std::string> row = {infos_[m].name, percent(f.coverage, 0)};
      for (size_t d = 0; d < kDepths; ++d) row.push_back(d < f.acceptance.size() ? cell(f.acceptance[d]) : "-");
      depths.rows.push_back(std::move(row));
    }
    if (!depths.rows.empty()) tables.push_back(std::move(depths));
    return tables;
  }

  // A line for each method whose answers are not plain decoding's, if that is promised.
  std::vector<std::string> divergences() const {
    std::vector<std::string> lines;
    for (size_t m = 1; m < records_.size(); ++m) {
      const std::optional<FirstDifference>& first = summaries_[m].agreement.first;
      if (!first || !infos_[m].is_coupled) continue;
      lines.push_back(fmt::format("{} differs from plain decoding, first in question {}, turn {}, token {}",
                                  infos_[m].name, task_.questions[first->question].id, first->turn + 1, first->index));
    }
    return lines;
  }

  Task task_;
  Session session_;
  Prompter prompter_;
  uint64_t seed_ = 0;
  std::vector<MethodInfo> infos_;
  std::vector<MethodRecord> records_;
  std::vector<std::string> categories_;  // in the order of the questions; empty: none is given
  std::vector<Summary> summaries_;
};

Status compare_and_report(Task task, JsonReport* report) {
  const std::string chart_path = task.choices.chart;
  std::optional<AtomicFile> chart;
  if (!chart_path.empty()) {
    DECANT_TRY(AtomicFile created, AtomicFile::create(chart_path));
    chart.emplace(std::move(created));
  }
  DECANT_TRY(Session session, Session::open(task.model));
  Comparison comparison(std::move(task), std::move(session));
  DECANT_TRY_STATUS(comparison.run());
  DECANT_TRY_STATUS(report->write(comparison.json()));
  if (chart) {
    const std::string drawing = comparison.chart(chart_path.ends_with(".html"));
    DECANT_TRY_STATUS(chart->write({reinterpret_cast<const uint8_t*>(drawing.data()), drawing.size()}));
    DECANT_TRY_STATUS(chart->commit());
  }
  if (!report->to_stdout()) DECANT_TRY_STATUS(write_stdout(comparison.text()));
  return comparison.check();
}

}  // namespace

Result<std::vector<MethodChoice>> parse_method_list(std::string_view text) {
  std::vector<MethodChoice> methods;
  std::vector<std::string> names;
  for (const std::string& part : split_outside(text, ',')) {
    if (part.empty()) {
      return Status::invalid_argument(
          "expected draft methods with commas between them, such as 'lookup, lookup(max=4)', "
          "got '{}'",
          printable(text));
    }
    const std::vector<std::string> halves = split_outside(part, '@');
    if (halves.size() > 2 || halves[0].empty() || halves.back().empty())
      return Status::invalid_argument("expected METHOD or METHOD@VERIFIER, got '{}'", printable(part));
    const bool is_plain = halves[0] == "plain" || halves[0] == "none";
    if (is_plain && halves.size() == 2) {
      return Status::invalid_argument("{}: plain decoding has no drafts to verify", printable(part));
    }
    const std::string name = is_plain ? "plain" : part;
    if (std::find(names.begin(), names.end(), name) != names.end())
      return Status::invalid_argument("{} is listed twice", printable(name));
    names.push_back(name);
    if (!is_plain) methods.push_back({name, halves[0], halves.size() == 2 ? halves[1] : "coupled"});
  }
  return methods;
}

Status eval_spec_bench(const EvalOptions& options, JsonReport* report) {
  DECANT_TRY(const std::vector<Question> questions, load_spec_bench(options.data));
  return compare_and_report({.name = "Spec-Bench",
                             .file = options.data + "/spec-bench/question.jsonl",
                             .model = options.model,
                             .answer = options.answer,
                             .constraint = {},
                             .choices = options.comparison,
                             .questions = spread(questions, options.limit)},
                            report);
}

Status compare(const CompareOptions& options) {
  DECANT_TRY(JsonReport report, JsonReport::open(options.json));
  DECANT_TRY(std::vector<Question> questions, load_prompts(options.prompts));
  return compare_and_report({.name = std::filesystem::path(options.prompts).filename().string(),
                             .file = options.prompts,
                             .model = options.model,
                             .answer = options.answer,
                             .constraint = options.constraint,
                             .choices = options.comparison,
                             .raw = options.raw,
                             .questions = std::move(questions)},
                            &report);
}

}  // namespace decant::cli
