// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "cli/common.h"
#include "cli/models.h"
#include "cli/session.h"
#include "formats/gguf.h"
#include "model/checkpoint.h"
#include "model/convert.h"
#include "speculate/layer_search.h"

namespace decant::cli {

namespace fs = std::filesystem;

namespace {

Json subset_json(const LayerSubset& s) {
  return {{"layers", s.layers}, {"agreement", s.agreement}, {"cross_entropy", s.cross_entropy},
          {"cost", s.cost},     {"speedup", s.speedup},     {"length", s.length}};
}

std::string layers_text(const std::vector<int>& layers) {
  std::string text;
  for (size_t i = 0; i < layers.size();) {
    size_t end = i;
    while (end + 1 < layers.size() && layers[end + 1] == layers[end] + 1) ++end;
    text += (text.empty() ? "" : ",") +
            (end == i ? fmt::format("{}", layers[i]) : fmt::format("{}-{}", layers[i], layers[end]));
    i = end + 1;
  }
  return text;
}

}  // namespace

Status make_draft(const MakeDraftOptions& options) {
  DECANT_TRY(JsonReport report, JsonReport::open(options.json));
  std::string output = options.output;
  if (output.empty()) output = fs::path(options.model.model).stem().string() + "-draft.gguf";
  std::error_code error;
  if (fs::exists(output, error) && !options.force) {
    return Status::invalid_argument("{}: it is there already; --force overwrites it", output);
  }
  DECANT_TRY(const std::string path, resolve_model(options.model.model));
  DECANT_TRY(const GgufFile file, open_model(path));
  DECANT_TRY(const ModelConfig config, read_config(file));
  const int n = config.n_layers();
  if (options.layers > n || options.layers == 1) {
    return Status::invalid_argument("--layers: expected 2 to {}, the layers of {}, or 0, got {}", n,
                                    options.model.model, options.layers);
  }
  if (config.experts > 0 && options.layers != n) {
    return Status::unsupported("{}: layers of models with experts cannot be left out; --layers {} keeps all", path, n);
  }

  std::vector<int> kept;
  Json json;
  if (options.layers == n) {
    if (!options.type) {
      return Status::invalid_argument("--layers {} keeps all layers; give --type, or the draft is the model itself", n);
    }
  } else {
    std::vector<LayerSubset> subsets;
    {
      ModelOptions model_options = options.model;
      model_options.context = 64;
      DECANT_TRY(const Session session, Session::open(model_options, {.context = 64, .max_rows = 64}));
      Progress progress;
      LayerSearchOptions search{.tokens = options.tokens, .keep = options.layers};
      search.progress = [&](int done, int total) {
        progress.show(fmt::format("trying layers: {} of {} left out", done, total));
      };
      DECANT_TRY(subsets, search_layers(session.model, *session.tokenizer, search));
    }
    // What one guess promises; of drafts that are no gain, the least loss is still one that is worth its name as draft.
    const auto promise = [](const LayerSubset& s) { return (1 + s.agreement) / (1 + s.cost); };
    auto best = std::prev(subsets.end());
    bool is_gain = true;
    if (options.layers == 0) {
      best = std::max_element(subsets.begin(), subsets.end(),
                              [](const LayerSubset& x, const LayerSubset& y) { return x.speedup < y.speedup; });
      if (best->length == 0) {
        is_gain = false;
        best = std::prev(subsets.end());
        for (auto s = subsets.begin(); s != subsets.end(); ++s) {
          if (static_cast<int>(s->layers.size()) * 4 <= n * 3 && promise(*s) > promise(*best)) best = s;
        }
      }
    }
    if (!report.to_stdout()) {
      std::string table = "layers  agreement  cost  promised speed-up\n";
      for (const LayerSubset& s : subsets) {
        table += fmt::format("{:>6}  {:>9.3f}  {:>4.2f}  {:.2f}{}{}\n", s.layers.size(), s.agreement, s.cost, s.speedup,
                             s.length > 0 ? fmt::format(", {} ahead", s.length) : "", &s == &*best ? "  <" : "");
      }
      DECANT_TRY_STATUS(write_stdout(table));
    }
    if (!is_gain) {
      write_note(fmt::format("note: without training no number of layers promises a speed-up; {} of {} are kept",
                             best->layers.size(), n));
    }
    kept = best->layers;
    json["subsets"] = Json::array();
    for (const LayerSubset& s : subsets) json["subsets"].push_back(subset_json(s));
    json["chosen"] = subset_json(*best);
  }
  {
    Progress progress;
    const auto show = [&](double share) {
      if (seconds_since_start() > 0.5) progress.show(fmt::format("writing {}: {:.0f} %", output, share * 100));
    };
    DECANT_TRY_STATUS(write_gguf(file, output, {.type = options.type, .layers = kept, .progress = show}));
  }
  DECANT_TRY(const GgufFile written, open_model(output));
  json["file"] = output;
  json["bytes"] = written.file_size();
  DECANT_TRY_STATUS(report.write(json));
  if (report.to_stdout()) return {};
  return write_stdout(fmt::format("{}: {}, {}\n", output,
                                  kept.empty() ? fmt::format("all {} layers", n)
                                               : fmt::format("{} of {} layers ({})", kept.size(), n, layers_text(kept)),
                                  size_text(static_cast<int64_t>(written.file_size()))));
}

}  // namespace decant::cli
