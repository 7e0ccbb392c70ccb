// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Page-major attention as table.h defines it. A task takes a tile of neighbouring rows and one kv head and walks their
// blocks in order. Rows whose next blocks are the same pages go together: a block's K and V are widened to float once
// for all of their (row, head) queries; where the rows part, each run of them goes on alone, with what its queries have
// merged so far. Lanes are keys for q.k and value dimensions for p.v.
//
// Bytes of one task: its pages' tiles; operations: 2 * queries * keys * (k_dim + v_dim). Included once per target.

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

// scores[i][64] = scale * the dot products of kCount queries with the 64 keys of a tile.
template <int kCount>
inline void dot_tile(const float* const* q, const float* k, int dim, float scale, float* scores) {
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
        native::store(scores + i * kPageKeys + key + j * native::kLanes, native::set1(scale) * acc[i][j]);
      }
    }
  }
}

// Queries that a tile of registers takes: their sums, times kTileVectors, leave room for operands.
inline constexpr int kTileQueries = 6;

// Calls body<n>(first) for queries [0, n) by kTileQueries, the rest together.
template <typename Body>
inline void by_tiles(int64_t n, const Body& body) {
  int64_t i = 0;
  for (; i + kTileQueries <= n; i += kTileQueries) body(std::integral_constant<int, kTileQueries>(), i);
  switch (n - i) {
    case 5: return body(std::integral_constant<int, 5>(), i);
    case 4: return body(std::integral_constant<int, 4>(), i);
    case 3: return body(std::integral_constant<int, 3>(), i);
    case 2: return body(std::integral_constant<int, 2>(), i);
    case 1: return body(std::integral_constant<int, 1>(), i);
    default: return;
  }
}

inline void dot_tiles(const float* const* q, int64_t n, const float* k, int dim, float scale, float* scores) {
  by_tiles(n, [&]<int kCount>(std::integral_constant<int, kCount>, int64_t i) {
    dot_tile<kCount>(q + i, k, dim, scale, scores + i * kPageKeys);
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

  // Takes the maxima and sums of a block of those of the queries [first, first + n) with seen[i] != 0; 16 values may be
  // read from each. add() follows for each of them.
  void begin_block(int64_t first, int64_t n, const uint64_t* seen, const float* m_b, const float* l_b) {
    bool all = true;
    for (int64_t i = first; i < first + n; ++i) all = all && seen[i] != 0 && any_[i] != 0.0f;
    int64_t i = first;
    for (; i < first + n; i += 16) {
      const F before = load(m_ + i), block = load(m_b + i);
      const F m = max(before, block);
      const F a = exp(before - m), c = exp(block - m);
      store(a_ + i, a);
      store(c_ + i, c);
      if (!all || i + 16 > first + n) continue;
      store(l_ + i, fma(load(l_ + i), a, load(l_b + i) * c));
      store(m_ + i, m);
    }
    for (i = all ? first + n / 16 * 16 : first; i < first + n; ++i) {
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
  // add() by parts: put() takes the vectors of o_b from registers; then added().
  class Adder {
   public:
    Adder(float* o, bool first, float a, float c) : o_(o), first_(first), a_(native::set1(a)), c_(native::set1(c)) {}
    void put(int e, native::F o_b) const {
      native::store(o_ + e, first_ ? o_b : fma(native::load(o_ + e), a_, o_b * c_));
    }

   private:
    float* o_;
    bool first_;
    native::F a_, c_;
  };
  Adder adder(int64_t i) const { return Adder(o_ + i * dim_, any_[i] == kFirst, a_[i], c_[i]); }
  void added(int64_t i) { any_[i] = kMore; }
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
  static int64_t padded(int64_t n) { return (n + 15) / 16 * 16 + 16; }
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

// Softmax numerators of n queries of one block in place: scores [n][64] -> p; gives maxima and sums. Queries with
// visible[i] == 0 stay as they are. Three passes over a few queries at a time: each is short enough that the processor
// overlaps one query's chain of operations with the next one's.
inline void block_softmax(const AttentionArgs& a, int64_t n, const uint64_t* visible, float* scores, float* maxima,
                          float* sums) {
  constexpr int64_t kAtOnce = 8;
  const F lowest = set1(-std::numeric_limits<float>::infinity());
  const auto lanes = [](uint64_t mask, int j) { return static_cast<uint32_t>(mask >> (16 * j)) & 0xffffu; };
  for (int64_t begin = 0; begin < n; begin += kAtOnce) {
    const int64_t end = std::min(n, begin + kAtOnce);
    if (a.soft_cap > 0.0f) {
      for (float* s = scores + begin * kPageKeys; s != scores + end * kPageKeys; s += 16) {
        store(s, cap_lanes(load(s), a.soft_cap));
      }
    }
    for (int64_t i = begin; i < end; ++i) {
      if (visible[i] == 0) continue;
      const float* s = scores + i * kPageKeys;
      F top = lowest;
      if (visible[i] == ~uint64_t{0}) {
        for (int j = 0; j < 4; ++j) top = max(top, load(s + 16 * j));
      } else {
        for (int j = 0; j < 4; ++j) top = max(top, select_lanes(lanes(visible[i], j), load(s + 16 * j), lowest));
      }
      maxima[i] = reduce_max(top);
    }
    for (int64_t i = begin; i < end; ++i) {
      if (visible[i] == 0) continue;
      float* s = scores + i * kPageKeys;
      const F m = set1(maxima[i]);
      for (int j = 0; j < 4; ++j) store(s + 16 * j, exp<false>(load(s + 16 * j) - m));
      if (visible[i] == ~uint64_t{0}) continue;
      for (int j = 0; j < 4; ++j) {
        store(s + 16 * j, select_lanes(lanes(visible[i], j), load(s + 16 * j), set1(0.0f)));
      }
    }
    for (int64_t i = begin; i < end; ++i) {
      if (visible[i] == 0) continue;
      F sum = set1(0.0f);
      for (int j = 0; j < 4; ++j) sum = sum + load(scores + i * kPageKeys + 16 * j);
      sums[i] = reduce_add(sum);
    }
  }
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

// Likewise where every query sees all keys of the block: the sums go to adder(i).put(e, vector of o[i] at e) from their
// registers.
template <int kCount, int kVectors, typename Adder>
inline void all_values(const float* p, const float* v, int dim, int e, const Adder& adder) {
  native::F acc[kCount][kVectors];
  for (auto& row : acc) {
    for (native::F& x : row) x = native::set1(0.0f);
  }
  for (int j = 0; j < kPageKeys; ++j) {
    native::F value[kVectors];
    for (int x = 0; x < kVectors; ++x) value[x] = native::load(v + int64_t{j} * dim + e + x * native::kLanes);
    for (int i = 0; i < kCount; ++i) {
      const native::F weight = native::set1(p[i * kPageKeys + j]);
      for (int x = 0; x < kVectors; ++x) acc[i][x] = fma(weight, value[x], acc[i][x]);
    }
  }
  for (int i = 0; i < kCount; ++i) {
    const auto sums = adder(i);
    for (int x = 0; x < kVectors; ++x) sums.put(e + x * native::kLanes, acc[i][x]);
  }
}

template <int kCount, typename Adder>
inline void all_values(const float* p, const float* v, int dim, const Adder& adder) {
  constexpr int kWide = native::kTileVectors * (kCount == 1 ? 4 : kCount == 2 ? 2 : 1), kNarrow = 16 / native::kLanes;
  int e = 0;
  for (; e + kWide * native::kLanes <= dim; e += kWide * native::kLanes) all_values<kCount, kWide>(p, v, dim, e, adder);
  for (; e < dim; e += 16) all_values<kCount, kNarrow>(p, v, dim, e, adder);
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
  const AttnRow& row(int64_t r) const { return a.rows.raw()[r]; }
  int64_t query_of(int64_t r) const { return (r - row_begin) * heads_per_kv(); }  // the first of a row
  const AttnRow& row_of(int64_t query) const { return row(row_begin + query / heads_per_kv()); }
  int64_t output_of(int64_t query) const {
    return (row_begin + query / heads_per_kv()) * a.heads + kv_head * heads_per_kv() + query % heads_per_kv();
  }
  const uint8_t* k_tile(const AttnRow& r, int page) const {
    const auto id = static_cast<size_t>(a.pages.raw()[r.page_table + page]);
    return a.pool.raw() + id * a.layout.page_bytes() +
           static_cast<size_t>(kv_head) * (a.layout.k_tile_bytes() + a.layout.v_tile_bytes());
  }
  const uint8_t* v_tile(const AttnRow& r, int page) const { return k_tile(r, page) + a.layout.k_tile_bytes(); }
  int slot(const AttnRow& r, int ordinal) const {
    return ordinal < r.identity ? ordinal : a.paths.raw()[r.path + ordinal - r.identity];
  }
};

inline int blocks_of(const AttnRow& row) { return (row.n_keys + kPageKeys - 1) / kPageKeys; }
// The first block with a key that lies at another slot (token trees).
inline int first_permuted(const AttnRow& row) {
  return row.identity < row.n_keys ? row.identity / kPageKeys : std::numeric_limits<int>::max();
}

// The pages that the permuted keys of rows [lo, hi) of one sequence touch.
struct Tail {
  int first_page = 0, pages = 0;
};

inline Tail tail_of(const AttentionTile& t, int64_t lo, int64_t hi) {
  int first = std::numeric_limits<int>::max();
  int last = -1;
  for (int64_t r = lo; r < hi; ++r) {
    const AttnRow& row = t.row(r);
    if (row.identity >= row.n_keys) continue;
    first = std::min(first, row.identity / kPageKeys);
    for (int j = row.identity; j < row.n_keys; ++j) last = std::max(last, t.slot(row, j) / kPageKeys);
    last = std::max(last, (row.identity - 1) / kPageKeys);
  }
  return last < 0 ? Tail{} : Tail{first, last - first + 1};
}

// One past the last row from `lo` on, below `hi`, that has the page table of row `lo`.
inline int64_t same_table_end(const AttentionTile& t, int64_t lo, int64_t hi) {
  int64_t end = lo + 1;
  while (end < hi && t.row(end).page_table == t.row(lo).page_table) ++end;
  return end;
}

inline size_t tail_floats(const AttentionTile& t, int64_t lo, int64_t hi, const Tail& tail) {
  const auto n = static_cast<size_t>((hi - lo) * t.heads_per_kv());
  return static_cast<size_t>(tail.pages) * kPageKeys * (n + static_cast<size_t>(t.a.layout.v_dim));
}

// Gives `sink` what every query of the tile has of every block in [first, last) that it sees, each query's blocks in
// order: begin_block(block, first query, n, seen, maxima, sums), then for each query that is seen values(query, block,
// o_b), or adder(query, block).put(e, part of o_b) for all parts and done(query); or add_block(query, block, m_b, l_b,
// o_b) for one query. `scratch` holds scratch_floats(t) floats.
template <typename Sink>
class BlockWalk {
 public:
  static size_t scratch_floats(const AttentionTile& t) {
    const auto k = static_cast<size_t>(t.a.layout.k_dim);
    const auto v = static_cast<size_t>(t.a.layout.v_dim);
    size_t tail = 0;
    for (int64_t lo = t.row_begin; lo < t.row_end;) {
      const int64_t hi = same_table_end(t, lo, t.row_end);
      tail = std::max(tail, tail_floats(t, lo, hi, tail_of(t, lo, hi)));
      lo = hi;
    }
    const auto q = static_cast<size_t>(t.queries());
    return (k + 1) * kPageKeys + k + v * kPageKeys + q * kPageKeys + kPageKeys + (q + 31) * 6 + kTileQueries * v +
           tail + 64;
  }

  BlockWalk(const AttentionTile& t, float* scratch, Sink& sink) : t_(t), l_(t.a.layout), sink_(sink) {
    const int64_t padded = (t.queries() + 15) / 16 * 16 + 16;
    kf_ = scratch;
    vf_ = kf_ + (l_.k_dim + 1) * kPageKeys + l_.k_dim;
    scores_ = vf_ + int64_t{l_.v_dim} * kPageKeys;         // [n][64]
    permuted_ = scores_ + t.queries() * kPageKeys;         // [64]
    maxima_ = permuted_ + kPageKeys;                       // [padded]
    sums_ = maxima_ + padded;                              // [padded]
    seen_ = reinterpret_cast<uint64_t*>(sums_ + padded);   // [padded]
    q_ = reinterpret_cast<const float**>(seen_ + padded);  // [padded]
    o_b_ = sums_ + 5 * padded;                             // [kTileQueries][v_dim]
    tail_scores_ = o_b_ + kTileQueries * l_.v_dim;         // [pages][n][64], then [pages][64][v_dim]
    std::memset(maxima_, 0, sizeof(float) * static_cast<size_t>(padded));
    for (int64_t i = 0; i < t.queries(); ++i) q_[i] = t.a.q.raw() + t.output_of(i) * l_.k_dim;
  }

  void run(int first, int last) { walk(t_.row_begin, t_.row_end, first, last); }

 private:
  // Rows [lo, hi) have the same pages before block `first`.
  void walk(int64_t lo, int64_t hi, int first, int last) {
    while (first < last) {
      int common = std::numeric_limits<int>::max(), longest = 0, permuted = common;
      bool one_table = true;
      for (int64_t r = lo; r < hi; ++r) {
        const AttnRow& row = t_.row(r);
        longest = std::max(longest, blocks_of(row));
        permuted = std::min(permuted, first_permuted(row));
        if (r == lo || row.page_table == t_.row(r - 1).page_table) continue;
        common = std::min(common, row.shared);
        one_table = false;
      }
      last = std::min(last, longest);
      if (one_table) return sequence(lo, hi, first, last);
      const int end = std::min({last, common, permuted});
      if (end > first) {
        blocks(lo, hi, first, end, Tail{});
        first = end;
        continue;
      }
      // Here they part: each run that still shares goes on, or each sequence where one of them has permuted keys.
      for (int64_t begin = lo; begin < hi;) {
        int64_t next = begin + 1;
        while (next < hi && (t_.row(next).page_table == t_.row(next - 1).page_table ||
                             (permuted > first && t_.row(next).shared > first))) {
          ++next;
        }
        walk(begin, next, first, last);
        begin = next;
      }
      return;
    }
  }

  // Rows of one sequence.
  void sequence(int64_t lo, int64_t hi, int first, int last) {
    const Tail tail = tail_of(t_, lo, hi);
    if (tail.pages == 0 || tail.first_page >= last) return blocks(lo, hi, first, last, Tail{});
    const AttnRow& any_row = t_.row(lo);
    const int64_t n = (hi - lo) * t_.heads_per_kv();
    tail_values_ = tail_scores_ + int64_t{tail.pages} * n * kPageKeys;
    for (int p = 0; p < tail.pages; ++p) {
      scores_of(lo, hi, widen_k(l_, t_.k_tile(any_row, tail.first_page + p), kf_),
                tail_scores_ + int64_t{p} * n * kPageKeys);
      float* values = tail_values_ + int64_t{p} * kPageKeys * l_.v_dim;
      const float* wide = widen_v(l_, t_.v_tile(any_row, tail.first_page + p), values);
      if (wide != values)
        std::memcpy(values, wide, sizeof(float) * static_cast<size_t>(kPageKeys) * static_cast<size_t>(l_.v_dim));
    }
    blocks(lo, hi, first, last, tail);
  }

  // Scores of the rows' queries for a tile's keys.
  void scores_of(int64_t lo, int64_t hi, const float* k, float* out) {
    const int64_t begin = t_.query_of(lo);
    dot_tiles(q_ + begin, t_.query_of(hi) - begin, k, l_.k_dim, t_.a.scale, out);
  }

  // Blocks [first, last) of rows that have the same pages there.
  void blocks(int64_t lo, int64_t hi, int first, int last, const Tail& tail) {
    const int per_row = t_.heads_per_kv();
    const int64_t begin = t_.query_of(lo), n = t_.query_of(hi) - begin;
    for (int block = first; block < last; ++block) {
      const int key = block * kPageKeys;
      const AttnRow* widened = nullptr;  // a row that sees the block as it lies in its page
      for (int64_t r = lo; r < hi; ++r) {
        const AttnRow& row = t_.row(r);
        const uint64_t visible = visible_keys(t_.a, row, key);
        const int64_t q = t_.query_of(r);
        std::fill(seen_ + q, seen_ + q + per_row, visible);
        if (visible == 0) continue;
        if (std::min(row.n_keys, key + kPageKeys) > row.identity) {
          permuted_block(row, q, begin, n, block, tail);
        } else if (widened == nullptr) {
          widened = &row;
        }
      }
      if (widened == nullptr) continue;
      scores_of(lo, hi, widen_k(l_, t_.k_tile(*widened, block), kf_), scores_);
      block_softmax(t_.a, n, seen_ + begin, scores_, maxima_ + begin, sums_ + begin);
      sink_.begin_block(block, begin, n, seen_, maxima_, sums_);
      const float* v = widen_v(l_, t_.v_tile(*widened, block), vf_);
      by_tiles(n, [&]<int kCount>(std::integral_constant<int, kCount>, int64_t i) {
        const uint64_t* seen = seen_ + begin + i;
        if (std::all_of(seen, seen + kCount, [](uint64_t m) { return m == 0; })) return;
        if (std::all_of(seen, seen + kCount, [](uint64_t m) { return m == ~uint64_t{0}; })) {
          all_values<kCount>(scores_ + i * kPageKeys, v, l_.v_dim,
                             [&](int x) { return sink_.adder(begin + i + x, block); });
          for (int x = 0; x < kCount; ++x) sink_.done(begin + i + x);
          return;
        }
        weighted_values<kCount>(scores_ + i * kPageKeys, seen, v, l_.v_dim, o_b_);
        for (int x = 0; x < kCount; ++x) {
          if (seen[x] != 0) sink_.values(begin + i + x, block, o_b_ + x * l_.v_dim);
        }
      });
    }
  }

  // A block of one row, from query `q` on, that has keys of the tail; queries [begin, begin + n) have tail scores.
  void permuted_block(const AttnRow& row, int64_t q, int64_t begin, int64_t n, int block, const Tail& tail) {
    const uint64_t visible = seen_[q];
    for (int64_t i = q; i < q + t_.heads_per_kv(); ++i) {
      const float* values[kPageKeys];
      for (uint64_t rest = visible; rest != 0; rest &= rest - 1) {
        const int j = std::countr_zero(rest);
        const int slot = t_.slot(row, block * kPageKeys + j);
        const int page = slot / kPageKeys - tail.first_page;
        permuted_[j] = tail_scores_[(int64_t{page} * n + i - begin) * kPageKeys + slot % kPageKeys];
        values[j] = tail_values_ + (int64_t{page} * kPageKeys + slot % kPageKeys) * l_.v_dim;
      }
      block_softmax(t_.a, 1, &visible, permuted_, &maxima_[i], &sums_[i]);
      scattered_values(permuted_, visible, values, l_.v_dim, o_b_);
      sink_.add_block(i, block, maxima_[i], sums_[i], o_b_);
      seen_[i] = 0;
    }
  }

  const AttentionTile& t_;
  const KvLayout& l_;
  Sink& sink_;
  float *kf_, *vf_, *scores_, *permuted_, *maxima_, *sums_, *o_b_, *tail_scores_, *tail_values_ = nullptr;
  uint64_t* seen_;
  const float** q_;
};

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

// Sinks of BlockWalk. Blocks are merged as they come,
struct MergingSink {
  MergedQueries merged;
  void begin_block(int, int64_t first, int64_t n, const uint64_t* seen, const float* m_b, const float* l_b) {
    merged.begin_block(first, n, seen, m_b, l_b);
  }
  void values(int64_t i, int, const float* o_b) { merged.add(i, o_b); }
  MergedQueries::Adder adder(int64_t i, int) const { return merged.adder(i); }
  void done(int64_t i) { merged.added(i); }
  void add_block(int64_t i, int, float m_b, float l_b, const float* o_b) { merged.add_block(i, m_b, l_b, o_b); }
};

// or kept apart: a partial is [seen, m, l, padding, o...].
struct PartialSink {
  const AttentionTile& t;
  float* partials;
  int max_blocks;
  int64_t stride;
  float* at(int64_t i, int block) const { return partials + (t.output_of(i) * max_blocks + block) * stride; }
  void begin_block(int block, int64_t first, int64_t n, const uint64_t* seen, const float* m_b, const float* l_b) {
    for (int64_t i = first; i < first + n; ++i) {
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
  struct Adder {
    float* o;
    void put(int e, native::F o_b) const { native::store(o + e, o_b); }
  };
  Adder adder(int64_t i, int block) const { return {at(i, block) + 16}; }
  void done(int64_t) {}
  void add_block(int64_t i, int block, float m_b, float l_b, const float* o_b) {
    float* p = at(i, block);
    p[0] = 1.0f;
    p[1] = m_b;
    p[2] = l_b;
    values(i, block, o_b);
  }
};

// How the rows of a call are dealt to threads. Costs are in units of one query with one block.
struct AttentionPlan {
  int64_t tile_queries = 0;  // at most so many a tile, but at least one row
  int64_t tasks = 0;
  int max_blocks = 0;
  bool split = false;  // contexts too, into partials of fixed ranges of blocks
  int blocks_per_task = 1;
};

// Rows of one group are cut into equal tiles.
inline int64_t tiles_of(const AttnGroup& g, int heads_per_kv, int64_t tile_queries) {
  const int64_t rows = g.row_end - g.row_begin;
  const int64_t tile_rows = std::max<int64_t>(1, tile_queries / heads_per_kv);
  return (rows + tile_rows - 1) / tile_rows;
}
inline int64_t tile_row(const AttnGroup& g, int64_t tiles, int64_t tile) {
  return g.row_begin + (g.row_end - g.row_begin) * tile / tiles;
}

// Widening a tile takes as long as some queries.
inline double widening_cost(DType type) { return is_float(type) ? 1.5 : 30.0; }

inline AttentionPlan plan_attention(const AttentionArgs& a, int threads) {
  const KvLayout& l = a.layout;
  const int heads_per_kv = a.heads / l.n_kv_heads;
  const double widening = widening_cost(l.k_type) + widening_cost(l.v_type);
  const auto seen_from = [&](const AttnRow& row) {  // the first block that is seen, sinks aside
    const int first = a.window > 0 ? std::max(row.key_begin, row.ordinal - a.window + 1) : row.key_begin;
    return std::max(first, 0) / kPageKeys;
  };
  AttentionPlan plan;
  double blocks = 0, saved = 0;  // over all rows; saved: those that a row shares with the row before
  int64_t longest_group = 0;
  for (const AttnGroup& g : a.groups) {
    plan.max_blocks = std::max(plan.max_blocks, (g.max_keys + kPageKeys - 1) / kPageKeys);
    longest_group = std::max<int64_t>(longest_group, g.row_end - g.row_begin);
    for (int64_t r = g.row_begin; r < g.row_end; ++r) {
      const AttnRow& row = a.rows.raw()[r];
      blocks += blocks_of(row) - seen_from(row);
      saved += std::max(0, std::min(row.shared, blocks_of(row)) - seen_from(row));
    }
  }
  const int64_t rows = a.groups.back().row_end;
  const auto total_cost = [&](int64_t tiles) {
    const double together = static_cast<double>(rows - tiles) / static_cast<double>(rows);
    return l.n_kv_heads * (blocks * heads_per_kv + widening * (blocks - saved * together));
  };
  // Splitting deals the work evenly, but its partials are written and read again, which takes about a quarter of the
  // time, and must fit in memory.
  constexpr double kSplitCost = 1.25, kPartialFloats = 1 << 26;
  const bool may_split = threads > 1 && plan.max_blocks > 1 &&
                         static_cast<double>(rows * a.heads) * plan.max_blocks * (l.v_dim + 16) < kPartialFloats;
  double best = std::numeric_limits<double>::infinity();
  for (const int64_t queries : {1, 6, 12, 18, 24, 36, 48, 72, 96, 128}) {
    int64_t tiles = 0;
    for (const AttnGroup& g : a.groups) tiles += tiles_of(g, heads_per_kv, queries);
    const int64_t tasks = tiles * l.n_kv_heads;
    const double total = total_cost(tiles);
    const double whole = total / static_cast<double>(tasks) * static_cast<double>((tasks + threads - 1) / threads);
    const double split = may_split ? kSplitCost * total / threads : whole;
    if (std::min(whole, split) < best) {
      best = std::min(whole, split);
      plan.tile_queries = queries;
      plan.tasks = tasks;
      plan.split = split < whole;
    }
    if (queries >= longest_group * heads_per_kv) break;
  }
  const int64_t enough = int64_t{threads} * 4;
  plan.blocks_per_task = std::clamp(static_cast<int>(plan.max_blocks * plan.tasks / enough), 1, 8);
  return plan;
}

inline void attention(Queue& queue, const AttentionArgs& a) {
  CpuQueue& q = cpu(queue);
  const KvLayout& l = a.layout;
  const int heads_per_kv = a.heads / l.n_kv_heads;
  const AttentionPlan plan = plan_attention(a, q.pool().threads());
  // The last tiles of a group see most keys, and come first.
  const auto tile_of = [&](int64_t task) {
    task = plan.tasks - 1 - task;
    for (const AttnGroup& g : a.groups) {
      const int64_t tiles = tiles_of(g, heads_per_kv, plan.tile_queries);
      if (task < tiles * l.n_kv_heads) {
        const int64_t tile = task / l.n_kv_heads;
        return AttentionTile{a, tile_row(g, tiles, tile), tile_row(g, tiles, tile + 1),
                             static_cast<int>(task % l.n_kv_heads)};
      }
      task -= tiles * l.n_kv_heads;
    }
    return AttentionTile{a, 0, 0, 0};
  };

  if (!plan.split) {
    q.pool().parallel_for(plan.tasks, 1, [&](int64_t begin, int64_t end, int thread) {
      for (int64_t task = begin; task < end; ++task) {
        const AttentionTile t = tile_of(task);
        const size_t floats = BlockWalk<MergingSink>::scratch_floats(t);
        float* scratch = q.scratch(thread, floats + MergedQueries::floats(t.queries(), l.v_dim));
        MergingSink sink{MergedQueries(t.queries(), l.v_dim, scratch + floats)};
        BlockWalk<MergingSink>(t, scratch, sink).run(0, plan.max_blocks);
        for (int64_t i = 0; i < t.queries(); ++i) {
          write_output(a, t.output_of(i), sink.merged.state(i), sink.merged.values(i));
        }
      }
    });
    return;
  }

  // Few rows over a long context: partials of fixed ranges of blocks, then each query merges its own in block order.
  const int max_blocks = plan.max_blocks;
  const int64_t stride = l.v_dim + 16;
  const int64_t outputs = static_cast<int64_t>(a.groups.back().row_end) * a.heads;
  float* partials = q.shared_scratch(static_cast<size_t>(outputs * max_blocks * stride));
  const int64_t chunks = (max_blocks + plan.blocks_per_task - 1) / plan.blocks_per_task;
  q.pool().parallel_for(plan.tasks * chunks, 1, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t task = begin; task < end; ++task) {
      const AttentionTile t = tile_of(task / chunks);
      const int first = static_cast<int>(task % chunks) * plan.blocks_per_task;
      const int last = std::min(first + plan.blocks_per_task, max_blocks);
      for (int64_t i = 0; i < t.queries(); ++i) {
        for (int b = first; b < last; ++b) partials[(t.output_of(i) * max_blocks + b) * stride] = 0.0f;
      }
      PartialSink sink{t, partials, max_blocks, stride};
      BlockWalk<PartialSink>(t, q.scratch(thread, BlockWalk<PartialSink>::scratch_floats(t)), sink).run(first, last);
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
