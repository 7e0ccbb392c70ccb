// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// The input is a safetensors file. Whatever parses must be consistent: tensors lie inside the input, one behind the
// other up to its end, with the bytes that type and shape ask for. A refusal must name the file.
#include <cstddef>
#include <cstdint>
#include <span>

#include "formats/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto file = decant::SafetensorsFile::parse({data, size}, "fuzz.safetensors");
  if (!file.ok()) {
    DECANT_CHECK(file.status().message().starts_with("fuzz.safetensors: "));
    return 0;
  }
  size_t covered = 0;
  for (const decant::SafetensorsTensor& tensor : file->tensors()) {
    DECANT_CHECK(file->find_tensor(tensor.name) == &tensor);
    size_t bytes = decant::safetensors_item_bytes(tensor.dtype).value();
    for (const int64_t dimension : tensor.shape) bytes *= static_cast<size_t>(dimension);
    DECANT_CHECK(bytes == tensor.data.size());
    DECANT_CHECK(tensor.data.data() >= data && tensor.data.data() + bytes <= data + size);
    covered += bytes;
    file->release(tensor, 0, bytes);
  }
  DECANT_CHECK(covered < size);
  return 0;
}
