// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "hub/name.h"

#include <algorithm>

namespace decant {
namespace {

bool is_alphanumeric(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

bool is_name_character(char c) { return is_alphanumeric(c) || c == '.' || c == '_' || c == '-'; }

// A hub allows 96 characters.
bool is_name_part(std::string_view part) {
  return !part.empty() && part.size() <= 96 && part[0] != '.' && part[0] != '-' &&
         std::all_of(part.begin(), part.end(), is_name_character) && part.find("..") == std::string_view::npos;
}

bool has_control_character(std::string_view text) {
  return std::any_of(text.begin(), text.end(),
                     [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
}

struct Parts {
  std::string_view owner, name, revision, file;
  bool has_revision = false, has_file = false;
};

Parts split(std::string_view text) {
  Parts parts;
  if (const size_t colon = text.find(':'); colon != std::string_view::npos) {
    parts.has_file = true;
    parts.file = text.substr(colon + 1);
    text = text.substr(0, colon);
  }
  if (const size_t at = text.find('@'); at != std::string_view::npos) {
    parts.has_revision = true;
    parts.revision = text.substr(at + 1);
    text = text.substr(0, at);
  }
  const size_t slash = std::min(text.find('/'), text.size());
  parts.owner = text.substr(0, slash);
  parts.name = slash < text.size() ? text.substr(slash + 1) : std::string_view();
  return parts;
}

}  // namespace

bool is_hub_name(std::string_view text) {
  const Parts parts = split(text);
  return is_name_part(parts.owner) && is_name_part(parts.name);
}

Result<HubName> parse_hub_name(std::string_view text) {
  const Parts parts = split(text);
  if (!is_name_part(parts.owner) || !is_name_part(parts.name)) {
    return Status::invalid_argument(
        "expected OWNER/NAME[@REVISION][:FILE] of letters, digits, '.', '_' and '-', got '{}'", text);
  }
  if (parts.has_revision) DECANT_TRY_STATUS(check_revision(parts.revision));
  if (parts.has_file && !check_repository_path(parts.file).ok()) {
    return Status::invalid_argument(
        "the file of {}/{} is to be a path in the repository or a quantization such as Q4_K_M, got '{}'", parts.owner,
        parts.name, parts.file);
  }
  return HubName{std::string(parts.owner), std::string(parts.name), std::string(parts.revision),
                 std::string(parts.file)};
}

Status check_revision(std::string_view revision) {
  const bool fine =
      std::all_of(revision.begin(), revision.end(), [](char c) { return is_name_character(c) || c == '/'; });
  if (!fine || revision.size() > 200 || !check_repository_path(revision).ok()) {
    return Status::invalid_argument("expected a branch, tag or commit such as main or v1.0, got '{}'", revision);
  }
  return {};
}

Status check_repository_path(std::string_view path) {
  if (path.empty()) return Status::corrupt("an empty path");
  if (has_control_character(path)) return Status::corrupt("a path with control characters");
  if (path.size() > 1000) return Status::corrupt("a path of {} bytes", path.size());
  if (path.find('\\') != std::string_view::npos) return Status::corrupt("the path '{}' with a backslash", path);
  for (size_t begin = 0; begin <= path.size();) {
    const size_t end = std::min(path.find('/', begin), path.size());
    const std::string_view part = path.substr(begin, end - begin);
    if (part.empty() || part == "." || part == "..") {
      return Status::corrupt("the path '{}', which may lead out of the model's folder", path);
    }
    // Room for ".part.json" in the 255 bytes that file systems give a name.
    if (part.size() > 240) return Status::corrupt("a path with a name of {} bytes", part.size());
    begin = end + 1;
  }
  return {};
}

bool is_commit(std::string_view text) {
  return text.size() == 40 &&
         std::all_of(text.begin(), text.end(), [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

std::string escape_url(std::string_view text, bool keep_slashes) {
  std::string out;
  for (const char c : text) {
    if (is_name_character(c) || c == '~' || (keep_slashes && c == '/')) {
      out += c;
    } else {
      out += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
  }
  return out;
}

Result<std::string> check_hub_address(std::string_view address) {
  const auto wrong = [&] {
    return Status::invalid_argument("expected a hub's address such as https://huggingface.co, got '{}'", address);
  };
  const size_t scheme = address.find("://");
  if (scheme == std::string_view::npos) return wrong();
  const std::string_view name = address.substr(0, scheme);
  std::string_view rest = address.substr(scheme + 3);
  if (name != "http" && name != "https") return wrong();
  while (!rest.empty() && rest.back() == '/') rest.remove_suffix(1);
  const std::string_view host = rest.substr(0, rest.find('/'));
  const bool is_plain = std::all_of(rest.begin(), rest.end(), [](char c) {
    return is_name_character(c) || c == '~' || c == '/' || c == ':' || c == '[' || c == ']' || c == '%';
  });
  if (!is_plain || host.empty() || host[0] == ':') return wrong();
  return std::string(name) + "://" + std::string(rest);
}

}  // namespace decant
