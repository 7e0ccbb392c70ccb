// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Splits text into the words that byte-level BPE merges within, as the tokenizers' published regular expressions do.
// Written by hand over character classes: faster than a regex engine, linear on every input, and defined on invalid
// UTF-8 (a byte that starts no character is a character of class kOther).
//
// Each function calls emit(word) for consecutive, non-empty, covering parts of `text`.
#pragma once

#include <string_view>

#include "text/unicode.h"

namespace decant {

enum class SplitRule {
  kGpt2,    // 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
  kDigits,  // first each \p{N} alone, then kGpt2 on what lies between
  kLlama3,  // (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|
            // ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
  kQwen2,   // the same with \p{N} for \p{N}{1,3}
  // With U for [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}] and L for [\p{Ll}\p{Lm}\p{Lo}\p{M}], words end where lower case ends:
  kO200k,   // [^\r\n\p{L}\p{N}]?U*L+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?U+L*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|
            // \p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+
  kTekken,  // the same without the contractions and with \p{N} for \p{N}{1,3}
};

// A pre-tokenizer by the name that GGUF's tokenizer.ggml.pre has for it.
struct PreTokenizer {
  std::string_view name;
  SplitRule rule;
  bool ignore_merges = false;  // a word that is a token as a whole is not merged up from bytes
  bool add_bos = false;        // when the file does not say
  bool drops_bytes = false;    // bytes without a token are taken out before merging instead of after
  bool strip_mask = false;     // "<mask>" or "[MASK]" swallows white space before it
};

// nullptr for a name that Decant does not have.
const PreTokenizer* find_pre_tokenizer(std::string_view name);
// All names, for messages: "codeshell, command-r, ...".
std::string_view pre_tokenizer_names();

namespace pre_tokenizer_internal {

struct Char {
  CharClass kind;
  uint8_t size;
  char ascii;  // 0 for anything else
};

// Reads characters at byte offsets; past the end lies kEnd.
class Reader {
 public:
  explicit Reader(std::string_view text) : text_(text) {}
  Char at(size_t offset) const {
    if (offset >= text_.size()) return {CharClass::kEnd, 0, 0};
    const auto byte = static_cast<unsigned char>(text_[offset]);
    if (byte < 0x80) return {char_class(byte), 1, static_cast<char>(byte)};
    const Utf8Char c = decode_utf8(text_.substr(offset));
    return {c.valid ? char_class(c.code) : CharClass::kOther, c.size, 0};
  }
  LetterCase case_at(size_t offset) const {
    if (offset >= text_.size()) return LetterCase::kNone;
    const Utf8Char c = decode_utf8(text_.substr(offset));
    return c.valid ? letter_case(c.code) : LetterCase::kNone;
  }
  // The end of the run of characters of class `kind` that starts at `offset`.
  size_t run(size_t offset, CharClass kind) const {
    for (Char c = at(offset); c.kind == kind; c = at(offset)) offset += c.size;
    return offset;
  }

 private:
  std::string_view text_;
};

// The length of 's, 't, 'm, 'd, 're, 've or 'll (or their upper case) at `offset`, where an apostrophe is; 0 if there
// is none.
inline size_t contraction(const Reader& reader, size_t offset, bool any_case) {
  const auto letter = [&](size_t at) {
    const char c = reader.at(at).ascii;
    return any_case && c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  };
  const char a = letter(offset + 1);
  if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
  if (a != 'r' && a != 'v' && a != 'l') return 0;
  return letter(offset + 2) == (a == 'l' ? 'l' : 'e') ? 3 : 0;
}

struct Spaces {
  size_t end;         // of the run of white space
  size_t last;        // where its last character starts
  size_t after_line;  // after the last \r or \n in it; 0 if there is none
};
inline Spaces spaces(const Reader& reader, size_t offset) {
  Spaces s{offset, offset, 0};
  for (Char c = reader.at(offset); c.kind == CharClass::kSpace; c = reader.at(s.end)) {
    s.last = s.end;
    s.end += c.size;
    if (c.ascii == '\r' || c.ascii == '\n') s.after_line = s.end;
  }
  return s;
}
// \s+(?!\S)|\s+ : the last character of a run is left to the word that follows, if one does and the run has another.
inline size_t spaces_end(const Reader& reader, const Spaces& s, size_t offset) {
  return s.last > offset && reader.at(s.end).kind != CharClass::kEnd ? s.last : s.end;
}

template <typename Emit>
void split_gpt2(std::string_view text, Emit&& emit) {
  const Reader reader(text);
  for (size_t begin = 0; begin < text.size();) {
    const Char first = reader.at(begin);
    size_t end = 0;
    if (first.ascii == '\'' && (end = contraction(reader, begin, false)) > 0) {
      end += begin;
    } else {
      const size_t body = first.ascii == ' ' ? begin + 1 : begin;
      const CharClass kind = reader.at(body).kind;
      if (kind == CharClass::kSpace || kind == CharClass::kEnd) {
        end = spaces_end(reader, spaces(reader, begin), begin);
      } else {
        end = reader.run(body, kind);
      }
    }
    emit(text.substr(begin, end - begin));
    begin = end;
  }
}

template <typename Emit>
void split_digits(std::string_view text, Emit&& emit) {
  const Reader reader(text);
  size_t begin = 0;
  for (size_t at = 0; at < text.size();) {
    const Char c = reader.at(at);
    if (c.kind == CharClass::kNumber) {
      split_gpt2(text.substr(begin, at - begin), emit);
      emit(text.substr(at, c.size));
      begin = at + c.size;
    }
    at += c.size;
  }
  split_gpt2(text.substr(begin), emit);
}

template <typename Emit>
void split_llama3(std::string_view text, int max_digits, Emit&& emit) {
  const Reader reader(text);
  const auto is_line_end = [](Char c) { return c.ascii == '\r' || c.ascii == '\n'; };
  for (size_t begin = 0; begin < text.size();) {
    const Char first = reader.at(begin);
    const Char second = reader.at(begin + first.size);
    size_t end = begin;
    if (first.ascii == '\'' && (end = contraction(reader, begin, true)) > 0) {
      end += begin;
    } else if (first.kind == CharClass::kLetter) {
      end = reader.run(begin, CharClass::kLetter);
    } else if (second.kind == CharClass::kLetter && first.kind != CharClass::kNumber && !is_line_end(first)) {
      end = reader.run(begin + first.size, CharClass::kLetter);
    } else if (first.kind == CharClass::kNumber) {
      end = begin;
      for (int n = 0; n < max_digits && reader.at(end).kind == CharClass::kNumber; ++n) end += reader.at(end).size;
    } else if (first.kind == CharClass::kOther || (first.ascii == ' ' && second.kind == CharClass::kOther)) {
      end = reader.run(first.kind == CharClass::kOther ? begin : begin + 1, CharClass::kOther);
      while (is_line_end(reader.at(end))) ++end;
    } else {
      const Spaces s = spaces(reader, begin);
      end = s.after_line > 0 ? s.after_line : spaces_end(reader, s, begin);
    }
    emit(text.substr(begin, end - begin));
    begin = end;
  }
}

// The end of the U*L+ or else U+L* of kO200k that starts at `offset`, as a backtracking matcher finds it; `offset` if
// neither matches. The first has to win over all leads before the second is tried, so the caller says which.
inline size_t cased_word(const Reader& reader, size_t offset, bool needs_lower) {
  size_t end = offset, last_both = offset;  // the ends of the run of U and of the last character in it that is in L too
  LetterCase c = reader.case_at(end);
  for (; c == LetterCase::kUpper || c == LetterCase::kBoth; c = reader.case_at(end)) {
    end += reader.at(end).size;
    if (c == LetterCase::kBoth) last_both = end;
  }
  if (c != LetterCase::kLower) return needs_lower ? last_both : end;
  for (; c == LetterCase::kLower || c == LetterCase::kBoth; c = reader.case_at(end)) end += reader.at(end).size;
  return end;
}

template <typename Emit>
void split_cased(std::string_view text, int max_digits, bool contractions, Emit&& emit) {
  const Reader reader(text);
  const auto is_line_end = [](Char c) { return c.ascii == '\r' || c.ascii == '\n'; };
  for (size_t begin = 0; begin < text.size();) {
    const Char first = reader.at(begin);
    const Char second = reader.at(begin + first.size);
    const bool leads = first.kind != CharClass::kLetter && first.kind != CharClass::kNumber && !is_line_end(first);
    size_t end = begin;
    for (const bool needs_lower : {true, false}) {
      const size_t after = begin + first.size;
      if (leads && end == begin && (end = cased_word(reader, after, needs_lower)) == after) end = begin;
      if (end == begin) end = cased_word(reader, begin, needs_lower);
    }
    if (end > begin) {
      if (contractions && reader.at(end).ascii == '\'') end += contraction(reader, end, true);
    } else if (first.kind == CharClass::kNumber) {
      for (int n = 0; n < max_digits && reader.at(end).kind == CharClass::kNumber; ++n) end += reader.at(end).size;
    } else if (first.kind == CharClass::kOther || (first.ascii == ' ' && second.kind == CharClass::kOther)) {
      end = reader.run(first.kind == CharClass::kOther ? begin : begin + 1, CharClass::kOther);
      while (is_line_end(reader.at(end)) || reader.at(end).ascii == '/') ++end;
    } else {
      const Spaces s = spaces(reader, begin);
      end = s.after_line > 0 ? s.after_line : spaces_end(reader, s, begin);
    }
    emit(text.substr(begin, end - begin));
    begin = end;
  }
}

}  // namespace pre_tokenizer_internal

template <typename Emit>
void split_words(SplitRule rule, std::string_view text, Emit&& emit) {
  using namespace pre_tokenizer_internal;
  switch (rule) {
    case SplitRule::kGpt2: return split_gpt2(text, emit);
    case SplitRule::kDigits: return split_digits(text, emit);
    case SplitRule::kLlama3: return split_llama3(text, 3, emit);
    case SplitRule::kQwen2: return split_llama3(text, 1, emit);
    case SplitRule::kO200k: return split_cased(text, 3, true, emit);
    case SplitRule::kTekken: return split_cased(text, 1, false, emit);
  }
}

}  // namespace decant
