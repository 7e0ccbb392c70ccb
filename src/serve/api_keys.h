// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace decant::serve {

// Keys that clients have to know. Only their digests are kept, and a comparison takes the same time whatever is given.
class ApiKeys {
 public:
  explicit ApiKeys(const std::vector<std::string>& keys = {});
  bool empty() const { return digests_.empty(); }
  size_t size() const { return digests_.size(); }
  // Which one it is; -1: none.
  int find(std::string_view key) const;
  // Likewise of the value of an Authorization header, "Bearer KEY".
  int find_bearer(std::string_view authorization) const;

 private:
  using Digest = std::array<uint8_t, 32>;
  static Digest digest(std::string_view key);
  std::vector<Digest> digests_;
};

}  // namespace decant::serve
