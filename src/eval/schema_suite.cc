// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "eval/schema_suite.h"

#include <algorithm>
#include <filesystem>

#include "base/mapped_file.h"
#include "constrain/json_machine.h"
#include "constrain/json_tree.h"
#include "constrain/schema.h"

namespace decant {
namespace {

namespace fs = std::filesystem;

// The suite's remotes, under the address that its tests use; the specification's own schemas are not among them.
Result<std::string> remote(const std::string& data, const std::string& address) {
  constexpr std::string_view kHost = "http://localhost:1234/";
  if (!address.starts_with(kHost)) return Status::not_found("{} is not among the suite's remotes", address);
  return read_file(data + "/remotes/" + address.substr(kHost.size()));
}

bool accepts(JsonMachine& machine, const std::string& text) {
  std::optional<JsonState> state = machine.start();
  for (size_t i = 0; state && i < text.size(); ++i) state = machine.step(*state, static_cast<uint8_t>(text[i]));
  return state && machine.accepting(*state);
}

}  // namespace

Result<SuiteReport> run_schema_suite(const std::string& data, const std::string& draft, bool optional,
                                     bool assert_formats) {
  const std::string folder = fmt::format("{}/tests/draft{}{}", data, draft, optional ? "/optional" : "");
  std::error_code error;
  std::vector<fs::path> files;
  for (auto it = fs::recursive_directory_iterator(folder, error); !error && it != fs::recursive_directory_iterator();
       it.increment(error)) {
    if (it->path().extension() != ".json") continue;
    if (!optional && it->path().parent_path() != fs::path(folder)) continue;
    files.push_back(it->path());
  }
  if (files.empty())
    return Status::not_found("{}: no tests there; --data takes the suite's folder, --draft one of its drafts", folder);
  std::sort(files.begin(), files.end());
  SuiteReport report;
  const SchemaOptions options{.assert_formats = assert_formats,
                              .resolver = [&](const std::string& address) { return remote(data, address); }};
  for (const fs::path& path : files) {
    const std::string keyword = path.lexically_relative(folder).replace_extension().string();
    DECANT_TRY(const std::string text, read_file(path.string()));
    Result<JsonNode> parsed = parse_json_tree(text);
    if (!parsed.ok()) return std::move(parsed).status().with_context(path.string());
    for (const JsonNode& group : parsed->items) {
      const JsonNode* schema = group.find("schema");
      const JsonNode* tests = group.find("tests");
      const JsonNode* name = group.find("description");
      if (schema == nullptr || tests == nullptr || name == nullptr)
        return Status::corrupt("{}: a group without schema, tests or description", path.string());
      std::string schema_text = json_line(*schema);
      // A schema without $schema is of the draft that its folder is for.
      if (schema->is_object() && schema->find("$schema") == nullptr) {
        const std::string address = draft.size() == 1 ? fmt::format("http://json-schema.org/draft-0{}/schema#", draft)
                                                      : fmt::format("https://json-schema.org/draft/{}/schema", draft);
        schema_text =
            "{\"$schema\": \"" + address + "\"" + (schema->members.empty() ? "" : ", ") + schema_text.substr(1);
      }
      const auto compiled = Schema::parse(schema_text, "schema", options);
      std::string refusal = compiled.ok() ? "" : compiled.status().message();
      std::unique_ptr<JsonMachine> machine;
      if (compiled.ok()) machine = std::make_unique<JsonMachine>(*compiled);
      for (const JsonNode& test : tests->items) {
        const JsonNode* instance = test.find("data");
        const JsonNode* valid = test.find("valid");
        const JsonNode* test_name = test.find("description");
        if (instance == nullptr || valid == nullptr || test_name == nullptr)
          return Status::corrupt("{}: a test without data, valid or description", path.string());
        SuiteCounts one;
        std::string what;
        bool accepted = false;
        if (machine != nullptr) {
          accepted = accepts(*machine, json_line(*instance));
          if (!machine->language().status().ok()) refusal = machine->language().status().message();
        }
        if (!refusal.empty()) {
          one.refused = 1;
          what = refusal;
        } else if (accepted == valid->boolean) {
          one.right = 1;
        } else if (accepted) {
          one.under = 1;
          what = "under";
        } else {
          one.over = 1;
          what = "over";
        }
        for (SuiteCounts* counts : {&report.total, &report.by_keyword[keyword]}) {
          counts->right += one.right;
          counts->over += one.over;
          counts->under += one.under;
          counts->refused += one.refused;
        }
        if (!what.empty()) report.failures.push_back({keyword, name->text, test_name->text, what});
      }
    }
  }
  return report;
}

}  // namespace decant
