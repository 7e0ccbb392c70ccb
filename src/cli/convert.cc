// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "model/convert.h"

#include <unistd.h>

#include <filesystem>
#include <utility>

#include "cli/common.h"
#include "cli/models.h"
#include "formats/gguf.h"
#include "model/checkpoint.h"
#include "model/config.h"
#include "model/export.h"
#include "text/hf_export.h"

namespace decant::cli {

namespace fs = std::filesystem;

namespace {

// A folder that appears under its name when all is in it, and is removed if it does not come to that.
class NewFolder {
 public:
  static Result<NewFolder> create(const std::string& path) {
    NewFolder folder;
    folder.path_ = path;
    while (folder.path_.size() > 1 && folder.path_.ends_with('/')) folder.path_.pop_back();
    folder.temporary_ = fmt::format("{}.{}.tmp", folder.path_, ::getpid());
    std::error_code error;
    if (!fs::create_directory(folder.temporary_, error) || error) {
      const std::string reason = error ? error.message() : "it is there already";
      return Status::io("{}: cannot make the folder: {}", std::exchange(folder.temporary_, ""), reason);
    }
    return folder;
  }
  NewFolder(NewFolder&& other) noexcept
      : path_(std::move(other.path_)), temporary_(std::exchange(other.temporary_, "")) {}
  ~NewFolder() {
    std::error_code error;
    if (!temporary_.empty()) fs::remove_all(temporary_, error);
  }
  const std::string& temporary() const { return temporary_; }
  Status commit() {
    std::error_code error;
    fs::rename(temporary_, path_, error);
    if (error) return Status::io("{}: cannot rename it to {}: {}", temporary_, path_, error.message());
    temporary_.clear();
    return {};
  }

 private:
  NewFolder() = default;
  std::string path_, temporary_;
};

Status convert_to_folder(const std::string& source, const GgufFile& model, const ModelConfig& config,
                         const ConvertCommandOptions& options, const std::function<void(double)>& progress) {
  DECANT_TRY(NewFolder folder, NewFolder::create(options.output));
  DECANT_TRY_STATUS(write_checkpoint(
      source, model, config, folder.temporary(),
      {.type = options.type, .shard_bytes = static_cast<size_t>(options.shard_size), .progress = progress}));
  if (!is_checkpoint(source)) DECANT_TRY_STATUS(write_hf_tokenizer(model, folder.temporary()));
  return folder.commit();
}

}  // namespace

Status convert(const ConvertCommandOptions& options) {
  DECANT_TRY(const std::string path, resolve_model(options.model));
  const bool to_gguf = options.output.ends_with(".gguf");
  std::error_code error;
  if (fs::exists(options.output, error) && !(to_gguf && options.force)) {
    return Status::invalid_argument("{}: it is there already; {}", options.output,
                                    to_gguf ? "--force overwrites it" : "give the name of a new folder");
  }
  DECANT_TRY(const GgufFile file, open_model(path));
  DECANT_TRY(const ModelConfig config, read_config(file));  // what Decant cannot run it does not convert
  Progress progress;
  int shown = -1;
  const std::function<void(double)> show = [&](double share) {
    const int percent = static_cast<int>(share * 100);
    if (percent != shown && seconds_since_start() > 0.5) {
      progress.show(fmt::format("writing {}: {} %", options.output, shown = percent));
    }
  };
  const Status status = to_gguf ? write_gguf(file, options.output, {.type = options.type, .progress = show})
                                : convert_to_folder(path, file, config, options, show);
  progress.clear();
  if (!status.ok()) return status;
  DECANT_TRY(const GgufFile written, open_model(options.output));
  int64_t bytes = 0;
  for (const GgufTensor& tensor : written.tensors()) bytes += static_cast<int64_t>(tensor.bytes());
  return write_stdout(fmt::format("{}: {}, {} tensors, {}\n", options.output, config.architecture,
                                  written.tensors().size(),
                                  size_text(to_gguf ? static_cast<int64_t>(written.file_size()) : bytes)));
}

}  // namespace decant::cli
