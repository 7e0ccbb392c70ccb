// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "hub/part_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <thread>
#include <utility>

#include "base/mapped_file.h"

namespace decant {
namespace {

namespace fs = std::filesystem;

bool same_file(int fd, const std::string& path) {
  struct stat ours {
  }, there{};
  return ::fstat(fd, &ours) == 0 && ::stat(path.c_str(), &there) == 0 && ours.st_ino == there.st_ino &&
         ours.st_dev == there.st_dev;
}

}  // namespace

Status PartFile::failure(const char* what, int error) const {
  const bool full = error == ENOSPC || error == EDQUOT || error == EFBIG;
  return Status::make(full ? Code::kExhausted : Code::kIo,
                      fmt::format("{}: cannot be {}: {}{}", path_, what, std::strerror(error),
                                  full || error == EACCES || error == ENOTDIR || error == EROFS
                                      ? "; set DECANT_CACHE to a folder with room that you may write"
                                      : ""));
}

Result<PartFile> PartFile::open(const std::string& target, const std::function<bool()>& wait) {
  PartFile part;
  part.keep_ = true;  // until it is ours
  part.target_ = target;
  part.path_ = target + ".part";
  const fs::path folder = fs::path(target).parent_path();
  for (int tries = 0;;) {
    std::error_code error;
    fs::create_directories(folder, error);
    if (error) return part.failure("made", error.value());
    const int fd = ::open(part.path_.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0644);
    // Another process may have removed the folder, being empty.
    if (fd < 0 && errno == ENOENT && ++tries < 100) continue;
    if (fd < 0) return part.failure("made", errno);
    if (::flock(fd, LOCK_EX | LOCK_NB) == 0) {
      // The holder before us may have renamed or removed what we opened.
      if (same_file(fd, part.path_)) {
        part.fd_ = fd;
        break;
      }
      ::close(fd);
      continue;
    }
    const int reason = errno;
    ::close(fd);
    if (reason != EWOULDBLOCK && reason != EINTR) return part.failure("locked", reason);
    if (!wait()) return Status::cancelled("interrupted");
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  part.keep_ = false;
  struct stat info {};
  if (::fstat(part.fd_, &info) != 0) return part.failure("read", errno);
  part.size_ = info.st_size;
  return part;
}

PartFile::PartFile(PartFile&& other) noexcept
    : target_(std::move(other.target_)),
      path_(std::move(other.path_)),
      tag_(std::move(other.tag_)),
      fd_(std::exchange(other.fd_, -1)),
      size_(other.size_),
      keep_(other.keep_) {}

PartFile::~PartFile() {
  if (fd_ < 0) return;
  if (!keep_ || size_ == 0) {
    ::unlink(info_path().c_str());
    ::unlink(path_.c_str());
  }
  ::close(fd_);
}

Status PartFile::resume(const std::string& identity, int64_t max_size) {
  if (size_ == 0) return {};
  const Result<std::string> info = read_file(info_path());
  if (info.ok() && size_ <= max_size) {
    const size_t line = info->find('\n');
    const size_t end = line == std::string::npos ? std::string::npos : info->find('\n', line + 1);
    if (end != std::string::npos && info->substr(0, line) == identity) {
      tag_ = info->substr(line + 1, end - line - 1);
      return {};
    }
  }
  return restart();
}

Status PartFile::restart() {
  if (::ftruncate(fd_, 0) != 0) return failure("written", errno);
  size_ = 0;
  tag_.clear();
  return {};
}

Status PartFile::describe(const std::string& identity, const std::string& tag) {
  tag_ = tag;
  const std::string text = identity + "\n" + tag + "\n";
  const int fd = ::open(info_path().c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
  if (fd < 0) return failure("written", errno);
  const ssize_t n = ::write(fd, text.data(), text.size());
  const int error = n < 0 ? errno : ENOSPC;
  ::close(fd);
  return n == static_cast<ssize_t>(text.size()) ? Status() : failure("written", error);
}

Status PartFile::append(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd_, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return failure("written", errno);
    bytes.remove_prefix(static_cast<size_t>(n));
    size_ += n;
  }
  return {};
}

Status PartFile::hash(Digest* digest, const std::function<bool()>& go_on) const {
  std::string buffer(1 << 20, '\0');
  for (int64_t at = 0; at < size_;) {
    const ssize_t n = ::pread(fd_, buffer.data(), buffer.size(), at);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return failure("read", n < 0 ? errno : EIO);
    digest->update({buffer.data(), static_cast<size_t>(n)});
    at += n;
    if (!go_on()) return Status::cancelled("interrupted");
  }
  return {};
}

Status PartFile::commit() {
  if (::fsync(fd_) != 0) return failure("written", errno);
  if (::rename(path_.c_str(), target_.c_str()) != 0) return failure("renamed", errno);
  ::unlink(info_path().c_str());
  ::close(std::exchange(fd_, -1));
  return {};
}

void remove_part(const std::string& target) {
  if (::access((target + ".part").c_str(), F_OK) != 0) return;
  // Opening takes the lock, and the destructor removes.
  (void)PartFile::open(target, [] { return false; }).ok();
}

void remove_empty_folders(std::string folder, const std::string& root) {
  while (folder.size() > root.size() + 1 && folder.starts_with(root) && ::rmdir(folder.c_str()) == 0) {
    folder = fs::path(folder).parent_path().string();
  }
}

}  // namespace decant
