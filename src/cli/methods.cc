// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "cli/common.h"
#include "cli/models.h"
#include "hub/cache.h"
#include "kernels/cuda_device.h"
#include "kernels/device.h"
#include "kernels/table.h"
#include "model/config.h"
#include "speculate/registry.h"

namespace decant::cli {
namespace {

struct Entry {
  std::string name;
  std::string summary;
  bool available = true;
};

constexpr std::string_view kGuarantee = "exact";

// In the order of the default chain.
const std::array<Entry, 11> kSamplers = {{
    {"penalties", "repetition, presence and frequency penalties"},
    {"dry", "penalty of tokens that prolong a repetition (DRY)"},
    {"top_n_sigma", "logits within N standard deviations of the best"},
    {"top_k", "the K likeliest tokens"},
    {"typ_p", "locally typical sampling"},
    {"top_p", "the likeliest tokens that reach a probability together (nucleus)"},
    {"min_p", "tokens above a share of the likeliest one's probability"},
    {"xtc", "exclude top choices"},
    {"temperature", "temperature, fixed or following the entropy"},
    {"mirostat", "Mirostat 1, in place of the filters"},
    {"mirostat_v2", "Mirostat 2, in place of the filters"},
}};

std::vector<Entry> kernel_tables() {
  const std::vector<const KernelTable*> here = cpu_tables();
  std::vector<Entry> tables;
  for (const auto& [name, summary] :
       {std::pair("scalar", "portable C++, the specification"), std::pair("avx2", "AVX2 and FMA"),
        std::pair("avx512", "AVX-512 with VNNI"), std::pair("amx", "AMX-INT8 tiles beside AVX-512")}) {
    const bool available =
        std::any_of(here.begin(), here.end(), [&, n = name](const KernelTable* t) { return t->name == n; });
    tables.push_back({name, summary, available});
  }
  const Result<std::unique_ptr<Device>> cuda = make_cuda_device();
  tables.push_back({"cuda", "CUDA, experimental (--device cuda)", cuda.ok()});
  return tables;
}

void add_section(std::string* text, const char* title, const std::vector<Entry>& entries, const char* unavailable) {
  *text += fmt::format("{}\n", title);
  for (const Entry& e : entries) {
    *text += fmt::format("  {:<14} {}{}\n", e.name, e.summary, e.available ? "" : unavailable);
  }
  *text += "\n";
}

Json entries_json(const std::vector<Entry>& entries, bool availability) {
  Json list = Json::array();
  for (const Entry& e : entries) {
    Json entry = {{"name", e.name}, {"summary", e.summary}};
    if (availability) entry["available"] = e.available;
    list.push_back(std::move(entry));
  }
  return list;
}

Json settings_json(const std::vector<SettingInfo>& settings) {
  Json list = Json::array();
  for (const SettingInfo& s : settings) {
    Json entry = {{"name", s.name}, {"summary", s.summary}};
    switch (s.kind) {
      case SettingInfo::Kind::kInteger: entry["type"] = "integer"; break;
      case SettingInfo::Kind::kReal: entry["type"] = "number"; break;
      case SettingInfo::Kind::kWord: entry["type"] = "choice"; break;
      case SettingInfo::Kind::kPath: entry["type"] = "text"; break;
    }
    entry["default"] = s.standard.empty() ? Json(nullptr) : Json(s.standard);
    if (s.kind == SettingInfo::Kind::kInteger || s.kind == SettingInfo::Kind::kReal) {
      entry["min"] = s.min;
      entry["max"] = s.max;
    }
    if (s.kind == SettingInfo::Kind::kWord) {
      Json& words = entry["choices"] = Json::array();
      std::string_view rest = s.words;
      while (!rest.empty()) {
        const size_t bar = std::min(rest.find('|'), rest.size());
        words.push_back(rest.substr(0, bar));
        rest.remove_prefix(std::min(bar + 1, rest.size()));
      }
    }
    list.push_back(std::move(entry));
  }
  return list;
}

Json drafters_json() {
  Json list = Json::array();
  list.push_back({{"name", "none"},
                  {"summary", "plain decoding: one token a step"},
                  {"guarantee", kGuarantee},
                  {"needs", Json::array()},
                  {"options", Json::array()},
                  {"paper", nullptr}});
  for (const DrafterInfo& d : drafters()) {
    list.push_back({{"name", d.name},
                    {"summary", d.summary},
                    {"guarantee", kGuarantee},  // under the verifier coupled
                    {"needs", d.needs},
                    {"options", settings_json(d.settings)},
                    {"paper", d.paper.empty() ? Json(nullptr) : Json(d.paper)},
                    {"verifier", d.verifier}});
  }
  return list;
}

Json verifiers_json() {
  Json list = Json::array();
  for (const VerifierInfo& v : verifiers()) {
    list.push_back({{"name", v.name},
                    {"summary", v.summary},
                    {"guarantee", v.guarantee},
                    {"needs", Json::array()},
                    {"options", settings_json(v.settings)},
                    {"paper", v.paper.empty() ? Json(nullptr) : Json(v.paper)}});
  }
  return list;
}

// A method's summary, its guarantee or needs, and its settings with their defaults.
template <class Info>
std::string method_lines(const Info& info, const std::string& note) {
  std::string text = fmt::format("  {:<14} {}{}\n", info.name, info.summary, note);
  std::string settings;
  for (const SettingInfo& s : info.settings) {
    settings += (settings.empty() ? "" : ", ") + std::string(s.name) + "=" + std::string(s.standard);
  }
  if (!settings.empty()) text += fmt::format("  {:<14}   ({})\n", "", settings);
  return text;
}

std::string speculation_text() {
  std::string text = "Draft methods (--draft NAME or NAME(SETTING=VALUE, ...); several joined by +)\n";
  text += fmt::format("  {:<14} plain decoding\n", "none");
  for (const DrafterInfo& d : drafters()) {
    text += method_lines(d, d.needs.empty() ? "" : fmt::format(" [needs {}]", fmt::join(d.needs, ", ")));
  }
  text += "\nVerifiers (--verifier)\n";
  for (const VerifierInfo& v : verifiers()) text += method_lines(v, fmt::format(" [{}]", v.guarantee));
  return text + "\n";
}

}  // namespace

Status methods(const MethodsOptions& options) {
  DECANT_TRY(JsonReport report, JsonReport::open(options.json));
  std::vector<Entry> family_entries, models, samplers(kSamplers.begin(), kSamplers.end());
  for (const FamilyInfo* f : families())
    family_entries.push_back({std::string(f->architecture), std::string(f->summary)});
  for (const PullableModel& m : pullable_models()) {
    DECANT_TRY(const std::string path, pulled_path(m));
    models.push_back({std::string(m.name), fmt::format("{}; {}; licence: {}", m.summary, size_text(m.bytes), m.licence),
                      resolve_model(std::string(m.name)).ok()});
  }
  if (const Result<HubCache> cache = hub_cache(); cache.ok()) {
    for (const std::string& name : cache->list()) models.push_back({name, "of a hub", true});
  }
  const std::vector<Entry> tables = kernel_tables();

  Json json;
  json["families"] = entries_json(family_entries, false);
  json["samplers"] = entries_json(samplers, false);
  json["decoders"] = Json::array({{{"name", "plain"}, {"summary", "one token a step"}, {"guarantee", kGuarantee}}});
  json["drafters"] = drafters_json();
  json["verifiers"] = verifiers_json();
  json["kernel_tables"] = entries_json(tables, true);
  json["models"] = entries_json(models, true);
  DECANT_TRY_STATUS(report.write(json));
  if (report.to_stdout()) return {};

  std::string text;
  add_section(&text, "Model families (general.architecture)", family_entries, "");
  add_section(&text, "Samplers, in the order of the default chain", samplers, "");
  text += speculation_text();
  add_section(&text, "Kernel tables (--kernels)", tables, " [not on this machine]");
  add_section(&text, "Models (decant pull NAME, then -m NAME)", models, " [not pulled]");
  text.pop_back();
  return write_stdout(text);
}

}  // namespace decant::cli
