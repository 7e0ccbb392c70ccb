// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// safetensors, memory-mapped, one file or shards with an index. A file is a 64-bit length, a JSON header of that length
// {name: {dtype, shape, data_offsets: [begin, end]}, "__metadata__": {...}}, and the tensors' bytes, which offsets
// count from. Files are untrusted: the header is checked against the file before anything is used, and the tensors must
// cover the data without overlap or hole, as the format asks for.
//
//   DECANT_TRY(SafetensorsFile file, SafetensorsFile::open("checkpoint"));
//   const SafetensorsTensor* w = file.find_tensor("model.norm.weight");  // nullptr if absent
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/mapped_file.h"
#include "base/status.h"

namespace decant {

struct SafetensorsTensor {
  std::string name;
  std::string dtype;              // as the file spells it: "F32", "BF16", "I64"
  std::vector<int64_t> shape;     // row-major: shape.back() is the fastest; empty for a scalar, may hold 0
  std::span<const uint8_t> data;  // exactly the tensor's bytes, valid while the file lives; aligned as in the file
  int file_index = 0;             // which shard holds it
};

class SafetensorsFile {
 public:
  // `path`: a .safetensors file, a .safetensors.index.json file, or a folder with model.safetensors or
  // model.safetensors.index.json. kNotFound (file, shard, a tensor that the index names), kCorrupt (with file and
  // tensor).
  static Result<SafetensorsFile> open(const std::string& path);
  // Parses bytes that the caller keeps alive. `name` is used in messages.
  static Result<SafetensorsFile> parse(std::span<const uint8_t> bytes, std::string name);

  const std::string& path() const { return path_; }
  const std::vector<SafetensorsTensor>& tensors() const { return tensors_; }        // in the order of files and data
  const SafetensorsTensor* find_tensor(std::string_view name) const;                // nullptr if absent
  const std::map<std::string, std::string>& metadata() const { return metadata_; }  // of all shards

  // Lets the operating system drop the pages of bytes [offset, offset + size) of a tensor that were copied elsewhere.
  void release(const SafetensorsTensor& tensor, size_t offset, size_t size) const;

 private:
  Status add_file(std::span<const uint8_t> bytes, const std::string& name);
  Status open_sharded(const std::string& index_path);

  std::string path_;
  std::vector<MappedFile> files_;
  std::vector<std::span<const uint8_t>> views_;
  std::vector<SafetensorsTensor> tensors_;
  std::map<std::string, size_t, std::less<>> index_;
  std::map<std::string, std::string> metadata_;
};

// Bytes of one element of a type of the format; nullopt for an unknown name (types of less than a byte count as
// unknown).
std::optional<size_t> safetensors_item_bytes(std::string_view dtype);

// Writes safetensors. Tensors are made when they are written, one after another, so a model need not fit in memory.
class SafetensorsWriter {
 public:
  using Producer = std::function<Result<std::vector<uint8_t>>()>;
  // kInvalidArgument for an unknown type, a negative dimension or a name that is taken.
  Status add_tensor(std::string name, std::string dtype, std::vector<int64_t> shape, Producer produce);
  void set_metadata(std::string key, std::string value);

  // Writes PATH atomically.
  Status write(const std::string& path, const std::function<void(double)>& progress = {}) const;
  // Writes FOLDER/model.safetensors, or, if the tensors take more than `shard_bytes`, shards of at most that size (one
  // tensor at least each) and then their index.
  Status write_folder(const std::string& folder, size_t shard_bytes,
                      const std::function<void(double)>& progress = {}) const;

 private:
  struct Tensor {
    std::string name, dtype;
    std::vector<int64_t> shape;
    size_t bytes;
    Producer produce;
  };
  Status write_tensors(const std::string& path, std::span<const Tensor> tensors, size_t* done,
                       const std::function<void(double)>& progress) const;
  size_t total_bytes() const;

  std::vector<Tensor> tensors_;
  std::map<std::string, std::string> metadata_;
};

}  // namespace decant
