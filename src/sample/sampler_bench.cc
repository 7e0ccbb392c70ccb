// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Time of one draw by chain and vocabulary size. Logits look like a language model's: a few likely tokens over a wide
// bell.
#include <benchmark/benchmark.h>

#include <cmath>
#include <vector>

#include "sample/sampler.h"

namespace decant {
namespace {

std::vector<float> model_like_logits(int n) {
  std::vector<float> logits(static_cast<size_t>(n));
  for (int i = 0; i < n; ++i) {
    const RngKey key = {.seed = 7};
    const double u = random_uniform(key, 2 * i), v = random_uniform(key, 2 * i + 1);
    logits[static_cast<size_t>(i)] = static_cast<float>(2.5 * std::sqrt(-2 * std::log(u)) * std::cos(6.283185307 * v));
  }
  for (int i = 0; i < 30; ++i)
    logits[static_cast<size_t>(i) * 1543 % logits.size()] = 18.0f - 0.5f * static_cast<float>(i);
  return logits;
}

void run(benchmark::State& bench, const SamplerOptions& options, int n_logprobs = -1, bool masked = false) {
  const int n = static_cast<int>(bench.range(0));
  const std::vector<float> logits = model_like_logits(n);
  std::vector<uint64_t> mask;
  if (masked) {
    mask.resize((logits.size() + 63) / 64);
    for (size_t i = 0; i < logits.size(); i += 3) mask[i / 64] |= uint64_t{1} << i % 64;
  }
  const Result<Sampler> sampler = Sampler::create(options, n);
  if (!sampler.ok()) return bench.SkipWithError(sampler.status().message().c_str());
  std::vector<int32_t> prompt(4096);
  for (size_t i = 0; i < prompt.size(); ++i) prompt[i] = static_cast<int32_t>(i * i % 911);
  const SamplerState state = sampler->start(prompt);
  uint32_t position = 0;
  for (auto _ : bench) {
    const Result<Draw> draw = sampler->draw(logits, state, position++, 0, n_logprobs, mask);
    if (!draw.ok()) return bench.SkipWithError(draw.status().message().c_str());
    benchmark::DoNotOptimize(draw->token);
  }
  bench.SetBytesProcessed(bench.iterations() * n * static_cast<int64_t>(sizeof(float)));
}

SamplerOptions no_filters(float temperature) {
  SamplerOptions options;
  options.temperature = temperature;
  options.top_k = 0;
  options.top_p = 1;
  options.min_p = 0;
  return options;
}

void greedy(benchmark::State& bench) { run(bench, no_filters(0)); }
void default_chain(benchmark::State& bench) { run(bench, {}); }
void default_chain_masked(benchmark::State& bench) { run(bench, {}, -1, true); }
void default_chain_logprobs(benchmark::State& bench) { run(bench, {}, 5); }
void temperature_only(benchmark::State& bench) { run(bench, no_filters(1)); }

void penalties(benchmark::State& bench) {
  SamplerOptions options;
  options.repeat_penalty = 1.1f;
  run(bench, options);
}

void dry(benchmark::State& bench) {
  SamplerOptions options;
  options.dry_multiplier = 0.8f;
  options.dry_breakers = {{1}, {5, 6}};
  run(bench, options);
}

void min_p_alone(benchmark::State& bench) {
  SamplerOptions options = no_filters(0.8f);
  options.min_p = 0.05f;
  run(bench, options);
}

void top_p_alone(benchmark::State& bench) {
  SamplerOptions options = no_filters(0.8f);
  options.top_p = 0.95f;
  run(bench, options);
}

void top_n_sigma_alone(benchmark::State& bench) {
  SamplerOptions options = no_filters(0.8f);
  options.top_n_sigma = 1;
  run(bench, options);
}

void mirostat(benchmark::State& bench) {
  SamplerOptions options;
  options.mirostat = 2;
  run(bench, options);
}

#define DECANT_SAMPLER_BENCH(name) BENCHMARK(name)->Arg(49152)->Arg(262144)->Unit(benchmark::kMicrosecond)
DECANT_SAMPLER_BENCH(greedy);
DECANT_SAMPLER_BENCH(default_chain);
DECANT_SAMPLER_BENCH(default_chain_masked);
DECANT_SAMPLER_BENCH(default_chain_logprobs);
DECANT_SAMPLER_BENCH(penalties);
DECANT_SAMPLER_BENCH(dry);
DECANT_SAMPLER_BENCH(min_p_alone);
DECANT_SAMPLER_BENCH(top_p_alone);
DECANT_SAMPLER_BENCH(top_n_sigma_alone);
DECANT_SAMPLER_BENCH(temperature_only);
DECANT_SAMPLER_BENCH(mirostat);

}  // namespace
}  // namespace decant
