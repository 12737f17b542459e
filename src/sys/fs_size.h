#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "base/result.h"

namespace fluyt::sys {

struct FsSize {
  uint64_t bytes = 0;
  uint64_t inodes = 0;  // 0 where the file system makes them as it needs them
  uint64_t free_inodes = 0;
  dev_t device = 0;
};
/// statvfs(2) and stat(2) of a path of ours: the file system that it lies on.
Result<FsSize> fs_size(const std::string& path);

}  // namespace fluyt::sys
