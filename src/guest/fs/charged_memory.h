#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>

#include "guest/abi/errno.h"
#include "guest/abi/file.h"
#include "guest/base/quota.h"
#include "guest/vfs/file.h"
#include "sys/fd.h"

namespace fluyt::guest {

/// What memory of the host's is charged to; null: there is as much as is wanted.
struct MemoryCharge {
  std::shared_ptr<Quota> bytes;
  std::shared_ptr<Quota> descriptors;
};

/// The host's memory behind a file of a guest's, with what it takes charged to a quota: the pages
/// that it has, until it is mapped. From then on programs make pages without a call, and it is
/// charged as if it had them all. Any thread may use it.
class ChargedMemory {
 public:
  /// `name` is what the host's /proc shows. ENFILE: there is no descriptor for it.
  static ErrnoOr<std::unique_ptr<ChargedMemory>> create(const char* name, const MemoryCharge& to);
  explicit ChargedMemory(const MemoryCharge& to) : descriptor_(to.descriptors), charge_(to.bytes) {}

  ErrnoOr<Stat> stat() const;
  ErrnoOr<size_t> read(std::span<std::byte> to, int64_t offset) const;
  /// As much as there is room for; ENOSPC when that is nothing.
  ErrnoOr<size_t> write(std::span<const std::byte> from, int64_t offset);
  ErrnoOr<int64_t> seek(int64_t offset, int whence) const;
  Errno truncate(int64_t size);
  Errno allocate(int mode, int64_t offset, int64_t length);
  /// It is about to be mapped. ENOMEM: there is not room for all of it.
  ErrnoOr<int> map();

 private:
  Errno recount();
  Charge descriptor_;
  sys::Fd memory_;  // set once
  std::mutex mutex_;
  Charge charge_;
  bool is_mapped_ = false;
  uint64_t solid_ = 0;  // there is no hole before this
};

/// What MAP_SHARED | MAP_ANONYMOUS maps.
ErrnoOr<FilePtr> make_shared_memory(uint64_t length, const MemoryCharge& to);

}  // namespace fluyt::guest
