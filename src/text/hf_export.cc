// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "text/hf_export.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <unordered_map>
#include <vector>

#include "base/mapped_file.h"
#include "formats/gguf.h"
#include "formats/hf_tokenizer.h"
#include "text/pre_tokenizer.h"

namespace decant {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kSpace[] = "\xE2\x96\x81";  // U+2581

// GGUF's token types.
enum Kind : int64_t { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };

// The name under which formats/hf_tokenizer.h knows a rule's regular expression.
std::string_view pattern_name(SplitRule rule) {
  switch (rule) {
    case SplitRule::kGpt2:
    case SplitRule::kDigits: return "gpt-2";
    case SplitRule::kLlama3: return "llama-bpe";
    case SplitRule::kQwen2: return "qwen2";
    case SplitRule::kO200k: return "gpt-4o";
    case SplitRule::kTekken: return "tekken";
  }
  return {};
}

// A byte of JSON text that is not UTF-8 becomes U+FFFD: the format has no way to say it.
std::string dump(const Json& json) { return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n"; }

Status write_text(const std::string& path, const std::string& text) {
  DECANT_TRY(AtomicFile file, AtomicFile::create(path));
  DECANT_TRY_STATUS(file.write({reinterpret_cast<const uint8_t*>(text.data()), text.size()}));
  return file.commit();
}

class TokenizerExporter {
 public:
  explicit TokenizerExporter(const GgufFile& model) : model_(model) {}

  Status write(const std::string& folder) {
    DECANT_TRY(const std::optional<std::string_view> kind, model_.get_string("tokenizer.ggml.model"));
    if (!kind || *kind == "no_vocab") return {};
    if (*kind != "gpt2" && *kind != "llama") {
      return Status::unsupported("{}: tokenizer.ggml.model is \"{}\"; gpt2 and llama can be written", model_.path(),
                                 kind->substr(0, 80));
    }
    spm_ = *kind == "llama";
    DECANT_TRY_STATUS(read_tokens());
    DECANT_TRY_STATUS(read_options());
    Json merges = Json::array();
    DECANT_TRY_STATUS(spm_ ? spm_merges(&merges) : bpe_merges(&merges));
    Json file = {{"version", "1.0"}, {"truncation", nullptr}, {"padding", nullptr}, {"added_tokens", added_tokens()}};
    DECANT_TRY_STATUS(add_steps(&file));
    file["model"] = {{"type", "BPE"},
                     {"dropout", nullptr},
                     {"unk_token", spm_ && unknown_ >= 0 ? Json(text(unknown_)) : Json(nullptr)},
                     {"continuing_subword_prefix", nullptr},
                     {"end_of_word_suffix", nullptr},
                     {"fuse_unk", spm_},
                     {"byte_fallback", spm_},
                     {"ignore_merges", !spm_ && ignore_merges_},
                     {"vocab", vocab()},
                     {"merges", std::move(merges)}};
    DECANT_TRY_STATUS(write_text(folder + "/tokenizer.json", dump(file)));
    return write_config(folder);
  }

 private:
  std::string text(int64_t id) const { return std::string(tokens_[static_cast<size_t>(id)]); }
  int64_t kind(size_t id) const { return id < kinds_.size() ? kinds_[id] : kNormal; }

  Result<std::vector<int64_t>> numbers(const char* key) const {
    DECANT_TRY(const std::shared_ptr<const GgufArray> array, model_.get_array(key));
    if (!array) return std::vector<int64_t>();
    if (const auto* v = std::get_if<std::vector<int64_t>>(&array->values)) return *v;
    if (const auto* v = std::get_if<std::vector<uint64_t>>(&array->values))
      return std::vector<int64_t>(v->begin(), v->end());
    return Status::corrupt("{}: {} is not an array of integers", model_.path(), key);
  }

  Status read_tokens() {
    DECANT_TRY(const std::shared_ptr<const GgufArray> array, model_.get_array("tokenizer.ggml.tokens"));
    const auto* values = array ? std::get_if<std::vector<std::string_view>>(&array->values) : nullptr;
    if (values == nullptr)
      return Status::corrupt("{}: tokenizer.ggml.tokens is not an array of strings", model_.path());
    tokens_ = *values;
    for (size_t i = 0; i < tokens_.size(); ++i) ids_.emplace(tokens_[i], static_cast<int64_t>(i));
    DECANT_TRY(kinds_, numbers("tokenizer.ggml.token_type"));
    DECANT_TRY(const std::vector<int64_t> flags, numbers("decant.tokenizer.token_flags"));
    for (size_t i = 0; i + 1 < flags.size(); i += 2) flags_[flags[i]] = flags[i + 1];
    for (const auto& [id, key] : {std::pair{&bos_, "bos"}, std::pair{&eos_, "eos"}, std::pair{&pad_, "padding"},
                                  std::pair{&unknown_, "unknown"}}) {
      DECANT_TRY(const std::optional<uint64_t> value, model_.get_uint(fmt::format("tokenizer.ggml.{}_token_id", key)));
      if (value && *value < tokens_.size()) *id = static_cast<int64_t>(*value);
    }
    return {};
  }

  Status read_options() {
    DECANT_TRY(const std::optional<std::string_view> pre, model_.get_string("tokenizer.ggml.pre"));
    DECANT_TRY(const std::optional<bool> add_bos, model_.get_bool("tokenizer.ggml.add_bos_token"));
    DECANT_TRY(const std::optional<bool> add_eos, model_.get_bool("tokenizer.ggml.add_eos_token"));
    DECANT_TRY(const std::optional<bool> prefix, model_.get_bool("tokenizer.ggml.add_space_prefix"));
    DECANT_TRY(const std::optional<bool> ignore_merges, model_.get_bool("decant.tokenizer.ignore_merges"));
    DECANT_TRY(const std::optional<std::string_view> normalizer, model_.get_string("decant.tokenizer.normalizer"));
    DECANT_TRY(const std::optional<std::string_view> rule, model_.get_string("decant.tokenizer.space_prefix"));
    bool bos_by_default = true;
    if (!spm_) {
      const std::string name(pre.value_or("gpt-2"));
      const PreTokenizer* found = find_pre_tokenizer(name == "default" ? "gpt-2" : name);
      if (found == nullptr) {
        return Status::unsupported("{}: tokenizer.ggml.pre is \"{}\"; known: {}", model_.path(), name.substr(0, 80),
                                   pre_tokenizer_names());
      }
      split_ = found->rule;
      ignore_merges_ = ignore_merges.value_or(found->ignore_merges);
      bos_by_default = found->add_bos;
    }
    add_bos_ = add_bos.value_or(bos_by_default) && bos_ >= 0;
    add_eos_ = add_eos.value_or(false) && eos_ >= 0;
    nfc_ = normalizer == "nfc";
    if (spm_ && prefix.value_or(true)) space_prefix_ = rule.value_or("each");
    return {};
  }

  Json vocab() const {
    Json vocab = Json::object();
    for (size_t i = 0; i < tokens_.size(); ++i) {
      // Converters' names for rows of the embedding that are no token.
      if (kind(i) == kUnused && tokens_[i] == fmt::format("[PAD{}]", i)) continue;
      vocab[std::string(tokens_[i])] = i;
    }
    return vocab;
  }

  Json added_tokens() const {
    Json added = Json::array();
    for (size_t i = 0; i < tokens_.size(); ++i) {
      const bool special = kind(i) == kControl || kind(i) == kUnknown;
      if ((!special && kind(i) != kUserDefined) || tokens_[i].empty()) continue;
      const auto flags = flags_.find(static_cast<int64_t>(i));
      const int64_t bits = flags == flags_.end() ? 0 : flags->second;
      added.push_back({{"id", i},
                       {"content", tokens_[i]},
                       {"single_word", (bits & 4) != 0},
                       {"lstrip", (bits & 1) != 0},
                       {"rstrip", (bits & 2) != 0},
                       {"normalized", false},
                       {"special", special}});
    }
    return added;
  }

  Status bpe_merges(Json* out) const {
    DECANT_TRY(const std::shared_ptr<const GgufArray> array, model_.get_array("tokenizer.ggml.merges"));
    const auto* merges = array ? std::get_if<std::vector<std::string_view>>(&array->values) : nullptr;
    if (merges == nullptr)
      return Status::corrupt("{}: tokenizer.ggml.merges is not an array of strings", model_.path());
    for (const std::string_view merge : *merges) {
      const size_t space = merge.find(' ', 1);
      if (space == std::string_view::npos) continue;
      const std::string left(merge.substr(0, space)), right(merge.substr(space + 1));
      // A merge that makes no token cannot apply; the library refuses the file for it.
      if (is_mergeable(left) && is_mergeable(right) && is_mergeable(left + right)) out->push_back({left, right});
    }
    return {};
  }

  bool is_mergeable(const std::string& part) const {
    const auto id = ids_.find(part);
    if (id == ids_.end()) return false;
    const int64_t k = kind(static_cast<size_t>(id->second));
    return k == kNormal || (spm_ && k == kUserDefined);
  }

  Status spm_merges(Json* out) const {
    DECANT_TRY(const std::vector<int64_t> pairs, numbers("decant.tokenizer.merge_pairs"));
    for (size_t i = 0; i + 1 < pairs.size(); i += 2) {
      const auto size = static_cast<int64_t>(tokens_.size());
      if (pairs[i] < 0 || pairs[i] >= size || pairs[i + 1] < 0 || pairs[i + 1] >= size) {
        return Status::corrupt("{}: decant.tokenizer.merge_pairs[{}] is no pair of tokens", model_.path(), i);
      }
      out->push_back({text(pairs[i]), text(pairs[i + 1])});
    }
    if (!pairs.empty()) return {};
    DECANT_TRY(const std::shared_ptr<const GgufArray> array, model_.get_array("tokenizer.ggml.scores"));
    const auto* scores = array ? std::get_if<std::vector<double>>(&array->values) : nullptr;
    if (scores == nullptr || scores->size() != tokens_.size()) {
      return Status::corrupt("{}: tokenizer.ggml.scores must be {} numbers", model_.path(), tokens_.size());
    }
    // Every way to make a token of two others, the highest score first.
    struct Merge {
      double score;
      size_t made;
      int64_t left, right;
    };
    std::vector<Merge> found;
    for (size_t i = 0; i < tokens_.size(); ++i) {
      if (kind(i) != kNormal) continue;
      const std::string_view t = tokens_[i];
      for (size_t cut = 1; cut < t.size(); ++cut) {
        if ((static_cast<unsigned char>(t[cut]) & 0xC0) == 0x80) continue;
        const std::string left(t.substr(0, cut)), right(t.substr(cut));
        if (is_mergeable(left) && is_mergeable(right))
          found.push_back({(*scores)[i], i, ids_.at(left), ids_.at(right)});
      }
    }
    std::stable_sort(found.begin(), found.end(), [](const Merge& a, const Merge& b) { return a.score > b.score; });
    for (const Merge& m : found) out->push_back({text(m.left), text(m.right)});
    return {};
  }

  Status add_steps(Json* file) const {
    Json normalizer, pre_tokenizer, decoder;
    if (spm_) {
      const Json replace = {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", kSpace}};
      if (space_prefix_ == "each") {
        normalizer = {{"type", "Sequence"}, {"normalizers", {Json{{"type", "Prepend"}, {"prepend", kSpace}}, replace}}};
      } else if (space_prefix_.empty()) {
        normalizer = replace;
      } else {
        pre_tokenizer = {{"type", "Metaspace"},
                         {"replacement", kSpace},
                         {"prepend_scheme", space_prefix_ == "each_without" ? "always" : "first"},
                         {"split", false}};
      }
      Json steps = {Json{{"type", "Replace"}, {"pattern", {{"String", kSpace}}}, {"content", " "}},
                    Json{{"type", "ByteFallback"}}, Json{{"type", "Fuse"}}};
      if (!space_prefix_.empty()) steps.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
      decoder = {{"type", "Sequence"}, {"decoders", steps}};
    } else {
      if (nfc_) normalizer = {{"type", "NFC"}};
      const bool own = split_ == SplitRule::kGpt2 || split_ == SplitRule::kDigits;  // the expression is ByteLevel's own
      const Json bytes = {
          {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", own}};
      Json steps = Json::array();
      if (split_ == SplitRule::kDigits) steps.push_back({{"type", "Digits"}, {"individual_digits", true}});
      if (!own) {
        steps.push_back({{"type", "Split"},
                         {"pattern", {{"Regex", hf_split_pattern(pattern_name(split_))}}},
                         {"behavior", "Isolated"},
                         {"invert", false}});
      }
      steps.push_back(bytes);
      pre_tokenizer = {{"type", "Sequence"}, {"pretokenizers", steps}};
      decoder = {{"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", true}, {"use_regex", true}};
    }
    (*file)["normalizer"] = normalizer;
    (*file)["pre_tokenizer"] = pre_tokenizer;
    (*file)["post_processor"] = post_processor();
    (*file)["decoder"] = decoder;
    return {};
  }

  Json post_processor() const {
    if (!add_bos_ && !add_eos_) return nullptr;
    Json specials = Json::object();
    const auto item = [&](int64_t id, int type) {
      const std::string token = text(id);
      specials[token] = {{"id", token}, {"ids", {id}}, {"tokens", {token}}};
      return Json{{"SpecialToken", {{"id", token}, {"type_id", type}}}};
    };
    const auto part = [&](const char* name, int type, Json* out) {
      if (add_bos_) out->push_back(item(bos_, type));
      out->push_back({{"Sequence", {{"id", name}, {"type_id", type}}}});
      if (add_eos_) out->push_back(item(eos_, type));
    };
    Json single = Json::array(), pair = Json::array();
    part("A", 0, &single);
    part("A", 0, &pair);
    part("B", 1, &pair);
    return {{"type", "TemplateProcessing"}, {"single", single}, {"pair", pair}, {"special_tokens", specials}};
  }

  Status write_config(const std::string& folder) const {
    Json config = {{"tokenizer_class", "PreTrainedTokenizerFast"}, {"clean_up_tokenization_spaces", false}};
    for (const auto& [id, key] : {std::pair{bos_, "bos_token"}, std::pair{eos_, "eos_token"},
                                  std::pair{pad_, "pad_token"}, std::pair{unknown_, "unk_token"}}) {
      if (id >= 0) config[key] = text(id);
    }
    config["add_bos_token"] = add_bos_;
    config["add_eos_token"] = add_eos_;
    DECANT_TRY(const std::optional<std::string_view> main, model_.get_string("tokenizer.chat_template"));
    Json templates = Json::array();
    if (main) templates.push_back({{"name", "default"}, {"template", *main}});
    DECANT_TRY(const std::shared_ptr<const GgufArray> names, model_.get_array("tokenizer.chat_templates"));
    if (const auto* list = names ? std::get_if<std::vector<std::string_view>>(&names->values) : nullptr) {
      for (const std::string_view name : *list) {
        DECANT_TRY(const std::optional<std::string_view> t,
                   model_.get_string("tokenizer.chat_template." + std::string(name)));
        if (t) templates.push_back({{"name", name}, {"template", *t}});
      }
    }
    if (templates.size() == 1 && main) {
      config["chat_template"] = *main;
    } else if (!templates.empty()) {
      config["chat_template"] = templates;
    }
    return write_text(folder + "/tokenizer_config.json", dump(config));
  }

  const GgufFile& model_;
  bool spm_ = false, add_bos_ = false, add_eos_ = false, nfc_ = false, ignore_merges_ = false;
  SplitRule split_ = SplitRule::kGpt2;
  std::string space_prefix_;  // as decant.tokenizer.space_prefix; empty: none
  std::vector<std::string_view> tokens_;
  std::vector<int64_t> kinds_;
  std::unordered_map<int64_t, int64_t> flags_;
  std::unordered_map<std::string_view, int64_t> ids_;
  int64_t bos_ = -1, eos_ = -1, pad_ = -1, unknown_ = -1;
};

}  // namespace

Status write_hf_tokenizer(const GgufFile& model, const std::string& folder) {
  return TokenizerExporter(model).write(folder);
}

}  // namespace decant
