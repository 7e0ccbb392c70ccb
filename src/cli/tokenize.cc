// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include <nlohmann/json.hpp>

#include "cli/common.h"
#include "cli/models.h"
#include "cli/session.h"
#include "formats/gguf.h"
#include "model/checkpoint.h"

namespace decant::cli {

Status tokenize(const TokenizeOptions& options) {
  DECANT_TRY(JsonReport report, JsonReport::open(options.json));
  DECANT_TRY(const std::string text, read_text(options.text, "text"));
  DECANT_TRY(const std::string path, resolve_model(options.model));
  DECANT_TRY(const GgufFile file, open_model(path));
  DECANT_TRY(const std::shared_ptr<const Tokenizer> tokenizer, Tokenizer::from_gguf(file));
  const EncodeOptions encode{
      .add_special = !options.no_bos, .parse_special = !options.no_parse_special, .like_llama_cpp = true};
  DECANT_TRY(const std::vector<TokenId> tokens, tokenizer->encode(text, encode));

  if (report.wanted()) {
    Json json;
    json["model"] = path;
    json["count"] = tokens.size();
    json["tokens"] = tokens;
    Json& pieces = json["pieces"] = Json::array();
    for (const TokenId t : tokens) pieces.push_back(token_text(*tokenizer, t));
    DECANT_TRY_STATUS(report.write(json));
    if (report.to_stdout()) return {};
  }
  std::string out;
  if (options.ids) {
    out = "[";
    for (size_t i = 0; i < tokens.size(); ++i) out += fmt::format("{}{}", i == 0 ? "" : ", ", tokens[i]);
    out += "]\n";
  } else {
    for (const TokenId t : tokens) out += fmt::format("{:6} -> '{}'\n", t, token_text(*tokenizer, t));
  }
  if (options.show_count) out += fmt::format("Total number of tokens: {}\n", tokens.size());
  return write_stdout(out);
}

}  // namespace decant::cli
