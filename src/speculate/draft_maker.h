// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Trees of likely continuations by a tri-gram table: ADED's search (Monte Carlo tree search with PUCT), and the nodes
// of highest probability by best-first search.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/acceptance.h"
#include "engine/token_tree.h"
#include "speculate/trigram_table.h"

namespace decant {

// What a guess rests on: the weights of the row it is from.
struct TrigramEvidence {
  int depth;
  int rank;     // in its row
  float share;  // its weight's, of the row's
  float total;  // of the row
};
using TrigramEvidenceNumber = uint16_t (*)(const TrigramEvidence&);

class DraftMaker {
 public:
  struct Options {
    int length = 4;  // tokens of a branch; the search goes one less deep, then the likeliest token is put behind
    int iterations = 150;
    int sentences = 24;  // ends of branches, most visited first
    float c1 = 32, c2 = 8;
    bool compat = false;  // scores as the authors' program does: the weight of the wrong token, which is mostly 0
  };
  // A position of the search: what was visited through it.
  struct Visit {
    int parent;  // -1: the root, which is number 0
    TokenId token;
    int depth;
    int visits;
    float score;  // sum
    float prior;  // the table's weight
  };

  explicit DraftMaker(const Options& options) : options_(options) {}

  // Continuations of `a` `b`, the most visited first, until the tree is full.
  void search(const AdaptiveTrigrams& table, TokenId a, TokenId b, uint64_t seed, TrigramEvidenceNumber evidence,
              TokenTree* tree);
  // Those of highest probability: by the table, or by how often guesses of their evidence came true if that is known.
  void best(const AdaptiveTrigrams& table, TokenId a, TokenId b, TrigramEvidenceNumber evidence,
            const AcceptanceModel* measured, TokenTree* tree);
  // Of the last search, for whom looks on.
  std::vector<Visit> visits() const;

 private:
  struct Node {
    TokenId a, b;  // the state
    int parent = -1, depth = 0;
    int first_child = -1, children = 0;
    int visits = 0;
    float score = 0, prior = 1;
    bool expanded = false;
  };
  struct Candidate {
    int parent;  // of the nodes
    TokenId token;
    float order;  // by which they are taken
    int depth;
    int node = -1;  // -1: put behind the search's tree
  };

  void iterate(const AdaptiveTrigrams& table, uint64_t* random);
  int select(const Node& node) const;
  void expand(const AdaptiveTrigrams& table, int node);
  float transition(const AdaptiveTrigrams& table, TokenId a, TokenId b, TokenId c) const;

  Options options_;
  std::vector<Node> nodes_;
  std::vector<int> path_;
};

}  // namespace decant
