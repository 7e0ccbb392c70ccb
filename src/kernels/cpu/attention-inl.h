// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Page-major attention as table.h defines it. A task takes a tile of rows of one group and one kv head; each block's K
// and V are widened to float once and serve all (row, head) queries of the tile. Lanes are keys for q.k and value
// dimensions for p.v.
//
// Bytes of one task: its blocks' tiles; operations: 2 * queries * keys * (k_dim + v_dim). Included once per target.

// One cached tile of a page and kv head, widened: K [k_dim][64], V [64][v_dim].
inline const float* widen_k(const KvLayout& l, const uint8_t* tile, float* scratch) {
  const int64_t n = int64_t{l.k_dim} * kPageKeys;
  switch (l.k_type) {
    case DType::kF32: return reinterpret_cast<const float*>(tile);
    case DType::kF16:
      for (int64_t i = 0; i < n; i += 16) store(scratch + i, load_half(reinterpret_cast<const uint16_t*>(tile) + i));
      return scratch;
    case DType::kBF16:
      for (int64_t i = 0; i < n; i += 16) store(scratch + i, load_bf16(reinterpret_cast<const uint16_t*>(tile) + i));
      return scratch;
    default: {
      const size_t bytes = row_bytes(l.k_type, l.k_dim);
      float* row = scratch + n;  // [k_dim]
      for (int key = 0; key < kPageKeys; ++key) {
        dequantize_row(l.k_type, tile + static_cast<size_t>(key) * bytes, row, l.k_dim);
        for (int d = 0; d < l.k_dim; ++d) scratch[d * kPageKeys + key] = row[d];
      }
      return scratch;
    }
  }
}

inline const float* widen_v(const KvLayout& l, const uint8_t* tile, float* scratch) {
  const int64_t n = int64_t{l.v_dim} * kPageKeys;
  switch (l.v_type) {
    case DType::kF32: return reinterpret_cast<const float*>(tile);
    case DType::kF16:
      for (int64_t i = 0; i < n; i += 16) store(scratch + i, load_half(reinterpret_cast<const uint16_t*>(tile) + i));
      return scratch;
    case DType::kBF16:
      for (int64_t i = 0; i < n; i += 16) store(scratch + i, load_bf16(reinterpret_cast<const uint16_t*>(tile) + i));
      return scratch;
    default:
      // Rows follow each other without padding, so the tile is one long row.
      dequantize_row(l.v_type, tile, scratch, n);
      return scratch;
  }
}

// scores[i][64] = dot products of kCount queries with the 64 keys of a tile.
template <int kCount>
inline void dot_tile(const float* const* q, const float* k, int dim, float* scores) {
  constexpr int kVectors = native::kTileVectors, kKeys = kVectors * native::kLanes;
  for (int key = 0; key < kPageKeys; key += kKeys) {
    native::F acc[kCount][kVectors];
    for (auto& row : acc) {
      for (native::F& a : row) a = native::set1(0.0f);
    }
    for (int d = 0; d < dim; ++d) {
      native::F keys[kVectors];
      for (int j = 0; j < kVectors; ++j) keys[j] = native::load(k + d * kPageKeys + key + j * native::kLanes);
      for (int i = 0; i < kCount; ++i) {
        const native::F x = native::set1(q[i][d]);
        for (int j = 0; j < kVectors; ++j) acc[i][j] = fma(x, keys[j], acc[i][j]);
      }
    }
    for (int i = 0; i < kCount; ++i) {
      for (int j = 0; j < kVectors; ++j) {
        native::store(scores + i * kPageKeys + key + j * native::kLanes, acc[i][j]);
      }
    }
  }
}

// Calls body<n>(first) for queries [0, n) by fours, the rest together.
template <typename Body>
inline void by_fours(int64_t n, const Body& body) {
  int64_t i = 0;
  for (; i + 4 <= n; i += 4) body(std::integral_constant<int, 4>(), i);
  switch (n - i) {
    case 3: return body(std::integral_constant<int, 3>(), i);
    case 2: return body(std::integral_constant<int, 2>(), i);
    case 1: return body(std::integral_constant<int, 1>(), i);
    default: return;
  }
}

inline void dot_tiles(const float* const* q, int64_t n, const float* k, int dim, float* scores) {
  by_fours(n, [&]<int kCount>(std::integral_constant<int, kCount>, int64_t i) {
    dot_tile<kCount>(q + i, k, dim, scores + i * kPageKeys);
  });
}

// The merged blocks of one query: out vector `o` [v_dim], maximum and sum.
struct Merged {
  float m = 0.0f, l = 0.0f;
  bool any = false;
};

inline void merge_block(Merged* state, float* o, float m_b, float l_b, const float* o_b, int dim) {
  if (!state->any) {
    *state = {m_b, l_b, true};
    std::memcpy(o, o_b, static_cast<size_t>(dim) * sizeof(float));
    return;
  }
  const float m = state->m > m_b ? state->m : m_b;
  float weights[16] = {state->m - m, m_b - m};
  store(weights, exp(load(weights)));
  const F a = set1(weights[0]);
  const F c = set1(weights[1]);
  state->l = std::fma(state->l, weights[0], l_b * weights[1]);
  state->m = m;
  for (int e = 0; e < dim; e += 16) store(o + e, fma(load(o + e), a, load(o_b + e) * c));
}

// The merged blocks of up to `n` queries.
class MergedQueries {
 public:
  static size_t floats(int64_t n, int dim) {
    return static_cast<size_t>(padded(n)) * 5 + static_cast<size_t>(n) * static_cast<size_t>(dim);
  }
  MergedQueries(int64_t n, int dim, float* scratch)
      : dim_(dim),
        m_(scratch),
        l_(m_ + padded(n)),
        a_(l_ + padded(n)),
        c_(a_ + padded(n)),
        any_(c_ + padded(n)),
        o_(any_ + padded(n)) {
    std::memset(scratch, 0, sizeof(float) * 5 * static_cast<size_t>(padded(n)));
  }

  // Takes the maxima and sums of a block of the queries with seen[i] != 0; arrays are padded to 16. add() follows for
  // each of them.
  void begin_block(int64_t n, const uint64_t* seen, const float* m_b, const float* l_b) {
    for (int64_t i = 0; i < n; i += 16) {
      const F m = max(load(m_ + i), load(m_b + i));
      store(a_ + i, exp(load(m_ + i) - m));
      store(c_ + i, exp(load(m_b + i) - m));
    }
    for (int64_t i = 0; i < n; ++i) {
      if (seen[i] == 0) continue;
      if (any_[i] == 0.0f) {
        any_[i] = kFirst;
        m_[i] = m_b[i];
        l_[i] = l_b[i];
      } else {
        l_[i] = std::fma(l_[i], a_[i], l_b[i] * c_[i]);
        m_[i] = m_[i] > m_b[i] ? m_[i] : m_b[i];
      }
    }
  }
  void add(int64_t i, const float* o_b) {
    float* o = o_ + i * dim_;
    if (any_[i] == kFirst) {
      any_[i] = kMore;
      std::memcpy(o, o_b, static_cast<size_t>(dim_) * sizeof(float));
      return;
    }
    const F a = set1(a_[i]);
    const F c = set1(c_[i]);
    for (int e = 0; e < dim_; e += 16) store(o + e, fma(load(o + e), a, load(o_b + e) * c));
  }
  // A block of one query whose m_b, l_b and o_b are there at once.
  void add_block(int64_t i, float m_b, float l_b, const float* o_b) {
    Merged state{m_[i], l_[i], any_[i] != 0.0f};
    merge_block(&state, o_ + i * dim_, m_b, l_b, o_b, dim_);
    m_[i] = state.m;
    l_[i] = state.l;
    any_[i] = kMore;
  }
  Merged state(int64_t i) const { return {m_[i], l_[i], any_[i] != 0.0f}; }
  const float* values(int64_t i) const { return o_ + i * dim_; }

 private:
  static constexpr float kFirst = 1.0f, kMore = 2.0f;
  static int64_t padded(int64_t n) { return (n + 15) / 16 * 16; }
  int dim_;
  float *m_, *l_, *a_, *c_, *any_, *o_;
};

// Keys of a block that a row sees, as a bit mask over its 64 ordinals from `begin`.
inline uint64_t visible_keys(const AttentionArgs& a, const AttnRow& row, int begin) {
  const auto range = [&](int64_t from, int64_t to) -> uint64_t {  // ordinals [from, to) within the block
    from = std::max<int64_t>(from - begin, 0);
    to = std::min<int64_t>(to - begin, kPageKeys);
    if (from >= to) return 0;
    const uint64_t below = to == kPageKeys ? ~uint64_t{0} : (uint64_t{1} << to) - 1;
    return below & (~uint64_t{0} << from);
  };
  uint64_t mask = range(row.key_begin, row.n_keys);
  if (a.window > 0) {
    mask &=
        range(int64_t{row.ordinal} - a.window + 1, row.n_keys) | range(row.key_begin, int64_t{row.key_begin} + a.sinks);
  }
  return mask;
}

// Softmax numerators of one block in place: scores -> p; gives the maximum and the sum.
inline void block_softmax(const AttentionArgs& a, uint64_t visible, float* s, float* m_b, float* l_b) {
  const F scale = set1(a.scale);
  const F lowest = set1(-std::numeric_limits<float>::infinity());
  F v[4];
  for (int j = 0; j < 4; ++j) {
    v[j] = scale * load(s + 16 * j);
    if (a.soft_cap > 0.0f) v[j] = cap_lanes(v[j], a.soft_cap);
  }
  if (visible == ~uint64_t{0}) {
    // The same as below with nothing to select.
    *m_b = reduce_max(max(max(max(max(lowest, v[0]), v[1]), v[2]), v[3]));
    const F m = set1(*m_b);
    F sum = set1(0.0f);
    for (int j = 0; j < 4; ++j) {
      const F p = exp(v[j] - m);
      store(s + 16 * j, p);
      sum = sum + p;
    }
    *l_b = reduce_add(sum);
    return;
  }
  F top = lowest;
  for (int j = 0; j < 4; ++j) {
    const auto lanes = static_cast<uint32_t>(visible >> (16 * j)) & 0xffffu;
    top = max(top, select_lanes(lanes, v[j], lowest));
  }
  *m_b = reduce_max(top);
  const F m = set1(*m_b);
  F sum = set1(0.0f);
  for (int j = 0; j < 4; ++j) {
    const auto lanes = static_cast<uint32_t>(visible >> (16 * j)) & 0xffffu;
    const F p = select_lanes(lanes, exp(v[j] - m), set1(0.0f));
    store(s + 16 * j, p);
    sum = sum + p;
  }
  *l_b = reduce_add(sum);
}

// o[i][e] += p[i][j] * v[j][e] for keys j in [from, to), in order.
template <int kCount, int kVectors>
inline void add_values(const float* p, int from, int to, const float* v, int dim, int e, float* o) {
  native::F acc[kCount][kVectors];
  for (int i = 0; i < kCount; ++i) {
    for (int x = 0; x < kVectors; ++x) acc[i][x] = native::load(o + i * dim + e + x * native::kLanes);
  }
  for (int j = from; j < to; ++j) {
    native::F value[kVectors];
    for (int x = 0; x < kVectors; ++x) value[x] = native::load(v + int64_t{j} * dim + e + x * native::kLanes);
    for (int i = 0; i < kCount; ++i) {
      const native::F weight = native::set1(p[i * kPageKeys + j]);
      for (int x = 0; x < kVectors; ++x) acc[i][x] = fma(weight, value[x], acc[i][x]);
    }
  }
  for (int i = 0; i < kCount; ++i) {
    for (int x = 0; x < kVectors; ++x) native::store(o + i * dim + e + x * native::kLanes, acc[i][x]);
  }
}

template <int kCount>
inline void add_values(const float* p, int from, int to, const float* v, int dim, float* o) {
  // One query alone needs more sums of its own in flight.
  constexpr int kWide = native::kTileVectors * (kCount == 1 ? 4 : 1), kNarrow = 16 / native::kLanes;
  int e = 0;
  for (; e + kWide * native::kLanes <= dim; e += kWide * native::kLanes) {
    add_values<kCount, kWide>(p, from, to, v, dim, e, o);
  }
  for (; e < dim; e += 16) add_values<kCount, kNarrow>(p, from, to, v, dim, e, o);
}

// The first and one past the last key of a mask of consecutive keys; false if it has gaps. `visible` is not 0.
inline bool key_range(uint64_t visible, int* from, int* to) {
  *from = std::countr_zero(visible);
  *to = 64 - std::countl_zero(visible);
  return std::popcount(visible) == *to - *from;
}

// o[i] = sum over the visible keys of query i, in order, of p_j * value j, for kCount queries over the same values.
// Keys that all of them see are taken together.
template <int kCount>
inline void weighted_values(const float* p, const uint64_t* visible, const float* v, int dim, float* o) {
  std::memset(o, 0, sizeof(float) * static_cast<size_t>(kCount) * static_cast<size_t>(dim));
  int from[kCount], to[kCount];
  int common_from = 0, common_to = kPageKeys;
  bool ranges = true;
  for (int i = 0; i < kCount; ++i) {
    if (visible[i] == 0) {
      from[i] = to[i] = 0;
    } else {
      ranges = key_range(visible[i], &from[i], &to[i]) && ranges;
    }
    common_from = std::max(common_from, from[i]);
    common_to = std::min(common_to, to[i]);
  }
  if (!ranges || common_from >= common_to) {
    for (int i = 0; i < kCount; ++i) {
      for (uint64_t rest = visible[i]; rest != 0;) {
        const int first = std::countr_zero(rest);
        const int n = std::countr_one(rest >> first);
        add_values<1>(p + i * kPageKeys, first, first + n, v, dim, o + i * dim);
        rest = first + n == 64 ? 0 : rest & (~uint64_t{0} << (first + n));
      }
    }
    return;
  }
  for (int i = 0; i < kCount; ++i) {
    if (from[i] < common_from) add_values<1>(p + i * kPageKeys, from[i], common_from, v, dim, o + i * dim);
  }
  add_values<kCount>(p, common_from, common_to, v, dim, o);
  for (int i = 0; i < kCount; ++i) {
    if (common_to < to[i]) add_values<1>(p + i * kPageKeys, common_to, to[i], v, dim, o + i * dim);
  }
}

// Likewise for one query whose values lie apart.
inline void scattered_values(const float* p, uint64_t visible, const float* const* values, int dim, float* o) {
  for (int e = 0; e < dim; e += 16) {
    F acc = set1(0.0f);
    for (uint64_t rest = visible; rest != 0; rest &= rest - 1) {
      const int j = std::countr_zero(rest);
      acc = fma(set1(p[j]), load(values[j] + e), acc);
    }
    store(o + e, acc);
  }
}

// Rows [row_begin, row_end) of one group, one kv head.
struct AttentionTile {
  const AttentionArgs& a;
  int64_t row_begin, row_end;
  int kv_head;

  int heads_per_kv() const { return a.heads / a.layout.n_kv_heads; }
  int64_t queries() const { return (row_end - row_begin) * heads_per_kv(); }
  const AttnRow& row_of(int64_t query) const { return a.rows.raw()[row_begin + query / heads_per_kv()]; }
  int64_t output_of(int64_t query) const {
    return (row_begin + query / heads_per_kv()) * a.heads + kv_head * heads_per_kv() + query % heads_per_kv();
  }
  const uint8_t* k_tile(const AttnRow& row, int page) const {
    const auto id = static_cast<size_t>(a.pages.raw()[row.page_table + page]);
    return a.pool.raw() + id * a.layout.page_bytes() +
           static_cast<size_t>(kv_head) * (a.layout.k_tile_bytes() + a.layout.v_tile_bytes());
  }
  const uint8_t* v_tile(const AttnRow& row, int page) const { return k_tile(row, page) + a.layout.k_tile_bytes(); }
  int slot(const AttnRow& row, int ordinal) const {
    return ordinal < row.identity ? ordinal : a.paths.raw()[row.path + ordinal - row.identity];
  }
};

// Rows whose keys from some ordinal on lie at other slots (token trees): the pages that those slots touch.
struct Tail {
  int first_page = 0, pages = 0;
};

inline Tail tail_of(const AttentionTile& t) {
  int first = std::numeric_limits<int>::max();
  int last = -1;
  for (int64_t r = t.row_begin; r < t.row_end; ++r) {
    const AttnRow& row = t.a.rows.raw()[r];
    if (row.identity >= row.n_keys) continue;
    first = std::min(first, row.identity / kPageKeys);
    for (int j = row.identity; j < row.n_keys; ++j) last = std::max(last, t.slot(row, j) / kPageKeys);
    last = std::max(last, (row.identity - 1) / kPageKeys);
  }
  return last < 0 ? Tail{} : Tail{first, last - first + 1};
}

// Gives `sink` what every query of the tile has of every block in [block_begin, block_end) that it sees, block by block
// in order: begin_block(block, n, seen, maxima, sums), then values(query, block, o_b) for each query that is seen; or
// add_block(query, block, m_b, l_b, o_b) for one query. `scratch` holds scratch_floats() floats.
inline size_t tile_scratch_floats(const AttentionTile& t, const Tail& tail) {
  const auto q = static_cast<size_t>(t.queries());
  const auto k = static_cast<size_t>(t.a.layout.k_dim);
  const auto v = static_cast<size_t>(t.a.layout.v_dim);
  return (k + 1) * kPageKeys + k + v * kPageKeys + q * kPageKeys + (q + 15) * 4 + kPageKeys + 4 * v +
         static_cast<size_t>(tail.pages) * kPageKeys * (q + v) + 64;
}

template <typename Sink>
inline void attend_blocks(const AttentionTile& t, const Tail& tail, int block_begin, int block_end, float* scratch,
                          Sink& sink) {
  const KvLayout& l = t.a.layout;
  const int64_t n = t.queries();
  float* kf = scratch;
  float* vf = kf + (l.k_dim + 1) * kPageKeys + l.k_dim;
  float* scores = vf + int64_t{l.v_dim} * kPageKeys;  // [n][64]
  float* permuted = scores + n * kPageKeys;           // [64]
  const int64_t padded = (n + 15) / 16 * 16;
  float* maxima = permuted + kPageKeys;                     // [padded]
  float* sums = maxima + padded;                            // [padded]
  auto* seen = reinterpret_cast<uint64_t*>(sums + padded);  // [padded]
  float* o_b = sums + 3 * padded;                           // [4][v_dim]
  std::memset(maxima, 0, sizeof(float) * static_cast<size_t>(padded));
  float* tail_scores = o_b + 4 * l.v_dim;                                  // [pages][n][64]
  float* tail_values = tail_scores + int64_t{tail.pages} * n * kPageKeys;  // [pages][64][v_dim]

  // Queries of a tile share the page table; q rows are gathered by pointer, 64 at a time.
  const auto scores_of = [&](const float* k, float* out) {
    const float* pointers[64];
    for (int64_t begin = 0; begin < n; begin += 64) {
      const int64_t count = std::min<int64_t>(64, n - begin);
      for (int64_t i = 0; i < count; ++i) pointers[i] = t.a.q.raw() + t.output_of(begin + i) * l.k_dim;
      dot_tiles(pointers, count, k, l.k_dim, out + begin * kPageKeys);
    }
  };
  const AttnRow& any_row = t.a.rows.raw()[t.row_begin];
  for (int p = 0; p < tail.pages; ++p) {
    scores_of(widen_k(l, t.k_tile(any_row, tail.first_page + p), kf), tail_scores + int64_t{p} * n * kPageKeys);
    float* values = tail_values + int64_t{p} * kPageKeys * l.v_dim;
    const float* wide = widen_v(l, t.v_tile(any_row, tail.first_page + p), values);
    if (wide != values)
      std::memcpy(values, wide, sizeof(float) * static_cast<size_t>(kPageKeys) * static_cast<size_t>(l.v_dim));
  }

  const auto is_permuted = [&](const AttnRow& row, int begin) {
    return std::min(row.n_keys, begin + kPageKeys) > row.identity;
  };
  for (int block = block_begin; block < block_end; ++block) {
    const int begin = block * kPageKeys;
    bool widened = false;
    for (int64_t i = 0; i < n; ++i) {
      const AttnRow& row = t.row_of(i);
      seen[i] = visible_keys(t.a, row, begin);
      if (seen[i] == 0) continue;
      if (!is_permuted(row, begin)) {
        if (!widened) {
          scores_of(widen_k(l, t.k_tile(any_row, block), kf), scores);
          widened = true;
        }
        block_softmax(t.a, seen[i], scores + i * kPageKeys, &maxima[i], &sums[i]);
        continue;
      }
      const float* values[kPageKeys];
      for (uint64_t rest = seen[i]; rest != 0; rest &= rest - 1) {
        const int j = std::countr_zero(rest);
        const int slot = t.slot(row, begin + j);
        const int page = slot / kPageKeys - tail.first_page;
        permuted[j] = tail_scores[(int64_t{page} * n + i) * kPageKeys + slot % kPageKeys];
        values[j] = tail_values + (int64_t{page} * kPageKeys + slot % kPageKeys) * l.v_dim;
      }
      block_softmax(t.a, seen[i], permuted, &maxima[i], &sums[i]);
      scattered_values(permuted, seen[i], values, l.v_dim, o_b);
      sink.add_block(i, block, maxima[i], sums[i], o_b);
      seen[i] = 0;
    }
    if (!widened) continue;
    sink.begin_block(block, n, seen, maxima, sums);
    const float* v = widen_v(l, t.v_tile(any_row, block), vf);
    by_fours(n, [&]<int kCount>(std::integral_constant<int, kCount>, int64_t first) {
      if (std::all_of(seen + first, seen + first + kCount, [](uint64_t m) { return m == 0; })) return;
      weighted_values<kCount>(scores + first * kPageKeys, seen + first, v, l.v_dim, o_b);
      for (int i = 0; i < kCount; ++i) {
        if (seen[first + i] == 0) continue;
        sink.values(first + i, block, o_b + i * l.v_dim);
      }
    });
  }
}

inline void write_output(const AttentionArgs& a, int64_t output, const Merged& state, const float* o) {
  const int dim = a.layout.v_dim;
  float* out = a.out.raw() + output * dim;
  if (!state.any) {
    std::memset(out, 0, static_cast<size_t>(dim) * sizeof(float));
    return;
  }
  const F l = set1(state.l);
  for (int e = 0; e < dim; e += 16) store(out + e, load(o + e) / l);
}

// Sinks of attend_blocks. Blocks are merged as they come,
struct MergingSink {
  MergedQueries merged;
  void begin_block(int, int64_t n, const uint64_t* seen, const float* m_b, const float* l_b) {
    merged.begin_block(n, seen, m_b, l_b);
  }
  void values(int64_t i, int, const float* o_b) { merged.add(i, o_b); }
  void add_block(int64_t i, int, float m_b, float l_b, const float* o_b) { merged.add_block(i, m_b, l_b, o_b); }
};

// or kept apart: a partial is [seen, m, l, padding, o...].
struct PartialSink {
  const AttentionTile& t;
  float* partials;
  int max_blocks;
  int64_t stride;
  float* at(int64_t i, int block) const { return partials + (t.output_of(i) * max_blocks + block) * stride; }
  void begin_block(int block, int64_t n, const uint64_t* seen, const float* m_b, const float* l_b) {
    for (int64_t i = 0; i < n; ++i) {
      if (seen[i] == 0) continue;
      float* p = at(i, block);
      p[0] = 1.0f;
      p[1] = m_b[i];
      p[2] = l_b[i];
    }
  }
  void values(int64_t i, int block, const float* o_b) {
    std::memcpy(at(i, block) + 16, o_b, static_cast<size_t>(t.a.layout.v_dim) * sizeof(float));
  }
  void add_block(int64_t i, int block, float m_b, float l_b, const float* o_b) {
    float* p = at(i, block);
    p[0] = 1.0f;
    p[1] = m_b;
    p[2] = l_b;
    values(i, block, o_b);
  }
};

inline void attention(Queue& queue, const AttentionArgs& a) {
  CpuQueue& q = cpu(queue);
  const KvLayout& l = a.layout;
  const int heads_per_kv = a.heads / l.n_kv_heads;
  // At least 32 queries, a multiple of 4 of them.
  const int64_t unit = 4 / std::gcd(heads_per_kv, 4);
  const int64_t tile_rows = ((32 + heads_per_kv - 1) / heads_per_kv + unit - 1) / unit * unit;
  struct Range {
    int64_t first_task;
    const AttnGroup* group;
  };
  int64_t tasks = 0;
  int max_blocks = 0;
  for (const AttnGroup& g : a.groups) {
    tasks += (g.row_end - g.row_begin + tile_rows - 1) / tile_rows * l.n_kv_heads;
    max_blocks = std::max(max_blocks, (g.max_keys + kPageKeys - 1) / kPageKeys);
  }
  const auto tile_of = [&](int64_t task) {
    for (const AttnGroup& g : a.groups) {
      const int64_t here = (g.row_end - g.row_begin + tile_rows - 1) / tile_rows * l.n_kv_heads;
      if (task < here) {
        const int64_t begin = g.row_begin + task / l.n_kv_heads * tile_rows;
        return AttentionTile{a, begin, std::min<int64_t>(begin + tile_rows, g.row_end),
                             static_cast<int>(task % l.n_kv_heads)};
      }
      task -= here;
    }
    return AttentionTile{a, 0, 0, 0};
  };
  const auto blocks_of = [&](const AttentionTile& t) {
    int keys = 0;
    for (int64_t r = t.row_begin; r < t.row_end; ++r) keys = std::max(keys, a.rows.raw()[r].n_keys);
    return (keys + kPageKeys - 1) / kPageKeys;
  };

  // Where heads and rows do not occupy the threads evenly, contexts are split as well, into at most 8 blocks a task.
  const int64_t enough = int64_t{q.pool().threads()} * 4;
  const bool split = tasks < enough && q.pool().threads() > 1 && max_blocks > 1;
  const int blocks_per_task = std::clamp(static_cast<int>(max_blocks * tasks / enough), 1, 8);
  if (!split) {
    q.pool().parallel_for(tasks, 1, [&](int64_t begin, int64_t end, int thread) {
      for (int64_t task = begin; task < end; ++task) {
        const AttentionTile t = tile_of(task);
        const Tail tail = tail_of(t);
        const size_t floats = tile_scratch_floats(t, tail);
        float* scratch = q.scratch(thread, floats + MergedQueries::floats(t.queries(), l.v_dim));
        MergingSink sink{MergedQueries(t.queries(), l.v_dim, scratch + floats)};
        attend_blocks(t, tail, 0, blocks_of(t), scratch, sink);
        for (int64_t i = 0; i < t.queries(); ++i) {
          write_output(a, t.output_of(i), sink.merged.state(i), sink.merged.values(i));
        }
      }
    });
    return;
  }

  // Few rows over a long context: partials of fixed ranges of blocks, then each query merges its own in block order.
  const int64_t stride = l.v_dim + 16;
  const int64_t outputs = static_cast<int64_t>(a.groups.back().row_end) * a.heads;
  float* partials = q.shared_scratch(static_cast<size_t>(outputs * max_blocks * stride));
  const int64_t chunks = (max_blocks + blocks_per_task - 1) / blocks_per_task;
  q.pool().parallel_for(tasks * chunks, 1, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t task = begin; task < end; ++task) {
      const AttentionTile t = tile_of(task / chunks);
      const Tail tail = tail_of(t);
      const int first = static_cast<int>(task % chunks) * blocks_per_task;
      const int last = std::min(first + blocks_per_task, max_blocks);
      for (int64_t i = 0; i < t.queries(); ++i) {
        for (int b = first; b < last; ++b) partials[(t.output_of(i) * max_blocks + b) * stride] = 0.0f;
      }
      float* scratch = q.scratch(thread, tile_scratch_floats(t, tail));
      PartialSink sink{t, partials, max_blocks, stride};
      attend_blocks(t, tail, first, std::min(last, blocks_of(t)), scratch, sink);
    }
  });
  const int64_t merges_per_task = std::max<int64_t>(1, 64 / max_blocks);  // so that the region is worth its start
  q.pool().parallel_for(outputs, merges_per_task, [&](int64_t begin, int64_t end, int thread) {
    float* o = q.scratch(thread, static_cast<size_t>(l.v_dim));
    for (int64_t i = begin; i < end; ++i) {
      Merged state;
      for (int b = 0; b < max_blocks; ++b) {
        const float* p = partials + (i * max_blocks + b) * stride;
        if (p[0] != 0.0f) merge_block(&state, o, p[1], p[2], p + 16, l.v_dim);
      }
      write_output(a, i, state, o);
    }
  });
}
