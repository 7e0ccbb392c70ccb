// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// The input is a grammar in GBNF's notation, a zero byte, and a text. A refusal names the grammar; what compiles
// follows the text without a fault, a state that is not dead can be completed, and its completion is accepted.
#include <cstddef>
#include <cstdint>
#include <string>

#include "constrain/gbnf.h"
#include "constrain/grammar_completion.h"
#include "fuzz/scratch_folder.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > 1024) return 0;
  const auto [grammar_bytes, text_bytes] = decant::fuzz::split_at_zero({data, size});
  const std::string grammar(grammar_bytes.begin(), grammar_bytes.end()), text(text_bytes.begin(), text_bytes.end());
  auto source = decant::parse_gbnf(grammar, "fuzz");
  if (!source.ok()) {
    DECANT_CHECK(source.status().message().starts_with("fuzz: "));
    return 0;
  }
  auto compiled = std::move(source->grammar).compile(source->start);
  if (!compiled.ok()) {
    DECANT_CHECK(compiled.status().message().starts_with("fuzz: "));
    return 0;
  }
  const auto shared = std::make_shared<const decant::CompiledGrammar>(*std::move(compiled));
  decant::GrammarMachine machine(shared);
  decant::GrammarMachine::StateId state = machine.start();
  for (size_t i = 0; i < text.size() && state != decant::GrammarMachine::kDead && !machine.is_full(); ++i) {
    machine.begin_work();
    state = machine.step(state, static_cast<uint8_t>(text[i]));
  }
  if (state == decant::GrammarMachine::kDead || !machine.status().ok()) return 0;
  machine.begin_work();
  decant::GrammarCompletion completion(shared);
  const auto rest = completion.of(machine, state);
  if (!rest || rest->size() > 4096) return 0;
  for (size_t i = 0; i < rest->size(); ++i) {
    machine.begin_work();
    state = machine.step(state, static_cast<uint8_t>((*rest)[i]));
    if (!machine.status().ok()) return 0;
    DECANT_CHECK(state != decant::GrammarMachine::kDead);
  }
  DECANT_CHECK(machine.accepts(state));
  return 0;
}
