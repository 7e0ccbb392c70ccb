// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// structure MODEL PROMPT GRAMMAR TOKENS: an answer that is derived from a GBNF grammar and ends within so many tokens;
// then the shortest answer that there is, and whether the grammar takes the first one token by token.
#include <cstdlib>
#include <iostream>
#include <string>

#include "decant/decant.h"

namespace {

int fail(const decant::Status& status) {
  std::cerr << "structure: " << status.message() << '\n';
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) {
    std::cerr << "usage: structure MODEL PROMPT GRAMMAR TOKENS\n";
    return 2;
  }
  const decant::Result<decant::LanguageModel> model = decant::LanguageModel::load(argv[1]);
  if (!model.ok()) return fail(model.status());
  decant::Result<decant::Session> session = decant::Session::create(*model, {.context = 1024});
  if (!session.ok()) return fail(session.status());
  const decant::Result<decant::CompiledStructure> structure =
      decant::CompiledStructure::compile(*model, decant::Structure::gbnf(argv[3]));
  if (!structure.ok()) return fail(structure.status());

  decant::Result<std::vector<decant::TokenId>> prompt = model->tokenize(argv[2]);
  if (!prompt.ok()) return fail(prompt.status());
  decant::CompletionRequest request;
  request.prompt = std::move(prompt).value();
  request.max_tokens = std::atoi(argv[4]);
  request.structure = *structure;
  request.finish_in_time = true;
  request.sampling.seed = 7;
  const decant::Completion answer = session->complete(std::move(request));
  if (!answer.status.ok()) return fail(answer.status);
  std::cout << answer.text << '\n';

  // The same by hand.
  decant::StructureState state = structure->start();
  std::cout << structure->completion(state).value_or("") << '\n';
  for (const decant::TokenId token : answer.tokens) {
    const decant::Result<std::vector<uint64_t>> allowed = structure->allowed(state);
    if (!allowed.ok()) return fail(allowed.status());
    const auto t = static_cast<size_t>(token);
    if (((*allowed)[t / 64] >> (t % 64) & 1) == 0) return 1;
    const decant::Result<decant::StructureState> next = structure->advance(state, token);
    if (!next.ok()) return fail(next.status());
    state = *next;
  }
  std::cout << (structure->may_end(state) ? "whole" : "cut") << '\n';
  return 0;
}
