// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// consumer MODEL PROMPT: the version, then eight tokens that follow the prompt.
#include <cstdio>

#include "decant/decant.h"

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const decant::Result<decant::LanguageModel> model = decant::LanguageModel::load(argv[1]);
  if (!model.ok()) return std::fprintf(stderr, "%s\n", model.status().message().c_str()), 1;
  decant::Result<decant::Session> session = decant::Session::create(*model, {.context = 128});
  if (!session.ok()) return std::fprintf(stderr, "%s\n", session.status().message().c_str()), 1;
  decant::CompletionRequest request;
  request.prompt = model->tokenize(argv[2], {.parse_special = true}).value();
  request.max_tokens = 8;
  request.sampling.temperature = 0;
  const decant::Completion completion = session->complete(request);
  if (!completion.status.ok()) return std::fprintf(stderr, "%s\n", completion.status.message().c_str()), 1;
  std::printf("%s\n%s\n", DECANT_VERSION, completion.text.c_str());
  return 0;
}
