// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Jinja, as far as chat templates use it and as Hugging Face transformers evaluates it (jinja2's immutable sandbox with
// trim_blocks, lstrip_blocks, break, continue and the tag `generation`): docs/templates.md lists the language. The text
// that comes out says which of its characters are the template's and which come from the caller's data.
//
// Templates come from strangers: a template can only compute. Its steps, its memory, the length of its strings and the
// depth of its recursion are limited; reaching a limit, and anything unknown, is an error that names the line.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace decant::jinja {

// Text and where its characters come from: `runs` cover it in order, neighbours differ.
class Text {
 public:
  struct Run {
    size_t end;    // offset of the first byte behind the run
    bool content;  // from the caller's data; else the template's own
  };

  void append(std::string_view bytes, bool content);
  // Bytes [begin, end) of another text, with their origin.
  void append(const Text& other, size_t begin, size_t end);
  void append(const Text& other) { append(other, 0, other.size()); }

  const std::string& bytes() const { return bytes_; }
  const std::vector<Run>& runs() const { return runs_; }
  size_t size() const { return bytes_.size(); }
  bool is_content(size_t offset) const;

 private:
  std::string bytes_;
  std::vector<Run> runs_;
};

struct Limits {
  int64_t steps = 20'000'000;              // nodes evaluated, items visited, every 32 bytes copied; about a second
  size_t string_bytes = size_t{16} << 20;  // of one string, the rendered text included
  size_t memory_bytes = size_t{256} << 20;
  int depth = 300;  // macro calls and nested values; the nesting of the template itself is limited by the parser
};

// Whose words the strings of a variable are.
enum class Origin {
  kTemplate,  // the model's: bos_token
  kContent,   // the caller's: tools, documents, options
  kMessages,  // likewise, for a list of objects; but a field `role` that is one of the field's usual role names is the
              // template's, since templates write roles into markers ("<|" + role + "|>")
};

// A name that the template sees. `value` is not kept.
struct Variable {
  std::string_view name;
  const nlohmann::ordered_json* value;
  Origin origin = Origin::kContent;
};

struct RenderOptions {
  Limits limits;
  // What strftime_now() says: seconds since 1970, taken as UTC. Without it, the local time now.
  std::optional<int64_t> now;
};

struct Program;

// A compiled template: immutable and thread-safe.
class Template {
 public:
  // kCorrupt for text that is not Jinja, kUnsupported for a tag, filter or test that Decant does not have.
  static Result<Template> compile(std::string_view source);

  // kInvalidArgument with the template's own words when it calls raise_exception, and for what fails in jinja2 too
  // (undefined values, types that do not go together); kExhausted at a limit; kUnsupported for what Decant lacks.
  Result<Text> render(std::span<const Variable> variables, const RenderOptions& options = {}) const;

 private:
  explicit Template(std::shared_ptr<const Program> program) : program_(std::move(program)) {}
  std::shared_ptr<const Program> program_;
};

}  // namespace decant::jinja
