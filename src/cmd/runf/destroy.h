#pragma once

#include "base/result.h"
#include "cmd/runf/commands.h"
#include "cmd/runf/store.h"

namespace fluyt::runf {

/// Ends what still runs of a container and undoes what creating it did: cgroup, root mount, resctrl
/// groups, state folder. Then its poststop hooks run; one that fails is a warning.
Result<> destroy(Invocation& call, const Folder& folder, const Record& record);

}  // namespace fluyt::runf
