#pragma once

#include <vector>

#include "base/result.h"
#include "oci/runtime_spec.h"
#include "spec/container_spec.h"

/// The mounts of a container: for container_spec.cc alone.
namespace fluyt::spec::internal {

struct MountPlan {
  std::vector<oci::Mount> mounts;  // parents before children
  std::string rootfs_propagation;  // empty: the runtime's default
};

/// The usual mounts, the sandbox's files and those asked for. One that is asked for takes the place
/// of a usual one at the same path.
Result<MountPlan> plan_mounts(const Container& container, const Sandbox& sandbox);

}  // namespace fluyt::spec::internal
