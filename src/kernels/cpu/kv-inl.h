// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Writing and moving cached keys and values (layout in table.h). Included once per target (table_target.h).

// Encodes a row of a block type. A value that the type cannot hold becomes NaN, which the sampler reports.
inline void encode_blocks(DType type, const float* x, int n, uint8_t* out) {
  if (!quantize_row(type, x, out, n).ok()) std::memset(out, 0xff, row_bytes(type, n));
}

// n floats to halves.
inline void to_halves(const float* x, int n, uint16_t* out) {
  int i = 0;
  for (; i + 16 <= n; i += 16) store_half(out + i, load(x + i));
  for (; i < n; ++i) out[i] = float_to_half(x[i]);
}

template <typename T>
inline void scatter_key(const T* x, int n, T* tile, int key) {
  for (int d = 0; d < n; ++d) tile[d * kPageKeys + key] = x[d];
}

inline void write_key(const KvLayout& l, const float* k, uint8_t* tile, int key) {
  auto* halves = reinterpret_cast<uint16_t*>(tile);
  switch (l.k_type) {
    case DType::kF32: return scatter_key(k, l.k_dim, reinterpret_cast<float*>(tile), key);
    case DType::kF16:
      for (int d = 0; d < l.k_dim; d += 64) {
        uint16_t part[64];
        const int n = std::min(64, l.k_dim - d);
        to_halves(k + d, n, part);
        scatter_key(part, n, halves + d * kPageKeys, key);
      }
      return;
    case DType::kBF16:
      for (int d = 0; d < l.k_dim; ++d) halves[d * kPageKeys + key] = float_to_bf16(k[d]);
      return;
    default: return encode_blocks(l.k_type, k, l.k_dim, tile + static_cast<size_t>(key) * row_bytes(l.k_type, l.k_dim));
  }
}

inline void write_value(const KvLayout& l, const float* v, uint8_t* tile, int key) {
  uint8_t* row = tile + static_cast<size_t>(key) * row_bytes(l.v_type, l.v_dim);
  switch (l.v_type) {
    case DType::kF32: std::memcpy(row, v, static_cast<size_t>(l.v_dim) * sizeof(float)); return;
    case DType::kF16: return to_halves(v, l.v_dim, reinterpret_cast<uint16_t*>(row));
    case DType::kBF16:
      for (int e = 0; e < l.v_dim; ++e) reinterpret_cast<uint16_t*>(row)[e] = float_to_bf16(v[e]);
      return;
    default: return encode_blocks(l.v_type, v, l.v_dim, row);
  }
}

inline uint8_t* tile_at(const KvLayout& l, uint8_t* pool, int32_t slot, int head) {
  return pool + static_cast<size_t>(slot / kPageKeys) * l.page_bytes() +
         static_cast<size_t>(head) * (l.k_tile_bytes() + l.v_tile_bytes());
}

inline void kv_write(Queue& queue, const KvWriteArgs& a) {
  const KvLayout& l = a.layout;
  // Heads are apart in memory, so threads that take heads never share a cache line of a transposed tile.
  cpu(queue).pool().parallel_for(
      l.n_kv_heads, a.rows * l.n_kv_heads >= 16 ? 1 : l.n_kv_heads, [&](int64_t begin, int64_t end, int) {
        for (int64_t head = begin; head < end; ++head) {
          for (int64_t row = 0; row < a.rows; ++row) {
            const int32_t slot = a.slots.raw()[row];
            uint8_t* tile = tile_at(l, a.pool.raw(), slot, static_cast<int>(head));
            const int64_t i = row * l.n_kv_heads + head;
            write_key(l, a.k.raw() + i * l.k_dim, tile, slot % kPageKeys);
            write_value(l, a.v.raw() + i * l.v_dim, tile + l.k_tile_bytes(), slot % kPageKeys);
          }
        }
      });
}

inline void kv_move(Queue&, const KvMoveArgs& a) {
  const KvLayout& l = a.layout;
  const bool k_transposed = is_float(l.k_type);
  const size_t k_element = k_transposed ? static_cast<size_t>(dtype_info(l.k_type).bytes) : 0;
  const size_t k_row = row_bytes(l.k_type, l.k_dim);
  const size_t v_row = row_bytes(l.v_type, l.v_dim);
  for (int64_t j = 0; j < a.n; ++j) {
    const int32_t from = a.from.raw()[j];
    const int32_t to = a.to.raw()[j];
    const auto src = static_cast<size_t>(from % kPageKeys);
    const auto dst = static_cast<size_t>(to % kPageKeys);
    for (int head = 0; head < l.n_kv_heads; ++head) {
      const uint8_t* a_tile = tile_at(l, a.pool.raw(), from, head);
      uint8_t* b_tile = tile_at(l, a.pool.raw(), to, head);
      if (k_transposed) {
        for (size_t d = 0; d < static_cast<size_t>(l.k_dim); ++d) {
          std::memcpy(b_tile + (d * kPageKeys + dst) * k_element, a_tile + (d * kPageKeys + src) * k_element,
                      k_element);
        }
      } else {
        std::memmove(b_tile + dst * k_row, a_tile + src * k_row, k_row);
      }
      std::memmove(b_tile + l.k_tile_bytes() + dst * v_row, a_tile + l.k_tile_bytes() + src * v_row, v_row);
    }
  }
}
