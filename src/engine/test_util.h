// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// What tests of decoding share: an engine over a tiny random model, and a vocabulary for constraints.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "constrain/json_vocabulary.h"
#include "constrain/token_trie.h"
#include "engine/engine.h"
#include "formats/gguf.h"
#include "kernels/device.h"
#include "model/model.h"
#include "testing/tiny_model.h"
#include "text/tokenizer.h"

namespace decant::engine_testing {

class TinyModelTest : public ::testing::Test {
 protected:
  void open(const EngineOptions& options, const testing::TinyModelSpec& spec = {}) {
    engine_.reset();
    model_.reset();
    bytes_ = testing::make_tiny_model(spec).serialize();
    auto device = make_cpu_device(1);
    ASSERT_TRUE(device.ok()) << device.status().message();
    device_ = *std::move(device);
    const auto file = GgufFile::parse(bytes_, "tiny.gguf");
    ASSERT_TRUE(file.ok()) << file.status().message();
    auto model = Model::load(*file, *device_);
    ASSERT_TRUE(model.ok()) << model.status().message();
    model_ = *std::move(model);
    auto tokenizer = Tokenizer::from_gguf(*file);
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().message();
    tokenizer_ = *std::move(tokenizer);
    reopen(options);
  }
  // Another engine of the same model.
  void reopen(const EngineOptions& options) {
    auto engine = Engine::create(model_, options);
    ASSERT_TRUE(engine.ok()) << engine.status().message();
    engine_ = *std::move(engine);
  }

  std::vector<uint8_t> bytes_;
  std::unique_ptr<Device> device_;
  std::shared_ptr<const Model> model_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  std::unique_ptr<Engine> engine_;
};

// Texts that constraints see in place of the model's own tokens: from 10 on the printable characters, from 120 on
// `longer` ones; others stand for nothing.
inline std::vector<std::string> letter_texts(const std::vector<std::string>& longer = {}) {
  std::vector<std::string> texts(testing::kTinyVocab);
  for (size_t i = 0; i < 95; ++i) texts[10 + i] = std::string(1, static_cast<char>(' ' + i));
  for (size_t i = 0; i < longer.size(); ++i) texts[120 + i] = longer[i];
  return texts;
}
inline std::shared_ptr<const JsonVocabulary> vocabulary_of(const std::vector<std::string>& texts) {
  const std::vector<std::string_view> views(texts.begin(), texts.end());
  return std::make_shared<const JsonVocabulary>(std::make_shared<const TokenTrie>(views));
}

}  // namespace decant::engine_testing
