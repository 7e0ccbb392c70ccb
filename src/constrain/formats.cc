// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// The formats of JSON Schema's specification as regular expressions, from the grammars of the documents that define
// them.
#include <fmt/format.h>

#include <map>
#include <string>

#include "constrain/regex_format.h"
#include "constrain/schema.h"

namespace decant {
namespace {

// RFC 3339. A leap second is the last of a day in UTC, and is taken when it is written so, not at another place's
// clock.
const std::string kDate =
    "(?:[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1["
    "0-9]|2[0-8]))"
    "|(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29)";

std::string time_pattern() {
  const std::string fraction = "(?:\\.[0-9]+)?", hour = "(?:[01][0-9]|2[0-3])", minute = "[0-5][0-9]";
  const std::string plain = hour + ":" + minute + ":" + minute + fraction + "(?:[Zz]|[+-]" + hour + ":" + minute + ")";
  const std::string leap = "23:59:60" + fraction + "(?:[Zz]|[+-]00:00)";
  return "(?:" + plain + "|" + leap + ")";
}

const std::string kIpv4 =
    "(?:(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])\\.){3}(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])";

std::string ipv6_pattern() {
  const std::string h = "[0-9A-Fa-f]{1,4}", last = "(?:" + h + ":" + h + "|" + kIpv4 + ")";
  std::string pattern = "(?:(?:" + h + ":){6}" + last + "|::(?:" + h + ":){5}" + last;
  for (int before = 0; before <= 4; ++before) {
    // `before` + 1 groups at most, "::", and 4 - before more in front of the last 32 bits.
    const std::string head = before == 0 ? "(?:" + h + ")?" : fmt::format("(?:(?:{0}:){{0,{1}}}{0})?", h, before);
    pattern += "|" + head + "::" + (before < 4 ? fmt::format("(?:{}:){{{}}}", h, 4 - before) : "") + last;
  }
  pattern += fmt::format("|(?:(?:{0}:){{0,5}}{0})?::{0}|(?:(?:{0}:){{0,6}}{0})?::)", h);
  return pattern;
}

const std::string kHostname =
    "(?=.{1,253}$)[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?(?:\\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*";

// A label whose third and fourth characters are no two hyphens: those are for encoded labels.
std::string label_pattern(const std::string& letters, int max_length) {
  const std::string l = "[" + letters + "]", c = "[" + letters + "\\-]";
  return fmt::format("{0}(?:{0}|{1}{0}|{1}{1}{0}|{1}(?:{0}{1}|-{0}){1}{{0,{2}}}{0})?", l, c, max_length - 5);
}

// RFC 5890, without what no regular expression decides: how long a label becomes when it is encoded (labels beyond
// ASCII are short enough in any case), which combinations are in normal form, and what stands beside what. So the
// characters beyond ASCII are lower-case letters and syllables that are valid wherever they stand and are never
// composed.
std::string idn_hostname_pattern() {
  std::string letters =
      "a-z0-9\\u00DF-\\u00F6\\u00F8-\\u00FF\\u03AC-\\u03CE\\u0430-\\u045F\\u0561-\\u0586\\u10D0-\\u10FA\\u3005"
      "\\u3007\\u3041-\\u3096\\u30A1-\\u30FA\\u30FC-\\u30FE\\u3400-\\u4DBF\\u4E00-\\u9FFF\\uAC00-\\uD7A3";
  // Latin Extended-A in pairs of cases, without ligatures and letters that stand for two.
  for (int c = 0x101; c <= 0x17E; ++c) {
    const bool is_lower = c <= 0x137   ? c % 2 == 1
                          : c <= 0x148 ? c % 2 == 0
                          : c <= 0x177 ? c % 2 == 1
                                       : c > 0x179 && c % 2 == 0;
    if (is_lower && c != 0x133 && c != 0x140 && c != 0x149) letters += fmt::format("\\u{:04X}", c);
  }
  const std::string plain = label_pattern("A-Za-z0-9", 63), own = label_pattern(letters, 14);
  return fmt::format("(?:(?=.{{1,253}}$){0}(?:\\.{0})*|(?=.{{1,45}}$){1}(?:[.\\u3002\\uFF0E\\uFF61]{1})*)", plain, own);
}

// RFC 3986, or with characters beyond ASCII RFC 3987.
struct UriPatterns {
  std::string uri, reference;
};
UriPatterns uri_patterns(bool international) {
  const std::string more = international ? "\\u00A0-\\uD7FF\\uF900-\\uFDCF\\uFDF0-\\uFFEF\\u{10000}-\\u{1FFFD}\\u{"
                                           "20000}-\\u{2FFFD}\\u{30000}-\\u{3FFFD}\\u{E1000}-\\u{EFFFD}"
                                         : "";
  const std::string priv = international ? "\\uE000-\\uF8FF\\u{F0000}-\\u{FFFFD}\\u{100000}-\\u{10FFFD}" : "";
  const std::string unreserved = "A-Za-z0-9._~" + more, sub = "!$&'()*+,;=", escape = "%[0-9A-Fa-f]{2}";
  const std::string pchar = "(?:[" + unreserved + sub + ":@\\-]|" + escape + ")";
  const std::string segment_no_colon = "(?:[" + unreserved + sub + "@\\-]|" + escape + ")+";
  const std::string host = "(?:\\[(?:" + ipv6_pattern() + "|[Vv][0-9A-Fa-f]+\\.[" + "A-Za-z0-9._~" + sub +
                           ":\\-]+)\\]|(?:[" + unreserved + sub + "\\-]|" + escape + ")*)";
  const std::string authority = "(?:(?:[" + unreserved + sub + ":\\-]|" + escape + ")*@)?" + host + "(?::[0-9]*)?";
  const std::string abempty = "(?:/" + pchar + "*)*", absolute = "/(?:" + pchar + "+(?:/" + pchar + "*)*)?";
  const std::string rootless = pchar + "+(?:/" + pchar + "*)*", noscheme = segment_no_colon + "(?:/" + pchar + "*)*";
  const std::string query = "(?:\\?(?:" + pchar + "|[/?" + priv + "])*)?", fragment = "(?:#(?:" + pchar + "|[/?])*)?";
  const std::string scheme = "[A-Za-z][A-Za-z0-9+.\\-]*:";
  const std::string uri =
      scheme + "(?://" + authority + abempty + "|" + absolute + "|" + rootless + "|)" + query + fragment;
  const std::string relative =
      "(?://" + authority + abempty + "|" + absolute + "|" + noscheme + "|)" + query + fragment;
  return {.uri = uri, .reference = "(?:" + uri + "|" + relative + ")"};
}

// RFC 5321's mailbox; RFC 6531 adds characters beyond ASCII.
std::string email_pattern(bool international) {
  const std::string more = international ? "\\u0080-\\u{10FFFF}" : "";
  const std::string atom = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~" + more + "\\-]+";
  const std::string label =
      international
          ? "[A-Za-z0-9\\u0080-\\u{10FFFF}](?:[A-Za-z0-9\\u0080-\\u{10FFFF}\\-]*[A-Za-z0-9\\u0080-\\u{10FFFF}])?"
          : "[A-Za-z0-9](?:[A-Za-z0-9\\-]*[A-Za-z0-9])?";
  const std::string quoted = "\"(?:[ !#-\\[\\]-~" + more + "]|\\\\[ -~])*\"";
  return "(?:" + atom + "(?:\\." + atom + ")*|" + quoted + ")@(?:" + label + "(?:\\." + label + ")*|\\[(?:" + kIpv4 +
         "|IPv6:" + ipv6_pattern() + ")\\])";
}

// RFC 6570.
std::string uri_template_pattern() {
  const std::string name = "(?:[A-Za-z0-9_]|%[0-9A-Fa-f]{2})(?:\\.?(?:[A-Za-z0-9_]|%[0-9A-Fa-f]{2}))*";
  const std::string spec = name + "(?::[1-9][0-9]{0,3}|\\*)?";
  return "(?:[^\\u0000-\\u0020\"'%<>\\\\^`{|}\\u007F-\\u009F]|%[0-9A-Fa-f]{2}|\\{[+#./;?&=,!@|]?" + spec + "(?:," +
         spec + ")*\\})*";
}

const std::map<std::string, std::string, std::less<>>& patterns() {
  static const std::map<std::string, std::string, std::less<>> all = [] {
    const std::string time = time_pattern(), pointer = "(?:/(?:[^/~]|~[01])*)*";
    const UriPatterns uri = uri_patterns(false), iri = uri_patterns(true);
    const std::string duration_time = "T(?:[0-9]+H(?:[0-9]+M(?:[0-9]+S)?)?|[0-9]+M(?:[0-9]+S)?|[0-9]+S)";
    return std::map<std::string, std::string, std::less<>>{
        {"date", kDate},
        {"time", time},
        {"date-time", kDate + "[Tt]" + time},
        {"duration", "P(?:[0-9]+W|(?:[0-9]+Y(?:[0-9]+M(?:[0-9]+D)?)?|[0-9]+M(?:[0-9]+D)?|[0-9]+D)(?:" + duration_time +
                         ")?|" + duration_time + ")"},
        {"email", email_pattern(false)},
        {"idn-email", email_pattern(true)},
        {"hostname", kHostname},
        {"idn-hostname", idn_hostname_pattern()},
        {"ipv4", kIpv4},
        {"ipv6", ipv6_pattern()},
        {"uri", uri.uri},
        {"uri-reference", uri.reference},
        {"iri", iri.uri},
        {"iri-reference", iri.reference},
        {"uuid", "[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}"},
        {"uri-template", uri_template_pattern()},
        {"json-pointer", pointer},
        {"relative-json-pointer", "(?:0|[1-9][0-9]*)(?:#|" + pointer + ")"},
    };
  }();
  return all;
}

}  // namespace

std::optional<RegexId> format_language(std::string_view format, RegexPool* pool) {
  if (format == "regex") return regex_format(pool);
  const auto it = patterns().find(format);
  if (it == patterns().end()) return std::nullopt;
  const Result<RegexId> id = parse_regex(it->second, RegexDialect::kFull, pool);
  DECANT_CHECK(id.ok());
  return *id;
}

}  // namespace decant
