// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "cli/child_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>

namespace decant::cli {
namespace {

// Ends and reaps the child if nobody did.
class Child {
 public:
  explicit Child(pid_t id) : id_(id) {}
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child() {
    if (id_ > 0) stop();
  }

  void stop() {
    ::kill(id_, SIGTERM);
    for (int i = 0; i < 50; ++i) {
      if (reap(WNOHANG)) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    ::kill(id_, SIGKILL);
    reap(0);
  }

  bool reap(int flags) {
    int status = 0;
    rusage usage{};
    pid_t got;
    while ((got = ::wait4(id_, &status, flags, &usage)) < 0 && errno == EINTR) {
    }
    if (got == 0) return false;
    id_ = -1;
    result_.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    result_.peak_memory = static_cast<int64_t>(usage.ru_maxrss) * 1024;
    return true;
  }

  const ChildResult& result() const { return result_; }

 private:
  pid_t id_;
  ChildResult result_;
};

class Pipe {
 public:
  Pipe() { ok_ = ::pipe2(ends_.data(), O_CLOEXEC) == 0; }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  ~Pipe() {
    close_end(0);
    close_end(1);
  }
  bool ok() const { return ok_; }
  int read_end() const { return ends_[0]; }
  int write_end() const { return ends_[1]; }
  void close_end(size_t i) {
    if (ends_[i] >= 0) ::close(ends_[i]);
    ends_[i] = -1;
  }

 private:
  std::array<int, 2> ends_ = {-1, -1};
  bool ok_ = false;
};

std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> out;
  for (std::string& s : strings) out.push_back(s.data());
  out.push_back(nullptr);
  return out;
}

}  // namespace

Result<ChildResult> run_child(const ChildCommand& command, const std::function<bool(std::string_view)>& on_output,
                              const std::function<bool()>& on_tick) {
  Pipe output;
  if (!output.ok()) return Status::io("cannot make a pipe: {}", std::strerror(errno));

  std::vector<std::string> arguments = command.arguments;
  std::vector<std::string> environment;
  for (char** e = environ; *e != nullptr; ++e) {
    const std::string_view entry = *e;
    bool replaced = false;
    for (const auto& [name, value] : command.environment) {
      replaced |= entry.substr(0, name.size() + 1) == name + "=";
    }
    if (!replaced) environment.emplace_back(entry);
  }
  for (const auto& [name, value] : command.environment) environment.push_back(name + "=" + value);
  const std::vector<char*> argv = pointers(arguments);
  const std::vector<char*> envp = pointers(environment);

  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  if (::posix_spawn_file_actions_init(&actions) != 0 || ::posix_spawnattr_init(&attributes) != 0) {
    return Status::exhausted("out of memory");
  }
  ::posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_adddup2(&actions, output.write_end(), STDOUT_FILENO);
  if (command.merge_stderr) {
    ::posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
  } else {
    ::posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  }
  // We ignore SIGPIPE; the child should not inherit that.
  sigset_t defaults;
  ::sigemptyset(&defaults);
  ::sigaddset(&defaults, SIGPIPE);
  ::sigaddset(&defaults, SIGXFSZ);
  ::posix_spawnattr_setsigdefault(&attributes, &defaults);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
  pid_t id = -1;
  const int error = ::posix_spawnp(&id, argv[0], &actions, &attributes, argv.data(), envp.data());
  ::posix_spawn_file_actions_destroy(&actions);
  ::posix_spawnattr_destroy(&attributes);
  if (error == ENOENT) return Status::not_found("{}: there is no such program", command.arguments[0]);
  if (error != 0) return Status::io("{}: cannot be started: {}", command.arguments[0], std::strerror(error));
  Child child(id);
  output.close_end(1);

  std::array<char, 65536> buffer;
  for (bool open = true; open;) {
    pollfd poll_entry{.fd = output.read_end(), .events = POLLIN, .revents = 0};
    const int ready = ::poll(&poll_entry, 1, 100);
    if (!on_tick()) return Status::cancelled("interrupted");
    if (ready <= 0) continue;
    const ssize_t n = ::read(output.read_end(), buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    open = n > 0;
    if (open && !on_output({buffer.data(), static_cast<size_t>(n)})) return Status::cancelled("interrupted");
  }
  while (!child.reap(WNOHANG)) {
    if (!on_tick()) return Status::cancelled("interrupted");
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return child.result();
}

}  // namespace decant::cli
