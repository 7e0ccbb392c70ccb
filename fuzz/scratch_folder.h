// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// For parsers that read files: a folder of this process in memory where there is such a file system.
#pragma once

#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <span>
#include <string>
#include <utility>

#include "base/status.h"

namespace decant::fuzz {

class ScratchFolder {
 public:
  ScratchFolder() {
    std::string pattern = (::access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp") + std::string("/decant-fuzz-XXXXXX");
    DECANT_CHECK(::mkdtemp(pattern.data()) != nullptr);
    path_ = pattern;
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ~ScratchFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }
  void write(const char* name, std::span<const uint8_t> bytes) const {
    std::FILE* file = std::fopen((path_ + "/" + name).c_str(), "wb");
    DECANT_CHECK(file != nullptr);
    DECANT_CHECK(std::fwrite(bytes.data(), 1, bytes.size(), file) == bytes.size());
    std::fclose(file);
  }

 private:
  std::string path_;
};

// The parts before and behind the first zero byte; text has none.
inline std::pair<std::span<const uint8_t>, std::span<const uint8_t>> split_at_zero(std::span<const uint8_t> input) {
  size_t at = 0;
  while (at < input.size() && input[at] != 0) ++at;
  return {input.first(at), input.subspan(std::min(input.size(), at + 1))};
}

}  // namespace decant::fuzz
