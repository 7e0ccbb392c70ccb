// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "speculate/ngram_pool.h"

#include <algorithm>

namespace decant {

NgramPool::NgramPool(const NgramPool& other) : n_(other.n_), kept_(other.kept_), most_(other.most_) {
  std::vector<TokenId> ngram;
  for (const TokenId first : other.ages_) {
    for (const std::vector<TokenId>& rest : other.entries_.at(first).rests) {
      ngram.assign(1, first);
      ngram.insert(ngram.end(), rest.begin(), rest.end());
      insert(ngram);
    }
  }
}

void NgramPool::insert(std::span<const TokenId> ngram) {
  DECANT_CHECK(ngram.size() == static_cast<size_t>(n_));
  const TokenId first = ngram[0];
  const std::span<const TokenId> rest = ngram.subspan(1);
  const auto [entry, is_new] = entries_.try_emplace(first);
  Entry& e = entry->second;
  if (is_new) {
    e.age = ages_.insert(ages_.end(), first);
  } else {
    ages_.splice(ages_.end(), ages_, e.age);
  }
  const auto known = std::find_if(e.rests.begin(), e.rests.end(), [&](const std::vector<TokenId>& r) {
    return std::equal(r.begin(), r.end(), rest.begin(), rest.end());
  });
  if (known != e.rests.end()) {
    std::rotate(known, known + 1, e.rests.end());
  } else {
    if (e.rests.size() == kept_) e.rests.erase(e.rests.begin());
    e.rests.emplace_back(rest.begin(), rest.end());
  }
  if (entries_.size() > most_) {
    entries_.erase(ages_.front());
    ages_.pop_front();
  }
}

void NgramPool::find(TokenId first, std::vector<std::vector<TokenId>>* rests) const {
  rests->clear();
  if (const auto entry = entries_.find(first); entry != entries_.end()) {
    rests->assign(entry->second.rests.rbegin(), entry->second.rests.rend());
  }
}

size_t NgramPool::bytes() const {
  size_t bytes = 0;
  for (const auto& [first, entry] : entries_) {
    bytes += 96 + entry.rests.size() * (24 + static_cast<size_t>(n_) * sizeof(TokenId));
  }
  return bytes;
}

std::vector<uint32_t> NgramPool::words() const {
  std::vector<uint32_t> words = {static_cast<uint32_t>(n_)};
  for (const TokenId first : ages_) {
    for (const std::vector<TokenId>& rest : entries_.at(first).rests) {
      words.push_back(static_cast<uint32_t>(first));
      for (const TokenId t : rest) words.push_back(static_cast<uint32_t>(t));
    }
  }
  return words;
}

Status NgramPool::load(std::span<const uint32_t> words, int vocab_size, const std::string& path) {
  const auto n = static_cast<size_t>(n_);
  if (words.empty()) return Status::corrupt("{}: n-grams: there are none", path);
  if (words[0] != n) {
    return Status::invalid_argument("{}: n-grams: of {} tokens; `ngram={}` takes them", path, words[0], words[0]);
  }
  if ((words.size() - 1) % n != 0) return Status::corrupt("{}: n-grams: the last one is not whole", path);
  std::vector<TokenId> ngram(n);
  for (size_t i = 1; i < words.size(); i += n) {
    for (size_t k = 0; k < n; ++k) {
      if (words[i + k] >= static_cast<uint32_t>(vocab_size)) {
        return Status::corrupt("{}: n-grams: token {} of a vocabulary of {}", path, words[i + k], vocab_size);
      }
      ngram[k] = static_cast<TokenId>(words[i + k]);
    }
    insert(ngram);
  }
  return {};
}

}  // namespace decant
