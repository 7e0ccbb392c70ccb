// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include <bit>
#include <cstring>

#include "formats/gguf.h"

namespace decant {
namespace {

static_assert(std::endian::native == std::endian::little, "values are written as they lie in memory");

// Value types of metadata that the writer uses, as stored.
constexpr uint32_t kU32 = 4, kI32 = 5, kF32 = 6, kBool = 7, kString = 8, kArray = 9;

template <typename T>
void append(std::vector<uint8_t>* out, T value) {
  const size_t at = out->size();
  out->resize(at + sizeof value);
  std::memcpy(out->data() + at, &value, sizeof value);
}

void append_string(std::vector<uint8_t>* out, std::string_view text) {
  append<uint64_t>(out, text.size());
  out->insert(out->end(), text.begin(), text.end());
}

uint64_t align_up(uint64_t n, uint64_t alignment) { return (n + alignment - 1) / alignment * alignment; }

}  // namespace

void GgufWriter::put_key(const std::string& key, uint32_t type) {
  ++metadata_count_;
  append_string(&metadata_, key);
  append(&metadata_, type);
}

void GgufWriter::set(std::string key, bool value) {
  put_key(key, kBool);
  append<uint8_t>(&metadata_, value ? 1 : 0);
}

void GgufWriter::set(std::string key, uint32_t value) {
  if (key == "general.alignment" && std::has_single_bit(value)) alignment_ = value;
  put_key(key, kU32);
  append(&metadata_, value);
}

void GgufWriter::set(std::string key, int32_t value) {
  put_key(key, kI32);
  append(&metadata_, value);
}

void GgufWriter::set(std::string key, float value) {
  put_key(key, kF32);
  append(&metadata_, value);
}

void GgufWriter::set(std::string key, std::string value) {
  put_key(key, kString);
  append_string(&metadata_, value);
}

void GgufWriter::set(std::string key, const std::vector<std::string>& values) {
  put_array(key, kString, values.size());
  for (const std::string& value : values) append_string(&metadata_, value);
}

void GgufWriter::set(std::string key, const std::vector<float>& values) {
  put_array(key, kF32, values.size());
  for (float value : values) append(&metadata_, value);
}

void GgufWriter::set(std::string key, const std::vector<int32_t>& values) {
  put_array(key, kI32, values.size());
  for (int32_t value : values) append(&metadata_, value);
}

void GgufWriter::set(std::string key, const std::vector<bool>& values) {
  put_array(key, kBool, values.size());
  for (bool value : values) append<uint8_t>(&metadata_, value ? 1 : 0);
}

void GgufWriter::put_array(const std::string& key, uint32_t type, uint64_t count) {
  put_key(key, kArray);
  append(&metadata_, type);
  append(&metadata_, count);
}

void GgufWriter::copy(const GgufEntry& entry) {
  ++metadata_count_;
  metadata_.insert(metadata_.end(), entry.bytes.begin(), entry.bytes.end());
}

void GgufWriter::add_tensor(std::string name, DType type, std::vector<int64_t> shape, std::vector<uint8_t> data) {
  add_tensor(std::move(name), type, std::move(shape), Producer());
  DECANT_CHECK(tensors_.back().size == data.size());
  tensors_.back().data = std::move(data);
}

void GgufWriter::add_tensor(std::string name, DType type, std::vector<int64_t> shape, Producer produce) {
  DECANT_CHECK(!shape.empty() && shape[0] % dtype_info(type).block == 0);
  size_t size = row_bytes(type, shape[0]);
  for (size_t i = 1; i < shape.size(); ++i) size *= static_cast<size_t>(shape[i]);
  tensors_.push_back({std::move(name), type, std::move(shape), size, {}, std::move(produce)});
}

// Everything before the data section, with the padding that ends it.
std::vector<uint8_t> GgufWriter::header() const {
  std::vector<uint8_t> out = {'G', 'G', 'U', 'F'};
  append<uint32_t>(&out, 3);
  append<uint64_t>(&out, tensors_.size());
  append<uint64_t>(&out, metadata_count_);
  out.insert(out.end(), metadata_.begin(), metadata_.end());
  uint64_t offset = 0;
  for (const Tensor& tensor : tensors_) {
    append_string(&out, tensor.name);
    append(&out, static_cast<uint32_t>(tensor.shape.size()));
    for (int64_t dimension : tensor.shape) append(&out, dimension);
    append(&out, static_cast<uint32_t>(tensor.type));
    append(&out, offset);
    offset += align_up(tensor.size, alignment_);
  }
  out.resize(align_up(out.size(), alignment_));
  return out;
}

std::vector<uint8_t> GgufWriter::serialize() const {
  std::vector<uint8_t> out = header();
  for (const Tensor& tensor : tensors_) {
    out.insert(out.end(), tensor.data.begin(), tensor.data.end());
    out.resize(align_up(out.size(), alignment_));
  }
  return out;
}

Status GgufWriter::write(const std::string& path, const std::function<void(double)>& progress) const {
  DECANT_TRY(AtomicFile file, AtomicFile::create(path));
  DECANT_TRY_STATUS(file.write(header()));
  size_t total = 0, done = 0;
  for (const Tensor& tensor : tensors_) total += tensor.size;
  for (const Tensor& tensor : tensors_) {
    if (tensor.produce) {
      DECANT_TRY(const std::vector<uint8_t> data, tensor.produce());
      DECANT_CHECK(data.size() == tensor.size);
      DECANT_TRY_STATUS(file.write(data));
    } else {
      DECANT_TRY_STATUS(file.write(tensor.data));
    }
    DECANT_TRY_STATUS(file.write(std::vector<uint8_t>(align_up(tensor.size, alignment_) - tensor.size)));
    done += tensor.size;
    if (progress && total > 0) progress(static_cast<double>(done) / static_cast<double>(total));
  }
  return file.commit();
}

}  // namespace decant
