// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// A text that grows at its end and whose versions share what they have in common.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

namespace decant {

class SharedText {
 public:
  using Ptr = std::shared_ptr<const SharedText>;

  static Ptr append(Ptr text, char c) {
    auto longer = std::make_shared<SharedText>();
    size_t hash = text ? text->hash_ : 0xC0FFEE;
    longer->size_ = (text ? text->size_ : 0) + 1;
    hash = (hash ^ static_cast<uint8_t>(c)) * 0x9E3779B97F4A7C15u;
    longer->hash_ = hash ^ hash >> 29;
    if (text && text->tail_.size() < kTail) {
      longer->tail_ = text->tail_;
      longer->before_ = text->before_;
    } else {
      longer->before_ = std::move(text);
    }
    longer->tail_ += c;
    return longer;
  }
  SharedText() = default;
  SharedText(const SharedText&) = delete;
  SharedText& operator=(const SharedText&) = delete;
  // Not recursive: a text may be long.
  ~SharedText() {
    Ptr at = std::move(before_);
    while (at && at.use_count() == 1) at = std::move(const_cast<SharedText&>(*at).before_);
  }

  size_t size() const { return size_; }
  size_t hash() const { return hash_; }
  // What follows the first `begin` bytes.
  std::string from(size_t begin) const {
    std::string text(size_ - begin, '\0');
    const SharedText* at = this;
    for (size_t end = size_; end > begin; at = at->before_.get()) {
      for (size_t i = at->tail_.size(); i > 0 && end > begin; --i) text[--end - begin] = at->tail_[i - 1];
    }
    return text;
  }
  static bool same(const Ptr& x, const Ptr& y) {
    if (x == y) return true;
    return x && y && x->size_ == y->size_ && x->hash_ == y->hash_ && x->from(0) == y->from(0);
  }

 private:
  static constexpr size_t kTail = 15;  // what a std::string holds in place

  Ptr before_;
  std::string tail_;
  size_t size_ = 0, hash_ = 0;
};

}  // namespace decant
