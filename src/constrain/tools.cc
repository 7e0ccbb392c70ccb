// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "constrain/tools.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/printable.h"
#include "constrain/json_tree.h"
#include "constrain/schema_constraint.h"
#include "constrain/tag_constraint.h"

namespace decant {
namespace {

constexpr size_t kMaxTools = 512;

struct Tool {
  std::string name;
  std::string parameters;  // a schema
};

const ToolFormat kHermes{.name = "hermes", .begin = "<tool_call>\n", .end = "\n</tool_call>", .is_fixed = true};
const ToolFormat kLlama3{.name = "llama3", .begin = "", .end = "", .arguments_key = "parameters", .is_fixed = true};
const ToolFormat kMistral{.name = "mistral", .begin = "[TOOL_CALLS]", .end = "", .is_list = true};

std::string quoted(const std::string& text) {
  JsonNode node;
  node.type = JsonNode::Type::kString;
  node.text = text;
  return json_line(node);
}

Result<std::vector<Tool>> read_tools(std::string_view text, const std::string& name) {
  Result<JsonNode> parsed = parse_json_tree(text);
  if (!parsed.ok()) return std::move(parsed).status().with_context(name);
  if (!parsed->is_array() || parsed->items.empty() || parsed->items.size() > kMaxTools)
    return Status::invalid_argument("{}: expected a list of 1 to {} tools", name, kMaxTools);
  std::vector<Tool> tools;
  for (size_t i = 0; i < parsed->items.size(); ++i) {
    const JsonNode& item = parsed->items[i];
    const JsonNode* function = item.is_object() ? item.find("function") : nullptr;
    if (function == nullptr || !function->is_object()) {
      return Status::invalid_argument("{}: tool {}: expected {{\"type\": \"function\", \"function\": {{...}}}}", name,
                                      i);
    }
    const JsonNode* title = function->find("name");
    if (title == nullptr || !title->is_string() || title->text.empty())
      return Status::invalid_argument("{}: tool {}: the function has no name", name, i);
    if (std::any_of(tools.begin(), tools.end(), [&](const Tool& t) { return t.name == title->text; }))
      return Status::invalid_argument("{}: tool {}: {} is there twice", name, i, printable(title->text));
    const JsonNode* parameters = function->find("parameters");
    tools.push_back({title->text, parameters != nullptr
                                      ? json_line(*parameters)
                                      : std::string(R"({"type": "object", "additionalProperties": false})")});
  }
  return tools;
}

std::string address_of(const std::string& tool) {
  // Names may hold anything; an address may not.
  std::string address = "decant:tool/";
  for (const char c : tool) {
    const bool plain =
        (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
    address += plain ? std::string(1, c) : fmt::format(".{:02x}", static_cast<uint8_t>(c));
  }
  return address + "/";
}

}  // namespace

Result<ToolFormat> parse_tool_format(std::string_view text) {
  for (const ToolFormat* known : {&kHermes, &kLlama3, &kMistral}) {
    if (text == known->name) return *known;
  }
  const auto expected = [&](const std::string& what) {
    return Status::invalid_argument(
        "{}; expected hermes, llama3, mistral, or a JSON object with begin, end, name_key, arguments_key, is_list and "
        "is_fixed",
        what);
  };
  if (text.find('{') == std::string_view::npos) return expected(fmt::format("'{}' is no tool format", printable(text)));
  const Result<JsonNode> parsed = parse_json_tree(text);
  if (!parsed.ok() || !parsed->is_object()) return expected("the tool format is no JSON object");
  ToolFormat format{.name = "custom"};
  for (const JsonMember& m : parsed->members) {
    std::string* target = m.name == "begin"           ? &format.begin
                          : m.name == "end"           ? &format.end
                          : m.name == "name_key"      ? &format.name_key
                          : m.name == "arguments_key" ? &format.arguments_key
                                                      : nullptr;
    bool* flag = m.name == "is_list" ? &format.is_list : m.name == "is_fixed" ? &format.is_fixed : nullptr;
    if (target != nullptr && m.value.is_string()) {
      *target = m.value.text;
    } else if (flag != nullptr && m.value.is_bool()) {
      *flag = m.value.boolean;
    } else {
      return expected(fmt::format("the tool format has a wrong '{}'", printable(m.name)));
    }
  }
  if (format.begin.empty() && !format.is_fixed) return expected("a tool format without begin is fixed");
  if (format.is_list && format.is_fixed) return expected("a list of calls is not fixed");
  return format;
}

std::optional<ToolFormat> detect_tool_format(std::string_view chat_template) {
  const auto has = [&](std::string_view part) { return chat_template.find(part) != std::string_view::npos; };
  if (has("<tool_call>")) return kHermes;
  if (has("[TOOL_CALLS]")) return kMistral;
  if (has("<|start_header_id|>") && has("\"parameters\"")) return kLlama3;
  return std::nullopt;
}

std::vector<TagToken> tag_tokens(const ToolFormat& format, const Tokenizer& tokenizer) {
  std::vector<TagToken> list;
  for (TokenId t = 0; t < tokenizer.vocab_size(); ++t) {
    if (tokenizer.kind(t) != TokenKind::kControl || tokenizer.is_end(t)) continue;
    std::string text(tokenizer.piece(t, true));
    if (text.empty() || (format.begin.find(text) == std::string::npos && format.end.find(text) == std::string::npos))
      continue;
    list.push_back({t, std::move(text)});
  }
  return list;
}

Result<std::shared_ptr<Constraint>> compile_tools(std::string_view text, const std::string& name,
                                                  const ToolOptions& options,
                                                  std::shared_ptr<const JsonVocabulary> vocabulary) {
  DECANT_TRY(std::vector<Tool> tools, read_tools(text, name));
  if (!options.only.empty()) {
    std::erase_if(tools, [&](const Tool& t) { return t.name != options.only; });
    if (tools.empty()) return Status::invalid_argument("{}: there is no tool {}", name, printable(options.only));
  }
  const ToolFormat& format = options.format;
  StructuralTags tags{.free_text = options.choice == ToolChoice::kAuto, .tokens = options.tokens};
  SchemaOptions schema = options.schema;
  schema.resolver = [&](const std::string& address) -> Result<std::string> {
    std::string_view own = address;
    for (const Tool& tool : tools) {
      const std::string base = address_of(tool.name);
      if (address == base) return tool.parameters;
      if (address.starts_with(base)) own.remove_prefix(base.size());
    }
    if (options.schema.resolver) return options.schema.resolver(std::string(own));
    return Status::not_found("\"{}\" is another document, and no folder or resolver is there to find it in",
                             printable(own));
  };
  const std::string opening = fmt::format("{{{}: ", quoted(format.name_key));
  // White space at the end of the tag may be another one's in free text.
  const size_t last = format.begin.find_last_not_of(" \t\r\n");
  const std::string mark = last == std::string::npos ? format.begin : format.begin.substr(0, last + 1);
  if (format.is_fixed) {
    for (const Tool& tool : tools) {
      DECANT_TRY(std::shared_ptr<Constraint> content,
                 compile_json_schema(tool.parameters, fmt::format("{}: {}", name, tool.name), schema, vocabulary));
      tags.tags.push_back(
          {.begin = fmt::format("{}{}{}, {}: ", format.begin, opening, quoted(tool.name), quoted(format.arguments_key)),
           .content = std::move(content),
           .end = "}" + format.end,
           .last = options.one_call});
    }
    tags.triggers.push_back(mark.empty() ? opening + "\"" : mark);
  } else {
    std::string calls;
    for (const Tool& tool : tools) {
      calls += fmt::format(
          R"({}{{"type": "object", "properties": {{{}: {{"const": {}}}, {}: {{"$ref": "{}"}}}}, "required": [{}, {}], "additionalProperties": false}})",
          calls.empty() ? "" : ", ", quoted(format.name_key), quoted(tool.name), quoted(format.arguments_key),
          address_of(tool.name), quoted(format.name_key), quoted(format.arguments_key));
    }
    std::string whole = fmt::format(R"({{"anyOf": [{}]}})", calls);
    if (format.is_list) {
      whole = fmt::format(R"({{"type": "array", "minItems": 1, {}"items": {}}})",
                          options.one_call ? R"("maxItems": 1, )" : "", whole);
    }
    DECANT_TRY(std::shared_ptr<Constraint> content, compile_json_schema(whole, name, schema, vocabulary));
    tags.tags.push_back({.begin = format.begin,
                         .content = std::move(content),
                         .end = format.end,
                         .last = format.is_list || options.one_call});
    tags.triggers.push_back(mark);
  }
  return make_tag_constraint(std::move(tags), std::move(vocabulary));
}

}  // namespace decant
