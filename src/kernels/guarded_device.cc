// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/guarded_device.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <map>
#include <mutex>

#include "kernels/table.h"

namespace decant {
namespace {

// The real queue and table, and all allocations.
class GuardedQueue final : public Queue {
 public:
  explicit GuardedQueue(std::unique_ptr<Device> inner) : inner_(std::move(inner)) {}

  Device& inner() { return *inner_; }

  void* allocate(size_t bytes) {
    const std::lock_guard lock(mutex_);
    const size_t page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
    const size_t size = (bytes + page - 1) / page * page;
    void* address = ::mmap(nullptr, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (address == MAP_FAILED) return nullptr;
    ranges_[address] = size;
    return address;
  }
  void release(void* address) {
    const std::lock_guard lock(mutex_);
    ::munmap(address, ranges_[address]);
    ranges_.erase(address);
  }

  // Runs `work` with all memory accessible. Serialized: loading copies from several threads.
  template <typename Work>
  void unlocked(const Work& work) {
    const std::lock_guard lock(mutex_);
    protect(PROT_READ | PROT_WRITE);
    work();
    protect(PROT_NONE);
  }

 private:
  void protect(int mode) {
    for (const auto& [address, size] : ranges_) DECANT_CHECK(::mprotect(address, size, mode) == 0);
  }

  std::unique_ptr<Device> inner_;
  std::mutex mutex_;
  std::map<void*, size_t> ranges_;
};

// An op of the table: unlock, run the real one, lock.
template <auto kMember>
struct Guarded;

template <typename... Args, void (*KernelTable::*kMember)(Queue&, Args...)>
struct Guarded<kMember> {
  static void run(Queue& queue, Args... args) {
    auto& guarded = static_cast<GuardedQueue&>(queue);
    guarded.unlocked([&] { (guarded.inner().table().*kMember)(guarded.inner().queue(), args...); });
  }
};

constexpr KernelTable kGuardedTable = {
    .name = "guarded",
    .requirements = "tests",
    .embed = Guarded<&KernelTable::embed>::run,
    .rms_norm = Guarded<&KernelTable::rms_norm>::run,
    .layer_norm = Guarded<&KernelTable::layer_norm>::run,
    .quantize = Guarded<&KernelTable::quantize>::run,
    .matmul = Guarded<&KernelTable::matmul>::run,
    .matmul_gated = Guarded<&KernelTable::matmul_gated>::run,
    .rope = Guarded<&KernelTable::rope>::run,
    .kv_write = Guarded<&KernelTable::kv_write>::run,
    .kv_move = Guarded<&KernelTable::kv_move>::run,
    .attention = Guarded<&KernelTable::attention>::run,
    .glu = Guarded<&KernelTable::glu>::run,
    .activate = Guarded<&KernelTable::activate>::run,
    .add = Guarded<&KernelTable::add>::run,
    .soft_cap = Guarded<&KernelTable::soft_cap>::run,
    .gather_rows = Guarded<&KernelTable::gather_rows>::run,
    .add_rows = Guarded<&KernelTable::add_rows>::run,
};

class GuardedDevice final : public Device {
 public:
  explicit GuardedDevice(std::unique_ptr<Device> inner) : Device(&kGuardedTable), queue_(std::move(inner)) {}

  std::string_view kind() const override { return "guarded"; }
  int threads() const override { return const_cast<GuardedQueue&>(queue_).inner().threads(); }
  Queue& queue() override { return queue_; }
  void copy_in(DevPtr<void> dst, const void* src, size_t bytes) override {
    queue_.unlocked([&] { std::memcpy(dst.raw(), src, bytes); });
  }
  void copy_out(void* dst, DevPtr<const void> src, size_t bytes) override {
    queue_.unlocked([&] { std::memcpy(dst, src.raw(), bytes); });
  }
  void copy(DevPtr<void> dst, DevPtr<const void> src, size_t bytes) override {
    queue_.unlocked([&] { std::memcpy(dst.raw(), src.raw(), bytes); });
  }

 protected:
  void* alloc_raw(size_t bytes) override { return queue_.allocate(bytes); }
  void free_raw(void* address, size_t) override { queue_.release(address); }

 private:
  GuardedQueue queue_;
};

}  // namespace

Result<std::unique_ptr<Device>> make_guarded_device(int threads, std::string_view table) {
  DECANT_TRY(std::unique_ptr<Device> inner, make_cpu_device(threads, table));
  return std::unique_ptr<Device>(std::make_unique<GuardedDevice>(std::move(inner)));
}

}  // namespace decant
