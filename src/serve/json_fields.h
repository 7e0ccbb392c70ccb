// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// The fields of a JSON object that a client sent, read strictly: a value of another type than expected, out of range,
// or in a field that nobody asks for is a problem that names its field.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "serve/http_message.h"

namespace decant::serve {

using Json = nlohmann::ordered_json;

// What is wrong with a request.
struct Problem {
  int status = 0;  // of HTTP; 0: nothing
  std::string message, param, code;

  bool ok() const { return status == 0; }
  HttpResponse response() const { return error_response(status, message, param, code); }
  static Problem bad(std::string param, std::string message, std::string code = {}) {
    return {400, std::move(message), std::move(param), std::move(code)};
  }
  // Of a failure below: 400 for what the request asked, 500 or 503 for the rest.
  static Problem of(const Status& status, std::string param = {});
};

// The body of a request: an object, without keys that are there twice, not nested too deeply and of bounded cost.
Problem parse_body(std::string_view text, Json* out);

// Reads fields of one object; the first problem counts, and nothing is read behind it. A field that is null is not
// there.
class Fields {
 public:
  // `path` stands before names in messages ("tools[0].function."). The object and the problem must outlive it.
  Fields(const Json& object, std::string path, Problem* problem)
      : object_(object), path_(std::move(path)), problem_(problem) {}

  bool ok() const { return problem_->ok(); }
  std::string path(std::string_view name) const { return path_ + std::string(name); }
  // nullptr: not there.
  const Json* find(std::string_view name);
  // Each leaves `out` as it is if the field is not there. True if it was there and is fine.
  bool boolean(std::string_view name, bool* out);
  bool integer(std::string_view name, int64_t min, int64_t max, int64_t* out);
  bool integer(std::string_view name, int64_t min, int64_t max, int* out);
  bool real(std::string_view name, double min, double max, double* out);
  bool real(std::string_view name, double min, double max, float* out);
  bool text(std::string_view name, std::string* out);
  bool word(std::string_view name, std::initializer_list<std::string_view> words, std::string* out);
  const Json* object(std::string_view name);
  const Json* list(std::string_view name, size_t max_size);
  // Fields that mean nothing here, whatever they hold.
  void ignore(std::initializer_list<std::string_view> names);
  // A field that is known and cannot be honoured, unless it holds null or `harmless`.
  void unsupported(std::string_view name, std::string_view why, const Json& harmless = nullptr);
  void refuse(std::string_view name, std::string_view message, std::string_view code = {});
  // A problem of something inside, whose paths are whole.
  void adopt(const Problem& problem) {
    if (ok()) *problem_ = problem;
  }
  // Refuses fields that were not read. The last call.
  void finish();

 private:
  const Json& object_;
  const std::string path_;
  Problem* const problem_;
  std::set<std::string, std::less<>> known_;
};

// "a string", "a number": for messages.
std::string type_text(const Json& value);

}  // namespace decant::serve
