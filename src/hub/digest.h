// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/status.h"

namespace decant {

// A checksum that grows with the bytes it is given. Movable; one caller.
class Digest {
 public:
  static Digest sha256();
  // What git names a file's content by: SHA-1 over "blob SIZE", a zero byte and the content.
  static Digest git_blob(int64_t size);

  void update(std::string_view bytes);
  // Lower-case hex. The digest takes no more bytes.
  std::string finish();

 private:
  struct Free {
    void operator()(void* context) const;
  };
  explicit Digest(void* context) : context_(context) {}
  std::unique_ptr<void, Free> context_;  // OpenSSL's EVP_MD_CTX
};

// The digest of a file, hex. kIo, kNotFound; kCancelled when `go_on` (called for every few MB; may be empty) returns
// false.
Result<std::string> hash_file(const std::string& path, Digest digest, const std::function<bool(int64_t done)>& go_on);

}  // namespace decant
