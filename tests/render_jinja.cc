// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// render_jinja: for each line of stdin, a JSON object {"template", "context", "now"}, writes a line with "text" and
// "content" (the offsets [begin, end) of what comes from the context), or with "error". For comparisons with jinja2.
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "text/jinja.h"

namespace {

using Json = nlohmann::ordered_json;

Json render(const Json& request) {
  using namespace decant::jinja;
  const auto compiled = Template::compile(request.at("template").get<std::string>());
  if (!compiled.ok()) return {{"error", compiled.status().message()}};
  std::vector<Variable> variables;
  for (const auto& [name, value] : request.at("context").items()) variables.push_back({name, &value, Origin::kContent});
  RenderOptions options;
  if (request.contains("now")) options.now = request["now"].get<int64_t>();
  const auto text = compiled->render(variables, options);
  if (!text.ok()) return {{"error", text.status().message()}};
  Json content = Json::array();
  size_t begin = 0;
  for (const Text::Run& run : text->runs()) {
    if (run.content) content.push_back({begin, run.end});
    begin = run.end;
  }
  return {{"text", text->bytes()}, {"content", content}};
}

}  // namespace

int main() {
  std::string line;
  while (std::getline(std::cin, line)) {
    Json answer;
    try {
      answer = render(Json::parse(line));
    } catch (const std::exception& e) {
      answer = {{"error", std::string("request: ") + e.what()}};
    }
    std::cout << answer.dump(-1, ' ', true, Json::error_handler_t::replace) << "\n" << std::flush;
  }
  return 0;
}
