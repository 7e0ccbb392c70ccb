// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/status.h"

namespace decant {

// A whole file mapped read-only. Movable; unmaps on destruction. Pages are loaded on first touch.
class MappedFile {
 public:
  // kNotFound, kIo (with the system's reason) or kInvalidArgument (a directory, a pipe). An empty file maps to an empty
  // span.
  static Result<MappedFile> open(const std::string& path);

  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  std::span<const uint8_t> bytes() const { return {data_, size_}; }
  size_t size() const { return size_; }
  const std::string& path() const { return path_; }

  // Tells the kernel that [offset, offset + size) will not be read again soon, so its pages may leave memory.
  void release(size_t offset, size_t size) const;

 private:
  std::string path_;
  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

// Writes `path` through a temporary file in the same folder and renames it on commit: readers see the whole file or
// none. Without commit() the destructor removes the temporary file.
class AtomicFile {
 public:
  static Result<AtomicFile> create(const std::string& path);

  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&&) = delete;
  ~AtomicFile();

  // kExhausted when the disk is full, kIo otherwise.
  Status write(std::span<const uint8_t> bytes);
  Status commit();

 private:
  AtomicFile() = default;
  std::string path_, temporary_;
  int fd_ = -1;
};

// The whole of a (small) file as bytes; "-" reads stdin.
Result<std::string> read_file(const std::string& path);

}  // namespace decant
