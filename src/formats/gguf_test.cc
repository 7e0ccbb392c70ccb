// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "formats/gguf.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <limits>

namespace decant {
namespace {

namespace fs = std::filesystem;

// Builds files byte by byte, wrong ones included. Independent of GgufWriter.
class Raw {
 public:
  Raw(uint32_t version, uint64_t n_tensors, uint64_t n_entries) {
    text("GGUF");
    put(version).put(n_tensors).put(n_entries);
  }
  template <typename T>
  Raw& put(T value) {
    const size_t at = bytes_.size();
    bytes_.resize(at + sizeof value);
    std::memcpy(bytes_.data() + at, &value, sizeof value);
    return *this;
  }
  Raw& text(std::string_view text) {
    bytes_.insert(bytes_.end(), text.begin(), text.end());
    return *this;
  }
  Raw& string(std::string_view s) { return put<uint64_t>(s.size()).text(s); }
  template <typename T>
  Raw& entry(std::string_view key, uint32_t type, T value) {
    return string(key).put(type).put(value);
  }
  Raw& array(std::string_view key, uint32_t type, uint64_t count) {
    return string(key).put<uint32_t>(9).put(type).put(count);
  }
  Raw& tensor(std::string_view name, const std::vector<uint64_t>& shape, uint32_t type, uint64_t offset) {
    string(name).put(static_cast<uint32_t>(shape.size()));
    for (uint64_t d : shape) put(d);
    return put(type).put(offset);
  }
  Raw& pad(size_t alignment = 32) {
    while (bytes_.size() % alignment != 0) bytes_.push_back(0);
    return *this;
  }
  Raw& data(size_t n) {
    for (size_t i = 0; i < n; ++i) bytes_.push_back(static_cast<uint8_t>(i));
    return *this;
  }
  const std::vector<uint8_t>& bytes() const { return bytes_; }
  Result<GgufFile> parse() const { return GgufFile::parse(bytes_, "m.gguf"); }

 private:
  std::vector<uint8_t> bytes_;
};

// The file must be refused with this code and every one of the texts in the message.
void expect_refused(const Result<GgufFile>& file, Code code, const std::vector<std::string>& texts) {
  ASSERT_FALSE(file.ok()) << "accepted; expected a message with " << texts[0];
  EXPECT_EQ(file.status().code(), code) << file.status().message();
  for (const std::string& text : texts) {
    EXPECT_NE(file.status().message().find(text), std::string::npos)
        << "'" << text << "' is not in: " << file.status().message();
  }
}

template <typename T>
const std::vector<T>& array_of(const GgufFile& file, std::string_view key) {
  return std::get<std::vector<T>>((*file.get_array(key))->values);
}

std::vector<uint8_t> numbered(size_t n) {
  std::vector<uint8_t> bytes(n);
  for (size_t i = 0; i < n; ++i) bytes[i] = static_cast<uint8_t>(i * 31 + 7);
  return bytes;
}

GgufWriter sample_writer() {
  GgufWriter writer;
  writer.set("general.architecture", "llama");
  writer.set("a.bool", true);
  writer.set("a.uint", uint32_t{4000000000});
  writer.set("a.int", int32_t{-5});
  writer.set("a.float", 0.25f);
  writer.set("a.strings", std::vector<std::string>{"one", "", "three"});
  writer.set("a.floats", std::vector<float>{1.5f, -2.0f});
  writer.set("a.ints", std::vector<int32_t>{-1, 2, 3});
  writer.set("a.bools", std::vector<bool>{true, false});
  writer.set("a.empty", std::vector<float>{});
  writer.add_tensor("w", DType::kQ8_0, {64, 3}, numbered(2 * 34 * 3));
  writer.add_tensor("bias", DType::kF32, {5}, numbered(20));
  writer.add_tensor("cube", DType::kF16, {2, 3, 4, 5}, numbered(240));
  return writer;
}

void expect_sample(const GgufFile& file) {
  EXPECT_EQ(file.version(), 3u);
  EXPECT_EQ(file.metadata().size(), 10u);
  EXPECT_EQ(*file.require_string("general.architecture"), "llama");
  EXPECT_EQ(**file.get_bool("a.bool"), true);
  EXPECT_EQ(*file.require_uint("a.uint"), 4000000000u);
  EXPECT_EQ(std::get<int64_t>(*file.find("a.int")), -5);
  EXPECT_EQ(*file.require_float("a.float"), 0.25);
  EXPECT_EQ(array_of<std::string_view>(file, "a.strings"), (std::vector<std::string_view>{"one", "", "three"}));
  EXPECT_EQ(array_of<double>(file, "a.floats"), (std::vector<double>{1.5, -2.0}));
  EXPECT_EQ(array_of<int64_t>(file, "a.ints"), (std::vector<int64_t>{-1, 2, 3}));
  EXPECT_EQ(array_of<int64_t>(file, "a.bools"), (std::vector<int64_t>{1, 0}));
  EXPECT_EQ((*file.get_array("a.empty"))->size(), 0u);
  ASSERT_EQ(file.tensors().size(), 3u);
  const GgufTensor* w = file.find_tensor("w");
  ASSERT_NE(w, nullptr);
  EXPECT_EQ(w, &file.tensors()[0]);
  EXPECT_EQ(w->type, DType::kQ8_0);
  EXPECT_EQ(w->cols(), 64);
  EXPECT_EQ(w->rows(), 3);
  EXPECT_EQ(std::vector<uint8_t>(w->data.begin(), w->data.end()), numbered(204));
  EXPECT_EQ(file.find_tensor("bias")->rows(), 1);
  EXPECT_EQ(file.find_tensor("cube")->rows(), 60);
  EXPECT_EQ(file.find_tensor("cube")->data.size(), 240u);
  EXPECT_EQ(file.find_tensor("nothing"), nullptr);
  EXPECT_EQ(file.find("nothing"), nullptr);
}

TEST(Gguf, ReadsBackWhatTheWriterSerializes) {
  const std::vector<uint8_t> bytes = sample_writer().serialize();
  auto file = GgufFile::parse(bytes, "m.gguf");
  ASSERT_TRUE(file.ok()) << file.status().message();
  expect_sample(*file);
  EXPECT_EQ(file->file_size(), bytes.size());
  file->release(file->tensors()[0], 0, SIZE_MAX);  // nothing to release, nothing breaks
  const GgufFile moved = *std::move(file);
  expect_sample(moved);
}

TEST(Gguf, ReadsEveryScalarAndArrayType) {
  Raw raw(2, 0, 24);
  raw.entry<uint8_t>("u8", 0, 200)
      .entry<int8_t>("i8", 1, -100)
      .entry<uint16_t>("u16", 2, 60000)
      .entry<int16_t>("i16", 3, -30000);
  raw.entry<uint32_t>("u32", 4, 4000000000u).entry<int32_t>("i32", 5, -2000000000).entry<float>("f32", 6, 0.5f);
  raw.entry<uint8_t>("bool", 7, 1).string("str").put<uint32_t>(8).string("text");
  raw.entry<uint64_t>("u64", 10, UINT64_MAX).entry<int64_t>("i64", 11, INT64_MIN).entry<double>("f64", 12, 1e300);
  raw.array("a.u8", 0, 2).put<uint8_t>(1).put<uint8_t>(255).array("a.i8", 1, 2).put<int8_t>(1).put<int8_t>(-1);
  raw.array("a.u16", 2, 1).put<uint16_t>(65535).array("a.i16", 3, 1).put<int16_t>(-2);
  raw.array("a.u32", 4, 1)
      .put<uint32_t>(7)
      .array("a.i32", 5, 1)
      .put<int32_t>(-7)
      .array("a.f32", 6, 1)
      .put<float>(0.25f);
  raw.array("a.bool", 7, 2).put<uint8_t>(0).put<uint8_t>(1).array("a.str", 8, 2).string("x").string("yz");
  raw.array("a.u64", 10, 1).put<uint64_t>(UINT64_MAX).array("a.i64", 11, 1).put<int64_t>(INT64_MIN);
  raw.array("a.f64", 12, 1).put<double>(-1e300);
  auto file = raw.parse();
  ASSERT_TRUE(file.ok()) << file.status().message();
  EXPECT_EQ(file->version(), 2u);
  EXPECT_EQ(std::get<uint64_t>(*file->find("u8")), 200u);
  EXPECT_EQ(std::get<int64_t>(*file->find("i8")), -100);
  EXPECT_EQ(std::get<uint64_t>(*file->find("u16")), 60000u);
  EXPECT_EQ(std::get<int64_t>(*file->find("i16")), -30000);
  EXPECT_EQ(std::get<uint64_t>(*file->find("u32")), 4000000000u);
  EXPECT_EQ(std::get<int64_t>(*file->find("i32")), -2000000000);
  EXPECT_EQ(std::get<double>(*file->find("f32")), 0.5);
  EXPECT_EQ(std::get<bool>(*file->find("bool")), true);
  EXPECT_EQ(std::get<std::string_view>(*file->find("str")), "text");
  EXPECT_EQ(std::get<uint64_t>(*file->find("u64")), UINT64_MAX);
  EXPECT_EQ(std::get<int64_t>(*file->find("i64")), INT64_MIN);
  EXPECT_EQ(std::get<double>(*file->find("f64")), 1e300);
  EXPECT_EQ(array_of<uint64_t>(*file, "a.u8"), (std::vector<uint64_t>{1, 255}));
  EXPECT_EQ(array_of<int64_t>(*file, "a.i8"), (std::vector<int64_t>{1, -1}));
  EXPECT_EQ(array_of<uint64_t>(*file, "a.u16"), std::vector<uint64_t>{65535});
  EXPECT_EQ(array_of<int64_t>(*file, "a.i16"), std::vector<int64_t>{-2});
  EXPECT_EQ(array_of<uint64_t>(*file, "a.u32"), std::vector<uint64_t>{7});
  EXPECT_EQ(array_of<int64_t>(*file, "a.i32"), std::vector<int64_t>{-7});
  EXPECT_EQ(array_of<double>(*file, "a.f32"), std::vector<double>{0.25});
  EXPECT_EQ(array_of<int64_t>(*file, "a.bool"), (std::vector<int64_t>{0, 1}));
  EXPECT_EQ(array_of<std::string_view>(*file, "a.str"), (std::vector<std::string_view>{"x", "yz"}));
  EXPECT_EQ(array_of<uint64_t>(*file, "a.u64"), std::vector<uint64_t>{UINT64_MAX});
  EXPECT_EQ(array_of<int64_t>(*file, "a.i64"), std::vector<int64_t>{INT64_MIN});
  EXPECT_EQ(array_of<double>(*file, "a.f64"), std::vector<double>{-1e300});
}

TEST(Gguf, TypedAccessConvertsWhatFitsAndNamesWhatDoesNot) {
  auto file = Raw(3, 0, 5)
                  .entry<int64_t>("pos", 11, 12)
                  .entry<int8_t>("neg", 1, -12)
                  .entry<uint64_t>("big", 10, UINT64_MAX)
                  .entry<float>("f", 6, 2.5f)
                  .entry<uint8_t>("b", 7, 0)
                  .parse();
  ASSERT_TRUE(file.ok()) << file.status().message();
  EXPECT_EQ(*file->require_uint("pos"), 12u);
  EXPECT_EQ(*file->require_uint("big"), UINT64_MAX);
  EXPECT_EQ(*file->require_float("neg"), -12.0);
  EXPECT_EQ(*file->require_float("pos"), 12.0);
  EXPECT_EQ(**file->get_bool("b"), false);
  EXPECT_EQ(file->get_uint("none").value(), std::nullopt);
  EXPECT_EQ(file->get_float("none").value(), std::nullopt);
  EXPECT_EQ(file->get_bool("none").value(), std::nullopt);
  EXPECT_EQ(file->get_string("none").value(), std::nullopt);
  EXPECT_EQ(file->get_array("none").value(), nullptr);

  EXPECT_EQ(file->get_uint("neg").status().message(),
            "m.gguf: key neg is -12, it must not be negative; export the file again");
  EXPECT_EQ(file->get_uint("neg").status().code(), Code::kCorrupt);
  EXPECT_EQ(file->get_uint("f").status().message(), "m.gguf: key f is a float, not an integer; export the file again");
  EXPECT_EQ(file->get_uint("b").status().code(), Code::kCorrupt);
  EXPECT_EQ(file->get_float("b").status().code(), Code::kCorrupt);
  EXPECT_EQ(file->get_bool("pos").status().code(), Code::kCorrupt);
  EXPECT_EQ(file->get_string("f").status().code(), Code::kCorrupt);
  EXPECT_EQ(file->get_array("f").status().code(), Code::kCorrupt);
  for (const Status& status : {file->require_uint("none").status(), file->require_float("none").status(),
                               file->require_string("none").status()}) {
    EXPECT_EQ(status.code(), Code::kNotFound);
    EXPECT_NE(status.message().find("m.gguf: key none is missing"), std::string::npos) << status.message();
  }
}

TEST(Gguf, RefusesOtherFilesVersionsAndByteOrder) {
  expect_refused(GgufFile::parse({}, "m.gguf"), Code::kCorrupt, {"m.gguf: 0 bytes", "at least 24"});
  std::vector<uint8_t> other = Raw(3, 0, 0).bytes();
  other[0] = 'g';
  other[1] = 0x01;
  expect_refused(GgufFile::parse(other, "m.gguf"), Code::kCorrupt, {"m.gguf: not a GGUF file", "g\\x01UF"});
  expect_refused(Raw(1, 0, 0).put<uint64_t>(0).parse(), Code::kUnsupported, {"version 1", "re-export"});
  expect_refused(Raw(0, 0, 0).parse(), Code::kUnsupported, {"version 0"});
  expect_refused(Raw(4, 0, 0).parse(), Code::kUnsupported, {"version 4"});
  expect_refused(Raw(0x03000000, 0, 0).parse(), Code::kUnsupported, {"big-endian"});
  EXPECT_TRUE(Raw(3, 0, 0).parse().ok());
  EXPECT_TRUE(Raw(2, 0, 0).parse().ok());
}

TEST(Gguf, RefusesCountsThatTheFileCannotHold) {
  expect_refused(Raw(3, 0, UINT64_MAX).parse(), Code::kCorrupt, {"18446744073709551615 metadata entries cannot fit"});
  expect_refused(Raw(3, UINT64_MAX, 0).parse(), Code::kCorrupt, {"18446744073709551615 tensors cannot fit"});
  expect_refused(Raw(3, 4, 0).data(100).parse(), Code::kCorrupt, {"4 tensors cannot fit"});
  expect_refused(Raw(3, 3, 1).data(100).parse(), Code::kCorrupt, {"3 tensors cannot fit"});
  for (uint32_t type : {0u, 1u, 2u, 3u, 4u, 5u, 6u, 7u, 8u, 10u, 11u, 12u}) {
    for (uint64_t count : {uint64_t{1} << 20, uint64_t{1} << 61, UINT64_MAX}) {
      expect_refused(Raw(3, 0, 1).array("k", type, count).data(64).parse(), Code::kCorrupt,
                     {"m.gguf: key k: truncated: an array of", "64 bytes left", "download it again"});
    }
  }
}

TEST(Gguf, RefusesBrokenMetadata) {
  expect_refused(Raw(3, 0, 1).put<uint64_t>(1000).data(50).parse(), Code::kCorrupt,
                 {"m.gguf: metadata at offset 24: truncated: key needs 1000 bytes at offset 32, the file has 82"});
  expect_refused(Raw(3, 0, 1).put<uint64_t>(UINT64_MAX).data(50).parse(), Code::kCorrupt, {"truncated"});
  expect_refused(Raw(3, 0, 1).entry<uint32_t>("", 4, 1).data(9).parse(), Code::kCorrupt, {"1 to 65535 printable"});
  expect_refused(Raw(3, 0, 1).entry<uint32_t>("a\nb", 4, 1).parse(), Code::kCorrupt, {"'a\\x0ab'"});
  expect_refused(Raw(3, 0, 1).entry<uint32_t>(std::string(70000, 'k'), 4, 1).parse(), Code::kCorrupt, {"kkk..."});
  expect_refused(Raw(3, 0, 2).entry<uint32_t>("k", 4, 1).entry<uint32_t>("k", 4, 1).parse(), Code::kCorrupt,
                 {"m.gguf: key k: appears twice"});
  expect_refused(Raw(3, 0, 1).entry<uint32_t>("k", 13, 1).parse(), Code::kUnsupported, {"key k: value type 13"});
  expect_refused(Raw(3, 0, 1).entry<uint8_t>("k", 7, 2).parse(), Code::kCorrupt,
                 {"key k: a boolean is 0 or 1, this is 2"});
  expect_refused(Raw(3, 0, 1).array("k", 7, 2).put<uint8_t>(1).put<uint8_t>(9).parse(), Code::kCorrupt, {"boolean"});
  expect_refused(Raw(3, 0, 1).array("k", 9, 1).data(20).parse(), Code::kUnsupported, {"key k: arrays of arrays"});
  expect_refused(Raw(3, 0, 1).array("k", 13, 1).data(20).parse(), Code::kUnsupported, {"key k: array of type 13"});
  expect_refused(Raw(3, 0, 1).string("k").put<uint32_t>(8).put<uint64_t>(9).data(8).parse(), Code::kCorrupt,
                 {"key k: truncated: value needs 9 bytes"});
  expect_refused(Raw(3, 0, 1).array("k", 8, 2).string("abc").put<uint64_t>(UINT64_MAX - 3).parse(), Code::kCorrupt,
                 {"key k: truncated: string 1 of 2"});
  expect_refused(Raw(3, 0, 1).array("k", 8, 2).string("12345678").data(4).parse(), Code::kCorrupt,
                 {"key k: truncated: string 1 of 2"});
}

TEST(Gguf, AlignmentIsAPowerOfTwoFrom8To1MiB) {
  const auto with = [](uint32_t alignment, size_t pad_to) {
    return Raw(3, 1, 1).entry("general.alignment", 4, alignment).tensor("t", {3}, 0, 0).pad(pad_to).data(12);
  };
  for (uint32_t alignment : {8u, 16u, 32u, 64u, 4096u, 1u << 20}) {
    const Raw raw = with(alignment, alignment);
    const auto file = raw.parse();
    ASSERT_TRUE(file.ok()) << file.status().message();
    EXPECT_EQ(file->tensors()[0].data[1], 1) << "the data section starts at the alignment";
  }
  for (uint32_t alignment : {0u, 1u, 4u, 24u, 33u, 1u << 21, 0x80000000u}) {
    expect_refused(with(alignment, 32).parse(), Code::kCorrupt,
                   {"m.gguf: general.alignment must be a power of two from 8 to 1048576"});
  }
  expect_refused(Raw(3, 0, 1).entry<float>("general.alignment", 6, 32.0f).parse(), Code::kCorrupt,
                 {"general.alignment"});
  expect_refused(Raw(3, 0, 1).entry<int32_t>("general.alignment", 5, -32).parse(), Code::kCorrupt,
                 {"general.alignment"});
}

TEST(Gguf, RefusesTensorsThatAreNotWhatTheyClaim) {
  const auto one = [](const std::vector<uint64_t>& shape, uint32_t type, uint64_t offset, size_t data = 4096) {
    return Raw(3, 1, 0).tensor("blk.3.w", shape, type, offset).pad().data(data).parse();
  };
  ASSERT_TRUE(one({256, 2}, 12, 32).ok());
  expect_refused(one({256}, 41, 0), Code::kUnsupported,
                 {"m.gguf: tensor blk.3.w: type 41 is not supported; re-export with Q8_0 or Q4_K"});
  expect_refused(one({}, 0, 0), Code::kCorrupt, {"tensor blk.3.w: 0 dimensions"});
  expect_refused(one({1, 1, 1, 1, 1}, 0, 0), Code::kCorrupt, {"tensor blk.3.w: 5 dimensions"});
  expect_refused(one({4, 0}, 0, 0), Code::kCorrupt, {"tensor blk.3.w: dimension 1 is 0"});
  expect_refused(one({uint64_t{1} << 63}, 0, 0), Code::kCorrupt, {"dimension 0 is 9223372036854775808"});
  expect_refused(one({uint64_t{1} << 32, uint64_t{1} << 31}, 0, 0), Code::kCorrupt, {"over 2^63"});
  expect_refused(one({1, 1, uint64_t{1} << 62, 4}, 0, 0), Code::kCorrupt, {"over 2^63"});
  expect_refused(one({INT64_MAX}, 0, 0), Code::kCorrupt, {"over 2^64 bytes"});
  expect_refused(one({255, 256}, 12, 0), Code::kCorrupt, {"rows of 255 elements", "q4_k blocks of 256"});
  expect_refused(one({48}, 8, 0), Code::kCorrupt, {"rows of 48 elements", "q8_0 blocks of 32"});
  expect_refused(one({8}, 0, 4), Code::kCorrupt,
                 {"tensor blk.3.w: offset 4 is not a multiple of the file's alignment, 32"});
  expect_refused(one({8}, 0, 4096), Code::kCorrupt,
                 {"m.gguf: truncated: tensor blk.3.w needs bytes 4160..4192, the file has 4160; download it again"});
  expect_refused(one({8}, 0, 0, 31), Code::kCorrupt, {"needs bytes 64..96, the file has 95"});
  expect_refused(one({uint64_t{1} << 61}, 0, 0), Code::kCorrupt, {"truncated: tensor blk.3.w"});
  expect_refused(one({8}, 0, UINT64_MAX - 31), Code::kCorrupt,
                 {"tensor blk.3.w: offset 18446744073709551584 is out of range"});
  expect_refused(Raw(3, 1, 0).tensor("", {8}, 0, 0).pad().data(64).parse(), Code::kCorrupt,
                 {"tensor entry at offset 24"});
  expect_refused(Raw(3, 1, 0).tensor("\x1b[2J", {8}, 0, 0).pad().data(64).parse(), Code::kCorrupt, {"'\\x1b[2J'"});
}

TEST(Gguf, RefusesDuplicateAndOverlappingTensorsAndAcceptsAnyOrder) {
  const auto two = [](const char* second_name, uint64_t first, uint64_t second) {
    return Raw(3, 2, 0).tensor("a", {16}, 0, first).tensor(second_name, {16}, 0, second).pad().data(256).parse();
  };
  EXPECT_TRUE(two("b", 0, 64).ok());
  EXPECT_TRUE(two("b", 128, 0).ok()) << "gaps and any order are fine";
  expect_refused(two("a", 0, 64), Code::kCorrupt, {"m.gguf: tensor a: appears twice"});
  expect_refused(two("b", 0, 32), Code::kCorrupt, {"m.gguf: tensors a and b overlap"});
  expect_refused(two("b", 32, 0), Code::kCorrupt, {"overlap"});
  expect_refused(two("b", 64, 64), Code::kCorrupt, {"overlap"});
}

TEST(Gguf, EveryTruncationOfAFileIsRefusedByName) {
  // Metadata or tensors are missing from any proper prefix up to the last tensor's end; only the final padding may go.
  const std::vector<uint8_t> bytes = sample_writer().serialize();
  const size_t end = bytes.size() - (32 - 240 % 32);
  for (size_t size = 0; size < end; ++size) {
    // A copy of exactly this size, so that the address sanitizer sees a read past its end.
    const std::vector<uint8_t> prefix(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size));
    const auto file = GgufFile::parse(prefix, "m.gguf");
    ASSERT_FALSE(file.ok()) << size;
    ASSERT_EQ(file.status().code(), Code::kCorrupt) << size;
    ASSERT_TRUE(file.status().message().starts_with("m.gguf: ")) << file.status().message();
  }
  EXPECT_TRUE(GgufFile::parse(std::span(bytes).first(end), "m.gguf").ok());
}

TEST(Gguf, EveryFlippedByteOfTheHeaderIsReadSafely) {
  std::vector<uint8_t> bytes = sample_writer().serialize();
  int refused = 0, accepted = 0;
  for (size_t at = 0; at < 700; ++at) {
    for (int flip : {0x01, 0x80, 0xff}) {
      bytes[at] = static_cast<uint8_t>(bytes[at] ^ flip);
      const auto file = GgufFile::parse(bytes, "m.gguf");
      ++(file.ok() ? accepted : refused);
      if (file.ok()) {
        for (const GgufTensor& t : file->tensors()) {
          ASSERT_GE(t.data.data(), bytes.data());
          ASSERT_LE(t.data.data() + t.data.size(), bytes.data() + bytes.size());
        }
      }
      bytes[at] = static_cast<uint8_t>(bytes[at] ^ flip);
    }
  }
  EXPECT_GT(refused, 300);
  EXPECT_GT(accepted, 300);  // flips in names and values change no structure
}

TEST(GgufWriter, FollowsTheAlignmentThatItWrites) {
  GgufWriter writer;
  writer.set("general.alignment", uint32_t{256});
  writer.add_tensor("a", DType::kF32, {1}, numbered(4));
  writer.add_tensor("b", DType::kF32, {2}, numbered(8));
  const std::vector<uint8_t> bytes = writer.serialize();
  const auto file = GgufFile::parse(bytes, "m.gguf");
  ASSERT_TRUE(file.ok()) << file.status().message();
  EXPECT_EQ((file->find_tensor("b")->data.data() - bytes.data()) % 256, 0);
  EXPECT_EQ(std::memcmp(file->find_tensor("b")->data.data(), numbered(8).data(), 8), 0);
}

class GgufFolderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "decant_test_XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { fs::remove_all(folder_); }
  std::string path(const std::string& name) const { return folder_ + "/" + name; }

  // Part `no` (from 0) of a split model; its tensor is "t<tensor>".
  void write_part(const std::string& name, int no, int count, int total_tensors, int tensor) const {
    GgufWriter writer;
    if (no == 0) writer.set("general.architecture", "llama");
    writer.set("split.no", uint32_t(no));
    writer.set("split.count", uint32_t(count));
    writer.set("split.tensors.count", int32_t{total_tensors});
    std::vector<uint8_t> data = numbered(64);
    data[0] = static_cast<uint8_t>(tensor);
    writer.add_tensor("t" + std::to_string(tensor), DType::kF32, {16}, data);
    ASSERT_TRUE(writer.write(path(name)).ok());
  }

  std::string folder_;
};

TEST_F(GgufFolderTest, WritesAFileThatOpensMapped) {
  ASSERT_TRUE(sample_writer().write(path("m.gguf")).ok());
  EXPECT_EQ(*read_file(path("m.gguf")), [&] {
    const auto bytes = sample_writer().serialize();
    return std::string(bytes.begin(), bytes.end());
  }());
  auto file = GgufFile::open(path("m.gguf"));
  ASSERT_TRUE(file.ok()) << file.status().message();
  expect_sample(*file);
  EXPECT_EQ(file->path(), path("m.gguf"));
  const GgufFile moved = *std::move(file);
  for (const GgufTensor& tensor : moved.tensors()) moved.release(tensor, 0, SIZE_MAX);
  expect_sample(moved);
}

TEST_F(GgufFolderTest, MissingFileIsNotFound) {
  expect_refused(GgufFile::open(path("none.gguf")), Code::kNotFound, {path("none.gguf")});
  EXPECT_EQ(sample_writer().write(path("no/folder/m.gguf")).code(), Code::kNotFound);
}

TEST_F(GgufFolderTest, SplitFilesOpenAsOneModel) {
  write_part("m-00001-of-00003.gguf", 0, 3, 3, 0);
  write_part("m-00002-of-00003.gguf", 1, 3, 3, 1);
  write_part("m-00003-of-00003.gguf", 2, 3, 3, 2);
  auto file = GgufFile::open(path("m-00001-of-00003.gguf"));
  ASSERT_TRUE(file.ok()) << file.status().message();
  EXPECT_EQ(*file->require_string("general.architecture"), "llama");
  EXPECT_EQ(*file->require_uint("split.no"), 0u);
  ASSERT_EQ(file->tensors().size(), 3u);
  size_t total = 0;
  for (int i = 0; i < 3; ++i) {
    const GgufTensor* tensor = file->find_tensor("t" + std::to_string(i));
    ASSERT_NE(tensor, nullptr);
    EXPECT_EQ(tensor->file_index, i);
    EXPECT_EQ(tensor->data[0], i);
    file->release(*tensor, 0, SIZE_MAX);
    EXPECT_EQ(tensor->data[0], i);
    total += fs::file_size(path("m-0000" + std::to_string(i + 1) + "-of-00003.gguf"));
  }
  EXPECT_EQ(file->file_size(), total);
}

TEST_F(GgufFolderTest, SplitFilesThatDoNotBelongTogetherAreRefused) {
  const std::string first = path("m-00001-of-00002.gguf"), second = path("m-00002-of-00002.gguf");
  write_part("m-00001-of-00002.gguf", 0, 2, 2, 0);
  expect_refused(GgufFile::open(first), Code::kNotFound, {second, "part 2 of 2 is missing"});
  write_part("m-00002-of-00002.gguf", 1, 2, 2, 1);
  ASSERT_TRUE(GgufFile::open(first).ok());
  expect_refused(GgufFile::open(second), Code::kInvalidArgument, {second, "part 2 of 2", "-00001-of-00002.gguf"});
  write_part("m-00002-of-00002.gguf", 1, 2, 2, 0);
  expect_refused(GgufFile::open(first), Code::kCorrupt, {second, "tensor t0: appears twice"});
  write_part("m-00002-of-00002.gguf", 0, 2, 2, 1);
  expect_refused(GgufFile::open(first), Code::kCorrupt, {second, "part 2 of 2"});
  write_part("m-00002-of-00002.gguf", 1, 3, 2, 1);
  expect_refused(GgufFile::open(first), Code::kCorrupt, {second, "part 2 of 2"});
  write_part("m-00002-of-00002.gguf", 1, 2, 2, 1);
  write_part("m-00001-of-00002.gguf", 0, 2, 3, 0);
  expect_refused(GgufFile::open(first), Code::kCorrupt, {first, "split.tensors.count is 3, the parts have 2"});
  write_part("renamed.gguf", 0, 2, 2, 0);
  expect_refused(GgufFile::open(path("renamed.gguf")), Code::kInvalidArgument, {"must end in -00001-of-00002.gguf"});
  write_part("m-00001-of-00002.gguf", 5, 2, 2, 0);
  expect_refused(GgufFile::open(first), Code::kCorrupt, {first, "split.no must be an integer from 0 to 1"});
  write_part("m-00001-of-00002.gguf", 0, 1000000, 2, 0);
  expect_refused(GgufFile::open(first), Code::kCorrupt, {first, "split.count"});
}

TEST_F(GgufFolderTest, ASplitCountOfOneIsAWholeFile) {
  write_part("whole.gguf", 0, 1, 1, 0);
  EXPECT_TRUE(GgufFile::open(path("whole.gguf")).ok());
}

TEST_F(GgufFolderTest, AVocabularyOf262144StringsOpensFast) {
  std::vector<std::string> tokens;
  for (int i = 0; i < 262144; ++i) tokens.push_back("token" + std::to_string(i));
  GgufWriter writer;
  writer.set("tokenizer.ggml.tokens", tokens);
  writer.set("tokenizer.ggml.scores", std::vector<float>(262144, 0.5f));
  writer.set("tokenizer.ggml.token_type", std::vector<int32_t>(262144, 1));
  ASSERT_TRUE(writer.write(path("vocab.gguf")).ok());
  double best_ms = 1e9;
  for (int repeat = 0; repeat < 3; ++repeat) {
    const auto begin = std::chrono::steady_clock::now();
    auto file = GgufFile::open(path("vocab.gguf"));
    ASSERT_TRUE(file.ok()) << file.status().message();
    best_ms =
        std::min(best_ms, std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count());
    EXPECT_EQ(array_of<std::string_view>(*file, "tokenizer.ggml.tokens")[262143], "token262143");
  }
  // A release build takes about 2 ms. The bound leaves room for sanitizers and a busy machine, not for quadratic work.
  EXPECT_LT(best_ms, 150.0);
}

struct RealModel {
  const char* variable;
  const char* architecture;
  uint64_t vocabulary;
};

class GgufRealModelTest : public ::testing::TestWithParam<RealModel> {};

TEST_P(GgufRealModelTest, OpensWithItsVocabularyAndTensorsInside) {
  const char* model_path = std::getenv(GetParam().variable);
  if (model_path == nullptr) GTEST_SKIP() << GetParam().variable << " does not name a model file";
  const auto file = GgufFile::open(model_path);
  ASSERT_TRUE(file.ok()) << file.status().message();
  EXPECT_EQ(*file->require_string("general.architecture"), GetParam().architecture);
  EXPECT_EQ((*file->get_array("tokenizer.ggml.tokens"))->size(), GetParam().vocabulary);
  const GgufTensor* embedding = file->find_tensor("token_embd.weight");
  ASSERT_NE(embedding, nullptr);
  EXPECT_EQ(static_cast<uint64_t>(embedding->rows()), GetParam().vocabulary);
  size_t bytes = 0;
  for (const GgufTensor& t : file->tensors()) {
    EXPECT_EQ(t.data.size(), row_bytes(t.type, t.cols()) * static_cast<size_t>(t.rows())) << t.name;
    bytes += t.data.size();
  }
  EXPECT_LE(bytes, file->file_size());
}

INSTANTIATE_TEST_SUITE_P(All, GgufRealModelTest,
                         ::testing::Values(RealModel{"DECANT_TEST_SMOLLM2", "llama", 49152},
                                           RealModel{"DECANT_TEST_GEMMA3", "gemma3", 262144}),
                         [](const auto& model) { return std::string(model.param.architecture); });

}  // namespace
}  // namespace decant
