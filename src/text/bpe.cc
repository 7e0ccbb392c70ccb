// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Byte-level BPE (Radford et al. 2019, GPT-2): words from the pre-tokenizer, bytes written as printable characters,
// merges by rank.
#include <array>
#include <bit>

#include "text/merge_table.h"
#include "text/pair_merger.h"
#include "text/pre_tokenizer.h"
#include "text/tokenizer_tables.h"
#include "text/unicode.h"

namespace decant {
namespace {

// llama.cpp's reading of bytes as characters: no check for overlong forms and surrogates, U+FFFD for a byte that starts
// nothing. (Where it would raise an error, beyond U+10FFFF, U+FFFD too.)
std::string normalize_like_llama_cpp(std::string_view text) {
  const auto* s = reinterpret_cast<const unsigned char*>(text.data());
  std::string out;
  out.reserve(text.size() + 16);
  for (size_t i = 0; i < text.size();) {
    if (s[i] < 0x80) {
      out.push_back(text[i++]);
      continue;
    }
    const int size = s[i] < 0xC0 ? 0 : s[i] < 0xE0 ? 2 : s[i] < 0xF0 ? 3 : s[i] < 0xF8 ? 4 : 0;
    uint32_t code = size > 0 ? s[i] & (0x7Fu >> size) : 0x110000;
    int n = 1;
    while (n < size && i + n < text.size() && (s[i + n] & 0xC0) == 0x80) code = (code << 6) | (s[i + n++] & 0x3Fu);
    if (n < size || code > 0x10FFFF) {
      append_utf8(0xFFFD, &out);
      ++i;
    } else {
      append_utf8(code, &out);
      i += static_cast<size_t>(n);
    }
  }
  return out;
}

// Whether text may become the token by merging: never a control token, nor an added token that reads otherwise than its
// bytes.
bool may_be_text(const StringTable& texts, const StringTable& pieces, TokenKind kind, TokenId id) {
  if (kind == TokenKind::kControl || kind == TokenKind::kUnknown) return false;
  if (kind != TokenKind::kUserDefined) return true;
  std::string decoded;
  append_printable_decoded(texts[static_cast<size_t>(id)], &decoded);
  return decoded == pieces[static_cast<size_t>(id)];
}

}  // namespace

struct BpeTokenizer::Merges {
  SplitRule rule;
  bool ignore_merges = false;
  bool drops_bytes = false;
  std::array<int32_t, 256> bytes;  // the symbol of each byte
  MergeTable table;
  // Symbols are token ids, and beyond them strings that occur only on the way to a token (or stand for a byte without
  // one).
  StringTable extra;
  StringIndex extra_index;
};

struct BpeTokenizer::Scratch {
  PairMerger merger;
  std::string printable;
};

BpeTokenizer::BpeTokenizer(std::unique_ptr<Tables> tables, std::unique_ptr<Merges> merges)
    : Tokenizer(std::move(tables)), merges_(std::move(merges)) {}
BpeTokenizer::~BpeTokenizer() = default;

Result<std::unique_ptr<Tokenizer>> BpeTokenizer::make(std::unique_ptr<Tables> tables, const PreTokenizer& pre,
                                                      std::span<const std::string_view> merges, std::string_view name) {
  auto m = std::make_unique<Merges>();
  m->rule = pre.rule;
  m->ignore_merges = pre.ignore_merges;
  m->drops_bytes = pre.drops_bytes;
  m->table.reserve(merges.size());

  const auto n_tokens = static_cast<int32_t>(tables->texts.size());
  size_t extra_room = 0;
  const auto symbol = [&](std::string_view text) -> int32_t {
    if (const TokenId id = tables->find(text);
        id >= 0 && may_be_text(tables->texts, tables->pieces, tables->kinds[id], id))
      return id;
    if (const int32_t id = m->extra_index.find(m->extra, text); id >= 0) return n_tokens + id;
    m->extra.add(text);
    if (m->extra.size() > extra_room) {
      extra_room = m->extra.size() * 2 + 256;
      m->extra_index.reserve(extra_room);
      for (uint32_t i = 0; i + 1 < m->extra.size(); ++i) m->extra_index.insert(m->extra, i);
    }
    m->extra_index.insert(m->extra, static_cast<uint32_t>(m->extra.size() - 1));
    return n_tokens + static_cast<int32_t>(m->extra.size() - 1);
  };
  for (int b = 0; b < 256; ++b) m->bytes[b] = symbol(byte_to_printable(static_cast<uint8_t>(b)));

  std::string both;
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const std::string_view merge = merges[rank];
    const size_t space = merge.find(' ', 1);
    if (space == std::string_view::npos) {
      return Status::corrupt("{}: tokenizer.ggml.merges[{}] is \"{}\"; a merge is two strings with a space between",
                             name, rank, merge.substr(0, 80));
    }
    const std::string_view left = merge.substr(0, space);
    const std::string_view right = merge.substr(space + 1);
    if (right.empty()) continue;  // can never apply
    both.assign(left).append(right);
    m->table.insert(symbol(left), symbol(right), static_cast<uint32_t>(rank), symbol(both));
  }
  return std::unique_ptr<Tokenizer>(new BpeTokenizer(std::move(tables), std::move(m)));
}

void BpeTokenizer::encode_word(std::string_view word, bool like_llama_cpp, Scratch* scratch,
                               std::vector<TokenId>* out) const {
  const Merges& m = *merges_;
  if (m.ignore_merges) {
    scratch->printable.clear();
    for (const char c : word) scratch->printable.append(byte_to_printable(static_cast<uint8_t>(c)));
    const TokenId id = tables_->find(scratch->printable);
    if (id >= 0 && may_be_text(tables_->texts, tables_->pieces, tables_->kinds[id], id)) {
      out->push_back(id);
      return;
    }
  }
  auto& symbols = scratch->merger.symbols;
  const auto n_tokens = static_cast<int32_t>(tables_->texts.size());
  symbols.clear();
  for (size_t i = 0; i < word.size(); ++i) {
    const int32_t id = m.bytes[static_cast<uint8_t>(word[i])];
    if (id < n_tokens || !m.drops_bytes) symbols.push_back({static_cast<uint32_t>(i), 1, id});
  }
  if (symbols.empty()) return;
  scratch->merger.run(
      [&m](const PairMerger::Symbol& a, const PairMerger::Symbol& b) { return m.table.find(a.id, b.id); });

  for (const PairMerger::Symbol& s : symbols) {
    if (s.id < n_tokens) {
      out->push_back(s.id);
      continue;
    }
    // No token: byte by byte, and a byte without a token is dropped.
    if (!like_llama_cpp) {
      for (const char c : word.substr(s.begin, s.size)) {
        if (const int32_t id = m.bytes[static_cast<uint8_t>(c)]; id < n_tokens) out->push_back(id);
      }
      continue;
    }
    // llama.cpp looks for the bytes of the printable form, which loses the ones beyond ASCII.
    const std::string_view printable = m.extra[static_cast<size_t>(s.id - n_tokens)];
    for (size_t i = 0; i < printable.size(); ++i) {
      if (const TokenId id = tables_->find(printable.substr(i, 1)); id >= 0) out->push_back(id);
    }
  }
}

void BpeTokenizer::encode_fragment(std::string_view text, bool /*prefix*/, bool like_llama_cpp,
                                   std::vector<TokenId>* out) const {
  std::string normalized;
  if (like_llama_cpp) {
    normalized = normalize_like_llama_cpp(text);
    text = normalized;
  }
  Scratch scratch;
  split_words(merges_->rule, text, [&](std::string_view word) {
    if (!word.empty()) encode_word(word, like_llama_cpp, &scratch, out);
  });
}

}  // namespace decant
