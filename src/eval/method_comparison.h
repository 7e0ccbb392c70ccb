// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Decoding methods on the same questions, side by side: each question is answered by plain decoding and by every
// method, one right after the other and beginning with another one each time, so that what slows the machine down for
// a while slows all of them. Figures follow from the records alone.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "engine/generate.h"
#include "eval/questions.h"
#include "text/chat.h"
#include "text/tokenizer.h"

namespace decant {

struct ComparedMethod {
  std::string name;
  // Its draft; called for the run, or for each question. Empty: plain decoding.
  std::function<Result<std::shared_ptr<DraftMethod>>()> make;
  std::shared_ptr<const Verifier> verifier;  // null: coupled
};

struct ComparisonOptions {
  int max_tokens = 256;      // of each turn's answer; -1: until it ends or the context is full
  int draft_nodes = 0;       // guesses of a step; 0: as many as a method wants
  bool all_guesses = false;  // are verified, whatever their time is worth
  // Every question meets a new draft, and nothing measured. Otherwise drafts learn throughout the run.
  bool reset_state = false;
  int warm_up = 64;  // tokens that each method writes first, about something else; not counted
  SamplerOptions sampler;
  std::vector<TokenId> end_tokens;
  std::vector<std::string> stops;
  std::vector<std::shared_ptr<const Overlay>> overlays;
  std::shared_ptr<Constraint> constraint;
  std::function<std::vector<TokenId>(std::string_view text)> canonical;  // as in GenerateRequest, like the next
  bool finish_in_time = false;
  int prefill_chunk = 0;
  // The prompt's tokens for a conversation that ends with a question.
  std::function<Result<std::vector<TokenId>>(const std::vector<ChatMessage>& messages)> encode;
  const std::atomic<bool>* cancel = nullptr;
};

// One answer. The first token comes from the prompt's step, the others from decoding.
struct TurnRecord {
  int prompt_tokens = 0;
  std::vector<TokenId> tokens;
  bool ended = false;  // by an end token, which counts as drawn and is not among the tokens
  FinishReason finish = FinishReason::kLength;
  std::string text;
  double prefill_seconds = 0, decode_seconds = 0;
  DraftStats draft;

  int64_t drawn() const { return static_cast<int64_t>(tokens.size()) + (ended ? 1 : 0); }
  int64_t decoded() const { return drawn() > 0 ? drawn() - 1 : 0; }
};
using QuestionRecord = std::vector<TurnRecord>;  // its turns

struct MethodRecord {
  std::string name;
  size_t bytes = 0;                       // what the method holds beside the model, at the end
  std::vector<QuestionRecord> questions;  // in the order of the questions
};

// Answers all questions with plain decoding, which becomes the first record, and with `methods`. Before anything runs:
// kInvalidArgument for a question that does not fit the context, with its place. kCancelled without a message when
// options.cancel was raised. `progress` is told which question a method (0: plain) is about to answer.
Result<std::vector<MethodRecord>> compare_methods(
    Engine& engine, const Tokenizer& tokenizer, std::span<const Question> questions,
    std::span<const ComparedMethod> methods, const ComparisonOptions& options,
    const std::function<void(size_t question, size_t method)>& progress = {});

// The figures of a method. A ratio to plain decoding is one of means over questions, as Spec-Bench has it: the mean of
// a question's tokens a second with the method, by the mean without. NaN where there is nothing to tell it from.
struct Figures {
  int questions = 0;
  int64_t turns = 0, tokens = 0;     // drawn, end tokens too
  double speedup = 0;                // decoding alone
  std::array<double, 2> interval{};  // of it, 95 %: the bootstrap over questions, both methods of a question together
  double speedup_with_prefill = 0;
  double speedup_total = 0;    // ratio of all tokens by all seconds of decoding
  double tokens_per_s = 0;     // decoding, mean over questions
  double tokens_per_step = 0;  // decoded tokens by the model's steps behind the prompt; with an end token that it drew
  std::vector<double> acceptance;  // by depth: of steps with a node there, those that kept one
  std::vector<int64_t> tried;      // these steps
  double coverage = 0;             // of all steps, those with a draft
  double draft_ms = 0, verify_ms = 0, proposed = 0, nodes = 0;  // of a step
  double draft_share = 0;                                       // of the time of decoding
  double repeated_4grams = 0;  // of 4-grams in its answers, those that stood in the same answer before
};
Figures figures_of(std::span<const QuestionRecord> method, std::span<const QuestionRecord> plain);

// Where answers differ first.
struct FirstDifference {
  size_t question, turn, index;  // of the token; of an end that came earlier or later, where it came
};
struct Agreement {
  int identical = 0;  // questions, with all their turns
  std::optional<FirstDifference> first;
};
Agreement agreement_of(std::span<const QuestionRecord> method, std::span<const QuestionRecord> plain);

}  // namespace decant
