// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "base/status.h"
#include "hub/digest.h"

namespace decant {

// A file that is being fetched: TARGET.part, locked against other processes, with what it is in TARGET.part.info.
// Readers see TARGET whole or not at all. The destructor removes both unless keep() or commit() was called; a process
// that is killed leaves them, and the next one goes on from there.
class PartFile {
 public:
  // Makes the folders, opens and locks. While another process holds the lock, `wait` is called; false gives up with
  // kCancelled. kExhausted, kIo.
  static Result<PartFile> open(const std::string& target, const std::function<bool()>& wait);

  PartFile(PartFile&& other) noexcept;
  PartFile& operator=(PartFile&&) = delete;
  ~PartFile();

  int64_t size() const { return size_; }
  const std::string& tag() const { return tag_; }  // the entity tag of the bytes here, or ""

  // Keeps the bytes that are there if they belong to `identity` (any line of text) and are no more than `max_size`;
  // else starts over.
  Status resume(const std::string& identity, int64_t max_size);
  // Empties the file.
  Status restart();
  // Notes what the bytes to come belong to.
  Status describe(const std::string& identity, const std::string& tag);
  Status append(std::string_view bytes);
  // Gives the bytes that are there to the digest. kCancelled when `go_on` returns false.
  Status hash(Digest* digest, const std::function<bool()>& go_on) const;
  void keep() { keep_ = true; }
  // Writes through to the disk and gives the file its name.
  Status commit();

 private:
  PartFile() = default;
  Status failure(const char* what, int error) const;
  std::string info_path() const { return path_ + ".info"; }

  std::string target_, path_, tag_;
  int fd_ = -1;
  int64_t size_ = 0;
  bool keep_ = false;
};

// Removes what an interrupted fetch of `target` left, unless somebody is fetching it now.
void remove_part(const std::string& target);

// Removes the empty folders from `folder` upwards, below and not including `root`.
void remove_empty_folders(std::string folder, const std::string& root);

}  // namespace decant
