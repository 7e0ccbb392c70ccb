// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// The input is a GGUF file. Whatever parses must be consistent: every view lies inside the input, every size is what
// type and shape say, every accessor answers. A refusal must name the file.
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/quants.h"
#include "formats/gguf.h"

namespace decant {
namespace {

void check_inside(std::span<const uint8_t> input, const void* begin, size_t size) {
  const auto* p = static_cast<const uint8_t*>(begin);
  DECANT_CHECK(size == 0 || (p >= input.data() && p + size <= input.data() + input.size()));
}

template <typename T>
void check_answer(const Result<T>& answer) {
  DECANT_CHECK(answer.ok() || answer.status().message().starts_with("fuzz.gguf: "));
}

void check_metadata(const GgufFile& file, std::span<const uint8_t> input) {
  for (const auto& [key, value] : file.metadata()) {
    DECANT_CHECK(file.find(key) == &value);
    check_answer(file.get_uint(key));
    check_answer(file.get_float(key));
    check_answer(file.get_bool(key));
    check_answer(file.get_string(key));
    check_answer(file.require_uint(key));
    check_answer(file.require_float(key));
    check_answer(file.require_string(key));
    const auto array = file.get_array(key);
    check_answer(array);
    if (const auto* text = std::get_if<std::string_view>(&value)) check_inside(input, text->data(), text->size());
    if (!array.ok()) continue;
    DECANT_CHECK((*array)->size() <= input.size());
    const auto* strings = std::get_if<std::vector<std::string_view>>(&(*array)->values);
    if (strings == nullptr) continue;
    for (std::string_view text : *strings) check_inside(input, text.data(), text.size());
  }
}

void check_tensors(const GgufFile& file, std::span<const uint8_t> input) {
  for (const GgufTensor& tensor : file.tensors()) {
    DECANT_CHECK(file.find_tensor(tensor.name) == &tensor);
    DECANT_CHECK(!tensor.shape.empty() && tensor.shape.size() <= 4 && tensor.cols() >= 1 && tensor.rows() >= 1);
    DECANT_CHECK(tensor.data.size() == row_bytes(tensor.type, tensor.cols()) * static_cast<size_t>(tensor.rows()));
    check_inside(input, tensor.data.data(), tensor.data.size());
    std::vector<float> row(static_cast<size_t>(tensor.cols()));
    dequantize_row(tensor.type, tensor.data.data(), row.data(), tensor.cols());
    file.release(tensor, 0, tensor.data.size());
  }
}

}  // namespace
}  // namespace decant

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span<const uint8_t> input(data, size);
  const auto file = decant::GgufFile::parse(input, "fuzz.gguf");
  decant::check_answer(file);
  if (!file.ok()) return 0;
  DECANT_CHECK(file->file_size() == size);
  decant::check_metadata(*file, input);
  decant::check_tensors(*file, input);
  return 0;
}
