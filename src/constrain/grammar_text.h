// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// The text of a grammar while it is read: what the front ends share.
#pragma once

#include <string>
#include <string_view>

#include "base/status.h"
#include "constrain/grammar.h"

namespace decant {

inline constexpr size_t kMaxGrammarText = 1 << 20;  // bytes
inline constexpr int kMaxGrammarDepth = 200;        // of groups
inline constexpr int kMaxGrammarCount = 1'000'000;  // of a quantifier
inline constexpr int kMaxQuantifiers = 16;          // of one item

class GrammarText {
 public:
  explicit GrammarText(std::string_view text) : text_(text) {}

  bool at_end() const { return at_ >= text_.size(); }
  char peek(size_t ahead = 0) const { return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0'; }
  bool starts_with(std::string_view part) const { return text_.substr(at_).starts_with(part); }
  bool take(std::string_view part) {
    if (!starts_with(part)) return false;
    at_ += part.size();
    return true;
  }
  void skip(size_t n = 1) { at_ += n; }
  // Precondition: not at the end. Checked to be UTF-8 before.
  uint32_t take_char();
  size_t offset() const { return at_; }
  void seek(size_t offset) { at_ = offset; }
  std::string_view from(size_t begin) const { return text_.substr(begin, at_ - begin); }

  GrammarPlace place() const { return place_of(at_); }
  GrammarPlace place_of(size_t offset) const;

  // kInvalidArgument for a text that is too long, is not UTF-8 or has a zero byte.
  Status check(const std::string& name) const;
  // A whole number of at most kMaxGrammarCount; -1 if there are no digits, -2 if it is larger.
  int number();
  // `digits` hex digits; false if there are fewer, or it is no character.
  bool hex(int digits, uint32_t* code);

 private:
  std::string_view text_;
  size_t at_ = 0;
  mutable size_t known_ = 0;  // the offset whose place is known
  mutable GrammarPlace known_place_ = {1, 1};
};

}  // namespace decant
