// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "speculate/layer_search.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <nlohmann/json.hpp>

#include "engine/engine.h"
#include "engine/generate.h"
#include "model/model.h"
#include "speculate/calibration_prompts.h"
#include "speculate/top_tokens.h"
#include "text/chat.h"
#include "text/tokenizer.h"

namespace decant {
namespace {

int64_t bytes_of(const Weight& w) { return static_cast<int64_t>(w.bytes()); }

class Search {
 public:
  Search(std::shared_ptr<const Model> model, std::unique_ptr<Engine> engine)
      : model_(std::move(model)), engine_(std::move(engine)), layers_(model_->config().n_layers()) {
    for (int i = 0; i < layers_; ++i) {
      const LayerWeights& w = model_->layer(i);
      int64_t bytes = 0;
      for (const Weight* x : {&w.q, &w.k, &w.v, &w.o, &w.ffn.gate, &w.ffn.up, &w.ffn.down}) bytes += bytes_of(*x);
      layer_bytes_.push_back(static_cast<double>(bytes));
    }
  }

  // The model answers the prompts greedily; what it says is what drafts have to say.
  Status record(const Tokenizer& tokenizer, int tokens) {
    using Json = nlohmann::ordered_json;
    Result<std::unique_ptr<ChatTemplate>> chat = ChatTemplate::from_tokenizer(tokenizer, nullptr);
    std::vector<GenerateRequest> requests;
    for (const char* prompt : kCalibrationPrompts) {
      GenerateRequest r;
      if (chat.ok() && *chat != nullptr) {
        Json messages = Json::array();
        messages.push_back({{"role", "user"}, {"content", prompt}});
        Result<std::vector<TokenId>> encoded = (*chat)->encode({.messages = &messages});
        if (encoded.ok()) r.prompt = *std::move(encoded);
      }
      if (r.prompt.empty()) {
        DECANT_TRY(r.prompt, tokenizer.encode(prompt));
      }
      if (r.prompt.empty()) r.prompt = {0};
      r.sampler.temperature = 0;
      r.max_tokens = std::max(2, tokens / static_cast<int>(std::size(kCalibrationPrompts)));
      for (TokenId t = 0; t < tokenizer.vocab_size(); ++t) {
        if (tokenizer.is_end(t)) r.end_tokens.push_back(t);
      }
      requests.push_back(std::move(r));
    }
    std::vector<GenerateResult> results = generate(*engine_, requests);
    for (size_t i = 0; i < results.size(); ++i) {
      DECANT_TRY_STATUS(std::move(results[i].status));
      if (results[i].tokens.size() < 2) continue;
      Text text{.tokens = std::move(requests[i].prompt), .prompt = 0};
      text.prompt = text.tokens.size();
      text.tokens.insert(text.tokens.end(), results[i].tokens.begin(), results[i].tokens.end());
      texts_.push_back(std::move(text));
    }
    if (texts_.empty()) return Status::invalid_argument("the model says nothing to measure drafts on");
    return {};
  }

  // `quick`: on a quarter of the texts, to choose by.
  Result<LayerSubset> measure(std::vector<int> kept, bool quick) {
    constexpr size_t kQuickShare = 4;
    LayerSubset out;
    int64_t right = 0, tokens = 0;
    double nats = 0;
    const size_t used = quick ? std::max<size_t>(texts_.size() / kQuickShare, 1) : texts_.size();
    for (const Text& text : std::span<const Text>(texts_).first(used)) {
      const SequenceId sequence = engine_->cache().create_sequence();
      Status status = run(text, kept, sequence);
      (void)engine_->cache().remove(sequence);  // cannot fail: it is ours
      DECANT_TRY_STATUS(std::move(status));
      for (size_t i = text.prompt; i < text.tokens.size(); ++i) {
        const std::span<const float> logits = output_.logits(0, i - text.prompt);
        top_tokens(logits, {}, 1, &top_);
        if (top_.empty()) continue;
        right += top_.front().token == text.tokens[i] ? 1 : 0;
        float mass = 0;
        for (const float x : logits) mass += std::exp(x - top_.front().logprob);
        nats += static_cast<double>(std::log(mass)) +
                static_cast<double>(top_.front().logprob - logits[static_cast<size_t>(text.tokens[i])]);
        ++tokens;
      }
    }
    if (tokens == 0) return Status::invalid_argument("the model's logits are no numbers");
    out.agreement = static_cast<double>(right) / static_cast<double>(tokens);
    out.cross_entropy = nats / static_cast<double>(tokens);
    double dropped = 0;
    for (int i = 0; i < layers_; ++i) {
      if (!std::binary_search(kept.begin(), kept.end(), i)) dropped += layer_bytes_[static_cast<size_t>(i)];
    }
    out.cost = 1 - dropped / static_cast<double>(model_->bytes_per_token());
    out.layers = std::move(kept);
    const double a = std::min(out.agreement, 0.999);
    for (int length = 1; length <= 16; ++length) {
      const double speedup = (1 - std::pow(a, length + 1)) / (1 - a) / (length * out.cost + 1);
      if (speedup > out.speedup) {
        out.speedup = speedup;
        out.length = length;
      }
    }
    return out;
  }

 private:
  struct Text {
    std::vector<TokenId> tokens;
    size_t prompt;  // tokens that are not measured
  };

  // The kept layers, one stretch after the other; the logits of the answer's tokens.
  Status run(const Text& text, const std::vector<int>& kept, SequenceId sequence) {
    const auto rows = static_cast<int32_t>(text.tokens.size()) - 1;  // the last token's row says nothing of the answer
    std::vector<int32_t> all(static_cast<size_t>(rows));
    for (int32_t i = 0; i < rows; ++i) all[static_cast<size_t>(i)] = i;
    for (size_t i = 0; i < kept.size();) {
      const int first = kept[i];
      int last = first + 1;
      while (++i < kept.size() && kept[i] == last) ++last;
      Slice s{.sequence = sequence};
      if (first == 0) {
        s.tokens = std::span<const TokenId>(text.tokens).first(static_cast<size_t>(rows));
      } else {
        s.embeddings = hidden_;
      }
      if (last == layers_) {
        for (size_t r = text.prompt - 1; r < static_cast<size_t>(rows); ++r) {
          s.logits.push_back(static_cast<int32_t>(r));
        }
      } else {
        s.hidden.push_back({.layer = last, .normed = false, .rows = all});
      }
      DECANT_TRY_STATUS(engine_->step({&s, 1}, &output_, {.first = first, .last = last}));
      if (last == layers_) return {};
      hidden_.clear();
      for (size_t r = 0; r < all.size(); ++r) {
        const std::span<const float> state = output_.hidden(0, 0, r);
        hidden_.insert(hidden_.end(), state.begin(), state.end());
      }
    }
    return Status::internal("the last layer is not among those kept");
  }

  std::shared_ptr<const Model> model_;
  std::unique_ptr<Engine> engine_;
  int layers_;
  std::vector<double> layer_bytes_;
  std::vector<Text> texts_;
  std::vector<float> hidden_;
  std::vector<TokenLogprob> top_;
  StepOutput output_;
};

}  // namespace

Result<std::vector<LayerSubset>> search_layers(std::shared_ptr<const Model> model, const Tokenizer& tokenizer,
                                               const LayerSearchOptions& options) {
  const int n = model->config().n_layers();
  if (options.keep < 0 || options.keep > n) {
    return Status::invalid_argument("layers to keep: {} of {}", options.keep, n);
  }
  constexpr int kContext = 4096;
  DECANT_TRY(std::unique_ptr<Engine> engine, Engine::create(model, {.context = kContext, .max_rows = 1024}));
  Search search(model, std::move(engine));
  DECANT_TRY_STATUS(search.record(tokenizer, std::clamp(options.tokens, 16, kContext)));
  std::vector<int> kept;
  for (int i = 0; i < n; ++i) kept.push_back(i);
  std::vector<LayerSubset> subsets;
  DECANT_TRY(LayerSubset whole, search.measure(kept, false));
  subsets.push_back(std::move(whole));
  const int least = std::max(options.keep, 2);
  constexpr double kUseless = 0.15;          // agreement below which fewer layers are no better
  std::vector<std::pair<double, int>> harm;  // of each layer on its own, as it was last measured
  for (int i = 1; i + 1 < n; ++i) harm.push_back({0, i});
  bool first = true;
  while (static_cast<int>(kept.size()) > least) {
    std::stable_sort(harm.begin(), harm.end());
    const size_t tries =
        first ? harm.size() : std::min(harm.size(), static_cast<size_t>(std::max(options.candidates, 1)));
    first = false;
    LayerSubset best;
    size_t best_at = harm.size();
    for (size_t i = 0; i < tries; ++i) {
      std::vector<int> without;
      for (const int layer : kept) {
        if (layer != harm[i].second) without.push_back(layer);
      }
      DECANT_TRY(LayerSubset subset, search.measure(std::move(without), true));
      harm[i].first = subset.cross_entropy;
      if (best_at == harm.size() || subset.cross_entropy < best.cross_entropy) {
        best = std::move(subset);
        best_at = i;
      }
    }
    if (best_at == harm.size()) break;
    harm.erase(harm.begin() + static_cast<ptrdiff_t>(best_at));
    kept = best.layers;
    DECANT_TRY(best, search.measure(kept, false));
    subsets.push_back(std::move(best));
    if (options.progress) options.progress(n - static_cast<int>(kept.size()), n - least);
    if (options.keep == 0 && subsets.back().agreement < kUseless) break;
  }
  return subsets;
}

}  // namespace decant
