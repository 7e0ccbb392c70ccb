// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/device.h"

#include <cpuid.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <utility>

#include "base/thread_pool.h"
#include "kernels/cpu/cpu_queue.h"
#include "kernels/table.h"

namespace decant {

namespace target_scalar {
extern const KernelTable kTable;
}
namespace target_avx2 {
extern const KernelTable kTable;
}
namespace target_avx512 {
extern const KernelTable kTable;
}
namespace target_amx {
extern const KernelTable kTable;
}

DeviceBuffer::DeviceBuffer(DeviceBuffer&& other) noexcept
    : device_(std::exchange(other.device_, nullptr)),
      address_(std::exchange(other.address_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

DeviceBuffer& DeviceBuffer::operator=(DeviceBuffer&& other) noexcept {
  std::swap(device_, other.device_);
  std::swap(address_, other.address_);
  std::swap(size_, other.size_);
  return *this;
}

DeviceBuffer::~DeviceBuffer() {
  if (address_ != nullptr) device_->free_raw(address_, size_);
}

Result<DeviceBuffer> Device::alloc(size_t bytes) {
  DeviceBuffer buffer;
  buffer.device_ = this;
  buffer.size_ = bytes;
  buffer.address_ = alloc_raw(bytes == 0 ? 1 : bytes);
  if (buffer.address_ == nullptr) {
    return Status::exhausted("{}: no memory for {:.1f} MiB; lower the context size (-c) or take a smaller model",
                             kind(), static_cast<double>(bytes) / (1 << 20));
  }
  return buffer;
}

namespace {

class CpuDevice final : public Device {
 public:
  CpuDevice(const KernelTable* table, int threads) : Device(table), queue_(threads) {}

  std::string_view kind() const override { return "cpu"; }
  int threads() const override { return const_cast<CpuQueue&>(queue_).pool().threads(); }
  Queue& queue() override { return queue_; }
  bool uses_host_memory() const override { return true; }
  void copy_in(DevPtr<void> dst, const void* src, size_t bytes) override { std::memcpy(dst.raw(), src, bytes); }
  void copy_out(void* dst, DevPtr<const void> src, size_t bytes) override { std::memcpy(dst, src.raw(), bytes); }
  void copy(DevPtr<void> dst, DevPtr<const void> src, size_t bytes) override {
    std::memcpy(dst.raw(), src.raw(), bytes);
  }

 protected:
  // Fresh pages of the system are zero and take memory on first touch only.
  void* alloc_raw(size_t bytes) override {
    const size_t physical =
        static_cast<size_t>(::sysconf(_SC_PHYS_PAGES)) * static_cast<size_t>(::sysconf(_SC_PAGESIZE));
    if (bytes > physical) return nullptr;
    void* address = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (address == MAP_FAILED) return nullptr;
    // Large pages spare page faults at load and TLB misses in every step.
    if (bytes >= (size_t{2} << 20)) ::madvise(address, bytes, MADV_HUGEPAGE);
    return address;
  }
  void free_raw(void* address, size_t bytes) override { ::munmap(address, bytes == 0 ? 1 : bytes); }

 private:
  CpuQueue queue_;
};

// Whether there are AMX-INT8 tiles that this process may use: Linux gives them on request, to all its threads.
bool has_amx() {
  static const bool has = [] {
    uint32_t a = 0, b = 0, c = 0, d = 0;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return false;
    constexpr uint32_t kTile = 1u << 24, kInt8 = 1u << 25;
    if ((d & kTile) == 0 || (d & kInt8) == 0) return false;
    constexpr int kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    return ::syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  }();
  return has;
}

// Conversion of half floats; clang 14 has no name for it in __builtin_cpu_supports.
bool has_f16c() {
  uint32_t a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & (1u << 29)) != 0;
}

}  // namespace

std::vector<const KernelTable*> cpu_tables() {
  std::vector<const KernelTable*> tables = {&target_scalar::kTable};
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c()) {
    tables.push_back(&target_avx2::kTable);
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni")) {
      tables.push_back(&target_avx512::kTable);
      if (has_amx()) tables.push_back(&target_amx::kTable);
    }
  }
  return tables;
}

Result<std::unique_ptr<Device>> make_cpu_device(int threads, std::string_view table) {
  if (threads < 0 || threads > 256)
    return Status::invalid_argument("threads {}: expected 1 to 256, or 0 for all", threads);
  if (threads == 0) threads = available_cpus();
  if (table.empty()) {
    const char* forced = std::getenv("DECANT_KERNELS");
    if (forced != nullptr) table = forced;
  }
  const std::vector<const KernelTable*> tables = cpu_tables();
  if (table.empty()) return std::unique_ptr<Device>(std::make_unique<CpuDevice>(tables.back(), threads));
  std::string known;
  for (const KernelTable* t : tables) {
    if (t->name == table) return std::unique_ptr<Device>(std::make_unique<CpuDevice>(t, threads));
    known += (known.empty() ? "" : ", ") + std::string(t->name);
  }
  return Status::unsupported("kernel table \"{}\": this processor runs {}", table, known);
}

}  // namespace decant
