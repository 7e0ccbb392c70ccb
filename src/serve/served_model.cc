// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "serve/served_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <random>

#include "base/printable.h"
#include "base/spec.h"
#include "constrain/compile.h"
#include "constrain/tag_constraint.h"
#include "constrain/tools.h"
#include "engine/align.h"
#include "model/overlay.h"

namespace decant::serve {
namespace {

constexpr size_t kMaxConstraints = 64;
constexpr size_t kMaxDrafts = 32;
// Of what the tool prompt asks for where the template says nothing of tools.
constexpr const char* kGenericFormat = "hermes";

bool mentions_tools(std::string_view chat_template) { return chat_template.find("tools") != std::string_view::npos; }

std::string key_of(const ConstraintSpec& spec) {
  std::string key = fmt::format("{}:{}:{}:{}:", static_cast<int>(spec.kind), spec.text.size(), spec.name,
                                static_cast<int>(spec.schema.property_order));
  key += spec.text;
  for (const std::string& choice : spec.choices) key += fmt::format("{}:{}", choice.size(), choice);
  for (const ConstraintSpec& part : spec.parts) {
    const std::string inner = key_of(part);
    key += fmt::format("[{}:{}]", inner.size(), inner);
  }
  return key;
}

std::string dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

// For models whose template knows no tools: what they can call, calls and results become ordinary text.
Json with_generic_tools(const Json& messages, const Json& tools) {
  Json out = Json::array();
  std::string prompt;
  if (!tools.is_null()) {
    prompt = "You can call functions. Their names, descriptions and parameters as JSON Schema:\n<tools>\n";
    for (const Json& tool : tools) prompt += dump(tool["function"]) + "\n";
    prompt +=
        "</tools>\nTo call one, write its name and its arguments as a JSON object within these tags:\n<tool_call>\n"
        "{\"name\": \"the function's name\", \"arguments\": {}}\n</tool_call>";
  }
  bool told = prompt.empty();
  for (const Json& message : messages) {
    Json copy = message;
    const std::string role = message["role"].get<std::string>();
    if (!told && role == "system") {
      copy["content"] = message["content"].get<std::string>() + "\n\n" + prompt;
      told = true;
    } else if (!told) {
      out.push_back({{"role", "system"}, {"content", prompt}});
      told = true;
    }
    if (role == "tool") {
      copy = {{"role", "user"},
              {"content", "<tool_response>\n" + message["content"].get<std::string>() + "\n</tool_response>"}};
    } else if (message.contains("tool_calls")) {
      std::string text = message["content"].get<std::string>();
      for (const Json& call : message["tool_calls"]) {
        const Json plain = {{"name", call["function"]["name"]}, {"arguments", call["function"]["arguments"]}};
        text += (text.empty() ? "" : "\n") + ("<tool_call>\n" + dump(plain) + "\n</tool_call>");
      }
      copy = {{"role", "assistant"}, {"content", text}};
    }
    // Two results in a row are one turn of the user's.
    if (role == "tool" && !out.empty() && out.back()["role"] == "user" && !out.back().contains("name") &&
        out.back()["content"].get<std::string>().starts_with("<tool_response>")) {
      out.back()["content"] = out.back()["content"].get<std::string>() + "\n" + copy["content"].get<std::string>();
      continue;
    }
    out.push_back(std::move(copy));
  }
  return out;
}

// Control tokens that a text names.
std::vector<TagToken> control_tokens_in(std::string_view text, const Tokenizer& tokenizer) {
  ToolFormat format;
  format.begin = text;
  return tag_tokens(format, tokenizer);
}

}  // namespace

ServedModel::ServedModel(ServedModelOptions options)
    : options_(std::move(options)),
      tool_format_(detect_tool_format(options_.tool_template_text)),
      reasons_(options_.template_text.find("</think>") != std::string::npos) {}

std::vector<std::string> ServedModel::names() const {
  std::vector<std::string> names = {options_.name};
  for (const ServedAdapter& adapter : options_.adapters) names.push_back(options_.name + ":" + adapter.name);
  return names;
}

std::shared_ptr<const JsonVocabulary> ServedModel::vocabulary() {
  std::call_once(vocabulary_made_, [this] {
    vocabulary_ = std::make_shared<const JsonVocabulary>(std::make_shared<const TokenTrie>(tokenizer()));
  });
  return vocabulary_;
}

Problem ServedModel::find_overlays(const std::string& model, const std::vector<std::string>& lora,
                                   std::vector<std::shared_ptr<const Overlay>>* out) const {
  const auto find = [&](std::string_view name) -> const ServedAdapter* {
    for (const ServedAdapter& adapter : options_.adapters) {
      if (adapter.name == name) return &adapter;
    }
    return nullptr;
  };
  if (!model.empty() && model != options_.name) {
    const ServedAdapter* adapter = nullptr;
    if (model.starts_with(options_.name + ":"))
      adapter = find(std::string_view(model).substr(options_.name.size() + 1));
    if (adapter == nullptr) {
      std::string list;
      for (const std::string& name : names()) list += (list.empty() ? "" : ", ") + name;
      return {404, fmt::format("there is no model '{}'; served: {}", printable(model), list), "model",
              "model_not_found"};
    }
    out->push_back(adapter->overlay);
  }
  for (const std::string& name : lora) {
    const ServedAdapter* adapter = find(name);
    if (adapter == nullptr) {
      std::string list;
      for (const ServedAdapter& a : options_.adapters) list += (list.empty() ? "" : ", ") + a.name;
      return Problem::bad("lora", fmt::format("lora: there is no adapter '{}'; loaded: {}", printable(name),
                                              list.empty() ? "none" : list));
    }
    if (std::find(out->begin(), out->end(), adapter->overlay) != out->end()) {
      return Problem::bad("lora", fmt::format("lora: '{}' is there twice", printable(name)));
    }
    out->push_back(adapter->overlay);
  }
  return {};
}

Problem ServedModel::check_length(size_t tokens, const char* param) const {
  if (tokens == 0) return Problem::bad(param, fmt::format("{}: it has no tokens", param));
  if (tokens < static_cast<size_t>(options_.context)) return {};
  return Problem::bad(param,
                      fmt::format("{}: {} tokens; the model's context is {} tokens, and the answer needs room as well",
                                  param, tokens, options_.context),
                      "context_length_exceeded");
}

Problem ServedModel::encode(const PromptInput& input, const char* param, std::vector<TokenId>* out) const {
  if (const auto* tokens = std::get_if<std::vector<TokenId>>(&input)) {
    for (const TokenId token : *tokens) {
      if (token >= tokenizer().vocab_size()) {
        return Problem::bad(
            param, fmt::format("{}: token {} is not in the vocabulary of {}", param, token, tokenizer().vocab_size()));
      }
    }
    *out = *tokens;
  } else {
    // Whoever writes the whole prompt may name special tokens in it.
    Result<std::vector<TokenId>> encoded = tokenizer().encode(std::get<std::string>(input), {.parse_special = true});
    if (!encoded.ok()) return Problem::of(encoded.status(), param);
    *out = *std::move(encoded);
  }
  return check_length(out->size(), param);
}

Problem ServedModel::encode_chat(const ChatRequest& request, std::vector<TokenId>* out) const {
  if (options_.chat == nullptr) {
    return Problem::bad("messages", "the model has no chat template; use /v1/completions", "unsupported");
  }
  const bool takes_tools = mentions_tools(options_.tool_template_text);
  const bool has_tools = !request.tools.is_null() && request.tool_choice != ChatRequest::Tools::kNone;
  Json messages =
      takes_tools ? request.messages : with_generic_tools(request.messages, has_tools ? request.tools : Json());
  // The newer name of the same role.
  const bool knows_developer = options_.template_text.find("developer") != std::string::npos;
  for (Json& message : messages) {
    if (!knows_developer && message["role"] == "developer") message["role"] = "system";
  }
  Json variables = options_.template_variables;
  if (request.template_variables.is_object()) {
    if (variables.is_null()) variables = Json::object();
    for (const auto& [key, value] : request.template_variables.items()) variables[key] = value;
  }
  Result<std::vector<TokenId>> tokens = options_.chat->encode(
      {.messages = &messages, .tools = takes_tools && has_tools ? &request.tools : nullptr, .variables = &variables});
  if (!tokens.ok()) {
    Problem problem = Problem::of(tokens.status(), "messages");
    problem.message = fmt::format("the chat template refuses the conversation: {}", problem.message);
    return problem;
  }
  *out = *std::move(tokens);
  return {};
}

Problem ServedModel::prepare_draft(const GenerationFields& fields, GenerateRequest* out) {
  ServedDraft draft = options_.draft;
  const bool is_own = !fields.draft.empty() || !fields.verifier.empty();
  if (is_own) {
    const std::string name = fields.draft.empty() ? options_.draft.speculation.spec : fields.draft;
    const std::string verifier = fields.verifier.empty() ? "coupled" : fields.verifier;
    const char* param = fields.draft.empty() ? "verifier" : "draft";
    // No request opens a file: settings that are paths are the operator's alone.
    for (const std::string& part : fields.draft.empty() ? std::vector<std::string>() : split_outside(name, '+')) {
      const Result<Spec> spec = parse_spec(part);
      if (!spec.ok()) return Problem::of(spec.status(), param);
      for (const DrafterInfo& info : drafters()) {
        if (info.name != spec->name) continue;
        const bool wants_path = std::any_of(info.settings.begin(), info.settings.end(),
                                            [](const SettingInfo& s) { return s.kind == SettingInfo::Kind::kPath; });
        if (wants_path && !info.needs.empty()) {
          return Problem::bad(param,
                              fmt::format("{}: '{}' needs a file, which requests cannot name; the server's --draft "
                                          "can",
                                          param, info.name),
                              "unsupported_parameter");
        }
        for (const auto& [setting, value] : spec->settings) {
          for (const SettingInfo& known : info.settings) {
            if (known.name == setting && known.kind == SettingInfo::Kind::kPath) {
              return Problem::bad(param, fmt::format("{}: {}: requests cannot name files", param, setting),
                                  "unsupported_parameter");
            }
          }
        }
      }
    }
    const std::string key = name + "\n" + verifier;
    const std::lock_guard lock(mutex_);
    auto found = drafts_.find(key);
    if (found == drafts_.end()) {
      Result<Speculation> made = options_.speculate(name, verifier);
      if (!made.ok()) return Problem::of(made.status(), param);
      // What runs with a method keeps it.
      if (drafts_.size() >= kMaxDrafts) {
        drafts_.erase(std::min_element(drafts_.begin(), drafts_.end(),
                                       [](const auto& a, const auto& b) { return a.second.used < b.second.used; }));
      }
      found = drafts_.emplace(key, NamedDraft{{*std::move(made), std::make_shared<DraftControl>()}}).first;
    }
    found->second.used = ++uses_;
    draft = found->second.draft;
  }
  out->draft = draft.speculation.method;
  out->verifier = draft.speculation.verifier;
  out->draft_control = draft.control;
  out->draft_nodes = fields.draft_nodes > 0 ? fields.draft_nodes : is_own ? 0 : options_.draft_nodes;
  return {};
}

Problem ServedModel::prepare_align(const GenerationFields& fields, PreparedAnswer* out) const {
  if (fields.align.empty()) return {};
  // What a request may take, in time and memory: a node has 64 bytes.
  constexpr int64_t kMaxAttempts = 100000, kMaxBatch = 64, kNodes = int64_t{1} << 17;
  constexpr size_t kRowBytes = size_t{32} << 20;
  AlignOptions options{.row_bytes = kRowBytes};
  int64_t batch = 1, attempts = 1000, nodes = kNodes;
  const auto read = [&]() -> Status {
    DECANT_TRY(const Spec spec, parse_spec(fields.align));
    DECANT_TRY(options.mode, parse_align_mode(spec.name));
    return read_settings(
        spec,
        {{"batch", 1, kMaxBatch, &batch}, {"attempts", 1, kMaxAttempts, &attempts}, {"nodes", 1, kNodes, &nodes}});
  };
  if (const Status status = read(); !status.ok()) return Problem::of(status, "align");
  options.batch = static_cast<int>(batch);
  options.max_attempts = attempts;
  options.max_nodes = static_cast<size_t>(nodes);
  out->generate.draft = nullptr;
  out->generate.verifier = nullptr;
  if (const Status status = check_alignment(out->generate, options); !status.ok()) return Problem::of(status, "align");
  out->align = std::make_shared<const AlignOptions>(std::move(options));
  return {};
}

Problem ServedModel::prepare_common(const GenerationFields& fields, GenerateRequest* out) {
  if (Problem problem = find_overlays(fields.model, fields.lora, &out->overlays); !problem.ok()) return problem;
  out->sampler = fields.sampler;
  for (const auto& [token, bias] : fields.sampler.logit_bias) {
    if (token >= tokenizer().vocab_size()) {
      return Problem::bad("logit_bias", fmt::format("logit_bias: token {} is not in the vocabulary of {}", token,
                                                    tokenizer().vocab_size()));
    }
  }
  if (fields.seed) {
    out->sampler.seed = *fields.seed;
  } else {
    std::random_device device;
    out->sampler.seed = (static_cast<uint64_t>(device()) << 32) | device();
  }
  out->sampler.n_ctx = options_.context;
  out->sampler.end_tokens = options_.end_tokens;
  for (const std::string& text : fields.dry_breakers) {
    Result<std::vector<TokenId>> tokens = tokenizer().encode(text, {.add_special = false});
    if (tokens.ok() && !tokens->empty()) out->sampler.dry_breakers.push_back(*std::move(tokens));
  }
  if (!fields.sampler.ignore_eos) out->end_tokens = options_.end_tokens;
  out->max_tokens = fields.max_tokens;
  out->n_logprobs = fields.n_logprobs;
  out->prompt_logprobs = fields.prompt_logprobs;
  out->finish_in_time = fields.finish_in_time;
  if (fields.canonical) {
    out->canonical = [tokenizer = options_.tokenizer](std::string_view forced) {
      Result<std::vector<TokenId>> tokens = tokenizer->encode(forced, {.add_special = false});
      return tokens.ok() ? *std::move(tokens) : std::vector<TokenId>();
    };
  }
  return prepare_draft(fields, out);
}

Result<std::shared_ptr<Constraint>> ServedModel::remembered(
    const std::string& key, const std::function<Result<std::shared_ptr<Constraint>>()>& make) {
  {
    const std::lock_guard lock(mutex_);
    if (const auto found = by_key_.find(key); found != by_key_.end()) {
      entries_.splice(entries_.begin(), entries_, found->second);
      return entries_.front().constraint;
    }
  }
  DECANT_TRY(std::shared_ptr<Constraint> constraint, make());
  const std::lock_guard lock(mutex_);
  if (by_key_.contains(key)) return constraint;
  entries_.push_front({key, constraint});
  by_key_[key] = entries_.begin();
  if (entries_.size() > kMaxConstraints) {
    by_key_.erase(entries_.back().key);
    entries_.pop_back();
  }
  return constraint;
}

Result<std::shared_ptr<Constraint>> ServedModel::compile(const ConstraintSpec& spec) {
  return remembered("c" + key_of(spec), [&] { return compile_constraint(spec, vocabulary()); });
}

Result<std::shared_ptr<Constraint>> ServedModel::compile_calls(const ChatRequest& request, const ToolFormat& format) {
  const bool required = request.tool_choice == ChatRequest::Tools::kRequired;
  const std::string text = dump(request.tools);
  const std::string key = fmt::format("t{}{}:{}:{}:{}", required, request.parallel_calls, request.only_tool.size(),
                                      request.only_tool, text);
  return remembered(key, [&]() -> Result<std::shared_ptr<Constraint>> {
    ToolOptions options{.format = format};
    if (required) options.choice = ToolChoice::kRequired;
    options.only = request.only_tool;
    options.one_call = !request.parallel_calls;
    options.tokens = tag_tokens(format, tokenizer());
    return compile_tools(text, "tools", options, vocabulary());
  });
}

// The constraint holds for what follows the model's reasoning.
Result<std::shared_ptr<Constraint>> ServedModel::behind_reasoning(std::shared_ptr<Constraint> content) {
  StructuralTags tags{.free_text = true, .at_least_one = true};
  tags.tags.push_back({.begin = "</think>\n\n", .content = std::move(content), .end = "", .last = true});
  tags.triggers.emplace_back("</think>");
  tags.tokens = control_tokens_in("</think>", tokenizer());
  return make_tag_constraint(std::move(tags), vocabulary());
}

Problem ServedModel::prepare(const ChatRequest& request, PreparedAnswer* out) {
  GenerateRequest& generate = out->generate;
  if (Problem problem = encode_chat(request, &generate.prompt); !problem.ok()) return problem;
  if (Problem problem = check_length(generate.prompt.size(), "messages"); !problem.ok()) return problem;
  if (Problem problem = prepare_common(request, &generate); !problem.ok()) return problem;

  // Whether the prompt leaves the model in its reasoning shows in its end.
  out->splitter.reasons = reasons_;
  if (reasons_) {
    const size_t tail = std::min<size_t>(generate.prompt.size(), 16);
    std::string end = tokenizer().decode(std::span(generate.prompt).last(tail), true);
    end.resize(end.find_last_not_of(" \t\r\n") + 1);
    out->splitter.reasoning = end.ends_with("<think>");
    for (const TagToken& token : control_tokens_in("<think></think>", tokenizer())) {
      out->shown_control_tokens.push_back(token.token);
    }
  }
  if (!request.tools.is_null() && request.tool_choice != ChatRequest::Tools::kNone) {
    const bool takes_tools = mentions_tools(options_.tool_template_text);
    ToolFormat format = parse_tool_format(kGenericFormat).value();
    if (takes_tools && tool_format_) format = *tool_format_;
    out->splitter.tools = format;
    for (const TagToken& token : tag_tokens(format, tokenizer())) out->shown_control_tokens.push_back(token.token);
    // Text that has to be of some form holds no calls.
    if (!request.constraint) {
      Result<std::shared_ptr<Constraint>> made = compile_calls(request, format);
      if (!made.ok()) return Problem::of(made.status(), "tools");
      generate.constraint = *std::move(made);
    } else {
      out->splitter.tools.reset();
    }
  }
  if (request.constraint) {
    Result<std::shared_ptr<Constraint>> made = compile(*request.constraint);
    if (!made.ok()) return Problem::of(made.status(), request.constraint_param);
    generate.constraint = *std::move(made);
  }
  const bool is_free = request.tool_choice == ChatRequest::Tools::kAuto && !request.constraint;
  if (generate.constraint != nullptr && !is_free && out->splitter.reasoning) {
    Result<std::shared_ptr<Constraint>> made = behind_reasoning(generate.constraint);
    if (!made.ok()) return Problem::of(made.status(), request.constraint_param);
    generate.constraint = *std::move(made);
  }
  return prepare_align(request, out);
}

Problem ServedModel::prepare(const CompletionRequest& request, const PromptInput& prompt, PreparedAnswer* out) {
  GenerateRequest& generate = out->generate;
  if (Problem problem = encode(prompt, "prompt", &generate.prompt); !problem.ok()) return problem;
  if (Problem problem = prepare_common(request, &generate); !problem.ok()) return problem;
  if (request.echo) {
    const auto* text = std::get_if<std::string>(&prompt);
    out->prompt_text = text != nullptr ? *text : tokenizer().decode(generate.prompt);
    generate.prompt_logprobs = std::max(request.n_logprobs, request.prompt_logprobs);
  }
  if (request.constraint) {
    Result<std::shared_ptr<Constraint>> made = compile(*request.constraint);
    if (!made.ok()) return Problem::of(made.status(), request.constraint_param);
    generate.constraint = *std::move(made);
  }
  return prepare_align(request, out);
}

Problem ServedModel::prepare(const EmbeddingRequest& request, const PromptInput& input, PreparedAnswer* out) {
  GenerateRequest& generate = out->generate;
  if (Problem problem = find_overlays(request.model, request.lora, &generate.overlays); !problem.ok()) return problem;
  if (request.dimensions && *request.dimensions != options_.hidden) {
    return Problem::bad("dimensions",
                        fmt::format("dimensions: the model's vectors have {}; it has no smaller ones", options_.hidden),
                        "unsupported_parameter");
  }
  if (Problem problem = encode(input, "input", &generate.prompt); !problem.ok()) return problem;
  generate.max_tokens = 0;
  generate.pooling = request.last ? Pooling::kLast : Pooling::kMean;
  return {};
}

}  // namespace decant::serve
