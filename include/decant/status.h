// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Status and Result<T>: how Decant reports failure. Functions that return one of them throw nothing.
//
//   decant::Result<decant::LanguageModel> model = decant::LanguageModel::load("model.gguf");
//   if (!model.ok()) std::cerr << model.status().message() << '\n';
//
// A message says what, where, why and what to do, in one line without a full stop.
#pragma once

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
  kInternal,         // a bug of ours, or an exception of the caller's callback
};

// The name of a code as users see it, for example "not found".
std::string_view code_name(Code code);

namespace internal {
// The type of a checked format string. Defined in Decant's own sources only, so that this header needs no other
// library.
template <typename... Args>
struct FormatString;
}  // namespace internal

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

  // A failure; `code` is not kOk.
  static Status make(Code code, std::string message);

  bool ok() const { return rep_ == nullptr; }
  explicit operator bool() const = delete;  // write ok(): `if (status)` reads as success or as failure
  Code code() const { return rep_ ? rep_->code : Code::kOk; }
  const std::string& message() const;

  // The same failure with "context: " before its message.
  Status with_context(std::string_view context) &&;

  // Failures with a formatted message, for Decant's own sources; users have make().
#define DECANT_STATUS_CTOR(name) \
  template <typename... Args>    \
  static Status name(typename internal::FormatString<Args...>::Type format, Args&&... args);
  DECANT_STATUS_CTOR(invalid_argument)
  DECANT_STATUS_CTOR(not_found)
  DECANT_STATUS_CTOR(corrupt)
  DECANT_STATUS_CTOR(unsupported)
  DECANT_STATUS_CTOR(exhausted)
  DECANT_STATUS_CTOR(cancelled)
  DECANT_STATUS_CTOR(io)
  DECANT_STATUS_CTOR(internal)
#undef DECANT_STATUS_CTOR

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

}  // namespace decant
