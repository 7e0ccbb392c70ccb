// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "formats/hf_tokenizer.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <unordered_map>
#include <vector>

#include "base/mapped_file.h"
#include "base/printable.h"
#include "base/strict_json.h"
#include "formats/gguf.h"

namespace decant {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr int64_t kMaxTokens = int64_t{1} << 24;
constexpr std::string_view kSpace = "\xE2\x96\x81";  // U+2581

// GGUF's token types.
enum Kind : int32_t { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };

// Regular expressions of pre-tokenizers, GGUF's name for each. The first is what ByteLevel has built in.
struct KnownPattern {
  std::string_view pattern;
  std::string_view pre;
};
constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr KnownPattern kPatterns[] = {
    {kGpt2Pattern, "gpt-2"},
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     "llama-bpe"},
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     "qwen2"},
    {R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     "gpt-4o"},
    {R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     "tekken"},
};

// A field of an object, or null.
const json& field(const json& object, const char* key) {
  static const json kNull;
  if (!object.is_object()) return kNull;
  const auto it = object.find(key);
  return it == object.end() ? kNull : *it;
}
std::string text_of(const json& value, std::string fallback = {}) {
  return value.is_string() ? value.get<std::string>() : std::move(fallback);
}
bool flag_of(const json& object, const char* key, bool fallback = false) {
  const json& value = field(object, key);
  return value.is_boolean() ? value.get<bool>() : fallback;
}
std::optional<int64_t> id_of(const json& value) {
  if (!value.is_number_integer()) return std::nullopt;
  if (value.is_number_unsigned() && value.get<uint64_t>() > INT32_MAX) return std::nullopt;
  const auto id = value.get<int64_t>();
  return id >= 0 && id < kMaxTokens ? std::optional(id) : std::nullopt;
}
// A token in a configuration: its text, or an object with its content.
std::string token_text(const json& value) { return text_of(value.is_object() ? field(value, "content") : value); }

class HfTokenizerReader {
 public:
  HfTokenizerReader(const HfTokenizerFiles& files, std::string name, int64_t rows, GgufWriter* out)
      : files_(files), name_(std::move(name)), rows_(rows), out_(out) {}

  Status read() {
    DECANT_TRY(config_, parse(files_.config, "config.json"));
    DECANT_TRY(generation_, parse(files_.generation_config, "generation_config.json"));
    DECANT_TRY(tokenizer_config_, parse(files_.tokenizer_config, "tokenizer_config.json"));
    DECANT_TRY(special_map_, parse(files_.special_tokens_map, "special_tokens_map.json"));
    if (!files_.tokenizer.empty()) {
      DECANT_TRY_STATUS(read_tokenizer_json());
    } else {
      DECANT_TRY_STATUS(read_vocab_and_merges());
    }
    DECANT_TRY_STATUS(write());
    return write_templates();
  }

 private:
  Status corrupt(std::string_view file, const std::string& what) const {
    return Status::corrupt("{}/{}: {}", name_, file, what);
  }
  Status unsupported(const std::string& what) const {
    return Status::unsupported("{}/tokenizer.json: {}", name_, what);
  }

  // Empty: an empty object.
  Result<json> parse(const std::string& text, std::string_view file) const {
    if (text.empty()) return json::object();
    Result<json> value = parse_json_object(text);
    if (!value.ok()) return corrupt(file, value.status().message() + "; download it again");
    return value;
  }

  // --- tokenizer.json ---

  Status read_tokenizer_json() {
    DECANT_TRY(const json file, parse(files_.tokenizer, "tokenizer.json"));
    const json& model = field(file, "model");
    const std::string type = text_of(field(model, "type"), "BPE");
    if (!model.is_object()) return corrupt("tokenizer.json", "model: expected an object");
    if (type != "BPE") {
      return unsupported("model.type is \"" + printable(type) +
                         "\"; Decant has BPE (byte-level, or of a SentencePiece vocabulary)");
    }
    for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      if (!text_of(field(model, key)).empty()) return unsupported(std::string("model.") + key + " is not supported");
    }
    if (field(model, "dropout").is_number() && field(model, "dropout").get<double>() > 0) {
      return unsupported("model.dropout is not supported");
    }
    spm_ = flag_of(model, "byte_fallback");
    ignore_merges_ = flag_of(model, "ignore_merges");
    DECANT_TRY_STATUS(read_vocab(field(model, "vocab"), "tokenizer.json", "model.vocab"));
    model_tokens_ = tokens_;
    unknown_ = text_of(field(model, "unk_token"));
    DECANT_TRY_STATUS(read_added(field(file, "added_tokens")));
    const json& merges = field(model, "merges");
    if (!merges.is_array()) return corrupt("tokenizer.json", "model.merges: expected a list");
    for (const json& merge : merges) DECANT_TRY_STATUS(add_merge(merge));
    DECANT_TRY_STATUS(read_normalizer(field(file, "normalizer")));
    DECANT_TRY_STATUS(read_pre_tokenizer(field(file, "pre_tokenizer")));
    read_post_processor(field(file, "post_processor"));
    return {};
  }

  Status read_vocab(const json& vocab, std::string_view file, const std::string& where) {
    if (!vocab.is_object() || vocab.empty()) return corrupt(file, where + ": expected an object {token: id}");
    for (const auto& [text, value] : vocab.items()) {
      const std::optional<int64_t> id = id_of(value);
      if (!id) return corrupt(file, where + ": \"" + printable(text) + "\": expected an id");
      DECANT_TRY_STATUS(put(*id, text, kNormal, file));
    }
    return {};
  }

  Status put(int64_t id, const std::string& text, Kind kind, std::string_view file) {
    const auto [it, is_new] = tokens_.emplace(id, Token{text, kind, 0});
    if (!is_new && it->second.text != text) {
      return corrupt(file,
                     fmt::format("id {} is of \"{}\" and of \"{}\"", id, printable(it->second.text), printable(text)));
    }
    if (is_new && !ids_.emplace(text, id).second) {
      return corrupt(file, fmt::format("\"{}\" has ids {} and {}", printable(text), ids_[text], id));
    }
    it->second.kind = kind;
    return {};
  }

  Status read_added(const json& added) {
    if (added.is_null()) return {};
    if (!added.is_array()) return corrupt("tokenizer.json", "added_tokens: expected a list");
    for (const json& entry : added) {
      const std::optional<int64_t> id = id_of(field(entry, "id"));
      const std::string text = text_of(field(entry, "content"));
      if (!id || text.empty()) return corrupt("tokenizer.json", "added_tokens: expected an id and a content");
      DECANT_TRY_STATUS(put(*id, text, flag_of(entry, "special") ? kControl : kUserDefined, "tokenizer.json"));
      tokens_[*id].flags = (flag_of(entry, "lstrip") ? 1 : 0) | (flag_of(entry, "rstrip") ? 2 : 0) |
                           (flag_of(entry, "single_word") ? 4 : 0);
    }
    return {};
  }

  // "a b", or ["a", "b"].
  Status add_merge(const json& merge) {
    std::string left, right;
    if (merge.is_string()) {
      const std::string& text = merge.get_ref<const std::string&>();
      const size_t space = text.find(' ', 1);
      if (space == std::string::npos) {
        return corrupt("tokenizer.json",
                       fmt::format("model.merges[{}]: \"{}\": expected two strings", merges_.size(), printable(text)));
      }
      left = text.substr(0, space);
      right = text.substr(space + 1);
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      left = merge[0].get<std::string>();
      right = merge[1].get<std::string>();
    } else {
      return corrupt("tokenizer.json", fmt::format("model.merges[{}]: expected two strings", merges_.size()));
    }
    for (const std::string& part : {left, right, left + right}) {
      const auto id = ids_.find(part);
      if (id != ids_.end() && model_tokens_.contains(id->second)) continue;
      return corrupt("tokenizer.json",
                     fmt::format("model.merges[{}]: \"{}\" is not in the vocabulary", merges_.size(), printable(part)));
    }
    merges_.emplace_back(std::move(left), std::move(right));
    return {};
  }

  // The steps of a (nested) Sequence.
  static void flatten(const json& step, const char* list, std::vector<const json*>* out) {
    if (step.is_null()) return;
    const json& steps = field(step, list);
    if (text_of(field(step, "type")) != "Sequence" || !steps.is_array()) return out->push_back(&step);
    for (const json& s : steps) flatten(s, list, out);
  }

  static std::string pattern_of(const json& step) {
    const json& pattern = field(step, "pattern");
    const std::string regex = text_of(field(pattern, "Regex"));
    return regex.empty() ? text_of(field(pattern, "String")) : regex;
  }

  Status read_normalizer(const json& normalizer) {
    std::vector<const json*> steps;
    flatten(normalizer, "normalizers", &steps);
    bool prepends = false, replaces = false;
    for (const json* step : steps) {
      const std::string type = text_of(field(*step, "type"));
      if (type == "NFC" && !spm_) {
        nfc_ = true;
      } else if (type == "Prepend" && spm_ && text_of(field(*step, "prepend")) == kSpace && !replaces) {
        prepends = true;
      } else if (type == "Replace" && spm_ && pattern_of(*step) == " " && text_of(field(*step, "content")) == kSpace) {
        replaces = true;
      } else {
        return unsupported("normalizer " + printable(step->dump(-1, ' ', false, json::error_handler_t::replace)) +
                           " is not supported here");
      }
    }
    normalizes_spaces_ = replaces;
    if (prepends) space_prefix_ = "each";
    return {};
  }

  // The known patterns match every character, so that removing what does not match removes nothing.
  static bool keeps_matches(const json& split) {
    return text_of(field(split, "behavior")) == (flag_of(split, "invert") ? "Removed" : "Isolated");
  }

  Status read_pre_tokenizer(const json& pre_tokenizer) {
    std::vector<const json*> steps;
    flatten(pre_tokenizer, "pretokenizers", &steps);
    const auto refuse = [&](const json& step) {
      return unsupported("pre_tokenizer " + printable(step.dump(-1, ' ', false, json::error_handler_t::replace), 400) +
                         " is not supported" + (spm_ ? " with byte_fallback" : ""));
    };
    if (spm_) {
      for (const json* step : steps) {
        const std::string type = text_of(field(*step, "type"));
        if (type == "Metaspace" && text_of(field(*step, "replacement")) == kSpace && !flag_of(*step, "split", true) &&
            !normalizes_spaces_) {
          std::string scheme = text_of(field(*step, "prepend_scheme"));
          if (scheme.empty()) scheme = flag_of(*step, "add_prefix_space", true) ? "always" : "never";
          if (scheme == "always") space_prefix_ = "each_without";
          if (scheme == "first") space_prefix_ = "first_without";
          normalizes_spaces_ = true;
        } else if (type == "Split" && pattern_of(*step) == " " && normalizes_spaces_) {
          // Gemma's: no space is left to split at.
        } else {
          return refuse(*step);
        }
      }
      if (!normalizes_spaces_) return unsupported("neither normalizer nor pre_tokenizer writes spaces as U+2581");
      return {};
    }
    bool digits = false, bytes = false;
    for (const json* step : steps) {
      const std::string type = text_of(field(*step, "type"));
      if (bytes) return refuse(*step);
      if (type == "Digits" && flag_of(*step, "individual_digits") && pre_.empty()) {
        digits = true;
      } else if (type == "Split" && keeps_matches(*step) && pre_.empty()) {
        const std::string pattern = pattern_of(*step);
        for (const KnownPattern& known : kPatterns) {
          if (known.pattern == pattern) pre_ = known.pre;
        }
        if (pre_.empty()) return refuse(*step);
      } else if (type == "ByteLevel" && !flag_of(*step, "add_prefix_space", true)) {
        bytes = true;
        if (flag_of(*step, "use_regex", true)) {
          if (!pre_.empty()) return refuse(*step);
          pre_ = "gpt-2";
        }
      } else {
        return refuse(*step);
      }
    }
    if (!bytes || pre_.empty()) return unsupported("pre_tokenizer: expected a known split into words and ByteLevel");
    if (digits) {
      if (pre_ != "gpt-2") return unsupported("pre_tokenizer: Digits before this pattern is not supported");
      pre_ = "smollm";
    }
    if (pre_ == "llama-bpe" && !ignore_merges_) pre_ = "smaug-bpe";
    return {};
  }

  // A template that puts a token before or behind the text.
  void read_post_processor(const json& post_processor) {
    std::vector<const json*> steps;
    flatten(post_processor, "processors", &steps);
    for (const json* step : steps) {
      if (text_of(field(*step, "type")) != "TemplateProcessing") continue;
      const json& single = field(*step, "single");
      if (!single.is_array() || single.empty()) continue;
      const auto special = [&](const json& item) { return text_of(field(field(item, "SpecialToken"), "id")); };
      if (const std::string text = special(single.front()); !text.empty()) {
        add_bos_ = true;
        first_token_ = text;
      }
      if (const std::string text = special(single.back()); !text.empty() && single.size() > 1) {
        add_eos_ = true;
        last_token_ = text;
      }
    }
  }

  // --- vocab.json and merges.txt (GPT-2, OPT) ---

  Status read_vocab_and_merges() {
    pre_ = "gpt-2";
    DECANT_TRY(const json vocab, parse(files_.vocab, "vocab.json"));
    DECANT_TRY_STATUS(read_vocab(vocab, "vocab.json", "the file"));
    model_tokens_ = tokens_;
    size_t line_number = 0;
    for (size_t begin = 0; begin < files_.merges.size(); ++line_number) {
      const size_t end = std::min(files_.merges.find('\n', begin), files_.merges.size());
      std::string line = files_.merges.substr(begin, end - begin);
      begin = end + 1;
      if (line.ends_with('\r')) line.pop_back();
      if (line.empty() || (line_number == 0 && line.starts_with("#version"))) continue;
      Status status = add_merge(json(line));
      if (!status.ok())
        return std::move(status).with_context(fmt::format("{}/merges.txt: line {}", name_, line_number + 1));
    }
    const json none = json::object();
    const json& decoder = field(tokenizer_config_, "added_tokens_decoder");
    const json& added = decoder.is_object() ? decoder : none;
    for (const auto& [id_text, entry] : added.items()) {
      if (id_text.empty() || id_text.size() > 8 || id_text.find_first_not_of("0123456789") != std::string::npos)
        continue;
      const std::string text = text_of(field(entry, "content"));
      if (text.empty()) continue;
      DECANT_TRY_STATUS(
          put(std::stoll(id_text), text, flag_of(entry, "special") ? kControl : kUserDefined, "tokenizer_config.json"));
      tokens_[std::stoll(id_text)].flags = (flag_of(entry, "lstrip") ? 1 : 0) | (flag_of(entry, "rstrip") ? 2 : 0);
    }
    // Named special tokens are control tokens, whatever lists them.
    for (const json* source : {&special_map_, &tokenizer_config_}) {
      for (const char* key : {"bos_token", "eos_token", "pad_token", "unk_token"}) {
        const auto id = ids_.find(token_text(field(*source, key)));
        if (id != ids_.end()) tokens_[id->second].kind = kControl;
      }
    }
    add_bos_ = flag_of(tokenizer_config_, "add_bos_token", text_of(field(config_, "model_type")) == "opt");
    return {};
  }

  // --- output ---

  std::optional<int64_t> find(const std::string& text) const {
    const auto id = ids_.find(text);
    return text.empty() || id == ids_.end() ? std::nullopt : std::optional(id->second);
  }

  // By the token's text where a tokenizer's configuration names it, else by the model's id.
  std::optional<int64_t> named(const char* token, const char* id_key) const {
    for (const json* source : {&tokenizer_config_, &special_map_}) {
      if (const auto id = find(token_text(field(*source, token)))) return id;
    }
    for (const json* source : {&generation_, &config_}) {
      const json& value = field(*source, id_key);
      if (const auto id = id_of(value.is_array() && !value.empty() ? value[0] : value)) return id;
    }
    return std::nullopt;
  }

  Status write() {
    // Added tokens without an embedding are left out: text models of the Gemma 3 family have one, for images.
    while (rows_ > 0 && !tokens_.empty() && tokens_.rbegin()->first >= rows_ &&
           !model_tokens_.contains(tokens_.rbegin()->first)) {
      ids_.erase(tokens_.rbegin()->second.text);
      tokens_.erase(std::prev(tokens_.end()));
    }
    const int64_t size = std::max<int64_t>(tokens_.empty() ? 0 : tokens_.rbegin()->first + 1, rows_);
    if (size > kMaxTokens || (rows_ > 0 && size > rows_)) {
      return Status::corrupt("{}: the tokenizer has ids up to {}, the model {} embeddings", name_, size - 1, rows_);
    }
    std::vector<std::string> texts(static_cast<size_t>(size));
    std::vector<int32_t> kinds(static_cast<size_t>(size), kUnused);
    std::vector<int32_t> flags;
    const std::optional<int64_t> unknown = find(unknown_);
    for (int64_t i = 0; i < size; ++i) {
      const auto it = tokens_.find(i);
      const auto at = static_cast<size_t>(i);
      if (it == tokens_.end()) {
        texts[at] = fmt::format("[PAD{}]", i);
        continue;
      }
      texts[at] = it->second.text;
      kinds[at] = it->second.kind;
      if (spm_ && kinds[at] == kNormal && is_byte(texts[at])) kinds[at] = kByte;
      if (i == unknown && spm_) kinds[at] = kUnknown;
      if (it->second.flags != 0) flags.insert(flags.end(), {static_cast<int32_t>(i), it->second.flags});
    }
    out_->set("tokenizer.ggml.model", spm_ ? "llama" : "gpt2");
    out_->set("tokenizer.ggml.pre", spm_ ? std::string("default") : pre_);
    out_->set("tokenizer.ggml.tokens", texts);
    out_->set("tokenizer.ggml.token_type", kinds);
    if (spm_) {
      write_spm_merges(texts);
      out_->set("tokenizer.ggml.add_space_prefix", !space_prefix_.empty());
      if (!space_prefix_.empty()) out_->set("decant.tokenizer.space_prefix", space_prefix_);
    } else {
      std::vector<std::string> merges;
      merges.reserve(merges_.size());
      for (const auto& [left, right] : merges_) merges.push_back(left + " " + right);
      out_->set("tokenizer.ggml.merges", merges);
      out_->set("decant.tokenizer.ignore_merges", ignore_merges_);
      if (nfc_) out_->set("decant.tokenizer.normalizer", "nfc");
    }
    out_->set("decant.tokenizer.leftmost", true);
    out_->set("decant.tokenizer.token_flags", flags);
    const auto set_id = [&](const char* key, std::optional<int64_t> id) {
      if (id && *id < size) out_->set(std::string("tokenizer.ggml.") + key, static_cast<uint32_t>(*id));
    };
    std::optional<int64_t> bos = named("bos_token", "bos_token_id"), eos = named("eos_token", "eos_token_id");
    if (const auto id = find(first_token_)) bos = id;
    if (const auto id = find(last_token_)) eos = id;
    set_id("bos_token_id", bos);
    set_id("eos_token_id", eos);
    set_id("padding_token_id", named("pad_token", "pad_token_id"));
    if (spm_) set_id("unknown_token_id", unknown);
    out_->set("tokenizer.ggml.add_bos_token", add_bos_ && bos.has_value());
    out_->set("tokenizer.ggml.add_eos_token", add_eos_ && eos.has_value());
    std::vector<int32_t> ends;
    for (const json* source : {&generation_, &config_}) {
      const json& value = field(*source, "eos_token_id");
      for (const json& entry : value.is_array() ? value : json::array({value})) {
        const auto id = id_of(entry);
        if (id && *id < size && std::find(ends.begin(), ends.end(), *id) == ends.end()) {
          ends.push_back(static_cast<int32_t>(*id));
        }
      }
    }
    if (!ends.empty()) out_->set("decant.tokenizer.eos_token_ids", ends);
    return {};
  }

  // Scores that give llama.cpp the same order where merges are grouped by what they make, as converters write them.
  void write_spm_merges(const std::vector<std::string>& texts) {
    std::vector<float> scores(texts.size(), -static_cast<float>(merges_.size()) - 1);
    std::vector<bool> has_score(texts.size());
    std::vector<int32_t> pairs;
    pairs.reserve(merges_.size() * 2);
    for (size_t rank = 0; rank < merges_.size(); ++rank) {
      const auto& [left, right] = merges_[rank];
      const auto made = static_cast<size_t>(ids_.at(left + right));
      if (!has_score[made]) scores[made] = -static_cast<float>(rank);
      has_score[made] = true;
      pairs.push_back(static_cast<int32_t>(ids_.at(left)));
      pairs.push_back(static_cast<int32_t>(ids_.at(right)));
    }
    out_->set("tokenizer.ggml.scores", scores);
    out_->set("decant.tokenizer.merge_pairs", pairs);
  }

  static bool is_byte(const std::string& text) {
    return text.size() == 6 && text.starts_with("<0x") && text[5] == '>' &&
           text.find_first_not_of("0123456789ABCDEF", 3) == 5;
  }

  // chat_template: one text, or a list of {name, template}.
  Status write_templates() {
    std::string main = files_.chat_template;
    const json& templates = field(tokenizer_config_, "chat_template");
    if (templates.is_array()) {
      std::vector<std::string> names;
      for (const json& entry : templates) {
        const std::string name = text_of(field(entry, "name")), text = text_of(field(entry, "template"));
        if (name.empty() || text.empty()) continue;
        if (name == "default") {
          if (main.empty()) main = text;
        } else if (std::find(names.begin(), names.end(), name) == names.end()) {
          if (name.size() > 40 ||
              name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") !=
                  std::string::npos) {
            return corrupt("tokenizer_config.json", "chat_template: a name is \"" + printable(name) + "\"");
          }
          names.push_back(name);
          out_->set("tokenizer.chat_template." + name, text);
        }
      }
      if (!names.empty()) out_->set("tokenizer.chat_templates", names);
    } else if (main.empty()) {
      main = text_of(templates);
    }
    if (!main.empty()) out_->set("tokenizer.chat_template", main);
    return {};
  }

  struct Token {
    std::string text;
    Kind kind;
    int32_t flags;
  };

  const HfTokenizerFiles& files_;
  std::string name_;
  int64_t rows_;
  GgufWriter* out_;
  json config_, generation_, tokenizer_config_, special_map_;
  bool spm_ = false, ignore_merges_ = false, nfc_ = false, normalizes_spaces_ = false, add_bos_ = false,
       add_eos_ = false;
  std::string pre_, space_prefix_, unknown_, first_token_, last_token_;
  std::map<int64_t, Token> tokens_, model_tokens_;
  std::unordered_map<std::string, int64_t> ids_;
  std::vector<std::pair<std::string, std::string>> merges_;
};

}  // namespace

std::string_view hf_split_pattern(std::string_view pre) {
  for (const KnownPattern& known : kPatterns) {
    if (known.pre == pre) return known.pattern;
  }
  return {};
}

Status parse_hf_tokenizer(const HfTokenizerFiles& files, const std::string& name, int64_t rows, GgufWriter* out) {
  return HfTokenizerReader(files, name, rows, out).read();
}

Status read_hf_tokenizer(const std::string& folder, int64_t rows, GgufWriter* out) {
  HfTokenizerFiles files;
  std::string template_json;
  const std::pair<const char*, std::string*> names[] = {{"tokenizer.json", &files.tokenizer},
                                                        {"vocab.json", &files.vocab},
                                                        {"merges.txt", &files.merges},
                                                        {"tokenizer_config.json", &files.tokenizer_config},
                                                        {"special_tokens_map.json", &files.special_tokens_map},
                                                        {"config.json", &files.config},
                                                        {"generation_config.json", &files.generation_config},
                                                        {"chat_template.jinja", &files.chat_template},
                                                        {"chat_template.json", &template_json}};
  for (const auto& [name, text] : names) {
    std::error_code error;
    const std::string path = folder + "/" + name;
    if (!fs::exists(path, error)) continue;
    DECANT_TRY(*text, read_file(path));
  }
  if (files.tokenizer.empty() && (files.vocab.empty() || files.merges.empty())) {
    std::error_code error;
    if (fs::exists(folder + "/tokenizer.model", error)) {
      return Status::unsupported(
          "{}/tokenizer.model: SentencePiece models are not read; save the tokenizer as "
          "tokenizer.json (transformers' AutoTokenizer does it) or use a GGUF file",
          folder);
    }
    return {};
  }
  if (files.chat_template.empty() && !template_json.empty()) {
    const Result<json> value = parse_json_object(template_json);
    if (!value.ok()) {
      return Status::corrupt("{}/chat_template.json: {}; download it again", folder, value.status().message());
    }
    files.chat_template = text_of(field(*value, "chat_template"));
  }
  return parse_hf_tokenizer(files, folder, rows, out);
}

}  // namespace decant
