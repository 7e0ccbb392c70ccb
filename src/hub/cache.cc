// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "hub/cache.h"

#include <algorithm>
#include <filesystem>

#include "base/mapped_file.h"

namespace decant {
namespace {

namespace fs = std::filesystem;

// The files below `folder`, as a listing of a hub would give them.
std::vector<HubFile> files_in(const std::string& folder) {
  std::vector<HubFile> files;
  std::error_code error;
  for (auto it = fs::recursive_directory_iterator(folder, error); !error && it != fs::recursive_directory_iterator();
       it.increment(error)) {
    std::error_code ignored;
    if (!it->is_regular_file(ignored)) continue;
    HubFile file;
    file.path = fs::path(it->path()).lexically_relative(folder).string();
    file.size = static_cast<int64_t>(it->file_size(ignored));
    if (!ignored && check_repository_path(file.path).ok()) files.push_back(std::move(file));
  }
  return files;
}

}  // namespace

std::string HubCache::folder(const HubName& name, const std::string& commit) const {
  return fmt::format("{}/{}/{}/{}", root_, name.owner, name.name, commit);
}

std::string HubCache::reference_path(const HubName& name) const {
  return fmt::format("{}/{}/{}/refs/{}", root_, name.owner, name.name, escape_url(name.revision_or_main(), false));
}

std::vector<std::string> HubCache::copies(const HubName& name, const HubFile& file) const {
  std::vector<std::string> found;
  std::error_code error;
  for (const fs::directory_entry& entry :
       fs::directory_iterator(fmt::format("{}/{}/{}", root_, name.owner, name.name), error)) {
    if (!is_commit(entry.path().filename().string())) continue;
    const fs::path path = entry.path() / file.path;
    std::error_code ignored;
    if (fs::is_regular_file(path, ignored) && static_cast<int64_t>(fs::file_size(path, ignored)) == file.size) {
      found.push_back(path.string());
    }
  }
  return found;
}

Status HubCache::write_reference(const HubName& name, const std::string& commit) const {
  const std::string path = reference_path(name);
  if (const Result<std::string> old = read_file(path); old.ok() && *old == commit + "\n") return {};
  std::error_code error;
  fs::create_directories(fs::path(path).parent_path(), error);
  if (error) return Status::io("{}: cannot be made: {}", path, error.message());
  DECANT_TRY(AtomicFile file, AtomicFile::create(path));
  const std::string text = commit + "\n";
  DECANT_TRY_STATUS(file.write({reinterpret_cast<const uint8_t*>(text.data()), text.size()}));
  return file.commit();
}

Result<std::string> HubCache::find(const HubName& name) const {
  const auto absent = [&] {
    return Status::not_found("{} at {} was not pulled", name.repository(), name.revision_or_main());
  };
  std::string commit = name.revision;
  if (!is_commit(commit)) {
    const Result<std::string> text = read_file(reference_path(name));
    if (!text.ok()) return absent();
    commit = text->substr(0, text->find('\n'));
    if (!is_commit(commit)) return absent();
  }
  const std::string snapshot = folder(name, commit);
  const std::vector<HubFile> files = files_in(snapshot);
  if (files.empty()) return absent();
  const Result<HubChoice> chosen = choose_files(files, name.file);
  if (!chosen.ok()) return Status(chosen.status()).with_context("of the pulled files");
  const HubChoice& choice = *chosen;
  if (!choice.index.empty()) {
    const std::string path = snapshot + "/" + choice.index;
    DECANT_TRY(const std::string text, read_file(path));
    Result<std::vector<std::string>> shards = parse_shard_index(text);
    if (!shards.ok()) return std::move(shards).status().with_context(path);
    const std::string beside = choice.index.substr(0, choice.index.rfind('/') + 1);  // "" at the top
    for (const std::string& shard : *shards) {
      const bool here =
          std::any_of(files.begin(), files.end(), [&](const HubFile& f) { return f.path == beside + shard; });
      if (!here) return Status::not_found("{}: the shard {} was not pulled", snapshot, beside + shard);
    }
  }
  return choice.entry.empty() ? snapshot : snapshot + "/" + choice.entry;
}

std::vector<std::string> HubCache::list() const {
  std::vector<std::string> names;
  const auto children = [](const fs::path& folder) {
    std::vector<fs::path> paths;
    std::error_code error;
    for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) paths.push_back(entry.path());
    return paths;
  };
  for (const fs::path& owner : children(root_)) {
    for (const fs::path& repository : children(owner)) {
      for (const fs::path& reference : children(repository / "refs")) {
        const std::string revision = reference.filename().string();
        if (revision.find('%') != std::string::npos) continue;  // a branch with a '/': still found when it is given
        const std::string text = fmt::format("{}/{}{}", owner.filename().string(), repository.filename().string(),
                                             revision == "main" ? "" : "@" + revision);
        Result<HubName> name = is_hub_name(text) ? parse_hub_name(text) : Status::invalid_argument("no name");
        if (!name.ok()) continue;
        if (find(*name).ok()) {
          names.push_back(text);
          continue;
        }
        const Result<std::string> commit = read_file(reference.string());
        if (!commit.ok() || !is_commit(commit->substr(0, commit->find('\n')))) continue;
        for (const HubFile& file : files_in(folder(*name, commit->substr(0, commit->find('\n'))))) {
          name->file = file.path;
          if (file.path.ends_with(".gguf") && find(*name).ok()) names.push_back(text + ":" + file.path);
        }
      }
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace decant
