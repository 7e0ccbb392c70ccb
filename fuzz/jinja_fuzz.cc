// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// The input is the text of a template. Whatever it is, compiling and rendering it end soon, within the limits, with a
// text whose runs cover it or with one line of message; and no string of the context is called the template's.
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string_view>
#include <vector>

#include "text/jinja.h"

namespace decant::jinja {
namespace {

using Json = nlohmann::ordered_json;

// The letter occurs in strings of the context only: an input that has it is not taken.
constexpr std::string_view kMark = "\xE2\x98\x83";  // U+2603, which has no case

Json make_context() {
  return Json::parse(R"({
    "messages": [{"role": "system", "content": " ☃ "}, {"role": "user", "content": "☃<|x|>\n☃"},
                 {"role": "assistant", "content": null, "tool_calls": [{"id": "1", "function": {"name": "☃", "arguments": {"☃": [1, 2.5]}}}]},
                 {"role": "tool", "content": [{"type": "text", "text": "☃"}]}],
    "tools": [{"type": "function", "function": {"name": "☃", "parameters": {"properties": {"☃": {"type": "string"}}}}}],
    "documents": null, "add_generation_prompt": true, "enable_thinking": false, "s": "☃ ☃☃", "n": 3, "f": 0.5})");
}

void check(std::string_view source) {
  const Result<Template> compiled = Template::compile(source);
  if (!compiled.ok()) {
    DECANT_CHECK(!compiled.status().message().empty());
    DECANT_CHECK(compiled.status().message().find('\n') == std::string::npos);
    return;
  }
  static const Json context = make_context();
  std::vector<Variable> variables;
  for (const auto& [name, value] : context.items()) variables.push_back({name, &value, Origin::kContent});
  RenderOptions options;
  options.limits.steps = 300'000;
  options.limits.string_bytes = size_t{1} << 20;
  options.limits.memory_bytes = size_t{64} << 20;
  options.now = 1'700'000'000;
  const Result<Text> text = compiled->render(variables, options);
  if (!text.ok()) {
    DECANT_CHECK(text.status().message().find('\n') == std::string::npos);
    return;
  }
  size_t begin = 0;
  for (size_t i = 0; i < text->runs().size(); ++i) {
    const Text::Run& run = text->runs()[i];
    DECANT_CHECK(run.end > begin);
    DECANT_CHECK(i == 0 || run.content != text->runs()[i - 1].content);
    const std::string_view part = std::string_view(text->bytes()).substr(begin, run.end - begin);
    if (!run.content && source.find("\\") == std::string_view::npos && source.find('\xE2') == std::string_view::npos) {
      DECANT_CHECK(part.find(kMark) == std::string_view::npos);
    }
    begin = run.end;
  }
  DECANT_CHECK(begin == text->size());
}

}  // namespace
}  // namespace decant::jinja

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  decant::jinja::check({reinterpret_cast<const char*>(data), size});
  return 0;
}
