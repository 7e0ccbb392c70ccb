// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "constrain/grammar_text.h"

#include <algorithm>

#include "text/unicode.h"

namespace decant {

uint32_t GrammarText::take_char() {
  const Utf8Char c = decode_utf8(text_.substr(at_));
  at_ += c.size;
  return c.code;
}

// Goes on from where it was asked for before: grammars are read from the beginning to the end.
GrammarPlace GrammarText::place_of(size_t offset) const {
  if (offset < known_) {
    known_ = 0;
    known_place_ = {1, 1};
  }
  for (; known_ < std::min(offset, text_.size()); ++known_) {
    if (text_[known_] == '\n') {
      ++known_place_.line;
      known_place_.column = 1;
    } else if ((static_cast<uint8_t>(text_[known_]) & 0xC0) != 0x80) {
      ++known_place_.column;
    }
  }
  return known_place_;
}

Status GrammarText::check(const std::string& name) const {
  if (text_.size() > kMaxGrammarText) {
    return Status::unsupported("{}: a grammar of {} bytes; at most {} are supported", name, text_.size(),
                               kMaxGrammarText);
  }
  for (size_t at = 0; at < text_.size();) {
    const Utf8Char c = decode_utf8(text_.substr(at));
    const GrammarPlace place = c.valid && c.code != 0 ? GrammarPlace{} : place_of(at);
    if (!c.valid || c.code == 0) {
      return Status::invalid_argument("{}: line {}, column {}: {}", name, place.line, place.column,
                                      c.valid ? "a zero byte" : "a byte that is not UTF-8");
    }
    at += c.size;
  }
  return {};
}

int GrammarText::number() {
  const size_t begin = at_;
  int64_t value = 0;
  while (peek() >= '0' && peek() <= '9') {
    value = std::min<int64_t>(value * 10 + (peek() - '0'), int64_t{kMaxGrammarCount} + 1);
    ++at_;
  }
  if (at_ == begin) return -1;
  return value > kMaxGrammarCount ? -2 : static_cast<int>(value);
}

bool GrammarText::hex(int digits, uint32_t* code) {
  uint64_t value = 0;
  for (int i = 0; i < digits; ++i) {
    const char c = peek();
    const char low = static_cast<char>(c | 32);
    if (!((c >= '0' && c <= '9') || (low >= 'a' && low <= 'f'))) return false;
    value = value * 16 + static_cast<uint64_t>(c <= '9' ? c - '0' : low - 'a' + 10);
    ++at_;
  }
  if (value > kMaxCodePoint || (value >= 0xD800 && value <= 0xDFFF)) return false;
  *code = static_cast<uint32_t>(value);
  return true;
}

}  // namespace decant
