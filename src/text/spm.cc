// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// SentencePiece's BPE with byte fallback (Kudo and Richardson 2018): spaces become U+2581, characters merge by score,
// what is no token in the end becomes bytes.
#include <algorithm>
#include <bit>

#include "text/pair_merger.h"
#include "text/tokenizer_tables.h"

namespace decant {
namespace {

constexpr std::string_view kSpace = "\xE2\x96\x81";  // U+2581

// Symbols whose text is the character U+2581 itself and not a space: they must reach decode() as bytes.
constexpr int32_t kLiteralSpace = -2;

// What the first byte says about a character's length, unchecked: SentencePiece symbols may be broken characters.
size_t claimed_size(char lead) {
  const auto c = static_cast<unsigned char>(lead);
  return c < 0xC0 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
}

// Larger scores give smaller keys; equal scores (0 and -0 too) equal ones.
uint32_t merge_key(float score) {
  const auto bits = std::bit_cast<uint32_t>(score + 0.0f);
  const uint32_t ascending = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  return ~ascending;
}

}  // namespace

// Text with spaces replaced, and the symbols of the stretch that is being merged.
struct SpmTokenizer::Text {
  bool like_llama_cpp = false;
  std::string bytes;
  PairMerger merger;
};

Result<std::unique_ptr<Tokenizer>> SpmTokenizer::make(std::unique_ptr<Tables> tables, std::vector<float> scores,
                                                      std::span<const int64_t> merge_pairs, bool space_prefix,
                                                      TokenId unknown) {
  std::unique_ptr<SpmTokenizer> t(new SpmTokenizer(std::move(tables)));
  const Tables& tab = *t->tables_;
  t->space_prefix_ = space_prefix;
  t->unknown_ = unknown;
  t->merge_keys_.assign(tab.texts.size(), PairMerger::kNever);
  for (size_t i = 0; i < tab.texts.size(); ++i) {
    // Text may not become a control token or a byte token by merging: "</s>" typed by a user stays text.
    const TokenKind kind = tab.kinds[i];
    if (kind != TokenKind::kNormal && kind != TokenKind::kUserDefined && kind != TokenKind::kUnused) continue;
    const std::string_view text = tab.texts[i];
    // An added token's U+2581 is the character and not a space.
    if (kind == TokenKind::kUserDefined && text.find(kSpace) != std::string_view::npos) continue;
    t->merge_keys_[i] = merge_key(scores[i]);
    t->longest_ = std::max(t->longest_, text.size());
    for (size_t at = text.find(kSpace, 1); at != std::string_view::npos; at = text.find(kSpace, at + 1)) {
      t->precedes_space_[static_cast<uint8_t>(text[at - 1])] = true;
    }
  }
  t->by_pairs_ = !merge_pairs.empty();
  if (t->by_pairs_) t->pairs_.reserve(merge_pairs.size() / 2);
  std::string both;
  for (size_t i = 0; i + 1 < merge_pairs.size(); i += 2) {
    both.assign(tab.texts[static_cast<size_t>(merge_pairs[i])])
        .append(tab.texts[static_cast<size_t>(merge_pairs[i + 1])]);
    const TokenId merged = tab.find(both);
    if (merged < 0) continue;  // can never apply
    t->pairs_.insert(static_cast<int32_t>(merge_pairs[i]), static_cast<int32_t>(merge_pairs[i + 1]),
                     static_cast<uint32_t>(i / 2), merged);
  }
  static constexpr char kHex[] = "0123456789ABCDEF";
  for (int b = 0; b < 256; ++b) {
    const char name[] = {'<', '0', 'x', kHex[b >> 4], kHex[b & 15], '>'};
    const char byte = static_cast<char>(b);
    TokenId id = tab.find({name, sizeof(name)});
    if (id < 0) id = tab.find({&byte, 1});
    t->byte_tokens_[b] = id >= 0 ? id : unknown;
  }
  return std::unique_ptr<Tokenizer>(std::move(t));
}

void SpmTokenizer::flush(Text* text, std::vector<TokenId>* out) const {
  const Tables& tab = *tables_;
  const std::string_view bytes = text->bytes;
  text->merger.run([&](const PairMerger::Symbol& a, const PairMerger::Symbol& b) -> PairMerger::Merge {
    if (by_pairs_) return a.id < 0 || b.id < 0 ? PairMerger::Merge() : pairs_.find(a.id, b.id);
    const size_t size = size_t{a.size} + b.size;
    if (size > longest_ || a.id == kLiteralSpace || b.id == kLiteralSpace) return {};
    const TokenId id = tab.find(bytes.substr(a.begin, size));
    if (id < 0) return {};
    return {merge_keys_[id], id};
  });
  for (const PairMerger::Symbol& s : text->merger.symbols) {
    if (s.id >= 0) {
      out->push_back(s.id);
      continue;
    }
    std::string_view rest = bytes.substr(s.begin, s.size);
    // A vocabulary without U+2581: llama.cpp spells that character, which would not read as the space that it was.
    if (rest == kSpace && s.id != kLiteralSpace && !text->like_llama_cpp) rest = " ";
    for (const char c : rest) {
      if (const TokenId id = byte_tokens_[static_cast<uint8_t>(c)]; id >= 0) out->push_back(id);
    }
  }
  text->merger.symbols.clear();
}

void SpmTokenizer::encode_fragment(std::string_view text, bool prefix, bool like_llama_cpp,
                                   std::vector<TokenId>* out) const {
  Text t;
  t.like_llama_cpp = like_llama_cpp;
  t.bytes.reserve(text.size() + text.size() / 2);
  const auto add = [&](std::string_view symbol, bool literal) {
    // No token joins this symbol to the one before: what follows merges on its own.
    if (symbol == kSpace && !t.bytes.empty() && !precedes_space_[static_cast<uint8_t>(t.bytes.back())]) flush(&t, out);
    const auto begin = static_cast<uint32_t>(t.bytes.size());
    t.bytes.append(symbol);
    TokenId id = literal ? kLiteralSpace : tables_->find(symbol);
    if (id >= 0 && merge_keys_[id] == PairMerger::kNever) id = -1;
    t.merger.symbols.push_back({begin, static_cast<uint32_t>(symbol.size()), id});
  };

  if (like_llama_cpp) {
    std::string escaped;
    escaped.reserve(text.size() + text.size() / 2);
    if (space_prefix_ && prefix) escaped.append(kSpace);
    for (const char c : text) {
      if (c == ' ') {
        escaped.append(kSpace);
      } else {
        escaped.push_back(c);
      }
    }
    const std::string_view rest = escaped;
    for (size_t i = 0; i < rest.size();) {
      const std::string_view symbol = rest.substr(i, claimed_size(rest[i]));
      add(symbol, false);
      i += symbol.size();
    }
  } else {
    if (space_prefix_ && prefix) add(kSpace, false);
    for (size_t i = 0; i < text.size();) {
      if (text[i] == ' ') {
        add(kSpace, false);
        ++i;
        continue;
      }
      // A broken character does not swallow a space; otherwise symbols are cut as above.
      std::string_view symbol = text.substr(i, claimed_size(text[i]));
      symbol = symbol.substr(0, symbol.find(' '));
      add(symbol, symbol == kSpace);
      i += symbol.size();
    }
  }
  flush(&t, out);
}

}  // namespace decant
