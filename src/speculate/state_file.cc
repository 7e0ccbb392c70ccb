// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "speculate/state_file.h"

#include <cstring>

#include "base/bytes.h"
#include "base/hash.h"
#include "base/mapped_file.h"
#include "base/printable.h"

namespace decant {
namespace {

constexpr std::string_view kMagic = "dcntdrft";
constexpr uint32_t kVersion = 1;
constexpr size_t kStart = 8 + 4 + 4 + 8;  // up to what the checksum is of

template <typename T>
T get(std::string_view bytes, size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof(T));
  return value;
}

}  // namespace

Status write_state(const std::string& path, std::string_view method, uint64_t vocabulary, std::string_view data) {
  std::string rest;
  append_value(&rest, vocabulary);
  append_value(&rest, static_cast<uint32_t>(method.size()));
  rest += method;
  rest += data;
  std::string head(kMagic);
  append_value(&head, kVersion);
  append_value(&head, uint32_t{0});
  append_value(&head, fnv1a(rest));
  DECANT_TRY(AtomicFile file, AtomicFile::create(path));
  for (const std::string* part : {&head, &rest}) {
    DECANT_TRY_STATUS(file.write(bytes_of(*part)));
  }
  return file.commit();
}

Result<std::string> read_state(const std::string& path, std::string_view method, uint64_t vocabulary) {
  DECANT_TRY(const std::string bytes, read_file(path));
  constexpr size_t kMost = kStart + 8 + 4;
  if (bytes.size() < kMost || std::string_view(bytes).substr(0, kMagic.size()) != kMagic) {
    return Status::corrupt("{}: not a file of a draft method; delete it or name another one", path);
  }
  if (const auto version = get<uint32_t>(bytes, 8); version != kVersion) {
    return Status::unsupported("{}: version {} of the format; this program reads {}", path, version, kVersion);
  }
  if (get<uint32_t>(bytes, 12) != 0) return Status::corrupt("{}: the header is damaged; delete it", path);
  if (get<uint64_t>(bytes, 16) != fnv1a(std::string_view(bytes).substr(kStart))) {
    return Status::corrupt("{}: the checksum does not match: the file is cut off or damaged; delete it", path);
  }
  const auto length = get<uint32_t>(bytes, kStart + 8);
  if (length > bytes.size() - kMost) return Status::corrupt("{}: ends within the method's name; delete it", path);
  if (const std::string_view name = std::string_view(bytes).substr(kMost, length); name != method) {
    return Status::invalid_argument("{}: learned by {}, not by {}; name another file", path, printable(name), method);
  }
  if (get<uint64_t>(bytes, kStart) != vocabulary) {
    return Status::invalid_argument("{}: learned with another vocabulary than the model's; name another file", path);
  }
  return bytes.substr(kMost + length);
}

std::string bytes_of_words(std::span<const uint32_t> words) {
  return {reinterpret_cast<const char*>(words.data()), words.size_bytes()};
}

Result<std::vector<uint32_t>> words_of_bytes(std::string_view bytes, const std::string& path) {
  if (bytes.size() % sizeof(uint32_t) != 0) {
    return Status::corrupt("{}: {} bytes of data are no whole words; delete it", path, bytes.size());
  }
  std::vector<uint32_t> words(bytes.size() / sizeof(uint32_t));
  if (!words.empty()) std::memcpy(words.data(), bytes.data(), bytes.size());
  return words;
}

}  // namespace decant
