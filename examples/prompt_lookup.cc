// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// prompt_lookup MODEL PROMPT [TOKENS]: greedy decoding that guesses ahead. When the last tokens occurred before, those
// that followed them then are tried as a draft: one step computes the logits of all of its rows, and as many tokens are
// kept as the model would have drawn itself. The text is that of plain greedy decoding, in fewer steps.
#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <span>
#include <string>
#include <vector>

#include "decant/decant.h"

namespace {

using Tokens = std::vector<decant::TokenId>;

constexpr size_t kLongestMatch = 3;
constexpr size_t kDraft = 6;

int fail(const decant::Status& status) {
  std::cerr << "prompt_lookup: " << status.message() << '\n';
  return 1;
}

// What followed the longest suffix of `tokens` that occurred before, where it did first.
Tokens find_draft(const Tokens& tokens) {
  for (size_t n = std::min(kLongestMatch, tokens.size() - 1); n > 0; --n) {
    const auto suffix = tokens.end() - static_cast<std::ptrdiff_t>(n);
    const auto found = std::search(tokens.begin(), tokens.end() - 1, suffix, tokens.end());
    if (found == tokens.end() - 1) continue;
    const auto begin = found + static_cast<std::ptrdiff_t>(n);
    return {begin, begin + std::min<std::ptrdiff_t>(kDraft, tokens.end() - begin)};
  }
  return {};
}

// The likeliest token; of equals the one with the lowest id.
decant::TokenId likeliest(std::span<const float> logits) {
  return static_cast<decant::TokenId>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3 || argc > 4) {
    std::cerr << "usage: prompt_lookup MODEL PROMPT [TOKENS]\n";
    return 2;
  }
  const size_t limit = argc == 4 ? static_cast<size_t>(std::max(1, std::atoi(argv[3]))) : 64;
  const decant::Result<decant::LanguageModel> model = decant::LanguageModel::load(argv[1]);
  if (!model.ok()) return fail(model.status());
  decant::Result<Tokens> prompt = model->tokenize(argv[2]);
  if (!prompt.ok()) return fail(prompt.status());
  if (prompt->empty()) return fail(decant::Status::make(decant::Code::kInvalidArgument, "the prompt is empty"));
  // A step takes the whole prompt here; a longer one would go in pieces of max_rows().
  const int rows = static_cast<int>(prompt->size() + kDraft + 1);
  decant::Result<decant::Session> session =
      decant::Session::create(*model, {.context = rows + static_cast<int>(limit + kDraft), .max_rows = rows});
  if (!session.ok()) return fail(session.status());
  const decant::Result<decant::SequenceId> sequence = session->create_sequence();
  if (!sequence.ok()) return fail(sequence.status());

  Tokens tokens = *prompt;  // known tokens; the sequence holds all of them but those of `input`
  Tokens input = *prompt;   // rows of the next step: tokens that are certain, then the draft
  size_t certain = input.size();
  size_t drawn = 0, steps = 0;
  decant::StepLogits logits;
  for (bool ended = false; !ended && drawn < limit;) {
    decant::StepRows step{.sequence = *sequence, .tokens = input, .parents = {}, .logits = {}};
    for (size_t row = certain - 1; row < input.size(); ++row) step.logits.push_back(static_cast<int32_t>(row));
    if (const decant::Status status = session->step({&step, 1}, &logits); !status.ok()) return fail(status);
    ++steps;
    // Row i says what follows it; that the draft has the same there makes the next row count, too.
    size_t kept = certain;
    for (size_t i = 0; i < step.logits.size() && drawn < limit; ++i) {
      const decant::TokenId token = likeliest(logits.row(0, i));
      ended = model->is_end(token);
      if (ended) break;
      tokens.push_back(token);
      ++drawn;
      std::cout << model->token_bytes(token) << std::flush;
      if (certain + i >= input.size() || input[certain + i] != token) break;
      ++kept;
    }
    // Draft rows that turned out wrong leave the cache.
    const int length = session->length(*sequence).value() - static_cast<int>(input.size() - kept);
    if (const decant::Status status = session->truncate(*sequence, length); !status.ok()) return fail(status);
    // If the whole draft was right, the token drawn last is the only one that has not been computed.
    input.assign(tokens.begin() + length, tokens.end());
    certain = input.size();
    const Tokens draft = find_draft(tokens);
    input.insert(input.end(), draft.begin(), draft.end());
  }
  std::cout << '\n';
  std::cerr << '[' << drawn << " tokens in " << steps << " steps]\n";
  return 0;
}
