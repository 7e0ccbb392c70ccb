// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// JSON of files and answers that nobody vouches for. Beyond what the JSON library refuses: keys that appear twice, deep
// nesting, and zero bytes (which it takes for the end of the text).
#pragma once

#include <cstddef>
#include <nlohmann/json_fwd.hpp>
#include <string_view>

#include "base/status.h"

namespace decant {

inline constexpr size_t kMaxJsonDepth = 64;

// kCorrupt says what is wrong with the text ("no JSON at byte 7", "\"a\" appears twice", "nested too deeply", "a zero
// byte"); the caller adds which file it is of.
Result<nlohmann::json> parse_json(std::string_view text, size_t max_depth = kMaxJsonDepth);
// The same for a text that has to be an object ("no JSON object").
Result<nlohmann::json> parse_json_object(std::string_view text, size_t max_depth = kMaxJsonDepth);

}  // namespace decant
