#pragma once

#include "guest/task/task.h"
#include "guest/vfs/inode.h"

namespace fluyt::guest {

/// What of the host is shown as it is; read before confinement.
struct HostFacts {
  std::string cpuinfo;
};

/// proc(5). `self` is whoever asks: Task::current().
InodePtr make_procfs(Kernel& kernel, HostFacts facts);

}  // namespace fluyt::guest
