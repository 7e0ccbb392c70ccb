// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// The input is a JSON Schema, a zero byte, and a text. A refusal names the schema; what compiles follows the text
// without a fault, and a text that it accepts is JSON.
#include <cstddef>
#include <cstdint>
#include <string>

#include "constrain/json_machine.h"
#include "constrain/json_tree.h"
#include "fuzz/scratch_folder.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > 4096) return 0;
  const auto [schema_bytes, text_bytes] = decant::fuzz::split_at_zero({data, size});
  const std::string schema_text(schema_bytes.begin(), schema_bytes.end()), text(text_bytes.begin(), text_bytes.end());
  const auto schema = decant::Schema::parse(schema_text, "fuzz.json", {});
  if (!schema.ok()) {
    DECANT_CHECK(schema.status().message().starts_with("fuzz.json: "));
    return 0;
  }
  decant::JsonMachine machine(*schema);
  std::optional<decant::JsonState> state = machine.start();
  for (size_t i = 0; state && i < text.size(); ++i) state = machine.step(*state, static_cast<uint8_t>(text[i]));
  if (state && machine.accepting(*state) && machine.language().status().ok())
    DECANT_CHECK(decant::parse_json_tree(text).ok());
  return 0;
}
