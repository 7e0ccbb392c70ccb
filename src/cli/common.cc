// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "cli/common.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

namespace decant::cli {
namespace {

const std::chrono::steady_clock::time_point kStart = std::chrono::steady_clock::now();

// Writes all; the errno of the failure, or 0.
int write_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd, bytes.data(), bytes.size());
    if (n < 0) {
      if (errno == EINTR) continue;
      return errno;
    }
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return 0;
}

Status write_failure(const std::string& target, int error) {
  if (error == EPIPE && target == "stdout") return Status::make(Code::kIo, "");
  const bool full = error == ENOSPC || error == EDQUOT || error == EFBIG;
  return Status::make(full ? Code::kExhausted : Code::kIo,
                      fmt::format("{}: cannot write: {}", target, std::strerror(error)));
}

// The one thing that a signal handler can reach.
std::atomic<bool> interrupted{false};
static_assert(std::atomic<bool>::is_always_lock_free);

void on_interrupt(int signal) {
  if (interrupted.exchange(true)) ::_exit(128 + signal);
}

struct SavedActions {
  struct sigaction interrupt {
  }, terminate{};
};
SavedActions saved;

}  // namespace

Status write_stdout(std::string_view bytes) {
  const int error = write_all(STDOUT_FILENO, bytes);
  return error == 0 ? Status() : write_failure("stdout", error);
}

void write_error(std::string_view message) { write_note(fmt::format("decant: {}", message)); }

void write_note(std::string_view line) {
  // Nobody is left to tell when stderr fails.
  (void)write_all(STDERR_FILENO, fmt::format("{}\n", line));
}

Progress::Progress() : is_terminal_(::isatty(STDERR_FILENO) == 1) {}

void Progress::show(std::string_view text) {
  if (!is_terminal_ || text == last_) return;
  last_ = text;
  (void)write_all(STDERR_FILENO, fmt::format("\r\x1b[K{}", text));
  shown_ = true;
}

void Progress::clear() {
  if (shown_) (void)write_all(STDERR_FILENO, "\r\x1b[K");
  shown_ = false;
  last_.clear();
}

Result<JsonReport> JsonReport::open(const std::string& target) {
  JsonReport report;
  report.target_ = target;
  if (target.empty() || target == "-") return report;
  // Follows links, so that the file they point at is replaced and not the link.
  std::error_code error;
  const std::filesystem::path real = std::filesystem::weakly_canonical(target, error);
  if (!error) report.target_ = real.string();
  struct stat info {};
  if (::stat(report.target_.c_str(), &info) == 0 && !S_ISREG(info.st_mode)) {
    if (S_ISDIR(info.st_mode))
      return Status::invalid_argument("--json {}: is a folder; name a file, or - for stdout", target);
    return report;
  }
  Result<AtomicFile> file = AtomicFile::create(report.target_);
  if (!file.ok()) return std::move(file).status().with_context("--json");
  report.file_.emplace(std::move(file).value());
  return report;
}

Status JsonReport::write(const Json& value) {
  if (!wanted()) return {};
  const std::string text = value.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
  if (to_stdout()) return write_stdout(text);
  if (file_) {
    Status status = file_->write({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
    if (status.ok()) status = file_->commit();
    return status.ok() ? Status() : std::move(status).with_context("--json");
  }
  const int fd = ::open(target_.c_str(), O_WRONLY | O_CLOEXEC);
  if (fd < 0) return write_failure("--json: " + target_, errno);
  int error = write_all(fd, text);
  if (::close(fd) != 0 && error == 0) error = errno;
  return error == 0 ? Status() : write_failure("--json: " + target_, error);
}

InterruptFlag::InterruptFlag() {
  interrupted = false;
  struct sigaction action {};
  action.sa_handler = on_interrupt;  // no SA_RESTART: a blocking read returns
  ::sigemptyset(&action.sa_mask);
  ::sigaction(SIGINT, &action, &saved.interrupt);
  ::sigaction(SIGTERM, &action, &saved.terminate);
}

InterruptFlag::~InterruptFlag() {
  ::sigaction(SIGINT, &saved.interrupt, nullptr);
  ::sigaction(SIGTERM, &saved.terminate, nullptr);
}

const std::atomic<bool>* InterruptFlag::flag() const { return &interrupted; }

Result<std::string> read_text(const TextSource& source, const char* what) {
  std::string text;
  if (source.text) {
    text = *source.text;
  } else {
    if (source.file.empty() && ::isatty(STDIN_FILENO) == 1) {
      return Status::invalid_argument("no {0}: give it as -p TEXT or -f FILE, or pipe it into stdin", what);
    }
    DECANT_TRY(text, read_file(source.file.empty() ? "-" : source.file));
  }
  return source.escapes ? process_escapes(text) : text;
}

std::string process_escapes(std::string_view text) {
  const auto hex = [](char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
  };
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\' || i + 1 == text.size()) {
      out += text[i];
      continue;
    }
    const char next = text[++i];
    switch (next) {
      case 'n': out += '\n'; break;
      case 'r': out += '\r'; break;
      case 't': out += '\t'; break;
      case '\'':
      case '"':
      case '\\': out += next; break;
      case 'x':
        if (i + 2 < text.size() && hex(text[i + 1]) >= 0 && hex(text[i + 2]) >= 0) {
          out += static_cast<char>(hex(text[i + 1]) * 16 + hex(text[i + 2]));
          i += 2;
          break;
        }
        [[fallthrough]];
      default: out += '\\'; out += next;
    }
  }
  return out;
}

double seconds_since_start() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - kStart).count();
}

}  // namespace decant::cli
