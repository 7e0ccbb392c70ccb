// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Status and Result<T> (decant/status.h, public) with formatted messages and the macros of Decant's own sources: how
// every folder reports failure. No exception crosses a folder, nothing aborts on input.
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

#include <string>
#include <string_view>
#include <utility>

#include "decant/status.h"

namespace decant {

namespace internal {
template <typename... Args>
struct FormatString {
  using Type = fmt::format_string<Args...>;
};
}  // namespace internal

#define DECANT_STATUS_CTOR(name, code)                                                         \
  template <typename... Args>                                                                  \
  Status Status::name(typename internal::FormatString<Args...>::Type format, Args&&... args) { \
    return make(code, fmt::format(format, std::forward<Args>(args)...));                       \
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
