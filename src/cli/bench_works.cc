// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "cli/bench_works.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <limits>
#include <map>
#include <numeric>

#include "base/rng.h"
#include "cli/common.h"
#include "kernels/probe.h"

namespace decant::cli {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

}  // namespace

double WayResult::median() const {
  const size_t n = seconds.size();
  if (n == 0) return 0;
  return n % 2 == 1 ? seconds[n / 2] : (seconds[n / 2 - 1] + seconds[n / 2]) / 2;
}

Result<std::vector<WayResult>> measure_ways(std::span<const Way> ways, int repeat) {
  const InterruptFlag interrupt;
  Progress progress;
  std::vector<WayResult> results(ways.size());
  for (size_t w = 0; w < ways.size(); ++w) results[w].name = ways[w].name;
  for (int i = -1; i < repeat; ++i) {
    for (size_t w = 0; w < ways.size(); ++w) {
      progress.show(fmt::format("{}: {} of {}", ways[w].name, std::max(i, 0), repeat));
      DECANT_TRY(const double seconds, ways[w].pass());
      if (interrupt.raised()) return Status::make(Code::kCancelled, "");
      if (i >= 0) results[w].seconds.push_back(seconds);
    }
  }
  for (WayResult& r : results) std::sort(r.seconds.begin(), r.seconds.end());
  return results;
}

// ---- shared prefix ----

Result<SharedPrefixResult> measure_shared_prefix(Engine& engine, int rows, int prefix, int repeat) {
  Device& d = engine.device();
  const LayerConfig& layer = engine.model().config().layers.front();
  const KvLayout layout = engine.cache().layout(0);
  constexpr int kOwnKeys = 32;  // a continuation's own, its new token's included
  const int prefix_pages = (prefix + kPageKeys - 1) / kPageKeys;
  prefix = prefix_pages * kPageKeys;
  const int n_keys = prefix + kOwnKeys;
  // Pages: the prefix, each row's own, then the prefix again for each row.
  const size_t pages = static_cast<size_t>(prefix_pages) * static_cast<size_t>(rows + 1) + static_cast<size_t>(rows);
  if (pages > std::numeric_limits<int32_t>::max() / kPageKeys) {
    return Status::invalid_argument("--shared-prefix {} with {} sequences: more pages than slots can name", prefix,
                                    rows);
  }
  Result<DeviceBuffer> memory = d.alloc(pages * layout.page_bytes());
  if (!memory.ok()) {
    return std::move(memory).status().with_context(
        fmt::format("--shared-prefix {} with {} sequences does not fit; lower one of them", prefix, rows));
  }
  const DevPtr<uint8_t> pool = memory->ptr<uint8_t>();

  uint32_t next = 0;
  const auto numbers = [&](size_t n) {
    std::vector<float> values(n);
    for (float& v : values) v = static_cast<float>(random_bits({.seed = 1}, next++)) * 0x1p-31f - 1.0f;
    return values;
  };
  std::vector<DeviceBuffer> buffers;
  const auto upload = [&]<typename T>(const std::vector<T>& values) -> Result<DevPtr<T>> {
    DECANT_TRY(DeviceBuffer buffer, d.alloc(values.size() * sizeof(T)));
    d.copy_in(buffer.ptr<T>(), std::span<const T>(values));
    buffers.push_back(std::move(buffer));
    return buffers.back().ptr<T>();
  };
  const auto kv_heads = static_cast<size_t>(layout.n_kv_heads);
  DECANT_TRY(const DevPtr<float> k, upload(numbers(kPageKeys * kv_heads * static_cast<size_t>(layout.k_dim))));
  DECANT_TRY(const DevPtr<float> v, upload(numbers(kPageKeys * kv_heads * static_cast<size_t>(layout.v_dim))));
  std::vector<int32_t> slots(kPageKeys);
  DECANT_TRY(const DevPtr<int32_t> slot, upload(slots));
  for (int page = 0; page < prefix_pages + rows; ++page) {
    // New numbers for some pages are enough: what they are does not matter to the time.
    if (page % 16 == 0) {
      d.copy_in(k, std::span<const float>(numbers(kPageKeys * kv_heads * static_cast<size_t>(layout.k_dim))));
      d.copy_in(v, std::span<const float>(numbers(kPageKeys * kv_heads * static_cast<size_t>(layout.v_dim))));
    }
    std::iota(slots.begin(), slots.end(), page * kPageKeys);
    d.copy_in(slot, std::span<const int32_t>(slots));
    d.table().kv_write(d.queue(), {.layout = layout, .pool = pool, .slots = slot, .k = k, .v = v, .rows = kPageKeys});
  }
  const size_t prefix_bytes = static_cast<size_t>(prefix_pages) * layout.page_bytes();
  for (int row = 0; row < rows; ++row) {
    const size_t copy = (static_cast<size_t>(prefix_pages) * static_cast<size_t>(row + 1) + static_cast<size_t>(rows)) *
                        layout.page_bytes();
    d.copy((pool + static_cast<ptrdiff_t>(copy)).cast<void>(), DevPtr<const void>(pool.cast<void>()), prefix_bytes);
  }

  const auto width = static_cast<size_t>(layer.n_heads);
  DECANT_TRY(const DevPtr<float> q,
             upload(numbers(static_cast<size_t>(rows) * width * static_cast<size_t>(layout.k_dim))));
  const size_t outputs = static_cast<size_t>(rows) * width * static_cast<size_t>(layout.v_dim);
  DECANT_TRY(const DevPtr<float> out, upload(std::vector<float>(outputs)));

  struct Plan {
    std::vector<AttnGroup> groups;
    AttentionArgs args;
  };
  std::map<std::string, Plan> plans;
  std::vector<std::vector<float>> answers;
  std::vector<Way> ways;
  for (const std::string name : {"copies", "apart", "together"}) {
    std::vector<int32_t> tables;
    std::vector<AttnRow> attn;
    Plan& plan = plans[name];
    for (int row = 0; row < rows; ++row) {
      const auto begin = static_cast<int32_t>(tables.size());
      const int32_t first = name == "copies" ? prefix_pages * (row + 1) + rows : 0;
      for (int page = 0; page < prefix_pages; ++page) tables.push_back(first + page);
      tables.push_back(prefix_pages + row);
      const bool together = name == "together";
      attn.push_back({.page_table = begin,
                      .n_keys = n_keys,
                      .key_begin = 0,
                      .ordinal = n_keys - 1,
                      .identity = n_keys,
                      .path = 0,
                      .shared = together && row > 0 ? prefix_pages : 0});
      if (!together) plan.groups.push_back({.row_begin = row, .row_end = row + 1, .max_keys = n_keys});
    }
    if (name == "together") plan.groups.push_back({.row_begin = 0, .row_end = rows, .max_keys = n_keys});
    DECANT_TRY(const DevPtr<AttnRow> attn_rows, upload(attn));
    DECANT_TRY(const DevPtr<int32_t> page_table, upload(tables));
    plan.args = {.layout = layout,
                 .pool = pool,
                 .q = q,
                 .out = out,
                 .heads = layer.n_heads,
                 .scale = 0.125f,
                 .rows = attn_rows,
                 .pages = page_table,
                 .paths = page_table,
                 .groups = plan.groups};
    ways.push_back({name, [&d, &plan]() -> Result<double> {
                      const auto begin = Clock::now();
                      d.table().attention(d.queue(), plan.args);
                      DECANT_TRY_STATUS(d.status());
                      return seconds_since(begin);
                    }});
    if (Result<double> seconds = ways.back().pass(); !seconds.ok()) return std::move(seconds).status();
    answers.emplace_back(outputs);
    d.copy_out(std::span<float>(answers.back()), DevPtr<const float>(out));
    if (std::memcmp(answers.back().data(), answers.front().data(), outputs * sizeof(float)) != 0) {
      return Status::internal("attention over a shared prefix: \"{}\" gives other bits than \"{}\"", name,
                              ways.front().name);
    }
  }
  SharedPrefixResult result;
  result.operations = 2.0 * rows * layer.n_heads * static_cast<double>(n_keys) * (layout.k_dim + layout.v_dim);
  result.peak = measure_float_peak(d);
  DECANT_TRY(result.ways, measure_ways(ways, repeat));
  result.peak = std::max(result.peak, measure_float_peak(d));
  return result;
}

// ---- prefill of many prompts ----

std::vector<int> skewed_lengths(int prompts) {
  std::vector<int> lengths;
  for (int i = 0; i < prompts; ++i) {
    const uint32_t bits = random_bits({.seed = 2}, static_cast<uint32_t>(i));
    lengths.push_back(i % 10 == 9 ? 600 + static_cast<int>(bits % 401) : 20 + static_cast<int>(bits % 61));
  }
  return lengths;
}

std::vector<std::vector<PackedPart>> pack_prompts(std::span<const int> lengths, int budget) {
  std::vector<std::vector<PackedPart>> steps;
  std::vector<PackedPart> rest;
  for (size_t i = 0; i < lengths.size(); ++i) {
    const auto prompt = static_cast<int>(i);
    int begin = 0;
    for (; lengths[i] - begin > budget; begin += budget) steps.push_back({{prompt, begin, budget}});
    rest.push_back({prompt, begin, lengths[i] - begin});
  }
  std::stable_sort(rest.begin(), rest.end(), [](const PackedPart& a, const PackedPart& b) { return a.rows > b.rows; });
  // Open steps by the room that they have left: the fullest that still takes a part is the first at or above its size.
  std::multimap<int, size_t> room;
  for (const PackedPart& part : rest) {
    const auto fit = room.lower_bound(part.rows);
    size_t step = steps.size();
    int left = budget;
    if (fit != room.end()) {
      step = fit->second;
      left = fit->first;
      room.erase(fit);
    } else {
      steps.emplace_back();
    }
    steps[step].push_back(part);
    room.emplace(left - part.rows, step);
  }
  return steps;
}

Result<PrepackResult> measure_prepacking(Engine& engine, std::span<const int> lengths, int repeat) {
  const int budget = engine.options().max_rows;
  const auto vocab = static_cast<uint32_t>(engine.model().config().vocab_size);
  const int longest = *std::max_element(lengths.begin(), lengths.end());
  const auto count = static_cast<int>(lengths.size());
  // Each prompt's tokens, with padding behind them.
  std::vector<std::vector<TokenId>> prompts;
  for (int i = 0; i < count; ++i) {
    std::vector<TokenId> tokens(static_cast<size_t>(longest), 0);
    for (int t = 0; t < lengths[static_cast<size_t>(i)]; ++t) {
      tokens[static_cast<size_t>(t)] =
          static_cast<TokenId>(random_bits({.seed = 3 + static_cast<uint64_t>(i)}, static_cast<uint32_t>(t)) % vocab);
    }
    prompts.push_back(std::move(tokens));
  }
  std::vector<std::vector<PackedPart>> padded, one_by_one;
  // Rectangles of columns; of more prompts than a step has rows, some prompts at a time.
  for (int first = 0; first < count; first += budget) {
    const int height = std::min(budget, count - first);
    const int columns = budget / height;
    for (int begin = 0; begin < longest; begin += columns) {
      padded.emplace_back();
      for (int i = 0; i < height; ++i) padded.back().push_back({first + i, begin, std::min(columns, longest - begin)});
    }
  }
  for (int i = 0; i < count; ++i) {
    for (int begin = 0; begin < lengths[static_cast<size_t>(i)]; begin += budget) {
      one_by_one.push_back({{i, begin, std::min(budget, lengths[static_cast<size_t>(i)] - begin)}});
    }
  }

  std::vector<std::vector<float>> first_logits, logits(prompts.size());
  StepOutput out;
  const auto run = [&](const std::vector<std::vector<PackedPart>>& steps) -> Result<double> {
    KvCache& cache = engine.cache();
    std::vector<SequenceId> sequences;
    for (int i = 0; i < count; ++i) sequences.push_back(cache.create_sequence());
    const auto begin = Clock::now();
    Status status;
    for (const std::vector<PackedPart>& step : steps) {
      std::vector<Slice> slices;
      for (const PackedPart& part : step) {
        Slice s{.sequence = sequences[static_cast<size_t>(part.prompt)],
                .tokens = std::span<const TokenId>(prompts[static_cast<size_t>(part.prompt)])
                              .subspan(static_cast<size_t>(part.begin), static_cast<size_t>(part.rows))};
        const int last = lengths[static_cast<size_t>(part.prompt)] - 1 - part.begin;
        if (last >= 0 && last < part.rows) s.logits = {last};
        slices.push_back(std::move(s));
      }
      if (status = engine.step(slices, &out); !status.ok()) break;
      for (size_t i = 0; i < slices.size(); ++i) {
        if (slices[i].logits.empty()) continue;
        const std::span<const float> row = out.logits(i, 0);
        logits[static_cast<size_t>(step[i].prompt)].assign(row.begin(), row.end());
      }
    }
    const double seconds = seconds_since(begin);
    for (const SequenceId s : sequences) DECANT_TRY_STATUS(cache.remove(s));
    DECANT_TRY_STATUS(std::move(status));
    if (first_logits.empty()) first_logits = logits;
    for (size_t i = 0; i < logits.size(); ++i) {
      if (logits[i].size() != first_logits[i].size() ||
          std::memcmp(logits[i].data(), first_logits[i].data(), logits[i].size() * sizeof(float)) != 0) {
        return Status::internal("prompt {} has other logits in another way of prefill", i);
      }
    }
    return seconds;
  };
  const std::vector<std::vector<PackedPart>> packed = pack_prompts(lengths, budget);
  const std::pair<std::string, const std::vector<std::vector<PackedPart>>*> plans[] = {
      {"padded", &padded}, {"one by one", &one_by_one}, {"packed", &packed}};
  std::vector<Way> ways;
  for (const auto& [name, steps] : plans) {
    ways.push_back({name, [&run, steps = steps] { return run(*steps); }});
  }
  PrepackResult result;
  result.tokens = std::accumulate(lengths.begin(), lengths.end(), 0.0);
  DECANT_TRY(result.ways, measure_ways(ways, repeat));
  for (size_t w = 0; w < result.ways.size(); ++w) {
    for (const auto& step : *plans[w].second) {
      for (const PackedPart& part : step) result.ways[w].computed += part.rows;
    }
  }
  return result;
}

}  // namespace decant::cli
