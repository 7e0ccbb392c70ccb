// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// The input is a grammar, a zero byte, and a text. A refusal names the grammar; what compiles follows the text without
// a fault, a state that is not dead can be completed, and its completion is accepted.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "constrain/grammar_completion.h"
#include "fuzz/scratch_folder.h"

namespace decant::fuzz {

// `parse` is parse_gbnf or parse_lark.
template <typename Parse>
void follow_grammar(const uint8_t* data, size_t size, const Parse& parse) {
  if (size > 1024) return;
  const auto [grammar_bytes, text_bytes] = split_at_zero({data, size});
  const std::string grammar(grammar_bytes.begin(), grammar_bytes.end()), text(text_bytes.begin(), text_bytes.end());
  auto source = parse(grammar, "fuzz");
  if (!source.ok()) {
    DECANT_CHECK(source.status().message().starts_with("fuzz: "));
    return;
  }
  auto compiled = std::move(source->grammar).compile(source->start);
  if (!compiled.ok()) {
    DECANT_CHECK(compiled.status().message().starts_with("fuzz: "));
    return;
  }
  const auto shared = std::make_shared<const CompiledGrammar>(*std::move(compiled));
  GrammarMachine machine(shared);
  GrammarMachine::StateId state = machine.start();
  for (size_t i = 0; i < text.size() && state != GrammarMachine::kDead && !machine.is_full(); ++i) {
    machine.begin_work();
    state = machine.step(state, static_cast<uint8_t>(text[i]));
  }
  if (state == GrammarMachine::kDead || !machine.status().ok()) return;
  machine.begin_work();
  GrammarCompletion completion(shared);
  const auto rest = completion.of(machine, state);
  if (!rest || rest->size() > 4096) return;
  for (size_t i = 0; i < rest->size(); ++i) {
    machine.begin_work();
    state = machine.step(state, static_cast<uint8_t>((*rest)[i]));
    if (!machine.status().ok()) return;
    DECANT_CHECK(state != GrammarMachine::kDead);
  }
  DECANT_CHECK(machine.accepts(state));
}

}  // namespace decant::fuzz
