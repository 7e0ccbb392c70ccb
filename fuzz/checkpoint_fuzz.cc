// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// The input is a config.json, a zero byte, and a model.safetensors, of any family. Every refusal, of opening, of the
// configuration or of loading, names a file.
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "formats/gguf.h"
#include "fuzz/scratch_folder.h"
#include "kernels/device.h"
#include "model/checkpoint.h"
#include "model/config.h"
#include "model/model.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const decant::fuzz::ScratchFolder folder;
  static const auto device = decant::make_cpu_device(1).value();
  const auto [config_text, weights] = decant::fuzz::split_at_zero({data, size});
  folder.write("config.json", config_text);
  folder.write("model.safetensors", weights);
  const auto refused = [&](const decant::Status& status) {
    DECANT_CHECK(status.message().find(folder.path()) != std::string::npos);
    return 0;
  };
  const auto file = decant::open_model(folder.path());
  if (!file.ok()) return refused(file.status());
  const auto config = decant::read_config(*file);
  if (!config.ok()) return refused(config.status());
  const auto model = decant::Model::load(*file, *device);
  if (!model.ok()) return refused(model.status());
  return 0;
}
