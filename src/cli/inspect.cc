// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "cli/common.h"
#include "cli/models.h"
#include "formats/gguf.h"
#include "model/checkpoint.h"
#include "model/config.h"
#include "text/chat.h"
#include "text/tokenizer.h"

namespace decant::cli {
namespace {

constexpr size_t kShownElements = 8;  // of an array
constexpr size_t kShownBytes = 160;   // of a string, as text

// Reports hold whole strings and the first elements of arrays.
Json value_json(const GgufValue& value) {
  if (const auto* array = std::get_if<std::shared_ptr<const GgufArray>>(&value)) {
    Json first = Json::array();
    std::visit(
        [&](const auto& values) {
          for (size_t i = 0; i < std::min(values.size(), kShownElements); ++i) first.push_back(values[i]);
        },
        (*array)->values);
    return {{"count", (*array)->size()}, {"first", std::move(first)}};
  }
  return std::visit(
      [](const auto& v) -> Json {
        if constexpr (requires { Json(v); }) return Json(v);
        return nullptr;
      },
      value);
}

std::string value_text(const GgufValue& value) {
  const Json json = value_json(value);
  if (json.is_object()) {
    std::string text = json["first"].dump(-1, ' ', false, Json::error_handler_t::replace);
    const size_t count = json["count"].get<size_t>();
    if (count > kShownElements) text.insert(text.size() - 1, ", ...");
    return fmt::format("{} elements {}", count, text);
  }
  if (json.is_string()) {
    const std::string whole = json.get<std::string>();
    std::string text = Json(whole.substr(0, kShownBytes)).dump(-1, ' ', false, Json::error_handler_t::replace);
    return whole.size() > kShownBytes ? fmt::format("{}... ({} bytes)", text, whole.size()) : text;
  }
  return json.dump();
}

struct TypeSum {
  int64_t tensors = 0, weights = 0, bytes = 0;
};

struct Summary {
  std::map<std::string, TypeSum> types;
  int64_t weights = 0, bytes = 0;
};

Summary summarize(const GgufFile& file) {
  Summary summary;
  for (const GgufTensor& t : file.tensors()) {
    TypeSum& sum = summary.types[std::string(dtype_info(t.type).name)];
    const int64_t weights = t.cols() * t.rows();
    const auto bytes = static_cast<int64_t>(t.bytes());
    sum.tensors += 1, sum.weights += weights, sum.bytes += bytes;
    summary.weights += weights, summary.bytes += bytes;
  }
  return summary;
}

std::string count_text(int64_t n) {
  if (n >= 1000000000) return fmt::format("{:.2f} billion", static_cast<double>(n) / 1e9);
  return fmt::format("{:.1f} million", static_cast<double>(n) / 1e6);
}

// Bytes of keys and values that one token takes in an F16 cache.
int64_t cache_bytes_per_token(const ModelConfig& config) {
  int64_t bytes = 0;
  for (const LayerConfig& l : config.layers) bytes += 2LL * l.n_kv_heads * (l.k_dim + l.v_dim);
  return bytes;
}

}  // namespace

Status inspect(const InspectOptions& options) {
  DECANT_TRY(JsonReport report, JsonReport::open(options.json));
  DECANT_TRY(const std::string path, resolve_model(options.model));
  DECANT_TRY(const GgufFile file, open_model(path));
  const Summary summary = summarize(file);
  const Result<ModelConfig> config = read_config(file);
  const Result<std::shared_ptr<const Tokenizer>> tokenizer = Tokenizer::from_gguf(file);

  std::string text = fmt::format("{}: {}, {}, {} tensors, {} weights\n", path, file.container(),
                                 size_text(static_cast<int64_t>(file.file_size())), file.tensors().size(),
                                 count_text(summary.weights));
  Json json;
  json["path"] = path;
  json["version"] = file.version();
  json["bytes"] = file.file_size();
  json["weights"] = summary.weights;

  Json& model = json["model"];
  if (config.ok()) {
    const LayerConfig& layer = config->layers.front();
    model = {{"architecture", config->architecture},
             {"name", config->name},
             {"layers", config->n_layers()},
             {"hidden", config->hidden},
             {"heads", layer.n_heads},
             {"kv_heads", layer.n_kv_heads},
             {"head_dim", layer.k_dim},
             {"ffn", layer.ffn_dim},
             {"context_length", config->context_length},
             {"cache_bytes_per_token", cache_bytes_per_token(*config)}};
    const auto windows =
        std::count_if(config->layers.begin(), config->layers.end(), [](const LayerConfig& l) { return l.window > 0; });
    text +=
        fmt::format("model         {} ({}), {} layers, width {}, {} heads over {} of {}, feed-forward {}\n",
                    config->name.empty() ? "without a name" : config->name, config->architecture, config->n_layers(),
                    config->hidden, layer.n_heads, layer.n_kv_heads, layer.k_dim, layer.ffn_dim);
    text += fmt::format("context       trained for {} tokens; {} of cache (f16) per 1,000 tokens",
                        config->context_length, size_text(cache_bytes_per_token(*config) * 1000));
    if (windows > 0) text += fmt::format("; {} of {} layers see a sliding window", windows, config->n_layers());
    text += "\n";
  } else {
    json["problem"] = config.status().message();
    text += fmt::format("cannot run    {}\n", config.status().message());
  }

  Json& words = json["tokenizer"];
  if (tokenizer.ok()) {
    const Tokenizer& t = **tokenizer;
    const Result<std::unique_ptr<ChatTemplate>> chat = ChatTemplate::from_tokenizer(t);
    const std::string chat_name = !chat.ok() ? "unknown" : *chat == nullptr ? "none" : std::string((*chat)->name());
    words = {{"algorithm", t.algorithm()},
             {"pre_tokenizer", t.pre_tokenizer()},
             {"vocabulary", t.vocab_size()},
             {"bos", t.bos()},
             {"eos", t.eos()},
             {"adds_bos", t.adds_bos()},
             {"chat_template", chat_name}};
    text += fmt::format("tokenizer     {}{}{}, {} tokens; chat template: {}\n", t.algorithm(),
                        t.pre_tokenizer().empty() ? "" : ", ", t.pre_tokenizer(), t.vocab_size(), chat_name);
  } else {
    words = {{"problem", tokenizer.status().message()}};
    text += fmt::format("no tokenizer  {}\n", tokenizer.status().message());
  }

  text += "\ntypes\n";
  Json& types = json["types"] = Json::array();
  for (const auto& [name, sum] : summary.types) {
    types.push_back({{"type", name}, {"tensors", sum.tensors}, {"weights", sum.weights}, {"bytes", sum.bytes}});
    text += fmt::format("  {:<8} {:>4} tensors {:>14} {:>10}\n", name, sum.tensors, count_text(sum.weights),
                        size_text(sum.bytes));
  }
  text += "\nmetadata\n";
  Json& metadata = json["metadata"] = Json::object();
  for (const auto& [key, value] : file.metadata()) {
    metadata[key] = value_json(value);
    text += fmt::format("  {} = {}\n", key, value_text(value));
  }
  text += "\ntensors\n";
  Json& tensors = json["tensors"] = Json::array();
  for (const GgufTensor& t : file.tensors()) {
    tensors.push_back({{"name", t.name}, {"type", dtype_info(t.type).name}, {"shape", t.shape}, {"bytes", t.bytes()}});
    text += fmt::format("  {:<34} {:<8} [{}]\n", t.name, dtype_info(t.type).name, fmt::join(t.shape, ", "));
  }
  DECANT_TRY_STATUS(report.write(json));
  return report.to_stdout() ? Status() : write_stdout(text);
}

}  // namespace decant::cli
