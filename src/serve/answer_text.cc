// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "serve/answer_text.h"

#include <algorithm>
#include <utility>

namespace decant::serve {

AnswerText::AnswerText(const Tokenizer& tokenizer, std::vector<std::string> stops,
                       std::vector<TokenId> shown_control_tokens, bool keeps_tokens)
    : tokenizer_(&tokenizer),
      decoder_(tokenizer),
      matcher_(std::move(stops)),
      shown_(std::move(shown_control_tokens)),
      keeps_tokens_(keeps_tokens) {}

std::string AnswerText::match(std::string text) {
  decoded_ += text.size();
  std::string out = matcher_.push(text);
  emitted_ += out.size();
  return out;
}

std::string AnswerText::push(const Draw& draw) {
  if (keeps_tokens_) pending_.push_back({draw, decoded_});
  if (std::find(shown_.begin(), shown_.end(), draw.token) == shown_.end()) return match(decoder_.push(draw.token));
  std::string text = decoder_.flush();
  text += tokenizer_->piece(draw.token, true);
  return match(std::move(text));
}

std::string AnswerText::finish() {
  std::string out = match(decoder_.flush());
  const std::string rest = matcher_.flush();
  emitted_ += rest.size();
  finished_ = true;
  return out + rest;
}

std::vector<AnswerToken> AnswerText::take_tokens() {
  std::vector<AnswerToken> out;
  // A token is out when text behind its beginning is, or when all is out and nothing is to come.
  const auto is_out = [this](const AnswerToken& t) { return t.text_begin < emitted_ || (finished_ && !stopped()); };
  size_t n = 0;
  while (n < pending_.size() && is_out(pending_[n])) ++n;
  out.assign(std::make_move_iterator(pending_.begin()),
             std::make_move_iterator(pending_.begin() + static_cast<ptrdiff_t>(n)));
  pending_.erase(pending_.begin(), pending_.begin() + static_cast<ptrdiff_t>(n));
  return out;
}

}  // namespace decant::serve
