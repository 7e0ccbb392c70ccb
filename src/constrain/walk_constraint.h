// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// What constraints share whose states are followed byte by byte: states as numbers in a table, transitions and masks
// that are kept with them, and walks of the token trie. The table is bounded: when it is full a new one begins (an
// epoch), and a state of an old one, which whoever holds it keeps alive, is brought over when it is used again.
#pragma once

#include <array>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "constrain/constraint.h"
#include "constrain/json_vocabulary.h"

namespace decant {

class WalkConstraint : public Constraint {
 public:
  explicit WalkConstraint(std::shared_ptr<const JsonVocabulary> vocabulary) : vocabulary_(std::move(vocabulary)) {
    vocabulary_->text_slices();  // so that no mask waits for them
  }

  ConstraintState start() override;
  std::shared_ptr<const TokenMask> mask(const ConstraintState& state) override;
  Result<ConstraintState> advance(const ConstraintState& state, TokenId token) override;
  std::optional<ConstraintState> step(const ConstraintState& state, uint8_t byte) override;
  bool accepting(const ConstraintState& state) override;
  Status failure(const ConstraintState& state) override;
  std::optional<std::string> completion(const ConstraintState& state) override;
  std::optional<int> tokens_to_end(const ConstraintState& state) override;
  std::shared_ptr<const TokenMask> mask_within(const ConstraintState& state, int tokens) override;
  const TokenTrie& trie() const override { return vocabulary_->trie(); }
  size_t bytes() const override;

 protected:
  static constexpr uint32_t kDead = UINT32_MAX;
  static constexpr uint32_t kUnknown = UINT32_MAX - 1;

  // --- What a kind of constraint says about its states; called with the lock held ---
  virtual uint32_t start_anew() = 0;
  // kDead: no text of the language goes on so.
  virtual uint32_t step_anew(uint32_t state, uint8_t byte) = 0;
  // The same for a token that stands for no text.
  virtual uint32_t advance_special(uint32_t, TokenId) { return kDead; }
  virtual bool accepts(uint32_t state) = 0;
  // Which slice of the vocabulary may come as a whole; an index, or its size for none.
  virtual size_t slice_of(uint32_t) { return vocabulary_->text_slices().size(); }
  virtual std::optional<std::string> completion_of(uint32_t state) = 0;
  // Sets the bits of a mask that has none.
  virtual void fill(uint32_t state, TokenMask* mask);
  // The tables of the present epoch; its address is its name.
  virtual std::shared_ptr<const void> epoch() const = 0;
  virtual void begin_epoch() = 0;
  virtual uint32_t bring_over(const void* old_epoch, uint32_t state) = 0;
  virtual bool epoch_is_full() const = 0;
  virtual size_t epoch_bytes() const = 0;
  // A mask or a token begins, with its own limit on the work.
  virtual void begin_work() = 0;
  // Why states could not be followed since then.
  virtual const Status& trouble() const = 0;

  // --- For them ---
  uint32_t next(uint32_t state, uint8_t byte);
  void walk(const TokenTrie& trie, uint32_t begin, uint32_t end, uint32_t state, TokenMask* mask);
  void walk_all(uint32_t state, TokenMask* mask);
  const std::shared_ptr<const JsonVocabulary>& vocabulary() const { return vocabulary_; }

  mutable std::mutex mutex_;

 private:
  static constexpr int32_t kNotAsked = -1, kNotKnown = INT32_MAX;
  struct Held {
    std::shared_ptr<const void> epoch;
    uint32_t id;
    mutable Status failure = {};
  };
  struct Entry {
    std::unique_ptr<std::array<uint32_t, 256>> row;
    std::shared_ptr<const TokenMask> mask;
    int32_t to_end = kNotAsked;      // tokens
    std::weak_ptr<const Held> held;  // one value for as long as somebody has it
  };

  Entry& entry(uint32_t id) {
    if (id >= entries_.size()) entries_.resize(static_cast<size_t>(id) + 1);
    return entries_[id];
  }
  // Its transitions; the pointer stays valid until make_room().
  std::array<uint32_t, 256>* row(uint32_t id);
  uint32_t take(const ConstraintState& state);
  ConstraintState hold(uint32_t id);
  int32_t to_end(uint32_t id);
  void make_room();

  std::shared_ptr<const JsonVocabulary> vocabulary_;
  std::vector<Entry> entries_;
  size_t rows_ = 0, mask_bytes_ = 0;
  struct Open {
    uint32_t end, state;
    std::array<uint32_t, 256>* row;
  };
  std::vector<Open> open_;  // the subtrees that a walk is in
};

}  // namespace decant
