// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// The input is the words of a draft method's saved state, of every kind. Whatever loads is saved as words that load
// again. A refusal must name the file.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "speculate/ngram_pool.h"
#include "speculate/trigram_table.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr int kVocab = 100;
  std::vector<uint32_t> words(size / sizeof(uint32_t));
  if (!words.empty()) std::memcpy(words.data(), data, words.size() * sizeof(uint32_t));
  const auto table = decant::TrigramTable::from_words(words, kVocab, "fuzz.state");
  if (table.ok()) {
    DECANT_CHECK(decant::TrigramTable::from_words(table->words(), kVocab, "fuzz.state")->words() == table->words());
  } else {
    DECANT_CHECK(table.status().message().starts_with("fuzz.state: "));
  }
  for (const int n : {2, 5}) {
    decant::NgramPool pool(n, 3, 50), again(n, 3, 50);
    const decant::Status status = pool.load(words, kVocab, "fuzz.state");
    if (status.ok()) {
      DECANT_CHECK(again.load(pool.words(), kVocab, "fuzz.state").ok() && again.first_tokens() == pool.first_tokens());
    } else {
      DECANT_CHECK(status.message().starts_with("fuzz.state: "));
    }
  }
  return 0;
}
