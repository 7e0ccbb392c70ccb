// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "constrain/metaschema.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <memory>

#include "constrain/json_machine.h"

namespace decant {
namespace {

class Judge {
 public:
  explicit Judge(const std::string& schema) {
    auto parsed = Schema::parse(schema, "schema", {});
    EXPECT_TRUE(parsed.ok()) << parsed.status().message();
    if (parsed.ok()) machine_ = std::make_unique<JsonMachine>(*std::move(parsed));
  }

  bool accepts(std::string_view text) {
    if (!machine_) return false;
    std::optional<JsonState> state = machine_->start();
    for (size_t i = 0; state && i < text.size(); ++i) state = machine_->step(*state, static_cast<uint8_t>(text[i]));
    EXPECT_TRUE(machine_->language().status().ok()) << machine_->language().status().message();
    return state && machine_->accepting(*state);
  }

 private:
  std::unique_ptr<JsonMachine> machine_;
};

bool accepts(const std::string& schema, std::string_view text) { return Judge(schema).accepts(text); }

std::string reference(std::string_view address, std::string_view fragment = "") {
  return fmt::format(R"({{"allOf":[{{"$ref":"{}{}"}}]}})", address, fragment);
}

TEST(Metaschema, EachIsValidForItself) {
  for (const char* address :
       {"http://json-schema.org/draft-04/schema", "http://json-schema.org/draft-06/schema",
        "http://json-schema.org/draft-07/schema", "https://json-schema.org/draft/2019-09/schema",
        "https://json-schema.org/draft/2020-12/schema", "https://json-schema.org/draft/2020-12/meta/applicator"}) {
    SCOPED_TRACE(address);
    const std::optional<std::string> text = metaschema(address);
    ASSERT_TRUE(text);
    Judge judge(reference(address, "#"));
    EXPECT_TRUE(judge.accepts(*text)) << *text;
    EXPECT_TRUE(judge.accepts("{}"));
    EXPECT_FALSE(judge.accepts("1"));
  }
  EXPECT_FALSE(metaschema("http://json-schema.org/draft-05/schema"));
  EXPECT_FALSE(metaschema("https://json-schema.org/draft/2020-12/meta/format"));
  EXPECT_FALSE(metaschema(""));
}

TEST(Metaschema, KeywordsOfEachDraft) {
  Judge four(reference("http://json-schema.org/draft-04/schema", "#"));
  EXPECT_TRUE(four.accepts(R"({"minimum":1,"exclusiveMinimum":true,"const":[],"items":[{"type":"string"}]})"));
  for (const char* wrong : {R"({"exclusiveMinimum":true})", R"({"items":true})", R"({"required":[]})",
                            R"({"enum":[1,1.0]})", R"({"properties":{"a":{"items":[{"maxLength":-1}]}}})"})
    EXPECT_FALSE(four.accepts(wrong)) << wrong;
  Judge seven(reference("http://json-schema.org/draft-07/schema", "#"));
  EXPECT_TRUE(seven.accepts(R"({"if":true,"dependencies":{"a":["b"],"c":{"not":{}}},"$dynamicRef":1,"enum":[]})"));
  for (const char* wrong : {R"({"if":1})", R"({"type":["null","null"]})", R"({"dependencies":{"a":1}})",
                            R"({"then":{"multipleOf":0}})", R"({"$id":"a b"})"})
    EXPECT_FALSE(seven.accepts(wrong)) << wrong;
  Judge latest(reference("https://json-schema.org/draft/2020-12/schema"));
  EXPECT_TRUE(latest.accepts(R"({"prefixItems":[true],"$anchor":"a","items":{"unevaluatedItems":false}})"));
  for (const char* wrong : {R"({"items":[true]})", R"({"$anchor":"1"})", R"({"$id":"x#y"})", R"({"minContains":-1})",
                            R"({"items":{"unevaluatedItems":{"type":"text"}}})", R"({"contentSchema":[]})"})
    EXPECT_FALSE(latest.accepts(wrong)) << wrong;
}

TEST(Metaschema, PlacesWithinThem) {
  EXPECT_TRUE(accepts(reference("http://json-schema.org/draft-07/schema", "#/definitions/nonNegativeInteger"), "3"));
  EXPECT_FALSE(accepts(reference("http://json-schema.org/draft-07/schema", "#/definitions/nonNegativeInteger"), "-3"));
  EXPECT_TRUE(accepts(reference("http://json-schema.org/draft-04/schema", "#/definitions/simpleTypes"), "\"null\""));
  EXPECT_FALSE(accepts(reference("http://json-schema.org/draft-04/schema", "#/properties/type"), "\"nul\""));
  EXPECT_TRUE(accepts(reference("https://json-schema.org/draft/2020-12/meta/validation", "#/$defs/stringArray"),
                      R"(["a","b"])"));
}

// A schema of its own metaschema extends the specification's, all the way down.
TEST(Metaschema, MayBeExtended) {
  const std::string extended =
      R"({"$id":"https://example.com/meta","$dynamicAnchor":"meta","$ref":"https://json-schema.org/draft/2020-12/schema",)"
      R"("properties":{"unit":{"enum":["m","s"]}}})";
  Judge judge(extended);
  EXPECT_TRUE(judge.accepts(R"({"unit":"m","items":{"unit":"s"}})"));
  EXPECT_FALSE(judge.accepts(R"({"items":{"not":{"unit":"kg"}}})"));
}

}  // namespace
}  // namespace decant
