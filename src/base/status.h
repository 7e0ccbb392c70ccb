// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Status and Result<T>: how every folder of Decant reports failure. No exception crosses a folder, nothing aborts on
// input.
//
//   Result<Model> load(const std::string& path) {
//     DECANT_TRY(MappedFile file, MappedFile::open(path));
//     if (file.size() < 4) return Status::corrupt("{}: 3 bytes; a GGUF file has at least 24", path);
//     ...
//   }
//
// A message says what, where, why and what to do: "model.gguf: tensor blk.3.attn_k.weight: type 41 is not supported;
// ...".
#pragma once

#include <fmt/core.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace decant {

enum class Code {
  kOk = 0,
  kInvalidArgument,  // the caller's value is wrong: an option, a shape, a token
  kNotFound,         // the named file, tensor, model or sequence is not there
  kCorrupt,          // a file contradicts itself or ends early
  kUnsupported,      // well-formed, but this build cannot honour it
  kExhausted,        // no room left: cache pages, context, disk, memory
  kCancelled,        // the caller asked to stop
  kIo,               // the operating system refused a read or a write
  kInternal,         // a bug of ours
};

// The name of a code as users see it, for example "not found".
std::string_view code_name(Code code);

// Success or one failure; one pointer wide, null when OK. Movable and copyable, cheap to pass.
class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(const Status& other) : rep_(other.rep_ ? std::make_unique<Rep>(*other.rep_) : nullptr) {}
  Status& operator=(const Status& other) {
    if (this != &other) rep_ = other.rep_ ? std::make_unique<Rep>(*other.rep_) : nullptr;
    return *this;
  }
  Status(Status&&) noexcept = default;
  Status& operator=(Status&&) noexcept = default;

  static Status make(Code code, std::string message);

#define DECANT_STATUS_CTOR(name, code)                                     \
  template <typename... Args>                                              \
  static Status name(fmt::format_string<Args...> format, Args&&... args) { \
    return make(code, fmt::format(format, std::forward<Args>(args)...));   \
  }
  DECANT_STATUS_CTOR(invalid_argument, Code::kInvalidArgument)
  DECANT_STATUS_CTOR(not_found, Code::kNotFound)
  DECANT_STATUS_CTOR(corrupt, Code::kCorrupt)
  DECANT_STATUS_CTOR(unsupported, Code::kUnsupported)
  DECANT_STATUS_CTOR(exhausted, Code::kExhausted)
  DECANT_STATUS_CTOR(cancelled, Code::kCancelled)
  DECANT_STATUS_CTOR(io, Code::kIo)
  DECANT_STATUS_CTOR(internal, Code::kInternal)
#undef DECANT_STATUS_CTOR

  bool ok() const { return rep_ == nullptr; }
  explicit operator bool() const = delete;  // write ok(): `if (status)` reads as success or as failure
  Code code() const { return rep_ ? rep_->code : Code::kOk; }
  const std::string& message() const;

  // The same failure with "context: " before its message.
  Status with_context(std::string_view context) &&;

 private:
  struct Rep {
    Code code;
    std::string message;
  };
  std::unique_ptr<Rep> rep_;
};

// A value or the reason why there is none.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}         // NOLINT: implicit on purpose
  Result(Status status) : status_(std::move(status)) {  // NOLINT: implicit on purpose
    if (status_.ok()) status_ = Status::make(Code::kInternal, "Result made from an OK status");
  }

  bool ok() const { return value_.has_value(); }
  const Status& status() const& { return status_; }
  Status status() && { return std::move(status_); }

  // Precondition: ok().
  T& value() & { return *value_; }
  const T& value() const& { return *value_; }
  T&& value() && { return std::move(*value_); }
  T& operator*() & { return *value_; }
  const T& operator*() const& { return *value_; }
  T&& operator*() && { return std::move(*value_); }
  T* operator->() { return &*value_; }
  const T* operator->() const { return &*value_; }

 private:
  std::optional<T> value_;
  Status status_;
};

// Stops the process with file, line and the expression. For our own bugs only: no input may reach it, and fuzzing
// proves that.
[[noreturn]] void check_failed(const char* file, int line, const char* expression);

}  // namespace decant

#define DECANT_CONCAT_INNER(a, b) a##b
#define DECANT_CONCAT(a, b) DECANT_CONCAT_INNER(a, b)

// DECANT_TRY(declaration, expression): declares the value of a Result, or returns its Status to the caller.
#define DECANT_TRY(declaration, ...) DECANT_TRY_IMPL(DECANT_CONCAT(decant_result_, __LINE__), declaration, __VA_ARGS__)
#define DECANT_TRY_IMPL(tmp, declaration, ...)   \
  auto tmp = (__VA_ARGS__);                      \
  if (!tmp.ok()) return std::move(tmp).status(); \
  declaration = std::move(tmp).value()

// Returns a failed Status to the caller; goes on when OK.
#define DECANT_TRY_STATUS(...)                                                                     \
  do {                                                                                             \
    if (::decant::Status decant_status = (__VA_ARGS__); !decant_status.ok()) return decant_status; \
  } while (false)

#define DECANT_CHECK(condition) \
  ((condition) ? static_cast<void>(0) : ::decant::check_failed(__FILE__, __LINE__, #condition))
