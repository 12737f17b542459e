#pragma once

#include <memory>

#include "guest/task/task.h"
#include "guest/vfs/inode.h"

namespace fluyt::guest {

/// cgroups(7), version 2: the one cgroup that a container's programs see, with its limits and what
/// it uses, so that who sizes heaps and pools by them finds them. `pids` is where its processes
/// have the numbers that are shown. Nothing can be written. The kernel outlives it.
InodePtr make_cgroupfs(Kernel& kernel, const std::weak_ptr<const Container>& container,
                       const PidSpacePtr& pids);

}  // namespace fluyt::guest
