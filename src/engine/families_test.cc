// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Every family against transformers: the checkpoints of tests/families, whose logits were computed there in double
// precision (make_fixtures.py). Also: a GGUF converted from the checkpoint gives the same bits, rows one by one give
// the bits of all at once, and adapters give what peft gives, for their rows only.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/mapped_file.h"
#include "engine/engine.h"
#include "kernels/cuda_device.h"
#include "kernels/table.h"
#include "model/checkpoint.h"
#include "model/config.h"
#include "model/convert.h"
#include "model/export.h"
#include "model/overlay.h"

namespace decant {
namespace {

namespace fs = std::filesystem;

// Largest difference over the largest logit. The issue of the families asks for 1e-4 with float weights.
constexpr double kTolerance = 1e-4;

std::string folder_of(const std::string& name) { return std::string(DECANT_SOURCE_DIR) + "/tests/families/" + name; }

std::vector<std::string> fixture_names() {
  std::vector<std::string> names;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder_of(""))) {
    if (fs::exists(entry.path() / "expected.json")) names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

struct Fixture {
  std::vector<TokenId> tokens;
  std::vector<float> logits, adapter_logits;  // [tokens, vocabulary]

  explicit Fixture(const std::string& folder) {
    const auto text = read_file(folder + "/expected.json");
    EXPECT_TRUE(text.ok());
    const auto json = nlohmann::json::parse(*text);
    tokens = json["tokens"].get<std::vector<TokenId>>();
    logits = floats(folder + "/" + json["logits"].get<std::string>());
    if (json.contains("adapter_logits"))
      adapter_logits = floats(folder + "/" + json["adapter_logits"].get<std::string>());
  }

  static std::vector<float> floats(const std::string& path) {
    const auto bytes = read_file(path);
    EXPECT_TRUE(bytes.ok());
    std::vector<float> values(bytes->size() / sizeof(float));
    std::memcpy(values.data(), bytes->data(), bytes->size());
    return values;
  }
};

struct Loaded {
  std::unique_ptr<Device> device;
  std::shared_ptr<const Model> model;
  std::unique_ptr<Engine> engine;
};

// A GPU where there is one: its logits are checked as the CPU's are (kernels/cuda_test.cc says whether there was).
std::vector<std::string> devices() {
  return make_cuda_device().ok() ? std::vector<std::string>{"cpu", "cuda"} : std::vector<std::string>{"cpu"};
}

Loaded load(const std::string& path, const std::string& device_name = "cpu", std::string_view table = {},
            int threads = 2) {
  Loaded loaded;
  auto device = device_name == "cuda" ? make_cuda_device() : make_cpu_device(threads, table);
  EXPECT_TRUE(device.ok());
  loaded.device = std::move(*device);
  const auto file = open_model(path);
  EXPECT_TRUE(file.ok()) << file.status().message();
  if (!file.ok()) return loaded;
  auto model = Model::load(*file, *loaded.device);
  EXPECT_TRUE(model.ok()) << model.status().message();
  if (!model.ok()) return loaded;
  loaded.model = *model;
  auto engine = Engine::create(loaded.model, {.context = 128});
  EXPECT_TRUE(engine.ok()) << engine.status().message();
  if (engine.ok()) loaded.engine = std::move(*engine);
  return loaded;
}

std::vector<int32_t> all_rows(size_t n) {
  std::vector<int32_t> rows(n);
  for (size_t i = 0; i < n; ++i) rows[i] = static_cast<int32_t>(i);
  return rows;
}

// Logits of all rows, `chunk` rows a step.
std::vector<float> run(Engine& engine, std::span<const TokenId> tokens, size_t chunk,
                       std::span<const Overlay* const> overlays = {}) {
  std::vector<float> logits;
  const SequenceId sequence = engine.cache().create_sequence();
  StepOutput output;
  for (size_t begin = 0; begin < tokens.size(); begin += chunk) {
    const size_t n = std::min(chunk, tokens.size() - begin);
    const Slice slice{
        .sequence = sequence, .tokens = tokens.subspan(begin, n), .overlays = overlays, .logits = all_rows(n)};
    const Status status = engine.step({&slice, 1}, &output);
    EXPECT_TRUE(status.ok()) << status.message();
    if (!status.ok()) return logits;
    for (size_t r = 0; r < n; ++r) {
      const auto row = output.logits(0, r);
      logits.insert(logits.end(), row.begin(), row.end());
    }
  }
  EXPECT_TRUE(engine.cache().remove(sequence).ok());
  return logits;
}

double relative_error(const std::vector<float>& got, const std::vector<float>& want) {
  EXPECT_EQ(got.size(), want.size());
  double greatest = 0, difference = 0;
  for (size_t i = 0; i < std::min(got.size(), want.size()); ++i) {
    greatest = std::max(greatest, std::fabs(static_cast<double>(want[i])));
    difference = std::max(difference, std::fabs(static_cast<double>(got[i]) - want[i]));
  }
  return greatest > 0 ? difference / greatest : 1;
}

// The cache in float32: the reference has no rounded cache.
Result<std::unique_ptr<Engine>> exact_engine(const Loaded& l, int context) {
  return Engine::create(l.model, {.context = context, .k_type = DType::kF32, .v_type = DType::kF32});
}

class Families : public ::testing::TestWithParam<std::string> {};

TEST_P(Families, LogitsAreThoseOfTransformers) {
  const std::string folder = folder_of(GetParam());
  const Fixture fixture(folder);
  for (const std::string& device : devices()) {
    SCOPED_TRACE(device);
    const Loaded l = load(folder, device);
    ASSERT_NE(l.engine, nullptr);
    const auto engine = exact_engine(l, 128);
    ASSERT_TRUE(engine.ok());
    const std::vector<float> logits = run(**engine, fixture.tokens, 128);
    const double error = relative_error(logits, fixture.logits);
    EXPECT_LE(error, kTolerance);
    RecordProperty(device, fmt::format("{:.2g}", error));
    // One by one and in chunks: the same bits.
    for (const size_t chunk : {size_t{1}, size_t{7}}) EXPECT_EQ(run(**engine, fixture.tokens, chunk), logits) << chunk;
  }
}

TEST_P(Families, TablesThreadsAndNeighboursChangeNoBit) {
  const std::string folder = folder_of(GetParam());
  const Fixture fixture(folder);
  const std::vector<float> want = run(*load(folder, "cpu", "scalar", 1).engine, fixture.tokens, 128);
  ASSERT_FALSE(want.empty());
  for (const KernelTable* table : cpu_tables()) {
    for (const int threads : {1, 3}) {
      const Loaded l = load(folder, "cpu", table->name, threads);
      ASSERT_NE(l.engine, nullptr);
      EXPECT_EQ(run(*l.engine, fixture.tokens, 128), want) << table->name << ", " << threads << " threads";
    }
  }
  // Another sequence in the same steps, of other tokens: experts are shared, answers are not.
  const Loaded l = load(folder);
  std::vector<TokenId> others(fixture.tokens.rbegin(), fixture.tokens.rend());
  const SequenceId first = l.engine->cache().create_sequence(), second = l.engine->cache().create_sequence();
  const Slice slices[] = {{.sequence = second, .tokens = others, .logits = {0}},
                          {.sequence = first, .tokens = fixture.tokens, .logits = all_rows(fixture.tokens.size())}};
  StepOutput output;
  const Status status = l.engine->step(slices, &output);
  ASSERT_TRUE(status.ok()) << status.message();
  const size_t vocab = want.size() / fixture.tokens.size();
  for (size_t r = 0; r < fixture.tokens.size(); ++r) {
    const auto row = output.logits(1, r);
    ASSERT_TRUE(std::equal(row.begin(), row.end(), want.begin() + static_cast<ptrdiff_t>(r * vocab))) << "row " << r;
  }
}

// Masks of several slices meet in one product; a slice without one asks for all.
TEST_P(Families, LogitsThatAreWantedAreTheSameBits) {
  const std::string folder = folder_of(GetParam());
  const Fixture fixture(folder);
  const Loaded l = load(folder);
  ASSERT_NE(l.engine, nullptr);
  const std::vector<float> want = run(*l.engine, fixture.tokens, 128);
  const size_t rows = fixture.tokens.size(), vocab = want.size() / rows;
  std::vector<std::vector<uint64_t>> masks(3, std::vector<uint64_t>((vocab + 63) / 64));
  const auto set = [&](size_t mask, size_t token) { masks[mask][token / 64] |= uint64_t{1} << token % 64; };
  set(0, vocab - 1);
  set(1, vocab / 2);
  set(1, 3);
  for (size_t t = 0; t < vocab; t += 2) set(2, t);  // too many for a list
  StepOutput output;
  const auto check = [&](std::span<const std::vector<uint64_t>> of_slices, bool with_all) {
    std::vector<Slice> slices;
    for (const std::vector<uint64_t>& mask : of_slices) {
      slices.push_back({.sequence = l.engine->cache().create_sequence(),
                        .tokens = fixture.tokens,
                        .logits = all_rows(rows),
                        .logit_mask = mask});
    }
    if (with_all) {
      slices.push_back(
          {.sequence = l.engine->cache().create_sequence(), .tokens = fixture.tokens, .logits = all_rows(rows)});
    }
    const Status status = l.engine->step(slices, &output);
    ASSERT_TRUE(status.ok()) << status.message();
    for (size_t s = 0; s < slices.size(); ++s) {
      for (size_t r = 0; r < rows; ++r) {
        for (size_t t = 0; t < vocab; ++t) {
          if (s < of_slices.size() && (of_slices[s][t / 64] >> t % 64 & 1) == 0) continue;
          ASSERT_EQ(output.logits(s, r)[t], want[r * vocab + t]) << "slice " << s << ", row " << r << ", token " << t;
        }
      }
      ASSERT_TRUE(l.engine->cache().remove(slices[s].sequence).ok());
    }
  };
  for (const std::vector<uint64_t>& mask : masks) check({&mask, 1}, false);
  check(std::span(masks).first(2), false);
  check(std::span(masks).first(1), true);
  const std::vector<uint64_t> wrong(masks[0].size() + 1);
  const Slice slice{
      .sequence = l.engine->cache().create_sequence(), .tokens = fixture.tokens, .logits = {0}, .logit_mask = wrong};
  EXPECT_EQ(l.engine->step({&slice, 1}, &output).code(), Code::kInvalidArgument);
}

TEST_P(Families, AConvertedFileGivesTheSameBits) {
  const std::string folder = folder_of(GetParam());
  const Fixture fixture(folder);
  const std::string path = ::testing::TempDir() + "decant_" + std::to_string(::getpid()) + GetParam() + ".gguf";
  {
    const auto file = open_model(folder);
    ASSERT_TRUE(file.ok()) << file.status().message();
    const Status status = write_gguf(*file, path, {});
    ASSERT_TRUE(status.ok()) << status.message();
  }
  const Loaded before = load(folder), after = load(path);
  fs::remove(path);
  ASSERT_NE(before.engine, nullptr);
  ASSERT_NE(after.engine, nullptr);
  const std::vector<float> logits = run(*before.engine, fixture.tokens, 128);
  EXPECT_GT(logits.size(), 0u);
  EXPECT_EQ(run(*after.engine, fixture.tokens, 128), logits);
}

// check_export.py has transformers read such folders; here the bits have to survive, shards and casts too.
TEST_P(Families, AGgufFileBecomesACheckpointOfTheSameBits) {
  const std::string folder = folder_of(GetParam());
  const Fixture fixture(folder);
  const std::string base = ::testing::TempDir() + "decant_" + std::to_string(::getpid()) + GetParam();
  const std::string gguf = base + ".gguf", exported = base + "_exported", rewritten = base + "_rewritten";
  fs::create_directory(exported);
  fs::create_directory(rewritten);
  const auto written = [&]() -> Status {
    DECANT_TRY(const GgufFile checkpoint, open_model(folder));
    DECANT_TRY_STATUS(write_gguf(checkpoint, gguf, {}));
    DECANT_TRY(const GgufFile file, open_model(gguf));
    DECANT_TRY(const ModelConfig config, read_config(file));
    DECANT_TRY_STATUS(write_checkpoint(gguf, file, config, exported, {}));
    return write_checkpoint(exported, file, config, rewritten, {.type = DType::kF32, .shard_bytes = 4000});
  }();
  ASSERT_TRUE(written.ok()) << written.message();
  const Loaded before = load(folder), after = load(exported), last = load(rewritten);
  EXPECT_TRUE(fs::exists(rewritten + "/model.safetensors.index.json"));
  fs::remove(gguf);
  fs::remove_all(exported);
  fs::remove_all(rewritten);
  ASSERT_NE(before.engine, nullptr);
  ASSERT_NE(after.engine, nullptr);
  ASSERT_NE(last.engine, nullptr);
  const std::vector<float> logits = run(*before.engine, fixture.tokens, 128);
  EXPECT_GT(logits.size(), 0u);
  EXPECT_EQ(run(*after.engine, fixture.tokens, 128), logits);
  // Weights in another type may be summed in another order.
  EXPECT_LE(relative_error(run(*last.engine, fixture.tokens, 128), logits), 1e-5);
}

INSTANTIATE_TEST_SUITE_P(All, Families, ::testing::ValuesIn(fixture_names()),
                         [](const auto& param) { return param.param; });

TEST(FamilyFixtures, AllAreThere) { EXPECT_GE(fixture_names().size(), 23u); }

std::vector<std::string> adapter_names() {
  std::vector<std::string> names = fixture_names();
  std::erase_if(names, [](const std::string& name) { return !fs::exists(folder_of(name) + "/adapter"); });
  return names;
}

class Adapters : public ::testing::TestWithParam<std::string> {};

TEST_P(Adapters, GiveWhatPeftGivesForTheirRowsOnly) {
  const std::string folder = folder_of(GetParam());
  const Fixture fixture(folder);
  const std::vector<std::string> available = devices();
  const Loaded l = load(folder, available.back());
  ASSERT_NE(l.engine, nullptr);
  const auto lora = Overlay::load_lora(folder + "/adapter", l.model, 1.0f);
  ASSERT_TRUE(lora.ok()) << lora.status().message();
  const auto engine = exact_engine(l, 512);
  ASSERT_TRUE(engine.ok());
  const Overlay* const overlays[] = {lora->get()};
  const std::vector<float> adapted = run(**engine, fixture.tokens, 128, overlays);
  EXPECT_LE(relative_error(adapted, fixture.adapter_logits), kTolerance);
  const std::vector<float> plain = run(**engine, fixture.tokens, 128);
  EXPECT_LE(relative_error(plain, fixture.logits), kTolerance);
  EXPECT_NE(adapted, plain);
  EXPECT_EQ(run(**engine, fixture.tokens, 1, overlays), adapted) << "one by one";

  // Side by side in one step, with logits of some rows only: each as it is alone.
  const auto zero = Overlay::load_lora(folder + "/adapter", l.model, 0.0f);
  ASSERT_TRUE(zero.ok());
  const Overlay* const both[] = {zero->get(), lora->get()};
  const int32_t last = static_cast<int32_t>(fixture.tokens.size()) - 1;
  std::vector<Slice> slices;
  for (const auto& list : {std::span<const Overlay* const>(overlays), std::span<const Overlay* const>(),
                           std::span<const Overlay* const>(both)}) {
    slices.push_back({.sequence = (*engine)->cache().create_sequence(),
                      .tokens = fixture.tokens,
                      .overlays = list,
                      .logits = {last, 3}});
  }
  StepOutput output;
  ASSERT_TRUE((*engine)->step(slices, &output).ok());
  const size_t vocab = plain.size() / fixture.tokens.size();
  for (size_t s = 0; s < 3; ++s) {
    const std::vector<float>& want = s == 1 ? plain : adapted;
    for (size_t i = 0; i < 2; ++i) {
      const auto row = static_cast<size_t>(slices[s].logits[i]);
      const auto got = output.logits(s, i);
      EXPECT_TRUE(std::equal(got.begin(), got.end(), want.begin() + static_cast<ptrdiff_t>(row * vocab)))
          << "slice " << s << ", row " << row;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, Adapters, ::testing::ValuesIn(adapter_names()),
                         [](const auto& param) { return param.param; });

}  // namespace
}  // namespace decant
