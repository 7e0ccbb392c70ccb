// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "hub/listing.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/size_text.h"
#include "base/strict_json.h"

namespace decant {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxFiles = 100000;
constexpr int kMaxParts = 10000;

Result<Json> parse(std::string_view text) {
  Result<Json> json = parse_json(text);
  if (!json.ok()) return Status::corrupt("it is no JSON: {}", json.status().message());
  return json;
}

const Json* member(const Json& object, const char* key) {
  if (!object.is_object()) return nullptr;
  const auto it = object.find(key);
  return it == object.end() ? nullptr : &*it;
}

const std::string* text_member(const Json& object, const char* key) {
  const Json* value = member(object, key);
  return value != nullptr ? value->get_ptr<const std::string*>() : nullptr;
}

// -1 when there is none or it is no size.
int64_t size_member(const Json& object, const char* key) {
  const Json* value = member(object, key);
  if (value == nullptr || !value->is_number_integer()) return -1;
  if (value->is_number_unsigned() && value->get<uint64_t>() > uint64_t{1} << 60) return -1;
  return value->get<int64_t>();
}

bool is_hex(std::string_view text, size_t size) {
  return text.size() == size &&
         std::all_of(text.begin(), text.end(), [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

std::string_view base_name(std::string_view path) {
  const size_t slash = path.rfind('/');
  return slash == std::string_view::npos ? path : path.substr(slash + 1);
}

Result<HubFile> parse_file(const Json& entry, size_t index) {
  const std::string* path = text_member(entry, "path");
  if (path == nullptr) return Status::corrupt("entry {} has no field path", index);
  if (const Status safe = check_repository_path(*path); !safe.ok()) {
    return Status::corrupt("entry {}, field path: it names {}", index, safe.message());
  }
  HubFile file;
  file.path = *path;
  const Json* lfs = member(entry, "lfs");
  const bool is_lfs = lfs != nullptr && lfs->is_object();
  file.size = size_member(entry, "size");
  if (is_lfs && file.size < 0) file.size = size_member(*lfs, "size");
  if (file.size < 0) return Status::corrupt("file {}, field size: there is none, or it is no size", *path);
  if (is_lfs) {
    const std::string* oid = text_member(*lfs, "oid");
    if (oid == nullptr || !is_hex(*oid, 64)) return Status::corrupt("file {}, field lfs.oid: it is no SHA-256", *path);
    if (const int64_t size = size_member(*lfs, "size"); size >= 0 && size != file.size) {
      return Status::corrupt("file {}, field lfs.size: {} bytes, but field size says {}", *path, size, file.size);
    }
    file.sha256 = *oid;
  } else if (const std::string* oid = text_member(entry, "oid"); oid != nullptr && is_hex(*oid, 40)) {
    file.git_blob = *oid;
  }
  return file;
}

// NAME-00002-of-00005.gguf.
struct SplitName {
  std::string_view prefix;
  int part = 0, parts = 0;
};

std::optional<SplitName> parse_split_name(std::string_view path) {
  constexpr std::string_view kPattern = "-00000-of-00000.gguf";
  if (path.size() <= kPattern.size()) return std::nullopt;
  const std::string_view tail = path.substr(path.size() - kPattern.size());
  for (size_t i = 0; i < kPattern.size(); ++i) {
    const bool matches = kPattern[i] == '0' ? tail[i] >= '0' && tail[i] <= '9' : tail[i] == kPattern[i];
    if (!matches) return std::nullopt;
  }
  SplitName name{.prefix = path.substr(0, path.size() - kPattern.size())};
  std::from_chars(tail.data() + 1, tail.data() + 6, name.part);
  std::from_chars(tail.data() + 10, tail.data() + 15, name.parts);
  if (name.parts < 1 || name.parts > kMaxParts || name.part < 1 || name.part > name.parts) return std::nullopt;
  return name;
}

bool is_gguf(std::string_view path) { return lower(path).ends_with(".gguf"); }

// Projectors and importance matrices are GGUF too, but no models.
bool is_gguf_model(std::string_view path) {
  const std::string name = lower(base_name(path));
  return name.ends_with(".gguf") && name.find("mmproj") == std::string::npos &&
         name.find("imatrix") == std::string::npos;
}

// Whether a name holds the quantization as a word: q4_k is no word of q4_k_m, q4_nl none of iq4_nl.
bool has_quantization(std::string_view name, std::string_view quantization) {
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  const auto is_letter = [&](char c) { return (c >= 'a' && c <= 'z') || is_digit(c); };
  // All begin with a letter and have a digit: F16, IQ2_XXS, MXFP4. K_M alone is none.
  if (quantization.empty() || !is_letter(quantization[0]) || is_digit(quantization[0]) ||
      std::none_of(quantization.begin(), quantization.end(), is_digit)) {
    return false;
  }
  for (size_t at = name.find(quantization); at != std::string_view::npos; at = name.find(quantization, at + 1)) {
    const size_t end = at + quantization.size();
    const bool begins = at == 0 || !is_letter(name[at - 1]);
    const bool ends = end == name.size() || (!is_letter(name[end]) && name[end] != '_');
    if (begins && ends) return true;
  }
  return false;
}

class Chooser {
 public:
  explicit Chooser(const std::vector<HubFile>& files) {
    for (const HubFile& f : files) files_.emplace(f.path, f);
    for (const auto& [path, f] : files_) {
      if (!is_gguf_model(path)) continue;
      const std::optional<SplitName> split = parse_split_name(path);
      // The first part stands for a split file.
      if (!split || split->part == 1) models_.push_back(&f);
    }
  }

  Result<HubChoice> named(std::string_view name) const {
    if (const HubFile* file = find(name)) {
      if (is_gguf(name)) return gguf(*file);
      if (name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json")) return safetensors_of(name);
      return HubChoice{.files = {*file}, .entry = file->path, .index = {}};
    }
    const std::vector<const HubFile*> found = of_quantization(lower(name));
    if (found.size() == 1) return gguf(*found[0]);
    if (found.size() > 1) {
      return Status::not_found("{} files are {}: {}; name one of them in full", found.size(), name, list(found));
    }
    return Status::not_found("there is no file and no quantization {}; there {}", name, choices());
  }

  Result<HubChoice> best() const {
    if (find(kWeights) != nullptr) return safetensors_of(kWeights);
    if (find(kIndex) != nullptr) return safetensors_of(kIndex);
    for (const char* quantization : {"q4_k_m", "q8_0"}) {
      const std::vector<const HubFile*> found = of_quantization(quantization);
      if (found.size() == 1) return gguf(*found[0]);
    }
    if (models_.size() == 1) return gguf(*models_[0]);
    if (models_.empty()) {
      return Status::not_found("there is no model that Decant reads: neither {} nor {} nor a GGUF file", kWeights,
                               kIndex);
    }
    return Status::not_found("there {}; add the one you want, as OWNER/NAME:FILE or OWNER/NAME:QUANTIZATION",
                             choices());
  }

 private:
  static constexpr std::string_view kWeights = "model.safetensors";
  static constexpr std::string_view kIndex = "model.safetensors.index.json";

  const HubFile* find(std::string_view path) const {
    const auto it = files_.find(path);
    return it == files_.end() ? nullptr : &it->second;
  }

  std::vector<const HubFile*> of_quantization(const std::string& quantization) const {
    std::vector<const HubFile*> found;
    for (const bool with_folder : {false, true}) {
      for (const HubFile* f : models_) {
        const std::string name = lower(with_folder ? std::string_view(f->path) : base_name(f->path));
        if (has_quantization(name, quantization)) found.push_back(f);
      }
      if (!found.empty()) break;
    }
    return found;
  }

  Result<HubChoice> gguf(const HubFile& file) const {
    const std::optional<SplitName> split = parse_split_name(file.path);
    if (!split) return HubChoice{.files = {file}, .entry = file.path, .index = {}};
    HubChoice choice;
    for (int part = 1; part <= split->parts; ++part) {
      const std::string path = fmt::format("{}-{:05}-of-{:05}.gguf", split->prefix, part, split->parts);
      const HubFile* found = find(path);
      if (found == nullptr)
        return Status::corrupt("{} is one of {} parts, but {} is missing", file.path, split->parts, path);
      choice.files.push_back(*found);
    }
    choice.entry = choice.files[0].path;
    return choice;
  }

  // `weights`: the file or the index. Configuration and tokenizer lie beside it.
  HubChoice safetensors_of(std::string_view weights) const {
    const std::string folder(weights.substr(0, weights.size() - base_name(weights).size()));
    HubChoice choice;
    for (const char* name :
         {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
          "chat_template.jinja", "chat_template.json", "tokenizer.model", "vocab.json", "merges.txt"}) {
      if (const HubFile* f = find(folder + name)) choice.files.push_back(*f);
    }
    choice.files.push_back(*find(weights));
    if (weights.ends_with(".json")) {
      choice.index = weights;
    } else if (weights != folder + std::string(kWeights)) {
      choice.entry = weights;  // one named file among several
    }
    if (choice.entry.empty() && !folder.empty()) choice.entry = folder.substr(0, folder.size() - 1);
    return choice;
  }

  static std::string list(const std::vector<const HubFile*>& files) {
    constexpr size_t kShown = 40;
    std::string text;
    for (size_t i = 0; i < std::min(files.size(), kShown); ++i) {
      text += fmt::format("{}{} ({})", i > 0 ? ", " : "", files[i]->path, size_text(files[i]->size));
    }
    if (files.size() > kShown) text += fmt::format(" and {} more", files.size() - kShown);
    return text;
  }

  std::string choices() const {
    if (!models_.empty()) {
      return fmt::format("{} {}", models_.size() == 1 ? "is" : "are", list(models_));
    }
    std::vector<const HubFile*> all;
    for (const auto& [path, f] : files_) {
      if (path.ends_with(".safetensors") || path.ends_with(".safetensors.index.json")) all.push_back(&f);
    }
    return all.empty() ? "is no model at all" : fmt::format("{} {}", all.size() == 1 ? "is" : "are", list(all));
  }

  std::map<std::string, HubFile, std::less<>> files_;
  std::vector<const HubFile*> models_;
};

}  // namespace

Result<std::string> parse_commit(std::string_view json) {
  DECANT_TRY(const Json answer, parse(json));
  const std::string* sha = text_member(answer, "sha");
  if (sha == nullptr) return Status::corrupt("it has no field sha, the commit");
  if (!is_commit(*sha)) return Status::corrupt("field sha: it is no commit of 40 hex digits");
  return *sha;
}

Status parse_tree_page(std::string_view json, std::vector<HubFile>* files) {
  DECANT_TRY(const Json answer, parse(json));
  if (!answer.is_array()) return Status::corrupt("it is no list of files");
  size_t index = 0;
  for (const Json& entry : answer) {
    const std::string* type = text_member(entry, "type");
    if (type == nullptr) return Status::corrupt("entry {} has no field type", index);
    if (*type == "file") {
      if (files->size() >= kMaxFiles) return Status::corrupt("it lists more than {} files", kMaxFiles);
      DECANT_TRY(HubFile file, parse_file(entry, index));
      files->push_back(std::move(file));
    }
    ++index;
  }
  return {};
}

std::string next_page_query(std::string_view header) {
  // <ADDRESS>; rel="next", <ADDRESS>; rel="last"
  while (true) {
    const size_t open = header.find('<');
    if (open == std::string_view::npos) return {};
    const size_t close = header.find('>', open);
    if (close == std::string_view::npos) return {};
    const std::string_view address = header.substr(open + 1, close - open - 1);
    const size_t end = std::min(header.find('<', close), header.size());
    const std::string parameters = lower(header.substr(close + 1, end - close - 1));
    header = header.substr(end);
    if (parameters.find("rel=\"next\"") == std::string::npos && parameters.find("rel=next") == std::string::npos)
      continue;
    const size_t query = address.find('?');
    if (query == std::string_view::npos) return {};
    const std::string_view text = address.substr(query + 1, address.find('#') - query - 1);
    const bool is_plain =
        std::all_of(text.begin(), text.end(), [](char c) { return c > 0x20 && c < 0x7f && c != '"' && c != '\\'; });
    return is_plain ? std::string(text) : std::string();
  }
}

Result<std::vector<std::string>> parse_shard_index(std::string_view text) {
  DECANT_TRY(const Json index, parse(text));
  const Json* map = member(index, "weight_map");
  if (map == nullptr || !map->is_object() || map->empty())
    return Status::corrupt("field weight_map: it is no table of tensors");
  std::vector<std::string> shards;
  for (const auto& [tensor, file] : map->items()) {
    const std::string* name = file.get_ptr<const std::string*>();
    if (name == nullptr) return Status::corrupt("field weight_map: a tensor's file is no text");
    if (const Status safe = check_repository_path(*name); !safe.ok()) {
      return Status::corrupt("field weight_map: it names {}", safe.message());
    }
    shards.push_back(*name);
  }
  std::sort(shards.begin(), shards.end());
  shards.erase(std::unique(shards.begin(), shards.end()), shards.end());
  return shards;
}

Result<HubChoice> choose_files(const std::vector<HubFile>& files, std::string_view file) {
  const Chooser chooser(files);
  return file.empty() ? chooser.best() : chooser.named(file);
}

Result<ContentRange> parse_content_range(std::string_view header) {
  const Status wrong = Status::corrupt("Content-Range: it is no range of bytes");
  constexpr std::string_view kUnit = "bytes ";
  if (lower(header.substr(0, kUnit.size())) != kUnit) return wrong;
  const char* at = header.data() + kUnit.size();
  const char* end = header.data() + header.size();
  ContentRange range;
  const auto number = [&](int64_t* value) {
    const auto [next, error] = std::from_chars(at, end, *value);
    at = next;
    return error == std::errc() && *value >= 0;
  };
  const auto sign = [&](char c) { return at != end && *at++ == c; };
  if (!number(&range.first) || !sign('-') || !number(&range.last) || !sign('/')) return wrong;
  if (end - at == 1 && *at == '*')
    return range.last < range.first ? Result<ContentRange>(wrong) : Result<ContentRange>(range);
  if (!number(&range.total) || at != end || range.last < range.first || range.last >= range.total) return wrong;
  return range;
}

}  // namespace decant
