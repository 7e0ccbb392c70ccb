// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// The input is an adapter_config.json, a zero byte, and an adapter_model.safetensors, for a tiny Llama; without a zero
// byte it is a GGUF adapter. Every refusal names a file.
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "formats/gguf.h"
#include "fuzz/scratch_folder.h"
#include "kernels/device.h"
#include "model/model.h"
#include "model/overlay.h"
#include "testing/tiny_model.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const decant::fuzz::ScratchFolder folder;
  static const auto device = decant::make_cpu_device(1).value();
  static const std::vector<uint8_t> bytes = decant::testing::make_tiny_model({.layers = 1}).serialize();
  static const auto model = decant::Model::load(decant::GgufFile::parse(bytes, "tiny.gguf").value(), *device).value();
  const bool is_gguf = size >= 4 && std::equal(data, data + 4, "GGUF");
  const auto [config_text, weights] = decant::fuzz::split_at_zero({data, size});
  std::string path = folder.path();
  if (is_gguf) {
    path += "/adapter.gguf";
    folder.write("adapter.gguf", {data, size});
  } else {
    folder.write("adapter_config.json", config_text);
    folder.write("adapter_model.safetensors", weights);
  }
  const auto adapter = decant::Overlay::load_lora(path, model, 0.5f);
  if (adapter.ok()) {
    DECANT_CHECK((*adapter)->changed() > 0 && (*adapter)->bytes() > 0);
  } else {
    DECANT_CHECK(adapter.status().message().find(folder.path()) != std::string::npos);
  }
  return 0;
}
