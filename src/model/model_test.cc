// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "model/model.h"

#include <gtest/gtest.h>

#include <cmath>

#include "formats/gguf.h"
#include "testing/tiny_model.h"

namespace decant {
namespace {

using testing::make_tiny_model;

Result<ModelConfig> config_of(const GgufWriter& writer) {
  const std::vector<uint8_t> bytes = writer.serialize();
  DECANT_TRY(const GgufFile file, GgufFile::parse(bytes, "m.gguf"));
  return read_config(file);
}

Status load_status(const GgufWriter& writer) {
  const std::vector<uint8_t> bytes = writer.serialize();
  DECANT_TRY(const GgufFile file, GgufFile::parse(bytes, "m.gguf"));
  DECANT_TRY(const std::unique_ptr<Device> device, make_cpu_device(1));
  return Model::load(file, *device).status();
}

// The metadata of a one-layer llama without tensors.
GgufWriter llama_metadata() {
  GgufWriter w;
  w.set("general.architecture", "llama");
  w.set("llama.block_count", uint32_t{2});
  w.set("llama.context_length", uint32_t{128});
  w.set("llama.embedding_length", uint32_t{64});
  w.set("llama.feed_forward_length", uint32_t{96});
  w.set("llama.attention.head_count", uint32_t{4});
  return w;
}

void expect_message(const Status& status, Code code, const std::string& part) {
  EXPECT_EQ(status.code(), code) << status.message();
  EXPECT_NE(status.message().find(part), std::string::npos) << status.message();
  EXPECT_NE(status.message().find("m.gguf"), std::string::npos) << status.message();
}

TEST(Config, AbsentKeysTakeTheFamilysDefaults) {
  const auto config = config_of(llama_metadata());
  ASSERT_TRUE(config.ok()) << config.status().message();
  EXPECT_EQ(config->layers[0].n_kv_heads, 4);
  EXPECT_EQ(config->layers[0].k_dim, 16);
  EXPECT_EQ(config->ropes[0].rot_dim, 16);
  EXPECT_TRUE(config->ropes[0].interleaved);
  EXPECT_DOUBLE_EQ(config->ropes[0].base, 10000.0);
  EXPECT_FLOAT_EQ(config->attention_scale, 0.25f);
}

TEST(Config, Gemma3AlternatesWindowedAndGlobalLayersWithTheirOwnRopes) {
  GgufWriter w;
  w.set("general.architecture", "gemma3");
  w.set("gemma3.block_count", uint32_t{12});
  w.set("gemma3.context_length", uint32_t{128});
  w.set("gemma3.embedding_length", uint32_t{64});
  w.set("gemma3.feed_forward_length", uint32_t{96});
  w.set("gemma3.attention.head_count", uint32_t{4});
  w.set("gemma3.attention.sliding_window", uint32_t{32});
  w.set("gemma3.rope.scaling.type", "linear");
  w.set("gemma3.rope.scaling.factor", 8.0f);
  const auto config = config_of(w);
  ASSERT_TRUE(config.ok()) << config.status().message();
  for (int i = 0; i < 12; ++i) {
    const LayerConfig& layer = config->layers[static_cast<size_t>(i)];
    const bool global = i == 5 || i == 11;
    EXPECT_EQ(layer.window, global ? 0 : 32) << i;
    EXPECT_EQ(layer.rope, global ? 0 : 1) << i;
  }
  EXPECT_DOUBLE_EQ(config->ropes[0].base, 1e6);
  EXPECT_DOUBLE_EQ(config->ropes[0].factor, 8.0);
  EXPECT_DOUBLE_EQ(config->ropes[1].base, 10000.0);
  EXPECT_EQ(config->ropes[1].scaling, RopeScaling::kNone);
  EXPECT_FLOAT_EQ(config->embedding_scale, 8.0f);
}

TEST(Config, WhatChangesTheMathematicsIsRefusedByName) {
  GgufWriter unknown;
  unknown.set("general.architecture", "mamba");
  expect_message(config_of(unknown).status(), Code::kUnsupported, "mamba");
  GgufWriter dynamic = llama_metadata();
  dynamic.set("llama.rope.scaling.type", "dynamic");
  expect_message(config_of(dynamic).status(), Code::kUnsupported, "dynamic");
  GgufWriter shared = llama_metadata();
  shared.set("llama.expert_count", uint32_t{8});
  shared.set("llama.expert_used_count", uint32_t{2});
  shared.set("llama.expert_shared_count", uint32_t{1});
  expect_message(config_of(shared).status(), Code::kUnsupported, "expert_shared_count");
  GgufWriter activation = llama_metadata();
  activation.set("llama.hidden_activation", "xielu");
  expect_message(config_of(activation).status(), Code::kUnsupported, "xielu");
}

// d = 128, base 1e6, factor 4, original context 32768: pairs up to 23 are kept, from 40 on stretched.
TEST(Model, YarnKeepsHighFrequenciesAndStretchesLowOnes) {
  GgufWriter w = make_tiny_model({.hidden = 128,
                                  .layers = 1,
                                  .heads = 1,
                                  .kv_heads = 1,
                                  .head_dim = 128,
                                  .ffn = 32,
                                  .rope_base = 1e6f,
                                  .yarn_factor = 4.0f,
                                  .yarn_context = 32768});
  const std::vector<uint8_t> bytes = w.serialize();
  const auto file = GgufFile::parse(bytes, "m.gguf");
  ASSERT_TRUE(file.ok());
  const auto device = make_cpu_device(1);
  const auto model = Model::load(*file, **device);
  ASSERT_TRUE(model.ok()) << model.status().message();
  const RopeTable& rope = (*model)->rope(0, 4096);
  EXPECT_NEAR(rope.magnitude, 1.138629, 1e-6);
  const auto plain = [](int i) { return std::pow(1e6, -2.0 * i / 128); };
  for (int i = 0; i <= 23; ++i) EXPECT_DOUBLE_EQ(rope.inv_freq[static_cast<size_t>(i)], plain(i)) << i;
  for (int i = 40; i < 64; ++i) EXPECT_DOUBLE_EQ(rope.inv_freq[static_cast<size_t>(i)], plain(i) / 4) << i;
  EXPECT_LT(rope.inv_freq[30], plain(30));
  EXPECT_GT(rope.inv_freq[30], plain(30) / 4);
}

TEST(Config, AbsurdMetadataIsRefusedByKey) {
  const auto with = [](const char* key, uint32_t value) {
    GgufWriter w;
    w.set("general.architecture", "llama");
    for (const auto& [name, number] :
         std::vector<std::pair<std::string, uint32_t>>{{"llama.block_count", 2},
                                                       {"llama.context_length", 128},
                                                       {"llama.embedding_length", 64},
                                                       {"llama.feed_forward_length", 96},
                                                       {"llama.attention.head_count", 4}}) {
      w.set(name, name == key ? value : number);
    }
    return config_of(w).status();
  };
  for (const char* key : {"llama.block_count", "llama.context_length", "llama.embedding_length",
                          "llama.feed_forward_length", "llama.attention.head_count"}) {
    expect_message(with(key, 0), Code::kCorrupt, key);
    expect_message(with(key, 0xffffffffu), Code::kCorrupt, key);
  }
  GgufWriter missing;
  missing.set("general.architecture", "llama");
  expect_message(config_of(missing).status(), Code::kNotFound, "llama.block_count");
  GgufWriter heads = llama_metadata();
  heads.set("llama.attention.head_count_kv", uint32_t{3});
  expect_message(config_of(heads).status(), Code::kCorrupt, "3 key/value heads");
  GgufWriter rope = llama_metadata();
  rope.set("llama.rope.dimension_count", uint32_t{15});
  expect_message(config_of(rope).status(), Code::kCorrupt, "rope.dimension_count");
  GgufWriter base = llama_metadata();
  base.set("llama.rope.freq_base", -1.0f);
  expect_message(config_of(base).status(), Code::kCorrupt, "rope.freq_base");
}

TEST(Model, MissingTensorsWrongShapesAndStrangersAreRefused) {
  expect_message(load_status(llama_metadata()), Code::kNotFound, "token_embd.weight");

  GgufWriter shape = llama_metadata();
  shape.add_tensor("token_embd.weight", DType::kF32, {32, 10}, std::vector<uint8_t>(32 * 10 * 4));
  expect_message(load_status(shape), Code::kCorrupt, "32 x 10");

  GgufWriter stranger = make_tiny_model({});
  stranger.add_tensor("blk.0.ffn_gate_inp.weight", DType::kF32, {4}, std::vector<uint8_t>(16));
  const std::vector<uint8_t> bytes = stranger.serialize();
  const auto file = GgufFile::parse(bytes, "m.gguf");
  ASSERT_TRUE(file.ok());
  const auto device = make_cpu_device(1);
  ASSERT_TRUE(device.ok());
  expect_message(Model::load(*file, **device).status(), Code::kUnsupported, "blk.0.ffn_gate_inp.weight");
}

TEST(Model, TiedAndUntiedHeadsAndSizesAreCounted) {
  for (const bool tied : {true, false}) {
    const std::vector<uint8_t> bytes = make_tiny_model({.tied = tied}).serialize();
    const auto file = GgufFile::parse(bytes, "m.gguf");
    ASSERT_TRUE(file.ok());
    const auto device = make_cpu_device(2);
    ASSERT_TRUE(device.ok());
    double progress = 0;
    const auto model = Model::load(*file, **device, [&](double share) {
      EXPECT_GE(share, progress);
      progress = share;
    });
    ASSERT_TRUE(model.ok()) << model.status().message();
    EXPECT_GT(progress, 0.9);
    EXPECT_EQ((*model)->config().vocab_size, testing::kTinyVocab);
    EXPECT_EQ((*model)->output().data.raw() == (*model)->embedding().data.raw(), tied);
    EXPECT_LE((*model)->bytes_per_token(), (*model)->weight_bytes());
  }
}

}  // namespace
}  // namespace decant
