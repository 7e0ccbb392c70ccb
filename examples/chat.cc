// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// chat MODEL [SYSTEM]: each line of stdin is a question; the answer is written as it comes. The conversation stays in
// one sequence, so a turn costs its own tokens only. A model without a chat template continues each line instead.
#include <iostream>
#include <string>
#include <vector>

#include "decant/decant.h"

namespace {

int fail(const decant::Status& status) {
  std::cerr << "chat: " << status.message() << '\n';
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2 || argc > 3) {
    std::cerr << "usage: chat MODEL [SYSTEM]\n";
    return 2;
  }
  const decant::Result<decant::LanguageModel> model = decant::LanguageModel::load(argv[1]);
  if (!model.ok()) return fail(model.status());
  decant::Result<decant::Session> session = decant::Session::create(*model, {.context = 2048});
  if (!session.ok()) return fail(session.status());
  const decant::Result<decant::SequenceId> sequence = session->create_sequence();
  if (!sequence.ok()) return fail(sequence.status());

  std::vector<decant::Message> messages;
  if (argc == 3) messages.push_back({"system", argv[2]});
  for (std::string line; std::getline(std::cin, line);) {
    messages.push_back({"user", line});
    decant::Result<std::vector<decant::TokenId>> prompt =
        model->has_chat_template() ? model->chat_prompt(messages) : model->tokenize(line);
    if (!prompt.ok()) return fail(prompt.status());

    decant::CompletionRequest request;
    request.prompt = std::move(prompt).value();
    request.sequence = *sequence;
    request.max_tokens = 200;
    request.sampling.seed = 1;
    request.on_piece = [](const decant::Piece& piece) { return !(std::cout << piece.text << std::flush).fail(); };
    decant::Completion answer = session->complete(std::move(request));
    if (!answer.status.ok()) return fail(answer.status);
    std::cout << '\n';
    std::cerr << '[' << answer.cached_tokens << " tokens known, " << answer.tokens.size() << " drawn, "
              << decant::finish_name(answer.finish) << "]\n";
    messages.push_back({"assistant", std::move(answer.text)});
  }
  return 0;
}
