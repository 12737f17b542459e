#pragma once

#include <optional>
#include <string>

#include "base/result.h"
#include "oci/runtime_spec.h"
#include "runtime/cgroup/cgroup.h"
#include "sys/fd.h"

/// Which containers belong together: annotations that CRI's implementations write.
namespace fluyt::rung {

/// What annotations say of a pod.
struct PodRole {
  bool is_sandbox = false;
  std::string sandbox_id;  // of a container in one; empty: it belongs to none
  bool operator==(const PodRole&) const = default;
};
PodRole pod_role(const oci::Spec& spec);

/// A sandbox that runs and that a container can be a member of.
struct Sandbox {
  sys::Fd control;  // a connection to its control socket
  pid_t pid = 0;    // of its guest kernel
  runtime::CgroupRecord cgroup;
};
/// Nothing where it is not ours, does not run, or where the container is to have another network or
/// user namespace than the sandbox's guest kernel lives in: then it has a guest kernel of its own.
/// `root` is the folder of all containers.
Result<std::optional<Sandbox>> find_sandbox(const oci::Spec& spec, const std::string& root);

/// A child of `parent` by the number that the parent's PID namespace has for it.
Result<pid_t> find_child(pid_t parent, pid_t number);

}  // namespace fluyt::rung
