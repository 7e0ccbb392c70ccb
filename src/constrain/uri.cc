// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "constrain/uri.h"

#include <algorithm>
#include <optional>

namespace decant {
namespace {

struct Parts {
  std::optional<std::string> scheme, authority, query, fragment;
  std::string path;
};

Parts split(std::string_view uri) {
  Parts parts;
  if (const size_t at = uri.find('#'); at != std::string_view::npos) {
    parts.fragment = std::string(uri.substr(at + 1));
    uri = uri.substr(0, at);
  }
  if (const size_t at = uri.find('?'); at != std::string_view::npos) {
    parts.query = std::string(uri.substr(at + 1));
    uri = uri.substr(0, at);
  }
  const size_t colon = uri.find(':');
  if (colon != std::string_view::npos && colon > 0 && uri.find('/') > colon) {
    parts.scheme = std::string(uri.substr(0, colon));
    uri.remove_prefix(colon + 1);
  }
  if (uri.starts_with("//")) {
    const size_t end = std::min(uri.find('/', 2), uri.size());
    parts.authority = std::string(uri.substr(2, end - 2));
    uri.remove_prefix(end);
  }
  parts.path = std::string(uri);
  return parts;
}

std::string join(const Parts& parts) {
  std::string uri;
  if (parts.scheme) uri += *parts.scheme + ":";
  if (parts.authority) uri += "//" + *parts.authority;
  uri += parts.path;
  if (parts.query) uri += "?" + *parts.query;
  if (parts.fragment) uri += "#" + *parts.fragment;
  return uri;
}

std::string without_dots(std::string_view path) {
  std::string out;
  while (!path.empty()) {
    if (path.starts_with("../")) {
      path.remove_prefix(3);
    } else if (path.starts_with("./")) {
      path.remove_prefix(2);
    } else if (path.starts_with("/./")) {
      path.remove_prefix(2);
    } else if (path == "/.") {
      path = "/";
    } else if (path.starts_with("/../") || path == "/..") {
      path = path.size() > 3 ? path.substr(3) : "/";
      const size_t slash = out.rfind('/');
      out.resize(slash == std::string::npos ? 0 : slash);
    } else if (path == "." || path == "..") {
      path = {};
    } else {
      const size_t end = std::min(path.find('/', 1), path.size());
      out += path.substr(0, end);
      path.remove_prefix(end);
    }
  }
  return out;
}

}  // namespace

std::string resolve_uri(std::string_view base_text, std::string_view reference_text) {
  const Parts base = split(base_text);
  Parts r = split(reference_text);
  if (r.scheme) {
    r.path = r.path.starts_with('/') ? without_dots(r.path) : r.path;
    return join(r);
  }
  Parts out;
  out.scheme = base.scheme;
  out.fragment = r.fragment;
  if (r.authority) {
    out.authority = r.authority;
    out.path = without_dots(r.path);
    out.query = r.query;
    return join(out);
  }
  out.authority = base.authority;
  if (r.path.empty()) {
    out.path = base.path;
    out.query = r.query ? r.query : base.query;
  } else {
    if (r.path.starts_with('/')) {
      out.path = without_dots(r.path);
    } else if (base.authority && base.path.empty()) {
      out.path = without_dots("/" + r.path);
    } else {
      out.path = without_dots(base.path.substr(0, base.path.rfind('/') + 1) + r.path);
    }
    out.query = r.query;
  }
  return join(out);
}

void split_fragment(std::string* uri, std::string* fragment) {
  fragment->clear();
  const size_t at = uri->find('#');
  if (at == std::string::npos) return;
  const std::string raw = uri->substr(at + 1);
  uri->resize(at);
  const auto digit = [](char c) {
    if (c >= '0' && c <= '9') return c - '0';
    const char lower = static_cast<char>(c | 32);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
  };
  for (size_t i = 0; i < raw.size(); ++i) {
    if (raw[i] == '%' && i + 2 < raw.size() && digit(raw[i + 1]) >= 0 && digit(raw[i + 2]) >= 0) {
      *fragment += static_cast<char>(digit(raw[i + 1]) * 16 + digit(raw[i + 2]));
      i += 2;
    } else {
      *fragment += raw[i];
    }
  }
}

}  // namespace decant
