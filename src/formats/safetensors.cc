// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "formats/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "base/printable.h"
#include "base/strict_json.h"

namespace decant {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

static_assert(std::endian::native == std::endian::little, "lengths are read as they lie in memory");

constexpr uint64_t kMaxHeader = 100'000'000;  // the reference implementation's limit
constexpr size_t kMaxDepth = 8;               // of the header's JSON
constexpr size_t kMaxDimensions = 64;

struct DtypeName {
  std::string_view name;
  size_t bytes;
};
constexpr DtypeName kDtypes[] = {{"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E5M2", 1}, {"F8_E4M3", 1}, {"F8_E8M0", 1},
                                 {"I16", 2},  {"U16", 2}, {"F16", 2}, {"BF16", 2},    {"I32", 4},     {"U32", 4},
                                 {"F32", 4},  {"F64", 8}, {"I64", 8}, {"U64", 8},     {"C64", 8}};

// A whole number that fits in int64; nullopt for anything else.
std::optional<int64_t> whole(const json& value) {
  if (value.is_number_unsigned()) {
    const auto n = value.get<uint64_t>();
    return n <= INT64_MAX ? std::optional(static_cast<int64_t>(n)) : std::nullopt;
  }
  return value.is_number_integer() && value.get<int64_t>() >= 0 ? std::optional(value.get<int64_t>()) : std::nullopt;
}

std::optional<size_t> byte_size(std::string_view dtype, std::span<const int64_t> shape) {
  const std::optional<size_t> item = safetensors_item_bytes(dtype);
  if (!item) return std::nullopt;
  uint64_t size = *item;
  for (const int64_t dimension : shape) {
    if (dimension < 0 || __builtin_mul_overflow(size, static_cast<uint64_t>(dimension), &size)) return std::nullopt;
  }
  return size;
}

bool is_plain_name(std::string_view name) {
  return !name.empty() && name.size() <= 255 && name != "." && name != ".." &&
         name.find('/') == std::string_view::npos && name.find('\\') == std::string_view::npos &&
         name.find('\0') == std::string_view::npos;
}

}  // namespace

std::optional<size_t> safetensors_item_bytes(std::string_view dtype) {
  for (const DtypeName& d : kDtypes) {
    if (d.name == dtype) return d.bytes;
  }
  return std::nullopt;
}

Status SafetensorsFile::add_file(std::span<const uint8_t> bytes, const std::string& name) {
  if (bytes.size() < 8) {
    return Status::corrupt("{}: {} bytes; a safetensors file begins with a length of 8; download it again", name,
                           bytes.size());
  }
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof length);
  if (length > kMaxHeader || length > bytes.size() - 8) {
    return Status::corrupt(
        "{}: the header is said to take {} bytes, the file has {} (at most {} are possible); no "
        "safetensors file, or cut short: download it again",
        name, length, bytes.size(), kMaxHeader);
  }
  Result<json> parsed =
      parse_json_object({reinterpret_cast<const char*>(bytes.data()) + 8, static_cast<size_t>(length)}, kMaxDepth);
  if (!parsed.ok()) {
    return Status::corrupt("{}: header: {}; download it again", name, parsed.status().message());
  }
  const json header = std::move(parsed).value();
  const std::span<const uint8_t> data = bytes.subspan(8 + length);
  const size_t first = tensors_.size();
  for (const auto& [key, value] : header.items()) {
    if (key == "__metadata__") {
      if (!value.is_object()) return Status::corrupt("{}: __metadata__: expected an object", name);
      for (const auto& [k, v] : value.items()) {
        if (v.is_string()) metadata_[k] = v.get<std::string>();
      }
      continue;
    }
    SafetensorsTensor tensor;
    tensor.name = key;
    const auto corrupt = [&](const std::string& what) {
      return Status::corrupt("{}: tensor {}: {}; download it again", name, printable(tensor.name), what);
    };
    tensor.file_index = static_cast<int>(views_.size());
    if (!value.is_object()) return corrupt("expected an object with dtype, shape and data_offsets");
    const auto dtype = value.find("dtype"), shape = value.find("shape"), offsets = value.find("data_offsets");
    if (dtype == value.end() || !dtype->is_string()) return corrupt("dtype: expected a string");
    tensor.dtype = dtype->get<std::string>();
    if (!safetensors_item_bytes(tensor.dtype)) {
      return Status::unsupported("{}: tensor {}: dtype \"{}\" is not known", name, printable(key),
                                 printable(tensor.dtype));
    }
    if (shape == value.end() || !shape->is_array() || shape->size() > kMaxDimensions) {
      return corrupt("shape: expected a list of sizes");
    }
    for (const json& dimension : *shape) {
      const std::optional<int64_t> n = whole(dimension);
      if (!n) return corrupt("shape: expected a list of sizes");
      tensor.shape.push_back(*n);
    }
    if (offsets == value.end() || !offsets->is_array() || offsets->size() != 2 || !whole((*offsets)[0]) ||
        !whole((*offsets)[1])) {
      return corrupt("data_offsets: expected two offsets");
    }
    const auto begin = static_cast<uint64_t>(*whole((*offsets)[0])), end = static_cast<uint64_t>(*whole((*offsets)[1]));
    if (begin > end || end > data.size()) {
      return corrupt(fmt::format("data_offsets {} to {}: the file has {} bytes of data", begin, end, data.size()));
    }
    const std::optional<size_t> size = byte_size(tensor.dtype, tensor.shape);
    if (!size || *size != end - begin) {
      return corrupt(fmt::format("data_offsets {} to {} hold {} bytes, type and shape ask for {}", begin, end,
                                 end - begin, size ? std::to_string(*size) : "more than can be"));
    }
    tensor.data = data.subspan(begin, end - begin);
    if (index_.contains(key)) return corrupt("it is in two shards");
    index_.emplace(key, 0);  // its place follows
    tensors_.push_back(std::move(tensor));
  }
  const auto begin_of = [&](const SafetensorsTensor& t) { return static_cast<size_t>(t.data.data() - data.data()); };
  std::stable_sort(tensors_.begin() + static_cast<ptrdiff_t>(first), tensors_.end(),
                   [&](const SafetensorsTensor& a, const SafetensorsTensor& b) {
                     return std::pair(begin_of(a), a.data.size()) < std::pair(begin_of(b), b.data.size());
                   });
  size_t end = 0;
  for (size_t i = first; i < tensors_.size(); ++i) {
    const SafetensorsTensor& t = tensors_[i];
    if (begin_of(t) != end) {
      return Status::corrupt("{}: tensor {}: its data begins at {}, the tensor before ends at {}; download it again",
                             name, printable(t.name), begin_of(t), end);
    }
    end += t.data.size();
    index_[t.name] = i;
  }
  if (end != data.size()) {
    return Status::corrupt("{}: {} bytes of data belong to no tensor; download it again", name, data.size() - end);
  }
  views_.push_back(bytes);
  return {};
}

Result<SafetensorsFile> SafetensorsFile::parse(std::span<const uint8_t> bytes, std::string name) {
  SafetensorsFile file;
  file.path_ = std::move(name);
  DECANT_TRY_STATUS(file.add_file(bytes, file.path_));
  return file;
}

Status SafetensorsFile::open_sharded(const std::string& index_path) {
  DECANT_TRY(const std::string text, read_file(index_path));
  if (text.size() > kMaxHeader)
    return Status::corrupt("{}: {} bytes are too many for an index", index_path, text.size());
  Result<json> parsed = parse_json_object(text, kMaxDepth);
  if (!parsed.ok()) return Status::corrupt("{}: {}; download it again", index_path, parsed.status().message());
  const json index = std::move(parsed).value();
  const auto map = index.find("weight_map");
  if (map == index.end() || !map->is_object() || map->empty()) {
    return Status::corrupt("{}: weight_map: expected an object {{tensor: file}}", index_path);
  }
  std::set<std::string> shards;
  for (const auto& [tensor, shard] : map->items()) {
    if (!shard.is_string() || !is_plain_name(shard.get_ref<const std::string&>())) {
      return Status::corrupt("{}: weight_map: {}: expected the name of a file in the same folder", index_path,
                             printable(tensor));
    }
    shards.insert(shard.get<std::string>());
  }
  const std::string folder = fs::path(index_path).parent_path().string();
  std::map<std::string, int> number;
  for (const std::string& shard : shards) {
    const std::string path = folder.empty() ? shard : folder + "/" + shard;
    Result<MappedFile> mapped = MappedFile::open(path);
    if (!mapped.ok()) {
      return std::move(mapped).status().with_context(fmt::format("{} names a shard that cannot be read", index_path));
    }
    number[shard] = static_cast<int>(files_.size());
    files_.push_back(std::move(mapped).value());
    DECANT_TRY_STATUS(add_file(files_.back().bytes(), path));
  }
  for (const auto& [name, shard] : map->items()) {
    const SafetensorsTensor* tensor = find_tensor(name);
    if (tensor == nullptr || tensor->file_index != number[shard.get<std::string>()]) {
      return Status::not_found("{}: weight_map: tensor {} is not in {}; download both again", index_path,
                               printable(name), printable(shard.get<std::string>()));
    }
  }
  return {};
}

Result<SafetensorsFile> SafetensorsFile::open(const std::string& path) {
  std::error_code error;
  SafetensorsFile file;
  file.path_ = path;
  std::string target = path;
  if (fs::is_directory(path, error)) {
    target = path + "/model.safetensors";
    if (!fs::exists(target, error)) {
      target += ".index.json";
      if (!fs::exists(target, error)) {
        return Status::not_found("{}: neither model.safetensors nor model.safetensors.index.json is in this folder",
                                 path);
      }
    }
  }
  if (target.ends_with(".index.json")) {
    DECANT_TRY_STATUS(file.open_sharded(target));
    return file;
  }
  DECANT_TRY(MappedFile mapped, MappedFile::open(target));
  file.files_.push_back(std::move(mapped));
  DECANT_TRY_STATUS(file.add_file(file.files_.back().bytes(), target));
  return file;
}

const SafetensorsTensor* SafetensorsFile::find_tensor(std::string_view name) const {
  const auto it = index_.find(name);
  return it == index_.end() ? nullptr : &tensors_[it->second];
}

void SafetensorsFile::release(const SafetensorsTensor& tensor, size_t offset, size_t size) const {
  const auto index = static_cast<size_t>(tensor.file_index);
  if (index >= files_.size() || offset >= tensor.data.size()) return;
  files_[index].release(static_cast<size_t>(tensor.data.data() - views_[index].data()) + offset,
                        std::min(size, tensor.data.size() - offset));
}

Status SafetensorsWriter::add_tensor(std::string name, std::string dtype, std::vector<int64_t> shape,
                                     Producer produce) {
  const std::optional<size_t> bytes = byte_size(dtype, shape);
  if (!bytes) return Status::invalid_argument("tensor {}: type {} or its shape is not possible", name, dtype);
  for (const Tensor& t : tensors_) {
    if (t.name == name) return Status::invalid_argument("tensor {}: there is one of that name", name);
  }
  tensors_.push_back({std::move(name), std::move(dtype), std::move(shape), *bytes, std::move(produce)});
  return {};
}

void SafetensorsWriter::set_metadata(std::string key, std::string value) {
  metadata_[std::move(key)] = std::move(value);
}

size_t SafetensorsWriter::total_bytes() const {
  size_t total = 0;
  for (const Tensor& t : tensors_) total += t.bytes;
  return total;
}

Status SafetensorsWriter::write_tensors(const std::string& path, std::span<const Tensor> tensors, size_t* done,
                                        const std::function<void(double)>& progress) const {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata_.empty()) header["__metadata__"] = metadata_;
  size_t offset = 0;
  for (const Tensor& t : tensors) {
    header[t.name] = {{"dtype", t.dtype}, {"shape", t.shape}, {"data_offsets", {offset, offset + t.bytes}}};
    offset += t.bytes;
  }
  std::string text = header.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  text.resize((text.size() + 7) / 8 * 8, ' ');  // the data is aligned to 8 bytes
  const uint64_t length = text.size();
  DECANT_TRY(AtomicFile file, AtomicFile::create(path));
  DECANT_TRY_STATUS(file.write({reinterpret_cast<const uint8_t*>(&length), sizeof length}));
  DECANT_TRY_STATUS(file.write({reinterpret_cast<const uint8_t*>(text.data()), text.size()}));
  const size_t total = total_bytes();
  for (const Tensor& t : tensors) {
    DECANT_TRY(const std::vector<uint8_t> data, t.produce());
    DECANT_CHECK(data.size() == t.bytes);
    DECANT_TRY_STATUS(file.write(data));
    *done += t.bytes;
    if (progress && total > 0) progress(static_cast<double>(*done) / static_cast<double>(total));
  }
  return file.commit();
}

Status SafetensorsWriter::write(const std::string& path, const std::function<void(double)>& progress) const {
  size_t done = 0;
  return write_tensors(path, tensors_, &done, progress);
}

Status SafetensorsWriter::write_folder(const std::string& folder, size_t shard_bytes,
                                       const std::function<void(double)>& progress) const {
  if (total_bytes() <= shard_bytes) return write(folder + "/model.safetensors", progress);
  std::vector<std::span<const Tensor>> shards;
  for (size_t begin = 0; begin < tensors_.size();) {
    size_t end = begin, bytes = 0;
    while (end < tensors_.size() && (end == begin || bytes + tensors_[end].bytes <= shard_bytes)) {
      bytes += tensors_[end++].bytes;
    }
    shards.push_back(std::span<const Tensor>(tensors_).subspan(begin, end - begin));
    begin = end;
  }
  nlohmann::ordered_json index;
  index["metadata"]["total_size"] = total_bytes();
  nlohmann::ordered_json& map = index["weight_map"] = nlohmann::ordered_json::object();
  size_t done = 0;
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string name = fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
    DECANT_TRY_STATUS(write_tensors(folder + "/" + name, shards[i], &done, progress));
    for (const Tensor& t : shards[i]) map[t.name] = name;
  }
  const std::string text = index.dump(2) + "\n";
  DECANT_TRY(AtomicFile file, AtomicFile::create(folder + "/model.safetensors.index.json"));
  DECANT_TRY_STATUS(file.write({reinterpret_cast<const uint8_t*>(text.data()), text.size()}));
  return file.commit();
}

}  // namespace decant
