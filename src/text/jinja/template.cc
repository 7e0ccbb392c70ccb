// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include <new>

#include "text/jinja/interpreter.h"

namespace decant::jinja {
namespace {

// Messages are one line.
std::string one_line(std::string text) {
  for (char& c : text) {
    if (c == '\n' || c == '\r') c = ' ';
  }
  return text;
}

}  // namespace

Result<Template> Template::compile(std::string_view source) {
  constexpr size_t kMaxSource = 4 << 20;
  if (source.size() > kMaxSource) {
    return Status::make(Code::kExhausted,
                        fmt::format("the template has {} bytes; at most {}", source.size(), kMaxSource));
  }
  try {
    return Template(parse(source));
  } catch (const SyntaxFailure& f) {
    return Status::make(f.code, one_line(fmt::format("line {}: {}", f.line, f.message)));
  } catch (const Failure& f) {
    return Status::make(f.code, one_line(f.message));
  }
}

Result<Text> Template::render(std::span<const Variable> variables, const RenderOptions& options) const {
  Interpreter interpreter(*program_, options);
  try {
    return interpreter.run(variables);
  } catch (const Failure& f) {
    if (f.raised) return Status::make(f.code, one_line(fmt::format("{} (line {})", f.message, interpreter.line())));
    return Status::make(f.code, one_line(fmt::format("line {}: {}", interpreter.line(), f.message)));
  }
}

}  // namespace decant::jinja
