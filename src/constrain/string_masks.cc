// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "constrain/string_masks.h"

#include <algorithm>

#include "text/unicode.h"

namespace decant {
namespace {

constexpr size_t kMaxRowBytes = size_t{192} << 10;
constexpr size_t kMaxKeptBytes = size_t{128} << 10;
// Below this many nodes walking is cheaper than asking whether it is needed.
constexpr uint32_t kSmallSubtree = 24;
constexpr uint32_t kMaxLongTokens = 4000;  // that are looked at one by one

}  // namespace

void StringMasks::prepare() {
  for (uint32_t c = 0; c < 128; ++c) ascii_[c] = pool_->class_of(c);
  for (int c = 0; c < pool_->class_count(); ++c) {
    if (pool_->reaches_beyond_ascii(static_cast<CharClassId>(c))) wide_.push_back(static_cast<CharClassId>(c));
  }
  for (const JsonVocabulary::TokenClass& k : vocabulary_->classes()) {
    std::vector<CharClassId>& list = classes_.emplace_back();
    for (uint32_t c = 0; c < 128; ++c) {
      if (k.ascii[c]) list.push_back(ascii_[c]);
    }
    if (k.beyond && k.spaces) list.insert(list.end(), wide_.begin(), wide_.end());
    if (k.beyond && !k.spaces) {
      uint32_t first = 128;
      std::vector<CharClassId> some;
      for (const auto& [low, high] : JsonVocabulary::kSpaces) {
        if (low > first) pool_->classes_in(first, low - 1, &some);
        list.insert(list.end(), some.begin(), some.end());
        first = high + 1;
      }
      pool_->classes_in(first, kMaxCodePoint, &some);
      list.insert(list.end(), some.begin(), some.end());
    }
    std::sort(list.begin(), list.end());
    list.erase(std::unique(list.begin(), list.end()), list.end());
  }
}

uint32_t StringMasks::row_of(RegexId id) {
  const auto [it, is_new] = row_ids_.emplace(id, static_cast<uint32_t>(rows_.size()));
  if (is_new) {
    auto row = std::make_unique<Row>();
    row->id = id;
    row->next.assign(static_cast<size_t>(pool_->class_count()), kUnknown);
    rows_.push_back(std::move(row));
  }
  return it->second;
}

uint32_t StringMasks::step(uint32_t row, CharClassId c) {
  const uint32_t known = rows_[row]->next[c];
  if (known != kUnknown) return known;
  const RegexId next = pool_->derive(rows_[row]->id, c);
  const uint32_t result = next != pool_->none() && pool_->live(next) ? row_of(next) : kDead;
  rows_[row]->next[c] = result;
  return result;
}

// Any text of so many characters of the token class leaves a live language: the distance to the nearest dead end.
uint8_t StringMasks::search(uint32_t start, size_t k, uint32_t fuel) {
  const RegexPool::FreeRun run = pool_->free_run(rows_[start]->id);
  uint8_t least = 0;
  if (run.length != 0 &&
      std::all_of(classes_[k].begin(), classes_[k].end(), [&](CharClassId c) { return pool_->in_set(run.set, c); })) {
    if (run.length == RegexPool::kUnbounded) return kAnyLength;
    least = static_cast<uint8_t>(std::min(run.length, kAnyLength - 1));
  }
  ++searches_;
  queue_.clear();
  queue_.push_back({start, 0});
  rows_[start]->seen = searches_;
  for (size_t i = 0; i < queue_.size(); ++i) {
    const auto [row, distance] = queue_[i];
    const auto here = static_cast<uint8_t>(std::min<uint32_t>(distance, kAnyLength - 1));
    if (rows_[row]->free[k] == kAnyLength) continue;
    // What is known of this row says the same about the way here.
    if (distance >= kAnyLength - 1) return here;
    for (const CharClassId c : classes_[k]) {
      if (fuel-- == 0) return std::max(least, here);
      const uint32_t next = step(row, c);
      if (next == kDead) return std::max(least, here);
      if (rows_[next]->seen == searches_) continue;
      rows_[next]->seen = searches_;
      queue_.push_back({next, distance + 1});
    }
  }
  // No dead end anywhere: the same holds for all that were met.
  for (const auto& [row, distance] : queue_) rows_[row]->free[k] = kAnyLength;
  return kAnyLength;
}

uint8_t StringMasks::free_length(uint32_t row, size_t k, uint32_t nodes) {
  const auto fuel = static_cast<uint16_t>(std::clamp<uint32_t>(nodes / 4, 16, 4000));
  Row& r = *rows_[row];
  if (r.free[k] == kAnyLength || r.searched[k] >= fuel) return r.free[k];
  const uint8_t found = search(row, k, fuel);
  Row& now = *rows_[row];
  now.free[k] = std::max(now.free[k], found);
  now.searched[k] = fuel;
  return now.free[k];
}

bool StringMasks::takes_wide(uint32_t row) {
  if (rows_[row]->wide < 0) {
    const bool any = std::any_of(wide_.begin(), wide_.end(), [&](CharClassId c) { return step(row, c) != kDead; });
    rows_[row]->wide = any ? 1 : 0;
  }
  return rows_[row]->wide != 0;
}

void StringMasks::walk(size_t k, uint32_t start, TokenMask* mask) {
  const JsonVocabulary::TokenClass& kind = vocabulary_->classes()[k];
  const TokenTrie& trie = *kind.trie;
  const std::span<const TokenTrie::Node> nodes = trie.nodes();
  const auto end = static_cast<uint32_t>(nodes.size());
  if (free_length(start, k, end) >= trie.height()) {
    *mask |= kind.mask;
    return;
  }
  open_.clear();
  open_.push_back({end, start, 0, 0});
  for (uint32_t i = 0; i < end;) {
    while (open_.back().end <= i) open_.pop_back();
    const TokenTrie::Node& node = nodes[i];
    Open now = open_.back();
    now.end = node.end;
    if (node.byte < 128) {
      now.row = step(now.row, ascii_[node.byte]);
    } else if (now.left > 0) {
      now.code = now.code << 6 | (node.byte & 0x3Fu);
      if (--now.left == 0) now.row = step(now.row, pool_->class_of(now.code));
    } else if (!takes_wide(now.row)) {
      now.row = kDead;
    } else {
      // Tokens of classes are of whole characters.
      now.left = node.byte >= 0xF0 ? 3 : node.byte >= 0xE0 ? 2 : 1;
      now.code = node.byte & (0x3Fu >> now.left);
    }
    if (now.row == kDead) {
      i = node.end;
      continue;
    }
    trie.add_to(node, mask);
    if (node.end == i + 1) {
      ++i;
      continue;
    }
    if (node.end - i > kSmallSubtree && now.left == 0 && free_length(now.row, k, node.end - i) >= node.height) {
      for (++i; i < node.end; ++i) trie.add_to(nodes[i], mask);
      continue;
    }
    open_.push_back(now);
    ++i;
  }
}

// Where a language takes all of a class's tokens but for a length: the tokens that are short enough, and of the longer
// ones those that leave room for what has to follow. False if that is not so, or too many are long.
bool StringMasks::add_free(size_t k, uint32_t rest, int end, int max, TokenMask* mask) {
  const JsonVocabulary::TokenClass& kind = vocabulary_->classes()[k];
  if (kind.longer.empty()) return true;
  if (free_length(rest, k, static_cast<uint32_t>(kind.trie->nodes().size())) < kind.trie->height()) return false;
  const auto longer_than = [&](int length) {
    return kind.longer[std::min(static_cast<size_t>(std::max(length, 0)), kind.longer.size() - 1)];
  };
  const int safe = max - end;
  if (longer_than(safe) - longer_than(max) > kMaxLongTokens) return false;
  if (safe > 0) mask->add_common(kind.mask, vocabulary_->inside(safe));
  for (uint32_t i = longer_than(max); i < longer_than(safe); ++i) {
    const TokenId token = kind.longest_first[i];
    const std::string_view text = vocabulary_->trie().bytes_of(token);
    uint32_t row = rest;
    int length = 0;
    for (size_t at = 0; at < text.size() && row != kDead; ++length) {
      const Utf8Char c = decode_utf8(text.substr(at));
      row = step(row, pool_->class_of(c.code));
      at += c.size;
    }
    if (row != kDead && length + pool_->least_length(rows_[row]->id) <= max) mask->set(token);
  }
  return true;
}

// A length that is still so far away that no token meets it says nothing: what is live without it can be completed
// within it.
RegexId StringMasks::without_length(RegexId id) {
  RegexId rest = 0;
  int min = 0, max = 0;
  if (!pool_->split_length(id, &rest, &min, &max) || min > 0) return id;
  const int end = pool_->longest_end(rest);
  return max == RegexPool::kUnbounded || (end != RegexPool::kUnbounded && max >= end + vocabulary_->trie().height())
             ? rest
             : id;
}

void StringMasks::add_inside(RegexId id, TokenMask* mask) {
  if (id == pool_->none()) return;
  if (classes_.empty()) prepare();
  id = without_length(id);
  if (id == pool_->any_text()) {
    for (const JsonVocabulary::TokenClass& k : vocabulary_->classes()) *mask |= k.mask;
    return;
  }
  const auto it = kept_.find(id);
  if (it != kept_.end()) {
    *mask |= it->second;
    return;
  }
  TokenMask own(mask->vocab_size());
  const uint32_t row = row_of(id);
  RegexId rest = 0;
  int min = 0, max = 0;
  const bool bounded = pool_->split_length(id, &rest, &min, &max) && min == 0 && max != RegexPool::kUnbounded &&
                       pool_->longest_end(rest) != RegexPool::kUnbounded;
  const uint32_t rest_row = bounded ? row_of(rest) : kDead;
  for (size_t k = 0; k < vocabulary_->classes().size(); ++k) {
    if (!bounded || !add_free(k, rest_row, pool_->longest_end(rest), max, &own)) walk(k, row, &own);
  }
  *mask |= own;
  kept_.emplace(id, std::move(own));
}

void StringMasks::make_room() {
  if (kept_.size() * mask_bytes() > std::max(kMaxKeptBytes, 4 * mask_bytes())) kept_.clear();
  if (rows_.size() * row_bytes() > kMaxRowBytes) {
    rows_.clear();
    row_ids_.clear();
  }
}

}  // namespace decant
