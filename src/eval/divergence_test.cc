// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "eval/divergence.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <random>

namespace decant {
namespace {

constexpr int kWindow = 8, kWindows = 2, kVocab = 11;

class DivergenceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / ("decant-divergence-" + std::to_string(::getpid()));
    std::filesystem::create_directories(folder_);
    path_ = (folder_ / "base.bin").string();
    std::mt19937 rng(3);
    std::normal_distribution<float> normal(0, 3);
    for (int i = 0; i < kWindow * kWindows; ++i) tokens_.push_back(static_cast<int32_t>(rng() % kVocab));
    for (int r = 0; r < kWindows * scored_rows(kWindow); ++r) {
      std::vector<float> row(kVocab);
      for (float& x : row) x = normal(rng);
      row[2] = -100;  // out of range
      logits_.push_back(row);
    }
    auto writer = DivergenceBaseWriter::create(path_, kWindow, kVocab, tokens_);
    ASSERT_TRUE(writer.ok()) << writer.status().message();
    for (const auto& row : logits_) ASSERT_TRUE(writer->add(row).ok());
    ASSERT_TRUE(writer->finish().ok());
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  static std::vector<double> softmax_logs(const std::vector<float>& logits) {
    double sum = 0;
    for (const float x : logits) sum += std::exp(static_cast<double>(x));
    std::vector<double> out;
    for (const float x : logits) out.push_back(static_cast<double>(x) - std::log(sum));
    return out;
  }

  Code open_patched(size_t at, int32_t value) {
    std::ifstream in(path_, std::ios::binary);
    std::string bytes((std::istreambuf_iterator<char>(in)), {});
    std::memcpy(bytes.data() + at, &value, sizeof(value));
    const std::string other = (folder_ / "patched.bin").string();
    std::ofstream(other, std::ios::binary) << bytes;
    return DivergenceBase::open(other, kVocab).status().code();
  }

  std::filesystem::path folder_;
  std::string path_;
  std::vector<int32_t> tokens_;
  std::vector<std::vector<float>> logits_;
};

TEST_F(DivergenceTest, ABaseFileGivesBackWhatWasWritten) {
  const auto base = DivergenceBase::open(path_, kVocab);
  ASSERT_TRUE(base.ok()) << base.status().message();
  EXPECT_EQ(base->tokens(), tokens_);
  EXPECT_EQ(base->window(), kWindow);
  EXPECT_EQ(base->rows(), kWindows * scored_rows(kWindow));
  std::vector<float> row(kVocab);
  for (size_t r = 0; r < logits_.size(); ++r) {
    base->read(static_cast<int64_t>(r), row);
    const std::vector<double> want = softmax_logs(logits_[r]);
    for (size_t t = 0; t < row.size(); ++t) {
      if (t == 2) {
        EXPECT_EQ(row[t], -INFINITY);
      } else if (row[t] > -INFINITY) {  // the least likely one has code 0
        EXPECT_NEAR(row[t], want[t], 16.0 / 65535);
      }
    }
  }
}

TEST_F(DivergenceTest, TheMeterAgreesWithTheDefinition) {
  const std::vector<float> p = {1, 2, 3, -1}, q = {1.5f, 2, 2.5f, 0};
  const std::vector<double> log_p = softmax_logs(p), log_q = softmax_logs(q);
  double want = 0;
  for (size_t i = 0; i < p.size(); ++i) want += std::exp(log_p[i]) * (log_p[i] - log_q[i]);
  DivergenceMeter meter;
  meter.add(std::vector<float>(log_p.begin(), log_p.end()), q, 2);
  meter.add(std::vector<float>(log_p.begin(), log_p.end()), p, 0);
  const Divergence d = meter.result();
  EXPECT_EQ(d.rows, 2);
  EXPECT_NEAR(d.mean_kl, want / 2, 1e-6);
  EXPECT_NEAR(d.max_kl, want, 1e-6);
  EXPECT_NEAR(d.mean_delta_nll, (log_p[2] - log_q[2]) / 2, 1e-6);
  EXPECT_EQ(d.same_top, 1);
}

TEST_F(DivergenceTest, BrokenFilesAreRefused) {
  EXPECT_EQ(DivergenceBase::open(path_, kVocab + 1).status().code(), Code::kInvalidArgument);
  EXPECT_EQ(DivergenceBase::open(path_ + ".none", kVocab).status().code(), Code::kNotFound);
  EXPECT_EQ(open_patched(0, 0), Code::kCorrupt);   // the magic
  EXPECT_EQ(open_patched(8, -4), Code::kCorrupt);  // the window
  EXPECT_EQ(open_patched(8, 1 << 30), Code::kCorrupt);
  EXPECT_EQ(open_patched(16, 1 << 30), Code::kCorrupt);  // the number of windows
  EXPECT_EQ(open_patched(16, kWindows + 1), Code::kCorrupt);
  EXPECT_EQ(open_patched(20, kVocab), Code::kCorrupt);  // a token
  EXPECT_EQ(open_patched(20, tokens_[0]), Code::kOk);
  std::filesystem::resize_file(path_, std::filesystem::file_size(path_) - 1);
  EXPECT_EQ(DivergenceBase::open(path_, kVocab).status().code(), Code::kCorrupt);
}

}  // namespace
}  // namespace decant
