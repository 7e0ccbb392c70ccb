// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "speculate/profile.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/hash.h"
#include "base/mapped_file.h"
#include "base/printable.h"
#include "base/processor.h"
#include "kernels/table.h"

namespace decant {

using Json = nlohmann::ordered_json;

namespace {

constexpr int kVersion = 1;

}  // namespace

bool DraftProfile::fits(const DraftProfile& here) const {
  return processor == here.processor && kernels == here.kernels && threads == here.threads &&
         vocabulary == here.vocabulary && weight_bytes == here.weight_bytes;
}

std::string DraftProfile::file_name() const {
  const std::string key = fmt::format("{}|{}|{}|{}|{}", processor, kernels, threads, vocabulary, weight_bytes);
  return fmt::format("{:016x}.json", fnv1a(key));
}

DraftProfile profile_key(const Engine& engine, uint64_t vocabulary) {
  DraftProfile key;
  key.processor = processor_name();
  key.kernels = engine.device().table().name;
  key.threads = engine.device().threads();
  key.vocabulary = vocabulary;
  key.weight_bytes = engine.model().weight_bytes();
  return key;
}

Status write_profile(const DraftProfile& p, const std::string& path) {
  Json methods = Json::array();
  for (const DraftProfile::Method& m : p.methods) {
    methods.push_back({{"draft", m.spec}, {"speedup", m.speedup}, {"tokens_per_step", m.tokens_per_step}});
  }
  const Json json = {{"decant_draft_profile", kVersion},
                     {"processor", p.processor},
                     {"kernels", p.kernels},
                     {"threads", p.threads},
                     {"vocabulary", p.vocabulary},
                     {"weight_bytes", p.weight_bytes},
                     {"draft", p.draft},
                     {"step_seconds", p.step_seconds},
                     {"methods", methods}};
  std::error_code error;
  const std::filesystem::path folder = std::filesystem::path(path).parent_path();
  if (!folder.empty()) std::filesystem::create_directories(folder, error);
  if (error) return Status::io("{}: cannot make the folder: {}", folder.string(), error.message());
  DECANT_TRY(AtomicFile file, AtomicFile::create(path));
  const std::string text = json.dump(2) + "\n";
  DECANT_TRY_STATUS(file.write({reinterpret_cast<const uint8_t*>(text.data()), text.size()}));
  return file.commit();
}

Result<DraftProfile> read_profile(const std::string& path) {
  DECANT_TRY(const std::string text, read_file(path));
  const Json json = Json::parse(text, nullptr, false);
  const auto bad = [&](std::string_view field, std::string_view expected) {
    return Status::corrupt("{}: {}: expected {}; run `decant tune` again", path, field, expected);
  };
  if (!json.is_object() || !json.contains("decant_draft_profile")) return bad("file", "a draft profile");
  if (json["decant_draft_profile"] != kVersion) return bad("decant_draft_profile", fmt::format("version {}", kVersion));
  DraftProfile p;
  for (const auto& [name, target] :
       {std::pair("processor", &p.processor), std::pair("kernels", &p.kernels), std::pair("draft", &p.draft)}) {
    if (!json.contains(name) || !json[name].is_string()) return bad(name, "a text");
    *target = json[name].get<std::string>();
  }
  for (const auto& [name, target] :
       {std::pair("vocabulary", &p.vocabulary), std::pair("weight_bytes", &p.weight_bytes)}) {
    if (!json.contains(name) || !json[name].is_number_unsigned()) return bad(name, "a whole number");
    *target = json[name].get<uint64_t>();
  }
  if (!json.contains("threads") || !json["threads"].is_number_unsigned() || json["threads"] > 65536) {
    return bad("threads", "a whole number");
  }
  p.threads = json["threads"].get<int>();
  if (!json.contains("step_seconds") || !json["step_seconds"].is_array()) return bad("step_seconds", "a list");
  for (const Json& s : json["step_seconds"]) {
    if (!s.is_number() || !(s.get<double>() > 0) || !std::isfinite(s.get<double>())) {
      return bad("step_seconds", "positive numbers");
    }
    p.step_seconds.push_back(s.get<double>());
  }
  if (json.contains("methods") && json["methods"].is_array()) {
    for (const Json& m : json["methods"]) {
      if (!m.is_object() || !m.contains("draft") || !m["draft"].is_string()) return bad("methods", "draft methods");
      p.methods.push_back({m["draft"].get<std::string>(), m.value("speedup", 0.0), m.value("tokens_per_step", 0.0)});
    }
  }
  return p;
}

Result<std::vector<double>> measure_steps(Engine& engine, int max_rows, int context) {
  constexpr int kRepeats = 9;
  context = std::clamp(context, 1, engine.options().context - max_rows);
  max_rows = std::min(max_rows, engine.options().max_rows);
  if (context < 1 || max_rows < 1) return Status::invalid_argument("the context is too small to measure steps in");
  const int vocab = engine.model().config().vocab_size;
  const SequenceId sequence = engine.cache().create_sequence();
  StepOutput output;
  const auto run = [&]() -> Result<std::vector<double>> {
    std::vector<TokenId> tokens;
    for (int i = 0; i < context; ++i) tokens.push_back(static_cast<TokenId>((100 + 37 * int64_t{i}) % vocab));
    for (int done = 0; done < context;) {
      const int rows = std::min(engine.options().max_rows, context - done);
      const Slice s{
          .sequence = sequence,
          .tokens = std::span<const TokenId>(tokens).subspan(static_cast<size_t>(done), static_cast<size_t>(rows))};
      DECANT_TRY_STATUS(engine.step({&s, 1}, &output));
      done += rows;
    }
    std::vector<std::vector<double>> times(static_cast<size_t>(max_rows));
    std::vector<int32_t> parents;
    std::vector<TokenId> drafts;
    for (int i = 0; i < max_rows; ++i) {
      parents.push_back(i - 1);
      drafts.push_back(static_cast<TokenId>((11 + 53 * int64_t{i}) % vocab));
    }
    // All sizes in turn, so that what slows the machine for a while slows all of them.
    for (int repeat = 0; repeat < kRepeats; ++repeat) {
      for (int rows = 1; rows <= max_rows; ++rows) {
        const auto n = static_cast<size_t>(rows);
        Slice s{.sequence = sequence,
                .tokens = std::span<const TokenId>(drafts).first(n),
                .mask = Mask::kTree,
                .parents = std::span<const int32_t>(parents).first(n)};
        for (int i = 0; i < rows; ++i) s.logits.push_back(i);
        const auto begin = std::chrono::steady_clock::now();
        DECANT_TRY_STATUS(engine.step({&s, 1}, &output));
        const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
        if (repeat > 0) times[n - 1].push_back(seconds);  // the first warms up
        engine.cache().drop_pending(sequence);
      }
    }
    std::vector<double> medians;
    for (std::vector<double>& t : times) {
      std::nth_element(t.begin(), t.begin() + static_cast<ptrdiff_t>(t.size() / 2), t.end());
      medians.push_back(t[t.size() / 2]);
    }
    return medians;
  };
  Result<std::vector<double>> medians = run();
  (void)engine.cache().remove(sequence);  // cannot fail: it is ours
  return medians;
}

}  // namespace decant
