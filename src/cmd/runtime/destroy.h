#pragma once

#include "base/result.h"
#include "cmd/runtime/commands.h"
#include "cmd/runtime/store.h"

namespace fluyt::commands {

/// Ends what still runs of a container and undoes what creating it did: cgroup, root mount, resctrl
/// groups, state folder. Then its poststop hooks run; one that fails is a warning.
Result<> destroy(Invocation& call, const Folder& folder, const Record& record);
/// The same for one whose first process has ended and been reaped, by who still has its spec.
Result<> destroy_ended(Invocation& call, const Folder& folder, const Record& record,
                       const oci::Spec& spec);

}  // namespace fluyt::commands
