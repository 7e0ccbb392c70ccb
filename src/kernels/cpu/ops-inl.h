// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Everything but matrix products and attention. Included once per target (table_target.h).

inline CpuQueue& cpu(Queue& queue) { return static_cast<CpuQueue&>(queue); }

// Rows given to a thread at a time, so that a region is worth its start.
inline int64_t row_grain(int64_t floats_per_row) {
  return std::max<int64_t>(1, 8192 / std::max<int64_t>(1, floats_per_row));
}

inline float weight_at(const Weight& w, const uint8_t* group, int64_t col, int row) {
  const WeightLayout& l = w.layout;
  if (!l.quantized) {
    const int64_t i = col * kGroupRows + row;
    if (l.float_type == DType::kF32) return reinterpret_cast<const float*>(group)[i];
    const uint16_t h = reinterpret_cast<const uint16_t*>(group)[i];
    return l.float_type == DType::kF16 ? half_to_float(h) : bf16_to_float(h);
  }
  const int64_t b = col / kBlockCols;
  const uint8_t* block = group + l.block_offset(b);
  const int c = static_cast<int>(col % kBlockCols);
  const int lane = 4 * row + c % 4;
  int code;
  if (l.bits == 8) {
    code = block[(c / 4) * 64 + lane];
  } else {
    const uint8_t byte = block[((c % 16) / 4) * 64 + lane];
    code = c < 16 ? byte & 15 : byte >> 4;
    if (l.bits == 5) code |= (block[256 + lane] >> (c / 4) & 1) << 4;
    if (l.bits == 6) code |= (block[256 + 64 * (c / 16) + lane] >> (2 * (c % 16 / 4)) & 3) << 4;
    if (l.table != CodeTable::kNone) code = (l.table == CodeTable::kIq4 ? kIq4Values : kMxfp4Values)[code] + 128;
  }
  const auto number = [&](const uint8_t* p, const uint8_t* header) {
    const int i = c / l.sub * kGroupRows + row;
    switch (l.scales) {
      case ScaleKind::kF32: return reinterpret_cast<const float*>(p)[i];
      case ScaleKind::kF16: return half_to_float(reinterpret_cast<const uint16_t*>(p)[i]);
      default: return half_to_float(reinterpret_cast<const uint16_t*>(header)[row]) * static_cast<int8_t>(p[i]);
    }
  };
  const float u = static_cast<float>(code - l.zero);
  const uint8_t* scales = block + l.code_bytes();
  const uint8_t* header = group + l.header_offset(b);
  const float s = number(scales, header);
  return l.has_min ? std::fma(s, u, number(scales + l.scale_bytes(), header + 2 * kGroupRows)) : s * u;
}

inline void embed(Queue& queue, const Weight& w, DevPtr<const int32_t> tokens, int64_t rows, float scale,
                  DevPtr<float> out) {
  cpu(queue).pool().parallel_for(rows, row_grain(w.cols), [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t token = tokens.raw()[r];
      if (token < 0) continue;
      const uint8_t* group = w.data.raw() + static_cast<size_t>(token / kGroupRows) * w.layout.group_bytes(w.cols);
      float* y = out.raw() + r * w.cols;
      for (int64_t c = 0; c < w.cols; ++c) y[c] = weight_at(w, group, c, static_cast<int>(token % kGroupRows)) * scale;
    }
  });
}

inline void rms_norm_row(const float* x, const float* weight, float eps, int64_t dim, float* y) {
  F sum = set1(0.0f);
  int64_t i = 0;
  for (; i + 16 <= dim; i += 16) {
    const F v = load(x + i);
    sum = fma(v, v, sum);
  }
  if (i < dim) {
    float tail[16] = {};
    std::memcpy(tail, x + i, static_cast<size_t>(dim - i) * sizeof(float));
    const F v = load(tail);
    sum = select_lanes(first_lanes(dim - i), fma(v, v, sum), sum);
  }
  const float mean = reduce_add(sum) * (1.0f / static_cast<float>(dim));
  const float scale = 1.0f / std::sqrt(mean + eps);
  const F s = set1(scale);
  for (i = 0; i + 16 <= dim; i += 16) store(y + i, load(x + i) * s * load(weight + i));
  for (; i < dim; ++i) y[i] = (x[i] * scale) * weight[i];
}

inline void rms_norm(Queue& queue, DevPtr<const float> x, DevPtr<const float> weight, float eps, int64_t rows,
                     int64_t dim, DevPtr<float> y) {
  cpu(queue).pool().parallel_for(rows, row_grain(dim), [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) rms_norm_row(x.raw() + r * dim, weight.raw(), eps, dim, y.raw() + r * dim);
  });
}

inline void layer_norm(Queue& queue, const LayerNormArgs& a) {
  const int64_t dim = a.dim, whole = dim / 16 * 16;
  const float inverse = 1.0f / static_cast<float>(dim);
  const auto lanes_of = [&](const float* row, int64_t i) {
    if (i < whole) return load(row + i);
    float padded[16] = {};
    std::memcpy(padded, row + i, static_cast<size_t>(dim - i) * sizeof(float));
    return load(padded);
  };
  cpu(queue).pool().parallel_for(a.rows, row_grain(dim), [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      const float* x = a.x.raw() + r * dim;
      float* y = a.y.raw() + r * dim;
      F sum = set1(0.0f);
      for (int64_t i = 0; i < dim; i += 16) {
        sum = select_lanes(first_lanes(dim - i), sum + lanes_of(x, i), sum);
      }
      const F mean = set1(reduce_add(sum) * inverse);
      sum = set1(0.0f);
      for (int64_t i = 0; i < dim; i += 16) {
        const F d = lanes_of(x, i) - mean;
        sum = select_lanes(first_lanes(dim - i), fma(d, d, sum), sum);
      }
      const F scale = set1(1.0f / std::sqrt(reduce_add(sum) * inverse + a.eps));
      for (int64_t i = 0; i < dim; i += 16) {
        const F d = (lanes_of(x, i) - mean) * scale;
        const F w = lanes_of(a.weight.raw(), i);
        const F v = a.bias ? fma(d, w, lanes_of(a.bias.raw(), i)) : d * w;
        if (i < whole) {
          store(y + i, v);
        } else {
          float padded[16];
          store(padded, v);
          std::memcpy(y + i, padded, static_cast<size_t>(dim - i) * sizeof(float));
        }
      }
    }
  });
}

// One block of one of `rows` rows.
inline void quantize_block(const float* x, int8_t* q, int64_t row, int64_t block, int64_t rows,
                           const QuantizedRows& out) {
  const F a = load(x);
  const F b = load(x + 16);
  const F zero = set1(0.0f);
  // NaN loses every comparison, so it does not count.
  const F peak = max(max(a, neg(a)), max(max(b, neg(b)), zero));
  const float amax = reduce_max(max(peak, zero));
  const float scale = amax / 127.0f;
  const F inverse = set1(amax > 0.0f ? 127.0f / amax : 0.0f);
  const int sums[2] = {store_codes(q, rint(a * inverse)), store_codes(q + 16, rint(b * inverse))};
  for (int h = 0; h < 2; ++h) {
    out.sum16.raw()[(2 * block + h) * rows + row] = sums[h];
    out.ds16.raw()[(2 * block + h) * rows + row] = scale * static_cast<float>(sums[h]);
  }
  out.d.raw()[block * rows + row] = scale;
  out.ds32.raw()[block * rows + row] = scale * static_cast<float>(sums[0] + sums[1]);
}

inline void rope(Queue& queue, const RopeArgs& a) {
  const int half = a.rot_dim / 2;
  cpu(queue).pool().parallel_for(a.rows, row_grain(int64_t{a.heads} * a.head_dim),
                                 [&](int64_t begin, int64_t end, int) {
                                   for (int64_t r = begin; r < end; ++r) {
                                     const float* cos = a.cos.raw() + r * half;
                                     const float* sin = a.sin.raw() + r * half;
                                     for (int h = 0; h < a.heads; ++h) {
                                       float* x = a.x.raw() + (r * a.heads + h) * a.head_dim;
                                       if (a.interleaved) {
                                         for (int i = 0; i < half; ++i) {
                                           const float u = x[2 * i];
                                           const float v = x[2 * i + 1];
                                           x[2 * i] = std::fma(u, cos[i], -(v * sin[i]));
                                           x[2 * i + 1] = std::fma(u, sin[i], v * cos[i]);
                                         }
                                       } else {
                                         int i = 0;
                                         for (; i + 16 <= half; i += 16) {
                                           const F u = load(x + i);
                                           const F v = load(x + half + i);
                                           const F c = load(cos + i);
                                           const F s = load(sin + i);
                                           store(x + i, fma(u, c, neg(v * s)));
                                           store(x + half + i, fma(u, s, v * c));
                                         }
                                         for (; i < half; ++i) {
                                           const float u = x[i];
                                           const float v = x[half + i];
                                           x[i] = std::fma(u, cos[i], -(v * sin[i]));
                                           x[half + i] = std::fma(u, sin[i], v * cos[i]);
                                         }
                                       }
                                     }
                                   }
                                 });
}

// Calls body(F lanes) -> F on n floats; the tail runs through a padded copy.
template <typename Body>
inline void map_floats(Queue& queue, int64_t n, const Body& body) {
  cpu(queue).pool().parallel_for((n + 15) / 16, 256, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin * 16; i < std::min(end * 16, n); i += 16) body(i, std::min<int64_t>(16, n - i));
  });
}

inline F load_n(const float* p, int64_t n) {
  if (n == 16) return load(p);
  float padded[16] = {};
  std::memcpy(padded, p, static_cast<size_t>(n) * sizeof(float));
  return load(padded);
}

inline void store_n(float* p, F v, int64_t n) {
  if (n == 16) return store(p, v);
  float padded[16];
  store(padded, v);
  std::memcpy(p, padded, static_cast<size_t>(n) * sizeof(float));
}

inline F activate(Activation activation, F x) {
  const F one = set1(1.0f);
  switch (activation) {
    case Activation::kSilu: return x / (one + exp(neg(x)));
    case Activation::kQuickGelu: return x / (one + exp(set1(-1.702f) * x));
    case Activation::kRelu: return select_lanes(less(x, set1(0.0f)), set1(0.0f), x);
    case Activation::kGelu: {
      const F z = max(x, neg(x)) * set1(0.707106781186547524f);
      const F t = one / fma(set1(0.5f), z, one);
      F p = set1(kErfc[0]);
      for (int i = 1; i < 10; ++i) p = fma(p, t, set1(kErfc[i]));
      const F half = set1(0.5f) * (t * exp(fma(neg(z), z, p)));
      return x * select_lanes(less(x, set1(0.0f)), half, one - half);
    }
    default: break;
  }
  const F cubic = set1(0.044715f) * x * x;
  const F u = set1(0.797884560802865356f) * fma(cubic, x, x);
  return x / (one + exp(set1(-2.0f) * u));
}

inline void glu(Queue& queue, Activation activation, DevPtr<const float> gate, DevPtr<const float> up, int64_t n,
                DevPtr<float> y) {
  map_floats(queue, n, [&](int64_t i, int64_t lanes) {
    store_n(y.raw() + i, activate(activation, load_n(gate.raw() + i, lanes)) * load_n(up.raw() + i, lanes), lanes);
  });
}

inline void activate(Queue& queue, Activation activation, int64_t n, DevPtr<float> x) {
  map_floats(queue, n, [&](int64_t i, int64_t lanes) {
    store_n(x.raw() + i, activate(activation, load_n(x.raw() + i, lanes)), lanes);
  });
}

inline void quantize(Queue& queue, const QuantizeArgs& a) {
  CpuQueue& q = cpu(queue);
  const int64_t blocks = a.cols / kBlockCols;
  const auto quantize_row = [&](const float* h, int64_t r, int64_t from, int64_t to) {
    for (int64_t b = from; b < to; ++b) {
      quantize_block(h + b * kBlockCols, a.out.q.raw() + r * a.cols + b * kBlockCols, r, b, a.rows, a.out);
    }
  };
  if (!a.norm) {
    // Few rows are shared by blocks.
    const int64_t parts = a.rows == 1 ? (blocks + 511) / 512 : 1;
    q.pool().parallel_for(a.rows * parts, parts > 1 ? 1 : row_grain(a.cols), [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t r = i / parts, part = i % parts;
        quantize_row(a.x.raw() + r * a.cols, r, part * 512, parts == 1 ? blocks : std::min(blocks, part * 512 + 512));
        if (part == 0 && a.h && a.h.raw() != a.x.raw()) {
          std::memcpy(a.h.raw() + r * a.cols, a.x.raw() + r * a.cols, static_cast<size_t>(a.cols) * sizeof(float));
        }
      }
    });
    return;
  }
  q.pool().parallel_for(a.rows, row_grain(a.cols), [&](int64_t begin, int64_t end, int thread) {
    float* own = a.h ? nullptr : q.scratch(thread, static_cast<size_t>(a.cols));
    for (int64_t r = begin; r < end; ++r) {
      float* h = a.h ? a.h.raw() + r * a.cols : own;
      rms_norm_row(a.x.raw() + r * a.cols, a.norm.raw(), a.eps, a.cols, h);
      quantize_row(h, r, 0, blocks);
    }
  });
}

inline void add(Queue& queue, DevPtr<const float> x, int64_t n, DevPtr<float> y) {
  map_floats(queue, n, [&](int64_t i, int64_t lanes) {
    store_n(y.raw() + i, load_n(y.raw() + i, lanes) + load_n(x.raw() + i, lanes), lanes);
  });
}

inline F cap_lanes(F x, float cap) {
  const F one = set1(1.0f);
  const F z = x / set1(cap);
  return set1(cap) * (one - set1(2.0f) / (one + exp(set1(2.0f) * z)));
}

inline void soft_cap(Queue& queue, float cap, int64_t n, DevPtr<float> x) {
  map_floats(queue, n, [&](int64_t i, int64_t lanes) {
    store_n(x.raw() + i, cap_lanes(load_n(x.raw() + i, lanes), cap), lanes);
  });
}

inline void gather_rows(Queue& queue, DevPtr<const float> x, DevPtr<const int32_t> index, int64_t rows, int64_t dim,
                        DevPtr<float> out) {
  cpu(queue).pool().parallel_for(rows, row_grain(dim), [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      std::memcpy(out.raw() + r * dim, x.raw() + index.raw()[r] * dim, static_cast<size_t>(dim) * sizeof(float));
    }
  });
}

inline void add_rows(Queue& queue, const AddRowsArgs& a) {
  cpu(queue).pool().parallel_for(a.n, row_grain(a.dim), [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      const F scale = set1(a.scale.raw()[r]);
      const float* x = a.x.raw() + r * a.dim;
      float* y = a.y.raw() + a.index.raw()[r] * a.dim;
      for (int64_t i = 0; i < a.dim; i += 16) {
        const int64_t lanes = std::min<int64_t>(16, a.dim - i);
        store_n(y + i, fma(scale, load_n(x + i, lanes), load_n(y + i, lanes)), lanes);
      }
    }
  });
}
