// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "serve/openai_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <limits>
#include <utility>

#include "base/printable.h"
#include "constrain/lark.h"

namespace decant::serve {
namespace {

using Kind = ConstraintSpec::Kind;

constexpr size_t kMaxMessages = 4096;
constexpr size_t kMaxStops = 16;
constexpr size_t kMaxStopBytes = 1024;
constexpr size_t kMaxBias = 4096;
constexpr size_t kMaxChoices = 4096;
constexpr size_t kMaxTools = 128;
constexpr size_t kMaxAdapters = 16;
constexpr size_t kMaxPromptTokens = size_t{1} << 22;
constexpr int kMaxTopLogprobs = 20;

// A list of strings, or one.
bool read_strings(Fields& fields, std::string_view name, size_t max_size, size_t max_bytes,
                  std::vector<std::string>* out) {
  const Json* value = fields.find(name);
  if (value == nullptr) return false;
  const Json one = value->is_string() ? Json::array({*value}) : Json();
  const Json& list = value->is_string() ? one : *value;
  if (!list.is_array() || list.size() > max_size) {
    fields.refuse(name, fmt::format("expected a string or a list of at most {} strings, got {}", max_size,
                                    list.is_array() ? fmt::format("{} items", list.size()) : type_text(list)));
    return false;
  }
  for (size_t i = 0; i < list.size(); ++i) {
    const auto* text = list[i].get_ptr<const std::string*>();
    if (text == nullptr || text->empty() || text->size() > max_bytes) {
      fields.refuse(name, fmt::format("item {}: expected a string of 1 to {} bytes, got {}", i, max_bytes,
                                      text == nullptr ? type_text(list[i]) : fmt::format("{} bytes", text->size())));
      return false;
    }
    out->push_back(*text);
  }
  return true;
}

bool read_token(const Json& value, TokenId* out) {
  if (!value.is_number_integer() || (value.is_number_unsigned() && value.get<uint64_t>() > INT32_MAX) ||
      value.get<int64_t>() < 0 || value.get<int64_t>() > INT32_MAX) {
    return false;
  }
  *out = static_cast<TokenId>(value.get<int64_t>());
  return true;
}

void read_logit_bias(Fields& fields, std::vector<std::pair<int32_t, float>>* out) {
  const Json* value = fields.object("logit_bias");
  if (value == nullptr) return;
  if (value->size() > kMaxBias) return fields.refuse("logit_bias", fmt::format("more than {} tokens", kMaxBias));
  for (const auto& [key, bias] : value->items()) {
    int32_t token = -1;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), token);
    if (error != std::errc() || end != key.data() + key.size() || token < 0) {
      return fields.refuse("logit_bias", fmt::format("'{}' is no token id", printable(key)));
    }
    const double number = bias.is_number() ? bias.get<double>() : 1e9;
    if (!(number >= -100 && number <= 100)) {
      return fields.refuse("logit_bias",
                           fmt::format("{}: expected a number from -100 to 100, got {}", key, type_text(bias)));
    }
    // -100 bans a token, as the API says.
    out->emplace_back(token, number == -100 ? -std::numeric_limits<float>::infinity() : static_cast<float>(number));
  }
}

void read_sampling(Fields& fields, GenerationFields* out) {
  SamplerOptions& s = out->sampler;
  fields.real("temperature", 0, 100, &s.temperature);
  fields.real("top_p", 0, 1, &s.top_p);
  fields.integer("top_k", -1, INT32_MAX, &s.top_k);
  fields.real("min_p", 0, 1, &s.min_p);
  fields.real("typical_p", 0, 1, &s.typical_p);
  fields.real("top_n_sigma", -1, 1e6, &s.top_n_sigma);
  fields.real("xtc_probability", 0, 1, &s.xtc_probability);
  fields.real("xtc_threshold", 0, 1, &s.xtc_threshold);
  fields.real("dynatemp_range", 0, 100, &s.dynatemp_range);
  fields.real("dynatemp_exponent", 0, 100, &s.dynatemp_exponent);
  fields.real("frequency_penalty", -2, 2, &s.frequency_penalty);
  fields.real("presence_penalty", -2, 2, &s.presence_penalty);
  // vLLM's and llama.cpp's names.
  fields.real("repetition_penalty", 0.01, 100, &s.repeat_penalty);
  fields.real("repeat_penalty", 0.01, 100, &s.repeat_penalty);
  fields.integer("repeat_last_n", -1, INT32_MAX, &s.repeat_last_n);
  fields.real("dry_multiplier", 0, 100, &s.dry_multiplier);
  fields.real("dry_base", 1, 100, &s.dry_base);
  fields.integer("dry_allowed_length", 0, INT32_MAX, &s.dry_allowed_length);
  fields.integer("dry_penalty_last_n", -1, INT32_MAX, &s.dry_penalty_last_n);
  read_strings(fields, "dry_sequence_breakers", kMaxStops, kMaxStopBytes, &out->dry_breakers);
  fields.integer("mirostat", 0, 2, &s.mirostat);
  fields.real("mirostat_tau", 0, 100, &s.mirostat_tau);
  fields.real("mirostat_eta", 0, 100, &s.mirostat_eta);
  fields.integer("min_keep", 1, INT32_MAX, &s.min_keep);
  fields.boolean("ignore_eos", &s.ignore_eos);
  read_logit_bias(fields, &s.logit_bias);
  int64_t seed = 0;
  if (fields.integer("seed", INT64_MIN, INT64_MAX, &seed)) out->seed = static_cast<uint64_t>(seed);
  if (!fields.ok()) return;
  if (const Status status = s.validate(); !status.ok()) fields.refuse("", std::string(status.message()));
}

SchemaOptions schema_options(Fields& fields) {
  SchemaOptions options;
  std::string order;
  if (fields.word("property_order", {"any", "schema"}, &order)) {
    options.property_order = order == "schema" ? PropertyOrder::kSchema : PropertyOrder::kAny;
  }
  return options;
}

// Several constraints hold all at once.
class ConstraintReader {
 public:
  ConstraintReader(Fields& fields, const RequestLimits& limits, GenerationFields* out)
      : fields_(fields), limits_(limits), out_(out), schema_(schema_options(fields)) {}

  void read() {
    response_format();
    for (const char* name : {"json_schema", "guided_json"}) {
      if (const Json* value = fields_.find(name)) add_schema(name, *value);
    }
    for (const char* name : {"regex", "guided_regex"}) add_text(name, Kind::kPattern);
    for (const char* name : {"grammar", "guided_grammar"}) add_text(name, Kind::kGbnf);
    for (const char* name : {"choice", "guided_choice"}) {
      std::vector<std::string> choices;
      if (read_strings(fields_, name, kMaxChoices, limits_.max_schema_bytes, &choices)) {
        if (choices.empty()) fields_.refuse(name, "expected one string at least");
        add(name, {.kind = Kind::kChoice, .name = fields_.path(name), .choices = std::move(choices)});
      }
    }
    fields_.boolean("finish", &out_->finish_in_time);
    std::string forced;
    if (fields_.word("forced", {"model", "canonical"}, &forced)) out_->canonical = forced == "canonical";
    if (parts_.empty() || !fields_.ok()) return;
    if (parts_.size() == 1) {
      out_->constraint = std::move(parts_[0]);
    } else {
      out_->constraint = ConstraintSpec{.kind = Kind::kAll, .parts = std::move(parts_)};
    }
  }

 private:
  void add(std::string_view name, ConstraintSpec spec) {
    out_->constraint_param = out_->constraint_param.empty() ? std::string(name) : "";
    parts_.push_back(std::move(spec));
  }

  bool fits(std::string_view name, size_t size) {
    if (size <= limits_.max_schema_bytes) return true;
    fields_.refuse(name, fmt::format("{} bytes; at most {} are taken", size, limits_.max_schema_bytes),
                   "limit_exceeded");
    return false;
  }

  void add_schema(std::string_view name, const Json& schema) {
    // vLLM takes the text of a schema as well.
    const bool is_text = schema.is_string();
    if (!schema.is_object() && !schema.is_boolean() && !is_text) {
      return fields_.refuse(name, fmt::format("expected a JSON Schema, got {}", type_text(schema)));
    }
    std::string text =
        is_text ? schema.get<std::string>() : schema.dump(-1, ' ', false, Json::error_handler_t::replace);
    if (!fits(name, text.size())) return;
    add(name, {.kind = Kind::kJsonSchema, .text = std::move(text), .name = fields_.path(name), .schema = schema_});
  }

  void add_text(std::string_view name, Kind kind) {
    std::string text;
    if (!fields_.text(name, &text) || !fits(name, text.size())) return;
    if (kind == Kind::kGbnf && looks_like_lark(text)) kind = Kind::kLark;
    add(name, {.kind = kind, .text = std::move(text), .name = fields_.path(name)});
  }

  void response_format() {
    const Json* format = fields_.object("response_format");
    if (format == nullptr) return;
    Problem problem;
    Fields inner(*format, "response_format.", &problem);
    std::string type;
    const bool known = inner.word("type", {"text", "json_object", "json_schema"}, &type);
    if (problem.ok() && !known) inner.refuse("type", "the field is missing");
    const Json* schema = inner.object("json_schema");
    // llama.cpp's way to say it.
    const Json* direct = inner.find("schema");
    if (schema != nullptr && type != "json_schema") inner.refuse("json_schema", "the type is another one");
    if (type == "json_schema" && schema == nullptr && direct == nullptr)
      inner.refuse("json_schema", "the field is missing");
    inner.finish();
    const Json* given = direct;
    if (problem.ok() && schema != nullptr) {
      Fields details(*schema, "response_format.json_schema.", &problem);
      std::string text;
      details.text("name", &text);
      details.text("description", &text);
      bool strict = true;  // it always is
      details.boolean("strict", &strict);
      given = details.find("schema");
      if (problem.ok() && given == nullptr) details.refuse("schema", "the field is missing");
      details.finish();
    }
    if (!problem.ok()) {
      // Whole paths are in it already.
      nested(problem);
      return;
    }
    if (given != nullptr) return add_schema("response_format", *given);
    if (type == "json_object") add_schema("response_format", Json{{"type", "object"}});
  }

  void nested(const Problem& problem) { fields_.adopt(problem); }

  Fields& fields_;
  const RequestLimits& limits_;
  GenerationFields* out_;
  SchemaOptions schema_;
  std::vector<ConstraintSpec> parts_;
};

void read_stream(Fields& fields, GenerationFields* out) {
  fields.boolean("stream", &out->stream);
  const Json* options = fields.object("stream_options");
  if (options == nullptr || !fields.ok()) return;
  if (!out->stream) return fields.refuse("stream_options", "it is for streams; set stream to true");
  Problem problem;
  Fields inner(*options, "stream_options.", &problem);
  inner.boolean("include_usage", &out->include_usage);
  inner.ignore({"include_obfuscation", "continuous_usage_stats"});
  inner.finish();
  if (!problem.ok()) fields.adopt(problem);
}

void read_common(Fields& fields, const RequestLimits& limits, GenerationFields* out) {
  fields.text("model", &out->model);
  read_strings(fields, "lora", kMaxAdapters, 256, &out->lora);
  read_sampling(fields, out);
  fields.integer("n", 1, limits.max_choices, &out->n);
  const int64_t most = limits.max_tokens >= 0 ? limits.max_tokens : INT32_MAX;
  out->max_tokens = limits.max_tokens;
  fields.integer("max_tokens", 0, most, &out->max_tokens);
  read_strings(fields, "stop", kMaxStops, kMaxStopBytes, &out->stops);
  read_stream(fields, out);
  ConstraintReader(fields, limits, out).read();
  fields.text("draft", &out->draft);
  fields.text("verifier", &out->verifier);
  fields.integer("draft_nodes", 0, 1024, &out->draft_nodes);
  fields.integer("priority", -1000, 1000, &out->priority);
  out->timeout = limits.max_timeout;
  if (fields.real("timeout", 0, limits.max_timeout, &out->timeout) && out->timeout <= 0) {
    fields.refuse("timeout", "expected a number above 0");
  }
  fields.text("align", &out->align);
  if (out->align == "none") out->align.clear();
  if (fields.ok() && !out->align.empty() && !out->draft.empty() && out->draft != "none") {
    fields.refuse("align", "aligned answers are drawn without drafts; leave out draft");
  }
  if (fields.integer("prompt_logprobs", 0, kMaxTopLogprobs, &out->prompt_logprobs) && out->stream) {
    fields.refuse("prompt_logprobs", "they are not streamed; set stream to false");
  }
  // Fields of the API that change nothing of an answer here.
  fields.ignore(
      {"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"});
}

// ---- Messages.

class MessageReader {
 public:
  MessageReader(const Json& message, size_t index, Problem* problem)
      : fields_(message, fmt::format("messages[{}].", index), problem), problem_(problem) {}

  Json read() {
    std::string role;
    if (!fields_.word("role", {"system", "developer", "user", "assistant", "tool"}, &role) && problem_->ok()) {
      fields_.refuse("role", "the field is missing");
    }
    Json out = {{"role", role}};
    const bool is_assistant = role == "assistant";
    if (const Json* content = fields_.find("content")) {
      out["content"] = content_text(*content);
    } else if (is_assistant) {
      out["content"] = "";
    } else if (problem_->ok()) {
      fields_.refuse("content", "the field is missing");
    }
    std::string text;
    if (fields_.text("name", &text)) out["name"] = text;
    if (is_assistant) {
      read_calls(&out);
      if (fields_.text("reasoning_content", &text)) out["reasoning_content"] = text;
      fields_.unsupported("audio", "audio is not supported");
      fields_.unsupported("function_call", "use tool_calls");
      fields_.ignore({"refusal", "annotations"});
    }
    if (role == "tool") {
      if (fields_.text("tool_call_id", &text)) {
        out["tool_call_id"] = text;
      } else if (problem_->ok()) {
        fields_.refuse("tool_call_id", "the field is missing");
      }
    }
    fields_.finish();
    return out;
  }

 private:
  // Parts that are text become one text.
  std::string content_text(const Json& content) {
    if (content.is_string()) return content.get<std::string>();
    if (!content.is_array() || content.empty()) {
      fields_.refuse("content", fmt::format("expected a string or a list of parts, got {}",
                                            content.is_array() ? "an empty list" : type_text(content)));
      return "";
    }
    std::string out;
    for (size_t i = 0; i < content.size() && problem_->ok(); ++i) {
      const std::string name = fmt::format("content[{}]", i);
      if (!content[i].is_object()) {
        fields_.refuse(name, fmt::format("expected an object, got {}", type_text(content[i])));
        return "";
      }
      Fields part(content[i], fields_.path(name) + ".", problem_);
      std::string type, text;
      if (!part.text("type", &type) && problem_->ok()) part.refuse("type", "the field is missing");
      if (!problem_->ok()) return "";
      if (type != "text") {
        part.refuse("type", fmt::format("parts of type '{}' are not supported; the model takes text", printable(type)),
                    "unsupported_content");
        return "";
      }
      if (!part.text("text", &text) && problem_->ok()) part.refuse("text", "the field is missing");
      part.finish();
      out += (i == 0 ? "" : "\n") + text;
    }
    return out;
  }

  void read_calls(Json* out) {
    const Json* calls = fields_.list("tool_calls", kMaxTools);
    if (calls == nullptr || calls->empty()) return;
    Json& list = (*out)["tool_calls"] = Json::array();
    for (size_t i = 0; i < calls->size() && problem_->ok(); ++i) {
      const std::string name = fmt::format("tool_calls[{}]", i);
      if (!(*calls)[i].is_object()) return fields_.refuse(name, "expected an object");
      Fields call((*calls)[i], fields_.path(name) + ".", problem_);
      std::string id, type, function_name, arguments;
      call.text("id", &id);
      call.word("type", {"function"}, &type);
      call.ignore({"index"});
      const Json* function = call.object("function");
      call.finish();
      if (function == nullptr) {
        if (problem_->ok()) call.refuse("function", "the field is missing");
        return;
      }
      Fields inner(*function, fields_.path(name) + ".function.", problem_);
      if (!inner.text("name", &function_name) && problem_->ok()) inner.refuse("name", "the field is missing");
      if (!inner.text("arguments", &arguments) && problem_->ok()) inner.refuse("arguments", "the field is missing");
      inner.finish();
      if (!problem_->ok()) return;
      // Templates write the object, in whatever way their model knows.
      Json parsed;
      if (!arguments.empty()) {
        const Problem wrong = parse_body(arguments, &parsed);
        if (!wrong.ok()) return inner.refuse("arguments", "expected the text of a JSON object");
      } else {
        parsed = Json::object();
      }
      Json entry = {{"type", "function"}, {"function", {{"name", function_name}, {"arguments", std::move(parsed)}}}};
      if (!id.empty()) entry["id"] = id;
      list.push_back(std::move(entry));
    }
  }

  Fields fields_;
  Problem* problem_;
};

void read_messages(Fields& fields, Problem* problem, Json* out) {
  const Json* messages = fields.list("messages", kMaxMessages);
  if (!fields.ok()) return;
  if (messages == nullptr || messages->empty()) return fields.refuse("messages", "expected one message at least");
  *out = Json::array();
  for (size_t i = 0; i < messages->size(); ++i) {
    if (!(*messages)[i].is_object()) {
      return fields.refuse(fmt::format("messages[{}]", i),
                           fmt::format("expected an object, got {}", type_text((*messages)[i])));
    }
    Json message = MessageReader((*messages)[i], i, problem).read();
    if (!problem->ok()) return;
    out->push_back(std::move(message));
  }
}

// ---- Tools.

void read_tools(Fields& fields, Problem* problem, const RequestLimits& limits, ChatRequest* out) {
  const Json* tools = fields.list("tools", kMaxTools);
  if (tools != nullptr && !tools->empty()) {
    out->tools = Json::array();
    for (size_t i = 0; i < tools->size(); ++i) {
      const std::string name = fmt::format("tools[{}]", i);
      if (!(*tools)[i].is_object()) return fields.refuse(name, "expected an object");
      Fields tool((*tools)[i], name + ".", problem);
      std::string type, text;
      if (!tool.word("type", {"function"}, &type) && problem->ok()) tool.refuse("type", "the field is missing");
      const Json* function = tool.object("function");
      tool.finish();
      if (!problem->ok()) return;
      if (function == nullptr) return tool.refuse("function", "the field is missing");
      Fields inner(*function, name + ".function.", problem);
      Json entry = Json::object();
      if (inner.text("name", &text)) entry["name"] = text;
      if (problem->ok() && text.empty()) inner.refuse("name", "the field is missing or empty");
      if (inner.text("description", &text)) entry["description"] = text;
      if (const Json* parameters = inner.object("parameters")) entry["parameters"] = *parameters;
      bool strict = true;  // it always is
      inner.boolean("strict", &strict);
      inner.finish();
      if (!problem->ok()) return;
      out->tools.push_back({{"type", "function"}, {"function", std::move(entry)}});
    }
    const size_t size = out->tools.dump(-1, ' ', false, Json::error_handler_t::replace).size();
    if (size > limits.max_schema_bytes) {
      return fields.refuse("tools", fmt::format("{} bytes; at most {} are taken", size, limits.max_schema_bytes),
                           "limit_exceeded");
    }
    out->tool_choice = ChatRequest::Tools::kAuto;
  }
  fields.boolean("parallel_tool_calls", &out->parallel_calls);
  const Json* choice = fields.find("tool_choice");
  if (choice == nullptr || !fields.ok()) return;
  if (choice->is_object()) {
    Fields named(*choice, "tool_choice.", problem);
    std::string type;
    if (!named.word("type", {"function"}, &type) && problem->ok()) named.refuse("type", "the field is missing");
    const Json* function = named.object("function");
    named.finish();
    if (!problem->ok()) return;
    if (function == nullptr) return named.refuse("function", "the field is missing");
    Fields inner(*function, "tool_choice.function.", problem);
    if (!inner.text("name", &out->only_tool) && problem->ok()) inner.refuse("name", "the field is missing");
    inner.finish();
    if (!problem->ok()) return;
    const bool known = std::any_of(out->tools.begin(), out->tools.end(),
                                   [&](const Json& t) { return t["function"]["name"] == out->only_tool; });
    if (!known) return fields.refuse("tool_choice", fmt::format("there is no tool '{}'", printable(out->only_tool)));
    out->tool_choice = ChatRequest::Tools::kRequired;
    return;
  }
  std::string word;
  if (!fields.word("tool_choice", {"none", "auto", "required"}, &word)) return;
  if (word != "none" && out->tools.is_null()) return fields.refuse("tool_choice", "there are no tools");
  out->tool_choice = word == "none"       ? ChatRequest::Tools::kNone
                     : word == "required" ? ChatRequest::Tools::kRequired
                                          : ChatRequest::Tools::kAuto;
}

// A string, a list of strings, of token ids, or of lists of token ids.
void read_inputs(Fields& fields, std::string_view name, size_t max_size, std::vector<PromptInput>* out) {
  const Json* value = fields.find(name);
  if (value == nullptr) {
    if (fields.ok()) fields.refuse(name, "the field is missing");
    return;
  }
  const auto bad = [&](const std::string& got) {
    fields.refuse(
        name, fmt::format("expected a string, a list of strings, of token ids, or of lists of token ids; got {}", got));
  };
  const auto read_ids = [&](const Json& list) {
    std::vector<TokenId> ids(list.size());
    for (size_t i = 0; i < ids.size(); ++i) {
      if (!read_token(list[i], &ids[i])) return bad(type_text(list[i]));
    }
    out->emplace_back(std::move(ids));
  };
  if (value->is_string()) {
    out->emplace_back(value->get<std::string>());
    return;
  }
  if (!value->is_array()) return bad(type_text(*value));
  if (value->empty()) return fields.refuse(name, "the list is empty");
  if ((*value)[0].is_number()) return read_ids(*value);
  if (value->size() > max_size) {
    return fields.refuse(name, fmt::format("{} items; at most {} are taken", value->size(), max_size),
                         "limit_exceeded");
  }
  for (const Json& item : *value) {
    if (item.is_string() && (*value)[0].is_string()) {
      out->emplace_back(item.get<std::string>());
    } else if (item.is_array() && (*value)[0].is_array() && !item.empty()) {
      read_ids(item);
    } else {
      bad(item.is_array() ? "a list among others, or an empty one" : type_text(item));
    }
    if (!fields.ok()) return;
  }
}

}  // namespace

Problem read_chat_request(const Json& body, const RequestLimits& limits, const SamplerOptions& defaults,
                          ChatRequest* out) {
  Problem problem;
  Fields fields(body, "", &problem);
  out->sampler = defaults;
  read_messages(fields, &problem, &out->messages);
  read_common(fields, limits, out);
  const int64_t most = limits.max_tokens >= 0 ? limits.max_tokens : INT32_MAX;
  fields.integer("max_completion_tokens", 0, most, &out->max_tokens);
  bool logprobs = false;
  int top = 0;
  fields.boolean("logprobs", &logprobs);
  if (fields.integer("top_logprobs", 0, kMaxTopLogprobs, &top) && top > 0 && !logprobs) {
    fields.refuse("top_logprobs", "it needs logprobs to be true");
  }
  if (logprobs) out->n_logprobs = top;
  read_tools(fields, &problem, limits, out);
  if (const Json* variables = fields.object("chat_template_kwargs")) out->template_variables = *variables;
  if (fields.ok() && out->constraint && out->tool_choice == ChatRequest::Tools::kRequired) {
    fields.refuse("tool_choice",
                  "an answer that is a tool call is nothing else besides; leave out response_format and the "
                  "like");
  }
  fields.unsupported("functions", "use tools");
  fields.unsupported("function_call", "use tool_choice");
  fields.unsupported("audio", "audio is not supported");
  fields.unsupported("prediction", "predicted outputs are not supported; drafts come from the draft method");
  fields.unsupported("web_search_options", "there is no web search");
  fields.unsupported("modalities", "the only modality is text", Json::array({"text"}));
  fields.unsupported("reasoning_effort", "the model has no such setting; chat_template_kwargs reaches its template");
  fields.unsupported("verbosity", "the model has no such setting", "medium");
  fields.finish();
  return problem;
}

Problem read_completion_request(const Json& body, const RequestLimits& limits, const SamplerOptions& defaults,
                                CompletionRequest* out) {
  Problem problem;
  Fields fields(body, "", &problem);
  out->sampler = defaults;
  read_inputs(fields, "prompt", static_cast<size_t>(limits.max_prompts), &out->prompts);
  read_common(fields, limits, out);
  // The API's default.
  if (fields.ok() && fields.find("max_tokens") == nullptr) {
    out->max_tokens = limits.max_tokens >= 0 ? std::min(limits.max_tokens, 16) : 16;
  }
  fields.integer("logprobs", 0, kMaxTopLogprobs, &out->n_logprobs);
  fields.boolean("echo", &out->echo);
  int best_of = out->n;
  if (fields.integer("best_of", 1, INT32_MAX, &best_of) && best_of != out->n) {
    fields.refuse("best_of", "it has to be n: all answers are given", "unsupported_parameter");
  }
  fields.unsupported("suffix", "text is not inserted; the model only continues", "");
  if (fields.ok() && out->prompts.size() * static_cast<size_t>(out->n) > static_cast<size_t>(limits.max_prompts) * 2) {
    fields.refuse("n", fmt::format("{} prompts with {} answers each are too many", out->prompts.size(), out->n),
                  "limit_exceeded");
  }
  fields.finish();
  return problem;
}

Problem read_embedding_request(const Json& body, const RequestLimits& limits, EmbeddingRequest* out) {
  Problem problem;
  Fields fields(body, "", &problem);
  fields.text("model", &out->model);
  read_strings(fields, "lora", kMaxAdapters, 256, &out->lora);
  read_inputs(fields, "input", static_cast<size_t>(limits.max_inputs), &out->inputs);
  std::string word;
  if (fields.word("encoding_format", {"float", "base64"}, &word)) out->base64 = word == "base64";
  if (fields.word("pooling", {"mean", "last"}, &word)) out->last = word == "last";
  int dimensions = 0;
  if (fields.integer("dimensions", 1, INT32_MAX, &dimensions)) out->dimensions = dimensions;
  out->timeout = limits.max_timeout;
  fields.ignore({"user"});
  fields.finish();
  return problem;
}

Problem read_tokenize_request(const Json& body, const RequestLimits& limits, TokenizeRequest* out) {
  Problem problem;
  Fields fields(body, "", &problem);
  std::string text, model;
  fields.text("model", &model);
  // llama.cpp's name and vLLM's.
  for (const char* name : {"content", "prompt"}) {
    if (fields.text(name, &text)) out->text = text;
  }
  const Json* messages = fields.find("messages");
  if (fields.ok() && (messages != nullptr) == out->text.has_value()) {
    fields.refuse("content", "expected content or messages");
  }
  ChatRequest chat;
  if (messages != nullptr) read_messages(fields, &problem, &chat.messages);
  read_tools(fields, &problem, limits, &chat);
  if (const Json* variables = fields.object("chat_template_kwargs")) chat.template_variables = *variables;
  if (messages != nullptr) out->chat = std::move(chat);
  fields.boolean("add_special", &out->add_special);
  fields.boolean("parse_special", &out->parse_special);
  fields.boolean("with_pieces", &out->with_pieces);
  fields.finish();
  return problem;
}

Problem read_detokenize_request(const Json& body, std::vector<TokenId>* out) {
  Problem problem;
  Fields fields(body, "", &problem);
  std::string model;
  fields.text("model", &model);
  const Json* tokens = fields.list("tokens", kMaxPromptTokens);
  if (tokens == nullptr && fields.ok()) fields.refuse("tokens", "the field is missing");
  if (tokens != nullptr) {
    out->resize(tokens->size());
    for (size_t i = 0; i < out->size() && fields.ok(); ++i) {
      if (!read_token((*tokens)[i], &(*out)[i])) {
        fields.refuse("tokens", fmt::format("item {}: expected a token id, got {}", i, type_text((*tokens)[i])));
      }
    }
  }
  fields.finish();
  return problem;
}

}  // namespace decant::serve
