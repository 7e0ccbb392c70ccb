// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "eval/schema_walk.h"

#include <algorithm>
#include <bit>
#include <random>

#include "constrain/json_tree.h"
#include "constrain/schema_constraint.h"
#include "eval/maskbench.h"
#include "text/tokenizer.h"

namespace decant {
namespace {

class Walker {
 public:
  Walker(const TokenTrie& trie, uint64_t seed, const SchemaWalkOptions& options)
      : trie_(trie), random_(seed), options_(options), closing_(trie.vocab_size()), single_(trie.vocab_size()) {
    for (TokenId t = 0; t < trie.vocab_size(); ++t) {
      const std::string_view text = trie.bytes_of(t);
      if (text.empty()) continue;
      if (text.size() == 1) single_.set(t);
      if (text[0] == '"' || text[0] == ']' || text[0] == '}') closing_.set(t);
    }
  }

  SchemaWalk walk(Constraint& constraint, bool only_bytes, std::string* refused) {
    SchemaWalk out;
    ConstraintState state = constraint.start();
    for (int n = 0; n < options_.max_tokens; ++n) {
      const std::shared_ptr<const TokenMask> mask = constraint.mask(state);
      const bool late = n * 4 > options_.max_tokens;
      const bool whole = constraint.accepting(state);
      if (whole && (late || chance(2))) return out;
      TokenId token = -1;
      if (late || chance(2)) token = draw(*mask, &closing_, only_bytes ? &single_ : nullptr);
      if (token < 0 && (only_bytes || chance(4))) token = draw(*mask, &single_, nullptr);
      if (token < 0) token = draw(*mask, nullptr, nullptr);
      if (token < 0) {
        if (!whole) out.end = WalkEnd::kDeadEnd;
        return out;
      }
      Result<ConstraintState> next = constraint.advance(state, token);
      out.text += trie_.bytes_of(token);
      if (!next.ok()) {
        const bool defect = next.status().code() == Code::kInvalidArgument;
        out.end = defect ? WalkEnd::kMismatch : WalkEnd::kError;
        if (!defect) *refused = next.status().message();
        return out;
      }
      state = *std::move(next);
    }
    if (!constraint.accepting(state)) out.end = WalkEnd::kUnended;
    return out;
  }

 private:
  bool chance(int n) { return random_() % static_cast<uint64_t>(n) == 0; }

  // One of the tokens in all of the sets; -1 if there is none.
  TokenId draw(const TokenMask& mask, const TokenMask* a, const TokenMask* b) {
    words_.assign(mask.words().begin(), mask.words().end());
    for (const TokenMask* other : {a, b}) {
      for (size_t i = 0; other != nullptr && i < words_.size(); ++i) words_[i] &= other->words()[i];
    }
    uint64_t count = 0;
    for (const uint64_t w : words_) count += static_cast<uint64_t>(std::popcount(w));
    if (count == 0) return -1;
    uint64_t index = random_() % count;
    for (size_t i = 0;; ++i) {
      const auto here = static_cast<uint64_t>(std::popcount(words_[i]));
      if (index >= here) {
        index -= here;
        continue;
      }
      uint64_t word = words_[i];
      for (; index > 0; --index) word &= word - 1;
      return static_cast<TokenId>(i * 64 + static_cast<size_t>(std::countr_zero(word)));
    }
  }

  const TokenTrie& trie_;
  std::mt19937_64 random_;
  const SchemaWalkOptions& options_;
  TokenMask closing_, single_;
  std::vector<uint64_t> words_;
};

}  // namespace

std::string_view walk_end_name(WalkEnd end) {
  switch (end) {
    case WalkEnd::kWhole: return "whole";
    case WalkEnd::kUnended: return "unended";
    case WalkEnd::kDeadEnd: return "dead end";
    case WalkEnd::kMismatch: return "mismatch";
    case WalkEnd::kError: break;
  }
  return "error";
}

Status run_schema_walks(const Tokenizer& tokenizer, const SchemaWalkOptions& options,
                        const std::function<Status(const SchemaWalks&)>& done) {
  const auto trie = std::make_shared<const TokenTrie>(tokenizer);
  const auto vocabulary = std::make_shared<const JsonVocabulary>(trie);
  Walker walker(*trie, options.seed, options);
  return for_each_schema(options.data, options.every, [&](const BenchmarkSchema& schema) -> Status {
    SchemaWalks out{.id = schema.id, .schema = schema.text};
    const auto constraint = compile_json_schema(schema.text, "schema", options.schema, vocabulary);
    if (!constraint.ok()) {
      out.refused = constraint.status().message();
      return done(out);
    }
    for (int i = 0; i < options.walks; ++i) out.walks.push_back(walker.walk(**constraint, i == 0, &out.refused));
    for (const JsonNode& test : schema.tests.items) {
      const JsonNode* data = test.find("data");
      if (data == nullptr) return Status::corrupt("a test without data");
      const std::string text = json_line(*data);
      DECANT_TRY(const std::vector<TokenId> tokens,
                 tokenizer.encode(text, {.add_special = false, .parse_special = false}));
      std::string spelled;
      for (const TokenId t : tokens) spelled += trie->bytes_of(t);
      if (spelled != text) {
        out.accepted.push_back(std::nullopt);
        continue;
      }
      ConstraintState state = (*constraint)->start();
      bool taken = true;
      for (size_t i = 0; taken && i < tokens.size(); ++i) {
        taken = (*constraint)->mask(state)->test(tokens[i]);
        if (!taken) break;
        Result<ConstraintState> next = (*constraint)->advance(state, tokens[i]);
        if (next.ok()) {
          state = *std::move(next);
        } else {
          out.refused = next.status().message();
          taken = false;
        }
      }
      out.accepted.push_back(taken && (*constraint)->accepting(state));
    }
    return done(out);
  });
}

}  // namespace decant
