// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// The seam between the engine and a device. Everything above this folder sees device memory only as DevPtr, which
// cannot be dereferenced, and computes only through the ops of the device's KernelTable.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/dtype.h"
#include "base/status.h"

namespace decant {

class Queue;
struct KernelTable;

// A typed address in a device's memory. Arithmetic is in elements. Only kernels call raw(): elsewhere the memory may
// not be readable by the CPU.
template <typename T>
class DevPtr {
 public:
  DevPtr() = default;
  explicit DevPtr(T* address) : address_(address) {}
  // DevPtr<T> converts to DevPtr<const T>.
  template <typename U>
  requires(std::is_const_v<T>&& std::is_same_v<std::remove_const_t<T>, U>) DevPtr(DevPtr<U> other)
      : address_(other.raw()) {}  // NOLINT: implicit on purpose

  T* raw() const { return address_; }
  explicit operator bool() const { return address_ != nullptr; }
  DevPtr operator+(ptrdiff_t n) const { return DevPtr(address_ + n); }
  template <typename U>
  DevPtr<U> cast() const {
    return DevPtr<U>(reinterpret_cast<U*>(address_));
  }

 private:
  T* address_ = nullptr;
};

class Device;

// Device memory with an owner; zero-filled on allocation, freed on destruction.
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  DeviceBuffer(DeviceBuffer&& other) noexcept;
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept;
  ~DeviceBuffer();

  size_t size() const { return size_; }  // bytes
  template <typename T>
  DevPtr<T> ptr() const {
    return DevPtr<T>(static_cast<T*>(address_));
  }

 private:
  friend class Device;
  Device* device_ = nullptr;
  void* address_ = nullptr;
  size_t size_ = 0;
};

// One device with one queue of work: ops and copies happen in the order of the calls. Not thread-safe: one engine, one
// Device.
class Device {
 public:
  virtual ~Device() = default;

  // "cpu", "cuda"; and the kernel table's name through table().name.
  virtual std::string_view kind() const = 0;
  const KernelTable& table() const { return *table_; }
  virtual int threads() const { return 1; }
  // What the ops of table() take as their first argument.
  virtual Queue& queue() = 0;

  // Whether kv_write and attention know keys or values of this type; the engine refuses others.
  virtual bool supports_cache_type(DType) const { return true; }
  // Whether ops may also write to memory of the host, so that results need no copy.
  virtual bool uses_host_memory() const { return false; }
  // Waits for the queued work; kInternal if the device failed (a lost GPU). A CPU cannot.
  virtual Status status() { return {}; }

  // kExhausted when there is not that much memory. Aligned to 64 bytes, zero-filled (lazily where the system can).
  Result<DeviceBuffer> alloc(size_t bytes);
  // Host to device; the source may be reused on return. The one call that several threads may make at once (loading),
  // on disjoint destinations.
  virtual void copy_in(DevPtr<void> dst, const void* src, size_t bytes) = 0;
  // Device to host; waits for the work queued before.
  virtual void copy_out(void* dst, DevPtr<const void> src, size_t bytes) = 0;
  // Device to device; the ranges do not overlap.
  virtual void copy(DevPtr<void> dst, DevPtr<const void> src, size_t bytes) = 0;

  template <typename T>
  void copy_in(DevPtr<T> dst, std::span<const T> src) {
    if (!src.empty()) copy_in(DevPtr<void>(dst.raw()), src.data(), src.size_bytes());
  }
  template <typename T>
  void copy_out(std::span<T> dst, DevPtr<const T> src) {
    if (!dst.empty()) copy_out(dst.data(), DevPtr<const void>(src.raw()), dst.size_bytes());
  }

 protected:
  friend class DeviceBuffer;
  explicit Device(const KernelTable* table) : table_(table) {}
  virtual void* alloc_raw(size_t bytes) = 0;  // nullptr when there is no room
  virtual void free_raw(void* address, size_t bytes) = 0;
  const KernelTable* table_;
};

// The CPU device: ops run on `threads` threads (0: all that this process may use) with the named kernel table; an empty
// name takes $DECANT_KERNELS if set, else the fastest that this processor runs. kUnsupported names the tables there
// are.
Result<std::unique_ptr<Device>> make_cpu_device(int threads, std::string_view table = {});

// The tables that this processor can run, slowest ("scalar") first.
std::vector<const KernelTable*> cpu_tables();

}  // namespace decant
