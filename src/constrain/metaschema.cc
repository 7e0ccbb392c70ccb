// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "constrain/metaschema.h"

#include <fmt/format.h>

#include <span>
#include <vector>

namespace decant {
namespace {

// The vocabularies of 2019-09 and later; earlier drafts have one schema with all of them.
enum Vocabulary : uint8_t { kCore, kApplicator, kUnevaluated, kValidation, kMetaData, kFormat, kContent, kLegacy };

// Drafts by their order.
constexpr int kDraft4 = 0, kDraft6 = 1, kDraft7 = 2, kDraft2019 = 3, kDraft2020 = 4;

struct Keyword {
  std::string_view name;
  std::string_view value;  // a name below, or JSON
  Vocabulary vocabulary;
  int first = kDraft4, last = kDraft2020;
};

constexpr Keyword kKeywords[] = {
    {"id", "string", kCore, kDraft4, kDraft4},
    {"$id", "uri-reference", kCore, kDraft6, kDraft7},
    {"$id", R"({"type":"string","format":"uri-reference","pattern":"^[^#]*#?$"})", kCore, kDraft2019},
    {"$schema", "string", kCore, kDraft4, kDraft4},
    {"$schema", "uri", kCore, kDraft6},
    {"$ref", "uri-reference", kCore, kDraft6},
    {"$anchor", R"({"type":"string","pattern":"^[A-Za-z][-A-Za-z0-9.:_]*$"})", kCore, kDraft2019, kDraft2019},
    {"$anchor", "anchor", kCore, kDraft2020},
    {"$recursiveRef", "uri-reference", kCore, kDraft2019, kDraft2019},
    {"$recursiveAnchor", "boolean", kCore, kDraft2019, kDraft2019},
    {"$dynamicRef", "uri-reference", kCore, kDraft2020},
    {"$dynamicAnchor", "anchor", kCore, kDraft2020},
    {"$vocabulary",
     R"({"type":"object","propertyNames":{"type":"string","format":"uri"},"additionalProperties":{"type":"boolean"}})",
     kCore, kDraft2019},
    {"$comment", "string", kCore, kDraft7},
    {"$defs", "schemas", kCore, kDraft2019},
    {"definitions", "schemas", kLegacy},
    {"dependencies", "dependencies", kLegacy},
    {"$recursiveRef", "uri-reference", kLegacy, kDraft2020},
    {"$recursiveAnchor", "anchor", kLegacy, kDraft2020},

    {"prefixItems", "schemaArray", kApplicator, kDraft2020},
    {"items", "schemaOrArray", kApplicator, kDraft4, kDraft2019},
    {"items", "schema", kApplicator, kDraft2020},
    {"additionalItems", "schemaOrBoolean", kApplicator, kDraft4, kDraft4},
    {"additionalItems", "schema", kApplicator, kDraft6, kDraft2019},
    {"contains", "schema", kApplicator, kDraft6},
    {"additionalProperties", "schemaOrBoolean", kApplicator, kDraft4, kDraft4},
    {"additionalProperties", "schema", kApplicator, kDraft6},
    {"properties", "schemas", kApplicator},
    {"patternProperties", "schemas", kApplicator},
    {"dependentSchemas", "schemas", kApplicator, kDraft2019},
    {"propertyNames", "schema", kApplicator, kDraft6},
    {"if", "schema", kApplicator, kDraft7},
    {"then", "schema", kApplicator, kDraft7},
    {"else", "schema", kApplicator, kDraft7},
    {"allOf", "schemaArray", kApplicator},
    {"anyOf", "schemaArray", kApplicator},
    {"oneOf", "schemaArray", kApplicator},
    {"not", "schema", kApplicator},
    {"unevaluatedItems", "schema", kApplicator, kDraft2019, kDraft2019},
    {"unevaluatedProperties", "schema", kApplicator, kDraft2019, kDraft2019},
    {"unevaluatedItems", "schema", kUnevaluated, kDraft2020},
    {"unevaluatedProperties", "schema", kUnevaluated, kDraft2020},

    {"type", "types", kValidation},
    {"const", "true", kValidation, kDraft6},
    {"enum", R"({"type":"array","minItems":1,"uniqueItems":true})", kValidation, kDraft4, kDraft4},
    {"enum", R"({"type":"array"})", kValidation, kDraft6},
    {"multipleOf", R"({"type":"number","minimum":0,"exclusiveMinimum":true})", kValidation, kDraft4, kDraft4},
    {"multipleOf", R"({"type":"number","exclusiveMinimum":0})", kValidation, kDraft6},
    {"maximum", "number", kValidation},
    {"exclusiveMaximum", "boolean", kValidation, kDraft4, kDraft4},
    {"exclusiveMaximum", "number", kValidation, kDraft6},
    {"minimum", "number", kValidation},
    {"exclusiveMinimum", "boolean", kValidation, kDraft4, kDraft4},
    {"exclusiveMinimum", "number", kValidation, kDraft6},
    {"maxLength", "count", kValidation},
    {"minLength", "count", kValidation},
    {"pattern", "string", kValidation},
    {"maxItems", "count", kValidation},
    {"minItems", "count", kValidation},
    {"uniqueItems", "boolean", kValidation},
    {"maxContains", "count", kValidation, kDraft2019},
    {"minContains", "count", kValidation, kDraft2019},
    {"maxProperties", "count", kValidation},
    {"minProperties", "count", kValidation},
    {"required", "stringArray", kValidation},
    {"dependentRequired", R"({"type":"object","additionalProperties":{"$ref":"#/$defs/stringArray"}})", kValidation,
     kDraft2019},

    {"title", "string", kMetaData},
    {"description", "string", kMetaData},
    {"default", "true", kMetaData},
    {"deprecated", "boolean", kMetaData, kDraft2019},
    {"readOnly", "boolean", kMetaData, kDraft7},
    {"writeOnly", "boolean", kMetaData, kDraft7},
    {"examples", R"({"type":"array"})", kMetaData, kDraft6},
    {"format", "string", kFormat},
    {"contentMediaType", "string", kContent, kDraft7},
    {"contentEncoding", "string", kContent, kDraft7},
    {"contentSchema", "schema", kContent, kDraft2019},
};

// What the vocabularies are called where they are documents of their own.
struct Part {
  std::string_view name;
  Vocabulary vocabulary;
  int first = kDraft2019, last = kDraft2020;
};
constexpr Part kParts[] = {
    {"core", kCore},
    {"applicator", kApplicator},
    {"unevaluated", kUnevaluated, kDraft2020},
    {"validation", kValidation},
    {"meta-data", kMetaData},
    {"format", kFormat, kDraft2019, kDraft2019},
    {"format-annotation", kFormat, kDraft2020},
    {"content", kContent},
};

constexpr std::string_view kAddresses[] = {
    "http://json-schema.org/draft-04/schema", "http://json-schema.org/draft-06/schema",
    "http://json-schema.org/draft-07/schema", "https://json-schema.org/draft/2019-09/schema",
    "https://json-schema.org/draft/2020-12/schema"};

class Writer {
 public:
  explicit Writer(int draft)
      : draft_(draft),
        definitions_(draft >= kDraft2019 ? "#/$defs/" : "#/definitions/"),
        // A schema that extends this one is meant as well.
        schema_(draft == kDraft2020   ? R"({"$dynamicRef":"#meta"})"
                : draft == kDraft2019 ? R"({"$recursiveRef":"#"})"
                                      : R"({"$ref":"#"})") {}

  // Of these vocabularies; with `parts`, references to them instead of their keywords.
  std::string document(const std::string& address, const std::vector<Vocabulary>& vocabularies, bool parts) const {
    const bool early = draft_ < kDraft2019;
    std::string text = fmt::format(R"({{"$schema":"{0}{1}","{2}":"{3}{1}")", kAddresses[draft_], early ? "#" : "",
                                   draft_ == kDraft4 ? "id" : "$id", address);
    if (draft_ == kDraft2020) text += R"(,"$dynamicAnchor":"meta")";
    if (draft_ == kDraft2019) text += R"(,"$recursiveAnchor":true)";
    text += draft_ == kDraft4 ? R"(,"type":"object")" : R"(,"type":["object","boolean"])";
    if (parts) {
      text += R"(,"allOf":[)";
      for (const Part& p : kParts) {
        if (draft_ < p.first || draft_ > p.last) continue;
        text += fmt::format(R"({}{{"$ref":"meta/{}"}})", text.back() == '[' ? "" : ",", p.name);
      }
      text += ']';
    }
    text += R"(,"properties":{)";
    for (const Keyword& k : kKeywords) {
      if (draft_ < k.first || draft_ > k.last) continue;
      bool here = false;
      for (const Vocabulary v : vocabularies) here = here || v == k.vocabulary;
      if (here) text += fmt::format(R"({}"{}":{})", text.back() == '{' ? "" : ",", k.name, value(k.value));
    }
    text += '}';
    if (draft_ == kDraft4) {
      text += R"(,"dependencies":{"exclusiveMaximum":["maximum"],"exclusiveMinimum":["minimum"]})";
    }
    const bool four = draft_ == kDraft4;
    return text +
           fmt::format(R"(,"{0}":{{"{1}":{{"type":"integer","minimum":0}},"{1}Default0":{{"$ref":"{2}{1}"}},)"
                       R"("schemaArray":{{"type":"array","minItems":1,"items":{3}}},)"
                       R"("stringArray":{{"type":"array","items":{{"type":"string"}},"uniqueItems":true{4}}},)"
                       R"("simpleTypes":{{"enum":["array","boolean","integer","null","number","object","string"]}},)"
                       R"("anchorString":{{"type":"string","pattern":"^[A-Za-z_][-A-Za-z0-9._]*$"}},)"
                       R"("uriString":{{"type":"string","format":"uri"}},)"
                       R"("uriReferenceString":{{"type":"string","format":"uri-reference"}}}}}})",
                       early ? "definitions" : "$defs", four ? "positiveInteger" : "nonNegativeInteger", definitions_,
                       schema_, four ? R"(,"minItems":1)" : "");
  }

 private:
  std::string defined(std::string_view name) const { return fmt::format(R"({{"$ref":"{}{}"}})", definitions_, name); }

  std::string value(std::string_view kind) const {
    if (kind[0] == '{') return std::string(kind);
    if (kind == "string" || kind == "number" || kind == "boolean") return fmt::format(R"({{"type":"{}"}})", kind);
    if (kind == "true") return draft_ == kDraft4 ? "{}" : "true";
    if (kind == "uri") return defined("uriString");
    if (kind == "uri-reference") return defined("uriReferenceString");
    if (kind == "anchor") return defined("anchorString");
    if (kind == "count") return defined(draft_ == kDraft4 ? "positiveInteger" : "nonNegativeInteger");
    if (kind == "schema") return schema_;
    if (kind == "schemaArray" || kind == "stringArray") return defined(kind);
    if (kind == "schemaOrBoolean") return fmt::format(R"({{"anyOf":[{{"type":"boolean"}},{}]}})", schema_);
    if (kind == "schemaOrArray") return fmt::format(R"({{"anyOf":[{},{}]}})", schema_, defined("schemaArray"));
    if (kind == "schemas") return fmt::format(R"({{"type":"object","additionalProperties":{}}})", schema_);
    if (kind == "dependencies") {
      return fmt::format(R"({{"type":"object","additionalProperties":{{"anyOf":[{},{}]}}}})", schema_,
                         defined("stringArray"));
    }
    // "types"
    return fmt::format(R"({{"anyOf":[{0},{{"type":"array","items":{0},"minItems":1,"uniqueItems":true}}]}})",
                       defined("simpleTypes"));
  }

  int draft_;
  std::string_view definitions_;
  std::string schema_;
};

}  // namespace

std::optional<std::string> metaschema(std::string_view address) {
  for (int draft = kDraft4; draft <= kDraft2020; ++draft) {
    const std::string_view own = kAddresses[draft];
    const Writer writer(draft);
    if (address == own) {
      if (draft >= kDraft2019) return writer.document(std::string(own), {kLegacy}, true);
      return writer.document(std::string(own),
                             {kCore, kLegacy, kApplicator, kUnevaluated, kValidation, kMetaData, kFormat, kContent},
                             false);
    }
    for (const Part& p : kParts) {
      if (draft < p.first || draft > p.last) continue;
      const std::string part = fmt::format("{}meta/{}", own.substr(0, own.size() - 6), p.name);
      if (address == part) return writer.document(part, {p.vocabulary}, false);
    }
  }
  return std::nullopt;
}

}  // namespace decant
