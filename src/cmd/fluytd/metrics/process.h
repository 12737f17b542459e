#pragma once

#include <cstdint>

#include "base/result.h"

namespace fluyt::daemon {

/// This process, as the kernel has it now.
struct ProcessUsage {
  double cpu_seconds = 0;
  double started_at = 0;  // seconds since 1970
  uint64_t resident_bytes = 0;
  uint64_t virtual_bytes = 0;
  uint64_t threads = 0;
  uint64_t open_fds = 0;
  uint64_t max_fds = 0;
};
Result<ProcessUsage> own_usage();

}  // namespace fluyt::daemon
