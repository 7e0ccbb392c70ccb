// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// batch MODEL PROMPT...: completes all prompts side by side. What a prompt gets does not depend on its neighbours, so
// the program checks itself: the first answer, computed alone, must be the same.
#include <iostream>
#include <string>
#include <vector>

#include "decant/decant.h"

namespace {

int fail(const decant::Status& status) {
  std::cerr << "batch: " << status.message() << '\n';
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::cerr << "usage: batch MODEL PROMPT...\n";
    return 2;
  }
  const decant::Result<decant::LanguageModel> model = decant::LanguageModel::load(argv[1]);
  if (!model.ok()) return fail(model.status());
  // The context is what all sequences hold together.
  const int per_prompt = 256;
  decant::Result<decant::Session> session = decant::Session::create(*model, {.context = per_prompt * (argc - 2)});
  if (!session.ok()) return fail(session.status());

  std::vector<decant::CompletionRequest> requests;
  for (int i = 2; i < argc; ++i) {
    decant::Result<std::vector<decant::TokenId>> prompt = model->tokenize(argv[i]);
    if (!prompt.ok()) return fail(prompt.status());
    decant::CompletionRequest request;
    request.prompt = std::move(prompt).value();
    request.max_tokens = 32;
    request.stop = {"\n"};
    request.sampling.seed = 7;
    request.sampling.temperature = 0.7f;
    requests.push_back(std::move(request));
  }

  const std::vector<decant::Completion> answers = session->complete(requests);
  for (size_t i = 0; i < answers.size(); ++i) {
    if (!answers[i].status.ok()) return fail(answers[i].status);
    std::cout << argv[i + 2] << " ->" << answers[i].text << '\n';
  }
  const decant::Completion alone = session->complete(requests.front());
  if (!alone.status.ok()) return fail(alone.status);
  if (alone.tokens != answers.front().tokens) {
    std::cerr << "batch: the first prompt alone gives another answer\n";
    return 1;
  }
  return 0;
}
