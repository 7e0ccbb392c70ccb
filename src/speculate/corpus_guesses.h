// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// What follows a match in a datastore, as nodes of a token tree.
#pragma once

#include "engine/acceptance.h"
#include "engine/token_tree.h"
#include "speculate/datastore_file.h"

namespace decant {

// What a guess rests on: `length` tokens match, and `share` of the `count` occurrences that go as far as the parent go
// on with the token.
struct CorpusEvidence {
  int length, depth;
  int count;
  float share;
};

// Adds the likeliest continuations of at most `samples` occurrences, spread over all, until the tree is full: a trie
// whose nodes are weighted by the occurrences that go through them, or by how often guesses of their evidence came true
// if that is known.
void add_corpus_guesses(const Datastore& store, const Datastore::Range& match, int samples,
                        uint16_t (*evidence)(const CorpusEvidence&), const AcceptanceModel* measured, TokenTree* tree);

}  // namespace decant
