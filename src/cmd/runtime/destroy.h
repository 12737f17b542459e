#pragma once

#include "base/result.h"
#include "cmd/runtime/commands.h"
#include "cmd/runtime/store.h"

namespace fluyt::commands {

/// Whether all that is in the container's cgroup is known to be its own, also once its first
/// process has ended.
bool holds_its_own(const Record& record);
/// SIGKILL to the first process, if that is still the container's, and waits for its end. Takes no
/// lock: it is known by its start time.
Result<> end_init(const Folder& folder, const Record& record);
/// Ends what still runs of a container and undoes what creating it did: cgroup, root mount, resctrl
/// groups, state folder. Then, without the folder's lock, its poststop hooks run; one that fails is
/// a warning. Its processes are ended through its cgroup only where they outlive the first and the
/// cgroup is known to be its own; one with others in it stays, with a warning. The folder is
/// locked by the caller.
Result<> destroy(Invocation& call, Folder& folder, const Record& record);
/// The same for one whose first process has ended and been reaped, by who still has its spec.
/// Locks the folder; nothing is done where somebody has deleted the container meanwhile.
Result<> destroy_ended(Invocation& call, Folder& folder, const Record& record,
                       const oci::Spec& spec);

}  // namespace fluyt::commands
