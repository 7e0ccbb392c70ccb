// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// beam_search MODEL PROMPT [BEAMS [TOKENS]]: the continuations of a prompt with the greatest probability found by beam
// search, best first. Beams are forks of one sequence: they share what they have in common, and a step runs all of
// them.
#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include "decant/decant.h"

namespace {

using Tokens = std::vector<decant::TokenId>;

struct Beam {
  decant::SequenceId sequence = -1;  // holds the prompt and all tokens but the last; -1: the beam has ended
  Tokens tokens;                     // after the prompt
  double logprob = 0;
};

// A beam and one token more.
struct Candidate {
  size_t beam;
  decant::TokenId token;  // -1: the beam as it is
  double logprob;
};

int fail(const decant::Status& status) {
  std::cerr << "beam_search: " << status.message() << '\n';
  return 1;
}

decant::Status search(const decant::LanguageModel& model, decant::Session& session, const Tokens& prompt, size_t width,
                      int limit, std::vector<Beam>* beams) {
  // Asked for log-probabilities, a greedy sampler gives the likeliest tokens of a row.
  decant::Sampling greedy;
  greedy.temperature = 0;
  decant::Result<decant::TokenSampler> sampler = decant::TokenSampler::create(session, greedy);
  if (!sampler.ok()) return sampler.status();
  decant::Result<decant::SequenceId> root = session.create_sequence();
  if (!root.ok()) return root.status();
  *beams = {Beam{.sequence = *root, .tokens = {}, .logprob = 0}};

  decant::StepLogits logits;
  for (int position = 0; position < limit; ++position) {
    std::vector<decant::StepRows> inputs;
    std::vector<size_t> running;  // which beam an input belongs to
    for (size_t b = 0; b < beams->size(); ++b) {
      const Beam& beam = (*beams)[b];
      if (beam.sequence == -1) continue;
      decant::StepRows rows{.sequence = beam.sequence, .tokens = prompt, .parents = {}, .logits = {}};
      if (!beam.tokens.empty()) rows.tokens = std::span(beam.tokens).last(1);
      rows.logits = {static_cast<int32_t>(rows.tokens.size() - 1)};
      inputs.push_back(rows);
      running.push_back(b);
    }
    if (inputs.empty()) break;  // all have ended
    if (decant::Status status = session.step(inputs, &logits); !status.ok()) return status;

    std::vector<Candidate> candidates;
    for (size_t b = 0; b < beams->size(); ++b) {
      if ((*beams)[b].sequence == -1) candidates.push_back({b, -1, (*beams)[b].logprob});
    }
    for (size_t i = 0; i < running.size(); ++i) {
      const decant::Result<decant::SampledToken> likeliest = sampler->sample(logits.row(i, 0), static_cast<int>(width));
      if (!likeliest.ok()) return likeliest.status();
      for (const decant::ScoredToken& t : likeliest->top) {
        candidates.push_back({running[i], t.token, (*beams)[running[i]].logprob + t.logprob});
      }
    }
    std::stable_sort(candidates.begin(), candidates.end(),
                     [](const Candidate& a, const Candidate& b) { return a.logprob > b.logprob; });
    candidates.resize(std::min(candidates.size(), width));

    std::vector<Beam> next;
    for (const Candidate& c : candidates) {
      const Beam& from = (*beams)[c.beam];
      Beam beam{.sequence = -1, .tokens = from.tokens, .logprob = c.logprob};
      if (c.token != -1) beam.tokens.push_back(c.token);
      if (c.token != -1 && !model.is_end(c.token)) {
        const decant::Result<decant::SequenceId> child =
            session.fork(from.sequence, session.length(from.sequence).value());
        if (!child.ok()) return child.status();
        beam.sequence = *child;
      }
      next.push_back(std::move(beam));
    }
    for (const Beam& beam : *beams) {
      if (beam.sequence == -1) continue;
      if (decant::Status status = session.remove(beam.sequence); !status.ok()) return status;
    }
    *beams = std::move(next);
  }
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3 || argc > 5) {
    std::cerr << "usage: beam_search MODEL PROMPT [BEAMS [TOKENS]]\n";
    return 2;
  }
  const size_t width = argc > 3 ? static_cast<size_t>(std::clamp(std::atoi(argv[3]), 1, 64)) : 4;
  const int limit = argc > 4 ? std::max(1, std::atoi(argv[4])) : 24;
  const decant::Result<decant::LanguageModel> model = decant::LanguageModel::load(argv[1]);
  if (!model.ok()) return fail(model.status());
  const decant::Result<Tokens> prompt = model->tokenize(argv[2]);
  if (!prompt.ok()) return fail(prompt.status());
  if (prompt->empty()) return fail(decant::Status::make(decant::Code::kInvalidArgument, "the prompt is empty"));
  // Pages of 64 tokens are shared; each beam, and each fork of it while the next step is prepared, has a few of its
  // own.
  const int own = 2 * static_cast<int>(width) * (limit + 2 * 64);
  decant::Result<decant::Session> session =
      decant::Session::create(*model, {.context = static_cast<int>(prompt->size()) + own,
                                       .max_rows = static_cast<int>(std::max(prompt->size(), width))});
  if (!session.ok()) return fail(session.status());

  std::vector<Beam> beams;
  if (const decant::Status status = search(*model, *session, *prompt, width, limit, &beams); !status.ok()) {
    return fail(status);
  }
  for (const Beam& beam : beams) std::cout << beam.logprob << '\t' << model->detokenize(beam.tokens) << '\n';
  return 0;
}
