#pragma once

#include <cstdint>
#include <string_view>

#include "sys/fd.h"

/// How much memory there is for a sandbox.
namespace fluyt::guest::host {

/// In bytes; the words are those of proc_meminfo(5).
struct MemoryFigures {
  uint64_t total = 0;
  uint64_t free = 0;
  uint64_t available = 0;
  uint64_t buffers = 0;
  uint64_t cached = 0;
  uint64_t active = 0;
  uint64_t inactive = 0;
  uint64_t shared = 0;  // Shmem
  uint64_t reclaimable = 0;
  uint64_t swap_total = 0;
  uint64_t swap_free = 0;
  bool operator==(const MemoryFigures&) const = default;
};

/// Of the text of /proc/meminfo. What is not in it is 0.
MemoryFigures parse_meminfo(std::string_view text);
/// The host's, seen from a cgroup with a limit of which `used` bytes are used. What the host's
/// other programs have in its caches is not the cgroup's to see: those are 0.
MemoryFigures within(const MemoryFigures& host, uint64_t limit, uint64_t used);

/// The host's memory, within the limit of the cgroup that we live in or of one above it: a program
/// that sizes its heap by what it is told must stay below what would end it. It reads descriptors
/// that were opened before confinement; a limit that is changed later is seen.
class MemoryGauge {
 public:
  MemoryGauge() = default;
  /// Where no cgroup can be seen there is `limit_bytes`, which it was given; 0: none.
  static MemoryGauge open(sys::FdRef procfs, uint64_t limit_bytes);
  /// One that was opened in another process and came here. `host` is anybody's.
  static MemoryGauge adopt(sys::Fd host, sys::Fd limit, sys::Fd used, uint64_t limit_bytes);
  sys::FdRef host() const { return host_; }
  sys::FdRef limit() const { return limit_; }  // invalid: no cgroup can be seen
  sys::FdRef used() const { return used_; }
  /// All 0 when nothing can be read.
  MemoryFigures read() const;
  /// Whether that is less than the host's.
  bool is_limited() const { return limit_.valid() || given_limit_ != 0; }
  /// The same at this moment: a cgroup may have no limit yet.
  bool limits() const;

 private:
  sys::Fd host_;   // meminfo
  sys::Fd limit_;  // of the cgroup; invalid: none
  sys::Fd used_;
  uint64_t given_limit_ = 0;
};

}  // namespace fluyt::guest::host
