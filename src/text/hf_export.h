// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// A GGUF file's tokenizer and chat template as Hugging Face's files: the other direction of formats/hf_tokenizer.h.
#pragma once

#include <string>

#include "base/status.h"

namespace decant {

class GgufFile;

// Writes tokenizer.json and tokenizer_config.json into `folder`; nothing if the file has no tokenizer. For valid UTF-8
// the tokenizers library then gives Decant's tokens, with one exception: a SentencePiece vocabulary that came without
// merges has scores, and where two tokens of equal score can be made at once the library has an order of its own.
// kUnsupported for a split into words that has no published regular expression, kCorrupt for broken metadata.
Status write_hf_tokenizer(const GgufFile& model, const std::string& folder);

}  // namespace decant
