// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "constrain/schema.h"
#include "text/unicode.h"

namespace decant {
namespace {

bool has(std::string_view format, std::string_view text) {
  RegexPool pool;
  const auto id = format_language(format, &pool);
  if (!id) {
    ADD_FAILURE() << format;
    return false;
  }
  pool.freeze();
  RegexId at = *id;
  for (size_t i = 0; i < text.size();) {
    const Utf8Char c = decode_utf8(text.substr(i));
    at = pool.derive(at, pool.class_of(c.code));
    i += c.size;
  }
  return pool.nullable(at);
}

struct Case {
  const char* format;
  std::vector<const char*> in, out;
};

TEST(Formats, AreThoseOfTheSpecification) {
  const Case cases[] = {
      {"date",
       {"2024-02-29", "2000-02-29", "1999-12-31"},
       {"2023-02-29", "1900-02-29", "2024-04-31", "2024-13-01", "24-01-01", "2024-1-1"}},
      {"time",
       {"12:00:00Z", "23:59:60Z", "01:02:03.456+05:30", "23:59:60+00:00"},
       {"24:00:00Z", "12:60:00Z", "22:59:60Z", "12:00:00", "12:00Z"}},
      {"date-time",
       {"1963-06-19T08:30:06.283185Z", "1990-12-31t15:59:59-08:00"},
       {"1963-06-19 08:30:06Z", "2013-350T01:01:01Z", "1998-12-31T23:59:60.123+24:00"}},
      {"duration",
       {"P4DT12H30M5S", "P1Y", "PT1M", "P2W", "P1Y2M3DT4H"},
       {"P", "PT", "P1YT", "P1D2H", "1Y", "P1Y2W", "P2S", "P1Y2D"}},
      {"email",
       {"joe.bloggs@example.com", "te~st@example.com", "\"joe bloggs\"@example.com", "joe@[127.0.0.1]",
        "joe@[IPv6:::1]"},
       {"2962", ".test@example.com", "te..st@example.com", "joe@", "joe@-example.com", "joe@[300.0.0.1]"}},
      {"hostname",
       {"www.example.com", "a", "xn--4gbwdl.xn--wgbh1c", "1host"},
       {"-a", "a-", "a_b", "a..b", "", "example.com."}},
      {"idn-hostname",
       {"www.example.com", "xn", "실례.테스트", "bücher.example", "例え.テスト", "παράδειγμα.δοκιμή", "a-b", "ab-c-d",
        "ça-va.fr", "пример", "例え。テスト"},
       {"-a", "ä-", "a--b-", "ab--cd", "xn--zz", "Ä", "BÜcher", "a..b", "", "a_b", "l·l", "〮례", "ŉ", "ａ", "é.",
        "ääääääääääääääää"}},
      {"ipv4", {"192.168.0.1", "0.0.0.0"}, {"127.0.0.0.1", "256.1.1.1", "127.0", "087.10.0.1", "1.2.3.4 "}},
      {"ipv6",
       {"::1", "::", "1:2:3:4:5:6:7:8", "::abef", "1::d6:192.168.0.1", "1:2:3:4:5:6:192.168.0.1",
        "1:2:3:4:5:6:7::", "::2:3:4:5:6:7:8"},
       {"12345::", "::laptop", "1:2:3:4:5:6:7", "1::2::3", ":2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8:9", "::1%eth0",
        "1:2:3:4:1.2.3", "1:2:3:4:5:::8"}},
      {"uri",
       {"http://foo.bar/?baz=qux#quux", "urn:oasis:names", "http://[2001:db8::7]/c=GB?o", "mailto:a@b.c",
        "http://user:pw@h:80/"},
       {"//foo.bar", "/abc", "\\\\share", "http:// spaces", "bar,,:baz", "http://a b", "http://[::1", "a:%zz"}},
      {"uri-reference", {"/abc", "//foo/x", "#frag", "", "abc", "http://a/b"}, {"\\\\share", "#a\\b", "a b"}},
      {"iri", {"http://ƒøø.ßår/?∂éœ=πîx#πîüx"}, {"http://2001:0db8:85a3:0000:0000:8a2e:0370:7334", "âππ", "http:// ø"}},
      {"iri-reference", {"âππ", "/âππ", "#ƒrägmênt"}, {"#ƒräg\\mênt"}},
      {"uuid",
       {"2EB8AA08-aa98-11ea-b4aa-73b441d16380"},
       {"2eb8aa08aa9811eab4aa73b441d16380", "2eb8aa08-aa98-11ea-b4aa-73b441d1638"}},
      {"uri-template",
       {"http://example.com/d/{term:1}/{term}", "{+x,y*}", "plain"},
       {"http://example.com/{term:1}/{term", "{}", "a b"}},
      {"json-pointer", {"", "/foo/bar~0/baz~1/%a", "/"}, {"foo", "/~", "/~2", "#/"}},
      {"relative-json-pointer", {"1", "0/foo", "2#", "10/a/b"}, {"/foo", "-1/foo", "01/a", "0##", ""}},
      {"regex",
       {"", "^a+$", "([abc])+\\s+$", "(a|(?:b|(c*)?)){2,3}?", "(?=a)(?!b)(?<=.)(?<![a-c]\\d)x", "[-a-z\\d_-]", "[^^]",
        "[$^]", "[\\u4e00-\\u9fa5]", "[\\x00-\\x1F]", "[a-\u00e9]", "[\\]\\\\]",
        "a{2}b{2,}c{9,9}d{10,11}e{99,100}f{120,999}", "\\.\\/\\bx\\B", "^\\s*(it|describe)\\(\\s*['\"]([^'\"]+)['\"]",
        "()|(|a)", "[-]", "((((((a))))))", "\u00e9"},
       {"(",      ")",     "a)",      "[",      "[z-a]",          "[\\x1F-\\x00]", "[\\u9fa5-\\u4e00]",
        "a**",    "*",     "+a",      "a{3,2}", "a{21,20}",       "{2}",           "^*",
        "(?=a)*", "\\",    "\\1",     "\\p{L}", "\\k<a>",         "(?<a>b)",       "(?P<a>b)",
        "(?i)a",  "(?#c)", "[\\d-a]", "[]",     "[]a]",           "(?<=a+)b",      "\\Z",
        "\\-",    "a]",    "\\u12",   "\\x1",   "(((((((a)))))))"}},
      {"idn-email", {"실례@실례.테스트", "joe@example.com"}, {"2962"}},
  };
  for (const Case& c : cases) {
    for (const char* text : c.in) EXPECT_TRUE(has(c.format, text)) << c.format << ": " << text;
    for (const char* text : c.out) EXPECT_FALSE(has(c.format, text)) << c.format << ": " << text;
  }
  RegexPool pool;
  EXPECT_EQ(format_language("color", &pool), std::nullopt);
}

}  // namespace
}  // namespace decant
