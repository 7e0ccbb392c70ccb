// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "text/jinja.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

namespace decant::jinja {
namespace {

using Json = nlohmann::ordered_json;

Result<Text> render(const std::string& source, const Json& context = Json::object(), RenderOptions options = {}) {
  options.now = options.now.value_or(1'700'000'000);
  DECANT_TRY(const Template compiled, Template::compile(source));
  std::vector<Variable> variables;
  for (const auto& [name, value] : context.items()) variables.push_back({name, &value, Origin::kContent});
  return compiled.render(variables, options);
}

// The text with what comes from the context in brackets.
std::string marked(const std::string& source, const Json& context) {
  const Result<Text> text = render(source, context);
  if (!text.ok()) return "refused: " + text.status().message();
  std::string out;
  size_t begin = 0;
  for (const Text::Run& run : text->runs()) {
    const std::string part = text->bytes().substr(begin, run.end - begin);
    out += run.content ? "[" + part + "]" : part;
    begin = run.end;
  }
  return out;
}

void expect_refused(const std::string& source, Code code, const std::string& part, const RenderOptions& options = {}) {
  const Result<Text> text = render(source, Json::object(), options);
  ASSERT_FALSE(text.ok()) << source.substr(0, 100) << " gives " << text->bytes().substr(0, 100);
  EXPECT_EQ(text.status().code(), code) << text.status().message();
  EXPECT_NE(text.status().message().find(part), std::string::npos) << text.status().message();
}

// tests/templates/goldens.json says what jinja2 makes of each.
TEST(Jinja, AgreesWithTheGoldensOfJinja2) {
  std::ifstream file(DECANT_SOURCE_DIR "/tests/templates/goldens.json");
  const Json cases = Json::parse(file, nullptr, false);
  ASSERT_TRUE(cases.is_array());
  EXPECT_GT(cases.size(), 80u);
  for (const Json& c : cases) {
    const Result<Text> text = render(c["template"].get<std::string>(), c["context"]);
    if (c.contains("refused")) {
      EXPECT_FALSE(text.ok()) << c["name"] << " gives " << text->bytes();
    } else {
      ASSERT_TRUE(text.ok()) << c["name"] << ": " << text.status().message();
      EXPECT_EQ(text->bytes(), c["text"].get<std::string>()) << c["name"];
    }
  }
}

TEST(Jinja, KeepsTheOriginOfEachCharacter) {
  const Json x = {{"x", " Ab<c "}, {"l", {"p", "q"}}, {"d", {{"k", "v\n"}}}, {"n", 5}};
  EXPECT_EQ(marked("a{{ x }}b", x), "a[ Ab<c ]b");
  EXPECT_EQ(marked("{{ '<' + x|trim + '>' }}", x), "<[Ab<c]>");
  EXPECT_EQ(marked("{{ x[1:3] ~ x.upper() }}", x), "[Ab AB<C ]");
  EXPECT_EQ(marked("{{ x.split('<')[0] ~ '|' ~ 'y'.join(l) }}", x), "[ Ab]|[p]y[q]");
  EXPECT_EQ(marked("{{ l|join(', ') }}{{ l }}", x), "[p], [q]['[p]', '[q]']");
  EXPECT_EQ(marked("{{ d|tojson }}", x), "{\"[k]\": \"[v\\n]\"}");
  EXPECT_EQ(marked("{{ x.replace('Ab', '--') }}{{ '-z-'.replace('z', x) }}", x), "[ ]--[<c ]-[ Ab<c ]-");
  EXPECT_EQ(marked("{{ x|e }}{{ x|indent(1, true) }}", x), "[ Ab&lt;c ] [ Ab<c ]");
  EXPECT_EQ(marked("{{ '%s!' % x }}{{ '{}?'.format(l[0]) }}", x), "[ Ab<c ]![p]?");
  EXPECT_EQ(marked("{{ l[0] * 2 }}{{ 'z' * 2 }}{{ n }}", x), "[pp]zz5");
  EXPECT_EQ(marked("{% macro m(a) %}({{ a }}){% endmacro %}{% set y %}{{ m(l[0]) }}{% endset %}{{ y }}{% filter upper "
                   "%}k{{ y }}{% endfilter %}",
                   x),
            "([p])K([P])");
  EXPECT_EQ(marked("{% for k, v in d.items() %}{{ k }}={{ v|trim }}{% endfor %}", x), "[k]=[v]");
}

TEST(Jinja, TrustsWhatItIsTold) {
  const Json bos = "<s>",
             messages =
                 Json::parse(R"([{"role": "user", "content": "user"}, {"role": "User", "x": {"role": "user"}}])");
  const auto compiled = Template::compile("{{ bos }}{{ m[0].role }}{{ m[0].content }}{{ m[1].role }}{{ m[1].x.role }}");
  ASSERT_TRUE(compiled.ok());
  const Variable variables[] = {{"bos", &bos, Origin::kTemplate}, {"m", &messages, Origin::kMessages}};
  const auto text = compiled->render(variables);
  ASSERT_TRUE(text.ok());
  EXPECT_EQ(text->bytes(), "<s>useruserUseruser");
  ASSERT_EQ(text->runs().size(), 2u);
  EXPECT_FALSE(text->runs()[0].content);
  EXPECT_EQ(text->runs()[0].end, 7u);
}

TEST(Jinja, EndlessWorkEnds) {
  const std::string loops = "{% set r = range(9999)|list %}{% for a in r %}{% for b in r %}{% endfor %}{% endfor %}";
  expect_refused("\n" + loops, Code::kExhausted, "line 2: the template takes more than");
  expect_refused("{% macro m() %}{{ m() }}{% endmacro %}\n{{ m() }}", Code::kExhausted, "nested");
  expect_refused("{% macro m(f) %}{{ f(f) }}{% endmacro %}{{ m(m) }}", Code::kExhausted, "nested");
  expect_refused("{{ 'x' * 999999999999 }}", Code::kExhausted, "text of more than");
  expect_refused("{{ [1] * 999999999999 }}", Code::kExhausted, "memory");
  expect_refused(
      "{% set ns = namespace(s='xxxxxxxx') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
      Code::kExhausted, "text of more than");
  expect_refused(
      "{% set ns = namespace(s='xxxxxxxx') %}{% for i in range(60) %}{% set ns.s = ns.s.replace('x', ns.s) %}{% endfor "
      "%}",
      Code::kExhausted, "text of more than");
  expect_refused("{% set ns = namespace(l=[1]) %}{% for i in range(60) %}{% set ns.l = ns.l + ns.l %}{% endfor %}",
                 Code::kExhausted, "more than");
  expect_refused(
      "{% set ns = namespace(l=[]) %}{% for i in range(9999) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l }}",
      Code::kExhausted, "nested");
  expect_refused(
      "{% set ns = namespace(l=[]) %}{% for i in range(9999) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l == [ns.l] }}",
      Code::kExhausted, "nested");
  expect_refused("{% set ns = namespace() %}{% set ns.n = ns %}{{ ns }}", Code::kExhausted, "nested");
  RenderOptions small;
  small.limits.steps = 100;
  expect_refused("{% for x in range(60) %}{{ x }}{% endfor %}", Code::kExhausted, "100 steps", small);
  small.limits = {.memory_bytes = 1000};
  expect_refused("{% set a = range(60)|list %}", Code::kExhausted, "1000 bytes of memory", small);
}

TEST(Jinja, DeepSourcesAreRefused) {
  const auto repeated = [](const std::string& s, int n) {
    std::string out;
    for (int i = 0; i < n; ++i) out += s;
    return out;
  };
  for (const std::string& source : {"{{ " + repeated("(", 900) + "1" + repeated(")", 900) + " }}",
                                    "{{ " + repeated("[", 5000) + " }}", "{{ " + repeated("-", 5000) + "1 }}",
                                    "{{ " + repeated("not ", 5000) + "1 }}", "{{ 1" + repeated(" + 1", 5000) + " }}",
                                    "{{ x" + repeated(".x", 5000) + " }}", "{{ x" + repeated("|e", 5000) + " }}",
                                    repeated("{% if 1 %}", 5000), "{{ 1" + repeated(" if 1 else 1", 5000) + " }}"}) {
    expect_refused(source, Code::kCorrupt, "line 1: ");
  }
}

TEST(Jinja, WhatIsUnknownIsNamedWithItsLine) {
  expect_refused("\n{{ 1|shout }}", Code::kUnsupported, "line 2: there is no filter 'shout'");
  expect_refused("\n\n{{ 1 is big }}", Code::kUnsupported, "line 3: there is no test 'big'");
  expect_refused("{% if true %}\n{{ 1|shout }}{% endif %}", Code::kUnsupported, "line 2: there is no filter 'shout'");
  expect_refused("{{ [1]|map('shout')|list }}", Code::kUnsupported, "there is no filter 'shout'");
  expect_refused("a\n{% include 'x' %}", Code::kUnsupported, "line 2: the tag 'include' is not supported");
  expect_refused("a\n{% shout %}", Code::kCorrupt, "line 2: there is no tag 'shout' here");
  expect_refused("{{ 'a'.encode() }}", Code::kUnsupported, "the method encode() of strings is not supported");
  expect_refused("{{ lipsum() }}", Code::kUnsupported, "the function lipsum() is not supported");
  expect_refused("{{ 'a'|pprint }}", Code::kUnsupported, "pprint");
  expect_refused("{{ shout() }}", Code::kInvalidArgument, "line 1: 'shout' is undefined");
}

TEST(Jinja, IntegersDoNotWrap) {
  for (const char* expression :
       {"9223372036854775807 + 1", "9223372036854775807 * 2", "-9223372036854775807 - 2", "2 ** 63",
        "9223372036854775808", "(-9223372036854775807 - 1) // -1", "-(-9223372036854775807 - 1)",
        "'9223372036854775808'|int", "1e30|int", "(-9223372036854775807 - 1)|abs"}) {
    const auto text = render(std::string("{{ ") + expression + " }}");
    ASSERT_FALSE(text.ok()) << expression << " gives " << text->bytes();
    EXPECT_NE(text.status().message().find("64 bits"), std::string::npos) << text.status().message();
  }
}

TEST(Jinja, TemplatesSpeakForThemselves) {
  const auto text = render("\n{{ raise_exception('No\nsystem role') }}");
  ASSERT_FALSE(text.ok());
  EXPECT_EQ(text.status().message(), "No system role (line 2)");
  EXPECT_EQ(text.status().code(), Code::kInvalidArgument);
}

TEST(Jinja, BytesThatAreNotUtf8Pass) {
  const auto text = render("\xff{{ '\xfe\xc3' }}{{ '\xc3'|upper|reverse }}{{ ['\xff'] }}{{ '\xff\xfe'|length }}");
  ASSERT_TRUE(text.ok()) << text.status().message();
  EXPECT_EQ(text->bytes(), "\xff\xfe\xc3\xc3['\\udcff']2");
}

}  // namespace
}  // namespace decant::jinja
