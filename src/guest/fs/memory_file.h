#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "guest/fs/charged_memory.h"
#include "guest/vfs/inode.h"

namespace fluyt::guest {

/// F_SEAL_* of fcntl(2).
inline constexpr uint32_t kSealSeal = 1, kSealShrink = 2, kSealGrow = 4, kSealWrite = 8,
                          kSealFutureWrite = 16, kSealExec = 32;

struct MemoryFileRequest {
  std::string name;
  uint32_t mode = 0777;
  uint32_t seals = kSealSeal;
  uint32_t uid = 0;
  uint32_t gid = 0;
  MemoryCharge charge;
};
/// memfd_create(2): a file without a name in any tree, that can be sealed.
ErrnoOr<FilePtr> make_memory_file(const MemoryFileRequest& request);

}  // namespace fluyt::guest
