// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// The input is a datastore; its header's hash is put right, or nothing else would be reached. Whatever opens can be
// searched, and gives tokens of its vocabulary. A refusal must name the file.
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "speculate/corpus_guesses.h"
#include "speculate/datastore_file.h"
#include "speculate/trigram_table.h"

namespace {

void check(const decant::Datastore& store) {
  static_cast<void>(store.check());
  const auto vocab = static_cast<decant::TokenId>(store.info().vocab_size);
  for (uint64_t i = 0; i < std::min<uint64_t>(store.info().tokens, 16); ++i) {
    // What stands there, and what does not.
    std::vector<decant::TokenId> text;
    for (uint64_t k = 0; k < 6; ++k) text.push_back(store.token(store.suffix(i) + k));
    for (const decant::TokenId last : {text.back(), vocab - 1, vocab}) {
      text.back() = last;
      const decant::Datastore::Range range = store.find(text, 1, 8);
      DECANT_CHECK(range.length >= 0 && range.length <= 6 && range.first <= range.last);
      decant::TokenTree tree;
      tree.reset(16, 8);
      decant::add_corpus_guesses(
          store, range, 32, [](const decant::CorpusEvidence&) { return uint16_t{0}; }, nullptr, &tree);
      for (const decant::TokenNode& n : tree.nodes()) DECANT_CHECK(n.token >= 0 && n.token < vocab);
    }
  }
  static_cast<void>(decant::TrigramTable::from_corpus(store, 3));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::vector<uint8_t> bytes(data, data + size);
  if (size >= decant::Datastore::kHeaderBytes) {
    const uint64_t hash = decant::Datastore::header_hash(bytes);
    std::memcpy(bytes.data() + decant::Datastore::kHeaderBytes - sizeof(hash), &hash, sizeof(hash));
  }
  const int fd = memfd_create("fuzz", 0);
  DECANT_CHECK(fd >= 0 && write(fd, bytes.data(), size) == static_cast<ssize_t>(size));
  const std::string path = "/proc/self/fd/" + std::to_string(fd);
  const auto store = decant::Datastore::open(path);
  if (store.ok()) {
    check(**store);
  } else {
    DECANT_CHECK(store.status().message().starts_with(path + ": "));
  }
  close(fd);
  return 0;
}
