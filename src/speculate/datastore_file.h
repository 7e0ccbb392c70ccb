// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// A corpus of tokens with its suffix array, as a file that is mapped and not read: whatever a text ends with is found
// in it by binary search. Written for one vocabulary. All numbers are little-endian:
//
//     0  "DECANTDS"
//     8  u32  version, 1                  12  u32  bytes of a token, 2 or 4
//    16  u64  hash of the vocabulary      24  u64  size of the vocabulary
//    32  u64  documents                   40  u64  tokens, one separator behind each document included
//    48  u64  offset of the tokens        56  u64  offset of the suffix array, u32 each
//    64  u64  size of the file            72  u64  hash of tokens and suffix array
//    80  u64  0                           88  u64  hash of the header up to here
//    96       tokens (a separator: all bits set), zeros up to a multiple of 8, suffix array
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/mapped_file.h"
#include "base/status.h"
#include "engine/token_tree.h"

namespace decant {

struct DatastoreInfo {
  uint64_t vocabulary_hash = 0;
  uint64_t vocab_size = 0;
  uint64_t documents = 0;
  uint64_t tokens = 0;  // with separators
  int token_bytes = 4;
  uint64_t bytes = 0;  // of the file
};

class Datastore {
 public:
  static constexpr size_t kHeaderBytes = 96;

  // Suffixes first..last-1 of the suffix array begin with the last `length` tokens of a text.
  struct Range {
    uint64_t first = 0, last = 0;
    int length = 0;
    uint64_t count() const { return last - first; }
  };

  // Checks the header against the file. kCorrupt names the field. kInvalidArgument: made for another vocabulary than
  // the one with this hash (0: not known) and size (0: not known).
  static Result<std::shared_ptr<const Datastore>> open(const std::string& path, uint64_t vocabulary_hash = 0,
                                                       uint64_t vocab_size = 0);

  const std::string& path() const { return file_.path(); }
  const DatastoreInfo& info() const { return info_; }

  // The longest suffix of `text`, from `shortest` to `longest` tokens, that occurs. Length 0: none.
  Range find(std::span<const TokenId> text, int shortest, int longest) const;
  // Where suffix number `i` begins; tokens() for a number that is none.
  uint64_t suffix(uint64_t i) const;
  // -1: a separator, or behind the end.
  TokenId token(uint64_t position) const;

  // What the last 8 bytes of a header have to be; `bytes` are at least a header.
  static uint64_t header_hash(std::span<const uint8_t> bytes);

  // Reads all of it: hash, tokens within the vocabulary, the suffix array's order (to 64 tokens). kCorrupt.
  Status check() const;

 private:
  uint32_t raw(uint64_t position) const;
  // <0, 0, >0: the suffix against the pattern, over the pattern's length.
  int compare(uint64_t suffix_number, std::span<const TokenId> pattern) const;
  uint64_t bound(std::span<const TokenId> pattern, bool upper, uint64_t first, uint64_t last) const;

  MappedFile file_;
  DatastoreInfo info_;
  uint64_t token_offset_ = 0, suffix_offset_ = 0, data_hash_ = 0;
};

class DatastoreBuilder {
 public:
  DatastoreBuilder(uint64_t vocabulary_hash, int vocab_size)
      : vocabulary_hash_(vocabulary_hash), vocab_size_(vocab_size) {}
  // kExhausted: more than 2^31 - 1 tokens. kInvalidArgument: a token that the vocabulary does not have.
  Status add(std::span<const TokenId> document);
  uint64_t documents() const { return documents_; }
  uint64_t tokens() const { return text_.size(); }
  // kInvalidArgument when nothing was added.
  Status write(const std::string& path) const;

 private:
  uint64_t vocabulary_hash_;
  int vocab_size_;
  uint64_t documents_ = 0;
  std::vector<int32_t> text_;  // a separator is vocab_size_
};

}  // namespace decant
