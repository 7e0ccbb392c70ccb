// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "model/convert.h"

#include <unistd.h>

#include "cli/common.h"
#include "cli/models.h"
#include "formats/gguf.h"
#include "model/checkpoint.h"
#include "model/config.h"

namespace decant::cli {

Status convert(const ConvertCommandOptions& options) {
  DECANT_TRY(const std::string path, resolve_model(options.model));
  if (!options.force && ::access(options.output.c_str(), F_OK) == 0) {
    return Status::invalid_argument("{}: there is such a file; --force overwrites it", options.output);
  }
  DECANT_TRY(const GgufFile file, open_model(path));
  DECANT_TRY(const ModelConfig config, read_config(file));  // what Decant cannot run it does not convert
  Progress progress;
  int shown = -1;
  ConvertOptions settings{.type = options.type};
  settings.progress = [&](double share) {
    const int percent = static_cast<int>(share * 100);
    if (percent != shown && seconds_since_start() > 0.5) {
      progress.show(fmt::format("writing {}: {} %", options.output, shown = percent));
    }
  };
  const Status status = write_gguf(file, options.output, settings);
  progress.clear();
  if (!status.ok()) return status;
  DECANT_TRY(const GgufFile written, GgufFile::open(options.output));
  return write_stdout(fmt::format("{}: {}, {} tensors, {}\n", options.output, config.architecture,
                                  written.tensors().size(), size_text(static_cast<int64_t>(written.file_size()))));
}

}  // namespace decant::cli
