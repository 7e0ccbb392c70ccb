// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "cli/session.h"

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>

#include "cli/models.h"
#include "formats/gguf.h"
#include "kernels/cuda_device.h"
#include "model/checkpoint.h"
#include "speculate/profile.h"
#include "text/stop_matcher.h"

namespace decant::cli {

Result<std::unique_ptr<Device>> make_device(const ModelOptions& options) {
  if (options.device == "cuda") {
    if (!options.kernels.empty() && options.kernels != "cuda") {
      return Status::invalid_argument("--kernels {}: the cuda device has only the table cuda", options.kernels);
    }
    Result<std::unique_ptr<Device>> device = make_cuda_device();
    if (!device.ok()) return std::move(device).status().with_context("--device cuda");
    return device;
  }
  Result<std::unique_ptr<Device>> device = make_cpu_device(options.threads, options.kernels);
  if (!device.ok() && !options.kernels.empty()) return std::move(device).status().with_context("--kernels");
  return device;
}

Result<Session> Session::open(const ModelOptions& options, const SessionNeeds& needs) {
  const auto begin = std::chrono::steady_clock::now();
  Session session;
  DECANT_TRY(session.path, resolve_model(options.model));
  DECANT_TRY(session.device, make_device(options));
  DECANT_TRY(const GgufFile file, open_model(session.path));
  DECANT_TRY(const ModelConfig config, read_config(file));
  DECANT_TRY(session.tokenizer, Tokenizer::from_gguf(file));
  {
    Progress progress;
    int shown = -1;
    const auto show = [&](double share) {
      const int percent = static_cast<int>(share * 100);
      if (percent == shown || seconds_since_start() < 0.5) return;  // a quick load needs no progress
      progress.show(fmt::format("loading {}: {} %", session.path, shown = percent));
    };
    DECANT_TRY(session.model, Model::load(file, *session.device, show));
  }
  for (const LoraOption& lora : options.lora) {
    Result<std::shared_ptr<const Overlay>> overlay = Overlay::load_lora(lora.path, session.model, lora.scale);
    if (!overlay.ok()) return std::move(overlay).status().with_context("--lora");
    session.overlays.push_back(std::move(overlay).value());
  }
  EngineOptions engine;
  engine.max_rows = needs.max_rows > 0 ? needs.max_rows : options.prefill_chunk > 0 ? options.prefill_chunk : 512;
  engine.context = needs.context > 0 ? needs.context : options.context > 0 ? options.context : config.context_length;
  engine.max_rows = std::min(engine.max_rows, std::max(engine.context, 1));
  engine.k_type = options.k_type;
  engine.v_type = options.v_type;
  DECANT_TRY(session.engine, Engine::create(session.model, engine));
  if (engine.context > config.context_length && needs.context == 0) {
    write_note(
        fmt::format("note: -c {} is more than the {} tokens that the model was trained for; answers may get worse",
                    engine.context, config.context_length));
  }
  session.load_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  if (options.verbose) {
    write_note(fmt::format(
        "{}: {}, {} layers, {} of weights; {} tokens of context, {} of cache; {} with {} on {} {}; loaded in {:.3f} s",
        session.path, config.architecture, config.n_layers(),
        size_text(static_cast<int64_t>(session.model->weight_bytes())), engine.context,
        size_text(static_cast<int64_t>(session.engine->cache().bytes())), session.device->kind(),
        session.device->table().name, session.device->threads(), session.device->threads() == 1 ? "thread" : "threads",
        session.load_seconds));
  }
  return session;
}

Result<Prompter> Prompter::open(const AnswerOptions& options, const Tokenizer& tokenizer) {
  Prompter out;
  Result<std::unique_ptr<ChatTemplate>> found =
      ChatTemplate::from_tokenizer(tokenizer, options.chat_template ? &*options.chat_template : nullptr);
  if (!found.ok()) {
    return std::move(found).status().with_context(
        options.chat_template ? "--chat-template"
                              : "the model's chat template (--chat-template FILE replaces it, run --raw does without)");
  }
  out.chat = std::move(found).value();
  out.variables = std::make_shared<Json>(
      options.template_variables.empty() ? Json() : Json::parse(options.template_variables, nullptr, false));
  return out;
}

Result<std::vector<TokenId>> Prompter::encode(const std::vector<ChatMessage>& messages, const Json* tools) const {
  Json list = Json::array();
  for (const ChatMessage& m : messages) list.push_back({{"role", m.role}, {"content", m.content}});
  return chat->encode({.messages = &list, .tools = tools, .variables = variables.get()});
}

std::vector<TokenId> end_tokens(const Tokenizer& tokenizer) {
  std::vector<TokenId> tokens;
  for (TokenId t = 0; t < tokenizer.vocab_size(); ++t) {
    if (tokenizer.is_end(t)) tokens.push_back(t);
  }
  return tokens;
}

Result<SamplerOptions> sampler_options(const AnswerOptions& options, const Session& session) {
  SamplerOptions sampler = options.sampler;
  if (options.seed) {
    sampler.seed = *options.seed;
  } else {
    std::random_device device;
    sampler.seed = device();  // 32 bits, so that it is easy to type again
  }
  sampler.end_tokens = end_tokens(*session.tokenizer);
  sampler.n_ctx = session.engine->options().context;
  if (sampler.dry_multiplier > 0) {
    for (const std::string& text : options.dry_breakers) {
      DECANT_TRY(std::vector<TokenId> tokens, session.tokenizer->encode(text, {.add_special = false}));
      if (!tokens.empty()) sampler.dry_breakers.push_back(std::move(tokens));
    }
  }
  return sampler;
}

Result<std::string> profile_path(const DraftProfile& key) {
  DECANT_TRY(const std::string folder, cache_folder());
  return folder + "/profiles/" + key.file_name();
}

namespace {

// What --draft auto stands for where this machine was not measured: it learns as it goes, and stays away where it does
// not pay.
constexpr std::string_view kUntuned = "lookup";

// The profile of this model on this machine, if it was measured; a file that is broken is named and not used.
std::optional<DraftProfile> find_profile(const Session& session, uint64_t vocabulary) {
  const DraftProfile key = profile_key(*session.engine, vocabulary);
  const Result<std::string> path = profile_path(key);
  if (!path.ok()) return std::nullopt;
  Result<DraftProfile> profile = read_profile(*path);
  if (!profile.ok()) {
    if (profile.status().code() == Code::kCorrupt) write_note(fmt::format("note: {}", profile.status().message()));
    return std::nullopt;
  }
  if (!profile->fits(key)) return std::nullopt;
  return *std::move(profile);
}

DraftEnvironment environment_of(const Session& session) {
  return {.model = session.model,
          .tokenizer = session.tokenizer.get(),
          .vocab_size = session.model->config().vocab_size,
          .context = session.engine->options().context,
          .vocabulary_hash = vocabulary_hash(*session.tokenizer)};
}

}  // namespace

Result<Speculation> open_speculation(const std::string& draft, const std::string& verifier, const Session& session,
                                     DraftControl* control) {
  const DraftEnvironment environment = environment_of(session);
  if (draft != "auto") return make_speculation(draft, verifier, environment);
  if (verifier != "coupled") {
    return Status::invalid_argument(
        "--verifier {}: --draft auto decides by time, which only the verifier coupled keeps out of the text; name a "
        "method",
        verifier);
  }
  const std::optional<DraftProfile> profile = find_profile(session, environment.vocabulary_hash);
  if (!profile) return make_speculation(kUntuned, verifier, environment);
  if (control != nullptr) control->cost.start(profile->step_seconds);
  Result<Speculation> made = make_speculation(profile->draft, verifier, environment);
  if (!made.ok()) {
    // Such as a draft model that has gone.
    write_note(fmt::format("note: the method of `decant tune` cannot be had, {} takes its place: {}", kUntuned,
                           made.status().message()));
    return make_speculation(kUntuned, verifier, environment);
  }
  return made;
}

Result<Drafting> Drafting::open(const DraftOptions& options, const Session& session) {
  Drafting out;
  Result<Speculation> made = open_speculation(options.draft, options.verifier, session, out.control.get());
  if (!made.ok()) return std::move(made).status().with_context("--draft");
  out.speculation = *std::move(made);
  if (!out.speculation.method && !options.save.empty()) {
    return Status::invalid_argument("--draft-save: --draft none learns nothing");
  }
  return out;
}

void Drafting::apply(const DraftOptions& options, GenerateRequest* request) const {
  request->draft = speculation.method;
  request->verifier = speculation.verifier;
  request->draft_nodes = options.nodes;
  request->draft_control = control;
}

Result<Answer> answer(Session& session, GenerateRequest request, const AnswerOptions& options, int prefill_chunk,
                      const std::function<Status(std::string_view)>& write) {
  Answer answer;
  StreamDecoder decoder(*session.tokenizer);
  StopMatcher matcher(options.stops);
  Status failure;
  const auto emit = [&](const std::string& text) {
    if (text.empty() || !failure.ok()) return;
    answer.text += text;
    failure = write(text);
  };
  request.max_tokens = options.predict;
  request.overlays = session.overlays;
  request.end_tokens = options.sampler.ignore_eos ? std::vector<TokenId>() : end_tokens(*session.tokenizer);
  request.on_token = [&](const Draw& draw) {
    emit(matcher.push(decoder.push(draw.token)));
    return failure.ok() && !matcher.stopped();
  };
  const InterruptFlag interrupt;
  Progress progress;
  const auto show = [&](int64_t done, int64_t total) {
    if (seconds_since_start() > 1 && done < total)
      return progress.show(fmt::format("reading the prompt: {} of {} tokens", done, total));
    progress.clear();
  };
  GenerateOptions generate_options{.prefill_chunk = prefill_chunk, .cancel = interrupt.flag(), .on_prefill = show};
  answer.result = std::move(generate(*session.engine, {&request, 1}, generate_options).front());
  progress.clear();
  if (!answer.result.status.ok()) return answer.result.status;
  emit(matcher.push(decoder.flush()));
  emit(matcher.flush());
  if (!failure.ok()) return failure;
  return answer;
}

double rate(double tokens, double seconds) { return seconds > 0 && tokens > 0 ? tokens / seconds : 0; }

std::string summary(const GenerateRequest& request, const GenerateResult& result) {
  const auto fresh = static_cast<double>(request.prompt.size()) - result.cached_tokens;
  const auto drawn = static_cast<double>(result.tokens.size());
  std::string text =
      fmt::format("prompt {} tokens, {:.0f} tokens/s", request.prompt.size(), rate(fresh, result.prefill_seconds));
  if (drawn > 1) {
    text += fmt::format("; answer {} tokens, {:.0f} tokens/s", result.tokens.size(),
                        rate(drawn - 1, result.decode_seconds));
  }
  if (const DraftStats& d = result.draft; request.draft && d.steps > 0 && drawn > 1) {
    text += fmt::format("; {:.2f} tokens/step, {} of {} guesses kept", (drawn - 1) / static_cast<double>(d.steps),
                        d.accepted, d.verified);
  }
  if (request.sampler.temperature > 0) text += fmt::format("; seed {}", request.sampler.seed);
  return text;
}

std::string token_text(const Tokenizer& tokenizer, TokenId token) { return std::string(tokenizer.piece(token, true)); }

}  // namespace decant::cli
