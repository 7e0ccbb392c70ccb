// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// The small ops: each against double arithmetic, and each table's bits against the formula of table.h.
#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cmath>
#include <numbers>

#include "kernels/test_util.h"

namespace decant {
namespace {

using namespace kernel_testing;

constexpr Activation kActivations[] = {Activation::kSilu, Activation::kGeluTanh, Activation::kGelu, Activation::kRelu,
                                       Activation::kQuickGelu};

float spec_activation(Activation activation, float x) {
  if (activation == Activation::kSilu) return x / (1.0f + spec_exp(-x));
  if (activation == Activation::kQuickGelu) return x / (1.0f + spec_exp(-1.702f * x));
  if (activation == Activation::kRelu) return x < 0 ? 0.0f : x;
  if (activation == Activation::kGelu) {
    const float z = std::fabs(x) * 0.707106781186547524f;
    const float t = 1.0f / std::fma(0.5f, z, 1.0f);
    float p = kErfc[0];
    for (int i = 1; i < 10; ++i) p = std::fma(p, t, kErfc[i]);
    const float half = 0.5f * (t * spec_exp(std::fma(-z, z, p)));
    return x * (x < 0 ? half : 1.0f - half);
  }
  const float u = 0.797884560802865356f * std::fma(0.044715f * x * x, x, x);
  return x / (1.0f + spec_exp(-2.0f * u));
}

double true_activation(Activation activation, double x) {
  if (activation == Activation::kSilu) return x / (1.0 + std::exp(-x));
  if (activation == Activation::kQuickGelu) return x / (1.0 + std::exp(-1.702 * x));
  if (activation == Activation::kRelu) return std::max(0.0, x);
  if (activation == Activation::kGelu) return 0.5 * x * std::erfc(-x / std::numbers::sqrt2);
  return 0.5 * x * (1.0 + std::tanh(std::sqrt(2.0 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
}

// Lengths around the 16 lanes, and long enough for several threads.
constexpr size_t kLengths[] = {1, 15, 16, 17, 40, 10007};

std::vector<float> interesting_floats(size_t n) {
  std::vector<float> x = Random(n).normals(n, 4.0f);
  const float special[] = {0.0f,  -0.0f,  1e-40f, -1e-20f, 30.0f,   -30.0f,
                           86.9f, -87.5f, 88.5f,  -100.0f, 1000.0f, -1000.0f};
  for (size_t i = 0; i < n && i < std::size(special); ++i) x[(i * 7) % n] = special[i];
  return x;
}

class OpsOfTable : public ::testing::TestWithParam<std::string> {};

TEST_P(OpsOfTable, GluIsActivationTimesUp) {
  for (Activation activation : kActivations) {
    for (size_t n : kLengths) {
      const std::vector<float> gate = interesting_floats(n);
      const std::vector<float> up = Random(3).normals(n);
      std::vector<float> want(n);
      for (size_t i = 0; i < n; ++i) {
        const float a = spec_activation(activation, gate[i]);
        const double truth = true_activation(activation, gate[i]);
        // Around zero the result is tiny: absolute there.
        ASSERT_NEAR(a, truth, 1e-6 * std::fabs(truth) + 1e-6) << gate[i];
        want[i] = a * up[i];
      }
      for (int threads : {1, 3}) {
        auto device = device_of(GetParam(), threads);
        const DeviceBuffer g = upload(*device, gate), u = upload(*device, up), y = allocate(*device, n * 4);
        device->table().glu(device->queue(), activation, g.ptr<float>(), u.ptr<float>(), static_cast<int64_t>(n),
                            y.ptr<float>());
        EXPECT_TRUE(same_bits(download<float>(*device, y, n), want)) << n;
        // In place, as the engine runs it.
        device->table().glu(device->queue(), activation, g.ptr<float>(), u.ptr<float>(), static_cast<int64_t>(n),
                            g.ptr<float>());
        EXPECT_TRUE(same_bits(download<float>(*device, g, n), want)) << n << " in place";
        for (size_t i = 0; i < n; ++i) want[i] = spec_activation(activation, gate[i]);
        const DeviceBuffer x = upload(*device, gate);
        device->table().activate(device->queue(), activation, static_cast<int64_t>(n), x.ptr<float>());
        EXPECT_TRUE(same_bits(download<float>(*device, x, n), want)) << n << " alone";
        for (size_t i = 0; i < n; ++i) want[i] *= up[i];
      }
    }
  }
}

TEST_P(OpsOfTable, SoftCapIsTanh) {
  for (float cap : {1.0f, 30.0f}) {
    for (size_t n : kLengths) {
      const std::vector<float> x = interesting_floats(n);
      std::vector<float> want(n);
      for (size_t i = 0; i < n; ++i) {
        want[i] = cap * (1.0f - 2.0f / (1.0f + spec_exp(2.0f * (x[i] / cap))));
        ASSERT_NEAR(want[i], cap * std::tanh(static_cast<double>(x[i]) / cap), 3e-7 * cap) << x[i];
      }
      auto device = device_of(GetParam(), 2);
      const DeviceBuffer b = upload(*device, x);
      device->table().soft_cap(device->queue(), cap, static_cast<int64_t>(n), b.ptr<float>());
      EXPECT_TRUE(same_bits(download<float>(*device, b, n), want)) << n;
    }
  }
}

TEST_P(OpsOfTable, AddAdds) {
  for (size_t n : kLengths) {
    const std::vector<float> x = Random(1).normals(n), y = Random(2).normals(n);
    std::vector<float> want(n);
    for (size_t i = 0; i < n; ++i) want[i] = y[i] + x[i];
    auto device = device_of(GetParam(), 2);
    const DeviceBuffer a = upload(*device, x), b = upload(*device, y);
    device->table().add(device->queue(), a.ptr<float>(), static_cast<int64_t>(n), b.ptr<float>());
    EXPECT_TRUE(same_bits(download<float>(*device, b, n), want)) << n;
  }
}

TEST_P(OpsOfTable, RmsNormSumsInSixteenLanes) {
  constexpr float kEps = 1e-5f;
  for (size_t dim : {size_t{1}, size_t{15}, size_t{16}, size_t{33}, size_t{64}, size_t{576}, size_t{1152}}) {
    const size_t rows = 5;
    std::vector<float> x = Random(dim).normals(rows * dim, 2.0f);
    for (size_t i = 0; i < dim; ++i) x[dim + i] = 0.0f;  // a row of zeros
    const std::vector<float> weight = Random(9).normals(dim);
    std::vector<float> want(rows * dim);
    for (size_t r = 0; r < rows; ++r) {
      float lane[16] = {};
      double sum = 0;
      for (size_t i = 0; i < dim; ++i) {
        const float v = x[r * dim + i];
        lane[i % 16] = std::fma(v, v, lane[i % 16]);
        sum += static_cast<double>(v) * v;
      }
      for (size_t half = 8; half > 0; half /= 2) {
        for (size_t i = 0; i < half; ++i) lane[i] = lane[i] + lane[i + half];
      }
      const float scale = 1.0f / std::sqrt(lane[0] * (1.0f / static_cast<float>(dim)) + kEps);
      const double true_scale = 1.0 / std::sqrt(sum / static_cast<double>(dim) + kEps);
      for (size_t i = 0; i < dim; ++i) {
        want[r * dim + i] = (x[r * dim + i] * scale) * weight[i];
        const double truth = x[r * dim + i] * true_scale * weight[i];
        ASSERT_NEAR(want[r * dim + i], truth, 2e-6 * std::fabs(truth));
      }
    }
    for (int threads : {1, 3}) {
      auto device = device_of(GetParam(), threads);
      const DeviceBuffer b = upload(*device, x), w = upload(*device, weight), y = allocate(*device, x.size() * 4);
      const auto n = static_cast<int64_t>(rows);
      const auto d = static_cast<int64_t>(dim);
      device->table().rms_norm(device->queue(), b.ptr<float>(), w.ptr<float>(), kEps, n, d, y.ptr<float>());
      EXPECT_TRUE(same_bits(download<float>(*device, y, x.size()), want)) << dim;
      device->table().rms_norm(device->queue(), b.ptr<float>(), w.ptr<float>(), kEps, n, d, b.ptr<float>());
      EXPECT_TRUE(same_bits(download<float>(*device, b, x.size()), want)) << dim << " in place";
    }
  }
}

TEST_P(OpsOfTable, LayerNormSumsInSixteenLanes) {
  constexpr float kEps = 1e-5f;
  const auto reduce = [](std::array<float, 16> lane) {
    for (size_t half = 8; half > 0; half /= 2) {
      for (size_t i = 0; i < half; ++i) lane[i] = lane[i] + lane[i + half];
    }
    return lane[0];
  };
  for (size_t dim : {size_t{1}, size_t{15}, size_t{16}, size_t{33}, size_t{64}, size_t{768}}) {
    for (const bool has_bias : {true, false}) {
      const size_t rows = 5;
      std::vector<float> x = Random(dim).normals(rows * dim, 2.0f);
      for (size_t i = 0; i < dim; ++i) x[dim + i] = 3.0f;  // a row without variance
      const std::vector<float> weight = Random(9).normals(dim), bias = Random(10).normals(dim);
      std::vector<float> want(rows * dim);
      const float inverse = 1.0f / static_cast<float>(dim);
      for (size_t r = 0; r < rows; ++r) {
        const float* row = &x[r * dim];
        std::array<float, 16> lane{};
        double sum = 0, squares = 0;
        for (size_t i = 0; i < dim; ++i) lane[i % 16] += row[i], sum += row[i];
        const float mean = reduce(lane) * inverse;
        const double true_mean = sum / static_cast<double>(dim);
        lane = {};
        for (size_t i = 0; i < dim; ++i) {
          const float d = row[i] - mean;
          lane[i % 16] = std::fma(d, d, lane[i % 16]);
          squares += (row[i] - true_mean) * (row[i] - true_mean);
        }
        const float scale = 1.0f / std::sqrt(reduce(lane) * inverse + kEps);
        const double true_scale = 1.0 / std::sqrt(squares / static_cast<double>(dim) + kEps);
        for (size_t i = 0; i < dim; ++i) {
          const float d = (row[i] - mean) * scale;
          want[r * dim + i] = has_bias ? std::fma(d, weight[i], bias[i]) : d * weight[i];
          const double truth = (row[i] - true_mean) * true_scale * weight[i] + (has_bias ? bias[i] : 0.0f);
          // The mean's rounding is scaled as the differences are, and those of a constant row are nothing else.
          ASSERT_NEAR(want[r * dim + i], truth, 2e-6 + 1e-6 * true_scale * 3 * std::fabs(weight[i])) << dim;
        }
      }
      for (int threads : {1, 3}) {
        auto device = device_of(GetParam(), threads);
        const DeviceBuffer b = upload(*device, x), w = upload(*device, weight), bb = upload(*device, bias),
                           y = allocate(*device, x.size() * 4);
        LayerNormArgs args{.x = b.ptr<float>(),
                           .weight = w.ptr<float>(),
                           .bias = has_bias ? DevPtr<const float>(bb.ptr<float>()) : DevPtr<const float>(),
                           .eps = kEps,
                           .rows = static_cast<int64_t>(rows),
                           .dim = static_cast<int64_t>(dim),
                           .y = y.ptr<float>()};
        device->table().layer_norm(device->queue(), args);
        EXPECT_TRUE(same_bits(download<float>(*device, y, x.size()), want)) << dim;
        args.y = b.ptr<float>();
        device->table().layer_norm(device->queue(), args);
        EXPECT_TRUE(same_bits(download<float>(*device, b, x.size()), want)) << dim << " in place";
      }
    }
  }
}

TEST_P(OpsOfTable, AddRowsScalesAndScatters) {
  for (const size_t dim : {size_t{1}, size_t{37}, size_t{64}}) {
    const std::vector<int32_t> index = {4, 0, 7, 2};
    const std::vector<float> scale = {0.5f, -1.25f, 0.0f, 3.0f};
    const std::vector<float> x = Random(6).normals(4 * dim), y = Random(7).normals(9 * dim);
    std::vector<float> want = y;
    for (size_t r = 0; r < 4; ++r) {
      for (size_t i = 0; i < dim; ++i) {
        float& v = want[static_cast<size_t>(index[r]) * dim + i];
        v = std::fma(scale[r], x[r * dim + i], v);
      }
    }
    auto device = device_of(GetParam(), 2);
    const DeviceBuffer a = upload(*device, x), b = upload(*device, y), ids = upload(*device, index),
                       s = upload(*device, scale);
    device->table().add_rows(device->queue(), {.x = a.ptr<float>(),
                                               .index = ids.ptr<int32_t>(),
                                               .scale = s.ptr<float>(),
                                               .n = 4,
                                               .dim = static_cast<int64_t>(dim),
                                               .y = b.ptr<float>()});
    EXPECT_TRUE(same_bits(download<float>(*device, b, want.size()), want)) << dim;
  }
}

TEST_P(OpsOfTable, RopeRotatesPairs) {
  struct Case {
    int head_dim, rot_dim;
    bool interleaved;
  };
  constexpr int kRows = 5, kHeads = 3;
  // Whole and partial rotation; halves that are not multiples of 16.
  for (const Case& c : {Case{64, 64, false}, Case{64, 64, true}, Case{80, 80, false}, Case{64, 20, false},
                        Case{64, 20, true}, Case{2, 2, false}}) {
    const auto half = static_cast<size_t>(c.rot_dim / 2);
    const std::vector<float> x = Random(4).normals(static_cast<size_t>(kRows * kHeads * c.head_dim));
    std::vector<float> cos, sin;
    for (int r = 0; r < kRows; ++r) {
      for (size_t i = 0; i < half; ++i) {
        const double angle = 17.0 * r * std::pow(10000.0, -static_cast<double>(i) / static_cast<double>(half));
        cos.push_back(static_cast<float>(std::cos(angle)));
        sin.push_back(static_cast<float>(std::sin(angle)));
      }
    }
    std::vector<float> want = x;
    for (size_t r = 0; r < kRows; ++r) {
      for (size_t h = 0; h < kHeads; ++h) {
        float* v = want.data() + (r * kHeads + h) * static_cast<size_t>(c.head_dim);
        for (size_t i = 0; i < half; ++i) {
          float& a = c.interleaved ? v[2 * i] : v[i];
          float& b = c.interleaved ? v[2 * i + 1] : v[half + i];
          const float co = cos[r * half + i], si = sin[r * half + i];
          const float rotated_a = std::fma(a, co, -(b * si));
          const float rotated_b = std::fma(a, si, b * co);
          // A rotation keeps lengths.
          ASSERT_NEAR(std::hypot(rotated_a, rotated_b), std::hypot(a, b), 1e-6);
          a = rotated_a;
          b = rotated_b;
        }
      }
    }
    for (int threads : {1, 3}) {
      auto device = device_of(GetParam(), threads);
      const DeviceBuffer b = upload(*device, x), co = upload(*device, cos), si = upload(*device, sin);
      device->table().rope(device->queue(), {.x = b.ptr<float>(),
                                             .rows = kRows,
                                             .heads = kHeads,
                                             .head_dim = c.head_dim,
                                             .rot_dim = c.rot_dim,
                                             .interleaved = c.interleaved,
                                             .cos = co.ptr<float>(),
                                             .sin = si.ptr<float>()});
      EXPECT_TRUE(same_bits(download<float>(*device, b, x.size()), want))
          << c.head_dim << " " << c.rot_dim << " " << c.interleaved;
    }
  }
}

TEST_P(OpsOfTable, EmbedDecodesTheRowAndLeavesNegativeTokensAlone) {
  constexpr float kScale = 24.0f;
  for (DType type : every_dtype()) {
    const int64_t cols = std::max(64, dtype_info(type).block);
    const TestWeight w = TestWeight::random(type, 37, cols, 8);
    const std::vector<float> decoded = w.decoded();
    const std::vector<int32_t> tokens = {0, 36, -1, 15, 16, 36, 5};
    std::vector<float> want(tokens.size() * static_cast<size_t>(cols), -7.0f);
    auto device = device_of(GetParam(), 2);
    const DeviceBuffer data = upload(*device, w.packed), ids = upload(*device, tokens), out = upload(*device, want);
    device->table().embed(device->queue(), w.view(data), ids.ptr<int32_t>(), static_cast<int64_t>(tokens.size()),
                          kScale, out.ptr<float>());
    const std::vector<float> got = download<float>(*device, out, want.size());
    const bool has_min = layout_of(type).has_min;
    for (size_t t = 0; t < tokens.size(); ++t) {
      for (size_t c = 0; c < static_cast<size_t>(cols); ++c) {
        const size_t i = t * static_cast<size_t>(cols) + c;
        if (tokens[t] < 0) {
          ASSERT_EQ(got[i], -7.0f) << type_name(type);
          continue;
        }
        const float element = decoded[static_cast<size_t>(tokens[t] * cols) + c];
        if (has_min) {
          // One rounding here (fma), two in the decoder: off by the product's rounding, which the minimum's size
          // bounds.
          ASSERT_NEAR(got[i], kScale * element, kScale * 1e-6) << type_name(type);
        } else {
          ASSERT_EQ(got[i], kScale * element) << type_name(type);
        }
      }
    }
    // And the scalar table's bits.
    auto scalar = device_of("scalar");
    const DeviceBuffer data2 = upload(*scalar, w.packed), ids2 = upload(*scalar, tokens), out2 = upload(*scalar, want);
    scalar->table().embed(scalar->queue(), w.view(data2), ids2.ptr<int32_t>(), static_cast<int64_t>(tokens.size()),
                          kScale, out2.ptr<float>());
    EXPECT_TRUE(same_bits(got, download<float>(*scalar, out2, want.size()))) << type_name(type);
  }
}

TEST_P(OpsOfTable, GatherRowsCopies) {
  constexpr size_t kDim = 37;
  const std::vector<float> x = Random(6).normals(9 * kDim);
  const std::vector<int32_t> index = {8, 0, 3, 3, 1};
  std::vector<float> want;
  for (int32_t i : index)
    want.insert(want.end(), x.begin() + i * static_cast<int64_t>(kDim),
                x.begin() + (i + 1) * static_cast<int64_t>(kDim));
  auto device = device_of(GetParam(), 2);
  const DeviceBuffer b = upload(*device, x), ids = upload(*device, index), y = allocate(*device, want.size() * 4);
  device->table().gather_rows(device->queue(), b.ptr<float>(), ids.ptr<int32_t>(), static_cast<int64_t>(index.size()),
                              kDim, y.ptr<float>());
  EXPECT_TRUE(same_bits(download<float>(*device, y, want.size()), want));
}

TEST_P(OpsOfTable, NanGoesThroughAndDoesNotSpread) {
  auto device = device_of(GetParam(), 1);
  const float nan = std::nanf("");
  std::vector<float> x(40, 1.0f);
  x[3] = nan;
  x[35] = nan;
  const DeviceBuffer b = upload(*device, x), up = upload(*device, std::vector<float>(40, 1.0f)),
                     y = allocate(*device, 160);
  device->table().glu(device->queue(), Activation::kSilu, b.ptr<float>(), up.ptr<float>(), 40, y.ptr<float>());
  const std::vector<float> got = download<float>(*device, y, 40);
  for (size_t i = 0; i < 40; ++i) EXPECT_EQ(std::isnan(got[i]), i == 3 || i == 35) << i;
}

INSTANTIATE_TEST_SUITE_P(All, OpsOfTable, ::testing::ValuesIn(every_table()),
                         [](const auto& param) { return param.param; });

// ---- kv_write and kv_move ----

constexpr DType kCacheTypes[] = {DType::kF32,  DType::kF16,  DType::kBF16, DType::kQ8_0,  DType::kQ5_1,
                                 DType::kQ5_0, DType::kQ4_1, DType::kQ4_0, DType::kIQ4_NL};

// One row into the pool, as table.h describes a page.
void write_row(const KvLayout& l, std::vector<uint8_t>& pool, int32_t slot, const float* k, const float* v) {
  const size_t k_tile = 64 * row_bytes(l.k_type, l.k_dim), v_tile = 64 * row_bytes(l.v_type, l.v_dim);
  const auto key = static_cast<size_t>(slot % 64);
  for (int head = 0; head < l.n_kv_heads; ++head) {
    uint8_t* tile =
        pool.data() + (static_cast<size_t>(slot / 64 * l.n_kv_heads) + static_cast<size_t>(head)) * (k_tile + v_tile);
    std::vector<uint8_t> k_row(row_bytes(l.k_type, l.k_dim)), v_row(row_bytes(l.v_type, l.v_dim));
    ASSERT_TRUE(quantize_row(l.k_type, k + head * l.k_dim, k_row.data(), l.k_dim).ok());
    ASSERT_TRUE(quantize_row(l.v_type, v + head * l.v_dim, v_row.data(), l.v_dim).ok());
    if (is_float(l.k_type)) {
      const auto size = static_cast<size_t>(dtype_info(l.k_type).bytes);
      for (size_t d = 0; d < static_cast<size_t>(l.k_dim); ++d)
        std::memcpy(tile + (d * 64 + key) * size, &k_row[d * size], size);
    } else {
      std::memcpy(tile + key * k_row.size(), k_row.data(), k_row.size());
    }
    std::memcpy(tile + k_tile + key * v_row.size(), v_row.data(), v_row.size());
  }
}

TEST(KvWrite, PutsEveryTypeWhereThePageHasIt) {
  Random random(11);
  for (DType k_type : kCacheTypes) {
    for (DType v_type : kCacheTypes) {
      const KvLayout l{.k_type = k_type, .v_type = v_type, .n_kv_heads = 3, .k_dim = 64, .v_dim = 32};
      const std::vector<int32_t> slots = {64 * 2 + 63, 0, 64, 17, 64 * 2 + 5, 1};
      const auto k = random.normals(slots.size() * 3 * 64), v = random.normals(slots.size() * 3 * 32);
      const std::vector<uint8_t> before(3 * l.page_bytes(), 0x5a);
      std::vector<uint8_t> want = before;
      for (size_t i = 0; i < slots.size(); ++i) write_row(l, want, slots[i], &k[i * 192], &v[i * 96]);
      for (const std::string& table : every_table()) {
        for (int threads : {1, 3}) {
          auto device = device_of(table, threads);
          if (!device->supports_cache_type(k_type) || !device->supports_cache_type(v_type)) continue;
          const DeviceBuffer pool = upload(*device, before), s = upload(*device, slots), kb = upload(*device, k),
                             vb = upload(*device, v);
          device->table().kv_write(device->queue(), {.layout = l,
                                                     .pool = pool.ptr<uint8_t>(),
                                                     .slots = s.ptr<int32_t>(),
                                                     .k = kb.ptr<float>(),
                                                     .v = vb.ptr<float>(),
                                                     .rows = static_cast<int64_t>(slots.size())});
          ASSERT_TRUE(same_bits(download<uint8_t>(*device, pool, want.size()), want))
              << table << " " << type_name(k_type) << " " << type_name(v_type);
        }
      }
    }
  }
}

// Numbers that a type cannot hold must be seen later, not silently become something else.
TEST(KvWrite, ValuesThatDoNotFitAreNotHidden) {
  for (DType type : {DType::kQ8_0, DType::kQ4_0, DType::kIQ4_NL}) {
    const KvLayout l{.k_type = type, .v_type = type, .n_kv_heads = 1, .k_dim = 32, .v_dim = 32};
    auto device = device_of("");
    std::vector<float> row(32, 1.0f);
    row[7] = std::nanf("");
    const DeviceBuffer pool = allocate(*device, l.page_bytes()), s = upload(*device, std::vector<int32_t>{3}),
                       x = upload(*device, row);
    device->table().kv_write(device->queue(), {.layout = l,
                                               .pool = pool.ptr<uint8_t>(),
                                               .slots = s.ptr<int32_t>(),
                                               .k = x.ptr<float>(),
                                               .v = x.ptr<float>(),
                                               .rows = 1});
    const auto bytes = download<uint8_t>(*device, pool, l.page_bytes());
    std::vector<float> decoded(32);
    dequantize_row(type, bytes.data() + 3 * row_bytes(type, 32), decoded.data(), 32);
    EXPECT_TRUE(std::isnan(decoded[0])) << type_name(type);
  }
}

TEST(KvMove, MovesInOrderAndTouchesNothingElse) {
  Random random(12);
  for (DType type : kCacheTypes) {
    const KvLayout l{.k_type = type, .v_type = DType::kF16, .n_kv_heads = 2, .k_dim = 64, .v_dim = 32};
    // A tree path: each destination lies below its source and may be an earlier source; one move goes over a page's
    // end.
    const std::vector<int32_t> from = {12, 13, 70, 71, 90}, to = {11, 12, 13, 64, 71};
    const auto k = random.normals(128 * 128), v = random.normals(128 * 64);
    std::vector<uint8_t> before(2 * l.page_bytes()), want;
    for (int32_t slot = 0; slot < 128; ++slot)
      write_row(l, before, slot, &k[static_cast<size_t>(slot) * 128], &v[static_cast<size_t>(slot) * 64]);
    want = before;
    for (size_t i = 0; i < from.size(); ++i) {
      // No destination is a later source, so a source still holds what was written there first.
      write_row(l, want, to[i], &k[static_cast<size_t>(from[i]) * 128], &v[static_cast<size_t>(from[i]) * 64]);
    }
    for (const std::string& table : every_table()) {
      auto device = device_of(table, 2);
      if (!device->supports_cache_type(type)) continue;
      const DeviceBuffer pool = upload(*device, before), f = upload(*device, from), t = upload(*device, to);
      device->table().kv_move(device->queue(), {.layout = l,
                                                .pool = pool.ptr<uint8_t>(),
                                                .from = f.ptr<int32_t>(),
                                                .to = t.ptr<int32_t>(),
                                                .n = static_cast<int64_t>(from.size())});
      EXPECT_TRUE(same_bits(download<uint8_t>(*device, pool, want.size()), want)) << table << " " << type_name(type);
    }
  }
}

}  // namespace
}  // namespace decant
