#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "guest/base/quota.h"
#include "guest/vfs/inode.h"

namespace fluyt::guest {

/// tmpfs(5).
struct MemfsRequest {
  uint32_t root_mode = 01777;
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint64_t size = Quota::kUnlimited;    // bytes
  uint64_t inodes = Quota::kUnlimited;  // files, directories, links
  std::shared_ptr<Quota> within;        // what all of the sandbox's memory counts against
  std::shared_ptr<Quota> descriptors;   // of ours: one a regular file
  /// What a tmpfs has that is given no limits: half of the memory.
  void limit_to(uint64_t half) {
    if (half == 0) return;
    size = half;
    inodes = half / 4096;
  }
};
/// The options of mount(2) that a tmpfs has: size, nr_blocks, nr_inodes, mode, uid, gid. `half` is
/// what "size=50%" is; EINVAL for what cannot be read. Those that it does not know are passed over.
Errno read_memfs_options(std::string_view text, uint64_t half, MemfsRequest& request);

/// tmpfs: a file system in memory. Files are memory of the host's (memfd), so that they can be
/// mapped.
InodePtr make_memfs(const MemfsRequest& request);
inline InodePtr make_memfs(uint32_t root_mode) { return make_memfs(MemfsRequest{root_mode}); }
/// Mounted again with other limits; EINVAL when it has more than those already, or is no memfs.
Errno limit_memfs(Inode& root, std::string_view options, uint64_t half);

}  // namespace fluyt::guest
