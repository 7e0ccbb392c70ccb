// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "speculate/trigram_table.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace decant {
namespace {

using Successor = TrigramTable::Successor;

bool heavier(const Successor& a, const Successor& b) {
  return a.weight != b.weight ? a.weight > b.weight : a.token < b.token;
}

float weight_in(std::span<const Successor> row, TokenId token) {
  for (const Successor& s : row) {
    if (s.token == token) return s.weight;
  }
  return 0;
}

}  // namespace

TrigramTable TrigramTable::from_corpus(const Datastore& corpus, int top) {
  TrigramTable table;
  // The suffix array has equal beginnings side by side.
  TokenId a = -1, b = -1, c = -1;
  uint64_t all = 0, count = 0;
  Row row;
  const auto end_token = [&] {
    if (count > 0) row.push_back({.token = c, .weight = static_cast<float>(count)});
    count = 0;
  };
  const auto end_row = [&] {
    end_token();
    if (!row.empty()) {
      for (Successor& s : row) s.weight /= static_cast<float>(all);
      std::sort(row.begin(), row.end(), heavier);
      if (row.size() > static_cast<size_t>(top)) row.resize(static_cast<size_t>(top));
      row.shrink_to_fit();
      table.rows_[key(a, b)] = std::move(row);
    }
    row = {};
    all = 0;
  };
  for (uint64_t i = 0; i < corpus.info().tokens; ++i) {
    const uint64_t position = corpus.suffix(i);
    const TokenId x = corpus.token(position), y = corpus.token(position + 1), z = corpus.token(position + 2);
    if (x < 0 || y < 0 || z < 0) continue;
    if (x != a || y != b) {
      end_row();
      a = x;
      b = y;
      c = z;
    } else if (z != c) {
      end_token();
      c = z;
    }
    ++count;
    ++all;
  }
  end_row();
  return table;
}

std::span<const Successor> TrigramTable::row(TokenId a, TokenId b) const {
  const auto found = rows_.find(key(a, b));
  return found == rows_.end() ? std::span<const Successor>() : std::span<const Successor>(found->second);
}

float TrigramTable::weight(TokenId a, TokenId b, TokenId c) const { return weight_in(row(a, b), c); }

void TrigramTable::raise(TokenId a, TokenId b, TokenId c, float step, float cap) {
  Row& row = rows_[key(a, b)];
  auto found = std::find_if(row.begin(), row.end(), [&](const Successor& s) { return s.token == c; });
  if (found == row.end()) found = row.insert(row.end(), {.token = c, .weight = 0});
  found->weight = std::min(found->weight + step, cap);
  while (found != row.begin() && heavier(*found, *(found - 1))) {
    std::swap(*found, *(found - 1));
    --found;
  }
}

void TrigramTable::set_row(TokenId a, TokenId b, Row row) { rows_[key(a, b)] = std::move(row); }

size_t TrigramTable::bytes() const {
  size_t bytes = rows_.bucket_count() * sizeof(void*);
  for (const auto& [k, row] : rows_) bytes += 48 + row.capacity() * sizeof(Successor);
  return bytes;
}

std::vector<uint32_t> TrigramTable::words() const {
  std::vector<uint64_t> keys;
  for (const auto& [k, row] : rows_) keys.push_back(k);
  std::sort(keys.begin(), keys.end());
  std::vector<uint32_t> words;
  for (const uint64_t k : keys) {
    const Row& row = rows_.at(k);
    words.push_back(static_cast<uint32_t>(k >> 32));
    words.push_back(static_cast<uint32_t>(k));
    words.push_back(static_cast<uint32_t>(row.size()));
    for (const Successor& s : row) {
      words.push_back(static_cast<uint32_t>(s.token));
      words.push_back(std::bit_cast<uint32_t>(s.weight));
    }
  }
  return words;
}

Result<TrigramTable> TrigramTable::from_words(std::span<const uint32_t> words, int vocab_size,
                                              const std::string& path) {
  TrigramTable table;
  const auto known = [&](uint32_t token) { return token < static_cast<uint32_t>(vocab_size); };
  size_t i = 0;
  while (i < words.size()) {
    if (words.size() - i < 3 || (words.size() - i - 3) / 2 < words[i + 2]) {
      return Status::corrupt("{}: row {}: it ends too early", path, table.rows());
    }
    const size_t n = words[i + 2];
    Row row;
    bool good = known(words[i]) && known(words[i + 1]) && n > 0;
    for (size_t k = 0; k < n; ++k) {
      const uint32_t token = words[i + 3 + 2 * k];
      const Successor s{.token = static_cast<TokenId>(token), .weight = std::bit_cast<float>(words[i + 4 + 2 * k])};
      good = good && known(token) && std::isfinite(s.weight) && s.weight >= 0 && (k == 0 || heavier(row.back(), s));
      if (!good) break;
      row.push_back(s);
    }
    if (!good) {
      return Status::corrupt("{}: row {}: tokens from 0 to {} and descending weights were expected", path, table.rows(),
                             vocab_size - 1);
    }
    table.set_row(static_cast<TokenId>(words[i]), static_cast<TokenId>(words[i + 1]), std::move(row));
    i += 3 + 2 * n;
  }
  return table;
}

std::span<const Successor> AdaptiveTrigrams::row(TokenId a, TokenId b) const {
  if (const auto row = changed_.row(a, b); !row.empty() || !base_) return row;
  return base_->row(a, b);
}

float AdaptiveTrigrams::weight(TokenId a, TokenId b, TokenId c) const { return weight_in(row(a, b), c); }

void AdaptiveTrigrams::raise(TokenId a, TokenId b, TokenId c, float step, float cap) {
  if (base_ && changed_.row(a, b).empty()) {
    if (const auto row = base_->row(a, b); !row.empty()) changed_.set_row(a, b, {row.begin(), row.end()});
  }
  changed_.raise(a, b, c, step, cap);
}

void AdaptiveTrigrams::raise_all(std::span<const TokenId> text, float step, float cap) {
  for (size_t i = 0; i + 3 <= text.size(); ++i) raise(text[i], text[i + 1], text[i + 2], step, cap);
}

}  // namespace decant
