// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "speculate/datastore_file.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>

#include "base/hash.h"
#include "speculate/suffix_array.h"

namespace decant {
namespace {

constexpr std::array<char, 8> kMagic = {'D', 'E', 'C', 'A', 'N', 'T', 'D', 'S'};
constexpr uint64_t kHeaderBytes = Datastore::kHeaderBytes;
constexpr size_t kCheckedTokens = 64;  // of two neighbours in the suffix array
constexpr const char* kRemedy = "build it again with `decant datastore build`";

struct Header {
  std::array<char, 8> magic = kMagic;
  uint32_t version = 1, token_bytes = 4;
  uint64_t vocabulary_hash = 0, vocab_size = 0, documents = 0, tokens = 0;
  uint64_t token_offset = 0, suffix_offset = 0, file_bytes = 0, data_hash = 0, zero = 0, header_hash = 0;
};
static_assert(sizeof(Header) == kHeaderBytes);

// FNV-1a over words of 8 bytes, the last one filled with zeros.
uint64_t hash_bytes(std::span<const uint8_t> bytes, uint64_t hash = kFnvStart) {
  for (size_t i = 0; i < bytes.size(); i += 8) {
    uint64_t word = 0;
    std::memcpy(&word, bytes.data() + i, std::min<size_t>(8, bytes.size() - i));
    hash = (hash ^ word) * kFnvPrime;
    hash ^= hash >> 32;
  }
  return hash;
}

uint64_t align(uint64_t n) { return (n + 7) / 8 * 8; }
uint32_t separator(int token_bytes) { return token_bytes == 2 ? 0xFFFFu : 0xFFFFFFFFu; }

}  // namespace

uint64_t Datastore::header_hash(std::span<const uint8_t> bytes) {
  return hash_bytes(bytes.first(kHeaderBytes - sizeof(uint64_t)));
}

Result<std::shared_ptr<const Datastore>> Datastore::open(const std::string& path, uint64_t vocabulary_hash,
                                                         uint64_t vocab_size) {
  auto store = std::make_shared<Datastore>();
  DECANT_TRY(store->file_, MappedFile::open(path));
  const std::span<const uint8_t> bytes = store->file_.bytes();
  const auto corrupt = [&](const char* field, const std::string& what) {
    return Status::corrupt("{}: {}: {}; {}", path, field, what, kRemedy);
  };
  Header h;
  if (!std::equal(bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(std::min(bytes.size(), kMagic.size())),
                  kMagic.begin())) {
    return Status::corrupt("{}: magic: this is no datastore; `decant datastore build` makes one", path);
  }
  if (bytes.size() < kHeaderBytes) {
    return corrupt("header", fmt::format("{} bytes; a datastore has at least {}", bytes.size(), kHeaderBytes));
  }
  std::memcpy(&h, bytes.data(), kHeaderBytes);
  if (h.version != 1) return corrupt("version", fmt::format("{}; this program reads version 1", h.version));
  if (h.header_hash != header_hash(bytes)) return corrupt("header hash", "the header was changed or damaged");
  if (h.file_bytes != bytes.size()) {
    return corrupt("size", fmt::format("the file has {} bytes, {} were written", bytes.size(), h.file_bytes));
  }
  if (h.token_bytes != 2 && h.token_bytes != 4) {
    return corrupt("bytes of a token", fmt::format("{}; 2 and 4 are possible", h.token_bytes));
  }
  if (h.vocab_size < 1 || h.vocab_size > std::min<uint64_t>(separator(static_cast<int>(h.token_bytes)), INT32_MAX)) {
    return corrupt("vocabulary", fmt::format("{} tokens do not fit into {} bytes", h.vocab_size, h.token_bytes));
  }
  if (h.tokens < 1 || h.tokens > INT32_MAX) return corrupt("tokens", fmt::format("{}", h.tokens));
  if (h.documents > h.tokens) return corrupt("documents", fmt::format("{} of {} tokens", h.documents, h.tokens));
  if (h.token_offset != kHeaderBytes || h.suffix_offset != align(kHeaderBytes + h.tokens * h.token_bytes) ||
      h.file_bytes != h.suffix_offset + h.tokens * sizeof(uint32_t)) {
    return corrupt("offsets",
                   fmt::format("{}, {} and {} for {} tokens", h.token_offset, h.suffix_offset, h.file_bytes, h.tokens));
  }
  if ((vocabulary_hash != 0 && vocabulary_hash != h.vocabulary_hash) ||
      (vocab_size != 0 && vocab_size < h.vocab_size)) {
    return Status::invalid_argument(
        "{}: vocabulary: made for another model's ({} tokens, hash {:016x}; this model: {} tokens, hash {:016x}); "
        "`decant datastore build -m` with this model makes one for it",
        path, h.vocab_size, h.vocabulary_hash, vocab_size, vocabulary_hash);
  }
  store->info_ = {.vocabulary_hash = h.vocabulary_hash,
                  .vocab_size = h.vocab_size,
                  .documents = h.documents,
                  .tokens = h.tokens,
                  .token_bytes = static_cast<int>(h.token_bytes),
                  .bytes = h.file_bytes};
  store->token_offset_ = h.token_offset;
  store->suffix_offset_ = h.suffix_offset;
  store->data_hash_ = h.data_hash;
  return std::shared_ptr<const Datastore>(std::move(store));
}

uint32_t Datastore::raw(uint64_t position) const {
  const uint8_t* tokens = file_.bytes().data() + token_offset_;
  if (info_.token_bytes == 2) {
    uint16_t value;
    std::memcpy(&value, tokens + position * 2, 2);
    return value;
  }
  uint32_t value;
  std::memcpy(&value, tokens + position * 4, 4);
  return value;
}

TokenId Datastore::token(uint64_t position) const {
  if (position >= info_.tokens) return -1;
  const uint32_t value = raw(position);
  return value < info_.vocab_size ? static_cast<TokenId>(value) : -1;
}

uint64_t Datastore::suffix(uint64_t i) const {
  if (i >= info_.tokens) return info_.tokens;
  uint32_t value;
  std::memcpy(&value, file_.bytes().data() + suffix_offset_ + i * 4, 4);
  return std::min<uint64_t>(value, info_.tokens);
}

int Datastore::compare(uint64_t suffix_number, std::span<const TokenId> pattern) const {
  uint64_t position = suffix(suffix_number);
  for (const TokenId t : pattern) {
    if (position >= info_.tokens) return -1;
    const uint32_t value = raw(position++);
    if (value != static_cast<uint32_t>(t)) return value < static_cast<uint32_t>(t) ? -1 : 1;
  }
  return 0;
}

uint64_t Datastore::bound(std::span<const TokenId> pattern, bool upper, uint64_t first, uint64_t last) const {
  while (first < last) {
    const uint64_t middle = first + (last - first) / 2;
    const int order = compare(middle, pattern);
    if (order < 0 || (upper && order == 0)) {
      first = middle + 1;
    } else {
      last = middle;
    }
  }
  return first;
}

Datastore::Range Datastore::find(std::span<const TokenId> text, int shortest, int longest) const {
  // If a suffix occurs, the shorter ones do: bisection over the length.
  Range best;
  int low = std::max(shortest, 1), high = std::min(longest, static_cast<int>(text.size()));
  while (low <= high) {
    // The first probe is short: a long match is rare, and a pattern that occurs narrows nothing but the length.
    const int length = best.length == 0 ? low : (low + high + 1) / 2;
    const std::span<const TokenId> pattern = text.last(static_cast<size_t>(length));
    if (std::any_of(pattern.begin(), pattern.end(),
                    [&](TokenId t) { return t < 0 || static_cast<uint64_t>(t) >= info_.vocab_size; })) {
      high = length - 1;
      continue;
    }
    const uint64_t first = bound(pattern, false, 0, info_.tokens);
    if (first < info_.tokens && compare(first, pattern) == 0) {
      best = {.first = first, .last = first + 1, .length = length};
      low = length + 1;
    } else {
      high = length - 1;
    }
  }
  if (best.length > 0) {
    best.last = bound(text.last(static_cast<size_t>(best.length)), true, best.first, info_.tokens);
    if (best.last <= best.first) best.last = best.first + 1;  // an order that is wrong
  }
  return best;
}

Status Datastore::check() const {
  const auto corrupt = [&](const char* field, const std::string& what) {
    return Status::corrupt("{}: {}: {}; {}", path(), field, what, kRemedy);
  };
  const std::span<const uint8_t> bytes = file_.bytes();
  if (hash_bytes(bytes.subspan(token_offset_)) != data_hash_) {
    return corrupt("data hash", "tokens or suffix array were changed or damaged");
  }
  uint64_t documents = 0;
  for (uint64_t i = 0; i < info_.tokens; ++i) {
    const uint32_t value = raw(i);
    if (value == separator(info_.token_bytes)) {
      ++documents;
    } else if (value >= info_.vocab_size) {
      return corrupt("tokens", fmt::format("token {} at {} of a vocabulary of {}", value, i, info_.vocab_size));
    }
  }
  if (documents != info_.documents) {
    return corrupt("documents", fmt::format("{} of {} are there", documents, info_.documents));
  }
  std::vector<bool> seen(info_.tokens, false);
  for (uint64_t i = 0; i < info_.tokens; ++i) {
    const uint64_t position = suffix(i);
    if (position >= info_.tokens || seen[position]) {
      return corrupt("suffix array", fmt::format("entry {} is {} once more or beyond the end", i, position));
    }
    seen[position] = true;
    if (i == 0) continue;
    uint64_t a = suffix(i - 1), b = position;
    for (size_t k = 0; k < kCheckedTokens; ++k, ++a, ++b) {
      if (a >= info_.tokens) break;
      if (b >= info_.tokens || raw(a) > raw(b)) return corrupt("suffix array", fmt::format("entry {} is unsorted", i));
      if (raw(a) < raw(b)) break;
    }
  }
  return {};
}

Status DatastoreBuilder::add(std::span<const TokenId> document) {
  if (text_.size() + document.size() + 1 > static_cast<size_t>(std::numeric_limits<int32_t>::max())) {
    return Status::exhausted("a datastore holds at most {} tokens; leave out some of the text, or build several",
                             std::numeric_limits<int32_t>::max());
  }
  for (const TokenId t : document) {
    if (t < 0 || t >= vocab_size_) return Status::invalid_argument("token {} of a vocabulary of {}", t, vocab_size_);
  }
  text_.insert(text_.end(), document.begin(), document.end());
  text_.push_back(vocab_size_);
  ++documents_;
  return {};
}

Status DatastoreBuilder::write(const std::string& path) const {
  if (text_.empty()) return Status::invalid_argument("{}: there is no text to write", path);
  DECANT_TRY(AtomicFile file, AtomicFile::create(path));
  const std::vector<int32_t> suffixes = suffix_array(text_, vocab_size_);
  const int width = vocab_size_ < 0xFFFF ? 2 : 4;
  Header h;
  h.token_bytes = static_cast<uint32_t>(width);
  h.vocabulary_hash = vocabulary_hash_;
  h.vocab_size = static_cast<uint64_t>(vocab_size_);
  h.documents = documents_;
  h.tokens = text_.size();
  h.token_offset = kHeaderBytes;
  h.suffix_offset = align(kHeaderBytes + h.tokens * h.token_bytes);
  h.file_bytes = h.suffix_offset + h.tokens * sizeof(uint32_t);
  std::vector<uint8_t> tokens(h.suffix_offset - kHeaderBytes, 0);
  for (size_t i = 0; i < text_.size(); ++i) {
    const uint32_t value = text_[i] == vocab_size_ ? separator(width) : static_cast<uint32_t>(text_[i]);
    std::memcpy(tokens.data() + i * static_cast<size_t>(width), &value, static_cast<size_t>(width));
  }
  const std::span<const uint8_t> order(reinterpret_cast<const uint8_t*>(suffixes.data()), suffixes.size() * 4);
  h.data_hash = hash_bytes(order, hash_bytes(tokens));
  const std::span<const uint8_t> header(reinterpret_cast<const uint8_t*>(&h), kHeaderBytes);
  h.header_hash = Datastore::header_hash(header);
  DECANT_TRY_STATUS(file.write(header));
  DECANT_TRY_STATUS(file.write(tokens));
  DECANT_TRY_STATUS(file.write(order));
  return file.commit();
}

}  // namespace decant
