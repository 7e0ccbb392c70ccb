// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Grammars in GBNF's notation: see grammar_input.h.
#include "constrain/gbnf.h"
#include "fuzz/grammar_input.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  decant::fuzz::follow_grammar(data, size, decant::parse_gbnf);
  return 0;
}
