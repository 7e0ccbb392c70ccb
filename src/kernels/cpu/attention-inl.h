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
  F acc[kCount][4];
  for (auto& row : acc) {
    for (F& a : row) a = set1(0.0f);
  }
  for (int d = 0; d < dim; ++d) {
    const F k0 = load(k + d * kPageKeys);
    const F k1 = load(k + d * kPageKeys + 16);
    const F k2 = load(k + d * kPageKeys + 32);
    const F k3 = load(k + d * kPageKeys + 48);
    for (int i = 0; i < kCount; ++i) {
      const F x = set1(q[i][d]);
      acc[i][0] = fma(x, k0, acc[i][0]);
      acc[i][1] = fma(x, k1, acc[i][1]);
      acc[i][2] = fma(x, k2, acc[i][2]);
      acc[i][3] = fma(x, k3, acc[i][3]);
    }
  }
  for (int i = 0; i < kCount; ++i) {
    for (int j = 0; j < 4; ++j) store(scores + i * kPageKeys + 16 * j, acc[i][j]);
  }
}

inline void dot_tiles(const float* const* q, int64_t n, const float* k, int dim, float* scores) {
  int64_t i = 0;
  for (; i + 4 <= n; i += 4) dot_tile<4>(q + i, k, dim, scores + i * kPageKeys);
  for (; i < n; ++i) dot_tile<1>(q + i, k, dim, scores + i * kPageKeys);
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
  F top = lowest;
  for (int j = 0; j < 4; ++j) {
    v[j] = scale * load(s + 16 * j);
    if (a.soft_cap > 0.0f) v[j] = cap_lanes(v[j], a.soft_cap);
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

// o_b = sum over the visible keys, in order, of p_j * value j.
template <int kVectors, typename Row>
inline void weighted_values(const float* p, uint64_t visible, const Row& value, int e, float* o) {
  F acc[kVectors];
  for (F& x : acc) x = set1(0.0f);
  for (uint64_t rest = visible; rest != 0; rest &= rest - 1) {
    const int j = std::countr_zero(rest);
    const float* v = value(j) + e;
    const F x = set1(p[j]);
    for (int i = 0; i < kVectors; ++i) acc[i] = fma(x, load(v + 16 * i), acc[i]);
  }
  for (int i = 0; i < kVectors; ++i) store(o + e + 16 * i, acc[i]);
}

template <typename Row>
inline void weighted_values(const float* p, uint64_t visible, const Row& value, int dim, float* o) {
  int e = 0;
  for (; e + 128 <= dim; e += 128) weighted_values<8>(p, visible, value, e, o);
  for (; e + 64 <= dim; e += 64) weighted_values<4>(p, visible, value, e, o);
  for (; e < dim; e += 16) weighted_values<1>(p, visible, value, e, o);
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

// Calls emit(query, block, m_b, l_b, o_b) for every query of the tile and every block in [block_begin, block_end) that
// it sees, block by block in order. `scratch` holds scratch_floats() floats.
inline size_t tile_scratch_floats(const AttentionTile& t, const Tail& tail) {
  const auto q = static_cast<size_t>(t.queries());
  const auto k = static_cast<size_t>(t.a.layout.k_dim);
  const auto v = static_cast<size_t>(t.a.layout.v_dim);
  return (k + 1) * kPageKeys + k + v * kPageKeys + q * kPageKeys + kPageKeys + v +
         static_cast<size_t>(tail.pages) * kPageKeys * (q + v) + 64;
}

template <typename Emit>
inline void attend_blocks(const AttentionTile& t, const Tail& tail, int block_begin, int block_end, float* scratch,
                          const Emit& emit) {
  const KvLayout& l = t.a.layout;
  const int64_t n = t.queries();
  float* kf = scratch;
  float* vf = kf + (l.k_dim + 1) * kPageKeys + l.k_dim;
  float* scores = vf + int64_t{l.v_dim} * kPageKeys;                       // [n][64]
  float* permuted = scores + n * kPageKeys;                                // [64]
  float* o_b = permuted + kPageKeys;                                       // [v_dim]
  float* tail_scores = o_b + l.v_dim;                                      // [pages][n][64]
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

  for (int block = block_begin; block < block_end; ++block) {
    const int begin = block * kPageKeys;
    bool widened = false;
    const float* v = nullptr;
    for (int64_t i = 0; i < n; ++i) {
      const AttnRow& row = t.row_of(i);
      const uint64_t visible = visible_keys(t.a, row, begin);
      if (visible == 0) continue;
      float m_b, l_b;
      if (std::min(row.n_keys, begin + kPageKeys) > row.identity) {
        const float* values[kPageKeys];
        for (uint64_t rest = visible; rest != 0; rest &= rest - 1) {
          const int j = std::countr_zero(rest);
          const int slot = t.slot(row, begin + j);
          const int page = slot / kPageKeys - tail.first_page;
          permuted[j] = tail_scores[(int64_t{page} * n + i) * kPageKeys + slot % kPageKeys];
          values[j] = tail_values + (int64_t{page} * kPageKeys + slot % kPageKeys) * l.v_dim;
        }
        block_softmax(t.a, visible, permuted, &m_b, &l_b);
        weighted_values(
            permuted, visible, [&](int j) { return values[j]; }, l.v_dim, o_b);
      } else {
        if (!widened) {
          scores_of(widen_k(l, t.k_tile(any_row, block), kf), scores);
          v = widen_v(l, t.v_tile(any_row, block), vf);
          widened = true;
        }
        float* s = scores + i * kPageKeys;
        block_softmax(t.a, visible, s, &m_b, &l_b);
        weighted_values(
            s, visible, [&](int j) { return v + int64_t{j} * l.v_dim; }, l.v_dim, o_b);
      }
      emit(i, block, m_b, l_b, o_b);
    }
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

inline void attention(Queue& queue, const AttentionArgs& a) {
  constexpr int kBlocksPerTask = 8;  // of a long context that is split over threads
  CpuQueue& q = cpu(queue);
  const KvLayout& l = a.layout;
  const int heads_per_kv = a.heads / l.n_kv_heads;
  const int64_t tile_rows = std::max(1, 32 / heads_per_kv);
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

  const bool split = tasks < int64_t{q.pool().threads()} * 4 && q.pool().threads() > 1 && max_blocks > kBlocksPerTask;
  if (!split) {
    q.pool().parallel_for(tasks, 1, [&](int64_t begin, int64_t end, int thread) {
      for (int64_t task = begin; task < end; ++task) {
        const AttentionTile t = tile_of(task);
        const Tail tail = tail_of(t);
        const size_t floats = tile_scratch_floats(t, tail);
        const auto n = static_cast<size_t>(t.queries());
        float* scratch =
            q.scratch(thread, floats + n * static_cast<size_t>(l.v_dim) + n * sizeof(Merged) / sizeof(float) + 16);
        float* o = scratch + floats;
        auto* states = reinterpret_cast<Merged*>(o + n * static_cast<size_t>(l.v_dim));
        for (size_t i = 0; i < n; ++i) new (states + i) Merged{};
        attend_blocks(t, tail, 0, blocks_of(t), scratch, [&](int64_t i, int, float m_b, float l_b, const float* o_b) {
          merge_block(states + i, o + i * l.v_dim, m_b, l_b, o_b, l.v_dim);
        });
        for (size_t i = 0; i < n; ++i) {
          write_output(a, t.output_of(static_cast<int64_t>(i)), states[i], o + i * static_cast<size_t>(l.v_dim));
        }
      }
    });
    return;
  }

  // Few rows over a long context: partials of fixed ranges of blocks, then each query merges its own in block order. A
  // partial is [seen, m, l, padding, o...].
  const int64_t stride = l.v_dim + 16;
  const int64_t outputs = static_cast<int64_t>(a.groups.back().row_end) * a.heads;
  float* partials = q.shared_scratch(static_cast<size_t>(outputs * max_blocks * stride));
  const int64_t chunks = (max_blocks + kBlocksPerTask - 1) / kBlocksPerTask;
  q.pool().parallel_for(tasks * chunks, 1, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t task = begin; task < end; ++task) {
      const AttentionTile t = tile_of(task / chunks);
      const Tail tail = tail_of(t);
      const int first = static_cast<int>(task % chunks) * kBlocksPerTask;
      const int last = std::min(first + kBlocksPerTask, max_blocks);
      for (int64_t i = 0; i < t.queries(); ++i) {
        for (int b = first; b < last; ++b) partials[(t.output_of(i) * max_blocks + b) * stride] = 0.0f;
      }
      float* scratch = q.scratch(thread, tile_scratch_floats(t, tail));
      attend_blocks(t, tail, first, std::min(last, blocks_of(t)), scratch,
                    [&](int64_t i, int b, float m_b, float l_b, const float* o_b) {
                      float* p = partials + (t.output_of(i) * max_blocks + b) * stride;
                      p[0] = 1.0f;
                      p[1] = m_b;
                      p[2] = l_b;
                      std::memcpy(p + 16, o_b, static_cast<size_t>(l.v_dim) * sizeof(float));
                    });
    }
  });
  q.pool().parallel_for(outputs, 1, [&](int64_t begin, int64_t end, int thread) {
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
