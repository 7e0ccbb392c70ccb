// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// make_tiny_model ARCHITECTURE PATH: writes a small random model, llama or gemma3, with a chat template, for tests of
// the program.
#include <cstdio>
#include <string>

#include "testing/tiny_model.h"

int main(int argc, char** argv) {
  const std::string architecture = argc == 3 ? argv[1] : "";
  if (architecture != "llama" && architecture != "gemma3") {
    std::fputs("usage: make_tiny_model llama|gemma3 PATH\n", stderr);
    return 2;
  }
  decant::testing::TinyModelSpec spec;
  spec.architecture = architecture;
  if (architecture == "gemma3") spec.window = 32;
  decant::GgufWriter writer = decant::testing::make_tiny_model(spec);
  // The text selects a built-in rendering by its markers. Gemma's are not in the tiny vocabulary, so that model has no
  // template.
  if (architecture == "llama") {
    writer.set(
        "tokenizer.chat_template",
        "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}");
  }
  const decant::Status status = writer.write(argv[2]);
  if (status.ok()) return 0;
  std::fprintf(stderr, "make_tiny_model: %s\n", status.message().c_str());
  return 1;
}
