// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "serve/api_keys.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include <algorithm>
#include <cctype>

namespace decant::serve {

ApiKeys::Digest ApiKeys::digest(std::string_view key) {
  Digest out;
  ::SHA256(reinterpret_cast<const unsigned char*>(key.data()), key.size(), out.data());
  return out;
}

ApiKeys::ApiKeys(const std::vector<std::string>& keys) {
  for (const std::string& key : keys) digests_.push_back(digest(key));
}

int ApiKeys::find(std::string_view key) const {
  const Digest given = digest(key);
  int found = -1;
  for (size_t i = 0; i < digests_.size(); ++i) {
    if (::CRYPTO_memcmp(given.data(), digests_[i].data(), given.size()) == 0) found = static_cast<int>(i);
  }
  return found;
}

int ApiKeys::find_bearer(std::string_view authorization) const {
  constexpr std::string_view kScheme = "bearer ";
  if (authorization.size() < kScheme.size() ||
      !std::equal(kScheme.begin(), kScheme.end(), authorization.begin(),
                  [](char a, char b) { return a == std::tolower(static_cast<unsigned char>(b)); })) {
    return -1;
  }
  authorization.remove_prefix(kScheme.size());
  return find(authorization.substr(std::min(authorization.find_first_not_of(' '), authorization.size())));
}

}  // namespace decant::serve
