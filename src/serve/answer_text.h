// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// One answer's tokens as they come: their text, up to a stop string, and what is known of each.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "sample/sampler.h"
#include "text/stop_matcher.h"
#include "text/tokenizer.h"

namespace decant::serve {

// What is said of a token: TokenLogprob of it and of others, and where its text begins in the answer, in bytes.
struct AnswerToken {
  Draw draw;
  size_t text_begin = 0;
};

class AnswerText {
 public:
  // `shown_control_tokens`: those whose text belongs to the answer. `keeps_tokens`: take_tokens() is wanted.
  AnswerText(const Tokenizer& tokenizer, std::vector<std::string> stops, std::vector<TokenId> shown_control_tokens,
             bool keeps_tokens);

  // Text that is final now.
  std::string push(const Draw& draw);
  std::string finish();
  // Whether a stop string came.
  bool stopped() const { return matcher_.stopped(); }
  // Tokens whose text has come out since the last call. Those behind a stop string never do.
  std::vector<AnswerToken> take_tokens();
  size_t text_bytes() const { return emitted_; }

 private:
  std::string match(std::string text);

  const Tokenizer* tokenizer_;
  StreamDecoder decoder_;
  StopMatcher matcher_;
  std::vector<TokenId> shown_;
  bool keeps_tokens_;
  size_t decoded_ = 0, emitted_ = 0;  // bytes
  std::vector<AnswerToken> pending_;
  bool finished_ = false;
};

}  // namespace decant::serve
