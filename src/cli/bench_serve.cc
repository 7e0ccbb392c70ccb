// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// `decant bench serve`: how does a server of OpenAI's API do under load?
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "base/processor.h"
#include "cli/chart.h"
#include "cli/common.h"
#include "cli/load_client.h"

namespace decant::cli {
namespace {

constexpr size_t kMaxShownErrors = 5;

Json number(double x) { return std::isfinite(x) ? Json(x) : Json(nullptr); }

Json json_of(const Distribution& d) {
  return {{"count", d.count},     {"mean", number(d.mean)}, {"p50", number(d.p50)},
          {"p95", number(d.p95)}, {"p99", number(d.p99)},   {"max", number(d.max)}};
}

double per_second(double n, double seconds) { return seconds > 0 ? n / seconds : 0; }

class BenchServe {
 public:
  explicit BenchServe(const BenchServeOptions& options) : options_(options) {}

  Status run() {
    DECANT_TRY(JsonReport report, JsonReport::open(options_.json));
    DECANT_TRY(client_.url, parse_server_url(options_.url));
    client_.api_key = options_.api_key;
    if (const char* key = std::getenv("DECANT_API_KEY"); client_.api_key.empty() && key != nullptr) {
      client_.api_key = key;
    }
    client_.timeout_s = options_.timeout_s;
    if (!options_.body.empty()) extra_ = Json::parse(options_.body);
    DECANT_TRY(const PromptMix mix, PromptMix::open(options_.mix));
    DECANT_TRY(model_, find_model());
    if (options_.warm_up > 0) DECANT_TRY_STATUS(warm_up(mix));
    DECANT_TRY(records_, load(mix));
    figures_ = figures_of(records_, options_.goals);
    if (!report.to_stdout()) DECANT_TRY_STATUS(write_stdout(text()));
    DECANT_TRY_STATUS(report.write(json()));
    if (figures_.requests == 0) return Status::invalid_argument("no request was sent; allow more time (--duration)");
    if (figures_.failed == figures_.requests) return Status::io("every request failed; {}", records_.front().error);
    return {};
  }

 private:
  // --model, or the first one that the server names.
  Result<std::string> find_model() const {
    if (!options_.model.empty()) return options_.model;
    DECANT_TRY(const HttpAnswer answer, http_get(client_, "/v1/models"));
    if (answer.status != 200) {
      return Status::io("{}/v1/models: {}; or name the model with --model", options_.url,
                        http_failure(answer.status, answer.body));
    }
    const Json json = Json::parse(answer.body, nullptr, false);
    const auto data = json.is_object() ? json.find("data") : json.end();
    if (json.is_object() && data != json.end() && data->is_array() && !data->empty() && data->front().is_object() &&
        data->front().contains("id") && data->front()["id"].is_string()) {
      return data->front()["id"].get<std::string>();
    }
    return Status::io(
        "{}/v1/models names no model; is this an OpenAI-compatible server? Or name the model with --model",
        options_.url);
  }

  std::string body(const std::string& prompt) const {
    Json json;
    json["model"] = model_;
    if (options_.chat) {
      json["messages"] = Json::array({{{"role", "user"}, {"content", prompt}}});
    } else {
      json["prompt"] = prompt;
    }
    json["max_tokens"] = options_.predict;
    json["temperature"] = options_.temperature;
    json["stream"] = true;
    json["stream_options"] = {{"include_usage", true}};
    if (options_.ignore_eos) json["ignore_eos"] = true;
    if (extra_.is_object()) json.update(extra_);
    return json.dump(-1, ' ', false, Json::error_handler_t::replace);
  }

  std::string path() const { return options_.chat ? "/v1/chat/completions" : "/v1/completions"; }

  Status warm_up(const PromptMix& mix) const {
    const InterruptFlag interrupt;
    Progress progress;
    const auto count = static_cast<size_t>(options_.warm_up);
    LoadPlan plan{.path = path(),
                  .body = [&](size_t i) { return body(mix.warm_up_prompt(i)); },
                  .requests = count,
                  .streams = std::min(count, static_cast<size_t>(options_.streams))};
    DECANT_TRY(const std::vector<StreamRecord> records, run_load(client_, plan, [&](const LoadState& state) {
                 progress.show(fmt::format("warming up: {} of {}", state.ended, count));
                 return !interrupt.raised();
               }));
    for (const StreamRecord& r : records) {
      if (!r.error.empty()) return Status::io("{}", r.error);
    }
    return {};
  }

  Result<std::vector<StreamRecord>> load(const PromptMix& mix) {
    LoadPlan plan{.path = path(),
                  .body = [&](size_t i) { return body(mix.prompt(i)); },
                  .is_long = [&](size_t i) { return mix.is_long(i); },
                  .requests = static_cast<size_t>(options_.requests),
                  .duration_s = options_.duration_s,
                  .streams = static_cast<size_t>(options_.streams)};
    if (options_.rate > 0) {
      plan.arrivals = poisson_arrivals(options_.rate, plan.requests, options_.duration_s, options_.mix.seed);
      if (plan.arrivals.empty()) return std::vector<StreamRecord>();
    }
    const InterruptFlag interrupt;
    Progress progress;
    return run_load(client_, plan, [&](const LoadState& state) {
      if (progress.is_terminal()) progress.show(progress_text(state, plan));
      return !interrupt.raised();
    });
  }

  std::string progress_text(const LoadState& state, const LoadPlan& plan) const {
    const size_t all = plan.arrivals.empty() ? plan.requests : plan.arrivals.size();
    double share = all > 0 ? static_cast<double>(state.ended) / static_cast<double>(all) : 0;
    if (plan.duration_s > 0) share = std::max(share, state.seconds / plan.duration_s);
    constexpr int kWidth = 24;
    const int done = std::clamp(static_cast<int>(share * kWidth), 0, kWidth);
    std::string text = fmt::format("[{:#<{}}{:.<{}}] {}", "", done, "", kWidth - done, state.ended);
    if (all > 0) text += fmt::format(" of {}", all);
    text += fmt::format(" requests, {} running, {:.0f} chunks/s", state.started - state.ended,
                        per_second(static_cast<double>(state.chunks), state.seconds));
    if (state.failed > 0) text += fmt::format(", {} failed", state.failed);
    return text;
  }

  std::string load_text() const {
    std::string text = options_.rate > 0 ? fmt::format("{:g} requests/s arrive", options_.rate)
                                         : fmt::format("{} streams", options_.streams);
    if (options_.mix.mix == LoadMix::kSpecBench) return text + ", prompts of Spec-Bench";
    text += fmt::format(", prompts of {} words", options_.mix.prompt_tokens);
    if (options_.mix.mix == LoadMix::kSharedPrefix) {
      text += fmt::format(" behind a shared prefix of {}", options_.mix.prefix_tokens);
    } else if (options_.mix.mix == LoadMix::kLongPrompt) {
      text += fmt::format(", one of {} has {}", options_.mix.long_every, options_.mix.long_tokens);
    }
    return text;
  }

  std::string text() const {
    const LoadFigures& f = figures_;
    std::string text = fmt::format("{} {}, up to {} tokens: {}\n", options_.url, model_, options_.predict, load_text());
    text += fmt::format("requests    {} completed", f.completed);
    if (f.cut > 0) text += fmt::format(", {} cut by the end", f.cut);
    text += fmt::format(", {} failed, in {:.2f} s\n", f.failed, f.seconds);
    text += fmt::format("throughput  {:.1f} output tokens/s, {:.2f} requests/s", per_second(f.output_tokens, f.seconds),
                        per_second(static_cast<double>(f.completed), f.seconds));
    if (f.prompt_tokens > 0) {
      text += fmt::format(", {:.1f} prompt tokens/s", per_second(static_cast<double>(f.prompt_tokens), f.seconds));
    }
    text += fmt::format("\ntokens      {:.0f} output in {} chunks", f.output_tokens, f.chunks);
    if (f.with_usage == 0 && f.chunks > 0) text += " (counted as chunks: the server gave no usage)";
    if (f.prompt_tokens > 0) text += fmt::format(", {} prompt", f.prompt_tokens);
    if (f.cached_tokens > 0) text += fmt::format(" ({} of them cached)", f.cached_tokens);
    text += "\n\n";
    const auto row = [](const char* name, const Distribution& d, double scale) {
      std::vector<std::string> cells = {name};
      for (const double x : {d.mean, d.p50, d.p95, d.p99, d.max}) {
        cells.push_back(std::isfinite(x) ? fmt::format("{:.{}f}", x * scale, x * scale < 100 ? 2 : 0) : "-");
      }
      return cells;
    };
    Table table{.title = "", .head = {"", "mean", "p50", "p95", "p99", "max"}, .rows = {}, .note = ""};
    table.rows = {row("first token, ms", f.first_token, 1e3), row("between tokens, ms", f.gap, 1e3),
                  row("per token, ms", f.per_token, 1e3), row("whole request, ms", f.request, 1e3),
                  row("longest gap / median gap", f.stall, 1)};
    std::string shown = text_of(table);
    text += shown.substr(shown.front() == '\n' ? 1 : 0);
    if (!options_.goals.empty()) {
      text += fmt::format("\ngoodput     {:.1f} % of requests, {:.2f} requests/s, keep to {}\n", 100 * good_share(),
                          per_second(static_cast<double>(f.good), f.seconds), options_.goals_text);
    }
    if (!f.errors.empty()) text += "\n";
    for (const auto& [reason, count] : most_frequent_errors())
      text += fmt::format("failed {} times: {}\n", count, reason);
    if (f.errors.size() > kMaxShownErrors) {
      text += fmt::format("and for {} other reasons (--json)\n", f.errors.size() - kMaxShownErrors);
    }
    return text;
  }

  std::vector<std::pair<std::string, size_t>> most_frequent_errors() const {
    std::vector<std::pair<std::string, size_t>> errors(figures_.errors.begin(), figures_.errors.end());
    std::stable_sort(errors.begin(), errors.end(), [](const auto& a, const auto& b) { return a.second > b.second; });
    errors.resize(std::min(errors.size(), kMaxShownErrors));
    return errors;
  }

  // Requests that were cut count neither way.
  double good_share() const {
    const size_t judged = figures_.requests - figures_.cut;
    return judged > 0 ? static_cast<double>(figures_.good) / static_cast<double>(judged) : 0;
  }

  Json json() const {
    const LoadFigures& f = figures_;
    Json json;
    json["url"] = options_.url;
    json["model"] = model_;
    json["processor"] = processor_name();
    json["decant"] = kVersion;
    json["settings"] = {{"endpoint", path()},
                        {"mix", load_mix_name(options_.mix.mix)},
                        {"streams", options_.rate > 0 ? Json(nullptr) : Json(options_.streams)},
                        {"rate", options_.rate > 0 ? Json(options_.rate) : Json(nullptr)},
                        {"max_tokens", options_.predict},
                        {"prompt_words", options_.mix.prompt_tokens},
                        {"prefix_words", options_.mix.prefix_tokens},
                        {"long_words", options_.mix.long_tokens},
                        {"long_every", options_.mix.long_every},
                        {"temperature", options_.temperature},
                        {"ignore_eos", options_.ignore_eos},
                        {"duration_s", options_.duration_s > 0 ? Json(options_.duration_s) : Json(nullptr)},
                        {"warm_up", options_.warm_up},
                        {"seed", options_.mix.seed},
                        {"body", extra_}};
    json["requests"] = f.requests;
    json["completed"] = f.completed;
    json["failed"] = f.failed;
    json["cut"] = f.cut;
    json["seconds"] = f.seconds;
    json["output_tokens"] = f.output_tokens;
    json["output_tokens_per_s"] = per_second(f.output_tokens, f.seconds);
    json["requests_per_s"] = per_second(static_cast<double>(f.completed), f.seconds);
    json["chunks"] = f.chunks;
    json["requests_with_usage"] = f.with_usage;
    json["prompt_tokens"] = f.prompt_tokens;
    json["cached_tokens"] = f.cached_tokens;
    json["ttft_s"] = json_of(f.first_token);
    json["itl_s"] = json_of(f.gap);
    json["tpot_s"] = json_of(f.per_token);
    json["e2e_s"] = json_of(f.request);
    json["longest_over_median_gap"] = json_of(f.stall);
    json["goodput"] = nullptr;
    if (!options_.goals.empty()) {
      json["goodput"] = {{"goals", options_.goals_text},
                         {"share", good_share()},
                         {"requests_per_s", per_second(static_cast<double>(f.good), f.seconds)}};
    }
    json["errors"] = f.errors;
    Json& records = json["records"] = Json::array();
    for (const StreamRecord& r : records_) records.push_back(json_of_record(r));
    return json;
  }

  static Json json_of_record(const StreamRecord& r) {
    double longest = 0;
    for (size_t i = 1; i < r.chunks.size(); ++i) longest = std::max(longest, r.chunks[i] - r.chunks[i - 1]);
    const auto count = [](int64_t n) { return n >= 0 ? Json(n) : Json(nullptr); };
    return {{"start_s", r.start},
            {"ttft_s", r.chunks.empty() ? Json(nullptr) : Json(r.chunks.front() - r.start)},
            {"seconds", r.end - r.start},
            {"chunks", r.chunks.size()},
            {"longest_gap_s", r.chunks.size() > 1 ? Json(longest) : Json(nullptr)},
            {"prompt_tokens", count(r.prompt_tokens)},
            {"completion_tokens", count(r.completion_tokens)},
            {"long", r.is_long},
            {"cut", r.is_cut},
            {"error", r.error.empty() ? Json(nullptr) : Json(r.error)}};
  }

  const BenchServeOptions& options_;
  ClientOptions client_;
  std::string model_;
  Json extra_;
  std::vector<StreamRecord> records_;
  LoadFigures figures_;
};

}  // namespace

Status bench_serve(const BenchServeOptions& options) { return BenchServe(options).run(); }

}  // namespace decant::cli
