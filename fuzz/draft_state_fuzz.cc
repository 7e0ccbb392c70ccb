// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// The input is the words of a draft method's saved state, of every kind. Whatever loads is saved as words that load
// again. A refusal must name the file.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "engine/token_tree.h"
#include "fuzz/scratch_folder.h"
#include "sample/sampler.h"
#include "speculate/ngram_pool.h"
#include "speculate/registry.h"
#include "speculate/state_file.h"
#include "speculate/trigram_table.h"

namespace {

// Token Recycling's rows, in a file whose header and sum are right: what loads drafts trees and can be saved.
void read_rows(std::string_view data, int vocab_size) {
  static const decant::fuzz::ScratchFolder folder;
  const std::string path = folder.path() + "/rows", again = folder.path() + "/again";
  const decant::DraftEnvironment environment{.vocab_size = vocab_size, .vocabulary_hash = 7};
  DECANT_CHECK(decant::write_state(path, "recycling", 7, data).ok());
  for (const char* settings : {"k=3, order=2, rows=16", "tree=paper"}) {
    const auto method =
        decant::make_draft_method(std::string("recycling(") + settings + ", state=" + path + ")", environment);
    if (!method.ok()) {
      DECANT_CHECK(method.status().message().find("rows") != std::string_view::npos);
      continue;
    }
    const std::vector<decant::TokenId> text = {1, 2, 3, 1, 2};
    auto drafter = (*method)->start(text);
    DECANT_CHECK(drafter.ok());
    decant::TokenTree tree;
    tree.reset((*method)->max_nodes(), (*method)->max_depth(), vocab_size);
    DECANT_CHECK((*drafter)->propose({.tokens = text}, &tree).ok());
    for (const decant::TokenNode& node : tree.nodes()) DECANT_CHECK(node.token >= 0 && node.token < vocab_size);
    DECANT_CHECK((*method)->save(again).ok());
    DECANT_CHECK(
        decant::make_draft_method(std::string("recycling(") + settings + ", state=" + again + ")", environment).ok());
  }
}

}  // namespace

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
  read_rows({reinterpret_cast<const char*>(data), size}, kVocab);
  return 0;
}
