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

/// The host's memory behind a file of a guest's, with what it takes charged to a quota: the pages
/// that it has, until it is mapped. From then on programs make pages without a call, and it is
/// charged as if it had them all. Any thread may use it.
class ChargedMemory {
 public:
  /// `name` is what the host's /proc shows.
  static ErrnoOr<std::unique_ptr<ChargedMemory>> create(const char* name,
                                                        std::shared_ptr<Quota> quota);
  ChargedMemory(sys::Fd memory, std::shared_ptr<Quota> quota)
      : memory_(std::move(memory)), charge_(std::move(quota)) {}

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
  const sys::Fd memory_;
  std::mutex mutex_;
  Charge charge_;
  bool is_mapped_ = false;
  uint64_t solid_ = 0;  // there is no hole before this
};

/// What MAP_SHARED | MAP_ANONYMOUS maps.
ErrnoOr<FilePtr> make_shared_memory(uint64_t length, std::shared_ptr<Quota> quota);

}  // namespace fluyt::guest
