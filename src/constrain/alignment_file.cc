// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Little-endian, without padding: "dcntalgn", version (u32), 0 (u32), FNV-1a of all that follows (u64); the number of
// key fields (u32), each name and value as length (u32) and bytes; attempts and accepted texts (u64); the number of
// nodes (u64), and of each token (i32), parent (u32), unvisited legal tokens (u32), 1 where they are known (u32), log
// P, the unvisited mass in two parts, P of the end (f64). A parent comes before its children. Bounds are not in the
// file.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/bytes.h"
#include "base/hash.h"
#include "base/mapped_file.h"
#include "base/printable.h"
#include "constrain/alignment.h"

namespace decant {
namespace {

constexpr std::string_view kMagic = "dcntalgn";
constexpr uint32_t kVersion = 1;
constexpr size_t kHeader = 8 + 4 + 4 + 8;
constexpr size_t kNodeBytes = 4 * 4 + 4 * 8;
constexpr uint32_t kMaxFields = 64;
constexpr double kSlack = 1e-9;  // sums of probabilities may exceed 1 by rounding

class Reader {
 public:
  Reader(std::span<const uint8_t> bytes, const std::string& name) : bytes_(bytes), name_(name) {}

  template <typename T>
  Result<T> get(std::string_view what) {
    DECANT_TRY(const std::span<const uint8_t> part, take(sizeof(T), what));
    T value;
    std::memcpy(&value, part.data(), sizeof(T));
    return value;
  }

  Result<std::string> text(std::string_view what) {
    DECANT_TRY(const uint32_t size, get<uint32_t>(what));
    DECANT_TRY(const std::span<const uint8_t> part, take(size, what));
    return std::string(reinterpret_cast<const char*>(part.data()), part.size());
  }

  size_t left() const { return bytes_.size(); }
  std::span<const uint8_t> rest() const { return bytes_; }

 private:
  Result<std::span<const uint8_t>> take(size_t size, std::string_view what) {
    if (size > bytes_.size()) return Status::corrupt("{}: ends within {}; delete it and begin anew", name_, what);
    const auto part = bytes_.first(size);
    bytes_ = bytes_.subspan(size);
    return part;
  }

  std::span<const uint8_t> bytes_;
  const std::string& name_;
};

Status check_key(const std::string& name, const AlignmentKey& want, const AlignmentKey& found) {
  for (const auto& [field, value] : want.fields) {
    const auto same = [&, f = &field](const auto& other) { return other.first == *f; };
    const auto other = std::find_if(found.fields.begin(), found.fields.end(), same);
    if (other != found.fields.end() && other->second == value) continue;
    return Status::invalid_argument("{}: made for another {}{}; name another file or delete this one", name, field,
                                    other == found.fields.end() || value.size() > 100 || other->second.size() > 100
                                        ? ""
                                        : fmt::format(" ({}, not {})", printable(other->second), printable(value)));
  }
  if (found.fields.size() != want.fields.size()) {
    return Status::invalid_argument("{}: made with other settings than these; name another file", name);
  }
  return {};
}

}  // namespace

std::string AlignmentTrie::serialize(const AlignmentKey& key) const {
  std::string body;
  append_value(&body, static_cast<uint32_t>(key.fields.size()));
  for (const auto& [field, value] : key.fields) {
    for (const std::string& text : {field, value}) {
      append_value(&body, static_cast<uint32_t>(text.size()));
      body += text;
    }
  }
  append_value(&body, attempts_);
  append_value(&body, accepted_);
  append_value(&body, static_cast<uint64_t>(nodes_.size()));
  body.reserve(body.size() + nodes_.size() * kNodeBytes);
  for (const Node& n : nodes_) {
    append_value(&body, n.token);
    append_value(&body, n.parent);
    append_value(&body, n.unvisited_count);
    append_value(&body, uint32_t{n.expanded});
    append_value(&body, n.log_p);
    append_value(&body, n.unvisited_high);
    append_value(&body, n.unvisited_low);
    append_value(&body, n.end);
  }
  std::string out(kMagic);
  append_value(&out, kVersion);
  append_value(&out, uint32_t{0});
  append_value(&out, fnv1a(body));
  return out + body;
}

Status AlignmentTrie::save(const std::string& path, const AlignmentKey& key) const {
  DECANT_TRY(AtomicFile file, AtomicFile::create(path));
  DECANT_TRY_STATUS(file.write(bytes_of(serialize(key))));
  return file.commit();
}

Result<AlignmentTrie> AlignmentTrie::load(const std::string& path, const AlignmentKey& key, int vocab_size,
                                          size_t max_nodes) {
  DECANT_TRY(const MappedFile file, MappedFile::open(path));
  return parse(file.bytes(), path, key, vocab_size, max_nodes);
}

Result<AlignmentTrie> AlignmentTrie::parse(std::span<const uint8_t> bytes, const std::string& name,
                                           const AlignmentKey& key, int vocab_size, size_t max_nodes) {
  if (bytes.size() < kHeader || std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) != 0) {
    return Status::corrupt("{}: no alignment trie (it has to begin with \"{}\")", name, kMagic);
  }
  Reader reader(bytes.subspan(kMagic.size()), name);
  DECANT_TRY(const uint32_t version, reader.get<uint32_t>("the version"));
  if (version != kVersion) {
    return Status::unsupported("{}: version {} of the format; this program reads version {}", name, version, kVersion);
  }
  DECANT_TRY(const uint32_t reserved, reader.get<uint32_t>("the header"));
  DECANT_TRY(const uint64_t checksum, reader.get<uint64_t>("the checksum"));
  if (reserved != 0 || checksum != fnv1a(reader.rest())) {
    return Status::corrupt("{}: the checksum is wrong; delete it and begin anew", name);
  }
  AlignmentKey found;
  DECANT_TRY(const uint32_t fields, reader.get<uint32_t>("the key"));
  if (fields > kMaxFields) return Status::corrupt("{}: a key of {} fields", name, fields);
  for (uint32_t i = 0; i < fields; ++i) {
    DECANT_TRY(std::string field, reader.text("the key"));
    DECANT_TRY(std::string value, reader.text("the key"));
    found.fields.emplace_back(std::move(field), std::move(value));
  }
  DECANT_TRY_STATUS(check_key(name, key, found));

  AlignmentTrie trie(max_nodes);
  DECANT_TRY(trie.attempts_, reader.get<int64_t>("the counts"));
  DECANT_TRY(trie.accepted_, reader.get<int64_t>("the counts"));
  if (trie.accepted_ < 0 || trie.accepted_ > trie.attempts_) {
    return Status::corrupt("{}: {} of {} texts accepted", name, trie.accepted_, trie.attempts_);
  }
  DECANT_TRY(const uint64_t count, reader.get<uint64_t>("the number of nodes"));
  if (count == 0 || count > kNone || reader.left() / kNodeBytes != count || reader.left() % kNodeBytes != 0) {
    return Status::corrupt("{}: {} nodes announced, {} bytes of them", name, count, reader.left());
  }
  if (count > max_nodes) return Status::exhausted("{}: {} nodes; at most {} are held", name, count, max_nodes);
  trie.nodes_.resize(count);
  std::vector<std::pair<NodeId, TokenId>> edges;
  std::vector<double> sums(count);
  edges.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    Node& n = trie.nodes_[i];
    DECANT_TRY(n.token, reader.get<int32_t>("a node"));
    DECANT_TRY(n.parent, reader.get<uint32_t>("a node"));
    DECANT_TRY(n.unvisited_count, reader.get<uint32_t>("a node"));
    DECANT_TRY(const uint32_t expanded, reader.get<uint32_t>("a node"));
    DECANT_TRY(n.log_p, reader.get<double>("a node"));
    DECANT_TRY(n.unvisited_high, reader.get<double>("a node"));
    DECANT_TRY(n.unvisited_low, reader.get<double>("a node"));
    DECANT_TRY(n.end, reader.get<double>("a node"));
    n.expanded = expanded != 0;
    const bool is_root = i == 0;
    const bool fits = is_root ? n.parent == kNone && n.token == -1 && n.log_p == 0
                              : n.parent < i && trie.nodes_[n.parent].expanded && n.token >= 0 &&
                                    n.token < vocab_size && n.log_p <= kSlack && std::isfinite(n.log_p);
    const bool sound = expanded <= 1 && n.unvisited_count <= static_cast<uint32_t>(vocab_size) &&
                       n.unvisited_high >= 0 && n.unvisited_high <= 1 + kSlack &&
                       std::abs(n.unvisited_low) <= n.unvisited_high * 0x1p-50 && n.end >= 0 && n.end <= 1 + kSlack &&
                       (n.unvisited_count > 0) == (n.unvisited_high > 0) &&
                       (n.expanded || (n.unvisited_count == 0 && n.end == 0));
    if (!fits || !sound) return Status::corrupt("{}: node {} is not valid", name, i);
    sums[i] = n.unvisited_high + n.end;
    if (is_root) continue;
    sums[n.parent] += std::exp(n.log_p);
    edges.emplace_back(n.parent, n.token);
    trie.link(static_cast<NodeId>(i));
  }
  std::sort(edges.begin(), edges.end());
  if (std::adjacent_find(edges.begin(), edges.end()) != edges.end()) {
    return Status::corrupt("{}: a token follows one prefix twice", name);
  }
  for (size_t i = count; i-- > 0;) {
    if (sums[i] > 1 + kSlack) return Status::corrupt("{}: node {} has probabilities of {} together", name, i, sums[i]);
    trie.update(static_cast<NodeId>(i));
  }
  return trie;
}

}  // namespace decant
