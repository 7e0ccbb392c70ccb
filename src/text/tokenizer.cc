// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "formats/gguf.h"
#include "text/pre_tokenizer.h"
#include "text/tokenizer_tables.h"
#include "text/unicode.h"

namespace decant {
namespace {

constexpr std::string_view kSpmSpace = "\xE2\x96\x81";  // U+2581
constexpr size_t kMaxText = size_t{1} << 31;

// Texts by which the field's models mark the end of an answer; the file's token types do not say so.
constexpr std::string_view kEndTexts[] = {
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "</s>",
    "<|eom_id|>",
    "[EOS]",
    "<eos>",
    "<turn|>",
    "<end_of_utterance>",
    "<|tool_response>",
    "[e~[",
    "<\xEF\xBD\x9C"
    "end\xE2\x96\x81of\xE2\x96\x81sentence\xEF\xBD\x9C>",
};
// Of these, the ones that end a turn, likeliest first.
constexpr std::string_view kTurnEnds[] = {"<|eot_id|>",    "<|im_end|>",        "<|end|>", "<end_of_turn>",
                                          "<|endoftext|>", "<|end_of_text|>",   "<EOT>",   "_<EOT>",
                                          "[EOT]",         "<end_of_utterance>"};

bool is_byte_text(std::string_view text, uint8_t* byte) {
  if (text.size() != 6 || !text.starts_with("<0x") || text[5] != '>') return false;
  int value = 0;
  for (const char c : text.substr(3, 2)) {
    const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
    if (digit < 0) return false;
    value = value * 16 + digit;
  }
  *byte = static_cast<uint8_t>(value);
  return true;
}

}  // namespace

void append_printable_decoded(std::string_view text, std::string* out) {
  for (size_t i = 0; i < text.size();) {
    const Utf8Char c = decode_utf8(text.substr(i));
    const int byte = c.valid ? printable_to_byte(c.code) : -1;
    if (byte >= 0) {
      out->push_back(static_cast<char>(byte));
    } else {
      out->append(text.substr(i, c.size));
    }
    i += c.size;
  }
}

// Reads tokenizer.ggml.* into a tokenizer.
class TokenizerLoader {
 public:
  explicit TokenizerLoader(const GgufFile& file) : file_(file), tables_(std::make_unique<Tokenizer::Tables>()) {}

  Result<std::shared_ptr<const Tokenizer>> load() {
    DECANT_TRY(const std::optional<std::string_view> model, file_.get_string("tokenizer.ggml.model"));
    if (!model) {
      return Status::not_found("{}: no tokenizer.ggml.model: the file holds no vocabulary; use a model file with one",
                               file_.path());
    }
    bpe_ = *model == "gpt2";
    if (!bpe_ && *model != "llama") {
      return Status::unsupported(
          "{}: tokenizer.ggml.model is \"{}\"; Decant has gpt2 (byte-level BPE) and llama (SentencePiece BPE)",
          file_.path(), model->substr(0, 80));
    }
    DECANT_TRY_STATUS(read_pre_tokenizer());
    DECANT_TRY_STATUS(read_tokens());
    DECANT_TRY_STATUS(read_kinds());
    DECANT_TRY_STATUS(read_special_ids());
    DECANT_TRY(more_ends_, read_numbers("decant.tokenizer.eos_token_ids"));
    DECANT_TRY(const std::optional<bool> leftmost, file_.get_bool("decant.tokenizer.leftmost"));
    from_checkpoint_ = leftmost.value_or(false);
    find_ends();
    make_pieces();
    DECANT_TRY_STATUS(make_special());

    Result<std::unique_ptr<Tokenizer>> made = bpe_ ? make_bpe() : make_spm();
    if (!made.ok()) return std::move(made).status();
    std::unique_ptr<Tokenizer> t = std::move(made).value();
    t->vocab_size_ = static_cast<int>(t->tables_->texts.size());
    t->bos_ = bos_;
    t->eos_ = eos_;
    t->eot_ = eot_;
    t->add_bos_ = add_bos_ && bos_ != kNoToken;
    t->add_eos_ = add_eos_ && eos_ != kNoToken;
    t->space_prefix_ = space_prefix_;
    DECANT_TRY_STATUS(read_rules(t.get()));
    t->algorithm_ = bpe_ ? "bpe" : "spm";
    t->pre_ = pre_name_;
    DECANT_TRY(const std::optional<std::string_view> chat, file_.get_string("tokenizer.chat_template"));
    if (chat) t->chat_template_ = *chat;
    DECANT_TRY(t->named_chat_templates_, read_named_chat_templates());
    return std::shared_ptr<const Tokenizer>(std::move(t));
  }

 private:
  Result<std::vector<std::pair<std::string, std::string>>> read_named_chat_templates() {
    std::vector<std::pair<std::string, std::string>> out;
    DECANT_TRY(const std::shared_ptr<const GgufArray> array, file_.get_array("tokenizer.chat_templates"));
    if (!array || array->size() == 0) return out;
    const auto* names = std::get_if<std::vector<std::string_view>>(&array->values);
    if (names == nullptr)
      return Status::corrupt("{}: tokenizer.chat_templates is not an array of strings", file_.path());
    constexpr size_t kMaxTemplates = 64;
    if (names->size() > kMaxTemplates) {
      return Status::corrupt("{}: tokenizer.chat_templates has {} names; at most {}", file_.path(), names->size(),
                             kMaxTemplates);
    }
    for (const std::string_view name : *names) {
      const std::string key = fmt::format("tokenizer.chat_template.{}", name);
      DECANT_TRY(const std::optional<std::string_view> text, file_.get_string(key));
      if (!text)
        return Status::corrupt("{}: tokenizer.chat_templates names {}, which is missing", file_.path(),
                               key.substr(0, 120));
      out.emplace_back(name, *text);
    }
    return out;
  }

  Status read_pre_tokenizer() {
    DECANT_TRY(const std::optional<std::string_view> name, file_.get_string("tokenizer.ggml.pre"));
    pre_name_ = name.value_or(bpe_ ? "gpt-2" : "default");
    if (!bpe_) return {};
    pre_ = find_pre_tokenizer(pre_name_);
    if (pre_ == nullptr) {
      return Status::unsupported(
          "{}: tokenizer.ggml.pre is \"{}\", a pre-tokenizer that Decant does not have; it has {}", file_.path(),
          pre_name_.substr(0, 80), pre_tokenizer_names());
    }
    return {};
  }

  Status read_tokens() {
    DECANT_TRY(const std::shared_ptr<const GgufArray> array, file_.get_array("tokenizer.ggml.tokens"));
    if (!array) return Status::not_found("{}: no tokenizer.ggml.tokens: the file holds no vocabulary", file_.path());
    const auto* texts = std::get_if<std::vector<std::string_view>>(&array->values);
    if (texts == nullptr) return Status::corrupt("{}: tokenizer.ggml.tokens is not an array of strings", file_.path());
    size_t bytes = 0;
    for (const std::string_view t : *texts) bytes += t.size();
    if (texts->empty() || texts->size() >= kMaxText / 2 || bytes >= kMaxText) {
      return Status::corrupt(
          "{}: tokenizer.ggml.tokens has {} tokens of {} bytes; between 1 and 2^30 tokens of less than 2^31 bytes "
          "are possible",
          file_.path(), texts->size(), bytes);
    }
    Tokenizer::Tables& t = *tables_;
    t.texts.reserve(texts->size(), bytes);
    t.index.reserve(texts->size());
    for (uint32_t i = 0; i < texts->size(); ++i) {
      t.texts.add((*texts)[i]);
      t.index.insert(t.texts, i);
    }
    return {};
  }

  Status read_kinds() {
    Tokenizer::Tables& t = *tables_;
    t.kinds.assign(t.texts.size(), TokenKind::kNormal);
    DECANT_TRY(const std::shared_ptr<const GgufArray> array, file_.get_array("tokenizer.ggml.token_type"));
    if (!array) return {};
    if (array->size() != t.texts.size()) {
      return Status::corrupt("{}: tokenizer.ggml.token_type has {} entries, tokenizer.ggml.tokens has {}", file_.path(),
                             array->size(), t.texts.size());
    }
    const auto read = [&](const auto& values) -> Status {
      for (size_t i = 0; i < values.size(); ++i) {
        const int64_t kind = static_cast<int64_t>(values[i]);
        if (kind < 1 || kind > 6) {
          return Status::corrupt("{}: tokenizer.ggml.token_type[{}] is {}; kinds are 1 to 6", file_.path(), i, kind);
        }
        t.kinds[i] = static_cast<TokenKind>(kind);
      }
      return {};
    };
    if (const auto* v = std::get_if<std::vector<int64_t>>(&array->values)) return read(*v);
    if (const auto* v = std::get_if<std::vector<uint64_t>>(&array->values)) return read(*v);
    return Status::corrupt("{}: tokenizer.ggml.token_type is not an array of integers", file_.path());
  }

  // `fallback` is what the algorithm uses when the file does not say.
  Result<TokenId> read_id(std::string_view key, TokenId fallback) {
    const auto size = static_cast<uint64_t>(tables_->texts.size());
    DECANT_TRY(const std::optional<uint64_t> id, file_.get_uint(key));
    if (!id) return static_cast<uint64_t>(fallback) < size ? fallback : kNoToken;
    if (*id == UINT32_MAX) return kNoToken;  // converters write -1 for "none"
    if (*id >= size)
      return Status::corrupt("{}: {} is {}, but the vocabulary has {} tokens", file_.path(), key, *id, size);
    return static_cast<TokenId>(*id);
  }

  Status read_special_ids() {
    DECANT_TRY(bos_, read_id("tokenizer.ggml.bos_token_id", bpe_ ? 11 : 1));
    DECANT_TRY(eos_, read_id("tokenizer.ggml.eos_token_id", bpe_ ? 11 : 2));
    DECANT_TRY(unknown_, read_id("tokenizer.ggml.unknown_token_id", bpe_ ? kNoToken : 0));
    DECANT_TRY(eot_, read_id("tokenizer.ggml.eot_token_id", kNoToken));
    DECANT_TRY(eom_, read_id("tokenizer.ggml.eom_token_id", kNoToken));
    DECANT_TRY(const std::optional<bool> add_bos, file_.get_bool("tokenizer.ggml.add_bos_token"));
    DECANT_TRY(const std::optional<bool> add_eos, file_.get_bool("tokenizer.ggml.add_eos_token"));
    DECANT_TRY(const std::optional<bool> prefix, file_.get_bool("tokenizer.ggml.add_space_prefix"));
    add_bos_ = add_bos.value_or(bpe_ ? pre_->add_bos : true);
    add_eos_ = add_eos.value_or(false);
    space_prefix_ = !bpe_ && prefix.value_or(true);
    return {};
  }

  // Decant's own keys (formats/hf_tokenizer.h).
  Status read_rules(Tokenizer* t) {
    DECANT_TRY(const std::optional<std::string_view> normalizer, file_.get_string("decant.tokenizer.normalizer"));
    if (normalizer && *normalizer != "nfc") {
      return Status::unsupported("{}: decant.tokenizer.normalizer is \"{}\"; Decant has nfc", file_.path(),
                                 normalizer->substr(0, 80));
    }
    t->nfc_ = normalizer.has_value();
    t->leftmost_ = from_checkpoint_;
    DECANT_TRY(const std::optional<std::string_view> prefix, file_.get_string("decant.tokenizer.space_prefix"));
    if (!prefix || *prefix == "each") return {};
    if (*prefix != "each_without" && *prefix != "first_without") {
      return Status::unsupported(
          "{}: decant.tokenizer.space_prefix is \"{}\"; Decant has each, each_without and "
          "first_without",
          file_.path(), prefix->substr(0, 80));
    }
    t->prefix_rule_ =
        *prefix == "each_without" ? Tokenizer::SpacePrefix::kEachWithout : Tokenizer::SpacePrefix::kFirstWithout;
    return {};
  }

  // An array of whole numbers, empty when absent.
  Result<std::vector<int64_t>> read_numbers(std::string_view key) const {
    DECANT_TRY(const std::shared_ptr<const GgufArray> array, file_.get_array(key));
    if (!array) return std::vector<int64_t>();
    if (const auto* v = std::get_if<std::vector<int64_t>>(&array->values)) return *v;
    if (const auto* v = std::get_if<std::vector<uint64_t>>(&array->values)) {
      return std::vector<int64_t>(v->begin(), v->end());
    }
    return Status::corrupt("{}: {} is not an array of integers", file_.path(), key);
  }

  void find_ends() {
    Tokenizer::Tables& t = *tables_;
    t.is_end.assign(t.texts.size(), false);
    for (const std::string_view text : kEndTexts) {
      const TokenId id = t.find(text);
      if (id < 0) continue;
      // A checkpoint says which tokens are special; others are text that happens to read so.
      if (from_checkpoint_ && t.kinds[id] == TokenKind::kNormal) continue;
      t.is_end[id] = true;
      // Converters have written these as plain text; nobody's text may end an answer.
      t.kinds[id] = TokenKind::kControl;
    }
    if (eot_ == kNoToken) {
      for (const std::string_view text : kTurnEnds) {
        if ((eot_ = t.find(text)) != kNoToken) break;
      }
    }
    for (const TokenId id : {eos_, eot_, eom_}) {
      if (id != kNoToken) t.is_end[id] = true;
    }
    for (const int64_t id : more_ends_) {
      if (id >= 0 && id < static_cast<int64_t>(t.is_end.size())) t.is_end[static_cast<size_t>(id)] = true;
    }
    // gpt-oss writes its channel markers as control tokens, but they are part of what it says.
    for (const std::string_view text : {"<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"}) {
      const TokenId id = t.find(text);
      if (id < 0) continue;
      if (t.is_hidden(id)) shown_markers_.push_back(id);
      t.kinds[id] = TokenKind::kUserDefined;
    }
  }

  void make_pieces() {
    Tokenizer::Tables& t = *tables_;
    t.pieces.reserve(t.texts.size(), t.texts.bytes());
    for (size_t i = 0; i < t.texts.size(); ++i) {
      const std::string_view text = t.texts[i];
      std::string* out = t.pieces.open();
      uint8_t byte = 0;
      if (t.is_hidden(static_cast<TokenId>(i)) || t.kinds[i] == TokenKind::kUserDefined) {
        out->append(text);
      } else if (bpe_) {
        append_printable_decoded(text, out);
      } else if (t.kinds[i] == TokenKind::kByte && is_byte_text(text, &byte)) {
        out->push_back(static_cast<char>(byte));
      } else {
        for (size_t at = 0; at < text.size();) {
          const size_t space = std::min(text.find(kSpmSpace, at), text.size());
          out->append(text.substr(at, space - at));
          if (space < text.size()) out->push_back(' ');
          at = space + kSpmSpace.size();
        }
      }
      t.pieces.close();
    }
  }

  Status make_special() {
    Tokenizer::Tables& t = *tables_;
    DECANT_TRY(const std::optional<std::string_view> name, file_.get_string("general.name"));
    std::string lower(name.value_or(""));
    for (char& c : lower) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    const bool phi3 = lower.find("phi-3") != std::string::npos || lower.find("phi3") != std::string::npos;
    const bool modern_bert = lower.find("modern-bert") != std::string::npos;
    // Pairs of id and flags: 1 strips on the left, 2 on the right, 4 matches whole words only.
    DECANT_TRY(const std::vector<int64_t> flags, read_numbers("decant.tokenizer.token_flags"));
    std::vector<uint8_t> flags_of(flags.empty() ? 0 : t.texts.size());
    for (size_t i = 0; i + 1 < flags.size(); i += 2) {
      if (flags[i] < 0 || flags[i] >= static_cast<int64_t>(t.texts.size()) || flags[i + 1] < 0 || flags[i + 1] > 7) {
        return Status::corrupt("{}: decant.tokenizer.token_flags[{}]: token {} with flags {}", file_.path(), i,
                               flags[i], flags[i + 1]);
      }
      flags_of[static_cast<size_t>(flags[i])] = static_cast<uint8_t>(flags[i + 1]);
    }
    std::vector<SpecialTokens::Token> special;
    for (size_t i = 0; i < t.texts.size(); ++i) {
      const std::string_view text = t.texts[i];
      const TokenId id = static_cast<TokenId>(i);
      if (text.empty() || (!t.is_hidden(id) && t.kinds[i] != TokenKind::kUserDefined)) continue;
      if (t.find(text) != id) continue;  // a second token of the same text
      // Markers that are shown are still no text of a user's.
      const bool marker = std::find(shown_markers_.begin(), shown_markers_.end(), id) != shown_markers_.end();
      SpecialTokens::Token token{.id = id, .control = marker || t.is_hidden(id)};
      token.strip_left = (bpe_ && pre_->strip_mask && text == "<mask>") || (modern_bert && text == "[MASK]");
      token.strip_right = phi3 && text != "<unk>" && text != "<s>" && text != "<|endoftext|>";
      if (!flags_of.empty()) {
        token.strip_left = (flags_of[i] & 1) != 0;
        token.strip_right = (flags_of[i] & 2) != 0;
        token.whole_word = (flags_of[i] & 4) != 0;
      }
      special.push_back(token);
    }
    t.special.build(std::move(special), t.texts);
    return {};
  }

  Result<std::unique_ptr<Tokenizer>> make_bpe() {
    DECANT_TRY(const std::shared_ptr<const GgufArray> array, file_.get_array("tokenizer.ggml.merges"));
    if (!array) return Status::not_found("{}: no tokenizer.ggml.merges, which byte-level BPE needs", file_.path());
    const auto* merges = std::get_if<std::vector<std::string_view>>(&array->values);
    if (merges == nullptr && array->size() > 0) {
      return Status::corrupt("{}: tokenizer.ggml.merges is not an array of strings", file_.path());
    }
    DECANT_TRY(const std::optional<bool> ignore_merges, file_.get_bool("decant.tokenizer.ignore_merges"));
    PreTokenizer pre = *pre_;
    pre.drops_bytes = from_checkpoint_;
    pre.ignore_merges = ignore_merges.value_or(pre.ignore_merges);
    return BpeTokenizer::make(std::move(tables_), pre,
                              merges == nullptr ? std::span<const std::string_view>() : std::span(*merges),
                              file_.path());
  }

  Result<std::unique_ptr<Tokenizer>> make_spm() {
    DECANT_TRY(const std::shared_ptr<const GgufArray> array, file_.get_array("tokenizer.ggml.scores"));
    if (!array) return Status::not_found("{}: no tokenizer.ggml.scores, which SentencePiece BPE needs", file_.path());
    const auto* values = std::get_if<std::vector<double>>(&array->values);
    if (values == nullptr || values->size() != tables_->texts.size()) {
      return Status::corrupt("{}: tokenizer.ggml.scores must be {} numbers, one for each token", file_.path(),
                             tables_->texts.size());
    }
    std::vector<float> scores(values->size());
    for (size_t i = 0; i < scores.size(); ++i) {
      if (std::isnan((*values)[i]))
        return Status::corrupt("{}: tokenizer.ggml.scores[{}] is not a number", file_.path(), i);
      scores[i] = static_cast<float>((*values)[i]);
    }
    // Pairs of token ids by rank: merges as Hugging Face lists them, instead of the scores.
    DECANT_TRY(const std::vector<int64_t> pairs, read_numbers("decant.tokenizer.merge_pairs"));
    for (size_t i = 0; i < pairs.size(); ++i) {
      if (pairs.size() % 2 != 0 || pairs[i] < 0 || pairs[i] >= static_cast<int64_t>(scores.size())) {
        return Status::corrupt("{}: decant.tokenizer.merge_pairs[{}] is no pair of tokens", file_.path(), i);
      }
    }
    return SpmTokenizer::make(std::move(tables_), std::move(scores), pairs, space_prefix_, unknown_);
  }

  const GgufFile& file_;
  std::unique_ptr<Tokenizer::Tables> tables_;
  bool bpe_ = false;
  std::string pre_name_;
  const PreTokenizer* pre_ = nullptr;
  TokenId bos_ = kNoToken, eos_ = kNoToken, unknown_ = kNoToken, eot_ = kNoToken, eom_ = kNoToken;
  bool add_bos_ = false, add_eos_ = false, space_prefix_ = false;
  std::vector<int64_t> more_ends_;
  std::vector<TokenId> shown_markers_;
  bool from_checkpoint_ = false;  // by formats/hf_tokenizer.h
};

Result<std::shared_ptr<const Tokenizer>> Tokenizer::from_gguf(const GgufFile& file) {
  return TokenizerLoader(file).load();
}

Tokenizer::Tokenizer(std::unique_ptr<Tables> tables) : tables_(std::move(tables)) {}
Tokenizer::~Tokenizer() = default;

Result<std::vector<TokenId>> Tokenizer::encode(std::string_view text, const EncodeOptions& options) const {
  const TextPart part{text, options.parse_special};
  return encode(std::span(&part, 1), options);
}

Result<std::vector<TokenId>> Tokenizer::encode(std::span<const TextPart> parts, const EncodeOptions& options) const {
  size_t bytes = 0;
  for (const TextPart& p : parts) bytes += p.text.size();
  if (bytes >= kMaxText)
    return Status::invalid_argument("the text has {} bytes; at most 2^31 - 1 can be tokenized at once", bytes);

  std::string joined;
  std::string_view text = parts.size() == 1 ? parts[0].text : std::string_view();
  if (parts.size() > 1) {
    joined.reserve(bytes);
    for (const TextPart& p : parts) joined.append(p.text);
    text = joined;
  }
  std::vector<SpecialTokens::Range> ranges;
  for (size_t at = 0; const TextPart& p : parts) {
    if (p.parse_special) ranges.push_back({at, at + p.text.size()});
    at += p.text.size();
  }

  std::vector<TokenId> tokens;
  tokens.reserve(bytes / 3 + 8);
  if (options.add_special && add_bos_) tokens.push_back(bos_);
  size_t begin = 0;
  std::string composed;
  const auto encode_part = [&](std::string_view part) {
    if (part.empty()) return;
    const bool is_first = part.data() == text.data();
    if (nfc_) {
      composed = compose_utf8(part);
      part = composed;
    }
    const bool has_space = part[0] == ' ' || part.starts_with(kSpmSpace);
    const bool prefix =
        prefix_rule_ == SpacePrefix::kEach || (!has_space && (is_first || prefix_rule_ == SpacePrefix::kEachWithout));
    encode_fragment(part, prefix, options.like_llama_cpp, &tokens);
  };
  const auto matches = leftmost_ ? tables_->special.find_leftmost(text, ranges) : tables_->special.find(text, ranges);
  for (const SpecialTokens::Match& match : matches) {
    encode_part(text.substr(begin, match.begin - begin));
    tokens.push_back(match.id);
    begin = match.end;
  }
  encode_part(text.substr(begin));
  if (options.add_special && add_eos_) tokens.push_back(eos_);
  return tokens;
}

std::string_view Tokenizer::piece(TokenId token, bool special) const {
  if (token < 0 || token >= vocab_size_ || (!special && tables_->is_hidden(token))) return {};
  return tables_->pieces[static_cast<size_t>(token)];
}

std::string Tokenizer::decode(std::span<const TokenId> tokens, bool special) const {
  std::string out;
  bool prefix = space_prefix_;
  for (const TokenId token : tokens) {
    if (token < 0 || token >= vocab_size_) continue;
    std::string_view text = piece(token, special);
    const bool is_special = tables_->is_hidden(token) || tables_->kinds[token] == TokenKind::kUserDefined;
    if (prefix && !is_special && !text.empty()) {
      if (text[0] == ' ') text.remove_prefix(1);
      prefix = false;
    }
    if (is_special) prefix = space_prefix_ && prefix_rule_ != SpacePrefix::kFirstWithout;
    out.append(text);
  }
  return out;
}

bool Tokenizer::is_end(TokenId token) const { return token >= 0 && token < vocab_size_ && tables_->is_end[token]; }

TokenKind Tokenizer::kind(TokenId token) const {
  return token >= 0 && token < vocab_size_ ? tables_->kinds[token] : TokenKind::kUnknown;
}

std::string_view Tokenizer::text(TokenId token) const {
  return token >= 0 && token < vocab_size_ ? tables_->texts[static_cast<size_t>(token)] : std::string_view();
}

TokenId Tokenizer::find(std::string_view text) const { return tables_->find(text); }

std::string StreamDecoder::push(TokenId token) {
  held_.append(tokenizer_->piece(token, special_));
  const size_t whole = held_.size() - incomplete_utf8_suffix(held_);
  std::string out = held_.substr(0, whole);
  held_.erase(0, whole);
  return out;
}

std::string StreamDecoder::flush() { return std::exchange(held_, {}); }

}  // namespace decant
