// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "kernels/test_util.h"

namespace decant {
namespace {

using namespace kernel_testing;

// The activations of one product, quantized on the device that multiplies.
struct Activations {
  Activations(Device& device, const std::vector<float>& host, int64_t n, int64_t c)
      : rows(n),
        cols(c),
        x(upload(device, host)),
        q(allocate(device, static_cast<size_t>(n * c))),
        d(allocate(device, static_cast<size_t>(n * c / 32) * 4)),
        sum16(allocate(device, static_cast<size_t>(n * c / 16) * 4)),
        ds16(allocate(device, static_cast<size_t>(n * c / 16) * 4)),
        ds32(allocate(device, static_cast<size_t>(n * c / 32) * 4)) {
    if (c % 32 == 0)
      device.table().quantize(device.queue(), {.x = x.ptr<float>(), .rows = n, .cols = c, .out = quantized()});
  }
  QuantizedRows quantized() const {
    return {.q = q.ptr<int8_t>(),
            .d = d.ptr<float>(),
            .sum16 = sum16.ptr<int32_t>(),
            .ds16 = ds16.ptr<float>(),
            .ds32 = ds32.ptr<float>()};
  }

  int64_t rows, cols;
  DeviceBuffer x, q, d, sum16, ds16, ds32;
};

std::vector<float> multiply(Device& device, const TestWeight& w, const std::vector<float>& x, int64_t rows) {
  const DeviceBuffer data = upload(device, w.packed);
  const Activations a(device, x, rows, w.cols);
  const DeviceBuffer y = allocate(device, static_cast<size_t>(rows * w.rows) * 4);
  const MatmulArgs args{
      .w = w.view(data), .x = a.x.ptr<float>(), .xq = a.quantized(), .rows = rows, .y = y.ptr<float>(), .ldy = w.rows};
  device.table().matmul(device.queue(), {&args, 1});
  return download<float>(device, y, static_cast<size_t>(rows * w.rows));
}

std::vector<float> slice_of(const std::vector<float>& values, int64_t begin, int64_t n) {
  return {values.begin() + begin, values.begin() + begin + n};
}

// ---- quantize ----

TEST(Quantize, IsTheHeadersFormulaInEveryTable) {
  Random random(1);
  constexpr int64_t kRows = 7, kCols = 96;
  std::vector<float> x = random.normals(kRows * kCols, 3.0f);
  std::fill(x.begin(), x.begin() + 32, 0.0f);                              // a zero block
  for (int i = 0; i < 32; ++i) x[32 + i] = static_cast<float>(i) - 15.5f;  // ties around the scale 15.5 / 127
  for (int i = 0; i < 32; ++i)
    x[64 + i] = static_cast<float>(i % 2 == 0 ? 127 : -127) * (i < 16 ? 1.0f : 0.5f);  // 63.5: a tie
  x[100] = std::nanf("");
  x[140] = 1e-42f;  // a denormal beside normal numbers
  for (int i = 160; i < 192; ++i) x[static_cast<size_t>(i)] = 1e-30f * static_cast<float>(i);
  for (const std::string& table : every_table()) {
    auto device = device_of(table, 2);
    const Activations a(*device, x, kRows, kCols);
    const auto q = download<int8_t>(*device, a.q, kRows * kCols);
    const auto d = download<float>(*device, a.d, kRows * kCols / 32);
    const auto sum16 = download<int32_t>(*device, a.sum16, kRows * kCols / 16);
    const auto ds16 = download<float>(*device, a.ds16, kRows * kCols / 16);
    const auto ds32 = download<float>(*device, a.ds32, kRows * kCols / 32);
    for (size_t b = 0; b < d.size(); ++b) {
      const size_t row = b / (kCols / 32), block = b % (kCols / 32), at = block * kRows + row;
      float top = 0.0f;
      for (size_t i = 0; i < 32; ++i) {
        const float v = std::fabs(x[b * 32 + i]);
        if (v > top) top = v;  // not taken for NaN
      }
      ASSERT_EQ(d[at], top / 127.0f) << table << " block " << b;
      int sums[2] = {0, 0};
      for (size_t i = 0; i < 32; ++i) {
        const float v = x[b * 32 + i];
        const float scaled = top == 0.0f || std::isnan(v) ? 0.0f : std::nearbyintf(v * (127.0f / top));
        const int code = static_cast<int>(std::clamp(scaled, -127.0f, 127.0f));
        ASSERT_EQ(static_cast<int>(q[b * 32 + i]), code) << table << " block " << b << " element " << i;
        sums[i / 16] += code;
      }
      for (size_t h = 0; h < 2; ++h) {
        const size_t half = (2 * block + h) * kRows + row;
        ASSERT_EQ(sum16[half], sums[h]);
        ASSERT_EQ(ds16[half], d[at] * static_cast<float>(sums[h]));
      }
      ASSERT_EQ(ds32[at], d[at] * static_cast<float>(sums[0] + sums[1]));
    }
  }
}

bool same_bytes(Device& device, const DeviceBuffer& a, const DeviceBuffer& b) {
  return download<uint8_t>(device, a, a.size()) == download<uint8_t>(device, b, b.size());
}

void expect_same(Device& device, const Activations& a, const Activations& b, const std::string& what) {
  EXPECT_TRUE(same_bytes(device, a.q, b.q)) << what;
  EXPECT_TRUE(same_bytes(device, a.d, b.d)) << what;
  EXPECT_TRUE(same_bytes(device, a.sum16, b.sum16)) << what;
  EXPECT_TRUE(same_bytes(device, a.ds16, b.ds16)) << what;
  EXPECT_TRUE(same_bytes(device, a.ds32, b.ds32)) << what;
}

TEST(Quantize, WithNormGivesTheBitsOfBoth) {
  Random random(2);
  for (const auto& [rows, cols] : {std::pair<int64_t, int64_t>{1, 160}, {1, 32 * 1100}, {3, 160}, {37, 160}}) {
    const std::vector<float> weight = random.normals(static_cast<size_t>(cols), 1.0f);
    const auto n = static_cast<size_t>(rows * cols);
    const std::vector<float> x = random.normals(n, 2.0f);
    for (const std::string& table : every_table()) {
      const std::string what = table + ", rows " + std::to_string(rows);
      auto device = device_of(table, 2);
      const KernelTable& t = device->table();
      const DeviceBuffer dx = upload(*device, x), dw = upload(*device, weight), dh = allocate(*device, n * 4);
      t.rms_norm(device->queue(), dx.ptr<float>(), dw.ptr<float>(), 1e-5f, rows, cols, dh.ptr<float>());
      const std::vector<float> h = download<float>(*device, dh, n);
      const Activations expected(*device, h, rows, cols);
      for (const bool in_place : {false, true}) {
        Activations fused(*device, std::vector<float>(n), rows, cols);
        if (in_place) fused.x = upload(*device, x);
        t.quantize(device->queue(), {.x = in_place ? fused.x.ptr<float>() : dx.ptr<float>(),
                                     .rows = rows,
                                     .cols = cols,
                                     .norm = dw.ptr<float>(),
                                     .eps = 1e-5f,
                                     .h = in_place ? fused.x.ptr<float>() : DevPtr<float>(),
                                     .out = fused.quantized()});
        expect_same(*device, fused, expected, what);
        if (in_place) {
          EXPECT_EQ(download<float>(*device, fused.x, n), h) << what;
        }
      }
      // Without a norm, h is a copy.
      Activations copied(*device, std::vector<float>(n), rows, cols);
      t.quantize(device->queue(), {.x = expected.x.ptr<float>(),
                                   .rows = rows,
                                   .cols = cols,
                                   .h = copied.x.ptr<float>(),
                                   .out = copied.quantized()});
      expect_same(*device, copied, expected, what);
      EXPECT_EQ(download<float>(*device, copied.x, n), h) << what;
    }
  }
}

// ---- products ----

// What a product must be near: double sums of decoded weights and decoded activations, with a bound on the float
// chain's error.
struct Reference {
  std::vector<double> y, bound;
};

Reference reference(const TestWeight& w, const std::vector<float>& x, int64_t rows) {
  auto device = device_of("scalar");
  const Activations a(*device, x, rows, w.cols);
  const auto codes = download<int8_t>(*device, a.q, x.size());
  const auto scales = download<float>(*device, a.d, x.size() / 32);
  const bool quantized = !is_float(w.type);
  const std::vector<float> decoded = w.decoded();
  Reference ref;
  for (int64_t t = 0; t < rows; ++t) {
    for (int64_t o = 0; o < w.rows; ++o) {
      double sum = 0;
      double magnitude = 0;  // of the chain's terms, code and minimum apart
      for (int64_t b = 0; b < w.cols; b += 32) {
        double peak = 0;
        double activation = 0;
        for (int64_t k = b; k < std::min(b + 32, w.cols); ++k) {
          const double wk = decoded[static_cast<size_t>(o * w.cols + k)];
          const auto i = static_cast<size_t>(t * w.cols + k);
          const double xk =
              quantized ? static_cast<double>(codes[i]) * scales[static_cast<size_t>(b / 32 * rows + t)] : x[i];
          sum += wk * xk;
          activation += std::fabs(xk);
          peak = std::max(peak, std::fabs(wk));
        }
        magnitude += 4 * peak * activation;  // s * u and m are each at most a few times the largest of s * u + m
      }
      ref.y.push_back(sum);
      const auto steps = static_cast<double>(quantized ? w.cols / 8 : w.cols);
      ref.bound.push_back((steps + 4) * 0x1p-24 * magnitude + 1e-30);
    }
  }
  return ref;
}

// The specification's own chain, from the bytes of the packed matrix: the scalar table must give these very bits.
std::vector<float> specified(const TestWeight& w, const std::vector<float>& x, int64_t rows) {
  const WeightLayout l = layout_of(w.type);
  std::vector<float> y;
  if (!l.quantized) {
    const std::vector<float> decoded = w.decoded();
    for (int64_t t = 0; t < rows; ++t) {
      for (int64_t o = 0; o < w.rows; ++o) {
        float acc = 0.0f;
        for (int64_t k = 0; k < w.cols; ++k) {
          acc = std::fma(decoded[static_cast<size_t>(o * w.cols + k)], x[static_cast<size_t>(t * w.cols + k)], acc);
        }
        y.push_back(acc);
      }
    }
    return y;
  }
  auto device = device_of("scalar");
  const Activations a(*device, x, rows, w.cols);
  const auto q = download<int8_t>(*device, a.q, x.size());
  const auto d = download<float>(*device, a.d, x.size() / 32);
  const auto ds16 = download<float>(*device, a.ds16, x.size() / 16);
  const auto ds32 = download<float>(*device, a.ds32, x.size() / 32);
  const int subs = 32 / l.sub;
  for (int64_t t = 0; t < rows; ++t) {
    for (int64_t o = 0; o < w.rows; ++o) {
      float acc = 0.0f;
      for (int64_t b = 0; b < w.cols / 32; ++b) {
        const uint8_t* group = w.packed.data() + static_cast<size_t>(o / 16) * l.group_bytes(w.cols);
        const uint8_t* block = group + l.block_offset(b);
        const auto r = static_cast<size_t>(o % 16);
        const auto half = [](const uint8_t* p) {
          uint16_t h;
          std::memcpy(&h, p, 2);
          return half_to_float(h);
        };
        // Number s of the block's scales (or minimums, `min`).
        const auto number = [&](bool min, int s) {
          const uint8_t* p = block + l.code_bytes() + (min ? l.scale_bytes() : 0);
          const size_t i = static_cast<size_t>(s) * 16 + r;
          if (l.scales == ScaleKind::kF16) return half(p + 2 * i);
          if (l.scales == ScaleKind::kSuper) {
            return half(group + l.header_offset(b) + (min ? 32 : 0) + 2 * r) *
                   static_cast<float>(static_cast<int8_t>(p[i]));
          }
          float f;
          std::memcpy(&f, p + 4 * i, 4);
          return f;
        };
        const auto at = static_cast<size_t>(t * w.cols / 32 + b);
        for (int s = 0; s < subs; ++s) {
          int dot = 0;
          for (int c = s * l.sub; c < (s + 1) * l.sub; ++c) {
            const auto i = static_cast<size_t>(c);
            int code;
            if (l.bits == 8) {
              code = block[64 * (i / 4) + 4 * r + i % 4];
            } else {
              const uint8_t byte = block[64 * (i % 16 / 4) + 4 * r + i % 4];
              code = c < 16 ? byte & 15 : byte >> 4;
              if (l.bits == 5) code += 16 * (block[256 + 4 * r + i % 4] >> (i / 4) & 1);
              if (l.bits == 6) code += 16 * (block[256 + 64 * (i / 16) + 4 * r + i % 4] >> (i % 16 / 4 * 2) & 3);
              if (l.table == CodeTable::kIq4) code = kIq4Values[code] + 128;
              if (l.table == CodeTable::kMxfp4) code = kMxfp4Values[code] + 128;
            }
            dot += (code - l.zero) * q[at * 32 + i];
          }
          acc = std::fma(static_cast<float>(dot), number(false, s) * d[static_cast<size_t>(b * rows + t)], acc);
        }
        for (int s = 0; l.has_min && s < subs; ++s) {
          const float ds =
              l.sub == 32 ? ds32[static_cast<size_t>(b * rows + t)] : ds16[static_cast<size_t>((2 * b + s) * rows + t)];
          acc = std::fma(number(true, s), ds, acc);
        }
      }
      y.push_back(acc);
    }
  }
  return y;
}

class MatmulOfType : public ::testing::TestWithParam<DType> {
 protected:
  int64_t block() const { return std::max(32, dtype_info(GetParam()).block); }
};

struct Shape {
  int64_t outputs, blocks, rows;
};

TEST_P(MatmulOfType, IsNearTheDoubleReferenceAndExactlyTheSpecification) {
  for (const Shape& s :
       {Shape{1, 1, 1}, Shape{16, 1, 2}, Shape{17, 2, 3}, Shape{31, 1, 5}, Shape{70, 2, 11}, Shape{100, 1, 33}}) {
    const int64_t cols = s.blocks * block();
    const TestWeight w = TestWeight::random(GetParam(), s.outputs, cols, static_cast<uint64_t>(s.outputs));
    const std::vector<float> x = Random(77).normals(static_cast<size_t>(s.rows * cols));
    const Reference ref = reference(w, x, s.rows);
    const std::vector<float> want = specified(w, x, s.rows);
    for (size_t i = 0; i < want.size(); ++i) {
      ASSERT_NEAR(want[i], ref.y[i], ref.bound[i]) << s.outputs << " outputs, " << cols << " columns: element " << i;
    }
    for (const std::string& table : every_table()) {
      EXPECT_TRUE(same_bits(multiply(*device_of(table), w, x, s.rows), want))
          << table << ": " << s.outputs << " outputs, " << cols << " columns, " << s.rows << " rows";
    }
  }
}

std::vector<DType> quantized_dtypes() {
  std::vector<DType> types = every_dtype();
  std::erase_if(types, is_float);
  return types;
}

class QuantizedMatmul : public MatmulOfType {};

// The largest codes against the largest activations: the integer sums must not saturate on the way.
TEST_P(QuantizedMatmul, ExtremeCodesDoNotSaturate) {
  TestWeight w = TestWeight::random(GetParam(), 20, block(), 3);
  // All codes at the maximum that weight.h allows; scales stay as they are.
  const WeightLayout l = layout_of(GetParam());
  for (int64_t g = 0; g < 2; ++g) {
    for (int64_t b = 0; b < w.cols / 32; ++b) {
      std::memset(w.packed.data() + static_cast<size_t>(g) * l.group_bytes(w.cols) + l.block_offset(b), 0xff,
                  l.code_bytes());
    }
  }
  for (const float sign : {1.0f, -1.0f}) {
    const std::vector<float> x(static_cast<size_t>(2 * w.cols), sign);
    const std::vector<float> want = specified(w, x, 2);
    for (const std::string& table : every_table()) {
      EXPECT_TRUE(same_bits(multiply(*device_of(table), w, x, 2), want)) << table;
    }
  }
}

TEST_P(MatmulOfType, ARowIsTheSameBitsInEveryBatch) {
  constexpr int64_t kRows = 33, kOutputs = 70;
  const TestWeight w = TestWeight::random(GetParam(), kOutputs, block(), 4);
  const std::vector<float> x = Random(5).normals(static_cast<size_t>(kRows * w.cols));
  for (const std::string& table : every_table()) {
    auto device = device_of(table);
    const std::vector<float> all = multiply(*device, w, x, kRows);
    for (int64_t i = 0; i < kRows; ++i) {
      EXPECT_TRUE(
          same_bits(multiply(*device, w, slice_of(x, i * w.cols, w.cols), 1), slice_of(all, i * kOutputs, kOutputs)))
          << table << ": row " << i << " alone";
    }
    for (int64_t n = 2; n < kRows; ++n) {
      // The last n rows: every row meets other neighbours and another place in the tiles.
      const int64_t first = kRows - n;
      EXPECT_TRUE(same_bits(multiply(*device, w, slice_of(x, first * w.cols, n * w.cols), n),
                            slice_of(all, first * kOutputs, n * kOutputs)))
          << table << ": the last " << n << " rows";
    }
  }
}

TEST_P(MatmulOfType, ThreadsChangeNoBit) {
  constexpr int64_t kOutputs = 1100;  // 69 groups: many tasks, and tasks of several sizes
  const TestWeight w = TestWeight::random(GetParam(), kOutputs, block(), 6);
  for (int64_t rows : {1, 2, 9}) {
    const std::vector<float> x = Random(8).normals(static_cast<size_t>(rows * w.cols));
    const std::vector<float> want = multiply(*device_of("scalar", 1), w, x, rows);
    for (const std::string& table : every_table()) {
      for (int threads : {1, 2, 3}) {
        EXPECT_TRUE(same_bits(multiply(*device_of(table, threads), w, x, rows), want))
            << table << ", " << threads << " threads, " << rows << " rows";
      }
    }
  }
}

TEST_P(MatmulOfType, GroupsThatAreWantedAreTheBitsOfTheWhole) {
  constexpr int64_t kOutputs = 1095;  // 69 groups, the last one short
  const TestWeight w = TestWeight::random(GetParam(), kOutputs, block(), 6);
  std::vector<std::vector<int32_t>> lists = {{0}, {68}, {1, 2, 3, 9, 67, 68}, {}};
  for (int32_t g = 0; g < 69; g += 1 + g % 3) lists.back().push_back(g);
  for (int64_t rows : {1, 2, 9, 33}) {
    const std::vector<float> x = Random(8).normals(static_cast<size_t>(rows * w.cols));
    for (const std::string& table : every_table()) {
      for (int threads : {1, 3}) {
        auto device = device_of(table, threads);
        const std::vector<float> whole = multiply(*device, w, x, rows);
        const Activations a(*device, x, rows, w.cols);
        const DeviceBuffer data = upload(*device, w.packed);
        for (const std::vector<int32_t>& groups : lists) {
          const DeviceBuffer y = upload(*device, std::vector<float>(whole.size(), -1.0f));
          const MatmulArgs args{.w = w.view(data),
                                .x = a.x.ptr<float>(),
                                .xq = a.quantized(),
                                .rows = rows,
                                .y = y.ptr<float>(),
                                .ldy = kOutputs,
                                .bias = {},
                                .groups = groups};
          device->table().matmul(device->queue(), {&args, 1});
          const std::vector<float> got = download<float>(*device, y, whole.size());
          for (int64_t row = 0; row < rows; ++row) {
            for (const int32_t g : groups) {
              const int64_t begin = row * kOutputs + g * kGroupRows;
              const int64_t n = std::min<int64_t>(kGroupRows, kOutputs - g * kGroupRows);
              ASSERT_TRUE(same_bits(slice_of(got, begin, n), slice_of(whole, begin, n)))
                  << table << ", " << threads << " threads, " << rows << " rows: row " << row << ", group " << g;
            }
          }
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, MatmulOfType, ::testing::ValuesIn(every_dtype()),
                         [](const auto& param) { return type_name(param.param); });

INSTANTIATE_TEST_SUITE_P(All, QuantizedMatmul, ::testing::ValuesIn(quantized_dtypes()),
                         [](const auto& param) { return type_name(param.param); });

// Several weights of unlike types and heights in one call, with bias, accumulation and rows wider than the product.
TEST(Matmul, OneCallForSeveralWeightsIsTheCallsApart) {
  constexpr int64_t kRows = 6, kCols = 256, kWide = 300;
  const TestWeight weights[] = {TestWeight::random(DType::kQ4_K, 200, kCols, 1),
                                TestWeight::random(DType::kQ8_0, 33, kCols, 2),
                                TestWeight::random(DType::kF16, 65, kCols, 3)};
  Random random(4);
  const std::vector<float> x = random.normals(kRows * kCols);
  const std::vector<float> bias = random.normals(200);
  const std::vector<float> before = random.normals(kRows * kWide);
  for (const std::string& table : every_table()) {
    for (int threads : {1, 3}) {
      auto device = device_of(table, threads);
      const Activations a(*device, x, kRows, kCols);
      const DeviceBuffer b = upload(*device, bias);
      std::vector<DeviceBuffer> data, y;
      std::vector<MatmulArgs> args;
      for (int i = 0; i < 3; ++i) {
        data.push_back(upload(*device, weights[i].packed));
        y.push_back(upload(*device, before));
        args.push_back({.w = weights[i].view(data.back()),
                        .x = a.x.ptr<float>(),
                        .xq = a.quantized(),
                        .rows = kRows,
                        .y = y.back().ptr<float>(),
                        .ldy = kWide,
                        .bias = i != 1 ? DevPtr<const float>(b.ptr<float>()) : DevPtr<const float>(),
                        .accumulate = i != 0});
      }
      device->table().matmul(device->queue(), args);
      for (size_t i = 0; i < 3; ++i) {
        const std::vector<float> plain = multiply(*device, weights[i], x, kRows);
        std::vector<float> want = before;
        for (int64_t t = 0; t < kRows; ++t) {
          for (int64_t o = 0; o < weights[i].rows; ++o) {
            float acc = plain[static_cast<size_t>(t * weights[i].rows + o)];
            if (i != 1) acc = acc + bias[static_cast<size_t>(o)];
            float& out = want[static_cast<size_t>(t * kWide + o)];
            out = i != 0 ? out + acc : acc;
          }
        }
        // The floats between the product's end and the next row are still what they were.
        EXPECT_TRUE(same_bits(download<float>(*device, y[i], want.size()), want)) << table << ": weight " << i;
      }
    }
  }
}

// A float weight may have any number of columns.
TEST(Matmul, FloatColumnsNeedNoMultiple) {
  for (DType type : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (int64_t cols : {1, 7, 33}) {
      const TestWeight w = TestWeight::random(type, 19, cols, 1);
      const std::vector<float> x = Random(2).normals(static_cast<size_t>(3 * cols));
      const std::vector<float> want = specified(w, x, 3);
      for (const std::string& table : every_table()) {
        EXPECT_TRUE(same_bits(multiply(*device_of(table), w, x, 3), want))
            << table << " " << type_name(type) << " " << cols;
      }
    }
  }
}

// ---- gated products ----

TEST(MatmulGated, GivesTheBitsOfProductsActivationAndQuantization) {
  struct Case {
    DType gate, up;
    int64_t outputs, cols, rows;
    bool bias, quantized;
  };
  for (const Case& c : {Case{DType::kQ4_1, DType::kQ4_1, 96, 64, 1, false, true},
                        Case{DType::kQ4_1, DType::kQ8_0, 96, 64, 7, true, true},
                        Case{DType::kQ6_K, DType::kQ4_K, 160, 256, 40, false, true},
                        Case{DType::kF16, DType::kQ5_0, 64, 32, 19, true, true},
                        Case{DType::kQ4_0, DType::kQ4_0, 45, 64, 3, true, false},
                        Case{DType::kF32, DType::kF32, 7, 5, 4, false, false}}) {
    Random random(static_cast<uint64_t>(c.outputs));
    const TestWeight gate = TestWeight::random(c.gate, c.outputs, c.cols, 1);
    const TestWeight up = TestWeight::random(c.up, c.outputs, c.cols, 2);
    const std::vector<float> x = random.normals(static_cast<size_t>(c.rows * c.cols), 1.5f);
    const std::vector<float> bias = random.normals(static_cast<size_t>(c.outputs), 1.0f);
    const auto n = static_cast<size_t>(c.rows * c.outputs);
    for (const std::string& table : every_table()) {
      for (const Activation activation : {Activation::kSilu, Activation::kGeluTanh}) {
        for (const int threads : {1, 3}) {
          const std::string what = table + ", outputs " + std::to_string(c.outputs);
          auto device = device_of(table, threads);
          const KernelTable& t = device->table();
          const DeviceBuffer gate_data = upload(*device, gate.packed), up_data = upload(*device, up.packed);
          const DeviceBuffer db = upload(*device, bias);
          const Activations a(*device, x, c.rows, c.cols);
          const DeviceBuffer y = allocate(*device, n * 4), z = allocate(*device, n * 4);
          const auto product = [&](const TestWeight& w, const DeviceBuffer& data, const DeviceBuffer& out) {
            return MatmulArgs{.w = w.view(data),
                              .x = a.x.ptr<float>(),
                              .xq = a.quantized(),
                              .rows = c.rows,
                              .y = out.ptr<float>(),
                              .ldy = c.outputs,
                              .bias = c.bias ? db.ptr<float>() : DevPtr<const float>()};
          };
          const std::vector<MatmulArgs> products = {product(gate, gate_data, y), product(up, up_data, z)};
          t.matmul(device->queue(), products);
          t.glu(device->queue(), activation, y.ptr<float>(), z.ptr<float>(), static_cast<int64_t>(n), y.ptr<float>());
          const std::vector<float> h = download<float>(*device, y, n);

          Activations fused(*device, std::vector<float>(n), c.rows, c.quantized ? c.outputs : 1);
          t.matmul_gated(device->queue(), {.gate = products[0],
                                           .up = products[1],
                                           .activation = activation,
                                           .h = fused.x.ptr<float>(),
                                           .out = c.quantized ? fused.quantized() : QuantizedRows()});
          EXPECT_TRUE(same_bits(download<float>(*device, fused.x, n), h)) << what;
          if (!c.quantized) continue;
          const Activations expected(*device, h, c.rows, c.outputs);
          expect_same(*device, fused, expected, what);
          // Codes alone.
          const Activations codes(*device, std::vector<float>(n), c.rows, c.outputs);
          t.matmul_gated(device->queue(),
                         {.gate = products[0], .up = products[1], .activation = activation, .out = codes.quantized()});
          expect_same(*device, codes, expected, what);
        }
      }
    }
  }
}

}  // namespace
}  // namespace decant
