// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "constrain/json_machine.h"

namespace decant {
namespace {

class Followed {
 public:
  explicit Followed(std::string_view schema, PropertyOrder order = PropertyOrder::kSchema)
      : machine_(*Schema::parse(schema, "schema", {.property_order = order})) {}

  // How much of the text is taken; all of it and one more if it may end there.
  size_t taken(std::string_view text) {
    std::optional<JsonState> state = machine_.start();
    size_t at = 0;
    for (; state && at < text.size(); ++at) {
      state = machine_.step(*state, static_cast<uint8_t>(text[at]));
      if (!state) return at;
    }
    EXPECT_TRUE(machine_.language().status().ok()) << machine_.language().status().message();
    return state && machine_.accepting(*state) ? at + 1 : at;
  }
  bool accepts(std::string_view text) { return taken(text) == text.size() + 1; }

 private:
  JsonMachine machine_;
};

void expect(const char* schema, std::vector<const char*> accepted, std::vector<const char*> refused) {
  Followed ordered(schema), any(schema, PropertyOrder::kAny);
  for (const char* text : accepted) EXPECT_TRUE(ordered.accepts(text)) << schema << " on " << text;
  for (const char* text : refused) {
    EXPECT_FALSE(ordered.accepts(text)) << schema << " on " << text;
    EXPECT_TRUE(any.accepts(text)) << schema << " on " << text;
  }
}

TEST(PropertyOrder, NamedMembersComeInTheOrderOfTheSchemaAndOthersLast) {
  expect(R"({"properties":{"b":true,"a":true,"c":true}})",
         {"{}", R"({"b":1,"a":2,"c":3})", R"({"b":1,"c":3})", R"({"a":1,"x":2,"w":3})", R"({"z":1,"y":2})"},
         {R"({"a":1,"b":2})", R"({"c":1,"a":2})", R"({"x":1,"a":2})", R"({"b":1,"x":1,"c":2})"});
  // Names that only `required` or a pattern knows are others.
  expect(R"({"properties":{"b":true},"required":["a","b"],"patternProperties":{"^p":{"type":"null"}}})",
         {R"({"b":1,"a":2})", R"({"b":1,"p":null,"a":2})", R"({"b":1,"a":2,"p1":null,"p":null})"},
         {R"({"a":1,"b":2})", R"({"p":null,"b":1,"a":2})"});
}

TEST(PropertyOrder, ReadsTheSchemaAsItStands) {
  expect(
      R"({"allOf":[{"$ref":"#/$defs/base"}],"properties":{"n":true,"id":true},"$defs":{"base":{"properties":{"id":true,"at":true}}}})",
      {R"({"id":1,"at":2,"n":3})"}, {R"({"n":1,"id":2})", R"({"at":1,"id":2})"});
  expect(R"({"properties":{"n":true,"id":true},"allOf":[{"properties":{"id":true,"at":true}}]})",
         {R"({"n":1,"id":2,"at":3})"}, {R"({"id":1,"n":2})"});
  // One order for all branches.
  expect(
      R"({"anyOf":[{"properties":{"k":{"const":1},"x":true},"required":["k"]},{"properties":{"y":true,"k":{"const":2},"x":true},"required":["k"]}]})",
      {R"({"k":1,"x":0,"y":0})", R"({"k":2,"y":0})"}, {R"({"y":0,"k":2})", R"({"x":0,"k":1})"});
  expect(R"({"properties":{"a":true},"not":{"properties":{"c":true,"b":{"const":1}},"required":["b"]}})",
         {R"({"a":1,"c":1,"b":2})", R"({"b":2,"c":1})"}, {R"({"b":2,"a":1})"});
  expect(
      R"({"properties":{"a":true},"dependentSchemas":{"a":{"properties":{"c":true,"b":true}}},"if":{"required":["e"]},"then":{"properties":{"e":true,"d":true}}})",
      {R"({"a":1,"c":1,"b":1,"e":1,"d":1})"}, {R"({"a":1,"b":1,"c":1})", R"({"d":1,"a":1})", R"({"d":1,"e":1})"});
}

TEST(PropertyOrder, HoldsAtEveryDepth) {
  const char* tree = R"({"properties":{"v":{"type":"integer"},"sons":{"items":{"$ref":"#"}}}})";
  expect(tree, {R"({"v":1,"sons":[{"v":2},{"sons":[]}]})"}, {R"({"v":1,"sons":[{"sons":[],"v":2}]})"});
  expect(R"({"additionalProperties":{"properties":{"b":true,"a":true}}})", {R"({"x":{"b":1,"a":1},"w":{"a":1}})"},
         {R"({"x":{"a":1,"b":1}})"});
  expect(R"({"prefixItems":[{"properties":{"b":true,"a":true}}],"items":{"properties":{"a":true,"b":true}}})",
         {R"([{"b":1,"a":1},{"a":1,"b":1}])"}, {R"([{"a":1,"b":1}])", R"([{},{"b":1,"a":1}])"});
  // What an item is counted for says nothing about its order.
  expect(
      R"({"items":{"properties":{"b":true,"a":true}},"contains":{"properties":{"a":{"const":1},"b":true},"required":["a","b"]},"maxContains":1,"type":"array"})",
      {R"([{"b":1,"a":1},{"b":1,"a":2}])"}, {R"([{"a":1,"b":1}])"});
  expect(R"({"enum":[{"b":1,"a":{"y":1,"x":2}}]})", {R"({"b":1,"a":{"y":1,"x":2}})"},
         {R"({"a":{"y":1,"x":2},"b":1})", R"({"b":1,"a":{"x":2,"y":1}})"});
}

// What has to come is never passed by, so that a text can always be completed.
TEST(PropertyOrder, NothingThatIsNeededIsPassedBy) {
  Followed f(
      R"({"properties":{"a":true,"b":true,"c":true,"d":true},"required":["b","d"],"additionalProperties":false,"maxProperties":3})");
  EXPECT_EQ(f.taken(R"({"c)"), 2u);
  EXPECT_EQ(f.taken(R"({"a":1,"c)"), 8u);
  EXPECT_EQ(f.taken(R"({"a":1,"b":1,"c)"), 14u);
  EXPECT_TRUE(f.accepts(R"({"a":1,"b":1,"d":1})"));
  EXPECT_TRUE(f.accepts(R"({"b":1,"c":1,"d":1})"));
  Followed many(R"({"properties":{"a":true,"b":true,"c":true},"additionalProperties":false,"minProperties":2})");
  EXPECT_EQ(many.taken(R"({"c)"), 2u);
  EXPECT_TRUE(many.accepts(R"({"b":1,"c":1})"));
  Followed needs(R"({"properties":{"a":true,"b":true},"dependentRequired":{"b":["a"],"a":["c"]}})");
  EXPECT_EQ(needs.taken(R"({"b")"), 3u);  // other names begin so
  EXPECT_TRUE(needs.accepts(R"({"a":1,"b":1,"c":1})"));
  Followed either(
      R"({"properties":{"a":true,"b":true,"c":true},"additionalProperties":false,"anyOf":[{"required":["a"]},{"required":["b"]}]})");
  EXPECT_EQ(either.taken(R"({"c)"), 2u);
  EXPECT_TRUE(either.accepts(R"({"b":1,"c":1})"));
}

// With n members in all orders, the option takes all orders but one away.
TEST(PropertyOrder, OneOrderOfEachSetOfNamedMembersIsLeft) {
  const char* schema =
      R"({"properties":{"c":{"type":"integer"},"a":{"type":"integer"},"d":{"type":"integer"},"b":{"type":"integer"}},"required":["d"],"anyOf":[{"required":["a"]},{"minProperties":3}]})";
  Followed ordered(schema), any(schema, PropertyOrder::kAny);
  const std::string names = "cadb";
  for (unsigned subset = 0; subset < 16; ++subset) {
    std::vector<size_t> members;
    for (size_t i = 0; i < 4; ++i) {
      if ((subset >> i & 1) != 0) members.push_back(i);
    }
    const std::vector<size_t> in_order = members;
    int by_any = 0, by_order = 0;
    do {
      std::string text = "{";
      for (const size_t i : members) text += (text.size() > 1 ? ",\"" : "\"") + std::string(1, names[i]) + "\":1";
      text += "}";
      const bool accepted = any.accepts(text);
      by_any += accepted ? 1 : 0;
      EXPECT_EQ(ordered.accepts(text), accepted && members == in_order) << text;
      by_order += ordered.accepts(text) ? 1 : 0;
    } while (std::next_permutation(members.begin(), members.end()));
    EXPECT_EQ(by_order, by_any > 0 ? 1 : 0);
  }
}

}  // namespace
}  // namespace decant
