// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "eval/method_comparison.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "base/rng.h"
#include "text/stop_matcher.h"

namespace decant {
namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
constexpr int kResamples = 2000;
constexpr const char* kWarmUp = "Tell me about a lighthouse keeper who collects sea shells and writes letters home.";

std::string_view trim(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t\r\n");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\r\n") - begin + 1);
}

// A method on its way through the questions.
class Contestant {
 public:
  Contestant(Engine& engine, const Tokenizer& tokenizer, const ComparedMethod& method, const ComparisonOptions& options)
      : engine_(engine), tokenizer_(tokenizer), method_(method), options_(options) {}

  Status start() {
    control_ = std::make_shared<DraftControl>();
    if (method_.make) {
      DECANT_TRY(draft_, method_.make());
    }
    return {};
  }

  Status warm_up() {
    DECANT_TRY(std::vector<TokenId> prompt, options_.encode({{"user", kWarmUp}}));
    const int tokens = options_.max_tokens < 0 ? options_.warm_up : std::min(options_.warm_up, options_.max_tokens);
    if (prompt.size() > static_cast<size_t>(engine_.options().context)) return {};
    return answer(std::move(prompt), tokens, 0).status();
  }

  Result<QuestionRecord> ask(const Question& question, uint32_t number) {
    if (options_.reset_state) DECANT_TRY_STATUS(start());
    std::vector<ChatMessage> messages;
    QuestionRecord record;
    for (const std::string& turn : question.turns) {
      messages.push_back({"user", turn});
      DECANT_TRY(std::vector<TokenId> prompt, options_.encode(messages));
      Result<TurnRecord> answered = answer(std::move(prompt), options_.max_tokens, number);
      if (!answered.ok()) {
        // Stopped by the user: nothing is wrong with the question.
        if (answered.status().code() == Code::kCancelled) return std::move(answered).status();
        return std::move(answered).status().with_context(
            fmt::format("{}: turn {}: {}", question.place, record.size() + 1, method_.name));
      }
      messages.push_back({"assistant", std::string(trim(answered->text))});
      record.push_back(*std::move(answered));
    }
    return record;
  }

  const std::string& name() const { return method_.name; }
  size_t bytes() const { return draft_ ? draft_->bytes() : 0; }

 private:
  Result<TurnRecord> answer(std::vector<TokenId> prompt, int max_tokens, uint32_t number) {
    TurnRecord record{.prompt_tokens = static_cast<int>(prompt.size())};
    GenerateRequest request{.prompt = std::move(prompt), .sampler = options_.sampler, .max_tokens = max_tokens};
    request.sample = number;  // other noise for each question
    request.overlays = options_.overlays;
    request.end_tokens = options_.end_tokens;
    request.constraint = options_.constraint;
    request.canonical = options_.canonical;
    request.finish_in_time = options_.finish_in_time;
    request.draft = draft_;
    request.verifier = method_.verifier;
    request.draft_nodes = options_.draft_nodes;
    request.adapt_draft = !options_.all_guesses;
    request.draft_control = control_;
    StreamDecoder decoder(tokenizer_);
    StopMatcher matcher(options_.stops);
    if (!options_.stops.empty()) {
      request.on_token = [&](const Draw& draw) {
        record.text += matcher.push(decoder.push(draw.token));
        return !matcher.stopped();
      };
    }
    GenerateResult result = std::move(
        generate(engine_, {&request, 1}, {.prefill_chunk = options_.prefill_chunk, .cancel = options_.cancel}).front());
    DECANT_TRY_STATUS(result.status);
    if (result.finish == FinishReason::kCancelled) return Status::make(Code::kCancelled, "");
    if (options_.stops.empty()) {
      for (const TokenId token : result.tokens) record.text += matcher.push(decoder.push(token));
    }
    record.text += matcher.push(decoder.flush());
    record.text += matcher.flush();
    record.tokens = std::move(result.tokens);
    record.ended = result.ended;
    record.finish = result.finish;
    record.prefill_seconds = result.prefill_seconds;
    record.decode_seconds = result.decode_seconds;
    record.draft = result.draft;
    return record;
  }

  Engine& engine_;
  const Tokenizer& tokenizer_;
  const ComparedMethod& method_;
  const ComparisonOptions& options_;
  std::shared_ptr<DraftMethod> draft_;
  std::shared_ptr<DraftControl> control_;
};

// Prompts of all turns have to fit, with answers as long as they may become before the later ones.
Status check_fit(const Question& question, const ComparisonOptions& options, int context) {
  std::vector<ChatMessage> messages;
  for (size_t turn = 0; turn < question.turns.size(); ++turn) {
    messages.push_back({"user", question.turns[turn]});
    Result<std::vector<TokenId>> prompt = options.encode(messages);
    const size_t answers = turn * static_cast<size_t>(std::max(options.max_tokens, 0));
    Status status = prompt.ok() ? check_prompt(prompt->size() + answers, context) : std::move(prompt).status();
    if (!status.ok()) {
      std::string where = fmt::format("{}: turn {}", question.place, turn + 1);
      if (answers > 0) where += fmt::format(", with {} tokens (-n) for each answer before it", options.max_tokens);
      return std::move(status).with_context(where);
    }
    messages.push_back({"assistant", ""});
  }
  return {};
}

// What a question took.
struct Sums {
  int64_t decoded = 0, drawn = 0;
  double decode = 0, prefill = 0;  // seconds
  explicit Sums(const QuestionRecord& record) {
    for (const TurnRecord& t : record) {
      decoded += t.decoded();
      drawn += t.drawn();
      decode += t.decode_seconds;
      prefill += t.prefill_seconds;
    }
  }
  bool decodes() const { return decoded > 0 && decode > 0; }
  double decode_rate() const { return static_cast<double>(decoded) / decode; }
};

double ratio(double a, double b) { return b > 0 ? a / b : kNone; }

// The middle 95 % of the ratios of sums of questions drawn with replacement.
std::array<double, 2> bootstrap(std::span<const double> method, std::span<const double> plain) {
  const size_t n = method.size();
  if (n < 2) return {kNone, kNone};
  std::vector<double> ratios;
  for (uint32_t sample = 0; sample < kResamples; ++sample) {
    double a = 0, b = 0;
    for (size_t i = 0; i < n; ++i) {
      const double u = random_uniform({.seed = 1, .sample = sample}, static_cast<uint32_t>(i));
      const auto pick = std::min(static_cast<size_t>(u * static_cast<double>(n)), n - 1);
      a += method[pick];
      b += plain[pick];
    }
    ratios.push_back(a / b);
  }
  std::sort(ratios.begin(), ratios.end());
  return {ratios[kResamples / 40], ratios[kResamples - 1 - kResamples / 40]};
}

}  // namespace

Result<std::vector<MethodRecord>> compare_methods(Engine& engine, const Tokenizer& tokenizer,
                                                  std::span<const Question> questions,
                                                  std::span<const ComparedMethod> methods,
                                                  const ComparisonOptions& options,
                                                  const std::function<void(size_t question, size_t method)>& progress) {
  for (const Question& q : questions) DECANT_TRY_STATUS(check_fit(q, options, engine.options().context));
  const ComparedMethod plain{.name = "plain", .make = {}, .verifier = nullptr};
  std::vector<Contestant> contestants;
  contestants.emplace_back(engine, tokenizer, plain, options);
  for (const ComparedMethod& m : methods) contestants.emplace_back(engine, tokenizer, m, options);
  std::vector<MethodRecord> records(contestants.size());
  for (size_t c = 0; c < contestants.size(); ++c) {
    records[c].name = contestants[c].name();
    const auto named = [&](Status status) {
      if (status.ok() || status.code() == Code::kCancelled) return status;
      return std::move(status).with_context(records[c].name);
    };
    DECANT_TRY_STATUS(named(contestants[c].start()));
    DECANT_TRY_STATUS(named(contestants[c].warm_up()));
  }
  for (size_t q = 0; q < questions.size(); ++q) {
    for (size_t i = 0; i < contestants.size(); ++i) {
      const size_t c = (q + i) % contestants.size();
      if (progress) progress(q, c);
      DECANT_TRY(QuestionRecord record, contestants[c].ask(questions[q], static_cast<uint32_t>(q)));
      records[c].questions.push_back(std::move(record));
    }
  }
  for (size_t c = 0; c < contestants.size(); ++c) records[c].bytes = contestants[c].bytes();
  return records;
}

Figures figures_of(std::span<const QuestionRecord> method, std::span<const QuestionRecord> plain) {
  Figures f;
  std::vector<double> rates, plain_rates;
  double whole = 0, plain_whole = 0, decode = 0, plain_decode = 0;
  int64_t decoded = 0, plain_decoded = 0;
  for (size_t i = 0; i < std::min(method.size(), plain.size()); ++i) {
    const Sums a(method[i]), b(plain[i]);
    ++f.questions;
    f.tokens += a.drawn;
    // Answers of one token are not decoded.
    if (a.decodes() && b.decodes()) {
      rates.push_back(a.decode_rate());
      plain_rates.push_back(b.decode_rate());
      decoded += a.decoded;
      plain_decoded += b.decoded;
      decode += a.decode;
      plain_decode += b.decode;
    }
    if (a.prefill + a.decode > 0 && b.prefill + b.decode > 0) {
      whole += static_cast<double>(a.drawn) / (a.prefill + a.decode);
      plain_whole += static_cast<double>(b.drawn) / (b.prefill + b.decode);
    }
  }
  double sum = 0, plain_sum = 0;
  for (const double r : rates) sum += r;
  for (const double r : plain_rates) plain_sum += r;
  f.speedup = ratio(sum, plain_sum);
  f.interval = bootstrap(rates, plain_rates);
  f.speedup_with_prefill = ratio(whole, plain_whole);
  f.speedup_total =
      ratio(ratio(static_cast<double>(decoded), decode), ratio(static_cast<double>(plain_decoded), plain_decode));
  f.tokens_per_s = ratio(sum, static_cast<double>(rates.size()));

  DraftStats s;
  double seconds = 0, all_decoded = 0, repeats = 0, grams = 0, covered = 0;
  for (const QuestionRecord& q : method) {
    for (const TurnRecord& t : q) {
      ++f.turns;
      seconds += t.decode_seconds;
      all_decoded += static_cast<double>(t.decoded());
      s.steps += t.draft.steps;
      s.proposed += t.draft.proposed;
      s.verified += t.draft.verified;
      s.draft_seconds += t.draft.draft_seconds;
      s.verify_seconds += t.draft.verify_seconds;
      for (size_t d = 0; d < s.tried.size(); ++d) {
        s.tried[d] += t.draft.tried[d];
        s.kept[d] += t.draft.kept[d];
      }
      covered += static_cast<double>(t.draft.tried[0]);
      std::set<std::array<TokenId, 4>> seen;
      for (size_t i = 0; i + 4 <= t.tokens.size(); ++i) {
        ++grams;
        repeats += !seen.insert({t.tokens[i], t.tokens[i + 1], t.tokens[i + 2], t.tokens[i + 3]}).second;
      }
    }
  }
  const auto steps = static_cast<double>(s.steps);
  f.tokens_per_step = ratio(all_decoded, steps);
  for (size_t d = 0; d < s.tried.size() && s.tried[d] > 0; ++d) {
    f.tried.push_back(s.tried[d]);
    f.acceptance.push_back(ratio(static_cast<double>(s.kept[d]), static_cast<double>(s.tried[d])));
  }
  f.coverage = ratio(covered, steps);
  f.draft_ms = ratio(1e3 * s.draft_seconds, steps);
  f.verify_ms = ratio(1e3 * s.verify_seconds, steps);
  f.proposed = ratio(static_cast<double>(s.proposed), steps);
  f.nodes = ratio(static_cast<double>(s.verified), steps);
  f.draft_share = ratio(s.draft_seconds, seconds);
  f.repeated_4grams = ratio(repeats, grams);
  return f;
}

Agreement agreement_of(std::span<const QuestionRecord> method, std::span<const QuestionRecord> plain) {
  Agreement agreement;
  for (size_t q = 0; q < std::min(method.size(), plain.size()); ++q) {
    std::optional<FirstDifference> here;
    for (size_t t = 0; !here && t < std::min(method[q].size(), plain[q].size()); ++t) {
      const TurnRecord &a = method[q][t], &b = plain[q][t];
      const auto [at, other] = std::mismatch(a.tokens.begin(), a.tokens.end(), b.tokens.begin(), b.tokens.end());
      if (at != a.tokens.end() || other != b.tokens.end() || a.finish != b.finish) {
        here = FirstDifference{.question = q, .turn = t, .index = static_cast<size_t>(at - a.tokens.begin())};
      }
    }
    if (!here) ++agreement.identical;
    if (here && !agreement.first) agreement.first = here;
  }
  return agreement;
}

}  // namespace decant
