// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "constrain/uri.h"

#include <algorithm>
#include <optional>
#include <vector>

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

// As above for a path that begins nowhere.
std::string without_dots_relative(std::string_view path) {
  std::vector<std::string_view> parts;
  bool is_folder = false;
  while (true) {
    const size_t end = path.find('/');
    const std::string_view part = path.substr(0, end);
    is_folder = part == "." || part == "..";
    if (part == ".." && !parts.empty() && parts.back() != "..") {
      parts.pop_back();
    } else if (part != ".") {
      parts.push_back(part);
    }
    if (end == std::string_view::npos) break;
    path.remove_prefix(end + 1);
  }
  std::string out;
  for (const std::string_view part : parts) out += (out.empty() ? "" : "/") + std::string(part);
  return is_folder && !out.empty() ? out + "/" : out;
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
      const std::string path = base.path.substr(0, base.path.rfind('/') + 1) + r.path;
      const bool is_relative = !base.scheme && !base.authority && !path.starts_with('/');
      out.path = is_relative ? without_dots_relative(path) : without_dots(path);
    }
    out.query = r.query;
  }
  return join(out);
}

void split_fragment(std::string* uri, std::string* fragment) {
  fragment->clear();
  const size_t at = uri->find('#');
  if (at == std::string::npos) return;
  *fragment = percent_decoded(std::string_view(*uri).substr(at + 1));
  uri->resize(at);
}

std::string percent_decoded(std::string_view text) {
  const auto digit = [](char c) {
    if (c >= '0' && c <= '9') return c - '0';
    const char lower = static_cast<char>(c | 32);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
  };
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size() && digit(text[i + 1]) >= 0 && digit(text[i + 2]) >= 0) {
      out += static_cast<char>(digit(text[i + 1]) * 16 + digit(text[i + 2]));
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

}  // namespace decant
