// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "speculate/state_file.h"

#include <bit>
#include <cstring>

#include "base/mapped_file.h"
#include "base/printable.h"

namespace decant {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr std::string_view kMagic = "dcntdrft";
constexpr uint32_t kVersion = 1;
constexpr size_t kStart = 8 + 4 + 4 + 8;  // up to what the checksum is of

template <typename T>
void put(std::string* out, T value) {
  char bytes[sizeof(T)];
  std::memcpy(bytes, &value, sizeof(T));
  out->append(bytes, sizeof(T));
}

template <typename T>
T get(std::string_view bytes, size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof(T));
  return value;
}

uint64_t fnv1a(std::string_view bytes) {
  uint64_t hash = 0xCBF29CE484222325u;
  for (const char c : bytes) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001B3u;
  return hash;
}

}  // namespace

Status write_state(const std::string& path, std::string_view method, uint64_t vocabulary, std::string_view data) {
  std::string rest;
  put(&rest, vocabulary);
  put(&rest, static_cast<uint32_t>(method.size()));
  rest += method;
  rest += data;
  std::string head(kMagic);
  put(&head, kVersion);
  put(&head, uint32_t{0});
  put(&head, fnv1a(rest));
  DECANT_TRY(AtomicFile file, AtomicFile::create(path));
  for (const std::string* part : {&head, &rest}) {
    DECANT_TRY_STATUS(file.write({reinterpret_cast<const uint8_t*>(part->data()), part->size()}));
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
