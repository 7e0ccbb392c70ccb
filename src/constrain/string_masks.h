// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Which tokens may go on within a JSON string, by the language of what is still to come of the string. The tokens are
// walked by class: where a language takes any text of a class's characters, as long as the class's tokens are, no walk
// is needed.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

#include "constrain/json_vocabulary.h"
#include "constrain/regex.h"

namespace decant {

class StringMasks {
 public:
  StringMasks(RegexPool* pool, std::shared_ptr<const JsonVocabulary> vocabulary)
      : pool_(pool), vocabulary_(std::move(vocabulary)) {}

  // Sets the tokens of JsonVocabulary::classes() after which the string can still be completed. `id` is what may come
  // next in the string, by its decoded characters; the pool is frozen.
  void add_inside(RegexId id, TokenMask* mask);
  // Between masks: forgets what takes too much room.
  void make_room();
  size_t bytes() const { return rows_.size() * row_bytes() + kept_.size() * mask_bytes(); }

  // Derivatives as rows of a table: kDead where nothing can be completed. Valid until make_room().
  static constexpr uint32_t kDead = UINT32_MAX;
  uint32_t row_of(RegexId id);
  uint32_t step(uint32_t row, CharClassId c);
  RegexId language_of(uint32_t row) const { return rows_[row]->id; }

 private:
  static constexpr uint32_t kUnknown = UINT32_MAX - 1;
  static constexpr uint8_t kAnyLength = 255;
  // Of one language: where characters lead, and how long any text of a class's characters stays alive (at least).
  struct Row {
    RegexId id;
    uint32_t seen = 0;  // by the search of this number
    int8_t wide = -1;   // whether a character beyond ASCII may come; -1: not known yet
    std::array<uint8_t, JsonVocabulary::kMaxClasses> free{};
    std::array<uint16_t, JsonVocabulary::kMaxClasses> searched{};  // the fuel that was spent to find out
    std::vector<uint32_t> next;
  };
  struct Open {
    uint32_t end, row, code;
    uint8_t left;  // bytes of a character to come
  };

  size_t row_bytes() const { return sizeof(Row) + static_cast<size_t>(pool_->class_count()) * sizeof(uint32_t); }
  size_t mask_bytes() const { return static_cast<size_t>(vocabulary_->trie().vocab_size()) / 8; }
  void prepare();
  RegexId without_length(RegexId id);
  uint8_t free_length(uint32_t row, size_t k, uint32_t nodes);
  uint8_t search(uint32_t row, size_t k, uint32_t fuel);
  bool takes_wide(uint32_t row);
  bool add_free(size_t k, uint32_t rest, int end, int max, TokenMask* mask);
  void walk(size_t k, uint32_t row, TokenMask* mask);

  RegexPool* pool_;
  std::shared_ptr<const JsonVocabulary> vocabulary_;
  std::array<CharClassId, 128> ascii_{};
  std::vector<std::vector<CharClassId>> classes_;  // of characters, by class of tokens
  std::vector<CharClassId> wide_;                  // beyond ASCII
  std::vector<std::unique_ptr<Row>> rows_;
  std::unordered_map<RegexId, uint32_t> row_ids_;
  std::vector<Open> open_;
  std::vector<std::pair<uint32_t, uint32_t>> queue_;  // rows and their distance
  uint32_t searches_ = 0;
  std::unordered_map<RegexId, TokenMask> kept_;
};

}  // namespace decant
