// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "hub/digest.h"

#include <openssl/evp.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>

namespace decant {
namespace {

EVP_MD_CTX* context_of(const EVP_MD* algorithm) {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  DECANT_CHECK(context != nullptr && EVP_DigestInit_ex(context, algorithm, nullptr) == 1);
  return context;
}

}  // namespace

void Digest::Free::operator()(void* context) const { EVP_MD_CTX_free(static_cast<EVP_MD_CTX*>(context)); }

Digest Digest::sha256() { return Digest(context_of(EVP_sha256())); }

Digest Digest::git_blob(int64_t size) {
  Digest digest(context_of(EVP_sha1()));
  const std::string header = fmt::format("blob {}", size);
  digest.update({header.c_str(), header.size() + 1});
  return digest;
}

void Digest::update(std::string_view bytes) {
  DECANT_CHECK(EVP_DigestUpdate(static_cast<EVP_MD_CTX*>(context_.get()), bytes.data(), bytes.size()) == 1);
}

std::string Digest::finish() {
  std::array<unsigned char, EVP_MAX_MD_SIZE> bytes;
  unsigned size = 0;
  DECANT_CHECK(EVP_DigestFinal_ex(static_cast<EVP_MD_CTX*>(context_.get()), bytes.data(), &size) == 1);
  std::string hex;
  for (unsigned i = 0; i < size; ++i) hex += fmt::format("{:02x}", bytes[i]);
  return hex;
}

Result<std::string> hash_file(const std::string& path, Digest digest, const std::function<bool(int64_t done)>& go_on) {
  const auto failure = [&](int error) {
    return Status::make(error == ENOENT ? Code::kNotFound : Code::kIo,
                        fmt::format("{}: cannot be read: {}", path, std::strerror(error)));
  };
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rbe"), std::fclose);
  if (file == nullptr) return failure(errno);
  std::string buffer(1 << 22, '\0');
  int64_t done = 0;
  while (const size_t n = std::fread(buffer.data(), 1, buffer.size(), file.get())) {
    digest.update({buffer.data(), n});
    done += static_cast<int64_t>(n);
    if (go_on && !go_on(done)) return Status::cancelled("interrupted");
  }
  if (std::ferror(file.get()) != 0) return failure(errno);
  return digest.finish();
}

}  // namespace decant
