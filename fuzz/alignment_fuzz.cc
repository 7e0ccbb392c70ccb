// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// The input is an alignment trie's file; its checksum is put right so that what it guards is reached. Whatever is read
// must hold bounds, survive another round through a file bit for bit, and be fit to be drawn from.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "base/hash.h"
#include "constrain/alignment.h"
#include "fuzz/alignment_seed.h"

namespace {

constexpr size_t kHeader = 24;  // magic, version, zero, checksum

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::vector<uint8_t> bytes(data, data + size);
  if (size >= kHeader) {
    const uint64_t sum = decant::fnv1a(std::span<const uint8_t>(bytes).subspan(kHeader));
    std::memcpy(bytes.data() + kHeader - sizeof(sum), &sum, sizeof(sum));
  }
  auto trie =
      decant::AlignmentTrie::parse(bytes, "fuzz.trie", decant::fuzz::alignment_key(), decant::fuzz::kVocab, 2000);
  if (!trie.ok()) {
    DECANT_CHECK(trie.status().message().starts_with("fuzz.trie: "));
    return 0;
  }
  const std::string text = trie->serialize(decant::fuzz::alignment_key());
  DECANT_CHECK(text.size() == size && std::memcmp(text.data(), bytes.data(), size) == 0);
  for (decant::AlignmentTrie::NodeId n = 0; n < trie->size(); ++n) DECANT_CHECK(!(trie->log_c(n) > 1));

  for (const decant::AlignMode mode :
       {decant::AlignMode::kMask, decant::AlignMode::kAsap, decant::AlignMode::kExact, decant::AlignMode::kExplore}) {
    decant::fuzz::draw(mode, 0.5, &*trie);
  }
  return 0;
}
