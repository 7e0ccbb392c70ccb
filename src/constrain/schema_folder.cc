// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "constrain/schema_folder.h"

#include <algorithm>
#include <filesystem>

#include "base/mapped_file.h"
#include "base/printable.h"
#include "constrain/json_tree.h"
#include "constrain/uri.h"

namespace decant {
namespace {

namespace fs = std::filesystem;

// The schema's own address up to its last slash; "" if it has none.
std::string base_of(const std::string& schema) {
  const Result<JsonNode> root = parse_json_tree(schema);
  if (!root.ok() || !root->is_object()) return "";
  const JsonNode* id = root->find("$id");
  if (id == nullptr) id = root->find("id");
  if (id == nullptr || !id->is_string()) return "";
  std::string address = id->text, fragment;
  split_fragment(&address, &fragment);
  return address.substr(0, address.rfind('/') + 1);
}

Result<std::string> read(const std::string& folder, const std::string& base, const std::string& address) {
  const bool is_own = !base.empty() && address.starts_with(base);
  const std::string path = percent_decoded(is_own ? std::string_view(address).substr(base.size()) : address);
  const size_t colon = address.find(':');
  if (!is_own && colon != std::string::npos && address.find('/') > colon) {
    return Status::not_found("\"{}\" is another document: only relative references{} are read, from {}",
                             printable(address), base.empty() ? "" : fmt::format(" and addresses below {}", base),
                             folder);
  }
  if (path.empty() || path.find('\0') != std::string::npos || path.find('\\') != std::string::npos)
    return Status::invalid_argument("\"{}\" names no file", printable(address));
  const auto outside = [&] {
    return Status::invalid_argument("\"{}\" leads out of the folder {}", printable(address), folder);
  };
  std::error_code error;
  const fs::path root = fs::canonical(folder.empty() ? "." : folder, error);
  if (error) return Status::not_found("{}: {}", folder, error.message());
  const fs::path plain = fs::path(path).lexically_normal();
  if (plain.is_absolute() || *plain.begin() == "..") return outside();
  const fs::path file = fs::canonical(root / plain, error);
  if (error) return Status::not_found("{}: {}", (fs::path(folder) / plain).string(), error.message());
  const auto [end, unused] = std::mismatch(root.begin(), root.end(), file.begin(), file.end());
  if (end != root.end()) return outside();
  return read_file(file.string());
}

}  // namespace

std::function<Result<std::string>(const std::string&)> schema_folder(std::string folder, std::string schema) {
  return [folder = std::move(folder), base = base_of(schema)](const std::string& address) {
    return read(folder, base, address);
  };
}

}  // namespace decant
