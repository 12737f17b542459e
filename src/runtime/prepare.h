#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "base/result.h"
#include "runtime/cgroup/cgroup.h"
#include "runtime/channel.h"
#include "runtime/plan.h"
#include "sys/fd.h"

namespace fluyt::runtime {

/// What a container takes from the host, as descriptors: opened in the caller, in the host's mount
/// namespace, before anything of the container exists. The first process resolves no path of the
/// host, but for those of an overlay root (Plan::makes_root_inside).
struct HostSide {
  sys::Fd root;                 // a detached mount; invalid where made inside
  std::vector<sys::Fd> mounts;  // by place in the plan's list: detached; invalid where made inside
  /// By place likewise: st_mode of what is bound, 0 where it is not known yet. Asked for here: the
  /// first process may not even look at a file system whose owner shuts others out (FUSE).
  std::vector<mode_t> modes;
  std::vector<std::string> links;     // by place likewise: a link to make in place of a mount
  std::vector<sys::Fd> joins;         // namespaces, in the plan's order
  std::vector<sys::Fd> device_nodes;  // in a user namespace: detached binds, in the plan's order
  sys::Fd null_mount;                 // a detached bind of /dev/null, verified: masks files
  sys::Fd null;                       // /dev/null, opened
  std::vector<sys::Fd> tasks;         // an exec: cgroup::Ways, for who joins
  NamedFds cgroups;  // name below the mount ("" on v2), detached; they come with kAwaitMaker
};

Result<HostSide> prepare(const Plan& plan);
/// The container's root, a detached mount.
Result<sys::Fd> open_root(const Plan& plan);
/// What the mount's options name as its propagation; untouched where they name none. Once it is
/// attached: an attached mount takes after the one that it lies on.
Result<> set_named_propagation(sys::FdRef mount, const MountOptions& options);
/// A bind whose source lies in the container's own root, detached. Made by the first process when
/// what comes before it is mounted; links lead where they do in the container.
Result<sys::Fd> bind_in_root(const Plan& plan, const MountPlan& mount, sys::FdRef root);
/// The same, made by the maker for the first process `init`, whose rights in a user namespace are
/// too few to map ids: of `source`, in its mount namespace, for the plan's mount at `place`.
Result<sys::Fd> bind_for(const Plan& plan, const std::vector<sys::Fd>& joins, size_t place,
                         pid_t init, sys::FdRef source);
/// /dev/null, verified to be character device 1:3 (CVE-2025-31133).
Result<sys::Fd> open_null();
/// Binds of the container's cgroup directories, once they exist, as the plan's cgroup mount wants
/// them: one without a name is all of it. None for a plan without one.
Result<NamedFds> prepare_cgroups(const Plan& plan, const cgroup::Host& host,
                                 const CgroupRecord& record);
/// Those of v1 as all of it, where the kernel can: so much less for the first process to do.
Result<NamedFds> join_cgroups(const Plan& plan, NamedFds cgroups);
/// The tmpfs for hierarchies of v1, not read-only yet; a hierarchy in it; and its last options.
Result<sys::Fd> make_cgroup_top(const MountOptions& options);
Result<> place_cgroup(sys::FdRef top, const std::string& name, sys::FdRef hierarchy);
Result<> finish_cgroup_top(sys::FdRef top, const MountOptions& options);

}  // namespace fluyt::runtime
