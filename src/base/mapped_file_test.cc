// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "base/mapped_file.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <vector>

namespace decant {
namespace {

namespace fs = std::filesystem;

class MappedFileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "decant_test_XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string path(const std::string& name) const { return folder_ + "/" + name; }
  std::string make(const std::string& name, const std::string& content) const {
    std::ofstream(path(name), std::ios::binary) << content;
    return path(name);
  }
  size_t files() const { return static_cast<size_t>(std::distance(fs::directory_iterator(folder_), {})); }
  static std::span<const uint8_t> as_bytes(std::string_view text) {
    return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
  }
  static std::string as_text(std::span<const uint8_t> bytes) { return {bytes.begin(), bytes.end()}; }

  std::string folder_;
};

TEST_F(MappedFileTest, ShowsTheBytesOfAFile) {
  const std::string file_path = make("a", "hello");
  auto file = MappedFile::open(file_path);
  ASSERT_TRUE(file.ok()) << file.status().message();
  EXPECT_EQ(as_text(file->bytes()), "hello");
  EXPECT_EQ(file->size(), 5u);
  EXPECT_EQ(file->path(), file_path);
}

TEST_F(MappedFileTest, AnEmptyFileIsAnEmptySpan) {
  auto file = MappedFile::open(make("empty", ""));
  ASSERT_TRUE(file.ok());
  EXPECT_TRUE(file->bytes().empty());
  file->release(0, 100);
}

TEST_F(MappedFileTest, AMissingFileIsNotFoundByName) {
  const auto file = MappedFile::open(path("nothing"));
  ASSERT_FALSE(file.ok());
  EXPECT_EQ(file.status().code(), Code::kNotFound);
  EXPECT_NE(file.status().message().find(path("nothing")), std::string::npos);
}

TEST_F(MappedFileTest, FoldersAndPipesAreRefusedWithoutWaiting) {
  EXPECT_EQ(MappedFile::open(folder_).status().code(), Code::kInvalidArgument);
  ASSERT_EQ(::mkfifo(path("pipe").c_str(), 0600), 0);
  EXPECT_EQ(MappedFile::open(path("pipe")).status().code(), Code::kInvalidArgument);
}

TEST_F(MappedFileTest, MovesKeepTheMapping) {
  auto opened = MappedFile::open(make("a", "abc"));
  ASSERT_TRUE(opened.ok());
  const uint8_t* data = opened->bytes().data();
  MappedFile first = *std::move(opened);
  MappedFile second(std::move(first));
  EXPECT_TRUE(first.bytes().empty());  // NOLINT: the moved-from state is documented by this test
  auto other = MappedFile::open(make("b", "other"));
  ASSERT_TRUE(other.ok());
  MappedFile third = *std::move(other);
  third = std::move(second);
  EXPECT_EQ(third.bytes().data(), data);
  EXPECT_EQ(as_text(third.bytes()), "abc");
}

TEST_F(MappedFileTest, ReleasedBytesAreReadAgainFromTheFile) {
  const size_t page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  std::string content(3 * page + 17, 'x');
  for (size_t i = 0; i < content.size(); ++i) content[i] = static_cast<char>('a' + i % 23);
  auto file = MappedFile::open(make("big", content));
  ASSERT_TRUE(file.ok());
  EXPECT_EQ(as_text(file->bytes()), content);
  for (size_t offset : {size_t{0}, size_t{1}, page, 3 * page, content.size(), content.size() + 5 * page}) {
    for (size_t size : {size_t{0}, size_t{1}, page, 2 * page, content.size(), SIZE_MAX}) file->release(offset, size);
  }
  EXPECT_EQ(as_text(file->bytes()), content);
}

TEST_F(MappedFileTest, ReleaseBeyondTheEndLeavesNeighbouringMemoryAlone) {
  const size_t page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const std::string file_path = make("page", std::string(page, 'p'));
  // Addresses are given out downwards, so the file usually comes right before this anonymous page. Dropping that page
  // would lose its content. A few tries fill the gaps of one page that other mappings left.
  std::vector<MappedFile> fillers;
  void* memory = nullptr;
  const uint8_t* behind = nullptr;
  for (int attempt = 0; attempt < 100 && (memory == nullptr || memory != behind); ++attempt) {
    if (memory != nullptr) ::munmap(memory, page);
    memory = ::mmap(nullptr, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(memory, MAP_FAILED);
    auto file = MappedFile::open(file_path);
    ASSERT_TRUE(file.ok());
    behind = file->bytes().data() + page;
    fillers.push_back(*std::move(file));
  }
  if (memory != behind) GTEST_SKIP() << "no two mappings came side by side";
  std::fill_n(static_cast<char*>(memory), page, 'n');
  fillers.back().release(0, 2 * page);
  EXPECT_EQ(static_cast<char*>(memory)[0], 'n');
  ::munmap(memory, page);
}

TEST_F(MappedFileTest, AnAtomicFileAppearsOnCommitOnly) {
  {
    auto file = AtomicFile::create(path("out"));
    ASSERT_TRUE(file.ok()) << file.status().message();
    ASSERT_TRUE(file->write(as_bytes("one ")).ok());
    ASSERT_TRUE(file->write(as_bytes("two")).ok());
    EXPECT_FALSE(fs::exists(path("out")));
    ASSERT_TRUE(file->commit().ok());
  }
  EXPECT_EQ(read_file(path("out")).value(), "one two");
  EXPECT_EQ(files(), 1u);
}

TEST_F(MappedFileTest, AnAtomicFileWithoutCommitLeavesNothingAndKeepsTheOld) {
  make("out", "old");
  {
    auto file = AtomicFile::create(path("out"));
    ASSERT_TRUE(file.ok());
    ASSERT_TRUE(file->write(as_bytes("new")).ok());
    const AtomicFile moved(*std::move(file));
  }
  EXPECT_EQ(read_file(path("out")).value(), "old");
  EXPECT_EQ(files(), 1u);
}

TEST_F(MappedFileTest, AnAtomicFileReplacesAnOldOneWhole) {
  make("out", "a much longer old content");
  auto file = AtomicFile::create(path("out"));
  ASSERT_TRUE(file.ok());
  ASSERT_TRUE(file->write(as_bytes("new")).ok());
  ASSERT_TRUE(file->commit().ok());
  EXPECT_EQ(read_file(path("out")).value(), "new");
}

TEST_F(MappedFileTest, FailuresToCreateAndToRenameNameThePathAndLeaveNothing) {
  const auto missing = AtomicFile::create(path("no/such/folder/out"));
  EXPECT_EQ(missing.status().code(), Code::kNotFound);
  EXPECT_NE(missing.status().message().find("no/such/folder/out"), std::string::npos);
  fs::create_directory(path("taken"));
  {
    auto file = AtomicFile::create(path("taken"));
    ASSERT_TRUE(file.ok());
    EXPECT_EQ(file->commit().code(), Code::kIo);
  }
  EXPECT_EQ(files(), 1u);
}

TEST_F(MappedFileTest, AWriteOverTheFileSizeLimitIsExhaustedAndLeavesNothing) {
  // A limit on the size of files stands for the disk.
  const std::string content(1 << 20, 'x');
  struct rlimit old_limit {};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &old_limit), 0);
  const auto old_handler = ::signal(SIGXFSZ, SIG_IGN);
  const struct rlimit small = {4096, old_limit.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  Status status;
  {
    auto file = AtomicFile::create(path("out"));
    ASSERT_TRUE(file.ok());
    status = file->write(as_bytes(content));
  }
  ::setrlimit(RLIMIT_FSIZE, &old_limit);
  ::signal(SIGXFSZ, old_handler);
  EXPECT_EQ(status.code(), Code::kExhausted) << status.message();
  EXPECT_EQ(files(), 0u);
}

TEST_F(MappedFileTest, ReadFileGivesAllBytesOrTheReason) {
  std::string content(200000, '\0');
  for (size_t i = 0; i < content.size(); ++i) content[i] = static_cast<char>(i * 7);
  EXPECT_EQ(read_file(make("a", content)).value(), content);
  EXPECT_EQ(read_file(make("b", "")).value(), "");
  EXPECT_EQ(read_file(path("none")).status().code(), Code::kNotFound);
  EXPECT_EQ(read_file(folder_).status().code(), Code::kIo);
}

}  // namespace
}  // namespace decant
