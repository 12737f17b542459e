#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "monitor/client/client.h"
#include "runtime/cgroup/cgroup.h"
#include "sys/process.h"

namespace fluyt::monitor {

/// Waits for a process that need not be our child. False at the deadline.
Result<bool> wait_gone(const sys::Process& process, Deadline deadline);

/// Whether the process that is on record as the monitor does not run any more. False where none is
/// on record.
Result<bool> lacks_monitor(const std::string& state_dir);

/// A container's record in the state folder; nothing when there is none.
Result<std::optional<ContainerInfo>> find_record(const std::string& state_dir,
                                                 const std::string& id);
/// Where the containers of a sandbox run, as far as the records say.
std::vector<runtime::CgroupRecord> cgroups_of(const std::string& state_dir);

/// What the monitor does in these verbs, done without it, by its records.
Result<> signal_by_record(const std::string& state_dir, const std::string& id, int signal, bool all,
                          Deadline deadline);
Result<> remove_by_record(const std::string& state_dir, const std::string& id, Deadline deadline);

}  // namespace fluyt::monitor
