// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// decant datastore: corpora of tokens for drafters that retrieve.
#include <nlohmann/json.hpp>

#include "base/strict_json.h"
#include "cli/common.h"
#include "cli/models.h"
#include "formats/gguf.h"
#include "model/checkpoint.h"
#include "speculate/datastore_file.h"
#include "speculate/registry.h"
#include "text/tokenizer.h"

namespace decant::cli {
namespace {

bool is_json_lines(const std::string& path) { return path.ends_with(".jsonl") || path.ends_with(".ndjson"); }

// Text of the strings that `field` names anywhere in the value, a list's strings included, line by line.
void collect(const nlohmann::json& value, const std::string& field, bool inside, std::string* text) {
  if (value.is_string() && inside) {
    if (!text->empty()) *text += "\n";
    *text += value.get_ref<const std::string&>();
  } else if (value.is_array()) {
    for (const nlohmann::json& item : value) collect(item, field, inside, text);
  } else if (value.is_object()) {
    for (const auto& [key, item] : value.items()) collect(item, field, key == field, text);
  }
}

class Builder {
 public:
  Builder(const DatastoreOptions& options, const Tokenizer& tokenizer)
      : options_(options), tokenizer_(tokenizer), builder_(vocabulary_hash(tokenizer), tokenizer.vocab_size()) {}

  Status run(const InterruptFlag& interrupt) {
    for (const std::string& path : options_.files) {
      DECANT_TRY(const MappedFile file, MappedFile::open(path));
      const std::string_view text(reinterpret_cast<const char*>(file.bytes().data()), file.size());
      if (!is_json_lines(path)) {
        DECANT_TRY_STATUS(document(path, text));
        continue;
      }
      int64_t number = 0;
      for (size_t begin = 0; begin < text.size();) {
        if (interrupt.raised()) return Status::cancelled("interrupted");
        const size_t end = std::min(text.find('\n', begin), text.size());
        DECANT_TRY_STATUS(line(fmt::format("{}:{}", path, ++number), text.substr(begin, end - begin)));
        begin = end + 1;
      }
    }
    progress_.show(fmt::format("sorting {} tokens", builder_.tokens()));
    DECANT_TRY_STATUS(builder_.write(options_.output));
    progress_.clear();
    return {};
  }

 private:
  Status line(const std::string& where, std::string_view text) {
    if (text.find_first_not_of(" \t\r") == std::string_view::npos) return {};
    Result<nlohmann::json> json = parse_json(text);
    if (!json.ok()) return std::move(json).status().with_context(where);
    std::string content;
    collect(*json, options_.field, json->is_string(), &content);
    if (content.empty() && json->is_object() && !json->contains(options_.field)) {
      std::string names;
      for (const auto& [key, item] : json->items()) names += (names.empty() ? "" : ", ") + key;
      return Status::invalid_argument("{}: no text under \"{}\"; --field names another one; there are: {}", where,
                                      options_.field, names);
    }
    return document(where, content);
  }

  Status document(const std::string& where, std::string_view text) {
    if (text.empty()) return {};
    Result<std::vector<TokenId>> tokens = tokenizer_.encode(text, {.add_special = false});
    if (!tokens.ok()) return std::move(tokens).status().with_context(where);
    if (Status status = builder_.add(*tokens); !status.ok()) return std::move(status).with_context(where);
    if (builder_.documents() % 64 == 1) {
      progress_.show(fmt::format("{} documents, {} tokens", builder_.documents(), builder_.tokens()));
    }
    return {};
  }

  const DatastoreOptions& options_;
  const Tokenizer& tokenizer_;
  DatastoreBuilder builder_;
  Progress progress_;
};

Status show(const DatastoreOptions& options, const std::string& path, bool checked) {
  DECANT_TRY(JsonReport report, JsonReport::open(options.json));
  DECANT_TRY(const std::shared_ptr<const Datastore> store, Datastore::open(path));
  if (checked) DECANT_TRY_STATUS(store->check());
  const DatastoreInfo& info = store->info();
  const uint64_t tokens = info.tokens - info.documents;
  DECANT_TRY_STATUS(report.write({{"file", path},
                                  {"documents", info.documents},
                                  {"tokens", tokens},
                                  {"bytes", info.bytes},
                                  {"token_bytes", info.token_bytes},
                                  {"vocab_size", info.vocab_size},
                                  {"vocabulary_hash", fmt::format("{:016x}", info.vocabulary_hash)},
                                  {"checked", checked}}));
  if (report.to_stdout()) return {};
  return write_stdout(fmt::format("{}: {} documents, {} tokens of {} bytes, {}; vocabulary of {}, hash {:016x}{}\n",
                                  path, info.documents, tokens, info.token_bytes,
                                  size_text(static_cast<int64_t>(info.bytes)), info.vocab_size, info.vocabulary_hash,
                                  checked ? "; checked" : ""));
}

}  // namespace

Status datastore(const DatastoreOptions& options) {
  if (options.action == "inspect") {
    for (const std::string& path : options.files) DECANT_TRY_STATUS(show(options, path, true));
    return {};
  }
  DECANT_TRY(const std::string path, resolve_model(options.model));
  DECANT_TRY(const GgufFile file, open_model(path));
  DECANT_TRY(const std::shared_ptr<const Tokenizer> tokenizer, Tokenizer::from_gguf(file));
  const InterruptFlag interrupt;
  DECANT_TRY_STATUS(Builder(options, *tokenizer).run(interrupt));
  return show(options, options.output, false);
}

}  // namespace decant::cli
