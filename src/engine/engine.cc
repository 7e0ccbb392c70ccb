// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "engine/engine.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "model/overlay.h"

namespace decant {
namespace {

// LM-head rows computed at a time: enough to read the weights once for a verified draft, small enough that the buffer
// of a 262k vocabulary stays at 32 MiB.
constexpr int64_t kLogitRows = 32;

bool is_cache_type(DType type) {
  switch (type) {
    case DType::kF32:
    case DType::kF16:
    case DType::kBF16:
    case DType::kQ8_0:
    case DType::kQ5_1:
    case DType::kQ5_0:
    case DType::kQ4_1:
    case DType::kQ4_0:
    case DType::kIQ4_NL: return true;
    default: return false;
  }
}

Status check_cache_type(const Device& device, DType type, int dim, const char* which) {
  const DTypeInfo& info = dtype_info(type);
  if (!is_cache_type(type)) {
    return Status::unsupported("cache type {} for {}; supported: f32, f16, bf16, q8_0, q5_1, q5_0, q4_1, q4_0, iq4_nl",
                               info.name, which);
  }
  if (!device.supports_cache_type(type)) {
    return Status::unsupported("cache type {} for {}: the {} device does not have it; use f16", info.name, which,
                               device.kind());
  }
  if (dim % info.block != 0) {
    return Status::unsupported("cache type {} for {}: the model's head dimension {} is not a multiple of {}; use f16",
                               info.name, which, dim, info.block);
  }
  return {};
}

}  // namespace

// What products multiply: x, or rms_norm(x), then computed into h if a float weight reads it.
struct Engine::Input {
  DevPtr<const float> x;
  int64_t rows = 0, cols = 0;
  const NormWeights* norm = nullptr;
  DevPtr<float> h;
};

struct Engine::Linear {
  const Weight* w;
  DevPtr<const float> bias;
  DevPtr<float> y;
  bool accumulate = false;
  int layer = -1;  // of `projection`, which an overlay may change
  Projection projection = Projection::kNone;
  std::span<const int32_t> groups = {};  // as in MatmulArgs
};

struct Engine::Plan {
  int first = 0, last = 0;  // layers
  int64_t rows = 0;
  std::vector<int32_t> slice_begin;  // first row of each slice
  std::vector<int32_t> tokens, slots, pages, paths, positions;
  std::vector<AttnRow> attn;
  std::vector<AttnGroup> groups;
  std::vector<size_t>
      slice_order;               // slices as their rows lie in x_: those whose page tables begin alike are neighbours
  std::vector<int32_t> kept;     // rows that anyone reads after the last layer, increasing
  std::vector<int32_t> compact;  // row -> index in kept, or -1
  bool compacted = false;        // x_ holds the kept rows only
  std::vector<float> cos, sin;   // staging
  std::vector<int32_t> path;     // scratch
  std::vector<MatmulArgs> products;
  std::vector<uint64_t> wanted;         // tokens whose logits are wanted
  std::vector<int32_t> wanted_outputs;  // their groups

  struct OverlayRows {
    const Overlay* overlay;
    int64_t begin, end;  // of the rows in x_
  };
  std::vector<OverlayRows> overlays;

  // Mixture of experts: what the router says of each row, and the rows of each expert.
  std::vector<float> router;
  struct Choice {
    int32_t row;
    float weight;
  };
  std::vector<std::vector<Choice>> chosen;  // per expert
  std::vector<int32_t> order, expert_rows;
  std::vector<float> expert_weights;

  int32_t row_in_x(int32_t row) const { return compacted ? compact[static_cast<size_t>(row)] : row; }
};

Engine::Engine() : plan_(std::make_unique<Plan>()) {}
Engine::~Engine() = default;

Result<std::unique_ptr<Engine>> Engine::create(std::shared_ptr<const Model> model, const EngineOptions& options) {
  if (options.context < 1) return Status::invalid_argument("context size {}: expected at least 1", options.context);
  if (options.context > (1 << 28)) return Status::invalid_argument("context size {} is too large", options.context);
  if (options.max_rows < 1 || options.max_rows > 65535) {  // a GPU's grid
    return Status::invalid_argument("rows of a step {}: expected 1 to 65535", options.max_rows);
  }
  std::unique_ptr<Engine> engine(new Engine);
  engine->model_ = std::move(model);
  engine->options_ = options;
  std::vector<KvLayout> layouts;
  for (const LayerConfig& layer : engine->model_->config().layers) {
    DECANT_TRY_STATUS(check_cache_type(engine->device(), options.k_type, layer.k_dim, "keys (-ctk)"));
    DECANT_TRY_STATUS(check_cache_type(engine->device(), options.v_type, layer.v_dim, "values (-ctv)"));
    layouts.push_back({.k_type = options.k_type,
                       .v_type = options.v_type,
                       .n_kv_heads = layer.n_kv_heads,
                       .k_dim = layer.k_dim,
                       .v_dim = layer.v_dim});
  }
  const int pages = (options.context + kPageKeys - 1) / kPageKeys;
  Result<KvCache> cache = KvCache::create(engine->device(), std::move(layouts), pages);
  if (!cache.ok()) {
    return std::move(cache).status().with_context(
        fmt::format("the KV cache of {} tokens does not fit; lower the context size (-c)", options.context));
  }
  engine->cache_ = std::make_unique<KvCache>(std::move(cache).value());
  DECANT_TRY_STATUS(engine->allocate());
  return engine;
}

Status Engine::allocate() {
  const ModelConfig& c = model_->config();
  const auto rows = static_cast<size_t>(options_.max_rows);
  size_t q = 0, k = 0, v = 0, attn = 0, ffn = 0;
  for (const LayerConfig& l : c.layers) {
    q = std::max(q, static_cast<size_t>(l.n_heads) * static_cast<size_t>(l.k_dim));
    k = std::max(k, static_cast<size_t>(l.n_kv_heads) * static_cast<size_t>(l.k_dim));
    v = std::max(v, static_cast<size_t>(l.n_kv_heads) * static_cast<size_t>(l.v_dim));
    attn = std::max(attn, static_cast<size_t>(l.n_heads) * static_cast<size_t>(l.v_dim));
    ffn = std::max(ffn, static_cast<size_t>(l.ffn_dim));
  }
  const auto hidden = static_cast<size_t>(c.hidden);
  const size_t width = std::max(hidden, static_cast<size_t>(c.embedding_dim));
  const size_t logit_rows = std::min<size_t>(rows, kLogitRows);
  struct Request {
    DeviceBuffer* buffer;
    size_t bytes;
  };
  std::vector<Request> requests = {
      {&x_, rows * hidden * 4},
      {&h_, rows * hidden * 4},
      {&branch_, rows * width * 4},
      {&q_, rows * q * 4},
      {&k_, rows * k * 4},
      {&v_, rows * v * 4},
      {&attn_, rows * attn * 4},
      {&picked_, rows * std::max(attn, width) * 4},
      {&gate_, rows * ffn * 4},
      {&up_, rows * ffn * 4},
      {&logits_, device().uses_host_memory() ? 0 : logit_rows * static_cast<size_t>(c.vocab_size) * 4},
      {&tokens_, rows * 4},
      {&positions_, c.learned_positions ? rows * 4 : 0},
      {&router_, rows * static_cast<size_t>(c.experts) * 4},
      {&scales_, c.experts > 0 ? rows * 4 : 0},
      {&slots_, rows * 4},
      {&index_, rows * 4},
      {&attn_rows_, rows * sizeof(AttnRow)},
      {&pages_, static_cast<size_t>(cache_->pages()) * 4},
      {&paths_, rows * 4},
  };
  for (const auto& [buffers, widest] : {std::pair{&xq_, std::max(width, attn)}, {&gated_, ffn}}) {
    const size_t cols = (widest + 31) / 32 * 32;
    for (const Request& r : {Request{&buffers->q, rows * cols}, Request{&buffers->d, rows * cols / 8},
                             Request{&buffers->sum16, rows * cols / 4}, Request{&buffers->ds16, rows * cols / 4},
                             Request{&buffers->ds32, rows * cols / 8}}) {
      requests.push_back(r);
    }
  }
  cos_.resize(c.ropes.size());
  sin_.resize(c.ropes.size());
  for (size_t i = 0; i < c.ropes.size(); ++i) {
    const size_t bytes = rows * static_cast<size_t>(c.ropes[i].rot_dim / 2) * 4;
    requests.push_back({&cos_[i], bytes});
    requests.push_back({&sin_[i], bytes});
  }
  for (const Request& r : requests) {
    DECANT_TRY(*r.buffer, device().alloc(r.bytes));
    buffer_bytes_ += r.bytes;
  }
  return {};
}

// Checks what needs no other slice. `index` names the slice in messages.
Status Engine::validate(const Slice& s, size_t index, LayerRange layers) const {
  const ModelConfig& c = model_->config();
  const auto fail = [&](const std::string& what) {
    return Status::invalid_argument("step: slice {}: {}", index, what);
  };
  const auto hidden = static_cast<size_t>(c.hidden);
  if (!cache_->exists(s.sequence)) return fail(fmt::format("sequence {} does not exist", s.sequence));
  const int rows = s.rows(c.hidden);
  if (rows < 1) return fail("no rows");
  const auto n = static_cast<size_t>(rows);
  if (s.embeddings.size() % hidden != 0) {
    return fail(fmt::format("{} embedding values are not whole rows of {}", s.embeddings.size(), c.hidden));
  }
  if (layers.first > 0 && !s.tokens.empty())
    return fail("tokens enter at layer 0; give hidden states for a later layer");
  size_t embedded = 0;
  for (size_t i = 0; i < s.tokens.size(); ++i) {
    if (s.tokens[i] == -1) {
      ++embedded;
    } else if (s.tokens[i] < 0 || s.tokens[i] >= c.vocab_size) {
      return fail(fmt::format("row {}: token {} is not in the vocabulary of {}", i, s.tokens[i], c.vocab_size));
    }
  }
  if (!s.tokens.empty() && embedded * hidden != s.embeddings.size()) {
    return fail(fmt::format("{} rows without a token, {} embeddings", embedded, s.embeddings.size() / hidden));
  }
  if (!s.positions.empty() && s.positions.size() != n) {
    return fail(fmt::format("{} positions for {} rows", s.positions.size(), rows));
  }
  for (int32_t p : s.positions) {
    if (p < 0) return fail(fmt::format("position {} is negative", p));
  }
  if (s.mask == Mask::kTree) {
    if (s.parents.size() != n) return fail(fmt::format("{} parents for {} rows", s.parents.size(), rows));
  } else if (!s.parents.empty()) {
    return fail("parents need the tree mask");
  }
  if (s.mask == Mask::kPrefixLm && (s.prefix_rows < 0 || s.prefix_rows > rows)) {
    return fail(fmt::format("prefix of {} rows in a slice of {}", s.prefix_rows, rows));
  }
  if (s.key_begin < 0) return fail(fmt::format("key_begin {} is negative", s.key_begin));
  for (const Overlay* overlay : s.overlays) {
    if (&overlay->model() != model_.get()) {
      return fail(fmt::format("the overlay {} belongs to another model", overlay->name()));
    }
  }
  if (!s.logits.empty() && layers.last != c.n_layers()) return fail("logits need the last layer in the range");
  const auto check_rows = [&](const std::vector<int32_t>& wanted) {
    return std::all_of(wanted.begin(), wanted.end(), [&](int32_t r) { return r >= 0 && r < rows; });
  };
  if (!check_rows(s.logits)) return fail("a row of the logits asked for is not in the slice");
  if (!s.logit_mask.empty() && s.logit_mask.size() != (static_cast<size_t>(c.vocab_size) + 63) / 64) {
    return fail(fmt::format("a logit mask of {} words for a vocabulary of {}", s.logit_mask.size(), c.vocab_size));
  }
  for (const HiddenReadout& h : s.hidden) {
    if (!check_rows(h.rows)) return fail("a row of a hidden readout is not in the slice");
    if (h.normed ? (h.layer != c.n_layers() || layers.last != c.n_layers())
                 : (h.layer < layers.first || h.layer > layers.last)) {
      return fail(fmt::format("hidden state after layer {} is outside the layers that run, {} to {}", h.layer,
                              layers.first, layers.last));
    }
  }
  return {};
}

// Adds the rows of one slice: slots, what they see, positions. `base` rows are committed, `pending` pending, in this
// layer range; `before`: the page table of the slice planned last, or null.
void Engine::plan_rows(const Slice& s, int base, int pending, int rows, const std::span<const int32_t>* before) {
  Plan& p = *plan_;
  const auto blocks_of = [](const AttnRow& row) { return (row.n_keys + kPageKeys - 1) / kPageKeys; };
  const auto in_place = [&](const AttnRow& row) {
    return row.identity < row.n_keys ? row.identity / kPageKeys : blocks_of(row);
  };
  const auto table_begin = static_cast<int32_t>(p.pages.size());
  const std::span<const int32_t> table = cache_->page_table(s.sequence);
  p.pages.insert(p.pages.end(), table.begin(), table.end());
  const auto row_begin = static_cast<int32_t>(p.attn.size());
  int32_t max_keys = 0;
  const std::vector<int32_t>& parents = pending_parents_[static_cast<size_t>(s.sequence)];
  for (int i = 0; i < rows; ++i) {
    const int slot = base + pending + i;
    p.slots.push_back(table[static_cast<size_t>(slot / kPageKeys)] * kPageKeys + slot % kPageKeys);
    AttnRow row{.page_table = table_begin,
                .n_keys = base + i + 1,
                .key_begin = s.key_begin,
                .ordinal = base + i,
                .identity = 0,
                .path = 0};
    if (s.mask == Mask::kTree) {
      p.path.clear();
      for (int32_t node = pending + i; node >= 0; node = parents[static_cast<size_t>(node)]) p.path.push_back(node);
      std::reverse(p.path.begin(), p.path.end());
      // The leading part of the path that lies in slot order needs no table.
      size_t in_order = 0;
      while (in_order < p.path.size() && p.path[in_order] == static_cast<int32_t>(in_order)) ++in_order;
      row.identity = base + static_cast<int32_t>(in_order);
      row.n_keys = base + static_cast<int32_t>(p.path.size());
      row.ordinal = row.n_keys - 1;
      row.path = static_cast<int32_t>(p.paths.size());
      for (size_t j = in_order; j < p.path.size(); ++j) p.paths.push_back(base + p.path[j]);
    } else {
      if (s.mask == Mask::kBidirectional) row.n_keys = base + rows;
      if (s.mask == Mask::kPrefixLm && i < s.prefix_rows) row.n_keys = base + s.prefix_rows;
      row.identity = row.n_keys;
    }
    const int32_t blocks = blocks_of(row);
    if (i > 0) {
      row.shared = std::min(blocks_of(p.attn.back()), blocks);
    } else if (before != nullptr) {
      // Whose keys lie elsewhere from some block on (a token tree) shares what stands before it.
      const auto common = static_cast<int32_t>(
          std::mismatch(table.begin(), table.end(), before->begin(), before->end()).first - table.begin());
      const AttnRow& last = p.attn.back();
      row.shared = std::min({common, in_place(last), in_place(row)});
    }
    max_keys = std::max(max_keys, row.n_keys);
    p.attn.push_back(row);
    p.positions.push_back(s.positions.empty() ? row.ordinal : s.positions[static_cast<size_t>(i)]);
    p.tokens.push_back(s.tokens.empty() ? -1 : s.tokens[static_cast<size_t>(i)]);
  }
  if (before != nullptr && p.attn[static_cast<size_t>(row_begin)].shared > 0) {
    p.groups.back().row_end = row_begin + rows;
    p.groups.back().max_keys = std::max(p.groups.back().max_keys, max_keys);
  } else {
    p.groups.push_back({.row_begin = row_begin, .row_end = row_begin + rows, .max_keys = max_keys});
  }
}

Status Engine::make_plan(std::span<const Slice> slices, LayerRange layers) {
  const ModelConfig& c = model_->config();
  Plan& p = *plan_;
  if (layers.first < 0 || layers.last > c.n_layers() || layers.first >= layers.last) {
    return Status::invalid_argument("step: layers {} to {} are not a range of the model's {}", layers.first,
                                    layers.last, c.n_layers());
  }
  p.first = layers.first;
  p.last = layers.last;
  p.rows = 0;
  for (auto* v : {&p.slice_begin, &p.tokens, &p.slots, &p.pages, &p.paths, &p.positions, &p.kept}) v->clear();
  p.attn.clear();
  p.groups.clear();
  p.overlays.clear();
  p.compacted = false;

  int64_t total = 0;
  for (size_t i = 0; i < slices.size(); ++i) {
    DECANT_TRY_STATUS(validate(slices[i], i, layers));
    for (size_t j = 0; j < i; ++j) {
      if (slices[j].sequence == slices[i].sequence) {
        return Status::invalid_argument("step: slices {} and {} are both of sequence {}", j, i, slices[i].sequence);
      }
    }
    total += slices[i].rows(c.hidden);
  }
  if (total < 1) return Status::invalid_argument("step: no rows");
  if (total > options_.max_rows) {
    return Status::invalid_argument("step: {} rows; this engine takes {} at most", total, options_.max_rows);
  }

  // Everything that can fail comes before the first change that is visible outside.
  for (size_t i = 0; i < slices.size(); ++i) {
    const Slice& s = slices[i];
    const int base = cache_->length(s.sequence, layers.first);
    const int pending = cache_->pending(s.sequence, layers.first);
    for (int l = layers.first + 1; l < layers.last; ++l) {
      if (cache_->length(s.sequence, l) != base || cache_->pending(s.sequence, l) != pending) {
        return Status::invalid_argument(
            "step: slice {}: layers {} and {} of sequence {} hold {} and {} rows; fill them first", i, layers.first, l,
            s.sequence, base, cache_->length(s.sequence, l));
      }
    }
    if (s.mask != Mask::kTree && pending > 0) {
      return Status::invalid_argument("step: slice {}: sequence {} has {} pending tree rows; commit or drop them first",
                                      i, s.sequence, pending);
    }
    for (size_t r = 0; r < s.parents.size(); ++r) {
      if (s.parents[r] < -1 || s.parents[r] >= pending + static_cast<int>(r)) {
        return Status::invalid_argument(
            "step: slice {}: row {}: parent {} does not come before it (row {} of the tree)", i, r, s.parents[r],
            pending + static_cast<int>(r));
      }
    }
  }
  for (size_t i = 0; i < slices.size(); ++i) {
    const Slice& s = slices[i];
    const int base = cache_->length(s.sequence, layers.first);
    const int rows = cache_->pending(s.sequence, layers.first) + s.rows(c.hidden);
    if (Status status = cache_->reserve(s.sequence, base, base + rows); !status.ok()) {
      for (size_t j = 0; j < i; ++j) cache_->shrink(slices[j].sequence);
      return status;
    }
  }

  // Sequences that were forked from one another share pages. In the order of their page tables, those that share any
  // stand together, and each shares with the one before what it shares with anyone before: the forest of prefixes.
  p.slice_order.resize(slices.size());
  std::iota(p.slice_order.begin(), p.slice_order.end(), size_t{0});
  const auto table_of = [&](size_t i) { return cache_->page_table(slices[i].sequence); };
  std::sort(p.slice_order.begin(), p.slice_order.end(), [&](size_t a, size_t b) {
    const std::span<const int32_t> x = table_of(a), y = table_of(b);
    const auto [at, other] = std::mismatch(x.begin(), x.end(), y.begin(), y.end());
    if (at == x.end() && other == y.end()) return a < b;
    return at == x.end() || (other != y.end() && *at < *other);
  });
  p.slice_begin.resize(slices.size());
  std::span<const int32_t> before;
  for (const size_t i : p.slice_order) {
    const Slice& s = slices[i];
    const int base = cache_->length(s.sequence, layers.first);
    const int pending = cache_->pending(s.sequence, layers.first);
    const int rows = s.rows(c.hidden);
    if (pending_parents_.size() <= static_cast<size_t>(s.sequence)) {
      pending_parents_.resize(static_cast<size_t>(s.sequence) + 1);
    }
    std::vector<int32_t>& parents = pending_parents_[static_cast<size_t>(s.sequence)];
    parents.resize(static_cast<size_t>(pending));
    parents.insert(parents.end(), s.parents.begin(), s.parents.end());
    p.slice_begin[i] = static_cast<int32_t>(p.rows);
    plan_rows(s, base, pending, rows, p.rows > 0 ? &before : nullptr);
    before = table_of(i);
    for (const Overlay* overlay : s.overlays) p.overlays.push_back({overlay, p.rows, p.rows + rows});
    p.rows += rows;
  }
  if (c.learned_positions) {
    const int32_t last = *std::max_element(p.positions.begin(), p.positions.end());
    if (last >= model_->position().rows) {
      for (const Slice& s : slices) cache_->shrink(s.sequence);
      return Status::exhausted("step: position {}; the model has learned {} positions", last, model_->position().rows);
    }
  }

  p.compact.assign(static_cast<size_t>(p.rows), -1);
  for (size_t i = 0; i < slices.size(); ++i) {
    const auto keep = [&](int32_t row) { p.compact[static_cast<size_t>(p.slice_begin[i] + row)] = 0; };
    for (int32_t row : slices[i].logits) keep(row);
    for (const HiddenReadout& h : slices[i].hidden) {
      if (h.layer == layers.last) std::for_each(h.rows.begin(), h.rows.end(), keep);
    }
  }
  for (size_t row = 0; row < p.compact.size(); ++row) {
    if (p.compact[row] < 0) continue;
    p.compact[row] = static_cast<int32_t>(p.kept.size());
    p.kept.push_back(static_cast<int32_t>(row));
  }
  return {};
}

Status Engine::upload(std::span<const Slice> slices) {
  const ModelConfig& c = model_->config();
  Plan& p = *plan_;
  Device& d = device();
  const auto send = [&](DeviceBuffer& buffer, const auto& values) -> Status {
    using T = typename std::decay_t<decltype(values)>::value_type;
    const size_t bytes = values.size() * sizeof(T);
    if (buffer.size() < bytes) {
      DECANT_TRY(buffer, d.alloc(bytes * 2));
    }
    d.copy_in(buffer.ptr<T>(), std::span<const T>(values));
    return {};
  };
  DECANT_TRY_STATUS(send(slots_, p.slots));
  DECANT_TRY_STATUS(send(attn_rows_, p.attn));
  DECANT_TRY_STATUS(send(pages_, p.pages));
  DECANT_TRY_STATUS(send(paths_, p.paths));
  for (size_t i = 0; i < c.ropes.size(); ++i) {
    const RopeTable& rope = model_->rope(static_cast<int>(i), options_.context);
    p.cos.clear();
    p.sin.clear();
    for (int32_t position : p.positions) {
      for (double frequency : rope.inv_freq) {
        p.cos.push_back(static_cast<float>(rope.magnitude * std::cos(position * frequency)));
        p.sin.push_back(static_cast<float>(rope.magnitude * std::sin(position * frequency)));
      }
    }
    DECANT_TRY_STATUS(send(cos_[i], p.cos));
    DECANT_TRY_STATUS(send(sin_[i], p.sin));
  }
  if (p.first == 0) {
    DECANT_TRY_STATUS(send(tokens_, p.tokens));
    if (c.learned_positions) DECANT_TRY_STATUS(send(positions_, p.positions));
    DECANT_TRY_STATUS(embed_rows());
  }
  const auto hidden = static_cast<size_t>(c.hidden);
  for (size_t i = 0; i < slices.size(); ++i) {
    const Slice& s = slices[i];
    size_t next = 0;
    for (int row = 0; row < s.rows(c.hidden); ++row) {
      if (!s.tokens.empty() && s.tokens[static_cast<size_t>(row)] != -1) continue;
      d.copy_in(x_.ptr<float>() + static_cast<ptrdiff_t>(static_cast<size_t>(p.slice_begin[i] + row) * hidden),
                s.embeddings.subspan(next++ * hidden, hidden));
    }
  }
  return {};
}

QuantizedRows Engine::QuantizedBuffers::view() const {
  return {.q = q.ptr<int8_t>(),
          .d = d.ptr<float>(),
          .sum16 = sum16.ptr<int32_t>(),
          .ds16 = ds16.ptr<float>(),
          .ds32 = ds32.ptr<float>()};
}

// Tokens and positions to x_.
Status Engine::embed_rows() {
  const ModelConfig& c = model_->config();
  const int64_t rows = plan_->rows;
  Device& d = device();
  const KernelTable& t = d.table();
  const DevPtr<const int32_t> tokens = tokens_.ptr<int32_t>();
  if (c.embedding_dim > 0) {
    t.embed(d.queue(), model_->embedding(), tokens, rows, c.embedding_scale, branch_.ptr<float>());
    const Linear in[] = {{&model_->project_in(), {}, x_.ptr<float>()}};
    DECANT_TRY_STATUS(linear({.x = branch_.ptr<float>(), .rows = rows, .cols = c.embedding_dim}, in));
  } else {
    t.embed(d.queue(), model_->embedding(), tokens, rows, c.embedding_scale, x_.ptr<float>());
  }
  if (c.learned_positions) {
    t.embed(d.queue(), model_->position(), positions_.ptr<int32_t>(), rows, 1.0f, branch_.ptr<float>());
    t.add(d.queue(), branch_.ptr<float>(), rows * c.hidden, x_.ptr<float>());
  }
  return {};
}

void Engine::norm(DevPtr<const float> x, const NormWeights& w, int64_t rows, int64_t dim, DevPtr<float> y) {
  const ModelConfig& c = model_->config();
  Device& d = device();
  if (c.norm == NormKind::kRms) {
    d.table().rms_norm(d.queue(), x, w.weight, c.norm_eps, rows, dim, y);
  } else {
    d.table().layer_norm(
        d.queue(), {.x = x, .weight = w.weight, .bias = w.bias, .eps = c.norm_eps, .rows = rows, .dim = dim, .y = y});
  }
}

bool Engine::has_deltas(int layer, Projection projection) const {
  const auto& overlays = plan_->overlays;
  return std::any_of(overlays.begin(), overlays.end(),
                     [&](const Plan::OverlayRows& r) { return r.overlay->find(layer, projection) != nullptr; });
}

// The arguments of the products of one input, once it is normed and quantized as they need.
std::vector<MatmulArgs>& Engine::prepare(const Input& input, std::span<const Linear> outputs) {
  const ModelConfig& c = model_->config();
  Device& d = device();
  const auto reads_floats = [&](const Linear& l) {
    return !l.w->layout.quantized || has_deltas(l.layer, l.projection);
  };
  const bool any_float = std::any_of(outputs.begin(), outputs.end(), reads_floats);
  const bool any_quantized =
      std::any_of(outputs.begin(), outputs.end(), [](const Linear& l) { return l.w->layout.quantized; });
  const bool fused = input.norm != nullptr && c.norm == NormKind::kRms && any_quantized;
  const bool normed = input.norm != nullptr && !fused;
  if (normed) norm(input.x, *input.norm, input.rows, input.cols, input.h);
  if (any_quantized) {
    d.table().quantize(d.queue(), {.x = normed ? DevPtr<const float>(input.h) : input.x,
                                   .rows = input.rows,
                                   .cols = input.cols,
                                   .norm = fused ? input.norm->weight : DevPtr<const float>(),
                                   .eps = c.norm_eps,
                                   .h = fused && any_float ? input.h : DevPtr<float>(),
                                   .out = xq_.view()});
  }
  std::vector<MatmulArgs>& products = plan_->products;
  products.clear();
  for (const Linear& l : outputs) {
    products.push_back({.w = *l.w,
                        .x = input.norm != nullptr ? DevPtr<const float>(input.h) : input.x,
                        .xq = xq_.view(),
                        .rows = input.rows,
                        .y = l.y,
                        .ldy = l.w->rows,
                        .bias = l.bias,
                        .accumulate = l.accumulate,
                        .groups = l.groups});
  }
  return products;
}

Status Engine::linear(const Input& input, std::span<const Linear> outputs) {
  const std::vector<MatmulArgs>& products = prepare(input, outputs);
  device().table().matmul(device().queue(), products);
  for (size_t i = 0; i < outputs.size(); ++i) {
    DECANT_TRY_STATUS(add_deltas(products[i], outputs[i].layer, outputs[i].projection));
  }
  return {};
}

// Adds B (A x) to the rows of a product whose overlays change it; `product.x` holds them.
Status Engine::add_deltas(const MatmulArgs& product, int layer, Projection projection) {
  Device& d = device();
  for (const Plan::OverlayRows& r : plan_->overlays) {
    const LowRank* delta = r.overlay->find(layer, projection);
    if (delta == nullptr || r.begin == r.end) continue;
    const int64_t rows = r.end - r.begin, rank = delta->a.rows;
    const size_t bytes = static_cast<size_t>(rows * rank) * sizeof(float);
    if (low_rank_.size() < bytes) {
      DECANT_TRY(low_rank_, d.alloc(std::max(bytes, static_cast<size_t>(options_.max_rows * rank) * sizeof(float))));
    }
    const MatmulArgs down{.w = delta->a,
                          .x = product.x + r.begin * product.w.cols,
                          .xq = {},
                          .rows = rows,
                          .y = low_rank_.ptr<float>(),
                          .ldy = rank,
                          .bias = {}};
    d.table().matmul(d.queue(), {&down, 1});
    const MatmulArgs up{.w = delta->b,
                        .x = low_rank_.ptr<float>(),
                        .xq = {},
                        .rows = rows,
                        .y = product.y + r.begin * product.ldy,
                        .ldy = product.ldy,
                        .bias = {},
                        .accumulate = true};
    d.table().matmul(d.queue(), {&up, 1});
  }
  return {};
}

// How a branch joins the residual when its product did not: x += norm(branch), or, with the branch already added to x,
// x = norm(x).
void Engine::join(const NormWeights& post, int64_t rows) {
  const ModelConfig& c = model_->config();
  Device& d = device();
  if (c.norm_place == NormPlace::kPost) return norm(x_.ptr<float>(), post, rows, c.hidden, x_.ptr<float>());
  if (c.norm_place != NormPlace::kPrePost) return;
  norm(branch_.ptr<float>(), post, rows, c.hidden, branch_.ptr<float>());
  d.table().add(d.queue(), branch_.ptr<float>(), rows * c.hidden, x_.ptr<float>());
}

Status Engine::attention_block(int layer, bool is_last) {
  const ModelConfig& c = model_->config();
  const LayerConfig& l = c.layers[static_cast<size_t>(layer)];
  const LayerWeights& w = model_->layer(layer);
  Plan& p = *plan_;
  Device& d = device();
  const KernelTable& t = d.table();
  Queue& queue = d.queue();

  const Linear qkv[] = {{&w.q, w.q_bias, q_.ptr<float>(), false, layer, Projection::kQ},
                        {&w.k, w.k_bias, k_.ptr<float>(), false, layer, Projection::kK},
                        {&w.v, w.v_bias, v_.ptr<float>(), false, layer, Projection::kV}};
  DECANT_TRY_STATUS(linear({.x = x_.ptr<float>(),
                            .rows = p.rows,
                            .cols = c.hidden,
                            .norm = c.norm_place == NormPlace::kPost ? nullptr : &w.attn_norm,
                            .h = h_.ptr<float>()},
                           qkv));
  if (c.qk_norm) {
    norm(q_.ptr<float>(), w.q_norm, p.rows * l.n_heads, l.k_dim, q_.ptr<float>());
    norm(k_.ptr<float>(), w.k_norm, p.rows * l.n_kv_heads, l.k_dim, k_.ptr<float>());
  }
  if (!c.learned_positions) {
    const RopeConfig& rope = c.ropes[static_cast<size_t>(l.rope)];
    RopeArgs rope_args{.x = q_.ptr<float>(),
                       .rows = p.rows,
                       .heads = l.n_heads,
                       .head_dim = l.k_dim,
                       .rot_dim = rope.rot_dim,
                       .interleaved = rope.interleaved,
                       .cos = cos_[static_cast<size_t>(l.rope)].ptr<float>(),
                       .sin = sin_[static_cast<size_t>(l.rope)].ptr<float>()};
    t.rope(queue, rope_args);
    rope_args.x = k_.ptr<float>();
    rope_args.heads = l.n_kv_heads;
    t.rope(queue, rope_args);
  }
  t.kv_write(queue, {.layout = cache_->layout(layer),
                     .pool = cache_->pool(layer),
                     .slots = slots_.ptr<int32_t>(),
                     .k = k_.ptr<float>(),
                     .v = v_.ptr<float>(),
                     .rows = p.rows});
  if (is_last && p.kept.empty()) return {};

  t.attention(queue, {.layout = cache_->layout(layer),
                      .pool = cache_->pool(layer),
                      .q = q_.ptr<float>(),
                      .out = attn_.ptr<float>(),
                      .heads = l.n_heads,
                      .scale = c.attention_scale,
                      .soft_cap = c.attention_soft_cap,
                      .window = l.window,
                      .rows = attn_rows_.ptr<AttnRow>(),
                      .pages = pages_.ptr<int32_t>(),
                      .paths = paths_.ptr<int32_t>(),
                      .groups = p.groups});

  DevPtr<const float> attended = attn_.ptr<float>();
  const int64_t width = int64_t{l.n_heads} * l.v_dim;
  if (is_last && static_cast<int64_t>(p.kept.size()) < p.rows) {
    // From here on only the rows that somebody reads.
    d.copy_in(index_.ptr<int32_t>(), std::span<const int32_t>(p.kept));
    const auto kept = static_cast<int64_t>(p.kept.size());
    t.gather_rows(queue, attn_.ptr<float>(), index_.ptr<int32_t>(), kept, width, picked_.ptr<float>());
    t.gather_rows(queue, x_.ptr<float>(), index_.ptr<int32_t>(), kept, c.hidden, h_.ptr<float>());
    std::swap(x_, h_);
    attended = picked_.ptr<float>();
    p.compacted = true;
    p.rows = kept;
    const auto kept_before = [&](int64_t row) {
      return std::lower_bound(p.kept.begin(), p.kept.end(), static_cast<int32_t>(row)) - p.kept.begin();
    };
    for (Plan::OverlayRows& r : p.overlays) r = {r.overlay, kept_before(r.begin), kept_before(r.end)};
  }
  // A branch waits outside the residual if it has a norm of its own, or if the feed-forward layer reads x as it was.
  const bool waits = c.norm_place == NormPlace::kPrePost || c.parallel_residual;
  const Linear out[] = {{&w.o, w.o_bias, (waits ? branch_ : x_).ptr<float>(), !waits, layer, Projection::kO}};
  DECANT_TRY_STATUS(linear({.x = attended, .rows = p.rows, .cols = width}, out));
  join(c.norm_place == NormPlace::kPost ? w.attn_norm : w.post_attn_norm, p.rows);
  return {};
}

Status Engine::ffn_block(int layer) {
  const ModelConfig& c = model_->config();
  const LayerWeights& w = model_->layer(layer);
  const int64_t rows = plan_->rows;
  if (!w.experts.empty()) {
    DECANT_TRY_STATUS(experts_block(layer));
  } else {
    const bool waits = c.norm_place == NormPlace::kPrePost;
    DECANT_TRY_STATUS(feed_forward(layer,
                                   {.x = x_.ptr<float>(),
                                    .rows = rows,
                                    .cols = c.hidden,
                                    .norm = c.norm_place == NormPlace::kPost ? nullptr : &w.ffn_norm,
                                    .h = h_.ptr<float>()},
                                   w.ffn, (waits ? branch_ : x_).ptr<float>(), !waits));
  }
  if (c.parallel_residual) {
    device().table().add(device().queue(), branch_.ptr<float>(), rows * c.hidden, x_.ptr<float>());
  } else {
    join(c.norm_place == NormPlace::kPost ? w.ffn_norm : w.post_ffn_norm, rows);
  }
  return {};
}

Status Engine::feed_forward(int layer, const Input& input, const FeedForwardWeights& w, DevPtr<float> y,
                            bool accumulate) {
  const ModelConfig& c = model_->config();
  Device& d = device();
  const KernelTable& t = d.table();
  const int64_t ffn = w.up.rows;
  const bool quantized = w.down.layout.quantized;
  const bool changed = has_deltas(layer, Projection::kGate) || has_deltas(layer, Projection::kUp) ||
                       has_deltas(layer, Projection::kDown);
  const DevPtr<float> hidden = (c.gated ? gate_ : up_).ptr<float>();
  const Linear in[] = {{&w.gate, w.gate_bias, gate_.ptr<float>(), false, layer, Projection::kGate},
                       {&w.up, w.up_bias, up_.ptr<float>(), false, layer, Projection::kUp}};
  if (c.gated && !changed) {
    const std::vector<MatmulArgs>& products = prepare(input, in);
    t.matmul_gated(d.queue(), {.gate = products[0],
                               .up = products[1],
                               .activation = c.activation,
                               .h = quantized ? DevPtr<float>() : hidden,
                               .out = quantized ? gated_.view() : QuantizedRows()});
  } else {
    DECANT_TRY_STATUS(linear(input, c.gated ? std::span<const Linear>(in) : std::span<const Linear>(in).subspan(1)));
    if (c.gated) {
      t.glu(d.queue(), c.activation, gate_.ptr<float>(), up_.ptr<float>(), input.rows * ffn, hidden);
    } else {
      t.activate(d.queue(), c.activation, input.rows * ffn, hidden);
    }
    if (quantized)
      t.quantize(d.queue(), {.x = hidden, .rows = input.rows, .cols = ffn, .norm = {}, .h = {}, .out = gated_.view()});
  }
  const MatmulArgs down{.w = w.down,
                        .x = hidden,
                        .xq = gated_.view(),
                        .rows = input.rows,
                        .y = y,
                        .ldy = c.hidden,
                        .bias = w.down_bias,
                        .accumulate = accumulate};
  t.matmul(d.queue(), {&down, 1});
  return add_deltas(down, layer, Projection::kDown);
}

// x += sum of the chosen experts' outputs, in the order of their numbers, each times its probability. Routing is done
// on the host: a row's choice depends on nothing but the row.
Status Engine::experts_block(int layer) {
  const ModelConfig& c = model_->config();
  const LayerWeights& w = model_->layer(layer);
  Plan& p = *plan_;
  Device& d = device();
  const KernelTable& t = d.table();
  const auto experts = static_cast<size_t>(c.experts), rows = static_cast<size_t>(p.rows);
  norm(x_.ptr<float>(), w.ffn_norm, p.rows, c.hidden, h_.ptr<float>());
  const Linear route[] = {{&w.router, {}, router_.ptr<float>()}};
  DECANT_TRY_STATUS(linear({.x = h_.ptr<float>(), .rows = p.rows, .cols = c.hidden}, route));
  p.router.resize(rows * experts);
  d.copy_out(std::span<float>(p.router), DevPtr<const float>(router_.ptr<float>()));

  p.chosen.resize(experts);
  for (std::vector<Plan::Choice>& list : p.chosen) list.clear();
  p.order.resize(experts);
  for (size_t row = 0; row < rows; ++row) {
    const float* scores = &p.router[row * experts];
    const auto used = p.order.begin() + c.experts_used;
    std::iota(p.order.begin(), p.order.end(), 0);
    std::partial_sort(p.order.begin(), used, p.order.end(),
                      [&](int32_t a, int32_t b) { return scores[a] != scores[b] ? scores[a] > scores[b] : a < b; });
    const double best = static_cast<double>(scores[p.order[0]]);
    double sum = 0;
    for (size_t e = 0; e < (c.experts_renormalized ? static_cast<size_t>(c.experts_used) : experts); ++e) {
      sum += std::exp(static_cast<double>(scores[p.order[e]]) - best);
    }
    for (auto e = p.order.begin(); e != used; ++e) {
      const double weight = std::exp(static_cast<double>(scores[*e]) - best) / sum;
      p.chosen[static_cast<size_t>(*e)].push_back({static_cast<int32_t>(row), static_cast<float>(weight)});
    }
  }

  for (size_t e = 0; e < experts; ++e) {
    if (p.chosen[e].empty()) continue;
    p.expert_rows.clear();
    p.expert_weights.clear();
    for (const Plan::Choice& choice : p.chosen[e]) {
      p.expert_rows.push_back(choice.row);
      p.expert_weights.push_back(choice.weight);
    }
    const auto n = static_cast<int64_t>(p.expert_rows.size());
    d.copy_in(index_.ptr<int32_t>(), std::span<const int32_t>(p.expert_rows));
    d.copy_in(scales_.ptr<float>(), std::span<const float>(p.expert_weights));
    t.gather_rows(d.queue(), h_.ptr<float>(), index_.ptr<int32_t>(), n, c.hidden, picked_.ptr<float>());
    DECANT_TRY_STATUS(feed_forward(-1, {.x = picked_.ptr<float>(), .rows = n, .cols = c.hidden}, w.experts[e],
                                   branch_.ptr<float>(), false));
    t.add_rows(d.queue(), {.x = branch_.ptr<float>(),
                           .index = index_.ptr<int32_t>(),
                           .scale = scales_.ptr<float>(),
                           .n = n,
                           .dim = c.hidden,
                           .y = x_.ptr<float>()});
  }
  return {};
}

// Copies rows (indices into `source`, [*, hidden]) to the host.
Status Engine::read_rows(DevPtr<const float> source, std::span<const int32_t> rows, float* out) {
  const int64_t hidden = model_->config().hidden;
  Device& d = device();
  d.copy_in(index_.ptr<int32_t>(), rows);
  const auto n = static_cast<int64_t>(rows.size());
  d.table().gather_rows(d.queue(), source, index_.ptr<int32_t>(), n, hidden, picked_.ptr<float>());
  d.copy_out(std::span<float>(out, static_cast<size_t>(n * hidden)), DevPtr<const float>(picked_.ptr<float>()));
  return {};
}

// Copies what the slices want of the residual stream as it stands after `layer` layers.
Status Engine::read_hidden(std::span<const Slice> slices, int layer, StepOutput* output) {
  const ModelConfig& c = model_->config();
  Plan& p = *plan_;
  bool normed_ready = false;
  for (size_t s = 0; s < slices.size(); ++s) {
    for (size_t r = 0; r < slices[s].hidden.size(); ++r) {
      const HiddenReadout& readout = slices[s].hidden[r];
      if (readout.layer != layer || readout.rows.empty()) continue;
      const bool normed = readout.normed && c.final_norm;
      if (normed && !normed_ready) {
        norm(x_.ptr<float>(), model_->output_norm(), p.rows, c.hidden, h_.ptr<float>());
        normed_ready = true;
      }
      // A readout may ask for more rows than the index buffer holds (a row may be named twice).
      const size_t limit = static_cast<size_t>(options_.max_rows);
      float* out = output->hidden_.data() + output->hidden_begin_[s][r] * static_cast<size_t>(c.hidden);
      for (size_t begin = 0; begin < readout.rows.size(); begin += limit) {
        p.path.clear();
        for (size_t i = begin; i < std::min(begin + limit, readout.rows.size()); ++i) {
          p.path.push_back(p.row_in_x(p.slice_begin[s] + readout.rows[i]));
        }
        DECANT_TRY_STATUS(
            read_rows(normed ? h_.ptr<float>() : x_.ptr<float>(), p.path, out + begin * static_cast<size_t>(c.hidden)));
      }
    }
  }
  return {};
}

// The groups of outputs that hold a token wanted by one of the rows [begin, end), counted over all slices' logits;
// empty: all.
std::span<const int32_t> Engine::wanted_groups(std::span<const Slice> slices, size_t begin, size_t end) {
  constexpr size_t kGroupsPerWord = 64 / kGroupRows;
  constexpr uint64_t kGroupBits = (uint64_t{1} << kGroupRows) - 1;
  Plan& p = *plan_;
  p.wanted.clear();
  size_t first = 0;
  for (const Slice& s : slices) {
    const size_t from = std::max(begin, first), to = std::min(end, first + s.logits.size());
    first += s.logits.size();
    if (from >= to) continue;
    if (s.logit_mask.empty()) return {};
    p.wanted.resize(s.logit_mask.size());
    for (size_t i = 0; i < p.wanted.size(); ++i) p.wanted[i] |= s.logit_mask[i];
  }
  p.wanted_outputs.clear();
  const auto groups = static_cast<size_t>(model_->output().groups());
  for (size_t w = 0; w < p.wanted.size(); ++w) {
    for (size_t i = 0; p.wanted[w] >> (i * kGroupRows) != 0; ++i) {
      const size_t group = w * kGroupsPerWord + i;
      const bool is_wanted = (p.wanted[w] >> (i * kGroupRows) & kGroupBits) != 0;
      if (is_wanted && group < groups) p.wanted_outputs.push_back(static_cast<int32_t>(group));
      if (i + 1 == kGroupsPerWord) break;
    }
  }
  // Where most are wanted the weights are read in one go: gaps would only break up the stream.
  if (p.wanted_outputs.size() > groups - groups / 4) return {};
  return p.wanted_outputs;
}

Status Engine::read_logits(std::span<const Slice> slices, StepOutput* output) {
  const ModelConfig& c = model_->config();
  Plan& p = *plan_;
  Device& d = device();
  const KernelTable& t = d.table();
  std::vector<int32_t>& wanted = p.path;
  wanted.clear();
  for (size_t s = 0; s < slices.size(); ++s) {
    for (int32_t row : slices[s].logits) wanted.push_back(p.row_in_x(p.slice_begin[s] + row));
  }
  const auto vocab = static_cast<size_t>(c.vocab_size);
  const size_t chunk = std::min<size_t>(static_cast<size_t>(options_.max_rows), kLogitRows);
  for (size_t begin = 0; begin < wanted.size(); begin += chunk) {
    const size_t n = std::min(chunk, wanted.size() - begin);
    const auto rows = static_cast<int64_t>(n);
    d.copy_in(index_.ptr<int32_t>(), std::span<const int32_t>(wanted).subspan(begin, n));
    t.gather_rows(d.queue(), x_.ptr<float>(), index_.ptr<int32_t>(), rows, c.hidden, picked_.ptr<float>());
    float* out = output->logits_.data() + begin * vocab;
    const DevPtr<float> logits = d.uses_host_memory() ? DevPtr<float>(out) : logits_.ptr<float>();
    Input input{.x = picked_.ptr<float>(),
                .rows = rows,
                .cols = c.hidden,
                .norm = c.final_norm ? &model_->output_norm() : nullptr,
                .h = picked_.ptr<float>()};
    if (c.embedding_dim > 0) {
      const Linear narrow[] = {{&model_->project_out(), {}, branch_.ptr<float>()}};
      DECANT_TRY_STATUS(linear(input, narrow));
      input = {.x = branch_.ptr<float>(), .rows = rows, .cols = c.embedding_dim};
    }
    const Linear head[] = {
        {.w = &model_->output(), .bias = {}, .y = logits, .groups = wanted_groups(slices, begin, begin + n)}};
    DECANT_TRY_STATUS(linear(input, head));
    if (c.logit_soft_cap > 0) {
      t.soft_cap(d.queue(), c.logit_soft_cap, rows * c.vocab_size, logits);
    }
    if (!d.uses_host_memory()) d.copy_out(std::span<float>(out, n * vocab), DevPtr<const float>(logits));
  }
  return {};
}

Status Engine::step(std::span<const Slice> slices, StepOutput* output, LayerRange layers) {
  const ModelConfig& c = model_->config();
  if (layers.last == -1) layers.last = c.n_layers();
  DECANT_TRY_STATUS(make_plan(slices, layers));
  Plan& p = *plan_;

  output->vocab_ = c.vocab_size;
  output->width_ = c.hidden;
  output->logits_begin_.clear();
  output->hidden_begin_.resize(slices.size());
  size_t logit_rows = 0, hidden_rows = 0;
  for (size_t s = 0; s < slices.size(); ++s) {
    output->logits_begin_.push_back(logit_rows);
    logit_rows += slices[s].logits.size();
    output->hidden_begin_[s].clear();
    for (const HiddenReadout& h : slices[s].hidden) {
      output->hidden_begin_[s].push_back(hidden_rows);
      hidden_rows += h.rows.size();
    }
  }
  output->logits_.resize(logit_rows * static_cast<size_t>(c.vocab_size));
  output->hidden_.resize(hidden_rows * static_cast<size_t>(c.hidden));

  const auto run = [&]() -> Status {
    DECANT_TRY_STATUS(upload(slices));
    if (hidden_rows > 0) DECANT_TRY_STATUS(read_hidden(slices, p.first, output));
    for (int layer = p.first; layer < p.last; ++layer) {
      const bool is_last = layer + 1 == p.last;
      DECANT_TRY_STATUS(attention_block(layer, is_last));
      if (is_last && p.kept.empty()) break;
      DECANT_TRY_STATUS(ffn_block(layer));
      if (hidden_rows > 0) DECANT_TRY_STATUS(read_hidden(slices, layer + 1, output));
    }
    if (logit_rows > 0) DECANT_TRY_STATUS(read_logits(slices, output));
    return device().status();
  };
  if (Status status = run(); !status.ok()) {
    for (const Slice& s : slices) cache_->shrink(s.sequence);
    return status;
  }
  for (const Slice& s : slices) {
    const int rows = s.rows(c.hidden);
    if (s.mask == Mask::kTree) {
      cache_->append_pending(s.sequence, p.first, p.last, rows);
    } else {
      cache_->append_committed(s.sequence, p.first, p.last, rows);
    }
  }
  return {};
}

}  // namespace decant
