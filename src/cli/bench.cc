// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// `decant bench`: how fast is this model here, and how near to what the machine can do at most?
#include <algorithm>
#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/processor.h"
#include "cli/bench_works.h"
#include "cli/child_process.h"
#include "cli/common.h"
#include "cli/models.h"
#include "cli/session.h"
#include "kernels/probe.h"
#include "kernels/table.h"

namespace decant::cli {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

// Operations are counted two for each multiply-add of a matrix product.
struct Roofs {
  double bytes_per_s = 0;
  std::map<DType, double> ops_per_s;  // of products of each type of weight
};

// What a work needs at least, for the shares of the roofs.
struct Work {
  std::string name;
  double tokens = 0;                     // per measurement
  double bytes = 0;                      // read at least
  double layer_rows = 0, head_rows = 0;  // rows through the layers, and through the LM head
  int tokens_per_step = 0;
};

struct Measured {
  Work work;
  std::vector<double> seconds;  // sorted
  int64_t peak_memory = 0;      // of start-up, bytes
  std::string note = {};
  Json numbers = nullptr;  // what the note says, for the report

  double median() const { return WayResult{.name = {}, .seconds = seconds}.median(); }
};

class Bench {
 public:
  explicit Bench(const BenchOptions& options) : options_(options) {}

  Status run() {
    DECANT_TRY(JsonReport report, JsonReport::open(options_.json));
    if (needs_engine()) DECANT_TRY_STATUS(open());
    const bool to_stdout = !report.to_stdout();
    if (to_stdout) DECANT_TRY_STATUS(write_stdout(header()));
    const auto add = [&](Result<Measured> measured) -> Status {
      if (!measured.ok()) return std::move(measured).status();
      if (to_stdout) DECANT_TRY_STATUS(write_stdout(line(*measured)));
      results_.push_back(std::move(measured).value());
      return {};
    };
    for (const int n : options_.prefill) DECANT_TRY_STATUS(add(measure_rows("prefill", n)));
    if (options_.decode) {
      for (const int batch : options_.batch) DECANT_TRY_STATUS(add(measure_decode(*options_.decode, batch)));
    }
    for (const int n : options_.verify) DECANT_TRY_STATUS(add(measure_rows("verify", n)));
    const auto add_all = [&](Result<std::vector<Measured>> list) -> Status {
      if (!list.ok()) return std::move(list).status();
      for (Measured& m : *list) DECANT_TRY_STATUS(add(std::move(m)));
      return {};
    };
    for (const int n : options_.shared_prefix) {
      for (const int rows : options_.batch) DECANT_TRY_STATUS(add_all(compare_shared_prefix(n, rows)));
    }
    for (const int n : options_.prepack) DECANT_TRY_STATUS(add_all(compare_prepacking(n)));
    if (options_.startup) DECANT_TRY_STATUS(add(measure_startup()));
    return report.write(to_json());
  }

 private:
  bool needs_engine() const {
    return !options_.prefill.empty() || options_.decode || !options_.verify.empty() ||
           !options_.shared_prefix.empty() || !options_.prepack.empty();
  }

  Status open() {
    const auto greatest = [](const std::vector<int>& list) {
      return list.empty() ? 0 : *std::max_element(list.begin(), list.end());
    };
    const auto pages = [](int64_t rows) { return (rows + 63) / 64 * 64; };
    int64_t context =
        pages(options_.depth + static_cast<int64_t>(std::max(greatest(options_.prefill), greatest(options_.verify))));
    const int batch = greatest(options_.batch);
    if (options_.decode)
      context = std::max(context, batch * pages(std::max(options_.depth, 1) + static_cast<int64_t>(*options_.decode)));
    for (const int n : options_.prepack) {
      const std::vector<int> lengths = skewed_lengths(n);
      context = std::max(context, n * pages(*std::max_element(lengths.begin(), lengths.end())));
    }
    context = std::max<int64_t>(context, 64);
    if (context > 1 << 28)
      return Status::invalid_argument("these works need a context of {} tokens, more than any model has", context);
    SessionNeeds needs;
    needs.context = static_cast<int>(context);
    const int chunk = options_.model.prefill_chunk > 0 ? options_.model.prefill_chunk : 512;
    needs.max_rows = std::max({chunk, greatest(options_.verify), batch});
    chunk_ = chunk;
    DECANT_TRY(session_, Session::open(options_.model, needs));
    measure_roofs();
    return {};
  }

  void measure_roofs() {
    // A buffer as large as the weights that a step reads: what fits a cache there would fit it here.
    const Model& model = *session_->model;
    roofs_.bytes_per_s =
        std::max(roofs_.bytes_per_s, measure_read_bandwidth(*session_->device, model.bytes_per_token()));
    for (const auto& [type, ops] : layer_ops()) measure_peak(type);
    measure_peak(model.output().type);
  }

  void measure_peak(DType type) {
    double& best = roofs_.ops_per_s[type];
    best = std::max(best, measure_product_peak(*session_->device, type));
  }

  // Operations of one row through the layers, by type of weight.
  std::map<DType, double> layer_ops() const {
    std::map<DType, double> ops;
    const auto add = [&](std::initializer_list<const Weight*> weights, double times) {
      for (const Weight* w : weights) {
        if (w->rows > 0) ops[w->type] += 2 * times * static_cast<double>(w->rows) * static_cast<double>(w->cols);
      }
    };
    const ModelConfig& config = session_->model->config();
    for (int i = 0; i < config.n_layers(); ++i) {
      const LayerWeights& l = session_->model->layer(i);
      add({&l.q, &l.k, &l.v, &l.o, &l.router, &l.ffn.gate, &l.ffn.up, &l.ffn.down}, 1);
      if (l.experts.empty()) continue;
      const FeedForwardWeights& expert = l.experts.front();
      add({&expert.gate, &expert.up, &expert.down}, config.experts_used);
    }
    return ops;
  }
  // Seconds that products of so many rows take at least; 0 if that is unknown.
  double product_seconds(double layer_rows, double head_rows) const {
    double seconds = 0;
    const auto add = [&](DType type, double ops) {
      const auto peak = roofs_.ops_per_s.find(type);
      if (peak == roofs_.ops_per_s.end() || peak->second <= 0) return false;
      seconds += ops / peak->second;
      return true;
    };
    for (const auto& [type, ops] : layer_ops()) {
      if (!add(type, ops * layer_rows)) return 0;
    }
    return add(session_->model->output().type, 2 * session_->model->macs_output() * head_rows) ? seconds : 0;
  }
  double layer_ops_per_s() const {
    double ops = 0;
    for (const auto& [type, n] : layer_ops()) ops += n;
    return rate(ops, product_seconds(1, 0));
  }

  // Tokens from a fixed stream; what they are does not matter to the time.
  std::vector<TokenId> some_tokens(int n) {
    std::vector<TokenId> tokens(static_cast<size_t>(n));
    const auto vocab = static_cast<uint32_t>(session_->model->config().vocab_size);
    for (TokenId& t : tokens) {
      state_ = state_ * 6364136223846793005ULL + 1442695040888963407ULL;
      t = static_cast<TokenId>((state_ >> 33) % vocab);
    }
    return tokens;
  }

  // Runs tokens through a sequence, chunk by chunk.
  Status feed(SequenceId sequence, std::span<const TokenId> tokens, int chunk, bool want_logits) {
    while (!tokens.empty()) {
      const size_t n = std::min(tokens.size(), static_cast<size_t>(chunk));
      Slice slice{.sequence = sequence, .tokens = tokens.subspan(0, n)};
      if (want_logits && options_.all_logits) {
        for (size_t i = 0; i < n; ++i) slice.logits.push_back(static_cast<int32_t>(i));
      } else if (want_logits && n == tokens.size()) {
        slice.logits = {static_cast<int32_t>(n - 1)};
      }
      DECANT_TRY_STATUS(session_->engine->step({&slice, 1}, &output_));
      tokens = tokens.subspan(n);
    }
    return {};
  }

  // Runs `pass` once to warm up and then as often as asked; it returns the seconds that count.
  Result<Measured> repeat(Work work, const std::function<Result<double>()>& pass) {
    const InterruptFlag interrupt;
    Progress progress;
    Measured measured{.work = std::move(work), .seconds = {}};
    for (int i = -1; i < options_.repeat; ++i) {
      progress.show(fmt::format("{}: {} of {}", measured.work.name, std::max(i, 0), options_.repeat));
      DECANT_TRY(const double seconds, pass());
      if (interrupt.raised()) return Status::make(Code::kCancelled, "");
      if (i >= 0) measured.seconds.push_back(seconds);
    }
    std::sort(measured.seconds.begin(), measured.seconds.end());
    if (session_) measure_roofs();  // neighbours of a shared machine come and go; the best of all moments is the roof
    return measured;
  }

  // Bytes of keys and values that rows at ordinals [first, last) read, at least.
  double cache_bytes(double first, double last) const {
    const KvCache& cache = session_->engine->cache();
    double bytes = 0;
    for (int l = 0; l < session_->model->config().n_layers(); ++l) {
      const KvLayout& layout = cache.layout(l);
      const int window = session_->model->config().layers[static_cast<size_t>(l)].window;
      const double seen = window > 0 ? std::min<double>(window, (first + last) / 2) : (first + last) / 2;
      bytes += static_cast<double>(layout.page_bytes()) / 64 * seen;
    }
    return bytes;
  }

  Result<Measured> measure_rows(const char* kind, int n) {
    const Model& model = *session_->model;
    const bool is_prefill = kind == std::string_view("prefill");
    const int chunk = is_prefill ? chunk_ : n;
    const double steps = std::ceil(static_cast<double>(n) / chunk);
    const double rows_with_logits = options_.all_logits ? n : 1;
    Work work;
    work.name = fmt::format("{} {}", kind, n);
    if (options_.all_logits) work.name += " (all logits)";
    work.tokens = n;
    work.tokens_per_step = std::min(n, chunk);
    work.bytes =
        static_cast<double>(model.bytes_per_token()) * steps + cache_bytes(options_.depth, options_.depth) * steps;
    work.layer_rows = n;
    work.head_rows = rows_with_logits;
    DECANT_TRY(const SequenceId sequence, prepared(options_.depth));
    Result<Measured> measured = repeat(std::move(work), [&]() -> Result<double> {
      const std::vector<TokenId> tokens = some_tokens(n);
      const auto begin = Clock::now();
      DECANT_TRY_STATUS(feed(sequence, tokens, chunk, true));
      const double seconds = seconds_since(begin);
      DECANT_TRY_STATUS(session_->engine->cache().truncate(sequence, options_.depth));
      return seconds;
    });
    DECANT_TRY_STATUS(session_->engine->cache().remove(sequence));
    return measured;
  }

  // A sequence of `depth` tokens.
  Result<SequenceId> prepared(int depth) {
    const SequenceId sequence = session_->engine->cache().create_sequence();
    const std::vector<TokenId> tokens = some_tokens(depth);
    DECANT_TRY_STATUS(feed(sequence, tokens, chunk_, false));
    return sequence;
  }

  Result<Measured> measure_decode(int n, int batch) {
    const Model& model = *session_->model;
    const int depth = std::max(options_.depth, 1);
    Work work;
    work.name = batch == 1 ? fmt::format("decode {}", n) : fmt::format("decode {} x {} sequences", n, batch);
    work.tokens = static_cast<double>(n) * batch;
    work.tokens_per_step = batch;
    work.bytes = n * (static_cast<double>(model.bytes_per_token()) + batch * cache_bytes(depth, depth + n));
    work.layer_rows = work.head_rows = work.tokens;
    std::vector<SequenceId> sequences;
    for (int i = 0; i < batch; ++i) {
      DECANT_TRY(const SequenceId sequence, prepared(depth));
      sequences.push_back(sequence);
    }
    Result<Measured> measured = repeat(std::move(work), [&]() -> Result<double> {
      const std::vector<TokenId> tokens = some_tokens(n * batch);
      std::vector<Slice> slices(sequences.size());
      const auto begin = Clock::now();
      for (size_t step = 0; step < static_cast<size_t>(n); ++step) {
        for (size_t i = 0; i < sequences.size(); ++i) {
          slices[i].sequence = sequences[i];
          slices[i].tokens = {&tokens[step * sequences.size() + i], 1};
          slices[i].logits = {0};
        }
        DECANT_TRY_STATUS(session_->engine->step(slices, &output_));
      }
      const double seconds = seconds_since(begin);
      for (const SequenceId s : sequences) DECANT_TRY_STATUS(session_->engine->cache().truncate(s, depth));
      return seconds;
    });
    for (const SequenceId s : sequences) DECANT_TRY_STATUS(session_->engine->cache().remove(s));
    return measured;
  }

  // One layer's attention of sequences that share a prefix, and what it takes at least.
  Result<std::vector<Measured>> compare_shared_prefix(int prefix, int rows) {
    DECANT_TRY(SharedPrefixResult r, measure_shared_prefix(*session_->engine, rows, prefix, options_.repeat));
    std::vector<Measured> list;
    const double together = r.ways.back().median();
    const double floor = r.peak > 0 ? r.operations / r.peak : 0;
    for (WayResult& way : r.ways) {
      Measured m;
      m.work.name = fmt::format("{} x {}, {}", rows, prefix, way.name);
      m.work.tokens = rows;
      m.work.tokens_per_step = rows;
      m.numbers = {{"times_together", rate(way.median(), together)}};
      m.note = fmt::format("{:.2f} x together", rate(way.median(), together));
      if (floor > 0) {
        m.note += fmt::format(", {:.2f} x the floor of {:.2f} ms ({:.2f} GFLOP at {:.0f} GFLOP/s)",
                              way.median() / floor, floor * 1e3, r.operations / 1e9, r.peak / 1e9);
        m.numbers["floor_s"] = floor;
        m.numbers["operations"] = r.operations;
        m.numbers["float_ops_per_s"] = r.peak;
      }
      m.seconds = std::move(way.seconds);
      list.push_back(std::move(m));
    }
    return list;
  }

  // Prompts of skewed lengths, as rectangles and packed.
  Result<std::vector<Measured>> compare_prepacking(int prompts) {
    const std::vector<int> lengths = skewed_lengths(prompts);
    DECANT_TRY(PrepackResult r, measure_prepacking(*session_->engine, lengths, options_.repeat));
    std::vector<Measured> list;
    const double packed = r.ways.back().median();
    for (WayResult& way : r.ways) {
      Measured m;
      m.work.name = fmt::format("{} prompts, {}", prompts, way.name);
      m.work.tokens = r.tokens;
      m.note = fmt::format("{:.2f} x packed, {:.0f} tokens computed, {:.1f} % padding", rate(way.median(), packed),
                           way.computed, (1 - r.tokens / way.computed) * 100);
      m.numbers = {{"times_packed", rate(way.median(), packed)},
                   {"tokens_computed", way.computed},
                   {"pad_fraction", 1 - r.tokens / way.computed}};
      m.seconds = std::move(way.seconds);
      list.push_back(std::move(m));
    }
    return list;
  }

  // From the start of a new process until the first byte of its answer, file cache warm.
  Result<Measured> measure_startup() {
    DECANT_TRY(const std::string path, resolve_model(options_.model.model));
    ChildCommand command{.arguments = {"/proc/self/exe", "run", "-m", path, "--raw", "-p", "The quick brown fox", "-n",
                                       "1", "--temp", "0", "--ignore-eos"},
                         .environment = {},
                         .merge_stderr = false};
    if (options_.model.threads > 0) {
      command.arguments.insert(command.arguments.end(), {"-t", std::to_string(options_.model.threads)});
    }
    if (!options_.model.kernels.empty()) {
      command.arguments.insert(command.arguments.end(), {"--kernels", options_.model.kernels});
    }
    if (options_.model.device != "cpu") {
      command.arguments.insert(command.arguments.end(), {"--device", options_.model.device});
    }
    command.arguments.insert(command.arguments.end(),
                             {"-c", std::to_string(options_.model.context > 0 ? options_.model.context : 512)});
    int64_t peak = 0;
    Work work;
    work.name = "start-up";
    work.tokens = 1;
    DECANT_TRY(Measured measured, repeat(std::move(work), [&]() -> Result<double> {
                 double seconds = 0;
                 const auto begin = Clock::now();
                 DECANT_TRY(const ChildResult child, run_child(
                                                         command,
                                                         [&](std::string_view) {
                                                           if (seconds == 0) seconds = seconds_since(begin);
                                                           return true;
                                                         },
                                                         [] { return true; }));
                 if (child.exit_code != 0) {
                   return Status::internal("start-up: `decant run -m {}` failed with exit code {}; run it to see why",
                                           path, child.exit_code);
                 }
                 peak = std::max(peak, child.peak_memory);
                 return seconds > 0 ? seconds : seconds_since(begin);
               }));
    measured.peak_memory = peak;
    return measured;
  }

  std::string header() const {
    std::string text;
    if (session_) {
      text += fmt::format("{} on {}: {} with {}, {} {}\n", session_->path, processor_name(), session_->device->kind(),
                          session_->device->table().name, session_->device->threads(),
                          session_->device->threads() == 1 ? "thread" : "threads");
      text +=
          fmt::format("weights read per step {}; reading {:.1f} GB/s",
                      size_text(static_cast<int64_t>(session_->model->bytes_per_token())), roofs_.bytes_per_s / 1e9);
      if (layer_ops_per_s() > 0) text += fmt::format(", products of the layers {:.0f} GOP/s", layer_ops_per_s() / 1e9);
      text += " (measured now and after each work, the best counts)\n";
    }
    return text + fmt::format("{:<28} {:>10} {:>18} {:>10} {:>9} {:>9}\n", "work", "tokens/s", "least - greatest", "ms",
                              "bandwidth", "peak");
  }

  double share_of_bandwidth(const Measured& m) const {
    return rate(m.work.bytes, m.median()) / std::max(roofs_.bytes_per_s, 1.0);
  }
  // 0 if unknown.
  double share_of_peak(const Measured& m) const {
    return product_seconds(m.work.layer_rows, m.work.head_rows) / std::max(m.median(), 1e-9);
  }

  std::string line(const Measured& m) const {
    const auto percent = [](double share) { return share > 0 ? fmt::format("{:.0f} %", share * 100) : "-"; };
    const bool known = m.work.bytes > 0;
    std::string text = fmt::format(
        "{:<28} {:>10.1f} {:>18} {:>10.2f} {:>9} {:>9}", m.work.name, rate(m.work.tokens, m.median()),
        fmt::format("{:.1f} - {:.1f}", rate(m.work.tokens, m.seconds.back()), rate(m.work.tokens, m.seconds.front())),
        m.median() * 1e3, percent(known && roofs_.bytes_per_s > 0 ? share_of_bandwidth(m) : 0),
        percent(known ? share_of_peak(m) : 0));
    if (m.peak_memory > 0) text += fmt::format("  {} at most", size_text(m.peak_memory));
    if (!m.note.empty()) text += "  " + m.note;
    return text + "\n";
  }

  Json to_json() const {
    Json json;
    json["model"] = options_.model.model;
    json["processor"] = processor_name();
    if (session_) {
      json["path"] = session_->path;
      json["device"] = session_->device->kind();
      json["kernels"] = session_->device->table().name;
      json["threads"] = session_->device->threads();
      json["load_s"] = session_->load_seconds;
      json["weight_bytes"] = session_->model->weight_bytes();
      json["bytes_per_step"] = session_->model->bytes_per_token();
      json["read_bytes_per_s"] = roofs_.bytes_per_s;
      json["product_ops_per_s"] = layer_ops_per_s() > 0 ? Json(layer_ops_per_s()) : Json(nullptr);
    }
    Json& list = json["results"] = Json::array();
    for (const Measured& m : results_) {
      Json entry;
      entry["work"] = m.work.name;
      entry["tokens_per_s"] = rate(m.work.tokens, m.median());
      entry["tokens_per_s_min"] = rate(m.work.tokens, m.seconds.back());
      entry["tokens_per_s_max"] = rate(m.work.tokens, m.seconds.front());
      entry["seconds"] = m.median();
      entry["tokens"] = m.work.tokens;
      if (m.work.tokens_per_step > 0) entry["tokens_per_step"] = m.work.tokens_per_step;
      entry["repeat"] = m.seconds.size();
      if (m.work.bytes > 0) {
        entry["share_of_bandwidth"] = roofs_.bytes_per_s > 0 ? Json(share_of_bandwidth(m)) : Json(nullptr);
        entry["share_of_peak"] = share_of_peak(m) > 0 ? Json(share_of_peak(m)) : Json(nullptr);
      }
      if (m.peak_memory > 0) entry["peak_memory_bytes"] = m.peak_memory;
      if (!m.numbers.is_null()) entry.update(m.numbers);
      list.push_back(std::move(entry));
    }
    return json;
  }

  const BenchOptions& options_;
  std::optional<Session> session_;
  StepOutput output_;
  Roofs roofs_;
  std::vector<Measured> results_;
  int chunk_ = 512;
  uint64_t state_ = 1;
};

}  // namespace

Status bench(const BenchOptions& options) { return Bench(options).run(); }

}  // namespace decant::cli
