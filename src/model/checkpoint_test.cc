// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// What is wrong with a checkpoint or an adapter is said by file, field and fix. That what is right gives the right
// numbers is checked in engine/families_test.cc.
#include "model/checkpoint.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/mapped_file.h"
#include "formats/safetensors.h"
#include "model/convert.h"
#include "model/model.h"
#include "model/overlay.h"

namespace decant {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

const std::string kFixtures = std::string(DECANT_SOURCE_DIR) + "/tests/families/";

class Checkpoint : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = ::testing::TempDir() + "checkpoint_" + std::to_string(::getpid()) + "_" +
              ::testing::UnitTest::GetInstance()->current_test_info()->name();
    fs::remove_all(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  void copy(const std::string& fixture) {
    fs::remove_all(folder_);
    fs::copy(kFixtures + fixture, folder_, fs::copy_options::recursive);
  }
  json config(const std::string& file = "config.json") const {
    return json::parse(std::ifstream(folder_ + "/" + file));
  }
  void write(const json& value, const std::string& file = "config.json") const {
    std::ofstream(folder_ + "/" + file) << value.dump();
  }
  // Opens and loads.
  Status status() const {
    DECANT_TRY(const GgufFile file, open_model(folder_));
    DECANT_TRY(const std::unique_ptr<Device> device, make_cpu_device(1));
    return Model::load(file, *device).status();
  }
  void expect(const Status& status, Code code, const std::string& part) const {
    EXPECT_EQ(code_name(status.code()), code_name(code)) << status.message();
    EXPECT_NE(status.message().find(part), std::string::npos) << status.message();
    EXPECT_NE(status.message().find(folder_), std::string::npos) << status.message();
  }
  // Writes the weights again, changed.
  void rewrite(const std::function<bool(SafetensorsTensor*)>& change) const {
    SafetensorsWriter writer;
    {
      const auto file = SafetensorsFile::open(folder_);
      ASSERT_TRUE(file.ok());
      for (SafetensorsTensor tensor : file->tensors()) {
        if (!change(&tensor)) continue;
        std::vector<uint8_t> bytes(tensor.data.begin(), tensor.data.end());
        ASSERT_TRUE(writer.add_tensor(tensor.name, tensor.dtype, tensor.shape, [bytes] { return bytes; }).ok());
      }
    }
    ASSERT_TRUE(writer.write(folder_ + "/model.safetensors").ok());
  }

  std::string folder_;
};

TEST_F(Checkpoint, ConfigurationsAreRefusedByField) {
  copy("qwen2");
  const json whole = config();
  EXPECT_TRUE(status().ok()) << status().message();
  const auto with = [&](const char* key, const json& value) {
    json changed = whole;
    changed[key] = value;
    write(changed);
    return status();
  };
  expect(with("architectures", {"MambaForCausalLM"}), Code::kUnsupported, "MambaForCausalLM");
  expect(with("architectures", json()), Code::kCorrupt, "architectures");
  expect(with("quantization_config", {{"quant_method", "gptq"}}), Code::kUnsupported, "gptq");
  expect(with("hidden_size", json()), Code::kCorrupt, "hidden_size");
  expect(with("hidden_size", "many"), Code::kCorrupt, "hidden_size");
  expect(with("num_hidden_layers", 1 << 30), Code::kCorrupt, "num_hidden_layers");
  expect(with("head_dim", 1 << 30), Code::kCorrupt, "head_dim");
  expect(with("num_attention_heads", 0), Code::kCorrupt, "num_attention_heads");
  expect(with("rope_parameters", {{"rope_type", "dynamic"}, {"factor", 2.0}}), Code::kCorrupt, "dynamic");
  expect(with("rope_parameters", {{"rope_type", "longrope"}, {"long_factor", {1.0}}}), Code::kCorrupt, "long_factor");
  expect(with("rope_parameters", 7), Code::kCorrupt, "rope_parameters");
  expect(with("hidden_act", "xielu"), Code::kUnsupported, "xielu");
  expect(with("num_key_value_heads", 3), Code::kCorrupt, "key/value heads");
  std::ofstream(folder_ + "/config.json") << "{";
  expect(status(), Code::kCorrupt, "no JSON at byte");
  fs::remove(folder_ + "/config.json");
  expect(status(), Code::kNotFound, "config.json");
}

TEST_F(Checkpoint, TensorsAreRefusedByName) {
  const std::string q = "model.layers.1.self_attn.q_proj.weight";
  copy("llama3");
  rewrite([&](SafetensorsTensor* t) { return t->name != q; });
  expect(status(), Code::kNotFound, "blk.1.attn_q.weight");
  copy("llama3");
  rewrite([&](SafetensorsTensor* t) {
    if (t->name == q) t->shape = {t->shape[0] / 2, t->shape[1] * 2};
    return true;
  });
  expect(status(), Code::kCorrupt, q);
  copy("llama3");
  rewrite([&](SafetensorsTensor* t) {
    if (t->name == "model.norm.weight") t->name = "model.extra.weight";
    return true;
  });
  expect(status(), Code::kNotFound, "output_norm.weight");
  copy("llama3");
  rewrite([&](SafetensorsTensor* t) {
    if (t->name == "model.norm.weight") t->dtype = "I16";
    return true;
  });
  expect(status(), Code::kUnsupported, "I16");
  copy("llama2");
  fs::remove(folder_ + "/model-00002-of-00003.safetensors");
  expect(status(), Code::kNotFound, "model-00002-of-00003.safetensors");
  copy("llama2");
  fs::resize_file(folder_ + "/model-00002-of-00003.safetensors", 5000);
  expect(status(), Code::kCorrupt, "model-00002-of-00003.safetensors");
}

TEST_F(Checkpoint, AdaptersOfOtherModelsAndKindsAreRefused) {
  const auto load = [&](const std::string& model, const std::string& adapter) -> Status {
    DECANT_TRY(const GgufFile file, open_model(kFixtures + model));
    DECANT_TRY(const std::unique_ptr<Device> device, make_cpu_device(1));
    DECANT_TRY(const std::shared_ptr<const Model> loaded, Model::load(file, *device));
    return Overlay::load_lora(adapter, loaded, 1.0f).status();
  };
  copy("llama3");
  const std::string adapter = folder_ + "/adapter";
  EXPECT_TRUE(load("llama3", adapter).ok());
  expect(load("llama2", adapter), Code::kCorrupt, "another model");  // other shapes
  expect(load("smollm2", adapter), Code::kCorrupt, "another model");
  expect(load("gpt2", adapter), Code::kNotFound, "another model");  // other names
  const json whole = config("adapter/adapter_config.json");
  const auto with = [&](const char* key, const json& value) {
    json changed = whole;
    changed[key] = value;
    write(changed, "adapter/adapter_config.json");
    return load("llama3", adapter);
  };
  expect(with("use_dora", true), Code::kUnsupported, "use_dora");
  expect(with("peft_type", "IA3"), Code::kUnsupported, "peft_type");
  expect(with("bias", "all"), Code::kUnsupported, "bias");
  expect(with("alpha_pattern", {{"q_proj", 3}}), Code::kUnsupported, "alpha_pattern");
  expect(with("modules_to_save", {"lm_head"}), Code::kUnsupported, "modules_to_save");
  expect(with("lora_alpha", "x"), Code::kCorrupt, "lora_alpha");
  fs::remove(adapter + "/adapter_config.json");
  expect(load("llama3", adapter), Code::kNotFound, "adapter_config.json");
}

TEST_F(Checkpoint, ConvertingQuantizesMatricesAndRefusesNothingHalfWritten) {
  copy("mixtral");
  const auto file = open_model(folder_);
  ASSERT_TRUE(file.ok());
  const std::string path = folder_ + "/out.gguf";
  ASSERT_TRUE(write_gguf(*file, path, {.type = DType::kQ8_0}).ok());
  const auto made = GgufFile::open(path);
  ASSERT_TRUE(made.ok());
  EXPECT_EQ(made->find_tensor("blk.0.ffn_up_exps.weight")->type, DType::kQ8_0);
  EXPECT_EQ(made->find_tensor("blk.0.ffn_up_exps.weight")->shape, (std::vector<int64_t>{32, 48, 4}));
  EXPECT_EQ(made->find_tensor("blk.0.ffn_down_exps.weight")->type, DType::kF16);  // 48 columns are no whole blocks
  EXPECT_EQ(made->find_tensor("blk.0.ffn_gate_inp.weight")->type, DType::kF32);
  EXPECT_EQ(made->find_tensor("blk.0.attn_norm.weight")->type, DType::kF32);
  EXPECT_EQ(made->find_tensor("blk.0.ffn_up.0.weight"), nullptr);
  const auto device = make_cpu_device(1);
  EXPECT_TRUE(Model::load(*made, **device).ok());
  const Status nowhere = write_gguf(*file, folder_ + "/none/out.gguf", {});
  EXPECT_FALSE(nowhere.ok());
  EXPECT_FALSE(fs::exists(folder_ + "/none"));
}

}  // namespace
}  // namespace decant
