// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// GGUF versions 2 and 3, memory-mapped, whole or split in several files. Files are untrusted: every length, offset,
// count and enumerator is checked against the file before it is used, and no count makes the reader allocate more than
// the file's size justifies.
//
//   DECANT_TRY(GgufFile file, GgufFile::open("model.gguf"));
//   DECANT_TRY(uint64_t layers, file.require_uint("llama.block_count"));
//   const GgufTensor* w = file.find_tensor("token_embd.weight");     // nullptr if absent
//   std::span<const uint8_t> bytes = w->data;                         // ceil(rows * row_bytes), valid while `file`
//   lives
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/dtype.h"
#include "base/mapped_file.h"
#include "base/status.h"

namespace decant {

// A metadata array. Strings point into the mapped file.
struct GgufArray {
  using Values =
      std::variant<std::vector<int64_t>, std::vector<uint64_t>, std::vector<double>, std::vector<std::string_view>>;
  Values values;  // booleans and all signed types: int64; unsigned: uint64; f32 and f64: double; strings: views
  size_t size() const;
};

// A metadata value: bool, signed, unsigned, float, string (a view into the mapped file) or array. Nested arrays are
// refused.
using GgufValue = std::variant<bool, int64_t, uint64_t, double, std::string_view, std::shared_ptr<const GgufArray>>;

struct GgufTensor {
  std::string name;
  DType type;
  std::vector<int64_t>
      shape;  // GGUF order: shape[0] is the fastest (columns of a matrix); 1 to 4 dimensions, each >= 1
  std::span<const uint8_t> data;  // exactly the tensor's bytes; in an opened file aligned to 8 bytes at least
  int file_index;                 // which split file holds it
  // Set where the bytes have to be made (a checkpoint of another layout, model/checkpoint.h); `data` is empty then.
  std::function<std::vector<uint8_t>()> make = {};
  int64_t cols() const { return shape[0]; }
  size_t bytes() const;  // of the tensor, made or not
  int64_t rows() const;  // product of the other dimensions
};

// A metadata entry as the file stores it, for copies that keep every type.
struct GgufEntry {
  std::string_view key;
  std::span<const uint8_t> bytes;  // key, type and value
};

class GgufFile {
 public:
  // Opens `path`; when it is the first of a split set (split.count > 1; NAME-00001-of-0000N.gguf) opens all of them.
  // kNotFound (file or shard), kCorrupt (with file, field, offset), kUnsupported (version, tensor type, big-endian).
  static Result<GgufFile> open(const std::string& path);
  // Parses bytes that the caller keeps alive (fuzzing, tests). `name` is used in messages. One file: other parts of a
  // split set are not looked for, and data is aligned as the caller's bytes are.
  static Result<GgufFile> parse(std::span<const uint8_t> bytes, std::string name);

  // A model of another container: metadata as GgufWriter::serialize() wrote it (without tensors), and tensors that
  // `backing` keeps alive. `release` does what release() below does; may be null.
  using Release = std::function<void(const GgufTensor& tensor, size_t offset, size_t size)>;
  static Result<GgufFile> assemble(std::string path, std::vector<uint8_t> metadata, std::vector<GgufTensor> tensors,
                                   std::shared_ptr<const void> backing, Release release);

  const std::string& path() const { return path_; }
  uint32_t version() const { return version_; }
  std::string container() const;  // "GGUF v3", "safetensors"
  size_t file_size() const;       // bytes of all files together

  const std::map<std::string, GgufValue, std::less<>>& metadata() const { return metadata_; }
  const GgufValue* find(std::string_view key) const;                  // nullptr if absent
  const std::vector<GgufEntry>& entries() const { return entries_; }  // in the file's order

  // Typed access. get_*: nullopt when absent, kCorrupt when present with another type or out of range (integers of any
  // width and signedness convert when the value fits). require_*: kNotFound naming file and key when absent.
  Result<std::optional<uint64_t>> get_uint(std::string_view key) const;
  Result<std::optional<double>> get_float(std::string_view key) const;
  Result<std::optional<bool>> get_bool(std::string_view key) const;
  Result<std::optional<std::string_view>> get_string(std::string_view key) const;
  Result<std::shared_ptr<const GgufArray>> get_array(std::string_view key) const;  // nullptr when absent
  Result<uint64_t> require_uint(std::string_view key) const;
  Result<double> require_float(std::string_view key) const;
  Result<std::string_view> require_string(std::string_view key) const;

  const std::vector<GgufTensor>& tensors() const { return tensors_; }
  const GgufTensor* find_tensor(std::string_view name) const;  // nullptr if absent

  // Lets the operating system drop the pages of bytes [offset, offset + size) of a tensor that were packed elsewhere.
  void release(const GgufTensor& tensor, size_t offset, size_t size) const;

 private:
  friend class GgufParser;
  std::string path_;
  uint32_t version_ = 0;
  std::vector<MappedFile> files_;
  std::shared_ptr<const std::vector<uint8_t>> owned_;  // assemble()'s metadata
  std::shared_ptr<const void> backing_;
  Release release_;
  std::vector<std::span<const uint8_t>> views_;
  std::map<std::string, GgufValue, std::less<>> metadata_;
  std::vector<GgufEntry> entries_;
  std::vector<GgufTensor> tensors_;
  std::map<std::string, size_t, std::less<>> tensor_index_;
};

// Writes a GGUF v3 file. Order of calls is the order in the file; data is copied.
class GgufWriter {
 public:
  void set(std::string key, bool value);
  void set(std::string key, uint32_t value);
  void set(std::string key, int32_t value);
  void set(std::string key, float value);
  void set(std::string key, std::string value);
  void set(std::string key, const char* value) { set(std::move(key), std::string(value)); }
  void set(std::string key, const std::vector<std::string>& values);
  void set(std::string key, const std::vector<float>& values);
  void set(std::string key, const std::vector<int32_t>& values);
  void set(std::string key, const std::vector<bool>& values);
  void copy(const GgufEntry& entry);
  // `shape` in GGUF order. Precondition: data.size() matches type and shape.
  void add_tensor(std::string name, DType type, std::vector<int64_t> shape, std::vector<uint8_t> data);
  // The same with bytes that are made when they are written, one tensor after another.
  using Producer = std::function<Result<std::vector<uint8_t>>()>;
  void add_tensor(std::string name, DType type, std::vector<int64_t> shape, Producer produce);

  std::vector<uint8_t> serialize() const;  // precondition: no tensor has a producer
  // Atomically. `progress`: called with the share of bytes written.
  Status write(const std::string& path, const std::function<void(double)>& progress = {}) const;

 private:
  void put_key(const std::string& key, uint32_t type);
  void put_array(const std::string& key, uint32_t type, uint64_t count);
  std::vector<uint8_t> header() const;
  struct Tensor {
    std::string name;
    DType type;
    std::vector<int64_t> shape;
    size_t size;
    std::vector<uint8_t> data;
    Producer produce;
  };
  std::vector<uint8_t> metadata_;
  uint64_t metadata_count_ = 0;
  uint64_t alignment_ = 32;  // follows set("general.alignment", uint32_t)
  std::vector<Tensor> tensors_;
};

}  // namespace decant
