// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "formats/gguf.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <type_traits>

#include "base/printable.h"

namespace decant {
namespace {

static_assert(std::endian::native == std::endian::little, "GGUF files are read as they lie in memory");

constexpr uint64_t kDefaultAlignment = 32;
// The format's own minimum (F32 tensors stay aligned) and far over what any file uses.
constexpr uint64_t kMinAlignment = 8, kMaxAlignment = 1 << 20;
constexpr size_t kMaxKey = 65535;  // the format's limit
constexpr size_t kMaxTensorName = 1023;
// A key's length, one byte of key, the value's type and one byte of value.
constexpr uint64_t kMinEntryBytes = 8 + 1 + 4 + 1;
// A name's length, one byte of name, the number of dimensions, one dimension, type and offset.
constexpr uint64_t kMinTensorBytes = 8 + 1 + 4 + 8 + 4 + 8;
constexpr int64_t kMaxSplits = 99999;  // five digits in the file name

// Value types of metadata, as stored.
enum class ValueType : uint32_t { kU8, kI8, kU16, kI16, kU32, kI32, kF32, kBool, kString, kArray, kU64, kI64, kF64 };

// Bytes that a value takes at least; 0 for an unknown type.
uint64_t value_bytes(ValueType type) {
  switch (type) {
    case ValueType::kU8:
    case ValueType::kI8:
    case ValueType::kBool: return 1;
    case ValueType::kU16:
    case ValueType::kI16: return 2;
    case ValueType::kU32:
    case ValueType::kI32:
    case ValueType::kF32: return 4;
    case ValueType::kString:
    case ValueType::kU64:
    case ValueType::kI64:
    case ValueType::kF64: return 8;
    case ValueType::kArray: return 12;
  }
  return 0;
}

template <typename T>
T load(const uint8_t* p) {
  T value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

template <typename Stored, typename Wide>
std::vector<Wide> load_array(const uint8_t* p, uint64_t count) {
  std::vector<Wide> values(count);
  for (uint64_t i = 0; i < count; ++i) values[i] = static_cast<Wide>(load<Stored>(p + i * sizeof(Stored)));
  return values;
}

bool has_control(std::string_view text) {
  return std::any_of(text.begin(), text.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte < 0x20 || byte == 0x7f;
  });
}

const char* kind_name(const GgufValue& value) {
  constexpr const char* kNames[] = {"a boolean", "a signed integer", "an unsigned integer",
                                    "a float",   "a string",         "an array"};
  return kNames[value.index()];
}

}  // namespace

size_t GgufArray::size() const {
  return std::visit([](const auto& v) { return v.size(); }, values);
}

size_t GgufTensor::bytes() const { return row_bytes(type, cols()) * static_cast<size_t>(rows()); }

int64_t GgufTensor::rows() const {
  int64_t rows = 1;
  for (size_t i = 1; i < shape.size(); ++i) rows *= shape[i];
  return rows;
}

// Reads one file (a whole model or one part of a split one) into a GgufFile.
class GgufParser {
 public:
  using Metadata = std::map<std::string, GgufValue, std::less<>>;

  GgufParser(std::string_view path, std::span<const uint8_t> bytes) : path_(path), bytes_(bytes) {}

  // Metadata goes to `metadata`, tensors are appended to `file`.
  Status parse(GgufFile* file, int file_index, Metadata* metadata) {
    uint64_t n_tensors = 0, n_entries = 0;
    DECANT_TRY_STATUS(read_header(&n_tensors, &n_entries));
    for (uint64_t i = 0; i < n_entries; ++i) {
      const uint64_t begin = position_;
      std::string_view key;
      DECANT_TRY_STATUS(read_entry(metadata, &key));
      if (file_index == 0) file->entries_.push_back({key, bytes_.subspan(begin, position_ - begin)});
    }
    context_.clear();
    DECANT_TRY_STATUS(read_alignment(*metadata));
    // Minimum sizes were checked for both counts together, so this stays within the file's size.
    file->tensors_.reserve(file->tensors_.size() + n_tensors);
    std::vector<Extent> extents;
    extents.reserve(n_tensors);
    for (uint64_t i = 0; i < n_tensors; ++i) DECANT_TRY_STATUS(read_tensor(file, file_index, &extents));
    context_.clear();
    DECANT_TRY_STATUS(place_tensors(file, &extents));
    file->version_ = version_;
    return {};
  }

  // Fills `file` from an opened file, and from its other parts if it is split.
  static Status open(const std::string& path, GgufFile* file);

 private:
  struct Extent {
    size_t tensor;
    uint64_t offset, size;  // in the data section
  };

  uint64_t left() const { return bytes_.size() - position_; }

  // "file" or "file: tensor x".
  std::string where() const { return context_.empty() ? path_ : fmt::format("{}: {}", path_, context_); }

  Status truncated(std::string_view what, uint64_t size) const {
    return Status::corrupt("{}: truncated: {} needs {} bytes at offset {}, the file has {}; download it again", where(),
                           what, size, position_, bytes_.size());
  }

  template <typename T>
  Status read(std::string_view what, T* value) {
    if (left() < sizeof(T)) return truncated(what, sizeof(T));
    *value = load<T>(bytes_.data() + position_);
    position_ += sizeof(T);
    return {};
  }

  Status read_string(std::string_view what, std::string_view* text) {
    uint64_t length = 0;
    DECANT_TRY_STATUS(read(what, &length));
    if (length > left()) return truncated(what, length);
    *text = {reinterpret_cast<const char*>(bytes_.data()) + position_, static_cast<size_t>(length)};
    position_ += length;
    return {};
  }

  Status read_header(uint64_t* n_tensors, uint64_t* n_entries) {
    if (bytes_.size() < 24) {
      return Status::corrupt("{}: {} bytes; a GGUF file has at least 24; download it again", path_, bytes_.size());
    }
    if (std::memcmp(bytes_.data(), "GGUF", 4) != 0) {
      return Status::corrupt("{}: not a GGUF file (it starts with '{}' instead of 'GGUF'); give a model in GGUF format",
                             path_, printable({reinterpret_cast<const char*>(bytes_.data()), 4}));
    }
    position_ = 4;
    DECANT_TRY_STATUS(read("version", &version_));
    if (version_ != 0 && (version_ & 0xffff) == 0) {
      return Status::unsupported("{}: big-endian GGUF is not supported; convert it to little-endian", path_);
    }
    if (version_ != 2 && version_ != 3) {
      return Status::unsupported("{}: GGUF version {} is not supported; re-export it as version 3", path_, version_);
    }
    DECANT_TRY_STATUS(read("tensor count", n_tensors));
    DECANT_TRY_STATUS(read("metadata count", n_entries));
    if (*n_entries > left() / kMinEntryBytes) {
      return Status::corrupt("{}: {} metadata entries cannot fit in {} bytes; download it again", path_, *n_entries,
                             bytes_.size());
    }
    if (*n_tensors > (left() - *n_entries * kMinEntryBytes) / kMinTensorBytes) {
      return Status::corrupt("{}: {} tensors cannot fit in {} bytes; download it again", path_, *n_tensors,
                             bytes_.size());
    }
    return {};
  }

  Status read_entry(Metadata* metadata, std::string_view* name) {
    context_ = fmt::format("metadata at offset {}", position_);
    std::string_view& key = *name;
    DECANT_TRY_STATUS(read_string("key", &key));
    if (key.empty() || key.size() > kMaxKey || has_control(key)) {
      return Status::corrupt("{}: a key has 1 to {} printable characters, this one is '{}'; download it again", where(),
                             kMaxKey, printable(key));
    }
    const auto [entry, is_new] = metadata->try_emplace(std::string(key));
    context_ = "key " + printable(key);
    if (!is_new) return Status::corrupt("{}: appears twice; export the file again", where());
    return read_value(&entry->second);
  }

  Status read_value(GgufValue* value) {
    uint32_t number = 0;
    DECANT_TRY_STATUS(read("value type", &number));
    const auto type = static_cast<ValueType>(number);
    switch (type) {
      case ValueType::kU8: return read_scalar<uint8_t, uint64_t>(value);
      case ValueType::kI8: return read_scalar<int8_t, int64_t>(value);
      case ValueType::kU16: return read_scalar<uint16_t, uint64_t>(value);
      case ValueType::kI16: return read_scalar<int16_t, int64_t>(value);
      case ValueType::kU32: return read_scalar<uint32_t, uint64_t>(value);
      case ValueType::kI32: return read_scalar<int32_t, int64_t>(value);
      case ValueType::kU64: return read_scalar<uint64_t, uint64_t>(value);
      case ValueType::kI64: return read_scalar<int64_t, int64_t>(value);
      case ValueType::kF32: return read_scalar<float, double>(value);
      case ValueType::kF64: return read_scalar<double, double>(value);
      case ValueType::kBool: {
        uint8_t byte = 0;
        DECANT_TRY_STATUS(read("value", &byte));
        if (byte > 1) return Status::corrupt("{}: a boolean is 0 or 1, this is {}; download it again", where(), byte);
        *value = byte == 1;
        return {};
      }
      case ValueType::kString: {
        std::string_view text;
        DECANT_TRY_STATUS(read_string("value", &text));
        *value = text;
        return {};
      }
      case ValueType::kArray: return read_array(value);
    }
    return Status::unsupported("{}: value type {} is not known; re-export the file as GGUF version 3", where(), number);
  }

  template <typename Stored, typename Wide>
  Status read_scalar(GgufValue* value) {
    Stored stored{};
    DECANT_TRY_STATUS(read("value", &stored));
    *value = static_cast<Wide>(stored);
    return {};
  }

  Status read_array(GgufValue* value) {
    uint32_t number = 0;
    uint64_t count = 0;
    DECANT_TRY_STATUS(read("array type", &number));
    DECANT_TRY_STATUS(read("array length", &count));
    const auto type = static_cast<ValueType>(number);
    if (type == ValueType::kArray) return Status::unsupported("{}: arrays of arrays are not supported", where());
    const uint64_t least = value_bytes(type);
    if (least == 0) {
      return Status::unsupported("{}: array of type {} is not known; re-export the file as GGUF version 3", where(),
                                 number);
    }
    if (count > left() / least) {
      return Status::corrupt("{}: truncated: an array of {} values cannot fit in the {} bytes left; download it again",
                             where(), count, left());
    }
    auto array = std::make_shared<GgufArray>();
    if (type == ValueType::kString) {
      DECANT_TRY_STATUS(read_strings(count, &array->values.emplace<std::vector<std::string_view>>()));
    } else {
      DECANT_TRY_STATUS(load_numbers(type, bytes_.data() + position_, count, &array->values));
      position_ += count * least;
    }
    *value = std::shared_ptr<const GgufArray>(std::move(array));
    return {};
  }

  Status load_numbers(ValueType type, const uint8_t* p, uint64_t n, GgufArray::Values* values) const {
    switch (type) {
      case ValueType::kU8: *values = load_array<uint8_t, uint64_t>(p, n); break;
      case ValueType::kI8: *values = load_array<int8_t, int64_t>(p, n); break;
      case ValueType::kU16: *values = load_array<uint16_t, uint64_t>(p, n); break;
      case ValueType::kI16: *values = load_array<int16_t, int64_t>(p, n); break;
      case ValueType::kU32: *values = load_array<uint32_t, uint64_t>(p, n); break;
      case ValueType::kI32: *values = load_array<int32_t, int64_t>(p, n); break;
      case ValueType::kU64: *values = load_array<uint64_t, uint64_t>(p, n); break;
      case ValueType::kI64: *values = load_array<int64_t, int64_t>(p, n); break;
      case ValueType::kF32: *values = load_array<float, double>(p, n); break;
      case ValueType::kF64: *values = load_array<double, double>(p, n); break;
      case ValueType::kBool:
        if (std::any_of(p, p + n, [](uint8_t byte) { return byte > 1; })) {
          return Status::corrupt("{}: a boolean is 0 or 1; download it again", where());
        }
        *values = load_array<uint8_t, int64_t>(p, n);
        break;
      case ValueType::kString:
      case ValueType::kArray: break;
    }
    return {};
  }

  // Vocabularies have 262,144 strings and more: no allocation per string, no message unless one is needed.
  Status read_strings(uint64_t count, std::vector<std::string_view>* strings) {
    strings->reserve(count);
    for (uint64_t i = 0; i < count; ++i) {
      const uint8_t* p = bytes_.data() + position_;
      if (left() < 8) return truncated(fmt::format("string {} of {}", i, count), 8);
      const uint64_t length = load<uint64_t>(p);
      if (length > left() - 8) return truncated(fmt::format("string {} of {}", i, count), length);
      strings->emplace_back(reinterpret_cast<const char*>(p) + 8, static_cast<size_t>(length));
      position_ += 8 + length;
    }
    return {};
  }

  Status read_alignment(const Metadata& metadata) {
    const auto it = metadata.find("general.alignment");
    if (it == metadata.end()) return {};
    uint64_t alignment = 0;  // stays 0 for a value of another kind
    if (const auto* u = std::get_if<uint64_t>(&it->second)) alignment = *u;
    if (const auto* i = std::get_if<int64_t>(&it->second)) alignment = static_cast<uint64_t>(std::max<int64_t>(*i, 0));
    if (!std::has_single_bit(alignment) || alignment < kMinAlignment || alignment > kMaxAlignment) {
      return Status::corrupt("{}: general.alignment must be a power of two from {} to {}; export the file again", path_,
                             kMinAlignment, kMaxAlignment);
    }
    alignment_ = alignment;
    return {};
  }

  Status read_tensor(GgufFile* file, int file_index, std::vector<Extent>* extents) {
    context_ = fmt::format("tensor entry at offset {}", position_);
    std::string_view name;
    DECANT_TRY_STATUS(read_string("name", &name));
    if (name.empty() || name.size() > kMaxTensorName || has_control(name)) {
      return Status::corrupt(
          "{}: a tensor's name has 1 to {} printable characters, this one is '{}'; download it again", where(),
          kMaxTensorName, printable(name));
    }
    context_ = "tensor " + printable(name);
    GgufTensor tensor;
    tensor.name = name;
    tensor.file_index = file_index;
    DECANT_TRY_STATUS(read_shape(&tensor.shape));
    uint32_t type = 0;
    uint64_t offset = 0, size = 0;
    DECANT_TRY_STATUS(read("type", &type));
    DECANT_TRY_STATUS(read("offset", &offset));
    const DTypeInfo* info = find_dtype(type);
    if (info == nullptr) {
      return Status::unsupported("{}: type {} is not supported; re-export with Q8_0 or Q4_K", where(), type);
    }
    tensor.type = info->type;
    DECANT_TRY_STATUS(tensor_size(tensor, *info, &size));
    if (offset % alignment_ != 0) {
      return Status::corrupt("{}: offset {} is not a multiple of the file's alignment, {}; export the file again",
                             where(), offset, alignment_);
    }
    const size_t index = file->tensors_.size();
    if (!file->tensor_index_.try_emplace(tensor.name, index).second) {
      return Status::corrupt("{}: appears twice; export the file again", where());
    }
    extents->push_back({index, offset, size});
    file->tensors_.push_back(std::move(tensor));
    return {};
  }

  Status read_shape(std::vector<int64_t>* shape) {
    uint32_t n_dims = 0;
    DECANT_TRY_STATUS(read("number of dimensions", &n_dims));
    if (n_dims < 1 || n_dims > 4) {
      return Status::corrupt("{}: {} dimensions; a tensor has 1 to 4; download it again", where(), n_dims);
    }
    for (uint32_t i = 0; i < n_dims; ++i) {
      uint64_t size = 0;
      DECANT_TRY_STATUS(read("dimension", &size));
      if (size < 1 || size > static_cast<uint64_t>(INT64_MAX)) {
        return Status::corrupt("{}: dimension {} is {}; it must be from 1 to 2^63-1; download it again", where(), i,
                               size);
      }
      shape->push_back(static_cast<int64_t>(size));
    }
    return {};
  }

  Status tensor_size(const GgufTensor& tensor, const DTypeInfo& info, uint64_t* size) const {
    int64_t elements = 1;
    for (int64_t dimension : tensor.shape) {
      if (__builtin_mul_overflow(elements, dimension, &elements)) {
        return Status::corrupt("{}: its dimensions multiply to over 2^63; download it again", where());
      }
    }
    if (tensor.cols() % info.block != 0) {
      return Status::corrupt(
          "{}: rows of {} elements are not a whole number of {} blocks of {}; re-export with another type", where(),
          tensor.cols(), info.name, info.block);
    }
    const auto blocks = static_cast<uint64_t>(elements / info.block);
    if (__builtin_mul_overflow(blocks, static_cast<uint64_t>(info.bytes), size)) {
      return Status::corrupt("{}: its size is over 2^64 bytes; download it again", where());
    }
    return {};
  }

  // The data section starts at the next multiple of the alignment. Tensors may leave gaps but not share bytes: writers
  // never share, and a packed copy of one may replace its pages.
  Status place_tensors(GgufFile* file, std::vector<Extent>* extents) {
    const uint64_t start = (position_ + alignment_ - 1) / alignment_ * alignment_;
    for (const Extent& e : *extents) {
      GgufTensor& tensor = file->tensors_[e.tensor];
      uint64_t begin = 0, end = 0;
      if (__builtin_add_overflow(start, e.offset, &begin) || __builtin_add_overflow(begin, e.size, &end)) {
        return Status::corrupt("{}: tensor {}: offset {} is out of range; download it again", path_,
                               printable(tensor.name), e.offset);
      }
      if (end > bytes_.size()) {
        return Status::corrupt("{}: truncated: tensor {} needs bytes {}..{}, the file has {}; download it again", path_,
                               printable(tensor.name), begin, end, bytes_.size());
      }
      tensor.data = bytes_.subspan(begin, e.size);
    }
    std::sort(extents->begin(), extents->end(), [](const Extent& a, const Extent& b) { return a.offset < b.offset; });
    for (size_t i = 1; i < extents->size(); ++i) {
      const Extent &a = (*extents)[i - 1], &b = (*extents)[i];
      if (a.offset + a.size > b.offset) {
        return Status::corrupt("{}: tensors {} and {} overlap; export the file again", path_,
                               printable(file->tensors_[a.tensor].name), printable(file->tensors_[b.tensor].name));
      }
    }
    return {};
  }

  static Status open_parts(int64_t count, GgufFile* file);

  std::string path_;
  std::span<const uint8_t> bytes_;
  uint64_t position_ = 0;
  uint32_t version_ = 0;
  uint64_t alignment_ = kDefaultAlignment;
  std::string context_;  // what is being read, for messages
};

namespace {

// "-00002-of-00005.gguf"
std::string part_suffix(int64_t part, int64_t count) { return fmt::format("-{:05}-of-{:05}.gguf", part, count); }

// An integer of any type from the metadata of one part; -1 if it is absent, not an integer or negative.
int64_t part_number(const GgufParser::Metadata& metadata, std::string_view key) {
  const auto it = metadata.find(key);
  if (it == metadata.end()) return -1;
  if (const auto* i = std::get_if<int64_t>(&it->second)) return std::max<int64_t>(*i, -1);
  if (const auto* u = std::get_if<uint64_t>(&it->second); u != nullptr && *u <= INT64_MAX)
    return static_cast<int64_t>(*u);
  return -1;
}

}  // namespace

Status GgufParser::open(const std::string& path, GgufFile* file) {
  DECANT_TRY(MappedFile mapped, MappedFile::open(path));
  file->path_ = path;
  file->views_.push_back(mapped.bytes());
  file->files_.push_back(std::move(mapped));
  DECANT_TRY_STATUS(GgufParser(path, file->views_[0]).parse(file, 0, &file->metadata_));
  if (!file->metadata_.contains("split.count")) return {};

  const int64_t count = part_number(file->metadata_, "split.count");
  if (count < 0 || count > kMaxSplits) {
    return Status::corrupt("{}: split.count must be an integer from 0 to {}; download it again", path, kMaxSplits);
  }
  if (count < 2) return {};
  const int64_t number = part_number(file->metadata_, "split.no");
  if (number < 0 || number >= count) {
    return Status::corrupt("{}: split.no must be an integer from 0 to {}; download it again", path, count - 1);
  }
  if (number != 0) {
    return Status::invalid_argument("{}: this is part {} of {} of a split model; open the part ending in {}", path,
                                    number + 1, count, part_suffix(1, count));
  }
  return open_parts(count, file);
}

Status GgufParser::open_parts(int64_t count, GgufFile* file) {
  const std::string suffix = part_suffix(1, count);
  if (!file->path_.ends_with(suffix)) {
    return Status::invalid_argument("{}: split.count is {}, so its name must end in {}; rename the parts as they were",
                                    file->path_, count, suffix);
  }
  const std::string stem = file->path_.substr(0, file->path_.size() - suffix.size());
  for (int64_t part = 1; part < count; ++part) {
    const std::string path = stem + part_suffix(part + 1, count);
    auto mapped = MappedFile::open(path);
    if (!mapped.ok() && mapped.status().code() == Code::kNotFound) {
      return Status::not_found("{}: part {} of {} is missing; download all parts into one folder", path, part + 1,
                               count);
    }
    if (!mapped.ok()) return std::move(mapped).status();
    file->views_.push_back(mapped->bytes());
    file->files_.push_back(*std::move(mapped));
    Metadata metadata;
    DECANT_TRY_STATUS(GgufParser(path, file->views_.back()).parse(file, static_cast<int>(part), &metadata));
    if (part_number(metadata, "split.no") != part || part_number(metadata, "split.count") != count) {
      return Status::corrupt("{}: split.no and split.count do not say part {} of {}; download all parts again", path,
                             part + 1, count);
    }
  }
  if (!file->metadata_.contains("split.tensors.count")) return {};
  const int64_t tensors = part_number(file->metadata_, "split.tensors.count");
  if (tensors < 0 || static_cast<uint64_t>(tensors) != file->tensors_.size()) {
    return Status::corrupt("{}: split.tensors.count is {}, the parts have {} tensors; download all parts again",
                           file->path_, tensors, file->tensors_.size());
  }
  return {};
}

Result<GgufFile> GgufFile::open(const std::string& path) {
  GgufFile file;
  DECANT_TRY_STATUS(GgufParser::open(path, &file));
  return file;
}

Result<GgufFile> GgufFile::parse(std::span<const uint8_t> bytes, std::string name) {
  GgufFile file;
  file.path_ = std::move(name);
  file.views_.push_back(bytes);
  DECANT_TRY_STATUS(GgufParser(file.path_, bytes).parse(&file, 0, &file.metadata_));
  return file;
}

Result<GgufFile> GgufFile::assemble(std::string path, std::vector<uint8_t> metadata, std::vector<GgufTensor> tensors,
                                    std::shared_ptr<const void> backing, Release release) {
  auto owned = std::make_shared<const std::vector<uint8_t>>(std::move(metadata));
  DECANT_TRY(GgufFile file, parse(*owned, std::move(path)));
  file.owned_ = std::move(owned);
  file.backing_ = std::move(backing);
  file.release_ = std::move(release);
  for (GgufTensor& tensor : tensors) {
    if (!file.tensor_index_.emplace(tensor.name, file.tensors_.size()).second) {
      return Status::corrupt("{}: two tensors become {}; export the checkpoint again", file.path_, tensor.name);
    }
    file.tensors_.push_back(std::move(tensor));
  }
  return file;
}

std::string GgufFile::container() const { return backing_ ? "safetensors" : fmt::format("GGUF v{}", version_); }

size_t GgufFile::file_size() const {
  size_t size = 0;
  if (backing_) {
    for (const GgufTensor& tensor : tensors_) size += tensor.bytes();
    return size;
  }
  for (const auto& view : views_) size += view.size();
  return size;
}

const GgufValue* GgufFile::find(std::string_view key) const {
  const auto it = metadata_.find(key);
  return it == metadata_.end() ? nullptr : &it->second;
}

const GgufTensor* GgufFile::find_tensor(std::string_view name) const {
  const auto it = tensor_index_.find(name);
  return it == tensor_index_.end() ? nullptr : &tensors_[it->second];
}

namespace {

Status wrong_kind(const std::string& path, std::string_view key, const GgufValue& value, const char* wanted) {
  return Status::corrupt("{}: key {} is {}, not {}; export the file again", path, key, kind_name(value), wanted);
}

template <typename T>
Result<T> require(const std::string& path, std::string_view key, Result<std::optional<T>> found) {
  if (!found.ok()) return std::move(found).status();
  if (!found->has_value()) {
    return Status::not_found("{}: key {} is missing; the file is not a complete model, export it again", path, key);
  }
  return **found;
}

}  // namespace

Result<std::optional<uint64_t>> GgufFile::get_uint(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::optional<uint64_t>();
  if (const auto* u = std::get_if<uint64_t>(value)) return std::optional(*u);
  const auto* i = std::get_if<int64_t>(value);
  if (i == nullptr) return wrong_kind(path_, key, *value, "an integer");
  if (*i < 0)
    return Status::corrupt("{}: key {} is {}, it must not be negative; export the file again", path_, key, *i);
  return std::optional(static_cast<uint64_t>(*i));
}

Result<std::optional<double>> GgufFile::get_float(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::optional<double>();
  if (const auto* f = std::get_if<double>(value)) return std::optional(*f);
  if (const auto* u = std::get_if<uint64_t>(value)) return std::optional(static_cast<double>(*u));
  if (const auto* i = std::get_if<int64_t>(value)) return std::optional(static_cast<double>(*i));
  return wrong_kind(path_, key, *value, "a number");
}

Result<std::optional<bool>> GgufFile::get_bool(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::optional<bool>();
  if (const auto* b = std::get_if<bool>(value)) return std::optional(*b);
  return wrong_kind(path_, key, *value, "a boolean");
}

Result<std::optional<std::string_view>> GgufFile::get_string(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::optional<std::string_view>();
  if (const auto* s = std::get_if<std::string_view>(value)) return std::optional(*s);
  return wrong_kind(path_, key, *value, "a string");
}

Result<std::shared_ptr<const GgufArray>> GgufFile::get_array(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::shared_ptr<const GgufArray>();
  if (const auto* a = std::get_if<std::shared_ptr<const GgufArray>>(value)) return *a;
  return wrong_kind(path_, key, *value, "an array");
}

Result<uint64_t> GgufFile::require_uint(std::string_view key) const { return require(path_, key, get_uint(key)); }
Result<double> GgufFile::require_float(std::string_view key) const { return require(path_, key, get_float(key)); }
Result<std::string_view> GgufFile::require_string(std::string_view key) const {
  return require(path_, key, get_string(key));
}

void GgufFile::release(const GgufTensor& tensor, size_t offset, size_t size) const {
  if (release_) return release_(tensor, offset, size);
  const auto index = static_cast<size_t>(tensor.file_index);
  if (index >= files_.size()) return;  // parsed from the caller's bytes
  if (offset >= tensor.data.size()) return;
  files_[index].release(static_cast<size_t>(tensor.data.data() - views_[index].data()) + offset,
                        std::min(size, tensor.data.size() - offset));
}

}  // namespace decant
